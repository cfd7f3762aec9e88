//! Fields of objects and files as people read them on a terminal.

use anstyle::{AnsiColor, Style};

use crate::pipeline::plan::Action;
use crate::pipeline::plan::diff::{FieldChange, ValueChange};
use crate::types::text::visible;
use crate::wire::peers::{JOINED_LINKS, JOINED_WITH, PEERS_FILE};

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const RED: Style = AnsiColor::Red.on_default();
pub(super) const CYAN: Style = AnsiColor::Cyan.on_default();

/// The sign of what becomes of an object.
pub(super) fn sign(action: Action) -> String {
    let style = match action {
        Action::Create => GREEN,
        Action::Update => YELLOW,
        Action::Delete => RED,
    };
    format!("{style}{}{style:#}", action.sign())
}

/// One field, a line or more, behind so many spaces.
pub(super) fn field_text(change: &FieldChange, indent: usize, out: &mut String) {
    let path = short_path(&change.path);
    let path = visible(&path);
    let indent = " ".repeat(indent);
    match &change.change {
        ValueChange::Added(value) => out.push_str(&format!("{indent}{GREEN}+ {path}: {}{GREEN:#}\n", visible(value))),
        ValueChange::Removed(value) => out.push_str(&format!("{indent}{RED}- {path}: {}{RED:#}\n", visible(value))),
        ValueChange::Changed(before, after) => {
            out.push_str(&format!(
                "{indent}{YELLOW}~ {path}{YELLOW:#}: {RED}{}{RED:#} → {GREEN}{}{GREEN:#}\n",
                visible(before),
                visible(after)
            ));
        }
        ValueChange::Lines(lines) => {
            out.push_str(&format!("{indent}{path}:\n"));
            for line in lines {
                let style = match line.chars().next() {
                    Some('+') => GREEN,
                    Some('-') => RED,
                    _ => DIM,
                };
                out.push_str(&format!("{indent}  {style}{}{style:#}\n", visible(line)));
            }
        }
    }
}

/// The fields of a changed object, where with what links are begun is one line: it repeats specs and lock.
pub(super) fn condensed(mut changes: Vec<FieldChange>) -> Vec<FieldChange> {
    let mark = format!(".{JOINED_WITH}.");
    let of = |change: &FieldChange| match (change.path.split_once(&mark), &change.change) {
        (Some((_, field)), ValueChange::Added(value)) => Some((field.to_owned(), value.clone())),
        _ => None,
    };
    let Some(at) = changes.iter().position(|change| of(change).is_some()) else { return changes };
    let (of_spec, own): (Vec<_>, Vec<_>) =
        changes.iter().filter_map(of).partition(|(field, _)| field.starts_with("spec."));
    let mut values: Vec<String> = own.iter().map(|(field, value)| format!("{field} {value}")).collect();
    match of_spec.len() {
        0 => {}
        1 => values.push("1 field of its spec".to_owned()),
        many => values.push(format!("{many} fields of its spec")),
    }
    if let Some(first) = changes.get_mut(at) {
        first.path = first.path.split(&mark).next().map(|file| format!("{file}.joined with")).unwrap_or_default();
        first.change = ValueChange::Added(values.join(" · "));
    }
    changes.retain(|change| of(change).is_none());
    changes
}

/// `peers.json › peers[west]` for a document inside a ConfigMap, else the path as it is.
fn short_path(path: &str) -> String {
    let inside = path.strip_prefix("data[\"").and_then(|rest| rest.split_once("\"]"));
    match inside {
        Some((file, "")) => file.to_owned(),
        Some((file, rest)) => {
            let field = rest.trim_start_matches('.');
            let meaning = match (file, field) {
                (PEERS_FILE, "serial") => " (counts openings and closings)",
                (PEERS_FILE, JOINED_LINKS) => " (changes with the links that are joined)",
                (PEERS_FILE, "entry") => " (counts changes of what is accepted of the cluster)",
                _ => "",
            };
            format!("{file} › {field}{meaning}")
        }
        None => path.to_owned(),
    }
}
