//! Texts of others in Markdown: in code, where they can neither mention anyone, link anywhere nor close what they stand in.

use crate::pipeline::plan::diff::{FieldChange, ValueChange};
use crate::types::name::ClusterName;
use crate::types::text::{cut, visible};

/// Most characters of a text in a sentence.
const LONGEST_VALUE: usize = 400;
/// Most characters of one value of an object.
pub(super) const LONGEST_FIELD: usize = 1_000;
/// Most lines that show one object.
pub(super) const MOST_LINES: usize = 60;

/// A text of someone's within the limit of one value.
pub(super) fn short(text: &str) -> String {
    cut(text, LONGEST_VALUE).into_owned()
}

pub(super) fn field_lines(change: &FieldChange) -> Vec<String> {
    let short = |text: &str| cut(text, LONGEST_FIELD).into_owned();
    let path = &change.path;
    match &change.change {
        ValueChange::Added(after) => vec![format!("+   {path}: {}", short(after))],
        ValueChange::Removed(before) => vec![format!("-   {path}: {}", short(before))],
        ValueChange::Changed(before, after) => {
            vec![format!("-   {path}: {}", short(before)), format!("+   {path}: {}", short(after))]
        }
        ValueChange::Lines(lines) => {
            let sign = |line: &String| line.chars().next().filter(|c| matches!(c, '+' | '-')).unwrap_or(' ');
            let own = lines
                .iter()
                .map(|line| format!("{}     {}", sign(line), short(&line.chars().skip(1).collect::<String>())));
            std::iter::once(format!("    {path}:")).chain(own).collect()
        }
    }
}

pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Folded content. `summary` is HTML.
pub(super) fn fold(summary: &str, content: &str) -> String {
    format!("\n<details><summary>{summary}</summary>\n\n{content}\n</details>\n")
}

/// Lines in a fence that nothing in them can close.
pub(super) fn fence(language: &str, lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    let longest = lines.iter().map(|line| backticks(line)).max().unwrap_or_default();
    let fence = "`".repeat(3.max(longest + 1));
    format!("{fence}{language}\n{}\n{fence}\n", lines.join("\n"))
}

/// Text in a code span that nothing in it can close.
pub(super) fn code(text: &str) -> String {
    let text = plain(text);
    let text = text.trim();
    let mark = "`".repeat(backticks(text) + 1);
    match text {
        "" => "`-`".to_owned(),
        text if text.starts_with('`') || text.ends_with('`') => format!("{mark} {text} {mark}"),
        text => format!("{mark}{text}{mark}"),
    }
}

/// The longest run of backticks.
pub(super) fn backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}

/// One line, with what steers, turns round or is not drawn as escapes.
pub(super) fn plain(text: &str) -> String {
    visible(text).into_owned()
}

/// A name in code, in HTML. Names hold none of its signs.
pub(super) fn html_code(name: &ClusterName) -> String {
    format!("<code>{name}</code>")
}
