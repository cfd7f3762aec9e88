//! What the answers of one origin hold together, where it may send beginnings of objects without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::server::misread::Misread;

/// Room for what all answers of one origin hold at a time.
#[derive(Debug, Clone)]
pub struct HeldBudget {
    held: Arc<AtomicUsize>,
    most: usize,
}

/// What one answer holds of it.
#[derive(Debug)]
pub(super) struct HeldBytes {
    budget: HeldBudget,
    bytes: usize,
}

impl HeldBudget {
    /// Room for so many bytes.
    pub fn of(most: usize) -> Self {
        Self { held: Arc::default(), most }
    }

    pub(super) fn begin(&self) -> HeldBytes {
        HeldBytes { budget: self.clone(), bytes: 0 }
    }
}

impl HeldBytes {
    /// Says how many it holds now. An error where there is no room for them.
    pub(super) fn are(&mut self, bytes: usize) -> Result<(), Misread> {
        let HeldBudget { held, most } = &self.budget;
        // an atomic number goes round, so what was added may be less than nothing
        let change = bytes.wrapping_sub(self.bytes);
        let all = held.fetch_add(change, Ordering::Relaxed).wrapping_add(change);
        self.bytes = bytes;
        if all > *most { Err(Misread::NoRoom(*most)) } else { Ok(()) }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_share_the_room_and_give_it_back() {
        let budget = HeldBudget::of(10);
        let (mut one, mut other) = (budget.begin(), budget.begin());
        assert_eq!((one.are(6), other.are(4)), (Ok(()), Ok(())));
        assert_eq!(other.are(5), Err(Misread::NoRoom(10)));
        assert_eq!((one.are(2), other.are(8)), (Ok(()), Ok(())));
        drop(other);
        assert_eq!(one.are(10), Ok(()));
        drop(one);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
