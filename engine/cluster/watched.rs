//! Objects of the role's own cluster, watched. "There is none", "it cannot be looked up" and "not looked up yet" are three
//! different answers here, and none of them is ever an empty object.
//!
//! A watch is a LIST in pages and a WATCH from where that ended (Kubernetes API concepts, "Efficient detection of
//! changes"). An object is read as the part of it that its reader names, so that a cluster of thousands of objects costs
//! little. A watch that breaks keeps what it knew for [`GRACE`], and says at once that it is broken.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use http::StatusCode;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::unread::{ApiserverRequest, ReadError, Unread};

/// How long what was seen is held true while the apiserver cannot be asked.
pub const GRACE: Duration = Duration::from_mins(10);
/// One WATCH. Short, since a connection whose other end has vanished is noticed only when it is over.
const WATCH_SECONDS: u32 = 60;
/// What an answer may take beyond what was asked for.
const SLACK: Duration = Duration::from_secs(5);
/// A page of a LIST, to its last byte.
const PAGE_TIME: Duration = Duration::from_secs(30);
/// Objects of a page.
const PAGE: u32 = 200;
/// First and longest wait after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(10));

/// What is known of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState<T> {
    /// No one has answered yet.
    NotYet,
    Absent,
    Present(T),
    /// It cannot be looked up, for this reason.
    Failed(ReadError),
}

impl<T> SourceState<T> {
    /// The value where there is one.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::NotYet | Self::Absent | Self::Failed(_) => None,
        }
    }

    /// The value, or why there is none; `what` names it.
    pub fn required(&self, what: impl Into<Cow<'static, str>>) -> Result<&T, Unread> {
        match self {
            Self::Present(value) => Ok(value),
            Self::Absent => Err(Unread::Absent { what: what.into() }),
            Self::NotYet => Err(Unread::NotYet { what: what.into() }),
            Self::Failed(source) => Err(Unread::Failed { what: what.into(), source: source.clone() }),
        }
    }

    /// The value, `None` where there is none, or why that is not known.
    pub fn optional(&self, what: impl Into<Cow<'static, str>>) -> Result<Option<&T>, Unread> {
        match self {
            Self::Absent => Ok(None),
            Self::NotYet | Self::Present(_) | Self::Failed(_) => self.required(what).map(Some),
        }
    }
}

/// Where objects are, and which of them are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchScope {
    /// Path of the collection, such as `/api/v1/namespaces/istio-system/configmaps`.
    pub path: String,
    /// Field selector.
    pub fields: Option<String>,
    /// Label selector.
    pub labels: Option<String>,
    /// Whether objects are asked for without all but their metadata.
    pub metadata_alone: bool,
}

impl WatchScope {
    /// All objects of a collection.
    pub fn all(path: impl Into<String>) -> Self {
        Self { path: path.into(), fields: None, labels: None, metadata_alone: false }
    }

    /// The object of a name. The selector is what a right on that name alone covers.
    pub fn named(path: impl Into<String>, name: &str) -> Self {
        Self { fields: Some(format!("metadata.name={name}")), ..Self::all(path) }
    }

    /// Objects that a label selector selects.
    pub fn labelled(path: impl Into<String>, labels: &str) -> Self {
        Self { labels: Some(labels.to_owned()), ..Self::all(path) }
    }

    /// The request for at most [`PAGE`] objects: the first ones, or those that follow a page's token.
    pub(crate) fn page(&self, after: Option<String>) -> Result<http::Request<Vec<u8>>, ReadError> {
        let params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            continue_token: after,
            ..ListParams::default()
        };
        let request = Request::new(self.path.as_str());
        let listed = if self.metadata_alone { request.list_metadata(&params) } else { request.list(&params) };
        listed.map_err(|error| ReadError::Request(error.into()))
    }
}

/// Objects by namespace and name.
pub type Objects<T> = BTreeMap<(String, String), Arc<T>>;

