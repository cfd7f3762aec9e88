//! The fields of each kind of document.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::model::mesh::{
    DeckhouseCrd, EvidenceField, EvidenceRule, Expose, ExternalTrafficPolicy, FirstContact, MeshConfigTarget,
    Reconciler, State,
};
use crate::spec::declared::{
    AllowSpec, CaSpec, ClusterSpec, EngineKeySpec, IstioSpec, MeshSpec, MulticlusterSpec, Pair, PeerSpec, PinSpec,
    ShareSpec, SharesWith, Spec,
};
use crate::spec::finding::SpecFinding;
use crate::spec::read::{At, FORMER_KEY, FieldReader, Fields};
use crate::spec::tree::{DocumentNode, FileFindings};
use crate::types::address::Gateway;
use crate::types::name::{ClusterName, InvalidName, NamespacePattern};

/// API version of our documents.
pub const API: &str = "isthmus.dev/v1alpha1";
/// API version of Deckhouse's `IstioMulticluster`.
pub const DECKHOUSE_API: &str = "deckhouse.io/v1alpha1";
const KINDS: [&str; 3] = ["Mesh", "Cluster", "IstioMulticluster"];

pub(super) const DOCUMENT: &[&str] = &["apiVersion", "kind", "metadata", "spec"];
pub(super) const MESH: &[&str] = &[
    "meshID",
    "topology",
    "pairs",
    "acceptForeignRoots",
    "firstContact",
    "credentials",
    "engineKeys",
    "requiredEngine",
    "settle",
    "rootOverlap",
];
pub(super) const CREDENTIALS: &[&str] = &["mode", "requireToken"];
/// Fields of direct credentials, which version 0.1 had.
const DIRECT_CREDENTIALS: [&str; 2] = ["lifetime", "acceptRotationGap"];
pub(super) const CLUSTER: &[&str] = &[
    "mesh",
    "reconciler",
    "state",
    "multicluster",
    "metadata",
    "pin",
    "clusterDomain",
    "clusterID",
    "network",
    "trustDomain",
    "mergeTrustDomains",
    "istio",
    "gateway",
    "gateways",
    "flatNetwork",
    "api",
    "share",
    "shareWith",
    "allow",
    "evidence",
    "settle",
    "rootOverlap",
    "distrust",
];
pub(super) const MULTICLUSTER: &[&str] = &[
    "enabled",
    "image",
    "replicas",
    "expose",
    "externalTrafficPolicy",
    "trustedProxies",
    "clusterCIDRs",
    "admissionPolicy",
    "apiHost",
    "tlsSecret",
];
pub(super) const GATEWAY: &[&str] = &["manage"];
pub(super) const METADATA: &[&str] = &["endpoint", "ca", "crd"];
pub(super) const PIN: &[&str] = &["clusterUUID", "authnKey", "rootCA"];
pub(super) const SHARE: &[&str] = &["namespaces", "except"];
pub(super) const ISTIO: &[&str] =
    &["namespace", "revisions", "config", "dnsCapture", "prepared", "standardMeshNetworks"];
pub(super) const PEER: &[&str] =
    &["metadataEndpoint", "enableIngressGateway", "metadata", "state", "pin", "share", "allow", "evidence"];
pub(super) const ALLOW: &[&str] = &["apiHosts", "addresses"];
/// The same in Deckhouse's API, which knows nothing of the rest.
const DECKHOUSE_PEER: &[&str] = &["metadataEndpoint", "enableIngressGateway", "metadata"];

pub(super) const RECONCILERS: &[(&str, Reconciler)] = &[
    (Reconciler::Rendered.as_str(), Reconciler::Rendered),
    (Reconciler::Agent.as_str(), Reconciler::Agent),
    (Reconciler::Deckhouse.as_str(), Reconciler::Deckhouse),
    (Reconciler::External.as_str(), Reconciler::External),
];
pub(super) const CRDS: &[(&str, DeckhouseCrd)] =
    &[("v1alpha1", DeckhouseCrd::Current), ("v1alpha1-old", DeckhouseCrd::EndpointInMetadata)];
