//! Options of the relay, from its command line.

use crate::types::address::Cidr;
use crate::types::name::{ClusterUuid, NetworkName, Revision, TrustDomain};

/// Options of the relay; all else it finds in its cluster.
#[derive(Debug, Clone, Default)]
pub struct RelayOptions {
    /// Names and addresses that the exporter's certificate is for.
    pub exporter_hosts: Vec<String>,
    /// Names and addresses that the api-proxy's certificate is for.
    pub proxy_hosts: Vec<String>,
    /// Revisions of the cluster's istiod, whose mesh configuration is read; without any, the one without a suffix.
    pub revisions: Vec<Revision>,
    /// Trust domain; else what the mesh configuration says.
    pub trust_domain: Option<TrustDomain>,
    /// Network; else the label of Istio's namespace.
    pub network: Option<NetworkName>,
    /// UUID; else the UID of `kube-system`.
    pub cluster_uuid: Option<ClusterUuid>,
    /// Pod and service ranges of the cluster, in which no peer is looked for.
    pub cluster_cidrs: Vec<Cidr>,
    /// Whoever asks must show a ServiceAccount's token of audience `isthmus-relay`.
    pub require_token: bool,
}
