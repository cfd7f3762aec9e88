//! What the api-proxy lets peers ask: paths, queries, headers, and the answers that it makes itself.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use isthmus::roles::api::headers;
use isthmus::roles::api::headers::{Accept, HeaderRefused};
use isthmus::roles::api::request::{ApiRequest, RequestError, Resource, Verb};
use isthmus::roles::api::synthetic::Synthetic;
use isthmus::roles::api::table::Denied;
use isthmus::roles::proxy::policy::{Admitted, PeerPolicy};
use isthmus::wire::peers::PeerEntry;
use isthmus::wire::shared::{SHARED, Shared};
use proptest::prelude::*;
use serde_json::{Value, json};

fn peer(namespaces: &[&str]) -> PeerEntry {
    PeerEntry {
        name: "east".parse().unwrap(),
        cluster_uuid: "1b0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31".parse().unwrap(),
        keys: vec![],
        namespaces: namespaces.iter().map(|&namespace| namespace.to_owned()).collect(),
        share: None,
        istio_namespace: Some("d8-istio".parse().unwrap()),
        revisions: vec![],
        user: None,
        max_token_lifetime: None,
        leaving: None,
    }
}

fn policy() -> PeerPolicy {
    PeerPolicy {
        trust_domain: "west.example".parse().unwrap(),
        istio_namespace: "istio-system".parse().unwrap(),
        network: Some("network-west".parse().unwrap()),
    }
}

fn parse(url: &str) -> Result<ApiRequest, RequestError> {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    ApiRequest::parse(&Method::GET, path, query, 2048)
}

/// `forward …`, `made here …`, or why not.
fn verdict(url: &str, peer: &PeerEntry) -> String {
    match parse(url) {
        Err(error) => format!("refused: {error}"),
        Ok(request) => match policy().admit(&request, peer, 1800) {
            Err(denied) => format!("denied: {denied}"),
            Ok(Admitted::Forward(forward)) => {
                let watch = forward.continues.map(|watch| watch.continued("7".to_owned()).path_and_query(1800));
                let watch = watch.map(|watch| format!(", as events, then {watch}")).unwrap_or_default();
                format!("forward {}{watch}", forward.path_and_query)
            }
            Ok(Admitted::Synthetic(synthetic)) => {
                format!("made here: {}", String::from_utf8_lossy(&synthetic.answer(&request).body).trim())
            }
            Ok(Admitted::Expired) => "expired".to_owned(),
        },
    }
}

/// Every group and resource below, in each form of a path.
fn paths() -> Vec<String> {
    let groups = [
        "",
        "apps",
        "apiextensions.k8s.io",
        "discovery.k8s.io",
        "gateway.networking.k8s.io",
        "multicluster.x-k8s.io",
        "networking.istio.io",
        "security.istio.io",
        "rbac.authorization.k8s.io",
        "authentication.k8s.io",
        "batch",
        "metrics.k8s.io",
    ];
    let resources = [
        "namespaces",
        "nodes",
        "pods",
        "services",
        "endpoints",
        "secrets",
        "configmaps",
        "serviceaccounts",
        "events",
        "customresourcedefinitions",
        "endpointslices",
        "gateways",
        "serviceexports",
        "serviceimports",
        "workloadentries",
        "virtualservices",
        "deployments",
        "replicasets",
        "clusterroles",
        "tokenreviews",
    ];
    let mut paths = Vec::new();
    for group in groups {
        let base = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
        for resource in resources {
            paths.extend([format!("{base}/{resource}"), format!("{base}/namespaces/shop/{resource}")]);
        }
    }
    paths
}

#[test]
fn the_table_is_the_whole_of_what_is_passed_on() {
    let paths = paths();
    assert!(paths.len() > 300);
    let everything = peer(&["*"]);
    let admitted: Vec<&String> =
        paths.iter().filter(|path| policy().admit(&parse(path).unwrap(), &everything, 60).is_ok()).collect();
    let mut wanted: Vec<String> = Vec::new();
    for Shared { group, resource, namespaced, .. } in SHARED {
        let base = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
        wanted.push(format!("{base}/{resource}"));
        if namespaced {
            wanted.push(format!("{base}/namespaces/shop/{resource}"));
        }
    }
    wanted.extend(["/api/v1/secrets".to_owned(), "/api/v1/namespaces/shop/secrets".to_owned()]);
    wanted.sort();
    let mut admitted: Vec<String> = admitted.into_iter().cloned().collect();
    admitted.sort();
    assert_eq!(admitted, wanted);

    // no one sees a namespace that is not shared, and any shared one is enough
    for path in paths.iter().filter(|path| path.contains("/namespaces/shop/")) {
        let judged = policy().admit(&parse(path).unwrap(), &peer(&["cart"]), 60);
        assert!(matches!(judged, Err(_) | Ok(Admitted::Synthetic(_))), "{path}");
    }
    assert!(policy().admit(&parse("/api/v1/namespaces/shop/pods").unwrap(), &peer(&["cart", "shop"]), 60).is_ok());
}

