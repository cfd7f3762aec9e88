//! What `engine watch --commit` takes runs on, and what it commits: specs that are committed, and whatever differs in what is
//! generated, whoever wrote it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::sleep;

use serde_json::Value;

use super::git::{environment, state_gateway};
use super::{QUIET, RunningWatch};
use crate::git::git;
use crate::support::checkout::Checkout;

/// A checkout that is a repository with everything committed.
fn committed(checkout: &Checkout) -> std::path::PathBuf {
    let dir = checkout.path("");
    git(&dir, &["init", "-q", "-b", "main"]);
    git(&dir, &["add", "-A"]);
    git(&dir, &["commit", "-qm", "first"]);
    dir
}

fn head(dir: &Path) -> String {
    git(dir, &["rev-parse", "HEAD"])
}

/// Generated files that are not committed as they are.
fn generated(dir: &Path) -> String {
    git(dir, &["status", "--porcelain", "--untracked-files=all", "--", "lock", "rendered", "values"])
}

/// A checkout in which east alone is committed, and the document of west is not.
fn with_untracked_west() -> Checkout {
    let checkout = Checkout::new();
    let text = fs::read_to_string(checkout.path("specs/mesh.yaml")).unwrap();
    let at = text.rfind("---\n").unwrap();
    checkout.write("specs/mesh.yaml", &text.as_bytes()[..at]);
    let dir = committed(&checkout);
    checkout.engine(&["apply"]).done();
    git(&dir, &["add", "-A"]);
    git(&dir, &["commit", "-qm", "east"]);
    checkout.write("specs/west.yaml", &text.as_bytes()[at..]);
    checkout
}

