//! What happens to a fleet, in random order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

use super::mesh::{Broken, FleetMesh, FleetOutcome, RunFlags};
use super::site::{ClusterTrouble, FLEET_EVENTS, FleetCluster, FleetEvent, TROUBLES};
use super::wish::{CLUSTER_FIELDS, FieldEdit, MESH_FIELDS};
use crate::file::{FleetFile, FleetFiles};

/// Something that happens. Numbers name clusters, files and commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WalkStep {
    Edit(FieldEdit),
    /// The specs become what they were so many commits ago.
    Revert(usize),
    Run(RunFlags),
    Sync(usize),
    /// Files of these kinds, in this order.
    SyncPartly(usize, Vec<usize>),
    /// Whoever installs Istio there takes the values of the tree.
    Install(usize),
    SyncAll,
    /// Runs and syncs, one after the other, as a watch would.
    Converge,
    /// The cluster is left to another checkout, or taken back, as far as two runs that are synced bring it.
    HandOver(usize),
    /// The same, as far as so many runs bring it, of which the last is not synced.
    HandOverPartly(usize, usize),
    /// Another checkout takes the cluster that was left, or leaves it again.
    Others(usize),
    /// The agent of the cluster takes a run.
    Agent(usize),
    /// The same, and its process ends after so many writes.
    AgentEnds(usize, u8),
    /// Someone accepts there what the agent shows as a trust change.
    AgentAccepts(usize),
    /// The agent acts no more, until the cluster is mended.
    AgentDown(usize),
    /// The cluster is given to its agent, or taken back, as far as four runs that are synced bring it.
    ToAgent(usize),
    /// With a commit that is not the last one.
    SyncLate(usize, usize),
    Trouble(usize, ClusterTrouble),
    Mend(usize),
    Happen(usize, FleetEvent),
    /// So many hours.
    Pass(u8),
    LoseLock(usize),
    LoseWholeLock,
    /// A file of the lock as it was so many commits ago.
    OldLock(usize, usize),
    /// Files of the lock of now and of then, by bit.
    MergedLock(u8, usize),
    LoseRendered(usize, usize),
    /// The folder of a cluster as it was so many commits ago, which may be none.
    OldRendered(usize, usize),
    /// A file of someone else.
    Foreign(usize, usize),
    /// Another engine takes a run on an older commit, and its checkout becomes ours.
    OtherEngine(usize, RunFlags),
}

/// Beginnings of file names. The last is all files.
const KINDS: [&str; 6] =
    ["configmap-isthmus-peers", "configmap-isthmus-mesh", "configmap-isthmus-routes", "secret-", "clusterrole", ""];

impl WalkStep {
    /// What it is called in the table of what was covered.
    fn kind(&self) -> String {
        match self {
            Self::Edit(FieldEdit::Cluster(_, field, _) | FieldEdit::Mesh(field, _)) => (*field).to_owned(),
            Self::Edit(edit) => format!("{edit:?}").split('(').next().unwrap_or_default().to_owned(),
            Self::Trouble(_, ClusterTrouble::Half(_)) => "Half".to_owned(),
            Self::Trouble(_, trouble) => format!("{trouble:?}"),
            Self::Happen(_, event) => format!("{event:?}"),
            Self::Run(flags) => flags_kind("Run", *flags),
            other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        }
    }
}

fn flags_kind(what: &str, flags: RunFlags) -> String {
    let flag = |is, text: &str| if is { format!(" {text}") } else { String::new() };
    format!(
        "{what}{}{}{}{}",
        flag(flags.locked, "locked"),
        flag(flags.accept, "accept"),
        flag(flags.allow_delete, "delete"),
        flag(flags.only.is_some(), "cluster") + &flag(flags.restore, "restore")
    )
}

