//! A file for each command: its arguments and its run.

pub(super) mod apply;
mod approvals;
pub(super) mod argocd;
pub(super) mod bundle;
pub(super) mod conformance;
mod contradiction;
pub(super) mod demo;
pub(super) mod graph;
pub(super) mod init;
pub(super) mod invite;
pub(super) mod keys;
pub(super) mod manifests;
pub(super) mod plan;
pub(super) mod policy;
pub(super) mod report;
pub(super) mod serve;
pub(super) mod status;
pub(super) mod verify;
pub(super) mod version;
