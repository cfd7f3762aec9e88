//! Specs: what is read, and that what is wrong is said at once, in words, with its place.

use std::path::Path;

use isthmus::model::mesh::{Mesh, Reconciler};
use isthmus::pipeline::compile::load;
use isthmus::spec::{SourceFile, parse, schema};
use isthmus::types::diagnostic::{Location, render};
use proptest::collection::vec;
use proptest::prelude::*;
use rstest::rstest;
use serde::Deserialize as _;

use crate::bad::specs::source;

fn findings(sources: &[SourceFile]) -> String {
    match parse(sources) {
        Ok(spec) => format!("{spec:#?}"),
        Err(findings) => render(&findings),
    }
}

#[test]
fn two_slips_in_one_document_and_one_in_the_next_are_reported_at_once() {
    let text = "\
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: East}
spec:
  reconcilr: rendered
  metadata:
    endpoint: http://istio-metadata.east.example.com/metadata
  gateways: [{address: 0x7f.1, port: 0}]
---
kind: Clutser
apiVersion: isthmus.dev/v1alpha1
---
a: {
---
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: shop}
spec: {acceptForeignRoots: yes, topolgy: full}
";
    insta::assert_snapshot!(findings(&[source("specs/a.yaml", text)]));
}

/// Every field of every kind, each with a value that is no default.
const EVERYTHING: &str = include_str!("data/everything.yaml");

fn mesh(sources: &[SourceFile]) -> Mesh {
    let file = |_: &str| Some(include_bytes!("../fixtures/real/east/api-ca.crt").to_vec());
    match load(sources, "0.1.7", &file) {
        Ok((mesh, _)) => mesh,
        Err(findings) => panic!("{}", render(&findings)),
    }
}

fn examples() -> Vec<SourceFile> {
    ["mesh", "clusters/east", "clusters/west", "clusters/north"]
        .map(|name| {
            let path = format!("specs/{name}.yaml");
            let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).unwrap();
            source(&path, text)
        })
        .to_vec()
}

#[test]
fn every_field_reaches_the_mesh() {
    insta::assert_snapshot!(format!("{:#?}", mesh(&[source("specs/all.yaml", EVERYTHING)])));
}

#[test]
fn the_example_mesh_is_full_and_says_nothing_twice() {
    let example = mesh(&examples());
    let names: Vec<_> = example.clusters.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["east", "north", "west"]);
    for name in example.clusters.keys() {
        assert_eq!(example.peers_of(name).count(), 2);
    }
    assert_eq!(example.require_token, None);
    insta::assert_snapshot!(format!("{:#?}", example.clusters["north"]));
}

#[test]
fn a_strict_relay_is_stated_in_the_mesh() {
    let mut sources = examples();
    let text = String::from_utf8(sources[0].bytes.clone()).unwrap();
    let strict = text.replacen("    mode: relay\n", "    mode: relay\n    requireToken: true\n", 1);
    assert_ne!(strict, text);
    sources[0].bytes = strict.into_bytes();
    assert_eq!(mesh(&sources).require_token, Some(true));
}

#[test]
fn scalars_that_resemble_something_else_stay_texts() {
    let text = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: no}
spec: {meshID: 012, requiredEngine: 0.10}
";
    let spec = parse(&[source("specs/a.yaml", text)]).unwrap();
    let mesh = &spec.meshes[0];
    assert_eq!(mesh.name.value.as_str(), "no");
    assert_eq!(mesh.mesh_id.as_ref().unwrap().value.as_str(), "012");
    assert_eq!(mesh.required_engine.as_ref().unwrap().value, "0.10");
}

#[test]
fn newer_fields_of_deckhouse_are_warned_of_and_ours_are_errors() {
    let text = "\
apiVersion: deckhouse.io/v1alpha1
kind: IstioMulticluster
metadata: {name: south, annotations: {a: b}}
spec: {metadataEndpoint: 'https://istio.south.example.com/metadata/', newerField: 1}
status: {}
";
    let mut sources = examples();
    sources.push(source("specs/south.yaml", text));
    let (mesh, findings) = load(&sources, "0.1.0", &|_| None).unwrap();
    assert_eq!(mesh.clusters["south"].reconciler, Reconciler::External);
    assert_eq!(mesh.peers_of(&"south".parse().unwrap()).count(), 3);
    insta::assert_snapshot!(render(&findings));
    sources[4] = source("specs/south.yaml", text.replace("deckhouse.io", "isthmus.dev"));
    let errors = load(&sources, "0.1.0", &|_| None).unwrap_err();
    assert!(errors.has_errors());
}

/// The mesh without the places, which do depend on the order.
fn placeless(mut mesh: Mesh) -> Mesh {
    let nowhere = Location { file: "".into(), line: 1, column: 1 };
    for cluster in mesh.clusters.values_mut() {
        cluster.at = nowhere.clone();
    }
    mesh.at = nowhere;
    mesh
}

