//! The checkout's history: what a run wrote becomes a commit, and the remote's commits become files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::checkout::{Guard, ReadLimits, Stamps};
use crate::git::{Author, CommitTarget, GitError, Oid, Pull, Push, Repository, Uncommitted};
use crate::model::layout::{RENDERED, SPECS, TEMPLATES, is_below, is_yaml, is_yaml_of};
use crate::model::link::Link;
use crate::model::lock::Stage;
use crate::pipeline::plan::{Action, Plan};
use crate::session::command_error::CommandError;
use crate::session::session::Session;
use crate::watch::error::WatchError;
use crate::watch::files::OUTPUT;
use crate::watch::options::Watch;
use crate::watch::scheduler::Causes;

/// Most lines of a list in a message.
const MOST_LISTED: usize = 20;
/// Coarsest tick of a file system's times: a file that changed within it may change again and keep its stamp.
const TICK: Duration = Duration::from_secs(2);

/// The history of a checkout, as far as a watch has to do with it.
#[allow(clippy::struct_excessive_bools, reason = "what was asked for, and what is left to do")]
pub(super) struct History {
    repository: Repository,
    author: Author,
    target: CommitTarget,
    commit: bool,
    push: bool,
    pull: bool,
    /// Something was committed and not pushed yet.
    unpushed: bool,
    /// What the files of each folder are, as they were last looked at.
    scanned: BTreeMap<String, Scanned>,
    /// Why runs were taken since the last commit.
    causes: Vec<String>,
}

/// What became of a run's files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Nothing was to be committed or pushed.
    Nothing,
    /// It is committed, and pushed where that was wanted.
    Done(String),
    /// The remote had other commits, which are here now: take another run.
    Again(String),
}

impl History {
    /// The history of a checkout; `None` when a watch has nothing to do with it.
    pub(super) fn open(dir: &Path, watch: &Watch) -> Result<Option<Self>, CommandError> {
        let wanted = watch.commit || watch.pull.is_some();
        let repository = match Repository::discover(dir) {
            Ok(found) => found,
            Err(error) if wanted => return Err(error.into()),
            Err(_) => None,
        };
        let Some(repository) = repository else {
            let flag = if watch.commit { "--commit" } else { "--pull" };
            let absent = WatchError::NoWorkTree { flag, folder: dir.to_owned() };
            return if wanted { Err(absent.into()) } else { Ok(None) };
        };
        let mut author: Author = watch.author.parse().map_err(WatchError::Author)?;
        if watch.sign {
            author = author.signs(repository.signing()?);
            repository.try_signing(&author)?;
        }
        let target = watch.branch.clone().map_or(CommitTarget::Head, CommitTarget::Branch);
        let (commit, push, pull) = (watch.commit, watch.push, watch.pull.is_some());
        Ok(Some(Self {
            repository,
            author,
            target,
            commit,
            push,
            pull,
            unpushed: push,
            scanned: BTreeMap::new(),
            causes: Vec::new(),
        }))
    }

    /// The folder in which git's lock of the index comes and goes.
    pub(super) fn index_folder(&self) -> PathBuf {
        self.repository.index_folder().to_owned()
    }

    /// Whether a run may begin: no one is in the middle of a merge or a rebase.
    pub(super) fn ready(&self) -> Result<(), CommandError> {
        match self.repository.state()?.busy {
            Some(busy) => Err(GitError::Busy(busy).into()),
            None => Ok(()),
        }
    }

    /// Takes the remote's commits. Each message says what came.
    pub(super) fn pull(&mut self) -> Result<Vec<String>, CommandError> {
        if !self.pull {
            return Ok(Vec::new());
        }
        Ok(match self.repository.pull(&OUTPUT)? {
            Pull::Unchanged => Vec::new(),
            moved @ Pull::Moved { .. } => vec![Self::moved(&moved)],
        })
    }

