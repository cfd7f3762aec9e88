//! What trees and evidence tell of the links that were made with them: where the lock lost what its links rest on, or was
//! written before that was kept, and where git has no copy of it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::istio::kubeconfig::RemoteKubeconfig;
use crate::istio::mesh_config::{SHARED_MESH_CONFIG, parse_mesh_networks};
use crate::istio::objects::{roots_of_mesh, trust_domain_aliases};
use crate::model::known::KnownCluster;
use crate::model::layout::{peer_of_secret_file, values_mark};
use crate::model::link::Link;
use crate::model::lock::{JoinedSpec, JoinedWith, Lock, LockedLink, Stage};
use crate::model::mesh::{Cluster, Mesh, MeshConfigTarget, Reconciler, State};
use crate::pipeline::accept::{Accepted, Assessment, EvidenceState};
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::address::Gateway;
use crate::types::certificate::certificate_blocks;
use crate::types::name::{ClusterId, ClusterName, ClusterUuid, Digest, Namespace, NetworkName, TrustDomain};
use crate::types::object::{CLUSTER_ANNOTATION, Object, parse_file};
use crate::types::yaml::{self, MAX_OBJECT};
use crate::wire::agent::AGENT;
use crate::wire::hand_over::HandOverStage;
use crate::wire::metadata::Evidence;
use crate::wire::names::{EXPORTER, RELAY};
use crate::wire::peers::{PEERS, PEERS_FILE, PeersFile};
use crate::wire::routes::{ROUTES, ROUTES_FILE};

/// Forms in which roots and networks are written as values.
const VALUES: [MeshConfigTarget; 3] =
    [MeshConfigTarget::HelmValues, MeshConfigTarget::IstioOperator, MeshConfigTarget::Sail];

/// What all trees tell.
pub(super) struct RecordedByTrees(BTreeMap<ClusterName, RecordedByFolder>);

/// What one cluster's files tell.
#[derive(Default)]
struct RecordedByFolder {
    /// IDs of peers, by their remote secrets.
    secrets: BTreeMap<ClusterName, ClusterId>,
    /// Certificates by which these know the relay: PEM.
    relay_cas: BTreeSet<String>,
    /// Networks with their gateways and registries.
    networks: BTreeMap<String, (BTreeSet<Gateway>, BTreeSet<String>)>,
    /// Trust domains of root CAs.
    roots: BTreeMap<Digest, BTreeSet<TrustDomain>>,
    /// Trust domains that are one with the own.
    aliases: BTreeSet<TrustDomain>,
    /// Who may read the cluster.
    peers: BTreeSet<ClusterName>,
    /// Whom the relay reaches under an ID.
    routes: BTreeMap<ClusterId, ClusterUuid>,
    /// The run that it is of.
    serial: u64,
    /// Where roots and networks are written.
    config: Option<MeshConfigTarget>,
    /// Where our objects are.
    namespace: Option<Namespace>,
    /// Arguments of the exporter; `None`: none is deployed from here.
    exporter: Option<Vec<String>>,
    /// Arguments of the relay, which an agent is, too.
    relay: Vec<String>,
    has_agent: bool,
    /// The file of its peers is there, which who acts writes.
    has_peers: bool,
}

impl RecordedByTrees {
    /// Reads the files of every cluster.
    pub(super) fn read(mesh: &Mesh, tree: &dyn Tree) -> Result<Self, TreeError> {
        let folder = |name: &ClusterName| Ok((name.clone(), RecordedByFolder::read(mesh, tree, name)?));
        mesh.clusters.keys().map(folder).collect::<Result<_, TreeError>>().map(Self)
    }

    /// With what the links of a cluster were begun, by what its own files and those of its readers tell; `anew` is what they would be
    /// begun with now. `None`: the engine deploys it, and its files are gone.
    pub(super) fn joined(&self, lock: &Lock, name: &ClusterName, anew: JoinedWith) -> Option<JoinedWith> {
        let own = self.0.get(name).filter(|own| own.namespace.is_some());
        if own.is_none() && anew.spec.reconciler == Reconciler::Rendered {
            return None;
        }
        let readers = || self.0.iter().filter(|(reader, _)| *reader != name).map(|(_, folder)| folder);
        let mut joined = anew;
        if let Some(id) = readers().find_map(|folder| folder.secrets.get(name)) {
            joined.cluster_id = id.clone();
        }
        let listing = readers().chain(own).find_map(|folder| folder.network_of(&joined.cluster_id));
        if let Some(network) = listing {
            joined.network = network;
        }
        if let Some(domain) = self.trust_domain(lock, name, &joined.trust_domain) {
            joined.trust_domain = domain;
        }
        if let Some(own) = own {
            own.spec(&mut joined.spec);
        }
        Some(joined)
    }

