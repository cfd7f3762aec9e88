//! Lock and tree name each other. Where one of them lost what the other names, nothing is written or deleted for that cluster.
//!
//! A file that is missing says nothing of what is wanted: a bad merge, a sparse checkout or a hand took it. So a link whose
//! cluster has no entry, and a remote secret of ours whose link is gone, stop the clusters concerned and no others. An older
//! file says what is no longer so: each run that moves a link of a reader raises its serial, in the lock and in the tree. The
//! lock is written first, so a tree that is behind it is that of a run that was cut short, and continues from there; a lock that
//! is behind its tree was taken back.

use std::collections::{BTreeMap, BTreeSet};

use crate::istio::mesh_config::SHARED_MESH_CONFIG;
use crate::model::known::KnownCluster;
use crate::model::layout::{
    VALUES_FILES, declared_by_file, peer_of_secret_file, rendered_folder, secret_file, values_file,
};
use crate::model::link::Link;
use crate::model::lock::{JoinedWith, Kept, Lock, RetiringRelayCa, RetiringRoot, Stage, Unreadable};
use crate::model::mesh::{Cluster, Mesh, Reconciler, State};
use crate::pipeline::recorded::{RecordedByTrees, relay_cas};
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::certificate::{RootCertificate, certificate_blocks, parse_roots_any_time};
use crate::types::diagnostic::Diagnostic;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, MeshName};
use crate::types::object::parse_file;
use crate::types::time::Timestamp;
use crate::wire::peers::{JOINED_LINKS, JOINED_WITH, PEERS};

/// What lock or tree lost of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// A file of the lock cannot be read.
    Unreadable {
        file: String,
        /// The line that is wrong.
        line: usize,
        /// What is wrong with it.
        why: Explanation,
    },
    /// A link names a cluster of which the lock holds nothing.
    Entry {
        /// The cluster whose entry is missing.
        cluster: ClusterName,
        /// Who reads in the link.
        reader: ClusterName,
        /// Who is read in it.
        peer: ClusterName,
    },
    /// A remote secret of ours lies in the tree, and the lock knows no such link.
    Link {
        /// In whose folder.
        reader: ClusterName,
        peer: ClusterName,
    },
    /// The links of a reader are those of an older run than its tree.
    Run {
        reader: ClusterName,
        /// The serial of the lock; 0: it has none.
        locked: u64,
        /// The serial of the tree.
        tree: u64,
    },
    /// The entry of a cluster is that of an older run than its tree.
    Older {
        cluster: ClusterName,
        /// The serial of its entry in the lock; 0: it has none.
        locked: u64,
        /// The serial of its entry in its tree.
        tree: u64,
    },
    /// An IstioMulticluster of ours lies in the tree, and the lock has no such link.
    Declared {
        /// In whose folder.
        reader: ClusterName,
        peer: ClusterName,
    },
    /// A remote secret of ours lies in the tree, and no run that left its link at this stage would have left it there.
    Stage {
        /// In whose folder.
        reader: ClusterName,
        peer: ClusterName,
        /// The stage in the lock.
        stage: Stage,
    },
    /// The tree lacks the remote secret of a joined link, and its reader does not show whether it reads the peer.
    Secret {
        /// In whose folder.
        reader: ClusterName,
        peer: ClusterName,
    },
}

impl Lost {
    /// The file that is missing, or misses something.
    fn file(&self) -> String {
        match self {
            Self::Unreadable { file, .. } => file.clone(),
            Self::Entry { cluster, .. } | Self::Older { cluster, .. } => Lock::cluster_path(cluster),
            Self::Link { reader, .. }
            | Self::Declared { reader, .. }
            | Self::Run { reader, .. }
            | Self::Stage { reader, .. } => Lock::links_path(reader),
            Self::Secret { reader, peer } => format!("{}/{}", rendered_folder(reader), secret_file(peer)),
        }
    }
}

impl Lost {
    /// Whether it is a secret in the tree at one of whose ends the cluster is.
    fn is_of_secret(&self, cluster: &ClusterName) -> bool {
        match self {
            Self::Link { reader, peer } | Self::Stage { reader, peer, .. } => reader == cluster || peer == cluster,
            Self::Unreadable { .. }
            | Self::Entry { .. }
            | Self::Declared { .. }
            | Self::Run { .. }
            | Self::Older { .. }
            | Self::Secret { .. } => false,
        }
    }
}