/// What a watch has seen.
#[derive(Debug, Clone)]
pub struct WatchSnapshot<T> {
    objects: Option<Objects<T>>,
    problem: Option<(ReadError, Instant)>,
    /// When the apiserver last confirmed it.
    confirmed: Option<Instant>,
}

/// Objects under watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watched<T> {
    seen: watch::Receiver<WatchSnapshot<T>>,
    task: JoinHandle<()>,
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Watched<T> {
    /// All of them; [`SourceState::Absent`] is not among the answers.
    pub fn all(&self) -> SourceState<Objects<T>> {
        let seen = self.seen.borrow();
        match (&seen.objects, &seen.problem) {
            (Some(objects), Some((_, since))) if since.elapsed() < GRACE => SourceState::Present(objects.clone()),
            (_, Some((problem, _))) => SourceState::Failed(problem.clone()),
            (Some(objects), None) => SourceState::Present(objects.clone()),
            (None, None) => SourceState::NotYet,
        }
    }

    /// The one that was asked for by name.
    pub fn one(&self) -> SourceState<Arc<T>> {
        match self.all() {
            SourceState::Present(objects) => {
                objects.into_values().next().map_or(SourceState::Absent, SourceState::Present)
            }
            SourceState::Absent => SourceState::Absent,
            SourceState::NotYet => SourceState::NotYet,
            SourceState::Failed(reason) => SourceState::Failed(reason),
        }
    }

    /// What is wrong at this moment, also while what was seen still counts.
    pub fn problem(&self) -> Option<ReadError> {
        self.seen.borrow().problem.as_ref().map(|(problem, _)| problem.clone())
    }

    /// When the apiserver last confirmed it.
    pub fn confirmed(&self) -> Option<std::time::Instant> {
        self.seen.borrow().confirmed.map(Instant::into_std)
    }

    /// How long ago the apiserver confirmed it.
    pub fn age(&self) -> Option<Duration> {
        self.seen.borrow().confirmed.map(|at| at.elapsed())
    }
}

/// Metadata of an object, as far as anyone here wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Its namespace; empty where it has none.
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Who set what, and when.
    pub managed_fields: Vec<ManagedFields>,
    /// The objects that it goes with.
    pub owner_references: Vec<OwnerReference>,
    /// Rises with each change of its spec; 0 where it has none.
    pub generation: i64,
    /// When it was deleted, while finalizers keep it.
    pub deletion_timestamp: Option<String>,
    pub finalizers: Vec<String>,
}

/// An object that another one goes with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Its group and version.
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

/// What one writer set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ManagedFields {
    /// When it last changed something of it, RFC 3339.
    pub time: Option<String>,
    #[serde(rename = "fieldsV1")]
    #[serde(deserialize_with = "names")]
    pub fields_v1: BTreeSet<String>,
}

#[allow(clippy::zero_sized_map_values, reason = "the values are read past, not kept")]
fn names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let fields = BTreeMap::<String, serde::de::IgnoredAny>::deserialize(deserializer)?;
    Ok(fields.into_keys().collect())
}

/// An object as the apiserver sends it, in the part that is read.
pub trait Watchable: DeserializeOwned + Clone + Send + Sync + 'static {
    type Kept: PartialEq + Send + Sync + 'static;
    fn meta(&self) -> &Meta;
    /// What is kept of it; nothing, where it is of no interest.
    fn keep(self) -> Option<Self::Kept>;
}

#[derive(Deserialize)]
struct WireList<T> {
    metadata: WireListMeta,
    /// A server written in Go has null for an empty list.
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

/// Why a LIST or a WATCH ended.
enum WatchEnded {
    /// What was seen so far is too old to continue from.
    Gone,
    Failed(ReadError),
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the client's errors are not ours")]
impl From<kube::Error> for WatchEnded {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == StatusCode::GONE.as_u16() => Self::Gone,
            kube::Error::Api(status) => {
                let message = if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
                Self::Failed(ReadError::Status { code: status.code, message })
            }
            error => Self::Failed(error.into()),
        }
    }
}

