//! Clusters of the bed with all that ours runs in them, and the checkout that joins them. What goes from the checkout to the
//! clusters goes by `kubectl apply --server-side -k`, as a team's pipeline would do it; nothing else tells a cluster of another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::environment::{ENGINE, TestEnvironment};
use super::{files_of_bed, free_index, script, succeed};

pub(super) const PATIENCE: Duration = Duration::from_mins(1);
pub(super) const MOST_RUNS: usize = 12;
pub(super) const ROLES: [(&str, u8); 3] = [("exporter", 20), ("proxy", 30), ("relay", 40)];
/// The processes of them, and of agents, which are relays, too.
const LOGS: [&str; 4] = ["exporter", "proxy", "relay", "agent"];

#[derive(Clone, Copy)]
pub(super) struct BedCluster {
    pub(super) name: &'static str,
    /// The service that runs here, its port, and where the clients of all clusters listen for it.
    pub(super) app: &'static str,
    pub(super) port: u16,
    pub(super) index: u16,
    /// Its trust domain.
    pub(super) domain: &'static str,
}

impl BedCluster {
    pub(super) fn address(&self, host: u8, port: u16) -> SocketAddr {
        format!("127.0.{}.{host}:{port}", self.index).parse().unwrap()
    }

    /// Asks, as the client of this cluster, for a service of any cluster.
    pub(super) fn ask(&self, of: &Self) -> Result<(u16, String), String> {
        get(self.address(60, of.port), &format!("{}.shop.svc.cluster.local", of.app), "/")
    }

    pub(super) fn istiod(&self, path: &str) -> Result<Value, String> {
        let (status, body) = get(self.address(10, 8080), "istiod", path)?;
        if status != 200 {
            return Err(format!("{path} of {}: {status}", self.name));
        }
        serde_json::from_str(&body).map_err(|error| format!("{path} of {}: {error}", self.name))
    }
}

/// A GET over plain HTTP: status and body.
pub(super) fn get(address: SocketAddr, host: &str, path: &str) -> Result<(u16, String), String> {
    let output = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(output)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(output)?;
    // Envoy wants 1.1; where a body might come in chunks, 1.0 keeps it whole
    let version = if host.contains('.') { "1.1" } else { "1.0" };
    let request = format!("GET {path} HTTP/{version}\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(output)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(output)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{address}: no answer"))?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("{address}: {head}"))?, body.to_owned()))
}

/// Requests at a steady rate until it is stopped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl Load {
    pub(super) fn start(from: BedCluster, of: BedCluster, rate: u32) -> Self {
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

    pub(super) fn none_is_lost(self, during: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let (asked, lost) = self.thread.join().unwrap();
        eprintln!("bed: {during}: {asked} requests, {} lost", lost.len());
        assert!(asked > 20, "{during}: only {asked} requests");
        assert!(lost.is_empty(), "{during}: {} of {asked} lost: {:#?}", lost.len(), &lost[..lost.len().min(5)]);
    }
}

/// Lets what runs beside a test end when this is dropped, also when the test fails: a scope waits for it.
pub(super) struct RunsUntil<'a>(pub(super) &'a AtomicBool);

impl Drop for RunsUntil<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

pub(super) struct BedMesh {
    pub(super) dir: tempfile::TempDir,
    bin: PathBuf,
    clusters: Vec<BedCluster>,
    /// Lines of each cluster's spec beside those that all have, two spaces in.
    output: Mutex<BTreeMap<&'static str, String>>,
    /// Clusters of which nothing runs any more.
    destroyed: Mutex<BTreeSet<&'static str>>,
    /// Whose checkout it is, where each cluster has a team of its own.
    team: Mutex<Option<&'static str>>,
    /// What the clusters' DNS says beside the machine's: a file as `/etc/hosts`.
    hosts: Mutex<Option<PathBuf>>,
    argo_cd: AtomicBool,
}

