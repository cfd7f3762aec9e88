//! The plan: what a run would change, why, what it waits for and what it refuses. A value, whole before anything is touched.
//!
//! It holds ids, reasons and digests, and the new texts up to a limit. What is beyond is rendered again, cluster by cluster,
//! when it is printed or written, so a plan of a thousand clusters stays small.

pub(crate) mod clusters;
mod compare;
pub mod diff;
pub mod graph;
mod reasons;
mod steps;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::model::link::Link;
use crate::model::trust::{TrustChange, Verdict};
use crate::pipeline::advance::{Move, Unproven};
use crate::pipeline::template::Overridden;
use crate::types::diagnostic::Diagnostic;
use crate::types::explanation::Explanation;
use crate::types::name::{ClusterName, Digest};
use crate::types::step::StepId;

pub use self::compare::{ClusterChanges, CompareError, compare, fields};
pub use self::reasons::{CompareRefusal, Foreigner};
pub use self::steps::{Gathering, costs, cuts, notes};

/// Version of the plan's JSON form.
pub const PLAN_VERSION: u32 = 1;

/// What a run would change.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Trust changes, approved or not.
    pub trust_changes: Vec<TrustChange>,
    /// All steps, in the order of the graph.
    pub steps: Vec<Step>,
    /// Files of the lock that change.
    pub lock: Vec<FileStep>,
    /// Links that move.
    pub moves: BTreeMap<Link, Move>,
    /// Files beside the objects, such as Helm values.
    pub extra: Vec<FileStep>,
    /// Overrides of templates that are in force, whether this run changes something by them or not.
    pub overrides: Vec<OverrideInForce>,
    /// What a reviewer should know and no step says.
    pub notes: Vec<String>,
    /// Oddities that rendering found.
    pub warnings: Vec<Diagnostic>,
}

/// An override of a template, with one of the fields that it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideInForce {
    /// Path below the checkout.
    pub path: Arc<str>,
    /// What it changes; `None` for an override that renders what the built-in template renders.
    pub overridden: Option<Overridden>,
    /// In which clusters.
    pub clusters: Vec<ClusterName>,
}

/// A file that is not an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileStep {
    /// Path below the checkout.
    pub path: String,
    /// What becomes of it.
    pub action: Action,
    /// SHA-256 of its new content; `None` where it goes, and where only its name was compared.
    #[serde(skip)]
    pub digest: Option<Digest>,
    /// Its new content, where that is at hand.
    #[serde(skip)]
    pub text: Option<NewText>,
}

/// The new content of a file. Shows nothing of it: it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct NewText(pub String);

impl fmt::Debug for NewText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which.
    pub id: StepId,
    /// Objects that change with it.
    pub objects: Vec<ObjectChange>,
    /// Whether it can be done.
    pub state: StepState,
    /// What could not be proven.
    pub unproven: Vec<Unproven>,
}

/// Whether a step can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepState {
    /// All it needs is there.
    Ready,
    /// It waits for these.
    Waiting(Vec<Explanation>),
    /// Its cluster fails.
    Failed(Vec<Explanation>),
    /// It is held back or refused.
    Refused(Vec<Explanation>),
}

impl StepState {
    /// Why it cannot be done; nothing, where it can.
    pub fn explanations(&self) -> &[Explanation] {
        match self {
            Self::Ready => &[],
            Self::Waiting(reasons) | Self::Failed(reasons) | Self::Refused(reasons) => reasons,
        }
    }

    /// Each reason as a sentence.
    pub fn sentences(&self) -> Vec<String> {
        self.explanations().iter().map(ToString::to_string).collect()
    }

    /// All reasons in one line.
    pub fn line(&self) -> String {
        self.sentences().join("; ")
    }
}

/// An object that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChange {
    /// Path of its file below the checkout.
    pub path: String,
    /// Kind and name.
    pub object: String,
    /// What becomes of it.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// SHA-256 of the file as it will be; of the old one for a deletion.
    pub digest: Digest,
    /// Its new content, while a plan is small enough to keep it; else it is rendered again.
    pub text: Option<NewText>,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// `+`
    Create,
    /// `~`
    Update,
    /// `-`
    Delete,
}

impl Action {
    /// Its sign in the text form.
    pub fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Delete => '-',
        }
    }
}

/// Why an object changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// It is declared and not there.
    Missing,
    /// It is there and differs.
    Differs,
    /// It is there and no longer declared.
    NoLongerDeclared,
}

/// Counts of a plan, objects each once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Objects to create.
    pub create: usize,
    /// Objects to update.
    pub update: usize,
    /// Objects to delete.
    pub delete: usize,
    /// Steps that wait.
    pub waiting: usize,
    /// Steps that are held back or refused.
    pub refused: usize,
    /// Steps whose cluster fails.
    pub failed: usize,
}

impl Plan {
    /// The counts.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for step in &self.steps {
            for object in &step.objects {
                match object.action {
                    Action::Create => counts.create += 1,
                    Action::Update => counts.update += 1,
                    Action::Delete => counts.delete += 1,
                }
            }
            match step.state {
                StepState::Ready => {}
                StepState::Waiting(_) => counts.waiting += 1,
                StepState::Failed(_) => counts.failed += 1,
                StepState::Refused(_) => counts.refused += 1,
            }
        }
        counts
    }

    /// Whether applying it would write anything.
    pub fn changes_files(&self) -> bool {
        !self.lock.is_empty() || !self.extra.is_empty() || self.steps.iter().any(|step| !step.objects.is_empty())
    }

    /// Whether a cluster's trust change, a guard or a foreign file is in the way.
    pub fn is_refused(&self) -> bool {
        self.trust_changes.iter().any(|change| change.verdict != Verdict::Approved) || self.counts().refused > 0
    }
}
