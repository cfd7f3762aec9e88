//! How many watches are open, of each peer and of all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

use crate::server::limits::Limits;
use crate::types::name::ClusterUuid;

/// Watches that are open.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<HashMap<ClusterUuid, usize>>);

/// One of them.
pub(crate) struct WatchPlace {
    watches: Arc<Watches>,
    peer: ClusterUuid,
    gauge: Gauge,
}

impl Watches {
    /// A place for one more watch of a peer, unless it or all peers together have as many as they may.
    pub(crate) fn take(self: &Arc<Self>, peer: &ClusterUuid, limits: &Limits, gauge: Gauge) -> Option<WatchPlace> {
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
