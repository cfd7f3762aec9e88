//! Which resources of an apiserver a peer may be asked for, whoever asks: the api-proxy answers nothing else, and the relay
//! takes nothing else to a peer, of which it does not know how much it would answer.

use crate::istio::mesh_config::is_standard_config_map;
use crate::roles::api::request::{ApiRequest, RequestTarget, Resource, Verb};
use crate::wire::shared::Shared;

/// A request of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableEntry<'r> {
    /// `/api`, by which peers probe.
    ApiVersions,
    /// A resource of [`SHARED`](crate::wire::shared::SHARED).
    Shared(&'r Resource, &'static Shared),
    /// A list or a watch of Secrets, which is answered as empty.
    Secrets(&'r Resource),
    /// A list or a watch of one standard ConfigMap of Istio's.
    MeshConfig {
        /// Namespace of the ConfigMap.
        namespace: &'r str,
        /// Such as `istio-canary`.
        name: &'r str,
    },
}

/// Why a request may not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Denied {
    /// Not in the table.
    #[error("this resource is not shared with peers")]
    Resource,
    /// A part or an action of an object.
    #[error("subresources are not shared with peers")]
    Subresource,
    /// No version, or not of this form.
    #[error("this is no version of an API")]
    Version,
    /// An object of a namespace that the peer may not see.
    #[error("this namespace is not shared with this peer")]
    Namespace,
    /// Objects that have something which is not shown of them.
    #[error("a selector names what is not shared with peers")]
    Selector,
    /// Secrets by name, or ConfigMaps that are not the reader's mesh configuration.
    #[error("secrets and configuration are not shared with peers")]
    Private,
}

impl<'r> TableEntry<'r> {
    /// The entry of a request, whoever asks.
    pub fn of(request: &'r ApiRequest) -> Result<Self, Denied> {
        let resource = match &request.target {
            RequestTarget::ApiVersions => return Ok(Self::ApiVersions),
            RequestTarget::Resource(resource) => resource,
        };
        if resource.subresource.is_some() {
            return Err(Denied::Subresource);
        }
        if !is_version(&resource.version) {
            return Err(Denied::Version);
        }
        match (resource.group.as_str(), resource.resource.as_str()) {
            ("", "secrets" | "configmaps") if resource.version != "v1" => Err(Denied::Version),
            ("", "secrets") if request.verb != Verb::Get => Ok(Self::Secrets(resource)),
            ("", "configmaps") => mesh_config(request, resource),
            ("", "secrets") => Err(Denied::Private),
            (group, name) => {
                let shared = Shared::of(group, name).ok_or(Denied::Resource)?;
                if !shared.namespaced && resource.namespace.is_some() {
                    return Err(Denied::Resource);
                }
                Ok(Self::Shared(resource, shared))
            }
        }
    }
}

/// istiod watches ConfigMap `istio` or `istio-<revision>` of a namespace by a field selector.
fn mesh_config<'r>(request: &'r ApiRequest, resource: &'r Resource) -> Result<TableEntry<'r>, Denied> {
    let selected = request.query.field_selector.as_deref().and_then(|text| text.strip_prefix("metadata.name="));
    let name = selected.filter(|name| is_standard_config_map(name));
    match (&resource.namespace, name, request.verb) {
        (Some(namespace), Some(name), Verb::List | Verb::Watch) => Ok(TableEntry::MeshConfig { namespace, name }),
        _ => Err(Denied::Private),
    }
}

/// `v1`, `v1beta1`, `v1alpha3`.
fn is_version(text: &str) -> bool {
    let digits = |text: &str| (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.strip_prefix('v').is_some_and(|rest| {
        let parts = ["alpha", "beta"].iter().find_map(|stage| rest.split_once(stage));
        parts.map_or_else(|| digits(rest), |(major, minor)| digits(major) && digits(minor))
    })
}
