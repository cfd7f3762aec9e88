//! Runs, one after the other: what wakes them, what each reads and writes, and what is shown of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::agent::gateways::{GatewayTarget, GatewayWatch};
use crate::agent::hand_over::{NotHandedOver, left_behind, noted, stays, written};
use crate::agent::lease::{Leadership, strive};
use crate::agent::object::{WireMulticluster, name_of_file, scope};
use crate::agent::outside::{AskingWith, Outside, OwnIdentity, ProcessOutside};
use crate::agent::owned::FIELD_MANAGER;
use crate::agent::status::{self, Holds, NotReconciled, PeerCondition, PeerRun, reconciled, refused_of_own};
use crate::agent::store::{ClusterSink, ClusterStore, LockMap, OwnSpecs, StoreUnread};
use crate::cluster::fetch::Fetcher;
use crate::cluster::objects::{ApplyError, ObjectClient};
use crate::cluster::unread::ReadError;
use crate::cluster::watched::{each, watch_config_map, watch_place};
use crate::model::keyring::Keyring;
use crate::model::known::KnownCluster;
use crate::model::lock::{Lock, LockedCluster, Stage};
use crate::model::mesh::{Cluster, EngineKey, Mesh, Reconciler};
use crate::model::trust::{Approval, Approvals};
use crate::pipeline::observe::Observed;
use crate::pipeline::{Input, Program, Request, Run, Stop, Until};
use crate::roles::relay::OwnKey;
use crate::roles::role::Role;
use crate::server::telemetry::Metrics;
use crate::spec::{API_VERSION, SourceFile, parse};
use crate::types::diagnostic::{Diagnostics, Severity};
use crate::types::name::{ClusterName, Namespace};
use crate::types::object::{YamlError, to_yaml};
use crate::types::time::Timestamp;
use crate::wire::agent::{AGENT_MAP, FINALIZER};
use crate::wire::hand_over::{HandOverOrder, HandOverStage, HandOverState, ObjectWriter};

/// Path of the own documents.
const OWN: &str = "specs/cluster.yaml";
/// Pauses between two runs: the first after something changed, while links wait, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// By how much each pause is longer than the one before, in percent.
const LONGER: u32 = 130;
/// How long changes are gathered before they begin a run.
const GATHER: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabel {
    result: &'static str,
}

#[derive(Debug, Clone, Default)]
struct AgentMetrics {
    runs: Family<RunLabel, Counter>,
    acts: Gauge,
    last: Gauge,
    peers: Gauge,
    joined: Gauge,
}

impl AgentMetrics {
    fn register(metrics: &Metrics) -> Self {
        let counts = Self::default();
        metrics.register("isthmus_agent_reconcile", "Runs, by how they ended", &counts.runs);
        metrics.register("isthmus_agent_acts", "Whether this replica acts", &counts.acts);
        let help = "When a run last came to its end, seconds since 1970";
        metrics.register("isthmus_agent_last_reconcile_timestamp_seconds", help, &counts.last);
        metrics.register("isthmus_agent_peers", "Peers that objects declare", &counts.peers);
        metrics.register("isthmus_agent_peers_joined", "Peers whose remote secret is written", &counts.joined);
        counts
    }
}

/// All metrics of an agent beside those of its relay, before it has begun.
pub fn metrics() -> Metrics {
    let metrics = Metrics::new();
    drop(AgentMetrics::register(&metrics));
    metrics
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error(transparent)]
    Unread(#[from] StoreUnread),
    #[error(
        "there is no ConfigMap {AGENT_MAP} with documents of this cluster; sync what `engine apply` renders for it"
    )]
    NoSpecs,
    #[error("ConfigMap {AGENT_MAP} declares no Cluster with `reconciler: agent`; render it again with `engine apply`")]
    NoCluster,
    #[error("the cluster's key is not known yet")]
    NoKey,
    #[error("{}", shown_stop(.0))]
    Stopped(#[from] Stop),
    #[error(transparent)]
    Yaml(#[from] YamlError),
    #[error("the run was cut short")]
    Cut,
    /// Nothing is done while another writes the objects.
    #[error(transparent)]
    HandOver(#[from] HandOverWait),
}

/// Why an agent does not act while its cluster is handed over.
#[derive(Debug, thiserror::Error)]
enum HandOverWait {
    #[error("the checkout writes the objects, and hands them over to this agent once it shows `ready`")]
    Ready,
    #[error("the checkout writes the objects, and this agent cannot take them yet: {0}")]
    NotReady(String),
    #[error("this agent left the objects to the checkout")]
    Released,
}

/// The first finding of a run that did not begin, or why it ended.
fn shown_stop(stop: &Stop) -> String {
    match stop {
        Stop::Findings(findings) => first(findings),
        Stop::Checkout(_) | Stop::Tree(_) | Stop::Cycle(_) | Stop::Yaml(_) | Stop::Cluster(_) => stop.to_string(),
    }
}

fn first(findings: &Diagnostics) -> String {
    let sorted = findings.sorted();
    let first = sorted.iter().find(|finding| finding.severity == Severity::Error).or(sorted.first());
    first.map(|finding| finding.explanation.to_string()).unwrap_or_default()
}

impl AgentError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Stopped(Stop::Findings(findings)) if findings.are_refusals() => "Refused",
            Self::Stopped(Stop::Findings(_)) | Self::NoSpecs | Self::NoCluster => "ConfigurationError",
            Self::Stopped(Stop::Cluster(_)) => "NotWritten",
            Self::HandOver(_) => "HandOver",
            Self::Unread(_) | Self::NoKey | Self::Stopped(_) | Self::Yaml(_) | Self::Cut => "NotReconciled",
        }
    }
}

