//! A rolling update from the version before: its roles beside ours, each as reader and as peer, under load. `just drill` builds
//! that engine and names it by `ISTHMUS_TESTBED_FORMER`.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::environment::ENGINE;
use super::mesh::{BedCluster, BedMesh, MOST_RUNS, ROLES};
use super::{one_at_a_time, succeed};

/// A run of an engine on the checkout: what it printed.
fn run(mesh: &BedMesh, engine: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(engine);
    command.arg("-C").arg(mesh.checkout()).args(arguments).env_remove("RUST_BACKTRACE");
    succeed(&mut command)
}

/// Runs until nothing is left to do.
fn settle(mesh: &BedMesh, engine: &str) {
    for _ in 0..MOST_RUNS {
        let text = run(mesh, engine, &["apply", "--create-keys"]);
        if text.contains("No changes") && !text.contains("waiting") {
            return;
        }
        mesh.sync_all();
        thread::sleep(Duration::from_secs(3));
    }
    panic!("the mesh does not settle: {}", run(mesh, engine, &["plan"]));
}

/// What a Deployment's controller does: the roles of a cluster roll to an engine, one after the other.
fn roll(mesh: &BedMesh, cluster: BedCluster, engine: &str) {
    for (role, host) in ROLES {
        mesh.stop(role, cluster);
        mesh.run_by(engine, (cluster, role, host, role));
        mesh.ready(cluster, host);
    }
    // Peers no longer see each kind that the cluster has. A list from which kinds are gone ends istiod (`minimumVersionFilter` of
    // pkg/kube/kclient/crdwatcher.go takes a tombstone for an object), and its kubelet starts it again; proxies notice nothing.
    thread::sleep(Duration::from_secs(5));
    for reader in mesh.clusters().into_iter().filter(|reader| reader.name != cluster.name) {
        if reader.istiod("/debug/clusterz").is_err() {
            eprintln!("bed: istiod of {} ended when {} was updated, and is started again", reader.name, cluster.name);
            mesh.istiod(reader, true);
        }
    }
}

#[test]
#[ignore = "needs an engine of the version before, see `just drill`"]
fn roles_of_the_version_before_work_beside_ours() {
    let former = std::env::var("ISTHMUS_TESTBED_FORMER").expect("ISTHMUS_TESTBED_FORMER names an engine of 0.1.0");
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.write_specs();
    run(&mesh, &former, &["apply", "--create-keys"]);
    mesh.sync_all();
    for cluster in [east, west] {
        mesh.run_by(&former, (cluster, "relay", 40, "relay"));
        mesh.ready(cluster, 40);
        let ca = mesh.checkout().join(format!("specs/{}-ca.pem", cluster.name));
        fs::write(ca, mesh.serving_ca(cluster)).unwrap();
        for (role, host) in [("proxy", 30), ("exporter", 20)] {
            mesh.run_by(&former, (cluster, role, host, role));
        }
    }
    for cluster in [east, west] {
        mesh.ready(cluster, 30);
        mesh.ready(cluster, 20);
    }
    mesh.write_specs();
    settle(&mesh, &former);
    mesh.synced(true);
    mesh.answers(east, west);
    mesh.answers(west, east);
    let before =
        fs::read_to_string(mesh.checkout().join("rendered/east/secret-istio-remote-secret-west.yaml")).unwrap();

    mesh.loses_nothing_while("our engine takes over, beside roles of 0.1.0", || {
        // what they may read, and who they are reached by, changes in place; no link closes
        settle(&mesh, ENGINE);
    });
    mesh.loses_nothing_while("west has our roles, east those of 0.1.0", || roll(&mesh, west, ENGINE));
    mesh.a_service_arrives(west, east, "from-ours");
    mesh.a_service_arrives(east, west, "from-former");
    mesh.loses_nothing_while("both have our roles", || roll(&mesh, east, ENGINE));
    settle(&mesh, ENGINE);
    mesh.synced(true);
    mesh.a_service_arrives(west, east, "from-both");
    let after = fs::read_to_string(mesh.checkout().join("rendered/east/secret-istio-remote-secret-west.yaml")).unwrap();
    assert_eq!(before, after, "the remote secret is as it was");

    // an update that is taken back: its roles first, then what is rendered for them
    mesh.loses_nothing_while("west has roles of 0.1.0 again, east ours", || roll(&mesh, west, &former));
    mesh.a_service_arrives(west, east, "from-former-again");
    mesh.loses_nothing_while("west is updated again", || roll(&mesh, west, ENGINE));
    mesh.a_service_arrives(east, west, "from-ours-again");
}
