//! Which namespaces peers come to see, and which they see no more.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::layout::rendered_folder;
use crate::model::link::Link;
use crate::model::lock::Lock;
use crate::model::mesh::{Cluster, Mesh};
use crate::pipeline::plan::Plan;
use crate::pipeline::plan::security::item::{SecurityChange, SecurityItem};
use crate::pipeline::plan::security::share_change::ShareChange;
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::name::ClusterName;
use crate::types::object::parse;
use crate::wire::peers::{PEERS, PEERS_FILE, PeersFile};
use crate::wire::share::Share;

/// Peers for which the same is edited alike.
type Groups = BTreeMap<(ClusterName, Share, Share), Vec<Link>>;

fn items(groups: Groups) -> Vec<SecurityItem> {
    let item = |((cluster, before, after), links)| {
        SecurityItem::listed(SecurityChange::Share(ShareChange { cluster, links, before, after }))
    };
    groups.into_iter().map(item).collect()
}

/// What a pull request edits.
pub(super) fn edited(before: &Mesh, after: &Mesh) -> Vec<SecurityItem> {
    let mut groups = Groups::new();
    for (name, new) in &after.clusters {
        let Some(old) = before.clusters.get(name) else { continue };
        if (&old.share, &old.share_with) == (&new.share, &new.share_with) {
            continue;
        }
        let key = |old: &Share, new: &Share| (name.clone(), old.clone(), new.clone());
        // also whoever joins from now on sees it
        if old.share != new.share {
            groups.entry(key(&old.share, &new.share)).or_default();
        }
        for peer in after.peers_of(name) {
            let (old, new) = (old.shares_with(&peer.name), new.shares_with(&peer.name));
            if old != new {
                groups.entry(key(old, new)).or_default().push(Link::new(&peer.name, name));
            }
        }
    }
    items(groups)
}

/// What a run writes otherwise than it was written before.
pub(super) fn written(mesh: &Mesh, plan: &Plan, lock: &Lock, tree: &dyn Tree) -> Result<Vec<SecurityItem>, TreeError> {
    let mut groups = Groups::new();
    let changes: BTreeSet<&str> =
        plan.steps.iter().flat_map(|step| &step.objects).map(|change| change.path.as_str()).collect();
    for cluster in mesh.clusters.values() {
        let path = format!("{}/configmap-{PEERS}.yaml", rendered_folder(&cluster.name));
        if !changes.contains(path.as_str()) {
            continue;
        }
        let Some(before) = tree.file(&path)?.and_then(|bytes| admitted(&bytes)) else { continue };
        of_cluster(cluster, &before, lock, &mut groups);
    }
    Ok(items(groups))
}

fn of_cluster(cluster: &Cluster, before: &PeersFile, lock: &Lock, groups: &mut Groups) {
    for entry in &before.peers {
        let is_admitted = lock.link(&cluster.name, &entry.name).is_some();
        let (old, new) = (entry.sees(), cluster.shares_with(&entry.name));
        if is_admitted && old != *new {
            let links = groups.entry((cluster.name.clone(), old, new.clone())).or_default();
            links.push(Link::new(&entry.name, &cluster.name));
        }
    }
}

/// The file of peers in a ConfigMap that a run wrote.
fn admitted(bytes: &[u8]) -> Option<PeersFile> {
    let object = parse(bytes)?;
    let text = object.fields.get("data")?.get(PEERS_FILE)?.as_str()?;
    PeersFile::parse(text.as_bytes()).ok()
}
