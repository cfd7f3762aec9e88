//! Commands that take a run: plan, apply, watch, status, verify, report, graph.

use super::{OutputPage, commit, first_lines, give_key, rebuild_west, state_a_gateway, with_a_slip};
use crate::support::checkout::Checkout;

const JSON: [&str; 2] = ["--output", "json"];
const MARKDOWN: [&str; 2] = ["--output", "markdown"];

fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

#[test]
fn plan() {
    let mut page = OutputPage::default();
    page.run("two new clusters", &Checkout::new(), &["plan"]);

    let joined = Checkout::joined();
    page.run("nothing changes", &joined, &["plan"]);
    page.run("the same as JSON", &joined, &with(&["plan"], &JSON));
    page.run("the same as Markdown", &joined, &with(&["plan"], &MARKDOWN));

    let edited = Checkout::joined();
    commit(&edited);
    state_a_gateway(&edited);
    page.run("an edited spec", &edited, &["plan", "--locked", "--detailed-exitcode"]);
    page.run("the same, objects only", &edited, &["plan", "--locked", "--summary"]);
    page.run("the same as JSON", &edited, &with(&["plan", "--locked"], &JSON));
    page.run("compared with a revision", &edited, &["plan", "--base", "HEAD"]);
    page.run("the same as Markdown", &edited, &with(&["plan", "--base", "HEAD"], &MARKDOWN));
    page.run("a revision that is not there", &edited, &["plan", "--base", "nowhere"]);
    page.run("no repository", &joined, &["plan", "--base", "HEAD"]);

    let rebuilt = Checkout::joined();
    rebuild_west(&rebuilt);
    page.run("a trust change", &rebuilt, &["plan"]);
    page.run("the same as JSON", &rebuilt, &with(&["plan"], &JSON));
    page.run("the same as Markdown", &rebuilt, &with(&["plan"], &MARKDOWN));

    let silent = Checkout::joined();
    std::fs::remove_dir_all(silent.path("metadata/west")).unwrap();
    page.run("a cluster that is known does not answer", &silent, &["plan"]);
    page.run("the same as JSON", &silent, &with(&["plan"], &JSON));

    let new = Checkout::new();
    std::fs::remove_dir_all(new.path("metadata/west")).unwrap();
    page.run("a new cluster does not answer", &new, &["plan", "--summary"]);

    let stray = Checkout::joined();
    stray.write("rendered/east/by-hand.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: by-hand}\n");
    page.run("a file that is not ours", &stray, &["plan"]);

    let gone = Checkout::joined();
    let spec = std::fs::read_to_string(gone.path("specs/mesh.yaml")).unwrap();
    gone.write("specs/mesh.yaml", &spec.as_bytes()[..spec.rfind("---\n").unwrap()]);
    page.run("a document that was deleted", &gone, &["plan"]);

    let slip = Checkout::joined();
    with_a_slip(&slip);
    page.run("a slip in a spec", &slip, &["plan"]);
    page.run("the same as JSON", &slip, &with(&["plan"], &JSON));
    page.run("the same as Markdown", &slip, &with(&["plan"], &MARKDOWN));
    slip.write("specs/mesh.yaml", b"kind: Mesh\nmetadata: [\n");
    page.run("a spec that is no YAML", &slip, &["plan"]);

    page.run("no such cluster", &joined, &["plan", "--cluster", "wset"]);
    page.run("flags that exclude each other", &joined, &["plan", "--locked", "--accept-trust", "west"]);
    page.run("the same", &joined, &["plan", "--base", "HEAD", "--out", "plan.json"]);
    page.run("the same", &joined, &["plan", "--cluster", "west", "--accept-trust", "west"]);
    page.run("the same, found by the parser", &joined, &["plan", "--summary", "--verbose"]);
    page.run("an approval that is none", &joined, &["plan", "--accept-trust", "west@xyz"]);
    page.run("all at once, without a terminal", &joined, &["plan", "--accept-trust", "all"]);
    page.run("another target", &joined, &["plan", "--to", "moon"]);
    page.run("a target that this version lacks", &joined, &["plan", "--to", "cluster"]);
    page.run("a flag that is not there", &joined, &["plan", "--lockd"]);
    page.run("the same as JSON", &joined, &with(&["plan", "--lockd"], &JSON));
    page.run("a file that cannot be written", &joined, &["plan", "--out", "nowhere/plan.json"]);
    page.run("the same as JSON", &joined, &with(&["plan", "--out", "nowhere/plan.json"], &JSON));
    page.hold("plan");
}

