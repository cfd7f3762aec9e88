//! With what the links of each cluster were begun: recorded with the first of them, forgotten with the last.

use std::collections::BTreeSet;

use crate::model::known::KnownCluster;
use crate::model::lock::{JoinedSpec, JoinedWith};
use crate::pipeline::advance::links::Links;
use crate::types::name::ClusterName;

/// Whether the relay of a cluster is to ask istiod for a token: as the Mesh states and, where it states nothing, as it was when
/// the first of the cluster's links opened; before that, where its istiod has the token.
pub(super) fn requires_token(links: &Links<'_>, cluster: &ClusterName) -> bool {
    let before = &links.accepted.lock;
    let recorded = before.clusters.get(cluster).and_then(|locked| locked.joined_with.as_ref());
    let recorded = recorded.is_some_and(|joined| joined.spec.require_token);
    if let Some(stated) = links.mesh.require_token {
        return stated;
    }
    let has_opened = before.links_of(cluster).any(|(_, link)| link.has_opened());
    let shown = links.showing(cluster).ok().flatten().and_then(|evidence| evidence.relay_token.seen().copied());
    if has_opened { recorded } else { shown.unwrap_or(recorded) }
}

/// Records what links that are there rest on, and forgets it where there are none. How a cluster is reached may change beside
/// them, so that is the last that is known. A lock of version 1 has no records: its
/// links were begun with what spec and lock say.
pub(super) fn record(links: &mut Links<'_>) {
    let mesh = links.mesh;
    let linked: BTreeSet<ClusterName> = links.advanced.lock.linked().cloned().collect();
    for name in mesh.clusters.keys() {
        let require_token = requires_token(links, name);
        let lock = &mut links.advanced.lock;
        let Some(locked) = lock.clusters.get(name) else { continue };
        let now = || KnownCluster::of(mesh, lock, name).and_then(|known| known.joins_with(mesh));
        let record = match (&locked.joined_with, linked.contains(name)) {
            (_, false) => None,
            (None, true) => now().map(|now| JoinedWith { spec: JoinedSpec { require_token, ..now.spec }, ..now }),
            (Some(joined), true) => {
                let reach = now().map_or_else(|| joined.reach.clone(), |now| now.reach);
                // links that were begun without a token begin anew where one is stated
                let stays = mesh.require_token == Some(true);
                let require_token = if stays { joined.spec.require_token } else { require_token };
                let spec = JoinedSpec { require_token, ..joined.spec.clone() };
                Some(JoinedWith { reach, spec, ..joined.clone() })
            }
        };
        lock.former.remove(name);
        if let Some(locked) = lock.clusters.get_mut(name) {
            locked.joined_with = record;
            locked.lost &= linked.contains(name);
        }
    }
}
