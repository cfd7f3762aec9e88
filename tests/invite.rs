//! `engine invite`: what is printed, and two teams that join by nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use isthmus::simulation::cluster::{Fleet, SimulatedCluster};
use isthmus::simulation::exporters::{Exporters, SharedFleet, locked};
use isthmus::spec::SourceFile;
use isthmus::types::name::ClusterName;
use serde_json::Value;

use crate::support::checkout::Checkout;
use crate::support::environment::{Ran, TestEnvironment};
use isthmus::types::time::Timestamp;

/// Runs, alternately, until both sides have nothing to do: each learns of the other one run later.
const MOST_RUNS: usize = 8;

/// A team with a checkout and a cluster of its own.
struct Team {
    name: &'static str,
    peer: &'static str,
    environment: TestEnvironment,
}

impl Team {
    fn new(name: &'static str, peer: &'static str, exporters: &Exporters, fleet: &SharedFleet) -> Self {
        let cluster: ClusterName = name.parse().unwrap();
        let address = exporters.address(&cluster).unwrap();
        let ca = locked(fleet, |fleet| fleet.clusters[&cluster].serving.pem.clone());
        // the exporters of the other go by the real clock
        let team = Self { name, peer, environment: TestEnvironment::new().real_time() };
        team.write(
            "specs/mesh.yaml",
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n",
        );
        team.write(
            &format!("specs/clusters/{name}.yaml"),
            &format!(
                "apiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  multicluster: {{image: \"ghcr.io/isthmus-mesh/engine:0.1.0\", apiHost: api.{name}.example.com}}\n  metadata: {{endpoint: \"https://{address}/metadata\", ca: {{file: ca.pem}}}}\n  allow: {{addresses: [127.0.0.0/8, 203.0.113.0/24, 198.51.100.0/24]}}\n"
            ),
        );
        team.write("ca.pem", &ca);
        team
    }

    fn path(&self, path: &str) -> PathBuf {
        self.environment.path("checkout").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn engine(&self, arguments: &[&str]) -> Ran {
        self.environment.run_on(&self.path(""), arguments)
    }

    #[track_caller]
    fn does(&self, arguments: &[&str]) -> String {
        let ran = self.engine(arguments);
        assert_eq!(ran.code, 0, "{} {arguments:?}\n{ran}", self.name);
        ran.stdout
    }

    /// Files of the cluster's folder.
    fn rendered(&self) -> BTreeMap<String, Vec<u8>> {
        let folder = self.path("rendered").join(self.name);
        let files = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
        files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
    }

    fn secret(&self) -> String {
        format!("secret-istio-remote-secret-{}.yaml", self.peer)
    }

    /// What this team's `GitOps` tool does.
    fn sync(&self, fleet: &SharedFleet) {
        let files = self.rendered();
        locked(fleet, |fleet| fleet.clusters.get_mut(&self.name.parse::<ClusterName>().unwrap()).unwrap().sync(&files));
    }

    fn stage(&self, reader: &str, peer: &str) -> Option<String> {
        let lock: Value = serde_yaml_of(&self.path(&format!("lock/links/{reader}.yaml")))?;
        Some(lock["links"][peer]["stage"].as_str()?.to_owned())
    }
}

fn serde_yaml_of(path: &Path) -> Option<Value> {
    serde_yaml::from_slice(&std::fs::read(path).ok()?).ok()
}

#[test]
fn two_teams_join_by_their_invitations_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut fleet = Fleet::default();
    for (name, seed, gateway) in [("east", 1, "203.0.113.7"), ("west", 2, "198.51.100.7")] {
        let cluster = SimulatedCluster::new(name, &[seed; 32], gateway).unwrap();
        fleet.clusters.insert(cluster.name.clone(), cluster);
    }
    let fleet: SharedFleet = Arc::new(Mutex::new(fleet));
    let mut exporters =
        runtime.block_on(Exporters::new(fleet.clone(), || Timestamp::from(jiff::Timestamp::now()))).unwrap();
    let teams = [Team::new("east", "west", &exporters, &fleet), Team::new("west", "east", &exporters, &fleet)];

    // no one is invited to what no one has seen
    for team in &teams {
        let output = team.engine(&["invite", team.name]);
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
        assert!(output.stderr.contains(&format!("`{}` was never reached", team.name)), "{}", output.stderr);
    }
    // each brings up its own cluster, and invites the other
    for _ in 0..2 {
        for team in &teams {
            team.does(&["apply", "--create-keys"]);
            team.sync(&fleet);
            runtime.block_on(exporters.sync()).unwrap();
        }
    }
    let [east, west] = &teams;
    let phrases: Vec<String> = teams.iter().map(|team| team.does(&["invite", team.name, "--fingerprint"])).collect();
    for (team, other) in [(east, west), (west, east)] {
        let document = team.does(&["invite", team.name, "--as", "cluster"]);
        other.write(&format!("specs/clusters/{}.yaml", team.name), &document);
    }
    // before anything is fetched, each says of the other what the other says of itself
    assert_eq!(west.does(&["invite", "east", "--fingerprint"]), phrases[0]);
    assert_eq!(east.does(&["invite", "west", "--fingerprint"]), phrases[1]);

