//! Values of the chart: the fields of Mesh and Cluster that concern a cluster with an agent, with the schema that specs have.

use serde_json::{Map, Value, json};

use crate::spec;
use crate::wire::names::IMAGE;

/// Fields of a Mesh.
const MESH: &[&str] =
    &["acceptForeignRoots", "meshID", "firstContact", "credentials", "engineKeys", "settle", "rootOverlap"];
/// Fields of a Cluster. What single peers see is said in their objects.
const CLUSTER: &[&str] = &[
    "metadata",
    "multicluster",
    "istio",
    "clusterID",
    "clusterDomain",
    "network",
    "trustDomain",
    "mergeTrustDomains",
    "gateway",
    "gateways",
    "flatNetwork",
    "api",
    "share",
    "allow",
    "pin",
    "evidence",
    "distrust",
];
/// Fields within these that a chart has no use for: an agent's cluster always has components and their admission policy, its namespace
/// is that of the release, and there is no checkout whose files could be named.
const LEFT_OUT: &[&str] = &[
    "/cluster/properties/metadata/properties/crd",
    "/cluster/properties/metadata/properties/ca/properties/file",
    "/cluster/properties/api/properties/ca/properties/file",
    "/cluster/properties/multicluster/properties/enabled",
    "/cluster/properties/multicluster/properties/admissionPolicy",
    "/cluster/properties/istio/properties/namespace",
];
/// Values that `values.yaml` states; all others are shown there as comments.
const STATED: &[&str] = &[
    "/mesh/acceptForeignRoots",
    "/cluster/multicluster/image",
    "/cluster/multicluster/replicas",
    "/cluster/multicluster/expose",
];

/// JSON Schema (draft 07) of the values. What has to be given is asked for by the templates, so that `helm lint` passes without.
pub fn schema() -> Value {
    let specs = spec::schema();
    let of = |kind: &str, known: &[&str], about: &str| {
        let documents = specs.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let document = documents
            .into_iter()
            .find(|document| document.pointer("/properties/kind/const").and_then(Value::as_str) == Some(kind));
        let fields = document.and_then(|document| document.pointer("/properties/spec/properties"));
        let mut properties = Map::new();
        let name = document.and_then(|document| document.pointer("/properties/metadata/properties/name/pattern"));
        let about_name = format!("name of the {kind}, which has to be given: at most 63 of a-z, 0-9 and -");
        let name = json!({ "type": "string", "pattern": name, "description": about_name });
        properties.insert("name".to_owned(), name);
        for field in known {
            properties.insert((*field).to_owned(), fields.and_then(|all| all.get(*field)).cloned().unwrap_or_default());
        }
        json!({ "type": "object", "additionalProperties": false, "properties": properties, "description": about })
    };
    let mut properties = json!({
        "mesh": of("Mesh", MESH, "the mesh, which has the same name in all clusters"),
        "cluster": of("Cluster", CLUSTER, "this cluster, as docs/reference/spec.md describes it"),
    });
    for path in LEFT_OUT {
        if let Some((object, field)) = path.rsplit_once('/') {
            properties.pointer_mut(object).and_then(Value::as_object_mut).and_then(|fields| fields.remove(field));
        }
    }
    for (path, value) in [
        ("/cluster/properties/metadata/properties/endpoint/pattern", json!("^https://.+$")),
        ("/cluster/properties/metadata/properties/endpoint/description", json!("https://…, which has to be given")),
        ("/cluster/properties/istio/properties/config/enum", json!(["sharedMeshConfig", "none"])),
        ("/cluster/properties/multicluster/properties/image/default", json!(image())),
    ] {
        if let Some(place) = at(&mut properties, path) {
            *place = value;
        }
    }
    without_required(&mut properties);
    if let Some(fields) = properties.as_object_mut() {
        let global = json!({ "type": "object", "description": "not read; Helm gives it to charts within charts" });
        fields.insert("global".to_owned(), global);
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart isthmus",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

/// The place of a path, whose last part need not be there yet.
fn at<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let (object, field) = path.rsplit_once('/')?;
    Some(value.pointer_mut(object)?.as_object_mut()?.entry(field).or_insert(Value::Null))
}

fn image() -> String {
    format!("{IMAGE}:{}", env!("CARGO_PKG_VERSION"))
}

/// The first two levels ask for nothing: what is left out there, the templates name.
fn without_required(properties: &mut Value) {
    let groups = properties.as_object_mut().into_iter().flatten().map(|(_, group)| group);
    let fields = groups.filter_map(|group| group.pointer_mut("/properties")?.as_object_mut()).flatten();
    for (_, field) in fields {
        if let Some(field) = field.as_object_mut() {
            field.remove("required");
        }
    }
}

/// `values.yaml`: each value with what it is; those that need not be stated are comments.
pub fn values() -> String {
    let mut out = "# What this cluster is, and where others reach it. Each value is a field of the documents Mesh and Cluster, which\n\
                   # docs/reference/spec.md describes. Four have to be given, and `acceptForeignRoots: true`:\n\
                   # mesh.name, cluster.name, cluster.metadata.endpoint and cluster.multicluster.apiHost.\n"
        .to_owned();
    let schema = schema();
    for group in ["mesh", "cluster"] {
        let fields = schema.pointer(&format!("/properties/{group}")).cloned().unwrap_or_default();
        out.push('\n');
        write(&mut out, &format!("/{group}"), group, &fields, "", true);
    }
    out
}

/// Whether `values.yaml` states it, or something in it.
fn is_stated(path: &str) -> bool {
    STATED.iter().any(|stated| *stated == path || stated.starts_with(&format!("{path}/")))
}

fn write(out: &mut String, path: &str, name: &str, schema: &Value, indent: &str, is_open: bool) {
    // below what is a comment, everything is
    let stated = is_open && is_stated(path);
    let mark = if stated || !is_open { "" } else { "# " };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(about) = schema.get("description").and_then(text) {
        for line in wrapped(&about, 110_usize.saturating_sub(indent.len())) {
            out.push_str(&format!("{indent}# {line}\n"));
        }
    }
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        out.push_str(&format!("{indent}{mark}{name}:\n"));
        let inner = format!("{indent}{mark}  ");
        // the two documents in the order of their fields here, the rest by name
        let rank = |field: &str| {
            let known = match path {
                "/mesh" => MESH,
                "/cluster" => CLUSTER,
                _ => &[],
            };
            known.iter().position(|known| *known == field).map_or(0, |place| place + 1)
        };
        let mut fields: Vec<_> = fields.iter().collect();
        fields.sort_by_key(|(field, _)| rank(field));
        for (field, schema) in fields {
            write(out, &format!("{path}/{field}"), field, schema, &inner, stated);
        }
        return;
    }
    let default = schema.get("default").cloned().unwrap_or_else(|| match schema.get("type").and_then(Value::as_str) {
        Some("array") => json!([]),
        Some("boolean") => json!(false),
        Some("object") => json!({}),
        _ => json!(""),
    });
    out.push_str(&format!("{indent}{mark}{name}: {}\n", shown(&default)));
}

/// A value as YAML in one line.
fn shown(value: &Value) -> String {
    match value.as_str() {
        Some(text)
            if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-".contains(&byte)) =>
        {
            text.to_owned()
        }
        _ => value.to_string(),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
