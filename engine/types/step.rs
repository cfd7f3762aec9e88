//! Steps: what joining the clusters takes, by name. A plan and the graph name steps; objects carry them.

use std::fmt;
use std::str::FromStr;

use crate::types::name::{ClusterName, InvalidName};

/// The kinds of steps, in the order in which one cluster goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepKind {
    /// Exporter, api-proxy and relay.
    RenderComponents,
    /// UUID, authn keys and root CAs from the public document.
    FetchCa,
    /// Who may read the cluster, with which keys.
    ExchangeKeys,
    /// Api host, gateways, network and evidence from the private document.
    DiscoverProxy,
    /// `caCertificates`.
    RenderTrust,
    /// `meshNetworks` and the cross-network Gateway.
    RenderNetworks,
    /// Routes of the relay.
    RenderRoutes,
    /// The remote secret, the switch that sends live traffic.
    RenderSecret,
}

impl StepKind {
    /// All kinds, in order.
    pub const ALL: [Self; 8] = [
        Self::RenderComponents,
        Self::FetchCa,
        Self::ExchangeKeys,
        Self::DiscoverProxy,
        Self::RenderTrust,
        Self::RenderNetworks,
        Self::RenderRoutes,
        Self::RenderSecret,
    ];

    /// The kind as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RenderComponents => "render-components",
            Self::FetchCa => "fetch-ca",
            Self::ExchangeKeys => "exchange-keys",
            Self::DiscoverProxy => "discover-proxy",
            Self::RenderTrust => "render-trust",
            Self::RenderNetworks => "render-networks",
            Self::RenderRoutes => "render-routes",
            Self::RenderSecret => "render-secret",
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One step: `<kind>/<cluster>` or, for secrets, `<kind>/<cluster>/<peer>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId {
    /// The cluster it is about.
    pub cluster: ClusterName,
    pub kind: StepKind,
    /// The peer, for [`StepKind::RenderSecret`] alone.
    pub peer: Option<ClusterName>,
}

impl StepId {
    /// A step of one cluster.
    pub fn of(kind: StepKind, cluster: &ClusterName) -> Self {
        Self { cluster: cluster.clone(), kind, peer: None }
    }

    /// The secret that lets `reader` read `peer`.
    pub fn secret(reader: &ClusterName, peer: &ClusterName) -> Self {
        Self { cluster: reader.clone(), kind: StepKind::RenderSecret, peer: Some(peer.clone()) }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.cluster)?;
        self.peer.as_ref().map_or(Ok(()), |peer| write!(f, "/{peer}"))
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for StepId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for StepId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName {
            kind: "step",
            text: text.to_owned(),
            rule: "`<kind>/<cluster>`, or `render-secret/<cluster>/<peer>`",
        };
        let mut parts = text.split('/');
        let word = parts.next().unwrap_or_default();
        let kind = StepKind::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or_else(invalid)?;
        let cluster = parts.next().ok_or_else(invalid)?.parse()?;
        let peer = parts.next().map(str::parse).transpose()?;
        if parts.next().is_some() || peer.is_some() != (kind == StepKind::RenderSecret) {
            return Err(invalid());
        }
        Ok(Self { cluster, kind, peer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_what_it_writes() {
        for kind in StepKind::ALL {
            let cluster = "east".parse().unwrap();
            let step = match kind {
                StepKind::RenderSecret => StepId::secret(&cluster, &"west".parse().unwrap()),
                kind => StepId::of(kind, &cluster),
            };
            assert_eq!(step.to_string().parse::<StepId>().unwrap(), step);
        }
        assert!("render-secret/east".parse::<StepId>().is_err() && "render-trust/east/west".parse::<StepId>().is_err());
    }
}
