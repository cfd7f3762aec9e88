//! The rules of watches: each is broken by itself, and fails by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use isthmus::cluster::bare::BareClient;
use isthmus::conformance::exporter::ConformancePeer;
use isthmus::conformance::proxy;
use isthmus::conformance::report::RuleVerdict;
use isthmus::server::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{DECK, deckhouse, east_key, east_uuid, unix_time};
use crate::support::apiserver::{Apiserver, Asked, answer, json_answer, streaming};

/// What a server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchFault {
    None,
    UnaskedBookmarks,
    NoInitialBookmark,
    NoInitialBookmarkOfSecrets,
    BookmarkWithObject,
    BookmarkTooOld,
    ErrorAtEnd,
    HalfEvent,
    EndsAtOnce,
    OutlastsToken,
    NoVersion,
}

/// A list or a watch, as an apiserver answers it; `left` is how long the token still holds.
pub(super) fn apiserver_answer(path: &str, fault: WatchFault, left: Duration) -> Response<Body> {
    let (resource, query) = path.split_once('?').unwrap_or((path, ""));
    let has = |pair: &str| query.split('&').any(|one| one == pair);
    let is_secrets = resource.ends_with("/secrets");
    let kind = if is_secrets { "Secret" } else { "Service" };
    if !has("watch=true") {
        let version = if fault == WatchFault::NoVersion { json!({}) } else { json!({ "resourceVersion": "7" }) };
        let kind = format!("{kind}List");
        return json_answer(200, &json!({ "kind": kind, "apiVersion": "v1", "metadata": version, "items": [] }));
    }
    let (allows, is_initial) = (has("allowWatchBookmarks=true"), has("sendInitialEvents=true"));
    let bookmark = |metadata: Value, more: Value| {
        let mut object = json!({ "kind": kind, "apiVersion": "v1", "metadata": metadata });
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "type": "BOOKMARK", "object": object }).to_string() + "\n"
    };
    let mut first = String::new();
    let has_end =
        fault != WatchFault::NoInitialBookmark && !(is_secrets && fault == WatchFault::NoInitialBookmarkOfSecrets);
    if is_initial && has_end {
        let more = if fault == WatchFault::BookmarkWithObject { json!({ "spec": { "a": 1 } }) } else { json!({}) };
        let annotations = json!({ "k8s.io/initial-events-end": "true" });
        first += &bookmark(json!({ "resourceVersion": "8", "annotations": annotations }), more);
    } else if !allows && fault == WatchFault::UnaskedBookmarks && has("resourceVersion=7") {
        first += &bookmark(json!({ "resourceVersion": "8" }), json!({}));
    }
    if has("resourceVersion=8") && fault == WatchFault::BookmarkTooOld {
        let expired = json!({ "kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired" });
        first += &(json!({ "type": "ERROR", "object": expired }).to_string() + "\n");
    }
    let is_plain = allows && !is_initial;
    let last = match fault {
        WatchFault::ErrorAtEnd if is_plain => "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":504}}\n",
        WatchFault::HalfEvent if is_plain => "{\"type\":\"ADDED\",\"obj",
        _ => "",
    };
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("timeoutSeconds="));
    let asked = Duration::from_secs(asked.map_or(60, |seconds| seconds.parse().unwrap()));
    let lasts = match fault {
        WatchFault::OutlastsToken => asked,
        WatchFault::EndsAtOnce if is_plain => Duration::ZERO,
        _ => asked.min(left),
    };
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        drop(sender.send(Ok(Bytes::from(first))));
        tokio::time::sleep(lasts).await;
        drop(sender.send(Ok(Bytes::from(last))));
    });
    answer(200, &[("content-type", "application/json")], streaming(receiver))
}

/// How long a token still holds.
fn left(asked: &Asked) -> Duration {
    let token = asked.headers["authorization"].to_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let left = claims["exp"].as_i64().unwrap() - unix_time().as_seconds();
    Duration::from_secs(left.max(0).unsigned_abs())
}

/// What fails of an api-proxy with this fault; it asks no more of a token than Deckhouse does.
async fn failing(fault: WatchFault) -> BTreeSet<String> {
    let deck = Arc::new(deckhouse(unix_time));
    let script = {
        let deck = deck.clone();
        move |asked: &Asked| {
            let authorization = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
            if deck.verdict(authorization, "api").is_err() {
                return Some(json_answer(401, &json!({})));
            }
            if asked.path == "/api" {
                return Some(json_answer(200, &json!({ "kind": "APIVersions" })));
            }
            Some(apiserver_answer(&asked.path, fault, left(asked)))
        }
    };
    let server = Apiserver::start(script).await;
    let client = BareClient::new(&format!("https://{}", server.address), Some(&server.ca.pem)).unwrap();
    let (key, uuid, own) = (east_key(), east_uuid().parse().unwrap(), DECK.parse().unwrap());
    let peer = ConformancePeer { key: &key, uuid: &uuid, number: 1 };
    let report = proxy::judge(&client, Some(&own), Some(peer), &unix_time).await;
    let failed = report.outcomes.iter().filter(|one| matches!(one.verdict, RuleVerdict::Failed { .. }));
    failed.map(|one| one.rule.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_breaks_one_rule_fails_that_rule_alone() {
    let faults = [
        (WatchFault::UnaskedBookmarks, "bookmarks-where-allowed"),
        (WatchFault::NoInitialBookmark, "bookmark-initial bookmark-initial-secrets"),
        (WatchFault::NoInitialBookmarkOfSecrets, "bookmark-initial-secrets"),
        (WatchFault::BookmarkWithObject, "bookmark-shape"),
        (WatchFault::BookmarkTooOld, "bookmark-continues"),
        (WatchFault::ErrorAtEnd, "watch-ends-quietly"),
        (WatchFault::HalfEvent, "watch-whole-events"),
        (WatchFault::EndsAtOnce, "watch-ends"),
        (WatchFault::OutlastsToken, "watch-ends-with-token"),
        (WatchFault::NoVersion, "list"),
    ];
    let good = failing(WatchFault::None);
    let (good, bad) = tokio::join!(good, join_all(faults.map(|(fault, _)| failing(fault))));
    let of_watches = |rule: &&String| rule.starts_with("watch") || rule.starts_with("bookmark") || *rule == "list";
    assert_eq!(good.iter().find(of_watches), None, "{good:?}");
    for ((fault, rules), failed) in faults.into_iter().zip(bad) {
        let more: Vec<&str> = failed.difference(&good).map(String::as_str).collect();
        assert_eq!(more.join(" "), rules, "{fault:?}");
    }
}
