//! An apiserver as far as our roles see one: real TLS, HTTP/2 with 100 streams a connection, `ConfigMap`s to list and watch,
//! and for all else what a test tells it. It keeps every request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use isthmus::cluster::access::Access;
use isthmus::server::{Body, BodyError, whole};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::peer::{Ca, Serving};

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// Number of its connection, from zero.
    pub(crate) connection: usize,
}

type Script = dyn Fn(&Asked) -> Option<Response<Body>> + Send + Sync;

/// One change of a `ConfigMap`.
#[derive(Clone)]
struct ConfigMapChange {
    kind: &'static str,
    name: String,
    object: Value,
}

struct ApiserverShared {
    script: Box<Script>,
    tls: ServerConfig,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    /// All changes of `ConfigMap`s; the resource version is how many there were.
    changes: Mutex<Vec<ConfigMapChange>>,
    version: watch::Sender<usize>,
    goaway: watch::Sender<usize>,
}

/// The apiserver.
pub(crate) struct Apiserver {
    pub(crate) address: SocketAddr,
    pub(crate) ca: Ca,
    shared: Arc<ApiserverShared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// A body that is what a channel brings; an error breaks it off.
pub(crate) fn streaming(chunks: mpsc::UnboundedReceiver<Result<Bytes, &'static str>>) -> Body {
    let frames = stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        Some((chunk.map(Frame::data).map_err(|_| BodyError::BrokenOff), chunks))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The same bytes over and over, as fast as they are taken.
pub(crate) fn flood(chunk: Bytes) -> Body {
    let frames = stream::repeat_with(move || Ok::<_, BodyError>(Frame::data(chunk.clone())));
    StreamBody::new(frames).boxed_unsync()
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: Body) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

pub(crate) fn json_answer(status: u16, body: &Value) -> Response<Body> {
    answer(status, &[("content-type", "application/json")], whole(format!("{body}\n")))
}

impl Apiserver {
    /// Answers `/readyz`, `ConfigMap`s, and else as the script says, or 404.
    pub(crate) async fn start(script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static) -> Self {
        Self::start_with(&["h2", "http/1.1"], script).await
    }

    /// The same with the versions of HTTP that it offers.
    pub(crate) async fn start_with(
        alpn: &[&str],
        script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        let ca = Ca::new("kubernetes");
        let Serving { chain, key } = ca.serving(&["127.0.0.1"]);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let shared = Arc::new(ApiserverShared {
            script: Box::new(script),
            tls,
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            changes: Mutex::default(),
            version: watch::Sender::new(0),
            goaway: watch::Sender::new(0),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Mutex::new(Some(tokio::spawn(accept(listener, shared.clone()))));
        Self { address, ca, shared, accepting }
    }

    /// Ends all connections at once and listens no more.
    pub(crate) async fn kill(&self) {
        let accepting = self.accepting.lock().unwrap().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            let _aborted = accepting.await;
        }
    }

    /// Listens again where it did.
    pub(crate) async fn revive(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.accepting.lock().unwrap() = Some(tokio::spawn(accept(listener, self.shared.clone())));
    }

    /// Asks all connections to go away in good order.
    pub(crate) fn go_away(&self) {
        self.shared.goaway.send_modify(|times| *times += 1);
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Requests so far, but for probes and `ConfigMap`s.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let asked = self.shared.asked.lock().unwrap();
        let own = |asked: &&Asked| asked.path != "/readyz" && !asked.path.contains("/configmaps");
        asked.iter().filter(own).cloned().collect()
    }

    /// Writes a `ConfigMap` with one file, or deletes it.
    pub(crate) fn config_map(&self, namespace: &str, name: &str, file: Option<(&str, &str)>) {
        let mut changes = self.shared.changes.lock().unwrap();
        let version = changes.len() + 1;
        let known = changes.iter().rev().find(|change| change.name == name).is_some_and(|one| one.kind != "DELETED");
        let kind = match (file, known) {
            (None, _) => "DELETED",
            (Some(_), true) => "MODIFIED",
            (Some(_), false) => "ADDED",
        };
        let data: BTreeMap<&str, &str> = file.into_iter().collect();
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": version.to_string()},
        });
        changes.push(ConfigMapChange { kind, name: name.to_owned(), object });
        self.shared.version.send_replace(version);
    }

    /// Access to it with a bearer token of a file.
    pub(crate) fn access(&self, token_file: &std::path::Path) -> Access {
        let mut config = kube::Config::new(format!("https://{}", self.address).parse().unwrap());
        config.root_cert = Some(vec![CertificateDer::from_pem_slice(self.ca.pem.as_bytes()).unwrap().to_vec()]);
        config.auth_info.token_file = Some(token_file.display().to_string());
        config.connect_timeout = Some(Duration::from_secs(3));
        let client = kube::Client::try_from(config.clone()).unwrap();
        Access { client, config }
    }
}

impl Drop for Apiserver {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            accepting.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<ApiserverShared>) {
    let acceptor = TlsAcceptor::from(Arc::new(shared.tls.clone()));
    // dropped with this task, and all connections with it
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        stream.set_nodelay(true).unwrap();
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let number = shared.connections.fetch_add(1, Ordering::SeqCst);
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let mut goaway = shared.goaway.subscribe();
            let service = service_fn(move |request: Request<Incoming>| {
                let response = respond(&shared, &request, number);
                async move { Ok::<_, Infallible>(response) }
            });
            let io = TokioIo::new(stream);
            if h2 {
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.timer(TokioTimer::new()).max_concurrent_streams(100);
                let mut connection = std::pin::pin!(builder.serve_connection(io, service));
                loop {
                    tokio::select! {
                        _ended = connection.as_mut() => return,
                        Ok(()) = goaway.changed() => connection.as_mut().graceful_shutdown(),
                    }
                }
            }
            let _ended = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        });
    }
}

