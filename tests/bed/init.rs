//! `engine init --adopt` on real clusters: what it finds there, and remote secrets of istioctl's making that ours take the
//! places of, without a moment in which istiod reads two for one cluster.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::environment::TestEnvironment;
use super::{Bed, SITES, Site, apply_until_settled, one_at_a_time, succeed};

/// How long istiod is watched before it is said that it does nothing.
const NOTHING: Duration = Duration::from_secs(3);

impl Bed {
    fn apply_text(&self, site: &Site, text: &str) {
        let file = self.dir.path().join("object.yaml");
        fs::write(&file, text).unwrap();
        succeed(self.kubectl(site).args(["apply", "-f"]).arg(&file));
    }

    /// What `istioctl create-remote-secret` prints for a cluster. It waits for a token that only the controller manager,
    /// which the bed does not have, would put into the Secret.
    fn remote_secret_of(&self, site: &Site) -> String {
        const READER: &str = "istio-reader-service-account";
        const SYSTEM: &str = "--namespace=istio-system";
        succeed(self.kubectl(site).args(["create", "serviceaccount", READER, SYSTEM]));
        let account = format!("--serviceaccount=istio-system:{READER}");
        succeed(self.kubectl(site).args([
            "create",
            "clusterrolebinding",
            READER,
            "--clusterrole=cluster-admin",
            account.as_str(),
        ]));
        let token = succeed(self.kubectl(site).args(["create", "token", READER, SYSTEM]));
        let ca = fs::read_to_string(self.dir.path().join(site.name).join("api-ca.crt")).unwrap();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {
                "name": format!("{READER}-istio-remote-secret-token"), "namespace": "istio-system",
                "annotations": { "kubernetes.io/service-account.name": READER },
            },
            "stringData": { "token": token.trim(), "ca.crt": ca },
        });
        self.apply_text(site, &secret.to_string());
        let mut istioctl = Command::new(self.bin.join("istioctl"));
        istioctl.args(["create-remote-secret", "--name", site.name, "--kubeconfig"]);
        succeed(istioctl.arg(self.dir.path().join(site.name).join("admin.kubeconfig")))
    }

    /// One kubeconfig with a context for each cluster.
    fn kubeconfig(&self) -> std::path::PathBuf {
        let (mut clusters, mut users, mut contexts) = (Vec::new(), Vec::new(), Vec::new());
        for site in &SITES {
            let text = fs::read_to_string(self.dir.path().join(site.name).join("admin.kubeconfig")).unwrap();
            let config: Value = serde_yaml::from_str(&text).unwrap();
            clusters.push(config["clusters"][0].clone());
            users.push(json!({ "name": site.name, "user": config["users"][0]["user"] }));
            let context = json!({ "cluster": site.name, "user": site.name });
            contexts.push(json!({ "name": format!("admin@{}", site.name), "context": context }));
        }
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "clusters": clusters, "users": users, "contexts": contexts,
        });
        let path = self.dir.path().join("both.kubeconfig");
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// An east-west gateway whose load balancer has an address.
    fn gateway(&self, site: &Site) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "istio-eastwestgateway", "namespace": "istio-system",
                "labels": { "istio": "eastwestgateway", "topology.istio.io/network": format!("network-{}", site.name) },
            },
            "spec": { "type": "LoadBalancer", "ports": [{ "name": "tls", "port": 15443 }] },
        });
        self.apply_text(site, &service.to_string());
        let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": site.gateway }] } } });
        let mut patch = self.kubectl(site);
        patch.args(["patch", "service", "istio-eastwestgateway", "--namespace=istio-system", "--subresource=status"]);
        succeed(patch.args(["--type=merge", "-p", &status.to_string()]));
    }

    /// What a `GitOps` tool with server-side apply does: it takes over what others set.
    fn take_over(&self, site: &Site, folder: &Path) {
        let mut apply = self.kubectl(site);
        apply.args(["apply", "--server-side", "--force-conflicts", "--field-manager=isthmus", "-k"]);
        succeed(apply.arg(folder));
    }

    /// istiod reads exactly one remote cluster, from this secret.
    fn reads(&self, site: &Site, secret: &str) {
        let secret = format!("istio-system/{secret}");
        self.eventually(site, "debug/clusterz", &format!("its peer by {secret}"), |clusters| {
            let remote = clusters.as_array().unwrap().iter().filter(|one| one["secretName"] != "");
            let remote: Vec<_> = remote.collect();
            remote.len() == 1 && remote[0]["secretName"] == secret && remote[0]["id"] == site.peer
        });
    }
}

/// The command that init printed, as it is there.
fn printed<'a>(stderr: &'a str, phrase: &str) -> &'a str {
    stderr.lines().map(str::trim).find(|line| line.starts_with("kubectl") && line.contains(phrase)).unwrap()
}

