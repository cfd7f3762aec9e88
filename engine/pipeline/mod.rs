//! The whole road on one page; every command walks a prefix of it.
//!
//! 1. [`Program::load`]: specs, templates and lock become a mesh and what is known of it.
//! 2. Observing (an edge: [`observe`]) asks the clusters; [`Program::admits`] decides for whom a token may be minted.
//! 3. [`Program::turn`]: news are accepted into the lock and links advance; or [`Program::locked`]: the lock as it is.
//! 4. [`Program::plan`]: objects are rendered and compared with the tree.
//! 5. [`Program::files`]: the plan as file changes, which the checkout's writer carries out.

pub mod accept;
pub mod advance;
pub mod compile;
pub mod observe;
pub mod plan;
pub mod render;
pub mod template;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::checkout::FileChange;
use crate::model::layout::rendered_folder;
use crate::model::layout::{VALUES_FILES, values_mark};
use crate::model::lock::Lock;
use crate::model::mesh::{Mesh, State};
use crate::model::tree::{File, Tree, TreeError};
use crate::pipeline::accept::{Accepted, Approvals, accept, hides_our_roots};
use crate::pipeline::advance::{Advanced, advance};
use crate::pipeline::observe::Observed;
use crate::pipeline::plan::graph::{Cycle, Graph};
use crate::pipeline::plan::{
    Action, CompareError, FileStep, Gathering, NewText, ObjectChange, Plan, Step, compare, notes,
};
use crate::pipeline::render::{Given, RenderContext, RenderedCluster};
use crate::pipeline::template::Templates;
use crate::spec::Source;
use crate::types::diagnostic::{Diagnostic, Diagnostics};
use crate::types::name::{ClusterName, Digest};
use crate::types::object::YamlError;
use crate::types::step::{StepId, StepKind};

/// Most bytes of new texts that a plan keeps; what is beyond is rendered again when it is written.
const MAX_KEPT_TEXT: usize = 32 << 20;

/// Why a run ends before its plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The specs, templates or lock are wrong.
    #[error("the checkout has findings")]
    Findings(Diagnostics),
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Steps need each other in a circle.
    #[error(transparent)]
    Cycle(#[from] Cycle),
    /// An object cannot be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

impl From<CompareError> for Stop {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::Tree(error) => error.into(),
            CompareError::Yaml(error) => error.into(),
        }
    }
}

/// What a run reads of a checkout.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// `specs/**`.
    pub specs: Vec<Source>,
    /// `templates/**`.
    pub templates: Vec<Source>,
    /// `lock/**`, by path.
    pub lock: BTreeMap<String, Vec<u8>>,
}

impl Input {
    /// A digest over the content of all of it and of the tree, by which a stored plan knows that nothing changed since.
    pub fn digest(&self) -> Digest {
        let mut text = Vec::new();
        let files =
            self.specs.iter().chain(&self.templates).map(|source| (source.path.as_ref(), source.bytes.as_slice()));
        let mut files: Vec<(&str, &[u8])> =
            files.chain(self.lock.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))).collect();
        files.sort_unstable();
        for (path, bytes) in files {
            text.extend_from_slice(format!("{} {path} {}\n", Digest::of(bytes), bytes.len()).as_bytes());
        }
        Digest::of(&text)
    }
}

/// A compiled checkout.
#[derive(Debug)]
pub struct Program {
    /// The mesh.
    pub mesh: Mesh,
    /// The lock as read.
    pub lock: Lock,
    /// Findings that do not stop the run.
    pub warnings: Diagnostics,
    templates: Templates,
    lock_files: BTreeMap<String, Vec<u8>>,
    /// Whether the lock's files are as we write them, once somebody asked.
    lock_is_canonical: OnceLock<bool>,
}

/// How far a turn got before rendering.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// What was learned; `None` in a locked run.
    pub accepted: Option<Accepted>,
    /// The lock of the turn, with the links' new stages.
    pub advanced: Advanced,
}

