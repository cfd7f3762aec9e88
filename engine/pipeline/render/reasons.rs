//! What rendering waits for: input that was never seen.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use crate::pipeline::advance::standard_networks;
use crate::types::explanation::{Code, Explanation};
use crate::types::name::ClusterName;

/// Why something is not rendered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderWait {
    /// A link names a cluster of which the lock holds nothing.
    NotInLock { cluster: ClusterName },
    /// A cluster for which another tool acts was never reached.
    NotReached { cluster: ClusterName },
    /// There is no key of the engine's own.
    EngineKey,
    /// The reader's relay has no CA yet.
    RelayCa {
        /// The reader.
        cluster: ClusterName,
    },
    /// The reader's standard configuration, whose networks ours replace, was never seen.
    StandardNetworks {
        /// The reader.
        cluster: ClusterName,
        /// Whether it is to show it; else its spec states it.
        is_shown: bool,
    },
    /// Another tool is to deploy the cluster, and links that name it rest on what was written for it before.
    LinksOfFolder { cluster: ClusterName },
    /// The private document of a peer was never accepted.
    PrivateDocument {
        /// The peer.
        cluster: ClusterName,
    },
}

impl RenderWait {
    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::NotInLock { .. } => Code::LockEntryMissing,
            Self::NotReached { .. } => Code::ClusterNotReached,
            Self::EngineKey => Code::KeyMissing,
            Self::RelayCa { .. } => Code::RelayCaMissing,
            Self::StandardNetworks { .. } => Code::EvidenceUnknown,
            Self::LinksOfFolder { .. } => Code::LinksStillLeaving,
            Self::PrivateDocument { .. } => Code::PrivateDocumentMissing,
        }
    }

    /// The reason for people and machines alike; it reads on after "waits for".
    pub fn explanation(&self) -> Explanation {
        let explain = |message: String| Explanation::new(self.code(), message);
        match self {
            Self::NotInLock { cluster } => {
                explain(format!("`{cluster}` to be read again, since the lock holds nothing of it"))
                    .hint("run `engine apply`, which asks it")
            }
            Self::NotReached { cluster } => {
                explain(format!("`{cluster}` to be reached, before its IstioMulticluster objects are written"))
                    .hint(format!("step fetch-ca/{cluster} says why it was not"))
            }
            Self::EngineKey => explain("a key of the engine's own".to_owned())
                .hint("`engine keys new` makes one, and so does `engine apply --create-keys`"),
            Self::RelayCa { cluster } => explain(format!("the relay of `{cluster}` to publish its CA"))
                .hint("it makes one when it first runs in that cluster"),
            Self::StandardNetworks { cluster, is_shown } => standard_networks(cluster, *is_shown),
            Self::LinksOfFolder { cluster } => explain(format!(
                "the links of `{cluster}` to be gone: they rest on what `rendered/{cluster}` still holds, though another tool is to deploy it"
            ))
            .hint("take the edit of `reconciler` back, or set `state: leaving` and apply until its links are gone"),
            Self::PrivateDocument { cluster } => {
                explain(format!("api host, gateways and network of `{cluster}`, from its private document"))
                    .hint(format!("step discover-proxy/{cluster} says why it is missing"))
            }
        }
    }
}

impl fmt::Display for RenderWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}
