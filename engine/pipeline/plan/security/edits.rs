//! Edits of files by a pull request: of the lock, of overrides, and of what runs write.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::link::Link;
use crate::model::lock::{Lock, Stage};
use crate::pipeline::plan::action::Action;
use crate::pipeline::plan::diff::diff_files;
use crate::pipeline::plan::overrides::OverrideInForce;
use crate::pipeline::plan::security::item::{SecurityChange, SecurityItem};
use crate::pipeline::template::Overridden;
use crate::types::name::ClusterName;

/// Files of the lock that a pull request changes, each with the links that it has joined by hand.
pub(super) fn lock_edits(
    (before, before_files): (&Lock, &BTreeMap<String, Vec<u8>>),
    (after, after_files): (&Lock, &BTreeMap<String, Vec<u8>>),
) -> Vec<SecurityItem> {
    let paths: BTreeSet<&String> = before_files.keys().chain(after_files.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        let bytes = |files: &BTreeMap<String, Vec<u8>>| files.get(path).cloned();
        let (old, new) = (bytes(before_files), bytes(after_files));
        let Some(action) = Action::between(old.as_deref(), new.as_deref()) else { continue };
        let reader = after.links.keys().find(|reader| Lock::links_path(reader) == *path);
        let is_joined = |lock: &Lock, reader: &ClusterName, peer: &ClusterName| {
            lock.link(reader, peer).is_some_and(|link| link.stage == Stage::Joined)
        };
        let opened = reader.into_iter().flat_map(|reader| {
            let joined = after.links_of(reader).map(|(peer, _)| peer).filter(|peer| is_joined(after, reader, peer));
            joined
                .filter(|peer| !is_joined(before, reader, peer))
                .map(|peer| Link::new(reader, peer))
                .collect::<Vec<_>>()
        });
        let opened = opened.collect();
        let fields = diff_files(old.as_deref(), new.as_deref());
        found.push(SecurityItem::refused(SecurityChange::LockEdit { path: path.clone(), action, fields, opened }));
    }
    found
}

/// Overrides that a pull request changes in the clusters that are compared, field by field. An override that changes no field of
/// the built-in template is none.
pub(super) fn override_edits(
    before: &[OverrideInForce],
    after: &[OverrideInForce],
    compared: &BTreeSet<&ClusterName>,
) -> Vec<SecurityItem> {
    type ByField<'a> = BTreeMap<(&'a Arc<str>, &'a str, &'a str), Vec<(&'a Overridden, Vec<&'a ClusterName>)>>;
    fn by_field<'a>(all: &'a [OverrideInForce], compared: &BTreeSet<&ClusterName>) -> ByField<'a> {
        let mut fields = ByField::new();
        for OverrideInForce { path, overridden, clusters } in all {
            let clusters: Vec<&ClusterName> = clusters.iter().filter(|cluster| compared.contains(cluster)).collect();
            if let Some(one) = overridden.as_ref().filter(|_| !clusters.is_empty()) {
                fields.entry((path, &one.object, &one.field)).or_default().push((one, clusters));
            }
        }
        fields
    }
    let (before, after) = (by_field(before, compared), by_field(after, compared));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut found = Vec::new();
    for key in keys {
        let (old, new) = (before.get(key), after.get(key));
        let values = |all: Option<&Vec<(&Overridden, Vec<&ClusterName>)>>| -> BTreeSet<Option<String>> {
            all.into_iter().flatten().map(|(one, _)| one.after.clone()).collect()
        };
        let (old_values, new_values) = (values(old), values(new));
        let Some((shown, _)) = new.or(old).and_then(|all| all.first()) else { continue };
        if old_values == new_values {
            continue;
        }
        let text = |values: BTreeSet<Option<String>>| {
            let texts: Vec<String> = values.into_iter().flatten().collect();
            (!texts.is_empty()).then(|| texts.join(" or "))
        };
        // where there is no override, the built-in template's value is what is in force
        let builtin = || shown.before.clone();
        let before = if old.is_some() { text(old_values) } else { builtin() };
        let after = if new.is_some() { text(new_values) } else { builtin() };
        let clusters = new
            .or(old)
            .into_iter()
            .flatten()
            .flat_map(|(_, clusters)| clusters.iter().map(|cluster| (*cluster).clone()));
        let clusters: BTreeSet<ClusterName> = clusters.collect();
        found.push(SecurityItem::listed(SecurityChange::Override {
            path: key.0.to_string(),
            overridden: (*shown).clone(),
            before,
            after,
            clusters: clusters.into_iter().collect(),
        }));
    }
    found
}
