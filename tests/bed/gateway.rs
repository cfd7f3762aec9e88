//! A cluster without an east-west gateway: a real istiod makes one of the Gateway that is rendered, its address is published, and
//! requests come through it. The bed does what a load balancer and a kubelet would do: it gives the Service an address, and runs the
//! pod of the Deployment.

use std::thread;

use serde_json::{Value, json};

use super::mesh::{BedCluster, BedMesh};
use super::{one_at_a_time, succeed};

/// What Istio calls what it makes of the Gateway.
const MADE: &str = "isthmus-eastwest-istio";

/// Waits until istiod has made Deployment and Service of the Gateway, and lets them run.
fn gateway_runs(mesh: &BedMesh, cluster: BedCluster) {
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
    let pod = std::fs::read_to_string(mesh.folder(cluster).join("pod-address")).unwrap();
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
    let lock = std::fs::read_to_string(mesh.checkout().join("lock/clusters/west.yaml")).unwrap();
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
