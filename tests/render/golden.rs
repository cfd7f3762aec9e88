//! What a cluster's tree looks like, by reconciler and configuration target.

use isthmus::model::lock::Stage;
use isthmus::model::mesh::{MeshConfigTarget, Reconciler, State};
use isthmus::pipeline::render::RenderedCluster;

use super::world::{RenderWorld, file, files, kubeconfig, page, root};

/// Files of components are looked at on their own.
fn without_components(world: &RenderWorld, cluster: &str) -> String {
    let mut rendered = world.render(cluster);
    rendered.objects.retain(|rendered| {
        !rendered.steps.iter().any(|step| step.kind == isthmus::types::step::StepKind::RenderComponents)
    });
    let mut files = files(cluster, &rendered);
    files.retain(|path, _| !path.ends_with("kustomization.yaml"));
    page(&files)
}

#[test]
fn two_clusters_in_relay_mode() {
    let world = RenderWorld::joined(&["east", "west"]);
    insta::assert_snapshot!(without_components(&world, "east"));
    insta::assert_snapshot!("kubeconfig_of_a_relay", kubeconfig(&world.render("east"), "west"));
}

#[test]
fn each_reconciler_of_three_clusters() {
    let mut world = RenderWorld::joined(&["east", "north", "south", "west"]);
    world.cluster("south").reconciler = Reconciler::External;
    world.cluster("south").endpoint_ca = Some("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned());
    world.cluster("west").reconciler = Reconciler::Deckhouse;
    world.cluster("west").flat_network = true;
    world.cluster("west").components = None;
    insta::assert_snapshot!("deckhouse", without_components(&world, "west"));
    assert!(files("south", &world.render("south")).is_empty(), "nothing is written for another team's cluster");
    insta::assert_snapshot!("rendered_beside_others", file(&world.render("east"), "configmap-isthmus-mesh.yaml"));
}

#[test]
fn each_configuration_target() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.cluster("east").network = Some("network-1".parse().unwrap());
    world.cluster("east").cluster_id = Some("east-1".parse().unwrap());
    insta::assert_snapshot!("shared_mesh_config", file(&world.render("east"), "configmap-isthmus-mesh.yaml"));
    let targets = [
        (MeshConfigTarget::HelmValues, "helm-values.yaml"),
        (MeshConfigTarget::IstioOperator, "istio-operator.yaml"),
        (MeshConfigTarget::Sail, "sail-istio.yaml"),
    ];
    for (target, name) in targets {
        world.cluster("east").istio.config = target;
        let files = files("east", &world.render("east"));
        assert!(!files.contains_key("rendered/east/configmap-isthmus-mesh.yaml"));
        insta::assert_snapshot!(name, files[&format!("values/east/{name}")]);
    }
    world.cluster("east").istio.config = MeshConfigTarget::None;
    let files = files("east", &world.render("east"));
    assert!(
        files.keys().all(|path| path.starts_with("rendered/east/") && !path.contains("isthmus-mesh")),
        "{:?}",
        files.keys()
    );
}

#[test]
fn a_strict_relay_wants_a_token_of_istiod() {
    let mut world = RenderWorld::joined(&["east", "north", "west"]);
    let plain = secret_inputs(&world.render("east"));
    world.strict();
    let rendered = world.render("east");
    insta::assert_snapshot!("kubeconfig_of_a_strict_relay", kubeconfig(&rendered, "west"));
    assert_ne!(secret_inputs(&rendered), plain, "another kubeconfig has other inputs");
    world.cluster("east").istio.config = MeshConfigTarget::HelmValues;
    let path = "values/east/helm-values.yaml";
    insta::assert_snapshot!("helm_values_for_a_strict_relay", world.render("east").extra[path].text);
}

fn secret_inputs(rendered: &RenderedCluster) -> String {
    let text = file(rendered, "secret-istio-remote-secret-west.yaml");
    text.lines().find(|line| line.contains("isthmus.dev/inputs")).unwrap().to_owned()
}

#[test]
fn deckhouse_peers_may_sign_for_a_year() {
    let mut world = RenderWorld::joined(&["east", "north", "west"]);
    world.cluster("west").reconciler = Reconciler::Deckhouse;
    let peers = file(&world.render("east"), "configmap-isthmus-peers.yaml");
    let lines: Vec<_> = peers.lines().filter(|line| line.contains("maxTokenLifetime")).collect();
    assert_eq!(lines.len(), 1, "{peers}");
    assert!(
        lines[0].contains(r#""name":"west""#) && lines[0].contains(r#""maxTokenLifetime":34560000"#),
        "{}",
        lines[0]
    );
}

#[test]
fn the_first_run_knows_no_peer() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.lock = isthmus::model::lock::Lock::default();
    insta::assert_snapshot!("first_run", without_components(&world, "east"));
    world.mesh.engine_keys.clear();
    let rendered = world.render("east");
    let waiting: Vec<_> = rendered.waiting.iter().map(|(step, reason)| format!("{step}: {reason}")).collect();
    insta::assert_snapshot!("first_run_without_a_key", waiting.join("\n"));
}

