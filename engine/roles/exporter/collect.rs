//! Asks the pods of istiod, api-proxy and relay what is live. They are asked all at once, for a short time, for a bounded
//! answer, and never follow anywhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::iter;

use crate::cluster::unread::Unread;
use crate::cluster::watched::{Objects, SourceState};
use crate::istio::debug::{DebugError, Sample, parse_clusterz, parse_mesh, parse_networkz, parse_samples};
use crate::istio::installed::ROOT_CA;
use crate::istio::mesh_config::mesh_config;
use crate::istio::objects::PodFacts;
use crate::roles::exporter::documents::{
    ClusterFacts, DEPLOYMENTS, HAND_OVER_MAP, ISTIODS, PEERS_MAP, ROOTS, ROUTES_MAP, SHARED, STANDARD, peers,
    relations, shared,
};
use crate::roles::exporter::evidence;
use crate::roles::exporter::evidence::shown;
use crate::roles::exporter::gathered::{CollectedEvidence, Confirmed, FieldTimes};
use crate::roles::exporter::istiod::{IstiodClient, IstiodPages, metrics, pages, peers_seen};
use crate::roles::exporter::reasons::{AskError, DocumentError, EvidenceError};
use crate::types::address::Endpoint;
use crate::types::name::Digest;
use crate::wire::agent::AGENT;
use crate::wire::hand_over::{HandOverStage, HandOverState, ObjectWriter, STATE_FILE};
use crate::wire::metadata::{CredentialUse, Evidence, LiveNetwork, LiveRoute, Read, Reported};
use crate::wire::names::{LAST_USED, RELAY, ROUTE_UP};
use crate::wire::seen::PeerSeen;

/// Pods that are asked at a time.
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
    pub(super) hand_over: Option<Instant>,
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
            relay_token: here.and(&[(DEPLOYMENTS, times.deployments), istiods]),
            credentials: asked("the api-proxy").and(&[(PROXIES, times.proxies)]),
            mesh_config: here.and(&standard),
            serial: here.and(&[(PEERS_MAP, times.peers)]),
            hand_over: here.and(&[(HAND_OVER_MAP, times.hand_over), (PEERS_MAP, times.peers)]),
            relations: here.and(&standard).and(&[shared, (ROUTES_MAP, times.routes), (PEERS_MAP, times.peers)]),
        }
    }
}

/// What each of some pods answers, by its name.
async fn ask<T, F: Future<Output = T>>(pods: &Objects<PodFacts>, question: impl Fn(String) -> F) -> Vec<(String, T)> {
    let asking = pods.iter().map(|((_, name), pod)| {
        let answer = question(pod.address.clone());
        async move { (name.clone(), answer.await) }
    });
    // made before they are awaited, since they borrow
    let asking: Vec<_> = asking.collect();
    let mut answers: Vec<_> = iter(asking).buffer_unordered(AT_ONCE).collect().await;
    // whoever answers first changes no reason
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    answers
}

/// What one page of each istiod says.
fn read_page<T>(
    answers: &[(String, IstiodPages)],
    page: impl Fn(&IstiodPages) -> &Result<Bytes, AskError>,
    read: impl Fn(&[u8]) -> Result<T, DebugError>,
) -> Vec<evidence::PodAnswer<T>> {
    let one = |(name, pages): &(String, IstiodPages)| {
        let answer = page(pages).as_ref().map_err(Clone::clone);
        (name.clone(), answer.and_then(|bytes| Ok(read(bytes)?)))
    };
    answers.iter().map(one).collect()
}

/// Collects everything once. All of what is found is of one collection: nothing that changes meanwhile, the serial above all, is in it.
pub(super) async fn collect_evidence(
    begun: &BegunCollection,
    istiods: &IstiodClient,
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
        tokio::join!(of_istiods(facts, &own, istiods), of_proxies(begun), of_relays(begun), seen_by_relays(begun));
    let deployments = facts.deployments.required(DEPLOYMENTS);
    let deployments = deployments.map(|all| all.values().map(|one| &**one).collect::<Vec<_>>());
    let pods = facts.istiods.required(ISTIODS).map(|all| all.values().map(|pod| &pod.istiod).collect::<Vec<_>>());
    let relay_token = evidence::relay_token(deployments.clone(), pods.clone());
    let prepared = evidence::prepared(deployments, pods, shared(facts), begun.lacking.clone());
    let (mesh_config, serial) = (shown(mesh_config), shown(serial));
    let writer = peers(facts).ok().and_then(|peers| peers.writer);
    let hand_over = facts.hand_over.present().and_then(|map| HandOverState::parse(map.data.get(STATE_FILE)?));
    let hand_over = hand_over.filter(|state| !is_taken(state, &serial));
    let hand_over = hand_over.map(|state| where_it_runs(state, &begun.relays));
    let evidence = Evidence {
        trusts,
        networks,
        reads,
        routes,
        prepared,
        relay_token,
        credentials,
        mesh_config,
        serial,
        writer,
        hand_over,
    };
    let confirmed = begun.field_times(at);
    CollectedEvidence { evidence, relations: relations(facts), peers_seen, confirmed, max_age }
}

