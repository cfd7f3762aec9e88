//! What the api-proxy costs: time added to a request over asking the same origin directly, and memory a watch.
//!
//! `cargo bench --bench roles`. The origin is a small HTTPS server in this process that stands for an apiserver; the role is
//! the real binary in a process of its own. Figures are ratios or differences to the origin asked directly in the same run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark talks to a real process and stops at the first surprise"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use isthmus::key::PrivateKey;
use isthmus::server::limits::Limits;
use isthmus::server::{Body, Bound, BoxError, Certificates, Handler, whole};
use isthmus::token::{Claims, ISSUER, Scope, mint};
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use tokio::time::{interval, sleep};

const OWN: &str = "7d0c6f0a-8f59-4c4c-9a86-54b5c1a6e5a1";
const PEER: &str = "1b0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31";
const RATE: u32 = 500;
const SECONDS: u32 = 10;
const WATCHES: usize = 2000;
const LIMITS: [&str; 8] = [
    "rate-per-address=1000000/1000000",
    "rate-per-peer=1000000/1000000",
    "watches=100000",
    "watches-per-peer=100000",
    "connections-per-address=10000",
    "streams=1000",
    "lame-duck=1ms",
    "drain=1s",
];

struct Origin {
    identity: String,
    peers: String,
}

impl Handler for Origin {
    async fn handle(&self, request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, BoxError> {
        let query = request.uri().query().unwrap_or_default();
        let data = if query.contains("isthmus-identity") {
            Some(json!({ "identity.json": self.identity }))
        } else if query.contains("isthmus-peers") {
            Some(json!({ "peers.json": self.peers }))
        } else {
            None
        };
        let body = if query.contains("watch=") {
            let first = stream::iter(Some(Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"\n")))))
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

struct Role {
    child: Child,
    address: String,
}

impl Role {
    fn start(folder: &std::path::Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command
            .args(["serve", "proxy", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--audit-log=/dev/null"])
            .args(LIMITS.map(|limit| format!("--limit={limit}")))
            .arg(format!("--kubeconfig={}", folder.join("kubeconfig").display()))
            .arg(format!("--tls-cert={}", folder.join("tls.crt").display()))
            .arg(format!("--tls-key={}", folder.join("tls.key").display()))
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("log")).unwrap());
        let mut child = command.spawn().unwrap();
        let address = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        Self { child, address }
    }

    /// Resident memory, bytes.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn token() -> String {
    let now = jiff::Timestamp::now().as_second();
    let claims = Claims {
        aud: OWN.to_owned(),
        exp: now + 2400,
        iss: ISSUER.to_owned(),
        nbf: now,
        scope: Scope::Api,
        sub: PEER.to_owned(),
    };
    mint(&PrivateKey::generate(&[7; 32]).unwrap(), &claims, None).expose().to_owned()
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

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(folder.path().join("tls.crt"), &certificate).unwrap();
    fs::write(folder.path().join("tls.key"), &key).unwrap();
    let pem = PrivateKey::generate(&[7; 32]).unwrap().public().to_pem();
    let origin = Origin {
        identity: json!({ "version": 1, "clusterUUID": OWN }).to_string(),
        peers: json!({ "version": 1, "peers": [{ "name": "east", "clusterUUID": PEER, "namespaces": ["*"],
            "keys": [{ "id": "east", "pem": pem, "scopes": ["api"] }] }] })
        .to_string(),
    };
    let mut limits = Limits::of_proxy();
    for limit in LIMITS {
        limits.set(limit).unwrap();
    }
    // an apiserver's own
    limits.streams = 100;
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let origin_address = bound.address();
    let running =
        bound.serve(&Certificates::from_pem(&certificate, &key).unwrap(), limits.server(true), Arc::new(origin));
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{ "name": "a", "cluster": { "server": format!("https://{origin_address}"),
            "certificate-authority": folder.path().join("tls.crt") } }],
        "users": [{ "name": "a", "user": { "token": "x" } }],
        "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }],
    });
    fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    let role = Role::start(folder.path());
    let client = || {
        let ca = Certificate::from_pem(certificate.as_bytes()).unwrap();
        Client::builder().tls_certs_only([ca]).build().unwrap()
    };
    let token = token();
    let through = format!("https://{}/api/v1/services", role.address);
    let direct = format!("https://{origin_address}/api/v1/services");
    for _ in 0..100 {
        if client().get(&through).bearer_auth(&token).send().await.is_ok_and(|answer| answer.status() == 200) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let at_rest = role.memory();
    println!("api-proxy at rest: {:.1} MiB", mib(at_rest));

    let asking = client();
    let (bare, proxied) = (times(&asking, &direct, &token).await, times(&asking, &through, &token).await);
    for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
        let (bare, proxied) = (quantile(&bare, q), quantile(&proxied, q));
        println!(
            "{RATE} requests/s, {name}: origin {bare:.2?}, through the api-proxy {proxied:.2?}, added {:.2?}",
            proxied.saturating_sub(bare)
        );
    }

    let before = role.memory();
    let mut open = Vec::new();
    for _ in 0..WATCHES / 100 {
        let client = client();
        for _ in 0..100 {
            let watch = client.get(format!("https://{}/api/v1/pods?watch=true", role.address)).bearer_auth(&token);
            let answer = watch.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            open.push(answer);
        }
    }
    sleep(Duration::from_secs(1)).await;
    let each = role.memory().saturating_sub(before) / WATCHES as u64;
    println!("{WATCHES} idle watches: {:.1} KiB each, {:.1} MiB in all", mib(each * 1024), mib(role.memory()));
    drop(open);
    drop(role);
    drop(running);
}

#[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
