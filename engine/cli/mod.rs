//! The command line: arguments, commands, messages and exit codes. The edge where clock, environment and terminal come in.
//!
//! A command is a file of `commands`, a variant of `Command` and an arm of `dispatch`.
#![allow(
    clippy::disallowed_methods,
    reason = "this edge reads the clock and the environment and hands them inwards as values"
)]

mod commands;
mod error;
mod examples;
mod global;
mod unknown;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::commands::{
    apply, argocd, bundle, conformance, demo, graph, init, invite, keys, manifests, plan, policy, report, serve,
    status, verify, version,
};
use self::error::UsageError;
use self::examples::with_examples;
use self::global::{Global, idle_flag, without_idle_flags};
use self::unknown::{unknown, unknown_flag};
use crate::pipeline::plan::PLAN_VERSION;
use crate::report::format::Output;
use crate::report::markdown::findings_markdown;
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::watch::{self, Watch};

/// Joins Istio clusters that keep their own root CA into one mesh, from files in git.
///
/// A checkout is a folder in git: specs/ states which clusters are joined, lock/ holds what was learned from them and
/// accepted, rendered/ the Kubernetes objects that `engine apply` writes. No run writes to a cluster; a GitOps tool
/// applies rendered/. A link is one direction between two clusters: istiod of the reader reads the apiserver of the peer.
#[derive(Debug, Parser)]
#[command(name = "engine", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Exit codes:\n  \
        0   done, nothing to do, or only waiting\n  \
        1   failed: errors in specs, lock or templates\n  \
        2   changes (plan --detailed-exitcode)\n  \
        3   a cluster failed, the rest is done; or something still waits (--fail-on-wait)\n  \
        4   held back or refused, until a person accepts, edits or restores something\n  \
        5   another process of the engine works in this checkout\n  \
        6   files or network of this machine\n  \
        64  wrong usage")]
