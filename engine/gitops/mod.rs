//! What Argo CD and Flux are told of a checkout, what Argo CD tells its plugin, and the Helm chart of a cluster with an agent.

pub mod argocd;
pub mod chart;
pub mod manifests;
