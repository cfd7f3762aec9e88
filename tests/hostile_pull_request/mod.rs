//! Pull requests that try to get something past a reviewer: each is told on top of its plan, and when it is merged all the same,
//! the run on main does what the specs ask for and nothing else.

mod files;
mod lock;
mod reports;
mod specs;

use std::path::PathBuf;

use serde_json::Value;

use crate::support::checkout::Checkout;
use crate::support::environment::Ran;

const BASE: &[&str] = &["plan", "--base", "main"];
const IMAGE: &str = "ghcr.io/x/engine:1";
const SPECS: &str = "specs/mesh.yaml";
/// The document of `east` in the specs of the base.
/// What a cluster that publishes no evidence states of its Istio.
const STATED: &str = "istio: {standardMeshNetworks: none}";
const EAST: &str = "metadata: {endpoint: \"file://metadata/east\"}";

/// Two joined clusters, committed as main: east with our components, an override and a policy, west with Helm values.
fn main() -> Checkout {
    let checkout = Checkout::new();
    let east = format!("{EAST}, multicluster: {{image: \"{IMAGE}\", apiHost: api.east.example.com}}");
    checkout.edit(SPECS, EAST, &east);
    let values = "istio: {config: helmValues}";
    checkout.edit(
        SPECS,
        &format!("{STATED}, metadata: {{endpoint: \"file://metadata/west"),
        &format!("{values}, metadata: {{endpoint: \"file://metadata/west"),
    );
    let policy = "apiVersion: isthmus.dev/v1alpha1\nkind: Policy\nspec:\n  images: {allow: [ghcr.io/x/engine]}\n  clusters: {reconcilers: [rendered]}\n";
    checkout.write("policy.yaml", policy.as_bytes());
    overrides(&checkout, "exporter/deployment.yaml", "replicas: {{ replicas|tojson }}", "replicas: 3");
    checkout.engine(&["apply"]).done();
    checkout.engine(&["plan", "--detailed-exitcode"]).done();
    commit(&checkout, &["init", "-q", "-b", "main"], "main");
    checkout.git(&["switch", "-q", "-c", "pull"]);
    checkout
}

/// Everything becomes a commit.
fn commit(checkout: &Checkout, before: &[&str], message: &str) {
    checkout.git(before);
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-q", "--allow-empty", "-m", message]);
}

/// Writes an override, the built-in template with one text instead of another.
#[allow(clippy::disallowed_methods, reason = "the built-in templates are read as files")]
fn overrides(checkout: &Checkout, name: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(format!("{}/templates/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(text.contains(from), "{name} has no {from:?}");
    checkout.write(&format!("templates/{name}"), text.replacen(from, to, 1).as_bytes());
}

/// What a run on main makes of a pull request that was merged all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merged {
    /// Lock and tree are those of the base again.
    Mended,
    /// Nothing is written, and the run ends with exit code 4.
    Kept,
    /// The run ends with exit code 4, and opens and closes nothing.
    Withheld,
    /// The specs ask for it: the run follows them, and nothing but what it renders is in the tree.
    Followed,
    /// No run is taken on it at all.
    Stopped(i32),
}

/// The base gets two clusters that are not linked, and the pull request begins there.
fn apart(checkout: &Checkout) {
    checkout.git(&["switch", "-q", "main"]);
    let apart = "acceptForeignRoots: true, topology: pairs, pairs: [], settle: 0s";
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", apart);
    for _ in 0..4 {
        checkout.engine(&["apply", "--allow-delete"]).done();
    }
    commit(checkout, &["status", "-s"], "apart");
    checkout.git(&["switch", "-q", "-C", "pull"]);
}

/// Judges a pull request: what its plan says on top, in text, Markdown and JSON, and what becomes of it when it is merged.
#[track_caller]
fn judged(checkout: &Checkout, name: &str, exit: i32, reported: &[&str], merged: Merged) {
    commit(checkout, &["status", "-s"], name);
    let text = checkout.engine(BASE);
    assert_eq!(text.code, exit, "{text}");
    let markdown = checkout.engine(&[BASE, &["--output", "markdown"]].concat());
    assert_eq!(markdown.code, exit, "{markdown}");
    for expected in reported {
        if is_error(&text) {
            assert!(
                text.stderr.contains(expected) && markdown.stdout.contains(expected),
                "`{expected}` is not in {text}\n{markdown}"
            );
            continue;
        }
        for output in [&text, &markdown] {
            let top = on_top(&output.stdout).to_lowercase();
            assert!(top.contains(&expected.to_lowercase()), "`{expected}` is not on top of {output}");
        }
    }
    let json = checkout.engine(&[BASE, &["--output", "json"]].concat());
    assert_eq!(json.code, exit, "{json}");
    if !is_error(&text) {
        let plan: Value = serde_json::from_str(&json.stdout).unwrap();
        let items = plan["securityRelevant"].as_array().unwrap();
        let trust = plan["trustChanges"].as_array().unwrap();
        assert!(!items.is_empty() || !trust.is_empty() || plan["counts"]["refused"] != 0, "{json}");
        let refused = items.iter().any(|item| item["refused"] == true);
        let refused =
            refused || trust.iter().any(|change| change["state"] != "accepted") || plan["counts"]["refused"] != 0;
        assert_eq!(refused, exit == 4, "{json}");
        assert!(!text.says("No changes"), "{text}");
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, format!("{text}\n=== Markdown ===\n{}", markdown.stdout));
    });
    merge(checkout, merged);
}

