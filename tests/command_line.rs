//! What the commands promise: locked runs, stored plans, one engine at a time, guards, and words for what is not there.

use std::path::PathBuf;

use crate::support::checkout::Checkout;
use crate::support::environment::{ENGINE, TestEnvironment};

fn copy(from: &Checkout, environment: &TestEnvironment) -> PathBuf {
    let folder = environment.path("elsewhere");
    environment.end(environment.program("cp").arg("-a").arg(from.path(".")).arg(&folder)).done();
    folder
}

#[test]
fn a_locked_plan_is_the_same_everywhere_and_asks_no_cluster() {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", "name: east}\nspec: {", "name: east}\nspec: {multicluster: {replicas: 3}, ");
    std::fs::remove_dir_all(checkout.path("metadata")).unwrap();
    let plain = checkout.engine(&["plan", "--locked"]).done();
    let environment = TestEnvironment::new().with("LC_ALL", "tr_TR.UTF-8").with("TZ", "Pacific/Apia");
    let environment = environment.with("PATH", "/usr/bin:/bin").with("HOME", "/nonexistent");
    let elsewhere = copy(&checkout, &environment);
    let script = format!("umask 077; cd / && exec {ENGINE} -C {} plan --locked", elsewhere.display());
    for prefix in [vec!["sh", "-c"], vec!["unshare", "-r", "-n", "sh", "-c"]] {
        let ran = environment.end(environment.program(prefix[0]).args(&prefix[1..]).arg(&script));
        if prefix[0] == "unshare" && ran.stderr.starts_with("unshare:") {
            assert!(std::env::var_os("CI").is_none(), "no network namespace to be had: {ran}");
            continue;
        }
        assert_eq!(ran.done(), plain);
    }
    checkout.engine(&["apply", "--locked"]).done();
    let tree = checkout.output();
    environment.run_on(&elsewhere, &["apply", "--locked"]).done();
    for (path, bytes) in tree {
        let other = elsewhere.join(path.strip_prefix(checkout.path("")).unwrap());
        assert_eq!(std::fs::read(other).unwrap(), bytes);
    }
}

/// A checkout with a stored plan of its first run.
fn with_stored_plan() -> (Checkout, String) {
    let checkout = Checkout::new();
    let file = checkout.path("plan.json").to_str().unwrap().to_owned();
    assert_eq!(checkout.engine(&["plan", "--out", &file, "--detailed-exitcode"]).code, 2);
    assert!(checkout.output().is_empty());
    (checkout, file)
}

