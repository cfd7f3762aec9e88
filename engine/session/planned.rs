//! A run on a checkout: from where its facts come, where it goes, and how it is shown.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::checkout::{Checkout, FileChange, Guard, OpenFile};
use crate::cluster::fetch::{FetchLimits, Fetcher};
use crate::model::lock::Lock;
use crate::model::mesh::{Mesh, State};
use crate::pipeline::meter::{Meter, WorkStage};
use crate::pipeline::observe::{Observed, everybody};
use crate::pipeline::plan::diff::{FieldChange, SHOWN_DIGITS, name_certificates};
use crate::pipeline::plan::{Action, Plan, fields};
use crate::pipeline::render::RenderedCluster;
use crate::pipeline::sink::Sink;
use crate::pipeline::tree::Tree;
use crate::pipeline::{FactSource, Program, Request, Run, Stop, Until, World, Written, run};
use crate::report::bars::Bars;
use crate::report::format::Output;
use crate::report::markdown::plan_markdown;
use crate::report::plan_json::plan_json;
use crate::report::text::{Printer, plan_summary, plan_text};
use crate::session::base::BaseRevision;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::facts::{self, Contact};
use crate::session::session::Session;
use crate::types::name::ClusterName;

/// Most files of which it is kept how they were; each is an open file.
const MOST_KEPT: usize = 100;

/// Where the facts of a run come from.
#[derive(Debug)]
pub enum Mode<'a> {
    /// From the lock alone.
    Locked,
    Fetch,
    /// They were observed before.
    Stored(Observed),
    /// From the lock alone, compared with what a revision renders.
    Base(&'a BaseRevision),
}

/// Takes a run as far as `until` says.
pub fn take(
    session: &Session<'_>,
    request: &Request,
    mode: Mode<'_>,
    until: Until<'_>,
    printer: &Printer,
) -> Result<Run, CommandError> {
    let program: &Program = &session.program;
    let meter = Bars::new(printer);
    let base = if let Mode::Base(base) = &mode { Some(*base) } else { None };
    let world = World {
        now: session.now,
        tree: session,
        base: base.map(BaseRevision::compared),
        narrow: session.narrow(),
        meter: &meter,
    };
    let road = |facts: FactSource<'_>| run(program, request, facts, until, &world);
    let mut taken = match mode {
        Mode::Locked | Mode::Base(_) => road(FactSource::Locked),
        Mode::Stored(observed) => road(FactSource::Stored(observed)),
        Mode::Fetch => {
            let (keyring, runtime) = (session.keyring(), facts::runtime()?);
            let (checkout, fetcher) = (session.checkout, Fetcher::new(FetchLimits::default()));
            let contact = Contact { checkout, keyring: &keyring, fetcher: &fetcher, runtime: runtime.handle() };
            contact.with(&everybody(&program.mesh), &Observed::default(), &meter, road)
        }
    }?;
    if let Some(base) = base {
        base.complete(session, &mut taken.plan)?;
    }
    Ok(taken)
}

/// How a run ends by its plan, apart from what is asked of changes and waits.
pub fn exit_of(plan: &Plan) -> Exit {
    let mut exit = Exit::Done;
    if plan.is_refused() {
        exit = exit.and(Exit::Refused);
    }
    if plan.counts().failed > 0 {
        exit = exit.and(Exit::Partial);
    }
    exit
}

/// Files as they were before they were replaced. Open, they keep what they held.
pub type Replaced = BTreeMap<String, OpenFile>;

/// Keeps the files that a plan replaces or deletes, up to a limit, so that it can be shown after they were written.
pub fn keep_replaced(checkout: &Checkout, plan: &Plan) -> Replaced {
    let objects = plan.steps.iter().flat_map(|step| &step.objects);
    let paths = objects.filter(|object| object.action != Action::Create).map(|object| &object.path);
    let open = |path: &String| Some((path.clone(), checkout.open_file(path).ok().flatten()?));
    paths.take(MOST_KEPT).filter_map(open).collect()
}

