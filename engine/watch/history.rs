//! The checkout's history: what a turn wrote becomes a commit, and the remote's commits become files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::checkout::{Guard, Limits};
use crate::git::{Author, GitError, Pull, Push, Repository, Target};
use crate::model::layout::{RENDERED, is_below};
use crate::model::link::Link;
use crate::model::lock::Stage;
use crate::pipeline::plan::{Action, Plan};
use crate::session::command_error::CommandError;
use crate::watch::error::WatchError;
use crate::watch::files::OUTPUT;
use crate::watch::options::Watch;
use crate::watch::scheduler::Causes;

/// Most lines of a list in a message.
const MOST_LISTED: usize = 20;

/// The history of a checkout, as far as a watch has to do with it.
#[allow(clippy::struct_excessive_bools, reason = "what is wanted, and what is left to do")]
pub(super) struct History {
    repository: Repository,
    author: Author,
    target: Target,
    commit: bool,
    push: bool,
    pull: bool,
    /// Something was committed and not pushed yet.
    unpushed: bool,
    /// What an earlier engine wrote and did not commit was looked for.
    swept: bool,
    /// Why turns were taken since the last commit.
    causes: Vec<String>,
}

/// What became of a turn's files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Nothing was to be committed or pushed.
    Nothing,
    /// It is committed, and pushed where that was wanted; in words.
    Done(String),
    /// The remote had other commits, which are here now: take another turn.
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
        let author = watch.author.parse().map_err(WatchError::Author)?;
        let target = watch.branch.clone().map_or(Target::Head, Target::Branch);
        let (commit, push, pull) = (watch.commit, watch.push, watch.pull.is_some());
        Ok(Some(Self {
            repository,
            author,
            target,
            commit,
            push,
            pull,
            unpushed: push,
            swept: false,
            causes: Vec::new(),
        }))
    }

    /// The folder in which git's lock of the index comes and goes.
    pub(super) fn index_folder(&self) -> PathBuf {
        self.repository.index_folder().to_owned()
    }

    /// Whether a turn may begin: nobody is in the middle of a merge or a rebase.
    pub(super) fn ready(&self) -> Result<(), CommandError> {
        match self.repository.state()?.busy {
            Some(busy) => Err(GitError::Busy(busy).into()),
            None => Ok(()),
        }
    }

    /// Takes the remote's commits. Words say what came.
    pub(super) fn pull(&mut self) -> Result<Vec<String>, CommandError> {
        if !self.pull {
            return Ok(Vec::new());
        }
        Ok(match self.repository.pull(&OUTPUT)? {
            Pull::Unchanged => Vec::new(),
            moved @ Pull::Moved { .. } => vec![self.moved(&moved)],
        })
    }

    fn moved(&mut self, pull: &Pull) -> String {
        let Pull::Moved { from, to, dropped, rewritten } = pull else { return String::new() };
        // files that were put back must be committed again should they differ
        self.swept = false;
        let mut words = format!("pulled {}..{}", from.short(), to.short());
        if *rewritten {
            words.push_str(", which replaces what the remote had");
        }
        if *dropped > 0 {
            words.push_str(&format!("; {dropped} commits of ours that were not pushed are made anew"));
        }
        words
    }

    /// Commits what turns wrote, and pushes. `again`: whether another turn may be asked for.
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
        let words = causes.to_string();
        if !words.is_empty() && self.causes.len() < MOST_LISTED {
            self.causes.push(words);
        }
        let paths = if self.swept && self.target == Target::Head { written(plan) } else { self.differing(guard)? };
        let mut said = Vec::new();
        if !paths.is_empty() {
            let message = message(plan, &paths, &self.causes);
            if let Some(commit) = self.repository.commit(&paths, &message, &self.author, &self.target)? {
                let title = message.lines().next().unwrap_or_default();
                said.push(format!("committed {} {title}", commit.short()));
                self.unpushed = self.push;
            }
        }
        self.swept = true;
        self.causes.clear();
        if self.unpushed {
            let branch = match &self.target {
                Target::Head => None,
                Target::Branch(name) => Some(name.as_str()),
            };
            match self.repository.push(branch)? {
                Push::Done => {
                    self.unpushed = false;
                    if !said.is_empty() {
                        said.push("pushed".to_owned());
                    }
                }
                Push::Rejected { why } if again => {
                    let words = format!("the push was rejected ({why})");
                    return Ok(match self.repository.pull(&OUTPUT)? {
                        Pull::Unchanged => Recorded::Again(format!("{words}; once more")),
                        moved @ Pull::Moved { .. } => Recorded::Again(format!("{words}; {}", self.moved(&moved))),
                    });
                }
                Push::Rejected { why } => return Err(WatchError::PushRejected { why }.into()),
            }
        }
        Ok(if said.is_empty() { Recorded::Nothing } else { Recorded::Done(said.join(", ")) })
    }

    /// All generated files that differ from what is checked out, also those that an engine which was killed left.
    fn differing(&self, guard: &Guard<'_>) -> Result<BTreeSet<String>, CommandError> {
        let mut on_disk = BTreeSet::new();
        for folder in OUTPUT {
            on_disk.extend(guard.read_tree(folder, &|_| true, Limits::OUTPUT)?.into_keys());
        }
        let differing = self.repository.differing(&OUTPUT, &on_disk)?;
        // a file that git is told to leave out, such as by a sparse checkout, was not deleted by us
        Ok(differing.into_iter().filter(|path| on_disk.contains(path) || !self.repository.is_left_out(path)).collect())
    }
}

/// The files that a plan changed.
fn written(plan: &Plan) -> BTreeSet<String> {
    let files = plan.lock.iter().chain(&plan.extra).map(|file| file.path.clone());
    files.chain(plan.steps.iter().flat_map(|step| &step.objects).map(|object| object.path.clone())).collect()
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
    let approved: Vec<String> =
        approved.map(|change| format!("* {}@{}", change.cluster, change.digest.short(12))).collect();
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