/// A run that came to its end.
struct Reconciled {
    own: ClusterName,
    program: Program,
    run: Run,
    /// What is wrong with objects that were left out, by name.
    left_out: BTreeMap<String, String>,
}

/// What a run is made of.
struct RunInput {
    own: OwnSpecs,
    lock: LockMap,
    objects: Vec<WireMulticluster>,
    identity: OwnIdentity,
    before: Observed,
    mode: RunMode,
}

/// Whether a run writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunMode {
    Acts,
    /// It is planned on what a checkout would give away, and not carried out.
    Tries,
}

/// Runs for as long as the process lives, while this replica acts.
pub(super) async fn run(role: Role, key: OwnKey, fetcher: Fetcher) {
    let client = &role.access.client;
    let mut leadership = strive(&role, ObjectClient::new(client));
    let changed = Arc::new(Notify::new());
    let _objects = watch_place::<WireMulticluster>(client, scope(), &changed);
    let _specs = watch_config_map(client, role.namespace.as_str(), AGENT_MAP, &changed);
    let outside = ProcessOutside { key, fetcher: fetcher.clone() };
    let mut agent = Agent::new((client, &role.namespace), leadership.clone(), outside, &role.metrics);
    let probing = agent.gateways.clone().keep_probing(fetcher, changed.clone(), role.stopping.clone());
    drop(tokio::spawn(probing));
    let mut pause = PAUSE.0;
    loop {
        agent.counts.acts.set(i64::from(leadership.is_held()));
        tokio::select! {
            () = leadership.held() => {}
            () = role.stopping.requested() => return,
        }
        agent.counts.acts.set(1);
        pause = if agent.reconcile().await { PAUSE.0 } else { (pause * LONGER / 100).min(PAUSE.1) };
        tokio::select! {
            () = sleep(pause.mul_f64(spread())) => {}
            () = changed.notified() => {
                sleep(GATHER).await;
                pause = PAUSE.0;
            }
            () = role.stopping.requested() => return,
        }
    }
}

/// A number around 1, so that agents do not ask all at once.
fn spread() -> f64 {
    let mut byte = [0_u8];
    let filled = aws_lc_rs::rand::fill(&mut byte);
    0.9 + 0.2 * f64::from(if filled.is_ok() { byte[0] } else { 127 }) / 255.0
}

/// The agent between two runs.
pub struct Agent<S> {
    client: Client,
    store: ClusterStore,
    leadership: Leadership,
    outside: S,
    counts: AgentMetrics,
    /// What was observed in the run before.
    observed: Observed,
    /// What the run before waited for.
    waits: Vec<String>,
    /// Why the run before did not come to its end.
    problem: Option<String>,
    /// What the checkout was answered last.
    answered: Option<HandOverState>,
    /// Gateways of joined peers.
    gateways: GatewayWatch,
}

impl<S: Outside> Agent<S> {
    /// One that took no run yet, at the apiserver of its cluster and in the namespace of Istio.
    pub fn new(
        (client, namespace): (&Client, &Namespace),
        leadership: Leadership,
        outside: S,
        metrics: &Metrics,
    ) -> Self {
        let store = ClusterStore { client: ObjectClient::new(client), namespace: namespace.clone() };
        Self {
            client: client.clone(),
            store,
            leadership,
            outside,
            counts: AgentMetrics::register(metrics),
            observed: Observed::default(),
            waits: Vec::new(),
            problem: None,
            answered: None,
            gateways: GatewayWatch::default(),
        }
    }