impl Explain for Lost {
    /// Reads on after "refused:".
    fn explanation(&self) -> Explanation {
        let file = self.file();
        let (code, message) = match self {
            Self::Unreadable { line, why, .. } => (why.code, format!("{file}:{line}: {}", why.message)),
            Self::Entry { cluster, reader, peer } => (
                Code::LockEntryMissing,
                format!(
                    "the lock has a link from `{reader}` to `{peer}` and no entry of `{cluster}`: {file} is missing"
                ),
            ),
            Self::Link { reader, peer } => (
                Code::LockLinkMissing,
                format!(
                    "{}/{} is live, and {file} has no link to `{peer}`",
                    rendered_folder(reader),
                    secret_file(peer)
                ),
            ),
            Self::Declared { reader, peer } => (
                Code::LockLinkMissing,
                format!("{} declares `{peer}`, and {file} has no link to it", rendered_folder(reader)),
            ),
            Self::Run { reader, locked, tree } => (
                Code::LockOlderThanTree,
                format!("{} is of run {tree}, and {file} of run {locked}", peers_path(reader)),
            ),
            Self::Older { cluster, locked, tree } => (
                Code::LockOlderThanTree,
                format!("{} carries serial {tree} of `{cluster}`, and {file} serial {locked}", peers_path(cluster)),
            ),
            Self::Stage { reader, peer, stage } => (
                Code::LockOlderThanTree,
                format!(
                    "{}/{} is live, and {file} has the link to `{peer}` as `{}`",
                    rendered_folder(reader),
                    secret_file(peer),
                    stage.as_str()
                ),
            ),
            Self::Secret { reader, peer } => (
                Code::TreeSecretMissing,
                format!(
                    "{} has the link to `{peer}` as `joined`, {file} is missing, and `{reader}` does not show whether its istiod reads `{peer}`",
                    Lock::links_path(reader)
                ),
            ),
        };
        let verb = match self {
            Self::Unreadable { .. } => "broke it",
            Self::Entry { .. } | Self::Link { .. } | Self::Declared { .. } | Self::Secret { .. } => "lost it",
            Self::Run { .. } | Self::Older { .. } | Self::Stage { .. } => "took it back",
        };
        let otherwise = match self {
            Self::Link { .. } => "; only where git has no copy, `engine apply --restore-links` takes it from the tree",
            Self::Secret { .. } => {
                "; as soon as the cluster answers, the engine restores it by itself, and where its objects were deleted, `engine apply --allow-delete` renders them without this secret, which follows by evidence"
            }
            _ => "",
        };
        Explanation::new(code, message).hint(format!(
            "nothing is changed for it; `git log --oneline -- {file}` shows the commit that {verb}, and `git checkout COMMIT~1 -- {file}` brings it back{otherwise}"
        ))
    }
}

/// Clusters for which lock and tree do not agree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreement {
    /// What is lost, by the cluster whose files stay as they are.
    pub lost: BTreeMap<ClusterName, BTreeSet<Lost>>,
    /// Clusters without an entry that lock or tree name: their next contact is never the first.
    pub named: BTreeSet<ClusterName>,
    /// Serials that trees carry of their own cluster's entry.
    entries: BTreeMap<ClusterName, u64>,
    /// Clusters whose entry is older than that.
    older: BTreeSet<ClusterName>,
    /// Links that the lock has as joined, and whose secret is not in their reader's tree; and whether the tree is of an older run.
    pub(crate) ahead: BTreeMap<Link, bool>,
}

impl Agreement {
    /// Whether a cluster's files, entry and links stay as they are.
    pub fn holds_back(&self, cluster: &ClusterName) -> bool {
        self.lost.contains_key(cluster)
    }

