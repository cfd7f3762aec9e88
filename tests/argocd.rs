//! The config-management plugin as a process: what it prints is what `rendered/` holds, or nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::checkout::Checkout;
use crate::support::environment::{ENGINE, Ran, TestEnvironment};

const EAST: &str = r#"[{"name":"cluster","string":"east"}]"#;

/// Runs the plugin in a folder as Argo CD does: the working directory is the Application's, and it says these variables.
fn plugin(folder: &Path, command: &str, variables: &[(&str, &str)]) -> Ran {
    let environment = TestEnvironment::new();
    let mut plugin = environment.command();
    environment.end(plugin.args(["argocd", command]).current_dir(folder).envs(variables.iter().copied()))
}

fn generated(checkout: &Checkout, cluster: &str) -> String {
    plugin(&checkout.path(""), "generate", &[("PARAM_CLUSTER", cluster)]).done()
}

/// The files of a cluster's folder in the order of their names.
fn tree(checkout: &Checkout, cluster: &str) -> BTreeMap<String, String> {
    let folder = std::fs::read_dir(checkout.path(&format!("rendered/{cluster}"))).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    let named = files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path));
    named
        .filter(|(name, _)| name != "kustomization.yaml")
        .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
        .collect()
}

/// The texts of a stream. A line `---` ends one; PEM ends with dashes too.
fn texts(stream: &str) -> Vec<String> {
    let mut texts = vec![String::new()];
    for line in stream.split_inclusive('\n') {
        if line == "---\n" {
            texts.push(String::new());
        } else {
            texts.last_mut().unwrap().push_str(line);
        }
    }
    texts.retain(|text| !text.is_empty());
    texts
}

/// Documents of a stream, as a YAML reader takes them.
fn documents(stream: &str) -> Vec<Value> {
    texts(stream).iter().map(|text| serde_yaml::from_str(text).unwrap()).collect()
}

#[track_caller]
fn fails(checkout: &Checkout, variables: &[(&str, &str)], exit: i32, expected: &str) {
    let ran = plugin(&checkout.path(""), "generate", variables);
    assert_eq!(ran.code, exit, "{ran}");
    assert!(ran.stderr.contains(expected), "{ran}");
    assert!(!ran.stderr.contains("panicked"), "{ran}");
    assert!(ran.stdout.is_empty(), "a failure printed {ran}");
}

#[test]
fn the_stream_holds_the_files_of_the_tree() {
    let checkout = Checkout::joined();
    for cluster in ["east", "west"] {
        let stream = generated(&checkout, cluster);
        let files = tree(&checkout, cluster);
        assert!(files.len() > 3, "{:?}", files.keys());
        assert_eq!(texts(&stream).len(), files.len());
        for text in texts(&stream) {
            assert!(files.values().any(|file| *file == text), "{text}");
        }
        let kinds: Vec<String> = documents(&stream)
            .iter()
            .map(|object| {
                format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
            })
            .collect();
        let mut sorted = documents(&stream);
        sorted.sort_by_key(|object| {
            let api = object["apiVersion"].as_str().unwrap();
            let group = api.split_once('/').map_or("", |(group, _)| group).to_owned();
            (group, object["kind"].to_string(), object["metadata"]["name"].to_string())
        });
        assert_eq!(documents(&stream), sorted, "{kinds:?}");
    }
    // the tree is not what is read: without it, the same
    let before = generated(&checkout, "east");
    std::fs::remove_dir_all(checkout.path("rendered")).unwrap();
    std::fs::remove_dir_all(checkout.path("metadata")).unwrap();
    assert_eq!(generated(&checkout, "east"), before);
}

