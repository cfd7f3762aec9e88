//! What a run that asks makes of the lock: which links it opens and closes, and what it saw when it did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::breach::{Breach, BreachKind, LockRecord, Unseen, Used};
use super::folder::{items, map, text, yaml};
use crate::model::known::KnownCluster;
use crate::model::link::Link;
use crate::model::lock::{JoinedWith, Lock, LockedCluster, LockedLink, Stage};
use crate::model::mesh::{Cluster, EvidenceField, Mesh, MeshConfigTarget, Reconciler, State};
use crate::pipeline::observe::{Failure, Observation, Observed, PrivateReading};
use crate::types::address::{Endpoint, Gateway};
use crate::types::name::{ClusterId, ClusterName, ClusterUuid, Digest};
use crate::types::time::Timestamp;
use crate::wire::hand_over::{HandOverStage, ObjectWriter};
use crate::wire::metadata::{Evidence, IstioFacts, Reported, RouteState};

/// What a cluster showed in this run.
#[derive(Debug, Clone)]
pub struct ShownEvidence<'e> {
    /// The UUID of who showed it.
    pub uuid: &'e ClusterUuid,
    /// Its private document's evidence; `None`: the document was read and has none.
    pub evidence: Option<&'e Evidence>,
}

/// What was seen in a run, by cluster; one whose private document was not read is not in it.
pub type ShownByCluster<'e> = BTreeMap<&'e ClusterName, ShownEvidence<'e>>;

/// What a run learned from those that it asked.
#[derive(Debug, Clone, Default)]
pub struct SeenInRun<'e> {
    pub shown: ShownByCluster<'e>,
    /// Clusters that answered, with their UUIDs, and that no longer admit whoever asked.
    pub refusing: BTreeMap<&'e ClusterName, &'e ClusterUuid>,
}

/// How long a relay is not heard of that has no route: each is tried every 30 s, and what is shown is at most 2 minutes old.
const RELAY_IS_SILENT: Duration = Duration::from_mins(3);
/// How long a watch lasts at most, with what is shown late of it.
const NO_WATCH_LASTS: Duration = Duration::from_mins(35);

/// What of the step from one lock to the next breaks the law.
pub fn step(mesh: &Mesh, before: &Lock, after: &Lock, seen: &SeenInRun<'_>, now: Timestamp) -> Vec<Breach> {
    let step = JudgedStep { mesh, before, after, seen, now };
    let mut breaches = Vec::new();
    let links = before
        .links
        .iter()
        .chain(&after.links)
        .flat_map(|(reader, links)| links.keys().map(move |peer| (reader, peer)));
    let links: BTreeSet<Link> = links.map(|(reader, peer)| Link::new(reader, peer)).collect();
    for link in links {
        breaches.extend(step.link(&link).map(|kind| Breach { link: link.clone(), kind }));
    }
    let were_linked: BTreeSet<&ClusterName> = before.linked().collect();
    let linked: BTreeSet<&ClusterName> = after.linked().collect();
    for cluster in linked.intersection(&were_linked) {
        breaches.extend(step.records(cluster));
    }
    breaches
}

/// Puts back what breaks the law: the links of these readers, and the entries of clusters whose links rest on them. Returns the
/// readers.
pub(crate) fn withhold(before: &Lock, after: &mut Lock, breaches: &[Breach]) -> BTreeSet<ClusterName> {
    let mut readers = BTreeSet::new();
    for Breach { link, kind } in breaches {
        readers.insert(link.reader.clone());
        if let BreachKind::Changed(_, cluster) = kind {
            if let Some(entry) = before.clusters.get(cluster) {
                after.clusters.insert(cluster.clone(), entry.clone());
            }
            let of_it = before.links.iter().filter(|(_, links)| links.contains_key(cluster));
            readers.extend(of_it.map(|(reader, _)| reader.clone()));
        }
    }
    after.keep_links(before, &readers);
    readers
}

struct JudgedStep<'a> {
    mesh: &'a Mesh,
    before: &'a Lock,
    after: &'a Lock,
    seen: &'a SeenInRun<'a>,
    now: Timestamp,
}

