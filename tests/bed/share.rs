//! What west shares is what east's istiod knows of it, and an edit of that is known within seconds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::mesh::{BedCluster, BedMesh};
use super::one_at_a_time;

/// How soon an edit is known once it is synced. Each time within two minutes that it is told to list again, istiod waits about
/// twice as long before it does, so of several edits in a row the last ones may take longer.
const SOON: Duration = Duration::from_secs(10);
const SOON_OF_MANY: Duration = Duration::from_secs(30);
/// Namespaces that only west has.
const OPEN: &str = "open";
const HIDDEN: &str = "hidden";

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
    let ours = ["shop", "istio-system"].join(", ");
    for (number, (edit, known)) in [
        (None, &[OPEN, HIDDEN][..]),
        (Some(format!("  share: {{namespaces: [{ours}, {OPEN}]}}\n")), &[OPEN]),
        (Some(format!("  share: {{namespaces: [{ours}, {OPEN}, \"hid*\"]}}\n")), &[OPEN, HIDDEN]),
        (Some(format!("  share: {{except: [kube-system, {HIDDEN}]}}\n")), &[OPEN]),
        (
            Some(format!("  share: {{namespaces: []}}\n  shareWith: {{east: {{namespaces: [{ours}, {HIDDEN}]}}}}\n")),
            &[HIDDEN],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        if let Some(edit) = edit {
            mesh.says("west", &edit);
            mesh.write_specs();
            mesh.reconcile();
            mesh.sync_all();
        }
        let begin = Instant::now();
        mesh.until("east to know what is shared", || {
            let found = foreign(east);
            if found == known { Ok(()) } else { Err(format!("east knows services of {found:?}, not of {known:?}")) }
        });
        eprintln!("bed: east knew what west shares ({known:?}) after {:?}", begin.elapsed());
        let limit = if number < 3 { SOON } else { SOON_OF_MANY };
        assert!(begin.elapsed() < limit, "{:?}", begin.elapsed());
        mesh.answers(east, west);
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
