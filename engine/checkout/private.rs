//! Key files: only their owner may read them, and none is ever replaced.

use std::fmt;
use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, RenameFlags, fchmod, fsync, linkat, mkdirat, openat, renameat_with, syncfs, unlinkat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::checkout::path::{Folders, open_folder, split, split_for_writing};
use crate::checkout::read::read_file;
use crate::checkout::write::{NEW_FILE, fill, temporary};
use crate::checkout::{Checkout, CheckoutError, Guard, Left};

/// Bytes of a key file at most.
const LONGEST: u64 = 64 * 1024;
/// Permission bits of the owner's alone: files, which are never written again, and folders.
const FILE_MODE: u32 = 0o400;
const FOLDER_MODE: u32 = 0o700;

/// What a key file holds; wiped from memory when it is dropped.
pub struct PrivateBytes {
    pub bytes: Zeroizing<Vec<u8>>,
    /// Others than the owner may read, change or run the file: worth a warning that names `chmod 600`.
    pub open_to_others: bool,
}

impl fmt::Debug for PrivateBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Private").field("bytes", &"[redacted]").field("open_to_others", &self.open_to_others).finish()
    }
}

impl Checkout {
    /// Reads a key file of up to 64 KiB; None when it is not there.
    pub fn read_private(&self, path: &str) -> Result<Option<PrivateBytes>, CheckoutError> {
        let (folder, name) = split(path)?;
        let Some(folder) = Folders::new(self).get(folder)? else { return Ok(None) };
        let found = read_file(folder.as_fd(), name, path, LONGEST)?;
        Ok(found.map(|(bytes, stat)| PrivateBytes {
            bytes: Zeroizing::new(bytes),
            open_to_others: stat.st_mode & 0o077 != 0,
        }))
    }
}

impl Guard<'_> {
    /// Writes a new key file with mode 0400, whole or not at all; folders on its path are made with mode 0700. `Exists`
    /// when anything is there already.
    pub fn write_private(&self, path: &str, bytes: &[u8]) -> Result<(), CheckoutError> {
        let (folder, name) = split_for_writing(path)?;
        let fail = |cause| match cause {
            Errno::EXIST => CheckoutError::Exists { path: path.to_owned() },
            cause => CheckoutError::io("write", path, cause, Left::Untouched),
        };
        let open = private_folder(&mut Folders::new(self.checkout), folder)?;
        let temporary = temporary(0);
        // One that a killed engine left; under the lock it is no one's.
        match unlinkat(&open, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(cause) => return Err(fail(cause)),
        }
        let file = openat(&open, &temporary, NEW_FILE, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        let done = fill(&file, bytes, FILE_MODE)
            .and_then(|()| fsync(&file))
            .and_then(|()| put_in_place(&open, &temporary, name));
        if let Err(cause) = done {
            let _ = unlinkat(&open, &temporary, AtFlags::empty());
            return Err(fail(cause));
        }
        // More than the folder: those on the way to it may be new.
        syncfs(&open).map_err(|cause| CheckoutError::io("sync", path, cause, Left::Unconfirmed))
    }
}

/// Gives a file its name, unless something has it.
fn put_in_place(folder: &OwnedFd, temporary: &str, name: &str) -> Result<(), Errno> {
    match renameat_with(folder, temporary, folder, name, RenameFlags::NOREPLACE) {
        // Not every file system has this flag; NFS has not.
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(folder, temporary, folder, name, AtFlags::empty())?;
            unlinkat(folder, temporary, AtFlags::empty())
        }
        done => done,
    }
}

/// An open folder, made for the owner alone where it is not there.
fn private_folder(folders: &mut Folders<'_>, path: &str) -> Result<Arc<OwnedFd>, CheckoutError> {
    if let Some(open) = folders.get(path)? {
        return Ok(open);
    }
    let (parent, name) = split(path)?;
    let parent = private_folder(folders, parent)?;
    let fail = |cause| CheckoutError::io("make the folder", path, cause, Left::Untouched);
    mkdirat(&parent, name, Mode::from_raw_mode(FOLDER_MODE)).map_err(fail)?;
    let open = open_folder(parent.as_fd(), name, path)?.ok_or_else(|| fail(Errno::NOENT))?;
    fchmod(&open, Mode::from_raw_mode(FOLDER_MODE)).map_err(fail)?;
    Ok(Arc::new(open))
}
