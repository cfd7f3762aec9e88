//! Asking one cluster: reads, a bounded number of bytes, for a bounded time.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::cluster::unread::ReadError;
use crate::cluster::watched::{Objects, WatchScope, Watchable};
use crate::types::text::shown_text;

/// One answer, to its last byte. Credential plugins that ask a cloud are part of the first one.
const ANSWER: Duration = Duration::from_secs(15);
/// Largest answer: a page of 200 ConfigMaps at their limit would not fit, and none is asked for.
const MOST: usize = 16 * 1024 * 1024;
/// All answers of one cluster.
const MOST_OF_ALL: usize = 64 * 1024 * 1024;

/// Questions to one cluster.
pub(super) struct Asking {
    client: Client,
    /// Bytes that it may still answer.
    left: AtomicUsize,
}

#[derive(Deserialize)]
struct PartialList<T> {
    #[serde(default)]
    metadata: PartialListMeta,
    /// A server written in Go has null for an empty list.
    items: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
struct PartialListMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

impl Asking {
    /// Nothing was asked yet.
    pub(super) fn new(client: Client) -> Self {
        Self { client, left: AtomicUsize::new(MOST_OF_ALL) }
    }

    /// All objects of a place.
    pub(super) async fn list<T: DeserializeOwned>(&self, place: &WatchScope) -> Result<Vec<T>, ReadError> {
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            let page = timeout(ANSWER, self.page::<T>(place.page(next.take())?)).await;
            let page = page.map_err(|_| ReadError::NoAnswer(ANSWER))??;
            all.extend(page.items.into_iter().flatten());
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(more) => next = Some(more),
                None => return Ok(all),
            }
        }
    }

    async fn page<T: DeserializeOwned>(&self, request: http::Request<Vec<u8>>) -> Result<PartialList<T>, ReadError> {
        let response = self.client.send(request.map(Body::from)).await.map_err(ReadError::from)?;
        let status = response.status();
        let most = MOST.min(self.left.load(Ordering::Relaxed));
        let body = Limited::new(response.into_body(), most).collect().await;
        // the body breaks off with the client's error, or else at the limit
        let ended = |error: Box<dyn Error + Send + Sync>| {
            error.downcast::<kube::Error>().map_or(ReadError::TooLong, |error| ReadError::BrokenOff((*error).into()))
        };
        let body = body.map_err(ended)?.to_bytes();
        self.left.fetch_sub(body.len().min(most), Ordering::Relaxed);
        if !status.is_success() {
            let message = serde_json::from_slice::<Status>(&body).map(|status| shown_text(&status.message));
            return Err(ReadError::Status { code: status.as_u16(), message: message.unwrap_or_default() });
        }
        // the text of an error may quote what was read
        serde_json::from_slice(&body).map_err(|error| ReadError::NoList { line: error.line() })
    }

    /// Objects by namespace and name.
    pub(super) async fn objects<T: Watchable>(&self, place: &WatchScope) -> Result<Objects<T::Kept>, ReadError> {
        let mut objects = Objects::new();
        for object in self.list::<T>(place).await? {
            let key = (object.meta().namespace.clone(), object.meta().name.clone());
            if let Some(kept) = object.keep() {
                objects.insert(key, Arc::new(kept));
            }
        }
        Ok(objects)
    }

    /// The object of a name, if there is one.
    pub(super) async fn one<T: Watchable>(
        &self,
        collection: &str,
        name: &str,
    ) -> Result<Option<Arc<T::Kept>>, ReadError> {
        Ok(self.objects::<T>(&WatchScope::named(collection, name)).await?.into_values().next())
    }
}
