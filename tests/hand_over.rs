//! A cluster that is handed over between a checkout, its agent and another checkout, all of which run: the checkouts' files are synced by
//! tools that prune into an apiserver in memory, in which the agent acts. Its links stay joined and its remote secret is never gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use isthmus::types::address::Gateway;
use isthmus::wire::hand_over::{HandOverOrder, HandOverStage, HandOverState, ObjectWriter};
use isthmus::wire::metadata::Reported;
use serde_json::{Value, json};

use crate::acting::{Acting, GATEWAYS, OBJECTS, Replica, name_of};
use crate::support::checkout::Checkout;
use crate::support::environment::Ran;
use crate::support::links::LinksCheckout;
use crate::support::live::{MAPS, SECRETS};

const SECRET: &str = "istio-remote-secret-west";
/// The objects of links, which whoever acts writes.
const OF_LINKS: [(&str, &str); 4] =
    [(MAPS, "isthmus-mesh"), (MAPS, "isthmus-peers"), (MAPS, "isthmus-routes"), (SECRETS, SECRET)];

/// A cluster, its checkout, and the tool that syncs it.
struct Handed {
    acting: Acting,
    checkout: Checkout,
    /// What the tool calls its own.
    instance: &'static str,
    /// Objects that the tool has made.
    synced: BTreeSet<(&'static str, String)>,
}

/// A checkout of another team, and the tool that syncs it.
struct Others {
    checkout: Checkout,
    instance: &'static str,
    synced: BTreeSet<(&'static str, String)>,
}

impl Handed {
    /// East is rendered, and west is someone's.
    fn declared(west_is: &str) -> Self {
        let mut acting = Acting::new();
        acting.apiserver.delete(MAPS, "isthmus-agent");
        acting.peer("west");
        let west = acting.apiserver.get(OBJECTS, "west").unwrap()["spec"]["metadataEndpoint"].clone();
        acting.apiserver.delete(OBJECTS, "west");
        let checkout = Checkout::new();
        checkout.write("ca.pem", acting.ca.pem.as_bytes());
        let cluster = |name: &str, endpoint: &str, more: &str| {
            format!(
                "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n{more}  \
                 metadata: {{endpoint: {endpoint}, ca: {{file: ca.pem}}}}\n  allow: {{addresses: [127.0.0.0/8, 203.0.113.0/24]}}\n"
            )
        };
        let own = format!("\"https://{}/metadata\"", acting.own.address);
        let components =
            "  reconciler: rendered\n  multicluster: {image: example.com/engine, apiHost: api.east.example.com}\n";
        let text =
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n"
                .to_owned()
                + &cluster("east", &own, components)
                + &cluster("west", &west.to_string(), &format!("  reconciler: {west_is}\n"));
        checkout.write("specs/mesh.yaml", text.as_bytes());
        let handed = Self { acting, checkout, instance: "east", synced: BTreeSet::new() };
        handed.checkout.engine(&["apply", "--create-keys"]).done();
        handed
    }

    fn file(&self, name: &str) -> Option<Value> {
        let bytes = std::fs::read(self.checkout.path("rendered/east").join(name)).ok()?;
        Some(serde_yaml::from_slice(&bytes).unwrap())
    }

    /// Whose pods the Service of the relay leads istiod to.
    fn relayed_by(&self) -> Value {
        self.file("service-isthmus-relay.yaml").unwrap()["spec"]["selector"]["app.kubernetes.io/name"].clone()
    }

    /// Makes the files live, as Argo CD does: what is no longer there is pruned, unless it says that it is not to be.
    fn sync(&mut self) {
        self.sync_unjudged();
        self.judge();
    }

    fn sync_unjudged(&mut self) {
        let mut wanted: BTreeMap<(&'static str, String), Value> = BTreeMap::new();
        for entry in std::fs::read_dir(self.checkout.path("rendered/east")).into_iter().flatten() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            if is_kustomization(&path) {
                continue;
            }
            let object: Value = serde_yaml::from_str(&text).unwrap();
            let list = match object["kind"].as_str().unwrap() {
                "ConfigMap" => MAPS,
                "Secret" => SECRETS,
                "Gateway" => GATEWAYS,
                "IstioMulticluster" => OBJECTS,
                _ => continue,
            };
            wanted.insert((list, name_of(&object)), object);
        }
        for ((list, name), object) in &wanted {
            let live = self.acting.apiserver.get(list, name);
            let mut after = live.clone().unwrap_or_else(|| json!({ "metadata": {} }));
            let manager =
                json!({ "manager": "argocd-controller", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {} });
            for (key, value) in object.as_object().unwrap().iter().filter(|(key, _)| *key != "metadata") {
                after[key] = value.clone();
            }
            for key in ["name", "namespace", "labels", "annotations"] {
                if !object["metadata"][key].is_null() {
                    after["metadata"][key] = object["metadata"][key].clone();
                }
            }
            after["metadata"]["labels"]["argocd.argoproj.io/instance"] = self.instance.into();
            after["metadata"]["managedFields"] = json!([manager]);
            if live.as_ref() != Some(&after) {
                self.acting.apiserver.put(list, after);
            }
        }
        for (list, name) in self.synced.iter().filter(|one| !wanted.contains_key(*one)) {
            let Some(live) = self.acting.apiserver.get(list, name) else { continue };
            let is_tracked = live["metadata"]["labels"]["argocd.argoproj.io/instance"] == self.instance;
            if is_tracked && !stays(&live) {
                self.acting.apiserver.delete(list, name);
            }
        }
        self.synced = wanted.into_keys().collect();
    }

