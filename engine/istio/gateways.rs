//! The addresses that peers reach this cluster's east-west gateways at, from what the apiserver shows. Pure.
//!
//! A gateway is a Service labelled `topology.istio.io/network` (Istio, `pilot/pkg/serviceregistry/kube/controller/network.go`):
//!
//! | type | addresses | port |
//! |---|---|---|
//! | `LoadBalancer` | `status.loadBalancer.ingress`: IP, else host name; else `spec.externalIPs` | label `networking.istio.io/gatewayPort`, else the port named `tls`, else 15443 |
//! | `NodePort` | `ExternalIP`, else `InternalIP`, of nodes that are ready, take pods, and run one of its pods | the node port of that port |
//! | `ClusterIP` | `spec.externalIPs` | as for `LoadBalancer` |
//!
//! A gateway that has no address yet makes the whole list incomplete only where no other has one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cluster::unread::{ReadError, Unread};
use crate::cluster::watched::{Meta, Objects, SourceState, Watchable};
use crate::types::address::Gateway;
use crate::wire::metadata::MAX_GATEWAYS;

/// Label of a Service that leads into a network.
pub const NETWORK_LABEL: &str = "topology.istio.io/network";
const PORT_LABEL: &str = "networking.istio.io/gatewayPort";
const DEFAULT_PORT: u16 = 15443;
/// Name of the port that Deckhouse and Istio's charts give the gateway.
const PORT_NAME: &str = "tls";

/// What is kept of a gateway's Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayService {
    pub kind: String,
    /// The port that is stated, if it is one.
    pub port_label: Option<String>,
    pub ports: Vec<ServicePort>,
    pub selector: BTreeMap<String, String>,
    /// Addresses that were assigned by hand.
    pub external: Vec<String>,
    /// Addresses of its load balancers.
    pub balancers: Vec<String>,
    /// The network that it leads into.
    pub network: String,
}

/// A port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    name: String,
    port: u16,
    node_port: u16,
}

/// What is kept of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayNode {
    /// Whether it is ready and takes pods.
    pub usable: bool,
    /// Its public addresses.
    pub external: Vec<String>,
    /// Its other addresses.
    pub internal: Vec<String>,
}

/// Nodes that run a ready pod of a gateway, by the namespace and name of its Service.
pub type Hosts = BTreeMap<(String, String), SourceState<BTreeSet<String>>>;

/// Why gateways are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// The objects that tell of them were not read.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// Their Services were asked for once, and not listed.
    #[error("Services cannot be listed: {0}")]
    NotListed(#[source] ReadError),
    /// A Service without a port for peers.
    #[error("Service {service} has no port that peers could use")]
    NoPort {
        /// Its namespace and name.
        service: String,
    },
    /// No Service has an address; this is the first of them.
    #[error("Service {service} has no address yet")]
    NoAddress {
        /// Its namespace and name.
        service: String,
    },
}

/// Gateways, or why they are not known.
pub type FoundGateways = Result<Vec<Gateway>, GatewayError>;

/// The gateways of this cluster, sorted, at most [`MAX_GATEWAYS`]. An empty list says that none is deployed.
pub fn gateways(
    services: &SourceState<Objects<GatewayService>>,
    nodes: &SourceState<Objects<GatewayNode>>,
    hosts: &Hosts,
) -> FoundGateways {
    let services = services.required("list of gateway Services")?;
    let mut found = BTreeSet::new();
    let mut waiting = Vec::new();
    for (key, service) in services {
        let name = format!("{}/{}", key.0, key.1);
        let addresses = match service.kind.as_str() {
            "NodePort" => {
                let nodes = nodes.required("list of nodes")?;
                let pods = format!("list of pods behind {name}");
                let hosts = hosts.get(key).unwrap_or(&SourceState::NotYet).required(pods)?;
                node_addresses(nodes, hosts)
            }
            _ if service.balancers.is_empty() => service.external.clone(),
            "LoadBalancer" => service.balancers.clone(),
            _ => service.external.clone(),
        };
        let port = service.port().ok_or_else(|| GatewayError::NoPort { service: name.clone() })?;
        // an address that peers would refuse is none
        let usable: Vec<_> = addresses.iter().filter_map(|one| Gateway::new(one, port.into()).ok()).collect();
        if usable.is_empty() {
            waiting.push(name);
        }
        found.extend(usable);
    }
    match waiting.into_iter().next() {
        Some(service) if found.is_empty() => Err(GatewayError::NoAddress { service }),
        _ => Ok(found.into_iter().take(MAX_GATEWAYS).collect()),
    }
}

impl GatewayService {
    /// Whether it is reached through nodes.
    pub fn is_behind_nodes(&self) -> bool {
        self.kind == "NodePort"
    }

    /// The port at its addresses.
    fn port(&self) -> Option<u16> {
        let stated = self.port_label.as_ref().and_then(|label| label.parse::<u16>().ok());
        let by_number = |number: u16| self.ports.iter().find(|port| port.port == number);
        let named = || self.ports.iter().find(|port| port.name == PORT_NAME);
        let port = match stated {
            Some(number) => by_number(number),
            None => by_number(DEFAULT_PORT).or_else(named),
        };
        let usable = |port: u16| (port != 0).then_some(port);
        match self.kind.as_str() {
            "NodePort" => port.and_then(|port| usable(port.node_port)),
            _ => usable(stated.or(port.map(|port| port.port)).unwrap_or(DEFAULT_PORT)),
        }
    }
}

