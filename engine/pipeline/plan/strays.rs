//! Files of the checkout in places where no run writes one, and files of someone else in folders that are not compared.

use std::collections::BTreeSet;

use crate::model::layout::{LOCK, RENDERED, VALUES, VALUES_FILES, is_yaml};
use crate::model::mesh::Mesh;
use crate::pipeline::plan::{CompareRefusal, compare};
use crate::pipeline::program::Stop;
use crate::pipeline::render::RenderedCluster;
use crate::pipeline::tree::Tree;
use crate::types::name::ClusterName;

/// What lies in the folders that runs write and is not theirs, apart from what comparing a cluster's folder finds. `kept` are
/// clusters whose folder is not compared since it stays as it is. With `only`, the folders of that cluster alone.
pub(super) fn strays(
    mesh: &Mesh,
    tree: &dyn Tree,
    only: Option<&ClusterName>,
    kept: &BTreeSet<&ClusterName>,
) -> Result<Vec<CompareRefusal>, Stop> {
    let is_asked = |folder: &str| only.is_none_or(|only| only.as_str() == folder);
    let is_declared = |folder: &str| mesh.clusters.contains_key(folder);
    let mut found = Vec::new();
    let mut stray = |path: String| found.push(CompareRefusal::Stray { path });
    for path in tree.paths(RENDERED)? {
        let place = path.get(RENDERED.len() + 1..).and_then(|rest| rest.split_once('/'));
        let is_place =
            |folder: &str, name: &str| folder.parse::<ClusterName>().is_ok() && is_yaml(name) && !name.contains('/');
        match place {
            Some((folder, name)) if !is_asked(folder) || is_place(folder, name) => {}
            None if only.is_some() => {}
            Some(_) | None => stray(path),
        }
    }
    for path in tree.paths(VALUES)? {
        let place = path.get(VALUES.len() + 1..).and_then(|rest| rest.split_once('/'));
        match place {
            Some((folder, name)) if !is_asked(folder) || (is_declared(folder) && VALUES_FILES.contains(&name)) => {}
            None if only.is_some() => {}
            Some(_) | None => stray(path),
        }
    }
    if only.is_none() {
        tree.paths(LOCK)?.into_iter().filter(|path| !is_yaml(path)).for_each(stray);
    }
    for name in kept {
        let files = tree.files_to_compare(name.as_str())?;
        let compared = compare(&mesh.name, name, &RenderedCluster::default(), tree, &files)?;
        found.extend(compared.refused.into_iter().map(|(_, refusal)| refusal));
    }
    Ok(found)
}
