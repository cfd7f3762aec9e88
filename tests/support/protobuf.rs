//! Kubernetes' protobuf and Go's JSON of the same objects, written as simply as it can be, by numbers and tags that are written
//! down here once more, from `generated.proto` and `types.go` of kubernetes/kubernetes v1.37. The tests of what reads it, its fuzz
//! target and a benchmark make their answers of it.
//!
//! An object is a JSON value with what Go would hold: what is not there is nil or empty, a time is its seconds.

use std::fmt::Write as _;

use isthmus::types::time::Timestamp;
use serde_json::{Map, Value, json};

/// Messages, with their fields in the order of Go's JSON: `name=number type`, of which `!` is always in JSON and `?` where it is
/// there; any other is there where it is not empty. `[]` are many. Some of the fields are not shown.
const MESSAGES: &[(&str, &str)] = &[
    ("ListMeta", "selfLink=1 text, resourceVersion=2 text, continue=3 text, remainingItemCount=4 int?"),
    (
        "ObjectMeta",
        "name=1 text, generateName=2 text, namespace=3 text, selfLink=4 text, uid=5 text, resourceVersion=6 text, generation=7 int,
         creationTimestamp=8 time, deletionTimestamp=9 time?, deletionGracePeriodSeconds=10 int?, labels=11 map, annotations=12 map,
         ownerReferences=13 []OwnerReference, finalizers=14 texts, managedFields=17 []ManagedFields",
    ),
    (
        "OwnerReference",
        "apiVersion=5 text!, kind=1 text!, name=3 text!, uid=4 text!, controller=6 bool?, blockOwnerDeletion=7 bool?",
    ),
    ("ManagedFields", "manager=1 text, operation=2 text, apiVersion=3 text, time=4 time?, fieldsType=6 text, fieldsV1=7 text"),
    ("Pod", "metadata=1 ObjectMeta!, spec=2 PodSpec!, status=3 PodStatus!"),
    (
        "PodSpec",
        "volumes=1 []Volume, initContainers=20 []Container, containers=2 []Container!, restartPolicy=3 text,
         serviceAccountName=8 text, nodeName=10 text, hostNetwork=11 bool, hostname=16 text, subdomain=17 text, priority=25 int?",
    ),
    ("Volume", "name=1 text!"),
    (
        "Container",
        "name=1 text!, image=2 text, command=3 texts, args=4 texts, ports=6 []ContainerPort, env=7 []EnvVar,
         restartPolicy=24 text?, imagePullPolicy=14 text, stdin=16 bool",
    ),
    ("ContainerPort", "name=1 text, hostPort=2 int, containerPort=3 int!, protocol=4 text, hostIP=5 text"),
    ("EnvVar", "name=1 text!, value=2 text, valueFrom=3 EnvVarSource?"),
    ("EnvVarSource", "secretKeyRef=4 KeySelector?"),
    ("KeySelector", "name=1 text!, key=2 text!"),
    (
        "PodStatus",
        "phase=1 text, conditions=2 []PodCondition, message=3 text, reason=4 text, hostIP=5 text, podIP=6 text, podIPs=12 []PodIP,
         startTime=7 time?, qosClass=9 text",
    ),
    ("PodCondition", "type=1 text!, status=2 text!, lastProbeTime=3 time, reason=5 text, message=6 text"),
    ("PodIP", "ip=1 text!"),
    ("Node", "metadata=1 ObjectMeta!, spec=2 NodeSpec!"),
    ("NodeSpec", "podCIDR=1 text, providerID=3 text, unschedulable=4 bool"),
    ("Namespace", "metadata=1 ObjectMeta!, spec=2 NamespaceSpec!"),
    ("NamespaceSpec", "finalizers=1 texts"),
    ("Service", "metadata=1 ObjectMeta!, spec=2 ServiceSpec!"),
    (
        "ServiceSpec",
        "ports=1 []ServicePort, selector=2 map, clusterIP=3 text, clusterIPs=18 texts, type=4 text, externalIPs=5 texts,
         sessionAffinity=7 text, externalName=10 text, publishNotReadyAddresses=13 bool, internalTrafficPolicy=22 text?,
         trafficDistribution=23 text?",
    ),
    ("ServicePort", "name=1 text, protocol=2 text, appProtocol=6 text?, port=3 int!, targetPort=4 port!, nodePort=5 int"),
    (
        "EndpointSlice",
        "metadata=1 ObjectMeta!, addressType=4 text!, endpoints=2 []Endpoint!, ports=3 []EndpointPort!",
    ),
    (
        "Endpoint",
        "addresses=1 texts!, conditions=2 EndpointConditions!, hostname=3 text?, targetRef=4 ObjectReference?, nodeName=6 text?,
         zone=7 text?",
    ),
    ("EndpointConditions", "ready=1 bool?, serving=2 bool?, terminating=3 bool?"),
    ("ObjectReference", "kind=1 text, namespace=2 text, name=3 text, uid=4 text"),
    ("EndpointPort", "name=1 text?, protocol=2 text?, port=3 int?, appProtocol=4 text?"),
    (
        "Status",
        "metadata=1 ListMeta!, status=2 text, message=3 text, reason=4 text, details=5 StatusDetails?, code=6 int",
    ),
    ("StatusDetails", "name=1 text, kind=3 text, uid=6 text, causes=4 []StatusCause, retryAfterSeconds=5 int"),
    ("StatusCause", "reason=1 text, message=2 text"),
];

