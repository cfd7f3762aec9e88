//! Which namespaces peers come to see, and which they see no more.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::link::Link;
use crate::model::lock::Lock;
use crate::model::mesh::{Cluster, Mesh};
use crate::pipeline::agreement::peers_path;
use crate::pipeline::plan::Plan;
use crate::pipeline::plan::security::item::{SecurityChange, SecurityItem};
use crate::pipeline::plan::security::share_change::ShareChange;
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::name::ClusterName;
use crate::types::object::parse_file;
use crate::wire::peers::{PEERS_FILE, PeersFile};
use crate::wire::share::Share;

/// What becomes of a share: before, after, and whether the version before had none.
type EditedShare = (Share, Share, bool);

/// What is edited alike: in which clusters, and for which links.
#[derive(Default)]
struct ShareGroups(BTreeMap<EditedShare, (BTreeSet<ClusterName>, Vec<Link>)>);

impl ShareGroups {
    fn add(&mut self, edit: EditedShare, cluster: &ClusterName, link: Option<Link>) {
        let (clusters, links) = self.0.entry(edit).or_default();
        clusters.insert(cluster.clone());
        links.extend(link);
    }

    fn items(self) -> Vec<SecurityItem> {
        let item =
            |((before, after, by_upgrade), (clusters, links)): (EditedShare, (BTreeSet<ClusterName>, Vec<Link>))| {
                let clusters = clusters.into_iter().collect();
                SecurityItem::listed(SecurityChange::Share(ShareChange { clusters, links, before, after, by_upgrade }))
            };
        self.0.into_iter().map(item).collect()
    }
}

/// What a pull request edits.
pub(super) fn edited(before: &Mesh, after: &Mesh) -> Vec<SecurityItem> {
    // an edit without links is of what joins from now on, and told apart from one of who reads already
    let (mut of_links, mut of_others) = (ShareGroups::default(), ShareGroups::default());
    for (name, new) in &after.clusters {
        let Some(old) = before.clusters.get(name) else { continue };
        if (&old.share, &old.share_with) == (&new.share, &new.share_with) {
            continue;
        }
        let edit = |old: &Share, new: &Share| (old.clone(), new.clone(), false);
        let mut is_reported = old.share == new.share;
        for peer in after.peers_of(name) {
            let (old_of, new_of) = (old.shares_with(&peer.name), new.shares_with(&peer.name));
            if old_of != new_of {
                is_reported |= (old_of, new_of) == (&old.share, &new.share);
                of_links.add(edit(old_of, new_of), name, Some(Link::new(&peer.name, name)));
            }
        }
        // also whoever joins from now on sees it
        if !is_reported {
            of_others.add(edit(&old.share, &new.share), name, None);
        }
    }
    [of_links.items(), of_others.items()].concat()
}

/// What a run writes otherwise than it was written before.
pub(super) fn written(mesh: &Mesh, plan: &Plan, lock: &Lock, tree: &dyn Tree) -> Result<Vec<SecurityItem>, TreeError> {
    let mut groups = ShareGroups::default();
    let changes: BTreeSet<&str> =
        plan.steps.iter().flat_map(|step| &step.objects).map(|change| change.path.as_str()).collect();
    for cluster in mesh.clusters.values() {
        if !changes.contains(peers_path(&cluster.name).as_str()) {
            continue;
        }
        let Some(before) = written_peers(tree, &cluster.name)? else { continue };
        of_cluster(cluster, &before, lock, &mut groups);
    }
    Ok(groups.items())
}

fn of_cluster(cluster: &Cluster, before: &PeersFile, lock: &Lock, groups: &mut ShareGroups) {
    for entry in &before.peers {
        let is_admitted = lock.link(&cluster.name, &entry.name).is_some();
        let (old, new) = (entry.sees(), cluster.shares_with(&entry.name));
        if is_admitted && old != *new {
            let edit = (old, new.clone(), entry.share.is_none());
            groups.add(edit, &cluster.name, Some(Link::new(&entry.name, &cluster.name)));
        }
    }
}

/// The file of peers in the ConfigMap that a run wrote for a cluster.
pub(crate) fn written_peers(tree: &dyn Tree, cluster: &ClusterName) -> Result<Option<PeersFile>, TreeError> {
    let read = |bytes: Vec<u8>| {
        let object = parse_file(&bytes)?;
        let text = object.fields.get("data")?.get(PEERS_FILE)?.as_str()?;
        PeersFile::parse(text.as_bytes()).ok()
    };
    Ok(tree.file(&peers_path(cluster))?.and_then(read))
}
