//! `docs/reference/`: what the program itself says of its commands, fields, metrics, codes, limits and names, as pages.
//!
//! Each page is made of what the program has: its parser, its schemas, its registries, its constants. What a page adds, such
//! as what an object is for, is held against what the program does, so that nothing is missing and nothing is left over.
//! `just reference` writes the pages; without it a page that is not what the program says fails its test.

mod codes;
mod commands;
mod constants;
mod limits;
mod metrics;
mod names;
mod plan;
mod schemas;
mod spec;

use std::fmt::Write as _;
use std::path::Path;

/// What writes the pages, as a failing test names it.
const COMMAND: &str = "just reference (ISTHMUS_REFERENCE=write cargo test --test integration reference::)";

/// All pages, with what each is about: the index.
const PAGES: &[(&str, &str, &str)] = &[
    ("commands.md", "Commands", "every command with its flags, their defaults and environment variables; exit codes"),
    ("spec.md", "Spec fields", "Mesh, Cluster, IstioMulticluster and `policy.yaml`, field by field"),
    ("plan.md", "Plan JSON", "what `engine plan --output json` prints, field by field"),
    ("codes.md", "Reason codes", "what each `code` in JSON output means"),
    ("metrics.md", "Metrics", "what the roles and `engine watch` count, with types and labels"),
    ("limits.md", "Limits", "what servers admit, what is read at most, and how long things last"),
    ("names.md", "Names", "files, objects, labels, annotations and ports that are ours"),
];

/// Compares a page with what the program says, or writes it.
#[track_caller]
fn hold(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(file);
    if std::env::var("ISTHMUS_REFERENCE").is_ok_and(|value| value == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (there, wanted))) = (1..).zip(lines(&there, text)).find(|(_, (there, wanted))| there != wanted)
    {
        panic!("docs/reference/{file} is stale, line {number}: expected {wanted:?}, found {there:?}; run: {COMMAND}");
    }
}

/// The lines of two texts side by side; where one has ended, an empty one.
fn lines<'a>(a: &'a str, b: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let (a, b): (Vec<_>, Vec<_>) = (a.split('\n').collect(), b.split('\n').collect());
    (0..a.len().max(b.len())).map(move |n| (a.get(n).copied().unwrap_or("(end)"), b.get(n).copied().unwrap_or("(end)")))
}

/// A page that is written line by line.
struct ReferencePage(String);

impl ReferencePage {
    /// A page with its title, and what it is about.
    fn new(title: &str, about: &str) -> Self {
        Self(format!("<!-- Generated from the program by `just reference`; do not edit. -->\n\n# {title}\n\n{about}\n"))
    }

    fn text(&mut self, text: &str) {
        write!(self.0, "\n{text}\n").unwrap();
    }

    fn heading(&mut self, level: usize, text: &str) {
        self.text(&format!("{} {text}", "#".repeat(level)));
    }

    /// A table; a column whose cells are all empty is left out.
    fn table<const N: usize>(&mut self, head: [&str; N], rows: &[[String; N]]) {
        let kept: Vec<usize> = (0..N).filter(|column| rows.iter().any(|row| !row[*column].is_empty())).collect();
        let line = |cells: &[&str]| {
            let cells: Vec<String> = kept.iter().map(|column| cell(cells[*column])).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        self.0.push('\n');
        self.0 += &line(&head);
        self.0 += &format!("|{}\n", "---|".repeat(kept.len()));
        for row in rows {
            self.0 += &line(&row.each_ref().map(String::as_str));
        }
    }
}

/// A text in a cell: on one line, with no end of the cell in it.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// A sentence as it begins.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    // a name keeps its spelling
    let is_name = text.split_whitespace().next().is_some_and(|word| word.chars().skip(1).any(char::is_uppercase))
        || text.starts_with("istiod");
    match chars.next() {
        Some(first) if !is_name => first.to_uppercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// Where a heading of this text is found, as code hosts make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// A link to a heading of the same page.
fn link(heading: &str) -> String {
    format!("[{heading}](#{})", anchor(heading))
}

#[test]
fn the_index_names_every_page() {
    let mut page = ReferencePage::new(
        "Reference",
        "What the program says of itself. Each page is generated from its source code and checked in CI, so it is as the\n\
         program of this revision is.",
    );
    let rows = PAGES.iter().map(|(file, title, about)| [format!("[{title}]({file})"), (*about).to_owned()]);
    page.table(["page", "what it lists"], &rows.collect::<Vec<_>>());
    page.text(
        "For programs: the JSON Schema of specs is [spec.schema.json](spec.schema.json), which editors take from the first line\n\
         of what `engine init` writes. `engine schema specs`, `engine schema policy` and `engine schema plan` print those of\n\
         the program that is installed.",
    );
    hold("README.md", &page.0);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_page =
            PAGES.iter().any(|(file, ..)| *file == name) || ["README.md", "spec.schema.json"].contains(&&*name);
        assert!(is_page, "docs/reference/{name} is no page of the reference");
    }
}
