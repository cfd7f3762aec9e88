//! Words that no message, help text, metric or document uses, each with the better one. The list grows when a reader stumbles.
//!
//! Of the engine's sources every string counts that holds a space, and of the command line's also the documentation, which
//! is its help. Code that is compiled for tests alone does not count.

use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A word or a phrase, and what to write instead.
const WORDS: &[(&str, &str)] = &[
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

/// A text, and where it is.
pub(crate) struct Text {
    pub(crate) at: String,
    pub(crate) text: String,
}

/// The words of the list in a text, case aside, as whole words.
fn found(text: &Text) -> Vec<String> {
    let plain: String = text.text.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { ' ' }).collect();
    let plain = format!(" {} ", plain.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
    let is_there = |word: &str| plain.contains(&format!(" {word} "));
    let wrong = WORDS.iter().filter(|(word, _)| is_there(word));
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

#[test]
fn texts_for_people_use_the_words_of_the_field() {
    let sources = super::engine();
    let strings = sources.iter().flat_map(|(path, text)| strings_of(path, text));
    let wrong: Vec<String> = strings.chain(documents()).flat_map(|text| found(&text)).collect();
    assert!(wrong.is_empty(), "{} words of the list in tests/tidy/vocabulary.rs:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_counts_as_a_text_for_people() {
    let wrong = |path: &str, text: &str| strings_of(path, text).iter().flat_map(found).collect::<Vec<_>>();
    let said = "engine/a.rs:1: `turn`; write run";
    for text in [
        "const A: &str = \"the next turn\";",
        "fn f() { format!(\"a {x} of the TURN.\"); }",
        "#[error(\"the turn ended\")] struct S;",
        "enum E { #[error(r\"a `turn`, so\")] A }",
    ] {
        assert_eq!(wrong("a.rs", text), [said], "{text}");
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
