//! A mesh in memory: simulated clusters, a spec, a checkout, and what was made live of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use isthmus::model::lock::{Lock, Stage};
use isthmus::model::trust::Approvals;
use isthmus::pipeline::accept::accept;
use isthmus::pipeline::observe::{Observation, Observed, PrivateReading};
use isthmus::pipeline::plan::Plan;
use isthmus::pipeline::{self, Decided, Input, Program, Request};
use isthmus::simulation::cluster::{Fleet, SimulatedCluster};
use isthmus::spec::SourceFile;
use isthmus::types::key::PrivateKey;
use isthmus::types::name::ClusterName;
use isthmus::types::time::Timestamp;
use isthmus::wire::failure::Failure;
use isthmus::wire::metadata::{Evidence, PrivateDocument, PublicDocument, Reported};

use super::naive::{Naive, NaiveFiles, squeeze};
use super::road;

/// Names of clusters, of which a world takes the first.
pub(crate) const NAMES: [&str; 5] = ["ash", "birch", "cedar", "dogwood", "elm"];
/// A time at which all certificates are valid, seconds since 1970.
const CERTIFICATES_ARE_VALID: Timestamp = Timestamp::from_seconds(1_790_000_000);
const KUSTOMIZATION: &str = "kustomization.yaml";

thread_local! {
    /// Clusters that no world has at the moment: their keys and certificates are made once a thread.
    static IDLE: RefCell<BTreeMap<&'static str, SimulatedCluster>> = const { RefCell::new(BTreeMap::new()) };
}

/// How a cluster misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterFault {
    /// No one answers.
    Down,
    /// An answer that is no document.
    Garbage,
    /// Another cluster answers.
    Stranger,
    /// It has another root CA.
    OtherRoot,
    /// It does not admit the engine.
    Forbidden,
    /// It is starting.
    Starting,
    /// It has no gateway.
    NoGateway,
    /// It does not know what is live.
    Blind,
}

/// All faults.
pub(crate) const FAULTS: [ClusterFault; 8] = [
    ClusterFault::Down,
    ClusterFault::Garbage,
    ClusterFault::Stranger,
    ClusterFault::OtherRoot,
    ClusterFault::Forbidden,
    ClusterFault::Starting,
    ClusterFault::NoGateway,
    ClusterFault::Blind,
];

/// State of a cluster in the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeclaredState {
    Active,
    Paused,
    Leaving,
    Lost,
}

/// Who is linked with whom.
pub(crate) type Pairs = BTreeSet<(&'static str, &'static str)>;

/// What the spec says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedSpec {
    /// The clusters.
    pub(crate) clusters: BTreeMap<&'static str, DeclaredState>,
    /// Who is linked with whom; `None`: all with all.
    pub(crate) pairs: Option<Pairs>,
}

impl WantedSpec {
    /// Whether the two are to be linked.
    pub(crate) fn links(&self, one: &str, other: &str) -> bool {
        let stays = |name| {
            self.clusters.get(name).is_some_and(|state| !matches!(state, DeclaredState::Leaving | DeclaredState::Lost))
        };
        let paired = |pairs: &BTreeSet<(&str, &str)>| pairs.contains(&(one, other)) || pairs.contains(&(other, one));
        one != other && stays(one) && stays(other) && self.pairs.as_ref().is_none_or(paired)
    }

    /// One YAML document each for the mesh and its clusters.
    pub(crate) fn documents(&self) -> Vec<String> {
        let key = engine_key().public().to_pem().replace('\n', "\n        ");
        let topology = self.pairs.as_ref().map_or_else(
            || "full".to_owned(),
            |pairs| {
                let pairs: Vec<_> = pairs.iter().map(|(a, b)| format!("[{a}, {b}]")).collect();
                format!("pairs\n  pairs: [{}]", pairs.join(", "))
            },
        );
        let mesh = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: shop}}\nspec:\n  acceptForeignRoots: true\n  topology: {topology}\n  engineKeys:\n    - id: ci\n      publicKey: |\n        {}\n",
            key.trim_end()
        );
        let cluster = |(name, state): (&&str, &DeclaredState)| {
            let state = match state {
                DeclaredState::Active => "active",
                DeclaredState::Paused => "paused",
                DeclaredState::Leaving => "leaving",
                DeclaredState::Lost => "lost",
            };
            format!(
                "apiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  state: {state}\n  multicluster: {{image: \"ghcr.io/isthmus-mesh/engine:0.1.0\", apiHost: api.{name}.example.com}}\n  metadata:\n    endpoint: https://metadata.{name}.example.com/metadata\n"
            )
        };
        std::iter::once(mesh).chain(self.clusters.iter().map(cluster)).collect()
    }
}

