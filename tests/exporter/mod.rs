//! What the metadata-exporter answers: complete or 503, uniform 401, and to each reader the evidence about itself.

mod ages;
mod asked;
mod evidence;
mod first_collection;
mod secure;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use isthmus::cluster::unread::Unread;
use isthmus::roles::exporter::reasons::DocumentError;
use isthmus::roles::exporter::{Audit, CollectedEvidence, Gathered, Moment, Published, PublishedAnswers, Relation};
use isthmus::types::key::{KeyId, PrivateKey};
use isthmus::types::name::{ClusterUuid, Digest};
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Claims, ISSUER, Rejected, Scope, mint};
use isthmus::wire::metadata::{
    AuthnKey, CredentialUse, Evidence, LiveNetwork, LiveRoute, PrivateDocument, PublicDocument, Read, ReadState,
    Reading, Reported, RouteState, StandardMeshConfig,
};
use isthmus::wire::peers::{LeavingPeer, OwnKeys, PEERS_VERSION, PeerEntry, PeersFile};
use isthmus::wire::seen::{PeerSeen, SeenDocument};
use rstest::rstest;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const NORTH: &str = "00000000-0000-4000-8000-00000000000a";
const WEST: &str = "00000000-0000-4000-8000-00000000000b";
const SOUTH: &str = "00000000-0000-4000-8000-00000000000c";
const STRANGER: &str = "00000000-0000-4000-8000-00000000000d";
const PRIVATE: &str = "/metadata/private/multicluster.json";
const SCOPE: Scope = Scope::PrivateMulticluster;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::generate(&[seed; 32]).unwrap()
}

const ENGINE: u8 = 1;
const WEST_KEY: u8 = 2;
const NORTH_KEY: u8 = 3;
const SOUTH_KEY: u8 = 4;
/// The engine of another checkout, which reads for west and for south.
const THEIR_ENGINE: u8 = 5;
const API_ONLY: u8 = 6;

fn uuid(text: &str) -> ClusterUuid {
    text.parse().unwrap()
}

fn authn(id: &str, seed: u8, scopes: &[Scope]) -> AuthnKey {
    AuthnKey { id: id.parse().unwrap(), pem: key(seed).public().clone(), scopes: scopes.iter().copied().collect() }
}

fn peer(name: &str, id: &str, keys: Vec<AuthnKey>) -> PeerEntry {
    PeerEntry {
        name: name.parse().unwrap(),
        cluster_uuid: uuid(id),
        keys,
        namespaces: vec!["*".to_owned()],
        share: None,
        istio_namespace: None,
        revisions: vec![],
        user: None,
        max_token_lifetime: None,
        leaving: None,
    }
}

fn evidence() -> Evidence {
    let id = |text: &str| text.parse().unwrap();
    let read = |name: &str| Read { cluster_id: id(name), state: ReadState::Synced };
    let route = |name: &str| LiveRoute {
        cluster_id: id(name),
        api_host: format!("api.{name}.example").parse().unwrap(),
        state: RouteState::Ok,
        reason: None,
    };
    let network = |name: &str| LiveNetwork { name: format!("network-{name}").parse().unwrap(), gateways: vec![] };
    let used = |id: &str| CredentialUse { cluster_uuid: uuid(id), key_id: "k".parse().unwrap(), last_used: None };
    let names = ["north", "south", "west"];
    Evidence {
        trusts: Reported::Seen(BTreeSet::from([Digest::of(b"own"), Digest::of(b"west")])),
        networks: Reported::Seen(names.map(network).to_vec()),
        reads: Reported::Seen(names.map(read).to_vec()),
        routes: Reported::Seen(names.map(route).to_vec()),
        prepared: Reported::Seen(true),
        relay_token: Reported::Seen(false),
        writer: Some("ci".parse().unwrap()),
        hand_over: None,
        credentials: Reported::Seen([NORTH, SOUTH, WEST].map(used).to_vec()),
        mesh_config: Reported::Seen(StandardMeshConfig {
            ca_certificates: false,
            mesh_networks: Some("all".to_owned()),
            every_revision: None,
        }),
        serial: Reported::Seen(0),
    }
}

