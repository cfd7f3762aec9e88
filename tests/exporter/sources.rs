//! The exporter at work: from objects of an apiserver, over watches, to what is answered over TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use isthmus::cluster::unread::Unread;
use isthmus::istio::gateways::GatewayError;
use isthmus::roles::exporter::reasons::DocumentError;
use isthmus::roles::exporter::{Exporter, ExporterOptions, Gathered, MAX_AGE, Published, start, start_with_max_age};
use isthmus::roles::role::{Role, StopSignal, TlsFiles};
use isthmus::server::limits::RoleLimits;
use isthmus::server::telemetry::{Metrics, Readiness};
use isthmus::server::{Bound, Running};
use isthmus::types::key::PrivateKey;
use isthmus::types::name::ClusterUuid;
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Claims, ISSUER, Scope, mint, mint_unique};
use isthmus::wire::hand_over::HandOverStage;
use isthmus::wire::metadata::{Evidence, PrivateDocument, ReadState, Reading, Reported, RouteState};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::kube::Kube;
use crate::support::peer::Ca;

pub(super) const OWN: &str = "00000000-0000-4000-8000-0000000000aa";
pub(super) const WEST: &str = "00000000-0000-4000-8000-0000000000bb";
pub(super) const NS: &str = "istio-system";

pub(super) fn config_map(name: &str, data: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": NS}, "data": data})
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::generate(&[seed; 32]).unwrap()
}

pub(super) fn identity(uuid: &str, serving_ca: &str) -> Value {
    let keys = json!([{"id": "own", "pem": key(1).public().to_pem(), "scopes": ["api", "private-multicluster"]}]);
    let identity = json!({"version": 1, "clusterUUID": uuid, "keys": keys, "trustDomain": "cluster.local",
        "servingCA": serving_ca, "relayCA": serving_ca});
    config_map("isthmus-identity", &json!({"identity.json": identity.to_string()}))
}

pub(super) fn peers() -> Value {
    peers_of(0)
}

pub(super) fn peers_of(serial: u64) -> Value {
    let of = |seed: u8, id: &str| json!([{"id": id, "pem": key(seed).public().to_pem(), "scopes": ["private-multicluster"]}]);
    let west = json!({"name": "west", "clusterUUID": WEST, "keys": of(3, "west"), "namespaces": ["*"]});
    let file = json!({"version": 1, "serial": serial, "self": {"keys": of(2, "ci")}, "peers": [west]});
    config_map("isthmus-peers", &json!({"peers.json": file.to_string()}))
}

pub(super) fn istiod_spec() -> Value {
    let env = [("CLUSTER_ID", "east"), ("ISTIO_MULTIROOT_MESH", "true"), ("SHARED_MESH_CONFIG", "isthmus-mesh")];
    let env: Vec<_> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({"containers": [{"name": "discovery", "image": "docker.io/istio/pilot:1.31.1-distroless", "env": env}]})
}

pub(super) fn pod(name: &str, labels: &Value, spec: &Value, address: &str) -> Value {
    let status = json!({"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]});
    json!({"metadata": {"name": name, "namespace": NS, "labels": labels}, "spec": spec, "status": status})
}

fn gateway(addresses: &Value) -> Value {
    json!({"metadata": {"name": "eastwest", "namespace": NS, "labels": {"topology.istio.io/network": "network-east"}},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "status", "port": 15021}, {"name": "tls", "port": 15443}]},
        "status": {"loadBalancer": {"ingress": addresses}}})
}

fn namespace(name: &str, uid: &str, labels: &Value) -> Value {
    json!({"metadata": {"name": name, "uid": uid, "labels": labels}})
}

pub(super) struct SourcesWorld {
    pub(super) kube: Kube,
    pub(super) ca: Ca,
    files: TempDir,
    pub(super) health: Readiness,
    metrics: Metrics,
    stop: StopSignal,
    pub(super) exporter: Option<(Arc<Exporter>, Running)>,
}

