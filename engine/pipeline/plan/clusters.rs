//! The plan of all clusters: each is rendered and compared, in parallel, and what came of it is gathered in the order of the
//! graph.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::model::layout::{
    GATEWAY_FILE, KUSTOMIZATION, VALUES, VALUES_FILES, is_below, rendered_folder, values_file, values_mark,
};
use crate::model::lock::{Lock, LockedLink};
use crate::model::mesh::{Cluster, Mesh, Reconciler, State};
use crate::pipeline::accept::{EvidenceState, of_lock};
use crate::pipeline::advance::domain_notes;
use crate::pipeline::agreement::Agreement;
use crate::pipeline::law::{self, Breach, ClusterFiles, IsKnown};
use crate::pipeline::meter::WorkStage;
use crate::pipeline::plan::compare::bytes_of;
use crate::pipeline::plan::graph::Graph;
use crate::pipeline::plan::reasons::SecondGateway;
use crate::pipeline::plan::{
    Action, ClusterChanges, CompareRefusal, Compared, FileStep, Gathering, NewText, ObjectChange, Overrides, Plan,
    SecurityChange, SecurityItem, compare, notes, security, strays,
};
use crate::pipeline::program::{Program, Stop};
use crate::pipeline::render::{Given, RenderContext, RenderWait, RenderedCluster};
use crate::pipeline::request::{Request, World};
use crate::pipeline::run::Decided;
use crate::pipeline::template::Overridden;
use crate::pipeline::tree::{File, Tree, TreeError};
use crate::types::diagnostic::{Diagnostic, Diagnostics};
use crate::types::key::KeyId;
use crate::types::name::{ClusterName, Digest};
use crate::types::object::YamlError;
use crate::types::step::{StepId, StepKind};
use crate::types::text::same_lines;

/// Most bytes of new texts that a plan keeps; what is beyond is rendered again when it is written.
const MAX_KEPT_TEXT: usize = 32 << 20;

/// A plan, and the lock that goes with it.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    /// The lock without the moves of clusters that are refused; `None`: none is.
    pub(crate) lock: Option<Lock>,
}