impl Program {
    /// Reads and compiles a checkout. `file` gives other files of it, such as CA certificates.
    pub fn load(input: &Input, file: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Self, Stop> {
        Self::load_after(None, input, file)
    }

    /// The same, with the lock of what was compiled before where its files are the same.
    pub fn load_after(
        before: Option<&Self>,
        input: &Input,
        file: &dyn Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, Stop> {
        let mut findings = Diagnostics::new();
        let same = before.filter(|before| before.lock_files == input.lock);
        let lock_is_canonical = same.map_or_else(OnceLock::new, |before| before.lock_is_canonical.clone());
        let lock = match same {
            Some(before) => Ok(before.lock.clone()),
            None => Lock::parse(input.lock.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))),
        };
        let templates = Templates::load(&input.templates);
        let compiled = compile::load(&input.specs, env!("CARGO_PKG_VERSION"), file);
        let lock = lock.map_err(|found| findings.extend(found)).ok();
        let templates = templates.map_err(|found| findings.extend(found)).ok();
        let compiled = compiled.map_err(|found| findings.extend(found)).ok();
        let (Some(lock), Some(templates), Some((mesh, warnings))) = (lock, templates, compiled) else {
            return Err(Stop::Findings(findings));
        };
        let lock_files = input.lock.clone();
        let program = Self { mesh, lock, warnings, templates, lock_files, lock_is_canonical };
        program.refuse_vanished()?;
        Ok(program)
    }

    /// A cluster that the lock knows and no spec declares did not leave: its document vanished.
    fn refuse_vanished(&self) -> Result<(), Stop> {
        let mut findings = Diagnostics::new();
        let linked = self.lock.links.iter().flat_map(|(reader, links)| std::iter::once(reader).chain(links.keys()));
        let known: BTreeSet<&ClusterName> = self.lock.clusters.keys().chain(linked).collect();
        for name in known.into_iter().filter(|name| !self.mesh.clusters.contains_key(*name)) {
            findings.push(
                Diagnostic::refusal(None, format!("cluster `{name}` is in the lock and no spec declares it")).hint(
                    "restore its document; to take it out of the mesh, set `state: leaving` and apply until it is gone",
                ),
            );
        }
        if findings.has_errors() { Err(Stop::Findings(findings)) } else { Ok(()) }
    }

    /// The clusters for which a token may be minted, judged by public documents alone.
    pub fn admits(&self, publics: &Observed, approvals: &Approvals, now: i64) -> (Lock, BTreeSet<ClusterName>) {
        let accepted = accept(&self.mesh, &self.lock, publics, approvals, now);
        let admitted = accepted.news.iter().filter(|(_, news)| news.may_be_asked()).map(|(name, _)| name.clone());
        let admitted = admitted.collect();
        (accepted.lock, admitted)
    }

    /// A turn on what was observed. `allow_delete` lifts the deletion guard; `now` is in seconds since 1970.
    pub fn turn(&self, observed: &Observed, approvals: &Approvals, allow_delete: bool, now: i64) -> Turn {
        let accepted = accept(&self.mesh, &self.lock, observed, approvals, now);
        let mut advanced = advance(&self.mesh, &accepted, allow_delete);
        self.forget_the_gone(&mut advanced.lock);
        for (name, news) in &accepted.news {
            if self.mesh.clusters.get(name).is_some_and(|cluster| hides_our_roots(cluster, news)) {
                let words = "the standard mesh configuration has `caCertificates`, which hide ours; take them out, or set `istio.config` to helmValues, istioOperator or sail and merge the values";
                advanced.refusals.insert(StepId::of(StepKind::RenderTrust, name), words.to_owned());
            }
        }
        Turn { accepted: Some(accepted), advanced }
    }

    /// A locked run: nothing is asked and no link moves.
    pub fn locked(&self) -> Turn {
        Turn { accepted: None, advanced: Advanced { lock: self.lock.clone(), ..Advanced::default() } }
    }