#[test]
fn what_is_asked_of_a_namespace_that_is_not_shared_is_answered_as_empty() {
    for (namespaces, url, wanted) in [
        (&["shop"][..], "/api/v1/pods", Ok("asked")),
        (&["shop"], "/api/v1/services?watch=true", Ok("asked")),
        (&["shop"], "/api/v1/services?&limit=500&&resourceVersion=0&", Ok("asked")),
        (&["shop"], "/apis/networking.istio.io/v1/workloadentries", Ok("asked")),
        (&["shop"], "/api/v1/namespaces", Ok("asked")),
        (&["shop"], "/api/v1/namespaces?watch=true&fieldSelector=metadata.name%3Dshop", Ok("asked")),
        (&["shop"], "/api/v1/namespaces/shop", Ok("asked")),
        (&["shop"], "/api/v1/namespaces/d8-istio", Ok("asked")),
        (&["shop"], "/api/v1/namespaces/istio-system", Err(Denied::Namespace)),
        (&["shop"], "/api/v1/namespaces/cart", Err(Denied::Namespace)),
        (&["shop"], "/api/v1/namespaces/shop/namespaces/cart", Err(Denied::Resource)),
        (&["shop"], "/api/v1/namespaces/shop/nodes", Err(Denied::Resource)),
        (&["shop"], "/api/v1/namespaces/cart/nodes", Err(Denied::Resource)),
        (&["shop"], "/api/v1/namespaces/shop/services", Ok("asked")),
        (&["shop"], "/api/v1/namespaces/shop/services/a", Ok("asked")),
        (&["shop"], "/api/v1/namespaces/cart/services", Ok("empty")),
        (&["shop"], "/api/v1/namespaces/cart/pods?watch=true&resourceVersion=0", Ok("empty")),
        (&["shop"], "/apis/discovery.k8s.io/v1/namespaces/d8-istio/endpointslices?watch=true", Ok("empty")),
        (&["shop"], "/api/v1/namespaces/cart/services/a", Err(Denied::Namespace)),
        (&["shop"], "/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways", Ok("empty")),
        (&["shop"], "/apis/gateway.networking.k8s.io/v1/namespaces/cart/gateways", Ok("empty")),
        (&["shop"], "/api/v1/nodes", Ok("asked")),
        (&["shop"], "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", Ok("asked")),
        (&["shop"], "/api/v1/secrets", Ok("empty")),
        (&["shop"], "/api/v1/namespaces/d8-istio/configmaps?fieldSelector=metadata.name%3Distio", Ok("empty")),
        (&[], "/api/v1/namespaces/shop/pods", Ok("empty")),
        (&[], "/api/v1/pods", Ok("asked")),
        (&["*"], "/api/v1/namespaces/cart", Ok("asked")),
        // versions and pages that were given by someone who showed something else
        (&["shop"], "/api/v1/pods?watch=true&resourceVersion=7", Ok("expired")),
        (&["shop"], "/api/v1/pods?resourceVersion=7", Ok("asked")),
        (&["shop"], "/api/v1/nodes?watch=true&resourceVersion=7", Ok("asked")),
        (&["shop"], "/api/v1/nodes?limit=5&continue=abc", Ok("expired")),
    ] {
        let judged = policy().admit(&parse(url).unwrap(), &peer(namespaces), 60);
        let judged = judged.map(|admitted| match admitted {
            Admitted::Forward(_) => "asked",
            Admitted::Synthetic(_) => "empty",
            Admitted::Expired => "expired",
        });
        assert_eq!(judged, wanted, "{url} of {namespaces:?}");
    }
    // what is the same for all peers continues from where it was
    let nodes = parse("/api/v1/nodes?watch=true&resourceVersion=7").unwrap();
    let Ok(Admitted::Forward(forward)) = policy().admit(&nodes, &peer(&["shop"]), 60) else { panic!() };
    assert_eq!(forward.path_and_query, "/api/v1/nodes?resourceVersion=7&timeoutSeconds=60&watch=true");
    let list = "/apis/discovery.k8s.io/v1/namespaces/cart/endpointslices";
    let Ok(Admitted::Synthetic(empty)) = policy().admit(&parse(list).unwrap(), &peer(&["shop"]), 60) else { panic!() };
    let list: Value = serde_json::from_slice(&empty.answer(&parse(list).unwrap()).body).unwrap();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EndpointSliceList"), &json!("discovery.k8s.io/v1")));
}

