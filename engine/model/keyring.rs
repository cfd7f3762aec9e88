//! Private keys that a run may sign with. Read once, by whoever knows where they lie, and handed over.

use std::collections::BTreeMap;

use crate::types::key::{KeyId, PrivateKey};
use crate::types::name::ClusterName;

/// Private keys, each with the reason why it is not at hand.
#[derive(Debug)]
pub struct Keyring {
    /// The engine's own, when it is one that spec or lock know; else what names its source and what makes one.
    pub engine: Result<(KeyId, PrivateKey), String>,
    /// Clusters' own, where a file or the environment holds them.
    pub clusters: BTreeMap<ClusterName, Result<PrivateKey, String>>,
}
