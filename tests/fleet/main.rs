//! A fleet that is edited: walks over clusters, checkouts and `GitOps` tools through the whole pipeline.
//!
//! What is live is judged by what istiod, relay and api-proxy of each cluster would do ([`istiod`]), never by the engine's own
//! code. `ISTHMUS_WALKS` says how many walks of each seed, `ISTHMUS_SEED` where chance begins, `ISTHMUS_SEEDS` how many seeds; all cores
//! take part, each with a seed of its own. A seed ends with the first broken law, or with the one that `ISTHMUS_BROKEN` says. Without these
//! variables half of the walks are always the same, and half are new. `ISTHMUS_WIDE` and `ISTHMUS_AGENTS` add themes in which walks still
//! break without a fault (`WalkTheme`).
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test; it prints coverage and traces, for whoever looks"
)]

mod agents;
mod faults;
mod file;
mod found;
mod found_agents;
mod istiod;
mod mesh;
mod others;
mod site;
mod support;
mod walk;
mod wish;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::mesh::{FleetMesh, Law, Why};
use self::walk::{Coverage, Walk, WalkStep, WalkTheme};

/// A quarter of a walk is spent on memory.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Walks in an ordinary run of the tests.
const WALKS: u32 = 500;

thread_local! {
    static JOINED: RefCell<BTreeMap<(usize, bool), FleetMesh>> = RefCell::default();
}

/// A fleet that is joined, made once.
fn joined(clusters: usize, argo: bool) -> FleetMesh {
    JOINED.with_borrow_mut(|joined| {
        joined.entry((clusters, argo)).or_insert_with(|| FleetMesh::joined(clusters, argo)).clone()
    })
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().unwrap())
}

/// Kinds of steps that walks leave out, as `ISTHMUS_WITHOUT` names them.
fn without() -> Vec<&'static str> {
    static WITHOUT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let text = WITHOUT.get_or_init(|| std::env::var("ISTHMUS_WITHOUT").unwrap_or_default());
    text.split(',').collect()
}

/// Takes a walk to its end.
pub(crate) fn walk(
    clusters: usize,
    is_joined: bool,
    argo: bool,
    steps: &[WalkStep],
    without: &[&str],
    prints: bool,
) -> (Walk, Result<(), mesh::Broken>) {
    let mut fleet = if is_joined { joined(clusters, argo) } else { FleetMesh::new(clusters, argo) };
    fleet.prints = prints;
    let mut walk = Walk::new(fleet, without);
    let taken = steps.iter().try_for_each(|step| walk.take(step)).and_then(|()| walk.end());
    (walk, taken)
}

/// A walk from a joined fleet or from none, that is as short as it gets.
struct Shortest {
    walk: RandomWalk,
    why: String,
    /// How many walks were taken before it, and it.
    after: u32,
}

/// How many clusters, whether they are joined, whether whole folders are synced, and what happens.
type RandomWalk = (usize, bool, bool, Vec<WalkStep>);

/// What walks met.
#[derive(Default)]
struct Met {
    coverage: Coverage,
    /// How often a law would have been broken, but for what.
    excuses: BTreeMap<(Law, Why), usize>,
    /// Walks, their runs, and how many of these were refused.
    runs: [usize; 3],
}

impl Met {
    fn add(&mut self, more: Self) {
        for (edit, events) in more.coverage {
            let of_edit = self.coverage.entry(edit).or_default();
            for (event, count) in events {
                *of_edit.entry(event).or_default() += count;
            }
        }
        for (excuse, count) in more.excuses {
            *self.excuses.entry(excuse).or_default() += count;
        }
        self.runs.iter_mut().zip(more.runs).for_each(|(all, one)| *all += one);
    }

    fn print(&self) {
        println!("edit × event, how often the event came after the edit in a walk:");
        for (edit, events) in &self.coverage {
            let events: Vec<String> = events.iter().map(|(event, count)| format!("{event} {count}")).collect();
            println!("  {edit}: {}", events.join(", "));
        }
        println!("law × excuse, how often a lack was no one's fault:");
        for ((law, why), count) in &self.excuses {
            println!("  {law:?} by {why:?}: {count}");
        }
        let [walks, runs, refused] = self.runs;
        println!("{walks} walks, {runs} runs, of which {refused} were refused");
    }
}