#[test]
fn verdicts_of_what_istiod_deckhouse_and_attackers_ask() {
    let peer = peer(&["*"]);
    let urls = [
        "/api",
        "/apis",
        "/version",
        "/openapi/v2",
        "/metrics",
        "/healthz",
        "/api/v1",
        "/api/v1/services?allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeout=8m53s&timeoutSeconds=533&watch=true",
        "/api/v1/pods?fieldSelector=status.phase%21%3DFailed&limit=500&resourceVersion=0",
        "/api/v1/pods?watch=true",
        "/api/v1/pods?watch=true&timeoutSeconds=99999",
        "/api/v1/pods?watch=1&timeoutSeconds=0",
        "/apis/networking.istio.io/v1alpha3/workloadentries",
        "/apis/gateway.networking.k8s.io/v1beta1/gateways?limit=500",
        "/api/v1/secrets?fieldSelector=type%21%3Dhelm.sh%2Frelease.v1%2Ctype%21%3Dkubernetes.io%2Fservice-account-token",
        "/api/v1/secrets?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        "/api/v1/secrets?watch=true&resourceVersion=1",
        "/api/v1/secrets?watch=true&resourceVersion=2",
        "/api/v1/namespaces/d8-istio/secrets/d8-remote-authn-keypair",
        "/api/v1/namespaces/d8-istio/configmaps?fieldSelector=metadata.name%3Distio-v1x25",
        "/api/v1/namespaces/d8-istio/configmaps?fieldSelector=metadata.name%3Distio&watch=true&sendInitialEvents=true",
        "/api/v1/namespaces/istio-system/configmaps?fieldSelector=metadata.name%3Distio",
        "/api/v1/namespaces/d8-istio/configmaps?fieldSelector=metadata.name%3Dother",
        "/api/v1/namespaces/d8-istio/configmaps",
        "/api/v1/namespaces/d8-istio/configmaps/istio",
        "/api/v1/configmaps",
        "/api/v1/nodes/a/proxy/metrics",
        "/api/v1/namespaces/shop/pods/a/exec?command=sh",
        "/api/v1/namespaces/shop/pods/a/log",
        "/api/v1/namespaces/shop/services/a/proxy",
        "/api/v1/namespaces/shop/status",
        "/api/v1/namespaces/shop",
        "/api/v1/watch/pods",
        "/api/v1/proxy/nodes/a",
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/a",
        "/apis/apps/v1/deployments",
        "/apis/discovery.k8s.io/latest/endpointslices",
        "//api/v1/pods",
        "/api/v1/pods/",
        "/api/v1/../v1/secrets",
        "/api/v1/./pods",
        "/api/v1/pods%2f..",
        "/api/v1/%70ods",
        "/api/v1/pods;a=b",
        "/api/v1\\pods",
        "/api/v1/pöds",
        "/api/v1/pods?watch=true&watch=false",
        "/api/v1/pods?watch=yes",
        "/api/v1/pods?as=admin",
        "/api/v1/pods?limit=-1",
        "/api/v1/pods?resourceVersion=abc",
        "/api/v1/pods?fieldSelector=a%00b",
        "/api/v1/pods?fieldSelector=a%",
        "/api/v1/namespaces/shop/pods/a?watch=true",
    ];
    let lines: Vec<String> = urls.iter().map(|url| format!("{url}\n  {}", verdict(url, &peer))).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn only_reading_is_understood() {
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "get", "PURGE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(ApiRequest::parse(&method, "/api/v1/pods", None, 2048), Err(RequestError::Method));
    }
    let head = ApiRequest::parse(&Method::HEAD, "/api/v1/pods", None, 2048).unwrap();
    assert_eq!(head.verb, Verb::List);
    let long = format!("/api/v1/namespaces/{}/pods", "a".repeat(2048 - "/api/v1/namespaces//pods".len()));
    assert!(ApiRequest::parse(&Method::GET, &long, None, 2048).is_ok());
    assert_eq!(ApiRequest::parse(&Method::GET, &format!("{long}s"), None, 2048), Err(RequestError::Path));
}

