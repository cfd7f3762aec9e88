//! Trees → values with places. Each reading reports what is wrong and continues with the next field.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::spec::finding::{FoundValue, SpecFinding};
use crate::spec::tree::{DocumentNode, FileFindings, MapEntry, NodeContent};
use crate::types::diagnostic::{Diagnostic, Location};
use crate::types::name::InvalidName;

/// Field of a Cluster that older versions read.
pub(super) const FORMER_KEY: &str = "key";

/// A value and the place it was written at.
#[derive(Clone)]
pub struct At<T> {
    pub value: T,
    pub at: Location,
}

impl<T: fmt::Debug> fmt::Debug for At<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @ {}", self.value, self.at)
    }
}

impl<T> At<T> {
    /// Another value of the same place.
    pub(crate) fn map<U>(self, with: impl FnOnce(T) -> U) -> At<U> {
        At { value: with(self.value), at: self.at }
    }
}

/// Collects the findings while a document is read.
pub(super) struct FieldReader<'f> {
    pub(super) findings: &'f mut FileFindings,
    /// Unknown fields are warnings: the document belongs to an API of others that may be newer than this engine.
    pub(super) lenient: bool,
}

/// The fields of a mapping.
pub(super) struct Fields<'n> {
    entries: &'n [MapEntry],
    /// Where the mapping is, for what is missing in it.
    pub(super) at: Location,
    what: &'static str,
}

impl<'n> Fields<'n> {
    /// The value of a field; `None` when it is not there.
    pub(super) fn get(&self, key: &str) -> Option<&'n Arc<DocumentNode>> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// All keys with their places, and their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (At<&'n str>, &'n Arc<DocumentNode>)> + use<'n> {
        let at = |entry: &'n MapEntry| At { value: entry.key.as_str(), at: entry.key_at.clone() };
        self.entries.iter().map(move |entry| (at(entry), &entry.value))
    }

    /// Where the key of a field is.
    pub(super) fn key_at(&self, key: &str) -> Option<&'n Location> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.key_at)
    }
}

