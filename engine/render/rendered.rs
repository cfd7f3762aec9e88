//! One rendered object: made whole, or a text that is filled in only when somebody wants to read it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::listing::{Listing, with_data};
use super::secret::Filled;
use crate::name::Digest;
use crate::object::{Object, ObjectId, YamlError};
use crate::plan::parse;
use crate::step::StepId;

/// An object and the steps it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedObject {
    id: ObjectId,
    /// Its steps, in order.
    pub steps: Vec<StepId>,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    /// The object, and its canonical text where that was cheaper to make in another way.
    Whole { object: Object, yaml: Option<String> },
    /// A remote secret of relay mode. A mesh of a thousand clusters has a million of them.
    Secret(Filled),
    /// A ConfigMap that lists peers.
    Listing(Listing),
}

impl RenderedObject {
    pub(super) fn new(object: Object, steps: Vec<StepId>) -> Self {
        Self { id: object.id(), steps, content: Content::Whole { object, yaml: None } }
    }

    /// With its canonical text.
    pub(super) fn with_yaml(mut self, text: Option<String>) -> Self {
        if let Content::Whole { yaml, .. } = &mut self.content {
            *yaml = text;
        }
        self
    }

    pub(super) fn secret(id: ObjectId, step: StepId, filled: Filled) -> Self {
        Self { id, steps: vec![step], content: Content::Secret(filled) }
    }

    pub(super) fn listing(id: ObjectId, steps: Vec<StepId>, listing: Listing) -> Self {
        Self { id, steps, content: Content::Listing(listing) }
    }

    /// With these texts as its data.
    pub(super) fn with_data(mut self, data: &BTreeMap<String, String>) -> Self {
        if let Content::Whole { object, .. } = self.content {
            self.content = Content::Whole { object: with_data(object, data), yaml: None };
        }
        self
    }

    /// Which object it is.
    pub fn id(&self) -> &ObjectId {
        &self.id
    }

    /// The object itself.
    pub fn object(&self) -> Result<Cow<'_, Object>, YamlError> {
        match &self.content {
            Content::Whole { object, .. } => Ok(Cow::Borrowed(object)),
            Content::Secret(filled) => {
                let object = parse(filled.text().as_bytes());
                object.map(Cow::Owned).ok_or_else(|| YamlError(format!("{} does not read back", self.id)))
            }
            Content::Listing(listing) => Ok(Cow::Owned(listing.object())),
        }
    }

    /// The canonical text, equal to that of [`Object::to_yaml`].
    pub fn to_yaml(&self) -> Result<Cow<'_, str>, YamlError> {
        match &self.content {
            Content::Whole { yaml: Some(text), .. } => Ok(Cow::Borrowed(text)),
            Content::Whole { object, yaml: None } => object.to_yaml().map(Cow::Owned),
            Content::Secret(filled) => Ok(Cow::Owned(filled.text())),
            Content::Listing(listing) => listing.yaml().map(Cow::Owned),
        }
    }

    /// The canonical text, equal to that of [`Object::to_yaml`].
    pub fn into_yaml(self) -> Result<String, YamlError> {
        match self.content {
            Content::Whole { yaml: Some(text), .. } => Ok(text),
            _ => self.to_yaml().map(Cow::into_owned),
        }
    }

    /// A digest over everything that the text is made of, where that is cheaper to have than the text: objects of equal
    /// inputs have equal texts.
    pub fn inputs(&self) -> Option<Digest> {
        match &self.content {
            Content::Whole { .. } => None,
            Content::Secret(filled) => Some(filled.inputs()),
            Content::Listing(listing) => Some(listing.inputs()),
        }
    }

    /// Bytes of the data of a ConfigMap.
    pub(super) fn config_map_bytes(&self) -> Option<usize> {
        let object = match &self.content {
            Content::Whole { object, .. } => object,
            Content::Secret(_) => return None,
            Content::Listing(listing) => return Some(listing.bytes()),
        };
        let data = object.fields.get("data").filter(|_| object.kind == "ConfigMap")?.as_object();
        Some(data.into_iter().flatten().map(|(key, text)| key.len() + text.as_str().map_or(0, str::len)).sum())
    }
}
