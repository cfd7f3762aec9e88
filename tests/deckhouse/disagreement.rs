//! Several that read one peer: they have to read the same, or nothing of it is taken, and that is said.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::model::lock::Lock;
use isthmus::model::mesh::Mesh;
use isthmus::pipeline::observe::{Observation, Observed, PrivateReading};
use isthmus::pipeline::seen;
use isthmus::pipeline::{Input, Program};
use isthmus::types::explanation::Code;
use isthmus::wire::failure::Failure;
use isthmus::wire::metadata::{PrivateDocument, PublicDocument, Reading, Reported};
use isthmus::wire::seen::{PeerSeen, SeenDocument};
use serde_json::{Value, json};

use super::{DECK, DeclaredAs, NOW, deckhouse, east_private, east_public, name, spec};
use crate::bad::specs::source;
use crate::support::links::LinksCheckout;
use crate::support::peer::Ca;

const ENDPOINT: &str = "https://istio-metadata.deck.invalid/metadata";

/// East and north are ours, deck is not, and the engine reaches none of its documents.
fn mesh() -> Mesh {
    let text = spec(&DeclaredAs::External.document(ENDPOINT, &Ca::new("deck").pem));
    let (head, rest) = text.split_once("---\n").unwrap();
    let (east, deck) = rest.split_once("---\n").unwrap();
    let north = east.replace("east", "north").replace("127.0.0.9", "127.0.0.8");
    let text = [head, east, &north, deck].join("---\n");
    let input = Input { specs: vec![source("specs/mesh.yaml", text)], ..Input::default() };
    Program::load(&input, &|_| None).unwrap().mesh
}

/// What a relay is shown.
fn shown(edit: impl Fn(&mut Value, &mut Value)) -> PeerSeen {
    let deck = deckhouse(|| NOW);
    let (mut public, mut private) =
        (serde_json::from_str(&deck.public()).unwrap(), serde_json::from_str(&deck.private()).unwrap());
    edit(&mut public, &mut private);
    PeerSeen {
        endpoint: ENDPOINT.parse().unwrap(),
        cluster_uuid: Some(DECK.parse().unwrap()),
        public: SeenDocument::Read(public),
        private: SeenDocument::Read(private),
        age: 3,
    }
}

fn unreachable() -> Failure {
    Failure::NotReachable { url: ENDPOINT.to_owned(), problem: "refused".to_owned() }
}

/// Deck as it counts, where these relays were shown this and the engine read what it could.
fn taken(relays: &[(&str, PeerSeen)], own: Result<PublicDocument, Failure>) -> Observation {
    let mut clusters = BTreeMap::new();
    for reader in ["east", "north"] {
        let peers_seen = relays.iter().filter(|(name, _)| *name == reader).map(|(_, seen)| seen.to_value()).collect();
        let private = PrivateDocument { peers_seen, ..east_private() };
        clusters.insert(name(reader), Observation::own(Ok(east_public()), PrivateReading::Read(private)));
    }
    let private = if own.is_ok() { PrivateReading::Failed(unreachable()) } else { PrivateReading::NotAsked };
    clusters.insert(name("deck"), Observation::own(own, private));
    seen::take(&mesh(), &Lock::default(), Observed { clusters, ..Observed::default() })
        .clusters
        .remove(&name("deck"))
        .unwrap()
}

fn nothing(_: &mut Value, _: &mut Value) {}

#[test]
fn relays_that_read_the_same_are_one() {
    // what may change at any time is no difference
    let later = shown(|public, private| {
        public["crl"] = json!("");
        private["ambientGateways"] = json!([]);
    });
    let one = taken(&[("east", shown(nothing)), ("north", later)], Err(unreachable()));
    assert!(one.public.is_ok() && matches!(one.private, PrivateReading::Read(_)), "{one:?}");
    assert_eq!((one.read_by.public, one.read_by.private), (Some(name("east")), Some(name("east"))));
    // one that could not read is not asked for its view
    let silent =
        PeerSeen { public: SeenDocument::Failed(unreachable()), private: SeenDocument::NotAsked, ..shown(nothing) };
    let one = taken(&[("east", silent), ("north", shown(nothing))], Err(unreachable()));
    assert_eq!((one.read_by.public, one.read_by.private), (Some(name("north")), Some(name("north"))));
}