    /// Why the last run did not come to its end, if it did not.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// One run; whether something changed by it, or what it waits for.
    pub async fn reconcile(&mut self) -> bool {
        let begun = Instant::now();
        let objects = match self.objects().await {
            Ok(objects) => objects,
            Err(problem) => {
                self.note(Some(format!("cannot list IstioMulticluster objects: {problem}")));
                return false;
            }
        };
        self.counts.peers.set(i64::try_from(objects.len()).unwrap_or(i64::MAX));
        let outcome = self.once(&objects).await;
        let result = if outcome.is_ok() { "done" } else { "failed" };
        self.counts.runs.get_or_create(&RunLabel { result }).inc();
        let changed = match &outcome {
            Ok(done) => {
                self.counts.last.set(self.outside.now().as_seconds());
                self.note(refused_of_own(&done.run, &done.own).map(|refused| refused.message));
                self.changes(done)
            }
            Err(problem) => {
                self.note(Some(problem.to_string()));
                false
            }
        };
        // what is shown on an object changes it, and so its finalizer goes first
        if let Ok(done) = &outcome {
            self.release(&objects, done).await;
        }
        self.show(&objects, &outcome).await;
        if let Ok(done) = &outcome {
            let written = done.run.written;
            tracing::debug!(written = written.written, deleted = written.deleted, took = ?begun.elapsed(), "reconciled");
        }
        changed
    }

    /// Says what goes wrong and what is well again, each once.
    fn note(&mut self, problem: Option<String>) {
        if problem != self.problem {
            if let Some(problem) = &problem {
                tracing::warn!(problem, "not reconciled");
            } else {
                tracing::info!("reconciled again");
            }
            self.problem = problem;
        }
    }

    /// Whether the run wrote something, or waits for something else than the one before.
    fn changes(&mut self, done: &Reconciled) -> bool {
        let steps = &done.run.plan.steps;
        let waits: Vec<String> = steps.iter().map(|step| format!("{} {}", step.id, step.state.line())).collect();
        let changed = done.run.plan.changes_files() || waits != self.waits;
        self.waits = waits;
        changed
    }

    async fn objects(&self) -> Result<Vec<WireMulticluster>, ReadError> {
        let mut objects = Vec::new();
        each::<WireMulticluster>(&self.client, &scope(), |object| objects.push(object)).await?;
        objects.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        Ok(objects)
    }

    async fn once(&mut self, objects: &[WireMulticluster]) -> Result<Reconciled, AgentError> {
        // an offer is written after the marks of what it leaves, and so it is read before them
        let offered = self.store.offered().await?;
        let own = self.store.specs().await?.ok_or(AgentError::NoSpecs)?;
        let Some(order) = own.order.clone() else {
            let taken = offered.filter(|_| !own.is_left);
            self.forget_what_was_left().await?;
            let done = self.act(own, objects).await?;
            if let Some(HandOverState { serial, .. }) = taken {
                // also whoever gives no order took it, as the chart
                let order = HandOverOrder::new(ObjectWriter::Agent, serial);
                let lock = &done.run.decided.advanced.lock;
                self.answer(written(lock, &done.own, &order, HandOverStage::Taken)).await?;
            }
            return Ok(done);
        };
        match (order.to, order.given) {
            (ObjectWriter::Agent, false) => Err(self.try_out(own, objects, &order).await?.into()),
            (ObjectWriter::Agent, true) => {
                // without a lock it continues with its own
                if !order.lock.is_empty() {
                    self.take_over(&own, objects, &order).await?;
                }
                let done = self.act(own, objects).await?;
                // what is someone else's was not taken
                if !done.run.plan.is_refused() {
                    let lock = &done.run.decided.advanced.lock;
                    self.answer(written(lock, &done.own, &order, HandOverStage::Taken)).await?;
                }
                Ok(done)
            }
            (ObjectWriter::Tree, _) => self.leave(own, objects, &order).await,
        }
    }

    /// Answers the checkout.
    async fn answer(&mut self, state: HandOverState) -> Result<(), AgentError> {
        if !self.leadership.is_held() {
            return Err(Stop::Cluster(ApplyError::NotHeld).into());
        }
        // another replica may have answered since, or someone deleted it
        self.store.answer(&state).await?;
        if self.answered.as_ref() != Some(&state) {
            tracing::info!(stage = ?state.stage, reason = state.reason, "answered the checkout that hands over");
            self.answered = Some(state);
        }
        Ok(())
    }

