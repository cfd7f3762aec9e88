//! The rules of a metadata-exporter.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::cluster::bare::{BareAnswer, BareClient, BareError};
use crate::conformance::report::ConformanceReport;
use crate::conformance::tokens::{TokenCase, TokenOrigin};
use crate::types::certificate::parse_roots_any_time;
use crate::types::json::parse_strict;
use crate::types::key::PrivateKey;
use crate::types::name::ClusterUuid;
use crate::types::time::Timestamp;
use crate::types::token::Scope;
use crate::wire::metadata::{FEDERATION_PATH, PRIVATE_PATH, PUBLIC_PATH, PrivateDocument, PublicDocument, Reading};

const DECKHOUSE: &str = "Deckhouse modules/110-istio, metadata-exporter";
const ENGINE: &str = "docs/roles.md";
const BUNDLE_PATH: &str = "public/spiffe-bundle-endpoint";
/// Bytes of `Authorization` that every server reads.
const SHORT_HEADER: usize = 4096;
/// Why the rules of tokens are skipped.
pub(super) const NO_KEY: &str = "it needs --key and --as, of a cluster that the server admits";

/// Who asks: a cluster that the server admits.
#[derive(Debug, Clone, Copy)]
pub struct ConformancePeer<'a> {
    pub key: &'a PrivateKey,
    pub uuid: &'a ClusterUuid,
    /// A number unlike that of any other run, since a server may take each token once.
    pub number: usize,
}

/// What was expected and what was found.
pub(super) type RuleResult = Result<(), (String, String)>;

pub(super) fn differs(expected: &str, found: &str) -> RuleResult {
    Err((expected.to_owned(), found.to_owned()))
}

/// An answer, short.
pub(super) fn shown(answer: &Result<BareAnswer, BareError>) -> String {
    match answer {
        Ok(answer) => format!("status {}", answer.status),
        Err(error) => error.to_string(),
    }
}

/// The body of an answer with status 200, as strict JSON.
pub(super) fn json_of(answer: &Result<BareAnswer, BareError>) -> Result<Value, (String, String)> {
    let expected = || "200 with a JSON object".to_owned();
    match answer {
        Ok(found) if found.status == 200 => match parse_strict(&found.body) {
            Ok(value) if value.is_object() => Ok(value),
            Ok(_) => Err((expected(), "other JSON".to_owned())),
            Err(error) => Err((expected(), error.to_string())),
        },
        other => Err((expected(), shown(other))),
    }
}

pub(super) fn with_authorization(values: &[String]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            headers.append(AUTHORIZATION, value);
        }
    }
    headers
}

