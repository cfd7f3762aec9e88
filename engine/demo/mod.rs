//! The demo: a whole mesh in one process, on loopback.

pub mod cluster;
