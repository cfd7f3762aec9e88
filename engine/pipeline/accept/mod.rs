//! Accepting news: what each cluster published against what the lock holds and the spec pins.
//!
//! The stage is pure and is asked twice in a turn: with public documents alone, so that no token is minted for a cluster
//! that is not what it was, and with all documents, to make the next lock.
//!
//! 1. Each cluster's documents become a candidate for its lock entry, or a reason to wait or to fail.
//! 2. The candidate is compared with the entry and the pins: a changed identity, key, root or address is a trust change,
//!    held back for that cluster alone until it is approved; a contradicted pin is refused. The two documents are approved
//!    one by one: the private one is read only when the public one is approved, so nobody can have seen both before.
//! 3. Candidates are compared with each other: nobody takes what another cluster is known by.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::known::Known;
use crate::model::known::engine_keys;
use crate::model::lock::{Lock, LockedCluster, LockedKey, LockedPrivate, LockedPublic};
use crate::model::mesh::{Cluster, FirstContact, Mesh, MeshConfigTarget, Reconciler, State};
use crate::pipeline::observe::{Failure, Observation, Observed, Private};
use crate::types::address::{Gateway, Host};
use crate::types::certificate::{RootCertificate, parse_roots};
use crate::types::diagnostic::Diagnostic;
use crate::types::key::{KeyId, PublicKey};
use crate::types::name::{ClusterName, Digest, InvalidName};
use crate::wire::metadata::{Evidence, PrivateDocument, PublicDocument};

/// Days before its end from which a root CA is warned of.
pub const ROOT_WARNING_DAYS: i64 = 30;

/// What was approved on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals {
    /// All trust changes of this turn.
    pub all: bool,
    /// Trust changes of these clusters; with a digest, only the one it names.
    pub named: Vec<Approval>,
}

/// `NAME` or `NAME@DIGEST` of `--accept-trust`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The cluster.
    pub cluster: ClusterName,
    /// At least eight hex digits of the trust change's digest.
    pub digest: Option<String>,
}

impl std::str::FromStr for Approval {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
        let digest = digest.map(|digest| digest.strip_prefix("sha256:").unwrap_or(digest));
        let hex = |digest: &str| digest.len() >= 8 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digest.is_some_and(|digest| !hex(digest)) {
            return Err(InvalidName {
                kind: "approval",
                text: text.to_owned(),
                rule: "`NAME` or `NAME@DIGEST` with at least 8 hex digits, as the plan prints it",
            });
        }
        Ok(Self { cluster: name.parse()?, digest: digest.map(str::to_owned) })
    }
}

impl Approvals {
    fn cover(&self, cluster: &ClusterName, digest: &Digest) -> bool {
        let named = |approval: &Approval| {
            approval.cluster == *cluster
                && approval.digest.as_ref().is_none_or(|hex| digest.hex().starts_with(hex.as_str()))
        };
        self.all || self.named.iter().any(named)
    }
}

/// What a turn learned of each cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted {
    /// The lock with all that was accepted; links are as they were.
    pub lock: Lock,
    /// The standing of each cluster that was judged.
    pub news: BTreeMap<ClusterName, News>,
    /// Trust changes, approved or not, by cluster; at most one a document.
    pub trust_changes: Vec<TrustChange>,
    /// Roots that end soon, which only a run with a clock can know.
    pub warnings: Vec<Diagnostic>,
}

/// What a turn learned of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Of its public document.
    pub public: Standing,
    /// Of its private document.
    pub private: Standing,
    /// What it shows to be live.
    pub evidence: Showing,
    /// An approved new identity: its links leave before the new one joins.
    pub rebuilt: bool,
}

/// How a document fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Read and accepted.
    Current,
    /// Not there yet, and never was: one waits for this.
    Waiting(String),
    /// It was there before and is not now, or it breaks the format.
    Failed(String),
    /// Its trust change is not approved.
    HeldBack,
    /// It contradicts a pin, or claims what is another's.
    Refused(String),
    /// Nobody asked: the cluster is paused, or the run is locked.
    NotAsked,
}

/// Evidence as far as it was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Showing {
    /// This turn's evidence.
    Shown(Box<Evidence>),
    /// The document was read and has no such field: moves go on, unproven.
    NotPublished,
    /// No document was read this turn, for this reason: moves wait.
    Unseen(String),
}