#[test]
fn the_cluster_is_a_parameter_a_variable_or_a_flag() {
    let checkout = Checkout::joined();
    let wanted = generated(&checkout, "east");
    for variables in [
        vec![("ARGOCD_APP_PARAMETERS", EAST)],
        vec![("ARGOCD_APP_PARAMETERS", EAST), ("PARAM_CLUSTER", "east"), ("ARGOCD_ENV_CLUSTER", "")],
        vec![("ARGOCD_ENV_CLUSTER", "east"), ("ARGOCD_APP_PARAMETERS", "null")],
        vec![("PARAM_CLUSTER", "east"), ("PARAM_MESH", "shop"), ("KUBE_VERSION", "1.34.0")],
    ] {
        let ran = plugin(&checkout.path(""), "generate", &variables);
        assert_eq!(ran.stdout, wanted, "{variables:?}");
    }
    let ran = checkout.engine(&["argocd", "generate", "--cluster", "east"]);
    assert_eq!((ran.code, ran.stdout, ran.stderr.as_str()), (0, wanted, ""));
    fails(&checkout, &[], 64, "no cluster is named");
    fails(&checkout, &[("PARAM_CLUSTER", "esat")], 64, "did you mean `east`?");
    fails(&checkout, &[("PARAM_CLUSTER", "east"), ("ARGOCD_ENV_CLUSTER", "west")], 64, "name it once");
    fails(&checkout, &[("PARAM_CLUSTER", "east"), ("PARAM_MESH", "bazaar")], 64, "this checkout holds `shop`");
    fails(
        &checkout,
        &[("ARGOCD_APP_PARAMETERS", r#"[{"name":"klaster","string":"east"}]"#)],
        64,
        "no parameter `klaster`",
    );
    for form in ["json", "markdown"] {
        let ran = TestEnvironment::new().run(&["argocd", "generate", "--output", form]);
        assert!(ran.code > 0 && ran.stdout.is_empty(), "{ran}");
    }
}

#[test]
fn every_failure_prints_nothing() {
    let checkout = Checkout::joined();
    let east = [("PARAM_CLUSTER", "east")];
    let lock = std::fs::read(checkout.path("lock/clusters/west.yaml")).unwrap();
    // cut at many places: never half an answer
    for part in 1..40 {
        checkout.write("lock/clusters/west.yaml", &lock[..lock.len() * part / 40]);
        let ran = plugin(&checkout.path(""), "generate", &east);
        assert!(ran.code > 0 && ran.stdout.is_empty(), "cut at {part} of 40: {ran}");
        assert!(!ran.stderr.contains("panicked"), "{ran}");
    }
    checkout.write("lock/clusters/west.yaml", &lock);
    let links = std::fs::read(checkout.path("lock/links/east.yaml")).unwrap();
    checkout.write("lock/links/east.yaml", b"<<<<<<< HEAD\n");
    fails(&checkout, &east, 4, "merge conflict markers");
    checkout.write("lock/links/east.yaml", &links);
    checkout.write("templates/exporter/deployment.yaml", b"{{ nothing(");
    fails(&checkout, &east, 1, "templates/exporter/deployment.yaml");
    std::fs::remove_dir_all(checkout.path("templates")).unwrap();
    let specs = std::fs::read_to_string(checkout.path("specs/mesh.yaml")).unwrap();
    for (broken, exit, expected) in [
        (specs.replace("acceptForeignRoots: true", "acceptForeignRoots: false"), 1, "acceptForeignRoots"),
        (specs.replace("kind: Mesh", "kind: Mush"), 1, "Mesh"),
        (specs.split("---\n").take(2).collect::<Vec<_>>().join("---\n"), 4, "`west` is in the lock"),
        (specs.replace("spec: {acc", "spec: {requiredEngine: \"9.9\", acc"), 1, "9.9"),
    ] {
        checkout.write("specs/mesh.yaml", broken.as_bytes());
        fails(&checkout, &east, exit, expected);
    }
    std::fs::remove_file(checkout.path("specs/mesh.yaml")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", checkout.path("specs/mesh.yaml")).unwrap();
    fails(&checkout, &east, 1, "specs/mesh.yaml");
    let wrong = checkout.engine(&["argocd", "generate", "--no-such-flag", "--output", "json"]);
    assert!(wrong.code == 64 && wrong.stdout.is_empty(), "{wrong}");
    let nowhere = tempfile::tempdir().unwrap();
    let ran = plugin(nowhere.path(), "generate", &east);
    assert!(ran.code > 0 && ran.stdout.is_empty(), "{ran}");
}

#[test]
fn the_answer_is_the_same_everywhere_and_asks_no_cluster() {
    let checkout = Checkout::joined();
    let wanted = generated(&checkout, "east");
    let environment = TestEnvironment::new().with("LC_ALL", "tr_TR.UTF-8").with("TZ", "Pacific/Apia");
    let environment = environment.with("PATH", "/usr/bin:/bin").with("HOME", "/nonexistent");
    let elsewhere = environment.path("elsewhere");
    environment.end(environment.program("cp").arg("-a").arg(checkout.path(".")).arg(&elsewhere)).done();
    let run = format!("exec {ENGINE} argocd generate --cluster east");
    for (prefix, script) in [
        (vec!["sh", "-c"], format!("umask 077; cd {} && {run}", elsewhere.display())),
        (vec!["sh", "-c"], format!("cd / && {run} -C {}", elsewhere.display())),
        (vec!["unshare", "-r", "-n", "sh", "-c"], format!("cd {} && {run}", elsewhere.display())),
    ] {
        let ran = environment.end(environment.program(prefix[0]).args(&prefix[1..]).arg(&script));
        if prefix[0] == "unshare" && ran.stderr.starts_with("unshare:") {
            assert!(std::env::var_os("CI").is_none(), "no network namespace to be had: {ran}");
            continue;
        }
        assert_eq!(ran.done(), wanted);
    }
    // it is no writer
    let before = checkout.output();
    let _same = generated(&checkout, "east");
    assert!(before == checkout.output());
}

pub(crate) fn can_trace() -> bool {
    let environment = TestEnvironment::new().with_tools();
    let can = environment.program("strace").args(["-o", "/dev/null", "true"]).output().is_ok();
    assert!(can || std::env::var_os("CI").is_none(), "strace is missing");
    can
}

/// Each of the first calls of a kind fails once: the answer is whole, or there is none and the code is not 0.
#[test]
fn a_fault_of_the_machine_never_halves_an_answer() {
    if !can_trace() {
        return;
    }
    let checkout = Checkout::joined();
    let wanted = generated(&checkout, "east");
    let environment = &checkout.environment;
    let (mut whole, mut failed) = (0, 0);
    for (call, error, most) in [
        ("openat", "EIO", 70),
        ("read", "EIO", 60),
        ("getdents64", "EIO", 20),
        ("fstat", "EACCES", 60),
        ("write", "ENOSPC", 2),
    ] {
        for number in 1..=most {
            let (trace, fault) = (format!("trace={call}"), format!("inject={call}:error={error}:when={number}"));
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &fault];
            let mut command = environment.wrapped(&strace);
            command.args(["argocd", "generate", "--cluster", "east"]).current_dir(checkout.path(""));
            let ran = environment.end(&mut command);
            if ran.code == 0 {
                whole += 1;
                assert_eq!(ran.stdout, wanted, "{call} {number}");
            } else {
                failed += 1;
                assert!(ran.stdout.is_empty(), "{call} {number}: {} bytes and {}", ran.stdout.len(), ran.code);
            }
        }
    }
    assert!(failed > 12, "{failed} failed, {whole} were whole: the faults hit nothing");
}

#[test]
fn no_key_is_read_no_process_started_and_no_cluster_asked() {
    if !can_trace() {
        return;
    }
    let checkout = Checkout::joined();
    let canary = "CANARY-OF-A-PRIVATE-KEY";
    for key in ["keys/engine.key", "keys/east.key"] {
        checkout.write(key, canary.as_bytes());
    }
    let environment = &checkout.environment;
    let trace = checkout.path("trace");
    for (cluster, exit) in [("east", 0), ("nobody", 64)] {
        let strace = ["strace", "-f", "-e", "trace=open,openat,openat2,socket,execve,fork,vfork", "-o"];
        let mut command = environment.wrapped(&[&strace[..], &[trace.to_str().unwrap()]].concat());
        command.args(["argocd", "generate", "--cluster", cluster]).current_dir(checkout.path(""));
        let ran = environment.end(command.env("ISTHMUS_ENGINE_KEY", canary));
        assert_eq!(ran.code, exit, "{ran}");
        assert!(!ran.says(canary));
        let calls = std::fs::read_to_string(&trace).unwrap();
        assert_eq!(calls.matches("execve(").count(), 1, "{calls}");
        for call in ["socket(", "fork(", "\"keys"] {
            assert!(!calls.contains(call), "{call} in\n{calls}");
        }
        assert!(calls.contains("\"specs\""), "{calls}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let checkout = Checkout::joined();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = checkout.environment.command();
    command.args(["argocd", "generate", "--cluster", "east"]).current_dir(checkout.path("")).stdout(full);
    assert_eq!(checkout.environment.end(&mut command).code, 6);
}

#[test]
fn waiting_links_and_dead_peers_are_no_failure() {
    let checkout = Checkout::joined();
    let two = generated(&checkout, "east");
    let specs = std::fs::read_to_string(checkout.path("specs/mesh.yaml")).unwrap();
    let third = "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {name: north}\nspec: {metadata: {endpoint: \"file://metadata/north\"}}\n";
    checkout.write("specs/mesh.yaml", (specs + third).as_bytes());
    assert_eq!(generated(&checkout, "east"), two, "a peer that nobody reached changes nothing");
    checkout.engine(&["apply"]).done();
    assert_eq!(generated(&checkout, "east"), two);
    // before the first run there is what needs no peer
    let fresh = Checkout::new();
    let first = generated(&fresh, "east");
    fresh.engine(&["apply", "--locked"]).done();
    assert_eq!(texts(&first), tree(&fresh, "east").into_values().collect::<Vec<_>>());
    let peers = Checkout::new();
    let specs = std::fs::read_to_string(peers.path("specs/mesh.yaml")).unwrap();
    peers.write("specs/mesh.yaml", specs.split_inclusive("---\n").take(2).collect::<String>().as_bytes());
    peers.edit("specs/mesh.yaml", "name: east}\nspec: {", "name: east}\nspec: {reconciler: deckhouse, ");
    fails(&peers, &[("PARAM_CLUSTER", "east")], 4, "nothing is rendered for `east` yet");
}

#[test]
fn only_a_cluster_that_has_left_gets_nothing() {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", "name: east}\nspec: {", "name: east}\nspec: {state: leaving, ");
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
    let mut streams = Vec::new();
    for _ in 0..8 {
        checkout.engine(&["apply"]).done();
        let stream = generated(&checkout, "east");
        assert_eq!(documents(&stream).len(), tree(&checkout, "east").len());
        streams.push(stream);
    }
    assert!(!streams[0].is_empty() && !streams[0].contains("istio-remote-secret-west"), "{}", streams[0]);
    assert!(streams[0].contains("isthmus-peers"));
    assert_eq!(streams[7], "");
}

#[test]
fn a_paused_cluster_keeps_what_it_has() {
    let checkout = Checkout::joined();
    let before = generated(&checkout, "east");
    checkout.edit("specs/mesh.yaml", "name: east}\nspec: {", "name: east}\nspec: {state: paused, ");
    checkout.edit("specs/mesh.yaml", "state: paused, ", "state: paused, multicluster: {replicas: 3}, ");
    assert_eq!(documents(&generated(&checkout, "east")).len(), documents(&before).len());
    for object in documents(&generated(&checkout, "east")) {
        assert!(documents(&before).contains(&object), "{object}");
    }
    checkout.write("rendered/east/configmap-mine.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine}\n");
    fails(&checkout, &[("PARAM_CLUSTER", "east")], 4, "configmap-mine.yaml");
    std::fs::remove_dir_all(checkout.path("rendered/east")).unwrap();
    fails(&checkout, &[("PARAM_CLUSTER", "east")], 4, "an empty answer would delete");
}

#[test]
fn a_cluster_of_another_checkout_is_refused_by_name() {
    let edit = |checkout: &Checkout| {
        checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {reconciler: external, ");
    };
    let joined = Checkout::joined();
    edit(&joined);
    fails(&joined, &[("PARAM_CLUSTER", "west")], 4, "edit nothing but `reconciler`");
    let fresh = Checkout::new();
    edit(&fresh);
    fails(&fresh, &[("PARAM_CLUSTER", "west")], 4, "`external`");
}

#[test]
fn parameters_are_announced_whatever_the_checkout_holds() {
    let checkout = Checkout::joined();
    let announced = |folder: &Path| -> Value {
        let ran = plugin(folder, "parameters", &[("ARGOCD_APP_NAME", "isthmus-east")]);
        serde_json::from_str(&ran.done()).unwrap()
    };
    let known = announced(&checkout.path(""));
    assert!(known[0]["tooltip"].as_str().unwrap().ends_with("one of east, west"), "{known}");
    assert_eq!(known[1]["string"], "shop");
    checkout.write("specs/mesh.yaml", b"kind: [");
    assert_eq!(announced(&checkout.path(""))[0]["name"], "cluster");
    assert_eq!(announced(tempfile::tempdir().unwrap().path())[1]["name"], "mesh");
}
