//! Direct mode on the binary: tokens in kubeconfigs, tried first, made again from the lock, renewed at half of their life.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use isthmus::demo::cluster::{Fleet, SimulatedCluster};
use isthmus::key::PrivateKey;
use isthmus::name::ClusterName;
use isthmus::server::exporter::{Published, Relation, respond};
use isthmus::server::{Body, Bound, BoxError, Certificates, Handler, Running, ServerLimits, whole};
use isthmus::token::{Expectation, Scope, verify};
use serde_json::Value;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// What the peers of a test share.
struct Shared {
    fleet: Mutex<Fleet>,
    addresses: BTreeMap<ClusterName, SocketAddr>,
    refuses: AtomicBool,
    lies: AtomicBool,
    evidence: AtomicBool,
}

/// A cluster's exporter and api-proxy on one address.
struct Cluster {
    shared: Arc<Shared>,
    name: ClusterName,
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

impl Handler for Cluster {
    async fn handle(&self, request: Request<Incoming>, _: SocketAddr) -> Result<Response<Body>, BoxError> {
        let fleet = self.shared.fleet.lock().unwrap();
        let own = &fleet.clusters[&self.name];
        let peers = own.admitted();
        let (parts, _) = request.into_parts();
        if parts.uri.path() == "/api" {
            let keys = |sub: &str, kid: Option<&str>| {
                let peer = sub.parse().ok().and_then(|uuid| peers.peer(&uuid));
                let keys = peer.into_iter().flat_map(|peer| &peer.keys).filter(|key| key.scopes.contains(&Scope::Api));
                keys.filter(|_| kid.is_none()).map(|key| key.pem.clone()).collect()
            };
            let expected = Expectation {
                audience: own.uuid.as_str(),
                scope: Scope::Api,
                now: now(),
                max_lifetime: Scope::Api.max_lifetime(),
            };
            let values: Vec<&str> =
                parts.headers.get_all("authorization").iter().map(|value| value.to_str().unwrap()).collect();
            let good = verify(&values, &expected, &keys).is_ok() && !self.shared.refuses.load(Ordering::SeqCst);
            let kind = if self.shared.lies.load(Ordering::SeqCst) { "Status" } else { "APIVersions" };
            let mut response = Response::new(whole(format!(r#"{{"kind":"{kind}"}}"#)));
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            *response.status_mut() = if good { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            return Ok(response);
        }
        let mut private = own.private(&fleet);
        private.api_host = self.shared.addresses[&self.name].to_string().parse().unwrap();
        if !self.shared.evidence.load(Ordering::SeqCst) {
            private.evidence = None;
        }
        let relation =
            |peer: &SimulatedCluster| Relation { cluster_id: peer.cluster_id(), network: Some(peer.network().clone()) };
        let published = Published {
            cluster_uuid: Some(own.uuid.clone()),
            public: Ok(own.public()),
            evidence: private.evidence.clone(),
            private: Ok(private),
            peers: Ok(peers),
            relations: fleet.clusters.values().map(|peer| (peer.uuid.clone(), relation(peer))).collect(),
            sequence: 1,
        };
        Ok(respond(&published, "/metadata", &parts, now()).map(whole))
    }
}

/// A checkout and its clusters `east` and `west`.
struct World {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    runtime: tokio::runtime::Runtime,
    running: Vec<Running>,
}

struct Outcome {
    code: i32,
    text: String,
}

fn seed(name: &str) -> [u8; 32] {
    [name.as_bytes()[0]; 32]
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl World {
    fn new(credentials: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut fleet = Fleet::default();
        let mut bound = BTreeMap::new();
        for (name, gateway) in [("east", "203.0.113.1"), ("west", "203.0.113.2")] {
            let cluster = SimulatedCluster::new(name, &seed(name), gateway).unwrap();
            let address = runtime.block_on(Bound::to("127.0.0.1:0".parse().unwrap())).unwrap();
            bound.insert(cluster.name.clone(), address);
            fleet.clusters.insert(cluster.name.clone(), cluster);
        }
        let addresses: BTreeMap<_, _> = bound.iter().map(|(name, bound)| (name.clone(), bound.address())).collect();
        let folder = tempfile::tempdir().unwrap();
        let specs = folder.path().join("specs");
        std::fs::create_dir_all(&specs).unwrap();
        let mesh = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: shop}}\nspec:\n  topology: full\n  acceptForeignRoots: true\n  \
             credentials: {{{credentials}}}\n  encryption: {{none: {{}}}}\n"
        );
        std::fs::write(specs.join("mesh.yaml"), mesh).unwrap();
        for (name, cluster) in &fleet.clusters {
            let address = addresses[name];
            std::fs::write(specs.with_file_name(format!("{name}.pem")), &cluster.serving.pem).unwrap();
            let spec = format!(
                "apiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  \
                 multicluster: {{image: registry.example/isthmus:1, apiHost: '{address}', tlsSecret: isthmus-tls}}\n  \
                 metadata: {{endpoint: 'https://{address}/metadata', ca: {{file: {name}.pem}}}}\n  \
                 allow: {{addresses: [127.0.0.0/8, 203.0.113.0/24]}}\n  key: {{file: keys/{name}.key}}\n"
            );
            std::fs::write(specs.join(format!("{name}.yaml")), spec).unwrap();
        }
        let shared = Arc::new(Shared {
            fleet: Mutex::new(fleet),
            addresses,
            refuses: AtomicBool::new(false),
            lies: AtomicBool::new(false),
            evidence: AtomicBool::new(true),
        });
        let mut running = Vec::new();
        for (name, bound) in bound {
            let (chain, key) = shared.fleet.lock().unwrap().clusters[&name].serving.serving().unwrap();
            let handler = Arc::new(Cluster { shared: shared.clone(), name: name.clone() });
            let _inside = runtime.enter();
            running.push(bound.serve(&Certificates::from_pem(&chain, &key).unwrap(), ServerLimits::default(), handler));
        }
        let world = Self { folder, shared, runtime, running };
        for name in ["east", "west"] {
            world.give_key(name, &seed(name));
        }
        world
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    fn give_key(&self, name: &str, seed: &[u8; 32]) {
        let pem = PrivateKey::generate(seed).unwrap().to_pem().unwrap();
        write_private(&self.path(&format!("keys/{name}.key")), &pem);
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_engine"))
            .arg("-C")
            .arg(self.folder.path())
            .args(arguments)
            .env_clear()
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("eyJhbGci") && !text.contains("PRIVATE KEY"), "a secret is shown in\n{text}");
        Outcome { code: output.status.code().unwrap(), text }
    }

    /// Applies, and makes everything live.
    fn turn(&self) -> Outcome {
        let outcome = self.run(&["apply", "--create-keys"]);
        self.sync();
        outcome
    }

    fn sync(&self) {
        let mut fleet = self.shared.fleet.lock().unwrap();
        for (name, cluster) in &mut fleet.clusters {
            let Ok(entries) = std::fs::read_dir(self.path(&format!("rendered/{name}"))) else { continue };
            let files = entries.map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
            });
            cluster.sync(&files.collect());
        }
    }

