//! The README's "Join your two clusters", its commands typed as they are there, from two clusters with Istio and nothing else to a
//! request across. Only what the bed lacks is put in their place: the registry of the chart (the folder of this repository), and
//! public addresses (loopback, which a spec has to allow). Controllers, kubelets, load balancers and DNS are the bed's.
//!
//! In the mesh that it joined, what docs/istioctl.md says is tried, too.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Instant;

use super::chart::{chart, pods_run};
use super::gateway::{gateway_runs, have_endpoints};
use super::istioctl::does_what_its_page_says;
use super::mesh::{BedCluster, BedMesh};
use super::{files_of_bed, one_at_a_time, succeed};

/// The commands of the section, block by block.
fn commands() -> Vec<String> {
    let page = include_str!("../../README.md");
    let section = page.split("\n## Join your two clusters\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    let blocks: Vec<String> = blocks.collect();
    assert_eq!(blocks.len(), 6, "{blocks:#?}");
    blocks
}

/// A command with what the bed has in the place of a registry and of public addresses.
fn on_the_bed(command: &str) -> String {
    let chart = format!("{} --set 'cluster.allow.addresses={{127.0.0.0/8}}'", chart().display());
    let loopback = "metadata: {ca: .servingCA}, allow: {addresses: [\"127.0.0.0/8\"]}";
    let replaced = command.replace("oci://ghcr.io/isthmus-mesh/charts/isthmus", &chart);
    replaced.replace("metadata: {ca: .servingCA}", loopback)
}

#[test]
fn the_readme_leads_to_a_request_across() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start_with(&of, &[], &["east", "west"], |_| ()) else { return };
    let bin = files_of_bed().unwrap();
    let clusters = [mesh.cluster("east"), mesh.cluster("west")];
    let names = |cluster: BedCluster| {
        ["metadata", "api"].map(|what| (format!("{what}.{}.example.com", cluster.name), cluster.address(50, 0).ip()))
    };
    mesh.names(&clusters.map(names).concat());
    // one kubeconfig of both, in which each context has a user of its own
    let kubeconfigs = clusters.map(|cluster| {
        let (folder, user) = (mesh.folder(cluster), format!("admin-{}", cluster.name));
        let text = fs::read_to_string(folder.join("admin.kubeconfig")).unwrap();
        let text = text
            .replace("{name: admin,", &format!("{{name: {user},"))
            .replace("user: admin}", &format!("user: {user}}}"));
        fs::write(folder.join("kubeconfig"), text).unwrap();
        folder.join("kubeconfig").display().to_string()
    });
    let typed = |command: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &on_the_bed(command)]).current_dir(mesh.dir.path());
        shell.env("PATH", format!("{path}:{}", bin.display())).env("KUBECONFIG", kubeconfigs.join(":"));
        for folder in ["CACHE", "CONFIG", "DATA"] {
            shell.env(format!("HELM_{folder}_HOME"), mesh.dir.path().join("helm").join(folder));
        }
        succeed(&mut shell)
    };
    let commands = commands();
    let [label, install, address, ready, exchange, wait] = commands.as_slice() else { panic!("{commands:#?}") };
    typed(label);
    let begun = Instant::now();
    typed(install);
    let installed = begun.elapsed();
    thread::scope(|scope| {
        for cluster in clusters {
            let mesh = &mesh;
            scope.spawn(move || gateway_runs(mesh, cluster));
            scope.spawn(move || {
                have_endpoints(mesh, cluster);
                pods_run(mesh, cluster);
            });
        }
        typed(ready);
    });
    let addresses = typed(address);
    for cluster in clusters {
        assert!(addresses.contains(&cluster.address(50, 0).ip().to_string()), "{addresses}");
    }
    let ready = begun.elapsed();
    typed(exchange);
    let exchanged = Instant::now();
    let seen = typed(wait);
    eprintln!("{seen}");
    let [east, west] = clusters;
    mesh.answers(east, west);
    mesh.answers(west, east);
    eprintln!(
        "bed: README: installed after {installed:?}, ready after {ready:?}, the first 200 after {:?}, {:?} after both knew of each other",
        begun.elapsed(),
        exchanged.elapsed()
    );
    does_what_its_page_says(&mesh, clusters, &kubeconfigs.join(":"));
    assert!(fs::read_to_string(mesh.dir.path().join("east.json")).unwrap().contains("metadata.east.example.com:15443"));
}
