//! `engine conformance` against our servers, which pass all of it, and against the scripted Deckhouse, which differs where it is known to.

use std::sync::Arc;
use std::time::Duration;

use isthmus::cluster::bare::BareClient;
use isthmus::conformance::exporter::{self, ConformancePeer};
use isthmus::conformance::proxy;
use isthmus::conformance::report::{ConformanceReport, RuleVerdict};
use isthmus::roles::exporter::{Exporter, Gathered, Published};
use isthmus::roles::proxy::Proxy;
use isthmus::roles::proxy::audit::{AuditLog, AuditTarget};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    DECK, deckhouse, east_key, east_private, east_public, east_uuid, peers, role, served, unix_time, until_ready,
};
use crate::support::apiserver::{Apiserver, answer, json_answer, streaming};
use crate::support::deckhouse::serve;
use crate::support::environment::TestEnvironment;
use crate::support::peer::Ca;

fn failed(report: &ConformanceReport) -> Vec<String> {
    let failed = report.outcomes.iter().filter(|one| matches!(one.verdict, RuleVerdict::Failed { .. }));
    failed.map(|one| format!("{}: {:?}", one.rule, one.verdict)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_exporter_passes_all_rules() {
    let deck = deckhouse(unix_time);
    let published = Published {
        cluster_uuid: Some(east_public().cluster_uuid),
        public: Ok(east_public()),
        private: Ok(east_private()),
        evidence: Gathered::Nothing,
        peers: Ok(peers(&deck, None)),
        sequence: 1,
    };
    let ca = Ca::new("east");
    let (_running, address) = served(&ca, Arc::new(Exporter::new("/metadata", published, unix_time))).await;
    let environment = TestEnvironment::new().real_time();
    std::fs::write(environment.path("ca.pem"), &ca.pem).unwrap();
    std::fs::write(environment.path("deck.key"), deck.key.to_pem().unwrap().as_bytes()).unwrap();
    let path = |name: &str| environment.path(name).to_str().unwrap().to_owned();
    let url = format!("https://{address}/metadata");
    let (ca, key, junit) = (path("ca.pem"), path("deck.key"), path("report.xml"));
    let all = ["conformance", "exporter", &url, "--ca", &ca, "--key", &key, "--as", DECK, "--junit", &junit];
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| environment.run(arguments));
    let ran = run(&all);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stdout.ends_with(" passed, 0 failed, 0 skipped\n"), "{ran}");
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(
        xml.starts_with("<?xml") && xml.contains("failures=\"0\"") && xml.matches("<testcase").count() > 100,
        "{xml}"
    );
    // a token without `jti` is another one in another second
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report: Value = serde_json::from_str(&run(&[&all[..], &["--output", "json"]].concat()).done()).unwrap();
    assert_eq!((report["version"].as_u64(), report["failed"].as_u64()), (Some(1), Some(0)));
    assert!(
        report["rules"]
            .as_array()
            .unwrap()
            .iter()
            .all(|rule| rule["source"].as_str().is_some_and(|text| !text.is_empty()))
    );
    // without a key what needs one is skipped, and that is said
    let ran = run(&["conformance", "exporter", &url, "--ca", &ca]);
    assert!(ran.code == 0 && ran.says("skipped  private-document: it needs --key and --as"), "{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_api_proxy_passes_all_rules() {
    let deck = deckhouse(unix_time);
    let apiserver = Apiserver::start(|asked| {
        let own = asked.headers.get("impersonate-user").is_none();
        let kind = if asked.path == "/api" { "APIVersions" } else { "List" };
        let list = json!({ "kind": kind, "apiVersion": "v1", "metadata": { "resourceVersion": "7" }, "items": [] });
        if !own && asked.path.contains("watch=") {
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                drop(sender);
            });
            return Some(answer(200, &[("content-type", "application/json")], streaming(receiver)));
        }
        (!own).then(|| json_answer(200, &list))
    })
    .await;
    let identity = json!({ "version": 1, "clusterUUID": east_uuid(), "keys": [], "trustDomain": "cluster.local" });
    apiserver.config_map("istio-system", "isthmus-identity", Some(("identity.json", &identity.to_string())));
    let peers = serde_json::to_string(&peers(&deck, None)).unwrap();
    apiserver.config_map("istio-system", "isthmus-peers", Some(("peers.json", &peers)));
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "the role's own").unwrap();
    let (role, _stop) = role(apiserver.access(&token_file));
    let audit = AuditLog::open(&AuditTarget::File(folder.path().join("audit.log"))).unwrap();
    let proxy = Arc::new(Proxy::new(&role, audit, None, Arc::new(jiff::Timestamp::now)).unwrap());
    until_ready(&role.health).await;
    let ca = Ca::new("east");
    let (_proxy, address) = served(&ca, proxy).await;
    let client = BareClient::new(&format!("https://{address}"), Some(&ca.pem)).unwrap();
    let uuid = DECK.parse().unwrap();
    let peer = ConformancePeer { key: &deck.key, uuid: &uuid, number: 1 };
    let own = east_uuid().parse().unwrap();
    let report = proxy::judge(&client, Some(&own), Some(peer), &unix_time).await;
    assert_eq!(failed(&report), Vec::<String>::new());
    assert!(report.counts().0 > 90 && report.counts().2 == 0, "{report}");
}

/// What its own servers are known to answer otherwise is marked, and nothing else of the scripted one fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripted_deckhouse_differs_where_it_is_known_to() {
    let deck = deckhouse(unix_time);
    let ca = Ca::new("deck");
    let (exporter, proxy) = (serve(&ca, deck.exporter()).await, serve(&ca, deck.api_proxy()).await);
    let (key, uuid, own) = (east_key(), east_uuid().parse().unwrap(), DECK.parse().unwrap());
    let peer = ConformancePeer { key: &key, uuid: &uuid, number: 1 };
    let client = |address, path: &str| BareClient::new(&format!("https://{address}{path}"), Some(&ca.pem)).unwrap();
    let of_exporter = exporter::judge(&client(exporter.address, "/metadata"), Some(peer), &unix_time).await;
    let of_proxy = proxy::judge(&client(proxy.address, ""), Some(&own), Some(peer), &unix_time).await;
    // the script has no RBAC, no watches and no bundle, which its own have
    let unscripted = [
        "spiffe-bundle",
        "watch-ends",
        "watch-whole-events",
        "method-",
        "write-",
        "secret",
        "exec",
        "log",
        "metrics",
        "proxy-of-a-node",
        "deployments",
    ];
    for report in [of_exporter, of_proxy] {
        let surprising: Vec<_> = report
            .outcomes
            .iter()
            .filter(|one| matches!(one.verdict, RuleVerdict::Failed { .. }) && !one.differs_in_deckhouse)
            .filter(|one| !unscripted.iter().any(|rule| one.rule.starts_with(rule)))
            .collect();
        assert!(surprising.is_empty(), "{surprising:?}");
        assert!(report.counts().1 > 10, "it differs: {report}");
    }
}
