//! The links with a Deckhouse, run by run, however it is declared: what it publishes comes through a relay alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use isthmus::cluster::fetch::{FetchLimits, Fetcher};
use isthmus::model::keyring::{KeyProblem, Keyring};
use isthmus::model::link::Link;
use isthmus::model::lock::{Lock, Stage};
use isthmus::model::trust::Approvals;
use isthmus::pipeline::accept::accept;
use isthmus::pipeline::advance::{LinkWait, Unproven};
use isthmus::pipeline::observe::signer::EngineSigner;
use isthmus::pipeline::observe::{Ask, Observation, Observed, PrivateReading, publics};
use isthmus::pipeline::plan::graph::Graph;
use isthmus::pipeline::seen;
use isthmus::pipeline::{FactSource, Input, Program, Request, Run, Until};
use isthmus::types::name::ClusterName;
use isthmus::types::step::{StepId, StepKind};
use isthmus::types::time::Timestamp;
use isthmus::types::token::Scope;
use isthmus::wire::failure::Failure;
use isthmus::wire::metadata::{
    CredentialUse, Evidence, LiveNetwork, LiveRoute, PrivateDocument, PublicDocument, Reported, RouteState,
};
use isthmus::wire::peers::PeersFile;
use isthmus::wire::routes::{RoutesFile, WantedMetadata};
use isthmus::wire::seen::{PeerSeen, SeenDocument};
use serde_json::Value;

use super::{DECK, DeclaredAs, NOW, deckhouse, east_key, east_private, east_public, east_uuid, name, spec};
use crate::bad::specs::source;
use crate::support::deckhouse::{Deckhouse, Shows};
use crate::support::peer::Ca;
use crate::support::road;

/// Of no use to the engine, which does not reach it.
const ENDPOINT: &str = "https://istio-metadata.deck.invalid/metadata";
/// What its network's name implies.
const DECK_ID: &str = "cluster-local-3413411223";

/// What the relay of east reads of deck with this key, for the UUID that `routes.json` names.
fn read_by_east(deck: &Deckhouse, named: Option<&str>) -> PeerSeen {
    let shows = *deck.shows.lock().unwrap();
    let failed = |path: &str| SeenDocument::Failed(Failure::Unavailable { url: format!("{ENDPOINT}/{path}") });
    let read = |text: String| SeenDocument::of(text.as_bytes()).unwrap();
    let token = super::mint(&east_key(), &east_uuid(), DECK, Scope::PrivateMulticluster);
    let private = match (named, deck.verdict(Some(&format!("Bearer {token}")), "private-multicluster")) {
        (Some(DECK), Ok(_)) => read(deck.private()),
        _ => SeenDocument::NotAsked,
    };
    let is_starting = shows == Shows::Starting;
    PeerSeen {
        endpoint: ENDPOINT.parse().unwrap(),
        cluster_uuid: named.map(|uuid| uuid.parse().unwrap()),
        public: if is_starting { failed("public/public.json") } else { read(deck.public()) },
        private: if is_starting { SeenDocument::NotAsked } else { private },
        age: 3,
    }
}

/// What east shows once everything of deck is live in it.
fn east_shows(deck: &Deckhouse, lock: &Lock) -> Evidence {
    let roots = |name: &str| lock.clusters[&super::name(name)].public.roots.iter().map(|root| root.digest);
    let private = lock.clusters[&name("deck")].private.clone().unwrap();
    // a stated network implies none
    let id = if private.network.as_str() == "network-deck" { "deck" } else { DECK_ID };
    let cluster_id = id.parse().unwrap();
    let route = LiveRoute { cluster_id, api_host: deck.api_host.parse().unwrap(), state: RouteState::Ok, reason: None };
    Evidence {
        trusts: Reported::Seen(roots("east").chain(roots("deck")).collect()),
        networks: Reported::Seen(vec![LiveNetwork {
            name: private.network.clone(),
            gateways: private.gateways.clone(),
        }]),
        reads: Reported::Seen(vec![]),
        routes: Reported::Seen(vec![route]),
        prepared: Reported::Seen(true),
        relay_token: Reported::Seen(false),
        writer: None,
        hand_over: None,
        credentials: Reported::Seen(vec![]),
        mesh_config: Reported::Unknown("not looked at".to_owned()),
        serial: Reported::Seen(0),
    }
}

