//! Asking the clusters of a checkout.

use std::collections::BTreeSet;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::checkout::Checkout;
use crate::cluster::fetch::Fetcher;
use crate::model::keyring::Keyring;
use crate::pipeline::meter::{Meter, Unmetered, WorkStage};
use crate::pipeline::observe::{Ask, Observed};
use crate::pipeline::{FactSource, Program, Request, Stop, Until, World, run};
use crate::session::clock;
use crate::session::error::RuntimeError;
use crate::types::name::ClusterName;

/// Threads for what waits for the network.
pub fn runtime() -> Result<Runtime, RuntimeError> {
    let built = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(RuntimeError)
}

/// What asking needs of the world.
pub struct Contact<'a> {
    /// The checkout, whose folders some endpoints are.
    pub checkout: &'a Checkout,
    pub keyring: &'a Keyring,
    pub fetcher: &'a Fetcher,
    /// Where the questions run.
    pub runtime: &'a Handle,
}

impl Contact<'_> {
    /// Does something with facts that come from these clusters. `before` is what was observed before, of them and of all others.
    pub fn with<T>(
        &self,
        whom: &BTreeSet<ClusterName>,
        before: &Observed,
        meter: &dyn Meter,
        work: impl FnOnce(FactSource<'_>) -> T,
    ) -> T {
        let files = |path: &str| self.checkout.read(path);
        let progress = |_: crate::pipeline::observe::DocumentDone<'_>| meter.step();
        let clock = clock::now;
        meter.begin(WorkStage::Asking, whom.len() * 2);
        let ask = Ask { whom, before, fetcher: self.fetcher, files: &files, progress: &progress };
        work(FactSource::Ask { ask, keyring: self.keyring, clock: &clock, runtime: self.runtime })
    }

    /// What these clusters publish.
    pub fn observe(
        &self,
        program: &Program,
        whom: &BTreeSet<ClusterName>,
        before: &Observed,
    ) -> Result<Observed, Stop> {
        let world = World { now: clock::now(), tree: self.checkout, base: None, narrow: None, meter: &Unmetered };
        let asked = |facts: FactSource<'_>| run(program, &Request::default(), facts, Until::Observed, &world);
        Ok(self.with(whom, before, &Unmetered, asked)?.observed.unwrap_or_default())
    }
}
