//! The bounded fetcher against peers that are dead, slow, huge, lying or hostile.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use isthmus::cluster::fetch::{FetchLimits, Fetcher, Lookup};
use isthmus::types::address::{Cidr, Endpoint};
use isthmus::types::key::PrivateKey;
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Claims, ISSUER, Scope, Token, mint};
use isthmus::wire::failure::{Failure, TlsFault};
use rstest::rstest;

use crate::support::peer::{Ca, ConnectionBreak, Peer, PeerStep, answer, json, send};

const DOCUMENT: &str = "public/public.json";

fn limits() -> FetchLimits {
    FetchLimits {
        connect: Duration::from_millis(600),
        header: Duration::from_millis(400),
        total: Duration::from_secs(2),
        grace: Duration::from_millis(200),
        ..FetchLimits::default()
    }
}

/// All names lead to these addresses.
pub(crate) fn to(addresses: &[&str]) -> Lookup {
    let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Arc::new(move |_| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    })
}

fn loopback() -> Vec<Cidr> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

fn endpoint(peer: &Peer) -> Endpoint {
    format!("https://127.0.0.1:{}/metadata", peer.address.port()).parse().unwrap()
}

fn token() -> Token {
    let claims = Claims {
        aud: "callee".to_owned(),
        exp: Timestamp::from_seconds(60),
        iss: ISSUER.to_owned(),
        nbf: Timestamp::EPOCH,
        scope: Scope::PrivateMulticluster,
        sub: "caller".to_owned(),
    };
    mint(&PrivateKey::generate(&[1; 32]).unwrap(), &claims, None)
}

async fn get(peer: &Peer, ca: &Ca) -> Result<Vec<u8>, Failure> {
    let peer = Fetcher::new(limits()).peer(&endpoint(peer), Some(&ca.pem), &loopback())?;
    peer.get(DOCUMENT, Some(&token())).await
}

/// What comes of one answer.
async fn fetch(steps: Vec<PeerStep>) -> Result<Vec<u8>, Failure> {
    let ca = Ca::new("east");
    let peer = Peer::start(&ca.serving(&["127.0.0.1"]), move |_| steps.clone()).await;
    get(&peer, &ca).await
}

