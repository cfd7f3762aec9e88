//! Writing many files at once, each whole or not at all.
//!
//! 1. Survey, which changes nothing: every path is checked, what is there already is compared, and each folder is asked
//!    whether it can be written.
//! 2. What a killed engine left is swept.
//! 3. Every new file is written under a temporary name beside its place, then the file system is synced once.
//! 4. All are renamed into place, in the order given; then the deletes, in theirs; then folders left empty go. A second
//!    sync confirms it.
//!
//! A failure in 1 to 3 leaves every file as it was. Killed at any point, each file is whole, old or new, and those that
//! are new are the first ones of the order; the next commit continues from there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, RawDir, accessat, fchmod, fstat, mkdirat, openat, renameat, syncfs,
    unlinkat,
};
use rustix::io::Errno;

use crate::checkout::flags::{FOLDER, TEMPORARY};
use crate::checkout::opened::ReadRecord;
use crate::checkout::path::{Folders, join, kind_at, open_folder, shown, split, split_for_writing, wrong_kind};
use crate::checkout::read::read_file;
use crate::checkout::{Checkout, CheckoutError, Guard, Left};

/// Mode of the folders that are made.
const FOLDER_MODE: u32 = 0o755;
/// How temporary files are opened: they must be new.
pub(super) const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One change of one file.
#[derive(Clone, PartialEq, Eq)]
pub enum FileChange {
    /// The file is made, or replaced as a whole; folders on its path are made.
    Write {
        /// Path from the checkout's root.
        path: String,
        bytes: Vec<u8>,
        /// Its permission bits, which no umask narrows. Not compared: a file with these bytes keeps the mode it has.
        mode: u32,
    },
    /// The file goes, and folders that this leaves empty.
    Delete {
        /// Path from the checkout's root.
        path: String,
    },
}

impl FileChange {
    /// The path it is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Write { path, .. } | Self::Delete { path } => path,
        }
    }
}

/// Shows no content: it may be a secret.
impl fmt::Debug for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, bytes, mode } => {
                write!(f, "Write {{ path: {path:?}, bytes: [{} bytes], mode: {mode:#o} }}", bytes.len())
            }
            Self::Delete { path } => write!(f, "Delete {{ path: {path:?} }}"),
        }
    }
}

/// How many files a commit wrote and deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    /// Files made or replaced.
    pub written: usize,
    pub deleted: usize,
    /// Changes that were no change, their files not touched.
    pub unchanged: usize,
    /// Temporary files of a killed engine that were removed.
    pub swept: usize,
}

impl Guard<'_> {
    /// Makes the changes, in their order: first all files to write, then all deletes. `progress` is told how many of
    /// them are prepared, up to their number. Where every change is none and nothing is to be swept, nothing is written.
    pub fn commit(&self, changes: &[FileChange], progress: &dyn Fn(usize)) -> Result<Committed, CheckoutError> {
        check_paths(changes)?;
        let mut commit = Commit::new(self.checkout);
        commit.survey(changes)?;
        commit.sweep()?;
        let unchanged = changes.len() - commit.writes.len() - commit.deletes.len();
        progress(unchanged);
        if let Err(error) = commit.stage(unchanged, progress).and_then(|()| commit.sync(Left::Untouched)) {
            commit.undo();
            return Err(error);
        }
        let of = commit.writes.len() + commit.deletes.len();
        if let Err(error) = commit.rename(of).and_then(|()| commit.delete(of)) {
            commit.undo();
            return Err(error);
        }
        progress(changes.len());
        commit.prune();
        commit.sync(Left::Unconfirmed)?;
        Ok(Committed {
            written: commit.writes.len(),
            deleted: commit.deletes.len(),
            unchanged,
            swept: commit.swept.len(),
        })
    }
}

