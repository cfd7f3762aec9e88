//! The roles that run in a cluster, and what they share. No role imports another.
#![deny(clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods, reason = "servers read the clock, and files that they are given")]

pub mod api;
pub mod exporter;
pub mod proxy;
pub mod relay;
pub mod role;
mod verdicts;
mod watches;
