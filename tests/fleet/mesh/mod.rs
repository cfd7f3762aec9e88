//! Clusters, a checkout with its history, runs and syncs; and the laws that are watched over.

mod agents;
mod calm;
mod judge;
mod law;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use isthmus::checkout::FileChange;
use isthmus::model::keyring::KeyProblem;
use isthmus::model::lock::{Lock, LockedCluster, Stage};
use isthmus::model::trust::{Approvals, Verdict};
use isthmus::pipeline::accept::accept;
use isthmus::pipeline::meter::Unmetered;
use isthmus::pipeline::observe::{Observation, Observed, PrivateReading};
use isthmus::pipeline::plan::Plan;
use isthmus::pipeline::{FactSource, Input, Program, Request, Stop, Until, World, run};
use isthmus::spec::SourceFile;
use isthmus::types::explanation::Code;
use isthmus::types::key::PublicKey;
use isthmus::types::name::ClusterName;
use isthmus::types::time::Timestamp;

use self::judge::is_left_to_others;
use self::law::{ALL_NEEDS, LinkNeed};
pub(crate) use self::law::{Broken, Law, MissingNeed, ReaderAndPeer, Why};
use super::istiod::{SimulatedIstiod, stays};
use super::site::{FleetCluster, FleetEvent, NAMES};
use super::wish::{WantedSpecs, engine_key};
use crate::file::{FleetFile, FleetFiles};
use crate::support::naive::squeeze;
use crate::support::road::Changes;

const KUSTOMIZATION: &str = "kustomization.yaml";
const PEERS_FILE: &str = "configmap-isthmus-peers.yaml";
/// A time at which all certificates are valid.
const START: i64 = 1_790_000_000;
const HOUR: i64 = 3600;

thread_local! {
    /// What the last run compiled, of which a watch would use again what is the same.
    static BEFORE: RefCell<Option<Rc<Program>>> = RefCell::default();
}

/// Flags of a run.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunFlags {
    pub(crate) allow_delete: bool,
    pub(crate) locked: bool,
    pub(crate) accept: bool,
    /// `--cluster`.
    pub(crate) only: Option<usize>,
    /// `--restore-links`.
    pub(crate) restore: bool,
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

/// What each cluster's folder would do.
type Trees = BTreeMap<&'static str, Rc<SimulatedIstiod>>;

/// A state of the checkout that was committed.
#[derive(Debug, Clone)]
pub(crate) struct CommittedTree {
    pub(crate) wish: WantedSpecs,
    pub(crate) checkout: FleetFiles,
    foreign: BTreeMap<String, (FleetFile, Option<FleetFile>)>,
    /// Links of which plans said until then that they leave.
    stated: BTreeSet<ReaderAndPeer>,
    /// Someone had changed its tree by hand, or taken it back.
    by_hand: bool,
}

