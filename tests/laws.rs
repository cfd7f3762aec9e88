//! Laws of runs, over simulated clusters that sync in any order, partly, late or never, and lose objects.
//!
//! What is live is judged by a naive reader of the files that were synced, never by the engine's own code.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::model::lock::Stage;
use isthmus::model::needs::{NeedRow, NeedScope};
use isthmus::pipeline::plan::Action;
use isthmus::pipeline::{FactSource, Request, Until};
use isthmus::types::step::{StepId, StepKind};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support::law::cases;
use crate::support::road;
use crate::support::story::{MOST_RUNS, Story, StoryEvent, event, pairs_of, some_kinds, some_pairs};
use crate::support::world::{ClusterFault, DeclaredState, FAULTS, MemoryMesh, MeshRun, NAMES, Pairs, name};
use isthmus::types::time::Timestamp;

proptest! {
    #![proptest_config(cases(64))]

    /// Also: no run puts a secret into the tree without evidence, and the mesh converges.
    #[test]
    fn no_secret_is_ever_live_without_all_that_it_needs(
        clusters in 2..=4_usize, joined: bool, pairs in some_pairs(), allow_delete: bool,
        events in prop::collection::vec(event(false), 1..24),
    ) {
        let mut story = Story::new(clusters, joined, pairs.as_deref(), allow_delete);
        for event in &events {
            story.happen(event)?;
        }
        story.end()?;
    }

    #[test]
    fn no_secret_joins_without_evidence_and_the_mesh_converges_though_clusters_lose_and_restore_objects(
        clusters in 2..=4_usize, joined: bool, pairs in some_pairs(), allow_delete: bool,
        events in prop::collection::vec(event(true), 1..24),
    ) {
        let mut story = Story::new(clusters, joined, pairs.as_deref(), allow_delete);
        for event in &events {
            story.happen(event)?;
        }
        story.end()?;
    }
}

/// Where each step stands in the plan.
fn places(ran: &MeshRun) -> BTreeMap<String, usize> {
    ran.plan.steps.iter().enumerate().map(|(at, step)| (step.id.to_string(), at)).collect()
}

/// What stands before what, by the design's table of steps.
fn needed(world: &MemoryMesh) -> Vec<(String, String)> {
    let mut edges = Vec::new();
    for reader in world.names() {
        let own =
            [("render-components", "fetch-ca"), ("fetch-ca", "discover-proxy"), ("exchange-keys", "discover-proxy")];
        edges.extend(own.map(|(first, then)| (format!("{first}/{reader}"), format!("{then}/{reader}"))));
        for peer in world.names().into_iter().filter(|peer| world.wish.links(reader, peer)) {
            let of_peer = [
                ("fetch-ca", "render-trust"),
                ("fetch-ca", "exchange-keys"),
                ("discover-proxy", "render-networks"),
                ("discover-proxy", "render-routes"),
            ];
            edges.extend(of_peer.map(|(first, then)| (format!("{first}/{peer}"), format!("{then}/{reader}"))));
            let secret = format!("render-secret/{reader}/{peer}");
            let at_reader = ["discover-proxy", "render-trust", "render-networks", "render-routes"];
            edges.extend(at_reader.map(|kind| (format!("{kind}/{reader}"), secret.clone())));
            let at_peer = ["discover-proxy", "render-trust", "exchange-keys"];
            edges.extend(at_peer.map(|kind| (format!("{kind}/{peer}"), secret.clone())));
        }
    }
    edges
}

/// Files that a locked run would change, the lock's among them.
fn locked_changes(world: &MemoryMesh) -> Vec<String> {
    let program = world.load();
    let plan = road::take(
        &program,
        &Request::default(),
        FactSource::Locked,
        Until::Planned,
        &world.checkout,
        Timestamp::EPOCH,
    )
    .plan;
    let objects = plan.steps.into_iter().flat_map(|step| step.objects).map(|object| object.path);
    objects.chain(plan.lock.into_iter().chain(plan.extra).map(|file| file.path)).collect()
}

