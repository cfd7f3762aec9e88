//! A cluster without an east-west gateway: a real istiod makes one of the Gateway that is rendered, its address is published, and
//! requests come through it. The bed does what a load balancer and a kubelet would do: it gives the Service an address, and runs the
//! pod of the Deployment.
//!
//! With `expose: Gateway`, that gateway, or one that the cluster had, is all that is reached from outside: metadata and apiserver
//! of both clusters are read through real Envoys with what their istiods make of our objects.

use std::fs;
use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::mesh::{BedCluster, BedMesh, MOST_RUNS};
use super::{one_at_a_time, succeed};

/// What Istio calls what it makes of the Gateway.
const MADE: &str = "isthmus-eastwest-istio";

/// Waits until istiod has made Deployment and Service of the Gateway, and lets them run.
pub(super) fn gateway_runs(mesh: &BedMesh, cluster: BedCluster) {
    mesh.until("istiod to make a Deployment and a Service of the Gateway", || {
        let mut get = mesh.kubectl(cluster);
        get.args(["get", &format!("deployment/{MADE}"), &format!("service/{MADE}"), "--namespace=istio-system"]);
        let output = get.output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    let network = format!("network-{}", cluster.name);
    let deployment = mesh.object(cluster, "deployment", MADE);
    let pod = &deployment["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["gateway.networking.k8s.io/gateway-name"], "isthmus-eastwest", "{labels}");
    assert_eq!(labels["topology.istio.io/network"], network.as_str(), "{labels}");
    let environment = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    for name in ["ISTIO_META_NETWORK", "ISTIO_META_REQUESTED_NETWORK_VIEW"] {
        assert!(environment.contains(&json!({ "name": name, "value": network })), "{name}: {environment:?}");
    }
    let service = mesh.object(cluster, "service", MADE);
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["metadata"]["labels"]["topology.istio.io/network"], network.as_str());
    let ports: Vec<&Value> = service["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
    assert!(ports.contains(&&json!(15443)), "{service}");
    // ours are known by these, and an agent or a sync prunes what has them
    for object in [&deployment, &service] {
        let metadata = object["metadata"].to_string();
        assert!(!metadata.contains("isthmus.dev/") && !metadata.contains("managed-by"), "{metadata}");
    }
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": cluster.address(50, 0).ip() }] } } });
    let mut patch = mesh.kubectl(cluster);
    patch.args(["patch", "service", MADE, "--namespace=istio-system", "--subresource=status", "--type=merge"]);
    succeed(patch.args(["--patch", &status.to_string()]));
    // without one, istiod takes the Gateway for one without pods
    let pod = fs::read_to_string(mesh.folder(cluster).join("pod-address")).unwrap();
    mesh.apply(
        cluster,
        &json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": MADE, "namespace": "istio-system", "labels": { "kubernetes.io/service-name": MADE } },
            "ports": [{ "name": "tls", "port": 15443 }], "endpoints": [{ "addresses": [pod.trim()] }] }),
    );
    mesh.proxy("gateway", cluster);
}

#[test]
fn istiod_makes_a_gateway_of_ours_and_peers_come_through_it() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start_with(&of, &[], &["west"], |_| ()) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.says("west", "  network: network-west\n  gateway: {manage: true}\n");
    thread::scope(|scope| {
        // west's exporter is ready once its gateway has an address
        scope.spawn(|| gateway_runs(&mesh, west));
        mesh.components();
    });
    mesh.join();
    let address = west.address(50, 15443).to_string();
    let lock = fs::read_to_string(mesh.checkout().join("lock/clusters/west.yaml")).unwrap();
    assert!(lock.contains(&format!("address: \"{}\"", west.address(50, 0).ip())), "{lock}");
    let known = east.istiod("/debug/networkz").unwrap().to_string();
    assert!(known.contains(&west.address(50, 0).ip().to_string()), "{known}");
    mesh.until("the Gateway to be programmed, at its address", || {
        let gateway = mesh.object(west, "gateways.gateway.networking.k8s.io", "isthmus-eastwest");
        let status = &gateway["status"];
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let programmed = conditions.into_iter().any(|one| one["type"] == "Programmed" && one["status"] == "True");
        if programmed && address.starts_with(status["addresses"][0]["value"].as_str().unwrap_or("-")) {
            return Ok(());
        }
        Err(status.to_string())
    });
    // what is taken out of the spec while it is used stays
    mesh.loses_nothing_while("taking back `gateway.manage`", || {
        mesh.says("west", "  network: network-west\n");
        mesh.write_specs();
        let (code, text) = mesh.engine(&["apply"]);
        assert!(code == 4 && text.contains("the east-west gateway of `west` would go"), "{code}: {text}");
        mesh.sync_all();
    });
    mesh.object(west, "gateways.gateway.networking.k8s.io", "isthmus-eastwest");
}