#[test]
fn a_stored_plan_does_exactly_what_it_showed_or_nothing() {
    let (checkout, file) = with_stored_plan();
    let environment = TestEnvironment::new();
    let kept = copy(&checkout, &environment);
    checkout.engine(&["apply", &file]).done();
    assert!(checkout.path("rendered/east/secret-istio-remote-secret-west.yaml").exists());
    checkout.refuses(&["apply", &file], 4, &["the plan is stale", "specs, templates or lock"]);

    let text = std::fs::read_to_string(kept.join("plan.json")).unwrap();
    assert!(!text.contains("PRIVATE KEY") && !text.contains("CERTIFICATE") && !text.contains("api.west.example.com"));
    let edited = text.replace("lock/links/east.yaml", "lock/links/evil.yaml");
    assert_ne!(edited, text);
    std::fs::write(kept.join("plan.json"), &edited).unwrap();
    let ran = environment.run_on(&kept, &["apply", kept.join("plan.json").to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stderr.contains("what it would change was edited"), "{ran}");
    assert!(!kept.join("rendered").exists());
}

#[test]
fn a_stored_plan_asks_again_and_is_refused_where_the_answer_leads_elsewhere() {
    let (checkout, file) = with_stored_plan();
    let documents = checkout.path("metadata/west/private/multicluster.json");
    let published = std::fs::read_to_string(&documents).unwrap();
    let moved = published.replace("15443", "15444");
    assert_ne!(moved, published);
    std::fs::write(&documents, moved).unwrap();
    let differs = ["the clusters were asked again", "lock/clusters/west.yaml", "rendered/east/", "engine plan --out"];
    checkout.refuses(&["apply", &file], 4, &differs);
    // silence leads elsewhere too: the plan opens links by what was shown
    std::fs::remove_file(&documents).unwrap();
    checkout.refuses(&["apply", &file], 4, &["link east/west", "and "]);
    // as it was, it is carried out
    std::fs::write(&documents, published).unwrap();
    checkout.engine(&["apply", &file]).done();

    checkout.edit(
        "specs/mesh.yaml",
        "file://metadata/east\"}",
        "file://metadata/east\"}, gateways: [{address: 203.0.113.1, port: 15443}]",
    );
    checkout.engine(&["plan", "--out", &file]).done();
    let public = checkout.path("metadata/west/public/public.json");
    let trusted = std::fs::read_to_string(&public).unwrap();
    let other = trusted.replace("\"trustDomain\": \"cluster.local\"", "\"trustDomain\": \"west.example\"");
    assert_ne!(other, trusted);
    std::fs::write(&public, other).unwrap();
    checkout.refuses(&["apply", &file], 4, &["trust change west@"]);
    std::fs::write(&public, trusted).unwrap();
    checkout.engine(&["apply", &file]).done();
}

#[test]
fn a_stored_plan_is_bound_to_the_files_that_specs_name_and_to_keys() {
    let checkout = Checkout::new();
    let ca = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.self_signed(&key).unwrap().pem()
    };
    checkout.write("west-ca.pem", ca("one").as_bytes());
    checkout.edit(
        "specs/mesh.yaml",
        "file://metadata/west\"}",
        "file://metadata/west\"}, api: {host: api.west.example.com, ca: {file: west-ca.pem}}",
    );
    let file = checkout.path("plan.json").to_str().unwrap().to_owned();
    checkout.engine(&["plan", "--out", &file]).done();
    let before = std::fs::read(checkout.path("west-ca.pem")).unwrap();
    checkout.write("west-ca.pem", ca("two").as_bytes());
    checkout.refuses(&["apply", &file], 4, &["the plan is stale", "west-ca.pem"]);
    checkout.write("west-ca.pem", &before);
    checkout.engine(&["keys", "new"]).done();
    std::fs::remove_dir_all(checkout.path("lock")).unwrap();
    checkout.refuses(&["apply", &file], 4, &["the plan is stale", "keys/engine.key"]);
    std::fs::remove_file(checkout.path("keys/engine.key")).unwrap();
    checkout.engine(&["apply", &file]).done();
}

#[test]
fn a_stored_plan_has_an_age() {
    let (mut checkout, file) = with_stored_plan();
    checkout.environment.set("ISTHMUS_TEST_NOW", "2026-12-02T12:00:01Z");
    checkout.refuses(&["apply", &file], 4, &["the plan is too old: expected at most 24h (--max-age), found 24h"]);
    checkout.environment.set("ISTHMUS_TEST_NOW", "2026-12-01T13:00:01Z");
    checkout.refuses(&["apply", &file, "--max-age", "1h"], 4, &["expected at most 60m (--max-age), found 60m"]);
    checkout.environment.set("ISTHMUS_TEST_NOW", "2026-12-01T11:00:00Z");
    checkout.refuses(&["apply", &file], 4, &["expected a time before now", "2026-12-01T12:00:00Z"]);
    checkout.environment.set("ISTHMUS_TEST_NOW", "2026-12-02T12:00:00Z");
    checkout.engine(&["apply", &file]).done();
}

#[test]
fn the_second_engine_on_a_checkout_has_to_wait() {
    let checkout = Checkout::joined();
    let held = isthmus::checkout::Checkout::open(&checkout.path("")).unwrap();
    let guard = held.lock().unwrap();
    checkout.refuses(&["apply"], 5, &["another engine works in"]);
    checkout.engine(&["plan"]).done();
    drop(guard);
    checkout.engine(&["apply"]).done();
}

