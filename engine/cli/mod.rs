//! The command line: arguments, commands, words and exit codes. The edge where clock, environment and terminal come in.
#![allow(
    clippy::disallowed_methods,
    reason = "this edge reads the clock and the environment and hands them inwards as values"
)]

pub mod argocd;
pub mod args;
pub mod base;
pub mod bundle;
pub(crate) mod clock;
pub mod exit;
pub mod facts;
pub mod init;
pub mod invite;
pub mod keys;
pub mod manifests;
pub mod markdown;
mod memory;
pub mod picture;
pub mod report;
pub mod serve;
pub mod session;
pub mod status;
pub mod stored;
pub mod turn;
pub mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use args::Arguments;
pub use exit::{Exit, Failure};
pub use report::{Printer, plan_text};
pub use session::{ENGINE_KEY_PATH, Session};
pub use turn::{Mode, Request, Written};

use args::{Command, GraphFormat, Keys, Output};

/// Runs the engine with these arguments, the first being its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // words of a script may be of somebody else, and the error repeats them
            let shown = words.iter().map(|word| crate::text::visible(&word.to_string_lossy()).into_owned());
            let error = Arguments::try_parse_from(shown).err().unwrap_or(error);
            let (printer, text) = (Printer::new(false), error.render().ansi().to_string());
            if error.use_stderr() {
                printer.alarm(text.trim_end());
                return ExitCode::from(Exit::Usage.code());
            }
            printer.show(&text);
            return ExitCode::from(Exit::Done.code());
        }
    };
    let printer = Printer::new(arguments.quiet);
    let exit = dispatch(&arguments, &printer).unwrap_or_else(|failure| report_failure(&arguments, &printer, &failure));
    let exit = match printer.failure() {
        Some(words) => {
            printer.error(&words);
            exit.and(Exit::Machine)
        }
        None => exit,
    };
    ExitCode::from(exit.code())
}

/// Runs one command on a checkout, with the caller's printer.
pub fn run_on(checkout: &std::path::Path, words: &[&str], printer: &Printer) -> Result<Exit, Failure> {
    let before = [OsString::from("engine"), OsString::from("-C"), checkout.as_os_str().to_owned()];
    let parsed = Arguments::try_parse_from(before.into_iter().chain(words.iter().map(OsString::from)));
    let arguments = parsed.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    Ok(dispatch(&arguments, printer).unwrap_or_else(|failure| report_failure(&arguments, printer, &failure)))
}

fn report_failure(arguments: &Arguments, printer: &Printer, failure: &Failure) -> Exit {
    if failure.findings.sorted().is_empty() {
        printer.error(&failure.message);
    } else {
        printer.findings(&failure.findings);
    }
    // an empty stdout is what Argo CD's plugin promises of a failure
    if arguments.output == Output::Json && !matches!(arguments.command, Command::Argocd { .. }) {
        let findings: Vec<_> = failure.findings.sorted().into_iter().map(report::finding_json).collect();
        let document = serde_json::json!({
            "version": crate::plan::PLAN_VERSION, "exit": failure.exit.code(), "error": failure.message, "findings": findings,
        });
        printer.data(&format!("{document}\n"));
    }
    if arguments.output == Output::Markdown && failure.exit != Exit::Usage {
        printer.data(&markdown::findings_markdown(&failure.message, &failure.findings.sorted()));
    }
    failure.exit
}

fn dispatch(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    if arguments.output == Output::Markdown && !matches!(arguments.command, Command::Plan(_)) {
        return Err(Failure::new(
            Exit::Usage,
            "--output markdown is for `engine plan`; this command has text and json",
        ));
    }
    match &arguments.command {
        Command::Plan(plan) => turn::plan(arguments, plan, printer),
        Command::Apply(apply) => turn::apply(arguments, apply, printer),
        Command::Watch(watch) => watch::run(arguments, watch, printer),
        Command::Status => status::run(arguments, printer),
        Command::Report(report) => picture::run(arguments, report, printer),
        Command::Graph { format } => graph(arguments, *format, printer),
        Command::Keys { command: Keys::New } => keys::new(arguments, printer),
        Command::Keys { command: Keys::List } => keys::list(arguments, printer),
        Command::Keys { command: Keys::Other(words) } => Err(unknown("keys ", words)),
        Command::Init(init) => init::run(arguments, init, printer),
        Command::Invite(invite) => invite::run(arguments, invite, printer),
        Command::Export(export) => bundle::export(arguments, export, printer),
        Command::Import(import) => bundle::import(arguments, import, printer),
        Command::Argocd { command } => argocd::run(arguments, command, printer),
        Command::Manifests { command } => manifests::run(arguments, command, printer),
        Command::Schema => {
            printer.data(&format!("{:#}\n", crate::spec::schema()));
            Ok(Exit::Done)
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "engine", &mut text);
            printer.data(&String::from_utf8_lossy(&text));
            Ok(Exit::Done)
        }
        Command::Man => {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut text);
            rendered.map_err(|error| Failure::new(Exit::Machine, format!("writing the manual page: {error}")))?;
            printer.data(&String::from_utf8_lossy(&text));
            Ok(Exit::Done)
        }
        Command::Serve { role } => serve::run(role, printer),
        Command::Demo { keep } => crate::demo::run(keep.as_deref(), printer),
        Command::Other(words) => Err(unknown("", words)),
    }
}

/// Commands of the design that this version does not have.
const OTHER_COMMANDS: [&str; 6] = ["agent", "doctor", "probe", "revoke", "rotate", "verify"];

fn refused(what: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("{what} is not part of this version of the engine, {}", env!("CARGO_PKG_VERSION")),
    )
}

fn unknown(before: &str, words: &[String]) -> Failure {
    let word = words.first().map(String::as_str).unwrap_or_default();
    if OTHER_COMMANDS.contains(&word) {
        return refused(&format!("`engine {before}{word}`"));
    }
    let root = Arguments::command();
    let command = if before.is_empty() { Some(&root) } else { root.find_subcommand(before.trim()) };
    let names: Vec<&str> =
        command.into_iter().flat_map(clap::Command::get_subcommands).map(clap::Command::get_name).collect();
    let hint = crate::diagnostic::did_you_mean(word, names.iter().copied());
    let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Failure::new(
        Exit::Usage,
        format!("there is no command `{before}{}`{hint} (`engine --help` lists them)", word.escape_debug()),
    )
}

fn graph(arguments: &Arguments, format: GraphFormat, printer: &Printer) -> Result<Exit, Failure> {
    let checkout = crate::checkout::Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments, printer, false)?;
    let graph = crate::graph::Graph::build(&session.program.mesh, &session.program.lock, arguments.cluster.as_ref())
        .map_err(crate::pipeline::Stop::Cycle)?;
    let text = match format {
        GraphFormat::Json => format!("{:#}\n", graph.to_json()),
        _ if arguments.output == Output::Json => format!("{:#}\n", graph.to_json()),
        GraphFormat::Dot => graph.to_dot(),
        GraphFormat::Mermaid => graph.to_mermaid(),
    };
    printer.data(&text);
    Ok(Exit::Done)
}
