//! State of the api-proxy: its options, what it keeps, and its connections to the apiserver.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::ConfigExt as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::cluster::tls;
use crate::roles::proxy::audit::{AuditLog, AuditTarget};
use crate::roles::proxy::credential::{ProxyCredential, TokenMissing};
use crate::roles::proxy::metrics::ProxyMetrics;
use crate::roles::proxy::peers::{Admission, watch_peers};
use crate::roles::role::{ApiserverError, Role, RoleError, Stopping};
use crate::roles::verdicts::Verdicts;
use crate::roles::watches::{Shares, Watches};
use crate::server::limits::{Buckets, RoleLimits};
use crate::server::nothing;
use crate::server::upstream::{Origin, Upstream, UpstreamError, UpstreamLimits};
use crate::types::name::ClusterUuid;

/// How often the apiserver is asked whether it is ready.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How long it gets to answer.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a list that the apiserver may send ahead: a list that its peer does not read holds so much. Watches, of which there
/// are thousands, have less; with more for lists, as many as the limit `lists` says would not fit into the container.
const LIST_WINDOW: u32 = 256 * 1024;

/// Options of the api-proxy.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// Where each request is recorded before it is answered.
    pub audit_log: AuditTarget,
    /// The apiserver; else the kubeconfig's server.
    pub upstream: Option<http::Uri>,
}

/// The api-proxy: whom it admits, what they see, and where requests go.
pub struct Proxy {
    pub(super) admission: watch::Receiver<Arc<Admission>>,
    pub(super) upstream: Upstream,
    /// Connections for lists.
    pub(super) lists_upstream: Upstream,
    pub(super) credential: ProxyCredential,
    pub(super) limits: RoleLimits,
    pub(super) of_address: Buckets<IpAddr>,
    pub(super) of_all: Buckets<()>,
    pub(super) of_peer: Buckets<ClusterUuid>,
    pub(super) verdicts: Verdicts<Admission>,
    pub(super) shares: Arc<Shares<ClusterUuid>>,
    /// Lists that are too long to continue as a whole.
    pub(super) lists: Arc<Shares<ClusterUuid>>,
    pub(super) watches: Watches<ClusterUuid>,
    pub(super) audit: AuditLog,
    pub(super) counts: ProxyMetrics,
    pub(super) stopping: Stopping,
    pub(super) clock: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
    pub(super) requests: AtomicU64,
    /// Requests come through a trusted proxy.
    pub(super) drops_forwarded: bool,
}

impl Proxy {
    /// A proxy with another clock and another sink of its records.
    pub fn new(
        role: &Role,
        audit: AuditLog,
        upstream: Option<&http::Uri>,
        clock: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
    ) -> Result<Self, RoleError> {
        role.health.fails("apiserver", "not asked yet");
        let credential = ProxyCredential::of(role)?;
        // the probe has a connection of its own: peers that have all others do not make the role seem unready
        let connections = role.limits.upstream_connections;
        let usual = UpstreamLimits::default();
        let probed = apiserver(role, upstream, UpstreamLimits { connections: 1, ..usual.clone() })?;
        let lists = UpstreamLimits { connections, window: LIST_WINDOW, ..usual.clone() };
        let lists_upstream = apiserver(role, upstream, lists)?;
        let upstream = apiserver(role, upstream, UpstreamLimits { connections, ..usual })?;
        let counts = ProxyMetrics::register(&role.metrics, audit.dropped());
        tokio::spawn(probe(probed, credential.clone(), role.clone()));
        let limits = role.limits.clone();
        Ok(Self {
            admission: watch_peers(role),
            upstream,
            lists_upstream,
            credential,
            of_address: Buckets::new(limits.rate_per_address),
            of_all: Buckets::new(limits.rate_unauthenticated),
            of_peer: Buckets::new(limits.rate_per_peer),
            limits,
            verdicts: Verdicts::default(),
            shares: Arc::default(),
            lists: Arc::default(),
            watches: Watches::default(),
            audit,
            counts,
            stopping: role.stopping.clone(),
            clock,
            requests: AtomicU64::new(0),
            drops_forwarded: role.behind_proxy,
        })
    }
}

/// Connections to the apiserver of a role's own cluster.
fn apiserver(role: &Role, url: Option<&http::Uri>, limits: UpstreamLimits) -> Result<Upstream, RoleError> {
    let config = &role.access.config;
    let url = url.unwrap_or(&config.cluster_url);
    let broken = |source| RoleError::Apiserver { url: url.to_string(), source };
    if url.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return Err(broken(ApiserverError::NotHttps));
    }
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let mut origin = Origin::new(host, url.port_u16().unwrap_or(443)).map_err(|error| broken(error.into()))?;
    if let Some(name) = &config.tls_server_name {
        origin.server_name = Origin::new(name, 443).map_err(|error| broken(error.into()))?.server_name;
    }
    let mut client = config.rustls_client_config().map_err(|error| broken(error.into()))?;
    client.alpn_protocols = tls::offered(tls::HTTP_2_OR_1);
    Ok(Upstream::new(origin, Arc::new(client), limits))
}

/// Why the apiserver is not ready.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("GET /readyz was answered with {}", .0.as_u16())]
    Status(StatusCode),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Token(#[from] TokenMissing),
    #[error(transparent)]
    Request(#[from] http::Error),
}

/// Asks the apiserver whether it is ready, for as long as the role lives.
async fn probe(upstream: Upstream, credential: ProxyCredential, role: Role) {
    while !role.stopping.is_requested() {
        let request = Request::builder().uri("/readyz").body(nothing());
        let outcome = match (request, credential.authorization()) {
            (Ok(mut request), Ok(authorization)) => {
                if let Some(authorization) = authorization {
                    request.headers_mut().insert(AUTHORIZATION, authorization);
                }
                match upstream.send(request, PROBE_PATIENCE).await {
                    Ok(response) if response.status() == StatusCode::OK => {
                        // a body that is read ends its stream in order, instead of resetting it each time
                        drop(timeout(PROBE_PATIENCE, response.into_body().collect()).await);
                        Ok(())
                    }
                    Ok(response) => Err(ProbeError::Status(response.status())),
                    Err(error) => Err(error.into()),
                }
            }
            (_, Err(missing)) => Err(missing.into()),
            (Err(error), _) => Err(error.into()),
        };
        role.health.set("apiserver", &outcome);
        sleep(PROBE_EVERY).await;
    }
}
