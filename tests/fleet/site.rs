//! A cluster as it really is, what happens in it, and what it publishes of itself.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use isthmus::model::keyring::KeyProblem;
use isthmus::pipeline::observe::PrivateReading;
use isthmus::simulation::cluster::Authority;
use isthmus::types::address::Gateway;
use isthmus::types::key::{PrivateKey, PublicKey};
use isthmus::types::name::Digest;
use isthmus::types::token::Scope;
use isthmus::wire::failure::Failure;
use isthmus::wire::hand_over::{HandOverStage, HandOverState, ObjectWriter};
use isthmus::wire::metadata::{
    AuthnKey, EveryRevision, Evidence, IstioFacts, LiveNetwork, LiveRoute, PrivateDocument, PublicDocument, Read,
    ReadState, Reported, RouteState, StandardMeshConfig,
};

use rustc_hash::FxBuildHasher;
use serde_json::json;

use super::agents::{ApiserverWrite, CRD, MULTICLUSTER, ObjectRecord, ObjectRecords, SimulatedOutside};
use super::file::{FleetFile, FleetFiles};
use super::istiod::{ISTIO_NAMESPACE, SimulatedIstiod, SimulatedNetwork, stays};
use super::others;
use crate::support::naive::squeeze;

/// Names of clusters, of which a fleet takes the first.
pub(crate) const NAMES: [&str; 4] = ["ash", "birch", "cedar", "dogwood"];

/// A root certificate.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    pub(crate) pem: String,
    pub(crate) squeezed: String,
    pub(crate) digest: Digest,
}

thread_local! {
    /// By cluster and number: certificates are made once a thread.
    static ROOTS: RefCell<BTreeMap<(&'static str, usize), Rc<Root>>> = RefCell::default();
}

fn root(name: &'static str, number: usize) -> Rc<Root> {
    ROOTS.with_borrow_mut(|roots| {
        let made = roots.entry((name, number)).or_insert_with(|| {
            let pem = Authority::new(&format!("{name} {number}")).unwrap().pem;
            let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
            let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
            Rc::new(Root { squeezed: squeeze(&pem), digest: Digest::of(&der), pem })
        });
        made.clone()
    })
}

/// How a cluster's documents or evidence misbehave, until it is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClusterTrouble {
    /// No one answers.
    Down,
    /// Its exporter restarts: 503 for the private document.
    Starting,
    /// Its exporter restarted: the document is there, evidence is not.
    NoEvidence,
    /// Some fields of evidence are unknown, by bit.
    Half(u8),
    /// An answer that is no document.
    Garbage,
    /// It does not admit the engine; every second cluster admits a key alone that the engine does not have.
    Forbidden,
    /// It publishes no gateway.
    NoGateway,
    /// Optional fields of its public document are absent.
    Bare,
    /// It publishes another UUID.
    OtherUuid,
    /// It publishes another root CA.
    OtherRoot,
    /// It publishes another key.
    OtherKey,
    /// It publishes the network of another cluster.
    OtherNetwork,
    /// It publishes the cluster ID of another cluster.
    OtherId,
    /// It publishes an api host that is not its own.
    OtherHost,
}

/// Each kind once.
pub(crate) const TROUBLES: [ClusterTrouble; 14] = [
    ClusterTrouble::Down,
    ClusterTrouble::Starting,
    ClusterTrouble::NoEvidence,
    ClusterTrouble::Half(0b101),
    ClusterTrouble::Garbage,
    ClusterTrouble::Forbidden,
    ClusterTrouble::NoGateway,
    ClusterTrouble::Bare,
    ClusterTrouble::OtherUuid,
    ClusterTrouble::OtherRoot,
    ClusterTrouble::OtherKey,
    ClusterTrouble::OtherNetwork,
    ClusterTrouble::OtherId,
    ClusterTrouble::OtherHost,
];

/// What happens inside a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FleetEvent {
    /// Its root is replaced at once.
    ReplaceRoot,
    /// A second root beside the first.
    AddRoot,
    /// The first of several roots goes.
    DropRoot,
    /// Another east-west gateway.
    MoveGateway,
    /// Another address of the api-proxy.
    MoveApi,
    /// Another CA of its relay, whose replicas follow one after the other.
    ReplaceRelayCa,
    /// Made anew: UUID, key, root; nothing is live in it.
    Rebuild,
    /// Its pods are in a network of another name.
    RenameNetwork,
}

