//! `engine apply`: the same road to its end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, Args};

use super::approvals::{self, ApprovalArgs};
use super::contradiction::Contradiction;
use super::keys;
use crate::checkout::{Checkout, Guard};
use crate::cli::global::Global;
use crate::model::known::engine_keys;
use crate::model::lock::Lock;
use crate::pipeline::{Program, Request, Run, Until, Written};
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::keys::ENGINE_KEY_PATH;
use crate::session::planned::{Mode, PlanForm, Replaced, TreeSink, exit_of, shown, take};
use crate::session::session::Session;
use crate::session::stored_plan::Stored;
use crate::types::duration::duration;

/// Pause between two runs of `apply --wait`.
const PAUSE: Duration = Duration::from_secs(2);

/// Longest age of a stored plan without `--max-age`.
const MAX_AGE: Duration = Duration::from_hours(24);

/// Arguments of `apply`.
#[derive(Debug, Args)]
#[command(arg(yes()))]
#[allow(clippy::struct_excessive_bools, reason = "one a flag")]
pub(crate) struct Apply {
    /// A plan stored by `engine plan --out`.
    #[arg(value_name = "PLAN")]
    pub(crate) plan: Option<PathBuf>,
    /// Contact no cluster, and render from specs, templates and lock alone. Links neither open nor close.
    #[arg(long)]
    pub(crate) locked: bool,
    /// Where it is written. Hidden: there is one value.
    #[arg(long, value_name = "WHERE", default_value = "tree", hide = true)]
    pub(crate) to: String,
    /// Make the engine's key, by which exporters recognise the engine, unless spec or lock has one.
    #[arg(long)]
    pub(crate) create_keys: bool,
    /// Run again while something waits, for this long at most: `90s`, `10m`, `1h`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Exit with 3 when something still waits.
    #[arg(long)]
    pub(crate) fail_on_wait: bool,
    /// Refuse a PLAN that is older than this; default 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_age: Option<Duration>,
    #[command(flatten)]
    pub(crate) approvals: ApprovalArgs,
}

/// `--yes`, which scripts say; nothing reads it, since writing to the tree never asks.
fn yes() -> Arg {
    Arg::new("yes")
        .long("yes")
        .action(ArgAction::SetTrue)
        .hide(true)
        .help("Do not ask before writing, which `engine apply` never does")
}

impl Apply {
    /// Refuses flags that would do nothing beside others.
    fn check(&self, only: bool) -> Result<(), CommandError> {
        let (trust, delete) = (!self.approvals.accept_trust.is_empty(), self.approvals.allow_delete);
        if self.plan.is_some() {
            for (flag, given) in [("--cluster", only), ("--accept-trust", trust), ("--allow-delete", delete)] {
                Contradiction::HeldByPlan { flag }.when(given)?;
            }
            Contradiction::RestoredByPlan.when(self.approvals.restore_links)?;
            Contradiction::PlanAsks.when(self.locked)?;
            Contradiction::PlanIsOneRun.when(self.wait.is_some())?;
            Contradiction::KeyNotInPlan.when(self.create_keys)?;
        }
        Contradiction::AgeOfNothing.when(self.max_age.is_some() && self.plan.is_none())?;
        if self.locked {
            let (keys, wait) = (self.create_keys, self.wait.is_some());
            let flags = [
                ("--accept-trust", trust),
                ("--allow-delete", delete),
                ("--create-keys", keys),
                ("--wait", wait),
                ("--restore-links", self.approvals.restore_links),
            ];
            Contradiction::nothing_decided("--locked", &flags)?;
        }
        Contradiction::RestoredOfOne.when(only && self.approvals.restore_links)?;
        Contradiction::TrustOfAll.when(only && trust)
    }
}

/// `engine apply`.
pub(crate) fn run(arguments: &Global, apply: &Apply, printer: &Printer) -> Result<Exit, CommandError> {
    approvals::target(&apply.to)?;
    apply.check(arguments.cluster.is_some())?;
    let root = Checkout::open(&arguments.directory)?;
    let guard = root.lock()?;
    if let Some(path) = &apply.plan {
        return carry_out(arguments, apply, path, &guard, printer);
    }
    let deadline = apply.wait.map(|time| Instant::now() + time);
    // what is approved is approved for all runs of one command: the first one writes a lock, beside which `all` is none
    let mut request = None;
    loop {
        let outcome = one_run(arguments, apply, &guard, &mut request, printer)?;
        let over = deadline.is_none_or(|deadline| Instant::now() + PAUSE >= deadline);
        if !outcome.waits || over {
            return Ok(outcome.end(apply, printer));
        }
        if outcome.written == Written::default() {
            std::thread::sleep(PAUSE);
        }
    }
}