impl SourcesWorld {
    /// A cluster in which everything is there.
    pub(super) async fn new() -> Self {
        let kube = Kube::start().await;
        let ca = Ca::new("serving");
        let serving = ca.serving(&["127.0.0.1"]);
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("tls.crt"), serving.chain).unwrap();
        std::fs::write(files.path().join("tls.key"), serving.key).unwrap();
        kube.put("configmaps", config_map("istio-ca-root-cert", &json!({"root-cert.pem": Ca::new("root").pem})));
        kube.put("configmaps", identity(OWN, &ca.pem));
        kube.put("configmaps", peers());
        kube.put("configmaps", config_map("istio", &json!({"mesh": "trustDomain: cluster.local\n"})));
        kube.put("namespaces", namespace("kube-system", OWN, &json!({})));
        kube.put("namespaces", namespace(NS, WEST, &json!({"topology.istio.io/network": "network-east"})));
        let labels = json!({"app": "istiod", "istio.io/rev": "default"});
        let deployment = json!({"metadata": {"name": "istiod", "namespace": NS, "labels": labels},
            "spec": {"replicas": 1, "template": {"spec": istiod_spec()}}});
        kube.put("deployments", deployment);
        kube.put("services", gateway(&json!([{"ip": "203.0.113.7"}])));
        let (stop, _) = StopSignal::new();
        Self { kube, ca, files, health: Readiness::default(), metrics: Metrics::new(), stop, exporter: None }
    }

    pub(super) async fn begin(&mut self) {
        self.begin_with(MAX_AGE).await;
    }

    pub(super) async fn begin_with(&mut self, max_age: Duration) {
        self.begin_as(max_age, ExporterOptions::default()).await;
    }

    /// The same with what these options state beside the address of the api-proxy.
    pub(super) async fn begin_as(&mut self, max_age: Duration, options: ExporterOptions) {
        let at = |name: &str| self.files.path().join(name);
        let tls = Some(TlsFiles { certificate: at("tls.crt"), key: at("tls.key") });
        let (role, stop) = Role::new(NS.parse().unwrap(), RoleLimits::of_exporter(), self.kube.access());
        let role = Role { tls, metrics: self.metrics.clone(), health: self.health.clone(), ..role };
        self.stop = stop;
        let options = ExporterOptions {
            path_prefix: "/metadata".to_owned(),
            api_host: Some("api.east.example".parse().unwrap()),
            ..options
        };
        let service = start_with_max_age(role, options, max_age).await.unwrap();
        let bound = Bound::to("127.0.0.1:0".parse::<SocketAddr>().unwrap()).await.unwrap();
        let server =
            bound.serve(&service.certificates, RoleLimits::of_exporter().server(false), service.handler.clone());
        self.exporter = Some((service.handler, server));
    }

    async fn started() -> Self {
        let mut world = Self::new().await;
        world.begin().await;
        world.until("all is published", |world| world.health.is_ready()).await;
        world
    }

    pub(super) fn published(&self) -> Arc<Published> {
        self.exporter.as_ref().unwrap().0.published()
    }

    pub(super) fn private(&self) -> PrivateDocument {
        self.published().private.clone().unwrap()
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        self.within(Duration::from_secs(20), what, holds).await;
    }

    pub(super) async fn within(&self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < limit, "{what}: {:?}, {:?}", self.health.failing(), self.published());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn get(&self, path: &str, authorization: Option<String>) -> reqwest::Response {
        let ca = reqwest::Certificate::from_pem(self.ca.pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
        let address = self.exporter.as_ref().unwrap().1.address();
        let mut request = client.get(format!("https://{address}/metadata/{path}"));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        request.send().await.unwrap()
    }
}

pub(super) fn bearer(seed: u8, kid: &str, sub: &str) -> String {
    bearer_with(seed, kid, sub, None)
}

/// The same with a `jti`.
fn bearer_with(seed: u8, kid: &str, sub: &str, id: Option<u128>) -> String {
    let now = Timestamp::from(jiff::Timestamp::now());
    let (aud, iss, sub) = (OWN.to_owned(), ISSUER.to_owned(), sub.to_owned());
    let claims = Claims {
        aud,
        exp: now + Duration::from_secs(50),
        iss,
        nbf: now - Duration::from_secs(5),
        scope: Scope::PrivateMulticluster,
        sub,
    };
    let (key, kid) = (key(seed), kid.parse().unwrap());
    let token = match id {
        Some(id) => mint_unique(&key, &claims, Some(&kid), id),
        None => mint(&key, &claims, Some(&kid)),
    };
    format!("Bearer {}", token.expose())
}

