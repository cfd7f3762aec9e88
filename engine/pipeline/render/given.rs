//! Remote secrets in the tree that are not rendered now and stay: those made by hand, which ours take the places of, and ours
//! of joined links that cannot be made anew. What is not listed in the kustomization would be pruned.

use std::collections::BTreeSet;

use crate::model::known::KnownCluster;
use crate::model::layout::{rendered_folder, secret_file};
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{Mesh, Reconciler};
use crate::pipeline::render::output::Given;
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::name::ClusterName;
use crate::types::object::{Object, parse_file};

/// Remote secrets made by hand, given to this mesh, of links whose own secret is not written yet, and our own that wait to be
/// rendered again. Only folders with
/// such links are looked into, and there only files of those names.
pub(crate) fn given(mesh: &Mesh, lock: &Lock, tree: &dyn Tree, only: Option<&ClusterName>) -> Result<Given, TreeError> {
    let mut given = Given::new();
    let readers = mesh.clusters.values().filter(|cluster| cluster.reconciler == Reconciler::Rendered);
    let readers = readers.map(|cluster| &cluster.name);
    for reader in readers.filter(|reader| only.is_none_or(|only| only == *reader)) {
        let links = lock.links.get(reader);
        let joined = |peer: &ClusterName| {
            links.and_then(|links| links.get(peer)).is_some_and(|link| link.stage == Stage::Joined)
        };
        let peers = mesh.clusters.keys().filter(|peer| mesh.links(reader, peer) && !joined(peer));
        let by_hand: BTreeSet<String> = peers.map(secret_file).collect();
        let has_relay_ca = lock.clusters.get(reader).is_some_and(|locked| locked.public.relay_ca.is_some());
        let is_known =
            |peer: &ClusterName| KnownCluster::of(mesh, lock, peer).is_some_and(|known| known.endpoint().is_some());
        let stays = |peer: &&ClusterName| joined(peer) && !(has_relay_ca && is_known(peer));
        let ours: BTreeSet<String> =
            lock.links_of(reader).map(|(peer, _)| peer).filter(stays).map(secret_file).collect();
        if by_hand.is_empty() && ours.is_empty() {
            continue;
        }
        let mut files = Vec::new();
        for file in tree.names(reader.as_str())? {
            if !by_hand.contains(&file) && !ours.contains(&file) {
                continue;
            }
            let bytes = tree.file(&format!("{}/{file}", rendered_folder(reader)))?.unwrap_or_default();
            let is_kept = |object: &Object| {
                let is_ours = ours.contains(&file) && object.is_owned_by_tree_of(&mesh.name);
                is_ours || (by_hand.contains(&file) && object.is_given_to(&mesh.name))
            };
            if parse_file(&bytes).as_ref().is_some_and(is_kept) {
                files.push(file);
            }
        }
        if !files.is_empty() {
            given.insert(reader.clone(), files);
        }
    }
    Ok(given)
}
