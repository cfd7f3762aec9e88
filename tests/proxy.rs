//! The api-proxy over the wire: real TLS on both sides, a scripted apiserver behind it, tokens of real keys.

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
use isthmus::key::{KeyId, PrivateKey};
use isthmus::server::limits::{Limits, Rate};
use isthmus::server::proxy::Proxy;
use isthmus::server::proxy::audit::AuditLog;
use isthmus::server::role::{Role, Stop};
use isthmus::server::telemetry::{Health, Metrics};
use isthmus::server::{Body, Bound, Certificates, Running, whole};
use isthmus::token::{Claims, ISSUER, Scope, mint};
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

const NOW: i64 = 1_800_000_000;
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
    json!({"version": 1, "self": {"keys": [authn("own", ENGINE, &["private-multicluster"])]}, "peers": peers})
        .to_string()
}

fn claims(sub: &str) -> Claims {
    Claims {
        aud: OWN.to_owned(),
        exp: NOW + 2400,
        iss: ISSUER.to_owned(),
        nbf: NOW - 5,
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
struct Sink {
    lines: Arc<Mutex<Vec<u8>>>,
    broken: Arc<AtomicBool>,
}

impl Write for Sink {
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

impl Sink {
    fn records(&self) -> Vec<Value> {
        let lines = String::from_utf8(self.lines.lock().unwrap().clone()).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

struct World {
    apiserver: Apiserver,
    ca: Ca,
    running: Running,
    health: Health,
    metrics: Metrics,
    sink: Sink,
    token_file: std::path::PathBuf,
    /// Says events to all watches that were opened by [`watches`].
    said: broadcast::Sender<Result<Bytes, &'static str>>,
    _folder: tempfile::TempDir,
    _stop: Stop,
}

fn limits() -> Limits {
    let fast = Rate { per_second: 100_000, burst: 100_000 };
    Limits { rate_per_address: fast, rate_per_peer: fast, lame_duck: Duration::from_millis(10), ..Limits::of_proxy() }
}

/// An apiserver whose watches give what is said.
async fn apiserver(
    said: &broadcast::Sender<Result<Bytes, &'static str>>,
    script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static,
) -> Apiserver {
    let said = said.clone();
    Apiserver::start(move |asked| {
        if let Some(response) = script(asked) {
            return Some(response);
        }
        if asked.path.contains("/configmaps") || !asked.path.contains("watch=true") {
            return None;
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut events = said.subscribe();
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

/// An api-proxy that knows nobody yet.
async fn unknowing(limits: Limits, script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static) -> World {
    let said = broadcast::channel(64).0;
    let apiserver = apiserver(&said, script).await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "of-the-role-0").unwrap();
    let (stop, stopping) = Stop::new();
    let role = Role {
        namespace: NAMESPACE.parse().unwrap(),
        limits: limits.clone(),
        access: apiserver.access(&token_file),
        metrics: Metrics::new(),
        health: Health::default(),
        stopping,
        tls: None,
    };
    let sink = Sink::default();
    let clock = || jiff::Timestamp::from_second(NOW).unwrap();
    let proxy = Proxy::new(&role, AuditLog::to(sink.clone()), None, Arc::new(clock)).unwrap();
    let ca = Ca::new("proxy");
    let Serving { chain, key } = ca.serving(&["127.0.0.1"]);
    let certificates = Certificates::from_pem(&chain, &key).unwrap();
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let running = bound.serve(&certificates, limits.server(true), Arc::new(proxy));
    let Role { health, metrics, .. } = role;
    World { apiserver, ca, running, health, metrics, sink, token_file, said, _folder: folder, _stop: stop }
}

async fn world_with(
    limits: Limits,
    script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static,
) -> World {
    let world = unknowing(limits, script).await;
    world.identity();
    world.peers(&peers(&[west(&west_keys()), south()]));
    world.ready(Duration::from_secs(10)).await;
    world
}

async fn world() -> World {
    world_with(limits(), |_| None).await
}

impl World {
    fn identity(&self) {
        let identity = json!({"version": 1, "clusterUUID": OWN, "trustDomain": "cluster.local"}).to_string();
        self.apiserver.config_map(NAMESPACE, "isthmus-identity", Some(("identity.json", &identity)));
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
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(32 * 1024 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("https://127.0.0.1{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = self.0.clone().send_request(request.body(whole("")).unwrap());
        timeout(Duration::from_secs(20), sent).await.expect("an answer in time").unwrap()
    }

    async fn whole(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
        let (head, body) = self.send(method, path, headers).await.into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    async fn watch(&self, authorization: &str) -> Response<Incoming> {
        let path = "/api/v1/pods?watch=true&resourceVersion=1&allowWatchBookmarks=true";
        self.send(Method::GET, path, &[("authorization", authorization)]).await
    }
}

/// The next piece of a body, its end, or its error.
async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        let frame = timeout(SOON, body.frame()).await.expect("a frame in time")?;
        match frame.map(|frame| frame.into_data().unwrap()) {
            // HTTP/2 may end with a piece of nothing
            Ok(piece) if piece.is_empty() => {}
            other => return Some(other),
        }
    }
}

const EVENT: &[u8] = b"{\"type\":\"ADDED\",\"object\":{}}\n";

fn event() -> Result<Bytes, &'static str> {
    Ok(Bytes::from_static(EVENT))
}

const PODS: &str = "/api/v1/pods?limit=500&resourceVersion=0";

fn list() -> Response<Body> {
    json_answer(200, &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": []}))
}

#[tokio::test]
async fn a_request_goes_on_as_the_peers_user_and_with_nothing_else() {
    let script = |asked: &Asked| {
        let headers = [
            ("content-type", "application/json"),
            ("audit-id", "1"),
            ("set-cookie", "a=b"),
            ("www-authenticate", "Basic"),
            ("location", "/elsewhere"),
            ("server", "kube"),
        ];
        asked.path.contains("/pods").then(|| answer(200, &headers, whole("{}\n")))
    };
    let world = world_with(limits(), script).await;
    let of_west = of_west();
    let headers = [
        ("authorization", of_west.as_str()),
        ("accept", "application/vnd.kubernetes.protobuf,application/json"),
        ("user-agent", "pilot-discovery/1.30"),
        ("accept-encoding", "gzip"),
        ("cookie", "secret"),
        ("x-custom", "anything"),
        ("range", "bytes=0-1"),
    ];
    let client = world.client().await;
    for (method, body) in [(Method::GET, "{}\n"), (Method::HEAD, "")] {
        let response = client.whole(method.clone(), "/api/v1/pods?limit=5", &headers).await;
        assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, body.as_bytes()));
        let names: Vec<&str> = response.headers().keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "audit-id", "date"]);
        let asked = world.apiserver.asked().pop().unwrap();
        assert_eq!((&asked.method, asked.path.as_str()), (&method, "/api/v1/pods?limit=5"));
        let mut sent: Vec<_> =
            asked.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        sent.sort_unstable();
        let user = format!("istio-peer:{WEST}");
        let expected = [
            ("accept", "application/vnd.kubernetes.protobuf,application/json"),
            ("accept-encoding", "identity"),
            ("authorization", "Bearer of-the-role-0"),
            ("impersonate-group", "istio-peers"),
            ("impersonate-user", user.as_str()),
            ("user-agent", "pilot-discovery/1.30"),
        ];
        assert_eq!(sent, expected);
    }
}

#[tokio::test]
async fn every_bad_token_gets_the_same_answer_and_never_the_apiserver() {
    let world = world().await;
    let good = claims(WEST);
    let with = |change: fn(&mut Claims)| {
        let mut claims = good.clone();
        change(&mut claims);
        claims
    };
    let tokens = [
        String::new(),
        "Bearer x".to_owned(),
        "Basic eDp5".to_owned(),
        token(WEST_KEY, &claims(STRANGER), None),
        token(SOUTH_KEY, &good, Some("west-1")),
        token(SOUTH_KEY, &good, Some("south-1")),
        token(WEST_KEY, &good, Some("nobody")),
        // without a key id only the first key counts
        token(WEST_OLD, &good, None),
        token(WEST_KEY, &with(|claims| claims.scope = Scope::PrivateMulticluster), None),
        token(WEST_KEY, &with(|claims| claims.scope = Scope::PrivateFederation), None),
        token(WEST_KEY, &with(|claims| claims.exp = NOW - 61), None),
        token(WEST_KEY, &with(|claims| claims.nbf = NOW + 61), None),
        token(WEST_KEY, &with(|claims| claims.exp = NOW + 15 * 86_400), None),
        token(WEST_KEY, &with(|claims| claims.aud = STRANGER.to_owned()), None),
        token(WEST_KEY, &with(|claims| claims.iss = "other".to_owned()), None),
        // keys that open metadata and nothing else
        token(ENGINE, &good, Some("ci")),
        token(ENGINE, &claims(OWN), Some("own")),
    ];
    let client = world.client().await;
    let mut answers = Vec::new();
    for token in &tokens {
        let headers = [("authorization", token.as_str())];
        let headers = if token.is_empty() { &headers[..0] } else { &headers[..] };
        let response = client.whole(Method::GET, PODS, headers).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{token}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let mut headers = response.headers().clone();
        headers.remove("date");
        answers.push((headers, response.body().clone()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(world.apiserver.asked().is_empty());
    let records = world.sink.records();
    assert_eq!(records.len(), tokens.len());
    assert!(records.iter().all(|record| record["decision"] == "unauthorized" && record.get("peer").is_none()));
    // the old key is good under its own id
    let old = token(WEST_OLD, &good, Some("west-0"));
    assert_eq!(client.whole(Method::GET, PODS, &[("authorization", &old)]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_cluster_that_names_itself_as_a_peer_admits_itself_all_the_same_not() {
    let world = world().await;
    let own = json!({"name": "own", "clusterUUID": OWN, "keys": [authn("own", ENGINE, &["api"])], "namespaces": ["*"]});
    world.peers(&peers(&[own, south()]));
    let of_own = token(ENGINE, &claims(OWN), Some("own"));
    world.until(SOON, "the change", |_| true).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.get(PODS, &of_own).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.get(PODS, &of_south()).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_not_shared_never_reaches_the_apiserver() {
    let world = world().await;
    let client = world.client().await;
    let of_west = of_west();
    let cases: [(Method, &str, &[(&str, &str)], u16); 14] = [
        (Method::POST, "/api/v1/pods", &[], 405),
        (Method::DELETE, "/api/v1/namespaces/a/pods/b", &[], 405),
        (Method::HEAD, "/api/v1/pods?watch=true", &[], 405),
        (Method::GET, "/api/v1/namespaces/a/secrets/b", &[], 403),
        (Method::GET, "/api/v1/namespaces/a/configmaps", &[], 403),
        (Method::GET, "/api/v1/namespaces/a/pods/b/exec", &[], 403),
        (Method::GET, "/api/v1/namespaces/a/pods/b/log", &[], 403),
        (Method::GET, "/apis/apps/v1/deployments", &[], 403),
        (Method::GET, "/metrics", &[], 403),
        (Method::GET, "/api/v1/namespaces/a/pods/../secrets", &[], 400),
        (Method::GET, "/api/v1/pods?pretty=true", &[], 400),
        (Method::GET, "/api/v1/pods", &[("impersonate-user", "system:admin")], 400),
        (Method::GET, "/api/v1/pods", &[("x_remote_user", "system:admin")], 400),
        (Method::GET, "/api/v1/pods", &[("x-forwarded-for", "127.0.0.1")], 400),
    ];
    for (method, path, headers, status) in &cases {
        let headers: Vec<_> = headers.iter().copied().chain([("authorization", of_west.as_str())]).collect();
        let response = client.whole(method.clone(), path, &headers).await;
        assert_eq!(response.status().as_u16(), *status, "{method} {path} {headers:?}");
        if *method != Method::HEAD {
            let object: Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!((&object["kind"], &object["code"]), (&json!("Status"), &json!(status)));
        }
    }
    assert!(world.apiserver.asked().is_empty());
    let records = world.sink.records();
    assert_eq!(records.len(), cases.len());
    assert!(records.iter().all(|record| record["decision"] == "denied" && record["peer"] == "west"));
}

#[tokio::test]
async fn odd_answers_of_the_apiserver_do_not_reach_a_peer() {
    let script = |asked: &Asked| {
        let status = asked.path.strip_prefix("/api/v1/namespaces/a/pods/s")?.parse().ok()?;
        Some(answer(status, &[("location", "https://elsewhere.example/"), ("retry-after", "3")], whole("words")))
    };
    let world = world_with(limits(), script).await;
    let of_west = of_west();
    for (theirs, ours) in [
        (301, 502),
        (302, 502),
        (307, 502),
        (300, 502),
        (401, 503),
        (403, 403),
        (404, 404),
        (410, 410),
        (429, 429),
        (500, 500),
    ] {
        let response = world.get(&format!("/api/v1/namespaces/a/pods/s{theirs}"), &of_west).await;
        assert_eq!(response.status().as_u16(), ours, "{theirs}");
        assert!(response.headers().get("location").is_none());
        if ours == theirs {
            assert_eq!(response.body(), "words");
            assert_eq!(response.headers()["retry-after"], "3");
        }
    }
    // one request of ours for each of theirs
    assert_eq!(world.apiserver.asked().len(), 10);
}

#[tokio::test]
async fn a_peer_that_goes_loses_its_watches_and_no_other_does() {
    let world = world().await;
    let (west_client, south_client) = (world.client().await, world.client().await);
    let (by_west, by_old, by_south) = (of_west(), token(WEST_OLD, &claims(WEST), Some("west-0")), of_south());
    let mut new = join_all((0..20).map(|_| west_client.watch(&by_west))).await;
    let mut old = join_all((0..20).map(|_| west_client.watch(&by_old))).await;
    let mut south_watches = join_all((0..20).map(|_| south_client.watch(&by_south))).await;
    assert!(world.metrics.text().contains("isthmus_proxy_watches{peer=\"west\"} 40\n"));

    // the old key goes
    world.peers(&peers(&[west(&west_keys()[..1]), south()]));
    let begin = Instant::now();
    for watch in &mut old {
        assert!(next(watch.body_mut()).await.unwrap().is_err(), "an end would look like an answer");
    }
    assert!(begin.elapsed() < SOON);
    world.said.send(event()).unwrap();
    for watch in new.iter_mut().chain(&mut south_watches) {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }

    // the peer goes, and comes back with another key under the same id
    world.peers(&peers(&[south()]));
    for watch in &mut new {
        assert!(next(watch.body_mut()).await.unwrap().is_err());
    }
    assert_eq!(world.get(PODS, &by_west).await.status(), StatusCode::UNAUTHORIZED);
    world.peers(&peers(&[west(&[authn("west-1", WEST_OLD, &["api"])]), south()]));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.get(PODS, &by_west).await.status(), StatusCode::UNAUTHORIZED);
    world.said.send(event()).unwrap();
    for watch in &mut south_watches {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
    world.until(SOON, "giving places back", |world| world.metrics.text().contains("{peer=\"west\"} 0\n")).await;
    let ended = world.sink.records().into_iter().filter(|record| record["event"] == "ended");
    let reasons: Vec<_> =
        ended.map(|record| (record["peer"].clone(), record["reason"].clone(), record["bytes"].clone())).collect();
    assert_eq!(reasons.len(), 40);
    assert!(
        reasons
            .iter()
            .all(|(peer, reason, _)| peer == "west" && reason.as_str().unwrap().contains("no longer admitted"))
    );
    assert_eq!(reasons.iter().filter(|(_, _, bytes)| *bytes == EVENT.len()).count(), 20);
}

#[tokio::test]
async fn a_watch_that_breaks_is_an_error_and_one_that_ends_is_an_end() {
    let world = world().await;
    let client = world.client().await;
    let of_west = of_west();
    let half = || Ok(Bytes::from_static(&EVENT[..10]));

    let mut broken = client.watch(&of_west).await;
    world.said.send(half()).unwrap();
    assert_eq!(next(broken.body_mut()).await.unwrap().unwrap(), EVENT[..10]);
    world.said.send(Err("reset")).unwrap();
    assert!(next(broken.body_mut()).await.unwrap().is_err());

    let mut killed = client.watch(&of_west).await;
    world.said.send(event()).unwrap();
    assert_eq!(next(killed.body_mut()).await.unwrap().unwrap(), EVENT);
    world.apiserver.kill().await;
    assert!(next(killed.body_mut()).await.unwrap().is_err());
    let refused = world.get(PODS, &of_west).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    world.until(SOON, "not being ready", |world| !world.health.is_ready()).await;

    world.apiserver.revive().await;
    world.ready(Duration::from_secs(10)).await;
    let mut again = client.watch(&of_west).await;
    world.said.send(event()).unwrap();
    assert_eq!(next(again.body_mut()).await.unwrap().unwrap(), EVENT);
}

#[tokio::test]
async fn a_watch_lasts_no_longer_than_its_limit_and_its_token() {
    let world = world_with(Limits { watch: Duration::from_secs(600), ..limits() }, |_| None).await;
    let client = world.client().await;
    let asked_for = |path: &str| {
        let asked = world.apiserver.asked().into_iter().rev().find(|asked| asked.path.starts_with(path)).unwrap();
        let seconds =
            asked.path.split(['?', '&']).find_map(|pair| pair.strip_prefix("timeoutSeconds=").map(str::to_owned));
        seconds.unwrap().parse::<u64>().unwrap()
    };
    let short = token(WEST_KEY, &Claims { exp: NOW + 70, ..claims(WEST) }, None);
    for (authorization, wish, expected) in [
        (&of_west(), "", 600),
        (&of_west(), "&timeoutSeconds=30", 30),
        (&of_west(), "&timeoutSeconds=9999", 600),
        (&short, "", 70),
        (&short, "&timeoutSeconds=300", 70),
    ] {
        let path = format!("/api/v1/nodes?watch=true{wish}");
        let response = client.send(Method::GET, &path, &[("authorization", authorization)]).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(asked_for("/api/v1/nodes"), expected, "{wish}");
    }
    // what is made here ends by itself, and in good order
    let ending = token(WEST_KEY, &Claims { exp: NOW + 1, ..claims(WEST) }, None);
    let path =
        "/api/v1/secrets?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut secrets = client.send(Method::GET, path, &[("authorization", &ending)]).await;
    let bookmark = next(secrets.body_mut()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&bookmark).contains("\"k8s.io/initial-events-end\":\"true\""));
    let end = next(secrets.body_mut()).await;
    assert!(end.is_none(), "{end:?}");
    assert!(world.apiserver.asked().iter().all(|asked| !asked.path.contains("secrets")));
}

#[tokio::test]
async fn many_watches_are_spread_and_readers_that_take_nothing_hold_up_nobody() {
    let script = |asked: &Asked| {
        let floods = asked.path.starts_with("/api/v1/nodes");
        let line = format!("{{\"type\":\"ADDED\",\"object\":\"{}\"}}\n", "x".repeat(8000));
        floods.then(|| answer(200, &[("content-type", "application/json")], flood(Bytes::from(line))))
    };
    let limits = Limits { watches_per_peer: 250, stall: Duration::from_secs(2), ..limits() };
    let world = world_with(limits, script).await;
    let before = world.apiserver.connections();
    let (first, second) = (world.client().await, world.client().await);
    let of_west = of_west();
    let nodes = "/api/v1/nodes?watch=true";
    let authorized = [("authorization", of_west.as_str())];
    let mut stalled = join_all((0..10).map(|_| first.send(Method::GET, nodes, &authorized))).await;
    let mut watches = join_all((0..240).map(|n| if n < 120 { &first } else { &second }.watch(&of_west))).await;
    assert!(watches.iter().all(|watch| watch.status() == StatusCode::OK));
    let opened = world.apiserver.connections() - before;
    assert!((2..=3).contains(&opened), "{opened}");
    let one_more = second.watch(&of_west).await;
    assert_eq!(one_more.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(one_more.headers().contains_key("retry-after"));

    sleep(Duration::from_millis(300)).await;
    let begin = Instant::now();
    world.said.send(event()).unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // readers that take nothing are cut off, with an error after what they had been sent
    world
        .until(Duration::from_secs(6), "cutting off", |world| world.metrics.text().contains("{peer=\"west\"} 240\n"))
        .await;
    for watch in &mut stalled {
        let end = loop {
            match next(watch.body_mut()).await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(end.is_some_and(|end| end.is_err()), "a stream that was cut looked whole");
    }
    assert_eq!(second.watch(&of_west).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn addresses_and_peers_may_ask_so_often_and_no_more() {
    let limits = Limits { rate_per_peer: Rate { per_second: 1, burst: 5 }, ..limits() };
    let world = world_with(limits, |asked| asked.path.contains("/pods").then(list)).await;
    let client = world.client().await;
    let (west_token, south_token) = (of_west(), of_south());
    let ask = async |authorization: &str| client.whole(Method::GET, PODS, &[("authorization", authorization)]).await;
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(ask(&west_token).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    assert!(ask(&west_token).await.headers().contains_key("retry-after"));
    assert_eq!(ask(&south_token).await.status(), StatusCode::OK);
    let record = world.sink.records().into_iter().find(|record| record["status"] == 429).unwrap();
    assert_eq!((&record["decision"], &record["peer"]), (&json!("limited"), &json!("west")));

    // before any token is looked at
    let limits = Limits { rate_per_address: Rate { per_second: 1, burst: 3 }, ..self::limits() };
    let world = world_with(limits, |_| None).await;
    let client = world.client().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.whole(Method::GET, PODS, &[]).await.status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
}

#[tokio::test]
async fn a_token_that_is_replaced_all_the_time_is_never_empty_and_none_is_503() {
    let world = world_with(limits(), |asked| asked.path.contains("/pods").then(list)).await;
    let client = world.client().await;
    let of_west = of_west();
    let authorized = [("authorization", of_west.as_str())];
    let begin = Instant::now();
    let mut number = 0;
    while begin.elapsed() < Duration::from_secs(3) {
        number += 1;
        let next = world.token_file.with_extension("next");
        std::fs::write(&next, format!("of-the-role-{number}")).unwrap();
        std::fs::rename(&next, &world.token_file).unwrap();
        let answers = join_all((0..5).map(|_| client.whole(Method::GET, PODS, &authorized))).await;
        assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
        sleep(Duration::from_millis(10)).await;
    }
    let sent: Vec<usize> = world
        .apiserver
        .asked()
        .iter()
        .map(|asked| {
            asked.headers["authorization"]
                .to_str()
                .unwrap()
                .strip_prefix("Bearer of-the-role-")
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(sent.len() > 100 && sent.is_sorted() && *sent.last().unwrap() > 0, "{sent:?}");

    std::fs::write(&world.token_file, " \n").unwrap();
    world.until(SOON, "noticing", |world| !world.health.is_ready()).await;
    let before = world.apiserver.asked().len();
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.apiserver.asked().len(), before, "nothing is asked without a token");
    std::fs::write(&world.token_file, "of-the-role-9999").unwrap();
    world.ready(SOON).await;
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn nothing_is_answered_that_is_not_recorded_first() {
    let world = world_with(limits(), |asked| asked.path.contains("/pods").then(list)).await;
    let of_west = of_west();
    assert_eq!(world.get("/api/v1/namespaces/shop/pods?limit=5", &of_west).await.status(), StatusCode::OK);
    // the record is there when the answer is
    let records = world.sink.records();
    let time = jiff::Timestamp::from_second(NOW).unwrap().to_string();
    let expected = json!({
        "time": time, "event": "answered", "id": 0, "source": "127.0.0.1", "peer": "west", "clusterUUID": WEST,
        "keyID": "west-1", "method": "GET", "verb": "list", "group": "", "version": "v1", "resource": "pods",
        "namespace": "shop", "decision": "allowed", "status": 200, "milliseconds": records[0]["milliseconds"],
    });
    assert_eq!(records, [expected]);
    assert!(!String::from_utf8(world.sink.lines.lock().unwrap().clone()).unwrap().contains("Bearer"));

    world.sink.broken.store(true, Ordering::SeqCst);
    for authorization in [of_west.as_str(), "Bearer x"] {
        let response = world.get(PODS, authorization).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!String::from_utf8_lossy(response.body()).contains("PodList"));
    }
    world.sink.broken.store(false, Ordering::SeqCst);
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::OK);
    let text = world.metrics.text();
    let line = "isthmus_proxy_requests_total{peer=\"west\",decision=\"allowed\",code=\"200\"} 2\n";
    assert!(text.contains(line), "{text}");
    let used =
        format!("isthmus_proxy_credential_last_used_seconds{{cluster_uuid=\"{WEST}\",key_id=\"west-1\"}} {NOW}\n");
    assert!(text.contains(&used), "{text}");
}

#[tokio::test]
async fn until_the_cluster_is_known_nobody_is_judged_and_a_broken_file_changes_nothing() {
    let world = unknowing(limits(), |asked| asked.path.contains("/pods").then(list)).await;
    let of_west = of_west();
    let response = world.get(PODS, &of_west).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    assert!(!world.health.is_ready());
    world.identity();
    // a cluster without peers is ready and admits nobody
    world.ready(Duration::from_secs(10)).await;
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::UNAUTHORIZED);
    world.peers(&peers(&[west(&west_keys())]));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::OK);
    for broken in ["{", "", "{\"version\":2}"] {
        world.peers(broken);
        world.until(SOON, "noticing", |world| !world.health.is_ready()).await;
        assert_eq!(world.health.failing()[0].0, "peers");
        assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::OK, "the last good file counts");
        world.peers(&peers(&[west(&west_keys())]));
        world.ready(SOON).await;
    }
    world.apiserver.config_map(NAMESPACE, "isthmus-peers", None);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_service_does_not_show_the_label_that_would_make_it_a_gateway() {
    let script = |asked: &Asked| {
        let body = "{\"items\":[{\"metadata\":{\"labels\":{\"topology.istio.io/network\":\"n\"}}}]}\n";
        asked
            .path
            .starts_with("/api/v1/services")
            .then(|| answer(200, &[("content-type", "application/json")], whole(body)))
    };
    let world = world_with(limits(), script).await;
    let of_west = of_west();
    let headers =
        [("authorization", of_west.as_str()), ("accept", "application/vnd.kubernetes.protobuf,application/json")];
    let response = world.client().await.whole(Method::GET, "/api/v1/services", &headers).await;
    assert!(!String::from_utf8_lossy(response.body()).contains("topology.istio.io/network"));
    assert_eq!(world.apiserver.asked()[0].headers["accept"], "application/json");
}

#[tokio::test]
async fn a_proxy_that_ends_lets_its_watches_end_in_good_order() {
    let limits = Limits { drain: Duration::from_secs(3), ..limits() };
    let world = world_with(limits, |_| None).await;
    let client = world.client().await;
    let of_west = of_west();
    let mut watches = join_all((0..20).map(|_| client.watch(&of_west))).await;
    world.said.send(event()).unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
    let World { running, _stop: stop, apiserver, .. } = world;
    let begin = Instant::now();
    stop.request();
    let stopped = tokio::spawn(running.stop());
    for watch in &mut watches {
        let end = next(watch.body_mut()).await;
        assert!(end.is_none(), "{end:?}");
    }
    stopped.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    drop(apiserver);
}
