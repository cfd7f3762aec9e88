//! No flag of `plan` and `apply` is silently ignored: beside each other flag it either does what it says, which shows in what is
//! printed or written, or is refused with the reason.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;

use crate::support::checkout::Checkout;

/// A flag of a command, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flag(&'static [&'static str]);

const PLAN: Flag = Flag(&["stored.json"]);
const LOCKED: Flag = Flag(&["--locked"]);
const CREATE_KEYS: Flag = Flag(&["--create-keys"]);
const WAIT: Flag = Flag(&["--wait", "3s"]);
const FAIL_ON_WAIT: Flag = Flag(&["--fail-on-wait"]);
const MAX_AGE: Flag = Flag(&["--max-age", "1h"]);
const ACCEPT_TRUST: Flag = Flag(&["--accept-trust", "west"]);
const ALLOW_DELETE: Flag = Flag(&["--allow-delete"]);
const RESTORE_LINKS: Flag = Flag(&["--restore-links"]);
const OUT: Flag = Flag(&["--out", "new.json"]);
const BASE: Flag = Flag(&["--base", "HEAD"]);
const EXIT_CODE: Flag = Flag(&["--detailed-exitcode"]);
const CLUSTER: Flag = Flag(&["--cluster", "west"]);
const JSON: Flag = Flag(&["--output", "json"]);
const VERBOSE: Flag = Flag(&["--verbose"]);
const SUMMARY: Flag = Flag(&["--summary"]);
const QUIET: Flag = Flag(&["--quiet"]);

/// All flags of `apply` but `-C`, which every run has, and `--to tree` and `--yes`, which say what is so without them.
const OF_APPLY: &[Flag] = &[
    PLAN,
    LOCKED,
    CREATE_KEYS,
    WAIT,
    FAIL_ON_WAIT,
    MAX_AGE,
    ACCEPT_TRUST,
    ALLOW_DELETE,
    RESTORE_LINKS,
    CLUSTER,
    JSON,
    VERBOSE,
    QUIET,
];
/// All flags of `plan`, but those.
const OF_PLAN: &[Flag] =
    &[LOCKED, OUT, BASE, EXIT_CODE, ACCEPT_TRUST, ALLOW_DELETE, RESTORE_LINKS, CLUSTER, JSON, VERBOSE, QUIET, SUMMARY];

/// Pairs that are refused, each with what the refusal has to say beside the names of the two.
const REFUSED: &[(Flag, &[Flag], &str)] = &[
    (PLAN, &[CLUSTER, ACCEPT_TRUST, ALLOW_DELETE], "a stored plan holds what was asked of it"),
    (PLAN, &[LOCKED], "the clusters were asked again"),
    (PLAN, &[WAIT], "a stored plan is one run"),
    (PLAN, &[CREATE_KEYS], "is not what was planned with"),
    (PLAN, &[RESTORE_LINKS], "beside the lock as it is"),
    (OUT, &[RESTORE_LINKS], "beside the lock as it is"),
    (
        LOCKED,
        &[ACCEPT_TRUST, ALLOW_DELETE, RESTORE_LINKS, CREATE_KEYS, WAIT, OUT],
        "asks no cluster and decides nothing",
    ),
    (BASE, &[ACCEPT_TRUST, ALLOW_DELETE, RESTORE_LINKS, OUT], "asks no cluster and decides nothing"),
    (CLUSTER, &[ACCEPT_TRUST], "concerns all its readers"),
    (CLUSTER, &[RESTORE_LINKS], "rests on the files of both its clusters"),
    (VERBOSE, &[QUIET, SUMMARY], "cannot be used with"),
];

/// Pairs of a command of which the second says nothing that the first does not: what is seen is that of the first alone.
const SAY_THE_SAME: &[(&str, Flag, &[Flag])] = &[
    // JSON has every field of every object
    ("apply", JSON, &[VERBOSE]),
    ("plan", JSON, &[VERBOSE]),
    // a comparison with a revision asks no cluster either, and prints it
    ("plan", BASE, &[LOCKED]),
    // nothing waits in the run in which links begin to go
    ("apply", ALLOW_DELETE, &[WAIT, FAIL_ON_WAIT]),
    // a plan talks of warnings and of its file alone, and here there are no warnings
    ("plan", QUIET, &[LOCKED, BASE, EXIT_CODE, ACCEPT_TRUST, ALLOW_DELETE, RESTORE_LINKS, CLUSTER, JSON, SUMMARY]),
];

