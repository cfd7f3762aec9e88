//! Lock and tree name each other. Where one of them lost what the other names, nothing is written or deleted for that cluster.
//!
//! A file that is missing says nothing of what is wanted: a bad merge, a sparse checkout or a hand took it. So a link whose
//! cluster has no entry, and a remote secret of ours whose link is gone, stop the clusters concerned and no others.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::layout::{peer_of_secret_file, rendered_folder, secret_file};
use crate::model::lock::Lock;
use crate::model::mesh::{Mesh, Reconciler, State};
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, MeshName};
use crate::types::object::parse;

/// What lock or tree lost of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
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
        /// Of which peer.
        peer: ClusterName,
    },
}

impl Lost {
    /// The file that is missing, or misses something.
    fn file(&self) -> String {
        match self {
            Self::Entry { cluster, .. } => Lock::cluster_path(cluster),
            Self::Link { reader, .. } => Lock::links_path(reader),
        }
    }
}

impl Explain for Lost {
    /// Reads on after "refused:".
    fn explanation(&self) -> Explanation {
        let file = self.file();
        let (code, message) = match self {
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
        };
        Explanation::new(code, message).hint(format!(
            "nothing is changed for it; `git log --oneline -- {file}` shows the commit that lost it, and `git checkout COMMIT~1 -- {file}` brings it back"
        ))
    }
}

/// Clusters for which lock and tree do not agree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreement {
    /// What is lost, by the cluster whose files stay as they are.
    pub lost: BTreeMap<ClusterName, BTreeSet<Lost>>,
    /// Clusters without an entry that others name: their next contact is never the first.
    pub named: BTreeSet<ClusterName>,
}

impl Agreement {
    /// Whether a cluster's files, entry and links stay as they are.
    pub fn holds_back(&self, cluster: &ClusterName) -> bool {
        self.lost.contains_key(cluster)
    }

    fn add(&mut self, cluster: &ClusterName, lost: &Lost) {
        self.lost.entry(cluster.clone()).or_default().insert(lost.clone());
    }
}

/// Compares lock and tree, of all clusters or of one. A paused cluster keeps its files anyway.
pub(crate) fn agreement(
    mesh: &Mesh,
    lock: &Lock,
    tree: &dyn Tree,
    only: Option<&ClusterName>,
) -> Result<Agreement, TreeError> {
    let mut found = Agreement::default();
    for (reader, links) in &lock.links {
        for peer in links.keys() {
            for cluster in [reader, peer].into_iter().filter(|end| !lock.clusters.contains_key(*end)) {
                let lost = Lost::Entry { cluster: cluster.clone(), reader: reader.clone(), peer: peer.clone() };
                found.named.insert(cluster.clone());
                found.add(reader, &lost);
            }
        }
    }
    let rendered = |name: &&ClusterName| {
        let cluster = mesh.clusters.get(*name);
        cluster.is_some_and(|cluster| cluster.reconciler == Reconciler::Rendered && cluster.state != State::Paused)
    };
    for reader in mesh.clusters.keys().filter(rendered).filter(|name| only.is_none_or(|only| only == *name)) {
        for file in tree.names(reader.as_str())? {
            let Some(peer) = peer_of_secret_file(&file).filter(|peer| lock.link(reader, peer).is_none()) else {
                continue;
            };
            if is_ours(&mesh.name, tree, reader, &file)? {
                found.add(reader, &Lost::Link { reader: reader.clone(), peer: peer.clone() });
                for cluster in [reader, &peer].into_iter().filter(|name| !lock.clusters.contains_key(*name)) {
                    found.named.insert(cluster.clone());
                }
            }
        }
    }
    Ok(found)
}

fn is_ours(mesh: &MeshName, tree: &dyn Tree, reader: &ClusterName, file: &str) -> Result<bool, TreeError> {
    let bytes = tree.file(&format!("{}/{file}", rendered_folder(reader)))?.unwrap_or_default();
    Ok(parse(&bytes).is_some_and(|object| object.is_owned_by_tree_of(mesh)))
}
