//! The real bed: what `engine apply` writes, read by a real kube-apiserver and a real istiod.
//!
//! Two clusters run on loopback (tests/testbed); a checkout declares both with `file://` endpoints on metadata recorded from
//! them; each cluster gets its folder by `kubectl apply --server-side -k`; then istiod is asked what it made of it.
//! Where the bed is not built the test prints it and passes, but in CI it fails. It ends whatever it started, also when it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test talks to real processes and stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

#[path = "bed/agent.rs"]
mod agent;
#[path = "bed/argocd.rs"]
mod argocd;
#[path = "bed/chart.rs"]
mod chart;
#[path = "bed/closed.rs"]
mod closed;
#[path = "bed/crowd.rs"]
mod crowd;
#[path = "support/deckhouse.rs"]
#[allow(dead_code, reason = "the bed needs less of it than the other tests")]
mod deckhouse;
#[path = "bed/direct.rs"]
mod direct;
#[path = "bed/domains.rs"]
mod domains;
#[path = "support/environment.rs"]
#[allow(dead_code, reason = "the bed needs less of it than the other tests")]
mod environment;
#[path = "bed/former.rs"]
mod former;
#[path = "bed/gateway.rs"]
mod gateway;
#[path = "bed/hand_over.rs"]
mod hand_over;
#[path = "bed/init.rs"]
mod init;
#[path = "bed/istioctl.rs"]
mod istioctl;
#[path = "bed/join.rs"]
mod join;
#[path = "bed/lying.rs"]
mod lying;
#[path = "bed/mesh.rs"]
mod mesh;
#[path = "bed/mixed.rs"]
mod mixed;
#[path = "bed/observer.rs"]
mod observer;
#[path = "bed/outages.rs"]
mod outages;
#[path = "support/peer.rs"]
#[allow(dead_code, reason = "the bed needs less of it than the other tests")]
mod peer;
#[path = "support/projected.rs"]
#[allow(dead_code, reason = "the bed needs less of it than the other tests")]
mod projected;
#[path = "support/protobuf.rs"]
#[allow(dead_code, reason = "the bed needs less of it than the other tests")]
mod protobuf;
#[path = "bed/proxy.rs"]
mod proxy;
#[path = "bed/raw.rs"]
mod raw;
#[path = "bed/readme.rs"]
mod readme;
#[path = "bed/rogue.rs"]
mod rogue;
#[path = "bed/roots.rs"]
mod roots;
#[path = "bed/share.rs"]
mod share;
#[path = "bed/three.rs"]
mod three;
#[path = "bed/token.rs"]
mod token;
#[path = "bed/varied.rs"]
mod varied;

use environment::TestEnvironment;
use isthmus::wire::metadata::{PrivateDocument, PublicDocument, Reading};
use serde_json::{Value, json};

/// How long istiod may take to show a change; it takes about a second.
const SETTLE: Duration = Duration::from_secs(30);
/// A mesh of `file://` endpoints is done in two runs; more than this is a mesh that never settles.
const MOST_RUNS: usize = 6;
/// Indexes of the bed: cluster I has the addresses 127.0.I.x and the ports of 127.0.0.1 from 20000 + 20 I on.
const FIRST_PORT: u16 = 20_000;
const PORTS_PER_INDEX: u16 = 20;
const INDEXES: u16 = 254;

const SPECS: &str = r#"apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: shop}
spec: {acceptForeignRoots: true}
---
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: east}
spec:
  multicluster: {enabled: true, image: "registry.example.com/isthmus:0.1.0", apiHost: "api.east.example.com"}
  istio: {standardMeshNetworks: none}
  metadata: {endpoint: "file://recorded/east/metadata"}
---
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: west}
spec:
  multicluster: {enabled: true, image: "registry.example.com/isthmus:0.1.0", apiHost: "api.west.example.com"}
  istio: {standardMeshNetworks: none}
  metadata: {endpoint: "file://recorded/west/metadata"}
