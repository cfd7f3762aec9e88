//! Names that must be the same where an object is rendered and where it is read: of services, tokens and metrics.

use crate::types::name::Namespace;

/// The image of a release, without its tag.
pub const IMAGE: &str = "ghcr.io/isthmus-mesh/engine";
/// The metadata-exporter's Service, account and `app.kubernetes.io/name`.
pub const EXPORTER: &str = "isthmus-exporter";
/// The same of the api-proxy.
pub const PROXY: &str = "isthmus-proxy";
/// The same of the relay.
pub const RELAY: &str = "isthmus-relay";
/// What each role is called on a command line, and its Service.
pub const ROLES: [(&str, &str); 3] = [("exporter", EXPORTER), ("proxy", PROXY), ("relay", RELAY)];
/// The same where an agent acts, which is the relay, too.
pub const AGENT_ROLES: [(&str, &str); 3] = [("exporter", EXPORTER), ("proxy", PROXY), ("agent", RELAY)];
/// The Gateway through which peers reach services of the cluster.
pub const CROSS_NETWORK: &str = "isthmus-cross-network";
/// The east-west gateway that is rendered for a cluster, and its `app.kubernetes.io/name`. Istio calls Deployment and Service after it.
pub const EAST_WEST: &str = "isthmus-eastwest";
/// The Gateway and the `VirtualService` by which the east-west gateway leads to exporter and api-proxy.
pub const EXPOSE: &str = "isthmus-expose";
/// Port of the relay's Service.
const RELAY_PORT: u16 = 8443;
/// Audience of the tokens that istiod shows a strict relay.
pub const RELAY_AUDIENCE: &str = "isthmus-relay";
/// Where istiod finds the token that it shows a strict relay: a projected volume of its pod.
pub const RELAY_TOKEN: &str = "/var/run/secrets/isthmus-relay/token";
/// Metric of the api-proxy: when a peer last used a key. The exporter reads it.
pub const LAST_USED: &str = "isthmus_proxy_credential_last_used_seconds";
/// Metric of the relay: whether a route works. The exporter reads it.
pub const ROUTE_UP: &str = "isthmus_relay_route_up";
/// The namespace whose UID is the cluster's UUID.
pub const UUID_NAMESPACE: &str = "kube-system";

/// The Secret with the serving certificate that the relay issues for a Service.
pub fn tls_secret(service: &str) -> String {
    format!("{service}-tls")
}

/// The URL below which a relay serves its peers, each by its cluster ID.
pub fn relay_url(namespace: &Namespace) -> String {
    format!("https://{}:{RELAY_PORT}/to/", service_host(RELAY, namespace))
}

/// A Service's name in DNS, without the cluster's domain.
pub fn service_host(service: &str, namespace: &Namespace) -> String {
    format!("{service}.{namespace}.svc")
}
