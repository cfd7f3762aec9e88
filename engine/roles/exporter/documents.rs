//! What is published, from what was found: each document complete, or why not. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use x509_parser::pem::Pem;

use crate::cluster::unread::Unread;
use crate::cluster::watched::{Objects, Source};
use crate::istio::gateways::FoundGateways;
use crate::istio::installed::{ROOT_CA, cluster_id, istio};
use crate::istio::mesh_config::{Configured, SHARED_MESH_CONFIG, parse_mesh_networks};
use crate::istio::objects::{Data, Istiod, MeshMap, NamespaceFacts, PodFacts};
use crate::roles::exporter::options::ExporterOptions;
use crate::roles::exporter::published::{Published, Relation};
use crate::roles::exporter::reasons::DocumentError;
use crate::types::address::Gateway;
use crate::types::certificate::{RootCertificate, parse_roots_any_time};
use crate::types::name::{ClusterId, ClusterUuid, Namespace, NetworkName};
use crate::types::time::Timestamp;
use crate::wire::identity::{IDENTITY, IDENTITY_FILE, Identity};
use crate::wire::metadata::{AuthnKey, PrivateDocument, PublicDocument};
use crate::wire::peers::{PEERS, PEERS_FILE, PeersFile};
use crate::wire::routes::{ROUTES, ROUTES_FILE, RoutesFile};

/// All that was found in the cluster.
#[derive(Debug, Clone)]
pub struct Facts {
    /// `istio-ca-root-cert`.
    pub roots: Source<Arc<Data>>,
    /// `isthmus-identity`.
    pub identity: Source<Arc<Data>>,
    /// `isthmus-peers`.
    pub peers: Source<Arc<Data>>,
    /// `isthmus-routes`.
    pub routes: Source<Arc<Data>>,
    /// `isthmus-mesh`.
    pub shared: Source<Arc<MeshMap>>,
    /// `istio` and those of other revisions.
    pub standard: BTreeMap<String, Source<Arc<MeshMap>>>,
    /// Deployments of istiod.
    pub deployments: Source<Objects<Istiod>>,
    /// Pods of istiod that run.
    pub istiods: Source<Objects<PodFacts>>,
    /// Namespace `kube-system`.
    pub kube_system: Source<Arc<NamespaceFacts>>,
    /// Istio's namespace.
    pub namespace: Source<Arc<NamespaceFacts>>,
    /// Gateways.
    pub gateways: FoundGateways,
    /// The chain that the exporter itself serves, PEM.
    pub serving: Option<String>,
}

/// What is published of it at a time.
pub fn compose(facts: &Facts, options: &ExporterOptions, namespace: &Namespace, now: Timestamp) -> Published {
    let cluster_uuid = uuid(facts, options);
    let peers = peers(facts);
    let roots = roots(facts, now);
    let identity = identity(facts, &cluster_uuid);
    let istiods = facts.istiods();
    let public = || {
        let (identity, keys) = identity.clone()?;
        let roots = roots.as_ref().map_err(Clone::clone)?;
        let mut authn_keys = keys.clone();
        // those that read in the cluster's own name
        let own = peers.clone()?.own.keys.into_iter();
        authn_keys.extend(own.filter(|key| keys.iter().all(|known| known.id != key.id)));
        let serving_ca = serving_ca(facts, &identity);
        Ok(PublicDocument {
            cluster_uuid: cluster_uuid.clone()?,
            authn_key: keys.first().map(|key| key.pem.clone()).ok_or(DocumentError::NoKey)?,
            root_ca: roots.0.iter().map(|root| with_newline(&root.pem)).collect(),
            mesh_id: options.mesh_id.clone().or_else(|| facts.standard_says(|map| map.mesh_id.as_ref())?.parse().ok()),
            trust_domain: identity
                .trust_domain
                .clone()
                .or_else(|| facts.standard_says(|map| map.trust_domain.as_ref())?.parse().ok()),
            cluster_domain: options.cluster_domain.clone(),
            serving_ca,
            relay_ca: identity.relay_ca.filter(|pem| !pem.is_empty()),
            authn_keys,
            istio: Some(istio(&istiods.clone()?, namespace)),
        })
    };
    let private = || {
        let (identity, _) = identity.clone()?;
        let api_host = options.api_host.clone().ok_or(DocumentError::NoApiHost)?;
        let cluster_id = match &options.cluster_id {
            Some(id) => id.clone(),
            None => cluster_id(&istiods.clone()?)?,
        };
        Ok(PrivateDocument {
            ingress_gateways: ingress(facts, options)?,
            api_host,
            cluster_id: Some(cluster_id),
            network_name: network(facts, options, &identity)?,
            api_ca: serving_ca(facts, &identity),
            evidence: None,
        })
    };
    Published {
        public: public(),
        private: cluster_uuid.clone().and_then(|_| private()),
        cluster_uuid: cluster_uuid.ok(),
        evidence: None,
        relations: relations(facts),
        peers,
        sequence: roots.map(|(_, sequence)| sequence).unwrap_or_default(),
    }
}

