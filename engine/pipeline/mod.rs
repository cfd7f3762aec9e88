//! The road from specs to files, on one page. [`run()`] calls each stage once; every command walks it as far as it needs.
//!
//! 0. `policy`: what specs and lock may hold; and, after 2, what of it that clusters publish.
//!    `renamed`: the tree is one of this mesh. `agreement`: lock and tree name each other, or the cluster stays as it is.
//! 1. `observe`: clusters publish; their public documents are judged before a token is minted for a private one.
//!    `seen`: what the engine could not read itself, relays of its clusters may have read.
//! 2. `accept`: what is harmless goes into the lock, trust changes are held back.
//! 3. `advance`: each link moves as far as what is live allows.
//! 4. `render`: objects of each cluster, from mesh and lock alone.
//! 5. `plan`: what differs from the tree, why, and what waits.
//! 6. `law`: what would open or cut a link before its time is withheld; it judges the lock after 3 and the files after 5.
//! 7. the sink: the plan as files.
//!
//! [`Program::load`] comes before it: specs, templates and lock as one value, which a watch keeps from run to run.

pub mod accept;
pub mod advance;
pub mod agreement;
mod ahead;
mod apply;
pub mod compile;
pub mod law;
pub mod meter;
pub mod observe;
pub mod plan;
mod policy;
pub mod program;
mod recorded;
mod renamed;
pub mod render;
pub mod request;
pub mod run;
pub mod seen;
mod seen_evidence;
pub mod sink;
pub mod template;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;

pub use self::program::{Input, Program, Stop};
pub use self::recorded::{RestoredFrom, RestoredLinks};
pub use self::request::{Base, FactSource, Request, Until, World};
pub use self::run::{Decided, Run, Written};

use self::accept::Accepted;
use self::advance::Advanced;
use self::agreement::Agreement;
use self::law::Breach;
use self::observe::Observed;
use self::observe::signer::EngineSigner;
use self::plan::Plan;
use self::plan::graph::Graph;
use crate::model::lock::Lock;
use crate::types::diagnostic::{Diagnostic, Diagnostics};
use crate::types::name::ClusterName;

