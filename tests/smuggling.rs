//! Framings of HTTP/1.1 that two readers may take in two ways, on raw sockets: straight to a server of ours, and through Envoy in
//! front of it, where the bed has one. No request reaches the server that whoever is in front did not see as one.
#![allow(clippy::print_stdout, reason = "what is skipped")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use isthmus::server::{Asker, Body, Bound, Certificates, Handler, Running, ServerLimits, whole};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::support::peer::{Ca, Serving};

/// Hears of every request, also of those that the server refuses by itself.
#[derive(Default)]
struct Heard {
    paths: Mutex<Vec<String>>,
    refused: Mutex<usize>,
}

impl Handler for Heard {
    type Error = std::convert::Infallible;

    fn admit(&self, request: &mut Request<Incoming>, _: SocketAddr) -> Asker {
        self.paths.lock().unwrap().push(request.uri().path().to_owned());
        Asker::Anyone
    }

    fn refused(&self, _: SocketAddr, _: StatusCode) {
        *self.refused.lock().unwrap() += 1;
    }

    async fn handle(&self, _: Request<Incoming>, _: SocketAddr) -> Result<Response<Body>, Self::Error> {
        Ok(Response::new(whole("ok\n")))
    }
}

struct HeardServer {
    heard: Arc<Heard>,
    ca: Ca,
    running: Running,
}

impl HeardServer {
    async fn start() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let ca = Ca::new("server");
        let Serving { chain, key } = ca.serving(&["127.0.0.1"]);
        let certificates = Certificates::from_pem(&chain, &key).unwrap();
        let heard = Arc::new(Heard::default());
        let limits = ServerLimits {
            header: Duration::from_secs(1),
            idle: Duration::from_secs(1),
            refusals: 1000,
            ..ServerLimits::default()
        };
        let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let running = bound.serve(&certificates, limits, heard.clone());
        Self { heard, ca, running }
    }

    fn take(&self) -> (Vec<String>, usize) {
        (
            std::mem::take(&mut *self.heard.paths.lock().unwrap()),
            std::mem::take(&mut *self.heard.refused.lock().unwrap()),
        )
    }
}

