//! How old a field of evidence may be when a request is answered, whatever the loops behind it do.

use isthmus::roles::exporter::{Confirmed, FieldTimes, MAX_AGE};
use serde_json::Value;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Evidence as a reader gets it so long after the exporter last did anything.
fn after(collected: &CollectedEvidence, seed: u8, sub: &str, age: Duration) -> Value {
    let published = Published { evidence: Gathered::Collected(Arc::new(collected.clone())), ..published() };
    let kid = (seed == ENGINE).then_some("ci");
    let request = Request::get(PRIVATE).header("authorization", bearer(seed, &claims(sub), kid));
    let instant = collected.confirmed.reads.at + age;
    let now = Moment { time: NOW, instant };
    let response =
        PublishedAnswers::from(published).respond("/metadata", &request.body(()).unwrap().into_parts().0, now);
    assert_eq!(response.status(), StatusCode::OK, "what is old holds no document back");
    serde_json::from_slice::<Value>(response.body()).unwrap()["evidence"].take()
}

fn unknown(evidence: &Value) -> Vec<String> {
    let unknown = evidence["unknown"].as_object().unwrap();
    for field in unknown.keys() {
        assert!(evidence[field].is_null(), "{field} has a reason and a value");
    }
    for (field, value) in evidence.as_object().unwrap() {
        assert!(!value.is_null() || unknown.contains_key(field), "{field} is null without a reason");
    }
    unknown.keys().cloned().collect()
}

const ALL: [&str; 9] =
    ["credentials", "meshConfig", "networks", "prepared", "reads", "relayToken", "routes", "serial", "trusts"];

#[test]
fn all_fields_are_unknown_when_the_loop_that_asks_hangs() {
    let collected = CollectedEvidence::at(Instant::now(), evidence(), relations());
    let none: [&str; 0] = [];
    for age in [Duration::ZERO, SECOND, MAX_AGE] {
        assert_eq!(unknown(&after(&collected, ENGINE, &own(), age)), none, "{age:?}");
    }
    // the clock of a request may have been read before the look was over
    let published = Published { evidence: Gathered::Collected(Arc::new(collected.clone())), ..published() };
    assert_eq!(shown_to(&published, ENGINE, &own(), Some("ci")), evidence());
    let old = after(&collected, ENGINE, &own(), MAX_AGE + SECOND);
    assert_eq!(unknown(&old), ALL);
    let reason = "the cluster was last confirmed 2 minutes ago, expected at most 2 minutes";
    assert!(ALL.iter().all(|field| old["unknown"][field] == reason), "{old}");
    let reason = |age| after(&collected, ENGINE, &own(), age)["unknown"]["reads"].clone();
    assert_eq!(reason(SECOND * 3700), "the cluster was last confirmed 61 minutes ago, expected at most 2 minutes");
    assert_eq!(reason(SECOND * 185), reason(SECOND * 239), "a reason does not change each second");
    // a peer is told no less
    let peers = unknown(&after(&collected, WEST_KEY, WEST, MAX_AGE + SECOND));
    assert_eq!(peers, ALL);
}

#[test]
fn one_source_that_stopped_takes_its_own_fields_alone() {
    type Field = fn(&mut FieldTimes) -> &mut Confirmed;
    let at = Instant::now();
    let fields: [(&str, Field); 9] = [
        ("credentials", |times| &mut times.credentials),
        ("meshConfig", |times| &mut times.mesh_config),
        ("networks", |times| &mut times.networks),
        ("prepared", |times| &mut times.prepared),
        ("reads", |times| &mut times.reads),
        ("relayToken", |times| &mut times.relay_token),
        ("routes", |times| &mut times.routes),
        ("serial", |times| &mut times.serial),
        ("trusts", |times| &mut times.trusts),
    ];
    for (name, field) in fields {
        // seen now, but for one
        let mut collected = CollectedEvidence::at(at, evidence(), relations());
        collected.confirmed = FieldTimes::all(Confirmed { at: at + MAX_AGE * 2, what: "the cluster" });
        *field(&mut collected.confirmed) = Confirmed { at, what: "list of istiod's pods" };
        let published = Published { evidence: Gathered::Collected(Arc::new(collected)), ..published() };
        let request = Request::get(PRIVATE).header("authorization", bearer(ENGINE, &claims(&own()), Some("ci")));
        let now = Moment { time: NOW, instant: at + MAX_AGE * 2 };
        let response =
            PublishedAnswers::from(published).respond("/metadata", &request.body(()).unwrap().into_parts().0, now);
        let shown = serde_json::from_slice::<Value>(response.body()).unwrap()["evidence"].take();
        assert_eq!(unknown(&shown), [name]);
        let reason = "list of istiod's pods was last confirmed 4 minutes ago, expected at most 2 minutes";
        assert_eq!(shown["unknown"][name], reason);
    }
}

#[test]
fn what_was_unknown_keeps_its_own_reason_when_it_grows_old() {
    let silent = Evidence { reads: Reported::Unknown("istiod-0: no answer in time".to_owned()), ..evidence() };
    let old = after(&CollectedEvidence::at(Instant::now(), silent, relations()), ENGINE, &own(), MAX_AGE * 2);
    assert_eq!(old["unknown"]["reads"], "istiod-0: no answer in time");
}

#[test]
fn a_peer_is_named_as_when_collecting_began() {
    // a look that is fresh, of a cluster whose routes are no longer followed: the name that it goes by may be another one by now
    let at = Instant::now();
    let mut collected = CollectedEvidence::at(at + MAX_AGE * 2, evidence(), relations());
    collected.confirmed.relations = Confirmed { at, what: "ConfigMap isthmus-routes" };
    let shown = after(&collected, WEST_KEY, WEST, Duration::ZERO);
    let expected = ["meshConfig", "networks", "reads", "relayToken", "routes", "serial"];
    assert_eq!(unknown(&shown), expected);
    let reason = "ConfigMap isthmus-routes was last confirmed 4 minutes ago, expected at most 2 minutes";
    assert_eq!(shown["unknown"]["reads"], reason);
    assert_eq!(unknown(&after(&collected, ENGINE, &own(), Duration::ZERO)), [""; 0], "the own engine needs no name");
}

#[test]
fn before_the_first_collection_the_private_document_is_503_and_no_probe_calls_it_ready() {
    let starting = Published { evidence: Gathered::NotYet, ..published() };
    let response = private_as(&starting, ENGINE, &own(), Some("ci"));
    assert_eq!((response.status(), header(&response, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
    assert_eq!(header(&response, "cache-control"), "no-store");
    let text = "not ready\n";
    assert_eq!(response.body(), text);
    let ready = |published: &Published| ask(published, Method::GET, "/readyz", &[]).status();
    assert_eq!(ready(&starting), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready(&published()), StatusCode::OK);
    // who may not read is told nothing of it
    assert_eq!(private_as(&starting, WEST_KEY, STRANGER, None).status(), StatusCode::UNAUTHORIZED);
    // what is old is no reason to restart a pod
    let old =
        CollectedEvidence { max_age: Duration::ZERO, ..CollectedEvidence::at(Instant::now(), evidence(), relations()) };
    assert_eq!(ready(&Published { evidence: Gathered::Collected(Arc::new(old)), ..published() }), StatusCode::OK);
}
