//! Watches through the api-proxy: how they last, break and end.

use super::*;

#[tokio::test]
async fn a_peer_that_goes_loses_its_watches_and_no_other_does() {
    let world = world().await;
    let (west_client, south_client) = (world.client().await, world.client().await);
    let (by_west, by_old, by_south) = (of_west(), token(WEST_OLD, &claims(WEST), Some("west-0")), of_south());
    let mut new = join_all((0..20).map(|_| west_client.watch(&by_west))).await;
    let mut old = join_all((0..20).map(|_| west_client.watch(&by_old))).await;
    let mut south_watches = join_all((0..20).map(|_| south_client.watch(&by_south))).await;
    assert!(world.metrics.text().contains("isthmus_proxy_watches{peer=\"west\"} 40\n"));

    // the old key goes
    world.peers(&peers(&[west(&west_keys()[..1]), south()]));
    let begin = Instant::now();
    for watch in &mut old {
        assert!(next(watch.body_mut()).await.unwrap().is_err(), "an end would look like an answer");
    }
    assert!(begin.elapsed() < SOON);
    world.event_sender.send(SENT_EVENT).unwrap();
    for watch in new.iter_mut().chain(&mut south_watches) {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }

    // the peer goes, and comes back with another key under the same id
    world.peers(&peers(&[south()]));
    for watch in &mut new {
        assert!(next(watch.body_mut()).await.unwrap().is_err());
    }
    assert_eq!(world.get(PODS, &by_west).await.status(), StatusCode::UNAUTHORIZED);
    world.peers(&peers(&[west(&[authn("west-1", WEST_OLD, &["api"])]), south()]));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.get(PODS, &by_west).await.status(), StatusCode::UNAUTHORIZED);
    world.event_sender.send(SENT_EVENT).unwrap();
    for watch in &mut south_watches {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
    world.until(SOON, "giving places back", |world| world.metrics.text().contains("{peer=\"west\"} 0\n")).await;
    let ended = world.sink.records().into_iter().filter(|record| record["event"] == "ended");
    let reasons: Vec<_> =
        ended.map(|record| (record["peer"].clone(), record["reason"].clone(), record["bytes"].clone())).collect();
    assert_eq!(reasons.len(), 40);
    assert!(
        reasons
            .iter()
            .all(|(peer, reason, _)| peer == "west" && reason.as_str().unwrap().contains("no longer admitted"))
    );
    assert_eq!(reasons.iter().filter(|(_, _, bytes)| *bytes == EVENT.len()).count(), 20);
}

#[tokio::test]
async fn a_watch_that_breaks_is_an_error_and_one_that_ends_is_an_end() {
    let world = world().await;
    let client = world.client().await;
    let of_west = of_west();
    let half = || Ok(Bytes::from_static(&EVENT[..10]));

    let mut broken = client.watch(&of_west).await;
    world.event_sender.send(SENT_EVENT).unwrap();
    world.event_sender.send(half()).unwrap();
    assert_eq!(next(broken.body_mut()).await.unwrap().unwrap(), EVENT);
    world.event_sender.send(Err("reset")).unwrap();
    assert!(next(broken.body_mut()).await.unwrap().is_err());

    let mut killed = client.watch(&of_west).await;
    world.event_sender.send(SENT_EVENT).unwrap();
    assert_eq!(next(killed.body_mut()).await.unwrap().unwrap(), EVENT);
    world.apiserver.kill().await;
    assert!(next(killed.body_mut()).await.unwrap().is_err());
    let refused = world.get(PODS, &of_west).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    world.until(SOON, "not being ready", |world| !world.health.is_ready()).await;

    world.apiserver.revive().await;
    world.ready(Duration::from_secs(10)).await;
    let mut again = client.watch(&of_west).await;
    world.event_sender.send(SENT_EVENT).unwrap();
    assert_eq!(next(again.body_mut()).await.unwrap().unwrap(), EVENT);
}

