//! The api-proxy over the wire: real TLS on both sides, a scripted apiserver behind it, tokens of real keys.

mod admission;
mod drill;
mod floods;
mod process;
mod projected;
mod share;
mod streams;
mod tokens;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use isthmus::roles::proxy::Proxy;
use isthmus::roles::proxy::audit::AuditLog;
use isthmus::roles::role::{Role, StopSignal};
use isthmus::server::limits::{Rate, RoleLimits};
use isthmus::server::telemetry::{Metrics, Readiness};
use isthmus::server::{Body, Bound, Certificates, Running, whole};
use isthmus::types::key::{KeyId, PrivateKey};
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Claims, ISSUER, Scope, mint};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::support::apiserver::{Apiserver, Asked, answer, flood, json_answer, streaming};
use crate::support::peer::{Ca, Serving};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const OWN: &str = "00000000-0000-4000-8000-000000000001";
const WEST: &str = "00000000-0000-4000-8000-00000000000b";
const SOUTH: &str = "00000000-0000-4000-8000-00000000000c";
const STRANGER: &str = "00000000-0000-4000-8000-00000000000d";
const WEST_KEY: u8 = 2;
const WEST_OLD: u8 = 3;
const SOUTH_KEY: u8 = 4;
const ENGINE: u8 = 5;
const NAMESPACE: &str = "istio-system";
const SOON: Duration = Duration::from_secs(5);

fn key(seed: u8) -> PrivateKey {
    PrivateKey::generate(&[seed; 32]).unwrap()
}

fn authn(id: &str, seed: u8, scopes: &[&str]) -> Value {
    json!({"id": id, "pem": key(seed).public().to_pem(), "scopes": scopes})
}

fn west(keys: &[Value]) -> Value {
    json!({"name": "west", "clusterUUID": WEST, "keys": keys, "namespaces": ["*"], "istioNamespace": NAMESPACE})
}

fn west_keys() -> Vec<Value> {
    vec![
        authn("west-1", WEST_KEY, &["api", "private-multicluster"]),
        authn("west-0", WEST_OLD, &["api"]),
        authn("ci", ENGINE, &["private-multicluster"]),
    ]
}

fn south() -> Value {
    json!({"name": "south", "clusterUUID": SOUTH, "keys": [authn("south-1", SOUTH_KEY, &["api"])], "namespaces": ["*"]})
}

fn peers(peers: &[Value]) -> String {
    peers_in(Some("network-west"), peers)
}

fn peers_in(network: Option<&str>, peers: &[Value]) -> String {
    json!({"version": 1, "network": network, "self": {"keys": [authn("own", ENGINE, &["private-multicluster"])]}, "peers": peers})
        .to_string()
}

fn claims(sub: &str) -> Claims {
    Claims {
        aud: OWN.to_owned(),
        exp: NOW + Duration::from_mins(40),
        iss: ISSUER.to_owned(),
        nbf: NOW - Duration::from_secs(5),
        scope: Scope::Api,
        sub: sub.to_owned(),
    }
}

fn token(seed: u8, claims: &Claims, kid: Option<&str>) -> String {
    let kid: Option<KeyId> = kid.map(|kid| kid.parse().unwrap());
    format!("Bearer {}", mint(&key(seed), claims, kid.as_ref()).expose())
}

fn of_west() -> String {
    token(WEST_KEY, &claims(WEST), Some("west-1"))
}

fn of_south() -> String {
    token(SOUTH_KEY, &claims(SOUTH), None)
}

/// Keeps the records, until it is broken.
#[derive(Clone, Default)]
struct RecordSink {
    lines: Arc<Mutex<Vec<u8>>>,
    broken: Arc<AtomicBool>,
}