"#;

/// One cluster of the bed and its peer, with the gateway address that its metadata names.
struct Site {
    name: &'static str,
    peer: &'static str,
    gateway: &'static str,
    peer_gateway: &'static str,
}

const SITES: [Site; 2] = [
    Site { name: "east", peer: "west", gateway: "203.0.113.7", peer_gateway: "198.51.100.7" },
    Site { name: "west", peer: "east", gateway: "198.51.100.7", peer_gateway: "203.0.113.7" },
];

#[test]
fn rendered_folders_join_two_real_clusters() {
    let _guard = one_at_a_time();
    let Some(bed) = Bed::start() else { return };
    let checkout = tempfile::tempdir().unwrap();
    fs::create_dir(checkout.path().join("specs")).unwrap();
    fs::write(checkout.path().join("specs/mesh.yaml"), SPECS).unwrap();
    for site in &SITES {
        bed.record(site, &checkout.path().join("recorded").join(site.name));
    }

    apply_until_settled(checkout.path());

    for site in &SITES {
        let folder = checkout.path().join("rendered").join(site.name);
        bed.sync(site, &folder);
        let before = bed.versions(site);
        for kind in ["Deployment", "NetworkPolicy", "ClusterRole", "Gateway", "ConfigMap", "Secret"] {
            assert!(
                before.keys().any(|object| object.starts_with(kind)),
                "{} holds no {kind} of ours: {before:#?}",
                site.name
            );
        }
        bed.sync(site, &folder);
        assert_eq!(
            before,
            bed.versions(site),
            "a second sync of {} changes objects: the apiserver stores other values",
            site.name
        );
        // The bed runs without Istio's webhook; istioctl has the same checks.
        let gateway = folder.join("gateway.networking.istio.io-isthmus-cross-network.yaml");
        succeed(Command::new(bed.bin.join("istioctl")).args(["validate", "-f"]).arg(gateway));
    }
    let peer: Value = read_json(&checkout.path().join("recorded/west/metadata/public/public.json"));
    bed.the_relay_makes_nothing_else(&SITES[0]);
    bed.roles_allow_no_more_than_they_must(&SITES[0], peer["clusterUUID"].as_str().unwrap());

    for site in &SITES {
        let peer_root =
            fs::read_to_string(checkout.path().join("recorded").join(site.peer).join("root-cert.pem")).unwrap();
        bed.eventually(site, "debug/mesh", "the peer's root and the proxies' switch", |mesh| {
            let certificates = mesh["caCertificates"].as_array().map_or(&[][..], Vec::as_slice);
            certificates.iter().any(|entry| entry["pem"].as_str().is_some_and(|pem| pem.trim() == peer_root.trim()))
                && mesh["defaultConfig"]["proxyMetadata"]["PROXY_CONFIG_XDS_AGENT"] == "true"
                // What the installer's own ConfigMap says stays.
                && mesh["trustDomain"] == "cluster.local"
        });
        bed.eventually(site, "debug/networkz", "the peer's gateway", |networks| {
            networks.as_array().is_some_and(|gateways| {
                gateways.iter().any(|gateway| {
                    gateway["Network"] == format!("network-{}", site.peer)
                        && gateway["Addr"] == site.peer_gateway
                        && gateway["Port"] == 15443
                })
            })
        });
        bed.eventually(site, "debug/clusterz", "the peer as a remote cluster", |clusters| {
            clusters.as_array().is_some_and(|entries| {
                entries.iter().any(|entry| {
                    entry["id"] == site.peer
                        && entry["secretName"] == format!("istio-system/istio-remote-secret-{}", site.peer)
                })
            })
        });
    }
}