    fn moved(pull: &Pull) -> String {
        let Pull::Moved { from, to, dropped, rewritten } = pull else { return String::new() };
        let mut message = format!("pulled {}..{}", from.short(), to.short());
        if *rewritten {
            message.push_str(", which replaces what the remote had");
        }
        if *dropped > 0 {
            message.push_str(&format!("; {dropped} commits of ours that were not pushed are made anew"));
        }
        message
    }

    /// Commits what runs wrote, and pushes. `again`: whether another run may be asked for.
    pub(super) fn record(
        &mut self,
        guard: &Guard<'_>,
        plan: &Plan,
        causes: &Causes,
        again: bool,
    ) -> Result<Recorded, CommandError> {
        if !self.commit {
            return Ok(Recorded::Nothing);
        }
        let cause = causes.to_string();
        if !cause.is_empty() && self.causes.len() < MOST_LISTED {
            self.causes.push(cause);
        }
        let paths = self.differing(guard)?;
        let mut done = Vec::new();
        if !paths.is_empty() {
            let message = message(plan, &paths, &self.causes);
            if let Some(commit) = self.repository.commit(&paths, &message, &self.author, &self.target)? {
                let title = message.lines().next().unwrap_or_default();
                done.push(format!("committed {} {title}", commit.short()));
                self.unpushed = self.push;
            }
        }
        self.causes.clear();
        if self.unpushed {
            let branch = match &self.target {
                CommitTarget::Head => None,
                CommitTarget::Branch(name) => Some(name.as_str()),
            };
            match self.repository.push(branch)? {
                Push::Done => {
                    self.unpushed = false;
                    if !done.is_empty() {
                        done.push("pushed".to_owned());
                    }
                }
                Push::Rejected { why } if again => {
                    let message = format!("the push was rejected ({why})");
                    return Ok(match self.repository.pull(&OUTPUT)? {
                        Pull::Unchanged => Recorded::Again(format!("{message}; once more")),
                        moved @ Pull::Moved { .. } => Recorded::Again(format!("{message}; {}", Self::moved(&moved))),
                    });
                }
                Push::Rejected { why } => return Err(WatchError::PushRejected { why }.into()),
            }
        }
        Ok(if done.is_empty() { Recorded::Nothing } else { Recorded::Done(done.join(", ")) })
    }

    /// What a run would rest on and is not committed: specs, templates, and other files that specs name. Nothing where no one
    /// commits.
    pub(super) fn uncommitted(&self, session: &Session<'_>) -> Result<BTreeMap<String, Uncommitted>, CommandError> {
        if !self.commit {
            return Ok(BTreeMap::new());
        }
        let sources = session.input.specs.iter().chain(&session.input.templates);
        let mut there: BTreeMap<&str, Option<&[u8]>> =
            sources.map(|source| (source.path.as_ref(), Some(source.bytes.as_slice()))).collect();
        there.extend(session.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_deref())));
        Ok(self.repository.uncommitted(&there, &[SPECS, TEMPLATES], &is_ours)?)
    }

    /// All files of ours that differ from what is checked out, whoever wrote or deleted them: a run, one whose commit failed,
    /// an engine that was killed, or someone by hand.
    fn differing(&mut self, guard: &Guard<'_>) -> Result<BTreeSet<String>, CommandError> {
        let mut stamps = Stamps::new();
        for folder in OUTPUT {
            stamps.extend(guard.stamps(folder)?);
        }
        self.scanned.retain(|folder, _| stamps.contains_key(folder));
        for (folder, stamp) in stamps {
            let before = self.scanned.get(&folder).filter(|scanned| scanned.stamp == stamp);
            if before.is_some_and(|scanned| scanned.settled) && !guard.is_remote() {
                continue;
            }
            let since = before.map_or_else(Instant::now, |scanned| scanned.since);
            let settled = since.elapsed() > TICK;
            let files = guard.read_tree(&folder, &|path| is_yaml_of(&folder, path), ReadLimits::OUTPUT)?;
            // no file of ours has such line breaks: git put them there, and a commit holds none
            let is_translated = |bytes: &[u8]| bytes.windows(2).any(|two| two == b"\r\n");
            let (translated, plain): (Vec<_>, Vec<_>) = files.iter().partition(|(_, bytes)| is_translated(bytes));
            let paths: Vec<&String> = plain.into_iter().map(|(path, _)| path).collect();
            let translated = translated.into_iter().map(|(path, _)| path.clone()).collect();
            let blobs = self.repository.hashed(&paths)?.into_iter().collect();
            self.scanned.insert(folder, Scanned { stamp, since, settled, blobs, translated });
        }
        let committed = self.repository.committed(&OUTPUT)?;
        let on_disk = |path: &String| {
            let (folder, _) = path.rsplit_once('/')?;
            let scanned = self.scanned.get(folder)?;
            (scanned.blobs.contains_key(path) || scanned.translated.contains(path)).then_some(())
        };
        let new = self.scanned.values().flat_map(|scanned| &scanned.blobs);
        let new = new.filter(|(path, oid)| committed.get(*path) != Some(oid)).map(|(path, _)| path.clone());
        // a file that git is told to leave out, such as by a sparse checkout, was not deleted by us
        let gone = committed.keys().filter(|path| is_ours(path) && on_disk(path).is_none());
        let gone = gone.filter(|path| !self.repository.is_left_out(path)).cloned();
        Ok(new.chain(gone).collect())
    }
}

