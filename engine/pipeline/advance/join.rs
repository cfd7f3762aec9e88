//! Links that the specs want: begun when both ends are known, joined when the gate is open.

use crate::model::link::Link;
use crate::model::lock::Stage;
use crate::model::mesh::State;
use crate::model::needs::NeedRow;
use crate::pipeline::accept::{Assessment, DocumentState, hides_our_roots};
use crate::pipeline::advance::gate::{BackLink, End, Gate};
use crate::pipeline::advance::joined_with;
use crate::pipeline::advance::links::Links;
use crate::pipeline::advance::reasons::LinkWait;
use crate::types::address::Endpoint;
use crate::types::name::ClusterName;
use crate::types::step::StepKind;

impl<'a> Links<'a> {
    /// Wanted links: begun when both ends are known, joined when the gates are open.
    pub(super) fn join(&mut self) {
        let mesh = self.mesh;
        for reader in mesh.clusters.keys() {
            let links = self.accepted.lock.links.get(reader);
            for peer in mesh.peers_of(reader) {
                let stage = links.and_then(|links| links.get(&peer.name)).map(|link| link.stage);
                if stage == Some(Stage::Joined) {
                    continue;
                }
                let link = Link::new(reader, &peer.name);
                if self.keeps_stages(reader) || self.keeps_stages(&peer.name) {
                    self.explain_kept_stage(&link);
                    continue;
                }
                if self.begins_anew(reader) || self.begins_anew(&peer.name) {
                    continue;
                }
                if let Some(leaver) = self.who_leaves(&link).cloned() {
                    if stage.is_none() {
                        self.wait(&link, vec![LinkWait::PeerLeaves { peer: leaver }]);
                    }
                    continue;
                }
                match stage {
                    Some(Stage::Joining) => self.try_to_join(&link),
                    _ => self.begin(&link),
                }
            }
        }
    }

    fn explain_kept_stage(&mut self, link: &Link) {
        if self.renders_secret(&link.reader) {
            let is_held_back = |name: &&ClusterName| self.assessment(name).is_some_and(Assessment::is_held_back);
            let held = link.ends().into_iter().find(is_held_back).cloned();
            // what lock or tree lost of a cluster is shown at its own step
            let is_paused = |name: &&ClusterName| {
                self.mesh.clusters.get(*name).is_some_and(|cluster| cluster.state == State::Paused)
            };
            let paused = link.ends().into_iter().find(is_paused).cloned();
            let reason = held.map(|cluster| LinkWait::TrustChange { cluster });
            let reason = reason.or(paused.map(|cluster| LinkWait::Paused { cluster }));
            if let Some(reason) = reason {
                self.wait(link, vec![reason]);
            }
        }
    }

    fn renders_secret(&self, reader: &ClusterName) -> bool {
        NeedRow::of(StepKind::RenderSecret).place.holds(self.mesh.clusters.get(reader))
    }

    fn begin(&mut self, link: &Link) {
        let unknown = link.ends().into_iter().find(|name| !self.accepted.lock.clusters.contains_key(*name));
        match unknown {
            None => {
                self.set(link, Stage::Joining, Vec::new());
                if self.is_known_from_files(&link.reader) && self.is_known_from_files(&link.peer) {
                    // nothing that a later run could show: files have no evidence
                    self.try_to_join(link);
                } else if self.renders_secret(&link.reader) {
                    self.wait(link, vec![LinkWait::FirstEvidence { peer: link.peer.clone() }]);
                }
            }
            Some(name) if self.renders_secret(&link.reader) => {
                self.wait(link, vec![LinkWait::NotReached { cluster: name.clone() }]);
            }
            Some(_) => {}
        }
    }

    fn is_known_from_files(&self, name: &ClusterName) -> bool {
        let endpoint = self.mesh.clusters.get(name).map(|cluster| &cluster.endpoint);
        matches!(endpoint, Some(Endpoint::File(_)))
    }

    fn try_to_join(&mut self, link: &Link) {
        if !self.renders_secret(&link.reader) {
            // whoever does not admit an agent's cluster has no link with it
            let is_read = self.assessment(&link.reader).is_some_and(|one| one.private == DocumentState::Current);
            if is_read || !self.mesh.inside {
                self.set(link, Stage::Joined, Vec::new());
            }
            return;
        }
        let Some((reader, peer)) = self.end(link).zip(self.end(&link.back())) else { return };
        let hides_our_roots =
            self.assessment(&link.reader).is_some_and(|assessment| hides_our_roots(reader.known.cluster, assessment));
        let back = self.back_link(link);
        let findings = Gate { reader, peer, hides_our_roots, back }.judge();
        if !findings.waits.is_empty() {
            if matches!(findings.waits[..], [LinkWait::PeerReads { until: Some(_), .. }]) {
                self.begin_to_settle(link);
            }
            self.wait(link, findings.waits);
            return;
        }
        self.set(link, Stage::Joined, findings.unproven);
    }

    fn back_link(&self, link: &Link) -> BackLink {
        let Link { reader, peer } = link;
        let lock = &self.accepted.lock;
        let settle = self.mesh.clusters.get(peer).map(|peer| peer.settle).unwrap_or_default();
        let until = lock.link(reader, peer).and_then(|link| link.since).unwrap_or(self.now) + settle;
        let is_joined = lock.link(peer, reader).is_some_and(|back| back.stage == Stage::Joined);
        BackLink { is_joined, until, is_settled: settle.is_zero() || until <= self.now }
    }

    fn end(&self, Link { reader, peer }: &Link) -> Option<End<'a>> {
        let lock = &self.accepted.lock;
        let merged = lock.link(reader, peer).map(|link| link.merged);
        let has_live_links = lock.links_of(reader).any(|(_, link)| link.may_be_live());
        Some(End {
            known: self.known(reader)?,
            showing: self.showing(reader),
            merged,
            has_live_links,
            requires_token: joined_with::requires_token(self, reader),
            states_token: self.mesh.require_token == Some(true),
        })
    }
}
