//! A cluster goes from its checkout to an agent, or to another checkout, and back, under load, synced by Argo CD's own engine: no request
//! is lost, and no remote secret is ever gone.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::mesh::{BedCluster, BedMesh, MOST_RUNS, RunsUntil};
use super::{one_at_a_time, succeed};

/// What whoever acts writes for the links of a cluster of two.
const OF_LINKS: [(&str, &str); 5] = [
    ("configmap", "isthmus-mesh"),
    ("configmap", "isthmus-peers"),
    ("configmap", "isthmus-routes"),
    ("gateways.networking.istio.io", "isthmus-cross-network"),
    ("secret", "istio-remote-secret-west"),
];

impl BedMesh {
    /// Runs and syncs until the lock says that no hand-over is under way.
    fn hand_over(&self, cluster: BedCluster, mut between: impl FnMut(&str)) {
        for run in 1..=4 * MOST_RUNS {
            let output = self.reconcile();
            for one in self.clusters() {
                self.sync(one, &[]);
            }
            between(&output);
            let entry = self.checkout().join(format!("lock/clusters/{}.yaml", cluster.name));
            if run > 1 && !fs::read_to_string(entry).unwrap().contains("handOver") {
                eprintln!("bed: {} is handed over after {run} runs", cluster.name);
                return;
            }
            thread::sleep(Duration::from_secs(2));
        }
        panic!("{} is not handed over: {}", cluster.name, self.engine(&["plan"]).1);
    }

    fn owners(&self, cluster: BedCluster) -> Vec<String> {
        let owner = |(kind, name): (&str, &str)| {
            let object = self.object(cluster, kind, name);
            object["metadata"]["labels"]["isthmus.dev/owner"].as_str().unwrap_or_default().to_owned()
        };
        let mut owners: Vec<String> = OF_LINKS.into_iter().map(owner).collect();
        owners.dedup();
        owners
    }

    fn has_pod(&self, cluster: BedCluster, role: &str) -> bool {
        let name = format!("deployment.apps-isthmus-{role}.yaml");
        self.checkout().join("rendered").join(cluster.name).join(name).exists()
    }
}

/// Whether an object says that no tool is to prune it.
fn stays(object: &Value) -> bool {
    let options = object["metadata"]["annotations"]["argocd.argoproj.io/sync-options"].as_str().unwrap_or_default();
    options.split(',').any(|option| option == "Prune=false")
}

#[test]
fn a_cluster_goes_to_its_agent_and_back_under_load() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    mesh.with_argo_cd();
    let east = mesh.cluster("east");
    mesh.components();
    mesh.join();
    let secret = || mesh.object(east, "secret", "istio-remote-secret-west");
    let uids = || OF_LINKS.map(|(kind, name)| mesh.object(east, kind, name)["metadata"]["uid"].clone());
    let (data, before) = (secret()["data"].clone(), uids());
    let watched = AtomicBool::new(true);
    thread::scope(|scope| {
        // istiod never sees the secret go, and its content stays
        let watching = scope.spawn(|| {
            while watched.load(Ordering::Relaxed) {
                assert_eq!(secret()["data"], data);
                thread::sleep(Duration::from_millis(200));
            }
        });
        let ends = RunsUntil(&watched);
        mesh.loses_nothing_while("east is handed over from its checkout to an agent", || {
            mesh.says("east", "  reconciler: agent\n");
            mesh.write_specs();
            let (mut runs, mut is_alone) = (false, false);
            mesh.hand_over(east, |output| {
                if !runs {
                    assert!(output.contains("the agent of `east` to be able to take its objects"), "{output}");
                    assert!(mesh.has_pod(east, "relay") && mesh.has_pod(east, "agent"));
                    mesh.run_replica(east, "agent", 41, "agent-1");
                    mesh.ready(east, 41);
                    runs = true;
                }
                // its Service leads to the pods of who acts
                if !mesh.has_pod(east, "relay") && !is_alone {
                    mesh.stop("relay", east);
                    succeed(mesh.kubectl(east).args(["delete", "pod", "isthmus-relay-0", "--namespace=istio-system"]));
                    mesh.run(east, "agent", 40);
                    mesh.ready(east, 40);
                    is_alone = true;
                }
            });
            assert!(is_alone);
            mesh.until("the agent to write the objects", || {
                let owners = mesh.owners(east);
                if owners == ["agent"] { Ok(()) } else { Err(format!("{owners:?}")) }
            });
        });
        assert_eq!(uids(), before, "an object was made anew");
        mesh.until("the agent to drop the marks", || {
            let marks = secret()["metadata"]["annotations"]["isthmus.dev/hand-over"].clone();
            if marks.is_null() { Ok(()) } else { Err(marks.to_string()) }
        });
        let object = mesh.object(east, "istiomulticlusters.isthmus.dev", "west");
        eprintln!("bed: west as its agent shows it: {:#}", object["status"]["conditions"]);
        let output = mesh.reconcile();
        assert!(output.contains("No changes"), "{output}");
        // what is not marked any more is nothing of the checkout's, and stays
        mesh.sync(east, &[]);
        assert_eq!(uids(), before, "an object was pruned");

        mesh.loses_nothing_while("east is handed over from its agent to its checkout", || {
            mesh.says("east", "");
            mesh.write_specs();
            let (mut runs, mut is_alone) = (false, false);
            mesh.hand_over(east, |output| {
                if !runs {
                    assert!(output.contains("the agent of `east` to leave its objects"), "{output}");
                    mesh.run_replica(east, "relay", 42, "relay-1");
                    mesh.ready(east, 42);
                    runs = true;
                }
                if !mesh.has_pod(east, "agent") && !is_alone {
                    for (process, pod) in [("agent", "isthmus-agent-0"), ("agent-1", "isthmus-agent-1")] {
                        mesh.stop(process, east);
                        succeed(mesh.kubectl(east).args(["delete", "pod", pod, "--namespace=istio-system"]));
                    }
                    mesh.run(east, "relay", 40);
                    mesh.ready(east, 40);
                    is_alone = true;
                }
            });
            assert!(is_alone);
        });
        assert_eq!((mesh.owners(east), uids()), (vec!["tree".to_owned()], before));
        drop(ends);
        watching.join().unwrap();
    });
    mesh.settle();
    mesh.synced(true);
    for (reader, peer) in mesh.links() {
        mesh.answers(reader, peer);
    }
}

