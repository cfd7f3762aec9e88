//! Words that no message, help text, metric or document uses, each with the better one. The list grows when a reader stumbles.
//!
//! Of the engine's sources every string counts that holds a space, and of the command line's also the documentation, which
//! is its help. Code that is compiled for tests alone does not count. Two shorter lists hold for names and comments, those of
//! tests and benchmarks included.

use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A word or a phrase, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("turn", "run"),
    ("turns", "runs"),
    ("news", "changes, or what changed"),
    ("standing", "state"),
    ("born", "created"),
    ("door", "the name of what is asked"),
    ("bell", "notification"),
    ("happening", "event"),
    ("happenings", "events"),
    ("stencil", "template"),
    ("talk", "messages, status"),
    ("nobody", "no cluster, nothing, not ..."),
    ("somebody", "the one who does it, or the passive"),
    ("anybody", "anyone"),
    ("let go of", "drop, release"),
    ("lets go of", "drops, releases"),
    ("says not", "does not say"),
    ("knows not", "does not know"),
    ("at hand", "present, available"),
    ("goes on", "continues"),
    ("go on", "continue"),
    ("whose word", "who says so"),
    ("what stands there", "its value, its content"),
    ("stands there", "is there"),
    ("stand there", "are there"),
    ("is wanted", "expected X, found Y"),
    ("are wanted", "expected X, found Y"),
    ("mend", "correct, repair"),
    ("mends", "corrects, repairs"),
    ("surveyed into", "surveyed"),
    ("surveying into", "surveying"),
    ("belongs into", "belongs in"),
];

/// Words that no name in code has as a part, and what to write instead.
const PARTS: &[(&str, &str)] = &[
    ("turn", "run"),
    ("turns", "runs"),
    ("words", "message, arguments, expected"),
    ("news", "change"),
    ("said", "output, error, or what it is"),
    ("unsaid", "not stated"),
    ("tell", "report, or what is sent"),
    ("tells", "reports"),
    ("told", "reported, shown"),
    ("untold", "not reported"),
    ("talk", "stderr, notes"),
    ("standing", "state"),
    ("standings", "states"),
    ("stands", "is, state"),
    ("born", "created"),
    ("birth", "creation, key secret"),
    ("door", "the name of what is asked"),
    ("keeper", "reconciler"),
    ("happening", "event"),
    ("happenings", "events"),
    ("complain", "report"),
    ("piece", "chunk, fragment"),
    ("pieces", "chunks, fragments"),
    ("stencil", "template"),
    ("bell", "changed"),
    ("hearer", "subscriber"),
    ("hearers", "subscribers"),
    ("follow", "watch, sync, run"),
    ("alarm", "warning"),
    ("look", "collect, read, scan"),
    ("looks", "collections, scans"),
    ("looked", "collected, scanned"),
    ("nobody", "no_..., none"),
    ("somebody", "another, or what it is"),
    ("anybody", "any"),
];

/// What no comment uses, and what to write instead.
const IDIOMS: &[(&str, &str)] = &[
    ("nobody", "no cluster, nothing, no one"),
    ("somebody", "someone, another tool, or what it is"),
    ("anybody", "anyone"),
    ("at hand", "present, known, read"),
    ("goes on", "continues, is forwarded"),
    ("go on", "continue"),
    ("going on", "continuing"),
    ("stands there", "is there"),
    ("stand there", "are there"),
    ("let go of", "drop, release"),
    ("lets go of", "drops, releases"),
    ("says so", "states it, names it"),
    ("say so", "state it"),
    ("said so", "stated it"),
    ("says not", "does not say"),
    ("knows not", "does not know"),
    ("turn", "run"),
    ("news", "changes"),
    ("stencil", "template"),
    ("happening", "event"),
];

/// A text, and where it is.
pub(crate) struct Text {
    pub(crate) at: String,
    pub(crate) text: String,
}

/// The words of the list in a text, case aside, as whole words.
fn found(text: &Text) -> Vec<String> {
    phrases(PHRASES, text)
}

/// The same of any list.
fn phrases(list: &[(&str, &str)], text: &Text) -> Vec<String> {
    let plain: String = text.text.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { ' ' }).collect();
    let plain = format!(" {} ", plain.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
    let is_there = |word: &str| plain.contains(&format!(" {word} "));
    let wrong = list.iter().filter(|(word, _)| is_there(word));
    wrong.map(|(word, better)| format!("{}: `{word}`; write {better}", text.at)).collect()
}

