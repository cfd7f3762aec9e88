//! Facts of a turn: the clusters are asked, and what they say is judged.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::cluster::fetch::{Fetcher, Limits};
use crate::model::lock::Lock;
use crate::model::mesh::State;
use crate::pipeline::observe::signer::EngineSigner;
use crate::pipeline::observe::{Observation, Observed, Private, Progress, Publics, observe_again};
use crate::report::text::Printer;
use crate::session::exit::{Exit, Failure};
use crate::session::request::Request;
use crate::session::session::Session;
use crate::types::name::ClusterName;

/// A runtime for a turn's questions.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(|error| Failure::new(Exit::Machine, format!("starting the network runtime: {error}")))
}

/// Asks all clusters that take part.
pub fn observe(session: &Session<'_>, request: &Request, printer: &Printer) -> Result<Observed, Failure> {
    let clusters = session.program.mesh.clusters.values().filter(|cluster| cluster.state != State::Paused);
    let whom: BTreeSet<ClusterName> = clusters.map(|cluster| cluster.name.clone()).collect();
    let progress = printer.progress("asking clusters", whom.len() * 2);
    let asking = Asking { fetcher: &Fetcher::new(Limits::default()), whom: &whom, before: &Observed::default() };
    Ok(runtime()?.block_on(ask(session, request, &asking, &|_| progress.step())))
}

/// Whom to ask, and what is known.
pub struct Asking<'a> {
    /// Asks.
    pub fetcher: &'a Fetcher,
    /// Only these.
    pub whom: &'a BTreeSet<ClusterName>,
    /// What was observed before, of them and of all others.
    pub before: &'a Observed,
}

/// Asks some clusters; of the others, what is known holds.
pub async fn ask(
    session: &Session<'_>,
    request: &Request,
    asking: &Asking<'_>,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Observed {
    let program = &session.program;
    let Asking { fetcher, whom, before } = asking;
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
    let clock = || crate::session::clock::now().as_second();
    let signer =
        EngineSigner { mesh: &program.mesh, lock: &judged, engine, clusters: clusters.collect(), clock: &clock };
    observe_again(&program.mesh, fetcher, &files, &judge, &signer, progress, whom, before).await
}
