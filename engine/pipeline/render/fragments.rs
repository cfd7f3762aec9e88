//! ConfigMaps of long texts, put together from fragments that readers share.
//!
//! Such a text differs from reader to reader and from run to run in few fragments. It is made only when someone reads it,
//! and then without a serializer: YAML writes a long text as it is but for the indentation, which each fragment keeps.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use crate::pipeline::render::text_template::TextTemplate;
use crate::types::name::Digest;
use crate::types::object::{Object, YamlError, to_yaml_again};

/// Of a text in the data of a ConfigMap, in the canonical form.
const INDENTATION: &str = "    ";
/// How such a text begins.
const BLOCK: &str = "|\n    ";

/// A part of a text, made once for all readers. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fragment(Arc<FragmentPart>);

#[derive(Debug)]
struct FragmentPart {
    text: String,
    /// The same with the indentation behind each line's end; `None` where YAML would write it in another way.
    indented: Option<String>,
    /// Made when someone asks for it.
    digest: OnceLock<Digest>,
}

impl PartialEq for FragmentPart {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Fragment {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let is_plain = text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte))
            && !text.contains("\n\n")
            && !text.contains(" \n");
        let indented = is_plain.then(|| text.replace('\n', &format!("\n{INDENTATION}")));
        Self(Arc::new(FragmentPart { text, indented, digest: OnceLock::new() }))
    }

    fn digest(&self) -> &Digest {
        self.0.digest.get_or_init(|| Digest::of(self.0.text.as_bytes()))
    }

    /// A JSON object that ends with a list of one entry a line: what comes before the list, and the entries.
    pub(super) fn list(head: String, entries: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let (first, next) = (Self::new("\n"), Self::new(",\n"));
        let mut fragments = vec![Self::new(head + "[")];
        for entry in entries {
            fragments.push(if fragments.len() == 1 { first.clone() } else { next.clone() });
            fragments.push(entry);
        }
        fragments.push(Self::new("]}\n"));
        fragments
    }
}

/// A ConfigMap of texts in fragments, by key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FragmentedConfigMap {
    /// The object without its data.
    frame: Object,
    data: BTreeMap<&'static str, Vec<Fragment>>,
}

impl FragmentedConfigMap {
    pub(super) fn new(frame: Object, data: BTreeMap<&'static str, Vec<Fragment>>) -> Self {
        Self { frame, data }
    }

    /// Bytes of the data.
    pub(super) fn bytes(&self) -> usize {
        let fragments =
            |fragments: &Vec<Fragment>| fragments.iter().map(|fragment| fragment.0.text.len()).sum::<usize>();
        self.data.iter().map(|(key, text)| key.len() + fragments(text)).sum()
    }

    pub(super) fn object(&self) -> Object {
        let text = |fragments: &Vec<Fragment>| fragments.iter().map(|fragment| fragment.0.text.as_str()).collect();
        self.with_texts(self.data.values().map(text))
    }

    /// The object with these texts as its data.
    fn with_texts(&self, texts: impl Iterator<Item = String>) -> Object {
        let mut object = self.frame.clone();
        let data: Map<_, _> = self.data.keys().map(|key| (*key).to_owned()).zip(texts.map(Value::from)).collect();
        object.fields.insert("data".to_owned(), Value::Object(data));
        object
    }

    /// The canonical text.
    pub(super) fn yaml(&self) -> Result<String, YamlError> {
        self.by_template().map_or_else(|| self.object().to_yaml(), Ok)
    }

    /// The canonical text, its blocks put into that of stand-ins. `None` where YAML would write a text in another way.
    fn by_template(&self) -> Option<String> {
        let blocks: Option<Vec<String>> = self.data.values().map(|fragments| block(fragments)).collect();
        let blocks = blocks?;
        let text = to_yaml_again(&self.with_texts((0..blocks.len()).map(stand_in))).ok()?;
        let places: Vec<String> = (0..blocks.len()).map(|at| format!("{BLOCK}{}", stand_in(at))).collect();
        let places: Vec<(&str, usize)> = places.iter().map(|place| (place.as_str(), 1)).collect();
        let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
        Some(TextTemplate::cut(&text, &places)?.fill(&blocks))
    }

