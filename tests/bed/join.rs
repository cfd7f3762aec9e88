//! The whole story on the real bed: two clusters with roots of their own join through our exporters, relays and api-proxies,
//! carry traffic while things break, and part again. What goes from the checkout to the clusters goes by `kubectl apply
//! --server-side -k`, as a team's pipeline would do it; nothing else tells a cluster of the other.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::environment::{ENGINE, TestEnvironment};
use super::{files_of_bed, free_index, one_at_a_time, script, succeed};

const PATIENCE: Duration = Duration::from_mins(1);
const MOST_TURNS: usize = 12;
const ROLES: [(&str, u8); 3] = [("exporter", 20), ("proxy", 30), ("relay", 40)];

#[derive(Clone, Copy)]
struct Cluster {
    name: &'static str,
    peer: &'static str,
    /// The service that runs here, its port, and where the clients of both clusters listen for it.
    app: &'static str,
    port: u16,
    index: u16,
}

impl Cluster {
    fn address(&self, host: u8, port: u16) -> SocketAddr {
        format!("127.0.{}.{host}:{port}", self.index).parse().unwrap()
    }

    /// Asks, as the client of this cluster, for a service of any cluster.
    fn ask(&self, of: &Self) -> Result<(u16, String), String> {
        get(self.address(60, of.port), &format!("{}.shop.svc.cluster.local", of.app), "/")
    }

    fn istiod(&self, path: &str) -> Result<Value, String> {
        let (status, body) = get(self.address(10, 8080), "istiod", path)?;
        if status != 200 {
            return Err(format!("{path} of {}: {status}", self.name));
        }
        serde_json::from_str(&body).map_err(|error| format!("{path} of {}: {error}", self.name))
    }
}

/// A GET over plain HTTP: status and body.
fn get(address: SocketAddr, host: &str, path: &str) -> Result<(u16, String), String> {
    let said = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(said)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(said)?;
    // Envoy wants 1.1; where a body might come in chunks, 1.0 keeps it whole
    let version = if host.contains('.') { "1.1" } else { "1.0" };
    let request = format!("GET {path} HTTP/{version}\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(said)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(said)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{address}: no answer"))?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("{address}: {head}"))?, body.to_owned()))
}

/// Requests at a steady rate until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl Load {
    fn start(from: Cluster, of: Cluster, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut asked, mut lost) = (0, Vec::new());
            let begin = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let outcome = from.ask(&of);
                if !matches!(&outcome, Ok((200, _))) {
                    lost.push(format!("{:?}: {outcome:?}", begin.elapsed()));
                }
                asked += 1;
                let next = begin + Duration::from_secs(1) * asked / rate;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            (asked as usize, lost)
        });
        Self { stop, thread }
    }

    fn none_is_lost(self, during: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let (asked, lost) = self.thread.join().unwrap();
        eprintln!("bed: {during}: {asked} requests, {} lost", lost.len());
        assert!(asked > 20, "{during}: only {asked} requests");
        assert!(lost.is_empty(), "{during}: {} of {asked} lost: {:#?}", lost.len(), &lost[..lost.len().min(5)]);
    }
}

struct Mesh {
    dir: tempfile::TempDir,
    bin: PathBuf,
    east: Cluster,
    west: Cluster,
}

impl Mesh {
    /// Starts both clusters; istiod of west begins without the switch for several roots.
    fn start() -> Option<Self> {
        let bin = files_of_bed()?;
        let index = free_index();
        let dir = tempfile::tempdir().unwrap();
        let east = Cluster { name: "east", peer: "west", app: "orders", port: 7002, index };
        let west = Cluster { name: "west", peer: "east", app: "cart", port: 7001, index: index + 1 };
        let mesh = Self { dir, bin, east, west };
        fs::create_dir_all(mesh.checkout().join("specs")).unwrap();
        thread::scope(|scope| {
            for cluster in mesh.clusters() {
                let mesh = &mesh;
                scope.spawn(move || {
                    mesh.bed("up", cluster, &[]);
                    mesh.istiod(cluster, cluster.name != "west");
                    mesh.bed("apps", cluster, &[("ISTHMUS_TESTBED_APP", cluster.app)]);
                });
            }
        });
        Some(mesh)
    }

