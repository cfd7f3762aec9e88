//! Commands and flags that do not exist.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Subcommand};

use crate::cli::error::UsageError;
use crate::types::diagnostic::did_you_mean;

/// Commands of the design that this version does not have.
pub(super) const NOT_HERE: [&str; 4] = ["doctor", "keys revoke", "keys rotate", "serve probe"];

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

/// A flag that its command does not have: which commands have it, instead of how to pass it as a value.
pub(super) fn unknown_flag(mut error: clap::Error, root: &Command) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument || error.get(ContextKind::SuggestedArg).is_some() {
        return error;
    }
    let flag = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    let mut owners = Vec::new();
    collect_owners(root, flag.trim_start_matches("--"), &mut owners);
    error.remove(ContextKind::Suggested);
    if !owners.is_empty() {
        let tip = format!("`{flag}` is a flag of {}", owners.join(", "));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn collect_owners(command: &Command, flag: &str, owners: &mut Vec<String>) {
    for sub in command.get_subcommands() {
        if sub.get_arguments().any(|argument| argument.get_long() == Some(flag) && !argument.is_hide_set()) {
            owners.push(format!("`engine {}`", sub.get_name()));
        }
        collect_owners(sub, flag, owners);
    }
}