impl BedMesh {
    /// Starts clusters of these names, services and trust domains; istiods of `unprepared` ones begin without the switch for
    /// several roots.
    pub(super) fn start(of: &[(&'static str, &'static str, &'static str)], unprepared: &[&str]) -> Option<Self> {
        Self::start_after(of, unprepared, |_| ())
    }

    /// The same, after something is put into the folder of all clusters.
    pub(super) fn start_after(
        of: &[(&'static str, &'static str, &'static str)],
        unprepared: &[&str],
        put: impl FnOnce(&Path),
    ) -> Option<Self> {
        Self::start_with(of, unprepared, &[], put)
    }

    /// The same; `without_gateway` have the Gateway API, and no east-west gateway until istiod makes one.
    pub(super) fn start_with(
        of: &[(&'static str, &'static str, &'static str)],
        unprepared: &[&str],
        without_gateway: &[&str],
        put: impl FnOnce(&Path),
    ) -> Option<Self> {
        let bin = files_of_bed()?;
        let first = free_index(u16::try_from(of.len()).unwrap());
        let dir = tempfile::tempdir().unwrap();
        put(dir.path());
        let cluster = |(index, &(name, app, domain)): (u16, &(&'static str, &'static str, &'static str))| {
            let ports = [("cart", 7001), ("orders", 7002), ("stock", 7003)];
            let port = ports.into_iter().find(|(known, _)| *known == app).unwrap().1;
            BedCluster { name, app, port, index, domain }
        };
        let clusters = (first..).zip(of).map(cluster).collect();
        let (output, destroyed, team, hosts) = (Mutex::default(), Mutex::default(), Mutex::default(), Mutex::default());
        let argo_cd = AtomicBool::new(false);
        let mesh = Self { dir, bin, clusters, output, destroyed, team, hosts, argo_cd };
        fs::create_dir_all(mesh.checkout().join("specs")).unwrap();
        let starting = mesh.clusters().into_iter().map(|cluster| {
            let managed = without_gateway.contains(&cluster.name).to_string();
            let mut istiod = mesh.istiod_command(cluster, !unprepared.contains(&cluster.name));
            istiod.env("ISTHMUS_TESTBED_GATEWAY_API", &managed);
            let app = [("ISTHMUS_TESTBED_APP", cluster.app), ("ISTHMUS_TESTBED_MANAGED_GATEWAY", managed.as_str())];
            let mut apps = mesh.bed_command("apps", cluster, &app);
            let mut up = mesh.bed_command("up", cluster, &[]);
            thread::spawn(move || {
                for command in [&mut up, &mut istiod, &mut apps] {
                    succeed(command);
                }
            })
        });
        let starting: Vec<_> = starting.collect();
        for started in starting {
            started.join().unwrap();
        }
        Some(mesh)
    }

    pub(super) fn clusters(&self) -> Vec<BedCluster> {
        self.clusters.clone()
    }

    pub(super) fn cluster(&self, name: &str) -> BedCluster {
        self.clusters().into_iter().find(|cluster| cluster.name == name).unwrap()
    }

    /// Those that were not destroyed.
    fn running(&self) -> Vec<BedCluster> {
        let destroyed = self.destroyed.lock().unwrap();
        self.clusters().into_iter().filter(|cluster| !destroyed.contains(cluster.name)).collect()
    }

    /// Every reader with each of its peers.
    pub(super) fn links(&self) -> Vec<(BedCluster, BedCluster)> {
        let running = self.running();
        let of = |reader: &BedCluster| running.iter().map(|peer| (*reader, *peer)).collect::<Vec<_>>();
        running.iter().flat_map(of).filter(|(reader, peer)| reader.name != peer.name).collect()
    }

    /// Stops all of a cluster, for good.
    pub(super) fn destroy(&self, cluster: BedCluster) {
        self.destroyed.lock().unwrap().insert(cluster.name);
        for (role, _) in ROLES {
            self.stop(role, cluster);
        }
        for process in ["gateway", "client", "server", "backend", "istiod", "apiserver", "etcd"] {
            self.stop(process, cluster);
        }
    }

    pub(super) fn checkout(&self) -> PathBuf {
        let team = self.team.lock().unwrap().map(|team| format!("-{team}")).unwrap_or_default();
        self.dir.path().join(format!("checkout{team}"))
    }

    /// From now on the checkout is that of the team of a cluster.
    pub(super) fn team(&self, cluster: BedCluster) {
        *self.team.lock().unwrap() = Some(cluster.name);
        fs::create_dir_all(self.checkout().join("specs")).unwrap();
    }

    /// Names that only what runs inside the clusters knows.
    pub(super) fn names(&self, names: &[(String, IpAddr)]) {
        let lines = names.iter().map(|(name, address)| format!("{address} {name}\n"));
        let text = fs::read_to_string("/etc/hosts").unwrap() + "\n" + &lines.collect::<String>();
        let path = self.dir.path().join("hosts");
        fs::write(&path, text).unwrap();
        *self.hosts.lock().unwrap() = Some(path);
    }

    /// The words before a command that let it run where the clusters' names are known.
    fn inside(&self) -> Vec<String> {
        let Some(hosts) = self.hosts.lock().unwrap().clone() else { return Vec::new() };
        let mount = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
        let is_root = Command::new("unshare").args(["-m", "true"]).output().unwrap().status.success();
        ["unshare", if is_root { "-m" } else { "-rm" }, "sh", "-c", &mount, "sh"].map(str::to_owned).to_vec()
    }

    /// Runs the engine inside the clusters' network.
    pub(super) fn engine_inside(&self, arguments: &[&str]) -> (i32, String) {
        let environment = TestEnvironment::new().real_time();
        let inside = self.inside();
        let mut command = environment.wrapped(&inside.iter().map(String::as_str).collect::<Vec<_>>());
        let ran = environment
            .end(command.env("PATH", std::env::var("PATH").unwrap()).arg("-C").arg(self.checkout()).args(arguments));
        (ran.code, ran.stdout + &ran.stderr)
    }

    pub(super) fn folder(&self, cluster: BedCluster) -> PathBuf {
        self.dir.path().join(cluster.name)
    }

    fn bed_command(&self, command: &str, cluster: BedCluster, environment: &[(&str, &str)]) -> Command {
        let mut bed = script("bed");
        bed.env("ISTHMUS_TESTBED_OWNER", std::process::id().to_string())
            .envs(environment.iter().copied())
            .args([command, cluster.name, &cluster.index.to_string()])
            .arg(self.dir.path());
        bed
    }

    pub(super) fn bed(&self, command: &str, cluster: BedCluster, environment: &[(&str, &str)]) {
        succeed(&mut self.bed_command(command, cluster, environment));
    }

    fn istiod_command(&self, cluster: BedCluster, multiroot: bool) -> Command {
        let multiroot = multiroot.to_string();
        let environment =
            [("ISTHMUS_TESTBED_MULTIROOT", multiroot.as_str()), ("ISTHMUS_TESTBED_TRUST_DOMAIN", cluster.domain)];
        self.bed_command("istiod", cluster, &environment)
    }

    pub(super) fn istiod(&self, cluster: BedCluster, multiroot: bool) {
        succeed(&mut self.istiod_command(cluster, multiroot));
    }

    /// Starts a proxy again.
    pub(super) fn proxy(&self, role: &str, cluster: BedCluster) {
        let mut proxy = script("bed");
        proxy.args(["proxy", role, cluster.name, &cluster.index.to_string()]).arg(self.dir.path());
        succeed(&mut proxy);
    }

    pub(super) fn stop(&self, process: &str, cluster: BedCluster) {
        succeed(script("bed").args(["stop", process]).arg(self.folder(cluster)));
    }

    pub(super) fn signal(&self, signal: &str, process: &str, cluster: BedCluster) {
        let pid = fs::read_to_string(self.folder(cluster).join(format!("{process}.pid"))).unwrap();
        succeed(Command::new("kill").args([signal, pid.split_whitespace().next().unwrap()]));
    }

    /// A client of a cluster's apiserver that may do all, and where that is.
    pub(super) fn administers(&self, cluster: BedCluster) -> (reqwest::Client, String) {
        let read = |file: &str| fs::read(self.folder(cluster).join(file)).unwrap();
        let identity = reqwest::Identity::from_pem(&[read("admin.key"), read("admin.crt")].concat()).unwrap();
        let ca = reqwest::Certificate::from_pem(&read("api-ca.crt")).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).identity(identity).build().unwrap();
        (client, format!("https://{}", cluster.address(2, 6443)))
    }

    pub(super) fn kubectl(&self, cluster: BedCluster) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut kubectl = Command::new("env");
        kubectl
            .arg(format!("PATH={path}:{}", self.bin.display()))
            .args(["kubectl", "--kubeconfig"])
            .arg(self.folder(cluster).join("admin.kubeconfig"));
        kubectl
    }

    pub(super) fn object(&self, cluster: BedCluster, kind: &str, name: &str) -> Value {
        let mut get = self.kubectl(cluster);
        get.args(["get", kind, name, "--namespace=istio-system", "--output=json"]);
        serde_json::from_str(&succeed(&mut get)).unwrap()
    }

    pub(super) fn apply(&self, cluster: BedCluster, object: &Value) {
        // several threads may do so at once
        let name = format!("{}-{}.json", object["kind"], object["metadata"]["name"]).replace('"', "");
        let file = self.folder(cluster).join(name);
        fs::write(&file, object.to_string()).unwrap();
        succeed(self.kubectl(cluster).args(["apply", "--server-side", "--force-conflicts", "--filename"]).arg(file));
    }

    /// The same of an object that an apiserver takes only after it has come to know something, which is waited for.
    pub(super) fn apply_once_it_is_taken(&self, cluster: BedCluster, what: &str, object: &Value) {
        let file = self.folder(cluster).join("object.json");
        fs::write(&file, object.to_string()).unwrap();
        self.until(what, || {
            let out = self.kubectl(cluster).args(["apply", "--server-side", "--filename"]).arg(&file).output().unwrap();
            if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
        });
    }

    /// Lines of a cluster's spec beside those that all have, two spaces in. They take effect with the next `write_specs`.
    pub(super) fn says(&self, cluster: &'static str, lines: &str) {
        self.output.lock().unwrap().insert(cluster, lines.to_owned());
    }

    pub(super) fn write_specs(&self) {
        let mut text =
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n"
                .to_owned();
        for cluster in self.clusters() {
            let BedCluster { name, index, .. } = cluster;
            let ca = format!("specs/{name}-ca.pem");
            let ca = if self.checkout().join(&ca).exists() { format!(", ca: {{file: {ca}}}") } else { String::new() };
            let output = self.output.lock().unwrap().get(name).cloned().unwrap_or_default();
            text.push_str(&format!(
                "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  \
                 multicluster: {{enabled: true, image: \"registry.example.com/isthmus:0.1.0\", apiHost: \"127.0.{index}.30:8443\"}}\n  \
                 metadata: {{endpoint: \"https://127.0.{index}.20:8443/metadata\"{ca}}}\n  allow: {{addresses: [127.0.0.0/8]}}\n{output}"
            ));
        }
        fs::write(self.checkout().join("specs/mesh.yaml"), text).unwrap();
    }

    pub(super) fn engine(&self, arguments: &[&str]) -> (i32, String) {
        let ran = TestEnvironment::new().real_time().run_on(&self.checkout(), arguments);
        (ran.code, ran.stdout + &ran.stderr)
    }

    pub(super) fn reconcile(&self) -> String {
        let (code, text) = self.engine(&["apply", "--create-keys"]);
        assert_eq!(code, 0, "{text}");
        text
    }

    /// Plans until it ends with this code and says all of this.
    pub(super) fn plan_ends_with(&self, wanted: i32, arguments: &[String]) -> String {
        let mut output = String::new();
        self.until("the plan to say it", || {
            // slower than an exporter's limit of requests, which is that of an address and so of all who read it here
            thread::sleep(Duration::from_secs(1));
            let (code, text) = self.engine(&["plan"]);
            output = text;
            let missing = arguments.iter().find(|arguments| !output.contains(arguments.as_str()));
            match missing {
                None if code == wanted => Ok(()),
                None => Err(format!("expected code {wanted}, found {code}:\n{output}")),
                Some(missing) => Err(format!("the plan does not say `{missing}`:\n{output}")),
            }
        });
        output
    }

    /// Plans until the plan says all of this.
    pub(super) fn plan_says(&self, arguments: &[String]) {
        let output = self.plan_ends_with(0, arguments);
        assert!(output.contains("… render-secret/"), "{output}");
    }

    /// From now on it is Argo CD's sync engine that syncs.
    pub(super) fn with_argo_cd(&self) {
        self.argo_cd.store(true, Ordering::Relaxed);
    }

    /// As an Application with the options of `engine manifests argocd`: it prunes what it tracks.
    fn sync_by_argo_cd(&self, cluster: BedCluster) {
        let checkout = self.checkout();
        let rendered = checkout.join("rendered").join(cluster.name);
        let objects = if rendered.join("kustomization.yaml").exists() {
            succeed(self.kubectl(cluster).arg("kustomize").arg(&rendered))
        } else {
            String::new()
        };
        let manifests = self.folder(cluster).join("manifests.yaml");
        fs::write(&manifests, objects).unwrap();
        let application = format!("{}-{}", checkout.file_name().unwrap().to_str().unwrap(), cluster.name);
        // a kind and its objects come with one sync, and the objects are taken once the kind is known
        self.until(&format!("Argo CD to sync {application}"), || {
            let mut sync = Command::new(self.bin.join("argo"));
            sync.arg("sync").arg(self.folder(cluster).join("admin.kubeconfig"));
            let output = sync.args([&application, "istio-system"]).arg(&manifests).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
        });
    }

    /// Brings a rendered folder into its cluster, but for the files that contain one of `without`, and prunes what is no
    /// longer in it.
    pub(super) fn sync(&self, cluster: BedCluster, without: &[&str]) {
        if self.argo_cd.load(Ordering::Relaxed) {
            assert!(without.is_empty(), "an Application is synced as a whole");
            self.sync_by_argo_cd(cluster);
            return;
        }
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
                self.kubectl(cluster).args(["apply", "--server-side", "--field-manager=checkout", "-k"]).arg(&rendered),
            );
        } else if !wanted.is_empty() {
            let mut apply = self.kubectl(cluster);
            apply.args(["apply", "--server-side", "--field-manager=checkout"]);
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

    pub(super) fn sync_all(&self) {
        thread::scope(|scope| {
            for cluster in self.running() {
                scope.spawn(move || self.sync(cluster, &[]));
            }
        });
    }

    /// What a kubelet would do: a process with the arguments of the Deployment, the token of the ServiceAccount and the
    /// files of the Secret; and the Pod that shows it.
    pub(super) fn run(&self, cluster: BedCluster, role: &str, host: u8) {
        self.run_replica(cluster, role, host, role);
    }

    /// The same for one of several of a role, whose process has a name of its own.
    pub(super) fn run_replica(&self, cluster: BedCluster, role: &str, host: u8, process: &str) {
        let engine = std::env::var("ISTHMUS_TESTBED_ENGINE").unwrap_or_else(|_| ENGINE.to_owned());
        self.run_by(&engine, (cluster, role, host, process));
    }

    /// The same by an engine, whose own Deployment is in the cluster.
    pub(super) fn run_by(&self, engine: &str, (cluster, role, host, process): (BedCluster, &str, u8, &str)) {
        let files = self.folder(cluster).join(format!("{process}-files"));
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
        let mut arguments: Vec<String> = args.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect();
        arguments.extend([
            format!("--listen={}", cluster.address(host, 8443)),
            format!("--metrics-listen={}", cluster.address(host, 9090)),
            format!("--kubeconfig={}", files.join("kubeconfig").display()),
            "--limit=lame-duck=300ms".to_owned(),
            "--limit=drain=1s".to_owned(),
        ]);
        if matches!(role, "exporter" | "proxy") {
            let secret = self.object(cluster, "secret", &format!("{account}-tls"));
            for (file, flag) in [("tls.crt", "tls-cert"), ("tls.key", "tls-key")] {
                let data = base64::prelude::BASE64_STANDARD.decode(secret["data"][file].as_str().unwrap()).unwrap();
                fs::write(files.join(file), data).unwrap();
                arguments.push(format!("--{flag}={}", files.join(file).display()));
            }
        }
        if role == "proxy" {
            arguments.push(format!("--audit-log={}", files.join("audit.log").display()));
        }
        // the version before has no such flag
        let is_former = std::env::var("ISTHMUS_TESTBED_FORMER").as_deref() == Ok(engine);
        if role == "exporter" && !is_former {
            let mut token = self.kubectl(cluster);
            token.args([
                "create",
                "token",
                &account,
                "--namespace=istio-system",
                "--audience=istio-ca",
                "--duration=10h",
            ]);
            fs::write(files.join("istio-token"), succeed(&mut token).trim()).unwrap();
            arguments.push(format!("--istio-token={}", files.join("istio-token").display()));
        }
        let pod = if process == role { format!("{account}-0") } else { format!("isthmus-{process}") };
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
                .args(["run", process, cluster.name, &cluster.index.to_string()])
                .arg(self.dir.path())
                .args(self.inside())
                .arg(engine)
                .args(&arguments),
        );
    }

    pub(super) fn ready(&self, cluster: BedCluster, host: u8) {
        self.until(&format!("the role on 127.0.{}.{host} to be ready", cluster.index), || {
            match get(cluster.address(host, 9090), "role", "/readyz")? {
                (200, _) => Ok(()),
                (status, text) => Err(format!("{status}: {text}")),
            }
        });
    }

    pub(super) fn until(&self, what: &str, holds: impl FnMut() -> Result<(), String>) {
        self.within(PATIENCE, what, holds);
    }

    /// The same for what takes longer.
    pub(super) fn within(&self, patience: Duration, what: &str, mut holds: impl FnMut() -> Result<(), String>) {
        let until = Instant::now() + patience;
        while let Err(why) = holds() {
            if Instant::now() > until {
                for cluster in self.clusters() {
                    for role in LOGS {
                        let log =
                            fs::read_to_string(self.folder(cluster).join(format!("{role}.log"))).unwrap_or_default();
                        let last: Vec<&str> = log.lines().rev().take(5).collect();
                        eprintln!("bed: {role} of {} said at last: {last:#?}", cluster.name);
                    }
                }
                panic!("waited {patience:?} for {what}: {why}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Each istiod reads each of its peers, or none.
    pub(super) fn synced(&self, wanted: bool) {
        for (reader, peer) in self.links() {
            self.until(&format!("`{}` to be synced in {}: {wanted}", peer.name, reader.name), || {
                let clusters = reader.istiod("/debug/clusterz")?;
                let entries = clusters.as_array().unwrap();
                let entry = entries.iter().find(|entry| entry["id"] == peer.name);
                match (entry, wanted) {
                    (Some(entry), true) if entry["syncStatus"] == "synced" => Ok(()),
                    (None, false) => Ok(()),
                    _ => Err(clusters.to_string()),
                }
            });
        }
    }

    pub(super) fn answers(&self, from: BedCluster, of: BedCluster) {
        let mut last = String::new();
        self.until(&format!("{} to be answered from {}", from.name, of.name), || {
            let (status, body) = from.ask(&of)?;
            last = body;
            if status == 200 { Ok(()) } else { Err(format!("{status}: {last}")) }
        });
        assert!(last.contains(&format!("hello from {}-{}", of.name, of.app)), "{last}");
        assert!(last.contains(&format!("By=spiffe://{}/ns/shop/sa/{}", of.domain, of.app)), "{last}");
        assert!(last.contains(&format!("URI=spiffe://{}/ns/shop/sa/client", from.domain)), "{last}");
    }

    /// When the last write of an object was asked for, as the apiserver's audit log says: its answer can come after what it leads to.
    pub(super) fn written(&self, cluster: BedCluster, resource: &str, name: &str) -> jiff::Timestamp {
        let log = fs::read_to_string(self.folder(cluster).join("audit.log")).unwrap();
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let writes = events.filter(|event| {
            event["objectRef"]["resource"] == resource
                && event["objectRef"]["name"] == name
                && ["create", "update", "patch"].iter().any(|verb| event["verb"] == *verb)
        });
        let times = writes.map(|event| event["requestReceivedTimestamp"].as_str().unwrap().parse().unwrap());
        times.max().unwrap_or_else(|| panic!("{name} was never written in {}", cluster.name))
    }

    /// Exporters ask istiod over its secure port, which knows them by the token that they show.
    pub(super) fn exporters_ask_over_tls(&self) {
        for cluster in self.clusters() {
            let log = fs::read_to_string(self.folder(cluster).join("istiod.log")).unwrap();
            let asked =
                log.lines().filter(|line| line.contains("new connection for node:isthmus-exporter.istio-system"));
            let asked = asked.count();
            assert!(asked > 0, "istiod of {} was not asked over TLS", cluster.name);
            eprintln!("bed: istiod of {} was asked over TLS {asked} times", cluster.name);
        }
    }

    /// A Service that is new in one cluster is seen by the other's istiod.
    pub(super) fn a_service_arrives(&self, from: BedCluster, to: BedCluster, name: &str) {
        let address = fs::read_to_string(self.folder(from).join("pod-address")).unwrap();
        self.apply(
            from,
            &json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "ports": [{ "name": "http", "port": 7009 }] } }),
        );
        self.apply(
            from,
            &json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": name, "namespace": "shop", "labels": { "kubernetes.io/service-name": name } },
            "ports": [{ "name": "http", "port": 7009 }], "endpoints": [{ "addresses": [address.trim()] }] }),
        );
        let begin = Instant::now();
        self.until(&format!("{name} of {} to be known in {}", from.name, to.name), || {
            let shards = to.istiod("/debug/endpointShardz")?;
            let shard = format!("Kubernetes/{}", from.name);
            let of_it = &shards[format!("{name}.shop.svc.cluster.local")]["shop"]["Shards"][shard];
            if of_it.is_array() { Ok(()) } else { Err("no shard of it".to_owned()) }
        });
        eprintln!("bed: {name} of {} was known in {} after {:?}", from.name, to.name, begin.elapsed());
    }

    /// The first run: components. The relay makes keys and certificates, then the others begin.
    pub(super) fn components(&self) {
        self.write_specs();
        let output = self.reconcile();
        assert!(output.contains("waiting"), "{output}");
        self.sync_all();
        for cluster in self.clusters() {
            self.run(cluster, "relay", 40);
        }
        for cluster in self.clusters() {
            self.ready(cluster, 40);
            let ca = self.checkout().join(format!("specs/{}-ca.pem", cluster.name));
            fs::write(ca, self.serving_ca(cluster)).unwrap();
            self.run(cluster, "proxy", 30);
            self.run(cluster, "exporter", 20);
        }
        for cluster in self.clusters() {
            self.ready(cluster, 30);
            self.ready(cluster, 20);
        }
        self.write_specs();
    }

    /// The CA of its exporter and its api-proxy.
    pub(super) fn serving_ca(&self, cluster: BedCluster) -> String {
        self.identity(cluster)["servingCA"].as_str().unwrap().to_owned()
    }

    /// Something happens while east and west ask each other, 50 times a second in each direction.
    pub(super) fn loses_nothing_while(&self, what: &str, happens: impl FnOnce()) {
        let (east, west) = (self.cluster("east"), self.cluster("west"));
        let loads = [Load::start(east, west, 50), Load::start(west, east, 50)];
        thread::sleep(Duration::from_millis(500));
        happens();
        thread::sleep(Duration::from_secs(2));
        for load in loads {
            load.none_is_lost(what);
        }
    }

    /// What the relay of a cluster says of it.
    pub(super) fn identity(&self, cluster: BedCluster) -> Value {
        let identity = self.object(cluster, "configmap", "isthmus-identity");
        serde_json::from_str(identity["data"]["identity.json"].as_str().unwrap()).unwrap()
    }

    /// Runs until nothing is left to do, as a pipeline takes them.
    pub(super) fn settle(&self) {
        for run in 1..=MOST_RUNS {
            let output = self.reconcile();
            if output.contains("No changes") && !output.contains("waiting") {
                eprintln!("bed: nothing left to do after {run} runs");
                return;
            }
            self.sync_all();
            thread::sleep(Duration::from_secs(2));
        }
        panic!("the mesh does not settle: {}", self.engine(&["plan"]).1);
    }

    /// Runs until everybody is joined; then all istiods see each other, and applications too.
    pub(super) fn join(&self) {
        self.settle();
        self.synced(true);
        for (reader, peer) in self.links() {
            self.answers(reader, peer);
        }
    }
}

impl Drop for BedMesh {
    fn drop(&mut self) {
        if thread::panicking() && std::env::var_os("ISTHMUS_TESTBED_KEEP").is_some() {
            eprintln!("bed: logs are in {}", self.dir.path().display());
            self.dir.disable_cleanup(true);
        }
        drop(script("bed").arg("down").arg(self.dir.path()).output());
    }
}
