//! The sealed environment itself.

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
