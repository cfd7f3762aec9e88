//! ConfigMaps of long texts: how their YAML is made without a serializer, and those that list one peer a line.
//!
//! A list differs from turn to turn in few lines, so its text is made only when somebody reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::name::Digest;
use crate::object::{Object, YamlError};

/// One line of a list, made once for all readers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    text: Arc<str>,
    digest: Digest,
}

impl Entry {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.into(), digest: Digest::of(text.as_bytes()) }
    }
}

/// A ConfigMap with one key, whose text is a JSON document that ends with a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listing {
    /// The object without its data.
    frame: Object,
    key: &'static str,
    /// The text up to the list.
    head: String,
    entries: Vec<Entry>,
}

impl Listing {
    pub(super) fn new(frame: Object, key: &'static str, head: String, entries: Vec<Entry>) -> Self {
        Self { frame, key, head, entries }
    }

    fn data(&self) -> BTreeMap<String, String> {
        let mut text = String::with_capacity(self.bytes());
        text.push_str(&self.head);
        text.push('[');
        for (at, entry) in self.entries.iter().enumerate() {
            text.push_str(if at == 0 { "\n" } else { ",\n" });
            text.push_str(&entry.text);
        }
        text.push_str("]}\n");
        BTreeMap::from([(self.key.to_owned(), text)])
    }

    /// Bytes of the data.
    pub(super) fn bytes(&self) -> usize {
        let entries: usize = self.entries.iter().map(|entry| entry.text.len() + 2).sum();
        self.key.len() + self.head.len() + "[".len() + entries.saturating_sub(1) + "]}\n".len()
    }

    pub(super) fn object(&self) -> Object {
        with_data(self.frame.clone(), &self.data())
    }

    /// The canonical text.
    pub(super) fn yaml(&self) -> Result<String, YamlError> {
        yaml(&self.frame, &self.data()).map_or_else(|| self.object().to_yaml(), Ok)
    }

    /// A digest over all that the text is made of.
    pub(super) fn inputs(&self) -> Digest {
        let mut all = format!("{:?} {} {:?}", self.frame, self.key, self.head).into_bytes();
        for entry in &self.entries {
            all.extend(entry.digest.bytes());
        }
        Digest::of(&all)
    }
}

/// The object with these texts as its data.
pub(super) fn with_data(mut object: Object, data: &BTreeMap<String, String>) -> Object {
    let data: Map<_, _> = data.iter().map(|(key, text)| (key.clone(), text.clone().into())).collect();
    object.fields.insert("data".to_owned(), Value::Object(data));
    object
}

/// The canonical text of an object with these texts as its data. They are long, and YAML writes them as they are but for
/// the indentation. `None` for texts that it would write in another way.
pub(super) fn yaml(object: &Object, data: &BTreeMap<String, String>) -> Option<String> {
    let places = data.keys().enumerate().map(|(at, key)| (key.clone(), place(at))).collect();
    let text = with_data(object.clone(), &places).to_yaml().ok()?;
    let mut rest = text.as_str();
    let mut filled = String::with_capacity(data.values().map(|text| text.len() * 5 / 4).sum::<usize>() + text.len());
    for (at, block) in data.values().enumerate() {
        let plain = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
        let is_plain = block.bytes().all(plain) && !block.starts_with([' ', '\n']) && block.ends_with('\n');
        if !is_plain || block.contains("\n\n") || block.contains(" \n") {
            return None;
        }
        let (before, after) = rest.split_once(&place(at))?;
        let indentation = before.rsplit('\n').next()?;
        filled.push_str(before);
        for (at, line) in block.split_inclusive('\n').enumerate() {
            filled.push_str(if at == 0 { "" } else { indentation });
            filled.push_str(line);
        }
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

/// Stands for a text.
fn place(at: usize) -> String {
    format!("stand-in-{at}-for-a-text-xq7v3k9w2m5r8t4z\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame() -> Object {
        Object::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "isthmus-peers", "labels": { "a": "b" } },
        }))
        .unwrap()
    }

    /// What texts may hold, and what YAML minds.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a",
            "b: c",
            " ",
            "\n",
            "- ",
            "#",
            "\t",
            "é",
            "{\"",
            "'",
            "|",
            "%",
            "stand-in-0",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_the_serializer(one in text(), two in text(), end in prop::bool::ANY) {
            let end = if end { "\n" } else { "" };
            let data = BTreeMap::from([("a.json".to_owned(), one + end), ("b".to_owned(), two + "\n")]);
            if let Some(text) = yaml(&frame(), &data) {
                prop_assert_eq!(text, with_data(frame(), &data).to_yaml().unwrap());
            }
        }

        #[test]
        fn equal_inputs_mean_equal_texts(
            lists in prop::collection::vec((text(), prop::collection::vec("[ab]{0,2}", 0..4)), 2..5),
        ) {
            let listing = |(head, entries): &(String, Vec<String>)| {
                Listing::new(frame(), "k", head.clone(), entries.iter().map(|entry| Entry::new(entry)).collect())
            };
            for (one, other) in lists.iter().zip(lists.iter().skip(1)) {
                let (one, other) = (listing(one), listing(other));
                prop_assert_eq!(one.inputs() == other.inputs(), one == other);
                prop_assert_eq!(one.yaml().unwrap(), one.object().to_yaml().unwrap());
                prop_assert_eq!(one.bytes(), one.data().iter().map(|(key, text)| key.len() + text.len()).sum::<usize>());
            }
        }
    }

    #[test]
    fn long_lists_take_the_short_way() {
        let data = BTreeMap::from([("k".to_owned(), "{\n[\n{\"a\": 1},\n{}]}\n".to_owned())]);
        assert!(yaml(&frame(), &data).is_some());
    }
}