#[tokio::test]
async fn both_documents_come_over_one_connection_and_only_one_with_a_token() {
    let ca = Ca::new("east");
    let peer = Peer::start(&ca.serving(&["127.0.0.1"]), |_| json("{}")).await;
    let client = Fetcher::new(limits()).peer(&endpoint(&peer), Some(&ca.pem), &loopback()).unwrap();
    assert_eq!(client.get(DOCUMENT, None).await.unwrap(), b"{}");
    assert_eq!(client.get("private/multicluster.json", Some(&token())).await.unwrap(), b"{}");
    let requests = peer.requests();
    assert!(requests[0].starts_with("GET /metadata/public/public.json HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].contains("accept-encoding: identity\r\n") && !requests[0].contains("authorization"));
    assert!(!requests[0].contains("cookie") && !requests[0].contains("referer"));
    assert!(requests[1].contains(&format!("authorization: Bearer {}\r\n", token().expose())));
    assert_eq!((requests.len(), peer.connections()), (2, 1));
}

#[tokio::test]
async fn json_plain_text_and_no_content_type_are_taken() {
    for headers in ["", "content-type: text/plain; charset=utf-8\r\n", "content-type: Application/JSON\r\n"] {
        assert_eq!(fetch(answer("200 OK", headers, "{}")).await.unwrap(), b"{}", "{headers}");
    }
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n";
    assert_eq!(fetch(send(chunked)).await.unwrap(), b"{}");
}

/// A `Date` that cannot be read is none: it is not one that was read before.
#[tokio::test]
async fn each_answer_says_what_time_it_is_there() {
    let ca = Ca::new("east");
    let dates = ["date: Mon, 30 Nov 2026 00:00:00 GMT\r\n", "date: now\r\n", ""];
    let answers = std::sync::Mutex::new(dates.into_iter());
    let next = move |_: &_| answer("200 OK", answers.lock().unwrap().next().unwrap(), "{}");
    let peer = Peer::start(&ca.serving(&["127.0.0.1"]), next).await;
    let client = Fetcher::new(limits()).peer(&endpoint(&peer), Some(&ca.pem), &loopback()).unwrap();
    let mut seen = Vec::new();
    for _ in dates {
        client.get(DOCUMENT, None).await.unwrap();
        seen.push(client.date().map(|date| date.to_string()));
    }
    assert_eq!(seen, [Some("2026-11-30T00:00:00Z".to_owned()), None, None]);
}

#[rstest]
#[case::html("200 OK", "content-type: text/html\r\n", "ContentType")]
#[case::unauthorized("401 Unauthorized", "", "Unauthorized { 401")]
#[case::forbidden("403 Forbidden", "", "Unauthorized { 403")]
#[case::missing("404 Not Found", "", "NotFound")]
#[case::starting("503 Service Unavailable", "", "Unavailable")]
#[case::hasty("429 Too Many Requests", "retry-after: 86400\r\n", "Status { 429 Some(86400)")]
#[case::failing("500 Internal Server Error", "", "Status { 500 None")]
#[case::partial("206 Partial Content", "content-range: bytes 0-1/9\r\n", "Status { 206 None")]
#[case::gzip("200 OK", "content-encoding: gzip\r\n", "Encoded")]
#[case::brotli("200 OK", "content-encoding: br\r\n", "Encoded")]
#[case::lengths("200 OK\r\ncontent-length: 10737418240", "", "Broken")]
#[tokio::test]
async fn only_200_with_a_plain_body_is_taken(#[case] status: &str, #[case] headers: &str, #[case] kind: &str) {
    let failure = fetch(answer(status, headers, "{}")).await.unwrap_err();
    let found = match &failure {
        Failure::Unauthorized { status, .. } => format!("Unauthorized {{ {status}"),
        Failure::Status { status, retry_after, .. } => format!("Status {{ {status} {retry_after:?}"),
        other => format!("{other:?}"),
    };
    assert!(found.starts_with(kind), "{found}");
    assert!(failure.to_string().contains("https://127.0.0.1:"), "{failure}");
}

#[tokio::test]
async fn answers_without_a_body_are_no_documents() {
    let no_content = fetch(send("HTTP/1.1 204 No Content\r\n\r\n")).await;
    assert!(matches!(no_content, Err(Failure::Status { status: 204, .. })), "{no_content:?}");
    let not_modified = fetch(send("HTTP/1.1 304 Not Modified\r\n\r\n")).await;
    assert!(matches!(not_modified, Err(Failure::Status { status: 304, .. })), "{not_modified:?}");
}

#[rstest]
#[case("https://elsewhere.example/steal?x=1", "https://elsewhere.example")]
#[case("http://127.0.0.1/plain", "http://127.0.0.1")]
#[case("/other", "https://127.0.0.1")]
#[tokio::test]
async fn a_redirection_is_not_followed_and_takes_no_token_anywhere(#[case] location: &str, #[case] shown: &str) {
    let ca = Ca::new("east");
    let headers = format!("location: {location}\r\n");
    let peer = Peer::start(&ca.serving(&["127.0.0.1"]), move |_| answer("302 Found", &headers, "")).await;
    match get(&peer, &ca).await {
        Err(Failure::Redirect { to, .. }) => assert_eq!(to, shown),
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn a_redirection_to_a_listening_peer_does_not_reach_it() {
    let ca = Ca::new("east");
    let other = Peer::start(&ca.serving(&["127.0.0.1"]), |_| json("{}")).await;
    let location = format!("location: {}\r\n", endpoint(&other).url(DOCUMENT));
    let peer = Peer::start(&ca.serving(&["127.0.0.1"]), move |_| answer("307 Moved", &location, "")).await;
    assert!(matches!(get(&peer, &ca).await, Err(Failure::Redirect { .. })));
    assert_eq!((other.requests().len(), other.connections()), (0, 0));
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_the_limit() {
    for head in ["HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
        let ca = Ca::new("east");
        let steps = vec![PeerStep::Send(head.into()), PeerStep::Flood(vec![b' '; 64 * 1024])];
        let peer = Peer::start(&ca.serving(&["127.0.0.1"]), move |_| steps.clone()).await;
        let failure = get(&peer, &ca).await.unwrap_err();
        assert!(matches!(failure, Failure::TooLarge { limit: 1_048_576, .. }), "{failure:?}");
        // what the kernel's socket buffers took in between is not ours
        assert!(peer.sent() < 24 * 1024 * 1024, "{}", peer.sent());
    }
    let chunk = format!("{:x}\r\n{}\r\n", 65536, " ".repeat(65536));
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = fetch(vec![PeerStep::Send(head.into()), PeerStep::Flood(chunk.into_bytes())]).await;
    assert!(matches!(chunked, Err(Failure::TooLarge { .. })), "{chunked:?}");
}

#[tokio::test]
async fn the_limit_of_a_body_is_exact() {
    let limit = 4096;
    for (size, fits) in [(limit, true), (limit + 1, false)] {
        for length in [format!("content-length: {size}\r\n"), "connection: close\r\n".to_owned()] {
            let ca = Ca::new("east");
            let mut bytes = format!("HTTP/1.1 200 OK\r\n{length}\r\n").into_bytes();
            bytes.extend(vec![b' '; size]);
            let steps = vec![PeerStep::Send(bytes), PeerStep::End];
            let peer = Peer::start(&ca.serving(&["127.0.0.1"]), move |_| steps.clone()).await;
            let fetcher = Fetcher::new(FetchLimits { body: limit, ..limits() });
            let client = fetcher.peer(&endpoint(&peer), Some(&ca.pem), &loopback()).unwrap();
            let got = client.get(DOCUMENT, None).await;
            assert_eq!(got.is_ok(), fits, "{size} {length} {got:?}");
        }
    }
}

#[tokio::test]
async fn headers_are_bounded_in_number_and_size() {
    let fields = |count: usize| "x: y\r\n".repeat(count);
    assert!(fetch(answer("200 OK", &fields(99), "{}")).await.is_ok());
    let many = fetch(answer("200 OK", &fields(10_000), "{}")).await;
    assert!(matches!(many, Err(Failure::HeadersTooLarge { .. })), "{many:?}");
    let long = format!("x-long: {}\r\n", "y".repeat(70_000));
    let large = fetch(answer("200 OK", &long, "{}")).await;
    assert!(matches!(large, Err(Failure::HeadersTooLarge { .. })), "{large:?}");
    let huge =
        fetch(vec![PeerStep::Send("HTTP/1.1 200 OK\r\nx-long: ".into()), PeerStep::Flood(vec![b'y'; 65536])]).await;
    assert!(matches!(huge, Err(Failure::HeadersTooLarge { .. })), "{huge:?}");
    let early = fetch(vec![PeerStep::Flood(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())]).await;
    assert!(early.is_err());
}

#[tokio::test]
async fn slowness_is_cut_at_the_headers_at_the_body_and_at_the_rate() {
    let second = Duration::from_millis(100);
    let begun = Instant::now();
    let silent = fetch(vec![PeerStep::Hang]).await;
    assert!(matches!(silent, Err(Failure::TimedOut { .. })), "{silent:?}");
    let head = fetch(vec![PeerStep::Trickle(b"HTTP/1.1 200 OK\r\n".to_vec(), second), PeerStep::Hang]).await;
    assert!(matches!(head, Err(Failure::TimedOut { .. })), "{head:?}");
    let start = PeerStep::Send("HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n".into());
    let body = fetch(vec![start.clone(), PeerStep::Trickle(vec![b' '; 9000], second)]).await;
    assert!(matches!(body, Err(Failure::TooSlow { .. })), "{body:?}");
    let stuck = fetch(vec![start, PeerStep::Hang]).await;
    assert!(matches!(stuck, Err(Failure::TooSlow { .. })), "{stuck:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    for failure in [silent, head] {
        assert!(failure.unwrap_err().is_waiting_before_first_contact());
    }
    assert!(!body.unwrap_err().is_waiting_before_first_contact());
}

#[tokio::test]
async fn answers_that_break_off_or_are_no_http_are_broken() {
    let start = || PeerStep::Send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into());
    let short = fetch(vec![start(), PeerStep::Close]).await;
    assert!(matches!(short, Err(Failure::Broken { .. })), "{short:?}");
    // without a length, only the end of TLS tells a whole body from a part of one
    let cut = fetch(vec![PeerStep::Send("HTTP/1.1 200 OK\r\n\r\n{}".into()), PeerStep::Close]).await;
    assert!(matches!(cut, Err(Failure::Broken { .. })), "{cut:?}");
    assert!(fetch(vec![PeerStep::Send("HTTP/1.1 200 OK\r\n\r\n{}".into()), PeerStep::End]).await.is_ok());
    let other = fetch(send("SSH-2.0-OpenSSH_9.9\r\n\r\n")).await;
    assert!(matches!(other, Err(Failure::Broken { .. })), "{other:?}");
    let closed = fetch(vec![PeerStep::Close]).await;
    assert!(matches!(closed, Err(Failure::NotReachable { .. })), "{closed:?}");
}

/// Whatever part of handshake and answer came before a connection broke, it is no document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_at_any_byte_gives_no_document() {
    let ca = Ca::new("east");
    let serving = ca.serving(&["127.0.0.1"]);
    let document = format!("{{\"name\":\"{}\"}}", "x".repeat(200));
    let shown = document.clone();
    let next: Arc<Mutex<Option<ConnectionBreak>>> = Arc::default();
    let shared = next.clone();
    let peer = Peer::start_breaking(&serving, move |_| json(&shown), move || *shared.lock().unwrap()).await;
    assert_eq!(get(&peer, &ca).await.unwrap(), document.as_bytes());
    let whole = peer.most_of_one();
    assert!(whole > 1000, "{whole}");
    for after in 0..whole {
        *next.lock().unwrap() = Some(ConnectionBreak { after, resets: after % 2 == 0 });
        let got = get(&peer, &ca).await;
        // signatures differ in length by some bytes
        let is_whole = after + 8 > whole && matches!(&got, Ok(got) if got == document.as_bytes());
        let is_broken = matches!(got, Err(Failure::NotReachable { .. } | Failure::Broken { .. } | Failure::Tls { .. }));
        assert!(is_broken || is_whole, "after {after} of {whole} bytes: {got:?}");
    }
    *next.lock().unwrap() = None;
    assert!(get(&peer, &ca).await.is_ok());
}

#[tokio::test]
async fn a_dead_peer_is_not_reachable_and_says_how() {
    let ca = Ca::new("east");
    let refused = {
        let peer = Peer::start(&ca.serving(&["127.0.0.1"]), |_| json("{}")).await;
        let endpoint = endpoint(&peer);
        drop(peer);
        tokio::task::yield_now().await;
        let client = Fetcher::new(limits()).peer(&endpoint, Some(&ca.pem), &loopback()).unwrap();
        client.get(DOCUMENT, None).await
    };
    assert!(
        matches!(&refused, Err(Failure::NotReachable { problem, .. }) if problem.contains("refused")),
        "{refused:?}"
    );
    // a listener that never accepts: connected, and no handshake
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://127.0.0.1:{}", deaf.local_addr().unwrap().port()).parse().unwrap();
    let client = Fetcher::new(limits()).peer(&endpoint, Some(&ca.pem), &loopback()).unwrap();
    let silent = client.get(DOCUMENT, None).await;
    assert!(matches!(&silent, Err(Failure::NotReachable { problem, .. }) if problem.contains("within")), "{silent:?}");
    let nowhere: Lookup = Arc::new(|_| Box::pin(async { Err(std::io::Error::other("no such name")) }));
    let endpoint = "https://m.east.example".parse().unwrap();
    let client = Fetcher::new(limits()).with_lookup(nowhere).peer(&endpoint, Some(&ca.pem), &[]).unwrap();
    let unknown = client.get(DOCUMENT, None).await;
    assert!(matches!(&unknown, Err(Failure::NotResolved { problem, .. }) if problem == "no such name"), "{unknown:?}");
}

#[tokio::test]
async fn a_bad_certificate_says_what_is_bad_and_no_request_is_sent() {
    let (ca, other) = (Ca::new("east"), Ca::new("other"));
    let own = ["127.0.0.1"];
    let cases = [
        (other.serving(&own), "not by the given CA"),
        (ca.serving_between(&own, 2001, 2002), "ended"),
        (ca.serving_between(&own, 3999, 4000), "not begun"),
        (ca.serving(&["m.west.example"]), "another name"),
    ];
    for (serving, fault) in cases {
        let peer = Peer::start(&serving, |_| json("{}")).await;
        let Err(Failure::Tls { fault: found, url }) = get(&peer, &ca).await else { panic!("{fault}") };
        let expected = match fault {
            "not by the given CA" => matches!(found, TlsFault::NotByGivenCa { presented: Some(_) }),
            "ended" => matches!(&found, TlsFault::Expired { at } if at == "2002-01-01T00:00:00Z"),
            "not begun" => matches!(&found, TlsFault::NotYetValid { at } if at == "3999-01-01T00:00:00Z"),
            _ => matches!(&found, TlsFault::WrongName { presented } if presented == &["m.west.example"]),
        };
        assert!(expected, "{fault}: {found:?}");
        assert!(url.ends_with(DOCUMENT));
        assert_eq!(peer.requests().len(), 0);
    }
}

#[tokio::test]
async fn without_a_given_ca_an_unknown_issuer_is_waited_for() {
    let ca = Ca::new("east");
    let peer = Peer::start(&ca.serving(&["127.0.0.1"]), |_| json("{}")).await;
    let client = Fetcher::new(limits()).peer(&endpoint(&peer), None, &loopback());
    let failure = match client {
        Ok(client) => client.get(DOCUMENT, None).await.unwrap_err(),
        // a machine without any root is an error
        Err(failure) => return assert!(failure.to_string().contains("no CA certificates"), "{failure}"),
    };
    assert!(
        matches!(failure, Failure::Tls { fault: TlsFault::UnknownIssuer { presented: Some(_) }, .. }),
        "{failure:?}"
    );
    assert!(failure.is_waiting_before_first_contact());
    let message = failure.to_string();
    assert!(
        message.contains("metadata.ca") && message.contains("`CN=east` signed it for `CN=rcgen self signed cert`"),
        "{message}"
    );
}

#[test]
fn a_given_ca_without_a_certificate_is_no_ca() {
    let endpoint = "https://m.east.example".parse().unwrap();
    for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "hello"] {
        let failure = Fetcher::new(limits()).peer(&endpoint, Some(pem), &[]).unwrap_err();
        assert!(failure.to_string().contains("metadata.ca"), "{failure}");
    }
}

#[rstest]
#[case("127.0.0.1")]
#[case("127.8.9.1")]
#[case("169.254.169.254")]
#[case("0.0.0.0")]
#[case("224.0.0.1")]
#[case("255.255.255.255")]
#[case("::1")]
#[case("fe80::1")]
#[case("ff02::1")]
#[case("::ffff:127.0.0.1")]
#[case("64:ff9b::a9fe:a9fe")]
#[case("2002:7f00:1::")]
#[tokio::test]
async fn inside_addresses_are_not_dialled_whether_named_or_resolved(#[case] inside: &str) {
    let ca = Ca::new("east");
    let peer = Peer::start(&ca.serving(&["127.0.0.1"]), |_| json("{}")).await;
    let port = peer.address.port();
    let literal = if inside.contains(':') { format!("[{inside}]") } else { inside.to_owned() };
    let literal = format!("https://{literal}:{port}").parse().unwrap();
    let refused = Fetcher::new(limits()).peer(&literal, Some(&ca.pem), &[]);
    assert!(matches!(refused, Err(Failure::Outside { .. })), "{refused:?}");
    let fetcher = Fetcher::new(limits()).with_lookup(to(&[inside]));
    let named = format!("https://m.east.example:{port}").parse().unwrap();
    let refused = fetcher.peer(&named, Some(&ca.pem), &[]).unwrap().get(DOCUMENT, None).await;
    assert!(matches!(refused, Err(Failure::Outside { .. })), "{refused:?}");
    assert!(!refused.unwrap_err().is_waiting_before_first_contact());
    assert_eq!(peer.connections(), 0);
}

#[tokio::test]
async fn the_systems_resolver_is_asked_and_its_answers_are_judged() {
    let ca = Ca::new("east");
    let peer = Peer::start(&ca.serving(&["localhost"]), |_| json("{}")).await;
    let endpoint = format!("https://localhost:{}", peer.address.port()).parse().unwrap();
    let fetcher = Fetcher::new(limits());
    let inside = fetcher.peer(&endpoint, Some(&ca.pem), &[]).unwrap().get(DOCUMENT, None).await;
    assert!(matches!(inside, Err(Failure::Outside { .. })), "{inside:?}");
    let allowed = fetcher.peer(&endpoint, Some(&ca.pem), &loopback()).unwrap().get(DOCUMENT, None).await;
    assert_eq!(allowed.unwrap(), b"{}");
}

#[tokio::test]
async fn a_name_is_judged_each_time_it_is_dialled_and_by_its_allowed_ranges() {
    let ca = Ca::new("east");
    let serving = ca.serving(&["m.east.example"]);
    let peer =
        Peer::start(&serving, |_| [answer("200 OK", "connection: close\r\n", "{}"), vec![PeerStep::Close]].concat())
            .await;
    let endpoint = format!("https://m.east.example:{}", peer.address.port()).parse().unwrap();
    // the first answer is allowed, the second points elsewhere
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let rebinding: Lookup = Arc::new(move |_| {
        let first = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        let address = if first { "127.0.0.1" } else { "169.254.169.254" };
        Box::pin(async move { Ok(vec![address.parse().unwrap()]) })
    });
    let fetcher = Fetcher::new(limits()).with_lookup(rebinding);
    let client = fetcher.peer(&endpoint, Some(&ca.pem), &loopback()).unwrap();
    assert!(client.get(DOCUMENT, None).await.is_ok());
    let second = client.get(DOCUMENT, None).await;
    assert!(matches!(&second, Err(Failure::Outside { address, .. }) if address == "169.254.169.254"), "{second:?}");
    // of several answers only the allowed ones are dialled
    let fetcher = Fetcher::new(limits()).with_lookup(to(&["203.0.113.7", "10.0.0.1", "127.0.0.1"]));
    let client = fetcher.peer(&endpoint, Some(&ca.pem), &loopback()).unwrap();
    assert!(client.get(DOCUMENT, None).await.is_ok());
}