/// Takes random walks, until so many have broken a law; each of these is reported as short as it gets.
fn walks(count: u32, seed: u64, most: u64, met: &mut Met, report: &dyn Fn(Shortest)) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let longest = usize::try_from(number("ISTHMUS_STEPS", 18)).unwrap();
    let steps = WalkTheme::any().prop_flat_map(move |theme| prop::collection::vec(theme.step(), 1..longest));
    let walks = (2..=3_usize, prop_oneof![3 => Just(true), 1 => Just(false)], any::<bool>(), steps);
    let mut broken = 0;
    for after in 1..=count {
        let mut tree = walks.new_tree(&mut runner).unwrap();
        let Some(why) = take(tree.current(), Some(met)) else { continue };
        let (walk, why) = shorten(&mut tree, why);
        report(Shortest { walk, why, after });
        broken += 1;
        if broken >= most {
            break;
        }
    }
}

/// Takes a walk; why it broke a law, or panicked.
fn take((clusters, is_joined, argo, steps): RandomWalk, met: Option<&mut Met>) -> Option<String> {
    let taken = std::panic::catch_unwind(|| walk(clusters, is_joined, argo, &steps, &without(), false));
    let Ok((walk, taken)) = taken else { return Some("Panicked".to_owned()) };
    if let Some(met) = met {
        let (excuses, runs) = (walk.fleet.used.take(), [1, walk.runs.0, walk.runs.1]);
        met.add(Met { coverage: walk.coverage, excuses, runs });
    }
    taken.err().map(|broken| broken.to_string())
}

/// The shortest walk that a law is broken by, and why.
fn shorten(tree: &mut impl ValueTree<Value = RandomWalk>, why: String) -> (RandomWalk, String) {
    let mut shortest = (tree.current(), why);
    let mut is_smaller = tree.simplify();
    for _ in 0..number("ISTHMUS_SHRINK", 3_000) {
        if !is_smaller {
            break;
        }
        is_smaller = match take(tree.current(), None) {
            Some(why) => {
                shortest = (tree.current(), why);
                tree.simplify()
            }
            None => tree.complicate(),
        };
    }
    shortest
}

#[test]
fn an_edited_fleet_keeps_the_law() {
    let chance = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let count = |usual| u32::try_from(number("ISTHMUS_WALKS", u64::from(usual))).unwrap();
    let (first, seeds) = (number("ISTHMUS_SEED", chance), number("ISTHMUS_SEEDS", 1));
    // half of what runs on every machine is the same everywhere; the other half no one took before
    let is_usual =
        ["ISTHMUS_WALKS", "ISTHMUS_SEED", "ISTHMUS_SEEDS"].iter().all(|name| std::env::var_os(name).is_none());
    let (count, all_seeds) =
        if is_usual { (WALKS / 2, vec![13, chance]) } else { (count(WALKS), (first..first + seeds).collect()) };
    let (all, failed, next) = (Mutex::new(Met::default()), AtomicU64::new(0), AtomicUsize::new(0));
    let most = number("ISTHMUS_BROKEN", 1);
    let one = |seed: u64| {
        println!("{count} walks, ISTHMUS_SEED={seed}");
        let mut met = Met::default();
        walks(count, seed, most, &mut met, &|Shortest { walk: (clusters, is_joined, argo, steps), why, after }| {
            failed.fetch_add(1, Ordering::Relaxed);
            println!(
                "seed {seed} BROKEN after {after} walks: {why}\n  walk({clusters}, {is_joined}, {argo}, &{steps:?})"
            );
            let (_, _) = walk(clusters, is_joined, argo, &steps, &without(), true);
        });
        all.lock().unwrap().add(met);
    };
    let work = || {
        // what a run does in parallel stays in this thread: clusters are few, and walks many
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        while let Some(seed) = all_seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            alone.install(|| one(*seed));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    all.into_inner().unwrap().print();
    assert_eq!(failed.into_inner(), 0, "walks that broke a law");
}
