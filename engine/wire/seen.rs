//! `peersSeen`: what a cluster's relay read of its peers with the cluster's own key, for the engine, which has no such key.
//!
//! A relay shows it to the exporter of its cluster, and the exporter to its own engine alone, in the private document. The
//! documents are as the peers sent them, and are judged by whoever reads them for good.

use std::collections::BTreeSet;
use std::io::{self, Write};

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
/// Most elements of a list in a failure, such as the fields that a document lacks.
const MAX_LISTED: usize = 16;

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
                match Failure::deserialize(failure) {
                    Ok(failure) if is_of_a_reader(&failure) => Self::Failed(failure),
                    Ok(_) | Err(_) => Self::NotAsked,
                }
            }
        }
    }
}

/// Whether a relay can say it of its own reading: what others read, and files of the checkout, are not its to tell of.
fn is_of_a_reader(failure: &Failure) -> bool {
    !matches!(
        failure,
        Failure::Through { .. }
            | Failure::ReadingsDiffer { .. }
            | Failure::FileMissing { .. }
            | Failure::FileUnreadable { .. }
    )
}

/// JSON whose texts are sentences, cut off below a level.
fn plain(value: &Value, levels: usize) -> Value {
    match value {
        Value::String(text) => Value::String(sentence_of_peer(text)),
        Value::Array(_) | Value::Object(_) if levels == 0 => Value::Null,
        Value::Array(list) => list.iter().take(MAX_LISTED).map(|one| plain(one, levels - 1)).collect(),
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

    /// The text of such an answer, within the limit of the exporter that shows it.
    pub fn to_answer(all: &[Self]) -> String {
        json!({ "version": 1, "peersSeen": Self::within_limit(all.iter().cloned()) }).to_string()
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

    /// The list as it is shown, no more bytes than the engine reads. The smallest are shown first, so that no peer takes the place of
    /// others: what is beyond is said to be too large.
    pub fn within_limit(all: impl IntoIterator<Item = Self>) -> Vec<Value> {
        let mut left = MAX_PEERS_SEEN;
        let (mut shown, mut sizes) = (Vec::new(), Vec::new());
        for seen in all.into_iter().take(MAX_PEERS) {
            let (whole, cut) = (seen.to_value(), seen.cut().to_value());
            let Some(least) = size_below(&cut, left) else { break };
            left -= least;
            // in the place of what is cut
            let more = size_below(&whole, MAX_PEERS_SEEN).map(|size| size.saturating_sub(least));
            sizes.extend(more.map(|more| (more, shown.len())));
            shown.push((whole, cut));
        }
        sizes.sort_unstable();
        let mut fits = BTreeSet::new();
        for (more, at) in sizes {
            if let Some(rest) = left.checked_sub(more) {
                left = rest;
                fits.insert(at);
            }
        }
        shown.into_iter().enumerate().map(|(at, (whole, cut))| if fits.contains(&at) { whole } else { cut }).collect()
    }

    /// The same without its documents, which are too large.
    fn cut(&self) -> Self {
        let url = self.endpoint.url(PRIVATE_PATH);
        let private = SeenDocument::Failed(Failure::TooLarge { url, limit: MAX_PEERS_SEEN });
        Self { public: SeenDocument::NotAsked, private, ..self.clone() }
    }
}

/// How many bytes a value has where it is published: in a list of a document that is written with two spaces a level. `None`: more
/// than the limit; it is not written out to be counted.
fn size_below(value: &Value, limit: usize) -> Option<usize> {
    let mut size = PublishedSize { bytes: 0, limit };
    serde_json::to_writer_pretty(&mut size, value).ok()?;
    // the comma and the newline after it, and its own place in the line
    size.bytes.checked_add(2 + INDENT).filter(|bytes| *bytes <= limit)
}

/// Spaces before each line of an element of a list that is a field of a document.
const INDENT: usize = 4;

/// Counts bytes, each line with its [`INDENT`], up to a limit.
struct PublishedSize {
    bytes: usize,
    limit: usize,
}

impl Write for PublishedSize {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lines = bytes.split(|byte| *byte == b'\n').count().saturating_sub(1);
        self.bytes = self.bytes.saturating_add(bytes.len()).saturating_add(lines.saturating_mul(INDENT));
        if self.bytes > self.limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        let of = |bytes: usize| {
            let root = Value::from("x".repeat(bytes));
            PeerSeen { public: SeenDocument::Read(json!({ "rootCA": root })), ..read.clone() }
        };
        let (large, small) = (of(400 * 1024), of(100 * 1024));
        let shown = shown([large.clone(), large.clone(), small.clone(), late]);
        assert_eq!((&shown[0], &shown[2]), (&large, &small));
        assert!(matches!(shown[1].private, SeenDocument::Failed(Failure::TooLarge { .. })));
        assert!(shown[3].private.read().is_some(), "a small one beside it is shown");
        // whoever sends much takes no one's place
        let all: Vec<PeerSeen> = std::iter::once(of(620 * 1024)).chain((0..12).map(|_| of(50 * 1024))).collect();
        let shown = self::shown(all);
        assert!(shown[0].public.read().is_none());
        assert!(shown[1..].iter().all(|seen| seen.public.read().is_some()));
        // nor does a list of many
        let all: Vec<PeerSeen> = (0..2000).map(|_| of(2000)).collect();
        assert!(self::shown(all).iter().filter(|seen| seen.public.read().is_some()).count() > 50);
    }

    /// What is shown of these, which fits where it is published.
    fn shown(all: impl IntoIterator<Item = PeerSeen>) -> Vec<PeerSeen> {
        let shown = PeerSeen::within_limit(all);
        let published = serde_json::to_string_pretty(&json!({ "peersSeen": shown })).unwrap();
        assert!(published.len() <= MAX_PEERS_SEEN + 64, "{}", published.len());
        PeerSeen::list(&shown)
    }

    /// Two bytes of a peer are many where they are written with two spaces a level, and no one reads what is larger.
    #[test]
    fn what_grows_by_its_levels_is_counted_as_it_is_published() {
        let numbers = Value::from(vec![1; 100_000]);
        let deep = (0..100).fold(Value::from(vec![1; 20_000]), |inner, _| Value::Array(vec![inner]));
        let escaped = Value::from("\u{1}".repeat(150_000));
        for more in [numbers, deep, escaped] {
            let document = json!({ "clusterUUID": "a", "more": more });
            let hostile = PeerSeen {
                public: SeenDocument::of(document.to_string().as_bytes()).unwrap(),
                ..seen(SeenDocument::NotAsked)
            };
            let shown = shown([hostile, seen(SeenDocument::NotAsked)]);
            assert!(matches!(shown[0].private, SeenDocument::Failed(Failure::TooLarge { .. })));
            assert!(shown[1].public.read().is_some());
        }
    }

    /// What a relay says went wrong is bounded, and is of its own reading alone.
    #[test]
    fn a_failure_of_a_relay_is_its_own_and_short() {
        let state = |state: Value| {
            let mut value = seen(SeenDocument::NotAsked).to_value();
            value["state"]["private"] = state;
            PeerSeen::list(&[value]).remove(0).private
        };
        let unauthorized = json!({ "kind": "unauthorized", "url": "", "status": 401 });
        for other in [
            json!({ "kind": "through", "reader": "north", "failure": unauthorized }),
            json!({ "kind": "readingsDiffer", "url": "", "field": "rootCA", "readings": [] }),
            json!({ "kind": "fileMissing", "path": "keys/engine.key" }),
            json!({ "kind": "fileUnreadable", "path": "keys/engine.key", "problem": "x" }),
        ] {
            assert_eq!(state(other), SeenDocument::NotAsked);
        }
        let fields: Vec<String> = (0..1000).map(|at| format!("{at}{}", "x".repeat(1000))).collect();
        let SeenDocument::Failed(long) = state(json!({ "kind": "incomplete", "fields": fields })) else { panic!() };
        assert!(long.to_string().chars().count() < 4000, "{long}");
    }
}
