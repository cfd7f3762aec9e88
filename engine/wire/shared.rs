//! What of a cluster its peers may read: the objects that an istiod asks a remote cluster of a multi-primary mesh for.
//!
//! The rights that are rendered for peers, what the api-proxy passes on and which lists may be answered as empty are all made
//! of this table.

/// A resource of the apiserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// API group; empty for core.
    pub group: &'static str,
    /// The resource, as in a path.
    pub resource: &'static str,
    /// Its objects are in namespaces.
    pub namespaced: bool,
    /// The kind of its objects.
    pub kind: &'static str,
    /// istiod can do with an empty list of them when a peer refuses it.
    pub may_be_empty: bool,
    /// The api-proxy asks the apiserver for them, as the peer's own user. It answers all others with an empty list, so no peer
    /// has a right to them.
    pub is_forwarded: bool,
}

const fn shared(
    group: &'static str,
    resource: &'static str,
    namespaced: bool,
    kind: &'static str,
    may_be_empty: bool,
) -> Shared {
    Shared { group, resource, namespaced, kind, may_be_empty, is_forwarded: true }
}

const fn answered_empty(shared: Shared) -> Shared {
    Shared { is_forwarded: false, ..shared }
}

/// All of them, those of one group together.
pub const SHARED: [Shared; 10] = [
    shared("", "namespaces", false, "Namespace", false),
    shared("", "nodes", false, "Node", false),
    shared("", "pods", true, "Pod", false),
    shared("", "services", true, "Service", false),
    shared("apiextensions.k8s.io", "customresourcedefinitions", false, "CustomResourceDefinition", false),
    shared("discovery.k8s.io", "endpointslices", true, "EndpointSlice", false),
    answered_empty(shared("gateway.networking.k8s.io", "gateways", true, "Gateway", true)),
    shared("multicluster.x-k8s.io", "serviceexports", true, "ServiceExport", true),
    shared("multicluster.x-k8s.io", "serviceimports", true, "ServiceImport", true),
    shared("networking.istio.io", "workloadentries", true, "WorkloadEntry", true),
];

impl Shared {
    /// The entry of a resource, if it is shared.
    pub fn of(group: &str, resource: &str) -> Option<&'static Self> {
        SHARED.iter().find(|shared| shared.group == group && shared.resource == resource)
    }
}
