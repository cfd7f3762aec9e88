//! A cluster that is handed over between a checkout and its agent, both of which run: the checkout's files are synced by a tool that
//! prunes into an apiserver in memory, in which the agent acts. Its links stay joined and its remote secret is never gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use isthmus::types::address::Gateway;
use serde_json::{Value, json};

use crate::acting::{Acting, GATEWAYS, OBJECTS, Replica, name_of};
use crate::support::checkout::Checkout;
use crate::support::environment::Ran;
use crate::support::live::{MAPS, SECRETS};

const SECRET: &str = "istio-remote-secret-west";
/// The objects of links, which whoever acts writes.
const OF_LINKS: [(&str, &str); 4] =
    [(MAPS, "isthmus-mesh"), (MAPS, "isthmus-peers"), (MAPS, "isthmus-routes"), (SECRETS, SECRET)];

/// A cluster, its checkout, and the tool that syncs it.
struct Handed {
    acting: Acting,
    checkout: Checkout,
    /// Objects that the tool has made.
    synced: BTreeSet<(&'static str, String)>,
}

impl Handed {
    /// East is rendered, and west is another team's.
    fn declared() -> Self {
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
                + &cluster("west", &west.to_string(), "  reconciler: external\n");
        checkout.write("specs/mesh.yaml", text.as_bytes());
        let handed = Self { acting, checkout, synced: BTreeSet::new() };
        handed.checkout.engine(&["apply", "--create-keys"]).done();
        handed
    }

    fn file(&self, name: &str) -> Option<Value> {
        let bytes = std::fs::read(self.checkout.path("rendered/east").join(name)).ok()?;
        Some(serde_yaml::from_slice(&bytes).unwrap())
    }

    /// Makes the files live, as Argo CD does: what is no longer there is pruned, unless it says that it is not to be.
    fn sync(&mut self) {
        self.sync_unjudged();
        self.judge();
    }

    fn sync_unjudged(&mut self) {
        let mut wanted: BTreeMap<(&'static str, String), Value> = BTreeMap::new();
        for entry in std::fs::read_dir(self.checkout.path("rendered/east")).unwrap() {
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
            after["metadata"]["labels"]["argocd.argoproj.io/instance"] = "east".into();
            after["metadata"]["managedFields"] = json!([manager]);
            if live.as_ref() != Some(&after) {
                self.acting.apiserver.put(list, after);
            }
        }
        for (list, name) in self.synced.iter().filter(|one| !wanted.contains_key(*one)) {
            let Some(live) = self.acting.apiserver.get(list, name) else { continue };
            let is_tracked = live["metadata"]["labels"]["argocd.argoproj.io/instance"] == "east";
            let stays = live["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false";
            if is_tracked && !stays {
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

    fn locked(&self) -> String {
        std::fs::read_to_string(self.checkout.path("lock/clusters/east.yaml")).unwrap()
    }
}

fn is_kustomization(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "kustomization.yaml")
}

/// East is rendered, west is another team's, and both are joined; and what acts as east's relay.
fn joined() -> (Handed, Replica) {
    let mut handed = Handed::declared();
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
    handed.checkout.shows(&["apply"], 0, &["No changes."]);
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
    assert_eq!(
        handed.file("service-isthmus-relay.yaml").unwrap()["spec"]["selector"]["app.kubernetes.io/name"],
        "isthmus-relay"
    );
    handed.answers("ready");
    assert_eq!(handed.owners(), BTreeSet::from(["\"tree\"".to_owned()]), "nothing is taken before it is given");
    assert_eq!(handed.acting.apiserver.get(SECRETS, SECRET).unwrap()["data"], secret);

    let ran = handed.apply();
    assert!(handed.file(&format!("secret-{SECRET}.yaml")).is_none(), "{ran}");
    assert!(handed.file("deployment.apps-isthmus-relay.yaml").is_none());
    assert!(handed.locked().contains("handOver: agent"), "{}", handed.locked());
    handed.answers("taken");
    assert_eq!(handed.owners(), BTreeSet::from(["\"agent\"".to_owned()]));
    handed.acting.condition("west", "SecretRendered", "True");
    handed.acting.condition("west", "ControlPlaneSynced", "True");
    handed.apply();
    assert!(!handed.locked().contains("handOver"), "{}", handed.locked());
    handed.checkout.shows(&["apply"], 0, &["No changes."]);
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
    assert_eq!(marks(&handed), [json!("Prune=false"), Value::Null]);
    assert!(handed.file("deployment.apps-isthmus-agent.yaml").is_none());
    assert!(handed.file(&format!("secret-{SECRET}.yaml")).is_some());
    handed.apply();
    assert!(!handed.locked().contains("handOver"), "{}", handed.locked());
    assert_eq!(marks(&handed), [Value::Null, Value::Null]);
    handed.checkout.shows(&["apply"], 0, &["No changes."]);
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
    assert!(handed.file("deployment.apps-isthmus-agent.yaml").is_none());
    assert!(!handed.locked().contains("handOver"), "{}", handed.locked());
    handed.checkout.shows(&["apply"], 0, &["No changes."]);
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
    handed.checkout.shows(&["apply"], 0, &["No changes."]);
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
    handed.checkout.shows(&["apply"], 0, &["No changes."]);
}
