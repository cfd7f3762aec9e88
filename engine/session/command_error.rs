//! From the error of any command to what is printed of it and how the engine ends.
//!
//! Each error is a value of a closed enum, which is defined where it arises and says its explanation and its exit code. Here it
//! becomes one thing, whatever it was: a sentence for people, code, message and hint for machines, its causes, and findings.
#![deny(clippy::wildcard_enum_match_arm)]

use std::error::Error;
use std::fmt;

use serde_json::{Value, json};

use crate::checkout::CheckoutError;
use crate::git::GitError;
use crate::pipeline::Stop;
use crate::report::text::{Printer, finding_json};
use crate::session::exit::Exit;
use crate::types::cause::causes;
use crate::types::diagnostic::Diagnostics;
use crate::types::explanation::{Code, Explain, Explanation};

/// An error that ends a command. Its `Display` is the sentence that people read.
pub trait EndsCommand: Error + Explain {
    /// How the engine ends.
    fn exit(&self) -> Exit;

    /// Findings on the user's files, when it stands for them.
    fn findings(&self) -> Option<&Diagnostics> {
        None
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub struct CommandError(Box<ErrorReport>);

/// What is printed of an error.
#[derive(Debug)]
struct ErrorReport {
    exit: Exit,
    sentence: String,
    explanation: Explanation,
    causes: Vec<String>,
    findings: Diagnostics,
}

impl CommandError {
    /// How the engine ends.
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// Findings on the user's files.
    pub fn findings(&self) -> &Diagnostics {
        &self.0.findings
    }

    /// Prints it: the findings that it stands for, else its sentence and what it leaves out of the causes.
    pub fn print(&self, printer: &Printer) {
        if !self.0.findings.sorted().is_empty() {
            printer.findings(&self.0.findings);
            return;
        }
        printer.error(&self.0.sentence);
        for cause in self.unreported() {
            printer.warn(&format!("  caused by: {cause}"));
        }
    }

    /// The causes that the sentence does not name.
    fn unreported(&self) -> impl Iterator<Item = &str> {
        self.0.causes.iter().map(String::as_str).filter(|cause| !self.0.sentence.contains(cause))
    }

    /// As `--output json` prints it; `version` is that of the document.
    pub fn document(&self, version: u32) -> Value {
        let ErrorReport { exit, sentence, explanation, causes, findings } = &*self.0;
        let findings: Vec<Value> = findings.sorted().into_iter().map(finding_json).collect();
        let Explanation { code, message, hint } = explanation;
        json!({
            "version": version, "exit": exit.code(), "error": sentence, "findings": findings,
            "code": code, "message": message, "hint": hint, "causes": causes,
        })
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence)
    }
}

impl<E: EndsCommand> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self(Box::new(ErrorReport {
            exit: error.exit(),
            sentence: error.to_string(),
            explanation: error.explanation(),
            causes: causes(&error),
            findings: error.findings().cloned().unwrap_or_default(),
        }))
    }
}

impl EndsCommand for Stop {
    fn exit(&self) -> Exit {
        match self {
            Self::Findings(findings) if findings.are_refusals() => Exit::Refused,
            Self::Findings(_) | Self::Cycle(_) | Self::Yaml(_) | Self::Cluster(_) => Exit::Failed,
            Self::Tree(_) => Exit::Machine,
            Self::Checkout(error) => error.exit(),
        }
    }

    fn findings(&self) -> Option<&Diagnostics> {
        match self {
            Self::Findings(findings) => Some(findings),
            Self::Checkout(_) | Self::Tree(_) | Self::Cycle(_) | Self::Yaml(_) | Self::Cluster(_) => None,
        }
    }
}

impl Explain for Stop {
    fn explanation(&self) -> Explanation {
        let code = match self {
            Self::Findings(_) => Code::CheckoutHasFindings,
            Self::Checkout(error) => return error.explanation(),
            Self::Tree(error) => return error.explanation(),
            Self::Cycle(_) | Self::Yaml(_) => Code::NotRendered,
            Self::Cluster(_) => Code::RoleFailed,
        };
        Explanation::new(code, self.to_string())
    }
}

impl EndsCommand for CheckoutError {
    fn exit(&self) -> Exit {
        match self {
            Self::Busy(_) => Exit::Busy,
            Self::Io { .. } | Self::Absent(_) => Exit::Machine,
            Self::Outside { .. } | Self::Kind { .. } | Self::Name { .. } | Self::Limit { .. } | Self::Exists { .. } => {
                Exit::Failed
            }
        }
    }
}

impl EndsCommand for GitError {
    fn exit(&self) -> Exit {
        match self {
            Self::Busy(_) => Exit::Busy,
            Self::Refused(_) => Exit::Failed,
            Self::Missing(_)
            | Self::Owner { .. }
            | Self::TimedOut { .. }
            | Self::TooMuch { .. }
            | Self::Unsigned(_)
            | Self::Failed { .. } => Exit::Machine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    impl Explain for Outer {
        fn explanation(&self) -> Explanation {
            Explanation::new(Code::SystemFailed, "outer").hint("look")
        }
    }

    impl EndsCommand for Outer {
        fn exit(&self) -> Exit {
            Exit::Machine
        }
    }

    #[test]
    fn code_hint_and_causes_are_kept() {
        let error = CommandError::from(Outer(std::io::Error::other("inner")));
        assert_eq!(error.to_string(), "outer");
        assert_eq!(error.unreported().collect::<Vec<_>>(), ["inner"]);
        let expected = json!({
            "version": 1, "exit": 6, "error": "outer", "findings": [], "code": "system-failed", "message": "outer",
            "hint": "look", "causes": ["inner"],
        });
        assert_eq!(error.document(1), expected);
    }
}
