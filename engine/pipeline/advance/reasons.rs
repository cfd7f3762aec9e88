//! Why a link keeps its stage, what of a move could not be proven, and what is refused.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use crate::model::mesh::{EvidenceField, MeshConfigTarget, Reconciler};
use crate::pipeline::accept::UnseenReason;
use crate::types::explanation::{Code, Explanation};
use crate::types::key::KeyId;
use crate::types::name::{ClusterName, TrustDomain};
use crate::types::time::Timestamp;

/// What a link waits for before it moves to its next stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkWait {
    /// A cluster that the lock does not know yet.
    NotReached { cluster: ClusterName },
    /// A cluster whose trust change is not accepted.
    TrustChange { cluster: ClusterName },
    /// A cluster that is `state: paused`.
    Paused { cluster: ClusterName },
    /// The link begins: what it needs is written in this run and can be live only after it.
    FirstEvidence { peer: ClusterName },
    /// A private document that was never accepted.
    PrivateDocument { cluster: ClusterName },
    /// Gateways of a cluster that says `flatNetwork: false` while its links rest on the opposite.
    Gateways { cluster: ClusterName },
    /// The reader's relay has no CA yet.
    RelayCa {
        /// The reader.
        cluster: ClusterName,
    },
    /// Evidence that was not seen in this run.
    Evidence {
        cluster: ClusterName,
        /// Why it was not seen.
        reason: UnseenReason,
    },
    /// A field of evidence that its cluster could not learn.
    Unknown {
        cluster: ClusterName,
        field: EvidenceField,
        /// Why, in the cluster's own text.
        reason: String,
    },
    /// A root CA that is not live.
    RootCa {
        /// Whose root CA.
        of: ClusterName,
        /// Where it is not live.
        within: ClusterName,
    },
    /// A network that is not live with the gateways it should have.
    Network {
        /// Whose network.
        of: ClusterName,
        /// Where it is not live.
        within: ClusterName,
    },
    /// Which networks the standard configuration of a reader has, which ours replace, and which it does not show.
    StandardNetworks {
        cluster: ClusterName,
        /// Whether it is to show it; else its spec states it.
        is_shown: bool,
    },
    /// A route of the relay that is not live.
    Route {
        /// Where it leads.
        to: ClusterName,
        /// Where it is not live.
        within: ClusterName,
    },
    /// A relay that its peer does not admit.
    Admission {
        /// Whose relay.
        reader: ClusterName,
        /// Who does not admit it.
        peer: ClusterName,
        /// What the relay says of it.
        reason: Option<String>,
    },
    /// An Istio without the settings that a mesh of several roots needs.
    Preparation { cluster: ClusterName },
    /// An istiod that does not show the token for which its relay asks.
    RelayToken { cluster: ClusterName },
    /// A standard mesh configuration that hides the root CAs written for it.
    HiddenRootCas { cluster: ClusterName },
    /// A standard mesh configuration that is to take the place of ours and does not hold all of it yet.
    StandardConfig { cluster: ClusterName, target: MeshConfigTarget, lack: StandardLack },
    /// A trust domain that a cluster does not accept yet.
    TrustDomain {
        domain: TrustDomain,
        of: ClusterName,
        /// Where it is not accepted.
        within: ClusterName,
        lack: DomainLack,
    },
    /// An object that left the tree and is still seen.
    StillThere { object: Withdrawn, peer: ClusterName, reader: ClusterName },
    /// An object that left the tree, of which its cluster cannot say whether it is there.
    MaybeThere {
        object: Withdrawn,
        peer: ClusterName,
        reader: ClusterName,
        /// Why, in the cluster's own text.
        reason: String,
    },
    /// A cluster into which the run that dropped an object is not synced.
    Sync {
        cluster: ClusterName,
        /// The serial that is synced.
        synced: u64,
        /// The serial of that run.
        wanted: u64,
    },
    /// The time that each stage lasts where no evidence can show that it is over.
    Settle {
        /// The reader, whose `settle` it is.
        reader: ClusterName,
        /// When it is over.
        until: Timestamp,
    },
    /// A Deckhouse that is to read first: its trust cannot be seen, and comes with its remote secret.
    PeerReads {
        /// The Deckhouse.
        peer: ClusterName,
        /// Whom it is to read.
        reader: ClusterName,
        /// How long it is waited for; `None`: its own link is not joined yet.
        until: Option<Timestamp>,
    },
    /// A peer that takes its links with the own cluster away.
    PeerLeaves { peer: ClusterName },
    /// An agent that is to take root CAs of a peer away, with which it has no link any more.
    AgentTrusts { agent: ClusterName, peer: ClusterName },
    /// The relay of a reader that no longer admits the peer, to be silent at the peer's api-proxy.
    Quiet {
        reader: ClusterName,
        peer: ClusterName,
        /// When it has been for long enough.
        until: Timestamp,
    },
    /// The objects of a cluster, which are marked for a hand-over, to be seen without the marks: no tool would delete them.
    Marked { cluster: ClusterName },
    /// The other side of a hand-over, which is to have what links rest on.
    HandOver {
        cluster: ClusterName,
        /// Who is to act.
        to: Reconciler,
        lack: HandOverLack,
    },
    /// The other direction of the pair, which still reads.
    OtherDirection {
        /// Who reads in it.
        reader: ClusterName,
        /// Who is read in it.
        peer: ClusterName,
    },
}

