//! Accepting news: what each cluster published against what the lock holds and the spec pins.
//!
//! The stage is pure and is asked twice in a turn: with public documents alone, so that no token is minted for a cluster
//! that is not what it was, and with all documents, to make the next lock.
//!
//! 1. Each cluster's documents become a candidate for its lock entry, or a reason to wait or to fail.
//! 2. The candidate is compared with the entry and the pins: a changed identity, key, root or address is a trust change,
//!    held back for that cluster alone until it is approved; a contradicted pin is refused.
//! 3. Candidates are compared with each other: nobody takes what another cluster is known by.

use std::collections::{BTreeMap, BTreeSet};

use crate::address::{Gateway, Host};
use crate::certificate::{RootCertificate, parse_roots};
use crate::fact::Known;
use crate::key::{KeyId, PublicKey};
use crate::lock::{Lock, LockedCluster, LockedKey, LockedPrivate, LockedPublic};
use crate::mesh::{Cluster, FirstContact, Mesh, MeshConfigTarget, Reconciler, State};
use crate::metadata::{Evidence, PrivateDocument, PublicDocument};
use crate::name::{ClusterName, Digest, InvalidName};
use crate::observe::{Failure, Observation, Observed, Private};
use crate::token::Scope;

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
    /// Trust changes, approved or not, by cluster.
    pub trust_changes: Vec<TrustChange>,
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
    accepted
}

/// The engine's public keys: those of the spec, else those of the lock.
pub fn engine_keys(mesh: &Mesh, lock: &Lock) -> BTreeMap<KeyId, PublicKey> {
    if mesh.engine_keys.is_empty() {
        return lock.engine_keys.clone();
    }
    mesh.engine_keys.iter().map(|key| (key.id.clone(), key.key.clone())).collect()
}

/// Decides on one candidate: into the lock, or set aside as a whole.
fn settle(cluster: &Cluster, candidate: Candidate, lock: &Lock, approvals: &Approvals, accepted: &mut Accepted) {
    let Candidate { news, entry, mut changes, refusals } = candidate;
    let name = &cluster.name;
    let mut settled = news;
    if !refusals.is_empty() {
        let words = refusals.iter().map(|finding| finding.meaning.as_str()).collect::<Vec<_>>().join("; ");
        settled = News::set_aside(&Standing::Refused(words));
        let digest = digest_of(name, &refusals);
        accepted.trust_changes.push(TrustChange {
            cluster: name.clone(),
            digest,
            findings: refusals,
            verdict: Verdict::Refused,
        });
    } else if !changes.is_empty() {
        changes.sort();
        let digest = digest_of(name, &changes);
        let approved = approvals.cover(name, &digest);
        let verdict = if approved { Verdict::Approved } else { Verdict::HeldBack };
        let known = lock.clusters.get(name);
        let rebuilt = known
            .is_some_and(|known| entry.as_ref().is_some_and(|e| e.public.cluster_uuid != known.public.cluster_uuid));
        let linked =
            lock.links.iter().any(|(reader, links)| (reader == name && !links.is_empty()) || links.contains_key(name));
        if !approved {
            settled = News::set_aside(&Standing::HeldBack);
        } else if rebuilt && linked {
            settled = News::set_aside(&Standing::HeldBack);
            settled.rebuilt = true;
        } else if let Some(entry) = entry {
            accepted.lock.clusters.insert(name.clone(), entry);
        }
        accepted.trust_changes.push(TrustChange { cluster: name.clone(), digest, findings: changes, verdict });
    } else if let Some(entry) = entry {
        accepted.lock.clusters.insert(name.clone(), entry);
    }
    accepted.news.insert(name.clone(), settled);
}

