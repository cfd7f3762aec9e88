//! What a request costs the api-proxy: small ones a CPU second, long lists, idle watches; beside a bare hyper server that passes
//! the same requests on without looking at them, which is the floor.
//!
//! `cargo bench --bench requests`. All programs are measured alternately, and medians are printed, so that a busy machine weighs on
//! all alike. `ISTHMUS_ENGINES=before=PATH,…` measures other builds beside this one. Where `envoy` can be run, as with the programs of
//! the test bed in `PATH`, it is measured, too: with the duties of the api-proxy (`jwt_authn` without and with its cache, RBAC, an
//! access log), and with none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark talks to a real process and stops at the first surprise"
)]

#[path = "support/envoy.rs"]
mod envoy;
#[allow(dead_code, reason = "shared with other benchmarks")]
#[path = "support/front.rs"]
mod front;
#[path = "support/load.rs"]
mod load;
#[path = "support/process.rs"]
mod process;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use isthmus::server::limits::RoleLimits;
use isthmus::server::{Body, BodyError, Bound, Certificates, Handler, whole};
use serde_json::{Value, json};
use tokio::time::sleep;

use envoy::Duties;
use load::{CONNECTIONS, Question, connect, median, number};
use process::{OWN, PEER, kubeconfig, signer, token};

const SERVICE: &str = "/api/v1/namespaces/shop/services/orders";
const LIST: &str = "/api/v1/services";
const WATCH: &str = "/api/v1/pods?watch=true";
const LIMITS: [&str; 6] = [
    "rate-per-address=1000000/1000000",
    "rate-per-peer=1000000/1000000",
    "watches=100000",
    "watches-per-peer=100000",
    "connections-per-address=10000",
    "lame-duck=1ms",
];
/// Those that older builds do not know.
const LATER_LIMITS: [&str; 3] =
    ["requests-per-peer=100000", "rate-unauthenticated=1000000/1000000", "connections-per-peer=10000"];

fn service() -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": { "name": "orders", "namespace": "shop", "uid": OWN, "resourceVersion": "123456789",
            "creationTimestamp": "2026-11-01T00:00:00Z", "labels": { "app": "orders", "team": "shop" },
            "managedFields": [{ "manager": "helm", "operation": "Update", "apiVersion": "v1",
                "fieldsV1": { "f:spec": { "f:ports": {}, "f:selector": {}, "f:type": {} } } }] },
        "spec": { "clusterIP": "10.0.0.17", "clusterIPs": ["10.0.0.17"], "selector": { "app": "orders" },
            "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080 },
                { "name": "grpc", "port": 81, "protocol": "TCP", "targetPort": 8081 }] },
        "status": { "loadBalancer": {} },
    })
}

struct RequestsOrigin {
    identity: String,
    peers: String,
    service: Bytes,
    list: Bytes,
}

impl Handler for RequestsOrigin {
    type Error = Infallible;

