//! The agents of clusters with `reconciler: agent`: each run is one of the engine's own [`Agent`], at an apiserver in memory. What its
//! peers publish is what their exporters would answer to it.

mod apiserver;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use isthmus::agent::{Agent, AskingWith, Leadership, Outside, OwnIdentity};
use isthmus::pipeline::accept::accept;
use isthmus::pipeline::meter::Unmetered;
use isthmus::pipeline::observe::{Observation, Observed, PrivateReading};
use isthmus::pipeline::tree::Tree;
use isthmus::pipeline::{FactSource, Program, Request, Run, Stop, Until, World, run as walk};
use isthmus::server::telemetry::Metrics;
use isthmus::types::key::PrivateKey;
use isthmus::types::name::ClusterName;
use isthmus::types::time::Timestamp;
use isthmus::wire::failure::Failure;
use isthmus::wire::metadata::PublicDocument;
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub(crate) use self::apiserver::{ApiserverWrite, CRD, LiveApiserver, MULTICLUSTER, ObjectRecord, ObjectRecords};
use crate::file::FleetFiles;

/// What everybody would answer to an agent.
pub(crate) type ExporterAnswers = BTreeMap<ClusterName, (Result<PublicDocument, Failure>, PrivateReading)>;

/// What an agent does not know by itself.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedOutside {
    /// Of the cluster's own key.
    pub(crate) seed: [u8; 32],
    /// What its relay issues certificates with; what answers at its endpoint has one of a public CA.
    pub(crate) authority: String,
    pub(crate) now: i64,
    pub(crate) answers: Arc<ExporterAnswers>,
}

impl Outside for SimulatedOutside {
    fn identity(&self) -> Option<OwnIdentity> {
        Some(OwnIdentity { key: PrivateKey::generate(&self.seed).unwrap(), authority: self.authority.clone() })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.now)
    }

    fn run(
        &self,
        program: &Program,
        request: &Request,
        _: AskingWith<'_>,
        until: Until<'_>,
        tree: &dyn Tree,
    ) -> Result<Run, Stop> {
        let asked = program.mesh.clusters.values().filter(|cluster| cluster.state.is_asked());
        let answer = |name: &ClusterName| {
            let endpoint = program.mesh.clusters[name].endpoint.to_string();
            let silence = || Failure::TimedOut { url: endpoint.clone(), seconds: 10 };
            let answers = self.answers.get(name).filter(|_| !endpoint.contains("nobody"));
            answers.cloned().unwrap_or_else(|| (Err(silence()), PrivateReading::NotAsked))
        };
        let mut observed = Observed::default();
        let mut privates = BTreeMap::new();
        for cluster in asked {
            let (public, private) = answer(&cluster.name);
            privates.insert(cluster.name.clone(), private);
            observed.clusters.insert(cluster.name.clone(), Observation::own(public, PrivateReading::NotAsked));
        }
        let now = self.now();
        let judged = accept(
            &program.mesh,
            &program.lock,
            &observed,
            &request.approvals,
            &std::collections::BTreeSet::new(),
            now,
        );
        for (name, observation) in observed.clusters.iter_mut().filter(|(_, one)| one.public.is_ok()) {
            let may = judged.assessments[name].may_be_asked();
            observation.private = privates.remove(name).filter(|_| may).unwrap_or(PrivateReading::HeldBack);
        }
        let world = World { now, tree, base: None, narrow: None, meter: &Unmetered };
        walk(program, request, FactSource::Stored(observed), until, &world)
    }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct AgentWrites {
    /// In their order.
    pub(crate) writes: Vec<ApiserverWrite>,
    /// Why it did not come to its end.
    pub(crate) problem: Option<String>,
}

/// Where agents run.
struct AgentHost {
    runtime: Runtime,
    apiserver: Arc<Mutex<LiveApiserver>>,
    client: kube::Client,
}

thread_local! {
    static PROCESS: AgentHost = AgentHost::new();
}

impl AgentHost {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let apiserver = Arc::new(Mutex::new(LiveApiserver::default()));
        let client = {
            let _guard = runtime.enter();
            apiserver::client(&apiserver)
        };
        Self { runtime, apiserver, client }
    }
}

/// One run of an agent that was started for it.
pub(crate) fn run(apiserver: LiveApiserver, outside: SimulatedOutside) -> AgentWrites {
    PROCESS.with(|process| {
        let (_lease, held) = watch::channel(Some(Instant::now() + Duration::from_hours(1)));
        let namespace = apiserver.namespace().parse().unwrap();
        *process.apiserver.lock().unwrap() = apiserver;
        let at = (&process.client, &namespace);
        let mut agent = Agent::new(at, Leadership::new(held), outside, &Metrics::new());
        let _changed = process.runtime.block_on(agent.reconcile());
        let writes = std::mem::take(&mut process.apiserver.lock().unwrap().writes);
        AgentWrites { writes, problem: agent.problem().map(str::to_owned) }
    })
}

/// What is live in a cluster as its apiserver has it.
pub(crate) fn apiserver(live: &FleetFiles, records: &ObjectRecords, lasts: Option<usize>) -> LiveApiserver {
    LiveApiserver { live: live.clone(), records: records.clone(), writes: Vec::new(), lasts }
}