/// Late is safe, and someone should see that no run comes.
#[test]
fn status_shows_which_roots_retire_and_which_are_overdue() {
    let checkout = Checkout::joined();
    let path = "metadata/west/public/public.json";
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(checkout.path(path)).unwrap()).unwrap();
    document["rootCA"] = crate::support::peer::Ca::new("another root of west").pem.into();
    checkout.write(path, document.to_string().as_bytes());
    assert!(!checkout.engine(&["status"]).done().contains("RETIRING"));
    checkout.engine(&["apply", "--accept-trust", "west"]).done();
    let output = checkout.engine(&["status"]).done();
    assert!(output.contains("RETIRING ROOT CA") && !output.contains("overdue"), "{output}");
    let entry = std::fs::read_to_string(checkout.path("lock/clusters/west.yaml")).unwrap();
    let since = entry.lines().find(|line| line.contains("since:")).unwrap();
    let (field, _) = since.split_once(": ").unwrap();
    let earlier = format!("{field}: 2026-01-01T00:00:00Z");
    checkout.write("lock/clusters/west.yaml", entry.replace(since, &earlier).as_bytes());
    let output = checkout.engine(&["status"]).done();
    assert!(output.contains("2026-01-02T01:00:00Z (overdue)"), "{output}");
    let document: serde_json::Value =
        serde_json::from_str(&checkout.engine(&["status", "--output", "json"]).done()).unwrap();
    assert_eq!(document["retiringRoots"][0]["cluster"], "west");
    assert_eq!(document["retiringRoots"][0]["overdue"], true);
}

#[test]
fn all_that_runs_in_a_cluster_goes_only_when_allowed() {
    const WEST: &str = "name: west}\nspec: {";
    const RUNS: &str = "name: west}\nspec: {multicluster: {image: engine, apiHost: api.west.example.com}, ";
    for tool in ["external", "deckhouse"] {
        let checkout = Checkout::new();
        checkout.edit("specs/mesh.yaml", "spec: {", "spec: {topology: pairs, pairs: [], ");
        checkout.edit("specs/mesh.yaml", WEST, RUNS);
        checkout.engine(&["apply"]).done();
        let exporter = checkout.path("rendered/west/deployment.apps-isthmus-exporter.yaml");
        assert!(exporter.exists());
        checkout.edit("specs/mesh.yaml", RUNS, &format!("{WEST}reconciler: {tool}, "));
        for arguments in [&["apply"][..], &["plan", "--locked"]] {
            let expected = "exporter, api-proxy and relay of `west` would go from `rendered/west`";
            checkout.shows(arguments, 4, &[expected, "--allow-delete"]);
        }
        checkout.engine(&["apply", "--allow-delete"]);
        assert!(!exporter.exists());
    }
}

/// The gateway of a cluster that is read goes only when that is allowed, whoever renders it; where none reads it, a plan shows it.
#[test]
fn a_managed_gateway_goes_only_when_allowed() {
    const WEST: &str = "name: west}\nspec: {";
    const MANAGED: &str = "name: west}\nspec: {network: network-west, gateway: {manage: true}, ";
    const LEAVING: &str = "name: west}\nspec: {state: leaving, ";
    let checkout = Checkout::new();
    let gateway = checkout.path("rendered/west/gateway.gateway.networking.k8s.io-isthmus-eastwest.yaml");
    checkout.engine(&["apply"]).done();
    checkout.engine(&["apply"]).done();
    checkout.edit("specs/mesh.yaml", WEST, MANAGED);
    let second = "`west` has a gateway at ";
    let plan = checkout.engine(&["plan"]);
    assert!(plan.code == 0 && plan.stdout.contains("+ Gateway isthmus-eastwest"), "{plan}");
    assert!(plan.stderr.contains(second) && plan.stderr.contains("`gateway.manage` adds another one"), "{plan}");
    checkout.engine(&["apply"]).done();
    assert!(gateway.exists());
    assert!(!checkout.engine(&["plan"]).stderr.contains(second));

    checkout.edit("specs/mesh.yaml", MANAGED, WEST);
    let goes = "the east-west gateway of `west` would go";
    for arguments in [&["apply"][..], &["plan", "--locked"]] {
        checkout.shows(arguments, 4, &[goes, "--allow-delete"]);
    }
    assert!(gateway.exists());
    // requests come through it until its links have left
    checkout.edit("specs/mesh.yaml", WEST, LEAVING);
    checkout.shows(&["plan"], 4, &[goes, "--allow-delete"]);
    checkout.edit("specs/mesh.yaml", LEAVING, WEST);
    let plan = checkout.engine(&["plan", "--allow-delete"]).done();
    assert!(plan.contains("- Gateway isthmus-eastwest") && !plan.contains(goes), "{plan}");
    checkout.engine(&["apply", "--allow-delete"]).done();
    assert!(!gateway.exists());

    // no link, no request that comes through it
    checkout.edit("specs/mesh.yaml", "spec: {", "spec: {topology: pairs, pairs: [], settle: 0s, ");
    checkout.edit("specs/mesh.yaml", WEST, MANAGED);
    for _ in 0..4 {
        checkout.engine(&["apply", "--allow-delete"]).done();
    }
    assert!(gateway.exists());
    checkout.edit("specs/mesh.yaml", MANAGED, WEST);
    checkout.shows(&["plan"], 0, &["- Gateway isthmus-eastwest"]);
    checkout.engine(&["apply"]).done();
    assert!(!gateway.exists());
}

