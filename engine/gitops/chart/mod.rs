//! The Helm chart of a cluster with an agent, made of the same component templates that a checkout renders: their values become
//! named templates of the chart (`helpers.tpl`), which read them from the chart's values as the compiler reads them from specs.
//!
//! The chart's values are the documents Mesh and Cluster of a checkout, as far as they concern an agent's cluster.

mod values;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::pipeline::meter::Unmetered;
use crate::pipeline::template::Templates;
use crate::pipeline::{FactSource, Input, Program, Request, Stop, Until, World, run};
use crate::spec::SourceFile;
use crate::types::object::{Object, PART_OF, to_yaml};
use crate::types::step::StepKind;
use crate::types::time::Timestamp;
use crate::wire::agent::{AGENT, AGENT_MAP, GROUP, PLURAL, SPECS_FILE};
use crate::wire::names::{AGENT_ROLES, EAST_WEST, PROXY};

pub use self::values::{schema, values};

/// Name of the chart.
pub const CHART: &str = "isthmus";
/// Where it is developed.
const HOME: &str = "https://github.com/isthmus-mesh/isthmus";
/// What stands for the namespace in what is rendered once.
const NAMESPACE: &str = "the-namespace-of-the-release";
/// The document of a cluster, of which only what no value of it changes is taken.
const ANY_CLUSTER: &str = "apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: any}
spec: {acceptForeignRoots: true}
---
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: any}
spec:
  reconciler: agent
  istio: {namespace: the-namespace-of-the-release}
  multicluster: {image: any, apiHost: any.example.com}
  metadata: {endpoint: \"https://any.example.com\"}
";

/// The files of the chart, by their paths in it. Fails where an object cannot be written.
pub fn chart() -> Result<BTreeMap<String, String>, Stop> {
    let mut files = BTreeMap::new();
    let mut add = |path: &str, text: String| files.insert(path.to_owned(), text);
    add("Chart.yaml", metadata()?);
    add("LICENSE", include_str!("../../../LICENSE").to_owned());
    add("README.md", include_str!("README.md").to_owned());
    add("values.yaml", values());
    add("values.schema.json", format!("{:#}\n", schema()));
    add("templates/_helpers.tpl", include_str!("helpers.tpl").to_owned());
    add("templates/NOTES.txt", include_str!("NOTES.txt").to_owned());
    add("templates/specs.yaml", specs());
    add("templates/rights.yaml", rights()?);
    for (name, text) in Templates::texts() {
        let role = name.split('/').next().unwrap_or_default();
        let service = AGENT_ROLES.into_iter().find(|(known, _)| *known == role).map(|(_, service)| service);
        if let Some(service) = service.or((role == "gateway").then_some(EAST_WEST)) {
            add(&format!("templates/{name}"), of_helm(text, role, service));
        }
    }
    Ok(files)
}

/// `Chart.yaml`.
fn metadata() -> Result<String, Stop> {
    let version = env!("CARGO_PKG_VERSION");
    let text = to_yaml(&json!({
        "apiVersion": "v2",
        "name": CHART,
        "version": version,
        "appVersion": version,
        "type": "application",
        "description": "Joins an Istio cluster that keeps its own root CA with others: exporter, api-proxy and agent",
        "home": HOME,
        "sources": [HOME],
        "keywords": ["istio", "multicluster", "service-mesh"],
        // a ValidatingAdmissionPolicy holds the agent's account to what it makes
        "kubeVersion": ">=1.30.0-0",
        "annotations": { "artifacthub.io/license": "Apache-2.0" },
    }));
    Ok(text?)
}

/// A component template as a template of Helm: values become named templates, and conditions compare what they give.
fn of_helm(text: &str, role: &str, service: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let inside = line.trim().strip_prefix("{%").and_then(|rest| rest.strip_suffix("%}")).map(str::trim);
        if let Some(condition) = inside {
            match condition.strip_prefix("if ") {
                Some(name) => out.push_str(&format!("{{{{- if eq (include \"isthmus.{name}\" .) \"true\" }}}}\n")),
                None => out.push_str("{{- end }}\n"),
            }
            continue;
        }
        out.push_str(&values_of_helm(line, role, service));
        out.push('\n');
        // the labels of an object, not those of its pods
        if line == format!("    {PART_OF}: isthmus") {
            out.push_str("    {{- include \"isthmus.labels\" . | nindent 4 }}\n");
        }
    }
    // with the kind every object of it would go, and with them the links; with the gateway what peers send through it
    for name in [format!("metadata:\n  name: {PLURAL}.{GROUP}\n"), format!("metadata:\n  name: {EAST_WEST}\n")] {
        out = out.replace(&name, &format!("{name}  annotations:\n    helm.sh/resource-policy: keep\n"));
    }
    out
}