    fn clusters(&self) -> [Cluster; 2] {
        [self.east, self.west]
    }

    fn checkout(&self) -> PathBuf {
        self.dir.path().join("checkout")
    }

    fn folder(&self, cluster: Cluster) -> PathBuf {
        self.dir.path().join(cluster.name)
    }

    fn bed(&self, command: &str, cluster: Cluster, environment: &[(&str, &str)]) {
        succeed(
            script("bed")
                .env("ISTHMUS_TESTBED_OWNER", std::process::id().to_string())
                .envs(environment.iter().copied())
                .args([command, cluster.name, &cluster.index.to_string()])
                .arg(self.dir.path()),
        );
    }

    fn istiod(&self, cluster: Cluster, multiroot: bool) {
        self.bed("istiod", cluster, &[("ISTHMUS_TESTBED_MULTIROOT", &multiroot.to_string())]);
    }

    fn stop(&self, process: &str, cluster: Cluster) {
        succeed(script("bed").args(["stop", process]).arg(self.folder(cluster)));
    }

    fn signal(&self, signal: &str, process: &str, cluster: Cluster) {
        let pid = fs::read_to_string(self.folder(cluster).join(format!("{process}.pid"))).unwrap();
        succeed(Command::new("kill").args([signal, pid.split_whitespace().next().unwrap()]));
    }

