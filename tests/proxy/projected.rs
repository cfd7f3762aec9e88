//! What of the apiserver's answers reaches a peer, over the wire.

use super::*;
use crate::support::protobuf::{Encoder, answer as in_protobuf_of, encode, held, list_in_protobuf};

const ENTRIES: &str = "/apis/networking.istio.io/v1/workloadentries";
const WATCH: &str = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

fn pod(name: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": { "name": name, "namespace": "shop", "resourceVersion": "7", "annotations": { "secret": "secret" },
            "labels": { "app": "a", "topology.istio.io/network": "network-east" } },
        "spec": { "nodeName": "n", "containers": [{ "name": "c", "env": [{ "name": "PASSWORD", "value": "secret" }] }] },
        "status": { "podIP": "10.0.0.1", "message": "secret" },
    })
}

fn shown(name: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": { "name": name, "namespace": "shop", "resourceVersion": "7", "labels": { "app": "a" } },
        "spec": { "nodeName": "n", "containers": [{}] },
        "status": { "podIP": "10.0.0.1" },
    })
}

fn entry(network: &str) -> Value {
    json!({ "kind": "WorkloadEntry", "metadata": { "name": "vm" }, "spec": { "address": "192.0.2.7", "network": network } })
}

fn lines(text: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(text).lines().map(|line| unmarked(serde_json::from_str(line).unwrap()).0).collect()
}

