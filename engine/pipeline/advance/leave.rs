//! Links that the specs no longer want: the secret goes first, then network and route, then trust and peers entry.

use crate::model::known::Known;
use crate::model::link::Link;
use crate::model::lock::{LockedLink, Stage};
use crate::model::mesh::State;
use crate::pipeline::advance::gate::seen;
use crate::pipeline::advance::links::{Links, Move};
use crate::pipeline::advance::reasons::{LinkWait, Unproven, Withdrawn};
use crate::wire::metadata::Evidence;

impl Links<'_> {
    /// Unwanted links: secret, then network and route, then trust and peers entry.
    pub(super) fn leave(&mut self) {
        let accepted = self.accepted;
        let links = accepted.lock.links.iter().flat_map(|(reader, links)| links.iter().map(move |link| (reader, link)));
        for (reader, (peer, LockedLink { stage, .. })) in links {
            let rebuilt = self.is_rebuilt(reader) || self.is_rebuilt(peer);
            let wanted = self.mesh.links(reader, peer) && !rebuilt;
            if wanted || self.keeps_stages(reader) || self.keeps_stages(peer) {
                continue;
            }
            let link = Link::new(reader, peer);
            match stage {
                Stage::Joining | Stage::Joined => self.set(&link, Stage::Leaving, Vec::new()),
                Stage::Leaving => self.drop_network(&link),
                Stage::LeavingTrust => self.drop_trust(&link),
            }
        }
    }

    /// What a reader shows of a peer that leaves: `Ok` with what is unproven, or what is waited for.
    fn seen_gone(
        &self,
        link: &Link,
        object: Withdrawn,
        is_gone: impl for<'e> Fn(&'e Evidence, &Known<'_>) -> Result<bool, &'e str>,
    ) -> Result<Vec<Unproven>, LinkWait> {
        let Link { reader, peer: name } = link;
        let (cluster, peer_name) = (reader.clone(), name.clone());
        // a rebuilt cluster is a new one: the one that held the object is gone
        let leaving = self.mesh.clusters.get(reader).is_none_or(|cluster| cluster.state == State::Leaving)
            || self.is_rebuilt(reader);
        match (self.showing(reader), self.known(name)) {
            (Ok(Some(evidence)), Some(peer)) => match is_gone(evidence, &peer) {
                Ok(true) => Ok(Vec::new()),
                Ok(false) => Err(LinkWait::StillThere { object, peer: peer_name, reader: cluster }),
                Err(reason) => {
                    Err(LinkWait::MaybeThere { object, peer: peer_name, reader: cluster, reason: reason.to_owned() })
                }
            },
            (Ok(_), _) => Ok(vec![Unproven::NoEvidence { cluster }]),
            (Err(_), _) if self.is_rebuilt(reader) => Ok(vec![Unproven::Rebuilt { cluster }]),
            (Err(_), _) if leaving => Ok(vec![Unproven::LeavingAndSilent { cluster }]),
            (Err(reason), _) => Err(LinkWait::Evidence { cluster, reason: reason.clone() }),
        }
    }

    fn drop_network(&mut self, link: &Link) {
        let gone = self.seen_gone(link, Withdrawn::Secret, |evidence, peer| {
            seen(&evidence.reads).map(|reads| reads.iter().all(|read| read.cluster_id != peer.cluster_id()))
        });
        match gone {
            Ok(unproven) => self.set(link, Stage::LeavingTrust, unproven),
            Err(reason) => self.wait(link, vec![reason]),
        }
    }

    fn drop_trust(&mut self, link: &Link) {
        let back = link.back();
        let other = self.accepted.lock.link(&back.reader, &back.peer).map(|link| link.stage);
        if other.is_some_and(|stage| stage != Stage::LeavingTrust) {
            self.wait(link, vec![LinkWait::OtherDirection { reader: back.reader, peer: back.peer }]);
            return;
        }
        for direction in [link, &back] {
            let gone = self.seen_gone(direction, Withdrawn::Route, |evidence, peer| {
                seen(&evidence.routes).map(|routes| routes.iter().all(|route| route.cluster_id != peer.cluster_id()))
            });
            if let Err(reason) = gone {
                self.wait(link, vec![reason]);
                return;
            }
        }
        if let Some(links) = self.advanced.lock.links.get_mut(&link.reader) {
            links.remove(&link.peer);
            if links.is_empty() {
                self.advanced.lock.links.remove(&link.reader);
            }
        }
        self.advanced
            .moves
            .insert(link.clone(), Move { from: Some(Stage::LeavingTrust), to: None, unproven: Vec::new() });
    }
}
