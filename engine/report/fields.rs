//! Fields of objects and files as people read them on a terminal.

use anstyle::{AnsiColor, Style};

use crate::pipeline::plan::Action;
use crate::pipeline::plan::diff::{FieldChange, ValueChange};
use crate::types::text::visible;

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

/// `peers.json › peers[west]` for a document inside a ConfigMap, else the path as it is.
fn short_path(path: &str) -> String {
    let inside = path.strip_prefix("data[\"").and_then(|rest| rest.split_once("\"]"));
    match inside {
        Some((file, "")) => file.to_owned(),
        Some((file, rest)) => format!("{file} › {}", rest.trim_start_matches('.')),
        None => path.to_owned(),
    }
}
