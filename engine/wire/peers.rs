//! `peers.json` of ConfigMap `isthmus-peers`: who may read a cluster, with which keys, for which scopes and namespaces.
//!
//! The engine renders it, exporter and api-proxy read it. Unknown fields are ignored, so that a newer engine may serve an
//! older exporter; an unknown version is an error.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::cause::Cause;
use crate::types::json::{JsonError, parse_strict};
use crate::types::key::{KeyId, PublicKey};
use crate::types::name::{ClusterId, ClusterName, ClusterUuid, Digest, Namespace, NetworkName, Revision};
use crate::types::time::optional_seconds;
use crate::types::token::{MAX_DECKHOUSE_API_LIFETIME, Scope};
use crate::wire::metadata::AuthnKey;
use crate::wire::share::Share;

/// Name of the ConfigMap.
pub const PEERS: &str = "isthmus-peers";
/// Group of all users that the api-proxy becomes for peers.
pub const PEERS_GROUP: &str = "istio-peers";
/// How the users begin that the api-proxy becomes for peers.
const USER_PREFIX: &str = "istio-peer:";
/// Key of the file in the ConfigMap.
pub const PEERS_FILE: &str = "peers.json";
/// Field of the file, in a line of its own before `self`, that says what the links of the cluster rest on. The next run reads it
/// where the lock lost its entry; roles do not look at it.
pub const JOINED_WITH: &str = "joinedWith";
/// Field of the file, in a line of its own before `self`: 16 hex digits that name which links of the cluster were joined when it was
/// written. Two branches can give one serial to different runs; the next run tells these apart by it. Roles do not look at it.
pub const JOINED_LINKS: &str = "joinedLinks";
/// The version that is written and read.
pub const PEERS_VERSION: u32 = 1;

/// All who may read a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersFile {
    /// [`PEERS_VERSION`].
    pub version: u32,
    /// Rises with each run that moved a link of the cluster; 0: none did since serials are written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub serial: u64,
    /// Rises with each run that changed what others use of the cluster itself; 0: none did since serials are written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub entry: u64,
    /// The key of the engine that wrote the file, where `self` lists those of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<KeyId>,
    /// The cluster's own network, by which its peers know it; absent while it is not known, or since no one wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// Keys that read in the cluster's own name: the engine's.
    #[serde(rename = "self", default)]
    pub own: OwnKeys,
    #[serde(default)]
    pub peers: Vec<PeerEntry>,
}

/// Keys that read in the cluster's own name; its UUID need not be known to write them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwnKeys {
    #[serde(default)]
    pub keys: Vec<AuthnKey>,
}

/// A peer: who may ask, with which keys, and what it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerEntry {
    /// Its name in the checkout that wrote the file.
    pub name: ClusterName,
    /// Its UUID, the `sub` of its tokens.
    #[serde(rename = "clusterUUID")]
    pub cluster_uuid: ClusterUuid,
    /// Its keys. The first is its own, `authnKeyPub`: a token without `kid` is checked against that one.
    pub keys: Vec<AuthnKey>,
    /// Names of namespaces it may see; `*` means all. What an api-proxy goes by that does not know [`share`](Self::share).
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Which namespaces it sees; `None` where an engine wrote the file that knows names alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub istio_namespace: Option<Namespace>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Revision>,
    /// The user that the api-proxy becomes for it, where it is not that of its UUID: one of [`agent_users`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Longest lifetime of its `api` tokens, in whole seconds, where it is not the usual one: Deckhouse signs for 366 days.
    #[serde(default, with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub max_token_lifetime: Option<Duration>,
    /// Its links with the cluster leave. Written for peers of other teams and of agents, which see it by this alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<LeavingPeer>,
}

/// What the exporter knows of a peer whose links leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingPeer {
    /// The cluster ID by which evidence names it: no route does any more.
    #[serde(rename = "clusterID")]
    pub cluster_id: ClusterId,
}

impl PeerEntry {
    /// The user that the api-proxy becomes for it.
    pub fn user(&self) -> String {
        self.user.clone().unwrap_or_else(|| user_of(&self.cluster_uuid))
    }

