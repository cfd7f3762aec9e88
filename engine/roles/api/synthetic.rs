//! Answers that are made here: empty lists, and a mesh configuration that says the trust domain alone.
//!
//! They are JSON. A client that prefers protobuf accepts JSON too: it sends both and reads what the answer's content type
//! says (k8s.io/client-go). A watch gives what there is and then idles; one that begins with a list (`sendInitialEvents`)
//! gets the bookmark that ends the list, without which client-go waits for ever (KEP-3157).

use bytes::Bytes;
use serde_json::{Value, json};

use crate::roles::api::request::{ApiRequest, Resource, Verb};
use crate::roles::api::status::{end_of_initial_events, expired};
use crate::types::name::{Digest, TrustDomain};
use crate::wire::shared::Shared;

/// A list that is made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synthetic {
    api_version: String,
    /// Of one object.
    kind: String,
    /// Changes with the content, so that a client that resumes after a change lists again.
    resource_version: u64,
    object: Option<Value>,
}

/// An answer that is made here instead of by the apiserver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticResponse {
    /// JSON; of a watch the first events, a line each.
    pub body: Bytes,
    /// After that the answer stays open and says nothing.
    pub idles: bool,
}

/// The kind in a list of a resource, and whether an istiod that waits for it can do with an empty one.
fn kind_of(resource: &Resource) -> Option<(&'static str, bool)> {
    match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "secrets") => Some(("Secret", true)),
        ("", "configmaps") => Some(("ConfigMap", true)),
        (group, name) => Shared::of(group, name).map(|shared| (shared.kind, shared.may_be_empty)),
    }
}

impl Synthetic {
    /// A list of a resource that has nothing in it.
    pub fn empty_list(resource: &Resource) -> Self {
        let kind = kind_of(resource).map_or("Secret", |(kind, _)| kind).to_owned();
        Self { api_version: resource.api_version(), kind, resource_version: 1, object: None }
    }

    /// The empty list for one that a peer's api-proxy refused, where istiod would wait for it for ever.
    pub fn for_refused(request: &ApiRequest) -> Option<Self> {
        let resource = request.resource().filter(|resource| resource.subresource.is_none())?;
        (kind_of(resource).is_some_and(|(_, may_be_empty)| may_be_empty) && request.verb != Verb::Get)
            .then(|| Self::empty_list(resource))
    }

    /// A mesh configuration with nothing but the trust domain.
    pub fn mesh_config(namespace: &str, name: &str, trust_domain: &TrustDomain) -> Self {
        let digest = Digest::of(trust_domain.as_str().as_bytes()).short(12);
        let resource_version = u64::from_str_radix(&digest, 16).unwrap_or(0) + 1;
        let object = json!({
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": "00000000-0000-4000-8000-000000000000",
                "resourceVersion": resource_version.to_string(),
                "creationTimestamp": "1970-01-01T00:00:00Z",
            },
            "data": { "mesh": format!("trustDomain: \"{trust_domain}\"\n") },
        });
        Self { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned(), resource_version, object: Some(object) }
    }

    /// The answer to a list or a watch.
    pub fn answer(&self, request: &ApiRequest) -> SyntheticResponse {
        let version = self.resource_version.to_string();
        if request.verb != Verb::Watch {
            let list = json!({
                "kind": format!("{}List", self.kind),
                "apiVersion": self.api_version,
                "metadata": { "resourceVersion": version },
                "items": self.object.iter().collect::<Vec<_>>(),
            });
            return SyntheticResponse { body: Bytes::from(format!("{list}\n")), idles: false };
        }
        let from = request.query.resource_version.as_deref().unwrap_or_default();
        let initial = request.query.send_initial_events == Some(true);
        if !initial && !from.is_empty() && from != "0" && from != version {
            return SyntheticResponse { body: expired(), idles: false };
        }
        let mut lines = String::new();
        if (initial || from != version)
            && let Some(object) = &self.object
        {
            lines.push_str(&format!("{}\n", json!({ "type": "ADDED", "object": object })));
        }
        if initial {
            let bookmark = end_of_initial_events(&self.kind, &self.api_version, &version);
            lines.push_str(&format!("{bookmark}\n"));
        }
        SyntheticResponse { body: Bytes::from(lines), idles: true }
    }
}