    /// What east's link rests on is there.
    #[track_caller]
    fn judge(&self) {
        for (list, name) in OF_LINKS {
            assert!(self.acting.apiserver.get(list, name).is_some(), "{name} is gone");
        }
        let secret = self.acting.apiserver.get(SECRETS, SECRET).unwrap();
        assert!(secret["data"]["west"].is_string() && secret["metadata"]["labels"]["istio/multiCluster"] == "true");
        let deleted = self.acting.apiserver.requests().into_iter().filter(|request| request.starts_with("DELETE"));
        assert_eq!(deleted.collect::<Vec<_>>(), Vec::<String>::new());
    }

    #[track_caller]
    fn apply(&mut self) -> Ran {
        let ran = self.checkout.engine(&["apply", "--yes"]);
        assert_eq!(ran.code, 0, "{ran}");
        self.sync();
        ran
    }

    fn owners(&self) -> BTreeSet<String> {
        let owner = |(list, name): (&str, &str)| {
            self.acting.apiserver.get(list, name).unwrap()["metadata"]["labels"]["isthmus.dev/owner"].to_string()
        };
        OF_LINKS.into_iter().map(owner).collect()
    }

    fn answer(&self) -> Value {
        let map = self.acting.apiserver.get(MAPS, "isthmus-hand-over").unwrap_or_default();
        map["data"]["state.json"].as_str().map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default()
    }

    #[track_caller]
    fn answers(&self, stage: &str) {
        self.acting.until(&format!("the agent to be {stage}: {:#}", self.answer()), || self.answer()["stage"] == stage);
        self.judge();
    }

    fn reconciler(&self, from: &str, to: &str) {
        self.checkout.edit("specs/mesh.yaml", &format!("reconciler: {from}"), &format!("reconciler: {to}"));
    }

    /// The checkout as it is committed.
    fn commit(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.checkout.path(".")).arg(folder.path()).status();
        assert!(copied.unwrap().success());
        folder
    }

    /// Takes it back to a commit, by git alone, and syncs that.
    #[track_caller]
    fn revert(&mut self, commit: &tempfile::TempDir) {
        for folder in ["specs", "lock", "rendered"] {
            let path = self.checkout.path(folder);
            std::fs::remove_dir_all(&path).unwrap();
            let copied = Command::new("cp").arg("-a").arg(commit.path().join(folder)).arg(path).status();
            assert!(copied.unwrap().success());
        }
        self.sync();
    }

    /// Nothing is left to do, but for what no one syncs.
    #[track_caller]
    fn is_at_rest(&self) {
        // the first may see that marks are gone
        self.checkout.engine(&["apply"]).done();
        let ran = self.checkout.shows(&["apply"], 0, &[]);
        // west may be rendered, and is synced by no one
        let of_west =
            |line: &str| line.starts_with("… render-networks/west ") || line.starts_with("… render-secret/west/");
        let waits: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with('…') && !of_west(line)).collect();
        assert!(
            waits.is_empty()
                && (ran.stdout.contains("No changes.")
                    || ran.stdout.contains("Plan: 0 to create, 0 to update, 0 to delete, 2 waiting")),
            "{ran}"
        );
    }

    /// Another checkout and its tool take the places of these; what was there.
    fn exchange(&mut self, others: Others) -> Others {
        Others {
            checkout: std::mem::replace(&mut self.checkout, others.checkout),
            instance: std::mem::replace(&mut self.instance, others.instance),
            synced: std::mem::replace(&mut self.synced, others.synced),
        }
    }

    /// The files of east, but for their list.
    fn files(&self) -> Vec<Value> {
        let entries = std::fs::read_dir(self.checkout.path("rendered/east")).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| !is_kustomization(path));
        paths.map(|path| serde_yaml::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
    }

    /// Hands east over to its agent, which has it then.
    #[track_caller]
    fn go_to_agent(&mut self) {
        self.reconciler("rendered", "agent");
        self.apply();
        self.answers("ready");
        self.apply();
        self.answers("taken");
        self.apply();
    }

    /// Leaves east, which its agent has, to another checkout.
    #[track_caller]
    fn leave_agent(&mut self) {
        self.reconciler("agent", "external");
        self.apply();
        self.apply();
        self.answers("offered");
    }

    /// Leaves east to another checkout.
    #[track_caller]
    fn leave(&mut self) {
        self.reconciler("rendered", "external");
        self.apply();
        self.apply();
        assert_eq!(self.files(), Vec::<Value>::new());
    }

    /// A checkout of another team that declares east as its own, and west as someone else's.
    fn another(&self) -> Others {
        let checkout = Checkout::new();
        for file in ["ca.pem", "specs/mesh.yaml"] {
            checkout.write(file, &std::fs::read(self.checkout.path(file)).unwrap());
        }
        let specs = std::fs::read_to_string(checkout.path("specs/mesh.yaml")).unwrap();
        let (mesh, clusters) = specs.split_once("---\n").unwrap();
        let (east, west) = clusters.split_once("---\n").unwrap();
        let east = east.replace("reconciler: external", "reconciler: rendered");
        let west = west.replace(RENDERED_WEST, "external");
        checkout.write("specs/mesh.yaml", [mesh, "---\n", &east, "---\n", &west].concat().as_bytes());
        checkout.engine(&["keys", "new"]).done();
        Others { checkout, instance: "theirs", synced: BTreeSet::new() }
    }

    /// This checkout and others list the keys of all their engines.
    fn know_each_other(&self, others: &[&Others]) {
        let checkouts = || others.iter().map(|other| &other.checkout).chain([&self.checkout]);
        let key = |checkout: &Checkout| {
            let key = engine_key(checkout);
            json!({ "id": key["id"], "publicKey": key["pem"] })
        };
        let keys = Value::from(checkouts().map(key).collect::<Vec<_>>());
        for checkout in checkouts() {
            checkout.edit(
                "specs/mesh.yaml",
                "acceptForeignRoots: true",
                &format!("acceptForeignRoots: true, engineKeys: {keys}"),
            );
        }
    }

