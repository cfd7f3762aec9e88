//! Bad specs, lying servers and bad disks, on the binary: exit code, words, nothing changed.

use crate::support::checkout::Checkout;
use crate::support::environment::{ENGINE, Ran, TestEnvironment};
use crate::support::peer::{Ca, Peer, PeerStep, answer};

/// A joined checkout whose only spec file is replaced: `apply` ends with 1, says the words, and changes nothing.
#[track_caller]
fn spec_is_refused(spec: &[u8], expected: &[&str]) {
    let checkout = Checkout::joined();
    checkout.write("specs/mesh.yaml", spec);
    checkout.refuses(&["apply"], 1, expected);
}

const MESH: &str =
    "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n";

fn cluster(name: &str, spec: &str) -> String {
    format!("---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n{spec}\n")
}

fn file_cluster(name: &str) -> String {
    cluster(
        name,
        &format!("  istio: {{standardMeshNetworks: none}}\n  metadata: {{endpoint: \"file://metadata/{name}\"}}"),
    )
}

#[test]
fn files_that_are_no_specs() {
    let checkout = Checkout::joined();
    std::fs::remove_file(checkout.path("specs/mesh.yaml")).unwrap();
    checkout.refuses(&["apply"], 1, &["no "]);
    spec_is_refused(b"", &["no "]);
    spec_is_refused(file_cluster("east").as_bytes(), &["Mesh"]);
    spec_is_refused(
        format!("{MESH}{}", file_cluster("east")).replace("  metadata", "\tmetadata").as_bytes(),
        &["specs/mesh.yaml:", "tab"],
    );
    let utf16: Vec<u8> = MESH.encode_utf16().flat_map(u16::to_le_bytes).collect();
    spec_is_refused(&[&[0xff, 0xfe], utf16.as_slice()].concat(), &["UTF-16"]);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", ")));
    }
    spec_is_refused(bomb.as_bytes(), &["specs/mesh.yaml:"]);
    spec_is_refused("[".repeat(100_000).as_bytes(), &["specs/mesh.yaml:"]);
    spec_is_refused(format!("<<<<<<< HEAD\n{MESH}").as_bytes(), &["merge", "specs/mesh.yaml:1:1"]);
}

#[test]
fn specs_that_contradict_themselves() {
    let both = format!("{MESH}{}{}", file_cluster("east"), file_cluster("west"));
    let with = |from: &str, to: &str| both.replacen(from, to, 1);
    for (spec, expected) in [
        (with("acceptForeignRoots", "acceptForeignRots"), "did you mean `acceptForeignRoots`?"),
        (
            with("spec: {acceptForeignRoots: true}", "spec: {acceptForeignRoots: true, acceptForeignRoots: true}"),
            "acceptForeignRoots",
        ),
        (format!("{both}{}", file_cluster("east").replace("metadata/east", "metadata/other")), "`east`"),
        (
            with("file://metadata/west\"}", "file://metadata/west\"}\n  network: blue").replacen(
                "file://metadata/east\"}",
                "file://metadata/east\"}\n  network: blue",
                1,
            ),
            "`blue`",
        ),
        (with("metadata/west", "metadata/east"), "file://metadata/east"),
        (
            with("acceptForeignRoots: true", "acceptForeignRoots: true, topology: pairs, pairs: [[east, wset]]"),
            "did you mean `west`?",
        ),
        (
            with("acceptForeignRoots: true", "acceptForeignRoots: true, topology: pairs, pairs: [[east, east]]"),
            "`east`",
        ),
        (with("name: west", &format!("name: {}", "w".repeat(64))), "63"),
        (with("name: west", "name: West"), "`West`"),
        (with("file://metadata/west\"", "file://metadata/west\", ca: {file: nowhere.pem}"), "nowhere.pem"),
        (
            with("name: west}\nspec:\n", "name: west}\nspec:\n  reconciler: agent\n"),
            "the endpoint is a folder of the checkout, and the agent of `west` must read it",
        ),
    ] {
        spec_is_refused(spec.as_bytes(), &["specs/mesh.yaml:", expected]);
    }
    let checkout = Checkout::joined();
    let key = isthmus::types::key::PrivateKey::generate(&[5; 32]).unwrap().to_pem().unwrap();
    checkout.write("ca.pem", key.as_bytes());
    checkout.edit("specs/mesh.yaml", "file://metadata/west\"", "file://metadata/west\", ca: {file: ca.pem}");
    checkout.refuses(&["apply"], 1, &["private key", "ca.pem"]);
}

