//! Living with Deckhouse: both directions against a scripted peer that behaves as its binaries do.

mod conformance;
mod disagreement;
mod east;
mod reader;
mod stages;
mod through;
mod two;
mod watches;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isthmus::roles::exporter::reasons::DocumentError;
use isthmus::roles::exporter::{Exporter, Published};
use isthmus::roles::relay::RelayOptions;
use isthmus::types::key::PrivateKey;
use isthmus::types::name::ClusterName;
use isthmus::types::time::Timestamp;
use isthmus::types::token::{self, Claims, ISSUER, MAX_DECKHOUSE_API_LIFETIME, Scope};
use isthmus::wire::metadata::{AuthnKey, PrivateDocument, PublicDocument, Reading};
use isthmus::wire::peers::{PEERS_VERSION, PeerEntry, PeersFile};
use serde_json::{Value, json};

use self::east::{EastProxy, EastProxyOptions, EastRelay, published, served};
use crate::support::apiserver::{Asked, json_answer};
use crate::support::checkout::Checkout;
use crate::support::deckhouse::{Deckhouse, NAMESPACE, PeerCache, Shows, get, serve};
use crate::support::environment::TestEnvironment;
use crate::support::peer::Ca;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const EAST: &str = include_str!("../../fixtures/real/east/metadata/public/public.json");
const EAST_PRIVATE: &str = include_str!("../../fixtures/real/east/metadata/private/multicluster.json");
const DECK_ROOT: &str = include_str!("../../fixtures/real/west/root-cert.pem");
const OTHER_ROOT: &str = include_str!("../../fixtures/real/east/root-cert.pem");
const CONFIG_MAPS: &str = "/api/v1/namespaces/istio-system/configmaps";
const DECK: &str = "7d1f0c52-3a1e-4a43-8f0e-55d2f0c9b7aa";

fn east_public() -> PublicDocument {
    let Reading::Complete(document) = PublicDocument::parse(EAST.as_bytes()).unwrap() else { panic!() };
    PublicDocument { authn_key: east_key().public().clone(), ..document }
}

fn east_private() -> PrivateDocument {
    let Reading::Complete(document) = PrivateDocument::parse(EAST_PRIVATE.as_bytes()).unwrap() else { panic!() };
    document
}

fn east_key() -> PrivateKey {
    PrivateKey::generate(&[41; 32]).unwrap()
}

fn east_uuid() -> String {
    east_public().cluster_uuid.to_string()
}

