//! Stamps: whether a folder may have changed, without reading a file.
//!
//! A [`FileStamp`] is what `stat` says of one file: inode, size and times. The stamp of a folder is a hash of the names in it,
//! each with its file's stamp. Equal stamps mean that nothing changed; different ones, that something may have. Names of a
//! pod's volumes (`..data`) and of our own temporary files are treated as the reader treats them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::AsFd as _;

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, FileType, Mode, RawDir, Stat, fstatfs, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::checkout::flags::FOLDER;
use crate::checkout::flags::TEMPORARY;
use crate::checkout::path::{Folders, join};
use crate::checkout::{Checkout, CheckoutError, Left};

/// Deepest folder below the one that is stamped; the reader refuses deeper ones.
const DEEPEST: usize = 33;
/// Bytes of names fetched from the kernel at once.
const NAMES_BUFFER: usize = 32 * 1024;

/// Coarsest tick of a file system's times, that of FAT, in nanoseconds.
const COARSEST_TICK: i128 = 2_000_000_000;

/// Stamps by folder, the folder itself among them.
pub type Stamps = BTreeMap<String, u64>;

/// What tells one state of a file from another: inode, size and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    inode: u64,
    size: u64,
    /// Nanoseconds since 1970.
    modified: i128,
    /// Nanoseconds since 1970. No program can set it.
    changed: i128,
}

impl FileStamp {
    pub(super) fn of(stat: &Stat) -> Self {
        let time = |seconds: i64, nanos: u64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            inode: stat.st_ino,
            size: stat.st_size.cast_unsigned(),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// That of a plain file; `None` when none is there.
    pub(super) fn at(folder: BorrowedFd<'_>, name: &str) -> Option<Self> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| Self::of(&stat))
    }

    /// Whether a change at or after this time, in nanoseconds since 1970, would show. File systems count time in ticks of
    /// up to 2 s, so a file that just changed may change again and keep its stamp; git calls such an entry racy.
    pub fn is_settled_at(&self, time: i128) -> bool {
        self.modified.max(self.changed) + COARSEST_TICK < time
    }
}

impl Checkout {
    /// The stamps of a folder and of those below it; none when it is not there. The empty path is the root, without what
    /// is below it.
    pub fn stamps(&self, folder: &str) -> Result<Stamps, CheckoutError> {
        let mut stamps = Stamps::new();
        let Some(open) = Folders::new(self).get(folder)? else { return Ok(stamps) };
        stamp(open.as_fd(), folder, 0, &mut stamps).map_err(|cause| {
            CheckoutError::io("look at the folder", crate::checkout::path::shown(folder), cause, Left::Untouched)
        })?;
        Ok(stamps)
    }

    /// Whether the file system is one that tells no changes made elsewhere: NFS, SMB, FUSE, 9P, Ceph, AFS.
    pub fn is_remote(&self) -> bool {
        // magic numbers of linux/magic.h and of the file systems' own headers
        const REMOTE: [u64; 8] =
            [0x6969, 0x517B, 0xFE53_4D42, 0xFF53_4D42, 0x6573_5546, 0x0102_1997, 0x00C3_6400, 0x5346_414F];
        fstatfs(&*self.root).is_ok_and(|found| REMOTE.contains(&u64::try_from(found.f_type).unwrap_or_default()))
    }
}

fn stamp(open: BorrowedFd<'_>, path: &str, depth: usize, stamps: &mut Stamps) -> Result<(), Errno> {
    let mut names = Vec::new();
    let mut folders = Vec::new();
    let mut buffer = Vec::with_capacity(NAMES_BUFFER);
    let mut entries = RawDir::new(open, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_owned();
        let raw = name.to_bytes();
        if raw == b"." || raw == b".." || raw.starts_with(TEMPORARY.as_bytes()) {
            continue;
        }
        if raw == b"..data" {
            let target = readlinkat(open, &name, Vec::new()).unwrap_or_default();
            names.push((name, target.to_bytes().to_vec(), None));
            continue;
        }
        if raw.starts_with(b".") {
            continue;
        }
        let found = match statat(open, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            // its own times tell of its content, which has a stamp of its own
            folders.push(name.to_string_lossy().into_owned());
            names.push((name, Vec::new(), None));
            continue;
        }
        names.push((name, Vec::new(), Some(FileStamp::of(&found))));
    }
    names.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    stamps.insert(path.to_owned(), hasher.finish());
    if path.is_empty() || depth >= DEEPEST {
        return Ok(());
    }
    for name in folders {
        match openat(open, name.as_str(), FOLDER, Mode::empty()) {
            Ok(folder) => stamp(folder.as_fd(), &join(path, &name), depth + 1, stamps)?,
            // gone in between, or a link by now
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
