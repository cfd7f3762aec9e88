//! The relay: holds the cluster's private key, takes its istiod to the peers' api-proxies, and reads for the engine what only
//! that key opens (`seen`).
//!
//! Its two halves share the key alone. One keeps the cluster's own objects in order (`upkeep`: the key is born here, the
//! identity written, certificates issued). The other answers istiod: a request below `/to/<cluster ID>/` is forwarded to that
//! peer (`peers`, `forward`) with a token that istiod never sees. Whoever reaches the relay speaks for the cluster, so
//! only istiod may: by NetworkPolicy, and strictly by its token (`admit`).

mod admit;
mod forward;
mod issue;
mod key_secret;
mod options;
mod peers;
mod reach;
mod refusal;
mod seen;
mod store;
mod upkeep;

pub use crate::roles::relay::options::RelayOptions;
pub use crate::roles::relay::peers::metrics;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{Notify, watch};

use crate::cluster::unread::Unread;
use crate::cluster::watched::{ConfigMapData, SourceState, Watched, watch_config_map};
use crate::roles::relay::admit::TokenReviewer;
use crate::roles::relay::forward::Forwarder;
use crate::roles::relay::peers::{Peers, RelayMetrics};
use crate::roles::relay::seen::PeerReader;
use crate::roles::relay::upkeep::{RelayIdentity, Upkeep};
use crate::roles::role::{Role, RoleError, Service};
use crate::server::limits::Buckets;
use crate::server::{Asker, Body, Handler, Reader};
use crate::types::address::{Cidr, Host};
use crate::types::key::PrivateKey;
use crate::types::name::ClusterUuid;
use crate::wire::routes::{ROUTES, ROUTES_FILE, ROUTES_VERSION, RoutesError, RoutesFile};

/// How often the objects of the own cluster are looked after.
const UPKEEP: Duration = Duration::from_mins(1);

/// The relay: its peers by cluster ID, and who may ask for them.
pub struct Relay {
    forwarder: Forwarder,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relay([redacted])")
    }
}

impl Handler for Relay {
    type Error = Infallible;

    fn admit(&self, request: &mut Request<Incoming>, from: SocketAddr) -> Asker {
        self.forwarder.sender(request, from)
    }

    fn refused(&self, _from: SocketAddr, status: StatusCode) {
        self.forwarder.count(String::new(), status);
    }

    async fn handle(&self, request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let (mut head, _body) = request.into_parts();
        let reader = head.extensions.remove::<Reader>().unwrap_or_default();
        Ok(self.forwarder.answer(head, reader).await)
    }

    fn problem(&self, from: SocketAddr, problem: &(dyn Error + 'static)) {
        tracing::debug!(source = %from.ip(), %problem, "a connection failed");
    }
}

/// Begins the role: once there is a key and a certificate, the relay serves.
pub async fn start(role: Role, options: RelayOptions) -> Result<Service<Relay>, RoleError> {
    start_with(role, options, UPKEEP).await
}

/// The same with another time between two reads of the own cluster's objects.
pub async fn start_with(role: Role, options: RelayOptions, every: Duration) -> Result<Service<Relay>, RoleError> {
    Box::pin(begin(role, options, every)).await.map(|(service, _)| service)
}

/// The same for whoever acts with the cluster's key in the same process.
pub async fn start_with_key(role: Role, options: RelayOptions) -> Result<(Service<Relay>, OwnKey), RoleError> {
    Box::pin(begin(role, options, UPKEEP)).await
}

/// The cluster's key, as the relay has it.
#[derive(Debug, Clone)]
pub struct OwnKey(watch::Receiver<Option<Arc<RelayIdentity>>>);

impl OwnKey {
    /// The key; `None`: it is not known yet.
    pub fn key(&self) -> Option<PrivateKey> {
        let identity = self.0.borrow().clone()?;
        PrivateKey::from_pem(&identity.authn.key.to_pem().ok()?).ok()
    }