proptest! {
    /// Whatever is admitted is in the table, has one spelling, and is understood again as the same.
    #[test]
    fn what_continues_was_understood(
        path in prop_oneof![
            "/(api|apis)(/[a-z0-9./%;]{1,12}){0,6}",
            "/api/v1(/namespaces/[a-z-]{1,8})?/(pods|services|secrets|configmaps|nodes)(/[a-z.]{1,6}){0,3}",
            "/apis/(discovery.k8s.io|networking.istio.io)/v1[a-z0-9]{0,6}(/namespaces/[a-z]{1,5})?/[a-z]{3,16}",
            "\\PC{0,40}",
        ],
        query in proptest::option::of(prop_oneof![
            "(watch=(true|false|1))?(&?(limit|timeoutSeconds)=[0-9]{0,4})?(&?fieldSelector=[a-z.%=!0-9]{0,20})?",
            "\\PC{0,40}",
        ]),
        seconds in 1u64..4000,
    ) {
        let Ok(request) = ApiRequest::parse(&Method::GET, &path, query.as_deref(), 2048) else { return Ok(()) };
        prop_assert!(path.is_ascii() && !path.contains("//") && !path.contains('%'));
        prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
        let Ok(Admitted::Forward(forward)) = policy().admit(&request, &peer(&["*"]), seconds) else { return Ok(()) };
        let again = parse(&forward.path_and_query).unwrap();
        prop_assert_eq!(&again.target, &request.target);
        prop_assert_eq!(again.verb, request.verb);
        prop_assert_eq!(again.path_and_query(seconds), forward.path_and_query);
        prop_assert_eq!(&again.query.field_selector, &request.query.field_selector);
        prop_assert!(request.verb != Verb::Watch || again.query.timeout_seconds.unwrap() <= seconds);
        if let Some(resource) = request.resource() {
            prop_assert!(Shared::of(&resource.group, &resource.resource).is_some());
            prop_assert!(resource.subresource.is_none());
        }
    }

    /// A path that is put together from its parts is taken apart into the same.
    #[test]
    fn a_path_is_read_as_what_it_was_made_of(
        group in "[a-z]{1,4}(\\.[a-z]{1,4}){0,2}|",
        version in "v[0-9](alpha[0-9]|beta[0-9])?",
        namespace in proptest::option::of("[a-z0-9-]{1,9}"),
        resource in "[a-z]{2,14}",
        name in proptest::option::of("[a-z0-9:_-]{1,6}(\\.[a-z0-9]{1,4})?"),
        subresource in proptest::option::of("[a-z]{1,8}(/[a-z0-9.]{0,3}[a-z])?"),
        watch in any::<bool>(),
    ) {
        prop_assume!(!["namespaces", "watch", "proxy", "status", "finalize"].contains(&resource.as_str()));
        let base = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        let mut path = format!("{base}/{version}");
        path.extend(namespace.iter().map(|namespace| format!("/namespaces/{namespace}")));
        path.push_str(&format!("/{resource}"));
        path.extend(name.iter().map(|name| format!("/{name}")));
        let subresource = subresource.filter(|_| name.is_some());
        path.extend(subresource.iter().map(|subresource| format!("/{subresource}")));
        let watch = watch && name.is_none();
        let request = ApiRequest::parse(&Method::GET, &path, watch.then_some("watch=1"), 2048).unwrap();
        let verb = match (watch, &name) {
            (true, _) => Verb::Watch,
            (_, None) => Verb::List,
            _ => Verb::Get,
        };
        prop_assert_eq!(request.verb, verb);
        let inputs_digest = Resource { group, version, namespace, resource, name, subresource };
        prop_assert_eq!(request.resource(), Some(&inputs_digest));
        // and any byte that has a second spelling, anywhere, makes it none
        for at in 0..path.len() {
            for other in ["/", "%2f", "%2e", "%00", "%25", ";", "\\", "#", "\u{e9}", "\0"] {
                let (before, after) = path.split_at(at);
                if other == "/" && !before.ends_with('/') && !after.starts_with('/') {
                    continue;
                }
                let refused = ApiRequest::parse(&Method::GET, &format!("{before}{other}{after}"), None, 2048);
                prop_assert_eq!(refused, Err(RequestError::Path));
            }
        }
    }

    #[test]
    fn no_header_continues_but_the_allowed(
        names in proptest::collection::vec("[a-z_-]{1,20}|x-remote-[a-z]{1,8}|impersonate[-_]user|accept|user-agent", 0..12),
        value in "[ -~]{0,40}",
    ) {
        let mut incoming = HeaderMap::new();
        for name in &names {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(&value)) {
                incoming.append(name, value);
            }
        }
        if let Ok(outgoing) = headers::upstream(&incoming, Accept::AsAsked) {
            for name in outgoing.keys() {
                prop_assert!(["accept", "accept-encoding", "if-none-match", "user-agent"].contains(&name.as_str()), "{}", name);
            }
        }
    }
}