fn digest_of(cluster: &ClusterName, findings: &[TrustFinding]) -> Digest {
    let lines = findings.iter().map(|f| (f.what, f.before.as_deref(), f.after.as_deref()));
    let text = serde_json::to_string(&(cluster.as_str(), lines.collect::<Vec<_>>())).unwrap_or_default();
    Digest::of(text.as_bytes())
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
        !self.rebuilt && matches!(self.public, Standing::HeldBack | Standing::Refused(_))
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
    changes: Vec<TrustFinding>,
    refusals: Vec<TrustFinding>,
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
                let after = format!("UUID {uuid}, key {key}, root CA {}", list(&digests));
                self.change("first contact", None, Some(after), "nobody has approved this cluster yet".to_owned());
            }
            return;
        };
        if known.cluster_uuid != new.cluster_uuid {
            let before = Some(known.cluster_uuid.to_string());
            let meaning =
                "another cluster answers, or this one was rebuilt: approved, its links leave first and then join anew";
            self.change("cluster UUID", before, Some(uuid), meaning.to_owned());
        }
        if known.authn_key != new.authn_key && !pinned_key {
            let before = Some(known.authn_key.fingerprint().to_string());
            self.change("authn key", before, Some(key), "whoever holds the new key speaks for this cluster".to_owned());
        }
        for (id, added) in &new.authn_keys {
            let before = known.authn_keys.get(id);
            let is_engines = judge.engine_keys.get(id) == Some(&added.key);
            if !is_engines && added.key != new.authn_key && before.is_none_or(|before| before.key != added.key) {
                let before = before.map(|before| before.key.fingerprint().to_string());
                let meaning = format!("a holder of the key `{id}` reads private metadata in this cluster's name");
                self.change("further authn key", before, Some(added.key.fingerprint().to_string()), meaning);
            }
        }
        let old: BTreeSet<Digest> = known.roots.iter().map(|root| root.digest).collect();
        if old != digests && !pinned_roots {
            let meaning = "every root can sign every identity of its trust domain".to_owned();
            self.change("root CA", Some(list(&old)), Some(list(&digests)), meaning);
        }
        if known.relay_ca.is_some() && known.relay_ca != new.relay_ca {
            let meaning = "istiod sends its requests to whoever this CA vouches for".to_owned();
            self.change("relay CA", fingerprint(known.relay_ca.as_ref()), fingerprint(new.relay_ca.as_ref()), meaning);
        }
        if known.trust_domain.is_some() && known.trust_domain != new.trust_domain {
            let text = |domain: &Option<crate::name::TrustDomain>| domain.as_ref().map(ToString::to_string);
            let meaning = "identities of this domain become acceptable".to_owned();
            self.change("trust domain", text(&known.trust_domain), text(&new.trust_domain), meaning);
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

    fn change(&mut self, what: &'static str, before: Option<String>, after: Option<String>, meaning: String) {
        self.changes.push(TrustFinding { what, before, after, meaning });
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
            crate::address::Endpoint::File(_) => Showing::NotPublished,
            crate::address::Endpoint::Https { .. } => showing(document),
        };
        if let Showing::Shown(evidence) = &self.news.evidence
            && let Some(standard) = evidence.mesh_config.seen()
        {
            entry.standard_mesh_networks.clone_from(&standard.mesh_networks);
        }
        entry.private = Some(new);
    }

    fn judge_private(&mut self, cluster: &Cluster, known: Option<&LockedPrivate>, new: &LockedPrivate) {
        let host_meaning = "istiod's requests, with our credentials, go to this host".to_owned();
        let stated = cluster.api.host.as_ref();
        let allowed = cluster.allow.api_hosts.iter().any(|pattern| pattern.matches(&new.api_host.host));
        let host_is_news = if cluster.allow.api_hosts.is_empty() {
            known.is_some_and(|known| known.api_host != new.api_host)
        } else {
            !allowed && known.is_none_or(|known| known.api_host != new.api_host)
        };
        if host_is_news && stated.is_none() {
            self.change(
                "api host",
                known.map(|known| known.api_host.to_string()),
                Some(new.api_host.to_string()),
                host_meaning,
            );
        }
        if let Some(known) = known {
            if known.api_ca != new.api_ca && cluster.api.ca.is_none() {
                let meaning = "whoever this CA vouches for is taken for the api-proxy".to_owned();
                self.change("api CA", fingerprint(known.api_ca.as_ref()), fingerprint(new.api_ca.as_ref()), meaning);
            }
            if known.cluster_id != new.cluster_id && cluster.cluster_id.is_none() {
                let text = |id: &Option<crate::name::ClusterId>| id.as_ref().map(ToString::to_string);
                let meaning = "its endpoints are registered under another cluster ID".to_owned();
                self.change("cluster ID", text(&known.cluster_id), text(&new.cluster_id), meaning);
            }
        }
        let before: BTreeSet<&Gateway> = known.into_iter().flat_map(|known| &known.gateways).collect();
        for gateway in
            new.gateways.iter().filter(|gateway| !before.contains(gateway) && is_outside(cluster, &gateway.address))
        {
            let meaning = "traffic for its network is sent to an address that the spec does not allow".to_owned();
            self.change("gateway", None, Some(gateway.to_string()), meaning);
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
    let mut check = |what: &'static str, value_of: &dyn Fn(&Cluster, &LockedCluster) -> Vec<String>| {
        let mut owners: BTreeMap<String, BTreeSet<&ClusterName>> = BTreeMap::new();
        let mut claims: BTreeMap<String, BTreeSet<&ClusterName>> = BTreeMap::new();
        for (name, cluster) in &mesh.clusters {
            let known: BTreeSet<String> =
                lock.clusters.get(name).map(|known| value_of(cluster, known)).unwrap_or_default().into_iter().collect();
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
                let others =
                    owners.get(value).into_iter().flatten().chain(claimants).filter(|other| *other != claimant);
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
    check("cluster UUID", &|_, entry| vec![entry.public.cluster_uuid.to_string()]);
    check("authn key", &|_, entry| vec![entry.public.authn_key.fingerprint().to_string()]);
    check("cluster ID", &|cluster, entry| {
        let known = Known { cluster, locked: entry };
        known.proxy().map(|_| known.cluster_id().to_string()).into_iter().collect()
    });
    check("network", &|cluster, entry| {
        let known = Known { cluster, locked: entry };
        let network = known.proxy().filter(|_| !cluster.flat_network).map(|proxy| proxy.network.to_string());
        network.into_iter().collect()
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

/// The scopes a published key is admitted for: the cluster's own key for all, any other for metadata alone.
pub fn admitted_scopes(own: bool) -> BTreeSet<Scope> {
    if own {
        BTreeSet::from([Scope::Api, Scope::PrivateMulticluster])
    } else {
        BTreeSet::from([Scope::PrivateMulticluster])
    }
}