/// Whether an attribute compiles what follows it for tests alone.
fn is_for_tests(attribute: &TokenTree) -> bool {
    let TokenTree::Group(group) = attribute else { return false };
    let text: String = group.stream().to_string().split_whitespace().collect();
    group.delimiter() == Delimiter::Bracket && (text == "cfg(test)" || text.starts_with("cfg(all(test"))
}

/// The string literals of a source, and its documentation where that is help.
fn strings(path: &str, stream: TokenStream, help: bool, found: &mut Vec<Text>) {
    let mut tokens = stream.into_iter().peekable();
    let (mut hash, mut doc) = (false, false);
    while let Some(token) = tokens.next() {
        if hash && is_for_tests(&token) {
            // up to the end of the item
            for rest in tokens.by_ref() {
                let ends = match &rest {
                    TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                    TokenTree::Punct(punct) => punct.as_char() == ';',
                    TokenTree::Ident(_) | TokenTree::Literal(_) => false,
                };
                if ends {
                    break;
                }
            }
            hash = false;
            continue;
        }
        hash = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#' || (hash && punct.as_char() == '!'));
        match token {
            TokenTree::Group(group) => strings(path, group.stream(), help, found),
            TokenTree::Ident(name) => doc = name == "doc",
            TokenTree::Punct(punct) => doc = doc && punct.as_char() == '=',
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let is_string = text.starts_with('"') || text.starts_with("r\"") || text.starts_with("r#");
                if is_string && text.contains(' ') && (help || !doc) {
                    found.push(Text { at: format!("{path}:{}", literal.span().start().line), text });
                }
                doc = false;
            }
        }
    }
}

pub(crate) fn strings_of(path: &str, text: &str) -> Vec<Text> {
    let mut all = Vec::new();
    let help = path.starts_with("cli/") || path == "watch/options.rs";
    strings(&format!("engine/{path}"), text.parse().unwrap(), help, &mut all);
    all
}

/// The lines of the documents that are for people, and of what the page shows.
fn documents() -> Vec<Text> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec!["action.yml".to_owned()];
    let names = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // the changelog names what was renamed
    paths.extend(
        names.filter(|name| name != "CHANGELOG.md" && Path::new(name).extension().is_some_and(|end| end == "md")),
    );
    let mut folders = vec!["docs", "examples", "ci", "templates", "engine/report/picture"];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(below.leak());
            } else if [".md", ".yaml", ".yml", ".html", "messages.js"].iter().any(|end| below.ends_with(end)) {
                paths.push(below);
            }
        }
    }
    let texts = paths.into_iter().flat_map(|path| {
        let text = std::fs::read_to_string(root.join(&path)).unwrap();
        let line = |(number, line): (usize, &str)| Text { at: format!("{path}:{}", number + 1), text: line.to_owned() };
        text.lines().enumerate().map(line).collect::<Vec<_>>()
    });
    texts.collect()
}

/// Names and comments of a source.
#[derive(Default)]
struct CodeTexts {
    names: Vec<Text>,
    comments: Vec<Text>,
}

impl CodeTexts {
    fn of(path: &str, text: &str) -> Self {
        let mut code = Self::default();
        // a `//` in a literal begins no comment; documentation is a literal, too
        let mut plain = text.as_bytes().to_vec();
        code.read(path, text.parse().unwrap(), &mut plain);
        let comment = |(number, line): (usize, &[u8])| {
            let begin = line.windows(2).position(|two| two == b"//")?;
            let text = String::from_utf8_lossy(&line[begin..]).into_owned();
            Some(Text { at: format!("{path}:{}", number + 1), text })
        };
        code.comments = plain.split(|byte| *byte == b'\n').enumerate().filter_map(comment).collect();
        code
    }

    fn read(&mut self, path: &str, stream: TokenStream, plain: &mut [u8]) {
        for token in stream {
            match token {
                TokenTree::Group(group) => self.read(path, group.stream(), plain),
                TokenTree::Ident(name) => {
                    self.names
                        .push(Text { at: format!("{path}:{}", name.span().start().line), text: name.to_string() });
                }
                TokenTree::Literal(literal) => {
                    let literal = &mut plain[literal.span().byte_range()];
                    if !literal.starts_with(b"//") && !literal.starts_with(b"/*") {
                        literal.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
                    }
                }
                TokenTree::Punct(_) => {}
            }
        }
    }
}

