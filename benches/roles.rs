//! What api-proxy and relay cost: time added to a request over asking the same origin directly, memory a watch, and what it
//! costs to project pods, compared with a server that passes the same bytes on as they are, through the same streams.
//!
//! `cargo bench --bench roles`. The origin is a small HTTPS server in this process that stands for an apiserver; the roles are
//! the real binary in processes of their own. Figures are differences to the origin asked directly in the same run.

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

#[path = "support/far.rs"]
mod far;
#[path = "support/front.rs"]
mod front;
#[path = "../tests/support/merge_patch.rs"]
mod merge_patch;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/support/objects.rs"]
mod objects;
#[path = "support/passing.rs"]
mod passing;
#[path = "support/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/support/protobuf.rs"]
mod protobuf;

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use isthmus::roles::api::projection::{AnswerForm, View, Visible};
use isthmus::server::limits::RoleLimits;
use isthmus::server::stream::StreamTransform as _;
use isthmus::server::{Body, BodyError, Bound, Certificates, Handler, whole};
use isthmus::wire::share::Share;
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use tokio::time::{interval, sleep};

use front::over_tls;
use process::{OWN, PEER, kubeconfig, signer, token};

/// That of the program that is measured.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const RELAY: &str = "5e3d9a13-8f92-4d98-a054-3a9d4c2bcf64";
const RATE: u32 = 500;
const SECONDS: u32 = 10;
const WATCHES: usize = 2000;
const LIMITS: [&str; 10] = [
    "rate-per-address=1000000/1000000",
    "rate-per-peer=1000000/1000000",
    "watches=100000",
    "watches-per-peer=100000",
    "requests-per-peer=100000",
    "connections-per-peer=10000",
    "connections-per-address=10000",
    "streams=1000",
    "lame-duck=1ms",
    "drain=1s",
];

/// Events of a watch, and pods of a list.
const PODS: usize = 10_000;
/// Of these so many are distinct; they come again after the others.
const DISTINCT: usize = 500;
/// How often both are measured, one after the other, of which the median counts: the machine may have other work.
const ROUNDS: usize = 9;

/// How long it takes each way to a peer on another continent.
const FAR: Duration = Duration::from_millis(50);

struct BenchOrigin {
    identity: String,
    peers: String,
    events: Vec<Bytes>,
    items: Vec<Bytes>,
    /// A list of them in protobuf.
    protobuf: Bytes,
}

/// A pod as a cluster has them, of some 14.8 kB: ten of a workload follow each other.
fn pod(number: usize) -> Value {
    let workload = format!("orders-{:03}", number / 10);
    let name = format!("{workload}-6c9f7d5b8-x{number:04}");
    let time = format!("2026-11-01T00:{:02}:{:02}Z", number / 60 % 60, number % 60);
    let address = format!("10.1.{}.{}", number / 250, number % 250);
    let env = |n: usize| json!({ "name": format!("SETTING_{n}"), "valueFrom": { "secretKeyRef": { "name": workload, "key": format!("setting-{n}") } } });
    let container = |name: &str| {
        json!({ "name": name, "image": format!("registry.example.com/shop/{name}@sha256:{}", "0123456789abcdef".repeat(4)),
            "args": ["--config=/etc/app/config.yaml", "--listen=:8080"], "env": (0..43).map(env).collect::<Vec<_>>(),
            "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }],
            "resources": { "limits": { "cpu": "1", "memory": "512Mi" }, "requests": { "cpu": "100m", "memory": "128Mi" } },
            "readinessProbe": { "httpGet": { "path": "/ready", "port": 8080, "scheme": "HTTP" }, "periodSeconds": 10 },
            "volumeMounts": [{ "name": "config", "mountPath": "/etc/app", "readOnly": true }] })
    };
    let managed: serde_json::Map<_, _> = (0..60)
        .map(|n| (format!("k:{{\"name\":\"SETTING_{n}\"}}"), json!({ ".": {}, "f:name": {}, "f:value": {} })))
        .collect();
    let condition =
        |kind: &str| json!({ "type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": time });
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": { "name": name, "generateName": format!("{workload}-6c9f7d5b8-"), "namespace": "shop",
            "uid": format!("7d0c6f0a-8f59-4c4c-9a86-54b5c1a6{number:04}"), "resourceVersion": format!("1234{number:05}"), "creationTimestamp": time,
            "labels": { "app": workload, "pod-template-hash": "6c9f7d5b8", "security.istio.io/tlsMode": "istio",
                "service.istio.io/canonical-name": workload, "service.istio.io/canonical-revision": "v1" },
            "annotations": { "sidecar.istio.io/status": "{\"initContainers\":[\"istio-init\"],\"containers\":[\"istio-proxy\"]}" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{workload}-6c9f7d5b8"), "controller": true,
                "uid": "7d0c6f0a-8f59-4c4c-9a86-54b5c1a6e5a2", "blockOwnerDeletion": true }],
            "managedFields": [{ "manager": "kube-controller-manager", "operation": "Update", "time": time, "apiVersion": "v1", "fieldsV1": { "f:spec": managed } }] },
        "spec": { "containers": [container("orders"), container("istio-proxy")], "nodeName": format!("node-{}", number % 17), "serviceAccountName": workload,
            "volumes": [{ "name": "config", "configMap": { "name": "orders", "defaultMode": 420 } }], "restartPolicy": "Always" },
        "status": { "phase": "Running", "hostIP": "192.0.2.7", "podIP": address, "podIPs": [{ "ip": address }], "qosClass": "Burstable",
            "conditions": conditions },
    })
}

