//! Why a document was not accepted, and why nothing is known of what a cluster shows.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use crate::model::keyring::KeyProblem;
use crate::model::trust::TrustFinding;
use crate::types::address::Gateway;
use crate::types::certificate::CertificateError;
use crate::types::explanation::{Code, Explanation};
use crate::types::name::ClusterDomain;
use crate::wire::failure::Failure;

/// What a document waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// An answer, which the peer is not set up to give yet.
    Answer(Failure),
    /// A private document: the public one.
    PublicDocument,
    /// A private document: that the public one is accepted.
    PublicDocumentAccepted,
    /// A key to sign a token with.
    Key(KeyProblem),
    /// The links of the cluster that was there before.
    LinksToLeave,
    /// A private document: gateways of another kind than those of ambient mode.
    Sidecars,
}

impl WaitReason {
    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::Answer(failure) => failure.code(),
            Self::PublicDocument => Code::PublicDocumentNotRead,
            Self::PublicDocumentAccepted => Code::PublicDocumentNotAccepted,
            Self::Key(problem) => problem.code(),
            Self::LinksToLeave => Code::LinksStillLeaving,
            Self::Sidecars => Code::IstioModeUnsuited,
        }
    }

    /// The reason for people and machines alike.
    pub fn explanation(&self) -> Explanation {
        let (message, hint) = match self {
            Self::Answer(failure) => return failure.waiting(),
            Self::Key(problem) => return problem.explanation(),
            Self::PublicDocument => {
                ("the public document of its exporter", "its step fetch-ca says why it was not read")
            }
            Self::PublicDocumentAccepted => (
                "the public document of its exporter to be accepted",
                "its trust change is listed on top, with the command that accepts it",
            ),
            Self::Sidecars => (
                "an east-west gateway: it publishes those of ambient mode alone, in which ztunnel trusts no root of a peer (istio/istio#61719)",
                "switch its multicluster mode to sidecars; or state `gateways` in its Cluster",
            ),
            Self::LinksToLeave => (
                "its links to leave, before it joins as the new cluster it is",
                "sync what is written for its peers, then run again",
            ),
        };
        Explanation::new(self.code(), message).hint(hint)
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}

/// Why a document was not taken although nothing of it is a trust change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailReason {
    NotRead(Failure),
    /// Its root CA cannot be trusted.
    RootCa(CertificateError),
    /// It publishes another cluster domain than the spec says.
    ClusterDomain {
        published: ClusterDomain,
        stated: ClusterDomain,
    },
    /// A gateway at an inside address that the spec does not name.
    GatewayInside {
        gateway: Gateway,
    },
}

impl FailReason {
    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::NotRead(failure) => failure.code(),
            Self::RootCa(_) => Code::RootCaRefused,
            Self::ClusterDomain { .. } => Code::ClusterDomainDiffers,
            Self::GatewayInside { .. } => Code::GatewayInside,
        }
    }

    /// The reason for people and machines alike.
    pub fn explanation(&self) -> Explanation {
        match self {
            Self::NotRead(failure) => failure.explanation(),
            Self::RootCa(error) => Explanation::new(self.code(), format!("its root CA is refused: {error}"))
                .hint("correct the root CA of its Istio; what the lock has of it stays in use until then"),
            Self::ClusterDomain { published, stated } => Explanation::new(
                self.code(),
                format!("expected the cluster domain `{stated}`, as the spec says, found `{published}`"),
            )
            .hint("set `clusterDomain` in its spec to the domain that its Kubernetes has"),
            Self::GatewayInside { gateway } => {
                Explanation::new(self.code(), format!("it publishes the gateway {gateway}, which is an inside address"))
                    .hint("name its range in `allow.addresses` if that is meant")
            }
        }
    }
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}

/// What no approval can help with: findings that only the specs can settle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals(pub Vec<TrustFinding>);

impl Refusals {
    /// Each for people and machines alike.
    pub fn explanations(&self) -> Vec<Explanation> {
        self.0.iter().map(|finding| finding.meaning.explanation()).collect()
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            finding.meaning.fmt(f)?;
        }
        Ok(())
    }
}

/// Why nothing is known of what a cluster shows to be live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnseenReason {
    /// The cluster is paused, or was not asked in this run.
    NotAsked,
    /// It is leaving, and does not answer as itself.
    Leaving,
    /// Its public document was not read.
    PublicDocument,
    /// Its private document was not asked for.
    PrivateDocumentNotAsked,
    /// Its private document was not read.
    PrivateDocument(Failure),
    /// No token could be signed for its private document.
    Key(KeyProblem),
    /// Its private document is not taken.
    Refused(FailReason),
    /// It publishes no gateway.
    NoGateway,
    /// Its trust change is held back.
    HeldBack,
    /// Another cluster answers in its place.
    Rebuilt,
    /// Its private document shows nothing, and the spec does not say that it never will.
    NoEvidence,
}

impl UnseenReason {
    /// What is the matter and what to do about it. It has no code: whoever waits for evidence reports it under its own.
    pub fn message_and_hint(&self) -> (String, Option<String>) {
        let parts = |Explanation { message, hint, .. }: Explanation| (message, hint);
        let (message, hint) = match self {
            Self::PrivateDocument(failure) => return parts(failure.explanation()),
            Self::Refused(reason) => return parts(reason.explanation()),
            Self::Key(problem) => {
                let (message, hint) = parts(problem.explanation());
                return (format!("it could not be asked without {message}"), hint);
            }
            Self::NotAsked => ("it was not asked in this run", "it is once its spec says `state: active`"),
            Self::Leaving => (
                "it is leaving and does not answer as itself",
                "if it is gone for good, or was made anew, set `state: lost`",
            ),
            Self::PublicDocument => ("its public document was not read", "its step fetch-ca says why"),
            Self::PrivateDocumentNotAsked => {
                ("its private document was not asked for", "its step discover-proxy says why")
            }
            Self::NoGateway => (
                "it publishes no ingress gateway",
                "deploy an east-west gateway there, or state `gateways` in its Cluster",
            ),
            Self::HeldBack => {
                ("its trust change is held back", "it is listed on top, with the command that accepts it")
            }
            Self::Rebuilt => ("another cluster answers in its place", "its links leave first, and then it joins anew"),
            Self::NoEvidence => (
                "its private document shows nothing of what is live",
                "its exporter starts or is older than evidence; set `evidence: none` if it will never show any",
            ),
        };
        (message.to_owned(), Some(hint.to_owned()))
    }
}