pub(super) const STATES: &[(&str, State)] =
    &[("active", State::Active), ("paused", State::Paused), ("leaving", State::Leaving), ("lost", State::Lost)];
pub(super) const EXPOSES: &[(&str, Expose)] = &[
    ("LoadBalancer", Expose::LoadBalancer),
    ("NodePort", Expose::NodePort),
    ("ClusterIP", Expose::ClusterIP),
    ("Gateway", Expose::Gateway),
];
pub(super) const TRAFFIC_POLICIES: &[(&str, ExternalTrafficPolicy)] =
    &[("Local", ExternalTrafficPolicy::Local), ("Cluster", ExternalTrafficPolicy::Cluster)];
pub(super) const CONFIGS: &[(&str, MeshConfigTarget)] = &[
    ("sharedMeshConfig", MeshConfigTarget::SharedMeshConfig),
    ("helmValues", MeshConfigTarget::HelmValues),
    ("istioOperator", MeshConfigTarget::IstioOperator),
    ("sail", MeshConfigTarget::Sail),
    ("none", MeshConfigTarget::None),
];
/// Whether nothing is shown.
pub(super) const EVIDENCE: &[(&str, bool)] = &[("required", false), ("none", true)];
pub(super) const EVIDENCE_FIELDS: &[(&str, EvidenceField)] = &[
    ("reads", EvidenceField::Reads),
    ("trusts", EvidenceField::Trusts),
    ("networks", EvidenceField::Networks),
    ("routes", EvidenceField::Routes),
    ("prepared", EvidenceField::Prepared),
];
pub(super) const FIRST_CONTACTS: &[(&str, FirstContact)] =
    &[("tls", FirstContact::Tls), ("approve", FirstContact::Approve)];

/// Reads one document into the spec.
pub(super) fn read(document: &DocumentNode, findings: &mut FileFindings, spec: &mut Spec) {
    let mut reader = FieldReader { findings, lenient: false };
    let before = (spec.meshes.len(), spec.clusters.len(), spec.peers.len());
    let Some(fields) = reader.open_fields(document, "the document") else { return };
    let kind = reader.required(&fields, "kind");
    let kind = reader.text(kind);
    let version = reader.required(&fields, "apiVersion");
    let version = reader.text(version);
    match (kind, version) {
        (Some(kind), Some(version)) if known(&mut reader, &kind, &version) => {
            reader.lenient = version.value == DECKHOUSE_API;
            reader.fields(document, "the document", DOCUMENT);
            match kind.value.as_str() {
                "Mesh" => spec.meshes.extend(mesh(&mut reader, &fields)),
                "Cluster" => spec.clusters.extend(cluster(&mut reader, &fields)),
                _ => spec.peers.extend(peer(&mut reader, &fields)),
            }
        }
        _ => {}
    }
    if before == (spec.meshes.len(), spec.clusters.len(), spec.peers.len()) {
        spec.partial = true;
    }
}

/// Whether the kind exists in the API version; reports it when not.
fn known(reader: &mut FieldReader<'_>, kind: &At<String>, version: &At<String>) -> bool {
    if !KINDS.contains(&kind.value.as_str()) {
        reader.error(&kind.at, &SpecFinding::UnknownKind { kind: &kind.value, known: &KINDS });
        return false;
    }
    let of_deckhouse = version.value == DECKHOUSE_API && kind.value == "IstioMulticluster";
    if version.value != API && !of_deckhouse {
        let unknown = SpecFinding::UnknownVersion { version: &version.value, kind: &kind.value, wanted: API };
        reader.error(&version.at, &unknown);
        return false;
    }
    true
}

