//! Warnings of root CAs in the lock: that they end soon, or cannot be told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::lock::Lock;
use crate::model::mesh::Mesh;
use crate::types::diagnostic::Diagnostic;
use crate::types::name::{ClusterName, Digest};
use crate::types::time::Timestamp;

/// How long before its end a root CA is warned of.
pub const ROOT_WARNING: Duration = Duration::from_hours(30 * 24);

/// Warnings of roots that end within [`ROOT_WARNING`], or have ended.
pub(super) fn ending_roots(mesh: &Mesh, lock: &Lock, now: Timestamp) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (name, known) in &lock.clusters {
        let at = mesh.clusters.get(name).map(|cluster| cluster.at.clone());
        for root in known.public.roots.iter().filter(|root| root.not_after < now + ROOT_WARNING) {
            let when = match root.days_left(now) {
                days if days < 0 => "has expired".to_owned(),
                1 => "ends in 1 day".to_owned(),
                days => format!("ends in {days} days"),
            };
            let message = format!("root CA {} of `{name}` ({}) {when}", root.digest, root.subject);
            warnings.push(Diagnostic::warning(at.clone(), message).hint(
                "give the cluster a new root beside the old one; the new one is a trust change, to be accepted while both are valid",
            ));
        }
    }
    warnings
}

/// Warnings of different roots of one subject: without a `SubjectKeyIdentifier` issuers are told apart by trial alone.
pub fn equal_subjects(lock: &Lock) -> Vec<Diagnostic> {
    let mut by_subject: BTreeMap<&str, BTreeMap<Digest, (&ClusterName, bool)>> = BTreeMap::new();
    for (name, cluster) in &lock.clusters {
        for root in &cluster.public.roots {
            let same = by_subject.entry(root.subject.as_str()).or_default();
            same.entry(root.digest).or_insert((name, root.has_subject_key_id));
        }
    }
    let doubtful = by_subject.into_iter().filter(|(_, roots)| roots.len() > 1 && roots.values().any(|(_, id)| !id));
    doubtful
        .map(|(subject, roots)| {
            let names: BTreeSet<&ClusterName> = roots.values().map(|(name, _)| *name).collect();
            let names = names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let message = format!("different root CAs of {names} have one subject, `{subject}`, and not all have a SubjectKeyIdentifier");
            Diagnostic::warning(None, message).hint(
                "a verifier that finds issuers by name may try the wrong root first; give each new root a subject of its own",
            )
        })
        .collect()
}
