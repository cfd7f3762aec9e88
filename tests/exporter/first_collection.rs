//! The exporter as it begins, as the apiserver goes away and comes back, and as objects change under a look.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Request, StatusCode};
use isthmus::roles::exporter::{CollectedEvidence, Gathered, Moment, Published, PublishedAnswers};
use isthmus::types::time::Timestamp;
use isthmus::wire::metadata::{Evidence, PrivateDocument, PublicDocument, Reading, Reported};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::sources::{
    NS, OWN, PRIVATE, PUBLIC, SourcesWorld, address, bearer, config_map, identity, istiod_spec, page_after, peers_of,
    pod, seen,
};

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What an istiod answers that reads `west`.
fn istiod(path: &str) -> (u16, String) {
    let value = match path {
        "/debug/clusterz" => {
            json!([{"id": "west", "secretName": "istio-system/istio-remote-secret-west", "syncStatus": "synced"}])
        }
        "/debug/networkz" => json!([]),
        _ => json!({"trustDomain": "cluster.local"}),
    };
    (200, value.to_string())
}

fn put_istiod(world: &SourcesWorld, name: &str, ip: &str) {
    world.kube.put("pods", pod(name, &json!({"app": "istiod"}), &istiod_spec(), ip));
}

/// What the role answers at this moment, without a connection.
fn answer(world: &SourcesWorld, path: &str) -> (StatusCode, Vec<u8>) {
    let request = Request::get(path).header("authorization", bearer(2, "ci", OWN));
    let now = Moment { time: Timestamp::from(jiff::Timestamp::now()), instant: Instant::now() };
    let response = PublishedAnswers::from(Published::clone(&world.published())).respond(
        "/metadata",
        &request.body(()).unwrap().into_parts().0,
        now,
    );
    (response.status(), response.body().to_vec())
}

fn private(body: &[u8]) -> PrivateDocument {
    let Reading::Complete(document) = PrivateDocument::parse(body).unwrap() else { panic!() };
    document
}

/// Starts with everything there, and one source or another that the apiserver is slow with: what is the first 200?
async fn first_answers(number: usize, istiod_ip: &str) -> (Evidence, PublicDocument) {
    const SOURCES: [&str; 12] = [
        "nothing",
        "isthmus-routes",
        "isthmus-mesh",
        "metadata.name%3Distio&",
        "isthmus-peers",
        "deployments",
        "namespaces/istio-system/pods?labelSelector=app%3Distiod",
        "isthmus-proxy",
        "isthmus-relay",
        "/api/v1/pods",
        "/api/v1/services",
        "istio-ca-root-cert",
    ];
    let mut world = SourcesWorld::new().await;
    // the trust domain is what Istio's own configuration says
    let stated = identity(OWN, &world.ca.pem)["data"]["identity.json"].as_str().unwrap().to_owned();
    let mut unstated: Value = serde_json::from_str(&stated).unwrap();
    unstated.as_object_mut().unwrap().remove("trustDomain");
    world.kube.put("configmaps", config_map("isthmus-identity", &json!({"identity.json": unstated.to_string()})));
    world.kube.put("configmaps", peers_of(7));
    put_istiod(&world, "istiod-0", istiod_ip);
    world.kube.delay(SOURCES[number % SOURCES.len()], milliseconds(400));
    world.begin().await;
    let begun = Instant::now();
    let (mut evidence, mut public, mut early) = (None, None, 0);
    while evidence.is_none() || public.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{number}: {:?}", world.health.failing());
        let (ready, _) = answer(&world, "/readyz");
        let (status, body) = answer(&world, &format!("/metadata/{PRIVATE}"));
        match status {
            StatusCode::OK => {
                let shown = private(&body).evidence.unwrap_or_else(|| panic!("{number}: a 200 without evidence"));
                evidence.get_or_insert(shown);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                early += 1;
                assert_ne!(ready, StatusCode::OK, "{number}: ready before it answers");
            }
            other => panic!("{number}: {other}"),
        }
        let (status, body) = answer(&world, &format!("/metadata/{PUBLIC}"));
        if status == StatusCode::OK {
            let Reading::Complete(document) = PublicDocument::parse(&body).unwrap() else { panic!() };
            public.get_or_insert(document);
        } else {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{number}");
        }
        sleep(milliseconds(1)).await;
    }
    assert!(early > 0, "{number}: it was asked before its first collection was over");
    world.until("ready", |world| world.health.is_ready()).await;
    assert_eq!(world.get(PRIVATE, Some(bearer(2, "ci", OWN))).await.status(), 200);
    (evidence.unwrap(), public.unwrap())
}