    /// The cluster that a reader knows by an ID: by that with which its links were begun or, where no lock says that any more, by
    /// that of secrets, by that of its istiod, and by that which its specs ask for.
    fn known_by(&self, mesh: &Mesh, lock: &Lock, reader: &ClusterName, id: &ClusterId) -> Option<ClusterName> {
        let is_it = |name: &&ClusterName| {
            let Some(known) = KnownCluster::of(mesh, lock, name) else { return false };
            let in_trees = || self.0.values().filter_map(|folder| folder.secrets.get(*name)).any(|of| of == id);
            known.cluster_id() == *id
                || (known.joined_with().is_none() && (known.own_cluster_id() == *id || in_trees()))
        };
        mesh.clusters.keys().filter(|name| *name != reader).find(is_it).cloned()
    }

    /// Records with what the links of both ends of a restored link were begun, where no lock says it any more: what the trees
    /// tell, and the ID by which the peer is read.
    fn rest_on(&self, mesh: &Mesh, lock: &mut Lock, link: &Link, id: &ClusterId) {
        for name in link.ends() {
            let Some(known) = KnownCluster::of(mesh, lock, name).filter(|known| known.joined_with().is_none()) else {
                continue;
            };
            let Some(anew) = known.joins_with(mesh) else { continue };
            let mut joined = self.joined(lock, name, anew.clone()).unwrap_or(anew);
            if *name == link.peer {
                joined.cluster_id.clone_from(id);
            }
            if let Some(entry) = lock.clusters.get_mut(name) {
                entry.joined_with = Some(joined);
            }
        }
    }

    /// The one trust domain for which readers accept all roots of a cluster; `None`: no one says, or it is the one that is known.
    fn trust_domain(&self, lock: &Lock, name: &ClusterName, known: &TrustDomain) -> Option<TrustDomain> {
        let roots = lock.clusters.get(name)?.public.roots.iter().map(|root| root.digest);
        let roots: Vec<Digest> = roots.collect();
        let recorded = self.0.values().filter_map(|folder| {
            let domains = roots.iter().filter_map(|root| folder.roots.get(root).cloned());
            domains.reduce(|some, others| some.intersection(&others).cloned().collect())
        });
        let recorded: BTreeSet<TrustDomain> = recorded.flatten().collect();
        let only = recorded.first().filter(|_| recorded.len() == 1 && !recorded.contains(known));
        only.cloned()
    }
}

/// Certificates by which the remote secrets in a cluster's folder know its relay: PEM.
pub(super) fn relay_cas(mesh: &Mesh, tree: &dyn Tree, name: &ClusterName) -> Result<BTreeSet<String>, TreeError> {
    Ok(RecordedByFolder::read(mesh, tree, name)?.relay_cas)
}

impl RecordedByFolder {
    fn read(mesh: &Mesh, tree: &dyn Tree, name: &ClusterName) -> Result<Self, TreeError> {
        let mut recorded = Self::default();
        for (file, bytes) in tree.cluster_files(name.as_str())? {
            if let Some(object) = parse_file(&bytes).filter(|object| object.is_owned_by_tree_of(&mesh.name)) {
                recorded.take(&file, &object);
            }
        }
        let mark = values_mark(&mesh.name);
        for target in VALUES {
            let path = target.values_file_of(name).unwrap_or_default();
            if let Some(bytes) = tree.file(&path)?.filter(|bytes| bytes.starts_with(mark.as_bytes())) {
                recorded.take_values(target, &String::from_utf8_lossy(&bytes));
            }
        }
        Ok(recorded)
    }