/// Each object of a place once, page by page; nothing of it is held. Gives the version at which they stood.
pub async fn each<T: Watchable>(
    client: &Client,
    place: &WatchScope,
    mut apply: impl FnMut(T),
) -> Result<String, ReadError> {
    match pages(client, place, &mut apply).await {
        Ok(version) => Ok(version),
        Err(WatchEnded::Failed(error)) => Err(error),
        Err(WatchEnded::Gone) => Err(ReadError::ChangesTooFast),
    }
}

async fn pages<T: Watchable>(
    client: &Client,
    place: &WatchScope,
    apply: &mut impl FnMut(T),
) -> Result<String, WatchEnded> {
    let mut next: Option<String> = None;
    loop {
        let request = place.page(next.take()).map_err(WatchEnded::Failed)?;
        let page = timeout(PAGE_TIME, client.request::<WireList<T>>(request)).await;
        let page = page.map_err(|_| WatchEnded::Failed(ReadError::Late(ApiserverRequest::List)))??;
        page.items.into_iter().flatten().for_each(&mut *apply);
        match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(more) => next = Some(more),
            None => return Ok(page.metadata.resource_version),
        }
    }
}

/// Watches a place from now on, until what is returned is dropped.
/// `changed` is notified after each change.
pub fn watch_place<T: Watchable>(client: &Client, place: WatchScope, changed: &Arc<Notify>) -> Watched<T::Kept> {
    let (sender, seen) = watch::channel(WatchSnapshot { objects: None, problem: None, confirmed: None });
    let task =
        tokio::spawn(watch_objects::<T>(client.clone(), place, Subscribers { sender, changed: changed.clone() }));
    Watched { seen, task }
}

/// Watches one ConfigMap for its data.
pub fn watch_config_map(client: &Client, namespace: &str, name: &str, changed: &Arc<Notify>) -> Watched<ConfigMapData> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    watch_place::<WireConfigMap>(client, WatchScope::named(path, name), changed)
}

/// Data of a ConfigMap.
pub type ConfigMapData = BTreeMap<String, String>;

#[derive(Clone, Deserialize)]
struct WireConfigMap {
    metadata: Meta,
    #[serde(default)]
    data: Option<ConfigMapData>,
}

impl Watchable for WireConfigMap {
    type Kept = ConfigMapData;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self) -> Option<ConfigMapData> {
        Some(self.data.unwrap_or_default())
    }
}

/// Who hears of changes.
struct Subscribers<T> {
    sender: watch::Sender<WatchSnapshot<T>>,
    changed: Arc<Notify>,
}

impl<T> Subscribers<T> {
    /// Changes what was seen; the closure says whether anyone should hear of it.
    fn change(&self, change: impl FnOnce(&mut WatchSnapshot<T>) -> bool) {
        if self.sender.send_if_modified(change) {
            self.changed.notify_one();
        }
    }
}

async fn watch_objects<T: Watchable>(client: Client, place: WatchScope, subscribers: Subscribers<T::Kept>) {
    let mut wait = BACK_OFF.0;
    let mut version: Option<String> = None;
    loop {
        let ended = match &mut version {
            Some(version) => watch_on::<T>(&client, &place, version, &subscribers, &mut wait).await,
            None => list::<T>(&client, &place, &subscribers).await.map(|listed| {
                wait = BACK_OFF.0;
                version = Some(listed);
            }),
        };
        match ended {
            Ok(()) => continue,
            // from the start, at once: what is known stays known until then
            Err(WatchEnded::Gone) => version = None,
            Err(WatchEnded::Failed(problem)) => {
                if problem.is_refusal() {
                    version = None;
                }
                tracing::debug!(path = place.path, fields = place.fields, reason = problem.to_string(), "watch broke");
                subscribers.change(|seen| {
                    let since = seen.problem.as_ref().map_or_else(Instant::now, |(_, since)| *since);
                    let differs = seen.problem.as_ref().is_none_or(|(old, _)| *old != problem);
                    seen.problem = Some((problem, since));
                    differs
                });
            }
        }
        // a little apart, so that the watches of a role do not come back all at once
        sleep(wait.mul_f64(0.75 + 0.5 * spread(&place))).await;
        wait = (wait * 2).min(BACK_OFF.1);
    }
}