#[tokio::test]
async fn no_start_ever_answers_before_its_first_collection_is_over() {
    let ip = address(21);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let late = move |_: &str| sleep(milliseconds(100 + 70 * (count.fetch_add(1, Ordering::SeqCst) as u64 % 6)));
    page_after(format!("{ip}:15014").parse().unwrap(), late, |path, _| istiod(path)).await;
    let starts = join_all((0..24).map(|number| first_answers(number, &ip))).await;
    for (number, (evidence, public)) in starts.into_iter().enumerate() {
        let reads = evidence.reads.seen().unwrap_or_else(|| panic!("{number}: {:?}", evidence.reads));
        assert_eq!(reads.iter().map(|read| read.cluster_id.as_str()).collect::<Vec<_>>(), ["west"], "{number}");
        assert_eq!(evidence.serial, Reported::Seen(7), "{number}");
        assert_eq!(evidence.prepared, Reported::Seen(true), "{number}");
        assert!(evidence.mesh_config.seen().is_some(), "{number}: {:?}", evidence.mesh_config);
        assert_eq!(public.trust_domain.unwrap().as_str(), "cluster.local", "{number}: unknown is not none");
    }
    assert!(asked.load(Ordering::SeqCst) >= 24 * 3);
}

#[tokio::test]
async fn what_cannot_be_read_when_it_begins_is_unknown_by_name() {
    let mut world = SourcesWorld::new().await;
    let ip = address(22);
    page_after(format!("{ip}:15014").parse().unwrap(), |_| std::future::ready(()), |path, _| istiod(path)).await;
    put_istiod(&world, "istiod-0", &ip);
    world.kube.refuse("isthmus-mesh");
    world.kube.refuse("isthmus-relay");
    world.begin().await;
    world.until("the first collection", |world| answer(world, "/readyz").0 == StatusCode::OK).await;
    let (status, body) = answer(&world, &format!("/metadata/{PRIVATE}"));
    assert_eq!(status, StatusCode::OK);
    let evidence = serde_json::from_slice::<Value>(&body).unwrap()["evidence"].take();
    let unknown = evidence["unknown"].as_object().unwrap();
    assert_eq!(unknown.keys().collect::<Vec<_>>(), ["credentials", "networks", "prepared", "routes"]);
    let starts = |field: &str, with: &str| assert!(unknown[field].as_str().unwrap().starts_with(with), "{unknown:?}");
    starts("credentials", "no pod of the api-proxy is running");
    starts("networks", "ConfigMap isthmus-mesh cannot be read: 403");
    starts("prepared", "ConfigMap isthmus-mesh cannot be read: 403");
    starts("routes", "list of the relay's pods cannot be read: 403");
    assert!(unknown.keys().all(|field| evidence[field].is_null()));
}

#[tokio::test]
async fn while_the_apiserver_is_away_evidence_grows_old_and_the_documents_stay() {
    let mut world = SourcesWorld::new().await;
    let ip = address(23);
    page_after(format!("{ip}:15014").parse().unwrap(), |_| std::future::ready(()), |path, _| istiod(path)).await;
    put_istiod(&world, "istiod-0", &ip);
    world.kube.bookmark_each(milliseconds(200));
    world.begin_with(Duration::from_secs(6)).await;
    let evidence = |world: &SourcesWorld| {
        let (status, body) = answer(world, &format!("/metadata/{PRIVATE}"));
        (status == StatusCode::OK).then(|| private(&body).evidence.unwrap())
    };
    let fields = |evidence: &Evidence| {
        let (reads, prepared) = (evidence.reads.seen().is_some(), evidence.prepared.seen().is_some());
        [reads, evidence.trusts.seen().is_some(), prepared, evidence.serial.seen().is_some()]
    };
    world.until("evidence", |world| evidence(world).is_some_and(|shown| fields(&shown) == [true; 4])).await;
    // a cluster in which nothing happens: confirmed again and again, it never grows old
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        let shown = evidence(&world).unwrap();
        assert_eq!(fields(&shown), [true; 4], "{shown:?}");
        sleep(milliseconds(50)).await;
    }
    world.kube.set_up(false);
    let away = Instant::now();
    sleep(milliseconds(300)).await;
    assert_eq!(fields(&evidence(&world).unwrap()), [true; 4], "what was seen counts for a while");
    // pods keep answering, but whether they are all that there are is not known
    world.until("old", |world| fields(&evidence(world).unwrap()) == [false; 4]).await;
    assert!(away.elapsed() < Duration::from_secs(12), "{:?}", away.elapsed());
    let shown = evidence(&world).unwrap();
    let reason = |shown: &Reported<_>| format!("{shown:?}");
    assert!(reason(&shown.serial).contains("ConfigMap isthmus-peers was last confirmed"), "{shown:?}");
    assert!(reason(&shown.serial).contains("ago, expected at most 6 seconds"), "{shown:?}");
    assert_eq!(answer(&world, &format!("/metadata/{PUBLIC}")).0, StatusCode::OK);
    world.kube.set_up(true);
    world.until("evidence again", |world| fields(&evidence(world).unwrap()) == [true; 4]).await;
}

