//! What an IstioMulticluster shows of its link: Deckhouse's four conditions with their reasons, ours beside them, and what was accepted
//! of the peer. Pure.

use serde_json::{Map, Value, json};

use crate::agent::gateways::GatewayWatch;
use crate::istio::mesh_config::SHARED_MESH_CONFIG;
use crate::model::known::KnownCluster;
use crate::model::lock::Stage;
use crate::model::trust::{TrustChange, TrustField, Verdict};
use crate::pipeline::accept::{Assessment, DocumentState, EvidenceState, FailReason, UnseenReason, WaitReason};
use crate::pipeline::observe::Failure;
use crate::pipeline::plan::{Step, StepState};
use crate::pipeline::{Program, Run};
use crate::types::explanation::{Code, Explanation};
use crate::types::name::ClusterName;
use crate::types::step::StepId;
use crate::types::time::Timestamp;
use crate::wire::agent::{ACCEPT_TRUST, AGENT_MAP, LOCK_MAP};
use crate::wire::metadata::{Evidence, ReadState, Reported, RouteState};
use crate::wire::names::CROSS_NETWORK;
use crate::wire::peers::PEERS;
use crate::wire::routes::ROUTES;

/// How old [`LAST_READ`] may be before it alone is written again.
const READ_SHOWN: i64 = 600;
const LAST_READ: &str = "lastReadTime";
/// The reason of what is not known yet, and may have been known to the replica before.
pub(super) const NOT_PROBED: &str = "NotProbed";

/// The conditions of a link, but for that of the run.
pub(super) const KINDS: [&str; 8] = [
    "PublicMetadataExchangeReady",
    "PrivateMetadataExchangeReady",
    "RemoteAPIServerReady",
    "DataplaneConnectionReady",
    "TrustPinned",
    "Prepared",
    "SecretRendered",
    "ControlPlaneSynced",
];

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    True,
    False,
    Unknown,
}

impl Holds {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition of a link, without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerCondition {
    pub(super) kind: &'static str,
    pub(super) holds: Holds,
    pub(super) reason: String,
    pub(super) message: String,
}

impl PeerCondition {
    fn new(kind: &'static str, holds: Holds, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, holds, reason: reason.into(), message: message.into() }
    }
}

/// Why no run came to its end: a reason in a word, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotReconciled {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Why it is not known what is live in a cluster.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum NotShown<'a> {
    /// It shows nothing, and none of it is waited for.
    #[error("`{0}` does not show it")]
    Never(&'a ClusterName),
    #[error("`{0}` was not asked")]
    NotAsked(&'a ClusterName),
    /// Nothing of it was read.
    #[error("`{of}`: {message}", message = .why.message_and_hint().0)]
    Unread { of: &'a ClusterName, why: &'a UnseenReason },
}

/// A run as it concerns one peer.
#[derive(Clone, Copy)]
pub(super) struct PeerRun<'a> {
    pub(super) program: &'a Program,
    pub(super) run: &'a Run,
    pub(super) own: &'a ClusterName,
    pub(super) peer: &'a ClusterName,
    pub(super) gateways: &'a GatewayWatch,
}

/// The condition that the agent does what the object asks for.
pub(super) fn reconciled(problem: Option<&NotReconciled>) -> PeerCondition {
    const KIND: &str = "Reconciled";
    match problem {
        None => PeerCondition::new(KIND, Holds::True, "Succeeded", ""),
        Some(problem) => PeerCondition::new(KIND, Holds::False, problem.reason, &problem.message),
    }
}

/// The new status of an object, if it differs from what is there. `conditions` keep the times of those that did not change;
/// `known` is what a run came to.
pub(super) fn status(
    before: &Map<String, Value>,
    generation: i64,
    conditions: &[PeerCondition],
    known: Option<PeerRun<'_>>,
    now: Timestamp,
) -> Option<Map<String, Value>> {
    let mut after = before.clone();
    let time = |before: Option<&Value>, condition: &PeerCondition| {
        let same =
            before.filter(|before| before.get("status").and_then(Value::as_str) == Some(condition.holds.as_str()));
        same.and_then(|before| before.get("lastTransitionTime")).cloned().unwrap_or_else(|| now.to_string().into())
    };
    let one = |condition: &PeerCondition| {
        json!({
            "type": condition.kind, "status": condition.holds.as_str(), "reason": condition.reason,
            "message": condition.message, "observedGeneration": generation,
            "lastTransitionTime": time(find(before, condition.kind), condition),
        })
    };
    after.insert("observedGeneration".to_owned(), generation.into());
    after.insert("conditions".to_owned(), conditions.iter().map(one).collect());
    let mut read = false;
    if let Some(known) = known {
        after.insert("peer".to_owned(), known.accepted());
        after.insert("trustChange".to_owned(), known.trust_change().map_or(Value::Null, shown_change));
        read = known.assessment().is_some_and(|assessment| assessment.public == DocumentState::Current);
    }
    after.retain(|_, value| !value.is_null());
    let shown = before.get(LAST_READ).and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let is_old = shown.is_none_or(|shown| now.as_seconds() - shown.as_seconds() >= READ_SHOWN);
    if read && (after != *before || is_old) {
        after.insert(LAST_READ.to_owned(), now.to_string().into());
    }
    (after != *before).then_some(after)
}

/// The change from one status to another, as a merge patch takes it.
pub(super) fn patch(before: &Map<String, Value>, after: &Map<String, Value>) -> Value {
    let mut patch = after.clone();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (before.get("peer"), patch.get_mut("peer")) {
        for key in old.keys() {
            new.entry(key).or_insert(Value::Null);
        }
    }
    json!({ "status": patch })
}

/// A condition of a status.
pub(super) fn find<'s>(status: &'s Map<String, Value>, kind: &str) -> Option<&'s Value> {
    let conditions = status.get("conditions")?.as_array()?;
    conditions.iter().find(|one| one.get("type").and_then(Value::as_str) == Some(kind))
}