    fn kubectl(&self, cluster: Cluster) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut kubectl = Command::new("env");
        kubectl
            .arg(format!("PATH={path}:{}", self.bin.display()))
            .args(["kubectl", "--kubeconfig"])
            .arg(self.folder(cluster).join("admin.kubeconfig"));
        kubectl
    }

    fn object(&self, cluster: Cluster, kind: &str, name: &str) -> Value {
        let mut get = self.kubectl(cluster);
        get.args(["get", kind, name, "--namespace=istio-system", "--output=json"]);
        serde_json::from_str(&succeed(&mut get)).unwrap()
    }

    fn apply(&self, cluster: Cluster, object: &Value) {
        let file = self.folder(cluster).join("object.json");
        fs::write(&file, object.to_string()).unwrap();
        succeed(self.kubectl(cluster).args(["apply", "--server-side", "--force-conflicts", "--filename"]).arg(file));
    }

    /// The specs; `leaving` is the cluster that is to leave.
    fn write_specs(&self, leaving: Option<&str>) {
        let mut text =
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n"
                .to_owned();
        for cluster in self.clusters() {
            let Cluster { name, index, .. } = cluster;
            let ca = format!("specs/{name}-ca.pem");
            let ca = if self.checkout().join(&ca).exists() { format!(", ca: {{file: {ca}}}") } else { String::new() };
            let state = if leaving == Some(name) { "leaving" } else { "active" };
            text.push_str(&format!(
                "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  state: {state}\n  \
                 multicluster: {{enabled: true, image: \"registry.example.com/isthmus:0.1.0\", apiHost: \"127.0.{index}.30:8443\"}}\n  \
                 metadata: {{endpoint: \"https://127.0.{index}.20:8443/metadata\"{ca}}}\n  allow: {{addresses: [127.0.0.0/8]}}\n"
            ));
        }
        fs::write(self.checkout().join("specs/mesh.yaml"), text).unwrap();
    }

    fn engine(&self, words: &[&str]) -> (i32, String) {
        let ran = TestEnvironment::new().real_time().run_on(&self.checkout(), words);
        (ran.code, ran.stdout + &ran.stderr)
    }

    fn turn(&self) -> String {
        let (code, text) = self.engine(&["apply", "--create-keys"]);
        assert_eq!(code, 0, "{text}");
        text
    }

    /// Plans until the plan says all of this.
    fn plan_says(&self, words: &[String]) {
        let mut said = String::new();
        self.until("the plan to say it", || {
            // slower than the exporter's limit of requests
            thread::sleep(Duration::from_secs(1));
            let (code, text) = self.engine(&["plan"]);
            assert_eq!(code, 0, "{text}");
            said = text;
            let missing = words.iter().find(|words| !said.contains(words.as_str()));
            missing.map_or(Ok(()), |missing| Err(format!("the plan does not say `{missing}`:\n{said}")))
        });
        assert!(said.contains("… render-secret/"), "{said}");
    }

    /// Brings a rendered folder into its cluster, but for the files that contain one of `without`, and prunes what is no
    /// longer in it.
    fn sync(&self, cluster: Cluster, without: &[&str]) {
        let rendered = self.checkout().join("rendered").join(cluster.name);
        let synced = self.dir.path().join("synced").join(cluster.name);
        fs::create_dir_all(&synced).unwrap();
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            entries.filter(|name| name != "kustomization.yaml").collect()
        };
        let wanted = names(&rendered);
        if without.is_empty() && !wanted.is_empty() {
            succeed(
                self.kubectl(cluster).args(["apply", "--server-side", "--field-manager=isthmus", "-k"]).arg(&rendered),
            );
        } else if !wanted.is_empty() {
            let mut apply = self.kubectl(cluster);
            apply.args(["apply", "--server-side", "--field-manager=isthmus"]);
            for name in wanted.iter().filter(|name| !without.iter().any(|left_out| name.contains(left_out))) {
                apply.arg("--filename").arg(rendered.join(name));
            }
            succeed(&mut apply);
        }
        for gone in names(&synced).iter().filter(|name| !wanted.contains(name)) {
            succeed(self.kubectl(cluster).args(["delete", "--ignore-not-found", "--filename"]).arg(synced.join(gone)));
            fs::remove_file(synced.join(gone)).unwrap();
        }
        for name in wanted {
            fs::copy(rendered.join(&name), synced.join(&name)).unwrap();
        }
    }

    fn sync_all(&self) {
        thread::scope(|scope| {
            for cluster in self.clusters() {
                scope.spawn(move || self.sync(cluster, &[]));
            }
        });
    }

    /// What a kubelet would do: a process with the arguments of the Deployment, the token of the ServiceAccount and the
    /// files of the Secret; and the Pod that says so.
    fn run(&self, cluster: Cluster, role: &str, host: u8) {
        let files = self.folder(cluster).join(format!("{role}-files"));
        fs::create_dir_all(&files).unwrap();
        let account = format!("isthmus-{role}");
        let mut token = self.kubectl(cluster);
        token.args(["create", "token", &account, "--namespace=istio-system", "--duration=10h"]);
        fs::write(files.join("token"), succeed(&mut token).trim()).unwrap();
        let admin = succeed(self.kubectl(cluster).args(["config", "view", "--raw", "--output=json"]));
        let mut config: Value = serde_json::from_str(&admin).unwrap();
        config["users"][0]["user"] = json!({ "tokenFile": files.join("token") });
        fs::write(files.join("kubeconfig"), config.to_string()).unwrap();

        let deployment = self.object(cluster, "deployment", &account);
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        let mut words: Vec<String> = args.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect();
        words.extend([
            format!("--listen={}", cluster.address(host, 8443)),
            format!("--metrics-listen={}", cluster.address(host, 9090)),
            format!("--kubeconfig={}", files.join("kubeconfig").display()),
            "--limit=lame-duck=300ms".to_owned(),
            "--limit=drain=1s".to_owned(),
        ]);
        if role != "relay" {
            let secret = self.object(cluster, "secret", &format!("{account}-tls"));
            for (file, flag) in [("tls.crt", "tls-cert"), ("tls.key", "tls-key")] {
                let data = base64::prelude::BASE64_STANDARD.decode(secret["data"][file].as_str().unwrap()).unwrap();
                fs::write(files.join(file), data).unwrap();
                words.push(format!("--{flag}={}", files.join(file).display()));
            }
        }
        if role == "proxy" {
            words.push(format!("--audit-log={}", files.join("audit.log").display()));
        }
        let pod = format!("{account}-0");
        self.apply(cluster, &json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod, "namespace": "istio-system", "labels": deployment["spec"]["template"]["metadata"]["labels"] },
            "spec": { "serviceAccountName": account, "containers": [{ "name": role, "image": "none" }] },
        }));
        let address = cluster.address(host, 0).ip();
        let status = json!({ "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": "True" }] } });
        let mut patch = self.kubectl(cluster);
        patch.args([
            "patch",
            "pod",
            &pod,
            "--namespace=istio-system",
            "--subresource=status",
            "--type=merge",
            "--patch",
        ]);
        succeed(patch.arg(status.to_string()));
        succeed(
            script("bed")
                .args(["run", role, cluster.name, &cluster.index.to_string()])
                .arg(self.dir.path())
                .arg(ENGINE)
                .args(&words),
        );
    }

    fn ready(&self, cluster: Cluster, host: u8) {
        self.until(&format!("the role on 127.0.{}.{host} to be ready", cluster.index), || {
            match get(cluster.address(host, 9090), "role", "/readyz")? {
                (200, _) => Ok(()),
                (status, text) => Err(format!("{status}: {text}")),
            }
        });
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> Result<(), String>) {
        let until = Instant::now() + PATIENCE;
        while let Err(why) = holds() {
            if Instant::now() > until {
                for cluster in self.clusters() {
                    for (role, _) in ROLES {
                        let log =
                            fs::read_to_string(self.folder(cluster).join(format!("{role}.log"))).unwrap_or_default();
                        let last: Vec<&str> = log.lines().rev().take(5).collect();
                        eprintln!("bed: {role} of {} said at last: {last:#?}", cluster.name);
                    }
                }
                panic!("waited {PATIENCE:?} for {what}: {why}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn synced(&self, wanted: bool) {
        for cluster in self.clusters() {
            self.until(&format!("`{}` to be synced in {}: {wanted}", cluster.peer, cluster.name), || {
                let clusters = cluster.istiod("/debug/clusterz")?;
                let entries = clusters.as_array().unwrap();
                let entry = entries.iter().find(|entry| entry["id"] == cluster.peer);
                match (entry, wanted) {
                    (Some(entry), true) if entry["syncStatus"] == "synced" => Ok(()),
                    (None, false) => Ok(()),
                    _ => Err(clusters.to_string()),
                }
            });
        }
    }

    fn answers(&self, from: Cluster, of: Cluster) {
        let mut last = String::new();
        self.until(&format!("{} to be answered from {}", from.name, of.name), || {
            let (status, body) = from.ask(&of)?;
            last = body;
            if status == 200 { Ok(()) } else { Err(format!("{status}: {last}")) }
        });
        assert!(last.contains(&format!("hello from {}-{}", of.name, of.app)), "{last}");
        assert!(last.contains(&format!("By=spiffe://cluster.local/ns/shop/sa/{}", of.app)), "{last}");
        assert!(last.contains("URI=spiffe://cluster.local/ns/shop/sa/client"), "{last}");
    }

    /// When an object was last written, as the apiserver's audit log says.
    fn written(&self, cluster: Cluster, name: &str) -> jiff::Timestamp {
        let log = fs::read_to_string(self.folder(cluster).join("audit.log")).unwrap();
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let writes = events.filter(|event| {
            event["objectRef"]["name"] == name
                && ["create", "update", "patch"].iter().any(|verb| event["verb"] == *verb)
        });
        let times = writes.map(|event| event["stageTimestamp"].as_str().unwrap().parse().unwrap());
        times.max().unwrap_or_else(|| panic!("{name} was never written in {}", cluster.name))
    }

    /// A Service that is new in one cluster is seen by the other's istiod.
    fn news_arrives(&self, name: &str) {
        let address = fs::read_to_string(self.folder(self.west).join("pod-address")).unwrap();
        self.apply(
            self.west,
            &json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "ports": [{ "name": "http", "port": 7009 }] } }),
        );
        self.apply(
            self.west,
            &json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": name, "namespace": "shop", "labels": { "kubernetes.io/service-name": name } },
            "ports": [{ "name": "http", "port": 7009 }], "endpoints": [{ "addresses": [address.trim()] }] }),
        );
        let begin = Instant::now();
        self.until(&format!("{name} of west to be known in east"), || {
            let shards = self.east.istiod("/debug/endpointShardz")?;
            let of_west = &shards[format!("{name}.shop.svc.cluster.local")]["shop"]["Shards"]["Kubernetes/west"];
            if of_west.is_array() { Ok(()) } else { Err("no shard of it".to_owned()) }
        });
        eprintln!("bed: {name} of west was known in east after {:?}", begin.elapsed());
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if thread::panicking() && std::env::var_os("ISTHMUS_TESTBED_KEEP").is_some() {
            eprintln!("bed: logs are in {}", self.dir.path().display());
            self.dir.disable_cleanup(true);
        }
        drop(script("bed").arg("down").arg(self.dir.path()).output());
    }
}

