//! The plan: what a turn would change, why, what it waits for and what it refuses. A value, whole before anything is touched.
//!
//! It holds ids, reasons and digests, and the new texts up to a limit. What is beyond is rendered again, cluster by cluster,
//! when it is printed or written, so a plan of a thousand clusters stays small.

pub(crate) mod clusters;
pub mod diff;
pub mod graph;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::model::layout::secret_file;
use crate::model::link::Link;
use crate::model::lock::Stage;
use crate::model::mesh::{Mesh, Reconciler};
use crate::model::tree::{File, Tree, TreeError};
use crate::model::trust::{TrustChange, Verdict};
use crate::pipeline::accept::Standing;
use crate::pipeline::advance::{Advanced, Move};
use crate::pipeline::plan::diff::{FieldChange, diff};
use crate::pipeline::render::{RenderedCluster, RenderedObject};
use crate::types::diagnostic::Diagnostic;
use crate::types::name::{ClusterName, Digest, MeshName};
use crate::types::object::parse;
use crate::types::object::{Object, YamlError};
use crate::types::step::{StepId, StepKind};

/// Version of the plan's JSON form.
pub const PLAN_VERSION: u32 = 1;

/// What a turn would change.
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
    /// What a reviewer should know and no step says.
    pub notes: Vec<String>,
    /// Oddities that rendering found.
    pub warnings: Vec<Diagnostic>,
    /// When the next run is needed at the latest though nothing changes, seconds since 1970; `None`: only when something
    /// changes.
    pub next_run: Option<i64>,
}

/// A file that is not an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileStep {
    /// Path below the checkout.
    pub path: String,
    /// What becomes of it.
    pub action: Action,
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
    /// How it stands.
    pub standing: StepStanding,
    /// What could not be proven.
    pub unproven: Vec<String>,
}

/// How a step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepStanding {
    /// All it needs is there.
    Ready,
    /// It waits for these.
    Waiting(Vec<String>),
    /// Its cluster fails.
    Failed(String),
    /// It is held back or refused.
    Refused(String),
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
            match step.standing {
                StepStanding::Ready => {}
                StepStanding::Waiting(_) => counts.waiting += 1,
                StepStanding::Failed(_) => counts.failed += 1,
                StepStanding::Refused(_) => counts.refused += 1,
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

/// What changes in one cluster's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterChanges {
    /// Objects, by the step they first belong to.
    pub objects: Vec<(StepId, ObjectChange)>,
    /// Files that are in the way, with the words of the refusal.
    pub refused: Vec<(StepId, String)>,
}

/// Why a cluster could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// Its folder cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An object cannot be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

/// Compares what is rendered for a cluster with the files of its folder in the tree, by name.
pub fn compare(
    mesh: &MeshName,
    cluster: &ClusterName,
    rendered: &RenderedCluster,
    tree: &dyn Tree,
    files: &BTreeMap<String, File>,
) -> Result<ClusterChanges, CompareError> {
    let mut changes = ClusterChanges::default();
    let mut declared = BTreeSet::new();
    let folder = crate::model::layout::rendered_folder(cluster);
    let fallback = StepId::of(StepKind::RenderComponents, cluster);
    for rendered in &rendered.objects {
        let name = rendered.id().file_name();
        let note_same = || tree.note_ours(cluster.as_str(), &name, &|| rendered.inputs());
        let found = compare_object(mesh, rendered, files.get(&name), &note_same)?;
        if found != Found::Same {
            let step = first_step(&rendered.steps).unwrap_or_else(|| fallback.clone());
            let path = format!("{folder}/{name}");
            match found {
                Found::Same => {}
                Found::Foreign(owner) => changes.refused.push((step, foreign(&path, &owner))),
                Found::Changes { action, reason, digest, text } => {
                    let (object, text) = (rendered.id().to_string(), Some(NewText(text)));
                    changes.objects.push((step, ObjectChange { path, object, action, reason, digest, text }));
                }
            }
        }
        declared.insert(name);
    }
    for path in rendered.extra.keys() {
        let Some(name) = path.strip_prefix(&folder).and_then(|name| name.strip_prefix('/')) else { continue };
        if let Some(File::Read(bytes)) = files.get(name) {
            match owner(mesh, bytes) {
                Owner::Us => tree.note_ours(cluster.as_str(), name, &|| None),
                Owner::Other(who) => changes.refused.push((fallback.clone(), foreign(path, &who))),
            }
        }
        declared.insert(name.to_owned());
    }
    for (step, _) in &rendered.waiting {
        declared.extend(step.peer.as_ref().map(secret_file));
    }
    for (name, file) in files.iter().filter(|(name, _)| !declared.contains(*name)) {
        let Some(bytes) = bytes_of(tree, &folder, name, file)? else { continue };
        if let Some(object) = parse(&bytes).filter(|object| object.is_owned_by_tree_of(mesh)) {
            let change = ObjectChange {
                path: format!("{folder}/{name}"),
                object: object.id().to_string(),
                action: Action::Delete,
                reason: Reason::NoLongerDeclared,
                digest: Digest::of(&bytes),
                text: None,
            };
            changes.objects.push((steps_of(&object).unwrap_or_else(|| fallback.clone()), change));
        }
    }
    Ok(changes)
}

/// How an object stands to its file.
#[derive(PartialEq)]
enum Found {
    Same,
    Changes {
        action: Action,
        reason: Reason,
        digest: Digest,
        text: String,
    },
    /// Somebody else's file is in the way.
    Foreign(String),
}

