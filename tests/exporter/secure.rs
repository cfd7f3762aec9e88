//! istiod is shown a token over TLS, or none.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{BufMut as _, Bytes};
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use isthmus::roles::exporter::{ExporterOptions, MAX_AGE};
use isthmus::server::{Body, BodyError};
use isthmus::wire::metadata::Reported;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::sources::{SourcesWorld, address, config_map, istiod_spec, page_after, pod, seen};
use crate::support::peer::{Ca, Serving};

/// Tokens that were shown, by port.
type ShownTokensByPort = Arc<Mutex<Vec<(u16, Option<String>)>>>;

/// A field of bytes as protobuf writes it, of less than 16 KiB.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    let head = [number << 3 | 2, u8::try_from(length & 0x7f).unwrap() | 0x80, u8::try_from(length >> 7).unwrap()];
    [&head[..], value].concat()
}

/// What istiod answers on a stream: each page that a request names.
fn answer_to(request: &[u8]) -> Bytes {
    let names = |page: &[u8]| request.windows(page.len()).any(|window| window == page);
    assert!(names(b"istio.io/debug") && names(b"sidecar~0.0.0.0~isthmus-exporter.istio-system~"), "{request:?}");
    let page = match () {
        () if names(b"clusterz") => json!([{"id": "west", "secretName": "a/b", "syncStatus": "synced"}]),
        () if names(b"networkz") => json!([]),
        () if names(b"mesh") => json!({"trustDomain": "cluster.local"}),
        () => panic!("{request:?}"),
    };
    let resource = [field(1, b"istio.io/debug"), field(2, page.to_string().as_bytes())].concat();
    let response = [field(1, b"version"), field(2, &resource), field(4, b"istio.io/debug")].concat();
    let mut message = vec![0];
    message.put_u32(u32::try_from(response.len()).unwrap());
    message.extend(response);
    message.into()
}

