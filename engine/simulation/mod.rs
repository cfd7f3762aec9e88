//! Simulated clusters, for the tour and for the laws.
#![allow(clippy::disallowed_methods, reason = "servers read the clock")]

pub mod cluster;
pub mod exporters;