/// A change of what a cluster is trusted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustChange {
    /// The cluster.
    pub cluster: ClusterName,
    /// Names exactly this change; `--accept-trust NAME@DIGEST`.
    pub digest: Digest,
    /// What changed, in words.
    pub findings: Vec<TrustFinding>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustFinding {
    /// What changed, for example `root CA`.
    pub what: &'static str,
    /// The value in the lock.
    pub before: Option<String>,
    /// The value published now.
    pub after: Option<String>,
    /// What it means, in a reviewer's words.
    pub meaning: String,
}

/// What becomes of a trust change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It waits for `--accept-trust`.
    HeldBack,
    /// It is approved in this turn, by `--accept-trust` or by a pin.
    Approved,
    /// No approval can help: the spec has to change.
    Refused,
}

/// Judges what was observed. `now` is in seconds since 1970 and decides on the validity of root CAs alone.
pub fn accept(mesh: &Mesh, lock: &Lock, observed: &Observed, approvals: &Approvals, now: i64) -> Accepted {
    let mut accepted = Accepted { lock: lock.clone(), ..Accepted::default() };
    let engine_keys = engine_keys(mesh, lock);
    let judge = Judge { first_contact: mesh.first_contact, engine_keys: &engine_keys, now };
    let mut candidates = BTreeMap::new();
    for cluster in mesh.clusters.values() {
        let observation = observed.clusters.get(&cluster.name);
        let news = match (cluster.state, observation) {
            (State::Paused, _) | (_, None) => News::silent("nobody asked"),
            (State::Leaving, Some(observation)) => farewell(lock.clusters.get(&cluster.name), observation),
            (State::Active, Some(observation)) => {
                let judged = judge.candidate(cluster, lock.clusters.get(&cluster.name), observation);
                let news = judged.news.clone();
                candidates.insert(cluster.name.clone(), judged);
                news
            }
        };
        accepted.news.insert(cluster.name.clone(), news);
    }
    refuse_clashes(mesh, lock, &mut candidates);
    for (name, candidate) in candidates {
        let Some(cluster) = mesh.clusters.get(&name) else { continue };
        settle(cluster, candidate, lock, approvals, &mut accepted);
    }
    accepted.warnings = ending_roots(mesh, &accepted.lock, now);
    accepted
}

/// Warnings of roots that end within [`ROOT_WARNING_DAYS`], or have ended.
fn ending_roots(mesh: &Mesh, lock: &Lock, now: i64) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (name, known) in &lock.clusters {
        let at = mesh.clusters.get(name).map(|cluster| cluster.at.clone());
        for root in known.public.roots.iter().filter(|root| root.days_left(now) < ROOT_WARNING_DAYS) {
            let when = match root.days_left(now) {
                days if days < 0 => "has expired".to_owned(),
                1 => "ends in 1 day".to_owned(),
                days => format!("ends in {days} days"),
            };
            let message = format!("root CA {} of `{name}` ({}) {when}", root.digest, root.subject);
            warnings.push(Diagnostic::warning(at.clone(), message).hint(
                "give the cluster a new root beside the old one; the new one is a trust change, to be accepted while both are valid",
            ));
        }
    }
    warnings
}

