//! The plan: what a run would change, why, what it waits for and what it refuses. A value, whole before anything is touched.
//!
//! It holds ids, reasons and digests, and the new texts up to a limit. What is beyond is rendered again, cluster by cluster,
//! when it is printed or written, so a plan of a thousand clusters stays small.

mod action;
pub(crate) mod clusters;
mod compare;
pub mod diff;
pub mod graph;
mod overrides;
mod reasons;
pub mod security;
mod steps;
mod strays;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::model::link::Link;
use crate::model::trust::{TrustChange, Verdict};
use crate::pipeline::advance::{Move, Unproven};
use crate::types::diagnostic::Diagnostic;
use crate::types::explanation::Explanation;
use crate::types::name::{ClusterName, Digest};
use crate::types::step::StepId;

pub use self::action::Action;
pub use self::compare::{ClusterChanges, CompareError, compare, fields};
pub use self::overrides::OverrideInForce;
pub(crate) use self::overrides::Overrides;
pub use self::reasons::{CompareRefusal, Foreigner};
pub use self::security::{LinkEffect, SecurityChange, SecurityItem};
pub use self::steps::{Gathering, notes};

/// Version of the plan's JSON form.
pub const PLAN_VERSION: u32 = 2;

/// What a run would change.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub compared: Compared,
    /// Trust changes, approved or not.
    pub trust_changes: Vec<TrustChange>,
    /// What else a reviewer has to see before any object, in the order in which it is shown.
    pub security: Vec<SecurityItem>,
    /// Files of the checkout that are not as its revision renders them. Of a plan with a base alone.
    pub differing: Vec<String>,
    /// All steps, in the order of the graph.
    pub steps: Vec<Step>,
    /// Files of the lock that change.
    pub lock: Vec<FileStep>,
    /// How many of these are of version 1 of the format, and are written anew for that alone if for nothing else.
    pub former_lock: usize,
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

/// What a plan was compared with, and so what a plan without changes says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Compared {
    /// With the files of the checkout; the clusters were asked.
    #[default]
    Asked,
    /// With the files of the checkout; no cluster was asked.
    Locked,
    /// With a revision; no cluster was asked.
    Revision(String),
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
    /// Its new content, where that is known.
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
    pub id: StepId,
    pub objects: Vec<ObjectChange>,
    /// Whether it can be done.
    pub state: StepState,
    /// What could not be proven.
    pub unproven: Vec<Unproven>,
    /// The cluster whose relay read what the step is about; `None`: the engine itself, or no one.
    pub read_by: Option<ClusterName>,
}

/// Whether a step can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepState {
    /// All it needs is there.
    Ready,
    Waiting(Vec<Explanation>),
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

/// An object that a run creates, updates or deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChange {
    /// Path of its file below the checkout.
    pub path: String,
    pub object: String,
    /// What becomes of it.
    pub action: Action,
    pub reason: Reason,
    /// SHA-256 of the file as it will be; of the old one for a deletion.
    pub digest: Digest,
    /// Its new content, while a plan is small enough to keep it; else it is rendered again.
    pub text: Option<NewText>,
}

/// Why an object changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// It is declared and not there.
    Missing,
    Differs,
    /// It is there and no longer declared.
    NoLongerDeclared,
}

/// Counts of a plan, objects each once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PlanCounts {
    pub create: usize,
    pub update: usize,
    pub delete: usize,
    pub waiting: usize,
    /// Steps that are held back or refused.
    pub refused: usize,
    /// Steps whose cluster fails.
    pub failed: usize,
}

impl Plan {
    /// Objects to create, update and delete, each once, and steps that wait, fail or are refused.
    pub fn counts(&self) -> PlanCounts {
        let mut counts = PlanCounts::default();
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
        counts.refused += self.security.iter().filter(|item| item.refused && !item.is_step).count();
        counts
    }

    /// Puts what a reviewer has to see into the order in which it is shown.
    pub(crate) fn sort_security(&mut self) {
        self.security.sort_by_cached_key(|item| (!item.refused, item.change.order(), item.change.subject()));
    }

    /// Whether applying it would write anything.
    pub fn changes_files(&self) -> bool {
        !self.lock.is_empty() || !self.extra.is_empty() || self.steps.iter().any(|step| !step.objects.is_empty())
    }

    /// Whether a cluster's trust change, a guard, or a file that is not ours or not rendered is in the way.
    pub fn is_refused(&self) -> bool {
        self.trust_changes.iter().any(|change| change.verdict != Verdict::Approved) || self.counts().refused > 0
    }
}
