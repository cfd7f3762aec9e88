//! `engine plan --base REF` and `--output markdown`: what a pull request shows, without a key and without network.

use std::io::ErrorKind;
use std::net::TcpListener;

use crate::support::checkout::Checkout;
use crate::watch::state_gateway;

/// A joined checkout as the first commit of branch main.
fn committed() -> Checkout {
    let checkout = Checkout::joined();
    checkout.git(&["init", "-q", "-b", "main"]);
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-qm", "one"]);
    checkout
}

const STATED: &str = "file://metadata/east\"}, gateways: [{address: 203.0.113.9, port: 15443}]";

#[test]
fn a_change_of_specs_shows_what_it_will_change_and_nothing_else() {
    let checkout = committed();
    let printed = checkout.engine(&["plan", "--base", "main", "--detailed-exitcode"]).done();
    assert!(printed.contains("No changes"), "{printed}");
    checkout.edit("specs/mesh.yaml", "file://metadata/east\"}", STATED);
    let before = checkout.output();
    let ran = checkout.engine(&["plan", "--base", "main", "--detailed-exitcode"]);
    assert_eq!(ran.code, 2, "{ran}");
    let printed = &ran.stdout;
    assert!(printed.contains("203.0.113.9") && printed.contains("render-trust/west"), "{printed}");
    assert!(!printed.contains("render-secret"), "{printed}");
    assert!(before == checkout.output());
    let markdown = checkout.engine(&["plan", "--base", "main", "--output", "markdown"]).done();
    insta::assert_snapshot!(markdown);
    let json = checkout.engine(&["plan", "--base", "main", "--output", "json"]).done();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["counts"]["update"], 1, "{json}");
    let codes: Vec<_> = json["securityRelevant"].as_array().unwrap().iter().map(|item| &item["code"]).collect();
    assert_eq!(codes, ["links-cut", "spec-edited"], "{json}");
    // what lies in the tree and is not what the specs ask for comes with a merge, whatever they say
    checkout.write("rendered/west/configmap-isthmus-mesh.yaml", b"by hand");
    checkout.shows(&["plan", "--base", "main"], 4, &["`rendered/west/configmap-isthmus-mesh.yaml` is not ours"]);
}