/// Takes connections at an address that a pod may have, for a role that listens on loopback.
fn forward(cluster: BedCluster, pod: &str, host: u8) -> SocketAddr {
    let listener = TcpListener::bind((pod, 0)).unwrap();
    let (address, to) = (listener.local_addr().unwrap(), cluster.address(host, 8443));
    let pass = |from: &TcpStream, to: &TcpStream| {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        thread::spawn(move || {
            drop(copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Write));
        });
    };
    thread::spawn(move || {
        for from in listener.incoming() {
            let from = from.unwrap();
            let Ok(to) = TcpStream::connect(to) else { continue };
            pass(&from, &to);
            pass(&to, &from);
        }
    });
    address
}

/// What the controllers of a cluster would do: the Services of exporter and api-proxy have endpoints.
pub(super) fn have_endpoints(mesh: &BedMesh, cluster: BedCluster) {
    let pod = fs::read_to_string(mesh.folder(cluster).join("pod-address")).unwrap();
    for (service, host) in [("isthmus-exporter", 20), ("isthmus-proxy", 30)] {
        let address = forward(cluster, pod.trim(), host);
        mesh.apply(
            cluster,
            &json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": { "name": service, "namespace": "istio-system", "labels": { "kubernetes.io/service-name": service } },
                "ports": [{ "name": "https", "port": address.port() }], "endpoints": [{ "addresses": [address.ip()] }] }),
        );
        assert_eq!(mesh.object(cluster, "service", service)["spec"]["type"], "ClusterIP");
    }
}

/// A gateway that was deployed before listens where its pod would; the bed's own Gateway has an address of its own, beside which no
/// other Gateway takes anything.
fn listens_for_all_gateways(mesh: &BedMesh, cluster: BedCluster) {
    let mut delete = mesh.kubectl(cluster);
    let gateway = "gateways.networking.istio.io/bed-cross-network";
    succeed(delete.args(["delete", gateway, "--namespace=istio-system"]));
    let bind =
        json!({ "address": { "socket_address": { "address": cluster.address(50, 0).ip(), "port_value": 15443 } } });
    mesh.apply(
        cluster,
        &json!({ "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": { "name": "bed-gateway", "namespace": "istio-system" },
            "spec": { "workloadSelector": { "labels": { "istio": "eastwestgateway" } }, "configPatches": [{
                "applyTo": "LISTENER", "match": { "context": "GATEWAY", "listener": { "portNumber": 15443 } },
                "patch": { "operation": "MERGE", "value": bind } }] } }),
    );
}

/// The names of exporter and api-proxy.
fn names(cluster: BedCluster) -> [String; 2] {
    ["metadata", "api"].map(|what| format!("{what}.{}.bed", cluster.name))
}

