//! The api-proxy: lets admitted peers read what their istiod needs of this cluster's apiserver, and nothing else.
//!
//! A request goes through here once: how often its address asks, its token, how often its peer asks, its headers, its path,
//! the [`policy`]; then on to the apiserver as the peer's own user, whose answer goes through the
//! [projection](crate::roles::api::projection), or to an answer that is made here. The proxy's ServiceAccount may impersonate the peers' users and nothing else, so a mistake here fails closed.

pub mod audit;
pub mod credential;
pub mod peers;
pub mod policy;

mod forward;
mod judge;
mod listed;
mod metrics;
mod refusal;
mod state;

pub use metrics::metrics;
pub use state::{Proxy, ProxyOptions};

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::roles::api::status::Refused;
use crate::roles::proxy::audit::{AuditLog, AuditRecord};
use crate::roles::proxy::forward::ForwardedAnswer;
use crate::roles::proxy::judge::Sender;
use crate::roles::proxy::metrics::JudgedLabels;
use crate::roles::proxy::refusal::ProxyRefusal;
use crate::roles::role::{Role, RoleError, Service};
use crate::server::limits::client_address;
use crate::server::{Asker, Body, Handler, Reader};

/// Starts the role. Fails where its audit log cannot be opened, or its certificate not be read.
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

    fn admit(&self, request: &mut Request<Incoming>, from: SocketAddr) -> Asker {
        match self.sender(request.headers(), from) {
            Ok(sender) => {
                let peer = sender.peer.clone();
                request.extensions_mut().insert(sender);
                Asker::Peer(peer)
            }
            Err(refusal) => {
                let answer = refusal.answer();
                let reason = refusal.to_string();
                self.count(from, request.method(), refusal.decision(), answer.status, reason);
                Asker::Refused(answer.response())
            }
        }
    }

    fn refused(&self, from: SocketAddr, status: StatusCode) {
        let reason = status.canonical_reason().unwrap_or_default().to_ascii_lowercase();
        self.count(from, &Method::GET, "limited", status, reason);
    }

    async fn handle(&self, request: Request<Incoming>, from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let begin = Instant::now();
        let (mut head, _body) = request.into_parts();
        let reader = head.extensions.remove::<Reader>().unwrap_or_default();
        let mut record = self.record(from, &head.method);
        let judged = match head.extensions.remove::<Sender>() {
            Some(sender) => self.judge(&head, sender, reader, &mut record),
            None => Err(ProxyRefusal::PeerGone),
        };
        let outcome = match judged {
            Ok(asked) => {
                // what was asked is understood, and nothing else of it is kept while the apiserver is waited for
                drop(head);
                self.answer(&asked).await.map(|answer| (asked, answer))
            }
            Err(refusal) => Err(refusal),
        };
        let outcome = outcome.map_err(|refusal| {
            record.decision = refusal.decision();
            record.reason = Some(refusal.to_string());
            refusal.answer().response()
        });
        let status = outcome.as_ref().map_or_else(Response::status, |(_, answer)| answer.status());
        record.status = status.as_u16();
        record.milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let peer = record.peer.clone().unwrap_or_default();
        let count = |decision, code| {
            self.counts.requests.get_or_create(&JudgedLabels { peer, decision, code }).inc();
        };
        if !self.audit.record(&record).await {
            count("not recorded", StatusCode::SERVICE_UNAVAILABLE.as_u16());
            let message = "requests cannot be recorded, so none is answered";
            return Ok(Refused::new(StatusCode::SERVICE_UNAVAILABLE, message).response());
        }
        count(record.decision, record.status);
        Ok(match outcome {
            Ok((asked, ForwardedAnswer::Streams(response, list))) => self.bound(asked, (response, list), record),
            Ok((_, ForwardedAnswer::Whole(response))) | Err(response) => response,
        })
    }

    fn problem(&self, from: SocketAddr, problem: &(dyn std::error::Error + 'static)) {
        tracing::debug!(source = %from.ip(), problem = %problem, "a connection failed");
    }
}

impl Proxy {
    /// The beginning of a record.
    fn record(&self, from: SocketAddr, method: &Method) -> AuditRecord {
        AuditRecord {
            time: (self.clock)().to_string(),
            event: "answered",
            id: self.requests.fetch_add(1, Ordering::Relaxed),
            source: from.ip().to_canonical().to_string(),
            method: method.to_string(),
            decision: "allowed",
            ..AuditRecord::default()
        }
    }

    /// Counts a request without a verified token.
    fn count(&self, from: SocketAddr, method: &Method, decision: &'static str, status: StatusCode, reason: String) {
        let code = status.as_u16();
        self.counts.requests.get_or_create(&JudgedLabels { peer: String::new(), decision, code }).inc();
        let record = AuditRecord { decision, status: code, reason: Some(reason), ..self.record(from, method) };
        self.audit.count(client_address(from.ip()), record);
    }
}
