//! Asks clusters beside everything else, and keeps what each answered last.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;

use crate::checkout::Checkout;
use crate::cluster::fetch::{FetchLimits, Fetcher};
use crate::model::mesh::{Cluster, State};
use crate::pipeline::Program;
use crate::pipeline::observe::{EVIDENCE_HOLDS, Observation, Observed, Private};
use crate::session::facts::Contact;
use crate::session::keys::keyring;
use crate::session::session::Session;
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;
use crate::watch::event::{Answers, EventSender, WatchEvent};
use crate::watch::scheduler::Answer;

/// The clusters as somebody to ask.
pub(super) struct Contacts {
    dir: PathBuf,
    sender: EventSender,
    runtime: tokio::runtime::Handle,
    fetcher: Fetcher,
    /// The last answers.
    pub(super) observed: Arc<Observed>,
    /// When each cluster last answered whole.
    pub(super) read_at: BTreeMap<ClusterName, Timestamp>,
}

impl Contacts {
    pub(super) fn new(dir: PathBuf, sender: EventSender, runtime: tokio::runtime::Handle) -> Self {
        let fetcher = Fetcher::new(FetchLimits::default()).keeping();
        Self { dir, sender, runtime, fetcher, observed: Arc::default(), read_at: BTreeMap::new() }
    }

    /// Asks; the answers come as an event.
    pub(super) fn ask(&self, program: Arc<Program>, whom: BTreeSet<ClusterName>) {
        let endpoints = program.mesh.clusters.values().map(|cluster| cluster.endpoint.to_string());
        self.fetcher.keep_only(&endpoints.collect());
        let (dir, sender, handle) = (self.dir.clone(), self.sender.clone(), self.runtime.clone());
        let (fetcher, before) = (self.fetcher.clone(), self.observed.clone());
        let asking = move || {
            let now = crate::session::clock::now();
            let asked = |checkout: Checkout| {
                let keyring = keyring(&checkout, &program);
                let contact = Contact { checkout: &checkout, keyring: &keyring, fetcher: &fetcher, runtime: &handle };
                contact.observe(&program, &whom, &before).ok()
            };
            let observed = Checkout::open(&dir).ok().and_then(asked);
            // without the checkout there is nothing to ask for; the next scan says so
            let observed = observed.unwrap_or_else(|| Observed::clone(&before));
            sender.send(WatchEvent::Asked(Answers { whom, observed, at: now }));
        };
        self.runtime.spawn_blocking(asking);
    }

    /// Takes answers in.
    pub(super) fn take(&mut self, answers: Answers) -> BTreeMap<ClusterName, Answer> {
        let Answers { whom, mut observed, at } = answers;
        let mut known = Observed::clone(&self.observed);
        let mut found = BTreeMap::new();
        for name in whom {
            let Some(observation) = observed.clusters.remove(&name) else {
                found.insert(name, Answer { changed: false, failed: false });
                continue;
            };
            let failed = is_failure(&observation);
            if !failed {
                self.read_at.insert(name.clone(), at);
            }
            let before = known.clusters.insert(name.clone(), observation);
            let changed = before.as_ref() != known.clusters.get(&name);
            found.insert(name, Answer { changed, failed });
        }
        self.observed = Arc::new(known);
        found
    }

    /// Clusters whose evidence was received too long ago to open or close a link.
    pub(super) fn aged(&self, now: Timestamp) -> BTreeSet<ClusterName> {
        let shows = |observation: &Observation| matches!(&observation.private, Private::Read(document) if document.evidence.is_some());
        let is_old = |name: &ClusterName| self.read_at.get(name).is_none_or(|at| *at + EVIDENCE_HOLDS < now);
        let clusters = self.observed.clusters.iter().filter(|(name, one)| shows(one) && is_old(name));
        clusters.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets clusters that take no part any more.
    pub(super) fn keep(&mut self, names: &BTreeMap<ClusterName, u64>) {
        if self.observed.clusters.keys().any(|name| !names.contains_key(name)) {
            let mut known = Observed::clone(&self.observed);
            known.clusters.retain(|name, _| names.contains_key(name));
            self.observed = Arc::new(known);
        }
        self.read_at.retain(|name, _| names.contains_key(name));
    }
}

fn is_failure(observation: &Observation) -> bool {
    observation.public.is_err() || matches!(observation.private, Private::Failed(_))
}

/// By cluster that takes part, a mark of all that decides how it is asked and judged.
pub(super) fn marks(session: &Session<'_>, stamp: &dyn Fn(&str) -> u64) -> BTreeMap<ClusterName, u64> {
    let program = &session.program;
    let key = session.keyring().engine.map(|(id, _)| id).map_err(|_| ());
    let mark = |cluster: &Cluster| {
        let mut hasher = DefaultHasher::new();
        let locked = program.lock.clusters.get(&cluster.name).map(|locked| &locked.public);
        let asked =
            (&cluster.endpoint, &cluster.endpoint_ca, &cluster.allow, &cluster.pin, &cluster.key, cluster.reconciler);
        format!("{asked:?} {:?} {locked:?} {key:?}", cluster.state == State::Leaving).hash(&mut hasher);
        if let crate::types::address::Endpoint::File(folder) = &cluster.endpoint {
            stamp(folder).hash(&mut hasher);
        }
        hasher.finish()
    };
    let clusters = program.mesh.clusters.values().filter(|cluster| cluster.state.is_asked());
    clusters.map(|cluster| (cluster.name.clone(), mark(cluster))).collect()
}