/// Renders and compares every cluster, or `only` one, with the files of the checkout or with what a base renders. A cluster in
/// whose folder a file of someone else lies keeps all its files and its links' stages: half of it would be written, and the lock
/// would say that the rest is, too.
pub(crate) fn plan(
    program: &Program,
    decided: &Decided,
    given: &Given,
    (request, agreement): (&Request, &Agreement),
    world: &World<'_>,
) -> Result<Planned, Stop> {
    let only = request.only.as_ref();
    let (lock, meter) = (&decided.advanced.lock, world.meter);
    let (mesh, tree) = (&program.mesh, world.base.as_ref().map_or(world.tree, |base| base.tree));
    let context = RenderContext::new(&program.mesh, lock, &program.templates, given).map_err(Stop::Findings)?;
    // a paused cluster keeps its tree byte for byte, whatever its peers do
    let clusters = program.mesh.clusters.values().filter(|cluster| cluster.state != State::Paused);
    let is_planned = |name: &&ClusterName| only.is_none_or(|only| only == *name) && !agreement.holds_back(name);
    let names: Vec<&ClusterName> = clusters.map(|cluster| &cluster.name).filter(is_planned).collect();
    meter.begin(WorkStage::Comparing, names.len());
    let budget = TextBudget(AtomicUsize::new(MAX_KEPT_TEXT));
    let one = |name: &&ClusterName| {
        let mut one = of_cluster(program, (&context, decided), name, (request, agreement), world)?;
        let objects = one.changes.objects.iter_mut().map(|(_, change)| &mut change.text);
        budget.take(objects.chain(one.extra.iter_mut().map(|step| &mut step.text)));
        meter.step();
        Ok(one)
    };
    let compare_all = || names.par_iter().map(one).collect::<Vec<Result<_, Stop>>>();
    let lock_steps = || decided.accepted.as_ref().map(|_| lock_steps(program, lock, tree)).transpose();
    let beside = || (Graph::build(&program.mesh, lock, only), lock_steps());
    let (compared, (graph, lock_steps)) = rayon::join(compare_all, beside);
    let mut findings = Diagnostics::new();
    let mut gathering = Gathering {
        mesh: &program.mesh,
        assessments: decided.accepted.as_ref().map(|accepted| &accepted.assessments),
        advanced: &decided.advanced,
        rendering: BTreeMap::new(),
        refused: BTreeMap::new(),
        withheld: BTreeMap::new(),
        lost: agreement,
        objects: BTreeMap::new(),
    };
    let mut plan = Plan { compared: compared_with(decided, world), ..Plan::default() };
    let mut refused = BTreeSet::new();
    gathering.withhold(&decided.withheld);
    let mut overrides = Overrides::default();
    for (name, result) in names.iter().zip(compared) {
        match result {
            Ok(one) => {
                plan.warnings.extend(one.warnings);
                plan.differing.extend(one.differing);
                for (path, fields) in one.overrides {
                    overrides.add(name, &path, fields);
                }
                for (step, reason) in one.waiting {
                    gathering.rendering.entry(step).or_default().push(reason);
                }
                if !one.changes.refused.is_empty() || !one.breaches.is_empty() {
                    for (step, refusal) in one.changes.refused {
                        gathering.refuse(step, refusal);
                    }
                    gathering.withhold(&one.breaches);
                    refused.extend(one.keeps_links.then_some(*name));
                    continue;
                }
                for (step, change) in one.changes.objects {
                    gathering.objects.entry(step).or_default().push(change);
                }
                plan.extra.extend(one.extra);
            }
            Err(Stop::Findings(found)) => findings.extend(found),
            Err(stop) => return Err(stop),
        }
    }
    if findings.has_errors() {
        return Err(Stop::Findings(findings));
    }
    if only.is_none() {
        sweep(mesh, (tree, world.tree), &mut gathering)?;
    }
    plan.security = not_ours(mesh, world.tree, (only, agreement), &gathering)?;
    plan.overrides = overrides.in_force();
    let graph = graph?;
    let order = graph.order().filter(|step| only.is_none_or(|only| step.cluster == *only));
    plan.steps = gathering.steps(order);
    plan.trust_changes = decided.accepted.as_ref().map(|accepted| accepted.trust_changes.clone()).unwrap_or_default();
    plan.warnings.extend(of_lock(&program.mesh, lock));
    plan.warnings.extend(decided.accepted.iter().flat_map(|accepted| accepted.warnings.iter().cloned()));
    plan.moves.clone_from(&decided.advanced.moves);
    plan.moves.retain(|link, _| !refused.contains(&link.reader));
    let mut kept = (!refused.is_empty()).then(|| lock.clone());
    if let Some(kept) = &mut kept {
        agreement.keep_links(&program.lock, kept, &refused);
    }
    plan.security.extend(security::of_run(
        program,
        decided,
        &plan,
        (given, only, &names.iter().copied().collect()),
        (world.tree, world.base.as_ref()),
    )?);
    plan.sort_security();
    plan.notes.extend(domain_notes(&program.mesh, &program.lock, kept.as_ref().unwrap_or(lock)));
    plan.notes.extend(notes(&program.mesh, kept.as_ref().unwrap_or(lock), &plan.moves));
    plan.lock = match &kept {
        Some(kept) if decided.accepted.is_some() => self::lock_steps(program, kept, tree)?,
        _ => lock_steps?.unwrap_or_default(),
    };
    let is_former = |step: &&FileStep| program.lock_files.get(&step.path).is_some_and(|bytes| Lock::is_former(bytes));
    plan.former_lock = plan.lock.iter().filter(is_former).count();
    Ok(Planned { plan, lock: kept })
}

/// Whether the files of what runs in a cluster would all go, though it is declared to stay.
fn takes_components<'f>(
    mesh: &Mesh,
    lock: &Lock,
    name: &ClusterName,
    rendered: &RenderedCluster,
    mut files: impl Iterator<Item = &'f String>,
) -> bool {
    let stays = mesh.clusters.get(name).is_some_and(|cluster| !cluster.state.is_going()) && !is_given(lock, name);
    let is_rendered = || rendered.objects.iter().any(|object| is_component(&object.id().file_name()));
    stays && files.any(|file| is_component(file)) && !is_rendered()
}