    #[track_caller]
    fn apply_restored(&mut self) -> Ran {
        let ran = self.checkout.engine(&["apply", "--yes", "--restore-links"]);
        assert!(ran.code == 0 && self.file(&format!("secret-{SECRET}.yaml")).is_some(), "{ran}");
        ran
    }

    /// That of the run which is live.
    fn serial(&self) -> u64 {
        let peers = self.acting.apiserver.get(MAPS, "isthmus-peers").unwrap();
        let peers: Value = serde_json::from_str(peers["data"]["peers.json"].as_str().unwrap()).unwrap();
        peers["serial"].as_u64().unwrap()
    }

    fn locked(&self) -> String {
        std::fs::read_to_string(self.checkout.path("lock/clusters/east.yaml")).unwrap()
    }
}

/// The public half of an engine's key.
fn engine_key(checkout: &Checkout) -> Value {
    let lock: Value = serde_yaml::from_slice(&std::fs::read(checkout.path("lock/mesh.yaml")).unwrap()).unwrap();
    lock["engineKeys"][0].clone()
}

fn key_of(checkout: &Checkout) -> String {
    engine_key(checkout)["id"].as_str().unwrap().to_owned()
}

/// Whether an object says that no tool is to prune it.
fn stays(object: &Value) -> bool {
    let options = object["metadata"]["annotations"]["argocd.argoproj.io/sync-options"].as_str().unwrap_or_default();
    options.split(',').any(|option| option == "Prune=false")
}

fn is_kustomization(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "kustomization.yaml")
}

/// East is rendered, west is another team's, and both are joined; and what acts as east's relay.
fn joined() -> (Handed, Replica) {
    joined_with("external")
}

/// The same with a west that is someone's.
fn joined_with(west_is: &str) -> (Handed, Replica) {
    let mut handed = Handed::declared(west_is);
    // as the relay that it is, it makes key and CA; it has no specs yet
    let replica = handed.acting.start("one");
    handed.acting.until("an identity", || handed.acting.apiserver.get(MAPS, "isthmus-identity").is_some());
    for _ in 0..4 {
        handed.checkout.engine(&["apply", "--yes"]);
        if handed.file(&format!("secret-{SECRET}.yaml")).is_some() {
            break;
        }
        handed.sync_unjudged();
    }
    handed.sync();
    handed.is_at_rest();
    (handed, replica)
}