/// Events, and a world that they happened to.
fn after(clusters: usize, pairs: Option<&[(usize, usize)]>, events: &[StoryEvent]) -> Result<Story, TestCaseError> {
    let mut story = Story::new(clusters, false, pairs, true);
    for event in events {
        story.happen(event)?;
    }
    Ok(story)
}

proptest! {
    #![proptest_config(cases(24))]

    /// What moves without a sync is a link on its way out whose objects were never synced, or one that comes back while
    /// they are still live; each such link moves at most three times.
    #[test]
    fn after_an_apply_a_plan_is_empty(
        clusters in 2..=4_usize, pairs in some_pairs(), events in prop::collection::vec(event(false), 0..16),
    ) {
        let mut story = after(clusters, pairs.as_deref(), &events)?;
        for repeated in 0.. {
            let ran = story.reconcile()?;
            prop_assert_eq!(locked_changes(&story.world), Vec::<String>::new());
            if !ran.plan.changes_files() {
                break;
            }
            let comes_or_goes = |link: &isthmus::pipeline::advance::Move| {
                link.from.is_some_and(Stage::is_leaving) || link.to.is_none_or(|stage| stage != Stage::Joining)
            };
            prop_assert!(repeated == 0 || ran.plan.moves.values().all(comes_or_goes), "{:?}", ran.plan.moves);
            prop_assert!(repeated == 0 || !ran.plan.moves.is_empty(), "nothing moved and files changed: {:#?}", ran.plan.steps);
            prop_assert!(repeated < 4, "{:?}", ran.plan.moves);
        }
    }

    #[test]
    fn after_an_apply_a_plan_is_empty_while_clusters_only_join(
        clusters in 2..=4_usize,
        events in prop::collection::vec(
            event(false).prop_filter("joins only", |event| {
                !matches!(event, StoryEvent::Declare(_, DeclaredState::Leaving) | StoryEvent::Pair(..))
            }),
            0..16,
        ),
    ) {
        let mut story = after(clusters, None, &events)?;
        story.reconcile()?;
        let lock = story.world.lock();
        let again = story.reconcile()?;
        prop_assert!(!again.plan.changes_files(), "{:#?}", again.plan.steps);
        prop_assert_eq!(story.world.lock(), lock);
    }

    #[test]
    fn the_order_of_steps_respects_what_each_needs(
        clusters in 2..=4_usize, pairs in some_pairs(), events in prop::collection::vec(event(false), 0..10),
    ) {
        let mut story = after(clusters, pairs.as_deref(), &events)?;
        let ran = story.reconcile()?;
        let places = places(&ran);
        prop_assert_eq!(places.len(), ran.plan.steps.len(), "no step stands twice");
        let graph = isthmus::pipeline::plan::graph::Graph::build(&story.world.load().mesh, &ran.decided.advanced.lock, None).unwrap();
        for (before, after) in graph.edges() {
            prop_assert!(places[&before.to_string()] < places[&after.to_string()], "{before} before {after}");
            prop_assert!(NeedRow::of(before.kind).wave <= NeedRow::of(after.kind).wave, "{after} is synced before {before}");
        }
        for secret in graph.order().filter(|step| step.kind == StepKind::RenderSecret) {
            for need in NeedRow::of(StepKind::RenderSecret).needs {
                let cluster = if need.of == NeedScope::Own { Some(&secret.cluster) } else { secret.peer.as_ref() };
                let needed = StepId::of(need.step, cluster.unwrap());
                let place = places.get(&needed.to_string());
                prop_assert!(place.is_some_and(|place| *place < places[&secret.to_string()]), "{needed} before {secret}");
            }
        }
        for (before, after) in needed(&story.world) {
            prop_assert!(places[&before] < places[&after], "{before} before {after}");
        }
    }

    /// The tree of the cases is torn, so that there is something to plan.
    #[test]
    fn a_locked_plan_is_a_function_of_spec_lock_and_tree(
        clusters in 2..=4_usize, pairs in some_pairs(), events in prop::collection::vec(event(false), 1..12),
        torn in prop::collection::vec(any::<Index>(), 0..6), faults in prop::collection::vec(select(FAULTS.to_vec()), 4),
    ) {
        let mut story = after(clusters, pairs.as_deref(), &events)?;
        let world = &mut story.world;
        for pick in torn {
            let paths: Vec<String> = world.checkout.keys().filter(|path| path.starts_with("rendered/")).cloned().collect();
            if !paths.is_empty() {
                world.checkout.remove(pick.get(&paths).as_str());
            }
        }
        let program = world.load();
        let plan_of = |world: &MemoryMesh, program: &isthmus::pipeline::Program| {
            let (run, files) = road::written(program, &Request::default(), FactSource::Locked, &world.checkout, Timestamp::EPOCH);
            let plan = run.plan;
            (format!("{:?}", plan.steps), plan.lock, plan.extra, files)
        };
        let first = plan_of(world, &program);
        prop_assert!(first.1.is_empty(), "a locked run changes no lock");
        prop_assert!(first == plan_of(world, &program), "the same run twice");
        for (name, fault) in world.names().into_iter().zip(faults) {
            world.faults.insert(name, fault);
        }
        let observed = world.observe(&program);
        let request = Request { approvals: world.approvals.clone(), allow_delete: true, ..Request::default() };
        road::take(&program, &request, FactSource::Stored(observed), Until::Planned, &world.checkout, Timestamp::EPOCH);
        prop_assert!(first == plan_of(world, &program), "after something was observed");
        prop_assert!(first == plan_of(world, &world.load()), "loaded again");
    }

    #[test]
    fn a_failing_cluster_never_removes_or_empties_anything(
        clusters in 2..=4_usize, pairs in some_pairs(), before in 0..4_usize,
        runs in prop::collection::vec((prop::collection::vec(prop::option::of(select(FAULTS.to_vec())), 4), any::<u8>()), 1..8),
    ) {
        let mut story = Story::new(clusters, false, pairs.as_deref(), true);
        for _ in 0..before {
            story.reconcile()?;
            story.world.sync_all();
        }
        for (faults, synced) in runs {
            let old = story.rendered();
            for (at, (name, fault)) in story.world.names().into_iter().zip(faults).enumerate() {
                story.world.faults.remove(name);
                story.world.faults.extend(fault.map(|fault| (name, fault)));
                if synced & (1 << at) != 0 {
                    story.world.sync(name);
                }
            }
            let ran = story.reconcile()?;
            for change in ran.plan.steps.iter().flat_map(|step| &step.objects) {
                prop_assert_ne!(change.action, Action::Delete, "{}", change.path);
            }
            prop_assert!(ran.plan.lock.iter().all(|file| file.action != Action::Delete));
            let new = story.rendered();
            for (cluster, old) in old {
                let new = &new[cluster];
                prop_assert!(old.roots.is_subset(&new.roots), "roots in {cluster}");
                prop_assert!(old.routes.is_subset(&new.routes), "routes in {cluster}");
                prop_assert!(old.secrets.is_subset(&new.secrets), "secrets in {cluster}");
                prop_assert!(old.engine.is_subset(&new.engine), "the engine's keys in {cluster}");
                prop_assert!(old.networks.iter().all(|(name, gateways)| new.networks.get(name) == Some(gateways)), "networks in {cluster}");
                prop_assert!(old.admits.iter().all(|(uuid, keys)| new.admits.get(uuid) == Some(keys)), "admissions in {cluster}");
            }
        }
    }

    #[test]
    fn a_permuted_spec_gives_the_same_plan_and_the_same_bytes(
        clusters in 2..=4_usize, pairs in some_pairs(), events in prop::collection::vec(event(false), 0..8),
        order in prop::collection::vec((any::<u32>(), 0..3_usize), 5), turned_pairs: bool,
    ) {
        let mut story = after(clusters, pairs.as_deref(), &events)?;
        let world = &mut story.world;
        let mut documents: Vec<_> = world.wish.documents().into_iter().zip(order).collect();
        if turned_pairs && let Some(pairs) = &mut world.wish.pairs {
            *pairs = pairs.iter().map(|(a, b)| (*b, *a)).collect();
            documents[0].0 = world.wish.documents().remove(0);
        }
        documents.sort_by_key(|(_, (at, _))| *at);
        let mut files: Vec<(String, Vec<String>)> = Vec::new();
        for (text, (_, file)) in documents {
            let path = format!("specs/{}.yaml", ["zoo", "mesh", "a/b"][file]);
            match files.iter_mut().find(|(known, _)| *known == path) {
                Some((_, documents)) => documents.push(text),
                None => files.push((path, vec![text])),
            }
        }
        let program = world.load();
        let permuted = isthmus::pipeline::Program::load(&world.input_of(&files), &|_| None).unwrap();
        let observed = world.observe(&program);
        let checkout = world.checkout.clone();
        let one = world.reconcile_on(&program, &observed);
        let one_bytes = std::mem::replace(&mut world.checkout, checkout);
        let other = world.reconcile_on(&permuted, &observed);
        prop_assert_eq!(format!("{:?}", one.plan), format!("{:?}", other.plan));
        prop_assert!(one_bytes == world.checkout, "the same bytes");
    }

    #[test]
    fn leaving_removes_exactly_what_came_with_the_cluster_secrets_before_networks_before_trust(
        clusters in 2..=4_usize, pairs in some_pairs(), leaver in 0..4_usize, dead: bool,
        order in prop::collection::vec((0..4_usize, some_kinds()), 0..24),
    ) {
        let leaver = NAMES[leaver % clusters];
        let pairs = pairs.map(|pairs| pairs_of(clusters, &pairs));
        let stay: Vec<_> = NAMES[..clusters].iter().copied().filter(|name| *name != leaver).collect();
        let without = {
            let mut world = MemoryMesh::of(&stay);
            world.wish.pairs = pairs.clone();
            if let Some(pairs) = &mut world.wish.pairs {
                pairs.retain(|(a, b)| *a != leaver && *b != leaver);
            }
            world.settle();
            world.checkout.clone()
        };
        let mut story = Story::new(clusters, false, None, false);
        story.world.wish.pairs = pairs;
        story.world.settle();
        story.world.wish.clusters.insert(leaver, if dead { DeclaredState::Lost } else { DeclaredState::Leaving });
        if dead {
            story.world.faults.insert(leaver, ClusterFault::Down);
            story.forsaken.insert(leaver);
        }
        for (cluster, kinds) in order {
            story.reconcile()?;
            check_order(&story, leaver, dead)?;
            story.happen(&StoryEvent::SyncPartly(cluster, kinds))?;
        }
        for round in 1.. {
            let ran = story.reconcile()?;
            check_order(&story, leaver, dead)?;
            let mut syncing = story.world.names().into_iter().filter(|name| !(dead && *name == leaver));
            if !ran.plan.changes_files() && syncing.all(|name| story.world.behind(name).is_empty()) {
                break;
            }
            prop_assert!(round < MOST_RUNS + 1, "{:#?}", ran.plan.steps);
            for cluster in 0..clusters {
                if !(dead && story.name(cluster) == leaver) {
                    story.happen(&StoryEvent::Sync(cluster))?;
                }
            }
        }
        let world = &mut story.world;
        prop_assert_eq!(world.folder(leaver).into_keys().collect::<Vec<_>>(), ["kustomization.yaml"]);
        world.wish.clusters.remove(leaver);
        if let Some(pairs) = &mut world.wish.pairs {
            pairs.retain(|(a, b)| *a != leaver && *b != leaver);
        }
        let ran = world.reconcile();
        prop_assert!(ran.plan.lock.is_empty());
        let (with, without) = (but_for_serials(&world.checkout), but_for_serials(&without));
        prop_assert_eq!(with.keys().collect::<Vec<_>>(), without.keys().collect::<Vec<_>>());
        for (path, text) in &with {
            prop_assert!(without.get(path) == Some(text), "{path} is as if {leaver} had never been there");
        }
    }

    #[test]
    fn what_happens_to_a_cluster_that_is_not_linked_with_a_reader_changes_nothing_of_that_reader(
        clusters in 3..=4_usize, pairs in prop::collection::vec((0..4_usize, 0..4_usize), 2..6),
        reader in 0..4_usize, other in 0..4_usize,
        events in prop::collection::vec((0..6_usize, select(FAULTS.to_vec()), any::<bool>()), 1..8),
    ) {
        let pairs = pairs_of(clusters, &pairs);
        let (reader, other) = (NAMES[reader % clusters], NAMES[other % clusters]);
        let linked = pairs.contains(&(reader, other)) || pairs.contains(&(other, reader));
        prop_assume!(reader != other && !linked);
        let mut world = MemoryMesh::joined(clusters, Some(pairs));
        world.allow_delete = true;
        let links = format!("lock/links/{reader}.yaml");
        let before = (world.folder(reader), world.checkout.get(&links).cloned());
        for (kind, fault, sync) in events {
            match kind {
                0 => { world.wish.clusters.insert(other, DeclaredState::Leaving); }
                1 => { world.wish.clusters.insert(other, DeclaredState::Paused); }
                2 => { world.wish.clusters.insert(other, DeclaredState::Active); }
                3 => { world.faults.insert(other, fault); }
                4 => { world.faults.remove(other); }
                _ => {
                    world.move_gateway(other, "198.51.100.9");
                    let third = NAMES[..clusters].iter().copied().find(|name| *name != reader && *name != other).unwrap();
                    let pair = (third.min(other), third.max(other));
                    let pairs = world.wish.pairs.as_mut().unwrap();
                    if !pairs.remove(&pair) {
                        pairs.insert(pair);
                    }
                }
            }
            world.reconcile();
            if sync {
                world.sync_all();
            }
            prop_assert!(before == (world.folder(reader), world.checkout.get(&links).cloned()), "{reader} and {other}");
        }
    }

    /// The deletion guard looks at the whole mesh and is off here: links that a failing peer holds up still count in it,
    /// so that it may hold more, never less.
    #[test]
    fn one_failing_peer_changes_no_link_of_others(
        clusters in 3..=4_usize, pairs in some_pairs(), victim in 0..4_usize, joined: bool,
        script in prop::collection::vec((
            prop::collection::vec(0..4_usize, 0..4), prop::option::of((0..4_usize, 0..4_usize)),
            prop::option::of(select(FAULTS.to_vec())),
        ), 1..8),
    ) {
        let victim = NAMES[victim % clusters];
        let run = |failing| links_of_others(clusters, joined, pairs.as_deref(), &script, (victim, failing));
        prop_assert_eq!(run(false)?, run(true)?);
    }

    #[test]
    fn a_paused_cluster_keeps_every_byte(
        clusters in 2..=4_usize, pairs in some_pairs(), paused in 0..4_usize, rounds in 0..4_usize,
        events in prop::collection::vec(event(true), 1..12), moved: bool,
    ) {
        let mut story = Story::new(clusters, false, pairs.as_deref(), true);
        for _ in 0..rounds {
            story.reconcile()?;
            story.world.sync_all();
        }
        let paused = NAMES[paused % clusters];
        story.world.wish.clusters.insert(paused, DeclaredState::Paused);
        let state = |story: &Story| {
            let lock = story.world.lock();
            let links = lock.links.iter().flat_map(|(reader, links)| links.iter().map(move |(peer, link)| (reader, peer, link)));
            let links = links.filter(|(reader, peer, _)| reader.as_str() == paused || peer.as_str() == paused);
            let links = links.map(|(reader, peer, link)| (reader.clone(), peer.clone(), link.clone())).collect::<Vec<_>>();
            (story.world.folder(paused), lock.clusters.get(&name(paused)).cloned(), links)
        };
        let before = state(&story);
        if moved {
            for name in story.world.names().into_iter().filter(|name| *name != paused) {
                story.world.move_gateway(name, "198.51.100.9");
            }
            story.whole = false;
        }
        for event in events {
            if !matches!(event, StoryEvent::Declare(cluster, _) if story.name(cluster) == paused) {
                story.happen(&event)?;
                prop_assert!(before == state(&story));
            }
        }
    }
}

