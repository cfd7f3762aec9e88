//! The steps of a plan, each with its objects and what it waits for, and what a reviewer should know beside them.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use crate::model::known::KnownCluster;
use crate::model::link::Link;
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{Mesh, Reconciler};
use crate::pipeline::accept::{Assessment, DocumentState};
use crate::pipeline::advance::{Advanced, LinkWait, Move};
use crate::pipeline::agreement::Agreement;
use crate::pipeline::law::Breach;
use crate::pipeline::plan::{CompareRefusal, ObjectChange, Step, StepState};
use crate::pipeline::render::RenderWait;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::ClusterName;
use crate::types::step::{StepId, StepKind};

/// Gathers steps: the graph's order, each with its objects and its state.
pub struct Gathering<'a> {
    pub mesh: &'a Mesh,
    /// States of the clusters' documents; `None` in a locked run.
    pub assessments: Option<&'a BTreeMap<ClusterName, Assessment>>,
    /// Waits, refusals and moves of the links.
    pub advanced: &'a Advanced,
    /// Waits that rendering found.
    pub rendering: BTreeMap<StepId, Vec<RenderWait>>,
    /// Refusals that comparing found.
    pub refused: BTreeMap<StepId, Vec<CompareRefusal>>,
    /// What the law of safety withholds, by step.
    pub withheld: BTreeMap<StepId, Vec<Breach>>,
    /// What lock or tree lost, shown at the first step that every cluster has.
    pub lost: &'a Agreement,
    pub objects: BTreeMap<StepId, Vec<ObjectChange>>,
}

impl Gathering<'_> {
    /// Takes a file that is in the way to its step.
    pub(super) fn refuse(&mut self, step: StepId, refusal: CompareRefusal) {
        self.refused.entry(step).or_default().push(refusal);
    }

    /// Takes breaches of the law, each to its step.
    pub(super) fn withhold(&mut self, breaches: &[Breach]) {
        for breach in breaches {
            self.withheld.entry(breach.step()).or_default().push(breach.clone());
        }
    }

    /// The steps in the given order; objects and refusals of steps that the order lacks come last.
    pub fn steps<'s>(mut self, order: impl Iterator<Item = &'s StepId>) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut refused: BTreeSet<StepId> = self.refused.keys().chain(self.withheld.keys()).cloned().collect();
        for id in order {
            let objects = self.objects.remove(id).unwrap_or_default();
            steps.push(self.step(id, objects));
            refused.remove(id);
        }
        for id in refused {
            self.objects.entry(id).or_default();
        }
        for (id, objects) in std::mem::take(&mut self.objects) {
            steps.push(self.step(&id, objects));
        }
        steps
    }

    fn step(&self, id: &StepId, objects: Vec<ObjectChange>) -> Step {
        let step = Link::of(id).and_then(|link| self.advanced.moves.get(&link));
        let unproven = step.map(|step| step.unproven.clone()).unwrap_or_default();
        Step { id: id.clone(), objects, state: self.state(id), unproven, read_by: self.read_by(id) }
    }

    /// The cluster whose relay read a document.
    fn read_by(&self, id: &StepId) -> Option<ClusterName> {
        let read_by = &self.assessments?.get(&id.cluster)?.read_by;
        match id.kind {
            StepKind::FetchCa => read_by.public.clone(),
            StepKind::DiscoverProxy => read_by.private.clone(),
            StepKind::RenderComponents
            | StepKind::ExchangeKeys
            | StepKind::RenderTrust
            | StepKind::RenderNetworks
            | StepKind::RenderRoutes
            | StepKind::RenderSecret => None,
        }
    }

    fn state(&self, id: &StepId) -> StepState {
        let lost = self.lost.lost.get(&id.cluster).filter(|_| id.kind == StepKind::FetchCa);
        if let Some(lost) = lost {
            return StepState::Refused(lost.iter().map(Explain::explanation).collect());
        }
        if let Some(breaches) = self.withheld.get(id) {
            return StepState::Refused(breaches.iter().map(Explain::explanation).collect());
        }
        if let Some(compared) = self.refused.get(id) {
            return StepState::Refused(compared.iter().map(CompareRefusal::explanation).collect());
        }
        if let Some(refusal) = self.advanced.refusals.get(id) {
            return StepState::Refused(vec![refusal.explanation()]);
        }
        let document =
            self.assessments.and_then(|assessment| assessment.get(&id.cluster)).and_then(|assessment| match id.kind {
                StepKind::FetchCa => Some(&assessment.public),
                StepKind::DiscoverProxy => Some(&assessment.private),
                StepKind::RenderComponents
                | StepKind::ExchangeKeys
                | StepKind::RenderTrust
                | StepKind::RenderNetworks
                | StepKind::RenderRoutes
                | StepKind::RenderSecret => None,
            });
        let own = self
            .assessments
            .and_then(|assessment| assessment.get(&id.cluster))
            .filter(|_| id.kind == StepKind::DiscoverProxy);
        if own.is_some_and(Assessment::is_held_back) {
            let why = Explanation::new(Code::TrustChangeHeldBack, "its trust change to be accepted");
            return StepState::Waiting(vec![why]);
        }
        let explanations = document.map(DocumentState::explanations).unwrap_or_default();
        match document {
            Some(DocumentState::Waiting(_)) => return StepState::Waiting(explanations),
            Some(DocumentState::Failed(_)) => return StepState::Failed(explanations),
            Some(DocumentState::HeldBack | DocumentState::Refused(_)) => return StepState::Refused(explanations),
            Some(DocumentState::Current | DocumentState::NotAsked) | None => {}
        }
        let advancing = self.advanced.waits.get(id).into_iter().flatten().map(LinkWait::explanation);
        let rendering = self.rendering.get(id).into_iter().flatten().map(RenderWait::explanation);
        let mut waits: Vec<Explanation> = advancing.collect();
        waits.extend(rendering);
        if waits.is_empty() { StepState::Ready } else { StepState::Waiting(waits) }
    }
}