fn relations() -> BTreeMap<ClusterUuid, Relation> {
    let relation = |name: &str| Relation {
        cluster_id: name.parse().unwrap(),
        network: Some(format!("network-{name}").parse().unwrap()),
    };
    [(NORTH, "north"), (SOUTH, "south"), (WEST, "west")].map(|(id, name)| (uuid(id), relation(name))).into()
}

fn shows(evidence: Evidence, relations: BTreeMap<ClusterUuid, Relation>) -> Gathered {
    Gathered::Collected(Arc::new(CollectedEvidence::at(Instant::now(), evidence, relations)))
}

fn published() -> Published {
    let complete = |text: &str| match PublicDocument::parse(text.as_bytes()).unwrap() {
        Reading::Complete(document) => document,
        Reading::Incomplete(fields) => panic!("{fields:?}"),
    };
    let public = complete(include_str!("../../fixtures/real/east/metadata/public/public.json"));
    let private = include_bytes!("../../fixtures/real/east/metadata/private/multicluster.json");
    let Reading::Complete(private) = PrivateDocument::parse(private).unwrap() else { panic!() };
    let theirs = || authn("theirs", THEIR_ENGINE, &[SCOPE]);
    let all = [Scope::Api, SCOPE];
    Published {
        cluster_uuid: Some(public.cluster_uuid.clone()),
        public: Ok(public),
        private: Ok(private),
        evidence: shows(evidence(), relations()),
        peers: Ok(PeersFile {
            serial: 0,
            entry: 0,
            version: PEERS_VERSION,
            writer: None,
            network: None,
            own: OwnKeys { keys: vec![authn("ci", ENGINE, &[SCOPE])] },
            peers: vec![
                peer("north", NORTH, vec![authn("north-1", NORTH_KEY, &all), authn("api", API_ONLY, &[Scope::Api])]),
                peer("south", SOUTH, vec![authn("south-1", SOUTH_KEY, &[Scope::Api]), theirs()]),
                peer("west", WEST, vec![authn("west-1", WEST_KEY, &all), theirs()]),
            ],
        }),
        sequence: 3,
    }
}

fn own() -> String {
    published().cluster_uuid.unwrap().to_string()
}

fn claims(sub: &str) -> Claims {
    Claims {
        aud: own(),
        exp: NOW + Duration::from_secs(55),
        iss: ISSUER.to_owned(),
        nbf: NOW - Duration::from_secs(5),
        scope: SCOPE,
        sub: sub.to_owned(),
    }
}

fn bearer(seed: u8, claims: &Claims, kid: Option<&str>) -> String {
    let kid: Option<KeyId> = kid.map(|kid| kid.parse().unwrap());
    format!("Bearer {}", mint(&key(seed), claims, kid.as_ref()).expose())
}

fn ask(published: &Published, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let now = Moment { time: NOW, instant: Instant::now() };
    PublishedAnswers::from(published.clone()).respond("/metadata", &request.body(()).unwrap().into_parts().0, now)
}

fn get(path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
    ask(&published(), Method::GET, path, headers)
}

fn private_as(published: &Published, seed: u8, sub: &str, kid: Option<&str>) -> Response<Bytes> {
    ask(published, Method::GET, PRIVATE, &[("authorization", &bearer(seed, &claims(sub), kid))])
}

