//! A checkout without keys of clusters joins a Deckhouse: the relay of east reads it, east's exporter shows it, the binary judges it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use isthmus::roles::exporter::{CollectedEvidence, Exporter, Gathered, Published};
use isthmus::roles::relay::RelayOptions;
use isthmus::server::Running;
use isthmus::types::certificate::parse_roots_any_time;
use isthmus::types::name::ClusterId;
use isthmus::wire::metadata::{
    AuthnKey, CredentialUse, Evidence, LiveNetwork, LiveRoute, PublicDocument, Reported, RouteState, StandardMeshConfig,
};
use isthmus::wire::peers::PeersFile;
use isthmus::wire::seen::{PeerSeen, SeenDocument};
use serde_json::{Value, json};

use super::east::{EastRelay, published, served};
use super::{DECK, DeclaredAs, deckhouse, east_private, east_public, east_uuid, spec, unix_time};
use crate::support::checkout::Checkout;
use crate::support::deckhouse::{Deckhouse, Shows, serve};
use crate::support::environment::TestEnvironment;
use crate::support::peer::{Ca, Peer};

/// East as it runs, and deck, which only east can open.
struct ThroughWorld {
    checkout: Checkout,
    relay: EastRelay,
    exporter: Arc<Exporter>,
    deck: Arc<Deckhouse>,
    deck_exporter: Peer,
    /// Whether deck asks the api-proxy of east no more.
    quiet: AtomicBool,
    _running: Running,
}

impl ThroughWorld {
    async fn new() -> Self {
        let deck = deckhouse(unix_time);
        let deck_ca = Ca::new("deck");
        let deck_exporter = serve(&deck_ca, deck.exporter()).await;
        let relay = EastRelay::start(RelayOptions::default()).await;
        let relay_key = relay.key.clone();
        deck.known.lock().unwrap().clear();
        let nothing = Published {
            public: Ok(PublicDocument {
                authn_key: relay_key.clone(),
                authn_keys: vec![AuthnKey {
                    id: relay_key.id(),
                    pem: relay_key.clone(),
                    scopes: isthmus::types::token::Scope::ALL.into(),
                }],
                relay_ca: Some(relay.ca.clone()),
                ..east_public()
            }),
            evidence: Gathered::NotYet,
            peers: Ok(PeersFile::empty()),
            ..published(&deck)
        };
        let exporter = Arc::new(Exporter::new("/metadata", nothing, unix_time));
        let ca = Ca::new("east");
        let (running, address) = served(&ca, exporter.clone()).await;
        let checkout = Checkout::in_environment(TestEnvironment::new().real_time());
        let endpoint = format!("https://{}/metadata", deck_exporter.address);
        let text = spec(&DeclaredAs::External.document(&endpoint, &deck_ca.pem));
        let ca = ca.pem.trim_end().replace('\n', "\n        ");
        let own =
            format!("metadata:\n    endpoint: https://{address}/metadata\n    ca:\n      inline: |\n        {ca}");
        checkout.write(
            "specs/mesh.yaml",
            text.replace("metadata: {endpoint: \"https://127.0.0.9/metadata\"}", &own).as_bytes(),
        );
        Self { checkout, relay, exporter, deck, deck_exporter, quiet: AtomicBool::new(false), _running: running }
    }

