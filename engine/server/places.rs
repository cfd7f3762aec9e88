//! Places for connections: who has one, and who gives way.
//!
//! Whoever has shown no token has one of few places, and each address few of those. A connection that comes when they are taken
//! takes the place of the oldest of them, so those who take places and do nothing with them keep no one out. Whoever has shown
//! a token has a place that no stranger takes, and takes none but those of its own peer.

use std::collections::BTreeMap;
use std::mem::take;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::server::limits::client_address;
use crate::types::name::ClusterUuid;
use crate::types::tally::Tally;

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Most {
    pub(super) all: usize,
    /// For those who have shown no token.
    pub(super) strangers: usize,
    /// The same, of one address.
    pub(super) of_address: usize,
    /// For those who have shown a token of one peer.
    pub(super) of_peer: usize,
}

/// Places of connections, by how many of them are taken, and by whose.
pub(super) struct Places {
    most: Most,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// In the order in which they came.
    strangers: BTreeMap<u64, StrangerPlace>,
    of_address: Tally<IpAddr>,
    known: usize,
    of_peer: Tally<ClusterUuid>,
}

struct StrangerPlace {
    of: IpAddr,
    gives_way: Arc<Notify>,
}

/// The place of one connection, given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    /// Wakes the connection when it has to go.
    pub(super) gives_way: Arc<Notify>,
    shown: Mutex<ShownOnConnection>,
}

/// What whoever has the place has shown.
#[derive(Default)]
enum ShownOnConnection {
    #[default]
    Nothing,
    /// A token of a client whose connections are not counted.
    Token,
    TokenOf(ClusterUuid),
}

impl Places {
    pub(super) fn new(most: Most) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for a connection that has shown nothing yet.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Place {
        let of = client_address(from);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.of_address.of(&of) >= self.most.of_address {
            let oldest = taken.strangers.iter().find(|(_, stranger)| stranger.of == of).map(|(number, _)| *number);
            taken.evict(oldest);
        }
        while !taken.strangers.is_empty()
            && (taken.strangers.len() >= self.most.strangers || taken.strangers.len() + taken.known >= self.most.all)
        {
            let oldest = taken.strangers.first_key_value().map(|(number, _)| *number);
            taken.evict(oldest);
        }
        let (number, gives_way) = (taken.next, Arc::<Notify>::default());
        taken.next += 1;
        taken.strangers.insert(number, StrangerPlace { of, gives_way: gives_way.clone() });
        taken.of_address.add(of);
        Place { places: self.clone(), number, gives_way, shown: Mutex::default() }
    }

    /// Whether no one is left who would give way.
    pub(super) fn are_full(&self) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.strangers.is_empty() && taken.known >= self.most.all
    }

    /// Makes all strangers give way.
    pub(super) fn shed(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = taken.strangers.first_key_value().map(|(number, _)| *number) {
            taken.evict(Some(oldest));
        }
    }
}

impl Taken {
    fn evict(&mut self, number: Option<u64>) {
        if let Some(stranger) = self.leave(number) {
            stranger.gives_way.notify_one();
        }
    }

    fn leave(&mut self, number: Option<u64>) -> Option<StrangerPlace> {
        let stranger = self.strangers.remove(&number?)?;
        self.of_address.remove(&stranger.of);
        Some(stranger)
    }
}

impl Place {
    /// Whoever has the place has shown a token. False where its peer has no place left.
    pub(super) fn is_known(&self, peer: Option<&ClusterUuid>) -> bool {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*shown, ShownOnConnection::Nothing) {
            return true;
        }
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peer {
            if taken.of_peer.of(peer) >= self.places.most.of_peer {
                return false;
            }
            taken.of_peer.add(peer.clone());
        }
        drop(taken.leave(Some(self.number)));
        taken.known += 1;
        *shown = peer.cloned().map_or(ShownOnConnection::Token, ShownOnConnection::TokenOf);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shown = take(self.shown.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = match shown {
            ShownOnConnection::Nothing => return drop(taken.leave(Some(self.number))),
            ShownOnConnection::Token => None,
            ShownOnConnection::TokenOf(peer) => Some(peer),
        };
        taken.known -= 1;
        if let Some(peer) = peer {
            taken.of_peer.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const MOST: Most = Most { all: 6, strangers: 4, of_address: 2, of_peer: 3 };

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn has_to_go(place: &Place) -> bool {
        place.gives_way.notified().now_or_never().is_some()
    }

    fn peer(last: u8) -> ClusterUuid {
        format!("00000000-0000-4000-8000-{last:012}").parse().unwrap()
    }

    #[test]
    fn the_oldest_stranger_gives_way_to_the_next_of_its_address_and_of_all() {
        let places = Places::new(MOST);
        let [first, second, third] = [1, 1, 1].map(|last| places.take(address(last)));
        assert!(has_to_go(&first) && !has_to_go(&second) && !has_to_go(&third));
        let others = [2, 3].map(|last| places.take(address(last)));
        assert!(!has_to_go(&second));
        let next = places.take(address(4));
        assert!(has_to_go(&second) && !has_to_go(&third) && !others.iter().any(has_to_go) && !has_to_go(&next));
    }

    #[test]
    fn strangers_take_no_place_of_those_who_have_shown_a_token() {
        let places = Places::new(MOST);
        let known = [1, 2].map(|last| places.take(address(last)));
        assert!(known.iter().all(|place| place.is_known(Some(&peer(1)))));
        let strangers: Vec<_> = (0..50).map(|last| places.take(address(last))).collect();
        assert!(!known.iter().any(has_to_go));
        assert_eq!(strangers.iter().filter(|place| !has_to_go(place)).count(), 4);
        drop((known, strangers));
        let taken = places.taken.lock().unwrap();
        assert!(taken.strangers.is_empty() && taken.of_address.is_empty() && taken.of_peer.is_empty());
        assert_eq!(taken.known, 0);
    }

    #[test]
    fn a_peer_takes_its_own_places_only() {
        let places = Places::new(MOST);
        let of_one: Vec<_> = (0..4).map(|last| places.take(address(last))).collect();
        let known: Vec<_> = of_one.iter().map(|place| place.is_known(Some(&peer(1)))).collect();
        assert_eq!(known, [true, true, true, false]);
        assert!(of_one[0].is_known(Some(&peer(1))), "once and for all");
        assert!(places.take(address(9)).is_known(Some(&peer(2))));
        // those whose server asks for no token are counted together
        drop(of_one);
        let all: Vec<_> = (0..6).map(|last| places.take(address(last))).collect();
        assert!(all.iter().all(|place| place.is_known(None)) && places.are_full());
    }

    #[test]
    fn shedding_spares_those_who_have_shown_a_token() {
        let places = Places::new(MOST);
        let (known, stranger) = (places.take(address(1)), places.take(address(2)));
        assert!(known.is_known(None));
        places.shed();
        assert!(has_to_go(&stranger) && !has_to_go(&known));
    }
}