pub(super) const PRIVATE: &str = "private/multicluster.json";
pub(super) const PUBLIC: &str = "public/public.json";
const BUNDLE: &str = "public/spiffe-bundle-endpoint";

#[tokio::test]
async fn everything_that_is_found_is_published() {
    let world = SourcesWorld::started().await;
    let public = world.published().public.clone().unwrap();
    assert_eq!(public.cluster_uuid.as_str(), OWN);
    assert_eq!(public.authn_key, *key(1).public());
    let ids: Vec<_> = public.authn_keys.iter().map(|key| key.id.as_str()).collect();
    assert_eq!(ids, ["own", "ci"]);
    let istio = public.istio.unwrap();
    assert_eq!((istio.version.as_deref(), istio.revisions.len()), (Some("1.31.1"), 1));
    assert_eq!(public.serving_ca.as_ref(), Some(&world.ca.pem));
    let private = world.private();
    assert_eq!(private.ingress_gateways.iter().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.7:15443"]);
    assert_eq!(private.cluster_id.unwrap().as_str(), "east");
    assert_eq!(private.network_name.as_str(), "network-east");
    assert_eq!(private.api_ca.as_ref(), Some(&world.ca.pem));
    for path in [PUBLIC, BUNDLE] {
        assert_eq!(world.get(path, None).await.status(), 200, "{path}");
    }
    assert_eq!(world.get(PRIVATE, None).await.status(), 401);
    let answer = world.get(PRIVATE, Some(bearer(2, "ci", OWN))).await;
    assert_eq!(answer.status(), 200);
    let Reading::Complete(document) = PrivateDocument::parse(&answer.bytes().await.unwrap()).unwrap() else { panic!() };
    assert_eq!(document.api_host.to_string(), "api.east.example");
    let named = |part: &str| world.kube.asked().iter().any(|asked| asked.contains(part));
    assert!(named("fieldSelector=metadata.name%3Disthmus-peers"), "rights cover single names alone");
    assert!(!named("/secrets"));
    assert!(world.metrics.text().contains(r#"isthmus_exporter_requests_total{path="private",code="401"} 1"#));
    world.stop.request();
}

#[tokio::test]
async fn a_token_opens_the_private_document_once() {
    let world = SourcesWorld::started().await;
    let token = bearer(2, "ci", OWN);
    assert_eq!(world.get(PRIVATE, Some(token.clone())).await.status(), 200);
    let again = world.get(PRIVATE, Some(token.clone())).await;
    let refused = world.get(PRIVATE, Some(format!("{token}x"))).await;
    let seen = |answer: &reqwest::Response| {
        let mut headers = answer.headers().clone();
        headers.remove("date");
        (answer.status(), headers)
    };
    assert_eq!(seen(&again), seen(&refused), "a replay looks like any other refusal");
    assert_eq!((again.status().as_u16(), again.text().await.unwrap()), (401, refused.text().await.unwrap()));
    // claims of the same second in another token, as two runs of an engine make them
    let other = bearer_with(2, "ci", OWN, Some(7));
    assert_eq!(world.get(PRIVATE, Some(other.clone())).await.status(), 200);
    assert_eq!(world.get(PRIVATE, Some(other)).await.status(), 401);
    world.stop.request();
}

#[rstest]
#[case::root("configmaps", "istio-ca-root-cert", Some(json!({"root-cert.pem": "no certificate"})), [PUBLIC, BUNDLE].as_slice())]
#[case::identity("configmaps", "isthmus-identity", Some(json!({"identity.json": "{\"version\":1,"})), &[PUBLIC, PRIVATE])]
#[case::identity_of_another("configmaps", "isthmus-identity", Some(json!({"identity.json": format!("{{\"version\":1,\"clusterUUID\":\"{WEST}\"}}")})), &[PUBLIC, PRIVATE])]
#[case::keyless("configmaps", "isthmus-identity", Some(json!({"identity.json": "{\"version\":1}"})), &[PUBLIC, PRIVATE])]
#[case::peers("configmaps", "isthmus-peers", Some(json!({"peers.json": "{\"version\":2}"})), &[PUBLIC, PRIVATE])]
#[case::uuid("namespaces", "kube-system", None, &[PUBLIC, PRIVATE])]
#[case::network("namespaces", NS, None, &[PRIVATE])]
#[case::istiod("deployments", "istiod", None, &[PUBLIC, PRIVATE])]
#[case::gateway("services", "eastwest", None, &[PRIVATE])]
#[tokio::test]
async fn a_missing_or_broken_input_is_never_200(
    #[case] collection: &str,
    #[case] name: &str,
    #[case] broken: Option<Value>,
    #[case] paths: &[&str],
) {
    let namespaced = if collection == "namespaces" { "" } else { NS };
    let forms = [None, Some(json!({})), broken.filter(|_| collection == "configmaps")];
    for (at, form) in forms.into_iter().enumerate() {
        // a ConfigMap with the peers is not there before there are any
        if (at > 0 && collection != "configmaps") || (at == 0 && name == "isthmus-peers") {
            continue;
        }
        let mut world = SourcesWorld::new().await;
        world.kube.delete(collection, namespaced, name);
        if let Some(data) = form {
            world.kube.put(collection, config_map(name, &data));
        }
        world.begin().await;
        world
            .until("everything was read", |world| {
                let message = format!("{:?}", world.health.failing());
                !message.contains("not read yet")
                    && !message.contains("first collection")
                    && !message.contains("nothing is known")
                    && !world.health.is_ready()
            })
            .await;
        for path in [PUBLIC, BUNDLE, PRIVATE] {
            let status = world.get(path, Some(bearer(2, "ci", OWN))).await.status().as_u16();
            let allowed = if paths.contains(&path) || (path == BUNDLE && paths.contains(&PUBLIC)) { 503 } else { 200 };
            assert_eq!(status, allowed, "{name} {at} {path}");
        }
        world.stop.request();
    }
}

#[tokio::test]
async fn a_change_is_published_within_a_second() {
    let world = SourcesWorld::started().await;
    let second = Duration::from_secs(1);
    world.kube.put("services", gateway(&json!([{"hostname": "gw.east.example"}])));
    world
        .within(second, "a host name", |world| {
            world.private().ingress_gateways[0].address.to_string() == "gw.east.example"
        })
        .await;
    world.kube.put("services", gateway(&json!([])));
    world.within(second, "no address is not an empty list", |world| world.published().private.is_err()).await;
    world.kube.put("services", gateway(&json!([{"ip": "203.0.113.8"}])));
    world.within(second, "an address", |world| world.published().private.is_ok()).await;
    // revocation: who is no longer a peer is refused
    assert_eq!(world.get(PRIVATE, Some(bearer(3, "west", WEST))).await.status(), 200);
    world.kube.delete("configmaps", NS, "isthmus-peers");
    world
        .within(second, "no peers", |world| world.published().peers.as_ref().is_ok_and(|file| file.peers.is_empty()))
        .await;
    assert_eq!(world.get(PRIVATE, Some(bearer(3, "west", WEST))).await.status(), 401);
}

#[tokio::test]
async fn an_apiserver_that_goes_away_takes_nothing_back() {
    let world = SourcesWorld::started().await;
    let before = world.published();
    world.kube.set_up(false);
    world.within(Duration::from_secs(5), "not ready", |world| !world.health.is_ready()).await;
    let now = world.published();
    assert_eq!((&now.public, &now.private), (&before.public, &before.private));
    assert_eq!(world.get(PUBLIC, None).await.status(), 200);
    // what changes meanwhile, also where the history is gone, is seen afterwards
    world.kube.put("services", gateway(&json!([{"ip": "203.0.113.99"}])));
    world.kube.compact();
    world.kube.set_up(true);
    world.until("ready again", |world| world.health.is_ready()).await;
    world.until("news", |world| world.private().ingress_gateways[0].to_string() == "203.0.113.99:15443").await;
}

#[tokio::test]
async fn a_refused_lookup_is_not_an_empty_one() {
    let mut world = SourcesWorld::new().await;
    world.kube.refuse("/api/v1/services");
    world.begin().await;
    let refused = |error: &DocumentError| matches!(error, DocumentError::Gateways(GatewayError::Unread(Unread::Failed { source, .. })) if source.is_refusal());
    world.until("refused", |world| world.published().private.as_ref().is_err_and(refused)).await;
    let message = world.published().private.as_ref().unwrap_err().to_string();
    assert!(message.starts_with("list of gateway Services cannot be read: 403"), "{message}");
    // the two documents do not wait for each other
    world.until("public", |world| world.published().public.is_ok()).await;
    assert_eq!(world.get(PUBLIC, None).await.status(), 200);
    assert_eq!(world.get(PRIVATE, Some(bearer(2, "ci", OWN))).await.status(), 503);
}

#[tokio::test]
async fn requests_have_limits_by_address_and_by_peer() {
    let world = SourcesWorld::started().await;
    let token = bearer(2, "ci", OWN);
    let mut refused = None;
    for _ in 0..40 {
        let answer = world.get(PRIVATE, Some(token.clone())).await;
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("no limit");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(refused.text().await.unwrap(), "too many requests\n");
}

/// Answers plain HTTP at a fixed port of a loopback address of this process's own.
async fn page(at: SocketAddr, answer: impl Fn(&str, Option<&str>) -> (u16, String) + Clone + Send + 'static) {
    page_after(at, |_| std::future::ready(()), answer).await;
}

/// The same, once something has happened.
pub(super) async fn page_after<F: Future<Output = ()> + Send>(
    at: SocketAddr,
    waits: impl Fn(&str) -> F + Clone + Send + 'static,
    answer: impl Fn(&str, Option<&str>) -> (u16, String) + Clone + Send + 'static,
) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (waits, answer) = (waits.clone(), answer.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let token = request.headers().get("authorization").map(|value| value.to_str().unwrap());
                let waiting = waits(request.uri().path());
                let (status, text) = answer(request.uri().path(), token);
                let response = Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap();
                async move {
                    waiting.await;
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

pub(super) fn address(last: u8) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{low}.{last}", 128 + high % 100)
}

pub(super) fn seen(world: &SourcesWorld) -> Option<Evidence> {
    match &world.published().evidence {
        Gathered::Collected(collected) => Some(collected.evidence.clone()),
        Gathered::NotYet | Gathered::Nothing => None,
    }
}

#[tokio::test]
async fn evidence_is_the_worst_of_all_that_pods_say() {
    let mut world = SourcesWorld::new().await;
    let labels = json!({"app": "istiod"});
    let (one, two) = (address(1), address(2));
    let foreign = Ca::new("foreign").pem;
    for (at, (ip, state)) in [(&one, "synced"), (&two, "syncing")].into_iter().enumerate() {
        world.kube.put("pods", pod(&format!("istiod-{at}"), &labels, &istiod_spec(), ip));
        let foreign = foreign.clone();
        // one of them has no debugging on the port for monitoring
        let port = if at == 0 { 15014 } else { 8080 };
        page(format!("{ip}:{port}").parse().unwrap(), move |path, _| {
            let value = match path {
                "/debug/clusterz" => json!([{"id": "east", "secretName": "", "syncStatus": "synced"},
                    {"id": "west", "secretName": "istio-system/istio-remote-secret-west", "syncStatus": state}]),
                "/debug/networkz" => json!([{"Network": "network-west", "Cluster": "", "Addr": "198.51.100.7", "Port": 15443,
                    "HBONEPort": 0, "ServiceAccount": {"Namespace": "", "Name": ""}}]),
                _ => json!({"trustDomain": "cluster.local", "caCertificates": [{"pem": foreign, "trustDomains": ["cluster.local"]}]}),
            };
            (200, value.to_string())
        })
        .await;
    }
    let metric = "# TYPE isthmus_relay_route_up gauge\nisthmus_relay_route_up{cluster_id=\"west\",api_host=\"api.west.example\",reason=\"\"} 1\n# EOF\n";
    let spec = json!({"containers": []});
    let relay = address(3);
    world.kube.put("pods", pod("relay-0", &json!({"app.kubernetes.io/name": "isthmus-relay"}), &spec, &relay));
    let endpoint = "https://istio-metadata.deck.example/metadata";
    let read = json!({"version": 1, "peersSeen": [{"endpoint": endpoint, "public": {"clusterUUID": "a"}, "private": null, "age": 7,
        "state": {"public": {"kind": "read"}, "private": {"kind": "notAsked"}}}]});
    page(format!("{relay}:9090").parse().unwrap(), move |path, _| {
        (200, if path == "/peers-seen" { read.to_string() } else { metric.to_owned() })
    })
    .await;
    let used = |key: &str, at: u32| {
        format!("isthmus_proxy_credential_last_used_seconds{{cluster_uuid=\"{WEST}\",key_id=\"{key}\"}} {at}\n")
    };
    for (last, text) in [(4, used("old", 10)), (5, used("new", 20))] {
        let ip = address(last);
        world.kube.put(
            "pods",
            pod(&format!("proxy-{last}"), &json!({"app.kubernetes.io/name": "isthmus-proxy"}), &spec, &ip),
        );
        page(format!("{ip}:9090").parse().unwrap(), move |_, _| (200, text.clone())).await;
    }
    let injected =
        json!({"containers": [{"name": "istio-proxy", "env": [{"name": "PROXY_CONFIG_XDS_AGENT", "value": "true"}]}]});
    world.kube.put("pods", pod("shop", &json!({}), &injected, "10.0.0.1"));
    world.begin().await;
    world
        .until("evidence", |world| seen(world).is_some_and(|evidence| evidence.prepared == Reported::Seen(true)))
        .await;
    let evidence = seen(&world).unwrap();
    let reads = evidence.reads.seen().unwrap();
    assert_eq!((reads.len(), reads[0].cluster_id.as_str(), reads[0].state), (1, "west", ReadState::Syncing));
    assert_eq!(evidence.trusts.seen().unwrap().len(), 2, "its own root and the foreign one");
    let networks = evidence.networks.seen().unwrap();
    assert_eq!(
        (networks[0].name.as_str(), networks[0].gateways[0].to_string()),
        ("network-west", "198.51.100.7:15443".to_owned())
    );
    let routes = evidence.routes.seen().unwrap();
    assert_eq!((routes[0].state, routes[0].api_host.to_string()), (RouteState::Ok, "api.west.example".to_owned()));
    let used = evidence.credentials.seen().unwrap();
    assert_eq!(
        (used.len(), &used[0].cluster_uuid, used[0].key_id.as_str()),
        (1, &WEST.parse::<ClusterUuid>().unwrap(), "new")
    );
    assert_eq!(evidence.mesh_config.seen().map(|config| config.ca_certificates), Some(false));
    let Gathered::Collected(collected) = &world.published().evidence else { panic!() };
    assert_eq!((collected.peers_seen.len(), collected.peers_seen[0].endpoint.to_string()), (1, endpoint.to_owned()));

    // an istiod that does not answer: its fields are unknown, the others stay
    world.kube.put("pods", pod("istiod-2", &labels, &istiod_spec(), &address(9)));
    world.until("silence", |world| seen(world).is_some_and(|evidence| evidence.reads.seen().is_none())).await;
    let evidence = seen(&world).unwrap();
    assert!(
        matches!(&evidence.trusts, Reported::Unknown(reason) if reason.contains("istiod-2")),
        "{:?}",
        evidence.trusts
    );
    assert!(evidence.routes.seen().is_some());
    assert!(world.published().private.is_ok(), "evidence keeps no document back");
}

/// What the agent answers is old as soon as it does not run.
#[tokio::test]
async fn a_hand_over_goes_no_further_while_no_pod_of_who_is_to_act_is_ready() {
    let world = SourcesWorld::started().await;
    let answer = json!({"version": 1, "to": "agent", "serial": 3, "stage": "ready"}).to_string();
    world.kube.put("configmaps", config_map("isthmus-hand-over", &json!({"state.json": answer})));
    let stage = |world: &SourcesWorld| {
        let hand_over = seen(world)?.hand_over?;
        Some((hand_over.stage, hand_over.reason))
    };
    let none = (HandOverStage::Preparing, Some("no pod of `isthmus-agent` is ready".to_owned()));
    world.until("no agent", |world| stage(world).as_ref() == Some(&none)).await;
    let labels = |app: &str| json!({"app.kubernetes.io/name": app});
    world.kube.put("pods", pod("isthmus-relay-0", &labels("isthmus-relay"), &istiod_spec(), "127.0.0.1"));
    world.kube.put("pods", pod("isthmus-agent-0", &labels("isthmus-agent"), &istiod_spec(), "127.0.0.1"));
    world.until("an agent", |world| stage(world) == Some((HandOverStage::Ready, None))).await;
    world.kube.delete("pods", NS, "isthmus-agent-0");
    world.until("the agent to be gone", |world| stage(world).as_ref() == Some(&none)).await;
}

/// What a checkout offers is of its own run: once another one wrote, it is taken.
#[tokio::test]
async fn an_offer_ends_with_the_run_of_another_checkout() {
    let world = SourcesWorld::started().await;
    let labels = json!({"app.kubernetes.io/name": "isthmus-relay"});
    world.kube.put("pods", pod("isthmus-relay-0", &labels, &istiod_spec(), "127.0.0.1"));
    let offer = json!({"version": 1, "to": "tree", "serial": 7, "stage": "offered"}).to_string();
    world.kube.put("configmaps", config_map("isthmus-hand-over", &json!({"state.json": offer})));
    world.kube.put("configmaps", peers_of(7));
    let stage = |world: &SourcesWorld| seen(world)?.hand_over.map(|state| state.stage);
    world.until("the offer", |world| stage(world) == Some(HandOverStage::Offered)).await;
    world.kube.put("configmaps", peers_of(8));
    world.until("no offer", |world| seen(world).is_some() && stage(world).is_none()).await;
    // whose that is, is shown as it is written
    let file = json!({"version": 1, "serial": 9, "writer": "theirs", "peers": []}).to_string();
    world.kube.put("configmaps", config_map("isthmus-peers", &json!({"peers.json": file})));
    let writer = |world: &SourcesWorld| seen(world)?.writer.map(|writer| writer.to_string());
    world.until("its writer", |world| writer(world).as_deref() == Some("theirs")).await;
}

#[tokio::test]
async fn without_a_certificate_the_role_does_not_begin() {
    let tls = TlsFiles { certificate: Path::new("/nowhere/tls.crt").into(), key: Path::new("/nowhere/tls.key").into() };
    let (role, _stop) = Role::new(NS.parse().unwrap(), RoleLimits::of_exporter(), Kube::start().await.access());
    let role = Role { tls: Some(tls), ..role };
    let options = ExporterOptions { api_host: Some("a.example".parse().unwrap()), ..ExporterOptions::default() };
    assert!(start(role.clone(), options).await.unwrap_err().to_string().contains("/nowhere/tls.crt"));
    assert!(start(role, ExporterOptions::default()).await.unwrap_err().to_string().contains("--api-host"));
}

#[tokio::test]
async fn behind_node_ports_nodes_and_pods_are_read() {
    let mut world = SourcesWorld::new().await;
    let mut service = gateway(&json!([]));
    service["spec"] = json!({"type": "NodePort", "selector": {"istio": "eastwestgateway"},
        "ports": [{"name": "tls", "port": 15443, "nodePort": 31443}]});
    world.kube.put("services", service);
    for (name, address) in [("one", "203.0.113.1"), ("two", "203.0.113.2")] {
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "ExternalIP", "address": address}]});
        world.kube.put("nodes", json!({"metadata": {"name": name}, "status": status}));
    }
    world.begin().await;
    world
        .until("no pod, no address", |world| {
            let no_address =
                DocumentError::Gateways(GatewayError::NoAddress { service: "istio-system/eastwest".to_owned() });
            world.published().private == Err(no_address)
        })
        .await;
    let spec = json!({"nodeName": "two", "containers": [{"name": "istio-proxy"}]});
    world.kube.put("pods", pod("gw", &json!({"istio": "eastwestgateway"}), &spec, "10.0.0.9"));
    world.until("the node of the pod", |world| world.published().private.is_ok()).await;
    assert_eq!(
        world.private().ingress_gateways.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["203.0.113.2:31443"]
    );
}
