//! One rendered object: made whole, or a text that is filled in only when someone wants to read it.

use std::borrow::Cow;

use crate::pipeline::render::fragments::FragmentedConfigMap;
use crate::pipeline::render::secret_text::SecretText;
use crate::pipeline::render::templated::TemplatedText;
use crate::types::name::Digest;
use crate::types::object::{Object, ObjectId, YamlError, parse, to_yaml_again};
use crate::types::step::StepId;

/// An object and the steps it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedObject {
    id: ObjectId,
    /// Its steps, in order.
    pub steps: Vec<StepId>,
    content: RenderedContent,
}

#[derive(Debug, Clone, PartialEq)]
enum RenderedContent {
    Whole(Object),
    /// An object of a component, whose text was filled in.
    Templated(TemplatedText),
    /// A remote secret of relay mode. A mesh of a thousand clusters has a million of them.
    Secret(SecretText),
    /// A ConfigMap of long texts.
    Fragmented(FragmentedConfigMap),
}

impl RenderedObject {
    pub(super) fn new(object: Object, steps: Vec<StepId>) -> Self {
        Self { id: object.id(), steps, content: RenderedContent::Whole(object) }
    }

    pub(super) fn templated(id: ObjectId, steps: Vec<StepId>, text: TemplatedText) -> Self {
        Self { id, steps, content: RenderedContent::Templated(text) }
    }

    pub(super) fn secret(id: ObjectId, step: StepId, secret_text: SecretText) -> Self {
        Self { id, steps: vec![step], content: RenderedContent::Secret(secret_text) }
    }

    pub(super) fn pieced(id: ObjectId, steps: Vec<StepId>, config_map: FragmentedConfigMap) -> Self {
        Self { id, steps, content: RenderedContent::Fragmented(config_map) }
    }

    /// Which object it is.
    pub fn id(&self) -> &ObjectId {
        &self.id
    }

    /// The object, parsed from its text where it was made as text.
    pub fn object(&self) -> Result<Cow<'_, Object>, YamlError> {
        match &self.content {
            RenderedContent::Whole(object) => Ok(Cow::Borrowed(object)),
            RenderedContent::Templated(templated) => Ok(Cow::Owned(templated.object())),
            RenderedContent::Secret(secret_text) => {
                let object = parse(secret_text.text().as_bytes());
                object.map(Cow::Owned).ok_or_else(|| YamlError::NotReadBack { id: self.id.clone() })
            }
            RenderedContent::Fragmented(config_map) => Ok(Cow::Owned(config_map.object())),
        }
    }

    /// The canonical text, equal to that of [`Object::to_yaml`].
    pub fn to_yaml(&self) -> Result<Cow<'_, str>, YamlError> {
        match &self.content {
            RenderedContent::Whole(object) => to_yaml_again(object).map(Cow::Owned),
            RenderedContent::Templated(templated) => Ok(Cow::Borrowed(&templated.text)),
            RenderedContent::Secret(secret_text) => Ok(Cow::Owned(secret_text.text())),
            RenderedContent::Fragmented(config_map) => config_map.yaml().map(Cow::Owned),
        }
    }

    /// The canonical text, equal to that of [`Object::to_yaml`].
    pub fn into_yaml(self) -> Result<String, YamlError> {
        match self.content {
            RenderedContent::Templated(templated) => Ok(templated.text),
            _ => self.to_yaml().map(Cow::into_owned),
        }
    }

    /// A digest over everything that the text is made of, which is cheaper to have than the text: objects of equal inputs
    /// have equal texts. `None` where the text is there already, or cannot be made.
    pub fn inputs(&self) -> Option<Digest> {
        match &self.content {
            RenderedContent::Templated(_) => None,
            RenderedContent::Whole(object) => serde_json::to_vec(object).ok().map(|bytes| Digest::of(&bytes)),
            RenderedContent::Secret(secret_text) => Some(secret_text.inputs()),
            RenderedContent::Fragmented(config_map) => Some(config_map.inputs()),
        }
    }

    /// Bytes of the data of a ConfigMap.
    pub(super) fn config_map_bytes(&self) -> Option<usize> {
        let object = match &self.content {
            RenderedContent::Whole(object) => object,
            RenderedContent::Templated(templated) => &templated.bare,
            RenderedContent::Secret(_) => return None,
            RenderedContent::Fragmented(config_map) => return Some(config_map.bytes()),
        };
        let data = object.fields.get("data").filter(|_| object.kind == "ConfigMap")?.as_object();
        Some(data.into_iter().flatten().map(|(key, text)| key.len() + text.as_str().map_or(0, str::len)).sum())
    }
}