/// What is hidden in the body, or behind the head, of another request.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Requests for `/asked` that hide another one, by what is odd about them.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let length = HIDDEN.len();
    let chunked = format!("0\r\n\r\n{HIDDEN}");
    let head = |lines: &str, body: &str| format!("GET /asked HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}").into_bytes();
    let cl = |value: String| head(&format!("Content-Length: {value}\r\n"), HIDDEN);
    let te = |line: &str| head(&format!("{line}\r\nContent-Length: {}\r\n", chunked.len()), &chunked);
    vec![
        ("a body of a GET", cl(length.to_string())),
        ("a length with a sign", cl(format!("+{length}"))),
        ("a length in hexadecimal", cl(format!("{length:#x}"))),
        ("a length with a zero before", cl(format!("0{length}"))),
        ("a negative length", cl(format!("-{length}"))),
        ("a length with a space inside", cl("3 7".to_owned())),
        ("a length that is no number", cl("abc".to_owned())),
        ("a length above all", cl("18446744073709551616".to_owned())),
        ("a length as a list of equals", cl(format!("{length}, {length}"))),
        ("a length as a list", cl(format!("0, {length}"))),
        ("two lengths", head(&format!("Content-Length: 0\r\nContent-Length: {length}\r\n"), HIDDEN)),
        (
            "two lengths, the other way round",
            head(&format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), HIDDEN),
        ),
        ("a length with a tab", cl(format!("\t{length}"))),
        ("a length of a name with a space", head(&format!("Content-Length : {length}\r\n"), HIDDEN)),
        ("a length behind a space", head(&format!(" Content-Length: {length}\r\n"), HIDDEN)),
        ("a length with a vertical tab", cl(format!("\u{b}{length}"))),
        ("chunked and a length", te("Transfer-Encoding: chunked")),
        ("a length and chunked", head(&format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 4), &chunked)),
        ("xchunked", te("Transfer-Encoding: xchunked")),
        ("chunked in capitals", te("Transfer-Encoding: CHUNKED")),
        ("chunked of a name with a space", te("Transfer-Encoding : chunked")),
        ("chunked behind a tab", te("Transfer-Encoding:\tchunked")),
        ("chunked behind a vertical tab", te("Transfer-Encoding:\u{b}chunked")),
        ("chunked in quotes", te("Transfer-Encoding: \"chunked\"")),
        ("chunked twice", te("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        ("chunked and identity", te("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
        ("identity and chunked", te("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked")),
        ("chunked, then identity in one", te("Transfer-Encoding: chunked, identity")),
        ("identity, then chunked in one", te("Transfer-Encoding: identity, chunked")),
        ("gzip, then chunked", te("Transfer-Encoding: gzip, chunked")),
        ("chunked on a line of its own", te("Transfer-Encoding:\r\n chunked")),
        ("chunked with a bare line feed", te("X: y\nTransfer-Encoding: chunked")),
        ("chunked with a bare carriage return", te("X: y\rTransfer-Encoding: chunked")),
        ("chunked behind a NUL", te("X: y\0\r\nTransfer-Encoding: chunked")),
        ("a chunk of a size with a sign", head("Transfer-Encoding: chunked\r\n", &format!("+0\r\n\r\n{HIDDEN}"))),
        ("a chunk of a size in hexadecimal", head("Transfer-Encoding: chunked\r\n", &format!("0x0\r\n\r\n{HIDDEN}"))),
        (
            "a chunk of a size above all",
            head("Transfer-Encoding: chunked\r\n", &format!("10000000000000000\r\n{HIDDEN}")),
        ),
        (
            "a chunk's extension with a line feed",
            head("Transfer-Encoding: chunked\r\n", &format!("0;a\nb\r\n\r\n{HIDDEN}")),
        ),
        ("a chunk with bare line feeds", head("Transfer-Encoding: chunked\r\n", &format!("0\n\n{HIDDEN}"))),
        ("a trailer that is a request", head("Transfer-Encoding: chunked\r\n", &format!("0\r\n{HIDDEN}"))),
        (
            "chunked in HTTP/1.0",
            format!("GET /asked HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}").into_bytes(),
        ),
        ("a field folded over two lines", head(&format!("X: y\r\n Content-Length: {length}\r\n"), HIDDEN)),
        (
            "a head with bare line feeds",
            format!("GET /asked HTTP/1.1\nHost: x\nContent-Length: {length}\n\n{HIDDEN}").into_bytes(),
        ),
        ("a field without a colon", head(&format!("Content-Length\r\nContent-Length: {length}\r\n"), HIDDEN)),
        ("a field without a name", head(&format!(": y\r\nContent-Length: {length}\r\n"), HIDDEN)),
        ("two hosts", head(&format!("Host: y\r\nContent-Length: {length}\r\n"), HIDDEN)),
        ("Expect", head(&format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"), HIDDEN)),
        (
            "an upgrade to h2c",
            head(
                &format!(
                    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {length}\r\n"
                ),
                HIDDEN,
            ),
        ),
        (
            "an upgrade to websocket",
            head(
                &format!(
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nContent-Length: {length}\r\n"
                ),
                HIDDEN,
            ),
        ),
        (
            "a length that the connection names",
            head(&format!("Connection: Content-Length\r\nContent-Length: {length}\r\n"), HIDDEN),
        ),
    ]
}

/// Sends bytes and reads what comes back, until the end or for a while.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(timeout(Duration::from_secs(3), stream.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn one_request_is_one_request_whatever_its_framing() {
    let server = HeardServer::start().await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca.pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let mut wrong = Vec::new();
    for (name, bytes) in corpus() {
        let stream = TcpStream::connect(server.running.address()).await.unwrap();
        let stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
        let answer = exchange(stream, &bytes).await;
        let (paths, _) = server.take();
        if paths.iter().any(|path| path != "/asked") || paths.len() > 1 || answer.matches("HTTP/1.1 200").count() > 1 {
            wrong.push(format!("{name}: {paths:?} {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Envoy, where the bed has one.
fn envoy() -> Option<PathBuf> {
    let cache = std::env::var_os("ISTHMUS_TESTBED").map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache").join("isthmus-testbed")))?;
    Some(cache.join("bin").join("envoy")).filter(|envoy| envoy.exists())
}

/// Ended with the test, also when it fails.
struct EnvoyProcess(Child);

impl Drop for EnvoyProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn configuration(port: u16, admin: u16, server: SocketAddr, ca: &str) -> String {
    let manager = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front", "codec_type": "HTTP1",
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "ours" } }] }] },
        "http_filters": [{ "name": "router", "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    let address = |port: u16| serde_json::json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    serde_json::json!({
        "admin": { "address": address(admin) },
        "static_resources": {
            "listeners": [{ "address": address(port), "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }] }],
            "clusters": [{
                "name": "ours", "type": "STATIC", "connect_timeout": "5s",
                "load_assignment": { "cluster_name": "ours", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(server.port()) } }] }] },
                "transport_socket": { "name": "tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "common_tls_context": { "validation_context": { "trusted_ca": { "inline_string": ca } } },
                } },
            }],
        },
    })
    .to_string()
}

/// How many requests Envoy sent on so far.
async fn sent_on(admin: u16) -> Option<usize> {
    let url = format!("http://127.0.0.1:{admin}/stats?filter=cluster.ours.upstream_rq_total");
    let text = reqwest::get(url).await.ok()?.text().await.ok()?;
    text.trim().strip_prefix("cluster.ours.upstream_rq_total: ")?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_envoy_no_request_comes_that_envoy_did_not_see() {
    let Some(envoy) = envoy() else {
        println!("no Envoy here; `just testbed` brings one");
        return;
    };
    let server = HeardServer::start().await;
    let (port, admin) = (free_port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy.json");
    let mut written = std::fs::File::create(&file).unwrap();
    written.write_all(configuration(port, admin, server.running.address(), &server.ca.pem).as_bytes()).unwrap();
    let mut command = Command::new(envoy);
    command.arg("-c").arg(&file).args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]);
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let _envoy = EnvoyProcess(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let begin = Instant::now();
    while sent_on(admin).await != Some(0) {
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(begin.elapsed() < Duration::from_mins(1), "Envoy does not begin: {log}");
        sleep(Duration::from_millis(100)).await;
    }
    let (mut wrong, mut before, mut passed) = (Vec::new(), 0, 0);
    for (name, bytes) in corpus() {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let answer = exchange(stream, &bytes).await;
        let after = sent_on(admin).await.unwrap();
        let (paths, refused) = server.take();
        let seen = after - std::mem::replace(&mut before, after);
        passed += seen;
        // what Envoy sends on is refused or heard, each once
        if paths.len() + refused > seen {
            wrong.push(format!("{name}: Envoy sent {seen}, {paths:?} and {refused} refused came; {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(passed > 5, "Envoy sent {passed} of them on");
}
