//! Three clusters: what becomes of one of them costs the other two no request.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::mesh::{BedCluster, BedMesh, MOST_RUNS, ROLES};
use super::{files, one_at_a_time, succeed};

#[test]
fn two_of_three_clusters_lose_nothing_while_the_third_leaves_comes_back_and_is_lost() {
    let _guard = one_at_a_time();
    let of =
        [("east", "orders", "cluster.local"), ("north", "stock", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let north = mesh.cluster("north");
    mesh.components();
    mesh.join();

    mesh.loses_nothing_while("lock files are lost and restored", || lock_files_are_restored(&mesh));

    mesh.loses_nothing_while("north leaves", || {
        mesh.says("north", "  state: leaving\n");
        mesh.write_specs();
        goes(&mesh, north);
        for (role, _) in ROLES {
            mesh.stop(role, north);
        }
    });
    knows_nothing_of(&mesh, north);

    mesh.loses_nothing_while("north comes back", || {
        mesh.says("north", "");
        mesh.write_specs();
        mesh.reconcile();
        mesh.sync_all();
        for (role, host) in ROLES {
            mesh.run(north, role, host);
        }
        for (_, host) in ROLES {
            mesh.ready(north, host);
        }
        mesh.join();
    });

    mesh.loses_nothing_while("north is lost", || {
        mesh.destroy(north);
        // until a spec states it, nothing that is live rests on a guess: its links stay
        let before = secrets(&mesh);
        let (code, output) = mesh.engine(&["apply"]);
        assert_eq!((code, secrets(&mesh)), (3, before), "{output}");
        mesh.says("north", "  state: lost\n");
        mesh.write_specs();
        goes(&mesh, north);
    });
    knows_nothing_of(&mesh, north);
}

/// Remote secrets in the tree.
fn secrets(mesh: &BedMesh) -> Vec<String> {
    let rendered = mesh.checkout().join("rendered");
    let paths = files(&rendered).into_keys().map(|path| path.strip_prefix(&rendered).unwrap().display().to_string());
    paths.filter(|path| path.contains("istio-remote-secret")).collect()
}

/// Runs and syncs until nothing of a cluster is rendered any more.
fn goes(mesh: &BedMesh, gone: BedCluster) {
    let rendered = mesh.checkout().join("rendered").join(gone.name);
    for run in 1..=MOST_RUNS {
        let output = mesh.reconcile();
        mesh.sync_all();
        let names = fs::read_dir(&rendered).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        if names.into_iter().all(|name| name == "kustomization.yaml") {
            eprintln!("bed: nothing of {} is rendered after {run} runs", gone.name);
            return;
        }
        assert!(!output.contains("No changes") || output.contains("waiting"), "{} does not go: {output}", gone.name);
        thread::sleep(Duration::from_secs(2));
    }
    panic!("{} does not go: {}", gone.name, mesh.engine(&["plan"]).1);
}

/// Neither of the two that stay reads the cluster, has its endpoints, or trusts its root.
fn knows_nothing_of(mesh: &BedMesh, gone: BedCluster) {
    for cluster in mesh.clusters().into_iter().filter(|cluster| cluster.name != gone.name) {
        mesh.until(&format!("{} to be gone from {}", gone.name, cluster.name), || {
            let reads = cluster.istiod("/debug/clusterz")?.as_array().map_or(0, Vec::len);
            let shards = cluster.istiod("/debug/endpointShardz")?.to_string();
            let roots = cluster.istiod("/debug/mesh")?["caCertificates"].as_array().map_or(0, Vec::len);
            let has_endpoints = shards.contains(&format!("Kubernetes/{}", gone.name));
            // itself and the other one
            let is_gone = (reads, has_endpoints, roots) == (2, false, 1);
            if is_gone { Ok(()) } else { Err(format!("{reads} clusters, {roots} roots, endpoints: {has_endpoints}")) }
        });
    }
}

/// A checkout in git loses a link file, and then a cluster's entry: the engine stops there, and what it says brings them back.
fn lock_files_are_restored(mesh: &BedMesh) {
    let checkout = mesh.checkout();
    let sh = |command: &str| {
        let mut sh = Command::new("sh");
        sh.args(["-c", command]).current_dir(&checkout);
        for (name, value) in [("AUTHOR", "a"), ("COMMITTER", "c")] {
            sh.env(format!("GIT_{name}_NAME"), value).env(format!("GIT_{name}_EMAIL"), format!("{value}@example.com"));
        }
        succeed(&mut sh)
    };
    sh("git init --quiet && echo /keys/ > .gitignore && git add --all && git commit --quiet --message joined");
    for file in ["lock/links/east.yaml", "lock/clusters/north.yaml"] {
        sh(&format!("git rm --quiet {file} && git commit --quiet --message 'a bad merge'"));
        let before = secrets(mesh);
        let (code, output) = mesh.engine(&["apply"]);
        assert_eq!((code, secrets(mesh)), (4, before), "{output}");
        mesh.sync_all();
        // the commands as they are printed
        let (log, back) = (format!("git log --oneline -- {file}"), format!("git checkout COMMIT~1 -- {file}"));
        assert!(output.contains(&log) && output.contains(&back), "{output}");
        let commit = sh(&log);
        let commit = commit.split_whitespace().next().unwrap();
        sh(&back.replace("COMMIT", commit));
        let output = mesh.reconcile();
        assert!(output.contains("No changes"), "{output}");
        mesh.sync_all();
        sh("git add --all && git commit --quiet --message restored");
    }
}
