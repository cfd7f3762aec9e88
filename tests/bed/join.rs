//! The whole story on the real bed: two clusters with roots of their own join through our exporters, relays and api-proxies,
//! carry traffic while things break, and part again.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::mesh::{BedMesh, Load, MOST_RUNS, PATIENCE, ROLES, get};
use super::{one_at_a_time, succeed};

/// How often an exporter is started again while a link waits.
const RESTARTS: usize = 20;

#[test]
fn two_real_istiods_join_carry_traffic_through_faults_and_part() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &["west"]) else { return };

    mesh.components();
    the_gates_hold(&mesh);
    join(&mesh);
    west_saw_east_alone(&mesh);
    traffic_outlives_faults(&mesh);
    part(&mesh);

    for cluster in mesh.clusters() {
        let (status, body) = cluster.ask(&cluster).unwrap();
        assert_eq!(status, 200, "{body}");
    }
}

/// Whatever is not live yet in either cluster keeps the secrets back; one that is forced shows what they prevent.
fn the_gates_hold(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.reconcile();
    mesh.sync(east, &[]);
    mesh.sync(west, &["isthmus-mesh"]);
    let old = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "not-restarted-yet", "namespace": "shop", "labels": { "app": "old" } },
        "spec": { "containers": [{ "name": "app", "image": "none" }, { "name": "istio-proxy", "image": "none" }] },
    });
    mesh.apply(east, &old);
    let status = json!({ "status": { "phase": "Running", "podIP": "10.0.0.9", "podIPs": [{ "ip": "10.0.0.9" }] } });
    let mut patch = mesh.kubectl(east);
    patch.args([
        "patch",
        "pod",
        "not-restarted-yet",
        "--namespace=shop",
        "--subresource=status",
        "--type=merge",
        "--patch",
    ]);
    succeed(patch.arg(status.to_string()));
    mesh.plan_says(&[
        "the root CA of `east` to be live in `west`".to_owned(),
        "istiod and proxies of `west` to be prepared".to_owned(),
        "istiod and proxies of `east` to be prepared".to_owned(),
    ]);

    // the secret that was kept back, by force
    let ca = base64::prelude::BASE64_STANDARD.encode(mesh.identity(east)["relayCA"].as_str().unwrap());
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "west",
        "clusters": [{ "name": "west", "cluster": { "certificate-authority-data": ca,
            "server": "https://isthmus-relay.istio-system.svc:8443/to/west" } }],
        "users": [{ "name": "west", "user": {} }],
        "contexts": [{ "name": "west", "context": { "cluster": "west", "user": "west" } }],
    });
    mesh.apply(
        east,
        &json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": { "west": kubeconfig.to_string() },
            "metadata": { "name": "forced", "namespace": "istio-system", "labels": { "istio/multiCluster": "true" } },
        }),
    );
    let mut seen = 0;
    mesh.until("the forced secret to cost a request", || match east.ask(&west) {
        Ok((503, _)) if seen > 3 => Ok(()),
        Ok((503, body)) => {
            seen += 1;
            Err(body)
        }
        other => Err(format!("{other:?}")),
    });
    eprintln!("bed: without east's root in west, a forced secret gives 503");
    succeed(mesh.kubectl(east).args(["delete", "secret", "forced", "--namespace=istio-system"]));
    mesh.until("the forced secret to be forgotten", || {
        let shards = east.istiod("/debug/endpointShardz")?.to_string();
        if shards.contains("Kubernetes/west") { Err("west has endpoints in east".to_owned()) } else { Ok(()) }
    });

    mesh.sync(west, &[]);
    mesh.stop("istiod", west);
    mesh.plan_says(&["evidence of `west`".to_owned()]);
    // a pod does not change; another takes its place
    let pod = ["delete", "pod", "istiod-west-0", "--namespace=istio-system", "--grace-period=0", "--force"];
    succeed(mesh.kubectl(west).args(pod));
    mesh.istiod(west, true);
    mesh.plan_says(&["istiod and proxies of `east` to be prepared".to_owned()]);
    a_restarted_exporter_opens_nothing(mesh);
    succeed(mesh.kubectl(east).args([
        "delete",
        "pod",
        "not-restarted-yet",
        "--namespace=shop",
        "--grace-period=0",
        "--force",
    ]));
}

/// East's exporter starts again and again while the link waits for east alone: what it does not know yet is never taken for
/// what is not there.
fn a_restarted_exporter_opens_nothing(mesh: &BedMesh) {
    let east = mesh.cluster("east");
    let (mut runs, mut unanswered) = (0, 0);
    thread::scope(|scope| {
        let restarts = scope.spawn(|| {
            for _ in 0..RESTARTS {
                mesh.stop("exporter", east);
                mesh.run(east, "exporter", 20);
                mesh.ready(east, 20);
            }
        });
        while !restarts.is_finished() {
            let (code, output) = mesh.engine(&["apply"]);
            assert!(code == 0 || code == 3, "{output}");
            runs += 1;
            unanswered += usize::from(code == 3);
            let rendered = super::files(&mesh.checkout().join("rendered"));
            let secret = rendered.keys().find(|path| path.to_string_lossy().contains("istio-remote-secret"));
            assert_eq!(secret, None, "{output}");
            mesh.sync_all();
        }
    });
    eprintln!(
        "bed: {RESTARTS} restarts of an exporter, {runs} runs, {unanswered} of them without an answer: no secret"
    );
    assert!(runs > RESTARTS / 4, "{runs}");
}