struct Arguments {
    #[command(flatten)]
    global: Global,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a run would change.
    ///
    /// Reads the files, fetches what the exporter of each cluster publishes, and prints the steps of the run: + creates,
    /// ~ updates, - deletes, … waits for an answer or a sync, ! is refused, ✗ failed. Nothing is written.
    Plan(plan::PlanArgs),
    /// Carry a run out: write lock, rendered objects and values to the checkout.
    ///
    /// Clusters are only read. Commit what was written, let a GitOps tool sync rendered/ into the clusters, and run again
    /// until nothing waits: a new cluster takes three runs.
    Apply(apply::Apply),
    /// Run on each change of the checkout or of a cluster's metadata, and at an interval.
    Watch(Watch),
    /// Show the state of each link, from lock and rendered files.
    ///
    /// STAGE is joining, joined, leaving or leaving-trust. EVIDENCE is proven if evidence showed, when the link opened, that
    /// all it needs was live. SECRET tells whether the file of the remote secret is in rendered/. PEER'S ROOT CA is when the
    /// first of the peer's root CAs expires. PEER READ BY tells who read what the lock has of the peer: the engine, or the relay of
    /// a cluster with that cluster's key.
    Status,
    /// Judge lock and rendered objects by the law of safety: do they hold all that each link needs? Contacts no cluster and
    /// writes nothing.
    Verify,
    /// Write the mesh as one HTML page.
    Report(report::Report),
    /// Print the steps of a run and which of them needs which, as a graph.
    Graph {
        /// Graph format.
        #[arg(long, value_enum, default_value_t = graph::GraphFormat::Dot)]
        format: graph::GraphFormat,
    },
    /// Make the engine's key, with which it reads metadata, or list all keys.
    Keys {
        /// What to do with them.
        #[command(subcommand)]
        command: keys::Keys,
    },
    /// Write the first specs, from the clusters of a kubeconfig, which are only read.
    Init(init::Init),
    /// Print what another team needs to declare one of your clusters.
    Invite(invite::Invite),
    /// Write a cluster's metadata to a signed file, a bundle, for a checkout that cannot reach the cluster.
    Export(bundle::Export),
    /// Check a bundle, and write its documents to the folder of the cluster's `file://` endpoint.
    Import(bundle::Import),
    /// Render for Argo CD, as its config-management plugin.
    Argocd {
        /// What to do.
        #[command(subcommand)]
        command: argocd::ArgocdCommand,
    },
    /// Print manifests that set up Argo CD, Flux or a cluster with an agent; write the Helm chart.
    Manifests {
        /// For which.
        #[command(subcommand)]
        command: manifests::Manifests,
    },
    /// Work with `policy.yaml`, which limits what specs may ask for.
    Policy {
        /// What to do with it.
        #[command(subcommand)]
        command: policy::PolicyCommand,
    },
    /// Try whether an exporter or an api-proxy of any make keeps to the wire protocol.
    Conformance {
        /// Which server.
        #[command(subcommand)]
        command: conformance::Conformance,
    },
    /// Print a JSON Schema.
    Schema {
        /// What the schema describes.
        #[arg(value_enum, default_value = "specs")]
        of: SchemaOf,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, as roff.
    Man,
    /// Print how this binary was built, and the versions of the formats that it reads and writes.
    ///
    /// Of lock, plan (`plan --output json`), stored plan (`plan --out`) and bundle, and of the documents in clusters: identity.json,
    /// peers.json and routes.json. It writes the newest that it reads.
    Version,
    /// Run one of the three servers that each cluster has: exporter, api-proxy or relay.
    Serve {
        /// Which.
        #[command(subcommand)]
        role: Box<serve::Serve>,
    },
    /// Tour: a whole mesh in one process, on loopback, with real TLS, keys and files.
    Demo {
        /// Keep the checkout in this directory, which must be empty or absent.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Commands of the design that this version does not have.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

impl Command {
    /// The values of `--output` that it follows. What is a text of one form, such as a manual page, has that alone.
    fn formats(&self) -> &'static [Output] {
        match self {
            Self::Plan(_) => &[Output::Text, Output::Json, Output::Markdown],
            Self::Argocd { .. }
            | Self::Manifests { .. }
            | Self::Schema { .. }
            | Self::Completions { .. }
            | Self::Man
            | Self::Demo { .. } => &[Output::Text],
            // roles and bundles print the same, and failures as asked for
            Self::Apply(_)
            | Self::Watch(_)
            | Self::Status
            | Self::Verify
            | Self::Report(_)
            | Self::Graph { .. }
            | Self::Keys { .. }
            | Self::Init(_)
            | Self::Invite(_)
            | Self::Export(_)
            | Self::Import(_)
            | Self::Policy { .. }
            | Self::Conformance { .. }
            | Self::Serve { .. }
            | Self::Version
            // which is refused by its name
            | Self::Other(_) => &[Output::Text, Output::Json],
        }
    }
}

/// What `engine schema` prints the JSON Schema of.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SchemaOf {
    /// Documents below `specs/`.
    Specs,
    /// `policy.yaml`.
    Policy,
    /// What `engine plan --output json` prints.
    Plan,
}

/// All commands with their flags, as the arguments are parsed: for completions, the manual page and the reference.
pub fn command() -> clap::Command {
    with_examples(without_idle_flags(Arguments::command()))
}

/// The arguments, the first being the program's name.
fn parse(given: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(given)?;
    if let Some((flag, name)) = idle_flag(&matches) {
        let message = format!("--{flag} has no effect on `engine {name}`; leave it out");
        return Err(command.error(ErrorKind::ArgumentConflict, message));
    }
    Arguments::from_arg_matches(&matches)
}

/// Runs the engine with these arguments, the first being its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let given: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match parse(given.iter().cloned()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // arguments of a script may be of someone else, and the error repeats them
            let shown = given.iter().map(|word| crate::types::text::visible(&word.to_string_lossy()).into_owned());
            let error = unknown_flag(parse(shown.map(OsString::from)).err().unwrap_or(error), &command());
            let (printer, text) = (Printer::new(false), error.render().ansi().to_string());
            if error.use_stderr() {
                printer.warn(text.trim_end());
                if is_json_wanted(&given) {
                    let failure = CommandError::from(UsageError::Arguments(error));
                    printer.out(&format!("{}\n", failure.document(PLAN_VERSION)));
                }
                return ExitCode::from(Exit::Usage.code());
            }
            printer.show(&text);
            return ExitCode::from(Exit::Done.code());
        }
    };
    let printer = Printer::new(arguments.global.quiet);
    // `--output json` behind a command that is not there is a word of that command
    let json = arguments.global.output == Output::Json || is_json_wanted(&given);
    let exit = dispatch(&arguments, &printer);
    let exit = exit.unwrap_or_else(|failure| report_failure(&arguments, json, &printer, &failure));
    let exit = match printer.failure() {
        Some(message) => {
            printer.error(&message);
            exit.and(Exit::Machine)
        }
        None => exit,
    };
    ExitCode::from(exit.code())
}

