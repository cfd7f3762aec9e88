//! Who gets which answer, as what it is forwarded, and what is recorded of it.

use super::*;

#[tokio::test]
async fn a_request_continues_as_the_peers_user_and_with_nothing_else() {
    let script = |asked: &Asked| {
        let headers = [
            ("content-type", "application/json"),
            ("audit-id", "1"),
            ("set-cookie", "a=b"),
            ("www-authenticate", "Basic"),
            ("location", "/elsewhere"),
            ("server", "kube"),
        ];
        asked.path.contains("/pods").then(|| answer(200, &headers, whole("{}\n")))
    };
    let world = world_with(limits(), script).await;
    let of_west = of_west();
    let headers = [
        ("authorization", of_west.as_str()),
        ("accept", "application/vnd.kubernetes.protobuf,application/json"),
        ("user-agent", "pilot-discovery/1.30"),
        ("accept-encoding", "gzip"),
        ("cookie", "secret"),
        ("x-custom", "anything"),
        ("range", "bytes=0-1"),
    ];
    let client = world.client().await;
    for (method, body, accept) in [(Method::GET, "{}", PROTOBUF_OR_JSON), (Method::HEAD, "", "application/json")] {
        let response = client.whole(method.clone(), "/api/v1/pods?limit=5", &headers).await;
        assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, body.as_bytes()));
        let names: Vec<&str> = response.headers().keys().map(http::HeaderName::as_str).collect();
        let length = (method == Method::GET).then_some("content-length");
        assert_eq!(names, ["content-type", "audit-id", "date"].into_iter().chain(length).collect::<Vec<_>>());
        let asked = world.apiserver.asked().pop().unwrap();
        assert_eq!((&asked.method, asked.path.as_str()), (&method, "/api/v1/pods"));
        let mut sent: Vec<_> =
            asked.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        sent.sort_unstable();
        let user = format!("istio-peer:{WEST}");
        let expected = [
            ("accept", accept),
            ("accept-encoding", "identity"),
            ("authorization", "Bearer of-the-role-0"),
            ("impersonate-group", "istio-peers"),
            ("impersonate-user", user.as_str()),
            ("user-agent", "pilot-discovery/1.30"),
        ];
        assert_eq!(sent, expected);
    }
}