/// The requests of a stream, answered one by one; with a `status` it ends at once.
fn stream_of(body: Incoming, status: Option<u32>) -> Body {
    let refused = status.map(|status| {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.into())]);
        Ok::<_, BodyError>(Frame::trailers(trailers))
    });
    if let Some(refused) = refused {
        return StreamBody::new(stream::iter([refused])).boxed_unsync();
    }
    let frames = stream::unfold((body, Vec::new()), |(mut body, mut chunks): (Incoming, Vec<u8>)| async move {
        loop {
            if chunks.len() >= 5 {
                let length = usize::try_from(u32::from_be_bytes(chunks[1..5].try_into().unwrap())).unwrap() + 5;
                if chunks.len() >= length {
                    let answer = answer_to(&chunks[5..length]);
                    return Some((Ok(Frame::data(answer)), (body, chunks.split_off(length))));
                }
            }
            chunks.extend(body.frame().await?.ok()?.into_data().unwrap());
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// An istiod's secure port, with a certificate of a CA, and how many connections are open there.
async fn secure_port(ip: &str, ca: &Ca, status: Option<u32>, shown: &ShownTokensByPort) -> Arc<AtomicUsize> {
    let open = Arc::new(AtomicUsize::new(0));
    let Serving { chain, key } = ca.serving(&["istiod.istio-system.svc"]);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (listener, acceptor) =
        (TcpListener::bind(format!("{ip}:15012")).await.unwrap(), TlsAcceptor::from(Arc::new(config)));
    let (shown, opened) = (shown.clone(), open.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let shown = shown.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let token = request.headers().get("authorization").map(|token| token.to_str().unwrap().to_owned());
                shown.lock().unwrap().push((15012, token));
                assert!(request.uri().path().ends_with("AggregatedDiscoveryService/StreamAggregatedResources"));
                let response = Response::builder().header("content-type", "application/grpc");
                let response = response.body(stream_of(request.into_body(), status)).unwrap();
                async move { Ok::<_, Infallible>(response) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let (served, open) = (builder.serve_connection(TokioIo::new(stream), service), opened.clone());
            open.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                drop(served.await);
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    open
}

/// The plain ports of an istiod that wants a token there, too.
async fn plain_ports(ip: &str, shown: &ShownTokensByPort) {
    for port in [15014, 8080] {
        let shown = shown.clone();
        let answer = move |_: &str, token: Option<&str>| {
            shown.lock().unwrap().push((port, token.map(str::to_owned)));
            (401, "unauthorized".to_owned())
        };
        page_after(format!("{ip}:{port}").parse().unwrap(), |_| std::future::ready(()), answer).await;
    }
}

/// A cluster whose one istiod has a certificate of `ca`, where `root` is the CA that the cluster publishes.
async fn world(ip: &str, root: &Ca, token: Option<PathBuf>) -> SourcesWorld {
    let mut world = SourcesWorld::new().await;
    world.kube.put("configmaps", config_map("istio-ca-root-cert", &json!({"root-cert.pem": root.pem})));
    world.kube.put("pods", pod("istiod-0", &json!({"app": "istiod"}), &istiod_spec(), ip));
    world.begin_as(MAX_AGE, ExporterOptions { istio_token: token, ..ExporterOptions::default() }).await;
    world
}

fn reads(world: &SourcesWorld) -> Option<Reported<usize>> {
    Some(match seen(world)?.reads {
        Reported::Seen(reads) => Reported::Seen(reads.len()),
        Reported::Unknown(reason) => Reported::Unknown(reason),
    })
}

fn token_file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "of-the-exporter\n").unwrap();
    (folder, file)
}

#[tokio::test]
async fn pages_come_over_tls_and_plain_ports_are_not_asked() {
    let (ip, root, shown) = (address(31), Ca::new("root"), ShownTokensByPort::default());
    let open = secure_port(&ip, &root, None, &shown).await;
    plain_ports(&ip, &shown).await;
    let (_folder, token) = token_file();
    let world = world(&ip, &root, Some(token)).await;
    world.until("evidence", |world| reads(world) == Some(Reported::Seen(1))).await;
    let evidence = seen(&world).unwrap();
    assert_eq!(evidence.trusts.seen().map(std::collections::BTreeSet::len), Some(1), "{:?}", evidence.trusts);
    assert!(evidence.networks.seen().is_some());
    // each question has a connection of its own, which ends with it
    world.until("no connection", |_| open.load(Ordering::SeqCst) == 0).await;
    let shown = shown.lock().unwrap();
    assert!(!shown.is_empty());
    assert!(shown.iter().all(|one| *one == (15012, Some("Bearer of-the-exporter".to_owned()))), "{shown:?}");
}

/// Whatever the secure port does, no token comes over a plain one.
#[tokio::test]
async fn no_token_is_shown_in_plain_text_and_to_no_one_whose_certificate_is_not_istiods() {
    let root = Ca::new("root");
    let cases = [
        (32, None, "port 15012: Connection refused"),
        (33, Some((Ca::new("other"), None)), "port 15012: "),
        (34, Some((Ca::new("root"), Some(16))), "port 15012: "),
    ];
    for (last, secure, reason) in cases {
        let (ip, shown) = (address(last), ShownTokensByPort::default());
        plain_ports(&ip, &shown).await;
        let refuses = matches!(secure, Some((_, Some(_))));
        if let Some((ca, status)) = &secure {
            // one that refuses the token is the cluster's own
            secure_port(&ip, if refuses { &root } else { ca }, *status, &shown).await;
        }
        let (_folder, token) = token_file();
        let world = world(&ip, &root, Some(token)).await;
        let is_unknown = |world: &SourcesWorld| matches!(reads(world), Some(Reported::Unknown(_)));
        world.until("no evidence", is_unknown).await;
        let Some(Reported::Unknown(why)) = reads(&world) else { panic!() };
        assert!(why.contains(reason) && why.contains("port 15014: 401 Unauthorized"), "{why}");
        assert_eq!(why.contains("gRPC status 16"), refuses, "{why}");
        let shown = shown.lock().unwrap();
        assert!(shown.iter().any(|(port, _)| *port == 15014));
        let is_fine = |(port, token): &(u16, Option<String>)| token.is_none() || (*port == 15012 && refuses);
        assert!(shown.iter().all(is_fine), "{shown:?}");
    }
}