/// Whether the lock of a checkout says that a cluster is, or goes, to others.
fn hands_over(checkout: &FleetFiles) -> bool {
    let locked = checkout.iter().filter(|(path, _)| path.starts_with("lock/clusters/"));
    let text = |(_, bytes): (&String, &FleetFile)| String::from_utf8_lossy(bytes).into_owned();
    locked.map(text).any(|text| text.contains("reconciler: external") || text.contains("handOver:"))
}

/// Clusters in which an agent acts, by the lock of a checkout.
fn agents_of(checkout: &FleetFiles) -> BTreeSet<&str> {
    let locked = checkout.iter().filter(|(path, _)| path.starts_with("lock/clusters/"));
    let acts = locked.filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains("reconciler: agent"));
    acts.map(|(path, _)| path.as_str()).collect()
}

/// Whether a cluster was handed over between two commits, or is in one of them: no file of the one belongs beside the other.
fn is_handed_over(one: &FleetFiles, other: &FleetFiles) -> bool {
    hands_over(one) || hands_over(other) || agents_of(one) != agents_of(other)
}

/// Files of the lock are lost or become older ones, by a merge that no one looked at.
fn lose(fleet: &mut FleetMesh, step: &WalkStep) {
    if fleet.has_left_one() {
        return;
    }
    let files: Vec<String> = fleet.lock_files().into_keys().collect();
    // what the lock said while a cluster was another one's does not come back beside a tree that has it again
    let then = |back: usize| {
        let then = fleet.earlier(back).checkout.clone();
        let is_same = !hands_over(&then) && agents_of(&then) == agents_of(&fleet.checkout);
        if is_same { then } else { FleetFiles::new() }
    };
    let one = |pick: usize| files.get(pick % files.len().max(1)).cloned();
    let (gone, old): (Vec<String>, FleetFiles) = match step {
        WalkStep::LoseLock(pick) => (one(*pick).into_iter().collect(), FleetFiles::new()),
        WalkStep::LoseWholeLock => (files, FleetFiles::new()),
        WalkStep::OldLock(pick, back) => (one(*pick).into_iter().collect(), then(*back)),
        WalkStep::MergedLock(bits, back) => {
            let old = then(*back);
            let chosen = files.into_iter().enumerate().filter(|(at, _)| bits & (1 << (at % 8)) != 0);
            (chosen.map(|(_, file)| file).filter(|file| old.contains_key(file)).collect(), old)
        }
        _ => return,
    };
    for file in gone {
        match old.get(&file) {
            Some(bytes) => fleet.checkout.insert(file, bytes.clone()),
            None => fleet.checkout.remove(&file),
        };
    }
    fleet.commit();
}

/// Files of a cluster's folder are lost or become older ones.
fn lose_rendered(fleet: &mut FleetMesh, step: &WalkStep) {
    match step {
        WalkStep::LoseRendered(cluster, pick) => {
            let cluster = fleet.name(*cluster);
            let mut files: Vec<String> = fleet.folder(cluster).into_keys().collect();
            // every other one is a remote secret
            if pick.is_multiple_of(2) {
                files.retain(|file| file.starts_with("secret-"));
            }
            if !files.is_empty() {
                let path = format!("rendered/{cluster}/{}", files[pick / 2 % files.len()]);
                fleet.change_tree(|files| {
                    files.remove(&path);
                });
            }
        }
        WalkStep::OldRendered(cluster, back) => {
            let cluster = fleet.name(*cluster);
            let is_agents = fleet.site(cluster).istiod.agent_acts();
            if !is_agents && !is_handed_over(&fleet.checkout, &fleet.earlier(*back).checkout) {
                fleet.take_folder_back(cluster, *back);
            }
        }
        _ => {}
    }
}

