//! A hostile text in any field that a peer publishes never leaves its place, whoever prints it: plans, the page, graphs, status,
//! and the messages of commits.

#![allow(clippy::disallowed_methods, reason = "a fixture is read as a file")]

use isthmus::wire::metadata::{PrivateDocument, PublicDocument, Reading, Reported};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::checkout::Checkout;
use crate::watch::RunningWatch;

/// Clears a screen, writes a clipboard, turns the order of writing, begins lines of a plan, a comment, a graph, a page and a commit.
pub(crate) const EVIL: &str = "\u{1b}[2J\u{1b}]52;c;aGk=\u{7}\u{202e}\r\nPlan: 0 FORGED\n## FORGED\n```\n</code></details><script>FORGED()</script>\n\"]; FORGED -->\nSigned-off-by: FORGED\n@octocat";

const PUBLIC: &str = "metadata/east/public/public.json";
const PRIVATE: &str = "metadata/east/private/multicluster.json";

/// Every output of this state of the checkout, with what it is.
fn outputs(checkout: &Checkout) -> Vec<(String, String)> {
    let runs: [&[&str]; 9] = [
        &["plan"],
        &["plan", "-v"],
        &["plan", "--output", "json"],
        &["plan", "--output", "markdown"],
        &["apply"],
        &["status"],
        &["graph", "--format", "dot"],
        &["graph", "--format", "mermaid"],
        &["watch", "--once", "--commit"],
    ];
    let mut outputs = Vec::new();
    for run in runs {
        let ran = checkout.engine(run);
        assert!(!ran.says("panicked"), "{ran}");
        outputs.push((run.join(" "), format!("{}{}", ran.stdout, ran.stderr)));
    }
    let page = checkout.path("page.html");
    let ran = checkout.engine(&["report", "--html", page.to_str().unwrap()]);
    outputs.push(("report".to_owned(), format!("{}{}", ran.stdout, ran.stderr)));
    if let Ok(page) = std::fs::read_to_string(page) {
        outputs.push(("page".to_owned(), page));
    }
    let watch = RunningWatch::on(&checkout.path(""), &[]);
    watch.until("its first run", |watch| watch.get("/metrics").contains("isthmus_last_reconcile_timestamp_seconds "));
    for page in ["/metrics", "/picture.json", "/readyz", "/healthz", "/"] {
        let answer = watch.get(page);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        outputs.push((format!("page {page} of the watch"), body.to_owned()));
    }
    drop(watch);
    outputs.push(("git log".to_owned(), checkout.git(&["log", "--format=%B", "-3"])));
    outputs
}

#[rstest]
#[case::uuid(PUBLIC, "/clusterUUID")]
#[case::mesh_id(PUBLIC, "/meshID")]
#[case::trust_domain(PUBLIC, "/trustDomain")]
#[case::cluster_domain(PUBLIC, "/clusterDomain")]
#[case::root_ca(PUBLIC, "/rootCA")]
#[case::serving_ca(PUBLIC, "/servingCA")]
#[case::relay_ca(PUBLIC, "/relayCA")]
#[case::key(PUBLIC, "/authnKeyPub")]
#[case::further_key(PUBLIC, "/authnKeys/0/id")]
#[case::scope(PUBLIC, "/authnKeys/0/scopes/0")]
#[case::crl(PUBLIC, "/crl")]
#[case::version(PUBLIC, "/istio/version")]
#[case::revision(PUBLIC, "/istio/revisions/0")]
#[case::namespace(PUBLIC, "/istio/namespace")]
#[case::api_host(PRIVATE, "/apiHost")]
#[case::network(PRIVATE, "/networkName")]
#[case::cluster_id(PRIVATE, "/clusterID")]
#[case::api_ca(PRIVATE, "/apiCA")]
#[case::gateway(PRIVATE, "/ingressGateways/0/address")]
#[case::ambient_gateway(PRIVATE, "/ambientGateways/0/address")]
fn a_hostile_text_stays_in_its_place(#[case] file: &str, #[case] field: &str) {
    let checkout = Checkout::joined();
    checkout.git(&["init", "-q", "-b", "main"]);
    checkout.write(".gitignore", b"page.html\n");
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-qm", "one"]);
    let mut document: Value = serde_json::from_slice(&std::fs::read(checkout.path(file)).unwrap()).unwrap();
    set(&mut document, field);
    checkout.write(file, document.to_string().as_bytes());
    checkout.git(&["commit", "-qam", "two"]);
    for (what, output) in outputs(&checkout) {
        stays_in_its_place(&what, &output);
    }
}

