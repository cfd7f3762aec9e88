//! Bad documents, a bad lock and a bad folder, on the binary: exit code, words, and what is left as it was.

use std::path::PathBuf;

use crate::support::checkout::Checkout;

#[test]
fn lying_metadata_costs_its_own_cluster_and_changes_nothing_that_is_there() {
    let public = "metadata/west/public/public.json";
    let private = "metadata/west/private/multicluster.json";
    let deep = format!("{{\"clusterUUID\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let whole: [(&str, &[u8], &str); 7] = [
        (public, b"<!DOCTYPE html><title>login</title>", "not JSON"),
        (public, b"{\"clusterUUID\": \"7e7e", "not JSON"),
        (public, deep.as_bytes(), "recursion limit"),
        (public, b"{\"clusterUUID\":\"\",\"authnKeyPub\":\"\",\"rootCA\":\"\"}", "`clusterUUID`, `authnKeyPub`"),
        (public, b"{\"clusterUUID\":\"a\",\"clusterUUID\":\"b\"}", "duplicate key `clusterUUID`"),
        (
            private,
            b"{\"ingressGateways\":[],\"apiHost\":\"api.west.example.com\",\"networkName\":\"network-west\"}",
            "ingressGateways",
        ),
        (private, b"\xff\xfe{\x00}\x00", "not JSON"),
    ];
    for (path, bytes, expected) in whole {
        let checkout = Checkout::joined();
        checkout.write(path, bytes);
        checkout.shows(&["apply"], 3, &[expected, "failed"]);
    }
}

#[test]
fn hostile_addresses_are_failures_of_their_cluster() {
    let private = "metadata/west/private/multicluster.json";
    for (from, to, expected) in [
        ("198.51.100.7", "169.254.169.254", "is an inside address"),
        ("198.51.100.7", "0x7f.1", "resolvers may read it as a number"),
        ("198.51.100.7", "LOCALHOST.", "is an inside address"),
        ("198.51.100.7", "gateway..", "expected a host"),
        ("15443", "0", "a number from 1 to 65535"),
        ("api.west.example.com", "api.west.example.com/exec", "without scheme and path"),
        ("api.west.example.com", "api.west.example.com\\nproxy-url: x", "without scheme and path"),
    ] {
        let checkout = Checkout::joined();
        checkout.edit(private, from, to);
        checkout.shows(&["apply"], 3, &[expected, "failed"]);
    }
}

#[test]
fn claims_to_what_is_anothers_are_refused_whole() {
    let east: serde_json::Value =
        serde_json::from_slice(&std::fs::read(Checkout::new().path("metadata/east/public/public.json")).unwrap())
            .unwrap();
    let uuid = east["clusterUUID"].as_str().unwrap();
    let checkout = Checkout::new();
    let public = "metadata/west/public/public.json";
    let mut west: serde_json::Value = serde_json::from_slice(&std::fs::read(checkout.path(public)).unwrap()).unwrap();
    west["clusterUUID"] = uuid.into();
    checkout.write(public, west.to_string().as_bytes());
    let ran = checkout.engine(&["apply"]);
    assert_eq!(ran.code, 4, "{ran}");
    for cluster in ["east", "west"] {
        assert!(ran.stdout.contains(&format!("is also that of cluster `{cluster}`")), "{ran}");
    }
    assert!(!checkout.path("lock/clusters/west.yaml").exists() && !checkout.path("lock/clusters/east.yaml").exists());

    let checkout = Checkout::joined();
    checkout.edit("metadata/west/private/multicluster.json", "\"clusterID\": \"west\"", "\"clusterID\": \"east\"");
    checkout.shows(&["apply"], 4, &["the cluster ID `east` is also that of cluster `east`"]);
}

/// An edit of a file; which quotes the YAML writer chose is not at stake.
fn edit(checkout: &Checkout, path: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(checkout.path(path)).unwrap();
    let (from, to) = if text.contains(from) {
        (from.to_owned(), to.to_owned())
    } else {
        (from.replace('"', ""), to.replace('"', ""))
    };
    checkout.edit(path, &from, &to);
}

