//! The api-proxy: lets admitted peers read what their istiod needs of this cluster's apiserver, and nothing else.
//!
//! A request goes through here once: how often its address asks, its token, how often its peer asks, its headers, its path,
//! the [`policy`]; then on to the apiserver as the peer's own user, or to an answer that is made here. The proxy's
//! ServiceAccount may impersonate the peers' users and nothing else, so a mistake here fails closed.

pub mod audit;
pub mod credential;
pub mod hide;
pub mod peers;
pub mod policy;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kube::client::ConfigExt as _;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::roles::api::headers;
use crate::roles::api::request::{self, ApiRequest};
use crate::roles::api::status::{idling, status_object};
use crate::roles::proxy::audit::{AuditLog, AuditTarget, Record};
use crate::roles::proxy::credential::Credential;
use crate::roles::proxy::hide::HideNetwork;
use crate::roles::proxy::peers::Admission;
use crate::roles::proxy::policy::{Admitted, Forward, Policy};
use crate::roles::role::{Role, RoleError, Service, Stopping};
use crate::server::limits::{Buckets, Limits, client_address};
use crate::server::stream::{AsIs, Bounds, Ended, Framing, Outcome, pass};
use crate::server::upstream::{Origin, Upstream, UpstreamError, UpstreamLimits};
use crate::server::{Body, BoxError, Handler, nothing, whole};
use crate::types::key::PublicKey;
use crate::types::name::ClusterUuid;
use crate::types::token::{Expectation, Scope, verify};

/// What the api-proxy is told.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// Where each request is recorded before it is answered.
    pub audit_log: AuditTarget,
    /// The apiserver; else the kubeconfig's server.
    pub upstream: Option<http::Uri>,
}

/// How long the apiserver gets to end a watch by itself after its time.
const GRACE: Duration = Duration::from_secs(10);
/// How often the apiserver is asked whether it is ready.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How long it gets to say so.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Judged {
    peer: String,
    decision: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPeer {
    peer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Used {
    cluster_uuid: String,
    key_id: String,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    requests: Family<Judged, Counter>,
    watches: Family<OfPeer, Gauge>,
    last_used: Family<Used, Gauge>,
}

/// Watches that are open.
#[derive(Debug, Default)]
struct Watches(Mutex<HashMap<ClusterUuid, usize>>);

/// One of them.
struct WatchPlace {
    watches: Arc<Watches>,
    peer: ClusterUuid,
    gauge: Gauge,
}

impl Watches {
    fn take(self: &Arc<Self>, peer: &ClusterUuid, limits: &Limits, gauge: Gauge) -> Option<WatchPlace> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = open.get(peer).copied().unwrap_or_default();
        if of_peer >= limits.watches_per_peer || open.values().sum::<usize>() >= limits.watches {
            return None;
        }
        open.insert(peer.clone(), of_peer + 1);
        gauge.inc();
        Some(WatchPlace { watches: self.clone(), peer: peer.clone(), gauge })
    }
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        let mut open = self.watches.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
        self.gauge.dec();
    }
}

/// The role.
pub struct Proxy {
    admission: watch::Receiver<Arc<Admission>>,
    upstream: Upstream,
    credential: Credential,
    limits: Limits,
    of_address: Buckets<IpAddr>,
    of_peer: Buckets<ClusterUuid>,
    watches: Arc<Watches>,
    audit: AuditLog,
    counts: Counts,
    stopping: Stopping,
    clock: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
    requests: AtomicU64,
}

