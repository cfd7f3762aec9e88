//! `engine init` against apiservers that hold what real ones do.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::hostile_peer::{EVIL, stays_in_its_place};
use crate::support::environment::{Ran, TestEnvironment};
use crate::support::kube::Kube;

pub(crate) const EAST_ROOT: &str = include_str!("../fixtures/real/east/root-cert.pem");
pub(crate) const WEST_ROOT: &str = include_str!("../fixtures/real/west/root-cert.pem");
pub(crate) const EAST: &str = "4a0283e9-7b05-4319-b3a1-22adee3e5bfb";
pub(crate) const WEST: &str = "9b1fd2aa-4a1c-4f7e-8a53-0d6f5f1b7c02";
/// What must be nowhere: neither printed nor written.
pub(crate) const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LW9mLWEtcmVtb3RlLWNsdXN0ZXI";
const CA_KEY: &str = "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tCnNlY3JldA==";

/// Clusters, the kubeconfig that leads to them, and an empty checkout.
pub(crate) struct InitWorld {
    runtime: tokio::runtime::Runtime,
    pub(crate) environment: TestEnvironment,
    contexts: Vec<(String, String)>,
}

impl InitWorld {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut environment = TestEnvironment::new();
        environment.set("KUBECONFIG", environment.path("kubeconfig"));
        std::fs::create_dir(environment.path("checkout")).unwrap();
        Self { runtime, environment, contexts: Vec::new() }
    }

    pub(crate) fn kube(&mut self, context: &str) -> Kube {
        let kube = self.runtime.block_on(Kube::start());
        self.contexts.push((context.to_owned(), format!("http://{}", kube.address)));
        kube
    }

    /// A cluster of which the kubeconfig knows nothing.
    pub(crate) fn unlisted(&self) -> Kube {
        self.runtime.block_on(Kube::start())
    }

    /// The server of a context.
    fn server(&self, context: &str) -> &str {
        &self.contexts.iter().find(|(name, _)| name == context).unwrap().1
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.environment.path("checkout").join(path)
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        std::fs::write(self.path(path), text).unwrap();
    }

    pub(crate) fn engine(&self, arguments: &[&str]) -> Ran {
        let kubeconfig = self.environment.path("kubeconfig");
        let all = |what: &str, value: &dyn Fn(&(String, String)) -> Value| {
            let items = self.contexts.iter().map(|one| json!({ "name": one.0, what: value(one) }));
            items.collect::<Vec<_>>()
        };
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": self.contexts.first().map(|one| one.0.as_str()),
            "clusters": all("cluster", &|(_, server)| json!({ "server": server })),
            "users": all("user", &|_| json!({ "token": TOKEN })),
            "contexts": all("context", &|(name, _)| json!({ "cluster": name, "user": name })),
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let output = self.environment.run_on(&self.path(""), arguments);
        for secret in [TOKEN, CA_KEY, &BASE64.encode(TOKEN)] {
            assert!(!output.says(secret), "{output}");
            for (path, bytes) in files(&self.path("")) {
                // a file that was there before keeps what it holds
                let held = String::from_utf8_lossy(&bytes).contains(secret);
                assert!(!held || path.contains("rendered/"), "{path} holds a secret");
            }
        }
        output
    }

    #[track_caller]
    fn does(&self, code: i32, arguments: &[&str]) -> Ran {
        let output = self.engine(arguments);
        assert_eq!(output.code, code, "{arguments:?}\n{output}");
        output
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path().display().to_string(), std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

/// What `istioctl create-remote-secret --name=ID` makes.
pub(crate) fn remote_secret(name: &str, id: &str, server: &str) -> Value {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": id, "preferences": {},
        "clusters": [{ "name": id, "cluster": { "certificate-authority-data": "LS0t", "server": server } }],
        "contexts": [{ "name": id, "context": { "cluster": id, "user": id } }],
        "users": [{ "name": id, "user": { "token": TOKEN } }],
    });
    json!({
        "apiVersion": "v1", "kind": "Secret", "data": { id: BASE64.encode(kubeconfig.to_string()) },
        "metadata": {
            "name": name, "namespace": "istio-system", "labels": { "istio/multiCluster": "true" },
            "annotations": { "networking.istio.io/cluster": id },
        },
    })
}

