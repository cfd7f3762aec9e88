//! Answers in the place of an apiserver's.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use crate::server::{Body, BoxError, whole};

/// An answer in the words of Kubernetes, so that its clients understand it.
pub(crate) fn status_object(status: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let object = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16(),
    });
    let mut response = Response::new(whole(format!("{object}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body that gives these bytes and then says nothing.
pub(crate) fn idling(first: Bytes) -> Body {
    let first = stream::iter((!first.is_empty()).then(|| Ok::<_, BoxError>(Frame::data(first))));
    StreamBody::new(first.chain(stream::pending())).boxed_unsync()
}
