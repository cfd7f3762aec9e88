//! Commands that do not exist.

use clap::{Command, Subcommand};

use crate::session::exit::{Exit, Failure, not_here};
use crate::types::diagnostic::did_you_mean;

/// Commands of the design that this version does not have.
pub(super) const NOT_HERE: [&str; 6] = ["doctor", "keys revoke", "keys rotate", "serve agent", "serve probe", "verify"];

/// Why there is no such command among those of `C`, which follow `before`.
pub(super) fn unknown<C: Subcommand>(before: &str, words: &[String]) -> Failure {
    let word = words.first().map(String::as_str).unwrap_or_default();
    let path = format!("{before}{word}");
    if NOT_HERE.contains(&path.as_str()) {
        return not_here(&format!("`engine {path}`"));
    }
    let known = C::augment_subcommands(Command::new("engine"));
    let near = did_you_mean(word, known.get_subcommands().map(Command::get_name));
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Failure::new(
        Exit::Usage,
        format!("there is no command `{before}{}`{hint} (`engine --help` lists them)", word.escape_debug()),
    )
}