#[test]
fn a_joined_cluster_goes_to_its_agent_and_back() {
    let (mut handed, _replica) = joined();
    let secret = handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"].clone();

    // to the agent
    handed.reconciler("rendered", "agent");
    let ran = handed.apply();
    assert!(ran.stdout.contains("the agent of `east` to be able to take its objects"), "{ran}");
    assert!(handed.file("deployment.apps-isthmus-relay.yaml").is_some());
    assert!(handed.file("deployment.apps-isthmus-agent.yaml").is_some());
    assert_eq!(handed.relayed_by(), "isthmus-relay");
    handed.answers("ready");
    assert_eq!(handed.owners(), BTreeSet::from(["\"tree\"".to_owned()]), "nothing is taken before it is given");
    assert_eq!(handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"], secret);

    let ran = handed.apply();
    assert!(handed.file(&format!("secret-{SECRET}.yaml")).is_none(), "{ran}");
    assert_eq!(handed.relayed_by(), "isthmus-agent");
    assert!(handed.file("deployment.apps-isthmus-relay.yaml").is_some(), "it goes before the Service leads elsewhere");
    assert!(handed.locked().contains("handOver:\n  from: rendered\n  to: agent"), "{}", handed.locked());
    handed.answers("taken");
    assert_eq!(handed.owners(), BTreeSet::from(["\"agent\"".to_owned()]));
    handed.acting.condition("west", "SecretRendered", "True");
    handed.acting.condition("west", "ControlPlaneSynced", "True");
    handed.apply();
    assert!(!handed.locked().contains("handOver"), "{}", handed.locked());
    assert!(handed.file("deployment.apps-isthmus-relay.yaml").is_none());
    handed.is_at_rest();
    let live = || handed.acting.apiserver.get(SECRETS, SECRET).unwrap();
    handed.acting.until("the marks to go", || live()["metadata"]["annotations"]["isthmus.dev/hand-over"].is_null());
    assert_eq!(live()["data"], secret);
    assert!(live()["metadata"]["labels"]["argocd.argoproj.io/instance"].is_null(), "the tool still tracks it");
    let shows = |handed: &Handed, gateway: &str| {
        let mesh = handed.acting.apiserver.get(MAPS, "isthmus-mesh").unwrap();
        mesh["data"]["meshNetworks"].as_str().unwrap().contains(gateway)
    };
    handed
        .acting
        .publishes("west", |shown| shown.private.ingress_gateways = vec![Gateway::new("127.0.0.200", 15443).unwrap()]);
    handed.acting.until("the agent to follow its peer", || shows(&handed, "127.0.0.200"));

    // and back
    handed.checkout.engine(&["apply", "--yes"]).done();
    handed.reconciler("agent", "rendered");
    let ran = handed.apply();
    assert!(ran.stdout.contains("the agent of `east` to leave its objects"), "{ran}");
    assert!(handed.file("deployment.apps-isthmus-relay.yaml").is_some());
    handed.answers("released");
    assert_eq!(handed.acting.apiserver.get(OBJECTS, "west").unwrap()["metadata"]["finalizers"], json!([]));
    let before = handed.commit();
    handed.apply();
    assert_eq!(handed.owners(), BTreeSet::from(["\"tree\"".to_owned()]));
    // a commit of before has none of the objects, and no tool takes them away for that
    handed.revert(&before);
    handed.apply();
    let marks = |handed: &Handed| {
        let secret = handed.file(&format!("secret-{SECRET}.yaml")).unwrap();
        let annotations = &secret["metadata"]["annotations"];
        ["argocd.argoproj.io/sync-options", "isthmus.dev/hand-over"].map(|key| annotations[key].clone())
    };
    assert_eq!(marks(&handed), [json!("Prune=false,Delete=false"), Value::Null]);
    assert_eq!(handed.relayed_by(), "isthmus-relay");
    assert!(handed.file("deployment.apps-isthmus-agent.yaml").is_some(), "it goes before the Service leads elsewhere");
    assert!(handed.file("configmap-isthmus-agent.yaml").is_none(), "it still acts");
    assert!(handed.file(&format!("secret-{SECRET}.yaml")).is_some());
    handed.apply();
    assert!(handed.file("deployment.apps-isthmus-agent.yaml").is_none());
    assert_eq!(marks(&handed), [Value::Null, Value::Null]);
    // until that is seen, no link leaves
    assert!(handed.locked().contains("handOver:\n  from: rendered\n  to: rendered"), "{}", handed.locked());
    handed.is_at_rest();
    assert!(!handed.locked().contains("handOver"), "{}", handed.locked());
    assert_eq!(handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"], secret);
    assert!(shows(&handed, "127.0.0.200"));
}

#[test]
fn an_edit_that_is_taken_back_leaves_all_as_it_was() {
    let (mut handed, _replica) = joined();
    let before = handed.file(&format!("secret-{SECRET}.yaml"));
    handed.reconciler("rendered", "agent");
    handed.apply();
    handed.answers("ready");
    handed.reconciler("agent", "rendered");
    handed.apply();
    assert_eq!(handed.file(&format!("secret-{SECRET}.yaml")), before);
    // the marks are seen to be gone
    handed.apply();
    assert!(handed.file("deployment.apps-isthmus-agent.yaml").is_none());
    assert!(!handed.locked().contains("handOver"), "{}", handed.locked());
    handed.is_at_rest();
    assert_eq!(handed.owners(), BTreeSet::from(["\"tree\"".to_owned()]));
    // what was ready then is not ready now
    handed.reconciler("rendered", "agent");
    let ran = handed.checkout.engine(&["apply", "--yes"]);
    assert!(ran.code == 0 && handed.file(&format!("secret-{SECRET}.yaml")).is_some(), "{ran}");
    let ran = handed.checkout.engine(&["apply", "--yes"]);
    assert!(ran.code == 0 && handed.file(&format!("secret-{SECRET}.yaml")).is_some(), "{ran}");
}

#[test]
fn what_was_given_is_taken_before_it_is_given_back() {
    let (mut handed, replica) = joined();
    handed.reconciler("rendered", "agent");
    handed.apply();
    handed.answers("ready");
    drop(replica);
    handed.apply();
    assert!(handed.file(&format!("secret-{SECRET}.yaml")).is_none());
    // no one acts now, and the edit is taken back
    handed.reconciler("agent", "rendered");
    let ran = handed.apply();
    assert!(ran.stdout.contains("the agent of `east` to write its objects"), "{ran}");
    let _next = handed.acting.start("two");
    handed.answers("taken");
    let ran = handed.apply();
    assert!(ran.stdout.contains("the agent of `east` to leave its objects"), "{ran}");
    handed.answers("released");
    handed.apply();
    assert_eq!(handed.owners(), BTreeSet::from(["\"tree\"".to_owned()]));
    handed.apply();
    handed.is_at_rest();
}

#[test]
fn what_is_given_again_after_a_revert_is_taken_again() {
    let (mut handed, _replica) = joined();
    handed.reconciler("rendered", "agent");
    handed.apply();
    handed.answers("ready");
    let before = handed.commit();
    handed.apply();
    handed.answers("taken");
    handed.revert(&before);
    assert_eq!(handed.owners(), BTreeSet::from(["\"tree\"".to_owned()]));
    handed.answers("ready");
    handed.apply();
    handed.answers("taken");
    assert_eq!(handed.owners(), BTreeSet::from(["\"agent\"".to_owned()]));
    handed.apply();
    handed.is_at_rest();
}

const RENDERED_WEST: &str = "rendered\n  multicluster: {image: example.com/engine, apiHost: api.west.example.com}";

/// What other teams have of east is taken from their checkout once it is seen to stay, and no object is touched.
#[test]
fn a_joined_cluster_is_left_to_another_checkout_and_taken_back() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    let secret = handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"].clone();
    let before = handed.files();

    handed.reconciler("rendered", "external");
    let ran = handed.apply();
    assert!(ran.stdout.contains("all objects of `east` to be seen with the marks by which they stay there"), "{ran}");
    assert!(ran.stdout.contains("this checkout is to leave `east` to another one"), "{ran}");
    assert_eq!(handed.files().len(), before.len() + 1, "the offer is beside what was there");
    for object in handed.files() {
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled", "{object}");
        assert!(stays(&object), "{object}");
    }
    // taken back, nothing was there
    handed.reconciler("external", "rendered");
    handed.apply();
    handed.apply();
    assert!(!handed.files().iter().any(stays) && !handed.locked().contains("handOver"), "{}", handed.locked());

    handed.reconciler("rendered", "external");
    handed.apply();
    let ran = handed.apply();
    assert!(ran.stdout.contains("nothing in `east` is managed from here"), "{ran}");
    assert_eq!(handed.files(), Vec::<Value>::new());
    assert!(!handed.checkout.path("rendered/east/kustomization.yaml").exists());
    assert!(handed.locked().contains("reconciler: external"), "{}", handed.locked());
    assert_eq!(handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"], secret);
    let wait = "another checkout to take the objects of `east`, which no one follows up meanwhile";
    handed.checkout.shows(&["apply"], 0, &["0 to create, 0 to update, 0 to delete", wait]);
    handed.checkout.shows(&["verify"], 0, &[]);

    // no one took them, and so this checkout may
    handed.reconciler("external", "rendered");
    let ran = handed.apply();
    assert!(ran.stdout.contains("takes the places of what another checkout left there"), "{ran}");
    assert!(handed.files().iter().all(stays));
    assert_eq!(handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"], secret);
    handed.apply();
    assert!(!handed.files().iter().any(stays), "{}", handed.locked());
    assert_eq!(handed.files().len(), before.len());
    handed.is_at_rest();
    assert!(!handed.locked().contains("handOver"), "{}", handed.locked());
}

/// The other checkout knows nothing of the links but what the clusters show.
#[test]
fn what_is_left_to_another_checkout_is_taken_by_it() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    let secret = handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"].clone();
    handed.leave();
    let theirs = handed.another();
    let ours = handed.exchange(theirs);
    let ran = handed.checkout.engine(&["apply", "--yes", "--restore-links"]);
    assert!(ran.code == 0 && handed.file(&format!("secret-{SECRET}.yaml")).is_some(), "{ran}");
    handed.sync();
    assert_eq!(handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"], secret);
    let theirs = handed.exchange(ours);
    let ran = handed.checkout.engine(&["apply", "--yes"]);
    assert!(ran.code == 0 && !handed.locked().contains("handOver"), "{ran}");
    handed.is_at_rest();
    // what they have is theirs
    handed.reconciler("external", "rendered");
    handed.checkout.engine(&["apply", "--yes"]).done();
    handed.checkout.shows(&["apply"], 0, &["whoever has the objects of `east` to leave them to this checkout"]);
    assert_eq!(handed.files(), Vec::<Value>::new());
    // until they leave it
    let ours = handed.exchange(theirs);
    handed.reconciler("rendered", "external");
    for _ in 0..4 {
        handed.apply();
    }
    assert_eq!(handed.files(), Vec::<Value>::new());
    handed.exchange(ours);
    let ran = handed.apply();
    assert!(ran.stdout.contains("takes the places of what another checkout left there"), "{ran}");
    handed.apply();
    handed.is_at_rest();
    assert_eq!(handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"], secret);
}

/// With its agent a cluster continues as it is, whoever has its specs.
#[test]
fn an_agent_goes_on_while_its_cluster_goes_to_another_checkout() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    handed.go_to_agent();
    handed.is_at_rest();
    let live = |handed: &Handed| handed.acting.apiserver.get(SECRETS, SECRET).unwrap();
    handed
        .acting
        .until("the marks to go", || live(&handed)["metadata"]["annotations"]["isthmus.dev/hand-over"].is_null());

    handed.reconciler("agent", "external");
    let ran = handed.apply();
    assert!(ran.stdout.contains("all objects of `east` to be seen with the marks"), "{ran}");
    assert!(handed.files().iter().all(stays));
    assert!(handed.file("deployment.apps-isthmus-relay.yaml").is_none());
    let ran = handed.apply();
    assert!(ran.stdout.contains("its agent continues"), "{ran}");
    assert_eq!(handed.files(), Vec::<Value>::new());
    assert!(
        handed.acting.apiserver.get(OBJECTS, "west").is_some()
            && handed.acting.apiserver.get(MAPS, "isthmus-agent").is_some()
    );
    assert_eq!(handed.owners(), BTreeSet::from(["\"agent\"".to_owned()]));
    let shows = |handed: &Handed, gateway: &str| {
        let mesh = handed.acting.apiserver.get(MAPS, "isthmus-mesh").unwrap();
        mesh["data"]["meshNetworks"].as_str().unwrap().contains(gateway)
    };
    let gateway = Gateway::new("127.0.0.200", 15443).unwrap();
    handed.acting.publishes("west", |shown| shown.private.ingress_gateways = vec![gateway]);
    handed.acting.until("the agent to follow its peer", || shows(&handed, "127.0.0.200"));
    handed.checkout.engine(&["apply", "--yes"]).done();

    // and back
    handed.reconciler("external", "agent");
    let ran = handed.apply();
    assert!(ran.stdout.contains("takes the places of what another checkout left there"), "{ran}");
    handed.answers("taken");
    handed.apply();
    assert!(!handed.locked().contains("handOver") && !handed.files().iter().any(stays), "{}", handed.locked());
    handed.is_at_rest();
}

/// What a checkout that knows nothing of the cluster takes is offered no more.
#[test]
fn an_agent_answers_the_checkout_that_took_its_cluster() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    handed.go_to_agent();
    handed.leave_agent();
    let theirs = handed.another();
    theirs.checkout.edit("specs/mesh.yaml", "reconciler: rendered", "reconciler: agent");
    handed.exchange(theirs);
    for _ in 0..2 {
        handed.apply();
    }
    handed.answers("taken");
    assert_eq!(handed.owners(), BTreeSet::from(["\"agent\"".to_owned()]));
    handed.apply();
    assert!(!handed.locked().contains("handOver") && !handed.files().iter().any(stays), "{}", handed.locked());
    handed.is_at_rest();
}

/// The chart gives no order, and what was offered is taken all the same.
#[test]
fn an_agent_ends_an_offer_when_someone_else_writes_its_specs() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    handed.go_to_agent();
    handed.leave_agent();
    handed.acting.runs();
    handed.answers("offered");
    // Helm leaves the annotations of others where they are
    let labels = json!({ "app.kubernetes.io/managed-by": "Helm", "isthmus.dev/mesh": "shop" });
    handed.acting.apiserver.edit(MAPS, "isthmus-agent", |map| map["metadata"]["labels"] = labels);
    handed.answers("taken");
    handed.acting.runs();
    handed.answers("taken");
    handed.reconciler("external", "agent");
    let ran = handed.apply();
    assert!(ran.stdout.contains("whoever has the objects of `east` to leave them to this checkout"), "{ran}");
}

/// With the CRD go all objects: one that someone made by hand is waited for, as joined ones are.
#[test]
fn an_object_that_no_spec_declares_keeps_the_crd_where_it_is() {
    let (mut handed, replica) = joined();
    handed.go_to_agent();
    let spec =
        json!({ "metadataEndpoint": "https://127.0.0.1:1/metadata", "metadata": { "ca": handed.acting.ca.pem } });
    handed.acting.apiserver.put(OBJECTS, json!({ "metadata": { "name": "north", "generation": 1 }, "spec": spec }));
    handed.reconciler("agent", "rendered");
    handed.apply();
    handed.answers("released");
    let wait = "IstioMulticluster `north` to be gone from `east`";
    handed.checkout.shows(&["apply"], 0, &[wait]);
    // an older agent does not say
    drop(replica);
    let answer = handed.answer();
    handed.acting.apiserver.edit(MAPS, "isthmus-hand-over", |map| {
        let mut older = answer.clone();
        older.as_object_mut().unwrap().remove("others");
        map["data"]["state.json"] = older.to_string().into();
    });
    handed.checkout.shows(&["apply"], 0, &["to leave its objects: it is older than this engine"]);
    let _replica = handed.acting.start("two");
    handed.acting.apiserver.delete(OBJECTS, "north");
    handed.acting.until("the agent to see that", || handed.answer()["others"] == json!([]));
    let ran = handed.apply();
    assert!(ran.stdout.contains("goes with its CRD and every IstioMulticluster object"), "{ran}");
    handed.apply();
    handed.is_at_rest();
}

/// A link between two clusters that other checkouts have is known here until another one has taken what was left.
#[test]
fn links_between_clusters_of_others_are_known_while_one_may_come_back() {
    let (mut handed, _replica) = joined();
    let secret = handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"].clone();
    handed.leave();
    handed.checkout.shows(
        &["apply"],
        0,
        &["another checkout to take the objects of `east`", "0 to create, 0 to update, 0 to delete"],
    );
    handed.reconciler("external", "rendered");
    let ran = handed.apply();
    assert!(ran.stdout.contains("takes the places of what another checkout left there"), "{ran}");
    handed.apply();
    handed.is_at_rest();
    assert_eq!(handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"], secret);

    handed.leave();
    // a lock of before does not have the serial with which the cluster was left
    let locked = handed.locked();
    let before: Vec<&str> = locked.lines().filter(|line| !line.starts_with("  offered: ")).collect();
    assert!(before.len() + 1 == locked.lines().count(), "{locked}");
    handed.checkout.write("lock/clusters/east.yaml", (before.join("\n") + "\n").as_bytes());
    let offer = handed.acting.apiserver.get(MAPS, "isthmus-hand-over").unwrap();
    handed.acting.apiserver.delete(MAPS, "isthmus-hand-over");
    handed.checkout.shows(&["apply"], 0, &["another checkout to take the objects of `east`"]);
    handed.acting.apiserver.put(MAPS, offer);
    let theirs = handed.another();
    let ours = handed.exchange(theirs);
    handed.apply_restored();
    handed.sync();
    handed.exchange(ours);
    let ran = handed.checkout.engine(&["apply", "--yes"]);
    assert!(ran.code == 0 && !handed.locked().contains("handOver"), "{ran}");
    for reader in ["east", "west"] {
        let links =
            std::fs::read_to_string(handed.checkout.path(&format!("lock/links/{reader}.yaml"))).unwrap_or_default();
        assert!(!links.contains("joined"), "{links}");
    }
    handed.checkout.engine(&["apply", "--yes"]).done();
    handed.checkout.shows(&["apply"], 0, &["0 to create, 0 to update, 0 to delete"]);
    handed.judge();
}

/// What was left is read as it was: a peer that is to leave waits until someone can take its secret away.
#[test]
fn a_peer_leaves_once_someone_has_the_cluster_that_was_left() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    handed.leave();
    handed.checkout.edit(
        "specs/mesh.yaml",
        "metadata: {name: west}\nspec:\n",
        "metadata: {name: west}\nspec:\n  state: leaving\n",
    );
    let wait = "another checkout to take the objects of `east`, which no one follows up meanwhile";
    for _ in 0..2 {
        let ran = handed.checkout.engine(&["apply", "--yes"]);
        assert!(ran.code == 0 && ran.stdout.contains(&format!("render-secret/west/east  waits for {wait}")), "{ran}");
    }
    handed.reconciler("external", "rendered");
    let ran = handed.apply();
    assert!(ran.stdout.contains("takes the places of what another checkout left there"), "{ran}");
    handed.apply();
    for _ in 0..2 {
        handed.checkout.engine(&["apply", "--yes"]).done();
    }
    assert!(handed.file(&format!("secret-{SECRET}.yaml")).is_none());
}

/// The offer may be lost, or pruned by hand: it is not taken for another checkout's run, and what was left is taken back as it is.
#[test]
fn an_offer_that_is_lost_is_not_taken() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    handed.leave();
    handed.acting.apiserver.delete(MAPS, "isthmus-hand-over");
    let peers = handed.acting.apiserver.get(MAPS, "isthmus-peers").unwrap();
    handed.acting.apiserver.delete(MAPS, "isthmus-peers");
    let wait = "another checkout to take the objects of `east`, which no one follows up meanwhile";
    handed.checkout.shows(&["apply"], 0, &[wait]);
    handed.acting.apiserver.put(MAPS, peers);
    handed.checkout.shows(&["apply"], 0, &[wait]);
    assert!(handed.locked().contains("handOver"), "{}", handed.locked());
    handed.reconciler("external", "rendered");
    let ran = handed.apply();
    assert!(ran.stdout.contains("takes the places of what another checkout left there"), "{ran}");
    handed.apply();
    handed.is_at_rest();
}

