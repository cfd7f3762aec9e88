//! What happens to a mesh, in random order, and the law that is watched over after each event.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::model::link::Link;
use isthmus::model::lock::{Lock, Stage};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::naive::Naive;
use super::world::{ClusterFault, DeclaredState, FAULTS, MemoryMesh, MeshRun, NAMES, Pairs};

/// Most runs, each followed by a full sync, from anything to a run that changes nothing while nothing waits; that last
/// run is counted. A newcomer takes three and so does a link that goes: components and keys, networks, secrets; secret,
/// network, trust. One more for what the others learn of it, and the idle one.
pub(crate) const MOST_RUNS: usize = 5;

/// Something that happens. Numbers name clusters.
#[derive(Debug, Clone)]
pub(crate) enum StoryEvent {
    Reconcile,
    Sync(usize),
    /// Files of these kinds, in this order; see [`KINDS`].
    SyncPartly(usize, Vec<usize>),
    Fault(usize, ClusterFault),
    Mend(usize),
    Lose(usize, Index),
    Restore(usize),
    Declare(usize, DeclaredState),
    Pair(usize, usize),
}

/// Beginnings of file names. The last is all files.
const KINDS: [&str; 5] =
    ["configmap-isthmus-peers", "configmap-isthmus-mesh", "configmap-isthmus-routes", "secret-", ""];

/// Some kinds of files, in any order. All files are rarely among them.
pub(crate) fn some_kinds() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![20 => 0..KINDS.len() - 1, 1 => Just(KINDS.len() - 1)], 1..4)
}

pub(crate) fn event(lossy: bool) -> impl Strategy<Value = StoryEvent> {
    let cluster = || 0..NAMES.len();
    let losses = u32::from(lossy) * 2;
    prop_oneof![
            8 => Just(StoryEvent::Reconcile),
            6 => cluster().prop_map(StoryEvent::Sync),
    8 => (cluster(), some_kinds()).prop_map(|(c, kinds)| StoryEvent::SyncPartly(c, kinds)),
            2 => (cluster(), select(FAULTS.to_vec())).prop_map(|(c, fault)| StoryEvent::Fault(c, fault)),
            2 => cluster().prop_map(StoryEvent::Mend),
            losses => (cluster(), any::<Index>()).prop_map(|(c, pick)| StoryEvent::Lose(c, pick)),
            losses => cluster().prop_map(StoryEvent::Restore),
            3 => (cluster(), select(vec![DeclaredState::Active, DeclaredState::Active, DeclaredState::Paused, DeclaredState::Leaving]))
                .prop_map(|(c, state)| StoryEvent::Declare(c, state)),
            3 => (cluster(), cluster()).prop_map(|(a, b)| StoryEvent::Pair(a, b)),
        ]
}

pub(crate) fn some_pairs() -> impl Strategy<Value = Option<Vec<(usize, usize)>>> {
    prop::option::of(prop::collection::vec((0..NAMES.len(), 0..NAMES.len()), 0..8))
}

pub(crate) fn pairs_of(clusters: usize, pairs: &[(usize, usize)]) -> Pairs {
    let pair = |(a, b): &(usize, usize)| (NAMES[a % clusters], NAMES[b % clusters]);
    pairs.iter().map(pair).filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))).collect()
}

/// A world and what happened to it.
pub(crate) struct Story {
    pub(crate) world: MemoryMesh,
    lost: Vec<(&'static str, String, Vec<u8>)>,
    /// Nothing was lost so far.
    pub(crate) whole: bool,
    /// Leaving clusters that did not answer, and so were taken as gone: what they still read is not asked for.
    pub(crate) forsaken: BTreeSet<&'static str>,
}

impl Story {
    pub(crate) fn new(clusters: usize, joined: bool, pairs: Option<&[(usize, usize)]>, allow_delete: bool) -> Self {
        let pairs = pairs.map(|pairs| pairs_of(clusters, pairs));
        let mut world = if joined {
            MemoryMesh::joined(clusters, pairs)
        } else {
            let mut world = MemoryMesh::new(clusters);
            world.wish.pairs = pairs;
            world
        };
        world.allow_delete = allow_delete;
        Self { world, lost: Vec::new(), whole: true, forsaken: BTreeSet::new() }
    }