fn values_of_helm(line: &str, role: &str, service: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").unwrap_or((after, ""));
        let name = inside.split('|').next().unwrap_or_default().trim();
        let (name, of) = match name {
            "args" => (format!("args.{role}"), ".".to_owned()),
            "tls_secret" => (name.to_owned(), format!("(dict \"service\" \"{service}\" \"Values\" .Values)")),
            name => (name.to_owned(), ".".to_owned()),
        };
        out.push_str(&format!("{before}{{{{ include \"isthmus.{name}\" {of} }}}}"));
        rest = after;
    }
    out + rest
}

/// The `ConfigMap` with the documents that the agent acts for.
fn specs() -> String {
    format!(
        "# The documents Mesh and Cluster, as the agent reads them.\n\
         apiVersion: v1\n\
         kind: ConfigMap\n\
         metadata:\n  \
           name: {AGENT_MAP}\n  \
           namespace: {{{{ include \"isthmus.namespace\" . }}}}\n  \
           labels:\n    \
             app.kubernetes.io/name: {AGENT}\n    \
             {PART_OF}: isthmus\n    \
             {{{{- include \"isthmus.labels\" . | nindent 4 }}}}\n\
         data:\n  \
           {SPECS_FILE}: |\n    \
             {{{{- include \"isthmus.specs\" . | nindent 4 }}}}\n"
    )
}

/// What the api-proxy may become, and what peers may read: the same in every cluster.
fn rights() -> Result<String, Stop> {
    let mut out = "# The users that the api-proxy becomes for peers, and what these may read. No right is added when a peer is.\n"
        .to_owned();
    for (at, mut object) in rights_of_any()?.into_iter().enumerate() {
        if let Some(metadata) = object.fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("annotations");
            metadata.insert("labels".to_owned(), json!({ "app.kubernetes.io/name": PROXY, PART_OF: "isthmus" }));
        }
        let text = object.to_yaml()?.replace(NAMESPACE, "{{ include \"isthmus.namespace\" . }}");
        let labels = format!("    {PART_OF}: isthmus\n");
        let added = format!("{labels}    {{{{- include \"isthmus.labels\" . | nindent 4 }}}}\n");
        out.push_str(if at == 0 { "" } else { "---\n" });
        out.push_str(&text.replacen(&labels, &added, 1));
    }
    Ok(out)
}

/// The objects of a cluster with an agent that no value of its specs changes, but for the namespace.
fn rights_of_any() -> Result<Vec<Object>, Stop> {
    let specs = vec![SourceFile { path: "specs/any.yaml".into(), bytes: ANY_CLUSTER.into() }];
    let program = Program::load(&Input { specs, ..Input::default() }, &|_| None)?;
    let nothing = BTreeMap::<String, Vec<u8>>::new();
    let world = World { now: Timestamp::EPOCH, tree: &nothing, base: None, narrow: None, meter: &Unmetered };
    let run = run(&program, &Request::default(), FactSource::Locked, Until::Rendered, &world)?;
    let objects = run.rendered.into_values().flat_map(|cluster| cluster.objects);
    let rights = objects.filter(|object| object.steps.iter().any(|step| step.kind == StepKind::ExchangeKeys));
    rights.map(|rendered| Ok(rendered.object()?.into_owned())).collect()
}
