//! What git did not do.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::types::explanation::{Code, Explain, Explanation};

/// Why git did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub enum GitError {
    /// There is no git on this machine.
    Missing(#[source] io::Error),
    /// git does not trust the folder's owner.
    Owner { folder: PathBuf },
    /// It took too long.
    TimedOut {
        /// What was being done.
        action: &'static str,
        seconds: u64,
    },
    /// It gave more than is taken.
    TooMuch {
        /// What was being done.
        action: &'static str,
        limit: usize,
    },
    /// Someone else is at work in the repository.
    Busy(Busy),
    /// The repository is not in a state for it, or what is asked for is not in it.
    Refused(GitRefusal),
    /// A commit was to be signed, and is not made without.
    Unsigned(Unsigned),
    Failed {
        /// What was being done.
        action: &'static str,
        /// The first lines of what it said, without passwords.
        stderr: String,
    },
}

/// Why a commit cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsigned {
    /// No key is named.
    NoKey,
    /// git did not sign.
    Failed { stderr: String },
}

impl Explain for Unsigned {
    fn explanation(&self) -> Explanation {
        match self {
            Self::NoKey => {
                let message = "--sign: your git configuration names no key to sign with, so nothing is committed";
                Explanation::new(Code::GitFailed, message).hint(
                    "`git config --global gpg.format ssh` and `git config --global user.signingkey ~/.ssh/id_ed25519.pub`; what the \
                     repository's own configuration says does not count",
                )
            }
            Self::Failed { stderr } => {
                let message = format!(
                    "--sign: git cannot sign with the key of your configuration, so nothing is committed: {stderr}"
                );
                Explanation::new(Code::GitFailed, message)
                    .hint("see that `user.signingkey` is there, and that a key with a passphrase is in your ssh-agent")
            }
        }
    }
}

impl From<Unsigned> for GitError {
    fn from(unsigned: Unsigned) -> Self {
        Self::Unsigned(unsigned)
    }
}

/// What someone else is at in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Busy {
    Merge,
    Rebase,
    CherryPick,
    Revert,
    Bisect,
    /// Something that holds the index.
    Index {
        /// The file that shows it.
        lock: PathBuf,
        /// For how long it was waited.
        seconds: u64,
    },
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Merge => "a merge is under way",
            Self::Rebase => "a rebase is under way",
            Self::CherryPick => "a cherry-pick is under way",
            Self::Revert => "a revert is under way",
            Self::Bisect => "a bisect is under way",
            Self::Index { lock, seconds } => {
                return write!(f, "`{}` is there for over {seconds} s: git is at work, or was killed", lock.display());
            }
        })
    }
}

/// What a branch is checked out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Commit,
    /// To pull into it.
    Pull,
    Push,
}

/// Why a repository does not give or take what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitRefusal {
    /// A path that git cannot take.
    LineBreak {
        path: String,
    },
    /// A file changed while it was read.
    Moving,
    /// No branch is checked out.
    NoBranch(Purpose),
    /// The branch for commits is the one that is checked out.
    BranchCheckedOut {
        name: String,
    },
    ObjectName {
        text: String,
    },
    BranchName {
        name: String,
    },
    NoRevision {
        /// As it was asked for.
        revision: String,
        /// Whether the clone lacks history.
        shallow: bool,
    },
    /// A file over the limit.
    TooLarge {
        path: String,
        /// The commit that holds it, abbreviated.
        commit: String,
        most: usize,
    },
    /// A name that is not UTF-8.
    NameNotUtf8 {
        /// The commit that holds it, abbreviated.
        commit: String,
    },
    NotPlain {
        path: String,
        /// The commit that holds it, abbreviated.
        commit: String,
        found: &'static str,
    },
    /// More files than are read.
    TooManyFiles {
        /// The commit that holds them, abbreviated.
        commit: String,
        most: usize,
    },
    Remote {
        remote: String,
    },
    /// Here and there have no common past that tells what is whose.
    Apart,
    /// Commits of a person's that were not pushed.
    OwnCommits {
        /// A file that they change.
        path: String,
    },
    /// Changes of a person's that were not committed.
    WorkTree {
        stderr: String,
    },
}