/// All of them.
pub(crate) const FLEET_EVENTS: [FleetEvent; 8] = [
    FleetEvent::ReplaceRoot,
    FleetEvent::AddRoot,
    FleetEvent::DropRoot,
    FleetEvent::MoveGateway,
    FleetEvent::MoveApi,
    FleetEvent::ReplaceRelayCa,
    FleetEvent::Rebuild,
    FleetEvent::RenameNetwork,
];

/// A cluster.
#[derive(Debug, Clone)]
pub(crate) struct FleetCluster {
    pub(crate) name: &'static str,
    at: u8,
    generation: u8,
    roots: Vec<usize>,
    made: usize,
    /// Roots that workloads still have certificates of, and until when.
    retiring: Vec<(usize, i64)>,
    relay_ca: usize,
    /// CAs of which a replica of its relay still has a certificate, and until when.
    retiring_relay_cas: Vec<(usize, i64)>,
    gateway: u8,
    host: u8,
    network_name: u8,
    pub(crate) trouble: Option<ClusterTrouble>,
    /// Objects that are live, by file.
    pub(crate) live: FleetFiles,
    /// What its apiserver has of them beside.
    pub(crate) records: ObjectRecords,
    /// No pod of its agent runs but as a relay.
    pub(crate) is_agent_down: bool,
    /// What kept the last run of its agent from its end.
    pub(crate) agent_problem: Option<String>,
    /// The values that its Istio was installed with.
    pub(crate) values: Option<FleetFile>,
    pub(crate) istiod: Rc<SimulatedIstiod>,
}

thread_local! {
    /// By seed: keys are made once a thread.
    static KEYS: RefCell<BTreeMap<u8, Rc<ComparedKey>>> = RefCell::default();
}

/// A public key, and its text as it is compared.
#[derive(Debug)]
struct ComparedKey {
    public: PublicKey,
    squeezed: String,
}

/// Of the key of a cluster.
fn seed_of(at: u8, generation: u8) -> u8 {
    at * 16 + generation + 1
}

fn key(at: u8, generation: u8) -> Rc<ComparedKey> {
    let seed = seed_of(at, generation);
    KEYS.with_borrow_mut(|keys| {
        let made = keys.entry(seed).or_insert_with(|| {
            let public = PrivateKey::generate(&[seed; 32]).unwrap().public().clone();
            Rc::new(ComparedKey { squeezed: squeeze(&public.to_pem()), public })
        });
        made.clone()
    })
}

