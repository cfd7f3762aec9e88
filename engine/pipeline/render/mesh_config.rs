//! Mesh configuration: foreign roots, networks and what proxies need, for each place it can be written to.
//!
//! In ConfigMap `isthmus-mesh` istiod merges it live (`SHARED_MESH_CONFIG`). The other targets are values files that an
//! installer takes; they also carry the one-time switches. istiod skips a document that it cannot read and with it every
//! peer's root, so each is read back before it is written.
//!
//! In a mesh of a thousand clusters each of a thousand documents has the same thousand roots but one. An entry is therefore
//! written and read back once, and documents are put together from entries.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::istio::mesh_config::SHARED_MESH_CONFIG;
use crate::istio::objects::{KUBECONFIG_OPTIONS, MULTIROOT, XDS_AGENT};
use crate::model::layout::{HELM_FILE, ISTIO_OPERATOR_FILE, SAIL_FILE, values_file};
use crate::model::lock::Lock;
use crate::model::mesh::MeshConfigTarget;
use crate::pipeline::render::check::{checked, internal};
use crate::pipeline::render::finding::{RenderFinding, StandardFault};
use crate::pipeline::render::fragments::Fragment;
use crate::pipeline::render::memo::Memo;
use crate::pipeline::render::output::{ExtraFile, RenderedCluster};
use crate::pipeline::render::reader::ReaderView;
use crate::pipeline::render::reasons::RenderWait;
use crate::types::address::Gateway;
use crate::types::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::types::name::{ClusterDomain, ClusterId, Digest, NetworkName, Revision, TrustDomain};
use crate::types::step::StepKind;
use crate::types::yaml::{self, MAX_OBJECT};
use crate::wire::names::{CROSS_NETWORK, RELAY_AUDIENCE, RELAY_TOKEN};

/// Port of the Gateway's server; that of Istio's east-west gateway.
const GATEWAY_PORT: u16 = 15443;

/// The part of Istio's `MeshConfig` that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct MeshConfig<'a> {
    #[serde(serialize_with = "without_digests", skip_serializing_if = "BTreeMap::is_empty")]
    ca_certificates: BTreeMap<Digest, CaCertificate<'a>>,
    #[serde(flatten)]
    rest: Rest<'a>,
}

/// What is small of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rest<'a> {
    default_config: DefaultConfig,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    trust_domain_aliases: BTreeSet<&'a TrustDomain>,
}

