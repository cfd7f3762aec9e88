//! One mesh of three: a cluster that a checkout renders, one with an agent, and a Deckhouse, each linked with the others.
//!
//! The Deckhouse is a script before a real apiserver, istiod and Envoy: its exporter, its api-proxy, and what its module does with each
//! `IstioMulticluster` that the checkout brought there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use isthmus::server::limits::RoleLimits;
use isthmus::server::{Body, Bound, Certificates, Handler, Running};
use isthmus::types::key::{PrivateKey, PublicKey};
use isthmus::types::time::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::deckhouse::{Deckhouse, NAMESPACE, PeerCache, Shows, get};
use super::lying::LyingProxy;
use super::mesh::{BedCluster, BedMesh, MOST_RUNS, RunsUntil};
use super::peer::Ca;
use super::{one_at_a_time, succeed};

const UUID: &str = "7d1f0c52-3a1e-4a43-8f0e-55d2f0c9b7aa";

/// Its exporter and its api-proxy.
enum DeckServer {
    Exporter { deck: Arc<Deckhouse>, private: String },
    ApiProxy { deck: Arc<Deckhouse>, apiserver: LyingProxy },
}

/// Where west's istiod, which the bed runs in `istio-system`, reads a peer as one would that runs where a Deckhouse has it.
struct ReadsAsDeckhouse(LyingProxy);

impl Handler for ReadsAsDeckhouse {
    type Error = Infallible;

    async fn handle(&self, request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path_and_query().unwrap().as_str();
        let path = path.replace("/namespaces/istio-system/", &format!("/namespaces/{NAMESPACE}/"));
        Ok(self.0.pass(&path, request.headers(), &["accept", "authorization"]).await)
    }
}

fn answer(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

impl Handler for DeckServer {
    type Error = Infallible;

    async fn handle(&self, request: Request<Incoming>, from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let path = request.uri().path();
        let (Self::Exporter { deck, .. } | Self::ApiProxy { deck, .. }) = self;
        let admits = |scope: &str| deck.verdict(authorization, scope);
        let refused = |why: &str| Ok(answer(StatusCode::UNAUTHORIZED, format!("Authentication error: {why}\n")));
        match self {
            Self::Exporter { deck, .. } if path == "/metadata/public/public.json" => {
                Ok(answer(StatusCode::OK, deck.public()))
            }
            Self::Exporter { private, .. } if path == "/metadata/private/multicluster.json" => {
                match admits("private-multicluster") {
                    Ok(_) => Ok(answer(StatusCode::OK, private.clone())),
                    Err(why) => refused(why),
                }
            }
            Self::Exporter { .. } => Ok(answer(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())),
            Self::ApiProxy { apiserver, .. } => match admits("api") {
                Ok(_) => apiserver.handle(request, from).await,
                Err(why) => refused(why),
            },
        }
    }
}

/// The module of west: what it keeps of each peer, by name, and what it has made of it.
struct DeckModule<'a> {
    mesh: &'a BedMesh,
    west: BedCluster,
    deck: Arc<Deckhouse>,
    runtime: Runtime,
    ca: Ca,
    peers: BTreeMap<String, PeerCache>,
    /// What was made of which peers.
    made: Value,
    reading: BTreeMap<String, (SocketAddr, Running)>,
}