    /// Whether it could take what a checkout is to give away: a run on it is planned.
    async fn try_out(
        &mut self,
        own: OwnSpecs,
        objects: &[WireMulticluster],
        order: &HandOverOrder,
    ) -> Result<HandOverWait, AgentError> {
        let tried = match self.handed_over(&own, objects, order) {
            Ok(lock) => self.run(own, objects, lock, RunMode::Tries).await,
            Err(error) => Err(error),
        };
        let stays = match tried {
            Ok(done) => match done.left_out.iter().next() {
                Some((name, why)) => Err(NotHandedOver::Finding(format!("IstioMulticluster {name}: {why}"))),
                None => stays(&done.program, &done.run, &done.own),
            },
            Err(AgentError::Stopped(Stop::Findings(findings))) => Err(NotHandedOver::Finding(first(&findings))),
            Err(error) => return Err(error),
        };
        match stays {
            Ok(()) => {
                self.answer(HandOverState::to(order, HandOverStage::Ready)).await?;
                Ok(HandOverWait::Ready)
            }
            Err(why) => {
                let reason = why.to_string();
                let state = HandOverState::to(order, HandOverStage::Preparing);
                self.answer(HandOverState { reason: Some(reason.clone()), ..state }).await?;
                Ok(HandOverWait::NotReady(reason))
            }
        }
    }

    /// The lock that a checkout hands over, as it is kept here.
    fn handed_over(
        &self,
        own: &OwnSpecs,
        objects: &[WireMulticluster],
        order: &HandOverOrder,
    ) -> Result<LockMap, AgentError> {
        let OwnIdentity { key, .. } = self.outside.identity().ok_or(AgentError::NoKey)?;
        let files = order.lock.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect();
        let mut lock = LockMap { files, ..LockMap::default() };
        let specs = documents(own, objects, &lock, &own_name(own)?)?;
        let inside = Some(EngineKey { id: key.public().id(), key: key.public().clone() });
        let input = Input { specs, templates: Vec::new(), lock: lock.files, inside };
        lock.files = Program::handed_over(&input)?;
        Ok(lock)
    }

    /// Forgets the lock of before it left its objects to a checkout, which took them: it says nothing of what is there now.
    async fn forget_what_was_left(&self) -> Result<(), AgentError> {
        if self.store.left_with().await?.is_none() || self.store.has_own_objects().await? {
            return Ok(());
        }
        let mut lock = self.store.lock().await?;
        if lock.files.is_empty() || !self.leadership.is_held() {
            return Ok(());
        }
        (lock.files, lock.kustomization) = (BTreeMap::new(), None);
        let unwritten = |source| StoreUnread { what: "the lock of before the objects were left".to_owned(), source };
        self.store.write_lock(&mut lock).await.map_err(unwritten)?;
        tracing::info!("forgot the lock of before the objects were left to a checkout");
        Ok(())
    }

