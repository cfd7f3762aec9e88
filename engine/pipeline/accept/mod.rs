//! Accepting what each cluster published against what the lock holds and the spec pins.
//!
//! The stage is pure and is asked twice in a run: with public documents alone, so that no token is minted for a cluster
//! that is not what it was, and with all documents, to make the next lock.
//!
//! 1. Each cluster's documents become a candidate for its lock entry, or a reason to wait or to fail.
//! 2. The candidate is compared with the entry and the pins: a changed identity, key, root or address is a trust change,
//!    held back for that cluster alone until it is approved; a contradicted pin is refused. The two documents are approved
//!    one by one: the private one is read only when the public one is approved, so no one can have seen both before.
//! 3. Candidates are compared with each other: no one takes what another cluster is known by.

mod candidate;
mod clashes;
mod outcome;
mod reasons;
mod warnings;

pub use outcome::{Accepted, Assessment, DocumentState, EvidenceState, hides_our_roots};
pub use reasons::{FailReason, Refusals, UnseenReason, WaitReason};
pub(crate) use warnings::of_lock;
pub use warnings::{ROOT_WARNING, equal_subjects};

use std::collections::{BTreeMap, BTreeSet};

use crate::model::known::engine_keys;
use crate::model::lock::{Lock, LockedCluster};
use crate::model::mesh::{Cluster, FirstContact, Mesh, State};
use crate::model::trust::{Approvals, TrustChange, TrustFinding, Verdict};
use crate::pipeline::accept::candidate::{
    Candidate, CandidateChange, CandidateDocument, TrustJudge, evidence_state, fingerprint,
};
use crate::pipeline::accept::clashes::refuse_clashes;
use crate::pipeline::accept::warnings::ending_roots;
use crate::pipeline::observe::{Failure, Observation, Observed, PrivateReading};
use crate::types::name::{ClusterName, Digest};
use crate::types::time::Timestamp;

/// Judges what was observed. `now` decides on the validity of root CAs alone.
///
/// `named` are clusters without an entry on which others rest: what they publish is compared with nothing, so it waits for an
/// approval, however first contact is approved.
pub fn accept(
    mesh: &Mesh,
    lock: &Lock,
    observed: &Observed,
    approvals: &Approvals,
    named: &BTreeSet<ClusterName>,
    now: Timestamp,
) -> Accepted {
    let mut accepted = Accepted { lock: lock.clone(), ..Accepted::default() };
    let engine_keys = engine_keys(mesh, lock);
    let judge =
        TrustJudge { first_contact: mesh.first_contact, engine_keys: &engine_keys, named, now, clocks: (now, now) };
    let judge_of = |name: &ClusterName| TrustJudge { clocks: observed.clocks_of(name, now), ..judge };
    let mut candidates = BTreeMap::new();
    for cluster in mesh.clusters.values() {
        let observation = observed.clusters.get(&cluster.name);
        let assessment = match (cluster.state, observation) {
            (State::Paused | State::Lost, _) | (_, None) => Assessment::silent(UnseenReason::NotAsked),
            (State::Leaving, Some(observation)) => farewell(cluster, lock.clusters.get(&cluster.name), observation),
            (State::Active, Some(observation)) => {
                let judged = judge_of(&cluster.name).candidate(cluster, lock.clusters.get(&cluster.name), observation);
                let assessment = judged.assessment.clone();
                candidates.insert(cluster.name.clone(), judged);
                assessment
            }
        };
        accepted.assessments.insert(cluster.name.clone(), assessment);
    }
    refuse_clashes(mesh, lock, &mut candidates);
    for (name, candidate) in candidates {
        let Some(cluster) = mesh.clusters.get(&name) else { continue };
        settle(cluster, candidate, lock, approvals, &mut accepted);
    }
    accepted.warnings = ending_roots(mesh, &accepted.lock, now);
    accepted
}

/// A leaving cluster is no longer judged; what it shows still counts, if it is still itself.
fn farewell(cluster: &Cluster, known: Option<&LockedCluster>, observation: &Observation) -> Assessment {
    let itself = match (&observation.public, known) {
        (Ok(document), Some(known)) => document.cluster_uuid == known.public.cluster_uuid,
        _ => false,
    };
    let mut assessment = Assessment::silent(UnseenReason::Leaving);
    if itself {
        assessment.public = DocumentState::Current;
        assessment.read_by = observation.read_by.clone();
        match &observation.private {
            PrivateReading::Read(document) => {
                assessment.private = DocumentState::Current;
                assessment.evidence = evidence_state(cluster, document);
                assessment.leaving.clone_from(&document.leaving);
            }
            // what it says by that decides how the last stage ends
            PrivateReading::Failed(failure @ Failure::Unauthorized { .. }) => {
                assessment.evidence = EvidenceState::Unseen(UnseenReason::PrivateDocument(failure.clone()));
            }
            PrivateReading::Failed(_)
            | PrivateReading::NoKey(_)
            | PrivateReading::HeldBack
            | PrivateReading::NotAsked => {}
        }
    }
    assessment
}

