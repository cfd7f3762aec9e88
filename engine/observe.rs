//! Observing: what each cluster publishes, read once in a turn.
//!
//! 1. The public documents of all clusters that take part, 64 at a time.
//! 2. Acceptance judges them: only for a cluster that is what it should be is a token minted.
//! 3. The private documents of those, 64 at a time.
//!
//! A failure is a value and belongs to its cluster alone. What was observed is stored with a plan and read back equal; it
//! holds no secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::failure::{Failure, TlsFault};
use crate::metadata::{PrivateDocument, PublicDocument, Reading};
use crate::name::ClusterName;

/// What was observed in a turn.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// By cluster; a cluster that nobody asked is not in it.
    pub clusters: BTreeMap<ClusterName, Observation>,
}

/// What was observed of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Its public document.
    #[serde(with = "public")]
    pub public: Result<PublicDocument, Failure>,
    /// Its private document.
    pub private: Private,
}

/// How reading a private document went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Private {
    /// Read.
    Read(PrivateDocument),
    /// Asked for, and not read.
    Failed(Failure),
    /// Not asked for, since no token could be signed; says where the key should be.
    NoKey(String),
    /// Not asked for, since its public document is not accepted.
    HeldBack,
    /// Not asked for, since its public document was not read.
    NotAsked,
}

/// A public document in a stored plan: its JSON text, or the failure.
mod public {
    use super::{Deserialize, Deserializer, Failure, PublicDocument, Serialize, Serializer, complete};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Stored {
        Read(String),
        Failed(Failure),
    }

    pub(super) fn serialize<S: Serializer>(
        public: &Result<PublicDocument, Failure>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let stored = match public {
            Ok(document) => Stored::Read(document.to_json()),
            Err(failure) => Stored::Failed(failure.clone()),
        };
        stored.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Result<PublicDocument, Failure>, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Read(text) => Ok(complete(PublicDocument::parse(text.as_bytes()))?),
            Stored::Failed(failure) => Err(failure),
        })
    }
}

fn complete<T, M: std::fmt::Display, E: serde::de::Error>(reading: Result<Reading<T>, M>) -> Result<T, E> {
    match reading {
        Ok(Reading::Complete(document)) => Ok(document),
        Ok(Reading::Incomplete(fields)) => Err(E::custom(format!("a stored document lacks {}", fields.join(", ")))),
        Err(error) => Err(E::custom(format!("a stored document is broken: {error}"))),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum StoredPrivate {
    Read(String),
    Failed(Failure),
    NoKey(String),
    HeldBack,
    NotAsked,
}

impl Serialize for Private {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = match self {
            Self::Read(document) => StoredPrivate::Read(document.to_json()),
            Self::Failed(failure) => StoredPrivate::Failed(failure.clone()),
            Self::NoKey(source) => StoredPrivate::NoKey(source.clone()),
            Self::HeldBack => StoredPrivate::HeldBack,
            Self::NotAsked => StoredPrivate::NotAsked,
        };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Private {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match StoredPrivate::deserialize(deserializer)? {
            StoredPrivate::Read(text) => Self::Read(complete(PrivateDocument::parse(text.as_bytes()))?),
            StoredPrivate::Failed(failure) => Self::Failed(failure),
            StoredPrivate::NoKey(source) => Self::NoKey(source),
            StoredPrivate::HeldBack => Self::HeldBack,
            StoredPrivate::NotAsked => Self::NotAsked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EAST: &str = include_str!("../fixtures/real/east/metadata/public/public.json");
    const EAST_PRIVATE: &str = include_str!("../fixtures/real/east/metadata/private/multicluster.json");

    #[test]
    fn what_was_observed_is_stored_and_read_back_equal() {
        let Reading::Complete(public) = PublicDocument::parse(EAST.as_bytes()).unwrap() else { panic!() };
        let Reading::Complete(mut private) = PrivateDocument::parse(EAST_PRIVATE.as_bytes()).unwrap() else { panic!() };
        private.evidence = Some(crate::metadata::Evidence::unknown("a reason"));
        let failure = Failure::NotFound { url: "https://m.example/private/multicluster.json".to_owned() };
        let ok = |private| Observation { public: Ok(public.clone()), private };
        let all = [
            ok(Private::Read(private)),
            ok(Private::Failed(failure.clone())),
            ok(Private::NoKey("keys/engine.key".to_owned())),
            ok(Private::HeldBack),
            Observation { public: Err(failure), private: Private::NotAsked },
        ];
        let clusters = all.into_iter().enumerate().map(|(at, one)| (format!("c{at}").parse().unwrap(), one));
        let observed = Observed { clusters: clusters.collect() };
        let text = serde_json::to_string(&observed).unwrap();
        assert_eq!(serde_json::from_str::<Observed>(&text).unwrap(), observed);
        assert!(serde_json::from_str::<Observed>(&text.replace("clusterUUID", "clusterUUIDs")).is_err());
    }
}
