//! The sealed environment itself, and whole outputs: exit code, data and messages as they are seen together.

use crate::support::checkout::Checkout;
use crate::support::environment::{NOW, TestEnvironment};

#[test]
fn nothing_of_the_machine_comes_in() {
    let environment = TestEnvironment::new().with("LAST", "1");
    let seen = environment.end(&mut environment.program("env")).done();
    let mut names: Vec<&str> = seen.lines().map(|line| line.split_once('=').unwrap().0).collect();
    names.sort_unstable();
    let own = [
        "GIT_ATTR_NOSYSTEM",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_TERMINAL_PROMPT",
        "HOME",
        "ISTHMUS_TEST_NOW",
        "LANG",
        "LAST",
        "PATH",
        "TMPDIR",
        "TZ",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
    ];
    assert_eq!(names, own);
    let root = environment.path("");
    for name in ["HOME", "PATH", "TMPDIR", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"] {
        let value = seen.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
        assert!(std::path::Path::new(value).starts_with(&root), "{name}={value}");
    }
}

#[test]
fn what_differs_from_run_to_run_is_shown_as_a_word() {
    let environment = TestEnvironment::new();
    let version = env!("CARGO_PKG_VERSION");
    let script = format!(
        "echo \"$HOME http://127.0.0.1:43123/x [::1]:80 localhost: engine {version} 1{version} {version}1\"; printf end >&2; exit 3"
    );
    let ran = environment.end(environment.program("sh").args(["-c", &script]));
    assert_eq!(
        ran.to_string(),
        format!(
            "exit code: 3\n--- stdout ---\n[ROOT]/home http://127.0.0.1:[PORT]/x [::1]:[PORT] localhost: engine [VERSION] 1{version} {version}1\n--- stderr ---\nend[no end of line]\n"
        )
    );
}

/// The roots of `fixtures/` are valid now and not for ever.
#[test]
fn a_debug_build_takes_the_time_of_a_test_and_a_release_build_does_not() {
    let pinned = |time: &str| {
        let environment = TestEnvironment::new().with("ISTHMUS_TEST_NOW", time);
        Checkout::in_environment(environment).engine(&["apply"])
    };
    assert_eq!(pinned(NOW).code, 0);
    let late = pinned("2200-01-01T00:00:00Z");
    if cfg!(debug_assertions) {
        assert!(late.code == 3 && late.stdout.contains("expired"), "{late}");
    } else {
        assert_eq!(late.code, 0, "{late}");
    }
}

#[test]
fn a_plan_of_what_is_new() {
    insta::assert_snapshot!(Checkout::new().engine(&["plan"]));
}

#[test]
fn a_run_and_the_next() {
    let checkout = Checkout::new();
    insta::assert_snapshot!("a_run", checkout.engine(&["apply"]));
    insta::assert_snapshot!("the_next_turn", checkout.engine(&["apply"]));
    insta::assert_snapshot!("the_state", checkout.engine(&["status"]));
}

#[test]
fn a_trust_change_that_is_held_back() {
    let checkout = Checkout::joined();
    let path = "metadata/west/public/public.json";
    let text = std::fs::read_to_string(checkout.path(path)).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    document["clusterUUID"] = "00000000-1111-4222-8333-444444444444".into();
    checkout.write(path, document.to_string().as_bytes());
    insta::assert_snapshot!(checkout.engine(&["apply"]));
}

#[test]
fn runs_that_are_refused() {
    let checkout = Checkout::joined();
    insta::assert_snapshot!("no_such_command", checkout.engine(&["plna"]));
    insta::assert_snapshot!("no_such_cluster", checkout.engine(&["plan", "--cluster", "wset"]));
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots", "acceptForeignRots");
    insta::assert_snapshot!("a_slip_in_a_spec", checkout.engine(&["apply"]));
    insta::assert_snapshot!("a_slip_in_a_spec_as_json", checkout.engine(&["apply", "--output", "json"]));
}