/// The documents under fixtures/real are those of the bed, and our writer would publish the same bytes.
#[test]
fn recorded_metadata_is_read_and_written_alike() {
    for site in &SITES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real").join(site.name);
        let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();

        let text = read("metadata/public/public.json");
        let Reading::Complete(public) = PublicDocument::parse(text.as_bytes()).unwrap() else { panic!("incomplete") };
        assert_eq!(public.to_json(), text);
        assert_eq!(public.root_ca, read("root-cert.pem"));
        assert_eq!(public.authn_key.to_pem(), read("authn-pub.pem"));

        let text = read("metadata/private/multicluster.json");
        let Reading::Complete(private) = PrivateDocument::parse(text.as_bytes()).unwrap() else { panic!("incomplete") };
        assert_eq!(private.to_json(), text);
        assert_eq!(private.api_ca, Some(read("api-ca.crt")));
    }
}

/// Runs until a run leaves every file as it was.
fn apply_until_settled(checkout: &Path) {
    let environment = TestEnvironment::new().real_time();
    let mut before = files(checkout);
    for _ in 0..MOST_RUNS {
        let output = environment.run_on(checkout, &["apply", "--create-keys"]).done();
        let after = files(checkout);
        if before == after {
            return;
        }
        eprintln!("bed: {output}");
        before = after;
    }
    panic!("{MOST_RUNS} runs of `engine apply` did not settle the checkout");
}

/// Every file below a folder and when it was written.
fn files(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), entry.metadata().unwrap().modified().unwrap());
        }
    }
    found
}

/// The running clusters; dropping it stops them.
struct Bed {
    dir: tempfile::TempDir,
    /// Index of the first site; the second has the next one.
    index: u16,
    /// Where the binaries are.
    bin: PathBuf,
}

impl Bed {
    /// Starts both clusters, or says why not.
    fn start() -> Option<Self> {
        let bin = files_of_bed()?;
        let bed = Self { dir: tempfile::tempdir().unwrap(), index: free_index(2), bin };
        thread::scope(|scope| {
            for site in &SITES {
                scope.spawn(|| {
                    for command in ["up", "istiod"] {
                        succeed(
                            script("bed")
                                // Stops the clusters even if this process is killed.
                                .env("ISTHMUS_TESTBED_OWNER", std::process::id().to_string())
                                .args([command, site.name, &bed.index_of(site).to_string()])
                                .arg(bed.dir.path()),
                        );
                    }
                });
            }
        });
        Some(bed)
    }

    fn index_of(&self, site: &Site) -> u16 {
        self.index + u16::from(site.name != SITES[0].name)
    }

    /// Writes the cluster's metadata as its exporter would publish it.
    fn record(&self, site: &Site, out: &Path) {
        let mut record = script("record");
        record.arg(site.name).arg(self.dir.path()).arg(out).args(["--gateway", site.gateway]);
        succeed(&mut record);
    }

