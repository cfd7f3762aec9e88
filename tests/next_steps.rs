//! Whatever waits, is refused or would break the law says in one sentence what it is about and what to do next: one of each kind.
//!
//! Each list ends in a match without a wildcard: whoever adds a kind is told to list it.

use isthmus::model::keyring::KeyProblem;
use isthmus::model::link::Link;
use isthmus::model::lock::Stage;
use isthmus::model::mesh::{EvidenceField, MeshConfigTarget, Reconciler};
use isthmus::pipeline::accept::{FailReason, UnseenReason, WaitReason};
use isthmus::pipeline::advance::{AdvanceRefusal, DomainLack, HandOverLack, LinkWait, StandardLack, Withdrawn};
use isthmus::pipeline::agreement::Lost;
use isthmus::pipeline::law::{Breach, BreachKind, LiveNeed, LockRecord, Unseen, Used};
use isthmus::pipeline::plan::{CompareRefusal, Foreigner};
use isthmus::pipeline::render::RenderWait;
use isthmus::types::explanation::{Code, Explain, Explanation};
use isthmus::types::name::{ClusterName, Digest};
use isthmus::types::time::Timestamp;
use isthmus::wire::failure::Failure;

fn east() -> ClusterName {
    "east".parse().unwrap()
}

fn west() -> ClusterName {
    "west".parse().unwrap()
}

/// A message that reads on after "waits for" or "refused:", and a next step.
#[track_caller]
fn reads_on(explanation: &Explanation, introduced_by: &str) {
    let Explanation { message, hint, .. } = explanation;
    let whole = format!("{introduced_by} {explanation}");
    let hint = hint.as_ref().unwrap_or_else(|| panic!("no next step: {whole}"));
    for part in [message, hint] {
        assert!(!part.ends_with(['.', ';', ':', ' ']) && !part.contains(". ") && !part.contains('\n'), "{whole}");
        let first = part.chars().next().unwrap();
        assert!(!first.is_uppercase() || part.starts_with("ConfigMap"), "begins a sentence of its own: {whole}");
    }
    // a wait is for a thing or an event, and no clause of its own
    if introduced_by == "waits for" {
        let clauses = ["it ", "its links ", "there is ", "cannot ", "expected ", "no ", "not ", "is ", "was "];
        assert!(!clauses.iter().any(|clause| message.starts_with(clause)), "{whole}");
    }
}

fn failure() -> Failure {
    Failure::NotReachable { url: "https://m.example/".to_owned(), problem: "connection refused".to_owned() }
}

fn keys() -> Vec<KeyProblem> {
    let (source, problem) = (|| "keys/engine.key".to_owned(), || "no PEM".to_owned());
    let all = vec![
        KeyProblem::NoEngineKey,
        KeyProblem::Another { source: source() },
        KeyProblem::Missing { source: source() },
        KeyProblem::Unusable { source: source(), problem: problem() },
        KeyProblem::NoReader { peer: west() },
        KeyProblem::OnlyClusterKeys { peer: west() },
    ];
    for one in &all {
        match one {
            KeyProblem::NoEngineKey
            | KeyProblem::Missing { .. }
            | KeyProblem::Unusable { .. }
            | KeyProblem::Another { .. }
            | KeyProblem::NoReader { .. }
            | KeyProblem::OnlyClusterKeys { .. } => {}
        }
    }
    all
}

fn unseen() -> Vec<UnseenReason> {
    let mut all = vec![
        UnseenReason::NotAsked,
        UnseenReason::Leaving,
        UnseenReason::PublicDocument,
        UnseenReason::PrivateDocumentNotAsked,
        UnseenReason::PrivateDocument(failure()),
        UnseenReason::Refused(FailReason::NotRead(failure())),
        UnseenReason::NoGateway,
        UnseenReason::HeldBack,
        UnseenReason::Rebuilt,
        UnseenReason::NoEvidence,
    ];
    all.extend(keys().into_iter().map(UnseenReason::Key));
    for one in &all {
        match one {
            UnseenReason::NotAsked
            | UnseenReason::Leaving
            | UnseenReason::PublicDocument
            | UnseenReason::PrivateDocumentNotAsked
            | UnseenReason::PrivateDocument(_)
            | UnseenReason::Key(_)
            | UnseenReason::Refused(_)
            | UnseenReason::NoGateway
            | UnseenReason::HeldBack
            | UnseenReason::Rebuilt
            | UnseenReason::NoEvidence => {}
        }
    }
    all
}

