//! The relay: a key that is born once, certificates for the roles, and istiod's way to its peers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use isthmus::roles::relay::{Relay, RelayOptions, start_with};
use isthmus::roles::role::{Role, RoleError, Service, StopSignal};
use isthmus::server::limits::RoleLimits;
use isthmus::server::telemetry::{Metrics, Readiness};
use isthmus::server::{Bound, Running};
use isthmus::types::key::PublicKey;
use isthmus::types::name::Namespace;
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Expectation, Scope, Verified, verify};
use isthmus::wire::identity::Identity;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::support::objects::ObjectServer;
use crate::support::peer::{Ca, Peer, PeerStep, answer, json as json_answer};

const NAMESPACES: &str = "/api/v1/namespaces";
const SECRETS: &str = "/api/v1/namespaces/istio-system/secrets";
const MAPS: &str = "/api/v1/namespaces/istio-system/configmaps";
const OWN: &str = "2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31";
const WEST: &str = "7c1de4a2-93b5-4b0c-8a53-5b2a4e0f7d10";
const EVERY: Duration = Duration::from_millis(100);
const EVENT: &str = "{\"type\":\"ADDED\",\"object\":{}}\n";
const ENTRIES: &str = "/apis/networking.istio.io/v1/workloadentries";

async fn apiserver() -> ObjectServer {
    let apiserver = ObjectServer::start().await;
    apiserver.put(NAMESPACES, json!({ "metadata": { "name": "kube-system", "uid": OWN } }));
    let labels = json!({ "topology.istio.io/network": "network-east" });
    apiserver.put(NAMESPACES, json!({ "metadata": { "name": "istio-system", "uid": WEST, "labels": labels } }));
    let mesh = json!({ "mesh": "trustDomain: east.example\n" });
    apiserver.put(MAPS, json!({ "metadata": { "name": "istio" }, "data": mesh }));
    apiserver
}

/// A relay that runs.
struct RunningRelay {
    health: Readiness,
    metrics: Metrics,
    address: SocketAddr,
    ca: String,
    _stop: StopSignal,
    _running: Running,
}

fn role(apiserver: &ObjectServer) -> (Role, StopSignal) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let limits = RoleLimits {
        watches_per_peer: 2,
        drain: Duration::from_millis(100),
        list: Duration::from_secs(3),
        ..RoleLimits::of_relay()
    };
    Role::new(Namespace::istio_system(), limits, apiserver.access())
}

fn options() -> RelayOptions {
    RelayOptions {
        exporter_hosts: vec!["metadata.east.example.com".to_owned(), "203.0.113.7".to_owned()],
        proxy_hosts: vec!["api.east.example.com".to_owned()],
        ..RelayOptions::default()
    }
}

async fn start(apiserver: &ObjectServer, options: RelayOptions) -> RunningRelay {
    start_limited(apiserver, options, |limits| limits).await
}

async fn start_limited(
    apiserver: &ObjectServer,
    options: RelayOptions,
    limit: impl FnOnce(RoleLimits) -> RoleLimits,
) -> RunningRelay {
    let (mut role, stop) = role(apiserver);
    role.limits = limit(role.limits);
    let (health, metrics, limits) = (role.health.clone(), role.metrics.clone(), role.limits.clone());
    let started: Result<Service<Relay>, RoleError> =
        timeout(Duration::from_secs(20), start_with(role, options, EVERY)).await.unwrap();
    let service = started.unwrap();
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = bound.address();
    let running = bound.serve(&service.certificates, limits.server(true), service.handler);
    let ca = identity(apiserver).map(|identity| identity.relay_ca.unwrap()).unwrap_or_default();
    let ran = RunningRelay { health, metrics, address, ca, _stop: stop, _running: running };
    until("the relay to be ready", || ran.health.is_ready()).await;
    ran
}

impl RunningRelay {
    fn client(&self) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(self.ca.as_bytes()).unwrap();
        let name = "isthmus-relay.istio-system.svc";
        reqwest::Client::builder().tls_certs_only([ca]).resolve(name, self.address).build().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://isthmus-relay.istio-system.svc:{}{path}", self.address.port())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self.client().get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < end, "waited for {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn identity(apiserver: &ObjectServer) -> Option<Identity> {
    let map = apiserver.get(MAPS, "isthmus-identity")?;
    Some(Identity::parse(map["data"]["identity.json"].as_str().unwrap().as_bytes()).unwrap())
}

fn data(secret: &Value, field: &str) -> String {
    String::from_utf8(BASE64_STANDARD.decode(secret["data"][field].as_str().unwrap()).unwrap()).unwrap()
}

fn routes(apiserver: &ObjectServer, routes: &[(&str, SocketAddr, &str)]) {
    routes_of(OWN, apiserver, routes);
}

/// Routes that were rendered for the cluster of this UUID.
fn routes_of(cluster: &str, apiserver: &ObjectServer, routes: &[(&str, SocketAddr, &str)]) {
    let route = |(id, address, ca): &(&str, SocketAddr, &str)| json!({ "clusterID": id, "clusterUUID": WEST, "apiHost": format!("127.0.0.1:{}", address.port()), "apiCA": ca, "allow": ["127.0.0.0/8"] });
    let file = json!({ "version": 1, "clusterUUID": cluster, "routes": routes.iter().map(route).collect::<Vec<_>>() })
        .to_string();
    apiserver.put(MAPS, json!({ "metadata": { "name": "isthmus-routes" }, "data": { "routes.json": file } }));
}

/// A route to west, whose network was reviewed or is not known.
fn route_in(network: Option<&str>, apiserver: &ObjectServer, west: &Peer, ca: &Ca) {
    let mut route = json!({ "clusterID": "west", "clusterUUID": WEST, "apiHost": format!("127.0.0.1:{}", west.address.port()),
        "apiCA": ca.pem, "allow": ["127.0.0.0/8"] });
    if let Some(network) = network {
        route["network"] = json!(network);
    }
    let file = json!({ "version": 1, "clusterUUID": OWN, "routes": [route] }).to_string();
    apiserver.put(MAPS, json!({ "metadata": { "name": "isthmus-routes" }, "data": { "routes.json": file } }));
}

