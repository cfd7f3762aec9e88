//! `docs/day-two.md`: its own commands, run as they are there.

use std::fs;

use isthmus::simulation::cluster::{Authority, Fleet, SimulatedCluster};
use serde_json::Value;

use crate::disaster::{Day, all_done, unchanged, with_digest};

fn day() -> Day {
    Day::with(include_str!("../docs/day-two.md"))
}

fn sync(day: &Day) {
    day.shell("git add -A && git commit -qm run");
}

#[test]
fn a_cluster_is_added() {
    let day = day();
    let north = SimulatedCluster::new("north", &[7; 32], "203.0.113.7").unwrap();
    for (path, text) in [
        ("public/public.json", north.public().to_json()),
        ("private/multicluster.json", north.private(&Fleet::default()).to_json()),
    ] {
        let path = day.path(&format!("metadata/north/{path}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let before = day.shell("git rev-parse 'HEAD:rendered/east'");
    let spec = "apiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {name: north}\n\
                spec: {istio: {standardMeshNetworks: none}, metadata: {endpoint: \"file://metadata/north\"}}\n";
    fs::write(day.path("specs/north.yaml"), spec).unwrap();
    let ends = day.run_section("Add a cluster", &unchanged);
    all_done(&ends);
    assert!(ends[0].1.stdout.contains("render-trust/east") && ends[2].1.stdout.contains("north"), "{}", ends[2].1);
    sync(&day);
    assert_ne!(before, day.shell("git rev-parse 'HEAD:rendered/east'"));
    day.shell("engine plan --detailed-exitcode");
    assert!(day.path("rendered/east/secret-istio-remote-secret-north.yaml").exists());
}

#[test]
fn a_root_is_rotated() {
    let day = day();
    let path = "metadata/west/public/public.json";
    let mut document: Value = serde_json::from_slice(&fs::read(day.path(path)).unwrap()).unwrap();
    let old = document["rootCA"].as_str().unwrap().to_owned();
    document["rootCA"] = format!("{old}{}", Authority::new("west, next").unwrap().pem).into();
    fs::write(day.path(path), document.to_string()).unwrap();
    let ends = day.run_section("Rotate a root CA", &with_digest);
    let (_, held) = &ends[0];
    assert!(held.code == 4 && held.stdout.contains("trust change of `west`: held back"), "{held}");
    all_done(&ends[1..]);
    let trusted = fs::read_to_string(day.path("rendered/east/configmap-isthmus-mesh.yaml")).unwrap();
    assert_eq!(trusted.matches("BEGIN CERTIFICATE").count(), 2, "both roots: {trusted}");
}

#[test]
fn istio_is_upgraded_by_revisions() {
    let day = day();
    day.edit(
        "specs/mesh.yaml",
        "standardMeshNetworks: none}",
        "standardMeshNetworks: none, revisions: [1-30-5, 1-31-1]}",
    );
    all_done(&day.run_section("Upgrade Istio", &unchanged));
    day.shell("engine plan --detailed-exitcode");
}

#[test]
fn isthmus_is_upgraded() {
    let day = day();
    let components = "multicluster: {image: \"example.com/engine:0.1.0\", apiHost: api.west.example.com}";
    day.edit("specs/mesh.yaml", "metadata/west\"}", &format!("metadata/west\"}}, {components}"));
    day.shell("engine apply");
    day.edit("specs/mesh.yaml", "engine:0.1.0", "engine:0.2.0");
    let ends = day.run_section("Upgrade isthmus", &unchanged);
    all_done(&ends);
    let plan = &ends[3].1.stdout;
    assert!(plan.contains("engine:0.2.0") && !plan.contains("- Secret"), "{plan}");
}

#[test]
fn a_cluster_is_removed() {
    let day = day();
    day.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
    day.edit("specs/mesh.yaml", "metadata/west\"}", "metadata/west\"}, state: leaving");
    for _ in 0..3 {
        all_done(&day.run_section("Remove a cluster", &unchanged));
    }
    let status = day.shell("engine status");
    assert!(!status.contains("joined") && !status.contains("leaving"), "{status}");
    assert!(!day.path("rendered/east/secret-istio-remote-secret-west.yaml").exists());
    let text = fs::read_to_string(day.path("specs/mesh.yaml")).unwrap();
    let kept: Vec<&str> = text.split("---\n").filter(|document| !document.contains("name: west")).collect();
    fs::write(day.path("specs/mesh.yaml"), kept.join("---\n")).unwrap();
    day.shell("engine apply");
    assert!(!day.path("rendered/west").exists());
}
