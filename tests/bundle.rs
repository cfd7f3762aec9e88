//! `engine export` and `engine import`: a cluster's metadata over an air gap.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use isthmus::types::key::PrivateKey;
use isthmus::types::time::Timestamp;
use isthmus::wire::bundle::{Bundle, BundleError, Sealed};
use isthmus::wire::metadata::{PrivateDocument, PublicDocument, Reading};
use proptest::prelude::*;

use crate::support::checkout::Checkout;

fn fixture(cluster: &str, document: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/real/{cluster}/metadata/{document}")))
        .unwrap()
}

fn bundle(cluster: &str, created: i64) -> Bundle {
    let Reading::Complete(public) = PublicDocument::parse(&fixture(cluster, "public/public.json")).unwrap() else {
        panic!()
    };
    let Reading::Complete(private) = PrivateDocument::parse(&fixture(cluster, "private/multicluster.json")).unwrap()
    else {
        panic!()
    };
    Bundle {
        mesh: "theirs".parse().unwrap(),
        cluster: cluster.parse().unwrap(),
        created: Timestamp::from_seconds(created),
        public,
        private,
    }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::generate(&[seed; 32]).unwrap()
}

fn signed(bundle: &Bundle, by: u8) -> String {
    bundle.sign(&"ci".parse().unwrap(), &key(by))
}

/// Two checkouts: the one that reaches west, and one that gets west from bundles alone.
fn sides() -> (Checkout, Checkout) {
    let (there, here) = (Checkout::new(), Checkout::new());
    fs::remove_dir_all(here.path("metadata/west")).unwrap();
    there.engine(&["apply", "--create-keys"]).done();
    (there, here)
}

#[test]
fn metadata_crosses_the_gap_and_joins() {
    let (there, here) = sides();
    let file = here.path("west.bundle");
    let file = file.to_str().unwrap();
    let ran = there.engine(&["export", "west", "--out", file]);
    assert_eq!(ran.code, 0, "{ran}");
    let fingerprint = ran.stderr.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_owned();
    // it is never overwritten
    assert!(there.engine(&["export", "west", "--out", file]).code == 6);
    // before: west is waited for
    let output = here.engine(&["apply"]).done();
    assert!(output.contains("waits for"), "{output}");
    // no one said who signs
    here.refuses(&["import", file], 4, &["no signer of this cluster is known yet", &fingerprint]);
    here.refuses(&["import", file, "--signer", &format!("sha256:{}", "0".repeat(64))], 4, &["not what --signer names"]);
    assert!(!here.path("metadata/west").exists());
    here.engine(&["import", file, "--signer", &fingerprint]).done();
    here.engine(&["apply"]).done();
    let output = here.engine(&["status"]).done();
    assert!(output.matches("joined").count() == 2 && output.contains("unproven"), "{output}");
    // the same again changes nothing, and needs no word of the signer
    let before = here.output();
    let output = here.engine(&["import", file, "--output", "json"]).done();
    assert!(output.contains("\"written\":0"), "{output}");
    assert!(before == here.output());
    // without evidence, whatever was there: a file cannot say what is live
    assert!(!fs::read_to_string(here.path("metadata/west/private/multicluster.json")).unwrap().contains("evidence"));
}