/// Decides on one candidate: into the lock, or set aside.
fn settle(cluster: &Cluster, candidate: Candidate, lock: &Lock, approvals: &Approvals, accepted: &mut Accepted) {
    let name = &cluster.name;
    let Candidate { mut news, entry, mut changes, refusals } = candidate;
    if !refusals.is_empty() {
        let words = refusals.iter().map(|finding| finding.meaning.as_str()).collect::<Vec<_>>().join("; ");
        let digest = digest_of(name, &refusals, &[]);
        let change = TrustChange { cluster: name.clone(), digest, findings: refusals, verdict: Verdict::Refused };
        accepted.trust_changes.push(change);
        accepted.news.insert(name.clone(), News::set_aside(&Standing::Refused(words)));
        return;
    }
    let Some(mut entry) = entry else {
        accepted.news.insert(name.clone(), news);
        return;
    };
    changes.sort();
    let known = lock.clusters.get(name);
    let linked =
        lock.links.iter().any(|(reader, links)| (reader == name && !links.is_empty()) || links.contains_key(name));
    let rebuilt = known.is_some_and(|known| known.public.cluster_uuid != entry.public.cluster_uuid);
    let mut named = false;
    let mut held = None;
    for document in [Document::Public, Document::Private] {
        let of_document = changes.iter().filter(|change| change.document == document);
        let (approved_by_spec, open): (Vec<&Change>, Vec<&Change>) = of_document.partition(|change| change.stated);
        let findings: Vec<TrustFinding> =
            approved_by_spec.iter().chain(&open).map(|change| change.finding.clone()).collect();
        if findings.is_empty() || held.is_some() {
            continue;
        }
        let digest = digest_of(name, &findings, &trusted_values(&entry, document));
        let is_named = approvals.cover(name, &digest);
        let approved = is_named || open.is_empty();
        named |= is_named;
        let verdict = if approved { Verdict::Approved } else { Verdict::HeldBack };
        accepted.trust_changes.push(TrustChange { cluster: name.clone(), digest, findings, verdict });
        if !approved {
            held = Some(document);
        }
    }
    let same = known.filter(|known| known.public.cluster_uuid == entry.public.cluster_uuid);
    match held {
        Some(Document::Public) => news = News::set_aside(&Standing::HeldBack),
        _ if rebuilt && linked => {
            let wait = Standing::Waiting("its links to leave, before it joins as the new cluster it is".to_owned());
            news = News::set_aside(&wait);
            news.evidence = Showing::Unseen("another cluster answers in its place".to_owned());
            news.rebuilt = true;
        }
        Some(Document::Private) => {
            let public = news.public;
            news = News::set_aside(&Standing::HeldBack);
            // what the public document changes was approved by itself, and is not asked for again
            if named {
                news.public = public;
                entry.private = same.and_then(|known| known.private.clone());
                entry.standard_mesh_networks = same.and_then(|known| known.standard_mesh_networks.clone());
                accepted.lock.clusters.insert(name.clone(), entry);
            }
        }
        None => {
            accepted.lock.clusters.insert(name.clone(), entry);
        }
    }
    accepted.news.insert(name.clone(), news);
}

/// The trust changes that lie between two locks: what a pull request that changes the lock itself asks a reviewer to
/// accept. Merging it accepts them.
pub fn between(mesh: &Mesh, before: &Lock, after: &Lock) -> Vec<TrustChange> {
    let engine_keys = engine_keys(mesh, after);
    let judge = Judge { first_contact: FirstContact::Approve, engine_keys: &engine_keys, now: 0 };
    let mut changes = Vec::new();
    for (name, entry) in &after.clusters {
        let Some(cluster) = mesh.clusters.get(name) else { continue };
        let known = before.clusters.get(name);
        let news = News::silent("nobody was asked");
        let mut candidate = Candidate { news, entry: None, changes: Vec::new(), refusals: Vec::new() };
        candidate.judge_public(&judge, cluster, known.map(|known| &known.public), &entry.public);
        if let (Some(old), Some(new)) = (known.and_then(|known| known.private.as_ref()), &entry.private) {
            let id = |private: &crate::model::lock::LockedPrivate| private.cluster_id.as_ref().map(ToString::to_string);
            let values = [
                ("cluster ID", id(old), id(new), "istiod knows the cluster by it"),
                (
                    "api host",
                    Some(old.api_host.to_string()),
                    Some(new.api_host.to_string()),
                    "istiod's requests, and the tokens with them, go there",
                ),
                (
                    "api CA",
                    fingerprint(old.api_ca.as_ref()),
                    fingerprint(new.api_ca.as_ref()),
                    "whoever this CA vouches for answers as the cluster's apiserver",
                ),
            ];
            for (what, before, after, meaning) in values {
                if before != after {
                    candidate.change(Document::Private, what, (before, after), meaning, false);
                }
            }
        }
        let findings: Vec<TrustFinding> = candidate.changes.into_iter().map(|change| change.finding).collect();
        if !findings.is_empty() {
            let mut trusted = trusted_values(entry, Document::Public);
            trusted.extend(trusted_values(entry, Document::Private));
            let digest = digest_of(name, &findings, &trusted);
            changes.push(TrustChange { cluster: name.clone(), digest, findings, verdict: Verdict::Approved });
        }
    }
    changes
}

