//! What can go wrong with the files of a checkout,.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::types::explanation::{Code, Explain, Explanation};

/// A failure at the files of a checkout. `Busy` ends the engine with 5, `Io` and `Absent` with 6, every other one with 1.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.sentence())]
pub enum CheckoutError {
    /// Another engine holds the lock.
    Busy(PathBuf),
    /// There is no folder to look into.
    Absent(PathBuf),
    /// A path that is not taken, whatever is there.
    Outside {
        /// The path as it was given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Expected a plain file, or a folder, and found something else.
    Kind {
        path: String,
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
        /// What to do next.
        advice: &'static str,
    },
    /// A name that is not UTF-8.
    Name {
        folder: String,
        /// The name, its odd bytes escaped.
        name: String,
    },
    /// A limit of [`crate::checkout::ReadLimits`], or of depth, was passed.
    Limit {
        /// The file or folder.
        path: String,
        limit: u64,
        unit: &'static str,
        /// What to do next.
        advice: &'static str,
    },
    /// A file that must not be replaced is there already.
    Exists { path: String },
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or folder.
        path: String,
        /// What the system said.
        #[source]
        cause: io::Error,
        /// What became of the changes.
        left: Left,
    },
}

/// What a failed commit left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Every file is as it was.
    Untouched,
    /// The first `done` of `of` changes are made, in their order, each whole; running again makes the rest.
    Partly {
        /// Changes made.
        done: usize,
        /// Changes wanted.
        of: usize,
    },
    /// All changes are made, but the disk has not confirmed them.
    Unconfirmed,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untouched => f.write_str("nothing was changed"),
            Self::Partly { done, of } => write!(f, "{done} of {of} changes were made, the next run makes the rest"),
            Self::Unconfirmed => f.write_str("all changes were made, but may be lost when the machine stops now"),
        }
    }
}

/// The next thing to do about an error of the system; none where there is no better advice than its text.
fn advice(cause: &io::Error) -> Option<&'static str> {
    Some(match cause.raw_os_error().map(Errno::from_raw_os_error)? {
        Errno::NOSPC | Errno::DQUOT => "free some space on this disk and run again",
        Errno::ROFS => "the file system is mounted read-only, mount it for writing or use another checkout",
        Errno::ACCESS | Errno::PERM => "give the user of this process the right to do so, then run again",
        Errno::IO => "the disk fails, check the kernel's log before running again",
        Errno::MFILE | Errno::NFILE => "too many files are open, raise `ulimit -n`",
        Errno::NOLCK | Errno::BADF | Errno::OPNOTSUPP => {
            "this file system has no locks for folders, put the checkout on a local disk"
        }
        Errno::NOENT => "something else changes this checkout, run again when that is done",
        _ => return None,
    })
}

impl CheckoutError {
    fn code(&self) -> Code {
        match self {
            Self::Busy(_) => Code::AnotherEngineWorks,
            Self::Absent(_) => Code::CheckoutAbsent,
            Self::Outside { .. } | Self::Kind { .. } => Code::PathRefused,
            Self::Name { .. } => Code::WrongEncoding,
            Self::Limit { .. } => Code::LimitExceeded,
            Self::Exists { .. } => Code::AlreadyExists,
            Self::Io { .. } => Code::SystemFailed,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Busy(folder) => format!("another engine works in {}", folder.display()),
            Self::Absent(folder) => format!("there is no folder `{}`", folder.display()),
            Self::Outside { path, why } => format!("the path `{}` is refused: {why}", path.escape_debug()),
            Self::Kind { path, found, wanted, .. } => {
                format!("expected a {wanted} at `{}`, found a {found}", path.escape_debug())
            }
            Self::Name { folder, name } => {
                format!("the folder `{}` holds a name that is not UTF-8: `{name}`", folder.escape_debug())
            }
            Self::Limit { path, limit, unit, .. } => {
                format!("`{}` is over the limit of {limit} {unit}", path.escape_debug())
            }
            Self::Exists { path } => format!("`{}` exists and is never overwritten", path.escape_debug()),
            Self::Io { action, path, cause, left } => {
                format!("cannot {action} `{}`: {cause}; {left}", path.escape_debug())
            }
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Busy(_) => Some("wait until it is done and run this one again"),
            Self::Absent(_) => Some("name the checkout with `-C DIR`"),
            Self::Outside { .. } => None,
            Self::Kind { advice, .. } | Self::Limit { advice, .. } => Some(advice),
            Self::Name { .. } => Some("rename or remove it"),
            Self::Exists { .. } => Some("choose another name, or move it away first"),
            Self::Io { cause, .. } => advice(cause),
        }
    }

    /// Message and hint in one line. What became of the changes comes before the advice, so a colon parts the two.
    fn sentence(&self) -> String {
        match (self, self.hint()) {
            (Self::Io { .. }, Some(hint)) => format!("{}: {hint}", self.message()),
            _ => self.explanation().to_string(),
        }
    }

    pub(super) fn io(action: &'static str, path: &str, cause: Errno, left: Left) -> Self {
        Self::Io { action, path: path.to_owned(), cause: cause.into(), left }
    }
}

impl Explain for CheckoutError {
    fn explanation(&self) -> Explanation {
        Explanation { code: self.code(), message: self.message(), hint: self.hint().map(str::to_owned) }
    }
}