/// The parts of a name that are on the list: of `snake_case`, `SCREAMING_CASE` and `CamelCase`.
fn parts(name: &Text) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = '_';
    for character in name.text.chars() {
        if character == '_' || (character.is_uppercase() && !before.is_uppercase()) {
            parts.push(String::new());
        }
        parts.last_mut().unwrap().extend(character.to_lowercase().filter(|character| *character != '_'));
        before = character;
    }
    let wrong = PARTS.iter().filter(|(word, _)| parts.iter().any(|part| part == word));
    wrong.map(|(word, better)| format!("{}: `{}` has `{word}`; write {better}", name.at, name.text)).collect()
}

#[test]
fn names_and_comments_use_the_terms_of_the_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for folder in ["engine", "tests", "benches"] {
        for (path, text) in super::sources(&root.join(folder)) {
            let code = CodeTexts::of(&format!("{folder}/{path}"), &text);
            wrong.extend(code.names.iter().flat_map(parts));
            wrong.extend(code.comments.iter().flat_map(|comment| phrases(IDIOMS, comment)));
            wrong.extend(parts(&Text { at: format!("{folder}/{path}"), text: path.replace(['/', '.'], "_") }));
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} words of the lists in tests/tidy/vocabulary.rs:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_counts_as_a_name_and_as_a_comment() {
    let names = |text: &str| CodeTexts::of("a.rs", text).names.iter().flat_map(parts).collect::<Vec<_>>();
    assert_eq!(names("fn next_turn() {}"), ["a.rs:1: `next_turn` has `turn`; write run"]);
    assert_eq!(names("const MOST_TURNS: u8 = 1;"), ["a.rs:1: `MOST_TURNS` has `turns`; write runs"]);
    assert_eq!(names("\nstruct NextTurn;"), ["a.rs:2: `NextTurn` has `turn`; write run"]);
    assert_eq!(names("fn f() { assert!(a.turn == 1); }"), ["a.rs:1: `turn` has `turn`; write run"]);
    assert_eq!(names("fn returns() { return \"turn\"; } // turn\nstruct Turnip;"), [""; 0]);

    let comments = |text: &str| {
        let comments = CodeTexts::of("a.rs", text).comments;
        comments.iter().flat_map(|comment| phrases(IDIOMS, comment)).collect::<Vec<_>>()
    };
    let expected = "a.rs:1: `goes on`; write continues, is forwarded";
    for text in ["// it goes on", "/// It goes on.\nfn f() {}", "//! It goes, on.", "fn f() {} // \"goes on\""] {
        assert_eq!(comments(text), [expected], "{text}");
    }
    assert_eq!(comments("const A: &str = \"// goes on\";"), [""; 0]);
    assert_eq!(comments("const A: &str = r#\"\n// goes on\n\"#; // so"), [""; 0]);
}

#[test]
fn texts_for_people_use_the_terms_of_the_field() {
    let sources = super::engine();
    let strings = sources.iter().flat_map(|(path, text)| strings_of(path, text));
    let wrong: Vec<String> = strings.chain(documents()).flat_map(|text| found(&text)).collect();
    assert!(wrong.is_empty(), "{} words of the list in tests/tidy/vocabulary.rs:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_counts_as_a_text_for_people() {
    let wrong = |path: &str, text: &str| strings_of(path, text).iter().flat_map(found).collect::<Vec<_>>();
    let expected = "engine/a.rs:1: `turn`; write run";
    for text in [
        "const A: &str = \"the next turn\";",
        "fn f() { format!(\"a {x} of the TURN.\"); }",
        "#[error(\"the turn ended\")] struct S;",
        "enum E { #[error(r\"a `turn`, so\")] A }",
    ] {
        assert_eq!(wrong("a.rs", text), [expected], "{text}");
    }
    for text in [
        "const A: &str = \"to return a turned turnip\";",
        "const A: &str = \"turn\";",
        "/// The next turn.\nfn turn() {}",
        "#[cfg(test)] mod tests { const A: &str = \"the next turn\"; }",
        "#[cfg(all(test, unix))] const A: &str = \"the next turn\";",
    ] {
        assert_eq!(wrong("a.rs", text), [""; 0], "{text}");
    }
    assert_eq!(wrong("cli/a.rs", "/// The next turn.\nfn f() {}"), ["engine/cli/a.rs:1: `turn`; write run"]);
}
