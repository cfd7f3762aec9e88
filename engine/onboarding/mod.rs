//! Before anything of ours runs: what the clusters of a kubeconfig show, the first spec that is drafted from it, and what
//! another team needs to declare a cluster of ours.

pub mod draft;
pub mod invite;
pub mod kubeconfig;
pub mod survey;