#[test]
fn apply() {
    let mut page = OutputPage::default();
    let checkout = Checkout::new();
    page.run("two new clusters", &checkout, &["apply"]);
    page.run("again", &checkout, &["apply"]);
    page.run("the same as JSON", &checkout, &with(&["apply"], &JSON));
    state_a_gateway(&checkout);
    page.run("an edited spec, as JSON", &checkout, &with(&["apply"], &JSON));

    let keyed = Checkout::new();
    give_key(&keyed);
    page.run("with a key, quietly", &keyed, &["apply", "--create-keys", "--quiet"]);

    let planned = Checkout::new();
    let path = planned.environment.path("plan.json");
    let stored = path.to_str().unwrap();
    page.run("storing a plan", &planned, &["plan", "--summary", "--out", stored]);
    page.run("carrying it out", &planned, &["apply", stored]);
    page.run("carrying it out twice", &planned, &["apply", stored]);
    std::fs::write(&path, "{}").unwrap();
    page.run("no plan", &planned, &["apply", stored]);
    page.run("a plan that is not there", &planned, &["apply", "no-such-plan"]);
    page.run("the same as JSON", &planned, &with(&["apply", "no-such-plan"], &JSON));

    let moved = Checkout::new();
    let path = moved.environment.path("plan.json");
    let stored = path.to_str().unwrap();
    moved.engine(&["plan", "--out", stored]).done();
    let documents = "metadata/west/private/multicluster.json";
    moved.edit(documents, "15443", "15444");
    page.run("the clusters show something else than the stored plan was made with", &moved, &["apply", stored]);
    moved.edit(documents, "15444", "15443");
    let mut late = moved;
    late.environment.set("ISTHMUS_TEST_NOW", "2026-12-03T12:00:00Z");
    page.run("a plan that is too old", &late, &["apply", stored]);

    let rebuilt = Checkout::joined();
    rebuild_west(&rebuilt);
    let held = page.run("a trust change", &rebuilt, &["apply"]);
    let approval = held.stdout.split("--accept-trust ").nth(1).unwrap().split_whitespace().next().unwrap();
    page.run("accepting another one", &rebuilt, &["apply", "--accept-trust", "west@0123456789ab"]);
    page.run("accepting it", &rebuilt, &["apply", "--accept-trust", approval]);

    let waiting = Checkout::new();
    std::fs::remove_dir_all(waiting.path("metadata/west")).unwrap();
    page.run("a new cluster does not answer", &waiting, &["apply", "--fail-on-wait", "--quiet"]);

    let parted = Checkout::new();
    parted.edit("specs/mesh.yaml", "spec: {", "spec: {topology: pairs, pairs: [[east, west]], ");
    parted.engine(&["apply"]).done();
    parted.edit("specs/mesh.yaml", "[[east, west]]", "[]");
    page.run("all links would go", &parted, &["apply"]);

    let lost = Checkout::joined();
    std::fs::remove_file(lost.path("lock/links/east.yaml")).unwrap();
    page.run("a file of the lock is gone", &lost, &["apply"]);

    let folder = std::fs::File::open(checkout.path("")).unwrap();
    folder.lock().unwrap();
    page.run("another engine works here", &checkout, &["apply"]);
    page.run("the same as JSON", &checkout, &with(&["apply"], &JSON));
    drop(folder);

    for arguments in [
        &["apply", "plan.json", "--cluster", "east"][..],
        &["apply", "plan.json", "--accept-trust", "west"],
        &["apply", "plan.json", "--locked"],
        &["apply", "plan.json", "--wait", "1m"],
        &["apply", "plan.json", "--create-keys"],
        &["apply", "--max-age", "1h"],
        &["apply", "--locked", "--wait", "1m"],
    ] {
        page.run("flags that exclude each other", &checkout, arguments);
    }
    page.run("a duration that is none", &checkout, &["apply", "--wait", "soon"]);
    page.run("a folder that is not there", &checkout, &["apply", "-C", "nowhere"]);
    with_a_slip(&checkout);
    page.run("a slip in a spec", &checkout, &["apply"]);
    page.hold("apply");
}

