//! One link as mesh and lock tell it, for tables and pictures alike.

use crate::model::link::Link;
use crate::model::lock::{Lock, LockedLink, Stage};
use crate::model::mesh::{Mesh, Reconciler};
use crate::model::read_by::ReadBy;
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;

/// What mesh, lock and tree say of a link.
#[derive(Debug, Clone, Copy)]
pub struct LinkFacts<'a> {
    /// How far it has come.
    pub locked: &'a LockedLink,
    /// The remote secret lies in the reader's folder.
    pub in_tree: bool,
    /// The engine renders the reader's objects, and so the secret.
    pub rendered: bool,
    /// When the first of the peer's root CAs ends.
    pub root_expires: Option<Timestamp>,
    /// Who read what the lock has of the peer; `None`: it has nothing.
    pub read_by: Option<&'a ReadBy>,
}

impl<'a> LinkFacts<'a> {
    /// The facts of one link.
    pub fn new(mesh: &Mesh, lock: &'a Lock, link: &Link, locked: &'a LockedLink, in_tree: bool) -> Self {
        let reader = mesh.clusters.get(&link.reader);
        Self {
            locked,
            in_tree,
            rendered: reader.is_some_and(|cluster| cluster.reconciler == Reconciler::Rendered),
            root_expires: first_root_end(lock, &link.peer),
            read_by: lock.clusters.get(&link.peer).map(|peer| &peer.read_by),
        }
    }

    /// What the link's last move rests on, in a word.
    pub fn evidence(&self) -> &'static str {
        match (self.locked.stage, self.locked.unproven) {
            (_, true) => "unproven",
            (Stage::Joined, false) if self.rendered => "proven",
            (Stage::Joined, false) => "in the cluster",
            (Stage::Joining, false) => "awaited",
            (Stage::Leaving | Stage::LeavingTrust, false) => "as it leaves",
        }
    }

    /// Where the remote secret is,.
    pub fn secret(&self) -> &'static str {
        match (self.rendered, self.locked.stage, self.in_tree) {
            (false, _, _) => "not ours",
            (true, Stage::Joined, true) => "in the tree",
            (true, Stage::Joined, false) => "missing: run engine apply",
            (true, _, true) => "still in the tree",
            (true, _, false) => "none",
        }
    }

    /// The link is joined, its secret is ours to render, and it is not there.
    pub fn lacks_secret(&self) -> bool {
        self.rendered && self.locked.stage == Stage::Joined && !self.in_tree
    }
}

/// When the first of a cluster's root CAs ends.
pub fn first_root_end(lock: &Lock, name: &ClusterName) -> Option<Timestamp> {
    lock.clusters.get(name)?.public.roots.iter().map(|root| root.not_after).min()
}
