//! What was made of texts a moment ago. Runs of a watch read and write nearly the same files again and again, and one run reads
//! some of them more than once: to compare them, to judge them, to take up what they record.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

/// Values by the text that they are made of, which says all of them. Of one thread each, so that none waits for another.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    known: HashMap<Box<[u8]>, V, FxBuildHasher>,
    /// Bytes of all texts.
    size: usize,
}

/// Most bytes of texts that are remembered at a time, of each kind and thread: an agent with 100 peers stays small. A small mesh has no
/// more, and of a large one none is held for long.
const MOST: usize = 1 << 19;
/// Most bytes of one of them.
const LONGEST: usize = 128 << 10;

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { known: HashMap::default(), size: 0 }
    }
}

impl<V: Clone> Recent<V> {
    pub(crate) fn get(&self, text: &[u8]) -> Option<V> {
        self.known.get(text).cloned()
    }

    /// Remembers a value, and forgets all others where these are too many.
    pub(crate) fn insert(&mut self, text: &[u8], value: V) {
        if text.len() > LONGEST {
            return;
        }
        if self.size + text.len() > MOST {
            (self.known, self.size) = (HashMap::default(), 0);
        }
        if self.known.insert(text.into(), value).is_none() {
            self.size += text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut recent = Recent::default();
        for number in 0..64_u8 {
            recent.insert(&vec![number; LONGEST], number);
            assert_eq!(recent.get(&vec![number; LONGEST]), Some(number));
            assert!(recent.size <= MOST && recent.known.len() <= MOST / LONGEST);
        }
        assert_eq!(recent.get(&vec![0; LONGEST]), None);
        recent.insert(&vec![0; LONGEST + 1], 0);
        assert_eq!(recent.get(&vec![0; LONGEST + 1]), None);
    }
}
