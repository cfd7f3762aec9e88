//! Observing: what each cluster publishes, read once in a run.
//!
//! 1. The public documents of all clusters that take part, 64 at a time.
//! 2. Acceptance judges them, outside: only for a cluster that is what it should be is a token minted.
//! 3. The private documents of those, 64 at a time.
//!
//! A failure is a value and belongs to its cluster alone. What was observed is stored with a plan and read back equal; it
//! holds no secret.

pub mod signer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::checkout::CheckoutError;
use crate::cluster::fetch::{Fetcher, PeerClient};
use crate::model::keyring::KeyProblem;
use crate::model::mesh::{Cluster, Mesh};
use crate::model::read_by::ReadBy;
use crate::pipeline::observe::signer::Signer;
use crate::types::address::Endpoint;
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;
use crate::types::token::Token;
pub use crate::wire::failure::{Failure, TlsFault};
use crate::wire::metadata::{
    Evidence, MetadataError, PRIVATE_PATH, PUBLIC_PATH, PrivateDocument, PublicDocument, Reading, StatedByReader,
};

/// How long evidence may open or close a link after it was received.
pub const EVIDENCE_HOLDS: Duration = Duration::from_mins(10);

/// What was observed in a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// By cluster; a cluster that no one asked is not in it.
    pub clusters: BTreeMap<ClusterName, Observation>,
    /// How many seconds a cluster's clock is ahead of ours, or behind it where that is negative; those that differ by less than
    /// [`CLOCKS_AGREE`], or that said no time, are not in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clocks: BTreeMap<ClusterName, i64>,
}

/// Clocks that differ by less are taken for one.
pub const CLOCKS_AGREE: Duration = Duration::from_mins(5);

impl Observed {
    /// The earlier and the later of what our clock and that of a cluster say.
    pub(crate) fn clocks_of(&self, cluster: &ClusterName, now: Timestamp) -> (Timestamp, Timestamp) {
        let offset = self.clocks.get(cluster).copied().unwrap_or_default();
        let theirs = Timestamp::from_seconds(now.as_seconds().saturating_add(offset));
        (now.min(theirs), now.max(theirs).min(Timestamp::NO_END))
    }

    /// What it is worth when it is used: evidence that was received too long ago is unknown.
    #[must_use]
    pub(crate) fn at(mut self, received: Timestamp, now: Timestamp) -> Self {
        if now <= received + EVIDENCE_HOLDS {
            return self;
        }
        for observation in self.clusters.values_mut() {
            if let PrivateReading::Read(PrivateDocument { evidence: Some(evidence), .. }) = &mut observation.private {
                *evidence = Evidence::unknown("it was received more than 10 minutes ago, and is asked for again");
            }
        }
        self
    }
}

/// What was observed of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    #[serde(with = "public")]
    pub public: Result<PublicDocument, Failure>,
    pub private: PrivateReading,
    #[serde(default, skip_serializing_if = "ReadBy::is_own")]
    pub read_by: ReadBy,
}

impl Observation {
    /// What the engine itself read.
    pub fn own(public: Result<PublicDocument, Failure>, private: PrivateReading) -> Self {
        Self { public, private, read_by: ReadBy::default() }
    }
}

/// How reading a private document went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one a cluster, and most are `Read`")]
pub enum PrivateReading {
    Read(PrivateDocument),
    /// Asked for, and not read.
    Failed(Failure),
    /// Not asked for, since no token could be signed.
    NoKey(KeyProblem),
    /// Not asked for, since its public document is not accepted.
    HeldBack,
    /// Not asked for, since its public document was not read.
    NotAsked,
}

/// Public documents, or why they were not read, by cluster.
pub type Publics = BTreeMap<ClusterName, Result<PublicDocument, Failure>>;
/// Reads a file of the checkout by its path; `None`: it is not there.
pub type ReadFile<'a> = &'a (dyn Fn(&str) -> Result<Option<Vec<u8>>, CheckoutError> + Sync);
/// One document done, for whoever shows progress.
#[derive(Debug, Clone, Copy)]
pub struct DocumentDone<'a> {
    pub cluster: &'a ClusterName,
    /// [`PUBLIC_PATH`] or [`PRIVATE_PATH`].
    pub document: &'static str,
    /// Why it was not read.
    pub failure: Option<&'a Failure>,
}

