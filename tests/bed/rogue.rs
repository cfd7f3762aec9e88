//! What a peer puts into its own cluster directs nothing of its readers: whatever is there, east's istiod knows the networks
//! and gateways that were reviewed, and its client dials these and nothing else, also where west's api-proxy gives all there
//! is. And what is new in a peer is read soon.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::mesh::{BedCluster, BedMesh};
use super::observer::Observer;
use super::{FIRST_PORT, PORTS_PER_INDEX, one_at_a_time, succeed};

/// How soon what is new in a peer is read.
const SOON: Duration = Duration::from_secs(10);
/// Where the admin port of a client's Envoy stands among the ports of its cluster.
const ADMIN_OF_CLIENT: u16 = 4;
const ENTRIES: &str = "workloadentries.networking.istio.io";
const OF_NETWORK: &str = "topology.istio.io/network";

#[test]
fn what_a_peer_puts_into_its_cluster_directs_nothing_of_its_readers_and_is_read_soon() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    // west learns of this kind only after it was joined
    let definition = taken_out(&mesh, west);
    mesh.components();
    mesh.join();
    mesh.answers(east, west);
    let reviewed = (networks(east), dialled(east));
    eprintln!("bed: reviewed: {reviewed:?}");
    assert!(reviewed.1.iter().all(|dialled| dialled.ends_with(&west.address(50, 15443).to_string())), "{reviewed:?}");

    a_new_kind_is_read_soon(&mesh, &definition);
    let is_reviewed = |when: &str| {
        // whatever is rogue would show within a second or two
        for _ in 0..10 {
            assert_eq!((networks(east), dialled(east)), reviewed, "{when}");
            thread::sleep(Duration::from_secs(1));
        }
    };
    is_reviewed("entries of west's own network");
    mesh.answers(east, west);

    an_address_stays_with_the_readers_own_service(&mesh);
    rogue_objects(&mesh);
    mesh.a_service_arrives(west, east, "after-the-rogues");
    is_reviewed("with all rogue objects");
    knows_no_rogue(&mesh);
    nothing_else_was_sent(&mesh);

    a_peer_that_was_away_is_read_soon(&mesh);

    let lying = mesh.lies(west);
    mesh.a_service_arrives(west, east, "after-the-lies");
    is_reviewed("with an api-proxy that gives all there is");
    knows_no_rogue(&mesh);
    nothing_else_was_sent(&mesh);
    let gateways = mesh.asks_the_proxy(east, west).list("/apis/gateway.networking.k8s.io/v1/gateways");
    assert_eq!(gateways["items"].as_array().unwrap().len(), 3, "it gives all there is: {gateways:#}");
    mesh.answers(east, west);
    drop(lying);
}

/// East's istiod has no address of a rogue Gateway, and no network of another cluster for what is west's.
fn knows_no_rogue(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    for address in [rogue(west, 66), rogue(west, 67), rogue(west, 68)] {
        for page in ["/debug/networkz", "/debug/endpointShardz"] {
            assert!(!east.istiod(page).unwrap().to_string().contains(&address), "{address} in {page} of east");
        }
    }
    let shards = east.istiod("/debug/endpointShardz").unwrap().to_string();
    assert!(!shards.contains("network-north"), "{shards}");
}

fn rogue(west: BedCluster, host: u8) -> String {
    west.address(host, 0).ip().to_string()
}

/// Networks and their gateways as an istiod has them.
fn networks(cluster: BedCluster) -> BTreeSet<String> {
    let networks = cluster.istiod("/debug/networkz").unwrap();
    networks.as_array().unwrap().iter().map(Value::to_string).collect()
}

/// Where the client of a cluster sends requests for west's service.
fn dialled(cluster: BedCluster) -> BTreeSet<String> {
    let admin = FIRST_PORT + PORTS_PER_INDEX * cluster.index + ADMIN_OF_CLIENT;
    let url = format!("http://127.0.0.1:{admin}/clusters?format=json");
    let text = succeed(Command::new("curl").args(["--fail", "--silent", "--max-time", "5", &url]));
    let clusters: Value = serde_json::from_str(&text).unwrap();
    let mut dialled = BTreeSet::new();
    for cluster in clusters["cluster_statuses"].as_array().unwrap() {
        let name = cluster["name"].as_str().unwrap();
        let hosts = cluster["host_statuses"].as_array().cloned().unwrap_or_default();
        for host in hosts.iter().filter(|_| name.contains("cart.shop")) {
            let address = &host["address"]["socket_address"];
            dialled.insert(format!("{name} {}:{}", address["address"].as_str().unwrap(), address["port_value"]));
        }
    }
    assert!(!dialled.is_empty(), "{text}");
    dialled
}

