//! What takes longer than CI may, or measures: `just drill`.
#![allow(clippy::print_stdout, reason = "what was measured")]

use std::sync::atomic::AtomicUsize;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes longer than CI may: just drill"]
async fn a_thousand_watches_of_a_peer_that_goes_end_and_a_thousand_of_another_do_not_notice() {
    const EACH: usize = 1000;
    let limits = RoleLimits { watches_per_peer: EACH, requests_per_peer: EACH + 10, ..limits() };
    let world = world_with(limits, |_| None).await;
    let (by_west, by_south) = (of_west(), of_south());
    let (mut west_watches, mut south_watches, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    for (watches, by) in [(&mut west_watches, &by_west), (&mut south_watches, &by_south)] {
        for _ in 0..5 {
            let client = world.client().await;
            watches.extend(join_all((0..EACH / 5).map(|_| client.watch(by))).await);
            clients.push(client);
        }
    }
    assert!(west_watches.iter().chain(&south_watches).all(|watch| watch.status() == StatusCode::OK));
    world.peers(&peers(&[south()]));
    let begin = Instant::now();
    for watch in &mut west_watches {
        let ended = timeout(Duration::from_mins(1), watch.body_mut().frame()).await.unwrap().unwrap();
        assert!(ended.is_err(), "an end would look like an answer");
    }
    let took = begin.elapsed();
    println!("{EACH} watches of the peer that went ended within {took:?}");
    assert!(took <= Duration::from_secs(5), "{took:?}");
    world.event_sender.send(SENT_EVENT).unwrap();
    for watch in &mut south_watches {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes longer than CI may: just drill"]
async fn a_thousand_rotations_of_the_own_token_cost_no_request() {
    const ROTATIONS: usize = 1000;
    /// Requests between two rotations, 50 a second: 500 requests a second.
    const BETWEEN: usize = 10;
    /// How long a token is good after the next one was written. The role reads its file each second, and a kubelet leaves minutes.
    const GOOD: Duration = Duration::from_secs(3);
    let written = Arc::new(Mutex::new(vec![Instant::now()]));
    let (known, refused) = (written.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = refused.clone();
    let world = world_with(limits(), move |asked| {
        if !asked.path.contains("/pods") {
            return None;
        }
        let shown = asked.headers["authorization"].to_str().unwrap().strip_prefix("Bearer of-the-role-").unwrap();
        let next = known.lock().unwrap().get(shown.parse::<usize>().unwrap() + 1).copied();
        if next.is_some_and(|next| next.elapsed() > GOOD) {
            counted.fetch_add(1, Ordering::SeqCst);
            return Some(json_answer(401, &json!({ "kind": "Status", "code": 401 })));
        }
        Some(list())
    })
    .await;
    let client = world.client().await;
    let of_west = of_west();
    let authorized = [("authorization", of_west.as_str())];
    let begin = Instant::now();
    let mut each = tokio::time::interval(Duration::from_millis(20));
    // a machine that was busy does not rotate faster afterwards
    each.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 1..=ROTATIONS {
        each.tick().await;
        let next = world.token_file.with_extension("next");
        std::fs::write(&next, format!("of-the-role-{number}")).unwrap();
        std::fs::rename(&next, &world.token_file).unwrap();
        written.lock().unwrap().push(Instant::now());
        let answers = join_all((0..BETWEEN).map(|_| client.whole(Method::GET, PODS, &authorized))).await;
        for answer in answers {
            let (status, refused) = (answer.status(), refused.load(Ordering::SeqCst));
            assert_eq!(status, StatusCode::OK, "rotation {number}, {refused} refused upstream: {:?}", answer.body());
        }
    }
    let rate = ROTATIONS * BETWEEN / usize::try_from(begin.elapsed().as_secs()).unwrap().max(1);
    println!("{ROTATIONS} rotations at {rate} requests a second: {} refused", refused.load(Ordering::SeqCst));
    assert_eq!(refused.load(Ordering::SeqCst), 0);
}

/// The time that a refusal takes, for two tokens that are bad in unlike ways, one after the other; nanoseconds.
async fn refusals(world: &ProxyWorld, tokens: [&str; 2], rounds: usize) -> [Vec<u128>; 2] {
    let mut taken = [Vec::new(), Vec::new()];
    let mut client = world.client().await;
    for round in 0..rounds {
        // ten refusals end a connection: one that is not measured, since it is the first, and two a round
        if round % 4 == 0 {
            client = world.client().await;
            client.whole(Method::GET, PODS, &[("authorization", tokens[0])]).await;
        }
        // which of them is first changes, so that neither has the other's warm caches
        for at in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let begin = std::time::Instant::now();
            let answer = client.whole(Method::GET, PODS, &[("authorization", tokens[at])]).await;
            taken[at].push(begin.elapsed().as_nanos());
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        }
    }
    taken
}

#[tokio::test]
#[ignore = "measures: just drill"]
async fn a_refusal_takes_the_same_time_whatever_is_wrong() {
    const ROUNDS: usize = 20_000;
    // as it runs, but for the rates, which would count the address
    let world = world_with(RoleLimits { refusals: RoleLimits::of_proxy().refusals, ..limits() }, |_| None).await;
    let good = of_west();
    let (signed, _) = good.rsplit_once('.').unwrap();
    let bad_signature = format!("{signed}.{}", token(SOUTH_KEY, &claims(WEST), None).rsplit_once('.').unwrap().1);
    let stranger = token(WEST_KEY, &claims(STRANGER), None);
    let expired = token(
        WEST_KEY,
        &Claims { exp: NOW - Duration::from_mins(5), nbf: NOW - Duration::from_mins(9), ..claims(WEST) },
        Some("west-1"),
    );
    let scope = token(WEST_KEY, &Claims { scope: Scope::PrivateMulticluster, ..claims(WEST) }, Some("west-1"));
    for (name, other) in [("an unknown sender", &stranger), ("an expired token", &expired), ("another scope", &scope)] {
        let [mut of_signature, mut of_other] = refusals(&world, [&bad_signature, other], ROUNDS).await;
        of_signature.sort_unstable();
        of_other.sort_unstable();
        let [median, other] = [of_signature[ROUNDS / 2], of_other[ROUNDS / 2]];
        let difference = median.abs_diff(other);
        println!("{name}: median {other} ns, of a bad signature {median} ns, difference {difference} ns");
        assert!(difference <= 2000, "{name}: {difference} ns");
    }
}