#[test]
fn two_real_istiods_join_carry_traffic_through_faults_and_part() {
    let _turn = one_at_a_time();
    let Some(mesh) = Mesh::start() else { return };
    let (east, west) = (mesh.east, mesh.west);

    components(&mesh);
    the_gates_hold(&mesh);
    join(&mesh);
    west_saw_east_alone(&mesh);
    traffic_outlives_faults(&mesh);
    part(&mesh);

    for cluster in [east, west] {
        let (status, body) = cluster.ask(&cluster).unwrap();
        assert_eq!(status, 200, "{body}");
    }
}

/// The first turn: components. The relay makes keys and certificates, then the others begin.
fn components(mesh: &Mesh) {
    mesh.write_specs(None);
    let said = mesh.turn();
    assert!(said.contains("waiting"), "{said}");
    mesh.sync_all();
    for cluster in mesh.clusters() {
        mesh.run(cluster, "relay", 40);
    }
    for cluster in mesh.clusters() {
        mesh.ready(cluster, 40);
        let identity = mesh.object(cluster, "configmap", "isthmus-identity");
        let identity: Value = serde_json::from_str(identity["data"]["identity.json"].as_str().unwrap()).unwrap();
        let ca = mesh.checkout().join(format!("specs/{}-ca.pem", cluster.name));
        fs::write(ca, identity["servingCA"].as_str().unwrap()).unwrap();
        mesh.run(cluster, "proxy", 30);
        mesh.run(cluster, "exporter", 20);
        mesh.ready(cluster, 30);
        mesh.ready(cluster, 20);
    }
    mesh.write_specs(None);
}

