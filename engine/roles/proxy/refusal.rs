//! Why a request is not answered as asked: one reason for the record, one for whoever asked.

use std::time::Duration;

use http::StatusCode;

use crate::roles::api::status::Refused;

/// A request that is not answered as asked.
pub(super) struct Refusal {
    pub(super) decision: &'static str,
    /// For the record.
    pub(super) reason: String,
    /// For whoever asked.
    pub(super) answer: Refused,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        decision: &'static str,
        reason: impl Into<String>,
        words: &'static str,
    ) -> Self {
        Self { decision, reason: reason.into(), answer: Refused::new(status, words) }
    }

    pub(super) fn later(self, after: Duration) -> Self {
        Self { answer: self.answer.later(after), ..self }
    }
}
