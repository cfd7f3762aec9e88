//! The HTTPS server: certificates exchanged while it serves, limits on whoever asks, a graceful end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use isthmus::server::{Body, Bound, Certificates, Handler, Running, ServerLimits, TlsError, whole};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::peer::{Ca, Serving};

/// Answers `/wait` after a while, fails at `/fail`, panics at `/panic`.
#[derive(Default)]
struct Rooms {
    problems: AtomicUsize,
    asked: AtomicUsize,
}

/// What no one outside may read.
#[derive(Debug, thiserror::Error)]
#[error("a secret detail")]
struct SecretDetail;

impl Handler for Rooms {
    type Error = SecretDetail;

    async fn handle(&self, request: Request<Incoming>, from: SocketAddr) -> Result<Response<Body>, SecretDetail> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match request.uri().path() {
            "/wait" => tokio::time::sleep(Duration::from_millis(400)).await,
            "/from" => return Ok(Response::new(whole(format!("from {}\n", from.ip())))),
            "/hang" => std::future::pending().await,
            "/fail" => return Err(SecretDetail),
            "/panic" => panic!("a handler panics"),
            _ => {}
        }
        Ok(Response::new(whole(format!("{:?} {}\n", request.version(), request.uri().path()))))
    }

    fn problem(&self, _: SocketAddr, _: &(dyn std::error::Error + 'static)) {
        self.problems.fetch_add(1, Ordering::SeqCst);
    }
}

fn limits() -> ServerLimits {
    ServerLimits {
        handshake: Duration::from_millis(300),
        header: Duration::from_millis(300),
        request: Some(Duration::from_millis(800)),
        idle: Duration::from_millis(600),
        ..ServerLimits::default()
    }
}

struct Served {
    ca: Ca,
    certificates: Certificates,
    rooms: Arc<Rooms>,
    running: Running,
}

async fn serve(limits: ServerLimits) -> Served {
    let ca = Ca::new("exporter");
    let Serving { chain, key } = ca.serving(&["127.0.0.1"]);
    let certificates = Certificates::from_pem(&chain, &key).unwrap();
    let rooms = Arc::new(Rooms::default());
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    assert_ne!(bound.address().port(), 0);
    let running = bound.serve(&certificates, limits, rooms.clone());
    Served { ca, certificates, rooms, running }
}

impl Served {
    async fn connect(&self, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_after(b"", alpn).await
    }

