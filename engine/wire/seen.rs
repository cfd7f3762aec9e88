//! `peersSeen`: what a cluster's relay read of its peers with the cluster's own key, for the engine, which has no such key.
//!
//! A relay shows it to the exporter of its cluster, and the exporter to its own engine alone, in the private document. The
//! documents are as the peers sent them, and are judged by whoever reads them for good.

use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::types::address::Endpoint;
use crate::types::json::{JsonError, parse_strict};
use crate::types::name::ClusterUuid;
use crate::types::text::sentence_of_peer;
use crate::wire::failure::Failure;
use crate::wire::metadata::{PRIVATE_PATH, PUBLIC_PATH};

/// Path at which a relay shows it, on its port for metrics.
pub const PEERS_SEEN_PATH: &str = "/peers-seen";
/// Most bytes of all documents that an exporter shows: the engine reads 1 MiB, and there is more in the private document.
pub const MAX_PEERS_SEEN: usize = 640 * 1024;
/// Most peers of a list that are read.
const MAX_PEERS: usize = 1024;
/// Most levels of a failure.
const LEVELS: usize = 4;

/// What a relay read of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSeen {
    /// Where it was read, as `routes.json` has it.
    pub endpoint: Endpoint,
    /// For whom the token was made; `None`: no one was named, and the private document was not asked for.
    pub cluster_uuid: Option<ClusterUuid>,
    pub public: SeenDocument,
    pub private: SeenDocument,
    /// How long ago it was read, seconds.
    pub age: u64,
}

/// One of a peer's two documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenDocument {
    /// As it was sent, strict JSON.
    Read(Value),
    Failed(Failure),
    NotAsked,
}

impl SeenDocument {
    /// The document of an answer: strict JSON, without what the peer claims to have seen itself.
    pub fn of(bytes: &[u8]) -> Result<Self, JsonError> {
        let mut document = parse_strict(bytes)?;
        if let Value::Object(fields) = &mut document {
            fields.remove("peersSeen");
        }
        Ok(Self::Read(document))
    }

    /// The document, when it was read.
    pub fn read(&self) -> Option<&Value> {
        match self {
            Self::Read(document) => Some(document),
            Self::Failed(_) | Self::NotAsked => None,
        }
    }

    /// How far along it is: one that was read counts most.
    fn rank(&self) -> u8 {
        match self {
            Self::Read(_) => 2,
            Self::Failed(_) => 1,
            Self::NotAsked => 0,
        }
    }

    fn state(&self) -> Value {
        match self {
            Self::Read(_) => json!({ "kind": "read" }),
            Self::NotAsked => json!({ "kind": "notAsked" }),
            Self::Failed(failure) => serde_json::to_value(failure).unwrap_or_default(),
        }
    }

    /// The document by its state. One that is not understood says nothing.
    fn parse(document: Option<Value>, state: Option<&Value>, url: &str) -> Self {
        let kind = state.and_then(|state| state.get("kind")).and_then(Value::as_str);
        match (kind, document, state) {
            (Some("read"), Some(document @ Value::Object(_)), _) => Self::Read(document),
            (Some("read" | "notAsked") | None, ..) | (_, _, None) => Self::NotAsked,
            (Some(_), _, Some(failure)) => {
                let mut failure = plain(failure, LEVELS);
                if let Some(shown) = failure.get_mut("url") {
                    *shown = Value::from(url);
                }
                Failure::deserialize(failure).map_or(Self::NotAsked, Self::Failed)
            }
        }
    }
}

/// JSON whose texts are sentences, cut off below a level.
fn plain(value: &Value, levels: usize) -> Value {
    match value {
        Value::String(text) => Value::String(sentence_of_peer(text)),
        Value::Array(_) | Value::Object(_) if levels == 0 => Value::Null,
        Value::Array(list) => list.iter().take(MAX_PEERS).map(|one| plain(one, levels - 1)).collect(),
        Value::Object(map) => map.iter().map(|(key, one)| (sentence_of_peer(key), plain(one, levels - 1))).collect(),
        other => other.clone(),
    }
}

impl PeerSeen {
    /// All that is understood of a list as it is published.
    pub fn list(published: &[Value]) -> Vec<Self> {
        published.iter().take(MAX_PEERS).filter_map(Self::parse).collect()
    }

    /// What a relay answers at [`PEERS_SEEN_PATH`].
    pub fn answer(bytes: &[u8]) -> Result<Vec<Self>, JsonError> {
        let answer = parse_strict(bytes)?;
        let list = answer.get("peersSeen").and_then(Value::as_array).map(Vec::as_slice);
        Ok(Self::list(list.unwrap_or_default()))
    }

    /// The text of such an answer.
    pub fn to_answer(all: &[Self]) -> String {
        json!({ "version": 1, "peersSeen": all.iter().map(Self::to_value).collect::<Vec<_>>() }).to_string()
    }

    fn parse(published: &Value) -> Option<Self> {
        let text = |field: &str| published.get(field).and_then(Value::as_str);
        let endpoint: Endpoint = text("endpoint")?.parse().ok()?;
        let cluster_uuid = text("clusterUUID").map(str::parse).transpose().ok()?;
        let state = published.get("state");
        let document = |field: &str, path: &str| {
            let state = state.and_then(|state| state.get(field));
            SeenDocument::parse(published.get(field).cloned(), state, &endpoint.url(path))
        };
        let (public, private) = (document("public", PUBLIC_PATH), document("private", PRIVATE_PATH));
        let age = published.get("age").and_then(Value::as_u64).unwrap_or_default();
        Some(Self { endpoint, cluster_uuid, public, private, age })
    }