/// Takes a run as far as `until` says.
pub fn run(
    program: &Program,
    request: &Request,
    facts: FactSource<'_>,
    until: Until<'_>,
    world: &World<'_>,
) -> Result<Run, Stop> {
    let (mesh, only) = (&program.mesh, request.only.as_ref());
    let policy = world.base.as_ref().and_then(|base| base.policy).or(program.policy.as_ref());
    // who only looks at the state is shown that of any mesh
    let only_reads =
        matches!((&facts, &until), (FactSource::Locked, Until::Ordered | Until::Decided | Until::Compared));
    if let Some(policy) = policy.filter(|_| !only_reads) {
        policy::judge(policy, mesh, &program.lock).ok_or(Some(())).map_err(Stop::Findings)?;
    }
    let agreement = match until {
        // these write nothing and show nothing that could be deleted
        Until::Observed | Until::Ordered | Until::Compared => Agreement::default(),
        Until::Verified | Until::Decided | Until::Rendered | Until::Planned | Until::Written(_) => {
            renamed::refuse_renamed(&mesh.name, world.tree)?;
            agreement::agreement(mesh, (&program.lock, &program.unreadable), world.tree, only)?
        }
    };
    let judge = |observed: &Observed| {
        let mut accepted =
            accept::accept(mesh, &program.lock, observed, &request.approvals, &agreement.named, world.now);
        if let Some(policy) = policy {
            policy::keep_out(policy, &program.lock, &mut accepted);
        }
        ahead::unjoin(mesh, &agreement.ahead, request.allow_delete, &mut accepted);
        accepted
    };
    let observed = match facts {
        FactSource::Locked => None,
        FactSource::Stored(observed) => Some(observed),
        FactSource::Ask { ask, keyring, clock, runtime } => {
            let asked = runtime.block_on(observe::publics(mesh, ask));
            let judged = judge(&asked.observed());
            let signer = EngineSigner { mesh, lock: &judged.lock, keyring, clock };
            let begun = clock();
            let clocks = asked.clocks(begun);
            let own = runtime.block_on(asked.privates(&judged.admitted(), &signer));
            Some(Observed { clocks, ..seen::take(mesh, &program.lock, own).at(begun, clock()) })
        }
    };
    let mut run = Run { observed, ..Run::default() };
    if let Until::Observed = until {
        return Ok(run);
    }
    run.decided.accepted = run.observed.as_ref().map(judge);
    let accepted = run.decided.accepted.as_ref().filter(|_| !request.allow_delete);
    let agreement = ahead::keep_unseen(mesh, accepted, agreement);
    run.agreement = agreement.clone();
    let is_known = |name: &ClusterName| world.narrow.is_none() && !agreement.holds_back(name);
    if let Until::Verified = until {
        run.breaches = law::verify(mesh, &program.lock, world.tree, only, &is_known)?;
        return Ok(run);
    }

    restore(program, request, world, &agreement, &mut run.decided)?;
    match (&run.observed, &run.decided.accepted) {
        (Some(observed), Some(accepted)) => {
            let facts = (observed, accepted, &run.decided.restored);
            let (advanced, withheld) = advanced(program, request, world, &agreement, facts)?;
            (run.decided.advanced, run.decided.withheld) = (advanced, withheld);
        }
        _ => run.decided.advanced.lock = program.lock.clone(),
    }
    run.handed = program.acting_by(&run.decided.advanced.lock).map(Arc::new);
    let handed = run.handed.clone();
    let program = handed.as_deref().unwrap_or(program);
    let mesh = &program.mesh;
    if let Until::Ordered = until {
        run.graph = Some(Graph::build(mesh, &run.decided.advanced.lock, only)?);
    }
    if let Until::Decided | Until::Ordered = until {
        return Ok(run);
    }

    run.given = render::given(mesh, &run.decided.advanced.lock, world.tree, world.narrow)?;
    if let Until::Compared = until {
        return render_all(program, run);
    }
    if let Until::Rendered = until {
        refuse_lost(&agreement, only)?;
        let rendering = run.rendering(program)?;
        let names = mesh.clusters.keys().filter(|name| only.is_none_or(|only| only == *name));
        let one = |name: &ClusterName| {
            let rendered = rendering.render(name).map_err(Stop::Findings)?;
            let (tree, lock) = (world.tree, (&run.decided.advanced.lock, &is_known as &_));
            plan::clusters::refuse_breaches(program, lock, tree, name, &rendered).map(|()| (name.clone(), rendered))
        };
        let rendered = names.map(one).collect::<Result<_, Stop>>()?;
        return Ok(Run { rendered, ..run });
    }

    let planned = plan::clusters::plan(program, &run.decided, &run.given, (request, &agreement), world)?;
    run.plan = planned.plan;
    if let Some(lock) = planned.lock {
        run.decided.advanced.lock = lock;
    }
    world.meter.end();
    compare_locks(program, world, &mut run.plan);
    if let Until::Written(sink) = until {
        sink.planned(program, &run);
        if run.plan.changes_files() {
            let changes = apply::changes(program, &run.decided, &run.given, &mut run.plan)?;
            run.written = sink.write(&changes, world.meter)?;
        }
    }
    Ok(run)
}

/// The one cluster that is rendered is refused where lock or tree lost something of it.
fn refuse_lost(agreement: &Agreement, only: Option<&ClusterName>) -> Result<(), Stop> {
    let Some(lost) = only.and_then(|only| agreement.lost.get(only)) else { return Ok(()) };
    let mut findings = Diagnostics::new();
    for lost in lost {
        findings.push(Diagnostic::refusal(None, lost));
    }
    Err(Stop::Findings(findings))
}

/// Takes the links that the lock lost from the tree and, if that is asked for, from what clusters show.
fn restore(
    program: &Program,
    request: &Request,
    world: &World<'_>,
    agreement: &Agreement,
    decided: &mut Decided,
) -> Result<(), Stop> {
    decided.restored.clone_from(&program.restored);
    if let (Some(accepted), true) = (&mut decided.accepted, request.restore_links) {
        let is_lost = |name: &ClusterName| agreement.holds_back(name);
        recorded::restore_read(&program.mesh, &is_lost, world.tree, accepted, &mut decided.restored)?;
    }
    Ok(())
}

