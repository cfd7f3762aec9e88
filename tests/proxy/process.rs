//! The role as a process: how it begins, what a watch costs it, how it ends.

use base64::Engine as _;
use tokio::task::{block_in_place, spawn_blocking};

use super::*;
use crate::support::environment::{RunningProcess, TestEnvironment};
use isthmus::types::time::Timestamp;

/// Watches that are opened.
const WATCHES: usize = 1000;

/// Bytes that are resident.
pub(super) fn resident(engine: &RunningProcess) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// A proxy in a process of its own, and what it needs.
pub(super) struct Process {
    pub(super) engine: RunningProcess,
    pub(super) listening: SocketAddr,
    pub(super) ca: Ca,
    pub(super) environment: TestEnvironment,
    _apiserver: Apiserver,
}

impl Process {
    /// Starts it with these limits, and waits until it answers. `script` is its apiserver's.
    pub(super) async fn start(
        limits: &str,
        audit: impl FnOnce(&TestEnvironment) -> std::path::PathBuf,
        peers: &str,
        apiserver: Apiserver,
    ) -> Self {
        let identity = json!({"version": 1, "clusterUUID": OWN}).to_string();
        apiserver.config_map(NAMESPACE, "isthmus-identity", Some(("identity.json", &identity)));
        apiserver.config_map(NAMESPACE, "isthmus-peers", Some(("peers.json", peers)));
        let environment = TestEnvironment::new().real_time();
        let path = |name: &str| environment.path(name);
        let ca = Ca::new("proxy");
        let Serving { chain, key } = ca.serving(&["127.0.0.1"]);
        std::fs::write(path("chain.pem"), chain).unwrap();
        std::fs::write(path("key.pem"), key).unwrap();
        let authority = base64::engine::general_purpose::STANDARD.encode(&apiserver.ca.pem);
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {
                "server": format!("https://{}", apiserver.address), "certificate-authority-data": authority,
            }}],
            "users": [{"name": "x", "user": {"token": "of-the-role"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        });
        std::fs::write(path("kubeconfig"), kubeconfig.to_string()).unwrap();
        let mut command = environment.command();
        command
            .args(["serve", "proxy", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log", "json"])
            .args(["--limit", limits])
            .arg("--kubeconfig")
            .arg(path("kubeconfig"))
            .arg("--tls-cert")
            .arg(path("chain.pem"))
            .arg("--tls-key")
            .arg(path("key.pem"))
            .arg("--audit-log")
            .arg(audit(&environment));
        let engine = environment.spawn(&mut command);
        let (listening, metrics) = block_in_place(|| (engine.line(0), engine.line(1)));
        let listening = listening.parse().unwrap();
        let _metrics: SocketAddr = metrics.parse().unwrap();
        let process = Self { engine, listening, ca, environment, _apiserver: apiserver };
        let (client, begin) = (Client::new(listening, &process.ca).await, Instant::now());
        let by_south = by_south();
        while client.watch(&by_south).await.status() != StatusCode::OK {
            assert!(begin.elapsed() < Duration::from_mins(1), "not serving");
            sleep(Duration::from_millis(50)).await;
        }
        process
    }
}

/// A token of a peer whose times count from now, as those of a process do.
fn at_present(seed: u8, sub: &str) -> String {
    let now = Timestamp::from(jiff::Timestamp::now());
    let claims = Claims { nbf: now - Duration::from_secs(5), exp: now + Duration::from_mins(40), ..claims(sub) };
    token(seed, &claims, None)
}

pub(super) fn by_south() -> String {
    at_present(SOUTH_KEY, SOUTH)
}

pub(super) fn by_west() -> String {
    at_present(WEST_KEY, WEST)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_watches_cost_little_and_all_end_in_order() {
    let event_sender = broadcast::channel(4).0;
    let apiserver = apiserver(&event_sender, |_| None).await;
    let limits =
        "watches-per-peer=2000,requests-per-peer=2000,rate-per-peer=9000/9000,lame-duck=100ms,drain=5s,refusals=1000";
    let audit = |environment: &TestEnvironment| environment.path("audit");
    let process = Process::start(limits, audit, &peers(&[south()]), apiserver).await;
    let by_south = by_south();
    let mut clients = vec![Client::new(process.listening, &process.ca).await];
    // what is paid once: connections, and the first of everything
    for _ in 1..5 {
        clients.push(Client::new(process.listening, &process.ca).await);
    }
    let mut watches = Vec::new();
    for client in &clients {
        watches.push(client.watch(&by_south).await);
    }
    let before = resident(&process.engine);
    for client in &clients {
        watches.extend(join_all((0..WATCHES / clients.len()).map(|_| client.watch(&by_south))).await);
    }
    assert!(watches.iter().all(|watch| watch.status() == StatusCode::OK));
    event_sender.send(SENT_EVENT).unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
    let each = resident(&process.engine).saturating_sub(before) / WATCHES;
    // a leak or a buffer for each would be more; the figure itself, some 7 KiB, is the benchmark's, for pages of 2 MiB and
    // the allocator's arenas make it vary by some KiB from machine to machine
    assert!(each <= 48 * 1024, "{each} bytes for each of {WATCHES} watches, on top of {before}");

    let Process { engine, environment, _apiserver, .. } = process;
    engine.terminate();
    for watch in &mut watches {
        let end = timeout(Duration::from_mins(1), next(watch.body_mut())).await.unwrap();
        assert!(end.is_none(), "{end:?}");
    }
    let ended = spawn_blocking(move || engine.wait());
    let ran = timeout(Duration::from_mins(1), ended).await.unwrap().unwrap();
    assert_eq!(ran.code, 0, "{ran}");
    assert!(!ran.says("of-the-role") && !ran.says("Bearer") && !ran.says("eyJ"), "{ran}");
    let audit = std::fs::read_to_string(environment.path("audit")).unwrap();
    let records: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str| records.iter().filter(|record| record["event"] == event && record["status"] == 200).count();
    // each watch, and the ends of those that the probing at the beginning opened
    assert!(of("answered") >= watches.len(), "{} of {}", of("answered"), watches.len());
    assert!(of("ended") >= watches.len(), "{} of {}", of("ended"), watches.len());
}
