//! The demo: the main job, whole, on loopback.

use std::process::Command;

#[test]
fn the_tour_joins_three_clusters_and_takes_one_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_engine"))
        .args(["demo", "--keep"])
        .arg(folder.path().join("checkout"))
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let mut rest = text.as_str();
    for line in [
        "Deployment ×3",
        "+ ConfigMap isthmus-routes",
        "+ Secret istio-remote-secret-north",
        "No changes. The checkout is what the specs ask for.",
        "east    north  joined  proven",
        "✗ fetch-ca/north  failed:",
        "(exit code 3)",
        "! trust change of `west`: held back",
        "(exit code 4)",
        "! trust change of `west`: accepted",
        "- Secret istio-remote-secret-north",
        "No changes. The checkout is what the specs ask for.",
        "none of them holds a private key, a token or a credential",
    ] {
        let at = rest.find(line).unwrap_or_else(|| panic!("`{line}` is missing, or too early, in\n{text}"));
        rest = &rest[at + line.len()..];
    }
    assert!(folder.path().join("checkout/rendered/east/secret-istio-remote-secret-west.yaml").exists());
    assert!(!folder.path().join("checkout/rendered/east/secret-istio-remote-secret-north.yaml").exists());
}