/// A cluster with Istio as its charts install it, and an east-west gateway.
pub(crate) fn istio(kube: &Kube, id: &str, uuid: &str, root: &str, gateway: &str) {
    let network = format!("network-{id}");
    let own = if id == "Kubernetes" { json!({}) } else { json!({ "topology.istio.io/network": network }) };
    kube.put("namespaces", json!({ "metadata": { "name": "kube-system", "uid": uuid } }));
    kube.put("namespaces", json!({ "metadata": { "name": "istio-system", "uid": "x", "labels": own } }));
    kube.put(
        "deployments",
        json!({
            "metadata": {
                "name": "istiod", "namespace": "istio-system",
                "labels": { "app": "istiod", "istio.io/rev": "default", "app.kubernetes.io/version": "1.31.1" },
            },
            "spec": { "template": { "spec": { "containers": [{
                "name": "discovery", "image": "docker.io/istio/pilot:1.31.1",
                "env": [{ "name": "CLUSTER_ID", "value": id }, { "name": "POD_NAME", "valueFrom": {} }],
            }] } } },
        }),
    );
    kube.put(
        "configmaps",
        json!({ "metadata": { "name": "istio-ca-root-cert", "namespace": "istio-system" }, "data": { "root-cert.pem": root } }),
    );
    kube.put(
        "configmaps",
        json!({
            "metadata": { "name": "istio", "namespace": "istio-system" },
            "data": { "mesh": "trustDomain: cluster.local\ndefaultConfig:\n  meshId: shop\n" },
        }),
    );
    kube.put(
        "secrets",
        json!({ "metadata": { "name": "cacerts", "namespace": "istio-system" }, "data": { "ca-key.pem": CA_KEY } }),
    );
    if !gateway.is_empty() {
        kube.put(
            "services",
            json!({
                "metadata": {
                    "name": "istio-eastwestgateway", "namespace": "istio-system",
                    "labels": { "istio": "eastwestgateway", "topology.istio.io/network": network },
                },
                "spec": { "type": "LoadBalancer", "ports": [{ "name": "tls", "port": 15443 }] },
                "status": { "loadBalancer": { "ingress": [{ "ip": gateway }] } },
            }),
        );
    }
}

/// isthmus runs there already, and is reached.
fn installed(kube: &Kube, uuid: &str, host: &str) {
    let key = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real/east/authn-pub.pem"));
    let ca = include_str!("../fixtures/real/east/api-ca.crt");
    let identity = json!({
        "version": 1, "clusterUUID": uuid, "servingCA": ca,
        "keys": [{ "id": "first", "pem": key.unwrap(), "scopes": ["api", "private-multicluster"] }],
    });
    kube.put(
        "configmaps",
        json!({
            "metadata": { "name": "isthmus-identity", "namespace": "istio-system" },
            "data": { "identity.json": identity.to_string() },
        }),
    );
    for name in ["isthmus-exporter", "isthmus-proxy"] {
        kube.put(
            "services",
            json!({
                "metadata": { "name": name, "namespace": "istio-system", "labels": { "app.kubernetes.io/name": name } },
                "spec": { "type": "LoadBalancer" },
                "status": { "loadBalancer": { "ingress": [{ "hostname": format!("{name}.{host}") }] } },
            }),
        );
    }
}

/// Every place that a run's findings name, as `file:line`.
fn places(stderr: &str) -> Vec<String> {
    let lines = stderr.lines().filter_map(|line| line.trim_start().strip_prefix("--> "));
    let mut places: Vec<String> = lines.map(|place| place.rsplit_once(':').unwrap().0.to_owned()).collect();
    places.sort();
    places
}

pub(crate) fn two_clusters() -> (InitWorld, Kube, Kube) {
    let mut world = InitWorld::new();
    let east = world.kube("admin@east");
    let west = world.kube("gke_shop_europe-west1_west");
    istio(&east, "east", EAST, EAST_ROOT, "203.0.113.7");
    istio(&west, "Kubernetes", WEST, WEST_ROOT, "");
    (world, east, west)
}

