//! Clusters that are handed over, between the checkout that renders their objects, the agent inside them and the checkout of
//! another team: joined links stay, and so do the objects.
//!
//! It takes three runs or more. The first notes from whom to whom, and marks the objects that are given away. Once the cluster shows
//! that the other side can take it, or has left it, what links rest on names the other side, which acts from then on. When that is
//! seen as well, the marks go, and rights that only the former side used.
//!
//! Another checkout shows nothing before it writes. So a cluster is *offered* to it: once it is seen that all objects are marked, they leave
//! the checkout and stay in the cluster as they are. Whoever sees the offer may take it, the former side among them.

use std::collections::BTreeSet;

use crate::model::known::{KnownCluster, engine_keys};
use crate::model::lock::{HandOver, Stage};
use crate::model::mesh::{Cluster, Reconciler};
use crate::pipeline::advance::gate::seen;
use crate::pipeline::advance::links::Links;
use crate::pipeline::advance::reasons::{HandOverLack, LinkWait};
use crate::types::key::KeyId;
use crate::types::name::{ClusterId, ClusterName, Digest};
use crate::types::step::{StepId, StepKind};
use crate::wire::hand_over::{HandOverStage, HandOverState, ObjectWriter};
use crate::wire::metadata::Read;

impl Links<'_> {
    /// Begins, continues and ends the hand-over of each cluster that is, or was, to be reconciled by someone else.
    pub(super) fn hand_over(&mut self) {
        let mesh = self.mesh;
        for name in mesh.clusters.keys().filter(|_| !mesh.inside) {
            if self.keeps_stages(name) {
                continue;
            }
            let Some(known) = KnownCluster::of(mesh, &self.advanced.lock, name) else { continue };
            let Some(acts) = known.joined_with().map(|joined| joined.spec.reconciler) else {
                self.note_hand_over(name, None);
                continue;
            };
            let noted = known.locked.hand_over;
            let is_over = match (known.cluster.hands_over_to(), noted) {
                // the edit was taken back before anything was given; or a link is to leave, whose secret no tool prunes that is marked
                (wanted, Some(last)) if last.to != acts && (wanted.is_none() || self.marked.contains(name)) => {
                    self.take_back(name, acts, last);
                    continue;
                }
                (Some(_), Some(last)) if last.is_taken_back() => self.was_taken(name, last),
                // what an agent or a checkout was given is taken before anything is given back; what was offered is free
                (Some(to), Some(last)) if last.to == acts && acts != Reconciler::External => {
                    match self.was_taken(name, last) {
                        Ok(()) => {
                            self.give(name, self.wanted(acts, to), None);
                            continue;
                        }
                        Err(lack) => Err(lack),
                    }
                }
                (Some(to), _) => {
                    // a cluster that was left is taken back as it was left
                    let offered = noted.filter(|_| acts == Reconciler::External).and_then(|last| last.offered);
                    let wanted = HandOver { offered, ..self.wanted(acts, to) };
                    self.give(name, wanted, noted);
                    continue;
                }
                (None, None) => {
                    self.notice_others(name, acts);
                    continue;
                }
                (None, Some(last)) => self.was_taken(name, last),
            };
            match is_over {
                Ok(()) => {
                    self.end_hand_over(name, acts, noted);
                    self.forget_links_of_others(name, acts);
                }
                Err(lack) => self.wait_to_hand_over(name, acts, lack),
            }
        }
    }

    /// Where no one hands over: what another checkout left is taken, with a run that is told from all that were there. So is a cluster
    /// whose links were taken from what it shows.
    fn notice_others(&mut self, name: &ClusterName, acts: Reconciler) {
        if self.is_left_to(name, acts) {
            self.note_hand_over(name, Some(HandOver::new(Reconciler::External, acts)));
            self.pass_what_is_shown(name);
        } else if let Some(key) = self.other_writer(name, acts) {
            self.wait_to_hand_over(name, acts, HandOverLack::OthersWrite { key });
        }
        self.forget_links_of_others(name, acts);
    }

    /// Whether another checkout leaves a cluster to who acts there.
    pub(super) fn is_left_to(&self, name: &ClusterName, acts: Reconciler) -> bool {
        let is_offered = |state: &HandOverState| state.to == writer(acts) && state.stage == HandOverStage::Offered;
        matches!(acts, Reconciler::Rendered | Reconciler::Agent) && self.answer(name).is_ok_and(is_offered)
    }

    /// Whether the run that is live in a cluster is the one with which this checkout left it.
    fn is_as_left(&self, name: &ClusterName) -> bool {
        let offered = self.noted(name).and_then(|noted| noted.offered);
        let live = self.showing(name).ok().flatten().and_then(|evidence| evidence.serial.seen().copied());
        offered.is_some() && offered == live
    }

    /// The engine's key of another checkout whose run is live where this one writes, and which does not leave the cluster to it.
    pub(super) fn other_writer(&self, name: &ClusterName, acts: Reconciler) -> Option<KeyId> {
        let shown = self.showing(name).ok().flatten()?.writer.as_ref()?;
        let is_other = self.is_of_another(shown)? && acts == Reconciler::Rendered && !self.is_left_to(name, acts);
        is_other.then(|| shown.clone())
    }

    /// Whether a key is that of another checkout's engine; `None`: this one's is not known.
    fn is_of_another(&self, writer: &KeyId) -> Option<bool> {
        let own = &self.accepted.lock.engine_keys;
        (!own.is_empty() && !self.mesh.inside).then(|| !own.contains_key(writer))
    }

    fn noted(&self, name: &ClusterName) -> Option<HandOver> {
        self.accepted.lock.clusters.get(name)?.hand_over
    }

    /// A hand-over to this checkout ends with the marks. What is live has them until the run without them is seen, and no tool deletes
    /// it.
    fn end_hand_over(&mut self, name: &ClusterName, acts: Reconciler, noted: Option<HandOver>) {
        let had_marks = acts == Reconciler::Rendered && noted.is_some_and(|last| !last.is_taken_back());
        self.note_hand_over(name, had_marks.then(|| HandOver::taken_back(acts)));
        if had_marks {
            self.raise_serial(name);
        }
    }

    /// Whoever acts in a cluster is to stay, and takes the marks off, which has to be seen.
    fn take_back(&mut self, name: &ClusterName, acts: Reconciler, last: HandOver) {
        let after = match (acts, last.offered) {
            // what another checkout has was not prepared here
            (Reconciler::External, None) => None,
            (Reconciler::External, offered) => Some(HandOver { offered, ..HandOver::new(last.to, acts) }),
            _ => Some(HandOver::taken_back(acts)),
        };
        self.note_hand_over(name, after);
        self.raise_serial(name);
    }

    /// A hand-over from who acts to another one.
    fn wanted(&self, acts: Reconciler, to: Reconciler) -> HandOver {
        let is_of_agent = (acts, to) == (Reconciler::Agent, Reconciler::Rendered);
        let keys = || {
            let keys = engine_keys(self.mesh, &self.accepted.lock);
            let keys: Vec<String> = keys.iter().map(|(id, key)| format!("{id} {}\n", key.fingerprint())).collect();
            Digest::of(keys.concat().as_bytes())
        };
        HandOver { keys: is_of_agent.then(keys), ..HandOver::new(acts, to) }
    }

    /// Gives the objects of a cluster to who is to act there, or begins to. Nothing is prepared where another checkout acts.
    fn give(&mut self, name: &ClusterName, wanted: HandOver, noted: Option<HandOver>) {
        let is_begun = noted == Some(wanted);
        // an agent that is to leave is told of other keys by an order of another serial, and does not wait for what they open
        let is_ordered_anew = noted.is_some_and(|noted| HandOver { keys: wanted.keys, ..noted } == wanted);
        if !is_ordered_anew && wanted.from != Reconciler::External && self.any_leaves(name) {
            self.wait_to_hand_over(name, wanted.to, HandOverLack::LinksMove);
            return;
        }
        if !is_begun {
            self.note_hand_over(name, Some(wanted));
        }
        if !is_begun && wanted.from != Reconciler::External {
            self.raise_serial(name);
            self.wait_to_hand_over(name, wanted.to, HandOverLack::Begins);
            return;
        }
        if let Err(lack) = self.may_give(name, wanted) {
            if wanted.from == Reconciler::Agent && lack == HandOverLack::LinksMove && self.left_too_early(name) {
                self.raise_serial(name);
            }
            self.wait_to_hand_over(name, wanted.to, lack);
            return;
        }
        let offered = self.answer(name).ok().map(|state| state.serial);
        self.pass_what_is_shown(name);
        let locked = self.advanced.lock.clusters.get_mut(name);
        if let Some(joined) = locked.and_then(|locked| locked.joined_with.as_mut()) {
            joined.spec.reconciler = wanted.to;
        }
        if wanted.to == Reconciler::External {
            self.note_hand_over(name, Some(HandOver { offered, ..wanted }));
        }
    }

    /// Links between a cluster that another checkout has and those that others have are not this one's to keep, unless it may have one of
    /// both again.
    fn forget_links_of_others(&mut self, name: &ClusterName, acts: Reconciler) {
        if acts != Reconciler::External {
            return;
        }
        let stays = |peer: &Cluster| peer.is_ours() || peer.comes_from_others() || self.awaits_another(&peer.name);
        let of_others = self.mesh.clusters.values().filter(|peer| !stays(peer));
        let of_others: BTreeSet<&ClusterName> = of_others.map(|peer| &peer.name).collect();
        let is_of_others = |peer: &ClusterName| of_others.contains(peer);
        let links = &mut self.advanced.lock.links;
        if let Some(own) = links.get_mut(name) {
            own.retain(|peer, _| !is_of_others(peer));
        }
        for (_, links) in links.iter_mut().filter(|(reader, _)| is_of_others(reader)) {
            links.remove(name);
        }
        links.retain(|_, links| !links.is_empty());
    }

    /// Whether whoever is to act has all that links rest on.
    fn may_give(&self, name: &ClusterName, wanted: HandOver) -> Result<(), HandOverLack> {
        if self.moves_any(name) {
            return Err(HandOverLack::LinksMove);
        }
        if wanted.from == Reconciler::External {
            return self.is_free(name, wanted.to);
        }
        if self.any_leaves(name) {
            return Err(HandOverLack::LinksMove);
        }
        let state = self.answer(name)?;
        let serial = self.accepted.lock.serials.get(name).copied().unwrap_or_default();
        let (writer, shown) = awaited(wanted);
        if !state.is(writer, serial, shown) {
            let is_current = state.to == writer && state.serial == serial;
            return Err(HandOverLack::NotReady { reason: state.reason.clone().filter(|_| is_current) });
        }
        if shown != HandOverStage::Released {
            return Ok(());
        }
        let Some(others) = &state.others else {
            let reason = Some("it is older than this engine".to_owned());
            return Err(HandOverLack::NotReady { reason });
        };
        if let Some(object) = others.iter().find(|peer| !self.mesh.links(name, peer)) {
            return Err(HandOverLack::LeftOver { object: object.clone() });
        }
        let joined = self.joined_of(name);
        let ours: BTreeSet<_> = joined.iter().filter_map(|peer| self.known(peer)).map(|peer| peer.uuid()).collect();
        match state.joined.iter().find(|uuid| !ours.contains(uuid)) {
            Some(uuid) => return Err(HandOverLack::Undeclared { peer: uuid.to_string() }),
            None if ours.len() > state.joined.len() => return Err(HandOverLack::NotReady { reason: None }),
            None => {}
        }
        // an agent goes by the ID that a peer publishes, and the checkout by the one that its spec states
        let evidence = self.showing(name).ok().flatten().ok_or(HandOverLack::NoEvidence)?;
        let reads = seen(&evidence.reads);
        let reads = reads.map_err(|reason| HandOverLack::NotReady { reason: Some(reason.to_owned()) })?;
        match joined.into_iter().find(|peer| !self.is_read(reads, peer)) {
            Some(peer) => Err(HandOverLack::NotRead { peer }),
            None => Ok(()),
        }
    }

    /// Whether the agent of a cluster left its objects by the last order, and links move, or leave, that it left as they were: it acts again
    /// by an order of another serial.
    fn left_too_early(&self, name: &ClusterName) -> bool {
        let serial = self.accepted.lock.serials.get(name).copied().unwrap_or_default();
        let Ok(state) = self.answer(name) else { return false };
        let joined = self.joined_of(name);
        let stay: BTreeSet<_> = joined.iter().filter_map(|peer| self.known(peer)).map(|peer| peer.uuid()).collect();
        state.is(ObjectWriter::Tree, serial, HandOverStage::Released)
            && (self.moves_any(name) || state.joined.iter().any(|uuid| !stay.contains(uuid)))
    }

    /// Whether a cluster that another checkout has may be taken over: it is offered, or still as this one left it, and what is live in it
    /// are the links of this one, with the IDs that these have.
    fn is_free(&self, name: &ClusterName, to: Reconciler) -> Result<(), HandOverLack> {
        let is_as_left = to == Reconciler::Rendered && self.is_as_left(name);
        if !is_as_left && !self.is_left_to(name, to) {
            return Err(HandOverLack::NotOffered);
        }
        let evidence = self.showing(name).ok().flatten().ok_or(HandOverLack::NotOffered)?;
        let unknown = |reason: &str| HandOverLack::NotReady { reason: Some(reason.to_owned()) };
        let (reads, used) = (seen(&evidence.reads).map_err(unknown)?, seen(&evidence.credentials).map_err(unknown)?);
        let joined = self.joined_of(name);
        let ids: BTreeSet<ClusterId> =
            joined.iter().filter_map(|peer| self.known(peer)).map(|peer| peer.cluster_id()).collect();
        let linked: Vec<_> = self.advanced.lock.links_of(name).filter_map(|(peer, _)| self.known(peer)).collect();
        if let Some(read) = reads.iter().find(|read| !ids.contains(&read.cluster_id)) {
            let leaves = linked.iter().find(|peer| peer.cluster_id() == read.cluster_id);
            return Err(match leaves {
                Some(peer) => HandOverLack::ReadsOn { peer: peer.cluster.name.clone() },
                None => HandOverLack::Undeclared { peer: read.cluster_id.to_string() },
            });
        }
        let linked: BTreeSet<_> = linked.iter().map(KnownCluster::uuid).collect();
        if let Some(used) = used.iter().find(|used| used.last_used.is_some() && !linked.contains(&used.cluster_uuid)) {
            return Err(HandOverLack::Undeclared { peer: used.cluster_uuid.to_string() });
        }
        match joined.into_iter().find(|peer| !self.is_read(reads, peer)) {
            Some(peer) => Err(HandOverLack::NotRead { peer }),
            None => Ok(()),
        }
    }

    fn is_read(&self, reads: &[Read], peer: &ClusterName) -> bool {
        let id = self.known(peer).map(|known| known.cluster_id());
        reads.iter().any(|read| Some(&read.cluster_id) == id.as_ref())
    }

    /// Whether a link of a cluster moves in this run.
    fn moves_any(&self, name: &ClusterName) -> bool {
        self.advanced.moves.keys().any(|link| link.reader == *name)
    }

    fn any_leaves(&self, name: &ClusterName) -> bool {
        self.advanced.lock.links_of(name).any(|(_, link)| link.stage.is_leaving())
    }

    fn joined_of(&self, name: &ClusterName) -> Vec<ClusterName> {
        let joined = self.advanced.lock.links_of(name).filter(|(_, link)| link.stage == Stage::Joined);
        joined.map(|(peer, _)| peer.clone()).collect()
    }

    /// Whether whoever acts now is seen to act. Another checkout is by a run that is none of this one's: what was offered may be lost.
    fn was_taken(&self, name: &ClusterName, last: HandOver) -> Result<(), HandOverLack> {
        let serial = self.accepted.lock.serials.get(name).copied().unwrap_or_default();
        match last.to {
            Reconciler::Agent => {
                let is_taken = self.answer(name)?.is(ObjectWriter::Agent, serial, HandOverStage::Taken);
                if is_taken { Ok(()) } else { Err(HandOverLack::NotTaken) }
            }
            Reconciler::Rendered => {
                if let Some(key) = self.other_writer(name, last.to) {
                    return Err(HandOverLack::OthersWrite { key });
                }
                let shown = self.showing(name).ok().flatten().map(|evidence| seen(&evidence.serial));
                match shown {
                    Some(Ok(shown)) if *shown >= serial => Ok(()),
                    _ => Err(HandOverLack::NotTaken),
                }
            }
            // it has what its agent is told, which continues
            Reconciler::Deckhouse | Reconciler::External if last.from == Reconciler::Agent => Ok(()),
            // its engine's key opens nothing there any more
            Reconciler::Deckhouse | Reconciler::External if self.is_refused_by(name) => Ok(()),
            Reconciler::Deckhouse | Reconciler::External => {
                let evidence = self.showing(name).ok().flatten().ok_or(HandOverLack::NotTaken)?;
                // whoever left it numbered its own next run, which it did not write, at least one above
                let offered = last.offered.or_else(|| serial.checked_sub(1));
                let is_later = || offered.zip(evidence.serial.seen()).is_some_and(|(offered, shown)| offered < *shown);
                let is_taken = evidence.writer.as_ref().and_then(|writer| self.is_of_another(writer));
                let is_taken = is_taken.unwrap_or_else(is_later);
                if is_taken { Ok(()) } else { Err(HandOverLack::NotTaken) }
            }
        }
    }

    /// What the cluster shows of it.
    fn answer(&self, name: &ClusterName) -> Result<&HandOverState, HandOverLack> {
        match self.showing(name) {
            Ok(Some(evidence)) => evidence.hand_over.as_ref().ok_or(HandOverLack::NotReady { reason: None }),
            Ok(None) => Err(HandOverLack::NoEvidence),
            Err(reason) => Err(HandOverLack::Unseen { reason: reason.clone() }),
        }
    }

    fn note_hand_over(&mut self, name: &ClusterName, hand_over: Option<HandOver>) {
        if let Some(locked) = self.advanced.lock.clusters.get_mut(name) {
            locked.hand_over = hand_over;
        }
    }

    fn raise_serial(&mut self, name: &ClusterName) {
        let serial = self.advanced.lock.serials.entry(name.clone()).or_default();
        *serial = serial.saturating_add(1);
    }

    /// Numbers the run above all that was shown: what someone else wrote is of serials of its own, which an absence is judged by.
    fn pass_what_is_shown(&mut self, name: &ClusterName) {
        let answered = self.answer(name).ok().map(|state| state.links.unwrap_or(state.serial));
        let live = self.showing(name).ok().flatten().and_then(|evidence| evidence.serial.seen().copied());
        let serial = self.advanced.lock.serials.entry(name.clone()).or_default();
        *serial = [answered, live].into_iter().flatten().fold(*serial, u64::max);
        self.raise_serial(name);
    }

    fn wait_to_hand_over(&mut self, name: &ClusterName, to: Reconciler, lack: HandOverLack) {
        // a cluster of another checkout is told nothing of its peers
        let is_ours = self.mesh.clusters.get(name).is_some_and(Cluster::is_ours);
        let step = if is_ours { StepKind::ExchangeKeys } else { StepKind::DiscoverProxy };
        let wait = LinkWait::HandOver { cluster: name.clone(), to, lack };
        self.advanced.waits.entry(StepId::of(step, name)).or_default().push(wait);
    }
}

/// Who writes the objects of links where someone acts.
fn writer(acts: Reconciler) -> ObjectWriter {
    match acts {
        Reconciler::Agent => ObjectWriter::Agent,
        Reconciler::Rendered | Reconciler::Deckhouse | Reconciler::External => ObjectWriter::Tree,
    }
}

/// What a cluster shows when it can be given to someone.
fn awaited(wanted: HandOver) -> (ObjectWriter, HandOverStage) {
    match wanted.to {
        Reconciler::Agent => (ObjectWriter::Agent, HandOverStage::Ready),
        Reconciler::Rendered => (ObjectWriter::Tree, HandOverStage::Released),
        Reconciler::Deckhouse | Reconciler::External => (writer(wanted.from), HandOverStage::Offered),
    }
}
