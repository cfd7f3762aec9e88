//! What happens to a fleet, in random order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;

use super::mesh::{Broken, Flags, Fleet, Outcome};
use super::site::{HAPPENINGS, Happening, Site, TROUBLES, Trouble};
use super::wish::{CLUSTER_FIELDS, Edit, MESH_FIELDS};
use crate::support::naive::Files;

/// Something that happens. Numbers name clusters, files and commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Edit(Edit),
    /// The specs become what they were so many commits ago.
    Revert(usize),
    Run(Flags),
    Sync(usize),
    /// Files of these kinds, in this order.
    SyncPartly(usize, Vec<usize>),
    /// Whoever installs Istio there takes the values of the tree.
    Install(usize),
    SyncAll,
    Trouble(usize, Trouble),
    Mend(usize),
    Happen(usize, Happening),
    /// So many hours.
    Pass(u8),
    LoseLock(usize),
    LoseWholeLock,
    /// A file of the lock as it was so many commits ago.
    OldLock(usize, usize),
    /// Files of the lock of now and of then, by bit.
    MergedLock(u8, usize),
    LoseRendered(usize, usize),
    /// Another engine takes a run on an older commit, and its checkout becomes ours.
    OtherEngine(usize, Flags),
}

/// Beginnings of file names. The last is all files.
const KINDS: [&str; 6] =
    ["configmap-isthmus-peers", "configmap-isthmus-mesh", "configmap-isthmus-routes", "secret-", "clusterrole", ""];

impl Step {
    /// What it is called in the table of what was covered.
    fn kind(&self) -> String {
        match self {
            Self::Edit(Edit::Cluster(_, field, _) | Edit::Mesh(field, _)) => (*field).to_owned(),
            Self::Edit(edit) => format!("{edit:?}").split('(').next().unwrap_or_default().to_owned(),
            Self::Trouble(_, Trouble::Half(_)) => "Half".to_owned(),
            Self::Trouble(_, trouble) => format!("{trouble:?}"),
            Self::Happen(_, happening) => format!("{happening:?}"),
            Self::Run(flags) => flags_kind("Run", *flags),
            other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        }
    }
}

fn flags_kind(what: &str, flags: Flags) -> String {
    let flag = |is, text: &str| if is { format!(" {text}") } else { String::new() };
    format!(
        "{what}{}{}{}{}",
        flag(flags.locked, "locked"),
        flag(flags.accept, "accept"),
        flag(flags.allow_delete, "delete"),
        flag(flags.only.is_some(), "cluster")
    )
}