impl BedMesh {
    /// The specs of a team: which clusters it has, and whose engines read all of them.
    fn write_team(&self, has: &[&str], keys: &str) {
        for cluster in self.clusters() {
            let line = if has.contains(&cluster.name) { "" } else { "  reconciler: external\n" };
            self.says(cluster.name, line);
            let ca = self.checkout().join(format!("specs/{}-ca.pem", cluster.name));
            fs::write(ca, self.serving_ca(cluster)).unwrap();
        }
        self.write_specs();
        let path = self.checkout().join("specs/mesh.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let keys = format!("acceptForeignRoots: true, engineKeys: {keys}}}");
        fs::write(&path, text.replacen("acceptForeignRoots: true}", &keys, 1)).unwrap();
    }

    /// The public half of the team's engine key.
    fn engine_key(&self) -> Value {
        let text = fs::read_to_string(self.checkout().join("lock/mesh.yaml")).unwrap();
        let lock: Value = serde_yaml::from_str(&text).unwrap();
        let key = &lock["engineKeys"][0];
        json!({ "id": key["id"], "publicKey": key["pem"] })
    }

    /// Runs of one team, synced into these clusters, until its files are as wanted.
    fn runs_until(&self, clusters: &[BedCluster], what: &str, is_so: impl Fn(&str) -> bool) {
        let mut last = String::new();
        for run in 1..=4 * MOST_RUNS {
            last = self.reconcile();
            for cluster in clusters {
                self.sync(*cluster, &[]);
            }
            if is_so(&last) {
                eprintln!("bed: {what} after {run} runs");
                return;
            }
            thread::sleep(Duration::from_secs(2));
        }
        panic!("{what}: {last}");
    }

    fn has_secret(&self, cluster: BedCluster) -> bool {
        self.checkout().join("rendered").join(cluster.name).join("secret-istio-remote-secret-west.yaml").exists()
    }
}

#[test]
fn a_cluster_goes_to_another_checkout_and_back_under_load() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.with_argo_cd();
    mesh.team(west);
    mesh.components();
    mesh.join();
    let ours = mesh.engine_key();
    mesh.team(east);
    mesh.write_specs();
    let (code, text) = mesh.engine(&["keys", "new"]);
    assert_eq!(code, 0, "{text}");
    let keys = json!([ours, mesh.engine_key()]).to_string();
    mesh.team(west);
    mesh.write_team(&["east", "west"], &keys);
    mesh.runs_until(&[east, west], "the engine of the other team is known", |text| text.contains("No changes"));
    let secret = || mesh.object(east, "secret", "istio-remote-secret-west");
    let uids = || OF_LINKS.map(|(kind, name)| mesh.object(east, kind, name)["metadata"]["uid"].clone());
    let (data, before) = (secret()["data"].clone(), uids());
    let is_over = |_: &str| {
        let entry = fs::read_to_string(mesh.checkout().join("lock/clusters/east.yaml")).unwrap();
        !entry.contains("handOver")
    };
    let watched = AtomicBool::new(true);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            while watched.load(Ordering::Relaxed) {
                assert_eq!(secret()["data"], data);
                thread::sleep(Duration::from_millis(200));
            }
        });
        let ends = RunsUntil(&watched);
        mesh.loses_nothing_while("east is left to another checkout", || {
            mesh.write_team(&["west"], &keys);
            mesh.runs_until(&[east, west], "nothing of east is rendered", |_| !mesh.has_secret(east));
            let (_, text) = mesh.engine(&["plan"]);
            assert!(text.contains("another checkout to take the objects of `east`"), "{text}");
            mesh.team(east);
            mesh.write_team(&["east"], &keys);
            let (code, text) = mesh.engine(&["apply", "--restore-links"]);
            assert!(code == 0 && mesh.has_secret(east), "{text}");
            mesh.sync(east, &[]);
            mesh.runs_until(&[east], "the other checkout has east", |text| text.contains("No changes"));
            mesh.team(west);
            mesh.runs_until(&[west], "east is no longer this checkout's", is_over);
        });
        assert_eq!(uids(), before, "an object was made anew");
        mesh.loses_nothing_while("east is taken from another checkout", || {
            mesh.team(east);
            mesh.write_team(&[], &keys);
            mesh.runs_until(&[east], "the other checkout has nothing of east", |_| !mesh.has_secret(east));
            mesh.team(west);
            mesh.write_team(&["east", "west"], &keys);
            mesh.runs_until(&[east, west], "east is this checkout's again", |text| {
                mesh.has_secret(east) && is_over(text) && text.contains("No changes")
            });
        });
        assert_eq!(uids(), before, "an object was made anew");
        assert!(!stays(&secret()), "the marks are left");
        drop(ends);
        watching.join().unwrap();
    });
    mesh.synced(true);
    for (reader, peer) in mesh.links() {
        mesh.answers(reader, peer);
    }
}