/// Deletes the kind of entries from a cluster, and gives its definition.
fn taken_out(mesh: &BedMesh, cluster: BedCluster) -> Value {
    let mut of = mesh.kubectl(cluster);
    let mut definition: Value =
        serde_json::from_str(&succeed(of.args(["get", "crd", ENTRIES, "--output=json"]))).unwrap();
    definition["metadata"] = json!({ "name": ENTRIES });
    definition.as_object_mut().unwrap().remove("status");
    succeed(mesh.kubectl(cluster).args(["delete", "crd", ENTRIES]));
    definition
}

/// An entry beside west's service. `labels` also say whether it takes mutual TLS.
fn entry(west: BedCluster, name: &str, address: &str, labels: &Value, network: Option<&str>) -> Value {
    let mut spec = json!({ "address": address, "labels": labels, "ports": { "http": 7001 }, "serviceAccount": "cart" });
    if let Some(network) = network {
        spec["network"] = json!(network);
    }
    json!({ "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "spec": spec,
        "metadata": { "name": name, "namespace": "shop", "labels": { "of": west.name } } })
}

fn a_new_kind_is_read_soon(mesh: &BedMesh, definition: &Value) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let honest =
        entry(west, "honest", &rogue(west, 70), &json!({ "app": "cart", "security.istio.io/tlsMode": "istio" }), None);
    mesh.apply(west, definition);
    mesh.apply_once_it_is_taken(west, "the new kind to be served", &honest);
    let begin = Instant::now();
    let mut seen = Value::Null;
    mesh.until("the entry to be known in east", || {
        let shards = east.istiod("/debug/endpointShardz")?;
        let shard = &shards["cart.shop.svc.cluster.local"]["shop"]["Shards"];
        let endpoints = shard.as_object().into_iter().flat_map(|shards| shards.values()).filter_map(Value::as_array);
        let found = endpoints.flatten().find(|endpoint| endpoint.to_string().contains(&rogue(west, 70)));
        seen = found.ok_or_else(|| shard.to_string())?.clone();
        Ok(())
    });
    eprintln!("bed: an entry of a kind that is new in west was known in east after {:?}", begin.elapsed());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(seen.to_string().contains("\"network-west\""), "{seen:#}");
}

/// A Service of west has had the address of one of east's for longer: of two listeners for one address istiod makes that of the older
/// Service.
fn an_address_stays_with_the_readers_own_service(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let (range, address) = (format!("10.{}.0.0/16", east.index), format!("10.{}.7.77", east.index));
    mesh.apply(
        west,
        &json!({ "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "of-east" },
        "spec": { "cidrs": [range] } }),
    );
    // a controller would say it
    let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "Test", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
    succeed(mesh.kubectl(west).args([
        "patch",
        "servicecidr",
        "of-east",
        "--subresource=status",
        "--type=merge",
        "--patch",
        &ready.to_string(),
    ]));
    let service = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "clusterIP": address, "ports": [{ "name": "tcp", "port": 5432 }] } })
    };
    mesh.apply_once_it_is_taken(west, "the range to be known", &service("a-rogue"));
    let observer = Observer::start(east);
    mesh.until("east's proxies to be told of it", || listened(&observer, &address).map(drop));
    // both are created within seconds, of which istiod keeps no parts
    thread::sleep(Duration::from_secs(2));
    mesh.apply(east, &service("ledger"));
    mesh.until("the listener of east's own service", || {
        let cluster = listened(&observer, &address)?;
        let own = "outbound|5432||ledger.shop.svc.cluster.local";
        if cluster == own { Ok(()) } else { Err(format!("expected {own}, found {cluster}")) }
    });
    for cluster in [east, west] {
        let name = if cluster.name == "east" { "ledger" } else { "a-rogue" };
        succeed(mesh.kubectl(cluster).args(["delete", "service", name, "--namespace=shop"]));
    }
}

