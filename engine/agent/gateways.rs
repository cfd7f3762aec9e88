//! Whether the gateways of peers take connections, from inside the cluster: what a joined link needs beside all that istiod shows.
//!
//! It is looked at in the background, each minute. What is shown changes only when it was seen to be otherwise several times in a row, so
//! neither a lost packet nor a gateway that is rolled makes a condition flicker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::cluster::fetch::Fetcher;
use crate::roles::role::Stopping;
use crate::types::address::{Cidr, Gateway};
use crate::types::name::ClusterName;
use crate::wire::failure::shown;

/// Between two probes at all gateways.
const PAUSE: Duration = Duration::from_mins(1);
/// The same while something is to be seen for the first time.
const FIRST: Duration = Duration::from_secs(2);
/// How often a peer is seen to be otherwise before that is shown.
const TIMES: u32 = 3;
/// Gateways that are dialled at a time.
const AT_ONCE: usize = 16;

/// What is dialled of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GatewayTarget {
    pub(super) gateways: Vec<Gateway>,
    pub(super) allow: Vec<Cidr>,
}

/// Gateways of a peer that take no connection, each with why; none: all do.
pub(super) type Refusing = BTreeMap<String, String>;

/// A peer's gateways as they were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct GatewaysSeen {
    /// What is shown; `None`: it was not seen often enough.
    shown: Option<Refusing>,
    /// How often in a row they were otherwise.
    otherwise: u32,
}

impl GatewaysSeen {
    /// Takes what was seen now. Whether something else is shown from now on.
    fn take(&mut self, refusing: Refusing) -> bool {
        // why one refuses is told as it was when it was first seen
        let is_same = self.shown.as_ref().is_some_and(|shown| shown.is_empty() == refusing.is_empty());
        let is_known = self.shown.as_ref().is_some_and(|shown| shown.keys().eq(refusing.keys()));
        let is_first = self.shown.is_none() && refusing.is_empty();
        self.otherwise = if is_same || is_first { 0 } else { self.otherwise + 1 };
        if is_known || (!is_same && !is_first && self.otherwise < TIMES) {
            return false;
        }
        self.otherwise = 0;
        self.shown = Some(refusing);
        true
    }
}

/// What is looked at, and what was seen of it.
#[derive(Debug, Default)]
struct WatchedGateways {
    targets: BTreeMap<ClusterName, GatewayTarget>,
    seen: BTreeMap<ClusterName, GatewaysSeen>,
}

/// What is known of the gateways of peers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct GatewayWatch(Arc<Mutex<WatchedGateways>>);

impl GatewayWatch {
    fn with<T>(&self, with: impl FnOnce(&mut WatchedGateways) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets which peers are looked at.
    pub(super) fn watch(&self, targets: BTreeMap<ClusterName, GatewayTarget>) {
        self.with(|state| {
            state.seen.retain(|peer, _| targets.contains_key(peer));
            state.targets = targets;
        });
    }

    /// Gateways of a peer that take no connection; `None`: that is not known.
    pub(super) fn refusing(&self, peer: &ClusterName) -> Option<Refusing> {
        self.with(|state| state.seen.get(peer)?.shown.clone())
    }

    /// Looks at all of them again and again, and wakes whoever shows it when something changed.
    pub(super) async fn keep_probing(self, fetcher: Fetcher, changed: Arc<Notify>, stopping: Stopping) {
        loop {
            let targets = self.with(|state| state.targets.clone());
            let probes = targets.into_iter().map(|(peer, target)| {
                let fetcher = fetcher.clone();
                async move { (peer, probe(&fetcher, &target).await) }
            });
            let found: Vec<_> = iter(probes).buffer_unordered(AT_ONCE).collect().await;
            let is_new = self.with(|state| {
                let mut is_new = false;
                for (peer, refusing) in found {
                    if state.targets.contains_key(&peer) {
                        is_new |= state.seen.entry(peer).or_default().take(refusing);
                    }
                }
                is_new
            });
            if is_new {
                changed.notify_one();
            }
            let all_seen = self.with(|state| state.targets.keys().all(|peer| state.seen.contains_key(peer)));
            let begun = self.with(|state| !state.targets.is_empty());
            tokio::select! {
                () = sleep(if begun && all_seen { PAUSE } else { FIRST }) => {}
                () = stopping.requested() => return,
            }
        }
    }
}

async fn probe(fetcher: &Fetcher, target: &GatewayTarget) -> Refusing {
    let mut refusing = Refusing::new();
    for gateway in &target.gateways {
        if let Err(why) = fetcher.connects(gateway, &target.allow).await {
            refusing.insert(gateway.to_string(), shown(&why.to_string()));
        }
    }
    refusing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusing() -> Refusing {
        Refusing::from([("203.0.113.7:15443".to_owned(), "refused".to_owned())])
    }

    #[test]
    fn what_is_shown_changes_when_it_was_otherwise_several_times_in_a_row() {
        let mut seen = GatewaysSeen::default();
        assert!(!seen.take(refusing()) && !seen.take(refusing()));
        assert_eq!(seen.shown, None);
        assert!(seen.take(Refusing::new()), "what works is shown at once");
        assert!(!seen.take(Refusing::new()));
        for _ in 0..3 {
            assert!(!seen.take(refusing()) && !seen.take(refusing()));
            assert!(!seen.take(Refusing::new()), "twice is not often enough");
        }
        assert!(!seen.take(refusing()) && !seen.take(refusing()) && seen.take(refusing()));
        assert_eq!(seen.shown, Some(refusing()));
        assert!(!seen.take(Refusing::new()) && !seen.take(Refusing::new()));
        assert!(seen.take(Refusing::new()), "and so it is with the way back");
    }

    #[test]
    fn peers_that_are_joined_no_more_are_forgotten() {
        let gateways = GatewayWatch::default();
        let peer: ClusterName = "west".parse().unwrap();
        let target = GatewayTarget { gateways: Vec::new(), allow: Vec::new() };
        gateways.watch(BTreeMap::from([(peer.clone(), target.clone())]));
        gateways.with(|state| state.seen.entry(peer.clone()).or_default().take(Refusing::new()));
        gateways.watch(BTreeMap::from([(peer.clone(), target)]));
        assert_eq!(gateways.refusing(&peer), Some(Refusing::new()));
        gateways.watch(BTreeMap::new());
        assert_eq!(gateways.refusing(&peer), None);
    }
}
