//! Names in sentences.

use std::fmt::Display;

use crate::model::link::Link;

/// Most clusters and links that a sentence names.
const MOST_NAMED: usize = 5;

/// Some names, and how many more there are.
pub(super) fn named<T: Display>(names: impl Iterator<Item = T>) -> String {
    let all: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    // a single one takes no more room than its count
    let shown = if all.len() == MOST_NAMED + 1 { all.len() } else { MOST_NAMED };
    let first = all.iter().take(shown).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(shown) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// A link as it is named in a sentence.
pub(super) fn link_text(link: &Link) -> String {
    format!("{} → {}", link.reader, link.peer)
}
