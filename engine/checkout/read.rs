//! Reading: a folder with everything below it, or one file.
//!
//! Folders are listed first, one after the other and sorted, so that the first thing found wrong is always the same one.
//! Then the files are read in parallel, a few hundred at a time, each folder opened again for them: however many folders
//! there are, few files are open at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, RawDir, Stat, fstat, openat, readlinkat};
use rustix::io::Errno;

use crate::checkout::flags::{FILE, FOLDER, TEMPORARY};
use crate::checkout::path;
use crate::checkout::path::{Folders, join, kind_at, open_folder, shown, wrong_kind};
use crate::checkout::stamp::FileStamp;
use crate::checkout::{Checkout, CheckoutError, Left};

/// Files read by one task; fewer than this are read without any other thread.
const BATCH: usize = 256;
/// Deepest folder below the one that is read.
const DEEPEST: usize = 32;
/// Bytes of names fetched from the kernel at once.
const NAMES_BUFFER: usize = 32 * 1024;

/// What is read at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of one file.
    pub file: u64,
    /// Number of files.
    pub files: usize,
    /// Bytes of all files together.
    pub total: u64,
}

impl ReadLimits {
    /// For files that people write.
    pub const SPECS: Self = Self { file: 1 << 20, files: 100_000, total: 256 << 20 };
    /// For files that the engine writes, and for single files.
    pub const OUTPUT: Self = Self { file: 16 << 20, files: 4_000_000, total: 16 << 30 };
}

/// Whether the file of this path and stamp is known, so that it need not be read.
pub(super) type Known<'a> = &'a (dyn Fn(&str, &FileStamp) -> bool + Sync);

/// A file that was found: its stamp, and its bytes unless they were known before.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// What the system says of it, from before it was read.
    pub stamp: FileStamp,
    /// Its bytes, unless it was known.
    pub bytes: Option<Vec<u8>>,
}

/// A few files of one folder, to be read by one task.
struct Batch {
    folder: String,
    names: Vec<String>,
}

/// One name in a folder.
struct DirEntry {
    name: String,
    kind: FileType,
}

impl Checkout {
    /// Reads a folder and everything below it: path from the checkout's root (`specs/east.yaml`) to bytes. The empty
    /// path is the root; a folder that is not there is empty. `filter` is asked with the path of each file.
    ///
    /// Names that begin with a dot are skipped with all below them: editors keep their links and swap files there.
    /// Symbolic links, devices, pipes and names that are not UTF-8 are errors, since skipping one could make an object
    /// disappear. A file that is deleted while the folder is read is absent.
    pub fn read_tree(
        &self,
        folder: &str,
        filter: &dyn Fn(&str) -> bool,
        limits: ReadLimits,
    ) -> Result<BTreeMap<String, Vec<u8>>, CheckoutError> {
        let found = self.read_unless(folder, filter, limits, None)?;
        Ok(found.into_iter().filter_map(|(path, found)| Some((path, found.bytes?))).collect())
    }

    /// The same, with each file's stamp, and without the bytes of files that are `known` by path and stamp.
    pub fn read_unless(
        &self,
        folder: &str,
        filter: &dyn Fn(&str) -> bool,
        limits: ReadLimits,
        known: Option<Known<'_>>,
    ) -> Result<BTreeMap<String, FoundFile>, CheckoutError> {
        let Some(open) = self.folder(folder)? else { return Ok(BTreeMap::new()) };
        let mut walk = FolderWalk { checkout: self, top: folder, filter, limits, batches: Vec::new(), files: 0 };
        walk.folder(open.as_fd(), folder, 0)?;
        let (batches, files) = (walk.batches, walk.files);

        let total = AtomicU64::new(0);
        let read = |batch: &Batch| self.read_batch(batch, folder, limits, &total, known);
        // Gathered before the first error is picked, so that it is the first in the order of paths.
        let found: Vec<Result<Vec<_>, _>> =
            if files <= BATCH { batches.iter().map(read).collect() } else { batches.par_iter().map(read).collect() };
        let mut all = Vec::with_capacity(files);
        for batch in found {
            all.extend(batch?);
        }
        Ok(all.into_iter().collect())
    }

    /// The paths of all files of a folder and of those below it, sorted; none when it is not there. As in
    /// [`read_tree`](Self::read_tree), names that begin with a dot are skipped and anything but plain files is an error.
    pub fn list_tree(&self, folder: &str, limits: ReadLimits) -> Result<Vec<String>, CheckoutError> {
        let Some(open) = self.folder(folder)? else { return Ok(Vec::new()) };
        let mut walk =
            FolderWalk { checkout: self, top: folder, filter: &|_| true, limits, batches: Vec::new(), files: 0 };
        walk.folder(open.as_fd(), folder, 0)?;
        let paths = walk.batches.iter().flat_map(|batch| batch.names.iter().map(|name| join(&batch.folder, name)));
        let mut paths: Vec<String> = paths.collect();
        paths.sort_unstable();
        Ok(paths)
    }

