//! Reading a cluster's Istio: its objects and the debug endpoints of its istiod, for exporter and onboarding alike.

pub mod gateways;
pub mod objects;
