//! Secrets, ConfigMaps and namespaces of the relay's own cluster, each by its name: its rights allow no list of Secrets.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace as NamespaceObject, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::types::cause::Cause;
use crate::types::name::Namespace;
use crate::types::object::{MANAGED_BY, MANAGER, OF_CLUSTER, OWNER_LABEL, PART_OF};

/// How long the apiserver may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that the apiserver did not carry out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {verb} {kind} `{name}`: {source}")]
pub(super) struct StoreError {
    verb: StoreVerb,
    kind: Cow<'static, str>,
    name: String,
    source: Fault,
}

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreVerb {
    Read,
    Create,
    Update,
}

impl fmt::Display for StoreVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
        })
    }
}

/// How a write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    Done,
    /// Someone else was first; what is there has to be read again.
    TooLate,
}

#[derive(Clone)]
pub(super) struct Store {
    pub(super) secrets: Api<Secret>,
    pub(super) config_maps: Api<ConfigMap>,
    pub(super) namespaces: Api<NamespaceObject>,
    pub(super) namespace: Namespace,
}

impl Store {
    pub(super) fn new(client: &Client, namespace: &Namespace) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace.as_str()),
            config_maps: Api::namespaced(client.clone(), namespace.as_str()),
            namespaces: Api::all(client.clone()),
            namespace: namespace.clone(),
        }
    }

    /// Metadata of an object that is ours.
    pub(super) fn own(&self, name: &str) -> ObjectMeta {
        let labels = [(MANAGED_BY, MANAGER), (OWNER_LABEL, OF_CLUSTER), (PART_OF, MANAGER)];
        let labels = labels.into_iter().map(|(label, value)| (label.to_owned(), value.to_owned()));
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.to_string()),
            labels: Some(labels.collect::<BTreeMap<_, _>>()),
            ..ObjectMeta::default()
        }
    }
}

/// Whether an object was made by a role in the cluster, so that it may be written.
pub(super) fn is_own(metadata: &ObjectMeta) -> bool {
    let is = |label, value| metadata.labels.as_ref().and_then(|labels| labels.get(label)).is_some_and(|v| v == value);
    is(MANAGED_BY, MANAGER) && is(OWNER_LABEL, OF_CLUSTER)
}

/// Reads an object by its name; `None`: it is not there.
pub(super) async fn read<K>(api: &Api<K>, name: &str) -> Result<Option<K>, StoreError>
where
    K: Clone + DeserializeOwned + Debug + Resource<DynamicType = ()>,
{
    waited(PATIENCE, api.get_opt(name)).await.map_err(|error| failed::<K>(StoreVerb::Read, name, error))
}

pub(super) async fn create<K>(api: &Api<K>, name: &str, object: &K) -> Result<WriteOutcome, StoreError>
where
    K: Clone + DeserializeOwned + Debug + Serialize + Resource<DynamicType = ()>,
{
    written::<K>(StoreVerb::Create, name, waited(PATIENCE, api.create(&PostParams::default(), object)).await)
}

/// Writes over an object, if it is still the one that was read.
pub(super) async fn replace<K>(api: &Api<K>, name: &str, object: &K) -> Result<WriteOutcome, StoreError>
where
    K: Clone + DeserializeOwned + Debug + Serialize + Resource<DynamicType = ()>,
{
    written::<K>(StoreVerb::Update, name, waited(PATIENCE, api.replace(name, &PostParams::default(), object)).await)
}

/// What a call to the apiserver came to, without any of the object's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Slow(Duration),
    /// The apiserver refused, or could not.
    #[error("{message} ({code})")]
    Status { code: u16, message: String },
    /// The answer is another object, or none. The parser's own message may quote it, and it may be secret.
    #[error("the apiserver's answer is not such an object")]
    Object,
    #[error("{}", innermost(.0))]
    Client(Cause<kube::Error>),
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the client's errors are not ours")]
impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status { code: status.code, message: status.message },
            kube::Error::SerdeError(_) => Self::Object,
            error => Self::Client(error.into()),
        }
    }
}

/// The last error of a chain, which says what happened.
fn innermost(error: &Cause<kube::Error>) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The answer to a call, within a time.
pub(super) async fn waited<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Fault> {
    Ok(timeout(patience, call).await.map_err(|_| Fault::Slow(patience))??)
}

fn written<K: Resource<DynamicType = ()>>(
    verb: StoreVerb,
    name: &str,
    outcome: Result<K, Fault>,
) -> Result<WriteOutcome, StoreError> {
    match outcome {
        Ok(_) => Ok(WriteOutcome::Done),
        // 404: it was deleted between reading and writing
        Err(Fault::Status { code: 404 | 409, .. }) => Ok(WriteOutcome::TooLate),
        Err(fault) => Err(failed::<K>(verb, name, fault)),
    }
}

fn failed<K: Resource<DynamicType = ()>>(verb: StoreVerb, name: &str, source: Fault) -> StoreError {
    StoreError { verb, kind: K::kind(&()), name: name.to_owned(), source }
}