/// Two checkouts may take one cluster before either sees the other: whoever is overwritten is told by whom.
#[test]
fn of_two_that_take_a_cluster_one_sees_the_other() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    let (first, second) = (handed.another(), handed.another());
    handed.know_each_other(&[&first, &second]);
    let name_of_second = key_of(&second.checkout);
    handed.apply();
    // what no one leaves is contested from the first run on
    let ours = handed.exchange(first);
    let ran = handed.checkout.engine(&["plan", "--restore-links"]);
    let contested = |key: &str| format!("another checkout, whose engine has key `{key}`, wrote what is live in `east`");
    assert!(ran.stdout.contains(&contested(&key_of(&ours.checkout))), "{ran}");
    let first = handed.exchange(ours);

    handed.leave();
    let offered = handed.serial();
    let ours = handed.exchange(first);
    let ran = handed.apply_restored();
    assert!(!ran.stdout.contains("another checkout, whose"), "{ran}");
    let first = handed.exchange(second);
    let ran = handed.apply_restored();
    assert!(!ran.stdout.contains("another checkout, whose"), "{ran}");
    handed.sync();
    assert!(handed.serial() > offered);
    handed.apply();
    handed.is_at_rest();
    let second = handed.exchange(first);
    let ran = handed.checkout.engine(&["apply", "--yes"]);
    assert!(ran.code == 0 && ran.stdout.contains(&contested(&name_of_second)), "{ran}");
    assert!(handed.locked().contains("handOver"), "{}", handed.locked());
    // synced all the same, it is the other one that is told
    handed.sync();
    handed.apply();
    handed.is_at_rest();
    let first = handed.exchange(second);
    handed.checkout.shows(&["apply"], 0, &[&contested(&key_of(&first.checkout))]);
    // the first checkout sees that its cluster is taken
    handed.exchange(ours);
    handed.checkout.engine(&["apply", "--yes"]).done();
    assert!(!handed.locked().contains("handOver"), "{}", handed.locked());
}