/// A peer of isthmus, which shows each cluster what concerns that cluster: so what one of them is shown says nothing of another.
#[test]
fn evidence_is_put_together_from_what_each_cluster_is_shown() {
    let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let evidence = |trusts: &[&str], reads: &[&str], prepared: bool| {
        let reads = reads.iter().map(|id| json!({ "clusterID": id, "state": "synced" })).collect::<Vec<_>>();
        let trusts = trusts.iter().map(|root| digest(root)).collect::<Vec<_>>();
        let (networks, routes) = (json!([]), json!([]));
        json!({ "trusts": trusts, "networks": networks, "reads": reads, "routes": routes, "prepared": prepared })
    };
    let shown_to = |relays: &[(&str, Value)]| {
        let seen = |evidence: &Value| shown(|_, private| private["evidence"] = evidence.clone());
        let relays: Vec<_> = relays.iter().map(|(reader, evidence)| (*reader, seen(evidence))).collect();
        let one = taken(&relays, Err(unreachable()));
        let PrivateReading::Read(document) = one.private else { panic!("{:?}", one.private) };
        document.evidence
    };
    let (to_east, to_north) = (evidence(&["a", "b"], &["east"], true), evidence(&["a", "c"], &["north"], true));
    for relays in
        [[("east", to_east.clone()), ("north", to_north.clone())], [("north", to_north), ("east", to_east.clone())]]
    {
        let all = shown_to(&relays).unwrap();
        let reads: BTreeSet<&str> = all.reads.seen().unwrap().iter().map(|read| read.cluster_id.as_str()).collect();
        assert_eq!(reads, BTreeSet::from(["east", "north"]));
        // a root that one of them made up is trusted by no one
        let trusts: Vec<String> = all.trusts.seen().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!((trusts, all.prepared.seen()), (vec![digest("a")], Some(&true)));
    }
    // what was shown to east alone says nothing of whether north is read
    let alone = shown_to(&[("east", to_east.clone())]).unwrap();
    let Reported::Unknown(reason) = &alone.reads else { panic!("{alone:?}") };
    assert!(reason.starts_with("the relay of `north` did not read it"), "{reason}");
    assert!(alone.routes.seen().is_none() && alone.networks.seen().is_none() && alone.credentials.seen().is_none());
    assert_eq!((alone.trusts.seen().map(BTreeSet::len), alone.prepared.seen()), (Some(2), Some(&true)));
    let differs = shown_to(&[("east", to_east.clone()), ("north", evidence(&[], &[], false))]).unwrap();
    assert_eq!((differs.trusts.seen().map(BTreeSet::len), differs.prepared.seen()), (Some(0), Some(&false)));
    assert_eq!(shown_to(&[("east", to_east), ("north", Value::Null)]), None);
}

