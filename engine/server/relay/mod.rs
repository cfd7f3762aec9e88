//! The relay: holds the cluster's private key and takes its istiod to the peers' api-proxies.

use std::net::SocketAddr;

use http::{Request, Response};
use hyper::body::Incoming;

use super::role::{Role, RoleError, Service};
use super::{Body, BoxError, Handler};
use crate::name::{ClusterUuid, NetworkName, TrustDomain};

/// What the relay is told; all else it finds in its cluster.
#[derive(Debug, Clone, Default)]
pub struct RelayOptions {
    /// Names and addresses that the exporter's certificate is for.
    pub exporter_hosts: Vec<String>,
    /// Names and addresses that the api-proxy's certificate is for.
    pub proxy_hosts: Vec<String>,
    /// Trust domain; else what the mesh configuration says.
    pub trust_domain: Option<TrustDomain>,
    /// Network; else the label of Istio's namespace.
    pub network: Option<NetworkName>,
    /// UUID; else the UID of `kube-system`.
    pub cluster_uuid: Option<ClusterUuid>,
    /// Whoever asks must show a ServiceAccount's token of audience `isthmus-relay`.
    pub require_token: bool,
}

/// The role.
#[derive(Debug)]
pub struct Relay;

impl Handler for Relay {
    async fn handle(&self, _request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, BoxError> {
        Err("the relay has no key".into())
    }
}

/// Begins the role.
pub async fn start(role: Role, _options: RelayOptions) -> Result<Service<Relay>, RoleError> {
    role.stopping.requested().await;
    Err(RoleError::Start("the relay has no key".to_owned()))
}
