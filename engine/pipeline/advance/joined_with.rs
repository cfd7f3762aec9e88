//! With what the links of each cluster were begun: recorded with the first of them, forgotten with the last.

use std::collections::BTreeSet;

use crate::model::known::KnownCluster;
use crate::model::lock::{JoinedWith, Lock};
use crate::model::mesh::Mesh;
use crate::types::name::ClusterName;

/// Records what links that are there rest on, and forgets it where there are none. How a cluster is reached may change beside
/// them, so that is the last that is known. A lock of version 1 has no records: its
/// links were begun with what spec and lock say.
pub(super) fn record(mesh: &Mesh, lock: &mut Lock) {
    let linked: BTreeSet<ClusterName> = lock.linked().cloned().collect();
    for name in mesh.clusters.keys() {
        let Some(locked) = lock.clusters.get(name) else { continue };
        let now = || KnownCluster::of(mesh, lock, name).and_then(|known| known.joins_with(mesh));
        let record = match (&locked.joined_with, linked.contains(name)) {
            (_, false) => None,
            (None, true) => now(),
            (Some(joined), true) => {
                let reach = now().map_or_else(|| joined.reach.clone(), |now| now.reach);
                Some(JoinedWith { reach, ..joined.clone() })
            }
        };
        lock.former.remove(name);
        if let Some(locked) = lock.clusters.get_mut(name) {
            locked.joined_with = record;
            locked.lost &= linked.contains(name);
        }
    }
}
