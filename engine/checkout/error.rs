//! What can go wrong with the files of a checkout, in words.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// A failure at the files of a checkout. `Busy` ends the engine with 5, `Io` and `Absent` with 6, every other one with 1.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// Another engine holds the lock.
    #[error("another engine works in {}; wait until it is done and run this one again", .0.display())]
    Busy(PathBuf),
    /// There is no folder to look into.
    #[error("there is no folder `{}`; name the checkout with `-C DIR`", .0.display())]
    Absent(PathBuf),
    /// A path that is not taken, whatever is there.
    #[error("the path `{}` is refused: {why}", .path.escape_debug())]
    Outside {
        /// The path as it was given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something else than a plain file or folder stands there, or one where the other is wanted.
    #[error("`{}` is a {found} where a {wanted} is wanted; {advice}", .path.escape_debug())]
    Kind {
        /// Where it stands.
        path: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
        /// What to do next.
        advice: &'static str,
    },
    /// A name that is not UTF-8.
    #[error("the folder `{}` holds a name that is not UTF-8: `{name}`; rename or remove it", .folder.escape_debug())]
    Name {
        /// The folder it is in.
        folder: String,
        /// The name, its odd bytes escaped.
        name: String,
    },
    /// A limit of [`crate::checkout::Limits`], or of depth, was passed.
    #[error("`{}` is over the limit of {limit} {unit}; {advice}", .path.escape_debug())]
    Limit {
        /// The file or folder.
        path: String,
        /// The limit.
        limit: u64,
        /// What it counts.
        unit: &'static str,
        /// What to do next.
        advice: &'static str,
    },
    /// A file that must not be replaced is there already.
    #[error("`{}` exists and is never overwritten; choose another name, or move it away first", .0.escape_debug())]
    Exists(String),
    /// The system refused.
    #[error("cannot {action} `{}`: {cause}; {left}{}", .path.escape_debug(), advice(.cause))]
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

/// The next thing to do about an error of the system, led by a colon; empty where there is no better advice than its text.
fn advice(cause: &io::Error) -> &'static str {
    let Some(errno) = cause.raw_os_error().map(Errno::from_raw_os_error) else { return "" };
    match errno {
        Errno::NOSPC | Errno::DQUOT => ": free some space on this disk and run again",
        Errno::ROFS => ": the file system is mounted read-only, mount it for writing or use another checkout",
        Errno::ACCESS | Errno::PERM => ": give the user of this process the right to do so, then run again",
        Errno::IO => ": the disk fails, look into the kernel's log before running again",
        Errno::MFILE | Errno::NFILE => ": too many files are open, raise `ulimit -n`",
        Errno::NOLCK | Errno::BADF | Errno::OPNOTSUPP => {
            ": this file system has no locks for folders, put the checkout on a local disk"
        }
        Errno::NOENT => ": something else changes this checkout, run again when that is done",
        _ => "",
    }
}

impl CheckoutError {
    pub(super) fn io(action: &'static str, path: &str, cause: Errno, left: Left) -> Self {
        Self::Io { action, path: path.to_owned(), cause: cause.into(), left }
    }
}
