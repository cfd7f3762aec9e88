//! Connections to one origin that carry many long requests, against an apiserver of 100 streams a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use isthmus::server::upstream::{Awaited, Origin, Upstream, UpstreamError, UpstreamLimits};
use isthmus::server::{Body, whole};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::support::apiserver::{Apiserver, answer, flood, streaming};
use crate::support::peer::{Ca, Peer, PeerStep};

const PATIENCE: Duration = Duration::from_secs(10);

fn tls(ca: &Ca) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn upstream(apiserver: &Apiserver, limits: UpstreamLimits) -> Upstream {
    Upstream::new(Origin::new("127.0.0.1", apiserver.address.port()).unwrap(), tls(&apiserver.ca), limits)
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(whole("")).unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn requests_are_spread_and_one_that_is_not_read_holds_up_no_other() {
    let (event_sender, _) = tokio::sync::broadcast::channel::<()>(4);
    let events = event_sender.clone();
    let apiserver = Apiserver::start(move |asked| {
        if asked.path == "/flood" {
            return Some(answer(200, &[], flood(Bytes::from_static(&[b'x'; 16 * 1024]))));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut events = events.subscribe();
        tokio::spawn(async move {
            while events.recv().await.is_ok() && sender.send(Ok(Bytes::from_static(b"event\n"))).is_ok() {}
        });
        Some(answer(200, &[], streaming(receiver)))
    })
    .await;
    let upstream = upstream(&apiserver, UpstreamLimits::default());
    // as many on the first connection as would fill a window that did not count them all
    let stalled = join_all((0..20).map(|_| upstream.send(get("/flood"), PATIENCE))).await;
    let watches = join_all((0..230).map(|_| upstream.send(get("/watch"), PATIENCE))).await;
    let mut bodies: Vec<Body> = watches.into_iter().map(|watch| watch.unwrap().into_body()).collect();
    assert_eq!(apiserver.connections(), 3, "90 requests a connection");
    assert_eq!(upstream.connections(), 3);
    let mut counts = [0usize; 3];
    for asked in apiserver.asked() {
        counts[asked.connection] += 1;
    }
    assert_eq!(counts, [90, 90, 70]);
    // the floods fill their windows
    sleep(Duration::from_millis(300)).await;
    event_sender.send(()).unwrap();
    let frames = timeout(Duration::from_secs(5), join_all(bodies.iter_mut().map(|body| body.frame()))).await.unwrap();
    assert!(frames.into_iter().all(|frame| frame.unwrap().unwrap().into_data().unwrap() == "event\n"));
    drop(stalled);
    drop(bodies);
    // places are given back
    let again = join_all((0..90).map(|_| upstream.send(get("/watch"), PATIENCE))).await;
    assert!(again.iter().all(Result::is_ok));
    assert_eq!(apiserver.connections(), 3);
}

#[tokio::test]
async fn connections_that_went_away_are_replaced_without_a_failure() {
    let apiserver = Apiserver::start(|_| Some(answer(200, &[], whole("ok")))).await;
    let limits = UpstreamLimits { streams: 2, ..UpstreamLimits::default() };
    let upstream = upstream(&apiserver, limits);
    let eight = || async {
        let answers = join_all((0..8).map(|_| upstream.send(get("/"), PATIENCE))).await;
        // held until all are there, so that several connections are needed
        for answer in answers {
            assert_eq!(text(answer.unwrap()).await, "ok");
        }
    };
    eight().await;
    assert_eq!(apiserver.connections(), 4);
    for round in 2..5 {
        apiserver.go_away();
        sleep(Duration::from_millis(50)).await;
        eight().await;
        assert!(apiserver.connections() <= 4 * round, "{}", apiserver.connections());
    }
    apiserver.kill().await;
    apiserver.revive().await;
    sleep(Duration::from_millis(50)).await;
    eight().await;
}

#[tokio::test]
async fn an_answer_under_way_survives_a_connection_that_takes_no_more() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let watch = std::sync::Mutex::new(Some(receiver));
    let apiserver = Apiserver::start(move |asked| {
        let body = if asked.path == "/watch" { streaming(watch.lock().unwrap().take().unwrap()) } else { whole("ok") };
        Some(answer(200, &[], body))
    })
    .await;
    let upstream = upstream(&apiserver, UpstreamLimits::default());
    let mut body = upstream.send(get("/watch"), PATIENCE).await.unwrap().into_body();
    apiserver.go_away();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(text(upstream.send(get("/"), PATIENCE).await.unwrap()).await, "ok");
    sender.send(Ok(Bytes::from_static(b"event"))).unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "event");
    // and one that breaks is an error, never an end
    apiserver.kill().await;
    assert!(timeout(PATIENCE, body.frame()).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn a_request_whose_head_went_out_is_not_sent_again() {
    let ca = Ca::new("breaks");
    let breaking = Peer::start(&ca.serving(&["127.0.0.1"]), |_| vec![PeerStep::Close]).await;
    let upstream =
        Upstream::new(Origin::new("127.0.0.1", breaking.address.port()).unwrap(), tls(&ca), UpstreamLimits::default());
    let error = upstream.send(get("/"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Broken(_)), "{error}");
    assert_eq!(breaking.requests().len(), 1);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn an_origin_without_http_2_gets_a_connection_for_each_request() {
    let apiserver = Apiserver::start_with(&["http/1.1"], |asked| {
        let moved = asked.path == "/moved";
        Some(answer(if moved { 302 } else { 200 }, &[("location", "https://elsewhere.example/")], whole("ok")))
    })
    .await;
    let upstream = upstream(&apiserver, UpstreamLimits { connections: 3, ..UpstreamLimits::default() });
    let held: Vec<_> = join_all((0..3).map(|_| upstream.send(get("/a?b=c"), PATIENCE))).await;
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(upstream.send(get("/"), PATIENCE).await.unwrap_err(), UpstreamError::Full(3));
    drop(held);
    // no redirect is followed
    assert_eq!(upstream.send(get("/moved"), PATIENCE).await.unwrap().status(), 302);
    let asked = apiserver.asked();
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[0].headers["host"], apiserver.address.to_string());
    assert_eq!(asked[0].path, "/a?b=c");
}

#[tokio::test]
async fn a_change_of_protocol_is_an_error_and_ends_the_connection() {
    let ca = Ca::new("changes");
    let serving = ca.serving(&["127.0.0.1"]);
    let seen_end = Arc::new(AtomicUsize::new(0));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(serving.chain.as_bytes()).map(Result::unwrap).collect();
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ended = seen_end.clone();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let change = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        stream.write_all(change).await.unwrap();
        let rest = stream.read_to_end(&mut Vec::new()).await;
        ended.fetch_add(1, Ordering::SeqCst);
        rest.unwrap_or(0)
    });
    let upstream = Upstream::new(Origin::new("127.0.0.1", port).unwrap(), tls(&ca), UpstreamLimits::default());
    assert_eq!(upstream.send(get("/"), PATIENCE).await.unwrap_err(), UpstreamError::Upgrade);
    assert_eq!(timeout(PATIENCE, serving).await.unwrap().unwrap(), 0, "nothing more is sent");
    assert_eq!(seen_end.load(Ordering::SeqCst), 1);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn whoever_waits_for_a_connection_that_fails_fails_with_it() {
    // accepts and says nothing
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin::new("127.0.0.1", silent.local_addr().unwrap().port()).unwrap();
    let limits = UpstreamLimits { handshake: Duration::from_millis(300), ..UpstreamLimits::default() };
    let upstream = Upstream::new(origin, tls(&Ca::new("any")), limits);
    let begin = Instant::now();
    let errors = join_all((0..20).map(|_| upstream.send(get("/"), PATIENCE))).await;
    assert!(
        errors.iter().all(|error| matches!(error, Err(UpstreamError::Timeout(Awaited::TlsHandshake)))),
        "{errors:?}"
    );
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    drop(silent);
    let error = upstream.send(get("/"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Connect(_)), "{error}");
}

#[tokio::test]
async fn an_origin_of_another_ca_or_name_is_not_talked_to() {
    let apiserver = Apiserver::start(|_| Some(answer(200, &[], whole("ok")))).await;
    let port = apiserver.address.port();
    let other =
        Upstream::new(Origin::new("127.0.0.1", port).unwrap(), tls(&Ca::new("other")), UpstreamLimits::default());
    assert!(matches!(other.send(get("/"), PATIENCE).await, Err(UpstreamError::Tls(_))));
    let mut origin = Origin::new("127.0.0.1", port).unwrap();
    origin.server_name = Origin::new("kubernetes.example", 443).unwrap().server_name;
    let other = Upstream::new(origin, tls(&apiserver.ca), UpstreamLimits::default());
    assert!(matches!(other.send(get("/"), PATIENCE).await, Err(UpstreamError::Tls(_))));
    assert!(apiserver.asked().is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_slow_answer_is_given_up() {
    let apiserver = Apiserver::start(|asked| {
        let body = if asked.path == "/slow" { streaming(mpsc::unbounded_channel().1) } else { whole("ok") };
        Some(answer(200, &[], body))
    })
    .await;
    let limits = UpstreamLimits { idle: Duration::from_millis(100), ..UpstreamLimits::default() };
    let idle = upstream(&apiserver, limits);
    for expected in 1..4 {
        assert_eq!(text(idle.send(get("/"), PATIENCE).await.unwrap()).await, "ok");
        assert_eq!(apiserver.connections(), expected);
        sleep(Duration::from_millis(150)).await;
    }
    let ca = Ca::new("hangs");
    let hanging = Peer::start(&ca.serving(&["127.0.0.1"]), |_| vec![PeerStep::Hang]).await;
    let origin = Origin::new("127.0.0.1", hanging.address.port()).unwrap();
    let patient = Upstream::new(origin, tls(&ca), UpstreamLimits::default());
    let error = patient.send(get("/"), Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error, UpstreamError::Timeout(Awaited::Answer));
    assert_eq!(patient.connections(), 0);
}
