//! A small apiserver: objects in memory, over HTTP: get, list, create, update by resourceVersion, patches, apply of whole objects,
//! delete with finalizers, watch, `TokenReview`. Enough for `kube` as our roles use it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use isthmus::cluster::access::Access;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::merge_patch::merged;

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;
/// The status of a `TokenReview` for a token.
type Reviewer = Box<dyn Fn(&str) -> Value + Send + Sync>;

/// The apiserver.
pub(crate) struct ObjectServer {
    address: SocketAddr,
    state: Arc<ObjectServerState>,
    accepting: JoinHandle<()>,
}

struct ObjectServerState {
    inner: Mutex<ObjectServerInner>,
    changes: broadcast::Sender<(String, Value)>,
    reviewer: Mutex<Reviewer>,
}

#[derive(Default)]
struct ObjectServerInner {
    version: u64,
    /// By path of the list, and name.
    objects: BTreeMap<(String, String), Value>,
    /// `METHOD path`, in order.
    requests: Vec<String>,
    /// Paths that are answered with 500.
    broken: Vec<String>,
    /// Lists of API groups that there are; others are 404.
    served: Vec<String>,
    writes: Vec<ServerWrite>,
    uids: u64,
}

/// A write that was carried out.
#[derive(Debug, Clone)]
pub(crate) struct ServerWrite {
    pub(crate) path: String,
    /// Who asked, by the name of [`ObjectServer::access_of`].
    pub(crate) by: String,
    pub(crate) at: Instant,
}

/// Header that says who asks.
const BY: &str = "x-asked-by";

impl ObjectServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let reviewer: Reviewer = Box::new(|_| json!({ "authenticated": false }));
        let (changes, _) = broadcast::channel(64);
        let state = Arc::new(ObjectServerState { inner: Mutex::default(), changes, reviewer: Mutex::new(reviewer) });
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let state = state.clone();
                        async move { Ok::<_, Infallible>(state.answer(request).await) }
                    });
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        Self { address, state, accepting }
    }

    /// How a role reaches it.
    pub(crate) fn access(&self) -> Access {
        let config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        Access { client: kube::Client::try_from(config.clone()).unwrap(), config }
    }

    /// The same for one of several, whose writes are kept apart.
    pub(crate) fn access_of(&self, name: &'static str) -> Access {
        let mut config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        config.headers.push((http::HeaderName::from_static(BY), http::HeaderValue::from_static(name)));
        Access { client: kube::Client::try_from(config.clone()).unwrap(), config }
    }

    /// Serves a list of an API group, such as `/apis/isthmus.dev/v1alpha1/istiomulticlusters`.
    pub(crate) fn serve(&self, list: &str) {
        self.state.inner.lock().unwrap().served.push(list.to_owned());
    }

    /// Puts an object below a list's path, such as `/api/v1/namespaces`.
    pub(crate) fn put(&self, list: &str, object: Value) {
        self.state.store(list, object);
    }

    pub(crate) fn get(&self, list: &str, name: &str) -> Option<Value> {
        self.state.inner.lock().unwrap().objects.get(&(list.to_owned(), name.to_owned())).cloned()
    }

    pub(crate) fn delete(&self, list: &str, name: &str) {
        let gone = self.state.inner.lock().unwrap().objects.remove(&(list.to_owned(), name.to_owned()));
        let event = json!({ "type": "DELETED", "object": gone.unwrap() });
        drop(self.state.changes.send((list.to_owned(), event)));
    }

    /// Answers all below a path with 500, or no longer.
    pub(crate) fn break_down(&self, path: Option<&str>) {
        self.state.inner.lock().unwrap().broken = path.map(str::to_owned).into_iter().collect();
    }

    pub(crate) fn review(&self, reviewer: impl Fn(&str) -> Value + Send + Sync + 'static) {
        *self.state.reviewer.lock().unwrap() = Box::new(reviewer);
    }

    /// Writes by requests, so far.
    pub(crate) fn writes(&self) -> Vec<ServerWrite> {
        self.state.inner.lock().unwrap().writes.clone()
    }

    /// All objects of a list.
    pub(crate) fn all(&self, list: &str) -> Vec<Value> {
        let inner = self.state.inner.lock().unwrap();
        inner.objects.iter().filter(|((of, _), _)| of == list).map(|(_, object)| object.clone()).collect()
    }

    /// Changes an object, as a person would.
    pub(crate) fn edit(&self, list: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(list, name).unwrap();
        edit(&mut object);
        self.state.store(list, object);
    }

    /// `METHOD path` of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.inner.lock().unwrap().requests.clone()
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn whole(status: StatusCode, value: &Value) -> Reply {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

fn refused(status: StatusCode, reason: &str) -> Reply {
    let code = status.as_u16();
    let message = format!("the object: {reason}");
    whole(
        status,
        &json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message }),
    )
}

