//! What a checkout renders where an agent acts, and what that agent makes of it.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::model::mesh::{Cluster, EngineKey, EvidenceField, EvidenceRule, MeshConfigTarget, Reconciler};
use isthmus::pipeline::compile::load;
use isthmus::pipeline::{Input, Program};
use isthmus::spec::SourceFile;
use isthmus::types::key::PrivateKey;
use isthmus::wire::agent::{AGENT_MAP, SPECS_FILE};
use isthmus::wire::peers::{agent_user_of, agent_users};
use proptest::prelude::*;
use serde_json::Value;

use crate::render::world::{RenderWorld, files};

fn world() -> RenderWorld {
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.cluster("east").reconciler = Reconciler::Agent;
    world
}

fn rendered(world: &RenderWorld) -> BTreeMap<String, Value> {
    let files = files("east", &world.render("east"));
    let object = |(path, text): (String, String)| {
        (path.rsplit('/').next().unwrap().to_owned(), serde_yaml::from_str(&text).unwrap())
    };
    files.into_iter().map(object).collect()
}

/// The agent's documents.
fn documents(world: &RenderWorld) -> String {
    rendered(world)[&format!("configmap-{AGENT_MAP}.yaml")]["data"][SPECS_FILE].as_str().unwrap().to_owned()
}

fn source(text: &str) -> SourceFile {
    SourceFile { path: "specs/cluster.yaml".into(), bytes: text.into() }
}

#[test]
fn a_checkout_renders_the_agent_and_nothing_of_links() {
    let objects = rendered(&world());
    let names: BTreeSet<&str> = objects.keys().map(String::as_str).collect();
    insta::assert_debug_snapshot!(names);
    let peer = &objects["istiomulticluster.isthmus.dev-west.yaml"];
    assert_eq!(peer["apiVersion"], "isthmus.dev/v1alpha1");
    assert_eq!(peer["spec"]["metadataEndpoint"], "https://istio-metadata.west.example.com/metadata");
}

#[test]
fn rights_of_peers_are_rendered_before_any_is_known() {
    let objects = rendered(&world());
    let users: BTreeSet<String> = agent_users().into_iter().collect();
    assert_eq!(users.len(), 256);
    assert!(users.contains(&agent_user_of(&"2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31".parse().unwrap())));
    let rules = &objects["clusterrole.rbac.authorization.k8s.io-isthmus-impersonate.yaml"]["rules"];
    let may: BTreeSet<String> = serde_json::from_value(rules[0]["resourceNames"].clone()).unwrap();
    assert_eq!(may, users);
}

#[test]
fn the_agents_run_writes_no_components_and_no_rights() {
    let key = PrivateKey::generate(&[9; 32]).unwrap().public().clone();
    let input = Input {
        specs: vec![source(&documents(&world()))],
        inside: Some(EngineKey { id: key.id(), key: key.clone() }),
        ..Input::default()
    };
    let program = Program::load(&input, &|_| None).unwrap();
    let east = program.mesh.clusters.values().next().unwrap();
    assert_eq!(east.reconciler, Reconciler::Rendered);
    assert!(program.mesh.inside && program.mesh.engine_keys.iter().any(|known| known.key == key));
    assert!(program.mesh.engine_keys.iter().any(|known| known.id.as_str() == "ci"), "the engine's own key is lost");
    let mut inside = world();
    inside.mesh.act_inside(EngineKey { id: key.id(), key });
    let names: BTreeSet<String> = rendered(&inside).into_keys().collect();
    insta::assert_debug_snapshot!(names);
}

