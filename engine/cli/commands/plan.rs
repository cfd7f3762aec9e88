//! `engine plan`: the road up to the plan, printed.

use std::path::PathBuf;

use clap::Args;

use super::approvals::{self, ApprovalArgs};
use super::contradiction::Contradiction;
use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::pipeline::Until;
use crate::pipeline::tree::Tree;
use crate::report::text::Printer;
use crate::session::base::BaseRevision;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::planned::{Mode, PlanForm, Replaced, exit_of, shown, take};
use crate::session::session::Session;
use crate::session::stored_plan::Stored;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Contact no cluster, and plan from specs, templates, lock and rendered files alone. Links neither open nor close.
    #[arg(long)]
    pub(crate) locked: bool,
    /// What the mesh is compared with. Hidden: there is one value.
    #[arg(long, value_name = "WHERE", default_value = "tree", hide = true)]
    pub(crate) to: String,
    /// Store the plan in this file, for `engine apply FILE`.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Exit with 2 when there are changes, as in Terraform.
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
    /// Compare with this git revision, usually the target of a pull request: edits of specs, links that open and close,
    /// objects. Contacts no cluster, as with --locked.
    #[arg(long, value_name = "REF")]
    pub(crate) base: Option<String>,
    /// Print only the names of changed objects, without their fields.
    #[arg(long, conflicts_with = "verbose")]
    pub(crate) summary: bool,
    #[command(flatten)]
    pub(crate) approvals: ApprovalArgs,
}

impl PlanArgs {
    /// Refuses flags that would do nothing beside others.
    fn check(&self, only: bool) -> Result<(), CommandError> {
        let trust = !self.approvals.accept_trust.is_empty();
        let flags = [
            ("--accept-trust", trust),
            ("--allow-delete", self.approvals.allow_delete),
            ("--out", self.out.is_some()),
            ("--restore-links", self.approvals.restore_links),
        ];
        for (mode, given) in [("--base", self.base.is_some()), ("--locked", self.locked)] {
            if given {
                Contradiction::nothing_decided(mode, &flags)?;
            }
        }
        Contradiction::RestoredByPlan.when(self.out.is_some() && self.approvals.restore_links)?;
        Contradiction::RestoredOfOne.when(only && self.approvals.restore_links)?;
        Contradiction::TrustOfAll.when(only && trust)
    }
}

/// `engine plan`.
pub(crate) fn run(arguments: &Global, plan: &PlanArgs, printer: &Printer) -> Result<Exit, CommandError> {
    approvals::target(&plan.to)?;
    plan.check(arguments.cluster.is_some())?;
    let checkout = Checkout::open(&arguments.directory)?;
    let locked = plan.locked || plan.base.is_some();
    let session = if plan.approvals.restore_links {
        Session::restored(&checkout, arguments.cluster.as_ref(), printer)?
    } else {
        Session::open(&checkout, arguments.cluster.as_ref(), printer, locked && plan.base.is_none())?
    };
    let request = approvals::request(arguments, &plan.approvals, !session.input.lock.is_empty())?;
    let base = plan.base.as_ref().map(|revision| BaseRevision::read(&session, revision)).transpose()?;
    let mode = match &base {
        Some(base) => Mode::Base(base),
        None if locked => Mode::Locked,
        None => Mode::Fetch,
    };
    let run = take(&session, &request, mode, Until::Planned, printer)?;
    let tree = base.as_ref().map_or(&session as &dyn Tree, BaseRevision::tree);
    let form = PlanForm { output: arguments.output, verbose: arguments.verbose, brief: plan.summary };
    // a plan that cannot be stored is not shown either: JSON is one document
    if let Some(path) = &plan.out {
        Stored::new(&session, &request, &run)?.write(path)?;
    }
    printer.form(arguments.output, &shown(&session.program, &run, tree, &Replaced::new(), form));
    for warning in &run.plan.warnings {
        printer.status(&warning.text());
    }
    let mut exit = exit_of(&run.plan);
    if plan.detailed_exitcode && run.plan.changes_files() {
        exit = exit.and(Exit::Changes);
    }
    if let Some(path) = &plan.out {
        printer.status(&format!("stored the plan; `engine apply {}` carries exactly this out", path.display()));
    }
    Ok(exit)
}