    /// A leaving cluster that no link names any more is forgotten.
    fn forget_the_gone(&self, lock: &mut Lock) {
        let named: BTreeSet<&ClusterName> =
            lock.links.iter().flat_map(|(reader, links)| std::iter::once(reader).chain(links.keys())).collect();
        let leaving = self.mesh.clusters.values().filter(|cluster| cluster.state == State::Leaving);
        let gone: Vec<ClusterName> =
            leaving.map(|cluster| &cluster.name).filter(|name| !named.contains(name)).cloned().collect();
        for name in gone {
            lock.clusters.remove(&name);
        }
    }

    /// The objects of one cluster in a turn.
    pub fn render(&self, turn: &Turn, given: &Given, cluster: &ClusterName) -> Result<RenderedCluster, Stop> {
        self.context(turn, given)?.render(cluster).map_err(Stop::Findings)
    }

    /// What the objects of all clusters in a turn share.
    pub fn context<'a>(&'a self, turn: &'a Turn, given: &'a Given) -> Result<RenderContext<'a>, Stop> {
        RenderContext::new(&self.mesh, &turn.advanced.lock, &self.templates, given).map_err(Stop::Findings)
    }

    /// Renders and compares every cluster, or `only` one.
    pub fn plan(
        &self,
        turn: &Turn,
        tree: &dyn Tree,
        given: &Given,
        only: Option<&ClusterName>,
        progress: &(dyn Fn() + Sync),
    ) -> Result<Plan, Stop> {
        let lock = &turn.advanced.lock;
        let context = self.context(turn, given)?;
        // a paused cluster keeps its tree byte for byte, whatever its peers do
        let clusters = self.mesh.clusters.values().filter(|cluster| cluster.state != State::Paused);
        let names: Vec<&ClusterName> =
            clusters.map(|cluster| &cluster.name).filter(|name| only.is_none_or(|only| only == *name)).collect();
        let room = Room(AtomicUsize::new(MAX_KEPT_TEXT));
        let one = |name: &&ClusterName| {
            let rendered = context.render(name).map_err(Stop::Findings)?;
            let files = tree.files_to_compare(name.as_str())?;
            let mut changes = compare(&self.mesh.name, name, &rendered, tree, &files)?;
            let mut extra = extra_steps(&self.mesh, name, &rendered, tree, &files)?;
            changes.refused.extend(extra.refused);
            let objects = changes.objects.iter_mut().map(|(_, change)| &mut change.text);
            room.take(objects.chain(extra.steps.iter_mut().map(|step| &mut step.text)));
            progress();
            Ok((changes, extra.steps, rendered.waiting, rendered.warnings))
        };
        let compare_all = || names.par_iter().map(one).collect::<Vec<Result<_, Stop>>>();
        let lock_steps = || turn.accepted.as_ref().map(|_| self.lock_steps(lock)).transpose();
        let beside = || (Graph::build(&self.mesh, lock, only), lock_steps());
        let (compared, (graph, lock_steps)) = rayon::join(compare_all, beside);
        let mut findings = Diagnostics::new();
        let mut gathering = Gathering {
            mesh: &self.mesh,
            news: turn.accepted.as_ref().map(|accepted| &accepted.news),
            advanced: &turn.advanced,
            rendering: BTreeMap::new(),
            refused: BTreeMap::new(),
            objects: BTreeMap::new(),
        };
        let mut plan = Plan::default();
        for result in compared {
            match result {
                Ok((changes, extra, waiting, warnings)) => {
                    plan.warnings.extend(warnings);
                    for (step, change) in changes.objects {
                        gathering.objects.entry(step).or_default().push(change);
                    }
                    gathering.refused.extend(changes.refused);
                    for (step, reason) in waiting {
                        gathering.rendering.entry(step).or_default().push(reason);
                    }
                    plan.extra.extend(extra);
                }
                Err(Stop::Findings(found)) => findings.extend(found),
                Err(stop) => return Err(stop),
            }
        }
        if findings.has_errors() {
            return Err(Stop::Findings(findings));
        }
        if only.is_none() {
            self.sweep(tree, &mut gathering)?;
        }
        let graph = graph?;
        let order = graph.order().filter(|step| only.is_none_or(|only| step.cluster == *only));
        plan.steps = gathering.steps(order);
        plan.trust_changes = turn.accepted.as_ref().map(|accepted| accepted.trust_changes.clone()).unwrap_or_default();
        plan.warnings.extend(equal_subjects(lock));
        plan.warnings.extend(turn.accepted.iter().flat_map(|accepted| accepted.warnings.iter().cloned()));
        plan.lock = lock_steps?.unwrap_or_default();
        plan.moves.clone_from(&turn.advanced.moves);
        plan.notes = notes(&self.mesh, &plan.moves);
        Ok(plan)
    }

    /// Folders of clusters that are neither declared nor known: an empty one of ours goes, anything else is refused.
    fn sweep(&self, tree: &dyn Tree, gathering: &mut Gathering<'_>) -> Result<(), Stop> {
        for folder in tree.clusters()? {
            let Ok(name) = folder.parse::<ClusterName>() else { continue };
            if self.mesh.clusters.contains_key(&name) {
                continue;
            }
            let step = StepId::of(StepKind::RenderComponents, &name);
            let files = tree.files_to_compare(name.as_str())?;
            let changes = compare(&self.mesh.name, &name, &RenderedCluster::default(), tree, &files)?;
            if changes.objects.iter().any(|(_, change)| !change.path.ends_with(crate::model::layout::KUSTOMIZATION)) {
                let words = format!(
                    "`rendered/{name}` holds objects of a cluster that neither spec nor lock knows; restore its document and lock, or delete the folder by hand"
                );
                gathering.refused.insert(step, words);
                gathering.objects.entry(StepId::of(StepKind::RenderComponents, &name)).or_default();
            } else {
                let objects = changes.objects.into_iter().map(|(_, change)| change);
                gathering.objects.entry(step).or_default().extend(objects);
            }
        }
        Ok(())
    }

    fn lock_steps(&self, lock: &Lock) -> Result<Vec<FileStep>, YamlError> {
        let is_same = self.lock == *lock;
        if is_same && self.lock_is_canonical.get() == Some(&true) {
            return Ok(Vec::new());
        }
        let new = lock.to_files()?;
        let gone = self.lock_files.keys().filter(|path| !new.contains_key(*path));
        let gone: Vec<FileStep> =
            gone.map(|path| FileStep { path: path.clone(), action: Action::Delete, text: None }).collect();
        let changed = new.into_iter().filter_map(|(path, text)| {
            let action = match self.lock_files.get(&path) {
                Some(bytes) if bytes == text.as_bytes() => return None,
                Some(_) => Action::Update,
                None => Action::Create,
            };
            Some(FileStep { path, action, text: Some(NewText(text)) })
        });
        let steps: Vec<FileStep> = changed.chain(gone).collect();
        if is_same {
            self.lock_is_canonical.get_or_init(|| steps.is_empty());
        }
        Ok(steps)
    }

    /// The plan as file changes: the lock first, then the tree. Takes the texts out of it.
    pub fn files(&self, turn: &Turn, plan: &mut Plan, given: &Given) -> Result<Vec<FileChange>, Stop> {
        let mut changes: Vec<FileChange> =
            plan.lock.iter_mut().map(|step| change(&step.path, step.text.take().map(|text| text.0))).collect();
        let mut by_cluster: BTreeMap<&str, Vec<Pending<'_>>> = BTreeMap::new();
        for Step { id, objects, .. } in &mut plan.steps {
            for ObjectChange { path, action, text, .. } in objects {
                by_cluster.entry(id.cluster.as_str()).or_default().push((path, *action, text));
            }
        }
        for FileStep { path, action, text } in &mut plan.extra {
            let path: &str = path;
            let cluster = path.split('/').nth(1).unwrap_or_default();
            by_cluster.entry(cluster).or_default().push((path, *action, text));
        }
        let context = self.context(turn, given)?;
        let written: Result<Vec<Vec<FileChange>>, Stop> = by_cluster
            .into_par_iter()
            .map(|(name, files)| {
                let lacks_text = |(_, action, text): &Pending<'_>| *action != Action::Delete && text.is_none();
                let texts = match self.mesh.clusters.get_key_value(name) {
                    Some((name, _)) if files.iter().any(lacks_text) => {
                        texts(name, context.render(name).map_err(Stop::Findings)?)?
                    }
                    _ => BTreeMap::new(),
                };
                let one = |(path, action, text): Pending<'_>| match action {
                    Action::Delete => change(path, None),
                    _ => change(path, text.take().map(|text| text.0).or_else(|| texts.get(path).cloned())),
                };
                Ok(files.into_iter().map(one).collect())
            })
            .collect();
        changes.extend(written?.into_iter().flatten());
        Ok(changes)
    }
}

