//! Labels and annotations that each object of ours has.

use serde_json::{Map, Value};

use crate::model::needs::{NeedRow, Wave};
use crate::types::name::MeshName;
use crate::types::object::{MANAGED_BY, MANAGER, MESH_LABEL, OF_TREE, OWNER_LABEL, STEPS_ANNOTATION, SYNC_WAVE};
use crate::types::step::StepId;

/// The labels by which our tree writer knows its own.
pub(super) fn ownership(mesh: &MeshName) -> Map<String, Value> {
    let labels = [(MANAGED_BY, MANAGER), (MESH_LABEL, mesh.as_str()), (OWNER_LABEL, OF_TREE)];
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// The steps of an object and the wave in which Argo CD syncs it: that of its first step.
pub(super) fn step_annotations(steps: &[StepId]) -> Map<String, Value> {
    let list: Vec<_> = steps.iter().map(ToString::to_string).collect();
    let wave = steps.iter().map(|step| NeedRow::of(step.kind).wave).min().unwrap_or(Wave::Components);
    let mut annotations = Map::new();
    annotations.insert(STEPS_ANNOTATION.to_owned(), list.join(",").into());
    annotations.insert(SYNC_WAVE.to_owned(), wave.number().to_string().into());
    annotations
}