    /// Takes lock and objects from the checkout, once.
    async fn take_over(
        &self,
        own: &OwnSpecs,
        objects: &[WireMulticluster],
        order: &HandOverOrder,
    ) -> Result<(), AgentError> {
        let before = self.store.lock().await?;
        // a commit that was taken back gave the same objects once more
        if before.taken.is_some_and(|taken| taken >= order.serial) && !self.store.is_given_any().await? {
            return Ok(());
        }
        if !self.leadership.is_held() {
            return Err(Stop::Cluster(ApplyError::NotHeld).into());
        }
        let mut lock = LockMap { files: self.handed_over(own, objects, order)?.files, kustomization: None, ..before };
        let unwritten = |source| StoreUnread { what: "the lock that was handed over".to_owned(), source };
        self.store.write_lock(&mut lock).await.map_err(unwritten)?;
        let peers = Lock::parse(lock.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())));
        let peers = peers.map_err(Stop::Findings)?.clusters.into_keys().collect();
        self.store.take(&peers).await?;
        lock.taken = Some(order.serial);
        self.store.write_lock(&mut lock).await.map_err(unwritten)?;
        tracing::info!(serial = order.serial, "took the objects of the checkout");
        Ok(())
    }

    /// Whether it acts before it leaves: not where what it left may be the checkout's by now. A later order that gives the checkout nothing
    /// takes back what it answered, as long as the objects are as it left them.
    async fn acts_until_it_leaves(&self, order: &HandOverOrder) -> Result<bool, StoreUnread> {
        let Some(serial) = self.store.left_with().await? else { return Ok(true) };
        Ok(!order.given && serial < order.serial && self.store.has_own_objects().await?)
    }

    /// Leaves the objects to the checkout as soon as no link moves, as they are by what it was told last; until then it acts.
    async fn leave(
        &mut self,
        own: OwnSpecs,
        objects: &[WireMulticluster],
        order: &HandOverOrder,
    ) -> Result<Reconciled, AgentError> {
        let acted = if self.acts_until_it_leaves(order).await? {
            match self.act(own.clone(), objects).await {
                // what it is to do now, it does not understand: it leaves what there is
                Err(AgentError::Stopped(Stop::Findings(_))) => None,
                done => Some(done?),
            }
        } else {
            None
        };
        let files = self.store.lock().await?.files;
        let lock = Lock::parse(files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())));
        let declared = objects.iter().filter(|object| !object.is_deleted()).filter_map(WireMulticluster::name);
        let left = left_behind(&lock.map_err(Stop::Findings)?, &own_name(&own)?, declared.collect(), order);
        match left {
            Ok(state) => {
                if !self.leadership.is_held() {
                    return Err(Stop::Cluster(ApplyError::NotHeld).into());
                }
                for object in objects.iter().filter(|object| object.has_finalizer()) {
                    self.set_finalizers(object, &object.other_finalizers()).await?;
                }
                self.answer(state).await?;
                Err(HandOverWait::Released.into())
            }
            Err(why) => {
                let state = HandOverState::to(order, HandOverStage::Preparing);
                self.answer(HandOverState { reason: Some(why.to_string()), ..state }).await?;
                match acted {
                    Some(done) => Ok(done),
                    None => self.act(own, objects).await,
                }
            }
        }
    }

    /// A run that writes.
    async fn act(&mut self, own: OwnSpecs, objects: &[WireMulticluster]) -> Result<Reconciled, AgentError> {
        self.hold(objects).await?;
        let mut lock = self.store.lock().await?;
        let is_taking = own.order.as_ref().is_some_and(|order| order.given && !order.lock.is_empty());
        lock.files = noted(&lock.files, &own_name(&own)?, is_taking)?;
        let done = self.run(own, objects, lock, RunMode::Acts).await?;
        let (mesh, lock) = (&done.program.mesh, &done.run.decided.advanced.lock);
        let joined = lock.links_of(&done.own).filter(|(_, link)| link.stage == Stage::Joined);
        let joined: Vec<&ClusterName> = joined.map(|(peer, _)| peer).collect();
        self.counts.joined.set(i64::try_from(joined.len()).unwrap_or(i64::MAX));
        let target = |peer: &&ClusterName| {
            let known = KnownCluster::of(mesh, lock, peer)?;
            let (gateways, allow) = (known.endpoint()?.gateways, known.cluster.allow.addresses.clone());
            Some(((*peer).clone(), GatewayTarget { gateways, allow }))
        };
        self.gateways.watch(joined.iter().filter_map(target).collect());
        Ok(done)
    }

    /// A run on a thread that may wait.
    async fn run(
        &mut self,
        own: OwnSpecs,
        objects: &[WireMulticluster],
        lock: LockMap,
        mode: RunMode,
    ) -> Result<Reconciled, AgentError> {
        let identity = self.outside.identity().ok_or(AgentError::NoKey)?;
        let before = std::mem::take(&mut self.observed);
        let input = RunInput { own, lock, objects: objects.to_vec(), identity, before, mode };
        let (store, leadership) = (self.store.clone(), self.leadership.clone());
        let (outside, runtime) = (self.outside.clone(), Handle::current());
        let done = tokio::task::spawn_blocking(move || reconcile(input, &store, &leadership, &outside, &runtime));
        let done = done.await.map_err(|_| AgentError::Cut)??;
        if let Some(observed) = &done.run.observed {
            self.observed.clone_from(observed);
        }
        Ok(done)
    }

    /// Sets the finalizer of objects that are new: from then on none vanishes while something rests on its peer.
    async fn hold(&self, objects: &[WireMulticluster]) -> Result<(), AgentError> {
        for object in objects.iter().filter(|object| !object.has_finalizer() && !object.is_deleted()) {
            let mut finalizers = object.metadata.finalizers.clone();
            finalizers.push(FINALIZER.to_owned());
            self.set_finalizers(object, &finalizers).await?;
        }
        Ok(())
    }

    /// Releases objects that are deleted, and whose peers the lock knows no more.
    async fn release(&self, objects: &[WireMulticluster], done: &Reconciled) {
        let lock = &done.run.decided.advanced.lock;
        for object in objects.iter().filter(|object| object.is_deleted() && object.has_finalizer()) {
            let rests = object.name().is_some_and(|name| lock.knows(&name));
            if rests || !self.leadership.is_held() {
                continue;
            }
            match self.set_finalizers(object, &object.other_finalizers()).await {
                Ok(()) => tracing::info!(peer = object.metadata.name, "nothing rests on it any more"),
                Err(problem) => tracing::warn!(problem = problem.to_string(), "a finalizer stays"),
            }
        }
    }

    async fn set_finalizers(&self, object: &WireMulticluster, finalizers: &[String]) -> Result<(), StoreUnread> {
        let version = &object.metadata.resource_version;
        let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": version } });
        match self.store.client.merge(&object.path(), FIELD_MANAGER, &patch).await {
            // it changed, or is gone: the next run sees it as it is
            Ok(_) | Err(ReadError::Status { code: 404 | 409, .. }) => Ok(()),
            Err(source) => Err(StoreUnread { what: format!("IstioMulticluster {}", object.metadata.name), source }),
        }
    }

    /// Writes the status of each object that is another now, and an Event for each condition that changed.
    async fn show(&self, objects: &[WireMulticluster], outcome: &Result<Reconciled, AgentError>) {
        for object in objects {
            if !self.leadership.is_held() {
                return;
            }
            let (conditions, known) = shown(object, outcome, &self.gateways);
            let generation = object.metadata.generation;
            let Some(after) = status::status(&object.status, generation, &conditions, known, self.outside.now()) else {
                continue;
            };
            let change = status::patch(&object.status, &after);
            let path = format!("{}/status", object.path());
            match self.store.client.merge(&path, FIELD_MANAGER, &change).await {
                Ok(_) => self.record(object, &conditions).await,
                Err(ReadError::Status { code: 404, .. }) => {}
                Err(problem) => {
                    let peer = &object.metadata.name;
                    tracing::warn!(peer, problem = problem.to_string(), "its status is not written");
                }
            }
        }
    }

    /// An Event for each condition whose status changed.
    async fn record(&self, object: &WireMulticluster, conditions: &[PeerCondition]) {
        for condition in conditions {
            let before = status::find(&object.status, condition.kind).and_then(|one| one.get("status")?.as_str());
            let is_change = match (before, condition.holds) {
                (Some("True"), Holds::False) | (Some("False" | "Unknown") | None, Holds::True) => true,
                (_, Holds::True | Holds::False | Holds::Unknown) => false,
            };
            if is_change {
                let event = event(object, condition, self.outside.now());
                drop(self.store.client.create("/api/v1/namespaces/default/events", &event).await);
            }
        }
    }
}