/// What an agent has joined its cluster with is in that cluster, and not in the lock of the checkout.
#[test]
fn a_managed_gateway_of_an_agents_cluster_goes_only_when_allowed() {
    const MANAGED: &str = "  network: network-east\n  gateway: {manage: true}\n";
    let checkout = Checkout::new();
    let spec = "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n---\n\
                apiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {name: east}\nspec:\n  reconciler: agent\n  \
                multicluster: {image: engine, apiHost: api.east.example.com}\n  \
                metadata: {endpoint: \"https://127.0.0.1:1/metadata\"}\n  allow: {addresses: [127.0.0.0/8]}\n";
    checkout.write("specs/mesh.yaml", format!("{spec}{MANAGED}").as_bytes());
    checkout.engine(&["apply"]).done();
    checkout.write("specs/mesh.yaml", spec.as_bytes());
    checkout.shows(&["plan", "--locked"], 4, &["the east-west gateway of `east` would go", "--allow-delete"]);
    checkout.engine(&["apply", "--allow-delete"]).done();
    assert!(!checkout.path("rendered/east/gateway.gateway.networking.k8s.io-isthmus-eastwest.yaml").exists());
}

#[test]
fn a_pair_taken_away_needs_a_word_and_leaves_in_order() {
    let checkout = Checkout::new();
    checkout.edit("specs/mesh.yaml", "spec: {", "spec: {topology: pairs, pairs: [[east, west]], ");
    checkout.engine(&["apply"]).done();
    checkout.edit("specs/mesh.yaml", "[[east, west]]", "[]");
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
    checkout.shows(&["apply"], 4, &["all links of `east` would go", "--allow-delete"]);
    let secret = checkout.path("rendered/east/secret-istio-remote-secret-west.yaml");
    let routes = checkout.path("rendered/east/configmap-isthmus-routes.yaml");
    let peers = checkout.path("rendered/east/configmap-isthmus-peers.yaml");
    checkout.engine(&["apply", "--allow-delete"]).done();
    assert!(!secret.exists() && routes.exists() && peers.exists());
    checkout.engine(&["apply"]).done();
    assert!(!routes.exists() && peers.exists());
    checkout.engine(&["apply"]).done();
    assert!(!peers.exists());
    assert!(
        !std::fs::read_to_string(checkout.path("rendered/east/configmap-isthmus-mesh.yaml"))
            .unwrap()
            .contains("CERTIFICATE")
    );
}

