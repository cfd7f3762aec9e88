//! The law of safety, stated anew and judged after everything else: no run opens a link before what it needs is live, and none
//! takes away what a live link needs.
//!
//! It shares no code and no table with the stages that decide: it reads files as their consumers do, and the lock before and
//! after. [`state`] judges the files of one cluster, [`step`](fn@step) what a run that asks makes of the lock. What breaks the
//! law is withheld whole, files and stages alike.
//!
//! What a link from `c` to `p` needs, by how far it has come:
//!
//! | | in the files of `c` | in the lock |
//! |---|---|---|
//! | any stage | entry of `p`, right to act as `p`, each trusted root of `p` for its trust domain | |
//! | joined, leaving | and `p`'s network with its gateways, the route to `p`, relay and api-proxy | |
//! | its secret | the recorded cluster ID, relay and relay CA | stage joined, and the link from `p` to `c` |

mod breach;
mod folder;
mod step;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde_json::Value;

pub use self::breach::{Breach, BreachKind, LiveNeed, LockRecord, Unseen, Used};
pub(crate) use self::folder::listed;
use self::folder::{ClusterFolder, Secret, live, text};
pub use self::step::{SeenInRun, ShownByCluster, ShownEvidence, step};
pub(crate) use self::step::{seen, withhold};
use crate::model::layout::{
    HELM_FILE, ISTIO_OPERATOR_FILE, KUSTOMIZATION, SAIL_FILE, peer_of_secret, peer_of_secret_file, secret_file,
    values_file,
};
use crate::model::link::Link;
use crate::model::lock::{Lock, LockedCluster, LockedLink, Stage};
use crate::model::mesh::{Cluster, Mesh, MeshConfigTarget, Reconciler};
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::name::ClusterName;
use crate::wire::peers::user_of;

/// The files of a cluster, by name below `rendered/<cluster>/`, and its values file.
#[derive(Debug, Clone, Default)]
pub struct ClusterFiles<'f> {
    pub rendered: BTreeMap<Cow<'f, str>, Cow<'f, [u8]>>,
    /// The file at [`values_path`].
    pub values: Option<Cow<'f, [u8]>>,
}

/// Whether the lock has the links of a cluster.
pub(crate) type IsKnown<'a> = &'a (dyn Fn(&ClusterName) -> bool + Sync);

/// Where the roots and networks are that a cluster's links rest on: as recorded, and as stated where nothing is.
fn config_in_use(lock: &Lock, cluster: &Cluster) -> MeshConfigTarget {
    let joined = lock.clusters.get(&cluster.name).and_then(|entry| entry.joined_with.as_ref());
    joined.map_or(cluster.istio.config, |joined| joined.spec.istio_config)
}

/// Where the mesh configuration of a cluster goes, when it goes into a values file.
pub fn values_path(lock: &Lock, cluster: &Cluster) -> Option<String> {
    let file = match config_in_use(lock, cluster) {
        MeshConfigTarget::HelmValues => HELM_FILE,
        MeshConfigTarget::IstioOperator => ISTIO_OPERATOR_FILE,
        MeshConfigTarget::Sail => SAIL_FILE,
        MeshConfigTarget::SharedMeshConfig | MeshConfigTarget::None => return None,
    };
    Some(values_file(&cluster.name, file))
}

