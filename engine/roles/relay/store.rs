//! Secrets, ConfigMaps and namespaces of the relay's own cluster, each by its name: its rights allow no list of Secrets.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace as NamespaceObject, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::types::name::Namespace;
use crate::types::object::{MANAGED_BY, MANAGER, OF_CLUSTER, OWNER_LABEL, PART_OF};

/// How long the apiserver may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that the apiserver did not carry out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing}: {reason}")]
pub(super) struct StoreError {
    doing: String,
    reason: String,
}

/// How a write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// As wanted.
    Done,
    /// Somebody else was first; what is there has to be read again.
    TooLate,
}

/// The objects.
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
    waited(api.get_opt(name)).await.map_err(|error| failed::<K>("read", name, &error))
}

/// Creates an object.
pub(super) async fn create<K>(api: &Api<K>, name: &str, object: &K) -> Result<Written, StoreError>
where
    K: Clone + DeserializeOwned + Debug + Serialize + Resource<DynamicType = ()>,
{
    written::<K>("create", name, waited(api.create(&PostParams::default(), object)).await)
}

/// Writes over an object, if it is still the one that was read.
pub(super) async fn replace<K>(api: &Api<K>, name: &str, object: &K) -> Result<Written, StoreError>
where
    K: Clone + DeserializeOwned + Debug + Serialize + Resource<DynamicType = ()>,
{
    written::<K>("update", name, waited(api.replace(name, &PostParams::default(), object)).await)
}

/// What a call to the apiserver came to, without any of the object's text.
enum Fault {
    Slow,
    Kube(kube::Error),
}

async fn waited<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Fault> {
    timeout(PATIENCE, call).await.map_err(|_| Fault::Slow)?.map_err(Fault::Kube)
}

fn written<K: Resource<DynamicType = ()>>(
    doing: &str,
    name: &str,
    outcome: Result<K, Fault>,
) -> Result<Written, StoreError> {
    match outcome {
        Ok(_) => Ok(Written::Done),
        // 404: it was deleted between reading and writing
        Err(Fault::Kube(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(Written::TooLate),
        Err(error) => Err(failed::<K>(doing, name, &error)),
    }
}

fn failed<K: Resource<DynamicType = ()>>(doing: &str, name: &str, error: &Fault) -> StoreError {
    StoreError { doing: format!("{doing} {} `{name}`", K::kind(&())), reason: said(error) }
}

/// An error in one line. The parser's own words may quote the text, which may be secret.
fn said(error: &Fault) -> String {
    match error {
        Fault::Slow => format!("no answer within {PATIENCE:?}"),
        Fault::Kube(kube::Error::Api(status)) => format!("{} ({})", status.message, status.code),
        Fault::Kube(kube::Error::SerdeError(_)) => "the apiserver's answer is not such an object".to_owned(),
        Fault::Kube(error) => {
            let mut last: &dyn std::error::Error = error;
            while let Some(source) = last.source() {
                last = source;
            }
            last.to_string()
        }
    }
}

/// The reason of any error of the apiserver, for calls that are made elsewhere.
pub(super) fn reason(error: kube::Error) -> String {
    said(&Fault::Kube(error))
}
