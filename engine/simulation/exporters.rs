//! The exporters of the simulated clusters: real TLS on loopback, real tokens, the responder of the exporter role.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::header::{DATE, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::roles::exporter::{CollectedEvidence, Gathered, Moment, Published, PublishedAnswers, Relation};
use crate::server::{Body, Bound, Certificates, Handler, Running, ServerLimits, TlsError, whole};
use crate::simulation::cluster::{Fleet, SimulatedCluster, SimulationError};
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;

/// Path of the documents, as in the example specs.
const PATH_PREFIX: &str = "/metadata";

/// The time, asked for at each request.
pub type Clock = fn() -> Timestamp;

/// Why an exporter does not begin.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// Its certificate was not issued.
    #[error(transparent)]
    Certificate(#[from] SimulationError),
    /// Its certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its address cannot be bound.
    #[error(transparent)]
    Listen(#[from] io::Error),
}

/// All simulated clusters, shared with their servers.
pub type SharedFleet = Arc<Mutex<Fleet>>;

/// The servers of a fleet: each answers once its exporter is deployed, for as long as its cluster is up.
#[derive(Debug)]
pub struct Exporters {
    fleet: SharedFleet,
    clock: Clock,
    addresses: BTreeMap<ClusterName, SocketAddr>,
    running: BTreeMap<ClusterName, Running>,
}

impl Exporters {
    /// Reserves an address on loopback for each cluster.
    pub async fn new(fleet: SharedFleet, clock: Clock) -> Result<Self, ExporterError> {
        let names: Vec<ClusterName> = locked(&fleet, |fleet| fleet.clusters.keys().cloned().collect());
        let mut bound = Vec::new();
        for name in names {
            bound.push((name, Bound::to(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?));
        }
        let addresses = bound.iter().map(|(name, bound)| (name.clone(), bound.address())).collect();
        Ok(Self { fleet, clock, addresses, running: BTreeMap::new() })
    }

    /// Where a cluster's exporter is, or will be.
    pub fn address(&self, cluster: &ClusterName) -> Option<SocketAddr> {
        self.addresses.get(cluster).copied()
    }

    /// Starts the servers of clusters that are up and have an exporter, and stops the others.
    pub async fn sync(&mut self) -> Result<(), ExporterError> {
        for (name, address) in self.addresses.clone() {
            let wanted = locked(&self.fleet, |fleet| {
                let cluster = fleet.clusters.get(&name).filter(|cluster| cluster.up && cluster.has_components())?;
                Some(cluster.serving.serving())
            });
            match (wanted, self.running.contains_key(&name)) {
                (Some(serving), false) => {
                    let (chain, key) = serving?;
                    let certificates = Certificates::from_pem(&chain, &key)?;
                    let handler = Arc::new(SimulatedExporter {
                        fleet: self.fleet.clone(),
                        clock: self.clock,
                        name: name.clone(),
                    });
                    let server = Bound::to(address).await?.serve(&certificates, ServerLimits::default(), handler);
                    self.running.insert(name, server);
                }
                (None, true) => {
                    if let Some(server) = self.running.remove(&name) {
                        server.stop().await;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Does something with the fleet.
pub fn locked<T>(fleet: &SharedFleet, work: impl FnOnce(&mut Fleet) -> T) -> T {
    work(&mut fleet.lock().unwrap_or_else(PoisonError::into_inner))
}

struct SimulatedExporter {
    fleet: SharedFleet,
    clock: Clock,
    name: ClusterName,
}

/// The cluster that an exporter names is no longer there.
#[derive(Debug, thiserror::Error)]
#[error("the cluster is gone")]
struct ClusterGone;

impl Handler for SimulatedExporter {
    type Error = ClusterGone;

    async fn handle(&self, request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, ClusterGone> {
        let now = Moment { time: (self.clock)(), instant: Instant::now() };
        let published =
            locked(&self.fleet, |fleet| fleet.clusters.get(&self.name).map(|own| published(own, fleet, now.instant)));
        let published = published.ok_or(ClusterGone)?;
        let (parts, _body) = request.into_parts();
        let mut response = PublishedAnswers::from(published).respond(PATH_PREFIX, &parts, now).map(whole);
        // the engine goes by the time of the clusters where its own is behind, and all of them are on one machine
        if let Some(date) = http_date(now.time) {
            response.headers_mut().insert(DATE, date);
        }
        Ok(response)
    }
}

/// A time as HTTP states it.
fn http_date(time: Timestamp) -> Option<HeaderValue> {
    let time = jiff::Timestamp::from_second(time.as_seconds()).ok()?;
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()?;
    HeaderValue::try_from(text).ok()
}

/// All of one moment: what is shown is what is live.
fn published(own: &SimulatedCluster, fleet: &Fleet, at: Instant) -> Published {
    let private = own.private(fleet);
    let relation =
        |peer: &SimulatedCluster| Relation { cluster_id: peer.cluster_id(), network: Some(peer.network().clone()) };
    let collected = |evidence| {
        let relations = fleet.clusters.values().map(|peer| (peer.uuid.clone(), relation(peer))).collect();
        Gathered::Collected(Arc::new(CollectedEvidence::at(at, evidence, relations)))
    };
    Published {
        cluster_uuid: Some(own.uuid.clone()),
        public: Ok(own.public()),
        evidence: private.evidence.clone().map_or(Gathered::Nothing, collected),
        private: Ok(private),
        peers: Ok(own.admitted()),
        sequence: 1,
    }
}