/// Whom to ask, by what, and what is known.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub whom: &'a BTreeSet<ClusterName>,
    /// What was observed before, of them and of all others: it holds for documents that did not change, and for all others.
    pub before: &'a Observed,
    pub fetcher: &'a Fetcher,
    /// Reads folders of the checkout.
    pub files: ReadFile<'a>,
    /// Sees each document that is done.
    pub progress: &'a (dyn Fn(DocumentDone<'_>) + Sync),
}

/// Everybody that takes part in a mesh: all clusters but those that are paused.
pub fn everybody(mesh: &Mesh) -> BTreeSet<ClusterName> {
    let clusters = mesh.clusters.values().filter(|cluster| cluster.state.is_asked());
    clusters.map(|cluster| cluster.name.clone()).collect()
}

/// Public documents that were read, and what leads to the private ones.
pub struct PublicObserved<'a> {
    ask: Ask<'a>,
    sources: Vec<(&'a Cluster, Option<DocumentSource>)>,
    documents: Publics,
    others: BTreeMap<ClusterName, Observation>,
}

/// Reads the public documents. Never fails as a whole.
pub async fn publics<'a>(mesh: &'a Mesh, ask: Ask<'a>) -> PublicObserved<'a> {
    let at_once = ask.fetcher.limits().at_once.max(1);
    // boxed one by one: a closure given to the stream itself would not be general enough in its lifetimes for `Send`
    let clusters = ask.whom.iter().filter_map(|name| mesh.clusters.get(name));
    let publics: Vec<_> = clusters.map(|cluster| ask.public(cluster).boxed()).collect();
    let publics: Vec<_> = stream::iter(publics).buffer_unordered(at_once).collect().await;
    let known = ask.before.clusters.iter();
    let others = known.filter(|(name, _)| mesh.clusters.contains_key(*name) && !ask.whom.contains(*name));
    let others: BTreeMap<_, _> = others.map(|(name, one)| (name.clone(), one.clone())).collect();
    let mut documents: Publics = others.iter().map(|(name, one)| (name.clone(), one.public.clone())).collect();
    let mut sources = Vec::new();
    for (cluster, source, document) in publics {
        sources.push((cluster, source));
        documents.insert(cluster.name.clone(), document);
    }
    PublicObserved { ask, sources, documents, others }
}

impl PublicObserved<'_> {
    /// The public documents of all clusters, those that were not asked again among them.
    pub fn publics(&self) -> &Publics {
        &self.documents
    }

    /// The same as if nothing but public documents were known.
    pub fn observed(&self) -> Observed {
        let observation = |public: &Result<_, _>| Observation::own(public.clone(), PrivateReading::NotAsked);
        let clusters = self.documents.iter().map(|(name, public)| (name.clone(), observation(public)));
        Observed { clusters: clusters.collect(), ..Observed::default() }
    }

    /// Clocks of clusters that differ from ours, as in [`Observed::clocks`]. `now` is when the documents had been read.
    pub fn clocks(&self, now: Timestamp) -> BTreeMap<ClusterName, i64> {
        let offset = |(cluster, source): &(&Cluster, Option<DocumentSource>)| {
            let Some(DocumentSource::Peer(peer)) = source else { return None };
            let offset = peer.date()?.as_seconds() - now.as_seconds();
            (offset.unsigned_abs() >= CLOCKS_AGREE.as_secs()).then(|| (cluster.name.clone(), offset))
        };
        self.sources.iter().filter_map(offset).collect()
    }

    /// Reads the private documents of those that are admitted. Never fails as a whole.
    pub async fn privates(self, admitted: &BTreeSet<ClusterName>, signer: &(dyn Signer + Sync)) -> Observed {
        let Self { ask, sources, documents, others: mut observed } = self;
        let at_once = ask.fetcher.limits().at_once.max(1);
        let privates = sources.into_iter().map(|(cluster, source)| {
            let document = documents.get(&cluster.name).and_then(|document| document.as_ref().ok());
            ask.private(cluster, source, document, admitted.contains(&cluster.name).then_some(signer)).boxed()
        });
        let privates: Vec<_> = privates.collect();
        let mut privates: BTreeMap<_, _> = stream::iter(privates).buffer_unordered(at_once).collect().await;
        let asked = documents.into_iter().filter(|(name, _)| ask.whom.contains(name));
        observed.extend(asked.map(|(name, public)| {
            let private = privates.remove(&name).unwrap_or(PrivateReading::NotAsked);
            (name, Observation::own(public, private))
        }));
        Observed { clusters: observed, ..Observed::default() }
    }
}