fn flags() -> impl Strategy<Value = RunFlags> {
    let weighted = |one: u32| prop_oneof![9 => Just(false), one => Just(true)];
    let one = prop_oneof![9 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    (weighted(3), weighted(1), weighted(4), one, weighted(1)).prop_map(
        // what accepts or restores asks, and is of all clusters
        |(allow_delete, locked, accept, only, restore)| RunFlags {
            allow_delete,
            locked,
            accept: accept && !locked && only.is_none(),
            only,
            restore: restore && !locked && only.is_none(),
        },
    )
}

fn some_kinds() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![20 => 0..KINDS.len() - 1, 1 => Just(KINDS.len() - 1)], 1..4)
}

/// What a walk is about. One that is about everything seldom does the same thing twice, or takes an edit back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalkTheme {
    /// The kinds of steps that it has beside edits and runs, by bit.
    kinds: u32,
    /// The cluster that most of it is about.
    cluster: usize,
    /// The field of that cluster that most edits are of, if there is such.
    field: Option<&'static str>,
    /// How that cluster misbehaves now and then, if it does.
    trouble: Option<ClusterTrouble>,
    /// Whether that cluster goes to another checkout and comes back.
    hands_over: bool,
    /// Whether its folder is lost, or becomes an older one, and that is synced.
    loses_folder: bool,
    /// Clusters go to their agents and come back.
    has_agents: bool,
}

/// Whether walks also lose folders that are synced, and hand over in part and while states change: `ISTHMUS_WIDE`. About one such walk in
/// 1,500 breaks without a fault, so whoever runs the tests has the others; `ci/faults` and `ci/drill` have these.
fn is_wide() -> bool {
    std::env::var_os("ISTHMUS_WIDE").is_some()
}

/// How many of all walks are about agents, too: none unless `ISTHMUS_AGENTS` has a share, since some of them do not come to rest.
fn agents() -> f64 {
    std::env::var("ISTHMUS_AGENTS").map_or(0.0, |text| text.parse().unwrap())
}

/// Fields that state what a cluster in this trouble publishes otherwise, or not.
const SAME: [(&str, ClusterTrouble); 12] = [
    ("gateways", ClusterTrouble::NoGateway),
    ("flatNetwork", ClusterTrouble::NoGateway),
    ("clusterID", ClusterTrouble::OtherId),
    ("network", ClusterTrouble::OtherNetwork),
    ("trustDomain", ClusterTrouble::Bare),
    ("api.host", ClusterTrouble::OtherHost),
    ("allow.apiHosts", ClusterTrouble::OtherHost),
    ("pin.clusterUUID", ClusterTrouble::OtherUuid),
    ("pin.rootCA", ClusterTrouble::OtherRoot),
    ("evidence", ClusterTrouble::NoEvidence),
    ("metadata.endpoint", ClusterTrouble::Down),
    ("state", ClusterTrouble::Down),
];

fn troubles() -> impl Strategy<Value = ClusterTrouble> {
    prop_oneof![
        3 => select(TROUBLES.to_vec()),
        1 => any::<u8>().prop_map(|bits| ClusterTrouble::Half(bits & 0x7f)),
    ]
}