/// An object that a leaving link takes out of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawn {
    Secret,
    /// The route of the relay.
    Route,
}

impl Withdrawn {
    /// The field of evidence that shows it.
    pub fn field(self) -> EvidenceField {
        match self {
            Self::Secret => EvidenceField::Reads,
            Self::Route => EvidenceField::Routes,
        }
    }
}

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "the remote secret",
            Self::Route => "the route",
        })
    }
}

/// What someone writes who vouches for a field that a cluster will never show.
fn attests(field: EvidenceField) -> String {
    format!("where it will never show that, `evidence: {{attested: [{field}]}}` in its Cluster vouches for it")
}

/// What is waited for of a reader whose standard networks ours would replace; it reads on after "waits for".
pub(crate) fn standard_networks(cluster: &ClusterName, is_shown: bool) -> Explanation {
    let (message, hint) = if is_shown {
        (
            format!(
                "evidence of `{cluster}` on `meshConfig`: which networks its standard configuration has, since ours replace them"
            ),
            "if it will not show that, set `istio.standardMeshNetworks` to `none`, or to those that it has",
        )
    } else {
        (
            format!(
                "the spec of `{cluster}`, which shows no evidence, to state which `meshNetworks` its standard configuration has, since ours replace them"
            ),
            "set `istio.standardMeshNetworks` of its Cluster to `none`, or to those that its Istio was installed with",
        )
    };
    Explanation::new(Code::EvidenceUnknown, message).hint(hint)
}

/// What is waited for of a Deckhouse that is to read first; it reads on after "waits for".
fn reads_first(peer: &ClusterName, reader: &ClusterName, until: Option<Timestamp>) -> Explanation {
    let explain = |message: String| Explanation::new(Code::PeerReadsFirst, message);
    let Some(until) = until else {
        return explain(format!("`{peer}` to read `{reader}` first: its own link is joined in this run"))
            .hint(format!("sync what this run writes for `{peer}`, then run again"));
    };
    explain(format!(
        "`{peer}` to ask the api-proxy of `{reader}`, which shows that it has taken what `{reader}` publishes, or {until}"
    ))
    .hint(format!(
        "declare `{reader}` on its side, and see that it reaches the api-proxy there; `settle: 0s` in the Cluster of `{peer}`, or in the \
         Mesh, joins at once"
    ))
}