/// The plan of a run as text, JSON or Markdown. `tree` is what it was compared with.
pub fn shown(
    program: &Program,
    run: &Run,
    tree: &dyn Tree,
    replaced: &Replaced,
    PlanForm { output, verbose, brief }: PlanForm,
) -> String {
    let rendered: Mutex<Option<(ClusterName, RenderedCluster)>> = Mutex::new(None);
    let owners = root_owners(&[&program.lock, &run.decided.advanced.lock]);
    let rendering = OnceCell::new();
    let object_fields = |cluster: &ClusterName, path: &str| -> Vec<FieldChange> {
        let before = match replaced.get(path) {
            Some(file) => file.read().ok(),
            None => tree.file(path).ok().flatten(),
        };
        let Ok(mut cache) = rendered.lock() else { return Vec::new() };
        if cache.as_ref().is_none_or(|(name, _)| name != cluster) {
            let rendering = rendering.get_or_init(|| run.rendering(program).ok());
            let all = rendering.as_ref().and_then(|rendering| rendering.render(cluster).ok());
            *cache = Some((cluster.clone(), all.unwrap_or_default()));
        }
        let file = path.rsplit('/').next().unwrap_or_default();
        let objects = cache.iter().flat_map(|(_, rendered)| &rendered.objects);
        let after = objects.into_iter().find(|rendered| rendered.id().file_name() == file);
        let after = after.and_then(|rendered| rendered.object().ok());
        let mut changes = fields(before.as_deref(), after.as_deref());
        name_certificates(&mut changes, &|digits| owners.get(digits).cloned());
        changes
    };
    let mesh = &program.mesh;
    let no_fields = |_: &ClusterName, _: &str| Vec::new();
    let fields: &dyn Fn(&ClusterName, &str) -> Vec<FieldChange> = if brief { &no_fields } else { &object_fields };
    match output {
        Output::Json => format!("{}\n", plan_json(&run.plan, &program.warnings, mesh.name.as_str(), fields)),
        Output::Text if brief => plan_summary(&run.plan, &title(mesh)),
        Output::Text => plan_text(&run.plan, &title(mesh), fields, verbose),
        Output::Markdown => plan_markdown(&run.plan, &title(mesh), fields, brief),
    }
}

/// In which form a plan is shown.
#[derive(Debug, Clone, Copy)]
pub struct PlanForm {
    /// As text, JSON or Markdown.
    pub output: Output,
    /// Every field of every object.
    pub verbose: bool,
    /// The names of objects alone.
    pub brief: bool,
}

/// Whose root CA has a digest with these first digits, as fields show them.
fn root_owners(locks: &[&Lock]) -> BTreeMap<String, String> {
    let mut owners: BTreeMap<String, BTreeSet<&ClusterName>> = BTreeMap::new();
    for (name, entry) in locks.iter().flat_map(|lock| &lock.clusters) {
        let retiring = entry.retiring.iter().map(|retiring| &retiring.root);
        for root in entry.public.roots.iter().chain(retiring) {
            owners.entry(root.digest.short(SHOWN_DIGITS)).or_default().insert(name);
        }
    }
    let names = |names: BTreeSet<&ClusterName>| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    owners.into_iter().map(|(digits, owners)| (digits, names(owners))).collect()
}

fn title(mesh: &Mesh) -> String {
    let clusters = mesh.clusters.len();
    let mut text = format!("mesh {} · {clusters} cluster{}", mesh.name, if clusters == 1 { "" } else { "s" });
    for (state, name) in [(State::Paused, "paused"), (State::Leaving, "leaving"), (State::Lost, "lost")] {
        let count = mesh.clusters.values().filter(|cluster| cluster.state == state).count();
        if count > 0 {
            text.push_str(&format!(", {count} {name}"));
        }
    }
    text
}

/// The checkout as a sink.
pub struct TreeSink<'a, F> {
    /// The session, which remembers what was written.
    pub session: &'a Session<'a>,
    pub guard: &'a Guard<'a>,
    /// Sees the plan before it is written.
    pub planned: F,
}

impl<F: FnMut(&Program, &Run)> Sink for TreeSink<'_, F> {
    fn planned(&mut self, program: &Program, run: &Run) {
        (self.planned)(program, run);
    }

    fn write(&mut self, changes: &[FileChange], meter: &dyn Meter) -> Result<Written, Stop> {
        meter.begin(WorkStage::Writing, changes.len());
        let committed = self.guard.commit(changes, &|_| meter.step())?;
        self.session.note_written(changes);
        Ok(Written { written: committed.written, deleted: committed.deleted })
    }
}
