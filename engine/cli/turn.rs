//! `engine plan` and `engine apply`: one turn of the road, printed or carried out.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::args::{self, Arguments, Output};
use super::base::Base;
use super::exit::{Exit, Failure};
use super::markdown::plan_markdown;
use super::report::{Printer, plan_json, plan_text};
use super::session::Session;
use super::stored::Stored;
use super::{facts, keys, refused};
use crate::accept::{Approvals, engine_keys};
use crate::checkout::{Checkout, Guard, OpenFile};
use crate::diff::FieldChange;
use crate::lock::Lock;
use crate::mesh::Mesh;
use crate::name::ClusterName;
use crate::observe::Observed;
use crate::pipeline::Turn;
use crate::plan::{Action, Plan, fields};
use crate::render::{Given, RenderedCluster};
use crate::tree::Tree;

/// Pause between two turns of `apply --wait`.
const PAUSE: Duration = Duration::from_secs(2);

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

/// What is asked of a turn.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Approved trust changes.
    pub approvals: Approvals,
    /// `--allow-delete`.
    pub allow_delete: bool,
    /// Only this cluster's files.
    pub only: Option<ClusterName>,
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

    fn waits(&self) -> bool {
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

fn target(to: &str) -> Result<(), Failure> {
    match to {
        "tree" => Ok(()),
        "cluster" => Err(refused("`--to cluster`")),
        other => Err(Failure::new(Exit::Usage, format!("--to {}: only `tree` is known", other.escape_debug()))),
    }
}

fn request(arguments: &Arguments, approvals: &args::Approvals, has_lock: bool) -> Result<Request, Failure> {
    let all = !has_lock || (std::io::stdin().is_terminal() && std::io::stderr().is_terminal());
    let parsed = approvals.parse(all).map_err(|words| Failure::new(Exit::Usage, words))?;
    Ok(Request { approvals: parsed, allow_delete: approvals.allow_delete, only: arguments.cluster.clone() })
}

/// `engine plan`.
pub fn plan(arguments: &Arguments, plan: &args::Plan, printer: &Printer) -> Result<Exit, Failure> {
    target(&plan.to)?;
    let checkout = Checkout::open(&arguments.directory)?;
    let locked = plan.locked || plan.base.is_some();
    let session = Session::open(&checkout, arguments, printer, locked && plan.base.is_none())?;
    let request = request(arguments, &plan.approvals, !session.input.lock.is_empty())?;
    let mode = match &plan.base {
        Some(revision) => Mode::Base(Box::new(Base::read(&session, revision)?)),
        None if locked => Mode::Locked,
        None => Mode::Fetch,
    };
    let planned = Planned::new(&session, &request, mode, printer)?;
    printer.form(arguments.output, &planned.show(&session, arguments.output, arguments.verbose));
    for warning in &planned.plan.warnings {
        printer.talk(&warning.text());
    }
    let mut exit = planned.exit();
    if plan.detailed_exitcode && planned.plan.changes_files() {
        exit = exit.and(Exit::Changes);
    }
    if let Some(path) = &plan.out
        && let Some(observed) = planned.observed
    {
        Stored::new(&session, &request, observed)?.write(path)?;
        printer.talk(&format!("stored the plan; `engine apply {}` carries exactly this out", path.display()));
    }
    Ok(exit)
}

/// `engine apply`.
pub fn apply(arguments: &Arguments, apply: &args::Apply, printer: &Printer) -> Result<Exit, Failure> {
    target(&apply.to)?;
    let root = Checkout::open(&arguments.directory)?;
    let guard = root.lock()?;
    let deadline = apply.wait.map(|time| Instant::now() + time);
    loop {
        let (exit, waits, written) = one_turn(arguments, apply, &guard, printer)?;
        let over = deadline.is_none_or(|deadline| Instant::now() + PAUSE >= deadline);
        if !waits || over {
            let unfinished = waits && apply.fail_on_wait;
            return Ok(if unfinished { exit.and(Exit::Partial) } else { exit });
        }
        if written == Written::default() {
            std::thread::sleep(PAUSE);
        }
    }
}

fn one_turn(
    arguments: &Arguments,
    apply: &args::Apply,
    guard: &Guard<'_>,
    printer: &Printer,
) -> Result<(Exit, bool, Written), Failure> {
    let mut session = Session::open(guard, arguments, printer, apply.locked)?;
    let mut request = request(arguments, &apply.approvals, !session.input.lock.is_empty())?;
    if apply.create_keys && engine_keys(&session.program.mesh, &session.program.lock).is_empty() {
        let id = keys::create(guard, &session.program.lock)?;
        printer.talk(&format!(
            "made the engine's key `{id}`: private half in {}, public half in {}",
            super::ENGINE_KEY_PATH,
            Lock::MESH_PATH
        ));
        session = Session::open(guard, arguments, printer, false)?;
    }
    let mode = match (&apply.plan, apply.locked) {
        (Some(path), _) => {
            let (resumed, observed) = Stored::read(path)?.resume(&mut session, request)?;
            request = resumed;
            Mode::Stored(observed)
        }
        (None, true) => Mode::Locked,
        (None, false) => Mode::Fetch,
    };
    let mut planned = Planned::new(&session, &request, mode, printer)?;
    printer.form(arguments.output, &planned.show(&session, arguments.output, arguments.verbose));
    for warning in &planned.plan.warnings {
        printer.talk(&warning.text());
    }
    let written =
        if planned.plan.changes_files() { planned.write(&session, guard, printer)? } else { Written::default() };
    if written != Written::default() {
        printer.talk(&format!("Applied: {} files written, {} deleted.", written.written, written.deleted));
    }
    Ok((planned.exit(), planned.waits(), written))
}