impl WalkTheme {
    /// Any theme.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let kinds = prop_oneof![1 => Just(u32::MAX), 2 => any::<u32>()];
        let field = prop::option::of(select(CLUSTER_FIELDS.to_vec()));
        let any = (field, prop::option::of(troubles()));
        let same = select(SAME.to_vec()).prop_map(|(field, trouble)| (Some(field), Some(trouble)));
        let hands_over = prop_oneof![4 => Just(false), 1 => Just(true)];
        let loses_folder = prop_oneof![7 => Just(false), 1 => Just(true)];
        let of_what = prop_oneof![2 => any, 1 => same];
        let any = (kinds, 0..4_usize, of_what, (hands_over, loses_folder), prop::bool::weighted(agents()));
        any.prop_map(|(kinds, cluster, (field, trouble), (hands_over, loses_folder), has_agents)| Self {
            kinds,
            cluster,
            field,
            trouble,
            hands_over: hands_over && !has_agents,
            loses_folder: loses_folder && is_wide(),
            has_agents,
        })
    }

    /// Who has the objects of an agent's cluster is another matter.
    fn possible_step(self, step: WalkStep) -> WalkStep {
        match step {
            WalkStep::HandOver(cluster) | WalkStep::HandOverPartly(cluster, _) | WalkStep::Others(cluster)
                if self.has_agents =>
            {
                WalkStep::Agent(cluster)
            }
            step => step,
        }
    }

    /// Clusters go to agents in walks that are about these.
    fn possible_edit(self, edit: FieldEdit) -> FieldEdit {
        match edit {
            FieldEdit::Cluster(cluster, "reconciler", choice) => {
                let is_possible = if self.has_agents { choice % 5 != 1 } else { choice % 5 != 3 };
                FieldEdit::Cluster(cluster, "reconciler", if is_possible { choice } else { 0 })
            }
            edit => edit,
        }
    }

    fn edit(self) -> BoxedStrategy<FieldEdit> {
        self.any_edit().prop_map(move |edit| self.possible_edit(edit)).boxed()
    }

    fn any_edit(self) -> BoxedStrategy<FieldEdit> {
        let cluster = || 0..4_usize;
        let any = prop_oneof![
            14 => (cluster(), select(CLUSTER_FIELDS.to_vec()), 0..6_usize).prop_map(|(c, f, n)| FieldEdit::Cluster(c, f, n)),
            3 => (cluster(), 0..4_usize).prop_map(|(c, n)| FieldEdit::Cluster(c, "state", n)),
            3 => (select(MESH_FIELDS.to_vec()), 0..3_usize).prop_map(|(f, n)| FieldEdit::Mesh(f, n)),
            2 => (cluster(), cluster()).prop_map(|(a, b)| FieldEdit::Pair(a, b)),
            1 => Just(FieldEdit::Full),
            1 => (0..4_u8).prop_map(FieldEdit::EngineKeys),
            1 => cluster().prop_map(FieldEdit::Document),
        ];
        let Some(field) = self.field else { return any.boxed() };
        let of_field = (0..6_usize).prop_map(move |n| FieldEdit::Cluster(self.cluster, field, n));
        prop_oneof![2 => of_field, 1 => any].boxed()
    }

    /// The trouble that it is about begins or ends.
    fn own_trouble(self) -> Option<BoxedStrategy<WalkStep>> {
        let (cluster, trouble) = (self.cluster, self.trouble?);
        Some(prop_oneof![Just(WalkStep::Trouble(cluster, trouble)), Just(WalkStep::Mend(cluster))].boxed())
    }

    /// It goes to another checkout, or comes back; in wide walks in part, and while links begin and end.
    fn hand_over(self) -> BoxedStrategy<WalkStep> {
        let goes = select(vec![WalkStep::HandOver(self.cluster), WalkStep::Others(self.cluster)]);
        if !is_wide() {
            return goes.boxed();
        }
        let cluster = prop_oneof![2 => Just(self.cluster), 1 => 0..4_usize];
        prop_oneof![
            6 => goes,
            2 => (1..3_usize).prop_map(move |runs| WalkStep::HandOverPartly(self.cluster, runs)),
            3 => (cluster, 0..4_usize).prop_map(|(c, n)| WalkStep::Edit(FieldEdit::Cluster(c, "state", n))),
        ]
        .boxed()
    }

    /// Its folder is lost in part, or becomes an older one, and its tool follows.
    fn lose_folder(self) -> impl Strategy<Value = WalkStep> + use<> {
        prop_oneof![
            1 => (1..8_usize).prop_map(move |back| WalkStep::OldRendered(self.cluster, back)),
            1 => any::<usize>().prop_map(move |file| WalkStep::LoseRendered(self.cluster, file)),
            2 => Just(WalkStep::Sync(self.cluster)),
        ]
    }

    /// A step of such a walk.
    pub(crate) fn step(self) -> impl Strategy<Value = WalkStep> + use<> {
        let cluster = || prop_oneof![Just(self.cluster), 0..4_usize];
        let kinds: Vec<(u32, BoxedStrategy<WalkStep>)> = vec![
            (2, (0..6_usize).prop_map(WalkStep::Revert).boxed()),
            (5, cluster().prop_map(WalkStep::Sync).boxed()),
            (4, (cluster(), some_kinds()).prop_map(|(c, kinds)| WalkStep::SyncPartly(c, kinds)).boxed()),
            (2, cluster().prop_map(WalkStep::Install).boxed()),
            (3, Just(WalkStep::SyncAll).boxed()),
            (3, Just(WalkStep::Converge).boxed()),
            (3, (cluster(), 0..6_usize).prop_map(|(c, ahead)| WalkStep::SyncLate(c, ahead)).boxed()),
            (3, (cluster(), troubles()).prop_map(|(c, trouble)| WalkStep::Trouble(c, trouble)).boxed()),
            (3, cluster().prop_map(WalkStep::Mend).boxed()),
            (3, (cluster(), select(FLEET_EVENTS.to_vec())).prop_map(|(c, event)| WalkStep::Happen(c, event)).boxed()),
            (1, (1..40_u8).prop_map(WalkStep::Pass).boxed()),
            (1, (0..8_usize).prop_map(WalkStep::LoseLock).boxed()),
            (1, Just(WalkStep::LoseWholeLock).boxed()),
            (1, (0..8_usize, 1..6_usize).prop_map(|(file, back)| WalkStep::OldLock(file, back)).boxed()),
            (1, (any::<u8>(), 1..6_usize).prop_map(|(bits, back)| WalkStep::MergedLock(bits, back)).boxed()),
            (2, (cluster(), any::<usize>()).prop_map(|(c, file)| WalkStep::LoseRendered(c, file)).boxed()),
            (1, (cluster(), 0..3_usize).prop_map(|(c, kind)| WalkStep::Foreign(c, kind)).boxed()),
            (1, (1..6_usize, flags()).prop_map(|(back, flags)| WalkStep::OtherEngine(back, flags)).boxed()),
            (1, (cluster(), 1..8_usize).prop_map(|(c, back)| WalkStep::OldRendered(c, back)).boxed()),
            (1, cluster().prop_map(move |c| self.possible_step(WalkStep::HandOver(c))).boxed()),
            (1, cluster().prop_map(move |c| self.possible_step(WalkStep::Others(c))).boxed()),
        ];
        let chosen = kinds.into_iter().enumerate().filter(|(at, _)| self.kinds & (1 << at) != 0);
        let always =
            [(16, self.edit().prop_map(WalkStep::Edit).boxed()), (12, flags().prop_map(WalkStep::Run).boxed())];
        let own = self.own_trouble().map(|trouble| (8, trouble));
        let goes = self.hands_over.then(|| (if is_wide() { 50 } else { 40 }, self.hand_over()));
        let loses = self.loses_folder.then(|| (20, self.lose_folder().boxed()));
        let agents = [
            (8, cluster().prop_map(WalkStep::Agent).boxed()),
            (2, (cluster(), 0..8_u8).prop_map(|(c, writes)| WalkStep::AgentEnds(c, writes)).boxed()),
            (2, cluster().prop_map(WalkStep::AgentAccepts).boxed()),
            (1, cluster().prop_map(WalkStep::AgentDown).boxed()),
            (5, cluster().prop_map(WalkStep::ToAgent).boxed()),
            (
                5,
                (cluster(), 2..4_usize)
                    .prop_map(|(c, n)| WalkStep::Edit(FieldEdit::Cluster(c, "reconciler", n)))
                    .boxed(),
            ),
        ];
        let agents = agents.into_iter().filter(|_| self.has_agents);
        Union::new_weighted(
            always
                .into_iter()
                .chain(own)
                .chain(goes)
                .chain(loses)
                .chain(agents)
                .chain(chosen.map(|(_, kind)| kind))
                .collect(),
        )
    }
}

