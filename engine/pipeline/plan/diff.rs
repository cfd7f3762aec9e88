//! Differences between two forms of an object, field by field, as a reviewer reads them.
//!
//! Data of Secrets is never shown: a digest says whether it changed. Certificates and keys inside other texts are condensed
//! to one line each, and texts of several lines are compared line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use crate::types::name::Digest;
use crate::types::object::{Object, parse};
use crate::types::text::visible_lines;
use crate::types::yaml::{MAX_OBJECT, value_of};

/// Most lines shown of one text; the rest is counted.
const MAX_LINES: usize = 40;

/// Hex digits that are shown of a digest.
pub const SHOWN_DIGITS: usize = 12;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldChange {
    /// Path of the field, for example `data.mesh` or `spec.replicas`.
    pub path: String,
    /// What becomes of it.
    #[serde(flatten)]
    pub change: ValueChange,
}

/// How a field differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueChange {
    Added(String),
    Removed(String),
    /// It has another value.
    Changed(String, String),
    /// A text of several lines: lines with `+`, `-` or a space before them.
    Lines(Vec<String>),
}

/// Names of fields that say what runs, with what, and who may do or reach what.
const DANGEROUS: [&str; 17] = [
    "image",
    "args",
    "command",
    "env",
    "envFrom",
    "volumes",
    "volumeMounts",
    "rules",
    "roleRef",
    "subjects",
    "ports",
    "type",
    "securityContext",
    "serviceAccountName",
    "ingress",
    "egress",
    "selector",
];

/// The place of a field in the list of a changed object: what is dangerous first, labels and annotations last, so that no
/// number of harmless fields pushes a dangerous one out of what a reviewer sees.
fn rank(path: &str) -> u8 {
    let meta = ["metadata.annotations", "metadata.labels"];
    let is_meta = |path: &str| meta.iter().any(|prefix| path.starts_with(prefix));
    let is_data = path.starts_with("data") || path.starts_with("stringData");
    if is_meta(path) || (!is_data && path.split_once("template.").is_some_and(|(_, rest)| is_meta(rest))) {
        return 2;
    }
    let is_dangerous = path.split(['.', '[', ']']).any(|name| DANGEROUS.contains(&name));
    u8::from(!is_dangerous)
}

/// The fields in which two forms of an object differ, dangerous ones first, labels and annotations last. Equal forms give none.
pub fn diff(before: Option<&Object>, after: Option<&Object>) -> Vec<FieldChange> {
    let secret = before.or(after).is_some_and(Object::is_secret);
    let mut changes = Vec::new();
    let value = |object: Option<&Object>| object.map(|object| Value::Object(object.fields.clone()));
    let mut walk = DiffWalk { secret, changes: &mut changes };
    walk.compare("", value(before).as_ref(), value(after).as_ref());
    changes.sort_by_key(|change| rank(&change.path));
    changes
}

/// Fields in which two forms of a YAML or JSON file differ, as [`diff`] shows them. Data of Secrets is masked; a file that cannot
/// be read has no fields.
pub(crate) fn diff_files(before: Option<&[u8]>, after: Option<&[u8]>) -> Vec<FieldChange> {
    let value = |bytes: Option<&[u8]>| bytes.and_then(|bytes| value_of(bytes, MAX_OBJECT).ok());
    let secret = [before, after].into_iter().flatten().filter_map(parse).any(|object| object.is_secret());
    let mut changes = Vec::new();
    DiffWalk { secret, changes: &mut changes }.compare("", value(before).as_ref(), value(after).as_ref());
    changes.sort_by_key(|change| rank(&change.path));
    changes
}

struct DiffWalk<'a> {
    secret: bool,
    changes: &'a mut Vec<FieldChange>,
}

