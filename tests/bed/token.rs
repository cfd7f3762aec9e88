//! A relay asks for a token of istiod where every istiod of its cluster shows that it has one, with no field in the specs; where none
//! has, the plan warns of it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use base64::Engine as _;

use super::mesh::{BedCluster, BedMesh, MOST_RUNS};
use super::{one_at_a_time, succeed};

const DOMAIN: &str = "cluster.local";
const FLAG: &str = "--require-token";

/// Arguments of the relay, as its Deployment has them.
fn relay_arguments(mesh: &BedMesh, cluster: BedCluster) -> String {
    mesh.object(cluster, "deployment", "isthmus-relay")["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
}

/// The kubeconfig by which a reader's istiod reads a peer.
fn kubeconfig(mesh: &BedMesh, reader: BedCluster, peer: BedCluster) -> String {
    let secret = mesh.object(reader, "secret", &format!("istio-remote-secret-{}", peer.name));
    let data = base64::prelude::BASE64_STANDARD.decode(secret["data"][peer.name].as_str().unwrap()).unwrap();
    String::from_utf8(data).unwrap()
}

/// What the relay of a reader answers for services of a peer, to whoever shows these headers.
fn status(mesh: &BedMesh, (reader, peer): (BedCluster, BedCluster), headers: &[&str]) -> String {
    let config = kubeconfig(mesh, reader, peer);
    let server = config.lines().find_map(|line| line.split_once("server: https://")).unwrap().1;
    let (_, path) = server.split_once('/').unwrap();
    let url = format!("https://{}/{path}/api/v1/services", reader.address(40, 8443));
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--insecure", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    for header in headers {
        curl.args(["--header", header]);
    }
    succeed(curl.arg(url))
}

#[test]
fn a_relay_asks_for_the_token_that_its_istiods_show() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", DOMAIN), ("west", "cart", DOMAIN)];
    let with_token = |folder: &std::path::Path| fs::create_dir_all(folder.join("east/relay-token")).unwrap();
    let Some(mesh) = BedMesh::start_after(&of, &[], with_token) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.components();
    let mut running: BTreeMap<&str, String> =
        mesh.clusters().into_iter().map(|cluster| (cluster.name, relay_arguments(&mesh, cluster))).collect();
    let mut output = String::new();
    for run in 0.. {
        assert!(run < MOST_RUNS, "{output}");
        let text = mesh.reconcile();
        if text.contains("No changes") && !text.contains("waiting") {
            break;
        }
        output.push_str(&text);
        mesh.sync_all();
        // as its Deployment would
        for cluster in mesh.clusters() {
            let arguments = relay_arguments(&mesh, cluster);
            if running[cluster.name] != arguments {
                mesh.stop("relay", cluster);
                mesh.run(cluster, "relay", 40);
                mesh.ready(cluster, 40);
                running.insert(cluster.name, arguments);
            }
        }
        thread::sleep(Duration::from_secs(2));
    }
    assert!(running["east"].contains(FLAG) && !running["west"].contains(FLAG), "{running:#?}");
    let warning = "only a NetworkPolicy keeps other pods of `west` from reading its peers through its relay";
    assert!(output.contains(warning) && !output.contains("other pods of `east`"), "{output}");
    let file = "tokenFile: /var/run/secrets/isthmus-relay/token";
    assert!(kubeconfig(&mesh, east, west).contains(file));
    assert!(!kubeconfig(&mesh, west, east).contains("tokenFile"));
    mesh.synced(true);
    for (reader, peer) in mesh.links() {
        mesh.answers(reader, peer);
    }
    // whoever reaches the relay and is not istiod
    let token = |audience: &str, account: &str| {
        let mut token = mesh.kubectl(east);
        token.args(["create", "token", account, "--namespace=istio-system", "--duration=1h", "--audience", audience]);
        format!("authorization: Bearer {}", succeed(&mut token).trim())
    };
    let (of_istiod, of_another) = (token("isthmus-relay", "istiod"), token("isthmus-relay", "isthmus-exporter"));
    let for_another = token("istio-ca", "istiod");
    for (headers, expected) in [
        (vec![], "401"),
        (vec![of_another.as_str()], "401"),
        (vec![for_another.as_str()], "401"),
        (vec!["authorization: Bearer x"], "401"),
        (vec![of_istiod.as_str()], "200"),
    ] {
        assert_eq!(status(&mesh, (east, west), &headers), expected, "{}", headers.len());
    }
    assert_eq!(status(&mesh, (west, east), &[]), "200");
}