/// A file that changes: its path, what becomes of it, and its new text where the plan kept it.
type Pending<'a> = (&'a str, Action, &'a mut Option<NewText>);

/// All files of a rendered cluster by path.
fn texts(cluster: &ClusterName, rendered: RenderedCluster) -> Result<BTreeMap<String, String>, YamlError> {
    let folder = rendered_folder(cluster);
    let objects = rendered.objects.into_iter();
    let objects =
        objects.map(|rendered| Ok((format!("{folder}/{}", rendered.id().file_name()), rendered.into_yaml()?)));
    let extra = rendered.extra.into_iter().map(|(path, file)| Ok((path, file.text)));
    objects.chain(extra).collect()
}

/// A file gets this text, or goes.
fn change(path: &str, text: Option<String>) -> FileChange {
    match text {
        Some(text) => FileChange::Write { path: path.to_owned(), bytes: text.into_bytes(), mode: 0o644 },
        None => FileChange::Delete { path: path.to_owned() },
    }
}

/// Room for the new texts of a plan.
struct Room(AtomicUsize);

impl Room {
    /// Takes these texts in, or drops them where they would be too many.
    fn take<'t>(&self, texts: impl Iterator<Item = &'t mut Option<NewText>>) {
        for text in texts {
            let size = text.as_ref().map_or(0, |text| text.0.len());
            let take = |left: usize| left.checked_sub(size);
            if self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                *text = None;
            }
        }
    }
}

