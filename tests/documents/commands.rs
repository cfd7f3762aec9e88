//! Command lines and flags that documents and messages name are parsed by the program's own definition of them.

use std::collections::BTreeSet;

use clap::Command;
use clap::error::{ContextKind, ErrorKind};

use super::{blocks, code_spans, documents, prose};
use crate::tidy::vocabulary::strings_of;

/// What stands for a value, such as `NAME@DIGEST`, is tried as each of these.
const VALUES: &[&str] = &["east", "1m", "127.0.0.1:8080", "1", "dot", "sha256:00"];

/// Flags of other programs that documents and messages name.
const OF_OTHERS: &[&str] = &[
    "--add",
    "--add-architecture",
    "--bench",
    "--enable-ssl-passthrough",
    "--filename",
    "--force-conflicts",
    "--global",
    "--hard",
    "--oneline",
    "--ours",
    "--patch-file",
    "--profile",
    "--prune",
    "--raw",
    "--remote-contexts",
    "--reuse-values",
    "--server-side",
    "--set-file",
    "--take-ownership",
    "--theirs",
    "--values",
];

/// How much of a command must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuotedForm {
    /// All of it, as it is typed.
    Whole,
    /// It is mentioned, so values and arguments may be missing.
    Mentioned,
}

/// Whether a word stands for a value.
fn is_placeholder(word: &str) -> bool {
    !word.starts_with('-') && word.chars().any(char::is_uppercase) && !word.chars().any(char::is_lowercase)
}

/// The words of one command of a shell, without its quotes; several where it has pipes, lists or redirections.
pub(crate) fn split(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let (mut word, mut quote) = (None::<String>, None);
    let mut chars = line.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, '#') if before == ' ' => break,
            (None, ' ' | '|' | ';' | '>' | '&') => {
                all.last_mut().unwrap().extend(word.take());
                if c != ' ' {
                    all.push(Vec::new());
                }
            }
            (Some(_) | None, c) => word.get_or_insert_default().push(c),
        }
        before = c;
    }
    all.last_mut().unwrap().extend(word);
    all.retain(|arguments| !arguments.is_empty());
    all
}

/// The arguments of the engine, if this runs it: `engine …`, `A=b engine …`, `cargo run --release -- …`.
fn of_engine(arguments: &[String]) -> Option<Vec<String>> {
    let is_variable = |word: &&String| word.split_once('=').is_some_and(|(name, _)| name == name.to_uppercase());
    let arguments: Vec<&str> = arguments.iter().skip_while(is_variable).map(String::as_str).collect();
    let (["engine", rest @ ..] | ["cargo", "run", "--release", "--", rest @ ..]) = arguments.as_slice() else {
        return None;
    };
    Some(rest.iter().map(|word| (*word).to_owned()).collect())
}

/// What is wrong with arguments of the engine.
fn fault(arguments: &[String], form: QuotedForm) -> Option<String> {
    let root = isthmus::cli::command();
    let given = std::iter::once("engine").chain(arguments.iter().map(String::as_str));
    let error = match root.clone().try_get_matches_from(given) {
        Ok(matches) => {
            let (mut matches, mut command) = (&matches, &root);
            while let Some((name, inner)) = matches.subcommand() {
                match command.find_subcommand(name) {
                    Some(found) => (matches, command) = (inner, found),
                    None if form == QuotedForm::Mentioned && is_placeholder(name) => return None,
                    None => return Some(format!("there is no command `{name}`")),
                }
            }
            return None;
        }
        Err(error) => error,
    };
    let value = error.get(ContextKind::InvalidValue).map(ToString::to_string).unwrap_or_default();
    let is_excused = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => form == QuotedForm::Mentioned,
        ErrorKind::InvalidValue if value.is_empty() => form == QuotedForm::Mentioned,
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if is_placeholder(&value) => {
            let tried = VALUES.iter().map(|other| {
                let swap = |word: &String| if *word == value { (*other).to_owned() } else { word.clone() };
                arguments.iter().map(swap).collect::<Vec<_>>()
            });
            tried.map(|arguments| fault(&arguments, form)).any(|fault| fault.is_none())
        }
        _ => false,
    };
    (!is_excused).then(|| error.to_string().lines().next().unwrap_or_default().to_owned())
}

/// A mention as arguments: a synopsis as its parts, `engine` left out, with what follows `…` cut off.
fn mentioned(span: &str, known: &BTreeSet<String>) -> Option<Vec<String>> {
    // `>` leads to a file
    let span = span.split(" >").next().unwrap_or_default();
    let plain = span.replace(['[', ']', '<', '>'], "").replace("COMMAND", "plan");
    let first = plain.split('…').next().unwrap_or_default().split("...").next().unwrap_or_default();
    let arguments: Vec<&str> = first.split_whitespace().collect();
    let arguments = match arguments.as_slice() {
        ["engine", rest @ ..] => rest,
        [command, flag, ..] if known.contains(*command) && flag.starts_with('-') => arguments.as_slice(),
        _ => return None,
    };
    // of `a|b` in a synopsis the first
    let is_synopsis = span.contains(['[', '<']);
    let one = |word: &&str| {
        let word = word.trim_end_matches([',', ':', ';', '.', ')']);
        if is_synopsis { word.split('|').next().unwrap_or_default().to_owned() } else { word.to_owned() }
    };
    Some(arguments.iter().map(one).collect())
}

/// All long flags, and the names of the first commands.
fn known() -> (BTreeSet<String>, BTreeSet<String>) {
    fn flags(command: &Command, found: &mut BTreeSet<String>) {
        found.extend(command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?))));
        command.get_subcommands().for_each(|inner| flags(inner, found));
    }
    let mut root = isthmus::cli::command();
    root.build();
    let mut all = ["--help", "--version"].map(str::to_owned).into();
    flags(&root, &mut all);
    (all, root.get_subcommands().map(|command| command.get_name().to_owned()).collect())
}