/// Judges the token of a request's head as a peer's api-proxy does.
fn judged(head: &str, key: &PublicKey) -> Verified {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let values: Vec<&str> =
        lines.filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).map(|(_, v)| v).collect();
    let now = Timestamp::from(jiff::Timestamp::now());
    let expected = Expectation { audience: WEST, scope: Scope::Api, now, max_lifetime: Scope::Api.max_lifetime() };
    let id = key.id();
    verify(&values, &expected, &move |sub: &str, kid: Option<&str>| {
        assert_eq!((sub, kid), (OWN, Some(id.as_str())));
        vec![key.clone()]
    })
    .unwrap()
}

fn path_of(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

const API_VERSIONS: &str = r#"{"kind":"APIVersions","versions":["v1"]}"#;

/// A peer that answers `GET /api` as an apiserver, and all else by the script.
async fn peer(ca: &Ca, script: impl Fn(&str) -> Vec<PeerStep> + Send + Sync + 'static) -> Peer {
    let answers = move |head: &str| if path_of(head) == "/api" { json_answer(API_VERSIONS) } else { script(head) };
    Peer::start(&ca.serving(&["127.0.0.1"]), answers).await
}

fn up(metrics: &Metrics, id: &str) -> Option<String> {
    let begin = format!("isthmus_relay_route_up{{cluster_id=\"{id}\",");
    metrics.text().lines().find_map(|line| line.strip_prefix(&begin).map(str::to_owned))
}

#[tokio::test]
async fn two_relays_that_begin_together_have_one_key() {
    let apiserver = apiserver().await;
    let mesh = json!({ "mesh": "trustDomain: canary.example\n" });
    apiserver.put(MAPS, json!({ "metadata": { "name": "istio-canary" }, "data": mesh }));
    let canary = || RelayOptions { revisions: vec!["canary".parse().unwrap()], ..options() };
    let (one, two) = tokio::join!(start(&apiserver, canary()), start(&apiserver, canary()));
    let requests = apiserver.requests();
    assert!(!requests.iter().any(|request| request.starts_with("DELETE") || request == &format!("GET {SECRETS}")));
    assert!(!requests.iter().any(|request| request == &format!("PUT {SECRETS}/isthmus-authn")));

    let secret = apiserver.get(SECRETS, "isthmus-authn").unwrap();
    assert_eq!(secret["metadata"]["labels"]["isthmus.dev/owner"], "cluster");
    assert!(data(&secret, "key.pem").starts_with("-----BEGIN ED25519 PRIVATE KEY-----"));
    let identity = identity(&apiserver).unwrap();
    assert_eq!(identity.cluster_uuid.unwrap().as_str(), OWN);
    assert_eq!(identity.trust_domain.unwrap().as_str(), "canary.example");
    assert_eq!(identity.network.unwrap().as_str(), "network-east");
    assert_eq!(identity.serving_ca.as_deref(), Some(data(&secret, "ca.crt").as_str()));
    let key = isthmus::types::key::PrivateKey::from_pem(&data(&secret, "key.pem")).unwrap();
    assert_eq!(identity.keys[0].pem, *key.public());
    // nothing is read that is not of its revision, since its rights name that one
    assert!(requests.iter().any(|request| request == &format!("GET {MAPS}/istio-canary")));
    assert!(!requests.iter().any(|request| request == &format!("GET {MAPS}/istio")));
    // both serve with the certificate of the one CA
    for ran in [&one, &two] {
        assert_eq!(ran.get("/to/west/api").await.0, 404);
    }
    for (name, hosts) in [("isthmus-exporter-tls", 4), ("isthmus-proxy-tls", 3)] {
        let secret = apiserver.get(SECRETS, name).unwrap();
        assert_eq!((&secret["type"], data(&secret, "ca.crt")), (&json!("kubernetes.io/tls"), one.ca.clone()));
        let (_, pem) = x509_parser::pem::parse_x509_pem(data(&secret, "tls.crt").as_bytes()).unwrap();
        let names = pem.parse_x509().unwrap().subject_alternative_name().unwrap().unwrap().value.general_names.len();
        assert_eq!(names, hosts, "{name}");
    }
    let everything = format!("{} {:?}", one.metrics.text(), one.health.failing());
    assert!(!everything.contains("PRIVATE KEY"));
}

/// A peer sends no more of an answer than this in the time to the relay and back, so a long list of a peer on another continent
/// takes as many such times as it has windows.
#[tokio::test]
async fn a_peer_that_is_far_away_may_send_much_ahead() {
    let apiserver = apiserver().await;
    let ca = Ca::new("proxy");
    let serving = ca.serving(&["127.0.0.1"]);
    let chain = CertificateDer::pem_slice_iter(serving.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut tls = tls.with_no_client_auth().with_single_cert(chain, key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    routes(&apiserver, &[("west", listener.local_addr().unwrap(), &ca.pem)]);
    let _relay = start(&apiserver, options()).await;

    let (stream, _) = timeout(Duration::from_secs(15), listener.accept()).await.unwrap().unwrap();
    let mut stream = TlsAcceptor::from(Arc::new(tls)).accept(stream).await.unwrap();
    // RFC 9113: the preface (3.4), then the header of a frame (4.1) of settings (6.5), of two and four bytes each
    let mut begin = [0; 24 + 9];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(begin[27], 4, "the type of SETTINGS");
    let mut settings = vec![0; usize::from(begin[26])];
    stream.read_exact(&mut settings).await.unwrap();
    let window = settings.chunks_exact(6).find(|setting| setting[..2] == [0, 4]).expect("INITIAL_WINDOW_SIZE");
    assert_eq!(u32::from_be_bytes(window[2..].try_into().unwrap()), 1024 * 1024);
}

#[tokio::test]
async fn a_broken_secret_is_reported_and_left_as_it_is() {
    let apiserver = apiserver().await;
    let broken =
        json!({ "metadata": { "name": "isthmus-authn" }, "data": { "key.pem": BASE64_STANDARD.encode("c2VjcmV0") } });
    apiserver.put(SECRETS, broken);
    let before = apiserver.get(SECRETS, "isthmus-authn");
    let (role, stop) = role(&apiserver);
    let (health, begun) = (role.health.clone(), tokio::spawn(start_with(role, options(), EVERY)));
    let key_problem = |health: &Readiness| health.failing().into_iter().find(|(name, _)| *name == "key").unwrap().1;
    until("the words", || health.failing().len() == 3 && key_problem(&health).contains("broken")).await;
    let problem = key_problem(&health);
    assert!(
        problem.contains("Secret `isthmus-authn` is broken: `key.pem`") && problem.contains("put it back"),
        "{problem}"
    );
    assert!(!problem.contains("c2VjcmV0"), "{problem}");
    assert_eq!(apiserver.get(SECRETS, "isthmus-authn"), before);
    assert!(apiserver.get(MAPS, "isthmus-identity").is_none());
    stop.request();
    assert!(matches!(begun.await.unwrap(), Err(RoleError::Ended)));
}

#[tokio::test]
async fn what_others_change_is_put_right_and_what_is_not_ours_is_left_alone() {
    let apiserver = apiserver().await;
    let foreign = json!({ "metadata": { "name": "isthmus-proxy-tls" }, "type": "kubernetes.io/tls", "data": {} });
    apiserver.put(SECRETS, foreign);
    let ran = start(&apiserver, options()).await;
    let of = |name: &str| apiserver.get(SECRETS, name).map(|secret| secret["data"].clone());
    let (authn, leaf) = (of("isthmus-authn"), of("isthmus-exporter-tls"));

    let mut map = apiserver.get(MAPS, "isthmus-identity").unwrap();
    let written = map["data"].clone();
    map["data"] = json!({ "identity.json": "{}" });
    apiserver.put(MAPS, map);
    until("the identity", || apiserver.get(MAPS, "isthmus-identity").unwrap()["data"] == written).await;
    apiserver.delete(MAPS, "isthmus-identity");
    until("the identity", || apiserver.get(MAPS, "isthmus-identity").is_some()).await;
    // a key that was deleted is the same afterwards
    apiserver.delete(SECRETS, "isthmus-authn");
    until("the key", || of("isthmus-authn").is_some()).await;
    assert_eq!(of("isthmus-authn"), authn);
    // what is good is not issued again
    assert_eq!(of("isthmus-exporter-tls"), leaf);
    assert_eq!(of("isthmus-proxy-tls"), Some(json!({})));
    assert!(ran.health.is_ready());
    // nothing is written while nothing changes
    sleep(EVERY * 3).await;
    let writes = |requests: Vec<String>| requests.iter().filter(|r| !r.starts_with("GET")).count();
    let before = writes(apiserver.requests());
    sleep(EVERY * 5).await;
    assert_eq!(writes(apiserver.requests()), before);
    // a relay that has its key continues while the apiserver fails
    apiserver.break_down(Some("/api"));
    sleep(EVERY * 5).await;
    assert!(ran.health.is_ready(), "{:?}", ran.health.failing());
    apiserver.break_down(None);

    // other hosts: another certificate, by the same CA
    let hosts = RelayOptions { exporter_hosts: vec!["elsewhere.example.com".to_owned()], ..options() };
    let again = start(&apiserver, hosts).await;
    assert_eq!(again.ca, ran.ca);
    until("another certificate", || of("isthmus-exporter-tls") != leaf).await;
}

#[tokio::test]
async fn a_request_reaches_its_peer_with_our_token_and_nothing_else_of_istiod() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let west = peer(&ca, |head| match path_of(head) {
        "/api/v1/pods" => json_answer(r#"{"kind":"PodList","items":[]}"#),
        "/api/v1/services" => answer("302 Found", "location: https://127.0.0.1/\r\n", ""),
        _ => answer("401 Unauthorized", "set-cookie: a=b\r\ncontent-type: application/json\r\n", "{}"),
    })
    .await;
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    let ran = start(&apiserver, options()).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    let host = format!("api_host=\"127.0.0.1:{}\",reason=\"\"}} 1", west.address.port());
    assert_eq!(up(&ran.metrics, "west").unwrap(), host);

    let sent = ran.client().get(ran.url("/to/west/api/v1/pods?limit=500"));
    let sent =
        sent.header("authorization", "Bearer istiods-own").header("cookie", "a=b").header("accept", "application/json");
    let response = sent.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.text().await.unwrap()),
        (200, r#"{"kind":"PodList","items":[]}"#.to_owned())
    );
    let key = identity(&apiserver).unwrap().keys[0].pem.clone();
    for head in west.requests() {
        let verified = judged(&head, &key);
        assert!(verified.claims.exp.since(verified.claims.nbf) == Duration::from_mins(45), "{:?}", verified.claims);
        assert!(!head.contains("istiods-own") && !head.contains("cookie"), "{head}");
    }

    let (status, _) = ran.get("/to/west/api/v1/nodes").await;
    assert_eq!(status, 401);
    assert_eq!(ran.get("/to/west/api/v1/services").await.0, 502);
    let seen = west.requests().len();
    for (path, status) in [
        ("/to/nowhere/api", 404),
        ("/to/west", 404),
        ("/", 404),
        ("/to/west/api/v1%2fpods", 400),
        ("/to/west//api", 400),
    ] {
        let (found, body) = ran.get(path).await;
        assert_eq!(found, status, "{path}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["kind"], "Status", "{path}");
    }
    let refused = ran.client().get(ran.url("/to/west/api/v1/pods")).header("impersonate-user", "admin").send().await;
    assert_eq!(refused.unwrap().status().as_u16(), 400);
    let posted = ran.client().post(ran.url("/to/west/api/v1/pods")).send().await.unwrap();
    assert_eq!(posted.status().as_u16(), 405);
    assert_eq!(west.requests().len(), seen);
    assert!(ran.metrics.text().contains("isthmus_relay_requests_total{cluster_id=\"west\",code=\"200\"} 1"));
}

#[tokio::test]
async fn lists_that_a_peer_refuses_are_answered_empty() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let forbidden = r#"{"kind":"Status","status":"Failure","code":403}"#;
    let west = peer(&ca, move |_| answer("403 Forbidden", "content-type: application/json\r\n", forbidden)).await;
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    let ran = start(&apiserver, options()).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    let secrets = "/to/west/api/v1/secrets?fieldSelector=type!%3Dhelm.sh%2Frelease.v1";
    for (path, kind) in [
        (secrets, "SecretList"),
        ("/to/west/api/v1/namespaces/d8-istio/configmaps?fieldSelector=metadata.name%3Distio-v1x25", "ConfigMapList"),
        ("/to/west/apis/gateway.networking.k8s.io/v1/gateways?limit=500", "GatewayList"),
    ] {
        let (status, body) = ran.get(path).await;
        let list: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, list["kind"].as_str().unwrap()), (200, kind), "{path}");
        assert!(list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().is_ok());
        assert_eq!(list["items"], json!([]));
    }
    // what istiod does not wait for stays refused
    assert_eq!(ran.get("/to/west/api/v1/pods").await.0, 403);
    assert_eq!(ran.get("/to/west/api/v1/namespaces/default/secrets/one").await.0, 403);

    let watch = format!(
        "{secrets}&watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let begin = Instant::now();
    let (status, events) = ran.get(&watch).await;
    assert_eq!(status, 200);
    let event: Value = serde_json::from_str(events.trim()).unwrap();
    assert_eq!(event["type"], "BOOKMARK");
    assert_eq!(event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    // it idles for as long as istiod asks, and then ends in order
    assert!(begin.elapsed() >= Duration::from_secs(1) && begin.elapsed() < Duration::from_secs(5));

    // an api-proxy of a version before asks for gateways with a right that it has no more: whoever watched them from a version
    // of the apiserver lists them again, as empty
    let watch =
        "/to/west/apis/gateway.networking.k8s.io/v1/gateways?watch=true&resourceVersion=123456&timeoutSeconds=1";
    let (status, events) = ran.get(watch).await;
    let event: Value = serde_json::from_str(events.trim()).unwrap();
    assert_eq!((status, &event["type"], &event["object"]["code"]), (200, &json!("ERROR"), &json!(410)));
}

#[tokio::test]
async fn a_marked_version_that_a_peer_does_not_know_any_more_is_expired() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let invalid = r#"{"kind":"Status","status":"Failure","code":400}"#;
    let west = peer(&ca, move |_| answer("400 Bad Request", "content-type: application/json\r\n", invalid)).await;
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    let ran = start(&apiserver, options()).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    let pods = "/to/west/api/v1/pods?resourceVersion=";
    let marked = "790000000000000000000";
    let (status, event) = ran.get(&format!("{pods}{marked}&watch=true")).await;
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!((status, &event["type"], &event["object"]["code"]), (200, &json!("ERROR"), &json!(410)));
    assert_eq!(ran.get(&format!("{pods}{marked}")).await.0, 410);
    for plain in ["7", "0", ""] {
        assert_eq!(ran.get(&format!("{pods}{plain}&watch=true")).await.0, 400);
    }
}

#[tokio::test]
async fn a_kind_that_a_peer_does_not_serve_yet_is_asked_for_again() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let asked = Arc::new(Mutex::new(0));
    let west = peer(&ca, move |head| {
        if path_of(head) == "/api" {
            return answer("404 Not Found", "", "");
        }
        *asked.lock().unwrap() += 1;
        match *asked.lock().unwrap() {
            1 => answer("404 Not Found", "content-type: text/plain\r\n", "404 page not found\n"),
            _ => json_answer("{\"type\":\"ADDED\",\"object\":{}}\n"),
        }
    })
    .await;
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    let ran = start(&apiserver, options()).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    // an empty list would have istiod wait for changes of what it never read
    let entries = "/to/west/apis/networking.istio.io/v1/workloadentries?watch=true&sendInitialEvents=true";
    assert_eq!(ran.get(entries).await.0, 404);
    assert_eq!(ran.get(entries).await.0, 200);
}