/// Files of the lock are lost or become older ones, by a merge that nobody looked at.
fn lose(fleet: &mut Fleet, step: &Step) {
    let files: Vec<String> = fleet.lock_files().into_keys().collect();
    let then = |back: usize| fleet.earlier(back).checkout.clone();
    let one = |pick: usize| files.get(pick % files.len().max(1)).cloned();
    let (gone, old): (Vec<String>, Files) = match step {
        Step::LoseLock(pick) => (one(*pick).into_iter().collect(), Files::new()),
        Step::LoseWholeLock => (files, Files::new()),
        Step::OldLock(pick, back) => (one(*pick).into_iter().collect(), then(*back)),
        Step::MergedLock(bits, back) => {
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

fn flags() -> impl Strategy<Value = Flags> {
    let weighted = |one: u32| prop_oneof![9 => Just(false), one => Just(true)];
    (weighted(3), weighted(1), weighted(4), prop_oneof![9 => Just(None), 1 => (0..4_usize).prop_map(Some)])
        .prop_map(|(allow_delete, locked, accept, only)| Flags { allow_delete, locked, accept, only })
}

fn edit() -> impl Strategy<Value = Edit> {
    let cluster = || 0..4_usize;
    prop_oneof![
        14 => (cluster(), select(CLUSTER_FIELDS.to_vec()), 0..6_usize).prop_map(|(c, f, n)| Edit::Cluster(c, f, n)),
        3 => (cluster(), 0..4_usize).prop_map(|(c, n)| Edit::Cluster(c, "state", n)),
        3 => (select(MESH_FIELDS.to_vec()), 0..3_usize).prop_map(|(f, n)| Edit::Mesh(f, n)),
        2 => (cluster(), cluster()).prop_map(|(a, b)| Edit::Pair(a, b)),
        1 => Just(Edit::Full),
        1 => (0..4_u8).prop_map(Edit::EngineKeys),
        1 => cluster().prop_map(Edit::Document),
    ]
}

fn some_kinds() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![20 => 0..KINDS.len() - 1, 1 => Just(KINDS.len() - 1)], 1..4)
}

/// Any step.
pub(crate) fn step() -> impl Strategy<Value = Step> {
    let cluster = || 0..4_usize;
    let trouble = prop_oneof![
        3 => select(TROUBLES.to_vec()),
        1 => any::<u8>().prop_map(|bits| Trouble::Half(bits & 0x7f)),
    ];
    prop_oneof![
        16 => edit().prop_map(Step::Edit),
        2 => (0..6_usize).prop_map(Step::Revert),
        12 => flags().prop_map(Step::Run),
        5 => cluster().prop_map(Step::Sync),
        4 => (cluster(), some_kinds()).prop_map(|(c, kinds)| Step::SyncPartly(c, kinds)),
        2 => cluster().prop_map(Step::Install),
        3 => Just(Step::SyncAll),
        3 => (cluster(), trouble).prop_map(|(c, trouble)| Step::Trouble(c, trouble)),
        3 => cluster().prop_map(Step::Mend),
        3 => (cluster(), select(HAPPENINGS.to_vec())).prop_map(|(c, happening)| Step::Happen(c, happening)),
        1 => (1..40_u8).prop_map(Step::Pass),
        1 => (0..8_usize).prop_map(Step::LoseLock),
        1 => Just(Step::LoseWholeLock),
        1 => (0..8_usize, 1..6_usize).prop_map(|(file, back)| Step::OldLock(file, back)),
        1 => (any::<u8>(), 1..6_usize).prop_map(|(bits, back)| Step::MergedLock(bits, back)),
        1 => (cluster(), any::<usize>()).prop_map(|(c, file)| Step::LoseRendered(c, file)),
        1 => (1..6_usize, flags()).prop_map(|(back, flags)| Step::OtherEngine(back, flags)),
    ]
}

/// How often an event followed an edit in a walk.
pub(crate) type Coverage = BTreeMap<String, BTreeMap<String, usize>>;

/// A fleet and the edits that were made.
pub(crate) struct Walk {
    pub(crate) fleet: Fleet,
    without: BTreeSet<String>,
    edits: Vec<String>,
    pub(crate) coverage: Coverage,
    /// Runs, and how many of them were refused.
    pub(crate) runs: (usize, usize),
}

impl Walk {
    pub(crate) fn new(fleet: Fleet, without: &[&str]) -> Self {
        let without = without.iter().map(|kind| (*kind).to_owned()).collect();
        Self { fleet, without, edits: Vec::new(), coverage: Coverage::new(), runs: (0, 0) }
    }

    fn count(&mut self, event: &str) {
        for edit in &self.edits {
            *self.coverage.entry(edit.clone()).or_default().entry(event.to_owned()).or_default() += 1;
        }
    }

    /// The step happens, unless it is of a kind that is left out.
    pub(crate) fn take(&mut self, step: &Step) -> Result<(), Broken> {
        if self.without.contains(&step.kind()) {
            return Ok(());
        }
        if self.fleet.tells {
            println!("{step:?}");
        }
        if !matches!(step, Step::Edit(_)) {
            self.count(&step.kind());
        }
        let fleet = &mut self.fleet;
        match step {
            Step::Edit(edit) => {
                let sites: Vec<Site> = fleet.sites.values().cloned().collect();
                let sites: Vec<&Site> = sites.iter().collect();
                if let Some(what) = fleet.wish.edit(*edit, &sites) {
                    fleet.commit();
                    self.edits.push(what);
                }
            }
            Step::Revert(back) => fleet.wish = fleet.earlier(*back).wish.clone(),
            Step::Run(flags) => {
                self.runs.0 += 1;
                if let Outcome::Refused(_) = fleet.run(*flags)? {
                    // what is not taken is taken back, lest the rest of the walk be one refusal
                    self.runs.1 += 1;
                    fleet.take_back();
                }
            }
            Step::Sync(cluster) => {
                let cluster = fleet.name(*cluster);
                fleet.sync(cluster)?;
            }
            Step::SyncPartly(cluster, kinds) => {
                let cluster = fleet.name(*cluster);
                for kind in kinds {
                    for file in fleet.behind(cluster).iter().filter(|file| file.starts_with(KINDS[*kind])) {
                        fleet.sync_file(cluster, file)?;
                    }
                }
            }
            Step::Install(cluster) => {
                let cluster = fleet.name(*cluster);
                fleet.install(cluster)?;
            }
            Step::SyncAll => fleet.sync_all()?,
            Step::Trouble(cluster, trouble) => {
                let cluster = fleet.name(*cluster);
                fleet.sites.get_mut(cluster).unwrap().trouble = Some(*trouble);
            }
            Step::Mend(cluster) => {
                let cluster = fleet.name(*cluster);
                fleet.sites.get_mut(cluster).unwrap().trouble = None;
            }
            Step::Happen(cluster, happening) => {
                let cluster = fleet.name(*cluster);
                fleet.happen(cluster, *happening);
            }
            Step::Pass(hours) => fleet.now += i64::from(*hours) * 3600,
            Step::LoseLock(_) | Step::LoseWholeLock | Step::OldLock(..) | Step::MergedLock(..) => {
                lose(fleet, step);
            }
            Step::LoseRendered(cluster, pick) => {
                let cluster = fleet.name(*cluster);
                let files: Vec<String> = fleet.folder(cluster).into_keys().collect();
                if !files.is_empty() {
                    let path = format!("rendered/{cluster}/{}", files[pick % files.len()]);
                    fleet.change_tree(|files| {
                        files.remove(&path);
                    });
                }
            }
            Step::OtherEngine(back, flags) => {
                fleet.check_out(fleet.earlier(*back).clone());
                fleet.run(*flags)?;
            }
        }
        Ok(())
    }

    /// Whether the fleet comes to rest.
    pub(crate) fn end(&mut self) -> Result<(), Broken> {
        self.fleet.calm()
    }
}
