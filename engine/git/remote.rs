//! Fetching, fast-forwarding and pushing.

use std::collections::BTreeSet;

use crate::git::run::GitCommandKind;
use crate::git::{GitError, GitRefusal, Oid, Purpose, Repository, branch_name};

/// What a remote runs when it is fetched from: git's own program, whatever `remote.*.uploadpack` names.
const UPLOAD: &str = "--upload-pack=git-upload-pack";
/// What a remote runs when it is pushed to: git's own program, whatever `remote.*.receivepack` names.
const RECEIVE: &str = "--receive-pack=git-receive-pack";

/// What came of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pull {
    /// The remote has nothing that is not here.
    Unchanged,
    Moved {
        from: Oid,
        /// To the remote's commit.
        to: Oid,
        /// Commits of our own that were dropped, since the next run makes them anew.
        dropped: usize,
        /// The remote's branch was rewritten.
        rewritten: bool,
    },
}

/// What came of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// The remote has it.
    Done,
    /// The remote has other commits.
    Rejected { why: String },
}

/// A branch and its remote.
struct UpstreamBranch {
    remote: String,
    branch: String,
    /// The reference here that follows it.
    tracking: String,
}

impl Repository {
    fn upstream(&self, branch: &str) -> Result<UpstreamBranch, GitError> {
        let read = |name: String| {
            let result = self
                .git(GitCommandKind::Read, "reading the branch's remote")
                .args(["config", "--get", &name])
                .outcome()?;
            Ok::<_, GitError>(result.ok.then(|| result.text().trim().to_owned()).filter(|text| !text.is_empty()))
        };
        let remote = read(format!("branch.{branch}.remote"))?.unwrap_or_else(|| "origin".to_owned());
        let merge = read(format!("branch.{branch}.merge"))?;
        let theirs = merge.as_deref().and_then(|merge| merge.strip_prefix("refs/heads/")).unwrap_or(branch).to_owned();
        let odd = remote.is_empty() || remote.starts_with('-') || remote == "." || remote.contains("::");
        if odd {
            return Err(GitRefusal::Remote { remote }.into());
        }
        let tracking = format!("refs/remotes/{remote}/{}", branch_name(&theirs)?);
        Ok(UpstreamBranch { remote, branch: theirs, tracking })
    }

    fn known(&self, reference: &str) -> Result<Option<Oid>, GitError> {
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{reference}^{{commit}}")];
        let result = self.git(GitCommandKind::Read, "reading a reference").args(args).outcome()?;
        if result.ok { Oid::parse(&result.text()).map(Some) } else { Ok(None) }
    }

    /// Fetches a branch of a remote to the reference here that follows it.
    fn fetch(&self, upstream: &UpstreamBranch) -> crate::git::run::Git {
        let spec = format!("+refs/heads/{}:{}", upstream.branch, upstream.tracking);
        let args = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", UPLOAD];
        self.git(GitCommandKind::Remote, "fetching").args(args).args(["--end-of-options", &upstream.remote, &spec])
    }

    /// Takes the remote's commits of the branch that is checked out. Files in `ours` are generated: they never stand in the
    /// way, and commits that change nothing else are dropped, for the next run makes them anew. What a person changed or
    /// committed is never touched: then it is an error.
    pub fn pull(&self, ours: &[&str]) -> Result<Pull, GitError> {
        let state = self.state()?;
        if let Some(busy) = state.busy {
            return Err(GitError::Busy(busy));
        }
        let (Some(head), Some(branch)) = (state.head, state.branch) else {
            return Err(GitRefusal::NoBranch(Purpose::Pull).into());
        };
        let upstream = self.upstream(&branch)?;
        let before = self.known(&upstream.tracking)?;
        self.fetch(&upstream).done()?;
        let Some(theirs) = self.known(&upstream.tracking)? else { return Ok(Pull::Unchanged) };
        if theirs == head || self.is_ancestor(&theirs, &head)? {
            return Ok(Pull::Unchanged);
        }
        if self.is_ancestor(&head, &theirs)? {
            self.move_to(&head, &theirs, ours)?;
            return Ok(Pull::Moved { from: head, to: theirs, dropped: 0, rewritten: false });
        }
        // nothing here but what the remote had: it was rewritten, and we follow
        let rewritten = before.as_ref().is_some_and(|before| !self.is_ancestor(before, &theirs).unwrap_or(true));
        let base = if rewritten { before } else { self.merge_base(&head, &theirs)? };
        let dropped = match &base {
            Some(base) if *base == head => 0,
            Some(base) if self.is_ancestor(base, &head)? => self.own_commits(base, &head, ours)?,
            _ => return Err(GitRefusal::Apart.into()),
        };
        self.move_to(&head, &theirs, ours)?;
        Ok(Pull::Moved { from: head, to: theirs, dropped, rewritten })
    }