#[test]
fn init_finds_real_clusters_and_takes_over_their_secrets() {
    let _guard = one_at_a_time();
    let Some(bed) = Bed::start() else { return };
    let [east, west] = &SITES;
    let kubeconfig = bed.kubeconfig();
    for site in &SITES {
        bed.gateway(site);
    }
    // one under the name that ours will have, one under another
    let of_west = bed.remote_secret_of(west);
    let of_east = bed.remote_secret_of(east);
    assert!(of_west.contains("name: istio-remote-secret-west") && of_west.contains("token: "));
    bed.apply_text(east, &of_west);
    bed.apply_text(west, &of_east.replace("name: istio-remote-secret-east", "name: reach-east"));
    bed.reads(east, "istio-remote-secret-west");
    bed.reads(west, "reach-east");

    let checkout = tempfile::tempdir().unwrap();
    let environment = TestEnvironment::new().real_time().with("KUBECONFIG", &kubeconfig);
    let begun = Instant::now();
    let ran = environment.run_on(checkout.path(), &["init", "--adopt", "--accept-foreign-roots"]);
    eprintln!("bed: looked into two clusters in {:?}", begun.elapsed());
    assert_eq!(ran.code, 0, "{ran}");
    let (data, stderr) = (&ran.stdout, &ran.stderr);
    let token = of_west.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    for site in &SITES {
        let path = checkout.path().join(format!("specs/clusters/{}.yaml", site.name));
        let text = fs::read_to_string(&path).unwrap();
        let mut get = bed.kubectl(site);
        let uid = succeed(get.args(["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]));
        for line in [
            format!("clusterUUID: {uid} # UID of namespace kube-system"),
            format!("network: network-{} # label topology.istio.io/network of namespace istio-system", site.name),
            format!("clusterID: {} # data key of the remote secrets of admin@{}", site.name, site.peer),
            format!("the exporter publishes {}:15443, of Service istio-system/istio-eastwestgateway", site.gateway),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        assert!(!text.contains(token) && !text.contains("PRIVATE") && !text.contains("not found"), "{text}");
        // their exporters are read from files here, and say what was found: the pins hold
        bed.record(site, &checkout.path().join("recorded").join(site.name));
        let text = text.replace("apiHost: #", &format!("apiHost: api.{}.example.com #", site.name));
        let endpoint = format!("endpoint: file://recorded/{}/metadata #", site.name);
        // files show no evidence, so what there is beside ours is stated
        let text = text.replace("\n  istio:\n", "\n  istio:\n    standardMeshNetworks: none\n");
        fs::write(&path, text.replace("endpoint: #", &endpoint)).unwrap();
    }
    assert!(!data.contains(token) && !stderr.contains(token));
    apply_until_settled(checkout.path());
    let lock = fs::read_to_string(checkout.path().join("lock/links/west.yaml")).unwrap();
    assert!(lock.contains("stage: joined"), "{lock}");

    // in place: one write, and what was there is gone
    let rendered = |site: &Site| checkout.path().join("rendered").join(site.name);
    bed.take_over(east, &rendered(east));
    bed.reads(east, "istio-remote-secret-west");
    let mut get = bed.kubectl(east);
    let secret = succeed(get.args(["get", "secret", "istio-remote-secret-west", "-n", "istio-system", "-o", "json"]));
    let secret: Value = serde_json::from_str(&secret).unwrap();
    assert_eq!(secret["data"].as_object().unwrap().len(), 1);
    assert_eq!(secret["metadata"]["labels"]["app.kubernetes.io/managed-by"], "isthmus");

    // under another name: the stated order, with the commands as they were printed
    let run = |command: &str| {
        let path = format!("{}:{}", std::env::var("PATH").unwrap_or_default(), bed.bin.display());
        succeed(Command::new("sh").env("PATH", path).env("KUBECONFIG", &kubeconfig).args(["-c", command]));
    };
    run(printed(stderr, "label secret reach-east"));
    bed.eventually(west, "debug/clusterz", "no remote cluster", |clusters| clusters.as_array().unwrap().len() == 1);
    bed.take_over(west, &rendered(west));
    bed.reads(west, "istio-remote-secret-east");
    run(printed(stderr, "delete secret reach-east"));
    thread::sleep(NOTHING);
    bed.reads(west, "istio-remote-secret-east");
}

/// Why the order is as it is: istiod ignores the second secret of a cluster ID, also after the first one is gone.
#[test]
fn istiod_ignores_the_second_of_two_secrets_for_good() {
    let _guard = one_at_a_time();
    let Some(bed) = Bed::start() else { return };
    let [east, west] = &SITES;
    let of_east = bed.remote_secret_of(east);
    bed.apply_text(west, &of_east.replace("name: istio-remote-secret-east", "name: reach-east"));
    bed.reads(west, "reach-east");
    bed.apply_text(west, &of_east);
    thread::sleep(NOTHING);
    bed.reads(west, "reach-east");
    succeed(bed.kubectl(west).args(["delete", "secret", "reach-east", "--namespace=istio-system"]));
    thread::sleep(NOTHING);
    bed.eventually(west, "debug/clusterz", "no remote cluster", |clusters| clusters.as_array().unwrap().len() == 1);
    // written again, it is read
    let again = ["annotate", "secret", "istio-remote-secret-east", "--namespace=istio-system", "again=1"];
    succeed(bed.kubectl(west).args(again));
    bed.reads(west, "istio-remote-secret-east");
}
