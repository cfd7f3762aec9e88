//! Kubeconfigs as kubectl reads them, with `engine init` as whoever reads: what leads to a cluster, and what is said where
//! nothing does.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::support::environment::{Ran, TestEnvironment};
use crate::support::kube::Kube;
use crate::support::peer::{Ca, Serving};

const UUID: &str = "0c8f3a52-6a5e-4f0f-9d8e-5b1f6d1f7a31";
/// What must be nowhere in what is printed.
const TOKEN: &str = "a-token-that-nobody-may-see";

/// A cluster behind TLS, and the folder with kubeconfigs.
struct KubeconfigWorld {
    runtime: tokio::runtime::Runtime,
    environment: TestEnvironment,
    kube: Kube,
    ca: Ca,
}

impl KubeconfigWorld {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let environment = TestEnvironment::new().with_tools();
        std::fs::create_dir(environment.path("kube")).unwrap();
        let kube = runtime.block_on(Kube::start());
        kube.put("namespaces", json!({ "metadata": { "name": "kube-system", "uid": UUID } }));
        kube.put("namespaces", json!({ "metadata": { "name": "istio-system", "uid": "x" } }));
        kube.put(
            "deployments",
            json!({
                "metadata": { "name": "istiod", "namespace": "istio-system", "labels": { "app": "istiod" } },
                "spec": { "template": { "spec": { "containers": [
                    { "name": "discovery", "image": "istio/pilot:1.31.1", "env": [{ "name": "CLUSTER_ID", "value": "east" }] },
                ] } } },
            }),
        );
        Self { runtime, environment, kube, ca: Ca::new("a CA of apiservers") }
    }

    /// The port of a server that ends TLS in front of the apiserver.
    fn serve(&self, serving: &Serving) -> u16 {
        let chain =
            rustls_pki_types::CertificateDer::pem_slice_iter(serving.chain.as_bytes()).map(Result::unwrap).collect();
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls =
            tokio_rustls::TlsAcceptor::from(Arc::new(tls.with_no_client_auth().with_single_cert(chain, key).unwrap()));
        let behind = self.kube.address;
        self.runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let tls = tls.clone();
                    tokio::spawn(async move {
                        let Ok(mut stream) = tls.accept(stream).await else { return };
                        let mut behind = tokio::net::TcpStream::connect(behind).await.unwrap();
                        drop(tokio::io::copy_bidirectional(&mut stream, &mut behind).await);
                    });
                }
            });
            port
        })
    }

    /// Writes a file beside the kubeconfigs.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.environment.path("kube").join(name), bytes).unwrap();
    }

    fn script(&self, name: &str, text: &str) {
        self.file(name, format!("#!/bin/sh\n{text}\n"));
        let path = self.environment.path("kube").join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `engine init` in a new checkout; what was said, and the spec of the cluster, where one was written.
    fn init(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (Ran, Option<String>) {
        let checkout = self.environment.path("checkout");
        drop(std::fs::remove_dir_all(&checkout));
        std::fs::create_dir(&checkout).unwrap();
        let mut command = self.environment.command();
        command.arg("-C").arg(&checkout).arg("init").args(arguments).envs(variables.iter().copied());
        let ran = self.environment.end(&mut command);
        assert!(!ran.says(TOKEN), "{ran}");
        for word in ["UnknownIssuer", "InvalidCertificate", "NotValidForName", "feature", "Error("] {
            assert!(!ran.says(word), "a library's `{word}` in\n{ran}");
        }
        (ran, std::fs::read_to_string(checkout.join("specs/clusters/east.yaml")).ok())
    }

    /// The same with one kubeconfig, by its file.
    fn of(&self, kubeconfig: impl AsRef<[u8]>) -> (Ran, Option<String>) {
        self.file("config", kubeconfig);
        let path = self.environment.path("kube").join("config");
        self.init(&["--kubeconfig", path.to_str().unwrap()], &[])
    }

    #[track_caller]
    fn finds(&self, kubeconfig: impl AsRef<[u8]>) {
        let (ran, spec) = self.of(&kubeconfig);
        assert!(spec.is_some(), "{}\n{ran}", String::from_utf8_lossy(kubeconfig.as_ref()));
    }

    #[track_caller]
    fn says(&self, kubeconfig: impl AsRef<[u8]>, expected: &[&str]) {
        let (ran, spec) = self.of(kubeconfig);
        assert!(spec.is_none(), "{ran}");
        for word in expected {
            assert!(ran.stderr.contains(word), "`{word}` is missing in\n{ran}");
        }
    }
}

/// A kubeconfig of one context.
fn kubeconfig(cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "east",
        "clusters": [{ "name": "c", "cluster": cluster }],
        "users": [{ "name": "u", "user": user }],
        "contexts": [{ "name": "east", "context": { "cluster": "c", "user": "u", "namespace": "web" } }],
    })
}

