//! The edge to git, through its command line: the only place that runs `git`.
//!
//! 1. `run`: one command, with nothing of the repository's own choosing in it: no hooks, no fsmonitor, no filters, no pager,
//!    no editor, no prompt, no system configuration, few protocols, and limits on time and bytes.
//! 2. `read`: what a revision holds, from the object database, never through the work tree.
//! 3. `commit`: exactly the named files become a commit, whatever else is staged or changed.
//! 4. `remote`: fetches, fast-forwards and pushes. These may start what the user's or the repository's configuration names to
//!    reach a remote, such as ssh or a credential helper: there is no other way to reach it.
#![allow(clippy::disallowed_methods, reason = "this edge runs git")]

mod commit;
mod error;
mod read;
mod remote;
mod run;
mod sign;

use std::fmt;
use std::path::{Path, PathBuf};

pub use crate::git::commit::{Author, CommitTarget, InvalidAuthor};
pub use crate::git::error::{Busy, GitError, GitRefusal, Purpose, Unsigned};
pub use crate::git::read::Uncommitted;
pub use crate::git::remote::{Pull, Push};
use crate::git::run::{GitCommandKind, GitOutput, git};
pub use crate::git::sign::Signing;

/// An object's name, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(String);

impl Oid {
    fn parse(text: &str) -> Result<Self, GitError> {
        let text = text.trim();
        if (text.len() == 40 || text.len() == 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self(text.to_owned()));
        }
        Err(GitRefusal::ObjectName { text: text.to_owned() }.into())
    }

    /// Its first digits, as people write them.
    pub fn short(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }

    /// All its hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository and its work tree, with the checkout in it.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The checkout: the work tree or a folder in it.
    checkout: PathBuf,
    /// Path of the checkout below the work tree: empty, or ending in a slash.
    prefix: String,
    /// git's folder of this work tree.
    git_dir: PathBuf,
}

/// The state of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryState {
    /// The commit that is checked out; `None` before the first one.
    pub head: Option<Oid>,
    /// The branch that is checked out; `None`: detached.
    pub branch: Option<String>,
    /// What someone is in the middle of.
    pub busy: Option<Busy>,
}

impl Repository {
    /// The repository that a checkout lies in; `None` when it lies in none.
    pub fn discover(checkout: &Path) -> Result<Option<Self>, GitError> {
        let action = "looking for the repository";
        let args = ["rev-parse", "--is-inside-work-tree", "--absolute-git-dir", "--show-prefix"];
        let result = git(checkout, GitCommandKind::Read, action).args(args).outcome()?;
        if !result.ok {
            if result.errors.contains("dubious ownership") {
                return Err(GitError::Owner { folder: checkout.to_owned() });
            }
            let absent = ["not a git repository", "must be run in a work tree"];
            return if absent.iter().any(|phrase| result.errors.contains(phrase)) {
                Ok(None)
            } else {
                Err(result.failed(action))
            };
        }
        let text = result.text();
        let mut lines = text.lines();
        if lines.next() != Some("true") {
            return Ok(None);
        }
        let (git_dir, prefix) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        Ok(Some(Self { checkout: checkout.to_owned(), prefix: prefix.to_owned(), git_dir: PathBuf::from(git_dir) }))
    }

    /// Which branch and commit are checked out, and what is not finished.
    pub fn state(&self) -> Result<RepositoryState, GitError> {
        let action = "reading what is checked out";
        let head = self
            .git(GitCommandKind::Read, action)
            .args(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
            .outcome()?;
        let branch = self.git(GitCommandKind::Read, action).args(["symbolic-ref", "--quiet", "HEAD"]).outcome()?;
        let branch = branch.ok.then(|| branch.text().trim().strip_prefix("refs/heads/").map(str::to_owned)).flatten();
        let head = if head.ok { Some(Oid::parse(&head.text())?) } else { None };
        Ok(RepositoryState { head, branch, busy: self.busy() })
    }

    /// What someone is in the middle of.
    fn busy(&self) -> Option<Busy> {
        const SIGNS: [(&str, Busy); 6] = [
            ("MERGE_HEAD", Busy::Merge),
            ("rebase-merge", Busy::Rebase),
            ("rebase-apply", Busy::Rebase),
            ("CHERRY_PICK_HEAD", Busy::CherryPick),
            ("REVERT_HEAD", Busy::Revert),
            ("BISECT_LOG", Busy::Bisect),
        ];
        SIGNS.into_iter().find(|(name, _)| self.git_dir.join(name).exists()).map(|(_, busy)| busy)
    }

    /// git's folder of this work tree, in which `index.lock` comes and goes.
    pub fn index_folder(&self) -> &Path {
        &self.git_dir
    }

    fn git(&self, kind: GitCommandKind, action: &'static str) -> run::Git {
        git(&self.checkout, kind, action)
    }

    /// A path of the checkout as git knows it, from the top of the work tree.
    fn below_top(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    fn ok(&self, kind: GitCommandKind, action: &'static str, args: &[&str]) -> Result<GitOutput, GitError> {
        let result = self.git(kind, action).args(args.iter().copied()).outcome()?;
        if result.ok { Ok(result) } else { Err(result.failed(action)) }
    }
}

/// A name of a branch that is no option and no odd revision.
fn branch_name(name: &str) -> Result<&str, GitError> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let bad = name.is_empty()
        || name.starts_with(['-', '/', '.'])
        || name.ends_with(['/', '.'])
        || name.contains("..")
        || name.contains("@{")
        || name.contains("//")
        || name.split('/').any(|part| part.to_ascii_lowercase().strip_suffix(".lock").is_some())
        || name.chars().any(odd);
    if bad { Err(GitRefusal::BranchName { name: name.to_owned() }.into()) } else { Ok(name) }
}
