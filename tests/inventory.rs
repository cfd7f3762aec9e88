//! `engine init --from`: clusters that another cluster lists, as `ClusterProfile` objects or as cluster Secrets of Argo CD.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crate::init::{EAST, EAST_ROOT, InitWorld, TOKEN, WEST, WEST_ROOT, istio};
use crate::support::environment::Ran;
use crate::support::kube::Kube;

/// A kubeconfig that leads to one cluster, and two clusters that it does not know.
struct InventoryWorld {
    init: InitWorld,
    hub: Kube,
    east: Kube,
    west: Kube,
}

impl InventoryWorld {
    fn new() -> Self {
        let mut init = InitWorld::new();
        let hub = init.kube("hub");
        let (east, west) = (init.unlisted(), init.unlisted());
        istio(&east, "east", EAST, EAST_ROOT, "203.0.113.7");
        istio(&west, "west", WEST, WEST_ROOT, "");
        Self { init, hub, east, west }
    }

    /// A cluster Secret of Argo CD.
    fn secret(&self, name: &str, server: &str, config: &Value) {
        let data: Map<String, Value> =
            [("name", name.to_owned()), ("server", server.to_owned()), ("config", config.to_string())]
                .map(|(key, text)| (key.to_owned(), BASE64.encode(text).into()))
                .into_iter()
                .collect();
        let labels = json!({ "argocd.argoproj.io/secret-type": "cluster" });
        let metadata = json!({ "name": format!("cluster-{name}"), "namespace": "argocd", "labels": labels });
        self.hub.put("secrets", json!({ "metadata": metadata, "data": data }));
    }

    fn profile(&self, name: &str, server: &str) {
        let cluster = json!({ "server": server });
        self.hub.put(
            "clusterprofiles",
            json!({
                "metadata": { "name": name, "namespace": "fleet" }, "spec": { "clusterManager": { "name": "ours" } },
                "status": { "accessProviders": [{ "name": "ours", "cluster": cluster }] },
            }),
        );
    }

