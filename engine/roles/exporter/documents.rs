//! What is published, from what was found: each document complete, or why not. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use x509_parser::pem::Pem;

use crate::cluster::unread::Unread;
use crate::cluster::watched::{Objects, SourceState};
use crate::istio::gateways::FoundGateways;
use crate::istio::installed::{REVOKED, ROOT_CA, cluster_id, istio};
use crate::istio::mesh_config::{Configured, parse_mesh_networks};
use crate::istio::objects::{DatedConfigMap, Istiod, MeshMap, NamespaceFacts, PodFacts};
use crate::roles::exporter::gathered::{Gathered, Relation};
use crate::roles::exporter::options::ExporterOptions;
use crate::roles::exporter::published::Published;
use crate::roles::exporter::reasons::{Component, DocumentError, EvidenceError};
use crate::types::address::Gateway;
use crate::types::certificate::{RootCertificate, parse_roots_any_time, revocations_of};
use crate::types::name::{ClusterId, ClusterUuid, Namespace, NetworkName};
use crate::types::time::Timestamp;
use crate::wire::identity::{IDENTITY, IDENTITY_FILE, Identity};
use crate::wire::metadata::{AuthnKey, PrivateDocument, PublicDocument};
use crate::wire::peers::{PEERS, PEERS_FILE, PeersFile};
use crate::wire::routes::{ROUTES, ROUTES_FILE, RoutesFile};

// Sources as reasons name them.
pub(super) const ROOTS: &str = "ConfigMap istio-ca-root-cert";
pub(super) const PEERS_MAP: &str = "ConfigMap isthmus-peers";
pub(super) const HAND_OVER_MAP: &str = "ConfigMap isthmus-hand-over";
pub(super) const ROUTES_MAP: &str = "ConfigMap isthmus-routes";
pub(super) const SHARED: &str = "ConfigMap isthmus-mesh";
pub(super) const STANDARD: &str = "Istio's mesh configuration";
pub(super) const DEPLOYMENTS: &str = "list of istiod's Deployments";
pub(super) const ISTIODS: &str = "list of istiod's pods";

/// All that was found in the cluster.
#[derive(Debug, Clone)]
pub struct ClusterFacts {
    /// `istio-ca-root-cert`.
    pub roots: SourceState<Arc<DatedConfigMap>>,
    /// `istio-ca-crl`.
    pub revoked: SourceState<Arc<DatedConfigMap>>,
    /// `isthmus-identity`.
    pub identity: SourceState<Arc<DatedConfigMap>>,
    /// `isthmus-peers`.
    pub peers: SourceState<Arc<DatedConfigMap>>,
    /// `isthmus-hand-over`.
    pub hand_over: SourceState<Arc<DatedConfigMap>>,
    /// `isthmus-routes`.
    pub routes: SourceState<Arc<DatedConfigMap>>,
    /// `isthmus-mesh`.
    pub shared: SourceState<Arc<MeshMap>>,
    /// `istio` and those of other revisions.
    pub standard: BTreeMap<String, SourceState<Arc<MeshMap>>>,
    pub deployments: SourceState<Objects<Istiod>>,
    /// Pods of istiod that run.
    pub istiods: SourceState<Objects<PodFacts>>,
    /// Namespace `kube-system`.
    pub kube_system: SourceState<Arc<NamespaceFacts>>,
    pub namespace: SourceState<Arc<NamespaceFacts>>,
    pub gateways: FoundGateways,
    /// The network that their Services lead into, where it is one.
    pub gateway_network: Option<String>,
    /// The chain that the exporter itself serves, PEM.
    pub serving: Option<String>,
}

/// What is published of it at a time.
pub fn compose(facts: &ClusterFacts, options: &ExporterOptions, namespace: &Namespace, now: Timestamp) -> Published {
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
            mesh_id: match &options.mesh_id {
                Some(stated) => Some(stated.clone()),
                None => facts.standard_says(|map| map.mesh_id.as_ref())?.and_then(|text| text.parse().ok()),
            },
            trust_domain: match &identity.trust_domain {
                Some(stated) => Some(stated.clone()),
                None => facts.standard_says(|map| map.trust_domain.as_ref())?.and_then(|text| text.parse().ok()),
            },
            cluster_domain: options.cluster_domain.clone(),
            serving_ca,
            relay_ca: identity.relay_ca.filter(|pem| !pem.is_empty()),
            authn_keys,
            crl: crl(facts, &roots.0),
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
            // nothing that is looked at says which there are
            ambient_gateways: Vec::new(),
            api_host,
            cluster_id: Some(cluster_id),
            network_name: network(facts, options, &identity)?,
            api_ca: serving_ca(facts, &identity),
            evidence: None,
            peers_seen: Vec::new(),
            leaving: BTreeSet::new(),
        })
    };
    Published {
        public: public(),
        private: cluster_uuid.clone().and_then(|_| private()),
        cluster_uuid: cluster_uuid.ok(),
        evidence: Gathered::NotYet,
        peers,
        sequence: roots.map(|(_, sequence)| sequence).unwrap_or_default(),
    }
}