/// What a cluster shows of one thing.
enum Sight<'e, T> {
    Seen(&'e T),
    /// Nothing, and its spec says that nothing will come.
    NotToCome,
    Unknown,
}

impl<'a> JudgedStep<'a> {
    fn link(&self, link: &Link) -> Option<BreachKind> {
        let reader = self.mesh.clusters.get(&link.reader)?;
        let stage = |lock: &'a Lock| lock.link(&link.reader, &link.peer).map(|link| link.stage);
        if stage(self.after).is_none() && self.is_left_to_others(link) {
            return None;
        }
        match (stage(self.before), stage(self.after)) {
            (from, Some(Stage::Joined)) if from != Some(Stage::Joined) && reader.reconciler == Reconciler::Rendered => {
                self.unseen(link).map(|(what, of)| BreachKind::Unseen(what, of))
            }
            // what was begun and never left has no secret
            (Some(Stage::Joining), None | Some(Stage::LeavingTrust)) => {
                let before = self.before.link(&link.reader, &link.peer);
                before.is_some_and(|link| link.closed.is_some()).then_some(BreachKind::StillUsed(Used::Secret))
            }
            (Some(Stage::Joined), None | Some(Stage::LeavingTrust | Stage::Joining)) => {
                Some(BreachKind::StillUsed(Used::Secret))
            }
            (Some(Stage::Leaving), None | Some(Stage::LeavingTrust)) => {
                (!self.is_closed(link, Used::Secret)).then_some(BreachKind::StillUsed(Used::Secret))
            }
            // nothing goes, as long as it is remembered that the secret may still be read
            (Some(Stage::Leaving), Some(Stage::Joining)) => {
                let closed = |lock: &Lock| lock.link(&link.reader, &link.peer).and_then(|link| link.closed);
                let is_forgotten = closed(self.before) != closed(self.after);
                (is_forgotten && !self.is_closed(link, Used::Secret)).then_some(BreachKind::StillUsed(Used::Secret))
            }
            (Some(Stage::LeavingTrust), None) => {
                let back = Link::new(&link.peer, &link.reader);
                let is_closed = self.is_closed(link, Used::Route) && self.is_closed(&back, Used::Route);
                (!is_closed).then_some(BreachKind::StillUsed(Used::Route))
            }
            _ => None,
        }
    }

    /// The first thing that was not seen before a link opens.
    fn unseen(&self, link: &Link) -> Option<(Unseen, ClusterName)> {
        let (c, p) = (self.end(&link.reader), self.end(&link.peer));
        let (Some((reader, own)), Some((peer, other))) = (c, p) else {
            return Some((Unseen::Address, link.peer.clone()));
        };
        let (Some(own_record), Some(record)) = (&own.joined_with, &other.joined_with) else {
            return Some((Unseen::Address, link.peer.clone()));
        };
        let c_trusts = self.trusts(reader, own, (peer, other));
        let p_trusts = self.trusts(peer, other, (reader, own));
        let is_own_network = own_record.network == record.network || record.spec.flat_network;
        let answers = [
            (Unseen::Evidence, reader, self.is_published(reader)),
            (Unseen::Evidence, peer, self.is_published(peer)),
            (Unseen::Trusts, reader, c_trusts),
            (Unseen::StandardNetworks, reader, self.keeps_standard_networks(reader, own, own_record)),
            (Unseen::Networks, reader, is_own_network || self.knows_network(reader, record)),
            (Unseen::Routes, reader, self.reaches(reader, record)),
            (Unseen::Prepared, reader, self.is_prepared(reader)),
            (Unseen::RelayToken, reader, self.has_token(reader, own_record)),
            (Unseen::MeshConfig, reader, self.hides_nothing(reader)),
            (Unseen::Trusts, peer, p_trusts),
            (Unseen::Domain, reader, self.accepts(reader, own_record, record, link)),
            (Unseen::Domain, peer, self.accepts(peer, record, own_record, &link.back())),
            (Unseen::Prepared, peer, self.is_prepared(peer)),
            (Unseen::Reading, peer, self.reads_first(reader, (peer, other), link)),
        ];
        answers.into_iter().find(|(_, _, is_seen)| !is_seen).map(|(what, of, _)| (what, of.name.clone()))
    }

