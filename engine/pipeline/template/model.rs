//! An override beside the built-in template that it replaces: where they differ, and whether they may.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;

use serde_json::Value;

use super::allowed::{May, may};
use crate::types::object::{Object, ObjectId};
use crate::types::text::cut;
use crate::types::yaml::{Content, Node};

/// Most characters of a value in a message.
const LONGEST_VALUE: usize = 120;

/// A field of an object that an override changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overridden {
    pub object: String,
    /// Path of the field, such as `spec.replicas`.
    pub field: String,
    /// What the built-in template has there, as JSON.
    pub before: Option<String>,
    /// What the override has there, as JSON.
    pub after: Option<String>,
}

/// Where an override changes what it may not.
#[derive(Debug, thiserror::Error)]
pub(super) enum OverrideFault {
    /// It renders an object that the built-in template does not.
    #[error("the override renders `{id}`, which the built-in template does not")]
    Stranger { id: ObjectId },
    /// It does not render an object.
    #[error("the override does not render `{id}`")]
    Missing { id: ObjectId },
    /// It renders an object twice.
    #[error("the override renders `{id}` twice")]
    Twice { id: ObjectId },
    /// A field that is not as it was.
    #[error(
        "`{}` of `{id}` cannot be overridden: expected {}, found {}",
        cut(.path, LONGEST_VALUE), shown(.wanted.as_ref()), shown(.found.as_ref())
    )]
    Field {
        id: ObjectId,
        path: String,
        /// Its value in the built-in template, when it has one.
        wanted: Option<Value>,
        /// Its value in the override, when it has one.
        found: Option<Value>,
    },
    #[error("`{path}` of `{id}` cannot be overridden: expected a whole number, found {}", shown(Some(.found)))]
    NotNumber { id: ObjectId, path: String, found: Value },
}

/// A value, fit for a message.
fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "none".to_owned(), Value::to_string);
    cut(&text, LONGEST_VALUE).into_owned()
}

/// Where an override changes what it may not, and the line of what it renders.
pub(super) type OverrideFaultAt = (usize, OverrideFault);

/// Compares what an override renders with what the built-in template renders. Gives the fields in which they differ.
pub(super) fn compare(wanted: &[Object], objects: &[(Object, Node)]) -> Result<Vec<Overridden>, Vec<OverrideFaultAt>> {
    let mut found = Comparison::default();
    for (object, node) in objects {
        if !wanted.iter().any(|wanted| wanted.id() == object.id()) {
            found.broken.push((node.line, OverrideFault::Stranger { id: object.id() }));
        }
    }
    for wanted in wanted {
        let id = wanted.id();
        let mut same = objects.iter().filter(|(object, _)| object.id() == id);
        match (same.next(), same.next()) {
            (Some((_, node)), None) => found.object(wanted, node),
            (None, _) => found.broken.push((1, OverrideFault::Missing { id })),
            (Some(_), Some((_, second))) => found.broken.push((second.line, OverrideFault::Twice { id })),
        }
    }
    if found.broken.is_empty() { Ok(found.overridden) } else { Err(found.broken) }
}

#[derive(Default)]
struct Comparison {
    overridden: Vec<Overridden>,
    broken: Vec<OverrideFaultAt>,
}

/// A field on the way down: keys, and places in lists.
#[derive(Clone, Copy)]
enum PathPart<'a> {
    Key(&'a str),
    Place(usize),
}

impl Comparison {
    fn object(&mut self, wanted: &Object, found: &Node) {
        self.field(&wanted.id(), &mut Vec::new(), Some(&wanted.to_value()), Some(found), found.line);
    }