/// What is waited for of an object whose deletion is not synced; it reads on after "waits for".
fn still_there(object: Withdrawn, peer: &ClusterName, reader: &ClusterName) -> Explanation {
    let message = format!("{object} of `{peer}` to be gone from `{reader}`");
    Explanation::new(Code::WithdrawnObjectStillThere, message).hint(
        "it is once its deletion is synced; the tool that syncs has to prune; where it has a mark by which no tool does, delete it by hand",
    )
}

/// What an agent has to do before who leaves may go.
fn still_trusts(agent: &ClusterName, peer: &ClusterName) -> String {
    format!("the agent of `{agent}` to take the root CAs of `{peer}` away, which it does once `{peer}` refuses it")
}

fn until_agent_lets_go(peer: &ClusterName) -> String {
    format!("sync what this run writes for `{peer}`; if one of both is gone for good, set `state: lost`")
}

/// What is waited for of a reader that no longer admits the peer; it reads on after "waits for".
fn still_heard(reader: &ClusterName, peer: &ClusterName, until: Timestamp) -> Explanation {
    let message = format!(
        "{until}: `{reader}` no longer admits `{peer}`, and its relay asked `{peer}` less than three minutes before"
    );
    let hint = format!("if `{reader}` is to stay joined, declare `{peer}` there again");
    Explanation::new(Code::Settling, message).hint(hint)
}

