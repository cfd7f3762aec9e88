//! What is true: the mesh that the specs declare, with every default filled in and every reference resolved.
//!
//! A [`Mesh`] is made by [`compile`](crate::pipeline::compile) alone. A dangling reference cannot be expressed in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::layout::{HELM_FILE, ISTIO_OPERATOR_FILE, SAIL_FILE, values_file};
use crate::types::address::{ApiHost, Cidr, Endpoint, Gateway, HostPattern};
use crate::types::diagnostic::Location;
use crate::types::key::{KeyId, PublicKey};
use crate::types::name::{
    ClusterDomain, ClusterId, ClusterName, ClusterUuid, Digest, MeshId, MeshName, Namespace, NetworkName, ObjectName,
    Revision, TrustDomain,
};
use crate::wire::share::Share;

/// A mesh and its clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    pub name: MeshName,
    /// Where its name is stated.
    pub at: Location,
    /// `global.meshID` of Istio.
    pub mesh_id: MeshId,
    /// How first contact is approved.
    pub first_contact: FirstContact,
    /// Whether istiod shows the relay a token of its `ServiceAccount`, which it reads from a projected volume; `None`: in each
    /// cluster that shows such a token in its istiod when its first link opens.
    pub require_token: Option<bool>,
    /// The engine's keys that the spec states; empty: those of `lock/mesh.yaml`.
    pub engine_keys: Vec<EngineKey>,
    /// All clusters, also those that are paused or leaving.
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// Who is linked with whom, when not all with all. Symmetric.
    pub topology: Topology,
    /// The run acts inside the one cluster of ours that there is, with that cluster's own key: it is the agent's.
    pub inside: bool,
}

impl Mesh {
    /// What the specs of an agent are to the agent itself: it writes every object of the links of its cluster, and the components
    /// are written by whoever installed it.
    pub fn act_inside(&mut self, key: EngineKey) {
        self.inside = true;
        self.engine_keys.retain(|known| known.id != key.id && known.key != key.key);
        self.engine_keys.push(key);
        self.engine_keys.sort_by(|a, b| a.id.cmp(&b.id));
        for cluster in self.clusters.values_mut().filter(|cluster| cluster.reconciler == Reconciler::Agent) {
            cluster.reconciler = Reconciler::Rendered;
            if let Some(components) = &mut cluster.components {
                components.image = None;
            }
        }
    }

    /// The clusters that the spec wants this one to be linked with, in order. Leaving clusters are linked with none.
    pub fn peers_of<'a>(&'a self, reader: &ClusterName) -> Box<dyn Iterator<Item = &'a Cluster> + 'a> {
        let Some(reader) = self.clusters.get(reader) else { return Box::new(std::iter::empty()) };
        let may_link = move |peer: &&Cluster| may_link(reader, peer);
        match &self.topology {
            Topology::Full => Box::new(self.clusters.values().filter(may_link)),
            Topology::Pairs(pairs) => {
                let names = pairs.get(&reader.name).into_iter().flatten();
                Box::new(names.filter_map(|name| self.clusters.get(name)).filter(may_link))
            }
        }
    }

    /// Whether the spec wants the two to be linked. Clusters of other checkouts are never linked with each other.
    pub fn links(&self, one: &ClusterName, other: &ClusterName) -> bool {
        let joined = match &self.topology {
            Topology::Full => true,
            Topology::Pairs(pairs) => pairs.get(one).is_some_and(|peers| peers.contains(other)),
        };
        joined && self.clusters.get(one).zip(self.clusters.get(other)).is_some_and(|(one, other)| may_link(one, other))
    }
}

/// Whether two clusters may be linked, whatever the topology.
fn may_link(one: &Cluster, other: &Cluster) -> bool {
    one.name != other.name
        && !one.state.is_going()
        && !other.state.is_going()
        && (one.reconciler != Reconciler::External || other.reconciler != Reconciler::External)
}

/// Who is linked with whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    Full,
    /// Each cluster's peers; symmetric.
    Pairs(BTreeMap<ClusterName, BTreeSet<ClusterName>>),
}

/// How the first contact with a cluster is approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstContact {
    /// Naming an endpoint whose TLS verifies, or a `file://`, is the approval.
    Tls,
    /// First contact, too, is a trust change that waits for `--accept-trust`.
    Approve,
}

/// A key of the engine's own, which opens private metadata and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineKey {
    /// Its id, the `kid` of tokens.
    pub id: KeyId,
    /// Its public half.
    pub key: PublicKey,
}

