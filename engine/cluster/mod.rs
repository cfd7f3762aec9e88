//! The edge towards clusters: the one bounded fetcher of metadata, and a role's own apiserver.

#![allow(clippy::disallowed_methods, reason = "this is an edge")]

pub mod access;
pub mod fetch;
pub(crate) mod tls;
pub mod unread;
pub mod watched;