impl FieldReader<'_> {
    pub(super) fn error(&mut self, at: &Location, what: &SpecFinding<'_>) {
        self.findings.push(Diagnostic::error(Some(at.clone()), what));
    }

    /// The fields of a mapping, each of which must be known.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n DocumentNode,
        what: &'static str,
        known: &[&str],
    ) -> Option<Fields<'n>> {
        self.fields_after(node, what, known, &[])
    }

    /// The same for a mapping that had other fields in an earlier version: those are refused, with the way out.
    pub(super) fn fields_after<'n>(
        &mut self,
        node: &'n DocumentNode,
        what: &'static str,
        known: &[&str],
        former: &[&str],
    ) -> Option<Fields<'n>> {
        let fields = self.mapping(node, what, known)?;
        for entry in fields.entries {
            if known.contains(&entry.key.as_str()) || self.findings.is_full() {
                continue;
            }
            if former.contains(&entry.key.as_str()) {
                self.former(&entry.key_at, &entry.key);
                continue;
            }
            let unknown = SpecFinding::UnknownField { field: &entry.key, of: what, known };
            let at = Some(entry.key_at.clone());
            let finding = if self.lenient { Diagnostic::warning(at, unknown) } else { Diagnostic::error(at, unknown) };
            self.findings.push(finding);
        }
        Some(fields)
    }

    /// A field that an older version had. A cluster's key was read here, and is read by no one any more; what is else there
    /// belongs to direct credentials.
    fn former(&mut self, at: &Location, field: &str) {
        match field {
            FORMER_KEY => self.findings.push(Diagnostic::warning(Some(at.clone()), SpecFinding::ClusterKey)),
            direct => self.refuse_direct(at, direct),
        }
    }

    /// Refuses what belongs to direct credentials.
    pub(super) fn refuse_direct(&mut self, at: &Location, stated: &str) {
        self.findings.push(Diagnostic::refusal(Some(at.clone()), SpecFinding::Direct { stated }));
    }

    /// The fields of a mapping of which only some matter here.
    pub(super) fn open_fields<'n>(&mut self, node: &'n DocumentNode, what: &'static str) -> Option<Fields<'n>> {
        self.mapping(node, what, &[])
    }

    fn mapping<'n>(&mut self, node: &'n DocumentNode, what: &'static str, known: &[&str]) -> Option<Fields<'n>> {
        match &node.content {
            NodeContent::Map(entries) => Some(Fields { entries, at: node.at.clone(), what }),
            NodeContent::Null | NodeContent::Scalar { .. } | NodeContent::List(_) => {
                self.error(
                    &node.at,
                    &SpecFinding::NotMapping { of: what, found: FoundValue::Kind(node.kind()), known },
                );
                None
            }
        }
    }

    /// A field that must be there.
    pub(super) fn required<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<&'n Arc<DocumentNode>> {
        let found = fields.get(key);
        if found.is_none() {
            self.error(&fields.at, &SpecFinding::FieldMissing { field: key, of: fields.what });
        }
        found
    }

    /// A text, taken literally: `no`, `012` and `1.10` stay what they are.
    pub(super) fn text(&mut self, node: Option<&Arc<DocumentNode>>) -> Option<At<String>> {
        let node = node?;
        match &node.content {
            NodeContent::Scalar { text, .. } => Some(At { value: text.clone(), at: node.at.clone() }),
            NodeContent::Null => {
                self.error(&node.at, &SpecFinding::Empty);
                None
            }
            NodeContent::List(_) | NodeContent::Map(_) => {
                self.error(&node.at, &SpecFinding::NotText { found: node.found() });
                None
            }
        }
    }

    /// A text of a grammar.
    pub(super) fn name<T>(&mut self, node: Option<&Arc<DocumentNode>>) -> Option<At<T>>
    where
        T: FromStr<Err = InvalidName>,
    {
        let At { value: text, at } = self.text(node)?;
        if text.contains("PRIVATE KEY") {
            self.error(&at, &SpecFinding::PrivateKey);
            return None;
        }
        match text.parse() {
            Ok(value) => Some(At { value, at }),
            Err(error) => {
                let near = [text.trim().to_owned(), text.trim().to_lowercase()];
                let near = near.into_iter().find(|near| *near != text && near.parse::<T>().is_ok());
                self.error(&at, &SpecFinding::Invalid { error: &error, near: near.as_deref() });
                None
            }
        }
    }

    /// A key of a grammar.
    pub(super) fn key<T>(&mut self, key: &At<&str>) -> Option<At<T>>
    where
        T: FromStr<Err = InvalidName>,
    {
        match key.value.parse() {
            Ok(value) => Some(At { value, at: key.at.clone() }),
            Err(error) => {
                self.error(&key.at, &SpecFinding::Invalid { error: &error, near: None });
                None
            }
        }
    }

    /// `true` or `false`, without quotes.
    pub(super) fn flag(&mut self, node: Option<&Arc<DocumentNode>>) -> Option<At<bool>> {
        let node = node?;
        let value = match &node.content {
            NodeContent::Scalar { text, plain: true } if text == "true" => true,
            NodeContent::Scalar { text, plain: true } if text == "false" => false,
            _ => {
                self.error(&node.at, &SpecFinding::NotFlag { found: node.found() });
                return None;
            }
        };
        Some(At { value, at: node.at.clone() })
    }

    /// `none`, or a mapping as it is, which belongs to someone else's format.
    pub(super) fn none_or_map(&mut self, node: Option<&Arc<DocumentNode>>) -> Option<At<Map<String, Value>>> {
        let node = node?;
        let value = match (&node.content, node.value()) {
            (NodeContent::Scalar { text, .. }, _) if text == "none" => Map::new(),
            (_, Value::Object(map)) => map,
            _ => {
                self.error(&node.at, &SpecFinding::NotNoneOrMap { found: node.found() });
                return None;
            }
        };
        Some(At { value, at: node.at.clone() })
    }

    /// A whole number in plain digits.
    pub(super) fn number(&mut self, node: Option<&Arc<DocumentNode>>, range: RangeInclusive<u64>) -> Option<At<u64>> {
        let node = node?;
        let value = match &node.content {
            NodeContent::Scalar { text, plain: true }
                if text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0')) =>
            {
                text.parse().ok().filter(|value| range.contains(value))
            }
            _ => None,
        };
        if value.is_none() {
            self.error(&node.at, &SpecFinding::NotNumber { found: node.found(), range });
        }
        value.map(|value| At { value, at: node.at.clone() })
    }

    /// One of some values.
    pub(super) fn choice<T: Copy>(&mut self, node: Option<&Arc<DocumentNode>>, choices: &[(&str, T)]) -> Option<At<T>> {
        let At { value: text, at } = self.text(node)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(At { value: *value, at });
        }
        let names: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.error(&at, &SpecFinding::NotChoice { text: &text, choices: &names });
        None
    }

    /// The items of a list.
    pub(super) fn list<'n>(&mut self, node: Option<&'n Arc<DocumentNode>>) -> Option<At<&'n [Arc<DocumentNode>]>> {
        let node = node?;
        if let NodeContent::List(items) = &node.content {
            return Some(At { value: items, at: node.at.clone() });
        }
        self.error(&node.at, &SpecFinding::NotList { found: FoundValue::Kind(node.kind()) });
        None
    }

    /// A list of texts of a grammar.
    pub(super) fn names<T>(&mut self, node: Option<&Arc<DocumentNode>>) -> Option<At<Vec<At<T>>>>
    where
        T: FromStr<Err = InvalidName>,
    {
        let items = self.list(node)?;
        Some(items.map(|items| items.iter().filter_map(|item| self.name(Some(item))).collect()))
    }
}