/// Judges an exporter by all rules; those of tokens only where someone asks whom it admits. `clock` gives the time.
pub async fn judge(
    client: &BareClient,
    peer: Option<ConformancePeer<'_>>,
    clock: &(dyn Fn() -> Timestamp + Sync),
) -> ConformanceReport {
    let mut report = ConformanceReport::default();
    let answer = client.ask(Method::GET, PUBLIC_PATH, HeaderMap::new()).await;
    let uuid = public(&mut report, &answer);
    let again = client.ask(Method::GET, PUBLIC_PATH, HeaderMap::new()).await;
    let is_same = match (&answer, &again) {
        (Ok(one), Ok(two)) if one.body == two.body => Ok(()),
        _ => differs("the same document", &shown(&again)),
    };
    report.rule(("public-stable", "the public document is the same when it is read again", DECKHOUSE), false, is_same);
    let bundle = client.ask(Method::GET, BUNDLE_PATH, HeaderMap::new()).await;
    let has_keys = json_of(&bundle).and_then(|bundle| match bundle.get("keys").and_then(Value::as_array) {
        Some(keys) if !keys.is_empty() => Ok(()),
        _ => differs("a SPIFFE bundle with keys", "none"),
    });
    report.rule(("spiffe-bundle", "the roots are published as a SPIFFE bundle", DECKHOUSE), false, has_keys);
    for (rule, path) in [("path-unknown", "public/no-such-document"), ("path-folder", "private/")] {
        let answer = client.ask(Method::GET, path, HeaderMap::new()).await;
        let is_absent = match &answer {
            Ok(answer) if matches!(answer.status, 401 | 404) => Ok(()),
            other => differs("404", &shown(other)),
        };
        report.rule((rule, "what is no document is not there", DECKHOUSE), false, is_absent);
    }
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let rule = format!("method-{}", method.as_str().to_ascii_lowercase());
        let answer = client.ask(method, PUBLIC_PATH, HeaderMap::new()).await;
        let is_refused = match &answer {
            Ok(answer) if answer.status == 405 => Ok(()),
            other => differs("405", &shown(other)),
        };
        report.rule((&rule, "only GET and HEAD are answered", ENGINE), true, is_refused);
    }
    match (peer, uuid) {
        (Some(peer), Some(uuid)) => {
            let sets = AtomicUsize::new(peer.number);
            let origin = || TokenOrigin {
                key: peer.key,
                subject: peer.uuid,
                audience: &uuid,
                now: clock(),
                number: sets.fetch_add(1, Ordering::Relaxed),
            };
            private(client, &mut report, &origin).await;
            tokens(client, &mut report, &origin).await;
        }
        _ => report.skip(("private-document", "the private document is complete", DECKHOUSE), NO_KEY),
    }
    report
}

/// The public document; its UUID, where it has one.
fn public(report: &mut ConformanceReport, answer: &Result<BareAnswer, BareError>) -> Option<ClusterUuid> {
    let value = json_of(answer);
    let is_json = value.as_ref().map(|_| ()).map_err(Clone::clone);
    report.rule(
        ("public-json", "the public document is a JSON object, without duplicate keys", DECKHOUSE),
        false,
        is_json,
    );
    let value = value.ok()?;
    let document = match PublicDocument::from_value(value.clone()) {
        Ok(Reading::Complete(document)) => Ok(document),
        Ok(Reading::Incomplete(fields)) => {
            Err(("a complete document".to_owned(), format!("none of {}", fields.join(", "))))
        }
        Err(error) => Err(("a document by the format".to_owned(), error.to_string())),
    };
    let is_whole = document.as_ref().map(|_| ()).map_err(Clone::clone);
    report.rule(
        ("public-complete", "UUID, key and root CA are there, each by its grammar", DECKHOUSE),
        false,
        is_whole,
    );
    let pem = value.get("authnKeyPub").and_then(Value::as_str).unwrap_or_default();
    let is_one = pem.matches("-----BEGIN ").count() == 1 && pem.trim_end_matches('\n').ends_with(" PUBLIC KEY-----");
    let is_one = if is_one { Ok(()) } else { differs("one PEM block and nothing behind it", "another text") };
    report.rule(
        ("public-key-alone", "the key is one PEM block, which Deckhouse's api-proxy requires", DECKHOUSE),
        false,
        is_one,
    );
    let document = document.ok()?;
    let roots = parse_roots_any_time(&document.root_ca)
        .map(|_| ())
        .map_err(|error| ("root CAs that Istio takes".to_owned(), error.to_string()));
    report.rule(("public-roots", "each root CA is one that Istio takes", "engine/types/certificate.rs"), false, roots);
    Some(document.cluster_uuid)
}