#[test]
fn an_agent_is_refused_what_it_cannot_do() {
    let good = documents(&world());
    let with = |good_text: &str, bad: &str| {
        let text = good.replacen(good_text, bad, 1);
        assert_ne!(text, good, "{good_text} is not in {good}");
        let findings = load(&[source(&text)], "0.1.0", &|_| None).unwrap_err();
        isthmus::types::diagnostic::render(&findings)
    };
    for (good, bad, expected) in [
        ("config: sharedMeshConfig", "config: helmValues", "the agent of `east` writes ConfigMaps"),
        ("multicluster:\n", "multicluster:\n    admissionPolicy: false\n", "change every Secret beside istiod"),
        (
            "https://istio-metadata.east.example.com/metadata",
            "file://metadata/east",
            "the agent of `east` must read it",
        ),
        ("acceptForeignRoots: true", "acceptForeignRoots: false", "acceptForeignRoots"),
    ] {
        let text = with(good, bad);
        assert!(text.contains(expected), "{text}");
    }
}

/// What the specs of a checkout may say of a cluster, as far as its agent is told.
fn any_cluster() -> impl Strategy<Value = Cluster> {
    let evidence = prop_oneof![
        Just(EvidenceRule::Required),
        Just(EvidenceRule::None),
        prop::collection::btree_set(prop::sample::select(EvidenceField::ALL.to_vec()), 0..5)
            .prop_map(EvidenceRule::Attested),
    ];
    let flags = prop::collection::vec(any::<bool>(), 12);
    (evidence, flags, 0_u64..100_000).prop_map(|(evidence, flags, seconds)| {
        let mut cluster = crate::render::world::cluster("east", 1);
        cluster.reconciler = Reconciler::Agent;
        let digest = isthmus::types::name::Digest::of(b"a");
        cluster.evidence = evidence;
        (cluster.flat_network, cluster.istio.dns_capture, cluster.istio.prepared) = (flags[0], flags[1], flags[2]);
        cluster.cluster_id = flags[3].then(|| "east-1".parse().unwrap());
        cluster.network = flags[4].then(|| "network-1".parse().unwrap());
        cluster.trust_domain = flags[5].then(|| "east.example".parse().unwrap());
        cluster.merge_trust_domains = flags[6].then_some(flags[7]);
        if flags[8] {
            cluster.gateways = Some(vec![isthmus::types::address::Gateway::new("203.0.113.7", 15443).unwrap()]);
            cluster.pin.cluster_uuid = Some("2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31".parse().unwrap());
            cluster.distrust.insert(digest);
        }
        if flags[9] {
            cluster.allow.api_hosts = vec!["*.east.example.com".parse().unwrap()];
            cluster.allow.addresses = vec!["203.0.113.0/24".parse().unwrap()];
            cluster.pin.root_ca.insert(digest);
            cluster.share.namespaces = ["front".parse().unwrap()].into();
            cluster.components.as_mut().unwrap().tls_secret = Some("own-certificate".parse().unwrap());
        }
        if flags[10] {
            cluster.api.host = Some("api.east.example.com:443".parse().unwrap());
            cluster.istio.standard_mesh_networks = Some(serde_json::Map::new());
        }
        if flags[11] {
            cluster.istio.config = MeshConfigTarget::None;
            cluster.istio.namespace = "istio-1".parse().unwrap();
            cluster.istio.revisions = vec!["1-31".parse().unwrap(), "canary".parse().unwrap()];
        }
        cluster.settle = std::time::Duration::from_secs(seconds);
        cluster.root_overlap = std::time::Duration::from_secs(seconds + 1);
        cluster
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// The agent acts for the cluster that the checkout declares.
    #[test]
    fn the_agent_reads_what_the_checkout_says(cluster in any_cluster()) {
        let mut world = world();
        *world.cluster("east") = cluster.clone();
        world.lock.clusters.values_mut().for_each(|locked| locked.joined_with = None);
        let text = documents(&world);
        let (mesh, _) = load(&[source(&text)], "0.1.0", &|_| None).map_err(|findings| {
            TestCaseError::fail(format!("{text}\n{}", isthmus::types::diagnostic::render(&findings)))
        })?;
        let mut read = mesh.clusters.into_values().next().unwrap();
        read.at = cluster.at.clone();
        read.evidence_origin = cluster.evidence_origin;
        prop_assert_eq!(read, cluster);
    }
}