#[tokio::test]
async fn a_peer_is_given_what_is_listed_in_whatever_form_it_asks() {
    let script = |asked: &Asked| {
        let is_gateway = asked.path.contains("gateways");
        let items: Vec<Value> = if is_gateway { vec![json!({ "kind": "Gateway" })] } else { vec![pod("a"), pod("b")] };
        let metadata = json!({ "resourceVersion": "9", "continue": "abc", "selfLink": "/x" });
        let list = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items });
        match asked.path.as_str() {
            "/api/v1/namespaces/shop/pods/a" => Some(json_answer(200, &pod("a"))),
            "/api/v1/nodes" => {
                Some(answer(200, &[("content-type", "application/vnd.kubernetes.protobuf")], whole("k8s")))
            }
            "/api" => Some(json_answer(
                200,
                &json!({ "kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [{ "serverAddress": "192.0.2.1:6443" }] }),
            )),
            "/apis/multicluster.x-k8s.io/v1/serviceexports" => {
                Some(answer(404, &[("content-type", "text/plain; charset=utf-8")], whole("404 page not found\n")))
            }
            "/api/v1/services" => Some(json_answer(
                410,
                &json!({ "kind": "Status", "status": "Failure", "reason": "Expired",
                "message": "too old", "code": 410, "details": { "retryAfterSeconds": 3, "causes": [{ "message": "secret" }] } }),
            )),
            path => path.contains("pods").then(|| json_answer(200, &list)),
        }
    };
    let world = world_with(limits(), script).await;
    let (client, of_west) = (world.client().await, of_west());
    let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let partial = format!(
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{metadata},application/json"
    );
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    let protobuf = "application/vnd.kubernetes.protobuf";
    for (accept, upstream) in [
        (None, Some(PROTOBUF_OR_JSON)),
        (Some("*/*"), Some(PROTOBUF_OR_JSON)),
        (Some("application/vnd.kubernetes.protobuf,application/json"), Some(PROTOBUF_OR_JSON)),
        (Some(partial.as_str()), Some(metadata)),
        (Some(&*format!("{table},application/json")), Some(PROTOBUF_OR_JSON)),
        (Some(table), None),
        (Some(protobuf), None),
        (Some("application/cbor, application/yaml"), None),
        (Some("application/json;q=0"), None),
    ] {
        let headers = [("authorization", of_west.as_str()), ("accept", accept.unwrap_or_default())];
        let headers = if accept.is_some() { &headers[..] } else { &headers[..1] };
        let before = world.apiserver.asked().len();
        let response = client.whole(Method::GET, "/api/v1/pods", headers).await;
        let Some(upstream) = upstream else {
            assert_eq!(response.status(), StatusCode::NOT_ACCEPTABLE, "{accept:?}");
            assert_eq!(
                world.apiserver.asked().iter().skip(before).filter(|asked| asked.path.contains("pods")).count(),
                0
            );
            continue;
        };
        assert_eq!(response.headers()["content-type"], "application/json");
        let list: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            unmarked(list).0,
            json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "9" },
                "items": [shown("a"), shown("b")] })
        );
        let asked = world.apiserver.asked().into_iter().rfind(|asked| asked.path == "/api/v1/pods").unwrap();
        assert_eq!(asked.headers["accept"], upstream);
    }
    let one = world.get("/api/v1/namespaces/shop/pods/a", &of_west).await;
    assert_eq!(unmarked(serde_json::from_slice(one.body()).unwrap()).0, shown("a"));
    let probe = world.get("/api", &of_west).await;
    assert_eq!(probe.body(), r#"{"kind":"APIVersions","versions":["v1"]}"#);
    let asked = world.apiserver.asked();
    assert!(
        asked
            .iter()
            .filter(|asked| asked.path != "/api/v1/pods")
            .all(|asked| asked.headers["accept"] != PROTOBUF_OR_JSON)
    );
    // an answer that cannot be read is none, and why there is none comes through
    assert_eq!(world.get("/api/v1/nodes", &of_west).await.status(), StatusCode::BAD_GATEWAY);
    let missing = world.get("/apis/multicluster.x-k8s.io/v1/serviceexports", &of_west).await;
    assert_eq!(
        (missing.status(), lines(missing.body())[0]["reason"].as_str()),
        (StatusCode::NOT_FOUND, Some("NotFound"))
    );
    let expired = world.get("/api/v1/services", &of_west).await;
    assert_eq!(
        (expired.status().as_u16(), &lines(expired.body())[0]),
        (
            410,
            &json!({ "kind": "Status", "status": "Failure", "reason": "Expired", "message": "too old", "code": 410,
            "details": { "retryAfterSeconds": 3 } })
        )
    );
    // gateways are not even asked for
    let gateways = "/apis/gateway.networking.k8s.io/v1/gateways";
    let list = world.get(gateways, &of_west).await;
    assert_eq!(lines(list.body())[0]["items"], json!([]));
    let mut watch = client.send(Method::GET, &format!("{gateways}?{WATCH}"), &[("authorization", &of_west)]).await;
    let bookmark = next(watch.body_mut()).await.unwrap().unwrap();
    assert_eq!(lines(&bookmark)[0]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert!(world.apiserver.asked().iter().all(|asked| !asked.path.contains("gateways")));
    // neither does a selector tell what is not shown
    for query in ["labelSelector=topology.istio.io%2Fnetwork%3Da", "fieldSelector=spec.schedulerName%3Da"] {
        assert_eq!(world.get(&format!("/api/v1/pods?{query}"), &of_west).await.status(), StatusCode::FORBIDDEN);
    }
    let secret = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/secrets.example.com";
    assert_eq!(world.get(secret, &of_west).await.status(), StatusCode::FORBIDDEN);
}

/// An answer in protobuf.
fn in_protobuf(status: u16, more: &[(&str, &str)], body: Vec<u8>) -> Response<Body> {
    answer(status, &[&[("content-type", "application/vnd.kubernetes.protobuf")], more].concat(), whole(body))
}

#[tokio::test]
async fn lists_that_an_apiserver_gives_in_protobuf_are_given_in_json() {
    const LONG: usize = 2000;
    let service = |number: usize| {
        json!({ "metadata": { "name": format!("s-{number}"), "namespace": "shop", "annotations": { "a": "secret" } },
            "spec": { "clusterIP": "10.0.0.7", "ports": [{ "name": "http", "port": 80, "targetPort": "http", "nodePort": 7 }] } })
    };
    let services: Vec<Value> = (0..LONG).map(service).collect();
    let of_pods = [pod("a"), pod("b")].map(|pod| held("Pod", &pod));
    let script = move |asked: &Asked| {
        if asked.path.contains("/configmaps") || asked.path.contains("watch=true") {
            return None;
        }
        let wants_protobuf = asked.headers.get("accept").is_some_and(|accept| accept == PROTOBUF_OR_JSON);
        let list = |resource: &str, items: &[Value]| {
            list_in_protobuf(resource, &json!({ "resourceVersion": "9" }), items, Encoder::Go)
        };
        let (path, _) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        match path {
            "/api/v1/pods" if wants_protobuf => Some(in_protobuf(200, &[], list("pods", &of_pods))),
            "/api/v1/services" if wants_protobuf => Some(in_protobuf(200, &[], list("services", &services))),
            "/api/v1/namespaces" => Some(in_protobuf(200, &[], list("nodes", &[]))),
            "/api/v1/namespaces/shop/pods/a" => Some(json_answer(200, &pod("a"))),
            "/apis/discovery.k8s.io/v1/endpointslices" => {
                let mut broken = list("endpointslices", &vec![json!({ "addressType": "IPv4" }); 20 * LONG]);
                broken.truncate(broken.len() - 5);
                Some(in_protobuf(200, &[], broken))
            }
            _ => None,
        }
    };
    let world = world_with(limits(), script).await;
    let (client, of_west) = (world.client().await, of_west());
    let authorized = [("authorization", of_west.as_str())];
    let given = |name: &str| {
        let mut pod = shown(name);
        pod.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
        pod
    };
    let list = world.get("/api/v1/pods", &of_west).await;
    assert_eq!(list.headers()["content-type"], "application/json");
    let wanted = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "9" },
        "items": [given("a"), given("b")] });
    assert_eq!(lines(list.body()), [wanted]);
    // a long one, which comes in parts
    let list = lines(world.get("/api/v1/services", &of_west).await.body()).remove(0);
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][7]["metadata"]["name"]), (LONG, &json!("s-7")));
    let port = json!([{ "name": "http", "port": 80, "targetPort": "http" }]);
    assert_eq!(list["items"][7]["spec"], json!({ "clusterIP": "10.0.0.7", "ports": port }));
    // a watch that begins with what there is: short, and long
    for (resource, count) in [("pods", 2), ("services", LONG)] {
        let mut watch = client.send(Method::GET, &format!("/api/v1/{resource}?{WATCH}"), &authorized).await;
        assert_eq!(watch.headers()["content-type"], "application/json");
        let mut events = Vec::new();
        while !events.ends_with(b"\n") || lines(&events).len() <= count {
            events.extend(next(watch.body_mut()).await.unwrap().unwrap());
        }
        let events = lines(&events);
        assert_eq!((events[0]["type"].as_str(), events[count]["type"].as_str()), (Some("ADDED"), Some("BOOKMARK")));
        if resource == "pods" {
            assert_eq!(events[1], json!({ "type": "ADDED", "object": shown("b") }));
        }
    }
    let one = world.get("/api/v1/namespaces/shop/pods/a", &of_west).await;
    assert_eq!(lines(one.body()), [shown("a")]);
    for asked in world
        .apiserver
        .asked()
        .iter()
        .filter(|asked| asked.path.starts_with("/api/v1/") && !asked.path.contains("configmaps"))
    {
        let is_list = !asked.path.contains("watch=true") && !asked.path.ends_with("/pods/a");
        assert_eq!(
            asked.headers["accept"],
            if is_list { PROTOBUF_OR_JSON } else { "application/json" },
            "{}",
            asked.path
        );
    }

    // what is no such list is none
    let other = world.get("/api/v1/namespaces", &of_west).await;
    assert_eq!(other.status(), StatusCode::BAD_GATEWAY);
    let slices = "/apis/discovery.k8s.io/v1/endpointslices";
    if let Some(mut list) = client.try_send(Method::GET, slices, &authorized).await {
        while next(list.body_mut()).await.expect("an end would look like an answer").is_ok() {}
    }
    let is_logged = |record: &Value| record["reason"].as_str().is_some_and(|reason| reason.contains("cannot be read"));
    world
        .until(SOON, "the record", |world| world.sink.records().iter().filter(|record| is_logged(record)).count() == 2)
        .await;
}