/// Files beside the objects that change. Values files that are not ours are in the way; ours go with their target.
fn extra_steps(
    mesh: &Mesh,
    name: &ClusterName,
    rendered: &RenderedCluster,
    tree: &dyn Tree,
    files: &BTreeMap<String, File>,
) -> Result<ExtraChanges, TreeError> {
    let mark = values_mark(&mesh.name);
    let folder = format!("{}/", rendered_folder(name));
    let mut changes = ExtraChanges::default();
    for (path, file) in &rendered.extra {
        let found = match path.strip_prefix(&folder).map(|name| files.get(name)) {
            Some(Some(File::Kept { digest, .. })) if *digest == Digest::of(file.text.as_bytes()) => continue,
            Some(Some(File::Read(bytes))) => Some(Cow::Borrowed(bytes.as_slice())),
            Some(None) => None,
            Some(Some(File::Kept { .. })) | None => tree.file(path)?.map(Cow::Owned),
        };
        let action = match found {
            None => Action::Create,
            Some(bytes) if *bytes == *file.text.as_bytes() => continue,
            Some(bytes) if path.starts_with("values/") && !bytes.starts_with(mark.as_bytes()) => {
                let words = format!(
                    "`{path}` is not ours: it lacks our first line; move it away, and the next turn writes ours"
                );
                changes.refused.push((StepId::of(StepKind::RenderTrust, name), words));
                continue;
            }
            Some(_) => Action::Update,
        };
        let text = Some(NewText(file.text.clone()));
        changes.steps.push(FileStep { path: path.clone(), action, text });
    }
    for file in VALUES_FILES {
        let path = format!("values/{name}/{file}");
        let ours = |bytes: Vec<u8>| bytes.starts_with(mark.as_bytes());
        if !rendered.extra.contains_key(&path) && tree.file(&path)?.is_some_and(ours) {
            changes.steps.push(FileStep { path, action: Action::Delete, text: None });
        }
    }
    Ok(changes)
}

#[derive(Default)]
struct ExtraChanges {
    steps: Vec<FileStep>,
    refused: Vec<(StepId, String)>,
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