    fn take(&mut self, file: &str, object: &Object) {
        let id = object.id();
        let data = |key: &str| object.fields.get("data")?.get(key)?.as_str();
        if matches!(id.name.as_str(), PEERS | SHARED_MESH_CONFIG | EXPORTER) && self.namespace.is_none() {
            self.namespace = id.namespace.as_ref().and_then(|namespace| namespace.parse().ok());
        }
        match (id.kind.as_str(), id.name.as_str()) {
            ("Secret", _) => {
                let recorded = peer_of_secret_file(file).zip(object.annotation(CLUSTER_ANNOTATION));
                if let Some((peer, Ok(id))) = recorded.map(|(peer, id)| (peer, id.parse())) {
                    self.secrets.insert(peer, id);
                }
                let data = object.fields.get("data").and_then(Value::as_object);
                let data = data.and_then(|data| BASE64.decode(data.values().next()?.as_str()?).ok());
                let ca = data.and_then(|data| RemoteKubeconfig::read(&data)?.ca()).unwrap_or_default();
                self.relay_cas.extend(certificate_blocks(&ca));
            }
            ("ConfigMap", PEERS) => {
                self.has_peers = true;
                if let Some(Ok(peers)) = data(PEERS_FILE).map(|text| PeersFile::parse(text.as_bytes())) {
                    self.serial = peers.serial;
                    self.peers = peers.peers.into_iter().map(|peer| peer.name).collect();
                }
            }
            ("ConfigMap", ROUTES) => {
                let routes =
                    data(ROUTES_FILE).and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or_default();
                let routes = routes.get("routes").and_then(Value::as_array).cloned().unwrap_or_default();
                let route = |route: &Value| {
                    let text = |key: &str| route.get(key).and_then(Value::as_str);
                    Some((text("clusterID")?.parse().ok()?, text("clusterUUID")?.parse().ok()?))
                };
                self.routes = routes.iter().filter_map(route).collect();
            }
            ("ConfigMap", SHARED_MESH_CONFIG) => {
                self.config = Some(MeshConfigTarget::SharedMeshConfig);
                self.take_mesh(&yaml::value(data("mesh").unwrap_or_default(), MAX_OBJECT).unwrap_or_default());
                self.networks = parse_mesh_networks(data("meshNetworks").unwrap_or_default());
            }
            ("Deployment", EXPORTER) => self.exporter = Some(args(object)),
            ("Deployment", RELAY) => self.relay = args(object),
            ("Deployment", AGENT) => {
                self.has_agent = true;
                self.relay = args(object);
            }
            _ => {}
        }
    }

    /// What a values file says, unless our ConfigMap is there, on which links rest until it goes.
    fn take_values(&mut self, target: MeshConfigTarget, text: &str) {
        if self.config.is_some() {
            return;
        }
        self.config = Some(target);
        let values = yaml::value(text, MAX_OBJECT).unwrap_or_default();
        let spec = values.get("spec").unwrap_or(&values);
        let inner = spec.get("values").unwrap_or(spec);
        self.take_mesh(spec.get("meshConfig").or_else(|| inner.get("meshConfig")).unwrap_or(&Value::Null));
        let networks = inner.pointer("/global/meshNetworks").unwrap_or(&Value::Null);
        self.networks = parse_mesh_networks(&json!({ "networks": networks }).to_string());
    }

    fn take_mesh(&mut self, mesh: &Value) {
        (self.roots, self.aliases) = (roots_of_mesh(mesh), trust_domain_aliases(mesh));
    }

    /// The network that lists a cluster ID.
    fn network_of(&self, id: &ClusterId) -> Option<NetworkName> {
        let listing = self.networks.iter().find(|(_, (_, registries))| registries.contains(id.as_str()))?;
        listing.0.parse().ok()
    }

    /// What the specs said when the files of a cluster were written that the engine renders.
    fn spec(&self, spec: &mut JoinedSpec) {
        // while it is handed over, its objects are here until the agent has them
        let is_agents = self.has_agent && !self.has_peers;
        spec.reconciler = if is_agents { Reconciler::Agent } else { Reconciler::Rendered };
        if let Some(namespace) = &self.namespace {
            spec.istio_namespace.clone_from(namespace);
        }
        spec.istio_config = self.config.unwrap_or(spec.istio_config);
        let Some(args) = &self.exporter else { return };
        let value = |flag: &str| args.iter().find_map(|arg| arg.strip_prefix(flag)?.strip_prefix('='));
        spec.flat_network = args.iter().any(|arg| arg == "--flat-network");
        spec.require_token = self.relay.iter().any(|arg| arg == "--require-token");
        if let Some(domain) = value("--cluster-domain").and_then(|domain| domain.parse().ok()) {
            spec.cluster_domain = domain;
        }
        if let Some(mesh_id) = value("--mesh-id").and_then(|mesh_id| mesh_id.parse().ok()) {
            spec.mesh_id = mesh_id;
        }
    }

