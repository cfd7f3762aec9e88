//! What a run learned of each cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::reasons::{FailReason, Refusals, UnseenReason, WaitReason};
use crate::model::lock::Lock;
use crate::model::mesh::{Cluster, MeshConfigTarget};
use crate::model::read_by::ReadBy;
use crate::model::trust::TrustChange;
use crate::types::diagnostic::Diagnostic;
use crate::types::explanation::{Code, Explanation};
use crate::types::name::{ClusterId, ClusterName, ClusterUuid};
use crate::wire::metadata::Evidence;

/// What a run learned of each cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted {
    /// The lock with all that was accepted; links are as they were.
    pub lock: Lock,
    /// The state of each cluster that was judged.
    pub assessments: BTreeMap<ClusterName, Assessment>,
    /// Trust changes, approved or not, by cluster; at most one a document.
    pub trust_changes: Vec<TrustChange>,
    /// Roots that end soon, which only a run with a clock can know.
    pub warnings: Vec<Diagnostic>,
}

/// What a run learned of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    pub public: DocumentState,
    pub private: DocumentState,
    /// What it shows to be live.
    pub evidence: EvidenceState,
    /// An approved new identity: its links leave before the new one joins.
    pub rebuilt: bool,
    /// Who read its documents.
    pub read_by: ReadBy,
    /// Clusters whose links with it leave, as it states to them.
    pub leaving: BTreeSet<ClusterUuid>,
}

/// How a document fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentState {
    Current,
    /// Not there yet, and never was: one waits for this.
    Waiting(WaitReason),
    /// It was there before and is not now, or it breaks the format.
    Failed(FailReason),
    /// Its trust change is not approved.
    HeldBack,
    /// It contradicts a pin, or claims what is another's.
    Refused(Refusals),
    /// No one asked: the cluster is paused, or the run is locked.
    NotAsked,
}

/// Evidence as far as it was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceState {
    Published(Box<Evidence>),
    /// The document was read and shows nothing, as the spec says: moves continue, unproven.
    NotPublished,
    /// No document was read this run, for this reason: moves wait.
    Unseen(UnseenReason),
}

impl Accepted {
    /// Clusters whose private document may be asked for.
    pub(crate) fn admitted(&self) -> BTreeSet<ClusterName> {
        let admitted = self.assessments.iter().filter(|(_, assessment)| assessment.may_be_asked());
        admitted.map(|(name, _)| name.clone()).collect()
    }
}

impl DocumentState {
    /// Why the document is not accepted, for people and machines alike; nothing, where it is or no one asked.
    pub fn explanations(&self) -> Vec<Explanation> {
        match self {
            Self::Current | Self::NotAsked => Vec::new(),
            Self::Waiting(reason) => vec![reason.explanation()],
            Self::Failed(reason) => vec![reason.explanation()],
            Self::HeldBack => {
                let held = Explanation::new(
                    Code::TrustChangeHeldBack,
                    "its trust change is held back: it is not accepted yet",
                );
                vec![held.hint("it is listed on top, with the command that accepts it")]
            }
            Self::Refused(refusals) => refusals.explanations(),
        }
    }
}

impl Assessment {
    pub(super) fn silent(reason: UnseenReason) -> Self {
        Self {
            public: DocumentState::NotAsked,
            private: DocumentState::NotAsked,
            evidence: EvidenceState::Unseen(reason),
            rebuilt: false,
            read_by: ReadBy::default(),
            leaving: BTreeSet::new(),
        }
    }

    /// All of it set aside for one reason.
    pub(crate) fn set_aside(state: &DocumentState) -> Self {
        Self { public: state.clone(), private: state.clone(), ..Self::silent(UnseenReason::HeldBack) }
    }

    /// Whether the cluster's links must keep their stage.
    pub fn is_held_back(&self) -> bool {
        let held = |state: &DocumentState| matches!(state, DocumentState::HeldBack | DocumentState::Refused(_));
        !self.rebuilt && (held(&self.public) || held(&self.private))
    }

    /// Whether the cluster shows that its istiod reads a cluster of this ID; `None`: it does not show what it reads.
    pub(crate) fn reads(&self, id: &ClusterId) -> Option<bool> {
        let EvidenceState::Published(evidence) = &self.evidence else { return None };
        Some(evidence.reads.seen()?.iter().any(|read| read.cluster_id == *id))
    }

    /// Whether a token may be minted for the cluster: its public document is what it should be.
    pub fn may_be_asked(&self) -> bool {
        self.public == DocumentState::Current
    }
}

/// Whether the standard mesh configuration of the cluster hides what we write, and is not to take its place.
pub fn hides_our_roots(cluster: &Cluster, assessment: &Assessment) -> bool {
    let EvidenceState::Published(evidence) = &assessment.evidence else { return false };
    cluster.istio.config == MeshConfigTarget::SharedMeshConfig
        && cluster.moves_mesh_config_to().is_none()
        && evidence.mesh_config.seen().is_some_and(|standard| standard.ca_certificates)
}
