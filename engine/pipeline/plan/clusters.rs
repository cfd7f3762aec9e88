//! The plan of all clusters: each is rendered and compared, in parallel, and what came of it is gathered in the order of the
//! graph.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::model::layout::{KUSTOMIZATION, VALUES, VALUES_FILES, is_below, rendered_folder, values_file, values_mark};
use crate::model::lock::Lock;
use crate::model::mesh::{Mesh, State};
use crate::pipeline::accept::equal_subjects;
use crate::pipeline::agreement::Agreement;
use crate::pipeline::meter::{Meter, Stage};
use crate::pipeline::plan::graph::Graph;
use crate::pipeline::plan::{Action, CompareRefusal, FileStep, Gathering, NewText, Plan, compare, costs, notes};
use crate::pipeline::program::{Program, Stop};
use crate::pipeline::render::{Given, RenderContext, RenderedCluster};
use crate::pipeline::run::Decided;
use crate::pipeline::tree::{File, Tree, TreeError};
use crate::types::diagnostic::Diagnostics;
use crate::types::name::{ClusterName, Digest};
use crate::types::object::YamlError;
use crate::types::step::{StepId, StepKind};

/// Most bytes of new texts that a plan keeps; what is beyond is rendered again when it is written.
const MAX_KEPT_TEXT: usize = 32 << 20;

/// A plan, and the lock that goes with it.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    /// The lock without the moves of clusters that are refused; `None`: none is.
    pub(crate) lock: Option<Lock>,
}