/// Where another checkout's run is live, an absence says nothing of what this one dropped.
#[test]
fn a_link_closes_by_a_run_of_this_checkout_alone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let site = LinksCheckout::joined(runtime.handle(), &["east", "north", "west"]);
    let (joined, leaves) = ("metadata: {name: west}\nspec:\n", "metadata: {name: west}\nspec:\n  state: leaving\n");
    site.checkout.edit("specs/mesh.yaml", joined, leaves);
    site.checkout.engine(&["apply"]).done();
    site.reads("east", &["north"], 99);
    site.evidence("east", |evidence| evidence.writer = Some("theirs".parse().unwrap()));
    let links = || std::fs::read_to_string(site.checkout.path("lock/links/east.yaml")).unwrap();
    for _ in 0..2 {
        let ran = site.checkout.engine(&["apply"]);
        let wait = "render-secret/east/west  waits for the checkout whose engine has key `theirs`";
        assert!(ran.code == 0 && ran.stdout.contains(wait), "{ran}");
        assert_eq!(ran.stdout.matches("another checkout, whose engine has key `theirs`").count(), 1, "{ran}");
        assert!(links().contains("stage: leaving\n"), "{}", links());
    }
    site.evidence("east", |evidence| evidence.writer = None);
    site.checkout.engine(&["apply"]).done();
    assert!(!links().contains("stage: leaving\n"), "{}", links());
}