proptest! {
    /// Documents in any order, in any number of files of any names, are the same mesh.
    #[test]
    fn the_order_of_documents_and_files_changes_nothing(
        order in Just(EVERYTHING.split("\n---\n").collect::<Vec<_>>()).prop_shuffle(),
        files in vec(0..4_usize, 8),
        names in Just(["a", "b", "c/d", "z"]).prop_shuffle(),
    ) {
        let mut texts = [const { String::new() }; 4];
        for (document, file) in order.iter().zip(files.iter().cycle()) {
            texts[*file].extend(["---\n", document, "\n"]);
        }
        let sources: Vec<_> =
            names.iter().zip(texts).map(|(name, text)| source(&format!("specs/{name}.yaml"), text)).collect();
        prop_assert_eq!(placeless(mesh(&sources)), placeless(mesh(&[source("specs/all.yaml", EVERYTHING)])));
    }

    /// No file, however broken, ends in anything but findings; and each place lies in the file.
    #[test]
    fn a_spoilt_file_is_findings_and_no_panic(at in 0..EVERYTHING.len(), count in 0..40_usize, with in "[-:{}\\[\\]'\"&*!|>#%@ \\n\\ta-z0-9]{0,6}") {
        let mut bytes = EVERYTHING.as_bytes().to_vec();
        let end = (at + count).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        let lines = bytes.split(|byte| *byte == b'\n').count();
        let file = |_: &str| Some(include_bytes!("../fixtures/real/east/api-ca.crt").to_vec());
        if let Err(findings) = load(&[source("specs/all.yaml", bytes)], "0.1.0", &file) {
            prop_assert!(findings.has_errors());
            for finding in findings.sorted() {
                prop_assert!(finding.at.as_ref().is_none_or(|at| (1..=lines + 1).contains(&at.line)));
            }
        }
    }
}

fn documents(text: &str) -> Vec<serde_json::Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    documents
        .map(|document| serde_json::Value::deserialize(document).unwrap())
        .filter(|value| !value.is_null())
        .collect()
}

#[test]
fn the_schema_admits_the_examples() {
    let schema = jsonschema::draft202012::new(&schema()).unwrap();
    let texts = examples().into_iter().map(|source| String::from_utf8(source.bytes).unwrap());
    let all: Vec<_> = texts.chain([EVERYTHING.to_owned()]).flat_map(|text| documents(&text)).collect();
    assert!(all.len() >= 8);
    for document in all {
        let errors: Vec<_> = schema.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{document:#}: {errors:?}");
    }
}

/// Each change of a good document is refused by the schema, and by the engine.
#[rstest]
#[case("kind: Mesh", "kind: Mash")]
#[case("apiVersion: isthmus.dev/v1alpha1\nkind: Mesh", "apiVersion: isthmus.dev/v1\nkind: Mesh")]
#[case("topology: pairs", "topolgy: pairs")]
#[case("topology: pairs", "topology: some")]
#[case("[east, west]", "[east]")]
#[case("[east, west]", "[east, West]")]
#[case("acceptForeignRoots: true", "acceptForeignRoots: \"true\"")]
#[case("requireToken: true", "requireToken: true, lifetime: 36h")]
#[case("mode: relay", "mode: direct")]
#[case("firstContact: approve", "firstContact: approve\n  encryption: {none: {}}")]
#[case("requiredEngine: \"0.1\"", "requiredEngine: latest")]
#[case("reconciler: external", "reconciler: agents")]
#[case("replicas: 3", "replicas: 0")]
#[case("replicas: 3", "replicas: \"3\"")]
#[case("clusterUUID: 2f0a77f0", "clusterUUID: 2F0A77F0")]
#[case("clusterID: east-id", "clusterID: Kubernetes")]
#[case("port: 443", "port: 70000")]
#[case("namespaces: [\"*\"]", "namespaces: [\"front**\"]")]
#[case("namespaces: [\"*\"]", "namespaces: front")]
#[case("except: []", "except: [Front]")]
#[case("shareWith: {west:", "shareWith: {West:")]
#[case("file: east-ca.pem", "file: /east-ca.pem")]
#[case("enableIngressGateway: false", "enableIngressGateway: 0")]
#[case("insecureSkipVerify: false", "insecureSkipVerify: true")]
#[case("name: east", "name: east, labels: {}")]
fn the_schema_and_the_engine_refuse_the_same(#[case] good: &str, #[case] bad: &str) {
    assert!(EVERYTHING.contains(good), "{good}");
    let text = EVERYTHING.replacen(good, bad, 1);
    let schema = jsonschema::draft202012::new(&schema()).unwrap();
    assert!(documents(&text).iter().any(|document| !schema.is_valid(document)), "the schema admits {bad}");
    let file = |_: &str| Some(include_bytes!("../fixtures/real/east/api-ca.crt").to_vec());
    assert!(load(&[source("specs/all.yaml", text)], "0.1.0", &file).is_err(), "the engine admits {bad}");
}