    fn end(&self, name: &ClusterName) -> Option<(&'a Cluster, &'a LockedCluster)> {
        Some((self.mesh.clusters.get(name)?, self.after.clusters.get(name)?))
    }

    /// Its private document was read, and shows something unless nothing will come.
    fn is_published(&self, cluster: &Cluster) -> bool {
        let Some(published) = self.published(cluster) else { return false };
        shows_nothing(cluster) || published.evidence.is_some()
    }

    /// What a cluster showed, if it is the one that the new lock knows.
    fn published(&self, cluster: &Cluster) -> Option<&ShownEvidence<'_>> {
        self.published_of(self.after, cluster)
    }

    fn published_of(&self, lock: &Lock, cluster: &Cluster) -> Option<&ShownEvidence<'_>> {
        let known = &lock.clusters.get(&cluster.name)?.public.cluster_uuid;
        self.seen.shown.get(&cluster.name).filter(|published| published.uuid == known)
    }

    fn sight<'e, T>(
        &'e self,
        cluster: &Cluster,
        field: EvidenceField,
        of: impl FnOnce(&'e Evidence) -> &'e Reported<T>,
    ) -> Sight<'e, T> {
        match self.published(cluster).map(|published| published.evidence.map(of)) {
            Some(Some(Reported::Seen(value))) => Sight::Seen(value),
            Some(Some(Reported::Unknown(_))) if !cluster.evidence.requires(field) => Sight::NotToCome,
            Some(None) if shows_nothing(cluster) => Sight::NotToCome,
            Some(_) | None => Sight::Unknown,
        }
    }

    fn trusts(&self, cluster: &Cluster, own: &LockedCluster, (of, other): (&Cluster, &LockedCluster)) -> bool {
        let own: BTreeSet<Digest> = own.public.roots.iter().map(|root| root.digest).collect();
        let roots = other.public.roots.iter().map(|root| root.digest);
        let mut needed = roots.filter(|root| !own.contains(root) && !of.distrust.contains(root));
        match self.sight(cluster, EvidenceField::Trusts, |evidence| &evidence.trusts) {
            Sight::Seen(trusted) => needed.all(|root| trusted.contains(&root)),
            Sight::NotToCome => true,
            Sight::Unknown => needed.next().is_none(),
        }
    }

    /// It accepts identities of the other's trust domain: beside a root since Istio 1.29, by an alias before.
    fn accepts(&self, cluster: &Cluster, own: &JoinedWith, other: &JoinedWith, link: &Link) -> bool {
        let is_ours = cluster.reconciler == Reconciler::Rendered && cluster.istio.config != MeshConfigTarget::None;
        let stated = cluster.merge_trust_domains;
        let has_alias = self.before.link(&link.reader, &link.peer).map_or(stated == Some(true), |link| link.merged);
        if !is_ours || own.trust_domain == other.trust_domain || has_alias {
            return true;
        }
        let istio = self.after.clusters.get(&cluster.name).and_then(|locked| locked.public.istio.as_ref());
        istio.and_then(IstioFacts::release).map_or(stated == Some(false), |release| release >= (1, 29))
    }

    /// A Deckhouse shows no trust: its own link was joined in an earlier run, and the reader's api-proxy saw its token or it had time.
    fn reads_first(&self, reader: &Cluster, (peer, entry): (&Cluster, &LockedCluster), link: &Link) -> bool {
        let is_silent = self.published(peer).is_none_or(|published| published.evidence.is_none());
        let is_deckhouse = match peer.reconciler {
            Reconciler::Deckhouse => true,
            Reconciler::External => entry.public.is_of_deckhouse(),
            Reconciler::Rendered | Reconciler::Agent => false,
        };
        if !is_deckhouse || !is_silent {
            return true;
        }
        let back = self.before.link(&link.peer, &link.reader);
        if back.is_none_or(|back| back.stage != Stage::Joined) {
            return false;
        }
        let shown = self.published(reader).and_then(|published| published.evidence);
        let Some(Reported::Seen(used)) = shown.map(|evidence| &evidence.credentials) else { return true };
        let since = self.before.link(&link.reader, &link.peer).and_then(|link| link.since);
        used.iter().any(|used| used.cluster_uuid == entry.public.cluster_uuid && used.last_used.is_some())
            || peer.settle.is_zero()
            || since.is_some_and(|since| since + peer.settle <= self.now)
    }

    /// The networks of its standard configuration are known, and ours take them up; or they were replaced before.
    fn keeps_standard_networks(&self, reader: &Cluster, own: &LockedCluster, record: &JoinedWith) -> bool {
        let is_live = |link: &LockedLink| !link.unopened && (link.stage != Stage::Joining || link.closed.is_some());
        record.spec.istio_config != MeshConfigTarget::SharedMeshConfig
            || own.standard_mesh_networks.is_some()
            || reader.istio.standard_mesh_networks.is_some()
            || self.before.links_of(&reader.name).any(|(_, link)| is_live(link))
    }

    fn knows_network(&self, reader: &Cluster, peer: &JoinedWith) -> bool {
        match self.sight(reader, EvidenceField::Networks, |evidence| &evidence.networks) {
            Sight::Seen(networks) => networks.iter().any(|network| {
                let live: BTreeSet<_> = network.gateways.iter().collect();
                network.name == peer.network && live == peer.reach.gateways.iter().collect() && !live.is_empty()
            }),
            Sight::NotToCome => true,
            Sight::Unknown => false,
        }
    }

    fn reaches(&self, reader: &Cluster, peer: &JoinedWith) -> bool {
        match self.sight(reader, EvidenceField::Routes, |evidence| &evidence.routes) {
            Sight::Seen(routes) => routes.iter().any(|route| {
                let is_it = route.cluster_id == peer.cluster_id && route.api_host == peer.reach.api_host;
                is_it && route.state == RouteState::Ok
            }),
            Sight::NotToCome => true,
            Sight::Unknown => false,
        }
    }

    fn is_prepared(&self, cluster: &Cluster) -> bool {
        match self.sight(cluster, EvidenceField::Prepared, |evidence| &evidence.prepared) {
            Sight::Seen(is_prepared) => *is_prepared || cluster.istio.prepared,
            Sight::NotToCome => true,
            Sight::Unknown => cluster.istio.prepared,
        }
    }

    /// istiod has the token that secrets name, or the Mesh states that they do and no one shows otherwise.
    fn has_token(&self, reader: &Cluster, own: &JoinedWith) -> bool {
        let shown = self.published(reader).and_then(|published| published.evidence).map(|shown| &shown.relay_token);
        match shown {
            _ if !own.spec.require_token => true,
            Some(Reported::Seen(has_token)) => *has_token,
            Some(Reported::Unknown(_)) | None => self.mesh.require_token == Some(true),
        }
    }

    fn hides_nothing(&self, cluster: &Cluster) -> bool {
        // where the values are to take its place, trusted roots say enough
        let moves = cluster.stated().istio_config != cluster.istio.config;
        let is_merged = cluster.istio.config == MeshConfigTarget::SharedMeshConfig && !moves;
        let standard =
            self.published(cluster).and_then(|published| published.evidence).map(|evidence| &evidence.mesh_config);
        !(is_merged && matches!(standard, Some(Reported::Seen(standard)) if standard.ca_certificates))
    }

    /// Whether a reader shows, since the run that dropped it, that it no longer uses something of a peer; or whether no one will
    /// ever show it and its time is over.
    fn is_closed(&self, link: &Link, used: Used) -> bool {
        let is_gone = |name: &ClusterName| {
            let is_declared = self.mesh.clusters.get(name).is_some_and(|cluster| cluster.state == State::Lost);
            let entries = [self.before, self.after].map(|lock| lock.clusters.get(name));
            // the entry forgets it with the last link
            let is_stated = entries.iter().flatten().any(|locked| locked.lost || locked.approved.is_some());
            is_declared || is_stated || entries.iter().all(Option::is_none)
        };
        if is_gone(&link.reader) || is_gone(&link.peer) {
            return true;
        }
        let Some(reader) = self.mesh.clusters.get(&link.reader) else { return false };
        let Some(before) = self.before.link(&link.reader, &link.peer) else { return true };
        let Some(id) = self.id_of(&link.peer) else { return false };
        let field = if used == Used::Secret { EvidenceField::Reads } else { EvidenceField::Routes };
        let is_required = reader.evidence.requires(field);
        if self.is_refused(link, used) {
            return true;
        }
        let Some(published) = self.published_of(self.before, reader) else {
            return !is_required && self.is_settled(reader, before);
        };
        let Some(evidence) = published.evidence else {
            return shows_nothing(reader) && self.is_settled(reader, before);
        };
        let is_unused = match used {
            Used::Secret => absent(&evidence.reads, |read| read.cluster_id == id),
            Used::Route => absent(&evidence.routes, |route| route.cluster_id == id),
        };
        match (is_unused, &evidence.serial, before.closed) {
            (Some(false), _, _) => false,
            (Some(true), _, None) => true,
            (Some(true), Reported::Seen(serial), Some(closed)) => {
                *serial >= closed && self.is_own_run(reader, evidence)
            }
            (Some(true), Reported::Unknown(_), Some(_)) | (None, _, _) => {
                !is_required && self.is_settled(reader, before)
            }
        }
    }

    /// Whether the run that is live where this checkout writes is not known to be another one's, whose serials are others.
    fn is_own_run(&self, reader: &Cluster, evidence: &Evidence) -> bool {
        let own = &self.before.engine_keys;
        let is_own = |writer| own.is_empty() || own.contains_key(writer);
        reader.reconciler != Reconciler::Rendered || evidence.writer.as_ref().is_none_or(is_own)
    }

    /// Another team's reader does not admit the peer: so it has no link with it. And the peer's api-proxy does not hear of its relay, as it
    /// would if it had; where it was not seen to read the peer no more, for as long as no watch lasts without a new request.
    fn is_refused(&self, link: &Link, used_last: Used) -> bool {
        let (reader, peer) = (self.mesh.clusters.get(&link.reader), self.mesh.clusters.get(&link.peer));
        let (Some(reader), Some(peer)) = (reader, peer) else { return false };
        let known = self.before.clusters.get(&reader.name).map(|known| &known.public.cluster_uuid);
        let refuses = self.seen.refusing.get(&reader.name).copied().filter(|uuid| Some(*uuid) == known);
        let shown = self.published_of(self.before, peer).and_then(|published| published.evidence);
        let (Some(uuid), Some(Reported::Seen(used))) = (refuses, shown.map(|shown| &shown.credentials)) else {
            return false;
        };
        let asked = used.iter().filter(|used| used.cluster_uuid == *uuid).filter_map(|used| used.last_used).max();
        let is_silent = |long| asked.is_none_or(|last| Timestamp::from_seconds(last) + long <= self.now);
        let since = self.before.link(&link.reader, &link.peer).and_then(|link| link.since);
        let is_over = match used_last {
            Used::Secret => is_silent(NO_WATCH_LASTS) && since.is_some_and(|since| since + NO_WATCH_LASTS <= self.now),
            Used::Route => is_silent(RELAY_IS_SILENT),
        };
        reader.reconciler == Reconciler::External && is_over
    }

    fn is_settled(&self, reader: &Cluster, before: &LockedLink) -> bool {
        reader.settle.is_zero() || before.since.is_some_and(|since| since + reader.settle <= self.now)
    }

    fn id_of(&self, peer: &ClusterName) -> Option<ClusterId> {
        KnownCluster::of(self.mesh, self.before, peer).map(|known| known.cluster_id())
    }

    /// Whether a token may be asked for from now on, or no longer: while nothing reads, and no longer where that is stated.
    fn may_change_token(&self, reader: &ClusterName, after: &JoinedWith) -> bool {
        let is_live = |link: &LockedLink| !link.unopened && (link.stage != Stage::Joining || link.closed.is_some());
        let reads = self.before.links_of(reader).any(|(_, link)| is_live(link));
        !reads || (!after.spec.require_token && self.mesh.require_token == Some(false))
    }

    /// What links of a cluster rest on stays while there is one, before and after.
    fn records(&self, name: &ClusterName) -> Vec<Breach> {
        let Some(before) = self.before.clusters.get(name) else { return Vec::new() };
        let mut changed = Vec::new();
        match self.after.clusters.get(name) {
            None => changed.push(LockRecord::Entry),
            Some(after) => {
                if before.public.cluster_uuid != after.public.cluster_uuid {
                    changed.push(LockRecord::Uuid);
                }
                let same = |before: &JoinedWith, after: &JoinedWith| {
                    let mut before = JoinedWith { reach: after.reach.clone(), ..before.clone() };
                    if before.spec.istio_config != after.spec.istio_config && self.values_are_live(name, &before, after)
                    {
                        before.spec.istio_config = after.spec.istio_config;
                    }
                    if self.may_change_token(name, after) {
                        before.spec.require_token = after.spec.require_token;
                    }
                    if self.is_handed_over(name, &before, after) {
                        before.spec.reconciler = after.spec.reconciler;
                    }
                    before == *after
                };
                let joined = before.joined_with.as_ref().zip(after.joined_with.as_ref());
                if before.joined_with.is_some() && joined.is_none_or(|(before, after)| !same(before, after)) {
                    changed.push(LockRecord::JoinedWith);
                }
                changed.extend(self.dropped_roots(name, before, after).map(LockRecord::Root));
            }
        }
        let serial = |lock: &Lock| lock.serials.get(name).copied().unwrap_or_default();
        if serial(self.after) < serial(self.before) {
            changed.push(LockRecord::Serial);
        }
        let breach = |record| {
            let link = Link::new(name, name);
            Breach { link, kind: BreachKind::Changed(record, name.clone()) }
        };
        changed.into_iter().map(breach).collect()
    }

    /// Whether other checkouts have both ends of a link: this one writes nothing of it.
    fn is_left_to_others(&self, link: &Link) -> bool {
        let record = |lock: &'a Lock, name| lock.clusters.get(name).and_then(|entry| entry.joined_with.as_ref());
        link.ends().into_iter().all(|name| match (record(self.before, name), record(self.after, name)) {
            (Some(before), Some(after)) => {
                [before, after].into_iter().all(|record| record.spec.reconciler == Reconciler::External)
            }
            _ => false,
        })
    }

    /// Whether a cluster shows that its agent can take all objects of its links as they are, or has left them as they are, or that
    /// they are marked to stay for another checkout: of the links that were live when it was asked, and of no others.
    fn is_handed_over(&self, name: &ClusterName, before: &JoinedWith, after: &JoinedWith) -> bool {
        let evidence = self.mesh.clusters.get(name).and_then(|cluster| self.published(cluster)?.evidence);
        let links =
            |lock: &Lock| lock.links_of(name).map(|(peer, link)| (peer.clone(), link.stage)).collect::<Vec<_>>();
        let stays = links(self.before) == links(self.after);
        let noted = self.before.clusters.get(name).and_then(|entry| entry.hand_over);
        // what shows that it was left may be lost, and what was left is live as it was
        let is_as_left = || {
            let shown = evidence.and_then(|evidence| evidence.serial.seen().copied());
            after.spec.reconciler == Reconciler::Rendered
                && shown.is_some()
                && noted.and_then(|noted| noted.offered) == shown
        };
        if before.spec.reconciler == Reconciler::External && is_as_left() {
            return stays && evidence.is_some_and(|evidence| self.has_no_other_links(name, evidence));
        }
        let Some(state) = evidence.and_then(|evidence| evidence.hand_over.as_ref()) else { return false };
        let is_of_now = Some(state.serial) == self.before.serials.get(name).copied() && stays;
        let uuid = |peer: &ClusterName| self.before.clusters.get(peer).map(|entry| entry.public.cluster_uuid.clone());
        let joined = self.before.links_of(name).filter(|(_, link)| link.stage == Stage::Joined);
        let joined: BTreeSet<Option<ClusterUuid>> = joined.map(|(peer, _)| uuid(peer)).collect();
        let leaves_all = || state.joined.iter().cloned().map(Some).collect::<BTreeSet<_>>() == joined;
        match (before.spec.reconciler, after.spec.reconciler) {
            (Reconciler::Rendered, Reconciler::Agent) => {
                is_of_now && state.to == ObjectWriter::Agent && state.stage == HandOverStage::Ready
            }
            (Reconciler::Agent, Reconciler::Rendered) => {
                is_of_now && state.to == ObjectWriter::Tree && state.stage == HandOverStage::Released && leaves_all()
            }
            (Reconciler::Rendered, Reconciler::External) => {
                is_of_now && state.to == ObjectWriter::Tree && state.stage == HandOverStage::Offered
            }
            (Reconciler::Agent, Reconciler::External) => {
                is_of_now && state.to == ObjectWriter::Agent && state.stage == HandOverStage::Offered
            }
            // whoever had it counts otherwise, and may have links of which nothing is known here
            (Reconciler::External, to @ (Reconciler::Rendered | Reconciler::Agent)) => {
                let writes = if to == Reconciler::Agent { ObjectWriter::Agent } else { ObjectWriter::Tree };
                let is_offered = state.to == writes && state.stage == HandOverStage::Offered;
                is_offered && stays && evidence.is_some_and(|evidence| self.has_no_other_links(name, evidence))
            }
            _ => false,
        }
    }

    /// Whether a cluster reads what its joined links name and nothing else, and no one else was seen to read it.
    fn has_no_other_links(&self, name: &ClusterName, evidence: &Evidence) -> bool {
        let (Reported::Seen(reads), Reported::Seen(used)) = (&evidence.reads, &evidence.credentials) else {
            return false;
        };
        let links = || self.before.links_of(name);
        let joined = links().filter(|(_, link)| link.stage == Stage::Joined).map(|(peer, _)| self.id_of(peer));
        let uuid = |peer: &ClusterName| self.before.clusters.get(peer).map(|entry| entry.public.cluster_uuid.clone());
        let readers: BTreeSet<Option<ClusterUuid>> = links().map(|(peer, _)| uuid(peer)).collect();
        let read: BTreeSet<Option<ClusterId>> = reads.iter().map(|read| Some(read.cluster_id.clone())).collect();
        let mut asked = used.iter().filter(|used| used.last_used.is_some()).map(|used| used.cluster_uuid.clone());
        joined.collect::<BTreeSet<_>>() == read && asked.all(|uuid| readers.contains(&Some(uuid)))
    }

    /// Whether a cluster shows that each of its istiods has from its own configuration all that our ConfigMap gives.
    fn values_are_live(&self, name: &ClusterName, before: &JoinedWith, after: &JoinedWith) -> bool {
        let is_move = before.spec.istio_config == MeshConfigTarget::SharedMeshConfig
            && !matches!(after.spec.istio_config, MeshConfigTarget::SharedMeshConfig | MeshConfigTarget::None);
        let evidence = self.mesh.clusters.get(name).and_then(|cluster| self.published(cluster)?.evidence);
        let Some(evidence) = evidence.filter(|_| is_move) else { return false };
        let (Reported::Seen(standard), Reported::Seen(trusted)) = (&evidence.mesh_config, &evidence.trusts) else {
            return false;
        };
        let Some(every) = &standard.every_revision else { return false };
        let networks = standard.mesh_networks.as_deref().filter(|_| every.same_networks).unwrap_or_default();
        let networks = map(&yaml(networks.as_bytes()), "/networks");
        let own: BTreeSet<Digest> = self.after.clusters.get(name).map(roots_of).unwrap_or_default();
        let lists = |network: &Value, id: &str| {
            items(network, "/endpoints").iter().any(|endpoint| text(endpoint, "/fromRegistry") == id)
        };
        self.after.links_of(name).all(|(peer, link)| {
            let Some(entry) = self.after.clusters.get(peer) else { return false };
            let Some(joined) = &entry.joined_with else { return false };
            let distrust = self.mesh.clusters.get(peer).map(|peer| &peer.distrust);
            let mut needed = roots_of(entry).into_iter();
            let has_roots = needed.all(|root| {
                let needs_none = own.contains(&root) || distrust.is_some_and(|distrust| distrust.contains(&root));
                let is_there = every.roots.get(&root).is_some_and(|domains| domains.contains(&joined.trust_domain));
                needs_none || (is_there && trusted.contains(&root))
            });
            let is_one = joined.trust_domain == after.trust_domain;
            let has_alias = !link.merged || is_one || every.trust_domain_aliases.contains(&joined.trust_domain);
            let listing: Vec<&String> = networks
                .iter()
                .filter(|(_, network)| lists(network, joined.cluster_id.as_str()))
                .map(|(name, _)| name)
                .collect();
            let is_flat = joined.spec.flat_network || joined.network == after.network;
            let gateways = networks.get(joined.network.as_str()).map(|network| items(network, "/gateways"));
            let has = |gateway: &Gateway| {
                gateways.unwrap_or_default().iter().any(|one| {
                    let port = one.get("port").and_then(Value::as_u64);
                    text(one, "/address") == gateway.address.to_string() && port == Some(gateway.port.into())
                })
            };
            let has_network =
                listing == [joined.network.as_str()] && (is_flat || joined.reach.gateways.iter().all(has));
            has_roots && has_alias && (link.stage == Stage::LeavingTrust || has_network)
        })
    }

    /// Roots that were trusted and are no more, though neither distrusted nor trusted for as long as certificates may last.
    fn dropped_roots<'l>(
        &'l self,
        name: &ClusterName,
        before: &'l LockedCluster,
        after: &'l LockedCluster,
    ) -> impl Iterator<Item = Digest> + use<'l> {
        let cluster = self.mesh.clusters.get(name);
        let published = after.public.roots.iter().map(|root| root.digest);
        let kept: BTreeSet<Digest> = published.chain(after.retiring.iter().map(|old| old.root.digest)).collect();
        let overlap = cluster.map(|cluster| cluster.root_overlap).unwrap_or_default();
        let is_over = move |since: Timestamp| since + overlap <= self.now;
        let retiring = before.retiring.iter().filter(move |old| !is_over(old.since)).map(|old| old.root.digest);
        let all = before.public.roots.iter().map(|root| root.digest).chain(retiring);
        all.filter(move |root| !kept.contains(root) && cluster.is_none_or(|cluster| !cluster.distrust.contains(root)))
    }
}

