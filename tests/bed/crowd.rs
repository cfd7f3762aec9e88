//! A peer with many pods: what istiod of a reader that begins anew needs to read it, with relay and api-proxy and with a secret
//! that leads to the peer's apiserver; and that it knows what it is shared and no more.

use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::mesh::{BedCluster, BedMesh, get};
use super::one_at_a_time;

const SHARED: &str = "shared-crowd";
const HIDDEN: &str = "hidden-crowd";
const PODS_OF_A_SERVICE: usize = 10;
/// Pods of the figures in docs/performance.md, of which a twentieth is shared.
const MANY: usize = 5000;
/// How often an istiod begins anew, of which the best counts.
const TIMES: usize = 3;

/// What was measured of istiods of the reader.
pub(super) struct CrowdFigures {
    /// With a cluster that has what is shared alone, with one of which this is a part, and with all of it.
    few: Begun,
    some: Begun,
    projected: Begun,
    /// With all of it, by a secret as `istioctl` makes it.
    direct: Begun,
}

#[test]
#[ignore = "minutes, and figures of a release build: `just drill`"]
fn a_reader_of_many_pods_begins_as_soon_and_holds_no_more_than_it_is_shared() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    mesh.components();
    mesh.join();
    let CrowdFigures { few, some, projected, direct } = crowded(&mesh, MANY, TIMES);
    // istiod looks whether it has synced each few hundred milliseconds
    assert!(projected.synced <= direct.synced + Duration::from_millis(500), "{projected:?}, directly {direct:?}");
    assert!(some.live < few.live + few.live / 10, "{some:?}, and of what is shared alone {few:?}");
    assert!(some.live < projected.live, "{some:?}, and of all {projected:?}");
}

/// Fills west of a joined mesh with pods, and begins istiod of east with each.
pub(super) fn crowded(mesh: &BedMesh, pods: usize, times: usize) -> CrowdFigures {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let shared = pods / 20 / PODS_OF_A_SERVICE * PODS_OF_A_SERVICE;
    crowd(mesh, west, SHARED, 0, shared);
    let few = begins(mesh, east, "that are all there are", shared, || mesh.reads_through_the_relay(east, west));
    crowd(mesh, west, HIDDEN, shared, pods - shared);
    shares(mesh, &format!("  share: {{except: [kube-system, {HIDDEN}]}}\n"));
    let some =
        begins(mesh, east, &format!("that are shared of {pods}"), shared, || mesh.reads_through_the_relay(east, west));
    shares(mesh, "  share: {except: []}\n");
    let best = |way: &str, restart: &dyn Fn()| {
        let all: Vec<Begun> = (0..times).map(|_| begins(mesh, east, way, pods, restart)).collect();
        all.into_iter().min_by_key(|begun| begun.synced).unwrap()
    };
    let projected = best("through relay and api-proxy", &|| mesh.reads_through_the_relay(east, west));
    let direct = best("with a secret as istioctl makes it", &|| mesh.reads_directly(east, west));
    eprintln!(
        "bed: {pods} pods, best of {times}: synced after {:?} through relay and api-proxy, {:?} directly; \
         resident {:.0} and {:.0} MiB",
        projected.synced,
        direct.synced,
        mib(projected.resident),
        mib(direct.resident)
    );
    eprintln!(
        "bed: {shared} pods shared: resident {:.0} MiB of {pods}, {:.0} MiB where there are no others",
        mib(some.resident),
        mib(few.resident)
    );
    CrowdFigures { few, some, projected, direct }
}

#[derive(Debug)]
struct Begun {
    /// From the process's beginning until it has read all of the peer.
    synced: Duration,
    /// Resident memory, and what of the heap is alive, bytes.
    resident: u64,
    live: u64,
}

/// Begins an istiod anew.
fn begins(mesh: &BedMesh, reader: BedCluster, of: &str, pods: usize, restart: impl Fn()) -> Begun {
    let pid = mesh.folder(reader).join("istiod.pid");
    let file = pid.clone();
    let watching = thread::spawn(move || {
        let until = |holds: &dyn Fn() -> bool| {
            while !holds() {
                thread::sleep(Duration::from_millis(5));
            }
        };
        until(&|| !file.exists());
        until(&|| file.exists());
        let begin = Instant::now();
        until(&|| {
            let clusters = reader.istiod("/debug/clusterz").unwrap_or_default();
            let mut remote = clusters.as_array().into_iter().flatten().filter(|cluster| cluster["id"] != reader.name);
            remote.next().is_some_and(|cluster| cluster["syncStatus"] == "synced")
        });
        begin.elapsed()
    });
    restart();
    let synced = watching.join().unwrap();
    let services = pods / PODS_OF_A_SERVICE;
    mesh.until("all services to be known", || {
        let shards = reader.istiod("/debug/endpointShardz")?;
        let known = shards.as_object().unwrap().keys().filter(|host| host.contains("-crowd.svc")).count();
        if known == services { Ok(()) } else { Err(format!("{known} of {services}")) }
    });
    thread::sleep(Duration::from_secs(5));
    // collects what is dead before it answers
    drop(get(reader.address(10, 8080), "istiod", "/debug/pprof/heap?gc=1"));
    let (_, metrics) = get(reader.address(10, 15014), "istiod", "/metrics").unwrap();
    let alive = metrics.lines().find_map(|line| line.strip_prefix("go_memstats_heap_alloc_bytes ")).unwrap();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
    let live = alive.parse::<f64>().unwrap() as u64;
    let pid = std::fs::read_to_string(pid).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.split_whitespace().next().unwrap())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = 1024 * resident.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    eprintln!("bed: {pods} pods {of}: synced after {synced:?}, {:.0} MiB, {:.0} MiB alive", mib(resident), mib(live));
    Begun { synced, resident, live }
}