/// Where a cluster's documents come from.
enum DocumentSource {
    Peer(PeerClient),
    Folder(String),
}

impl Ask<'_> {
    /// One client for both documents, so that both come over one connection.
    fn source(&self, cluster: &Cluster) -> Result<DocumentSource, Failure> {
        match &cluster.endpoint {
            Endpoint::File(folder) => Ok(DocumentSource::Folder(folder.clone())),
            endpoint @ Endpoint::Https { .. } => {
                let ca = cluster.endpoint_ca.as_deref();
                self.fetcher.peer(endpoint, ca, &cluster.allow.addresses).map(DocumentSource::Peer)
            }
        }
    }

    async fn public<'c>(
        &self,
        cluster: &'c Cluster,
    ) -> (&'c Cluster, Option<DocumentSource>, Result<PublicDocument, Failure>) {
        let url = cluster.endpoint.url(PUBLIC_PATH);
        let parsed = |bytes: Vec<u8>| whole(&url, PublicDocument::parse(&bytes));
        let (source, document) = match self.source(cluster) {
            Ok(DocumentSource::Peer(peer)) => {
                let known = self.before(cluster).filter(|before| before.read_by.public.is_none());
                let known = known.and_then(|before| before.public.as_ref().ok());
                let document = read(&peer, PUBLIC_PATH, None, known, &parsed).await;
                (Some(DocumentSource::Peer(peer)), document)
            }
            Ok(DocumentSource::Folder(folder)) => {
                let document = self.file(&folder, PUBLIC_PATH).and_then(parsed);
                (Some(DocumentSource::Folder(folder)), document)
            }
            Err(failure) => (None, Err(failure)),
        };
        self.report(cluster, PUBLIC_PATH, document.as_ref().err());
        (cluster, source, document)
    }

    async fn private(
        &self,
        cluster: &Cluster,
        source: Option<DocumentSource>,
        public: Option<&PublicDocument>,
        signer: Option<&(dyn Signer + Sync)>,
    ) -> (ClusterName, PrivateReading) {
        let private = match (source, public, signer) {
            (None, _, _) | (_, None, _) => PrivateReading::NotAsked,
            (_, _, None) => PrivateReading::HeldBack,
            (Some(DocumentSource::Folder(folder)), _, _) => {
                let url = cluster.endpoint.url(PRIVATE_PATH);
                let bytes = self.file(&folder, PRIVATE_PATH);
                match bytes.and_then(|bytes| whole(&url, PrivateDocument::parse_beside(&bytes, stated(cluster)))) {
                    // a file says nothing of what is live now
                    Ok(document) => PrivateReading::Read(PrivateDocument { evidence: None, ..document }),
                    Err(failure) => PrivateReading::Failed(failure),
                }
            }
            (Some(DocumentSource::Peer(peer)), Some(public), Some(signer)) => match signer
                .token(cluster, &public.cluster_uuid)
            {
                Err(problem) => PrivateReading::NoKey(problem),
                Ok(token) => {
                    let url = cluster.endpoint.url(PRIVATE_PATH);
                    let parsed = |bytes: Vec<u8>| whole(&url, PrivateDocument::parse_beside(&bytes, stated(cluster)));
                    let known = self.before(cluster).filter(|before| before.read_by.private.is_none());
                    let known = match known.map(|before| &before.private) {
                        Some(PrivateReading::Read(document)) => Some(document),
                        _ => None,
                    };
                    match read(&peer, PRIVATE_PATH, Some(&token), known, &parsed).await {
                        Ok(document) => PrivateReading::Read(document),
                        Err(failure) => PrivateReading::Failed(failure),
                    }
                }
            },
        };
        let failure = if let PrivateReading::Failed(failure) = &private { Some(failure) } else { None };
        if failure.is_some() || matches!(private, PrivateReading::Read(_)) {
            self.report(cluster, PRIVATE_PATH, failure);
        }
        (cluster.name.clone(), private)
    }

    fn before(&self, cluster: &Cluster) -> Option<&Observation> {
        self.before.clusters.get(&cluster.name)
    }

    fn file(&self, folder: &str, document: &str) -> Result<Vec<u8>, Failure> {
        let path = format!("{folder}/{document}");
        let limit = self.fetcher.limits().body;
        match (self.files)(&path) {
            Ok(Some(bytes)) if bytes.len() > limit => Err(Failure::TooLarge { url: path, limit }),
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Failure::FileMissing { path }),
            Err(error) => Err(Failure::FileUnreadable { path, problem: error.to_string() }),
        }
    }

    fn report(&self, cluster: &Cluster, document: &'static str, failure: Option<&Failure>) {
        (self.progress)(DocumentDone { cluster: &cluster.name, document, failure });
    }
}

