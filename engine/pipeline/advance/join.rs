//! Links that the specs want: begun when both ends are known, joined when the gate is open.

use crate::model::link::Link;
use crate::model::lock::Stage;
use crate::model::needs::Row;
use crate::pipeline::accept::{News, hides_our_roots};
use crate::pipeline::advance::gate::{End, Gate};
use crate::pipeline::advance::links::Links;
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
                if self.stands_still(reader) || self.stands_still(&peer.name) {
                    self.explain_stillness(&link);
                    continue;
                }
                if self.is_rebuilt(reader) || self.is_rebuilt(&peer.name) {
                    continue;
                }
                match stage {
                    Some(Stage::Joining) => self.try_to_join(&link),
                    _ => self.begin(&link),
                }
            }
        }
    }

    fn explain_stillness(&mut self, link: &Link) {
        if self.renders_secret(&link.reader) {
            let held = link.ends().into_iter().find(|name| self.news(name).is_some_and(News::is_held_back));
            let reason = match held {
                Some(name) => format!("the trust change of `{name}` is held back"),
                None => "a cluster of the link is paused".to_owned(),
            };
            self.wait(link, vec![reason]);
        }
    }

    fn renders_secret(&self, reader: &ClusterName) -> bool {
        Row::of(StepKind::RenderSecret).place.holds(self.mesh.clusters.get(reader))
    }

    fn begin(&mut self, link: &Link) {
        let unknown = link.ends().into_iter().find(|name| !self.accepted.lock.clusters.contains_key(*name));
        match unknown {
            None => {
                self.set(link, Stage::Joining, Vec::new());
                if self.is_known_from_files(&link.reader) && self.is_known_from_files(&link.peer) {
                    // nothing that a later turn could show: files have no evidence
                    self.try_to_join(link);
                } else if self.renders_secret(&link.reader) {
                    self.wait(link, vec![format!("roots, network and route of `{}` to be live", link.peer)]);
                }
            }
            Some(name) if self.renders_secret(&link.reader) => {
                let reason = format!("`{name}` to be reached");
                self.wait(link, vec![reason]);
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
            self.set(link, Stage::Joined, Vec::new());
            return;
        }
        let Some((reader, peer)) = self.end(&link.reader).zip(self.end(&link.peer)) else { return };
        let hides_our_roots = self.news(&link.reader).is_some_and(|news| hides_our_roots(reader.known.cluster, news));
        let findings = Gate { reader, peer, hides_our_roots }.judge();
        if !findings.waits.is_empty() {
            self.wait(link, findings.waits);
            return;
        }
        self.set(link, Stage::Joined, findings.unproven);
    }

    fn end(&self, name: &ClusterName) -> Option<End<'a>> {
        Some(End { known: self.known(name)?, showing: self.showing(name) })
    }
}
