//! Commits of exactly the named files.
//!
//! The commit's tree is made in an index of its own, from the commit below it and the files' bytes on disk; hooks, filters and
//! whatever else is staged have no part in it. Then the real index learns of these files alone, and the branch moves if it is
//! still where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::git::run::{GitCommandKind, git_stderr};
use crate::git::sign::Signing;
use crate::git::{Busy, GitError, GitRefusal, Oid, Purpose, Repository, Unsigned, branch_name};
use crate::types::explanation::{Code, Explain, Explanation};

/// In whose name commits are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    name: String,
    mail: String,
    signing: Option<Signing>,
}

impl Author {
    /// The same, whose commits are signed.
    #[must_use]
    pub fn signs(self, signing: Signing) -> Self {
        Self { signing: Some(signing), ..self }
    }
}

/// A text that is no author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explanation())]
pub struct InvalidAuthor {
    pub text: String,
}

impl Explain for InvalidAuthor {
    fn explanation(&self) -> Explanation {
        let message = format!("expected an author, found `{}`", self.text.escape_debug());
        Explanation::new(Code::InvalidArguments, message).hint("write `NAME <MAIL>`")
    }
}

impl std::str::FromStr for Author {
    type Err = InvalidAuthor;

    fn from_str(text: &str) -> Result<Self, InvalidAuthor> {
        let invalid = || InvalidAuthor { text: text.to_owned() };
        let (name, mail) = text.trim().split_once('<').ok_or_else(invalid)?;
        let mail = mail.strip_suffix('>').ok_or_else(invalid)?;
        let odd = |part: &str| part.is_empty() || part.contains(['<', '>', '\n', '\0']);
        let (name, mail) = (name.trim(), mail.trim());
        if odd(name) || odd(mail) {
            return Err(invalid());
        }
        Ok(Self { name: name.to_owned(), mail: mail.to_owned(), signing: None })
    }
}

/// Where a commit goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitTarget {
    /// On top of what is checked out.
    Head,
    /// To a branch of its own, which always is what is checked out and one commit more.
    Branch(String),
}

/// How long to wait for someone else's hold on the index.
const INDEX_WAIT: Duration = Duration::from_secs(30);
/// Mode of all files that are committed.
const MODE: &str = "100644";

/// The message of a commit that is only made to see that it can be signed; the same each time, so that it is one object.
const TRIAL: (&str, &str) = ("isthmus: trial of the signature\n", "@0 +0000");

/// Removes itself.
struct OwnIndex(PathBuf);

impl Drop for OwnIndex {
    fn drop(&mut self) {
        // git may not have made it
        drop(std::fs::remove_file(&self.0));
        drop(std::fs::remove_file(self.0.with_extension("lock")));
    }
}

impl Repository {
    /// The blobs that the checked out commit has in `places`, by path from the checkout; none before the first commit.
    pub fn committed(&self, places: &[&str]) -> Result<BTreeMap<String, Oid>, GitError> {
        match self.state()?.head {
            Some(head) => self.blobs(&head, places),
            None => Ok(BTreeMap::new()),
        }
    }

    /// The blobs that files on disk would be, byte for byte.
    pub fn hashed(&self, paths: &[&String]) -> Result<Vec<(String, Oid)>, GitError> {
        self.hash(paths, false)
    }