/// All roots that are trusted for a cluster.
fn roots_of(entry: &LockedCluster) -> BTreeSet<Digest> {
    let retiring = entry.retiring.iter().map(|retiring| retiring.root.digest);
    entry.public.roots.iter().map(|root| root.digest).chain(retiring).collect()
}

/// What was seen in a run. A folder of files shows nothing.
pub(crate) fn seen<'e>(mesh: &Mesh, observed: &'e Observed) -> SeenInRun<'e> {
    let published = |(name, observation): (&'e ClusterName, &'e Observation)| {
        let cluster = mesh.clusters.get(name)?;
        let (Ok(public), PrivateReading::Read(private)) = (&observation.public, &observation.private) else {
            return None;
        };
        let is_file = matches!(cluster.endpoint, Endpoint::File(_));
        let evidence = private.evidence.as_ref().filter(|_| !is_file);
        Some((name, ShownEvidence { uuid: &public.cluster_uuid, evidence }))
    };
    let refuses = |(name, observation): (&'e ClusterName, &'e Observation)| {
        let (Ok(public), PrivateReading::Failed(Failure::Unauthorized { status: 401, .. })) =
            (&observation.public, &observation.private)
        else {
            return None;
        };
        Some((name, &public.cluster_uuid))
    };
    SeenInRun {
        shown: observed.clusters.iter().filter_map(published).collect(),
        refusing: observed.clusters.iter().filter_map(refuses).collect(),
    }
}

/// A cluster that shows nothing, as its spec says.
fn shows_nothing(cluster: &Cluster) -> bool {
    matches!(cluster.endpoint, Endpoint::File(_)) || !cluster.evidence.requires_any()
}

/// Whether nothing of a list that was seen is so; `None`: it was not seen.
fn absent<T>(shown: &Reported<Vec<T>>, is_it: impl Fn(&T) -> bool) -> Option<bool> {
    match shown {
        Reported::Seen(list) => Some(!list.iter().any(is_it)),
        Reported::Unknown(_) => None,
    }
}