impl LinkWait {
    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::NotReached { .. } => Code::ClusterNotReached,
            Self::TrustChange { .. } => Code::TrustChangeHeldBack,
            Self::Paused { .. } => Code::ClusterPaused,
            Self::FirstEvidence { .. } => Code::LinkBegins,
            Self::PrivateDocument { .. } | Self::Gateways { .. } => Code::PrivateDocumentMissing,
            Self::RelayCa { .. } => Code::RelayCaMissing,
            Self::Evidence { reason: UnseenReason::NoEvidence, .. } => Code::EvidenceMissing,
            Self::Evidence { .. } => Code::EvidenceNotSeen,
            Self::Unknown { .. } | Self::StandardNetworks { .. } => Code::EvidenceUnknown,
            Self::RootCa { .. } => Code::RootCaNotLive,
            Self::Network { .. } => Code::NetworkNotLive,
            Self::Route { .. } => Code::RouteNotLive,
            Self::Admission { .. } => Code::RelayNotAdmitted,
            Self::Preparation { .. } | Self::RelayToken { .. } => Code::IstioNotPrepared,
            Self::HiddenRootCas { .. } => Code::RootCasHidden,
            Self::StandardConfig { .. } => Code::StandardConfigIncomplete,
            Self::TrustDomain { .. } => Code::TrustDomainNotAccepted,
            Self::StillThere { .. } => Code::WithdrawnObjectStillThere,
            Self::MaybeThere { .. } => Code::WithdrawnObjectUnknown,
            Self::Sync { .. } => Code::NotSynced,
            Self::Settle { .. } | Self::Quiet { .. } => Code::Settling,
            Self::OtherDirection { .. } => Code::OtherDirectionStillThere,
            Self::PeerLeaves { .. } | Self::AgentTrusts { .. } => Code::LinksStillLeaving,
            Self::PeerReads { .. } => Code::PeerReadsFirst,
            Self::HandOver { .. } | Self::Marked { .. } => Code::HandOver,
        }
    }

    /// The reason for people and machines alike; it reads on after "waits for".
    pub fn explanation(&self) -> Explanation {
        let explain = |message: String| Explanation::new(self.code(), message);
        let synced = |cluster: &ClusterName| format!("it is once what was written for `{cluster}` is synced into it");
        let live = |what: String, within: &ClusterName| {
            explain(format!("the {what} to be live in `{within}`")).hint(synced(within))
        };
        match self {
            Self::NotReached { cluster } => explain(format!("`{cluster}` to be reached"))
                .hint(format!("step fetch-ca/{cluster} says why it was not")),
            Self::TrustChange { cluster } => explain(format!("the trust change of `{cluster}` to be accepted"))
                .hint("it is listed on top, with the command that accepts it"),
            Self::Paused { cluster } => explain(format!("`{cluster}`, which is `state: paused`"))
                .hint("its links continue once its spec says `state: active`"),
            Self::FirstEvidence { peer } => explain(format!("roots, network and route of `{peer}` to be live"))
                .hint("sync what this run writes into both clusters, then run again"),
            Self::PrivateDocument { cluster } => explain(format!("the private document of `{cluster}`"))
                .hint(format!("step discover-proxy/{cluster} says why it is missing")),
            Self::Gateways { cluster } => explain(format!(
                "a gateway of `{cluster}`, published or stated: its links rest on `flatNetwork: true` until there is one"
            ))
            .hint("deploy an east-west gateway there, or state `gateways` in its Cluster"),
            Self::RelayCa { cluster } => explain(format!("the relay of `{cluster}` to publish its CA"))
                .hint("it makes one when it first runs in that cluster"),
            Self::Evidence { cluster, reason } => {
                let (message, hint) = reason.message_and_hint();
                Explanation { hint, ..explain(format!("evidence of `{cluster}`: {message}")) }
            }
            Self::Unknown { cluster, field, reason } => explain(format!("evidence of `{cluster}` on `{field}`: {reason}"))
                .hint(attests(*field)),
            Self::RootCa { of, within } => live(format!("root CA of `{of}`"), within),
            Self::Network { of, within } => live(format!("network of `{of}`"), within),
            Self::StandardNetworks { cluster, is_shown } => standard_networks(cluster, *is_shown),
            Self::Route { to, within } => live(format!("route to `{to}`"), within),
            Self::Admission { reader, peer, reason } => {
                let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                explain(format!("the relay of `{reader}` to be admitted by `{peer}`{reason}")).hint(synced(peer))
            }
            Self::Preparation { cluster } => explain(format!(
                "istiod and proxies of `{cluster}` to be prepared (ISTIO_MULTIROOT_MESH, SHARED_MESH_CONFIG, \
                 PROXY_CONFIG_XDS_AGENT)"
            ))
            .hint(
                "set the two variables of istiod where Istio is installed, and restart the workloads once; `istio.prepared: true` says \
                 that all of that is done",
            ),
            Self::RelayToken { cluster } => explain(format!(
                "every istiod of `{cluster}` to have the token for which its relay asks (PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS, \
                 volume isthmus-relay)"
            ))
            .hint("give it both where Istio is installed, or set `credentials.requireToken: false` in the Mesh"),
            Self::HiddenRootCas { cluster } => {
                explain(format!("the standard mesh configuration of `{cluster}` to give up its `caCertificates`"))
                    .hint("take them out, or set `istio.config` to helmValues, istioOperator or sail and apply the values")
            }
            Self::StandardConfig { cluster, target, lack } => {
                let file = target.values_file_of(cluster).unwrap_or_default();
                explain(format!("the standard mesh configuration of `{cluster}`: {}", lack.what())).hint(format!(
                    "apply {file} with what installs Istio there; ConfigMap isthmus-mesh stays until then"
                ))
            }
            Self::TrustDomain { domain, of, within, lack } => {
                let what = format!("`{within}` to accept trust domain `{domain}` of `{of}`");
                match lack {
                    DomainLack::Older { version } => explain(format!("{what}: expected Istio 1.29 or newer, found {version}"))
                        .hint("set `mergeTrustDomains: true`, which makes identities of both domains one in every policy there"),
                    DomainLack::VersionUnknown => explain(format!("{what}: the version of its Istio is not known")).hint(
                        "set `mergeTrustDomains: false` if every istiod there is 1.29 or newer, and otherwise `true`, which makes \
                         identities of both domains one in every policy there",
                    ),
                    DomainLack::AliasNotWritten => explain(format!("{what}: its alias is written in this run"))
                        .hint("sync it, then run again"),
                }
            }
            Self::StillThere { object, peer, reader } => still_there(*object, peer, reader),
            Self::MaybeThere { object, peer, reader, reason } => {
                explain(format!("`{reader}` to show whether {object} of `{peer}` is gone: {reason}")).hint(format!(
                    "{}; `state: lost` says that the whole cluster is gone for good",
                    attests(object.field())
                ))
            }
            Self::Sync { cluster, synced, wanted } => {
                explain(format!("run {wanted} of `{cluster}` to be synced into it; run {synced} is"))
                    .hint(format!("sync what was written for `{cluster}`"))
            }
            Self::Settle { reader, until } => {
                explain(format!("{until}, since `{reader}` shows no evidence and `settle` is not over"))
                    .hint("`settle: 0s` in its Cluster continues at once")
            }
            Self::PeerReads { peer, reader, until } => reads_first(peer, reader, *until),
            Self::PeerLeaves { peer } => explain(format!("`{peer}` to have taken its own links away, which it gives up"))
                .hint(format!("to join again, see that `{peer}` declares this side again")),
            Self::AgentTrusts { agent, peer } => explain(still_trusts(agent, peer)).hint(until_agent_lets_go(peer)),
            Self::Quiet { reader, peer, until } => still_heard(reader, peer, *until),
            Self::Marked { cluster } => explain(without_marks(cluster)).hint(synced(cluster)),
            Self::HandOver { cluster, to, lack } => explain(lack.what(cluster, *to)).hint(lack.hint(cluster, *to)),
            Self::OtherDirection { reader, peer } => explain(format!("`{reader}` to drop its link to `{peer}`"))
                .hint(format!("step render-secret/{reader}/{peer} says what that waits for")),
        }
    }
}

