//! The faults that walks have to find: their patch applies, and each kind of fault names what finds it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = "tests/fleet/faults";
const PATCH: &str = "tests/fleet/faults/faults.patch";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names that the patch asks for.
fn faults() -> BTreeSet<String> {
    let patch = fs::read_to_string(root().join(PATCH)).unwrap();
    let asked = patch.split("is_fault(\"").skip(1).filter_map(|rest| rest.split_once("\")"));
    asked.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn each_fault_can_be_brought_back() {
    let ran = Command::new("git").current_dir(root()).args(["apply", "--check", PATCH]).output().unwrap();
    assert!(ran.status.success(), "{PATCH}: write it anew, {}", String::from_utf8_lossy(&ran.stderr));
}

/// The table lists all faults of the patch and no other, and the tests that it names are there.
#[test]
fn each_kind_of_fault_names_what_finds_it() {
    let table = fs::read_to_string(root().join(FOLDER).join("README.md")).unwrap();
    let code: Vec<&str> = table.split('`').skip(1).step_by(2).collect();
    let rows = table.lines().filter(|line| line.starts_with('|'));
    let listed: BTreeSet<String> = rows
        .filter_map(|row| Some(row.split('|').nth(2)?.trim().strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .filter(|name| !name.starts_with("tests/"))
        .collect();
    assert_eq!(listed, faults(), "faults of the table, and those of the patch");
    let is_there = |name: &&&str| {
        let (file, test) = name.split_once("::").unwrap();
        let source = fs::read_to_string(root().join(file)).unwrap_or_default();
        source.contains(&format!("fn {test}("))
    };
    let tests = code.iter().filter(|code| code.starts_with("tests/") && code.contains("::"));
    let gone: Vec<&&str> = tests.clone().filter(|name| !is_there(name)).collect();
    assert!(gone.is_empty() && tests.count() > 0, "tests that are not there: {gone:?}");
}
