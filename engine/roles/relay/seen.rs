//! The metadata of peers, read with the cluster's own key for the engine, which has no such key.
//!
//! `routes.json` says whose: where, trusted by which CA, and for which UUID a token is made; without a UUID the public document
//! alone is read, since no one has accepted it yet. What is read is shown on the port for metrics, to the exporter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::iter;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::cluster::fetch::{FetchLimits, Fetcher, PeerClient};
use crate::cluster::metadata_token::metadata_token;
use crate::roles::relay::upkeep::RelayIdentity;
use crate::roles::role::{Stopping, now};
use crate::server::telemetry::{Page, PageSource};
use crate::types::address::{Cidr, Endpoint};
use crate::types::json::JsonError;
use crate::types::name::ClusterUuid;
use crate::types::token::Token;
use crate::wire::failure::Failure;
use crate::wire::metadata::{PRIVATE_PATH, PUBLIC_PATH, PublicDocument, Reading};
use crate::wire::routes::WantedMetadata;
use crate::wire::seen::{PEERS_SEEN_PATH, PeerSeen, SeenDocument};

/// Between two readings of all peers, but where they change.
const AGAIN: Duration = Duration::from_secs(30);
/// The same while a peer is not read.
const WHILE_FAILING: Duration = Duration::from_secs(10);
/// Peers that are read at a time.
const AT_ONCE: usize = 8;

/// Reads peers again and again, and shows what it read.
pub(super) struct PeerReader {
    fetcher: Fetcher,
    credential: watch::Receiver<Option<Arc<RelayIdentity>>>,
    wanted: RwLock<Vec<WantedMetadata>>,
    changed: Notify,
    seen: Mutex<BTreeMap<Endpoint, (PeerSeen, Instant)>>,
}

impl PeerReader {
    /// A reader in a cluster with these ranges, in which no peer is looked for.
    pub(super) fn new(credential: watch::Receiver<Option<Arc<RelayIdentity>>>, own: &[Cidr]) -> Self {
        Self {
            fetcher: Fetcher::new(FetchLimits::default()).keeping().within(own),
            credential,
            wanted: RwLock::default(),
            changed: Notify::new(),
            seen: Mutex::default(),
        }
    }