fn name<T>(reader: &mut FieldReader<'_>, document: &Fields<'_>, known: &[&str]) -> Option<At<T>>
where
    T: std::str::FromStr<Err = InvalidName>,
{
    let metadata = reader.required(document, "metadata")?;
    let fields = reader.fields(metadata, "metadata", known)?;
    let name = reader.required(&fields, "name");
    reader.name(name)
}

fn mesh(reader: &mut FieldReader<'_>, document: &Fields<'_>) -> Option<MeshSpec> {
    let name = name(reader, document, &["name"]);
    let spec = reader.required(document, "spec")?;
    let fields = reader.fields_after(spec, "the spec of a Mesh", MESH, &["encryption"])?;
    let mut require_token = None;
    if let Some(node) = fields.get("credentials")
        && let Some(fields) = reader.fields_after(node, "credentials", CREDENTIALS, &DIRECT_CREDENTIALS)
    {
        match fields.get("mode") {
            Some(mode) if mode.is_text("direct") => reader.refuse_direct(&mode.at, "mode: direct"),
            mode => {
                reader.choice(mode, &[("relay", ())]);
            }
        }
        require_token = reader.flag(fields.get("requireToken"));
    }
    let mesh = MeshSpec {
        mesh_id: reader.name(fields.get("meshID")),
        by_pairs: reader.choice(fields.get("topology"), &[("full", false), ("pairs", true)]),
        pairs: pairs(reader, fields.get("pairs")),
        accept_foreign_roots: reader.flag(fields.get("acceptForeignRoots")),
        first_contact: reader.choice(fields.get("firstContact"), FIRST_CONTACTS),
        require_token,
        engine_keys: engine_keys(reader, fields.get("engineKeys")),
        required_engine: reader.text(fields.get("requiredEngine")),
        settle: duration(reader, fields.get("settle")),
        root_overlap: duration(reader, fields.get("rootOverlap")),
        name: name?,
    };
    Some(mesh)
}