/// The same pods as an apiserver sends them in protobuf.
fn in_protobuf() -> Bytes {
    let pods: Vec<Value> = (0..DISTINCT).map(|number| protobuf::held("Pod", &pod(number))).collect();
    let pods: Vec<Value> = pods.iter().cycle().take(PODS).cloned().collect();
    protobuf::list_in_protobuf("pods", &json!({ "resourceVersion": "9" }), &pods, protobuf::Encoder::Go).into()
}

/// A text as an apiserver sends it: `PODS` of these between `first` and `last`.
fn many(first: &'static str, each: &[Bytes], last: &'static str) -> Body {
    let each: Vec<Bytes> = each.iter().cycle().take(PODS).cloned().collect();
    let chunks = stream::iter(std::iter::once(Bytes::from_static(first.as_bytes())))
        .chain(stream::iter(each))
        .chain(stream::iter(std::iter::once(Bytes::from_static(last.as_bytes()))));
    StreamBody::new(chunks.map(|chunk| Ok::<_, BodyError>(Frame::data(chunk)))).boxed_unsync()
}

impl Handler for BenchOrigin {
    type Error = Infallible;

    async fn handle(&self, request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let query = request.uri().query().unwrap_or_default();
        let data = if query.contains("isthmus-identity") {
            Some(json!({ "identity.json": self.identity }))
        } else if query.contains("isthmus-peers") {
            Some(json!({ "peers.json": self.peers }))
        } else {
            None
        };
        if query.contains("protobuf") {
            assert!(request.headers()["accept"].to_str().unwrap().contains("protobuf"));
            let mut response = Response::new(whole(self.protobuf.clone()));
            let kind = http::HeaderValue::from_static("application/vnd.kubernetes.protobuf");
            response.headers_mut().insert("content-type", kind);
            return Ok(response);
        }
        let body = if query.contains("events") {
            many("", &self.events, "")
        } else if query.contains("many") {
            let first = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":[{}"#;
            many(first, &self.items, "]}\n")
        } else if query.contains("watch=") {
            let first = stream::iter(Some(Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"\n")))))
                .filter(|_| async { false });
            StreamBody::new(first.chain(stream::pending())).boxed_unsync()
        } else {
            let name = if query.contains("isthmus-identity") { "isthmus-identity" } else { "isthmus-peers" };
            let items: Vec<Value> = data
                .into_iter()
                .map(|data| json!({ "metadata": { "name": name, "namespace": "istio-system", "resourceVersion": "1" }, "data": data }))
                .collect();
            let list =
                json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items });
            whole(list.to_string())
        };
        let mut response = Response::new(body);
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

struct BenchRole {
    child: Child,
    address: String,
}

impl BenchRole {
    fn start(folder: &std::path::Path, role: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command
            .args(["serve", role, "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"])
            .args((role == "proxy").then_some("--audit-log=/dev/null"))
            .args(LIMITS.map(|limit| format!("--limit={limit}")))
            .arg(format!("--kubeconfig={}", folder.join(format!("{role}.kubeconfig")).display()))
            .arg(format!("--tls-cert={}", folder.join("tls.crt").display()))
            .arg(format!("--tls-key={}", folder.join("tls.key").display()));
        let (child, address) = process::start(command, &folder.join(format!("{role}.log")));
        Self { child, address }
    }

    /// What passes on as it is what an origin answers.
    fn passing(folder: &std::path::Path, origin: SocketAddr) -> Self {
        let (child, address) = process::start(passing::command(origin, folder), &folder.join("passing.log"));
        Self { child, address }
    }