/// Names a trust change: its findings, and all that is trusted with them, so that an approval covers what was shown and
/// nothing else.
fn digest_of(cluster: &ClusterName, findings: &[TrustFinding], trusted: &[String]) -> Digest {
    let lines = findings.iter().map(|f| (f.what, f.before.as_deref(), f.after.as_deref()));
    let text = serde_json::to_string(&(cluster.as_str(), lines.collect::<Vec<_>>(), trusted)).unwrap_or_default();
    Digest::of(text.as_bytes())
}

/// What an approval of a document lets in.
fn trusted_values(entry: &LockedCluster, document: Document) -> Vec<String> {
    let pem = |pem: &Option<String>| fingerprint(pem.as_ref()).unwrap_or_default();
    match document {
        Document::Public => {
            let public = &entry.public;
            let digests = public.roots.iter().map(|root| root.digest.to_string());
            let own = [
                public.cluster_uuid.to_string(),
                public.authn_key.fingerprint().to_string(),
                pem(&public.relay_ca),
                public.trust_domain.as_ref().map(ToString::to_string).unwrap_or_default(),
            ];
            own.into_iter().chain(digests).collect()
        }
        Document::Private => entry.private.iter().fold(Vec::new(), |_, private| {
            let id = private.cluster_id.as_ref().map(ToString::to_string).unwrap_or_default();
            vec![id, private.api_host.to_string(), pem(&private.api_ca)]
        }),
    }
}

impl News {
    fn silent(reason: &str) -> Self {
        Self {
            public: Standing::NotAsked,
            private: Standing::NotAsked,
            evidence: Showing::Unseen(reason.to_owned()),
            rebuilt: false,
        }
    }

    /// The whole news set aside for one reason.
    fn set_aside(standing: &Standing) -> Self {
        let evidence = Showing::Unseen("its trust change is held back".to_owned());
        Self { public: standing.clone(), private: standing.clone(), evidence, rebuilt: false }
    }

    /// Whether the cluster's links must keep their stage.
    pub fn is_held_back(&self) -> bool {
        let held = |standing: &Standing| matches!(standing, Standing::HeldBack | Standing::Refused(_));
        !self.rebuilt && (held(&self.public) || held(&self.private))
    }

    /// Whether a token may be minted for the cluster: its public document is what it should be.
    pub fn may_be_asked(&self) -> bool {
        self.public == Standing::Current
    }
}

/// A leaving cluster is no longer judged; what it shows still counts, if it is still itself.
fn farewell(known: Option<&LockedCluster>, observation: &Observation) -> News {
    let itself = match (&observation.public, known) {
        (Ok(document), Some(known)) => document.cluster_uuid == known.public.cluster_uuid,
        _ => false,
    };
    let mut news = News::silent("it is leaving and does not answer");
    if itself {
        news.public = Standing::Current;
        if let Private::Read(document) = &observation.private {
            news.private = Standing::Current;
            news.evidence = showing(document);
        }
    }
    news
}

fn showing(document: &PrivateDocument) -> Showing {
    match &document.evidence {
        Some(evidence) => Showing::Shown(Box::new(evidence.clone())),
        None => Showing::NotPublished,
    }
}

/// A cluster's next lock entry, and what speaks against it.
struct Candidate {
    news: News,
    entry: Option<LockedCluster>,
    changes: Vec<Change>,
    refusals: Vec<TrustFinding>,
}

/// One of a cluster's two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Document {
    Public,
    Private,
}

/// A finding, where it was found, and whether the spec states the new value and so approves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    document: Document,
    finding: TrustFinding,
    stated: bool,
}

/// What all candidates of a turn are judged by.
struct Judge<'a> {
    first_contact: FirstContact,
    engine_keys: &'a BTreeMap<KeyId, PublicKey>,
    now: i64,
}