#[test]
fn a_share_that_is_edited_says_what_it_opens_and_closes() {
    let checkout = committed();
    let west = "name: west}\nspec: {";
    let mut text = String::new();
    for (edit, code) in [
        ("share: {namespaces: [shop, \"pay-*\"]}, ", "share-closes"),
        ("share: {except: []}, ", "share-opens"),
        ("share: {namespaces: [shop]}, shareWith: {east: {namespaces: [\"*\"], except: []}}, ", "share-opens"),
    ] {
        let specs = std::fs::read_to_string(checkout.path("specs/mesh.yaml")).unwrap();
        checkout.edit("specs/mesh.yaml", west, &format!("{west}{edit}"));
        let codes = |arguments: &[&str]| {
            let json = checkout.engine(&[arguments, &["--output", "json"]].concat()).done();
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            let items = json["securityRelevant"].as_array().unwrap();
            items.iter().map(|item| item["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert!(codes(&["plan", "--base", "main"]).contains(&code.to_owned()));
        assert_eq!(codes(&["plan", "--locked"]), [code]);
        text += &checkout.engine(&["plan", "--base", "main"]).done();
        text += &checkout.engine(&["plan", "--locked"]).done();
        text += &checkout.engine(&["plan", "--base", "main", "--output", "markdown"]).done();
        checkout.write("specs/mesh.yaml", specs.as_bytes());
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_changed_lock_is_a_trust_change_on_top() {
    let checkout = committed();
    let lock = std::fs::read_to_string(checkout.path("lock/clusters/west.yaml")).unwrap();
    let uuid = lock.split("clusterUUID: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    checkout.write("lock/clusters/west.yaml", lock.replace(&uuid, "00000000-1111-4222-8333-444444444444").as_bytes());
    let ran = checkout.shows(&["plan", "--base", "main"], 4, &["! trust change of `west`: not accepted yet"]);
    let mut marked = ran.stdout.lines().filter(|line| line.starts_with('!'));
    assert!(marked.all(|line| line.contains("trust change of `west`") || line.contains("lock/clusters/west.yaml")));
    let markdown = checkout.engine(&["plan", "--base", "main", "--output", "markdown"]);
    assert_eq!(markdown.code, 4, "{markdown}");
    let markdown = markdown.stdout;
    assert!(
        markdown.contains(":warning: Trust change of `west`: not accepted yet")
            && markdown.contains("Merging this accepts `west@"),
        "{markdown}"
    );
    assert!(markdown.contains(&uuid) && markdown.contains("lock/clusters/west.yaml"));
}

#[test]
fn files_that_specs_name_and_findings_come_from_the_revision() {
    let checkout = committed();
    // a CA that only the revision has
    checkout.edit("specs/mesh.yaml", "file://metadata/east\"}", "file://metadata/east\", ca: {file: ca/east.pem}}");
    let ca = std::fs::read_to_string(checkout.path("lock/clusters/east.yaml")).unwrap();
    let pem: Vec<&str> = ca
        .split("-----BEGIN CERTIFICATE-----")
        .nth(1)
        .unwrap()
        .split("-----END")
        .next()
        .unwrap()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let pem = pem.join("\n");
    checkout
        .write("ca/east.pem", format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n").as_bytes());
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-qm", "with a CA"]);
    std::fs::remove_dir_all(checkout.path("ca")).unwrap();
    checkout.edit("specs/mesh.yaml", ", ca: {file: ca/east.pem}", "");
    checkout.engine(&["plan", "--base", "HEAD"]).done();
    // what mends a revision whose specs are wrong is compared with what was last rendered there
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots", "acceptForeignRots");
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-qm", "wrong"]);
    checkout.edit("specs/mesh.yaml", "acceptForeignRots", "acceptForeignRoots");
    let ran = checkout.engine(&["plan", "--base", "HEAD", "--detailed-exitcode"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stdout.contains("specs of `HEAD`") && ran.stderr.contains("HEAD:specs/mesh.yaml:4"), "{ran}");
    state_gateway(&checkout, "203.0.113.77");
    let ran = checkout.engine(&["plan", "--base", "HEAD", "--output", "markdown"]);
    assert!(ran.code == 0 && ran.stdout.contains("203.0.113.77"), "{ran}");
    assert!(ran.stderr.contains("warning: the specs of `HEAD`"), "{ran}");
    let ran = checkout.engine(&["plan", "--base", "HEAD", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(plan["warnings"][0]["code"], "base-not-rendered", "{plan}");
    // without a whole lock there is nothing to compare with
    let lock = std::fs::read_to_string(checkout.path("lock/clusters/east.yaml")).unwrap();
    checkout.write("lock/clusters/east.yaml", b"<<<<<<< ours\n");
    checkout.git(&["commit", "-qam", "worse"]);
    checkout.write("lock/clusters/east.yaml", lock.as_bytes());
    let ran = checkout.engine(&["plan", "--base", "HEAD"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stderr.contains("HEAD:lock/clusters/east.yaml:1"), "{ran}");
    let ran = checkout.engine(&["plan", "--base", "HEAD", "--output", "markdown"]);
    let printed = &ran.stdout;
    assert!(
        ran.code == 1 && printed.contains("## :x: No plan") && printed.contains("`HEAD:lock/clusters/east.yaml:1"),
        "{ran}"
    );
    checkout.refuses(&["plan", "--base", "no-such"], 64, &["there is no revision `no-such`", "git fetch"]);
    checkout.refuses(&["plan", "--base", "--output"], 64, &["--base"]);
    checkout.refuses(&["plan", "--base=--all"], 64, &["there is no revision"]);
    checkout.refuses(&["plan", "--base", "HEAD", "--out", "x"], 64, &["--out"]);
    checkout.refuses(&["status", "--output", "markdown"], 64, &["expected `text` or `json`", "found `markdown`"]);
    let elsewhere = Checkout::joined();
    elsewhere.refuses(&["plan", "--base", "HEAD"], 64, &["is not in a git work tree"]);
}

#[test]
fn the_checkout_may_be_a_folder_of_the_repository() {
    let checkout = Checkout::joined();
    let environment = &checkout.environment;
    let outer = environment.path("outer");
    let inner = outer.join("teams/mesh");
    std::fs::create_dir_all(inner.parent().unwrap()).unwrap();
    environment.end(environment.program("cp").arg("-a").arg(checkout.path("")).arg(&inner)).done();
    let git = |arguments: &[&str]| environment.git(&outer, arguments);
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "one"]);
    let engine = |arguments: &[&str]| environment.run_on(&inner, arguments);
    engine(&["plan", "--base", "main", "--detailed-exitcode"]).done();
    let spec = std::fs::read_to_string(inner.join("specs/mesh.yaml")).unwrap();
    std::fs::write(inner.join("specs/mesh.yaml"), spec.replace("file://metadata/east\"}", STATED)).unwrap();
    let ran = engine(&["plan", "--base", "main", "--detailed-exitcode"]);
    assert!(ran.code == 2 && ran.stdout.contains("203.0.113.9"), "{ran}");
}

#[test]
fn a_pull_request_that_points_inside_asks_no_cluster() {
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let address = inside.local_addr().unwrap();
    let checkout = committed();
    let endpoint = format!(
        "https://{address}/metadata\"}}, multicluster: {{image: x/y:1, apiHost: a.example.com}}, allow: {{addresses: [127.0.0.0/8]}}"
    );
    checkout.edit("specs/mesh.yaml", "file://metadata/east\"}", &endpoint);
    for arguments in [
        &["plan", "--locked"][..],
        &["plan", "--base", "main"],
        &["plan", "--base", "main", "--output", "markdown"],
        &["plan", "--locked", "--output", "markdown"],
        &["apply", "--locked"],
        &["status"],
    ] {
        let ran = checkout.engine(arguments);
        assert!(ran.code == 0 && !ran.says("error"), "{arguments:?}: {ran}");
        assert_eq!(inside.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{arguments:?} asked somebody");
    }
    // the same endpoint is asked as soon as a plan may ask: the listener would have noticed
    let printed = checkout.engine(&["plan"]);
    assert!(inside.accept().is_ok(), "{printed}");
}