    /// The blobs that files would be, byte for byte.
    fn hash(&self, paths: &[&String], write: bool) -> Result<Vec<(String, Oid)>, GitError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(odd) = paths.iter().find(|path| path.contains('\n')) {
            return Err(GitRefusal::LineBreak { path: (*odd).clone() }.into());
        }
        let input: Vec<u8> = paths.iter().flat_map(|path| path.bytes().chain([b'\n'])).collect();
        let args = ["hash-object", "--no-filters", "--stdin-paths"];
        let kind = if write { GitCommandKind::Write } else { GitCommandKind::Read };
        let result = self.git(kind, "hashing files").args(args).args(write.then_some("-w")).input(input).done()?;
        let oids = result.text().lines().map(Oid::parse).collect::<Result<Vec<_>, _>>()?;
        if oids.len() != paths.len() {
            return Err(GitRefusal::Moving.into());
        }
        Ok(paths.iter().map(|path| (*path).clone()).zip(oids).collect())
    }

    /// Commits these files as they are on disk; one that is not there is removed. Nothing else changes, staged or not.
    /// `None`: the commit below is like that already.
    pub fn commit(
        &self,
        paths: &BTreeSet<String>,
        message: &str,
        author: &Author,
        target: &CommitTarget,
    ) -> Result<Option<Oid>, GitError> {
        let state = self.state()?;
        if let Some(busy) = state.busy {
            return Err(GitError::Busy(busy));
        }
        if *target == CommitTarget::Head && state.branch.is_none() {
            return Err(GitRefusal::NoBranch(Purpose::Commit).into());
        }
        self.await_index()?;
        let (there, gone): (Vec<&String>, Vec<&String>) =
            paths.iter().partition(|path| self.checkout.join(path).is_file());
        let blobs = self.hash(&there, true)?;
        let mut info = Vec::new();
        for (path, oid) in &blobs {
            info.extend_from_slice(format!("{MODE} {oid}\t{}\0", self.below_top(path)).as_bytes());
        }
        let zero = "0".repeat(state.head.as_ref().map_or(40, |head| head.as_str().len()));
        for path in gone {
            info.extend_from_slice(format!("0 {zero}\t{}\0", self.below_top(path)).as_bytes());
        }
        let Some(commit) = self.commit_of(&info, state.head.as_ref(), message, author)? else { return Ok(None) };
        let action = "moving the branch";
        let no_filters = self.no_filters()?;
        match target {
            CommitTarget::Head => {
                let old = state.head.as_ref().map_or_else(|| zero.clone(), Oid::to_string);
                // First the index: whoever is killed in between leaves files staged that the next run commits. The other way
                // round the index would hold the files from before, and a person's next commit would bring them back. git
                // compares files that are as new as the index with what is in it, and would start filters for that.
                let writing = self.git(GitCommandKind::Write, "telling the index").args(no_filters);
                writing.args(["update-index", "-z", "--index-info"]).input(info).done()?;
                self.ok(
                    GitCommandKind::Write,
                    action,
                    &["update-ref", "-m", "isthmus: apply", "HEAD", commit.as_str(), &old],
                )?;
            }
            CommitTarget::Branch(name) => {
                let reference = format!("refs/heads/{}", branch_name(name)?);
                if state.branch.as_deref() == Some(name.as_str()) {
                    return Err(GitRefusal::BranchCheckedOut { name: name.clone() }.into());
                }
                let before = self
                    .git(GitCommandKind::Read, action)
                    .args(["rev-parse", "--verify", "--quiet", &reference])
                    .outcome()?;
                if before.ok && self.is_like(before.text().trim(), &commit)? {
                    return Ok(None);
                }
                self.ok(
                    GitCommandKind::Write,
                    action,
                    &["update-ref", "-m", "isthmus: apply", &reference, commit.as_str()],
                )?;
            }
        }
        Ok(Some(commit))
    }

    /// Whether two commits have one tree and the same commit below.
    fn is_like(&self, one: &str, other: &Oid) -> Result<bool, GitError> {
        let of = |commit: &str| {
            let args = ["rev-parse", "--verify", "--quiet", &format!("{commit}^{{tree}}")];
            let tree = self.git(GitCommandKind::Read, "comparing commits").args(args).outcome()?;
            let args = ["rev-parse", "--verify", "--quiet", &format!("{commit}^")];
            let below = self.git(GitCommandKind::Read, "comparing commits").args(args).outcome()?;
            Ok::<_, GitError>((tree.text(), below.text()))
        };
        Ok(of(one)? == of(other.as_str())?)
    }

    /// A commit that is the one below and these entries; `None` when it would be like the one below.
    fn commit_of(
        &self,
        info: &[u8],
        below: Option<&Oid>,
        message: &str,
        author: &Author,
    ) -> Result<Option<Oid>, GitError> {
        let action = "making a commit";
        let index = OwnIndex(self.git_dir.join(format!("isthmus-index-{}", std::process::id())));
        let with = |args: &[&str]| {
            self.git(GitCommandKind::Write, action).env("GIT_INDEX_FILE", &index.0).args(args.iter().copied())
        };
        match below {
            Some(below) => with(&["read-tree", below.as_str()]).done()?,
            None => with(&["read-tree", "--empty"]).done()?,
        };
        with(&["update-index", "-z", "--index-info"]).input(info.to_vec()).done()?;
        let tree = Oid::parse(&with(&["write-tree"]).done()?.text())?;
        if let Some(below) = below {
            let args = ["rev-parse", "--verify", &format!("{below}^{{tree}}")];
            if Oid::parse(&self.ok(GitCommandKind::Read, action, &args)?.text())? == tree {
                return Ok(None);
            }
        }
        self.commit_tree(action, (&tree, below), message, author, None).map(Some)
    }

    /// Signs a commit that no one will see, so that a key that cannot be used is reported before there is anything to commit.
    pub fn try_signing(&self, author: &Author) -> Result<(), GitError> {
        let action = "trying to sign";
        let args = ["hash-object", "-t", "tree", "-w", "--no-filters", "--stdin"];
        let tree = Oid::parse(&self.git(GitCommandKind::Write, action).args(args).done()?.text())?;
        self.commit_tree(action, (&tree, None), TRIAL.0, author, Some(TRIAL.1)).map(|_| ())
    }

    /// Makes a commit of a tree, signed where the author signs.
    fn commit_tree(
        &self,
        action: &'static str,
        (tree, below): (&Oid, Option<&Oid>),
        message: &str,
        author: &Author,
        date: Option<&str>,
    ) -> Result<Oid, GitError> {
        let (name, mail) = (author.name.as_str(), author.mail.as_str());
        let signing = author.signing.as_ref();
        let mut git = self.git(if signing.is_some() { GitCommandKind::Sign } else { GitCommandKind::Write }, action);
        for (role, value) in [("NAME", name), ("EMAIL", mail)].into_iter().chain(date.map(|date| ("DATE", date))) {
            git = git.env(&format!("GIT_AUTHOR_{role}"), value).env(&format!("GIT_COMMITTER_{role}"), value);
        }
        let sign = if signing.is_some() { "--gpg-sign" } else { "--no-gpg-sign" };
        let below = below.into_iter().flat_map(|below| ["-p", below.as_str()]);
        let made = git
            .args(signing.into_iter().flat_map(Signing::args))
            .args(["commit-tree", sign, "-F", "-"])
            .args(below)
            .args([tree.as_str()])
            .input(message.as_bytes().to_vec())
            .outcome()?;
        match (made.ok, signing) {
            (true, _) => Oid::parse(&made.text()),
            (false, Some(_)) => Err(Unsigned::Failed { stderr: git_stderr(&made) }.into()),
            (false, None) => Err(made.failed(action)),
        }
    }

    /// Whether the index says that the work tree goes without this file, as in a sparse checkout.
    pub fn is_left_out(&self, path: &str) -> bool {
        let args = ["--literal-pathspecs", "ls-files", "-t", "--", path];
        let result = self.git(GitCommandKind::Read, "reading the index").args(args).outcome();
        result.is_ok_and(|result| result.text().starts_with("S "))
    }

    /// Waits until no one holds the index. It is never taken away from anyone.
    fn await_index(&self) -> Result<(), GitError> {
        let lock = self.git_dir.join("index.lock");
        let end = Instant::now() + INDEX_WAIT;
        let mut pause = Duration::from_millis(20);
        while lock.exists() {
            if Instant::now() >= end {
                return Err(GitError::Busy(Busy::Index { lock, seconds: INDEX_WAIT.as_secs() }));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Ok(())
    }
}