/// How often an event followed an edit in a walk.
pub(crate) type Coverage = BTreeMap<String, BTreeMap<String, usize>>;

/// A fleet and the edits that were made.
pub(crate) struct Walk {
    pub(crate) fleet: FleetMesh,
    without: BTreeSet<String>,
    edits: Vec<String>,
    pub(crate) coverage: Coverage,
    /// Runs, and how many of them were refused.
    pub(crate) runs: (usize, usize),
}

impl Walk {
    pub(crate) fn new(fleet: FleetMesh, without: &[&str]) -> Self {
        let without = without.iter().map(|kind| (*kind).to_owned()).collect();
        Self { fleet, without, edits: Vec::new(), coverage: Coverage::new(), runs: (0, 0) }
    }

    fn count(&mut self, event: &str) {
        for edit in &self.edits {
            *self.coverage.entry(edit.clone()).or_default().entry(event.to_owned()).or_default() += 1;
        }
    }

    fn edit(&mut self, edit: FieldEdit) {
        let sites: Vec<FleetCluster> = self.fleet.sites.values().cloned().collect();
        let sites: Vec<&FleetCluster> = sites.iter().collect();
        if let Some(what) = self.fleet.wish.edit(edit, &sites) {
            self.fleet.commit();
            self.edits.push(what);
        }
    }