fn respond(shared: &Arc<ApiserverShared>, request: &Request<Incoming>, connection: usize) -> Response<Body> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let asked = Asked { method: request.method().clone(), path, headers: request.headers().clone(), connection };
    shared.asked.lock().unwrap().push(asked.clone());
    if let Some(response) = (shared.script)(&asked) {
        return response;
    }
    if asked.path == "/readyz" {
        return answer(200, &[], whole("ok"));
    }
    if asked.path.contains("/configmaps?") { config_maps(shared, &asked.path) } else { answer(404, &[], whole("no\n")) }
}

fn config_maps(shared: &Arc<ApiserverShared>, path: &str) -> Response<Body> {
    let query: BTreeMap<String, String> = path
        .split_once('?')
        .map(|(_, query)| query.split('&').filter_map(|pair| pair.split_once('=')))
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.to_owned(), value.replace("%3D", "=")))
        .collect();
    let name = query["fieldSelector"].strip_prefix("metadata.name=").unwrap().to_owned();
    if query.get("watch").is_none_or(|watch| watch != "true" && watch != "1") {
        let changes = shared.changes.lock().unwrap();
        let newest = changes.iter().rev().find(|change| change.name == name).filter(|change| change.kind != "DELETED");
        let items: Vec<&Value> = newest.iter().map(|change| &change.object).collect();
        let version = changes.len().to_string();
        let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": version}, "items": items});
        return json_answer(200, &list);
    }
    let from: usize = query["resourceVersion"].parse().unwrap();
    let subscription = (from, shared.version.subscribe(), shared.clone());
    let frames = stream::unfold(subscription, move |(mut from, mut version, shared)| {
        let name = name.clone();
        async move {
            loop {
                let change = shared.changes.lock().unwrap().get(from).cloned();
                match change {
                    Some(change) => {
                        from += 1;
                        if change.name == name {
                            let event = json!({"type": change.kind, "object": change.object});
                            let frame = Frame::data(Bytes::from(format!("{event}\n")));
                            return Some((Ok::<_, BodyError>(frame), (from, version, shared)));
                        }
                    }
                    None => version.changed().await.ok()?,
                }
            }
        }
    });
    answer(200, &[("content-type", "application/json")], StreamBody::new(frames).boxed_unsync())
}