#[test]
fn each_field_that_kubectl_follows_is_followed() {
    let world = KubeconfigWorld::new();
    let port = world.serve(&world.ca.serving(&["127.0.0.1"]));
    let (server, ca) = (format!("https://127.0.0.1:{port}"), BASE64.encode(&world.ca.pem));
    let token = json!({ "token": TOKEN });
    let with = |field: &str, value: Value| kubeconfig(&json!({ "server": server, field: value }), &token).to_string();
    world.finds(with("certificate-authority-data", ca.clone().into()));
    // `base64` without -w0 folds its lines
    let folded: Vec<&str> = ca.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    world.finds(with("certificate-authority-data", format!("{}\n", folded.join("\n")).into()));
    world.file("ca.pem", world.ca.pem.replace('\n', "\r\n"));
    world.finds(with("certificate-authority", "ca.pem".into()));
    world.finds(with("insecure-skip-tls-verify", true.into()));
    // a certificate for another name than that of the server
    let inner = world.serve(&world.ca.serving(&["kubernetes.inner"]));
    let named = json!({
        "server": format!("https://127.0.0.1:{inner}/"), "certificate-authority-data": ca, "tls-server-name": "kubernetes.inner",
        "disable-compression": true, "extensions": [{ "name": "made-by", "extension": { "version": 1 } }], "of-tomorrow": [1],
    });
    world.finds(kubeconfig(&named, &token).to_string());
    // users
    let cluster = json!({ "server": server, "certificate-authority-data": ca });
    world.file("token", format!("{TOKEN}\n"));
    let plugin = |command: &str| json!({ "exec": { "apiVersion": "client.authentication.k8s.io/v1", "command": command, "args": ["login"] } });
    let answer = json!({ "kind": "ExecCredential", "status": { "token": TOKEN } });
    world.script("plugin", &format!("[ \"$1\" = login ] && echo '{answer}'"));
    for user in [
        Value::Null,
        json!({}),
        json!({ "tokenFile": "token" }),
        json!({ "username": "admin", "password": TOKEN }),
        json!({ "token": TOKEN, "as": "viewer", "as-groups": ["a", "b"], "as-user-extra": { "reason": ["audit"] } }),
        json!({ "auth-provider": { "name": "oidc", "config": { "id-token": TOKEN } } }),
        plugin("./plugin"),
    ] {
        world.finds(kubeconfig(&cluster, &user).to_string());
    }
    // a user who is not there is no one, and a server without a scheme is one without TLS
    let mut without_user = kubeconfig(&json!({ "server": world.kube.address.to_string() }), &token);
    without_user["users"] = Value::Null;
    world.finds(without_user.to_string());
}