#[test]
fn a_relay_without_a_ca_waits() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.locked("east").public.relay_ca = None;
    let rendered = world.render("east");
    let (step, reason) = &rendered.waiting[0];
    assert_eq!(
        format!("{step}: {reason}"),
        "render-secret/east/west: the relay of `east` to publish its CA; it makes one when it first runs in that cluster"
    );
    assert!(rendered.objects.iter().all(|rendered| !rendered.object().unwrap().is_secret()));
}

#[test]
fn every_cluster_id_makes_the_kubeconfig_that_a_serializer_makes() {
    for id in [
        "east",
        "a",
        "no",
        "Null",
        "123",
        "1e3",
        "0x1F",
        "2026-11-23",
        "Y",
        "1-2",
        "x-0",
        "on",
        "NaN",
        "East-1",
        "0b1",
        "12e03",
    ] {
        let mut world = RenderWorld::joined(&["east", "west"]);
        world.private("west").cluster_id = Some(id.parse().unwrap());
        let text = kubeconfig(&world.render("east"), "west");
        let read: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        for place in
            ["/clusters/0/name", "/users/0/name", "/contexts/0/name", "/contexts/0/context/cluster", "/current-context"]
        {
            assert_eq!(read.pointer(place).unwrap(), id, "{place} in {text}");
        }
        let server = format!("https://isthmus-relay.istio-system.svc:8443/to/{id}");
        assert_eq!(read.pointer("/clusters/0/cluster/server").unwrap().as_str(), Some(server.as_str()));
        assert!(text.matches(id).count() >= 7);
        for rendered in world.render("east").objects {
            assert_eq!(rendered.to_yaml().unwrap(), rendered.object().unwrap().to_yaml().unwrap(), "{id}");
        }
    }
}

#[test]
fn each_stage_renders_its_part() {
    let stages = [
        (Stage::Joining, true, false),
        (Stage::Joined, true, true),
        (Stage::Leaving, true, false),
        (Stage::LeavingTrust, false, false),
    ];
    for (stage, network, secret) in stages {
        let mut world = RenderWorld::joined(&["east", "west"]);
        world.link("east", "west", stage);
        let text = page(&files("east", &world.render("east")));
        let root_line = root("west").pem.lines().nth(1).unwrap().to_owned();
        assert!(text.contains(&root_line), "{stage:?}: the root");
        assert!(text.contains("istio-peer:00000000-0000-4000-8000-000000000001"), "{stage:?}: the peers entry");
        assert_eq!(text.contains("network-west"), network, "{stage:?}: the network");
        assert_eq!(text.contains("isthmus-routes.yaml"), network, "{stage:?}: the route");
        // west may still read east
        assert!(text.contains("isthmus-cross-network.yaml"), "{stage:?}: the Gateway");
        assert_eq!(text.contains("istio-remote-secret-west"), secret, "{stage:?}: the secret");
    }
}

#[test]
fn a_cluster_that_left_keeps_an_empty_kustomization() {
    let mut world = RenderWorld::joined(&["east", "north", "west"]);
    world.cluster("east").state = State::Leaving;
    world.lock.links.remove("east");
    assert!(!world.render("east").objects.is_empty(), "others still read it");
    for links in world.lock.links.values_mut() {
        links.remove("east");
    }
    assert!(!world.render("east").objects.is_empty(), "an agent is not done with it");
    world.lock.clusters.remove("east");
    insta::assert_snapshot!("left_for_good", page(&files("east", &world.render("east"))));
}

#[test]
fn one_root_for_both_renders_no_root() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.locked("west").public.roots = vec![root("east")];
    let mesh = file(&world.render("east"), "configmap-isthmus-mesh.yaml");
    assert!(!mesh.contains("caCertificates"), "{mesh}");
    let both = vec![root("east"), root("west")];
    world.locked("west").public.roots = both;
    let mesh = file(&world.render("east"), "configmap-isthmus-mesh.yaml");
    assert_eq!(mesh.matches("BEGIN CERTIFICATE").count(), 1, "never its own: {mesh}");
}

#[test]
fn a_root_of_two_peers_is_one_entry_with_both_trust_domains() {
    let mut world = RenderWorld::joined(&["east", "north", "west"]);
    world.locked("west").public.roots = vec![root("north")];
    world.locked("west").public.trust_domain = Some("west.example.com".parse().unwrap());
    let apart = file(&world.render("east"), "configmap-isthmus-mesh.yaml");
    insta::assert_snapshot!("one_root_of_two_peers", apart);

    // a trust domain is an alias where its link states it, and for no other
    let links = world.lock.links.get_mut("east").unwrap();
    for link in links.values_mut() {
        link.merged = true;
    }
    let merged = file(&world.render("east"), "configmap-isthmus-mesh.yaml");
    let alias = "    trustDomainAliases:\n    - west.example.com\n";
    assert_eq!(merged.replace(alias, ""), apart);
    assert_ne!(merged, apart);
    assert!(!file(&world.render("north"), "configmap-isthmus-mesh.yaml").contains("trustDomainAliases"));
}