/// Paths of a checkout that `engine init` wrote, relative to it.
pub(crate) fn written() -> Vec<String> {
    let (world, ..) = two_clusters();
    world.does(0, &["init"]);
    let root = format!("{}/", world.path("").display().to_string().trim_end_matches('/'));
    files(&world.path("")).into_keys().map(|path| path.strip_prefix(&root).unwrap().to_owned()).collect()
}

#[test]
fn editors_find_the_schema_of_each_document() {
    let (world, ..) = two_clusters();
    world.does(0, &["init", "--accept-foreign-roots"]);
    for (path, bytes) in files(&world.path("specs")) {
        let text = String::from_utf8(bytes).unwrap();
        let schema = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
        let schema = std::fs::read(Path::new(&path).parent().unwrap().join(schema)).unwrap();
        let schema: Value = serde_json::from_slice(&schema).unwrap();
        assert_eq!(schema, isthmus::spec::schema(), "{path}");
        if path.ends_with("mesh.yaml") {
            let document: Value = serde_yaml::from_str(&text).unwrap();
            assert!(jsonschema::draft202012::new(&schema).unwrap().is_valid(&document), "{text}");
        }
    }
    // one of another version is left alone, and said
    world.write("spec.schema.json", "{}");
    std::fs::remove_dir_all(world.path("specs")).unwrap();
    let output = world.does(0, &["init"]);
    assert!(
        output.stderr.contains("note: spec.schema.json is there already; `engine schema >spec.schema.json`"),
        "{output}"
    );
    assert_eq!(world.text("spec.schema.json"), "{}");
}

