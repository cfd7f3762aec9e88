//! Who may ask, as the cluster's ConfigMaps say at this moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::cluster::unread::Unread;
use crate::cluster::watched::{ConfigMapData, SourceState, watch_config_map};
use crate::roles::api::projection::Mark;
use crate::roles::api::request::Resource;
use crate::roles::proxy::policy::PeerPolicy;
use crate::roles::role::Role;
use crate::types::key::PublicKey;
use crate::types::name::{ClusterUuid, Namespace, NetworkName, TrustDomain};
use crate::types::token::{KeyLookup, Scope};
use crate::wire::identity::{IDENTITY, IDENTITY_FILE, Identity, IdentityError};
use crate::wire::peers::{PEERS, PEERS_FILE, PeerEntry, PeersError, PeersFile};

/// Who is served, and whom they serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The cluster's own UUID, the audience of tokens; while it is unknown no one is judged.
    pub cluster_uuid: Option<ClusterUuid>,
    /// The cluster's trust domain.
    pub trust_domain: TrustDomain,
    /// Namespace of the cluster's own Istio.
    pub istio_namespace: Namespace,
    /// The peers; `None` until they were read once.
    pub peers: Option<PeersFile>,
}

impl Admission {
    /// Whether this key of this peer opens the api-proxy.
    pub fn admits(&self, peer: &ClusterUuid, key: &PublicKey) -> bool {
        self.peer(peer)
            .is_some_and(|entry| entry.keys.iter().any(|known| known.pem == *key && known.scopes.contains(&Scope::Api)))
    }

    /// The cluster's own network; while it is not known, no `WorkloadEntry` is shown.
    pub fn network(&self) -> Option<&NetworkName> {
        self.peers.as_ref()?.network.as_ref()
    }

    /// What a cluster lets its peers see.
    pub fn policy(&self) -> PeerPolicy {
        PeerPolicy {
            trust_domain: self.trust_domain.clone(),
            istio_namespace: self.istio_namespace.clone(),
            network: self.network().cloned(),
        }
    }

    /// The mark of what a peer sees of a resource; `None`: nothing of it depends on the peer, or the peer is gone.
    pub fn mark(&self, peer: &ClusterUuid, resource: &Resource) -> Option<Mark> {
        self.policy().view(self.peer(peer)?).mark(&resource.group, &resource.resource)
    }

    /// A peer. The cluster itself is none, whatever the file says: its own keys open no apiserver.
    pub fn peer(&self, uuid: &ClusterUuid) -> Option<&PeerEntry> {
        if self.cluster_uuid.as_ref() == Some(uuid) {
            return None;
        }
        self.peers.as_ref()?.peer(uuid)
    }
}

impl KeyLookup for Admission {
    fn keys(&self, subject: &str, kid: Option<&str>) -> Vec<PublicKey> {
        let entry = subject.parse().ok().and_then(|uuid: ClusterUuid| self.peer(&uuid));
        let Some(entry) = entry else { return Vec::new() };
        let mut keys: Vec<_> = match kid {
            Some(kid) => entry.keys.iter().filter(|key| key.id.as_str() == kid).collect(),
            // without a key id only the peer's own key signs, which is first
            None => entry.keys.first().into_iter().collect(),
        };
        keys.retain(|key| key.scopes.contains(&Scope::Api));
        keys.into_iter().map(|key| key.pem.clone()).collect()
    }

    fn max_lifetime(&self, subject: &str, usual: Duration) -> Duration {
        let entry = subject.parse().ok().and_then(|uuid: ClusterUuid| self.peer(&uuid));
        entry.and_then(|entry| entry.max_token_lifetime).unwrap_or(usual)
    }
}

/// Follows both ConfigMaps. What cannot be read leaves what was read before, and the role is not ready.
pub fn watch_peers(role: &Role) -> watch::Receiver<Arc<Admission>> {
    let namespace = role.namespace.as_str();
    let changed = Arc::new(Notify::new());
    let identity = watch_config_map(&role.access.client, namespace, IDENTITY, &changed);
    let peers = watch_config_map(&role.access.client, namespace, PEERS, &changed);
    let mut admission = Admission {
        cluster_uuid: None,
        trust_domain: TrustDomain::default(),
        istio_namespace: role.namespace.clone(),
        peers: None,
    };
    let (sender, receiver) = watch::channel(Arc::new(admission.clone()));
    let (health, stopping) = (role.health.clone(), role.stopping.clone());
    for (condition, name) in [("identity", IDENTITY), ("peers", PEERS)] {
        health.fails(condition, Unread::NotYet { what: format!("ConfigMap {name}").into() });
    }
    tokio::spawn(async move {
        loop {
            let read = read_identity(&identity.one());
            health.set("identity", &read);
            if let Ok(identity) = read {
                admission.cluster_uuid = identity.cluster_uuid;
                admission.trust_domain = identity.trust_domain.unwrap_or_default();
            }
            let read = read_peers(&peers.one());
            health.set("peers", &read);
            if let Ok(file) = read {
                let before = admission.peers.replace(file).map(|file| file.network);
                if before.as_ref() != Some(&admission.network().cloned()) {
                    log_network(admission.network());
                }
            }
            sender.send_if_modified(|current| {
                let changed = **current != admission;
                if changed {
                    *current = Arc::new(admission.clone());
                }
                changed
            });
            tokio::select! {
                () = changed.notified() => {}
                () = stopping.requested() => return,
            }
        }
    });
    receiver
}

fn log_network(network: Option<&NetworkName>) {
    if let Some(network) = network {
        tracing::info!(%network, "peers see WorkloadEntries in this network");
    } else {
        tracing::warn!(
            "ConfigMap {PEERS} does not name the cluster's network, so peers see no WorkloadEntry; \
             `engine apply` writes it once the cluster publishes it"
        );
    }
}

/// Why it is not known who may ask, or whom they ask.
#[derive(Debug, thiserror::Error)]
enum AdmissionError {
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error("ConfigMap {config_map} has no {file}")]
    NoFile { config_map: &'static str, file: &'static str },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("ConfigMap {IDENTITY} does not name the cluster's UUID yet")]
    NoUuid,
    #[error(transparent)]
    Peers(#[from] PeersError),
}

fn file<'a>(data: &'a ConfigMapData, config_map: &'static str, file: &'static str) -> Result<&'a str, AdmissionError> {
    data.get(file).map(String::as_str).ok_or(AdmissionError::NoFile { config_map, file })
}

fn read_identity(source: &SourceState<Arc<ConfigMapData>>) -> Result<Identity, AdmissionError> {
    let data = source.required(format!("ConfigMap {IDENTITY}, which the relay writes"))?;
    let identity = Identity::parse(file(data, IDENTITY, IDENTITY_FILE)?.as_bytes())?;
    if identity.cluster_uuid.is_some() { Ok(identity) } else { Err(AdmissionError::NoUuid) }
}

/// No ConfigMap means that no one is admitted yet: a new cluster becomes ready before it has peers.
fn read_peers(source: &SourceState<Arc<ConfigMapData>>) -> Result<PeersFile, AdmissionError> {
    let Some(data) = source.optional(format!("ConfigMap {PEERS}"))? else { return Ok(PeersFile::empty()) };
    Ok(PeersFile::parse(file(data, PEERS, PEERS_FILE)?.as_bytes())?)
}
