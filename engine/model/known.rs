//! Facts of a cluster as the engine uses them: the spec's word first, then the lock's, then the name.

use std::collections::BTreeMap;

use crate::model::lock::{JoinedSpec, JoinedWith, Lock, LockedCluster, LockedPublic, Reach};
use crate::model::mesh::{Cluster, EvidenceOrigin, EvidenceRule, Mesh, MeshConfigTarget, Reconciler, Stated};
use crate::types::address::{ApiHost, Gateway};
use crate::types::certificate::RootCertificate;
use crate::types::key::{KeyId, PublicKey};
use crate::types::name::{
    ClusterDomain, ClusterId, ClusterName, ClusterUuid, MeshId, Namespace, NetworkName, Revision, TrustDomain,
};

/// A cluster whose public document is in the lock.
#[derive(Debug, Clone, Copy)]
pub struct KnownCluster<'a> {
    /// What the spec says.
    pub cluster: &'a Cluster,
    /// What the lock says.
    pub locked: &'a LockedCluster,
}

/// What a reader needs to reach a peer: all of the private document, or the spec's word for each of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEndpoint {
    /// Address of the api-proxy.
    pub api_host: ApiHost,
    /// Its CA, PEM; `None`: a public one.
    pub api_ca: Option<String>,
    /// East-west gateways, sorted; empty only with a flat network.
    pub gateways: Vec<Gateway>,
    pub network: NetworkName,
}

impl<'a> KnownCluster<'a> {
    /// The facts of a cluster, when its public document is in the lock.
    pub fn of(mesh: &'a Mesh, lock: &'a Lock, name: &ClusterName) -> Option<Self> {
        Some(Self { cluster: mesh.clusters.get(name)?, locked: lock.clusters.get(name)? })
    }

    /// Whether Deckhouse's own istio module acts there, as its spec says or its entry shows.
    pub fn is_deckhouse(&self) -> bool {
        is_deckhouse(self.cluster, Some(&self.locked.public))
    }