/// The trust change of a cluster that no one accepted.
fn open_change<'a>(run: &'a Run, cluster: &ClusterName) -> Option<&'a TrustChange> {
    let changes = &run.decided.accepted.as_ref()?.trust_changes;
    changes.iter().find(|change| change.cluster == *cluster && change.verdict != Verdict::Approved)
}

/// What is held back of the own cluster, and how it is accepted; `None`: nothing is.
pub(super) fn held_back_of_own(run: &Run, own: &ClusterName) -> Option<String> {
    open_change(run, own).map(of_own)
}

/// What keeps a run from doing what it should in the own cluster; `None`: nothing does.
pub(super) fn refused_of_own(run: &Run, own: &ClusterName) -> Option<NotReconciled> {
    if let Some(change) = open_change(run, own) {
        return Some(NotReconciled { reason: "OwnTrustChange", message: of_own(change) });
    }
    let is_refused =
        |step: &&Step| step.id.cluster == *own && step.id.peer.is_none() && matches!(step.state, StepState::Refused(_));
    let refused = run.plan.steps.iter().find(is_refused)?;
    let sentences: Vec<String> = refused.state.explanations().iter().map(in_cluster).collect();
    Some(NotReconciled { reason: "Refused", message: sentences.join("; ") })
}

/// Why something is refused, with what to do about it where there is no repository.
fn in_cluster(why: &Explanation) -> String {
    if matches!(
        why.code,
        Code::LockEntryMissing | Code::LockLinkMissing | Code::LockOlderThanTree | Code::TreeSecretMissing
    ) {
        format!(
            "{}; put ConfigMap {LOCK_MAP} back from a copy or, where there is none, delete what is left of links, which cuts them: \
             ConfigMaps {SHARED_MESH_CONFIG}, {PEERS} and {ROUTES}, Gateway {CROSS_NETWORK} and the remote secrets of isthmus",
            why.message
        )
    } else if why.code == Code::FileNotOurs {
        format!("{}; where no checkout writes it any more, delete it here", why.message)
    } else {
        why.to_string()
    }
}

