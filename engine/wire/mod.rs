//! What crosses a border between clusters, engines and roles, each document with its reader and its writer.

pub mod agent;
pub mod bundle;
pub mod failure;
pub mod hand_over;
pub mod identity;
pub mod metadata;
pub mod names;
pub mod peers;
pub mod routes;
pub mod seen;
pub mod share;
pub mod shared;
pub mod spiffe;