/// Runs until nothing is left to do, as a pipeline takes them; then both istiods see each other, and applications too.
fn join(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let first = thread::spawn(move || {
        let until = Instant::now() + 2 * PATIENCE;
        for (from, of) in [(east, west), (west, east)] {
            while !matches!(from.ask(&of), Ok((200, _))) && Instant::now() < until {
                thread::sleep(Duration::from_millis(2));
            }
        }
        jiff::Timestamp::now()
    });
    mesh.join();
    let (code, plan) = mesh.engine(&["plan", "--detailed-exitcode"]);
    assert_eq!(code, 0, "{plan}");
    let links = mesh.links().into_iter();
    let written =
        links.map(|(reader, peer)| mesh.written(reader, "secrets", &format!("istio-remote-secret-{}", peer.name)));
    let last = written.max().unwrap();
    let took = first.join().unwrap().duration_since(last);
    eprintln!("bed: first 200 in both directions {took:#} after the last write");
    for (cluster, of_peer) in mesh.links() {
        let (name, peer) = (cluster.name, of_peer.name);
        let shards = cluster.istiod("/debug/endpointShardz").unwrap();
        let service = format!("{}.shop.svc.cluster.local", of_peer.app);
        assert!(shards[service]["shop"]["Shards"][format!("Kubernetes/{peer}")].is_array(), "{shards:#}");
        let networks = cluster.istiod("/debug/networkz").unwrap();
        let gateway = of_peer.address(50, 15443).ip().to_string();
        let is_there = |entry: &Value| entry["Network"] == format!("network-{peer}") && entry["Addr"] == gateway;
        assert!(networks.as_array().unwrap().iter().any(is_there), "{networks:#}");
        let trusted = cluster.istiod("/debug/mesh").unwrap()["caCertificates"].to_string();
        for root in mesh.clusters() {
            let pem = mesh.object(root, "configmap", "istio-ca-root-cert")["data"]["root-cert.pem"]
                .as_str()
                .unwrap()
                .to_owned();
            let line = pem.lines().nth(2).unwrap().to_owned();
            assert!(root.name == name || trusted.contains(&line), "{name} does not trust the root of {}", root.name);
        }
    }
    // no file that git would track holds a secret
    let mut scanned = 0;
    for file in super::files(&mesh.checkout()).keys() {
        let path = file.strip_prefix(mesh.checkout()).unwrap();
        if path.starts_with("keys") {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        let decoded: Vec<String> = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)))
            .filter(|word| word.len() > 40)
            .filter_map(|word| String::from_utf8(base64::prelude::BASE64_STANDARD.decode(word).ok()?).ok())
            .collect();
        for text in decoded.iter().chain([&text]) {
            assert!(
                !text.contains("PRIVATE KEY") && !text.contains("eyJhbGciOi") && !text.contains("token:"),
                "{}",
                path.display()
            );
        }
        scanned += 1;
    }
    assert!(scanned > 50, "{scanned}");
}

/// The audit log of west's apiserver: east came as its own user, for what is in the table.
fn west_saw_east_alone(mesh: &BedMesh) {
    let user = format!("istio-peer:{}", mesh.identity(mesh.cluster("east"))["clusterUUID"].as_str().unwrap());
    let log = fs::read_to_string(mesh.folder(mesh.cluster("west")).join("audit.log")).unwrap();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let impersonated = event["impersonatedUser"]["username"].as_str();
        if event["user"]["username"] != "system:serviceaccount:istio-system:isthmus-proxy" || impersonated.is_none() {
            continue;
        }
        assert_eq!(impersonated, Some(user.as_str()), "{line}");
        let what = event["objectRef"]["resource"].as_str().unwrap_or_else(|| event["requestURI"].as_str().unwrap());
        *seen.entry(format!("{} {what}", event["verb"].as_str().unwrap())).or_default() += 1;
        assert!(event["userAgent"].as_str().is_none_or(|agent| !agent.contains("kubectl")), "{line}");
    }
    eprintln!("bed: west's apiserver was asked by east for: {seen:?}");
    let table = [
        "namespaces",
        "nodes",
        "pods",
        "services",
        "customresourcedefinitions",
        "endpointslices",
        "gateways",
        "workloadentries",
        "serviceexports",
        "serviceimports",
        "/api",
    ];
    for what in seen.keys() {
        let (verb, resource) = what.split_once(' ').unwrap();
        assert!(["get", "list", "watch"].contains(&verb) && table.contains(&resource), "{what}");
    }
    for wanted in ["watch services", "watch pods", "watch endpointslices", "watch namespaces", "watch nodes"] {
        assert!(seen.contains_key(wanted), "{wanted} is missing: {seen:?}");
    }
}