/// Whether the east-west gateway goes that was rendered for a cluster, while peers may send requests through it. What an agent has
/// joined its cluster with is not known here.
fn takes_gateway<'f>(
    mesh: &Mesh,
    lock: &Lock,
    name: &ClusterName,
    rendered: &RenderedCluster,
    mut files: impl Iterator<Item = &'f String>,
) -> bool {
    let Some(cluster) = mesh.clusters.get(name).filter(|cluster| cluster.state != State::Lost) else { return false };
    let is_linked = || lock.links.values().any(|links| links.get(name).is_some_and(LockedLink::may_be_live));
    let is_read = || is_linked() || (cluster.reconciler == Reconciler::Agent && !cluster.state.is_going());
    files.any(|file| file == GATEWAY_FILE) && !renders_gateway(rendered) && is_read() && !is_given(lock, name)
}

fn renders_gateway(rendered: &RenderedCluster) -> bool {
    rendered.objects.iter().any(|object| object.id().file_name() == GATEWAY_FILE)
}

/// A warning of a cluster that gets an east-west gateway and has one.
fn second_gateway<'f>(
    mesh: &Mesh,
    lock: &Lock,
    name: &ClusterName,
    rendered: &RenderedCluster,
    mut files: impl Iterator<Item = &'f String>,
) -> Option<Diagnostic> {
    let cluster =
        mesh.clusters.get(name).filter(|_| renders_gateway(rendered) && !files.any(|file| file == GATEWAY_FILE))?;
    let published = lock.clusters.get(name).and_then(|entry| entry.private.as_ref())?;
    let gateways = published.gateways.iter().map(ToString::to_string).collect();
    let finding = SecondGateway { cluster: name, gateways };
    (!published.gateways.is_empty()).then(|| Diagnostic::warning(Some(cluster.at.clone()), finding))
}

/// Whether another checkout was given the cluster: what leaves the folder stays in the cluster, by its marks.
fn is_given(lock: &Lock, name: &ClusterName) -> bool {
    let hand_over = lock.clusters.get(name).and_then(|entry| entry.hand_over);
    let is_to_others = hand_over.is_some_and(|hand_over| hand_over.to == Reconciler::External);
    is_to_others && lock.acts_in(name) == Some(Reconciler::External)
}

/// Whether another tool is to deploy a cluster while links name it: what was written for it before stays for these.
fn is_left_to_others<'f>(
    mesh: &Mesh,
    lock: &Lock,
    name: &ClusterName,
    mut files: impl Iterator<Item = &'f String>,
) -> bool {
    let deploys = |cluster: &Cluster| matches!(cluster.reconciler, Reconciler::Rendered | Reconciler::Agent);
    let is_of_others = mesh.clusters.get(name).is_some_and(|cluster| !deploys(cluster));
    is_of_others
        && !is_given(lock, name)
        && files.any(|file| is_component(file))
        && lock.linked().any(|linked| linked == name)
}

/// The engine's key of another checkout whose run is live in a cluster that is rendered here for the first time, or for the first time
/// again: no link here that may be live tells of it, and this checkout has no run of that key.
fn others_write(
    program: &Program,
    decided: &Decided,
    name: &ClusterName,
    tree: &dyn Tree,
) -> Result<Option<KeyId>, TreeError> {
    let lock = &program.lock;
    let is_rendered = program.mesh.clusters.get(name).is_some_and(|cluster| cluster.reconciler == Reconciler::Rendered);
    let is_restored = || decided.restored.keys().any(|link| link.ends().contains(&name));
    let is_linked = || !lock.only_joins(name) || is_restored();
    if !is_rendered || lock.engine_keys.is_empty() || is_linked() {
        return Ok(None);
    }
    let assessment = decided.accepted.as_ref().and_then(|accepted| accepted.assessments.get(name));
    let Some(EvidenceState::Published(evidence)) = assessment.map(|assessment| &assessment.evidence) else {
        return Ok(None);
    };
    let Some(key) = evidence.writer.as_ref().filter(|key| !lock.engine_keys.contains_key(*key)) else {
        return Ok(None);
    };
    // a key of this checkout that was replaced since
    let is_own = security::written_peers(tree, name)?.is_some_and(|peers| peers.writer.as_ref() == Some(key));
    Ok((!is_own).then(|| key.clone()))
}

/// Keeps what would go. Whether anything would.
fn drop_deletions(changes: &mut ClusterChanges, extra: &mut ExtraChanges) -> bool {
    let before = changes.objects.len() + extra.steps.len();
    changes.objects.retain(|(_, change)| change.action != Action::Delete);
    extra.steps.retain(|step| step.action != Action::Delete);
    changes.objects.len() + extra.steps.len() < before
}

