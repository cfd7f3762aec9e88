//! What the api-proxy counts, and by which labels.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Labels of the count of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Judged {
    pub(super) peer: String,
    pub(super) decision: &'static str,
    pub(super) code: u16,
}

/// A label that names a peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPeer {
    pub(super) peer: String,
}

/// Labels of when a key was last used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Used {
    pub(super) cluster_uuid: String,
    pub(super) key_id: String,
}

/// What the api-proxy counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) requests: Family<Judged, Counter>,
    pub(super) watches: Family<OfPeer, Gauge>,
    pub(super) last_used: Family<Used, Gauge>,
}
