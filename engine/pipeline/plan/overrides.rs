//! Overrides of templates that are in force, field by field.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::pipeline::render::RenderedCluster;
use crate::pipeline::template::Overridden;
use crate::types::name::ClusterName;

/// An override of a template, with one of the fields that it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideInForce {
    /// Path below the checkout.
    pub path: Arc<str>,
    /// What it changes; `None` for an override that renders what the built-in template renders.
    pub overridden: Option<Overridden>,
    pub clusters: Vec<ClusterName>,
}

/// The overrides that are gathered, cluster by cluster.
#[derive(Debug, Default)]
pub(crate) struct Overrides(BTreeMap<(Arc<str>, Option<Overridden>), Vec<ClusterName>>);

impl Overrides {
    /// Those of what is rendered for these clusters.
    pub(crate) fn of(rendered: &BTreeMap<ClusterName, RenderedCluster>) -> Vec<OverrideInForce> {
        let mut all = Self::default();
        for (name, cluster) in rendered {
            for (path, fields) in &cluster.overrides {
                all.add(name, path, fields.clone());
            }
        }
        all.in_force()
    }

    /// Adds an override that is in force in a cluster, with the fields that it changes there.
    pub(crate) fn add(&mut self, cluster: &ClusterName, path: &Arc<str>, fields: Vec<Overridden>) {
        let nothing = fields.is_empty().then_some(None);
        for overridden in fields.into_iter().map(Some).chain(nothing) {
            self.0.entry((path.clone(), overridden)).or_default().push(cluster.clone());
        }
    }

    /// All of them, by path and field.
    pub(crate) fn in_force(self) -> Vec<OverrideInForce> {
        let one = |((path, overridden), clusters)| OverrideInForce { path, overridden, clusters };
        self.0.into_iter().map(one).collect()
    }
}
