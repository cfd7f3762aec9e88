//! What a reviewer has to see before any object, as Markdown.

use crate::model::trust::{TrustChange, Verdict};
use crate::pipeline::plan::diff::{FieldChange, ValueChange};
use crate::pipeline::plan::{SecurityChange, SecurityItem};
use crate::report::spans::{MOST_LINES, code, fence, field_lines, plain, plural, short};
use crate::types::explanation::Explain;

/// Most fields that are shown of one entry.
const MOST_FIELDS: usize = 12;

/// Most entries of a kind of which a pull request can have any number; those that are most dangerous come first.
pub(super) fn most_of(change: &SecurityChange) -> Option<(&'static str, usize)> {
    match change {
        SecurityChange::File(_) => Some(("file that is not ours", 25)),
        SecurityChange::TreeEdit { .. } => Some(("file that is not rendered so", 25)),
        SecurityChange::LockEdit { .. } => Some(("edit of the lock", 50)),
        SecurityChange::Document { .. } => Some(("document", 25)),
        SecurityChange::Override { .. } => Some(("edit of an override", 100)),
        SecurityChange::NewCluster { .. }
        | SecurityChange::SecretByHand { .. }
        | SecurityChange::Links(_)
        | SecurityChange::Share(_)
        | SecurityChange::HandOver { .. }
        | SecurityChange::Contested { .. }
        | SecurityChange::Cut { .. }
        | SecurityChange::Spec { .. }
        | SecurityChange::Policy { .. }
        | SecurityChange::BaseNotCompared { .. } => None,
    }
}

/// What a reviewer has to see: what it is about, old and new value, and what it allows.
pub(super) fn security_item(item: &SecurityItem) -> String {
    // the sentence on a file names it
    if let SecurityChange::File(refusal) = &item.change {
        return format!("* {} {}\n", security_sign(item), code(&short(&refusal.explanation().to_string())));
    }
    let fields = item.change.fields();
    let line = |values: &str| format!("* {} {}{values}: {}\n", security_sign(item), subject(item), meaning(item));
    let is_edit = matches!(item.change, SecurityChange::TreeEdit { .. } | SecurityChange::LockEdit { .. });
    match fields.as_slice() {
        [] => line(""),
        [FieldChange { change: ValueChange::Added(after), .. }] if !is_edit => {
            line(&format!(", none → {}", code(&short(after))))
        }
        [FieldChange { change: ValueChange::Removed(before), .. }] if !is_edit => {
            line(&format!(", {} → none", code(&short(before))))
        }
        [FieldChange { change: ValueChange::Changed(before, after), .. }] if !is_edit => {
            line(&format!(", {} → {}", code(&short(before)), code(&short(after))))
        }
        fields => {
            let shown = fields.iter().take(MOST_FIELDS).flat_map(field_lines).take(MOST_LINES);
            let mut lines: Vec<String> = shown.collect();
            let more = fields.len().saturating_sub(MOST_FIELDS);
            if more > 0 {
                lines.push(format!("# {more} more field{}", plural(more)));
            }
            // in a list, what belongs to an entry is indented
            let fenced = fence("diff", &lines).trim_end().replace('\n', "\n  ");
            format!("{}\n  {fenced}\n\n", line("").trim_end())
        }
    }
}

pub(super) fn security_in_short(item: &SecurityItem) -> String {
    format!("* {} {}\n", security_sign(item), subject(item))
}

fn security_sign(item: &SecurityItem) -> &'static str {
    if item.refused { ":no_entry: **refused**" } else { ":warning:" }
}

/// Whether subject and sentence hold nothing but our own text and names of clusters, and need no code.
fn is_ours(change: &SecurityChange) -> [bool; 2] {
    match change {
        SecurityChange::Links(_)
        | SecurityChange::Share(_)
        | SecurityChange::HandOver { .. }
        | SecurityChange::Contested { .. }
        | SecurityChange::NewCluster { .. }
        | SecurityChange::Spec { .. }
        | SecurityChange::Policy { .. } => [true, true],
        SecurityChange::Cut { .. } => [true, false],
        SecurityChange::Override { .. }
        | SecurityChange::LockEdit { .. }
        | SecurityChange::TreeEdit { .. }
        | SecurityChange::SecretByHand { .. }
        | SecurityChange::Document { .. } => [false, true],
        SecurityChange::File(_) | SecurityChange::BaseNotCompared { .. } => [false, false],
    }
}

/// What it is about.
fn subject(item: &SecurityItem) -> String {
    let [is_ours, _] = is_ours(&item.change);
    let text = item.change.subject();
    if is_ours { format!("**{}**", plain(&text)) } else { code(&short(&text)) }
}

fn meaning(item: &SecurityItem) -> String {
    let [_, is_ours] = is_ours(&item.change);
    let text = item.change.explanation().to_string();
    if is_ours { plain(&text) } else { code(&short(&text)) }
}

pub(super) fn is_held_back(change: &TrustChange) -> bool {
    change.verdict != Verdict::Approved
}

/// The sign of a verdict, its word, and what to do about it.
fn verdict(change: &TrustChange) -> (&'static str, &'static str, String) {
    let name = change.name();
    match change.verdict {
        Verdict::HeldBack => {
            let command = code(&format!("engine apply --accept-trust {name}"));
            (":warning:", "held back", format!("If it is meant: {command}"))
        }
        Verdict::Proposed => (":warning:", "not accepted yet", format!("Merging this accepts {}.", code(&name))),
        Verdict::Approved => (":warning:", "accepted", format!("A run with this plan takes {}.", code(&name))),
        Verdict::Refused => (":no_entry:", "refused", String::new()),
    }
}

pub(super) fn trust_change(change: &TrustChange) -> String {
    let (sign, word, advice) = verdict(change);
    let mut text = format!("\n### {sign} Trust change of {}: {word}\n", code(change.cluster.as_str()));
    if let Some(reader) = &change.read_by {
        text.push_str(&format!("\nread by {}\n", code(reader.as_str())));
    }
    for finding in &change.findings {
        let what = format!("**{} of {}**", finding.what, code(change.cluster.as_str()));
        text.push_str(&format!("\n{what}: {}\n", code(&short(&finding.meaning.to_string()))));
        let before = finding.before.iter().map(|value| format!("- {value}"));
        let after = finding.after.iter().map(|value| format!("+ {value}"));
        text.push_str(&fence("diff", &before.chain(after).collect::<Vec<_>>()));
    }
    if !advice.is_empty() {
        text.push_str(&format!("\n{advice}\n"));
    }
    text
}

pub(super) fn trust_change_in_short(change: &TrustChange) -> String {
    let (sign, word, advice) = verdict(change);
    let what: Vec<&str> = change.findings.iter().map(|finding| finding.what.as_str()).collect();
    let advice = if advice.is_empty() { advice } else { format!(". {advice}") };
    format!("\n* {sign} Trust change of {}: {word}: {}{advice}\n", code(change.cluster.as_str()), what.join(", "))
}