    /// What is accepted anew of a cluster whose entry was lost. It is taken only where its links keep resting on what they were
    /// begun with, and it takes no root back: those that readers trust and no one has any more keep being trusted, as roots do
    /// that were published until now.
    pub(crate) fn accept_anew(
        &self,
        mesh: &Mesh,
        tree: &dyn Tree,
        lock: &mut Lock,
        now: Timestamp,
    ) -> Result<(), TreeError> {
        let linked: BTreeSet<ClusterName> = lock.linked().cloned().collect();
        let is_live = |name: &ClusterName| self.lost.values().flatten().any(|lost| lost.is_of_secret(name));
        for name in &self.named {
            let kept = kept(tree, name)?;
            if kept.is_none() && !linked.contains(name) && !is_live(name) {
                continue;
            }
            let Some(mut entry) = lock.clusters.get(name).cloned() else { continue };
            let joined = match (entry.joined_with.take(), kept) {
                (Some(anew), Some(kept)) => Some(anew.resting_on(kept)),
                (Some(anew), None) => RecordedByTrees::read(mesh, tree)?.joined(lock, name, anew),
                // its links are lost, too, or no one knows how to reach it
                (None, _) => None,
            };
            // ours would take the places of networks that are not known yet, and links lose the gateways that they rest on
            let is_whole = |(joined, cluster): &(JoinedWith, &Cluster)| {
                let mut cluster = (*cluster).clone();
                cluster.istio.config = joined.spec.istio_config;
                let is_reached = joined.spec.flat_network || !joined.reach.gateways.is_empty();
                is_reached && !KnownCluster { cluster: &cluster, locked: &entry }.awaits_standard_networks()
            };
            if let Some((joined, _)) = joined.zip(mesh.clusters.get(name)).filter(is_whole) {
                entry.joined_with = Some(joined);
                lock.clusters.insert(name.clone(), entry);
            } else {
                lock.clusters.remove(name);
            }
        }
        let found: Vec<ClusterName> =
            self.named.iter().filter(|name| lock.clusters.contains_key(*name)).cloned().collect();
        if found.is_empty() {
            return Ok(());
        }
        let mut roots = BTreeMap::new();
        for reader in mesh.clusters.keys() {
            let values = VALUES_FILES.map(|file| values_file(reader, file));
            let objects = format!("{}/configmap-{SHARED_MESH_CONFIG}.yaml", rendered_folder(reader));
            for path in values.into_iter().chain([objects]) {
                let text = tree.file(&path)?.unwrap_or_default();
                roots.extend(certificates(&text).map(|root| (root.digest, root)));
            }
        }
        for entry in lock.clusters.values() {
            let retiring = entry.retiring.iter().map(|retiring| &retiring.root);
            for root in entry.public.roots.iter().chain(retiring) {
                roots.remove(&root.digest);
            }
        }
        for name in found {
            let relay_cas = relay_cas(mesh, tree, &name)?;
            let Some(entry) = lock.clusters.get_mut(&name) else { continue };
            let published: BTreeSet<String> = certificate_blocks(&entry.relay_cas().unwrap_or_default()).collect();
            let gone = relay_cas.difference(&published);
            entry.retiring_relay_cas.extend(gone.map(|pem| RetiringRelayCa { since: now, pem: pem.clone() }));
            let distrust = mesh.clusters.get(&name).map(|cluster| &cluster.distrust);
            let kept = roots.values().filter(|root| distrust.is_none_or(|distrust| !distrust.contains(&root.digest)));
            entry.retiring.extend(kept.map(|root| RetiringRoot { root: root.clone(), since: now }));
            entry.retiring.sort_by_key(|retiring| retiring.root.digest);
        }
        Ok(())
    }

    /// While links may be lost, no cluster forgets what its links were begun with: none in the lock names it, and it may have some.
    pub(crate) fn keep_records(&self, before: &Lock, after: &mut Lock) {
        if self.lost.is_empty() {
            return;
        }
        for (name, old) in &before.clusters {
            let Some(entry) = after.clusters.get_mut(name) else { continue };
            if entry.joined_with.is_none() && entry.public.cluster_uuid == old.public.cluster_uuid {
                entry.joined_with.clone_from(&old.joined_with);
                entry.lost |= old.lost;
            }
        }
    }

    /// Puts back the links of these readers, and what they rest on.
    pub(crate) fn keep_links(&self, before: &Lock, after: &mut Lock, readers: &BTreeSet<&ClusterName>) {
        after.keep_links(before, readers.iter().copied());
        self.keep_records(before, after);
    }

    /// Raises the serial of each entry of which others use something else than before. An entry that is older than its tree
    /// stays as it is.
    pub(crate) fn number_entries(&self, before: &Lock, after: &mut Lock) {
        for (name, entry) in &mut after.clusters {
            let old = before.clusters.get(name);
            if let Some(old) = old.filter(|_| self.older.contains(name)) {
                entry.clone_from(old);
            } else if old.is_none_or(|old| !old.serves_like(entry))
                || (before.former.contains(name) && entry.joined_with.is_some())
            {
                let last = old.map(|old| old.serial).max(self.entries.get(name).copied());
                entry.serial = last.unwrap_or_default() + 1;
            }
        }
    }