#[test]
fn a_paused_cluster_keeps_every_byte_and_a_leaving_one_goes() {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {state: paused, dummy: 1, ");
    checkout.refuses(&["apply"], 1, &["dummy", "specs/mesh.yaml:"]);
    checkout.edit("specs/mesh.yaml", "dummy: 1, ", "");
    std::fs::remove_dir_all(checkout.path("metadata/west")).unwrap();
    checkout.shows(&["apply"], 0, &["No changes."]);
    checkout.edit("specs/mesh.yaml", "state: paused", "state: leaving");
    checkout.engine(&["apply"]).done();
    checkout.shows(&["apply"], 0, &["render-secret/west/east  waits for ", "since `west` shows no evidence"]);
    checkout.edit("specs/mesh.yaml", "state: leaving", "state: lost");
    for _ in 0..3 {
        checkout.engine(&["apply"]).done();
    }
    let left: Vec<_> = checkout.output().into_keys().filter(|path| path.to_string_lossy().contains("west")).collect();
    assert_eq!(left, [checkout.path("rendered/west/kustomization.yaml")]);
    checkout.shows(&["apply"], 0, &["No changes."]);
    let text = std::fs::read_to_string(checkout.path("specs/mesh.yaml")).unwrap();
    let at = text.rfind("---\n").unwrap();
    checkout.write("specs/mesh.yaml", &text.as_bytes()[..at]);
    checkout.engine(&["apply"]).done();
    assert!(!checkout.path("rendered/west").exists());
}

#[test]
fn keys_are_made_once_and_only_when_asked_for() {
    use std::os::unix::fs::PermissionsExt as _;
    let checkout = Checkout::new();
    checkout.engine(&["apply"]).done();
    assert!(!checkout.path("keys").exists() && !checkout.path("lock/mesh.yaml").exists());
    checkout.engine(&["keys", "new"]).done();
    let mode = |path: &str| std::fs::metadata(checkout.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("keys"), mode("keys/engine.key")), (0o700, 0o400));
    assert_eq!(std::fs::read(checkout.path("keys/.gitignore")).unwrap(), b"*\n");
    checkout.refuses(&["keys", "new"], 4, &["no run replaces a recorded key"]);
    let text = checkout.engine(&["keys", "list"]).done();
    assert!(text.contains("present") && text.contains("in the cluster"), "{text}");
    checkout.engine(&["apply"]).done();
    std::fs::remove_dir_all(checkout.path("keys")).unwrap();
    checkout.shows(&["apply", "--create-keys"], 0, &["No changes."]);
    assert!(!checkout.path("keys").exists());
}

#[test]
fn json_is_one_document_with_a_version_also_on_failure() {
    let checkout = Checkout::joined();
    let document = |arguments: &[&str]| -> (i32, serde_json::Value) {
        let ran = checkout.engine(arguments);
        (ran.code, serde_json::from_str(&ran.stdout).unwrap())
    };
    for command in [vec!["plan"], vec!["status"], vec!["keys", "list"], vec!["plan", "--locked"]] {
        let (code, value) = document(&[&["--output", "json"], command.as_slice()].concat());
        let version = if command[0] == "plan" { 2 } else { 1 };
        assert!(code == 0 && value["version"] == version, "{command:?}: {value}");
    }
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots", "acceptForeignRots");
    let (code, value) = document(&["plan", "--output", "json"]);
    assert_eq!((code, &value["version"], &value["exit"]), (1, &2.into(), &1.into()));
    assert_eq!(value["code"], "checkout-has-findings");
    let finding = &value["findings"][0];
    assert_eq!((&finding["file"], &finding["code"]), (&"specs/mesh.yaml".into(), &"unknown-field".into()));
}

