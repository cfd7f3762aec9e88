//! The edge towards clusters: the one bounded fetcher of metadata, and the trial of credentials.

#![allow(clippy::disallowed_methods, reason = "this is an edge")]

pub mod fetch;
pub mod trial;
