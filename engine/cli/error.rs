//! What is wrong with a command line, whatever the command.
#![deny(clippy::wildcard_enum_match_arm)]

use std::io;

use clap::error::ContextKind;

use crate::report::format::Output;
use crate::session::command_error::EndsCommand;
use crate::session::exit::Exit;
use crate::types::explanation::{Code, Explain, Explanation};

/// What is wrong with a command line.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum UsageError {
    /// It is of the design and not of this version.
    NotHere {
        /// What was asked for.
        what: String,
    },
    /// There is no such command.
    UnknownCommand {
        /// It, with the commands before it.
        command: String,
        /// One that there is and may be meant.
        near: Option<String>,
    },
    /// A format that the command does not have.
    Format {
        /// It.
        found: Output,
        /// Those that it has.
        expected: &'static [Output],
    },
    /// Arguments that clap does not take.
    Arguments(#[source] clap::Error),
    /// The manual page was not written.
    ManualPage(#[source] io::Error),
}

impl Explain for UsageError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::NotHere { what } => {
                let version = env!("CARGO_PKG_VERSION");
                let message = format!("{what} is not part of this version of the engine, {version}");
                Explanation::new(Code::NotAvailable, message)
            }
            Self::UnknownCommand { command, near } => {
                let message = format!("there is no command `{}`", command.escape_debug());
                let list = "(`engine --help` lists them)";
                match near {
                    Some(near) => {
                        Explanation::new(Code::InvalidArguments, message).hint(format!("did you mean `{near}`? {list}"))
                    }
                    None => Explanation::new(Code::InvalidArguments, format!("{message} {list}")),
                }
            }
            Self::Format { found, expected } => {
                let quoted = expected.iter().map(|format| format!("`{}`", format.as_str())).collect::<Vec<_>>();
                let (expected, found) = (quoted.join(" or "), found.as_str());
                Explanation::new(
                    Code::InvalidArguments,
                    format!("--output: expected {expected} for this command, found `{found}`"),
                )
            }
            Self::Arguments(error) => arguments(error),
            Self::ManualPage(error) => {
                Explanation::new(Code::SystemFailed, format!("cannot write the manual page: {error}"))
            }
        }
    }
}

/// What clap found, without its excerpt of the usage.
fn arguments(error: &clap::Error) -> Explanation {
    let context = |kind| error.get(kind).map(ToString::to_string);
    let what = error.kind().as_str().unwrap_or("expected a command or an argument, found none");
    let of = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg, ContextKind::InvalidValue];
    let of: Vec<String> = of.into_iter().filter_map(context).filter(|text| !text.is_empty()).collect();
    let message = if of.is_empty() { what.to_owned() } else { format!("{what}: {}", of.join(", ")) };
    let near = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let near = near.into_iter().find_map(context).map(|near| format!("did you mean `{near}`?"));
    let near = near.or_else(|| context(ContextKind::Suggested));
    let hint = near.unwrap_or_else(|| "`--help` behind the command lists its arguments".to_owned());
    Explanation::new(Code::InvalidArguments, message).hint(hint)
}

impl EndsCommand for UsageError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotHere { .. } | Self::UnknownCommand { .. } | Self::Format { .. } | Self::Arguments(_) => {
                Exit::Usage
            }
            Self::ManualPage(_) => Exit::Machine,
        }
    }
}
