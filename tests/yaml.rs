//! YAML of others: read within a budget, and as `libyaml` reads it.

use std::path::Path;

use isthmus::cluster::kubeconfig as people;
use isthmus::istio::kubeconfig::RemoteKubeconfig;
use isthmus::model::lock::Lock;
use isthmus::pipeline::template::Templates;
use isthmus::spec::SourceFile;
use isthmus::types::object;
use isthmus::types::yaml::{MAX_OBJECT, MAX_TEXT, YamlFault, value};
use isthmus::wire::metadata::{PrivateDocument, Reading, Reported};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::worst_yaml::worst;

const MIB: usize = 1 << 20;

fn private(networks: &str) -> Option<Reported<String>> {
    let document = json!({
        "ingressGateways": [], "apiHost": "api.example.com:443", "networkName": "n",
        "evidence": {"meshConfig": {"caCertificates": false, "meshNetworks": networks}},
    });
    match PrivateDocument::parse(document.to_string().as_bytes()).ok()? {
        Reading::Complete(document) => Some(match document.evidence?.mesh_config {
            Reported::Seen(config) => Reported::Seen(config.mesh_networks.unwrap()),
            Reported::Unknown(reason) => Reported::Unknown(reason),
        }),
        Reading::Incomplete(_) => None,
    }
}

/// Every reader comes to an end with each of them; `cargo bench --bench yaml` says how soon.
#[test]
fn the_worst_yaml_is_read_or_refused() {
    for (name, text) in worst(MIB) {
        let source = |path: &str| SourceFile { path: path.into(), bytes: text.clone().into_bytes() };
        let _findings = isthmus::spec::parse(&[source("specs/a.yaml")]).map(|_| ());
        for path in ["lock/mesh.yaml", "lock/clusters/east.yaml", "lock/links/east.yaml"] {
            assert!(Lock::parse([(path, text.as_bytes())]).is_err() || text.trim().is_empty(), "{name}");
        }
        assert!(object::parse(text.as_bytes()).is_none(), "{name}");
        assert!(Templates::load(&[source("templates/relay/service.yaml")]).is_err(), "{name}");
        assert!(RemoteKubeconfig::read(text.as_bytes()).is_none(), "{name}");
        let _own = people::Kubeconfig::default().add(Path::new("config"), text.as_bytes());
        assert!(matches!(private(&text), Some(Reported::Unknown(_))), "{name}");
    }
}

/// What is within the budget of bytes makes no more values than it has bytes, and is nested no deeper than 64 levels.
#[test]
fn what_is_read_is_within_the_budget() {
    fn size(value: &Value) -> (usize, usize) {
        let add = |(size, depth): (usize, usize), (more, deep): (usize, usize)| (size + more, depth.max(deep + 1));
        match value {
            Value::Array(items) => items.iter().map(size).fold((1, 1), add),
            Value::Object(fields) => fields.values().map(size).fold((1, 1), add),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (1, 1),
        }
    }
    let mut read = 0;
    for (name, text) in worst(MAX_TEXT - 100) {
        if let Ok(value) = value(&text, MAX_TEXT) {
            let (values, depth) = size(&value);
            assert!(values <= MAX_TEXT && depth <= 64, "{name}: {values} values, {depth} levels");
            read += 1;
        }
    }
    assert!(read > 15, "{read}");
    let nested = |levels: usize| value(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)), MAX_TEXT).map(|_| ());
    assert_eq!(nested(64), Ok(()));
    assert_eq!(nested(65), Err(YamlFault::TooDeep { line: 1 }));
    // levels that only aliases make
    let half = format!("- &a {}x{}\n- {}*a{}\n", "[".repeat(40), "]".repeat(40), "[".repeat(40), "]".repeat(40));
    assert_eq!(value(&half, MAX_TEXT), Err(YamlFault::TooDeep { line: 2 }));
    assert_eq!(value(&"a".repeat(11), 10), Err(YamlFault::TooLarge { bytes: 11, most: 10 }));
    let laughs = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: [*c, *c, *c, *c]\n";
    assert!(matches!(value(laughs, 120), Err(YamlFault::TooManyValues { line: 3 | 4, .. })));
}