#[test]
fn a_lock_that_was_touched_stops_the_run() {
    for (path, from, to, exit, expected) in [
        ("lock/clusters/west.yaml", "version: 2", "version: 3", 1, "found version 3"),
        ("specs/mesh.yaml", "apiVersion", ">>>>>>> theirs\napiVersion", 1, "merge"),
        ("specs/mesh.yaml", "metadata: {name: west}", "metadata: {name: north}", 4, "cluster `west` is in the lock"),
    ] {
        let checkout = Checkout::joined();
        edit(&checkout, path, from, to);
        checkout.refuses(&["apply"], exit, &[expected]);
        checkout.refuses(&["plan", "--locked"], exit, &[expected]);
    }
}

/// The engine's keys concern every cluster.
#[test]
fn unreadable_keys_of_the_engine_stop_the_run() {
    let checkout = Checkout::joined();
    checkout.write("lock/mesh.yaml", b"<<<<<<< HEAD\nversion: 2\n");
    for arguments in [&["apply"][..], &["plan", "--locked"], &["argocd", "generate", "--cluster", "east"]] {
        checkout.refuses(arguments, 4, &["the file holds merge conflict markers", "lock/mesh.yaml:1", "git checkout"]);
    }
}

#[test]
fn a_file_of_a_cluster_that_was_touched_stops_that_cluster() {
    for (path, from, to, expected) in [
        ("lock/clusters/west.yaml", "sha256: \"sha256:", "sha256: \"sha256:00", "lock/clusters/west.yaml:"),
        (
            "lock/clusters/west.yaml",
            "cluster: west",
            "cluster: north",
            "expected the lock of `west`, as the file is named, found that of `north`",
        ),
        ("lock/links/west.yaml", "stage: joined", "stage: enjoyed", "lock/links/west.yaml:"),
        ("lock/links/west.yaml", "version", "<<<<<<< HEAD\nversion", "merge conflict markers"),
    ] {
        let checkout = Checkout::joined();
        edit(&checkout, path, from, to);
        checkout.shows(&["apply"], 4, &[expected, "nothing is changed for it"]);
        checkout.shows(&["plan", "--locked"], 4, &[expected, "nothing is changed for it"]);
    }
}

#[test]
fn roots_that_must_not_be_trusted_are_failures() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    let make = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (leaf, _) = make(&|params| params.is_ca = IsCa::ExplicitNoCa);
    let (expired, _) = make(&|params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let (good, key) = make(&|_| ());
    for (pem, expected) in [(leaf, "CA:FALSE"), (expired, "expired at 2021"), (format!("{good}{key}"), "private key")] {
        let checkout = Checkout::joined();
        let path = "metadata/west/public/public.json";
        let mut document: serde_json::Value =
            serde_json::from_slice(&std::fs::read(checkout.path(path)).unwrap()).unwrap();
        document["rootCA"] = pem.into();
        checkout.write(path, document.to_string().as_bytes());
        checkout.shows(&["apply"], 3, &[expected]);
    }
}

#[test]
fn a_foreign_file_is_refused_by_name_and_the_rest_continues() {
    let checkout = Checkout::new();
    let path = "rendered/east/configmap-isthmus-mesh.yaml";
    checkout.write(path, b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: isthmus-mesh}\n");
    let ran = checkout.engine(&["apply"]);
    assert_eq!(ran.code, 4, "{ran}");
    assert!(ran.stdout.contains(&format!("`{path}` is not ours")), "{ran}");
    assert_eq!(std::fs::read(checkout.path(path)).unwrap().len(), 62);
    assert!(checkout.path("rendered/west/configmap-isthmus-mesh.yaml").exists());
}

#[test]
fn a_second_apply_touches_no_file() {
    use std::os::unix::fs::MetadataExt as _;
    let checkout = Checkout::joined();
    let marks = || -> Vec<(PathBuf, u64, i64, i64)> {
        let mark = |path: &PathBuf| {
            let meta = std::fs::metadata(path).unwrap();
            (path.clone(), meta.ino(), meta.mtime(), meta.mtime_nsec())
        };
        checkout.output().keys().map(mark).collect()
    };
    let before = marks();
    let text = checkout.engine(&["apply"]).done();
    assert!(text.contains("No changes."), "{text}");
    assert_eq!(before, marks());
}
