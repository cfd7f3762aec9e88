//! Asks the pods of istiod, api-proxy and relay what is live. They are asked all at once, for a short time, for a bounded
//! answer, and never follow anywhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
use crate::cluster::watched::{Objects, SourceState};
use crate::istio::debug::{DebugPage, Sample, parse_clusterz, parse_mesh, parse_networkz, parse_samples};
use crate::istio::mesh_config::mesh_config;
use crate::istio::objects::PodFacts;
use crate::roles::exporter::documents::{
    ClusterFacts, DEPLOYMENTS, ISTIODS, PEERS_MAP, ROOTS, ROUTES_MAP, SHARED, STANDARD, peers, relations, shared,
};
use crate::roles::exporter::evidence;
use crate::roles::exporter::evidence::shown;
use crate::roles::exporter::gathered::{CollectedEvidence, Confirmed, FieldTimes};
use crate::roles::exporter::reasons::{AskError, DocumentError, EvidenceError, GetError};
use crate::types::address::Endpoint;
use crate::types::name::Digest;
use crate::wire::metadata::{CredentialUse, Evidence, LiveNetwork, LiveRoute, Read, Reported};
use crate::wire::names::{LAST_USED, ROUTE_UP};
use crate::wire::seen::{PEERS_SEEN_PATH, PeerSeen};

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

const PROXIES: &str = "list of the api-proxy's pods";
const RELAYS: &str = "list of the relay's pods";
const COUNTED: &str = "count of proxies that await a restart";

/// What a collection begins with, all of one moment before it.
#[derive(Debug, Clone)]
pub(super) struct BegunCollection {
    /// Objects of the cluster.
    pub(super) facts: ClusterFacts,
    /// Pods of the api-proxy.
    pub(super) proxies: SourceState<Objects<PodFacts>>,
    /// Pods of the relay or agent.
    pub(super) relays: SourceState<Objects<PodFacts>>,
    /// How many proxies await a restart.
    pub(super) lacking: Result<usize, EvidenceError>,
    /// The cluster's own roots as they are published, PEM.
    pub(super) own: Result<String, DocumentError>,
    /// When the apiserver last confirmed all this.
    pub(super) confirmed: SourceTimes,
}

/// When the apiserver last confirmed what a collection rests on; `None`: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceTimes {
    pub(super) roots: Option<Instant>,
    pub(super) peers: Option<Instant>,
    pub(super) routes: Option<Instant>,
    pub(super) shared: Option<Instant>,
    /// The oldest one of all revisions.
    pub(super) standard: Option<Instant>,
    pub(super) deployments: Option<Instant>,
    pub(super) istiods: Option<Instant>,
    pub(super) proxies: Option<Instant>,
    pub(super) relays: Option<Instant>,
    /// When the count began.
    pub(super) counted: Option<Instant>,
}

impl BegunCollection {
    /// Whether everything that a collection rests on was read, or could not be.
    pub(super) fn is_complete(&self) -> bool {
        self.facts.not_yet().is_none()
            && self.proxies != SourceState::NotYet
            && self.relays != SourceState::NotYet
            && self.lacking != Err(EvidenceError::NotCounted)
    }

    /// When each field was last known to hold, of a collection that began at this time.
    fn field_times(&self, begun: Instant) -> FieldTimes {
        let times = &self.confirmed;
        let asked = |what| Confirmed { at: begun, what };
        let (istiods, shared) = ((ISTIODS, times.istiods), (SHARED, times.shared));
        let standard = [(DEPLOYMENTS, times.deployments), istiods, (STANDARD, times.standard)];
        let of_istiod = asked("istiod").and(&[istiods]);
        let here = asked("the cluster");
        FieldTimes {
            trusts: of_istiod.and(&[(ROOTS, times.roots)]),
            networks: of_istiod.and(&standard).and(&[shared]),
            reads: of_istiod,
            routes: asked("the relay").and(&[(RELAYS, times.relays), (ROUTES_MAP, times.routes)]),
            prepared: here.and(&[(DEPLOYMENTS, times.deployments), istiods, shared, (COUNTED, times.counted)]),
            credentials: asked("the api-proxy").and(&[(PROXIES, times.proxies)]),
            mesh_config: here.and(&standard),
            serial: here.and(&[(PEERS_MAP, times.peers)]),
            relations: here.and(&standard).and(&[shared, (ROUTES_MAP, times.routes)]),
        }
    }
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
) -> Vec<evidence::PodAnswer<T>> {
    let asking = pods.iter().map(|((_, name), pod)| {
        let answer = question(pod.address.clone());
        let read = &read;
        async move { (name.clone(), answer.await.and_then(|bytes| read(&bytes).map_err(Into::into))) }
    });
    // made before they are awaited, since they borrow
    let asking: Vec<_> = asking.collect();
    let mut answers: Vec<_> = iter(asking).buffer_unordered(AT_ONCE).collect().await;
    // whoever answers first changes no reason
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    answers
}

