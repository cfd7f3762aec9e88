//! The api-proxy before a real kube-apiserver: what a peer may do of all that the apiserver offers, and what happens when
//! peers go and when the apiserver does.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use isthmus::types::key::PrivateKey;
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Claims, ISSUER, Scope, mint};
use reqwest::{Certificate, Client, Method, StatusCode};
use serde_json::{Value, json};

use super::environment::TestEnvironment;
use super::{files_of_bed, free_index, one_at_a_time, script, succeed};

const OWN: &str = "7d0c6f0a-8f59-4c4c-9a86-54b5c1a6e5a1";
const EAST: &str = "1b0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31";
const NORTH: &str = "3c1b88f1-6d70-4b76-8e32-1f7b2a9cad42";

/// A cluster without istiod, and an api-proxy with the rights that the engine renders.
struct ProxySite {
    dir: tempfile::TempDir,
    bin: PathBuf,
    environment: TestEnvironment,
    proxy: Option<Child>,
    address: String,
    probes: String,
    client: Client,
}

impl ProxySite {
    fn start() -> Option<Self> {
        let bin = files_of_bed()?;
        let dir = tempfile::tempdir().unwrap();
        let index = free_index(1);
        succeed(
            script("bed")
                .env("ISTHMUS_TESTBED_OWNER", std::process::id().to_string())
                .args(["up", "west", &index.to_string()])
                .arg(dir.path()),
        );
        let client = Client::builder().build().unwrap();
        let environment = TestEnvironment::new().real_time();
        let (address, probes) = (String::new(), String::new());
        let mut site = Self { dir, bin, environment, proxy: None, address, probes, client };
        site.rights();
        site.certificate();
        site.write_peers(&[EAST, NORTH]);
        site.run();
        Some(site)
    }