fn without_marks(cluster: &ClusterName) -> String {
    format!("objects of `{cluster}` to be seen without the marks by which no tool deletes them")
}

impl fmt::Display for LinkWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}

/// What a standard mesh configuration lacks that is to take the place of our ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandardLack {
    /// Its cluster could not learn what it holds.
    Unknown {
        /// Why, in the cluster's own text.
        reason: String,
    },
    /// The exporter is older and does not publish what it holds.
    NotPublished,
    /// A root CA of a peer, for its trust domain.
    RootCa { of: ClusterName },
    /// A network with its gateways.
    Network { of: ClusterName },
    /// An alias on which policies may rest.
    Alias { domain: TrustDomain },
}

impl StandardLack {
    /// Reads on after "waits for the standard mesh configuration of `c`:".
    fn what(&self) -> String {
        match self {
            Self::Unknown { reason } => format!("its content is not known: {reason}"),
            Self::NotPublished => "its exporter is of an older version, which does not publish its content".to_owned(),
            Self::RootCa { of } => format!("the root CA of `{of}` is not in effect from it"),
            Self::Network { of } => format!("the network of `{of}` is not in it"),
            Self::Alias { domain } => format!("the alias for trust domain `{domain}` is not in it"),
        }
    }
}

/// What a hand-over lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandOverLack {
    /// This run begins it.
    Begins,
    /// Links of the cluster move, and its objects with them.
    LinksMove,
    /// Its spec says that it shows nothing, and so no one can see what the other side has.
    NoEvidence,
    /// Its evidence was not seen in this run.
    Unseen { reason: UnseenReason },
    /// Whoever acts cannot take the objects, or leave them, yet.
    NotReady {
        /// Why, in the cluster's own text.
        reason: Option<String>,
    },
    /// It has a link with a peer, by UUID or cluster ID, with which no link is known here.
    Undeclared { peer: String },
    /// It reads a peer of which its link leaves here, and no one takes that away.
    ReadsOn { peer: ClusterName },
    /// Another checkout has the cluster, and does not leave it to anyone.
    NotOffered,
    /// It does not read a peer that it is taken to read.
    NotRead { peer: ClusterName },
    /// Whoever acts now is not seen to write yet.
    NotTaken,
    /// A run of another checkout is live where this one writes.
    OthersWrite {
        /// The key of its engine.
        key: KeyId,
    },
    /// An IstioMulticluster object of a peer that is not joined, and that specs do not link with the cluster: it would go with the agent.
    LeftOver { object: ClusterName },
}