    /// Which namespaces the peer sees.
    pub fn sees(&self) -> Share {
        self.share.clone().unwrap_or_else(|| Share::of_names(self.namespaces.iter().map(String::as_str)))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
fn is_zero(serial: &u64) -> bool {
    *serial == 0
}

/// The user that the api-proxy becomes for a peer.
pub fn user_of(peer: &ClusterUuid) -> String {
    format!("{USER_PREFIX}{peer}")
}

/// The same where an agent admits peers. Their rights are rendered before anyone knows their UUIDs, so it is one of 256: all have the
/// same rights, and peers of one user share a queue of the apiserver's.
pub fn agent_user_of(peer: &ClusterUuid) -> String {
    format!("{USER_PREFIX}{}", Digest::of(peer.as_str().as_bytes()).short(2))
}

/// All users of [`agent_user_of`].
pub fn agent_users() -> Vec<String> {
    (0..=u8::MAX).map(|first| format!("{USER_PREFIX}{first:02x}")).collect()
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeersError {
    /// Not JSON as we read it.
    #[error("cannot read `peers.json`: {0}; render ConfigMap `isthmus-peers` again with `engine apply`")]
    Json(#[from] JsonError),
    /// A field of a wrong type or grammar.
    #[error("cannot read `peers.json`: {0}; render ConfigMap `isthmus-peers` again with `engine apply`")]
    Field(Cause<serde_json::Error>),
    /// Written by a newer engine.
    #[error("`peers.json`: expected version {PEERS_VERSION}, found {0}; use a newer image here")]
    Version(u32),
    /// A peer's tokens would live longer than any may.
    #[error(
        "`peers.json` gives `{0}` a maxTokenLifetime outside 1 to {longest} seconds; render it again with `engine apply`",
        longest = MAX_DECKHOUSE_API_LIFETIME.as_secs()
    )]
    Lifetime(ClusterName),
    /// A user that is none of those that peers have.
    #[error(
        "`peers.json` gives `{0}` a user that does not begin with `{USER_PREFIX}`; render it again with `engine apply`"
    )]
    User(ClusterName),
    /// Two peers of one UUID: it would be unclear whose keys count.
    #[error("`peers.json` names the cluster UUID {0} twice; render it again with `engine apply`")]
    Twice(ClusterUuid),
}

impl PeersFile {
    /// A file that admits no one.
    pub fn empty() -> Self {
        let (own, peers) = (OwnKeys::default(), Vec::new());
        Self { version: PEERS_VERSION, serial: 0, entry: 0, writer: None, network: None, own, peers }
    }