#[tokio::test]
async fn a_watch_lasts_no_longer_than_its_limit_and_its_token() {
    let world = world_with(RoleLimits { watch: Duration::from_mins(10), ..limits() }, |_| None).await;
    let client = world.client().await;
    let asked_for = |path: &str| {
        let asked = world.apiserver.asked().into_iter().rev().find(|asked| asked.path.starts_with(path)).unwrap();
        let seconds =
            asked.path.split(['?', '&']).find_map(|pair| pair.strip_prefix("timeoutSeconds=").map(str::to_owned));
        seconds.unwrap().parse::<u64>().unwrap()
    };
    let short = token(WEST_KEY, &Claims { exp: NOW + Duration::from_secs(70), ..claims(WEST) }, None);
    for (authorization, wish, expected) in [
        (&of_west(), "", 600),
        (&of_west(), "&timeoutSeconds=30", 30),
        (&of_west(), "&timeoutSeconds=9999", 600),
        (&short, "", 70),
        (&short, "&timeoutSeconds=300", 70),
    ] {
        let path = format!("/api/v1/nodes?watch=true{wish}");
        let response = client.send(Method::GET, &path, &[("authorization", authorization)]).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(asked_for("/api/v1/nodes"), expected, "{wish}");
    }
    // what is made here ends by itself, and in good order
    let ending = token(WEST_KEY, &Claims { exp: NOW + Duration::from_secs(1), ..claims(WEST) }, None);
    let path =
        "/api/v1/secrets?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut secrets = client.send(Method::GET, path, &[("authorization", &ending)]).await;
    let bookmark = next(secrets.body_mut()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&bookmark).contains("\"k8s.io/initial-events-end\":\"true\""));
    let end = next(secrets.body_mut()).await;
    assert!(end.is_none(), "{end:?}");
    assert!(world.apiserver.asked().iter().all(|asked| !asked.path.contains("secrets")));
}

#[tokio::test]
async fn many_watches_are_spread_and_readers_that_take_nothing_hold_up_no_other() {
    let script = |asked: &Asked| {
        let floods = asked.path.starts_with("/api/v1/nodes");
        let line = format!("{{\"type\":\"ADDED\",\"object\":{{\"kind\":\"{}\"}}}}\n", "x".repeat(8000));
        floods.then(|| answer(200, &[("content-type", "application/json")], flood(Bytes::from(line))))
    };
    let limits = RoleLimits { watches_per_peer: 250, stall: Duration::from_secs(2), ..limits() };
    let world = world_with(limits, script).await;
    let before = world.apiserver.connections();
    let (first, second) = (world.client().await, world.client().await);
    let of_west = of_west();
    let nodes = "/api/v1/nodes?watch=true";
    let authorized = [("authorization", of_west.as_str())];
    let mut stalled = join_all((0..10).map(|_| first.send(Method::GET, nodes, &authorized))).await;
    let mut watches = join_all((0..240).map(|n| if n < 120 { &first } else { &second }.watch(&of_west))).await;
    assert!(watches.iter().all(|watch| watch.status() == StatusCode::OK));
    let opened = world.apiserver.connections() - before;
    assert!((2..=3).contains(&opened), "{opened}");
    let one_more = second.watch(&of_west).await;
    assert_eq!(one_more.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(one_more.headers().contains_key("retry-after"));

    sleep(Duration::from_millis(300)).await;
    let begin = Instant::now();
    world.event_sender.send(SENT_EVENT).unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // readers that take nothing are cut off, with an error after what they had been sent
    world
        .until(Duration::from_secs(6), "cutting off", |world| world.metrics.text().contains("{peer=\"west\"} 240\n"))
        .await;
    for watch in &mut stalled {
        let end = loop {
            match next(watch.body_mut()).await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(end.is_some_and(|end| end.is_err()), "a stream that was cut looked whole");
    }
    assert_eq!(second.watch(&of_west).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_proxy_that_ends_lets_its_watches_end_in_good_order() {
    let limits = RoleLimits { drain: Duration::from_secs(3), ..limits() };
    let world = world_with(limits, |_| None).await;
    let client = world.client().await;
    let of_west = of_west();
    let mut watches = join_all((0..20).map(|_| client.watch(&of_west))).await;
    world.event_sender.send(SENT_EVENT).unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
    let ProxyWorld { running, _stop: stop, apiserver, .. } = world;
    let begin = Instant::now();
    stop.request();
    let stopped = tokio::spawn(running.stop());
    for watch in &mut watches {
        let end = next(watch.body_mut()).await;
        assert!(end.is_none(), "{end:?}");
    }
    stopped.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    drop(apiserver);
}