impl Judge<'_> {
    fn candidate(&self, cluster: &Cluster, known: Option<&LockedCluster>, observation: &Observation) -> Candidate {
        let mut candidate = Candidate {
            news: News::silent("its public document was not read"),
            entry: None,
            changes: Vec::new(),
            refusals: Vec::new(),
        };
        let document = match &observation.public {
            Ok(document) => document,
            Err(failure) => {
                candidate.news.public = standing_of(failure, known.is_some(), cluster);
                candidate.news.private = Standing::Waiting("its public document".to_owned());
                return candidate;
            }
        };
        let roots = match parse_roots(&document.root_ca, self.now) {
            Ok(roots) => roots,
            Err(error) => return candidate.failed(format!("its root CA is refused: {error}")),
        };
        if let Some(domain) = document.cluster_domain.as_ref().filter(|domain| **domain != cluster.cluster_domain) {
            return candidate.failed(format!(
                "it publishes cluster domain `{domain}` and the spec says `{}`",
                cluster.cluster_domain
            ));
        }
        let public = locked_public(document, roots);
        candidate.news.public = Standing::Current;
        candidate.judge_public(self, cluster, known.map(|known| &known.public), &public);
        let same = known.filter(|known| known.public.cluster_uuid == public.cluster_uuid);
        let mut entry = LockedCluster {
            public,
            private: same.and_then(|known| known.private.clone()),
            standard_mesh_networks: same.and_then(|known| known.standard_mesh_networks.clone()),
        };
        match &observation.private {
            Private::Read(document) => candidate.take_private(cluster, same, document, &mut entry),
            Private::Failed(failure) => {
                candidate.news.private = standing_of(failure, entry.private.is_some(), cluster);
                candidate.news.evidence = Showing::Unseen(failure.to_string());
            }
            Private::NoKey(source) => {
                candidate.news.private = Standing::Waiting(source.clone());
                candidate.news.evidence = Showing::Unseen(source.clone());
            }
            Private::HeldBack | Private::NotAsked => {
                candidate.news.private = Standing::NotAsked;
                candidate.news.evidence = Showing::Unseen("its private document was not asked for".to_owned());
            }
        }
        candidate.entry = Some(entry);
        candidate
    }
}

impl Candidate {
    fn failed(mut self, reason: String) -> Self {
        self.news.public = Standing::Failed(reason);
        self.news.private = Standing::Waiting("its public document to be accepted".to_owned());
        self
    }

    fn judge_public(&mut self, judge: &Judge<'_>, cluster: &Cluster, known: Option<&LockedPublic>, new: &LockedPublic) {
        let pin = &cluster.pin;
        let uuid = new.cluster_uuid.to_string();
        let key = new.authn_key.fingerprint().to_string();
        let digests: BTreeSet<Digest> = new.roots.iter().map(|root| root.digest).collect();
        let pinned_uuid = self.pinned("cluster UUID", pin.cluster_uuid.as_ref().map(ToString::to_string), &uuid);
        let pinned_key = self.pinned("authn key", pin.authn_key.map(|digest| digest.to_string()), &key);
        let pinned_roots = (!pin.root_ca.is_empty()).then(|| list(&pin.root_ca));
        let pinned_roots = self.pinned("root CA", pinned_roots, &list(&digests));
        let Some(known) = known else {
            let all_pinned = pinned_uuid && pinned_key && pinned_roots;
            if judge.first_contact == FirstContact::Approve && !all_pinned {
                let mut after = format!("UUID {uuid}, key {key}, root CA {}", list(&digests));
                for (id, further) in new.authn_keys.iter().filter(|(id, further)| {
                    further.key != new.authn_key && judge.engine_keys.get(*id) != Some(&further.key)
                }) {
                    after.push_str(&format!(", further key `{id}` {}", further.key.fingerprint()));
                }
                let meaning = "nobody has approved this cluster yet; its root signs for the whole mesh from then on";
                self.change(Document::Public, "first contact", (None, Some(after)), meaning, false);
            }
            return;
        };
        if known.cluster_uuid != new.cluster_uuid {
            let values = (Some(known.cluster_uuid.to_string()), Some(uuid));
            let meaning =
                "another cluster answers, or this one was rebuilt: approved, its links leave first and then join anew";
            self.change(Document::Public, "cluster UUID", values, meaning, pinned_uuid);
        }
        if known.authn_key != new.authn_key {
            let values = (Some(known.authn_key.fingerprint().to_string()), Some(key));
            let meaning = "whoever holds the new key speaks for this cluster";
            self.change(Document::Public, "authn key", values, meaning, pinned_key);
        }
        for (id, added) in &new.authn_keys {
            let before = known.authn_keys.get(id);
            let is_engines = judge.engine_keys.get(id) == Some(&added.key);
            if !is_engines && added.key != new.authn_key && before.is_none_or(|before| before.key != added.key) {
                let before = before.map(|before| before.key.fingerprint().to_string());
                let values = (before, Some(added.key.fingerprint().to_string()));
                let meaning = format!("a holder of the key `{id}` reads private metadata in this cluster's name");
                self.change(Document::Public, "further authn key", values, &meaning, false);
            }
        }
        let old: BTreeSet<Digest> = known.roots.iter().map(|root| root.digest).collect();
        if old != digests {
            let meaning = "each root can sign every identity of every accepted trust domain";
            self.change(Document::Public, "root CA", (Some(list(&old)), Some(list(&digests))), meaning, pinned_roots);
        }
        let relay = (fingerprint(known.relay_ca.as_ref()), fingerprint(new.relay_ca.as_ref()));
        if relay.0.is_some() && relay.0 != relay.1 {
            let meaning = "istiod sends its requests to whoever this CA vouches for";
            self.change(Document::Public, "relay CA", relay, meaning, false);
        }
        if known.trust_domain.is_some() && known.trust_domain != new.trust_domain {
            let text = |domain: &Option<crate::types::name::TrustDomain>| domain.as_ref().map(ToString::to_string);
            let stated = cluster.trust_domain.is_some() && cluster.trust_domain == new.trust_domain;
            let meaning = "identities of this domain become acceptable";
            let values = (text(&known.trust_domain), text(&new.trust_domain));
            self.change(Document::Public, "trust domain", values, meaning, stated);
        }
    }