fn deckhouse(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Arc<Deckhouse> {
    Arc::new(Deckhouse {
        uuid: DECK.to_owned(),
        key: PrivateKey::generate(&[40; 32]).unwrap(),
        root: DECK_ROOT.to_owned(),
        other_root: OTHER_ROOT.to_owned(),
        api_host: "istio-api.deck.example.com".to_owned(),
        known: Mutex::new(BTreeMap::from([(east_uuid(), east_key().public().clone())])),
        shows: Mutex::new(Shows::Whole),
        now: Box::new(now),
    })
}

/// Our entry of it in `peers.json`.
fn entry(deck: &Deckhouse, max_token_lifetime: Option<Duration>) -> PeerEntry {
    let key = deck.key.public().clone();
    PeerEntry {
        name: "deck".parse().unwrap(),
        cluster_uuid: DECK.parse().unwrap(),
        keys: vec![AuthnKey { id: key.id(), pem: key, scopes: [Scope::Api, Scope::PrivateMulticluster].into() }],
        namespaces: vec!["*".to_owned()],
        share: None,
        istio_namespace: Some(NAMESPACE.parse().unwrap()),
        revisions: vec!["v1x25".parse().unwrap()],
        user: None,
        max_token_lifetime,
        leaving: None,
    }
}

fn peers(deck: &Deckhouse, max_token_lifetime: Option<Duration>) -> PeersFile {
    PeersFile { version: PEERS_VERSION, peers: vec![entry(deck, max_token_lifetime)], ..PeersFile::empty() }
}

fn publish(exporter: &Exporter, published: Published) {
    assert!(exporter.change(|current| *current = published));
}

// ---------------------------------------------------------------- it reads us

#[tokio::test]
async fn it_reads_our_exporter_each_minute() {
    let clock = Arc::new(AtomicI64::new(NOW.as_seconds()));
    let now = |clock: &Arc<AtomicI64>| {
        let clock = clock.clone();
        move || Timestamp::from_seconds(clock.load(Ordering::SeqCst))
    };
    let deck = deckhouse(now(&clock));
    let whole = published(&deck);
    let ca = Ca::new("east");
    let exporter = Arc::new(Exporter::new("/metadata", whole.clone(), now(&clock)));
    let (_running, address) = served(&ca, exporter.clone()).await;
    let mut cache = PeerCache::default();
    for minute in 0..5 {
        clock.store(NOW.as_seconds() + 60 * minute, Ordering::SeqCst);
        let (status, public) = get(address, &ca.pem, "/metadata/public/public.json", None).await;
        cache.take_public((status, &public)).unwrap();
        let token = deck.token(&east_uuid(), "private-multicluster");
        let (status, private) = get(address, &ca.pem, "/metadata/private/multicluster.json", Some(&token)).await;
        cache.take_private((status, &private), true).unwrap();
    }
    let private = cache.private.clone().unwrap();
    assert_eq!(private["apiHost"], "api.east.example.com");
    assert_eq!(private["networkName"], "network-east");
    assert_eq!(private["ingressGateways"], json!([{ "address": "203.0.113.7", "port": 15443 }]));

    // what is not complete is 503, which leaves what it has; it never sees an empty field
    let before = cache.clone();
    publish(&exporter, Published { private: Err(DocumentError::NoGateway), ..whole.clone() });
    // its tokens have no id, and those of one second are the same
    clock.fetch_add(1, Ordering::SeqCst);
    let token = deck.token(&east_uuid(), "private-multicluster");
    let (status, body) = get(address, &ca.pem, "/metadata/private/multicluster.json", Some(&token)).await;
    assert_eq!((status, cache.take_private((status, &body), true)), (503, Err("NonOKResponse")));
    publish(&exporter, Published { public: Err(DocumentError::NoKey), ..whole.clone() });
    let (status, body) = get(address, &ca.pem, "/metadata/public/public.json", None).await;
    assert_eq!((status, cache.take_public((status, &body))), (503, Err("NonOKResponse")));
    assert_eq!(cache, before);

    // a flat network has no gateway, and shows it by an empty list
    let flat = PrivateDocument { ingress_gateways: vec![], ..east_private() };
    publish(&exporter, Published { private: Ok(flat), ..whole.clone() });
    let (status, body) = get(address, &ca.pem, "/metadata/private/multicluster.json", Some(&token)).await;
    assert_eq!(cache.take_private((status, &body), true), Err("MissingIngressGateways"));
    cache.take_private((status, &body), false).unwrap();

    // a rebuilt cluster is another one to it
    let rebuilt = PublicDocument { cluster_uuid: DECK.parse().unwrap(), ..east_public() };
    publish(&exporter, Published { public: Ok(rebuilt), ..whole });
    let (status, body) = get(address, &ca.pem, "/metadata/public/public.json", None).await;
    assert_eq!(cache.take_public((status, &body)), Err("ClusterUUIDMismatch"));

    // yesterday's token, a token for the API, and a stranger's are all one 401
    let api = deck.token(&east_uuid(), "api");
    clock.fetch_add(86_400, Ordering::SeqCst);
    for token in [&token, &api] {
        let (status, _) = get(address, &ca.pem, "/metadata/private/multicluster.json", Some(token)).await;
        assert_eq!(status, 401);
    }
}

// ---------------------------------------------------------------- the engine reads it

/// How the checkout declares deck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeclaredAs {
    /// A Cluster with `reconciler: deckhouse`.
    Deckhouse,
    /// A Cluster with `reconciler: external`.
    External,
    /// An IstioMulticluster of ours.
    Multicluster,
    /// An IstioMulticluster as Deckhouse's own users have it.
    OfDeckhouse,
}

impl DeclaredAs {
    const ALL: [Self; 4] = [Self::Deckhouse, Self::External, Self::Multicluster, Self::OfDeckhouse];

    /// Its document, with nothing in it that says what it publishes.
    pub(super) fn document(self, endpoint: &str, ca: &str) -> String {
        let indented = |by: usize| ca.trim_end().replace('\n', &format!("\n{}", " ".repeat(by)));
        let cluster = |reconciler: &str| {
            format!(
                "apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {{name: deck}}
spec:
  reconciler: {reconciler}
  metadata:
    endpoint: \"{endpoint}\"
    ca:
      inline: |
        {}
  allow: {{addresses: [127.0.0.0/8, 203.0.113.0/24]}}
",
                indented(8)
            )
        };
        let multicluster = |group: &str| {
            format!(
                "apiVersion: {group}/v1alpha1
kind: IstioMulticluster
metadata: {{name: deck}}
spec:
  metadataEndpoint: \"{endpoint}\"
  metadata:
    ca: |
      {}
",
                indented(6)
            )
        };
        match self {
            Self::Deckhouse => cluster("deckhouse"),
            Self::External => cluster("external"),
            Self::Multicluster => multicluster("isthmus.dev"),
            Self::OfDeckhouse => multicluster("deckhouse.io"),
        }
    }
}

