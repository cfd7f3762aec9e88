//! Requests over HTTP/2 and TLS, as many as a few connections carry, and what they cost whoever answers them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::front::acceptor;
use crate::process;

pub(crate) const CONNECTIONS: usize = 32;

fn tls(folder: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(folder.join("tls.crt")).unwrap()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A connection to a server with the certificate of the folder.
pub(crate) async fn connect(folder: &Path, address: &str) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(tls(folder)).connect(name, stream).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

/// Serves this and nothing else, with the certificate of the folder; prints its address.
pub(crate) async fn bare<S, B, F>(folder: &Path, service: S)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<B>, hyper::Error>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let acceptor = acceptor((&read("tls.crt"), &read("tls.key")), &[b"h2"]);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, service) = (acceptor.clone(), service.clone());
        tokio::spawn(async move {
            stream.set_nodelay(true).unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(builder.serve_connection(TokioIo::new(stream), service_fn(service)).await);
        });
    }
}

/// What is asked for, of whom.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) at: String,
    pub(crate) path: &'static str,
    pub(crate) headers: HeaderMap,
}

impl Question {
    /// Asks, and reads the answer to its end.
    pub(crate) async fn ask(&self, sender: &mut SendRequest<Empty<Bytes>>) -> (StatusCode, HeaderMap) {
        let mut request = Request::get(format!("https://{}{}", self.at, self.path)).body(Empty::new()).unwrap();
        *request.headers_mut() = self.headers.clone();
        let (head, mut body) = sender.send_request(request).await.unwrap().into_parts();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
        (head.status, head.headers)
    }

    /// How many are answered a CPU second of the process, of so many over [`CONNECTIONS`] connections.
    pub(crate) async fn a_cpu_second(&self, pid: u32, folder: &Path, requests: usize, expected: StatusCode) -> f64 {
        let senders = join_all((0..CONNECTIONS).map(|_| connect(folder, &self.at))).await;
        let before = process::cpu(pid);
        let asked = Arc::new(AtomicUsize::new(0));
        let work = senders.into_iter().map(|mut sender| {
            let (asked, question) = (asked.clone(), self.clone());
            tokio::spawn(async move {
                while asked.fetch_add(1, Ordering::Relaxed) < requests {
                    let (status, _) = question.ask(&mut sender).await;
                    assert_eq!(status, expected, "{} at {}", question.path, question.at);
                }
            })
        });
        for done in join_all(work).await {
            done.unwrap();
        }
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let requests = requests as f64;
        requests / process::cpu(pid).saturating_sub(before).as_secs_f64()
    }
}

/// A number of the environment, for shorter and longer runs.
pub(crate) fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
