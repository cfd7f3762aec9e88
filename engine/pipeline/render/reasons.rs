//! What rendering waits for: input that was never seen.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

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
    },
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
            Self::PrivateDocument { .. } => Code::PrivateDocumentMissing,
        }
    }

    /// The reason for people and machines alike; it reads on after "waits for".
    pub fn explanation(&self) -> Explanation {
        let explain = |message: String| Explanation::new(self.code(), message);
        match self {
            Self::NotInLock { cluster } => {
                explain(format!("`{cluster}` to be read again; the lock holds nothing of it"))
            }
            Self::NotReached { cluster } => {
                explain(format!("`{cluster}` to be reached; its IstioMulticluster objects follow then"))
            }
            Self::EngineKey => {
                explain("a key of the engine's own: `engine keys new`, or `engine apply --create-keys`".to_owned())
            }
            Self::RelayCa { cluster } => explain(format!("the relay of `{cluster}` to publish its CA")),
            Self::StandardNetworks { cluster } => explain(format!(
                "evidence of `{cluster}` on `meshConfig`: which networks its standard configuration has, since ours replace them"
            ))
            .hint("if it will not show that, set `istio.standardMeshNetworks` to `none`, or to those that it has"),
            Self::PrivateDocument { cluster } => {
                explain(format!("api host, gateways and network of `{cluster}`, from its private document"))
            }
        }
    }
}

impl fmt::Display for RenderWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}