impl ClusterFacts {
    /// Every istiod that there is to be: those of Deployments, else of pods.
    fn istiods(&self) -> Result<Vec<Istiod>, DocumentError> {
        let deployments = self.deployments.required(DEPLOYMENTS)?;
        if !deployments.is_empty() {
            return Ok(deployments.values().map(|one| (**one).clone()).collect());
        }
        let pods = self.istiods.required(ISTIODS)?;
        if pods.is_empty() {
            return Err(DocumentError::NoIstiod);
        }
        Ok(pods.values().map(|pod| pod.istiod.clone()).collect())
    }

    /// What the standard mesh configuration says of something, the first revision's first. `None`: it says nothing. A revision
    /// whose ConfigMap cannot be read is passed over where another's can: it is of the same mesh.
    fn standard_says<'a>(
        &'a self,
        get: impl Fn(&'a MeshMap) -> Option<&'a String>,
    ) -> Result<Option<&'a String>, DocumentError> {
        let not_yet = |what: &'static str| Err(Unread::NotYet { what: what.into() }.into());
        // which revisions there are
        match (&self.deployments, &self.istiods) {
            (SourceState::NotYet, _) => return not_yet(DEPLOYMENTS),
            (_, SourceState::NotYet) => return not_yet(ISTIODS),
            _ => {}
        }
        let mut unread = None;
        let mut maps = Vec::new();
        for (name, source) in &self.standard {
            match source.optional(format!("ConfigMap {name}")) {
                Ok(map) => maps.push(map),
                Err(error @ Unread::NotYet { .. }) => return Err(error.into()),
                Err(error) => unread = Some(error),
            }
        }
        let present: Vec<_> = maps.into_iter().flatten().collect();
        match unread {
            Some(error) if present.is_empty() => Err(error.into()),
            _ => Ok(present.into_iter().find_map(|map| get(map))),
        }
    }

    /// The standard mesh configuration of each revision that there is. None of it is passed over.
    ///
    /// # Errors
    ///
    /// It is not known which revisions there are, or there is none.
    pub fn standard(&self) -> Result<&BTreeMap<String, SourceState<Arc<MeshMap>>>, EvidenceError> {
        self.deployments.required(DEPLOYMENTS)?;
        self.istiods.required(ISTIODS)?;
        if self.standard.is_empty() {
            return Err(EvidenceError::NoPod { of: Component::Istiod });
        }
        Ok(&self.standard)
    }

    /// Networks that are configured, ours over the standard ones.
    ///
    /// # Errors
    ///
    /// A ConfigMap that may have some is not known.
    pub fn configured(&self) -> Result<Configured, EvidenceError> {
        let mut standard = None;
        for (name, source) in self.standard()? {
            let map = source.optional(format!("ConfigMap {name}"))?;
            standard = standard.or(map.and_then(|map| map.mesh_networks.as_ref()));
        }
        let ours = self.shared.optional(SHARED)?.and_then(|map| map.mesh_networks.as_ref());
        let texts = standard.into_iter().chain(ours);
        Ok(texts.flat_map(|text| parse_mesh_networks(text)).map(|(name, (gateways, _))| (name, gateways)).collect())
    }

    /// The first source of evidence that was not read yet.
    pub(super) fn not_yet(&self) -> Option<Unread> {
        fn of<T>(source: &SourceState<T>, what: &'static str) -> Option<Unread> {
            matches!(source, SourceState::NotYet).then(|| Unread::NotYet { what: what.into() })
        }
        of(&self.roots, ROOTS)
            .or_else(|| of(&self.peers, PEERS_MAP))
            .or_else(|| of(&self.routes, ROUTES_MAP))
            .or_else(|| of(&self.shared, SHARED))
            .or_else(|| of(&self.deployments, DEPLOYMENTS))
            .or_else(|| of(&self.istiods, ISTIODS))
            .or_else(|| self.standard.values().find_map(|map| of(map, STANDARD)))
    }
}

/// What the cluster's own CA revoked. A plugged-in CA may bring lists of peers, which are theirs to publish.
///
/// istiod takes `ca-crl.pem` only with a list of each CA of its chain, and Envoy refuses a chain of which one has none
/// (istio.io/istio `security/pkg/pki/util/keycertbundle.go`, `Verify`). So with an intermediate CA the lists of the root are not
/// all that a reader would need, and what rests on this has to learn the intermediates first: they are in Secret `cacerts`, with
/// the CA's key, and in what istiod shows in a handshake.
fn crl(facts: &ClusterFacts, roots: &[RootCertificate]) -> Option<String> {
    let text = facts.revoked.present()?.data.get(REVOKED.1)?;
    revocations_of(text, roots)
}