/// Whatever is not live yet in either cluster keeps the secrets back; one that is forced shows what they prevent.
fn the_gates_hold(mesh: &Mesh) {
    let (east, west) = (mesh.east, mesh.west);
    mesh.turn();
    mesh.sync(east, &[]);
    mesh.sync(west, &["isthmus-mesh"]);
    let old = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "not-restarted-yet", "namespace": "shop", "labels": { "app": "old" } },
        "spec": { "containers": [{ "name": "app", "image": "none" }, { "name": "istio-proxy", "image": "none" }] },
    });
    mesh.apply(east, &old);
    let status = json!({ "status": { "phase": "Running", "podIP": "10.0.0.9", "podIPs": [{ "ip": "10.0.0.9" }] } });
    let mut patch = mesh.kubectl(east);
    patch.args([
        "patch",
        "pod",
        "not-restarted-yet",
        "--namespace=shop",
        "--subresource=status",
        "--type=merge",
        "--patch",
    ]);
    succeed(patch.arg(status.to_string()));
    mesh.plan_says(&[
        "the root CA of `east` to be live in `west`".to_owned(),
        "istiod and proxies of `west` to be prepared".to_owned(),
        "istiod and proxies of `east` to be prepared".to_owned(),
    ]);

    // the secret that was kept back, by force
    let identity = mesh.object(east, "configmap", "isthmus-identity");
    let identity: Value = serde_json::from_str(identity["data"]["identity.json"].as_str().unwrap()).unwrap();
    let ca = base64::prelude::BASE64_STANDARD.encode(identity["relayCA"].as_str().unwrap());
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "west",
        "clusters": [{ "name": "west", "cluster": { "certificate-authority-data": ca,
            "server": "https://isthmus-relay.istio-system.svc:8443/to/west" } }],
        "users": [{ "name": "west", "user": {} }],
        "contexts": [{ "name": "west", "context": { "cluster": "west", "user": "west" } }],
    });
    mesh.apply(
        east,
        &json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": { "west": kubeconfig.to_string() },
            "metadata": { "name": "forced", "namespace": "istio-system", "labels": { "istio/multiCluster": "true" } },
        }),
    );
    let mut seen = 0;
    mesh.until("the forced secret to cost a request", || match east.ask(&west) {
        Ok((503, _)) if seen > 3 => Ok(()),
        Ok((503, body)) => {
            seen += 1;
            Err(body)
        }
        other => Err(format!("{other:?}")),
    });
    eprintln!("bed: without east's root in west, a forced secret gives 503");
    succeed(mesh.kubectl(east).args(["delete", "secret", "forced", "--namespace=istio-system"]));
    mesh.until("the forced secret to be forgotten", || {
        let shards = east.istiod("/debug/endpointShardz")?.to_string();
        if shards.contains("Kubernetes/west") { Err("west has endpoints in east".to_owned()) } else { Ok(()) }
    });

    mesh.sync(west, &[]);
    mesh.stop("istiod", west);
    mesh.plan_says(&["evidence of `west`".to_owned()]);
    // a pod does not change; another takes its place
    let pod = ["delete", "pod", "istiod-west-0", "--namespace=istio-system", "--grace-period=0", "--force"];
    succeed(mesh.kubectl(west).args(pod));
    mesh.istiod(west, true);
    mesh.plan_says(&["istiod and proxies of `east` to be prepared".to_owned()]);
    succeed(mesh.kubectl(east).args([
        "delete",
        "pod",
        "not-restarted-yet",
        "--namespace=shop",
        "--grace-period=0",
        "--force",
    ]));
}

