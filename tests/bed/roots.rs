//! Another root CA at one side, while requests cross in both directions: beside the old one, and once in its place.
//!
//! East's istiod has a CA that someone gives it. Its proxies get their certificates anew when they start again, while no one
//! asks: there is one of each.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::mesh::{BedCluster, BedMesh};
use super::{one_at_a_time, succeed};

#[test]
fn a_root_is_rotated_and_then_replaced_without_a_lost_request() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let given = |dir: &Path| {
        for root in ["first", "second", "third"] {
            create(dir, root);
        }
        give(dir, "east", "first", &["first"]);
    };
    let Some(mesh) = BedMesh::start_after(&of, &[], given) else { return };
    mesh.says("east", "  rootOverlap: 1s\n");
    mesh.components();
    mesh.join();
    assert!(trusts(&mesh, "first") && !trusts(&mesh, "second"));
    // connections that are pooled would outlive any root
    each_request_shakes_hands(&mesh, true);

    mesh.loses_nothing_while("the second root stands beside the first", || {
        restart(&mesh, mesh.cluster("east"), "first", &["first", "second"]);
        accept(&mesh);
        mesh.until("west to trust both", || both(&mesh, ["first", "second"]));
        restart(&mesh, mesh.cluster("east"), "second", &["first", "second"]);
    });
    renew(&mesh, mesh.cluster("east"));
    assert_eq!(issuer(mesh.cluster("east")), "second");
    mesh.loses_nothing_while("the second root signs, and the first one goes", || {
        restart(&mesh, mesh.cluster("east"), "second", &["second"]);
        mesh.until("east to publish the second root alone", || gone(&mesh, "first"));
    });
    // Istio's proxies ask for new certificates as soon as their istiod pushes other roots: before west can trust the third one,
    // a new connection to them fails there, whatever anyone does. Those that are open continue
    each_request_shakes_hands(&mesh, false);
    mesh.loses_nothing_while("the third root takes the place of the second", || {
        mesh.says("east", "  rootOverlap: 1h\n");
        mesh.write_specs();
        restart(&mesh, mesh.cluster("east"), "third", &["third"]);
        accept(&mesh);
        // certificates that the second one signed are shown until they are renewed
        mesh.until("west to trust both", || both(&mesh, ["second", "third"]));
    });
    each_request_shakes_hands(&mesh, true);
    renew(&mesh, mesh.cluster("east"));
    assert_eq!(issuer(mesh.cluster("east")), "third");
    mesh.loses_nothing_while("the third root signs, and the second one goes", || {
        mesh.says("east", "  rootOverlap: 1s\n");
        mesh.write_specs();
        mesh.until("the second root to go", || gone(&mesh, "second"));
    });
}

fn each_request_shakes_hands(mesh: &BedMesh, each: bool) {
    let requests = if each { 1 } else { 1_000_000 };
    for (reader, peer) in mesh.links() {
        mesh.apply(
            reader,
            &json!({
                "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
                "metadata": { "name": peer.app, "namespace": "shop" },
                "spec": { "host": format!("{}.shop.svc.cluster.local", peer.app),
                    "trafficPolicy": { "connectionPool": { "http": { "maxRequestsPerConnection": requests } } } },
            }),
        );
    }
    // nothing shows when proxies have it
    thread::sleep(Duration::from_secs(3));
}

/// A root CA and its key, in files of this name.
pub(super) fn create(dir: &Path, name: &str) {
    let file = |ending: &str| dir.join(format!("{name}.{ending}"));
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"])
        .args(["-subj", &format!("/O={name}"), "-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-keyout"])
        .arg(file("key"))
        .arg("-out")
        .arg(file("pem"));
    succeed(&mut openssl);
}

/// Gives the istiod of a cluster, at its next start, a CA that signs, and the roots that are published.
pub(super) fn give(dir: &Path, cluster: &str, signs: &str, roots: &[&str]) {
    let folder = dir.join(cluster).join("cacerts");
    fs::create_dir_all(&folder).unwrap();
    let read = |name: &str, ending: &str| fs::read_to_string(dir.join(format!("{name}.{ending}"))).unwrap();
    let write = |file: &str, text: String| fs::write(folder.join(file), text).unwrap();
    write("ca-key.pem", read(signs, "key"));
    write("ca-cert.pem", read(signs, "pem"));
    write("cert-chain.pem", read(signs, "pem"));
    write("root-cert.pem", roots.iter().map(|root| read(root, "pem")).collect());
}

