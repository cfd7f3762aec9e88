//! Pages of a pod. istiod's debug pages are asked for over its secure port, with a token of the exporter's own that istiod takes and
//! with istiod's certificate verified: the token is a credential for certificates of the mesh, and is never shown over plain HTTP.
//! Where that port does not answer, the plain ports are asked without a token, which istiod allows only where its
//! `DEBUG_AUTH` is off.

use std::convert::Infallible;
use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::ready;
use futures_util::stream::{StreamExt as _, iter, once};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::cluster::tls;
use crate::istio::debug::DebugPage;
use crate::istio::discovery::{Messages, STREAM, page, request};
use crate::roles::exporter::reasons::{AskError, GetError};
use crate::types::name::Namespace;
use crate::types::tls_verdict::TlsVerdict;
use crate::wire::seen::PEERS_SEEN_PATH;

/// Where a pod finds the token of audience `istio-ca` that istiod takes.
const ISTIO_TOKEN: &str = "/var/run/secrets/isthmus/istio-token";
/// istiod's port for discovery over TLS.
const SECURE_PORT: u16 = 15012;
/// istiod's port for monitoring, and the one for debugging.
const DEBUG_PORTS: [u16; 2] = [15014, 8080];
const METRICS_PORT: u16 = 9090;
/// All questions to one port of one pod, to their last byte.
const PATIENCE: Duration = Duration::from_secs(2);
/// Largest page: the mesh configuration of a thousand clusters has 3 MiB.
const MOST: usize = 16 * 1024 * 1024;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// How istiods of a cluster are asked.
pub(super) struct IstiodClient {
    token_file: PathBuf,
    namespace: Namespace,
}

/// What istiods are asked with over TLS.
pub(super) struct SecureAccess {
    tls: Arc<ClientConfig>,
    token: HeaderValue,
    /// A name that each istiod's certificate has, whatever its revision.
    name: ServerName<'static>,
    /// Who asks, as proxies name themselves.
    node: String,
}

/// What one istiod says.
pub(super) struct IstiodPages {
    pub(super) clusterz: Result<Bytes, AskError>,
    pub(super) mesh: Result<Bytes, AskError>,
    pub(super) networkz: Result<Bytes, AskError>,
}

impl IstiodClient {
    pub(super) fn new(token_file: Option<&Path>, namespace: &Namespace) -> Self {
        let token_file = token_file.unwrap_or(Path::new(ISTIO_TOKEN)).to_owned();
        Self { token_file, namespace: namespace.clone() }
    }

    /// What istiods may be shown now; `None` without a token, or without roots (PEM) to verify an istiod with.
    pub(super) fn secure(&self, roots: Option<&String>) -> Option<Arc<SecureAccess>> {
        let roots = tls::given_roots(roots?).ok()?;
        let tls = tls::client(Arc::new(roots), &[b"h2"]).ok()?;
        let text = std::fs::read_to_string(&self.token_file).ok()?;
        let mut token = HeaderValue::try_from(format!("Bearer {}", text.trim())).ok()?;
        token.set_sensitive(true);
        let namespace = &self.namespace;
        let name = ServerName::try_from(format!("istiod.{namespace}.svc")).ok()?;
        // the address is asked for by its form, and serves no one
        let node = format!("sidecar~0.0.0.0~isthmus-exporter.{namespace}~{namespace}.svc.cluster.local");
        Some(Arc::new(SecureAccess { tls: Arc::new(tls), token, name, node }))
    }
}

/// Each page of one istiod, or why it was not read.
pub(super) async fn pages(address: String, secure: Option<Arc<SecureAccess>>) -> IstiodPages {
    const PAGES: [DebugPage; 3] = [DebugPage::Clusterz, DebugPage::Mesh, DebugPage::Networkz];
    let mut tried = Vec::new();
    if let Some(secure) = secure {
        let asked = timeout(PATIENCE, secure.pages(&address, PAGES)).await.unwrap_or(Err(GetError::Late));
        match asked {
            Ok([clusterz, mesh, networkz]) => {
                return IstiodPages { clusterz: Ok(clusterz), mesh: Ok(mesh), networkz: Ok(networkz) };
            }
            Err(source) => tried.push((SECURE_PORT, source)),
        }
    }
    let [clusterz, mesh, networkz] = PAGES.map(|page| plain(&address, page, tried.clone()));
    let (clusterz, mesh, networkz) = tokio::join!(clusterz, mesh, networkz);
    IstiodPages { clusterz, mesh, networkz }
}

