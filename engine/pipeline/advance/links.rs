//! The links of a mesh while they are moved: what is known of both ends, and what became of each.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::known::KnownCluster;
use crate::model::link::Link;
use crate::model::lock::{Edit, HandOver, Lock, LockedLink, Stage};
use crate::model::mesh::{Mesh, Reconciler};
use crate::pipeline::accept::{Accepted, Assessment, DocumentState, EvidenceState, UnseenReason};
use crate::pipeline::advance::reasons::{AdvanceRefusal, LinkWait, Unproven};
use crate::pipeline::observe::Failure;
use crate::types::name::ClusterName;
use crate::types::step::{StepId, StepKind};
use crate::types::time::Timestamp;
use crate::wire::metadata::Evidence;

/// The lock of the next run, and what kept links from moving.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advanced {
    /// The lock with the new stages.
    pub lock: Lock,
    pub waits: BTreeMap<StepId, Vec<LinkWait>>,
    pub refusals: BTreeMap<StepId, AdvanceRefusal>,
    pub moves: BTreeMap<Link, Move>,
    /// Clusters whose links leave and join anew, with what is changed of them.
    pub renamed: BTreeMap<ClusterName, Vec<Edit>>,
}

/// The stages of a link before and after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Where it was; `None`: there was no link.
    pub from: Option<Stage>,
    /// Where it is; `None`: it is gone.
    pub to: Option<Stage>,
    /// What could not be proven because a cluster publishes no evidence.
    pub unproven: Vec<Unproven>,
}

/// All links, with what decides how far each of them may go.
pub(super) struct Links<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) accepted: &'a Accepted,
    pub(super) allow_delete: bool,
    /// Clusters whose links keep their stage: paused, or what they published is held back.
    pub(super) still: BTreeSet<&'a ClusterName>,
    /// Those of them whose files stay as they are: paused, or something of them is lost.
    pub(super) unwritten: BTreeSet<&'a ClusterName>,
    /// Clusters with an approved new identity.
    pub(super) rebuilt: BTreeSet<&'a ClusterName>,
    /// Clusters that are gone for good.
    pub(super) lost: BTreeSet<&'a ClusterName>,
    /// Clusters of which something is edited that links rest on: these leave and join anew.
    pub(super) renamed: BTreeSet<&'a ClusterName>,
    /// Clusters of which a link is to leave, whose objects are marked so that no tool deletes any.
    pub(super) marked: BTreeSet<&'a ClusterName>,
    /// The time of the run.
    pub(super) now: Timestamp,
    pub(super) advanced: Advanced,
}