fn lacks() -> Vec<LinkWait> {
    let standard = [
        StandardLack::Unknown { reason: "closed".to_owned() },
        StandardLack::NotPublished,
        StandardLack::RootCa { of: west() },
        StandardLack::Network { of: west() },
        StandardLack::Alias { domain: "b.example".parse().unwrap() },
    ];
    let domain =
        [DomainLack::Older { version: "1.28.4".to_owned() }, DomainLack::VersionUnknown, DomainLack::AliasNotWritten];
    let standard =
        standard.map(|lack| LinkWait::StandardConfig { cluster: east(), target: MeshConfigTarget::HelmValues, lack });
    let domain = domain.map(|lack| LinkWait::TrustDomain {
        domain: "b.example".parse().unwrap(),
        of: west(),
        within: east(),
        lack,
    });
    let hand_over = [
        HandOverLack::Begins,
        HandOverLack::LinksMove,
        HandOverLack::NoEvidence,
        HandOverLack::Unseen { reason: UnseenReason::NotAsked },
        HandOverLack::NotReady { reason: None },
        HandOverLack::NotReady { reason: Some("a run here would delete ConfigMap isthmus-mesh".to_owned()) },
        HandOverLack::Undeclared { peer: "00000000-0000-4000-8000-0000000000aa".to_owned() },
        HandOverLack::NotOffered,
        HandOverLack::ReadsOn { peer: west() },
        HandOverLack::NotRead { peer: west() },
        HandOverLack::NotTaken,
        HandOverLack::OthersWrite { key: "3f61a5c0de".parse().unwrap() },
        HandOverLack::LeftOver { object: west() },
    ];
    let hand_over = hand_over.into_iter().flat_map(|lack| {
        [Reconciler::Agent, Reconciler::Rendered, Reconciler::External].map(|to| LinkWait::HandOver {
            cluster: east(),
            to,
            lack: lack.clone(),
        })
    });
    standard.into_iter().chain(domain).chain(hand_over).collect()
}

fn waits() -> Vec<LinkWait> {
    let (cluster, reason) = (east, || "closed".to_owned());
    let mut all = vec![
        LinkWait::NotReached { cluster: cluster() },
        LinkWait::TrustChange { cluster: cluster() },
        LinkWait::Paused { cluster: cluster() },
        LinkWait::FirstEvidence { peer: west() },
        LinkWait::PrivateDocument { cluster: cluster() },
        LinkWait::Gateways { cluster: cluster() },
        LinkWait::RelayCa { cluster: cluster() },
        LinkWait::RootCa { of: west(), within: cluster() },
        LinkWait::Network { of: west(), within: cluster() },
        LinkWait::StandardNetworks { cluster: cluster(), is_shown: true },
        LinkWait::StandardNetworks { cluster: cluster(), is_shown: false },
        LinkWait::Route { to: west(), within: cluster() },
        LinkWait::Admission { reader: cluster(), peer: west(), reason: Some(reason()) },
        LinkWait::Preparation { cluster: cluster() },
        LinkWait::RelayToken { cluster: cluster() },
        LinkWait::HiddenRootCas { cluster: cluster() },
        LinkWait::Sync { cluster: cluster(), synced: 3, wanted: 4 },
        LinkWait::Settle { reader: cluster(), until: Timestamp::EPOCH },
        LinkWait::OtherDirection { reader: west(), peer: cluster() },
        LinkWait::PeerLeaves { peer: west() },
        LinkWait::AgentTrusts { agent: cluster(), peer: west() },
        LinkWait::Marked { cluster: cluster() },
        LinkWait::Quiet { reader: west(), peer: cluster(), until: Timestamp::EPOCH },
        LinkWait::PeerReads { peer: west(), reader: cluster(), until: None },
        LinkWait::PeerReads { peer: west(), reader: cluster(), until: Some(Timestamp::EPOCH) },
    ];
    for object in [Withdrawn::Secret, Withdrawn::Route] {
        all.push(LinkWait::StillThere { object, peer: west(), reader: cluster() });
        all.push(LinkWait::MaybeThere { object, peer: west(), reader: cluster(), reason: reason() });
    }
    all.extend(EvidenceField::ALL.map(|field| LinkWait::Unknown { cluster: cluster(), field, reason: reason() }));
    all.extend(unseen().into_iter().map(|reason| LinkWait::Evidence { cluster: cluster(), reason }));
    all.extend(lacks());
    for one in &all {
        match one {
            LinkWait::NotReached { .. }
            | LinkWait::TrustChange { .. }
            | LinkWait::Paused { .. }
            | LinkWait::FirstEvidence { .. }
            | LinkWait::PrivateDocument { .. }
            | LinkWait::Gateways { .. }
            | LinkWait::RelayCa { .. }
            | LinkWait::Evidence { .. }
            | LinkWait::Unknown { .. }
            | LinkWait::RootCa { .. }
            | LinkWait::Network { .. }
            | LinkWait::StandardNetworks { .. }
            | LinkWait::Route { .. }
            | LinkWait::Admission { .. }
            | LinkWait::Preparation { .. }
            | LinkWait::RelayToken { .. }
            | LinkWait::HiddenRootCas { .. }
            | LinkWait::StandardConfig { .. }
            | LinkWait::TrustDomain { .. }
            | LinkWait::StillThere { .. }
            | LinkWait::MaybeThere { .. }
            | LinkWait::Sync { .. }
            | LinkWait::Settle { .. }
            | LinkWait::PeerLeaves { .. }
            | LinkWait::AgentTrusts { .. }
            | LinkWait::Quiet { .. }
            | LinkWait::PeerReads { .. }
            | LinkWait::Marked { .. }
            | LinkWait::HandOver { .. }
            | LinkWait::OtherDirection { .. } => {}
        }
    }
    all
}