    /// The step happens, unless it is of a kind that is left out.
    pub(crate) fn take(&mut self, step: &WalkStep) -> Result<(), Broken> {
        if self.without.contains(&step.kind()) {
            return Ok(());
        }
        if self.fleet.prints {
            println!("{step:?}");
        }
        if !matches!(step, WalkStep::Edit(_)) {
            self.count(&step.kind());
        }
        let fleet = &mut self.fleet;
        match step {
            WalkStep::Edit(edit) => self.edit(*edit),
            WalkStep::Revert(back) => fleet.wish = fleet.earlier(*back).wish.clone(),
            WalkStep::Run(flags) => {
                self.runs.0 += 1;
                if let FleetOutcome::Refused(_) = fleet.run(*flags)? {
                    // what is not taken is taken back, lest the rest of the walk be one refusal
                    self.runs.1 += 1;
                    fleet.take_back();
                }
            }
            WalkStep::Sync(cluster) => {
                let cluster = fleet.name(*cluster);
                fleet.sync(cluster)?;
            }
            WalkStep::SyncPartly(cluster, kinds) => {
                let cluster = fleet.name(*cluster);
                for kind in kinds {
                    let mut files = fleet.behind(cluster);
                    files.retain(|file| file.starts_with(KINDS[*kind]));
                    fleet.sync_files(cluster, &files)?;
                }
            }
            WalkStep::Install(cluster) => {
                let cluster = fleet.name(*cluster);
                fleet.install(cluster)?;
            }
            WalkStep::SyncAll => fleet.sync_all()?,
            WalkStep::Converge => self.converge()?,
            WalkStep::HandOver(cluster) => self.hand_over(*cluster, "external", (2, true))?,
            WalkStep::HandOverPartly(cluster, runs) => self.hand_over(*cluster, "external", (*runs, false))?,
            WalkStep::Others(cluster) => {
                let cluster = fleet.name(*cluster);
                if fleet.go_to_others(cluster) {
                    let what = if fleet.site(cluster).is_offered() { "Others leave" } else { "Others take" };
                    self.count(what);
                }
            }
            WalkStep::Agent(cluster) => drop(fleet.agent(fleet.name(*cluster), None)?),
            WalkStep::AgentEnds(cluster, writes) => {
                fleet.agent(fleet.name(*cluster), Some(usize::from(*writes)))?;
            }
            WalkStep::AgentAccepts(cluster) => fleet.accept_in_agent(fleet.name(*cluster)),
            WalkStep::AgentDown(cluster) => {
                let cluster = fleet.name(*cluster);
                fleet.sites.get_mut(cluster).unwrap().is_agent_down = true;
            }
            WalkStep::ToAgent(cluster) => self.hand_over(*cluster, "agent", (4, true))?,
            WalkStep::SyncLate(cluster, ahead) => {
                let cluster = fleet.name(*cluster);
                fleet.sync_late(cluster, *ahead)?;
            }
            WalkStep::Trouble(cluster, trouble) => {
                let cluster = fleet.name(*cluster);
                fleet.sites.get_mut(cluster).unwrap().trouble = Some(*trouble);
            }
            WalkStep::Mend(cluster) => {
                let cluster = fleet.name(*cluster);
                let site = fleet.sites.get_mut(cluster).unwrap();
                (site.trouble, site.is_agent_down) = (None, false);
                fleet.take_foreign(cluster);
            }
            WalkStep::Foreign(cluster, kind) => {
                let cluster = fleet.name(*cluster);
                fleet.put_foreign(cluster, *kind);
            }
            WalkStep::Happen(cluster, event) => {
                let cluster = fleet.name(*cluster);
                fleet.happen(cluster, *event);
            }
            WalkStep::Pass(hours) => fleet.now += i64::from(*hours) * 3600,
            WalkStep::LoseLock(_) | WalkStep::LoseWholeLock | WalkStep::OldLock(..) | WalkStep::MergedLock(..) => {
                lose(fleet, step);
            }
            WalkStep::LoseRendered(..) | WalkStep::OldRendered(..) => lose_rendered(fleet, step),
            WalkStep::OtherEngine(back, flags) => {
                let earlier = fleet.earlier(*back).clone();
                // a commit of before a cluster was accepted has none of its roots, and nothing in it tells that it had others
                let mut entries = fleet.checkout.keys().filter(|path| path.starts_with("lock/clusters/"));
                // and one of before or after a hand-over lets the cluster's tool write what another one's does
                if !is_handed_over(&fleet.checkout, &earlier.checkout)
                    && entries.all(|path| earlier.checkout.contains_key(path))
                {
                    fleet.check_out(earlier);
                    fleet.run(*flags)?;
                }
            }
        }
        Ok(())
    }

