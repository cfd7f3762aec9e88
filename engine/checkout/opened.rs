//! An open checkout.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, openat};
use rustix::io::Errno;

use crate::checkout::error::{CheckoutError, Left};
use crate::checkout::flags::FOLDER;

/// An open folder with a checkout in it. Paths below it are relative, with `/` between their names.
pub struct Checkout {
    pub(super) dir: PathBuf,
    pub(super) root: Arc<OwnedFd>,
    /// What reading came across; the next commit removes what is left over.
    pub(super) seen: Mutex<ReadRecord>,
}

/// What reading came across.
#[derive(Default)]
pub(super) struct ReadRecord {
    /// Folders that were listed since the lock was taken.
    pub(super) folders: BTreeSet<String>,
    /// Temporary files of a killed engine in them.
    pub(super) leftovers: BTreeSet<String>,
}

impl Checkout {
    /// Opens the folder. `dir` itself may lead through symbolic links: it is the user's own word.
    pub fn open(dir: &Path) -> Result<Self, CheckoutError> {
        let root =
            openat(CWD, dir, FOLDER.difference(rustix::fs::OFlags::NOFOLLOW), Mode::empty()).map_err(|cause| {
                match cause {
                    Errno::NOENT => CheckoutError::Absent(dir.to_path_buf()),
                    cause => CheckoutError::io("open", &dir.to_string_lossy(), cause, Left::Untouched),
                }
            })?;
        Ok(Self { dir: dir.to_path_buf(), root: Arc::new(root), seen: Mutex::default() })
    }

    /// The folder as it was named.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Remembers a folder that was listed, and the temporary files of a killed engine in it.
    pub(super) fn note_listed(&self, folder: &str, leftovers: Vec<String>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.folders.insert(folder.to_owned());
        seen.leftovers.extend(leftovers);
    }

    pub(super) fn forget_listed(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).folders.clear();
    }

    /// What was remembered so far, which is then forgotten.
    pub(super) fn take_seen(&self) -> ReadRecord {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Checkout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout").field("dir", &self.dir).finish_non_exhaustive()
    }
}
