//! What Argo CD and Flux are told of a checkout, and what Argo CD tells its plugin.

pub mod argocd;
pub mod manifests;