/// How a run ended.
struct AppliedRun {
    exit: Exit,
    /// Something still waits.
    waits: bool,
    written: Written,
    /// The plan as JSON, where that is asked for.
    document: Option<String>,
}

impl AppliedRun {
    /// Ends the command: with JSON one document, that of the last run, which comes when nothing can fail any more.
    fn end(self, apply: &Apply, printer: &Printer) -> Exit {
        if let Some(document) = &self.document {
            printer.out(document);
        }
        if self.waits && apply.fail_on_wait { self.exit.and(Exit::Partial) } else { self.exit }
    }
}

/// Carries a stored plan out, if what the clusters publish now leads to the same.
fn carry_out(
    arguments: &Global,
    apply: &Apply,
    path: &Path,
    guard: &Guard<'_>,
    printer: &Printer,
) -> Result<Exit, CommandError> {
    let stored = Stored::read(path)?;
    let session = Session::open(guard, None, printer, false)?;
    let request = stored.request(&session, apply.max_age.unwrap_or(MAX_AGE))?;
    let planned = take(&session, &request, Mode::Fetch, Until::Planned, printer)?;
    stored.check(&planned)?;
    let mode = Mode::Stored(planned.observed.unwrap_or_default());
    Ok(write(arguments, &session, guard, &request, mode, printer)?.end(apply, printer))
}

fn one_run(
    arguments: &Global,
    apply: &Apply,
    guard: &Guard<'_>,
    request: &mut Option<Request>,
    printer: &Printer,
) -> Result<AppliedRun, CommandError> {
    let open = || {
        if apply.approvals.restore_links {
            return Session::restored(guard, arguments.cluster.as_ref(), printer);
        }
        Session::open(guard, arguments.cluster.as_ref(), printer, apply.locked)
    };
    let mut session = open()?;
    let request = match request {
        Some(request) => request,
        None => request.insert(approvals::request(arguments, &apply.approvals, !session.input.lock.is_empty())?),
    };
    if apply.create_keys && engine_keys(&session.program.mesh, &session.program.lock).is_empty() {
        let id = keys::create(guard, &session.program.lock)?.id();
        printer.status(&format!(
            "made the engine's key `{id}`: private half in {}, public half in {}",
            ENGINE_KEY_PATH,
            Lock::MESH_PATH
        ));
        session = open()?;
    }
    let mode = if apply.locked { Mode::Locked } else { Mode::Fetch };
    write(arguments, &session, guard, request, mode, printer)
}

/// Takes a run to its end.
fn write(
    arguments: &Global,
    session: &Session<'_>,
    guard: &Guard<'_>,
    request: &Request,
    mode: Mode<'_>,
    printer: &Printer,
) -> Result<AppliedRun, CommandError> {
    let mut document = None;
    let form = PlanForm { output: arguments.output, verbose: arguments.verbose, brief: false };
    let mut sink = TreeSink {
        session,
        guard,
        planned: |program: &Program, run: &Run| {
            let text = shown(program, run, session, &Replaced::new(), form);
            if arguments.output == Output::Json {
                document = Some(text);
            } else {
                printer.form(arguments.output, &text);
            }
            for warning in &run.plan.warnings {
                printer.status(&warning.text());
            }
        },
    };
    let run = take(session, request, mode, Until::Written(&mut sink), printer)?;
    if run.written != Written::default() {
        let (written, deleted) = (run.written.written, run.written.deleted);
        let next = match run.plan.counts().waiting {
            0 => "commit and sync them".to_owned(),
            1 => "commit and sync them, then run again for the step that waits".to_owned(),
            waiting => format!("commit and sync them, then run again for the {waiting} steps that wait"),
        };
        let files = if written == 1 { "file" } else { "files" };
        printer.status(&format!(
            "Applied: {written} {files} written (objects, lock/, kustomization.yaml), {deleted} deleted; {next}."
        ));
    }
    Ok(AppliedRun { exit: exit_of(&run.plan), waits: run.plan.counts().waiting > 0, written: run.written, document })
}