/// A checkout of which every run is one step of the test.
pub(super) struct Runs {
    pub(super) deck: Arc<Deckhouse>,
    ca: Ca,
    text: String,
    lock: BTreeMap<String, Vec<u8>>,
    /// Whose metadata the routes of the last run name.
    named: Option<WantedMetadata>,
    /// Whether east shows what is live in it.
    evidence: bool,
    /// When the api-proxy of east last saw a token of deck, seconds.
    used: Option<i64>,
    now: Timestamp,
}

impl Runs {
    pub(super) fn new(declared: DeclaredAs, evidence: bool) -> Self {
        let ca = Ca::new("deck");
        let mut text = spec(&declared.document(ENDPOINT, &ca.pem));
        if !evidence {
            text = text.replace("  istio: {standard", "  evidence: none\n  istio: {standard");
        }
        Self {
            deck: deckhouse(|| NOW),
            ca,
            text,
            lock: BTreeMap::new(),
            named: None,
            evidence,
            used: Some(NOW.as_seconds() - 5),
            now: NOW,
        }
    }

    /// A run while deck shows this.
    pub(super) async fn run(&mut self, shows: Shows) -> Run {
        *self.deck.shows.lock().unwrap() = shows;
        let input = Input {
            specs: vec![source("specs/mesh.yaml", self.text.clone())],
            templates: vec![],
            lock: self.lock.clone(),
            inside: None,
        };
        let program = Program::load(&input, &|_| None).unwrap();
        // east is known by what it publishes, which is not fetched here
        let known = program.lock.clusters.get(&name("deck")).is_some_and(|deck| deck.private.is_some());
        let mut evidence = (self.evidence && known).then(|| east_shows(&self.deck, &program.lock));
        if let (Some(evidence), Some(_)) = (&mut evidence, self.used) {
            let key_id = self.deck.key.public().id();
            let used = CredentialUse { cluster_uuid: DECK.parse().unwrap(), key_id, last_used: self.used };
            evidence.credentials = Reported::Seen(vec![used]);
        }
        let uuid = |named: &WantedMetadata| named.cluster_uuid.as_ref().map(ToString::to_string);
        let seen = self.named.as_ref().map(|named| read_by_east(&self.deck, uuid(named).as_deref()).to_value());
        let private = PrivateDocument { evidence, peers_seen: seen.into_iter().collect(), ..east_private() };
        let public = PublicDocument { relay_ca: Some(self.ca.pem.clone()), ..east_public() };
        let east = Observation::own(Ok(public), PrivateReading::Read(private));
        let before = Observed { clusters: BTreeMap::from([(name("east"), east)]), ..Observed::default() };
        let (whom, fetcher) = (BTreeSet::from([name("deck")]), Fetcher::new(FetchLimits::default()));
        let fetcher = fetcher.with_lookup(Arc::new(|_| Box::pin(async { Ok(Vec::new()) })));
        let ask = Ask { whom: &whom, before: &before, fetcher: &fetcher, files: &|_| Ok(None), progress: &|_| {} };
        let asked = publics(&program.mesh, ask).await;
        let keyring = Keyring { engine: Err(KeyProblem::NoEngineKey) };
        let judged =
            accept(&program.mesh, &program.lock, &asked.observed(), &Approvals::default(), &BTreeSet::new(), self.now);
        let admitted =
            judged.assessments.iter().filter(|(_, assessment)| assessment.may_be_asked()).map(|(name, _)| name.clone());
        let signer = EngineSigner { mesh: &program.mesh, lock: &judged.lock, keyring: &keyring, clock: &|| self.now };
        let observed = seen::take(&program.mesh, &program.lock, asked.privates(&admitted.collect(), &signer).await);
        let (request, facts) = (Request::default(), FactSource::Stored(observed));
        let run = road::take(&program, &request, facts, Until::Rendered, &BTreeMap::new(), self.now);
        let accepted = run.decided.accepted.as_ref().unwrap();
        assert!(accepted.assessments.values().all(|one| !one.is_held_back()), "{shows:?}: {:?}", accepted.assessments);
        let files = run.decided.advanced.lock.to_files().unwrap();
        self.lock = files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
        self.named = data(&run, "isthmus-routes", "routes.json").map(|text| {
            let routes = RoutesFile::parse(text.as_bytes()).unwrap();
            assert_eq!(routes.of.as_ref().map(ToString::to_string), Some(east_uuid()));
            let [wanted] = &routes.metadata[..] else { panic!("{text}") };
            assert_eq!((wanted.endpoint.to_string(), wanted.ca.is_some()), (ENDPOINT.to_owned(), true));
            wanted.clone()
        });
        run
    }
}