    /// Whether a pinned value was found; a contradicted pin is a refusal.
    fn pinned(&mut self, what: &'static str, pin: Option<String>, found: &str) -> bool {
        match pin {
            Some(pin) if pin == found => true,
            Some(pin) => {
                let meaning = format!(
                    "the {what} contradicts the pin of the spec: pinned {pin}, found {found}; change the pin in a pull request if the new value is right"
                );
                self.refusals.push(TrustFinding { what, before: Some(pin), after: Some(found.to_owned()), meaning });
                false
            }
            None => false,
        }
    }

    fn change(
        &mut self,
        document: Document,
        what: &'static str,
        (before, after): (Option<String>, Option<String>),
        meaning: &str,
        stated: bool,
    ) {
        let finding = TrustFinding { what, before, after, meaning: meaning.to_owned() };
        self.changes.push(Change { document, finding, stated });
    }

    fn take_private(
        &mut self,
        cluster: &Cluster,
        known: Option<&LockedCluster>,
        document: &PrivateDocument,
        entry: &mut LockedCluster,
    ) {
        let known_private = known.and_then(|known| known.private.as_ref());
        if let Some(gateway) = document.ingress_gateways.iter().find(|gateway| is_forbidden(cluster, &gateway.address))
        {
            let reason =
                format!("gateway {gateway} is an inside address; name its range in `allow.addresses` if that is meant");
            self.news.private = Standing::Failed(reason.clone());
            self.news.evidence = Showing::Unseen(reason);
            return;
        }
        if document.ingress_gateways.is_empty() && !cluster.flat_network && cluster.gateways.is_none() {
            let failure = Failure::Incomplete { fields: vec!["ingressGateways".to_owned()] };
            self.news.private = standing_of(&failure, known_private.is_some(), cluster);
            self.news.evidence = Showing::Unseen("it publishes no ingress gateway".to_owned());
            return;
        }
        let new = LockedPrivate {
            cluster_id: document.cluster_id.clone(),
            network: document.network_name.clone(),
            api_host: document.api_host.clone(),
            api_ca: document.api_ca.clone(),
            gateways: document.ingress_gateways.clone(),
        };
        self.judge_private(cluster, known_private, &new);
        self.news.private = Standing::Current;
        self.news.evidence = match cluster.endpoint {
            crate::types::address::Endpoint::File(_) => Showing::NotPublished,
            crate::types::address::Endpoint::Https { .. } => showing(document),
        };
        if let Showing::Shown(evidence) = &self.news.evidence
            && let Some(standard) = evidence.mesh_config.seen()
        {
            entry.standard_mesh_networks.clone_from(&standard.mesh_networks);
        }
        entry.private = Some(new);
    }

