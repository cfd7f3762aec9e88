//! The edge towards clusters: the one bounded fetcher of metadata.

#![allow(clippy::disallowed_methods, reason = "this is an edge")]

pub mod fetch;