impl HandOverLack {
    /// Reads on after "waits for".
    fn what(&self, cluster: &ClusterName, to: Reconciler) -> String {
        let who = match to {
            Reconciler::Agent => format!("the agent of `{cluster}` to be able to take its objects"),
            Reconciler::Rendered => format!("the agent of `{cluster}` to leave its objects"),
            Reconciler::Deckhouse | Reconciler::External => {
                format!("all objects of `{cluster}` to be seen with the marks by which they stay there")
            }
        };
        match self {
            Self::Begins if to == Reconciler::External => format!("{who}: this run marks them"),
            Self::Begins => format!("{who}: this run tells it to"),
            Self::LinksMove => format!("links of `{cluster}` to stay at their stage while its objects are handed over"),
            Self::NoEvidence => format!("evidence of `{cluster}`, without which its objects are handed over to no one"),
            Self::Unseen { reason } => format!("evidence of `{cluster}`: {}", reason.message_and_hint().0),
            Self::NotReady { reason: None } => who,
            Self::NotReady { reason: Some(reason) } => format!("{who}: {reason}"),
            Self::Undeclared { peer } => format!("a link here with {peer}, with which `{cluster}` is joined"),
            Self::ReadsOn { peer } => {
                format!("`{cluster}` to read `{peer}` no more, since its link to that leaves here")
            }
            Self::NotOffered => format!("whoever has the objects of `{cluster}` to leave them to this checkout"),
            Self::NotRead { peer } => format!("`{cluster}` to read `{peer}`, with which it is joined here"),
            Self::OthersWrite { key } => format!(
                "the checkout whose engine has key `{key}`, which wrote what is live in `{cluster}`, to leave that to this one"
            ),
            Self::LeftOver { object } => format!(
                "object IstioMulticluster `{object}` to be gone from `{cluster}`: no spec links the two, and it would be deleted with the agent's CRD"
            ),
            Self::NotTaken => match to {
                Reconciler::Agent => format!("the agent of `{cluster}` to write its objects"),
                Reconciler::Rendered => format!("what was written for `{cluster}` to be synced into it"),
                Reconciler::Deckhouse | Reconciler::External => {
                    format!("another checkout to take the objects of `{cluster}`, which no one follows up meanwhile")
                }
            },
        }
    }

    fn hint(&self, cluster: &ClusterName, to: Reconciler) -> String {
        match self {
            Self::Undeclared { .. } => {
                format!("declare that cluster here, or let it leave `{cluster}` before the hand-over")
            }
            Self::ReadsOn { .. } => {
                "use --restore-links, which takes the link as it is live; it leaves once the cluster is taken"
                    .to_owned()
            }
            Self::OthersWrite { .. } => format!(
                "one of both sets `reconciler: external` for `{cluster}`; if the engine's key was replaced, sync what this run writes"
            ),
            Self::LeftOver { object } => {
                format!("declare `{object}` here as a peer of `{cluster}`, or delete that object before the hand-over")
            }
            Self::NotOffered => format!(
                "the other checkout lists this engine's key in its `engineKeys` and sets `reconciler: external` for `{cluster}`; where none has \
                 it, set `state: lost` until its links are gone, and join again"
            ),
            Self::NotTaken if to == Reconciler::External => {
                format!(
                    "sync what another checkout renders for `{cluster}`, with this engine's key among its `engineKeys`; or take the edit of \
                     `reconciler` back"
                )
            }
            Self::NoEvidence => {
                format!("state no `evidence: none` for `{cluster}`, or leave, edit `reconciler`, and join again")
            }
            Self::Begins
            | Self::LinksMove
            | Self::Unseen { .. }
            | Self::NotReady { .. }
            | Self::NotRead { .. }
            | Self::NotTaken => format!(
                "sync what this run writes for `{cluster}`, then run again; until `{}` has its objects they stay as they are",
                to.as_str()
            ),
        }
    }
}

