//! What an agent has beside the objects of its cluster: the cluster's key, the time, and what it and its peers publish.

use tokio::runtime::Handle;

use crate::cluster::fetch::Fetcher;
use crate::model::keyring::Keyring;
use crate::pipeline::meter::Unmetered;
use crate::pipeline::observe::{Ask, DocumentDone, Observed, everybody};
use crate::pipeline::tree::Tree;
use crate::pipeline::{FactSource, Program, Request, Run, Stop, Until, World, run};
use crate::roles::relay::OwnKey;
use crate::roles::role;
use crate::types::key::PrivateKey;
use crate::types::time::Timestamp;

/// The cluster as it shows itself to others.
#[derive(Debug)]
pub struct OwnIdentity {
    pub key: PrivateKey,
    /// The CA that issues the certificates of the own exporter, PEM.
    pub authority: String,
}

/// With what a run asks.
#[derive(Clone, Copy)]
pub struct AskingWith<'a> {
    pub keyring: &'a Keyring,
    /// What was observed in the run before.
    pub before: &'a Observed,
    /// Where the questions run.
    pub runtime: &'a Handle,
}

/// What an agent does not know by itself.
pub trait Outside: Clone + Send + Sync + 'static {
    /// The cluster's own key; `None`: it is not known yet.
    fn identity(&self) -> Option<OwnIdentity>;
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// Takes a run with what the clusters publish.
    fn run(
        &self,
        program: &Program,
        request: &Request,
        with: AskingWith<'_>,
        until: Until<'_>,
        tree: &dyn Tree,
    ) -> Result<Run, Stop>;
}

/// That of a process: the key of its relay, its clock, and the network.
#[derive(Debug, Clone)]
pub(super) struct ProcessOutside {
    pub(super) key: OwnKey,
    pub(super) fetcher: Fetcher,
}

impl Outside for ProcessOutside {
    fn identity(&self) -> Option<OwnIdentity> {
        let (key, authority) = self.key.key().zip(self.key.authority())?;
        Some(OwnIdentity { key, authority })
    }

    fn now(&self) -> Timestamp {
        role::now()
    }

    fn run(
        &self,
        program: &Program,
        request: &Request,
        with: AskingWith<'_>,
        until: Until<'_>,
        tree: &dyn Tree,
    ) -> Result<Run, Stop> {
        let AskingWith { keyring, before, runtime } = with;
        let (nothing, done) = (|_: &str| Ok(None), |_: DocumentDone<'_>| {});
        let whom = everybody(&program.mesh);
        let ask = Ask { whom: &whom, before, fetcher: &self.fetcher, files: &nothing, progress: &done };
        let facts = FactSource::Ask { ask, keyring, clock: &role::now, runtime };
        let world = World { now: self.now(), tree, base: None, narrow: None, meter: &Unmetered };
        run(program, request, facts, until, &world)
    }
}