/// Collects everything once. All of what is found is of one collection: nothing that changes meanwhile, the serial above all, is in it.
pub(super) async fn collect_evidence(
    begun: &BegunCollection,
    istio_token: &Path,
    max_age: Duration,
) -> CollectedEvidence {
    let (facts, at) = (&begun.facts, Instant::now());
    let own = match &begun.own {
        Ok(pem) => evidence::own_roots(pem).map_err(EvidenceError::Roots),
        Err(error) => Err(EvidenceError::Document(error.clone())),
    };
    let mesh_config = facts.standard().and_then(|maps| mesh_config(maps).map_err(EvidenceError::MeshConfig));
    let serial = peers(facts).map(|peers| peers.serial).map_err(EvidenceError::Document);
    let ((trusts, networks, reads), credentials, routes, peers_seen) =
        tokio::join!(of_istiods(facts, &own, istio_token), of_proxies(begun), of_relays(begun), seen_by_relays(begun));
    let deployments = facts.deployments.required(DEPLOYMENTS);
    let prepared = evidence::prepared(
        deployments.map(|all| all.values().map(|one| &**one).collect()),
        facts.istiods.required(ISTIODS).map(|all| all.values().map(|pod| &pod.istiod).collect()),
        shared(facts),
        begun.lacking.clone(),
    );
    let (mesh_config, serial) = (shown(mesh_config), shown(serial));
    let evidence = Evidence { trusts, networks, reads, routes, prepared, credentials, mesh_config, serial };
    let confirmed = begun.field_times(at);
    CollectedEvidence { evidence, relations: relations(facts), peers_seen, confirmed, max_age }
}

type OfIstiods = (Reported<BTreeSet<Digest>>, Reported<Vec<LiveNetwork>>, Reported<Vec<Read>>);

async fn of_istiods(
    facts: &ClusterFacts,
    own: &Result<BTreeSet<Digest>, EvidenceError>,
    istio_token: &Path,
) -> OfIstiods {
    let istiods = match facts.istiods.required(ISTIODS) {
        Ok(istiods) => istiods,
        Err(unread) => return (unknown(&unread), unknown(&unread), unknown(&unread)),
    };
    let token = token(istio_token);
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
    (evidence::trusts(&roots, own), networks, evidence::reads(&remote))
}

async fn of_proxies(begun: &BegunCollection) -> Reported<Vec<CredentialUse>> {
    match ready(&begun.proxies, PROXIES) {
        Ok(proxies) => evidence::credentials(&ask(&proxies, metrics, samples(LAST_USED)).await),
        Err(unread) => unknown(&unread),
    }
}

async fn of_relays(begun: &BegunCollection) -> Reported<Vec<LiveRoute>> {
    match ready(&begun.relays, RELAYS) {
        // no relay is deployed yet, and there is nothing that it could route
        Ok(relays) if relays.is_empty() && begun.facts.routes == SourceState::Absent => Reported::Seen(Vec::new()),
        Ok(relays) => evidence::routes(&ask(&relays, metrics, samples(ROUTE_UP)).await),
        Err(unread) => unknown(&unread),
    }
}

/// What the relays read of peers, of each peer the best. A relay that is older, or does not answer, says nothing.
async fn seen_by_relays(begun: &BegunCollection) -> Vec<PeerSeen> {
    let Ok(relays) = ready(&begun.relays, RELAYS) else { return Vec::new() };
    let page = |address: String| async move {
        get(&address, METRICS_PORT, PEERS_SEEN_PATH, None).await.map_err(AskError::Metrics)
    };
    // what is no such page is a page without peers
    let read = |bytes: &[u8]| Ok::<_, Infallible>(PeerSeen::answer(bytes).unwrap_or_default());
    let mut best = BTreeMap::<Endpoint, PeerSeen>::new();
    for seen in ask(&relays, page, read).await.into_iter().flat_map(|(_, answer)| answer.unwrap_or_default()) {
        let seen = match best.remove(&seen.endpoint) {
            Some(before) => before.better(seen),
            None => seen,
        };
        best.insert(seen.endpoint.clone(), seen);
    }
    best.into_values().collect()
}

fn samples(metric: &'static str) -> impl Fn(&[u8]) -> Result<Vec<Sample>, Infallible> {
    move |bytes| Ok(parse_samples(&String::from_utf8_lossy(bytes), metric))
}

fn unknown<T>(unread: &Unread) -> Reported<T> {
    shown(Err(unread.clone().into()))
}

/// Pods that are ready: others serve no one.
fn ready(pods: &SourceState<Objects<PodFacts>>, what: &'static str) -> Result<Objects<PodFacts>, Unread> {
    let pods = pods.required(what)?;
    Ok(pods.iter().filter(|(_, pod)| pod.ready).map(|(key, pod)| (key.clone(), pod.clone())).collect())
}
