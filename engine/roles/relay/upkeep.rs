//! What the relay keeps in order in its own cluster, looked after every minute:
//!
//! 1. the key and the serving CA ([`key_secret`]);
//! 2. ConfigMap `isthmus-identity`, by which exporter and api-proxy know whom they serve;
//! 3. the serving certificates of exporter, api-proxy and of the relay itself ([`issue`](super::issue)).
//!
//! An object of that name that is not ours is left alone and reported. What was once in order stays in use while the apiserver
//! fails: a relay that has its key keeps working.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as NamespaceObject, Secret};
use tokio::sync::watch;
use tokio::time::sleep;
use zeroize::Zeroizing;

use serde_json::Value;

use crate::istio::gateways::NETWORK_LABEL;
use crate::istio::mesh_config::standard_config_map;
use crate::roles::relay::RelayOptions;
use crate::roles::relay::issue::{IssueError, IssueReason, Leaf};
use crate::roles::relay::key_secret;
use crate::roles::relay::key_secret::{Authn, KeySecretError};
use crate::roles::relay::store;
use crate::roles::relay::store::{Store, StoreError, WriteOutcome};
use crate::roles::role::Role;
use crate::roles::role::now;
use crate::server::{Certificates, TlsError};
use crate::types::name::{ClusterDomain, ClusterUuid, InvalidName, Namespace, NetworkName, Revision, TrustDomain};
use crate::types::token::Scope;
use crate::types::yaml::{self, MAX_OBJECT, YamlFault};
use crate::wire::identity::{IDENTITY, IDENTITY_FILE, IDENTITY_VERSION, Identity};
use crate::wire::metadata::AuthnKey;
use crate::wire::names::{EXPORTER, PROXY, RELAY, UUID_NAMESPACE, service_host, tls_secret};

/// Attempts at an object that others write at the same time.
const ATTEMPTS: usize = 5;
/// Shortest and longest pause while something is not in order yet.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Who this cluster is to its peers.
#[derive(Debug)]
pub(super) struct RelayIdentity {
    pub(super) uuid: ClusterUuid,
    pub(super) authn: Authn,
}

/// Keeps things in order.
pub(super) struct Upkeep {
    role: Role,
    store: Store,
    options: RelayOptions,
    credential: watch::Sender<Option<Arc<RelayIdentity>>>,
    certificates: Option<Certificates>,
    /// Digest of what is served, so that a change is seen.
    served: Option<crate::types::name::Digest>,
    /// What went wrong last, by what it is about.
    errors: BTreeMap<UpkeepPart, UpkeepError>,
    /// Conditions that held once.
    held: BTreeSet<&'static str>,
}

/// What is kept in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum UpkeepPart {
    Key,
    Identity,
    ExporterCertificate,
    ProxyCertificate,
    OwnCertificate,
}

impl UpkeepPart {
    /// What logs call it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Identity => "identity",
            Self::ExporterCertificate => "certificate of the exporter",
            Self::ProxyCertificate => "certificate of the api-proxy",
            Self::OwnCertificate => "certificate",
        }
    }

    /// The condition of being ready that it is.
    fn condition(self) -> Option<&'static str> {
        match self {
            Self::Key | Self::Identity => Some(self.as_str()),
            Self::ExporterCertificate | Self::ProxyCertificate | Self::OwnCertificate => None,
        }
    }
}