/// Compares an object with its file. The text is not made where the file is known to hold what these inputs give.
fn compare_object(
    mesh: &MeshName,
    rendered: &RenderedObject,
    file: Option<&File>,
    note_same: &dyn Fn(),
) -> Result<Found, YamlError> {
    if let Some(File::Kept { made_of: made_of @ Some(_), .. }) = file
        && *made_of == rendered.inputs()
    {
        return Ok(Found::Same);
    }
    let text = rendered.to_yaml()?;
    let digest = || Digest::of(text.as_bytes());
    let (action, reason, digest) = match file {
        Some(File::Read(bytes)) if bytes == text.as_bytes() => {
            note_same();
            return Ok(Found::Same);
        }
        Some(File::Read(bytes)) => match owner(mesh, bytes) {
            Owner::Us => (Action::Update, Reason::Differs, digest()),
            Owner::Other(who) => return Ok(Found::Foreign(who)),
        },
        Some(File::Kept { digest: kept, .. }) => match digest() {
            same if same == *kept => {
                note_same();
                return Ok(Found::Same);
            }
            digest => (Action::Update, Reason::Differs, digest),
        },
        None => (Action::Create, Reason::Missing, digest()),
    };
    Ok(Found::Changes { action, reason, digest, text: text.into_owned() })
}

/// The bytes of a file of a cluster's folder; `None` when it is gone by now.
fn bytes_of<'f>(tree: &dyn Tree, folder: &str, name: &str, file: &'f File) -> Result<Option<Cow<'f, [u8]>>, TreeError> {
    Ok(match file {
        File::Read(bytes) => Some(Cow::Borrowed(bytes)),
        File::Kept { .. } => tree.file(&format!("{folder}/{name}"))?.map(Cow::Owned),
    })
}

fn first_step(steps: &[StepId]) -> Option<StepId> {
    steps.iter().min_by_key(|step| step.kind).cloned()
}

/// The step a written object belongs to, from its annotation.
fn steps_of(object: &Object) -> Option<StepId> {
    let list = object.annotation(crate::types::object::STEPS_ANNOTATION)?;
    let steps: Vec<StepId> = list.split(',').filter_map(|step| step.trim().parse().ok()).collect();
    first_step(&steps)
}

enum Owner {
    Us,
    Other(String),
}

fn owner(mesh: &MeshName, bytes: &[u8]) -> Owner {
    let Some(object) = parse(bytes) else {
        return Owner::Other("is no Kubernetes object".to_owned());
    };
    if object.is_owned_by_tree_of(mesh) || object.is_given_to(mesh) {
        return Owner::Us;
    }
    let label = |key| object.label(key).map(str::to_owned);
    Owner::Other(match (label(crate::types::object::MANAGED_BY), label(crate::types::object::MESH_LABEL)) {
        (Some(tool), Some(mesh)) => format!("belongs to {tool}, mesh `{mesh}`"),
        (Some(tool), None) => format!("belongs to {tool}"),
        (None, _) => "carries no owner's label".to_owned(),
    })
}

fn foreign(path: &str, owner: &str) -> String {
    format!("`{path}` is not ours: it {}; move it away, and the next turn writes ours", owner.escape_debug())
}

/// The field-level differences of one changed object, from the file as it is and the object as it will be.
pub fn fields(before: Option<&[u8]>, after: Option<&Object>) -> Vec<FieldChange> {
    let before = before.and_then(parse);
    diff(before.as_ref(), after)
}

/// Gathers steps: the graph's order, each with its objects and its standing.
pub struct Gathering<'a> {
    /// The mesh.
    pub mesh: &'a Mesh,
    /// Standings of the clusters' documents; `None` in a locked run.
    pub news: Option<&'a BTreeMap<ClusterName, crate::pipeline::accept::News>>,
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
        Step { id: id.clone(), objects, standing: self.standing(id), unproven }
    }

    fn standing(&self, id: &StepId) -> StepStanding {
        if let Some(words) = self.refused.get(id).or_else(|| self.advanced.refusals.get(id)) {
            return StepStanding::Refused(words.clone());
        }
        let document = self.news.and_then(|news| news.get(&id.cluster)).and_then(|news| match id.kind {
            StepKind::FetchCa => Some(&news.public),
            StepKind::DiscoverProxy => Some(&news.private),
            _ => None,
        });
        let own = self.news.and_then(|news| news.get(&id.cluster)).filter(|_| id.kind == StepKind::DiscoverProxy);
        if own.is_some_and(crate::pipeline::accept::News::is_held_back) {
            return StepStanding::Waiting(vec!["its trust change to be accepted".to_owned()]);
        }
        let paused = "its trust change is held back until it is accepted";
        match document {
            Some(Standing::Waiting(reason)) => return StepStanding::Waiting(vec![reason.clone()]),
            Some(Standing::Failed(reason)) => return StepStanding::Failed(reason.clone()),
            Some(Standing::HeldBack) => return StepStanding::Refused(paused.to_owned()),
            Some(Standing::Refused(reason)) => return StepStanding::Refused(reason.clone()),
            Some(Standing::Current | Standing::NotAsked) | None => {}
        }
        let rendering = self.rendering.get(id).into_iter().flatten();
        let waits: Vec<String> = self.advanced.waits.get(id).into_iter().flatten().chain(rendering).cloned().collect();
        if waits.is_empty() { StepStanding::Ready } else { StepStanding::Waiting(waits) }
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
