//! The guard against deletions that nobody declared.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::link::Link;
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{MeshConfigTarget, Reconciler};
use crate::pipeline::advance::links::Links;
use crate::pipeline::advance::reasons::AdvanceRefusal;
use crate::types::name::ClusterName;

/// Most remote secrets of the mesh, in percent, that may go in a run without being explained by `state: leaving`.
const DELETION_GUARD_PERCENT: usize = 30;
/// A mesh of fewer clusters may lose one pair, however many percent that is.
const SMALL_MESH: usize = 4;

/// Joined links, and those of them that go in a run.
#[derive(Default)]
struct Count {
    all: usize,
    going: BTreeSet<Link>,
    /// The joined links of each reader that stay.
    staying: BTreeMap<ClusterName, usize>,
}

/// Whether more joined links would go than a run may take without being told.
pub(crate) fn are_too_many<'l>(clusters: usize, all: usize, going: impl IntoIterator<Item = &'l Link>) -> bool {
    let going: BTreeSet<&Link> = going.into_iter().collect();
    if clusters >= SMALL_MESH {
        return going.len() * 100 > all * DELETION_GUARD_PERCENT;
    }
    let pairs = going.iter().map(|Link { reader, peer }| (reader.min(peer), reader.max(peer)));
    pairs.collect::<BTreeSet<_>>().len() > 1
}

/// Whether these links are all joined links that one of their readers has: its last foreign root CA goes with them.
pub(crate) fn leave_one_alone(lock: &Lock, going: &BTreeSet<&Link>) -> bool {
    let stays = |reader: &ClusterName| {
        let joined = lock.links_of(reader).filter(|(_, link)| link.stage == Stage::Joined);
        joined.into_iter().any(|(peer, _)| !going.contains(&Link::new(reader, peer)))
    };
    going.iter().any(|link| !stays(&link.reader))
}

impl Links<'_> {
    /// Links that nobody declared to be leaving stay as they are until `--allow-delete`, where too many of them would go, or all
    /// that a reader has.
    pub(super) fn guard(&mut self) {
        let count = self.count();
        if self.allow_delete || count.going.is_empty() {
            return;
        }
        let mut readers = count.going.iter().map(|link| &link.reader);
        let alone = readers.find(|reader| !count.staying.contains_key(*reader) && self.trusts_others(reader));
        let refusal = if are_too_many(self.mesh.clusters.len(), count.all, &count.going) {
            AdvanceRefusal::TooManyDeletions { going: count.going.len(), of: count.all }
        } else if let Some(reader) = alone {
            AdvanceRefusal::LastRoot { reader: reader.clone() }
        } else {
            return;
        };
        for link in &count.going {
            if let Some(old) = self.accepted.lock.link(&link.reader, &link.peer).cloned() {
                self.advanced.lock.links.entry(link.reader.clone()).or_default().insert(link.peer.clone(), old);
            }
            self.advanced.moves.remove(link);
            self.advanced.refusals.insert(link.secret(), refusal.clone());
        }
    }

    /// All that the spec no longer wants counts, also what keeps its stage in this run: a failing cluster must not make a removal
    /// look small. What leaves already was counted when it began to.
    fn count(&self) -> Count {
        let explained = |name: &ClusterName| {
            self.mesh.clusters.get(name).is_some_and(|cluster| cluster.state.is_going()) || self.is_gone(name)
        };
        let mut count = Count::default();
        for (reader, links) in &self.accepted.lock.links {
            for (peer, _) in links.iter().filter(|(_, link)| link.stage == Stage::Joined) {
                count.all += 1;
                let goes = !self.mesh.links(reader, peer) || self.begins_anew(reader) || self.begins_anew(peer);
                if goes && !explained(reader) && !explained(peer) {
                    count.going.insert(Link::new(reader, peer));
                } else if !goes {
                    *count.staying.entry(reader.clone()).or_default() += 1;
                }
            }
        }
        count
    }

    /// Whether root CAs of others are written for a reader: they go with its last link.
    fn trusts_others(&self, reader: &ClusterName) -> bool {
        let is_written = self.mesh.clusters.get(reader).is_some_and(|cluster| {
            cluster.reconciler == Reconciler::Rendered && cluster.istio.config != MeshConfigTarget::None
        });
        let own = self.known(reader);
        let peers = self.accepted.lock.links_of(reader).filter_map(|(peer, _)| self.known(peer));
        is_written && own.is_some_and(|own| peers.into_iter().any(|peer| !own.shares_roots_with(&peer)))
    }
}
