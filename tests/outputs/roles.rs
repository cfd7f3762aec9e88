//! Roles, which run until they are asked to end: what they begin with, and why they do not begin.

use super::OutputPage;
use crate::support::environment::TestEnvironment;
use crate::support::kube::Kube;
use crate::support::peer::Ca;

const ROLES: [&str; 4] = ["exporter", "proxy", "relay", "agent"];
const LISTEN: [&str; 4] = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];

/// Times as they are in logs.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| word.len() > 19 && word.as_bytes()[10] == b'T' && word.ends_with('Z');
    let shown =
        |word: &str| if is_time(word.trim_end()) { word.replace(word.trim_end(), "[TIME]") } else { word.to_owned() };
    text.split_inclusive(char::is_whitespace).map(shown).collect()
}

#[test]
fn roles() {
    let mut page = OutputPage::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let kube = runtime.block_on(Kube::start());
    kube.put(
        "namespaces",
        serde_json::json!({ "metadata": { "name": "kube-system", "uid": "4a0283e9-7b05-4319-b3a1-22adee3e5bfb" } }),
    );
    let environment = TestEnvironment::new();
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{ "name": "a", "cluster": { "server": format!("https://{}", kube.address) } }],
        "users": [{ "name": "a", "user": {} }],
        "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }],
    });
    let path = |name: &str| environment.path(name).to_str().unwrap().to_owned();
    std::fs::write(path("kubeconfig"), kubeconfig.to_string()).unwrap();
    let mut plugin = kubeconfig.clone();
    plugin["users"][0]["user"] = serde_json::json!({ "exec": { "command": "aws" } });
    std::fs::write(path("with-plugin"), plugin.to_string()).unwrap();
    let serving = Ca::new("role").serving(&["127.0.0.1"]);
    std::fs::write(path("chain.pem"), serving.chain).unwrap();
    std::fs::write(path("key.pem"), serving.key).unwrap();
    let (kubeconfig, chain, key) = (path("kubeconfig"), path("chain.pem"), path("key.pem"));
    let files = ["--kubeconfig", &kubeconfig, "--tls-cert", &chain, "--tls-key", &key];
    for role in ROLES {
        for form in [&[][..], &["--output", "json"]] {
            let arguments = [&["serve", role, "--limit", "lame-duck=1ms"][..], &LISTEN, &files, form].concat();
            let running = environment.spawn(environment.command().args(&arguments));
            // the ports are free ones
            let begun = [running.line(0), running.line(1)].map(|line| {
                let (host, port) = line.rsplit_once(':').unwrap();
                assert!(port.parse::<u16>().is_ok(), "{line}");
                format!("{host}:[PORT]\n")
            });
            page.running("it begins", &environment, &arguments, &begun.concat());
        }
        let mut refused = |about: &str, arguments: &[&str]| {
            let arguments = [&["serve", role][..], arguments].concat();
            let mut ran = environment.run(&arguments);
            ran.stderr = without_times(&ran.stderr);
            page.ran(about, &environment, &arguments, &ran);
        };
        refused("no cluster", &LISTEN);
        refused("the same as JSON", &[&LISTEN[..], &["--output", "json"]].concat());
        refused("a kubeconfig that is not there", &[&LISTEN[..], &["--kubeconfig", "nowhere"]].concat());
        refused("a kubeconfig that runs a program", &[&LISTEN[..], &["--kubeconfig", "with-plugin"]].concat());
        refused("half of a certificate", &["--tls-cert", "chain.pem"]);
        refused("a limit that is not there", &["--limit", "wacht=10m"]);
        refused("a limit that is none", &["--limit", "watch=soon"]);
    }
    let listening = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
    let address = listening.local_addr().unwrap().to_string();
    page.run_in("an address in use", &environment, &["serve", "relay", "--listen", &address]);
    page.run_in("an address that is none", &environment, &["serve", "relay", "--listen", "8443"]);
    let no_files =
        [
            &[
                "serve",
                "exporter",
                "--tls-cert",
                "nowhere.pem",
                "--tls-key",
                "nowhere.key",
                "--kubeconfig",
                &kubeconfig,
            ][..],
            &LISTEN,
        ]
        .concat();
    page.run_in("certificates that are not there", &environment, &no_files);
    page.run_in("a gateway that is none", &environment, &["serve", "exporter", "--gateway", "203.0.113.7"]);
    page.run_in("no role", &environment, &["serve"]);
    page.run_in("a role that is not there", &environment, &["serve", "exprter"]);
    page.run_in("a role that this version lacks", &environment, &["serve", "probe"]);
    page.hold("roles");
}