/// A cluster as its spec declares it, with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name in the checkout.
    pub name: ClusterName,
    /// Where it is declared.
    pub at: Location,
    /// Who acts in it.
    pub reconciler: Reconciler,
    /// Whether it takes part.
    pub state: State,
    /// Exporter, api-proxy and relay, when `multicluster.enabled`.
    pub components: Option<Components>,
    /// Where its metadata is read.
    pub endpoint: Endpoint,
    /// The only roots trusted for its endpoint; PEM, one or more certificates.
    pub endpoint_ca: Option<String>,
    /// What Deckhouse's CRD is like there.
    pub crd: DeckhouseCrd,
    /// What must be found there.
    pub pin: Pin,
    /// DNS domain.
    pub cluster_domain: ClusterDomain,
    /// Cluster ID stated by the spec.
    pub cluster_id: Option<ClusterId>,
    /// Network stated by the spec.
    pub network: Option<NetworkName>,
    /// Trust domain stated by the spec.
    pub trust_domain: Option<TrustDomain>,
    /// Whether its policies take identities of its peers' trust domains for its own; `None`: as each link began.
    pub merge_trust_domains: Option<bool>,
    pub istio: Istio,
    /// An east-west gateway is rendered for it.
    pub manages_gateway: bool,
    /// Gateways stated by the spec.
    pub gateways: Option<Vec<Gateway>>,
    /// Its pods reach others, and are reached, without a gateway.
    pub flat_network: bool,
    /// The api-proxy stated by the spec.
    pub api: Api,
    /// What it may say of addresses.
    pub allow: Allow,
    /// Which of its namespaces peers see.
    pub share: Share,
    /// The same for single peers.
    pub share_with: BTreeMap<ClusterName, Share>,
    /// Whether its links wait for what it shows to be live.
    pub evidence: EvidenceRule,
    /// What that rests on.
    pub evidence_origin: EvidenceOrigin,
    /// How long each stage of leaving takes where no evidence shows that it is over.
    pub settle: Duration,
    /// How long a root CA stays trusted after the cluster published it last.
    pub root_overlap: Duration,
    /// What its spec says now of fields that stay as they were while links rest on them; `None`: nothing else.
    pub stated: Option<Stated>,
    /// Root CAs that are trusted no longer, whatever the cluster publishes: SHA-256 of the DER.
    pub distrust: BTreeSet<Digest>,
}

/// Fields of a cluster with which its links are begun. While there are any, the fields of [`Cluster`] itself hold what these rest
/// on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// `reconciler`.
    pub reconciler: Reconciler,
    /// `clusterDomain`.
    pub cluster_domain: ClusterDomain,
    /// `istio.namespace`.
    pub istio_namespace: Namespace,
    /// `istio.config`.
    pub istio_config: MeshConfigTarget,
    /// `flatNetwork`.
    pub flat_network: bool,
}

/// Whether the links of a cluster wait for what it shows to be live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceRule {
    /// They do: what it does not publish is unknown.
    Required,
    /// It shows nothing; what it shows all the same is judged.
    None,
    /// They do, but for these fields, of which someone attests that they are as they should be.
    Attested(BTreeSet<EvidenceField>),
}

/// Who says whether the links of a cluster wait for what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceOrigin {
    /// No one: it is the default of its kind.
    Default,
    Spec,
    /// Its lock entry: what it publishes is what Deckhouse's exporter does, which shows nothing of what is live.
    Exporter,
}

impl EvidenceOrigin {
    /// Who says it after its documents were read: its spec, where that states it.
    pub fn of(is_stated: bool) -> Self {
        if is_stated { Self::Spec } else { Self::Default }
    }
}

/// A field of evidence that decides over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceField {
    /// Remote clusters that istiod reads.
    Reads,
    /// Root CAs that istiod trusts.
    Trusts,
    /// Networks that istiod knows.
    Networks,
    /// Routes of the relay.
    Routes,
    /// Settings of istiod and proxies.
    Prepared,
}

impl EvidenceField {
    /// Every field that can be attested, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Reads, Self::Trusts, Self::Networks, Self::Routes, Self::Prepared];

    /// Its name in documents and specs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Trusts => "trusts",
            Self::Networks => "networks",
            Self::Routes => "routes",
            Self::Prepared => "prepared",
        }
    }
}

impl fmt::Display for EvidenceField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl EvidenceRule {
    /// Whether a link waits while the field is unknown.
    pub fn requires(&self, field: EvidenceField) -> bool {
        match self {
            Self::Required => true,
            Self::None => false,
            Self::Attested(fields) => !fields.contains(&field),
        }
    }

