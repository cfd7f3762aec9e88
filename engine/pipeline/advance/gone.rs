//! What is forgotten, and what is refused, once all links have moved.

use std::collections::BTreeSet;

use crate::model::lock::Lock;
use crate::model::mesh::Mesh;
use crate::pipeline::accept::{Accepted, hides_our_roots};
use crate::pipeline::advance::Advanced;
use crate::pipeline::advance::reasons::AdvanceRefusal;
use crate::types::name::ClusterName;
use crate::types::step::{StepId, StepKind};

/// A leaving cluster that no link names any more is forgotten, unless something of it is lost.
pub(crate) fn forget_the_gone(mesh: &Mesh, held_back: &BTreeSet<&ClusterName>, lock: &mut Lock) {
    let named: BTreeSet<&ClusterName> = lock.linked().chain(held_back.iter().copied()).collect();
    let leaving = mesh.clusters.values().filter(|cluster| cluster.state.is_going());
    let gone: Vec<ClusterName> =
        leaving.map(|cluster| &cluster.name).filter(|name| !named.contains(name)).cloned().collect();
    for name in gone {
        lock.clusters.remove(&name);
        lock.serials.remove(&name);
    }
}

/// A standard mesh configuration that hides ours is refused for its cluster.
pub(crate) fn refuse_hidden_roots(mesh: &Mesh, accepted: &Accepted, advanced: &mut Advanced) {
    for (name, assessment) in &accepted.assessments {
        if mesh.clusters.get(name).is_some_and(|cluster| hides_our_roots(cluster, assessment)) {
            advanced.refusals.insert(StepId::of(StepKind::RenderTrust, name), AdvanceRefusal::HiddenRootCas);
        }
    }
}