impl Facts {
    /// Every istiod that there is to be: those of Deployments, else of pods.
    fn istiods(&self) -> Result<Vec<Istiod>, DocumentError> {
        let deployments = self.deployments.required("list of istiod's Deployments")?;
        if !deployments.is_empty() {
            return Ok(deployments.values().map(|one| (**one).clone()).collect());
        }
        let pods = self.istiods.required("list of istiod's pods")?;
        if pods.is_empty() {
            return Err(DocumentError::NoIstiod);
        }
        Ok(pods.values().map(|pod| pod.istiod.clone()).collect())
    }

    fn standard_says<'a>(&'a self, get: impl Fn(&'a MeshMap) -> Option<&'a String>) -> Option<&'a String> {
        self.standard.values().filter_map(Source::present).find_map(|map| get(map))
    }

    /// Networks that are configured, ours over the standard ones.
    pub fn configured(&self) -> Configured {
        let texts = self.standard_says(|map| map.mesh_networks.as_ref()).into_iter();
        let texts = texts.chain(self.shared.present().and_then(|map| map.mesh_networks.as_ref()));
        texts.flat_map(|text| parse_mesh_networks(text)).map(|(name, (gateways, _))| (name, gateways)).collect()
    }
}

fn with_newline(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

fn file<'a>(
    source: &'a Source<Arc<Data>>,
    config_map: &'static str,
    file: &'static str,
) -> Result<&'a str, DocumentError> {
    let data = source.required(format!("ConfigMap {config_map}"))?;
    data.data.get(file).map(String::as_str).ok_or(DocumentError::NoFile { config_map, file })
}

fn uuid(facts: &Facts, options: &ExporterOptions) -> Result<ClusterUuid, DocumentError> {
    if let Some(uuid) = &options.cluster_uuid {
        return Ok(uuid.clone());
    }
    let uid = &facts.kube_system.required("namespace kube-system")?.uid;
    uid.parse().map_err(DocumentError::Uid)
}

/// The identity, which must be this cluster's, and its keys.
fn identity(
    facts: &Facts,
    own: &Result<ClusterUuid, DocumentError>,
) -> Result<(Identity, Vec<AuthnKey>), DocumentError> {
    let text = file(&facts.identity, IDENTITY, IDENTITY_FILE)?;
    let identity = Identity::parse(text.as_bytes())?;
    match (&identity.cluster_uuid, own) {
        (Some(named), Ok(own)) if named != own => {
            Err(DocumentError::OtherCluster { named: named.clone(), own: own.clone() })
        }
        _ if identity.keys.is_empty() => Err(DocumentError::NoKey),
        _ => Ok((identity.clone(), identity.keys)),
    }
}

/// No ConfigMap means that nobody is admitted yet: a new cluster becomes ready before it has peers.
pub(super) fn peers(facts: &Facts) -> Result<PeersFile, DocumentError> {
    if facts.peers == Source::Absent {
        return Ok(PeersFile::empty());
    }
    Ok(PeersFile::parse(file(&facts.peers, PEERS, PEERS_FILE)?.as_bytes())?)
}