/// No link here tells of what another checkout has: what is live there does.
#[test]
fn a_cluster_that_another_checkout_has_is_not_rendered_over() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let site = LinksCheckout::of(runtime.handle(), &["east", "west"]);
    site.evidence("east", |evidence| evidence.writer = Some("theirs".parse().unwrap()));
    let components = "multicluster: {image: example.com/engine, apiHost: api.east.example.com}";
    let refused =
        "the checkout whose engine has key `theirs` wrote what is live in `east`, and its links there would be cut";
    for command in [["apply", "--create-keys"].as_slice(), &["apply", "--allow-delete"]] {
        let ran = site.checkout.engine(command);
        assert!(ran.code == 4 && ran.stdout.contains(refused), "{ran}");
        assert!(!site.checkout.path("rendered/east").exists(), "{ran}");
        assert!(site.checkout.path("rendered/west").exists(), "{ran}");
    }
    site.checkout.edit("specs/mesh.yaml", components, "reconciler: external");
    site.checkout.engine(&["apply"]).done();
    site.checkout.edit("specs/mesh.yaml", "reconciler: external", components);
    let ran = site.checkout.engine(&["apply"]);
    assert!(ran.code == 4 && ran.stdout.contains(refused), "{ran}");
    site.evidence("east", |evidence| evidence.writer = None);
    site.checkout.engine(&["apply"]).done();
    assert!(site.checkout.path("rendered/east").exists());
}

