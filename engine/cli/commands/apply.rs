//! `engine apply`: the same road to its end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, Args};

use super::approvals::{self, Approvals};
use super::keys;
use crate::checkout::{Checkout, Guard};
use crate::cli::global::Global;
use crate::model::known::engine_keys;
use crate::model::lock::Lock;
use crate::pipeline::{Program, Run, Until, Written};
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::keys::ENGINE_KEY_PATH;
use crate::session::planned::{Mode, Replaced, TreeSink, exit_of, shown, take};
use crate::session::session::Session;
use crate::session::stored_plan::Stored;
use crate::types::duration::duration;

/// Pause between two turns of `apply --wait`.
const PAUSE: Duration = Duration::from_secs(2);

/// Arguments of `apply`.
#[derive(Debug, Args)]
#[command(arg(yes()))]
#[allow(clippy::struct_excessive_bools, reason = "one a flag")]
pub(crate) struct Apply {
    /// A plan stored by `engine plan --out`.
    #[arg(value_name = "PLAN", conflicts_with_all = ["locked", "accept_trust", "create_keys"])]
    pub(crate) plan: Option<PathBuf>,
    /// Ask nobody; make the tree from the lock.
    #[arg(long)]
    pub(crate) locked: bool,
    /// What is written.
    #[arg(long, value_name = "WHERE", default_value = "tree")]
    pub(crate) to: String,
    /// Make the engine's key, where lock and spec know none.
    #[arg(long, conflicts_with = "locked")]
    pub(crate) create_keys: bool,
    /// Turn again until nothing waits, or until this time is over: `90s`, `10m`, `1h`.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with_all = ["locked", "plan"])]
    pub(crate) wait: Option<Duration>,
    /// Exit with 3 when something still waits.
    #[arg(long)]
    pub(crate) fail_on_wait: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
    pub(crate) approvals: Approvals,
}

/// `--yes`, which scripts say; nothing reads it, since writing to the tree never asks.
fn yes() -> Arg {
    Arg::new("yes")
        .long("yes")
        .action(ArgAction::SetTrue)
        .help("Do not ask before writing. Writing to the tree never asks")
}

/// `engine apply`.
pub(crate) fn run(arguments: &Global, apply: &Apply, printer: &Printer) -> Result<Exit, CommandError> {
    approvals::target(&apply.to)?;
    let root = Checkout::open(&arguments.directory)?;
    let guard = root.lock()?;
    let deadline = apply.wait.map(|time| Instant::now() + time);
    loop {
        let (exit, waits, written) = one_turn(arguments, apply, &guard, printer)?;
        let over = deadline.is_none_or(|deadline| Instant::now() + PAUSE >= deadline);
        if !waits || over {
            let unfinished = waits && apply.fail_on_wait;
            return Ok(if unfinished { exit.and(Exit::Partial) } else { exit });
        }
        if written == Written::default() {
            std::thread::sleep(PAUSE);
        }
    }
}

fn one_turn(
    arguments: &Global,
    apply: &Apply,
    guard: &Guard<'_>,
    printer: &Printer,
) -> Result<(Exit, bool, Written), CommandError> {
    let mut session = Session::open(guard, arguments.cluster.as_ref(), printer, apply.locked)?;
    let mut request = approvals::request(arguments, &apply.approvals, !session.input.lock.is_empty())?;
    if apply.create_keys && engine_keys(&session.program.mesh, &session.program.lock).is_empty() {
        let id = keys::create(guard, &session.program.lock)?;
        printer.talk(&format!(
            "made the engine's key `{id}`: private half in {}, public half in {}",
            ENGINE_KEY_PATH,
            Lock::MESH_PATH
        ));
        session = Session::open(guard, arguments.cluster.as_ref(), printer, false)?;
    }
    let mode = match (&apply.plan, apply.locked) {
        (Some(path), _) => {
            let (resumed, observed) = Stored::read(path)?.resume(&mut session, request)?;
            request = resumed;
            Mode::Stored(observed)
        }
        (None, true) => Mode::Locked,
        (None, false) => Mode::Fetch,
    };
    let form = (arguments.output, arguments.verbose);
    let mut sink = TreeSink {
        session: &session,
        guard,
        planned: |program: &Program, run: &Run| {
            printer.form(arguments.output, &shown(program, run, &session, &Replaced::new(), form));
            for warning in &run.plan.warnings {
                printer.talk(&warning.text());
            }
        },
    };
    let run = take(&session, &request, mode, Until::Written(&mut sink), printer)?;
    if run.written != Written::default() {
        printer.talk(&format!("Applied: {} files written, {} deleted.", run.written.written, run.written.deleted));
    }
    Ok((exit_of(&run.plan), run.plan.counts().waiting > 0, run.written))
}
