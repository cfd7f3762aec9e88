//! `engine plan` and `engine apply`: one turn of the road, printed or carried out.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::checkout::{Guard, OpenFile};
use crate::model::lock::Lock;
use crate::model::mesh::Mesh;
use crate::model::tree::Tree;
use crate::pipeline::Turn;
use crate::pipeline::observe::Observed;
use crate::pipeline::plan::diff::FieldChange;
use crate::pipeline::plan::{Action, Plan, fields};
use crate::pipeline::render::{Given, RenderedCluster};
use crate::report::format::Output;
use crate::report::markdown::plan_markdown;
use crate::report::text::{Printer, plan_json, plan_text};
use crate::session::base::Base;
use crate::session::exit::{Exit, Failure};
use crate::session::facts;
use crate::session::request::Request;
use crate::session::session::Session;
use crate::types::name::ClusterName;

/// Most files of which it is kept how they were; each is an open file.
const MOST_KEPT: usize = 100;

/// Where a turn's facts come from.
#[derive(Debug)]
pub enum Mode {
    /// From the lock alone.
    Locked,
    /// From the clusters.
    Fetch,
    /// From a stored plan.
    Stored(Observed),
    /// From the lock alone, compared with what a revision renders.
    Base(Box<Base>),
}

/// A turn that was planned.
pub struct Planned {
    turn: Turn,
    given: Given,
    base: Option<Box<Base>>,
    /// Files as they were, once they are about to be replaced. Open, they keep what they held.
    replaced: BTreeMap<String, OpenFile>,
    /// The plan.
    pub plan: Plan,
    /// What was observed; `None` in a locked run.
    pub observed: Option<Observed>,
}

/// What a turn wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Files written.
    pub written: usize,
    /// Files deleted.
    pub deleted: usize,
}

impl Planned {
    /// Plans a turn.
    pub fn new(session: &Session<'_>, request: &Request, mode: Mode, printer: &Printer) -> Result<Self, Failure> {
        let program = &session.program;
        let mut base = None;
        let (mut turn, observed) = match mode {
            Mode::Locked => (program.locked(), None),
            Mode::Base(read) => {
                base = Some(read);
                (program.locked(), None)
            }
            Mode::Stored(observed) => (session.turn(request, &observed), Some(observed)),
            Mode::Fetch => {
                let observed = facts::observe(session, request, printer)?;
                (session.turn(request, &observed), Some(observed))
            }
        };
        if let (Some(only), Some(_)) = (&request.only, &observed) {
            turn.advanced.lock = narrowed(&program.lock, &turn.advanced.lock, only);
        }
        let given = session.given(&turn.advanced.lock)?;
        let total = if request.only.is_some() { 1 } else { program.mesh.clusters.len() };
        let progress = printer.progress("comparing", total);
        let tree: &dyn Tree = base.as_ref().map_or(session, |base| base.tree());
        let mut plan = program.plan(&turn, tree, &given, request.only.as_ref(), &|| progress.step())?;
        if let Some(base) = &base {
            base.compare_lock(session, &mut plan);
        }
        Ok(Self { turn, given, base, replaced: BTreeMap::new(), plan, observed })
    }

    /// How the run ends, apart from what is asked of changes and waits.
    pub fn exit(&self) -> Exit {
        let mut exit = Exit::Done;
        if self.plan.is_refused() {
            exit = exit.and(Exit::Refused);
        }
        if self.plan.counts().failed > 0 {
            exit = exit.and(Exit::Partial);
        }
        exit
    }

    /// The plan as text or JSON.
    pub fn show(&self, session: &Session<'_>, output: Output, verbose: bool) -> String {
        let rendered: Mutex<Option<(ClusterName, RenderedCluster)>> = Mutex::new(None);
        let tree: &dyn Tree = self.base.as_ref().map_or(session, |base| base.tree());
        let context = OnceCell::new();
        let object_fields = |cluster: &ClusterName, path: &str| -> Vec<FieldChange> {
            let before = match self.replaced.get(path) {
                Some(file) => file.read().ok(),
                None => tree.file(path).ok().flatten(),
            };
            let Ok(mut cache) = rendered.lock() else { return Vec::new() };
            if cache.as_ref().is_none_or(|(name, _)| name != cluster) {
                let context = context.get_or_init(|| session.program.context(&self.turn, &self.given).ok());
                let all = context.as_ref().and_then(|context| context.render(cluster).ok());
                *cache = Some((cluster.clone(), all.unwrap_or_default()));
            }
            let file = path.rsplit('/').next().unwrap_or_default();
            let objects = cache.iter().flat_map(|(_, rendered)| &rendered.objects);
            let after = objects.into_iter().find(|rendered| rendered.id().file_name() == file);
            let after = after.and_then(|rendered| rendered.object().ok());
            fields(before.as_deref(), after.as_deref())
        };
        let mesh = &session.program.mesh;
        match output {
            Output::Json => format!("{}\n", plan_json(&self.plan, mesh.name.as_str(), &object_fields)),
            Output::Text => plan_text(&self.plan, &title(mesh), &object_fields, verbose),
            Output::Markdown => plan_markdown(&self.plan, &title(mesh), &object_fields),
        }
    }

    /// Keeps the files that the plan replaces or deletes, up to a limit, so that [`show`](Self::show) can tell what was
    /// different after they were written.
    pub fn keep_replaced(&mut self, session: &Session<'_>) {
        let objects = self.plan.steps.iter().flat_map(|step| &step.objects);
        let paths: Vec<&String> =
            objects.filter(|object| object.action != Action::Create).map(|object| &object.path).collect();
        let open = |path: &String| Some((path.clone(), session.checkout.open_file(path).ok().flatten()?));
        self.replaced = paths.into_iter().take(MOST_KEPT).filter_map(open).collect();
    }

    /// Carries the plan out.
    pub fn write(&mut self, session: &Session<'_>, guard: &Guard<'_>, printer: &Printer) -> Result<Written, Failure> {
        let changes = session.program.files(&self.turn, &mut self.plan, &self.given)?;
        let progress = printer.progress("writing", changes.len());
        let committed = guard.commit(&changes, &|_| progress.step())?;
        session.note_written(&changes);
        Ok(Written { written: committed.written, deleted: committed.deleted })
    }

    /// Whether anything waits.
    pub fn waits(&self) -> bool {
        self.plan.counts().waiting > 0
    }
}

fn title(mesh: &Mesh) -> String {
    let clusters = mesh.clusters.len();
    format!("mesh {} · {clusters} cluster{}", mesh.name, if clusters == 1 { "" } else { "s" })
}

/// The lock with the news of one cluster alone.
fn narrowed(old: &Lock, new: &Lock, only: &ClusterName) -> Lock {
    let mut lock = old.clone();
    match new.clusters.get(only) {
        Some(cluster) => lock.clusters.insert(only.clone(), cluster.clone()),
        None => lock.clusters.remove(only),
    };
    match new.links.get(only) {
        Some(links) => lock.links.insert(only.clone(), links.clone()),
        None => lock.links.remove(only),
    };
    lock
}
