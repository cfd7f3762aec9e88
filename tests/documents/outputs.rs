//! Outputs that documents quote are what the program prints.
//!
//! Every block that shows what is printed is held here, or listed with the reason why it is not. Its lines are lines of the
//! output, in their order; `…` stands for anything, and a line of `…` alone leaves lines out.

use isthmus::roles::proxy::audit::AuditRecord;

use super::{Block, TestedDocument, blocks, documents};
use crate::init::{InitWorld, istio, remote_secret};
use crate::invite::reached;
use crate::outputs::{rebuild_west, with_key};
use crate::support::checkout::Checkout;

/// A block, by its document and its first line of output; and what prints it.
struct HeldOutput {
    document: &'static str,
    first: &'static str,
    printed: fn() -> String,
}

const HELD: &[HeldOutput] = &[
    HeldOutput { document: "docs/air-gap.md", first: "signed by the engine's key", printed: exported },
    HeldOutput { document: "docs/air-gap.md", first: "`west`: ", printed: imported },
    HeldOutput {
        document: "docs/disaster.md",
        first: "! trust change of `west`: held back|    authn key",
        printed: another_key,
    },
    HeldOutput {
        document: "docs/disaster.md",
        first: "! trust change of `west`: held back|    cluster UUID of",
        printed: rebuilt,
    },
    HeldOutput { document: "docs/disaster.md", first: "✗ fetch-ca/c0007", printed: dead },
    HeldOutput { document: "docs/onboarding.md", first: "CONTEXT", printed: surveyed },
    HeldOutput { document: "docs/onboarding.md", first: "endpoint  ", printed: fingerprint },
    HeldOutput { document: "docs/policy.md", first: "refused: cluster `east`", printed: not_admitted },
    HeldOutput { document: "docs/safety.md", first: "git log", printed: lock_without_a_link },
    HeldOutput { document: "docs/safety.md", first: "2 clusters, 2 links", printed: verified },
    HeldOutput { document: "docs/templates.md", first: "refused: ", printed: overridden },
    HeldOutput { document: "docs/roles.md", first: "{\"time\"", printed: recorded },
];

/// Blocks of text and of consoles that are held elsewhere, or that the program does not print.
const NOT_HELD: &[(&str, &str, &str)] = &[
    ("README.md", "mesh shop · 3 clusters", "tests/demo.rs holds the tour"),
    ("README.md", "~ render-trust/east", "tests/demo.rs holds the tour"),
    ("README.md", "+ render-secret/east/west", "tests/demo.rs holds the tour"),
    ("README.md", "Review first", "tests/demo.rs holds the tour"),
    ("README.md", "specs/**/*.yaml", "a drawing of folders"),
    ("ARCHITECTURE.md", "specs ─", "a drawing"),
    (
        "docs/disaster.md",
        "… discover-proxy/east",
        "it takes a peer over TLS; tests/codes/links.rs has the reason printed",
    ),
    ("docs/agent.md", "NAME ", "tests/bed/agent.rs compares it with what kubectl prints"),
    ("docs/istioctl.md", "NAME ", "tests/bed/istioctl.rs compares it with what istioctl prints"),
    ("docs/disaster.md", "/lock/**", "lines of .gitattributes, which tests/disaster.rs uses"),
    ("docs/policy.md", "# CODEOWNERS", "a file of the reader's own"),
    ("docs/roles.md", "istiod of east", "a drawing"),
    ("docs/onboarding.md", "     kubectl", "commands of the reader's own; tests/init.rs holds those that are printed"),
    ("docs/templates.md", "  replicas: {{", "lines of a template"),
];

fn exported() -> String {
    let checkout = with_key();
    let file = checkout.environment.path("west.bundle");
    checkout.engine(&["export", "west", "--out", file.to_str().unwrap()]).stderr
}

fn imported() -> String {
    let there = with_key();
    let here = Checkout::new();
    std::fs::remove_dir_all(here.path("metadata/west")).unwrap();
    let file = here.environment.path("west.bundle");
    let file = file.to_str().unwrap();
    let ran = there.engine(&["export", "west", "--out", file]);
    let signer = ran.stderr.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    here.engine(&["import", file, "--signer", signer]).to_string()
}

