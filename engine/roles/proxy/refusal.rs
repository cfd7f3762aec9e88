//! Why a request is not answered as asked: one reason for the record, one for whoever asked.

use std::time::Duration;

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use crate::roles::api::status::status_object;
use crate::server::Body;

/// A request that is not answered as asked.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) decision: &'static str,
    /// For the record.
    pub(super) reason: String,
    /// For whoever asked.
    pub(super) words: &'static str,
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        decision: &'static str,
        reason: impl Into<String>,
        words: &'static str,
    ) -> Self {
        Self { status, decision, reason: reason.into(), words, retry_after: None }
    }

    pub(super) fn later(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    pub(super) fn response(&self) -> Response<Body> {
        let reason = match self.status {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::GATEWAY_TIMEOUT => "Timeout",
            _ => "ServiceUnavailable",
        };
        let mut response = status_object(self.status, reason, self.words);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}
