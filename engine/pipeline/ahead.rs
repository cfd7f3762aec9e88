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

/// The lock that a run begins with: its own, with the links that it is ahead with as they were accepted.
pub(super) fn before<'l>(lock: &'l Lock, ahead: &BTreeMap<Link, bool>, accepted: &Accepted) -> Cow<'l, Lock> {
    let mut before = Cow::Borrowed(lock);
    for Link { reader, peer } in ahead.keys() {
        if let Some(locked) = accepted.lock.link(reader, peer)
            && let Some(links) = before.to_mut().links.get_mut(reader)
        {
            links.insert(peer.clone(), locked.clone());
        }
    }
    before
}