    /// Runs and syncs as often as a join takes, or until a run is refused.
    fn converge(&mut self) -> Result<(), Broken> {
        self.runs(4, true)
    }

    fn hand_over(&mut self, cluster: usize, to: &str, (runs, is_synced): (usize, bool)) -> Result<(), Broken> {
        let name = self.fleet.name(cluster);
        let Some(fields) = self.fleet.wish.clusters.get_mut(name) else { return Ok(()) };
        if fields.remove("reconciler").is_none() {
            fields.insert("reconciler", to.into());
        }
        self.fleet.commit();
        self.edits.push("reconciler".to_owned());
        self.runs(runs, is_synced)
    }

    /// So many runs, each of which is synced; of the last one that is said.
    fn runs(&mut self, count: usize, is_last_synced: bool) -> Result<(), Broken> {
        for run in 1..=count {
            self.runs.0 += 1;
            if let FleetOutcome::Refused(_) = self.fleet.run(RunFlags { accept: true, ..RunFlags::default() })? {
                self.runs.1 += 1;
                self.fleet.take_back();
                break;
            }
            if run == count && !is_last_synced {
                break;
            }
            self.fleet.sync_all()?;
            self.fleet.agents()?;
            self.fleet.now += 2 * 3600;
        }
        Ok(())
    }

    /// Whether the fleet comes to rest, and does so again without agents.
    pub(crate) fn end(&mut self) -> Result<(), Broken> {
        self.fleet.calm()?;
        if self.fleet.take_back_from_agents() { self.fleet.calm() } else { Ok(()) }
    }
}
