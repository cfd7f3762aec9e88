//! Clusters, a checkout with its history, runs and syncs; and the laws that are watched over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use isthmus::checkout::FileChange;
use isthmus::model::lock::{Lock, Stage};
use isthmus::model::trust::{Approvals, Verdict};
use isthmus::pipeline::accept::accept;
use isthmus::pipeline::meter::Unmetered;
use isthmus::pipeline::observe::{Observation, Observed, PrivateReading};
use isthmus::pipeline::plan::Plan;
use isthmus::pipeline::{FactSource, Input, Program, Request, Stop, Until, World, run};
use isthmus::types::explanation::Code;
use isthmus::types::time::Timestamp;

use super::istiod::SimulatedIstiod;
use super::site::{ClusterTrouble, FleetCluster, FleetEvent, NAMES};
use super::wish::{FieldValues, WantedSpecs};
use crate::support::naive::NaiveFiles;
use crate::support::road::{self, Changes};
use crate::support::world::{name, name as cluster_name, sources};

const KUSTOMIZATION: &str = "kustomization.yaml";
/// A time at which all certificates are valid.
const START: i64 = 1_790_000_000;
const HOUR: i64 = 3600;

/// Fields that no edit changes while links rest on them.
const JOINED_WITH: [&str; 5] =
    ["metadata.name", "credentials.requireToken", "reconciler", "istio.config", "multicluster.enabled"];

/// What a link needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkNeed {
    RootsOfPeer,
    RootsOfReader,
    DomainOfPeer,
    DomainOfReader,
    Network,
    CrossNetwork,
    Route,
    Admission,
    OneId,
}

const ALL_NEEDS: [LinkNeed; 9] = [
    LinkNeed::RootsOfPeer,
    LinkNeed::RootsOfReader,
    LinkNeed::DomainOfPeer,
    LinkNeed::DomainOfReader,
    LinkNeed::Network,
    LinkNeed::CrossNetwork,
    LinkNeed::Route,
    LinkNeed::Admission,
    LinkNeed::OneId,
];

/// Something that a link lacks, and which value of it.
pub(crate) type MissingNeed = (LinkNeed, String);

/// Reader and peer.
pub(crate) type ReaderAndPeer = (&'static str, &'static str);

/// Which law is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Law {
    /// A run put a secret into the tree without what it needs.
    Opening,
    /// A secret went live without what it needs.
    LiveOpening,
    /// A run takes away what a live secret needs.
    Closing,
    /// A sync took away what a live secret needs.
    LiveClosing,
    /// A run takes a secret away and its plan does not show it.
    SilentCut,
    /// A secret went away and no plan showed it.
    LiveSilentCut,
    /// Policies take identities of a trust domain for the own ones and no spec states it, or no more although no spec took it back.
    Merged,
    /// The checker found something that a stage before it should have seen.
    Withheld,
    /// It does not come to rest.
    Unrest,
    /// It comes to rest, and is not what the specs say.
    Wrong,
}

/// A broken law.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) law: Law,
    pub(crate) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.what)
    }
}

fn broken<T>(law: Law, what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { law, what: what.into() })
}

/// Flags of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunFlags {
    pub(crate) allow_delete: bool,
    pub(crate) locked: bool,
    pub(crate) accept: bool,
    /// `--cluster`.
    pub(crate) only: Option<usize>,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) enum FleetOutcome {
    /// Nothing was written, for these reasons.
    Refused(Vec<(Code, String)>),
    /// The plan was carried out.
    Done(Box<Plan>),
}

impl FleetOutcome {
    /// Nothing was written and nothing is waited for.
    pub(crate) fn is_idle(&self) -> bool {
        let Self::Done(plan) = self else { return false };
        let counts = plan.counts();
        !plan.changes_files() && !plan.is_refused() && counts.waiting == 0 && counts.failed == 0
    }

    /// What is not done, in a few lines.
    pub(crate) fn open(&self) -> String {
        match self {
            Self::Refused(reasons) => reasons.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n"),
            Self::Done(plan) => {
                let open = plan.steps.iter().filter(|step| !step.state.line().is_empty() || !step.objects.is_empty());
                let mut open: Vec<String> = open
                    .map(|step| format!("{} ({} objects): {}", step.id, step.objects.len(), step.state.line()))
                    .collect();
                open.extend(plan.trust_changes.iter().map(|change| format!("{change:?}")));
                open.extend(plan.lock.iter().map(|file| file.path.clone()));
                open.join("\n")
            }
        }
    }
}

/// A state of the checkout that was committed.
#[derive(Debug, Clone)]
pub(crate) struct CommittedTree {
    pub(crate) wish: WantedSpecs,
    pub(crate) checkout: NaiveFiles,
}

/// All of it.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct FleetMesh {
    pub(crate) sites: BTreeMap<&'static str, FleetCluster>,
    pub(crate) wish: WantedSpecs,
    /// `lock/`, `rendered/` and `values/`.
    pub(crate) checkout: NaiveFiles,
    pub(crate) commits: Vec<CommittedTree>,
    pub(crate) now: i64,
    /// All files of a folder are synced, not those that its kustomization lists.
    pub(crate) argo: bool,
    /// Links of which a plan said that they leave.
    stated: BTreeSet<ReaderAndPeer>,
    /// What a link lacks by an event inside a cluster, until it has it.
    excused: BTreeSet<(ReaderAndPeer, MissingNeed)>,
    /// What no one can promise of links of a cluster, since its spec or its exporter says what is not so.
    misled: BTreeMap<&'static str, BTreeSet<LinkNeed>>,
    /// Someone changed the tree by hand since the last run.
    tree_by_hand: bool,
    /// The tree became that of an older commit, and did not come to rest since.
    reverted: bool,
    /// How long workloads use certificates of a root that was replaced, in seconds.
    pub(crate) certificates_last: i64,
    /// What the specs said in the last run that was taken.
    taken: WantedSpecs,
    /// Prints what happens.
    pub(crate) prints: bool,
}

