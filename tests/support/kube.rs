//! An apiserver over plain HTTP with objects of any kind: LIST in pages, WATCH, selectors, refusals, and being away.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use isthmus::cluster::access::Access;
use isthmus::server::{Body, BodyError, whole};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Ends what is kept of a request for metadata alone.
pub(crate) const METADATA_ALONE: &str = " (metadata alone)";

type ObjectKey = (String, String, String);

#[derive(Default)]
struct KubeStore {
    objects: BTreeMap<ObjectKey, Value>,
    /// Every change; the resource version is how many there were.
    changes: Vec<(&'static str, ObjectKey, Value)>,
    refused: BTreeSet<String>,
    /// Requests whose path and query hold this are answered this much later.
    late: Vec<(String, Duration)>,
    bookmarks: Option<Duration>,
    oldest: usize,
    asked: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Kube {
    pub(crate) address: SocketAddr,
    store: Arc<Mutex<KubeStore>>,
    version: Arc<watch::Sender<usize>>,
    up: Arc<watch::Sender<bool>>,
}

impl Kube {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let kube = Self {
            address: listener.local_addr().unwrap(),
            store: Arc::default(),
            version: Arc::new(watch::Sender::new(0)),
            up: Arc::new(watch::Sender::new(true)),
        };
        tokio::spawn(kube.clone().accept(listener));
        kube
    }

    async fn accept(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut up = self.up.subscribe();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted.unwrap().0,
                _ = up.changed() => {
                    connections.abort_all();
                    continue;
                }
            };
            if !*self.up.borrow() {
                continue;
            }
            let kube = self.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let (late, response) = (kube.lateness(&request), kube.answer(&request));
                    async move {
                        tokio::time::sleep(late).await;
                        Ok::<_, Infallible>(response)
                    }
                });
                let builder = hyper::server::conn::http1::Builder::new();
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    }

    pub(crate) fn access(&self) -> Access {
        let config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        Access { client: kube::Client::try_from(config.clone()).unwrap(), config }
    }

    /// Writes an object, with its `metadata.name` and, where it has one, `metadata.namespace`.
    pub(crate) fn put(&self, collection: &str, mut object: Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (collection.to_owned(), text("namespace"), text("name"));
        let mut store = self.store.lock().unwrap();
        let version = (store.changes.len() + 1).to_string();
        object["metadata"]["resourceVersion"] = json!(version);
        if object["metadata"]["uid"].is_null() {
            let known = store.objects.get(&key).map(|known| known["metadata"]["uid"].clone());
            object["metadata"]["uid"] = known.unwrap_or_else(|| json!(format!("uid-{version}")));
        }
        let kind = if store.objects.insert(key.clone(), object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        store.changes.push((kind, key, object));
        self.version.send_replace(store.changes.len());
    }

    pub(crate) fn delete(&self, collection: &str, namespace: &str, name: &str) {
        let key = (collection.to_owned(), namespace.to_owned(), name.to_owned());
        let mut store = self.store.lock().unwrap();
        let mut object = store.objects.remove(&key).unwrap();
        object["metadata"]["resourceVersion"] = json!((store.changes.len() + 1).to_string());
        store.changes.push(("DELETED", key, object));
        self.version.send_replace(store.changes.len());
    }

    /// Refuses every request whose path and query hold this.
    pub(crate) fn refuse(&self, part: &str) {
        self.store.lock().unwrap().refused.insert(part.to_owned());
    }

    /// Answers every request whose path and query hold this so much later.
    pub(crate) fn delay(&self, part: &str, by: Duration) {
        self.store.lock().unwrap().late.push((part.to_owned(), by));
    }

    /// Confirms watches that begin from now on so often, as an apiserver does each minute.
    pub(crate) fn bookmark_each(&self, interval: Duration) {
        self.store.lock().unwrap().bookmarks = Some(interval);
    }

    fn lateness(&self, request: &Request<Incoming>) -> Duration {
        let uri = request.uri().to_string();
        let store = self.store.lock().unwrap();
        let late = store.late.iter().filter(|(part, _)| uri.contains(part.as_str())).map(|(_, by)| *by);
        late.max().unwrap_or_default()
    }

    /// Cuts all connections; while it is away, new ones are cut too.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.send_replace(up);
    }

    /// Forgets old changes: watches from there are 410.
    pub(crate) fn compact(&self) {
        let mut store = self.store.lock().unwrap();
        store.oldest = store.changes.len();
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.store.lock().unwrap().asked.clone()
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let accepts = request.headers().get("accept").map_or("", |accepts| accepts.to_str().unwrap());
        let metadata_alone = accepts == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let uri = request.uri().to_string();
        let query: BTreeMap<String, String> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), unescape(value)))
            .collect();
        let mut store = self.store.lock().unwrap();
        store.asked.push(format!("{uri}{}", if metadata_alone { METADATA_ALONE } else { "" }));
        if store.refused.iter().any(|part| uri.contains(part.as_str())) {
            let status = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
                "message": "the fake says no"});
            return json_of(StatusCode::FORBIDDEN, &status);
        }
        let parts: Vec<_> = request.uri().path().split('/').skip(1).collect();
        let below = if parts[0] == "api" { &parts[2..] } else { &parts[3..] };
        let (collection, namespace) = match below {
            ["namespaces", namespace, kind] => ((*kind).to_owned(), Some((*namespace).to_owned())),
            [kind] => ((*kind).to_owned(), None),
            other => panic!("{other:?}"),
        };
        let selected = move |key: &ObjectKey, object: &Value, query: &BTreeMap<String, String>| {
            key.0 == collection
                && namespace.as_ref().is_none_or(|namespace| *namespace == key.1)
                && selects(query, key, object)
        };
        if query.get("watch").is_some_and(|watch| watch == "true") {
            let from: usize = query["resourceVersion"].parse().unwrap();
            if from < store.oldest {
                let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410,
                    "reason": "Expired", "message": "too old"}});
                return json_of(StatusCode::OK, &gone);
            }
            return self.watch(from, store.bookmarks, move |key, object| selected(key, object, &query));
        }
        let all = store.objects.iter().filter(|(key, object)| selected(key, object, &query));
        let from: usize = query.get("continue").map_or(0, |next| next.parse().unwrap());
        let limit: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let items: Vec<_> = all.map(|(_, object)| object.clone()).skip(from).collect();
        let next = (items.len() > limit).then(|| (from + limit).to_string());
        let in_form = |object: Value| if metadata_alone { json!({"metadata": object["metadata"]}) } else { object };
        let items: Vec<_> = items.into_iter().take(limit).map(in_form).collect();
        let metadata =
            json!({"resourceVersion": store.changes.len().to_string(), "continue": next.unwrap_or_default()});
        json_of(StatusCode::OK, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
    }

    fn watch(
        &self,
        from: usize,
        bookmarks: Option<Duration>,
        selected: impl Fn(&ObjectKey, &Value) -> bool + Send + 'static,
    ) -> Response<Body> {
        let (store, version) = (self.store.clone(), self.version.subscribe());
        let frames = stream::unfold((from, version, selected), move |(mut at, mut version, selected)| {
            let store = store.clone();
            async move {
                loop {
                    let change = version.wait_for(|newest| *newest > at);
                    let Ok(change) = timeout(bookmarks.unwrap_or(Duration::MAX), change).await else {
                        let object = json!({"apiVersion": "v1", "kind": "Any",
                            "metadata": {"resourceVersion": at.to_string()}});
                        let line = format!("{}\n", json!({"type": "BOOKMARK", "object": object}));
                        let frame = Ok::<_, BodyError>(Frame::data(Bytes::from(line)));
                        return Some((frame, (at, version, selected)));
                    };
                    drop(change.ok()?);
                    let (kind, key, object) = store.lock().unwrap().changes[at].clone();
                    at += 1;
                    if selected(&key, &object) {
                        let line = format!("{}\n", json!({"type": kind, "object": object}));
                        let frame = Ok::<_, BodyError>(Frame::data(Bytes::from(line)));
                        return Some((frame, (at, version, selected)));
                    }
                }
            }
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn json_of(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(whole(format!("{value}\n")));
    *response.status_mut() = status;
    response
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn selects(query: &BTreeMap<String, String>, key: &ObjectKey, object: &Value) -> bool {
    let by_field = query.get("fieldSelector").is_none_or(|fields| {
        fields.split(',').all(|field| match field.split_once("!=") {
            Some(("status.phase", phase)) => object["status"]["phase"] != phase,
            Some(other) => panic!("{other:?}"),
            None => field.strip_prefix("metadata.name=").unwrap() == key.2,
        })
    });
    let label = |name: &str| object["metadata"]["labels"][name].as_str();
    let by_label = query.get("labelSelector").is_none_or(|labels| match labels.split_once(" in (") {
        Some((name, values)) => {
            label(name).is_some_and(|value| values.trim_end_matches(')').split(',').any(|one| one == value))
        }
        None => labels.split(',').all(|one| match one.split_once('=') {
            Some((name, value)) => label(name) == Some(value),
            None => label(one).is_some(),
        }),
    });
    by_field && by_label
}
