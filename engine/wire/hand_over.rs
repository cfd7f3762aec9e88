//! The hand-over of a cluster between a checkout that renders its objects, the agent inside it, and another checkout: what the checkout
//! tells the agent, what the agent answers, and what is free to be taken, which the exporter shows.
//!
//! The checkout's side is a key of ConfigMap `isthmus-agent`; the agent's is ConfigMap [`STATE_MAP`]. A checkout that leaves its objects to
//! another one writes that one itself, after all others: so whoever sees it knows that these are marked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::types::name::{ClusterName, ClusterUuid};
use crate::types::object::OF_TREE;
use crate::types::text::sentence_of_peer;

/// Key of the order in ConfigMap `isthmus-agent`.
pub const ORDER_FILE: &str = "hand-over.json";
/// ConfigMap in which the agent answers.
pub const STATE_MAP: &str = "isthmus-hand-over";
/// Key of the answer in it.
pub const STATE_FILE: &str = "state.json";
/// Annotation of objects that the checkout gives away, and its value: the agent may take them.
pub const TO_AGENT: (&str, &str) = ("isthmus.dev/hand-over", "agent");
/// Annotation that keeps Argo CD from deleting what leaves the checkout, or whose Application goes.
pub const ARGO_KEEPS: (&str, &str) = ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false");
/// Annotation that keeps Flux from it.
pub const FLUX_KEEPS: (&str, &str) = ("kustomize.toolkit.fluxcd.io/prune", "disabled");
/// The version of both documents.
const VERSION: u32 = 1;

/// Who writes the objects of a cluster's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectWriter {
    /// The checkout.
    Tree,
    Agent,
}

/// What the checkout tells the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandOverOrder {
    version: u32,
    /// Who is to write from now on.
    pub to: ObjectWriter,
    /// The serial of the cluster's links when it was written: the answer repeats it.
    pub serial: u64,
    /// Who acted before writes the objects no more: the agent takes those of the checkout, or the checkout writes them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given: bool,
    /// The lock's files as far as they concern the cluster, by their paths in a checkout; none: the agent has its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lock: BTreeMap<String, String>,
}

/// How far the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandOverStage {
    /// It cannot take the objects, or give them away, yet.
    Preparing,
    /// A run on what it was given would change no link: it can take the objects.
    Ready,
    /// It writes them.
    Taken,
    /// It writes them no more.
    Released,
    /// The checkout that had the cluster leaves it, as it is, to the one that takes it first.
    Offered,
}

/// What the agent answers, or a checkout offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandOverState {
    pub version: u32,
    pub to: ObjectWriter,
    /// That of the order.
    pub serial: u64,
    pub stage: HandOverStage,
    /// The serial of the links that it wrote last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<u64>,
    /// Peers whose remote secrets it leaves behind.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub joined: BTreeSet<ClusterUuid>,
    /// IstioMulticluster objects of peers that it has not joined, which go with its CRD; `None`: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<BTreeSet<ClusterName>>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl HandOverOrder {
    /// An order that gives nothing yet.
    pub fn new(to: ObjectWriter, serial: u64) -> Self {
        Self { version: VERSION, to, serial, given: false, lock: BTreeMap::new() }
    }

    /// Reads an order; `None`: it is of a newer checkout, or none.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|order: &Self| order.version == VERSION)
    }
}

impl HandOverState {
    /// The answer to an order.
    pub fn to(order: &HandOverOrder, stage: HandOverStage) -> Self {
        let HandOverOrder { to, serial, .. } = *order;
        Self { version: VERSION, to, serial, stage, links: None, joined: BTreeSet::new(), others: None, reason: None }
    }

    /// Reads an answer; `None`: it is of a newer agent, or none.
    pub fn parse(text: &str) -> Option<Self> {
        let state = serde_json::from_str(text).ok().filter(|state: &Self| state.version == VERSION)?;
        Some(Self { reason: state.reason.as_deref().map(sentence_of_peer), ..state })
    }

    /// Whether it answers the order of this serial, and says this.
    pub fn is(&self, to: ObjectWriter, serial: u64, stage: HandOverStage) -> bool {
        (self.to, self.serial, self.stage) == (to, serial, stage)
    }
}

/// Whether the labels and annotations of an object say that the checkout gives it to the agent.
pub fn is_given_away(owner: Option<&str>, mark: Option<&str>) -> bool {
    owner == Some(OF_TREE) && mark == Some(TO_AGENT.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_another_version_is_not_understood() {
        let order = HandOverOrder::new(ObjectWriter::Agent, 7);
        let state = HandOverState::to(&order, HandOverStage::Ready);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(HandOverState::parse(&text), Some(state.clone()));
        assert!(state.is(ObjectWriter::Agent, 7, HandOverStage::Ready));
        assert!(!state.is(ObjectWriter::Agent, 8, HandOverStage::Ready));
        assert_eq!(HandOverState::parse(&text.replace("\"version\":1", "\"version\":2")), None);
        assert_eq!(HandOverOrder::parse("{}"), None);
    }

    #[test]
    fn an_object_is_given_away_by_the_tree_alone() {
        assert!(is_given_away(Some("tree"), Some("agent")));
        assert!(!is_given_away(Some("tree"), None));
        assert!(!is_given_away(Some("cluster"), Some("agent")));
        assert!(!is_given_away(None, Some("agent")));
    }
}