    pub(crate) fn add(&mut self, cluster: &ClusterName, lost: &Lost) {
        self.lost.entry(cluster.clone()).or_default().insert(lost.clone());
    }
}

/// Compares lock and tree, of all clusters or of one. A paused cluster keeps its files anyway.
pub(crate) fn agreement(
    mesh: &Mesh,
    (lock, unreadable): (&Lock, &Unreadable),
    tree: &dyn Tree,
    only: Option<&ClusterName>,
) -> Result<Agreement, TreeError> {
    let mut found = Agreement::default();
    let broken = |file: String, finding: &Diagnostic| {
        let line = finding.at.as_ref().map_or(1, |at| at.line);
        Lost::Unreadable { file, line, why: finding.explanation.clone() }
    };
    for (name, finding) in &unreadable.entries {
        found.named.insert(name.clone());
        found.add(name, &broken(Lock::cluster_path(name), finding));
    }
    for (reader, finding) in &unreadable.links {
        found.add(reader, &broken(Lock::links_path(reader), finding));
    }
    for (reader, links) in &lock.links {
        for peer in links.keys() {
            for cluster in [reader, peer].into_iter().filter(|end| !lock.clusters.contains_key(*end)) {
                let lost = Lost::Entry { cluster: cluster.clone(), reader: reader.clone(), peer: peer.clone() };
                let unread = unreadable.entries.get(cluster);
                let lost = unread.map_or(lost, |finding| broken(Lock::cluster_path(cluster), finding));
                found.named.insert(cluster.clone());
                found.add(reader, &lost);
                // its own links are lost with it, and without them its files would admit no one
                if mesh.clusters.contains_key(cluster) && lock.links_of(cluster).next().is_none() {
                    found.add(cluster, &lost);
                }
            }
        }
    }
    let is_asked = |name: &ClusterName| only.is_none_or(|only| only == name || lock.link(only, name).is_some());
    let mut serials = BTreeMap::new();
    for name in mesh.clusters.keys().filter(|name| is_asked(name)) {
        let Some(carried) = Serials::of(tree, name)? else { continue };
        found.entries.insert(name.clone(), carried.entry);
        let of_tree = carried.entry;
        serials.insert(name, carried);
        if of_tree > 0 && !lock.clusters.contains_key(name) {
            // its own tree is of a run that knew it
            found.named.insert(name.clone());
        }
        let Some(locked) = lock.clusters.get(name).map(|entry| entry.serial).filter(|locked| *locked < of_tree) else {
            continue;
        };
        found.older.insert(name.clone());
        let readers = lock.links.iter().filter(|(_, links)| links.contains_key(name)).map(|(reader, _)| reader);
        for cluster in readers.chain([name]) {
            found.add(cluster, &Lost::Older { cluster: name.clone(), locked, tree: of_tree });
        }
    }
    let is_paused = |name: &ClusterName| mesh.clusters.get(name).is_some_and(|cluster| cluster.state == State::Paused);
    for reader in mesh.clusters.keys().filter(|name| !is_paused(name)) {
        if only.is_none_or(|only| only == reader) && !unreadable.links.contains_key(reader) {
            judge(mesh, lock, tree, (reader, serials.get(reader).cloned()), &mut found)?;
        }
    }
    // the folders of others, and of who is paused, are not compared; what they read shows in the links of those that are
    for (reader, links) in lock.links.iter().filter(|(reader, _)| only.is_none_or(|only| only == *reader)) {
        let joined = links.iter().filter(|(_, link)| link.stage == Stage::Joined).map(|(peer, _)| peer);
        for peer in joined.filter(|peer| lock.link(peer, reader).is_none()) {
            if !found.holds_back(peer) && is_ours(&mesh.name, tree, peer, &secret_file(reader))? {
                found.add(peer, &Lost::Link { reader: peer.clone(), peer: reader.clone() });
            }
        }
    }
    name_forgotten(mesh, lock, tree, &mut found.named)?;
    // their files stay, and the lock as it is, so that the commit before the last one stays the one that brings it back
    let Agreement { lost, ahead, .. } = &mut found;
    ahead.retain(|link, _| !lost.contains_key(&link.reader));
    Ok(found)
}