impl DiffWalk<'_> {
    fn compare(&mut self, path: &str, before: Option<&Value>, after: Option<&Value>) {
        match (before, after) {
            (Some(before), Some(after)) if before == after => {}
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    self.compare(&join(path, key), a.get(key), b.get(key));
                }
            }
            (None, Some(Value::Object(map))) if !map.is_empty() => {
                for (key, value) in map {
                    self.compare(&join(path, key), None, Some(value));
                }
            }
            (Some(Value::Object(map)), None) if !map.is_empty() => {
                for (key, value) in map {
                    self.compare(&join(path, key), Some(value), None);
                }
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) => self.compare_lists(path, a, b),
            (None, Some(Value::Array(list))) if !list.is_empty() && by_name(list).is_some() => {
                self.compare_lists(path, &[], list);
            }
            (Some(Value::String(a)), Some(Value::String(b))) => match (embedded(path, a), embedded(path, b)) {
                (Some(a), Some(b)) if !self.hides(path) => self.compare(path, Some(&a), Some(&b)),
                _ => self.leaf_change(path, before, after),
            },
            (None, Some(Value::String(text))) if !self.hides(path) => match embedded(path, text) {
                Some(document) => self.compare(path, None, Some(&document)),
                None => self.leaf_change(path, before, after),
            },
            (None, None) => {}
            (before, after) => self.leaf_change(path, before, after),
        }
    }

    fn leaf_change(&mut self, path: &str, before: Option<&Value>, after: Option<&Value>) {
        let change = self.leaf(path, before, after);
        self.changes.push(FieldChange { path: path.to_owned(), change });
    }

    fn hides(&self, path: &str) -> bool {
        self.secret && (path.starts_with("data") || path.starts_with("stringData"))
    }

    /// Lists of named things are compared by name, lists of texts as sets, any other by place.
    fn compare_lists(&mut self, path: &str, before: &[Value], after: &[Value]) {
        if let (Some(before), Some(after)) = (by_name(before), by_name(after)) {
            let names: BTreeSet<&&str> = before.keys().chain(after.keys()).collect();
            for name in names {
                let (old, new) = (before.get(*name).copied(), after.get(*name).copied());
                // a container is shown field by field, so that no long list of arguments hides its image
                let is_container = path.ends_with("ontainers");
                let path = format!("{path}[{name}]");
                match (old, new) {
                    (Some(_), Some(_)) => self.compare(&path, old, new),
                    _ if is_container => {
                        self.compare(&path, old.map(without_name).as_ref(), new.map(without_name).as_ref());
                    }
                    _ => self.leaf_change(&path, old.map(without_name).as_ref(), new.map(without_name).as_ref()),
                }
            }
            return;
        }
        let texts = |list: &[Value]| list.iter().all(Value::is_string);
        let added: Vec<&Value> = after.iter().filter(|value| !before.contains(value)).collect();
        let removed: Vec<&Value> = before.iter().filter(|value| !after.contains(value)).collect();
        if texts(before) && texts(after) && !(added.is_empty() && removed.is_empty()) {
            for value in removed {
                self.leaf_change(path, Some(value), None);
            }
            for value in added {
                self.leaf_change(path, None, Some(value));
            }
            return;
        }
        for at in 0..before.len().max(after.len()) {
            self.compare(&format!("{path}[{at}]"), before.get(at), after.get(at));
        }
    }

    fn leaf(&self, path: &str, before: Option<&Value>, after: Option<&Value>) -> ValueChange {
        let hidden = self.hides(path);
        let show = |value: &Value| if hidden { masked(value) } else { shown(value) };
        match (before, after) {
            (Some(before), Some(after)) => {
                let (before, after) = (show(before), show(after));
                if before.contains('\n') || after.contains('\n') {
                    ValueChange::Lines(line_diff(&before, &after))
                } else {
                    ValueChange::Changed(before, after)
                }
            }
            (None, Some(after)) => match show(after) {
                text if text.contains('\n') => ValueChange::Lines(line_diff("", &text)),
                text => ValueChange::Added(text),
            },
            (Some(before), None) => match show(before) {
                text if text.contains('\n') => ValueChange::Lines(line_diff(&text, "")),
                text => ValueChange::Removed(text),
            },
            (None, None) => ValueChange::Added(String::new()),
        }
    }
}

/// The document inside a text whose key ends in `.json`.
fn embedded(path: &str, text: &str) -> Option<Value> {
    path.ends_with(".json\"]").then(|| serde_json::from_str(text).ok()).flatten()
}

/// The elements of a list by what names them; `None` when one of them has no name, or two have one.
fn by_name(list: &[Value]) -> Option<BTreeMap<&str, &Value>> {
    let mut named = BTreeMap::new();
    for value in list {
        let name = NAMING.iter().find_map(|key| value.get(key)?.as_str())?;
        if named.insert(name, value).is_some() {
            return None;
        }
    }
    Some(named)
}