/// A request that is not answered as asked.
struct Refusal {
    status: StatusCode,
    decision: &'static str,
    /// For the record.
    reason: String,
    /// For whoever asked.
    words: &'static str,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, decision: &'static str, reason: impl Into<String>, words: &'static str) -> Self {
        Self { status, decision, reason: reason.into(), words, retry_after: None }
    }

    fn later(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    fn response(&self) -> Response<Body> {
        let reason = match self.status {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::GATEWAY_TIMEOUT => "Timeout",
            _ => "ServiceUnavailable",
        };
        let mut response = status_object(self.status, reason, self.words);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}

/// A request whose sender is known and may ask it.
struct Asked {
    peer: ClusterUuid,
    name: String,
    key: PublicKey,
    /// The answer's head alone is wanted.
    head_only: bool,
    request: ApiRequest,
    admitted: Admitted,
    headers: HeaderMap,
    /// How long a watch may last.
    seconds: u64,
    place: Option<WatchPlace>,
}

impl Proxy {
    /// Judges a request, and writes into the record what it learns on the way.
    fn judge(&self, head: &Parts, from: SocketAddr, record: &mut Record) -> Result<Asked, Refusal> {
        let busy = |wait| {
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "limited", "too many requests", "too many requests").later(wait)
        };
        self.of_address.take(client_address(from.ip()), std::time::Instant::now()).map_err(busy)?;
        let admission = self.admission.borrow().clone();
        let (Some(own), Some(_)) = (&admission.cluster_uuid, &admission.peers) else {
            let words = "not ready";
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready",
                "identity or peers are not known",
                words,
            )
            .later(Duration::from_secs(5)));
        };
        let values = head.headers.get_all(AUTHORIZATION).iter();
        let values: Vec<&str> = values.map(|value| value.to_str().unwrap_or_default()).collect();
        let now = (self.clock)().as_second();
        let expected =
            Expectation { audience: own.as_str(), scope: Scope::Api, now, max_lifetime: Scope::Api.max_lifetime() };
        let unauthorized =
            |reason: String| Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", reason, "unauthorized");
        let verified =
            verify(&values, &expected, &*admission).map_err(|rejected| unauthorized(rejected.to_string()))?;
        let peer: ClusterUuid =
            verified.claims.sub.parse().map_err(|_| unauthorized("sub is not a UUID".to_owned()))?;
        let entry = admission.peer(&peer).ok_or_else(|| unauthorized("the peer has gone".to_owned()))?;
        let signed = entry.keys.iter().find(|key| key.pem == verified.key);
        record.peer = Some(entry.name.to_string());
        record.cluster_uuid = Some(peer.to_string());
        record.key_id = signed.map(|key| key.id.to_string());
        self.of_peer.take(peer.clone(), std::time::Instant::now()).map_err(busy)?;
        if let Some(key_id) = record.key_id.clone() {
            self.counts.last_used.get_or_create(&Used { cluster_uuid: peer.to_string(), key_id }).set(now);
        }

        let bad =
            |reason: String| Refusal::new(StatusCode::BAD_REQUEST, "denied", reason, "this request is not understood");
        let path = head.uri.path();
        let parsed = ApiRequest::parse(&head.method, path, head.uri.query(), self.limits.path);
        let request = parsed.map_err(|error| match error {
            request::RequestError::Method => {
                let words = "peers only read";
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "denied", error.to_string(), words)
            }
            request::RequestError::NoSuchPath => {
                let words = "this resource is not shared with peers";
                Refusal::new(StatusCode::FORBIDDEN, "denied", error.to_string(), words)
            }
            error => bad(error.to_string()),
        })?;
        let head_only = head.method == Method::HEAD;
        if head_only && request.verb == request::Verb::Watch {
            let words = "a watch has to be asked with GET";
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "denied", words, words));
        }
        record.verb = Some(request.verb.as_str());
        if let Some(resource) = request.resource() {
            record.group = Some(resource.group.clone());
            record.version = Some(resource.version.clone());
            record.resource = Some(match &resource.subresource {
                Some(subresource) => format!("{}/{subresource}", resource.resource),
                None => resource.resource.clone(),
            });
            record.namespace.clone_from(&resource.namespace);
            record.name.clone_from(&resource.name);
        }
        let left = u64::try_from(verified.claims.exp.saturating_sub(now)).unwrap_or(0).max(1);
        let seconds = self.limits.watch.as_secs().min(left).max(1);
        let policy =
            Policy { trust_domain: admission.trust_domain.clone(), istio_namespace: admission.istio_namespace.clone() };
        let admitted = policy.admit(&request, entry, seconds).map_err(|denied| {
            Refusal::new(StatusCode::FORBIDDEN, "denied", denied.to_string(), "this is not shared with peers")
        })?;
        let json = matches!(&admitted, Admitted::Forward(Forward { hide_network: true, .. }));
        let headers = headers::upstream(&head.headers, json).map_err(|refused| bad(refused.to_string()))?;
        let place = if request.verb == request::Verb::Watch {
            let gauge = self.counts.watches.get_or_create(&OfPeer { peer: entry.name.to_string() }).clone();
            let taken = self.watches.take(&peer, &self.limits, gauge);
            Some(taken.ok_or_else(|| busy(Duration::from_secs(10)))?)
        } else {
            None
        };
        let name = entry.name.to_string();
        Ok(Asked { peer, name, key: verified.key, head_only, request, admitted, headers, seconds, place })
    }

    /// Answers a request that was admitted. The body is not bounded yet.
    async fn answer(&self, asked: &Asked) -> Result<Response<Body>, Refusal> {
        match &asked.admitted {
            Admitted::Synthetic(synthetic) => {
                let answer = synthetic.answer(&asked.request);
                let body = if answer.idles { idling(answer.body) } else { whole(answer.body) };
                let mut response = Response::new(body);
                *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok(response)
            }
            Admitted::Forward(forward) => self.forward(asked, forward).await,
        }
    }

    async fn forward(&self, asked: &Asked, forward: &Forward) -> Result<Response<Body>, Refusal> {
        let failed = |status, reason: String, words| Refusal::new(status, "failed", reason, words);
        let words = "the apiserver does not answer";
        let gone =
            |reason: String| failed(StatusCode::SERVICE_UNAVAILABLE, reason, words).later(Duration::from_secs(1));
        let mut headers = asked.headers.clone();
        if let Some(authorization) = self.credential.authorization().map_err(|reason| gone(reason.to_owned()))? {
            headers.insert(AUTHORIZATION, authorization);
        }
        headers::impersonate(&mut headers, &asked.peer);
        let method = if asked.head_only { Method::HEAD } else { Method::GET };
        let request = Request::builder().method(method).uri(forward.path_and_query.as_str()).body(nothing());
        let mut request =
            request.map_err(|error| failed(StatusCode::BAD_REQUEST, error.to_string(), "no such path"))?;
        *request.headers_mut() = headers;
        let patience = if forward.list { self.limits.list } else { self.limits.request };
        let response = self.upstream.send(request, patience).await.map_err(|error| match error {
            UpstreamError::Timeout(_) => failed(StatusCode::GATEWAY_TIMEOUT, error.to_string(), words),
            UpstreamError::Upgrade => {
                failed(StatusCode::BAD_GATEWAY, error.to_string(), "the apiserver answered oddly")
            }
            error => gone(error.to_string()),
        })?;
        if response.status().is_redirection() && response.status() != StatusCode::NOT_MODIFIED {
            let reason = format!("the apiserver answered {}", response.status().as_u16());
            return Err(failed(StatusCode::BAD_GATEWAY, reason, "the apiserver answered oddly"));
        }
        // it would read as if the peer's own token was refused
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(gone("the apiserver refused the role's own credential".to_owned()));
        }
        let (head, body) = response.into_parts();
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers::answer(&head.headers);
        Ok(response)
    }

    /// Bounds an answer's body.
    fn bound(&self, asked: Asked, response: Response<Body>, id: u64, record: Record) -> Response<Body> {
        let watch = asked.request.verb == request::Verb::Watch && response.status() == StatusCode::OK;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let framing = if watch { Framing::of_watch(kind) } else { Framing::Whole };
        let lasts = match (&asked.admitted, watch) {
            (Admitted::Synthetic(_), true) => Duration::from_secs(asked.seconds),
            (_, true) => Duration::from_secs(asked.seconds) + GRACE,
            (_, false) => self.limits.list,
        };
        let bounds = Bounds { until: Instant::now() + lasts, stall: self.limits.stall, framing };
        // watches that end together come back together, so they end one after the other
        let (stopping, spread) = (self.stopping.clone(), self.limits.drain * u32::try_from(id % 16).unwrap_or(0) / 20);
        let due = async move {
            stopping.requested().await;
            sleep(spread).await;
        };
        let hide = matches!(&asked.admitted, Admitted::Forward(Forward { hide_network: true, .. }));
        let revoked = revoked(self.admission.clone(), asked.peer.clone(), asked.key.clone());
        let (audit, clock, place) = (self.audit.clone(), self.clock.clone(), asked.place);
        let ended = move |outcome: Outcome| {
            drop(place);
            if watch {
                audit.note(&ended_record(record, &outcome, clock().to_string()));
            }
        };
        response.map(|body| {
            if hide {
                pass(body, HideNetwork::default(), bounds, due, revoked, ended)
            } else {
                pass(body, AsIs, bounds, due, revoked, ended)
            }
        })
    }
}

