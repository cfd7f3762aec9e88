//! The same block wherever a plan is shown: in a run on main, in its summary, and where the base cannot be compared.

use super::{BASE, IMAGE, SPECS, main};
use crate::support::checkout::Checkout;

#[test]
fn a_run_refuses_what_is_not_ours_and_touches_nothing_of_that_cluster() {
    let checkout = main();
    let path = "rendered/east/configmap-evil.yaml";
    checkout.write(path, b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: evil}\n");
    checkout.edit(SPECS, IMAGE, "ghcr.io/x/engine:2");
    for arguments in [&["plan"][..], &["plan", "--locked"], &["apply"], &["apply", "--locked"], &["watch", "--once"]] {
        let ran = checkout.shows(arguments, 4, &["Review first", path, "is not ours"]);
        assert!(!ran.stdout.contains("engine:2"), "{ran}");
    }
    // its files are those of someone who knows nothing of it
    let generated = checkout.engine(&["argocd", "generate", "--cluster", "east"]).done();
    assert!(!generated.contains("evil") && generated.contains("engine:2"), "{generated}");
    std::fs::remove_file(checkout.path(path)).unwrap();
    checkout.engine(&["apply"]).done();
}

#[test]
fn files_of_an_old_run_are_ours_and_go() {
    let checkout = Checkout::joined();
    checkout.edit(SPECS, "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
    checkout.edit(SPECS, "name: west}\nspec: {", "name: west}\nspec: {state: leaving, ");
    for _ in 0..5 {
        checkout.engine(&["apply"]).done();
    }
    let ran = checkout.engine(&["plan", "--locked"]).done();
    assert!(ran.contains("No changes."), "{ran}");
    assert_eq!(std::fs::read_dir(checkout.path("rendered/west")).unwrap().count(), 1, "its list of files");
}

#[test]
fn a_paused_cluster_is_judged_too() {
    let checkout = main();
    checkout.edit(SPECS, super::EAST, &format!("{}, state: paused", super::EAST));
    checkout.write("rendered/east/configmap-evil.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: evil}\n");
    checkout.shows(&["plan"], 4, &["rendered/east/configmap-evil.yaml", "is not ours"]);
}

#[test]
fn one_cluster_by_itself_shows_its_own_folders() {
    let checkout = main();
    checkout.write("rendered/west/configmap-evil.yaml", b"a: 1");
    checkout.write("values/west/evil", b"a: 1");
    checkout.engine(&["plan", "--cluster", "east"]).done();
    checkout.shows(&["plan", "--cluster", "west"], 4, &["rendered/west/configmap-evil.yaml", "values/west/evil"]);
}

#[test]
fn a_summary_names_objects_and_shows_the_block_whole() {
    let checkout = main();
    checkout.edit(SPECS, IMAGE, "ghcr.io/x/engine:2");
    let output = checkout.engine(&[BASE, &["--summary"]].concat()).done();
    insta::assert_snapshot!("summary_text", output);
    let comment = checkout.engine(&[BASE, &["--summary", "--output", "markdown"]].concat()).done();
    insta::assert_snapshot!("summary_markdown", comment);
    assert!(!comment.contains("not shown whole"), "{comment}");
    let json = checkout.engine(&[BASE, &["--summary", "--output", "json"]].concat()).done();
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    let objects = plan["steps"].as_array().unwrap().iter().flat_map(|step| step["objects"].as_array().unwrap());
    assert!(objects.clone().count() > 0 && objects.into_iter().all(|object| object["fields"] == serde_json::json!([])));
}

#[test]
fn a_base_with_findings_is_shown_on_top() {
    let checkout = main();
    checkout.git(&["switch", "-q", "main"]);
    checkout.edit(SPECS, "acceptForeignRoots", "acceptForeignRots");
    super::commit(&checkout, &["status", "-s"], "wrong");
    checkout.git(&["switch", "-q", "-C", "pull"]);
    checkout.edit(SPECS, "acceptForeignRots", "acceptForeignRoots");
    let ran = checkout.engine(BASE);
    assert!(ran.code == 0 && super::on_top(&ran.stdout).contains("specs of `main`"), "{ran}");
    checkout.edit("rendered/east/deployment.apps-isthmus-relay.yaml", IMAGE, "evil.example.com/engine:1");
    let ran = checkout.engine(BASE);
    assert!(ran.code == 4 && super::on_top(&ran.stdout).contains("evil.example.com/engine:1"), "{ran}");
}

/// Twenty clusters from all with all to one pair.
#[test]
fn the_links_that_go_are_counted_and_named() {
    let checkout = Checkout::joined();
    checkout.git(&["init", "-q", "-b", "main"]);
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-qm", "one"]);
    checkout.edit(SPECS, "acceptForeignRoots: true", "acceptForeignRoots: true, topology: pairs, pairs: []");
    let ran = checkout.engine(&[BASE, &["--output", "json"]].concat());
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let item = &plan["securityRelevant"][0];
    assert_eq!(item["code"], "links-close", "{ran}");
    assert_eq!(item["links"], serde_json::json!(["east/west", "west/east"]), "{ran}");
    assert!(item["message"].as_str().unwrap().contains("--allow-delete"), "{ran}");
}