/// What a run showed and left behind.
#[derive(Debug, PartialEq, Eq)]
struct FlagEffects {
    code: i32,
    stdout: String,
    stderr: String,
    files: BTreeMap<PathBuf, Vec<u8>>,
    stored: bool,
    key: bool,
}

/// A mesh in which each flag has something to do: west's private document is missing, so a link waits; gateways of both changed,
/// so files of both do; there is no key of the engine; a plan for west alone is two hours old; a file of each
/// is gone from the tree. With a trust change of west, or
/// with links that go, where a flag is about that.
fn prepared(flags: &[Flag]) -> Checkout {
    let mut checkout = Checkout::new();
    let private = checkout.path("metadata/west/private/multicluster.json");
    if !flags.contains(&ALLOW_DELETE) {
        std::fs::remove_file(&private).unwrap();
    }
    checkout.engine(&["apply"]).done();
    for cluster in ["east", "west"] {
        let file = format!("rendered/{cluster}/clusterrole.rbac.authorization.k8s.io-isthmus-impersonate.yaml");
        std::fs::remove_file(checkout.path(&file)).unwrap();
    }
    for arguments in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-qm", "one"]] {
        checkout.git(arguments);
    }
    for (cluster, address) in [("east", "203.0.113.1"), ("west", "203.0.113.2")] {
        let endpoint = format!("file://metadata/{cluster}\"}}");
        let stated = format!("{endpoint}, gateways: [{{address: {address}, port: 15443}}]");
        checkout.edit("specs/mesh.yaml", &endpoint, &stated);
    }
    if flags.contains(&RESTORE_LINKS) {
        std::fs::remove_file(checkout.path("lock/links/east.yaml")).unwrap();
    }
    if flags.contains(&ALLOW_DELETE) {
        checkout.edit("specs/mesh.yaml", "{acceptForeignRoots", "{topology: pairs, pairs: [], acceptForeignRoots");
    }
    if flags.contains(&ACCEPT_TRUST) {
        let path = "metadata/west/public/public.json";
        let mut public: serde_json::Value =
            serde_json::from_slice(&std::fs::read(checkout.path(path)).unwrap()).unwrap();
        public["trustDomain"] = "west.example".into();
        checkout.write(path, public.to_string().as_bytes());
    }
    if flags.contains(&PLAN) {
        let file = checkout.path("stored.json");
        checkout.engine(&["plan", "--cluster", "west", "--out", file.to_str().unwrap()]);
    }
    checkout.environment.set("ISTHMUS_TEST_NOW", "2026-12-01T14:00:00Z");
    checkout
}

/// Runs a command with some flags, where all of `among` have something to do.
fn run(command: &str, flags: &[Flag], among: &[Flag]) -> FlagEffects {
    let checkout = prepared(among);
    let folder = checkout.path("");
    let word = |word: &str| {
        if [PLAN.0[0], OUT.0[1]].contains(&word) {
            folder.join(word).to_str().unwrap().to_owned()
        } else {
            word.to_owned()
        }
    };
    let arguments: Vec<String> = flags.iter().flat_map(|flag| flag.0).map(|text| word(text)).collect();
    let arguments: Vec<&str> = std::iter::once(command).chain(arguments.iter().map(String::as_str)).collect();
    let ran = checkout.engine(&arguments);
    assert!(!ran.says("panicked"), "{ran}");
    let place = folder.to_str().unwrap();
    let output = checkout.output().into_iter();
    FlagEffects {
        code: ran.code,
        stdout: ran.stdout.replace(place, ""),
        stderr: ran.stderr.replace(place, ""),
        files: output.map(|(path, bytes)| (path.strip_prefix(&folder).unwrap().to_owned(), bytes)).collect(),
        stored: folder.join("new.json").exists(),
        key: folder.join("keys/engine.key").exists(),
    }
}

fn refusal(one: Flag, other: Flag) -> Option<&'static str> {
    // without a plan there is no age
    if (one == MAX_AGE && other != PLAN) || (other == MAX_AGE && one != PLAN) {
        return Some(if [one, other].contains(&VERBOSE) && [one, other].contains(&QUIET) {
            ""
        } else {
            "--max-age needs PLAN"
        });
    }
    let holds = |flag: Flag, others: &[Flag]| {
        (flag == one && others.contains(&other)) || (flag == other && others.contains(&one))
    };
    REFUSED.iter().find(|(flag, others, _)| holds(*flag, others)).map(|(.., why)| *why)
}