    /// Whether a document without any evidence is one to wait for.
    pub fn requires_any(&self) -> bool {
        EvidenceField::ALL.into_iter().any(|field| self.requires(field))
    }
}

impl Cluster {
    /// With what links of it would be begun now.
    pub fn stated(&self) -> Stated {
        self.stated.clone().unwrap_or_else(|| Stated {
            reconciler: self.reconciler,
            cluster_domain: self.cluster_domain.clone(),
            istio_namespace: self.istio.namespace.clone(),
            istio_config: self.istio.config,
            flat_network: self.flat_network,
        })
    }

    /// The gateways that its spec states. That there are none is said of a flat network, and counts once the links have left for it.
    pub fn stated_gateways(&self) -> Option<&[Gateway]> {
        self.gateways.as_deref().filter(|gateways| !gateways.is_empty() || self.flat_network)
    }

    /// Who is to act there, where it is not who acts there as long as its links are not handed over.
    pub fn hands_over_to(&self) -> Option<Reconciler> {
        Some(self.stated().reconciler).filter(|wanted| *wanted != self.reconciler)
    }

    /// Whether another checkout has it, and its specs want it here.
    pub fn comes_from_others(&self) -> bool {
        self.reconciler == Reconciler::External && self.hands_over_to().is_some()
    }

    /// Where its mesh configuration moves to, from our ConfigMap that its links rest on.
    pub fn moves_mesh_config_to(&self) -> Option<MeshConfigTarget> {
        let is_ours =
            self.reconciler == Reconciler::Rendered && self.istio.config == MeshConfigTarget::SharedMeshConfig;
        Some(self.stated().istio_config).filter(|wanted| is_ours && wanted.is_values())
    }

    /// Whether it is to show which roots and networks its Istio has in effect.
    pub fn shows_mesh_config(&self) -> bool {
        let is_asked = !matches!(self.endpoint, Endpoint::File(_));
        is_asked && self.evidence.requires(EvidenceField::Trusts) && self.evidence.requires(EvidenceField::Networks)
    }

    /// Whether it is to show which networks its Istio's standard configuration has; else its spec states them.
    pub fn shows_mesh_networks(&self) -> bool {
        !matches!(self.endpoint, Endpoint::File(_)) && self.evidence.requires(EvidenceField::Networks)
    }

    /// Which of its namespaces a peer sees.
    pub fn shares_with(&self, peer: &ClusterName) -> &Share {
        self.share_with.get(peer).unwrap_or(&self.share)
    }

    /// Whether the engine, or Deckhouse for it, acts in the cluster from this checkout.
    pub fn is_ours(&self) -> bool {
        self.reconciler != Reconciler::External
    }
}

/// Who acts in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reconciler {
    /// The engine renders every object; a `GitOps` tool syncs.
    Rendered,
    /// The engine inside the cluster reconciles IstioMulticluster objects.
    Agent,
    /// Deckhouse's own istio module.
    Deckhouse,
    /// Another team's checkout.
    External,
}

impl Reconciler {
    /// Whether links of a cluster are handed over from one to the other as they are. Deckhouse's module takes nothing that others
    /// made, and shows nothing of what it has.
    pub fn hands_over(self, to: Self) -> bool {
        self != to && ![self, to].contains(&Self::Deckhouse)
    }

    /// As specs and policy spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rendered => "rendered",
            Self::Agent => "agent",
            Self::Deckhouse => "deckhouse",
            Self::External => "external",
        }
    }
}

/// Revisions of Deckhouse's CRD `IstioMulticluster` (`ee/modules/110-istio/crds/istiomulticluster.yaml`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeckhouseCrd {
    /// The endpoint is `spec.metadataEndpoint`.
    #[default]
    Current,
    /// It is `spec.metadata.endpoint`.
    EndpointInMetadata,
}

impl DeckhouseCrd {
    /// Whether its pattern admits a port in the endpoint, as it does since deckhouse/deckhouse#19247 (April 2026).
    pub fn admits_port(self) -> bool {
        self == Self::Current
    }
}

/// Whether a cluster takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It takes part.
    Active,
    /// Kept as it is, not contacted.
    Paused,
    /// On its way out, step by step.
    Leaving,
    /// Gone for good: what it reads, and what is read of it, counts as closed.
    Lost,
}

impl State {
    /// Whether its links are to go.
    pub fn is_going(self) -> bool {
        matches!(self, Self::Leaving | Self::Lost)
    }

