//! What is rendered of one cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::pipeline::render::reasons::RenderWait;
use crate::pipeline::render::rendered::RenderedObject;
use crate::pipeline::template::Overridden;
use crate::types::diagnostic::Diagnostic;
use crate::types::name::ClusterName;
use crate::types::step::StepId;

/// All output for one cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RenderedCluster {
    /// Kubernetes objects, sorted by id, one file each below `rendered/<cluster>/`.
    pub objects: Vec<RenderedObject>,
    /// Files that are no Kubernetes objects, by path below the checkout: `rendered/<cluster>/kustomization.yaml` and
    /// what lies in `values/<cluster>/`.
    pub extra: BTreeMap<String, ExtraFile>,
    /// Steps whose input was never seen, with what they wait for.
    pub waiting: Vec<(StepId, RenderWait)>,
    /// Overrides of templates that are in force, by path, with the fields that they change.
    pub overrides: BTreeMap<Arc<str>, Vec<Overridden>>,
    /// What is odd and no error.
    pub warnings: Vec<Diagnostic>,
}

/// A file that is no Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraFile {
    /// Its whole text.
    pub text: String,
    /// Its steps, in order; empty for the kustomization, which follows from all.
    pub steps: Vec<StepId>,
}

/// Files of each cluster's folder with remote secrets that are not rendered now and stay. The kustomization lists them, or they
/// would be pruned: those made by hand and given to this mesh until ours take their places, and ours while they wait.
pub type Given = BTreeMap<ClusterName, Vec<String>>;