    /// Resident memory, bytes.
    fn memory(&self) -> u64 {
        process::memory(self.child.id(), "VmRSS:")
    }

    /// From now on the peak of its memory is counted anew.
    fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    fn cpu(&self) -> Duration {
        process::cpu(self.child.id())
    }
}

impl Drop for BenchRole {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Times of requests that begin at a fixed rate, sorted.
async fn times(client: &Client, url: &str, token: &str) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    let mut asked = Vec::new();
    for _ in 0..RATE * SECONDS {
        ticks.tick().await;
        let request = client.get(url).bearer_auth(token);
        asked.push(tokio::spawn(async move {
            let begin = Instant::now();
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.bytes().await.unwrap();
            begin.elapsed()
        }));
    }
    let mut times = Vec::new();
    for one in asked {
        times.push(one.await.unwrap());
    }
    times.sort_unstable();
    times
}

fn quantile(times: &[Duration], q: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    times[((times.len() - 1) as f64 * q) as usize]
}

/// How long an answer took until its last byte, and how many bytes it had.
async fn read(client: &Client, url: &str, token: &str) -> (Duration, usize) {
    let begin = Instant::now();
    let mut answer = client.get(url).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    let mut bytes = 0;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    (begin.elapsed(), bytes)
}

/// What was measured of one role in one round.
struct RoleFigures {
    /// Pod events a CPU second.
    events: f64,
    took: Duration,
    bytes: usize,
    /// Bytes of memory beside what it needs at rest.
    added: u64,
}

async fn figures(client: Client, role: &BenchRole, base: &str, token: &str) -> RoleFigures {
    let before = role.cpu();
    read(&client, &format!("{base}/api/v1/pods?watch=true&labelSelector=events"), token).await;
    let cpu = role.cpu().saturating_sub(before);
    let resting = role.memory();
    role.forget_peak();
    let (took, bytes) = read(&client, &format!("{base}/api/v1/pods?labelSelector=many"), token).await;
    let added = process::memory(role.child.id(), "VmHWM:").saturating_sub(resting);
    RoleFigures { events: PODS as f64 / cpu.as_secs_f64(), took, bytes, added }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The api-proxy's projection against passing the same bytes on as they are.
async fn projection(client: impl Fn() -> Client, proxy: &BenchRole, passing: &BenchRole, token: &str) {
    let (of_proxy, of_passing) = (format!("https://{}", proxy.address), format!("https://{}", passing.address));
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let projected = figures(client(), proxy, &of_proxy, token).await;
        let passed = figures(client(), passing, &of_passing, token).await;
        println!(
            "  {:.0} and {:.0} events a CPU second, lists in {:.2?} and {:.2?}",
            projected.events, passed.events, projected.took, passed.took
        );
        rounds.push((projected, passed));
    }
    let of = |figure: &dyn Fn(&RoleFigures, &RoleFigures) -> f64| {
        median(rounds.iter().map(|(projected, passed)| figure(projected, passed)).collect())
    };
    println!(
        "{PODS} pod events: projected {:.0} a CPU second, passed on {:.0}, ratio {:.2}",
        of(&|projected, _| projected.events),
        of(&|_, passed| passed.events),
        of(&|projected, passed| projected.events / passed.events)
    );
    println!(
        "list of {PODS} pods: projected {:.2} s, {:.1} MiB of memory added; passed on {:.2} s, {:.1} MiB added; {:.2} of the time, \
         {:.1} % of the bytes",
        of(&|projected, _| projected.took.as_secs_f64()),
        of(&|projected, _| mib(projected.added)),
        of(&|_, passed| passed.took.as_secs_f64()),
        of(&|_, passed| mib(passed.added)),
        of(&|projected, passed| projected.took.as_secs_f64() / passed.took.as_secs_f64()),
        of(&|projected, passed| 100.0 * projected.bytes as f64 / passed.bytes as f64)
    );
}

/// Such a list where the apiserver gives it in protobuf, against one that it gives in JSON.
async fn of_protobuf(client: impl Fn() -> Client, proxy: &BenchRole, token: &str) {
    let mut took = [Vec::new(), Vec::new()];
    let mut cpu = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (form, selector) in ["protobuf", "many"].iter().enumerate() {
            let before = proxy.cpu();
            let url = format!("https://{}/api/v1/pods?labelSelector={selector}", proxy.address);
            took[form].push(read(&client(), &url, token).await.0.as_secs_f64());
            cpu[form].push(proxy.cpu().saturating_sub(before).as_secs_f64());
        }
    }
    let ([protobuf, json], [of_protobuf, of_json]) = (took.map(median), cpu.map(median));
    println!(
        "list of {PODS} pods that the apiserver gives in protobuf: {protobuf:.2} s, {of_protobuf:.2} s of CPU; \
         in JSON {json:.2} s, {of_json:.2} s of CPU; {:.2} of the time",
        protobuf / json
    );
}