impl<'a> Links<'a> {
    pub(super) fn known(&self, name: &ClusterName) -> Option<KnownCluster<'a>> {
        KnownCluster::of(self.mesh, &self.accepted.lock, name)
    }

    pub(super) fn assessment(&self, name: &ClusterName) -> Option<&'a Assessment> {
        self.accepted.assessments.get(name)
    }

    pub(super) fn keeps_stages(&self, name: &ClusterName) -> bool {
        self.still.contains(name)
    }

    pub(super) fn is_rebuilt(&self, name: &ClusterName) -> bool {
        self.rebuilt.contains(name)
    }

    /// Whether the links of a cluster have to leave although the specs want them.
    pub(super) fn begins_anew(&self, name: &ClusterName) -> bool {
        self.is_rebuilt(name) || self.lost.contains(name) || self.renamed.contains(name)
    }

    /// Whether the specs want a link, and nothing makes it leave all the same.
    pub(super) fn wants(&self, link: &Link) -> bool {
        let Link { reader, peer } = link;
        let begins_anew = self.begins_anew(reader) || self.begins_anew(peer);
        self.mesh.links(reader, peer) && !begins_anew && !self.peer_leaves(link)
    }

    /// Whether another team, or a cluster's agent, takes the link away, as it states to the other end. Until it states something else, or
    /// the link is gone, it does.
    pub(super) fn peer_leaves(&self, link: &Link) -> bool {
        self.who_leaves(link).is_some()
    }

    /// Who takes the link away.
    pub(super) fn who_leaves<'l>(&self, link: &'l Link) -> Option<&'l ClusterName> {
        let [reader, peer] = link.ends();
        [(reader, peer), (peer, reader)].into_iter().find(|ends| self.leaves(link, *ends)).map(|(_, other)| other)
    }

    /// Whether one end of a link states to the other, which is this checkout's, that it takes the link away.
    fn leaves(&self, link: &Link, (own, other): (&ClusterName, &ClusterName)) -> bool {
        let cluster = |name: &ClusterName| self.mesh.clusters.get(name);
        let Some((_, cluster)) = cluster(own).filter(|own| own.is_ours()).zip(cluster(other)) else { return false };
        let is_agents = cluster.reconciler == Reconciler::Agent && !self.mesh.inside;
        if cluster.is_ours() && !is_agents {
            return false;
        }
        let (Some(known), Some(assessment)) = (self.known(own), self.assessment(other)) else { return false };
        if assessment.private == DocumentState::Current {
            return assessment.leaving.contains(known.uuid());
        }
        let locked = self.accepted.lock.link(&link.reader, &link.peer).filter(|link| link.stage.is_leaving());
        let may_leave = || !is_agents && (self.mesh.inside || self.is_refused_by(other));
        locked.is_some_and(|link| link.by_peer || may_leave())
    }

    /// Whether a cluster no longer admits whoever asks.
    pub(super) fn is_refused_by(&self, name: &ClusterName) -> bool {
        let shown = self.showing(name);
        matches!(shown, Err(UnseenReason::PrivateDocument(Failure::Unauthorized { status: 401, .. })))
    }

    /// Whether the cluster that a link was made with is no more: what it read, and what was read of it, is closed.
    pub(super) fn is_gone(&self, name: &ClusterName) -> bool {
        self.is_rebuilt(name) || self.lost.contains(name)
    }

    pub(super) fn set(&mut self, link: &Link, stage: Stage, unproven: Vec<Unproven>) {
        let by_peer = stage.is_leaving() && self.peer_leaves(link);
        let links = self.advanced.lock.links.entry(link.reader.clone()).or_default();
        let entry = links.entry(link.peer.clone()).or_insert(LockedLink::new(stage));
        let before = self.accepted.lock.link(&link.reader, &link.peer);
        let from = before.map(|link| link.stage);
        let is_fresh = stage == Stage::Joining && entry.closed.is_none();
        entry.unopened = !is_fresh && stage != Stage::Joined && before.is_some_and(|link| !link.may_be_live());
        entry.stage = stage;
        entry.unproven = !unproven.is_empty();
        entry.by_peer = by_peer;
        if from != Some(stage) {
            entry.since = None;
            // one that is begun again while it leaves may still have the secret that it had
            if stage != Stage::Joining {
                entry.closed = None;
            }
            self.advanced.moves.insert(link.clone(), Move { from, to: Some(stage), unproven });
        }
    }

    /// A cluster that is to be reached by gateways keeps its links until one of these is known.
    pub(super) fn wait_for_gateways(&mut self) {
        for name in self.mesh.clusters.keys() {
            if self.known(name).is_some_and(|known| known.awaits_gateways()) {
                let wait = LinkWait::Gateways { cluster: name.clone() };
                self.advanced.waits.entry(StepId::of(StepKind::DiscoverProxy, name)).or_default().push(wait);
            }
        }
    }

    /// Raises the serial of each reader of which a link moved, or has an alias or none unlike before, and notes it on links that
    /// leave.
    pub(super) fn number(&mut self) {
        let is_rendered = |name: &ClusterName| {
            self.mesh.clusters.get(name).is_some_and(|cluster| cluster.reconciler == Reconciler::Rendered)
        };
        let moved = self.advanced.moves.keys().map(|link| &link.reader);
        let is_merged_anew = |(reader, links): &(&ClusterName, &BTreeMap<ClusterName, LockedLink>)| {
            let before = |peer| self.accepted.lock.link(reader, peer).map(|link| link.merged);
            links.iter().any(|(peer, link)| before(peer).is_some_and(|before| before != link.merged))
        };
        let merged = self.advanced.lock.links.iter().filter(is_merged_anew).map(|(reader, _)| reader);
        let readers: BTreeSet<ClusterName> = moved.chain(merged).filter(|name| is_rendered(name)).cloned().collect();
        let lock = &mut self.advanced.lock;
        for reader in &readers {
            let serial = lock.serials.entry(reader.clone()).or_default();
            *serial += 1;
            let serial = *serial;
            for (peer, link) in lock.links.get_mut(reader).into_iter().flatten() {
                let moved = self.advanced.moves.contains_key(&Link::new(reader, peer));
                if moved && link.stage.is_leaving() {
                    link.closed = Some(serial);
                }
            }
        }
    }

    /// Counts the time that a link waits for `settle` from now on, unless it is counted already.
    pub(super) fn begin_to_settle(&mut self, link: &Link) {
        let links = self.advanced.lock.links.get_mut(&link.reader);
        if let Some(entry) = links.and_then(|links| links.get_mut(&link.peer)) {
            entry.since.get_or_insert(self.now);
        }
    }

    /// Whether a checkout writes, or is to take, the objects of a cluster's links, and they are or may be marked so that no tool deletes
    /// them: by this one, or by another one that leaves them.
    pub(super) fn is_marked(&self, name: &ClusterName) -> bool {
        let Some(cluster) = self.mesh.clusters.get(name) else { return false };
        let hand_over = self.accepted.lock.clusters.get(name).and_then(|locked| locked.hand_over);
        let is_left = || self.is_left_to(name, Reconciler::Rendered);
        let is_marked = match cluster.reconciler {
            Reconciler::Rendered => hand_over.is_some() || is_left(),
            Reconciler::External => cluster.hands_over_to() == Some(Reconciler::Rendered) && is_left(),
            Reconciler::Agent | Reconciler::Deckhouse => false,
        };
        is_marked && !self.is_gone(name) && !self.mesh.inside
    }

    /// Whether a cluster is left to another checkout that has not taken it: what it reads stays until then.
    pub(super) fn awaits_another(&self, name: &ClusterName) -> bool {
        let Some(locked) = self.accepted.lock.clusters.get(name) else { return false };
        // an older lock does not have the serial with which it was left
        let is_left = |noted: HandOver| noted.offered.is_some() || noted.to == Reconciler::External;
        locked.acts() == Some(Reconciler::External) && locked.hand_over.is_some_and(is_left)
    }

    pub(super) fn wait(&mut self, link: &Link, reasons: Vec<LinkWait>) {
        self.advanced.waits.entry(link.secret()).or_default().extend(reasons);
    }

    /// This run's evidence of a cluster; `None`: it publishes none; an error says why it was not seen.
    pub(super) fn showing(&self, name: &ClusterName) -> Result<Option<&'a Evidence>, &'a UnseenReason> {
        match self.assessment(name).map(|assessment| &assessment.evidence) {
            Some(EvidenceState::Published(evidence)) => Ok(Some(evidence)),
            Some(EvidenceState::NotPublished) => Ok(None),
            Some(EvidenceState::Unseen(reason)) => Err(reason),
            None => Err(&UnseenReason::NotAsked),
        }
    }
}
