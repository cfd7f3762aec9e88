//! Asking one cluster: reads, a bounded number of bytes, for a bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::cluster::watched::{Objects, Place, Watchable};
use crate::types::cause::in_full;
use crate::types::text::cut;

/// One answer, to its last byte. Credential plugins that ask a cloud are part of the first one.
const ANSWER: Duration = Duration::from_secs(15);
/// Largest answer: a page of 200 ConfigMaps at their limit would not fit, and none is asked for.
const MOST: usize = 16 * 1024 * 1024;
/// All answers of one cluster.
const MOST_OF_ALL: usize = 64 * 1024 * 1024;
/// Longest words of an apiserver that are repeated.
const WORDS: usize = 240;

/// Questions to one cluster.
pub(super) struct Asking {
    client: Client,
    /// Bytes that it may still answer.
    left: AtomicUsize,
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize, Default)]
struct ListMeta {
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

    /// All objects of a place, or in words why not.
    pub(super) async fn list<T: DeserializeOwned>(&self, place: &Place) -> Result<Vec<T>, String> {
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            let page = timeout(ANSWER, self.page::<T>(place.page(next.take())?)).await;
            let page = page.map_err(|_| format!("no answer in {} seconds", ANSWER.as_secs()))??;
            all.extend(page.items);
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(more) => next = Some(more),
                None => return Ok(all),
            }
        }
    }

    async fn page<T: DeserializeOwned>(&self, request: http::Request<Vec<u8>>) -> Result<List<T>, String> {
        let response = self.client.send(request.map(Body::from)).await.map_err(|error| of_client(&error))?;
        let status = response.status();
        let most = MOST.min(self.left.load(Ordering::Relaxed));
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map_err(|error| short(&format!("its answer breaks off or is too long: {error}")))?.to_bytes();
        self.left.fetch_sub(body.len().min(most), Ordering::Relaxed);
        if !status.is_success() {
            let said = serde_json::from_slice::<Status>(&body).map(|status| status.message).unwrap_or_default();
            return Err(short(format!("{} {said}", status.as_u16()).trim_end()));
        }
        // the text of an error may quote what was read
        serde_json::from_slice(&body).map_err(|error| format!("its answer is no list (line {})", error.line()))
    }

    /// Objects by namespace and name.
    pub(super) async fn objects<T: Watchable>(&self, place: &Place) -> Result<Objects<T::Kept>, String> {
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
    pub(super) async fn one<T: Watchable>(&self, collection: &str, name: &str) -> Result<Option<Arc<T::Kept>>, String> {
        Ok(self.objects::<T>(&Place::named(collection, name)).await?.into_values().next())
    }
}

/// An error with its causes, cut short.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    short(&in_full(error))
}

/// What a credential plugin printed is part of its error, and may be a token: it is not repeated.
pub(super) fn of_client(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(_) => {
            "the credentials of its kubeconfig cannot be had; try `kubectl get namespaces` with this context".to_owned()
        }
        error => causes(error),
    }
}

/// A text of an apiserver, cut short and without control characters.
pub(super) fn short(text: &str) -> String {
    cut(&text.replace(char::is_control, " "), WORDS).into_owned()
}