/// A long list of a peer that is far away: as istiod reads it through the relay, and by itself.
async fn from_afar(through_relay: &str, by_itself: &str, certificate: &str, token: &str) {
    let client = || {
        let ca = Certificate::from_pem(certificate.as_bytes()).unwrap();
        // as golang.org/x/net/http2 asks for answers
        let windows =
            Client::builder().http2_initial_stream_window_size(4 << 20).http2_initial_connection_window_size(1 << 30);
        windows.tls_certs_only([ca]).build().unwrap()
    };
    let mut took = [Vec::new(), Vec::new()];
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        for (base, took) in [through_relay, by_itself].iter().zip(&mut took) {
            let client = client();
            // connections are there before
            read(&client, &format!("{base}/api/v1/services"), token).await;
            let (time, read) = read(&client, &format!("{base}/api/v1/pods?labelSelector=many"), token).await;
            took.push(time.as_secs_f64());
            bytes = read;
        }
    }
    let ratio = median(took[0].iter().zip(&took[1]).map(|(relay, itself)| relay / itself).collect());
    let [relay, itself] = took.map(median);
    println!(
        "list of {PODS} pods ({:.1} MB) of a peer {FAR:?} away: through the relay {relay:.2} s, by itself {itself:.2} s, ratio {ratio:.2}",
        bytes as f64 / 1e6
    );
}

/// What projecting costs by itself: of events whose hidden fields are those of the event before, and of events of one workload
/// after the other.
fn alone(pods: &[String]) {
    let view = View { share: Share::usual(), system: "istio-system".parse().unwrap(), network: None };
    let shown = Visible::of("", "pods", &view).unwrap();
    let event = |pod: &String| Bytes::from(format!("{{\"type\":\"ADDED\",\"object\":{pod}}}\n"));
    for (what, events) in [
        ("of one pod", vec![event(&pods[0])]),
        ("of ten pods of each workload", pods.iter().map(event).collect()),
        ("each of another workload", pods.iter().step_by(10).map(event).collect()),
    ] {
        let best = (0..ROUNDS).map(|_| {
            let mut projection = shown.projection(AnswerForm::Watch);
            let begin = Instant::now();
            for event in events.iter().cycle().take(PODS) {
                projection.push(event.clone()).unwrap();
            }
            begin.elapsed()
        });
        println!("an event {what}, projected: {:.1?}", best.min().unwrap() / u32::try_from(PODS).unwrap());
    }
}

const MAPS: &str = "/api/v1/namespaces/istio-system/configmaps";