fn specs(mesh: &BedMesh) {
    let mut text =
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n"
            .to_owned();
    for cluster in mesh.clusters() {
        let [metadata, api] = names(cluster);
        let name = cluster.name;
        let ca = format!("specs/{name}-ca.pem");
        let ca = if mesh.checkout().join(&ca).exists() { format!(", ca: {{file: {ca}}}") } else { String::new() };
        let managed = if name == "west" { "  network: network-west\n  gateway: {manage: true}\n" } else { "" };
        text.push_str(&format!(
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  \
             multicluster: {{image: \"registry.example.com/isthmus:0.1.0\", expose: Gateway, apiHost: \"{api}:15443\"}}\n  \
             metadata: {{endpoint: \"https://{metadata}:15443/metadata\"{ca}}}\n  allow: {{addresses: [127.0.0.0/8]}}\n{managed}"
        ));
    }
    fs::write(mesh.checkout().join("specs/mesh.yaml"), text).unwrap();
}

/// What comes back from the gateway of a cluster for a name: the status, or nothing where no TLS is spoken for it.
fn asked(mesh: &BedMesh, cluster: BedCluster, name: &str, path: &str) -> Option<String> {
    let ca = mesh.checkout().join(format!("specs/{}-ca.pem", cluster.name));
    let at = format!("{name}:15443:{}", cluster.address(50, 0).ip());
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--max-time",
        "5",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        "--resolve",
        &at,
    ]);
    curl.arg("--cacert").arg(ca).arg(format!("https://{name}:15443{path}"));
    let output = curl.output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_cluster_is_reached_at_one_address() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start_with(&of, &[], &["west"], |_| ()) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    // each name leads to the gateway of its cluster, and nothing else does
    let at = |cluster: BedCluster| names(cluster).map(|name| (name, cluster.address(50, 0).ip()));
    mesh.names(&[at(east), at(west)].concat());
    let run = |arguments: &[&str]| {
        let (code, text) = mesh.engine_inside(arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    };
    specs(&mesh);
    run(&["apply", "--create-keys"]);
    mesh.sync_all();
    listens_for_all_gateways(&mesh, east);
    thread::scope(|scope| {
        scope.spawn(|| gateway_runs(&mesh, west));
        for cluster in [east, west] {
            mesh.run(cluster, "relay", 40);
            mesh.ready(cluster, 40);
            fs::write(mesh.checkout().join(format!("specs/{}-ca.pem", cluster.name)), mesh.serving_ca(cluster))
                .unwrap();
            mesh.run(cluster, "proxy", 30);
            mesh.run(cluster, "exporter", 20);
            have_endpoints(&mesh, cluster);
        }
    });
    for cluster in [east, west] {
        mesh.ready(cluster, 30);
        mesh.ready(cluster, 20);
    }
    specs(&mesh);
    for cluster in [east, west] {
        let [metadata, api] = names(cluster);
        mesh.until(&format!("the gateway of {} to lead to its exporter", cluster.name), || {
            match asked(&mesh, cluster, &metadata, "/metadata/public/public.json") {
                Some(status) if status == "200" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        // the api-proxy admits no one without a token; and the gateway knows no other name
        assert_eq!(asked(&mesh, cluster, &api, "/api").as_deref(), Some("401"), "{api}");
        assert_eq!(asked(&mesh, cluster, "other.bed", "/api"), None);
    }
    let mut runs = Vec::new();
    while !runs.last().is_some_and(|text: &String| text.contains("No changes") && !text.contains("waiting")) {
        assert!(runs.len() < MOST_RUNS, "{runs:#?}");
        runs.push(run(&["apply"]));
        mesh.sync_all();
        thread::sleep(Duration::from_secs(2));
    }
    eprintln!("bed: joined through the gateways alone after {} runs", runs.len());
    mesh.synced(true);
    mesh.answers(east, west);
    mesh.answers(west, east);
    for (reader, peer) in [(east, west), (west, east)] {
        let routes = mesh.object(reader, "configmap", "isthmus-routes")["data"]["routes.json"].to_string();
        assert!(routes.contains(&format!("{}:15443", names(peer)[1])), "{routes}");
    }
    // no request is lost while api-proxy and exporter are away, and peers find them again
    mesh.loses_nothing_while("a restart of all that the gateway of west leads to", || {
        for (role, host) in [("exporter", 20), ("proxy", 30)] {
            mesh.stop(role, west);
            mesh.run(west, role, host);
            mesh.ready(west, host);
        }
    });
    mesh.a_service_arrives(west, east, "late");
}