#[tokio::test]
async fn a_watch_and_a_list_wait_for_a_peer_that_is_away_and_nothing_else_does() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let asked = Arc::new(Mutex::new(0));
    let west = peer(&ca, move |head| {
        if path_of(head) == "/api" {
            return answer("404 Not Found", "", "");
        }
        *asked.lock().unwrap() += 1;
        // a load balancer without a backend, a connection that breaks, and then the peer
        match *asked.lock().unwrap() % 3 {
            1 => answer("503 Service Unavailable", "", "no healthy upstream"),
            2 => vec![PeerStep::Close],
            _ if path_of(head).contains("watch") => json_answer(EVENT),
            _ => json_answer("{\"items\":[]}"),
        }
    })
    .await;
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    let ran = start(&apiserver, options()).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    for (path, given) in
        [("/to/west/api/v1/pods?watch=true&timeoutSeconds=60", EVENT), ("/to/west/api/v1/pods", "{\"items\":[]}")]
    {
        let begin = Instant::now();
        assert_eq!(ran.get(path).await, (200, given.to_owned()), "{path}");
        assert!(begin.elapsed() >= Duration::from_secs(2) && begin.elapsed() < Duration::from_secs(4));
    }
    assert_eq!(ran.get("/to/west/api/v1/namespaces/a/pods/b").await.0, 503);
    assert_eq!(west.requests().iter().filter(|head| path_of(head) != "/api").count(), 7);

    // it waits for no longer than it was to last, and not for a route that has gone
    routes(&apiserver, &[("west", "127.0.0.1:1".parse().unwrap(), &ca.pem)]);
    until("the route", || up(&ran.metrics, "west").is_some_and(|shown| shown.contains("cannot connect"))).await;
    let begin = Instant::now();
    assert_eq!(ran.get("/to/west/api/v1/pods?watch=true&timeoutSeconds=2").await.0, 503);
    assert!(begin.elapsed() >= Duration::from_secs(1) && begin.elapsed() < Duration::from_secs(3));
    let waiting = ran.client().get(ran.url("/to/west/api/v1/pods?watch=true")).send();
    let waiting = tokio::spawn(waiting);
    sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished());
    routes(&apiserver, &[]);
    let answer = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status().as_u16(), 503);
}