/// What is synced, which pair is wished or no more, and how the victim fails, before each run.
type RunScript = Vec<(Vec<usize>, Option<(usize, usize)>, Option<ClusterFault>)>;

/// Stages by reader and peer.
type Stages = BTreeMap<(String, String), Stage>;

/// The stages of links between the others after each run of a script, in which the victim fails or does not.
fn links_of_others(
    clusters: usize,
    joined: bool,
    pairs: Option<&[(usize, usize)]>,
    script: &RunScript,
    (victim, failing): (&str, bool),
) -> Result<Vec<Stages>, TestCaseError> {
    let mut story = Story::new(clusters, joined, pairs, true);
    let mut seen = Vec::new();
    for (synced, pair, fault) in script {
        for cluster in synced {
            story.happen(&StoryEvent::Sync(*cluster))?;
        }
        if let Some((a, b)) = pair {
            story.happen(&StoryEvent::Pair(*a, *b))?;
        }
        story.world.faults.clear();
        if failing && let Some(fault) = fault {
            let victim = NAMES.into_iter().find(|name| *name == victim).unwrap();
            story.world.faults.insert(victim, *fault);
        }
        story.reconcile()?;
        let links = story.world.lock().links.into_iter().flat_map(|(reader, links)| {
            links.into_iter().map(move |(peer, link)| ((reader.to_string(), peer.to_string()), link.stage))
        });
        seen.push(links.filter(|((a, b), _)| a != victim && b != victim).collect());
    }
    Ok(seen)
}

