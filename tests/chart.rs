//! The Helm chart: that it is what the engine writes, and that its schema takes what specs may say. What Helm makes of it is
//! compared in `tests/bed/chart.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use isthmus::gitops::chart;
use serde_json::{Value, json};

use crate::support::environment::TestEnvironment;

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/isthmus")
}

/// All files below a folder, by their paths in it.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(below, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// `just reference` writes it anew.
#[test]
fn the_committed_chart_is_the_one_that_the_engine_writes() {
    let environment = TestEnvironment::new();
    let folder = environment.path("chart");
    let arguments = ["manifests", "helm", "--directory", folder.to_str().unwrap()];
    environment.run(&arguments).done();
    let made = files(&folder);
    if std::env::var("ISTHMUS_REFERENCE").is_ok_and(|value| value == "write") {
        drop(std::fs::remove_dir_all(committed()));
        for (path, text) in &made {
            let path = committed().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
    let committed = files(&committed());
    assert_eq!(committed.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "run `just reference`");
    for (path, text) in &made {
        assert!(committed[path] == *text, "charts/isthmus/{path} is stale; run `just reference`");
    }
}

fn judged(values: &Value) -> Vec<String> {
    let schema = chart::schema();
    let schema = jsonschema::draft7::new(&schema).unwrap();
    schema.iter_errors(values).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_takes_what_the_values_say_and_nothing_that_a_spec_may_not() {
    let values: Value = serde_yaml::from_str(&chart::values()).unwrap();
    assert_eq!(judged(&values), [""; 0]);
    let mut good = values;
    good["mesh"]["name"] = "shop".into();
    good["cluster"]["name"] = "east".into();
    good["cluster"]["metadata"] = json!({ "endpoint": "https://m.example.com", "ca": { "inline": "PEM" } });
    good["cluster"]["share"] = json!({ "namespaces": ["front-*", "*"], "except": ["kube-system"] });
    good["global"] = json!({ "anything": 1 });
    assert_eq!(judged(&good), [""; 0]);
    for (path, value) in [
        ("/cluster/name", json!("East")),
        ("/mesh/nmae", json!("shop")),
        ("/image", json!("x")),
        ("/cluster/reconciler", json!("rendered")),
        ("/cluster/istio", json!({ "namespace": "istio-1" })),
        ("/cluster/istio", json!({ "config": "helmValues" })),
        ("/cluster/multicluster/expose", json!("Ingress")),
        ("/cluster/multicluster/replicas", json!(0)),
        ("/cluster/multicluster/admissionPolicy", json!(false)),
        ("/cluster/metadata/endpoint", json!("file://metadata")),
        ("/cluster/metadata/ca", json!({ "file": "ca.pem" })),
        ("/cluster/share/namespaces", json!(["a**"])),
        ("/cluster/pin", json!({ "clusterUUID": "east" })),
    ] {
        let mut bad = good.clone();
        let (object, field) = path.rsplit_once('/').unwrap();
        bad.pointer_mut(object).unwrap()[field] = value.clone();
        assert!(!judged(&bad).is_empty(), "{path}: {value} is taken");
    }
}

/// Patterns are those of RE2, which Helm reads them by: it knows no assertions that look around.
#[test]
fn patterns_of_the_schema_are_those_of_re2() {
    let text = chart::schema().to_string();
    assert!(!text.contains("(?"), "{text}");
}