/// Resources whose lists are in protobuf, with the kind of their objects and its version.
pub(crate) const IN_PROTOBUF: [(&str, &str, &str); 5] = [
    ("pods", "Pod", "v1"),
    ("nodes", "Node", "v1"),
    ("namespaces", "Namespace", "v1"),
    ("services", "Service", "v1"),
    ("endpointslices", "EndpointSlice", "discovery.k8s.io/v1"),
];

/// No time, in Go.
pub(crate) const NO_TIME: i64 = -62_135_596_800;

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// As Go does: all that is no pointer, also where it is empty, by its number.
    Go,
    /// As another might: what is there, the highest number first.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NaiveField {
    pub(crate) name: &'static str,
    pub(crate) number: u32,
    pub(crate) of: &'static str,
    pub(crate) is_many: bool,
    /// `!`, `?` or a blank.
    pub(crate) written: char,
}

pub(crate) fn kind(resource: &str) -> (&'static str, &'static str) {
    let found = IN_PROTOBUF.iter().find(|(name, ..)| *name == resource).unwrap();
    (found.1, found.2)
}

pub(crate) fn fields(message: &str) -> Vec<NaiveField> {
    let (_, list) = MESSAGES.iter().find(|(name, _)| *name == message).unwrap_or_else(|| panic!("{message}"));
    let field = |text: &'static str| {
        let (name, rest) = text.trim().split_once('=').unwrap();
        let (number, of) = rest.split_once(' ').unwrap();
        let written = of.chars().last().filter(|last| ['!', '?'].contains(last)).unwrap_or(' ');
        let of = of.trim_end_matches(['!', '?']);
        let (of, is_many) = of.strip_prefix("[]").map_or((of, false), |of| (of, true));
        NaiveField { name, number: number.parse().unwrap(), of, is_many, written }
    };
    list.split(',').map(field).collect()
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub(crate) fn number(field: u32, value: i64, out: &mut Vec<u8>) {
    varint(u64::from(field) << 3, out);
    varint(value.cast_unsigned(), out);
}

pub(crate) fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend(value);
}

/// A message in protobuf.
pub(crate) fn encode(message: &str, object: &Value, encoder: Encoder) -> Vec<u8> {
    let mut fields = fields(message);
    fields.sort_by_key(|field| field.number);
    if encoder == Encoder::Other {
        fields.reverse();
    }
    let mut out = Vec::new();
    for field in &fields {
        encode_field(field, &object[field.name], encoder, &mut out);
    }
    out
}

fn encode_field(
    NaiveField { number: at, of, is_many, written, .. }: &NaiveField,
    value: &Value,
    encoder: Encoder,
    out: &mut Vec<u8>,
) {
    let is_many = *is_many || ["texts", "map"].contains(of);
    if value.is_null() && (is_many || *written == '?' || encoder == Encoder::Other) {
        return;
    }
    let list = value.as_array().into_iter().flatten();
    match *of {
        "text" => bytes(*at, value.as_str().unwrap_or_default().as_bytes(), out),
        "bool" => number(*at, i64::from(value.as_bool().unwrap_or_default()), out),
        "int" => number(*at, value.as_i64().unwrap_or_default(), out),
        "time" => {
            let mut time = Vec::new();
            if let Some(seconds) = value.as_i64().filter(|seconds| *seconds != NO_TIME) {
                number(1, seconds, &mut time);
                number(2, 0, &mut time);
            }
            bytes(*at, &time, out);
        }
        "port" => {
            let mut port = Vec::new();
            number(1, i64::from(value.is_string()), &mut port);
            number(2, value.as_i64().unwrap_or_default(), &mut port);
            bytes(3, value.as_str().unwrap_or_default().as_bytes(), &mut port);
            bytes(*at, &port, out);
        }
        "texts" => list.for_each(|one| bytes(*at, one.as_str().unwrap().as_bytes(), out)),
        "map" => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let mut entry = Vec::new();
                bytes(1, key.as_bytes(), &mut entry);
                bytes(2, value.as_str().unwrap().as_bytes(), &mut entry);
                bytes(*at, &entry, out);
            }
        }
        of if is_many => list.for_each(|one| bytes(*at, &encode(of, one, encoder), out)),
        of => bytes(*at, &encode(of, value, encoder), out),
    }
}

