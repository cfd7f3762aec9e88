//! An object of ours in the making, with the labels and annotations that each of them has.

use serde_json::{Map, Value};

use crate::pipeline::render::rendered::RenderedObject;
use crate::types::object::Object;
use crate::types::step::StepId;

/// An object in the making.
pub(super) struct ObjectDraft {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Map<String, Value>,
    pub(super) labels: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
    pub(super) fields: Map<String, Value>,
    pub(super) steps: Vec<StepId>,
}

impl ObjectDraft {
    pub(super) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.into());
        self
    }

    pub(super) fn annotation(mut self, key: &str, value: String) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    pub(super) fn field(mut self, key: &str, value: Value) -> Self {
        self.fields.insert(key.to_owned(), value);
        self
    }

    pub(super) fn done(self) -> RenderedObject {
        let (object, steps) = self.object();
        RenderedObject::new(object, steps)
    }

    pub(super) fn object(mut self) -> (Object, Vec<StepId>) {
        self.metadata.insert("labels".to_owned(), self.labels.into());
        self.metadata.insert("annotations".to_owned(), self.annotations.into());
        self.fields.insert("metadata".to_owned(), self.metadata.into());
        (Object { api_version: self.api_version, kind: self.kind, fields: self.fields }, self.steps)
    }
}
