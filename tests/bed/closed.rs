//! A peer whose metadata no engine but its own reaches: only what runs in the reader's cluster does. Its relay reads it.

use std::fs;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use super::mesh::{BedCluster, BedMesh, MOST_RUNS};
use super::one_at_a_time;

/// Of west's exporter, and known to nothing that runs outside the clusters.
const CLOSED: &str = "istio-metadata.west.bed";

/// Where a cluster's metadata is read.
fn endpoint(cluster: BedCluster) -> String {
    let host = if cluster.name == "west" { CLOSED.to_owned() } else { cluster.address(20, 0).ip().to_string() };
    format!("https://{host}:8443/metadata")
}

/// What a team declares: its own cluster and, once it is told of it, the other one.
fn specs(mesh: &BedMesh, own: BedCluster, peer: Option<BedCluster>) {
    let mut text =
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n"
            .to_owned();
    let components = format!(
        "multicluster: {{enabled: true, image: \"registry.example.com/isthmus:0.1.0\", apiHost: \"{}\"}}",
        own.address(30, 8443)
    );
    let mut declare = |cluster: BedCluster, kind: &str, ca: bool| {
        let ca = if ca { format!(", ca: {{file: specs/{}-ca.pem}}", cluster.name) } else { String::new() };
        text.push_str(&format!(
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {}}}\nspec:\n  {kind}\n  metadata: \
             {{endpoint: \"{}\"{ca}}}\n  allow: {{addresses: [127.0.0.0/8]}}\n",
            cluster.name,
            endpoint(cluster)
        ));
    };
    declare(own, &components, peer.is_some());
    if let Some(peer) = peer {
        declare(peer, "reconciler: external", true);
    }
    fs::write(mesh.checkout().join("specs/mesh.yaml"), text).unwrap();
}

/// A run of a team: that of east runs outside.
fn run(mesh: &BedMesh, own: BedCluster, arguments: &[&str]) -> String {
    mesh.team(own);
    let (code, text) = if own.name == "east" { mesh.engine(arguments) } else { mesh.engine_inside(arguments) };
    assert_eq!(code, 0, "{} {arguments:?}: {text}", own.name);
    text
}

/// West's exporter and api-proxy, before a real apiserver, tried with the key of east: all rules pass.
fn the_real_servers_keep_to_the_wire_protocol(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let write = |name: &str, text: &[u8]| {
        let path = mesh.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let secret = mesh.object(east, "secret", "isthmus-authn");
    let key = base64::prelude::BASE64_STANDARD.decode(secret["data"]["key.pem"].as_str().unwrap()).unwrap();
    let (key, ca) = (write("east.key", &key), write("west-ca.pem", mesh.serving_ca(west).as_bytes()));
    let uuid = |cluster| mesh.identity(cluster)["clusterUUID"].as_str().unwrap().to_owned();
    let (of_east, of_west) = (uuid(east), uuid(west));
    let (exporter, proxy) = (endpoint(west), format!("https://{}", west.address(30, 8443)));
    let common = ["--ca", &ca, "--key", &key, "--as", &of_east];
    for server in [&["exporter", &exporter][..], &["proxy", &proxy, "--of", &of_west]] {
        let (code, text) = mesh.engine_inside(&[&["conformance"], server, &common].concat());
        let last = text.lines().last().unwrap_or_default();
        eprintln!("bed: conformance of a real {}: {last}", server[0]);
        assert!(code == 0 && last.ends_with(" passed, 0 failed, 0 skipped"), "{text}");
    }
}

#[test]
fn a_peer_that_only_the_readers_network_reaches_joins_through_its_relay() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.names(&[(CLOSED.to_owned(), west.address(20, 0).ip())]);
    for cluster in [east, west] {
        mesh.team(cluster);
        specs(&mesh, cluster, None);
        run(&mesh, cluster, &["apply", "--create-keys"]);
        mesh.sync(cluster, &[]);
        mesh.run(cluster, "relay", 40);
        mesh.ready(cluster, 40);
        mesh.run(cluster, "proxy", 30);
        mesh.run(cluster, "exporter", 20);
    }
    for cluster in [east, west] {
        mesh.ready(cluster, 30);
        mesh.ready(cluster, 20);
        mesh.team(cluster);
        for one in [east, west] {
            fs::write(mesh.checkout().join(format!("specs/{}-ca.pem", one.name)), mesh.serving_ca(one)).unwrap();
        }
        specs(&mesh, cluster, Some(if cluster.name == "east" { west } else { east }));
    }
    let mut runs = Vec::new();
    for _ in 0..MOST_RUNS {
        let texts = [east, west].map(|cluster| {
            let text = run(&mesh, cluster, &["apply"]);
            mesh.sync(cluster, &[]);
            text
        });
        let is_done = texts.iter().all(|text| text.contains("No changes") && !text.contains("waiting"));
        runs.push(texts);
        if is_done {
            break;
        }
        thread::sleep(Duration::from_secs(3));
    }
    let of_east: Vec<&String> = runs.iter().map(|[east, _]| east).collect();
    assert!(of_east[0].contains("cannot find the host"), "the engine of east does not know {CLOSED}: {}", of_east[0]);
    assert!(of_east.iter().any(|text| text.contains("read by east")), "{of_east:#?}");
    assert!(of_east.last().unwrap().contains("No changes"), "{runs:#?}");
    eprintln!("bed: west, which only east's relay reaches, was joined after {} runs", runs.len());
    mesh.synced(true);
    mesh.answers(east, west);
    mesh.answers(west, east);
    let status: Value = serde_json::from_str(&run(&mesh, east, &["status", "--output", "json"])).unwrap();
    let link = status["links"].as_array().unwrap().iter().find(|link| link["reader"] == "east").unwrap().clone();
    assert_eq!(link["stage"], "joined");
    assert_eq!(link["peerReadBy"], serde_json::json!({ "public": "east", "private": "east" }));
    // no key but the engine's own is in either checkout
    for cluster in [east, west] {
        mesh.team(cluster);
        let keys = fs::read_dir(mesh.checkout().join("keys")).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(keys.filter(|name| name != ".gitignore").collect::<Vec<_>>(), ["engine.key"]);
    }
    the_real_servers_keep_to_the_wire_protocol(&mesh);
    // it reaches west still when the relay does, and says whose relay does not when it does not
    mesh.stop("exporter", west);
    mesh.team(east);
    mesh.plan_ends_with(3, &["the relay of `east` could not read it: cannot reach".to_owned()]);
    mesh.synced(true);
}