/// A 504 is what something waited for in vain: asked each second, a slow apiserver would have ever more to do.
#[tokio::test]
async fn a_peer_that_is_late_is_asked_less_and_less() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let west = peer(&ca, |head| match path_of(head) {
        "/api" => answer("404 Not Found", "", ""),
        _ => answer("504 Gateway Timeout", "", ""),
    })
    .await;
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    let ran = start(&apiserver, options()).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    assert_eq!(ran.get("/to/west/api/v1/pods?watch=true&timeoutSeconds=5").await.0, 504);
    // at once, after one second and after two more
    assert_eq!(west.requests().iter().filter(|head| path_of(head) != "/api").count(), 3);
}

#[tokio::test]
async fn a_peer_that_is_down_is_a_503_and_a_metric() {
    let (apiserver, ca, other) = (apiserver().await, Ca::new("west"), Ca::new("another"));
    let html =
        Peer::start(&ca.serving(&["127.0.0.1"]), |_| answer("200 OK", "content-type: text/html\r\n", "<html>")).await;
    let down: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let routed = [
        ("down", down, &*ca.pem),
        ("wrong", html.address, &other.pem),
        ("html", html.address, &ca.pem),
        ("bad", down, "no PEM"),
    ];
    routes(&apiserver, &routed);
    let ran = start(&apiserver, options()).await;
    for (id, reason) in [
        ("down", "cannot connect"),
        ("wrong", "TLS failed"),
        ("html", "no apiserver"),
        ("bad", "its CA cannot be used"),
    ] {
        until("the metric", || up(&ran.metrics, id).is_some()).await;
        let shown = up(&ran.metrics, id).unwrap();
        assert!(shown.ends_with(&format!("reason=\"{reason}\"}} 0")), "{shown}");
        if id != "html" {
            let (status, body) = ran.get(&format!("/to/{id}/api/v1/pods")).await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &body["reason"]), (503, &json!("ServiceUnavailable")), "{id}");
            assert!(body["message"].as_str().unwrap().contains(reason), "{body}");
        }
    }
    // nothing of a token was shown to whoever could not be trusted
    assert!(html.requests().iter().all(|head| path_of(head) == "/api"));
    // the peer comes up
    let west = peer(&ca, |_| answer("404 Not Found", "", "")).await;
    routes(&apiserver, &[("down", west.address, &ca.pem)]);
    until("the metric", || up(&ran.metrics, "down").is_some_and(|shown| shown.ends_with("reason=\"\"} 1"))).await;
    assert!(up(&ran.metrics, "wrong").is_none(), "{}", ran.metrics.text());
    assert!(!ran.metrics.text().contains("cluster_id=\"html\",api_host"));
    // routes that cannot be read leave those that are known
    let broken = json!({ "metadata": { "name": "isthmus-routes" }, "data": { "routes.json": "{" } });
    apiserver.put(MAPS, broken);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(ran.get("/to/down/api/v1/pods").await.0, 404);
    assert!(ran.health.is_ready());
}