impl GitRefusal {
    fn code(&self) -> Code {
        match self {
            Self::LineBreak { .. } | Self::NameNotUtf8 { .. } => Code::WrongEncoding,
            Self::Moving => Code::GitBusy,
            Self::NoBranch(_) => Code::NoBranch,
            Self::BranchCheckedOut { .. } | Self::BranchName { .. } | Self::Remote { .. } => Code::InvalidArguments,
            Self::ObjectName { .. } => Code::GitFailed,
            Self::NoRevision { .. } => Code::UnknownRevision,
            Self::TooLarge { .. } | Self::TooManyFiles { .. } => Code::LimitExceeded,
            Self::NotPlain { .. } => Code::PathRefused,
            Self::Apart | Self::OwnCommits { .. } | Self::WorkTree { .. } => Code::BranchesApart,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::LineBreak { path } => format!("`{}` has a line break in its name", path.escape_debug()),
            Self::Moving => "a file changed while it was committed".to_owned(),
            Self::NoBranch(purpose) => {
                let so = match purpose {
                    Purpose::Commit => "a commit would be lost",
                    Purpose::Pull => "there is nothing to pull",
                    Purpose::Push => "there is nothing to push to",
                };
                format!("no branch is checked out, so {so}")
            }
            Self::BranchCheckedOut { name } => format!("--branch {name} is what is checked out"),
            Self::ObjectName { text } => format!("git named an object as `{}`", text.escape_debug()),
            Self::BranchName { name } => format!("expected the name of a branch, found `{}`", name.escape_debug()),
            Self::NoRevision { revision, .. } => format!("there is no revision `{}` here", revision.escape_debug()),
            Self::TooLarge { path, commit, most } => format!("`{path}` at {commit} is over {most} bytes"),
            Self::NameNotUtf8 { commit } => format!("a name at {commit} is not UTF-8"),
            Self::NotPlain { path, commit, found } => {
                format!("expected a plain file at `{}` in {commit}, found a {found}", path.escape_debug())
            }
            Self::TooManyFiles { commit, most } => format!("{commit} holds more than {most} files"),
            Self::Remote { remote } => format!("`{}` is no remote to pull from or push to", remote.escape_debug()),
            Self::Apart => "the remote's branch and this one have grown apart".to_owned(),
            Self::OwnCommits { path } => {
                format!("commits here that were not pushed change `{}`, and the remote has others", path.escape_debug())
            }
            Self::WorkTree { .. } => {
                "changes in the work tree that were not committed conflict with the remote's commits".to_owned()
            }
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Moving => "the next run commits it",
            Self::NoBranch(Purpose::Pull) => "`git switch` to one",
            Self::NoBranch(Purpose::Commit | Purpose::Push) => "`git switch` to one, or name one with --branch",
            Self::BranchCheckedOut { .. } => "leave it out, or name another",
            Self::NoRevision { shallow: true, .. } => "this clone is shallow: `git fetch` that revision first",
            Self::NoRevision { shallow: false, .. } => "`git fetch` it first",
            Self::NameNotUtf8 { .. } => "rename it",
            Self::Apart | Self::OwnCommits { .. } => "bring them together with `git rebase`, then continue",
            Self::WorkTree { stderr } => return Some(format!("commit or stash them (git said: {stderr})")),
            Self::LineBreak { .. }
            | Self::ObjectName { .. }
            | Self::BranchName { .. }
            | Self::TooLarge { .. }
            | Self::NotPlain { .. }
            | Self::TooManyFiles { .. }
            | Self::Remote { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

impl Explain for GitError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Missing(cause) => {
                Explanation::new(Code::GitFailed, format!("cannot run git: {cause}")).hint("install git 2.30 or newer")
            }
            Self::Owner { folder } => {
                let folder = folder.display();
                let message = format!("git does not trust `{folder}`: it belongs to another user");
                let trust = format!("git config --global --add safe.directory {folder}");
                Explanation::new(Code::GitFailed, message).hint(format!("change its owner, or run `{trust}`"))
            }
            Self::TimedOut { action, seconds } => {
                let message = format!("{action}: git took longer than {seconds} s and was ended");
                Explanation::new(Code::GitFailed, message).hint("check whether the remote or the disk hangs")
            }
            Self::TooMuch { action, limit } => {
                Explanation::new(Code::GitFailed, format!("{action}: git gave more than {limit} bytes"))
            }
            Self::Busy(busy) => {
                let until = "nothing is committed until that is done";
                Explanation::new(Code::GitBusy, busy.to_string()).hint(match busy {
                    Busy::Index { .. } => format!("when no git runs any more, remove that file; {until}"),
                    Busy::Merge | Busy::Rebase | Busy::CherryPick | Busy::Revert | Busy::Bisect => until.to_owned(),
                })
            }
            Self::Refused(refusal) => {
                Explanation { code: refusal.code(), message: refusal.message(), hint: refusal.hint() }
            }
            Self::Unsigned(unsigned) => unsigned.explanation(),
            Self::Failed { action, stderr } => {
                Explanation::new(Code::GitFailed, format!("{action}: git said: {stderr}"))
            }
        }
    }
}

impl From<GitRefusal> for GitError {
    fn from(refusal: GitRefusal) -> Self {
        Self::Refused(refusal)
    }
}
