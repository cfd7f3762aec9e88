//! The api-proxy: lets admitted peers read what their istiod needs of this cluster's apiserver, and nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::{Request, Response};
use hyper::body::Incoming;

use super::role::{Role, RoleError, Service};
use super::{Body, BoxError, Handler};

/// Where requests are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// What the api-proxy is told.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// Where each request is recorded before it is answered.
    pub audit_log: AuditTarget,
    /// The apiserver; else the kubeconfig's server.
    pub upstream: Option<http::Uri>,
}

/// The role.
#[derive(Debug)]
pub struct Proxy;

impl Handler for Proxy {
    async fn handle(&self, _request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, BoxError> {
        Err("the api-proxy has no policy".into())
    }
}

/// Begins the role.
pub async fn start(role: Role, _options: ProxyOptions) -> Result<Service<Proxy>, RoleError> {
    role.stopping.requested().await;
    Err(RoleError::Start("the api-proxy has no policy".to_owned()))
}
