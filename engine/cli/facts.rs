//! Facts of a turn: the clusters are asked, and what they say is judged.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::exit::{Exit, Failure};
use super::report::Printer;
use super::session::Session;
use super::turn::{Request, conditions};
use crate::advance::{Link, Trials};
use crate::cluster::fetch::{Fetcher, Limits};
use crate::cluster::trial::try_credentials;
use crate::lock::Lock;
use crate::mesh::{Cluster, Credentials, State};
use crate::observe::{Observation, Observed, Private, Publics, observe as ask};
use crate::pipeline::Turn;
use crate::signer::EngineSigner;

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(|error| Failure::new(Exit::Machine, format!("starting the network runtime: {error}")))
}

/// Asks all clusters that take part.
pub fn observe(session: &Session<'_>, request: &Request, printer: &Printer) -> Result<Observed, Failure> {
    let program = &session.program;
    let active = program.mesh.clusters.values().filter(|cluster| cluster.state != State::Paused).count();
    let progress = printer.progress("asking clusters", active * 2);
    let fetcher = Fetcher::new(Limits::default());
    let files = |path: &str| session.checkout.read(path).map_err(|error| error.to_string());
    let judged: Mutex<Lock> = Mutex::new(program.lock.clone());
    let judge = |publics: &Publics| {
        let observation = |public: &Result<_, _>| Observation { public: public.clone(), private: Private::NotAsked };
        let clusters = publics.iter().map(|(name, public)| (name.clone(), observation(public))).collect();
        let (lock, admitted) = program.admits(&Observed { clusters }, &request.approvals, session.now);
        if let Ok(mut judged) = judged.lock() {
            *judged = lock;
        }
        admitted
    };
    let engine = session.engine_key(&program.lock);
    let owners = program.mesh.clusters.values();
    let clusters = owners.filter_map(|cluster| Some((cluster.name.clone(), session.cluster_key(cluster).ok()?)));
    let clock = || jiff::Timestamp::now().as_second();
    let signer =
        EngineSigner { mesh: &program.mesh, lock: &judged, engine, clusters: clusters.collect(), clock: &clock };
    let observed = runtime()?.block_on(ask(&program.mesh, &fetcher, &files, &judge, &signer, &|_| progress.step()));
    Ok(observed)
}

/// A turn on what was observed. In direct mode, credentials that the turn would write are tried against their peers first;
/// each is tried once, so the turns end.
pub fn turn(session: &Session<'_>, request: &Request, observed: &Observed) -> Result<Turn, Failure> {
    let program = &session.program;
    let mut trials = Trials::new();
    // keys are judged by what this turn accepts, which a first contact or an accepted key is part of
    let recorded = match program.mesh.credentials {
        Credentials::Direct { .. } => program.admits(observed, &request.approvals, session.now).0,
        Credentials::Relay { .. } => Lock::default(),
    };
    let keys = session.credentials(&recorded, false)?;
    let missing = |cluster: &Cluster| keys.missing(cluster);
    loop {
        let turn = program.turn(observed, &request.approvals, &conditions(session, request, &trials, &missing));
        let to_try: BTreeMap<Link, u32> = turn
            .advanced
            .to_try
            .iter()
            .filter(|(link, _)| !trials.contains_key(*link))
            .map(|(k, v)| (k.clone(), *v))
            .collect();
        if program.mesh.credentials.is_relay() || to_try.is_empty() {
            return Ok(turn);
        }
        let lock = &turn.advanced.lock;
        let credentials = session.credentials(lock, false)?;
        let fetcher = Fetcher::new(Limits::default());
        trials.extend(runtime()?.block_on(try_credentials(&program.mesh, lock, &to_try, &credentials, &fetcher)));
    }
}
