//! Mesh configuration: foreign roots, networks and what proxies need, for each place it can be written to.
//!
//! In ConfigMap `isthmus-mesh` istiod merges it live (`SHARED_MESH_CONFIG`). The other targets are values files that an
//! installer takes; they also carry the one-time switches. istiod skips a document that it cannot read and with it every
//! peer's root, so each is read back before it is written.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{ExtraFile, Reader, RenderedCluster, check_reads_back, internal};
use crate::address::Gateway;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::lock::Lock;
use crate::mesh::MeshConfigTarget;
use crate::name::{ClusterId, NetworkName, Revision, TrustDomain};
use crate::object::to_yaml;
use crate::step::StepKind;

/// Name of the ConfigMap that istiod merges.
const CONFIG_MAP: &str = "isthmus-mesh";
/// Name of the Gateway through which peers reach services of the cluster.
const GATEWAY: &str = "isthmus-cross-network";
/// Port of the Gateway's server; that of Istio's east-west gateway.
const GATEWAY_PORT: u16 = 15443;

/// The part of Istio's `MeshConfig` that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct MeshConfig<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ca_certificates: Vec<CaCertificate<'a>>,
    default_config: DefaultConfig,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    trust_domain_aliases: BTreeSet<&'a TrustDomain>,
}

/// One root: istiod reads only the first block of `pem`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct CaCertificate<'a> {
    pem: &'a str,
    trust_domains: BTreeSet<&'a TrustDomain>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct DefaultConfig {
    proxy_metadata: BTreeMap<&'static str, String>,
}