fn header_map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn headers_that_claim_or_change_anything_are_refused() {
    let mut refused = 0;
    let identities = [
        "impersonate-user",
        "impersonate-group",
        "impersonate-uid",
        "impersonate-extra-scopes",
        "x-remote-user",
        "x-remote-group",
        "x-remote-extra-a",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-uri",
        "x-forwarded-client-cert",
        "forwarded",
        "x-real-ip",
        "proxy-authorization",
        "proxy-connection",
    ];
    for name in identities {
        // each dash as an underscore, or not; HTTP folds the case
        let dashes = name.matches('-').count();
        for mask in 0..1u32 << dashes {
            let mut at = 0;
            let spelled: String = name
                .chars()
                .map(|c| {
                    let dash = c == '-';
                    at += u32::from(dash);
                    if dash && mask >> (at - 1) & 1 == 1 { '_' } else { c }
                })
                .collect();
            for value in ["", "admin", "system:masters", "admin, system:masters"] {
                let headers = header_map(&[("accept", "application/json"), (&spelled, value)]);
                assert_eq!(headers::upstream(&headers, Accept::AsAsked), Err(HeaderRefused::Identity), "{spelled}");
                refused += 1;
            }
        }
    }
    let others = [
        ("upgrade", "websocket", HeaderRefused::Upgrade),
        ("upgrade", "h2c", HeaderRefused::Upgrade),
        ("upgrade", "SPDY/3.1", HeaderRefused::Upgrade),
        ("connection", "Upgrade", HeaderRefused::Upgrade),
        ("connection", "keep-alive, Upgrade", HeaderRefused::Upgrade),
        ("connection", "authorization", HeaderRefused::Upgrade),
        ("sec-websocket-key", "x", HeaderRefused::Upgrade),
        ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.x", HeaderRefused::Upgrade),
        ("http2-settings", "AAMAAABk", HeaderRefused::Upgrade),
        ("x-stream-protocol-version", "v4.channel.k8s.io", HeaderRefused::Upgrade),
        ("te", "gzip", HeaderRefused::Upgrade),
        ("transfer-encoding", "chunked", HeaderRefused::Body),
        ("transfer-encoding", "xchunked", HeaderRefused::Body),
        ("content-length", "1", HeaderRefused::Body),
        ("content-length", "+0", HeaderRefused::Body),
        ("expect", "100-continue", HeaderRefused::Body),
        ("sec_websocket_key", "x", HeaderRefused::Upgrade),
        ("http2_settings", "AAMAAABk", HeaderRefused::Upgrade),
        ("transfer_encoding", "chunked", HeaderRefused::Body),
        ("content_length", "7", HeaderRefused::Body),
        ("content-length", "0x0", HeaderRefused::Body),
        ("content-length", "0, 7", HeaderRefused::Body),
        ("te", "trailers, chunked", HeaderRefused::Upgrade),
    ];
    for (name, value, why) in others {
        assert_eq!(headers::upstream(&header_map(&[(name, value)]), Accept::AsAsked), Err(why), "{name}: {value}");
        refused += 1;
    }
    for name in ["accept", "user-agent", "if-none-match"] {
        let twice = header_map(&[(name, "a"), (name, "b")]);
        assert_eq!(headers::upstream(&twice, Accept::AsAsked), Err(HeaderRefused::Twice), "{name}");
    }
    assert!(refused >= 250, "{refused}");
}