/// The commands that a message names, one a line.
fn lock_without_a_link() -> String {
    let checkout = Checkout::joined();
    std::fs::remove_file(checkout.path("lock/links/east.yaml")).unwrap();
    checkout.engine(&["plan"]).stdout.replace('`', "\n")
}

fn verified() -> String {
    Checkout::joined().engine(&["verify"]).done()
}

fn overridden() -> String {
    let checkout = Checkout::new();
    checkout.edit(
        "specs/mesh.yaml",
        "name: east}\nspec: {",
        "name: east}\nspec: {multicluster: {image: \"ghcr.io/isthmus-mesh/engine:0.1.0\", apiHost: api.east.example.com}, ",
    );
    let template = TestedDocument::read("templates/relay/service.yaml").text;
    let changed = template.replace("type: ClusterIP", "type: LoadBalancer");
    assert_ne!(changed, template);
    checkout.write("templates/relay/service.yaml", changed.as_bytes());
    checkout.engine(&["plan"]).stderr
}

fn another_key() -> String {
    let checkout = Checkout::joined();
    let path = "metadata/west/public/public.json";
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(checkout.path(path)).unwrap()).unwrap();
    let key = isthmus::types::key::PrivateKey::generate(&[9; 32]).unwrap();
    document["authnKeyPub"] = key.public().to_pem().into();
    checkout.write(path, document.to_string().as_bytes());
    checkout.engine(&["plan"]).stdout
}

fn rebuilt() -> String {
    let checkout = Checkout::joined();
    rebuild_west(&checkout);
    checkout.engine(&["plan"]).stdout
}

fn dead() -> String {
    let checkout = Checkout::joined();
    std::fs::remove_dir_all(checkout.path("metadata/west")).unwrap();
    checkout.engine(&["plan"]).stdout.replace("west", "c0007")
}

fn surveyed() -> String {
    let mut world = InitWorld::new();
    let east = world.kube("admin@east");
    let west = world.kube("admin@west");
    let root = |name: &str| {
        let path = format!("{}/fixtures/real/{name}/root-cert.pem", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    istio(&east, "east", "4a0283e9-7b05-4319-b3a1-22adee3e5bfb", &root("east"), "203.0.113.7");
    istio(&west, "west", "9b1fd2aa-4a1c-4f7e-8a53-0d6f5f1b7c02", &root("west"), "198.51.100.7");
    east.put("secrets", remote_secret("istio-remote-secret-west", "west", "https://10.0.0.1"));
    west.put("secrets", remote_secret("istio-remote-secret-east", "east", "https://10.0.0.2"));
    world.engine(&["init"]).stdout
}

fn fingerprint() -> String {
    reached().engine(&["invite", "east", "--fingerprint"]).done()
}

fn not_admitted() -> String {
    let checkout = Checkout::joined();
    checkout.edit(
        "specs/mesh.yaml",
        "name: east}\nspec: {",
        "name: east}\nspec: {multicluster: {image: \"evil.example.com/engine:1\", apiHost: api.east.example.com}, ",
    );
    let policy =
        "apiVersion: isthmus.dev/v1alpha1\nkind: Policy\nspec:\n  images:\n    allow: [ghcr.io/example/isthmus]\n";
    checkout.write("policy.yaml", policy.as_bytes());
    checkout.engine(&["plan"]).stderr
}

fn recorded() -> String {
    let text = |text: &str| Some(text.to_owned());
    let record = AuditRecord {
        time: "2026-11-23T11:31:07.482Z".to_owned(),
        event: "answered",
        id: 17,
        source: "203.0.113.9".to_owned(),
        peer: text("east"),
        cluster_uuid: text("1b0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31"),
        key_id: text("3f61aa"),
        method: "GET".to_owned(),
        verb: Some("watch"),
        group: text(""),
        version: text("v1"),
        resource: text("services"),
        decision: "allowed",
        status: 200,
        milliseconds: 3,
        ..AuditRecord::default()
    };
    serde_json::to_string(&record).unwrap()
}

/// Whether a line is one that was printed; `…` stands for anything.
fn is_line(wanted: &str, found: &str) -> bool {
    let parts: Vec<&str> = wanted.split('…').collect();
    let [first, rest @ ..] = parts.as_slice() else { return false };
    let Some(mut left) = found.strip_prefix(first) else { return false };
    for (at, part) in rest.iter().enumerate() {
        let found = if at + 1 == rest.len() {
            left.strip_suffix(part).map(|_| left.len() - part.len())
        } else {
            left.find(part)
        };
        let Some(found) = found else { return false };
        left = &left[found + part.len()..];
    }
    left.is_empty()
}

/// The first line of a quoted output that is not in what was printed, in its order.
fn missing<'a>(quoted: &[&'a str], printed: &str) -> Option<&'a str> {
    let mut rest = printed.lines();
    let mut wanted = quoted.iter().filter(|line| !line.trim().is_empty() && line.trim() != "…");
    // a mark of a plan is no gap
    let plain = |line: &str| line.trim_end().replacen("… ", "~~ ", usize::from(line.starts_with("… ")));
    wanted.find(|line| !rest.any(|found| is_line(&plain(line), &plain(found)))).copied()
}

