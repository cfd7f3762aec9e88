//! What an earlier version had and this one has not: refused at its place, with a way out, and nothing is touched.

use crate::argocd::can_trace;
use crate::support::checkout::Checkout;

const WAY_OUT: &str = "leave with the version before: ";

/// Every command that plans, writes or generates stops with this code and says all of this.
fn nothing_happens(checkout: &Checkout, exit: i32, expected: &[&str]) {
    for arguments in [
        &["plan"][..],
        &["plan", "--locked"],
        &["apply"],
        &["apply", "--locked"],
        &["apply", "--allow-delete"],
        &["status"],
        &["graph"],
        &["watch", "--once"],
        &["argocd", "generate", "--cluster", "east"],
        &["manifests", "flux", "--repo", "https://git.example.com/mesh.git"],
    ] {
        checkout.refuses(arguments, exit, expected);
    }
}

#[test]
fn direct_credentials_in_a_spec_are_refused_with_the_way_out() {
    let checkout = Checkout::joined();
    checkout.edit(
        "specs/mesh.yaml",
        "spec: {acceptForeignRoots: true}",
        "spec:\n  acceptForeignRoots: true\n  credentials: {mode: direct, lifetime: 14d}\n  encryption: {none: {}}",
    );
    nothing_happens(
        &checkout,
        4,
        &[
            "specs/mesh.yaml:6:23",
            "`mode: direct` belongs to direct credentials, which this version does not have",
            "specs/mesh.yaml:6:31",
            "specs/mesh.yaml:7:3",
            WAY_OUT,
        ],
    );
    let mistake = "acceptForeignRoots: true\n  acceptForeignRots: true";
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", mistake);
    checkout.refuses(&["plan"], 1, &[WAY_OUT, "did you mean `acceptForeignRoots`?"]);
}

#[test]
fn direct_credentials_in_a_lock_are_refused_with_the_way_out() {
    let checkout = Checkout::joined();
    checkout.edit("lock/links/east.yaml", "stage: joined", "stage: joined\n    epoch: 497222");
    let place = "lock/links/east.yaml:7:1";
    nothing_happens(
        &checkout,
        4,
        &[place, "the remote secret of `east` for `west` holds a direct credential", WAY_OUT],
    );
}

#[test]
fn an_agent_cannot_read_folders() {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", "name: east}\nspec: {", "name: east}\nspec: {reconciler: agent, ");
    nothing_happens(&checkout, 1, &["specs/mesh.yaml:9:", "the agent of `east` must read it"]);
}

/// An upgrade does not stop CI: `key` is said to be of no use, and what it names is opened by nothing.
#[test]
fn a_key_of_a_cluster_is_warned_of_and_opened_by_no_command() {
    let checkout = Checkout::joined();
    let before = checkout.engine(&["plan"]);
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {key: {file: keys/west.key}, ");
    let canary = "CANARY-OF-A-PRIVATE-KEY";
    checkout.write("keys/west.key", canary.as_bytes());
    let warning = "`key` is not read any more: no private key of a cluster leaves it";
    let planned = checkout.engine(&["plan"]);
    assert_eq!((planned.code, planned.says(warning)), (before.code, true), "{planned}");
    if !can_trace() {
        return;
    }
    let (environment, trace) = (&checkout.environment, checkout.path("trace"));
    for arguments in [&["plan"][..], &["apply", "--yes"], &["status"], &["verify"], &["graph"], &["keys", "list"]] {
        let strace = ["strace", "-f", "-e", "trace=open,openat,openat2,readlink,readlinkat", "-o"];
        let mut command = environment.wrapped(&[&strace[..], &[trace.to_str().unwrap()]].concat());
        let ran = environment.end(command.args(arguments).current_dir(checkout.path("")));
        assert!(ran.code == 0 && !ran.says(canary), "{arguments:?}: {ran}");
        let calls = std::fs::read_to_string(&trace).unwrap();
        assert!(calls.contains("\"specs") && !calls.contains("west.key"), "{arguments:?}: {calls}");
    }
}