    /// kubectl on that cluster: the one on PATH, else the bed's.
    fn kubectl(&self, site: &Site) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut kubectl = Command::new("env");
        kubectl
            .arg(format!("PATH={path}:{}", self.bin.display()))
            .args(["kubectl", "--kubeconfig"])
            .arg(self.dir.path().join(site.name).join("admin.kubeconfig"));
        kubectl
    }

    /// What a `GitOps` tool does with a rendered folder. The apiserver warns of pods that break the restricted Pod Security
    /// Standard and of deprecated versions: neither may come.
    fn sync(&self, site: &Site, folder: &Path) {
        let mut apply = self.kubectl(site);
        let output =
            apply.args(["apply", "--server-side", "--field-manager=isthmus", "-k"]).arg(folder).output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} refuses its folder:\n{stdout}{stderr}", site.name);
        assert!(stderr.is_empty(), "{} warns about its folder:\n{stderr}", site.name);
    }

    /// Asks the apiserver's own authorizer what our roles and the impersonated peer may do.
    fn roles_allow_no_more_than_they_must(&self, site: &Site, peer: &str) {
        let account = |name: &str| vec![format!("--as=system:serviceaccount:istio-system:isthmus-{name}")];
        let proxy = account("proxy");
        let relay = account("relay");
        let exporter = account("exporter");
        let reader = vec![format!("--as=istio-peer:{peer}"), "--as-group=istio-peers".to_owned()];
        let peer_user = format!("users/istio-peer:{peer}");
        for (who, verb, what, allowed) in [
            (&proxy, "impersonate", peer_user.as_str(), true),
            (&proxy, "impersonate", "groups/istio-peers", true),
            (&proxy, "get", "configmaps/isthmus-peers", true),
            (&proxy, "impersonate", "users/admin", false),
            (&proxy, "impersonate", "groups/system:masters", false),
            (&proxy, "impersonate", "serviceaccounts", false),
            (&proxy, "list", "services", false),
            (&proxy, "get", "secrets/isthmus-authn", false),
            (&reader, "watch", "services", true),
            (&reader, "watch", "endpointslices.discovery.k8s.io", true),
            (&reader, "get", "/api", true),
            (&reader, "list", "secrets", false),
            (&reader, "get", "configmaps/istio", false),
            (&reader, "create", "pods", false),
            (&reader, "get", "/metrics", false),
            (&relay, "get", "secrets/isthmus-authn", true),
            (&relay, "watch", "configmaps/isthmus-routes", true),
            (&relay, "list", "secrets", false),
            (&relay, "get", "secrets/istio-remote-secret-west", false),
            (&exporter, "watch", "configmaps/istio-ca-root-cert", true),
            (&exporter, "list", "secrets", false),
            (&exporter, "get", "secrets/isthmus-authn", false),
        ] {
            let mut ask = self.kubectl(site);
            ask.args(["auth", "can-i", verb, what]).args(who);
            if !what.starts_with('/') {
                ask.arg("--namespace=istio-system");
            }
            let answer = String::from_utf8(ask.output().unwrap().stdout).unwrap();
            assert_eq!(answer.trim(), if allowed { "yes" } else { "no" }, "{who:?}: {verb} {what}");
        }
    }

    /// The apiserver's own admission holds the relay to the objects that it makes.
    fn the_relay_makes_nothing_else(&self, site: &Site) {
        let create = |object: &Value| {
            let mut kubectl = self.kubectl(site);
            kubectl.args([
                "create",
                "--dry-run=server",
                "--as=system:serviceaccount:istio-system:isthmus-relay",
                "-f",
                "-",
            ]);
            let mut child = kubectl.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
            String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
        };
        let object = |kind: &str, name: &str, of: &str, labels: Value| {
            json!({
                "apiVersion": "v1", "kind": kind, "type": of,
                "metadata": { "name": name, "namespace": "istio-system", "labels": labels },
                "data": if of == "kubernetes.io/tls" { json!({ "tls.crt": "", "tls.key": "" }) } else { json!({}) },
            })
        };
        let remote = json!({ "istio/multiCluster": "true" });
        let refused = [
            (object("Secret", "istio-remote-secret-evil", "Opaque", json!({})), "the relay makes no other objects"),
            (object("Secret", "isthmus-authn2", "Opaque", json!({})), "the relay makes no other objects"),
            (object("Secret", "isthmus-authn", "Opaque", remote.clone()), "the relay makes no remote secrets"),
            (object("Secret", "isthmus-relay-tls", "Opaque", json!({})), "the relay makes no Secrets of another type"),
            (object("Secret", "isthmus-relay-tls", "kubernetes.io/tls", remote), "the relay makes no remote secrets"),
        ];
        for (object, message) in refused {
            // a policy is in force a moment after it is there
            let until = Instant::now() + SETTLE;
            let mut answer = create(&object);
            while !answer.contains(message) {
                assert!(Instant::now() < until, "{object}: {answer}");
                std::thread::sleep(Duration::from_millis(500));
                answer = create(&object);
            }
        }
        for (name, of) in [("isthmus-authn", "Opaque"), ("isthmus-relay-tls", "kubernetes.io/tls")] {
            let answer = create(&object("Secret", name, of, json!({})));
            assert!(!answer.contains("denied request"), "{name}: {answer}");
        }
    }

    /// The resource version of each object of ours.
    fn versions(&self, site: &Site) -> BTreeMap<String, String> {
        const KINDS: &str = "configmaps,secrets,services,serviceaccounts,deployments.apps,networkpolicies.networking.k8s.io,\
            poddisruptionbudgets.policy,roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,\
            clusterroles.rbac.authorization.k8s.io,clusterrolebindings.rbac.authorization.k8s.io,gateways.networking.istio.io";
        let mut get = self.kubectl(site);
        get.args(["get", KINDS, "-A", "-l", "app.kubernetes.io/managed-by=isthmus", "-o", "json"]);
        let list: Value = serde_json::from_str(&succeed(&mut get)).unwrap();
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| {
                let metadata = &item["metadata"];
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let object =
                    format!("{} {}/{}", word(&item["kind"]), word(&metadata["namespace"]), word(&metadata["name"]));
                (object, word(&metadata["resourceVersion"]))
            })
            .collect()
    }

    /// Asks istiod until the answer holds.
    fn eventually(&self, site: &Site, path: &str, what: &str, holds: impl Fn(&Value) -> bool) {
        let url = format!("http://127.0.{}.10:8080/{path}", self.index_of(site));
        let until = Instant::now() + SETTLE;
        loop {
            let text =
                succeed(Command::new("curl").args(["--fail", "--silent", "--show-error", "--max-time", "10", &url]));
            let answer: Value = serde_json::from_str(&text).unwrap();
            if holds(&answer) {
                return;
            }
            assert!(Instant::now() < until, "istiod of {} does not show {what} in /{path}:\n{answer:#}", site.name);
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The folder of the bed's binaries, or `None` where the bed is to be skipped, which CI does not allow.
fn files_of_bed() -> Option<PathBuf> {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    if std::env::var("ISTHMUS_BED").is_ok_and(|value| value == "later") {
        eprintln!("bed: skipped, ISTHMUS_BED=later");
        return None;
    }
    let missing = succeed(script("bed").arg("missing"));
    if !missing.is_empty() {
        let missing = missing.split_whitespace().collect::<Vec<_>>().join(", ");
        assert!(!in_ci, "bed: {missing} must be built in CI: tests/testbed/bed build");
        eprintln!("bed: skipped, not built: {missing}; build with: tests/testbed/bed build");
        return None;
    }
    Some(PathBuf::from(succeed(script("bed").arg("bin")).trim()))
}

impl Drop for Bed {
    fn drop(&mut self) {
        let stopped = script("bed").arg("down").arg(self.dir.path()).output();
        if !stopped.is_ok_and(|output| output.status.success()) {
            eprintln!("bed: could not stop what runs below {}", self.dir.path().display());
        }
    }
}

/// Beds run one after the other: two cores carry one well.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first of so many neighbouring indexes whose addresses are free; where the search starts differs between processes.
fn free_index(count: u16) -> u16 {
    let start = u16::try_from(std::process::id() % u32::from(INDEXES)).unwrap();
    let free = |address: String| TcpListener::bind(address).is_ok();
    let all_free = |index: u16| {
        let first = FIRST_PORT + index * PORTS_PER_INDEX;
        (first..first + PORTS_PER_INDEX).all(|port| free(format!("127.0.0.1:{port}")))
            && [(2, 6443), (3, 2379), (10, 8080), (20, 8443), (30, 8443), (40, 8443)]
                .iter()
                .all(|(host, port)| free(format!("127.0.{index}.{host}:{port}")))
    };
    (0..INDEXES)
        .map(|offset| (start + offset) % (INDEXES + 1 - count) + 1)
        .find(|index| (*index..index + count).all(all_free))
        .expect("free addresses for the bed")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed").join(name))
}

/// Standard output of a command that must succeed.
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} ended with {status}\n{stdout}{stderr}");
    stdout.into_owned()
}