/// What a reviewer should know about the moves of a run, beside the objects.
pub fn notes(mesh: &Mesh, lock: &Lock, moves: &BTreeMap<Link, Move>) -> Vec<String> {
    let rendered = |name: &ClusterName| mesh.clusters.get(name).is_some_and(|c| c.reconciler == Reconciler::Rendered);
    let (mut opened, mut ended) = (BTreeMap::<_, Vec<String>>::new(), BTreeMap::<_, Vec<String>>::new());
    for (Link { reader, peer }, step) in moves {
        if step.to == Some(Stage::Joined) && rendered(reader) {
            opened.entry(reader).or_default().push(format!("`{peer}`"));
        }
        if step.to.is_none() {
            ended.entry(reader).or_default().push(format!("`{peer}`"));
        }
    }
    let asks =
        |reader: &ClusterName| KnownCluster::of(mesh, lock, reader).is_some_and(|known| known.requires_token(mesh));
    let readers = opened.keys().filter(|reader| !asks(reader));
    let readers: Vec<String> = readers.map(|reader| format!("`{reader}`")).collect();
    let open_relays = (!readers.is_empty()).then(|| {
        let readers = readers.join(", ");
        format!(
            "only a NetworkPolicy keeps other pods of {readers} from reading its peers through its relay; \
             `credentials.requireToken` of the Mesh has it ask istiod for a token"
        )
    });
    let opened = opened.iter().map(|(reader, peers)| {
        let peers = peers.join(", ");
        format!("for clients in `{reader}`, services of {peers} merge with those of `{reader}` that have the same namespace and name")
    });
    let ended = ended.iter().map(|(reader, peers)| {
        let peers = peers.join(", ");
        format!("`{reader}` no longer trusts the root CAs of {peers}; open connections last until they close")
    });
    opened.chain(ended).chain(open_relays).collect()
}