/// Decides on one candidate: into the lock, or set aside.
fn settle(cluster: &Cluster, candidate: Candidate, lock: &Lock, approvals: &Approvals, accepted: &mut Accepted) {
    let name = &cluster.name;
    let Candidate { mut assessment, entry, mut changes, refusals } = candidate;
    if !refusals.is_empty() {
        let digest = digest_of(name, &refusals, &[]);
        let findings = refusals.clone();
        let read_by = assessment.read_by.any();
        let change = TrustChange { cluster: name.clone(), digest, findings, verdict: Verdict::Refused, read_by };
        accepted.trust_changes.push(change);
        let refused = Assessment::set_aside(&DocumentState::Refused(Refusals(refusals)));
        accepted.assessments.insert(name.clone(), Assessment { read_by: assessment.read_by, ..refused });
        return;
    }
    let Some(mut entry) = entry else {
        accepted.assessments.insert(name.clone(), assessment);
        return;
    };
    changes.sort();
    let known = lock.clusters.get(name);
    let linked =
        lock.links.iter().any(|(reader, links)| (reader == name && !links.is_empty()) || links.contains_key(name));
    let rebuilt = known.is_some_and(|known| known.public.cluster_uuid != entry.public.cluster_uuid);
    let mut named = false;
    let mut held = None;
    let mut approved_identity = None;
    for document in [CandidateDocument::Public, CandidateDocument::Private] {
        let change = change_of(name, document, &changes, &entry).filter(|_| held.is_none());
        let Some(DocumentChange { digest, findings, is_stated }) = change else { continue };
        // an approval holds until the links of the cluster that was there before are gone
        let is_named = approvals.cover(name, &digest) || known.is_some_and(|known| known.approved == Some(digest));
        let approved = is_named || is_stated;
        named |= is_named;
        let verdict = if approved { Verdict::Approved } else { Verdict::HeldBack };
        let readers = &assessment.read_by;
        let read_by = match document {
            CandidateDocument::Public => readers.public.clone(),
            CandidateDocument::Private => readers.private.clone(),
        };
        accepted.trust_changes.push(TrustChange { cluster: name.clone(), digest, findings, verdict, read_by });
        if !approved {
            held = Some(document);
        } else if document == CandidateDocument::Public {
            approved_identity = Some(digest);
        }
    }
    let same = known.filter(|known| known.public.cluster_uuid == entry.public.cluster_uuid);
    let read_by = assessment.read_by.clone();
    match held {
        Some(CandidateDocument::Public) => assessment = Assessment::set_aside(&DocumentState::HeldBack),
        _ if rebuilt && linked => {
            let wait = DocumentState::Waiting(WaitReason::LinksToLeave);
            assessment = Assessment::set_aside(&wait);
            assessment.evidence = EvidenceState::Unseen(UnseenReason::Rebuilt);
            assessment.rebuilt = true;
            if let Some(known) = accepted.lock.clusters.get_mut(name) {
                known.approved = approved_identity;
            }
        }
        Some(CandidateDocument::Private) => {
            let public = assessment.public;
            assessment = Assessment::set_aside(&DocumentState::HeldBack);
            // what the public document changes was approved by itself, and is not asked for again
            if named {
                assessment.public = public;
                entry.private = same.and_then(|known| known.private.clone());
                entry.read_by.private = same.and_then(|known| known.read_by.private.clone());
                entry.standard_mesh_networks = same.and_then(|known| known.standard_mesh_networks.clone());
                accepted.lock.clusters.insert(name.clone(), entry);
            }
        }
        None => {
            accepted.lock.clusters.insert(name.clone(), entry);
        }
    }
    accepted.assessments.insert(name.clone(), Assessment { read_by, ..assessment });
}