/// Whether objects that a checkout offered are no longer those of its run: another one wrote them since.
fn is_taken(state: &HandOverState, serial: &Reported<u64>) -> bool {
    let is_offer = (state.stage, state.to) == (HandOverStage::Offered, ObjectWriter::Tree);
    is_offer && serial.seen() != Some(&state.serial)
}

/// What the agent answers of a hand-over, which goes no further while whoever is to connect istiod to its peers does not run.
fn where_it_runs(state: HandOverState, relays: &SourceState<Objects<PodFacts>>) -> HandOverState {
    let app = match state.to {
        ObjectWriter::Agent => AGENT,
        ObjectWriter::Tree => RELAY,
    };
    let runs = ready(relays, RELAYS).is_ok_and(|pods| pods.values().any(|pod| pod.app.as_deref() == Some(app)));
    // a checkout offers what it made, whatever runs at the moment
    if runs || state.stage == HandOverStage::Offered {
        return state;
    }
    HandOverState { stage: HandOverStage::Preparing, reason: Some(format!("no pod of `{app}` is ready")), ..state }
}

type OfIstiods = (Reported<BTreeSet<Digest>>, Reported<Vec<LiveNetwork>>, Reported<Vec<Read>>);

async fn of_istiods(
    facts: &ClusterFacts,
    own: &Result<BTreeSet<Digest>, EvidenceError>,
    client: &IstiodClient,
) -> OfIstiods {
    let istiods = match facts.istiods.required(ISTIODS) {
        Ok(istiods) => istiods,
        Err(unread) => return (unknown(&unread), unknown(&unread), unknown(&unread)),
    };
    let secure = client.secure(facts.roots.present().and_then(|roots| roots.data.get(ROOT_CA.1)));
    let answers = ask(istiods, |address| pages(address, secure.clone())).await;
    let roots = read_page(&answers, |pages| &pages.mesh, parse_mesh);
    let gateways = read_page(&answers, |pages| &pages.networkz, parse_networkz);
    let remote = read_page(&answers, |pages| &pages.clusterz, parse_clusterz);
    let networks = evidence::networks(&gateways, &facts.configured());
    (evidence::trusts(&roots, own), networks, evidence::reads(&remote))
}

async fn of_proxies(begun: &BegunCollection) -> Reported<Vec<CredentialUse>> {
    match ready(&begun.proxies, PROXIES) {
        Ok(proxies) => evidence::credentials(&ask(&proxies, samples(LAST_USED)).await),
        Err(unread) => unknown(&unread),
    }
}

async fn of_relays(begun: &BegunCollection) -> Reported<Vec<LiveRoute>> {
    match ready(&begun.relays, RELAYS) {
        // no relay is deployed yet, and there is nothing that it could route
        Ok(relays) if relays.is_empty() && begun.facts.routes == SourceState::Absent => Reported::Seen(Vec::new()),
        Ok(relays) => evidence::routes(&ask(&relays, samples(ROUTE_UP)).await),
        Err(unread) => unknown(&unread),
    }
}

/// What the relays read of peers, of each peer the best. A relay that is older, or does not answer, says nothing.
async fn seen_by_relays(begun: &BegunCollection) -> Vec<PeerSeen> {
    let Ok(relays) = ready(&begun.relays, RELAYS) else { return Vec::new() };
    // what is no such page is a page without peers
    let read = |address: String| async move {
        peers_seen(&address).await.ok().and_then(|bytes| PeerSeen::answer(&bytes).ok()).unwrap_or_default()
    };
    let mut best = BTreeMap::<Endpoint, PeerSeen>::new();
    for seen in ask(&relays, read).await.into_iter().flat_map(|(_, seen)| seen) {
        let seen = match best.remove(&seen.endpoint) {
            Some(before) => before.better(seen),
            None => seen,
        };
        best.insert(seen.endpoint.clone(), seen);
    }
    best.into_values().collect()
}

fn samples(metric: &'static str) -> impl Fn(String) -> BoxFuture<'static, Result<Vec<Sample>, AskError>> {
    move |address| Box::pin(async move { Ok(parse_samples(&metrics(&address).await?, metric)) })
}

fn unknown<T>(unread: &Unread) -> Reported<T> {
    shown(Err(unread.clone().into()))
}

/// Pods that are ready: others serve no one.
fn ready(pods: &SourceState<Objects<PodFacts>>, what: &'static str) -> Result<Objects<PodFacts>, Unread> {
    let pods = pods.required(what)?;
    Ok(pods.iter().filter(|(_, pod)| pod.ready).map(|(key, pod)| (key.clone(), pod.clone())).collect())
}