/// Nothing of the hostile text steers a terminal, begins a line, or is a tag.
#[track_caller]
pub(crate) fn stays_in_its_place(what: &str, output: &str) {
    let is_bidi = |c: char| ('\u{202a}'..='\u{202e}').contains(&c) || matches!(c, '\u{2028}' | '\u{2029}');
    let steers = |c: char| (c.is_control() && c != '\n' && c != '\t') || is_bidi(c);
    assert!(!output.contains(steers), "{what}:\n{output:?}");
    let forged = |line: &str| {
        ["Plan: 0 FORGED", "## FORGED", "Signed-off-by: FORGED", "\"]; FORGED"].iter().any(|own| line.starts_with(own))
    };
    assert!(!output.lines().any(forged), "{what}:\n{output}");
    assert!(!what.contains("page") || !output.contains("<script>FORGED"), "{what}:\n{output}");
}

/// Puts the hostile text at a path, with what is missing on the way.
fn set(document: &mut Value, field: &str) {
    let mut at = document;
    for part in field.trim_start_matches('/').split('/') {
        at = if part == "0" {
            if !at.is_array() {
                *at = json!([{}]);
            }
            at.get_mut(0).unwrap()
        } else {
            if !at.is_object() {
                *at = json!({});
            }
            at.as_object_mut().unwrap().entry(part).or_insert(Value::Null)
        };
    }
    *at = EVIL.into();
}

/// What a peer says in sentences of its own is one line that steers nothing, and not long; what is not understood takes nothing
/// else away.
#[test]
fn what_a_peer_writes_is_kept_as_one_line() {
    let long = EVIL.repeat(100);
    let document = json!({
        "ingressGateways": [{"address": EVIL, "port": 15443}, {"address": "203.0.113.9", "port": 15443}],
        "apiHost": "api.east.example.com", "networkName": "n",
        "evidence": {
            "networks": [{"name": EVIL, "gateways": []}, {"name": "n", "gateways": []}],
            "routes": [{"clusterID": "west", "apiHost": "api:443", "state": "failed", "reason": long}, {"clusterID": EVIL}],
            "reads": [{"clusterID": "west", "state": EVIL}, {"clusterID": "west", "state": "synced"}],
            "prepared": EVIL,
            "unknown": {"trusts": long, EVIL: EVIL},
        },
    });
    let Reading::Complete(document) = PrivateDocument::parse(document.to_string().as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!(document.ingress_gateways.len(), 1);
    let evidence = document.evidence.unwrap();
    assert_eq!((evidence.networks.seen().unwrap().len(), evidence.reads.seen().unwrap().len()), (1, 1));
    let routes = evidence.routes.seen().unwrap();
    let (Reported::Unknown(trusts), Reported::Unknown(prepared)) = (&evidence.trusts, &evidence.prepared) else {
        panic!()
    };
    for sentence in [routes[0].reason.as_ref().unwrap(), trusts, prepared] {
        assert!(sentence.chars().count() <= 401 && !sentence.contains(char::is_control), "{sentence:?}");
        assert!(!sentence.contains('\u{202e}') && sentence.contains("FORGED"), "{sentence:?}");
    }
    let public =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/real/east/metadata/public/public.json")).unwrap();
    let mut public: Value = serde_json::from_slice(&public).unwrap();
    let key = public["authnKeyPub"].clone();
    public["istio"] = json!({"version": EVIL, "revisions": [EVIL, "canary"], "namespace": 7});
    public["authnKeys"] = json!([
        {"id": EVIL, "pem": key, "scopes": ["api"]},
        {"id": "ci", "pem": key, "scopes": ["private-multicluster", EVIL]},
    ]);
    let relay_ca = public["rootCA"].as_str().unwrap().to_owned();
    public["relayCA"] = format!("{EVIL}\n{relay_ca}{EVIL}").into();
    let Reading::Complete(document) = PublicDocument::parse(public.to_string().as_bytes()).unwrap() else { panic!() };
    assert_eq!(document.relay_ca.unwrap().trim(), relay_ca.trim());
    let istio = document.istio.unwrap();
    assert_eq!((istio.version, istio.revisions.len(), istio.namespace), (None, 1, None));
    assert_eq!(document.authn_keys.len(), 1);
    assert_eq!(document.authn_keys[0].scopes.len(), 1);
    public["relayCA"] = format!("-----BEGIN CERTIFICATE-----\n{EVIL}").into();
    let error = PublicDocument::parse(public.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "relayCA: expected PEM certificates, found another text");
}
