//! Advancing links: how far each link may go in this run, by what the clusters show to be live.
//!
//! A secret sends live traffic the moment istiod reads it. So the move from joining to joined waits until both roots, the
//! peer's network, the route and the peer's admission are seen live, and leaving goes the same way back, one stage a run.
//! The stage is pure: it sees the mesh, the lock and what [`accept`](mod@crate::pipeline::accept) took, and never asks anyone.

mod domains;
mod gate;
pub(crate) mod gone;
mod guard;
mod hand_over;
mod join;
mod joined_with;
mod leave;
mod links;
mod mesh_config;
mod reasons;

use std::collections::{BTreeMap, BTreeSet};

use self::links::Links;
use crate::model::known::KnownCluster;
use crate::model::lock::{Edit, LockedCluster, MESH_NAME};
use crate::model::mesh::{Mesh, State};
use crate::pipeline::accept::{Accepted, Assessment};
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;

pub use self::domains::notes as domain_notes;
pub(crate) use self::guard::Closing;
pub use self::links::{Advanced, Move};
pub(crate) use self::reasons::standard_networks;
pub use self::reasons::{AdvanceRefusal, DomainLack, HandOverLack, LinkWait, StandardLack, Unproven, Withdrawn};

/// Moves every link at most one stage. `allow_delete` lifts the deletion guard; `now` counts how long a stage of leaving
/// lasted that no evidence can show to be over.
///
/// Clusters that are held back keep all their links' stages, as paused ones do.
pub fn advance<'a>(
    mesh: &'a Mesh,
    accepted: &'a Accepted,
    held_back: &BTreeSet<&'a ClusterName>,
    allow_delete: bool,
    now: Timestamp,
) -> Advanced {
    let paused = mesh.clusters.values().filter(|cluster| cluster.state == State::Paused).map(|cluster| &cluster.name);
    let unwritten: BTreeSet<&ClusterName> = paused.chain(held_back.iter().copied()).collect();
    let assessment = |is_so: fn(&Assessment) -> bool| {
        accepted.assessments.iter().filter(move |(_, assessment)| is_so(assessment)).map(|(name, _)| name)
    };
    let mut lock = accepted.lock.clone();
    for (name, cluster) in &mesh.clusters {
        if let Some(locked) = lock.clusters.get_mut(name) {
            locked.lost |= cluster.state == State::Lost;
        }
    }
    let is_lost = |name: &&ClusterName| {
        let declared = mesh.clusters.get(*name).is_some_and(|cluster| cluster.state == State::Lost);
        declared || lock.clusters.get(*name).is_some_and(|locked: &LockedCluster| locked.lost)
    };
    let renamed = |name: &'a ClusterName| {
        let known = KnownCluster::of(mesh, &accepted.lock, name).filter(|known| !known.awaits_gateways())?;
        let (joined, wanted) = (known.joined_with()?, known.joins_with(mesh)?);
        let mut edits = joined.renamed(&wanted);
        if accepted.lock.only_joins(name) {
            edits.extend(joined.spec.edits(&wanted.spec).into_iter().filter(|edit| edit.field != MESH_NAME));
        }
        (!edits.is_empty()).then_some((name, edits))
    };
    let renamed: BTreeMap<&ClusterName, Vec<Edit>> = mesh.clusters.keys().filter_map(renamed).collect();
    let mut links = Links {
        mesh,
        accepted,
        allow_delete,
        now,
        still: assessment(Assessment::is_held_back).chain(unwritten.iter().copied()).collect(),
        unwritten,
        rebuilt: assessment(|assessment| assessment.rebuilt).collect(),
        lost: mesh.clusters.keys().filter(is_lost).collect(),
        renamed: renamed.keys().copied().collect(),
        marked: BTreeSet::new(),
        advanced: Advanced {
            lock,
            renamed: renamed.into_iter().map(|(name, edits)| (name.clone(), edits)).collect(),
            ..Advanced::default()
        },
    };
    links.wait_for_gateways();
    links.join();
    links.leave();
    links.leave_what_is_read();
    links.merge_domains();
    links.guard();
    links.number();
    joined_with::record(&mut links);
    links.hand_over();
    links.move_mesh_config();
    links.advanced
}