    fn is_ancestor(&self, one: &Oid, other: &Oid) -> Result<bool, GitError> {
        let args = ["merge-base", "--is-ancestor", one.as_str(), other.as_str()];
        Ok(self.git(GitCommandKind::Read, "comparing commits").args(args).outcome()?.ok)
    }

    fn merge_base(&self, one: &Oid, other: &Oid) -> Result<Option<Oid>, GitError> {
        let result = self
            .git(GitCommandKind::Read, "comparing commits")
            .args(["merge-base", one.as_str(), other.as_str()])
            .outcome()?;
        if result.ok { Oid::parse(result.text().lines().next().unwrap_or_default()).map(Some) } else { Ok(None) }
    }

    /// Counts the commits on top of one; an error when any of them changes more than what is generated.
    fn own_commits(&self, base: &Oid, head: &Oid, ours: &[&str]) -> Result<usize, GitError> {
        let action = "looking at commits that were not pushed";
        let range = format!("{base}..{head}");
        let count = self.ok(GitCommandKind::Read, action, &["rev-list", "--count", &range])?.text();
        let log = ["log", "-z", "--no-ext-diff", "--no-textconv", "--format=", "--name-only", "-m", &range];
        let result = self.ok(GitCommandKind::Read, action, &log)?;
        let prefixes: Vec<String> = ours.iter().map(|place| format!("{}/", self.below_top(place))).collect();
        if let Some(other) =
            result.names().find(|path| !prefixes.iter().any(|prefix| path.trim_start().starts_with(prefix)))
        {
            return Err(GitRefusal::OwnCommits { path: other.trim().to_owned() }.into());
        }
        Ok(count.trim().parse().unwrap_or_default())
    }

    /// Moves branch, index and work tree. Generated files are put back to what is committed first.
    fn move_to(&self, from: &Oid, to: &Oid, ours: &[&str]) -> Result<(), GitError> {
        let action = "moving to the remote's commit";
        let no_filters = self.no_filters()?;
        let args =
            ["diff-tree", "-r", "-z", "--no-renames", "--name-only", "--no-ext-diff", from.as_str(), to.as_str()];
        let moving: BTreeSet<String> = self.ok(GitCommandKind::Read, action, &args)?.names().collect();
        let prefixes: Vec<String> = ours.iter().map(|place| format!("{}/", self.below_top(place))).collect();
        let ours: Vec<&String> =
            moving.iter().filter(|path| prefixes.iter().any(|prefix| path.starts_with(prefix))).collect();
        if !ours.is_empty() {
            self.put_back(from, &ours, &no_filters)?;
        }
        let writing = self.git(GitCommandKind::Write, action).args(&no_filters);
        let result = writing.args(["read-tree", "-m", "-u", from.as_str(), to.as_str()]).outcome()?;
        if !result.ok {
            return Err(GitRefusal::WorkTree { stderr: crate::git::run::git_stderr(&result) }.into());
        }
        let args = ["update-ref", "-m", "isthmus: pull", "HEAD", to.as_str(), from.as_str()];
        self.ok(GitCommandKind::Write, action, &args).map(drop)
    }