/// An answer with a message of a kind.
pub(crate) fn answer(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let (mut out, mut type_meta) = (b"k8s\0".to_vec(), Vec::new());
    bytes(1, api_version.as_bytes(), &mut type_meta);
    bytes(2, kind.as_bytes(), &mut type_meta);
    for (field, value) in [(1, &type_meta[..]), (2, raw), (3, b""), (4, b"")] {
        bytes(field, value, &mut out);
    }
    out
}

/// A list of a resource in protobuf.
pub(crate) fn list_in_protobuf(resource: &str, metadata: &Value, items: &[Value], encoder: Encoder) -> Vec<u8> {
    let (kind, api_version) = kind(resource);
    let mut raw = Vec::new();
    let of_metadata = encode("ListMeta", metadata, encoder);
    if encoder == Encoder::Go {
        bytes(1, &of_metadata, &mut raw);
    }
    for item in items {
        bytes(2, &encode(kind, item, encoder), &mut raw);
    }
    if encoder == Encoder::Other {
        bytes(1, &of_metadata, &mut raw);
    }
    answer(api_version, &format!("{kind}List"), &raw)
}

/// The same in JSON.
pub(crate) fn list_in_json(resource: &str, metadata: &Value, items: &[Value], encoder: Encoder) -> String {
    let (kind, api_version) = kind(resource);
    let items: Vec<String> = items.iter().map(|item| to_json(kind, item)).collect();
    let (metadata, items) = (to_json("ListMeta", metadata), items.join(","));
    let head = format!("\"kind\":\"{kind}List\",\"apiVersion\":\"{api_version}\"");
    match encoder {
        Encoder::Go => format!("{{{head},\"metadata\":{metadata},\"items\":[{items}]}}\n"),
        Encoder::Other if items.is_empty() => format!("{{{head},\"metadata\":{metadata},\"items\":null}}\n"),
        Encoder::Other => format!("{{{head},\"items\":[{items}],\"metadata\":{metadata}}}\n"),
    }
}

/// A message in JSON, as Go writes it.
pub(crate) fn to_json(message: &str, object: &Value) -> String {
    let mut parts = Vec::new();
    for NaiveField { name, of, is_many, written, .. } in fields(message) {
        let value = &object[name];
        let is_text_or_many = is_many || matches!(of, "text" | "texts" | "map");
        let is_empty = match value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Number(number) => number.as_i64() == Some(if of == "time" { NO_TIME } else { 0 }),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => is_text_or_many && map.is_empty(),
        };
        if written != '!' && (if written == '?' { value.is_null() } else { is_empty }) {
            continue;
        }
        let many = |each: &dyn Fn(&Value) -> String| {
            let list = value.as_array().filter(|list| !list.is_empty());
            list.map_or("null".to_owned(), |list| format!("[{}]", list.iter().map(each).collect::<Vec<_>>().join(",")))
        };
        let written = match of {
            "text" => text(value.as_str().unwrap_or_default()),
            "bool" => value.as_bool().unwrap_or_default().to_string(),
            "int" => value.as_i64().unwrap_or_default().to_string(),
            "time" => match value.as_i64().unwrap() {
                NO_TIME => "null".to_owned(),
                seconds => text(&Timestamp::from_seconds(seconds).to_string()),
            },
            "port" => value.as_str().map_or(value.as_i64().unwrap_or_default().to_string(), text),
            "texts" => many(&|one| text(one.as_str().unwrap())),
            "map" => {
                let entry =
                    |(key, value): (&String, &Value)| format!("{}:{}", text(key), text(value.as_str().unwrap()));
                let entries = value.as_object().into_iter().flatten().map(entry);
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            }
            of if is_many => many(&|one| to_json(of, one)),
            of => to_json(of, value),
        };
        parts.push(format!("\"{name}\":{written}"));
    }
    format!("{{{}}}", parts.join(","))
}

/// A text with the escapes that Go has beside JSON's.
fn text(text: &str) -> String {
    let mut out = String::new();
    for one in json!(text).to_string().chars() {
        if ['<', '>', '&', '\u{2028}', '\u{2029}'].contains(&one) {
            write!(out, "\\u{:04x}", u32::from(one)).unwrap();
        } else {
            out.push(one);
        }
    }
    out
}

/// An object of JSON as Go would hold it: what is in no table is left out.
pub(crate) fn held(message: &str, object: &Value) -> Value {
    let mut map = Map::new();
    for NaiveField { name, of, is_many, .. } in fields(message) {
        let value = match (&object[name], of) {
            (Value::Null, _) => continue,
            (value, "time") => json!(value.as_str().unwrap().parse::<Timestamp>().unwrap().as_seconds()),
            // what Go keeps as raw JSON
            (value, "text") if !value.is_string() => json!(value.to_string()),
            (value, "text" | "bool" | "int" | "port" | "texts" | "map") => value.clone(),
            (Value::Array(list), of) if is_many => list.iter().map(|one| held(of, one)).collect(),
            (value, of) => held(of, value),
        };
        map.insert(name.to_owned(), value);
    }
    Value::Object(map)
}