/// A cluster, whether it has values, and which contents its files and these have.
type HavingKey = (&'static str, bool, Vec<usize>);
/// What clusters do, with the contents that they do it by.
type KnownHaving = HashMap<HavingKey, (Rc<[FleetFile]>, Rc<SimulatedIstiod>), FxBuildHasher>;

/// Most of what follows that is known at a time: a walk has some hundred states of clusters, and the next one has most of them again.
const MOST_KNOWN: usize = 5_000;

thread_local! {
    /// What clusters do with objects; the contents are kept, so that no other gets their identities.
    static HAVING: RefCell<KnownHaving> = RefCell::default();
}

/// Whether a file is that of an object of links, which one writer has.
pub(crate) fn is_of_links(file: &str) -> bool {
    ["configmap-isthmus-mesh", "configmap-isthmus-peers", "configmap-isthmus-routes", "secret-istio-remote-secret-"]
        .iter()
        .any(|beginning| file.starts_with(beginning))
        || file == "gateway.networking.istio.io-isthmus-cross-network.yaml"
}

impl FleetCluster {
    pub(crate) fn new(name: &'static str) -> Self {
        let at = NAMES.iter().position(|known| *known == name).unwrap();
        Self {
            name,
            at: u8::try_from(at).unwrap(),
            generation: 0,
            roots: vec![0],
            made: 0,
            retiring: Vec::new(),
            relay_ca: 0,
            retiring_relay_cas: Vec::new(),
            gateway: 0,
            host: 0,
            network_name: 0,
            trouble: None,
            live: FleetFiles::new(),
            records: ObjectRecords::new(),
            is_agent_down: false,
            agent_problem: None,
            values: None,
            istiod: Rc::default(),
        }
    }

    pub(crate) fn uuid(&self) -> String {
        format!("{:08}-0000-4000-8000-00000000000{}", self.at + 1, self.generation)
    }

    /// Whether it was made anew since the walk began.
    pub(crate) fn is_made_anew(&self) -> bool {
        self.generation > 0
    }

    fn key(&self) -> Rc<ComparedKey> {
        key(self.at, self.generation)
    }

    /// Every second cluster has a trust domain of its own.
    pub(crate) fn domain(&self) -> String {
        if self.at.is_multiple_of(2) { "cluster.local".to_owned() } else { format!("{}.mesh", self.name) }
    }

    pub(crate) fn network(&self) -> String {
        format!("network-{}{}", self.name, ["", "-b", "-c"][usize::from(self.network_name % 3)])
    }

    /// A network of its own standard configuration, which ours replaces; every second cluster has one.
    pub(crate) fn standard_network(&self) -> Option<String> {
        (!self.at.is_multiple_of(2)).then(|| format!("vm-{}", self.name))
    }

    pub(crate) fn gateway(&self) -> String {
        format!("203.0.113.{}", self.at * 16 + self.gateway % 8 + 1)
    }

    pub(crate) fn api_host(&self) -> String {
        format!("api{}.{}.example.com", self.host % 4, self.name)
    }

    /// Roots that are published.
    pub(crate) fn published_roots(&self) -> Vec<Rc<Root>> {
        self.roots.iter().map(|number| root(self.name, *number)).collect()
    }

    /// Roots that certificates of workloads come from.
    pub(crate) fn used_roots(&self, now: i64) -> Vec<Rc<Root>> {
        let retiring = self.retiring.iter().filter(|(_, until)| *until > now).map(|(number, _)| number);
        self.roots.iter().chain(retiring).map(|number| root(self.name, *number)).collect()
    }

    /// CAs of certificates that its relay serves.
    pub(crate) fn used_relay_cas(&self, now: i64) -> Vec<Rc<Root>> {
        let retiring = self.retiring_relay_cas.iter().filter(|(_, until)| *until > now).map(|(number, _)| *number);
        retiring.chain([self.relay_ca]).map(|number| root(self.name, 1000 + number)).collect()
    }

    /// A file becomes live, or its object goes; whether the cluster does anything else since.
    pub(crate) fn put(&mut self, file: &str, bytes: Option<&FleetFile>) -> bool {
        match bytes {
            Some(bytes) => {
                self.live.insert(file.to_owned(), bytes.clone());
                if let Some(record) = self.records.get_mut(file) {
                    record.synced();
                }
            }
            None => self.delete(file),
        }
        self.read()
    }

    /// An object goes, unless a finalizer holds it; and all of a kind with the kind.
    fn delete(&mut self, file: &str) {
        if let Some(record) = self.records.get_mut(file).filter(|record| record.is_held()) {
            record.is_deleted = true;
        } else {
            self.live.remove(file);
            self.records.remove(file);
        }
        if file == CRD {
            let all: Vec<String> = self.live.keys().filter(|file| file.starts_with(MULTICLUSTER)).cloned().collect();
            for file in &all {
                self.delete(file);
            }
        }
    }

    /// Someone takes finalizers off what was deleted, where no agent is left to do it: the cluster was stated to be lost, and is not.
    pub(crate) fn drop_held(&mut self) {
        if self.istiod.deployments.contains("isthmus-agent") {
            return;
        }
        let held: Vec<String> =
            self.records.iter().filter(|(_, one)| one.is_deleted).map(|(file, _)| file.clone()).collect();
        for file in held {
            self.records.remove(&file);
            self.live.remove(&file);
        }
        self.read();
    }

    /// Someone deletes what the checkout left of links and has no more, as the agent says that finds it and knows nothing of it: the cluster
    /// was made anew, or stated to be lost, while it was handed over.
    pub(crate) fn drop_left(&mut self, folder: &FleetFiles, argo: bool) {
        let says = |what| self.agent_problem.as_ref().is_some_and(|problem| problem.contains(what));
        if !says("delete what is left of links") && !says("delete it here") {
            return;
        }
        let is_left = |(file, bytes): &(&String, &FleetFile)| {
            is_of_links(file) && self.is_tracked(file) && stays(bytes, argo) && !folder.contains_key(*file)
        };
        let left: Vec<String> = self.live.iter().filter(is_left).map(|(file, _)| file.clone()).collect();
        for file in left {
            self.delete(&file);
        }
        self.read();
    }

    /// Its agent wrote something; whether it does anything else since.
    pub(crate) fn agent_wrote(&mut self, write: &ApiserverWrite) -> bool {
        if let Some((bytes, record)) = &write.object {
            self.live.insert(write.file.clone(), bytes.clone());
            self.records.insert(write.file.clone(), record.clone());
        } else {
            self.live.remove(&write.file);
            self.records.remove(&write.file);
        }
        self.read()
    }

    /// Whether the tool that syncs knows a live object as its own.
    pub(crate) fn is_tracked(&self, file: &str) -> bool {
        self.records.get(file).is_none_or(ObjectRecord::is_tracked)
    }

    /// Whether its agent shows a peer whose remote secret is there.
    pub(crate) fn shows_joined(&self, peer: &str) -> bool {
        let Some(record) = self.records.get(&format!("{MULTICLUSTER}{peer}.yaml")) else { return false };
        let conditions = record.status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == "SecretRendered" && one["status"] == "True")
    }

    /// What its agent shows of each peer that is not as it is to be.
    pub(crate) fn shown_of_links(&self) -> Vec<String> {
        let of_one = |(file, record): (&String, &ObjectRecord)| {
            let conditions = record.status["conditions"].as_array().cloned().unwrap_or_default();
            let lacks = conditions.into_iter().filter(|one| one["status"] != "True");
            let lacks: Vec<String> =
                lacks.map(|one| format!("{file}: {} {} {}", one["type"], one["reason"], one["message"])).collect();
            let held = record.is_deleted.then(|| format!("{file}: is deleted"));
            lacks.into_iter().chain(held).collect::<Vec<_>>()
        };
        self.records.iter().filter(|(file, _)| file.starts_with(MULTICLUSTER)).flat_map(of_one).collect()
    }

    /// Whether an agent would take a run.
    pub(crate) fn has_agent(&self) -> bool {
        self.istiod.deployments.contains("isthmus-agent") && !self.is_agent_down
    }

    /// What its agent does not know by itself.
    pub(crate) fn outside(&self, fleet: &[&Self], now: i64) -> SimulatedOutside {
        let answer = |site: &&Self| (site.name.parse().unwrap(), (site.public(), site.private_for(self, fleet)));
        let answers = Arc::new(fleet.iter().map(answer).collect());
        let authority = root(self.name, 999).pem.clone();
        SimulatedOutside { seed: [seed_of(self.at, self.generation); 32], authority, now, answers }
    }

    /// What its exporter answers to the agent of a cluster.
    fn private_for(&self, asking: &Self, fleet: &[&Self]) -> PrivateReading {
        let key = asking.key().squeezed.clone();
        if asking.name == self.name {
            return self.private(&[key], fleet);
        }
        let url = format!("https://metadata.{}.example.com/metadata/private/multicluster.json", self.name);
        let uuid = asking.uuid();
        let is_admitted = self.istiod.admits.get(&uuid).is_some_and(|keys| keys.contains(&key));
        match self.trouble {
            Some(ClusterTrouble::Starting) => return PrivateReading::Failed(Failure::Unavailable { url }),
            Some(ClusterTrouble::Forbidden) => {
                return PrivateReading::Failed(Failure::Unauthorized { url, status: 401 });
            }
            _ if !is_admitted => return PrivateReading::Failed(Failure::Unauthorized { url, status: 401 }),
            _ => {}
        }
        let mut document = self.document(fleet);
        document.evidence = document.evidence.map(|evidence| self.shown_to(asking, evidence));
        let leaving = self.istiod.leaving.contains_key(&uuid);
        document.leaving = leaving.then(|| uuid.parse().unwrap()).into_iter().collect();
        PrivateReading::Read(document)
    }

    /// What of its evidence a peer is shown: what is about the peer.
    fn shown_to(&self, asking: &Self, evidence: Evidence) -> Evidence {
        fn about<T>(list: Reported<Vec<T>>, is_related: bool, is_it: impl Fn(&T) -> bool) -> Reported<Vec<T>> {
            match list {
                Reported::Seen(_) if !is_related => Reported::Unknown("no route says who asks".to_owned()),
                Reported::Seen(list) => Reported::Seen(list.into_iter().filter(is_it).collect()),
                unknown @ Reported::Unknown(_) => unknown,
            }
        }
        let uuid = asking.uuid();
        let route = self.istiod.routes.iter().find(|route| route.uuid == uuid);
        let id = route.map(|route| route.id.clone()).or_else(|| self.istiod.leaving.get(&uuid).cloned());
        let is_it = |other: &str| id.as_deref() == Some(other);
        let Evidence { trusts, networks, reads, routes, prepared, credentials, .. } = evidence;
        Evidence {
            trusts,
            prepared,
            networks: about(networks, id.is_some(), |one| one.name.as_str() == asking.network()),
            reads: about(reads, id.is_some(), |one| is_it(one.cluster_id.as_str())),
            routes: about(routes, id.is_some(), |one| is_it(one.cluster_id.as_str())),
            credentials: about(credentials, true, |one| one.cluster_uuid.as_str() == uuid),
            ..Evidence::unknown("for the own engine alone")
        }
    }

    /// Whether it is another checkout's, which did not leave it.
    pub(crate) fn is_kept_by_others(&self) -> bool {
        self.istiod.is_of_others() && !self.is_offered()
    }

    /// Whether whoever has it leaves it to others.
    pub(crate) fn is_offered(&self) -> bool {
        self.istiod.offered > 0 && self.istiod.offered == self.istiod.serial
    }

    /// Another checkout takes what is left, or leaves what it has; whether it did.
    pub(crate) fn go_to_others(&mut self) -> bool {
        let next = match (self.is_offered(), self.istiod.is_of_others()) {
            (true, _) => others::taken(&self.live, !self.at.is_multiple_of(2)),
            (false, true) => others::offered(&self.live, self.istiod.serial + 1),
            (false, false) => return false,
        };
        self.live = next;
        self.records.clear();
        self.read();
        true
    }

    /// Whether it does anything else since what is live in it changed.
    fn read(&mut self) -> bool {
        let now = self.having(&self.live);
        let before = std::mem::replace(&mut self.istiod, now);
        !Rc::ptr_eq(&before, &self.istiod) && before != self.istiod
    }

    /// What it does with these objects.
    pub(crate) fn having(&self, objects: &FleetFiles) -> Rc<SimulatedIstiod> {
        let files: Vec<&FleetFile> = objects.values().chain(&self.values).collect();
        let key = (self.name, self.values.is_some(), files.iter().map(|file| file.identity()).collect());
        if let Some((_, known)) = HAVING.with_borrow(|known| known.get(&key).cloned()) {
            return known;
        }
        let (files, made) = (files.into_iter().cloned().collect(), Rc::new(self.read_with(objects)));
        HAVING.with_borrow_mut(|known| {
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(key, (files, made.clone()));
        });
        made
    }

    /// Networks of ours hide those of its own configuration.
    fn read_with(&self, objects: &FleetFiles) -> SimulatedIstiod {
        let ours = SimulatedIstiod::read(objects);
        let is_hidden = !ours.networks.is_empty();
        let mut all = ours.under(self.values.as_deref());
        if let Some(name) = self.standard_network().filter(|_| !is_hidden) {
            all.networks.insert(
                name,
                SimulatedNetwork { gateways: ["192.0.2.1:15443".to_owned()].into(), registries: BTreeSet::new() },
            );
        }
        all
    }

    /// Its Istio is installed anew, with these values; whether it does anything else since.
    pub(crate) fn install(&mut self, values: Option<FleetFile>) -> bool {
        self.values = values;
        self.read()
    }

    /// Something happens; roots that go are in use until then.
    pub(crate) fn happen(&mut self, event: FleetEvent, until: i64) {
        match event {
            FleetEvent::ReplaceRoot => {
                self.retiring.extend(self.roots.drain(..).map(|number| (number, until)));
                self.made += 1;
                self.roots.push(self.made);
            }
            FleetEvent::AddRoot => {
                self.made += 1;
                self.roots.push(self.made);
            }
            FleetEvent::DropRoot => {
                if self.roots.len() > 1 {
                    let number = self.roots.remove(0);
                    self.retiring.push((number, until));
                }
            }
            FleetEvent::MoveGateway => self.gateway += 1,
            FleetEvent::MoveApi => self.host += 1,
            FleetEvent::ReplaceRelayCa => {
                // a relay that does not run yet has no certificate
                if self.istiod.relays() {
                    self.retiring_relay_cas.push((self.relay_ca, until));
                }
                self.relay_ca += 1;
            }
            FleetEvent::Rebuild => {
                self.generation += 1;
                self.made += 1;
                self.roots = vec![self.made];
                self.retiring.clear();
                self.retiring_relay_cas.clear();
                self.relay_ca += 1;
                self.live.clear();
                self.records.clear();
                self.values = None;
                self.istiod = Rc::default();
            }
            FleetEvent::RenameNetwork => self.network_name += 1,
        }
    }

    /// Whether it publishes an identity that is not its own.
    pub(crate) fn lies_of_itself(&self) -> bool {
        matches!(self.trouble, Some(ClusterTrouble::OtherUuid | ClusterTrouble::OtherRoot | ClusterTrouble::OtherKey))
    }

    /// What retires is still in use where it is known; nothing can be said of what is not.
    pub(crate) fn forget_retiring(&mut self, is_known: &dyn Fn(&Root) -> bool) {
        let name = self.name;
        self.retiring.retain(|(number, _)| is_known(&root(name, *number)));
        self.retiring_relay_cas.retain(|(number, _)| is_known(&root(name, 1000 + number)));
    }

    /// Whether its relay is let through to the apiserver of a peer that does this.
    pub(crate) fn is_admitted(&self, peer: &SimulatedIstiod) -> bool {
        let keys = peer.admits.get(&self.uuid());
        keys.is_some_and(|keys| keys.contains(&self.key().squeezed))
            && peer.impersonates.contains(peer.users.get(&self.uuid()).unwrap_or(&self.uuid()))
            && peer.deployments.contains("isthmus-proxy")
    }

    pub(crate) fn public(&self) -> Result<PublicDocument, Failure> {
        let url = format!("https://metadata.{}.example.com/metadata/public/public.json", self.name);
        match self.trouble {
            Some(ClusterTrouble::Down) => return Err(Failure::TimedOut { url, seconds: 10 }),
            Some(ClusterTrouble::Garbage) => return Err(Failure::Format { url, problem: "not JSON".to_owned() }),
            _ if !self.istiod.deployments.contains("isthmus-exporter") => return Err(Failure::NotFound { url }),
            _ => {}
        }
        let key = if self.trouble == Some(ClusterTrouble::OtherKey) { key(self.at, 14) } else { self.key() };
        let bare = self.trouble == Some(ClusterTrouble::Bare);
        let roots = match self.trouble {
            Some(ClusterTrouble::OtherRoot) => vec![root(self.name, 900)],
            _ => self.published_roots(),
        };
        let ca = root(self.name, 1000).pem.clone();
        Ok(PublicDocument {
            cluster_uuid: match self.trouble {
                Some(ClusterTrouble::OtherUuid) => "00000000-0000-4000-8000-000000000000".parse().unwrap(),
                _ => self.uuid().parse().unwrap(),
            },
            authn_key: key.public.clone(),
            root_ca: roots.iter().map(|root| root.pem.as_str()).collect(),
            mesh_id: None,
            trust_domain: (!bare).then(|| self.domain().parse().unwrap()),
            cluster_domain: (!bare).then(|| "cluster.local".parse().unwrap()),
            serving_ca: (!bare).then(|| ca.clone()),
            relay_ca: (!bare).then(|| root(self.name, 1000 + self.relay_ca).pem.clone()),
            crl: None,
            authn_keys: vec![AuthnKey {
                id: key.public.id(),
                pem: key.public.clone(),
                scopes: [Scope::Api, Scope::PrivateMulticluster].into(),
            }],
            istio: (!bare).then(|| IstioFacts {
                version: Some("1.31.1".to_owned()),
                revisions: vec!["default".parse().unwrap()],
                namespace: Some(ISTIO_NAMESPACE.parse().unwrap()),
                modes: BTreeSet::new(),
            }),
        })
    }

    /// The private document, asked for with any of these keys.
    pub(crate) fn private(&self, engine: &[String], fleet: &[&Self]) -> PrivateReading {
        let url = format!("https://metadata.{}.example.com/metadata/private/multicluster.json", self.name);
        if self.trouble == Some(ClusterTrouble::Starting) {
            return PrivateReading::Failed(Failure::Unavailable { url });
        }
        if self.trouble == Some(ClusterTrouble::Forbidden) && !self.at.is_multiple_of(2) {
            let peer = self.name.parse().unwrap();
            return PrivateReading::NoKey(KeyProblem::OnlyClusterKeys { peer });
        }
        let admitted = engine.iter().any(|key| self.istiod.engine.contains(key));
        if self.trouble == Some(ClusterTrouble::Forbidden) || !admitted {
            return PrivateReading::Failed(Failure::Unauthorized { url, status: 401 });
        }
        let mut document = self.document(fleet);
        document.leaving = self.istiod.leaving.keys().map(|uuid| uuid.parse().unwrap()).collect();
        PrivateReading::Read(document)
    }

    /// The private document.
    fn document(&self, fleet: &[&Self]) -> PrivateDocument {
        let other = fleet.iter().find(|site| site.name != self.name);
        let of_other = |trouble, of: &dyn Fn(&Self) -> String| {
            other.filter(|_| self.trouble == Some(trouble)).map_or_else(|| of(self), |other| of(other))
        };
        let gateway = Gateway::new(&self.gateway(), 15443).unwrap();
        let lacks_gateway = self.trouble == Some(ClusterTrouble::NoGateway);
        PrivateDocument {
            ambient_gateways: Vec::new(),
            ingress_gateways: if lacks_gateway { Vec::new() } else { vec![gateway] },
            api_host: of_other(ClusterTrouble::OtherHost, &Self::api_host).parse().unwrap(),
            cluster_id: Some(of_other(ClusterTrouble::OtherId, &|site| site.name.to_owned()).parse().unwrap()),
            network_name: of_other(ClusterTrouble::OtherNetwork, &Self::network).parse().unwrap(),
            api_ca: Some(root(self.name, 1000).pem.clone()),
            evidence: (self.trouble != Some(ClusterTrouble::NoEvidence)).then(|| self.evidence(fleet)),
            peers_seen: Vec::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// What the values say that its Istio was installed with.
    fn standard(&self, fleet: &[&Self]) -> StandardMeshConfig {
        let standard = SimulatedIstiod::standard(self.values.as_deref());
        let made = fleet.iter().flat_map(|site| (0..=site.made).chain([900]).map(|number| root(site.name, number)));
        let domains = |root: &Root| {
            let domains = standard.domains.get(&root.squeezed)?;
            Some(domains.iter().map(|domain| domain.parse().unwrap()).collect())
        };
        let network = |(name, network): (&String, &SimulatedNetwork)| {
            let gateway = |gateway: &String| {
                let (address, port) = gateway.rsplit_once(':').unwrap();
                json!({ "address": address, "port": port.parse::<u16>().unwrap() })
            };
            let registry = |id: &String| json!({ "fromRegistry": id });
            let gateways: Vec<_> = network.gateways.iter().map(gateway).collect();
            let endpoints: Vec<_> = network.registries.iter().map(registry).collect();
            (name.clone(), json!({ "gateways": gateways, "endpoints": endpoints }))
        };
        let mut networks: serde_json::Map<_, _> = standard.networks.iter().map(network).collect();
        if let Some(name) = self.standard_network() {
            let gateways = json!([{ "address": "192.0.2.1", "port": 15443 }]);
            networks.insert(name, json!({ "gateways": gateways, "endpoints": [{ "fromCidr": "10.0.0.0/8" }] }));
        }
        StandardMeshConfig {
            ca_certificates: !standard.roots.is_empty(),
            mesh_networks: (!networks.is_empty()).then(|| json!({ "networks": networks }).to_string()),
            every_revision: Some(EveryRevision {
                roots: made.filter_map(|root| Some((root.digest, domains(&root)?))).collect(),
                trust_domain_aliases: standard.aliases.iter().map(|domain| domain.parse().unwrap()).collect(),
                same_networks: true,
            }),
        }
    }

    /// What was said of a hand-over last, as far as it is still so: another run than that of an offer is live, or no pod of who is to
    /// act.
    fn shown_answer(&self) -> Option<HandOverState> {
        let live = &self.istiod;
        let state = HandOverState::parse(live.answer.as_deref()?)?;
        if state.stage == HandOverStage::Offered {
            return (state.to == ObjectWriter::Agent || self.is_offered()).then_some(state);
        }
        let runs = match state.to {
            ObjectWriter::Agent => self.has_agent(),
            ObjectWriter::Tree => live.deployments.contains("isthmus-relay"),
        };
        Some(if runs { state } else { HandOverState { stage: HandOverStage::Preparing, ..state } })
    }

    fn evidence(&self, fleet: &[&Self]) -> Evidence {
        fn shown<T>(unknown: u8, bit: u8, value: T) -> Reported<T> {
            if unknown & (1 << bit) == 0 {
                Reported::Seen(value)
            } else {
                Reported::Unknown("not synced yet".to_owned())
            }
        }
        let unknown = if let Some(ClusterTrouble::Half(bits)) = self.trouble { bits } else { 0 };
        let live = &*self.istiod;
        let own = self.published_roots();
        let mut trusts: BTreeSet<Digest> = own.iter().map(|root| root.digest).collect();
        for site in fleet {
            let numbers = (0..=site.made).chain([900]).map(|number| root(site.name, number));
            trusts.extend(numbers.filter(|root| live.roots.contains(&root.squeezed)).map(|root| root.digest));
        }
        let networks = live.networks.iter().map(|(name, network)| {
            let gateway = |gateway: &String| {
                let (address, port) = gateway.rsplit_once(':').unwrap();
                Gateway::new(address, port.parse().unwrap()).unwrap()
            };
            LiveNetwork { name: name.parse().unwrap(), gateways: network.gateways.iter().map(gateway).collect() }
        });
        let read = |(id, _): &(String, String)| Read { cluster_id: id.parse().unwrap(), state: ReadState::Synced };
        let runs = ["isthmus-relay", "isthmus-agent"].iter().any(|app| live.deployments.contains(*app));
        let routes = live.routes.iter().filter(|_| runs).map(|route| {
            let peer = fleet.iter().find(|site| site.uuid() == route.uuid && site.api_host() == route.host);
            let works =
                peer.is_some_and(|peer| peer.trouble != Some(ClusterTrouble::Down) && self.is_admitted(&peer.istiod));
            LiveRoute {
                cluster_id: route.id.parse().unwrap(),
                api_host: route.host.parse().unwrap(),
                state: if works { RouteState::Ok } else { RouteState::Failed },
                reason: (!works).then(|| "401".to_owned()),
            }
        });
        Evidence {
            trusts: shown(unknown, 0, trusts),
            networks: shown(unknown, 1, networks.collect()),
            reads: shown(unknown, 2, live.secrets.values().map(read).collect()),
            routes: shown(unknown, 3, routes.collect()),
            prepared: shown(unknown, 4, true),
            hand_over: self.shown_answer().filter(|_| runs && unknown & (1 << 6) == 0),
            // every other exporter is of a version that does not show it
            relay_token: match self.name.len() % 2 {
                0 => shown(unknown, 4, true),
                _ => Reported::Unknown("not published".to_owned()),
            },
            credentials: Reported::Seen(Vec::new()),
            mesh_config: shown(unknown, 5, self.standard(fleet)),
            serial: shown(unknown, 6, live.serial),
            writer: live.writer.as_ref().map(|id| id.parse().unwrap()),
        }
    }
}
