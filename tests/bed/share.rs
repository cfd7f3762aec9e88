//! What west shares is what east's istiod knows of it, and an edit of that is known within seconds: whoever watches is told to
//! list again, and the next list shows what is shared now.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use isthmus::wire::share::Share;
use kube::api::DynamicObject;
use kube::runtime::reflector::Store;
use serde_json::{Value, json};

use super::mesh::{BedCluster, BedMesh};
use super::raw::{RawClient, RawWatch};
use super::{one_at_a_time, succeed};

/// How soon an edit is known once it is synced. Each time within two minutes that it is told to list again, istiod waits about
/// twice as long before it does, so of several edits in a row the last ones may take longer.
const SOON: Duration = Duration::from_secs(10);
const SOON_OF_MANY: Duration = Duration::from_secs(30);
/// How soon after an edit was written open watches end.
const ENDS: Duration = Duration::from_secs(5);
/// Namespaces that only west has.
const OPEN: &str = "open";
const HIDDEN: &str = "hidden";
/// What is watched, all of it and of one namespace.
const WATCHED: [&str; 5] = [
    "/api/v1/namespaces",
    "/api/v1/services",
    "/api/v1/pods",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/api/v1/namespaces/hidden/services",
];
/// What belongs to no namespace.
const NODES: &str = "/api/v1/nodes";

#[test]
fn a_reader_knows_the_services_that_are_shared_and_no_others() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.components();
    mesh.join();
    mesh.answers(east, west);
    mesh.exporters_ask_over_tls();
    for namespace in [OPEN, HIDDEN] {
        mesh.apply(west, &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }));
        mesh.apply(
            west,
            &json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a", "namespace": namespace },
                "spec": { "selector": { "app": "a" }, "ports": [{ "name": "http", "port": 80 }] } }),
        );
    }
    let clients = [mesh.asks_the_relay(east, west), mesh.asks_the_proxy(east, west)];
    let of_nodes = clients.each_ref().map(|client| client.watch(NODES));
    let kinds = [("Namespace", WATCHED[0]), ("Service", WATCHED[1]), ("Pod", WATCHED[2])];
    let reflected: Vec<_> = kinds
        .into_iter()
        .flat_map(|kind| [(kind, true), (kind, false)])
        .map(|((kind, path), lists_by_watch)| {
            (path, clients[1].reflects(kind, path.rsplit('/').next().unwrap(), lists_by_watch))
        })
        .collect();
    let (shop, system) = ("shop", "istio-system");
    for (number, (namespaces, except, known)) in [
        (&["*"][..], &["kube-system"][..], &[OPEN, HIDDEN][..]),
        (&[shop, system, OPEN], &[], &[OPEN]),
        (&[shop, system, OPEN, "hid*"], &[], &[OPEN, HIDDEN]),
        (&["*"], &["kube-system", HIDDEN], &[OPEN]),
        (&[shop, system, HIDDEN], &[], &[HIDDEN]),
    ]
    .into_iter()
    .enumerate()
    {
        let shared = json!({ "namespaces": namespaces, "except": except });
        // the last but one is edited while no api-proxy runs
        let is_away = number == 3;
        if number > 0 {
            let watches = if is_away { Vec::new() } else { watch(&mesh, &clients) };
            // the last edit is of what one peer is shared
            let is_last = number == 4;
            let edit = if is_last {
                format!("  share: {{namespaces: []}}\n  shareWith: {{east: {shared}}}\n")
            } else {
                format!("  share: {shared}\n")
            };
            mesh.says("west", &edit);
            mesh.write_specs();
            mesh.reconcile();
            if is_away {
                // no edit has ended a watch of what belongs to no namespace
                assert!(of_nodes.iter().all(|watch| watch.version().is_some() && !watch.has_ended()));
                mesh.stop("proxy", west);
            }
            mesh.sync_all();
            if is_away {
                mesh.run(west, "proxy", 30);
                mesh.ready(west, 30);
            }
            have_to_list_again(&mesh, &clients, watches);
        }
        let begin = Instant::now();
        let share: Share = serde_json::from_value(shared).unwrap();
        for client in &clients {
            lists_what_is_shared(&mesh, client, &share);
        }
        mesh.until("east to know what is shared", || {
            let found = foreign(east);
            if found == known { Ok(()) } else { Err(format!("east knows services of {found:?}, not of {known:?}")) }
        });
        eprintln!("bed: east knew what west shares ({known:?}) after {:?}", begin.elapsed());
        holds_what_is_shared(&mesh, &reflected, &share);
        let limit = if number < 3 { SOON } else { SOON_OF_MANY };
        assert!(begin.elapsed() < limit, "{:?}", begin.elapsed());
        mesh.answers(east, west);
    }
}