/// A link that left before it had a secret counted as live, so that networks were written before the standard ones were known.
#[test]
fn a_link_that_left_before_it_opened_moves_no_other() {
    let script: RunScript = vec![
        (Vec::new(), None, None),
        (Vec::new(), Some((2, 1)), Some(ClusterFault::Stranger)),
        (vec![3], Some((1, 2)), None),
        (vec![1], None, None),
    ];
    let of = |failing| links_of_others(3, false, Some(&[(0, 1)]), &script, (NAMES[2], failing)).unwrap();
    assert_eq!(of(false), of(true));
}

/// While a cluster leaves: in the tree no secret without network, no network without trust; and each goes only when what
/// stood on it is not live any more.
fn check_order(story: &Story, leaver: &str, dead: bool) -> Result<(), TestCaseError> {
    let tree = story.rendered();
    let root = crate::support::naive::squeeze(&story.world.cluster(leaver).root.pem);
    let uuid = story.world.cluster(leaver).uuid.to_string();
    for (reader, tree) in &tree {
        let live = &story.world.naive[reader];
        if *reader == leaver || !(live.roots.contains(&root) || tree.roots.contains(&root)) {
            continue;
        }
        let network = tree.networks.contains_key(&format!("network-{leaver}"));
        let route = tree.routes.iter().any(|(id, _)| id == leaver);
        let trust = tree.roots.contains(&root) && tree.admits.contains_key(&uuid);
        prop_assert_eq!(network, route, "network and route go together");
        prop_assert!(!tree.secrets.contains(leaver) || network, "{} has the secret without the network", reader);
        prop_assert!(!network || trust, "{} has the network without trust", reader);
        // what is read of a cluster that is gone for good counts as closed
        prop_assert!(dead || !live.secrets.contains(leaver) || network, "the network went while the secret was live");
        let back = &story.world.naive[leaver];
        let reads_back = !dead && (back.secrets.contains(*reader) || back.routes.iter().any(|(id, _)| id == reader));
        prop_assert!(!reads_back || trust, "trust went while {leaver} still read {reader}");
        prop_assert!(dead || !live.routes.iter().any(|(id, _)| id == leaver) || trust, "trust went before the route");
    }
    Ok(())
}