/// A file of what runs in a cluster.
fn is_component(file: &str) -> bool {
    file.starts_with("deployment.apps-isthmus-")
}

/// With what a plan is compared.
fn compared_with(decided: &Decided, world: &World<'_>) -> Compared {
    match (&world.base, &decided.accepted) {
        (Some(base), _) => Compared::Revision(base.revision.to_owned()),
        (None, Some(_)) => Compared::Asked,
        (None, None) => Compared::Locked,
    }
}

/// Renders and compares one cluster.
fn of_cluster(
    program: &Program,
    (context, decided): (&RenderContext<'_>, &Decided),
    name: &ClusterName,
    (request, agreement): (&Request, &Agreement),
    world: &World<'_>,
) -> Result<ClusterOutcome, Stop> {
    let lock = &decided.advanced.lock;
    let (mesh, tree) = (&program.mesh, world.base.as_ref().map_or(world.tree, |base| base.tree));
    let is_known = |name: &ClusterName| world.narrow.is_none() && !agreement.holds_back(name);
    let mut rendered = context.render(name).map_err(Stop::Findings)?;
    let files = tree.files_to_compare(name.as_str())?;
    let mut changes = compare(&mesh.name, name, &rendered, tree, &files)?;
    let mut extra = extra_steps((mesh, lock), name, &rendered, tree, &files)?;
    let is_kept = is_left_to_others(mesh, lock, name, files.keys()) && drop_deletions(&mut changes, &mut extra);
    if is_kept {
        let wait = RenderWait::LinksOfFolder { cluster: name.clone() };
        rendered.waiting.push((StepId::of(StepKind::RenderComponents, name), wait));
    }
    let mut differing = Vec::new();
    if world.base.is_some() {
        // what lies in the checkout is judged by itself: a merge brings it, whatever the specs say
        let files = world.tree.files_to_compare(name.as_str())?;
        let found = compare(&mesh.name, name, &rendered, world.tree, &files)?;
        let found_extra = extra_steps((mesh, lock), name, &rendered, world.tree, &files)?;
        (changes.refused, extra.refused) = (found.refused, found_extra.refused);
        differing.extend(found.objects.into_iter().map(|(_, change)| change.path));
        differing.extend(found_extra.steps.into_iter().map(|step| step.path));
    }
    changes.refused.extend(extra.refused);
    if !request.allow_delete && !is_kept && takes_components(mesh, lock, name, &rendered, files.keys()) {
        let refusal = CompareRefusal::WholeFolder { cluster: name.clone() };
        changes.refused.push((StepId::of(StepKind::RenderComponents, name), refusal));
    }
    if !request.allow_delete && !is_kept && takes_gateway(mesh, lock, name, &rendered, files.keys()) {
        let refusal = CompareRefusal::Gateway { cluster: name.clone() };
        changes.refused.push((StepId::of(StepKind::RenderComponents, name), refusal));
    }
    if let Some(key) = others_write(program, decided, name, tree)? {
        let refusal = CompareRefusal::OthersWrite { cluster: name.clone(), key };
        changes.refused.push((StepId::of(StepKind::RenderComponents, name), refusal));
    }
    rendered.warnings.extend(second_gateway(mesh, lock, name, &rendered, files.keys()));
    let is_changed = !changes.objects.is_empty() || !extra.steps.is_empty();
    let breaches = if is_changed && changes.refused.is_empty() {
        judged(program, (lock, &is_known), name, tree, &files, (&changes.objects, &extra.steps))?
    } else {
        Vec::new()
    };
    // components that are left of a cluster that others have say nothing of its links
    let is_left = |refusal: &CompareRefusal| matches!(refusal, CompareRefusal::WholeFolder { .. });
    let keeps_links = !rendered.objects.is_empty()
        || program.lock.acts_in(name) == Some(Reconciler::Rendered)
        || changes.refused.iter().any(|(_, refusal)| !is_left(refusal));
    let RenderedCluster { waiting, warnings, overrides, .. } = rendered;
    Ok(ClusterOutcome { changes, extra: extra.steps, differing, waiting, warnings, overrides, breaches, keeps_links })
}

/// Every file of the checkout that is not ours, whether a step of a cluster says it or not.
fn not_ours(
    mesh: &Mesh,
    tree: &dyn Tree,
    (only, agreement): (Option<&ClusterName>, &Agreement),
    gathering: &Gathering<'_>,
) -> Result<Vec<SecurityItem>, Stop> {
    let in_step = |refusal: &CompareRefusal| SecurityItem {
        is_step: true,
        ..SecurityItem::refused(SecurityChange::File(refusal.clone()))
    };
    let kept = mesh.clusters.values().filter(|cluster| {
        let is_asked = only.is_none_or(|only| *only == cluster.name);
        is_asked && (cluster.state == State::Paused || agreement.holds_back(&cluster.name))
    });
    let kept: BTreeSet<&ClusterName> = kept.map(|cluster| &cluster.name).collect();
    let strays = strays::strays(mesh, tree, only, &kept)?.into_iter();
    let strays = strays.map(|refusal| SecurityItem::refused(SecurityChange::File(refusal)));
    Ok(gathering.refused.values().flatten().map(in_step).chain(strays).collect())
}

/// Refuses what is rendered for a cluster and lacks what its links need, or leaves nothing running in it. There is no file to keep.
pub(crate) fn refuse_breaches(
    program: &Program,
    lock: (&Lock, IsKnown<'_>),
    tree: &dyn Tree,
    name: &ClusterName,
    rendered: &RenderedCluster,
) -> Result<(), Stop> {
    let names = tree.names(name.as_str())?;
    if takes_gateway(&program.mesh, lock.0, name, rendered, names.iter()) {
        let refusal = CompareRefusal::Gateway { cluster: name.clone() };
        return Err(Stop::Findings(Diagnostic::refusal(None, refusal).into()));
    }
    if is_left_to_others(&program.mesh, lock.0, name, names.iter())
        || takes_components(&program.mesh, lock.0, name, rendered, names.iter())
    {
        let refusal = CompareRefusal::WholeFolder { cluster: name.clone() };
        return Err(Stop::Findings(Diagnostic::refusal(None, refusal).into()));
    }
    let mut files = ClusterFiles::default();
    for object in &rendered.objects {
        let text = match object.to_yaml()? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        files.rendered.insert(Cow::Owned(object.id().file_name()), text);
    }
    let folder = format!("{}/", rendered_folder(name));
    let values = program.mesh.clusters.get(name).and_then(|cluster| law::values_path(lock.0, cluster));
    for (path, file) in &rendered.extra {
        let text = Cow::Borrowed(file.text.as_bytes());
        match path.strip_prefix(folder.as_str()) {
            Some(name) => drop(files.rendered.insert(Cow::Borrowed(name), text)),
            None if values.as_deref() == Some(path.as_str()) => files.values = Some(text),
            None => {}
        }
    }
    let mut findings = Diagnostics::new();
    for breach in law::state(&program.mesh, lock, name, &ClusterFiles::default(), &files) {
        findings.push(Diagnostic::refusal(None, breach));
    }
    if findings.has_errors() { Err(Stop::Findings(findings)) } else { Ok(()) }
}

/// What became of one cluster.
struct ClusterOutcome {
    changes: ClusterChanges,
    extra: Vec<FileStep>,
    /// Files of the checkout that are not as they are rendered, where something else is compared.
    differing: Vec<String>,
    waiting: Vec<(StepId, RenderWait)>,
    warnings: Vec<Diagnostic>,
    overrides: BTreeMap<Arc<str>, Vec<Overridden>>,
    breaches: Vec<Breach>,
    /// Whether its links stay as they were where something of it is refused.
    keeps_links: bool,
}

/// What the files of a cluster would lack by the law, reported at the steps of its links.
fn judged(
    program: &Program,
    lock: (&Lock, IsKnown<'_>),
    name: &ClusterName,
    tree: &dyn Tree,
    files: &BTreeMap<String, File>,
    (objects, extra): (&[(StepId, ObjectChange)], &[FileStep]),
) -> Result<Vec<Breach>, TreeError> {
    let folder = rendered_folder(name);
    let mut before = ClusterFiles::default();
    for (file, content) in files {
        if let Some(bytes) = bytes_of(tree, &folder, file, content)? {
            before.rendered.insert(Cow::Borrowed(file), bytes);
        }
    }
    let values = program.mesh.clusters.get(name).and_then(|cluster| law::values_path(lock.0, cluster));
    if let Some(path) = &values {
        before.values = tree.file(path)?.map(Cow::Owned);
    }
    let mut after = before.clone();
    let objects = objects.iter().map(|(_, change)| (change.path.as_str(), &change.text));
    for (path, text) in objects.chain(extra.iter().map(|step| (step.path.as_str(), &step.text))) {
        let text = text.as_ref().map(|text| Cow::Borrowed(text.0.as_bytes()));
        let file = path.strip_prefix(folder.as_str()).and_then(|file| file.strip_prefix('/'));
        match (file, text) {
            (Some(file), Some(bytes)) => drop(after.rendered.insert(Cow::Borrowed(file), bytes)),
            (Some(file), None) => drop(after.rendered.remove(file)),
            (None, text) if values.as_deref() == Some(path) => after.values = text,
            (None, _) => {}
        }
    }
    Ok(law::state(&program.mesh, lock, name, &before, &after))
}

/// Folders of clusters that are neither declared nor known: an empty one of ours goes, anything else is refused. What goes is
/// that of `tree`, what is refused that of the checkout.
fn sweep(mesh: &Mesh, (tree, checkout): (&dyn Tree, &dyn Tree), gathering: &mut Gathering<'_>) -> Result<(), Stop> {
    let unknown = |tree: &dyn Tree| -> Result<Vec<ClusterName>, TreeError> {
        let names = tree.clusters()?.into_iter().filter_map(|folder| folder.parse::<ClusterName>().ok());
        Ok(names.filter(|name| !mesh.clusters.contains_key(name)).collect())
    };
    let mut kept = BTreeSet::new();
    for name in unknown(checkout)? {
        let step = StepId::of(StepKind::RenderComponents, &name);
        let files = checkout.files_to_compare(name.as_str())?;
        let refused = compare(&mesh.name, &name, &RenderedCluster::default(), checkout, &files)?.refused;
        for (_, refusal) in refused {
            gathering.objects.entry(step.clone()).or_default();
            gathering.refuse(step.clone(), refusal);
            kept.insert(name.clone());
        }
    }
    for name in unknown(tree)?.into_iter().filter(|name| !kept.contains(name)) {
        let step = StepId::of(StepKind::RenderComponents, &name);
        let files = tree.files_to_compare(name.as_str())?;
        let changes = compare(&mesh.name, &name, &RenderedCluster::default(), tree, &files)?;
        if changes.objects.iter().any(|(_, change)| !change.path.ends_with(KUSTOMIZATION)) {
            gathering.refuse(step, CompareRefusal::UnknownCluster { cluster: name.clone() });
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
    let gone = program.lock_files.keys().filter(|path| !new.contains_key(*path) && !program.unreadable.has(path));
    let gone: Vec<FileStep> =
        gone.map(|path| FileStep { path: path.clone(), action: Action::Delete, digest: None, text: None }).collect();
    let changed = new.into_iter().filter_map(|(path, text)| {
        let action = match program.lock_files.get(&path) {
            Some(bytes) if same_lines(bytes, text.as_bytes()) => return None,
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

/// Which files of the lock differ between a base and what is there now.
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

/// How many bytes of new texts a plan keeps. What does not fit is rendered again when it is written.
struct TextBudget(AtomicUsize);

impl TextBudget {
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

/// Files beside the objects that change. Values files that are not ours are in the way; ours go with their target, unless the cluster is
/// another checkout's: what installs Istio there has them from here until it takes them over, too.
fn extra_steps(
    (mesh, lock): (&Mesh, &Lock),
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
            Some(Some(File::Kept { .. } | File::Made { .. })) | None => tree.file(path)?.map(Cow::Owned),
        };
        let action = match found {
            None => Action::Create,
            Some(bytes) if same_lines(&bytes, file.text.as_bytes()) => continue,
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
        let ours = |bytes: &[u8]| bytes.starts_with(mark.as_bytes());
        if rendered.extra.contains_key(&path) {
            continue;
        }
        match tree.file(&path)? {
            Some(bytes) if ours(&bytes) && lock.acts_in(name) == Some(Reconciler::External) => {}
            Some(bytes) if ours(&bytes) => {
                changes.steps.push(FileStep { path, action: Action::Delete, digest: None, text: None });
            }
            Some(_) => {
                let refusal = CompareRefusal::ForeignValues { path };
                changes.refused.push((StepId::of(StepKind::RenderTrust, name), refusal));
            }
            None => {}
        }
    }
    Ok(changes)
}

#[derive(Default)]
struct ExtraChanges {
    steps: Vec<FileStep>,
    refused: Vec<(StepId, CompareRefusal)>,
}