fn ended_record(record: Record, outcome: &Outcome, time: String) -> Record {
    let reason = match &outcome.ended {
        Ended::Whole => "the apiserver ended it".to_owned(),
        Ended::Due => "its time was over".to_owned(),
        Ended::Left => "the peer ended it".to_owned(),
        Ended::Stalled => "the peer took nothing for too long".to_owned(),
        Ended::Revoked(why) => (*why).to_owned(),
        Ended::Broken(why) => format!("the apiserver broke off: {why}"),
    };
    let milliseconds = u64::try_from(outcome.lasted.as_millis()).unwrap_or(u64::MAX);
    Record { time, event: "ended", reason: Some(reason), milliseconds, bytes: Some(outcome.bytes), ..record }
}

/// Waits until a key is no longer one of a peer that is admitted.
async fn revoked(mut admission: watch::Receiver<Arc<Admission>>, peer: ClusterUuid, key: PublicKey) -> &'static str {
    loop {
        if !admission.borrow_and_update().admits(&peer, &key) {
            return "the peer or its key is no longer admitted";
        }
        if admission.changed().await.is_err() {
            future::pending::<()>().await;
        }
    }
}

impl Handler for Proxy {
    async fn finish(&self) {
        self.audit.flush().await;
    }

    async fn handle(&self, request: Request<Incoming>, from: SocketAddr) -> Result<Response<Body>, BoxError> {
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
                record.decision = refusal.decision;
                record.reason = Some(refusal.reason.clone());
                (refusal.response(), None)
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
            let words = "requests cannot be recorded, so none is answered";
            return Ok(status_object(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", words));
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

/// Asks the apiserver whether it is ready, for as long as the role lives.
async fn probe(upstream: Upstream, credential: Credential, role: Role) {
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
                    Ok(response) => Err(format!("GET /readyz was answered with {}", response.status().as_u16())),
                    Err(error) => Err(error.to_string()),
                }
            }
            (_, Err(missing)) => Err(missing.to_owned()),
            (Err(error), _) => Err(error.to_string()),
        };
        role.health.set("apiserver", outcome);
        sleep(PROBE_EVERY).await;
    }
}

