//! Three parsers read what we write alike: that of serde, that of Python (YAML 1.1) and that of kubectl (Go). Peers choose the hostile words.

#![allow(clippy::disallowed_methods, reason = "the other parsers are other processes, and they read files")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use isthmus::model::lock::Stage;
use isthmus::model::mesh::{MeshConfigTarget, Reconciler};
use isthmus::types::address::Gateway;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::world::{RenderWorld, files, kubeconfig};

/// Worlds per run.
const CASES: usize = 120;

/// Words that some parser takes for something else, and pieces of them.
const HOSTILE: &[&str] = &[
    "no",
    "Yes",
    "on",
    "OFF",
    "y",
    "N",
    "null",
    "Null",
    "~",
    "true",
    "True",
    ".nan",
    ".inf",
    "0",
    "012",
    "0o14",
    "0x1F",
    "0b11",
    "1_000",
    "1e3",
    "1.5",
    "-1",
    "2026-11-23",
    "12:30:45",
    "190:20:30",
    "<<",
    "=",
    "!!str",
    "&a",
    "*a",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    " #",
    ": ",
    ":",
    "- ",
    "---",
    "...",
    "|",
    ">",
    "%",
    "@",
    "`",
    "\"",
    "'",
    "\\",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "\u{0}",
    "\u{7}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "é",
    "🦀",
    "?",
    "? ",
    "<tag>",
    "{{ x }}",
    "${x}",
    "$(x)",
    "-----BEGIN CERTIFICATE-----",
    "a",
    "Z",
    "x-y",
    "a.b",
    "b_c",
];

fn hostile() -> impl Strategy<Value = String> {
    let texts = prop::collection::vec(prop::sample::select(HOSTILE), 1..6).prop_map(|texts| texts.concat());
    prop_oneof![4 => texts, 1 => any::<String>()]
}

/// Puts hostile words wherever a peer, or the user of a peer, can say something. What a grammar refuses stays as it was.
fn poison(world: &mut RenderWorld, texts: &[String]) {
    let mut texts = texts.iter().map(String::as_str).cycle();
    let mut next = || texts.next().unwrap_or_default();
    for name in ["east", "west"] {
        let private = world.private(name);
        private.network = next().parse().unwrap_or_else(|_| private.network.clone());
        private.cluster_id = next().parse().ok().or_else(|| private.cluster_id.clone());
        private.api_host = next().parse().unwrap_or_else(|_| private.api_host.clone());
        private.api_ca = Some(next().to_owned());
        private.gateways.extend(Gateway::new(next(), 443));
        let public = &mut world.locked(name).public;
        public.relay_ca = Some(next().to_owned());
        public.trust_domain = next().parse().ok().or_else(|| public.trust_domain.clone());
        next().clone_into(&mut public.roots[0].pem);
        let cluster = world.cluster(name);
        cluster.endpoint_ca = Some(next().to_owned());
        cluster.cluster_domain = next().parse().unwrap_or_else(|_| cluster.cluster_domain.clone());
        cluster.istio.revisions.extend(next().parse());
        cluster.components.as_mut().unwrap().image = Some(next().to_owned());
    }
    // One cluster ID or network for two clusters is an error long before anything is rendered.
    let own = world.private("east").network.clone();
    if world.private("west").network == own {
        world.private("west").network = "network-west".parse().unwrap();
    }
}

/// Texts by file name, and what each must be read as.
#[derive(Default)]
struct ParsedFiles(BTreeMap<String, (String, Value)>);

impl ParsedFiles {
    fn add(&mut self, case: usize, world: &RenderWorld, cluster: &str) {
        let all = world.render(cluster);
        for rendered in &all.objects {
            let object = rendered.object().unwrap();
            let name = format!("{case:03}-{cluster}-{}", object.id().file_name());
            self.0.insert(name, (rendered.to_yaml().unwrap().into_owned(), object.to_value()));
            if object.id().name == "isthmus-mesh" {
                for (key, text) in object.fields["data"].as_object().unwrap() {
                    self.embed(&format!("{case:03}-{cluster}-{key}.yaml"), text.as_str().unwrap());
                }
            }
            if object.is_secret() {
                self.embed(&format!("{case:03}-{cluster}-kubeconfig.yaml"), &kubeconfig(&all, "west"));
            }
        }
        for (path, file) in &all.extra {
            let name = format!("{case:03}-{}", path.replace('/', "-"));
            self.embed(&name, &file.text);
        }
    }

    /// A document that is no object, below `spec` of one.
    fn embed(&mut self, name: &str, text: &str) {
        let mut whole = "apiVersion: v1\nkind: Document\nmetadata:\n  name: document\nspec:\n".to_owned();
        for line in text.lines() {
            let _ = writeln!(whole, "{}{line}", if line.is_empty() { "" } else { "  " });
        }
        let spec: Value = serde_yaml::from_str(text).unwrap();
        let wanted = json!({"apiVersion": "v1", "kind": "Document", "metadata": {"name": "document"}, "spec": spec});
        self.0.insert(name.to_owned(), (whole, wanted));
    }
}