impl Write for RecordSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the disk is full"));
        }
        self.lines.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl RecordSink {
    fn records(&self) -> Vec<Value> {
        let lines = String::from_utf8(self.lines.lock().unwrap().clone()).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

struct ProxyWorld {
    apiserver: Apiserver,
    ca: Ca,
    running: Running,
    health: Readiness,
    metrics: Metrics,
    sink: RecordSink,
    token_file: std::path::PathBuf,
    /// Says events to all watches that were opened by [`watches`].
    event_sender: broadcast::Sender<Result<Bytes, &'static str>>,
    _folder: tempfile::TempDir,
    _stop: StopSignal,
}

fn limits() -> RoleLimits {
    let fast = Rate { per_second: 100_000, burst: 100_000 };
    RoleLimits {
        rate_per_address: fast,
        rate_unauthenticated: fast,
        rate_per_peer: fast,
        refusals: 1000,
        lame_duck: Duration::from_millis(10),
        ..RoleLimits::of_proxy()
    }
}

/// An apiserver whose watches give what is said.
async fn apiserver(
    event_sender: &broadcast::Sender<Result<Bytes, &'static str>>,
    script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static,
) -> Apiserver {
    let event_sender = event_sender.clone();
    Apiserver::start(move |asked| {
        if let Some(response) = script(asked) {
            return Some(response);
        }
        if asked.path.contains("/configmaps") || !asked.path.contains("watch=true") {
            return None;
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut events = event_sender.subscribe();
        tokio::spawn(async move {
            while let Ok(event) = events.recv().await {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Some(answer(200, &[("content-type", "application/json")], streaming(receiver)))
    })
    .await
}

/// An api-proxy that knows no one yet.
async fn unknowing(
    limits: RoleLimits,
    script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static,
) -> ProxyWorld {
    let event_sender = broadcast::channel(64).0;
    let apiserver = apiserver(&event_sender, script).await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "of-the-role-0").unwrap();
    let (sink, ca) = (RecordSink::default(), Ca::new("proxy"));
    let (running, Role { health, metrics, .. }, stop) = serve(&apiserver, &token_file, limits, &sink, &ca).await;
    ProxyWorld { apiserver, ca, running, health, metrics, sink, token_file, event_sender, _folder: folder, _stop: stop }
}

/// Begins a proxy.
async fn serve(
    apiserver: &Apiserver,
    token_file: &std::path::Path,
    limits: RoleLimits,
    sink: &RecordSink,
    ca: &Ca,
) -> (Running, Role, StopSignal) {
    let (role, stop) = Role::new(NAMESPACE.parse().unwrap(), limits.clone(), apiserver.access(token_file));
    let clock = || jiff::Timestamp::from_second(NOW.as_seconds()).unwrap();
    let proxy = Proxy::new(&role, AuditLog::to(sink.clone()), None, Arc::new(clock)).unwrap();
    let Serving { chain, key } = ca.serving(&["127.0.0.1"]);
    let certificates = Certificates::from_pem(&chain, &key).unwrap();
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let running = bound.serve(&certificates, limits.server(true), Arc::new(proxy));
    (running, role, stop)
}

async fn world_with(
    limits: RoleLimits,
    script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static,
) -> ProxyWorld {
    let world = unknowing(limits, script).await;
    world.identity();
    world.peers(&peers(&[west(&west_keys()), south()]));
    world.ready(Duration::from_secs(10)).await;
    world
}

async fn world() -> ProxyWorld {
    world_with(limits(), |_| None).await
}

/// What the relay writes.
fn identity(apiserver: &Apiserver) {
    let identity = json!({"version": 1, "clusterUUID": OWN, "trustDomain": "cluster.local"}).to_string();
    apiserver.config_map(NAMESPACE, "isthmus-identity", Some(("identity.json", &identity)));
}

impl ProxyWorld {
    fn identity(&self) {
        identity(&self.apiserver);
    }

    fn peers(&self, file: &str) {
        self.apiserver.config_map(NAMESPACE, "isthmus-peers", Some(("peers.json", file)));
    }

    async fn until(&self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < limit, "{what} took longer than {limit:?}: {:?}", self.health.failing());
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn ready(&self, limit: Duration) {
        self.until(limit, "being ready", |world| world.health.is_ready()).await;
    }

    async fn client(&self) -> Client {
        Client::new(self.running.address(), &self.ca).await
    }

    async fn get(&self, path: &str, authorization: &str) -> Response<Bytes> {
        self.client().await.whole(Method::GET, path, &[("authorization", authorization)]).await
    }
}

/// One connection of HTTP/2 whose reader may leave some streams unread.
struct Client(SendRequest<Body>);

impl Client {
    async fn new(address: SocketAddr, ca: &Ca) -> Self {
        Self::connect(address, ca).await.expect("a connection")
    }

    /// The same where no one may listen.
    async fn connect(address: SocketAddr, ca: &Ca) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(32 * 1024 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .ok()?;
        tokio::spawn(connection);
        Some(Self(sender))
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        self.try_send(method, path, headers).await.expect("an answer")
    }

    /// The same where the server may go away.
    async fn try_send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Option<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("https://127.0.0.1{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = self.0.clone().send_request(request.body(whole("")).unwrap());
        timeout(Duration::from_secs(20), sent).await.expect("an answer in time").ok()
    }

    async fn whole(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
        let (head, body) = self.send(method, path, headers).await.into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    async fn watch(&self, authorization: &str) -> Response<Incoming> {
        let path = "/api/v1/pods?watch=true&resourceVersion=0&allowWatchBookmarks=true";
        self.send(Method::GET, path, &[("authorization", authorization)]).await
    }
}

/// The next piece of a body, its end, or its error.
async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        let frame = timeout(SOON, body.frame()).await.expect("a frame in time")?;
        match frame.map(|frame| frame.into_data().unwrap()) {
            // HTTP/2 may end with a piece of nothing
            Ok(chunk) if chunk.is_empty() => {}
            other => return Some(other),
        }
    }
}

/// The same without the marks behind versions, of which it gives one.
fn unmarked(mut value: Value) -> (Value, String) {
    fn walk(value: &mut Value, mark: &mut String) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(text) if key == "resourceVersion" && text.len() > 20 => {
                            *mark = text.split_off(text.len() - 20);
                        }
                        value => walk(value, mark),
                    }
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|one| walk(one, mark)),
            _ => {}
        }
    }
    let mut mark = String::new();
    walk(&mut value, &mut mark);
    (value, mark)
}

const EVENT: &[u8] = b"{\"type\":\"ADDED\",\"object\":{}}\n";

const SENT_EVENT: Result<Bytes, &str> = Ok(Bytes::from_static(EVENT));

/// How the lists are asked for that an apiserver can write in protobuf.
const PROTOBUF_OR_JSON: &str = "application/vnd.kubernetes.protobuf, application/json";

const PODS: &str = "/api/v1/pods?limit=500&resourceVersion=0";

fn list() -> Response<Body> {
    json_answer(200, &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": []}))
}
