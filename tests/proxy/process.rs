//! The role as a process: how it begins, what a watch costs it, how it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use tokio::task::spawn_blocking;

use super::*;

/// Watches that are opened.
const WATCHES: usize = 1000;

/// Ends with its value.
struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        // it may have ended by itself
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Engine {
    /// Bytes that are resident.
    fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_watches_cost_little_and_all_end_in_order() {
    let said = broadcast::channel(4).0;
    let apiserver = apiserver(&said, |_| None).await;
    let identity = json!({"version": 1, "clusterUUID": OWN}).to_string();
    apiserver.config_map(NAMESPACE, "isthmus-identity", Some(("identity.json", &identity)));
    apiserver.config_map(NAMESPACE, "isthmus-peers", Some(("peers.json", &peers(&[south()]))));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
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
    let child = Command::new(env!("CARGO_BIN_EXE_engine"))
        .args(["serve", "proxy", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log", "json"])
        .args(["--limit", "watches-per-peer=2000,rate-per-peer=9000/9000,rate-per-address=9000/9000,lame-duck=100ms"])
        .args(["--limit", "drain=5s"])
        .arg("--kubeconfig")
        .arg(path("kubeconfig"))
        .arg("--tls-cert")
        .arg(path("chain.pem"))
        .arg("--tls-key")
        .arg(path("key.pem"))
        .arg("--audit-log")
        .arg(path("audit"))
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut engine = Engine(child);
    let mut lines = BufReader::new(engine.0.stdout.take().unwrap()).lines();
    let lines = spawn_blocking(move || [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()]).await.unwrap();
    let listening = lines[0].parse().unwrap();
    let _metrics: SocketAddr = lines[1].parse().unwrap();

    // the token's times count from now here
    let now = jiff::Timestamp::now().as_second();
    let by_south = token(SOUTH_KEY, &Claims { nbf: now - 5, exp: now + 2400, ..claims(SOUTH) }, None);
    let begin = Instant::now();
    let mut clients = vec![Client::new(listening, &ca).await];
    while clients[0].watch(&by_south).await.status() != StatusCode::OK {
        assert!(begin.elapsed() < Duration::from_mins(1), "not serving");
        sleep(Duration::from_millis(50)).await;
    }
    // what is paid once: connections, and the first of everything
    for _ in 1..5 {
        clients.push(Client::new(listening, &ca).await);
    }
    let mut watches = Vec::new();
    for client in &clients {
        watches.push(client.watch(&by_south).await);
    }
    let before = engine.resident();
    for client in &clients {
        watches.extend(join_all((0..WATCHES / clients.len()).map(|_| client.watch(&by_south))).await);
    }
    assert!(watches.iter().all(|watch| watch.status() == StatusCode::OK));
    said.send(EVENT_SAID).unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
    let each = engine.resident().saturating_sub(before) / WATCHES;
    // a leak or a buffer for each would be more; the figure itself, some 7 KiB, is the benchmark's, for pages of 2 MiB and
    // the allocator's arenas make it vary by some KiB from machine to machine
    assert!(each <= 48 * 1024, "{each} bytes for each of {WATCHES} watches, on top of {before}");

    let pid = rustix::process::Pid::from_raw(i32::try_from(engine.0.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    for watch in &mut watches {
        let end = timeout(Duration::from_mins(1), next(watch.body_mut())).await.unwrap();
        assert!(end.is_none(), "{end:?}");
    }
    let status = spawn_blocking(move || {
        let status = engine.0.wait().unwrap();
        let mut log = String::new();
        engine.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status, log)
    });
    let (status, log) = timeout(Duration::from_mins(1), status).await.unwrap().unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("of-the-role") && !log.contains("Bearer") && !log.contains("eyJ"), "{log}");
    let audit = std::fs::read_to_string(path("audit")).unwrap();
    let records: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str| records.iter().filter(|record| record["event"] == event && record["status"] == 200).count();
    // each watch, and the ends of those that the probing at the beginning opened
    assert!(of("answered") >= watches.len(), "{} of {}", of("answered"), watches.len());
    assert!(of("ended") >= watches.len(), "{} of {}", of("ended"), watches.len());
}
