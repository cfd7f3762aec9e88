//! What is declared: a value for each kind of document, each of its values with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::mesh::{
    DeckhouseCrd, EvidenceRule, Expose, ExternalTrafficPolicy, FirstContact, MeshConfigTarget, Reconciler, State,
};
use crate::spec::read::At;
use crate::types::address::{ApiHost, Cidr, Endpoint, Gateway, HostPattern};
use crate::types::diagnostic::{Diagnostics, Location};
use crate::types::key::KeyId;
use crate::types::name::{
    ClusterDomain, ClusterId, ClusterName, ClusterUuid, Digest, MeshId, MeshName, Namespace, NamespacePattern,
    NetworkName, ObjectName, Revision, TrustDomain,
};

/// A spec file as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path relative to the checkout, for example `specs/mesh.yaml`.
    pub path: Arc<str>,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.bytes.len())
    }
}

/// All documents of a checkout, in the order of files and documents.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// `Mesh` documents.
    pub meshes: Vec<MeshSpec>,
    /// `Cluster` documents.
    pub clusters: Vec<ClusterSpec>,
    /// `IstioMulticluster` documents.
    pub peers: Vec<PeerSpec>,
    /// The lines of the files, for excerpts.
    pub(crate) texts: Texts,
    /// Findings of the reading; only warnings when [`parse`] succeeded.
    pub(crate) findings: Diagnostics,
    /// A document could not be read so far that its name is known; what refers to it is no finding.
    pub(crate) partial: bool,
    /// Files with errors: what is missing in them may only be misspelt.
    pub(crate) flawed: BTreeSet<Arc<str>>,
}

/// Two clusters that are to be linked.
pub type Pair = [At<ClusterName>; 2];

/// A `Mesh` document.
#[derive(Debug, Clone)]
pub struct MeshSpec {
    /// `metadata.name`.
    pub name: At<MeshName>,
    /// `spec.meshID`.
    pub mesh_id: Option<At<MeshId>>,
    /// `spec.topology`; `true` when it is `pairs`.
    pub by_pairs: Option<At<bool>>,
    /// `spec.pairs`, each of two names.
    pub pairs: Option<At<Vec<At<Pair>>>>,
    /// `spec.acceptForeignRoots`.
    pub accept_foreign_roots: Option<At<bool>>,
    /// `spec.firstContact`.
    pub first_contact: Option<At<FirstContact>>,
    /// `spec.credentials.requireToken`.
    pub require_token: Option<At<bool>>,
    /// `spec.engineKeys`: id and PEM.
    pub engine_keys: Vec<EngineKeySpec>,
    /// `spec.requiredEngine`.
    pub required_engine: Option<At<String>>,
    /// `spec.settle`.
    pub settle: Option<At<Duration>>,
    /// `spec.rootOverlap`.
    pub root_overlap: Option<At<Duration>>,
}

/// An entry of `spec.engineKeys`.
#[derive(Debug, Clone)]
pub struct EngineKeySpec {
    pub id: At<KeyId>,
    /// Its public half, PEM.
    pub public_key: At<String>,
}

/// A `Cluster` document.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// `metadata.name`.
    pub name: At<ClusterName>,
    /// `spec.mesh`.
    pub mesh: Option<At<MeshName>>,
    /// `spec.reconciler`.
    pub reconciler: Option<At<Reconciler>>,
    /// `spec.state`.
    pub state: Option<At<State>>,
    /// `spec.multicluster`.
    pub multicluster: Option<At<MulticlusterSpec>>,
    /// `spec.metadata.endpoint`; `None` only when it was reported as missing or wrong.
    pub endpoint: Option<At<Endpoint>>,
    /// `spec.metadata.ca`.
    pub endpoint_ca: Option<CaSpec>,
    /// `spec.metadata.crd`.
    pub crd: Option<At<DeckhouseCrd>>,
    /// `spec.pin`.
    pub pin: PinSpec,
    /// `spec.clusterDomain`.
    pub cluster_domain: Option<At<ClusterDomain>>,
    /// `spec.clusterID`.
    pub cluster_id: Option<At<ClusterId>>,
    /// `spec.network`.
    pub network: Option<At<NetworkName>>,
    /// `spec.trustDomain`.
    pub trust_domain: Option<At<TrustDomain>>,
    /// `spec.mergeTrustDomains`.
    pub merge_trust_domains: Option<At<bool>>,
    /// `spec.istio`.
    pub istio: IstioSpec,
    /// `spec.gateway.manage`.
    pub manages_gateway: Option<At<bool>>,
    /// `spec.gateways`.
    pub gateways: Option<At<Vec<At<Gateway>>>>,
    /// `spec.flatNetwork`.
    pub flat_network: Option<At<bool>>,
    /// `spec.api.host`.
    pub api_host: Option<At<ApiHost>>,
    /// `spec.api.ca`.
    pub api_ca: Option<CaSpec>,
    /// `spec.allow.apiHosts`.
    pub allow_api_hosts: Vec<At<HostPattern>>,
    /// `spec.allow.addresses`.
    pub allow_addresses: Vec<At<Cidr>>,
    /// `spec.share`.
    pub share: Option<At<ShareSpec>>,
    /// `spec.shareWith`, by peer.
    pub share_with: Option<At<SharesWith>>,
    /// `spec.evidence`.
    pub evidence: Option<At<EvidenceRule>>,
    /// `spec.settle`.
    pub settle: Option<At<Duration>>,
    /// `spec.rootOverlap`.
    pub root_overlap: Option<At<Duration>>,
    /// `spec.distrust`.
    pub distrust: Vec<At<Digest>>,
}