    /// `line` is that of the field, or of what it is missing in.
    fn field<'a>(
        &mut self,
        id: &ObjectId,
        path: &mut Vec<PathPart<'a>>,
        wanted: Option<&'a Value>,
        found: Option<&'a Node>,
        line: usize,
    ) {
        let value = found.cloned().map(Node::into_value);
        if wanted == value.as_ref() {
            return;
        }
        let line = found.map_or(line, |found| found.line);
        let object = id.to_string();
        let segments: Vec<&str> = path.iter().map(|part| part.segment()).collect();
        match may(&object, &segments) {
            Some(May::Change) => self.differs(id, path, wanted, value),
            Some(May::Number) => match value {
                Some(found) if !found.is_u64() => {
                    self.broken.push((line, OverrideFault::NotNumber { id: id.clone(), path: written(path), found }));
                }
                value => self.differs(id, path, wanted, value),
            },
            Some(rule @ May::Add(_)) => self.entries(id, path, (wanted, found), (rule, line)),
            None => self.below(id, path, (wanted, found), line),
        }
    }

    /// Labels or annotations: what is there stays, and some keys may come.
    fn entries<'a>(
        &mut self,
        id: &ObjectId,
        path: &mut Vec<PathPart<'a>>,
        (wanted, found): (Option<&'a Value>, Option<&'a Node>),
        (rule, line): (May, usize),
    ) {
        let fields = match found.map(|found| &found.content) {
            Some(Content::Map(fields)) => Some(fields),
            Some(Content::Scalar(_) | Content::List(_)) => {
                return self.broken(id, path, wanted, found, line);
            }
            None => None,
        };
        let before = wanted.and_then(Value::as_object);
        let keys: BTreeSet<&str> = before.into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
        let added = fields.into_iter().flat_map(|fields| fields.keys().map(String::as_str));
        for key in keys.into_iter().chain(added).collect::<BTreeSet<_>>() {
            let wanted = before.and_then(|map| map.get(key));
            let found = fields.and_then(|fields| fields.get(key));
            path.push(PathPart::Key(key));
            match found.cloned().map(Node::into_value) {
                value if value.as_ref() == wanted => {}
                value @ Some(Value::String(_)) if wanted.is_none() && rule.add(key) => {
                    self.differs(id, path, wanted, value);
                }
                _ => self.broken(id, path, wanted, found, line),
            }
            path.pop();
        }
    }

    /// What may not differ by itself: its fields or places may.
    fn below<'a>(
        &mut self,
        id: &ObjectId,
        path: &mut Vec<PathPart<'a>>,
        (wanted, found): (Option<&'a Value>, Option<&'a Node>),
        line: usize,
    ) {
        match (wanted, found.map(|found| &found.content)) {
            (Some(Value::Object(before)), Some(Content::Map(after))) => {
                let keys: BTreeSet<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
                for key in keys {
                    path.push(PathPart::Key(key));
                    self.field(id, path, before.get(key), after.get(key), line);
                    path.pop();
                }
            }
            (Some(Value::Array(before)), Some(Content::List(after))) => {
                let found = self.broken.len();
                for place in 0..before.len().max(after.len()) {
                    // in a list of another length all that follows is another
                    if before.len() != after.len() && self.broken.len() > found {
                        break;
                    }
                    path.push(PathPart::Place(place));
                    self.field(id, path, before.get(place), after.get(place), line);
                    path.pop();
                }
            }
            _ => self.broken(id, path, wanted, found, line),
        }
    }

    fn broken(
        &mut self,
        id: &ObjectId,
        path: &[PathPart<'_>],
        wanted: Option<&Value>,
        found: Option<&Node>,
        line: usize,
    ) {
        let line = found.map_or(line, |found| found.line);
        let (wanted, found) = (wanted.cloned(), found.cloned().map(Node::into_value));
        self.broken.push((line, OverrideFault::Field { id: id.clone(), path: written(path), wanted, found }));
    }

    fn differs(&mut self, id: &ObjectId, path: &[PathPart<'_>], before: Option<&Value>, after: Option<Value>) {
        let (object, field) = (id.to_string(), written(path));
        let (before, after) = (before.map(Value::to_string), after.map(|value| value.to_string()));
        self.overridden.push(Overridden { object, field, before, after });
    }
}

impl<'a> PathPart<'a> {
    fn segment(self) -> &'a str {
        match self {
            Self::Key(key) => key,
            Self::Place(_) => "[]",
        }
    }
}

/// A path as people write it: `spec.containers[0].image`, `metadata.labels["a/b"]`.
fn written(path: &[PathPart<'_>]) -> String {
    let mut text = String::new();
    for part in path {
        match part {
            PathPart::Place(place) => text.push_str(&format!("[{place}]")),
            PathPart::Key(key) if !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric()) => {
                text.push_str(if text.is_empty() { "" } else { "." });
                text.push_str(key);
            }
            PathPart::Key(key) => text.push_str(&format!("[{key:?}]")),
        }
    }
    text
}
