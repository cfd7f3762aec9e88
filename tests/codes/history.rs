//! What git does not do for a plan with a base, and for a watch that commits.

#![allow(clippy::disallowed_methods, reason = "a built-in template is read as a file")]

use std::path::Path;

use isthmus::types::explanation::Code;

use super::Scenario;
use super::commands::fails;
use crate::support::checkout::Checkout;
use crate::support::environment::TestEnvironment;

const COMMIT: &[&str] = &["watch", "--once", "--commit"];
const PUSH: &[&str] = &["watch", "--once", "--commit", "--push"];
const BASE: &[&str] = &["plan", "--base", "HEAD"];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a base that is not to be had, and one with findings",
        codes: &[Code::NotInGit, Code::UnknownRevision, Code::BaseNotRendered, Code::GitFailed],
        run: |_| {
            let checkout = Checkout::joined();
            let outside = fails(&checkout, BASE, Code::NotInGit);
            checkout.edit("specs/mesh.yaml", "acceptForeignRoots", "acceptForeignRots");
            repository(&checkout);
            checkout.edit("specs/mesh.yaml", "acceptForeignRots", "acceptForeignRoots");
            let unknown = fails(&checkout, &["plan", "--base", "v1"], Code::UnknownRevision);
            let compared = checkout.engine(&[BASE, &["--output", "json"]].concat());
            std::fs::remove_file(checkout.environment.path("bin/git")).unwrap();
            vec![outside, unknown, compared, fails(&checkout, BASE, Code::GitFailed)]
        },
    },
    Scenario {
        name: "pull requests that a reviewer has to look at",
        codes: &[
            Code::FileNotRendered,
            Code::KustomizationNotOurs,
            Code::LockEdited,
            Code::SpecEdited,
            Code::OverrideEdited,
            Code::PolicyEdited,
            Code::DocumentEdited,
            Code::LinksReopen,
            Code::ShareOpens,
            Code::ShareCloses,
        ],
        run: |_| {
            let checkout = with_components();
            repository(&checkout);
            let json = || checkout.engine(&[BASE, &["--output", "json"]].concat());
            checkout
                .write("policy.yaml", b"apiVersion: isthmus.dev/v1alpha1\nkind: Policy\nspec: {firstContact: tls}\n");
            let template = format!("{}/templates/relay/deployment.yaml", env!("CARGO_MANIFEST_DIR"));
            let template = std::fs::read_to_string(template).unwrap();
            let template = template.replacen("replicas: {{ replicas|tojson }}", "replicas: 5", 1);
            checkout.write("templates/relay/deployment.yaml", template.as_bytes());
            checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {clusterID: occident, ");
            checkout.edit(
                "specs/mesh.yaml",
                "name: west}\nspec: {",
                "name: west}\nspec: {share: {namespaces: [shop]}, ",
            );
            checkout.edit("specs/mesh.yaml", "name: east}\nspec: {", "name: east}\nspec: {share: {except: []}, ");
            checkout.edit("metadata/west/private/multicluster.json", "15443", "15444");
            let edits = json();
            checkout.edit("lock/links/east.yaml", "serial: 1", "serial: 9");
            checkout.edit("rendered/west/configmap-isthmus-peers.yaml", "isthmus-peers", "isthmus-pears");
            checkout.edit("rendered/east/kustomization.yaml", "resources:\n", "resources:\n- ../evil\n");
            vec![edits, json()]
        },
    },
    Scenario {
        name: "a secret made by hand that a pull request gives to the mesh",
        codes: &[Code::SecretByHand, Code::LinksOpen],
        run: |_| {
            let checkout = Checkout::new();
            checkout.edit(
                "specs/mesh.yaml",
                "acceptForeignRoots: true",
                "acceptForeignRoots: true, topology: pairs, pairs: []",
            );
            checkout.engine(&["apply"]).done();
            repository(&checkout);
            checkout.edit("specs/mesh.yaml", "pairs: []", "pairs: [[east, west]]");
            let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: istio-remote-secret-west, labels: {istio/multiCluster: \"true\"}, annotations: {isthmus.dev/adopt: shop}}\n";
            checkout.write("rendered/east/secret-istio-remote-secret-west.yaml", secret.as_bytes());
            vec![checkout.engine(&[BASE, &["--output", "json"]].concat())]
        },
    },
    Scenario {
        name: "a repository that takes no commits",
        codes: &[Code::NoBranch, Code::GitBusy],
        run: |_| {
            let checkout = Checkout::joined();
            repository(&checkout);
            state_gateway(&checkout, "203.0.113.1");
            checkout.git(&["checkout", "-q", "--detach"]);
            let detached = fails(&checkout, COMMIT, Code::NoBranch);
            checkout.write(".git/MERGE_HEAD", b"");
            vec![detached, fails(&checkout, COMMIT, Code::GitBusy)]
        },
    },
    Scenario {
        name: "a remote that has other commits, and one that takes none",
        codes: &[Code::BranchesApart, Code::PushRejected],
        run: |_| {
            let checkout = Checkout::in_environment(TestEnvironment::new().with_tools());
            checkout.engine(&["apply"]).done();
            repository(&checkout);
            let remote = checkout.environment.path("remote.git");
            let text = remote.to_str().unwrap();
            checkout.git(&["clone", "-q", "--bare", ".", text]);
            checkout.git(&["remote", "add", "origin", text]);
            state_gateway(&checkout, "203.0.113.1");
            // whoever updates the branch over there holds this file
            let held = remote.join("refs/heads/main.lock");
            std::fs::write(&held, "").unwrap();
            let rejected = fails(&checkout, PUSH, Code::PushRejected);
            std::fs::remove_file(held).unwrap();
            another_commit(&checkout, &remote);
            vec![rejected, fails(&checkout, PUSH, Code::BranchesApart)]
        },
    },
];

/// Two joined clusters, of which east runs components of ours.
fn with_components() -> Checkout {
    let checkout = Checkout::new();
    let components = "metadata: {endpoint: \"file://metadata/east\"}, multicluster: {image: ghcr.io/x/engine:1, apiHost: api.east.example.com}}";
    checkout.edit("specs/mesh.yaml", "metadata: {endpoint: \"file://metadata/east\"}}", components);
    checkout.engine(&["apply"]).done();
    checkout
}

/// Puts the checkout into a repository, with one commit.
fn repository(checkout: &Checkout) {
    checkout.git(&["init", "-q", "-b", "main"]);
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-qm", "first"]);
}

/// Someone else's commit on the remote's branch.
fn another_commit(checkout: &Checkout, remote: &Path) {
    let clone = checkout.environment.path("clone");
    checkout.git(&["clone", "-q", remote.to_str().unwrap(), clone.to_str().unwrap()]);
    std::fs::write(clone.join("README.md"), "more\n").unwrap();
    checkout.environment.git(&clone, &["add", "-A"]);
    checkout.environment.git(&clone, &["commit", "-qm", "second"]);
    checkout.environment.git(&clone, &["push", "-q"]);
}

/// Changes what the other cluster renders, in a commit.
fn state_gateway(checkout: &Checkout, address: &str) {
    let stated = format!("east\"}}, gateways: [{{address: {address}, port: 15443}}]");
    checkout.edit("specs/mesh.yaml", "east\"}", &stated);
    checkout.git(&["commit", "-qam", "a gateway"]);
}