/// Names the clusters without an entry that any folder tells were accepted before: by a secret of a link, or as a peer that is admitted.
/// Also the folders of clusters that are paused, undeclared or not asked for tell it.
fn name_forgotten(
    mesh: &Mesh,
    lock: &Lock,
    tree: &dyn Tree,
    named: &mut BTreeSet<ClusterName>,
) -> Result<(), TreeError> {
    let is_forgotten = |name: &&ClusterName| !lock.clusters.contains_key(*name) && !named.contains(*name);
    let forgotten: BTreeSet<&ClusterName> = mesh.clusters.keys().filter(is_forgotten).collect();
    if forgotten.is_empty() {
        return Ok(());
    }
    let folders = tree.clusters()?;
    for reader in folders.iter().filter_map(|folder| folder.parse::<ClusterName>().ok()) {
        for file in tree.names(reader.as_str())? {
            let Some(peer) = peer_of_secret_file(&file) else { continue };
            let ends: Vec<&ClusterName> = [&reader, &peer].into_iter().filter(|end| forgotten.contains(end)).collect();
            if !ends.is_empty() && is_ours(&mesh.name, tree, &reader, &file)? {
                named.extend(ends.into_iter().cloned());
            }
        }
        let peers = tree.file(&peers_path(&reader))?.unwrap_or_default();
        let admitted = peers.split(|byte| *byte == b'\n').filter_map(|line| {
            let name = line.trim_ascii().strip_prefix(b"{\"name\":\"")?.split(|byte| *byte == b'"').next()?;
            std::str::from_utf8(name).ok()?.parse::<ClusterName>().ok()
        });
        named.extend(admitted.filter(|name| forgotten.contains(name)));
    }
    Ok(())
}

/// Compares the links of a reader with its folder: the names of its secrets, and the run that it is of. A secret is opened only
/// where the two differ.
fn judge(
    mesh: &Mesh,
    lock: &Lock,
    tree: &dyn Tree,
    (reader, carried): (&ClusterName, Option<Serials>),
    found: &mut Agreement,
) -> Result<(), TreeError> {
    let names = tree.names(reader.as_str())?;
    let locked = lock.serials.get(reader).copied().unwrap_or_default();
    let tree_is_of = carried.as_ref().map(|carried| carried.links);
    // a checkout without any folder does not keep them; what is left of one that others write has none of its secrets
    let keeps_folders = !mesh.inside && (!names.is_empty() || !tree.clusters()?.is_empty());
    if is_written_here(mesh, lock, reader) && (tree_is_of.is_some() || keeps_folders) {
        let joined = lock.links_of(reader).filter(|(_, link)| link.stage == Stage::Joined).map(|(peer, _)| peer);
        let in_tree: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let ahead = joined.filter(|peer| !in_tree.contains(secret_file(peer).as_str()));
        // a run of another branch can have the same serial
        let joined = carried.and_then(|carried| carried.joined);
        let is_older = tree_is_of.is_some_and(|tree| tree < locked)
            || joined.is_some_and(|joined| joined != lock.joined_links(reader));
        found.ahead.extend(ahead.map(|peer| (Link::new(reader, peer), is_older)));
    }
    for file in names {
        // an agent takes its link away when the object goes that declares the peer
        let declared = declared_by_file(&file).filter(|peer| lock.link(reader, peer).is_none());
        if let Some(peer) = declared.filter(|_| !mesh.inside)
            && is_ours(&mesh.name, tree, reader, &file)?
        {
            found.add(reader, &Lost::Declared { reader: reader.clone(), peer });
        }
        let Some(peer) = peer_of_secret_file(&file) else { continue };
        let stage = lock.link(reader, &peer).map(|link| link.stage);
        // what the lock no longer has joined goes once the tree is where the lock is; of a folder without a run no one knows
        let is_behind = |stage: Stage| match tree_is_of {
            Some(tree) => tree < locked || (tree == locked && stage.is_leaving()),
            None => false,
        };
        let lost = match stage {
            Some(Stage::Joined) => continue,
            None => Lost::Link { reader: reader.clone(), peer: peer.clone() },
            Some(stage) if is_behind(stage) => continue,
            Some(stage) => Lost::Stage { reader: reader.clone(), peer: peer.clone(), stage },
        };
        if is_ours(&mesh.name, tree, reader, &file)? {
            found.add(reader, &lost);
        }
    }
    if let Some(tree) = tree_is_of.filter(|tree| *tree > locked && !found.holds_back(reader)) {
        found.add(reader, &Lost::Run { reader: reader.clone(), locked, tree });
    }
    Ok(())
}