/// Turns until nothing is left to do, as a pipeline takes them; then both istiods see each other, and applications too.
fn join(mesh: &Mesh) {
    let (east, west) = (mesh.east, mesh.west);
    let first = thread::spawn(move || {
        let until = Instant::now() + 2 * PATIENCE;
        for (from, of) in [(east, west), (west, east)] {
            while !matches!(from.ask(&of), Ok((200, _))) && Instant::now() < until {
                thread::sleep(Duration::from_millis(2));
            }
        }
        jiff::Timestamp::now()
    });
    let mut settled = false;
    for turn in 1..=MOST_TURNS {
        let said = mesh.turn();
        if said.contains("No changes") {
            eprintln!("bed: nothing left to do after {turn} turns");
            settled = true;
            break;
        }
        mesh.sync_all();
        thread::sleep(Duration::from_secs(2));
    }
    assert!(settled, "the mesh does not settle: {}", mesh.engine(&["plan"]).1);
    let (code, plan) = mesh.engine(&["plan", "--detailed-exitcode"]);
    assert_eq!(code, 0, "{plan}");
    mesh.synced(true);
    mesh.answers(east, west);
    mesh.answers(west, east);
    let written =
        mesh.clusters().map(|cluster| mesh.written(cluster, &format!("istio-remote-secret-{}", cluster.peer)));
    let last = written.into_iter().max().unwrap();
    let took = first.join().unwrap().duration_since(last);
    eprintln!("bed: first 200 in both directions {took:#} after the last write");
    for cluster in mesh.clusters() {
        let (name, peer) = (cluster.name, cluster.peer);
        let of_peer = if name == "east" { west } else { east };
        let shards = cluster.istiod("/debug/endpointShardz").unwrap();
        let service = format!("{}.shop.svc.cluster.local", of_peer.app);
        assert!(shards[service]["shop"]["Shards"][format!("Kubernetes/{peer}")].is_array(), "{shards:#}");
        let networks = cluster.istiod("/debug/networkz").unwrap();
        let gateway = of_peer.address(50, 15443).ip().to_string();
        let is_there = |entry: &Value| entry["Network"] == format!("network-{peer}") && entry["Addr"] == gateway;
        assert!(networks.as_array().unwrap().iter().any(is_there), "{networks:#}");
        let trusted = cluster.istiod("/debug/mesh").unwrap()["caCertificates"].to_string();
        for root in mesh.clusters() {
            let pem = mesh.object(root, "configmap", "istio-ca-root-cert")["data"]["root-cert.pem"]
                .as_str()
                .unwrap()
                .to_owned();
            let line = pem.lines().nth(2).unwrap().to_owned();
            assert!(root.name == name || trusted.contains(&line), "{name} does not trust the root of {}", root.name);
        }
    }
    // no file that git would track holds a secret
    let mut scanned = 0;
    for file in super::files(&mesh.checkout()).keys() {
        let path = file.strip_prefix(mesh.checkout()).unwrap();
        if path.starts_with("keys") {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        let decoded: Vec<String> = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)))
            .filter(|word| word.len() > 40)
            .filter_map(|word| String::from_utf8(base64::prelude::BASE64_STANDARD.decode(word).ok()?).ok())
            .collect();
        for text in decoded.iter().chain([&text]) {
            assert!(
                !text.contains("PRIVATE KEY") && !text.contains("eyJhbGciOi") && !text.contains("token:"),
                "{}",
                path.display()
            );
        }
        scanned += 1;
    }
    assert!(scanned > 50, "{scanned}");
}

