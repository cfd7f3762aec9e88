//! The layers: a folder imports only what lies below it, and of that what the table says.

use std::collections::BTreeSet;

use super::graph::FileImport;

/// A folder of the crate, its layer from the ground up, and the folders it may import.
type Layer = (&'static str, u8, &'static [&'static [&'static str]]);

const PIPELINE_AND_BELOW: &[&str] =
    &["types", "checkout", "git", "wire", "server", "model", "cluster", "spec", "istio", "pipeline"];

/// Roles and what lies beside them.
const ROLES_AND_BESIDE: &[&str] = &["roles", "onboarding", "gitops", "conformance", "report"];

pub(super) const LAYERS: &[Layer] = &[
    ("types", 1, &[]),
    ("checkout", 1, &[&["types"]]),
    ("git", 1, &[&["types"]]),
    ("wire", 2, &[&["types"]]),
    ("server", 2, &[&["types"]]),
    ("model", 3, &[&["types", "wire"]]),
    ("cluster", 3, &[&["types", "wire"]]),
    ("spec", 4, &[&["types", "model"]]),
    ("istio", 4, &[&["types", "wire", "cluster"]]),
    ("pipeline", 5, &[&["types", "checkout", "wire", "model", "cluster", "spec", "istio"]]),
    ("roles", 6, &[PIPELINE_AND_BELOW]),
    ("onboarding", 6, &[PIPELINE_AND_BELOW]),
    ("gitops", 6, &[PIPELINE_AND_BELOW]),
    ("conformance", 6, &[PIPELINE_AND_BELOW]),
    ("report", 6, &[PIPELINE_AND_BELOW]),
    ("agent", 7, &[PIPELINE_AND_BELOW, &["roles"]]),
    ("session", 7, &[PIPELINE_AND_BELOW, ROLES_AND_BESIDE]),
    ("simulation", 7, &[PIPELINE_AND_BELOW, ROLES_AND_BESIDE]),
    ("watch", 8, &[PIPELINE_AND_BELOW, ROLES_AND_BESIDE, &["session"]]),
    ("cli", 9, &[PIPELINE_AND_BELOW, ROLES_AND_BESIDE, &["agent", "session", "simulation", "watch"]]),
];

/// The roles; what they share lies beside them in `roles/` and knows none of them.
const ROLES: [&str; 3] = ["roles/exporter", "roles/proxy", "roles/relay"];

/// Files at the top, which only declare the folders and start the command line.
const TOP: [&str; 2] = ["lib.rs", "main.rs"];

/// Every import that the layers do not allow, and every file in no layer.
pub(super) fn breaches<'a>(files: impl Iterator<Item = &'a str>, imports: &[FileImport]) -> Vec<String> {
    let strangers: BTreeSet<&str> =
        files.filter(|path| !TOP.contains(path)).map(top).filter(|top| layer(top).is_none()).collect();
    let mut found: Vec<String> =
        strangers.into_iter().map(|top| format!("{top}: no layer has it; tests/tidy/layers.rs lists them")).collect();
    for import in imports {
        if let Some(why) = breach(&import.from, &import.to) {
            found.push(format!("{}:{} imports {}: {why}: {}", import.from, import.line, import.to, import.names()));
        }
    }
    found
}

/// Why one file may not import another.
fn breach(from: &str, to: &str) -> Option<String> {
    if TOP.contains(&from) {
        return None;
    }
    if TOP.contains(&to) {
        return Some("upward, to the crate's root".to_owned());
    }
    if top(from) == top(to) {
        let role = |path: &str| ROLES.into_iter().find(|role| is_in(path, role));
        return match (role(from), role(to)) {
            (Some(from), Some(to)) if from != to => Some(format!("sideways, from {from} to {to}")),
            (None, Some(to)) if from != "roles/mod.rs" => Some(format!("upward, from what roles share to {to}")),
            _ => None,
        };
    }
    // a file in no layer is told of by itself
    let ((from, below, may), (to, above, _)) = (layer(top(from))?, layer(top(to))?);
    if may.concat().contains(to) {
        None
    } else if above > below {
        Some(format!("upward, from {from} ({below}) to {to} ({above})"))
    } else if above == below {
        Some(format!("sideways, from {from} to {to} (both {below})"))
    } else {
        Some(format!("{from} may import {}, not {to}", may.concat().join(", ")))
    }
}

fn layer(folder: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|(name, ..)| *name == folder)
}

/// A path's folder at the top, or the file that lies there.
fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Whether a file lies in a folder, or is the file that a folder would be if it were one.
pub(super) fn is_in(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// The stages of the road.
const STAGES: [&str; 8] = [
    "pipeline/accept",
    "pipeline/advance",
    "pipeline/apply",
    "pipeline/compile",
    "pipeline/observe",
    "pipeline/plan",
    "pipeline/render",
    "pipeline/template",
];

/// Functions of stages' files that do none of their work: what differs between two objects, and who takes part in a mesh.
const NO_STAGE: [&str; 3] = ["everybody", "fields", "name_certificates"];

/// Calls of stages from outside of `pipeline/`: `pipeline/mod.rs` alone calls them.
pub(super) fn stage_calls(imports: &[FileImport]) -> Vec<String> {
    let from_outside = imports
        .iter()
        .filter(|import| top(&import.from) != "pipeline" && STAGES.into_iter().any(|stage| is_in(&import.to, stage)));
    let calls = from_outside.flat_map(|import| {
        let functions = import.names.iter().filter(|name| {
            let is_work = name.starts_with(char::is_lowercase) || *name == "RenderContext" || *name == "*";
            is_work && !NO_STAGE.contains(&name.as_str())
        });
        functions.map(move |name| {
            format!(
                "{}:{} calls a stage of {}, not the road in pipeline/mod.rs: {name}",
                import.from, import.line, import.to
            )
        })
    });
    calls.collect()
}