/// Keys whose value names an element of a list.
const NAMING: [&str; 3] = ["name", "clusterID", "id"];

/// An element without the key that its path already says.
fn without_name(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(map) = &mut value
        && let Some(key) = NAMING.iter().find(|key| map.contains_key(**key))
        && map.len() > 1
    {
        map.remove(*key);
    }
    value
}

fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

fn masked(value: &Value) -> String {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    format!("[secret {}]", Digest::of(&bytes).short(12))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => printable(&condense(text)),
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key} {}", brief(value))).collect::<Vec<_>>().join(" · ")
        }
        other => printable(&condense(&other.to_string())),
    }
}

/// A value inside a line.
fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => printable(&condense(text)).replace('\n', " ").trim().to_owned(),
        Value::Array(list) => list.iter().map(brief).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key} {}", brief(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// What would steer a terminal, as a peer might send it, is shown escaped.
fn printable(text: &str) -> String {
    visible_lines(text).into_owned()
}

/// Each PEM block of a text as one line with its label and digest, whether its lines end in `\n` or in an escaped one.
pub fn condense(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (head, block) = rest.split_at(at);
        out.push_str(head);
        let label = block.get(BEGIN.len()..).and_then(|tail| tail.split_once("-----")).map(|(label, _)| label);
        let end = label.map(|label| format!("-----END {label}-----"));
        let Some((label, end, at)) = label.zip(end).and_then(|(l, e)| block.find(&e).map(|at| (l, e, at))) else {
            out.push_str(block);
            return out;
        };
        let (body, tail) = block.split_at(at);
        let body = body.get(BEGIN.len() + label.len() + 5..).unwrap_or_default().replace("\\n", "");
        let base64: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &base64);
        let digest = Digest::of(der.as_deref().unwrap_or(base64.as_bytes()));
        let _ = write!(out, "<{} sha256:{}…>", label.to_ascii_lowercase(), digest.short(SHOWN_DIGITS));
        rest = tail.get(end.len()..).unwrap_or_default();
        rest = rest.strip_prefix("\\n").unwrap_or(rest);
    }
    out.push_str(rest);
    out
}

/// Names whose certificates the fields show: `<certificate sha256:…>` becomes `<certificate of west sha256:…>`. `owner` is asked
/// with the first digits of the digest.
pub fn name_certificates(changes: &mut [FieldChange], owner: &dyn Fn(&str) -> Option<String>) {
    const CERTIFICATE: &str = "<certificate ";
    let name = |text: &mut String| {
        if !text.contains(CERTIFICATE) {
            return;
        }
        let mut parts = text.split(CERTIFICATE);
        let mut named = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.strip_prefix("sha256:").and_then(|rest| rest.split_once('…')).map(|(digits, _)| digits);
            let owner = digits.and_then(owner).map(|owner| format!("of {owner} ")).unwrap_or_default();
            named.push_str(&format!("{CERTIFICATE}{owner}{part}"));
        }
        *text = named;
    };
    for change in changes {
        match &mut change.change {
            ValueChange::Added(value) | ValueChange::Removed(value) => name(value),
            ValueChange::Changed(before, after) => [before, after].into_iter().for_each(name),
            ValueChange::Lines(lines) => lines.iter_mut().for_each(name),
        }
    }
}

