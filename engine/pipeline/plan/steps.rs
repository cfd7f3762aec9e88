//! The steps of a plan, each with its objects and what it waits for, and what a reviewer should know beside them.

use std::collections::BTreeMap;

use crate::model::link::Link;
use crate::model::lock::Stage;
use crate::model::mesh::{Mesh, Reconciler};
use crate::pipeline::accept::{News, Standing};
use crate::pipeline::advance::{Advanced, Move};
use crate::pipeline::plan::{ObjectChange, Step, StepStanding};
use crate::types::explanation::{Code, Explanation};
use crate::types::name::ClusterName;
use crate::types::step::{StepId, StepKind};

/// Gathers steps: the graph's order, each with its objects and its standing.
pub struct Gathering<'a> {
    /// The mesh.
    pub mesh: &'a Mesh,
    /// Standings of the clusters' documents; `None` in a locked run.
    pub news: Option<&'a BTreeMap<ClusterName, News>>,
    /// Waits, refusals and moves of the links.
    pub advanced: &'a Advanced,
    /// Waits that rendering found.
    pub rendering: BTreeMap<StepId, Vec<String>>,
    /// Refusals that comparing found.
    pub refused: BTreeMap<StepId, String>,
    /// Objects that change, by step.
    pub objects: BTreeMap<StepId, Vec<ObjectChange>>,
}

impl Gathering<'_> {
    /// The steps in the given order; objects of steps that the order lacks come last.
    pub fn steps<'s>(mut self, order: impl Iterator<Item = &'s StepId>) -> Vec<Step> {
        let mut steps = Vec::new();
        for id in order {
            let objects = self.objects.remove(id).unwrap_or_default();
            steps.push(self.step(id, objects));
        }
        for (id, objects) in std::mem::take(&mut self.objects) {
            steps.push(self.step(&id, objects));
        }
        steps
    }

    fn step(&self, id: &StepId, objects: Vec<ObjectChange>) -> Step {
        let step = Link::of(id).and_then(|link| self.advanced.moves.get(&link));
        let unproven = step.map(|step| step.unproven.clone()).unwrap_or_default();
        let (standing, explanations) = self.standing(id);
        Step { id: id.clone(), objects, standing, explanations, unproven }
    }

    fn standing(&self, id: &StepId) -> (StepStanding, Vec<Explanation>) {
        if let Some(words) = self.refused.get(id).or_else(|| self.advanced.refusals.get(id)) {
            return (StepStanding::Refused(words.clone()), Vec::new());
        }
        let document = self.news.and_then(|news| news.get(&id.cluster)).and_then(|news| match id.kind {
            StepKind::FetchCa => Some(&news.public),
            StepKind::DiscoverProxy => Some(&news.private),
            _ => None,
        });
        let own = self.news.and_then(|news| news.get(&id.cluster)).filter(|_| id.kind == StepKind::DiscoverProxy);
        if own.is_some_and(News::is_held_back) {
            let why = Explanation::new(Code::TrustChangeHeldBack, "its trust change to be accepted");
            return (StepStanding::Waiting(vec![why.to_string()]), vec![why]);
        }
        let explanations = document.map(Standing::explanations).unwrap_or_default();
        let sentences: Vec<String> = explanations.iter().map(ToString::to_string).collect();
        match document {
            Some(Standing::Waiting(_)) => return (StepStanding::Waiting(sentences), explanations),
            Some(Standing::Failed(_)) => return (StepStanding::Failed(sentences.join("; ")), explanations),
            Some(Standing::HeldBack | Standing::Refused(_)) => {
                return (StepStanding::Refused(sentences.join("; ")), explanations);
            }
            Some(Standing::Current | Standing::NotAsked) | None => {}
        }
        let rendering = self.rendering.get(id).into_iter().flatten();
        let waits: Vec<String> = self.advanced.waits.get(id).into_iter().flatten().chain(rendering).cloned().collect();
        (if waits.is_empty() { StepStanding::Ready } else { StepStanding::Waiting(waits) }, Vec::new())
    }
}

/// What a reviewer should know about the moves of a turn, beside the objects.
pub fn notes(mesh: &Mesh, moves: &BTreeMap<Link, Move>) -> Vec<String> {
    let rendered = |name: &ClusterName| mesh.clusters.get(name).is_some_and(|c| c.reconciler == Reconciler::Rendered);
    let mut notes = Vec::new();
    for (Link { reader, peer }, step) in moves {
        if step.to == Some(Stage::Joined) && rendered(reader) {
            notes.push(format!(
                "services of the same namespace and name in `{reader}` and `{peer}` merge for clients in `{reader}`"
            ));
        }
        if step.to.is_none() {
            notes.push(format!(
                "the roots of `{peer}` leave `{reader}`; connections that are pooled outlive a removed root until they close"
            ));
        }
    }
    notes
}