    /// Puts generated files back to what a commit holds, and removes those that it does not hold.
    fn put_back(&self, commit: &Oid, paths: &[&String], no_filters: &[String]) -> Result<(), GitError> {
        let action = "putting generated files back";
        let list: Vec<u8> = paths.iter().flat_map(|path| path.bytes().chain([0])).collect();
        let top = self.ok(GitCommandKind::Read, action, &["rev-parse", "--show-toplevel"])?.text();
        let top = std::path::PathBuf::from(top.trim_end_matches('\n'));
        let mut args =
            vec!["--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree", "--name-only", commit.as_str(), "--"];
        let named: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
        let mut held = BTreeSet::new();
        for some in named.chunks(500) {
            args.truncate(8);
            args.extend(some);
            held.extend(self.ok(GitCommandKind::Read, action, &args)?.names());
        }
        for path in paths.iter().filter(|path| !held.contains(path.as_str())) {
            // one that is not there is as it should be
            drop(std::fs::remove_file(top.join(path.as_str())));
        }
        let kept: Vec<u8> = held.iter().flat_map(|path| path.bytes().chain([0])).collect();
        // the index may have been told of something else
        let reset = self.git(GitCommandKind::Write, action).args(no_filters);
        let reset = reset.args(["--literal-pathspecs", "reset", "--quiet", commit.as_str()]);
        let reset = reset.args(["--pathspec-from-file=-", "--pathspec-file-nul"]).input(list).outcome()?;
        drop(reset);
        if !kept.is_empty() {
            let put = git_at(&top, action).args(no_filters).args(["checkout-index", "--force", "-z", "--stdin"]);
            put.input(kept).done()?;
        }
        Ok(())
    }

    /// Settings that run each filter off which any configuration names, so that nothing is started for a file.
    pub(super) fn no_filters(&self) -> Result<Vec<String>, GitError> {
        let args = [
            "config",
            "--name-only",
            "-z",
            "--get-regexp",
            r"^(filter|merge|diff)\..*\.(clean|smudge|process|required|driver|command|textconv)$",
        ];
        let result = self.git(GitCommandKind::Write, "reading the configuration").args(args).outcome()?;
        let mut settings = Vec::new();
        for name in result.names() {
            let off = if name.ends_with(".required") { "false" } else { "" };
            settings.extend(["-c".to_owned(), format!("{}={off}", name.trim())]);
        }
        Ok(settings)
    }

    /// Pushes what is checked out to its upstream, or a branch of ours to one of the same name.
    pub fn push(&self, branch: Option<&str>) -> Result<Push, GitError> {
        let state = self.state()?;
        let (source, upstream) = match (branch, state.branch) {
            (Some(name), current) => {
                let name = branch_name(name)?;
                let remote = self.upstream(current.as_deref().unwrap_or(name))?.remote;
                let tracking = format!("refs/remotes/{remote}/{name}");
                (format!("refs/heads/{name}"), UpstreamBranch { remote, branch: name.to_owned(), tracking })
            }
            (None, Some(current)) => ("HEAD".to_owned(), self.upstream(&current)?),
            (None, None) => return Err(GitRefusal::NoBranch(Purpose::Push).into()),
        };
        let spec = format!("{source}:refs/heads/{}", upstream.branch);
        let mut lease = None;
        if branch.is_some() {
            // what the lease is about: the branch as the remote has it now
            let _it_may_not_have_it_yet = self.fetch(&upstream).outcome()?;
            let before = self.known(&upstream.tracking)?.map(|oid| oid.to_string()).unwrap_or_default();
            lease = Some(format!("--force-with-lease=refs/heads/{}:{before}", upstream.branch));
        }
        let args = ["push", "--porcelain", "--no-verify", "--no-signed", "--recurse-submodules=no", RECEIVE];
        let pushing = self.git(GitCommandKind::Remote, "pushing").args(args).args(lease);
        let result = pushing.args(["--end-of-options", &upstream.remote, &spec]).outcome()?;
        if result.ok {
            return Ok(Push::Done);
        }
        let text = result.text();
        let rejected = text.lines().find(|line| line.starts_with('!'));
        let raced = [
            "fetch first",
            "non-fast-forward",
            "stale info",
            "failed to update ref",
            "cannot lock ref",
            "incorrect old value",
        ];
        match rejected {
            Some(line) if raced.iter().any(|phrase| line.contains(phrase) || result.errors.contains(phrase)) => {
                Ok(Push::Rejected { why: line.trim_start_matches('!').trim().replace('\t', " ") })
            }
            Some(line) => Err(GitError::Failed { action: "pushing", stderr: line.replace('\t', " ") }),
            None => Err(result.failed("pushing")),
        }
    }
}

fn git_at(folder: &std::path::Path, action: &'static str) -> crate::git::run::Git {
    crate::git::run::git(folder, GitCommandKind::Write, action)
}