/// `spec.multicluster` of a `Cluster`.
#[derive(Debug, Clone, Default)]
pub struct MulticlusterSpec {
    /// `enabled`.
    pub enabled: Option<At<bool>>,
    /// `image`.
    pub image: Option<At<String>>,
    /// `replicas`.
    pub replicas: Option<At<u16>>,
    /// `expose`.
    pub expose: Option<At<Expose>>,
    /// `externalTrafficPolicy`.
    pub external_traffic_policy: Option<At<ExternalTrafficPolicy>>,
    /// `trustedProxies`.
    pub trusted_proxies: Vec<At<Cidr>>,
    /// `clusterCIDRs`.
    pub cluster_cidrs: Vec<At<Cidr>>,
    /// `admissionPolicy`.
    pub admission_policy: Option<At<bool>>,
    /// `apiHost`.
    pub api_host: Option<At<ApiHost>>,
    /// `tlsSecret`.
    pub tls_secret: Option<At<ObjectName>>,
}

/// `spec.pin` of a `Cluster`.
#[derive(Debug, Clone, Default)]
pub struct PinSpec {
    /// `clusterUUID`.
    pub cluster_uuid: Option<At<ClusterUuid>>,
    /// `authnKey`.
    pub authn_key: Option<At<Digest>>,
    /// `rootCA`.
    pub root_ca: Vec<At<Digest>>,
}

/// `spec.allow`.
#[derive(Debug, Clone, Default)]
pub struct AllowSpec {
    /// `apiHosts`.
    pub api_hosts: Vec<At<HostPattern>>,
    /// `addresses`.
    pub addresses: Vec<At<Cidr>>,
}

/// `spec.share` of a `Cluster`, or what it shares with one peer.
#[derive(Debug, Clone, Default)]
pub struct ShareSpec {
    /// `namespaces`.
    pub namespaces: Option<BTreeSet<NamespacePattern>>,
    /// `except`.
    pub except: Option<BTreeSet<NamespacePattern>>,
}

/// `spec.shareWith` of a `Cluster`.
pub(crate) type SharesWith = Vec<(At<ClusterName>, ShareSpec)>;

/// `spec.istio` of a `Cluster`.
#[derive(Debug, Clone, Default)]
pub struct IstioSpec {
    /// `namespace`.
    pub namespace: Option<At<Namespace>>,
    /// `revisions`.
    pub revisions: Option<At<Vec<At<Revision>>>>,
    /// `config`.
    pub config: Option<At<MeshConfigTarget>>,
    /// `dnsCapture`.
    pub dns_capture: Option<At<bool>>,
    /// `prepared`.
    pub prepared: Option<At<bool>>,
    /// `standardMeshNetworks`: networks by name; `none` is an empty map.
    pub standard_mesh_networks: Option<At<Map<String, Value>>>,
}

/// Certificates, in a file of the checkout or in the spec.
#[derive(Debug, Clone)]
pub enum CaSpec {
    /// A path below the checkout.
    File(At<String>),
    /// PEM.
    Inline(At<String>),
}

/// An `IstioMulticluster` document, of either API group: a peer of the clusters of this checkout.
#[derive(Debug, Clone)]
pub struct PeerSpec {
    /// `metadata.name`.
    pub name: At<ClusterName>,
    /// `spec.metadataEndpoint`; `None` only when it was reported as missing or wrong.
    pub endpoint: Option<At<Endpoint>>,
    /// `spec.metadata.ca`, PEM.
    pub endpoint_ca: Option<At<String>>,
    /// `spec.enableIngressGateway`; `false` says that pods reach each other without a gateway.
    pub enable_ingress_gateway: Option<At<bool>>,
    /// `spec.state`, of our own API group alone.
    pub state: Option<At<State>>,
    /// `spec.share`, of our own API group alone: what the peer sees of the clusters of this checkout.
    pub share: Option<ShareSpec>,
    /// `spec.allow`, of our own API group alone.
    pub allow: AllowSpec,
    /// `spec.pin`, of our own API group alone.
    pub pin: PinSpec,
    /// `spec.evidence`, of our own API group alone.
    pub evidence: Option<At<EvidenceRule>>,
    /// It is of Deckhouse's API group.
    pub of_deckhouse: bool,
}

impl Spec {
    /// Whether a field that is missing in the document at the place may be there, misspelt.
    pub(crate) fn may_be_misspelt(&self, at: &Location) -> bool {
        self.flawed.contains(&at.file)
    }
}

/// The lines of the files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts(BTreeMap<Arc<str>, Vec<String>>);

impl Texts {
    pub(super) fn add(&mut self, path: &Arc<str>, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        self.0.insert(path.clone(), text.split('\n').map(|line| line.trim_end_matches('\r').to_owned()).collect());
    }

    /// The line of a place; none when it may hold key material.
    pub(crate) fn line(&self, at: &Location) -> Option<String> {
        let line = self.0.get(&at.file)?.get(at.line.checked_sub(1)?)?;
        let key_material = line.trim().len() >= 40
            && line.trim().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_'));
        let key_material = key_material || (line.contains("PRIVATE KEY") && line.trim().len() > 40);
        (!line.trim().is_empty() && !key_material).then(|| line.clone())
    }
}
