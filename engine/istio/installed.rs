//! The Istio that is installed: its root CA, version, revisions and cluster ID. Pure.

use std::collections::BTreeSet;

use crate::istio::objects::Istiod;
use crate::types::name::{ClusterId, InvalidName, Namespace};
use crate::wire::metadata::IstioFacts;

/// ConfigMap with the root CA of the cluster's own workloads, and its key, as istiod writes it into every namespace.
pub const ROOT_CA: (&str, &str) = ("istio-ca-root-cert", "root-cert.pem");

/// ConfigMap with what the cluster's CA revoked, and its key, as istiod writes it with `PILOT_ENABLE_CA_CRL`.
pub const REVOKED: (&str, &str) = ("istio-ca-crl", "ca-crl.pem");

/// What selects the Deployments and pods of istiod.
pub const ISTIOD: &str = "app=istiod";

/// Version, revisions and namespace of Istio.
pub fn istio(istiods: &[Istiod], namespace: &Namespace) -> IstioFacts {
    let revisions: BTreeSet<_> = istiods.iter().filter_map(|istiod| istiod.revision.parse().ok()).collect();
    let numbers = |version: &str| -> Vec<u64> {
        let parts = version.split(|c: char| !c.is_ascii_digit()).take(3);
        parts.map(|part| part.parse().unwrap_or(0)).collect()
    };
    // the oldest: it has the bugs that someone has to live with; one that does not tell may be older still
    let versions: Option<Vec<String>> = istiods.iter().map(|istiod| istiod.version.clone()).collect();
    let version = versions.and_then(|all| all.into_iter().min_by_key(|version| numbers(version)));
    let modes = istiods.iter().flat_map(|istiod| istiod.modes.iter().copied()).collect();
    IstioFacts { version, revisions: revisions.into_iter().collect(), namespace: Some(namespace.clone()), modes }
}

/// Why the cluster ID is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterIdError {
    #[error("CLUSTER_ID of istiod: {0}")]
    Invalid(#[source] InvalidName),
    /// Not all istiods have the same.
    #[error("istiods run with different cluster IDs: {}", .0.iter().map(String::as_str).collect::<Vec<_>>().join(", "))]
    Several(BTreeSet<String>),
}

/// What istiod runs with; Istio's own default where it is told nothing.
pub fn cluster_id(istiods: &[Istiod]) -> Result<ClusterId, ClusterIdError> {
    let ids: BTreeSet<&str> =
        istiods.iter().map(|istiod| istiod.cluster_id.as_deref().unwrap_or(ClusterId::ISTIO_DEFAULT)).collect();
    match (ids.first(), ids.len()) {
        (Some(id), 1) => id.parse().map_err(ClusterIdError::Invalid),
        _ => Err(ClusterIdError::Several(ids.into_iter().map(ToOwned::to_owned).collect())),
    }
}