/// Lines that differ, with up to two lines around them.
fn line_diff(before: &str, after: &str) -> Vec<String> {
    let diff = similar::TextDiff::from_lines(before, after);
    let mut lines = Vec::new();
    for (at, group) in diff.grouped_ops(2).iter().enumerate() {
        if at > 0 {
            lines.push("  …".to_owned());
        }
        for op in group {
            for change in diff.iter_changes(op) {
                let sign = match change.tag() {
                    similar::ChangeTag::Insert => '+',
                    similar::ChangeTag::Delete => '-',
                    similar::ChangeTag::Equal => ' ',
                };
                lines.push(format!("{sign} {}", change.value().trim_end_matches('\n')));
            }
        }
    }
    if lines.len() > MAX_LINES {
        let more = lines.len() - MAX_LINES;
        lines.truncate(MAX_LINES);
        lines.push(format!("  … and {more} more lines"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(kind: &str, data: &Value) -> Object {
        Object::from_value(json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "data": data})).unwrap()
    }

    #[test]
    fn a_secret_shows_that_it_changed_and_nothing_else() {
        let (a, b) = (object("Secret", &json!({"west": "aGVsbG8="})), object("Secret", &json!({"west": "d29ybGQ="})));
        let changes = diff(Some(&a), Some(&b));
        let text = format!("{changes:?}");
        assert!(text.contains("[secret ") && !text.contains("aGVsbG8") && !text.contains("d29ybGQ"), "{text}");
        assert!(matches!(&changes[0].change, ValueChange::Changed(before, after) if before != after));
    }

    #[test]
    fn documents_inside_a_text_are_compared_by_the_names_of_their_elements() {
        let peers = |names: &[&str]| {
            let peers: Vec<_> = names.iter().map(|name| json!({"name": name, "keys": ["k"]})).collect();
            object("ConfigMap", &json!({"peers.json": json!({"version": 1, "peers": peers}).to_string()}))
        };
        let changes = diff(Some(&peers(&["east", "north"])), Some(&peers(&["east", "west"])));
        let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["data[\"peers.json\"].peers[north]", "data[\"peers.json\"].peers[west]"]);
        assert_eq!(changes[1].change, ValueChange::Added("keys k".into()));
    }

    #[test]
    fn lists_of_texts_are_compared_as_sets() {
        let list = |items: &[&str]| object("ConfigMap", &json!({"list": items}));
        let changes = diff(Some(&list(&["a", "b"])), Some(&list(&["b", "c"])));
        assert_eq!(changes.len(), 2);
        assert!(!diff(Some(&list(&["a", "b"])), Some(&list(&["b", "a"]))).is_empty());
    }

    #[test]
    fn certificates_are_one_line_in_either_spelling() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        let plain = condense(&format!("a: |\n  {pem}b"));
        assert_eq!(plain, format!("a: |\n  <certificate sha256:{}…>\nb", Digest::of(&[0, 1, 2]).short(12)));
        let escaped = condense(&json!({"pem": pem}).to_string());
        assert_eq!(escaped, format!("{{\"pem\":\"<certificate sha256:{}…>\"}}", Digest::of(&[0, 1, 2]).short(12)));
        assert_eq!(condense("-----BEGIN CERTIFICATE-----\nAAEC"), "-----BEGIN CERTIFICATE-----\nAAEC");
    }

    #[test]
    fn texts_are_compared_by_lines_and_control_characters_are_escaped() {
        let (a, b) = (
            object("ConfigMap", &json!({"mesh": "a\nb\nc\n"})),
            object("ConfigMap", &json!({"mesh": "a\nB\u{1b}[2J\nc\n"})),
        );
        let changes = diff(Some(&a), Some(&b));
        assert_eq!(changes[0].path, "data.mesh");
        assert_eq!(
            changes[0].change,
            ValueChange::Lines(vec!["  a".into(), "- b".into(), "+ B\\u{1b}[2J".into(), "  c".into()])
        );
    }

    proptest! {
        #[test]
        fn equal_objects_have_no_difference_and_unequal_ones_have(a in "[a-c\n]{0,6}", b in "[a-c\n]{0,6}") {
            let (x, y) = (object("ConfigMap", &json!({"k": a})), object("ConfigMap", &json!({"k": b})));
            prop_assert_eq!(diff(Some(&x), Some(&y)).is_empty(), a == b);
        }
    }

    #[test]
    fn dangerous_fields_come_first_and_annotations_last() {
        let form = |notes: &str, image: &str, replicas: u8| {
            let text = format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a, annotations: {{{notes}}}}}\nspec:\n  replicas: {replicas}\n  template:\n    metadata: {{labels: {{image: \"{replicas}\"}}}}\n    spec: {{containers: [{{name: c, image: \"{image}\"}}]}}\n"
            );
            crate::types::object::parse(text.as_bytes()).unwrap()
        };
        let (before, after) = (form("", "x:1", 1), form("a: b, image: c", "evil:1", 2));
        let found = diff(Some(&before), Some(&after));
        let paths: Vec<&str> = found.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths[..2], ["spec.template.spec.containers[c].image", "spec.replicas"], "{paths:?}");
        assert!(paths.len() > 3 && paths[2..].iter().all(|path| path.contains("metadata.")), "{paths:?}");
    }
}