/// Why a part is not in order.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
enum UpkeepError {
    #[error(transparent)]
    KeySecret(#[from] KeySecretError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("namespace `kube-system` has no UID, so this cluster's is not known; set --cluster-uuid")]
    NoUid,
    #[error("namespace `kube-system`: {0}; set --cluster-uuid")]
    Uid(#[source] InvalidName),
    #[error("label `{NETWORK_LABEL}` of namespace `{namespace}`: {source}")]
    Network { namespace: Namespace, source: InvalidName },
    #[error("ConfigMap `{config_map}`: {source}; correct it, or set --trust-domain")]
    Mesh { config_map: String, source: MeshFault },
    #[error("{kind} `{name}` is not ours, and is left alone; delete it, or give it the labels of objects of isthmus")]
    Foreign { kind: &'static str, name: String },
    #[error("{kind} `{name}` changes faster than it can be written; find out who else writes it")]
    Unsteady { kind: &'static str, name: String },
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Serve(#[from] TlsError),
}

/// Why a mesh configuration gives no trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum MeshFault {
    #[error("`mesh` is no YAML: {0}")]
    NotYaml(#[source] YamlFault),
    #[error("`mesh` is no mapping, or its `trustDomain` no text")]
    NotMapping,
    #[error("`trustDomain`: {0}")]
    TrustDomain(#[source] InvalidName),
}

impl Upkeep {
    pub(super) fn new(role: Role, options: RelayOptions) -> (Self, watch::Receiver<Option<Arc<RelayIdentity>>>) {
        let store = Store::new(&role.access.client, &role.namespace);
        let (credential, seen) = watch::channel(None);
        let (errors, held) = (BTreeMap::new(), BTreeSet::new());
        (Self { role, store, options, credential, certificates: None, served: None, errors, held }, seen)
    }

    /// Works until there is a certificate to serve with; `None` when the process is to end before.
    pub(super) async fn start(&mut self) -> Option<Certificates> {
        let mut pause = RETRY.0;
        loop {
            self.reconcile().await;
            if let Some(certificates) = &self.certificates {
                return Some(certificates.clone());
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.role.stopping.requested() => return None,
            }
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Runs for as long as the process lives.
    pub(super) async fn run(mut self, every: Duration) {
        let mut pause = RETRY.0;
        loop {
            let wait = if self.errors.is_empty() { every } else { pause };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.role.stopping.requested() => return,
            }
            self.reconcile().await;
            pause = if self.errors.is_empty() { RETRY.0 } else { (pause * 2).min(RETRY.1.max(every)) };
        }
    }

    async fn reconcile(&mut self) {
        let ensured = self.ensure_key().await;
        self.note(UpkeepPart::Key, ensured);
        let Some(credential) = self.credential.borrow().clone() else { return };
        let identity = self.identity(&credential).await;
        self.note(UpkeepPart::Identity, identity);
        for (part, name, hosts) in self.leaves() {
            let issued = self.leaf(&credential.authn, &name, &hosts).await;
            let outcome = match issued {
                Ok(leaf) if part == UpkeepPart::OwnCertificate => self.serve(&leaf),
                Ok(_) => Ok(()),
                Err(problem) => {
                    if part == UpkeepPart::OwnCertificate && self.certificates.is_none() {
                        // peers of this cluster's istiod are reached with a certificate that only this process knows
                        let own = credential.authn.authority.issue(&name, &hosts, now());
                        drop(own.map(|leaf| self.serve(&leaf)));
                    }
                    Err(problem)
                }
            };
            self.note(part, outcome);
        }
    }

    /// Says what goes wrong and what is well again, each once. What held once is still in use, so it stays a condition met.
    fn note(&mut self, part: UpkeepPart, outcome: Result<(), UpkeepError>) {
        match outcome {
            Ok(()) => {
                if self.errors.remove(&part).is_some() {
                    tracing::info!(about = part.as_str(), "in order again");
                }
                if let Some(condition) = part.condition() {
                    self.held.insert(condition);
                    self.role.health.holds(condition);
                }
            }
            Err(problem) => {
                if self.errors.get(&part) != Some(&problem) {
                    tracing::warn!(about = part.as_str(), problem = problem.to_string(), "not in order");
                }
                if let Some(condition) = part.condition()
                    && !self.held.contains(condition)
                {
                    self.role.health.fails(condition, &problem);
                }
                self.errors.insert(part, problem);
            }
        }
    }

    async fn ensure_key(&self) -> Result<(), UpkeepError> {
        let known = self.credential.borrow().clone();
        let uuid = match (&known, &self.options.cluster_uuid) {
            (Some(known), _) => known.uuid.clone(),
            (None, Some(uuid)) => uuid.clone(),
            (None, None) => self.uuid().await?,
        };
        let held = known.as_ref().map(|known| &known.authn);
        let authn = key_secret::ensure(&self.store, &uuid, held, now()).await?;
        let same = held.is_some_and(|held| {
            held.key.public() == authn.key.public() && held.authority.pem() == authn.authority.pem()
        });
        if !same {
            let key = authn.key.public().id();
            if held.is_some() {
                tracing::warn!(%key, "Secret {} was replaced by another client; this cluster has another key now", key_secret::AUTHN);
            } else {
                tracing::info!(%key, cluster = %uuid, "the cluster's key is known");
            }
            self.credential.send_replace(Some(Arc::new(RelayIdentity { uuid, authn })));
        }
        Ok(())
    }

    async fn uuid(&self) -> Result<ClusterUuid, UpkeepError> {
        let object = store::read(&self.store.namespaces, UUID_NAMESPACE).await?;
        let uid = object.and_then(|object: NamespaceObject| object.metadata.uid);
        uid.ok_or(UpkeepError::NoUid)?.parse().map_err(UpkeepError::Uid)
    }

    async fn network(&self) -> Result<Option<NetworkName>, UpkeepError> {
        if let Some(network) = &self.options.network {
            return Ok(Some(network.clone()));
        }
        let namespace = &self.store.namespace;
        let object = store::read(&self.store.namespaces, namespace.as_str()).await?;
        let labels = object.and_then(|object: NamespaceObject| object.metadata.labels).unwrap_or_default();
        let label = labels.get(NETWORK_LABEL).filter(|label| !label.is_empty());
        let network = label.map(|label| label.parse()).transpose();
        network.map_err(|source| UpkeepError::Network { namespace: namespace.clone(), source })
    }

    async fn trust_domain(&self) -> Result<TrustDomain, UpkeepError> {
        if let Some(domain) = &self.options.trust_domain {
            return Ok(domain.clone());
        }
        let unnamed = [Revision::unnamed()];
        let revisions: &[Revision] = if self.options.revisions.is_empty() { &unnamed } else { &self.options.revisions };
        for revision in revisions {
            let name = standard_config_map(revision.as_str());
            let map = store::read(&self.store.config_maps, &name).await?;
            if let Some(map) = map {
                let mesh = map.data.and_then(|mut data| data.remove("mesh")).unwrap_or_default();
                return trust_domain_of(&mesh).map_err(|source| UpkeepError::Mesh { config_map: name, source });
            }
        }
        Ok(TrustDomain::default())
    }

    async fn identity(&self, credential: &RelayIdentity) -> Result<(), UpkeepError> {
        let public = credential.authn.key.public();
        let scopes = [Scope::Api, Scope::PrivateMulticluster].into();
        let ca = credential.authn.authority.pem().to_owned();
        let identity = Identity {
            version: IDENTITY_VERSION,
            cluster_uuid: Some(credential.uuid.clone()),
            keys: vec![AuthnKey { id: public.id(), pem: public.clone(), scopes }],
            trust_domain: Some(self.trust_domain().await?),
            istio_namespace: Some(self.store.namespace.clone()),
            network: self.network().await?,
            serving_ca: Some(ca.clone()),
            relay_ca: Some(ca),
        };
        let data: BTreeMap<_, _> = [(IDENTITY_FILE.to_owned(), identity.to_json())].into();
        for _ in 0..ATTEMPTS {
            let found = store::read(&self.store.config_maps, IDENTITY).await?;
            let written = match found {
                None => {
                    let metadata = self.store.own(IDENTITY);
                    let fresh = ConfigMap { metadata, data: Some(data.clone()), ..ConfigMap::default() };
                    store::create(&self.store.config_maps, IDENTITY, &fresh).await
                }
                Some(found) if !store::is_own(&found.metadata) => {
                    return Err(UpkeepError::Foreign { kind: "ConfigMap", name: IDENTITY.to_owned() });
                }
                Some(found) if found.data.as_ref() == Some(&data) => return Ok(()),
                Some(mut found) => {
                    found.data = Some(data.clone());
                    found.binary_data = None;
                    store::replace(&self.store.config_maps, IDENTITY, &found).await
                }
            };
            if written? == WriteOutcome::Done {
                tracing::info!("wrote ConfigMap {IDENTITY}");
                return Ok(());
            }
        }
        Err(UpkeepError::Unsteady { kind: "ConfigMap", name: IDENTITY.to_owned() })
    }

    /// The certificates, the Secret of each, and its hosts.
    fn leaves(&self) -> Vec<(UpkeepPart, String, BTreeSet<String>)> {
        let hosts = |service: &str, more: &[String]| -> BTreeSet<String> {
            let name = service_host(service, &self.store.namespace);
            let canonical =
                |host: &String| host.parse().map_or_else(|_| host.clone(), |host: std::net::IpAddr| host.to_string());
            [format!("{name}.{}", ClusterDomain::kubernetes_default()), name]
                .into_iter()
                .chain(more.iter().map(canonical))
                .collect()
        };
        let mut leaves = vec![
            (UpkeepPart::ExporterCertificate, tls_secret(EXPORTER), hosts(EXPORTER, &self.options.exporter_hosts)),
            (UpkeepPart::ProxyCertificate, tls_secret(PROXY), hosts(PROXY, &self.options.proxy_hosts)),
        ];
        if self.role.tls.is_none() {
            leaves.push((UpkeepPart::OwnCertificate, tls_secret(RELAY), hosts(RELAY, &[])));
        }
        leaves
    }

    /// The certificate in a Secret, issued if it has to be.
    async fn leaf(&self, authn: &Authn, name: &str, hosts: &BTreeSet<String>) -> Result<Leaf, UpkeepError> {
        let authority = &authn.authority;
        for _ in 0..ATTEMPTS {
            let found: Option<Secret> = store::read(&self.store.secrets, name).await?;
            let why = match &found {
                None => IssueReason::Missing,
                Some(found) if !store::is_own(&found.metadata) => {
                    return Err(UpkeepError::Foreign { kind: "Secret", name: name.to_owned() });
                }
                Some(found) => match leaf_of(found) {
                    None => IssueReason::Incomplete,
                    Some(leaf) => match authority.stale(&leaf, hosts, now()) {
                        None => return Ok(leaf),
                        Some(why) => why,
                    },
                },
            };
            let common_name = name.trim_end_matches("-tls");
            let leaf = authority.issue(common_name, hosts, now())?;
            let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
            let data: BTreeMap<_, _> = [
                ("tls.crt".to_owned(), bytes(&leaf.chain)),
                ("tls.key".to_owned(), bytes(&leaf.key)),
                ("ca.crt".to_owned(), bytes(authority.pem())),
            ]
            .into();
            let written = match found {
                None => {
                    let type_ = Some("kubernetes.io/tls".to_owned());
                    let fresh = Secret { metadata: self.store.own(name), data: Some(data), type_, ..Secret::default() };
                    store::create(&self.store.secrets, name, &fresh).await
                }
                Some(mut found) => {
                    found.data = Some(data);
                    store::replace(&self.store.secrets, name, &found).await
                }
            };
            if written? == WriteOutcome::Done {
                tracing::info!(secret = name, why = why.to_string(), "issued a certificate");
                return Ok(leaf);
            }
        }
        Err(UpkeepError::Unsteady { kind: "Secret", name: name.to_owned() })
    }

    /// Shows a certificate from now on.
    fn serve(&mut self, leaf: &Leaf) -> Result<(), UpkeepError> {
        let digest = crate::types::name::Digest::of(leaf.chain.as_bytes());
        if self.served == Some(digest) {
            return Ok(());
        }
        match &self.certificates {
            Some(certificates) => certificates.replace(&leaf.chain, &leaf.key)?,
            None => self.certificates = Some(Certificates::from_pem(&leaf.chain, &leaf.key)?),
        }
        self.served = Some(digest);
        Ok(())
    }

    /// Serves with certificates that come from elsewhere.
    pub(super) fn serve_from(&mut self, certificates: Certificates) {
        self.certificates = Some(certificates);
    }
}

fn leaf_of(secret: &Secret) -> Option<Leaf> {
    let data = secret.data.as_ref()?;
    let text = |field: &str| String::from_utf8(data.get(field)?.0.clone()).ok();
    Some(Leaf { chain: text("tls.crt")?, key: Zeroizing::new(text("tls.key")?) })
}

/// `trustDomain` of a mesh configuration, whose default is `cluster.local` (istio/api `mesh/v1alpha1/config.proto`).
fn trust_domain_of(mesh: &str) -> Result<TrustDomain, MeshFault> {
    let mesh = yaml::value(mesh, MAX_OBJECT).map_err(MeshFault::NotYaml)?;
    let domain = match &mesh {
        Value::Null => None,
        Value::Object(mesh) => mesh.get("trustDomain"),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return Err(MeshFault::NotMapping),
    };
    match domain {
        None | Some(Value::Null) => Ok(TrustDomain::default()),
        Some(Value::String(domain)) if domain.is_empty() => Ok(TrustDomain::default()),
        Some(Value::String(domain)) => domain.parse().map_err(MeshFault::TrustDomain),
        Some(_) => Err(MeshFault::NotMapping),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trust_domain_is_istios_own_unless_the_mesh_says_another() {
        let domain = |mesh: &str| trust_domain_of(mesh).map(|domain| domain.to_string());
        assert_eq!(domain(""), Ok("cluster.local".to_owned()));
        assert_eq!(domain("enableTracing: true\ntrustDomain: \"\"\n"), Ok("cluster.local".to_owned()));
        assert_eq!(domain("trustDomain: shop.example\nrootNamespace: istio-system\n"), Ok("shop.example".to_owned()));
        assert!(domain("trustDomain: Shop/Example").is_err());
        assert!(domain("- a list").is_err());
    }
}