/// A rebuilt cluster into which its old folder is synced: the old remote secrets lead nowhere.
#[tokio::test]
async fn routes_that_were_rendered_for_another_cluster_are_refused() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let west = peer(&ca, |_| answer("404 Not Found", "", "")).await;
    let ran = start(&apiserver, options()).await;
    routes_of(WEST, &apiserver, &[("west", west.address, &ca.pem)]);
    sleep(Duration::from_millis(300)).await;
    assert!(up(&ran.metrics, "west").is_none());
    assert!(west.requests().is_empty(), "{:?}", west.requests());
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    // a folder that is synced into the wrong cluster takes nothing away
    routes_of(WEST, &apiserver, &[]);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(ran.get("/to/west/api/v1/pods").await.0, 404);
}

#[tokio::test]
async fn watches_are_counted_and_end_when_their_route_changes() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let event = EVENT;
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n",
        event.len()
    );
    let watched = move |_: &str| vec![PeerStep::Send(chunked.clone().into_bytes()), PeerStep::Hang];
    let (first, second) = (peer(&ca, watched.clone()).await, peer(&ca, watched).await);
    routes(&apiserver, &[("west", first.address, &ca.pem), ("south", first.address, &ca.pem)]);
    let ran = start(&apiserver, options()).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    let client = ran.client();
    let watch = async |id: &str| client.get(ran.url(&format!("/to/{id}/api/v1/pods?watch=true"))).send().await.unwrap();
    let mut open = vec![watch("west").await, watch("west").await, watch("south").await];
    for watch in &mut open {
        assert_eq!(watch.chunk().await.unwrap().unwrap(), event.as_bytes());
    }
    let third = watch("west").await;
    assert_eq!((third.status().as_u16(), third.headers()["retry-after"].to_str().unwrap()), (429, "10"));
    assert!(ran.metrics.text().contains("isthmus_relay_watches{cluster_id=\"west\"} 2"));

    routes(&apiserver, &[("west", second.address, &ca.pem), ("south", first.address, &ca.pem)]);
    let mut south = open.pop().unwrap();
    for ended in open {
        // in order: no error, no half event
        assert_eq!(timeout(Duration::from_secs(5), ended.text()).await.unwrap().unwrap(), "");
    }
    assert!(timeout(Duration::from_millis(300), south.chunk()).await.is_err(), "another route's watch goes on");
    let mut again = watch("west").await;
    assert_eq!(again.chunk().await.unwrap().unwrap(), event.as_bytes());
    assert!(second.requests().iter().any(|head| path_of(head).starts_with("/api/v1/pods")));
    until("the count", || ran.metrics.text().contains("isthmus_relay_watches{cluster_id=\"west\"} 1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strictly_only_istiod_is_let_in() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let west = peer(&ca, |_| json_answer(r#"{"kind":"PodList"}"#)).await;
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    apiserver.review(move |token| {
        seen.lock().unwrap().push(token.to_owned());
        std::thread::sleep(Duration::from_millis(100));
        let user = |name: &str| json!({ "username": format!("system:serviceaccount:istio-system:{name}") });
        match token {
            "istiod" => json!({ "authenticated": true, "audiences": ["isthmus-relay"], "user": user("istiod-canary") }),
            "other-audience" => json!({ "authenticated": true, "audiences": ["istio-ca"], "user": user("istiod") }),
            "no-audience" => json!({ "authenticated": true, "user": user("istiod") }),
            "gateway" => json!({ "authenticated": true, "audiences": ["isthmus-relay"], "user": user("default") }),
            _ => json!({ "authenticated": false, "error": "bad" }),
        }
    });
    let ran = start(&apiserver, RelayOptions { require_token: true, ..options() }).await;
    let get = async |token: Option<&str>| {
        let request = ran.client().get(ran.url("/to/west/api/v1/pods"));
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    // one review, however many show the same token at once
    let at_once = futures_util::future::join_all((0..20).map(|_| get(Some("forged")))).await;
    assert!(at_once.iter().all(|status| *status == 401), "{at_once:?}");
    assert_eq!(asked.lock().unwrap().iter().filter(|token| *token == "forged").count(), 1);
    for token in [None, Some("other-audience"), Some("no-audience"), Some("gateway"), Some("forged")] {
        assert_eq!(get(token).await, 401, "{token:?}");
    }
    assert!(west.requests().iter().all(|head| path_of(head) == "/api"));
    for _ in 0..3 {
        assert_eq!(get(Some("istiod")).await, 200);
    }
    assert_eq!(asked.lock().unwrap().iter().filter(|token| *token == "istiod").count(), 1, "it is asked once a minute");
    apiserver.break_down(Some("/apis/authentication.k8s.io"));
    assert_eq!(get(Some("istiod")).await, 200);
    assert_eq!(get(Some("unheard-of")).await, 503);
    assert!(west.requests().iter().all(|head| !head.contains("Bearer istiod")));
}

#[tokio::test]
async fn a_peer_is_asked_for_nothing_that_no_peer_answers() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    // one that answers whatever it is asked, as Deckhouse's does
    let west = peer(&ca, |head| {
        let is_watch = path_of(head).contains("watch=true");
        json_answer(if is_watch { EVENT } else { r#"{"kind":"Secret","data":{"key":"c2VjcmV0"}}"# })
    })
    .await;
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    let ran = start(&apiserver, options()).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    for (path, status) in [
        ("/api/v1/namespaces/istio-system/secrets/istio-ca-secret", 403),
        ("/api/v1/secrets/a", 403),
        ("/api/v1/namespaces/istio-system/configmaps", 403),
        ("/api/v1/namespaces/istio-system/configmaps/istio", 403),
        ("/api/v1/configmaps?fieldSelector=metadata.name%3Distio", 403),
        ("/api/v1/namespaces/a/pods/b/log", 403),
        ("/api/v1/namespaces/a/pods/b/exec", 403),
        ("/api/v1/nodes/a/proxy/pods", 403),
        ("/api/v1/watch/pods", 403),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", 403),
        ("/apis/apps/v1/deployments", 403),
        ("/apis", 403),
        ("/version", 403),
        ("/metrics", 403),
        ("/openapi/v3", 403),
        ("/", 400),
        ("/api/", 400),
        ("/api/v1/pods/../secrets", 400),
        ("/api/v1/pods?watch=true&watch=false", 400),
        ("/api/v1/pods?dryRun=All", 400),
    ] {
        // as it is written: a client of HTTP would resolve the dots
        let url = format!("/to/west{path}");
        let (found, body) = if path.contains("..") { raw(&ran, &url).await } else { ran.get(&url).await };
        assert_eq!(found, status, "{path}");
        assert!(!body.contains("c2VjcmV0"), "{path}: {body}");
    }
    let (status, list) = ran.get("/to/west/api/v1/secrets").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((status, &list["kind"], &list["items"]), (200, &json!("SecretList"), &json!([])));
    assert!(west.requests().iter().all(|head| path_of(head) == "/api"), "{:?}", west.requests());

    // what is asked is written anew, in its one spelling
    assert_eq!(ran.get("/to/west/api/v1/pods?watch=1&timeoutSeconds=99999&timeout=30s").await.0, 200);
    let heads = west.requests();
    let asked = heads.iter().map(|head| path_of(head)).find(|path| *path != "/api").unwrap();
    assert_eq!(asked, "/api/v1/pods?timeoutSeconds=1800&watch=true");
}

/// A request over HTTP/1.1 whose target is sent as it is.
/// What directs traffic, as a peer says it whose api-proxy lies, or is another one.
fn rogue(kind: &str, network: &str) -> Value {
    let of_network =
        json!({ "app": "a", "topology.istio.io/network": network, "networking.istio.io/gatewayPort": "1" });
    json!({
        "kind": kind, "apiVersion": "v1",
        "metadata": { "name": "a", "namespace": "shop", "resourceVersion": "7", "labels": of_network,
            "annotations": { "alpha.istio.io/canonical-serviceaccounts": "spiffe://x" } },
        "spec": { "address": "192.0.2.7", "network": network, "labels": of_network, "nodeName": "n",
            "externalIPs": ["192.0.2.9"], "ports": null },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }] } },
    })
}