    /// UUID of its `kube-system` namespace, as it was accepted.
    pub fn uuid(&self) -> &'a ClusterUuid {
        &self.locked.public.cluster_uuid
    }

    /// The ID it is known by: data key of remote secrets, `fromRegistry`, path of the relay. It stays while a link names the
    /// cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.joined_with().map_or_else(|| self.wanted_cluster_id(), |joined| joined.cluster_id.clone())
    }

    /// With what its links were begun, while there are any.
    pub fn joined_with(&self) -> Option<&'a JoinedWith> {
        self.locked.joined_with.as_ref()
    }

    /// With what links would be begun now; `None` while it is not known how to reach it.
    pub fn joins_with(&self, mesh: &Mesh) -> Option<JoinedWith> {
        let PeerEndpoint { api_host, api_ca, gateways, .. } = self.endpoint()?;
        let published = self.locked.private.as_ref().map(|private| private.network.clone());
        let last = || self.joined_with().map(|joined| joined.network.clone());
        Some(JoinedWith {
            cluster_id: self.wanted_cluster_id(),
            network: self.cluster.network.clone().or(published).or_else(last)?,
            trust_domain: self.wanted_trust_domain(),
            reach: Reach { api_host, api_ca, gateways },
            spec: joined_spec(mesh, self.cluster, self.joined_with().map(|joined| &joined.spec)),
        })
    }

    /// The ID that spec and lock ask for. `Kubernetes`, Istio's default on every install, is never used; the name is.
    fn wanted_cluster_id(&self) -> ClusterId {
        let private = self.locked.private.as_ref();
        let published = private.and_then(|private| private.cluster_id.clone());
        let stated = self.cluster.cluster_id.clone();
        // a Deckhouse that does not publish it yet: links that rest on another stay with it until it does
        let last = || self.joined_with().map(|joined| joined.cluster_id.clone());
        let implied = || last().or_else(|| implied_cluster_id(&private?.network));
        let of_deckhouse = || self.is_deckhouse().then(implied).flatten();
        stated
            .or(published)
            .or_else(of_deckhouse)
            .filter(|id| !id.is_istio_default())
            .unwrap_or_else(|| ClusterId::from(&self.cluster.name))
    }

    /// The ID its own istiod runs with.
    pub fn own_cluster_id(&self) -> ClusterId {
        let published = self.locked.private.as_ref().and_then(|private| private.cluster_id.clone());
        published.or_else(|| self.cluster.cluster_id.clone()).unwrap_or_else(|| ClusterId::from(&self.cluster.name))
    }

    /// Its network, as far as it is known. It stays while a link names the cluster.
    pub fn network(&self) -> Option<NetworkName> {
        let joined = self.joined_with().map(|joined| joined.network.clone());
        let published = || self.locked.private.as_ref().map(|private| private.network.clone());
        joined.or_else(|| self.cluster.network.clone()).or_else(published)
    }

    /// What a reader needs to reach it, once all of it is known.
    pub fn endpoint(&self) -> Option<PeerEndpoint> {
        let private = self.locked.private.as_ref();
        let last = self.joined_with().map(|joined| &joined.reach);
        let api_host = self.cluster.api.host.clone().or_else(|| private.map(|p| p.api_host.clone()));
        let api_host = api_host.or_else(|| last.map(|last| last.api_host.clone()))?;
        let published = private.map(|p| p.gateways.clone());
        // an empty list was taken beside stated ones, and says nothing once these are gone
        let published = published.filter(|gateways| !gateways.is_empty() || self.cluster.flat_network);
        let gateways = self.cluster.stated_gateways().map(<[_]>::to_vec).or(published);
        let gateways = gateways.or_else(|| last.map(|last| last.gateways.clone()))?;
        let network = self.network()?;
        if private.is_none() && self.cluster.cluster_id.is_none() && last.is_none() {
            return None;
        }
        if gateways.is_empty() && !self.cluster.flat_network {
            return None;
        }
        let published_ca = private.and_then(|p| p.api_ca.clone());
        let last_ca = last.filter(|_| private.is_none()).and_then(|last| last.api_ca.clone());
        let api_ca = self.cluster.api.ca.clone().or(published_ca).or(last_ca);
        let api_ca = api_ca.or_else(|| self.cluster.endpoint_ca.clone());
        Some(PeerEndpoint { api_host, api_ca, gateways, network })
    }

    /// Its trust domain. It stays while a link names the cluster.
    pub fn trust_domain(&self) -> TrustDomain {
        self.joined_with().map_or_else(|| self.wanted_trust_domain(), |joined| joined.trust_domain.clone())
    }

    /// The trust domain that spec and lock ask for: the spec's, the published one, else its DNS domain.
    fn wanted_trust_domain(&self) -> TrustDomain {
        let stated = self.cluster.trust_domain.clone().or_else(|| self.locked.public.trust_domain.clone());
        stated.or_else(|| self.cluster_domain().as_str().parse().ok()).unwrap_or_default()
    }

    /// Where its roots and networks are written. It stays while links name the cluster, until evidence shows that the values to
    /// which it moves are in effect.
    pub fn mesh_config(&self) -> MeshConfigTarget {
        self.joined_with().map_or(self.cluster.istio.config, |joined| joined.spec.istio_config)
    }

    /// Where they are written as well, while they move there.
    pub fn moves_mesh_config_to(&self) -> Option<MeshConfigTarget> {
        let wanted = self.cluster.moves_mesh_config_to()?;
        let is_merged = self.mesh_config() == MeshConfigTarget::SharedMeshConfig;
        (is_merged && self.joined_with().is_some()).then_some(wanted)
    }

    /// Whether no one knows which networks its standard configuration has, which ours take the places of: it is yet to show it or,
    /// where it shows no evidence, its spec is yet to state it.
    pub fn awaits_standard_networks(&self) -> bool {
        let is_merged = self.mesh_config() == MeshConfigTarget::SharedMeshConfig;
        self.locked.standard_mesh_networks.is_none()
            && self.cluster.istio.standard_mesh_networks.is_none()
            && is_merged
            && self.cluster.reconciler == Reconciler::Rendered
    }

    /// Whether it is to be reached by gateways, and none is known yet.
    pub fn awaits_gateways(&self) -> bool {
        let is_published = self.locked.private.as_ref().is_some_and(|private| !private.gateways.is_empty());
        let is_stated = self.cluster.gateways.as_ref().is_some_and(|gateways| !gateways.is_empty());
        self.cluster.flat_network && !self.cluster.stated().flat_network && !is_published && !is_stated
    }

    /// `meshID` of its Mesh. It stays while a link names the cluster.
    pub fn mesh_id(&self, mesh: &'a Mesh) -> &'a MeshId {
        self.joined_with().map_or(&mesh.mesh_id, |joined| &joined.spec.mesh_id)
    }

    /// Whether its relay asks istiod for a token. While links name the cluster, it is not asked for where it was not before.
    pub fn requires_token(&self, mesh: &Mesh) -> bool {
        let stated = mesh.require_token;
        self.joined_with().map_or(stated == Some(true), |joined| joined.spec.require_token && stated != Some(false))
    }

    /// Its DNS domain, `cluster.local` unless spec or metadata have another.
    pub fn cluster_domain(&self) -> &'a ClusterDomain {
        &self.cluster.cluster_domain
    }

    /// The namespace of its istiod: published, else the spec's, else Deckhouse's where that acts there.
    pub fn istio_namespace(&self) -> Namespace {
        let published = self.locked.public.istio.as_ref().and_then(|istio| istio.namespace.as_ref());
        let stated = published.unwrap_or(&self.cluster.istio.namespace);
        // no Deckhouse runs Istio where everyone else does
        let is_default = *stated == Namespace::istio_system();
        if is_default && self.is_deckhouse() { Namespace::of_deckhouse() } else { stated.clone() }
    }

    /// Its revisions: published, else the spec's.
    pub fn revisions(&self) -> &'a [Revision] {
        match self.locked.public.istio.as_ref().map(|istio| istio.revisions.as_slice()) {
            Some(published) if !published.is_empty() => published,
            _ => &self.cluster.istio.revisions,
        }
    }

    /// The roots that it publishes and that are trusted.
    pub fn roots(&self) -> impl Iterator<Item = &'a RootCertificate> + use<'a> {
        let distrust = &self.cluster.distrust;
        self.locked.public.roots.iter().filter(|root| !distrust.contains(&root.digest))
    }

    /// All roots that readers trust for it: those it publishes, and those that retire.
    pub fn trusted_roots(&self) -> impl Iterator<Item = &'a RootCertificate> + use<'a> {
        let distrust = &self.cluster.distrust;
        let retiring = self.locked.retiring.iter().map(|retiring| &retiring.root);
        self.roots().chain(retiring.filter(|root| !distrust.contains(&root.digest)))
    }

    /// Whether both are in one root: then neither needs the other's.
    pub fn shares_roots_with(&self, other: &KnownCluster<'_>) -> bool {
        let digests =
            |known: &KnownCluster<'_>| known.locked.public.roots.iter().map(|root| root.digest).collect::<Vec<_>>();
        digests(self) == digests(other)
    }
}