/// Why a cluster does not accept identities of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainLack {
    /// Its Istio accepts other trust domains by an alias alone, and the spec does not ask for one.
    Older {
        /// The oldest version there.
        version: String,
    },
    /// It does not publish the version of its Istio, and the spec does not say what to do.
    VersionUnknown,
    /// The spec asks for an alias, which no run has written yet.
    AliasNotWritten,
}

/// Why a move of a link rests on less than evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unproven {
    /// A cluster publishes no evidence.
    NoEvidence { cluster: ClusterName },
    /// A cluster cannot show a field, and someone attests it.
    Attested { cluster: ClusterName, field: EvidenceField },
    /// A Deckhouse that is read was not seen to read, in the time that was waited for it.
    NotSeenToRead { peer: ClusterName, reader: ClusterName },
    /// The cluster is gone: an accepted other one answers in its place.
    Rebuilt { cluster: ClusterName },
    /// The cluster is gone, by its spec.
    Lost { cluster: ClusterName },
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEvidence { cluster } => write!(f, "`{cluster}` publishes no evidence"),
            Self::Attested { cluster, field } => {
                write!(f, "`{cluster}` does not show `{field}`, and its spec attests it")
            }
            Self::NotSeenToRead { peer, reader } => {
                write!(f, "`{peer}` was not seen to ask the api-proxy of `{reader}`, and may not trust its root CA yet")
            }
            Self::Rebuilt { cluster } => {
                write!(f, "`{cluster}` was rebuilt, and the old one cannot show what it holds")
            }
            Self::Lost { cluster } => write!(f, "`{cluster}` is `state: lost`, and cannot show what it holds"),
        }
    }
}

/// What is refused once all links have moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdvanceRefusal {
    /// More links would go than the guard lets pass.
    TooManyDeletions {
        /// Links that would go.
        going: usize,
        /// All links that are there.
        of: usize,
    },
    /// All links of a reader would go, and with them the last root CA of another cluster that it trusts.
    LastRoot { reader: ClusterName },
    /// The standard mesh configuration hides the root CAs written for it.
    HiddenRootCas,
    /// An alias is to go without which istiod would not accept the trust domain.
    AliasStillNeeded {
        /// The reader.
        cluster: ClusterName,
        /// The trust domain of the alias.
        domain: TrustDomain,
        /// The oldest version of its Istio.
        version: String,
    },
}

impl AdvanceRefusal {
    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::TooManyDeletions { .. } | Self::LastRoot { .. } => Code::TooManyDeletions,
            Self::HiddenRootCas => Code::RootCasHidden,
            Self::AliasStillNeeded { .. } => Code::TrustDomainNotAccepted,
        }
    }

    /// The reason for people and machines alike; it reads on after "refused:".
    pub fn explanation(&self) -> Explanation {
        match self {
            Self::TooManyDeletions { going, of } => Explanation::new(
                self.code(),
                format!("{going} of {of} links would go and no cluster is `state: leaving`"),
            )
            .hint("if that is meant, apply with --allow-delete"),
            Self::LastRoot { reader } => Explanation::new(
                self.code(),
                format!(
                    "all links of `{reader}` would go, and the last root CA of another cluster with them, and no cluster is `state: leaving`"
                ),
            )
            .hint("if that is meant, apply with --allow-delete"),
            Self::AliasStillNeeded { cluster, domain, version } => Explanation::new(
                self.code(),
                format!(
                    "without its alias `{cluster}` does not accept trust domain `{domain}`: expected Istio 1.29 or newer, found {version}"
                ),
            )
            .hint("take `mergeTrustDomains: false` back, or bring every istiod there to 1.29 or newer first"),
            Self::HiddenRootCas => Explanation::new(
                self.code(),
                "the standard mesh configuration has `caCertificates`, which hide ours",
            )
            .hint("take them out, or set `istio.config` to helmValues, istioOperator or sail and apply the values"),
        }
    }
}