#[test]
fn json_of_a_failure_has_code_message_hint_and_causes() {
    let checkout = Checkout::joined();
    let document = |arguments: &[&str]| -> serde_json::Value {
        let ran = checkout.engine(&[&["--output", "json"], arguments].concat());
        let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(value["exit"], ran.code, "{ran}");
        // the sentence for people is message and hint
        let hint = value["hint"].as_str().map(|hint| format!("; {hint}")).unwrap_or_default();
        assert_eq!(value["error"], format!("{}{hint}", value["message"].as_str().unwrap()));
        assert!(ran.stderr.contains(value["error"].as_str().unwrap()), "{ran}");
        value
    };
    let unknown = document(&["plan", "--cluster", "wset"]);
    assert_eq!((&unknown["code"], &unknown["hint"]), (&"unknown-cluster".into(), &"did you mean `west`?".into()));
    assert_eq!(unknown["message"], "--cluster: no spec declares a cluster `wset`");
    let absent = document(&["apply", "no-such-plan"]);
    assert_eq!((&absent["code"], &absent["exit"]), (&"system-failed".into(), &6.into()));
    assert_eq!(absent["causes"], serde_json::json!(["No such file or directory (os error 2)"]));
    for (arguments, code) in [
        (vec!["plan", "--to", "cluster"], "not-available"),
        (vec!["plna"], "invalid-arguments"),
        (vec!["export", "nrth"], "unknown-cluster"),
        (vec!["init"], "already-exists"),
        (vec!["manifests", "flux", "--repo", "x"], "invalid-arguments"),
        (vec!["watch", "--cluster", "west"], "invalid-arguments"),
        (vec!["plan", "--base", "HEAD"], "not-in-git"),
    ] {
        assert_eq!(document(&arguments)["code"], code, "{arguments:?}");
    }
    checkout.engine(&["keys", "new"]).done();
    assert_eq!(document(&["keys", "new"])["code"], "already-exists");
}

#[test]
fn what_this_version_lacks_is_refused_by_name() {
    let checkout = Checkout::joined();
    for arguments in [vec!["doctor"], vec!["keys", "rotate"], vec!["plan", "--to", "cluster"]] {
        checkout.refuses(&arguments, 64, &["is not part of this version"]);
    }
    checkout.refuses(&["plna"], 64, &["did you mean `plan`?"]);
    checkout.refuses(&["plan", "--no-such-flag"], 64, &["--no-such-flag"]);
    // whose flag it is, and no advice to pass it as a value
    let stray =
        checkout.refuses(&["apply", "--detailed-exitcode"], 64, &["`--detailed-exitcode` is a flag of `engine plan`"]);
    assert!(!stray.stderr.contains("as a value"), "{stray}");
    checkout.refuses(
        &["watch", "--http", "8080"],
        64,
        &["expected an IP address and a port, such as `127.0.0.1:9090`"],
    );
    checkout.refuses(&["invite", "moon"], 64, &["no spec declares a cluster `moon`; specs/ declares `east`, `west`"]);
    checkout.refuses(&["plan", "--cluster", "wset"], 64, &["did you mean `west`?"]);
    checkout.refuses(&["apply", "--accept-trust", "all"], 64, &["expected a terminal"]);
    checkout.refuses(&["apply", "--accept-trust", "west@xyz"], 64, &["at least 8 hex digits"]);
}

#[test]
fn the_small_commands_print_what_they_say() {
    let checkout = Checkout::joined();
    for (arguments, word) in [
        (vec!["graph"], "digraph isthmus"),
        (vec!["graph", "--format", "mermaid"], "flowchart LR"),
        (vec!["graph", "--format", "json"], "\"render-secret/east/west\""),
        (vec!["schema"], "\"$schema\""),
        (vec!["completions", "bash"], "_engine"),
        (vec!["man"], ".TH engine 1"),
        (vec!["status"], "joined  unproven  in the tree"),
        (vec!["--help"], "Exit codes:"),
    ] {
        let text = checkout.engine(&arguments).done();
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}

#[test]
fn writing_to_the_tree_takes_yes_and_asks_nothing() {
    let checkout = Checkout::joined();
    let without = checkout.engine(&["apply", "--locked"]).done();
    assert_eq!(checkout.engine(&["apply", "--locked", "--yes"]).done(), without);
}

#[test]
fn a_checkout_that_is_not_there_is_named() {
    let checkout = Checkout::new();
    let folder = checkout.path("nowhere");
    let ran = checkout.environment.run_on(&folder, &["plan"]);
    let expected = format!("error: there is no folder `{}`; name the checkout with `-C DIR`\n", folder.display());
    assert_eq!((ran.code, ran.stderr), (6, expected));
}
