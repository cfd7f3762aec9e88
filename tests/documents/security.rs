//! The table of security.md: each item has what holds it, and each test that is named is there.

use std::collections::BTreeSet;

use super::{TestedDocument, code_spans, files};

/// The functions of a file that are tests, as far as their names go: those behind an attribute that ends with `test` or `rstest`.
fn tests_of(text: &str) -> BTreeSet<String> {
    let (mut found, mut is_test) = (BTreeSet::new(), false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            let attribute = line.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
            is_test |= attribute == "test" || attribute == "rstest" || attribute.ends_with("::test");
        }
        let name = line.trim_start_matches("async ").strip_prefix("fn ").map(|rest| rest.split(['(', '<']).next());
        if let Some(Some(name)) = name {
            if is_test {
                found.insert(name.to_owned());
            }
            is_test = false;
        }
    }
    found
}

/// Where a test of this path may be.
fn files_of(modules: &[&str]) -> Vec<String> {
    let path = modules.join("/");
    ["tests", "engine"].iter().flat_map(|root| [format!("{root}/{path}.rs"), format!("{root}/{path}/mod.rs")]).collect()
}

/// What is wrong with a table: rows that say nothing, and tests that are not there.
fn findings(text: &str, there: &dyn Fn(&[&str], &str) -> bool) -> Vec<String> {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for row in text.lines().filter(|line| line.starts_with("| ") && line.contains('-') && !line.starts_with("| |")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [item, what, how] = cells[..] else {
            wrong.push(format!("{row}: not three cells"));
            continue;
        };
        if !seen.insert(item.to_owned()) {
            wrong.push(format!("{item} twice"));
        }
        if what.is_empty() || how.is_empty() {
            wrong.push(format!("{item}: empty"));
        }
        for (_, code) in code_spans(how).0 {
            let parts: Vec<&str> = code.split("::").collect();
            let is_path = parts.len() > 1
                && parts
                    .iter()
                    .all(|part| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            if let Some((name, modules)) = parts.split_last().filter(|_| is_path)
                && !there(modules, name)
            {
                wrong.push(format!("{item}: no test `{code}`"));
            }
        }
    }
    wrong
}

#[test]
fn every_item_has_what_holds_it_and_every_test_is_there() {
    let document = TestedDocument::read("docs/security.md");
    let all: BTreeSet<String> = files("tests", &[".rs"]).into_iter().chain(files("engine", &[".rs"])).collect();
    let there = |modules: &[&str], name: &str| {
        let of = files_of(modules).into_iter().filter(|path| all.contains(path));
        of.into_iter().any(|path| tests_of(&TestedDocument::read(&path).text).contains(name))
    };
    let wrong = findings(&document.text, &there);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rows =
        document.text.lines().filter(|line| ["| W-", "| S-", "| R-"].iter().any(|begin| line.starts_with(begin)));
    assert_eq!(rows.count(), 156);
}

#[test]
fn what_the_table_lacks_is_reported() {
    let there = |modules: &[&str], name: &str| modules == ["a"] && name == "b";
    let table = "| | item | held by |\n|---|---|---|\n| W-01 | x | `a::b`, `Connection: close` |\n";
    assert_eq!(findings(table, &there), [""; 0]);
    for (row, finding) in [
        ("| W-01 | x | `a::b` |", "W-01 twice"),
        ("| W-02 | x | |", "W-02: empty"),
        ("| W-02 | x | `a::c` |", "W-02: no test `a::c`"),
        ("| W-02 | x |", "| W-02 | x |: not three cells"),
    ] {
        assert_eq!(findings(&format!("{table}{row}\n"), &there), [finding]);
    }
    let text = "#[test]\nfn a() {}\nfn b() {}\n#[tokio::test(flavor = \"x\")]\n#[ignore]\nasync fn c() {}\n#[rstest]\nfn d<T>() {}";
    assert_eq!(tests_of(text), BTreeSet::from(["a", "c", "d"].map(str::to_owned)));
}