#[tokio::test]
async fn whatever_a_peer_sends_directs_no_traffic_of_its_readers() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let west = peer(&ca, |head| {
        let path = path_of(head);
        if path == "/api" || path.starts_with("/api/v1/nodes") {
            return answer("200 OK", "content-type: application/vnd.kubernetes.protobuf\r\n", "k8s\0secret");
        }
        let object = rogue("Any", "network-east");
        if path.contains("watch=true") {
            let event = json!({ "type": "ADDED", "object": object });
            if path.contains("timeoutSeconds=1&") {
                return json_answer(format!("{event}\n"));
            }
            return json_answer(format!("{event}\n{{\"type\":\"ADDED\",\"object\":{{\"metadata\":[\"secret\"]}}}}\n"));
        }
        if path.ends_with("/a") {
            return json_answer(object.to_string());
        }
        let metadata = json!({ "resourceVersion": "9", "continue": "abc" });
        json_answer(json!({ "kind": "AnyList", "metadata": metadata, "items": [object] }).to_string())
    })
    .await;
    route_in(Some("network-west"), &apiserver, &west, &ca);
    let ran = start(&apiserver, options()).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    let protobuf = "application/vnd.kubernetes.protobuf,application/json";
    let get = async |path: &str| {
        let sent = ran.client().get(ran.url(&format!("/to/west{path}"))).header("accept", protobuf);
        let answer = sent.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await)
    };
    let is_reviewed = |text: &str| {
        for hidden in ["network-east", "topology.istio.io", "gatewayPort", "serviceaccounts", "192.0.2.9", "secret"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    };
    for path in ["/api/v1/pods", "/api/v1/services", "/api/v1/namespaces", ENTRIES, "/api/v1/namespaces/shop/pods/a"] {
        let (status, text) = get(path).await;
        let text = text.unwrap();
        assert_eq!(status, 200, "{path}");
        is_reviewed(&text);
        let object: Value = serde_json::from_str(&text).unwrap();
        assert!(object["metadata"]["continue"].is_null());
        if path == ENTRIES {
            assert_eq!(object["items"][0]["spec"]["network"], "network-west");
            assert_eq!(object["items"][0]["spec"]["address"], "192.0.2.7");
        }
    }
    for path in ["/api/v1/pods", ENTRIES] {
        let (status, event) = get(&format!("{path}?watch=true&timeoutSeconds=1")).await;
        let event = event.unwrap();
        is_reviewed(&event);
        assert_eq!((status, &serde_json::from_str::<Value>(&event).unwrap()["type"]), (200, &json!("ADDED")), "{path}");
        // one that cannot be read ends a watch with an error
        let sent = ran.client().get(ran.url(&format!("/to/west{path}?watch=true"))).send().await;
        let mut given = String::new();
        let ended = match sent {
            // the reset takes back what was not sent yet, with the head
            Err(error) => Err(error),
            Ok(mut watch) => loop {
                match watch.chunk().await {
                    Ok(Some(chunk)) => given.push_str(std::str::from_utf8(&chunk).unwrap()),
                    ended => break ended,
                }
            },
        };
        assert!(ended.is_err(), "{path}: {given}");
        is_reviewed(&given);
    }
    // what is no JSON is not taken, and gateways are asked of no peer
    assert_eq!(get("/api/v1/nodes?watch=true").await.0, 502);
    let (status, gateways) = get("/apis/gateway.networking.k8s.io/v1/gateways").await;
    let gateways: Value = serde_json::from_str(&gateways.unwrap()).unwrap();
    assert_eq!((status, &gateways["items"]), (200, &json!([])));
    assert_eq!(get("/apis/gateway.networking.k8s.io/v1/namespaces/a/gateways/b").await.0, 403);
    let heads = west.requests();
    assert!(!heads.iter().any(|head| path_of(head).contains("gateways")), "{heads:#?}");
    let asked = heads.iter().filter(|head| path_of(head) != "/api");
    for head in asked {
        assert!(head.contains("accept: application/json\r\n"), "{head}");
    }
}

