//! What a revision holds.

use std::collections::BTreeMap;

use crate::git::run::Kind;
use crate::git::{GitError, Oid, Refusal, Repository};

/// Most files that are read of a revision.
const MOST_FILES: usize = 1_000_000;
/// Most bytes of one of them.
const LARGEST: usize = 16 << 20;

/// An entry of a tree.
struct Entry {
    path: String,
    oid: Oid,
}

impl Repository {
    /// The commit that a revision names.
    pub fn resolve(&self, revision: &str) -> Result<Oid, GitError> {
        let words = ["rev-parse", "--verify", "--quiet", "--end-of-options"];
        let commit = format!("{revision}^{{commit}}");
        let said = self.git(Kind::Read, "finding a revision").words(words).words([&commit]).outcome()?;
        if said.ok {
            return Oid::parse(&said.text());
        }
        let shallow = self.git_dir.join("shallow").exists();
        Err(Refusal::NoRevision { revision: revision.to_owned(), shallow }.into())
    }

    /// The plain files of some folders, or single files, as a revision holds them: paths from the checkout to bytes, from
    /// the object database, without filters. A link or a submodule among them is an error.
    pub fn files_at(&self, revision: &str, places: &[&str]) -> Result<BTreeMap<String, Vec<u8>>, GitError> {
        let commit = self.resolve(revision)?;
        let entries = self.entries(&commit, places)?;
        let action = "reading files of a revision";
        let mut input = String::new();
        for entry in &entries {
            input.push_str(entry.oid.as_str());
            input.push('\n');
        }
        let said = self.git(Kind::Read, action).words(["cat-file", "--batch"]).input(input.into_bytes()).done()?;
        let broken = || GitError::Failed { action, said: "an object is missing or cut short".to_owned() };
        let mut rest = said.output.as_slice();
        let mut files = BTreeMap::new();
        for entry in entries {
            let line = rest.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
            let (head, after) = (rest.get(..line), rest.get(line + 1..));
            let (head, after) = (head.ok_or_else(broken)?, after.ok_or_else(broken)?);
            let head = String::from_utf8_lossy(head).into_owned();
            let mut words = head.split(' ').skip(1);
            let (Some("blob"), Some(size)) = (words.next(), words.next()) else { return Err(broken()) };
            let size: usize = size.parse().map_err(|_| broken())?;
            if size > LARGEST {
                return Err(Refusal::TooLarge { path: entry.path, revision: revision.to_owned(), most: LARGEST }.into());
            }
            files.insert(entry.path, after.get(..size).ok_or_else(broken)?.to_vec());
            rest = after.get(size + 1..).unwrap_or_default();
        }
        Ok(files)
    }

    /// Blobs by path from the checkout.
    pub(super) fn blobs(&self, commit: &Oid, places: &[&str]) -> Result<BTreeMap<String, Oid>, GitError> {
        Ok(self.entries(commit, places)?.into_iter().map(|entry| (entry.path, entry.oid)).collect())
    }

    fn entries(&self, commit: &Oid, places: &[&str]) -> Result<Vec<Entry>, GitError> {
        let action = "listing files of a revision";
        let words = ["--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree", commit.as_str(), "--"];
        let places: Vec<String> = places.iter().map(|place| self.below_top(place)).collect();
        let said = self.git(Kind::Read, action).words(words).words(&places).done()?;
        let mut entries = Vec::new();
        for line in said.output.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
            let line =
                std::str::from_utf8(line).map_err(|_| Refusal::NameNotUtf8 { commit: commit.short().to_owned() })?;
            let (head, path) = line.split_once('\t').unwrap_or((line, ""));
            let mut words = head.split(' ');
            let (mode, oid) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
            let path = path.strip_prefix(&self.prefix).unwrap_or(path).to_owned();
            let found = match mode {
                "100644" | "100755" | "100664" => None,
                "120000" => Some("symbolic link"),
                "160000" => Some("submodule"),
                _ => Some("thing of unknown kind"),
            };
            if let Some(found) = found {
                return Err(Refusal::NotPlain { path, commit: commit.short().to_owned(), found }.into());
            }
            entries.push(Entry { path, oid: Oid::parse(oid)? });
            if entries.len() > MOST_FILES {
                return Err(Refusal::TooManyFiles { commit: commit.short().to_owned(), most: MOST_FILES }.into());
            }
        }
        Ok(entries)
    }
}
