//! Laws: what a cluster's tree depends on, and what it does not.

use isthmus::model::lock::Stage;
use isthmus::model::mesh::{MeshConfigTarget, Reconciler};
use isthmus::types::name::Digest;
use isthmus::types::token::Scope;
use isthmus::wire::peers::PeersFile;
use proptest::prelude::*;

use super::world::{RenderWorld, files, key, name, page};

const NAMES: [&str; 4] = ["east", "north", "south", "west"];

fn stage() -> impl Strategy<Value = Option<Stage>> {
    let stages = [Stage::Joining, Stage::Joined, Stage::Leaving, Stage::LeavingTrust].map(Some);
    prop_oneof![1 => Just(None), 5 => prop::sample::select(stages.to_vec())]
}

/// A world in which each cluster's links are somewhere on their way.
fn world() -> impl Strategy<Value = RenderWorld> {
    let stages = prop::collection::vec(stage(), 16);
    let reconcilers = prop::collection::vec(
        prop::sample::select(vec![
            Reconciler::Rendered,
            Reconciler::Rendered,
            Reconciler::Deckhouse,
            Reconciler::External,
        ]),
        4,
    );
    let targets = prop::collection::vec(
        prop::sample::select(vec![
            MeshConfigTarget::SharedMeshConfig,
            MeshConfigTarget::HelmValues,
            MeshConfigTarget::None,
        ]),
        4,
    );
    (stages, reconcilers, targets, any::<bool>()).prop_map(|(stages, reconcilers, targets, strict)| {
        let mut world = RenderWorld::joined(&NAMES);
        if strict {
            world.strict();
        }
        world.lock.links.clear();
        for (n, stage) in stages.into_iter().enumerate() {
            let (reader, peer) = (NAMES[n / 4], NAMES[n % 4]);
            if let (Some(stage), true) = (stage, reader != peer) {
                world.link(reader, peer, stage);
            }
        }
        for ((name, reconciler), target) in NAMES.iter().zip(reconcilers).zip(targets) {
            world.cluster(name).reconciler = reconciler;
            world.cluster(name).istio.config = target;
        }
        world
    })
}

fn text(world: &RenderWorld, cluster: &str) -> String {
    page(&files(cluster, &world.render(cluster)))
}

proptest! {
    #![proptest_config(crate::support::law::cases(48))]

    /// Rendering is a function: the same world gives the same bytes, in whatever order it was put together.
    #[test]
    fn equal_worlds_give_equal_bytes(world in world()) {
        let mut again = RenderWorld::joined(&["west", "south", "north", "east"]);
        again.mesh.require_token = world.mesh.require_token;
        for name in NAMES.iter().rev() {
            *again.cluster(name) = world.mesh.clusters[*name].clone();
            *again.locked(name) = world.lock.clusters[*name].clone();
        }
        again.lock.links = world.lock.links.iter().rev().map(|(reader, links)| {
            (reader.clone(), links.iter().rev().map(|(peer, link)| (peer.clone(), link.clone())).collect())
        }).collect();
        for name in NAMES {
            prop_assert_eq!(text(&world, name), text(&again, name));
        }
    }

    /// A cluster's tree follows its own links alone: what becomes of anyone else does not reach it.
    #[test]
    fn readers_never_mix(world in world(), reader in 0..4usize, other in 0..4usize) {
        let (reader, other) = (NAMES[reader], NAMES[other]);
        prop_assume!(reader != other);
        let before = text(&world, reader);
        let mut changed = world;
        let links = changed.lock.links.get(reader).cloned().unwrap_or_default();
        changed.lock.links.retain(|name, _| name.as_str() == reader);
        if !links.contains_key(&name(other)) {
            changed.private(other).gateways.clear();
            changed.locked(other).public.authn_key = key(77);
            changed.locked(other).public.roots.clear();
            // whose metadata its relay reads is what the spec asks, before there is a link
            let is_own = |line: &&str| !line.trim_start().starts_with("{\"endpoint\":");
            let shown = before.lines().filter(is_own).any(|line| line.replace("eastwestgateway", "").contains(other));
            prop_assert!(!shown, "{} shows {}", reader, other);
        }
        prop_assert_eq!(before, text(&changed, reader));
    }

    /// No secret without the peer's root, entry, network and route beside it.
    #[test]
    fn a_secret_is_never_alone(world in world(), reader in 0..4usize) {
        let reader = NAMES[reader];
        prop_assume!(world.mesh.clusters[reader].reconciler == Reconciler::Rendered);
        let text = text(&world, reader);
        for (peer, link) in world.lock.links_of(&name(reader)) {
            let has_secret = text.contains(&format!("rendered/{reader}/secret-istio-remote-secret-{peer}.yaml"));
            prop_assert_eq!(has_secret, link.stage == Stage::Joined);
            if has_secret && world.mesh.clusters[reader].istio.config != MeshConfigTarget::None {
                let root = &world.lock.clusters[peer].public.roots[0].pem;
                prop_assert!(text.contains(root.lines().nth(1).unwrap()));
                let network = format!("network-{peer}:");
                prop_assert!(text.contains(&network));
            }
            let user = format!("istio-peer:{}", world.lock.clusters[peer].public.cluster_uuid);
            prop_assert!(text.contains(&user));
        }
    }

    /// Every object is ours, says its steps, and is listed once; every file name is its own.
    #[test]
    fn every_object_is_marked_and_listed(world in world(), cluster in 0..4usize) {
        let cluster = NAMES[cluster];
        let rendered = world.render(cluster);
        let mut names: Vec<_> = rendered.objects.iter().map(|rendered| rendered.id().file_name()).collect();
        for rendered in &rendered.objects {
            let object = rendered.object().unwrap();
            prop_assert!(object.is_owned_by_tree_of(&world.mesh.name));
            let steps: Vec<_> = object.annotation("isthmus.dev/steps").unwrap().split(',').map(str::to_owned).collect();
            prop_assert_eq!(steps, rendered.steps.iter().map(ToString::to_string).collect::<Vec<_>>());
            prop_assert!(object.annotation("argocd.argoproj.io/sync-wave").is_some());
            prop_assert_eq!(rendered.to_yaml().unwrap(), object.to_yaml().unwrap());
            prop_assert!(rendered.steps.iter().all(|step| step.cluster.as_str() == cluster));
        }
        names.sort();
        let count = names.len();
        names.dedup();
        prop_assert_eq!(count, names.len());
        if let Some(file) = rendered.extra.get(&format!("rendered/{cluster}/kustomization.yaml")) {
            let listed: serde_json::Value = serde_yaml::from_str(&file.text).unwrap();
            prop_assert_eq!(&listed["resources"], &serde_json::json!(names));
        }
    }
}