    /// A plugin that leaves a mark where it ran, and the file that names it.
    fn providers(&self) -> String {
        let folder = self.init.environment.path("plugins");
        std::fs::create_dir_all(&folder).unwrap();
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": { "token": TOKEN },
        });
        let script = format!("#!/bin/sh\necho ran > {}\necho '{credential}'\n", self.mark().display());
        std::fs::write(folder.join("plugin"), script).unwrap();
        std::fs::set_permissions(folder.join("plugin"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let providers = json!({ "providers": [{ "name": "ours", "execConfig": { "command": "./plugin" } }] });
        std::fs::write(folder.join("providers.json"), providers.to_string()).unwrap();
        folder.join("providers.json").to_str().unwrap().to_owned()
    }

    fn mark(&self) -> std::path::PathBuf {
        self.init.environment.path("ran")
    }

    #[track_caller]
    fn init(&self, code: i32, arguments: &[&str]) -> Ran {
        drop(std::fs::remove_dir_all(self.init.path("specs")));
        let ran = self.init.engine(&[&["init"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}\n{ran}");
        ran
    }

    fn specs(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.init.path("specs/clusters"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn of(kube: &Kube) -> String {
    format!("http://{}", kube.address)
}

#[test]
fn clusters_of_argo_cd_are_surveyed() {
    let world = InventoryWorld::new();
    let token = json!({ "bearerToken": TOKEN });
    world.secret("production/east", &of(&world.east), &token);
    world.secret("west", &of(&world.west), &token);
    // of another kind
    world.hub.put(
        "secrets",
        json!({ "metadata": { "name": "other", "namespace": "argocd" }, "data": { "server": "eA==" } }),
    );
    let ran = world.init(0, &["--from", "argocd"]);
    assert_eq!(world.specs(), ["east.yaml", "west.yaml"]);
    let text = std::fs::read_to_string(world.init.path("specs/clusters/east.yaml")).unwrap();
    assert!(text.contains("context `production/east`") && text.contains("#   kubectl -n istio-system get"), "{text}");
    assert!(ran.stdout.contains("production/east"), "{ran}");
    let asked = world.hub.asked();
    assert!(asked.iter().all(|uri| uri.starts_with("/api/v1/namespaces/argocd/secrets?")), "{asked:?}");
}

#[test]
fn the_cluster_in_which_argo_cd_runs_is_the_one_that_was_asked() {
    let world = InventoryWorld::new();
    istio(&world.hub, "hub", "5d0b9a64-6f51-4a5c-8f5f-2b6a5f0f8c11", EAST_ROOT, "203.0.113.9");
    world.secret("in-cluster", "https://kubernetes.default.svc", &json!({}));
    world.init(0, &["--from", "argocd", "--context", "hub"]);
    assert_eq!(world.specs(), ["hub.yaml"]);
}

#[test]
fn a_command_that_a_secret_names_runs_only_where_it_is_allowed() {
    let world = InventoryWorld::new();
    world.providers();
    let plugin = world.init.environment.path("plugins/plugin");
    let plugin = plugin.to_str().unwrap();
    let exec = json!({ "execProviderConfig": { "command": plugin, "apiVersion": "client.authentication.k8s.io/v1" } });
    world.secret("east", &of(&world.east), &json!({ "bearerToken": TOKEN }));
    world.secret("west", &of(&world.west), &exec);
    let ran = world.init(3, &["--from", "argocd"]);
    assert!(
        ran.stderr.contains("cannot read the cluster that is listed as `west`: its Secret logs in by the command"),
        "{ran}"
    );
    assert!(!world.mark().exists(), "it ran");
    assert_eq!(world.specs(), ["east.yaml"]);
    world.init(0, &["--from", "argocd", "--allow-plugin", plugin]);
    assert!(world.mark().exists());
    assert_eq!(world.specs(), ["east.yaml", "west.yaml"]);
}

#[test]
fn cluster_profiles_are_surveyed_by_the_plugins_of_a_file() {
    let world = InventoryWorld::new();
    let providers = world.providers();
    world.profile("east", &of(&world.east));
    world.profile("west", &of(&world.west));
    let ran = world.init(0, &["--from", "clusterprofiles", "--providers", &providers]);
    assert_eq!(world.specs(), ["east.yaml", "west.yaml"]);
    assert!(ran.stdout.contains("fleet/east") && world.mark().exists(), "{ran}");
    world.init(0, &["--from", "clusterprofiles", "--providers", &providers, "--namespace", "fleet"]);
    let asked = world.hub.asked();
    let paths: Vec<&str> = asked.iter().map(|uri| uri.split('?').next().unwrap()).collect();
    let group = "/apis/multicluster.x-k8s.io/v1alpha1";
    assert_eq!(paths, [format!("{group}/clusterprofiles"), format!("{group}/namespaces/fleet/clusterprofiles")]);
    // one that no plugin is for costs itself alone
    world.hub.put(
        "clusterprofiles",
        json!({ "metadata": { "name": "north", "namespace": "fleet" }, "status": { "accessProviders": [{ "name": "theirs", "cluster": {} }] } }),
    );
    let ran = world.init(3, &["--from", "clusterprofiles", "--providers", &providers]);
    assert!(ran.stderr.contains("`fleet/north`: it is reached by the access providers `theirs`"), "{ran}");
}

#[test]
fn what_cannot_be_listed_says_why() {
    let world = InventoryWorld::new();
    let providers = world.providers();
    let broken = world.init.environment.path("plugins/plugin");
    for (code, arguments, message) in [
        (64, &["--from", "argocd"][..], "expected a cluster Secret of Argo CD, found none"),
        (64, &["--from", "clusterprofiles"], "expected --providers FILE"),
        (6, &["--from", "clusterprofiles", "--providers", "nowhere.json"], "cannot read nowhere.json"),
        (
            6,
            &["--from", "clusterprofiles", "--providers", broken.to_str().unwrap()],
            "expected JSON with a list `providers`",
        ),
        (64, &["--from", "clusterprofiles", "--providers", &providers], "expected a ClusterProfile, found none"),
        (
            64,
            &["--from", "argocd", "--providers", &providers],
            "--providers has no effect without --from clusterprofiles",
        ),
        (64, &["--providers", &providers], "--providers has no effect"),
        (64, &["--allow-plugin", "x"], "--allow-plugin has no effect without --from argocd"),
        (64, &["--namespace", "x"], "--namespace has no effect"),
        (64, &["--from", "argocd", "--adopt"], "--adopt cannot be used with --from"),
        (64, &["--from", "argocd", "--context", "hbu"], "did you mean `hub`?"),
        (64, &["--from", "argocd", "--context", "hub", "--context", "hub"], "expected one, of the cluster that holds"),
    ] {
        let ran = world.init(code, arguments);
        assert!(ran.stderr.contains(message), "{arguments:?}: {ran}");
    }
    world.hub.refuse("secrets");
    let ran = world.init(6, &["--from", "argocd"]);
    assert!(ran.stderr.contains("cannot list each cluster Secret of Argo CD: 403 the fake says no"), "{ran}");
}
