//! Private keys that a run may sign with. Read once, by whoever knows where they lie, and handed over.

#![deny(clippy::wildcard_enum_match_arm)]

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
}

/// Why no token can be signed. A stored plan keeps it, so it holds no secret and no text of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyProblem {
    /// Neither spec nor lock know a key of the engine's.
    NoEngineKey,
    /// No file and no variable holds the key.
    Missing {
        /// Where it should be, ready to be read in a sentence.
        source: String,
    },
    /// A file or a variable holds no usable key.
    Unusable {
        source: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The engine's key is another one than spec and lock know.
    Another { source: String },
    /// The engine speaks in the name of a cluster that reads the peer, and no such cluster is known yet.
    NoReader { peer: ClusterName },
    /// The peer is opened, or reached, with a cluster's own key alone, and no relay has read it yet.
    OnlyClusterKeys { peer: ClusterName },
}

impl KeyProblem {
    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::NoEngineKey | Self::Missing { .. } => Code::KeyMissing,
            Self::Unusable { .. } => Code::KeyUnusable,
            Self::Another { .. } => Code::KeyNotKnown,
            Self::OnlyClusterKeys { .. } => Code::ClusterKeyNeeded,
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
            Self::Missing { source } => {
                explain(format!("the engine's private key, in {source}"))
                    .hint("put the private half there that belongs to the public one in spec or lock")
            }
            Self::Unusable { source, problem } => {
                explain(format!("a usable private key of the engine in {source}: {problem}"))
                    .hint("put the key there that `engine keys new` made")
            }
            Self::Another { source } => {
                explain(format!("the engine's key: {source} holds another one than spec and lock know"))
                    .hint("put the private half there that belongs to the public one in spec or lock")
            }
            Self::NoReader { peer } => {
                explain(format!("a cluster of this checkout that reads `{peer}`, of which none is known yet"))
                    .hint("its document is asked for once such a cluster was reached")
            }
            Self::OnlyClusterKeys { peer } => {
                explain(format!("the relay of a cluster that reads `{peer}`, to read it with that cluster's own key"))
                    .hint("sync ConfigMap `isthmus-routes` of such a cluster and declare it on the side of the peer; `engine invite` prints what that takes")
            }
        }
    }
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}
