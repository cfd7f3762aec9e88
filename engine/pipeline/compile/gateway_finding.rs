//! What can be wrong with a gateway that is rendered, and with what is reached through one.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::types::address::Host;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::ClusterName;

#[derive(Debug)]
pub(super) enum GatewayFinding<'a> {
    /// A gateway for a cluster into which nothing is rendered.
    NotDeployed { cluster: &'a ClusterName },
    /// A gateway for a network that needs none.
    FlatNetwork { cluster: &'a ClusterName },
    /// A gateway into a network without a name.
    NoNetwork { cluster: &'a ClusterName },
    /// Exporter or api-proxy behind a gateway that has no name to know it by.
    NoName { field: &'static str, cluster: &'a ClusterName },
    /// Exporter and api-proxy behind a gateway that cannot tell them apart.
    OneName { cluster: &'a ClusterName, host: &'a Host },
    /// Exporter or api-proxy behind a gateway, asked for at another port than that of the gateway.
    OtherPort { field: &'static str, cluster: &'a ClusterName, port: u16 },
}

impl Explain for GatewayFinding<'_> {
    fn explanation(&self) -> Explanation {
        let (code, message, hint) = match self {
            Self::NotDeployed { cluster } => (
                Code::ContradictorySpecs,
                format!("`gateway.manage` is set, and nothing is deployed into `{cluster}`"),
                "take it out; whoever deploys there deploys the gateway, too".to_owned(),
            ),
            Self::FlatNetwork { cluster } => (
                Code::ContradictorySpecs,
                format!("`gateway.manage` is set, and peers reach the pods of `{cluster}` without a gateway"),
                "take it out, or set `flatNetwork: false`".to_owned(),
            ),
            Self::NoNetwork { cluster } => (
                Code::FieldMissing,
                format!("`network` is missing in `{cluster}`, into which its gateway is to lead"),
                format!("write for example `network: network-{cluster}`, the name that its Istio has for it"),
            ),
            Self::NoName { field, cluster } => (
                Code::ContradictorySpecs,
                format!(
                    "`expose: Gateway` of `{cluster}`: expected a DNS name in `{field}`, which the gateway knows by its SNI"
                ),
                "give it a name that leads to the gateway, with the port 15443".to_owned(),
            ),
            Self::OneName { cluster, host } => (
                Code::ContradictorySpecs,
                format!(
                    "`expose: Gateway` of `{cluster}`: exporter and api-proxy are both asked for as `{host}`, and the gateway \
                     tells them apart by their names"
                ),
                "give them two names that lead to the gateway".to_owned(),
            ),
            Self::OtherPort { field, cluster, port } => (
                Code::ContradictorySpecs,
                format!(
                    "`expose: Gateway` of `{cluster}`: `{field}` has port {port}, and the gateway takes connections at 15443"
                ),
                "state the port 15443, unless something before the gateway leads there".to_owned(),
            ),
        };
        Explanation::new(code, message).hint(hint)
    }
}