#[test]
fn each_encoding_that_a_shell_writes_is_read() {
    let world = KubeconfigWorld::new();
    let text = kubeconfig(&json!({ "server": format!("http://{}", world.kube.address) }), &json!({})).to_string();
    let yaml = format!("# made for Jürgen\r\n---\r\n{text}\r\n---\r\nanother: document\r\n");
    world.finds(&yaml);
    world.finds(format!("\u{feff}{yaml}"));
    let units = || std::iter::once(0xfeff).chain(yaml.encode_utf16());
    world.finds(units().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    world.finds(units().flat_map(u16::to_be_bytes).collect::<Vec<_>>());
    world.says(b"clusters: []\n# J\xfcrgen\n", &["line 2: expected UTF-8"]);
}

#[test]
fn what_is_wrong_is_reported_with_its_place_and_costs_its_context_alone() {
    let world = KubeconfigWorld::new();
    let good = json!({ "server": format!("http://{}", world.kube.address) });
    let token = json!({ "token": TOKEN });
    let with =
        |field: &str, value: &str| kubeconfig(&json!({ "server": good["server"], field: value }), &token).to_string();
    world.says(
        with("certificate-authority-data", "DATA+OMITTED"),
        &["`certificate-authority-data` of the cluster `c`", "kubectl config view --raw"],
    );
    world.says(kubeconfig(&good, &json!({ "token": "REDACTED" })).to_string(), &["`token` of the user `u`", "--raw"]);
    world.says(with("certificate-authority-data", "%%"), &["`certificate-authority-data`", "expected base64"]);
    world.says(with("certificate-authority-data", "aGVsbG8="), &["expected certificates as PEM"]);
    world.says(with("certificate-authority", "gone.pem"), &["names the file", "kube/gone.pem", "No such file"]);
    world.says(with("certificate-authority", "/dev/zero"), &["/dev/zero", "it is no file"]);
    world.says(with("proxy-url", "gopher://proxy"), &["`proxy-url` of the cluster `c` names no proxy", "socks5://"]);
    world.says(kubeconfig(&json!({}), &token).to_string(), &["the cluster `c`", "has no `server`"]);
    world.says(
        kubeconfig(&json!({ "server": "ftp://a" }), &token).to_string(),
        &["`server`", "an http:// or https:// URL"],
    );
    world.file("ca.pem", &world.ca.pem);
    let both = json!({ "server": good["server"], "certificate-authority": "ca.pem", "insecure-skip-tls-verify": true });
    world.says(kubeconfig(&both, &token).to_string(), &["of which only one may be there"]);
    let gcp = json!({ "auth-provider": { "name": "gcp", "config": { "access-token": TOKEN } } });
    world.says(kubeconfig(&good, &gcp).to_string(), &["auth-provider `gcp`", "fetch the kubeconfig anew"]);
    let plugin = |more: Value| {
        let mut exec = json!({ "apiVersion": "client.authentication.k8s.io/v1", "command": "gke-plugin-of-nobody" });
        exec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        kubeconfig(&good, &json!({ "exec": exec })).to_string()
    };
    world.says(plugin(json!({ "installHint": "brew install it" })), &["cannot be started", "brew install it"]);
    world.script("fails", &format!("echo {TOKEN}; echo {TOKEN} >&2; exit 7"));
    world.says(plugin(json!({ "command": "./fails" })), &["ended with exit status: 7", "log in first"]);
    world.script("nothing", "echo '{\"status\": {}}'");
    world.says(plugin(json!({ "command": "./nothing" })), &["neither a token nor a certificate"]);
    world.says(plugin(json!({ "command": "./nothing", "interactiveMode": "Always" })), &["wants a terminal"]);
    // the file as a whole
    let deep = format!("a: {}{}", "[".repeat(70), "]".repeat(70));
    world.says(deep, &["line 1: more than 64 levels are nested"]);
    world.says("# ".repeat(600_000), &["expected at most 1048576 bytes"]);
    world.says("[]", &["line 1: expected a mapping"]);
    world.says("clusters: {}\n", &["line 1: expected a list"]);
    // of two contexts the broken one costs itself
    let mut two = kubeconfig(&good, &token);
    two["contexts"].as_array_mut().unwrap().push(json!({ "name": "west", "context": { "cluster": "gone" } }));
    let (ran, spec) = world.of(two.to_string());
    assert!(spec.is_some() && ran.code == 3, "{ran}");
    assert!(ran.says("context `west` names the cluster `gone`, which its kubeconfig does not have"), "{ran}");
}

#[test]
fn of_a_list_what_is_there_counts_and_what_is_hidden_is_reported() {
    let world = KubeconfigWorld::new();
    let good = json!({ "server": format!("http://{}", world.kube.address) });
    let path = |name: &str| world.environment.path("kube").join(name).display().to_string();
    world.file("one", kubeconfig(&good, &json!({})).to_string());
    let list = [path("gone"), String::new(), path("one"), path("one")].join(":");
    let (ran, spec) = world.init(&[], &[("KUBECONFIG", &list)]);
    assert!(spec.is_some() && !ran.says("hidden"), "{ran}");
    let (ran, _) = world.init(&[], &[("KUBECONFIG", &format!("{}:{}", path("gone"), path("lost")))]);
    assert_eq!(ran.code, 6, "{ran}");
    assert!(ran.says("there is no kubeconfig at") && ran.says("kube/lost"), "{ran}");
    // each tool calls its cluster alike: of two the second hides behind the first
    world.file("two", kubeconfig(&json!({ "server": "https://192.0.2.7" }), &json!({})).to_string());
    let (ran, spec) = world.init(&[], &[("KUBECONFIG", &format!("{}:{}", path("one"), path("two")))]);
    assert!(spec.is_some() && ran.code == 0, "{ran}");
    assert!(ran.says("the cluster `c` of") && ran.says("kube/two is hidden by that of"), "{ran}");
}

#[test]
fn a_verdict_on_tls_names_the_certificate_and_the_setting() {
    let world = KubeconfigWorld::new();
    let (ca, user) = (BASE64.encode(&world.ca.pem), json!({ "token": TOKEN }));
    let to = |port: u16, ca: &str| {
        kubeconfig(&json!({ "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": ca }), &user)
            .to_string()
    };
    let port = world.serve(&world.ca.serving(&["127.0.0.1"]));
    let other = BASE64.encode(Ca::new("a CA of somebody else").pem);
    world.says(to(port, &other), &["signed by none of the CAs", "correct `certificate-authority-data`"]);
    let port = world.serve(&world.ca.serving(&["east.example.com"]));
    world.says(to(port, &ca), &["is not for this host but for `east.example.com`", "tls-server-name"]);
    let port = world.serve(&world.ca.serving_between(&["127.0.0.1"], 2020, 2021));
    world.says(to(port, &ca), &["expired at 2021-01-01", "check the clock"]);
    world.says(to(world.kube.address.port(), &ca), &["speaks no TLS", "check scheme and port"]);
}

/// A proxy that opens tunnels, and what it was asked for.
fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let seen = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut client, seen) = (stream.unwrap(), seen.clone());
            std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if client.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
                seen.lock().unwrap().push(line.clone());
                let port = line.split([':', ' ']).find_map(|word| word.parse::<u16>().ok()).unwrap();
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
                let (mut from, mut to) = (server, client);
                drop(std::io::copy(&mut from, &mut to));
            });
        }
    });
    (port, asked)
}