/// Starts istiod again, with these.
pub(super) fn restart(mesh: &BedMesh, cluster: BedCluster, signs: &str, roots: &[&str]) {
    give(mesh.dir.path(), cluster.name, signs, roots);
    mesh.stop("istiod", cluster);
    mesh.istiod(cluster, true);
    let published = || {
        let shown = mesh.object(cluster, "configmap", "istio-ca-root-cert");
        let shown = shown["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned();
        let is_so =
            shown.matches("BEGIN").count() == roots.len() && roots.iter().all(|root| shown.contains(&line(mesh, root)));
        if is_so { Ok(()) } else { Err(shown) }
    };
    mesh.until("istiod to publish its roots", published);
    // what a kubelet does in every pod
    let shown = mesh.object(cluster, "configmap", "istio-ca-root-cert");
    for proxy in ["gateway", "client", "server"] {
        let file = mesh.folder(cluster).join(proxy).join("var/run/secrets/istio/root-cert.pem");
        fs::write(file, shown["data"]["root-cert.pem"].as_str().unwrap()).unwrap();
    }
}

/// A line of a root that no other has.
fn line(mesh: &BedMesh, root: &str) -> String {
    let pem = fs::read_to_string(mesh.dir.path().join(format!("{root}.pem"))).unwrap();
    pem.lines().nth(3).unwrap().to_owned()
}

/// The new root is a trust change; accepted, it is synced and live.
fn accept(mesh: &BedMesh) {
    let mut held_back = String::new();
    mesh.until("the new root to be a trust change", || {
        let (code, output) = mesh.engine(&["apply"]);
        held_back = output;
        if code == 4 {
            Ok(())
        } else {
            thread::sleep(Duration::from_millis(500));
            Err(held_back.clone())
        }
    });
    assert!(held_back.contains("root"), "{held_back}");
    let (code, output) = mesh.engine(&["apply", "--accept-trust", "east"]);
    assert_eq!(code, 0, "{output}");
    mesh.sync_all();
}

/// New certificates for the workloads of a cluster: each proxy starts again.
pub(super) fn renew(mesh: &BedMesh, cluster: BedCluster) {
    for proxy in ["gateway", "server", "client"] {
        mesh.stop(proxy, cluster);
        mesh.proxy(proxy, cluster);
    }
    for (reader, peer) in mesh.links() {
        mesh.answers(reader, peer);
    }
}

/// Who signed the certificate that a cluster's server shows to those who come through its gateway.
pub(super) fn issuer(cluster: BedCluster) -> String {
    let gateway = cluster.address(50, 15443).to_string();
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &gateway, "-alpn", "istio", "-servername"]);
    let port = cluster.port;
    let name = format!("outbound_.{port}_._.{}.shop.svc.cluster.local", cluster.app);
    let output = openssl.arg(name).stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let issuer = shown.lines().find_map(|line| line.strip_prefix("issuer=")).unwrap_or_else(|| panic!("{shown}"));
    issuer.trim_start_matches(|c: char| c != '=').trim_start_matches('=').trim().to_owned()
}

fn trusts(mesh: &BedMesh, root: &str) -> bool {
    is_trusted(mesh, mesh.cluster("west"), root)
}

/// Whether istiod of a cluster trusts a root of another one.
pub(super) fn is_trusted(mesh: &BedMesh, cluster: BedCluster, root: &str) -> bool {
    let mesh_config: Value = cluster.istiod("/debug/mesh").unwrap();
    mesh_config["caCertificates"].to_string().contains(&line(mesh, root))
}

fn both(mesh: &BedMesh, roots: [&str; 2]) -> Result<(), String> {
    roots.into_iter().find(|root| !trusts(mesh, root)).map_or(Ok(()), |root| Err(format!("{root} is not trusted")))
}

/// Runs, syncs, and checks whether west dropped a root.
fn gone(mesh: &BedMesh, root: &str) -> Result<(), String> {
    let output = mesh.reconcile();
    mesh.sync_all();
    thread::sleep(Duration::from_secs(1));
    if trusts(mesh, root) { Err(output) } else { Ok(()) }
}