/// The flags in a text, without their values.
fn flags(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("--") {
        if text[..at].ends_with(|c: char| !c.is_whitespace() && !['`', '(', '"', '\'', '[', '|'].contains(&c)) {
            continue;
        }
        let name: String = text[at + 2..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        if name.starts_with(|c: char| c.is_ascii_lowercase()) {
            found.push(format!("--{}", name.trim_end_matches('-')));
        }
    }
    found
}

#[test]
fn commands_of_documents_are_parsed() {
    let (_, names) = known();
    let (mut faults, mut lines, mut mentions) = (Vec::new(), 0, 0);
    for document in documents().into_iter().filter(|document| document.path != "CHANGELOG.md") {
        let mut hold = |line: usize, arguments: &[String], form: QuotedForm| {
            if let Some(fault) = fault(arguments, form) {
                faults.push(format!("{}:{line}: engine {}: {fault}", document.path, arguments.join(" ")));
            }
        };
        for block in blocks(&document.text).iter().filter(|block| ["console", "sh", "bash"].contains(&block.language)) {
            for (number, line) in block.lines.iter().enumerate() {
                let typed = line.trim_start().strip_prefix("$ ").or((block.language != "console").then_some(line));
                for arguments in typed.iter().flat_map(|line| split(line)).filter_map(|arguments| of_engine(&arguments))
                {
                    hold(block.line + number, &arguments, QuotedForm::Whole);
                    lines += 1;
                }
            }
        }
        for (line, span) in code_spans(&prose(&document.text)).0 {
            if let Some(arguments) = mentioned(&span, &names) {
                hold(line, &arguments, QuotedForm::Mentioned);
                mentions += 1;
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(lines > 50 && mentions > 150, "{lines} lines and {mentions} mentions were parsed");
}

#[test]
fn commands_of_messages_are_parsed() {
    let (_, names) = known();
    let (mut faults, mut count) = (Vec::new(), 0);
    for (path, source) in crate::tidy::engine() {
        for text in strings_of(&path, &source) {
            // what is put in when it is printed may be any value
            let mut plain = String::new();
            let mut rest = text.text.as_str();
            while let Some((before, behind)) = rest.split_once('{') {
                plain.push_str(before);
                plain.push_str("VALUE");
                rest = behind.split_once('}').map_or("", |(_, rest)| rest);
            }
            plain.push_str(rest);
            for (_, span) in code_spans(&plain).0 {
                let Some(arguments) = mentioned(&span.replace(" \\ ", " "), &names) else { continue };
                count += 1;
                if let Some(fault) = fault(&arguments, QuotedForm::Mentioned) {
                    faults.push(format!("{}: engine {}: {fault}", text.at, arguments.join(" ")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 30, "{count} commands were parsed");
}

#[test]
fn flags_of_documents_and_messages_exist() {
    let (known, _) = known();
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    let mut hold = |at: &str, text: &str| {
        for flag in flags(text).into_iter().filter(|flag| !known.contains(flag)) {
            if OF_OTHERS.contains(&flag.as_str()) {
                used.insert(flag);
            } else {
                faults.push(format!("{at}: {flag}"));
            }
        }
    };
    for document in documents().into_iter().filter(|document| document.path != "CHANGELOG.md") {
        for (line, span) in code_spans(&prose(&document.text)).0 {
            hold(&format!("{}:{line}", document.path), &span);
        }
    }
    for (path, source) in crate::tidy::engine() {
        for text in strings_of(&path, &source) {
            hold(&text.at, &text.text);
        }
    }
    assert!(faults.is_empty(), "neither the engine's flags nor listed as those of others:\n{}", faults.join("\n"));
    let unused: Vec<_> = OF_OTHERS.iter().filter(|flag| !used.contains(**flag)).collect();
    assert!(unused.is_empty(), "listed and nowhere named: {unused:?}");
}

#[test]
fn what_does_not_parse_is_reported() {
    let whole = |line: &str| {
        let all = split(line);
        let first = all.iter().find_map(|arguments| of_engine(arguments)).unwrap();
        fault(&first, QuotedForm::Whole)
    };
    for line in [
        "engine plan --base origin/main --output json | conftest test -",
        "A=b engine -C 'a b' keys new",
        "git fetch && engine apply --accept-trust west@DIGEST   # why --not",
        "cargo run --release -- demo",
        "engine watch --every INTERVAL --http ADDRESS",
        "engine --version",
    ] {
        assert_eq!(whole(line), None, "{line}");
    }
    for line in [
        "engine plna",
        "engine keys rotate",
        "engine keys",
        "engine plan --lock",
        "engine invite",
        "engine watch --every soon",
        "engine apply --wait",
        "engine plan east",
    ] {
        assert!(whole(line).is_some(), "{line}");
    }
    let (_, names) = known();
    let mention = |span: &str| mentioned(span, &names).map(|arguments| fault(&arguments, QuotedForm::Mentioned));
    for span in
        ["engine invite", "apply --wait", "engine serve …", "engine [-C DIR] [-q|-v] COMMAND", "schema [specs|plan]"]
    {
        assert!(mention(span).is_none_or(|fault| fault.is_none()), "{span}: {:?}", mention(span));
    }
    for span in ["engine rotate", "apply --wiat", "plan --to"] {
        assert!(mention(span).is_some_and(|fault| fault.is_some() == (span != "plan --to")), "{span}");
    }
    assert_eq!(mention("kubectl apply --server-side"), None);
    assert_eq!(flags("`--a`, x--b --c=d [--e F]"), ["--a", "--c", "--e"]);
}