fn shown_to(published: &Published, seed: u8, sub: &str, kid: Option<&str>) -> Evidence {
    let response = private_as(published, seed, sub, kid);
    assert_eq!(response.status(), StatusCode::OK);
    let Reading::Complete(document) = PrivateDocument::parse(response.body()).unwrap() else { panic!() };
    document.evidence.unwrap()
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// What an `IstioFederation` of Deckhouse reads: valid, and without services. Its tokens open nothing else, and others not it.
#[test]
fn a_federation_is_given_gateways_and_no_services() {
    let federation = "/metadata/private/federation.json";
    let token = |scope| bearer(WEST_KEY, &Claims { scope, ..claims(WEST) }, Some("west-1"));
    let status = |path: &str, token: &str| get(path, &[("authorization", token)]).status();
    let (of_federation, of_multicluster) = (token(Scope::PrivateFederation), token(SCOPE));
    assert_eq!(status(federation, &of_multicluster), StatusCode::UNAUTHORIZED);
    assert_eq!(status(PRIVATE, &of_federation), StatusCode::UNAUTHORIZED);
    assert_eq!(status(federation, &bearer(9, &claims(WEST), Some("west-1"))), StatusCode::UNAUTHORIZED);
    let response = get(federation, &[("authorization", &of_federation)]);
    let document: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    let expected = serde_json::json!({
        "ingressGateways": [{ "address": "203.0.113.7", "port": 15443 }], "publicServices": [],
    });
    assert_eq!((response.status(), document), (StatusCode::OK, expected));
}

/// What the relay read of peers is for the own engine, for as long as it may still be so.
#[test]
fn peers_that_the_relay_read_are_shown_to_the_own_engine_alone() {
    let seen = |age| PeerSeen {
        endpoint: format!("https://m{age}.deck.example/metadata").parse().unwrap(),
        cluster_uuid: None,
        public: SeenDocument::of(b"{}").unwrap(),
        private: SeenDocument::NotAsked,
        age,
    };
    let mut published = published();
    let mut collected = CollectedEvidence::at(Instant::now(), evidence(), relations());
    collected.peers_seen = vec![seen(10), seen(121)];
    published.evidence = Gathered::Collected(Arc::new(collected));
    let shown = |seed, sub: &str, kid| {
        let response = private_as(&published, seed, sub, Some(kid));
        let Reading::Complete(document) = PrivateDocument::parse(response.body()).unwrap() else { panic!() };
        PeerSeen::list(&document.peers_seen)
    };
    let own = shown(ENGINE, &own(), "ci");
    assert_eq!(own, [seen(10)], "two minutes old, it may no longer be so");
    for (seed, sub, kid) in [(WEST_KEY, WEST, "west-1"), (THEIR_ENGINE, WEST, "theirs"), (NORTH_KEY, NORTH, "north-1")]
    {
        let body = private_as(&published, seed, sub, Some(kid)).into_body();
        assert!(!String::from_utf8_lossy(&body).contains("peersSeen"), "{kid}");
    }
}

#[test]
fn the_public_document_reads_back_and_has_a_tag() {
    let path = "/metadata/public/public.json";
    let response = get(path, &[]);
    assert_eq!((response.status(), header(&response, "content-type")), (StatusCode::OK, "application/json"));
    let Reading::Complete(document) = PublicDocument::parse(response.body()).unwrap() else { panic!() };
    assert_eq!(Ok(document), published().public);
    let tag = header(&response, "etag");
    assert!(tag.len() > 10 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for known in [tag, "*", &format!("\"other\", W/{tag}")] {
        let unchanged = get(path, &[("if-none-match", known)]);
        assert_eq!((unchanged.status(), unchanged.body().len()), (StatusCode::NOT_MODIFIED, 0), "{known}");
        assert_eq!(header(&unchanged, "etag"), tag);
    }
    assert_eq!(get(path, &[("if-none-match", "\"other\"")]).status(), StatusCode::OK);
    let head = ask(&published(), Method::HEAD, path, &[]);
    assert_eq!((head.status(), head.body().len()), (StatusCode::OK, 0));
    assert_eq!(header(&head, "content-length"), response.body().len().to_string());
    let mut other = published();
    other.public.as_mut().unwrap().mesh_id = Some("another".parse().unwrap());
    assert_ne!(header(&ask(&other, Method::GET, path, &[]), "etag"), tag);
}

#[test]
fn the_bundle_has_one_key_a_root() {
    let response = get("/metadata/public/spiffe-bundle-endpoint", &[]);
    assert_eq!((response.status(), header(&response, "content-type")), (StatusCode::OK, "application/json"));
    let bundle: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!((&bundle["spiffe_sequence"], &bundle["spiffe_refresh_hint"]), (&3.into(), &300.into()));
    assert_eq!(bundle["keys"].as_array().unwrap().len(), 1);
    let mut broken = published();
    broken.public.as_mut().unwrap().root_ca = "no PEM".to_owned();
    let broken = ask(&broken, Method::GET, "/metadata/public/spiffe-bundle-endpoint", &[]);
    assert_eq!(broken.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[rstest]
#[case("/healthz", StatusCode::OK)]
#[case("/readyz", StatusCode::OK)]
#[case("/metadata/public/public.json?x=1", StatusCode::OK)]
#[case("/", StatusCode::NOT_FOUND)]
#[case("/metadata", StatusCode::NOT_FOUND)]
#[case("/metadata/public/public.json/", StatusCode::NOT_FOUND)]
#[case("/metadata//public/public.json", StatusCode::NOT_FOUND)]
#[case("/metadata/public/../private/multicluster.json", StatusCode::NOT_FOUND)]
#[case("/public/public.json", StatusCode::NOT_FOUND)]
#[case("/metadatapublic/public.json", StatusCode::NOT_FOUND)]
#[case("/metadata/private/federation.json", StatusCode::UNAUTHORIZED)]
#[case("/metadata/private/federation", StatusCode::NOT_FOUND)]
#[case("/metadata/private/multicluster%2Ejson", StatusCode::NOT_FOUND)]
fn only_the_paths_of_the_protocol_are_there(#[case] path: &str, #[case] status: StatusCode) {
    let response = get(path, &[]);
    assert_eq!(response.status(), status);
    assert_eq!(header(&response, "x-content-type-options"), "nosniff");
}

#[test]
fn other_methods_are_refused_everywhere() {
    for path in ["/healthz", "/metadata/public/public.json", PRIVATE, "/nowhere"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH, Method::TRACE] {
            let token = bearer(ENGINE, &claims(&own()), Some("ci"));
            let response = ask(&published(), method, path, &[("authorization", &token)]);
            assert_eq!((response.status(), header(&response, "allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
        }
    }
}

#[test]
fn a_document_is_complete_or_not_ready_and_each_by_itself() {
    let (public, bundle) = ("/metadata/public/public.json", "/metadata/public/spiffe-bundle-endpoint");
    let mut none = published();
    none.public = Err(Unread::NotYet { what: "ConfigMap istio-ca-root-cert".into() }.into());
    for path in [public, bundle] {
        let response = ask(&none, Method::GET, path, &[]);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((header(&response, "retry-after"), header(&response, "cache-control")), ("5", "no-store"));
        // what is missing is for the log and the probes' port
        assert_eq!(response.body(), "not ready\n");
    }
    assert_eq!(ask(&none, Method::GET, "/readyz", &[]).status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&none, Method::GET, "/healthz", &[]).status(), StatusCode::OK);
    assert_eq!(private_as(&none, ENGINE, &own(), Some("ci")).status(), StatusCode::OK);
    let mut none = published();
    none.private = Err(DocumentError::NoGateway);
    assert_eq!(ask(&none, Method::GET, public, &[]).status(), StatusCode::OK);
    assert_eq!(private_as(&none, ENGINE, &own(), Some("ci")).status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&none, Method::GET, PRIVATE, &[]).status(), StatusCode::UNAUTHORIZED, "a stranger learns nothing");
    let mut none = published();
    none.cluster_uuid = None;
    let token = bearer(ENGINE, &claims(&own()), Some("ci"));
    let response = ask(&none, Method::GET, PRIVATE, &[("authorization", &token)]);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&none, Method::GET, "/readyz", &[]).status(), StatusCode::SERVICE_UNAVAILABLE);
    // evidence that is unknown keeps no document back
    let mut unknown = published();
    unknown.evidence = shows(Evidence::unknown("istiod does not answer"), relations());
    assert_eq!(private_as(&unknown, ENGINE, &own(), Some("ci")).status(), StatusCode::OK);
}

#[rstest]
#[case::engine(ENGINE, own(), Some("ci"), true)]
#[case::engine_in_anothers_name(ENGINE, WEST.to_owned(), Some("ci"), false)]
#[case::engine_without_its_id(ENGINE, own(), None, false)]
#[case::peer_as_deckhouse_signs(WEST_KEY, WEST.to_owned(), None, true)]
#[case::peer_with_its_id(WEST_KEY, WEST.to_owned(), Some("west-1"), true)]
#[case::peer_with_anothers_id(WEST_KEY, WEST.to_owned(), Some("north-1"), false)]
#[case::peer_in_our_name(WEST_KEY, own(), Some("west-1"), false)]
#[case::peer_in_our_name_without_id(WEST_KEY, own(), None, false)]
#[case::peer_in_anothers_name(WEST_KEY, NORTH.to_owned(), Some("west-1"), false)]
#[case::their_engine_for_west(THEIR_ENGINE, WEST.to_owned(), Some("theirs"), true)]
#[case::their_engine_for_south(THEIR_ENGINE, SOUTH.to_owned(), Some("theirs"), true)]
#[case::their_engine_for_north(THEIR_ENGINE, NORTH.to_owned(), Some("theirs"), false)]
#[case::their_engine_without_its_id(THEIR_ENGINE, WEST.to_owned(), None, false)]
#[case::own_key_of_another_scope(SOUTH_KEY, SOUTH.to_owned(), None, false)]
#[case::named_key_of_another_scope(API_ONLY, NORTH.to_owned(), Some("api"), false)]
#[case::stranger(WEST_KEY, STRANGER.to_owned(), None, false)]
fn who_may_read(#[case] seed: u8, #[case] sub: String, #[case] kid: Option<&str>, #[case] admitted: bool) {
    let response = private_as(&published(), seed, &sub, kid);
    let status = if admitted { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    assert_eq!(response.status(), status);
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(!header(&response, "etag").is_empty(), admitted);
    let audit = response.extensions().get::<Audit>().unwrap();
    assert_eq!(audit.subject.as_ref(), admitted.then_some(&sub));
    assert_eq!(audit.rejected.is_none(), admitted);
}

#[test]
fn every_refusal_is_the_same() {
    let good = bearer(WEST_KEY, &claims(WEST), None);
    let at = |nbf: i64, exp: i64| {
        let [nbf, exp] = [nbf, exp].map(|seconds| Timestamp::from_seconds(NOW.as_seconds() + seconds));
        bearer(WEST_KEY, &Claims { nbf, exp, ..claims(WEST) }, None)
    };
    let (long, cut) = (format!("Bearer {}", "a.".repeat(9000)), good[..good.len() - 4].to_owned());
    let basic = "Basic d2VzdDp4".to_owned();
    let values = [
        (vec![], Rejected::Missing),
        (vec![good.clone(), good.clone()], Rejected::SeveralHeaders),
        (vec![basic], Rejected::Scheme),
        (vec![good.replace("Bearer", "bearer")], Rejected::Scheme),
        (vec![long], Rejected::TooLong),
        (vec!["Bearer a.b".to_owned()], Rejected::Segments),
        (vec![bearer(WEST_KEY, &claims(STRANGER), None)], Rejected::UnknownKey),
        (vec![bearer(NORTH_KEY, &claims(WEST), None)], Rejected::Signature),
        (vec![cut], Rejected::Encoding),
        (vec![at(-200, -100)], Rejected::Expired),
        (vec![at(100, 200)], Rejected::NotYet),
        (vec![at(-5, 9000)], Rejected::Lifetime),
        (vec![bearer(WEST_KEY, &Claims { aud: WEST.to_owned(), ..claims(WEST) }, None)], Rejected::Audience),
        (vec![bearer(WEST_KEY, &Claims { scope: Scope::Api, ..claims(WEST) }, None)], Rejected::Scope),
        (vec![bearer(WEST_KEY, &Claims { iss: "other".to_owned(), ..claims(WEST) }, None)], Rejected::Issuer),
    ];
    let mut answers = BTreeSet::new();
    for (values, reason) in values {
        let headers: Vec<_> = values.iter().map(|value| ("authorization", value.as_str())).collect();
        let response = get(PRIVATE, &headers);
        let audit = response.extensions().get::<Audit>().unwrap();
        assert_eq!(audit, &Audit { subject: None, key: None, expires: None, rejected: Some(reason) });
        assert_eq!(header(&response, "www-authenticate"), "Bearer");
        answers.insert(format!("{:?} {:?} {:?}", response.status(), response.headers(), response.body()));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers.first().unwrap().starts_with("401"));
    // a token in the query is no token
    let query = format!("{PRIVATE}?access_token={}", good.trim_start_matches("Bearer "));
    assert_eq!(get(&query, &[]).status(), StatusCode::UNAUTHORIZED);
}

#[test]
fn the_own_engine_sees_all_evidence_and_a_peer_what_concerns_it() {
    let published = published();
    assert_eq!(shown_to(&published, ENGINE, &own(), Some("ci")), evidence());
    let seen = shown_to(&published, WEST_KEY, WEST, None);
    assert_eq!((&seen.trusts, &seen.prepared), (&evidence().trusts, &evidence().prepared));
    let names = |evidence: &Evidence| {
        let reads = evidence.reads.seen().unwrap().iter().map(|read| read.cluster_id.to_string()).collect::<Vec<_>>();
        let routes = evidence.routes.seen().unwrap().iter().map(|route| route.cluster_id.to_string());
        assert_eq!(routes.collect::<Vec<_>>(), reads);
        let networks = evidence.networks.seen().unwrap().iter().map(|network| network.name.to_string());
        assert_eq!(networks.collect::<Vec<_>>(), reads.iter().map(|n| format!("network-{n}")).collect::<Vec<_>>());
        assert_eq!(evidence.credentials.seen().unwrap().len(), reads.len());
        reads
    };
    assert_eq!(names(&seen), ["west"]);
    assert!(matches!(&seen.mesh_config, Reported::Unknown(reason) if reason.contains("own engine")));
    // an engine that reads for two of them sees both, whichever name it uses
    for sub in [WEST, SOUTH] {
        assert_eq!(names(&shown_to(&published, THEIR_ENGINE, sub, Some("theirs"))), ["south", "west"]);
    }
}

#[test]
fn a_reader_that_evidence_cannot_name_learns_nothing_rather_than_nothing_live() {
    let mut published = published();
    let mut relations = relations();
    relations.remove(&uuid(WEST));
    published.evidence = shows(evidence(), relations.clone());
    let seen = shown_to(&published, WEST_KEY, WEST, None);
    assert!(matches!(
        (&seen.reads, &seen.routes, &seen.networks),
        (Reported::Unknown(_), Reported::Unknown(_), Reported::Unknown(_))
    ));
    assert_eq!(seen.credentials.seen().unwrap().len(), 1);
    relations.insert(uuid(WEST), Relation { cluster_id: "west".parse().unwrap(), network: None });
    published.evidence = shows(evidence(), relations);
    let seen = shown_to(&published, WEST_KEY, WEST, None);
    assert_eq!(seen.reads.seen().unwrap().len(), 1);
    assert!(matches!(seen.networks, Reported::Unknown(_)));
    published.evidence = Gathered::Nothing;
    let response = private_as(&published, WEST_KEY, WEST, None);
    assert!(!String::from_utf8_lossy(response.body()).contains("evidence"));
}

#[test]
fn a_peer_whose_links_leave_is_shown_that_and_no_other_is() {
    let mut published = published();
    let peers = &mut published.peers.as_mut().unwrap().peers;
    peers[2].leaving = Some(LeavingPeer { cluster_id: "west".parse().unwrap() });
    let leaving = |seed, sub: &str, kid| {
        let response = private_as(&published, seed, sub, kid);
        let Reading::Complete(document) = PrivateDocument::parse(response.body()).unwrap() else { panic!() };
        document.leaving
    };
    assert_eq!(leaving(WEST_KEY, WEST, None), [uuid(WEST)].into());
    // one that reads for two of them is shown of which
    assert_eq!(leaving(THEIR_ENGINE, SOUTH, Some("theirs")), [uuid(WEST)].into());
    assert!(leaving(NORTH_KEY, NORTH, None).is_empty());
    // the own engine follows its agent
    assert_eq!(leaving(ENGINE, &own(), Some("ci")), [uuid(WEST)].into());
}