/// A text of a ConfigMap of east.
pub(super) fn data(run: &Run, map: &str, key: &str) -> Option<String> {
    let objects = &run.rendered[&name("east")].objects;
    let object = objects.iter().find(|rendered| rendered.id().name == map && rendered.id().kind == "ConfigMap")?;
    Some(object.object().unwrap().fields["data"][key].as_str().unwrap().to_owned())
}

type LinkState = Option<(Stage, bool)>;

/// Stages of `east/deck` and `deck/east`, run by run, while deck shows this.
async fn stages(declared: DeclaredAs, evidence: bool, shows: [Shows; 6]) -> Vec<(LinkState, LinkState)> {
    let mut runs = Runs::new(declared, evidence);
    let mut stages = Vec::new();
    for shows in shows {
        let run = runs.run(shows).await;
        let after = &run.decided.advanced.lock;
        let stage =
            |reader: &str, peer: &str| after.link(&name(reader), &name(peer)).map(|link| (link.stage, link.unproven));
        stages.push((stage("east", "deck"), stage("deck", "east")));
        let secret = run.rendered[&name("east")].objects.iter().any(|one| one.id().name == "istio-remote-secret-deck");
        assert_eq!(secret, stages.last().unwrap().0.is_some_and(|(stage, _)| stage == Stage::Joined));
    }
    stages
}

#[tokio::test]
async fn links_with_it_join_however_it_is_declared_and_stay_joined_when_it_falls_silent() {
    let whole = [Shows::Whole, Shows::Whole, Shows::Whole, Shows::Whole, Shows::Absent, Shows::Starting];
    let joining = Some((Stage::Joining, false));
    for declared in DeclaredAs::ALL {
        for evidence in [true, false] {
            let stages = stages(declared, evidence, whole).await;
            let ours: Vec<LinkState> = stages.iter().map(|(ours, _)| *ours).collect();
            // nothing is known; its public document; its private one, and its own link is joined; ours, once it is seen to read
            let joined = Some((Stage::Joined, true));
            assert_eq!(ours, [None, joining, joining, joined, joined, joined], "{declared:?} {evidence}");
            let theirs: Vec<Option<Stage>> = stages.iter().map(|(_, theirs)| theirs.map(|(stage, _)| stage)).collect();
            assert_eq!(theirs[1..4], [Some(Stage::Joining), Some(Stage::Joined), Some(Stage::Joined)], "{declared:?}");
            // its own links are not ours to prove: the cluster itself writes their secrets
            assert_eq!(stages[5].1, Some((Stage::Joined, false)), "{declared:?} {evidence}");
        }
    }
}

#[tokio::test]
async fn a_link_with_it_waits_while_its_documents_are_empty_or_its_side_does_not_know_us() {
    let shows = [Shows::Starting, Shows::Empty, Shows::Whole, Shows::Absent, Shows::Empty, Shows::Whole];
    let stages = stages(DeclaredAs::External, true, shows).await;
    assert_eq!((stages[1].0, stages[2].0.map(|(stage, _)| stage)), (None, Some(Stage::Joining)));
    assert_eq!(stages[4].0, Some((Stage::Joining, false)));

    let mut runs = Runs::new(DeclaredAs::External, true);
    runs.deck.known.lock().unwrap().clear();
    for _ in 0..4 {
        let run = runs.run(Shows::Whole).await;
        assert!(run.decided.advanced.lock.clusters.get(&name("deck")).is_none_or(|deck| deck.private.is_none()));
    }
}

