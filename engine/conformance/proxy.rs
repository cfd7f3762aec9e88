//! The rules of an api-proxy.

use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::cluster::bare::BareClient;
use crate::conformance::exporter::{
    ConformancePeer, NO_KEY, differs, json_of, judge_tokens, shown, with_authorization,
};
use crate::conformance::report::ConformanceReport;
use crate::conformance::tokens::TokenOrigin;
use crate::conformance::watches;
use crate::types::name::ClusterUuid;
use crate::types::time::Timestamp;
use crate::types::token::Scope;

const DECKHOUSE: &str = "Deckhouse modules/110-istio, api-proxy";
const ISTIO: &str = "Istio pkg/kube/multicluster: what istiod asks of a remote cluster";
const ENGINE: &str = "docs/roles.md";

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
    watches::judge(client, &mut report, &origin).await;
    let ask = async |headers| client.ask(Method::GET, "api", headers).await;
    judge_tokens(&mut report, origin().cases(Scope::Api), ask).await;
    report
}

fn kind(answer: Result<Value, (String, String)>, wanted: &str) -> Result<(), (String, String)> {
    let answer = answer?;
    let found = answer.get("kind").and_then(Value::as_str).unwrap_or("no kind");
    if found == wanted { Ok(()) } else { differs(wanted, found) }
}