fn engine_key() -> PrivateKey {
    PrivateKey::generate(&[200; 32]).unwrap()
}

/// Documents in files, `---` between them.
pub(crate) fn sources(files: &[(String, Vec<String>)]) -> Vec<SourceFile> {
    let source = |(path, documents): &(String, Vec<String>)| SourceFile {
        path: path.as_str().into(),
        bytes: documents.join("---\n").into_bytes(),
    };
    files.iter().map(source).collect()
}

/// A run that was taken.
#[derive(Debug)]
pub(crate) struct MeshRun {
    pub(crate) decided: Decided,
    pub(crate) plan: Plan,
    /// What was live when the clusters were asked, and which of them showed all of it.
    pub(crate) live: BTreeMap<&'static str, Naive>,
    pub(crate) shown: BTreeSet<&'static str>,
}

impl MeshRun {
    /// Nothing was written and nothing is waited for.
    pub(crate) fn is_idle(&self) -> bool {
        let counts = self.plan.counts();
        !self.plan.changes_files() && counts.waiting == 0 && counts.refused == 0 && counts.failed == 0
    }
}

/// What others need of a cluster, as it publishes it.
struct Facts {
    key: String,
    api_host: String,
    network: String,
    gateways: BTreeSet<String>,
}

impl Facts {
    fn of(cluster: &SimulatedCluster, fleet: &Fleet) -> Self {
        let document = cluster.private(fleet);
        Self {
            key: squeeze(&cluster.public().authn_key.to_pem()),
            api_host: document.api_host.to_string(),
            network: document.network_name.to_string(),
            gateways: document.ingress_gateways.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A mesh in memory.
pub(crate) struct MemoryMesh {
    pub(crate) fleet: Fleet,
    facts: BTreeMap<&'static str, Facts>,
    pub(crate) wish: WantedSpec,
    /// `lock/` and `rendered/`.
    pub(crate) checkout: NaiveFiles,
    /// Objects of ours that are live, by cluster and file.
    pub(crate) live: BTreeMap<&'static str, NaiveFiles>,
    /// What the clusters do by them.
    pub(crate) naive: BTreeMap<&'static str, Naive>,
    pub(crate) faults: BTreeMap<&'static str, ClusterFault>,
    /// Gateways that clusters have instead of their first ones.
    pub(crate) gateways: BTreeMap<&'static str, String>,
    pub(crate) allow_delete: bool,
    pub(crate) approvals: Approvals,
}

impl Drop for MemoryMesh {
    fn drop(&mut self) {
        IDLE.with_borrow_mut(|idle| {
            for (_, mut cluster) in std::mem::take(&mut self.fleet.clusters) {
                cluster.sync(&NaiveFiles::new());
                cluster.up = true;
                let name = NAMES.into_iter().find(|name| *name == cluster.name.as_str()).unwrap();
                idle.insert(name, cluster);
            }
        });
    }
}

pub(crate) fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

impl MemoryMesh {
    /// Clusters that know nothing of each other; all are to be linked.
    pub(crate) fn of(names: &[&'static str]) -> Self {
        let mut fleet = Fleet::default();
        let mut facts = BTreeMap::new();
        for (at, name) in (0u8..).zip(NAMES).filter(|(_, name)| names.contains(name)) {
            let idle = IDLE.with_borrow_mut(|idle| idle.remove(name));
            let cluster = idle.unwrap_or_else(|| {
                SimulatedCluster::new(name, &[at + 1; 32], &format!("203.0.113.{}", at + 1)).unwrap()
            });
            facts.insert(name, Facts::of(&cluster, &fleet));
            fleet.clusters.insert(cluster.name.clone(), cluster);
        }
        Self {
            fleet,
            facts,
            wish: WantedSpec {
                clusters: names.iter().map(|name| (*name, DeclaredState::Active)).collect(),
                pairs: None,
            },
            checkout: NaiveFiles::new(),
            live: names.iter().map(|name| (*name, NaiveFiles::new())).collect(),
            naive: names.iter().map(|name| (*name, Naive::default())).collect(),
            faults: BTreeMap::new(),
            gateways: BTreeMap::new(),
            allow_delete: false,
            approvals: Approvals::default(),
        }
    }

    /// The same, the first so many of [`NAMES`].
    pub(crate) fn new(clusters: usize) -> Self {
        Self::of(&NAMES[..clusters])
    }

    /// All clusters joined.
    pub(crate) fn joined(clusters: usize, pairs: Option<Pairs>) -> Self {
        let mut world = Self::new(clusters);
        world.wish.pairs = pairs;
        world.settle();
        world
    }

    /// Names of the clusters.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.live.keys().copied().collect()
    }

    pub(crate) fn cluster(&self, cluster: &str) -> &SimulatedCluster {
        &self.fleet.clusters[&name(cluster)]
    }

    /// The checkout as a run reads it.
    pub(crate) fn input(&self) -> Input {
        let files = vec![("specs/mesh.yaml".to_owned(), self.wish.documents())];
        self.input_of(&files)
    }

    pub(crate) fn input_of(&self, specs: &[(String, Vec<String>)]) -> Input {
        let lock = self.checkout.iter().filter(|(path, _)| path.starts_with("lock/"));
        Input {
            specs: sources(specs),
            templates: Vec::new(),
            lock: lock.map(|(path, bytes)| (path.clone(), bytes.clone())).collect(),
            inside: None,
        }
    }

    pub(crate) fn load(&self) -> Program {
        Program::load(&self.input(), &|_| None).unwrap()
    }

    /// The lock as it stands.
    pub(crate) fn lock(&self) -> Lock {
        let files = self.input().lock;
        Lock::parse(files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))).unwrap()
    }

    /// Stage of a link.
    pub(crate) fn stage(&self, reader: &str, peer: &str) -> Option<Stage> {
        self.lock().link(&name(reader), &name(peer)).map(|link| link.stage)
    }

    pub(crate) fn fault(&self, cluster: &str) -> Option<ClusterFault> {
        self.faults.get(cluster).copied()
    }

    fn public(&self, cluster: &SimulatedCluster) -> Result<PublicDocument, Failure> {
        let url = format!("https://metadata.{}.example.com/metadata/public/public.json", cluster.name);
        let mut document = cluster.public();
        let known = self.checkout.contains_key(&format!("lock/clusters/{}.yaml", cluster.name));
        match self.fault(cluster.name.as_str()) {
            // at first contact there is nothing that it could contradict
            Some(ClusterFault::Stranger | ClusterFault::OtherRoot) if !known => {}
            Some(ClusterFault::Down) => return Err(Failure::TimedOut { url, seconds: 10 }),
            Some(ClusterFault::Garbage) => return Err(Failure::Format { url, problem: "not JSON".to_owned() }),
            Some(ClusterFault::Stranger) => {
                document.cluster_uuid = "00000000-0000-4000-8000-000000000000".parse().unwrap();
            }
            Some(ClusterFault::OtherRoot) => document.root_ca.clone_from(&cluster.serving.pem),
            _ => {}
        }
        Ok(document)
    }

    fn private(&self, cluster: &SimulatedCluster) -> PrivateReading {
        let url = format!("https://metadata.{}.example.com/metadata/private/multicluster.json", cluster.name);
        let key = squeeze(&engine_key().public().to_pem());
        let fault = self.fault(cluster.name.as_str());
        if fault == Some(ClusterFault::Starting) {
            return PrivateReading::Failed(Failure::Unavailable { url });
        }
        if fault == Some(ClusterFault::Forbidden) || !self.naive[cluster.name.as_str()].engine.contains(&key) {
            return PrivateReading::Failed(Failure::Unauthorized { url, status: 401 });
        }
        let mut document = self.document(cluster);
        match fault {
            Some(ClusterFault::NoGateway) => document.ingress_gateways.clear(),
            Some(ClusterFault::Blind) => document.evidence = Some(Evidence::unknown("the apiserver does not answer")),
            _ => {}
        }
        PrivateReading::Read(document)
    }

    /// The private document of a cluster that is well.
    fn document(&self, cluster: &SimulatedCluster) -> PrivateDocument {
        let mut document = cluster.private(&self.fleet);
        if let Some(address) = self.gateways.get(cluster.name.as_str()) {
            document.ingress_gateways = vec![isthmus::types::address::Gateway::new(address, 15443).unwrap()];
        }
        document
    }

    /// What a run sees: public documents first, then the private ones of those that the engine may ask.
    pub(crate) fn observe(&mut self, program: &Program) -> Observed {
        let down: Vec<_> =
            self.names().into_iter().map(|name| (name, self.fault(name) == Some(ClusterFault::Down))).collect();
        for (cluster, is_down) in down {
            self.fleet.clusters.get_mut(&name(cluster)).unwrap().up = !is_down;
        }
        let asked = self.fleet.clusters.values().filter(|cluster| {
            let state = self.wish.clusters.get(cluster.name.as_str());
            state.is_some_and(|state| *state != DeclaredState::Paused)
        });
        let public = |cluster: &SimulatedCluster| {
            (cluster.name.clone(), Observation::own(self.public(cluster), PrivateReading::NotAsked))
        };
        let mut observed = Observed { clusters: asked.map(public).collect(), ..Observed::default() };
        let judged =
            accept(&program.mesh, &program.lock, &observed, &self.approvals, &BTreeSet::new(), CERTIFICATES_ARE_VALID);
        for (name, observation) in &mut observed.clusters {
            if observation.public.is_ok() {
                let cluster = &self.fleet.clusters[name];
                observation.private = if judged.assessments[name].may_be_asked() {
                    self.private(cluster)
                } else {
                    PrivateReading::HeldBack
                };
            }
        }
        observed
    }

    /// A run: observed, planned, and written into the checkout.
    pub(crate) fn reconcile(&mut self) -> MeshRun {
        let program = self.load();
        let observed = self.observe(&program);
        self.reconcile_on(&program, &observed)
    }

    pub(crate) fn reconcile_on(&mut self, program: &Program, observed: &Observed) -> MeshRun {
        let is_seen = |cluster: &&'static str| {
            let seen = observed.clusters.get(&name(cluster));
            seen.is_some_and(|seen| match &seen.private {
                PrivateReading::Read(document) => {
                    document.evidence.as_ref().is_some_and(|evidence| matches!(evidence.trusts, Reported::Seen(_)))
                }
                _ => false,
            })
        };
        let shown = self.names().into_iter().filter(is_seen).collect();
        let live = self.naive.clone();
        let request =
            Request { approvals: self.approvals.clone(), allow_delete: self.allow_delete, ..Request::default() };
        let facts = pipeline::FactSource::Stored(observed.clone());
        let (run, changes) = road::written(program, &request, facts, &self.checkout, CERTIFICATES_ARE_VALID);
        road::apply(&mut self.checkout, changes);
        MeshRun { decided: run.decided, plan: run.plan, live, shown }
    }