    let mut taken = 0;
    loop {
        let mut idle = true;
        for team in &teams {
            let before = team.rendered();
            team.does(&["apply"]);
            idle &= before == team.rendered();
            let joined = team.stage(team.name, team.peer).as_deref() == Some("joined");
            assert_eq!(joined, team.rendered().contains_key(&team.secret()), "{}", team.name);
            team.sync(&fleet);
            runtime.block_on(exporters.sync()).unwrap();
        }
        taken += 1;
        if idle {
            break;
        }
        assert!(taken < MOST_RUNS, "{}", east.engine(&["plan"]));
    }
    for team in &teams {
        assert_eq!(team.stage(team.name, team.peer).as_deref(), Some("joined"));
        assert!(team.rendered().contains_key(&team.secret()));
        // the other's folder and links are the other's
        assert!(!team.path("rendered").join(team.peer).exists());
        let plan = team.does(&["plan", "--detailed-exitcode"]);
        assert!(plan.contains("No changes"), "{plan}");
        assert!(!plan.contains("unproven"), "{plan}");
        let status = team.does(&["status"]);
        assert!(status.contains("proven") && !status.contains("unproven"), "{status}");
    }
    // each engine has a key of its own
    let engines: Vec<_> = teams.iter().map(|team| std::fs::read(team.path("lock/mesh.yaml"))).collect();
    assert_ne!(engines[0].as_ref().unwrap(), engines[1].as_ref().unwrap());
    // after first contact the lock says the same words as the invitation did
    assert_eq!(west.does(&["invite", "east", "--fingerprint"]), phrases[0]);
    let output = east.engine(&["invite", "west"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("`west` belongs to another checkout"), "{}", output.stderr);
}

/// A checkout of recorded metadata that is reached over https, by its lock.
pub(crate) fn reached() -> Checkout {
    let checkout = Checkout::joined();
    checkout.edit(
        "specs/mesh.yaml",
        "metadata: {endpoint: \"file://metadata/east\"}",
        "multicluster: {image: \"ghcr.io/isthmus-mesh/engine:0.1.0\", apiHost: api.east.example.com}, metadata: {endpoint: \"https://istio-metadata.east.example.com/metadata\", ca: {file: east.pem}}",
    );
    checkout.write("east.pem", include_bytes!("../fixtures/real/east/api-ca.crt"));
    checkout
}

#[test]
fn an_invitation_says_what_to_declare_and_what_to_compare() {
    let checkout = reached();
    let text = checkout.engine(&["invite", "east", "-q", "--output", "json"]).done();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["words"].as_str().unwrap().split(' ').count(), 8);
}

/// All three forms are read by our own compiler, and pin the same cluster.
#[test]
fn an_invitation_compiles_where_it_is_put() {
    let checkout = reached();
    let mesh = "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: theirs}\nspec: {acceptForeignRoots: true}\n---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {name: own}\nspec: {metadata: {endpoint: \"file://metadata/own\"}}\n";
    let mut pins = Vec::new();
    for form in [&[][..], &["--as", "cluster"], &["--for", "deckhouse"]] {
        let text = checkout.engine(&[&["invite", "east", "-q"], form].concat()).done();
        let source = |path: &str, text: &str| SourceFile { path: path.into(), bytes: text.as_bytes().to_vec() };
        let sources = [source("specs/mesh.yaml", mesh), source("specs/east.yaml", &text)];
        let (mesh, warnings) = isthmus::pipeline::compile::load(&sources, "0.1.0", &|_| None).unwrap();
        assert!(warnings.sorted().is_empty(), "{warnings:?}");
        let east = &mesh.clusters[&"east".parse::<ClusterName>().unwrap()];
        assert!(!east.is_ours());
        assert_eq!(east.endpoint.to_string(), "https://istio-metadata.east.example.com/metadata");
        pins.push(east.pin.clone());
    }
    assert_eq!(pins[0], pins[1]);
    assert!(pins[0].cluster_uuid.is_some() && pins[0].authn_key.is_some() && pins[0].root_ca.len() == 1);
    assert_eq!(pins[2], isthmus::model::mesh::Pin::default(), "Deckhouse's CRD knows no pin");
}

#[test]
fn what_cannot_be_invited_to_is_reported() {
    let checkout = reached();
    checkout.refuses(&["invite", "west"], 1, &["files of this checkout", "engine export west"]);
    checkout.refuses(&["invite", "eats"], 64, &["no spec declares a cluster `eats`; did you mean `east`?"]);
    checkout.refuses(&["invite", "east", "--for", "deckhouse", "--as", "cluster"], 64, &["Deckhouse knows none"]);
    checkout.edit(
        "specs/mesh.yaml",
        "https://istio-metadata.east.example.com/",
        "https://istio-metadata.east.example.com:8443/",
    );
    let invited = checkout.engine(&["invite", "east", "--for", "deckhouse"]).done();
    assert!(invited.contains("metadataEndpoint: https://istio-metadata.east.example.com:8443/metadata"), "{invited}");
    assert!(invited.contains("# Its port needs a CRD of April 2026 or newer"), "{invited}");
    checkout.edit("specs/mesh.yaml", "https://istio-metadata.east.example.com:8443/", "https://[fd00::7]:8443/");
    checkout.refuses(&["invite", "east", "--for", "deckhouse"], 1, &["admits no IPv6 address", "serve it by name"]);
    checkout.engine(&["invite", "east"]).done();
}
