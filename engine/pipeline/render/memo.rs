//! What is made once for all readers.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::types::diagnostic::Diagnostics;

/// Values by what they are made of. Cheap to use from several threads: two may make the same value, and none waits for it.
pub(super) struct Memo<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, V> fmt::Debug for Memo<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V: Clone> Memo<K, V> {
    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The value of this key, made if it is not there yet. A failure is not kept.
    pub(super) fn get(&self, key: K, make: impl FnOnce(&K) -> Result<V, Diagnostics>) -> Result<V, Diagnostics> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = lock().get(&key) {
            return Ok(value.clone());
        }
        let value = make(&key)?;
        lock().insert(key, value.clone());
        Ok(value)
    }
}
