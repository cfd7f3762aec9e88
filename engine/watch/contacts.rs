//! Asks clusters beside everything else, and keeps what each answered last.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;

use crate::checkout::Checkout;
use crate::cluster::fetch::{FetchLimits, Fetcher};
use crate::model::mesh::{Cluster, State};
use crate::pipeline::Program;
use crate::pipeline::observe::{EVIDENCE_HOLDS, Observation, Observed, PrivateReading};
use crate::session::facts::Contact;
use crate::session::keys::keyring;
use crate::session::session::Session;
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;
use crate::watch::event::{Answers, EventSender, WatchEvent};
use crate::watch::scheduler::FetchOutcome;

/// The clusters as one to ask.
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
            // without the checkout there is nothing to ask for; the next scan reports it
            let observed = observed.unwrap_or_else(|| Observed::clone(&before));
            sender.send(WatchEvent::Asked(Answers { whom, observed, at: now }));
        };
        self.runtime.spawn_blocking(asking);
    }

    pub(super) fn take(&mut self, answers: Answers) -> BTreeMap<ClusterName, FetchOutcome> {
        let Answers { whom, mut observed, at } = answers;
        let mut known = Observed::clone(&self.observed);
        let (mut found, asked) = (BTreeMap::new(), whom.clone());
        for name in whom {
            let Some(observation) = observed.clusters.remove(&name) else {
                found.insert(name, FetchOutcome { changed: false, failed: false });
                continue;
            };
            let failed = is_failure(&observation);
            if !failed {
                // what a relay read is as old as what its cluster showed of it
                let reader = observation.read_by.private.as_ref().filter(|reader| !asked.contains(*reader));
                let at = reader.and_then(|reader| self.read_at.get(reader)).copied().unwrap_or(at);
                self.read_at.insert(name.clone(), at);
            }
            let before = known.clusters.insert(name.clone(), observation);
            let changed = before.as_ref() != known.clusters.get(&name);
            found.insert(name, FetchOutcome { changed, failed });
        }
        self.observed = Arc::new(known);
        found
    }

    /// Clusters whose evidence was received too long ago to open or close a link.
    pub(super) fn aged(&self, now: Timestamp) -> BTreeSet<ClusterName> {
        let shows = |observation: &Observation| matches!(&observation.private, PrivateReading::Read(document) if document.evidence.is_some());
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
    observation.public.is_err() || matches!(observation.private, PrivateReading::Failed(_))
}

/// By cluster that takes part, a mark of all that decides how it is asked and judged.
pub(super) fn marks(session: &Session<'_>, stamp: &dyn Fn(&str) -> u64) -> BTreeMap<ClusterName, u64> {
    let program = &session.program;
    let key = session.keyring().engine.map(|(id, _)| id).map_err(|_| ());
    let mark = |cluster: &Cluster| {
        let mut hasher = DefaultHasher::new();
        let locked = program.lock.clusters.get(&cluster.name).map(|locked| &locked.public);
        let asked = (&cluster.endpoint, &cluster.endpoint_ca, &cluster.allow, &cluster.pin, cluster.reconciler);
        format!("{asked:?} {:?} {locked:?} {key:?}", cluster.state == State::Leaving).hash(&mut hasher);
        if let crate::types::address::Endpoint::File(folder) = &cluster.endpoint {
            stamp(folder).hash(&mut hasher);
        }
        hasher.finish()
    };
    let clusters = program.mesh.clusters.values().filter(|cluster| cluster.state.is_asked());
    clusters.map(|cluster| (cluster.name.clone(), mark(cluster))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::cluster::{Fleet, SimulatedCluster};

    /// A run has to ask again before it opens or closes a link.
    #[test]
    fn evidence_ages_and_what_shows_none_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sender, _events) = std::sync::mpsc::channel();
        let sender = EventSender(sender);
        let mut contacts = Contacts::new(PathBuf::new(), sender, runtime.handle().clone());
        let read = Timestamp::from_seconds(1_800_000_000);
        let mut answers = Answers { whom: BTreeSet::new(), observed: Observed::default(), at: read };
        for (name, seed, shows) in [("east", 1, true), ("west", 2, false)] {
            let mut cluster = SimulatedCluster::new(name, &[seed; 32], "203.0.113.1").unwrap();
            cluster.shows_evidence = shows;
            let private = PrivateReading::Read(cluster.private(&Fleet::default()));
            let observation = Observation::own(Ok(cluster.public()), private);
            answers.observed.clusters.insert(cluster.name.clone(), observation);
            answers.whom.insert(cluster.name);
        }
        contacts.take(answers);
        let aged = |contacts: &Contacts, seconds| contacts.aged(read + std::time::Duration::from_secs(seconds));
        assert_eq!(aged(&contacts, 600), BTreeSet::new());
        assert_eq!(aged(&contacts, 601), BTreeSet::from(["east".parse().unwrap()]));
        // an answer that failed makes nothing younger
        let failed = crate::wire::failure::Failure::TimedOut { url: "https://east".to_owned(), seconds: 10 };
        let mut observed = Observed::clone(&contacts.observed);
        let east = observed.clusters.get_mut(&"east".parse::<ClusterName>().unwrap()).unwrap();
        let shown = std::mem::replace(&mut east.public, Err(failed));
        let whom = BTreeSet::from(["east".parse().unwrap()]);
        let later = read + std::time::Duration::from_secs(601);
        contacts.take(Answers { whom: whom.clone(), observed: observed.clone(), at: later });
        assert_eq!(contacts.aged(later), whom);
        observed.clusters.get_mut(&"east".parse::<ClusterName>().unwrap()).unwrap().public = shown;
        contacts.take(Answers { whom, observed, at: later });
        assert_eq!(contacts.aged(later), BTreeSet::new());
    }
}
