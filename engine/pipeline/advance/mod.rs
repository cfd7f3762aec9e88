//! Advancing links: how far each link may go in this turn, by what the clusters show to be live.
//!
//! A secret sends live traffic the moment istiod reads it. So the move from joining to joined waits until both roots, the
//! peer's network, the route and the peer's admission are seen live, and leaving goes the same way back, one stage a turn.
//! The stage is pure: it sees the mesh, the lock and the news of [`accept`](mod@crate::pipeline::accept), and never asks anybody.

mod gate;
pub(crate) mod gone;

use std::collections::{BTreeMap, BTreeSet};

use self::gate::{End, Gate, seen};
use crate::model::known::Known;
use crate::model::link::Link;
use crate::model::lock::{Lock, LockedLink, Stage};
use crate::model::mesh::{Mesh, State};
use crate::model::needs::Row;
use crate::pipeline::accept::{Accepted, News, Showing, hides_our_roots};
use crate::types::name::ClusterName;
use crate::types::step::{StepId, StepKind};
use crate::wire::metadata::Evidence;

/// Most links of the mesh, in percent, that may go in a turn without being explained by `state: leaving`.
pub const DELETION_GUARD_PERCENT: usize = 30;

/// The lock of the next turn, and what kept links from moving.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advanced {
    /// The lock with the new stages.
    pub lock: Lock,
    /// What each step waits for.
    pub waits: BTreeMap<StepId, Vec<String>>,
    /// What is refused, by step.
    pub refusals: BTreeMap<StepId, String>,
    /// Links that moved.
    pub moves: BTreeMap<Link, Move>,
}

/// A link's move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Where it was; `None`: there was no link.
    pub from: Option<Stage>,
    /// Where it is; `None`: it is gone.
    pub to: Option<Stage>,
    /// What could not be proven because a cluster publishes no evidence.
    pub unproven: Vec<String>,
}

/// Moves every link at most one stage. `allow_delete` lifts the deletion guard.
pub fn advance(mesh: &Mesh, accepted: &Accepted, allow_delete: bool) -> Advanced {
    let paused = mesh.clusters.values().filter(|cluster| cluster.state == State::Paused).map(|cluster| &cluster.name);
    let news =
        |is_so: fn(&News) -> bool| accepted.news.iter().filter(move |(_, news)| is_so(news)).map(|(name, _)| name);
    let mut turn = Turn {
        mesh,
        accepted,
        allow_delete,
        still: paused.chain(news(News::is_held_back)).collect(),
        rebuilt: news(|news| news.rebuilt).collect(),
        advanced: Advanced { lock: accepted.lock.clone(), ..Advanced::default() },
    };
    turn.join();
    turn.leave();
    turn.guard();
    turn.advanced
}

struct Turn<'a> {
    mesh: &'a Mesh,
    accepted: &'a Accepted,
    allow_delete: bool,
    /// Clusters whose links keep their stage: paused, or their news are set aside.
    still: BTreeSet<&'a ClusterName>,
    /// Clusters with an approved new identity.
    rebuilt: BTreeSet<&'a ClusterName>,
    advanced: Advanced,
}

impl<'a> Turn<'a> {
    fn known(&self, name: &ClusterName) -> Option<Known<'a>> {
        Known::of(self.mesh, &self.accepted.lock, name)
    }

    fn news(&self, name: &ClusterName) -> Option<&'a News> {
        self.accepted.news.get(name)
    }

    fn stands_still(&self, name: &ClusterName) -> bool {
        self.still.contains(name)
    }

    fn is_rebuilt(&self, name: &ClusterName) -> bool {
        self.rebuilt.contains(name)
    }

    fn set(&mut self, link: &Link, stage: Stage, unproven: Vec<String>) {
        let links = self.advanced.lock.links.entry(link.reader.clone()).or_default();
        let entry = links.entry(link.peer.clone()).or_insert(LockedLink { stage, unproven: false });
        let from = self.accepted.lock.link(&link.reader, &link.peer).map(|link| link.stage);
        entry.stage = stage;
        entry.unproven = !unproven.is_empty();
        if from != Some(stage) {
            self.advanced.moves.insert(link.clone(), Move { from, to: Some(stage), unproven });
        }
    }

    /// Wanted links: begun when both ends are known, joined when the gates are open.
    fn join(&mut self) {
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
        matches!(endpoint, Some(crate::types::address::Endpoint::File(_)))
    }

    fn wait(&mut self, link: &Link, reasons: Vec<String>) {
        self.advanced.waits.entry(link.secret()).or_default().extend(reasons);
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

    /// This turn's evidence of a cluster; `None`: it publishes none; an error says why it was not seen.
    fn showing(&self, name: &ClusterName) -> Result<Option<&'a Evidence>, String> {
        match self.news(name).map(|news| &news.evidence) {
            Some(Showing::Shown(evidence)) => Ok(Some(evidence)),
            Some(Showing::NotPublished) => Ok(None),
            Some(Showing::Unseen(reason)) => Err(reason.clone()),
            None => Err("nobody asked".to_owned()),
        }
    }

    /// Unwanted links: secret, then network and route, then trust and peers entry.
    fn leave(&mut self) {
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

    /// Too many links that nobody declared to be leaving stay as they are until `--allow-delete`.
    fn guard(&mut self) {
        let explained = |name: &ClusterName| {
            self.mesh.clusters.get(name).is_some_and(|cluster| cluster.state == State::Leaving) || self.is_rebuilt(name)
        };
        // all that the spec no longer wants counts, also what stands still this turn: a failing cluster must not make a
        // removal look small
        let (mut standing, mut going) = (0_usize, Vec::new());
        for (reader, links) in &self.accepted.lock.links {
            for (peer, _) in links.iter().filter(|(_, link)| !link.stage.is_leaving()) {
                standing += 1;
                if !self.mesh.links(reader, peer) && !explained(reader) && !explained(peer) {
                    going.push(Link::new(reader, peer));
                }
            }
        }
        if self.allow_delete || going.len() * 100 <= standing * DELETION_GUARD_PERCENT {
            return;
        }
        for link in &going {
            if let Some(old) = self.accepted.lock.link(&link.reader, &link.peer).cloned() {
                self.advanced.lock.links.entry(link.reader.clone()).or_default().insert(link.peer.clone(), old);
            }
            self.advanced.moves.remove(link);
            let words = format!(
                "{} of {standing} links would go and no cluster is `state: leaving`; if that is meant, apply with --allow-delete",
                going.len()
            );
            self.advanced.refusals.insert(link.secret(), words);
        }
    }
}