/// Not by what is left of it: an object that is hidden may be long.
#[tokio::test]
async fn a_list_takes_a_place_by_what_the_apiserver_sends() {
    let (mut pod, mut list) = (Vec::new(), Vec::new());
    crate::support::protobuf::bytes(15, &vec![b'x'; 200_000], &mut pod);
    crate::support::protobuf::bytes(2, &pod, &mut list);
    let list = crate::support::protobuf::answer("v1", "PodList", &list);
    let script =
        move |asked: &Asked| asked.path.starts_with("/api/v1/pods").then(|| in_protobuf(200, &[], list.clone()));
    let world = world_with(RoleLimits { lists_per_peer: 0, ..limits() }, script).await;
    let answer = world.get("/api/v1/pods", &of_west()).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn why_there_is_no_list_reaches_a_peer_from_protobuf_too() {
    let script = |asked: &Asked| {
        let (code, reason) = match asked.path.as_str() {
            "/api/v1/pods" => (410, "Expired"),
            "/api/v1/services" => (403, "Forbidden"),
            "/api/v1/nodes" => (429, "TooManyRequests"),
            "/api/v1/namespaces" => (500, "InternalError"),
            _ => return None,
        };
        let details = json!({ "name": "secret", "retryAfterSeconds": 3, "causes": [{ "message": "secret" }] });
        let status = json!({ "metadata": {}, "status": "Failure", "message": "it is so", "reason": reason,
            "details": details, "code": code });
        let body = in_protobuf_of("v1", "Status", &encode("Status", &status, Encoder::Go));
        Some(in_protobuf(code, &[("retry-after", "3")], body))
    };
    let world = world_with(limits(), script).await;
    for (path, code, reason) in
        [("pods", 410, "Expired"), ("services", 403, "Forbidden"), ("nodes", 429, "TooManyRequests")]
    {
        let answer = world.get(&format!("/api/v1/{path}"), &of_west()).await;
        let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "it is so",
            "reason": reason, "details": { "retryAfterSeconds": 3 }, "code": code });
        assert_eq!((answer.status().as_u16(), lines(answer.body())), (code, vec![status]));
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.headers()["retry-after"], "3");
    }
    let failed = world.get("/api/v1/namespaces", &of_west()).await;
    let status = lines(failed.body()).remove(0);
    assert_eq!((failed.status().as_u16(), &status["message"]), (500, &json!("the apiserver cannot answer this now")));
}