/// What the files of a reader lack for its links. `before` is what was there: a component or a secret that no one rendered is
/// no loss, and one that was there and goes is. `is_known` says of which clusters the lock has the links: not of others in a run of
/// one cluster, nor of one whose links are lost and whose files therefore stay.
pub fn state(
    mesh: &Mesh,
    (lock, is_known): (&Lock, IsKnown<'_>),
    reader: &ClusterName,
    before: &ClusterFiles<'_>,
    after: &ClusterFiles<'_>,
) -> Vec<Breach> {
    let Some(cluster) = mesh.clusters.get(reader) else { return Vec::new() };
    if cluster.reconciler != Reconciler::Rendered {
        return dropped(lock, cluster, before, after);
    }
    let config = config_in_use(lock, cluster);
    let folder =
        ClusterFolder::read(&mesh.name, &after.rendered, (config, after.values.as_deref().unwrap_or_default()));
    let mut gone = live(&before.rendered);
    gone.retain(|file| !folder.files.contains(file));
    let writes_config = config != MeshConfigTarget::None;
    let judge = FolderState { mesh, lock, is_known, cluster, writes_config, gone, after: folder };
    let mut breaches = judge.secrets();
    for (peer, link) in lock.links_of(reader) {
        let lacks = judge.link(peer, link);
        breaches.extend(lacks.into_iter().map(|need| judge.breach(peer, need)));
    }
    breaches
}

/// What leaves the files of a cluster in which someone else acts, while links rest on it, and is not marked to stay there. The values of its
/// Istio have no marks.
fn dropped(lock: &Lock, cluster: &Cluster, before: &ClusterFiles<'_>, after: &ClusterFiles<'_>) -> Vec<Breach> {
    let name = &cluster.name;
    let is_live = |link: &LockedLink| matches!(link.stage, Stage::Joined | Stage::Leaving);
    let reads = lock.links_of(name).filter(|(_, link)| is_live(link)).map(|(peer, _)| peer);
    let is_read = lock.links.iter().filter(|(_, links)| links.get(name).is_some_and(is_live)).map(|(peer, _)| peer);
    let Some(peer) = reads.chain(is_read).next() else { return Vec::new() };
    // an agent has what runs beside it from the checkout, and the objects of links are its own
    let is_needed = |file: &str| match cluster.reconciler {
        Reconciler::External => file != KUSTOMIZATION,
        Reconciler::Agent => is_of_links(file),
        Reconciler::Rendered | Reconciler::Deckhouse => false,
    };
    let gone = before.rendered.iter().filter(|(file, _)| !after.rendered.contains_key(*file));
    let mut unmarked = gone.filter(|(file, bytes)| is_needed(file) && !stays_in_cluster(bytes));
    let loses_values = before.values.is_some() && after.values.is_none();
    let breach = || Breach { link: Link::new(name, peer), kind: BreachKind::Lacks(LiveNeed::Marks) };
    (loses_values || unmarked.next().is_some()).then(breach).into_iter().collect()
}

/// What the files of a checkout lack as they are, cluster by cluster. A checkout without any folder does not keep them, and one of
/// another tool has none.
pub(crate) fn verify(
    mesh: &Mesh,
    lock: &Lock,
    tree: &dyn Tree,
    only: Option<&ClusterName>,
    is_known: IsKnown<'_>,
) -> Result<Vec<Breach>, TreeError> {
    let clusters: Vec<_> = mesh.clusters.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    let keeps_folders = !tree.clusters()?.is_empty();
    let one = |(name, cluster): &(&ClusterName, &Cluster)| {
        let files = tree.cluster_files(name.as_str())?;
        let values = values_path(lock, cluster).map(|path| tree.file(&path)).transpose()?.flatten();
        if files.is_empty() && !(keeps_folders && cluster.reconciler == Reconciler::Rendered) {
            return Ok(Vec::new());
        }
        let rendered = files.into_iter().map(|(file, bytes)| (file.into(), bytes.into())).collect();
        let files = ClusterFiles { rendered, values: values.map(Cow::Owned) };
        let mut breaches = state(mesh, (lock, is_known), name, &files, &files);
        if cluster.reconciler == Reconciler::Rendered {
            let is_there = live(&files.rendered);
            let joined = lock.links_of(name).filter(|(_, link)| link.stage == Stage::Joined).map(|(peer, _)| peer);
            let lost = joined.filter(|peer| !is_there.contains(&secret_file(peer)));
            breaches.extend(
                lost.map(|peer| Breach { link: Link::new(name, peer), kind: BreachKind::Lacks(LiveNeed::Secret) }),
            );
        }
        Ok(breaches)
    };
    let judged: Result<Vec<Vec<Breach>>, TreeError> = clusters.par_iter().map(one).collect();
    Ok(judged?.into_iter().flatten().collect())
}

struct FolderState<'a> {
    mesh: &'a Mesh,
    lock: &'a Lock,
    is_known: IsKnown<'a>,
    cluster: &'a Cluster,
    /// Roots and networks are written here.
    writes_config: bool,
    /// Files that were there and go.
    gone: BTreeSet<String>,
    after: ClusterFolder,
}