/// Fields that the specs edit while links rest on them stay as they were until the last of these is gone; [`Cluster::stated`]
/// holds what is wanted.
pub fn keep_what_links_rest_on(mesh: &mut Mesh, lock: &Lock) {
    for (name, cluster) in &mut mesh.clusters {
        let joined = lock.clusters.get(name).and_then(|locked| locked.joined_with.as_ref());
        let Some(joined) = joined.map(|joined| &joined.spec) else { continue };
        let stated = cluster.stated();
        // an agent opens links by itself
        let is_opened = cluster.reconciler == Reconciler::Agent || !lock.only_joins(name);
        if joined.reconciler.hands_over(cluster.reconciler) && is_opened {
            cluster.reconciler = joined.reconciler;
        }
        cluster.cluster_domain.clone_from(&joined.cluster_domain);
        cluster.istio.namespace.clone_from(&joined.istio_namespace);
        cluster.istio.config = joined.istio_config;
        cluster.flat_network = joined.flat_network;
        let in_use = cluster.stated();
        cluster.stated = (stated != in_use).then_some(stated);
    }
}

/// Whether Deckhouse's own istio module acts in a cluster, by its spec or, of another team's, by what is known of it.
pub fn is_deckhouse(cluster: &Cluster, public: Option<&LockedPublic>) -> bool {
    match cluster.reconciler {
        Reconciler::Deckhouse => true,
        Reconciler::External => public.is_some_and(LockedPublic::is_of_deckhouse),
        Reconciler::Rendered | Reconciler::Agent => false,
    }
}

/// The cluster ID of a Deckhouse by the name of its network: both are made from one text, and older ones publish the network
/// alone (`modules/110-istio/templates/_helpers.tpl`).
pub fn implied_cluster_id(network: &NetworkName) -> Option<ClusterId> {
    let id = network.as_str().strip_prefix("network-")?;
    let (_, number) = id.rsplit_once('-')?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| id.parse().ok()).flatten()
}

/// Clusters that show nothing of what is live, as their entries say, although no spec does: no one waits for it.
pub fn expect_no_evidence_of_deckhouse(mesh: &mut Mesh, lock: &Lock) {
    for (name, cluster) in &mut mesh.clusters {
        let is_unstated =
            cluster.evidence_origin == EvidenceOrigin::Default && cluster.evidence == EvidenceRule::Required;
        let public = lock.clusters.get(name).map(|locked| &locked.public);
        if is_unstated && public.is_some() && is_deckhouse(cluster, public) {
            cluster.evidence = EvidenceRule::None;
            cluster.evidence_origin = EvidenceOrigin::Exporter;
        }
    }
}

/// What specs say of a cluster that no edit changes while a link names it; where they say nothing, what its links rest on.
pub fn joined_spec(mesh: &Mesh, cluster: &Cluster, recorded: Option<&JoinedSpec>) -> JoinedSpec {
    let Stated { reconciler, cluster_domain, istio_namespace, istio_config, flat_network } = cluster.stated();
    JoinedSpec {
        mesh: mesh.name.clone(),
        mesh_id: mesh.mesh_id.clone(),
        require_token: mesh.require_token.unwrap_or(recorded.is_some_and(|recorded| recorded.require_token)),
        reconciler,
        cluster_domain,
        istio_namespace,
        istio_config,
        flat_network,
    }
}

/// The key by which what a checkout writes is told from what another one does, whose engine's key the same clusters list.
pub fn writer<'a>(mesh: &Mesh, lock: &'a Lock) -> Option<&'a KeyId> {
    lock.engine_keys.keys().next().filter(|_| mesh.engine_keys.len() > 1 && !mesh.inside)
}

/// The engine's public keys: those of the spec, else those of the lock.
pub fn engine_keys(mesh: &Mesh, lock: &Lock) -> BTreeMap<KeyId, PublicKey> {
    if mesh.engine_keys.is_empty() {
        return lock.engine_keys.clone();
    }
    mesh.engine_keys.iter().map(|key| (key.id.clone(), key.key.clone())).collect()
}
