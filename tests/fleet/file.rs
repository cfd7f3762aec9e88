//! Files of checkouts and clusters, each content there once.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use rustc_hash::FxBuildHasher;

use super::istiod::SimulatedIstiod;

/// Files by name.
pub(crate) type FleetFiles = BTreeMap<String, FleetFile>;

/// The bytes of a file, shared by all commits and clusters that have it, and what is made of them.
#[derive(Clone)]
pub(crate) struct FleetFile(Arc<FleetFileContent>);

struct FleetFileContent {
    bytes: Vec<u8>,
    /// What a cluster does by it.
    istiod: OnceLock<SimulatedIstiod>,
}

/// Most contents that are known at a time, some hundred megabytes: the same ones come again and again.
const MOST: usize = 20_000;

thread_local! {
    static KNOWN: RefCell<HashSet<FleetFile, FxBuildHasher>> = RefCell::default();
}

impl FleetFile {
    /// Which content it is, while any file has it.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// What a cluster does that has this object alone.
    pub(crate) fn istiod(&self) -> &SimulatedIstiod {
        self.0.istiod.get_or_init(|| SimulatedIstiod::of_object(self))
    }
}

impl From<Vec<u8>> for FleetFile {
    fn from(bytes: Vec<u8>) -> Self {
        KNOWN.with_borrow_mut(|known| {
            if let Some(file) = known.get(bytes.as_slice()) {
                return file.clone();
            }
            if known.len() >= MOST {
                known.clear();
            }
            let file = Self(Arc::new(FleetFileContent { bytes, istiod: OnceLock::new() }));
            known.insert(file.clone());
            file
        })
    }
}

impl Deref for FleetFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl AsRef<[u8]> for FleetFile {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for FleetFile {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for FleetFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl Eq for FleetFile {}

impl PartialOrd for FleetFile {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FleetFile {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::hash::Hash for FleetFile {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        (**self).hash(hasher);
    }
}

impl fmt::Debug for FleetFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self))
    }
}
