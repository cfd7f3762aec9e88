//! What a run observes: in which order, of whom, with which token, and at what cost where peers are dead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use isthmus::checkout::{CheckoutError, Left};
use isthmus::cluster::fetch::{FetchLimits, Fetcher};
use isthmus::model::keyring::{KeyProblem, Keyring};
use isthmus::model::lock::{Lock, LockedPublic};
use isthmus::model::mesh::Mesh;
use isthmus::model::trust::Approvals;
use isthmus::pipeline::accept::accept;
use isthmus::pipeline::compile::load;
use isthmus::pipeline::observe::signer::{EngineSigner, Signer};
use isthmus::pipeline::observe::{
    Ask, DocumentDone, Failure, Observation, Observed, PrivateReading, Publics, ReadFile, everybody, publics,
};
use isthmus::types::diagnostic::render;
use isthmus::types::key::PrivateKey;
use isthmus::types::name::{ClusterName, ClusterUuid};
use isthmus::types::time::Timestamp;
use isthmus::types::token::Token;
use isthmus::wire::metadata::{Evidence, PrivateDocument, PublicDocument, Reading};
use serde_json::{Value, json};

use crate::bad::specs::source;
use crate::fetch::to;
use crate::support::checkout::Checkout;
use crate::support::peer::{self, Ca, Peer};
use crate::support::road::observe;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const EAST: &str = include_str!("../fixtures/real/east/metadata/public/public.json");
const EAST_PRIVATE: &str = include_str!("../fixtures/real/east/metadata/private/multicluster.json");
const WEST_PRIVATE: &str = include_str!("../fixtures/real/west/metadata/private/multicluster.json");
const WEST: &str = include_str!("../fixtures/real/west/metadata/public/public.json");

fn limits() -> FetchLimits {
    FetchLimits { connect: Duration::from_millis(700), ..FetchLimits::default() }
}

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

/// A mesh of clusters, each with further lines of its spec.
fn mesh(clusters: &[(&str, String)], ca: &str) -> Mesh {
    let mut text =
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n"
            .to_owned();
    for (name, spec) in clusters {
        let head = "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\n";
        write!(text, "{head}metadata: {{name: {name}}}\nspec:\n{spec}").unwrap();
    }
    match load(&[source("specs/mesh.yaml", text)], "0.1.0", &|_| Some(ca.as_bytes().to_vec())) {
        Ok((mesh, _)) => mesh,
        Err(findings) => panic!("{}", render(&findings)),
    }
}

fn spec(kind: &str, endpoint: &str, more: &str) -> String {
    let rendered = "  multicluster: {image: example.com/isthmus:0.1.0, apiHost: api.example.com}\n";
    let components = if kind == "rendered" { rendered } else { "" };
    let ca = if endpoint.starts_with("https") { ", ca: {file: ca.pem}" } else { "" };
    format!(
        "  reconciler: {kind}\n{components}  metadata: {{endpoint: '{endpoint}'{ca}}}\n  allow: {{addresses: [127.0.0.0/8]}}\n{more}"
    )
}

fn public(text: &str) -> PublicDocument {
    match PublicDocument::parse(text.as_bytes()).unwrap() {
        Reading::Complete(document) => document,
        Reading::Incomplete(fields) => panic!("{fields:?}"),
    }
}

/// The lock after a first contact with these public documents.
fn lock(mesh: &Mesh, documents: &[(&str, &str)]) -> Lock {
    let observation = |text| Observation::own(Ok(public(text)), PrivateReading::NotAsked);
    let clusters = documents.iter().map(|(cluster, text)| (name(cluster), observation(text))).collect();
    let accepted = accept(
        mesh,
        &Lock::default(),
        &Observed { clusters, ..Observed::default() },
        &Approvals::default(),
        &BTreeSet::new(),
        NOW,
    );
    assert_eq!(accepted.lock.clusters.len(), documents.len(), "{:?}", accepted.assessments);
    accepted.lock
}

/// The judge that the pipeline uses.
fn judge_by<'a>(mesh: &'a Mesh, lock: &'a Lock) -> impl Fn(&Publics) -> BTreeSet<ClusterName> + Sync + 'a {
    move |publics| {
        let observation =
            |public: &Result<PublicDocument, Failure>| Observation::own(public.clone(), PrivateReading::NotAsked);
        let clusters = publics.iter().map(|(name, public)| (name.clone(), observation(public))).collect();
        let accepted = accept(
            mesh,
            lock,
            &Observed { clusters, ..Observed::default() },
            &Approvals::default(),
            &BTreeSet::new(),
            NOW,
        );
        accepted
            .assessments
            .into_iter()
            .filter(|(_, assessment)| assessment.may_be_asked())
            .map(|(name, _)| name)
            .collect()
    }
}