    /// What kustomize makes of a cluster's folder: the files that its kustomization lists.
    pub(crate) fn rendered(&self, cluster: &str) -> NaiveFiles {
        let mut files = self.folder(cluster);
        let Some(kustomization) = files.remove(KUSTOMIZATION) else {
            assert!(files.is_empty(), "objects of {cluster} without a kustomization");
            return files;
        };
        let text = String::from_utf8(kustomization).unwrap();
        let listed = text.lines().filter_map(|line| line.trim().strip_prefix("- ")).map(str::to_owned);
        let listed: BTreeSet<String> = listed.collect();
        let there: BTreeSet<String> = files.keys().cloned().collect();
        assert_eq!(listed, there, "the kustomization of {cluster} lists its files");
        files
    }

    /// All files of a cluster's folder.
    pub(crate) fn folder(&self, cluster: &str) -> NaiveFiles {
        let prefix = format!("rendered/{cluster}/");
        let file = |(path, bytes): (&String, &Vec<u8>)| Some((path.strip_prefix(&prefix)?.to_owned(), bytes.clone()));
        self.checkout.iter().filter_map(file).collect()
    }

    /// Files whose live objects differ from the checkout.
    pub(crate) fn behind(&self, cluster: &str) -> Vec<String> {
        let (wanted, live) = (self.rendered(cluster), &self.live[cluster]);
        let names: BTreeSet<&String> = wanted.keys().chain(live.keys()).collect();
        names.into_iter().filter(|name| wanted.get(*name) != live.get(*name)).cloned().collect()
    }