async fn private<'a>(
    client: &BareClient,
    report: &mut ConformanceReport,
    origin: &(dyn Fn() -> TokenOrigin<'a> + Sync),
) {
    let good = |scope| with_authorization(&origin().cases(scope).swap_remove(1).values);
    let headers = good(Scope::PrivateMulticluster);
    let answer = client.ask(Method::GET, PRIVATE_PATH, headers.clone()).await;
    let document = json_of(&answer).and_then(|value| match PrivateDocument::parse(value.to_string().as_bytes()) {
        Ok(Reading::Complete(document)) => Ok((value, document)),
        Ok(Reading::Incomplete(fields)) => {
            Err(("a complete document".to_owned(), format!("none of {}", fields.join(", "))))
        }
        Err(error) => Err(("a document by the format".to_owned(), error.to_string())),
    });
    let is_whole = document.as_ref().map(|_| ()).map_err(Clone::clone);
    report.rule(("private-document", "the private document is complete", DECKHOUSE), false, is_whole);
    if let Ok((value, document)) = &document {
        let published = value.get("ingressGateways").cloned().unwrap_or_default();
        let sorted = serde_json::to_value(&document.ingress_gateways).unwrap_or_default();
        let is_sorted =
            if published == sorted { Ok(()) } else { differs("gateways by address and port", "another order") };
        report.rule(
            ("private-gateways-sorted", "gateways are sorted by address as text, then port", DECKHOUSE),
            false,
            is_sorted,
        );
    }
    let is_kept = |answer: &BareAnswer| answer.headers.get("cache-control").is_none_or(|value| value != "no-store");
    let no_store = match &answer {
        Ok(answer) if !is_kept(answer) => Ok(()),
        _ => differs("Cache-Control: no-store", "another"),
    };
    report.rule(("private-not-stored", "no cache stores the private document", ENGINE), true, no_store);
    let again = client.ask(Method::GET, PRIVATE_PATH, headers).await;
    let is_once = match &again {
        Ok(answer) if answer.status == 401 => Ok(()),
        other => differs("401", &shown(other)),
    };
    report.rule(("token-once", "a token opens the private document once", ENGINE), true, is_once);
    let federation = client.ask(Method::GET, FEDERATION_PATH, good(Scope::PrivateFederation)).await;
    let is_valid = json_of(&federation).and_then(|value| {
        let is_list = |field: &str| value.get(field).is_some_and(Value::is_array);
        if is_list("ingressGateways") && is_list("publicServices") {
            Ok(())
        } else {
            differs("two lists", "another document")
        }
    });
    report.rule(
        ("federation-document", "a federation reads gateways and services, or none", DECKHOUSE),
        true,
        is_valid,
    );
}

async fn tokens<'a>(
    client: &BareClient,
    report: &mut ConformanceReport,
    origin: &(dyn Fn() -> TokenOrigin<'a> + Sync),
) {
    let cases = origin().cases(Scope::PrivateMulticluster);
    judge_tokens(report, cases, async |headers| client.ask(Method::GET, PRIVATE_PATH, headers).await).await;
}

/// Shows each token once: a good one opens, a bad one gets 401, and all bad ones the same answer.
pub(super) async fn judge_tokens(
    report: &mut ConformanceReport,
    cases: Vec<TokenCase>,
    ask: impl AsyncFn(HeaderMap) -> Result<BareAnswer, BareError>,
) {
    let mut bodies = BTreeSet::new();
    for case in cases {
        let answer = ask(with_authorization(&case.values)).await;
        let wanted = if case.is_good { 200 } else { 401 };
        bodies.extend(answer.as_ref().ok().filter(|answer| answer.status == 401).map(|answer| answer.body.clone()));
        // a server may refuse a header for its length before it reads what is in it
        let is_too_long = case.values.iter().map(String::len).sum::<usize>() > SHORT_HEADER;
        let outcome = match &answer {
            Ok(answer) if answer.status == wanted => Ok(()),
            Ok(answer) if is_too_long && answer.status == 431 => Ok(()),
            other => differs(&wanted.to_string(), &shown(other)),
        };
        let rule = format!("token-{}", case.name);
        report.rule((&rule, case.about, case.source), case.differs_in_deckhouse, outcome);
    }
    let is_uniform =
        if bodies.len() <= 1 { Ok(()) } else { differs("one answer", &format!("{} answers", bodies.len())) };
    report.rule(
        ("refusals-uniform", "whatever is wrong with a token, the answer is the same", ENGINE),
        true,
        is_uniform,
    );
}