fn signer<'a>(mesh: &'a Mesh, lock: &Lock, engine: bool) -> EngineSigner<'a> {
    let lock: &'static Lock = Box::leak(Box::new(lock.clone()));
    let key = |seed| PrivateKey::generate(&[seed; 32]).unwrap();
    let engine = engine.then(|| ("ci".parse().unwrap(), key(1))).ok_or(KeyProblem::NoEngineKey);
    let keyring: &'static Keyring = Box::leak(Box::new(Keyring { engine }));
    EngineSigner { mesh, lock, keyring, clock: &|| NOW }
}

const QUIET: &(dyn Fn(DocumentDone<'_>) + Sync) = &|_| {};
const NO_FILES: ReadFile<'static> = &|path| panic!("{path}");

/// Header and claims of a token, unverified.
fn opened(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut next = || serde_json::from_slice(&parts.next().unwrap()).unwrap_or_default();
    (next(), next())
}

fn token_of(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "))
}

/// Answers with the two documents.
fn documents(public: String, private: String) -> impl Fn(&str) -> Vec<peer::PeerStep> + Send + Sync {
    move |head| peer::json(if head.contains("public.json") { &public } else { &private })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_healthy_clusters_do_not_wait_for_twenty_dead_ones_one_by_one() {
    let ca = Ca::new("mesh");
    let serving = ca.serving(&["*.healthy.example"]);
    let peer = Peer::start(&serving, |head| {
        // each cluster its own UUID, from the number in its host
        let number: u32 = head.split("host: m").nth(1).unwrap()[..3].parse().unwrap();
        let mut document: Value = serde_json::from_str(EAST).unwrap();
        document["clusterUUID"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
        peer::json(if head.contains("public.json") { document.to_string() } else { EAST_PRIVATE.to_owned() })
    })
    .await;
    // connected by the kernel, and never a word
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let healthy = (0..100).map(|n| (n, format!("m{n:03}.healthy.example:{}", peer.address.port())));
    let dead = (100..120).map(|n| (n, format!("m{n:03}.dead.example:{}", mute.local_addr().unwrap().port())));
    let names: Vec<(String, String)> =
        healthy.chain(dead).map(|(n, host)| (format!("c{:03}", (n * 37) % 120), host)).collect();
    let clusters: Vec<(&str, String)> = names
        .iter()
        .map(|(name, host)| (name.as_str(), spec("external", &format!("https://{host}/metadata"), "")))
        .collect();
    let reader = ("reader", spec("rendered", "file://metadata/reader", ""));
    let mesh = mesh(&[clusters, vec![reader]].concat(), &ca.pem);
    let lock = lock(&mesh, &[("reader", WEST)]);
    let fetcher = Fetcher::new(limits()).with_lookup(to(&["127.0.0.1"]));
    let all = |publics: &Publics| publics.keys().cloned().collect::<BTreeSet<_>>();
    let heard = Mutex::new(BTreeMap::<&str, usize>::new());
    let progress = |progress: DocumentDone<'_>| *heard.lock().unwrap().entry(progress.document).or_default() += 1;
    let signer = signer(&mesh, &lock, true);
    let begun = Instant::now();
    let observed = observe(&mesh, &fetcher, &|_| Ok(None), &all, &signer, &progress).await;
    let took = begun.elapsed();
    assert_eq!(observed.clusters.len(), 121);
    for (name, host) in &names {
        let Observation { public, private, .. } = &observed.clusters[name.as_str()];
        if host.contains("healthy") {
            let number = host[1..4].parse::<u32>().unwrap();
            assert!(public.as_ref().unwrap().cluster_uuid.as_str().ends_with(&format!("{number:012}")));
            assert!(matches!(private, PrivateReading::Read(_)), "{private:?}");
        } else {
            assert!(matches!(public, Err(Failure::NotReachable { .. })), "{public:?}");
            assert_eq!(private, &PrivateReading::NotAsked);
        }
    }
    // twenty time-outs in a row would be 14 s
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert!(peer.connections() <= 200, "both documents over one connection, most times: {}", peer.connections());
    let heard = heard.into_inner().unwrap();
    assert_eq!((heard["public/public.json"], heard["private/multicluster.json"]), (121, 100));
    // what was observed can be stored
    let stored = serde_json::to_string(&observed).unwrap();
    assert_eq!(serde_json::from_str::<Observed>(&stored).unwrap(), observed);
}

#[tokio::test]
async fn no_more_peers_than_the_limit_are_asked_at_a_time() {
    let ca = Ca::new("mesh");
    let peer = Peer::start(&ca.serving(&["*.peers.example"]), |_| {
        std::thread::sleep(Duration::from_millis(5));
        peer::answer("404 Not Found", "connection: close\r\n", "").into_iter().chain([peer::PeerStep::End]).collect()
    })
    .await;
    let hosts: Vec<String> = (0..12).map(|n| format!("https://m{n}.peers.example:{}", peer.address.port())).collect();
    let names: Vec<String> = (0..12).map(|n| format!("c{n}")).collect();
    let clusters: Vec<_> =
        names.iter().zip(&hosts).map(|(name, host)| (name.as_str(), spec("rendered", host, ""))).collect();
    let mesh = mesh(&clusters, &ca.pem);
    let fetcher = Fetcher::new(FetchLimits { at_once: 3, ..limits() }).with_lookup(to(&["127.0.0.1"]));
    let lock = Lock::default();
    let observed = observe(&mesh, &fetcher, NO_FILES, &|_| BTreeSet::new(), &signer(&mesh, &lock, true), QUIET).await;
    assert!(observed.clusters.values().all(|one| matches!(one.public, Err(Failure::NotFound { .. }))), "{observed:?}");
    assert!((2..=3).contains(&peer.most_open()), "{}", peer.most_open());
}

#[tokio::test]
async fn a_token_is_minted_for_the_pinned_uuid_alone() {
    let ca = Ca::new("mesh");
    let serving = ca.serving(&["127.0.0.1"]);
    let itself = Peer::start(&serving, documents(EAST.to_owned(), EAST_PRIVATE.to_owned())).await;
    let mut changed: Value = serde_json::from_str(EAST).unwrap();
    changed["clusterUUID"] = json!("00000000-0000-4000-8000-000000000001");
    let another = Peer::start(&serving, documents(changed.to_string(), EAST_PRIVATE.to_owned())).await;
    for (peer, is_east) in [(&itself, true), (&another, false)] {
        let endpoint = format!("https://127.0.0.1:{}/metadata", peer.address.port());
        let mesh = mesh(&[("east", spec("rendered", &endpoint, ""))], &ca.pem);
        let lock = lock(&mesh, &[("east", EAST)]);
        let signer = signer(&mesh, &lock, true);
        let fetcher = Fetcher::new(limits());
        let judge = judge_by(&mesh, &lock);
        let observed = observe(&mesh, &fetcher, NO_FILES, &judge, &signer, QUIET).await;
        let east = &observed.clusters["east"];
        let requests = peer.requests();
        if is_east {
            assert!(matches!(east.private, PrivateReading::Read(_)), "{east:?}");
            let (header, mut claims) = opened(token_of(&requests[1]).unwrap());
            assert_eq!(header, json!({ "alg": "EdDSA", "kid": "ci" }));
            // another for each request, so that none is a replay of another's
            let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
            assert_eq!(id.as_str().unwrap().len(), 32);
            let uuid = public(EAST).cluster_uuid.to_string();
            let expected = json!({ "aud": uuid, "exp": NOW + Duration::from_secs(55), "iss": "d8-istio", "nbf": NOW - Duration::from_secs(5),
                "scope": "private-multicluster", "sub": uuid });
            assert_eq!(claims, expected);
        } else {
            assert_eq!(east.private, PrivateReading::HeldBack);
            assert_eq!(requests.len(), 1, "the private document was asked for");
            assert!(requests.iter().all(|head| token_of(head).is_none()));
        }
    }
}

#[tokio::test]
async fn each_cluster_keeps_its_own_failure() {
    let ca = Ca::new("mesh");
    let serving = ca.serving(&["*.peers.example"]);
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    let twice = EAST.replacen('{', "{\"clusterUUID\":\"00000000-0000-4000-8000-000000000001\",", 1);
    let weak = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
    let with = |field: &str, value: Value| {
        let mut document: Value = serde_json::from_str(EAST).unwrap();
        document[field] = value;
        document.to_string()
    };
    let table: Vec<(&str, String, &str)> = vec![
        ("good", EAST.to_owned(), ""),
        ("deep", deep, "recursion"),
        ("twice", twice, "duplicate key"),
        ("cut", EAST[..EAST.len() / 2].to_owned(), "EOF"),
        ("trailing", format!("{EAST} {{}}"), "trailing"),
        ("bom", format!("\u{feff}{EAST}"), "not JSON"),
        ("html", "<html><title>Log in</title></html>".to_owned(), "not JSON"),
        ("empty", with("rootCA", json!("")), "its document lacks `rootCA`"),
        ("weak", with("authnKeyPub", json!(weak)), "weak key"),
        ("uuid", with("clusterUUID", json!("../../etc")), "clusterUUID"),
        (
            "error",
            json!({ "error": "no such tenant" }).to_string(),
            "its document lacks `clusterUUID`, `authnKeyPub`, `rootCA`",
        ),
    ];
    let bodies: BTreeMap<String, String> =
        table.iter().map(|(name, body, _)| ((*name).to_owned(), body.clone())).collect();
    let peer = Peer::start(&serving, move |head| {
        let host = head.split("host: ").nth(1).unwrap().split('.').next().unwrap();
        peer::json(if head.contains("public.json") { &bodies[host] } else { EAST_PRIVATE })
    })
    .await;
    let port = peer.address.port();
    let clusters: Vec<_> = table
        .iter()
        .map(|(name, ..)| (*name, spec("rendered", &format!("https://{name}.peers.example:{port}"), "")))
        .collect();
    let mesh = mesh(&clusters, &ca.pem);
    let lock = Lock::default();
    let fetcher = Fetcher::new(limits()).with_lookup(to(&["127.0.0.1"]));
    let judge = judge_by(&mesh, &lock);
    let observed = observe(&mesh, &fetcher, NO_FILES, &judge, &signer(&mesh, &lock, true), QUIET).await;
    for (name, _, expected) in &table {
        let one = &observed.clusters[*name];
        match &one.public {
            Ok(_) => assert!(expected.is_empty() && matches!(one.private, PrivateReading::Read(_)), "{name}: {one:?}"),
            Err(failure) => {
                assert!(!expected.is_empty() && failure.to_string().contains(expected), "{name}: {failure}");
                assert_eq!(failure.is_waiting_before_first_contact(), expected.contains("lacks"), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_folder_is_read_without_a_token_and_its_evidence_is_ignored() {
    let Reading::Complete(mut private) = PrivateDocument::parse(EAST_PRIVATE.as_bytes()).unwrap() else { panic!() };
    private.evidence = Some(Evidence::unknown("whatever"));
    let folder = |path: &str| format!("file://{path}");
    let clusters =
        ["east", "half", "huge", "sick"].map(|name| (name, spec("external", &folder(&format!("metadata/{name}")), "")));
    let mesh = mesh(&clusters, "");
    let files = |path: &str| match path {
        "metadata/east/public/public.json" | "metadata/half/public/public.json" => Ok(Some(EAST.into())),
        "metadata/east/private/multicluster.json" => Ok(Some(private.to_json().into_bytes())),
        "metadata/huge/public/public.json" => Ok(Some(vec![b' '; 1024 * 1024 + 1])),
        "metadata/sick/public/public.json" => Err(CheckoutError::Io {
            action: "read",
            path: path.to_owned(),
            cause: std::io::ErrorKind::PermissionDenied.into(),
            left: Left::Untouched,
        }),
        _ => Ok(None),
    };
    let lock = Lock::default();
    let all = |publics: &Publics| publics.keys().cloned().collect::<BTreeSet<_>>();
    let fetcher = Fetcher::new(limits());
    let observed = observe(&mesh, &fetcher, &files, &all, &signer(&mesh, &lock, false), QUIET).await;
    private.evidence = None;
    assert_eq!(observed.clusters["east"].private, PrivateReading::Read(private));
    let missing = Failure::FileMissing { path: "metadata/half/private/multicluster.json".to_owned() };
    assert_eq!(observed.clusters["half"].private, PrivateReading::Failed(missing));
    assert!(matches!(observed.clusters["huge"].public, Err(Failure::TooLarge { .. })));
    let sick = observed.clusters["sick"].public.as_ref().unwrap_err().to_string();
    assert!(sick.contains("metadata/sick/public/public.json") && sick.contains("permission denied"), "{sick}");
}

#[tokio::test]
async fn a_paused_cluster_is_not_contacted_and_a_leaving_one_is() {
    let ca = Ca::new("mesh");
    let peer =
        Peer::start(&ca.serving(&["*.peers.example"]), documents(EAST.to_owned(), EAST_PRIVATE.to_owned())).await;
    let at = |name: &str| format!("https://{name}.peers.example:{}", peer.address.port());
    let clusters = [
        ("east", spec("rendered", &at("east"), "  state: leaving\n")),
        ("west", spec("rendered", &at("west"), "  state: paused\n")),
    ];
    let mesh = mesh(&clusters, &ca.pem);
    let lock = lock_of_east(&ca);
    let fetcher = Fetcher::new(limits()).with_lookup(to(&["127.0.0.1"]));
    let judge = judge_by(&mesh, &lock);
    let observed = observe(&mesh, &fetcher, NO_FILES, &judge, &signer(&mesh, &lock, false), QUIET).await;
    assert_eq!(observed.clusters.keys().map(ClusterName::as_str).collect::<Vec<_>>(), ["east"]);
    assert_eq!(observed.clusters["east"].private, PrivateReading::NoKey(KeyProblem::NoEngineKey));
    assert!(peer.requests().iter().all(|head| head.contains("host: east.peers.example")));
}

fn lock_of_east(ca: &Ca) -> Lock {
    let mesh = mesh(&[("east", spec("rendered", "https://east.example", ""))], &ca.pem);
    lock(&mesh, &[("east", EAST)])
}

#[test]
fn the_engine_speaks_in_the_name_that_the_callee_knows() {
    let https = |name: &str| format!("https://{name}.example");
    let clusters = [
        ("aaa", spec("rendered", &https("aaa"), "")),
        ("deck", spec("deckhouse", &https("deck"), "")),
        ("east", spec("rendered", &https("east"), "")),
        ("other", spec("external", &https("other"), "")),
        ("west", spec("rendered", &https("west"), "")),
    ];
    let mesh = mesh(&clusters, &Ca::new("mesh").pem);
    // `aaa` is not known yet, so `east` is the first reader
    let lock = lock(&mesh, &[("east", EAST), ("west", WEST)]);
    let east = public(EAST).cluster_uuid;
    let callee: ClusterUuid = "00000000-0000-4000-8000-0000000000ff".parse().unwrap();
    let who = |signer: &EngineSigner<'_>, name: &str| {
        let token: Result<Token, KeyProblem> = signer.token(&mesh.clusters[name], &callee);
        token.map(|token| {
            let (header, claims) = opened(token.expose());
            assert_eq!(claims["aud"], callee.as_str());
            (claims["sub"].as_str().unwrap().to_owned(), header["kid"].as_str().map(str::to_owned))
        })
    };
    let with = |name: &ClusterUuid, kid: Option<&str>| Ok((name.to_string(), kid.map(str::to_owned)));
    let full = signer(&mesh, &lock, true);
    assert_eq!(who(&full, "aaa"), with(&callee, Some("ci")));
    assert_eq!(who(&full, "other"), with(&east, Some("ci")));
    // no key of the engine opens it, whoever declares it how
    assert_eq!(who(&full, "deck"), Err(KeyProblem::OnlyClusterKeys { peer: name("deck") }));
    let mut shown = lock.clusters["west"].clone();
    shown.public = LockedPublic {
        authn_keys: BTreeMap::new(),
        mesh_id: None,
        trust_domain: None,
        cluster_domain: None,
        serving_ca: None,
        relay_ca: None,
        istio: None,
        ..shown.public
    };
    let mut like_deckhouse = lock.clone();
    like_deckhouse.clusters.insert(name("other"), shown);
    let other = who(&signer(&mesh, &like_deckhouse, true), "other");
    assert_eq!(other, Err(KeyProblem::OnlyClusterKeys { peer: name("other") }));
    let keyless = signer(&mesh, &lock, false);
    assert_eq!(who(&keyless, "aaa"), Err(KeyProblem::NoEngineKey));
    assert_eq!(who(&keyless, "deck"), Err(KeyProblem::OnlyClusterKeys { peer: name("deck") }));
    let empty = Lock::default();
    let unread = who(&signer(&mesh, &empty, true), "other");
    assert_eq!(unread, Err(KeyProblem::NoReader { peer: name("other") }));
}

#[test]
fn observing_can_be_a_task_of_its_own() {
    fn sent<T: Send>(_: &T) {}
    let mesh = mesh(&[("east", spec("external", "file://metadata/east", ""))], "");
    let (lock, fetcher) = (Lock::default(), Fetcher::new(limits()));
    let signer = signer(&mesh, &lock, false);
    sent(&observe(&mesh, &fetcher, NO_FILES, &|_| BTreeSet::new(), &signer, QUIET));
}

#[tokio::test]
async fn a_reader_that_was_accepted_in_this_run_already_lends_its_name() {
    let ca = Ca::new("mesh");
    let peer = Peer::start(&ca.serving(&["*.peers.example"]), |head| {
        let public = if head.contains("host: east") { EAST } else { WEST };
        peer::json(if head.contains("public.json") { public } else { EAST_PRIVATE })
    })
    .await;
    let at = |name: &str| format!("https://{name}.peers.example:{}", peer.address.port());
    let clusters = [("east", spec("rendered", &at("east"), "")), ("other", spec("external", &at("other"), ""))];
    let mesh = mesh(&clusters, &ca.pem);
    let fetcher = Fetcher::new(limits()).with_lookup(to(&["127.0.0.1"]));
    let (whom, before) = (everybody(&mesh), Observed::default());
    let ask = Ask { whom: &whom, before: &before, fetcher: &fetcher, files: NO_FILES, progress: QUIET };
    let asked = publics(&mesh, ask).await;
    // what was accepted of the public documents is what the signer knows
    let judged = lock(&mesh, &[("east", EAST), ("other", WEST)]);
    let observed = asked.privates(&whom, &signer(&mesh, &judged, true)).await;
    assert!(matches!(observed.clusters["other"].private, PrivateReading::Read(_)), "{observed:?}");
    let heads = peer.requests();
    let to_other = heads.iter().filter(|head| head.contains("host: other")).find_map(|head| token_of(head)).unwrap();
    assert_eq!(opened(to_other).1["sub"], public(EAST).cluster_uuid.as_str());
    assert_eq!(opened(to_other).1["aud"], public(WEST).cluster_uuid.as_str());
}

/// What the spec states stands for what a document lacks, be it absent, null or empty.
#[test]
fn a_stated_value_completes_a_document() {
    let published = || serde_json::from_str::<Value>(WEST_PRIVATE).unwrap();
    let lacking = |field: &str, value: Option<Value>| {
        let mut document = published();
        match value {
            Some(value) => document[field] = value,
            None => drop(document.as_object_mut().unwrap().remove(field)),
        }
        document.to_string()
    };
    let stated = [
        ("ingressGateways", "  gateways: [{address: ew.west.example.com, port: 15443}]\n", "`gateways`"),
        ("networkName", "  network: inner\n", "`network`"),
        ("apiHost", "  api: {host: api.west.example.com}\n", "`api.host`"),
    ];
    for (field, line, setting) in stated {
        for value in [None, Some(Value::Null), Some(if field == "ingressGateways" { json!([]) } else { json!("") })] {
            let checkout = Checkout::new();
            checkout.write("metadata/west/private/multicluster.json", lacking(field, value.clone()).as_bytes());
            let spec = |more: &str| {
                let head = "apiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {name: west}\nspec:\n";
                let end = "  reconciler: external\n  metadata: {endpoint: \"file://metadata/west\"}\n";
                checkout.write("specs/west.yaml", format!("{head}{end}{more}").as_bytes());
            };
            let mesh = String::from_utf8(std::fs::read(checkout.path("specs/mesh.yaml")).unwrap()).unwrap();
            let (mesh, _) = mesh.rsplit_once("---\n").unwrap();
            checkout.write("specs/mesh.yaml", mesh.as_bytes());
            spec("");
            let plan = checkout.engine(&["plan", "-v"]).done();
            assert!(plan.contains("waits for") && plan.contains(setting), "{field} {value:?}\n{plan}");
            spec(line);
            for _ in 0..4 {
                checkout.engine(&["apply"]).done();
            }
            let secret = checkout.path("rendered/east/secret-istio-remote-secret-west.yaml");
            assert!(secret.exists(), "{field} {value:?}\n{}", checkout.engine(&["plan", "-v"]));
        }
    }
}

/// Two sites with one inner range, whose gateways are to be reached at one address.
#[test]
fn networks_whose_gateways_are_at_one_address_are_warned_of() {
    let checkout = Checkout::new();
    let gateway = json!([{ "address": "10.9.8.7", "port": 15443 }]);
    for cluster in ["east", "west"] {
        let path = format!("metadata/{cluster}/private/multicluster.json");
        let mut document: Value = serde_json::from_slice(&std::fs::read(checkout.path(&path)).unwrap()).unwrap();
        document["ingressGateways"] = gateway.clone();
        checkout.write(&path, document.to_string().as_bytes());
        let endpoint = format!("{{endpoint: \"file://metadata/{cluster}\"}}");
        checkout.edit("specs/mesh.yaml", &endpoint, &format!("{endpoint}, allow: {{addresses: [10.0.0.0/8]}}"));
    }
    let warns = |arguments: &[&str]| {
        let ran = checkout.engine(arguments);
        let expected = "`east` and `west` have different networks and the same gateway 10.9.8.7:15443";
        (ran.says(expected) && ran.says("state in `gateways` of each Cluster"), ran)
    };
    checkout.engine(&["apply"]).done();
    let (warned, ran) = warns(&["plan"]);
    assert!(warned, "{ran}");
    let (warned, ran) = warns(&["plan", "--locked"]);
    assert!(warned, "{ran}");
    // what a spec states is what counts
    let stated =
        "gateways: [{address: ew.west.example.com, port: 15443}], metadata: {endpoint: \"file://metadata/west\"}";
    checkout.edit(
        "specs/mesh.yaml",
        "metadata: {endpoint: \"file://metadata/west\"}, allow: {addresses: [10.0.0.0/8]}",
        stated,
    );
    checkout.edit("metadata/west/private/multicluster.json", "10.9.8.7", "203.0.113.99");
    checkout.engine(&["apply"]).done();
    let (warned, ran) = warns(&["plan"]);
    assert!(!warned, "{ran}");
}

#[test]
fn newer_fields_of_deckhouse_are_kept_where_they_are_understood_and_break_nothing() {
    let checkout = Checkout::joined();
    let (public, private) = ("metadata/east/public/public.json", "metadata/east/private/multicluster.json");
    let with = |path: &str, field: &str, value: serde_json::Value| {
        let mut document: serde_json::Value =
            serde_json::from_slice(&std::fs::read(checkout.path(path)).unwrap()).unwrap();
        document[field] = value;
        checkout.write(path, document.to_string().as_bytes());
    };
    let locked = || {
        checkout.engine(&["apply"]).done();
        let text = std::fs::read_to_string(checkout.path("lock/clusters/east.yaml")).unwrap();
        (text.contains("X509 CRL"), text.contains("ambientGateways"), text.matches("192.0.2.").count())
    };
    let serials = || std::fs::read_to_string(checkout.path("rendered/east/configmap-isthmus-peers.yaml")).unwrap();
    assert_eq!(locked(), (false, false, 0));
    let before = serials();
    let crl = "issued by me\n-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n";
    with(public, "crl", crl.into());
    let gateway = |address: &str, port: u32| serde_json::json!({ "address": address, "port": port, "later": true });
    let gateways = [gateway("192.0.2.2", 15008), gateway("gw.example.com", 15008), gateway("192.0.2.3", 99_999)];
    with(private, "ambientGateways", gateways.to_vec().into());
    with(private, "laterField", serde_json::json!({ "any": [1] }));
    with(public, "laterField", serde_json::json!(null));
    assert_eq!(locked(), (true, true, 1));
    checkout.shows(&["plan", "--detailed-exitcode"], 0, &["No changes"]);
    // no one uses them yet, so nothing else changes
    assert_eq!(serials(), before);
    // what is not understood, or too long, is none
    for other in [
        serde_json::json!("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
        serde_json::json!(["a"]),
        "x".repeat(70_000).into(),
    ] {
        with(public, "crl", other);
        with(private, "ambientGateways", vec![gateway("192.0.2.2", 15008); 65].into());
        assert_eq!(locked(), (false, false, 0));
        with(public, "crl", crl.into());
        with(private, "ambientGateways", "none".into());
        assert_eq!(locked(), (true, false, 0));
    }
}
