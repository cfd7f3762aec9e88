//! Facts of a cluster as the engine uses them: the spec's word first, then the lock's, then the name.

use crate::types::address::{ApiHost, Gateway};
use std::collections::BTreeMap;

use crate::model::lock::{Lock, LockedCluster};
use crate::model::mesh::{Cluster, Mesh};
use crate::types::key::{KeyId, PublicKey};
use crate::types::name::{
    ClusterDomain, ClusterId, ClusterName, ClusterUuid, Namespace, NetworkName, Revision, TrustDomain,
};

/// A cluster whose public document is in the lock.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What the spec says.
    pub cluster: &'a Cluster,
    /// What the lock says.
    pub locked: &'a LockedCluster,
}

/// What a reader needs to reach a peer: all of the private document, or the spec's word for each of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Address of the api-proxy.
    pub api_host: ApiHost,
    /// Its CA, PEM; `None`: a public one.
    pub api_ca: Option<String>,
    /// East-west gateways, sorted; empty only with a flat network.
    pub gateways: Vec<Gateway>,
    /// Network.
    pub network: NetworkName,
}

impl<'a> Known<'a> {
    /// The facts of a cluster, when its public document is in the lock.
    pub fn of(mesh: &'a Mesh, lock: &'a Lock, name: &ClusterName) -> Option<Self> {
        Some(Self { cluster: mesh.clusters.get(name)?, locked: lock.clusters.get(name)? })
    }

    /// Its UUID.
    pub fn uuid(&self) -> &'a ClusterUuid {
        &self.locked.public.cluster_uuid
    }

    /// The ID it is known by: data key of remote secrets, `fromRegistry`, path of the relay. `Kubernetes`, Istio's
    /// default on every install, is never used; the name is.
    pub fn cluster_id(&self) -> ClusterId {
        let published = self.locked.private.as_ref().and_then(|private| private.cluster_id.clone());
        let stated = self.cluster.cluster_id.clone();
        stated.or(published).filter(|id| !id.is_istio_default()).unwrap_or_else(|| ClusterId::from(&self.cluster.name))
    }

    /// The ID its own istiod runs with.
    pub fn own_cluster_id(&self) -> ClusterId {
        let published = self.locked.private.as_ref().and_then(|private| private.cluster_id.clone());
        published.or_else(|| self.cluster.cluster_id.clone()).unwrap_or_else(|| ClusterId::from(&self.cluster.name))
    }

    /// What a reader needs to reach it, once all of it is known.
    pub fn proxy(&self) -> Option<Proxy> {
        let private = self.locked.private.as_ref();
        let api_host = self.cluster.api.host.clone().or_else(|| private.map(|p| p.api_host.clone()))?;
        let gateways = self.cluster.gateways.clone().or_else(|| private.map(|p| p.gateways.clone()))?;
        let network = self.cluster.network.clone().or_else(|| private.map(|p| p.network.clone()))?;
        if private.is_none() && self.cluster.cluster_id.is_none() {
            return None;
        }
        if gateways.is_empty() && !self.cluster.flat_network {
            return None;
        }
        let published_ca = private.and_then(|p| p.api_ca.clone());
        let api_ca = self.cluster.api.ca.clone().or(published_ca).or_else(|| self.cluster.endpoint_ca.clone());
        Some(Proxy { api_host, api_ca, gateways, network })
    }

    /// Its trust domain: the spec's, the published one, else its DNS domain.
    pub fn trust_domain(&self) -> TrustDomain {
        let stated = self.cluster.trust_domain.clone().or_else(|| self.locked.public.trust_domain.clone());
        stated.or_else(|| self.cluster_domain().as_str().parse().ok()).unwrap_or_default()
    }

    /// Its DNS domain.
    pub fn cluster_domain(&self) -> &'a ClusterDomain {
        &self.cluster.cluster_domain
    }

    /// The namespace of its istiod: published, else the spec's.
    pub fn istio_namespace(&self) -> &'a Namespace {
        let published = self.locked.public.istio.as_ref().and_then(|istio| istio.namespace.as_ref());
        published.unwrap_or(&self.cluster.istio.namespace)
    }

    /// Its revisions: published, else the spec's.
    pub fn revisions(&self) -> &'a [Revision] {
        match self.locked.public.istio.as_ref().map(|istio| istio.revisions.as_slice()) {
            Some(published) if !published.is_empty() => published,
            _ => &self.cluster.istio.revisions,
        }
    }

    /// Whether both are in one root: then neither needs the other's.
    pub fn shares_roots_with(&self, other: &Known<'_>) -> bool {
        let digests = |known: &Known<'_>| known.locked.public.roots.iter().map(|root| root.digest).collect::<Vec<_>>();
        digests(self) == digests(other)
    }
}

/// The engine's public keys: those of the spec, else those of the lock.
pub fn engine_keys(mesh: &Mesh, lock: &Lock) -> BTreeMap<KeyId, PublicKey> {
    if mesh.engine_keys.is_empty() {
        return lock.engine_keys.clone();
    }
    mesh.engine_keys.iter().map(|key| (key.id.clone(), key.key.clone())).collect()
}