    async fn handle(&self, request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let map = |name: &str, data: Value| {
            let metadata = json!({ "name": name, "namespace": "istio-system", "resourceVersion": "1" });
            let items = json!([{ "metadata": metadata, "data": data }]);
            let version = json!({ "resourceVersion": "1" });
            whole(json!({ "kind": "List", "apiVersion": "v1", "metadata": version, "items": items }).to_string())
        };
        let body = if query.contains("watch=") {
            StreamBody::new(stream::pending::<Result<Frame<Bytes>, BodyError>>()).boxed_unsync()
        } else if query.contains("isthmus-identity") {
            map("isthmus-identity", json!({ "identity.json": self.identity }))
        } else if query.contains("isthmus-peers") {
            map("isthmus-peers", json!({ "peers.json": self.peers }))
        } else if path == LIST {
            // as an apiserver writes long answers: without a length
            let chunks: Vec<_> = self.list.chunks(4096).map(|chunk| self.list.slice_ref(chunk)).collect();
            let frames = stream::iter(chunks).map(|chunk| Ok::<_, BodyError>(Frame::data(chunk)));
            StreamBody::new(frames).boxed_unsync()
        } else {
            whole(self.service.clone())
        };
        let mut response = Response::new(body);
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// The floor: passes requests on over a few connections, and answers back, and does nothing else.
async fn floor(folder: &Path, origin: &str) {
    struct Floor(Vec<SendRequest<Empty<Bytes>>>, std::sync::atomic::AtomicUsize, String);
    let senders = join_all((0..4).map(|_| connect(folder, origin))).await;
    let floor = Arc::new(Floor(senders, 0.into(), origin.to_owned()));
    load::bare(folder, move |request: Request<Incoming>| {
        let floor = floor.clone();
        async move {
            let at = floor.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % floor.0.len();
            let path = request.uri().path_and_query().unwrap().as_str();
            let uri = format!("https://{}{path}", floor.2);
            let request = Request::get(uri).body(Empty::new()).unwrap();
            floor.0[at].clone().send_request(request).await
        }
    })
    .await;
}

struct Measured {
    name: String,
    pid: u32,
    address: String,
    /// What is ended with the measurement.
    child: Option<Child>,
}

impl Measured {
    fn start(name: &str, command: Command, folder: &Path) -> Self {
        let (child, address) = process::start(command, &folder.join(format!("{name}.log")));
        Self { name: name.to_owned(), pid: child.id(), address, child: Some(child) }
    }

    fn engine(name: &str, program: &Path, folder: &Path) -> Self {
        let mut command = Command::new(program);
        command
            .args(["serve", "proxy", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"])
            .arg(format!("--audit-log={}", folder.join(format!("{name}.audit")).display()))
            .args(LIMITS.map(|limit| format!("--limit={limit}")))
            .arg(format!("--kubeconfig={}", folder.join("kubeconfig").display()))
            .arg(format!("--tls-cert={}", folder.join("tls.crt").display()))
            .arg(format!("--tls-key={}", folder.join("tls.key").display()));
        if !name.starts_with("before") {
            command.args(LATER_LIMITS.map(|limit| format!("--limit={limit}")));
        }
        Self::start(name, command, folder)
    }

    /// As istiod asks.
    fn question(&self, token: &str, path: &'static str) -> Question {
        let headers =
            [("authorization", token), ("accept", "application/json"), ("user-agent", "pilot-discovery/1.29")];
        let headers =
            headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        Question { at: self.address.clone(), path, headers: headers.into_iter().collect() }
    }

    fn cpu(&self) -> Duration {
        process::cpu(self.pid)
    }

    fn memory(&self) -> u64 {
        process::memory(self.pid, "VmRSS:")
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// CPU and time of a long list.
async fn lists(all: &[Measured], folder: &Path, token: &str, bytes: usize) {
    println!("a list of {:.1} MB, until its last byte:", bytes as f64 / 1e6);
    for measured in all {
        let mut sender = connect(folder, &measured.address).await;
        let (before, mut took) = (measured.cpu(), Vec::new());
        let rounds = 20;
        for _ in 0..rounds {
            let begun = Instant::now();
            let (status, _) = measured.question(token, LIST).ask(&mut sender).await;
            assert_eq!(status, StatusCode::OK);
            took.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        let cpu = measured.cpu().saturating_sub(before).as_secs_f64() * 1000.0 / f64::from(rounds);
        println!("  {:10} {cpu:6.1} ms of CPU, {:6.1} ms in all", measured.name, median(&mut took));
    }
}

/// Memory and CPU of watches that say nothing.
async fn watches(all: &[Measured], folder: &Path, token: &str, count: usize) {
    println!("{count} idle watches:");
    for measured in all {
        let before = measured.memory();
        let mut open = Vec::new();
        for _ in 0..count / 100 {
            let mut sender = connect(folder, &measured.address).await;
            for _ in 0..100 {
                let uri = format!("https://{}{WATCH}", measured.address);
                let request = Request::get(uri).header("authorization", token).body(Empty::new()).unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                open.push(response);
            }
        }
        sleep(Duration::from_secs(2)).await;
        let each = measured.memory().saturating_sub(before) as f64 / 1024.0 / count as f64;
        let cpu = measured.cpu();
        sleep(Duration::from_secs(10)).await;
        let idle = measured.cpu().saturating_sub(cpu).as_secs_f64() * 10.0;
        println!("  {:10} {each:6.1} KiB each, {idle:.1} % of a core", measured.name);
        drop(open);
    }
}

/// `NAME=VALUE` pairs of a variable.
fn pairs(name: &str) -> Vec<(String, String)> {
    let text = std::env::var(name).unwrap_or_default();
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split(',').filter(|text| !text.is_empty()).map(|text| pair(text).expect("NAME=VALUE")).collect()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, folder, origin] = &arguments[..]
        && role == "floor"
    {
        return floor(Path::new(folder), origin).await;
    }
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().to_owned();
    let (certificate, key) = process::certificate(&folder);

    let pem = signer().public().to_pem();
    let keys = json!([{ "id": "east", "pem": pem, "scopes": ["api"] }]);
    let peers = json!([{ "name": "east", "clusterUUID": PEER, "namespaces": ["*"], "keys": keys }]);
    let one = service().to_string();
    let count = number("LIST_ITEMS", 10_000);
    let list = format!(
        r#"{{"kind":"ServiceList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{}]}}"#,
        vec![one.as_str(); count].join(",")
    );
    let bytes = list.len();
    let origin = RequestsOrigin {
        identity: json!({ "version": 1, "clusterUUID": OWN }).to_string(),
        peers: json!({ "version": 1, "peers": peers }).to_string(),
        service: Bytes::from(one),
        list: Bytes::from(list),
    };
    // an apiserver's own, but for connections
    let limits = RoleLimits { streams: 100, connections: 100_000, ..RoleLimits::of_proxy() };
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = bound.address().to_string();
    let certificates = Certificates::from_pem(&certificate, &key).unwrap();
    let running = bound.serve(&certificates, limits.server(true), Arc::new(origin));
    kubeconfig(&folder, "kubeconfig", &format!("https://{address}"));

    let token = format!("Bearer {}", token(Duration::from_hours(2)));

    let mut all = Vec::new();
    let mut bare = Command::new(std::env::current_exe().unwrap());
    bare.arg("floor").arg(&folder).arg(&address);
    all.push(Measured::start("floor", bare, &folder));
    for (name, path) in pairs("ISTHMUS_ENGINES") {
        all.push(Measured::engine(&name, Path::new(&path), &folder));
    }
    all.push(Measured::engine("engine", Path::new(env!("CARGO_BIN_EXE_engine")), &folder));
    let envoys = [("envoy", Duties::Nothing), ("envoy-jwt", Duties::Tokens), ("envoy-cache", Duties::CachedTokens)];
    for (name, duties) in envoys {
        let Some(program) = envoy::program() else { break };
        let (child, at) = envoy::start(&program, &folder, name, duties, &address);
        all.push(Measured { name: name.to_owned(), pid: child.id(), address: at, child: Some(child) });
    }
    for measured in &all {
        let mut waited = 0;
        while tokio::net::TcpStream::connect(&measured.address).await.is_err() {
            waited += 1;
            assert!(waited < 200, "{} does not listen", measured.name);
            sleep(Duration::from_millis(50)).await;
        }
        let mut sender = connect(&folder, &measured.address).await;
        for round in 0.. {
            if measured.question(&token, SERVICE).ask(&mut sender).await.0 == StatusCode::OK {
                break;
            }
            assert!(round < 100, "{} is not ready", measured.name);
            sleep(Duration::from_millis(100)).await;
        }
    }
    sleep(Duration::from_secs(1)).await;
    for measured in &all {
        println!("at rest: {} {:.1} MiB", measured.name, measured.memory() as f64 / 1024.0 / 1024.0);
    }

    let (rounds, requests) = (number("ROUNDS", 7), number("REQUESTS", 10_000));
    let mut figures = vec![Vec::new(); all.len()];
    for _ in 0..rounds {
        for (measured, figures) in all.iter().zip(&mut figures) {
            let question = measured.question(&token, SERVICE);
            figures.push(question.a_cpu_second(measured.pid, &folder, requests, StatusCode::OK).await);
        }
    }
    let of_floor = figures[0].clone();
    println!("small GETs, {CONNECTIONS} connections, a CPU second (medians of {rounds} rounds):");
    for (measured, figures) in all.iter().zip(&mut figures) {
        let mut ratios: Vec<f64> = figures.iter().zip(&of_floor).map(|(one, floor)| one / floor).collect();
        let each = median(figures);
        println!(
            "  {:10} {each:8.0} a CPU second, {:5.1} µs each, {:.2} of the floor",
            measured.name,
            1e6 / each,
            median(&mut ratios)
        );
    }
    lists(&all, &folder, &token, bytes).await;
    // the floor has no connections for so many
    watches(&all[1..], &folder, &token, number("WATCHES", 5000)).await;
    drop(all);
    drop(running);
}