#[test]
fn peers_json_is_what_the_exporter_reads() {
    let mut world = RenderWorld::joined(&NAMES);
    let rendered = world.render("east");
    let map = rendered.objects.iter().find(|rendered| rendered.id().name == "isthmus-peers").unwrap();
    let text =
        |object: &isthmus::types::object::Object| object.fields["data"]["peers.json"].as_str().unwrap().to_owned();
    let file = PeersFile::parse(text(&map.object().unwrap()).as_bytes()).unwrap();
    assert_eq!(file.own.keys.len(), 1);
    let names: Vec<_> = file.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(names, ["north", "south", "west"]);
    for peer in &file.peers {
        let own = &world.lock.clusters[&peer.name].public.authn_key;
        assert_eq!(&peer.keys[0].pem, own, "the first key is its own");
        let api: Vec<_> = peer.keys.iter().filter(|key| key.scopes.contains(&Scope::Api)).map(|key| &key.pem).collect();
        assert_eq!(api, [own], "no other key opens the apiserver, whatever it claims");
    }
    world.lock.links.clear();
    let empty = world.render("east");
    let map = empty.objects.iter().find(|rendered| rendered.id().name == "isthmus-peers").unwrap();
    assert!(PeersFile::parse(text(&map.object().unwrap()).as_bytes()).unwrap().peers.is_empty());
}

/// The kubeconfig of relay mode changes with the reader's relay and the peer's ID, and with nothing else.
#[test]
fn a_relay_secret_outlives_what_its_peer_changes() {
    let inputs = |world: &RenderWorld| {
        let rendered = world.render("east");
        let secret = rendered
            .objects
            .iter()
            .find(|rendered| rendered.object().unwrap().is_secret())
            .unwrap()
            .object()
            .unwrap()
            .into_owned();
        (Digest::of(secret.to_yaml().unwrap().as_bytes()), secret.annotation("isthmus.dev/inputs").unwrap().to_owned())
    };
    let mut world = RenderWorld::joined(&["east", "west"]);
    let before = inputs(&world);
    world.private("west").api_host = "elsewhere.example.com".parse().unwrap();
    world.private("west").api_ca = Some("another".to_owned());
    world.locked("west").public.authn_key = key(99);
    world.locked("west").public.relay_ca = Some("another".to_owned());
    assert_eq!(inputs(&world), before);
    world.locked("east").public.relay_ca = Some("another".to_owned());
    let after = inputs(&world);
    assert!(after.0 != before.0 && after.1 != before.1);
}
