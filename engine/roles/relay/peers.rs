//! The peers of the routes: connections to each, its token, and how many watches are open.
//!
//! A peer lives as long as its route stays the same. When the route changes or goes, its watches end in good order, and
//! istiod's next request finds the new one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderValue;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use crate::cluster::tls::{self, RootsError};
use crate::roles::api::projection::HeldBudget;
use crate::roles::relay::upkeep::RelayIdentity;
use crate::roles::role::now;
use crate::roles::watches::{WatchPlace, Watches};
use crate::server::limits::RoleLimits;
use crate::server::telemetry::Metrics;
use crate::server::upstream::{Origin, Upstream, UpstreamError, UpstreamLimits, reason};
use crate::types::address::{Cidr, DialPolicy};
use crate::types::cause::Cause;
use crate::types::key::KeyId;
use crate::types::name::{ClusterId, ClusterUuid};
use crate::types::time::Timestamp;
use crate::types::token::{Claims, ISSUER, Scope, mint};
use crate::wire::names::ROUTE_UP;
use crate::wire::routes::{Route, RoutesFile};

/// How long a token lives.
pub(super) const TOKEN_LIFE: Duration = Duration::from_mins(40);
/// The age at which another is made.
pub(super) const TOKEN_RENEWED: Duration = Duration::from_mins(5);
/// By how much the peer's clock may be behind.
const TOKEN_BACKDATE: Duration = Duration::from_mins(5);

/// Most bytes of objects of a peer that have not come whole. istiod has some ten watches of it.
const MAX_HELD: usize = 8 * 1024 * 1024;

/// Bytes of an answer that may come before istiod takes them, and so of one at most in the time to the peer and back: 10 MB/s
/// where that is 100 ms.
const FAR_WINDOW: u32 = 1024 * 1024;

/// Labels of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteUp {
    pub(super) cluster_id: String,
    pub(super) api_host: String,
    /// Why it is not up; short, and never the peer's own message.
    pub(super) reason: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RelayPeerLabel {
    pub(super) cluster_id: String,
}

/// Labels of answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResponseLabels {
    pub(super) cluster_id: String,
    pub(super) code: u16,
}

#[derive(Debug, Clone, Default)]
pub(super) struct RelayMetrics {
    pub(super) route_up: Family<RouteUp, Gauge>,
    pub(super) requests: Family<ResponseLabels, Counter>,
    pub(super) watches: Family<RelayPeerLabel, Gauge>,
    pub(super) token_age: Family<RelayPeerLabel, Gauge>,
}

impl RelayMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let counts = Self::default();
        let up = "Whether the peer answers GET /api as an apiserver does";
        metrics.register(ROUTE_UP, up, &counts.route_up);
        metrics.register("isthmus_relay_requests", "Requests by peer and answer", &counts.requests);
        metrics.register("isthmus_relay_watches", "Watches that are open", &counts.watches);
        let age = "Age of the token in use, at the last probe of the peer";
        metrics.register("isthmus_relay_token_age_seconds", age, &counts.token_age);
        counts
    }
}

/// All metrics of a relay, before it has begun.
pub fn metrics() -> Metrics {
    let metrics = Metrics::new();
    drop(RelayMetrics::register(&metrics));
    metrics
}

/// A token as a header, and what it was made with.
struct Minted {
    header: HeaderValue,
    at: Timestamp,
    key: KeyId,
    own: ClusterUuid,
}

pub(super) struct RelayPeer {
    pub(super) route: Route,
    /// Connections, or why there can be none.
    pub(super) upstream: Result<Upstream, Unreached>,
    token: Mutex<Option<Minted>>,
    gone: watch::Sender<bool>,
    shown: Mutex<Option<RouteUp>>,
    pub(super) held: HeldBudget,
    /// A number of its own: when a route changes, the watches of the old one end beside those of the new one, and count
    /// apart.
    number: u64,
    gauge: Gauge,
    pub(super) age: Gauge,
}

/// No token can be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoKey;

