//! A fleet that is edited: walks over clusters, checkouts and `GitOps` tools through the whole pipeline.
//!
//! What is live is judged by what istiod, relay and api-proxy of each cluster would do ([`istiod`]), never by the engine's own
//! code. `ISTHMUS_WALKS` says how many walks of each seed, `ISTHMUS_SEED` where chance begins, `ISTHMUS_SEEDS` how many seeds; all cores
//! take part, each with a seed of its own. Without them half of the walks are always the same, and half are new.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test; it prints coverage and traces, for whoever looks"
)]

mod faults;
mod found;
mod istiod;
mod mesh;
mod site;
mod support;
mod walk;
mod wish;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

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
#[derive(Debug)]
struct Shortest {
    clusters: usize,
    is_joined: bool,
    argo: bool,
    steps: Vec<WalkStep>,
    why: String,
    /// How many walks were taken before it, and it.
    after: usize,
}

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

/// Takes random walks until one breaks a law.
fn walks(count: u32, seed: u64, met: &RefCell<Met>) -> Option<Shortest> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let shrinks = u32::try_from(number("ISTHMUS_SHRINK", 3_000)).unwrap();
    let config = Config { cases: count, failure_persistence: None, max_shrink_iters: shrinks, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let longest = usize::try_from(number("ISTHMUS_STEPS", 18)).unwrap();
    let steps = WalkTheme::any().prop_flat_map(move |theme| prop::collection::vec(theme.step(), 1..longest));
    let walks = (2..=3_usize, prop_oneof![3 => Just(true), 1 => Just(false)], any::<bool>(), steps);
    let after = Cell::new(None);
    let result = runner.run(&walks, |(clusters, is_joined, argo, steps)| {
        let (walk, taken) = walk(clusters, is_joined, argo, &steps, &without(), false);
        let (excuses, runs) = (walk.fleet.used.take(), [1, walk.runs.0, walk.runs.1]);
        met.borrow_mut().add(Met { coverage: walk.coverage, excuses, runs });
        taken.map_err(|broken| {
            after.set(after.get().or(Some(met.borrow().runs[0])));
            TestCaseError::fail(broken.to_string())
        })
    });
    match result {
        Ok(()) => None,
        Err(TestError::Fail(why, (clusters, is_joined, argo, steps))) => {
            let after = after.get().unwrap_or_default();
            Some(Shortest { clusters, is_joined, argo, steps, why: why.to_string(), after })
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
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
    let one = |seed: u64| {
        println!("{count} walks, ISTHMUS_SEED={seed}");
        let met = RefCell::default();
        if let Some(Shortest { clusters, is_joined, argo, steps, why, after }) = walks(count, seed, &met) {
            failed.fetch_add(1, Ordering::Relaxed);
            println!(
                "seed {seed} BROKEN after {after} walks: {why}\n  walk({clusters}, {is_joined}, {argo}, &{steps:?})"
            );
            let (_, _) = walk(clusters, is_joined, argo, &steps, &without(), true);
        }
        all.lock().unwrap().add(met.into_inner());
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
    assert_eq!(failed.into_inner(), 0, "seeds with a broken law");
}