fn with_newline(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

fn file<'a>(
    source: &'a SourceState<Arc<DatedConfigMap>>,
    config_map: &'static str,
    file: &'static str,
) -> Result<&'a str, DocumentError> {
    let data = source.required(format!("ConfigMap {config_map}"))?;
    data.data.get(file).map(String::as_str).ok_or(DocumentError::NoFile { config_map, file })
}

fn uuid(facts: &ClusterFacts, options: &ExporterOptions) -> Result<ClusterUuid, DocumentError> {
    if let Some(uuid) = &options.cluster_uuid {
        return Ok(uuid.clone());
    }
    let uid = &facts.kube_system.required("namespace kube-system")?.uid;
    uid.parse().map_err(DocumentError::Uid)
}

/// The identity, which must be this cluster's, and its keys.
fn identity(
    facts: &ClusterFacts,
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

/// No ConfigMap means that no one is admitted yet: a new cluster becomes ready before it has peers.
pub(super) fn peers(facts: &ClusterFacts) -> Result<PeersFile, DocumentError> {
    if facts.peers == SourceState::Absent {
        return Ok(PeersFile::empty());
    }
    Ok(PeersFile::parse(file(&facts.peers, PEERS, PEERS_FILE)?.as_bytes())?)
}

/// The roots to publish, and the sequence of their bundle.
///
/// All that are valid, in the order of their digests; one that has expired, or is not valid yet, is left out while another is
/// valid. The sequence is the time, in seconds, of the last change: when the ConfigMap's data was last written, a root that is
/// left out expired, or one became valid. All replicas say the same, also after a restart, and it does not fall.
fn roots(facts: &ClusterFacts, now: Timestamp) -> Result<(Vec<RootCertificate>, u64), DocumentError> {
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

fn network(facts: &ClusterFacts, options: &ExporterOptions, identity: &Identity) -> Result<NetworkName, DocumentError> {
    if let Some(network) = &options.network {
        return Ok(network.clone());
    }
    let label = &facts.namespace.required("Istio's namespace")?.network;
    match (label, &identity.network) {
        (Some(label), _) => label.parse().map_err(DocumentError::NetworkLabel),
        (None, Some(network)) => Ok(network.clone()),
        (None, None) => {
            let network = facts.gateway_network.as_ref().ok_or(DocumentError::NoNetwork)?;
            network.parse().map_err(DocumentError::GatewayNetwork)
        }
    }
}

fn ingress(facts: &ClusterFacts, options: &ExporterOptions) -> Result<Vec<Gateway>, DocumentError> {
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
fn serving_ca(facts: &ClusterFacts, identity: &Identity) -> Option<String> {
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

/// How evidence names each peer: by its route, and once that is gone by its entry, which stays until its links are.
pub(super) fn relations(facts: &ClusterFacts) -> BTreeMap<ClusterUuid, Relation> {
    let routes = file(&facts.routes, ROUTES, ROUTES_FILE).ok();
    let routes = routes.and_then(|text| RoutesFile::parse(text.as_bytes()).ok()).map(|file| file.routes);
    let texts = [facts.shared.present().and_then(|map| map.mesh_networks.as_deref())].into_iter();
    let standard =
        facts.standard.values().filter_map(SourceState::present).find_map(|map| map.mesh_networks.as_deref());
    let texts = texts.chain([standard]);
    let networks: Vec<_> = texts.flatten().flat_map(parse_mesh_networks).collect();
    let network = |id: &ClusterId| {
        let of = networks.iter().find(|(_, (_, registries))| registries.contains(id.as_str()));
        of.and_then(|(name, _)| name.parse().ok())
    };
    let relation = |id: ClusterId| Relation { network: network(&id), cluster_id: id };
    let leaving = peers(facts).map(|file| file.peers).unwrap_or_default();
    let leaving = leaving.into_iter().filter_map(|peer| Some((peer.cluster_uuid, peer.leaving?.cluster_id)));
    let routes = routes.into_iter().flatten().map(|route| (route.cluster_uuid, route.cluster_id));
    leaving.chain(routes).map(|(uuid, id)| (uuid, relation(id))).collect()
}

/// Whether our ConfigMap is there, which istiod has to be told of.
pub fn shared(facts: &ClusterFacts) -> Result<bool, Unread> {
    facts.shared.optional(SHARED).map(|map| map.is_some())
}