    fn judge_private(&mut self, cluster: &Cluster, known: Option<&LockedPrivate>, new: &LockedPrivate) {
        let stated = cluster.api.host.as_ref();
        let allowed = cluster.allow.api_hosts.iter().any(|pattern| pattern.matches(&new.api_host.host));
        let host_is_news = match known {
            Some(known) => known.api_host != new.api_host && !allowed,
            // the spec's own word is used instead, when there is one
            None => !cluster.allow.api_hosts.is_empty() && !allowed && stated.is_none(),
        };
        if host_is_news {
            let values = (known.map(|known| known.api_host.to_string()), Some(new.api_host.to_string()));
            let meaning = "istiod's requests, with our credentials, go to this host";
            self.change(Document::Private, "api host", values, meaning, stated == Some(&new.api_host));
        }
        if let Some(known) = known {
            let values = (fingerprint(known.api_ca.as_ref()), fingerprint(new.api_ca.as_ref()));
            if values.0 != values.1 {
                let stated = cluster.api.ca.is_some() && fingerprint(cluster.api.ca.as_ref()) == values.1;
                let meaning = "whoever this CA vouches for is taken for the api-proxy";
                self.change(Document::Private, "api CA", values, meaning, stated);
            }
            if known.cluster_id != new.cluster_id {
                let text = |id: &Option<crate::types::name::ClusterId>| id.as_ref().map(ToString::to_string);
                let stated = cluster.cluster_id.is_some() && cluster.cluster_id == new.cluster_id;
                let meaning = "its endpoints are registered under another cluster ID";
                let values = (text(&known.cluster_id), text(&new.cluster_id));
                self.change(Document::Private, "cluster ID", values, meaning, stated);
            }
        }
        let before: BTreeSet<&Gateway> = known.into_iter().flat_map(|known| &known.gateways).collect();
        for gateway in
            new.gateways.iter().filter(|gateway| !before.contains(gateway) && is_outside(cluster, &gateway.address))
        {
            let meaning = "traffic for its network is sent to an address that the spec does not allow";
            self.change(Document::Private, "gateway", (None, Some(gateway.to_string())), meaning, false);
        }
    }
}