#[test]
fn what_can_be_found_is_written_and_what_cannot_is_named_by_its_line() {
    let (world, ..) = two_clusters();
    let output = world.does(0, &["init"]);
    let servers = [world.server("admin@east"), world.server("gke_shop_europe-west1_west")];
    let stable = |text: &str| text.replace(servers[0], "http://EAST").replace(servers[1], "http://WEST");
    insta::assert_snapshot!("first_run", format!("{}\n{}", output.stdout, output.stderr));
    insta::assert_snapshot!("mesh", world.text("specs/mesh.yaml"));
    insta::assert_snapshot!("east", stable(&world.text("specs/clusters/east.yaml")));
    insta::assert_snapshot!("west", stable(&world.text("specs/clusters/west.yaml")));

    // the findings of a plan are exactly the lines that init asked for
    let fill_in: Vec<String> = ["specs/clusters/east.yaml", "specs/clusters/west.yaml", "specs/mesh.yaml"]
        .iter()
        .flat_map(|path| {
            let lines = world.text(path).lines().map(str::to_owned).collect::<Vec<_>>();
            let asked = lines.into_iter().enumerate().filter(|(_, line)| line.contains("# fill in: "));
            asked.map(|(at, _)| format!("{path}:{}", at + 1)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(fill_in.len(), 5, "endpoint and api host of both, and the consent");
    let output = world.does(1, &["plan"]);
    assert_eq!(places(&output.stderr), fill_in, "{}", output.stderr);

    // filled in, it compiles, and nothing more is said
    for name in ["east", "west"] {
        let path = format!("specs/clusters/{name}.yaml");
        let text = world.text(&path);
        let text = text.replace("apiHost: #", &format!("apiHost: api.{name}.example.com #"));
        world.write(
            &path,
            &text.replace("endpoint: #", &format!("endpoint: https://metadata.{name}.invalid/metadata #")),
        );
    }
    world.write("specs/mesh.yaml", &world.text("specs/mesh.yaml").replace("Roots: false", "Roots: true"));
    let output = world.does(0, &["plan"]);
    assert!(
        output.stdout.contains("render-components/east") && !output.stderr.contains("-->"),
        "{}{}",
        output.stdout,
        output.stderr
    );
}

#[test]
fn where_isthmus_runs_already_nothing_is_left_to_fill_in() {
    let mut world = InitWorld::new();
    let east = world.kube("east");
    istio(&east, "east", EAST, EAST_ROOT, "203.0.113.7");
    installed(&east, EAST, "east.invalid");
    let output = world.does(0, &["init", "--context", "east", "--mesh", "market", "--accept-foreign-roots"]);
    assert!(!output.stderr.contains("fill in"), "{}", output.stderr);
    insta::assert_snapshot!(
        "installed",
        world.text("specs/clusters/east.yaml").replace(world.server("east"), "http://EAST")
    );
    let mesh = world.text("specs/mesh.yaml");
    assert!(mesh.contains("name: market # --mesh\n") && mesh.contains("meshID: shop # meshId of east\n"), "{mesh}");
    let output = world.does(0, &["plan"]);
    assert!(!output.stderr.contains("-->"), "{}", output.stderr);
}

#[test]
fn nothing_is_ever_overwritten() {
    let (world, ..) = two_clusters();
    world.write("specs/clusters/old.yaml", "# mine\n");
    let before = files(&world.path(""));
    let output = world.does(4, &["init"]);
    assert!(output.stderr.contains("specs/clusters/old.yaml; nothing was written"), "{}", output.stderr);
    assert_eq!(files(&world.path("")), before);
    std::fs::remove_file(world.path("specs/clusters/old.yaml")).unwrap();
    world.write(".gitignore", "target\n");
    world.does(0, &["init"]);
    assert_eq!(world.text(".gitignore"), "target\n");
    assert!(world.text(".gitattributes").contains("/rendered/**"));
    world.does(4, &["init"]);
}

#[test]
fn a_context_that_cannot_be_reached_costs_only_itself() {
    let (mut world, east, west) = two_clusters();
    world.contexts.push(("gone".to_owned(), "http://127.0.0.1:1".to_owned()));
    let output = world.does(3, &["init", "--output", "json"]);
    let json: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(json["unreachable"][0]["context"], "gone");
    assert!(output.stderr.contains("cannot read the cluster of context `gone`"), "{}", output.stderr);
    assert_eq!(json["written"], json!(["specs/clusters/east.yaml", "specs/clusters/west.yaml", "specs/mesh.yaml"]));
    assert_eq!(json["clusters"][0]["clusterUUID"], EAST);
    assert_eq!(json["fillIn"].as_array().unwrap().len(), 5);

    // rights that are missing cost what they hide
    std::fs::remove_dir_all(world.path("specs")).unwrap();
    east.refuse("secrets");
    east.refuse("istio-ca-root-cert");
    let output = world.does(0, &["init", "--context", "admin@east"]);
    let text = world.text("specs/clusters/east.yaml");
    assert!(text.contains("# rootCA: not found: 403 the fake says no"), "{text}");
    assert!(output.stderr.contains("remote secrets of `east` could not be listed: 403"), "{}", output.stderr);

    // where no one can be asked, nothing is written
    std::fs::remove_dir_all(world.path("specs")).unwrap();
    west.refuse("deployments");
    let output = world.does(1, &["init", "--context", "gone", "--context", "gke_shop_europe-west1_west"]);
    assert!(
        output.stderr.contains("403 the fake says no") && output.stderr.contains("nothing was written"),
        "{}",
        output.stderr
    );
    assert!(!world.path("specs").exists());
    let output = world.does(64, &["init", "--context", "admin@eats"]);
    assert!(output.stderr.contains("did you mean `admin@east`?"), "{}", output.stderr);
    world.does(6, &["init", "--kubeconfig", "/nowhere/at/all"]);
}

#[test]
fn an_empty_cluster_and_a_second_context_are_no_clusters() {
    let (mut world, ..) = two_clusters();
    world.kube("empty");
    let server = world.server("admin@east").to_owned();
    world.contexts.push(("viewer@east".to_owned(), server));
    let output = world.does(0, &["init"]);
    assert!(output.stderr.contains("context `empty`: no istiod there"), "{}", output.stderr);
    assert!(output.stderr.contains("context `viewer@east` leads to the cluster of `admin@east`"), "{}", output.stderr);
    assert_eq!(std::fs::read_dir(world.path("specs/clusters")).unwrap().count(), 2);
}

#[test]
fn hand_made_secrets_keep_their_cluster_ids_and_are_taken_over_in_a_stated_order() {
    let (world, east, west) = two_clusters();
    let server = |context: &str| world.server(context).to_owned();
    // as istioctl names them, and under a name of their own
    east.put(
        "secrets",
        remote_secret("istio-remote-secret-prod-west", "prod-west", &server("gke_shop_europe-west1_west")),
    );
    west.put("secrets", remote_secret("reach-east", "east", "https://another.name.of.east:6443"));
    east.put("secrets", remote_secret("istio-remote-secret-far", "far", "https://far.example.com"));
    let output = world.does(0, &["init", "--adopt", "--accept-foreign-roots"]);
    // west is called what east calls it
    let text = world.text("specs/clusters/prod-west.yaml");
    assert!(text.contains("  clusterID: prod-west # data key of the remote secrets of admin@east\n"), "{text}");
    assert!(
        text.contains("istio-system/reach-east, key east, leads to east: it is taken from istiod just before"),
        "{text}"
    );
    assert!(
        world.text("specs/clusters/east.yaml").contains("clusterID: east # data key of the remote secrets of gke_")
    );
    for arguments in [
        "`east` reads `prod-west`: nothing to do by hand.",
        "kubectl --context gke_shop_europe-west1_west -n istio-system label secret reach-east istio/multiCluster-\n",
        "kubectl --context gke_shop_europe-west1_west -n istio-system delete secret reach-east",
        "note: remote secret `istio-remote-secret-far` of `east` stays as it is: it leads to `far`, which no context here does",
    ] {
        assert!(output.stderr.contains(arguments), "{arguments}\n{}", output.stderr);
    }
    let label = output.stderr.find("label secret").unwrap();
    assert!(label < output.stderr.find("delete secret").unwrap());
    assert!(output.stderr.find("until nothing waits").unwrap() < label, "first all else is live");
}

/// Links that exist are the links that are wanted, when not all do.
#[test]
fn pairs_are_what_is_linked_by_hand() {
    let (mut world, east, _west) = two_clusters();
    let north = world.kube("north");
    istio(&north, "north", "0f4c1a52-9c70-4d0f-9d5e-6a1b0c2d3e4f", WEST_ROOT, "192.0.2.7");
    let server = world.server("north").to_owned();
    east.put("secrets", remote_secret("istio-remote-secret-north", "north", &server));
    world.does(0, &["init", "--adopt"]);
    assert!(world.text("specs/mesh.yaml").contains("  topology: pairs\n  pairs:\n  - [east, north]\n"));
}

/// A remote secret that lies in the tree is given to the mesh: listed until ours takes its place, then replaced.
#[test]
fn a_hand_made_secret_in_the_tree_stays_until_ours_takes_its_place() {
    let (world, east, west) = two_clusters();
    let secret = |server: &str| remote_secret("istio-remote-secret-west", "west", server);
    let server = world.server("gke_shop_europe-west1_west").to_owned();
    east.put("secrets", secret(&server));
    west.put("secrets", remote_secret("istio-remote-secret-east", "east", world.server("admin@east")));
    world.write("rendered/east/by-hand.yaml", &serde_yaml::to_string(&secret(&server)).unwrap());
    world.does(0, &["init", "--adopt", "--accept-foreign-roots", "--mesh", "shop"]);
    assert!(!world.path("rendered/east/by-hand.yaml").exists());
    let path = "rendered/east/secret-istio-remote-secret-west.yaml";
    let given = world.text(path);
    assert!(given.contains("isthmus.dev/adopt: shop") && !given.contains("managed-by"), "{given}");

    // from here on the clusters are those of the fixtures, read from files
    for name in ["east", "west"] {
        for document in ["public/public.json", "private/multicluster.json"] {
            let real = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/real/{name}/metadata/{document}"));
            world.write(&format!("metadata/{name}/{document}"), &std::fs::read_to_string(real).unwrap());
        }
        let path = format!("specs/clusters/{name}.yaml");
        let text = world.text(&path).replace("apiHost: #", &format!("apiHost: api.{name}.example.com #"));
        let text = text.replace("endpoint: #", &format!("endpoint: file://metadata/{name} #"));
        let text = text.replace("\n  istio:\n", "\n  istio:\n    standardMeshNetworks: none\n");
        // the fixtures' own UUIDs
        let pins = text.lines().filter(|line| !line.contains("clusterUUID")).map(|line| format!("{line}\n"));
        world.write(&path, &pins.collect::<String>());
    }
    world.write("later.txt", &world.text("specs/clusters/west.yaml"));
    world.write(
        "specs/clusters/west.yaml",
        &world.text("later.txt").replace("file://metadata/west", "file://metadata/later"),
    );
    world.does(0, &["apply"]);
    assert_eq!(world.text(path), given, "nothing takes its place yet");
    let listed = world.text("rendered/east/kustomization.yaml");
    assert!(listed.contains("- secret-istio-remote-secret-west.yaml\n"), "{listed}");
    world.does(0, &["apply", "--locked"]);
    assert_eq!(world.text("rendered/east/kustomization.yaml"), listed);

    world.write("specs/clusters/west.yaml", &world.text("later.txt"));
    let output = world.does(0, &["plan"]);
    assert!(output.stdout.contains("~ Secret istio-remote-secret-west"), "{}", output.stdout);
    world.does(0, &["apply"]);
    let ours = world.text(path);
    assert!(ours.contains("isthmus-relay.istio-system.svc") || ours.contains("managed-by: isthmus"), "{ours}");
    assert!(ours.contains("  west: ") && !ours.contains("isthmus.dev/adopt"), "{ours}");
    assert!(world.text("rendered/east/kustomization.yaml").contains("- secret-istio-remote-secret-west.yaml\n"));
}

/// Where Deckhouse's own module acts, nothing of ours is deployed.
#[test]
fn a_deckhouse_cluster_stays_deckhouses() {
    let mut world = InitWorld::new();
    let kube = world.kube("main");
    kube.put("namespaces", json!({ "metadata": { "name": "kube-system", "uid": EAST } }));
    let labels = json!({ "app": "istiod", "istio.io/rev": "v1x25" });
    kube.put(
        "deployments",
        json!({ "metadata": { "name": "istiod-v1x25", "namespace": "d8-istio", "labels": labels } }),
    );
    let mut secret = remote_secret("istio-remote-secret-far", "far", "https://api.far.example.com");
    secret["metadata"]["namespace"] = json!("d8-istio");
    secret["metadata"]["labels"]["heritage"] = json!("deckhouse");
    kube.put("secrets", secret);
    let output = world.does(0, &["init", "--adopt"]);
    assert!(output.stderr.contains("stays as it is: it belongs to `deckhouse`"), "{}", output.stderr);
    let text = world.text("specs/clusters/main.yaml");
    insta::assert_snapshot!("deckhouse", text.replace(world.server("main"), "http://MAIN"));
    let text = text.replace("endpoint: #", "endpoint: https://istio-metadata.main.invalid/metadata #");
    world.write("specs/clusters/main.yaml", &text);
    world.does(0, &["plan"]);
}

/// Labels of istiod beside those that it is found by.
fn labelled(kube: &Kube, labels: &Value) {
    let mut own = json!({ "app": "istiod", "istio.io/rev": "default", "app.kubernetes.io/version": "1.31.1" });
    own.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
    let env = json!([{ "name": "CLUSTER_ID", "value": "east" }]);
    let container = json!({ "name": "discovery", "image": "docker.io/istio/pilot:1.31.1", "env": env });
    kube.put(
        "deployments",
        json!({
            "metadata": { "name": "istiod", "namespace": "istio-system", "labels": own },
            "spec": { "template": { "spec": { "containers": [container] } } },
        }),
    );
    let mesh = "trustDomain: cluster.local\ncaCertificates:\n- pem: of-somebody-else\n";
    kube.put(
        "configmaps",
        json!({ "metadata": { "name": "istio", "namespace": "istio-system" }, "data": { "mesh": mesh } }),
    );
}

#[test]
fn the_values_are_for_whoever_installed_istio() {
    // what charts set, what istioctl sets on what it makes of them, and what the Sail operator sets
    let chart = json!({
        "install.operator.istio.io/owning-resource": "unknown", "operator.istio.io/component": "Pilot",
        "app.kubernetes.io/managed-by": "Helm",
    });
    let with = |more: Value| {
        let mut labels = chart.clone();
        labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        labels
    };
    let istioctl = json!({ "install.operator.istio.io/owning-resource": "installed-state", "operator.istio.io/managed": "Reconcile" });
    for (labels, config) in [
        (chart.clone(), "config: helmValues"),
        (with(istioctl), "config: istioOperator"),
        (with(json!({ "managed-by": "sail-operator" })), "config: sail"),
    ] {
        let mut world = InitWorld::new();
        let east = world.kube("east");
        istio(&east, "east", EAST, EAST_ROOT, "203.0.113.7");
        labelled(&east, &labels);
        world.does(0, &["init"]);
        let text = world.text("specs/clusters/east.yaml");
        assert!(text.contains(config), "{labels}\n{text}");
    }
}

#[test]
fn a_network_is_taken_from_the_gateway_or_from_what_is_injected() {
    let mut world = InitWorld::new();
    let (east, west) = (world.kube("east"), world.kube("west"));
    istio(&east, "east", EAST, EAST_ROOT, "203.0.113.7");
    istio(&west, "west", WEST, WEST_ROOT, "");
    let plain = json!({ "metadata": { "name": "istio-system", "uid": "x" } });
    east.put("namespaces", plain.clone());
    west.put("namespaces", plain);
    let values = json!({ "global": { "network": "inner-west" } }).to_string();
    west.put(
        "configmaps",
        json!({ "metadata": { "name": "istio-sidecar-injector", "namespace": "istio-system" }, "data": { "values": values } }),
    );
    world.does(0, &["init"]);
    let (east, west) = (world.text("specs/clusters/east.yaml"), world.text("specs/clusters/west.yaml"));
    let by_gateway =
        "network: network-east # label topology.istio.io/network of Service istio-system/istio-eastwestgateway";
    assert!(east.contains(by_gateway), "{east}");
    assert!(west.contains("network: inner-west # global.network of ConfigMap istio-sidecar-injector"), "{west}");
}

#[test]
fn a_secret_that_a_tool_keeps_is_not_taken_over() {
    let (world, east, _west) = two_clusters();
    let server = world.server("gke_shop_europe-west1_west").to_owned();
    let mut secret = remote_secret("west", "west", &server);
    secret["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = "mesh:/Secret:istio-system/west".into();
    east.put("secrets", secret);
    let output = world.does(0, &["init"]);
    assert!(
        output.stderr.contains("remote secret `west` of `east` stays as it is: it belongs to `Argo CD`"),
        "{output}"
    );
}

#[test]
fn every_clone_has_the_bytes_that_were_written() {
    let (world, ..) = two_clusters();
    world.does(0, &["init"]);
    let git = |arguments: &[&str]| world.environment.git(&world.path(""), arguments);
    git(&["init", "-q"]);
    for path in ["lock/mesh.yaml", "rendered/east/service-a.yaml", "values/east/helm-values.yaml"] {
        world.write(path, "a: 1\nb: 2\n");
    }
    git(&["add", "."]);
    git(&["commit", "-qm", "mesh"]);
    let clone = world.environment.path("clone");
    world.environment.git(&world.path(""), &["-c", "core.autocrlf=true", "clone", "-q", ".", clone.to_str().unwrap()]);
    for path in ["lock/mesh.yaml", "rendered/east/service-a.yaml", "values/east/helm-values.yaml"] {
        assert_eq!(std::fs::read_to_string(clone.join(path)).unwrap(), "a: 1\nb: 2\n", "{path}");
    }
    assert!(std::fs::read_to_string(clone.join("specs/mesh.yaml")).unwrap().contains("\r\n"), "git was told to");
}

/// What a cluster, or whoever wrote the kubeconfig, puts into a name, a label or a value stays where it is: in what is printed and in
/// the specs that are written.
#[test]
fn a_hostile_cluster_writes_no_line_of_its_own() {
    let (mut world, east, _west) = two_clusters();
    let evil = format!("{EVIL}\u{2028}x: FORGED\u{2029}y: FORGED");
    let server = world.server("admin@east").to_owned();
    world.contexts.push((evil.clone(), server));
    world.contexts.push((format!("{evil}2"), format!("http://{evil}")));
    let mut secret = remote_secret("west", &evil, &format!("https://{evil}"));
    secret["metadata"]["name"] = evil.clone().into();
    east.put("secrets", secret);
    let mut owned = remote_secret("owned", "west", "https://w");
    owned["metadata"]["labels"]["app.kubernetes.io/managed-by"] = evil.clone().into();
    east.put("secrets", owned);
    labelled(&east, &json!({ "app.kubernetes.io/version": format!("1.{evil}"), "istio.io/rev": evil }));
    let mesh = json!({ "trustDomain": evil, "defaultConfig": { "meshId": evil } }).to_string();
    east.put(
        "configmaps",
        json!({ "metadata": { "name": "istio", "namespace": "istio-system" }, "data": { "mesh": mesh, "meshNetworks": evil } }),
    );
    east.put(
        "services",
        json!({
            "metadata": {
                "name": evil, "namespace": "istio-system",
                "labels": { "istio": "eastwestgateway", "topology.istio.io/network": evil },
            },
            "spec": { "type": "LoadBalancer", "ports": [{ "name": "tls", "port": 15443 }] },
            "status": { "loadBalancer": { "ingress": [{ "hostname": evil }] } },
        }),
    );
    for arguments in [&["init"][..], &["init", "--output", "json"], &["init", "--adopt"]] {
        let output = world.engine(arguments);
        assert!(output.code == 0 || output.code == 3, "{output}");
        if arguments.contains(&"json") {
            // data for programs: what it says is what it is, as one value
            let json: Value = serde_json::from_str(&output.stdout).unwrap();
            assert!(json["clusters"].as_array().unwrap().iter().any(|one| one["context"] == evil), "{json}");
            stays_in_its_place("init", &output.stderr);
        } else {
            stays_in_its_place("init", &format!("{}{}", output.stdout, output.stderr));
        }
        for (path, bytes) in files(&world.path("specs")) {
            let text = String::from_utf8(bytes).unwrap();
            stays_in_its_place(&path, &text);
            assert!(!text.lines().any(|line| line.starts_with("x: FORGED") || line.starts_with("y: FORGED")), "{text}");
        }
        let plan = world.engine(&["plan"]);
        stays_in_its_place("plan", &format!("{}{}", plan.stdout, plan.stderr));
        std::fs::remove_dir_all(world.path("specs")).unwrap();
    }
}

#[test]
fn a_way_of_running_istio_that_cannot_be_joined_is_named() {
    let (mut world, east, _west) = two_clusters();
    let env = json!([{ "name": "CLUSTER_ID", "value": "east" }, { "name": "PILOT_ENABLE_AMBIENT", "value": "true" }]);
    let container = json!({ "name": "discovery", "image": "istio/pilot:1.31.1", "env": env });
    east.put(
        "deployments",
        json!({
            "metadata": { "name": "istiod", "namespace": "istio-system", "labels": { "app": "istiod" } },
            "spec": { "template": { "spec": { "containers": [container] } } },
        }),
    );
    let remote = world.kube("remote");
    let annotations = json!({ "topology.istio.io/controlPlaneClusters": "east" });
    remote.put("namespaces", json!({ "metadata": { "name": "istio-system", "uid": "r", "annotations": annotations } }));
    let output = world.does(0, &["init"]);
    assert!(
        output.says("`east`: Istio runs in ambient mode") && output.says("`root-cert.pem` of the Secret `cacerts`"),
        "{output}"
    );
    assert!(output.says("context `remote`: the istiod of `east` acts for this cluster"), "{output}");
    assert!(world.text("specs/clusters/east.yaml").contains("# Istio runs in ambient mode"));
}