#[test]
fn what_a_link_waits_for_names_its_next_step() {
    for wait in waits() {
        reads_on(&wait.explanation(), "waits for");
    }
}

#[test]
fn what_a_document_waits_for_names_its_next_step() {
    let mut all = vec![
        WaitReason::Answer(failure()),
        WaitReason::PublicDocument,
        WaitReason::PublicDocumentAccepted,
        WaitReason::LinksToLeave,
        WaitReason::Sidecars,
    ];
    all.extend(keys().into_iter().map(WaitReason::Key));
    for wait in all {
        match &wait {
            WaitReason::Answer(_)
            | WaitReason::PublicDocument
            | WaitReason::PublicDocumentAccepted
            | WaitReason::Key(_)
            | WaitReason::LinksToLeave
            | WaitReason::Sidecars => {}
        }
        // "its" is that of the cluster of the step
        let explanation = wait.explanation();
        let message = explanation.message.replacen("its links", "the links", 1);
        reads_on(&Explanation { message, ..explanation }, "waits for");
    }
}

#[test]
fn what_is_rendered_later_names_its_next_step() {
    let cluster = east;
    for wait in [
        RenderWait::NotInLock { cluster: cluster() },
        RenderWait::NotReached { cluster: cluster() },
        RenderWait::EngineKey,
        RenderWait::RelayCa { cluster: cluster() },
        RenderWait::StandardNetworks { cluster: cluster(), is_shown: true },
        RenderWait::StandardNetworks { cluster: cluster(), is_shown: false },
        RenderWait::LinksOfFolder { cluster: cluster() },
        RenderWait::PrivateDocument { cluster: cluster() },
    ] {
        match &wait {
            RenderWait::NotInLock { .. }
            | RenderWait::NotReached { .. }
            | RenderWait::EngineKey
            | RenderWait::RelayCa { .. }
            | RenderWait::StandardNetworks { .. }
            | RenderWait::LinksOfFolder { .. }
            | RenderWait::PrivateDocument { .. } => {}
        }
        reads_on(&wait.explanation(), "waits for");
    }
}