/// What is wrong with a pair.
fn fault(command: &str, one: Flag, other: Flag) -> Option<String> {
    let pair = format!("{command} {} {}", one.0.join(" "), other.0.join(" "));
    let both = run(command, &[one, other], &[one, other]);
    if let Some(why) = refusal(one, other) {
        let before = run(command, &[Flag(&["--cluster", "nowhere"])], &[one, other]).files;
        let named = [one, other].iter().all(|flag| *flag == PLAN || both.stderr.contains(flag.0[0]));
        let named = named || why.contains("needs PLAN");
        let is_refused =
            both.code == 64 && named && both.stderr.contains(why) && both.files == before && !both.key && !both.stored;
        return (!is_refused)
            .then(|| format!("{pair}: is to be refused ({why}), and was: {} {}", both.code, both.stderr));
    }
    if both.code == 64 {
        return Some(format!("{pair}: was refused: {}", both.stderr));
    }
    // one that is found the wrong way round says more than it may
    let says_nothing = |first: Flag, second: Flag| {
        let with = |quiet: Flag, others: &[Flag]| {
            if quiet == QUIET {
                second == QUIET && others.contains(&first)
            } else {
                quiet == first && others.contains(&second)
            }
        };
        SAY_THE_SAME.iter().any(|(of, flag, others)| *of == command && with(*flag, others))
    };
    for (kept, ignored) in [(one, other), (other, one)] {
        let alone = run(command, &[kept], &[one, other]);
        if (both == alone) != says_nothing(kept, ignored) {
            return Some(format!(
                "{pair}: {} is ignored beside {}:\n{}{}",
                ignored.0.join(" "),
                kept.0.join(" "),
                both.stdout,
                both.stderr
            ));
        }
    }
    None
}

fn faults(command: &'static str, flags: &'static [Flag]) -> Vec<String> {
    let pairs: Vec<(Flag, Flag)> = flags
        .iter()
        .enumerate()
        .flat_map(|(at, one)| flags[at + 1..].iter().map(move |other| (*one, *other)))
        .collect();
    let found: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .chunks(pairs.len().div_ceil(6))
            .map(|some| {
                scope.spawn(move || some.iter().filter_map(|(one, other)| fault(command, *one, *other)).collect())
            })
            .collect();
        threads.into_iter().flat_map(|thread| -> Vec<String> { thread.join().unwrap() }).collect()
    });
    found
}

#[test]
fn no_flag_of_apply_is_ignored_beside_another() {
    let faults = faults("apply", OF_APPLY);
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn no_flag_of_plan_is_ignored_beside_another() {
    let faults = faults("plan", OF_PLAN);
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// A flag that is added and not listed above is found here.
#[test]
fn all_flags_are_compared() {
    let checkout = Checkout::new();
    for (command, flags) in [("apply", OF_APPLY), ("plan", OF_PLAN)] {
        let help = checkout.engine(&[command, "--help"]).done();
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let arguments = lines.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
        let arguments: Vec<&str> = arguments.collect();
        assert!(arguments.len() >= flags.len(), "{arguments:?}");
        for word in arguments {
            let is_known =
                ["--help", "--version", "--to", "--yes"].contains(&word) || flags.iter().any(|flag| flag.0[0] == word);
            assert!(is_known, "{command} {word} is not compared:\n{help}");
        }
    }
}

#[test]
fn all_is_accepted_for_each_run_of_a_command_that_waits() {
    let checkout = prepared(&[WAIT]);
    std::fs::remove_dir_all(checkout.path("lock")).unwrap();
    std::fs::remove_dir_all(checkout.path("rendered")).unwrap();
    let ran = checkout.engine(&["apply", "--accept-trust", "all", "--wait", "3s"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stdout.matches("Plan: ").count() >= 2, "{ran}");
    // beside the lock that it wrote, no one looks any more
    checkout.refuses(
        &["apply", "--accept-trust", "all"],
        64,
        &["--accept-trust all is not for scripts: expected a terminal"],
    );
}