/// Why a peer is not reached: short, and never in the peer's own message, since it becomes a label of a metric.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Unreached {
    #[error("it needs public CAs, and this image has none")]
    NoPublicCa,
    #[error("its CA cannot be used")]
    Ca(#[source] RootsError),
    #[error("TLS is not to be had")]
    Tls(#[source] rustls::Error),
    #[error("its host cannot be used")]
    Host(#[source] UpstreamError),
    #[error("no key yet")]
    NoKey,
    #[error(transparent)]
    Request(Cause<http::Error>),
    #[error("{}", reason(.0))]
    Upstream(#[source] UpstreamError),
    #[error("unauthorized")]
    Unauthorized,
    #[error("forbidden")]
    Forbidden,
    #[error("status {0}")]
    Status(u16),
    #[error("timed out")]
    Late,
    #[error("the answer broke off")]
    BrokenOff,
    #[error("no apiserver")]
    NotAnApiserver,
}

pub(super) struct Peers {
    table: RwLock<BTreeMap<ClusterId, Arc<RelayPeer>>>,
    credential: watch::Receiver<Option<Arc<RelayIdentity>>>,
    watches: Watches<u64>,
    /// How many peers there were so far.
    numbers: AtomicU64,
    limits: RoleLimits,
    /// Ranges of the own cluster, in which no peer is.
    own: Vec<Cidr>,
    pub(super) counts: RelayMetrics,
}

impl Peers {
    pub(super) fn new(
        credential: watch::Receiver<Option<Arc<RelayIdentity>>>,
        limits: RoleLimits,
        counts: RelayMetrics,
        own: Vec<Cidr>,
    ) -> Self {
        Self {
            table: RwLock::default(),
            credential,
            watches: Watches::default(),
            numbers: AtomicU64::default(),
            limits,
            own,
            counts,
        }
    }

    /// The UUID of the relay's cluster; `None`: it is not known yet.
    pub(super) fn own(&self) -> Option<ClusterUuid> {
        self.credential.borrow().as_ref().map(|credential| credential.uuid.clone())
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<RelayPeer>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Takes over these routes, and gives the peers that are new. What is the same stays, with its connections.
    #[must_use]
    pub(super) fn update(&self, file: RoutesFile) -> Vec<Arc<RelayPeer>> {
        let mut fresh = Vec::new();
        {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let mut old = std::mem::take(&mut *table);
            for route in file.routes {
                let id = route.cluster_id.clone();
                let peer = match old.remove(&id) {
                    Some(peer) if peer.route == route => peer,
                    changed => {
                        if let Some(changed) = changed {
                            self.leave(&changed);
                        }
                        let peer = Arc::new(self.peer(route));
                        fresh.push(peer.clone());
                        peer
                    }
                };
                table.insert(id, peer);
            }
            for gone in old.values() {
                self.leave(gone);
                self.forget(gone);
            }
        }
        for peer in &fresh {
            tracing::info!(peer = %peer.route.cluster_id, api_host = %peer.route.api_host, "a route");
        }
        fresh
    }

    fn leave(&self, peer: &RelayPeer) {
        tracing::info!(peer = %peer.route.cluster_id, api_host = %peer.route.api_host, "a route has gone or changed");
        peer.gone.send_replace(true);
        if let Some(shown) = peer.shown.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.counts.route_up.remove(&shown);
        }
    }

    /// Shows whether a peer is up, and whether that changed.
    pub(super) fn show(&self, peer: &RelayPeer, outcome: &Result<(), Unreached>) -> bool {
        let fresh = RouteUp {
            cluster_id: peer.route.cluster_id.to_string(),
            api_host: peer.route.api_host.to_string(),
            reason: outcome.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        };
        let mut shown = peer.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // its successor may have the same labels
        if peer.is_gone() || shown.as_ref() == Some(&fresh) {
            return false;
        }
        if let Some(old) = shown.take() {
            self.counts.route_up.remove(&old);
        }
        self.counts.route_up.get_or_create(&fresh).set(i64::from(outcome.is_ok()));
        *shown = Some(fresh);
        true
    }

    /// What is counted of a peer goes with it.
    fn forget(&self, peer: &RelayPeer) {
        let of_peer = RelayPeerLabel { cluster_id: peer.route.cluster_id.to_string() };
        self.counts.watches.remove(&of_peer);
        self.counts.token_age.remove(&of_peer);
    }

    fn peer(&self, route: Route) -> RelayPeer {
        let of_peer = RelayPeerLabel { cluster_id: route.cluster_id.to_string() };
        let upstream = connect(&route, &self.limits, &self.own);
        if let Err(reason) = &upstream {
            tracing::warn!(peer = %route.cluster_id, reason = reason.to_string(), "this route cannot be used");
        }
        RelayPeer {
            upstream,
            token: Mutex::default(),
            gone: watch::channel(false).0,
            shown: Mutex::default(),
            held: HeldBudget::of(MAX_HELD),
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            gauge: self.counts.watches.get_or_create(&of_peer).clone(),
            age: self.counts.token_age.get_or_create(&of_peer).clone(),
            route,
        }
    }

    /// The `Authorization` for a peer.
    pub(super) fn authorization(&self, peer: &RelayPeer) -> Result<HeaderValue, NoKey> {
        let credential = self.credential.borrow().clone().ok_or(NoKey)?;
        let (now, key) = (now(), credential.authn.key.public().id());
        let mut token = peer.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(minted) = &*token
            && (minted.at..minted.at + TOKEN_RENEWED).contains(&now)
            && minted.key == key
            && minted.own == credential.uuid
        {
            return Ok(minted.header.clone());
        }
        let claims = Claims {
            aud: peer.route.cluster_uuid.to_string(),
            exp: now + TOKEN_LIFE,
            iss: ISSUER.to_owned(),
            nbf: now - TOKEN_BACKDATE,
            scope: Scope::Api,
            sub: credential.uuid.to_string(),
        };
        let text =
            zeroize::Zeroizing::new(format!("Bearer {}", mint(&credential.authn.key, &claims, Some(&key)).expose()));
        let mut header = HeaderValue::from_str(&text).map_err(|_| NoKey)?;
        header.set_sensitive(true);
        *token = Some(Minted { header: header.clone(), at: now, key, own: credential.uuid.clone() });
        Ok(header)
    }

    /// A place for a watch, while there is one.
    pub(super) fn place(&self, peer: &RelayPeer) -> Option<WatchPlace<u64>> {
        self.watches.take(&peer.number, &self.limits, peer.gauge.clone())
    }
}

impl RelayPeer {
    /// Waits until the route has changed or gone.
    pub(super) fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut gone = self.gone.subscribe();
        async move { drop(gone.wait_for(|gone| *gone).await) }
    }

    /// Whether the route has changed or gone.
    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// How long ago the token in use was made.
    pub(super) fn token_age(&self) -> Option<Duration> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|minted| now().since(minted.at))
    }

    /// The peer did not take the token; another is made for the next request.
    pub(super) fn forget_token(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Connections of a route, which come about later.
fn connect(route: &Route, limits: &RoleLimits, own: &[Cidr]) -> Result<Upstream, Unreached> {
    let roots = match &route.api_ca {
        None => tls::system_roots().ok_or(Unreached::NoPublicCa)?,
        Some(pem) => Arc::new(tls::given_roots(pem).map_err(Unreached::Ca)?),
    };
    let tls = tls::client(roots, tls::HTTP_2_OR_1).map_err(Unreached::Tls)?;
    let port = route.api_host.port.unwrap_or(443);
    let origin = Origin::new(&route.api_host.host.to_string(), port).map_err(Unreached::Host)?;
    let dial = DialPolicy { allow: route.allow.clone(), own: own.to_vec() };
    let limits = UpstreamLimits {
        connections: limits.upstream_connections,
        window: FAR_WINDOW,
        dial: Some(dial),
        ..UpstreamLimits::default()
    };
    Ok(Upstream::new(origin, Arc::new(tls), limits))
}
