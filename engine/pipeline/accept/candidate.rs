//! A candidate for a cluster's lock entry, judged by the entry as it is and by what the spec states and pins.

use std::collections::{BTreeMap, BTreeSet};

use super::outcome::{Assessment, DocumentState, EvidenceState};
use super::reasons::{FailReason, UnseenReason, WaitReason};
use crate::model::known::{implied_cluster_id, is_deckhouse};
use crate::model::lock::{
    LockedCluster, LockedKey, LockedPrivate, LockedPublic, MetadataSource, RetiringRelayCa, RetiringRoot,
};
use crate::model::mesh::{Cluster, FirstContact};
use crate::model::read_by::{ReadBy, first_reader};
use crate::model::trust::{TrustField, TrustFinding, TrustMeaning};
use crate::pipeline::observe::{Failure, Observation, PrivateReading};
use crate::types::address::{Endpoint, Gateway, Host};
use crate::types::certificate::{RootCertificate, certificates, digest_of_pem, parse_roots};
use crate::types::key::{KeyId, PublicKey};
use crate::types::name::{ClusterDomain, ClusterName, Digest};
use crate::types::time::Timestamp;
use crate::wire::metadata::{PrivateDocument, PublicDocument};

/// A cluster's next lock entry, and what speaks against it.
pub(super) struct Candidate {
    pub(super) assessment: Assessment,
    pub(super) entry: Option<LockedCluster>,
    pub(super) changes: Vec<CandidateChange>,
    pub(super) refusals: Vec<TrustFinding>,
}

/// One of a cluster's two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CandidateDocument {
    Public,
    Private,
}

/// A finding, where it was found, and whether the spec states the new value and so approves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CandidateChange {
    pub(super) document: CandidateDocument,
    pub(super) finding: TrustFinding,
    pub(super) stated: bool,
}

/// What all candidates of a run are judged by.
#[derive(Clone, Copy)]
pub(super) struct TrustJudge<'a> {
    pub(super) first_contact: FirstContact,
    pub(super) engine_keys: &'a BTreeMap<KeyId, PublicKey>,
    /// Clusters without an entry on which others rest.
    pub(super) named: &'a BTreeSet<ClusterName>,
    pub(super) now: Timestamp,
    /// The earlier and the later of what our clock and the cluster's say: what retires goes late where they differ.
    pub(super) clocks: (Timestamp, Timestamp),
}