/// The spec of `east`, a cluster of ours, and of `deck`.
fn spec(deck: &str) -> String {
    format!(
        "apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {{name: shop}}
spec: {{acceptForeignRoots: true}}
---
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {{name: east}}
spec:
  multicluster: {{image: \"example.com/isthmus:0.1.0\", apiHost: api.east.example.com}}
  istio: {{standardMeshNetworks: none}}
  metadata: {{endpoint: \"https://127.0.0.9/metadata\"}}
  allow: {{addresses: [127.0.0.0/8, 203.0.113.0/24]}}
---
{deck}"
    )
}

/// A token of ours, as the relay makes it.
fn mint(key: &PrivateKey, subject: &str, audience: &str, scope: Scope) -> String {
    let (aud, sub, iss) = (audience.to_owned(), subject.to_owned(), ISSUER.to_owned());
    let claims = Claims { aud, exp: NOW + Duration::from_mins(1), iss, nbf: NOW, scope, sub };
    token::mint(key, &claims, Some(&key.public().id())).expose().to_owned()
}

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

fn unix_time() -> Timestamp {
    jiff::Timestamp::now().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_waits_for_it_and_takes_nothing_empty_for_a_change() {
    let deck = deckhouse(unix_time);
    let ca = Ca::new("deck");
    let exporter = serve(&ca, deck.exporter()).await;
    // Deckhouse judges tokens by the real clock
    let checkout = Checkout::in_environment(TestEnvironment::new().real_time());
    let deck_document = DeclaredAs::Deckhouse.document(&format!("https://{}/metadata", exporter.address), &ca.pem);
    checkout.write("specs/mesh.yaml", spec(&deck_document).as_bytes());
    let lock = checkout.path("lock/clusters/deck.yaml");
    let apply = |shows| {
        *deck.shows.lock().unwrap() = shows;
        tokio::task::block_in_place(|| checkout.engine(&["apply"]))
    };
    for shows in [Shows::Starting, Shows::Empty] {
        let ran = apply(shows);
        assert_eq!(ran.code, 0, "{shows:?}: {ran}");
        let text = &ran.stdout;
        assert!(text.contains("deck") && !lock.exists(), "{shows:?}: {text}");
    }
    apply(Shows::Whole).done();
    let known = std::fs::read_to_string(&lock).unwrap();
    assert!(known.contains(DECK), "{known}");
    for shows in [Shows::Starting, Shows::Empty, Shows::Absent, Shows::Whole] {
        let ran = apply(shows);
        assert_eq!(ran.code, 0, "{shows:?}: {ran}");
        assert!(!ran.says("trust change"), "{shows:?}: {ran}");
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), known, "{shows:?}");
    }
    let ran = apply(Shows::OtherRoot);
    assert_eq!(ran.code, 4, "a root that is there and another is a trust change: {ran}");
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), known);
}

// ---------------------------------------------------------------- it asks our api-proxy, and our relay asks its

/// Our api-proxy in a cluster whose `peers.json` gives deck this lifetime: answers, and what the apiserver was asked.
async fn ask_proxy(deck: &Deckhouse, lifetime: Option<Duration>, paths: &[&str]) -> (Vec<(u16, Value)>, Vec<Asked>) {
    let options = EastProxyOptions { lifetime, behind_proxy: false, clock: || NOW };
    let proxy = EastProxy::start(deck, options, |asked| {
        let kind = if asked.path == "/api" { "APIVersions" } else { "List" };
        json_answer(200, &json!({ "kind": kind, "apiVersion": "v1", "metadata": {}, "items": [] }))
    })
    .await;
    let token = deck.token(&east_uuid(), "api");
    let mut answers = Vec::new();
    for path in paths {
        let (status, body) = get(proxy.address, &proxy.ca.pem, path, Some(&token)).await;
        answers.push((status, serde_json::from_slice(&body).unwrap_or_default()));
    }
    (answers, proxy.apiserver.asked())
}

#[tokio::test]
async fn a_token_of_366_days_opens_our_api_proxy_where_peers_json_says_so() {
    let deck = deckhouse(|| NOW);
    let config = "/api/v1/namespaces/d8-istio/configmaps?fieldSelector=metadata.name%3Distio-v1x25&limit=500";
    let paths = [
        "/api",
        config,
        "/api/v1/secrets?limit=500&resourceVersion=0",
        "/apis/networking.istio.io/v1alpha3/workloadentries",
        "/apis/gateway.networking.k8s.io/v1beta1/gateways",
        "/api/v1/namespaces/d8-istio/secrets/d8-remote-authn-keypair",
    ];
    let (answers, asked) = ask_proxy(&deck, Some(MAX_DECKHOUSE_API_LIFETIME), &paths).await;
    let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 403], "{answers:?}");
    assert_eq!(answers[0].1["kind"], "APIVersions", "its probe");
    assert_eq!(answers[1].1["items"][0]["metadata"]["name"], "istio-v1x25");
    assert_eq!(answers[1].1["items"][0]["metadata"]["namespace"], NAMESPACE);
    assert_eq!((&answers[2].1["kind"], &answers[2].1["items"]), (&json!("SecretList"), &json!([])));
    let passed_on: Vec<&str> = asked.iter().map(|asked| asked.path.as_str()).collect();
    // entries are empty while the cluster's network is not known, and gateways always
    assert_eq!(passed_on, ["/api"]);
    assert_eq!((&answers[3].1["items"], &answers[4].1["items"]), (&json!([]), &json!([])));
    let user = format!("istio-peer:{DECK}");
    assert!(asked.iter().all(|asked| asked.headers["impersonate-user"] == user.as_str()), "{asked:?}");

    let (answers, asked) = ask_proxy(&deck, None, &["/api"]).await;
    assert_eq!((answers[0].0, asked.len()), (401, 0), "14 days are the most for any other peer");
}