/// The audit log of west's apiserver: east came as its own user, for what is in the table.
fn west_saw_east_alone(mesh: &Mesh) {
    let identity = mesh.object(mesh.east, "configmap", "isthmus-identity");
    let identity: Value = serde_json::from_str(identity["data"]["identity.json"].as_str().unwrap()).unwrap();
    let user = format!("istio-peer:{}", identity["clusterUUID"].as_str().unwrap());
    let log = fs::read_to_string(mesh.folder(mesh.west).join("audit.log")).unwrap();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let impersonated = event["impersonatedUser"]["username"].as_str();
        if event["user"]["username"] != "system:serviceaccount:istio-system:isthmus-proxy" || impersonated.is_none() {
            continue;
        }
        assert_eq!(impersonated, Some(user.as_str()), "{line}");
        let what = event["objectRef"]["resource"].as_str().unwrap_or_else(|| event["requestURI"].as_str().unwrap());
        *seen.entry(format!("{} {what}", event["verb"].as_str().unwrap())).or_default() += 1;
        assert!(event["userAgent"].as_str().is_none_or(|agent| !agent.contains("kubectl")), "{line}");
    }
    eprintln!("bed: west's apiserver was asked by east for: {seen:?}");
    let table = [
        "namespaces",
        "nodes",
        "pods",
        "services",
        "customresourcedefinitions",
        "endpointslices",
        "gateways",
        "workloadentries",
        "serviceexports",
        "serviceimports",
        "/api",
    ];
    for what in seen.keys() {
        let (verb, resource) = what.split_once(' ').unwrap();
        assert!(["get", "list", "watch"].contains(&verb) && table.contains(&resource), "{what}");
    }
    for wanted in ["watch services", "watch pods", "watch endpointslices", "watch namespaces", "watch nodes"] {
        assert!(seen.contains_key(wanted), "{wanted} is missing: {seen:?}");
    }
}