impl FolderState<'_> {
    fn breach(&self, peer: &ClusterName, need: LiveNeed) -> Breach {
        Breach { link: Link::new(&self.cluster.name, peer), kind: BreachKind::Lacks(need) }
    }

    /// Every secret has its link, both directions of it, and the values that are recorded.
    fn secrets(&self) -> Vec<Breach> {
        let mut breaches = Vec::new();
        for (name, secret) in &self.after.secrets {
            let Some(peer) = peer_of_secret(name) else {
                breaches.push(self.breach(&self.cluster.name, LiveNeed::Link));
                continue;
            };
            let reader = &self.cluster.name;
            if self.lock.link(reader, &peer).map(|link| link.stage) != Some(Stage::Joined) {
                breaches.push(self.breach(&peer, LiveNeed::Link));
            }
            if (self.is_known)(&peer) && self.lock.link(&peer, reader).is_none() {
                breaches.push(self.breach(&peer, LiveNeed::OtherDirection));
            }
            if !self.has_values(&peer, secret) {
                breaches.push(self.breach(&peer, LiveNeed::Values));
            }
        }
        breaches
    }

    fn has_values(&self, peer: &ClusterName, secret: &Secret) -> bool {
        let [id] = secret.ids.as_slice() else { return false };
        let recorded = self.lock.clusters.get(peer).and_then(|peer| peer.joined_with.as_ref());
        let own = self.lock.clusters.get(&self.cluster.name);
        let retiring = own.into_iter().flat_map(|own| own.retiring_relay_cas.iter().map(|retiring| &retiring.pem));
        let relay_ca = own.and_then(|own| own.public.relay_ca.as_ref());
        let relay_cas: BTreeSet<String> = relay_ca.into_iter().chain(retiring).flat_map(|pem| blocks(pem)).collect();
        recorded.is_none_or(|recorded| recorded.cluster_id.as_str() == id)
            && secret.server.ends_with(&format!("/to/{id}"))
            && (relay_ca.is_none() || relay_cas == blocks(&secret.ca).collect())
    }

    fn link(&self, peer: &ClusterName, link: &LockedLink) -> Vec<LiveNeed> {
        let stage = link.stage;
        let Some(locked) = self.lock.clusters.get(peer) else { return vec![LiveNeed::Entry] };
        let (mut lacks, uuid) = (Vec::new(), locked.public.cluster_uuid.as_str());
        let entry = self.after.entries.get(uuid);
        let key = locked.public.authn_key.to_pem();
        let has_key = |entry: &Value| {
            let keys = entry.get("keys").and_then(Value::as_array).into_iter().flatten();
            keys.into_iter().any(|of| text(of, "/pem").trim() == key.trim())
        };
        if !entry.is_some_and(has_key) {
            lacks.push(LiveNeed::Entry);
        }
        // those that an agent admits have rights that were rendered with it
        if !self.mesh.inside && !self.after.users.contains(&user_of(&locked.public.cluster_uuid)) {
            lacks.push(LiveNeed::Rights);
        }
        if self.writes_config {
            lacks.extend(self.roots(peer, locked));
            lacks.extend((link.merged && !self.has_alias(locked)).then_some(LiveNeed::Alias));
        }
        let is_live = matches!(stage, Stage::Joined | Stage::Leaving);
        // a link that leaves and never had a secret may have waited for its reader's standard networks
        if is_live && !link.unopened && self.writes_config && !self.has_network(peer, locked) {
            lacks.push(LiveNeed::Network);
        }
        if is_live && !self.has_route(locked) {
            lacks.push(LiveNeed::Route);
        }
        if is_live && self.gone.iter().any(|file| is_component(file) && !self.has_instead(file)) {
            lacks.push(LiveNeed::Components);
        }
        if stage == Stage::Joined && self.gone.contains(&secret_file(peer)) {
            lacks.push(LiveNeed::Secret);
        }
        lacks
    }

    /// Whether the relay runs where the agent was: the cluster was handed over.
    fn has_instead(&self, gone: &str) -> bool {
        let relay =
            ["deployment.apps-isthmus-relay.yaml", "service-isthmus-relay.yaml", "serviceaccount-isthmus-relay.yaml"];
        gone.contains("-isthmus-agent") && relay.iter().all(|file| self.after.files.contains(*file))
    }

    /// Roots of the peer that are not trusted. One that is the reader's own needs no entry.
    fn roots(&self, peer: &ClusterName, locked: &LockedCluster) -> Vec<LiveNeed> {
        let own = self.lock.clusters.get(&self.cluster.name);
        let own: BTreeSet<_> = own.into_iter().flat_map(|own| &own.public.roots).map(|root| root.digest).collect();
        let distrust = self.mesh.clusters.get(peer).map(|peer| &peer.distrust);
        let roots = locked.public.roots.iter().chain(locked.retiring.iter().map(|retiring| &retiring.root));
        let needed = roots.map(|root| root.digest).filter(|root| !own.contains(root));
        let needed = needed.filter(|root| distrust.is_none_or(|distrust| !distrust.contains(root)));
        let domain = locked.joined_with.as_ref().map(|joined| joined.trust_domain.as_str());
        let is_trusted = |domains: &BTreeSet<String>| domain.is_none_or(|domain| domains.contains(domain));
        needed.filter(|root| !self.after.roots.get(root).is_some_and(is_trusted)).map(LiveNeed::Root).collect()
    }

    fn has_alias(&self, locked: &LockedCluster) -> bool {
        let own = self.lock.clusters.get(&self.cluster.name).and_then(|own| own.joined_with.as_ref());
        let Some((own, other)) = own.zip(locked.joined_with.as_ref()) else { return true };
        own.trust_domain == other.trust_domain || self.after.aliases.contains(other.trust_domain.as_str())
    }

    /// One network lists the peer's cluster ID, the recorded one; it has gateways, or needs none.
    fn has_network(&self, peer: &ClusterName, locked: &LockedCluster) -> bool {
        let Some(joined) = &locked.joined_with else { return true };
        let listing = self.after.registries.get(joined.cluster_id.as_str()).map(Vec::as_slice);
        let Some([name]) = listing else { return false };
        let Some(network) = self.after.networks.get(name) else { return false };
        let own = self.lock.clusters.get(&self.cluster.name).and_then(|own| own.joined_with.as_ref());
        let is_flat = joined.spec.flat_network || own.is_some_and(|own| own.network == joined.network);
        let stated = self.mesh.clusters.get(peer).and_then(|peer| peer.gateways.as_ref()).filter(|all| !all.is_empty());
        let published = locked.private.as_ref().map(|private| &private.gateways).filter(|all| !all.is_empty());
        let gateways = stated.or(published).unwrap_or(&joined.reach.gateways);
        let has = |address: &str, port: u16| {
            let gateways = network.get("gateways").and_then(Value::as_array).into_iter().flatten();
            gateways.into_iter().any(|gateway| {
                text(gateway, "/address") == address && gateway.get("port").and_then(Value::as_u64) == Some(port.into())
            })
        };
        let has_gateways = !gateways.is_empty() && gateways.iter().all(|one| has(&one.address.to_string(), one.port));
        name.as_str() == joined.network.as_str() && (is_flat || has_gateways)
    }

    fn has_route(&self, locked: &LockedCluster) -> bool {
        let Some(joined) = &locked.joined_with else { return true };
        let route = self.after.routes.get(joined.cluster_id.as_str());
        route.is_some_and(|route| {
            text(route, "/clusterUUID") == locked.public.cluster_uuid.as_str() && !text(route, "/apiHost").is_empty()
        })
    }
}