/// Checks the paths by themselves and against each other.
fn check_paths(changes: &[FileChange]) -> Result<(), CheckoutError> {
    let mut paths = BTreeSet::new();
    let mut folders = BTreeSet::new();
    for change in changes {
        let path = change.path();
        let (folder, _) = split_for_writing(path)?;
        if !paths.insert(path) {
            return Err(CheckoutError::Outside { path: path.to_owned(), why: "two changes name it" });
        }
        if matches!(change, FileChange::Write { .. }) {
            folders.extend(above(folder));
        }
    }
    match paths.intersection(&folders).next() {
        Some(path) => Err(CheckoutError::Outside {
            path: (*path).to_owned(),
            why: "one change names it as a file, another as a folder",
        }),
        None => Ok(()),
    }
}

/// A folder and those above it, without the root.
fn above(folder: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder), |folder| folder.rsplit_once('/').map(|(above, _)| above))
        .filter(|folder| !folder.is_empty())
}

/// A file to write.
struct Write<'a> {
    path: &'a str,
    folder: &'a str,
    name: &'a str,
    bytes: &'a [u8],
    mode: u32,
}

/// A commit under way.
struct Commit<'a> {
    checkout: &'a Checkout,
    folders: Folders<'a>,
    writes: Vec<Write<'a>>,
    deletes: Vec<&'a str>,
    /// Folders that changes are made in, and are there already.
    touched: BTreeSet<&'a str>,
    /// Folders that were asked whether they can be written.
    asked: BTreeSet<&'a str>,
    /// Folders made, in their order.
    made: Vec<String>,
    /// How many of `writes` have their temporary file.
    staged: usize,
    /// How many of `writes` are in place.
    renamed: usize,
    swept: BTreeSet<String>,
    /// Folders that may have become empty.
    emptied: BTreeSet<String>,
    /// One open folder on each file system that was written to.
    devices: BTreeMap<u64, Arc<OwnedFd>>,
}

impl<'a> Commit<'a> {
    fn new(checkout: &'a Checkout) -> Self {
        Self {
            checkout,
            folders: Folders::new(checkout),
            writes: Vec::new(),
            deletes: Vec::new(),
            touched: BTreeSet::new(),
            asked: BTreeSet::new(),
            made: Vec::new(),
            staged: 0,
            renamed: 0,
            swept: BTreeSet::new(),
            emptied: BTreeSet::new(),
            devices: BTreeMap::new(),
        }
    }

    fn survey(&mut self, changes: &'a [FileChange]) -> Result<(), CheckoutError> {
        for change in changes {
            let path = change.path();
            let (folder, name) = split(path)?;
            let open = self.folders.get(folder)?;
            match change {
                FileChange::Write { bytes, mode, .. } => {
                    if let Some(open) = &open
                        && is_there_with(open.as_fd(), name, path, bytes)?
                    {
                        continue;
                    }
                    self.writes.push(Write { path, folder, name, bytes, mode: *mode });
                }
                FileChange::Delete { .. } => {
                    let Some(open) = &open else { continue };
                    match kind_at(open.as_fd(), name) {
                        Ok(None) => continue,
                        Ok(Some(FileType::RegularFile)) => self.deletes.push(path),
                        Ok(Some(kind)) => return Err(wrong_kind(kind, path, "plain file")),
                        Err(cause) => return Err(CheckoutError::io("look at", path, cause, Left::Untouched)),
                    }
                }
            }
            if open.is_some() {
                self.touched.insert(folder);
            }
            self.ask(folder)?;
        }
        Ok(())
    }

    /// Asks whether files can be made in a folder, or in the nearest one above it where it is still to be made.
    fn ask(&mut self, folder: &'a str) -> Result<(), CheckoutError> {
        for folder in above(folder).chain([""]) {
            if !self.asked.insert(folder) {
                return Ok(());
            }
            if let Some(open) = self.folders.get(folder)? {
                return accessat(&open, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()).map_err(|cause| {
                    CheckoutError::io("write into the folder", shown(folder), cause, Left::Untouched)
                });
            }
        }
        Ok(())
    }