/// An Event on an object. Objects without a namespace have theirs in `default`.
fn event(object: &WireMulticluster, condition: &PeerCondition, now: Timestamp) -> Value {
    let time = now.to_string();
    let is_well = condition.holds == Holds::True;
    let message = match (is_well, condition.message.is_empty()) {
        (true, _) => format!("{} holds", condition.kind),
        (false, true) => format!("{} does not hold: {}", condition.kind, condition.reason),
        (false, false) => format!("{} does not hold: {}", condition.kind, condition.message),
    };
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "generateName": format!("{}.", object.metadata.name), "namespace": "default" },
        "involvedObject": {
            "apiVersion": API_VERSION, "kind": "IstioMulticluster",
            "name": object.metadata.name, "uid": object.metadata.uid,
        },
        "type": if is_well { "Normal" } else { "Warning" },
        "reason": format!("{}{}", condition.kind, if is_well { "" } else { "Not" }),
        "message": message, "firstTimestamp": time, "lastTimestamp": time, "count": 1,
        "source": { "component": "isthmus-agent" },
    })
}

/// What an object shows of a run.
fn shown<'a>(
    object: &WireMulticluster,
    outcome: &'a Result<Reconciled, AgentError>,
    gateways: &'a GatewayWatch,
) -> (Vec<PeerCondition>, Option<PeerRun<'a>>) {
    let problem = |reason, message: String| NotReconciled { reason, message };
    let keep = |problem: &NotReconciled| {
        // what was seen last stays what is shown
        let kept = object.status.get("conditions").and_then(Value::as_array).into_iter().flatten();
        let mut conditions: Vec<PeerCondition> = kept.filter_map(kept_condition).collect();
        conditions.push(reconciled(Some(problem)));
        (conditions, None)
    };
    match outcome {
        Err(error) => keep(&problem(error.reason(), error.to_string())),
        Ok(done) => {
            if let Some(finding) = done.left_out.get(&object.metadata.name) {
                return keep(&problem("ConfigurationError", finding.clone()));
            }
            let declared = object.name().and_then(|name| done.program.mesh.clusters.get_key_value(&name));
            let Some((peer, _)) = declared else { return keep(&problem("NotReconciled", String::new())) };
            let known = PeerRun { program: &done.program, run: &done.run, own: &done.own, peer, gateways };
            let mut conditions = known.conditions();
            // a new replica has not looked yet, and what the one before saw stays shown
            for condition in conditions.iter_mut().filter(|one| one.reason == status::NOT_PROBED) {
                let before = status::find(&object.status, condition.kind).and_then(kept_condition);
                if let Some(before) = before.filter(|before| before.holds != Holds::Unknown) {
                    *condition = before;
                }
            }
            (conditions, Some(known))
        }
    }
}

