//! What an agent with many peers costs at rest, and how long it takes to join them all.
//!
//! `cargo bench --bench agent`. The apiserver and the peers' exporters are in this process, over TLS; the agent is the real binary in one of
//! its own. All that it writes is shown as live at once, so the time is its own.
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

#[path = "support/front.rs"]
mod front;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/support/live.rs"]
mod live;
#[path = "../tests/support/merge_patch.rs"]
mod merge_patch;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/support/objects.rs"]
mod objects;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/support/peer.rs"]
mod peer;
#[allow(dead_code, reason = "shared with other benchmarks")]
#[path = "support/process.rs"]
mod process;

use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use isthmus::simulation::cluster::SimulatedCluster;
use isthmus::types::address::Gateway;
use isthmus::wire::metadata::PrivateDocument;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use front::over_tls;
use live::{MAPS, is_private, own_answer, own_specs, published};
use objects::ObjectServer;
use peer::{Ca, Peer, json as json_answer};

const OBJECTS: &str = "/apis/isthmus.dev/v1alpha1/istiomulticlusters";
/// How long it is measured at rest: a few of its runs, which are a minute apart.
const REST: Duration = Duration::from_mins(4);

/// The agent's process; it ends with its value.
struct AgentProcess(Child);

impl Drop for AgentProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(folder: &Path, apiserver: &str) -> AgentProcess {
    process::kubeconfig(folder, "kubeconfig", apiserver);
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args([
        "serve",
        "agent",
        "--namespace=istio-system",
        "--listen=127.0.0.1:0",
        "--metrics-listen=127.0.0.1:0",
    ]);
    command.args(["--exporter-host=127.0.0.1", "--proxy-host=api.east.example.com"]);
    command.arg(format!("--kubeconfig={}", folder.join("kubeconfig").display()));
    AgentProcess(process::start(command, &folder.join("agent.log")).0)
}

fn holds(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == kind && one["status"] == "True"))
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let count: u8 = std::env::var("CLUSTERS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let (ca, east) = (Ca::new("the metadata of all"), SimulatedCluster::new("east", &[1; 32], "203.0.113.1").unwrap());
    let apiserver = Arc::new(runtime.block_on(ObjectServer::start()));
    for list in [
        OBJECTS,
        "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases",
        "/apis/networking.istio.io/v1/namespaces/istio-system/gateways",
    ] {
        apiserver.serve(list);
    }
    let namespaces = "/api/v1/namespaces";
    apiserver.put(namespaces, json!({ "metadata": { "name": "kube-system", "uid": east.uuid } }));
    let labels = json!({ "topology.istio.io/network": east.network() });
    apiserver.put(namespaces, json!({ "metadata": { "name": "istio-system", "labels": labels } }));
    apiserver.put(MAPS, json!({ "metadata": { "name": "istio" }, "data": { "mesh": "" } }));
    let trusted = east.trusts();
    let east = Mutex::new(east);
    let objects = apiserver.clone();
    let serving = ca.serving(&["127.0.0.1", "localhost"]);
    let own = runtime.block_on(Peer::start(&serving, move |head| own_answer(&east, &objects, head)));
    let specs = own_specs(own.address, &ca.pem);
    apiserver.put(MAPS, json!({ "metadata": { "name": "isthmus-agent" }, "data": { "specs.yaml": specs } }));
    let mut peers = Vec::new();
    for at in 2..count + 2 {
        let name = format!("peer-{at:03}");
        let (public, private) = published(&name, at, &trusted);
        // its api-proxy is the same server, which is known once it is begun
        let documents = Arc::new(Mutex::new((public.to_json(), private.clone())));
        let shown = documents.clone();
        let script = move |head: &str| {
            let (public, private) = &*shown.lock().unwrap();
            match (is_private(head), head.starts_with("GET /api ")) {
                (true, _) => json_answer(private.to_json()),
                (false, true) => json_answer("{\"kind\":\"APIVersions\",\"versions\":[\"v1\"]}"),
                (false, false) => json_answer(public),
            }
        };
        let peer = runtime.block_on(Peer::start(&serving, script));
        let api_host = format!("localhost:{}", peer.address.port()).parse().unwrap();
        let ingress_gateways = vec![Gateway::new("127.0.0.1", u64::from(peer.address.port())).unwrap()];
        documents.lock().unwrap().1 =
            PrivateDocument { api_host, api_ca: Some(ca.pem.clone()), ingress_gateways, ..private };
        let spec = json!({
            "metadataEndpoint": format!("https://{}/metadata", peer.address), "metadata": { "ca": ca.pem },
            "allow": { "addresses": ["127.0.0.0/8"] },
        });
        apiserver.put(OBJECTS, json!({ "metadata": { "name": name, "generation": 1 }, "spec": spec }));
        peers.push(peer);
    }
    let entered = runtime.enter();
    let certificate = process::certificate(folder.path());
    let url = apiserver.access().config.cluster_url;
    drop(entered);
    let front = runtime.block_on(over_tls(&url, (&certificate.0, &certificate.1)));
    let begin = Instant::now();
    let agent = start(folder.path(), &front);
    let mut peak = 0;
    loop {
        peak = peak.max(process::memory(agent.0.id(), "VmRSS:"));
        let all = apiserver.all(OBJECTS);
        if all.iter().all(|one| holds(one, "SecretRendered") && holds(one, "ControlPlaneSynced")) {
            break;
        }
        assert!(begin.elapsed() < Duration::from_mins(5), "{:#}", all[0]["status"]);
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("{count} peers: all joined and seen to be read after {:.1} s", begin.elapsed().as_secs_f64());
    // pauses grow to a minute while nothing changes
    std::thread::sleep(Duration::from_mins(5));
    let (before, begin) = (process::cpu(agent.0.id()), Instant::now());
    let asked = || peers.iter().map(|peer| peer.requests().len()).sum::<usize>();
    let (runs, connections) = (asked(), peers.iter().map(Peer::connections).sum::<usize>());
    std::thread::sleep(REST);
    let busy = process::cpu(agent.0.id()).saturating_sub(before);
    let share = busy.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{count} peers: at rest {share:.2} % of a core (target ≤ 1 %), {:.1} MiB resident (target ≤ 60 MiB), at most {:.1} MiB; {} requests and {} connections of peers in {} s",
        mib(process::memory(agent.0.id(), "VmRSS:")),
        mib(process::memory(agent.0.id(), "VmHWM:")),
        asked() - runs,
        peers.iter().map(Peer::connections).sum::<usize>() - connections,
        REST.as_secs(),
    );
}
