//! Exit codes, and what leads to them.

use crate::checkout::CheckoutError;
use crate::pipeline::Stop;
use crate::types::diagnostic::Diagnostics;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, nothing to do, or only waiting.
    Done = 0,
    /// Failed; errors of the specs too.
    Failed = 1,
    /// `plan --detailed-exitcode` found changes.
    Changes = 2,
    /// A cluster failed, the rest is done.
    Partial = 3,
    /// Held back or refused.
    Refused = 4,
    /// Another engine works here.
    Busy = 5,
    /// Files or network of this machine.
    Machine = 6,
    /// Wrong usage.
    Usage = 64,
}

impl Exit {
    /// Where several hold, this order decides.
    const ORDER: [Self; 8] =
        [Self::Usage, Self::Machine, Self::Busy, Self::Failed, Self::Refused, Self::Partial, Self::Changes, Self::Done];

    /// The stronger of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::ORDER.into_iter().find(|exit| *exit == self || *exit == other).unwrap_or(self)
    }

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a run ended early: its code and its words.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// The words, when there are no findings.
    pub message: String,
    /// Findings on the user's files.
    pub findings: Diagnostics,
}

impl Failure {
    /// A failure in words.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), findings: Diagnostics::new() }
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        if let Stop::Checkout(error) = stop {
            return error.into();
        }
        let exit = match &stop {
            Stop::Findings(findings) if findings.are_refusals() => Exit::Refused,
            Stop::Findings(_) | Stop::Cycle(_) | Stop::Yaml(_) => Exit::Failed,
            Stop::Tree(_) | Stop::Checkout(_) => Exit::Machine,
        };
        match stop {
            Stop::Findings(findings) => Self { exit, message: "the checkout has findings".to_owned(), findings },
            other => Self::new(exit, other.to_string()),
        }
    }
}

impl From<CheckoutError> for Failure {
    fn from(error: CheckoutError) -> Self {
        let exit = match &error {
            CheckoutError::Busy(_) => Exit::Busy,
            CheckoutError::Io { .. } | CheckoutError::Absent(_) => Exit::Machine,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

/// What is asked for is of the design and not of this version.
pub(crate) fn not_here(what: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("{what} is not part of this version of the engine, {}", env!("CARGO_PKG_VERSION")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_code_wins_in_either_order() {
        for (a, b, wins) in [
            (Exit::Done, Exit::Changes, Exit::Changes),
            (Exit::Partial, Exit::Refused, Exit::Refused),
            (Exit::Failed, Exit::Refused, Exit::Failed),
            (Exit::Busy, Exit::Machine, Exit::Machine),
            (Exit::Usage, Exit::Machine, Exit::Usage),
        ] {
            assert_eq!(a.and(b), wins);
            assert_eq!(b.and(a), wins);
        }
    }
}
