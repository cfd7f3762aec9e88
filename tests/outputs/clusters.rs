//! Commands about keys, other teams, and clusters that were not declared yet: keys, init, invite, export, import.

use super::{OutputPage, give_key, rebuild_west, with_a_slip, with_key};
use crate::init::{InitWorld, two_clusters};
use crate::invite::reached;
use crate::support::checkout::Checkout;

const JSON: [&str; 2] = ["--output", "json"];

fn json<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &JSON].concat()
}

#[test]
fn keys() {
    let mut page = OutputPage::default();
    let checkout = Checkout::new();
    page.run("no keys yet", &checkout, &["keys", "list"]);
    page.run("the same as JSON", &checkout, &json(&["keys", "list"]));
    give_key(&checkout);
    page.run("the first key", &checkout, &["keys", "new"]);
    page.run("the second", &checkout, &["keys", "new"]);
    page.run("the same as JSON", &checkout, &json(&["keys", "new"]));
    checkout.engine(&["apply"]).done();
    page.run("keys of the engine and of clusters", &checkout, &["keys", "list"]);
    page.run("the same as JSON", &checkout, &json(&["keys", "list"]));
    std::fs::remove_file(checkout.path("keys/engine.key")).unwrap();
    page.run("the private half is gone", &checkout, &["keys", "list"]);
    page.run("the same as JSON", &checkout, &json(&["keys", "list"]));
    checkout.write("keys/engine.key", b"no key\n");
    page.run("it is no key", &checkout, &["keys", "list"]);
    std::fs::remove_dir_all(checkout.path("lock")).unwrap();
    page.run("a key that is none", &checkout, &["keys", "new"]);
    page.run("no command", &checkout, &["keys"]);
    page.run("a command that is not there", &checkout, &["keys", "nwe"]);
    page.run("a command that this version lacks", &checkout, &["keys", "rotate"]);
    let quiet = Checkout::new();
    give_key(&quiet);
    page.run("the first key, as JSON", &quiet, &json(&["keys", "new"]));
    with_a_slip(&checkout);
    page.run("a slip in a spec", &checkout, &["keys", "list"]);
    page.run("the same as JSON", &checkout, &json(&["keys", "list"]));
    page.hold("keys");
}

/// Runs it where the clusters of a kubeconfig are.
fn of_world(page: &mut OutputPage, about: &str, world: &InitWorld, arguments: &[&str]) {
    let ran = world.engine(arguments);
    page.ran(about, &world.environment, arguments, &ran);
}

#[test]
fn init() {
    let mut page = OutputPage::default();
    let (world, ..) = two_clusters();
    of_world(&mut page, "one context of two", &world, &["init", "--context", "admin@east"]);
    of_world(&mut page, "specs are there", &world, &["init"]);
    of_world(&mut page, "the same as JSON", &world, &json(&["init"]));
    let fresh = || std::fs::remove_dir_all(world.path("specs")).unwrap();
    fresh();
    of_world(&mut page, "all contexts, as JSON", &world, &json(&["init", "--accept-foreign-roots"]));
    fresh();
    of_world(&mut page, "a context that is not there", &world, &["init", "--context", "admin@esat"]);
    of_world(&mut page, "a kubeconfig that is not there", &world, &["init", "--kubeconfig", "nowhere"]);
    of_world(&mut page, "a name of a mesh that is none", &world, &["init", "--mesh", "My Mesh"]);
    let nothing = Checkout::new();
    std::fs::remove_dir_all(nothing.path("specs")).unwrap();
    page.run("no kubeconfig", &nothing, &["init"]);
    nothing.write("kubeconfig", b"- a\n");
    let path = nothing.path("kubeconfig");
    page.run("a kubeconfig that is none", &nothing, &["init", "--kubeconfig", path.to_str().unwrap()]);
    let deaf = serde_json::json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{ "name": "a", "cluster": { "server": "http://127.0.0.1:1" } }],
        "users": [{ "name": "a", "user": {} }],
        "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }],
    });
    nothing.write("kubeconfig", deaf.to_string().as_bytes());
    page.run("no cluster answers", &nothing, &["init", "--kubeconfig", path.to_str().unwrap()]);
    page.run("the same as JSON", &nothing, &json(&["init", "--kubeconfig", path.to_str().unwrap()]));
    page.hold("init");
}

