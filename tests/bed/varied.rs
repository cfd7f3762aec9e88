//! What istiod makes of a peer is the same whether it reads whole objects, with a remote secret made as `istioctl` makes it, or
//! those that the api-proxy projects.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use isthmus::roles::api::projection::{AnswerForm, KINDS_IN_PROTOBUF, Visible};
use isthmus::server::stream::StreamTransform as _;
use isthmus::wire::share::Share;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::crowd::crowded;
use super::mesh::{BedCluster, BedMesh};
use super::observer::{Made, Observer, in_one_order};
use super::projected::{initial_events, projected, view};
use super::protobuf::{Encoder, answer, encode};
use super::{one_at_a_time, succeed};

const OBJECTS: &str = include_str!("varied.yaml");
const OF_NETWORK: &str = "topology.istio.io/network";
/// Pods beside those.
const CROWD: usize = 200;

#[test]
fn a_reader_makes_the_same_of_whole_and_of_projected_objects() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.says("west", "  share: {except: []}\n");
    mesh.components();
    mesh.join();
    varied(&mesh, west);
    is_the_same_in_protobuf(&mesh, east, west);
    of_the_reader(&mesh, east);

    let seen = |way: &str| {
        let found = settled(&mesh, east);
        let count = |kind: &str| found.0.keys().filter(|(of, _)| *of == kind).count();
        let counts = ["cluster", "listener", "routes", "endpoints"].map(|kind| format!("{} {kind}", count(kind)));
        eprintln!("bed: {way}: {}, shards of {} services", counts.join(", "), found.1.len());
        found
    };
    mesh.reads_through_the_relay(east, west);
    let (projected, projected_shards) = seen("projected objects");
    // by its label istiod takes the Service of west's gateways for a gateway, in the place of those that were reviewed: peers
    // are not shown it, so it is not there for whole objects either
    label_gateways(&mesh, west, &format!("{OF_NETWORK}-"));
    mesh.reads_directly(east, west);
    let (whole, whole_shards) = seen("whole objects");
    label_gateways(&mesh, west, &format!("{OF_NETWORK}=network-west"));

    is_alike(&whole, &projected);
    is_alike(&whole_shards, &projected_shards);

    // all that is varied has arrived: clusters for each service but an alias and one that is not exported, and endpoints with
    // what istiod makes of pods, nodes and entries; from another network, a proxy is given their gateway
    for host in ["headless", "node-port", "by-hand", "unready", "machines"] {
        let of_host = |(_, name): &&(&'static str, String)| name.contains(&format!("{host}.varied.svc.cluster.local"));
        assert!(whole.keys().any(|key| of_host(&key)), "nothing of {host}: {:#?}", whole.keys());
    }
    assert!(!whole.keys().any(|(_, name)| name.contains("kept-back")), "exported nevertheless");
    // an ExternalName is an alias of a service of the mesh, if at all: no request leaves by it
    for (key, made) in whole.iter().chain(&projected) {
        assert!(!made.to_string().contains("elsewhere.example.com"), "{key:?}");
    }
    let shards = serde_json::to_string(&whole_shards).unwrap();
    let wanted =
        ["10.77.0.1", "10.77.0.3", "192.0.2.55", "192.0.2.71", "network-west", "eu/eu-a/rack-1", "\"headless-0\""];
    let missing: Vec<&str> = wanted.into_iter().filter(|text| !shards.contains(text)).collect();
    assert!(missing.is_empty(), "{missing:?} in no shard: {}", serde_json::to_string_pretty(&whole_shards).unwrap());

    // of more pods than are shared, a reader knows those that are, in each way
    let _figures = crowded(&mesh, CROWD, 1);
    mesh.reads_through_the_relay(east, west);
    mesh.answers(east, west);
}

fn label_gateways(mesh: &BedMesh, west: BedCluster, label: &str) {
    let mut of = mesh.kubectl(west);
    succeed(of.args(["label", "service", "istio-eastwestgateway", "--namespace=istio-system", "--overwrite", label]));
}

/// The objects, each with the status that it says.
fn varied(mesh: &BedMesh, west: BedCluster) {
    let objects: Vec<Value> =
        serde_yaml::Deserializer::from_str(OBJECTS).map(|document| Value::deserialize(document).unwrap()).collect();
    mesh.apply(west, &json!({ "apiVersion": "v1", "kind": "List", "items": objects }));
    for object in objects.iter().filter(|object| object["status"].is_object()) {
        let mut patch = mesh.kubectl(west);
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        patch.args(["patch", kind, name, "--namespace=varied", "--subresource=status", "--type=merge", "--patch"]);
        succeed(patch.arg(json!({ "status": object["status"] }).to_string()));
    }
}