    /// Whether it is asked what it publishes.
    pub fn is_asked(self) -> bool {
        matches!(self, Self::Active | Self::Leaving)
    }
}

/// What is deployed into a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Components {
    /// Image of the engine.
    pub image: Option<String>,
    /// Replicas of exporter, api-proxy and relay.
    pub replicas: u16,
    /// How exporter and api-proxy are reached from outside.
    pub expose: Expose,
    /// What their Services do with connections that arrive at a node without a pod of theirs.
    pub external_traffic_policy: ExternalTrafficPolicy,
    /// Sources that say in a PROXY header whose connection they pass on; empty: none does.
    pub trusted_proxies: Vec<Cidr>,
    /// Pod and service ranges of the cluster, which its relay never dials.
    pub cluster_cidrs: Vec<Cidr>,
    /// An admission policy holds the relay's account to the objects that it makes.
    pub admission_policy: bool,
    /// The api-proxy's public address.
    pub api_host: Option<ApiHost>,
    /// Secret with the serving certificate; else the cluster's own serving CA issues one.
    pub tls_secret: Option<ObjectName>,
}

/// How the Services of exporter and api-proxy are exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Expose {
    #[default]
    LoadBalancer,
    NodePort,
    /// Cluster IPs, behind an ingress of the user's own that passes TLS through.
    ClusterIP,
    /// Cluster IPs, behind the east-west gateway, which passes TLS through to them by SNI.
    Gateway,
}

impl Expose {
    /// The type of their Services.
    #[must_use]
    pub fn service_type(self) -> Self {
        match self {
            Self::Gateway => Self::ClusterIP,
            Self::LoadBalancer | Self::NodePort | Self::ClusterIP => self,
        }
    }
}

/// `externalTrafficPolicy` of a Service (Kubernetes, core/v1 `ServiceSpec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// Any node passes a connection on, from an address of its own: all clients look alike.
    Cluster,
    /// Nodes with a pod take connections, and the pod sees the client's address.
    #[default]
    Local,
}

/// Values that must be found, and that thereby approve themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pin {
    pub cluster_uuid: Option<ClusterUuid>,
    /// SHA-256 of the SubjectPublicKeyInfo of its authn key.
    pub authn_key: Option<Digest>,
    /// SHA-256 of the DER of each of its root CAs; empty: not pinned.
    pub root_ca: BTreeSet<Digest>,
}

/// The Istio of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Istio {
    /// Where istiod runs.
    pub namespace: Namespace,
    /// Revisions of the control plane; `default` has no suffix in object names.
    pub revisions: Vec<Revision>,
    /// Where roots and networks are written.
    pub config: MeshConfigTarget,
    /// Whether proxies capture DNS, so that services of peers resolve.
    pub dns_capture: bool,
    /// Someone attests that istiod and all proxies are prepared.
    pub prepared: bool,
    /// `meshNetworks` of the standard configuration by name, as the spec states them; `None`: it does not say.
    pub standard_mesh_networks: Option<Map<String, Value>>,
}

/// Where roots and networks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MeshConfigTarget {
    /// ConfigMap `isthmus-mesh`, which istiod merges live.
    SharedMeshConfig,
    /// A values file for Istio's Helm charts.
    HelmValues,
    /// An IstioOperator overlay.
    IstioOperator,
    /// A patch of Sail's Istio resource.
    Sail,
    /// Nowhere: someone else does it.
    None,
}

impl MeshConfigTarget {
    /// Whether it is a file with values for an installer of Istio.
    pub fn is_values(self) -> bool {
        match self {
            Self::HelmValues | Self::IstioOperator | Self::Sail => true,
            Self::SharedMeshConfig | Self::None => false,
        }
    }

    /// The path of that file.
    pub fn values_file_of(self, cluster: &ClusterName) -> Option<String> {
        let file = match self {
            Self::HelmValues => HELM_FILE,
            Self::IstioOperator => ISTIO_OPERATOR_FILE,
            Self::Sail => SAIL_FILE,
            Self::SharedMeshConfig | Self::None => return None,
        };
        Some(values_file(cluster, file))
    }
}

/// The api-proxy, as the spec states it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Api {
    pub host: Option<ApiHost>,
    /// Its CA, PEM.
    pub ca: Option<String>,
}

/// What a cluster may say of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// Hosts its api-proxy may have; empty: any change is a trust change.
    pub api_hosts: Vec<HostPattern>,
    /// Ranges its gateways and endpoint must lie in; also lifts the ban on inward addresses for them. Empty: any
    /// outward address.
    pub addresses: Vec<Cidr>,
}