/// Renders and compares every cluster, or `only` one. A cluster in whose folder a file of somebody else is in the way keeps all
/// its files and its links' stages: half of it would be written, and the lock would say that the rest is, too.
pub(crate) fn plan(
    program: &Program,
    decided: &Decided,
    given: &Given,
    tree: &dyn Tree,
    (only, agreement): (Option<&ClusterName>, &Agreement),
    meter: &dyn Meter,
) -> Result<Planned, Stop> {
    let lock = &decided.advanced.lock;
    let context = RenderContext::new(&program.mesh, lock, &program.templates, given).map_err(Stop::Findings)?;
    // a paused cluster keeps its tree byte for byte, whatever its peers do
    let clusters = program.mesh.clusters.values().filter(|cluster| cluster.state != State::Paused);
    let names: Vec<&ClusterName> =
        clusters.map(|cluster| &cluster.name).filter(|name| only.is_none_or(|only| only == *name)).collect();
    let names: Vec<&ClusterName> = names.into_iter().filter(|name| !agreement.holds_back(name)).collect();
    meter.begin(Stage::Comparing, names.len());
    let room = Room(AtomicUsize::new(MAX_KEPT_TEXT));
    let one = |name: &&ClusterName| {
        let rendered = context.render(name).map_err(Stop::Findings)?;
        let files = tree.files_to_compare(name.as_str())?;
        let mut changes = compare(&program.mesh.name, name, &rendered, tree, &files)?;
        let mut extra = extra_steps(&program.mesh, name, &rendered, tree, &files)?;
        changes.refused.extend(extra.refused);
        let objects = changes.objects.iter_mut().map(|(_, change)| &mut change.text);
        room.take(objects.chain(extra.steps.iter_mut().map(|step| &mut step.text)));
        meter.step();
        Ok((changes, extra.steps, rendered.waiting, rendered.warnings))
    };
    let compare_all = || names.par_iter().map(one).collect::<Vec<Result<_, Stop>>>();
    let lock_steps = || decided.accepted.as_ref().map(|_| lock_steps(program, lock, tree)).transpose();
    let beside = || (Graph::build(&program.mesh, lock, only), lock_steps());
    let (compared, (graph, lock_steps)) = rayon::join(compare_all, beside);
    let mut findings = Diagnostics::new();
    let mut gathering = Gathering {
        mesh: &program.mesh,
        news: decided.accepted.as_ref().map(|accepted| &accepted.news),
        advanced: &decided.advanced,
        rendering: BTreeMap::new(),
        refused: BTreeMap::new(),
        lost: agreement,
        objects: BTreeMap::new(),
    };
    let mut plan = Plan::default();
    let mut refused = BTreeSet::new();
    for (name, result) in names.iter().zip(compared) {
        match result {
            Ok((changes, _, waiting, warnings)) if !changes.refused.is_empty() => {
                plan.warnings.extend(warnings);
                gathering.refused.extend(changes.refused);
                for (step, reason) in waiting {
                    gathering.rendering.entry(step).or_default().push(reason);
                }
                refused.insert(*name);
            }
            Ok((changes, extra, waiting, warnings)) => {
                plan.warnings.extend(warnings);
                for (step, change) in changes.objects {
                    gathering.objects.entry(step).or_default().push(change);
                }
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
        sweep(&program.mesh, tree, &mut gathering)?;
    }
    let graph = graph?;
    let order = graph.order().filter(|step| only.is_none_or(|only| step.cluster == *only));
    plan.steps = gathering.steps(order);
    plan.trust_changes = decided.accepted.as_ref().map(|accepted| accepted.trust_changes.clone()).unwrap_or_default();
    plan.warnings.extend(equal_subjects(lock));
    plan.warnings.extend(decided.accepted.iter().flat_map(|accepted| accepted.warnings.iter().cloned()));
    plan.moves.clone_from(&decided.advanced.moves);
    plan.moves.retain(|link, _| !refused.contains(&link.reader));
    plan.notes = costs(&program.lock, &decided.advanced.renamed);
    plan.notes.extend(notes(&program.mesh, &plan.moves));
    let kept = (!refused.is_empty()).then(|| unmoved(&program.lock, lock, &refused));
    plan.lock = match &kept {
        Some(kept) if decided.accepted.is_some() => self::lock_steps(program, kept, tree)?,
        _ => lock_steps?.unwrap_or_default(),
    };
    Ok(Planned { plan, lock: kept })
}

/// The lock with the links of these readers as they were.
fn unmoved(old: &Lock, new: &Lock, readers: &BTreeSet<&ClusterName>) -> Lock {
    let mut lock = new.clone();
    for reader in readers {
        match old.links.get(*reader) {
            Some(links) => lock.links.insert((*reader).clone(), links.clone()),
            None => lock.links.remove(*reader),
        };
        match old.serials.get(*reader) {
            Some(serial) => lock.serials.insert((*reader).clone(), *serial),
            None => lock.serials.remove(*reader),
        };
    }
    lock
}

/// Folders of clusters that are neither declared nor known: an empty one of ours goes, anything else is refused.
fn sweep(mesh: &Mesh, tree: &dyn Tree, gathering: &mut Gathering<'_>) -> Result<(), Stop> {
    for folder in tree.clusters()? {
        let Ok(name) = folder.parse::<ClusterName>() else { continue };
        if mesh.clusters.contains_key(&name) {
            continue;
        }
        let step = StepId::of(StepKind::RenderComponents, &name);
        let files = tree.files_to_compare(name.as_str())?;
        let changes = compare(&mesh.name, &name, &RenderedCluster::default(), tree, &files)?;
        if changes.objects.iter().any(|(_, change)| !change.path.ends_with(KUSTOMIZATION)) {
            gathering.refused.insert(step, CompareRefusal::UnknownCluster { cluster: name.clone() });
            gathering.objects.entry(StepId::of(StepKind::RenderComponents, &name)).or_default();
        } else {
            let objects = changes.objects.into_iter().map(|(_, change)| change);
            gathering.objects.entry(step).or_default().extend(objects);
        }
    }
    Ok(())
}

/// The files of the lock that change. Its files may stand otherwise than we write them though the lock is the same.
fn lock_steps(program: &Program, lock: &Lock, tree: &dyn Tree) -> Result<Vec<FileStep>, YamlError> {
    let is_same = program.lock == *lock;
    if is_same && tree.is_lock_ours(&program.lock_files) {
        return Ok(Vec::new());
    }
    let new = lock.to_files()?;
    let gone = program.lock_files.keys().filter(|path| !new.contains_key(*path));
    let gone: Vec<FileStep> =
        gone.map(|path| FileStep { path: path.clone(), action: Action::Delete, digest: None, text: None }).collect();
    let changed = new.into_iter().filter_map(|(path, text)| {
        let action = match program.lock_files.get(&path) {
            Some(bytes) if bytes == text.as_bytes() => return None,
            Some(_) => Action::Update,
            None => Action::Create,
        };
        let digest = Some(Digest::of(text.as_bytes()));
        Some(FileStep { path, action, digest, text: Some(NewText(text)) })
    });
    let steps: Vec<FileStep> = changed.chain(gone).collect();
    if steps.is_empty() {
        tree.note_lock(&program.lock_files);
    }
    Ok(steps)
}

/// Which files of the lock differ between a base and what stands now.
pub(crate) fn changed_lock_files(base: &BTreeMap<String, Vec<u8>>, now: &BTreeMap<String, Vec<u8>>) -> Vec<FileStep> {
    let step = |path: &String, action| FileStep { path: path.clone(), action, digest: None, text: None };
    let changed = now.iter().filter_map(|(path, bytes)| match base.get(path) {
        Some(before) if before == bytes => None,
        Some(_) => Some(step(path, Action::Update)),
        None => Some(step(path, Action::Create)),
    });
    let gone = base.keys().filter(|path| !now.contains_key(*path)).map(|path| step(path, Action::Delete));
    changed.chain(gone).collect()
}

/// Room for the new texts of a plan. What has no room is rendered again when it is written.
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
            Some(bytes) if is_below(VALUES, path) && !bytes.starts_with(mark.as_bytes()) => {
                let refusal = CompareRefusal::ForeignValues { path: path.clone() };
                changes.refused.push((StepId::of(StepKind::RenderTrust, name), refusal));
                continue;
            }
            Some(_) => Action::Update,
        };
        let (digest, text) = (Some(Digest::of(file.text.as_bytes())), Some(NewText(file.text.clone())));
        changes.steps.push(FileStep { path: path.clone(), action, digest, text });
    }
    for file in VALUES_FILES {
        let path = values_file(name, file);
        let ours = |bytes: Vec<u8>| bytes.starts_with(mark.as_bytes());
        if !rendered.extra.contains_key(&path) && tree.file(&path)?.is_some_and(ours) {
            changes.steps.push(FileStep { path, action: Action::Delete, digest: None, text: None });
        }
    }
    Ok(changes)
}

#[derive(Default)]
struct ExtraChanges {
    steps: Vec<FileStep>,
    refused: Vec<(StepId, CompareRefusal)>,
}
