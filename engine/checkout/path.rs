//! Which paths are taken, and how the folders on them are opened.
//!
//! No path is ever handed to the system as a whole. A folder is opened name by name, each from the folder before it and
//! with `O_NOFOLLOW`; so `..`, absolute paths and symbolic links cannot lead outside, also while another process swaps
//! folders for links. This needs no `openat2`, which older kernels and some container runtimes refuse.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, openat, statat};
use rustix::io::Errno;

use crate::checkout::flags::{FOLDER, TEMPORARY};
use crate::checkout::{Checkout, CheckoutError, Left};

/// Longest name of a file in bytes (`NAME_MAX` of Linux).
const LONGEST_NAME: usize = 255;
/// Longest path in bytes (`PATH_MAX` of Linux, without its NUL).
const LONGEST_PATH: usize = 4095;
/// Folders kept open at once: well below the usual limit of 1024 open files.
const OPEN_FOLDERS: usize = 256;

/// Checks a path and parts it into its folder (empty for the root) and its name.
pub(super) fn split(path: &str) -> Result<(&str, &str), CheckoutError> {
    let refuse = |why| Err(CheckoutError::Outside { path: path.to_owned(), why });
    if path.is_empty() {
        return refuse("it is empty");
    }
    if path.starts_with('/') {
        return refuse("it is absolute; paths are relative to the checkout");
    }
    if path.contains('\0') {
        return refuse("it holds a NUL byte");
    }
    if path.len() > LONGEST_PATH {
        return refuse("it is longer than 4095 bytes");
    }
    for name in path.split('/') {
        match name {
            "" => return refuse("it holds an empty name"),
            "." | ".." => return refuse("it holds `.` or `..`; name the place itself"),
            _ if name.len() > LONGEST_NAME => return refuse("it holds a name longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(path.rsplit_once('/').unwrap_or(("", path)))
}

/// Like [`split`], for a path that is to be written: git's own folder and our temporary names are no place for output.
pub(super) fn split_for_writing(path: &str) -> Result<(&str, &str), CheckoutError> {
    let parts = split(path)?;
    for name in path.split('/') {
        if name.eq_ignore_ascii_case(".git") {
            return Err(CheckoutError::Outside {
                path: path.to_owned(),
                why: "nothing is written into git's own folder",
            });
        }
        if name.starts_with(TEMPORARY) {
            return Err(CheckoutError::Outside {
                path: path.to_owned(),
                why: "such names are for temporary files only",
            });
        }
    }
    Ok(parts)
}

/// A folder and a name in it as one path.
pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The name of a folder as a message shows it.
pub(super) fn shown(folder: &str) -> &str {
    if folder.is_empty() { "." } else { folder }
}

/// What is at `name`, as the error for where something else is expected.
pub(super) fn wrong_kind(kind: FileType, path: &str, wanted: &'static str) -> CheckoutError {
    let found = match kind {
        FileType::Symlink => "symbolic link",
        FileType::Directory => "folder",
        FileType::RegularFile => "plain file",
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "thing of unknown kind",
    };
    let advice = match kind {
        FileType::Symlink => "links are never followed, put what it points to in its place",
        _ => "move it away",
    };
    CheckoutError::Kind { path: path.to_owned(), found, wanted, advice }
}

/// What is at `name` in an open folder; a link is not followed. None when nothing does.
pub(super) fn kind_at(folder: BorrowedFd<'_>, name: &str) -> Result<Option<FileType>, Errno> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens one folder in another; None when nothing is there.
pub(super) fn open_folder(parent: BorrowedFd<'_>, name: &str, path: &str) -> Result<Option<OwnedFd>, CheckoutError> {
    match openat(parent, name, FOLDER, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => match kind_at(parent, name) {
            Ok(Some(kind)) if kind != FileType::Directory => Err(wrong_kind(kind, path, "folder")),
            _ => Err(CheckoutError::io("open the folder", path, errno, Left::Untouched)),
        },
        Err(errno) => Err(CheckoutError::io("open the folder", path, errno, Left::Untouched)),
    }
}

/// The folders of a checkout opened so far, by path.
pub(super) struct Folders<'a> {
    checkout: &'a Checkout,
    open: BTreeMap<String, Option<Arc<OwnedFd>>>,
}

impl<'a> Folders<'a> {
    pub(super) fn new(checkout: &'a Checkout) -> Self {
        Self { checkout, open: BTreeMap::new() }
    }

    /// An open folder (the root for the empty path); None when it is not there.
    pub(super) fn get(&mut self, path: &str) -> Result<Option<Arc<OwnedFd>>, CheckoutError> {
        if path.is_empty() {
            return Ok(Some(Arc::clone(&self.checkout.root)));
        }
        if let Some(known) = self.open.get(path) {
            return Ok(known.clone());
        }
        let (parent, name) = split(path)?;
        let folder = match self.get(parent)? {
            Some(parent) => open_folder(parent.as_fd(), name, path)?.map(Arc::new),
            None => None,
        };
        self.keep(path, folder.clone());
        Ok(folder)
    }

    /// Remembers what a path leads to.
    pub(super) fn keep(&mut self, path: &str, folder: Option<Arc<OwnedFd>>) {
        if self.open.len() >= OPEN_FOLDERS {
            self.open.clear();
        }
        self.open.insert(path.to_owned(), folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_the_checkout_are_taken() {
        assert_eq!(split("a").unwrap(), ("", "a"));
        assert_eq!(split("rendered/east/secret-x.yaml").unwrap(), ("rendered/east", "secret-x.yaml"));
        assert_eq!(split("CON/ñ/…").unwrap(), ("CON/ñ", "…"));
        assert!(split(&"n".repeat(255)).is_ok());
        assert!(split_for_writing(".gitattributes").is_ok());
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let long = "n".repeat(256);
        let deep = "n/".repeat(2048) + "n";
        for path in ["", "/", "/etc/passwd", "..", "a/../b", "a/..", ".", "./a", "a//b", "a/", "a\0b", &long, &deep] {
            assert!(matches!(split(path), Err(CheckoutError::Outside { .. })), "{path:?}");
        }
        for path in [".git/hooks/post-checkout", "a/.GIT/config", ".isthmus-tmp-0", "a/.isthmus-tmp-1/b"] {
            assert!(matches!(split_for_writing(path), Err(CheckoutError::Outside { .. })), "{path:?}");
        }
    }

    #[test]
    fn a_refused_path_is_quoted_with_its_odd_bytes_escaped() {
        assert_eq!(split("a\0\n").unwrap_err().to_string(), "the path `a\\0\\n` is refused: it holds a NUL byte");
    }
}