/// What of a cluster a trust change is of.
fn changed(change: &TrustChange) -> String {
    let what: Vec<String> = change.findings.iter().map(|finding| finding.what.to_string()).collect();
    what.join(", ")
}

fn of_own(change: &TrustChange) -> String {
    let what = changed(change);
    match change.verdict {
        Verdict::Refused => format!("refused: {what} of this cluster"),
        Verdict::HeldBack | Verdict::Proposed | Verdict::Approved => format!(
            "held back: {what} of this cluster, and with it all its links, until the annotation {ACCEPT_TRUST} of ConfigMap {AGENT_MAP} \
             has {}",
            change.digest
        ),
    }
}

fn shown_change(change: &TrustChange) -> Value {
    let finding = |one: &crate::model::trust::TrustFinding| {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        format!("{}: {} → {}: {}", one.what, value(&one.before), value(&one.after), one.meaning)
    };
    json!({ "digest": change.digest, "findings": change.findings.iter().map(finding).collect::<Vec<_>>() })
}

impl<'a> PeerRun<'a> {
    fn assessment(self) -> Option<&'a Assessment> {
        self.run.decided.accepted.as_ref()?.assessments.get(self.peer)
    }

    fn known(self) -> Option<KnownCluster<'a>> {
        KnownCluster::of(&self.program.mesh, &self.run.decided.advanced.lock, self.peer)
    }

    /// What a cluster shows to be live, or why that is not known.
    fn evidence(self, of: &'a ClusterName) -> Result<&'a Evidence, NotShown<'a>> {
        let assessments = self.run.decided.accepted.as_ref().map(|accepted| &accepted.assessments);
        match assessments.and_then(|all| all.get(of)).map(|assessment| &assessment.evidence) {
            Some(EvidenceState::Published(evidence)) => Ok(evidence),
            Some(EvidenceState::NotPublished) => Err(NotShown::Never(of)),
            Some(EvidenceState::Unseen(reason)) => Err(NotShown::Unread { of, why: reason }),
            None => Err(NotShown::NotAsked(of)),
        }
    }

    fn trust_change(self) -> Option<&'a TrustChange> {
        open_change(self.run, self.peer)
    }

    /// What was accepted of the peer.
    fn accepted(self) -> Value {
        let Some(known) = self.known() else { return Value::Null };
        let public = &known.locked.public;
        let endpoint = known.endpoint();
        let roots =
            public.roots.iter().map(|root| json!({ "sha256": root.digest, "notAfter": root.not_after.to_string() }));
        let fields = [
            ("clusterUUID", Some(json!(public.cluster_uuid))),
            ("clusterID", known.locked.private.as_ref().map(|_| json!(known.cluster_id()))),
            ("network", known.network().map(|network| json!(network))),
            ("trustDomain", Some(json!(known.trust_domain()))),
            ("apiHost", endpoint.as_ref().map(|endpoint| endpoint.api_host.to_string().into())),
            ("authnKey", Some(json!(public.authn_key.fingerprint()))),
            ("istioVersion", public.istio.as_ref().and_then(|istio| istio.version.clone()).map(Value::from)),
            (
                "gateways",
                endpoint.map(|one| one.gateways.iter().map(|gateway| Value::from(gateway.to_string())).collect()),
            ),
            ("rootCAs", Some(roots.collect())),
        ];
        Value::Object(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
    }

    /// All conditions of the link.
    pub(super) fn conditions(self) -> Vec<PeerCondition> {
        vec![
            self.document("PublicMetadataExchangeReady", "Public", |assessment| &assessment.public),
            self.document("PrivateMetadataExchangeReady", "Private", |assessment| &assessment.private),
            self.route(),
            self.data_plane(),
            self.trust_pinned(),
            self.prepared(),
            self.secret(),
            self.synced(),
            // what is refused of the own cluster concerns all links, so each object shows it
            reconciled(refused_of_own(self.run, self.own).as_ref()),
        ]
    }

    fn document(self, kind: &'static str, which: &'static str, of: fn(&Assessment) -> &DocumentState) -> PeerCondition {
        let Some(state) = self.assessment().map(of) else {
            return PeerCondition::new(kind, Holds::Unknown, "NotAsked", "");
        };
        let (holds, reason) = match state {
            DocumentState::Current => (Holds::True, "Succeeded".to_owned()),
            DocumentState::NotAsked => (Holds::Unknown, "NotAsked".to_owned()),
            DocumentState::Waiting(WaitReason::PublicDocument | WaitReason::PublicDocumentAccepted) => {
                (Holds::False, "AwaitingPublic".to_owned())
            }
            DocumentState::Waiting(WaitReason::Answer(failure))
            | DocumentState::Failed(FailReason::NotRead(failure)) => (Holds::False, reason_of(failure, which)),
            DocumentState::Waiting(WaitReason::Key(_)) => (Holds::False, "TokenGenerationFailed".to_owned()),
            DocumentState::Waiting(reason @ (WaitReason::LinksToLeave | WaitReason::Sidecars)) => {
                (Holds::False, word(reason.code().as_str()))
            }
            DocumentState::Failed(
                FailReason::RootCa(_) | FailReason::ClusterDomain { .. } | FailReason::GatewayInside { .. },
            ) => (Holds::False, format!("Invalid{which}Metadata")),
            DocumentState::HeldBack | DocumentState::Refused(_) => (Holds::False, self.held_back()),
        };
        let message = match state {
            DocumentState::Waiting(WaitReason::Answer(Failure::Unauthorized { .. }))
            | DocumentState::Failed(FailReason::NotRead(Failure::Unauthorized { .. })) => format!(
                "`{}` does not admit this cluster; declare `{}` there by an IstioMulticluster, and compare the clocks of both",
                self.peer, self.own
            ),
            DocumentState::Current
            | DocumentState::Waiting(_)
            | DocumentState::Failed(_)
            | DocumentState::HeldBack
            | DocumentState::Refused(_)
            | DocumentState::NotAsked => {
                let sentences: Vec<String> = state.explanations().iter().map(ToString::to_string).collect();
                sentences.join("; ")
            }
        };
        PeerCondition::new(kind, holds, reason, message)
    }

    fn held_back(self) -> String {
        let findings = self.trust_change().map_or(&[][..], |change| &change.findings);
        let is_another = findings.iter().any(|finding| finding.what == TrustField::ClusterUuid);
        if is_another { "ClusterUUIDMismatch" } else { "TrustChange" }.to_owned()
    }

    fn trust_pinned(self) -> PeerCondition {
        const KIND: &str = "TrustPinned";
        if let Some(change) = self.trust_change() {
            let what = changed(change);
            let message = match change.verdict {
                Verdict::Refused => format!("refused: {what}"),
                Verdict::HeldBack | Verdict::Proposed | Verdict::Approved => format!(
                    "held back: {what}; its last good state is kept until the annotation {ACCEPT_TRUST} has {}",
                    change.digest
                ),
            };
            return PeerCondition::new(KIND, Holds::False, self.held_back(), message);
        }
        match self.known() {
            Some(_) => PeerCondition::new(KIND, Holds::True, "Pinned", ""),
            None => PeerCondition::new(KIND, Holds::False, "AwaitingPublic", "nothing was accepted of it yet"),
        }
    }

    fn route(self) -> PeerCondition {
        const KIND: &str = "RemoteAPIServerReady";
        let Some(id) = self.known().filter(|known| known.endpoint().is_some()).map(|known| known.cluster_id()) else {
            return PeerCondition::new(KIND, Holds::Unknown, "AwaitingPrivate", "");
        };
        let routes = match self.evidence(self.own).map(|evidence| &evidence.routes) {
            Ok(Reported::Seen(routes)) => routes,
            Ok(Reported::Unknown(reason)) => return PeerCondition::new(KIND, Holds::Unknown, "NotSeen", reason),
            Err(reason) => return PeerCondition::new(KIND, Holds::Unknown, "NotSeen", reason.to_string()),
        };
        match routes.iter().find(|route| route.cluster_id == id) {
            None => PeerCondition::new(KIND, Holds::Unknown, "NoRoute", "the relay has no route to it yet"),
            Some(route) if route.state == RouteState::Ok => {
                PeerCondition::new(KIND, Holds::True, "RemoteAPIReachable", "")
            }
            Some(route) => {
                let reason = route.reason.clone().unwrap_or_default();
                PeerCondition::new(KIND, Holds::False, "RemoteAPIUnreachable", reason)
            }
        }
    }

    /// Requests go to the peer's gateways, by what istiod has read of it. Whether a service answers behind them is no one's to try.
    fn data_plane(self) -> PeerCondition {
        const KIND: &str = "DataplaneConnectionReady";
        let unknown = |reason, message| PeerCondition::new(KIND, Holds::Unknown, reason, message);
        if self.synced().holds != Holds::True {
            return unknown("NotSynced", "istiod does not read it");
        }
        if self.known().and_then(|known| known.endpoint()).is_none_or(|endpoint| endpoint.gateways.is_empty()) {
            return unknown("NoGateway", "its pods are reached without a gateway");
        }
        match self.gateways.refusing(self.peer) {
            None => unknown(NOT_PROBED, "its gateways were not tried yet"),
            Some(refusing) if refusing.is_empty() => PeerCondition::new(KIND, Holds::True, "GatewaysReached", ""),
            Some(refusing) => {
                let each: Vec<String> = refusing.iter().map(|(gateway, why)| format!("{gateway}: {why}")).collect();
                PeerCondition::new(KIND, Holds::False, "GatewayUnreachable", each.join("; "))
            }
        }
    }

    fn prepared(self) -> PeerCondition {
        const KIND: &str = "Prepared";
        for name in [self.own, self.peer] {
            match self.evidence(name).map(|evidence| &evidence.prepared) {
                Ok(Reported::Seen(true)) => {}
                Ok(Reported::Seen(false)) => {
                    let message = format!("istiod of `{name}` lacks a setting, or proxies of it are to be restarted");
                    return PeerCondition::new(KIND, Holds::False, "NotPrepared", message);
                }
                Ok(Reported::Unknown(reason)) => {
                    return PeerCondition::new(KIND, Holds::Unknown, "NotSeen", format!("`{name}`: {reason}"));
                }
                Err(reason) => return PeerCondition::new(KIND, Holds::Unknown, "NotSeen", reason.to_string()),
            }
        }
        PeerCondition::new(KIND, Holds::True, "Prepared", "")
    }

    fn secret(self) -> PeerCondition {
        const KIND: &str = "SecretRendered";
        let link = self.run.decided.advanced.lock.link(self.own, self.peer);
        let step = StepId::secret(self.own, self.peer);
        let state = self.run.plan.steps.iter().find(|one| one.id == step).map(|one| &one.state);
        let explanations = state.map_or(&[][..], |state| state.explanations());
        let sentences: Vec<String> = explanations.iter().map(|one| one.message.clone()).collect();
        let first = explanations.first().map(|one| word(one.code.as_str()));
        let (holds, reason) = match link.map(|link| link.stage) {
            Some(Stage::Joined) => (Holds::True, "Joined"),
            Some(Stage::Joining) => (Holds::False, "Joining"),
            Some(Stage::Leaving | Stage::LeavingTrust) => (Holds::False, "Leaving"),
            None => (Holds::False, "NotReached"),
        };
        PeerCondition::new(KIND, holds, first.unwrap_or_else(|| reason.to_owned()), sentences.join("; "))
    }

    fn synced(self) -> PeerCondition {
        const KIND: &str = "ControlPlaneSynced";
        let Some(id) = self.known().map(|known| known.cluster_id()) else {
            return PeerCondition::new(KIND, Holds::False, "NotRead", "");
        };
        match self.evidence(self.own).map(|evidence| &evidence.reads) {
            Ok(Reported::Seen(reads)) => match reads.iter().find(|read| read.cluster_id == id).map(|read| read.state) {
                Some(ReadState::Synced) => PeerCondition::new(KIND, Holds::True, "Synced", ""),
                Some(ReadState::Syncing) => {
                    PeerCondition::new(KIND, Holds::False, "Syncing", "istiod begins to read it")
                }
                Some(ReadState::Timeout) => PeerCondition::new(KIND, Holds::False, "Timeout", "istiod gave up for now"),
                None => PeerCondition::new(KIND, Holds::False, "NotRead", "istiod does not read it"),
            },
            Ok(Reported::Unknown(reason)) => PeerCondition::new(KIND, Holds::Unknown, "NotSeen", reason),
            Err(reason) => PeerCondition::new(KIND, Holds::Unknown, "NotSeen", reason.to_string()),
        }
    }
}