    /// Makes one file of the checkout live, or takes its object away.
    pub(crate) fn sync_file(&mut self, cluster: &'static str, file: &str) {
        let wanted = self.rendered(cluster).remove(file);
        self.put(cluster, file, wanted);
    }

    /// Makes this live, or takes it away.
    pub(crate) fn put(&mut self, cluster: &'static str, file: &str, bytes: Option<Vec<u8>>) {
        self.fleet.clusters.get_mut(&name(cluster)).unwrap().sync_file(file, bytes.as_deref());
        let live = self.live.get_mut(cluster).unwrap();
        match bytes {
            Some(bytes) => live.insert(file.to_owned(), bytes),
            None => live.remove(file),
        };
        self.naive.insert(cluster, Naive::read(live));
    }

    /// Makes all of a cluster's files live, and nothing else.
    pub(crate) fn sync(&mut self, cluster: &'static str) {
        for file in self.behind(cluster) {
            self.sync_file(cluster, &file);
        }
    }

    pub(crate) fn sync_all(&mut self) {
        for name in self.names() {
            self.sync(name);
        }
    }

    /// Runs and syncs until nothing changes and nothing waits; the number of runs, the idle one included.
    pub(crate) fn settle(&mut self) -> usize {
        for rounds in 1..=12 {
            self.sync_all();
            if self.reconcile().is_idle() && self.names().into_iter().all(|name| self.behind(name).is_empty()) {
                return rounds;
            }
        }
        panic!("never idle: {:#?}", self.reconcile().plan.steps);
    }