/// A condition as it stands in a status, but for that of the run.
fn kept_condition(value: &Value) -> Option<PeerCondition> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = status::KINDS.into_iter().find(|kind| text("type") == *kind)?;
    let holds = match text("status").as_str() {
        "True" => Holds::True,
        "False" => Holds::False,
        _ => Holds::Unknown,
    };
    Some(PeerCondition { kind, holds, reason: text("reason"), message: text("message") })
}

/// One run, on a thread that may wait.
fn reconcile(
    input: RunInput,
    store: &ClusterStore,
    leadership: &Leadership,
    outside: &impl Outside,
    runtime: &Handle,
) -> Result<Reconciled, AgentError> {
    let RunInput { own: specs, lock, objects, identity: OwnIdentity { key, authority }, before, mode } = input;
    let public = EngineKey { id: key.public().id(), key: key.public().clone() };
    let own = own_name(&specs)?;
    let documents = documents(&specs, &objects, &lock, &own)?;
    let (mut program, left_out) = load(documents, &lock, &public)?;
    if let Some(cluster) = program.mesh.clusters.get_mut(&own) {
        know_own_authority(cluster, program.lock.clusters.get(&own), authority);
    }
    let peers: BTreeSet<ClusterName> = program.mesh.clusters.keys().filter(|name| **name != own).cloned().collect();
    let tree = runtime.block_on(store.tree(&own, &peers, &lock, mode == RunMode::Tries))?;
    program.take_from_tree(&tree.files, false)?;
    let request = Request { approvals: approvals(&program.mesh, &own, &specs, &objects), ..Request::default() };
    let keyring = Keyring { engine: Ok((public.id.clone(), key)) };
    let mut sink = ClusterSink { store, runtime, leadership, lock, tree: &tree };
    let until = match mode {
        RunMode::Acts => Until::Written(&mut sink),
        RunMode::Tries => Until::Planned,
    };
    let with = AskingWith { keyring: &keyring, before: &before, runtime };
    let run = outside.run(&program, &request, with, until, &tree.files)?;
    Ok(Reconciled { own, program, run, left_out })
}

/// Its own exporter has its certificate from the relay that it is itself, unless the specs name a Secret or a CA, or the checkout that
/// handed it over reads it by a public CA.
fn know_own_authority(own: &mut Cluster, locked: Option<&LockedCluster>, authority: String) {
    let is_issued = own.components.as_ref().is_some_and(|components| components.tls_secret.is_none());
    let read_at = locked.and_then(|locked| locked.source.as_ref());
    let is_public = read_at.is_some_and(|read_at| read_at.endpoint == own.endpoint && read_at.ca.is_none());
    if is_issued && own.endpoint_ca.is_none() && !is_public {
        own.endpoint_ca = Some(authority);
    }
}

/// The name of the own cluster.
fn own_name(specs: &OwnSpecs) -> Result<ClusterName, AgentError> {
    let file = SourceFile { path: OWN.into(), bytes: specs.text.clone().into_bytes() };
    let spec = parse(&[file]).map_err(Stop::Findings)?;
    let is_own = |one: &&crate::spec::ClusterSpec| {
        one.reconciler.as_ref().is_some_and(|reconciler| reconciler.value == Reconciler::Agent)
    };
    let own: Vec<_> = spec.clusters.iter().filter(is_own).collect();
    match own.as_slice() {
        [own] if spec.clusters.len() == 1 => Ok(own.name.value.clone()),
        _ => Err(AgentError::NoCluster),
    }
}