    /// Takes what is rendered for east into it, and waits until its relay and its exporter follow.
    async fn sync(&self) {
        let file = |name: &str, key: &str| -> Option<String> {
            let text =
                std::fs::read_to_string(self.checkout.path(&format!("rendered/east/configmap-{name}.yaml"))).ok()?;
            let object: Value = serde_saphyr::from_str(&text).unwrap();
            Some(object["data"][key].as_str().unwrap().to_owned())
        };
        let routes = file("isthmus-routes", "routes.json");
        if let Some(routes) = &routes {
            self.relay.routes(routes);
        }
        let wanted: Value = routes.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let ids = wanted["routes"].as_array().into_iter().flatten().map(|route| route["clusterID"].as_str().unwrap());
        let wanted_routes: Vec<ClusterId> = ids.map(|id| id.parse().unwrap()).collect();
        let wanted = wanted["metadata"][0].clone();
        let begun = Instant::now();
        let is_admitted = self.deck.known.lock().unwrap().contains_key(&east_uuid());
        while !wanted.is_null() && begun.elapsed() < Duration::from_secs(30) {
            let seen = self.relay.seen();
            let is_there = |one: &PeerSeen| {
                let is_named = one.cluster_uuid.as_ref().map(ToString::to_string)
                    == wanted["clusterUUID"].as_str().map(str::to_owned);
                is_named && (wanted["clusterUUID"].is_null() || !is_admitted || one.private.read().is_some())
            };
            if seen.iter().any(is_there) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let peers = file("isthmus-peers", "peers.json").map(|text| PeersFile::parse(text.as_bytes()).unwrap());
        let serial = peers.as_ref().map(|peers| peers.serial).unwrap_or_default();
        let routes = wanted_routes.into_iter().map(|cluster_id| LiveRoute {
            cluster_id,
            api_host: self.deck.api_host.parse().unwrap(),
            state: RouteState::Ok,
            reason: None,
        });
        let evidence = Evidence { routes: Reported::Seen(routes.collect()), ..self.evidence(serial) };
        let mut collected = CollectedEvidence::at(Instant::now(), evidence, BTreeMap::new());
        collected.peers_seen = self.relay.seen().into_iter().map(|seen| self.read_again(seen)).collect();
        self.exporter.change(|current| {
            current.evidence = Gathered::Collected(Arc::new(collected));
            current.peers = Ok(peers.unwrap_or_else(PeersFile::empty));
        });
    }

    /// What the relay reads in its next round, half a minute later.
    fn read_again(&self, seen: PeerSeen) -> PeerSeen {
        match seen.private {
            SeenDocument::Read(_) => {
                PeerSeen { private: SeenDocument::of(self.deck.private().as_bytes()).unwrap(), ..seen }
            }
            SeenDocument::NotAsked | SeenDocument::Failed(_) => seen,
        }
    }

    /// Everything that is rendered is live.
    fn evidence(&self, serial: u64) -> Evidence {
        let roots = [east_public().root_ca, self.deck.root.clone()];
        let roots = roots.iter().flat_map(|pem| parse_roots_any_time(pem).unwrap()).map(|root| root.digest);
        let gateway = isthmus::types::address::Gateway::new("203.0.113.40", 15443).unwrap();
        let network = "network-cluster-local-3413411223".parse().unwrap();
        Evidence {
            trusts: Reported::Seen(roots.collect::<BTreeSet<_>>()),
            networks: Reported::Seen(vec![LiveNetwork { name: network, gateways: vec![gateway] }]),
            reads: Reported::Seen(Vec::new()),
            routes: Reported::Seen(Vec::new()),
            prepared: Reported::Seen(true),
            relay_token: Reported::Seen(false),
            writer: None,
            hand_over: None,
            credentials: Reported::Seen(self.asked().into_iter().collect()),
            mesh_config: Reported::Seen(StandardMeshConfig::default()),
            serial: Reported::Seen(serial),
        }
    }

    /// Once deck knows east it asks the api-proxy of east each minute.
    fn asked(&self) -> Option<CredentialUse> {
        let knows = self.deck.known.lock().unwrap().contains_key(&east_uuid());
        let last_used = Some(unix_time().as_seconds());
        let asks = knows && !self.quiet.load(Ordering::Relaxed);
        asks.then(|| CredentialUse {
            cluster_uuid: DECK.parse().unwrap(),
            key_id: self.deck.key.public().id(),
            last_used,
        })
    }

    async fn apply(&self) -> String {
        let ran = tokio::task::block_in_place(|| self.checkout.engine(&["apply", "--yes", "--create-keys"]));
        assert_eq!(ran.code, 0, "{ran}");
        self.sync().await;
        ran.stdout
    }

    fn has(&self, file: &str) -> bool {
        self.checkout.path(file).exists()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_without_keys_of_clusters_joins_it() {
    let world = ThroughWorld::new().await;
    let mut texts = Vec::new();
    for _ in 0..3 {
        texts.push(world.apply().await);
    }
    let routes = std::fs::read_to_string(world.checkout.path("rendered/east/configmap-isthmus-routes.yaml")).unwrap();
    assert!(routes.contains(&format!("\"clusterUUID\":\"{DECK}\"")), "{routes}");
    // its side has not declared east yet
    let waits = world.apply().await;
    let refused =
        "does not admit the key of `east`, with which its relay reads it (status 401); declare `east` on its side";
    assert!(waits.contains(refused), "{waits}");
    world.deck.known.lock().unwrap().insert(east_uuid(), world.relay.key.clone());
    world.sync().await;
    let mut all = String::new();
    for _ in 0..4 {
        all.push_str(&world.apply().await);
    }
    assert!(world.has("rendered/east/secret-istio-remote-secret-deck.yaml"), "{all}");
    assert!(all.contains("read by east"), "{all}");
    assert!(all.contains("unproven"), "{all}");
    let plan = tokio::task::block_in_place(|| world.checkout.engine(&["plan", "--output", "json"])).done();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let step = |name: &str| plan["steps"].as_array().unwrap().iter().find(|one| one["step"] == name).unwrap().clone();
    assert_eq!(step("discover-proxy/deck")["readBy"], "east");
    assert_eq!(step("fetch-ca/deck").get("readBy"), None, "the engine reaches that itself");
    let status = tokio::task::block_in_place(|| world.checkout.engine(&["status", "--output", "json"])).done();
    let status: Value = serde_json::from_str(&status).unwrap();
    let link = status["links"].as_array().unwrap().iter().find(|link| link["reader"] == "east").unwrap();
    assert_eq!(link["peerReadBy"], json!({ "public": null, "private": "east" }));
    let keys = std::fs::read_dir(world.checkout.path("keys")).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(keys.filter(|file| file != ".gitignore").collect::<Vec<_>>(), ["engine.key"]);
    // no key of the engine was shown to it, and every private reading was opened by east's
    let heads = world.deck_exporter.requests();
    let private = heads.iter().filter(|head| head.contains("multicluster.json"));
    assert!(
        private.clone().count() > 0 && private.clone().all(|head| head.contains("authorization: Bearer ")),
        "{heads:?}"
    );
    let kid = world.relay.key.id().to_string();
    assert!(private.clone().all(|head| header_of(head).contains(&kid)), "{heads:?}");
}

/// An upgrade that publishes another ID than the name of its network implied is asked about. Once it is accepted, the link leaves and
/// joins anew: no secret changes in place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_id_than_the_implied_one_leaves_and_joins() {
    let world = ThroughWorld::new().await;
    world.deck.known.lock().unwrap().insert(east_uuid(), world.relay.key.clone());
    let secret = || {
        let path = world.checkout.path("rendered/east/secret-istio-remote-secret-deck.yaml");
        let text = std::fs::read_to_string(path).ok()?;
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        Some(object["metadata"]["annotations"]["networking.istio.io/cluster"].as_str().unwrap().to_owned())
    };
    for _ in 0..8 {
        world.apply().await;
    }
    assert_eq!(secret().as_deref(), Some("cluster-local-3413411223"));
    world.checkout.edit("specs/mesh.yaml", "  reconciler: external\n", "  reconciler: external\n  settle: 0s\n");
    *world.deck.shows.lock().unwrap() = Shows::OtherId;
    world.sync().await;
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| world.checkout.engine(arguments));
    let held = run(&["plan"]);
    assert_eq!(held.code, 4, "{held}");
    let top = "Review first\n! trust change of `deck`: held back\n    read by east\n    cluster ID of `deck`\n      - cluster-local-3413411223\n      + deck-of-today\n";
    assert!(held.stdout.contains(top) && held.stdout.contains("Plan: 0 to create, 0 to update, 0 to delete"), "{held}");
    let mut ids = vec![secret()];
    let mut step = async |arguments: &[&str]| {
        let ran = run(&[&["apply", "--yes", "--allow-delete"], arguments].concat());
        assert_eq!(ran.code, 0, "{ran}");
        ids.push(secret());
        world.sync().await;
        ran.stdout
    };
    let accepted = step(&["--accept-trust", "deck"]).await;
    for top in [
        "- 2 links close now\n    `deck` changes clusterID from `cluster-local-3413411223` to `deck-of-today`",
        "~ 2 links leave and join anew",
    ] {
        assert!(accepted.contains(top), "{accepted}");
    }
    // as long as deck is seen to ask it keeps its root
    for _ in 0..3 {
        step(&[]).await;
    }
    world.quiet.store(true, Ordering::Relaxed);
    world.sync().await;
    for _ in 0..6 {
        step(&[]).await;
    }
    ids.dedup();
    assert_eq!(ids, [Some("cluster-local-3413411223".to_owned()), None, Some("deck-of-today".to_owned())]);
}

/// Each command of docs/deckhouse.md, in its order, with what the page says beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_on_deckhouse_is_what_happens() {
    let world = ThroughWorld::new().await;
    let page = include_str!("../../docs/deckhouse.md");
    let commands: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("$ engine ")).collect();
    let run = |arguments: &[&str]| {
        let ran = tokio::task::block_in_place(|| world.checkout.engine(arguments));
        assert_eq!(ran.code, 0, "{arguments:?}: {ran}");
        ran.stdout
    };
    let mut last = String::new();
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        match arguments[0] {
            "apply" if arguments.len() > 1 => {
                for _ in 0..4 {
                    last = run(&arguments);
                    world.sync().await;
                }
                assert!(last.contains("does not admit the key of `east`") && last.contains("(status 401)"), "{last}");
            }
            "apply" => {
                last.push_str(&run(&arguments));
                world.sync().await;
            }
            "invite" => {
                // not every revision of its CRD admits a port
                let spec = std::fs::read_to_string(world.checkout.path("specs/mesh.yaml")).unwrap();
                let own = spec.lines().find(|line| line.contains("endpoint: https://127")).unwrap().trim().to_owned();
                world.checkout.edit(
                    "specs/mesh.yaml",
                    &own,
                    "endpoint: https://istio-metadata.east.example.com/metadata",
                );
                let document = run(&arguments);
                world.checkout.edit(
                    "specs/mesh.yaml",
                    "endpoint: https://istio-metadata.east.example.com/metadata",
                    &own,
                );
                assert!(document.contains("apiVersion: deckhouse.io/v1alpha1\nkind: IstioMulticluster"), "{document}");
                let api_ca = east_private().api_ca.unwrap();
                let line = api_ca.lines().nth(1).unwrap();
                assert!(document.contains(line), "the CA of the api-proxy: {document}");
                // its user applies it, and its exporter knows east within a minute
                world.deck.known.lock().unwrap().insert(east_uuid(), world.relay.key.clone());
                world.sync().await;
            }
            "status" => {
                let status = run(&arguments);
                assert!(status.contains("joined") && status.contains("unproven"), "{status}");
                let ours = status.lines().find(|line| line.starts_with("east ")).unwrap();
                assert!(ours.contains("public engine, private relay of east"), "{status}");
                assert!(last.contains("read by east"), "{last}");
            }
            other => panic!("no one tries `engine {other}`"),
        }
    }
    assert!(world.has("rendered/east/secret-istio-remote-secret-deck.yaml"), "{last}");
}

/// The header of a request's token.
fn header_of(head: &str) -> String {
    use base64::Engine as _;
    let token = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap();
    let header = token.split('.').next().unwrap();
    String::from_utf8(base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}