    fn kubectl(&self) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut kubectl = Command::new("env");
        kubectl
            .arg(format!("PATH={path}:{}", self.bin.display()))
            .args(["kubectl", "--kubeconfig"])
            .arg(self.dir.path().join("west/admin.kubeconfig"));
        kubectl
    }

    fn apply(&self, objects: &Value) {
        let file = self.dir.path().join("objects.json");
        fs::write(&file, objects.to_string()).unwrap();
        succeed(self.kubectl().args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(&file));
    }

    /// Applies what the engine renders for the proxy, with the users of this test.
    fn rights(&self) {
        let checkout = self.dir.path().join("checkout");
        fs::create_dir_all(checkout.join("specs")).unwrap();
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real");
        succeed(Command::new("cp").arg("-r").arg(fixtures).arg(checkout.join("recorded")));
        fs::write(checkout.join("specs/mesh.yaml"), super::SPECS).unwrap();
        super::apply_until_settled(&checkout);
        let rendered = checkout.join("rendered/west");
        // istio-system may be there from the bed already
        drop(self.kubectl().args(["create", "namespace", "istio-system"]).output());
        for entry in fs::read_dir(&rendered).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let is_right = name.contains("rbac.authorization.k8s.io") || name.starts_with("serviceaccount");
            if is_right && (name.contains("proxy") || name.contains("peers") || name.contains("impersonate")) {
                let text = fs::read_to_string(entry.path()).unwrap();
                let public: Value = super::read_json(&checkout.join("recorded/east/metadata/public/public.json"));
                let theirs = format!("istio-peer:{}", public["clusterUUID"].as_str().unwrap());
                // an item of a list of users, or a subject of a binding
                let next = if name.starts_with("clusterrolebinding") {
                    "- apiGroup: rbac.authorization.k8s.io\n  kind: User\n  name: "
                } else {
                    "  - "
                };
                let ours = format!("istio-peer:{EAST}\n{next}istio-peer:{NORTH}");
                let file = self.dir.path().join(&name);
                fs::write(&file, text.replace(&theirs, &ours)).unwrap();
                succeed(self.kubectl().args(["apply", "--server-side", "-f"]).arg(file));
            }
        }
        self.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "isthmus-identity", "namespace": "istio-system" },
            "data": { "identity.json": json!({ "version": 1, "clusterUUID": OWN, "trustDomain": "west.example" }).to_string() },
        }));
        let token = succeed(self.kubectl().args(["create", "token", "isthmus-proxy", "-n", "istio-system"]));
        fs::write(self.dir.path().join("token"), token.trim()).unwrap();
        let admin = succeed(self.kubectl().args(["config", "view", "--raw", "-o", "json"]));
        let mut config: Value = serde_json::from_str(&admin).unwrap();
        config["users"][0]["user"] = json!({ "tokenFile": self.dir.path().join("token") });
        fs::write(self.dir.path().join("proxy.kubeconfig"), config.to_string()).unwrap();
    }

    fn certificate(&self) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(self.dir.path().join("tls.crt"), made.cert.pem()).unwrap();
        fs::write(self.dir.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    }

    fn write_peers(&self, peers: &[&str]) {
        let entry = |uuid: &&str| {
            let pem = key_of(uuid).public().to_pem();
            json!({ "name": name_of(uuid), "clusterUUID": uuid, "namespaces": ["*"], "istioNamespace": "istio-system",
                "keys": [{ "id": name_of(uuid), "pem": pem, "scopes": ["api"] }] })
        };
        let file =
            json!({ "version": 1, "self": { "keys": [] }, "peers": peers.iter().map(entry).collect::<Vec<_>>() });
        self.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "isthmus-peers", "namespace": "istio-system" },
            "data": { "peers.json": file.to_string() },
        }));
    }

    fn run(&mut self) {
        let path = |name: &str| self.dir.path().join(name);
        let mut proxy = self.environment.command();
        proxy
            .args(["serve", "proxy", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"])
            .args([
                "--limit=rate-per-address=100000/100000",
                "--limit=rate-per-peer=100000/100000",
                "--limit=lame-duck=1s",
            ])
            .arg("--kubeconfig")
            .arg(path("proxy.kubeconfig"))
            .arg("--tls-cert")
            .arg(path("tls.crt"))
            .arg("--tls-key")
            .arg(path("tls.key"))
            .arg("--audit-log")
            .arg(path("proxy-audit.log"))
            .stdout(Stdio::piped())
            .stderr(fs::File::create(path("proxy.log")).unwrap());
        let mut child = proxy.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        self.address = lines.next().unwrap().unwrap();
        self.probes = lines.next().unwrap().unwrap();
        self.proxy = Some(child);
        let ca = Certificate::from_pem(&fs::read(path("tls.crt")).unwrap()).unwrap();
        self.client = Client::builder().tls_certs_only([ca]).build().unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("proxy.log")).unwrap_or_default()
    }

    async fn ready(&self, wanted: bool, within: Duration) {
        let until = Instant::now() + within;
        loop {
            let answer = self.client.get(format!("http://{}/readyz", self.probes)).send().await;
            let (is, text) = match answer {
                Ok(answer) => (answer.status() == StatusCode::OK, answer.text().await.unwrap_or_default()),
                Err(error) => (false, error.to_string()),
            };
            if is == wanted {
                return;
            }
            assert!(Instant::now() < until, "ready is {is}, not {wanted}: {text}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ask(&self, peer: &str, method: Method, path: &str) -> reqwest::Response {
        let url = format!("https://{}{path}", self.address);
        let request = self.client.request(method, url).bearer_auth(token_of(peer, OWN));
        request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}\n{}", self.log()))
    }
}

impl Drop for ProxySite {
    fn drop(&mut self) {
        if let Some(mut proxy) = self.proxy.take() {
            drop(proxy.kill());
            drop(proxy.wait());
        }
        drop(script("bed").arg("down").arg(self.dir.path()).output());
    }
}

fn name_of(uuid: &str) -> &'static str {
    if uuid == EAST { "east" } else { "north" }
}

fn key_of(uuid: &str) -> PrivateKey {
    PrivateKey::generate(&[uuid.as_bytes()[0]; 32]).unwrap()
}

fn token_of(peer: &str, audience: &str) -> String {
    let now = Timestamp::from(jiff::Timestamp::now());
    let claims = Claims {
        aud: audience.to_owned(),
        exp: now + Duration::from_mins(40),
        iss: ISSUER.to_owned(),
        nbf: now - Duration::from_mins(1),
        scope: Scope::Api,
        sub: peer.to_owned(),
    };
    mint(&key_of(peer), &claims, Some(&name_of(peer).parse().unwrap())).expose().to_owned()
}