    /// The peer as it is published.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        if let Some(uuid) = &self.cluster_uuid {
            map.insert("clusterUUID".to_owned(), uuid.as_str().into());
        }
        map.insert("endpoint".to_owned(), self.endpoint.to_string().into());
        for (field, document) in [("public", &self.public), ("private", &self.private)] {
            map.insert(field.to_owned(), document.read().cloned().unwrap_or_default());
        }
        let state = json!({ "public": self.public.state(), "private": self.private.state() });
        map.insert("state".to_owned(), state);
        map.insert("age".to_owned(), self.age.into());
        Value::Object(map)
    }

    /// The better of two readings of one peer: the one that came further, else the later one.
    #[must_use]
    pub fn better(self, other: Self) -> Self {
        let rank = |seen: &Self| (seen.private.rank(), seen.public.rank(), std::cmp::Reverse(seen.age));
        if rank(&other) > rank(&self) { other } else { self }
    }

    /// The list as an exporter shows it: no more bytes than the engine reads. What is beyond is said to be too large.
    pub fn within_limit(all: impl IntoIterator<Item = Self>) -> Vec<Value> {
        let mut left = MAX_PEERS_SEEN;
        let shown = |mut seen: Self| {
            let mut value = seen.to_value();
            if value.to_string().len() > left {
                let url = seen.endpoint.url(PRIVATE_PATH);
                seen.public = SeenDocument::NotAsked;
                seen.private = SeenDocument::Failed(Failure::TooLarge { url, limit: MAX_PEERS_SEEN });
                value = seen.to_value();
            }
            left = left.saturating_sub(value.to_string().len());
            value
        };
        all.into_iter().take(MAX_PEERS).map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(private: SeenDocument) -> PeerSeen {
        PeerSeen {
            endpoint: "https://m.deck.example/metadata".parse().unwrap(),
            cluster_uuid: Some("2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31".parse().unwrap()),
            public: SeenDocument::of(br#"{"clusterUUID":"a","peersSeen":[1]}"#).unwrap(),
            private,
            age: 12,
        }
    }

    #[test]
    fn what_was_seen_is_read_as_it_was_written() {
        let unauthorized = Failure::Unauthorized {
            url: "https://m.deck.example/metadata/private/multicluster.json".into(),
            status: 401,
        };
        let all = [
            seen(SeenDocument::NotAsked),
            seen(SeenDocument::Failed(unauthorized)),
            PeerSeen { cluster_uuid: None, ..seen(SeenDocument::of(b"{}").unwrap()) },
        ];
        assert_eq!(PeerSeen::answer(PeerSeen::to_answer(&all).as_bytes()).unwrap(), all);
        assert_eq!(all[0].public.read().unwrap(), &json!({ "clusterUUID": "a" }), "no one passes on what others saw");
    }

    #[test]
    fn what_is_not_understood_says_nothing_and_steers_nothing() {
        let state = |state: Value| {
            let mut value = seen(SeenDocument::NotAsked).to_value();
            value["state"]["private"] = state;
            PeerSeen::list(&[value]).remove(0).private
        };
        assert_eq!(state(json!({ "kind": "read" })), SeenDocument::NotAsked, "there is none");
        assert_eq!(state(json!({ "kind": "later" })), SeenDocument::NotAsked);
        assert_eq!(state(json!("read")), SeenDocument::NotAsked);
        let hostile = json!({ "kind": "broken", "url": "https://elsewhere/", "problem": "\u{1b}[31m\u{202e}" });
        let SeenDocument::Failed(Failure::Broken { url, problem }) = state(hostile) else { panic!() };
        assert_eq!(url, "https://m.deck.example/metadata/private/multicluster.json");
        assert!(!problem.contains(['\u{1b}', '\u{202e}']), "{problem}");
        for broken in
            [json!({}), json!({ "endpoint": "http://m" }), json!({ "endpoint": "https://m", "clusterUUID": "-" })]
        {
            assert_eq!(PeerSeen::list(&[broken]), []);
        }
    }

    #[test]
    fn the_reading_that_came_further_counts_and_no_list_outgrows_the_limit() {
        let read = seen(SeenDocument::of(b"{}").unwrap());
        let late = PeerSeen { age: 3, ..read.clone() };
        assert_eq!(seen(SeenDocument::NotAsked).better(read.clone()), read);
        assert_eq!(read.clone().better(late.clone()), late);
        assert_eq!(late.clone().better(read.clone()), late);
        let large = Value::from("x".repeat(400 * 1024));
        let large = PeerSeen { public: SeenDocument::Read(json!({ "rootCA": large })), ..read };
        let shown = PeerSeen::within_limit([large.clone(), large.clone(), late]);
        assert!(Value::from(shown.clone()).to_string().len() < MAX_PEERS_SEEN + 2048);
        let shown = PeerSeen::list(&shown);
        assert_eq!(shown[0], large);
        assert!(matches!(shown[1].private, SeenDocument::Failed(Failure::TooLarge { .. })));
        assert!(shown[2].private.read().is_some(), "a small one beside it is shown");
    }
}
