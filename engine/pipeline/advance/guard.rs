//! The guard against deletions that nobody declared.

use crate::model::link::Link;
use crate::pipeline::advance::links::Links;
use crate::pipeline::advance::reasons::AdvanceRefusal;
use crate::types::name::ClusterName;

/// Most links of the mesh, in percent, that may go in a run without being explained by `state: leaving`.
const DELETION_GUARD_PERCENT: usize = 30;

impl Links<'_> {
    /// Too many links that nobody declared to be leaving stay as they are until `--allow-delete`.
    pub(super) fn guard(&mut self) {
        let explained = |name: &ClusterName| {
            self.mesh.clusters.get(name).is_some_and(|cluster| cluster.state.is_going()) || self.is_gone(name)
        };
        // all that the spec no longer wants counts, also what keeps its stage in this run: a failing cluster must not make a
        // removal look small
        let (mut all, mut going) = (0_usize, Vec::new());
        for (reader, links) in &self.accepted.lock.links {
            for (peer, _) in links.iter().filter(|(_, link)| !link.stage.is_leaving()) {
                all += 1;
                let goes = !self.mesh.links(reader, peer) || self.begins_anew(reader) || self.begins_anew(peer);
                if goes && !explained(reader) && !explained(peer) {
                    going.push(Link::new(reader, peer));
                }
            }
        }
        if self.allow_delete || going.len() * 100 <= all * DELETION_GUARD_PERCENT {
            return;
        }
        for link in &going {
            if let Some(old) = self.accepted.lock.link(&link.reader, &link.peer).cloned() {
                self.advanced.lock.links.entry(link.reader.clone()).or_default().insert(link.peer.clone(), old);
            }
            self.advanced.moves.remove(link);
            let refusal = AdvanceRefusal::TooManyDeletions { going: going.len(), of: all };
            self.advanced.refusals.insert(link.secret(), refusal);
        }
    }
}
