//! Clusters that are handed over, between the checkout that renders their objects and the agent that writes them: joined links stay,
//! and so do the objects.
//!
//! It takes three runs or more. The first notes who is to act, and marks the objects that are given away. Once the cluster shows that the other side
//! can take it, or has left it, what links rest on names the other side, which writes from then on. When that is seen as well, the
//! marks go, and rights that only the former side used.

use std::collections::BTreeSet;

use crate::model::known::KnownCluster;
use crate::model::lock::Stage;
use crate::model::mesh::Reconciler;
use crate::pipeline::advance::gate::seen;
use crate::pipeline::advance::links::Links;
use crate::pipeline::advance::reasons::{HandOverLack, LinkWait};
use crate::types::name::ClusterName;
use crate::types::step::{StepId, StepKind};
use crate::wire::hand_over::{HandOverStage, HandOverState, ObjectWriter};

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
                // what was given last is taken before anything is given back
                (Some(to), Some(last)) if last == acts && last != to => match self.was_taken(name, last) {
                    Ok(()) => {
                        self.give(name, to, false);
                        continue;
                    }
                    Err(lack) => Err(lack),
                },
                (Some(to), _) => {
                    self.give(name, to, noted == Some(to));
                    continue;
                }
                (None, None) => continue,
                // the edit was taken back before anything was given
                (None, Some(to)) if to != acts => {
                    self.raise_serial(name);
                    Ok(())
                }
                (None, Some(to)) => self.was_taken(name, to),
            };
            match is_over {
                Ok(()) => self.note_hand_over(name, None),
                Err(lack) => self.wait_to_hand_over(name, acts, lack),
            }
        }
    }

    /// Gives the objects of a cluster to who is to act there, or begins to.
    fn give(&mut self, name: &ClusterName, to: Reconciler, is_begun: bool) {
        if !is_begun {
            self.note_hand_over(name, Some(to));
            self.raise_serial(name);
            self.wait_to_hand_over(name, to, HandOverLack::Begins);
            return;
        }
        if let Err(lack) = self.may_give(name, to) {
            self.wait_to_hand_over(name, to, lack);
            return;
        }
        // what the agent wrote is of its own serials, which an absence is judged by
        let written = self.answer(name).ok().and_then(|state| state.links);
        let serial = self.advanced.lock.serials.entry(name.clone()).or_default();
        *serial = written.unwrap_or_default().max(*serial);
        self.raise_serial(name);
        let locked = self.advanced.lock.clusters.get_mut(name);
        if let Some(joined) = locked.and_then(|locked| locked.joined_with.as_mut()) {
            joined.spec.reconciler = to;
        }
    }

    /// Whether whoever is to act has all that links rest on.
    fn may_give(&self, name: &ClusterName, to: Reconciler) -> Result<(), HandOverLack> {
        if self.advanced.moves.keys().any(|link| link.reader == *name) {
            return Err(HandOverLack::LinksMove);
        }
        let leaving = |(_, link): &(&ClusterName, &crate::model::lock::LockedLink)| link.stage.is_leaving();
        if self.advanced.lock.links_of(name).any(|link| leaving(&link)) {
            return Err(HandOverLack::LinksMove);
        }
        let state = self.answer(name)?;
        let serial = self.accepted.lock.serials.get(name).copied().unwrap_or_default();
        let (writer, wanted) = wanted(to);
        if !state.is(writer, serial, wanted) {
            let is_current = state.to == writer && state.serial == serial;
            return Err(HandOverLack::NotReady { reason: state.reason.clone().filter(|_| is_current) });
        }
        if to == Reconciler::Agent {
            return Ok(());
        }
        let joined = self.advanced.lock.links_of(name).filter(|(_, link)| link.stage == Stage::Joined);
        let ours: BTreeSet<_> = joined.filter_map(|(peer, _)| self.known(peer)).map(|peer| peer.uuid()).collect();
        match state.joined.iter().find(|uuid| !ours.contains(uuid)) {
            Some(uuid) => Err(HandOverLack::Undeclared { uuid: uuid.clone() }),
            None if ours.len() > state.joined.len() => Err(HandOverLack::NotReady { reason: None }),
            None => Ok(()),
        }
    }

    /// Whether whoever acts now is seen to write.
    fn was_taken(&self, name: &ClusterName, to: Reconciler) -> Result<(), HandOverLack> {
        let serial = self.accepted.lock.serials.get(name).copied().unwrap_or_default();
        if to == Reconciler::Agent {
            let is_taken = self.answer(name)?.is(ObjectWriter::Agent, serial, HandOverStage::Taken);
            return if is_taken { Ok(()) } else { Err(HandOverLack::NotTaken) };
        }
        let shown = self.showing(name).ok().flatten().map(|evidence| seen(&evidence.serial));
        match shown {
            Some(Ok(shown)) if *shown >= serial => Ok(()),
            _ => Err(HandOverLack::NotTaken),
        }
    }

    /// What the agent says of it.
    fn answer(&self, name: &ClusterName) -> Result<&HandOverState, HandOverLack> {
        match self.showing(name) {
            Ok(Some(evidence)) => evidence.hand_over.as_ref().ok_or(HandOverLack::NotReady { reason: None }),
            Ok(None) => Err(HandOverLack::NoEvidence),
            Err(reason) => Err(HandOverLack::Unseen { reason: reason.clone() }),
        }
    }

    fn note_hand_over(&mut self, name: &ClusterName, to: Option<Reconciler>) {
        if let Some(locked) = self.advanced.lock.clusters.get_mut(name) {
            locked.hand_over = to;
        }
    }

    fn raise_serial(&mut self, name: &ClusterName) {
        *self.advanced.lock.serials.entry(name.clone()).or_default() += 1;
    }

    fn wait_to_hand_over(&mut self, name: &ClusterName, to: Reconciler, lack: HandOverLack) {
        let wait = LinkWait::HandOver { cluster: name.clone(), to, lack };
        self.advanced.waits.entry(StepId::of(StepKind::ExchangeKeys, name)).or_default().push(wait);
    }
}

/// What the agent answers when a cluster can be given to someone.
fn wanted(to: Reconciler) -> (ObjectWriter, HandOverStage) {
    match to {
        Reconciler::Agent => (ObjectWriter::Agent, HandOverStage::Ready),
        Reconciler::Rendered | Reconciler::Deckhouse | Reconciler::External => {
            (ObjectWriter::Tree, HandOverStage::Released)
        }
    }
}
