//! Where things lie in a checkout, and how files of ours are known.

use std::fmt;

use crate::types::name::{ClusterName, MeshName};

/// Folder of what is wanted.
pub const SPECS: &str = "specs";
/// What specs may ask for, and who may be in the mesh.
pub const POLICY: &str = "policy.yaml";
/// Folder of templates that stand in for ours.
pub const TEMPLATES: &str = "templates";
/// Folder of what was learned and accepted.
pub const LOCK: &str = "lock";
/// Folder of the objects, a folder for each cluster.
pub const RENDERED: &str = "rendered";
/// Folder of what an installation of Istio takes up, a folder for each cluster.
pub const VALUES: &str = "values";
/// Folder of private keys, which git does not see.
pub const KEYS: &str = "keys";

/// Whether a path lies below one of the folders.
pub fn is_below(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Name of the file that lists the others.
pub const KUSTOMIZATION: &str = "kustomization.yaml";
/// The east-west gateway that is rendered for a cluster.
pub const GATEWAY_FILE: &str = "gateway.gateway.networking.k8s.io-isthmus-eastwest.yaml";

/// The file of the remote secret for a peer.
pub fn secret_file(peer: &ClusterName) -> String {
    format!("secret-{}.yaml", secret_name(peer))
}

/// The peer of a remote secret's file; `None` for other files.
pub fn peer_of_secret_file(file: &str) -> Option<ClusterName> {
    peer_of_secret(file.strip_prefix("secret-")?.strip_suffix(".yaml")?)
}

/// The peer that an IstioMulticluster's file declares to an agent; `None` for other files.
pub fn declared_by_file(file: &str) -> Option<ClusterName> {
    file.strip_prefix("istiomulticluster.isthmus.dev-")?.strip_suffix(".yaml")?.parse().ok()
}

/// The peer of a remote secret's name; `None` for other names.
pub fn peer_of_secret(name: &str) -> Option<ClusterName> {
    name.strip_prefix("istio-remote-secret-")?.parse().ok()
}

/// Name of the remote secret that lets a cluster read a peer; that of `istioctl create-remote-secret`.
pub fn secret_name(peer: &ClusterName) -> String {
    format!("istio-remote-secret-{peer}")
}

/// The folder of a cluster's objects.
pub fn rendered_folder(cluster: impl fmt::Display) -> String {
    format!("{RENDERED}/{cluster}")
}

/// The path of a file below `values/<cluster>/`.
pub fn values_file(cluster: &ClusterName, file: &str) -> String {
    format!("{VALUES}/{cluster}/{file}")
}

/// Names of the files below `values/<cluster>/`.
pub const VALUES_FILES: [&str; 3] = [HELM_FILE, ISTIO_OPERATOR_FILE, SAIL_FILE];
/// That of them for the chart `istiod`.
pub const HELM_FILE: &str = "helm-values.yaml";
/// That for `istioctl install`.
pub const ISTIO_OPERATOR_FILE: &str = "istio-operator.yaml";
/// That for the Sail operator.
pub const SAIL_FILE: &str = "sail-istio.yaml";

/// How values files of a mesh begin: by this they are known to be ours.
pub fn values_mark(mesh: &MeshName) -> String {
    format!("# Written by isthmus for mesh {mesh}")
}

/// Whether a path is that of a YAML file.
pub(crate) fn is_yaml(path: &str) -> bool {
    matches!(path.rsplit_once('.'), Some((_, "yaml" | "yml")))
}

/// Whether a path is that of a YAML file in this folder itself.
pub(crate) fn is_yaml_of(folder: &str, path: &str) -> bool {
    let name = path.strip_prefix(folder).and_then(|name| name.strip_prefix('/'));
    name.is_some_and(|name| !name.contains('/') && is_yaml(name))
}
