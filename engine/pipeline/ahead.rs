//! A lock that is ahead of its tree: a run was cut short, or the lock was merged with a tree that is older.
//!
//! Only the former saw what each secret needs. So a run that asks takes a link for one that is joining where the lock has it as
//! joined, the tree lacks its secret, and its reader shows that it does not read the peer: the gate opens it anew if all that it
//! needs is live. Where the reader shows nothing, a tree of the same run lost a file, which is restored; an older tree waits.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::model::known::KnownCluster;
use crate::model::link::Link;
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::Mesh;
use crate::pipeline::accept::Accepted;

/// Takes links that the lock is ahead with for joining. `ahead` says of each whether the tree is of an older run.
pub(super) fn unjoin(mesh: &Mesh, ahead: &BTreeMap<Link, bool>, accepted: &mut Accepted) {
    for (Link { reader, peer }, is_older) in ahead {
        let is_read =
            || accepted.assessments.get(reader)?.reads(&KnownCluster::of(mesh, &accepted.lock, peer)?.cluster_id());
        let is_unread = is_read().map_or(*is_older, |is_read| !is_read);
        if is_unread && let Some(locked) = accepted.lock.links.get_mut(reader).and_then(|links| links.get_mut(peer)) {
            locked.stage = Stage::Joining;
        }
    }
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
