//! The faults that walks have to find: each patch applies, and each kind of fault names what finds it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = "tests/fleet/faults";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn patches() -> BTreeSet<String> {
    let files = fs::read_dir(root().join(FOLDER)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".patch").map(str::to_owned)).collect()
}

#[test]
fn each_fault_can_be_brought_back() {
    let apply = |name: &String| {
        let patch = format!("{FOLDER}/{name}.patch");
        let ran = Command::new("git").current_dir(root()).args(["apply", "--check", &patch]).output().unwrap();
        let output = String::from_utf8_lossy(&ran.stderr).into_owned();
        (!ran.status.success()).then(|| format!("{patch}: write it anew, {output}"))
    };
    let stale: Vec<String> = patches().iter().filter_map(apply).collect();
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

/// The table lists all patches, and the tests that it names are there.
#[test]
fn each_kind_of_fault_names_what_finds_it() {
    let table = fs::read_to_string(root().join(FOLDER).join("README.md")).unwrap();
    let code: Vec<&str> = table.split('`').skip(1).step_by(2).collect();
    let rows = table.lines().filter(|line| line.starts_with('|'));
    let listed: BTreeSet<String> = rows
        .filter_map(|row| Some(row.split('|').nth(2)?.trim().strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .collect();
    let unlisted: Vec<String> = patches().difference(&listed).cloned().collect();
    assert_eq!(unlisted, Vec::<String>::new(), "patches that the table does not list");
    let is_there = |name: &&&str| {
        let (file, test) = name.split_once("::").unwrap();
        let source = fs::read_to_string(root().join(file)).unwrap_or_default();
        source.contains(&format!("fn {test}("))
    };
    let tests = code.iter().filter(|code| code.starts_with("tests/") && code.contains("::"));
    let gone: Vec<&&str> = tests.clone().filter(|name| !is_there(name)).collect();
    assert!(gone.is_empty() && tests.count() > 0, "tests that are not there: {gone:?}");
}