impl TrustJudge<'_> {
    /// Roots that were published and are no more. They count from the first run that sees it, so a late run is a safe one.
    fn retiring(&self, cluster: &Cluster, known: &LockedCluster, new: &LockedPublic) -> Vec<RetiringRoot> {
        let published: BTreeSet<Digest> = new.roots.iter().map(|root| root.digest).collect();
        let gone = known.public.roots.iter().map(|root| RetiringRoot { root: root.clone(), since: self.clocks.1 });
        let before = known.retiring.iter().filter(|old| self.clocks.0 < old.since + cluster.root_overlap).cloned();
        let all = gone.chain(before).filter(|retiring| !published.contains(&retiring.root.digest));
        let mut all: Vec<_> = all.filter(|retiring| !cluster.distrust.contains(&retiring.root.digest)).collect();
        all.sort_by_key(|retiring| retiring.root.digest);
        all
    }

    /// The same of CAs of its relay, which its remote secrets hold.
    fn retiring_relay_cas(&self, cluster: &Cluster, known: &LockedCluster, new: &LockedPublic) -> Vec<RetiringRelayCa> {
        let gone = known.public.relay_ca.iter().map(|pem| RetiringRelayCa { since: self.clocks.1, pem: pem.clone() });
        let before = known.retiring_relay_cas.iter();
        let before = before.filter(|old| self.clocks.0 < old.since + cluster.root_overlap).cloned();
        let published = fingerprint(new.relay_ca.as_ref());
        gone.chain(before).filter(|retiring| fingerprint(Some(&retiring.pem)) != published).collect()
    }

    pub(super) fn candidate(
        &self,
        cluster: &Cluster,
        known: Option<&LockedCluster>,
        observation: &Observation,
    ) -> Candidate {
        let mut candidate = Candidate {
            assessment: Assessment::silent(UnseenReason::PublicDocument),
            entry: None,
            changes: Vec::new(),
            refusals: Vec::new(),
        };
        let document = match &observation.public {
            Ok(document) => document,
            Err(failure) => {
                let starts_empty = is_deckhouse(cluster, known.map(|known| &known.public));
                candidate.assessment.public = state_of(failure, known.is_some(), starts_empty);
                candidate.assessment.private = DocumentState::Waiting(WaitReason::PublicDocument);
                return candidate;
            }
        };
        let roots = match parse_roots(&document.root_ca, self.now) {
            Ok(roots) => roots,
            Err(error) => return candidate.failed(FailReason::RootCa(error)),
        };
        // while links rest on another one, it may publish either
        let stated = cluster.stated().cluster_domain;
        let is_known = |domain: &&ClusterDomain| **domain == cluster.cluster_domain || **domain == stated;
        if let Some(domain) = document.cluster_domain.as_ref().filter(|domain| !is_known(domain)) {
            return candidate.failed(FailReason::ClusterDomain { published: domain.clone(), stated });
        }
        let mut public = locked_public(document, roots);
        if let Some(known) = known.filter(|known| known.public.cluster_uuid == public.cluster_uuid) {
            keep_unpublished(&mut public, &known.public);
        }
        candidate.assessment.public = DocumentState::Current;
        candidate.assessment.read_by = observation.read_by.clone();
        let retiring = known.map(|known| known.retiring.as_slice()).unwrap_or_default();
        candidate.judge_public(self, cluster, (known.map(|known| &known.public), retiring), &public);
        let source = MetadataSource::of(cluster);
        if let Some(known) = known {
            candidate.judge_source(known, &source, cluster.endpoint_ca.as_deref());
        }
        let same = known.filter(|known| known.public.cluster_uuid == public.cluster_uuid);
        let retiring = same.map(|known| self.retiring(cluster, known, &public)).unwrap_or_default();
        let relay_cas = same.map(|known| self.retiring_relay_cas(cluster, known, &public)).unwrap_or_default();
        let mut entry = LockedCluster {
            public,
            private: same.and_then(|known| known.private.clone()),
            standard_mesh_networks: standard_networks(cluster, same),
            joined_with: same.and_then(|known| known.joined_with.clone()),
            retiring,
            retiring_relay_cas: relay_cas,
            lost: same.is_some_and(|known| known.lost),
            approved: None,
            source: Some(source),
            read_by: ReadBy::default(),
            hand_over: same.and_then(|known| known.hand_over),
            serial: known.map(|known| known.serial).unwrap_or_default(),
        };
        match &observation.private {
            PrivateReading::Read(document) => candidate.take_private(cluster, same, document, &mut entry),
            PrivateReading::Failed(failure) => {
                let starts_empty = is_deckhouse(cluster, Some(&entry.public));
                candidate.assessment.private = state_of(failure, entry.private.is_some(), starts_empty);
                candidate.assessment.evidence = EvidenceState::Unseen(UnseenReason::PrivateDocument(failure.clone()));
            }
            PrivateReading::NoKey(problem) => {
                candidate.assessment.private = DocumentState::Waiting(WaitReason::Key(problem.clone()));
                candidate.assessment.evidence = EvidenceState::Unseen(UnseenReason::Key(problem.clone()));
            }
            PrivateReading::HeldBack | PrivateReading::NotAsked => {
                candidate.assessment.private = DocumentState::NotAsked;
                candidate.assessment.evidence = EvidenceState::Unseen(UnseenReason::PrivateDocumentNotAsked);
            }
        }
        entry.read_by = readers(&entry, same, observation);
        candidate.entry = Some(entry);
        candidate
    }
}

impl Candidate {
    fn failed(mut self, reason: FailReason) -> Self {
        self.assessment.public = DocumentState::Failed(reason);
        self.assessment.private = DocumentState::Waiting(WaitReason::PublicDocumentAccepted);
        self
    }