/// How an api-proxy asks for lists.
const PROTOBUF_OR_JSON: &str = "application/vnd.kubernetes.protobuf, application/json";

/// What a peer is shown of lists of the apiserver is the same whether it gives them in protobuf or in JSON, and the api-proxy asks for
/// protobuf.
fn is_the_same_in_protobuf(mesh: &BedMesh, east: BedCluster, west: BedCluster) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (client, base) = mesh.administers(west);
    let get = |path: &str, accept: &str| {
        runtime.block_on(async {
            let answer = client.get(format!("{base}{path}")).header("accept", accept).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            (kind, answer.bytes().await.unwrap())
        })
    };
    // what no JSON can say an apiserver takes in protobuf, and gives it as it can
    let service = json!({
        "metadata": { "name": "unreadable", "namespace": "varied", "annotations": { "networking.istio.io/exportTo": "ZZ<&>" } },
        "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
    });
    let mut service = answer("v1", "Service", &encode("Service", &service, Encoder::Go));
    let at = service.windows(2).position(|two| two == b"ZZ").unwrap();
    service[at..at + 2].copy_from_slice(b"\xff\xc3");
    runtime.block_on(async {
        let request = client.post(format!("{base}/api/v1/namespaces/varied/services")).body(service);
        let answer = request.header("content-type", "application/vnd.kubernetes.protobuf").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    });
    for kind in KINDS_IN_PROTOBUF {
        let group = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
        let path = format!("{group}/{}/{}", kind.version, kind.resource);
        let now: Value = serde_json::from_slice(&get(&path, "application/json").1).unwrap();
        let version = now["metadata"]["resourceVersion"].as_str().unwrap();
        let path = format!("{path}?resourceVersion={version}&resourceVersionMatch=Exact");
        let (of_json, json) = get(&path, "application/json");
        let (of_protobuf, protobuf) = get(&path, PROTOBUF_OR_JSON);
        assert_eq!((&*of_json, &*of_protobuf), ("application/json", "application/vnd.kubernetes.protobuf"));
        let mut list = kind.list_as_json();
        let mut chunks: Vec<Bytes> =
            protobuf.chunks(1000).map(|chunk| list.push(Bytes::copy_from_slice(chunk)).unwrap()).collect();
        chunks.push(list.finish().unwrap());
        let chunks: Vec<&[u8]> = chunks.iter().map(AsRef::as_ref).collect();
        let count = now["items"].as_array().unwrap().len();
        for share in [Share::everything(), Share::usual()] {
            let shown = Visible::of(kind.group, kind.resource, &view(share, None)).unwrap();
            let list = projected(&shown, AnswerForm::List, [&json[..]]).unwrap();
            assert_eq!(projected(&shown, AnswerForm::List, chunks.iter().copied()).unwrap(), list, "{path}");
            let events = initial_events(&shown, [&json[..]]).unwrap();
            assert_eq!(initial_events(&shown, chunks.iter().copied()).unwrap(), events, "{path}");
        }
        eprintln!(
            "bed: {count} {} show the same in {} bytes of protobuf and {} of JSON",
            kind.resource,
            protobuf.len(),
            json.len()
        );
        assert!(count > 0);
    }

    runtime.block_on(async {
        let path = format!("{base}/api/v1/namespaces/varied/services/unreadable");
        assert!(client.delete(path).send().await.unwrap().status().is_success());
    });

    // of what an apiserver writes for a list it keeps the size alone
    let path = "/api/v1/services";
    let written = || {
        let metrics = String::from_utf8(get("/metrics", "*/*").1.to_vec()).unwrap();
        let of_lists = |line: &&str| {
            let labels = [r#"resource="services""#, r#"verb="LIST""#, r#"scope="cluster""#];
            line.starts_with("apiserver_response_sizes_sum{") && labels.iter().all(|label| line.contains(label))
        };
        let sum = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        metrics.lines().filter(of_lists).map(sum).sum::<f64>()
    };
    let peer = mesh.asks_the_proxy(east, west);
    mesh.until("the api-proxy to ask for protobuf", || {
        let (_, wanted) = get(path, PROTOBUF_OR_JSON);
        let before = written();
        let list = peer.list(path);
        let found = written() - before;
        assert_eq!(list["kind"], "ServiceList");
        #[allow(clippy::float_cmp, clippy::cast_precision_loss, reason = "whole numbers")]
        if found == wanted.len() as f64 { Ok(()) } else { Err(format!("{found} bytes, not {}", wanted.len())) }
    });
}