#[tokio::test]
async fn a_watch_is_given_event_by_event_and_ends_in_an_error_where_it_cannot_be_read() {
    let world = world().await;
    let (client, of_west) = (world.client().await, of_west());
    let mut watch = client.watch(&of_west).await;
    let bookmark = json!({ "type": "BOOKMARK", "object": { "kind": "Pod", "metadata": { "resourceVersion": "9",
        "annotations": { "k8s.io/initial-events-end": "true" } } } });
    let events = [
        json!({ "type": "ADDED", "object": pod("a") }),
        json!({ "type": "DELETED", "object": pod("b") }),
        bookmark.clone(),
    ];
    let text = events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n";
    // an event is given when its last byte has come
    let (first, rest) = text.split_at(text.find('\n').unwrap());
    world.event_sender.send(Ok(Bytes::copy_from_slice(first.as_bytes()))).unwrap();
    world.event_sender.send(Ok(Bytes::copy_from_slice(rest.as_bytes()))).unwrap();
    let mut given = Vec::new();
    while given.len() < 3 {
        given.extend(lines(&next(watch.body_mut()).await.unwrap().unwrap()));
    }
    let of = |kind: &str, name: &str| json!({ "type": kind, "object": shown(name) });
    assert_eq!(given, [of("ADDED", "a"), of("DELETED", "b"), bookmark]);

    world
        .event_sender
        .send(Ok(Bytes::from_static(b"{\"type\":\"ADDED\",\"object\":{\"spec\":[\"secret\"]}}\n")))
        .unwrap();
    assert!(next(watch.body_mut()).await.unwrap().is_err());
    let ended = |world: &ProxyWorld| world.sink.records().into_iter().find(|record| record["event"] == "ended");
    world.until(SOON, "the record", |world| ended(world).is_some()).await;
    let reason = ended(&world).unwrap()["reason"].as_str().unwrap().to_owned();
    assert_eq!(
        reason,
        "the apiserver's answer cannot be read: expected what was asked for, found JSON of another shape"
    );
}

