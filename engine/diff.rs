//! Differences between two forms of an object, field by field, as a reviewer reads them.
//!
//! Data of Secrets is never shown: a digest says whether it changed. Certificates and keys inside other texts are condensed
//! to one line each, and texts of several lines are compared line by line.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::name::Digest;
use crate::object::Object;

/// Most lines shown of one text; the rest is counted.
const MAX_LINES: usize = 40;

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
    /// It appears.
    Added(String),
    /// It goes.
    Removed(String),
    /// It has another value.
    Changed(String, String),
    /// A text of several lines: lines with `+`, `-` or a space before them.
    Lines(Vec<String>),
}

/// The fields in which two forms of an object differ. Equal forms give none.
pub fn diff(before: Option<&Object>, after: Option<&Object>) -> Vec<FieldChange> {
    let secret = before.or(after).is_some_and(Object::is_secret);
    let mut changes = Vec::new();
    let value = |object: Option<&Object>| object.map(|object| Value::Object(object.fields.clone()));
    let mut walk = Walk { secret, changes: &mut changes };
    walk.compare("", value(before).as_ref(), value(after).as_ref());
    changes
}

struct Walk<'a> {
    secret: bool,
    changes: &'a mut Vec<FieldChange>,
}

impl Walk<'_> {
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
            (Some(Value::Array(a)), Some(Value::Array(b))) => {
                for at in 0..a.len().max(b.len()) {
                    self.compare(&format!("{path}[{at}]"), a.get(at), b.get(at));
                }
            }
            (None, None) => {}
            (before, after) => {
                let change = self.leaf(path, before, after);
                self.changes.push(FieldChange { path: path.to_owned(), change });
            }
        }
    }

    fn leaf(&self, path: &str, before: Option<&Value>, after: Option<&Value>) -> ValueChange {
        let hidden = self.secret && (path.starts_with("data") || path.starts_with("stringData"));
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
        other => printable(&condense(&other.to_string())),
    }
}

/// Control characters, as a peer might send them to a terminal, are shown escaped.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && c.is_control() {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
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
        let _ = write!(out, "<{} sha256:{}…>", label.to_ascii_lowercase(), digest.short(12));
        rest = tail.get(end.len()..).unwrap_or_default();
        rest = rest.strip_prefix("\\n").unwrap_or(rest);
    }
    out.push_str(rest);
    out
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
}
