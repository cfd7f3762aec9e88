//! What the exporter asks of its apiserver, and what it leaves alone.

use isthmus::roles::exporter::{ExporterOptions, MAX_AGE};
use isthmus::types::address::Gateway;
use serde_json::{Value, json};

use super::sources::{NS, SourcesWorld, istiod_spec, pod, seen};
use crate::support::kube::METADATA_ALONE;

fn proxy(switch: &str) -> Value {
    json!({"containers": [{"name": "istio-proxy", "env": [{"name": "PROXY_CONFIG_XDS_AGENT", "value": switch}]}]})
}

fn is_prepared(world: &SourcesWorld) -> Option<bool> {
    seen(world)?.prepared.seen().copied()
}

/// How often pods of all namespaces were listed by their metadata, and those that were read whole.
fn lists(world: &SourcesWorld) -> (usize, Vec<String>) {
    let asked = world.kube.asked().into_iter();
    let of_all: Vec<_> = asked.filter(|asked| asked.contains("/pods?") && !asked.contains("labelSelector")).collect();
    let (metadata, whole): (Vec<_>, Vec<_>) = of_all.into_iter().partition(|asked| asked.ends_with(METADATA_ALONE));
    (metadata.len(), whole)
}

#[tokio::test]
async fn each_pod_is_read_once_and_counted_by_its_metadata_from_then_on() {
    let mut world = SourcesWorld::new().await;
    world.kube.put("pods", pod("istiod-0", &json!({"app": "istiod"}), &istiod_spec(), "127.0.0.1"));
    for number in 0..30 {
        world.kube.put("pods", pod(&format!("shop-{number}"), &json!({}), &proxy("true"), "10.0.0.1"));
    }
    world.kube.put("pods", pod("old", &json!({}), &proxy("false"), "10.0.0.2"));
    // evidence that ages fast is gathered fast
    world.begin_as(std::time::Duration::from_secs(2), ExporterOptions::default()).await;
    world.until("one proxy awaits its restart", |world| is_prepared(world) == Some(false)).await;
    world.until("counts", |world| lists(world).0 > 3).await;
    let (_, whole) = lists(&world);
    assert_eq!(whole.len(), 1, "many are read by one list: {whole:?}");
    // started anew: another pod of the same name
    world.kube.delete("pods", NS, "old");
    world.kube.put("pods", pod("old", &json!({}), &proxy("true"), "10.0.0.2"));
    world.until("it takes foreign roots", |world| is_prepared(world) == Some(true)).await;
    let (_, whole) = lists(&world);
    assert_eq!(whole.len(), 2, "{whole:?}");
    assert!(whole[1].starts_with("/api/v1/namespaces/istio-system/pods?") && whole[1].contains("metadata.name%3Dold"));
}

#[tokio::test]
async fn services_and_nodes_are_left_alone_where_gateways_and_network_are_stated() {
    let mut world = SourcesWorld::new().await;
    // as the rights are that are rendered then
    world.kube.refuse("/api/v1/services");
    world.kube.refuse("/api/v1/nodes");
    let stated = ExporterOptions {
        gateways: vec![Gateway::new("203.0.113.9", 15443).unwrap()],
        network: Some("network-stated".parse().unwrap()),
        ..ExporterOptions::default()
    };
    world.begin_as(MAX_AGE, stated).await;
    world.until("all is published", |world| world.health.is_ready()).await;
    let private = world.private();
    assert_eq!(private.ingress_gateways.iter().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.9:15443"]);
    assert_eq!(private.network_name.as_str(), "network-stated");
    let asked = world.kube.asked();
    assert!(!asked.iter().any(|asked| asked.contains("/services") || asked.contains("/nodes")), "{asked:?}");
}