#[test]
fn invite() {
    let mut page = OutputPage::default();
    let checkout = reached();
    page.run("for another checkout", &checkout, &["invite", "east"]);
    page.run("for Deckhouse", &checkout, &["invite", "east", "--for", "deckhouse"]);
    page.run("as a Cluster", &checkout, &["invite", "east", "--as", "cluster"]);
    page.run("as JSON", &checkout, &json(&["invite", "east"]));
    page.run("what both sides compare", &checkout, &["invite", "east", "--fingerprint"]);
    page.run("a cluster that has no endpoint for others", &checkout, &["invite", "west"]);
    page.run("the same as JSON", &checkout, &json(&["invite", "west"]));
    page.run("no such cluster", &checkout, &["invite", "wset"]);
    page.run(
        "a document that its reader does not know",
        &checkout,
        &["invite", "east", "--for", "deckhouse", "--as", "cluster"],
    );
    page.run("flags that exclude each other", &checkout, &["invite", "east", "--fingerprint", "--for", "deckhouse"]);
    page.run("no cluster", &checkout, &["invite"]);
    let new = reached();
    std::fs::remove_dir_all(new.path("lock")).unwrap();
    std::fs::remove_dir_all(new.path("rendered")).unwrap();
    page.run("a cluster that was never read", &new, &["invite", "east"]);
    page.hold("invite");
}

#[test]
fn bundles() {
    let mut page = OutputPage::default();
    let there = with_key();
    let path = there.environment.path("west.bundle");
    let file = path.to_str().unwrap();
    page.run("to a file", &there, &["export", "west", "--out", file]);
    page.run("a file that is there", &there, &["export", "west", "--out", file]);
    page.run("to stdout", &there, &["export", "west"]);
    page.run("the same with JSON", &there, &json(&["export", "west", "--quiet"]));
    page.run("no such cluster", &there, &["export", "wset"]);
    page.run("the same as JSON", &there, &json(&["export", "wset"]));
    page.run("no key", &Checkout::joined(), &["export", "west"]);
    let silent = with_key();
    std::fs::remove_dir_all(silent.path("metadata/west")).unwrap();
    page.run("a cluster that does not answer", &silent, &["export", "west"]);
    let rebuilt = with_key();
    rebuild_west(&rebuilt);
    page.run("a cluster that is held back", &rebuilt, &["export", "west"]);
    page.hold("export");

    let mut page = OutputPage::default();
    let here = Checkout::new();
    std::fs::remove_dir_all(here.path("metadata/west")).unwrap();
    let arrived = here.environment.path("west.bundle");
    std::fs::copy(&path, &arrived).unwrap();
    let file = arrived.to_str().unwrap();
    let fingerprint = isthmus::types::key::PrivateKey::generate(&[7; 32]).unwrap().public().fingerprint().to_string();
    page.run("a signer that is not known", &here, &["import", file]);
    page.run("the same as JSON", &here, &json(&["import", file]));
    let other = isthmus::types::key::PrivateKey::generate(&[8; 32]).unwrap().public().fingerprint().to_string();
    page.run("another signer", &here, &["import", file, "--signer", &other]);
    page.run("a signer's file that is not there", &here, &["import", file, "--signer", "signer.pem"]);
    page.run("a fingerprint that is none", &here, &["import", file, "--signer", "sha256:6c1f"]);
    page.run("the first bundle", &here, &["import", file, "--signer", &fingerprint]);
    page.run("once more, as JSON", &here, &json(&["import", file]));
    let other = reached();
    let theirs = other.environment.path("west.bundle");
    std::fs::copy(&arrived, &theirs).unwrap();
    page.run("an endpoint that is no folder", &other, &["import", theirs.to_str().unwrap(), "--as", "east"]);
    page.run("no such cluster", &here, &["import", file, "--as", "wset"]);
    std::fs::write(&arrived, "{").unwrap();
    page.run("no bundle", &here, &["import", file]);
    page.run("a file that is not there", &here, &["import", "nowhere.bundle"]);
    page.hold("import");
}