/// Deckhouse's reason for a document that was not read.
fn reason_of(failure: &Failure, which: &str) -> String {
    match failure {
        Failure::NotResolved { .. }
        | Failure::NotReachable { .. }
        | Failure::TimedOut { .. }
        | Failure::Tls { .. }
        | Failure::Outside { .. }
        | Failure::TooLarge { .. }
        | Failure::HeadersTooLarge { .. }
        | Failure::TooSlow { .. }
        | Failure::Broken { .. }
        | Failure::Encoded { .. }
        | Failure::FileMissing { .. }
        | Failure::FileUnreadable { .. }
        | Failure::Client { .. } => "FetchFailed".to_owned(),
        Failure::Unauthorized { .. }
        | Failure::NotFound { .. }
        | Failure::Unavailable { .. }
        | Failure::Status { .. }
        | Failure::Redirect { .. } => "NonOKResponse".to_owned(),
        Failure::ContentType { .. } | Failure::Format { .. } => "InvalidJSON".to_owned(),
        Failure::ReadingsDiffer { .. } => "ReadingsDiffer".to_owned(),
        Failure::Incomplete { .. } => format!("Invalid{which}Metadata"),
        Failure::Through { failure, .. } => reason_of(failure, which),
    }
}

/// A code as the reason of a condition: `root-ca-changed` is `RootCaChanged`.
fn word(code: &str) -> String {
    let part = |part: &str| {
        let mut letters = part.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    };
    code.split('-').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(holds: Holds) -> Vec<PeerCondition> {
        vec![PeerCondition::new("Reconciled", holds, "A", "b")]
    }

    #[test]
    fn a_status_is_written_when_it_changes_and_keeps_its_times() {
        let at = |seconds: i64| Timestamp::from_seconds(1_800_000_000 + seconds);
        let first = status(&Map::new(), 1, &condition(Holds::True), None, at(0)).unwrap();
        assert_eq!(status(&first, 1, &condition(Holds::True), None, at(1000)), None);
        let second = status(&first, 2, &condition(Holds::True), None, at(10)).unwrap();
        let time = |status: &Map<String, Value>| find(status, "Reconciled").unwrap()["lastTransitionTime"].clone();
        assert_eq!(time(&first), time(&second));
        let third = status(&second, 2, &condition(Holds::False), None, at(20)).unwrap();
        assert_ne!(time(&second), time(&third));
    }

    #[test]
    fn what_is_gone_is_taken_away() {
        let before = json!({ "trustChange": {}, "peer": { "network": "n", "clusterUUID": "u" } });
        let after = json!({ "peer": { "clusterUUID": "u" } });
        let patch = patch(before.as_object().unwrap(), after.as_object().unwrap());
        assert_eq!(
            patch,
            json!({ "status": { "trustChange": null, "peer": { "network": null, "clusterUUID": "u" } } })
        );
    }

    #[test]
    fn a_code_is_a_word() {
        assert_eq!(word("root-ca-changed"), "RootCaChanged");
    }
}
