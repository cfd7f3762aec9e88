//! What git did not do.

/// Why git did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// There is no git on this machine.
    #[error("cannot run git: {0}; install git 2.30 or newer")]
    Missing(String),
    /// git does not trust the folder's owner.
    #[error(
        "git does not trust `{0}`: it belongs to another user; change its owner, or run `git config --global --add safe.directory {0}`"
    )]
    Owner(String),
    /// It took too long.
    #[error("{action}: git took longer than {seconds} s and was ended; look whether the remote or the disk hangs")]
    TimedOut {
        /// What was being done.
        action: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// It gave more than is taken.
    #[error("{action}: git gave more than {limit} bytes")]
    TooMuch {
        /// What was being done.
        action: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Somebody else is at work in the repository.
    #[error("{0}; nothing is committed until that is done")]
    Busy(String),
    /// The repository is not in a state for it.
    #[error("{0}")]
    Refused(String),
    /// git refused.
    #[error("{action}: git said: {said}")]
    Failed {
        /// What was being done.
        action: &'static str,
        /// The first lines of what it said, without passwords.
        said: String,
    },
}