async fn body(answer: reqwest::Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

fn signal(child: &Child, signal: &str) {
    succeed(Command::new("kill").arg(signal).arg(child.id().to_string()));
}

/// Every verb of every resource and subresource that the apiserver offers, asked for as a peer.
async fn allowed(site: &ProxySite) -> BTreeSet<String> {
    let discover =
        |path: &str| -> Value { serde_json::from_str(&succeed(site.kubectl().args(["get", "--raw", path]))).unwrap() };
    let mut versions = vec!["/api/v1".to_owned()];
    for group in discover("/apis")["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            versions.push(format!("/apis/{}", version["groupVersion"].as_str().unwrap()));
        }
    }
    let mut allowed = BTreeSet::new();
    let mut asked = 0;
    for version in versions {
        for resource in discover(&version)["resources"].as_array().unwrap() {
            let full = resource["name"].as_str().unwrap();
            let (plural, subresource) = full.split_once('/').map_or((full, None), |(name, sub)| (name, Some(sub)));
            let namespaced = resource["namespaced"].as_bool().unwrap();
            for verb in resource["verbs"].as_array().unwrap() {
                let verb = verb.as_str().unwrap();
                let collection =
                    matches!(verb, "list" | "watch" | "create" | "deletecollection") && subresource.is_none();
                let mut places = vec![version.clone()];
                if namespaced {
                    places.push(format!("{version}/namespaces/default"));
                    places.push(format!("{version}/namespaces/istio-system"));
                }
                for place in places {
                    let mut path = format!("{place}/{plural}");
                    if !collection {
                        path.push_str("/any");
                    }
                    if let Some(subresource) = subresource {
                        path.push_str(&format!("/{subresource}"));
                    }
                    if verb == "watch" {
                        path.push_str("?watch=true&timeoutSeconds=1");
                    }
                    let method = match verb {
                        "get" | "list" | "watch" => Method::GET,
                        "create" => Method::POST,
                        "update" => Method::PUT,
                        "patch" => Method::PATCH,
                        _ => Method::DELETE,
                    };
                    asked += 1;
                    let status = site.ask(EAST, method, &path).await.status();
                    match status {
                        StatusCode::OK | StatusCode::NOT_FOUND => drop(allowed.insert(format!("{verb} {path}"))),
                        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => {}
                        status => panic!("{verb} {path}: {status}\n{}", site.log()),
                    }
                }
            }
        }
    }
    eprintln!("bed: {asked} requests, {} allowed", allowed.len());
    assert!(asked > 1000, "discovery showed {asked} combinations only");
    allowed
}

#[test]
fn a_peer_reaches_what_is_in_the_table_and_nothing_else() {
    let _guard = one_at_a_time();
    let Some(mut site) = ProxySite::start() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        site.ready(true, Duration::from_secs(30)).await;

        // what is not asked as a peer is one answer, whatever is wrong
        let mut answers = BTreeSet::new();
        for authorization in [None, Some("Bearer x".to_owned()), Some(format!("Bearer {}", token_of(EAST, EAST)))] {
            let mut request = site.client.get(format!("https://{}/api/v1/services", site.address));
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            answers.insert(answer.text().await.unwrap());
        }
        assert_eq!(answers.len(), 1, "{answers:?}");

        let list: Vec<String> = allowed(&site).await.into_iter().collect();
        insta::assert_snapshot!("what_a_peer_may_ask_a_real_apiserver", list.join("\n"));

        let probe = site.ask(EAST, Method::GET, "/api").await;
        assert_eq!(body(probe).await["kind"], "APIVersions");

        // lists that istiod waits for are answered, and empty
        let secrets = site.ask(EAST, Method::GET, "/api/v1/secrets?limit=500&resourceVersion=0").await;
        let secrets = body(secrets).await;
        assert_eq!((&secrets["kind"], secrets["items"].as_array().unwrap().len()), (&json!("SecretList"), 0));
        let config = "/api/v1/namespaces/istio-system/configmaps?fieldSelector=metadata.name%3Distio";
        let config = body(site.ask(EAST, Method::GET, config).await).await;
        assert_eq!(config["items"][0]["data"], json!({ "mesh": "trustDomain: \"west.example\"\n" }));

        // a Service's network is not shown
        site.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "gateway", "namespace": "default", "labels": { "topology.istio.io/network": "n" } },
            "spec": { "ports": [{ "port": 15443 }] },
        }));
        let services = site.ask(EAST, Method::GET, "/api/v1/services").await;
        assert_eq!(services.headers()["content-type"], "application/json");
        let services = services.text().await.unwrap();
        assert!(
            services.contains("\"name\":\"gateway\"") && !services.contains("topology.istio.io/network"),
            "{services}"
        );

        // claims of identity are refused before anyone hears them
        let liar =
            site.client.get(format!("https://{}/api/v1/services", site.address)).bearer_auth(token_of(EAST, OWN));
        assert_eq!(liar.header("Impersonate-User", "admin").send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    });

    // the apiserver saw the peer's own user, and no one's secrets
    let audit = fs::read_to_string(site.dir.path().join("west/audit.log")).unwrap();
    let mut impersonated = 0;
    for line in audit.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["user"]["username"] != "system:serviceaccount:istio-system:isthmus-proxy" {
            continue;
        }
        let uri = event["requestURI"].as_str().unwrap();
        if let Some(user) = event["impersonatedUser"]["username"].as_str() {
            assert_eq!(user, format!("istio-peer:{EAST}"), "{uri}");
            assert!(!uri.contains("/secrets") && !uri.contains("/configmaps"), "{uri}");
            impersonated += 1;
        } else {
            let own = uri.contains("/configmaps") || uri.starts_with("/readyz");
            assert!(own, "the proxy asked in its own name: {uri}");
        }
    }
    assert!(impersonated > 10, "{impersonated}");

    // every request has a record
    let records = fs::read_to_string(site.dir.path().join("proxy-audit.log")).unwrap();
    let answered = records.lines().filter(|line| line.contains("\"event\":\"answered\"")).count();
    assert!(answered > 1000, "{answered}");
    assert!(!records.contains("eyJ") && !site.log().contains("eyJ"), "a token is in the logs");

    // without the right to impersonate, nothing of the apiserver is reached
    succeed(site.kubectl().args(["delete", "clusterrolebinding", "isthmus-impersonate"]));
    runtime.block_on(async {
        for path in [
            "/api",
            "/api/v1/services",
            "/api/v1/pods",
            "/apis/discovery.k8s.io/v1/endpointslices",
            "/api/v1/namespaces",
        ] {
            assert_eq!(site.ask(EAST, Method::GET, path).await.status(), StatusCode::FORBIDDEN, "{path}");
        }
    });

    // an orderly end
    let mut child = site.proxy.take().unwrap();
    signal(&child, "-TERM");
    let begin = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(begin.elapsed() < Duration::from_secs(30));
}

