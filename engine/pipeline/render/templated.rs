//! Objects of component templates, as texts that are filled in.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::pipeline::render::marks::{ownership, step_annotations};
use crate::types::name::{ClusterName, MeshName};
use crate::types::object::Object;
use crate::types::step::{StepId, StepKind};
use crate::wire::hand_over::ARGO_KEEPS;

/// An object of a template as its canonical text, which is all that most of them are asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TemplatedText {
    pub(super) text: String,
    /// Without our labels and annotations.
    pub(super) bare: Arc<Object>,
    pub(super) mesh: MeshName,
    pub(super) cluster: ClusterName,
}

impl TemplatedText {
    /// The object that the text is of.
    pub(super) fn object(&self) -> Object {
        adopted(&self.mesh, Object::clone(&self.bare), &steps_of(&self.cluster), &[])
    }
}

/// Puts our labels and annotations on an object of a template. What an override lists under the key of a mark stays beside it where
/// that is a list, but for what would undo the mark.
pub(super) fn adopted(mesh: &MeshName, mut object: Object, steps: &[StepId], marks: &[(&str, &str)]) -> Object {
    let added = [("labels", ownership(mesh)), ("annotations", step_annotations(steps))];
    if let Some(Value::Object(metadata)) = object.fields.get_mut("metadata") {
        for (field, added) in added {
            let entry = metadata.entry(field).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = entry {
                map.extend(added);
            } else {
                *entry = Value::Object(added);
            }
        }
        let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else {
            return object;
        };
        for (key, mark) in marks {
            let stated = annotations.get(*key).and_then(Value::as_str).filter(|_| *key == ARGO_KEEPS.0);
            let marked = mark.split(',').filter_map(|option| option.split_once('=')).map(|(name, _)| name);
            let marked: Vec<&str> = marked.collect();
            let is_beside = |option: &&str| {
                let name = option.split('=').next().unwrap_or_default();
                !name.is_empty() && !marked.contains(&name)
            };
            let beside = stated.unwrap_or_default().split(',').map(str::trim).filter(is_beside);
            let all: Vec<&str> = beside.chain([*mark]).collect();
            annotations.insert((*key).to_owned(), all.join(",").into());
        }
    }
    object
}

/// The steps of an object of a template.
pub(super) fn steps_of(cluster: &ClusterName) -> Vec<StepId> {
    vec![StepId::of(StepKind::RenderComponents, cluster)]
}
