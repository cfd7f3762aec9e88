//! What git does not do for a plan with a base, and for a watch that commits.

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

/// Puts the checkout into a repository, with one commit.
fn repository(checkout: &Checkout) {
    checkout.git(&["init", "-q", "-b", "main"]);
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-qm", "first"]);
}

/// Somebody else's commit on the remote's branch.
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
