//! All that a reviewer has to see of a run.

use std::collections::BTreeSet;

use crate::model::layout::{peer_of_secret_file, rendered_folder};
use crate::model::lock::{Lock, Stage};
use crate::pipeline::plan::Plan;
use crate::pipeline::plan::security::item::{SecurityChange, SecurityItem};
use crate::pipeline::plan::security::{discovery, edits, links, policy, shares, specs};
use crate::pipeline::program::Program;
use crate::pipeline::render::Given;
use crate::pipeline::request::Base;
use crate::pipeline::run::Decided;
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::name::ClusterName;

/// What has to be seen of a run, beside files that are not ours and trust changes.
pub(crate) fn of_run(
    program: &Program,
    decided: &Decided,
    plan: &Plan,
    (given, only, compared): (&Given, Option<&ClusterName>, &BTreeSet<&ClusterName>),
    (tree, base): (&dyn Tree, Option<&Base<'_>>),
) -> Result<Vec<SecurityItem>, TreeError> {
    let (mesh, lock) = (&program.mesh, &decided.advanced.lock);
    let is_rebuilt = |name: &ClusterName| {
        let assessment = decided.accepted.as_ref().and_then(|accepted| accepted.assessments.get(name));
        assessment.is_some_and(|assessment| assessment.rebuilt)
    };
    let mut found = links::moved(mesh, &plan.moves, &decided.advanced.renamed, &is_rebuilt);
    found.extend(links::restored(mesh, &decided.restored));
    found.extend(links::reopening(mesh, &program.lock, &decided.advanced.renamed));
    found.extend(links::cuts(mesh, &program.lock, lock));
    found.extend(links::handed_over(&program.lock, lock));
    found.extend(links::contested(&decided.advanced));
    let Some(base) = base else {
        let is_asked = |name: &ClusterName| only.is_none_or(|only| only == name);
        let is_new = |name: &ClusterName| {
            is_asked(name) && lock.clusters.contains_key(name) && !program.lock.clusters.contains_key(name)
        };
        found.extend(specs::new_clusters(mesh, &is_new, lock));
        found.extend(shares::written(mesh, plan, lock, tree)?);
        found.extend(discovery::written(mesh, plan, lock, tree)?);
        return Ok(found);
    };
    found.extend(edits::lock_edits((base.lock, base.lock_files), (&program.lock, &program.lock_files)));
    let by_hand = given.iter().flat_map(|(reader, files)| files.iter().map(move |file| (reader, file)));
    let is_new = |(reader, file): &(&ClusterName, &String)| {
        !base.given.get(*reader).is_some_and(|files| files.contains(file)) && !is_of_joined_link(lock, reader, file)
    };
    found.extend(by_hand.filter(is_new).map(|(reader, file)| {
        let path = format!("{}/{file}", rendered_folder(reader));
        SecurityItem::listed(SecurityChange::SecretByHand { reader: reader.clone(), path })
    }));
    if base.has_findings {
        let revision = base.revision.to_owned();
        found.push(SecurityItem::listed(SecurityChange::BaseNotCompared { revision }));
        return Ok(found);
    }
    let before = base.program.map(|program| &program.mesh);
    let is_new = |name: &ClusterName| {
        !base.lock.clusters.contains_key(name) && before.is_none_or(|before| !before.clusters.contains_key(name))
    };
    found.extend(specs::new_clusters(mesh, &is_new, lock));
    if let Some(before) = before {
        found.extend(links::intended(before, mesh, base.lock));
        found.extend(shares::edited(before, mesh));
        found.extend(specs::spec_edits(before, mesh, base.lock));
    }
    found.extend(edits::override_edits(base.overrides, &plan.overrides, compared));
    found.extend(policy::policy_edits(base.policy, program.policy.as_ref()));
    Ok(found)
}

/// Whether a file of a folder is our own secret of a joined link, which stays while it cannot be made anew.
fn is_of_joined_link(lock: &Lock, reader: &ClusterName, file: &str) -> bool {
    let peer = peer_of_secret_file(file);
    peer.and_then(|peer| lock.link(reader, &peer)).is_some_and(|link| link.stage == Stage::Joined)
}
