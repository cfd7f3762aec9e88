//! Remote secrets made by hand, which ours take the places of.

use std::collections::BTreeSet;

use crate::model::layout::{rendered_folder, secret_file};
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{Mesh, Reconciler};
use crate::pipeline::render::output::Given;
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::name::ClusterName;
use crate::types::object::parse;

/// Remote secrets made by hand, given to this mesh, of links whose own secret is not written yet. Only folders with
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
        let wanted: BTreeSet<String> = peers.map(secret_file).collect();
        if wanted.is_empty() {
            continue;
        }
        let mut files = Vec::new();
        for file in tree.names(reader.as_str())?.into_iter().filter(|file| wanted.contains(file)) {
            let bytes = tree.file(&format!("{}/{file}", rendered_folder(reader)))?.unwrap_or_default();
            if parse(&bytes).is_some_and(|object| object.is_given_to(&mesh.name)) {
                files.push(file);
            }
        }
        if !files.is_empty() {
            given.insert(reader.clone(), files);
        }
    }
    Ok(given)
}