    /// Reads these from now on; what was read of others is forgotten.
    pub(super) fn read(&self, wanted: Vec<WantedMetadata>) {
        let mut current = self.wanted.write().unwrap_or_else(PoisonError::into_inner);
        if *current == wanted {
            return;
        }
        tracing::info!(peers = wanted.len(), "reads the metadata of peers");
        self.fetcher.keep_only(&wanted.iter().map(|one| one.endpoint.to_string()).collect());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|endpoint, _| wanted.iter().any(|one| one.endpoint == *endpoint && current.contains(one)));
        *current = wanted;
        self.changed.notify_one();
    }

    fn wanted(&self) -> Vec<WantedMetadata> {
        self.wanted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is shown to the exporter.
    pub(super) fn pages(self: &Arc<Self>) -> PageSource {
        let reader = self.clone();
        Arc::new(move |path| {
            let page = || Page { kind: "application/json", body: Bytes::from(reader.answer()), policy: None };
            (path == PEERS_SEEN_PATH).then(page)
        })
    }

    fn answer(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let aged = |(seen, at): &(PeerSeen, Instant)| PeerSeen { age: at.elapsed().as_secs(), ..seen.clone() };
        PeerSeen::to_answer(&seen.values().map(aged).collect::<Vec<_>>())
    }

    /// Reads until the process is to end.
    pub(super) async fn run(self: Arc<Self>, stopping: Stopping) {
        loop {
            let pause = tokio::select! {
                is_whole = self.read_all() => if is_whole { AGAIN } else { WHILE_FAILING },
                () = stopping.requested() => return,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.changed.notified() => {}
                () = stopping.requested() => return,
            }
        }
    }

    /// Reads every peer once; says whether all of them were read.
    async fn read_all(&self) -> bool {
        let wanted = self.wanted();
        // boxed one by one: a closure given to the stream itself would not be general enough in its lifetimes for `Send`
        let reading: Vec<_> = wanted.iter().map(|one| self.peer(one).boxed()).collect();
        let mut reading = iter(reading).buffer_unordered(AT_ONCE);
        let mut is_whole = true;
        while let Some(fresh) = reading.next().await {
            is_whole &= fresh.private.read().is_some();
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            // one that is no longer wanted, or wanted otherwise, was read for nothing
            if wanted.iter().any(|one| one.endpoint == fresh.endpoint) && wanted == self.wanted() {
                let endpoint = fresh.endpoint.clone();
                let before = seen.insert(endpoint.clone(), (fresh, Instant::now()));
                report(before.as_ref().map(|(before, _)| before), seen.get(&endpoint).map(|(fresh, _)| fresh));
            }
        }
        is_whole
    }

    async fn peer(&self, wanted: &WantedMetadata) -> PeerSeen {
        let WantedMetadata { endpoint, cluster_uuid, ca, allow } = wanted;
        let seen = |public, private| PeerSeen {
            endpoint: endpoint.clone(),
            cluster_uuid: cluster_uuid.clone(),
            public,
            private,
            age: 0,
        };
        let client = match self.fetcher.peer(endpoint, ca.as_deref(), allow) {
            Ok(client) => client,
            Err(failure) => return seen(SeenDocument::Failed(failure), SeenDocument::NotAsked),
        };
        let public = match client.get(PUBLIC_PATH, None).await {
            Ok(bytes) => bytes,
            Err(failure) => return seen(SeenDocument::Failed(failure), SeenDocument::NotAsked),
        };
        let is_named = |uuid: &&ClusterUuid| matches!(PublicDocument::parse(&public), Ok(Reading::Complete(document)) if document.cluster_uuid == **uuid);
        let private = match cluster_uuid.as_ref().filter(is_named).and_then(|uuid| self.token(uuid)) {
            Some(token) => read_private(&client, endpoint, &token).await,
            None => SeenDocument::NotAsked,
        };
        seen(document(endpoint, PUBLIC_PATH, &public), private)
    }

    /// A token of the cluster's own; none before there is a key.
    fn token(&self, audience: &ClusterUuid) -> Option<Token> {
        let credential = self.credential.borrow().clone()?;
        let key = &credential.authn.key;
        Some(metadata_token(key, audience, &credential.uuid, Some(&key.public().id()), now()))
    }
}

async fn read_private(client: &PeerClient, endpoint: &Endpoint, token: &Token) -> SeenDocument {
    match client.get(PRIVATE_PATH, Some(token)).await {
        Ok(bytes) => document(endpoint, PRIVATE_PATH, &bytes),
        Err(failure) => SeenDocument::Failed(failure),
    }
}

fn document(endpoint: &Endpoint, path: &str, bytes: &[u8]) -> SeenDocument {
    let malformed = |error: JsonError| Failure::Format { url: endpoint.url(path), problem: error.to_string() };
    SeenDocument::of(bytes).unwrap_or_else(|error| SeenDocument::Failed(malformed(error)))
}

/// Says when a peer begins or ends to be read.
fn report(before: Option<&PeerSeen>, fresh: Option<&PeerSeen>) {
    let Some(fresh) = fresh else { return };
    let failure = |seen: &PeerSeen| match (&seen.public, &seen.private) {
        (SeenDocument::Failed(failure), _) | (_, SeenDocument::Failed(failure)) => Some(failure.code()),
        _ => None,
    };
    if before.is_some_and(|before| failure(before) == failure(fresh)) {
        return;
    }
    let endpoint = &fresh.endpoint;
    match failure(fresh) {
        None => tracing::info!(%endpoint, "the metadata of the peer is read"),
        Some(reason) => tracing::warn!(%endpoint, reason = reason.as_str(), "the metadata of the peer is not read"),
    }
}