#[test]
fn an_untracked_cluster_belongs_to_none_until_it_is_committed() {
    let checkout = with_untracked_west();
    let dir = checkout.path("");
    let (before, tree) = (head(&dir), checkout.output());
    let watch = RunningWatch::on(&dir, &["--commit", "--output", "json"]);
    watch.until("word of the file", |watch| watch.get("/readyz").contains("specs/west.yaml"));
    let answer = watch.get("/readyz");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("is untracked") && answer.contains("git commit"),
        "{answer}"
    );
    assert!(watch.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(watch.get("/").contains("/readyz says why"));
    sleep(QUIET);
    // staged is not committed
    git(&dir, &["add", "specs"]);
    sleep(QUIET);
    assert!(watch.get("/readyz").contains("specs/west.yaml"));
    assert!(head(&dir) == before && checkout.output() == tree);
    assert_eq!(watch.count("isthmus_reconcile_total"), 1, "the same is counted once");

    git(&dir, &["commit", "-qm", "west"]);
    watch.until("the commit", |_| git(&dir, &["log", "-1", "--format=%an"]) == "isthmus");
    watch.until("readiness", |watch| watch.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(git(&dir, &["ls-files"]).contains("rendered/east/secret-istio-remote-secret-west.yaml"));
    assert_eq!(generated(&dir), "");

    // with a run behind it, page and picture say it too
    state_gateway(&dir, "east", "203.0.113.1");
    watch.until("word of the edit", |watch| watch.get("/readyz").contains("`specs/mesh.yaml` is modified"));
    let picture =
        || -> Value { serde_json::from_str(watch.get("/picture.json").split("\r\n\r\n").nth(1).unwrap()).unwrap() };
    assert_eq!(picture()["waiting"]["code"], "specs-not-committed");
    assert!(watch.get("/").contains("waiting for a commit of what is declared"));
    git(&dir, &["checkout", "-q", "--", "specs"]);
    watch.until("readiness", |watch| watch.get("/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(picture().get("waiting"), None);
    let ran = watch.end();
    let documents: Vec<Value> = ran.stdout.lines().skip(1).filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(
        documents.iter().any(|document| document["code"] == "specs-not-committed" && document["exit"] == 4),
        "{ran}"
    );
    assert_eq!(ran.stderr.matches("`specs/west.yaml` is untracked").count(), 1, "it is said once: {ran}");
}

#[test]
fn whatever_a_run_would_rest_on_is_committed_first() {
    let checkout = Checkout::new();
    let ca = fs::read_to_string(checkout.path("metadata/west/private/multicluster.json")).unwrap();
    let ca: Value = serde_json::from_str(&ca).unwrap();
    checkout.write("west-ca.pem", ca["apiCA"].as_str().unwrap().as_bytes());
    checkout.edit(
        "specs/mesh.yaml",
        "file://metadata/west\"}",
        "file://metadata/west\"}, api: {host: api.west.example.com, ca: {file: west-ca.pem}}",
    );
    checkout.write("templates/notes.txt", b"no template");
    checkout.engine(&["apply"]).done();
    let dir = committed(&checkout);
    let once = ["watch", "--once", "--commit"];
    checkout.engine(&once).done();
    let before = head(&dir);
    let waits = |what: &str| {
        checkout.refuses(&once, 4, &[what, "waiting for a commit of what is declared"]);
        assert_eq!(head(&dir), before);
        // no one who does not commit waits
        checkout.engine(&["plan"]);
        git(&dir, &["checkout", "-q", "--", "."]);
        git(&dir, &["clean", "-qfdx"]);
        checkout.engine(&once).done();
    };
    state_gateway(&dir, "east", "203.0.113.1");
    waits("`specs/mesh.yaml` is modified");
    let pem = fs::read_to_string(checkout.path("west-ca.pem")).unwrap();
    checkout.write("west-ca.pem", format!("{pem}\n{pem}").as_bytes());
    waits("`west-ca.pem` is modified");
    checkout.write("specs/more.yaml", b"");
    waits("`specs/more.yaml` is untracked");
    checkout.write(".gitignore", b"*.yaml\n");
    checkout.write("specs/more.yaml", b"");
    waits("`specs/more.yaml` is untracked");
    // what no run reads, and what clusters publish, is no part of it
    checkout.write("specs/notes.txt", b"words");
    checkout.write("specs/.swap.yaml", b"words");
    fs::remove_file(checkout.path("templates/notes.txt")).unwrap();
    checkout.write("metadata/east/more.json", b"{}");
    checkout.engine(&once).done();
    assert_eq!(head(&dir), before);
    // a watch that does not commit takes them as they are
    state_gateway(&dir, "east", "203.0.113.1");
    checkout.engine(&["watch", "--once"]).done();
    assert!(generated(&dir).contains("rendered/west/configmap-isthmus-mesh.yaml"));
    // and a deleted document is an edit as any other
    git(&dir, &["checkout", "-q", "--", "."]);
    fs::write(dir.join("specs/east.yaml"), "# east\n").unwrap();
    git(&dir, &["add", "specs"]);
    git(&dir, &["commit", "-qm", "a comment"]);
    fs::remove_file(dir.join("specs/east.yaml")).unwrap();
    checkout.refuses(&once, 4, &["`specs/east.yaml` is deleted"]);
}

#[test]
fn a_failed_commit_is_made_by_the_next_run() {
    let checkout = Checkout::joined();
    let dir = committed(&checkout);
    let environment = environment();
    // the environment's own comes first, and is a link to the real one: the first time it does not move the branch
    let (shim, failed) = (environment.path("bin/git"), environment.path("failed"));
    let real = fs::read_link(&shim).unwrap();
    fs::remove_file(&shim).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" update-ref \"*) if [ ! -e {0} ]; then touch {0}; echo no space >&2; exit 1; fi;; esac\n\
         exec {1} \"$@\"\n",
        failed.display(),
        real.display()
    );
    fs::write(&shim, script).unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    let watch = RunningWatch::in_environment(environment, &dir, &["--commit"]);
    watch.until("the first run", |watch| watch.runs() > 0);
    state_gateway(&dir, "east", "203.0.113.1");
    git(&dir, &["commit", "-qam", "a gateway"]);
    watch.until("the failure", |_| failed.exists());
    watch.until("the commit", |_| git(&dir, &["log", "-1", "--format=%an"]) == "isthmus");
    assert_eq!(generated(&dir), "");
    assert!(git(&dir, &["show", "--format=", "--name-only"]).contains("rendered/west/configmap-isthmus-mesh.yaml"));
    assert_eq!(watch.count("isthmus_commits_total"), 1);
    let ran = watch.end();
    assert!(ran.stderr.contains("no space"), "{ran}");
}

#[test]
fn what_was_applied_by_hand_is_committed_by_the_next_run() {
    let checkout = Checkout::joined();
    let dir = committed(&checkout);
    let watch = RunningWatch::on(&dir, &["--commit", "--poll", "1s"]);
    watch.until("the first run", |watch| watch.runs() > 0);
    let before = head(&dir);
    let document = checkout.path("metadata/west/public/public.json");
    let mut public: Value = serde_json::from_slice(&fs::read(&document).unwrap()).unwrap();
    public["trustDomain"] = "west.example".into();
    fs::write(&document, public.to_string()).unwrap();
    watch.until("a trust change", |watch| watch.get("/picture.json").contains("\"trustChange\""));
    assert_eq!(head(&dir), before);
    // the watch has the checkout for the time of a run
    watch.until("the acceptance", |_| {
        // another trust domain makes the only two links leave and join anew
        checkout.engine(&["apply", "--accept-trust", "west", "--allow-delete"]).code == 0
    });
    watch.until("the commit", |_| head(&dir) != before && generated(&dir).is_empty());
    assert_eq!(git(&dir, &["log", "-1", "--format=%an"]), "isthmus");
    assert!(git(&dir, &["show", "HEAD:lock/clusters/west.yaml"]).contains("west.example"));
    // neither by hand nor by a run: it is put right, and that is nothing to commit
    sleep(QUIET);
    let before = head(&dir);
    fs::remove_file(dir.join("rendered/west/configmap-isthmus-mesh.yaml")).unwrap();
    watch.until("the file", |_| dir.join("rendered/west/configmap-isthmus-mesh.yaml").exists());
    // what is not ours is no one's to commit
    fs::write(dir.join("rendered/west/notes.txt"), "words").unwrap();
    sleep(QUIET);
    assert_eq!(head(&dir), before);
}