/// What a cluster's folder says that its links rest on; `None`: it does not state it, or cannot be read.
fn kept(tree: &dyn Tree, cluster: &ClusterName) -> Result<Option<Kept>, TreeError> {
    let Some(bytes) = tree.file(&peers_path(cluster))? else { return Ok(None) };
    let field = format!("\"{JOINED_WITH}\":");
    let kept = head_of_peers(&bytes).find_map(|line| line.strip_prefix(field.as_bytes())?.strip_suffix(b","));
    Ok(kept.and_then(|kept| serde_json::from_slice(kept).ok()))
}

/// The lines of a ConfigMap of peers before those that grow with the mesh.
fn head_of_peers(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.take_while(|line| !line.starts_with(b"\"self\""))
}

/// The certificates in a file of ours, however far they are indented.
fn certificates(text: &[u8]) -> impl Iterator<Item = RootCertificate> {
    let text = String::from_utf8_lossy(text);
    let lines: String = text.lines().flat_map(|line| [line.trim(), "\n"]).collect();
    let blocks: Vec<String> = lines.split("-----BEGIN ").skip(1).map(|block| format!("-----BEGIN {block}")).collect();
    let whole = |block: String| {
        Some(block.split_once("-----END CERTIFICATE-----")?.0.to_owned() + "-----END CERTIFICATE-----\n")
    };
    blocks.into_iter().filter_map(whole).flat_map(|block| parse_roots_any_time(&block).unwrap_or_default())
}

/// Path of the ConfigMap that carries a reader's serial.
pub(crate) fn peers_path(reader: &ClusterName) -> String {
    format!("{}/configmap-{PEERS}.yaml", rendered_folder(reader))
}

/// What a cluster's folder says of the run that it is of; 0: from before there were serials.
#[derive(Debug, Clone, Default)]
struct Serials {
    /// The serial of its links.
    links: u64,
    /// The name of those that were joined; `None`: from before it was written.
    joined: Option<String>,
    /// The serial of its own entry.
    entry: u64,
}

impl Serials {
    /// Those of a cluster's folder; `None`: the file that carries them is not there.
    fn of(tree: &dyn Tree, cluster: &ClusterName) -> Result<Option<Self>, TreeError> {
        let Some(bytes) = tree.file(&peers_path(cluster))? else { return Ok(None) };
        let number = |line: &[u8]| std::str::from_utf8(line).ok()?.trim_end_matches(',').parse().ok();
        let text = |value: &[u8]| serde_json::from_slice(value.strip_suffix(b",")?).ok();
        let joined_links = format!("\"{JOINED_LINKS}\":");
        let mut serials = Self::default();
        for line in head_of_peers(&bytes) {
            if let Some(serial) = line.strip_prefix(b"\"serial\":").and_then(number) {
                serials.links = serial;
            } else if let Some(joined) = line.strip_prefix(joined_links.as_bytes()) {
                serials.joined = text(joined);
            } else if let Some(entry) = line.strip_prefix(b"\"entry\":").and_then(number) {
                serials.entry = entry;
            }
        }
        Ok(Some(serials))
    }
}

/// Whether the objects of a cluster's links are written by who takes the run, as the links rest on it.
fn is_written_here(mesh: &Mesh, lock: &Lock, cluster: &ClusterName) -> bool {
    let acts = lock.acts_in(cluster).or_else(|| mesh.clusters.get(cluster).map(|cluster| cluster.reconciler));
    mesh.inside || acts == Some(Reconciler::Rendered)
}

fn is_ours(mesh: &MeshName, tree: &dyn Tree, reader: &ClusterName, file: &str) -> Result<bool, TreeError> {
    let bytes = tree.file(&format!("{}/{file}", rendered_folder(reader)))?.unwrap_or_default();
    Ok(parse_file(&bytes).is_some_and(|object| object.is_owned_by_tree_of(mesh)))
}