#[test]
fn what_is_not_as_it_should_be_is_refused_with_nothing_written() {
    let (_, here) = sides();
    let file = here.path("bundle");
    let name = file.to_str().unwrap();
    let import = |text: &str, flags: &[&str], exit: i32, says: &[&str]| {
        fs::write(&file, text).unwrap();
        here.refuses(&[&["import", name], flags].concat(), exit, says);
        assert!(!here.path("metadata/west/bundle.json").exists() || exit == 0);
    };
    let public = here.path("signer.pem");
    fs::write(&public, key(1).public().to_pem()).unwrap();
    let signer = ["--signer", public.to_str().unwrap()];
    let good = signed(&bundle("west", 1000), 1);
    import(&good.replace("\"payload\": \"e", "\"payload\": \"f"), &signer, 1, &["signature"]);
    import(&good.replace("vnd.isthmus.metadata+json", "json"), &signer, 1, &["expected version 1 of"]);
    import(&good.replacen('{', "{\"x\": 1,", 1), &signer, 1, &["`x`"]);
    import(&good.replacen('{', "{\"payload\": \"\",", 1), &signer, 1, &["duplicate"]);
    import("{", &signer, 1, &["not JSON"]);
    import(&"[".repeat(5000), &signer, 1, &["not JSON"]);
    import(&" ".repeat(7 << 20), &signer, 1, &["more than"]);
    import(&signed(&bundle("west", 1000), 2), &signer, 4, &["not what --signer names"]);
    // another cluster under this name: it claims the UUID and the keys of east
    let disguised = Bundle { cluster: "west".parse().unwrap(), ..bundle("east", 1000) };
    here.engine(&["apply"]).done();
    import(&signed(&disguised, 1), &signer, 4, &["east"]);
    import(
        &signed(&Bundle { cluster: "north".parse().unwrap(), ..bundle("west", 1000) }, 1),
        &signer,
        64,
        &["no spec declares a cluster `north`"],
    );
    // a folder that leads elsewhere
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), here.path("metadata/west")).unwrap();
    import(&good, &signer, 1, &["symbolic link"]);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    fs::remove_file(here.path("metadata/west")).unwrap();
    // an endpoint that is no folder
    here.edit(
        "specs/mesh.yaml",
        "file://metadata/west\"}",
        "https://m.example.com/metadata\"}, multicluster: {image: x/y:1, apiHost: a.example.com}",
    );
    import(&good, &signer, 4, &["read from files", "file://metadata/west"]);
}

#[test]
fn later_bundles_are_of_the_same_signer_and_not_older_and_trust_changes_are_held_back() {
    let (_, here) = sides();
    let file = here.path("bundle");
    let name = file.to_str().unwrap();
    let fingerprint = key(1).public().fingerprint().to_string();
    fs::write(&file, signed(&bundle("west", 1000), 1)).unwrap();
    here.engine(&["import", name, "--signer", &fingerprint]).done();
    here.engine(&["apply"]).done();
    fs::write(&file, signed(&bundle("west", 999), 1)).unwrap();
    here.refuses(&["import", name], 4, &["1 s before", "--allow-older"]);
    here.engine(&["import", name, "--allow-older"]).done();
    fs::write(&file, signed(&bundle("west", 2000), 2)).unwrap();
    here.refuses(&["import", name], 4, &[&fingerprint, &key(2).public().fingerprint().to_string()]);
    // another root of the same cluster: taken as a file, held back by apply until someone accepts it
    let mut changed = bundle("west", 3000);
    changed.public.root_ca = isthmus::simulation::cluster::Authority::new("west's new root").unwrap().pem;
    fs::write(&file, signed(&changed, 1)).unwrap();
    let ran = here.engine(&["import", name]);
    let output = &ran.stderr;
    assert!(ran.code == 0 && output.contains("! root CA") && output.contains("--accept-trust west@"), "{ran}");
    let approval = output.split("--accept-trust ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let before = here.output();
    assert_eq!(here.engine(&["apply"]).code, 4);
    assert!(before == here.output());
    here.engine(&["apply", "--accept-trust", &approval]).done();
    assert!(before != here.output());
}

fn good() -> &'static (String, PrivateKey) {
    static GOOD: OnceLock<(String, PrivateKey)> = OnceLock::new();
    GOOD.get_or_init(|| (signed(&bundle("west", 1000), 7), key(7)))
}

proptest! {
    #[test]
    fn a_changed_byte_never_says_anything_else(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let (text, key) = good();
        let whole = bundle("west", 1000);
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        match Sealed::read(&bytes) {
            // white space, or the id that names the key for people
            Ok(sealed) => {
                prop_assert_eq!(&sealed.signer, key.public());
                prop_assert_eq!(sealed.open().unwrap(), whole);
            }
            Err(BundleError::TooLarge) => prop_assert!(false, "it is no larger"),
            Err(_) => {}
        }
    }
}

#[test]
fn the_envelope_is_that_of_the_standard() {
    // PAE of the protocol's own test vector: DSSEv1 29 http://example.com/HelloWorld 11 hello world
    let (text, key) = good();
    let envelope: serde_json::Value = serde_json::from_str(text).unwrap();
    let decode = |text: &serde_json::Value| {
        base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text.as_str().unwrap()).unwrap()
    };
    let payload = decode(&envelope["payload"]);
    let kind = envelope["payloadType"].as_str().unwrap();
    let signed = [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), &payload].concat();
    assert!(key.public().verifies(&signed, &decode(&envelope["signatures"][0]["sig"])));
}
