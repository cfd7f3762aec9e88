//! The only edge that touches the files of a checkout. It knows paths and bytes, and nothing of meshes.
//!
//! 1. `path`: which paths are taken at all, and how a folder is opened: name by name from the root, each with
//!    `O_NOFOLLOW`, so that no symbolic link leads outside, not even one that appears in between.
//! 2. `read`: a folder with everything below it, or one file, within limits.
//! 3. `mutex`: one engine at a time.
//! 4. `write`: many changes at once, each file whole or not at all.
//! 5. `stamp`: whether a folder may have changed.
//! 6. `private`: key files, which only their owner may read and nobody replaces.
#![allow(clippy::disallowed_methods, reason = "this edge is where files are touched")]

mod error;
mod mutex;
mod path;
mod private;
mod read;
mod stamp;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, openat};

pub use crate::checkout::error::{CheckoutError, Left};
pub use crate::checkout::mutex::Guard;
pub use crate::checkout::private::Private;
pub use crate::checkout::read::{Found, Known, Limits, OpenFile};
pub use crate::checkout::stamp::{FileStamp, Stamps};
pub use crate::checkout::write::{Committed, FileChange};

/// How the names of our temporary files begin. One that is found was left by an engine that was killed.
const TEMPORARY: &str = ".isthmus-tmp-";

/// An open folder with a checkout in it. Paths below it are relative, with `/` between their names.
pub struct Checkout {
    dir: PathBuf,
    root: Arc<OwnedFd>,
    /// What reading came across; the next commit removes what is left over.
    seen: Mutex<Seen>,
}

/// What reading came across.
#[derive(Default)]
struct Seen {
    /// Folders that were listed since the lock was taken.
    folders: BTreeSet<String>,
    /// Temporary files of a killed engine in them.
    leftovers: BTreeSet<String>,
}

impl Checkout {
    /// Opens the folder. `dir` itself may lead through symbolic links: it is the user's own word.
    pub fn open(dir: &Path) -> Result<Self, CheckoutError> {
        let root = openat(CWD, dir, path::FOLDER.difference(rustix::fs::OFlags::NOFOLLOW), Mode::empty())
            .map_err(|cause| CheckoutError::io("open", &dir.to_string_lossy(), cause, Left::Untouched))?;
        Ok(Self { dir: dir.to_path_buf(), root: Arc::new(root), seen: Mutex::default() })
    }

    /// The folder as it was named.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Remembers a folder that was listed, and the temporary files of a killed engine in it.
    fn note_listed(&self, folder: &str, leftovers: Vec<String>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.folders.insert(folder.to_owned());
        seen.leftovers.extend(leftovers);
    }

    fn forget_listed(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).folders.clear();
    }

    /// What was remembered so far, which is then forgotten.
    fn take_seen(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Checkout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout").field("dir", &self.dir).finish_non_exhaustive()
    }
}
