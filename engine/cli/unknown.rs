//! Commands that do not exist.

use clap::{Command, Subcommand};

use crate::cli::error::UsageError;
use crate::types::diagnostic::did_you_mean;

/// Commands of the design that this version does not have.
pub(super) const NOT_HERE: [&str; 5] = ["doctor", "keys revoke", "keys rotate", "serve agent", "serve probe"];

/// Why there is no such command among those of `C`, which follow `before`.
pub(super) fn unknown<C: Subcommand>(before: &str, given: &[String]) -> UsageError {
    let word = given.first().map(String::as_str).unwrap_or_default();
    let path = format!("{before}{word}");
    if NOT_HERE.contains(&path.as_str()) {
        return UsageError::NotHere { what: format!("`engine {path}`") };
    }
    let known = C::augment_subcommands(Command::new("engine"));
    let near = did_you_mean(word, known.get_subcommands().map(Command::get_name));
    UsageError::UnknownCommand { near: near.map(str::to_owned), command: path }
}
