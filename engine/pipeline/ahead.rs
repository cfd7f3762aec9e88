//! A lock that is ahead of its tree: a run was cut short, or the lock was merged with a tree that is older.
//!
//! Only the former saw what each secret needs. So a run that asks takes a link for one that is joining where the lock has it as
//! joined, the tree lacks its secret, and its reader shows that it does not read the peer: the gate opens it anew if all that it
//! needs is live. Where the reader shows nothing, an older tree waits. A tree of the same run, or of none, lost a file: if its
//! cluster had that loss synced, with whatever else was lost, the file would open a link, and without it a secret that is still
//! live would be pruned. So the cluster is kept as it is until it shows more.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::model::known::KnownCluster;
use crate::model::link::Link;
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{EvidenceField, Mesh};
use crate::pipeline::accept::Accepted;
use crate::pipeline::agreement::{Agreement, Lost};
use crate::types::name::ClusterName;

/// Takes links that the lock is ahead with for joining. `ahead` says of each whether the tree is of an older run; `is_deleted` says that
/// secrets of which nothing is known are.
pub(super) fn unjoin(mesh: &Mesh, ahead: &BTreeMap<Link, bool>, is_deleted: bool, accepted: &mut Accepted) {
    for (link @ Link { reader, peer }, is_older) in ahead {
        let is_unread = is_read(mesh, accepted, link)
            .map_or_else(|| *is_older || (is_deleted && waits_for_reads(mesh, reader)), |is_read| !is_read);
        if is_unread && let Some(locked) = accepted.lock.links.get_mut(reader).and_then(|links| links.get_mut(peer)) {
            locked.stage = Stage::Joining;
        }
    }
}

/// Keeps readers as they are that lost the secret of a joined link and do not show whether they read its peer. `accepted` is `None`
/// where no cluster was asked, or where secrets of which nothing is known are deleted.
pub(super) fn keep_unseen(mesh: &Mesh, accepted: Option<&Accepted>, mut agreement: Agreement) -> Agreement {
    let Some(accepted) = accepted else { return agreement };
    let is_unseen = |(link, is_older): &(&Link, &bool)| {
        !**is_older && waits_for_reads(mesh, &link.reader) && is_read(mesh, accepted, link).is_none()
    };
    let unseen: Vec<Link> = agreement.ahead.iter().filter(is_unseen).map(|(link, _)| link.clone()).collect();
    for Link { reader, peer } in unseen {
        agreement.add(&reader, &Lost::Secret { reader: reader.clone(), peer });
    }
    let Agreement { lost, ahead, .. } = &mut agreement;
    ahead.retain(|link, _| !lost.contains_key(&link.reader));
    agreement
}

/// Whether the reader of a link shows that it reads the peer; `None`: it does not show what it reads.
fn is_read(mesh: &Mesh, accepted: &Accepted, Link { reader, peer }: &Link) -> Option<bool> {
    accepted.assessments.get(reader)?.reads(&KnownCluster::of(mesh, &accepted.lock, peer)?.cluster_id())
}

/// Whether a cluster will show what it reads.
fn waits_for_reads(mesh: &Mesh, reader: &ClusterName) -> bool {
    mesh.clusters.get(reader).is_some_and(|cluster| cluster.evidence.requires(EvidenceField::Reads))
}

/// The lock that a run begins with: its own, with links that it is ahead with, or that it lost and that were found again, as they
/// were accepted.
pub(super) fn before<'l, 'f>(
    lock: &'l Lock,
    found: impl Iterator<Item = &'f Link>,
    accepted: &Accepted,
) -> Cow<'l, Lock> {
    let mut before = Cow::Borrowed(lock);
    for link @ Link { reader, peer } in found {
        let Some(locked) = accepted.lock.link(reader, peer) else { continue };
        let lock = before.to_mut();
        lock.links.entry(reader.clone()).or_default().insert(peer.clone(), locked.clone());
        for end in link.ends() {
            let joined = accepted.lock.clusters.get(end).and_then(|entry| entry.joined_with.as_ref());
            if let Some(entry) = lock.clusters.get_mut(end).filter(|entry| entry.joined_with.is_none()) {
                entry.joined_with = joined.cloned();
            }
        }
    }
    before
}