    /// Links of a reader that the lock has none of: with a remote secret they are joined, and without one they may still be read.
    fn links(&self, mesh: &Mesh, lock: &Lock) -> BTreeMap<ClusterName, LockedLink> {
        let is_itself = |peer: &ClusterName| {
            let recorded = self.secrets.get(peer).and_then(|id| self.routes.get(id));
            let known = lock.clusters.get(peer).map(|entry| &entry.public.cluster_uuid);
            recorded.zip(known).is_none_or(|(recorded, known)| recorded == known)
        };
        let names: BTreeSet<&ClusterName> = self.secrets.keys().chain(&self.peers).collect();
        let names = names.into_iter().filter(|peer| mesh.clusters.contains_key(*peer) && is_itself(peer));
        let link = |peer: &ClusterName| {
            let is_joined = self.secrets.contains_key(peer);
            let domain = KnownCluster::of(mesh, lock, peer).map(|known| known.trust_domain());
            LockedLink {
                unproven: is_joined,
                closed: (!is_joined).then_some(self.serial),
                merged: domain.map_or(!self.aliases.is_empty(), |domain| self.aliases.contains(&domain)),
                ..LockedLink::new(if is_joined { Stage::Joined } else { Stage::Leaving })
            }
        };
        names.map(|peer| (peer.clone(), link(peer))).collect()
    }
}

/// Arguments of the containers of a Deployment.
fn args(deployment: &Object) -> Vec<String> {
    let fields = Value::Object(deployment.fields.clone());
    let containers = fields.pointer("/spec/template/spec/containers").and_then(Value::as_array).cloned();
    let args = containers.unwrap_or_default();
    let args = args.iter().filter_map(|container| container.get("args")?.as_array()).flatten();
    args.filter_map(|arg| arg.as_str().map(str::to_owned)).collect()
}

/// Fills in with what the links of clusters were begun whose entries are of version 1, which lacks that. Whether any was.
pub(super) fn fill_in(mesh: &Mesh, lock: &mut Lock, tree: &dyn Tree) -> Result<bool, TreeError> {
    let linked: BTreeSet<&ClusterName> = lock.linked().collect();
    let lacks = |name: &&ClusterName| lock.clusters.get(*name).is_some_and(|entry| entry.joined_with.is_none());
    let lacking: Vec<ClusterName> =
        lock.former.iter().filter(|name| linked.contains(name)).filter(lacks).cloned().collect();
    if lacking.is_empty() {
        return Ok(false);
    }
    let recorded = RecordedByTrees::read(mesh, tree)?;
    for name in lacking {
        let anew = KnownCluster::of(mesh, lock, &name).and_then(|known| known.joins_with(mesh));
        let joined = anew.map(|anew| recorded.joined(lock, &name, anew.clone()).unwrap_or(anew));
        if let Some(entry) = lock.clusters.get_mut(&name) {
            entry.joined_with = joined;
        }
    }
    Ok(true)
}

/// Where a link was found that the lock lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestoredFrom {
    /// Its remote secret is in the tree: it is joined.
    Secret,
    /// Evidence of the reader shows that its istiod reads the peer: it is joined.
    Reads,
    /// The tree admits the peer and has no secret for it, which may be live all the same: it leaves.
    Peers,
    /// The other direction is restored, and rests on this one: it leaves.
    OtherDirection,
}

/// Links that the lock lost, and where they were found.
pub type RestoredLinks = BTreeMap<Link, RestoredFrom>;

/// Takes links from the trees of readers that the lock does not have.
pub(super) fn restore_links(mesh: &Mesh, lock: &mut Lock, tree: &dyn Tree) -> Result<RestoredLinks, TreeError> {
    let recorded = RecordedByTrees::read(mesh, tree)?;
    let mut restored = RestoredLinks::new();
    for Cluster { name: reader, .. } in mesh.clusters.values().filter(|cluster| may_be_restored(cluster)) {
        let Some(folder) = recorded.0.get(reader) else { continue };
        let locked = lock.serials.get(reader).copied().unwrap_or_default();
        let is_whole = lock.links_of(reader).next().is_none();
        for (peer, link) in folder.links(mesh, lock) {
            let from = if folder.secrets.contains_key(&peer) { RestoredFrom::Secret } else { RestoredFrom::Peers };
            // a tree that is behind its lock still admits peers whose links are gone
            let is_over = from == RestoredFrom::Peers && folder.serial < locked;
            if lock.link(reader, &peer).is_none() && !is_over {
                restored.insert(Link::new(reader, &peer), from);
                lock.links.entry(reader.clone()).or_default().insert(peer, link);
            }
        }
        if is_whole && lock.links_of(reader).next().is_some() {
            lock.serials.insert(reader.clone(), folder.serial.max(locked));
        }
    }
    Ok(restored)
}