/// All specs: the own, each object's, and for each peer that the lock knows and whose object is gone, one that leaves.
fn documents(
    specs: &OwnSpecs,
    objects: &[WireMulticluster],
    lock: &LockMap,
    own: &ClusterName,
) -> Result<Vec<SourceFile>, AgentError> {
    let source = |path: &str, text: String| SourceFile { path: path.into(), bytes: text.into_bytes() };
    let files = lock.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    // what cannot be read is found when the whole is loaded
    let (locked, _) = Lock::read(files).unwrap_or_default();
    let mut all = vec![source(OWN, specs.text.clone())];
    let mut declared = BTreeSet::new();
    for object in objects {
        let Some(name) = object.name() else { continue };
        let is_locked = locked.knows(&name);
        // one that is deleted, and of which nothing is known, asks for nothing
        if object.is_deleted() && !is_locked {
            continue;
        }
        all.push(source(&object.file(), object.document(is_locked)?));
        declared.insert(name);
    }
    let gone = locked.clusters.iter().filter(|(name, _)| *name != own && !declared.contains(*name));
    for (name, entry) in gone {
        if let Some(text) = farewell(name, entry)? {
            all.push(source(&format!("specs/gone/{name}.yaml"), text));
        }
    }
    Ok(all)
}

/// The document of a peer whose object was taken away by force: it leaves as if it had been deleted.
fn farewell(name: &ClusterName, entry: &LockedCluster) -> Result<Option<String>, YamlError> {
    let Some(read_at) = &entry.source else { return Ok(None) };
    let mut spec = json!({ "metadataEndpoint": read_at.endpoint.to_string(), "state": "leaving" });
    let ca = entry.public.serving_ca.as_ref().filter(|_| read_at.ca.is_some());
    if let (Some(ca), Value::Object(spec)) = (ca, &mut spec) {
        spec.insert("metadata".to_owned(), json!({ "ca": ca }));
    }
    let document = json!({
        "apiVersion": API_VERSION, "kind": "IstioMulticluster", "metadata": { "name": name }, "spec": spec,
    });
    to_yaml(&document).map(Some)
}

/// The program, without objects that are wrong and that nothing rests on: these are shown what is wrong, and the others continue.
fn load(
    mut specs: Vec<SourceFile>,
    lock: &LockMap,
    key: &EngineKey,
) -> Result<(Program, BTreeMap<String, String>), Stop> {
    let mut left_out = BTreeMap::new();
    loop {
        let (templates, inside) = (Vec::new(), Some(key.clone()));
        let input = Input { specs: specs.clone(), templates, lock: lock.files.clone(), inside };
        let findings = match Program::load(&input, &|_| None) {
            Ok(program) => return Ok((program, left_out)),
            Err(Stop::Findings(findings)) => findings,
            Err(stop) => return Err(stop),
        };
        let mut wrong: BTreeMap<Arc<str>, String> = BTreeMap::new();
        for finding in findings.sorted().into_iter().filter(|finding| finding.severity == Severity::Error) {
            if let Some(at) = &finding.at {
                wrong.entry(at.file.clone()).or_insert_with(|| finding.explanation.to_string());
            }
        }
        let is_locked = |name: &str| lock.files.keys().any(|path| path.ends_with(&format!("/{name}.yaml")));
        let named = wrong.into_iter().filter_map(|(file, why)| Some((name_of_file(&file)?.to_owned(), why)));
        let named: BTreeMap<String, String> = named.filter(|(name, _)| !is_locked(name)).collect();
        if named.is_empty() {
            return Err(Stop::Findings(findings));
        }
        specs.retain(|file| name_of_file(&file.path).is_none_or(|name| !named.contains_key(name)));
        left_out.extend(named);
    }
}

/// What annotations accept, each by its digest.
fn approvals(mesh: &Mesh, own: &ClusterName, specs: &OwnSpecs, objects: &[WireMulticluster]) -> Approvals {
    let of_peers = objects.iter().filter_map(|object| Some((object.name()?, object.accepts()?)));
    let of_own = specs.accepts.as_deref().map(|digest| (own.clone(), digest));
    let named = of_peers.chain(of_own).filter(|(name, _)| mesh.clusters.contains_key(name));
    let named = named.filter_map(|(name, digest)| format!("{name}@{digest}").parse::<Approval>().ok());
    Approvals { all: false, named: named.collect() }
}