    pub(super) fn judge_public(
        &mut self,
        judge: &TrustJudge<'_>,
        cluster: &Cluster,
        (known, retiring): (Option<&LockedPublic>, &[RetiringRoot]),
        new: &LockedPublic,
    ) {
        let pin = &cluster.pin;
        let uuid = new.cluster_uuid.to_string();
        let key = new.authn_key.fingerprint().to_string();
        let digests: BTreeSet<Digest> = new.roots.iter().map(|root| root.digest).collect();
        let pinned_uuid =
            self.pinned(TrustField::ClusterUuid, pin.cluster_uuid.as_ref().map(ToString::to_string), &uuid);
        let pinned_key = self.pinned(TrustField::AuthnKey, pin.authn_key.map(|digest| digest.to_string()), &key);
        let pinned_roots = (!pin.root_ca.is_empty()).then(|| list(&pin.root_ca));
        let pinned_roots = self.pinned(TrustField::RootCa, pinned_roots, &list(&digests));
        let Some(known) = known else {
            let all_pinned = pinned_uuid && pinned_key && pinned_roots;
            let is_lost = judge.named.contains(&cluster.name);
            if is_lost || (judge.first_contact == FirstContact::Approve && !all_pinned) {
                let mut after = format!("UUID {uuid}, key {key}, root CA {}", list(&digests));
                for (id, further) in new.authn_keys.iter().filter(|(id, further)| {
                    further.key != new.authn_key && judge.engine_keys.get(*id) != Some(&further.key)
                }) {
                    after.push_str(&format!(", further key `{id}` {}", further.key.fingerprint()));
                }
                let meaning = if is_lost { TrustMeaning::EntryLost } else { TrustMeaning::FirstContact };
                self.change(CandidateDocument::Public, (None, Some(after)), meaning, false);
            }
            return;
        };
        if known.cluster_uuid != new.cluster_uuid {
            let values = (Some(known.cluster_uuid.to_string()), Some(uuid));
            self.change(CandidateDocument::Public, values, TrustMeaning::ClusterUuid, pinned_uuid);
        }
        if known.authn_key != new.authn_key {
            let values = (Some(known.authn_key.fingerprint().to_string()), Some(key));
            self.change(CandidateDocument::Public, values, TrustMeaning::AuthnKey, pinned_key);
        }
        for (id, added) in &new.authn_keys {
            let before = known.authn_keys.get(id);
            let is_engines = judge.engine_keys.get(id) == Some(&added.key);
            if !is_engines && added.key != new.authn_key && before.is_none_or(|before| before.key != added.key) {
                let before = before.map(|before| before.key.fingerprint().to_string());
                let values = (before, Some(added.key.fingerprint().to_string()));
                let meaning = TrustMeaning::FurtherAuthnKey { id: id.clone() };
                self.change(CandidateDocument::Public, values, meaning, false);
            }
        }
        let old: BTreeSet<Digest> = known.roots.iter().map(|root| root.digest).collect();
        let trusted = retiring.iter().map(|retiring| retiring.root.digest).chain(old.iter().copied());
        let trusted: BTreeSet<Digest> = trusted.collect();
        // what goes is trusted for a while yet, and no one has to agree to trust less
        if !digests.is_subset(&trusted) {
            self.change(
                CandidateDocument::Public,
                (Some(list(&old)), Some(list(&digests))),
                TrustMeaning::RootCa,
                pinned_roots,
            );
        }
        let relay = (fingerprint(known.relay_ca.as_ref()), fingerprint(new.relay_ca.as_ref()));
        if relay.0.is_some() && relay.0 != relay.1 {
            self.change(CandidateDocument::Public, relay, TrustMeaning::RelayCa, false);
        }
        // without a word of its own a cluster is in the trust domain of its DNS domain, so a first word can change it, too
        let domain_of = |public: &LockedPublic| {
            let published = public.trust_domain.as_ref().map(ToString::to_string);
            published.unwrap_or_else(|| cluster.cluster_domain.to_string())
        };
        let (before, after) = (domain_of(known), domain_of(new));
        if before != after {
            let stated = cluster.trust_domain.as_ref().is_some_and(|stated| stated.as_str() == after);
            self.change(CandidateDocument::Public, (Some(before), Some(after)), TrustMeaning::TrustDomain, stated);
        }
    }

    /// An edit of `metadata` is accepted by merging it where only the serving CA in the lock can have vouched for who answered, or
    /// where the documents are in the checkout.
    pub(super) fn judge_source(&mut self, known: &LockedCluster, new: &MetadataSource, ca: Option<&str>) {
        let Some(before) = known.source.as_ref().filter(|before| *before != new) else { return };
        if let Endpoint::File(_) = new.endpoint {
            return;
        }
        let locked = known.public.serving_ca.as_deref().and_then(certificates).unwrap_or_default();
        let stated = ca.and_then(certificates).unwrap_or_default();
        if stated.is_empty() || !stated.is_subset(&locked) {
            let values = (Some(before.to_string()), Some(new.to_string()));
            self.change(CandidateDocument::Public, values, TrustMeaning::MetadataSource, false);
        }
    }

