//! The Argo CD plugin on large meshes: one cluster's objects from specs and lock, beside `kustomize build` and `helm template`
//! of the same objects, in the same run.
//!
//! `cargo bench --bench argocd`. The peers only print what is there; the plugin reads the whole mesh's specs and locked
//! clusters and renders. Peers that are not on PATH are said to be missing; `kubectl kustomize` stands in for `kustomize`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark"
)]

#[path = "support/checkout.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use isthmus::model::lock::{Lock, LockedCluster, LockedLink, LockedPrivate, LockedPublic, Stage};
use isthmus::types::certificate::parse_roots_any_time;
use isthmus::types::name::ClusterName;
use isthmus::wire::metadata::{PrivateDocument, PublicDocument, Reading};

const ENGINE: &str = env!("CARGO_BIN_EXE_engine");
const CLUSTER: &str = "c0042";
const TIMES: usize = 9;

/// The lock of a checkout in which every cluster is joined with every other. A run would write it together with a million
/// files of the tree.
fn lock(folder: &Path, count: usize) {
    let mut lock = Lock::default();
    let names: Vec<ClusterName> = (0..count).map(|number| format!("c{number:04}").parse().unwrap()).collect();
    for name in &names {
        let read = |document: &str| std::fs::read(folder.join(format!("metadata/{name}/{document}"))).unwrap();
        let Reading::Complete(public) = PublicDocument::parse(&read("public/public.json")).unwrap() else { continue };
        let Reading::Complete(private) = PrivateDocument::parse(&read("private/multicluster.json")).unwrap() else {
            continue;
        };
        let public = LockedPublic {
            cluster_uuid: public.cluster_uuid,
            authn_key: public.authn_key,
            authn_keys: BTreeMap::new(),
            roots: parse_roots_any_time(&public.root_ca).unwrap(),
            mesh_id: None,
            trust_domain: None,
            cluster_domain: None,
            serving_ca: None,
            relay_ca: public.relay_ca,
            crl: None,
            istio: public.istio,
        };
        let private = LockedPrivate {
            ambient_gateways: Vec::new(),
            cluster_id: private.cluster_id,
            network: private.network_name,
            api_host: private.api_host,
            api_ca: private.api_ca,
            gateways: private.ingress_gateways,
        };
        lock.clusters.insert(
            name.clone(),
            LockedCluster {
                public,
                private: Some(private),
                standard_mesh_networks: None,
                retiring: Vec::new(),
                retiring_relay_cas: Vec::new(),
                joined_with: None,
                lost: false,
                approved: None,
                source: None,
                read_by: isthmus::model::read_by::ReadBy::default(),
                hand_over: None,
                serial: 0,
            },
        );
        let link = LockedLink { unproven: true, ..LockedLink::new(Stage::Joined) };
        let peers = names.iter().filter(|peer| *peer != name);
        lock.links.insert(name.clone(), peers.map(|peer| (peer.clone(), link.clone())).collect());
    }
    for (path, text) in lock.to_files().unwrap() {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// The best time of several runs, and how many bytes were printed; `None` where the program is not there or fails.
fn best(program: &str, arguments: &[&str]) -> Option<(Duration, usize)> {
    let mut best: Option<(Duration, usize)> = None;
    for _ in 0..TIMES {
        let start = Instant::now();
        let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
        let time = start.elapsed();
        if !output.status.success() {
            return None;
        }
        if best.is_none_or(|(least, _)| time < least) {
            best = Some((time, output.stdout.len()));
        }
    }
    best
}

/// A chart whose templates are the objects.
fn chart(folder: &Path, rendered: &Path) {
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    std::fs::write(folder.join("Chart.yaml"), "apiVersion: v2\nname: rendered\nversion: 0.1.0\n").unwrap();
    for entry in std::fs::read_dir(rendered).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        if name != "kustomization.yaml" {
            std::fs::copy(&path, folder.join("templates").join(name)).unwrap();
        }
    }
}

fn row(work: &str, found: Option<(Duration, usize)>, ours: Duration, target: &str) {
    match found {
        Some((time, bytes)) => println!(
            "  {work:<28} {:>8.1} ms   {:>6.1} times ours   {:>7} KiB   {target}",
            time.as_secs_f64() * 1e3,
            time.as_secs_f64() / ours.as_secs_f64(),
            bytes / 1024
        ),
        None => println!("  {work:<28} not here, or it failed"),
    }
}

fn measure(count: usize, target: &str) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    support::checkout(folder, count);
    lock(folder, count);
    let place = folder.to_str().unwrap();
    let made =
        Command::new(ENGINE).args(["-C", place, "apply", "-q", "--locked", "--cluster", CLUSTER]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let rendered = folder.join("rendered").join(CLUSTER);
    let helm = folder.join("chart");
    chart(&helm, &rendered);
    let ours = best(ENGINE, &["-C", place, "argocd", "generate", "--cluster", CLUSTER]).unwrap();
    println!("{count} clusters, all joined with all: the objects of one");
    row("engine argocd generate", Some(ours), ours.0, target);
    let rendered = rendered.to_str().unwrap();
    if let Some(found) = best("kustomize", &["build", rendered]) {
        row("kustomize build", Some(found), ours.0, "");
    } else {
        row("kubectl kustomize", best("kubectl", &["kustomize", rendered]), ours.0, "");
    }
    row("helm template", best("helm", &["template", "rendered", helm.to_str().unwrap()]), ours.0, "");
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    measure(100, "target ≤ 100 ms");
    measure(1000, "target ≤ 300 ms");
}