/// Things break and come back under 50 requests a second in both directions.
fn traffic_outlives_faults(mesh: &Mesh) {
    let (east, west) = (mesh.east, mesh.west);
    let loaded = |what: &str, fault: &dyn Fn()| {
        let loads = [Load::start(east, west, 50), Load::start(west, east, 50)];
        thread::sleep(Duration::from_millis(500));
        fault();
        thread::sleep(Duration::from_secs(2));
        for load in loads {
            load.none_is_lost(what);
        }
    };
    loaded("west's api-proxy is rolled", &|| {
        mesh.stop("proxy", west);
        mesh.run(west, "proxy", 30);
        mesh.ready(west, 30);
    });
    mesh.news_arrives("after-the-proxy");
    loaded("east's relay is rolled", &|| {
        mesh.stop("relay", east);
        mesh.run(east, "relay", 40);
        mesh.ready(east, 40);
    });
    mesh.news_arrives("after-the-relay");
    loaded("west's apiserver is killed and started again", &|| {
        mesh.signal("-KILL", "apiserver", west);
        thread::sleep(Duration::from_secs(2));
        mesh.bed("up", west, &[]);
        mesh.ready(west, 30);
    });
    mesh.news_arrives("after-the-apiserver");
    loaded("west's apiserver hangs for 6 s", &|| {
        mesh.signal("-STOP", "apiserver", west);
        thread::sleep(Duration::from_secs(6));
        mesh.signal("-CONT", "apiserver", west);
        mesh.ready(west, 30);
    });
    loaded("west's etcd hangs for 6 s", &|| {
        mesh.signal("-STOP", "etcd", west);
        thread::sleep(Duration::from_secs(6));
        mesh.signal("-CONT", "etcd", west);
        mesh.ready(west, 30);
    });
    mesh.news_arrives("after-etcd");
    mesh.synced(true);
}

/// West leaves, stage by stage, while each cluster serves its own.
fn part(mesh: &Mesh) {
    let (east, west) = (mesh.east, mesh.west);
    let loads = [Load::start(east, east, 20), Load::start(west, west, 20)];
    mesh.write_specs(Some("west"));
    let mut stages = Vec::new();
    let rendered = mesh.checkout().join("rendered/west");
    let holds = |part: &str| {
        fs::read_dir(&rendered).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().contains(part))
    };
    for _ in 0..MOST_TURNS {
        let said = mesh.turn();
        stages.push((holds("istio-remote-secret"), holds("isthmus-peers"), holds("deployment")));
        mesh.sync_all();
        if !holds("deployment") {
            for (role, _) in ROLES {
                mesh.stop(role, west);
            }
            break;
        }
        assert!(!said.contains("No changes"), "west does not leave: {said}");
        thread::sleep(Duration::from_secs(3));
    }
    eprintln!("bed: west left: (secret, peers, components) by turns: {stages:?}");
    assert_eq!(stages.last(), Some(&(false, false, false)), "{stages:?}");
    // the secret goes before the peers, and the components stay for as long as anybody is to be admitted
    for pair in stages.windows(2) {
        let ((secret, _, _), (_, peers_next, _)) = (pair[0], pair[1]);
        assert!(!secret || peers_next, "{stages:?}");
    }
    assert!(stages.len() > 2 && stages.iter().all(|(_, peers, components)| *components || !peers), "{stages:?}");
    mesh.synced(false);
    for load in loads {
        load.none_is_lost("west leaves, and each cluster asks itself");
    }
    let left = succeed(mesh.kubectl(west).args([
        "get",
        "configmaps,secrets,services,serviceaccounts,deployments.apps,networkpolicies.networking.k8s.io,poddisruptionbudgets.policy,\
         roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,clusterroles.rbac.authorization.k8s.io,\
         clusterrolebindings.rbac.authorization.k8s.io,gateways.networking.istio.io",
        "--all-namespaces",
        "--selector=app.kubernetes.io/managed-by=isthmus,isthmus.dev/owner=tree",
        "--output=name",
    ]));
    assert_eq!(left.trim(), "", "objects of the tree are left in west");
    for cluster in mesh.clusters() {
        let shards = cluster.istiod("/debug/endpointShardz").unwrap().to_string();
        assert!(
            !shards.contains(&format!("Kubernetes/{}", cluster.peer)),
            "{} still has its peer's endpoints",
            cluster.name
        );
        let roots = cluster.istiod("/debug/mesh").unwrap()["caCertificates"].as_array().map_or(0, Vec::len);
        assert!(roots <= 1, "{} trusts {roots} roots", cluster.name);
        let (_, stacks) = get(cluster.address(10, 8080), "istiod", "/debug/pprof/goroutine?debug=2").unwrap();
        assert!(!stacks.contains("deleteCluster"), "istiod of {} hangs in deleting a cluster", cluster.name);
    }
}