    /// Whether a pinned value was found; a contradicted pin is a refusal.
    fn pinned(&mut self, what: TrustField, pin: Option<String>, found: &str) -> bool {
        match pin {
            Some(pin) if pin == found => true,
            Some(pin) => {
                let found = found.to_owned();
                let meaning = TrustMeaning::ContradictsPin { what, pinned: pin.clone(), found: found.clone() };
                self.refusals.push(TrustFinding { what, before: Some(pin), after: Some(found), meaning });
                false
            }
            None => false,
        }
    }

    fn change(
        &mut self,
        document: CandidateDocument,
        (before, after): (Option<String>, Option<String>),
        meaning: TrustMeaning,
        stated: bool,
    ) {
        let finding = TrustFinding { what: meaning.field(), before, after, meaning };
        self.changes.push(CandidateChange { document, finding, stated });
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
            let reason = FailReason::GatewayInside { gateway: gateway.clone() };
            self.assessment.private = DocumentState::Failed(reason.clone());
            self.assessment.evidence = EvidenceState::Unseen(UnseenReason::Refused(reason));
            return;
        }
        if document.ingress_gateways.is_empty() && !cluster.flat_network && cluster.stated_gateways().is_none() {
            let failure = Failure::Incomplete { fields: vec!["ingressGateways".to_owned()] };
            let starts_empty = is_deckhouse(cluster, Some(&entry.public));
            self.assessment.private = if document.ambient_gateways.is_empty() || known_private.is_some() {
                state_of(&failure, known_private.is_some(), starts_empty)
            } else {
                DocumentState::Waiting(WaitReason::Sidecars)
            };
            self.assessment.evidence = EvidenceState::Unseen(UnseenReason::NoGateway);
            return;
        }
        let new = LockedPrivate {
            cluster_id: document.cluster_id.clone(),
            network: document.network_name.clone(),
            api_host: document.api_host.clone(),
            api_ca: document.api_ca.clone(),
            gateways: document.ingress_gateways.clone(),
            ambient_gateways: document.ambient_gateways.clone(),
        };
        self.judge_private(cluster, &entry.public, (known_private, &new));
        self.assessment.private = DocumentState::Current;
        self.assessment.evidence = evidence_state(cluster, document);
        self.assessment.leaving.clone_from(&document.leaving);
        if let EvidenceState::Published(evidence) = &self.assessment.evidence
            && let Some(standard) = evidence.mesh_config.seen()
        {
            entry.standard_mesh_networks = Some(standard.mesh_networks.clone().unwrap_or_default());
        }
        entry.private = Some(new);
    }

    /// What changes of a private document; `public` is the one beside it.
    pub(super) fn judge_private(
        &mut self,
        cluster: &Cluster,
        public: &LockedPublic,
        (known, new): (Option<&LockedPrivate>, &LockedPrivate),
    ) {
        let stated = cluster.api.host.as_ref();
        let allowed = cluster.allow.api_hosts.iter().any(|pattern| pattern.matches(&new.api_host.host));
        let host_changed = match known {
            Some(known) => known.api_host != new.api_host && !allowed,
            // the spec's own word is used instead, when there is one
            None => !cluster.allow.api_hosts.is_empty() && !allowed && stated.is_none(),
        };
        if host_changed {
            let values = (known.map(|known| known.api_host.to_string()), Some(new.api_host.to_string()));
            self.change(
                CandidateDocument::Private,
                values,
                TrustMeaning::ApiHost { known: known.is_some() },
                stated == Some(&new.api_host),
            );
        }
        if let Some(known) = known {
            let values = (fingerprint(known.api_ca.as_ref()), fingerprint(new.api_ca.as_ref()));
            if values.0 != values.1 {
                let stated = cluster.api.ca.is_some() && fingerprint(cluster.api.ca.as_ref()) == values.1;
                self.change(CandidateDocument::Private, values, TrustMeaning::ApiCa, stated);
            }
            // a Deckhouse that begins to publish its ID has had it all along
            let is_deckhouse = is_deckhouse(cluster, Some(public));
            let id_of = |private: &LockedPrivate| {
                let implied = || is_deckhouse.then(|| implied_cluster_id(&private.network)).flatten();
                private.cluster_id.clone().or_else(implied)
            };
            let (before, after) = (id_of(known), id_of(new));
            if before != after {
                let stated = cluster.cluster_id.is_some() && cluster.cluster_id == after;
                let values = (before.map(|id| id.to_string()), after.map(|id| id.to_string()));
                self.change(CandidateDocument::Private, values, TrustMeaning::ClusterId, stated);
            }
        }
        let before: BTreeSet<&Gateway> = known.into_iter().flat_map(|known| &known.gateways).collect();
        for gateway in
            new.gateways.iter().filter(|gateway| !before.contains(gateway) && is_outside(cluster, &gateway.address))
        {
            self.change(CandidateDocument::Private, (None, Some(gateway.to_string())), TrustMeaning::Gateway, false);
        }
    }
}