/// Merges it and lets main's job run.
#[track_caller]
fn merge(checkout: &Checkout, merged: Merged) {
    checkout.git(&["switch", "-q", "main"]);
    let (base, live) = (checkout.output(), secrets(checkout));
    checkout.git(&["merge", "-q", "--no-edit", "pull"]);
    let before = checkout.output();
    let ran = checkout.engine(&["apply"]);
    let after = checkout.output();
    match merged {
        Merged::Mended => assert!(after == base, "{ran}"),
        Merged::Withheld => assert!(ran.code == 4 && secrets(checkout) == live, "{ran}"),
        Merged::Kept => assert!(ran.code == 4 && after == before, "{ran}"),
        Merged::Stopped(exit) => assert!(ran.code == exit && after == before, "{ran}"),
        Merged::Followed => {
            assert!([0, 3, 4].contains(&ran.code), "{ran}");
            // what stands in the tree is what specs and lock render: nothing of it came from anywhere else
            let again = checkout.engine(&["plan", "--locked", "--output", "json"]);
            let plan: Value = serde_json::from_str(&again.stdout).unwrap();
            let counts = &plan["counts"];
            assert!(counts["create"] == 0 && counts["update"] == 0 && counts["delete"] == 0, "{again}");
            let files = plan["securityRelevant"].as_array().unwrap().iter().any(|item| item["refused"] == true);
            assert!(!files, "{again}");
        }
    }
    if !matches!(merged, Merged::Stopped(_)) {
        let verified = checkout.engine(&["verify"]);
        assert!(verified.code == 0 || ran.code == 4, "{ran}\n{verified}");
    }
}

/// Readers and peers of the remote secrets in the tree.
fn secrets(checkout: &Checkout) -> Vec<PathBuf> {
    let is_secret = |path: &PathBuf| path.to_str().unwrap().contains("istio-remote-secret");
    checkout.output().into_keys().filter(is_secret).collect()
}

/// Whether the run ended with findings instead of a plan.
fn is_error(ran: &Ran) -> bool {
    ran.stdout.is_empty()
}

/// What stands before any object.
fn on_top(output: &str) -> String {
    let is_step = |line: &&str| {
        let rest = line.trim_start_matches(['+', '~', '-', '!', '…', '✗', ' ']);
        rest.starts_with("render-") || rest.starts_with("exchange-keys/") || rest.starts_with("### Changes")
    };
    let top: Vec<&str> = output.lines().take_while(|line| !is_step(line)).collect();
    top.join("\n")
}