impl DeckModule<'_> {
    /// Reads its objects, and what their peers publish.
    fn poll(&mut self) {
        let mut list = self.mesh.kubectl(self.west);
        let list = succeed(list.args(["get", "istiomulticlusters.deckhouse.io", "--output=json"]));
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut objects = Vec::new();
        for object in list["items"].as_array().unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let endpoint = object["spec"]["metadataEndpoint"].as_str().unwrap();
            // before the CA of the peer is known to the checkout
            let Some(ca) = object["spec"]["metadata"]["ca"].as_str() else { continue };
            let (address, path) = endpoint.strip_prefix("https://").unwrap().split_once('/').unwrap();
            let address: SocketAddr = address.parse().unwrap();
            let ask = |document: &str, token: Option<&str>| {
                self.runtime.block_on(get(address, ca, &format!("/{path}/{document}"), token))
            };
            let cache = self.peers.entry(name.clone()).or_default();
            let (status, public) = ask("public/public.json", None);
            if let Err(reason) = cache.take_public((status, &public)) {
                eprintln!("bed: deck: the public document of {name}: {reason} ({status})");
                continue;
            }
            let public = cache.public.clone().unwrap();
            let uuid = public["clusterUUID"].as_str().unwrap();
            let key = PublicKey::from_pem(public["authnKeyPub"].as_str().unwrap()).unwrap();
            self.deck.known.lock().unwrap().insert(uuid.to_owned(), key);
            let (status, private) =
                ask("private/multicluster.json", Some(&self.deck.token(uuid, "private-multicluster")));
            if cache.take_private((status, &private), true).is_err() {
                continue;
            }
            // it keeps what it knows, and no more
            let mut private = cache.private.clone().unwrap();
            let known = ["apiHost", "clusterID", "ingressGateways", "networkName"];
            private.as_object_mut().unwrap().retain(|field, _| known.contains(&field.as_str()));
            let public = json!({ "clusterUUID": uuid, "rootCA": public["rootCA"] });
            objects.push((name, ca.to_owned(), public, private));
        }
        let made = json!(objects);
        if made != self.made {
            self.make(&objects);
            self.made = made;
        }
    }

    /// Trust, networks and remote secrets of all peers that are read, in one go.
    fn make(&mut self, peers: &[(String, String, Value, Value)]) {
        let roots: Vec<Value> = peers.iter().map(|(_, _, public, _)| json!({ "pem": public["rootCA"] })).collect();
        let id = |private: &Value| private["clusterID"].as_str().unwrap().to_owned();
        let networks = peers.iter().map(|(_, _, _, private)| {
            let gateways = private["ingressGateways"].clone();
            let network = json!({ "endpoints": [{ "fromRegistry": id(private) }], "gateways": gateways });
            (private["networkName"].as_str().unwrap().to_owned(), network)
        });
        let networks: serde_json::Map<String, Value> = networks.collect();
        let config = json!({
            "defaultConfig": { "proxyMetadata": { "ISTIO_META_DNS_CAPTURE": "true", "PROXY_CONFIG_XDS_AGENT": "true" } },
            "caCertificates": roots,
        });
        self.mesh.apply(self.west, &json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "isthmus-mesh", "namespace": "istio-system" },
            "data": { "mesh": config.to_string(), "meshNetworks": json!({ "networks": networks }).to_string() },
        }));
        for (name, ca, public, private) in peers {
            let uuid = public["clusterUUID"].as_str().unwrap();
            let server = format!("https://{}", self.reads(name, ca, private["apiHost"].as_str().unwrap()));
            let ca = base64::prelude::BASE64_STANDARD.encode(&self.ca.pem);
            let kubeconfig = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": name,
                "clusters": [{ "name": name, "cluster": { "server": server, "certificate-authority-data": ca } }],
                "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
                "users": [{ "name": name, "user": { "token": self.deck.token(uuid, "api") } }],
            });
            self.mesh.apply(self.west, &json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {
                    "name": format!("istio-remote-secret-{name}"), "namespace": "istio-system",
                    "labels": { "istio/multiCluster": "true" }, "annotations": { "networking.istio.io/cluster": id(private) },
                },
                "stringData": { id(private): kubeconfig.to_string() },
            }));
        }
    }
}

impl DeckModule<'_> {
    /// Where west's istiod reads a peer.
    fn reads(&mut self, peer: &str, ca: &str, api_host: &str) -> SocketAddr {
        if let Some((address, _)) = self.reading.get(peer) {
            return *address;
        }
        let ca = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
        let reads = ReadsAsDeckhouse(LyingProxy { client, apiserver: format!("https://{api_host}") });
        let host = 60 + u8::try_from(self.reading.len()).unwrap();
        let address = self.west.address(host, 8443);
        let serving = self.ca.serving(&[&address.ip().to_string()]);
        let certificates = Certificates::from_pem(&serving.chain, &serving.key).unwrap();
        let limits = RoleLimits::of_proxy().server(true);
        let running = self
            .runtime
            .block_on(async { Bound::to(address).await.unwrap().serve(&certificates, limits, Arc::new(reads)) });
        self.reading.insert(peer.to_owned(), (address, running));
        address
    }
}

/// West is a Deckhouse from now on, and has its kind.
fn deckhouse(mesh: &BedMesh, west: BedCluster) -> (Arc<Deckhouse>, Runtime, Vec<Running>) {
    mesh.apply(west, &json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "istiomulticlusters.deckhouse.io" },
        "spec": {
            "group": "deckhouse.io", "scope": "Cluster",
            "names": { "kind": "IstioMulticluster", "plural": "istiomulticlusters", "singular": "istiomulticluster" },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    }));
    let root =
        mesh.object(west, "configmap", "istio-ca-root-cert")["data"]["root-cert.pem"].as_str().unwrap().to_owned();
    let deck = Arc::new(Deckhouse {
        uuid: UUID.to_owned(),
        key: PrivateKey::generate(&[40; 32]).unwrap(),
        other_root: root.clone(),
        root,
        api_host: west.address(30, 8443).to_string(),
        known: Mutex::default(),
        shows: Mutex::new(Shows::Whole),
        now: Box::new(|| Timestamp::from_seconds(jiff::Timestamp::now().as_second())),
    });
    let private = json!({
        "ingressGateways": [{ "address": west.address(50, 0).ip(), "port": 15443 }],
        "apiHost": deck.api_host,
        "networkName": format!("network-{}", west.name),
    });
    let ca = Ca::new("deck");
    fs::write(mesh.checkout().join(format!("specs/{}-ca.pem", west.name)), &ca.pem).unwrap();
    let runtime = Runtime::new().unwrap();
    let exporter =
        DeckServer::Exporter { deck: deck.clone(), private: serde_json::to_string_pretty(&private).unwrap() };
    let proxy = DeckServer::ApiProxy { deck: deck.clone(), apiserver: mesh.apiserver(west) };
    let limits = [RoleLimits::of_exporter().server(false), RoleLimits::of_proxy().server(true)];
    let running = [(20, exporter), (30, proxy)].into_iter().zip(limits).map(|((host, server), limits)| {
        let address = west.address(host, 8443);
        let serving = ca.serving(&[&address.ip().to_string()]);
        let certificates = Certificates::from_pem(&serving.chain, &serving.key).unwrap();
        runtime.block_on(async { Bound::to(address).await.unwrap().serve(&certificates, limits, Arc::new(server)) })
    });
    let running = running.collect();
    (deck, runtime, running)
}