    fn joined(credentials: &str) -> Self {
        let world = Self::new(credentials);
        let mut last = String::new();
        for _ in 0..5 {
            last = world.turn().text;
            if world.path(EAST).exists() && world.path(WEST).exists() {
                return world;
            }
        }
        panic!("the secrets did not come:\n{last}");
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// The kubeconfig for west in east, and its token's header and claims.
    fn credential(&self) -> (Value, Value, Value) {
        let secret: Value = serde_yaml::from_str(&self.read(EAST)).unwrap();
        let text = BASE64_STANDARD.decode(secret["data"]["west"].as_str().unwrap()).unwrap();
        let kubeconfig: Value = serde_yaml::from_slice(&text).unwrap();
        let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap().to_owned();
        let part = |index: usize| {
            let part = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap();
            serde_json::from_slice(&part).unwrap()
        };
        (kubeconfig.clone(), part(0), part(1))
    }

    fn epoch(&self, reader: &str) -> i64 {
        let text = self.read(&format!("lock/links/{reader}.yaml"));
        let at = text.find("epoch: ").unwrap_or_else(|| panic!("no epoch in\n{text}"));
        text[at + 7..].split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    /// Makes the lock say that a reader's credentials were made in another hour, and the tree follow.
    fn age(&self, reader: &str, epoch: i64) {
        let path = format!("lock/links/{reader}.yaml");
        let text = self.read(&path).replace(&format!("epoch: {}", self.epoch(reader)), &format!("epoch: {epoch}"));
        std::fs::write(self.path(&path), text).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for server in self.running.drain(..) {
            self.runtime.block_on(server.stop());
        }
    }
}

const EAST: &str = "rendered/east/secret-istio-remote-secret-west.yaml";
const WEST: &str = "rendered/west/secret-istio-remote-secret-east.yaml";
const DIRECT: &str = "mode: direct, lifetime: 14d";

#[test]
fn a_credential_is_tried_before_it_is_written() {
    let world = World::new(DIRECT);
    world.shared.refuses.store(true, Ordering::SeqCst);
    let mut text = String::new();
    for _ in 0..4 {
        let outcome = world.turn();
        assert_eq!(outcome.code, 0, "{}", outcome.text);
        text = outcome.text;
    }
    assert!(text.contains("the credential to be accepted by `west`"), "{text}");
    assert!(text.contains("/api refuses the token (status 401)"), "{text}");
    assert!(!world.path(EAST).exists() && world.read("lock/links/east.yaml").contains("stage: joining"));

    world.shared.refuses.store(false, Ordering::SeqCst);
    world.shared.lies.store(true, Ordering::SeqCst);
    let text = world.turn().text;
    assert!(text.contains("answered with kind `Status`, not `APIVersions`"), "{text}");
    assert!(!world.path(EAST).exists());

    world.shared.lies.store(false, Ordering::SeqCst);
    let text = world.turn().text;
    assert!(world.path(EAST).exists() && world.path(WEST).exists(), "{text}");
    assert!(text.contains("next turn needed by 20"), "{text}");
    assert!(world.read("rendered/east/configmap-isthmus-identity.yaml").contains("identity.json"));
}

#[test]
fn a_kubeconfig_holds_what_its_peer_wants_and_is_made_again_byte_for_byte() {
    let world = World::joined(DIRECT);
    let (kubeconfig, header, claims) = world.credential();
    let fleet = world.shared.fleet.lock().unwrap();
    let (east, west) = (&fleet.clusters["east"], &fleet.clusters["west"]);
    let server = &kubeconfig["clusters"][0]["cluster"];
    assert_eq!(server["server"], format!("https://{}", world.shared.addresses[&west.name]));
    let ca = BASE64_STANDARD.decode(server["certificate-authority-data"].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(ca).unwrap(), west.serving.pem);
    assert_eq!(header, serde_json::json!({ "alg": "EdDSA" }));
    let nbf = world.epoch("east") * HOUR - 300;
    let expected = serde_json::json!({
        "aud": west.uuid, "sub": east.uuid, "iss": "d8-istio", "scope": "api", "nbf": nbf, "exp": nbf + 14 * DAY,
    });
    assert_eq!(claims, expected);
    assert!(nbf <= now() && nbf > now() - 14 * DAY / 4 - 2 * HOUR, "first epochs are spread over a quarter of a life");
    drop(fleet);

    let before = world.read(EAST);
    assert_eq!(world.run(&["plan", "--detailed-exitcode"]).code, 0, "nothing changes");
    std::fs::remove_file(world.path(EAST)).unwrap();
    let plan = world.path("plan.json");
    assert_eq!(world.run(&["plan", "--out", plan.to_str().unwrap()]).code, 0);
    let stored = std::fs::read_to_string(&plan).unwrap();
    assert!(!stored.contains("eyJ") && !stored.contains("PRIVATE KEY"), "a stored plan holds no secret");
    assert_eq!(world.run(&["apply", plan.to_str().unwrap()]).code, 0);
    assert_eq!(world.read(EAST), before);
    let status = world.run(&["status"]).text;
    let expires = jiff::Timestamp::from_second(nbf + 14 * DAY).unwrap().strftime("%Y-%m-%d").to_string();
    assert!(status.contains(&expires), "{status}");
}

#[test]
fn a_locked_plan_keeps_a_credential_whose_inputs_match_and_waits_for_a_key_otherwise() {
    let world = World::joined(DIRECT);
    std::fs::remove_dir_all(world.path("keys")).unwrap();
    let before = world.read(EAST);
    let locked = world.run(&["plan", "--locked", "--detailed-exitcode"]);
    assert_eq!(locked.code, 0, "{}", locked.text);
    assert!(!locked.text.contains("wait"), "{}", locked.text);

    world.age("east", world.epoch("east") - 1);
    let locked = world.run(&["apply", "--locked"]);
    assert_eq!(locked.code, 0, "{}", locked.text);
    assert!(locked.text.contains("render-secret/east/west  waits for key"), "{}", locked.text);
    assert_eq!(world.read(EAST), before, "the file stays");
    assert!(world.read("rendered/east/kustomization.yaml").contains("secret-istio-remote-secret-west.yaml"));
}

#[test]
fn without_its_private_key_only_what_signs_waits() {
    let world = World::new(DIRECT);
    std::fs::remove_file(world.path("keys/east.key")).unwrap();
    for _ in 0..4 {
        let first = world.turn();
        assert_eq!(first.code, 0, "{}", first.text);
        // Kustomize fails on a file that is not there
        let list: Value = serde_yaml::from_str(&world.read("rendered/east/kustomization.yaml")).unwrap();
        for file in list["resources"].as_array().unwrap() {
            assert!(world.path(&format!("rendered/east/{}", file.as_str().unwrap())).exists(), "{file}");
        }
    }
    let text = world.run(&["plan"]).text;
    assert!(text.contains("the private key of `east`, in keys/east.key"), "{text}");
    assert!(!world.path(EAST).exists() && world.path(WEST).exists());

    world.give_key("east", &[99; 32]);
    let text = world.run(&["apply"]).text;
    assert!(text.contains("the private key of `east`: the one at hand has id"), "{text}");
    assert!(!world.path(EAST).exists(), "no token is signed with another key");

    world.give_key("east", &seed("east"));
    world.turn();
    assert!(world.path(EAST).exists());
}

#[test]
fn credentials_are_renewed_at_half_of_their_life_and_only_by_apply() {
    let world = World::joined(DIRECT);
    let hour = now() / HOUR;
    // the tree and the clusters follow the lock: credentials eight days old
    for reader in ["east", "west"] {
        world.age(reader, hour - 8 * 24);
    }
    world.shared.refuses.store(true, Ordering::SeqCst);
    let refused = world.run(&["apply"]);
    assert_eq!(refused.code, 0, "{}", refused.text);
    world.sync();
    assert!(refused.text.contains("refuses the token (status 401)"), "{}", refused.text);
    assert_eq!(world.epoch("east"), hour - 8 * 24, "the old one stays");
    let (_, _, old) = world.credential();
    assert_eq!(old["nbf"], (hour - 8 * 24) * HOUR - 300);

    world.shared.refuses.store(false, Ordering::SeqCst);
    let before = world.read("lock/links/east.yaml");
    let plan = world.run(&["plan"]);
    assert!(plan.text.contains("istio-remote-secret-west"), "the plan shows the renewal\n{}", plan.text);
    assert_eq!(world.read("lock/links/east.yaml"), before, "a plan raises no epoch");
    world.turn();
    let (_, _, new) = world.credential();
    assert!(world.epoch("east") >= hour && new["nbf"] == world.epoch("east") * HOUR - 300);
    assert!(
        old["exp"].as_i64().unwrap() > new["nbf"].as_i64().unwrap(),
        "the old one outlives the start of the new one"
    );
    assert_eq!(world.run(&["plan", "--detailed-exitcode"]).code, 0, "and then nothing is due");
}