    pub(crate) fn name(&self, number: usize) -> &'static str {
        NAMES[number % self.world.live.len()]
    }

    pub(crate) fn happen(&mut self, event: &StoryEvent) -> Result<(), TestCaseError> {
        match event {
            StoryEvent::Reconcile => {
                self.reconcile()?;
            }
            StoryEvent::Sync(cluster) => {
                let cluster = self.name(*cluster);
                for file in self.world.behind(cluster) {
                    self.world.sync_file(cluster, &file);
                    self.check_live()?;
                }
                self.forsaken.remove(cluster);
            }
            StoryEvent::SyncPartly(cluster, kinds) => {
                let cluster = self.name(*cluster);
                for kind in kinds {
                    for file in self.world.behind(cluster).iter().filter(|file| file.starts_with(KINDS[*kind])) {
                        self.world.sync_file(cluster, file);
                        self.check_live()?;
                    }
                }
            }
            StoryEvent::Fault(cluster, fault) => {
                let cluster = self.name(*cluster);
                self.world.faults.insert(cluster, *fault);
            }
            StoryEvent::Mend(cluster) => {
                let cluster = self.name(*cluster);
                self.world.faults.remove(cluster);
            }
            StoryEvent::Lose(cluster, pick) => {
                let cluster = self.name(*cluster);
                let files: Vec<String> = self.world.live[cluster].keys().cloned().collect();
                if !files.is_empty() {
                    let file: &String = pick.get(&files);
                    let bytes = self.world.live[cluster][file.as_str()].clone();
                    self.world.put(cluster, file, None);
                    self.lost.push((cluster, file.clone(), bytes));
                    self.whole = false;
                }
            }
            StoryEvent::Restore(number) => {
                if !self.lost.is_empty() {
                    let (cluster, file, bytes) = self.lost.remove(number % self.lost.len());
                    self.world.put(cluster, &file, Some(bytes));
                }
            }
            StoryEvent::Declare(cluster, state) => {
                let cluster = self.name(*cluster);
                self.world.wish.clusters.insert(cluster, *state);
            }
            StoryEvent::Pair(one, other) => {
                let clusters = self.world.live.len();
                if let Some(pairs) = &mut self.world.wish.pairs {
                    for pair in pairs_of(clusters, &[(*one, *other)]) {
                        if !pairs.remove(&pair) {
                            pairs.insert(pair);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn reconcile(&mut self) -> Result<MeshRun, TestCaseError> {
        let (before, lock) = (self.secrets(), self.world.lock());
        let ran = self.world.reconcile();
        self.check_moves(&lock, &ran)?;
        for (reader, secrets) in self.secrets() {
            for peer in secrets.difference(&before[reader]) {
                let lacks = self.world.lacks(&ran.live, reader, peer);
                prop_assert!(lacks.is_empty(), "secret {reader}/{peer} was put into the tree without {lacks:?}");
                for end in [reader, peer.as_str()] {
                    prop_assert!(
                        ran.shown.contains(end),
                        "{end} did not show its evidence, and {reader}/{peer} joined"
                    );
                }
            }
        }
        for (cluster, state) in &self.world.wish.clusters {
            if *state == DeclaredState::Lost {
                self.forsaken.insert(cluster);
            }
        }
        Ok(ran)
    }

    /// Links move one stage a run; trust goes when both directions have closed.
    fn check_moves(&self, before: &Lock, ran: &MeshRun) -> Result<(), TestCaseError> {
        for (Link { reader, peer }, step) in &ran.plan.moves {
            use Stage::{Joined, Joining, Leaving, LeavingTrust};
            let may = match step.from {
                None => step.to == Some(Joining),
                Some(Joining) => matches!(step.to, Some(Joined | Leaving)),
                Some(Joined) => step.to == Some(Leaving),
                Some(Leaving) => matches!(step.to, Some(LeavingTrust | Joining)),
                Some(LeavingTrust) => matches!(step.to, None | Some(Joining)),
            };
            prop_assert!(may, "{reader}/{peer}: {step:?}");
            prop_assert_eq!(before.link(reader, peer).map(|link| link.stage), step.from);
            prop_assert_eq!(self.world.stage(reader.as_str(), peer.as_str()), step.to);
            let back = before.link(peer, reader).map(|link| link.stage);
            prop_assert!(step.to.is_some() || matches!(back, None | Some(LeavingTrust)), "{peer}/{reader} is {back:?}");
        }
        Ok(())
    }

    /// The secrets in the tree.
    fn secrets(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        let secrets = |name| {
            let mut files = self.world.rendered(name);
            files.retain(|file, _| file.starts_with("secret-"));
            Naive::read(&files).secrets
        };
        self.world.names().into_iter().map(|name| (name, secrets(name))).collect()
    }

    /// What the tree would do.
    pub(crate) fn rendered(&self) -> BTreeMap<&'static str, Naive> {
        self.world.names().into_iter().map(|name| (name, Naive::read(&self.world.rendered(name)))).collect()
    }

    /// The law: what is live is enough for every secret that is live.
    fn check_live(&self) -> Result<(), TestCaseError> {
        if !self.whole {
            return Ok(());
        }
        for (reader, naive) in self.world.naive.iter().filter(|(reader, _)| !self.forsaken.contains(*reader)) {
            // what is read of a cluster that is gone for good counts as closed
            for peer in naive.secrets.iter().filter(|peer| !self.forsaken.contains(peer.as_str())) {
                let lacks = self.world.lacks(&self.world.naive, reader, peer);
                prop_assert!(lacks.is_empty(), "secret {reader}/{peer} is live without {lacks:?}");
            }
        }
        Ok(())
    }

    /// All is well again and everybody syncs: the mesh becomes what the spec says, soon.
    pub(crate) fn end(mut self) -> Result<MemoryMesh, TestCaseError> {
        self.world.faults.clear();
        self.world.allow_delete = true;
        for state in self.world.wish.clusters.values_mut().filter(|state| **state == DeclaredState::Paused) {
            *state = DeclaredState::Active;
        }
        for round in 1.. {
            for cluster in 0..self.world.live.len() {
                self.happen(&StoryEvent::Sync(cluster))?;
            }
            let ran = self.reconcile()?;
            if ran.is_idle() {
                break;
            }
            let steps = ran.plan.steps.iter().map(|step| (step.id.to_string(), &step.state, &step.objects));
            let steps: Vec<_> = steps
                .filter(|(_, state, objects)| {
                    !objects.is_empty() || **state != isthmus::pipeline::plan::StepState::Ready
                })
                .collect();
            prop_assert!(round < MOST_RUNS, "run {round} is not idle: {steps:#?} {:?}", ran.plan.lock);
        }
        let world = self.world;
        for reader in world.names() {
            let links = |peer: &&&str| world.wish.links(reader, peer);
            let wanted: BTreeSet<String> = NAMES.iter().filter(links).map(|peer| (*peer).to_owned()).collect();
            prop_assert_eq!(&world.naive[reader].secrets, &wanted, "what {} reads", reader);
            prop_assert_eq!(world.naive[reader].roots.len(), wanted.len());
            prop_assert_eq!(world.naive[reader].admits.len(), wanted.len());
            for peer in &wanted {
                prop_assert_eq!(world.lacks(&world.naive, reader, peer), Vec::<&str>::new());
            }
            if world.wish.clusters[reader] == DeclaredState::Leaving {
                prop_assert_eq!(world.live[reader].len(), 0);
            }
        }
        Ok(world)
    }
}