#[test]
fn a_proxy_is_that_of_the_kubeconfig_or_of_the_environment() {
    let world = KubeconfigWorld::new();
    let port = world.serve(&world.ca.serving(&["east.example.com"]));
    let server = format!("https://east.example.com:{port}");
    let cluster = |more: Value| {
        let mut cluster = json!({ "server": server, "certificate-authority-data": BASE64.encode(&world.ca.pem) });
        cluster.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.file("config", kubeconfig(&cluster, &json!({ "token": TOKEN })).to_string());
    };
    let (through, asked) = proxy();
    let (url, config) = (format!("http://127.0.0.1:{through}"), world.environment.path("kube").join("config"));
    let init = |variables: &[(&str, &str)]| world.init(&["--kubeconfig", config.to_str().unwrap()], variables);
    let tunnel = format!("CONNECT east.example.com:{port} HTTP/1.1");
    let tunnels = || std::mem::take(&mut *asked.lock().unwrap());
    cluster(json!({ "proxy-url": url }));
    // which counts for every host
    let (ran, spec) = init(&[("NO_PROXY", "*"), ("HTTPS_PROXY", "http://192.0.2.1:1")]);
    assert!(spec.is_some() && tunnels().contains(&tunnel), "{ran}");
    cluster(json!({}));
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let (ran, spec) = init(&[(name, &url)]);
        assert!(spec.is_some() && tunnels().contains(&tunnel), "{name}\n{ran}");
    }
    let (ran, spec) = init(&[("HTTPS_PROXY", &url), ("NO_PROXY", ".example.com")]);
    assert!(spec.is_none() && tunnels().is_empty(), "{ran}");
    // and one that does not answer is named, without its password
    let (ran, _) = init(&[("HTTPS_PROXY", &format!("http://me:{TOKEN}@127.0.0.1:1"))]);
    assert!(ran.says("through the proxy http://127.0.0.1:1 of $HTTPS_PROXY") && ran.says("$NO_PROXY"), "{ran}");
}

#[test]
fn a_plugin_that_hangs_holds_up_no_other_context_and_is_ended_with_its_children() {
    let world = KubeconfigWorld::new();
    let good = json!({ "server": format!("http://{}", world.kube.address) });
    world.script("hangs", "sleep 600 & echo $! > child; wait");
    let exec = json!({ "exec": { "apiVersion": "client.authentication.k8s.io/v1", "command": "./hangs", "env": [{ "name": "A", "value": "b" }] } });
    let mut two = kubeconfig(&good, &json!({}));
    two["users"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "waits", "user": exec["exec"].is_object().then_some(exec.clone()) }));
    for at in 0..20 {
        let context = json!({ "name": format!("hangs-{at}"), "context": { "cluster": "c", "user": "waits" } });
        two["contexts"].as_array_mut().unwrap().push(context);
    }
    world.file("config", two.to_string());
    let begun = Instant::now();
    let config = world.environment.path("kube").join("config");
    let only = ["--kubeconfig", config.to_str().unwrap(), "--context", "east", "--context", "hangs-1"];
    let (ran, spec) = world.init(&only, &[]);
    assert!(spec.is_some() && ran.code == 3, "{ran}");
    assert!(ran.says("did not end within 30 seconds"), "{ran}");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    let child = std::fs::read_to_string(world.environment.path("home").join("child")).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(" Z "), "{state}");
}