/// The newest collection.
fn collected(world: &SourcesWorld) -> Option<Arc<CollectedEvidence>> {
    match &world.published().evidence {
        Gathered::Collected(collected) => Some(collected.clone()),
        Gathered::NotYet | Gathered::Nothing => None,
    }
}

#[tokio::test]
async fn a_collection_that_began_before_a_change_does_not_claim_the_newer_serial() {
    let mut world = SourcesWorld::new().await;
    let ip = address(24);
    let (open, gate) = watch::channel(false);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let waits = move |path: &str| {
        let mut gate = gate.clone();
        let held = path == "/debug/clusterz";
        if held {
            count.fetch_add(1, Ordering::SeqCst);
        }
        async move {
            if held {
                drop(gate.wait_for(|open| *open).await);
            }
        }
    };
    page_after(format!("{ip}:15014").parse().unwrap(), waits, |path, _| istiod(path)).await;
    put_istiod(&world, "istiod-0", &ip);
    let routes = |id: &str| {
        let route = json!({"clusterID": id, "clusterUUID": super::sources::WEST, "apiHost": "api.west.example"});
        config_map("isthmus-routes", &json!({"routes.json": json!({"version": 1, "routes": [route]}).to_string()}))
    };
    world.kube.put("configmaps", peers_of(7));
    world.kube.put("configmaps", routes("west"));
    world.begin().await;
    world.until("istiod is asked", |_| asked.load(Ordering::SeqCst) > 0).await;
    // the look is under way: a run is synced meanwhile that raises the serial and calls the peer by another name
    world.kube.put("configmaps", peers_of(8));
    world.kube.put("configmaps", routes("west-2"));
    world
        .until("the newer serial", |world| world.published().peers.as_ref().is_ok_and(|peers| peers.serial == 8))
        .await;
    assert_eq!(collected(&world), None);
    open.send_replace(true);
    world.until("the first collection", |world| collected(world).is_some()).await;
    let first = collected(&world).unwrap();
    assert_eq!(first.evidence.serial, Reported::Seen(7));
    assert_eq!(first.evidence.reads.seen().map(Vec::len), Some(1));
    let names = |collected: &CollectedEvidence| {
        collected.relations.values().map(|one| one.cluster_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&first),
        ["west"],
        "a peer that is filtered by its newer name would see that nothing of it is read"
    );
    world.until("the next look", |world| seen(world).is_some_and(|shown| shown.serial == Reported::Seen(8))).await;
    assert_eq!(names(&collected(&world).unwrap()), ["west-2"]);
    // once the route is gone, the entry of a peer whose links leave says how evidence names it
    let peer =
        json!({"name": "west", "clusterUUID": super::sources::WEST, "keys": [], "leaving": {"clusterID": "west-2"}});
    let peers = json!({"version": 1, "serial": 9, "peers": [peer]});
    world.kube.put("configmaps", config_map("isthmus-peers", &json!({"peers.json": peers.to_string()})));
    world.kube.delete("configmaps", NS, "isthmus-routes");
    world.until("no route", |world| seen(world).is_some_and(|shown| shown.serial == Reported::Seen(9))).await;
    let last = collected(&world).unwrap();
    assert_eq!(names(&last), ["west-2"]);
    // without the file there is no serial to claim: absence proves nothing
    world.kube.delete("configmaps", NS, "isthmus-peers");
    world.until("no peers", |world| seen(world).is_some_and(|shown| shown.serial == Reported::Seen(0))).await;
}
