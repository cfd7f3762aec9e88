//! `engine policy`: the policy by itself.

use clap::Subcommand;
use serde_json::json;

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::model::layout::POLICY;
use crate::pipeline::Stop;
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::session::Session;

/// What to do with the policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check specs and lock against `policy.yaml`; contacts no cluster.
    Test,
}

/// `engine policy test`.
pub(crate) fn run(arguments: &Global, command: &PolicyCommand, printer: &Printer) -> Result<Exit, CommandError> {
    let PolicyCommand::Test = command;
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, None, printer, false)?;
    let program = &session.program;
    let findings = program.violations();
    if findings.has_errors() {
        return Err(Stop::Findings(findings).into());
    }
    let clusters = program.mesh.clusters.len();
    if arguments.output == Output::Json {
        let document = json!({ "version": 1, "policy": program.has_policy(), "clusters": clusters, "findings": [] });
        printer.out(&format!("{document}\n"));
    } else if program.has_policy() {
        printer.status(&format!("{POLICY} admits the mesh and its {clusters} clusters"));
    } else {
        printer.status(&format!("there is no {POLICY}, so everything is admitted"));
    }
    Ok(Exit::Done)
}