fn without_digests<S: serde::Serializer>(
    roots: &BTreeMap<Digest, CaCertificate<'_>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(roots.values())
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
struct Network {
    endpoints: BTreeSet<Registry>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    gateways: BTreeSet<Gateway>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
struct Registry {
    from_registry: ClusterId,
}

/// Entries of documents, each written and read back once for all readers.
#[derive(Debug, Default)]
pub(super) struct Entries {
    roots: Memo<(Digest, Vec<TrustDomain>), Fragment>,
    /// By the value as JSON.
    rests: Memo<String, Fragment>,
    networks: Memo<(NetworkName, Network), Fragment>,
}

impl Entries {
    /// The same text as that of the whole value, put together from entries.
    fn mesh_config(&self, mesh: &MeshConfig<'_>) -> Result<Vec<Fragment>, Diagnostics> {
        let mut fragments = Vec::with_capacity(mesh.ca_certificates.len() + 2);
        if !mesh.ca_certificates.is_empty() {
            fragments.push(Fragment::new("caCertificates:\n"));
        }
        for (digest, root) in &mesh.ca_certificates {
            let domains = root.trust_domains.iter().map(|&domain| domain.clone()).collect();
            let entry = |_: &_| checked(&[root], "a root").map(Fragment::new);
            fragments.push(self.roots.get((*digest, domains), entry)?);
        }
        let rest = serde_json::to_string(&mesh.rest).map_err(internal)?;
        fragments.push(self.rests.get(rest, |_| checked(&mesh.rest, "the mesh configuration").map(Fragment::new))?);
        Ok(fragments)
    }

    fn networks(&self, networks: &BTreeMap<NetworkName, Network>) -> Result<Vec<Fragment>, Diagnostics> {
        let mut fragments = vec![Fragment::new("networks:\n")];
        for (name, network) in networks {
            let entry = |(name, network): &(NetworkName, Network)| {
                let entry = checked(&BTreeMap::from([(name, network)]), "a network")?;
                Ok(Fragment::new(entry.lines().flat_map(|line| ["  ", line, "\n"]).collect::<String>()))
            };
            fragments.push(self.networks.get((name.clone(), network.clone()), entry)?);
        }
        Ok(fragments)
    }
}

/// Renders mesh configuration to its target, and the cross-network Gateway.
pub(super) fn render(
    reader: &ReaderView<'_>,
    entries: &Entries,
    target: MeshConfigTarget,
    out: &mut RenderedCluster,
) -> Result<(), Diagnostics> {
    let mut ours = networks(reader);
    if !ours.is_empty() && reader.keeps_standard_networks() {
        ours.clear();
        let is_shown = reader.cluster.shows_mesh_networks();
        let reason = RenderWait::StandardNetworks { cluster: reader.cluster.name.clone(), is_shown };
        out.waiting.push((reader.step(StepKind::RenderNetworks), reason));
    }
    let steps = vec![reader.step(StepKind::RenderTrust), reader.step(StepKind::RenderNetworks)];
    if target == MeshConfigTarget::SharedMeshConfig {
        let mesh = mesh_config(reader, target);
        let mut data = vec![("mesh", entries.mesh_config(&mesh)?)];
        if !ours.is_empty() {
            let networks = match standard(reader, &ours, out) {
                Some(networks) => vec![Fragment::new(checked(&networks, "the mesh networks")?)],
                None => entries.networks(&ours)?,
            };
            data.push(("meshNetworks", networks));
        }
        out.objects.push(reader.config_map(SHARED_MESH_CONFIG, steps.clone(), data));
    }
    let moves_to = reader.known.and_then(|known| known.moves_mesh_config_to());
    if let Some(target) = moves_to.or(Some(target)).filter(|target| target.is_values()) {
        let mesh = mesh_config(reader, target);
        let (name, values) = values(reader, target, &mesh, &ours)?;
        let header = format!(
            "{}; the next apply overwrites what is changed here.\n",
            crate::model::layout::values_mark(&reader.mesh.name)
        );
        let text = header + &checked(&values, "the values file")?;
        out.extra.insert(values_file(&reader.cluster.name, name), ExtraFile { text, steps });
    }
    gateway(reader, out);
    Ok(())
}

fn mesh_config<'r>(reader: &'r ReaderView<'_>, target: MeshConfigTarget) -> MeshConfig<'r> {
    let own_roots = reader.known.map_or(&[][..], |known| known.locked.public.roots.as_slice());
    let own: BTreeSet<_> = own_roots.iter().map(|root| root.digest).collect();
    let mut roots = BTreeMap::new();
    for link in &reader.links {
        for root in link.peer.known.trusted_roots().filter(|root| !own.contains(&root.digest)) {
            let entry = CaCertificate { pem: &root.pem, trust_domains: BTreeSet::new() };
            let entry: &mut CaCertificate<'_> = roots.entry(root.digest).or_insert(entry);
            entry.trust_domains.insert(&link.peer.trust_domain);
        }
    }
    let own_domain = reader.known.map(|known| known.trust_domain());
    let merged = reader.links.iter().filter(|link| link.merged);
    let domains = merged.map(|link| &link.peer.trust_domain);
    let rest = Rest {
        default_config: DefaultConfig { proxy_metadata: proxy_metadata(reader, target) },
        trust_domain_aliases: domains.filter(|domain| own_domain.as_ref() != Some(domain)).collect(),
    };
    MeshConfig { ca_certificates: roots, rest }
}

/// What every proxy needs. `ISTIO_META_NETWORK` is set only where the spec states the network: an install that knows its
/// network (`global.network`) sets it in every proxy by itself, and what the cluster publishes may come from there. The
/// values files set `global.network` instead.
fn proxy_metadata(reader: &ReaderView<'_>, target: MeshConfigTarget) -> BTreeMap<&'static str, String> {
    let mut metadata = BTreeMap::from([(XDS_AGENT, "true".to_owned())]);
    if reader.cluster.istio.dns_capture {
        metadata.insert("ISTIO_META_DNS_CAPTURE", "true".to_owned());
    }
    if let (MeshConfigTarget::SharedMeshConfig, Some(network)) = (target, stated_network(reader)) {
        metadata.insert("ISTIO_META_NETWORK", network.to_string());
    }
    metadata
}

/// The cluster's own network and those of its peers. Clusters of one network are listed in it together.
///
/// The own network has no gateways: a proxy that does not know its network would be sent through them to its neighbours
/// (Istio 1.30, pull request 58613). Neither have networks that are reached without.
fn networks(reader: &ReaderView<'_>) -> BTreeMap<NetworkName, Network> {
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

/// The network that the spec states; while links rest on another one, that.
fn stated_network(reader: &ReaderView<'_>) -> Option<NetworkName> {
    own_network(reader).filter(|_| reader.cluster.network.is_some())
}

/// Names of services that an east-west gateway leads to.
pub(super) fn gateway_hosts(domain: &ClusterDomain) -> String {
    // Istio's own choice for the default domain: it takes in `clusterset.local`, too
    if *domain == ClusterDomain::kubernetes_default() { "*.local".to_owned() } else { format!("*.{domain}") }
}

pub(super) fn own_network(reader: &ReaderView<'_>) -> Option<NetworkName> {
    reader.known.map_or_else(|| reader.cluster.network.clone(), |known| known.network())
}

/// Ours and, since our document replaces the standard one, the networks of that, if there are any. Ours win by name, and a
/// registry of ours is in no other network.
fn standard(
    reader: &ReaderView<'_>,
    ours: &BTreeMap<NetworkName, Network>,
    out: &mut RenderedCluster,
) -> Option<MeshNetworks> {
    let seen = reader.known?.locked.standard_mesh_networks.as_deref();
    let stated = reader.cluster.istio.standard_mesh_networks.clone();
    let is_shown = reader.cluster.shows_mesh_networks();
    let networks = match (seen, stated) {
        (_, Some(stated)) if !is_shown => by_name(stated),
        (Some(text), _) => parse_standard(text),
        (None, Some(stated)) => by_name(stated),
        (None, None) => return None,
    };
    let standard = match networks {
        Ok(none) if none.is_empty() => return None,
        Ok(standard) => standard,
        Err(fault) => {
            out.warnings.push(broken_standard(reader, &fault));
            return None;
        }
    };
    let registries: BTreeSet<_> = ours.values().flat_map(|network| &network.endpoints).collect();
    let is_ours = |endpoint: &Value| {
        let name = endpoint.get("fromRegistry").and_then(Value::as_str);
        name.is_some_and(|name| registries.iter().any(|ours| ours.from_registry.as_str() == name))
    };
    let mut networks = BTreeMap::new();
    for (name, mut network) in standard {
        if let Some(Value::Array(endpoints)) = network.get_mut("endpoints") {
            endpoints.retain(|endpoint| !is_ours(endpoint));
        }
        networks.insert(name, AnyNetwork::Standard(network));
    }
    let ours = ours.iter().map(|(name, network)| (name.to_string(), AnyNetwork::Ours(network.clone())));
    networks.extend(ours);
    Some(MeshNetworks { networks })
}

fn parse_standard(text: &str) -> Result<BTreeMap<String, Map<String, Value>>, StandardFault> {
    // what the lock took in stays in use, also where a peer may say less today
    let document = yaml::value(text, MAX_OBJECT)?;
    let networks = match document {
        Value::Object(mut document) => document.remove("networks").unwrap_or(Value::Null),
        Value::Null => Value::Null,
        _ => return Err(StandardFault::NotMapping),
    };
    match networks {
        Value::Object(networks) => by_name(networks),
        Value::Null => Ok(BTreeMap::new()),
        _ => Err(StandardFault::NetworksNotMapping),
    }
}

fn by_name(networks: Map<String, Value>) -> Result<BTreeMap<String, Map<String, Value>>, StandardFault> {
    let network = |(name, network)| match network {
        Value::Object(network) => Ok((name, network)),
        _ => Err(StandardFault::NetworkNotMapping { name }),
    };
    networks.into_iter().map(network).collect()
}

fn broken_standard(reader: &ReaderView<'_>, fault: &StandardFault) -> Diagnostic {
    let cluster = &reader.cluster.name;
    let at = Location { file: Lock::cluster_path(cluster).into(), line: 1, column: 1 };
    Diagnostic::warning(Some(at), RenderFinding::StandardNetworks { cluster, fault })
}

/// The values file of a target: its name and its content.
fn values(
    reader: &ReaderView<'_>,
    target: MeshConfigTarget,
    mesh: &MeshConfig<'_>,
    networks: &BTreeMap<NetworkName, Network>,
) -> Result<(&'static str, Value), Diagnostics> {
    let mesh = serde_json::to_value(mesh).map_err(internal)?;
    let mut global = Map::new();
    global.insert("meshID".to_owned(), reader.mesh_id().as_str().into());
    if let Some(network) = stated_network(reader) {
        global.insert("network".to_owned(), network.as_str().into());
    }
    // while links rest on another one, that
    let stated_id = reader.cluster.cluster_id.clone();
    if let Some(id) = stated_id.map(|stated| reader.known.map_or(stated, |known| known.cluster_id())) {
        global.insert("multiCluster".to_owned(), json!({ "clusterName": id }));
    }
    if !networks.is_empty() {
        global.insert("meshNetworks".to_owned(), serde_json::to_value(networks).map_err(internal)?);
    }
    let mut switches = json!({ MULTIROOT: "true" });
    let mut pilot = Map::new();
    if reader.carries_token() {
        switches = json!({ MULTIROOT: "true", KUBECONFIG_OPTIONS: "tokenFile" });
        pilot.extend(volume_of_relay_token());
    }
    pilot.insert("env".to_owned(), switches);
    let istio = &reader.cluster.istio;
    let control_plane = istio.revisions.first().map_or(Revision::UNNAMED, Revision::of_sail);
    Ok(match target {
        MeshConfigTarget::IstioOperator => (
            ISTIO_OPERATOR_FILE,
            json!({
                "apiVersion": "install.istio.io/v1alpha1",
                "kind": "IstioOperator",
                "metadata": { "name": "isthmus", "namespace": istio.namespace },
                "spec": { "meshConfig": mesh, "values": { "global": global, "pilot": pilot } },
            }),
        ),
        MeshConfigTarget::Sail => (
            SAIL_FILE,
            json!({
                "apiVersion": "sailoperator.io/v1",
                "kind": "Istio",
                "metadata": { "name": control_plane },
                "spec": { "values": { "meshConfig": mesh, "global": global, "pilot": pilot } },
            }),
        ),
        MeshConfigTarget::HelmValues | MeshConfigTarget::SharedMeshConfig | MeshConfigTarget::None => {
            pilot.extend([("global".to_owned(), global.into()), ("meshConfig".to_owned(), mesh)]);
            (HELM_FILE, pilot.into())
        }
    })
}

/// The volume of istiod's pod with the token that it shows the relay.
fn volume_of_relay_token() -> [(String, Value); 2] {
    let (folder, file) = RELAY_TOKEN.rsplit_once('/').unwrap_or_default();
    let token = json!({ "audience": RELAY_AUDIENCE, "expirationSeconds": 3600, "path": file });
    // the volume is called as its tokens are
    let volume = json!({ "name": RELAY_AUDIENCE, "projected": { "sources": [{ "serviceAccountToken": token }] } });
    let mount = json!({ "name": RELAY_AUDIENCE, "mountPath": folder, "readOnly": true });
    [("volumes".to_owned(), json!([volume])), ("volumeMounts".to_owned(), json!([mount]))]
}

/// The Gateway that passes the TLS of peers through to services of the cluster, where the cluster has gateways.
fn gateway(reader: &ReaderView<'_>, out: &mut RenderedCluster) {
    let cluster = reader.cluster;
    // also those of which neither spec nor document speaks any more: peers were told of them
    let known = reader.known.and_then(|known| known.endpoint()).map(|proxy| proxy.gateways);
    let stated = cluster.stated_gateways().map(<[_]>::to_vec);
    let has_gateways = stated.or(known).is_some_and(|gateways| !gateways.is_empty());
    // a peer may read this cluster for longer than this cluster reads the peer
    let is_read = reader.reachable().next().is_some() || reader.links.iter().any(|link| link.stage.is_leaving());
    if cluster.flat_network || !has_gateways || !is_read {
        return;
    }
    let spec = json!({
        "selector": { "istio": "eastwestgateway" },
        "servers": [{
            "hosts": [gateway_hosts(&cluster.cluster_domain)],
            "port": { "name": "tls", "number": GATEWAY_PORT, "protocol": "TLS" },
            "tls": { "mode": "AUTO_PASSTHROUGH" },
        }],
    });
    let steps = vec![reader.step(StepKind::RenderNetworks)];
    let draft = reader.object("networking.istio.io/v1", "Gateway", CROSS_NETWORK, steps);
    out.objects.push(draft.field("spec", spec).done());
}