fn pairs(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<At<Vec<At<Pair>>>> {
    let items = reader.list(node)?;
    let mut pairs = Vec::new();
    for item in items.value {
        let Some(names) = reader.names::<ClusterName>(Some(item)) else { continue };
        let written = reader.list(Some(item)).map_or(0, |items| items.value.len());
        match Pair::try_from(names.value) {
            Ok(pair) => pairs.push(At { value: pair, at: names.at }),
            Err(_) if written == 2 => {}
            Err(_) => reader.error(&names.at, &SpecFinding::PairSize { written }),
        }
    }
    Some(At { value: pairs, at: items.at })
}

fn engine_keys(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Vec<EngineKeySpec> {
    let items = reader.list(node).map_or(&[][..], |items| items.value);
    let mut keys = Vec::new();
    for item in items {
        let Some(fields) = reader.fields(item, "an engine key", &["id", "publicKey"]) else { continue };
        let (id, public_key) = (reader.required(&fields, "id"), reader.required(&fields, "publicKey"));
        if let (Some(id), Some(public_key)) = (reader.name(id), reader.text(public_key)) {
            keys.push(EngineKeySpec { id, public_key });
        }
    }
    keys
}

fn cluster(reader: &mut FieldReader<'_>, document: &Fields<'_>) -> Option<ClusterSpec> {
    let name = name(reader, document, &["name"]);
    let spec = reader.required(document, "spec")?;
    let fields = reader.fields_after(spec, "the spec of a Cluster", CLUSTER, &[FORMER_KEY])?;
    let (mut endpoint, mut endpoint_ca, mut crd) = (None, None, None);
    if let Some(node) = reader.required(&fields, "metadata")
        && let Some(fields) = reader.fields(node, "spec.metadata", METADATA)
    {
        let node = reader.required(&fields, "endpoint");
        endpoint = reader.name(node);
        endpoint_ca = ca(reader, fields.get("ca"));
        crd = reader.choice(fields.get("crd"), CRDS);
    }
    let (mut api_host, mut api_ca) = (None, None);
    if let Some(node) = fields.get("api")
        && let Some(fields) = reader.fields(node, "api", &["host", "ca"])
    {
        api_host = reader.name(fields.get("host"));
        api_ca = ca(reader, fields.get("ca"));
    }
    let AllowSpec { api_hosts: allow_api_hosts, addresses: allow_addresses } = allow(reader, fields.get("allow"));
    let stated =
        fields.get("share").and_then(|node| Some(At { value: share(reader, node, "share")?, at: node.at.clone() }));
    let cluster = ClusterSpec {
        mesh: reader.name(fields.get("mesh")),
        reconciler: reader.choice(fields.get("reconciler"), RECONCILERS),
        state: reader.choice(fields.get("state"), STATES),
        multicluster: multicluster(reader, &fields),
        endpoint,
        endpoint_ca,
        crd,
        pin: pin(reader, fields.get("pin")),
        cluster_domain: reader.name(fields.get("clusterDomain")),
        cluster_id: reader.name(fields.get("clusterID")),
        network: reader.name(fields.get("network")),
        trust_domain: reader.name(fields.get("trustDomain")),
        merge_trust_domains: reader.flag(fields.get("mergeTrustDomains")),
        istio: istio(reader, fields.get("istio")),
        manages_gateway: manages_gateway(reader, fields.get("gateway")),
        gateways: gateways(reader, fields.get("gateways")),
        flat_network: reader.flag(fields.get("flatNetwork")),
        api_host,
        api_ca,
        allow_api_hosts,
        allow_addresses,
        share: stated,
        share_with: share_with(reader, fields.get("shareWith")),
        evidence: evidence(reader, fields.get("evidence")),
        settle: duration(reader, fields.get("settle")),
        root_overlap: duration(reader, fields.get("rootOverlap")),
        distrust: reader.names(fields.get("distrust")).map_or_else(Vec::new, |all| all.value),
        name: name?,
    };
    Some(cluster)
}

/// Addresses that a cluster may publish.
fn allow(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> AllowSpec {
    let Some(fields) = node.and_then(|node| reader.fields(node, "allow", ALLOW)) else { return AllowSpec::default() };
    AllowSpec {
        api_hosts: reader.names(fields.get("apiHosts")).map_or_else(Vec::new, |all| all.value),
        addresses: reader.names(fields.get("addresses")).map_or_else(Vec::new, |all| all.value),
    }
}

/// `90s`, `10m`, `1h`, or `0s`.
fn duration(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<At<Duration>> {
    let text = reader.text(node)?;
    match crate::types::duration::duration(&text.value) {
        Ok(value) => Some(At { value, at: text.at }),
        Err(problem) => {
            reader.error(&text.at, &SpecFinding::Duration { text: &text.value, problem });
            None
        }
    }
}

/// `required`, `none`, or `{attested: […]}` with the fields that someone attests.
fn evidence(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<At<EvidenceRule>> {
    let node = node?;
    if !node.is_mapping() {
        let rule = reader.choice(Some(node), EVIDENCE)?;
        return Some(rule.map(|none| if none { EvidenceRule::None } else { EvidenceRule::Required }));
    }
    let fields = reader.fields(node, "evidence", &["attested"])?;
    let attested = reader.required(&fields, "attested");
    let items = reader.list(attested)?;
    let found: Vec<_> = items.value.iter().map(|item| reader.choice(Some(item), EVIDENCE_FIELDS)).collect();
    let attested: Option<BTreeSet<EvidenceField>> = found.into_iter().map(|field| Some(field?.value)).collect();
    Some(At { value: EvidenceRule::Attested(attested?), at: node.at.clone() })
}

fn multicluster(reader: &mut FieldReader<'_>, spec: &Fields<'_>) -> Option<At<MulticlusterSpec>> {
    let fields = reader.fields(spec.get("multicluster")?, "multicluster", MULTICLUSTER)?;
    let replicas = reader.number(fields.get("replicas"), 1..=100);
    let value = MulticlusterSpec {
        enabled: reader.flag(fields.get("enabled")),
        image: image(reader, fields.get("image")),
        replicas: replicas.map(|all| all.map(|count| u16::try_from(count).unwrap_or(u16::MAX))),
        expose: reader.choice(fields.get("expose"), EXPOSES),
        external_traffic_policy: reader.choice(fields.get("externalTrafficPolicy"), TRAFFIC_POLICIES),
        trusted_proxies: reader.names(fields.get("trustedProxies")).map_or_else(Vec::new, |all| all.value),
        cluster_cidrs: reader.names(fields.get("clusterCIDRs")).map_or_else(Vec::new, |all| all.value),
        admission_policy: reader.flag(fields.get("admissionPolicy")),
        api_host: reader.name(fields.get("apiHost")),
        tls_secret: reader.name(fields.get("tlsSecret")),
    };
    Some(At { value, at: spec.key_at("multicluster").unwrap_or(&fields.at).clone() })
}

/// A container image: no spaces and nothing that a manifest would have to quote twice.
fn image(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<At<String>> {
    let image = reader.text(node)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    let fits = image.value.len() <= 512
        && image.value.bytes().all(plain)
        && image.value.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !fits {
        reader.error(&image.at, &SpecFinding::Image { text: &image.value });
    }
    fits.then_some(image)
}

fn ca(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<CaSpec> {
    let node = node?;
    let fields = reader.fields(node, "ca", &["file", "inline"])?;
    match (fields.get("file"), fields.get("inline")) {
        (Some(file), None) => path(reader, file).map(CaSpec::File),
        (None, Some(inline)) => reader.text(Some(inline)).map(CaSpec::Inline),
        (found, _) => {
            reader.error(&node.at, if found.is_some() { &SpecFinding::CaTwice } else { &SpecFinding::CaNowhere });
            None
        }
    }
}

/// A path that stays inside the checkout.
fn path(reader: &mut FieldReader<'_>, node: &Arc<DocumentNode>) -> Option<At<String>> {
    let path = reader.text(Some(node))?;
    let inside = path.value.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.value.contains(|c: char| c == '\\' || c.is_control());
    if !inside {
        reader.error(&path.at, &SpecFinding::Path { path: &path.value });
    }
    inside.then_some(path)
}

fn pin(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> PinSpec {
    let Some(fields) = node.and_then(|node| reader.fields(node, "pin", PIN)) else { return PinSpec::default() };
    PinSpec {
        cluster_uuid: reader.name(fields.get("clusterUUID")),
        authn_key: reader.name(fields.get("authnKey")),
        root_ca: reader.names(fields.get("rootCA")).map_or_else(Vec::new, |all| all.value),
    }
}

fn istio(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> IstioSpec {
    let Some(fields) = node.and_then(|node| reader.fields(node, "istio", ISTIO)) else { return IstioSpec::default() };
    IstioSpec {
        namespace: reader.name(fields.get("namespace")),
        revisions: reader.names(fields.get("revisions")),
        config: reader.choice(fields.get("config"), CONFIGS),
        dns_capture: reader.flag(fields.get("dnsCapture")),
        prepared: reader.flag(fields.get("prepared")),
        standard_mesh_networks: reader.none_or_map(fields.get("standardMeshNetworks")),
    }
}

fn manages_gateway(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<At<bool>> {
    let fields = reader.fields(node?, "gateway", GATEWAY)?;
    reader.flag(fields.get("manage"))
}

fn gateways(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<At<Vec<At<Gateway>>>> {
    let items = reader.list(node)?;
    let mut gateways = Vec::new();
    for item in items.value {
        let Some(fields) = reader.fields(item, "a gateway", &["address", "port"]) else { continue };
        let address = reader.required(&fields, "address");
        let address = reader.name(address);
        let port = match fields.get("port") {
            Some(port) => reader.number(Some(port), 1..=65_535).and_then(|port| u16::try_from(port.value).ok()),
            None => Some(15_443),
        };
        if let (Some(address), Some(port)) = (address, port) {
            gateways.push(address.map(|address| Gateway { address, port }));
        }
    }
    Some(At { value: gateways, at: items.at })
}

/// Which namespaces peers see.
fn share(reader: &mut FieldReader<'_>, node: &Arc<DocumentNode>, what: &'static str) -> Option<ShareSpec> {
    let fields = reader.fields(node, what, SHARE)?;
    Some(ShareSpec {
        namespaces: patterns(reader, fields.get("namespaces")),
        except: patterns(reader, fields.get("except")),
    })
}

fn patterns(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<BTreeSet<NamespacePattern>> {
    let patterns = reader.names(node)?;
    let (written, most) = (patterns.value.len(), NamespacePattern::MOST);
    if written > most {
        reader.error(&patterns.at, &SpecFinding::TooManyPatterns { written, most });
        return None;
    }
    Some(patterns.value.into_iter().map(|pattern| pattern.value).collect())
}

/// The same for single peers.
fn share_with(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<At<SharesWith>> {
    let node = node?;
    let fields = reader.open_fields(node, "shareWith")?;
    let mut shares = Vec::new();
    for (key, node) in fields.iter() {
        let (peer, share) = (reader.key(&key), share(reader, node, "shareWith of a peer"));
        shares.extend(peer.zip(share));
    }
    Some(At { value: shares, at: node.at.clone() })
}

fn peer(reader: &mut FieldReader<'_>, document: &Fields<'_>) -> Option<PeerSpec> {
    let known = ["name", "namespace", "labels", "annotations"];
    let name = name(reader, document, &known);
    let spec = reader.required(document, "spec")?;
    let known = if reader.lenient { DECKHOUSE_PEER } else { PEER };
    let fields = reader.fields(spec, "the spec of an IstioMulticluster", known)?;
    // revisions of Deckhouse's CRD have the endpoint in one place or the other
    let known_metadata: &[&str] =
        if reader.lenient { &["endpoint", "ca", "insecureSkipVerify"] } else { &["ca", "insecureSkipVerify"] };
    let (mut endpoint_ca, mut within) = (None, None);
    if let Some(node) = fields.get("metadata")
        && let Some(fields) = reader.fields(node, "spec.metadata", known_metadata)
    {
        within = fields.get("endpoint").cloned();
        endpoint_ca = reader.text(fields.get("ca")).filter(|ca| !ca.value.is_empty());
        if let Some(At { value: true, at }) = reader.flag(fields.get("insecureSkipVerify")) {
            reader.error(&at, &SpecFinding::InsecureSkipVerify);
        }
    }
    let endpoint = match (fields.get("metadataEndpoint"), &within) {
        (None, Some(within)) => Some(within),
        _ => reader.required(&fields, "metadataEndpoint"),
    };
    // what Deckhouse's API does not know is not read there
    let own = |field: &str| if reader.lenient { None } else { fields.get(field) };
    let (own_state, own_pin, own_share) = (own("state"), own("pin"), own("share"));
    let (own_allow, own_evidence) = (own("allow"), own("evidence"));
    let peer = PeerSpec {
        endpoint: reader.name(endpoint),
        endpoint_ca,
        enable_ingress_gateway: reader.flag(fields.get("enableIngressGateway")),
        state: reader.choice(own_state, STATES),
        pin: pin(reader, own_pin),
        share: own_share.and_then(|node| share(reader, node, "share")),
        allow: allow(reader, own_allow),
        evidence: evidence(reader, own_evidence),
        of_deckhouse: reader.lenient,
        name: name?,
    };
    Some(peer)
}