/// Takes links from what clusters show that their istiod reads, where neither lock nor tree has them. What is read is live, so
/// it is joined, whatever the specs want; from there it leaves as any other. The other direction, by which the peer trusts and
/// admits the reader, is taken for one that may be read as well. `is_lost` names clusters of which lock or tree lost something.
pub(super) fn restore_read(
    mesh: &Mesh,
    is_lost: &dyn Fn(&ClusterName) -> bool,
    tree: &dyn Tree,
    accepted: &mut Accepted,
    restored: &mut RestoredLinks,
) -> Result<(), TreeError> {
    let recorded = RecordedByTrees::read(mesh, tree)?;
    let is_held_back =
        |name: &ClusterName| is_lost(name) || accepted.assessments.get(name).is_some_and(Assessment::is_held_back);
    let readers = mesh.clusters.values().filter(|cluster| !is_held_back(&cluster.name));
    let mut found = Vec::new();
    for reader in readers {
        let evidence = accepted.assessments.get(&reader.name).map(|assessment| &assessment.evidence);
        let Some(EvidenceState::Published(evidence)) = evidence else { continue };
        let is_to_be_taken = is_to_be_taken(reader, evidence);
        if !may_be_restored(reader) && !is_to_be_taken {
            continue;
        }
        let Some(reads) = evidence.reads.seen() else { continue };
        let reader = &reader.name;
        for read in reads {
            let Some(peer) = recorded.known_by(mesh, &accepted.lock, reader, &read.cluster_id) else { continue };
            let link = Link::new(reader, &peer);
            let lost = restored.get(&link).is_none_or(|from| *from == RestoredFrom::Peers);
            // no one takes away what leaves here while others have the cluster
            let is_known = |locked: &LockedLink| !(is_to_be_taken && locked.stage.is_leaving());
            let is_known = accepted.lock.link(reader, &peer).is_some_and(is_known);
            if lost && (restored.contains_key(&link) || !is_known) {
                found.push((link, read.cluster_id.clone(), evidence.serial.seen().copied().unwrap_or_default()));
            }
        }
    }
    for (link, id, serial) in found {
        recorded.rest_on(mesh, &mut accepted.lock, &link, &id);
        let lock = &mut accepted.lock;
        let known = KnownCluster::of(mesh, lock, &link.peer).map(|known| known.trust_domain());
        let aliases = recorded.0.get(&link.reader).map(|folder| &folder.aliases);
        let merged = known.zip(aliases).is_some_and(|(domain, aliases)| aliases.contains(&domain));
        let joined = LockedLink { unproven: true, merged, ..LockedLink::new(Stage::Joined) };
        lock.links.entry(link.reader.clone()).or_default().insert(link.peer.clone(), joined);
        // an absence is proven by a run that is not older than what is live now
        let last = recorded.0.get(&link.reader).map(|folder| folder.serial).unwrap_or_default();
        // where it is another checkout's run, this one is told from it by its serial
        let last = if last == 0 && serial > 0 { serial + 1 } else { last.max(serial) };
        let locked = lock.serials.entry(link.reader.clone()).or_default();
        *locked = last.max(*locked);
        let back = link.back();
        if lock.link(&back.reader, &back.peer).is_none() {
            let closed = lock.serials.get(&back.reader).copied().unwrap_or_default();
            let leaving = LockedLink { closed: Some(closed), merged, ..LockedLink::new(Stage::Leaving) };
            lock.links.entry(back.reader.clone()).or_default().insert(back.peer.clone(), leaving);
            restored.insert(back, RestoredFrom::OtherDirection);
        }
        restored.insert(link, RestoredFrom::Reads);
    }
    Ok(())
}

/// Whether a cluster that another checkout has is to come here, and shows that it is left: the links are those that it reads.
fn is_to_be_taken(cluster: &Cluster, evidence: &Evidence) -> bool {
    let is_offered = evidence.hand_over.as_ref().is_some_and(|state| state.stage == HandOverStage::Offered);
    cluster.comes_from_others() && cluster.state != State::Paused && is_offered
}

/// Whether links of a reader are its tree's and its evidence's to tell.
fn may_be_restored(cluster: &Cluster) -> bool {
    cluster.reconciler == Reconciler::Rendered && cluster.state != State::Paused
}