/// A watch as a client holds it open: whether it was told to end, and whether cleanly.
async fn watch(site: &ProxySite, peer: &str) -> tokio::task::JoinHandle<Result<usize, String>> {
    let path = "/api/v1/namespaces?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut answer = site.ask(peer, Method::GET, path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{}", site.log());
    tokio::spawn(async move {
        let mut bytes = 0;
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => bytes += chunk.len(),
                Ok(None) => return Ok(bytes),
                Err(error) => return Err(format!("{error:?}")),
            }
        }
    })
}

#[test]
fn a_peer_that_goes_takes_its_watches_along_and_no_others() {
    let _guard = one_at_a_time();
    let Some(site) = ProxySite::start() else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        site.ready(true, Duration::from_secs(30)).await;
        let (mut east, mut north) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            east.push(watch(&site, EAST).await);
            north.push(watch(&site, NORTH).await);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(east.iter().chain(&north).all(|watch| !watch.is_finished()), "{}", site.log());

        let begin = Instant::now();
        site.write_peers(&[EAST]);
        for watch in north {
            let ended = tokio::time::timeout(Duration::from_secs(5), watch).await.expect("ended within 5 s").unwrap();
            assert!(ended.is_err(), "a revoked watch must not look whole");
        }
        eprintln!("bed: 60 watches of a removed peer ended {:?} after its removal began", begin.elapsed());
        assert_eq!(site.ask(NORTH, Method::GET, "/api").await.status(), StatusCode::UNAUTHORIZED);
        assert!(east.iter().all(|watch| !watch.is_finished()));

        // the apiserver stops answering, and comes back
        let pid = fs::read_to_string(site.dir.path().join("west/apiserver.pid")).unwrap();
        let pid = pid.split_whitespace().next().unwrap();
        succeed(Command::new("kill").args(["-STOP", pid]));
        site.ready(false, Duration::from_secs(8)).await;
        succeed(Command::new("kill").args(["-CONT", pid]));
        site.ready(true, Duration::from_secs(35)).await;
        assert_eq!(site.ask(EAST, Method::GET, "/api").await.status(), StatusCode::OK);
    });
    let mut memory = String::new();
    let status = format!("/proc/{}/status", site.proxy.as_ref().unwrap().id());
    fs::File::open(status).unwrap().read_to_string(&mut memory).unwrap();
    let resident = memory.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    eprintln!("bed: the api-proxy with 60 watches: {resident}");
}