    /// The CA of the certificates that exporter and api-proxy have from it, PEM; `None`: it is not known yet.
    pub fn authority(&self) -> Option<String> {
        let identity = self.0.borrow().clone()?;
        Some(identity.authn.authority.pem().to_owned())
    }
}

async fn begin(role: Role, options: RelayOptions, every: Duration) -> Result<(Service<Relay>, OwnKey), RoleError> {
    for (flag, hosts) in [("exporter-host", &options.exporter_hosts), ("proxy-host", &options.proxy_hosts)] {
        if let Some(source) = hosts.iter().find_map(|host| host.parse::<Host>().err()) {
            return Err(RoleError::Host { flag, source });
        }
    }
    let conditions =
        [("key", "the cluster's key is not read yet"), ("identity", "not written yet"), ("routes", "not read yet")];
    for (condition, reason) in conditions {
        role.health.fails(condition, reason);
    }
    let reviewer = options.require_token.then(|| TokenReviewer::new(&role.access.client, &role.namespace));
    let own = own_ranges(&role, &options);
    let (mut reconciler, credential) = Upkeep::new(role.clone(), options);
    if role.tls.is_some() {
        reconciler.serve_from(role.certificates_from_files()?);
    }
    let Some(certificates) = reconciler.start().await else {
        return Err(RoleError::Ended);
    };
    let key = OwnKey(credential.clone());
    let counts = RelayMetrics::register(&role.metrics);
    let reader = Arc::new(PeerReader::new(credential.clone(), &own));
    role.pages.show(reader.pages());
    tokio::spawn(reader.clone().run(role.stopping.clone()));
    let peers = Arc::new(Peers::new(credential, role.limits.clone(), counts, own));
    let changed = Arc::new(Notify::new());
    let routes = watch_config_map(&role.access.client, role.namespace.as_str(), ROUTES, &changed);
    tokio::spawn(reconciler.run(every));
    tokio::spawn(watch_routes(role.clone(), routes, changed, (peers.clone(), reader)));
    let Role { limits, stopping, .. } = role;
    let of_address = Buckets::new(limits.rate_per_address);
    let of_all = Buckets::new(limits.rate_unauthenticated);
    let forwarder = Forwarder { peers, reviewer, limits, stopping, streams: 0.into(), of_address, of_all };
    Ok((Service { handler: Arc::new(Relay { forwarder }), certificates }, key))
}

/// Ranges that no peer is in: what the command line says, and the address by which the own apiserver is reached.
fn own_ranges(role: &Role, options: &RelayOptions) -> Vec<Cidr> {
    let host = role.access.config.cluster_url.host().unwrap_or_default();
    let apiserver = host.trim_start_matches('[').trim_end_matches(']').parse().ok().map(Cidr::of);
    options.cluster_cidrs.iter().copied().chain(apiserver).collect()
}

/// Why the routes are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RoutesProblem {
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error("ConfigMap `{ROUTES}` has no `{ROUTES_FILE}`; render it again")]
    NoFile,
    #[error(transparent)]
    Routes(#[from] RoutesError),
}

/// No ConfigMap means that there is no route yet.
fn read_routes(
    source: &SourceState<Arc<ConfigMapData>>,
    own: Option<&ClusterUuid>,
) -> Result<RoutesFile, RoutesProblem> {
    let Some(data) = source.optional(format!("ConfigMap `{ROUTES}`"))? else {
        return Ok(RoutesFile { version: ROUTES_VERSION, of: None, routes: Vec::new(), metadata: Vec::new() });
    };
    let file = RoutesFile::parse(data.get(ROUTES_FILE).ok_or(RoutesProblem::NoFile)?.as_bytes())?;
    Ok(match own {
        Some(own) => file.taken_by(own)?,
        None => file,
    })
}

/// Takes over the routes whenever they change. Routes that cannot be read leave those that are known as they are.
async fn watch_routes(
    role: Role,
    routes: Watched<ConfigMapData>,
    changed: Arc<Notify>,
    (peers, reader): (Arc<Peers>, Arc<PeerReader>),
) {
    let mut known = false;
    let mut last_error = None;
    loop {
        let source = routes.one();
        match read_routes(&source, peers.own().as_ref()) {
            Ok(mut file) => {
                known = true;
                last_error = None;
                reader.read(std::mem::take(&mut file.metadata));
                for peer in peers.update(file) {
                    tokio::spawn(reach::keep_reaching(peers.clone(), peer, role.stopping.clone()));
                }
                role.health.holds("routes");
            }
            Err(problem) => {
                let begins = source == SourceState::NotYet;
                if !begins && last_error.as_ref() != Some(&problem) {
                    tracing::warn!(problem = problem.to_string(), "the routes stay as they were");
                }
                if !known {
                    role.health.fails("routes", &problem);
                }
                last_error = Some(problem);
            }
        }
        tokio::select! {
            () = changed.notified() => {}
            () = role.stopping.requested() => return,
        }
    }
}