/// It shows no trust: so it reads first, and our side is joined last, when its token was seen here or `settle` is over.
#[tokio::test]
async fn our_link_to_it_is_joined_last() {
    for declared in DeclaredAs::ALL {
        let mut runs = Runs::new(declared, true);
        runs.used = None;
        let ours = |run: &Run| run.decided.advanced.lock.link(&name("east"), &name("deck")).cloned();
        let waits = |run: &Run| {
            let step = StepId::secret(&name("east"), &name("deck"));
            run.decided.advanced.waits.get(&step).cloned().unwrap_or_default()
        };
        for _ in 0..3 {
            runs.run(Shows::Whole).await;
        }
        let run = runs.run(Shows::Whole).await;
        let until = Some(NOW + Duration::from_hours(1));
        let reads = LinkWait::PeerReads { peer: name("deck"), reader: name("east"), until };
        assert_eq!((ours(&run).unwrap().stage, waits(&run)), (Stage::Joining, vec![reads.clone()]), "{declared:?}");
        // the time is counted from then on
        runs.now = NOW + Duration::from_mins(59);
        let run = runs.run(Shows::Whole).await;
        assert_eq!(waits(&run), [reads], "{declared:?}");
        let lock = runs.lock.clone();
        runs.used = Some(runs.now.as_seconds() - 5);
        let run = runs.run(Shows::Whole).await;
        assert_eq!(ours(&run).map(|link| (link.stage, link.unproven)), Some((Stage::Joined, true)), "{declared:?}");
        // or it never asks
        (runs.lock, runs.used, runs.now) = (lock, None, NOW + Duration::from_mins(61));
        let run = runs.run(Shows::Whole).await;
        let moved = run.decided.advanced.moves[&Link::new(&name("east"), &name("deck"))].clone();
        let warning = Unproven::NotSeenToRead { peer: name("deck"), reader: name("east") };
        assert!(moved.unproven.contains(&warning) && moved.to == Some(Stage::Joined), "{declared:?}: {moved:?}");
        assert_eq!(ours(&run).unwrap().since, None, "it is over");
    }
}

/// The step that tells it who reads comes before the secret in the graph, and only where there is such a step.
#[tokio::test]
async fn the_graph_has_its_reading_before_ours() {
    let mut runs = Runs::new(DeclaredAs::Deckhouse, true);
    for _ in 0..2 {
        runs.run(Shows::Whole).await;
    }
    let input = Input {
        specs: vec![source("specs/mesh.yaml", runs.text.clone())],
        templates: vec![],
        lock: runs.lock.clone(),
        inside: None,
    };
    let program = Program::load(&input, &|_| None).unwrap();
    let graph = Graph::build(&program.mesh, &program.lock, None).unwrap();
    let (shown, secret) =
        (StepId::of(StepKind::ExchangeKeys, &name("deck")), StepId::secret(&name("east"), &name("deck")));
    assert!(graph.edges().any(|edge| edge == (&shown, &secret)));
}

/// What its module takes for granted of everyone that reads it.
#[tokio::test]
async fn its_entry_admits_its_long_tokens_and_names_its_namespace_without_a_word_in_the_spec() {
    for declared in DeclaredAs::ALL {
        let mut runs = Runs::new(declared, true);
        runs.run(Shows::Whole).await;
        let run = runs.run(Shows::Whole).await;
        let peers = PeersFile::parse(data(&run, "isthmus-peers", "peers.json").unwrap().as_bytes()).unwrap();
        let deck = &peers.peers[0];
        let namespace = deck.istio_namespace.as_ref().map(ToString::to_string);
        assert_eq!(namespace.as_deref(), Some("d8-istio"), "{declared:?}");
        let lifetime = isthmus::types::token::MAX_DECKHOUSE_API_LIFETIME;
        assert_eq!(deck.max_token_lifetime, Some(lifetime), "{declared:?}");
    }
}

