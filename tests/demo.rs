//! The demo: the main job, whole, on loopback.

use std::path::Path;

use crate::support::environment::TestEnvironment;

/// A line without what differs from run to run: digests and ports.
fn normalized(line: &str) -> String {
    let mut out = String::new();
    let is_digest = |word: &str| word.len() >= 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let is_port = |word: &str, before: &str| before.ends_with("127.0.0.1:") && word.bytes().all(|b| b.is_ascii_digit());
    for word in line.trim_end().split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let name = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let rest = word.strip_prefix(name).unwrap_or_default();
        out.push_str(if is_digest(name) || is_port(name, &out) { "…" } else { name });
        out.push_str(rest);
    }
    out.replace("……", "…")
}

/// The tour of the README is what the demo prints, shortened: its lines are in it, in this order. One that ends with `…` is the
/// beginning of a line, and one of `…` alone leaves lines out.
fn readme_is_in(text: &str) {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let tour = readme.split("\n## A tour\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = tour.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap());
    let printed: Vec<String> = text.lines().map(normalized).collect();
    let mut rest = printed.iter();
    let mut count = 0;
    for line in blocks.flat_map(str::lines).filter(|line| !line.is_empty() && *line != "…") {
        let wanted = normalized(line);
        let is_it = |found: &String| match wanted.strip_suffix('…') {
            Some(beginning) => found.starts_with(beginning.trim_end()),
            None => *found == wanted,
        };
        assert!(
            rest.any(is_it),
            "README.md, the tour: expected a line of `engine demo`, in its order; found {line:?}\n{text}"
        );
        count += 1;
    }
    assert!(count > 40, "{count} lines of the README compared");
}

#[test]
fn the_tour_joins_three_clusters_and_takes_one_out_again() {
    let environment = TestEnvironment::new();
    let checkout = environment.path("checkout");
    let text = environment.run(&["demo", "--keep", checkout.to_str().unwrap()]).done();
    let mut rest = text.as_str();
    for line in [
        "Deployment ×3",
        "+ ConfigMap isthmus-routes",
        "+ Secret istio-remote-secret-north",
        "No changes. lock/, rendered/ and values/ match the specs",
        "east    north  joined  proven",
        "✗ fetch-ca/north  failed:",
        "(exit code 3)",
        "! trust change of `west`: held back",
        "(exit code 4)",
        "! trust change of `west`: accepted",
        "- Secret istio-remote-secret-north",
        "No changes. lock/, rendered/ and values/ match the specs",
        "none of them holds a private key, a token or a credential",
    ] {
        let at = rest.find(line).unwrap_or_else(|| panic!("`{line}` is missing, or too early, in\n{text}"));
        rest = &rest[at + line.len()..];
    }
    readme_is_in(&text);
    assert!(checkout.join("rendered/east/secret-istio-remote-secret-west.yaml").exists());
    assert!(!checkout.join("rendered/east/secret-istio-remote-secret-north.yaml").exists());
}