#[tokio::main]
#[allow(clippy::too_many_lines, reason = "one measurement after the other")]
async fn main() {
    passing::serve(bench_limits()).await;
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = process::certificate(folder.path());

    // the relay makes its key in its own cluster, which stands beside
    let own = objects::ObjectServer::start().await;
    own.put("/api/v1/namespaces", json!({ "metadata": { "name": "kube-system", "uid": RELAY } }));
    own.put("/api/v1/namespaces", json!({ "metadata": { "name": "istio-system", "uid": OWN } }));
    own.put(MAPS, json!({ "metadata": { "name": "istio" }, "data": { "mesh": "trustDomain: cluster.local\n" } }));
    kubeconfig(
        folder.path(),
        "relay.kubeconfig",
        &over_tls(&own.access().config.cluster_url, (&certificate, &key)).await,
    );
    let relay = BenchRole::start(folder.path(), "relay");
    let mut identity = None;
    for _ in 0..100 {
        sleep(Duration::from_millis(100)).await;
        identity = own.get(MAPS, "isthmus-identity");
        if identity.is_some() {
            break;
        }
    }
    let identity = identity.expect("the relay writes its identity");
    let identity: Value = serde_json::from_str(identity["data"]["identity.json"].as_str().unwrap()).unwrap();

    let pem = signer().public().to_pem();
    let peer = |name: &str, uuid: &str, keys: Value| json!({ "name": name, "clusterUUID": uuid, "namespaces": ["*"], "keys": keys });
    let pods: Vec<String> = (0..DISTINCT).map(|number| pod(number).to_string()).collect();
    let origin = BenchOrigin {
        identity: json!({ "version": 1, "clusterUUID": OWN }).to_string(),
        peers: json!({ "version": 1, "peers": [
            peer("east", PEER, json!([{ "id": "east", "pem": pem, "scopes": ["api"] }])),
            peer("relay", RELAY, identity["keys"].clone()),
        ] })
        .to_string(),
        events: pods.iter().map(|pod| format!("{{\"type\":\"ADDED\",\"object\":{pod}}}\n").into()).collect(),
        items: pods.iter().map(|pod| format!(",{pod}").into()).collect(),
        protobuf: in_protobuf(),
    };
    println!("a pod has {} bytes, in protobuf {}", pods[0].len(), origin.protobuf.len() / PODS);
    alone(&pods);
    let mut limits = bench_limits();
    // an apiserver's own
    limits.streams = 100;
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let origin_address = bound.address();
    let running =
        bound.serve(&Certificates::from_pem(&certificate, &key).unwrap(), limits.server(true), Arc::new(origin));
    kubeconfig(folder.path(), "proxy.kubeconfig", &format!("https://{origin_address}"));
    let proxy = BenchRole::start(folder.path(), "proxy");
    let far = far::far_from(proxy.address.clone(), FAR).await.to_string();
    let route = |id: &str, host: &str| json!({ "clusterID": id, "clusterUUID": OWN, "apiHost": host, "apiCA": certificate, "allow": ["127.0.0.0/8"] });
    let routes = json!({ "version": 1, "routes": [route("far", &far), route("west", &proxy.address)] });
    own.put(MAPS, json!({ "metadata": { "name": "isthmus-routes" }, "data": { "routes.json": routes.to_string() } }));

    let client = || {
        let ca = Certificate::from_pem(certificate.as_bytes()).unwrap();
        Client::builder().tls_certs_only([ca]).build().unwrap()
    };
    let token = token(Duration::from_mins(40));
    let direct = format!("https://{origin_address}/api/v1/services");
    let through_proxy = format!("https://{}/api/v1/services", proxy.address);
    let through_both = format!("https://{}/to/west/api/v1/services", relay.address);
    for url in [&through_proxy, &through_both] {
        let mut status = None;
        for _ in 0..200 {
            status = client().get(url).bearer_auth(&token).send().await.ok().map(|answer| answer.status());
            if status.is_some_and(|status| status == 200) {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        assert!(status.is_some_and(|status| status == 200), "{url}: {status:?}");
    }
    sleep(Duration::from_secs(2)).await;
    println!("at rest: api-proxy {:.1} MiB, relay {:.1} MiB", mib(proxy.memory()), mib(relay.memory()));

    projection(client, &proxy, &BenchRole::passing(folder.path(), origin_address), &token).await;
    of_protobuf(client, &proxy, &token).await;

    let through_relay = format!("https://{}/to/far", relay.address);
    from_afar(&through_relay, &format!("https://{far}"), &certificate, &token).await;

    let asking = client();
    let bare = times(&asking, &direct, &token).await;
    for (name, url) in [("the api-proxy", &through_proxy), ("relay and api-proxy", &through_both)] {
        let through = times(&asking, url, &token).await;
        for (quantile_name, q) in [("p50", 0.5), ("p99", 0.99)] {
            let (bare, through) = (quantile(&bare, q), quantile(&through, q));
            let added = through.saturating_sub(bare);
            println!(
                "{RATE} requests/s, {quantile_name}: origin {bare:.2?}, through {name} {through:.2?}, added {added:.2?}"
            );
        }
    }

    let before = proxy.memory();
    let mut open = Vec::new();
    for _ in 0..WATCHES / 100 {
        let client = client();
        for _ in 0..100 {
            let watch = client.get(format!("https://{}/api/v1/pods?watch=true", proxy.address)).bearer_auth(&token);
            let answer = watch.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            open.push(answer);
        }
    }
    sleep(Duration::from_secs(1)).await;
    let each = proxy.memory().saturating_sub(before) / WATCHES as u64;
    println!("{WATCHES} idle watches: {:.1} KiB each, {:.1} MiB in all", mib(each * 1024), mib(proxy.memory()));
    drop(open);
    drop((proxy, relay));
    drop(running);
}

fn bench_limits() -> RoleLimits {
    let mut limits = RoleLimits::of_proxy();
    for limit in LIMITS {
        limits.set(limit).unwrap();
    }
    limits
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
