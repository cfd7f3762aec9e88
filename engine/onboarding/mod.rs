//! Before anything of ours runs: what the clusters of a kubeconfig, or of an inventory, show, the first spec that is drafted from it, and what
//! another team needs to declare a cluster of ours.
#![deny(clippy::wildcard_enum_match_arm)]

mod asking;
pub mod draft;
pub mod inventory;
pub mod invite;
pub mod kubeconfig;
mod marks;
mod secrets;
mod shown;
pub mod survey;