impl SecureAccess {
    /// All of these pages of one istiod, over one stream.
    async fn pages<const N: usize>(&self, address: &str, pages: [DebugPage; N]) -> Result<[Bytes; N], GetError> {
        let stream = connect(address, SECURE_PORT).await?;
        let stream = TlsConnector::from(self.tls.clone()).connect(self.name.clone(), stream).await;
        let stream = stream.map_err(|error| match TlsVerdict::of(&error) {
            Some(verdict) => GetError::Tls(verdict),
            None => GetError::Connect(error.into()),
        })?;
        let broken = |error: hyper::Error| GetError::Http(error.into());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(broken)?;
        let mut request = Request::post(format!("https://istiod{STREAM}"));
        if let Some(headers) = request.headers_mut() {
            headers.insert(CONTENT_TYPE, GRPC);
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(AUTHORIZATION, self.token.clone());
        }
        let asked = pages.map(|page| Ok::<_, Infallible>(Frame::data(self::request(page, &self.node))));
        // who has no more to say ends the stream, and istiod may answer nothing more then. A task of hyper's sends the body and
        // keeps the connection for as long as that takes, so the body ends with this function.
        let (_until_answered, answered) = oneshot::channel::<Infallible>();
        let body = StreamBody::new(iter(asked).chain(once(answered).filter_map(|_| ready(None)))).boxed_unsync();
        let request = request.body(body).map_err(|error| GetError::Request(error.into()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            if response.status() != StatusCode::OK {
                return Err(GetError::Status(response.status()));
            }
            refused_by(response.headers())?;
            answers(response.into_body()).await
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            done = exchange.as_mut() => done,
            _ended = connection.as_mut() => exchange.await,
        }
    }
}

/// As many pages as were asked for.
async fn answers<const N: usize>(mut body: Incoming) -> Result<[Bytes; N], GetError> {
    let (mut messages, mut pages) = (Messages::new(MOST), Vec::with_capacity(N));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| GetError::Http(error.into()))?;
        if let Some(trailers) = frame.trailers_ref() {
            refused_by(trailers)?;
        }
        let Ok(chunk) = frame.into_data() else { continue };
        messages.push(&chunk);
        while let Some(response) = messages.next_message()? {
            pages.push(page(&response)?);
            if pages.len() == N {
                return pages.try_into().map_err(|_| GetError::Ended);
            }
        }
    }
    Err(GetError::Ended)
}

/// Whether a stream ended with an error. Its text is istiod's, and is not kept.
fn refused_by(headers: &HeaderMap) -> Result<(), GetError> {
    let status = headers.get(GRPC_STATUS).and_then(|status| status.to_str().ok()?.parse::<u32>().ok());
    status.filter(|status| *status != 0).map_or(Ok(()), |status| Err(GetError::Grpc(status)))
}

async fn plain(address: &str, page: DebugPage, mut tried: Vec<(u16, GetError)>) -> Result<Bytes, AskError> {
    for port in DEBUG_PORTS {
        match get(address, port, page.path()).await {
            Ok(bytes) => return Ok(bytes),
            Err(source) if source.is_elsewhere() || !tried.is_empty() => tried.push((port, source)),
            Err(source) => return Err(AskError::Port { page, port, source }),
        }
    }
    Err(AskError::NoPort { page, tried })
}

/// The page of metrics of one of our own pods.
pub(super) async fn metrics(address: &str) -> Result<String, AskError> {
    let page = get(address, METRICS_PORT, "/metrics").await.map_err(AskError::Metrics)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// What one relay read of peers.
pub(super) async fn peers_seen(address: &str) -> Result<Bytes, GetError> {
    get(address, METRICS_PORT, PEERS_SEEN_PATH).await
}

async fn connect(address: &str, port: u16) -> Result<TcpStream, GetError> {
    let ip: IpAddr = address.parse().map_err(|_| GetError::Address)?;
    TcpStream::connect((ip, port)).await.map_err(|error| GetError::Connect(error.into()))
}

/// One GET over plain HTTP, with which nothing secret is sent.
async fn get(address: &str, port: u16, path: &str) -> Result<Bytes, GetError> {
    let asked = timeout(PATIENCE, async {
        let stream = connect(address, port).await?;
        let broken = |error: hyper::Error| GetError::Http(error.into());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::get(path).header(HOST, "istiod").header(ACCEPT, "*/*");
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| GetError::Request(error.into()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            if response.status() != StatusCode::OK {
                return Err(GetError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), MOST).collect().await;
            // the body breaks off with hyper's error, or else at the limit
            let ended = |error: Box<dyn Error + Send + Sync>| {
                error.downcast::<hyper::Error>().map_or(GetError::TooLong, |error| broken(*error))
            };
            body.map(http_body_util::Collected::to_bytes).map_err(ended)
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            done = exchange.as_mut() => done,
            // a connection that ends may still have given all of its answer
            _ended = connection.as_mut() => exchange.await,
        }
    });
    asked.await.unwrap_or(Err(GetError::Late))
}
