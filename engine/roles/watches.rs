//! Places for requests and for watches, by peer. A watch is held for half an hour, so each role bounds how many are open: of one
//! peer, and of all.

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

use crate::server::limits::RoleLimits;
use crate::types::tally::Tally;

/// What is being answered, by peer, so that none takes what the others need.
#[derive(Debug)]
pub(crate) struct Shares<K>(Mutex<Tally<K>>);

/// The place of one of them, given back when dropped.
pub(crate) struct PeerShare<K: Eq + Hash> {
    shares: Arc<Shares<K>>,
    peer: K,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// A place for a request of a peer, which may have `of_peer`, of `of_all` that there are.
    pub(crate) fn take(self: &Arc<Self>, peer: &K, of_peer: usize, of_all: usize) -> Option<PeerShare<K>> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.of(peer) >= of_peer || taken.total() >= of_all {
            return None;
        }
        taken.add(peer.clone());
        Some(PeerShare { shares: self.clone(), peer: peer.clone() })
    }
}

impl<K: Eq + Hash> Drop for PeerShare<K> {
    fn drop(&mut self) {
        self.shares.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.peer);
    }
}

/// Watches that are open, by peer.
#[derive(Debug)]
pub(crate) struct Watches<K>(Arc<Shares<K>>);

/// A place for one of them, given back when dropped.
pub(crate) struct WatchPlace<K: Eq + Hash> {
    _share: PeerShare<K>,
    gauge: Gauge,
}

impl<K> Default for Watches<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> Watches<K> {
    /// A place for a watch of a peer, while there is one. `gauge` shows how many the peer has.
    pub(crate) fn take(&self, peer: &K, limits: &RoleLimits, gauge: Gauge) -> Option<WatchPlace<K>> {
        let share = self.0.take(peer, limits.watches_per_peer, limits.watches)?;
        gauge.inc();
        Some(WatchPlace { _share: share, gauge })
    }
}

impl<K: Eq + Hash> Drop for WatchPlace<K> {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_its_share_of_requests_and_leaves_the_others_theirs() {
        let shares = Arc::<Shares<u64>>::default();
        let of_one = [1, 1, 1].map(|peer| shares.take(&peer, 2, 3));
        assert_eq!(of_one.each_ref().map(Option::is_some), [true, true, false]);
        let of_others = [2, 3].map(|peer| shares.take(&peer, 2, 3));
        assert_eq!(of_others.each_ref().map(Option::is_some), [true, false]);
        drop(of_others);
        drop(of_one);
        assert!(shares.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_place_is_of_its_peer_and_of_all_and_comes_back() {
        let limits = RoleLimits { watches_per_peer: 2, watches: 3, ..RoleLimits::of_proxy() };
        let (watches, gauge) = (Watches::<u64>::default(), Gauge::default());
        let take = |peer: u64| watches.take(&peer, &limits, gauge.clone());
        let (first, second) = (take(1).unwrap(), take(1).unwrap());
        assert!(take(1).is_none(), "the peer has all of its own");
        let other = take(2).unwrap();
        assert!(take(2).is_none(), "there is none left for anybody");
        assert_eq!(gauge.get(), 3);
        drop(first);
        assert!(take(1).is_some() && take(2).is_some(), "dropped at once, and taken again");
        drop((second, other));
        assert_eq!(gauge.get(), 0);
        assert!(watches.0.0.lock().unwrap().is_empty(), "nothing is kept of who has none");
    }
}