#[tokio::test]
async fn a_list_that_cannot_be_read_ends_in_an_error_and_is_recorded() {
    let list = |count: usize| {
        let pods = vec![pod("a").to_string(); count].join(",");
        format!("{{\"items\":[{pods},{{\"metadata\":secret}}]}}")
    };
    let (short, long) = (list(1), list(500));
    assert!(long.len() > 100_000);
    let script = move |asked: &Asked| {
        let text = if asked.path.contains("/pods") { &short } else { &long };
        let is_list = asked.path.contains("/pods") || asked.path.contains("/nodes");
        is_list.then(|| answer(200, &[("content-type", "application/json")], whole(text.clone())))
    };
    let world = world_with(limits(), script).await;
    let is_logged = |record: &Value| record["reason"].as_str().is_some_and(|reason| reason.contains("expected JSON"));
    // one that is there as a whole is not begun
    let refused = world.get("/api/v1/pods", &of_west()).await;
    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    assert!(!String::from_utf8_lossy(refused.body()).contains("secret"));
    assert_eq!(world.sink.records().iter().filter(|record| is_logged(record)).count(), 1);
    let client = world.client().await;
    // where all of it has come at once, the reset takes back what was not sent yet, with the head
    if let Some(mut list) = client.try_send(Method::GET, "/api/v1/nodes", &[("authorization", &of_west())]).await {
        while let Ok(chunk) = next(list.body_mut()).await.expect("an end would look like an answer") {
            assert!(!String::from_utf8_lossy(&chunk).contains("secret"));
        }
    }
    world
        .until(SOON, "the record", |world| world.sink.records().iter().filter(|record| is_logged(record)).count() == 2)
        .await;
}

#[tokio::test]
async fn entries_are_of_the_own_network_and_none_are_shown_while_it_is_not_known() {
    let script = |asked: &Asked| {
        let is_list = asked.path.starts_with(ENTRIES) && !asked.path.contains("watch");
        let list = json!({ "items": [entry("network-east"), entry("")], "kind": "WorkloadEntryList",
            "apiVersion": "networking.istio.io/v1", "metadata": { "resourceVersion": "9" } });
        is_list.then(|| json_answer(200, &list))
    };
    let world = unknowing(limits(), script).await;
    let in_network = |network| world.peers(&peers_in(network, &[west(&west_keys()), south()]));
    world.identity();
    in_network(None);
    world.ready(Duration::from_secs(10)).await;
    let (client, of_west) = (world.client().await, of_west());
    let authorized = [("authorization", of_west.as_str())];
    let watch = format!("{ENTRIES}?{WATCH}");
    let networks = async || {
        let list = client.whole(Method::GET, ENTRIES, &authorized).await;
        let items = lines(list.body())[0]["items"].as_array().unwrap().clone();
        items.into_iter().map(|item| item["spec"]["network"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(networks().await, [""; 0]);
    let mut idle = client.send(Method::GET, &watch, &authorized).await;
    let bookmark = next(idle.body_mut()).await.unwrap().unwrap();
    assert_eq!(lines(&bookmark)[0]["type"], "BOOKMARK");
    assert!(world.apiserver.asked().iter().all(|asked| !asked.path.contains("workloadentries")));
    assert_eq!(world.get(&format!("{ENTRIES}/a"), &of_west).await.status(), StatusCode::FORBIDDEN);

    // whoever watched is told to list again, each time that it changes
    let received = async |watch: &mut Response<Incoming>| {
        let last = next(watch.body_mut()).await.unwrap().unwrap();
        assert_eq!((&lines(&last)[0]["type"], &lines(&last)[0]["object"]["code"]), (&json!("ERROR"), &json!(410)));
        let end = next(watch.body_mut()).await;
        assert!(end.is_none(), "{end:?}");
    };
    in_network(Some("network-west"));
    received(&mut idle).await;
    assert_eq!(networks().await, ["network-west", "network-west"]);
    let mut live = client.send(Method::GET, &watch, &authorized).await;
    let mut pods = client.watch(&of_west).await;
    let event = format!("{}\n", json!({ "type": "ADDED", "object": entry("network-east") }));
    world.event_sender.send(Ok(Bytes::from(event))).unwrap();
    let mut events = Vec::new();
    while events.len() < 4 {
        events.extend(lines(&next(live.body_mut()).await.unwrap().unwrap()));
    }
    let types: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["ADDED", "ADDED", "BOOKMARK", "ADDED"], "what there was, and one more");
    for event in [&events[0], &events[1], &events[3]] {
        assert_eq!(event["object"]["spec"], json!({ "address": "192.0.2.7", "network": "network-west" }));
    }
    in_network(Some("network-new"));
    received(&mut live).await;
    assert_eq!(networks().await, ["network-new", "network-new"]);
    // no other watch ends for that
    world.event_sender.send(SENT_EVENT).unwrap();
    let mut given = Vec::new();
    while !given.ends_with(EVENT) {
        given.extend(next(pods.body_mut()).await.unwrap().unwrap());
    }
}