/// Files of what runs in a cluster and of what it runs with.
fn is_component(file: &str) -> bool {
    ["deployment.apps-isthmus-", "service-isthmus-", "serviceaccount-isthmus-"]
        .iter()
        .any(|kind| file.starts_with(kind))
}

/// Files of what the links of a cluster are made of.
fn is_of_links(file: &str) -> bool {
    let maps = ["configmap-isthmus-mesh.yaml", "configmap-isthmus-peers.yaml", "configmap-isthmus-routes.yaml"];
    maps.contains(&file) || peer_of_secret_file(file).is_some() || file.starts_with("gateway.networking.istio.io-")
}

/// Whether neither Argo CD nor Flux deletes an object that is no longer in the checkout.
fn stays_in_cluster(bytes: &[u8]) -> bool {
    let object = folder::yaml(bytes);
    let value = |key: &str| object.pointer("/metadata/annotations").and_then(|all| all.get(key)?.as_str());
    let options = value("argocd.argoproj.io/sync-options").unwrap_or_default();
    options.split(',').any(|option| option.trim() == "Prune=false")
        && value("kustomize.toolkit.fluxcd.io/prune") == Some("disabled")
}

/// The certificates of a PEM file, without white space.
fn blocks(pem: &str) -> impl Iterator<Item = String> {
    let blocks = pem.split_inclusive("-----END CERTIFICATE-----").map(|block| block.split_whitespace().collect());
    blocks.filter(|block: &String| !block.is_empty())
}
