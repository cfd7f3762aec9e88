//! Options of the exporter, from its command line.

use std::path::PathBuf;

use crate::types::address::{ApiHost, Gateway};
use crate::types::name::{ClusterDomain, ClusterId, ClusterUuid, MeshId, NetworkName};

/// Options of the exporter; all else it finds in its cluster.
#[derive(Debug, Clone, Default)]
pub struct ExporterOptions {
    /// Path before `public/` and `private/`; `/` for none.
    pub path_prefix: String,
    /// Public address of the api-proxy.
    pub api_host: Option<ApiHost>,
    /// Gateways to publish instead of those that are found.
    pub gateways: Vec<Gateway>,
    /// Pods of all clusters reach each other without gateways.
    pub flat_network: bool,
    /// DNS domain of the cluster.
    pub cluster_domain: Option<ClusterDomain>,
    /// Cluster ID; else what istiod runs with.
    pub cluster_id: Option<ClusterId>,
    /// Network; else the label of Istio's namespace.
    pub network: Option<NetworkName>,
    pub mesh_id: Option<MeshId>,
    /// UUID; else the UID of `kube-system`.
    pub cluster_uuid: Option<ClusterUuid>,
    /// File of the token of audience `istio-ca` that istiod is shown; `None`: where the manifests mount it.
    pub istio_token: Option<PathBuf>,
}

impl ExporterOptions {
    /// Whether gateways, or the network that they are of, have to be looked for.
    pub(super) fn finds_gateways(&self) -> bool {
        self.gateways.is_empty() || self.network.is_none()
    }
}