#[test]
fn servers_that_lie_are_failures_from_the_first_run() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let flood = vec![
        PeerStep::Send("HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n".into()),
        PeerStep::Flood(vec![b' '; 64 * 1024]),
    ];
    for (steps, expected) in [
        (answer("302 Found", "location: https://elsewhere.example.com/\r\n", ""), "elsewhere.example.com"),
        (answer("200 OK", "content-encoding: gzip\r\n", "x"), "gzip"),
        (answer("200 OK", "content-type: text/html\r\n", "<html>"), "text/html"),
        (flood, "more than 1048576 bytes"),
        (answer("200 OK", "", "{\"clusterUUID\": 1"), "not JSON"),
    ] {
        let ca = Ca::new("north");
        let peer = runtime.block_on(Peer::start(&ca.serving(&["127.0.0.1"]), move |_| steps.clone()));
        let checkout = Checkout::joined();
        checkout.write("north-ca.pem", ca.pem.as_bytes());
        let endpoint = format!(
            "  reconciler: external\n  metadata: {{endpoint: \"https://{}/metadata\", ca: {{file: north-ca.pem}}}}\n  allow: {{addresses: [127.0.0.0/8]}}",
            peer.address
        );
        let spec = std::fs::read_to_string(checkout.path("specs/mesh.yaml")).unwrap();
        checkout.write("specs/mesh.yaml", format!("{spec}{}", cluster("north", &endpoint)).as_bytes());
        // what the relays of its readers are to read is written once, whatever it answers
        let first = checkout.engine(&["apply"]);
        assert!(first.code == 3 && first.says("2 to update"), "{first}");
        checkout.shows(&["apply"], 3, &[expected, "fetch-ca/north  failed"]);
    }
}

/// Runs a script as root of namespaces of its own; `None` where that is not to be had, which CI does not accept.
fn in_namespaces(script: &str) -> Option<Ran> {
    let environment = TestEnvironment::new().with_tools();
    let ran = environment.end(environment.program("unshare").args(["-r", "-m", "sh", "-ec", script]));
    let refused = ran.stderr.starts_with("unshare:");
    assert!(!refused || std::env::var_os("CI").is_none(), "no mount namespace to be had");
    (!refused).then_some(ran)
}

#[test]
fn a_read_only_checkout_and_a_full_disk_leave_everything_as_it_was() {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", "name: shop}\nspec: {", "name: shop}\nspec: {credentials: {mode: relay}, ");
    checkout.edit("metadata/west/private/multicluster.json", "198.51.100.7", "198.51.100.8");
    let before = checkout.output();
    let root = checkout.path("");
    let root = root.display();
    let Some(ran) = in_namespaces(&format!(
        "mount --bind {root} {root}; mount -o remount,ro,bind {root}; exec {ENGINE} -C {root} apply"
    )) else {
        return;
    };
    assert_eq!(ran.code, 6, "{ran}");
    let stderr = &ran.stderr;
    assert!(stderr.contains("ead-only file system") && stderr.contains("nothing was changed"), "{ran}");
    assert!(before == checkout.output());

    let full = format!(
        "mkdir -p {root}/small; mount -t tmpfs -o size=300k tmpfs {root}/small; cp -r {root}/specs {root}/metadata {root}/lock {root}/rendered {root}/small/; \
         cat /dev/zero > {root}/small/filler 2>/dev/null || true; code=0; {ENGINE} -C {root}/small apply || code=$?; \
         diff -r {root}/rendered {root}/small/rendered; diff -r {root}/lock {root}/small/lock; exit $code"
    );
    let Some(ran) = in_namespaces(&full) else { return };
    assert_eq!(ran.code, 6, "{ran}");
    assert!(ran.stderr.contains("o space left") && ran.stderr.contains("nothing was changed"), "{ran}");
}
