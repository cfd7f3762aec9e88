//! Names that must be the same where an object is rendered and where it is read: of services, tokens and metrics.

/// The metadata-exporter's Service, account and `app.kubernetes.io/name`.
pub const EXPORTER: &str = "isthmus-exporter";
/// The same of the api-proxy.
pub const PROXY: &str = "isthmus-proxy";
/// The same of the relay.
pub const RELAY: &str = "isthmus-relay";
/// Audience of the tokens that istiod shows a strict relay.
pub const RELAY_AUDIENCE: &str = "isthmus-relay";
/// Metric of the api-proxy: when a peer last used a key. The exporter reads it.
pub const LAST_USED: &str = "isthmus_proxy_credential_last_used_seconds";
/// Metric of the relay: whether a route works. The exporter reads it.
pub const ROUTE_UP: &str = "isthmus_relay_route_up";
