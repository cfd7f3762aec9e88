//! What the public document costs that is asked for again and has not changed, as peers do each minute; beside a bare hyper server
//! that answers 304 without looking at the request, which is the floor.
//!
//! `cargo bench --bench exporter`. Both are measured alternately, and medians are printed. `ROUNDS` and `REQUESTS` make it shorter or longer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark talks to a real process and stops at the first surprise"
)]

#[allow(dead_code, reason = "shared with other benchmarks")]
#[path = "support/front.rs"]
mod front;
#[path = "../tests/support/kube.rs"]
#[allow(dead_code, reason = "the exporter asks for less than the tests do")]
mod kube;
#[path = "support/load.rs"]
mod load;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "for programs with peers, too")]
mod process;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Empty;
use isthmus::roles::exporter::{ExporterOptions, start};
use isthmus::roles::role::{Role, TlsFiles};
use isthmus::server::Bound;
use isthmus::server::limits::RoleLimits;
use serde_json::{Value, json};

use kube::Kube;
use load::{CONNECTIONS, Question, connect, median, number};
use process::{OWN, PEER, signer};

const DOCUMENT: &str = "/metadata/public/public.json";
const NAMESPACE: &str = "istio-system";

/// A cluster in which all is there that the public document needs.
async fn cluster() -> Kube {
    let kube = Kube::start().await;
    let config_map =
        |name: &str, data: Value| json!({ "metadata": { "name": name, "namespace": NAMESPACE }, "data": data });
    let mut root = rcgen::CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = root.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let keys = json!([{ "id": "own", "pem": signer().public().to_pem(), "scopes": ["api", "private-multicluster"] }]);
    let identity = json!({ "version": 1, "clusterUUID": OWN, "keys": keys, "servingCA": root, "relayCA": root });
    kube.put("configmaps", config_map("istio-ca-root-cert", json!({ "root-cert.pem": root })));
    kube.put("configmaps", config_map("isthmus-identity", json!({ "identity.json": identity.to_string() })));
    kube.put("configmaps", config_map("istio", json!({ "mesh": "trustDomain: cluster.local\n" })));
    kube.put("namespaces", json!({ "metadata": { "name": "kube-system", "uid": OWN } }));
    kube.put("namespaces", json!({ "metadata": { "name": NAMESPACE, "uid": PEER } }));
    let env = json!([{ "name": "CLUSTER_ID", "value": "east" }]);
    let istiod = json!({ "containers": [{ "name": "discovery", "image": "istio/pilot:1.31.1", "env": env }] });
    let labels = json!({ "app": "istiod", "istio.io/rev": "default" });
    kube.put(
        "deployments",
        json!({ "metadata": { "name": "istiod", "namespace": NAMESPACE, "labels": labels },
            "spec": { "replicas": 1, "template": { "spec": istiod } } }),
    );
    kube
}

/// The exporter of that cluster, as `engine serve exporter` runs it; prints its address.
async fn exporter(folder: &Path) {
    let kube = cluster().await;
    let mut limits = RoleLimits::of_exporter();
    for limit in ["rate-per-address=1000000/1000000", "rate-unauthenticated=1000000/1000000"] {
        limits.set(limit).unwrap();
    }
    let (role, _stop) = Role::new(NAMESPACE.parse().unwrap(), limits.clone(), kube.access());
    let tls = TlsFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
    let role = Role { tls: Some(tls), ..role };
    let options = ExporterOptions {
        path_prefix: "/metadata".to_owned(),
        api_host: Some("api.east.example.com".parse().unwrap()),
        ..ExporterOptions::default()
    };
    let service = start(role, options).await.unwrap();
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    println!("{}", bound.address());
    let _running = bound.serve(&service.certificates, limits.server(false), service.handler.clone());
    std::future::pending::<()>().await;
}

/// Answers 304, and nothing else.
async fn floor(folder: &Path) {
    load::bare(folder, |_| async {
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(ETAG, HeaderValue::from_static("\"0123456789abcdef0123456789abcdef\""));
        Ok(response)
    })
    .await;
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [role, folder] if role == "floor" => return floor(Path::new(folder)).await,
        [role, folder] if role == "exporter" => return exporter(Path::new(folder)).await,
        _ => {}
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    process::certificate(folder);
    let mut measured = ["floor", "exporter"].map(|role| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(role).arg(folder);
        let (child, at) = process::start(command, &folder.join(format!("{role}.log")));
        (child, Question { at, path: DOCUMENT, headers: HeaderMap::new() })
    });
    let mut sender = connect(folder, &measured[1].1.at).await;
    let tag = loop {
        match measured[1].1.ask(&mut sender).await {
            (StatusCode::OK, headers) => break headers[ETAG].clone(),
            (StatusCode::SERVICE_UNAVAILABLE, _) => tokio::time::sleep(Duration::from_millis(50)).await,
            (other, _) => panic!("{other}"),
        }
    };
    let (rounds, requests) = (number("ROUNDS", 9), number("REQUESTS", 20_000));
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for ((child, question), figures) in measured.iter_mut().zip(&mut figures) {
            question.headers.insert(IF_NONE_MATCH, tag.clone());
            figures.push(question.a_cpu_second(child.id(), folder, requests, StatusCode::NOT_MODIFIED).await);
        }
    }
    let [mut of_floor, mut ours] = figures;
    let mut ratios: Vec<f64> = ours.iter().zip(&of_floor).map(|(ours, floor)| ours / floor).collect();
    println!("conditional GETs of the public document, {CONNECTIONS} connections (medians of {rounds} rounds):");
    for (name, figures) in [("floor", &mut of_floor), ("exporter", &mut ours)] {
        let each = median(figures);
        println!("  {name:10} {each:8.0} a CPU second, {:5.1} µs each", 1e6 / each);
    }
    println!("  {:.2} of the floor", median(&mut ratios));
    for (mut child, _) in measured {
        drop(child.kill());
        drop(child.wait());
    }
}