/// What a pull request changes of the lock, which no run decides.
fn compare_locks(program: &Program, world: &World<'_>, plan: &mut Plan) {
    if let Some(base) = &world.base {
        plan.trust_changes = accept::between(&program.mesh, base.lock, &program.lock);
        plan.lock = plan::clusters::changed_lock_files(base.lock_files, &program.lock_files);
    }
}

/// The objects of all clusters.
fn render_all(program: &Program, run: Run) -> Result<Run, Stop> {
    let rendering = run.rendering(program)?;
    let names: Vec<&ClusterName> = program.mesh.clusters.keys().collect();
    let one = |name: &&ClusterName| Ok(((*name).clone(), rendering.render(name).map_err(Stop::Findings)?));
    let rendered = names.par_iter().map(one).collect::<Result<_, Stop>>()?;
    Ok(Run { rendered, ..run })
}

/// Moves the links by what was accepted. What breaks the law stays as it was.
fn advanced(
    program: &Program,
    request: &Request,
    world: &World<'_>,
    agreement: &Agreement,
    (observed, accepted, restored): (&Observed, &Accepted, &RestoredLinks),
) -> Result<(Advanced, Vec<Breach>), Stop> {
    let mesh = &program.mesh;
    let held_back: BTreeSet<&ClusterName> = agreement.lost.keys().collect();
    let mut advanced = advance::advance(mesh, accepted, &held_back, request.allow_delete, world.now);
    advance::gone::forget_the_gone(mesh, &held_back, accepted, &mut advanced);
    advance::gone::refuse_hidden_roots(mesh, accepted, &mut advanced);
    if let Some(only) = &request.only {
        let Advanced { lock, moves, .. } = &mut advanced;
        *lock = narrowed(&program.lock, lock, only);
        // those of other readers are made in their own runs
        moves.retain(|link, moved| lock.link(&link.reader, &link.peer).map(|link| link.stage) == moved.to);
    }
    agreement.accept_anew(mesh, world.tree, &mut advanced.lock, world.now)?;
    agreement.keep_records(&program.lock, &mut advanced.lock);
    agreement.number_entries(&program.lock, &mut advanced.lock);
    let found = agreement.ahead.keys().chain(restored.keys());
    let before = ahead::before(&program.lock, found, accepted);
    let breaches = law::step(mesh, &before, &advanced.lock, &law::seen(mesh, observed), world.now);
    let kept = law::withhold(&before, &mut advanced.lock, &breaches);
    agreement.keep_records(&program.lock, &mut advanced.lock);
    advanced.moves.retain(|link, _| !kept.contains(&link.reader));
    Ok((advanced, breaches))
}

/// The lock with what is new of one cluster alone.
fn narrowed(old: &Lock, new: &Lock, only: &ClusterName) -> Lock {
    let mut lock = old.clone();
    // one that is gone leaves its entry to the links of others, which go in their own runs
    let is_read = old.links.iter().any(|(reader, links)| reader != only && links.contains_key(only));
    if let Some(cluster) = new.clusters.get(only) {
        let mut cluster = cluster.clone();
        // with the last of its own links it forgot what those of others rest on
        if let Some(before) = old.clusters.get(only).filter(|_| is_read && cluster.joined_with.is_none()) {
            cluster.joined_with.clone_from(&before.joined_with);
            cluster.lost = before.lost;
        }
        lock.clusters.insert(only.clone(), cluster);
    } else if !is_read {
        lock.clusters.remove(only);
    }
    // a link is begun when both its ends are in the lock, and a peer that is new is not taken here
    let begun = |peer: &ClusterName| lock.clusters.contains_key(peer) || old.link(only, peer).is_some();
    let links = new.links_of(only).filter(|(peer, _)| begun(peer));
    let links: BTreeMap<_, _> = links.map(|(peer, link)| (peer.clone(), link.clone())).collect();
    if links.is_empty() {
        lock.links.remove(only);
    } else {
        lock.links.insert(only.clone(), links);
    }
    if let Some(serial) = new.serials.get(only) {
        lock.serials.insert(only.clone(), *serial);
    } else if !is_read {
        lock.serials.remove(only);
    }
    lock.forget_unlinked();
    lock
}
