//! Links that are to go: the secret first, then network and route, then trust and peers entry.
//!
//! An object counts as live until evidence of its cluster shows that it is gone, and shows it at a serial not older than the
//! run that dropped it: before that run is synced, an absence says nothing. Silence is no evidence. Where the spec says that
//! none will come, each stage lasts for `settle`.

use std::time::Duration;

use crate::model::known::KnownCluster;
use crate::model::link::Link;
use crate::model::lock::{LockedLink, Stage};
use crate::model::mesh::{EvidenceField, Reconciler, State};
use crate::pipeline::accept::UnseenReason;
use crate::pipeline::advance::gate::seen;
use crate::pipeline::advance::links::{Links, Move};
use crate::pipeline::advance::reasons::{HandOverLack, LinkWait, Unproven, Withdrawn};
use crate::pipeline::observe::Failure;
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;
use crate::wire::metadata::Evidence;

/// How long no one asks an api-proxy before it counts as read no more: watches end and begin again within half an hour.
const QUIET: Duration = Duration::from_mins(35);
/// The same of a relay: it tries each of its routes every half minute, and evidence is at most two minutes old.
const RELAY_QUIET: Duration = Duration::from_mins(3);

impl Links<'_> {
    /// Links that no one wants, and those that have to begin anew.
    pub(super) fn leave(&mut self) {
        let accepted = self.accepted;
        let links = accepted.lock.links.iter().flat_map(|(reader, links)| links.iter().map(move |link| (reader, link)));
        for (reader, (peer, LockedLink { stage, .. })) in links {
            let begins_anew = self.begins_anew(reader) || self.begins_anew(peer);
            let link = Link::new(reader, peer);
            let wanted = self.wants(&link);
            let is_of_others = |end: &ClusterName| self.mesh.clusters.get(end).is_some_and(|end| !end.is_ours());
            if link.ends().into_iter().all(is_of_others) && !link.ends().into_iter().any(|end| self.is_gone(end)) {
                // known while one of both may come here
                continue;
            }
            if (begins_anew || !wanted) && self.is_marked(reader) {
                // what is still to be taken is taken all the same
                if !is_of_others(reader) {
                    self.marked.insert(reader);
                }
                self.wait(&link, vec![LinkWait::Marked { cluster: reader.clone() }]);
                continue;
            }
            if !wanted
                && !link.ends().into_iter().any(|end| self.is_gone(end))
                && let Some(left) = link.ends().into_iter().find(|end| self.awaits_another(end))
            {
                let (cluster, lack) = (left.clone(), HandOverLack::NotTaken);
                self.wait(&link, vec![LinkWait::HandOver { cluster, to: Reconciler::External, lack }]);
                continue;
            }
            let is_kept = link.ends().into_iter().any(|end| self.keeps_stages(end));
            let is_set_aside = self.is_set_aside(&link);
            if begins_anew && (!is_kept || is_set_aside) && self.never_opened(&link, is_set_aside) {
                self.remove(&link, *stage);
                continue;
            }
            // what a lost one held is closed, whatever the other end is held back for
            let is_closed = is_set_aside && link.ends().into_iter().any(|end| self.lost.contains(end));
            if wanted || (is_kept && !is_closed) {
                continue;
            }
            if let Some(refused) = self.begun_in_vain(&link) {
                match refused {
                    Ok(()) => self.remove(&link, *stage),
                    Err(reason) => self.wait(&link, vec![reason]),
                }
                continue;
            }
            match stage {
                Stage::Joining | Stage::Joined => self.go(&link, Stage::Leaving, Vec::new()),
                Stage::Leaving => self.drop_network(&link),
                Stage::LeavingTrust => self.drop_trust(&link),
            }
        }
    }

    /// A leaving cluster that is read, or reads, without a link in the lock: what a live secret needs goes as that of any other link
    /// does, once it is seen to be read no more.
    pub(super) fn leave_what_is_read(&mut self) {
        let leaves = |name: &ClusterName| {
            self.mesh.clusters.get(name).is_some_and(|cluster| cluster.state == State::Leaving) && !self.is_gone(name)
        };
        let known: Vec<&ClusterName> = self.mesh.clusters.keys().filter(|name| self.known(name).is_some()).collect();
        let leaving: Vec<&ClusterName> = known.iter().copied().filter(|name| leaves(name)).collect();
        let pairs = leaving
            .iter()
            .flat_map(|one| known.iter().filter(move |other| *other != one).map(move |other| (*one, *other)));
        let mut found = Vec::new();
        for (one, other) in pairs {
            for link in [Link::new(one, other), Link::new(other, one)] {
                let Link { reader, peer } = &link;
                let is_lost = self.accepted.lock.link(reader, peer).is_none();
                let id = self.known(peer).map(|known| known.cluster_id());
                let is_read = || self.assessment(reader)?.reads(&id?);
                let is_ours =
                    || self.mesh.clusters.get(reader).is_some_and(|cluster| cluster.reconciler == Reconciler::Rendered);
                if is_lost
                    && !self.keeps_stages(reader)
                    && !self.keeps_stages(peer)
                    && is_ours()
                    && is_read() == Some(true)
                {
                    found.push(link);
                }
            }
        }
        for link in found {
            for direction in [link.back(), link] {
                if self.accepted.lock.link(&direction.reader, &direction.peer).is_none() {
                    self.go(&direction, Stage::Leaving, Vec::new());
                }
            }
        }
    }

    /// Whether an end is held back, and nothing else keeps the link where it is: what leaves the lock leaves its files in the same run. It may
    /// be held back for what the other end gives up only when its links are gone.
    fn is_set_aside(&self, link: &Link) -> bool {
        let kept = || link.ends().into_iter().filter(|end| self.keeps_stages(end));
        kept().next().is_some() && !kept().any(|end| self.unwritten.contains(end))
    }

    /// Whether neither direction has had a secret since it was begun, and neither reader shows one that the lock does not know:
    /// then nothing that is live rests on it. A reader that shows nothing, though it should, counts as one that reads, unless its
    /// silence is `excused`.
    fn never_opened(&self, link: &Link, excused: bool) -> bool {
        [link, &link.back()].into_iter().all(|Link { reader, peer }| {
            let locked = self.accepted.lock.link(reader, peer);
            let is_read = || self.assessment(reader)?.reads(&self.known(peer)?.cluster_id());
            let rule = self.mesh.clusters.get(reader).map(|cluster| &cluster.evidence);
            let may_be_silent = excused || rule.is_none_or(|rule| !rule.requires(EvidenceField::Reads));
            let has_opened = locked.is_some_and(LockedLink::has_opened);
            !has_opened && is_read().map_or(may_be_silent, |is_read| !is_read)
        })
    }

    fn remove(&mut self, link: &Link, from: Stage) {
        if let Some(links) = self.advanced.lock.links.get_mut(&link.reader) {
            links.remove(&link.peer);
            if links.is_empty() {
                self.advanced.lock.links.remove(&link.reader);
            }
        }
        self.advanced.moves.insert(link.clone(), Move { from: Some(from), to: None, unproven: Vec::new() });
    }

    /// Moves on, and notes when, where only time will tell that the stage is over.
    fn go(&mut self, link: &Link, stage: Stage, unproven: Vec<Unproven>) {
        self.set(link, stage, unproven);
        let field = if stage == Stage::Leaving { EvidenceField::Reads } else { EvidenceField::Routes };
        let by_time = self.mesh.clusters.get(&link.reader).is_some_and(|reader| !reader.evidence.requires(field));
        let links = self.advanced.lock.links.get_mut(&link.reader);
        if let Some(entry) = links.and_then(|links| links.get_mut(&link.peer)).filter(|_| by_time) {
            entry.since = Some(self.now);
        }
    }

    /// What a reader shows of an object of a peer that leaves: `Ok` with what is unproven, or what is waited for.
    fn seen_gone(
        &self,
        link: &Link,
        object: Withdrawn,
        is_gone: impl for<'e> Fn(&'e Evidence, &KnownCluster<'_>) -> Result<bool, &'e str>,
    ) -> Result<Vec<Unproven>, LinkWait> {
        let Link { reader, peer } = link;
        if let Some(end) = link.ends().into_iter().find(|end| self.is_gone(end)) {
            let cluster = end.clone();
            let why = if self.is_rebuilt(end) { Unproven::Rebuilt { cluster } } else { Unproven::Lost { cluster } };
            return Ok(vec![why]);
        }
        let (cluster, locked) = (reader.clone(), self.accepted.lock.link(reader, peer));
        let rule = self.mesh.clusters.get(reader).map(|cluster| &cluster.evidence);
        let required = rule.is_none_or(|rule| rule.requires(object.field()));
        let still = |reason: &str| LinkWait::MaybeThere {
            object,
            peer: peer.clone(),
            reader: reader.clone(),
            reason: reason.to_owned(),
        };
        let evidence = match self.showing(reader) {
            Ok(Some(evidence)) => evidence,
            // what it shows nothing of may be seen where it reads
            Ok(None) if object == Withdrawn::Secret && self.still_asks(link) => {
                return Err(LinkWait::StillThere { object, peer: peer.clone(), reader: cluster });
            }
            Ok(None) => return self.settled(link).map(|()| vec![Unproven::NoEvidence { cluster }]),
            Err(reason) if required => return Err(LinkWait::Evidence { cluster, reason: reason.clone() }),
            // nothing was to come of it, whether it answers or not
            Err(_) => return self.settled(link).map(|()| vec![Unproven::NoEvidence { cluster }]),
        };
        let Some(known) = self.known(peer) else {
            return Err(still("nothing is known of the peer"));
        };
        match is_gone(evidence, &known) {
            Ok(false) => return Err(LinkWait::StillThere { object, peer: peer.clone(), reader: cluster }),
            Err(reason) if required => return Err(still(reason)),
            Err(_) => {
                let field = object.field();
                return self.settled(link).map(|()| vec![Unproven::Attested { cluster, field }]);
            }
            Ok(true) => {}
        }
        let Some(closed) = locked.and_then(|link| link.closed) else { return Ok(Vec::new()) };
        // the serial of another checkout's run says nothing of this one's
        let acts = self.mesh.clusters.get(reader).map(|cluster| cluster.reconciler);
        if let Some((to, key)) = acts.and_then(|acts| Some((acts, self.other_writer(reader, acts)?))) {
            return Err(LinkWait::HandOver { cluster, to, lack: HandOverLack::OthersWrite { key } });
        }
        match seen(&evidence.serial) {
            Ok(serial) if *serial >= closed => Ok(Vec::new()),
            Ok(serial) => Err(LinkWait::Sync { cluster, synced: *serial, wanted: closed }),
            Err(reason) if required => Err(still(reason)),
            Err(_) => self.settled(link).map(|()| vec![Unproven::Attested { cluster, field: object.field() }]),
        }
    }

    /// Whether a pair may go that was begun here alone: neither direction opened since, and the other side refuses. `None`: it is not
    /// such a pair.
    fn begun_in_vain(&self, link: &Link) -> Option<Result<(), LinkWait>> {
        let back = link.back();
        let is_begun = |Link { reader, peer }: &Link| {
            let locked = self.accepted.lock.link(reader, peer);
            locked.is_some_and(|link| link.stage == Stage::Joining && !link.has_opened())
        };
        if !is_begun(link) || !is_begun(&back) {
            return None;
        }
        self.refused(link, Withdrawn::Route).or_else(|| self.refused(&back, Withdrawn::Route))
    }

    /// What it means that another team's reader refuses to show what it has of the peer: it has no link with it, since whoever has one
    /// admits the other. So it is over once its relay is not heard of either, for as long as a relay is silent that has no route; or,
    /// where it is not known that it reads the peer no more, for as long as no watch lasts, from the first run that was refused.
    /// `None`: it does not refuse, or no one can tell whether its relay asks.
    fn refused(&self, link: &Link, object: Withdrawn) -> Option<Result<(), LinkWait>> {
        let Link { reader, peer } = link;
        self.mesh.clusters.get(reader).filter(|cluster| cluster.reconciler == Reconciler::External)?;
        let Err(UnseenReason::PrivateDocument(Failure::Unauthorized { status: 401, .. })) = self.showing(reader) else {
            return None;
        };
        self.assessment(reader).filter(|assessment| assessment.may_be_asked())?;
        let used = seen(&self.showing(peer).ok()??.credentials).ok()?;
        let uuid = self.known(reader)?.uuid();
        let used = used.iter().find(|used| used.cluster_uuid == *uuid);
        let last = used.and_then(|used| used.last_used).map(Timestamp::from_seconds);
        let until = match object {
            Withdrawn::Route => last.map(|last| last + RELAY_QUIET),
            Withdrawn::Secret => {
                let since = self.accepted.lock.link(reader, peer).and_then(|link| link.since).unwrap_or(self.now);
                Some(last.map_or(since, |last| last.max(since)) + QUIET)
            }
        };
        match until.filter(|until| self.now < *until) {
            None => Some(Ok(())),
            Some(until) => Some(Err(LinkWait::Quiet { reader: reader.clone(), peer: peer.clone(), until })),
        }
    }

    /// Whether the peer's api-proxy was asked with a key of the reader a short while ago.
    fn still_asks(&self, link: &Link) -> bool {
        let Some(reader) = self.known(&link.reader) else { return false };
        let Ok(Some(evidence)) = self.showing(&link.peer) else { return false };
        let used = evidence.credentials.seen().into_iter().flatten().find(|used| used.cluster_uuid == *reader.uuid());
        let last = used.and_then(|used| used.last_used).map(Timestamp::from_seconds);
        last.is_some_and(|last| self.now < last + QUIET)
    }

    /// Whether a stage that no evidence shows to be over has lasted long enough.
    fn settled(&self, link: &Link) -> Result<(), LinkWait> {
        let settle = self.mesh.clusters.get(&link.reader).map(|cluster| cluster.settle).unwrap_or_default();
        let since = self.accepted.lock.link(&link.reader, &link.peer).and_then(|link| link.since);
        let until = since.unwrap_or(self.now) + settle;
        if settle.is_zero() || until <= self.now {
            return Ok(());
        }
        Err(LinkWait::Settle { reader: link.reader.clone(), until })
    }

    fn drop_network(&mut self, link: &Link) {
        let gone = self.secret_gone(link).and_then(|unproven| self.back_is_through(link).map(|()| unproven));
        match gone {
            Ok(unproven) => self.go(link, Stage::LeavingTrust, unproven),
            Err(reason) => {
                if matches!(reason, LinkWait::Quiet { .. }) {
                    self.begin_to_settle(link);
                }
                self.stay(link, reason);
            }
        }
    }

    /// What shows that the secret of a link is read no more, or what is waited for.
    fn secret_gone(&self, link: &Link) -> Result<Vec<Unproven>, LinkWait> {
        let gone = self.seen_gone(link, Withdrawn::Secret, |evidence, peer| {
            seen(&evidence.reads).map(|reads| reads.iter().all(|read| read.cluster_id != peer.cluster_id()))
        });
        gone.or_else(|reason| self.refused(link, Withdrawn::Secret).unwrap_or(Err(reason)).map(|()| Vec::new()))
    }

    /// Whether the other direction's secret is gone as well, where another engine acts at an end. That engine takes a route that is gone
    /// for the sign that this side has seen so, and admits this side no more: what it then refuses to show is seen before.
    fn back_is_through(&self, link: &Link) -> Result<(), LinkWait> {
        let back = link.back();
        let is_external = |end: &ClusterName| {
            self.mesh.clusters.get(end).is_some_and(|cluster| cluster.reconciler == Reconciler::External)
        };
        if !link.ends().into_iter().any(is_external) {
            return Ok(());
        }
        let is_through = match self.accepted.lock.link(&back.reader, &back.peer).map(|link| link.stage) {
            None | Some(Stage::LeavingTrust) => true,
            Some(Stage::Leaving) => self.secret_gone(&back).is_ok(),
            Some(Stage::Joining | Stage::Joined) => false,
        };
        let wait = LinkWait::OtherDirection { reader: back.reader, peer: back.peer };
        if is_through { Ok(()) } else { Err(wait) }
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
            if let Err(reason) = gone
                && let Err(reason) = self.refused(direction, Withdrawn::Route).unwrap_or(Err(reason))
            {
                self.stay(link, reason);
                return;
            }
        }
        self.remove(link, Stage::LeavingTrust);
    }

    /// Keeps the stage. A link of an older lock, and one whose reader shows nothing since, begins to count the time now.
    fn stay(&mut self, link: &Link, reason: LinkWait) {
        if matches!(reason, LinkWait::Settle { .. }) {
            self.begin_to_settle(link);
        }
        self.wait(link, vec![reason]);
    }
}