fn node_addresses(nodes: &Objects<GatewayNode>, hosts: &BTreeSet<String>) -> Vec<String> {
    let usable = nodes.iter().filter(|((_, name), node)| node.usable && hosts.contains(name));
    usable
        .flat_map(|(_, node)| if node.external.is_empty() { &node.internal } else { &node.external })
        .cloned()
        .collect()
}

/// The network that the gateways of a cluster lead into, where it is one: neither Istio's charts nor the Sail operator label the
/// namespace with it.
pub fn network_of(services: &Objects<GatewayService>) -> Option<&str> {
    let networks: BTreeSet<&str> = services.values().map(|service| service.network.as_str()).collect();
    networks.first().copied().filter(|_| networks.len() == 1)
}

/// Whether some gateway is reached through nodes.
pub fn behind_nodes(services: &Objects<GatewayService>) -> bool {
    services.values().any(|service| service.is_behind_nodes())
}

/// Holds changes of a list back until they have settled: while nodes come and go, peers are not told of each.
#[derive(Debug, Default)]
pub struct Settling {
    current: Option<FoundGateways>,
    waiting: Option<PendingGateways>,
}

#[derive(Debug)]
struct PendingGateways {
    next: FoundGateways,
    since: Instant,
    first: Instant,
}

impl Settling {
    /// How long a list has to stay as it is.
    pub const CALM: Duration = Duration::from_secs(5);
    /// How long a list that does not stay is held back at most.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// The list to publish, given the one that is found.
    pub fn settle(&mut self, found: FoundGateways, now: Instant) -> FoundGateways {
        let Some(current @ Ok(_)) = self.current.clone() else {
            // the first list is published at once
            self.waiting = None;
            self.current = Some(found.clone());
            return found;
        };
        if found == current {
            self.waiting = None;
            return current;
        }
        let first = self.waiting.as_ref().map_or(now, |waiting| waiting.first);
        let since = self.waiting.as_ref().filter(|waiting| waiting.next == found).map_or(now, |waiting| waiting.since);
        if now >= since + Self::CALM || now >= first + Self::PATIENCE {
            self.waiting = None;
            self.current = Some(found.clone());
            return found;
        }
        self.waiting = Some(PendingGateways { next: found, since, first });
        current
    }

    /// When to ask again.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| (waiting.since + Self::CALM).min(waiting.first + Self::PATIENCE))
    }
}

/// A Service on the wire.
#[derive(Debug, Clone, Deserialize)]
pub struct WireService {
    metadata: Meta,
    #[serde(default)]
    spec: WireServiceSpec,
    #[serde(default)]
    status: WireServiceStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    ports: Vec<ServicePort>,
    selector: BTreeMap<String, String>,
    #[serde(rename = "externalIPs")]
    external_ips: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireServiceStatus {
    load_balancer: WireLoadBalancer,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireLoadBalancer {
    ingress: Vec<WireIngress>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireIngress {
    ip: String,
    hostname: String,
}

impl Watchable for WireService {
    type Kept = GatewayService;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self) -> Option<GatewayService> {
        let Self { metadata, spec, status } = self;
        let network = metadata.labels.get(NETWORK_LABEL).filter(|name| !name.is_empty())?.clone();
        let address = |one: WireIngress| if one.ip.is_empty() { one.hostname } else { one.ip };
        let balancers = status.load_balancer.ingress.into_iter().map(address).filter(|one| !one.is_empty());
        Some(GatewayService {
            kind: spec.kind,
            port_label: metadata.labels.get(PORT_LABEL).cloned(),
            ports: spec.ports,
            selector: spec.selector,
            external: spec.external_ips,
            balancers: balancers.collect(),
            network,
        })
    }
}

/// A node on the wire.
#[derive(Debug, Clone, Deserialize)]
pub struct WireNode {
    metadata: Meta,
    #[serde(default)]
    spec: WireNodeSpec,
    #[serde(default)]
    status: WireNodeStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireNodeSpec {
    unschedulable: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireNodeStatus {
    addresses: Vec<WireNodeAddress>,
    conditions: Vec<ObjectCondition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireNodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ObjectCondition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
}

/// Whether the condition `Ready` holds.
pub(super) fn is_ready(conditions: &[ObjectCondition]) -> bool {
    conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
}

impl Watchable for WireNode {
    type Kept = GatewayNode;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self) -> Option<GatewayNode> {
        let Self { spec, status, .. } = self;
        let mut node =
            GatewayNode { usable: !spec.unschedulable && is_ready(&status.conditions), ..GatewayNode::default() };
        for WireNodeAddress { kind, address } in status.addresses {
            match kind.as_str() {
                "ExternalIP" => node.external.push(address),
                "InternalIP" => node.internal.push(address),
                _ => {}
            }
        }
        Some(node)
    }
}