/// Connections to the apiserver of a role's own cluster.
pub(super) fn apiserver(role: &Role, url: Option<&http::Uri>) -> Result<Upstream, RoleError> {
    let config = &role.access.config;
    let url = url.unwrap_or(&config.cluster_url);
    let broken = |error: &dyn std::fmt::Display| RoleError::Start(format!("cannot use the apiserver {url}: {error}"));
    if url.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return Err(broken(&"it has to be reached by https://"));
    }
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let mut origin = Origin::new(host, url.port_u16().unwrap_or(443)).map_err(|error| broken(&error))?;
    if let Some(name) = &config.tls_server_name {
        origin.server_name = Origin::new(name, 443).map_err(|error| broken(&error))?.server_name;
    }
    let mut tls = config.rustls_client_config().map_err(|error| broken(&error))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let limits = UpstreamLimits { connections: role.limits.upstream_connections, ..UpstreamLimits::default() };
    Ok(Upstream::new(origin, Arc::new(tls), limits))
}

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

impl Proxy {
    /// A proxy with another clock and another sink of its records.
    pub fn new(
        role: &Role,
        audit: AuditLog,
        upstream: Option<&http::Uri>,
        clock: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
    ) -> Result<Self, RoleError> {
        role.health.set("apiserver", Err("not asked yet".to_owned()));
        let credential = Credential::of(role)?;
        let upstream = apiserver(role, upstream)?;
        let counts = Counts::default();
        role.metrics.register(|registry| {
            let Counts { requests, watches, last_used } = counts.clone();
            registry.register("isthmus_proxy_requests", "Requests of peers", requests);
            registry.register("isthmus_proxy_watches", "Watches that are open", watches);
            let help = "When a peer last used a key, seconds since 1970";
            registry.register("isthmus_proxy_credential_last_used_seconds", help, last_used);
        });
        tokio::spawn(probe(upstream.clone(), credential.clone(), role.clone()));
        let limits = role.limits.clone();
        Ok(Self {
            admission: peers::follow(role),
            upstream,
            credential,
            of_address: Buckets::new(limits.rate_per_address),
            of_peer: Buckets::new(limits.rate_per_peer),
            limits,
            watches: Arc::default(),
            audit,
            counts,
            stopping: role.stopping.clone(),
            clock,
            requests: AtomicU64::new(0),
        })
    }
}