    /// A digest over all that the text is made of.
    pub(super) fn inputs(&self) -> Digest {
        let mut all = format!("{:?}", self.frame).into_bytes();
        for (key, fragments) in &self.data {
            all.extend(format!(" {key:?} {} ", fragments.len()).into_bytes());
            all.extend(fragments.iter().flat_map(|fragment| *fragment.digest().bytes()));
        }
        Digest::of(&all)
    }
}

/// The text of these fragments as a block scalar; `None` where YAML would write it in another way.
fn block(fragments: &[Fragment]) -> Option<String> {
    let length: Option<usize> = fragments.iter().map(|fragment| fragment.0.indented.as_ref().map(String::len)).sum();
    let mut block = String::with_capacity(BLOCK.len() + length?);
    block.push_str(BLOCK);
    let mut last = None;
    for Fragment(part) in fragments.iter().filter(|fragment| !fragment.0.text.is_empty()) {
        match (last, part.text.chars().next()) {
            (None, Some(' ' | '\n')) | (Some(' ' | '\n'), Some('\n')) => return None,
            _ => block.push_str(part.indented.as_deref()?),
        }
        last = part.text.chars().next_back();
    }
    last.filter(|last| *last == '\n')?;
    block.truncate(block.len() - INDENTATION.len());
    Some(block)
}

fn stand_in(at: usize) -> String {
    format!("stand-in-{at}-for-a-text-xq7v3k9w2m5r8t4z\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config_map(data: &[(&'static str, Vec<String>)]) -> FragmentedConfigMap {
        let frame = Object::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "isthmus-peers", "labels": { "a": "b" } },
        }));
        let fragments = |texts: &Vec<String>| texts.iter().map(Fragment::new).collect();
        FragmentedConfigMap::new(frame.unwrap(), data.iter().map(|(key, texts)| (*key, fragments(texts))).collect())
    }

    /// What texts may hold, and what YAML minds.
    fn text() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
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
        prop::collection::vec(word, 0..4).prop_map(|parts| parts.concat())
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        let end = prop::sample::select(vec!["", "\n", "a\n"]);
        (prop::collection::vec(text(), 0..5), end).prop_map(|(mut texts, end)| {
            texts.push(end.to_owned());
            texts
        })
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_the_serializer(one in texts(), two in texts()) {
            let config_map = config_map(&[("a.json", one.clone()), ("b", two.clone())]);
            let object = config_map.object();
            prop_assert_eq!(&object.fields["data"]["a.json"], &one.concat());
            prop_assert_eq!(&object.fields["data"]["b"], &two.concat());
            prop_assert_eq!(config_map.yaml().unwrap(), object.to_yaml().unwrap());
            prop_assert_eq!(config_map.bytes(), "a.jsonb".len() + one.concat().len() + two.concat().len());
        }

        #[test]
        fn equal_inputs_mean_equal_texts(all in prop::collection::vec(prop::collection::vec("[ab]{0,2}", 0..4), 2..5)) {
            for (one, other) in all.iter().zip(all.iter().skip(1)) {
                let (one, other) = (config_map(&[("k", one.clone())]), config_map(&[("k", other.clone())]));
                prop_assert_eq!(one.inputs() == other.inputs(), one == other);
            }
        }
    }

    #[test]
    fn long_lists_take_the_short_way() {
        let list = Fragment::list("{\"a\":1,\n\"b\":".to_owned(), [Fragment::new("{\"c\": 1}"), Fragment::new("{}")]);
        let texts: Vec<String> = list.iter().map(|fragment| fragment.0.text.clone()).collect();
        assert_eq!(texts.concat(), "{\"a\":1,\n\"b\":[\n{\"c\": 1},\n{}]}\n");
        let config_map = config_map(&[("k", texts)]);
        assert_eq!(config_map.by_template(), Some(config_map.object().to_yaml().unwrap()));
    }
}