/// Reads a document; the one that is known when the peer says that it is still that one.
async fn read<T: Clone>(
    peer: &PeerClient,
    path: &'static str,
    token: Option<&Token>,
    known: Option<&T>,
    parsed: &(dyn Fn(Vec<u8>) -> Result<T, Failure> + Sync),
) -> Result<T, Failure> {
    let Some(known) = known else {
        peer.forget(path);
        let bytes = peer.get_if_changed(path, token).await?;
        return parsed(bytes.unwrap_or_default());
    };
    match peer.get_if_changed(path, token).await? {
        None => Ok(known.clone()),
        Some(bytes) => parsed(bytes),
    }
}

/// What the spec states of a cluster, which its document may lack.
pub(super) fn stated(cluster: &Cluster) -> StatedByReader<'_> {
    let (gateways, network) = (cluster.stated_gateways(), cluster.network.as_ref());
    StatedByReader { gateways, api_host: cluster.api.host.as_ref(), network }
}

pub(super) fn whole<T>(url: &str, reading: Result<Reading<T>, MetadataError>) -> Result<T, Failure> {
    match reading {
        Ok(Reading::Complete(document)) => Ok(document),
        Ok(Reading::Incomplete(fields)) => {
            Err(Failure::Incomplete { fields: fields.into_iter().map(str::to_owned).collect() })
        }
        Err(error) => Err(Failure::Format { url: url.to_owned(), problem: error.to_string() }),
    }
}

/// A public document in a stored plan: its JSON text, or the failure.
mod public {
    use super::{Deserialize, Deserializer, Failure, PublicDocument, Serialize, Serializer, complete};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum StoredPublic {
        Read(String),
        Failed(Failure),
    }