/// All of it.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct FleetMesh {
    pub(crate) sites: BTreeMap<&'static str, FleetCluster>,
    pub(crate) wish: WantedSpecs,
    /// `lock/`, `rendered/` and `values/`.
    pub(crate) checkout: FleetFiles,
    pub(crate) commits: Vec<CommittedTree>,
    /// The commit that each cluster was last synced with.
    synced: BTreeMap<&'static str, usize>,
    pub(crate) now: i64,
    /// All files of a folder are synced, not those that its kustomization lists.
    pub(crate) argo: bool,
    /// Links of which a plan said that they leave.
    stated: BTreeSet<ReaderAndPeer>,
    /// What a link lacks by an event inside a cluster or by a hand, until it has it.
    excused: BTreeMap<(ReaderAndPeer, MissingNeed), Why>,
    /// The last data key of each link.
    last_ids: BTreeMap<ReaderAndPeer, String>,
    /// What no one can promise of links of a cluster, and why.
    misled: BTreeMap<&'static str, BTreeSet<(LinkNeed, Why)>>,
    /// How often a law would have been broken, but for this.
    pub(crate) used: RefCell<BTreeMap<(Law, Why), usize>>,
    /// Files of someone else by their paths, and what was there before.
    foreign: BTreeMap<String, (FleetFile, Option<FleetFile>)>,
    /// Someone changed the tree by hand since the last run.
    tree_by_hand: bool,
    /// Someone did so in this walk.
    was_by_hand: bool,
    /// The tree became that of an older commit, and did not come to rest since.
    reverted: bool,
    /// Links with a secret that is live in a cluster which was stated to be lost while it was left to others: the lock forgot them.
    lost_while_left: BTreeSet<ReaderAndPeer>,
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
            checkout: own_key(),
            commits: Vec::new(),
            synced: BTreeMap::new(),
            now: START,
            argo,
            stated: BTreeSet::new(),
            excused: BTreeMap::new(),
            last_ids: BTreeMap::new(),
            misled: BTreeMap::new(),
            used: RefCell::default(),
            foreign: BTreeMap::new(),
            tree_by_hand: false,
            was_by_hand: false,
            reverted: false,
            lost_while_left: BTreeSet::new(),
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
        self.last_ids.extend(self.ids());
        self.commits.push(CommittedTree {
            wish: self.wish.clone(),
            checkout: self.checkout.clone(),
            foreign: self.foreign.clone(),
            stated: self.stated.clone(),
            by_hand: self.tree_by_hand || self.reverted,
        });
    }

    /// The commit so many before the last one.
    pub(crate) fn earlier(&self, back: usize) -> &CommittedTree {
        let last = self.commits.len() - 1;
        &self.commits[last - back % self.commits.len()]
    }

    pub(crate) fn lock(&self) -> Result<Lock, String> {
        let files = self.lock_files();
        let parsed = Lock::parse(files.iter().map(|(path, bytes)| (path.as_str(), &**bytes)));
        parsed.map_err(|findings| format!("{findings:?}"))
    }

    pub(crate) fn lock_files(&self) -> FleetFiles {
        below(&self.checkout, "lock/").map(|(path, bytes)| (format!("lock/{path}"), bytes.clone())).collect()
    }

    fn input(&self) -> Input {
        let bytes = self.wish.documents().join("---\n").into_bytes();
        let specs = vec![SourceFile { path: "specs/mesh.yaml".into(), bytes }];
        let lock = self.lock_files().into_iter().map(|(path, bytes)| (path, bytes.to_vec())).collect();
        Input { specs, templates: Vec::new(), lock, inside: None }
    }

    // ---------------------------------------------------------------- trees and syncs

    /// Whether a cluster was left to another checkout: but for the lock, nothing tells that it was this one's.
    pub(crate) fn has_left_one(&self) -> bool {
        self.names().into_iter().any(|name| self.is_left(name))
    }

    /// Whether a cluster was left to another checkout, which may have taken it.
    fn is_left(&self, cluster: &str) -> bool {
        let istiod = &self.site(cluster).istiod;
        // one that was made anew since shows nothing of it
        let is_made_anew = || self.site(cluster).is_made_anew() && is_left_to_others(&self.checkout, cluster);
        let is_left = istiod.offered > 0 || istiod.is_of_others() || is_made_anew();
        is_left && !self.folder(cluster).contains_key(PEERS_FILE)
    }

    /// Whether the live secret of a link is marked not to be pruned.
    fn is_marked(&self, (reader, peer): ReaderAndPeer) -> bool {
        let secret = self.site(reader).live.get(&format!("secret-istio-remote-secret-{peer}.yaml"));
        secret.is_some_and(|bytes| stays(bytes, self.argo))
    }

    /// All files of a cluster's folder.
    pub(crate) fn folder(&self, cluster: &str) -> FleetFiles {
        folder_of(&self.checkout, cluster)
    }

    /// What the `GitOps` tool makes of a cluster's folder; `None`: it fails, and changes nothing.
    pub(crate) fn built(&self, cluster: &str) -> Option<FleetFiles> {
        self.built_of(&self.checkout, cluster)
    }

    fn built_of(&self, checkout: &FleetFiles, cluster: &str) -> Option<FleetFiles> {
        let mut files = folder_of(checkout, cluster);
        let kustomization = files.remove(KUSTOMIZATION);
        if self.argo {
            return Some(files);
        }
        let text = String::from_utf8(kustomization?.to_vec()).unwrap();
        let listed = text.lines().filter_map(|line| line.trim().strip_prefix("- "));
        listed.map(|file| Some((file.to_owned(), files.get(file)?.clone()))).collect()
    }

    /// What each cluster's folder would do, with what stays in the cluster without it.
    fn trees(&self) -> Trees {
        let one = |name: &'static str| {
            // a tool finds no folder, and changes nothing
            let is_gone = below(&self.checkout, &format!("rendered/{name}/")).next().is_none();
            let mut files = self.built(name).or_else(|| is_gone.then(FleetFiles::new))?;
            let is_theirs = is_gone && self.site(name).istiod.is_of_others();
            let site = self.site(name);
            let remains =
                |(file, bytes): &(&String, &FleetFile)| is_theirs || stays(bytes, self.argo) || !site.is_tracked(file);
            for (file, bytes) in site.live.iter().filter(remains) {
                files.entry(file.clone()).or_insert_with(|| bytes.clone());
            }
            Some((name, self.site(name).having(&files)))
        };
        self.names().into_iter().filter_map(one).collect()
    }

    /// Files whose live objects differ from the tree.
    pub(crate) fn behind(&self, cluster: &str) -> Vec<String> {
        self.built(cluster).map(|wanted| self.behind_of(cluster, &wanted)).unwrap_or_default()
    }

    /// Files whose live objects a tool changes, or takes away, to have these.
    fn behind_of(&self, cluster: &str, wanted: &FleetFiles) -> Vec<String> {
        let site = self.site(cluster);
        let live = &site.live;
        if wanted.is_empty() && self.site(cluster).istiod.is_of_others() {
            // what another one's tool syncs is none of the objects that this one's knows
            return Vec::new();
        }
        let names: BTreeSet<&String> = wanted.keys().chain(live.keys()).collect();
        let is_behind = |name: &&String| match (wanted.get(*name), live.get(*name)) {
            (None, Some(live)) => site.is_tracked(name) && !stays(live, self.argo),
            (wanted, live) => wanted != live,
        };
        names.into_iter().filter(is_behind).cloned().collect()
    }

    /// Makes files of the tree live one after the other, or takes their objects away.
    pub(crate) fn sync_files(&mut self, cluster: &'static str, files: &[String]) -> Result<(), Broken> {
        // whoever took part of a commit takes no older one
        self.synced.insert(cluster, self.commits.len() - 1);
        let Some(wanted) = self.built(cluster) else { return Ok(()) };
        let mut before = self.lacking();
        for file in files {
            self.judge_overwriting(cluster, file, wanted.get(file))?;
            self.change_live((cluster, file), &mut before, |site| site.put(file, wanted.get(file)))?;
        }
        Ok(())
    }

    /// The values of the tree.
    fn values(&self, cluster: &str) -> Option<FleetFile> {
        below(&self.checkout, &format!("values/{cluster}/")).next().map(|(_, bytes)| bytes.clone())
    }

    /// Whoever installs Istio there takes the values of the tree.
    pub(crate) fn install(&mut self, cluster: &'static str) -> Result<(), Broken> {
        let (values, mut before) = (self.values(cluster), self.lacking());
        self.change_live((cluster, "its values"), &mut before, |site| site.install(values))
    }

    /// Something of a cluster becomes live, and takes nothing away from links. `before` is what these lack.
    fn change_live(
        &mut self,
        (cluster, file): (&'static str, &str),
        before: &mut BTreeMap<ReaderAndPeer, BTreeSet<MissingNeed>>,
        change: impl FnOnce(&mut FleetCluster) -> bool,
    ) -> Result<(), Broken> {
        let is_by_hand = self.tree_by_hand || self.reverted;
        let lost = |(pair, _): &(&ReaderAndPeer, &String)| is_by_hand && !before.contains_key(*pair);
        let gone: Vec<(ReaderAndPeer, String)> =
            self.last_ids.iter().filter(lost).map(|(pair, id)| (*pair, id.clone())).collect();
        let had: Vec<_> = gone.iter().map(|(pair, id)| self.lacks(*pair, id, None)).collect();
        if change(self.sites.get_mut(cluster).unwrap()) {
            // what a hand takes from a link whose secret is lost, too
            for ((pair, id), had) in gone.iter().zip(had) {
                let new: Vec<MissingNeed> = self.lacks(*pair, id, None).difference(&had).cloned().collect();
                self.excused.extend(new.into_iter().map(|lack| ((*pair, lack), Why::Unseen)));
            }
            let after = self.lacking();
            self.judge_sync((cluster, file), before, &after)?;
            self.tidy_excuses();
            *before = after;
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self, cluster: &'static str) -> Result<(), Broken> {
        self.sync_files(cluster, &self.behind(cluster))
    }

    /// The `GitOps` tool comes as far as a commit that is not the last one, and not before the one that it came to last.
    pub(crate) fn sync_late(&mut self, cluster: &'static str, ahead: usize) -> Result<(), Broken> {
        let (from, last) = (self.synced.get(cluster).copied().unwrap_or_default(), self.commits.len() - 1);
        if from >= last {
            return Ok(());
        }
        let to = from + 1 + ahead % (last - from);
        self.synced.insert(cluster, to);
        let CommittedTree { checkout, stated, by_hand, .. } = self.commits[to].clone();
        let Some(wanted) = self.built_of(&checkout, cluster) else { return Ok(()) };
        let files = self.behind_of(cluster, &wanted);
        let (reverted, now) = (self.reverted, self.stated.clone());
        self.reverted |= by_hand;
        self.stated.extend(stated);
        let mut before = self.lacking();
        for file in &files {
            self.judge_overwriting(cluster, file, wanted.get(file))?;
            self.change_live((cluster, file), &mut before, |site| site.put(file, wanted.get(file)))?;
        }
        (self.reverted, self.stated) = (reverted, now);
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

    /// Another checkout takes a cluster that was left, and that the tool of this one has let go, or leaves it again.
    pub(crate) fn go_to_others(&mut self, cluster: &'static str) -> bool {
        if !self.is_left(cluster) {
            return false;
        }
        let last = self.commits.len() - 1;
        self.synced.insert(cluster, last);
        self.sites.get_mut(cluster).unwrap().go_to_others()
    }

    /// Something happens inside a cluster; what its links lack by it is no one's fault.
    pub(crate) fn happen(&mut self, cluster: &'static str, event: FleetEvent) {
        let ids = self.last_ids.clone();
        let before: BTreeMap<ReaderAndPeer, BTreeSet<MissingNeed>> =
            ids.iter().map(|(pair, id)| (*pair, self.lacks(*pair, id, None))).collect();
        let until = self.now + self.certificates_last;
        let accepted = self.accepted(cluster);
        let site = self.sites.get_mut(cluster).unwrap();
        site.happen(event, until);
        // what was replaced before a run accepted it is in no file of the checkout
        site.forget_retiring(&|root| accepted.iter().any(|file| file.contains(&root.squeezed)));
        for (pair, id) in ids {
            let lacks = self.lacks(pair, &id, None);
            let new = lacks.difference(&before[&pair]).map(|lack| ((pair, lack.clone()), Why::Event));
            self.excused.extend(new.collect::<Vec<_>>());
        }
        self.tidy_excuses();
        if event == FleetEvent::Rebuild {
            // its folder still has the secrets of the one before
            self.misled.entry(cluster).or_default().extend(ALL_NEEDS.map(|need| (need, Why::Rebuilt)));
        }
    }

    /// What the lock has, or had, of a cluster, without its white space.
    fn accepted(&self, cluster: &str) -> BTreeSet<String> {
        let path = format!("lock/clusters/{cluster}.yaml");
        let files = self.commits.iter().filter_map(|commit| commit.checkout.get(&path));
        files.map(|bytes| squeeze(&String::from_utf8_lossy(bytes))).collect()
    }

    /// The data key of each link whose secret is live or in the tree.
    fn ids(&self) -> BTreeMap<ReaderAndPeer, String> {
        let id = |pair: ReaderAndPeer| self.live_id(pair).or_else(|| self.id_in_tree(pair));
        self.pairs().into_iter().filter_map(|pair| Some((pair, id(pair)?))).collect()
    }

    /// The data key of a secret in the tree, also where the folder cannot be built because another file is lost.
    fn id_in_tree(&self, (reader, peer): ReaderAndPeer) -> Option<String> {
        let name = format!("secret-istio-remote-secret-{peer}.yaml");
        // the tree of an agent is what is live of its own
        if self.site(reader).live.contains_key(&name) && !self.site(reader).is_tracked(&name) {
            return self.live_id((reader, peer));
        }
        let file = self.checkout.get(&format!("rendered/{reader}/{name}"))?;
        let text = String::from_utf8_lossy(file);
        let line = text.lines().find_map(|line| line.trim().strip_prefix("networking.istio.io/cluster: "))?;
        Some(line.trim_matches('"').to_owned())
    }

    /// The checkout becomes that of a commit, as by `git revert`: secrets and trust may go in one sync.
    pub(crate) fn check_out(&mut self, commit: CommittedTree) {
        (self.wish, self.foreign) = (commit.wish, commit.foreign);
        self.change_tree(|files| *files = commit.checkout);
        self.reverted = true;
    }

    /// A cluster's folder becomes that of a commit, as by a merge that takes one side of it: none, or one of a run.
    pub(crate) fn take_folder_back(&mut self, cluster: &str, back: usize) {
        let prefix = format!("rendered/{cluster}/");
        let is_foreign = |commit: &CommittedTree| commit.foreign.keys().any(|path| path.starts_with(&prefix));
        let old = self.earlier(back);
        let folder = folder_of(&old.checkout, cluster);
        let is_of_a_run = folder.is_empty() || folder.contains_key(PEERS_FILE);
        if is_foreign(old) || self.foreign.keys().any(|path| path.starts_with(&prefix)) || !is_of_a_run {
            return;
        }
        self.change_tree(|files| {
            files.retain(|path, _| !path.starts_with(&prefix));
            files.extend(folder.into_iter().map(|(file, bytes)| (format!("{prefix}{file}"), bytes)));
        });
        self.reverted = true;
        self.commit();
    }

    /// Someone changes the tree by hand.
    pub(crate) fn change_tree(&mut self, change: impl FnOnce(&mut FleetFiles)) {
        change(&mut self.checkout);
        (self.tree_by_hand, self.was_by_hand) = (true, true);
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
                && program.mesh.clusters.contains_key(&cluster_name(site.name))
        });
        let public = |site: &&&FleetCluster| {
            let public = if url(site) {
                let url = "https://nobody.example.com/metadata/public/public.json".to_owned();
                Err(isthmus::wire::failure::Failure::TimedOut { url, seconds: 10 })
            } else {
                site.public()
            };
            (cluster_name(site.name), Observation::own(public, PrivateReading::NotAsked))
        };
        let asked: Vec<&&FleetCluster> = asked.collect();
        let mut observed = Observed { clusters: asked.iter().map(public).collect(), ..Observed::default() };
        let now = Timestamp::from_seconds(self.now);
        let judged = accept(&program.mesh, &program.lock, &observed, approvals, &BTreeSet::new(), now);
        for (cluster, observation) in &mut observed.clusters {
            if observation.public.is_ok() {
                let site = &self.sites[cluster.as_str()];
                let may = judged.assessments[cluster].may_be_asked();
                let keys = self.wish.keys();
                observation.private = match may {
                    true if keys.is_empty() => PrivateReading::NoKey(KeyProblem::NoEngineKey),
                    true => site.private(&keys, &all),
                    false => PrivateReading::HeldBack,
                };
            }
        }
        observed
    }

    /// A run on the checkout, and what it does to live links.
    pub(crate) fn run(&mut self, flags: RunFlags) -> Result<FleetOutcome, Broken> {
        self.now += 60;
        let before = BEFORE.with_borrow(Clone::clone);
        let program = match Program::load_after(before.as_deref(), &self.input(), &|_| None) {
            Ok(mut program) => match flags.restore.then(|| program.take_from_tree(&self.checkout, true)) {
                Some(Err(stop)) => return Ok(self.refused(stop)),
                _ => Rc::new(program),
            },
            Err(stop) => return Ok(self.refused(stop)),
        };
        // a watch restores no links
        BEFORE.replace((!flags.restore).then(|| program.clone()));
        let approvals = Approvals { all: flags.accept, named: Vec::new() };
        let only = flags.only.map(|number| cluster_name(self.name(number)));
        let only = only.filter(|name| program.mesh.clusters.contains_key(name));
        let (allow_delete, restore_links) = (flags.allow_delete, flags.restore);
        let request = Request { approvals: approvals.clone(), allow_delete, only, restore_links };
        let observed = (!flags.locked).then(|| self.observe(&program, &approvals));
        let mut shows: BTreeSet<&'static str> = self
            .names()
            .into_iter()
            .filter(|name| observed.as_ref().is_some_and(|all| shows_reads(all, name)))
            .collect();
        let asks = observed.is_some();
        let facts = observed.map_or(FactSource::Locked, FactSource::Stored);
        for (name, needs) in self.misleading(&self.wish) {
            self.misled.entry(name).or_default().extend(needs);
        }
        for site in self.sites.values().filter(|_| flags.accept) {
            if site.lies_of_itself() {
                let needs = ALL_NEEDS.map(|need| (need, Why::Accepted));
                self.misled.entry(site.name).or_default().extend(needs);
            }
        }
        self.excuse_lost_relay_cas();
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
        self.note_lost_while_left();
        let open = plan.trust_changes.iter().filter(|change| change.verdict != Verdict::Approved);
        open.for_each(|change| shows.retain(|name| *name != change.cluster.as_str()));
        let before = self.trees();
        let nearly = self.hypotheses(&before);
        let (held, files) = (self.held(), self.checkout.clone());
        for change in changes {
            match change {
                FileChange::Write { path, bytes, .. } => self.checkout.insert(path, bytes.into()),
                FileChange::Delete { path } => self.checkout.remove(&path),
            };
        }
        let after = self.trees();
        for (link, step) in &plan.moves {
            let known = |name: &str| NAMES.into_iter().find(|known| *known == name).unwrap();
            let pair = (known(link.reader.as_str()), known(link.peer.as_str()));
            if step.to == Some(Stage::Joined) {
                self.stated.remove(&pair);
            } else if (step.to != Some(Stage::Joining) || step.from == Some(Stage::Joined))
                && plan.security.iter().any(|item| item.change.links().contains(link))
            {
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
        self.judge_run((&before, &after), &nearly, (&held, asks.then_some(&shows)))?;
        self.judge_standard(&before, &after)?;
        self.judge_trust(&files, &plan)?;
        self.judge_foreign(&files, flags.restore)?;
        self.judge_lock()?;
        self.judge_merged(&before, &after)?;
        self.judge_writers(&files, asks)?;
        self.judge_acting(&files)?;
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

    /// The specs that were taken say that a cluster is lost, which was left.
    fn note_lost_while_left(&mut self) {
        let is_lost = |pair: &ReaderAndPeer| self.wish.state(pair.0) == Some("lost") && self.is_left(pair.0);
        let lost: Vec<ReaderAndPeer> =
            self.pairs().into_iter().filter(|pair| is_lost(pair) && self.live_id(*pair).is_some()).collect();
        self.lost_while_left.extend(lost);
    }

    /// A former CA of a relay that a hand took out of lock and tree alike is known to no run.
    fn excuse_lost_relay_cas(&mut self) {
        if !self.was_by_hand {
            return;
        }
        let Ok(lock) = self.lock() else { return };
        for pair @ (reader, _) in self.pairs() {
            let tree = SimulatedIstiod::read(&self.folder(reader)).relay_cas;
            let locked = lock.clusters.get(&cluster_name(reader)).and_then(LockedCluster::relay_cas);
            let locked = squeeze(&locked.unwrap_or_default());
            for ca in self.site(reader).used_relay_cas(self.now) {
                let is_known = tree.values().any(|known| known.contains(&ca.squeezed)) || locked.contains(&ca.squeezed);
                if !is_known {
                    self.excused.insert((pair, (LinkNeed::RelayCa, ca.squeezed.clone())), Why::Hand);
                }
            }
        }
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

    /// Someone puts a file of their own into a cluster's folder: one beside the others, one in the place of one that is yet to
    /// be written, or an entry of its list.
    pub(crate) fn put_foreign(&mut self, cluster: &str, kind: usize) {
        let object = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: theirs\n  namespace: default\n";
        let object = FleetFile::from(object.as_bytes().to_vec());
        let folder = format!("rendered/{cluster}");
        let list = format!("{folder}/{KUSTOMIZATION}");
        let secret = |peer: &&str| format!("{folder}/secret-istio-remote-secret-{peer}.yaml");
        let secrets: Vec<String> = self.names().iter().filter(|peer| **peer != cluster).map(secret).collect();
        let free = secrets.into_iter().find(|path| !self.checkout.contains_key(path));
        let listed = self.checkout.get(&list).cloned();
        let (path, bytes): (_, FleetFile) = match (kind % 3, free, listed) {
            (0, Some(path), _) => (path, object),
            (1, _, Some(list_of)) => (list, [&list_of, b"namePrefix: their-\n".as_slice()].concat().into()),
            _ => (format!("{folder}/configmap-theirs.yaml"), object),
        };
        let was = self.checkout.get(&path).cloned();
        if !self.foreign.contains_key(&path) {
            self.foreign.insert(path.clone(), (bytes.clone(), was));
            self.change_tree(|files| drop(files.insert(path, bytes)));
        }
    }

    /// The files of someone else are taken out of a cluster's folder again.
    pub(crate) fn take_foreign(&mut self, cluster: &str) {
        let (taken, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.foreign)
            .into_iter()
            .partition(|(path, _)| path.split('/').nth(1) == Some(cluster));
        self.foreign = kept;
        for (path, (bytes, was)) in taken {
            // unless it went with an older commit
            if self.checkout.get(&path) == Some(&bytes) {
                self.change_tree(|files| {
                    match was {
                        Some(was) => files.insert(path, was),
                        None => files.remove(&path),
                    };
                });
            }
        }
    }
}

/// The file of the lock with the engine's key.
fn own_key() -> FleetFiles {
    let key = PublicKey::from_pem(&engine_key(0)).unwrap();
    let lock = Lock { engine_keys: [("key-0".parse().unwrap(), key)].into(), ..Lock::default() };
    lock.to_files().unwrap().into_iter().map(|(path, text)| (path, text.into_bytes().into())).collect()
}

fn folder_of(checkout: &FleetFiles, cluster: &str) -> FleetFiles {
    below(checkout, &format!("rendered/{cluster}/")).map(|(file, bytes)| (file.to_owned(), bytes.clone())).collect()
}

/// The files below a folder, by what follows its name.
fn below<'f>(files: &'f FleetFiles, folder: &str) -> impl Iterator<Item = (&'f str, &'f FleetFile)> {
    files.range(folder.to_owned()..).map_while(move |(path, bytes)| Some((path.strip_prefix(folder)?, bytes)))
}

fn cluster_name(name: &str) -> ClusterName {
    name.parse().unwrap()
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