/// Whether a block shows what is printed; its lines that do.
fn output<'a>(block: &Block<'a>) -> Vec<&'a str> {
    match block.language {
        "console" => {
            let lines = block.lines.iter().filter(|line| !line.starts_with("$ ") && !line.trim().is_empty());
            lines.copied().collect()
        }
        "text" | "json" => block.lines.clone(),
        _ => Vec::new(),
    }
}

/// Whether a quoted output begins like this; `|` parts its first two lines.
fn begins(output: &[&str], first: &str) -> bool {
    first.split('|').zip(output).all(|(first, line)| line.starts_with(first))
}

#[test]
fn quoted_outputs_are_what_is_printed() {
    let mut faults = Vec::new();
    let mut found = vec![0; HELD.len() + NOT_HELD.len()];
    for TestedDocument { path, text } in
        documents().iter().filter(|document| !document.path.starts_with("docs/reference/"))
    {
        for block in blocks(text).iter().filter(|block| block.language != "mermaid") {
            let quoted = output(block);
            if quoted.is_empty() {
                continue;
            }
            let held = HELD.iter().position(|held| held.document == path && begins(&quoted, held.first));
            let not = NOT_HELD.iter().position(|(document, first, _)| document == path && quoted[0].starts_with(first));
            match (held, not) {
                (Some(at), _) => {
                    found[at] += 1;
                    let printed = (HELD[at].printed)();
                    if let Some(line) = missing(&quoted, &printed) {
                        faults.push(format!("{path}:{}: not printed: {line:?}, in\n{printed}", block.line));
                    }
                }
                (None, Some(at)) => found[HELD.len() + at] += 1,
                (None, None) => faults.push(format!("{path}:{}: neither held nor listed: {:?}", block.line, quoted[0])),
            }
        }
    }
    for (at, count) in found.iter().enumerate().filter(|(_, count)| **count != 1) {
        let (document, first) = HELD.get(at).map_or_else(
            || (NOT_HELD[at - HELD.len()].0, NOT_HELD[at - HELD.len()].1),
            |held| (held.document, held.first),
        );
        faults.push(format!("{document}: expected one block that begins with {first:?}, found {count}"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_not_printed_is_reported() {
    let printed = "a 1\n… b  waits\n  c\nd\n";
    for quoted in [&["a 1", "d"][..], &["a …", "… b  waits"], &["…", "  c"], &["a 1", "…", "d"], &["… …ts"]]
    {
        assert_eq!(missing(quoted, printed), None, "{quoted:?}");
    }
    for quoted in [&["a 2"][..], &["d", "a 1"], &["… b waits"], &["c"], &["a … 1"]] {
        assert!(missing(quoted, printed).is_some(), "{quoted:?}");
    }
}