/// Whether arguments that cannot be parsed ask for JSON all the same. Argo CD's plugin prints nothing of a failure.
fn is_json_wanted(given: &[OsString]) -> bool {
    if given.iter().any(|word| word == "argocd") {
        return false;
    }
    let follows = given.windows(2).any(|pair| matches!(pair, [flag, form] if flag == "--output" && form == "json"));
    follows || given.iter().any(|word| word == "--output=json")
}

/// Runs one command on a checkout, with the caller's printer.
fn run_on(checkout: &std::path::Path, given: &[&str], printer: &Printer) -> Result<Exit, CommandError> {
    let before = [OsString::from("engine"), OsString::from("-C"), checkout.as_os_str().to_owned()];
    let parsed = parse(before.into_iter().chain(given.iter().map(OsString::from)));
    let arguments = parsed.map_err(UsageError::Arguments)?;
    let json = arguments.global.output == Output::Json;
    Ok(dispatch(&arguments, printer).unwrap_or_else(|failure| report_failure(&arguments, json, printer, &failure)))
}

fn report_failure(arguments: &Arguments, json: bool, printer: &Printer, failure: &CommandError) -> Exit {
    failure.print(printer);
    // an empty stdout is what Argo CD's plugin promises of a failure
    if json && !matches!(arguments.command, Command::Argocd { .. }) {
        printer.out(&format!("{}\n", failure.document(PLAN_VERSION)));
    }
    if arguments.global.output == Output::Markdown && failure.exit() != Exit::Usage {
        printer.out(&findings_markdown(&failure.to_string(), &failure.findings().sorted()));
    }
    failure.exit()
}

fn dispatch(arguments: &Arguments, printer: &Printer) -> Result<Exit, CommandError> {
    let global = &arguments.global;
    let formats = arguments.command.formats();
    if !formats.contains(&global.output) {
        return Err(UsageError::Format { found: global.output, expected: formats }.into());
    }
    match &arguments.command {
        Command::Plan(plan) => plan::run(global, plan, printer),
        Command::Apply(apply) => apply::run(global, apply, printer),
        Command::Watch(watch) => watch::run(&global.watched(), watch, printer),
        Command::Status => status::run(global, printer),
        Command::Verify => verify::run(global, printer),
        Command::Report(report) => report::run(global, report, printer),
        Command::Graph { format } => graph::run(global, *format, printer),
        Command::Keys { command } => keys::run(global, command, printer),
        Command::Init(init) => init::run(global, init, printer),
        Command::Invite(invite) => invite::run(global, invite, printer),
        Command::Export(export) => bundle::export(global, export, printer),
        Command::Import(import) => bundle::import(global, import, printer),
        Command::Argocd { command } => argocd::run(global, command, printer),
        Command::Manifests { command } => manifests::run(global, command, printer),
        Command::Policy { command } => policy::run(global, command, printer),
        Command::Conformance { command } => conformance::run(global, command, printer),
        Command::Schema { of } => {
            let schema = match of {
                SchemaOf::Specs => crate::spec::schema(),
                SchemaOf::Policy => crate::spec::policy_schema(),
                SchemaOf::Plan => crate::report::plan_schema::plan_schema(),
            };
            printer.out(&format!("{schema:#}\n"));
            Ok(Exit::Done)
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command(), "engine", &mut text);
            printer.out(&String::from_utf8_lossy(&text));
            Ok(Exit::Done)
        }
        Command::Man => {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(command()).render(&mut text);
            rendered.map_err(UsageError::ManualPage)?;
            printer.out(&String::from_utf8_lossy(&text));
            Ok(Exit::Done)
        }
        Command::Version => Ok(version::run(global, printer)),
        Command::Serve { role } => serve::run(role, printer),
        Command::Demo { keep } => demo::run(keep.as_deref(), printer, &run_on),
        Command::Other(given) => Err(unknown::<Command>("", given).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_some_commands_name_commands_that_exist() {
        let root = command();
        for name in global::names() {
            assert!(root.find_subcommand(name).is_some(), "`engine {name}` does not exist");
        }
    }

    #[test]
    fn what_is_refused_by_name_does_not_exist() {
        let root = command();
        for path in unknown::NOT_HERE {
            let found = path.split(' ').try_fold(&root, |command, word| command.find_subcommand(word));
            assert!(found.is_none(), "`engine {path}` exists");
        }
    }
}
