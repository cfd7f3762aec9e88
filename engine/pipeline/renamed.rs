//! A checkout keeps the name of its mesh: the objects in its tree carry it, and under another name none of them is ours.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::layout::rendered_folder;
use crate::pipeline::program::Stop;
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::diagnostic::{Diagnostic, Diagnostics};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, MeshName};
use crate::types::object::{Object, parse_file};
use crate::wire::names::EXPORTER;

/// The tree is that of another mesh than the specs declare.
struct Renamed<'a> {
    mesh: &'a MeshName,
    /// Folders by the name that their objects carry.
    found: BTreeMap<MeshName, BTreeSet<ClusterName>>,
}

impl Explain for Renamed<'_> {
    fn explanation(&self) -> Explanation {
        let of = |(mesh, clusters): (&MeshName, &BTreeSet<ClusterName>)| {
            let folders: Vec<String> = clusters.iter().map(rendered_folder).collect();
            format!("{} of mesh `{mesh}`", folders.join(", "))
        };
        let found: Vec<String> = self.found.iter().map(of).collect();
        let message = format!("expected a tree of mesh `{}`, found {}", self.mesh, found.join(" and "));
        let old = self.found.keys().find(|name| *name != self.mesh).unwrap_or(self.mesh);
        Explanation::new(Code::MeshRenamed, message).hint(format!(
            "name the Mesh `{old}` again; a mesh gets another name by taking all of its clusters out and joining them anew"
        ))
    }
}

/// Refuses a run whose mesh has another name than the tree: its own objects would count as someone else's, and half of the
/// clusters would be rendered under the new name.
///
/// # Errors
///
/// The finding, or a folder that cannot be read.
pub(super) fn refuse_renamed(mesh: &MeshName, tree: &dyn Tree) -> Result<(), Stop> {
    let mut found: BTreeMap<MeshName, BTreeSet<ClusterName>> = BTreeMap::new();
    for folder in tree.clusters()? {
        let Ok(cluster) = folder.parse::<ClusterName>() else { continue };
        if let Some(name) = mesh_of(tree, &cluster)? {
            found.entry(name).or_default().insert(cluster);
        }
    }
    if found.keys().all(|name| name == mesh) {
        return Ok(());
    }
    let mut findings = Diagnostics::new();
    findings.push(Diagnostic::refusal(None, Renamed { mesh, found }));
    Err(Stop::Findings(findings))
}

/// The mesh that a cluster's folder was rendered for, by a small object that most clusters have, or else by any of ours.
fn mesh_of(tree: &dyn Tree, cluster: &ClusterName) -> Result<Option<MeshName>, TreeError> {
    let folder = rendered_folder(cluster);
    let of_file = |bytes: Vec<u8>| head(&bytes).and_then(|object| object.mesh_of_tree()?.parse().ok());
    if let Some(name) = tree.file(&format!("{folder}/serviceaccount-{EXPORTER}.yaml"))?.and_then(of_file) {
        return Ok(Some(name));
    }
    for file in tree.names(cluster.as_str())? {
        if let Some(name) = tree.file(&format!("{folder}/{file}"))?.and_then(of_file) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// An object as far as its metadata goes, which comes first in our files; the rest grows with the mesh.
fn head(bytes: &[u8]) -> Option<Object> {
    let data = memchr::memmem::find(bytes, b"\ndata:").unwrap_or(bytes.len());
    parse_file(bytes.get(..data)?)
}