fn list(digests: &BTreeSet<Digest>) -> String {
    digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn fingerprint(pem: Option<&String>) -> Option<String> {
    pem.map(|pem| digest_of_pem(pem).to_string())
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
        crl: document.crl.clone(),
        istio: document.istio.clone(),
    }
}

/// What a cluster no longer says of itself is unknown and not gone: it keeps its last value. Of revocations there are none
/// where none are published.
fn keep_unpublished(public: &mut LockedPublic, known: &LockedPublic) {
    fn keep<T: Clone>(new: &mut Option<T>, old: Option<&T>) {
        *new = new.take().or_else(|| old.cloned());
    }
    keep(&mut public.mesh_id, known.mesh_id.as_ref());
    keep(&mut public.trust_domain, known.trust_domain.as_ref());
    keep(&mut public.cluster_domain, known.cluster_domain.as_ref());
    keep(&mut public.serving_ca, known.serving_ca.as_ref());
    keep(&mut public.relay_ca, known.relay_ca.as_ref());
    keep(&mut public.istio, known.istio.as_ref());
}

/// Before first contact most failures mean that the cluster is still being set up; afterwards they are failures, except that
/// a Deckhouse exporter serves empty fields and 503 while it starts.
fn state_of(failure: &Failure, reached: bool, starts_empty: bool) -> DocumentState {
    if (starts_empty && failure.is_starting()) || (!reached && failure.is_waiting_before_first_contact()) {
        DocumentState::Waiting(WaitReason::Answer(failure.clone()))
    } else {
        DocumentState::Failed(FailReason::NotRead(failure.clone()))
    }
}

/// Who read what the new entry has; a private document that was not read now is the one of before.
fn readers(entry: &LockedCluster, known: Option<&LockedCluster>, observation: &Observation) -> ReadBy {
    let before = |of: fn(&ReadBy) -> Option<&ClusterName>| known.and_then(|known| of(&known.read_by));
    let is_same_public = known.is_some_and(|known| known.public == entry.public);
    let is_same_private = known.is_some_and(|known| known.private == entry.private);
    let (public, private) = (before(|read| read.public.as_ref()), before(|read| read.private.as_ref()));
    let is_read = matches!(observation.private, PrivateReading::Read(_)) && entry.private.is_some();
    let now = &observation.read_by;
    ReadBy {
        public: first_reader(is_same_public, public, now.public.as_ref()),
        private: if is_read { first_reader(is_same_private, private, now.private.as_ref()) } else { private.cloned() },
    }
}

/// What a document shows. An exporter that has just started and one that knows of no evidence publish the same: nothing. So
/// nothing is unknown, unless the spec says that nothing will come.
pub(super) fn evidence_state(cluster: &Cluster, document: &PrivateDocument) -> EvidenceState {
    if matches!(cluster.endpoint, Endpoint::File(_)) {
        return EvidenceState::NotPublished;
    }
    match &document.evidence {
        Some(evidence) => EvidenceState::Published(Box::new(evidence.clone())),
        None if cluster.evidence.requires_any() => EvidenceState::Unseen(UnseenReason::NoEvidence),
        None => EvidenceState::NotPublished,
    }
}

/// The standard networks of a cluster as far as they are known before it shows them. Those that its spec states stay in use when
/// the statement goes: ours replace them.
fn standard_networks(cluster: &Cluster, known: Option<&LockedCluster>) -> Option<String> {
    let last = known.and_then(|known| known.standard_mesh_networks.clone());
    match cluster.istio.standard_mesh_networks.as_ref().filter(|_| !cluster.shows_mesh_networks()) {
        Some(stated) if !stated.is_empty() => Some(serde_json::json!({ "networks": stated }).to_string()),
        Some(_) => last.map(|_| String::new()),
        None => last,
    }
}
