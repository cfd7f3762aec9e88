//! What a role says of itself on its second port, over plain HTTP: `/healthz`, `/readyz`, `/metrics`.
//!
//! Nothing there is secret, and nothing there is decided. `/readyz` lists each condition that does not hold.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// Longest life of a connection.
const LIFETIME: Duration = Duration::from_mins(1);

/// Counters and gauges of a role.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registered>>);

struct Registered {
    registry: Registry,
    /// Each makes one series of a metric that has labels, and so shows them.
    examples: Vec<Box<dyn Fn() + Send>>,
}

/// A metric that can show which labels it has.
pub trait Metric: prometheus_client::registry::Metric + Clone {
    /// Makes a series whose labels are empty, where it has labels.
    fn example(&self) {}
}

impl Metric for Counter<u64, AtomicU64> {}
impl Metric for Gauge<i64, AtomicI64> {}
impl Metric for Histogram {}
impl<L, M> Metric for Family<L, M>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + Default + std::fmt::Debug + Send + Sync + 'static,
    M: prometheus_client::registry::Metric + EncodeMetric + TypedMetric + Default,
{
    fn example(&self) {
        drop(self.get_or_create(&L::default()));
    }
}

impl Metrics {
    /// A registry that knows the version alone.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register(
            "isthmus_build",
            "Version of the engine",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self(Arc::new(Mutex::new(Registered { registry, examples: Vec::new() })))
    }

    /// Adds a metric. Its name is without the `_total` that a counter gets.
    pub fn register(&self, name: &str, help: &str, metric: &(impl Metric + Send)) {
        let mut registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registered.registry.register(name, help, metric.clone());
        let metric = metric.clone();
        registered.examples.push(Box::new(move || metric.example()));
    }

    /// The text with one series more of each metric that has labels, since one without a series is not in it: for what
    /// lists all metrics.
    pub fn text_with_examples(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).examples.iter().for_each(|example| example());
        self.text()
    }

    /// All metrics, in the text of `OpenMetrics`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match prometheus_client::encoding::text::encode(&mut text, &registered.registry) {
            Ok(()) => text,
            Err(std::fmt::Error) => String::new(),
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Conditions of being ready, by name. Without any, a role is not ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, ReadyCondition>>>);

/// A condition, as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ReadyCondition {
    Holds,
    /// It does not, and this is said of it.
    Fails(String),
}

impl Readiness {
    /// Notes that a condition of being ready holds.
    pub fn holds(&self, condition: &'static str) {
        self.put(condition, ReadyCondition::Holds);
    }

    /// A condition does not hold, for this reason.
    pub fn fails(&self, condition: &'static str, reason: impl Display) {
        self.put(condition, ReadyCondition::Fails(reason.to_string()));
    }

    /// A condition holds where something came out well, and else fails for its error.
    pub fn set<T, E: Display>(&self, condition: &'static str, outcome: &Result<T, E>) {
        match outcome {
            Ok(_) => self.holds(condition),
            Err(reason) => self.fails(condition, reason),
        }
    }

    fn put(&self, condition: &'static str, state: ReadyCondition) {
        let mut conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = conditions.insert(condition, state.clone());
        drop(conditions);
        if before.as_ref() != Some(&state) {
            match state {
                ReadyCondition::Holds => tracing::info!(condition, "holds"),
                // how every role begins
                ReadyCondition::Fails(reason) if before.is_none() => {
                    tracing::debug!(condition, reason, "does not hold yet");
                }
                ReadyCondition::Fails(reason) => tracing::warn!(condition, reason, "does not hold"),
            }
        }
    }

    /// What keeps the role from being ready; empty when it is.
    pub fn failing(&self) -> Vec<(&'static str, String)> {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if conditions.is_empty() {
            return vec![("start", "nothing is known yet".to_owned())];
        }
        let failing = conditions.iter().filter_map(|(name, state)| match state {
            ReadyCondition::Holds => None,
            ReadyCondition::Fails(reason) => Some((*name, reason.clone())),
        });
        failing.collect()
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        self.failing().is_empty()
    }
}

/// A page beside the probes: its content type and its body.
pub struct Page {
    /// Content type.
    pub kind: &'static str,
    pub body: Bytes,
    /// What the page may load.
    pub policy: Option<&'static str>,
}

/// Gives the page at a path.
pub type PageSource = Arc<dyn Fn(&str) -> Option<Page> + Send + Sync>;

/// Answers on the second port for as long as the process lives.
pub async fn serve(listener: TcpListener, metrics: Metrics, health: Readiness) {
    serve_with(listener, metrics, health, Arc::new(|_| None)).await;
}

/// The same with pages of one's own.
pub async fn serve_with(listener: TcpListener, metrics: Metrics, health: Readiness, pages: PageSource) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _from)) = listener.accept().await else {
            // out of descriptors, most likely
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (metrics, health, pages) = (metrics.clone(), health.clone(), pages.clone());
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), &metrics, &health, &pages);
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5)).max_buf_size(16 * 1024);
            // a client that breaks off concerns no one
            drop(timeout(LIFETIME, builder.serve_connection(TokioIo::new(stream), service)).await);
        });
    }
}

/// Binds the second port.
pub async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn answer(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    health: &Readiness,
    pages: &PageSource,
) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, message: String| {
        let mut response = Response::new(Full::new(Bytes::from(message)));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    };
    if method != Method::GET && method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let failing = health.failing();
            if failing.is_empty() {
                return text(StatusCode::OK, "ready\n".to_owned());
            }
            let lines: Vec<_> = failing.iter().map(|(name, reason)| format!("not ready: {name}: {reason}")).collect();
            text(StatusCode::SERVICE_UNAVAILABLE, lines.join("\n") + "\n")
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics.text());
            let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        _ => match pages(path) {
            Some(page) => shown(page),
            None => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".to_owned()),
        },
    }
}

fn shown(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(page.body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(policy) = page.policy {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_condition_holds() {
        let (metrics, health) = (Metrics::new(), Readiness::default());
        let pages: PageSource = Arc::new(|_| None);
        let status = |path| answer(&Method::GET, path, &metrics, &health, &pages).status();
        assert_eq!(status("/healthz"), StatusCode::OK);
        assert_eq!(status("/readyz"), StatusCode::SERVICE_UNAVAILABLE);
        health.holds("apiserver");
        assert_eq!(status("/readyz"), StatusCode::OK);
        health.fails("peers", "not read yet");
        assert_eq!(status("/readyz"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health.failing(), [("peers", "not read yet".to_owned())]);
        assert_eq!(status("/elsewhere"), StatusCode::NOT_FOUND);
        assert_eq!(
            answer(&Method::POST, "/metrics", &metrics, &health, &pages).status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
    }

    #[test]
    fn metrics_name_the_version() {
        assert!(Metrics::new().text().contains(concat!(
            "isthmus_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        )));
    }
}