/// A number from 0 to 1 of the place's own.
fn spread(place: &WatchScope) -> f64 {
    let text = format!("{place:?}");
    f64::from(text.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte))) / 255.0
}

async fn list<T: Watchable>(
    client: &Client,
    place: &WatchScope,
    subscribers: &Subscribers<T::Kept>,
) -> Result<String, WatchEnded> {
    let mut objects = Objects::new();
    let mut put = |object: T| {
        let key = key(&object);
        if let Some(kept) = object.keep() {
            objects.insert(key, Arc::new(kept));
        }
    };
    let version = pages(client, place, &mut put).await?;
    subscribers.change(|seen| {
        let changed = seen.objects.as_ref() != Some(&objects) || seen.problem.is_some();
        seen.objects = Some(objects);
        seen.problem = None;
        seen.confirmed = Some(Instant::now());
        changed
    });
    Ok(version)
}

fn key<T: Watchable>(object: &T) -> (String, String) {
    let meta = object.meta();
    (meta.namespace.clone(), meta.name.clone())
}

/// One WATCH, to its end. `version` and `wait` follow what is seen.
async fn watch_on<T: Watchable>(
    client: &Client,
    place: &WatchScope,
    version: &mut String,
    subscribers: &Subscribers<T::Kept>,
    wait: &mut Duration,
) -> Result<(), WatchEnded> {
    let params = WatchParams {
        label_selector: place.labels.clone(),
        field_selector: place.fields.clone(),
        timeout: Some(WATCH_SECONDS),
        bookmarks: true,
        send_initial_events: false,
    };
    let request = Request::new(place.path.as_str());
    let watched =
        if place.metadata_alone { request.watch_metadata(&params, version) } else { request.watch(&params, version) };
    let request = watched.map_err(|error| WatchEnded::Failed(ReadError::Request(error.into())))?;
    let stream = timeout(SLACK * 2, client.request_events::<T>(request))
        .await
        .map_err(|_| WatchEnded::Failed(ReadError::Late(ApiserverRequest::WatchBegin)))??;
    let mut stream = std::pin::pin!(stream);
    *wait = BACK_OFF.0;
    let confirm = |seen: &mut WatchSnapshot<T::Kept>| {
        seen.confirmed = Some(Instant::now());
        seen.problem.take().is_some()
    };
    subscribers.change(confirm);
    let until = Instant::now() + Duration::from_secs(WATCH_SECONDS.into()) + SLACK;
    loop {
        let event = tokio::time::timeout_at(until, stream.try_next()).await;
        let event = event.map_err(|_| WatchEnded::Failed(ReadError::Late(ApiserverRequest::WatchEnd)))??;
        let (object, deleted) = match event {
            None => return Ok(()),
            Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, false),
            Some(WatchEvent::Deleted(object)) => (object, true),
            Some(WatchEvent::Bookmark(bookmark)) => {
                *version = bookmark.metadata.resource_version;
                subscribers.change(confirm);
                continue;
            }
            Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status).into()),
        };
        version.clone_from(&object.meta().resource_version);
        let key = key(&object);
        let kept = if deleted { None } else { object.keep() };
        subscribers.change(|seen| {
            let objects = seen.objects.get_or_insert_default();
            let changed = match kept {
                None => objects.remove(&key).is_some(),
                Some(kept) => {
                    let differs = objects.get(&key).is_none_or(|old| **old != kept);
                    if differs {
                        objects.insert(key, Arc::new(kept));
                    }
                    differs
                }
            };
            confirm(seen) || changed
        });
    }
}
