//! The demo: the main job, whole, on loopback.

use crate::support::environment::TestEnvironment;

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
        "No changes. lock/, rendered/ and values/ are what the specs ask for",
        "east    north  joined  proven",
        "✗ fetch-ca/north  failed:",
        "(exit code 3)",
        "! trust change of `west`: held back",
        "(exit code 4)",
        "! trust change of `west`: accepted",
        "- Secret istio-remote-secret-north",
        "No changes. lock/, rendered/ and values/ are what the specs ask for",
        "none of them holds a private key, a token or a credential",
    ] {
        let at = rest.find(line).unwrap_or_else(|| panic!("`{line}` is missing, or too early, in\n{text}"));
        rest = &rest[at + line.len()..];
    }
    assert!(checkout.join("rendered/east/secret-istio-remote-secret-west.yaml").exists());
    assert!(!checkout.join("rendered/east/secret-istio-remote-secret-north.yaml").exists());
}
