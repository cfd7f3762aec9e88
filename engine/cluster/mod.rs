//! The edge towards clusters: the one bounded fetcher of metadata, and a role's own apiserver.
#![deny(clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods, reason = "this is an edge")]

pub mod access;
pub mod bare;
pub mod fetch;
pub mod kubeconfig;
pub(crate) mod metadata_token;
pub mod objects;
pub mod plugin;
pub mod proxy;
pub(crate) mod tls;
pub mod unread;
pub mod watched;