/// Watches of each client, which have given all that there is.
fn watch(mesh: &BedMesh, clients: &[RawClient]) -> Vec<(usize, &'static str, RawWatch)> {
    let of = |number: usize| WATCHED.map(|path| (number, path, clients[number].watch(path)));
    let watches: Vec<_> = (0..clients.len()).flat_map(of).collect();
    for (_, path, watch) in &watches {
        mesh.until("a watch to begin", || if watch.version().is_some() { Ok(()) } else { Err((*path).to_owned()) });
    }
    watches
}

/// Watches that were open when the share was edited have ended for that, and none continues from where they were.
fn have_to_list_again(mesh: &BedMesh, clients: &[RawClient], watches: Vec<(usize, &'static str, RawWatch)>) {
    let written = mesh.written(mesh.cluster("west"), "configmaps", "isthmus-peers");
    let is_expired = |event: &Value| {
        let object = &event["object"];
        (&event["type"], &object["code"], &object["reason"]) == (&json!("ERROR"), &json!(410), &json!("Expired"))
    };
    let (mut slowest, count) = (Duration::ZERO, watches.len());
    for (number, path, watch) in watches {
        let client = &clients[number];
        mesh.until("a watch to end", || if watch.has_ended() { Ok(()) } else { Err(path.to_owned()) });
        let version = watch.version().unwrap();
        let (at, last) = watch.last().unwrap();
        assert!(is_expired(&last), "{path}: {last}");
        assert_eq!(client.end_of(watch), Ok(()), "{path}");
        let after = Duration::try_from(at.duration_since(written)).expect("no watch ends before the edit");
        assert!(after < ENDS, "{path} of client {number}: after {after:?}");
        slowest = slowest.max(after);

        let continued = client.watch_on(path, &version);
        mesh.until("a watch not to continue", || if continued.has_ended() { Ok(()) } else { Err(path.to_owned()) });
        let (_, last) = continued.last().unwrap();
        assert!(is_expired(&last), "{path}: {last}");
    }
    eprintln!("bed: {count} watches ended with 410, the last {slowest:?} after the edit was written");
}

/// A reflector has the same, whatever came in between.
fn holds_what_is_shared(mesh: &BedMesh, reflected: &[(&str, Store<DynamicObject>)], share: &Share) {
    for (path, store) in reflected {
        let wanted = shown(mesh, path, share);
        mesh.until("a reflector to hold what is shared", || {
            let items: Vec<Value> =
                store.state().iter().map(|object| serde_json::to_value(&**object).unwrap()).collect();
            let found = names(&json!({ "items": items }), path);
            if found == wanted { Ok(()) } else { Err(format!("{path}: {found:?}, not {wanted:?}")) }
        });
    }
}

/// Objects by namespace and name.
fn names(list: &Value, path: &str) -> BTreeSet<String> {
    let items = list["items"].as_array().unwrap().iter();
    let name = |item: &Value| match item["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", item["metadata"]["name"].as_str().unwrap()),
        None if path.ends_with("/namespaces") => format!("{}/", item["metadata"]["name"].as_str().unwrap()),
        None => panic!("{path}: {item}"),
    };
    items.map(name).collect()
}

/// What of west is shared, as its apiserver has it.
fn shown(mesh: &BedMesh, path: &str, share: &Share) -> BTreeSet<String> {
    let mut whole = mesh.kubectl(mesh.cluster("west"));
    let whole: Value = serde_json::from_str(&succeed(whole.args(["get", "--raw", path]))).unwrap();
    let mut wanted = names(&whole, path);
    // the name of the namespace of east's istiod is always shown
    wanted.retain(|name| {
        share.shows(name.split('/').next().unwrap()) || (path.ends_with("/namespaces") && name == "istio-system/")
    });
    wanted
}

/// A list has what is in namespaces that are shared, all of it and nothing else.
fn lists_what_is_shared(mesh: &BedMesh, client: &RawClient, share: &Share) {
    for path in WATCHED {
        assert_eq!(names(&client.list(path), path), shown(mesh, path, share), "{path}");
    }
}

/// Of the namespaces that only west has, those of which a reader's istiod knows a service.
fn foreign(reader: BedCluster) -> Vec<&'static str> {
    let services: Value = reader.istiod("/debug/registryz").unwrap();
    let text = services.to_string();
    [OPEN, HIDDEN]
        .into_iter()
        .filter(|namespace| text.contains(&format!("\"a.{namespace}.svc.cluster.local\"")))
        .collect()
}