    /// Removes the temporary files of killed engines: those seen while reading, and those in the folders of this commit.
    fn sweep(&mut self) -> Result<(), CheckoutError> {
        let ReadRecord { folders: seen, mut leftovers } = self.checkout.take_seen();
        for folder in self.touched.iter().filter(|folder| !seen.contains(**folder)) {
            if let Some(open) = self.folders.get(folder)? {
                leftovers.extend(temporaries(open.as_fd(), folder)?);
            }
        }
        for path in leftovers {
            let (folder, name) = split(&path)?;
            let Some(open) = self.folders.get(folder)? else { continue };
            match unlinkat(&open, name, AtFlags::empty()) {
                Ok(()) => {
                    self.use_device(&open, folder)?;
                    self.emptied.insert(folder.to_owned());
                    self.swept.insert(path);
                }
                Err(Errno::NOENT) => {}
                Err(cause) => {
                    return Err(CheckoutError::io("remove the left-over", &path, cause, Left::Untouched));
                }
            }
        }
        Ok(())
    }

    /// Writes every new file under its temporary name.
    fn stage(&mut self, before: usize, progress: &dyn Fn(usize)) -> Result<(), CheckoutError> {
        for index in 0..self.writes.len() {
            let Some(write) = self.writes.get(index) else { break };
            let (path, folder, bytes, mode) = (write.path, write.folder, write.bytes, write.mode);
            let open = self.folder_made(folder)?;
            if self.last_staged_folder() != Some(folder) {
                self.use_device(&open, folder)?;
            }
            let fail = |cause| CheckoutError::io("write", path, cause, Left::Untouched);
            let file = openat(&open, temporary(index), NEW_FILE, Mode::RUSR | Mode::WUSR).map_err(fail)?;
            self.staged = index + 1;
            fill(&file, bytes, mode).map_err(fail)?;
            progress(before + self.staged);
        }
        Ok(())
    }

    /// An open folder, made with those above it where it is not there.
    fn folder_made(&mut self, folder: &str) -> Result<Arc<OwnedFd>, CheckoutError> {
        if let Some(open) = self.folders.get(folder)? {
            return Ok(open);
        }
        let (parent, name) = split(folder)?;
        let parent = self.folder_made(parent)?;
        let fail = |cause| CheckoutError::io("make the folder", folder, cause, Left::Untouched);
        mkdirat(&parent, name, Mode::from_raw_mode(FOLDER_MODE)).map_err(fail)?;
        self.made.push(folder.to_owned());
        let open = open_folder(parent.as_fd(), name, folder)?.ok_or_else(|| fail(Errno::NOENT))?;
        // The umask may have narrowed it.
        fchmod(&open, Mode::from_raw_mode(FOLDER_MODE)).map_err(fail)?;
        let open = Arc::new(open);
        self.folders.keep(folder, Some(Arc::clone(&open)));
        Ok(open)
    }

    /// Remembers the file system of a folder, to be synced.
    fn use_device(&mut self, open: &Arc<OwnedFd>, folder: &str) -> Result<(), CheckoutError> {
        let stat = fstat(open).map_err(|cause| CheckoutError::io("look at", shown(folder), cause, Left::Untouched))?;
        self.devices.entry(stat.st_dev).or_insert_with(|| Arc::clone(open));
        Ok(())
    }

