//! Clusters of different trust domains: joined, and not made one.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::mesh::{BedCluster, BedMesh};
use super::{files, one_at_a_time, succeed};

/// How long what is pushed to proxies may take, where nothing shows that it is over.
const PUSH: Duration = Duration::from_secs(3);

/// Each cluster has a trust domain of its own. A policy that speaks of identities of one of them does not speak of the other's,
/// unless the spec says that they are one; and what is merged can be taken apart again under traffic.
#[test]
fn clusters_of_different_trust_domains_are_joined_and_stay_apart() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "west.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.components();
    mesh.join();
    let lock = fs::read_to_string(mesh.checkout().join("lock/links/east.yaml")).unwrap();
    assert!(lock.contains("stage: joined") && !lock.contains("trustDomainMerged"), "{lock}");
    let aliases = |cluster: BedCluster| cluster.istiod("/debug/mesh").unwrap()["trustDomainAliases"].clone();
    assert_eq!((aliases(east), aliases(west)), (json!(null), json!(null)));

    // east's own client alone, by its principal; it has the namespace, name and service account of west's
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "clients-of-east", "namespace": "shop" },
        "spec": { "selector": { "matchLabels": { "app": "orders" } }, "action": "ALLOW",
            "rules": [{ "from": [{ "source": { "principals": ["cluster.local/ns/shop/sa/client"] } }] }] },
    });
    mesh.apply(east, &policy);
    status(&mesh, west, east, 403);
    status(&mesh, east, east, 200);
    status(&mesh, east, west, 200);

    // as version 0.1.0 would have left it: all its links merge trust domains, and stay so until the spec says otherwise
    succeed(mesh.kubectl(east).args(["delete", "authorizationpolicy", "clients-of-east", "--namespace=shop"]));
    status(&mesh, west, east, 200);
    as_of_0_1_0(&mesh);
    let (code, output) = mesh.engine(&["apply", "--locked"]);
    assert_eq!(code, 0, "{output}");
    mesh.sync_all();
    for (cluster, other) in mesh.links() {
        mesh.until("the alias of the other to be there", || match aliases(cluster) {
            alias if alias == json!([other.domain]) => Ok(()),
            other => Err(other.to_string()),
        });
    }
    let one = "identities of trust domain `west.local` are one with those of `cluster.local` in every AuthorizationPolicy of `east`";
    mesh.loses_nothing_while("a checkout of version 0.1.0 is planned and applied", || {
        let (code, output) = mesh.engine(&["plan"]);
        assert!(code == 0 && output.contains(one), "{output}");
        mesh.settle();
        thread::sleep(PUSH);
    });
    let lock = fs::read_to_string(mesh.checkout().join("lock/links/east.yaml")).unwrap();
    assert!(lock.starts_with("version: 2") && lock.contains("trustDomainMerged: true"), "{lock}");
    assert_eq!((aliases(east), aliases(west)), (json!(["west.local"]), json!(["cluster.local"])));
    mesh.apply(east, &policy);
    status(&mesh, west, east, 200);
    succeed(mesh.kubectl(east).args(["delete", "authorizationpolicy", "clients-of-east", "--namespace=shop"]));

    let run_and_sync = |lines: &str| {
        mesh.says("east", lines);
        mesh.write_specs();
        let output = mesh.reconcile();
        mesh.sync_all();
        output
    };
    mesh.loses_nothing_while("trust domains are taken apart", || {
        let output = run_and_sync("  mergeTrustDomains: false\n");
        assert!(output.contains("policies of `east`") && !output.contains(one), "{output}");
        mesh.until("the alias to be gone from east's istiod", || match aliases(east) {
            Value::Null => Ok(()),
            some => Err(some.to_string()),
        });
        thread::sleep(PUSH);
    });
    mesh.apply(east, &policy);
    status(&mesh, west, east, 403);
    status(&mesh, east, east, 200);
}

/// Writes lock and tree as version 0.1.0 did: without what it did not know of.
fn as_of_0_1_0(mesh: &BedMesh) {
    for cluster in ["east", "west"] {
        let path = mesh.checkout().join(format!("rendered/{cluster}/configmap-isthmus-peers.yaml"));
        let text = fs::read_to_string(&path).unwrap();
        let is_new = |line: &&str| ["\"serial\":", "\"entry\":"].iter().any(|key| line.trim_start().starts_with(key));
        let lines: Vec<&str> = text.lines().filter(|line| !is_new(line)).collect();
        assert!(lines.len() < text.lines().count(), "{text}");
        fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    for path in files(&mesh.checkout().join("lock")).into_keys() {
        let mut file: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let fields = file.as_object_mut().unwrap();
        fields.insert("version".to_owned(), json!(1));
        for unknown in ["complete", "joinedWith", "serial"] {
            fields.remove(unknown);
        }
        fs::write(&path, serde_yaml::to_string(&file).unwrap()).unwrap();
    }
}

/// A request is answered so, and keeps being answered so.
fn status(mesh: &BedMesh, from: BedCluster, of: BedCluster, wanted: u16) {
    let asked = || {
        let (status, body) = from.ask(&of)?;
        if status == wanted { Ok(()) } else { Err(format!("{status}: {body}")) }
    };
    mesh.until(&format!("{} to be answered {wanted} from {}", from.name, of.name), asked);
    thread::sleep(PUSH);
    for _ in 0..5 {
        asked().unwrap_or_else(|other| panic!("{} is answered otherwise from {}: {other}", from.name, of.name));
    }
}