/// Where a proxy of a cluster sends what it gets for an address.
fn listened(observer: &Observer, address: &str) -> Result<String, String> {
    let made = observer.sees()?;
    let name = ("listener", format!("{address}_5432"));
    let listener = made.get(&name).ok_or_else(|| format!("no listener {}", name.1))?.to_string();
    let (_, rest) = listener.split_once("\"cluster\":\"").ok_or_else(|| listener.clone())?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

/// All that was seen to direct a reader's traffic, at once.
fn rogue_objects(mesh: &BedMesh) {
    let west = mesh.cluster("west");
    let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    mesh.apply(west, &json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "gateways.gateway.networking.k8s.io", "annotations": {
            "api-approved.kubernetes.io": "unapproved, a test", "gateway.networking.k8s.io/bundle-version": "v1.4.0" } },
        "spec": { "group": "gateway.networking.k8s.io", "scope": "Namespaced",
            "names": { "kind": "Gateway", "listKind": "GatewayList", "plural": "gateways", "singular": "gateway" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": schema }] },
    }));
    let listener = json!({ "name": "cross-network", "port": 15443, "protocol": "TLS",
        "tls": { "mode": "Passthrough", "options": { "gateway.istio.io/listener-protocol": "auto-passthrough" } } });
    for (name, address) in [("west", 66), ("east", 67), ("north", 68)] {
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": format!("rogue-{name}"), "namespace": "istio-system",
                "labels": { OF_NETWORK: format!("network-{name}") } },
            "spec": { "gatewayClassName": "istio-remote", "listeners": [listener],
                "addresses": [{ "type": "IPAddress", "value": rogue(west, address) }] },
        });
        mesh.apply_once_it_is_taken(west, "gateways to be served", &gateway);
    }
    let with_mtls = json!({ "app": "cart", "security.istio.io/tlsMode": "istio", OF_NETWORK: "network-east" });
    mesh.apply(west, &entry(west, "rogue", &rogue(west, 71), &with_mtls, Some("network-east")));
    mesh.apply(west, &entry(west, "rogue-plain", &rogue(west, 72), &json!({ "app": "cart" }), Some("network-east")));
    mesh.apply(west, &entry(west, "rogue-north", &rogue(west, 73), &with_mtls, Some("network-north")));
    for (kind, name, network) in [
        ("pod", "cart-0", "network-east"),
        ("service", "cart", "network-east"),
        ("namespace", "shop", "network-east"),
        ("namespace", "istio-system", "network-east"),
    ] {
        let mut label = mesh.kubectl(west);
        label.args(["label", kind, name, "--overwrite", &format!("{OF_NETWORK}={network}")]);
        if kind != "namespace" {
            label.arg("--namespace=shop");
        }
        succeed(&mut label);
    }
    let mut annotate = mesh.kubectl(west);
    annotate.args(["annotate", "service", "cart", "--namespace=shop", "--overwrite"]);
    succeed(annotate.arg("alpha.istio.io/canonical-serviceaccounts=spiffe://cluster.local/ns/shop/sa/rogue"));
}

/// What east's own user of west's api-proxy is given now.
fn nothing_else_was_sent(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let client = mesh.asks_the_relay(east, west);
    let ask = |path: &str| client.list(path);
    let items = |path: &str| ask(path)["items"].as_array().unwrap().clone();
    assert!(items("/apis/gateway.networking.k8s.io/v1/gateways").is_empty());
    let entries = items("/apis/networking.istio.io/v1/workloadentries");
    assert_eq!(entries.len(), 4, "{entries:#?}");
    assert!(entries.iter().all(|entry| entry["spec"]["network"] == "network-west"), "{entries:#?}");
    let mut names = BTreeSet::new();
    for path in [
        "/api/v1/pods",
        "/api/v1/services",
        "/api/v1/namespaces",
        "/api/v1/nodes",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/apis/networking.istio.io/v1/workloadentries",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ] {
        let list = ask(path);
        for hidden in [OF_NETWORK, "managedFields", "serviceaccounts", "\"image\"", "\"env\"", "last-applied"] {
            assert!(!list.to_string().contains(hidden), "{hidden} in {path}: {list:#}");
        }
        if path.ends_with("customresourcedefinitions") {
            names.extend(list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].to_string()));
        }
    }
    assert_eq!(names, BTreeSet::from([format!("\"{ENTRIES}\"")]));
}

/// West's api-proxy is away for longer than istiod waits between two attempts at most.
fn a_peer_that_was_away_is_read_soon(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.stop("proxy", west);
    thread::sleep(Duration::from_secs(45));
    mesh.run(west, "proxy", 30);
    mesh.ready(west, 30);
    let begin = Instant::now();
    mesh.a_service_arrives(west, east, "after-the-outage");
    eprintln!("bed: news of west was known in east {:?} after its api-proxy was back", begin.elapsed());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}