/// What the reader itself says of it: subsets by labels, locality, and pods of the peer chosen by a `ServiceEntry`.
fn of_the_reader(mesh: &BedMesh, east: BedCluster) {
    let of = |kind: &str, name: &str, spec: &Value| {
        json!({ "apiVersion": "networking.istio.io/v1", "kind": kind, "spec": spec,
            "metadata": { "name": name, "namespace": "varied" } })
    };
    let items = json!([
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "varied" } },
        of("DestinationRule", "node-port", &json!({ "host": "node-port.varied.svc.cluster.local",
            "trafficPolicy": { "outlierDetection": { "consecutive5xxErrors": 3 } },
            "subsets": [{ "name": "v3", "labels": { "service.istio.io/canonical-revision": "v3" } }] })),
        of("ServiceEntry", "chosen", &json!({ "hosts": ["chosen.example.com"], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "addresses": ["203.0.113.80"], "ports": [{ "number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080 }],
            "workloadSelector": { "labels": { "app": "node-port" } } })),
    ]);
    mesh.apply(east, &json!({ "apiVersion": "v1", "kind": "List", "items": items }));
}

/// What istiod made, once it stays the same.
fn settled(mesh: &BedMesh, reader: BedCluster) -> (Made, BTreeMap<String, Value>) {
    let observer = Observer::start(reader);
    let mut last = None;
    mesh.until("what istiod makes to stay the same", || {
        thread::sleep(Duration::from_secs(1));
        let now = Some((observer.sees()?, shards(reader)?));
        let before = std::mem::replace(&mut last, now);
        if before == last { Ok(()) } else { Err("it changes".to_owned()) }
    });
    last.unwrap()
}

/// Endpoints by service, namespace and cluster.
fn shards(reader: BedCluster) -> Result<BTreeMap<String, Value>, String> {
    let shards = reader.istiod("/debug/endpointShardz")?;
    let mut found = BTreeMap::new();
    for (service, namespaces) in shards.as_object().ok_or("no shards")? {
        for (namespace, of) in namespaces.as_object().ok_or("no namespaces")? {
            let endpoints = json!({ "endpoints": [] });
            for (shard, list) in of["Shards"].as_object().unwrap_or(&serde_json::Map::new()) {
                let mut endpoints = endpoints.clone();
                endpoints["endpoints"] = list.clone();
                // whether istiod knows the Service when its slice comes decides which of these an endpoint gets that is not ready,
                // also with whole objects: unhealthy, draining, terminating
                for endpoint in endpoints["endpoints"].as_array_mut().into_iter().flatten() {
                    if ["2", "3", "4"].contains(&endpoint["HealthStatus"].to_string().as_str()) {
                        endpoint["HealthStatus"] = json!("not ready");
                    }
                }
                found.insert(format!("{service} {namespace} {shard}"), in_one_order(endpoints));
            }
        }
    }
    Ok(found)
}

/// Asserts that both are the same, and says what is not.
fn is_alike<K: Ord + std::fmt::Debug>(whole: &BTreeMap<K, Value>, projected: &BTreeMap<K, Value>) {
    let mut other = String::new();
    for (key, value) in whole {
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
        match projected.get(key) {
            None => other.push_str(&format!("{key:?} is missing\n")),
            Some(found) if found != value => {
                let (value, found) = (pretty(value), pretty(found));
                let diff = similar::TextDiff::from_lines(&value, &found);
                other.push_str(&format!("{key:?}\n{}", diff.unified_diff().context_radius(3)));
            }
            Some(_) => {}
        }
    }
    for key in projected.keys().filter(|key| !whole.contains_key(key)) {
        other.push_str(&format!("{key:?} is there with projected objects alone\n"));
    }
    let file = std::env::temp_dir().join("isthmus-bed-varied.diff");
    if !other.is_empty() {
        fs::write(&file, &other).unwrap();
    }
    assert!(other.is_empty(), "all of it is in {}:\n{}", file.display(), other.chars().take(6000).collect::<String>());
}