#[test]
fn clusters_of_one_flat_network_share_it_without_gateways() {
    let mut world = RenderWorld::joined(&["east", "north", "west"]);
    for name in ["east", "north"] {
        world.cluster(name).flat_network = true;
        world.cluster(name).network = Some("flat".parse().unwrap());
    }
    insta::assert_snapshot!("flat_seen_from_outside", file(&world.render("west"), "configmap-isthmus-mesh.yaml"));
    insta::assert_snapshot!("flat_seen_from_inside", file(&world.render("east"), "configmap-isthmus-mesh.yaml"));
    assert!(world.render("east").objects.iter().all(|rendered| rendered.id().kind != "Gateway"));
}

#[test]
fn istios_default_cluster_id_is_only_used_at_home() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.private("east").cluster_id = Some("Kubernetes".parse().unwrap());
    let home = file(&world.render("east"), "configmap-isthmus-mesh.yaml");
    let abroad = file(&world.render("west"), "configmap-isthmus-mesh.yaml");
    assert!(
        home.contains("fromRegistry: Kubernetes")
            && !abroad.contains("Kubernetes")
            && abroad.contains("fromRegistry: east")
    );
}

#[test]
fn standard_networks_are_taken_up_and_ours_win() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.locked("east").standard_mesh_networks = Some(
        "networks:\n  vm: {endpoints: [{fromCidr: 10.0.0.0/8}], gateways: [{registryServiceName: gw.vm.svc.cluster.local, port: 443}]}\n  \
         old-west: {endpoints: [{fromRegistry: west}, {fromRegistry: other}]}\n  network-west: {endpoints: []}\n"
            .to_owned(),
    );
    insta::assert_snapshot!("standard_networks", file(&world.render("east"), "configmap-isthmus-mesh.yaml"));
    for broken in ["networks: [", "- a", "networks: 3", "networks: {a: 1}"] {
        world.locked("east").standard_mesh_networks = Some(broken.to_owned());
        let warnings = world.render("east").warnings;
        assert_eq!(warnings.len(), 1, "{broken}");
        assert_eq!(warnings[0].at.as_ref().unwrap().file.as_ref(), "lock/clusters/east.yaml");
    }
}

/// Ours would replace them: an exporter that has just started knows as little of them as one that will never show any.
#[test]
fn networks_are_not_written_before_the_standard_ones_are_known() {
    let written = |world: &RenderWorld| {
        let rendered = world.render("east");
        let waits = rendered.waiting.iter().any(|(step, _)| step.to_string() == "render-networks/east");
        let networks = file(&rendered, "configmap-isthmus-mesh.yaml").contains("meshNetworks:");
        assert_ne!(waits, networks, "{:?}", rendered.waiting);
        networks
    };
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.locked("east").standard_mesh_networks = None;
    assert!(written(&world), "a joined one keeps what the tree has");
    for link in world.lock.links.values_mut().flat_map(|links| links.values_mut()) {
        link.stage = Stage::Joining;
    }
    assert!(!written(&world));
    let stated = |world: &RenderWorld, stated: serde_json::Value| {
        let mut world = world.clone();
        let istio = &mut world.mesh.clusters.get_mut("east").unwrap().istio;
        istio.standard_mesh_networks = Some(stated.as_object().unwrap().clone());
        assert!(written(&world));
        file(&world.render("east"), "configmap-isthmus-mesh.yaml")
    };
    let none = stated(&world, serde_json::json!({}));
    let vm = stated(&world, serde_json::json!({ "vm": { "endpoints": [{ "fromCidr": "10.0.0.0/8" }] } }));
    assert!(!none.contains("10.0.0.0/8") && vm.contains("fromCidr: 10.0.0.0/8"), "{vm}");
    let mut closed = world.clone();
    for link in closed.lock.links.values_mut().flat_map(|links| links.values_mut()) {
        link.closed = Some(1);
    }
    assert!(written(&closed), "the secret that it had may be live yet");
    world.locked("east").standard_mesh_networks = Some(String::new());
    assert!(written(&world), "it shows that it has none");
    assert_eq!(file(&world.render("east"), "configmap-isthmus-mesh.yaml"), none);
}

#[test]
fn too_many_roots_are_an_error_that_names_the_limit() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    let big = |n: usize| {
        let mut root = root(&n.to_string());
        root.pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", "A".repeat(1200));
        root
    };
    world.locked("west").public.roots = (0..770).map(big).collect();
    insta::assert_snapshot!("too_many_roots", world.try_render("east").unwrap_err());
    world.locked("west").public.roots.truncate(700);
    world.render("east");
}