/// A token is made only for a UUID that was accepted and that whoever answers shows.
#[tokio::test]
async fn the_routes_name_its_uuid_when_its_public_document_is_accepted() {
    let mut runs = Runs::new(DeclaredAs::OfDeckhouse, true);
    runs.run(Shows::Whole).await;
    assert_eq!(runs.named.as_ref().unwrap().cluster_uuid, None, "known by its endpoint alone");
    let run = runs.run(Shows::Whole).await;
    assert_eq!(runs.named.as_ref().unwrap().cluster_uuid.as_ref().unwrap().as_str(), DECK);
    let assessment = &run.decided.accepted.as_ref().unwrap().assessments[&name("deck")];
    assert_eq!(assessment.read_by.public.as_ref().map(ClusterName::as_str), Some("east"));
    assert_eq!(assessment.read_by.private, None);
    let run = runs.run(Shows::Whole).await;
    let assessment = &run.decided.accepted.as_ref().unwrap().assessments[&name("deck")];
    assert_eq!(assessment.read_by.private.as_ref().map(ClusterName::as_str), Some("east"));
}

/// An upgrade that publishes the ID which its network's name implies changes nothing; one that publishes another is asked about.
#[tokio::test]
async fn a_cluster_id_that_it_begins_to_publish_is_the_one_that_was_implied() {
    let mut runs = Runs::new(DeclaredAs::External, true);
    for shows in [Shows::Whole; 4] {
        runs.run(shows).await;
    }
    let run = runs.run(Shows::Upgraded).await;
    let deck = &run.decided.advanced.lock.clusters[&name("deck")];
    assert_eq!(deck.private.as_ref().unwrap().cluster_id.as_ref().unwrap().as_str(), DECK_ID);
    assert!(run.decided.accepted.as_ref().unwrap().trust_changes.is_empty());
    let link = run.decided.advanced.lock.link(&name("east"), &name("deck")).unwrap();
    assert_eq!(link.stage, Stage::Joined);
}

/// Its ambient mode, which publishes no gateway that a sidecar reaches.
#[tokio::test]
async fn its_ambient_mode_is_named_and_waited_for() {
    let mut runs = Runs::new(DeclaredAs::External, true);
    for shows in [Shows::Ambient; 2] {
        runs.run(shows).await;
    }
    let run = runs.run(Shows::Ambient).await;
    let state = &run.decided.accepted.as_ref().unwrap().assessments[&name("deck")].private;
    let message = state.explanations().remove(0).to_string();
    assert!(message.starts_with("an east-west gateway: it publishes those of ambient mode alone"), "{message}");
}

/// Its network does not fit a label of ours, so it waits, with words, until the spec states another name. Gateways are taken as DNS
/// takes them.
#[tokio::test]
async fn a_network_that_is_too_long_is_stated_and_a_rooted_gateway_is_taken() {
    let mut runs = Runs::new(DeclaredAs::External, true);
    let at = runs.text.rfind("  allow:").unwrap();
    let allow = "  allow: {addresses: [127.0.0.0/8, \"2001:db8::/32\"], apiHosts: [\"*.deck.example.com\"]}\n";
    runs.text.replace_range(at.., allow);
    let mut run = runs.run(Shows::LongNetwork).await;
    for _ in 0..2 {
        run = runs.run(Shows::LongNetwork).await;
    }
    let state = &run.decided.accepted.as_ref().unwrap().assessments[&name("deck")].private;
    let message = state.explanations().remove(0).to_string();
    assert!(
        message.contains("networkName: expected") && message.contains("state `network` in its Cluster"),
        "{message}"
    );
    runs.text = runs.text.replace("  reconciler: external\n", "  reconciler: external\n  network: network-deck\n");
    for _ in 0..3 {
        run = runs.run(Shows::LongNetwork).await;
    }
    let lock = &run.decided.advanced.lock;
    assert_eq!(lock.link(&name("east"), &name("deck")).map(|link| link.stage), Some(Stage::Joined));
    let networks = data(&run, "isthmus-mesh", "meshNetworks").unwrap();
    assert!(networks.contains("network-deck:"), "{networks}");
    let gateways = lock.clusters[&name("deck")].private.as_ref().unwrap().gateways.iter().map(ToString::to_string);
    assert_eq!(gateways.collect::<Vec<_>>(), ["[2001:db8::7]:15443", "ew.deck.example.com:15443"]);
}

