//! Asks the pods of istiod, api-proxy and relay what is live. They are asked all at once, for a short time, for a bounded
//! answer, and never follow anywhere else.

use std::convert::Infallible;
use std::error::Error;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::unread::Unread;
use crate::cluster::watched::{Objects, Source};
use crate::istio::debug::{DebugPage, parse_clusterz, parse_mesh, parse_networkz, parse_samples};
use crate::istio::mesh_config::mesh_config;
use crate::istio::objects::PodFacts;
use crate::roles::exporter::documents::{Facts, peers, shared};
use crate::roles::exporter::evidence;
use crate::roles::exporter::evidence::shown;
use crate::roles::exporter::reasons::{AskError, DocumentError, EvidenceError, GetError};
use crate::wire::metadata::{Evidence, Shown};
use crate::wire::names::{LAST_USED, ROUTE_UP};

/// Where a pod finds the token of audience `istio-ca` that istiod takes.
pub(super) const ISTIO_TOKEN: &str = "/var/run/secrets/isthmus/istio-token";
/// istiod's port for monitoring, and the one for debugging.
const DEBUG_PORTS: [u16; 2] = [15014, 8080];
const METRICS_PORT: u16 = 9090;
/// One question, to its last byte.
const PATIENCE: Duration = Duration::from_secs(2);
/// Largest answer: the mesh configuration of a thousand clusters has 3 MiB.
const MOST: usize = 16 * 1024 * 1024;
/// Questions at a time.
const AT_ONCE: usize = 8;

/// Pods that are asked beside istiod's.
#[derive(Debug, Clone)]
pub(super) struct Pods {
    /// Of the api-proxy.
    pub(super) proxies: Source<Objects<PodFacts>>,
    /// Of the relay or agent.
    pub(super) relays: Source<Objects<PodFacts>>,
    /// How many proxies await a restart.
    pub(super) lacking: Result<usize, EvidenceError>,
}

/// One GET over plain HTTP.
async fn get(address: &str, port: u16, path: &str, token: Option<&HeaderValue>) -> Result<Bytes, GetError> {
    let asked = timeout(PATIENCE, async {
        let ip: IpAddr = address.parse().map_err(|_| GetError::Address)?;
        let stream = TcpStream::connect((ip, port)).await.map_err(|error| GetError::Connect(error.into()))?;
        let broken = |error: hyper::Error| GetError::Http(error.into());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::get(path).header(HOST, "istiod").header(ACCEPT, "*/*");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
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

async fn debug(address: String, page: DebugPage, token: Option<Arc<HeaderValue>>) -> Result<Bytes, AskError> {
    let mut tried = Vec::new();
    for port in DEBUG_PORTS {
        match get(&address, port, page.path(), token.as_deref()).await {
            Ok(bytes) => return Ok(bytes),
            Err(source) if source.is_elsewhere() => tried.push((port, source)),
            Err(source) => return Err(AskError::Port { page, port, source }),
        }
    }
    Err(AskError::NoPort { page, tried })
}

async fn metrics(address: String) -> Result<Bytes, AskError> {
    get(&address, METRICS_PORT, "/metrics", None).await.map_err(AskError::Metrics)
}

fn token(file: &Path) -> Option<Arc<HeaderValue>> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim())).ok()?;
    value.set_sensitive(true);
    Some(Arc::new(value))
}

/// What each of some pods answers, by its name.
async fn ask<T, E: Into<AskError>, F: Future<Output = Result<Bytes, AskError>>>(
    pods: &Objects<PodFacts>,
    question: impl Fn(String) -> F,
    read: impl Fn(&[u8]) -> Result<T, E>,
) -> Vec<evidence::Answer<T>> {
    let asking = pods.iter().map(|((_, name), pod)| {
        let answer = question(pod.address.clone());
        let read = &read;
        async move { (name.clone(), answer.await.and_then(|bytes| read(&bytes).map_err(Into::into))) }
    });
    // made before they are awaited, since they borrow
    let asking: Vec<_> = asking.collect();
    iter(asking).buffer_unordered(AT_ONCE).collect().await
}

/// Evidence of this moment.
pub(super) async fn look(
    facts: &Facts,
    pods: &Pods,
    istio_token: &Path,
    own: &Result<String, DocumentError>,
) -> Evidence {
    let own = match own {
        Ok(pem) => evidence::own_roots(pem).map_err(EvidenceError::Roots),
        Err(error) => Err(EvidenceError::Document(error.clone())),
    };
    let mesh_config = shown(mesh_config(&facts.standard).map_err(EvidenceError::MeshConfig));
    let istiods = facts.istiods.required("list of istiod's pods");
    let token = token(istio_token);
    let (trusts, networks, reads) = match istiods {
        Err(unread) => (unknown(&unread), unknown(&unread), unknown(&unread)),
        Ok(istiods) => {
            let at = |page| {
                let token = token.clone();
                move |address| debug(address, page, token.clone())
            };
            let (roots, gateways, remote) = tokio::join!(
                ask(istiods, at(DebugPage::Mesh), parse_mesh),
                ask(istiods, at(DebugPage::Networkz), parse_networkz),
                ask(istiods, at(DebugPage::Clusterz), parse_clusterz),
            );
            let networks = evidence::networks(&gateways, &facts.configured());
            (evidence::trusts(&roots, &own), networks, evidence::reads(&remote))
        }
    };
    let samples = |metric: &'static str| {
        move |bytes: &[u8]| Ok::<_, Infallible>(parse_samples(&String::from_utf8_lossy(bytes), metric))
    };
    let credentials = match ready(&pods.proxies, "list of the api-proxy's pods") {
        Ok(proxies) => evidence::credentials(&ask(&proxies, metrics, samples(LAST_USED)).await),
        Err(unread) => unknown(&unread),
    };
    let routes = match ready(&pods.relays, "list of the relay's pods") {
        // no relay is deployed yet, and there is nothing that it could route
        Ok(relays) if relays.is_empty() && facts.routes == Source::Absent => Shown::Seen(Vec::new()),
        Ok(relays) => evidence::routes(&ask(&relays, metrics, samples(ROUTE_UP)).await),
        Err(unread) => unknown(&unread),
    };
    let deployments = facts.deployments.required("list of istiod's Deployments");
    let prepared = evidence::prepared(
        deployments.map(|all| all.values().map(|one| &**one).collect()),
        facts.istiods.required("list of istiod's pods").map(|all| all.values().map(|pod| &pod.istiod).collect()),
        shared(facts),
        pods.lacking.clone(),
    );
    let serial = peers(facts).map(|peers| peers.serial);
    let serial = serial.map_or_else(|error| Shown::Unknown(error.to_string()), Shown::Seen);
    Evidence { trusts, networks, reads, routes, prepared, credentials, mesh_config, serial }
}

fn unknown<T>(unread: &Unread) -> Shown<T> {
    shown(Err(unread.clone().into()))
}

/// Pods that are ready: others serve nobody.
fn ready(pods: &Source<Objects<PodFacts>>, what: &'static str) -> Result<Objects<PodFacts>, Unread> {
    let pods = pods.required(what)?;
    Ok(pods.iter().filter(|(_, pod)| pod.ready).map(|(key, pod)| (key.clone(), pod.clone())).collect())
}