    /// The folder of the last temporary file.
    fn last_staged_folder(&self) -> Option<&'a str> {
        self.writes.get(self.staged.checked_sub(1)?).map(|write| write.folder)
    }

    /// Waits until all that was written to is on the disk.
    fn sync(&self, left: Left) -> Result<(), CheckoutError> {
        self.devices
            .values()
            .try_for_each(syncfs)
            .map_err(|cause| CheckoutError::io("sync the disk of", &self.checkout.dir.to_string_lossy(), cause, left))
    }

    /// Puts the new files in place.
    fn rename(&mut self, of: usize) -> Result<(), CheckoutError> {
        for (index, write) in self.writes.iter().enumerate() {
            let fail = |cause| CheckoutError::io("put in place", write.path, cause, left(index, of));
            let open = self.folders.get(write.folder)?.ok_or_else(|| fail(Errno::NOENT))?;
            renameat(&open, temporary(index), &open, write.name).map_err(fail)?;
            self.renamed = index + 1;
        }
        Ok(())
    }

    fn delete(&mut self, of: usize) -> Result<(), CheckoutError> {
        let mut last = None;
        for (index, path) in self.deletes.iter().copied().enumerate() {
            let fail = |cause| CheckoutError::io("delete", path, cause, left(self.writes.len() + index, of));
            let (folder, name) = split(path)?;
            let Some(open) = self.folders.get(folder)? else { continue };
            match unlinkat(&open, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(cause) => return Err(fail(cause)),
            }
            if last != Some(folder) {
                let stat = fstat(&open).map_err(fail)?;
                self.devices.entry(stat.st_dev).or_insert(open);
                self.emptied.insert(folder.to_owned());
                last = Some(folder);
            }
        }
        Ok(())
    }

    /// Removes the folders left empty, the deepest first. What cannot be removed stays: it harms no one, and mostly it is
    /// not empty.
    fn prune(&mut self) {
        while let Some(folder) = self.emptied.pop_last() {
            let Ok((above, name)) = split(&folder) else { continue };
            let Ok(Some(open)) = self.folders.get(above) else { continue };
            if unlinkat(&open, name, AtFlags::REMOVEDIR).is_ok() {
                self.emptied.insert(above.to_owned());
            }
        }
    }

    /// Removes what a failed commit made and did not put in place. What it cannot remove the next commit sweeps.
    fn undo(&mut self) {
        for (index, write) in self.writes.iter().enumerate().take(self.staged).skip(self.renamed) {
            if let Ok(Some(open)) = self.folders.get(write.folder) {
                let _ = unlinkat(&open, temporary(index), AtFlags::empty());
            }
        }
        for folder in self.made.iter().rev() {
            if let Ok((above, name)) = split(folder)
                && let Ok(Some(open)) = self.folders.get(above)
            {
                let _ = unlinkat(&open, name, AtFlags::REMOVEDIR);
            }
        }
    }
}

/// What a failure leaves after the first `done` changes.
fn left(done: usize, of: usize) -> Left {
    if done == 0 { Left::Untouched } else { Left::Partly { done, of } }
}

/// The temporary name of the `index`-th file of a commit. It is short, whatever the file is called.
pub(super) fn temporary(index: usize) -> String {
    format!("{TEMPORARY}{index}")
}

/// Writes a new file's content, then gives it its mode: until then only its owner can read it.
pub(super) fn fill(file: &OwnedFd, bytes: &[u8], mode: u32) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    fchmod(file, Mode::from_raw_mode(mode & 0o777))
}

/// The paths of the temporary files in an open folder.
fn temporaries(folder: BorrowedFd<'_>, path: &str) -> Result<Vec<String>, CheckoutError> {
    let fail = |cause| CheckoutError::io("list the folder", shown(path), cause, Left::Untouched);
    let listed = openat(folder, ".", FOLDER, Mode::empty()).map_err(fail)?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(&listed, buffer.spare_capacity_mut());
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(fail)?;
        if let Ok(name) = entry.file_name().to_str()
            && name.starts_with(TEMPORARY)
        {
            found.push(join(path, name));
        }
    }
    Ok(found)
}

/// Whether a plain file with these bytes is there; anything else but nothing is an error.
fn is_there_with(folder: BorrowedFd<'_>, name: &str, path: &str, bytes: &[u8]) -> Result<bool, CheckoutError> {
    match kind_at(folder, name) {
        Ok(None) => Ok(false),
        Ok(Some(FileType::RegularFile)) => match read_file(folder, name, path, bytes.len() as u64) {
            Ok(found) => Ok(found.is_some_and(|(found, _)| found == bytes)),
            // Longer than the new content.
            Err(CheckoutError::Limit { .. }) => Ok(false),
            Err(error) => Err(error),
        },
        Ok(Some(kind)) => Err(wrong_kind(kind, path, "plain file")),
        Err(cause) => Err(CheckoutError::io("look at", path, cause, Left::Untouched)),
    }
}