#[allow(clippy::cast_precision_loss, reason = "to be read")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

fn shares(mesh: &BedMesh, lines: &str) {
    mesh.says("west", lines);
    mesh.write_specs();
    mesh.reconcile();
    mesh.sync_all();
}

/// Pods as large as real ones, with their services.
fn crowd(mesh: &BedMesh, cluster: BedCluster, namespace: &str, first: usize, pods: usize) {
    let (client, base) = mesh.administers(cluster);
    let send = async |method: reqwest::Method, path: String, object: Value| {
        let patch = method == reqwest::Method::PATCH;
        let kind = if patch { "application/merge-patch+json" } else { "application/json" };
        let request = client.request(method, format!("{base}{path}")).header("content-type", kind);
        let answer = request.body(object.to_string()).send().await.unwrap();
        // read to its end: of streams that are left before it, a connection has only so many
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status}: {text}");
    };
    let post = async |path: String, object: Value| send(reqwest::Method::POST, path, object).await;
    let pod = async |number: usize| {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        post(path.clone(), pod(number)).await;
        let address = address(number);
        let status = json!({ "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": "True" }] } });
        send(reqwest::Method::PATCH, format!("{path}/pod-{number}/status"), status).await;
    };
    let service = async |number: usize| {
        let name = format!("service-{number}");
        let service = json!({ "metadata": { "name": name, "labels": { "app": name } },
            "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] } });
        post(format!("/api/v1/namespaces/{namespace}/services"), service).await;
        let endpoints = (number * PODS_OF_A_SERVICE..).take(PODS_OF_A_SERVICE).map(|pod| {
            json!({ "addresses": [address(pod)], "conditions": { "ready": true }, "nodeName": "node-a",
                "targetRef": { "kind": "Pod", "name": format!("pod-{pod}"), "namespace": namespace } })
        });
        let slice = json!({ "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } }, "endpoints": endpoints.collect::<Vec<_>>() });
        post(format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"), slice).await;
    };
    let begin = Instant::now();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        post("/api/v1/namespaces".to_owned(), json!({ "metadata": { "name": namespace } })).await;
        futures_util::stream::iter(first..first + pods).map(pod).buffer_unordered(16).collect::<Vec<_>>().await;
        let services = first / PODS_OF_A_SERVICE..(first + pods) / PODS_OF_A_SERVICE;
        futures_util::stream::iter(services).map(service).buffer_unordered(16).collect::<Vec<_>>().await;
    });
    eprintln!("bed: {pods} pods of {} written in {:?}", cluster.name, begin.elapsed());
}

fn address(pod: usize) -> String {
    format!("10.88.{}.{}", pod / 250, pod % 250 + 1)
}

fn pod(number: usize) -> Value {
    let env: Vec<Value> = (0..40)
        .map(|n| json!({ "name": format!("SETTING_{n}"), "valueFrom": { "secretKeyRef": { "name": "settings", "key": format!("setting-{n}") } } }))
        .collect();
    let app = format!("service-{}", number / PODS_OF_A_SERVICE);
    json!({
        "metadata": { "name": format!("pod-{number}"), "generateName": format!("{app}-6c9f7d5b8-"),
            "labels": { "app": app, "pod-template-hash": "6c9f7d5b8", "security.istio.io/tlsMode": "istio",
                "service.istio.io/canonical-name": app, "service.istio.io/canonical-revision": "v1" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-6c9f7d5b8"), "controller": true,
                "uid": "7d0c6f0a-8f59-4c4c-9a86-54b5c1a6e5a2" }] },
        "spec": { "serviceAccountName": app, "nodeName": "node-a", "containers": [
            { "name": "app", "image": "registry.example.com/shop/app:1", "env": env, "ports": [{ "name": "http", "containerPort": 8080 }] },
            { "name": "istio-proxy", "image": "registry.example.com/istio/proxyv2:1", "env": env }] },
    })
}