#[tokio::test]
async fn every_bad_token_gets_the_same_answer_and_never_the_apiserver() {
    let world = world().await;
    let good = claims(WEST);
    let with = |change: fn(&mut Claims)| {
        let mut claims = good.clone();
        change(&mut claims);
        claims
    };
    let tokens = [
        String::new(),
        "Bearer x".to_owned(),
        "Basic eDp5".to_owned(),
        token(WEST_KEY, &claims(STRANGER), None),
        token(SOUTH_KEY, &good, Some("west-1")),
        token(SOUTH_KEY, &good, Some("south-1")),
        token(WEST_KEY, &good, Some("nobody")),
        // without a key id only the first key counts
        token(WEST_OLD, &good, None),
        token(WEST_KEY, &with(|claims| claims.scope = Scope::PrivateMulticluster), None),
        token(WEST_KEY, &with(|claims| claims.scope = Scope::PrivateFederation), None),
        token(WEST_KEY, &with(|claims| claims.exp = NOW - Duration::from_secs(61)), None),
        token(WEST_KEY, &with(|claims| claims.nbf = NOW + Duration::from_secs(61)), None),
        token(WEST_KEY, &with(|claims| claims.exp = NOW + Duration::from_hours(15 * 24)), None),
        token(WEST_KEY, &with(|claims| claims.aud = STRANGER.to_owned()), None),
        token(WEST_KEY, &with(|claims| claims.iss = "other".to_owned()), None),
        // keys that open metadata and nothing else
        token(ENGINE, &good, Some("ci")),
        token(ENGINE, &claims(OWN), Some("own")),
    ];
    let client = world.client().await;
    let mut answers = Vec::new();
    for token in &tokens {
        let headers = [("authorization", token.as_str())];
        let headers = if token.is_empty() { &headers[..0] } else { &headers[..] };
        let response = client.whole(Method::GET, PODS, headers).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{token}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let mut headers = response.headers().clone();
        headers.remove("date");
        answers.push((headers, response.body().clone()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(world.apiserver.asked().is_empty());
    // counted, in a line a second
    let counted =
        |world: &ProxyWorld| world.sink.records().iter().filter_map(|one| one["requests"].as_u64()).sum::<u64>();
    world.until(SOON, "the records", |world| counted(world) == tokens.len() as u64).await;
    let records = world.sink.records();
    assert!(records.len() < tokens.len());
    assert!(records.iter().all(|record| record["decision"] == "unauthorized" && record.get("peer").is_none()));
    // the old key is good under its own id
    let old = token(WEST_OLD, &good, Some("west-0"));
    assert_eq!(client.whole(Method::GET, PODS, &[("authorization", &old)]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_cluster_that_names_itself_as_a_peer_admits_itself_all_the_same_not() {
    let world = world().await;
    let own = json!({"name": "own", "clusterUUID": OWN, "keys": [authn("own", ENGINE, &["api"])], "namespaces": ["*"]});
    world.peers(&peers(&[own, south()]));
    let of_own = token(ENGINE, &claims(OWN), Some("own"));
    world.until(SOON, "the change", |_| true).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.get(PODS, &of_own).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.get(PODS, &of_south()).await.status(), StatusCode::NOT_FOUND);
}

/// Method, path, headers, status.
type AdmissionCase<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], u16);

#[tokio::test]
async fn what_is_not_shared_never_reaches_the_apiserver() {
    let world = world().await;
    let client = world.client().await;
    let of_west = of_west();
    let cases: [AdmissionCase<'_>; 14] = [
        (Method::POST, "/api/v1/pods", &[], 405),
        (Method::DELETE, "/api/v1/namespaces/a/pods/b", &[], 405),
        (Method::HEAD, "/api/v1/pods?watch=true", &[], 405),
        (Method::GET, "/api/v1/namespaces/a/secrets/b", &[], 403),
        (Method::GET, "/api/v1/namespaces/a/configmaps", &[], 403),
        (Method::GET, "/api/v1/namespaces/a/pods/b/exec", &[], 403),
        (Method::GET, "/api/v1/namespaces/a/pods/b/log", &[], 403),
        (Method::GET, "/apis/apps/v1/deployments", &[], 403),
        (Method::GET, "/metrics", &[], 403),
        (Method::GET, "/api/v1/namespaces/a/pods/../secrets", &[], 400),
        (Method::GET, "/api/v1/pods?pretty=true", &[], 400),
        (Method::GET, "/api/v1/pods", &[("impersonate-user", "system:admin")], 400),
        (Method::GET, "/api/v1/pods", &[("x_remote_user", "system:admin")], 400),
        (Method::GET, "/api/v1/pods", &[("x-forwarded-for", "127.0.0.1")], 400),
    ];
    for (method, path, headers, status) in &cases {
        let headers: Vec<_> = headers.iter().copied().chain([("authorization", of_west.as_str())]).collect();
        let response = client.whole(method.clone(), path, &headers).await;
        assert_eq!(response.status().as_u16(), *status, "{method} {path} {headers:?}");
        assert_eq!(response.headers().contains_key("allow"), *status == 405, "RFC 9110, section 15.5.6");
        if *method != Method::HEAD {
            let object: Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!((&object["kind"], &object["code"]), (&json!("Status"), &json!(status)));
        }
    }
    assert!(world.apiserver.asked().is_empty());
    let records = world.sink.records();
    assert_eq!(records.len(), cases.len());
    assert!(records.iter().all(|record| record["decision"] == "denied" && record["peer"] == "west"));
}

#[tokio::test]
async fn odd_answers_of_the_apiserver_do_not_reach_a_peer() {
    let script = |asked: &Asked| {
        let status = asked.path.strip_prefix("/api/v1/namespaces/a/pods/s")?.parse().ok()?;
        Some(answer(status, &[("location", "https://elsewhere.example/"), ("retry-after", "3")], whole("words")))
    };
    let world = world_with(limits(), script).await;
    let of_west = of_west();
    for (theirs, ours) in [
        (301, 502),
        (302, 502),
        (307, 502),
        (300, 502),
        (401, 503),
        (403, 403),
        (404, 404),
        (410, 410),
        (429, 429),
        (500, 500),
    ] {
        let response = world.get(&format!("/api/v1/namespaces/a/pods/s{theirs}"), &of_west).await;
        assert_eq!(response.status().as_u16(), ours, "{theirs}");
        assert!(response.headers().get("location").is_none());
        if ours == theirs {
            // what is no `Status` of the apiserver's is not passed on
            let status: Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!((&status["kind"], &status["code"]), (&json!("Status"), &json!(ours)));
            assert!(!status.to_string().contains("words"));
            assert_eq!(response.headers()["retry-after"], "3");
        }
    }
    // one request of ours for each of theirs
    assert_eq!(world.apiserver.asked().len(), 10);
}

#[tokio::test]
async fn addresses_and_peers_may_ask_so_often_and_no_more() {
    let limits = RoleLimits { rate_per_peer: Rate { per_second: 1, burst: 5 }, ..limits() };
    let world = world_with(limits, |asked| asked.path.contains("/pods").then(list)).await;
    let client = world.client().await;
    let (west_token, south_token) = (of_west(), of_south());
    let ask = async |authorization: &str| client.whole(Method::GET, PODS, &[("authorization", authorization)]).await;
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(ask(&west_token).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    assert!(ask(&west_token).await.headers().contains_key("retry-after"));
    assert_eq!(ask(&south_token).await.status(), StatusCode::OK);
    let record = world.sink.records().into_iter().find(|record| record["status"] == 429).unwrap();
    assert_eq!((&record["decision"], &record["peer"]), (&json!("limited"), &json!("west")));

    // before any token is looked at
    let limits = RoleLimits { rate_per_address: Rate { per_second: 1, burst: 3 }, ..self::limits() };
    let world = world_with(limits, |_| None).await;
    let client = world.client().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.whole(Method::GET, PODS, &[]).await.status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
    // a token that is known needs nothing of that, so no one behind the same address keeps its peer out
    let of_west = of_west();
    let authorized = [("authorization", of_west.as_str())];
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(client.whole(Method::GET, PODS, &authorized).await.status(), StatusCode::NOT_FOUND);
    for _ in 0..5 {
        assert_eq!(client.whole(Method::GET, PODS, &[]).await.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(client.whole(Method::GET, PODS, &authorized).await.status(), StatusCode::NOT_FOUND);
    }
}

/// A list of pods, and no watch of them.
fn is_pods(asked: &Asked) -> bool {
    asked.path.starts_with("/api/v1/pods") && !asked.path.contains("watch=true")
}

#[tokio::test]
async fn a_peer_has_its_share_of_requests_and_no_other_peers() {
    let limits = RoleLimits { requests_per_peer: 3, ..limits() };
    let world = world_with(limits, |asked| is_pods(asked).then(list)).await;
    let client = world.client().await;
    let (of_west, of_south) = (of_west(), of_south());
    let watches = join_all((0..3).map(|_| client.watch(&of_west))).await;
    assert!(watches.iter().all(|watch| watch.status() == StatusCode::OK));
    let one_more = world.get(PODS, &of_west).await;
    assert_eq!(one_more.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(one_more.headers().contains_key("retry-after"));
    assert_eq!(world.get(PODS, &of_south).await.status(), StatusCode::OK);
    drop(watches);
    let begin = Instant::now();
    while world.get(PODS, &of_west).await.status() != StatusCode::OK {
        assert!(begin.elapsed() < SOON, "places are not given back");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_small_answer_has_its_length_and_comes_whole() {
    let world = world_with(limits(), |asked| asked.path.contains("/pods").then(list)).await;
    let client = world.client().await;
    for path in [PODS, "/api/v1/secrets", "/api/v1/namespaces/a/secrets/b"] {
        let mut answer = client.send(Method::GET, path, &[("authorization", &of_west())]).await;
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let chunk = next(answer.body_mut()).await.unwrap().unwrap();
        assert_eq!(chunk.len(), length, "{path}");
        assert!(hyper::body::Body::is_end_stream(answer.body()), "{path}");
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_all_the_time_is_never_empty_and_none_is_503() {
    let world = world_with(limits(), |asked| asked.path.contains("/pods").then(list)).await;
    let client = world.client().await;
    let of_west = of_west();
    let authorized = [("authorization", of_west.as_str())];
    let begin = Instant::now();
    let mut number = 0;
    while begin.elapsed() < Duration::from_secs(3) {
        number += 1;
        let next = world.token_file.with_extension("next");
        std::fs::write(&next, format!("of-the-role-{number}")).unwrap();
        std::fs::rename(&next, &world.token_file).unwrap();
        let answers = join_all((0..5).map(|_| client.whole(Method::GET, PODS, &authorized))).await;
        assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
        sleep(Duration::from_millis(10)).await;
    }
    let sent: Vec<usize> = world
        .apiserver
        .asked()
        .iter()
        .map(|asked| {
            asked.headers["authorization"]
                .to_str()
                .unwrap()
                .strip_prefix("Bearer of-the-role-")
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(sent.len() > 100 && sent.is_sorted() && *sent.last().unwrap() > 0, "{sent:?}");

    std::fs::write(&world.token_file, " \n").unwrap();
    world.until(SOON, "noticing", |world| !world.health.is_ready()).await;
    let before = world.apiserver.asked().len();
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.apiserver.asked().len(), before, "nothing is asked without a token");
    std::fs::write(&world.token_file, "of-the-role-9999").unwrap();
    world.ready(SOON).await;
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn nothing_is_answered_that_is_not_recorded_first() {
    let world = world_with(limits(), |asked| asked.path.contains("/pods").then(list)).await;
    let of_west = of_west();
    assert_eq!(world.get("/api/v1/namespaces/shop/pods?limit=5", &of_west).await.status(), StatusCode::OK);
    // the record is there when the answer is
    let records = world.sink.records();
    let time = NOW.to_string();
    let expected = json!({
        "time": time, "event": "answered", "id": 0, "source": "127.0.0.1", "peer": "west", "clusterUUID": WEST,
        "keyID": "west-1", "method": "GET", "verb": "list", "group": "", "version": "v1", "resource": "pods",
        "namespace": "shop", "decision": "allowed", "status": 200, "milliseconds": records[0]["milliseconds"],
    });
    assert_eq!(records, [expected]);
    assert!(!String::from_utf8(world.sink.lines.lock().unwrap().clone()).unwrap().contains("Bearer"));

    world.sink.broken.store(true, Ordering::SeqCst);
    let response = world.get(PODS, &of_west).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!String::from_utf8_lossy(response.body()).contains("PodList"));
    // whoever shows no token is told nothing that would have to be recorded first
    assert_eq!(world.get(PODS, "Bearer x").await.status(), StatusCode::UNAUTHORIZED);
    world.sink.broken.store(false, Ordering::SeqCst);
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::OK);
    let text = world.metrics.text();
    let line = "isthmus_proxy_requests_total{peer=\"west\",decision=\"allowed\",code=\"200\"} 2\n";
    assert!(text.contains(line), "{text}");
    let used = format!(
        "isthmus_proxy_credential_last_used_seconds{{cluster_uuid=\"{WEST}\",key_id=\"west-1\"}} {}\n",
        NOW.as_seconds()
    );
    assert!(text.contains(&used), "{text}");
}

#[tokio::test]
async fn until_the_cluster_is_known_no_request_is_judged_and_a_broken_file_changes_nothing() {
    let world = unknowing(limits(), |asked| asked.path.contains("/pods").then(list)).await;
    let of_west = of_west();
    let response = world.get(PODS, &of_west).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    assert!(!world.health.is_ready());
    world.identity();
    // a cluster without peers is ready and admits no one
    world.ready(Duration::from_secs(10)).await;
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::UNAUTHORIZED);
    world.peers(&peers(&[west(&west_keys())]));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::OK);
    for broken in ["{", "", "{\"version\":2}"] {
        world.peers(broken);
        world.until(SOON, "noticing", |world| !world.health.is_ready()).await;
        assert_eq!(world.health.failing()[0].0, "peers");
        assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::OK, "the last good file counts");
        world.peers(&peers(&[west(&west_keys())]));
        world.ready(SOON).await;
    }
    world.apiserver.config_map(NAMESPACE, "isthmus-peers", None);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.get(PODS, &of_west).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_service_does_not_show_the_label_that_would_make_it_a_gateway() {
    let script = |asked: &Asked| {
        let body = "{\"items\":[{\"metadata\":{\"labels\":{\"topology.istio.io/network\":\"n\"}}}]}\n";
        asked
            .path
            .starts_with("/api/v1/services")
            .then(|| answer(200, &[("content-type", "application/json")], whole(body)))
    };
    let world = world_with(limits(), script).await;
    let of_west = of_west();
    let headers =
        [("authorization", of_west.as_str()), ("accept", "application/vnd.kubernetes.protobuf,application/json")];
    let response = world.client().await.whole(Method::GET, "/api/v1/services", &headers).await;
    assert!(!String::from_utf8_lossy(response.body()).contains("topology.istio.io/network"));
    assert_eq!(world.apiserver.asked()[0].headers["accept"], PROTOBUF_OR_JSON);
}