#[test]
fn what_is_refused_names_its_next_step() {
    for refusal in [
        AdvanceRefusal::TooManyDeletions { going: 4, of: 6 },
        AdvanceRefusal::LastRoot { reader: east() },
        AdvanceRefusal::HiddenRootCas,
        AdvanceRefusal::AliasStillNeeded {
            cluster: east(),
            domain: "b.example".parse().unwrap(),
            version: "1.28.4".to_owned(),
        },
    ] {
        match &refusal {
            AdvanceRefusal::TooManyDeletions { .. }
            | AdvanceRefusal::LastRoot { .. }
            | AdvanceRefusal::HiddenRootCas
            | AdvanceRefusal::AliasStillNeeded { .. } => {}
        }
        reads_on(&refusal.explanation(), "refused:");
    }
    let path = || "rendered/east/x.yaml".to_owned();
    for refusal in [
        CompareRefusal::Foreign { path: path(), owner: Foreigner::NoObject },
        CompareRefusal::ForeignValues { path: path() },
        CompareRefusal::Stray { path: path() },
        CompareRefusal::ListedByKustomization { path: path(), entry: "x".to_owned() },
        CompareRefusal::FieldOfKustomization { path: path(), field: "x".to_owned() },
        CompareRefusal::WholeFolder { cluster: east() },
        CompareRefusal::Gateway { cluster: east() },
        CompareRefusal::UnknownCluster { cluster: east() },
        CompareRefusal::OthersWrite { cluster: east(), key: "k1".parse().unwrap() },
    ] {
        match &refusal {
            CompareRefusal::Foreign { .. }
            | CompareRefusal::ForeignValues { .. }
            | CompareRefusal::Stray { .. }
            | CompareRefusal::ListedByKustomization { .. }
            | CompareRefusal::FieldOfKustomization { .. }
            | CompareRefusal::WholeFolder { .. }
            | CompareRefusal::Gateway { .. }
            | CompareRefusal::UnknownCluster { .. }
            | CompareRefusal::OthersWrite { .. } => {}
        }
        reads_on(&refusal.explanation(), "refused:");
    }
    let why = Explanation::new(Code::LockBroken, "expected a stage, found `x`");
    for lost in [
        Lost::Unreadable { file: "lock/links/east.yaml".to_owned(), line: 3, why },
        Lost::Entry { cluster: east(), reader: east(), peer: west() },
        Lost::Link { reader: east(), peer: west() },
        Lost::Declared { reader: east(), peer: west() },
        Lost::Run { reader: east(), locked: 1, tree: 2 },
        Lost::Older { cluster: east(), locked: 1, tree: 2 },
        Lost::Stage { reader: east(), peer: west(), stage: Stage::Leaving },
        Lost::Secret { reader: east(), peer: west() },
    ] {
        match &lost {
            Lost::Unreadable { .. }
            | Lost::Entry { .. }
            | Lost::Link { .. }
            | Lost::Declared { .. }
            | Lost::Run { .. }
            | Lost::Older { .. }
            | Lost::Stage { .. }
            | Lost::Secret { .. } => {}
        }
        reads_on(&lost.explanation(), "refused:");
    }
}

#[test]
fn what_breaks_the_law_names_its_next_step() {
    let digest = Digest::of(b"root");
    let needs = [
        LiveNeed::Secret,
        LiveNeed::Link,
        LiveNeed::OtherDirection,
        LiveNeed::Values,
        LiveNeed::Entry,
        LiveNeed::Rights,
        LiveNeed::Root(digest),
        LiveNeed::Alias,
        LiveNeed::Network,
        LiveNeed::Route,
        LiveNeed::Components,
        LiveNeed::Marks,
    ];
    let unseen = [
        Unseen::Evidence,
        Unseen::Trusts,
        Unseen::Domain,
        Unseen::StandardNetworks,
        Unseen::Networks,
        Unseen::Routes,
        Unseen::Prepared,
        Unseen::RelayToken,
        Unseen::MeshConfig,
        Unseen::Address,
        Unseen::Reading,
    ];
    let records =
        [LockRecord::Entry, LockRecord::Uuid, LockRecord::JoinedWith, LockRecord::Root(digest), LockRecord::Serial];
    let kinds = needs.map(BreachKind::Lacks).into_iter();
    let kinds = kinds.chain(unseen.map(|unseen| BreachKind::Unseen(unseen, east())));
    let kinds = kinds.chain([Used::Secret, Used::Route].map(BreachKind::StillUsed));
    let kinds = kinds.chain(records.map(|record| BreachKind::Changed(record, east())));
    for kind in kinds {
        match &kind {
            BreachKind::Lacks(
                LiveNeed::Secret
                | LiveNeed::Link
                | LiveNeed::OtherDirection
                | LiveNeed::Values
                | LiveNeed::Entry
                | LiveNeed::Rights
                | LiveNeed::Root(_)
                | LiveNeed::Alias
                | LiveNeed::Network
                | LiveNeed::Route
                | LiveNeed::Components
                | LiveNeed::Marks,
            )
            | BreachKind::Unseen(
                Unseen::Evidence
                | Unseen::Trusts
                | Unseen::Domain
                | Unseen::StandardNetworks
                | Unseen::Networks
                | Unseen::Routes
                | Unseen::Prepared
                | Unseen::RelayToken
                | Unseen::MeshConfig
                | Unseen::Address
                | Unseen::Reading,
                _,
            )
            | BreachKind::StillUsed(Used::Secret | Used::Route)
            | BreachKind::Changed(
                LockRecord::Entry
                | LockRecord::Uuid
                | LockRecord::JoinedWith
                | LockRecord::Root(_)
                | LockRecord::Serial,
                _,
            ) => {}
        }
        reads_on(&Breach { link: Link::new(&east(), &west()), kind }.explanation(), "refused:");
    }
}