const PYTHON: &str = r#"
import json, os, sys, yaml
folder = sys.argv[1]
strange = lambda value: {"strange": repr(value)}
for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), encoding="utf-8", newline="") as file:
        print(json.dumps(yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), default=strange))
"#;

/// Runs another parser; `None` where this machine does not have it, which CI must.
fn run(command: &mut Command) -> Option<String> {
    match command.output() {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).unwrap()),
        Ok(output) => {
            let texts = String::from_utf8_lossy(&output.stderr).into_owned();
            let absent = texts.contains("No module named 'yaml'") && std::env::var_os("CI").is_none();
            assert!(absent, "{command:?}: {texts}");
            None
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{command:?}: {error}");
            None
        }
    }
}

fn without_mark(mut value: Value) -> Value {
    if let Some(annotations) = value.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove("mark");
        if annotations.is_empty() {
            value["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    value
}

fn write(folder: &Path, files: &ParsedFiles) {
    for (name, (text, _)) in &files.0 {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

#[test]
fn three_parsers_agree_on_hostile_texts() {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(hostile(), 24);
    let mut all = ParsedFiles::default();
    for case in 0..CASES {
        let texts = strategy.new_tree(&mut runner).unwrap().current();
        let mut world = RenderWorld::joined(&["east", "west"]);
        poison(&mut world, &texts);
        match case % 4 {
            0 => world.strict(),
            1 => world.cluster("east").reconciler = Reconciler::Deckhouse,
            2 => world.cluster("east").istio.config = MeshConfigTarget::HelmValues,
            _ => world.cluster("east").istio.config = MeshConfigTarget::Sail,
        }
        if case % 8 == 4 {
            world.link("east", "west", Stage::Leaving);
        }
        all.add(case, &world, "east");
    }
    for (name, (text, wanted)) in &all.0 {
        let read: Value = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        assert_eq!(&read, wanted, "serde reads {name} otherwise:\n{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &all);
    if let Some(output) = run(Command::new("python3").args(["-c", PYTHON]).arg(folder.path())) {
        let read: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read.len(), all.0.len());
        for ((name, (text, wanted)), read) in all.0.iter().zip(read) {
            assert_eq!(&read, wanted, "PyYAML reads {name} otherwise:\n{text}");
        }
    }
    let arguments = ["annotate", "--local", "--overwrite", "-o", "json", "mark=1", "-f"];
    if let Some(output) = run(Command::new("kubectl").args(arguments).arg(folder.path())) {
        let read: Vec<Value> = serde_json::Deserializer::from_str(&output).into_iter().map(Result::unwrap).collect();
        assert_eq!(read.len(), all.0.len());
        for ((name, (text, wanted)), read) in all.0.iter().zip(read) {
            assert_eq!(&without_mark(read), wanted, "kubectl reads {name} otherwise:\n{text}");
        }
    }
}

#[test]
fn kustomize_takes_every_folder() {
    let mut world = RenderWorld::joined(&["east", "north", "south", "west"]);
    world.cluster("south").reconciler = Reconciler::Deckhouse;
    world.cluster("south").components = None;
    world.cluster("west").state = isthmus::model::mesh::State::Leaving;
    world.lock.links.values_mut().for_each(|links| links.retain(|peer, _| peer.as_str() != "west"));
    world.lock.links.remove("west");
    world.lock.clusters.remove("west");
    let checkout = tempfile::tempdir().unwrap();
    for cluster in ["east", "north", "south", "west"] {
        let rendered = world.render(cluster);
        std::fs::create_dir_all(checkout.path().join("rendered").join(cluster)).unwrap();
        for (path, text) in files(cluster, &rendered) {
            std::fs::write(checkout.path().join(path), text).unwrap();
        }
        let folder = checkout.path().join("rendered").join(cluster);
        let Some(output) = run(Command::new("kubectl").arg("kustomize").arg(folder)) else { return };
        let found = output.lines().filter(|line| line.starts_with("kind: ")).count();
        assert_eq!(found, rendered.objects.len(), "{cluster}");
        assert_eq!(rendered.objects.is_empty(), cluster == "west");
        assert!(!output.contains("Kustomization"));
    }
}

/// The kubeconfig in a secret, as the Go client reads it.
#[test]
fn kubectl_takes_the_kubeconfig() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    for id in ["west", "123", "no", "0x1F"] {
        world.private("west").cluster_id = Some(id.parse().unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kubeconfig(&world.render("east"), "west")).unwrap();
        let view = ["config", "view", "--raw", "-o", "json", "--kubeconfig"];
        let Some(output) = run(Command::new("kubectl").args(view).arg(file.path())) else { return };
        let read: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(read["current-context"], id);
        assert_eq!(read["users"][0], json!({ "name": id, "user": {} }));
        assert_eq!(
            read["clusters"][0]["cluster"]["server"],
            format!("https://isthmus-relay.istio-system.svc:8443/to/{id}")
        );
    }
}
