//! A small apiserver: objects in memory, over HTTP: get, list, create, update by resourceVersion, delete, watch,
//! `TokenReview`. Enough for `kube` as our roles use it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

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
}

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
        let body = body.collect().await.unwrap().to_bytes();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        if path == "/apis/authentication.k8s.io/v1/tokenreviews" {
            let mut review = sent.clone();
            review["status"] = (self.reviewer.lock().unwrap())(sent["spec"]["token"].as_str().unwrap());
            return whole(StatusCode::CREATED, &review);
        }
        let query = head.uri.query().unwrap_or_default();
        // `/api/v1/namespaces/x/secrets` is a list, `/api/v1/namespaces/x` an object
        if path.split('/').count() % 2 == 0 {
            let wanted = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"));
            let wanted = wanted.map(str::to_owned);
            return match head.method {
                Method::POST => {
                    let key = (path.clone(), sent["metadata"]["name"].as_str().unwrap().to_owned());
                    if self.inner.lock().unwrap().objects.contains_key(&key) {
                        return refused(StatusCode::CONFLICT, "AlreadyExists");
                    }
                    whole(StatusCode::CREATED, &self.store(&path, sent))
                }
                Method::GET if query.contains("watch=true") => self.watch(path, wanted),
                _ => self.list(&path, wanted.as_deref()),
            };
        }
        let (list, name) = path.rsplit_once('/').unwrap();
        let known = self.inner.lock().unwrap().objects.get(&(list.to_owned(), name.to_owned())).cloned();
        match (head.method, known) {
            (_, None) => refused(StatusCode::NOT_FOUND, "NotFound"),
            (Method::GET, Some(object)) => whole(StatusCode::OK, &object),
            (Method::PUT, Some(object)) => {
                if sent["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                    return refused(StatusCode::CONFLICT, "Conflict");
                }
                whole(StatusCode::OK, &self.store(list, sent))
            }
            _ => refused(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
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

    fn watch(&self, path: String, wanted: Option<String>) -> Reply {
        let changes = self.changes.subscribe();
        let events = stream::unfold(changes, move |mut changes| {
            let (path, wanted) = (path.clone(), wanted.clone());
            async move {
                loop {
                    let (list, event) = changes.recv().await.ok()?;
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
