//! Links within the repository: the file is there, and so is the heading.
//! `LINKS=print cargo test --test integration documents::links -- --nocapture` lists those that lead out of it.

#![allow(clippy::print_stdout, reason = "the list of links is to be read")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{TestedDocument, code_spans, documents, files, prose, root};

/// Pages of other projects that sources name as where a fact is from.
const OF_OTHERS: &[&str] = &["docs/operator-manual/config-management-plugins.md"];

/// Targets of links and images, each with its line.
fn targets(text: &str) -> Vec<(usize, String)> {
    let (_, plain) = code_spans(&prose(text));
    let mut found = Vec::new();
    for (number, line) in plain.lines().enumerate() {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            found.push((number + 1, target.split_whitespace().next().unwrap_or_default().to_owned()));
        }
        // [name]: target
        if let Some((name, target)) = line.trim_start().split_once("]: ")
            && name.starts_with('[')
        {
            found.push((number + 1, target.trim().to_owned()));
        }
    }
    found
}

/// Where the headings of a text are found, as code hosts make it.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for line in prose(text).lines() {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        // the text of a link without its target
        let mut shown = String::new();
        let mut rest = title.trim();
        while let Some((before, behind)) = rest.split_once("](") {
            shown.push_str(before);
            rest = behind.split_once(')').map_or("", |(_, rest)| rest);
        }
        shown.push_str(rest);
        let kept = shown.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
        let count = seen.entry(anchor.clone()).or_insert(0);
        all.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    all
}

/// A path without `.` and `..`; none where it leaves the repository.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

/// Why a target, seen from a file, leads nowhere.
fn fault(from: &str, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let folder = Path::new(from).parent().unwrap();
    let path = if path.is_empty() { PathBuf::from(from) } else { folder.join(path) };
    let Some(path) = plain(&path) else { return Some("expected a path of the repository".to_owned()) };
    if !root().join(&path).exists() {
        return Some(format!("there is no {}", path.display()));
    }
    let anchor = anchor?;
    if path.extension().is_none_or(|end| end != "md") {
        return Some(format!("{} has no headings", path.display()));
    }
    let known = anchors(&TestedDocument::read(path.to_str().unwrap()).text);
    (!known.contains(anchor)).then(|| format!("{} has no heading `#{anchor}`", path.display()))
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut faults = Vec::new();
    let (mut inner, mut outer) = (0, BTreeSet::new());
    for document in documents() {
        for (line, target) in targets(&document.text) {
            if target.starts_with("https://") {
                outer.insert(format!("{target}  {}:{line}", document.path));
                continue;
            }
            inner += 1;
            if let Some(fault) = fault(&document.path, &target) {
                faults.push(format!("{}:{line}: {target}: {fault}", document.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(inner > 100, "{inner} links were checked");
    if std::env::var("LINKS").is_ok_and(|how| how == "print") {
        println!("{}", outer.into_iter().collect::<Vec<_>>().join("\n"));
    }
}

/// Where sources, messages, scripts and templates name a page, it is there.
#[test]
fn pages_that_are_named_elsewhere_are_there() {
    let (mut faults, mut count) = (Vec::new(), 0);
    let ends = [".rs", ".yaml", ".yml", ".md", ".html", ".js", ".rego", "justfile", "plan", "apply", "drill", "run"];
    for path in files("", &ends).into_iter().filter(|path| path != "tests/documents/links.rs") {
        let text = TestedDocument::read(&path).text;
        for (at, _) in text.match_indices("docs/") {
            let is_part = text[..at].ends_with(|c: char| c.is_alphanumeric() || ['/', '.', '-', '_'].contains(&c));
            let is_of_name = |c: &char| c.is_ascii_alphanumeric() || ['/', '-', '_', '.', '#'].contains(c);
            let named: String = text[at..].chars().take_while(is_of_name).collect();
            let named = named.trim_end_matches(['.', '#']);
            if is_part || !named.contains(".md") || OF_OTHERS.contains(&named) {
                continue;
            }
            count += 1;
            if let Some(fault) = fault("README.md", named) {
                faults.push(format!("{path}: {named}: {fault}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 20, "{count} pages were named");
}

#[test]
fn what_leads_nowhere_is_reported() {
    let text = "# A `b`: [c](d.md)\n## Two\n## Two\n[x](#two-1) `[y](z)` ![p](q.png)\n```\n[n](m)\n```\n[r]: s\n";
    assert_eq!(anchors(text), ["a-b-c", "two", "two-1"].map(str::to_owned).into());
    let found: Vec<String> = targets(text).into_iter().map(|(_, target)| target).collect();
    assert_eq!(found, ["d.md", "#two-1", "q.png", "s"]);
    for (target, is_there) in [
        ("README.md", true),
        ("README.md#pages", false),
        ("../README.md#a-tour", true),
        ("../README.md#a-tours", false),
        ("picture.png#a", false),
        ("../../x", false),
        ("nowhere.md", false),
    ] {
        assert_eq!(fault("docs/README.md", target).is_none(), is_there, "{target}");
    }
}