/// Istio's `MeshNetworks`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct MeshNetworks {
    networks: BTreeMap<String, AnyNetwork>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum AnyNetwork {
    Ours(Network),
    Standard(Map<String, Value>),
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Network {
    endpoints: BTreeSet<Registry>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    gateways: BTreeSet<Gateway>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Registry {
    from_registry: ClusterId,
}

/// Renders mesh configuration to its target, and the cross-network Gateway.
pub(super) fn render(
    reader: &Reader<'_>,
    target: MeshConfigTarget,
    out: &mut RenderedCluster,
) -> Result<(), Diagnostics> {
    let mesh = mesh_config(reader, target);
    let ours = networks(reader);
    let steps = vec![reader.step(StepKind::RenderTrust), reader.step(StepKind::RenderNetworks)];
    if target == MeshConfigTarget::SharedMeshConfig {
        let networks = MeshNetworks { networks: with_standard(reader, ours, out) };
        let mut data = vec![("mesh", checked(&mesh, "the mesh configuration")?)];
        if !networks.networks.is_empty() {
            data.push(("meshNetworks", checked(&networks, "the mesh networks")?));
        }
        out.objects.push(reader.config_map(CONFIG_MAP, steps, data));
    } else {
        let (name, values) = values(reader, target, &mesh, &ours)?;
        let header = format!(
            "# Written by isthmus for mesh {}; the next apply overwrites what is changed here.\n",
            reader.mesh.name
        );
        let text = header + &checked(&values, "the values file")?;
        out.extra.insert(format!("values/{}/{name}", reader.cluster.name), ExtraFile { text, steps });
    }
    gateway(reader, out);
    Ok(())
}

fn checked<T: Serialize>(model: &T, what: &str) -> Result<String, Diagnostics> {
    let text = to_yaml(model).map_err(internal)?;
    check_reads_back(model, &text, what)?;
    Ok(text)
}

fn mesh_config<'r>(reader: &'r Reader<'_>, target: MeshConfigTarget) -> MeshConfig<'r> {
    let own_roots = reader.known.map_or(&[][..], |known| known.locked.public.roots.as_slice());
    let own: BTreeSet<_> = own_roots.iter().map(|root| root.digest).collect();
    let mut roots = BTreeMap::new();
    for link in &reader.links {
        for root in link.peer.known.locked.public.roots.iter().filter(|root| !own.contains(&root.digest)) {
            let entry = CaCertificate { pem: &root.pem, trust_domains: BTreeSet::new() };
            let entry: &mut CaCertificate<'_> = roots.entry(root.digest).or_insert(entry);
            entry.trust_domains.insert(&link.peer.trust_domain);
        }
    }
    let own_domain = reader.known.map(|known| known.trust_domain());
    let domains = reader.links.iter().map(|link| &link.peer.trust_domain);
    MeshConfig {
        ca_certificates: roots.into_values().collect(),
        default_config: DefaultConfig { proxy_metadata: proxy_metadata(reader, target) },
        trust_domain_aliases: domains.filter(|domain| own_domain.as_ref() != Some(domain)).collect(),
    }
}

/// What every proxy needs. `ISTIO_META_NETWORK` is set only where the spec states the network: an install that knows its
/// network (`global.network`) sets it in every proxy by itself, and what the cluster publishes may come from there. The
/// values files set `global.network` instead.
fn proxy_metadata(reader: &Reader<'_>, target: MeshConfigTarget) -> BTreeMap<&'static str, String> {
    let mut metadata = BTreeMap::from([("PROXY_CONFIG_XDS_AGENT", "true".to_owned())]);
    if reader.cluster.istio.dns_capture {
        metadata.insert("ISTIO_META_DNS_CAPTURE", "true".to_owned());
    }
    if let (MeshConfigTarget::SharedMeshConfig, Some(network)) = (target, &reader.cluster.network) {
        metadata.insert("ISTIO_META_NETWORK", network.to_string());
    }
    metadata
}

/// The cluster's own network and those of its peers. Clusters of one network are listed in it together.
///
/// The own network has no gateways: a proxy that does not know its network would be sent through them to its neighbours
/// (Istio 1.30, pull request 58613). Neither have networks that are reached without.
fn networks(reader: &Reader<'_>) -> BTreeMap<NetworkName, Network> {
    let own = own_network(reader);
    let mut networks: BTreeMap<NetworkName, Network> = BTreeMap::new();
    for (link, proxy) in reader.reachable() {
        let network = networks.entry(proxy.network.clone()).or_default();
        network.endpoints.insert(Registry { from_registry: link.peer.cluster_id.clone() });
        if !link.peer.known.cluster.flat_network && own.as_ref() != Some(&proxy.network) {
            network.gateways.extend(proxy.gateways.iter().cloned());
        }
    }
    if networks.is_empty() {
        return networks;
    }
    if let (Some(own), Some(known)) = (own, reader.known) {
        let registry = Registry { from_registry: known.own_cluster_id() };
        networks.entry(own).or_default().endpoints.insert(registry);
    }
    networks
}

fn own_network(reader: &Reader<'_>) -> Option<NetworkName> {
    let published = || reader.known?.locked.private.as_ref().map(|private| private.network.clone());
    reader.cluster.network.clone().or_else(published)
}

/// Ours and, since our document replaces the standard one, the networks of that. Ours win by name, and a registry of ours
/// is in no other network.
fn with_standard(
    reader: &Reader<'_>,
    ours: BTreeMap<NetworkName, Network>,
    out: &mut RenderedCluster,
) -> BTreeMap<String, AnyNetwork> {
    let registries: BTreeSet<_> = ours.values().flat_map(|network| &network.endpoints).cloned().collect();
    let is_ours = |endpoint: &Value| {
        let name = endpoint.get("fromRegistry").and_then(Value::as_str);
        name.is_some_and(|name| registries.iter().any(|ours| ours.from_registry.as_str() == name))
    };
    let mut all = BTreeMap::new();
    let standard = reader.known.and_then(|known| known.locked.standard_mesh_networks.as_deref());
    if let Some(text) = standard.filter(|_| !ours.is_empty()) {
        match parse_standard(text) {
            Ok(standard) => {
                for (name, mut network) in standard {
                    if let Some(Value::Array(endpoints)) = network.get_mut("endpoints") {
                        endpoints.retain(|endpoint| !is_ours(endpoint));
                    }
                    all.insert(name, AnyNetwork::Standard(network));
                }
            }
            Err(reason) => out.warnings.push(broken_standard(reader, &reason)),
        }
    }
    all.extend(ours.into_iter().map(|(name, network)| (name.to_string(), AnyNetwork::Ours(network))));
    all
}

fn parse_standard(text: &str) -> Result<BTreeMap<String, Map<String, Value>>, String> {
    let document: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let networks = match document {
        Value::Object(mut document) => document.remove("networks").unwrap_or(Value::Null),
        Value::Null => Value::Null,
        _ => return Err("it is no mapping".to_owned()),
    };
    let networks = match networks {
        Value::Object(networks) => networks,
        Value::Null => Map::new(),
        _ => return Err("`networks` is no mapping".to_owned()),
    };
    let network = |(name, network)| match network {
        Value::Object(network) => Ok((name, network)),
        _ => Err(format!("network `{name}` is no mapping")),
    };
    networks.into_iter().map(network).collect()
}

fn broken_standard(reader: &Reader<'_>, reason: &str) -> Diagnostic {
    let reason: String = reason.chars().take(200).flat_map(char::escape_debug).collect();
    let file = Lock::cluster_path(&reader.cluster.name).into();
    let message = format!(
        "`meshNetworks` of the standard mesh configuration of `{}` cannot be read and is left out: {reason}",
        reader.cluster.name
    );
    Diagnostic::warning(Some(Location { file, line: 1, column: 1 }), message)
        .hint("mend it where Istio was installed; istiod skips it too")
}

/// The values file of a target: its name and its content.
fn values(
    reader: &Reader<'_>,
    target: MeshConfigTarget,
    mesh: &MeshConfig<'_>,
    networks: &BTreeMap<NetworkName, Network>,
) -> Result<(&'static str, Value), Diagnostics> {
    let mesh = serde_json::to_value(mesh).map_err(internal)?;
    let mut global = Map::new();
    global.insert("meshID".to_owned(), reader.mesh.mesh_id.as_str().into());
    if let Some(network) = &reader.cluster.network {
        global.insert("network".to_owned(), network.as_str().into());
    }
    if let Some(id) = &reader.cluster.cluster_id {
        global.insert("multiCluster".to_owned(), json!({ "clusterName": id }));
    }
    if !networks.is_empty() {
        global.insert("meshNetworks".to_owned(), serde_json::to_value(networks).map_err(internal)?);
    }
    let switches = json!({ "ISTIO_MULTIROOT_MESH": "true" });
    let istio = &reader.cluster.istio;
    let revision = istio.revisions.first().map_or("default", Revision::as_str);
    Ok(match target {
        MeshConfigTarget::IstioOperator => (
            "istio-operator.yaml",
            json!({
                "apiVersion": "install.istio.io/v1alpha1",
                "kind": "IstioOperator",
                "metadata": { "name": "isthmus", "namespace": istio.namespace },
                "spec": { "meshConfig": mesh, "values": { "global": global, "pilot": { "env": switches } } },
            }),
        ),
        MeshConfigTarget::Sail => (
            "sail-istio.yaml",
            json!({
                "apiVersion": "sailoperator.io/v1",
                "kind": "Istio",
                "metadata": { "name": revision },
                "spec": { "values": { "meshConfig": mesh, "global": global, "pilot": { "env": switches } } },
            }),
        ),
        MeshConfigTarget::HelmValues | MeshConfigTarget::SharedMeshConfig | MeshConfigTarget::None => {
            ("helm-values.yaml", json!({ "env": switches, "global": global, "meshConfig": mesh }))
        }
    })
}

/// The Gateway that passes the TLS of peers through to services of the cluster, where the cluster has gateways.
fn gateway(reader: &Reader<'_>, out: &mut RenderedCluster) {
    let cluster = reader.cluster;
    let published = || Some(&reader.known?.locked.private.as_ref()?.gateways);
    let has_gateways = cluster.gateways.as_ref().or_else(published).is_some_and(|gateways| !gateways.is_empty());
    if cluster.flat_network || !has_gateways || reader.reachable().next().is_none() {
        return;
    }
    // `*.local` is Istio's own choice for the default domain: it takes in `clusterset.local`, too.
    let hosts = match cluster.cluster_domain.as_str() {
        "cluster.local" => "*.local".to_owned(),
        domain => format!("*.{domain}"),
    };
    let spec = json!({
        "selector": { "istio": "eastwestgateway" },
        "servers": [{
            "hosts": [hosts],
            "port": { "name": "tls", "number": GATEWAY_PORT, "protocol": "TLS" },
            "tls": { "mode": "AUTO_PASSTHROUGH" },
        }],
    });
    let steps = vec![reader.step(StepKind::RenderNetworks)];
    let draft = reader.object("networking.istio.io/v1", "Gateway", GATEWAY, steps);
    out.objects.push(draft.field("spec", spec).done());
}