fn pair(one: &'static str, other: &'static str) -> Pairs {
    Pairs::from([(one, other)])
}

#[test]
fn too_many_unexplained_links_stay_until_allowed() {
    let all = pairs_of(4, &[(0, 1), (1, 2), (2, 3), (0, 3)]);
    let mut world = MemoryMesh::joined(4, Some(all.clone()));
    let before = world.checkout.clone();
    world.wish.pairs = Some(all.iter().copied().skip(2).collect());
    let ran = world.reconcile();
    assert!(ran.plan.is_refused() && !ran.plan.changes_files());
    assert_eq!(ran.plan.counts().refused, 4);
    assert_eq!(world.checkout, before);

    world.wish.pairs = Some(all.iter().copied().skip(1).collect());
    let ran = world.reconcile();
    assert!(!ran.plan.is_refused(), "a quarter goes without a word");
    assert_eq!(world.stage("ash", "birch"), Some(Stage::Leaving));
    world.settle();

    world.wish.pairs = Some(Pairs::new());
    assert!(world.reconcile().plan.is_refused());
    world.allow_delete = true;
    world.settle();
    assert!(world.lock().links.is_empty());
}

/// In a mesh of three, one pair is a third of all.
#[test]
fn a_small_mesh_may_lose_one_pair_and_no_reader_its_last_root() {
    let all = pairs_of(3, &[(0, 1), (1, 2), (0, 2)]);
    let mut world = MemoryMesh::joined(3, Some(all));
    let before = world.checkout.clone();
    world.wish.pairs = Some(pair("ash", "birch"));
    let ran = world.reconcile();
    assert!(ran.plan.is_refused() && world.checkout == before, "two pairs would go");
    world.wish.pairs = Some(pairs_of(3, &[(1, 2), (0, 2)]));
    assert!(!world.reconcile().plan.is_refused(), "one pair goes without a word");
    world.settle();
    assert_eq!(world.stage("ash", "birch"), None);

    let before = world.checkout.clone();
    world.wish.pairs = Some(pair("birch", "cedar"));
    let ran = world.reconcile();
    assert!(ran.plan.is_refused() && world.checkout == before, "it is all that ash has");
    let lines: Vec<_> = ran.plan.steps.iter().map(|step| step.state.line()).collect();
    assert!(lines.iter().any(|line| line.contains("all links of `ash` would go")), "{lines:?}");
    world.allow_delete = true;
    world.settle();
    assert_eq!(world.stage("ash", "cedar"), None);
}