#[test]
fn exactly_these_headers_continue_and_come_back() {
    let incoming = header_map(&[
        ("accept", "application/vnd.kubernetes.protobuf,application/json"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer x"),
        ("connection", "keep-alive"),
        ("content-length", "0"),
        ("cookie", "a=b"),
        ("te", "trailers"),
        ("user-agent", &"a".repeat(300)),
        ("x-anything", "y"),
    ]);
    let mut outgoing = headers::upstream(&incoming, Accept::AsAsked).unwrap();
    headers::impersonate(&mut outgoing, "istio-peer:1b0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31");
    let agent = "a".repeat(200);
    let mut pairs: Vec<(&str, &str)> =
        outgoing.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    pairs.sort_unstable();
    let wanted = [
        ("accept", "application/vnd.kubernetes.protobuf,application/json"),
        ("accept-encoding", "identity"),
        ("impersonate-group", "istio-peers"),
        ("impersonate-user", "istio-peer:1b0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31"),
        ("user-agent", agent.as_str()),
    ];
    assert_eq!(pairs, wanted);
    assert_eq!(headers::upstream(&incoming, Accept::Json).unwrap()["accept"], "application/json");

    let answered = header_map(&[
        ("content-type", "application/json"),
        ("location", "http://x"),
        ("set-cookie", "a"),
        ("www-authenticate", "Basic"),
        ("server", "x"),
        ("connection", "close"),
        ("retry-after", "1"),
        ("audit-id", "u"),
    ]);
    let mut names: Vec<String> = headers::answer(&answered).keys().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["audit-id", "content-type", "retry-after"]);
}

#[test]
fn a_watch_that_is_made_here_is_what_an_informer_waits_for() {
    let watch =
        "/api/v1/namespaces/d8-istio/configmaps?fieldSelector=metadata.name%3Distio&watch=true&sendInitialEvents=true";
    let request = parse(watch).unwrap();
    let Ok(Admitted::Synthetic(made)) = policy().admit(&request, &peer(&["*"]), 60) else { panic!("not made here") };
    let answer = made.answer(&request);
    let events: Vec<Value> = answer
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert!(answer.idles);
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["object"]["data"]["mesh"], "trustDomain: \"west.example\"\n");
    assert_eq!(events[1]["type"], "BOOKMARK");
    assert_eq!(events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let version = events[1]["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    assert!(version.parse::<u64>().is_ok());

    // resuming continues; resuming from another trust domain's list is told to list again
    let resume = |version: &str| {
        let url = format!(
            "/api/v1/namespaces/d8-istio/configmaps?fieldSelector=metadata.name%3Distio&watch=true&resourceVersion={version}"
        );
        made.answer(&parse(&url).unwrap())
    };
    assert_eq!((resume(version).idles, resume(version).body.len()), (true, 0));
    let status: Value = serde_json::from_slice(&resume("7").body).unwrap();
    assert_eq!((resume("7").idles, &status["type"], &status["object"]["code"]), (false, &json!("ERROR"), &json!(410)));

    // what a peer's older api-proxy refuses, a relay answers
    for (url, kind) in [
        ("/api/v1/secrets", "SecretList"),
        ("/api/v1/namespaces/d8-istio/configmaps?fieldSelector=metadata.name%3Distio", "ConfigMapList"),
        ("/apis/gateway.networking.k8s.io/v1beta1/gateways", "GatewayList"),
        ("/apis/networking.istio.io/v1alpha3/workloadentries", "WorkloadEntryList"),
    ] {
        let request = parse(url).unwrap();
        let list: Value =
            serde_json::from_slice(&Synthetic::for_refused(&request).unwrap().answer(&request).body).unwrap();
        assert_eq!((list["kind"].as_str().unwrap(), list["items"].as_array().unwrap().len()), (kind, 0));
        assert_eq!(list["apiVersion"], request.resource().unwrap().api_version());
    }
    for url in ["/api/v1/services", "/api/v1/pods", "/api/v1/namespaces/a/secrets/b", "/api"] {
        assert_eq!(Synthetic::for_refused(&parse(url).unwrap()), None, "{url}");
    }
    assert_eq!(Denied::Private.to_string(), "secrets and configuration are not shared with peers");
}