/// What the checkout declares: how each cluster is reconciled, and where its metadata is.
fn write_specs(mesh: &BedMesh) {
    let mut text =
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n"
            .to_owned();
    for cluster in mesh.clusters() {
        let file = format!("specs/{}-ca.pem", cluster.name);
        let ca = if mesh.checkout().join(&file).exists() { format!(", ca: {{file: {file}}}") } else { String::new() };
        let ours = format!(
            "multicluster: {{enabled: true, image: \"registry.example.com/isthmus:0.1.0\", apiHost: \"{}\"}}",
            cluster.address(30, 8443)
        );
        let lines = match cluster.name {
            "east" => ours,
            "north" => format!("reconciler: agent\n  {ours}"),
            _ => "reconciler: deckhouse".to_owned(),
        };
        text.push_str(&format!(
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {}}}\nspec:\n  {lines}\n  metadata: \
             {{endpoint: \"https://{}/metadata\"{ca}}}\n  allow: {{addresses: [127.0.0.0/8]}}\n",
            cluster.name,
            cluster.address(20, 8443)
        ));
    }
    fs::write(mesh.checkout().join("specs/mesh.yaml"), text).unwrap();
}

/// Runs and syncs until nothing is left to do but what a Deckhouse never shows.
fn settle(mesh: &BedMesh) {
    let mut output = String::new();
    for run in 1..=2 * MOST_RUNS {
        output = mesh.reconcile();
        if output.contains("No changes") && !output.contains("waiting") {
            eprintln!("bed: nothing left to do after {run} runs");
            return;
        }
        for cluster in mesh.clusters() {
            mesh.sync(cluster, &[]);
        }
        thread::sleep(Duration::from_secs(2));
    }
    panic!("the mesh does not settle: {output}");
}

#[test]
fn a_checkout_an_agent_and_a_deckhouse_are_one_mesh() {
    let _guard = one_at_a_time();
    let of =
        [("east", "orders", "cluster.local"), ("north", "stock", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let (east, north, west) = (mesh.cluster("east"), mesh.cluster("north"), mesh.cluster("west"));
    let (deck, _runtime, _running) = deckhouse(&mesh, west);
    write_specs(&mesh);
    mesh.reconcile();
    mesh.sync_all();
    for (cluster, acts) in [(east, "relay"), (north, "agent")] {
        mesh.run(cluster, acts, 40);
        mesh.ready(cluster, 40);
        fs::write(mesh.checkout().join(format!("specs/{}-ca.pem", cluster.name)), mesh.serving_ca(cluster)).unwrap();
        mesh.run(cluster, "proxy", 30);
        mesh.run(cluster, "exporter", 20);
        mesh.ready(cluster, 30);
        mesh.ready(cluster, 20);
    }
    write_specs(&mesh);

    let acts = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (runtime, ca) = (Runtime::new().unwrap(), Ca::new("deck's istiod"));
            let (peers, reading) = (BTreeMap::new(), BTreeMap::new());
            let mut module = DeckModule { mesh: &mesh, west, deck, runtime, ca, peers, made: Value::Null, reading };
            while acts.load(Ordering::Relaxed) {
                module.poll();
                thread::sleep(Duration::from_secs(2));
            }
        });
        let _ends = RunsUntil(&acts);
        settle(&mesh);
        mesh.synced(true);
        for (reader, peer) in mesh.links() {
            mesh.answers(reader, peer);
        }
        mesh.loses_nothing_while("all three act", || {
            mesh.reconcile();
            thread::sleep(Duration::from_secs(5));
        });
    });
    for (cluster, peer) in [(north, "east"), (north, "west")] {
        mesh.condition(cluster, peer, "ControlPlaneSynced", "True", None);
    }
}