    /// Reads `peers.json`. Fails on broken JSON, another version, and values that break their grammar or limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, PeersError> {
        let file: Self =
            serde_json::from_value(parse_strict(bytes)?).map_err(|error| PeersError::Field(error.into()))?;
        if file.version != PEERS_VERSION {
            return Err(PeersError::Version(file.version));
        }
        let outside = |peer: &&PeerEntry| {
            peer.max_token_lifetime
                .is_some_and(|of| !(Duration::from_secs(1)..=MAX_DECKHOUSE_API_LIFETIME).contains(&of))
        };
        if let Some(peer) = file.peers.iter().find(outside) {
            return Err(PeersError::Lifetime(peer.name.clone()));
        }
        if let Some(peer) = file.peers.iter().find(|peer| !peer.user().starts_with(USER_PREFIX)) {
            return Err(PeersError::User(peer.name.clone()));
        }
        let mut seen = BTreeSet::new();
        match file.peers.iter().find(|peer| !seen.insert(&peer.cluster_uuid)) {
            Some(peer) => Err(PeersError::Twice(peer.cluster_uuid.clone())),
            None => Ok(file),
        }
    }

    /// The peer of a UUID.
    pub fn peer(&self, uuid: &ClusterUuid) -> Option<&PeerEntry> {
        self.peers.iter().find(|peer| peer.cluster_uuid == *uuid)
    }

    /// Peers that publish this very key under this id for a scope: those in whose name its holder reads.
    pub fn publishers_of(&self, id: &KeyId, key: &PublicKey, scope: Scope) -> Vec<&PeerEntry> {
        let publishes = |own: &AuthnKey| own.id == *id && own.pem == *key && own.scopes.contains(&scope);
        self.peers.iter().filter(|peer| peer.keys.iter().any(publishes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::key::PrivateKey;

    const UUID: &str = "2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31";

    fn text(version: u32, uuids: &[&str]) -> String {
        let pem = PrivateKey::generate(&[7; 32]).unwrap().public().to_pem();
        let key = serde_json::json!({"id": "ci", "pem": pem, "scopes": ["private-multicluster"]});
        let peer = |uuid: &&str| {
            serde_json::json!({"name": "west", "clusterUUID": uuid, "keys": [key], "namespaces": ["*"],
                "istioNamespace": "istio-system", "revisions": ["default"], "later": true})
        };
        let peers: Vec<_> = uuids.iter().map(peer).collect();
        serde_json::json!({"version": version, "self": {"keys": [key]}, "peers": peers}).to_string()
    }

    #[test]
    fn a_file_reads_what_it_writes() {
        let file = PeersFile::parse(text(1, &[UUID]).as_bytes()).unwrap();
        assert_eq!(PeersFile::parse(&serde_json::to_vec(&file).unwrap()).unwrap(), file);
        let key = &file.own.keys[0];
        assert_eq!(file.publishers_of(&key.id, &key.pem, Scope::PrivateMulticluster).len(), 1);
        assert_eq!(file.publishers_of(&key.id, &key.pem, Scope::Api).len(), 0);
        assert!(PeersFile::parse(b"{\"version\":1}").unwrap().peers.is_empty());
    }

    #[test]
    fn a_lifetime_of_tokens_has_a_bound() {
        let longest = i64::try_from(MAX_DECKHOUSE_API_LIFETIME.as_secs()).unwrap();
        let with = |seconds: i64| {
            let text = text(1, &[UUID]).replace("\"name\":", &format!("\"maxTokenLifetime\":{seconds},\"name\":"));
            PeersFile::parse(text.as_bytes())
        };
        assert_eq!(with(longest).unwrap().peers[0].max_token_lifetime, Some(MAX_DECKHOUSE_API_LIFETIME));
        for seconds in [i64::MIN, 0, longest + 1] {
            assert!(matches!(with(seconds), Err(PeersError::Lifetime(_))), "{seconds}");
        }
    }

    #[test]
    fn a_file_that_could_be_read_in_two_ways_is_refused() {
        assert!(matches!(PeersFile::parse(text(1, &[UUID, UUID]).as_bytes()), Err(PeersError::Twice(_))));
        assert!(matches!(PeersFile::parse(text(2, &[UUID]).as_bytes()), Err(PeersError::Version(2))));
        assert!(matches!(PeersFile::parse(b"{\"version\":1,\"version\":1}"), Err(PeersError::Json(_))));
        assert!(matches!(PeersFile::parse(text(1, &["x"]).as_bytes()), Err(PeersError::Field(_))));
    }

    #[test]
    fn a_share_that_is_not_understood_is_no_wider_one() {
        let sees = |field: &str| {
            let text = text(1, &[UUID]).replace("\"namespaces\":[\"*\"]", &format!("\"namespaces\":[\"*\"]{field}"));
            PeersFile::parse(text.as_bytes()).map(|file| file.peers[0].sees())
        };
        assert_eq!(sees("").unwrap(), Share::everything());
        let usual = sees(r#","share":{"namespaces":["*"],"except":["kube-system"]}"#).unwrap();
        assert_eq!(usual, Share::usual());
        for field in [
            r#","share":{"namespaces":["a?"]}"#,
            r#","share":{"except":[]}"#,
            r#","share":{"namespaces":["*"],"labels":{"a":"b"}}"#,
            r#","share":[]"#,
        ] {
            assert!(matches!(sees(field), Err(PeersError::Field(_))), "{field}");
        }
    }
}
