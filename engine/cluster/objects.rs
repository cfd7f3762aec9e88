//! Objects of a role's own cluster, one at a time and as JSON, each by its path.
//!
//! What is written is applied: the apiserver keeps the fields of each writer apart, refuses those that another one set, and removes
//! what is applied no longer (Kubernetes, "Server-Side Apply").

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cluster::unread::ReadError;

/// How long the apiserver may take for an answer.
pub const PATIENCE: Duration = Duration::from_secs(3);

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

/// Why a cluster was not written as the plan says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A request that the apiserver did not carry out.
    #[error("cannot {verb} {object}: {source}")]
    Request { verb: &'static str, object: String, source: ReadError },
    /// A file that is no object that an agent writes.
    #[error("cannot apply {path}: an agent writes no such object")]
    Object { path: String },
    /// Another replica may write by now.
    #[error("another replica acts now, and writes it")]
    NotHeld,
}

/// Reads and writes objects by their paths, such as `/api/v1/namespaces/istio-system/configmaps/isthmus-mesh`.
#[derive(Clone)]
pub struct ObjectClient(Client);

impl std::fmt::Debug for ObjectClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectClient([redacted])")
    }
}

impl ObjectClient {
    /// Speaks for the role.
    pub fn new(client: &Client) -> Self {
        Self(client.clone())
    }

    /// The object; `None`: there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, ReadError> {
        found(self.send(Method::GET, path, JSON, None).await)
    }

    /// The same by a patch that changes nothing and is not carried out: admission judges it, where rights know no patterns of names.
    pub async fn try_read(&self, path: &str) -> Result<Option<Value>, ReadError> {
        let tried = format!("{path}?dryRun=All");
        found(self.send(Method::PATCH, &tried, MERGE, Some(&json!({}))).await)
    }

    /// Makes an object that is not there yet.
    pub async fn create(&self, collection: &str, object: &Value) -> Result<Value, ReadError> {
        self.send(Method::POST, collection, JSON, Some(object)).await
    }

    /// Writes over an object, if it is still the one that was read.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, ReadError> {
        self.send(Method::PUT, path, JSON, Some(object)).await
    }

    /// Applies the fields of a writer. Fields that another one set are an error.
    pub async fn apply(&self, path: &str, manager: &str, object: &Value) -> Result<Value, ReadError> {
        let path = format!("{path}?fieldManager={manager}");
        self.send(Method::PATCH, &path, APPLY, Some(object)).await
    }

    /// Merges fields into an object.
    pub async fn merge(&self, path: &str, manager: &str, fields: &Value) -> Result<Value, ReadError> {
        let path = format!("{path}?fieldManager={manager}");
        self.send(Method::PATCH, &path, MERGE, Some(fields)).await
    }

    /// Deletes the object of this UID; one that is gone already is deleted.
    pub async fn delete(&self, path: &str, uid: Option<&str>) -> Result<(), ReadError> {
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid } });
        found(self.send(Method::DELETE, path, JSON, Some(&options)).await).map(drop)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the client's errors are not ours")]
    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<&Value>,
    ) -> Result<Value, ReadError> {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, content_type).body(bytes);
        let request = request.map_err(|error| ReadError::Client(kube::Error::HttpError(error).into()))?;
        let answer = timeout(PATIENCE, self.0.request::<Value>(request)).await;
        answer.map_err(|_| ReadError::NoAnswer(PATIENCE))?.map_err(|error| match error {
            kube::Error::Api(status) => {
                let message = if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
                ReadError::Status { code: status.code, message }
            }
            error => error.into(),
        })
    }
}

fn found(answer: Result<Value, ReadError>) -> Result<Option<Value>, ReadError> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(ReadError::Status { code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