/// Things break and come back under 50 requests a second in both directions.
fn traffic_outlives_faults(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let loaded = |what: &str, fault: &dyn Fn()| {
        let loads = [Load::start(east, west, 50), Load::start(west, east, 50)];
        thread::sleep(Duration::from_millis(500));
        fault();
        thread::sleep(Duration::from_secs(2));
        for load in loads {
            load.none_is_lost(what);
        }
    };
    loaded("west's api-proxy is rolled", &|| {
        mesh.stop("proxy", west);
        mesh.run(west, "proxy", 30);
        mesh.ready(west, 30);
    });
    mesh.a_service_arrives(west, east, "after-the-proxy");
    loaded("east's relay is rolled", &|| {
        mesh.stop("relay", east);
        mesh.run(east, "relay", 40);
        mesh.ready(east, 40);
    });
    mesh.a_service_arrives(west, east, "after-the-relay");
    loaded("west's apiserver is killed and started again", &|| {
        mesh.signal("-KILL", "apiserver", west);
        thread::sleep(Duration::from_secs(2));
        mesh.bed("up", west, &[]);
        mesh.ready(west, 30);
    });
    mesh.a_service_arrives(west, east, "after-the-apiserver");
    loaded("west's apiserver hangs for 6 s", &|| {
        mesh.signal("-STOP", "apiserver", west);
        thread::sleep(Duration::from_secs(6));
        mesh.signal("-CONT", "apiserver", west);
        mesh.ready(west, 30);
    });
    loaded("west's etcd hangs for 6 s", &|| {
        mesh.signal("-STOP", "etcd", west);
        thread::sleep(Duration::from_secs(6));
        mesh.signal("-CONT", "etcd", west);
        mesh.ready(west, 30);
    });
    mesh.a_service_arrives(west, east, "after-etcd");
    mesh.synced(true);
}

/// West leaves, stage by stage, while each cluster serves its own.
fn part(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let loads = [Load::start(east, east, 20), Load::start(west, west, 20)];
    mesh.says("west", "  state: leaving\n");
    mesh.write_specs();
    let mut stages = Vec::new();
    let rendered = mesh.checkout().join("rendered/west");
    let holds = |part: &str| {
        fs::read_dir(&rendered).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().contains(part))
    };
    for _ in 0..MOST_RUNS {
        let output = mesh.reconcile();
        stages.push((holds("istio-remote-secret"), holds("isthmus-peers"), holds("deployment")));
        mesh.sync_all();
        if !holds("deployment") {
            for (role, _) in ROLES {
                mesh.stop(role, west);
            }
            break;
        }
        assert!(!output.contains("No changes"), "west does not leave: {output}");
        thread::sleep(Duration::from_secs(3));
    }
    eprintln!("bed: west left: (secret, peers, components) by runs: {stages:?}");
    assert_eq!(stages.last(), Some(&(false, false, false)), "{stages:?}");
    // the secret goes before the peers, and the components stay for as long as anyone is to be admitted
    for pair in stages.windows(2) {
        let ((secret, _, _), (_, peers_next, _)) = (pair[0], pair[1]);
        assert!(!secret || peers_next, "{stages:?}");
    }
    assert!(stages.len() > 2 && stages.iter().all(|(_, peers, components)| *components || !peers), "{stages:?}");
    mesh.synced(false);
    for load in loads {
        load.none_is_lost("west leaves, and each cluster asks itself");
    }
    let left = succeed(mesh.kubectl(west).args([
        "get",
        "configmaps,secrets,services,serviceaccounts,deployments.apps,networkpolicies.networking.k8s.io,poddisruptionbudgets.policy,\
         roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,clusterroles.rbac.authorization.k8s.io,\
         clusterrolebindings.rbac.authorization.k8s.io,gateways.networking.istio.io",
        "--all-namespaces",
        "--selector=app.kubernetes.io/managed-by=isthmus,isthmus.dev/owner=tree",
        "--output=name",
    ]));
    assert_eq!(left.trim(), "", "objects of the tree are left in west");
    for (cluster, peer) in mesh.links() {
        let shards = cluster.istiod("/debug/endpointShardz").unwrap().to_string();
        assert!(
            !shards.contains(&format!("Kubernetes/{}", peer.name)),
            "{} still has its peer's endpoints",
            cluster.name
        );
        let roots = cluster.istiod("/debug/mesh").unwrap()["caCertificates"].as_array().map_or(0, Vec::len);
        assert!(roots <= 1, "{} trusts {roots} roots", cluster.name);
        let (_, stacks) = get(cluster.address(10, 8080), "istiod", "/debug/pprof/goroutine?debug=2").unwrap();
        assert!(!stacks.contains("deleteCluster"), "istiod of {} hangs in deleting a cluster", cluster.name);
    }
}