/// A peer that is gone for good ends its links with a cluster that was left, too.
#[test]
fn what_was_left_forgets_a_peer_that_is_lost() {
    let (mut handed, _replica) = joined();
    handed.leave();
    let (joined, lost) = ("metadata: {name: west}\nspec:\n", "metadata: {name: west}\nspec:\n  state: lost\n");
    handed.checkout.edit("specs/mesh.yaml", joined, lost);
    for _ in 0..4 {
        handed.checkout.engine(&["apply", "--yes"]);
    }
    let links = std::fs::read_to_string(handed.checkout.path("lock/links/east.yaml")).unwrap_or_default();
    assert!(!links.contains("west"), "{links}");
}

/// Of a cluster that comes from another checkout some links are not known here: those with clusters of further teams.
#[test]
fn links_with_further_teams_come_with_the_cluster_that_is_taken() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let site = LinksCheckout::of(runtime.handle(), &["east", "north", "west"]);
    for other in ["east", "west"] {
        site.is_external(other);
        site.change(other, |shown| shown.admits = true);
    }
    site.checkout.engine(&["apply", "--create-keys"]).done();
    site.checkout.engine(&["apply"]).done();
    site.live();
    for (own, others) in [("east", ["north", "west"]), ("north", ["east", "west"]), ("west", ["east", "north"])] {
        site.checkout.engine(&["apply"]).done();
        site.reads(own, &others, 9);
    }
    site.checkout.shows(&["apply"], 0, &["No changes."]);
    let of_others = "name: east}\nspec:\n  reconciler: external";
    let ours = "name: east}\nspec:\n  multicluster: {image: example.com/engine, apiHost: api.east.example.com}";
    site.checkout.edit("specs/mesh.yaml", of_others, ours);
    site.checkout.engine(&["apply"]).done();
    site.checkout.shows(&["apply"], 0, &["whoever has the objects of `east` to leave them to this checkout"]);
    let order = HandOverOrder::new(ObjectWriter::Tree, 9);
    site.evidence("east", |evidence| {
        evidence.credentials = Reported::Seen(Vec::new());
        evidence.hand_over = Some(HandOverState::to(&order, HandOverStage::Offered));
    });
    site.checkout.shows(&["apply"], 0, &["a link here with west, with which `east` is joined"]);
    let ran = site.checkout.engine(&["apply", "--restore-links"]);
    assert!(ran.code == 0 && ran.stdout.contains("takes the places of what another checkout left there"), "{ran}");
    for peer in ["north", "west"] {
        assert!(site.checkout.path(&format!("rendered/east/secret-istio-remote-secret-{peer}.yaml")).exists(), "{ran}");
    }
}

/// A copy of the checkout has the folder with which the cluster was offered, and its serial.
#[test]
fn what_is_restored_beside_an_offer_is_not_taken_for_it() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    handed.reconciler("rendered", "external");
    handed.apply();
    let copy = handed.commit();
    let offered = handed.serial();
    let given = handed.checkout.engine(&["apply", "--yes"]);
    handed.sync();
    handed.revert(&copy);
    handed.reconciler("external", "rendered");
    std::fs::remove_file(handed.checkout.path("lock/links/east.yaml")).unwrap();
    let locked = handed.locked();
    let (before, after) = locked.split_once("handOver:\n  from: rendered\n  to: external\n").unwrap();
    handed.checkout.write("lock/clusters/east.yaml", [before, after].concat().as_bytes());
    handed.apply_restored();
    handed.sync();
    assert!(handed.serial() > offered, "{given}");
    handed.apply();
    handed.is_at_rest();
}

/// A tool would leave a secret where it is that is marked: its link leaves once the marks are seen to be gone.
#[test]
fn a_link_that_is_to_leave_waits_for_the_marks_to_go() {
    let (mut handed, _replica) = joined_with(RENDERED_WEST);
    handed.reconciler("rendered", "external");
    handed.apply();
    handed.checkout.edit(
        "specs/mesh.yaml",
        "acceptForeignRoots: true",
        "acceptForeignRoots: true, topology: pairs, pairs: []",
    );
    let ran = handed.checkout.engine(&["apply", "--yes", "--allow-delete"]);
    assert!(
        ran.stdout.contains("objects of `east` to be seen without the marks by which no tool deletes them"),
        "{ran}"
    );
    assert!(handed.file(&format!("secret-{SECRET}.yaml")).is_some_and(|secret| !stays(&secret)), "{ran}");
    // that run is not synced yet
    handed.checkout.shows(&["apply", "--allow-delete"], 0, &["objects of `east` to be seen without the marks"]);
    handed.sync();
    let runs: Vec<Ran> = (0..2).map(|_| handed.checkout.engine(&["apply", "--yes", "--allow-delete"])).collect();
    assert!(handed.file(&format!("secret-{SECRET}.yaml")).is_none(), "{runs:?}");
    handed.sync_unjudged();
    assert!(handed.acting.apiserver.get(SECRETS, SECRET).is_none());
}

/// Deckhouse's module takes nothing that others made, and no one sees what it has.
#[test]
fn a_joined_cluster_goes_to_deckhouse_by_leaving_alone() {
    let (handed, _replica) = joined();
    let components =
        "  reconciler: rendered\n  multicluster: {image: example.com/engine, apiHost: api.east.example.com}\n";
    handed.checkout.edit("specs/mesh.yaml", components, "  reconciler: deckhouse\n");
    let expected = [
        "`east` is joined with `reconciler: rendered`, and the spec has `deckhouse`",
        "Deckhouse takes over nothing that others made",
    ];
    handed.checkout.refuses(&["plan"], 4, &expected);
}