    /// Reads one file of up to 16 MiB; None when it, or a folder on its path, is not there.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, CheckoutError> {
        self.open_file(path)?.map(|file| file.read()).transpose()
    }

    /// Opens one file of up to 16 MiB; None when it, or a folder on its path, is not there.
    pub fn open_file(&self, path: &str) -> Result<Option<OpenFile>, CheckoutError> {
        let (folder, name) = path::split(path)?;
        let Some(folder) = self.folder(folder)? else { return Ok(None) };
        open_file(folder.as_fd(), name, path, ReadLimits::OUTPUT.file)
    }

    /// The names in one folder, sorted, without those that begin with a dot; none when it is not there. Anything but
    /// plain files and folders in it is an error.
    pub fn list(&self, folder: &str) -> Result<Vec<String>, CheckoutError> {
        let Some(open) = self.folder(folder)? else { return Ok(Vec::new()) };
        let entries = self.entries(open.as_fd(), folder)?;
        entries
            .into_iter()
            .map(|DirEntry { name, kind }| match kind {
                FileType::RegularFile | FileType::Directory => Ok(name),
                FileType::Symlink if volume(open.as_fd(), &name).is_some() => Ok(name),
                _ => Err(wrong_kind(kind, &join(folder, &name), "plain file")),
            })
            .collect()
    }

    fn folder(&self, folder: &str) -> Result<Option<std::sync::Arc<rustix::fd::OwnedFd>>, CheckoutError> {
        Folders::new(self).get(folder)
    }

    /// What one open folder holds, sorted by name.
    fn entries(&self, folder: BorrowedFd<'_>, path: &str) -> Result<Vec<DirEntry>, CheckoutError> {
        let fail = |cause| CheckoutError::io("list the folder", shown(path), cause, Left::Untouched);
        let (mut found, mut leftovers) = (Vec::new(), Vec::new());
        let mut buffer = Vec::with_capacity(NAMES_BUFFER);
        let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(fail)?;
            let raw = entry.file_name().to_bytes();
            if raw.starts_with(TEMPORARY.as_bytes()) {
                leftovers.push(join(path, &entry.file_name().to_string_lossy()));
            }
            if raw.starts_with(b".") {
                continue;
            }
            let Ok(name) = std::str::from_utf8(raw) else {
                let name = raw.escape_ascii().to_string();
                return Err(CheckoutError::Name { folder: shown(path).to_owned(), name });
            };
            let kind = match entry.file_type() {
                FileType::Unknown => match kind_at(folder, name).map_err(fail)? {
                    Some(kind) => kind,
                    None => continue,
                },
                kind => kind,
            };
            found.push(DirEntry { name: name.to_owned(), kind });
        }
        self.note_listed(path, leftovers);
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn read_batch(
        &self,
        batch: &Batch,
        top: &str,
        limits: ReadLimits,
        total: &AtomicU64,
        known: Option<Known<'_>>,
    ) -> Result<Vec<(String, FoundFile)>, CheckoutError> {
        let Some(folder) = self.folder(&batch.folder)? else { return Ok(Vec::new()) };
        let mut files = Vec::with_capacity(batch.names.len());
        for name in &batch.names {
            let path = join(&batch.folder, name);
            if let Some(known) = known
                && let Some(stamp) = FileStamp::at(folder.as_fd(), name).filter(|stamp| known(&path, stamp))
            {
                files.push((path, FoundFile { stamp, bytes: None }));
                continue;
            }
            let Some((bytes, stat)) = read_file(folder.as_fd(), name, &path, limits.file)? else { continue };
            let size = bytes.len() as u64;
            if total.fetch_add(size, Ordering::Relaxed).saturating_add(size) > limits.total {
                return Err(CheckoutError::Limit {
                    path: shown(top).to_owned(),
                    limit: limits.total,
                    unit: "bytes in all its files",
                    advice: "move what does not belong there away",
                });
            }
            files.push((path, FoundFile { stamp: FileStamp::of(&stat), bytes: Some(bytes) }));
        }
        Ok(files)
    }
}

/// The way through a folder and those below it.
struct FolderWalk<'a> {
    checkout: &'a Checkout,
    top: &'a str,
    filter: &'a dyn Fn(&str) -> bool,
    limits: ReadLimits,
    batches: Vec<Batch>,
    files: usize,
}