/// A cluster that stands still must not make a removal look smaller than it is.
#[test]
fn the_deletion_guard_counts_links_that_do_not_move() {
    let all = pairs_of(4, &[(0, 1), (0, 2), (0, 3), (1, 2), (2, 3)]);
    let mut world = MemoryMesh::joined(4, Some(all));
    world.wish.pairs = Some(pairs_of(4, &[(0, 1), (0, 2), (1, 2)]));
    for fault in [None, Some(ClusterFault::OtherRoot)] {
        world.faults.extend(fault.map(|fault| ("ash", fault)));
        let ran = world.reconcile();
        assert_eq!(world.stage("cedar", "dogwood"), Some(Stage::Joined), "{fault:?}: 40 % of the links would go");
        assert!(ran.plan.is_refused());
    }
}

/// Texts by path, without what only counts how often links moved.
fn but_for_serials(checkout: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| {
        let lines = std::str::from_utf8(bytes)
            .unwrap()
            .lines()
            .filter(|line| !line.contains("serial") && !line.contains("joinedLinks") && !line.contains("\"entry\":"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let texts = checkout.iter().map(|(path, bytes)| (path.clone(), text(bytes)));
    texts.filter(|(path, text)| !(path.starts_with("lock/links/") && text.contains("links: {}"))).collect()
}

#[test]
fn a_dead_cluster_leaves() {
    let mut world = MemoryMesh::joined(3, None);
    world.faults.insert("cedar", ClusterFault::Down);
    assert!(!world.reconcile().plan.changes_files());
    // silence closes nothing
    world.wish.clusters.insert("cedar", DeclaredState::Leaving);
    for _ in 0..MOST_RUNS {
        world.reconcile();
        world.sync("ash");
        world.sync("birch");
    }
    assert_eq!(world.stage("cedar", "ash"), Some(Stage::Leaving));
    assert!(world.naive["ash"].secrets == BTreeSet::from(["birch".to_owned()]));
    world.wish.clusters.insert("cedar", DeclaredState::Lost);
    for rounds in 0.. {
        let ran = world.reconcile();
        if !ran.plan.changes_files() {
            break;
        }
        assert!(rounds < MOST_RUNS);
        world.sync("ash");
        world.sync("birch");
    }
    assert_eq!(world.folder("cedar").into_keys().collect::<Vec<_>>(), ["kustomization.yaml"]);
    assert!(!world.checkout.contains_key("lock/clusters/cedar.yaml"));
    assert_eq!(world.naive["ash"].secrets, BTreeSet::from(["birch".to_owned()]));
    world.wish.clusters.remove("cedar");
    world.reconcile();
    assert!(world.folder("cedar").is_empty());
}

#[test]
fn a_pair_that_is_added_again_while_it_leaves_is_joined_again() {
    for rounds in 1..=3 {
        let mut world = MemoryMesh::joined(2, Some(pair("ash", "birch")));
        world.allow_delete = true;
        world.wish.pairs = Some(Pairs::new());
        for _ in 0..rounds {
            world.reconcile();
            world.sync_all();
        }
        assert!(world.naive["ash"].secrets.is_empty());
        world.wish.pairs = Some(pair("ash", "birch"));
        assert!(world.settle() <= MOST_RUNS);
        for (reader, peer) in [("ash", "birch"), ("birch", "ash")] {
            assert_eq!(world.stage(reader, peer), Some(Stage::Joined));
            assert!(world.naive[reader].secrets.contains(peer) && world.lacks(&world.naive, reader, peer).is_empty());
        }
    }
}

/// All that can be live of a new pair, in every combination: a secret joins when nothing that it needs is missing, and only
/// then.
#[test]
fn a_secret_waits_for_each_thing_that_it_needs() {
    let mut story = Story::new(2, false, Some(&[]), false);
    story.world.settle();
    let old = story.world.live.clone();
    story.world.wish.pairs = Some(pair("ash", "birch"));
    story.reconcile().unwrap();
    let checkout = story.world.checkout.clone();
    let mesh = "configmap-isthmus-mesh.yaml";
    let files = ["configmap-isthmus-peers.yaml", "configmap-isthmus-routes.yaml"];
    let mut joined = 0;
    for case in 0..144_usize {
        story.world.checkout.clone_from(&checkout);
        let mut rest = case;
        let mut digit = |base: usize| {
            let digit = rest % base;
            rest /= base;
            digit
        };
        for (cluster, peer) in [("ash", "birch"), ("birch", "ash")] {
            let new = story.world.rendered(cluster);
            for file in files {
                let source = if digit(2) == 1 { &new } else { &old[cluster] };
                story.world.put(cluster, file, source.get(file).cloned());
            }
            let whole = String::from_utf8(new[mesh].clone()).unwrap();
            let elsewhere = whole.replace(&format!("network-{peer}"), "network-elsewhere");
            let text = [None, Some(elsewhere), Some(whole)][digit(3)].clone();
            story.world.put(cluster, mesh, text.map(String::into_bytes));
        }
        story.reconcile().unwrap();
        for (reader, peer) in [("ash", "birch"), ("birch", "ash")] {
            let lacks = story.world.lacks(&story.world.naive, reader, peer);
            let stage = story.world.stage(reader, peer);
            assert_eq!(
                stage == Some(Stage::Joined),
                lacks.is_empty(),
                "{reader}/{peer} is {stage:?} and lacks {lacks:?}"
            );
            joined += usize::from(lacks.is_empty());
        }
    }
    assert!(joined > 0);
}