/// What the files of a folder were when it was last looked at.
struct Scanned {
    stamp: u64,
    /// When it had this stamp first.
    since: Instant,
    /// A change after that scan shows in the stamp.
    settled: bool,
    /// Blobs by path.
    blobs: BTreeMap<String, Oid>,
    /// Files whose line breaks git translated.
    translated: BTreeSet<String>,
}

/// Whether a path of a commit is one that the engine reads: YAML, and nothing that begins with a dot.
fn is_ours(path: &str) -> bool {
    is_yaml(path) && !path.split('/').any(|part| part.starts_with('.'))
}

/// The message of a commit: what changed, and why.
fn message(plan: &Plan, paths: &BTreeSet<String>, causes: &[String]) -> String {
    let part = |path: &String| path.split('/').nth(1).map(str::to_owned);
    let rendered = paths.iter().filter(|path| is_below(RENDERED, path));
    let clusters: BTreeSet<String> = rendered.filter_map(part).collect();
    let moves: Vec<String> = plan
        .moves
        .iter()
        .map(|(Link { reader, peer }, link)| {
            let stage = |stage: Option<Stage>| stage.map_or("no link", Stage::as_str);
            format!("* {reader} reads {peer}: {} -> {}", stage(link.from), stage(link.to))
        })
        .collect();
    let title = match clusters.len() {
        0 => "lock: what was learned".to_owned(),
        1..=3 => format!("rendered: {}", clusters.into_iter().collect::<Vec<_>>().join(", ")),
        many => format!("rendered: {many} clusters"),
    };
    let mut counts: BTreeMap<Action, usize> = BTreeMap::new();
    let objects = plan.steps.iter().flat_map(|step| &step.objects).map(|object| object.action);
    for action in objects {
        *counts.entry(action).or_default() += 1;
    }
    let mut text = format!("{title}\n\n{} files.", paths.len());
    for (action, count) in counts {
        let word = match action {
            Action::Create => "created",
            Action::Update => "updated",
            Action::Delete => "deleted",
        };
        text.push_str(&format!(" Objects {word}: {count}."));
    }
    text.push('\n');
    section(&mut text, "Why:", &causes.iter().map(|cause| format!("* {cause}")).collect::<Vec<_>>());
    let approved = plan.trust_changes.iter().filter(|change| change.verdict == crate::model::trust::Verdict::Approved);
    let approved: Vec<String> = approved.map(|change| format!("* {}", change.name())).collect();
    section(&mut text, "Trust changes accepted:", &approved);
    section(&mut text, "Links:", &moves);
    text
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.push_str(&format!("\n{title}\n"));
    for line in lines.iter().take(MOST_LISTED) {
        text.push_str(line);
        text.push('\n');
    }
    if lines.len() > MOST_LISTED {
        text.push_str(&format!("* and {} more\n", lines.len() - MOST_LISTED));
    }
}
