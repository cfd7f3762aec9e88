//! The api-proxy: lets admitted peers read what their istiod needs of this cluster's apiserver, and nothing else.
//!
//! A request goes through here once: how often its address asks, its token, how often its peer asks, its headers, its path,
//! the [`policy`]; then on to the apiserver as the peer's own user, whose answer goes through the [`projection`], or to an
//! answer that is made here. The proxy's ServiceAccount may impersonate the peers' users and nothing else, so a mistake here fails closed.

pub mod audit;
pub mod credential;
pub mod peers;
pub mod policy;
pub mod projection;

mod forward;
mod judge;
mod metrics;
mod refusal;
mod state;

pub use metrics::metrics;
pub use state::{Proxy, ProxyOptions};

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::roles::api::status::Refused;
use crate::roles::proxy::audit::{AuditLog, Record};
use crate::roles::proxy::metrics::Judged;
use crate::roles::role::{Role, RoleError, Service};
use crate::server::{Body, Handler};

/// Begins the role.
#[allow(clippy::unused_async, reason = "as every role begins")]
pub async fn start(role: Role, options: ProxyOptions) -> Result<Service<Proxy>, RoleError> {
    let audit = AuditLog::open(&options.audit_log).map_err(|source| RoleError::File {
        what: "the audit log",
        path: format!("{:?}", options.audit_log),
        source,
    })?;
    let certificates = role.certificates_from_files()?;
    let proxy = Proxy::new(&role, audit, options.upstream.as_ref(), Arc::new(jiff::Timestamp::now))?;
    Ok(Service { handler: Arc::new(proxy), certificates })
}

impl Handler for Proxy {
    type Error = Infallible;

    async fn finish(&self) {
        self.audit.flush().await;
    }

    async fn handle(&self, request: Request<Incoming>, from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let begin = Instant::now();
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let (head, _body) = request.into_parts();
        let mut record = Record {
            time: (self.clock)().to_string(),
            event: "answered",
            id,
            source: from.ip().to_canonical().to_string(),
            method: head.method.to_string(),
            decision: "allowed",
            ..Record::default()
        };
        let outcome = match self.judge(&head, from, &mut record) {
            Ok(asked) => self.answer(&asked).await.map(|response| (asked, response)),
            Err(refusal) => Err(refusal),
        };
        let (response, asked) = match outcome {
            Ok((asked, response)) => (response, Some(asked)),
            Err(refusal) => {
                record.decision = refusal.decision();
                record.reason = Some(refusal.to_string());
                (refusal.answer().response(), None)
            }
        };
        record.status = response.status().as_u16();
        record.milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let peer = asked.as_ref().map(|asked| asked.name.clone()).or_else(|| record.peer.clone()).unwrap_or_default();
        let count = |decision, code| {
            self.counts.requests.get_or_create(&Judged { peer, decision, code }).inc();
        };
        if !self.audit.record(&record).await {
            count("not recorded", StatusCode::SERVICE_UNAVAILABLE.as_u16());
            let message = "requests cannot be recorded, so none is answered";
            return Ok(Refused::new(StatusCode::SERVICE_UNAVAILABLE, message).response());
        }
        count(record.decision, record.status);
        Ok(match asked {
            Some(asked) => self.bound(asked, response, id, record),
            None => response,
        })
    }

    fn problem(&self, from: SocketAddr, problem: &(dyn std::error::Error + 'static)) {
        tracing::debug!(source = %from.ip(), problem = %problem, "a connection failed");
    }
}
