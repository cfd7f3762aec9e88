//! A fleet that is edited: walks over clusters, checkouts and `GitOps` tools through the whole pipeline.
//!
//! What is live is judged by what istiod, relay and api-proxy of each cluster would do ([`istiod`]), never by the engine's own
//! code. `ISTHMUS_WALKS` says how many walks of each seed, `ISTHMUS_SEED` where chance begins, `ISTHMUS_SEEDS` how many seeds; all cores
//! take part.
#![allow(clippy::print_stdout, reason = "coverage and traces, for whoever looks")]

mod found;
mod istiod;
mod mesh;
mod site;
mod walk;
mod wish;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::mesh::FleetMesh;
use self::walk::{Coverage, Walk, WalkStep, step};

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
}

/// Takes random walks until one breaks a law. `runs` counts walks, their runs, and how many of these were refused.
fn walks(count: u32, seed: u64, coverage: &RefCell<Coverage>, runs: &Cell<[usize; 3]>) -> Option<Shortest> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: count, failure_persistence: None, max_shrink_iters: 3_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let longest = usize::try_from(number("ISTHMUS_STEPS", 18)).unwrap();
    let steps = prop::collection::vec(step(), 1..longest);
    let walks = (2..=3_usize, prop_oneof![3 => Just(true), 1 => Just(false)], any::<bool>(), steps);
    let result = runner.run(&walks, |(clusters, is_joined, argo, steps)| {
        let (walk, taken) = walk(clusters, is_joined, argo, &steps, &without(), false);
        let [walks, all, refused] = runs.get();
        runs.set([walks + 1, all + walk.runs.0, refused + walk.runs.1]);
        add(&mut coverage.borrow_mut(), walk.coverage);
        taken.map_err(|broken| TestCaseError::fail(broken.to_string()))
    });
    match result {
        Ok(()) => None,
        Err(TestError::Fail(why, (clusters, is_joined, argo, steps))) => {
            Some(Shortest { clusters, is_joined, argo, steps, why: why.to_string() })
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

#[test]
fn an_edited_fleet_keeps_the_law() {
    let count = u32::try_from(number("ISTHMUS_WALKS", u64::from(WALKS))).unwrap();
    let chance = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // what runs on every machine is the same everywhere; who asks for more gets walks that no one took before
    let first = number("ISTHMUS_SEED", if count > WALKS { chance } else { 13 });
    let seeds = number("ISTHMUS_SEEDS", 1);
    let next = AtomicU64::new(first);
    let (all, failed) = (Mutex::new((Coverage::new(), [0; 3])), AtomicU64::new(0));
    let one = |seed: u64| {
        println!("{count} walks, ISTHMUS_SEED={seed}");
        let (coverage, runs) = (RefCell::default(), Cell::new([0; 3]));
        if let Some(Shortest { clusters, is_joined, argo, steps, why }) = walks(count, seed, &coverage, &runs) {
            failed.fetch_add(1, Ordering::Relaxed);
            println!("seed {seed} BROKEN {why}\n  walk({clusters}, {is_joined}, {argo}, &{steps:?})");
            let (_, _) = walk(clusters, is_joined, argo, &steps, &without(), true);
        }
        let mut all = all.lock().unwrap();
        add(&mut all.0, coverage.into_inner());
        all.1.iter_mut().zip(runs.get()).for_each(|(all, one)| *all += one);
    };
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < first + seeds) {
            one(seed);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let (coverage, [walks, runs, refused]) = all.into_inner().unwrap();
    print_coverage(&coverage);
    println!("{walks} walks, {runs} runs, of which {refused} were refused");
    assert_eq!(failed.into_inner(), 0, "seeds with a broken law");
}

fn add(all: &mut Coverage, more: Coverage) {
    for (edit, events) in more {
        let of_edit = all.entry(edit).or_default();
        for (event, count) in events {
            *of_edit.entry(event).or_default() += count;
        }
    }
}

fn print_coverage(coverage: &Coverage) {
    println!("edit × event, how often the event came after the edit in a walk:");
    for (edit, events) in coverage {
        let events: Vec<String> = events.iter().map(|(event, count)| format!("{event} {count}")).collect();
        println!("  {edit}: {}", events.join(", "));
    }
}