    /// The same with something in front of TLS.
    async fn connect_after(&self, header: &[u8], alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut stream = TcpStream::connect(self.running.address()).await?;
        stream.write_all(header).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends bytes over HTTP/1.1 and reads to the end.
    async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect(&["http/1.1"]).await.unwrap();
        stream.write_all(bytes.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        let _end_or_reset = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        self.say(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }
}

#[tokio::test]
async fn alpn_decides_between_the_versions_and_none_means_the_older() {
    let served = serve(limits()).await;
    assert!(served.get("/room").await.ends_with("HTTP/1.1 /room\n"));
    let mut old = served.connect(&[]).await.unwrap();
    old.write_all(b"GET /old HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("HTTP/1.1 /old\n"), "{answer}");
    let stream = served.connect(&["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://x/new").body(whole("")).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, "HTTP/2.0 /new\n");
}

#[tokio::test]
async fn an_error_is_a_500_without_its_message_and_a_panic_ends_one_connection() {
    let served = serve(limits()).await;
    let failed = served.get("/fail").await;
    assert!(failed.starts_with("HTTP/1.1 500 ") && !failed.contains("secret"), "{failed}");
    assert_eq!(served.get("/panic").await, "");
    let late = served.get("/hang").await;
    assert!(late.starts_with("HTTP/1.1 500 "), "{late}");
    assert!(served.get("/room").await.starts_with("HTTP/1.1 200 "));
    assert!(served.rooms.problems.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn requests_above_the_limits_never_reach_the_handler() {
    let served = serve(limits()).await;
    let long = served.get(&format!("/{}", "x".repeat(1100))).await;
    assert!(long.starts_with("HTTP/1.1 414 "), "{long}");
    let body = served.say("GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc").await;
    assert!(body.starts_with("HTTP/1.1 413 "), "{body}");
    let chunked = "GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n";
    assert!(served.say(chunked).await.starts_with("HTTP/1.1 413 "));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(70));
    assert!(served.say(many).await.starts_with("HTTP/1.1 431 "));
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    assert!(served.say(large).await.starts_with("HTTP/1.1 431 "));
    let smuggled = "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let smuggled = served.say(smuggled).await;
    assert!(smuggled.is_empty() || smuggled.starts_with("HTTP/1.1 4"), "{smuggled}");
    assert_eq!(served.rooms.asked.load(Ordering::SeqCst), 0);
    let fits = format!("/{}", "x".repeat(1000));
    assert!(served.get(&fits).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn whoever_says_nothing_is_cut_off_at_each_stage() {
    let served = serve(limits()).await;
    let begun = Instant::now();
    // before TLS
    let mut silent = TcpStream::connect(served.running.address()).await.unwrap();
    let mut end = Vec::new();
    let _reset = silent.read_to_end(&mut end).await;
    assert!(end.is_empty() || end.len() < 32, "an alert at most: {end:?}");
    // after TLS, in both versions; a header that never ends; a connection without a further request
    for (alpn, bytes) in [
        ("http/1.1", ""),
        ("h2", ""),
        ("h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("http/1.1", "GET / HTTP/1.1\r\nx: "),
        ("http/1.1", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
    ] {
        let mut stream = served.connect(&[alpn]).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "still open: {alpn} {bytes:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert!(served.get("/room").await.starts_with("HTTP/1.1 200 "));
}

/// Whether the other side ends a connection soon.
async fn ends(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn whoever_comes_takes_the_place_of_the_oldest_stranger_of_its_address() {
    let patient = Duration::from_mins(1);
    let served = serve(ServerLimits { connections_of_one: 2, header: patient, idle: patient, ..limits() }).await;
    // those of this server have nothing to show, so a request makes a connection known
    let mut known = served.connect(&["http/1.1"]).await.unwrap();
    known.write_all(b"GET /first HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 256];
    assert!(known.read(&mut answer).await.unwrap() > 0);
    let mut first = served.connect(&["http/1.1"]).await.unwrap();
    let _second = served.connect(&["http/1.1"]).await.unwrap();
    let _third = served.connect(&["http/1.1"]).await.unwrap();
    assert!(ends(&mut first).await, "the oldest stranger keeps its place");
    known.write_all(b"GET /second HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    known.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("/second\n"), "{answer}");
}

#[tokio::test]
async fn a_certificate_is_exchanged_without_a_failed_handshake() {
    let served = serve(limits()).await;
    let serial = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].as_ref().to_vec();
    let mut before = serial(&served.connect(&["http/1.1"]).await.unwrap());
    for _ in 0..20 {
        let Serving { chain, key } = served.ca.serving(&["127.0.0.1"]);
        served.certificates.replace(&chain, &key).unwrap();
        let after = serial(&served.connect(&["http/1.1"]).await.unwrap());
        assert_ne!(after, before);
        before = after;
    }
    let (one, other) = (served.ca.serving(&["127.0.0.1"]), served.ca.serving(&["127.0.0.1"]));
    assert!(matches!(served.certificates.replace(&one.chain, &other.key), Err(TlsError::Pair(_))));
    assert!(matches!(served.certificates.replace("", &one.key), Err(TlsError::NoCertificate)));
    assert!(matches!(served.certificates.replace(&one.chain, ""), Err(TlsError::Key(_))));
    assert_eq!(serial(&served.connect(&["http/1.1"]).await.unwrap()), before, "the old one stays");
    assert!(!format!("{:?}", served.certificates).contains("KEY"));
}

#[tokio::test]
async fn stopping_lets_answers_finish_and_takes_no_more() {
    let served = serve(limits()).await;
    let address = served.running.address();
    let mut stream = served.connect(&["http/1.1"]).await.unwrap();
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    while served.rooms.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    served.running.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("/wait\n"), "{answer}");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn only_a_trusted_load_balancer_says_whose_connection_it_passes_on() {
    const V1: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 443\r\n";
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x08\xcb\0\x71\x01\x9c\x40\x01\xbb";
    const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let ask = async |served: &Served, header: &[u8]| -> std::io::Result<String> {
        let mut stream = served.connect_after(header, &["http/1.1"]).await?;
        stream.write_all(b"GET /from HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.lines().last().unwrap_or_default().to_owned())
    };
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let behind = serve(ServerLimits { trusted_proxies, ..limits() }).await;
    for (header, from) in [(V1, "from 198.51.100.7"), (V2, "from 198.51.100.8"), (LOCAL, "from 127.0.0.1")] {
        assert_eq!(ask(&behind, header).await.unwrap(), from);
    }
    // a trusted source has to say whose connection it is, once
    assert!(ask(&behind, b"").await.is_err());
    assert!(ask(&behind, &[V1, V1].concat()).await.is_err());
    assert!(ask(&behind, b"PROXY TCP4 x\r\n").await.is_err());
    // half a header ends with the time for a handshake
    assert!(ask(&behind, &V2[..13]).await.is_err());
    // from anywhere else a header is no beginning of TLS
    let elsewhere = vec!["192.0.2.0/24".parse().unwrap()];
    let open = serve(ServerLimits { trusted_proxies: elsewhere, ..limits() }).await;
    assert_eq!(ask(&open, b"").await.unwrap(), "from 127.0.0.1");
    for header in [V1, V2, LOCAL] {
        assert!(ask(&open, header).await.is_err());
    }
}

#[tokio::test]
async fn limits_count_by_the_address_that_a_load_balancer_states() {
    let patient = Duration::from_secs(20);
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let limits = ServerLimits { connections_of_one: 1, header: patient, idle: patient, trusted_proxies, ..limits() };
    let served = serve(limits).await;
    let connect = async |client: u8| {
        let header = format!("PROXY TCP4 198.51.100.{client} 203.0.113.1 40000 443\r\n");
        served.connect_after(header.as_bytes(), &["http/1.1"]).await.unwrap()
    };
    let (mut first, mut other) = (connect(1).await, connect(2).await);
    let mut second = connect(1).await;
    // the second of one client takes the place of its first, and of no other's
    let mut nothing = [0; 1];
    assert!(!matches!(first.read(&mut nothing).await, Ok(1..)));
    for stream in [&mut second, &mut other] {
        stream.write_all(b"GET /from HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }
}
