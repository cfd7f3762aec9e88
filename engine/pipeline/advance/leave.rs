//! Links that the specs no longer want: the secret goes first, then network and route, then trust and peers entry.

use crate::model::known::Known;
use crate::model::link::Link;
use crate::model::lock::{LockedLink, Stage};
use crate::model::mesh::State;
use crate::pipeline::advance::gate::seen;
use crate::pipeline::advance::links::{Links, Move};
use crate::wire::metadata::Evidence;

impl Links<'_> {
    /// Unwanted links: secret, then network and route, then trust and peers entry.
    pub(super) fn leave(&mut self) {
        let accepted = self.accepted;
        let links = accepted.lock.links.iter().flat_map(|(reader, links)| links.iter().map(move |link| (reader, link)));
        for (reader, (peer, LockedLink { stage, .. })) in links {
            let rebuilt = self.is_rebuilt(reader) || self.is_rebuilt(peer);
            let wanted = self.mesh.links(reader, peer) && !rebuilt;
            if wanted || self.stands_still(reader) || self.stands_still(peer) {
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
        is_gone: impl Fn(&Evidence, &Known<'_>) -> Result<bool, String>,
        what: &str,
    ) -> Result<Vec<String>, String> {
        let Link { reader, peer: name } = link;
        // a rebuilt cluster is a new one: the one that held the object is gone
        let leaving = self.mesh.clusters.get(reader).is_none_or(|cluster| cluster.state == State::Leaving)
            || self.is_rebuilt(reader);
        match (self.showing(reader), self.known(name)) {
            (Ok(Some(evidence)), Some(peer)) => match is_gone(evidence, &peer) {
                Ok(true) => Ok(Vec::new()),
                Ok(false) => Err(format!("{what} of `{name}` to be gone from `{reader}`")),
                Err(reason) => Err(format!("`{reader}` to show whether {what} of `{name}` is gone: {reason}")),
            },
            (Ok(_), _) => Ok(vec![format!("`{reader}` publishes no evidence")]),
            (Err(_), _) if leaving => Ok(vec![format!("`{reader}` is leaving and does not answer")]),
            (Err(reason), _) => Err(format!("evidence of `{reader}`: {reason}")),
        }
    }

    fn drop_network(&mut self, link: &Link) {
        let gone = self.seen_gone(
            link,
            |evidence, peer| {
                seen(&evidence.reads).map(|reads| reads.iter().all(|read| read.cluster_id != peer.cluster_id()))
            },
            "the remote secret",
        );
        match gone {
            Ok(unproven) => self.set(link, Stage::LeavingTrust, unproven),
            Err(reason) => self.wait_leaving(link, reason),
        }
    }

    fn drop_trust(&mut self, link: &Link) {
        let back = link.back();
        let other = self.accepted.lock.link(&back.reader, &back.peer).map(|link| link.stage);
        if other.is_some_and(|stage| stage != Stage::LeavingTrust) {
            self.wait_leaving(link, format!("`{}` to let go of `{}`", back.reader, back.peer));
            return;
        }
        for direction in [link, &back] {
            let gone = self.seen_gone(
                direction,
                |evidence, peer| {
                    seen(&evidence.routes)
                        .map(|routes| routes.iter().all(|route| route.cluster_id != peer.cluster_id()))
                },
                "the route",
            );
            if let Err(reason) = gone {
                self.wait_leaving(link, reason);
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

    fn wait_leaving(&mut self, link: &Link, reason: String) {
        self.wait(link, vec![reason]);
    }
}
