//! What the relay reads of peers for the engine: whom, with which token, from which addresses, and what it shows of it.

use std::time::{Duration, Instant};

use isthmus::roles::relay::RelayOptions;
use isthmus::wire::failure::Failure;
use isthmus::wire::seen::{PeerSeen, SeenDocument};
use serde_json::{Value, json};

use super::east::EastRelay;
use super::{DECK, deckhouse, east_uuid, unix_time};
use crate::support::deckhouse::{Shows, serve};
use crate::support::peer::{Ca, answer};

const OTHER: &str = "11111111-3a1e-4a43-8f0e-55d2f0c9b7aa";

impl EastRelay {
    fn wants(&self, metadata: &Value) {
        let routes = json!({ "version": 1, "clusterUUID": east_uuid(), "metadata": metadata, "routes": [] });
        self.routes(&routes.to_string());
    }

    async fn until(&self, what: &str, holds: impl Fn(&[PeerSeen]) -> bool) -> Vec<PeerSeen> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            let seen = self.seen();
            if holds(&seen) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: {:?}", self.seen());
    }
}

#[tokio::test]
async fn it_reads_what_its_routes_name_and_makes_a_token_for_the_named_uuid_alone() {
    let (deck, ca) = (deckhouse(unix_time), Ca::new("deck"));
    let exporter = serve(&ca, deck.exporter()).await;
    let relay = EastRelay::start(RelayOptions::default()).await;
    deck.known.lock().unwrap().insert(east_uuid(), relay.key.clone());
    assert_eq!(relay.seen(), [], "nothing is named");
    let endpoint = format!("https://{}/metadata", exporter.address);
    let wanted = |uuid: Option<&str>| json!([{ "endpoint": endpoint, "clusterUUID": uuid, "ca": ca.pem, "allow": ["127.0.0.0/8"] }]);
    let asked = || exporter.requests().iter().filter(|head| head.contains("multicluster.json")).count();

    // no one accepted it yet
    relay.wants(&wanted(None));
    let seen = relay.until("the public document", |seen| seen.iter().any(|one| one.public.read().is_some())).await;
    assert_eq!((&seen[0].private, seen[0].cluster_uuid.as_ref(), asked()), (&SeenDocument::NotAsked, None, 0));
    assert_eq!(seen[0].public.read().unwrap()["clusterUUID"], DECK);

    // another answers in its place
    relay.wants(&wanted(Some(OTHER)));
    let seen = relay.until("another UUID", |seen| seen.iter().any(|one| one.cluster_uuid.is_some())).await;
    assert_eq!((&seen[0].private, asked()), (&SeenDocument::NotAsked, 0));

    relay.wants(&wanted(Some(DECK)));
    let seen = relay.until("the private document", |seen| seen.iter().any(|one| one.private.read().is_some())).await;
    assert_eq!(seen[0].private.read().unwrap()["apiHost"], "istio-api.deck.example.com");
    assert_eq!(asked(), 1);

    // what is no longer named is forgotten
    relay.wants(&json!([]));
    relay.until("nothing", <[PeerSeen]>::is_empty).await;
}

#[tokio::test]
async fn what_it_could_not_read_is_a_reason_and_no_document() {
    let (deck, ca) = (deckhouse(unix_time), Ca::new("deck"));
    let exporter = serve(&ca, deck.exporter()).await;
    let elsewhere = serve(&ca, |_| answer("302 Found", "location: https://169.254.169.254/\r\n", "")).await;
    let relay = EastRelay::start(RelayOptions::default()).await;
    let peer = |address: std::net::SocketAddr, allow: &str| json!({ "endpoint": format!("https://{address}/metadata"), "clusterUUID": DECK, "ca": ca.pem, "allow": [allow] });
    relay.wants(&json!([peer(exporter.address, "127.0.0.0/8"), peer(elsewhere.address, "127.0.0.0/8")]));
    let seen = relay.until("both", |seen| seen.len() == 2).await;
    let of = |address: std::net::SocketAddr| {
        seen.iter().find(|one| one.endpoint.to_string().contains(&address.to_string())).unwrap()
    };
    // it does not know east's key
    let refused = &of(exporter.address).private;
    assert!(matches!(refused, SeenDocument::Failed(Failure::Unauthorized { status: 401, .. })), "{refused:?}");
    let redirected = &of(elsewhere.address).public;
    assert!(matches!(redirected, SeenDocument::Failed(Failure::Redirect { .. })), "{redirected:?}");
    assert_eq!(of(elsewhere.address).private, SeenDocument::NotAsked);

    *deck.shows.lock().unwrap() = Shows::Starting;
    relay.wants(&json!([peer(exporter.address, "127.0.0.0/9")]));
    let seen = relay.until("503", |seen| seen.len() == 1).await;
    assert!(matches!(seen[0].public, SeenDocument::Failed(Failure::Unavailable { .. })), "{:?}", seen[0].public);
}

/// A wide range that a peer's spec allows does not open the cluster's own pods to it.
#[tokio::test]
async fn addresses_of_its_own_cluster_are_dialled_only_where_an_inside_one_is_allowed_by_name() {
    let cluster_cidrs = vec!["10.0.0.0/8".parse().unwrap()];
    let relay = EastRelay::start(RelayOptions { cluster_cidrs, ..RelayOptions::default() }).await;
    let peer = |host: &str, allow: &[&str]| json!({ "endpoint": format!("https://{host}/metadata"), "allow": allow });
    relay.wants(&json!([
        peer("10.96.0.1", &[]),
        peer("10.96.0.2", &["10.0.0.0/8", "192.168.0.0/16"]),
        peer("127.0.0.1:9", &[]),
        peer("192.0.2.1", &["198.51.100.0/24"]),
    ]));
    let seen = relay.until("all", |seen| seen.len() == 4).await;
    let why = |host: &str| {
        let one = seen.iter().find(|one| one.endpoint.to_string().contains(host)).unwrap();
        let SeenDocument::Failed(Failure::Outside { why, .. }) = &one.public else { panic!("{:?}", one.public) };
        why.clone()
    };
    assert_eq!(why("10.96.0.1"), "an address of the cluster that reads it");
    assert_eq!(why("10.96.0.2"), "an address of the cluster that reads it");
    assert!(why("127.0.0.1").starts_with("an inside address"));
    assert_eq!(why("192.0.2.1"), "outside `allow.addresses`");
}