impl ObjectServerState {
    fn store(&self, list: &str, mut object: Value) -> Value {
        let mut inner = self.inner.lock().unwrap();
        inner.version += 1;
        object["metadata"]["resourceVersion"] = inner.version.to_string().into();
        if object["metadata"]["uid"].is_null() {
            inner.uids += 1;
            object["metadata"]["uid"] = format!("00000000-0000-4000-8000-{:012}", inner.uids).into();
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let known = inner.objects.insert((list.to_owned(), name), object.clone()).is_some();
        let event = json!({ "type": if known { "MODIFIED" } else { "ADDED" }, "object": object });
        drop(self.changes.send((list.to_owned(), event)));
        object
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        {
            let mut inner = self.inner.lock().unwrap();
            inner.requests.push(format!("{} {path}", head.method));
            if inner.broken.iter().any(|broken| path.starts_with(broken)) {
                return refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
            }
        }
        let header =
            |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (by, form) = (header(BY), header("content-type"));
        let body = body.collect().await.unwrap().to_bytes();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        if path == "/apis/authentication.k8s.io/v1/tokenreviews" {
            let mut review = sent.clone();
            review["status"] = (self.reviewer.lock().unwrap())(sent["spec"]["token"].as_str().unwrap());
            return whole(StatusCode::CREATED, &review);
        }
        let query = head.uri.query().unwrap_or_default();
        // `/api/v1/namespaces/x/secrets` is a list, `/api/v1/namespaces/x` an object
        let is_served = || self.inner.lock().unwrap().served.contains(&path);
        if (path.starts_with("/api/") && path.split('/').count() % 2 == 0) || is_served() {
            let wanted = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"));
            let wanted = wanted.map(str::to_owned);
            return match head.method {
                Method::POST => {
                    let mut sent = sent;
                    if let Some(prefix) = sent["metadata"]["generateName"].as_str() {
                        sent["metadata"]["name"] = format!("{prefix}{}", self.inner.lock().unwrap().version).into();
                    }
                    let key = (path.clone(), sent["metadata"]["name"].as_str().unwrap().to_owned());
                    if self.inner.lock().unwrap().objects.contains_key(&key) {
                        return refused(StatusCode::CONFLICT, "AlreadyExists");
                    }
                    self.wrote(&path, by);
                    whole(StatusCode::CREATED, &self.store(&path, sent))
                }
                Method::GET if query.contains("watch=true") => {
                    let seconds = query.split('&').find_map(|pair| pair.strip_prefix("timeoutSeconds=")?.parse().ok());
                    self.watch(path, wanted, seconds.map(Duration::from_secs))
                }
                _ => self.list(&path, wanted.as_deref()),
            };
        }
        let (object_path, is_status) = match path.strip_suffix("/status") {
            Some(object_path) => (object_path, true),
            None => (path.as_str(), false),
        };
        let (list, name) = object_path.rsplit_once('/').unwrap();
        let known = self.inner.lock().unwrap().objects.get(&(list.to_owned(), name.to_owned())).cloned();
        let form = form.as_str();
        match (head.method, known) {
            (Method::PATCH, known) if form == "application/apply-patch+yaml" => {
                let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager=")).unwrap();
                self.apply((list, name), known.as_ref(), sent, (manager, by))
            }
            (Method::PATCH, Some(object)) if query.contains("dryRun=All") => whole(StatusCode::OK, &object),
            (Method::PATCH, Some(object)) => self.merge((list, name), &object, &sent, is_status, by),
            (Method::DELETE, Some(mut object)) => {
                let wanted = &sent["preconditions"]["uid"];
                if !wanted.is_null() && *wanted != object["metadata"]["uid"] {
                    return refused(StatusCode::CONFLICT, "Conflict");
                }
                self.wrote(object_path, by);
                object["metadata"]["deletionTimestamp"] = "2026-11-30T00:00:00Z".into();
                self.put_or_remove((list, name), object)
            }
            (_, None) => refused(StatusCode::NOT_FOUND, "NotFound"),
            (Method::GET, Some(object)) => whole(StatusCode::OK, &object),
            (Method::PUT, Some(object)) => {
                if sent["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                    return refused(StatusCode::CONFLICT, "Conflict");
                }
                self.wrote(object_path, by);
                whole(StatusCode::OK, &self.store(list, sent))
            }
            _ => refused(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn wrote(&self, path: &str, by: String) {
        let write = ServerWrite { path: path.to_owned(), by, at: Instant::now() };
        self.inner.lock().unwrap().writes.push(write);
    }

    /// Stores an object, unless it was deleted and no finalizer holds it.
    fn put_or_remove(&self, (list, name): (&str, &str), object: Value) -> Reply {
        let is_held = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if object["metadata"]["deletionTimestamp"].is_null() || is_held {
            return whole(StatusCode::OK, &self.store(list, object));
        }
        self.inner.lock().unwrap().objects.remove(&(list.to_owned(), name.to_owned()));
        drop(self.changes.send((list.to_owned(), json!({ "type": "DELETED", "object": object }))));
        whole(StatusCode::OK, &json!({ "kind": "Status", "status": "Success" }))
    }

    /// Server-side apply of an object that one writer owns as a whole.
    fn apply(&self, (list, name): (&str, &str), known: Option<&Value>, mut sent: Value, by: (&str, String)) -> Reply {
        let version = sent["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        let found = known.map(|object| &object["metadata"]["resourceVersion"]);
        if version.is_some() && version.as_ref() != found {
            return refused(StatusCode::CONFLICT, "Conflict");
        }
        let mut fields = fields_of(&sent);
        for key in ["f:apiVersion", "f:kind"] {
            fields.as_object_mut().unwrap().remove(key);
        }
        let applied = json!([{ "manager": by.0, "operation": "Apply", "fieldsV1": fields }]);
        sent["metadata"]["managedFields"] = applied;
        if let Some(known) = known {
            for key in ["uid", "resourceVersion"] {
                sent["metadata"][key] = known["metadata"][key].clone();
            }
            if sent == *known {
                return whole(StatusCode::OK, known);
            }
        }
        self.wrote(&format!("{list}/{name}"), by.1);
        whole(StatusCode::OK, &self.store(list, sent))
    }

    /// A merge patch, of the status alone or of all else.
    fn merge(&self, at: (&str, &str), object: &Value, sent: &Value, is_status: bool, by: String) -> Reply {
        let version = &sent["metadata"]["resourceVersion"];
        if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
            return refused(StatusCode::CONFLICT, "Conflict");
        }
        let mut after = object.clone();
        if is_status {
            merged(&mut after["status"], &sent["status"]);
        } else {
            merged(&mut after, sent);
        }
        if after == *object {
            return whole(StatusCode::OK, object);
        }
        let suffix = if is_status { "/status" } else { "" };
        self.wrote(&format!("{}/{}{suffix}", at.0, at.1), by);
        self.put_or_remove(at, after)
    }

    fn list(&self, path: &str, wanted: Option<&str>) -> Reply {
        let inner = self.inner.lock().unwrap();
        let selected =
            inner.objects.iter().filter(|((list, name), _)| list == path && wanted.is_none_or(|w| w == name));
        let items: Vec<_> = selected.map(|(_, object)| object.clone()).collect();
        let version = inner.version.to_string();
        whole(
            StatusCode::OK,
            &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
        )
    }

    /// Events until the time is over that a watch may last.
    fn watch(&self, path: String, wanted: Option<String>, lasts: Option<Duration>) -> Reply {
        let changes = self.changes.subscribe();
        let until = lasts.map(|lasts| tokio::time::Instant::now() + lasts);
        let events = stream::unfold(changes, move |mut changes| {
            let (path, wanted) = (path.clone(), wanted.clone());
            async move {
                loop {
                    let event = changes.recv();
                    let event = match until {
                        Some(until) => tokio::time::timeout_at(until, event).await.ok()?,
                        None => event.await,
                    };
                    let (list, event) = event.ok()?;
                    let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
                    if list == path && wanted.as_deref().is_none_or(|wanted| wanted == name) {
                        return Some((Ok(Frame::data(Bytes::from(format!("{event}\n")))), changes));
                    }
                }
            }
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(events));
        Response::builder().header("content-type", "application/json").body(body).unwrap()
    }
}

/// The set of a value's fields, as `managedFields` have it.
fn fields_of(value: &Value) -> Value {
    let Value::Object(map) = value else { return json!({}) };
    map.iter().map(|(key, value)| (format!("f:{key}"), fields_of(value))).collect::<serde_json::Map<_, _>>().into()
}
