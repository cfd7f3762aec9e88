//! The rules of an api-proxy.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::cluster::bare::BareClient;
use crate::conformance::exporter::{
    ConformancePeer, NO_KEY, differs, json_of, judge_tokens, shown, with_authorization,
};
use crate::conformance::report::ConformanceReport;
use crate::conformance::tokens::TokenOrigin;
use crate::types::name::ClusterUuid;
use crate::types::time::Timestamp;
use crate::types::token::Scope;

const DECKHOUSE: &str = "Deckhouse modules/110-istio, api-proxy";
const ISTIO: &str = "Istio pkg/kube/multicluster: what istiod asks of a remote cluster";
const ENGINE: &str = "docs/roles.md";
/// How long a watch is asked to last, and how long it may take to end then.
const WATCH: (u64, Duration) = (2, Duration::from_secs(20));

/// Requests that no peer makes, and that are to be refused.
const REFUSED: &[(&str, Method, &str)] = &[
    ("write-create", Method::POST, "api/v1/namespaces/default/pods"),
    ("write-update", Method::PUT, "api/v1/namespaces/default/pods/a"),
    ("write-patch", Method::PATCH, "api/v1/namespaces/default/pods/a"),
    ("write-delete", Method::DELETE, "api/v1/namespaces/default/pods/a"),
    ("secret", Method::GET, "api/v1/namespaces/kube-system/secrets/a"),
    ("exec", Method::GET, "api/v1/namespaces/default/pods/a/exec?command=id"),
    ("log", Method::GET, "api/v1/namespaces/default/pods/a/log"),
    ("metrics", Method::GET, "metrics"),
    ("proxy-of-a-node", Method::GET, "api/v1/nodes/a/proxy/pods"),
    ("deployments", Method::GET, "apis/apps/v1/deployments"),
];

/// Judges an api-proxy by all rules. `clock` gives the time.
pub async fn judge(
    client: &BareClient,
    server: Option<&ClusterUuid>,
    peer: Option<ConformancePeer<'_>>,
    clock: &(dyn Fn() -> Timestamp + Sync),
) -> ConformanceReport {
    let mut report = ConformanceReport::default();
    let answer = client.ask(Method::GET, "api", HeaderMap::new()).await;
    let is_refused = match &answer {
        Ok(answer) if answer.status == 401 => Ok(()),
        other => differs("401", &shown(other)),
    };
    report.rule(("no-token", "without a token nothing is answered", DECKHOUSE), false, is_refused);
    let (Some(peer), Some(server)) = (peer, server) else {
        report.skip(("api-versions", "GET /api is answered as an apiserver does", DECKHOUSE), NO_KEY);
        return report;
    };
    let origin =
        || TokenOrigin { key: peer.key, subject: peer.uuid, audience: server, now: clock(), number: peer.number };
    let good = || with_authorization(&origin().cases(Scope::Api).swap_remove(1).values);
    let versions = json_of(&client.ask(Method::GET, "api", good()).await);
    report.rule(
        ("api-versions", "GET /api is answered as an apiserver does", DECKHOUSE),
        false,
        kind(versions, "APIVersions"),
    );
    for (rule, method, path) in REFUSED {
        let answer = client.ask(method.clone(), path, good()).await;
        let is_refused = match &answer {
            Ok(answer) if matches!(answer.status, 400 | 403 | 404 | 405) => Ok(()),
            other => differs("403, 404 or 405", &shown(other)),
        };
        report.rule((rule, "what istiod never asks for is refused", ENGINE), false, is_refused);
    }
    for name in ["impersonate-user", "impersonate-group", "x-remote-user"] {
        let mut headers = good();
        headers.insert(name, HeaderValue::from_static("system:masters"));
        let answer = client.ask(Method::GET, "api", headers).await;
        let is_refused = match &answer {
            Ok(answer) if matches!(answer.status, 400 | 401 | 403) => Ok(()),
            other => differs("400", &shown(other)),
        };
        report.rule((name, "who claims to be another is refused", ENGINE), true, is_refused);
    }
    let secrets = json_of(&client.ask(Method::GET, "api/v1/secrets?limit=500&resourceVersion=0", good()).await);
    let is_empty = secrets.and_then(|list| match list.get("items").and_then(Value::as_array) {
        Some(items) if items.is_empty() => Ok(()),
        _ => differs("an empty list", "another"),
    });
    report.rule(
        ("secrets-empty", "the list of Secrets is empty, and no error that istiod tries again", ISTIO),
        true,
        is_empty,
    );
    watches(client, &mut report, &good).await;
    let ask = async |headers| client.ask(Method::GET, "api", headers).await;
    judge_tokens(&mut report, origin().cases(Scope::Api), ask).await;
    report
}

fn kind(answer: Result<Value, (String, String)>, wanted: &str) -> Result<(), (String, String)> {
    let answer = answer?;
    let found = answer.get("kind").and_then(Value::as_str).unwrap_or("no kind");
    if found == wanted { Ok(()) } else { differs(wanted, found) }
}

/// A list, and a watch from it that ends when it was asked to.
async fn watches(client: &BareClient, report: &mut ConformanceReport, good: &(dyn Fn() -> HeaderMap + Sync)) {
    let list = json_of(&client.ask(Method::GET, "api/v1/services?limit=500", good()).await);
    let version =
        |list: &Value| list.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(ToOwned::to_owned);
    let version = list.as_ref().ok().and_then(version);
    let has_version = list
        .and_then(|_| version.clone().map(|_| ()).ok_or_else(|| ("a resourceVersion".to_owned(), "none".to_owned())));
    report.rule(("list", "a list of Services is answered, with the version to watch from", ISTIO), false, has_version);
    let version = version.unwrap_or_default();
    let (seconds, patience) = WATCH;
    let path = format!(
        "api/v1/services?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}"
    );
    let begun = Instant::now();
    let answer = client.ask_within(patience, Method::GET, &path, good()).await;
    let lasted = begun.elapsed();
    let ends = match &answer {
        Ok(answer) if answer.status == 200 && answer.ended && lasted >= Duration::from_secs(1) => Ok(()),
        Ok(answer) if answer.status == 200 && answer.ended => differs("a watch that lasts", "one that ends at once"),
        Ok(answer) if answer.status == 200 => differs("an end after its time", "none"),
        other => differs("200", &shown(other)),
    };
    report.rule(("watch-ends", "a watch lasts for its time, and ends then", ISTIO), false, ends);
    let events = answer.map(|answer| answer.body).unwrap_or_default();
    let is_event = |line: &[u8]| serde_json::from_slice::<Value>(line).is_ok_and(|event| event.get("type").is_some());
    let are_whole = events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).all(is_event);
    let are_whole = if are_whole { Ok(()) } else { differs("events, one a line", "a part of one") };
    report.rule(("watch-whole-events", "a watch ends between two events, and not within one", ISTIO), false, are_whole);
}