    /// What secret `reader`/`peer` needs to be live and is not, by the given state of all clusters.
    pub(crate) fn lacks(&self, live: &BTreeMap<&'static str, Naive>, reader: &str, peer: &str) -> Vec<&'static str> {
        let (from, to) = (self.cluster(reader), self.cluster(peer));
        let (reading, read, facts) = (&live[reader], &live[peer], &self.facts[peer]);
        let keys = read.admits.get(&from.uuid.to_string());
        let needs = [
            (reading.roots.contains(&squeeze(&to.root.pem)), "the peer's root in the reader"),
            (read.roots.contains(&squeeze(&from.root.pem)), "the reader's root in the peer"),
            (reading.networks.get(&facts.network) == Some(&facts.gateways), "the peer's network in the reader"),
            (reading.routes.contains(&(peer.to_owned(), facts.api_host.clone())), "the route in the reader"),
            (keys.is_some_and(|keys| keys.contains(&self.facts[reader].key)), "admission of the reader by the peer"),
        ];
        needs.into_iter().filter(|(there, _)| !there).map(|(_, what)| what).collect()
    }

    /// Another gateway from now on.
    pub(crate) fn move_gateway(&mut self, cluster: &'static str, address: &str) {
        self.gateways.insert(cluster, address.to_owned());
        self.facts.get_mut(cluster).unwrap().gateways = BTreeSet::from([format!("{address}:15443")]);
    }
}