impl FolderWalk<'_> {
    fn folder(&mut self, open: BorrowedFd<'_>, path: &str, depth: usize) -> Result<(), CheckoutError> {
        if depth > DEEPEST {
            return Err(self.over(DEEPEST, "folders in depth", "move the files up"));
        }
        let mut names = Vec::new();
        let mut folders = Vec::new();
        for DirEntry { name, kind } in self.checkout.entries(open, path)? {
            match kind {
                FileType::Directory => folders.push(name),
                FileType::Symlink if volume(open, &name).is_none() => {
                    return Err(wrong_kind(kind, &join(path, &name), "plain file"));
                }
                FileType::RegularFile | FileType::Symlink if (self.filter)(&join(path, &name)) => names.push(name),
                FileType::RegularFile | FileType::Symlink => {}
                _ => return Err(wrong_kind(kind, &join(path, &name), "plain file")),
            }
        }
        self.files += names.len();
        if self.files > self.limits.files {
            return Err(self.over(self.limits.files, "files", "move what does not belong there away"));
        }
        let mut names = names.into_iter().peekable();
        while names.peek().is_some() {
            self.batches.push(Batch { folder: path.to_owned(), names: names.by_ref().take(BATCH).collect() });
        }
        for name in folders {
            let below = join(path, &name);
            if let Some(folder) = open_folder(open, &name, &below)? {
                self.folder(folder.as_fd(), &below, depth + 1)?;
            }
        }
        Ok(())
    }

    fn over(&self, limit: usize, unit: &'static str, advice: &'static str) -> CheckoutError {
        CheckoutError::Limit { path: shown(self.top).to_owned(), limit: limit as u64, unit, advice }
    }
}

/// The folder that holds a file of a pod's volume. The kubelet lays volumes out so that all files change at once:
/// `name` is a link to `..data/name`, and `..data` a link to a folder beside it, `..2026_11_23_…`. Exactly this is
/// followed, one name at a time, so it cannot lead outside.
fn volume(folder: BorrowedFd<'_>, name: &str) -> Option<OwnedFd> {
    let target = readlinkat(folder, name, Vec::new()).ok()?;
    if target.to_bytes().strip_prefix(b"..data/") != Some(name.as_bytes()) {
        return None;
    }
    let data = readlinkat(folder, "..data", Vec::new()).ok()?;
    let is_beside = data.to_bytes().starts_with(b"..") && data.to_bytes().len() > 2 && !data.to_bytes().contains(&b'/');
    let open = is_beside.then(|| openat(folder, &data, FOLDER, Mode::empty()).ok())??;
    matches!(kind_at(open.as_fd(), name), Ok(Some(FileType::RegularFile))).then_some(open)
}

/// Reads one plain file, with what the system said of it before; None when it is not there.
pub(super) fn read_file(
    folder: BorrowedFd<'_>,
    name: &str,
    path: &str,
    limit: u64,
) -> Result<Option<(Vec<u8>, Stat)>, CheckoutError> {
    let file = open_file(folder, name, path, limit)?;
    file.map(|file| Ok((file.read()?, file.stat))).transpose()
}

fn open_file(folder: BorrowedFd<'_>, name: &str, path: &str, limit: u64) -> Result<Option<OpenFile>, CheckoutError> {
    let fail = |cause| CheckoutError::io("read", path, cause, Left::Untouched);
    let file = match openat(folder, name, FILE, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        // A link, or a socket.
        Err(Errno::LOOP) if let Some(volume) = volume(folder, name) => {
            return open_file(volume.as_fd(), name, path, limit);
        }
        Err(cause @ (Errno::LOOP | Errno::NXIO)) => {
            return match kind_at(folder, name) {
                Ok(Some(kind)) if kind != FileType::RegularFile => Err(wrong_kind(kind, path, "plain file")),
                _ => Err(fail(cause)),
            };
        }
        Err(cause) => return Err(fail(cause)),
    };
    let stat = fstat(&file).map_err(fail)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::RegularFile {
        return Err(wrong_kind(kind, path, "plain file"));
    }
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > limit {
        return Err(CheckoutError::Limit {
            path: path.to_owned(),
            limit,
            unit: "bytes a file",
            advice: "split it, or move it elsewhere",
        });
    }
    Ok(Some(OpenFile { path: path.to_owned(), file, stat }))
}

/// A plain file that is open. What it held can be read also once another file has taken its place.
#[derive(Debug)]
pub struct OpenFile {
    path: String,
    file: OwnedFd,
    stat: Stat,
}

impl OpenFile {
    /// Reads it from its beginning.
    pub fn read(&self) -> Result<Vec<u8>, CheckoutError> {
        // The size is known, so one call brings the whole file; what comes after less than that tells its end.
        let size = usize::try_from(self.stat.st_size).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(size.max(1));
        while bytes.len() < size {
            let at = bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(cause) => return Err(CheckoutError::io("read", &self.path, cause, Left::Untouched)),
            }
        }
        Ok(bytes)
    }
}
