//! The guard against deletions that no one declared.

use std::collections::BTreeSet;

use crate::model::link::Link;
use crate::model::lock::Stage;
use crate::model::mesh::{MeshConfigTarget, Reconciler};
use crate::pipeline::advance::links::Links;
use crate::pipeline::advance::reasons::AdvanceRefusal;
use crate::types::name::ClusterName;

/// Most remote secrets of the mesh, in percent, that may go in a run without being explained by `state: leaving`.
const DELETION_GUARD_PERCENT: usize = 30;
/// A mesh of fewer clusters may lose one pair, however many percent that is.
const SMALL_MESH: usize = 4;

/// Links, and those of them that go.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// All that could go.
    pub(crate) all: usize,
    /// Those that go.
    pub(crate) going: BTreeSet<Link>,
    /// Readers of joined links that stay.
    pub(crate) staying: BTreeSet<ClusterName>,
}

impl Closing {
    /// Whether more would go than a run of a mesh of so many clusters may take without being shown.
    pub(crate) fn is_too_much(&self, clusters: usize) -> bool {
        if clusters >= SMALL_MESH {
            return self.going.len() * 100 > self.all * DELETION_GUARD_PERCENT;
        }
        let pairs = self.going.iter().map(|Link { reader, peer }| (reader.min(peer), reader.max(peer)));
        pairs.collect::<BTreeSet<_>>().len() > 1
    }

    /// Readers of which nothing stays: their last foreign root CA goes.
    pub(crate) fn left_alone(&self) -> impl Iterator<Item = &ClusterName> {
        self.going.iter().map(|link| &link.reader).filter(|reader| !self.staying.contains(*reader))
    }
}

impl Links<'_> {
    /// Links that no one declared to be leaving stay as they are until `--allow-delete`, where too many of them would go, or all
    /// that a reader has.
    pub(super) fn guard(&mut self) {
        let closing = self.closing();
        if self.allow_delete || closing.going.is_empty() {
            return;
        }
        let alone = closing.left_alone().find(|reader| self.trusts_others(reader));
        let refusal = if closing.is_too_much(self.mesh.clusters.len()) {
            AdvanceRefusal::TooManyDeletions { going: closing.going.len(), of: closing.all }
        } else if let Some(reader) = alone {
            AdvanceRefusal::LastRoot { reader: reader.clone() }
        } else {
            return;
        };
        for link in &closing.going {
            if let Some(old) = self.accepted.lock.link(&link.reader, &link.peer).cloned() {
                self.advanced.lock.links.entry(link.reader.clone()).or_default().insert(link.peer.clone(), old);
            }
            self.advanced.moves.remove(link);
            self.advanced.refusals.insert(link.secret(), refusal.clone());
        }
    }

    /// All that the spec no longer wants counts, also what keeps its stage in this run: a failing cluster must not make a removal
    /// look small. What leaves already was counted when it began to; what the other side declares is no deletion of ours.
    fn closing(&self) -> Closing {
        let explained = |name: &ClusterName| {
            self.mesh.clusters.get(name).is_some_and(|cluster| cluster.state.is_going()) || self.is_gone(name)
        };
        let mut closing = Closing::default();
        for (reader, links) in &self.accepted.lock.links {
            for (peer, _) in links.iter().filter(|(_, link)| link.stage == Stage::Joined) {
                closing.all += 1;
                let link = Link::new(reader, peer);
                let goes = !self.wants(&link);
                if goes && !explained(reader) && !explained(peer) && !self.peer_leaves(&link) {
                    closing.going.insert(link);
                } else if !goes {
                    closing.staying.insert(reader.clone());
                }
            }
        }
        closing
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
