//! Private keys that a run may sign with. Read once, by whoever knows where they lie, and handed over.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::explanation::{Code, Explanation};
use crate::types::key::{KeyId, PrivateKey};
use crate::types::name::ClusterName;

/// Private keys, each with the reason why it is missing.
#[derive(Debug)]
pub struct Keyring {
    /// The engine's own, when it is one that spec or lock know.
    pub engine: Result<(KeyId, PrivateKey), KeyProblem>,
    /// Clusters' own, where a file or the environment holds them.
    pub clusters: BTreeMap<ClusterName, Result<PrivateKey, KeyProblem>>,
}

/// Whose private key is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyOwner {
    Engine,
    Cluster(ClusterName),
}

/// Why no token can be signed. A stored plan keeps it, so it holds no secret and no text of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyProblem {
    /// Neither spec nor lock know a key of the engine's.
    NoEngineKey,
    /// No file and no variable holds the key.
    Missing {
        owner: KeyOwner,
        /// Where it should be, ready to be read in a sentence.
        source: String,
    },
    /// A file or a variable holds no usable key.
    Unusable {
        owner: KeyOwner,
        source: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The engine's key is another one than spec and lock know.
    Another { source: String },
    /// The key never leaves its cluster.
    StaysInCluster { cluster: ClusterName },
    /// The engine speaks in the name of a cluster that reads the peer, and no such cluster is known yet.
    NoReader { peer: ClusterName },
    /// The peer admits clusters' own keys alone, and there is none.
    OnlyClusterKeys { peer: ClusterName },
}

impl KeyProblem {
    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::NoEngineKey | Self::Missing { .. } => Code::KeyMissing,
            Self::Unusable { .. } => Code::KeyUnusable,
            Self::Another { .. } => Code::KeyNotKnown,
            Self::StaysInCluster { .. } | Self::OnlyClusterKeys { .. } => Code::ClusterKeyNeeded,
            Self::NoReader { .. } => Code::ReaderNotKnown,
        }
    }

    /// The reason for people and machines alike; it reads on after "waits for".
    pub fn explanation(&self) -> Explanation {
        let explain = |message: String| Explanation::new(self.code(), message);
        match self {
            Self::NoEngineKey => {
                explain("a key of the engine's own".to_owned())
                    .hint("`engine keys new` makes one, and so does `engine apply --create-keys`")
            }
            Self::Missing { owner: KeyOwner::Engine, source } => {
                explain(format!("the engine's private key, in {source}"))
                    .hint("put the private half there that belongs to the public one in spec or lock")
            }
            Self::Missing { owner: KeyOwner::Cluster(name), source } => {
                explain(format!("the private key of `{name}`, in {source}")).hint("put it there")
            }
            Self::Unusable { owner: KeyOwner::Engine, source, problem } => {
                explain(format!("a usable private key of the engine in {source}: {problem}"))
                    .hint("put the key there that `engine keys new` made")
            }
            Self::Unusable { owner: KeyOwner::Cluster(name), source, problem } => {
                explain(format!("a usable private key of `{name}` in {source}: {problem}"))
                    .hint("put the cluster's own Ed25519 key there, as PEM")
            }
            Self::Another { source } => {
                explain(format!("the engine's key: {source} holds another one than spec and lock know"))
                    .hint("put the private half there that belongs to the public one in spec or lock")
            }
            Self::StaysInCluster { cluster } => {
                explain(format!("the key of `{cluster}`, which never leaves the cluster"))
                    .hint("where its peers admit no other, state `key: {file: …}` or `key: {env: …}` for a cluster that reads them")
            }
            Self::NoReader { peer } => {
                explain(format!("a cluster of this checkout that reads `{peer}`, of which none is known yet"))
                    .hint("its document is asked for once such a cluster was reached")
            }
            Self::OnlyClusterKeys { peer } => {
                explain(format!("the own key of a cluster that reads `{peer}`, since Deckhouse admits no other"))
                    .hint("state `key: {file: …}` or `key: {env: …}` for such a cluster")
            }
        }
    }
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}