#[tokio::test]
async fn our_relay_answers_empty_where_its_api_proxy_refuses() {
    let deck = deckhouse(unix_time);
    let deck_ca = Ca::new("deck");
    let api_proxy = serve(&deck_ca, deck.api_proxy()).await;
    let routes = json!({ "version": 1, "routes": [{
        "clusterID": "deck", "clusterUUID": DECK, "apiHost": api_proxy.address.to_string(), "apiCA": deck_ca.pem,
        "allow": ["127.0.0.0/8"],
    }] });
    let relay = EastRelay::start(RelayOptions::default()).await;
    relay.routes(&routes.to_string());
    deck.known.lock().unwrap().insert(east_uuid(), relay.key.clone());
    let ca = Ca::new("east");
    let (_relay, address) = served(&ca, relay.handler.clone()).await;
    let ask = async |path: &str| {
        let (status, body) = get(address, &ca.pem, &format!("/to/deck{path}"), None).await;
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    assert_eq!(ask("/api").await.1["kind"], "APIVersions");
    let (status, services) = ask("/api/v1/services?limit=500").await;
    assert_eq!(
        (status, &services["items"]),
        (200, &json!([{ "metadata": { "name": "/api/v1/services", "creationTimestamp": "9999-01-01T00:00:00Z" } }])),
        "what is not refused is its own, projected, and younger than what is east's"
    );
    for (path, kind) in [
        ("/api/v1/secrets?limit=500&resourceVersion=0", "SecretList"),
        ("/api/v1/namespaces/istio-system/configmaps?fieldSelector=metadata.name%3Distio", "ConfigMapList"),
        ("/apis/gateway.networking.k8s.io/v1beta1/gateways", "GatewayList"),
        ("/apis/gateway.networking.k8s.io/v1/gateways", "GatewayList"),
    ] {
        let (status, list) = ask(path).await;
        assert_eq!((status, &list["kind"], &list["items"]), (200, &json!(kind), &json!([])), "{path}");
        let version = list["metadata"]["resourceVersion"].as_str().unwrap();
        assert!(version.bytes().all(|byte| byte.is_ascii_digit()) && !version.is_empty(), "{path}: {list}");
    }
    let (status, _) = ask("/api/v1/namespaces/istio-system/secrets/one").await;
    assert_eq!(status, 403, "deck is not asked for it");
}

/// An ingress in front of our api-proxy says for whom it asks; where none is stated, whoever adds it claims to be someone.
#[tokio::test]
async fn what_a_trusted_proxy_adds_is_dropped_and_refused_from_anyone_else() {
    let deck = deckhouse(|| NOW);
    for behind_proxy in [false, true] {
        let options = EastProxyOptions { lifetime: Some(MAX_DECKHOUSE_API_LIFETIME), behind_proxy, clock: || NOW };
        let EastProxy { ca, address, .. } = &EastProxy::start(&deck, options, |asked| {
            assert!(!asked.headers.contains_key("x-forwarded-for"));
            json_answer(200, &json!({ "kind": "APIVersions" }))
        })
        .await;
        let token = deck.token(&east_uuid(), "api");
        let certificate = reqwest::Certificate::from_pem(ca.pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap();
        let ask = async |header: &str| {
            let request = client.get(format!("https://{address}/api")).bearer_auth(&token).header(header, "192.0.2.1");
            request.send().await.unwrap().status().as_u16()
        };
        let expected = if behind_proxy { 200 } else { 400 };
        for header in ["x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-proto"] {
            assert_eq!(ask(header).await, expected, "{header} {behind_proxy}");
        }
        for header in ["x_forwarded_for", "x-forwarded-client-cert", "x-remote-user", "impersonate-user"] {
            assert_eq!(ask(header).await, 400, "{header} {behind_proxy}");
        }
    }
}