    pub(super) fn serialize<S: Serializer>(
        public: &Result<PublicDocument, Failure>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let stored = match public {
            Ok(document) => StoredPublic::Read(document.to_json()),
            Err(failure) => StoredPublic::Failed(failure.clone()),
        };
        stored.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Result<PublicDocument, Failure>, D::Error> {
        Ok(match StoredPublic::deserialize(deserializer)? {
            StoredPublic::Read(text) => Ok(complete(PublicDocument::parse(text.as_bytes()))?),
            StoredPublic::Failed(failure) => Err(failure),
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
    NoKey(KeyProblem),
    HeldBack,
    NotAsked,
}

impl Serialize for PrivateReading {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = match self {
            Self::Read(document) => StoredPrivate::Read(document.to_json()),
            Self::Failed(failure) => StoredPrivate::Failed(failure.clone()),
            Self::NoKey(problem) => StoredPrivate::NoKey(problem.clone()),
            Self::HeldBack => StoredPrivate::HeldBack,
            Self::NotAsked => StoredPrivate::NotAsked,
        };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PrivateReading {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match StoredPrivate::deserialize(deserializer)? {
            StoredPrivate::Read(text) => Self::Read(complete(PrivateDocument::parse(text.as_bytes()))?),
            StoredPrivate::Failed(failure) => Self::Failed(failure),
            StoredPrivate::NoKey(problem) => Self::NoKey(problem),
            StoredPrivate::HeldBack => Self::HeldBack,
            StoredPrivate::NotAsked => Self::NotAsked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::metadata::Reported;

    const EAST: &str = include_str!("../../../fixtures/real/east/metadata/public/public.json");
    const EAST_PRIVATE: &str = include_str!("../../../fixtures/real/east/metadata/private/multicluster.json");

    /// What opens or closes a link was received at most ten minutes before.
    #[test]
    fn evidence_is_unknown_ten_minutes_after_it_was_received() {
        let Reading::Complete(public) = PublicDocument::parse(EAST.as_bytes()).unwrap() else { panic!() };
        let Reading::Complete(mut private) = PrivateDocument::parse(EAST_PRIVATE.as_bytes()).unwrap() else { panic!() };
        let mut evidence = Evidence::unknown("a reason");
        evidence.prepared = Reported::Seen(true);
        private.evidence = Some(evidence);
        let observation = Observation::own(Ok(public), PrivateReading::Read(private));
        let clusters = BTreeMap::from([("east".parse().unwrap(), observation)]);
        let observed = Observed { clusters, ..Observed::default() };
        let received = Timestamp::from_seconds(1_800_000_000);
        let after = |seconds| observed.clone().at(received, received + Duration::from_secs(seconds));
        assert_eq!(after(600), observed);
        let late = after(601);
        let PrivateReading::Read(document) = late.clusters.values().next().map(|one| &one.private).unwrap() else {
            panic!()
        };
        let Some(Reported::Unknown(reason)) = document.evidence.as_ref().map(|evidence| &evidence.prepared) else {
            panic!()
        };
        assert!(reason.contains("more than 10 minutes ago"), "{reason}");
    }

    #[test]
    fn what_was_observed_is_stored_and_read_back_equal() {
        let Reading::Complete(public) = PublicDocument::parse(EAST.as_bytes()).unwrap() else { panic!() };
        let Reading::Complete(mut private) = PrivateDocument::parse(EAST_PRIVATE.as_bytes()).unwrap() else { panic!() };
        private.evidence = Some(crate::wire::metadata::Evidence::unknown("a reason"));
        let failure = Failure::NotFound { url: "https://m.example/private/multicluster.json".to_owned() };
        let ok = |private| Observation::own(Ok(public.clone()), private);
        let all = [
            ok(PrivateReading::Read(private)),
            ok(PrivateReading::Failed(failure.clone())),
            ok(PrivateReading::NoKey(KeyProblem::NoEngineKey)),
            ok(PrivateReading::NoKey(KeyProblem::Missing { source: "$KEY".to_owned() })),
            ok(PrivateReading::HeldBack),
            Observation::own(Err(failure), PrivateReading::NotAsked),
            Observation {
                read_by: ReadBy { public: "west".parse().ok(), private: None },
                ..ok(PrivateReading::HeldBack)
            },
        ];
        let clusters = all.into_iter().enumerate().map(|(at, one)| (format!("c{at}").parse().unwrap(), one));
        let clocks = BTreeMap::from([("c0".parse().unwrap(), -7200)]);
        let observed = Observed { clusters: clusters.collect(), clocks };
        let text = serde_json::to_string(&observed).unwrap();
        assert_eq!(serde_json::from_str::<Observed>(&text).unwrap(), observed);
        assert!(serde_json::from_str::<Observed>(&text.replace("clusterUUID", "clusterUUIDs")).is_err());
    }
}