/// The roots to publish, and the sequence of their bundle.
///
/// All that are valid, in the order of their digests; one that has expired, or is not valid yet, is left out while another is
/// valid. The sequence is the time, in seconds, of the last change: when the ConfigMap's data was last written, a root that is
/// left out expired, or one became valid. All replicas say the same, also after a restart, and it does not fall.
fn roots(facts: &Facts, now: Timestamp) -> Result<(Vec<RootCertificate>, u64), DocumentError> {
    let text = file(&facts.roots, ROOT_CA.0, ROOT_CA.1)?;
    let all = parse_roots_any_time(text).map_err(DocumentError::Roots)?;
    let sequence = |time: Option<Timestamp>| time.and_then(|time| u64::try_from(time.as_seconds()).ok()).unwrap_or(0);
    let written = facts.roots.present().and_then(|data| data.written);
    let (valid, others): (Vec<_>, Vec<_>) =
        all.iter().cloned().partition(|root| root.not_before <= now && now <= root.not_after);
    let expired = others.iter().filter(|root| root.not_after < now);
    let left = expired.map(|root| root.not_after + Duration::from_secs(1)).max();
    let published = if valid.is_empty() { all } else { valid };
    let begun = published.iter().map(|root| root.not_before).max();
    Ok((published, sequence(written.max(begun).max(left))))
}

fn network(facts: &Facts, options: &ExporterOptions, identity: &Identity) -> Result<NetworkName, DocumentError> {
    if let Some(network) = &options.network {
        return Ok(network.clone());
    }
    let label = &facts.namespace.required("Istio's namespace")?.network;
    match (label, &identity.network) {
        (Some(label), _) => label.parse().map_err(DocumentError::NetworkLabel),
        (None, Some(network)) => Ok(network.clone()),
        (None, None) => Err(DocumentError::NoNetwork),
    }
}

fn ingress(facts: &Facts, options: &ExporterOptions) -> Result<Vec<Gateway>, DocumentError> {
    let mut stated = options.gateways.clone();
    if !stated.is_empty() {
        stated.sort();
        stated.dedup();
        return Ok(stated);
    }
    let found = facts.gateways.clone()?;
    if found.is_empty() && !options.flat_network {
        return Err(DocumentError::NoGateway);
    }
    Ok(found)
}

/// The serving CA, where it made what is served: who brings another certificate brings another CA, too.
fn serving_ca(facts: &Facts, identity: &Identity) -> Option<String> {
    let ca = identity.serving_ca.as_ref().filter(|pem| !pem.is_empty())?;
    match &facts.serving {
        Some(chain) if !made_by(ca, chain) => None,
        _ => Some(ca.clone()),
    }
}

/// Whether a CA of a bundle made the first certificate of a chain.
fn made_by(bundle: &str, chain: &str) -> bool {
    let read = |text: &str| Pem::iter_from_buffer(text.as_bytes()).flatten().collect::<Vec<_>>();
    let (authorities, chain) = (read(bundle), read(chain));
    let Some(Ok(leaf)) = chain.first().map(Pem::parse_x509) else { return false };
    authorities
        .iter()
        .filter_map(|pem| pem.parse_x509().ok())
        .any(|ca| leaf.issuer() == ca.subject() && leaf.verify_signature(Some(ca.public_key())).is_ok())
}

/// How evidence names each peer.
fn relations(facts: &Facts) -> BTreeMap<ClusterUuid, Relation> {
    let routes = file(&facts.routes, ROUTES, ROUTES_FILE).ok();
    let routes = routes.and_then(|text| RoutesFile::parse(text.as_bytes()).ok()).map(|file| file.routes);
    let texts = [facts.shared.present().and_then(|map| map.mesh_networks.as_deref())].into_iter();
    let texts = texts.chain([facts.standard_says(|map| map.mesh_networks.as_ref()).map(String::as_str)]);
    let networks: Vec<_> = texts.flatten().flat_map(parse_mesh_networks).collect();
    let network = |id: &ClusterId| {
        let of = networks.iter().find(|(_, (_, registries))| registries.contains(id.as_str()));
        of.and_then(|(name, _)| name.parse().ok())
    };
    let relation = |id: ClusterId| Relation { network: network(&id), cluster_id: id };
    routes.into_iter().flatten().map(|route| (route.cluster_uuid, relation(route.cluster_id))).collect()
}

/// Whether our ConfigMap is there, which istiod has to be told of.
pub fn shared(facts: &Facts) -> Result<bool, Unread> {
    facts.shared.optional(format!("ConfigMap {SHARED_MESH_CONFIG}")).map(|map| map.is_some())
}
