//! Answers in the place of an apiserver's.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::server::{Body, BodyError, whole};

/// A failure as Kubernetes writes it, so that its clients understand it.
fn failure(status: StatusCode, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason(status), "code": status.as_u16(),
    })
}

/// The answer to a request that is not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Status of the answer, from which its reason follows.
    pub(crate) status: StatusCode,
    pub(crate) message: Cow<'static, str>,
    /// When asking again makes sense.
    pub(crate) retry_after: Option<Duration>,
}

impl Refused {
    /// A refusal that asking again does not mend.
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    /// The same for a request that may be asked again after this time.
    pub(crate) fn later(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(whole(format!("{}\n", failure(self.status, &self.message))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"))),
            _ => {}
        }
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}

/// The reason of a status as an apiserver gives it (k8s.io/apimachinery `StatusReason`).
fn reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::NOT_ACCEPTABLE => "NotAcceptable",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::GONE => "Expired",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::GATEWAY_TIMEOUT => "Timeout",
        _ => "ServiceUnavailable",
    }
}

/// The last event of a watch whose client is to list again, since what it has is no longer what it would be given.
pub(crate) fn expired() -> Bytes {
    let object = failure(StatusCode::GONE, "what is shared has changed; list it again");
    Bytes::from(format!("{}\n", json!({ "type": "ERROR", "object": object })))
}

/// The event after those that a watch begins with, of objects of this kind and version, at a version of the list.
pub(super) fn end_of_initial_events(kind: &str, api_version: &str, version: &str) -> Value {
    let annotations = json!({ "k8s.io/initial-events-end": "true" });
    let metadata = json!({ "resourceVersion": version, "creationTimestamp": null, "annotations": annotations });
    json!({ "type": "BOOKMARK", "object": { "kind": kind, "apiVersion": api_version, "metadata": metadata } })
}

/// A body that gives these bytes and then says nothing.
pub(crate) fn idling(first: Bytes) -> Body {
    let first = stream::iter((!first.is_empty()).then(|| Ok::<_, BodyError>(Frame::data(first))));
    StreamBody::new(first.chain(stream::pending())).boxed_unsync()
}
