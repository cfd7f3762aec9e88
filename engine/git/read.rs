//! What a revision holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::git::run::GitCommandKind;
use crate::git::{GitError, GitRefusal, Oid, Repository};
use crate::types::text::same_lines;

/// Most files that are read of a revision.
const MOST_FILES: usize = 1_000_000;
/// Most bytes of one of them.
const LARGEST: usize = 16 << 20;

/// How a file differs from the checked out commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncommitted {
    /// It holds something else.
    Modified,
    /// The commit does not have it.
    Untracked,
    /// The commit has it, and it is not there.
    Deleted,
}

impl fmt::Display for Uncommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modified => "modified",
            Self::Untracked => "untracked",
            Self::Deleted => "deleted",
        })
    }
}

/// Whether a path lies in a folder.
fn is_below(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

impl Repository {
    /// The commit that a revision names.
    pub fn resolve(&self, revision: &str) -> Result<Oid, GitError> {
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options"];
        let commit = format!("{revision}^{{commit}}");
        let result = self.git(GitCommandKind::Read, "finding a revision").args(args).args([&commit]).outcome()?;
        if result.ok {
            return Oid::parse(&result.text());
        }
        let shallow = self.git_dir.join("shallow").exists();
        Err(GitRefusal::NoRevision { revision: revision.to_owned(), shallow }.into())
    }

    /// The plain files of some folders, or single files, as a commit holds them: paths from the checkout to bytes, from the
    /// object database, without filters. A link or a submodule among them is an error.
    pub fn files_at(&self, commit: &Oid, places: &[&str]) -> Result<BTreeMap<String, Vec<u8>>, GitError> {
        self.contents(commit, &self.blobs(commit, places)?)
    }

    /// Which plain files a commit holds in some folders, or at some paths: paths from the checkout to blobs.
    pub fn blobs(&self, commit: &Oid, places: &[&str]) -> Result<BTreeMap<String, Oid>, GitError> {
        self.entries(commit, places, &|_| true)
    }

    /// Which files differ from the checked out commit. `there` are files as they were read, by path from the checkout, none for
    /// one that is looked for and not there; the commit is asked for them, and for all files in `places` that `counts` says
    /// yes to. Line breaks do not count, since git may translate them; what is staged is not committed.
    pub fn uncommitted(
        &self,
        there: &BTreeMap<&str, Option<&[u8]>>,
        places: &[&str],
        counts: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Uncommitted>, GitError> {
        let committed = match self.state()?.head {
            Some(head) => {
                let named = there.keys().copied().filter(|path| !places.iter().any(|place| is_below(place, path)));
                let asked: Vec<&str> = places.iter().copied().chain(named).collect();
                let entries = self.entries(&head, &asked, &|path| there.contains_key(path) || counts(path))?;
                self.contents(&head, &entries)?
            }
            None => BTreeMap::new(),
        };
        let paths: BTreeSet<&str> = there.keys().copied().chain(committed.keys().map(String::as_str)).collect();
        let judge = |path: &str| match (there.get(path).copied().flatten(), committed.get(path)) {
            (Some(here), Some(held)) if same_lines(here, held) => None,
            (Some(_), Some(_)) => Some(Uncommitted::Modified),
            (Some(_), None) => Some(Uncommitted::Untracked),
            (None, Some(_)) => Some(Uncommitted::Deleted),
            (None, None) => None,
        };
        Ok(paths.into_iter().filter_map(|path| Some((path.to_owned(), judge(path)?))).collect())
    }

    /// What blobs of a commit hold, by path.
    pub fn contents(&self, commit: &Oid, blobs: &BTreeMap<String, Oid>) -> Result<BTreeMap<String, Vec<u8>>, GitError> {
        if blobs.is_empty() {
            return Ok(BTreeMap::new());
        }
        let action = "reading files of a revision";
        let mut input = String::new();
        for oid in blobs.values() {
            input.push_str(oid.as_str());
            input.push('\n');
        }
        let result =
            self.git(GitCommandKind::Read, action).args(["cat-file", "--batch"]).input(input.into_bytes()).done()?;
        let broken = || GitError::Failed { action, stderr: "an object is missing or cut short".to_owned() };
        let mut rest = result.output.as_slice();
        let mut files = BTreeMap::new();
        for path in blobs.keys() {
            let line = rest.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
            let (head, after) = (rest.get(..line), rest.get(line + 1..));
            let (head, after) = (head.ok_or_else(broken)?, after.ok_or_else(broken)?);
            let head = String::from_utf8_lossy(head).into_owned();
            let mut parts = head.split(' ').skip(1);
            let (Some("blob"), Some(size)) = (parts.next(), parts.next()) else { return Err(broken()) };
            let size: usize = size.parse().map_err(|_| broken())?;
            if size > LARGEST {
                let (path, commit) = (path.clone(), commit.short().to_owned());
                return Err(GitRefusal::TooLarge { path, commit, most: LARGEST }.into());
            }
            files.insert(path.clone(), after.get(..size).ok_or_else(broken)?.to_vec());
            rest = after.get(size + 1..).unwrap_or_default();
        }
        Ok(files)
    }

    fn entries(
        &self,
        commit: &Oid,
        places: &[&str],
        counts: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Oid>, GitError> {
        let action = "listing files of a revision";
        let args = ["--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree", commit.as_str(), "--"];
        let places: Vec<String> = places.iter().map(|place| self.below_top(place)).collect();
        let result = self.git(GitCommandKind::Read, action).args(args).args(&places).done()?;
        let mut entries = BTreeMap::new();
        for line in result.output.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
            let line =
                std::str::from_utf8(line).map_err(|_| GitRefusal::NameNotUtf8 { commit: commit.short().to_owned() })?;
            let (head, path) = line.split_once('\t').unwrap_or((line, ""));
            let mut parts = head.split(' ');
            let (mode, oid) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
            let path = path.strip_prefix(&self.prefix).unwrap_or(path).to_owned();
            if !counts(&path) {
                continue;
            }
            let found = match mode {
                "100644" | "100755" | "100664" => None,
                "120000" => Some("symbolic link"),
                "160000" => Some("submodule"),
                _ => Some("thing of unknown kind"),
            };
            if let Some(found) = found {
                return Err(GitRefusal::NotPlain { path, commit: commit.short().to_owned(), found }.into());
            }
            entries.insert(path, Oid::parse(oid)?);
            if entries.len() > MOST_FILES {
                return Err(GitRefusal::TooManyFiles { commit: commit.short().to_owned(), most: MOST_FILES }.into());
            }
        }
        Ok(entries)
    }
}
