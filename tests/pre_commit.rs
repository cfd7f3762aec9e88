//! `.pre-commit-hooks.yaml`: its hook as pre-commit would run it.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::checkout::Checkout;

fn hook() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".pre-commit-hooks.yaml");
    let hooks: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(hooks.as_array().unwrap().len(), 1, "each hook is tried here");
    hooks[0].clone()
}

/// The words behind `engine`.
fn entry(hook: &Value) -> Vec<String> {
    let mut arguments = hook["entry"].as_str().unwrap().split(' ').map(str::to_owned);
    assert_eq!(arguments.next().as_deref(), Some("engine"));
    arguments.collect()
}

#[test]
fn the_hook_passes_what_is_in_order_and_refuses_findings() {
    let arguments = entry(&hook());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let checkout = Checkout::joined();
    let before = checkout.output();
    checkout.engine(&arguments).done();
    assert_eq!(checkout.output(), before, "a hook changes nothing");
    // rendered files that are behind are refused where that is asked for
    checkout.edit(
        "specs/mesh.yaml",
        "metadata: {name: west}\nspec: {",
        "metadata: {name: west}\nspec: {state: paused, ",
    );
    checkout.engine(&arguments).done();
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots", "acceptForeignRoot");
    checkout.refuses(&arguments, 1, &["acceptForeignRoot", "did you mean `acceptForeignRoots`?"]);
}

#[test]
fn the_hook_runs_for_the_files_of_a_checkout() {
    let hook = hook();
    let pattern = jsonschema::draft202012::new(&json!({ "pattern": hook["files"] })).unwrap();
    for (path, is_ours) in [
        ("specs/clusters/east.yaml", true),
        ("policy.yaml", true),
        ("lock/mesh.yaml", true),
        ("rendered/east/kustomization.yaml", true),
        ("templates/relay/deployment.yaml", true),
        ("values/east/helm-values.yaml", true),
        ("docs/policy.yaml", false),
        ("README.md", false),
    ] {
        assert_eq!(pattern.is_valid(&path.into()), is_ours, "{path}");
    }
    assert_eq!(hook["pass_filenames"], false);
}