fn list(digests: &BTreeSet<Digest>) -> String {
    digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn fingerprint(pem: Option<&String>) -> Option<String> {
    pem.map(|pem| Digest::of(pem.trim().as_bytes()).to_string())
}

fn in_ranges(cluster: &Cluster, host: &Host) -> bool {
    match host {
        Host::Address(address) => cluster.allow.addresses.iter().any(|range| range.contains(*address)),
        Host::Name(_) => cluster.allow.api_hosts.iter().any(|pattern| pattern.matches(host)),
    }
}

fn is_forbidden(cluster: &Cluster, host: &Host) -> bool {
    host.is_inward() && !in_ranges(cluster, host)
}

fn is_outside(cluster: &Cluster, host: &Host) -> bool {
    !cluster.allow.addresses.is_empty() && !in_ranges(cluster, host)
}

fn locked_public(document: &PublicDocument, roots: Vec<RootCertificate>) -> LockedPublic {
    let keys = document
        .authn_keys
        .iter()
        .map(|key| (key.id.clone(), LockedKey { key: key.pem.clone(), scopes: key.scopes.clone() }));
    LockedPublic {
        cluster_uuid: document.cluster_uuid.clone(),
        authn_key: document.authn_key.clone(),
        authn_keys: keys.collect(),
        roots,
        mesh_id: document.mesh_id.clone(),
        trust_domain: document.trust_domain.clone(),
        cluster_domain: document.cluster_domain.clone(),
        serving_ca: document.serving_ca.clone(),
        relay_ca: document.relay_ca.clone(),
        istio: document.istio.clone(),
    }
}

/// Before first contact most failures mean that the cluster is still being set up; afterwards they are failures, except that
/// a Deckhouse exporter serves empty fields and 503 while it starts.
fn standing_of(failure: &Failure, reached: bool, cluster: &Cluster) -> Standing {
    let starting = cluster.reconciler == Reconciler::Deckhouse
        && matches!(failure, Failure::Unavailable { .. } | Failure::Incomplete { .. });
    if starting || (!reached && failure.is_waiting_before_first_contact()) {
        Standing::Waiting(format!("an answer: {failure}"))
    } else {
        Standing::Failed(failure.to_string())
    }
}

/// Values that belong to one cluster alone. Newcomers that clash with a known cluster are refused; two newcomers both.
fn refuse_clashes(mesh: &Mesh, lock: &Lock, candidates: &mut BTreeMap<ClusterName, Candidate>) {
    let mut refused: Vec<(ClusterName, TrustFinding)> = Vec::new();
    let mut check = |what: &'static str,
                     stated_by: &dyn Fn(&Cluster) -> Option<String>,
                     value_of: &dyn Fn(&Cluster, &LockedCluster) -> Vec<String>| {
        let mut owners: BTreeMap<String, BTreeSet<&ClusterName>> = BTreeMap::new();
        let mut claims: BTreeMap<String, BTreeSet<&ClusterName>> = BTreeMap::new();
        for (name, cluster) in &mesh.clusters {
            let locked = lock.clusters.get(name).map(|known| value_of(cluster, known)).unwrap_or_default();
            let known: BTreeSet<String> = locked.into_iter().chain(stated_by(cluster)).collect();
            let entry = candidates.get(name).and_then(|candidate| candidate.entry.as_ref());
            for value in entry.map(|entry| value_of(cluster, entry)).unwrap_or_default() {
                if !known.contains(&value) {
                    claims.entry(value).or_default().insert(name);
                }
            }
            for value in known {
                owners.entry(value).or_default().insert(name);
            }
        }
        for (value, claimants) in &claims {
            for claimant in claimants {
                let flat = |name: &ClusterName| mesh.clusters.get(name).is_some_and(|cluster| cluster.flat_network);
                let shares = |other: &ClusterName| what == "network" && flat(claimant) && flat(other);
                let others = owners.get(value).into_iter().flatten().chain(claimants);
                let others = others.filter(|other| *other != claimant && !shares(other));
                if let Some(other) = others.min() {
                    let meaning = format!(
                        "the {what} `{value}` is also that of cluster `{other}`: one of the two claims what is not its own; nothing of this cluster is taken until they differ"
                    );
                    refused.push((
                        (*claimant).clone(),
                        TrustFinding { what, before: None, after: Some(value.clone()), meaning },
                    ));
                }
            }
        }
    };
    check("cluster UUID", &|cluster| cluster.pin.cluster_uuid.as_ref().map(ToString::to_string), &|_, entry| {
        vec![entry.public.cluster_uuid.to_string()]
    });
    check("authn key", &|cluster| cluster.pin.authn_key.map(|key| key.to_string()), &|_, entry| {
        vec![entry.public.authn_key.fingerprint().to_string()]
    });
    // both the ID that others know it by and the one that its own istiod runs with
    check("cluster ID", &|cluster| cluster.cluster_id.as_ref().map(ToString::to_string), &|cluster, entry| {
        let known = Known { cluster, locked: entry };
        let own = Some(known.own_cluster_id()).filter(|id| !id.is_istio_default());
        let ids = known.proxy().map(|_| [Some(known.cluster_id()), own]);
        ids.into_iter().flatten().flatten().map(|id| id.to_string()).collect()
    });
    check("network", &|cluster| cluster.network.as_ref().map(ToString::to_string), &|cluster, entry| {
        let known = Known { cluster, locked: entry };
        known.proxy().map(|proxy| proxy.network.to_string()).into_iter().collect()
    });
    for (name, finding) in refused {
        if let Some(candidate) = candidates.get_mut(&name) {
            candidate.refusals.push(finding);
        }
    }
}

/// Whether the standard mesh configuration of the cluster hides what we write.
pub fn hides_our_roots(cluster: &Cluster, news: &News) -> bool {
    let Showing::Shown(evidence) = &news.evidence else { return false };
    cluster.istio.config == MeshConfigTarget::SharedMeshConfig
        && evidence.mesh_config.seen().is_some_and(|standard| standard.ca_certificates)
}
