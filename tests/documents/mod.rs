//! What the documents say of the program holds: links lead somewhere, commands and flags exist, outputs are what is printed.

pub(crate) mod commands;
mod links;
mod outputs;
mod security;

use std::path::{Path, PathBuf};

/// A file of the repository.
struct TestedDocument {
    /// Its path below the repository.
    path: String,
    text: String,
}

impl TestedDocument {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }
}

/// A fenced block.
struct Block<'a> {
    /// What is behind the opening fence.
    language: &'a str,
    /// Number of its first line in the document.
    line: usize,
    lines: Vec<&'a str>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The files below a folder whose names have one of these ends; nothing that is built, hidden or installed.
fn files(folder: &str, ends: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = folder.join(&name);
            if entry.path().is_dir() {
                if !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if ends.iter().any(|end| name.ends_with(end)) {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// All documents in Markdown.
fn documents() -> Vec<TestedDocument> {
    let all: Vec<TestedDocument> = files("", &[".md"]).iter().map(|path| TestedDocument::read(path)).collect();
    assert!(all.len() > 20, "{} documents", all.len());
    all
}

/// The fenced blocks of a text.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, open.take()) {
            (Some(language), None) => {
                open = Some(Block { language: language.trim(), line: number + 2, lines: Vec::new() });
            }
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.lines.push(line);
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    found
}

/// A text whose fenced blocks are empty lines.
fn prose(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().map(|line| {
        let is_fence = line.trim_start().starts_with("```");
        let shown = if inside || is_fence { "" } else { line };
        inside ^= is_fence;
        shown
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Code in the lines of a text, each with the number of its line; and the text without it.
fn code_spans(prose: &str) -> (Vec<(usize, String)>, String) {
    let (mut spans, mut rest) = (Vec::new(), String::new());
    let mut at = 0;
    while let Some(begin) = prose[at..].find('`').map(|found| at + found) {
        rest.push_str(&prose[at..begin]);
        let ticks = prose[begin..].bytes().take_while(|byte| *byte == b'`').count();
        let inner = begin + ticks;
        let fence = "`".repeat(ticks);
        // a span ends with its paragraph
        let paragraph = prose[inner..].find("\n\n").map_or(prose.len(), |end| inner + end);
        let Some(end) = prose[inner..paragraph].find(&fence).map(|found| inner + found) else {
            at = inner;
            continue;
        };
        let line = prose[..begin].matches('\n').count() + 1;
        let arguments: Vec<&str> = prose[inner..end].split_whitespace().collect();
        spans.push((line, arguments.join(" ").replace("\\|", "|")));
        rest.push_str(&"\n".repeat(prose[inner..end].matches('\n').count()));
        rest.push('x');
        at = end + ticks;
    }
    rest.push_str(&prose[at..]);
    (spans, rest)
}

#[test]
fn blocks_prose_and_code_are_distinct() {
    let text = "a `b c`, ``d ` e``\n```console\n$ f\n```\n`g\nh` i\n";
    let blocks = blocks(text);
    assert_eq!(
        (blocks.len(), blocks[0].language, blocks[0].line, &blocks[0].lines[..]),
        (1, "console", 3, &["$ f"][..])
    );
    let (spans, rest) = code_spans(&prose(text));
    let of = |line, text: &str| (line, text.to_owned());
    assert_eq!(spans, [of(1, "b c"), of(1, "d ` e"), of(5, "g h")]);
    assert_eq!(rest, "a x, x\n\n\n\n\nx i");
}