impl FleetMesh {
    /// The first clusters of [`NAMES`], which know nothing of each other.
    pub(crate) fn new(clusters: usize, argo: bool) -> Self {
        let names = &NAMES[..clusters];
        let wish = WantedSpecs::of(names);
        let mut fleet = Self {
            sites: names.iter().map(|name| (*name, FleetCluster::new(name))).collect(),
            taken: wish.clone(),
            wish,
            checkout: NaiveFiles::new(),
            commits: Vec::new(),
            now: START,
            argo,
            stated: BTreeSet::new(),
            excused: BTreeSet::new(),
            misled: BTreeMap::new(),
            tree_by_hand: false,
            reverted: false,
            certificates_last: 24 * HOUR,
            prints: false,
        };
        fleet.commit();
        fleet
    }

    /// All of them joined.
    pub(crate) fn joined(clusters: usize, argo: bool) -> Self {
        let mut fleet = Self::new(clusters, argo);
        fleet.calm().unwrap_or_else(|broken| panic!("{broken}"));
        fleet
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.sites.keys().copied().collect()
    }

    pub(crate) fn name(&self, number: usize) -> &'static str {
        self.names()[number % self.sites.len()]
    }

    pub(crate) fn site(&self, name: &str) -> &FleetCluster {
        &self.sites[name]
    }

    fn pairs(&self) -> Vec<ReaderAndPeer> {
        let names = self.names();
        let pairs = names.iter().flat_map(|reader| names.iter().map(move |peer| (*reader, *peer)));
        pairs.filter(|(reader, peer)| reader != peer).collect()
    }

    /// Remembers the checkout as it is.
    pub(crate) fn commit(&mut self) {
        self.commits.push(CommittedTree { wish: self.wish.clone(), checkout: self.checkout.clone() });
    }

    /// The commit so many before the last one.
    pub(crate) fn earlier(&self, back: usize) -> &CommittedTree {
        let last = self.commits.len() - 1;
        &self.commits[last - back % self.commits.len()]
    }

    pub(crate) fn lock(&self) -> Result<Lock, String> {
        let files = self.lock_files();
        let parsed = Lock::parse(files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())));
        parsed.map_err(|findings| format!("{findings:?}"))
    }

    pub(crate) fn lock_files(&self) -> NaiveFiles {
        let lock = self.checkout.iter().filter(|(path, _)| path.starts_with("lock/"));
        lock.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
    }

    fn input(&self) -> Input {
        let files = vec![("specs/mesh.yaml".to_owned(), self.wish.documents())];
        Input { specs: sources(&files), templates: Vec::new(), lock: self.lock_files() }
    }

    // ---------------------------------------------------------------- what a link lacks

    /// What a link lacks, its secret having this data key; one cluster may be thought to hold other objects than it does.
    fn lacks(
        &self,
        (reader, peer): ReaderAndPeer,
        id: &str,
        thought: Option<(&str, &SimulatedIstiod)>,
    ) -> BTreeSet<MissingNeed> {
        let (from, to) = (self.site(reader), self.site(peer));
        let istiod = |site: &'_ FleetCluster| match thought {
            Some((name, istiod)) if name == site.name => istiod.clone(),
            _ => site.istiod.clone(),
        };
        let (reading, read) = (istiod(from), istiod(to));
        let mut lacks = BTreeSet::new();
        let mut need = |need, there: bool, value: String| {
            if !there {
                lacks.insert((need, value));
            }
        };
        for root in to.used_roots(self.now) {
            need(LinkNeed::RootsOfPeer, reading.roots.contains(&root), root);
        }
        for root in from.used_roots(self.now) {
            need(LinkNeed::RootsOfReader, read.roots.contains(&root), root);
        }
        let is_one = from.domain() == to.domain();
        let accepts = is_one || reading.accepts(&to.domain(), &to.used_roots(self.now));
        need(LinkNeed::DomainOfPeer, accepts, to.domain());
        let accepts = is_one || read.accepts(&from.domain(), &from.used_roots(self.now));
        need(LinkNeed::DomainOfReader, accepts, from.domain());
        let network = reading.networks.get(&to.network());
        let gateways = BTreeSet::from([format!("{}:15443", to.gateway())]);
        let registered = network.is_some_and(|network| network.registries.contains(id));
        need(
            LinkNeed::Network,
            network.is_some_and(|network| network.gateways == gateways) && registered,
            to.network(),
        );
        need(LinkNeed::CrossNetwork, read.lets_in, String::new());
        let is_way = |route: &&super::istiod::RelayRoute| {
            route.id == id && route.uuid == to.uuid() && route.host == to.api_host()
        };
        let relays = reading.deployments.contains("isthmus-relay");
        need(LinkNeed::Route, relays && reading.routes.iter().any(|route| is_way(&route)), to.api_host());
        let mut admitting = to.clone();
        admitting.istiod = read;
        need(LinkNeed::Admission, admitting.admits(from), from.uuid());
        let ids: BTreeSet<&str> = reading.routes.iter().map(|route| route.id.as_str()).collect();
        let same = reading.secrets.iter().filter(|(other, (known, _))| *other != peer && known == id).count();
        need(LinkNeed::OneId, ids.len() == reading.routes.len() && same == 0, id.to_owned());
        lacks
    }

    /// The live secret of a link: its data key.
    fn live_id(&self, (reader, peer): ReaderAndPeer) -> Option<String> {
        self.site(reader).istiod.secrets.get(peer).map(|(id, _)| id.clone())
    }

    /// What each live link lacks.
    fn lacking(&self) -> BTreeMap<ReaderAndPeer, BTreeSet<MissingNeed>> {
        let live = self.pairs().into_iter().filter_map(|pair| Some((pair, self.live_id(pair)?)));
        live.map(|(pair, id)| (pair, self.lacks(pair, &id, None))).collect()
    }

    /// Lacks that are someone's fault.
    fn judged<'l>(&self, pair: ReaderAndPeer, lacks: impl IntoIterator<Item = &'l MissingNeed>) -> Vec<MissingNeed> {
        let misled = |need: LinkNeed| {
            [pair.0, pair.1].iter().any(|name| self.misled.get(name).is_some_and(|needs| needs.contains(&need)))
        };
        let lacks = lacks.into_iter().filter(|(need, _)| !misled(*need)).cloned();
        lacks.filter(|lack| !self.excused.contains(&(pair, lack.clone()))).collect()
    }

    /// Excuses end when the link has what it lacked, or is in no one's hands any more.
    fn tidy_excuses(&mut self) {
        let of = |fleet: &Self, pair: ReaderAndPeer| {
            Some(fleet.lacks(pair, &fleet.live_id(pair).or_else(|| fleet.id_in_tree(pair))?, None))
        };
        let lacks: BTreeMap<ReaderAndPeer, BTreeSet<MissingNeed>> =
            self.pairs().into_iter().filter_map(|pair| Some((pair, of(self, pair)?))).collect();
        self.excused.retain(|(pair, lack)| lacks.get(pair).is_some_and(|lacks| lacks.contains(lack)));
    }

    /// At rest nothing is left of what was untrue, unless it is still said.
    fn forget_untruths(&mut self) {
        self.reverted = false;
        let stated = self.misleading(&self.wish);
        let lacking = self.lacking();
        self.misled.retain(|name, needs| {
            let touches = |pair: &ReaderAndPeer| pair.0 == *name || pair.1 == *name;
            let lacks = |lacks: &BTreeSet<MissingNeed>| lacks.iter().any(|(need, _)| needs.contains(need));
            stated.contains_key(name) || lacking.iter().any(|(pair, lacking)| touches(pair) && lacks(lacking))
        });
    }

    /// What specs and exporters say that is not so, by cluster.
    fn misleading(&self, wish: &WantedSpecs) -> BTreeMap<&'static str, BTreeSet<LinkNeed>> {
        let mut untrue: BTreeMap<&'static str, BTreeSet<LinkNeed>> = BTreeMap::new();
        for (name, fields) in &wish.clusters {
            let Some(site) = self.sites.get(name) else { continue };
            let mut mislead = |needs: &[LinkNeed]| untrue.entry(*name).or_default().extend(needs.iter().copied());
            let says = |field: &str| fields.get(field);
            if says("network").is_some_and(|network| *network != site.network()) {
                mislead(&[LinkNeed::Network]);
            }
            if says("trustDomain").is_some_and(|domain| *domain != site.domain()) {
                mislead(&[LinkNeed::DomainOfPeer, LinkNeed::DomainOfReader]);
            }
            if says("flatNetwork").is_some_and(|flat| *flat == true) {
                mislead(&[LinkNeed::Network, LinkNeed::CrossNetwork]);
            }
            if says("gateways").is_some_and(|all| !(all.to_string().contains(&format!("\"{}\"", site.gateway())))) {
                mislead(&[LinkNeed::Network, LinkNeed::CrossNetwork]);
            }
            if says("api.host").is_some_and(|host| *host != site.api_host()) {
                mislead(&[LinkNeed::Route, LinkNeed::Admission]);
            }
            if says("evidence").is_some_and(|rule| *rule != "required")
                || says("state").is_some_and(|state| *state == "lost")
                || says("reconciler").is_some_and(|who| *who != "rendered")
            {
                mislead(&ALL_NEEDS);
            }
        }
        for site in self.sites.values() {
            let mut mislead = |needs: &[LinkNeed]| untrue.entry(site.name).or_default().extend(needs.iter().copied());
            match site.trouble {
                Some(ClusterTrouble::OtherNetwork) => mislead(&[LinkNeed::Network]),
                // who never said another one is taken to be in the domain that all have
                Some(ClusterTrouble::Bare) => mislead(&[LinkNeed::DomainOfPeer, LinkNeed::DomainOfReader]),
                Some(ClusterTrouble::OtherHost) => mislead(&[LinkNeed::Route, LinkNeed::Admission]),
                _ => {}
            }
        }
        untrue
    }

    // ---------------------------------------------------------------- trees and syncs

    /// All files of a cluster's folder.
    pub(crate) fn folder(&self, cluster: &str) -> NaiveFiles {
        let prefix = format!("rendered/{cluster}/");
        let file = |(path, bytes): (&String, &Vec<u8>)| Some((path.strip_prefix(&prefix)?.to_owned(), bytes.clone()));
        self.checkout.iter().filter_map(file).collect()
    }

    /// What the `GitOps` tool makes of a cluster's folder; `None`: it fails, and changes nothing.
    pub(crate) fn built(&self, cluster: &str) -> Option<NaiveFiles> {
        let mut files = self.folder(cluster);
        let kustomization = files.remove(KUSTOMIZATION);
        if self.argo {
            return Some(files);
        }
        let text = String::from_utf8(kustomization?).unwrap();
        let listed = text.lines().filter_map(|line| line.trim().strip_prefix("- "));
        listed.map(|file| Some((file.to_owned(), files.get(file)?.clone()))).collect()
    }

    /// What each cluster's folder would do.
    fn trees(&self) -> BTreeMap<&'static str, SimulatedIstiod> {
        let built = self.names().into_iter().filter_map(|name| Some((name, self.built(name)?)));
        built.map(|(name, files)| (name, self.site(name).having(&files))).collect()
    }

    /// Files whose live objects differ from the tree.
    pub(crate) fn behind(&self, cluster: &str) -> Vec<String> {
        let Some(wanted) = self.built(cluster) else { return Vec::new() };
        let live = &self.site(cluster).live;
        let names: BTreeSet<&String> = wanted.keys().chain(live.keys()).collect();
        names.into_iter().filter(|name| wanted.get(*name) != live.get(*name)).cloned().collect()
    }

    /// Makes one file of the tree live, or takes its object away.
    pub(crate) fn sync_file(&mut self, cluster: &'static str, file: &str) -> Result<(), Broken> {
        let Some(mut wanted) = self.built(cluster) else { return Ok(()) };
        let wanted = wanted.remove(file);
        self.change_live(cluster, file, |site| site.put(file, wanted.as_ref()))
    }

    /// The values of the tree.
    fn values(&self, cluster: &str) -> Option<Vec<u8>> {
        let folder = format!("values/{cluster}/");
        self.checkout.iter().find(|(path, _)| path.starts_with(&folder)).map(|(_, bytes)| bytes.clone())
    }

    /// Whoever installs Istio there takes the values of the tree.
    pub(crate) fn install(&mut self, cluster: &'static str) -> Result<(), Broken> {
        let values = self.values(cluster);
        self.change_live(cluster, "its values", |site| site.install(values))
    }

    /// Something of a cluster becomes live, and takes nothing away from links.
    fn change_live(
        &mut self,
        cluster: &'static str,
        file: &str,
        change: impl FnOnce(&mut FleetCluster),
    ) -> Result<(), Broken> {
        let before = self.lacking();
        change(self.sites.get_mut(cluster).unwrap());
        let after = self.lacking();
        for (pair, lacks) in &after {
            let nothing = BTreeSet::new();
            let new = lacks.difference(before.get(pair).unwrap_or(&nothing));
            let new: Vec<MissingNeed> = new.cloned().collect();
            if self.tree_by_hand || self.reverted {
                self.excused.extend(new.iter().map(|lack| (*pair, lack.clone())));
            }
            let law = if before.contains_key(pair) { Law::LiveClosing } else { Law::LiveOpening };
            // no evidence shows it, and no gate waits for it
            let new = new.iter().filter(|(need, _)| law != Law::LiveOpening || *need != LinkNeed::CrossNetwork);
            let new = self.judged(*pair, new);
            if !new.is_empty() {
                return broken(law, format!("{}/{} by {file} in {cluster}: {}", pair.0, pair.1, short(&new)));
            }
        }
        for (pair, lacks) in before {
            if !after.contains_key(&pair)
                && lacks.is_empty()
                && !self.stated.contains(&pair)
                && !self.tree_by_hand
                && !self.reverted
            {
                return broken(Law::LiveSilentCut, format!("{}/{} by {file} in {cluster}", pair.0, pair.1));
            }
        }
        self.tidy_excuses();
        Ok(())
    }

    pub(crate) fn sync(&mut self, cluster: &'static str) -> Result<(), Broken> {
        for file in self.behind(cluster) {
            self.sync_file(cluster, &file)?;
        }
        Ok(())
    }

    pub(crate) fn sync_all(&mut self) -> Result<(), Broken> {
        for name in self.names() {
            self.sync(name)?;
            self.install(name)?;
        }
        Ok(())
    }

    /// Whether everything in the tree is live, and nothing else.
    pub(crate) fn is_synced(&self) -> bool {
        let has_values = |name: &&str| self.values(name) == self.site(name).values;
        self.names().into_iter().all(|name| self.behind(name).is_empty() && has_values(&name))
    }

    /// Something happens inside a cluster; what its links lack by it is no one's fault.
    pub(crate) fn happen(&mut self, cluster: &'static str, event: FleetEvent) {
        let ids = self.ids();
        let before: BTreeMap<ReaderAndPeer, BTreeSet<MissingNeed>> =
            ids.iter().map(|(pair, id)| (*pair, self.lacks(*pair, id, None))).collect();
        let until = self.now + self.certificates_last;
        self.sites.get_mut(cluster).unwrap().happen(event, until);
        for (pair, id) in ids {
            let lacks = self.lacks(pair, &id, None);
            let new = lacks.difference(&before[&pair]).map(|lack| (pair, lack.clone()));
            self.excused.extend(new.collect::<Vec<_>>());
        }
        if event == FleetEvent::Rebuild {
            // its folder still has the secrets of the one before
            self.misled.entry(cluster).or_default().extend(ALL_NEEDS);
        }
    }

    /// The data key of each link whose secret is live or in the tree.
    fn ids(&self) -> BTreeMap<ReaderAndPeer, String> {
        let id = |pair: ReaderAndPeer| self.live_id(pair).or_else(|| self.id_in_tree(pair));
        self.pairs().into_iter().filter_map(|pair| Some((pair, id(pair)?))).collect()
    }

    /// The data key of a secret in the tree, also where the folder cannot be built because another file is lost.
    fn id_in_tree(&self, (reader, peer): ReaderAndPeer) -> Option<String> {
        let file = self.checkout.get(&format!("rendered/{reader}/secret-istio-remote-secret-{peer}.yaml"))?;
        let text = String::from_utf8_lossy(file);
        let line = text.lines().find_map(|line| line.trim().strip_prefix("networking.istio.io/cluster: "))?;
        Some(line.trim_matches('"').to_owned())
    }

    /// The checkout becomes that of a commit, as by `git revert`: secrets and trust may go in one sync.
    pub(crate) fn check_out(&mut self, commit: CommittedTree) {
        self.wish = commit.wish;
        self.change_tree(|files| *files = commit.checkout);
        self.reverted = true;
    }

    /// Someone changes the tree by hand.
    pub(crate) fn change_tree(&mut self, change: impl FnOnce(&mut NaiveFiles)) {
        change(&mut self.checkout);
        self.tree_by_hand = true;
        let trees = self.trees();
        for pair in self.pairs() {
            let is_in_tree = trees.get(pair.0).is_some_and(|tree| tree.secrets.contains_key(pair.1));
            if !is_in_tree && self.live_id(pair).is_some() {
                self.stated.insert(pair);
            }
        }
    }

    // ---------------------------------------------------------------- runs

    fn observe(&self, program: &Program, approvals: &Approvals) -> Observed {
        let all: Vec<&FleetCluster> = self.sites.values().collect();
        let url = |cluster: &FleetCluster| {
            let stated = self.wish.says(cluster.name, "metadata.endpoint");
            stated.and_then(|url| url.as_str()).is_some_and(|url| url.contains("nobody"))
        };
        let asked = all.iter().filter(|site| {
            matches!(self.wish.state(site.name), Some("active" | "leaving"))
                && program.mesh.clusters.contains_key(&name(site.name))
        });
        let public = |site: &&&FleetCluster| {
            let public = if url(site) {
                let url = "https://nobody.example.com/metadata/public/public.json".to_owned();
                Err(isthmus::wire::failure::Failure::TimedOut { url, seconds: 10 })
            } else {
                site.public()
            };
            (name(site.name), Observation { public, private: PrivateReading::NotAsked })
        };
        let asked: Vec<&&FleetCluster> = asked.collect();
        let mut observed = Observed { clusters: asked.iter().map(public).collect() };
        let now = Timestamp::from_seconds(self.now);
        let judged = accept(&program.mesh, &program.lock, &observed, approvals, &BTreeSet::new(), now);
        for (cluster, observation) in &mut observed.clusters {
            if observation.public.is_ok() {
                let site = &self.sites[cluster.as_str()];
                let may = judged.assessments[cluster].may_be_asked();
                observation.private =
                    if may { site.private(&self.wish.keys(), &all) } else { PrivateReading::HeldBack };
            }
        }
        observed
    }

    /// A run on the checkout, and what it does to live links.
    pub(crate) fn run(&mut self, flags: RunFlags) -> Result<FleetOutcome, Broken> {
        self.now += 60;
        let program = match Program::load(&self.input(), &|_| None) {
            Ok(program) => program,
            Err(stop) => return Ok(self.refused(stop)),
        };
        let approvals = Approvals { all: flags.accept, named: Vec::new() };
        let only = flags.only.map(|number| name(self.name(number)));
        let only = only.filter(|name| program.mesh.clusters.contains_key(name));
        let request = Request { approvals: approvals.clone(), allow_delete: flags.allow_delete, only };
        let observed = (!flags.locked).then(|| self.observe(&program, &approvals));
        let mut shows: BTreeSet<&'static str> = self
            .names()
            .into_iter()
            .filter(|name| observed.as_ref().is_some_and(|all| shows_reads(all, name)))
            .collect();
        let facts = observed.map_or(FactSource::Locked, FactSource::Stored);
        for (name, needs) in self.misleading(&self.wish) {
            self.misled.entry(name).or_default().extend(needs);
        }
        for site in self.sites.values().filter(|_| flags.accept) {
            if matches!(
                site.trouble,
                Some(ClusterTrouble::OtherUuid | ClusterTrouble::OtherRoot | ClusterTrouble::OtherKey)
            ) {
                self.misled.entry(site.name).or_default().extend(ALL_NEEDS);
            }
        }
        let mut changes = Changes::default();
        let world = World {
            now: Timestamp::from_seconds(self.now),
            tree: &self.checkout,
            base: None,
            narrow: None,
            meter: &Unmetered,
        };
        let (plan, changes): (Plan, Vec<FileChange>) =
            match run(&program, &request, facts, Until::Written(&mut changes), &world) {
                Ok(run) => (run.plan, changes.0),
                Err(stop) => return Ok(self.refused(stop)),
            };
        self.taken = self.wish.clone();
        let open = plan.trust_changes.iter().filter(|change| change.verdict != Verdict::Approved);
        open.for_each(|change| shows.retain(|name| *name != change.cluster.as_str()));
        let before = self.trees();
        let nearly = self.hypotheses(&before);
        road::apply(&mut self.checkout, changes);
        let after = self.trees();
        for (link, step) in &plan.moves {
            let known = |name: &str| NAMES.into_iter().find(|known| *known == name).unwrap();
            let pair = (known(link.reader.as_str()), known(link.peer.as_str()));
            if step.to == Some(Stage::Joined) {
                self.stated.remove(&pair);
            } else if step.to != Some(Stage::Joining) || step.from == Some(Stage::Joined) {
                self.stated.insert(pair);
            }
        }
        if self.prints {
            println!(
                "    run {flags:?}: {:?}",
                plan.moves.iter().map(|(l, m)| format!("{l}:{:?}", m.to)).collect::<Vec<_>>()
            );
            for line in FleetOutcome::Done(Box::new(plan.clone())).open().lines().take(12) {
                println!("        {line}");
            }
        }
        self.judge_run((&before, &after), &nearly, &shows)?;
        self.judge_merged(&before, &after)?;
        self.judge_checker(&plan)?;
        // the tree of a cluster that is paused, or of which something is lost, keeps what was done to it
        let keeps = plan.is_refused() || self.names().into_iter().any(|name| self.wish.state(name) == Some("paused"));
        self.tree_by_hand &= flags.locked || flags.only.is_some() || keeps;
        self.tidy_excuses();
        self.commit();
        let outcome = FleetOutcome::Done(Box::new(plan));
        if outcome.is_idle() && !flags.locked && flags.only.is_none() && self.is_synced() {
            self.forget_untruths();
        }
        Ok(outcome)
    }

    /// The specs say again what they said in the last run that was taken.
    pub(crate) fn take_back(&mut self) {
        self.wish = self.taken.clone();
    }

    fn refused(&self, stop: Stop) -> FleetOutcome {
        let reasons = match stop {
            Stop::Findings(findings) => {
                let sorted = findings.sorted();
                let errors = sorted.iter().filter(|one| one.severity != isthmus::types::diagnostic::Severity::Warning);
                errors.map(|one| (one.explanation.code, one.explanation.to_string())).collect()
            }
            other => panic!("{other:?}"),
        };
        if self.prints {
            println!("    refused: {reasons:?}");
        }
        FleetOutcome::Refused(reasons)
    }

    /// What each live link would lack if one of its ends were synced, but for its remote secrets.
    fn hypotheses(
        &self,
        trees: &BTreeMap<&'static str, SimulatedIstiod>,
    ) -> BTreeMap<(ReaderAndPeer, &'static str), BTreeSet<MissingNeed>> {
        let mut found = BTreeMap::new();
        for pair in self.pairs() {
            let Some(id) = self.live_id(pair) else { continue };
            for end in [pair.0, pair.1] {
                let mut synced = trees.get(end).cloned().unwrap_or_default();
                synced.secrets = self.site(end).istiod.secrets.clone();
                found.insert((pair, end), self.lacks(pair, &id, Some((end, &synced))));
            }
        }
        found
    }

    /// `shows` are clusters that showed the run what their istiod reads.
    fn judge_run(
        &self,
        (before, after): (&BTreeMap<&'static str, SimulatedIstiod>, &BTreeMap<&'static str, SimulatedIstiod>),
        nearly: &BTreeMap<(ReaderAndPeer, &'static str), BTreeSet<MissingNeed>>,
        shows: &BTreeSet<&'static str>,
    ) -> Result<(), Broken> {
        for pair @ (reader, peer) in self.pairs() {
            let secret =
                |trees: &BTreeMap<&'static str, SimulatedIstiod>| trees.get(reader)?.secrets.get(peer).cloned();
            let live = self.site(reader).istiod.secrets.get(peer);
            match (secret(before), secret(after)) {
                (old, Some(new)) if old.as_ref() != Some(&new) && live != Some(&new) => {
                    let lacks = self.lacks(pair, &new.0, None);
                    let lacks = lacks.iter().filter(|(need, _)| *need != LinkNeed::CrossNetwork);
                    let lacks = self.judged(pair, lacks);
                    if !lacks.is_empty() {
                        return broken(Law::Opening, format!("{reader}/{peer}: {}", short(&lacks)));
                    }
                }
                (Some(_), None) if live.is_some() && !self.stated.contains(&pair) => {
                    return broken(Law::SilentCut, format!("{reader}/{peer}"));
                }
                _ => {}
            }
        }
        for ((pair, end), lacks) in self.hypotheses(after) {
            let id = self.live_id(pair).unwrap();
            let mut known = self.lacks(pair, &id, None);
            known.extend(nearly.get(&(pair, end)).cloned().unwrap_or_default());
            let new = self.judged(pair, lacks.difference(&known));
            // the revert of a join took its secret out of the tree, and no one showed the run that it is live
            let is_unseen = self.reverted && !shows.contains(pair.0) && self.id_in_tree(pair).is_none();
            if !new.is_empty() && !is_unseen {
                return broken(Law::Closing, format!("{}/{} when {end} is synced: {}", pair.0, pair.1, short(&new)));
            }
        }
        Ok(())
    }

    /// An alias comes when it is said, and goes when it is said or its peers go.
    fn judge_merged(
        &self,
        before: &BTreeMap<&'static str, SimulatedIstiod>,
        after: &BTreeMap<&'static str, SimulatedIstiod>,
    ) -> Result<(), Broken> {
        for (name, now) in after {
            let stated = self.wish.says(name, "mergeTrustDomains").and_then(serde_json::Value::as_bool);
            let nothing = BTreeSet::new();
            let old = before.get(name).map_or(&nothing, |old| &old.aliases);
            if let Some(domain) = now.aliases.difference(old).next().filter(|_| stated != Some(true)) {
                return broken(Law::Merged, format!("{name} with {domain}, and {stated:?} is said"));
            }
            let is_read = |domain: &String| now.secrets.keys().any(|peer| self.site(peer).domain() == *domain);
            let gone = old.difference(&now.aliases).find(|domain| is_read(domain));
            if let Some(domain) = gone.filter(|_| stated != Some(false)) {
                return broken(Law::Merged, format!("{name} no more with {domain}, and {stated:?} is said"));
            }
        }
        Ok(())
    }

    /// What the checker withholds is what a stage before it should not have let through, unless a hand was in the tree.
    fn judge_checker(&self, plan: &Plan) -> Result<(), Broken> {
        if self.tree_by_hand || self.reverted {
            return Ok(());
        }
        let explanations = plan.steps.iter().flat_map(|step| step.state.explanations());
        let found = explanations.into_iter().find(|explanation| explanation.code == Code::Law);
        found.map_or(Ok(()), |found| broken(Law::Withheld, found.to_string()))
    }

    // ---------------------------------------------------------------- the end

    /// Brings back what a plan says was lost, by the command that it names: each file as it was before the last commit that
    /// touched it, or the one before, if that was named already. Whether anything was brought back.
    fn restore(&mut self, plan: &Plan, named: &mut BTreeMap<String, usize>) -> bool {
        let hints = plan.steps.iter().flat_map(|step| step.state.explanations()).filter_map(|why| why.hint.as_ref());
        let file = |hint: &String| {
            let (_, rest) = hint.split_once("`git checkout COMMIT~1 -- ")?;
            Some(rest.split_once('`').unwrap().0.to_owned())
        };
        let files: BTreeSet<String> = hints.filter_map(file).collect();
        for file in &files {
            let touched = named.entry(file.clone()).or_default();
            let of = |commit: &CommittedTree| commit.checkout.get(file).cloned();
            let commits = self.commits.windows(2).rev().filter(|two| of(&two[0]) != of(&two[1]));
            let before = commits.map(|two| of(&two[0])).skip(2 * *touched).find(Option::is_some).flatten();
            *touched += 1;
            if let Some(bytes) = before {
                self.checkout.insert(file.clone(), bytes);
            }
        }
        if !files.is_empty() {
            self.commit();
        }
        !files.is_empty()
    }

    /// All is well again, everybody syncs, nothing untrue is stated: the fleet becomes what the specs say, soon.
    pub(crate) fn calm(&mut self) -> Result<(), Broken> {
        for site in self.sites.values_mut() {
            site.trouble = None;
        }
        let mut target = self.wish.mended(&self.sites);
        if let Some(mesh) = self.mesh_of_tree() {
            target.mesh.remove("metadata.name");
            if mesh != "shop" {
                target.mesh.insert("metadata.name", mesh.into());
            }
        }
        let mut named = BTreeMap::new();
        for _ in 0..8 {
            self.wish = target.clone();
            let outcome = self.run(RunFlags { locked: true, ..RunFlags::default() })?;
            let FleetOutcome::Done(plan) = outcome else { break };
            if !self.restore(&plan, &mut named) {
                break;
            }
        }
        self.sweep(&target);
        self.declare_lost(&mut target);
        self.wish = target.clone();
        for attempt in 0.. {
            let outcome = self.settle()?;
            match outcome {
                FleetOutcome::Done(_) => break,
                FleetOutcome::Refused(reasons) if attempt < 3 => self.way_out(&reasons, 3)?,
                FleetOutcome::Refused(reasons) => return broken(Law::Unrest, format!("no way out of {reasons:?}")),
            }
            self.wish = target.clone();
        }
        // no one syncs a cluster that no document declares
        let declared = self.pairs().into_iter().filter(|(reader, _)| self.wish.clusters.contains_key(reader));
        for pair @ (reader, peer) in declared.collect::<Vec<_>>() {
            let wanted = self.wish.links(reader, peer);
            if wanted != self.live_id(pair).is_some() {
                return broken(Law::Wrong, format!("{reader}/{peer} is wanted: {wanted}"));
            }
            if let Some(id) = self.live_id(pair) {
                let stated = self.wish.says(reader, "mergeTrustDomains").and_then(serde_json::Value::as_bool);
                let (from, to) = (self.site(reader), self.site(peer));
                let is_merged = from.istiod.aliases.contains(&to.domain());
                if from.domain() != to.domain() && stated.is_some_and(|stated| stated != is_merged) {
                    return broken(Law::Wrong, format!("{reader} is merged with {}: {is_merged}", to.domain()));
                }
                let lacks = self.lacks(pair, &id, None);
                if !lacks.is_empty() {
                    return broken(Law::Wrong, format!("{reader}/{peer} at rest: {}", short(&Vec::from_iter(lacks))));
                }
            }
        }
        Ok(())
    }

    /// A cluster that leaves and was made anew meanwhile cannot show what the old one holds.
    fn declare_lost(&self, wish: &mut WantedSpecs) {
        let lock = self.lock().unwrap_or_default();
        for (name, fields) in &mut wish.clusters {
            let locked = lock.clusters.get(&cluster_name(name));
            let is_itself = locked.is_none_or(|it| it.public.cluster_uuid.to_string() == self.sites[name].uuid());
            if !is_itself && fields.get("state").is_some_and(|state| *state == "leaving") {
                fields.insert("state", "lost".into());
            }
        }
    }

    /// Whose the tree is.
    fn mesh_of_tree(&self) -> Option<String> {
        let mut texts = self.checkout.iter().filter(|(path, _)| path.starts_with("rendered/"));
        texts.find_map(|(_, bytes)| {
            let text = String::from_utf8_lossy(bytes);
            let line = text.lines().find_map(|line| line.trim().strip_prefix("isthmus.dev/mesh: "))?;
            Some(line.to_owned())
        })
    }

    /// Files of clusters that neither specs nor lock know go by hand, as their refusal says.
    fn sweep(&mut self, wish: &WantedSpecs) {
        let lock = self.lock().unwrap_or_default();
        for cluster in self.names() {
            let is_known = |known: &isthmus::types::name::ClusterName| known.as_str() == cluster;
            if !wish.clusters.contains_key(cluster) && !lock.clusters.keys().chain(lock.linked()).any(is_known) {
                let folders = ["rendered", "values"].map(|folder| format!("{folder}/{cluster}/"));
                self.checkout.retain(|path, _| !folders.iter().any(|folder| path.starts_with(folder)));
            }
        }
    }

    /// Runs and syncs until nothing changes and nothing waits, or a run is refused.
    fn settle(&mut self) -> Result<FleetOutcome, Broken> {
        let mut named = BTreeMap::new();
        for _ in 0..16 {
            self.sync_all()?;
            self.now += 30 * HOUR;
            let outcome = self.run(RunFlags { allow_delete: true, accept: true, ..RunFlags::default() })?;
            if (outcome.is_idle() && self.is_synced()) || matches!(outcome, FleetOutcome::Refused(_)) {
                return Ok(outcome);
            }
            if let FleetOutcome::Done(plan) = &outcome
                && self.restore(plan, &mut named)
            {
                let mut wish = self.wish.clone();
                self.declare_lost(&mut wish);
                self.wish = wish;
            }
        }
        self.prints = true;
        let last = self.run(RunFlags { allow_delete: true, accept: true, ..RunFlags::default() })?;
        broken(Law::Unrest, last.open())
    }

    /// Takes an edit back that a refusal names with the value that links rest on.
    fn say_as_joined(&mut self, reason: &str) {
        let Some((cluster, rest)) = reason.strip_prefix('`').and_then(|rest| rest.split_once("` is joined with `"))
        else {
            return;
        };
        let (field, value) = rest.split_once('`').unwrap().0.split_once(": ").unwrap();
        let field = field.trim_end_matches(" of the Mesh");
        let field = JOINED_WITH.into_iter().find(|known| *known == field).unwrap();
        let value = serde_json::from_str::<bool>(value).map_or_else(|_| value.into(), serde_json::Value::from);
        let of_mesh = ["metadata.name", "credentials.requireToken"].contains(&field);
        let fields = if of_mesh { Some(&mut self.wish.mesh) } else { self.wish.clusters.get_mut(cluster) };
        if let Some(fields) = fields {
            fields.insert(field, value);
        }
    }

    /// What a refusal tells to do: take the edit back, let the clusters leave, and edit then. It may hide so many others.
    fn way_out(&mut self, reasons: &[(Code, String)], hidden: usize) -> Result<(), Broken> {
        let lock = match self.lock() {
            Ok(lock) => lock,
            Err(problem) => return broken(Law::Unrest, problem),
        };
        let known: BTreeSet<String> = lock.clusters.keys().chain(lock.linked()).map(ToString::to_string).collect();
        take_back(&mut self.wish.mesh, &self.taken.mesh);
        for name in NAMES.into_iter().filter(|name| known.contains(*name)) {
            let fields = self.wish.clusters.entry(name).or_default();
            if let Some(taken) = self.taken.clusters.get(name) {
                take_back(fields, taken);
            }
            for (_, reason) in reasons {
                self.say_as_joined(reason);
            }
            let fields = self.wish.clusters.entry(name).or_default();
            if reasons.iter().any(|(_, reason)| reason.contains(&format!("`{name}`"))) {
                let locked = lock.clusters.get(&cluster_name(name));
                let is_itself = locked.is_none_or(|it| it.public.cluster_uuid.to_string() == self.sites[name].uuid());
                // what another tool deploys is not simulated: no one answers there
                let answers = is_itself && fields.get("reconciler").is_none_or(|who| *who == "rendered");
                fields.insert("state", if answers { "leaving" } else { "lost" }.into());
            }
        }
        match self.settle()? {
            FleetOutcome::Done(_) => Ok(()),
            // one refusal hid another
            FleetOutcome::Refused(others) if hidden > 0 => self.way_out(&others, hidden - 1),
            FleetOutcome::Refused(others) => broken(Law::Unrest, format!("{reasons:?} and then {others:?}")),
        }
    }
}

/// Whether a cluster shows what its istiod reads.
fn shows_reads(observed: &Observed, cluster: &str) -> bool {
    let observation = observed.clusters.get(&cluster_name(cluster));
    observation.is_some_and(|observation| match &observation.private {
        PrivateReading::Read(document) => {
            document.evidence.as_ref().is_some_and(|evidence| evidence.reads.seen().is_some())
        }
        _ => false,
    })
}

/// Fields that rest on links say again what they said.
fn take_back(fields: &mut FieldValues, taken: &FieldValues) {
    fields.retain(|field, _| !JOINED_WITH.contains(field));
    let before = taken.iter().filter(|(field, _)| JOINED_WITH.contains(field));
    fields.extend(before.map(|(field, value)| (*field, value.clone())));
}

fn short(lacks: &[MissingNeed]) -> String {
    let one = |(need, value): &MissingNeed| {
        let tail: String = value.chars().rev().skip(27).take(12).collect::<Vec<_>>().into_iter().rev().collect();
        let value = if value.len() > 60 { tail } else { value.clone() };
        format!("{need:?} {value}")
    };
    lacks.iter().map(one).collect::<Vec<_>>().join(", ")
}