/// What its module reads of us: the CA of our api-proxy, too, where a public one vouches for the exporter, in the fields of its CRD.
#[tokio::test]
async fn what_is_rendered_for_it_has_the_ca_of_the_api_proxy_in_the_fields_of_its_crd() {
    let spec_of = async |edit: &dyn Fn(String) -> String| -> Value {
        let mut runs = Runs::new(DeclaredAs::Deckhouse, true);
        runs.text = edit(runs.text);
        runs.run(Shows::Whole).await;
        let run = runs.run(Shows::Whole).await;
        let objects = &run.rendered[&name("deck")].objects;
        let object = objects.iter().find(|one| one.id().kind == "IstioMulticluster").unwrap();
        object.object().unwrap().fields["spec"].clone()
    };
    let current = spec_of(&|text| text).await;
    assert_eq!(current["metadataEndpoint"], "https://127.0.0.9/metadata");
    // the exporter's own CA is a public one, and the lock knows the other
    let ca = current["metadata"]["ca"].as_str().unwrap();
    assert_eq!(Some(ca), east_private().api_ca.as_deref());
    assert_eq!(current["metadata"].get("endpoint"), None);
    let old = |text: String| text.replace("    ca:\n      inline", "    crd: v1alpha1-old\n    ca:\n      inline");
    let old = spec_of(&old).await;
    assert_eq!((&old["metadata"]["endpoint"], old.get("metadataEndpoint")), (&current["metadataEndpoint"], None));
    assert_eq!(old["metadata"]["ca"], current["metadata"]["ca"]);
    let port = |text: String| text.replace("https://127.0.0.9/metadata", "https://127.0.0.9:8443/metadata");
    assert_eq!(spec_of(&port).await["metadataEndpoint"], "https://127.0.0.9:8443/metadata");
}

/// Documents as its users have stored them, by any revision of its CRD.
#[test]
fn its_stored_documents_are_read_by_every_shape_of_its_crd() {
    let ca = Ca::new("deck").pem.trim_end().replace('\n', "\n      ");
    let head = "apiVersion: deckhouse.io/v1alpha1\nkind: IstioMulticluster\nmetadata:\n  name: deck\n  labels: {heritage: x}\n";
    for shape in [
        format!("  metadataEndpoint: {ENDPOINT}/\n"),
        format!(
            "  metadataEndpoint: {ENDPOINT}\n  enableIngressGateway: true\n  metadata:\n    insecureSkipVerify: false\n"
        ),
        format!("  metadata:\n    endpoint: {ENDPOINT}\n    ca: |\n      {ca}\n"),
    ] {
        for port in ["", ":8443"] {
            let at = |text: &str| text.replace("deck.invalid", &format!("deck.invalid{port}"));
            let text = spec(&format!("{head}spec:\n{}", at(&shape)));
            let input = Input { specs: vec![source("specs/mesh.yaml", text)], ..Input::default() };
            let program = Program::load(&input, &|_| None).unwrap();
            assert_eq!(program.mesh.clusters[&name("deck")].endpoint.to_string(), at(ENDPOINT), "{shape}");
        }
    }
}

/// A token of its that our api-proxy saw a short while ago: its istiod reads us still, whatever `settle` says.
#[tokio::test]
async fn trust_stays_while_it_is_seen_to_ask() {
    let mut runs = Runs::new(DeclaredAs::Deckhouse, true);
    for shows in [Shows::Whole; 4] {
        runs.run(shows).await;
    }
    runs.text = runs.text.replace(
        "kind: Cluster\nmetadata: {name: deck}\nspec:\n",
        "kind: Cluster\nmetadata: {name: deck}\nspec:\n  state: leaving\n  settle: 0s\n",
    );
    let stage = |run: &Run| run.decided.advanced.lock.link(&name("deck"), &name("east")).map(|link| link.stage);
    runs.used = Some(NOW.as_seconds() - 60);
    for _ in 0..4 {
        let run = runs.run(Shows::Whole).await;
        assert_eq!(stage(&run), Some(Stage::Leaving));
    }
    runs.used = Some(NOW.as_seconds() - 3600);
    let run = runs.run(Shows::Whole).await;
    assert_eq!(stage(&run), Some(Stage::LeavingTrust));
}