#[test]
fn relays_that_read_different_things_are_believed_nothing() {
    type DocumentEdit = fn(&mut Value, &mut Value);
    let other_root = include_str!("../../fixtures/real/east/root-cert.pem");
    let publics: [(&str, DocumentEdit); 2] = [
        ("clusterUUID", |public, _| public["clusterUUID"] = json!("11111111-3a1e-4a43-8f0e-55d2f0c9b7aa")),
        ("authnKeyPub", |public, _| public["authnKeyPub"] = json!(east_public().authn_key.to_pem())),
    ];
    let privates: [(&str, DocumentEdit); 4] = [
        ("clusterID", |_, private| private["clusterID"] = json!("another")),
        ("networkName", |_, private| private["networkName"] = json!("network-other")),
        ("apiHost", |_, private| private["apiHost"] = json!("evil.example.com")),
        ("ingressGateways", |_, private| private["ingressGateways"][0]["address"] = json!("203.0.113.66")),
    ];
    let root = shown(|public, _| public["rootCA"] = json!(other_root));
    let publics = publics.map(|(field, edit)| (field, shown(edit))).into_iter().chain([("rootCA", root)]);
    for (field, other) in publics {
        for relays in [["east", "north"], ["north", "east"], ["east", "east"]] {
            let all = [(relays[0], shown(nothing)), (relays[1], other.clone())];
            let one = taken(&all, Err(unreachable()));
            let failure = one.public.unwrap_err();
            let text = failure.to_string();
            assert_eq!(failure.code(), Code::ReadingsDiffer, "{field}: {text}");
            assert!(
                text.contains(&format!("`{field}`")) && text.contains(&format!("relay of `{}`", relays[1])),
                "{text}"
            );
            assert!(!failure.is_waiting_before_first_contact(), "it is said from the first run on");
            assert_eq!((one.private, one.read_by.is_own()), (PrivateReading::NotAsked, true));
        }
    }
    for (field, edit) in privates {
        let one = taken(&[("east", shown(nothing)), ("north", shown(edit))], Err(unreachable()));
        let PrivateReading::Failed(failure) = one.private else { panic!("{field}: {:?}", one.private) };
        assert_eq!(failure.code(), Code::ReadingsDiffer);
        assert!(failure.to_string().contains(&format!("`{field}`")) && one.public.is_ok(), "{failure}");
    }
}

/// Whoever is shown another public document than the engine may be shown another private one.
#[test]
fn a_relay_that_reads_another_public_document_than_the_engine_is_believed_no_private_one() {
    let deck = deckhouse(|| NOW);
    let Reading::Complete(own) = PublicDocument::parse(deck.public().as_bytes()).unwrap() else { panic!() };
    let one = taken(&[("east", shown(nothing))], Ok(own.clone()));
    assert!(matches!(one.private, PrivateReading::Read(_)) && one.read_by.public.is_none());
    let other = shown(|public, _| public["authnKeyPub"] = json!(east_public().authn_key.to_pem()));
    let one = taken(&[("east", shown(nothing)), ("north", other)], Ok(own.clone()));
    let PrivateReading::Failed(failure) = one.private else { panic!("{:?}", one.private) };
    let text = failure.to_string();
    assert!(text.contains("the engine reads sha256:") && text.contains("the relay of `north` reads sha256:"), "{text}");
    assert_eq!(one.public.unwrap(), own, "its own reading stays");
}

/// Whoever accepts a trust change sees whose word it rests on.
#[test]
fn a_trust_change_names_the_cluster_whose_relay_read_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let site = LinksCheckout::new(runtime.handle());
    site.is_external("west");
    site.reads_metadata("east", "west", |_| ());
    site.checkout.engine(&["apply", "--create-keys"]).done();
    site.change("east", |shown| shown.private.peers_seen.clear());
    site.reads_metadata("east", "west", |private| private["apiHost"] = "api.moved.example.com".into());
    let text = site.checkout.engine(&["plan"]).stdout;
    let (_, change) = text.split_once("trust change of `west`").unwrap_or_else(|| panic!("{text}"));
    assert!(change.lines().nth(1).unwrap().ends_with("read by east"), "{text}");
    let document: Value = serde_json::from_str(&site.checkout.engine(&["plan", "--output", "json"]).stdout).unwrap();
    assert_eq!(document["trustChanges"][0]["readBy"], "east", "{document:#}");
    let markdown = site.checkout.engine(&["plan", "--output", "markdown"]).stdout;
    assert!(
        markdown.contains("\nread by `east`\n") && markdown.contains("discover-proxy/west: read by east"),
        "{markdown}"
    );
}