#[test]
fn watch() {
    let mut page = OutputPage::default();
    let checkout = Checkout::new();
    page.run("one run", &checkout, &["watch", "--once"]);
    page.run("again", &checkout, &["watch", "--once"]);
    page.run("the same as JSON", &checkout, &with(&["watch", "--once"], &JSON));

    let rebuilt = Checkout::joined();
    rebuild_west(&rebuilt);
    page.run("a trust change", &rebuilt, &["watch", "--once"]);
    page.run("the same as JSON", &rebuilt, &with(&["watch", "--once"], &JSON));

    page.run("no repository", &checkout, &["watch", "--once", "--commit"]);
    page.run("one cluster", &checkout, &["watch", "--cluster", "west"]);
    page.run("a flag without the one that it needs", &checkout, &["watch", "--push"]);
    page.run("the same", &checkout, &["watch", "--wait", "10m"]);
    page.run("an interval that is none", &checkout, &["watch", "--poll", "soon"]);
    page.run("an address that is none", &checkout, &["watch", "--http", "8080"]);
    page.run("an author that is none", &checkout, &["watch", "--once", "--commit", "--author", "me"]);
    page.run("a folder that is not there", &checkout, &["watch", "--once", "-C", "nowhere"]);
    with_a_slip(&checkout);
    page.run("a slip in a spec", &checkout, &["watch", "--once"]);
    page.run("the same as JSON", &checkout, &with(&["watch", "--once"], &JSON));
    page.hold("watch");
}

#[test]
fn status() {
    let mut page = OutputPage::default();
    let checkout = Checkout::new();
    page.run("no link yet", &checkout, &["status"]);
    page.run("the same as JSON", &checkout, &with(&["status"], &JSON));
    checkout.engine(&["apply"]).done();
    page.run("two clusters that are joined", &checkout, &["status"]);
    page.run("the same as JSON", &checkout, &with(&["status"], &JSON));
    page.run("the links of one of them", &checkout, &["status", "--cluster", "east"]);
    page.run("no such cluster", &checkout, &["status", "--cluster", "wset"]);
    page.run("the same as JSON", &checkout, &with(&["status", "--cluster", "wset"], &JSON));
    checkout.write("lock/links/east.yaml", b"version: 9\n");
    page.run("a lock of another version", &checkout, &["status"]);
    page.run("a folder that is not there", &checkout, &["status", "-C", "nowhere"]);
    page.hold("status");
}

#[test]
fn verify() {
    let mut page = OutputPage::default();
    let checkout = Checkout::joined();
    page.run("all is there", &checkout, &["verify"]);
    page.run("the same as JSON", &checkout, &with(&["verify"], &JSON));
    std::fs::remove_file(checkout.path("rendered/east/configmap-isthmus-mesh.yaml")).unwrap();
    std::fs::remove_file(checkout.path("lock/links/west.yaml")).unwrap();
    page.run("files were removed", &checkout, &["verify"]);
    page.run("the same as JSON", &checkout, &with(&["verify"], &JSON));
    with_a_slip(&checkout);
    page.run("a slip in a spec", &checkout, &["verify"]);
    page.hold("verify");
}

#[test]
fn report() {
    let mut page = OutputPage::default();
    let checkout = Checkout::joined();
    let file = checkout.environment.path("mesh.html");
    page.run("a page", &checkout, &["report", "--html", file.to_str().unwrap()]);
    let mut ran = checkout.engine(&["report", "--html", "-"]);
    first_lines(&mut ran, 5);
    page.ran("to stdout", &checkout.environment, &["report", "--html", "-"], &ran);
    page.run("as JSON", &checkout, &with(&["report"], &JSON));
    rebuild_west(&checkout);
    page.run("a trust change", &checkout, &["report", "--fetch", "--html", file.to_str().unwrap()]);
    page.run("no place for the page", &checkout, &["report"]);
    page.run("both to stdout", &checkout, &with(&["report", "--html", "-"], &JSON));
    page.run("one cluster", &checkout, &["report", "--html", "-", "--cluster", "east"]);
    page.run("a file that cannot be written", &checkout, &["report", "--html", "nowhere/mesh.html"]);
    with_a_slip(&checkout);
    page.run("a slip in a spec", &checkout, &["report", "--html", "-"]);
    page.hold("report");
}

#[test]
fn graph() {
    let mut page = OutputPage::default();
    let checkout = Checkout::joined();
    page.run("for Graphviz", &checkout, &["graph", "--cluster", "east"]);
    page.run("for Mermaid", &checkout, &["graph", "--cluster", "east", "--format", "mermaid"]);
    page.run("as JSON", &checkout, &with(&["graph", "--cluster", "east"], &JSON));
    page.run("a format that is not there", &checkout, &["graph", "--format", "svg"]);
    with_a_slip(&checkout);
    page.run("a slip in a spec", &checkout, &["graph"]);
    page.run("the same as JSON", &checkout, &with(&["graph"], &JSON));
    page.hold("graph");
}
