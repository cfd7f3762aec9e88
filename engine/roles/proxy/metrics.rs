//! What the api-proxy counts, and by which labels.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::server::telemetry::Metrics;
use crate::wire::names::LAST_USED;

/// Labels of the count of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct JudgedLabels {
    pub(super) peer: String,
    pub(super) decision: &'static str,
    pub(super) code: u16,
}

/// A label that names a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PeerLabel {
    pub(super) peer: String,
}

/// Labels of when a key was last used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct KeyUseLabels {
    pub(super) cluster_uuid: String,
    pub(super) key_id: String,
}

/// What the api-proxy counts.
#[derive(Debug, Clone, Default)]
pub(super) struct ProxyMetrics {
    pub(super) requests: Family<JudgedLabels, Counter>,
    pub(super) watches: Family<PeerLabel, Gauge>,
    pub(super) last_used: Family<KeyUseLabels, Gauge>,
}

impl ProxyMetrics {
    pub(super) fn register(metrics: &Metrics, not_recorded: &Counter) -> Self {
        let counts = Self::default();
        metrics.register("isthmus_proxy_requests", "Requests of peers", &counts.requests);
        metrics.register("isthmus_proxy_watches", "Watches that are open", &counts.watches);
        let help = "Requests without a verified token that no record counts";
        metrics.register("isthmus_proxy_audit_dropped", help, not_recorded);
        metrics.register(LAST_USED, "When a peer last used a key, seconds since 1970", &counts.last_used);
        counts
    }
}

/// All metrics of an api-proxy, before it has begun.
pub fn metrics() -> Metrics {
    let metrics = Metrics::new();
    drop(ProxyMetrics::register(&metrics, &Counter::default()));
    metrics
}