/// The trust changes that lie between two locks: what a pull request that changes the lock itself asks a reviewer to accept.
/// Each is judged, and named, as the run would that saw it published; merging it accepts it.
pub fn between(mesh: &Mesh, before: &Lock, after: &Lock) -> Vec<TrustChange> {
    let engine_keys = engine_keys(mesh, before);
    let named = BTreeSet::new();
    let judge = TrustJudge {
        first_contact: FirstContact::Approve,
        engine_keys: &engine_keys,
        named: &named,
        now: Timestamp::EPOCH,
        clocks: (Timestamp::EPOCH, Timestamp::EPOCH),
    };
    let mut changes = Vec::new();
    for (name, entry) in &after.clusters {
        let Some(cluster) = mesh.clusters.get(name) else { continue };
        let known = before.clusters.get(name);
        let assessment = Assessment::silent(UnseenReason::NotAsked);
        let mut candidate = Candidate { assessment, entry: None, changes: Vec::new(), refusals: Vec::new() };
        let retiring = known.map(|known| known.retiring.as_slice()).unwrap_or_default();
        candidate.judge_public(&judge, cluster, (known.map(|known| &known.public), retiring), &entry.public);
        if let (Some(known), Some(source)) = (known, &entry.source) {
            candidate.judge_source(known, source, cluster.endpoint_ca.as_deref());
        }
        let same = known.filter(|known| known.public.cluster_uuid == entry.public.cluster_uuid);
        if let Some(new) = &entry.private {
            let before = same.and_then(|known| known.private.as_ref());
            candidate.judge_private(cluster, &entry.public, (before, new));
        }
        if !candidate.refusals.is_empty() && known.is_none_or(|known| known.public != entry.public) {
            let findings = candidate.refusals;
            let digest = digest_of(name, &findings, &[]);
            let (verdict, read_by) = (Verdict::Refused, entry.read_by.any());
            changes.push(TrustChange { cluster: name.clone(), digest, findings, verdict, read_by });
            continue;
        }
        candidate.changes.sort();
        for document in [CandidateDocument::Public, CandidateDocument::Private] {
            if let Some(change) = change_of(name, document, &candidate.changes, entry) {
                let verdict = if change.is_stated { Verdict::Approved } else { Verdict::Proposed };
                let (digest, findings) = (change.digest, change.findings);
                let read_by = match document {
                    CandidateDocument::Public => entry.read_by.public.clone(),
                    CandidateDocument::Private => entry.read_by.private.clone(),
                };
                changes.push(TrustChange { cluster: name.clone(), digest, findings, verdict, read_by });
            }
        }
    }
    changes
}

/// What changes in one of a cluster's documents.
struct DocumentChange {
    digest: Digest,
    findings: Vec<TrustFinding>,
    /// The spec states all of it, and so approves it.
    is_stated: bool,
}

/// The change of a document, named by its digest: the same, whoever shows it.
fn change_of(
    cluster: &ClusterName,
    document: CandidateDocument,
    changes: &[CandidateChange],
    entry: &LockedCluster,
) -> Option<DocumentChange> {
    let of_document = changes.iter().filter(|change| change.document == document);
    let (stated, open): (Vec<&CandidateChange>, Vec<&CandidateChange>) = of_document.partition(|change| change.stated);
    let findings: Vec<TrustFinding> = stated.iter().chain(&open).map(|change| change.finding.clone()).collect();
    let digest = digest_of(cluster, &findings, &trusted_values(entry, document));
    (!findings.is_empty()).then_some(DocumentChange { digest, findings, is_stated: open.is_empty() })
}

/// Names a trust change: its findings, and all that is trusted with them, so that an approval covers what was shown and
/// nothing else.
pub(super) fn digest_of(cluster: &ClusterName, findings: &[TrustFinding], trusted: &[String]) -> Digest {
    let lines = findings.iter().map(|f| (f.what.as_str(), f.before.as_deref(), f.after.as_deref()));
    let text = serde_json::to_string(&(cluster.as_str(), lines.collect::<Vec<_>>(), trusted)).unwrap_or_default();
    Digest::of(text.as_bytes())
}

/// What an approval of a document lets in.
fn trusted_values(entry: &LockedCluster, document: CandidateDocument) -> Vec<String> {
    let pem = |pem: &Option<String>| fingerprint(pem.as_ref()).unwrap_or_default();
    match document {
        CandidateDocument::Public => {
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
        CandidateDocument::Private => entry.private.iter().fold(Vec::new(), |_, private| {
            let id = private.cluster_id.as_ref().map(ToString::to_string).unwrap_or_default();
            vec![id, private.api_host.to_string(), pem(&private.api_ca)]
        }),
    }
}