#[tokio::test]
async fn entries_are_of_the_network_that_was_reviewed_and_are_listed_again_when_that_changes() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let west = peer(&ca, |head| {
        let entry = rogue("WorkloadEntry", "network-of-the-peer");
        if path_of(head).contains("watch=true") {
            return json_answer(format!("{}\n", json!({ "type": "ADDED", "object": entry })));
        }
        json_answer(json!({ "kind": "AnyList", "metadata": { "resourceVersion": "9" }, "items": [entry] }).to_string())
    })
    .await;
    let ran = start(&apiserver, options()).await;
    let shown = async || {
        let (_, list) = ran.get(&format!("/to/west{ENTRIES}?limit=500")).await;
        let list: Value = serde_json::from_str(&list).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&list["items"][0]["spec"]["network"]), text(&list["metadata"]["resourceVersion"]))
    };
    let watch = async |version: &str| {
        let (_, event) = ran.get(&format!("/to/west{ENTRIES}?watch=true&resourceVersion={version}")).await;
        let event: Value = serde_json::from_str(event.trim()).unwrap();
        (event["type"].as_str().unwrap().to_owned(), event["object"]["code"].clone())
    };
    let (taken, expired) = (("ADDED".to_owned(), Value::Null), ("ERROR".to_owned(), json!(410)));
    let mut last: Option<String> = None;
    // an older engine's route names none: entries that are in use stay as the peer says
    for (network, wanted) in
        [(None, "network-of-the-peer"), (Some("network-west"), "network-west"), (Some("network-new"), "network-new")]
    {
        route_in(network, &apiserver, &west, &ca);
        let begin = Instant::now();
        let version = loop {
            let (found, version) = shown().await;
            if found == wanted {
                break version;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "{found}, not {wanted}");
            sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(watch(&version).await, taken, "{version}");
        if let Some(last) = last.replace(version) {
            assert_eq!(watch(&last).await, expired, "{last}");
        }
    }
    // the peer is asked for what is its own version, and for all of it
    let heads = west.requests();
    let versions: Vec<&str> =
        heads.iter().filter_map(|head| path_of(head).split_once("resourceVersion=")).map(|(_, of)| of).collect();
    assert!(versions.iter().all(|version| version.starts_with("9&")), "{versions:?}");
    assert!(heads.iter().all(|head| !path_of(head).contains("limit")), "{heads:#?}");
}

