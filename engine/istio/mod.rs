//! Reading a cluster's Istio: its objects and the debug endpoints of its istiod, for exporter and onboarding alike.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod debug;
pub mod discovery;
pub mod gateways;
pub mod installed;
pub mod kubeconfig;
pub mod mesh_config;
pub mod objects;
