//! `engine conformance` against our servers, which pass all of it, and against the scripted Deckhouse, which differs where it is known to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use isthmus::cluster::bare::BareClient;
use isthmus::conformance::exporter::{self, ConformancePeer};
use isthmus::conformance::proxy;
use isthmus::conformance::report::{ConformanceReport, RuleVerdict};
use isthmus::roles::exporter::Exporter;
use serde_json::{Value, json};

use super::east::{EastProxy, EastProxyOptions, published, served};
use super::watches::{WatchFault, apiserver_answer};
use super::{DECK, deckhouse, east_key, east_uuid, unix_time};
use crate::support::apiserver::json_answer;
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
    let ca = Ca::new("east");
    let exporter = Arc::new(Exporter::new("/metadata", published(&deck), unix_time));
    let (_running, address) = served(&ca, exporter).await;
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
    let rules: Vec<&str> =
        report["rules"].as_array().unwrap().iter().map(|rule| rule["rule"].as_str().unwrap()).collect();
    let tokens: Vec<_> = rules.iter().filter(|rule| rule.starts_with("token-") && **rule != "token-once").collect();
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len(), "each once");
    let count = format!("{} tokens", tokens.len());
    assert!(tokens.len() >= 120 && include_str!("../../docs/deckhouse.md").contains(&count), "{count}");
    // without a key what needs one is skipped, and that is said
    let ran = run(&["conformance", "exporter", &url, "--ca", &ca]);
    assert!(ran.code == 0 && ran.says("skipped  private-document: it needs --key and --as"), "{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_api_proxy_passes_all_rules() {
    let deck = deckhouse(unix_time);
    let options = EastProxyOptions { lifetime: None, behind_proxy: false, clock: unix_time };
    let EastProxy { ca, address, .. } = &EastProxy::start(&deck, options, |asked| match asked.path.as_str() {
        "/api" => json_answer(200, &json!({ "kind": "APIVersions" })),
        // it knows no token of a peer: that a watch ends with one is the proxy's to see to
        path => apiserver_answer(path, WatchFault::OutlastsToken, Duration::MAX),
    })
    .await;
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
        "bookmark-initial",
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