#[tokio::test]
async fn a_peer_that_never_ends_its_objects_has_little_room() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let west = peer(&ca, |head| {
        if path_of(head) == "/api" {
            return answer("404 Not Found", "", "");
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        // each holds 3 MiB, and less than one object may have
        let text = format!("{{\"type\":\"ADDED\",\"object\":{{\"x\":\"{}", "x".repeat(3 << 20));
        let chunk = format!("{head}{:x}\r\n{text}\r\n", text.len());
        vec![PeerStep::Send(chunk.into_bytes()), PeerStep::Hang]
    })
    .await;
    route_in(None, &apiserver, &west, &ca);
    let ran = start_limited(&apiserver, options(), |limits| RoleLimits { watches_per_peer: 10, ..limits }).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    let client = ran.client();
    let mut open = Vec::new();
    for _ in 0..4 {
        let url = ran.url("/to/west/api/v1/pods?watch=true");
        let sent = client.get(url).send();
        open.push(tokio::spawn(async move { sent.await.unwrap().chunk().await.map(drop) }));
    }
    until("the watches without room to end", || open.iter().filter(|watch| watch.is_finished()).count() >= 2).await;
    sleep(Duration::from_millis(200)).await;
    let mut ended = 0;
    for watch in open {
        if watch.is_finished() {
            assert!(watch.await.unwrap().is_err());
            ended += 1;
        }
    }
    assert_eq!(ended, 2);
}

async fn raw(ran: &RunningRelay, target: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pki_types::CertificateDer::pem_slice_iter(ran.ca.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(ran.address).await.unwrap();
    let name = "isthmus-relay.istio-system.svc";
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let mut stream = connector.connect(name.try_into().unwrap(), stream).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // a server may end TLS without a word
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8(answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn an_inside_address_is_dialled_only_where_a_spec_names_it() {
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let west = peer(&ca, |_| json_answer("{}")).await;
    let route = |id: &str, host: &str, allow: Value| json!({ "clusterID": id, "clusterUUID": WEST, "apiHost": format!("{host}:{}", west.address.port()), "apiCA": ca.pem, "allow": allow });
    let file = json!({ "version": 1, "routes": [
        route("named", "127.0.0.1", json!(["127.0.0.0/8"])),
        route("literal", "127.0.0.1", json!([])),
        route("by-name", "localhost", json!([])),
        route("other-range", "127.0.0.1", json!(["10.0.0.0/8", "::1"])),
        route("metadata", "169.254.169.254", json!([])),
        route("own", "10.96.0.1", json!([])),
    ] });
    apiserver
        .put(MAPS, json!({ "metadata": { "name": "isthmus-routes" }, "data": { "routes.json": file.to_string() } }));
    let ran =
        start(&apiserver, RelayOptions { cluster_cidrs: vec!["10.96.0.0/12".parse().unwrap()], ..options() }).await;
    until("the route", || up(&ran.metrics, "named").is_some_and(|shown| shown.ends_with("reason=\"\"} 1"))).await;
    let before = west.requests().len();
    for id in ["literal", "by-name", "other-range", "metadata", "own"] {
        until(id, || up(&ran.metrics, id).is_some()).await;
        let shown = up(&ran.metrics, id).unwrap();
        assert!(shown.ends_with("reason=\"its address is an inside one\"} 0"), "{id}: {shown}");
        // what waits for a peer that is away does not wait for one that is never dialled
        assert_eq!(ran.get(&format!("/to/{id}/api/v1/pods?watch=true")).await.0, 503, "{id}");
    }
    assert_eq!(west.requests().len(), before);
    assert_eq!(ran.get("/to/named/api/v1/pods").await.0, 200);
}

#[tokio::test]
async fn who_shows_no_token_that_is_known_asks_as_often_as_its_address_may() {
    use isthmus::server::limits::Rate;
    let (apiserver, ca) = (apiserver().await, Ca::new("west"));
    let west = peer(&ca, |_| json_answer("{}")).await;
    routes(&apiserver, &[("west", west.address, &ca.pem)]);
    let reviews = Arc::new(Mutex::new(0));
    let counted = reviews.clone();
    apiserver.review(move |token| {
        *counted.lock().unwrap() += 1;
        let user = json!({ "username": "system:serviceaccount:istio-system:istiod" });
        json!({ "authenticated": token == "istiod", "audiences": ["isthmus-relay"], "user": user })
    });
    let few = |limits| RoleLimits { rate_per_address: Rate { per_second: 1, burst: 6 }, ..limits };
    let ran = start_limited(&apiserver, RelayOptions { require_token: true, ..options() }, few).await;
    until("the route", || up(&ran.metrics, "west").is_some()).await;
    let get = async |token: String| {
        let request =
            ran.client().get(ran.url("/to/west/api/v1/pods")).header("authorization", format!("Bearer {token}"));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(get("istiod".to_owned()).await, 200);
    let mut refused = Vec::new();
    for number in 0..20 {
        refused.push(get(format!("forged-{number}")).await);
    }
    let limited = refused.iter().filter(|status| **status == 429).count();
    assert_eq!(
        (refused.iter().filter(|status| **status == 401).count() + limited, limited > 10),
        (20, true),
        "{refused:?}"
    );
    assert!(*reviews.lock().unwrap() < 10, "{}", reviews.lock().unwrap());
    // whoever is known is not held up by those who are not
    for _ in 0..10 {
        assert_eq!(get("istiod".to_owned()).await, 200);
    }
}