#[test]
fn what_is_wrong_is_reported_with_its_line() {
    for (text, fault) in [
        ("a: 1\nb: *c\n", YamlFault::Alias { line: 2 }),
        ("a: &a [*a]\n", YamlFault::Alias { line: 1 }),
        ("a: 1\nb: !!binary aGk=\n", YamlFault::Tag { line: 2 }),
        ("a: !own [1]\n", YamlFault::Tag { line: 1 }),
        ("\n[a, b]: c\n", YamlFault::Key { line: 2 }),
        ("a: 1\n---\nb: 2\n", YamlFault::Several { line: 3 }),
    ] {
        assert_eq!(value(text, MAX_TEXT), Err(fault), "{text:?}");
    }
    assert!(matches!(value("a: 1\nb: [1\n", MAX_TEXT), Err(YamlFault::Syntax { .. })));
}

/// Networks beyond the budget are unknown, and nothing else of the document is.
#[test]
fn networks_of_a_peer_that_cost_too_much_are_unknown() {
    for networks in ["[".repeat(40_000), "[".repeat(300_000), "a".repeat(70_000)] {
        let Some(Reported::Unknown(reason)) = private(&networks) else { panic!() };
        assert!(reason.contains("meshNetworks") && reason.len() < 200, "{reason}");
    }
    assert_eq!(private("networks: {}"), Some(Reported::Seen("networks: {}".to_owned())));
}

fn scalar() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "~",
        "null",
        "Null",
        "NULL",
        "nUll",
        "true",
        "True",
        "TRUE",
        "yes",
        "no",
        "on",
        "y",
        "012",
        "0",
        "-0",
        "+1",
        "-1",
        "1.10",
        "1e3",
        "1E400",
        "-1.5",
        ".5",
        "5.",
        "0x1F",
        "-0x1F",
        "0o17",
        "-0o7",
        "0b101",
        "0x",
        "1_000",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "00",
        "+012",
        "2026-11-28",
        "12:30",
        "1.2.3",
        "v1",
        "-",
        "--1",
        "+-1",
        "infinity",
        "nan",
        "e5",
        "1e",
        "0.1e-2",
        "=",
        "<<",
    ];
    prop_oneof![
        prop::sample::select(odd.to_vec()).prop_map(ToOwned::to_owned),
        "[-+]?[0-9.]{1,6}([eE][-+]?[0-9]{1,2})?",
        "[a-z0-9 ._/-]{0,12}",
    ]
}

proptest! {
    /// Scalars mean what they mean for libyaml and serde, which Kubernetes' clients in Rust go by.
    #[test]
    fn scalars_mean_what_they_mean_for_another_reader(scalars in prop::collection::vec(scalar(), 1..6), keys in prop::collection::vec("[a-z]{1,4}|[0-9]{1,3}|1\\.10|true|'0x1'", 6)) {
        let join = |lines: Vec<String>| lines.concat();
        let list = join(scalars.iter().map(|scalar| format!("- {scalar}\n")).collect());
        let map = join(scalars.iter().zip(&keys).map(|(scalar, key)| format!("{key}: {scalar}\n")).collect());
        let quoted = join(scalars.iter().map(|scalar| format!("- '{scalar}'\n- \"{scalar}\"\n")).collect());
        for text in [list, map, quoted] {
            if let Ok(wanted) = serde_yaml::from_str::<Value>(&text) {
                prop_assert_eq!(value(&text, MAX_OBJECT).ok(), Some(wanted), "{}", text);
            }
        }
    }

    /// What we write is read back.
    #[test]
    fn what_is_written_is_read_back(texts in prop::collection::vec("\\PC{0,20}|[ -~\n\t]{0,30}", 0..6)) {
        let wanted = json!({ "list": texts, "map": texts.iter().map(|text| (text.clone(), json!({ "a": text }))).collect::<serde_json::Map<_, _>>() });
        let text = object::to_yaml(&wanted).unwrap();
        prop_assert_eq!(value(&text, MAX_OBJECT).ok(), Some(wanted), "{}", text);
    }
}
