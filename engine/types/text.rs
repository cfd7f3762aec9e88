//! Texts of others, such as lines of specs, on a terminal: what steers it, shows nothing of itself or turns the order of
//! writing round is shown as an escape, `\u{1b}` for the escape character.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar as _;

/// Styles that this program prints, by their SGR parameters: reset, bold, dim, underlined, and the colours but black and
/// white. None of them hides what is written.
const STYLES: [&str; 10] = ["0", "1", "2", "4", "31", "32", "33", "34", "35", "36"];

/// Whether a character is shown as an escape: control characters, and all that Unicode lets a font draw nothing for (marks
/// of direction, joiners, fillers, tags, variation selectors) or separates lines with.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A text as one line that cannot steer a terminal; line feeds and tabs are shown as escapes, too.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, steers)
}

/// The same for a text of several lines.
pub(crate) fn visible_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| steers(c) && !matches!(c, '\n' | '\t'))
}

fn replaced(text: &str, escape: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&escape) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escape(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The same for a text of ours that holds texts of others: our own styles stay. The printer passes everything through it, so
/// that a text of others that was forgotten may at worst be coloured.
pub(crate) fn visible_but_styles(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c != '\n' && c != '\t' && steers(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, from) = rest.split_at(at);
        out.push_str(&visible_lines(before));
        let length = style_length(from);
        let (style, after) = from.split_at(length.unwrap_or(1));
        match length {
            Some(_) => out.push_str(style),
            None => out.push_str(&visible(style)),
        }
        rest = after;
    }
    out.push_str(&visible_lines(rest));
    Cow::Owned(out)
}

/// The length of the style that a text begins with.
fn style_length(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("\u{1b}[")?;
    let is_style = |style: &&&str| rest.strip_prefix(**style).is_some_and(|rest| rest.starts_with('m'));
    STYLES.iter().find(is_style).map(|style| style.len() + 3)
}

/// The first characters of a text, and a sign when there were more.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((at, _)) => Cow::Owned(format!("{}…", text.get(..at).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// Most characters of what an apiserver, or a library on the way to it, says.
const LONGEST_OF_APISERVER: usize = 240;

/// What an apiserver, or a library on the way to it, says: cut short and with nothing in it that steers.
pub(crate) fn shown_text(text: &str) -> String {
    cut(&text.replace(steers, " "), LONGEST_OF_APISERVER).into_owned()
}

/// Most characters of a text that is repeated because it is not what was wanted in its place.
pub(crate) const LONGEST_QUOTED: usize = 80;
/// Most characters of what a peer wrote.
pub(crate) const LONGEST_OF_PEER: usize = 120;

/// Most characters of a sentence that a peer wrote.
const LONGEST_SENTENCE: usize = 400;

/// A sentence of a peer as it is kept: in one line, with nothing in it that steers, and cut short.
pub(crate) fn sentence_of_peer(text: &str) -> String {
    // what is beyond is not looked at
    let first =
        text.char_indices().nth(LONGEST_SENTENCE + 1).map_or(text, |(at, _)| text.get(..at).unwrap_or_default());
    cut(&visible(first), LONGEST_SENTENCE).into_owned()
}

/// The first characters of a text as a literal has them, control characters and quotation marks as escapes, and a sign when
/// there were more: for a text of others between the parts of a message of ours.
pub(crate) fn quoted(text: &str, most: usize) -> String {
    let first = text.char_indices().nth(most).map_or(text, |(at, _)| text.get(..at).unwrap_or_default());
    let mut quoted: String = first.chars().flat_map(char::escape_debug).collect();
    if first.len() < text.len() {
        quoted.push('…');
    }
    quoted
}

/// Columns that a view that is not moved has at least behind the place.
const BEHIND: usize = 20;

/// A view of a line of others around one of its characters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LineView {
    /// What is shown: at most the wanted columns, and a sign on each side that is cut.
    pub(crate) text: String,
    /// Columns before the character.
    pub(crate) before: usize,
}

impl LineView {
    /// A view of so many columns around the character with this number, from 0.
    pub(crate) fn new(line: &str, character: usize, columns: usize) -> Self {
        let line = line.trim_end();
        let at = line.char_indices().nth(character).map_or(line.len(), |(at, _)| at);
        let (head, tail) = (line.get(..at).unwrap_or_default(), line.get(at..).unwrap_or_default());
        let reach = fitting(tail.chars(), columns).columns;
        let room = |behind: usize| columns.saturating_sub(reach.min(behind));
        let mut before = fitting(head.chars().rev(), room(BEHIND));
        let is_moved = before.cut;
        if is_moved {
            before = fitting(head.chars().rev(), room(columns / 2));
        }
        let behind = fitting(tail.chars(), columns.saturating_sub(before.columns));
        let mut text = String::from(if is_moved { "…" } else { "" });
        text.extend(before.cells.iter().rev().map(String::as_str));
        text.extend(behind.cells.iter().map(String::as_str));
        text.push_str(if behind.cut { "…" } else { "" });
        Self { text, before: before.columns + usize::from(is_moved) }
    }
}

/// Characters as they are shown, as far as they fit.
#[derive(Default)]
struct Fitting {
    cells: Vec<String>,
    columns: usize,
    cut: bool,
}

fn fitting(characters: impl Iterator<Item = char>, columns: usize) -> Fitting {
    let mut fitting = Fitting::default();
    for c in characters {
        let (cell, width) = match c {
            '\t' => ("    ".to_owned(), 4),
            c if steers(c) => {
                let cell = c.escape_default().to_string();
                let width = cell.len();
                (cell, width)
            }
            // a mark above another character takes no column; many of them are cut by their number
            c => (c.to_string(), c.width().unwrap_or(1)),
        };
        if fitting.columns + width > columns || fitting.cells.len() >= 2 * columns {
            fitting.cut = true;
            break;
        }
        fitting.columns += width;
        fitting.cells.push(cell);
    }
    fitting
}

/// Whether two texts are the same but for carriage returns at the ends of lines.
pub fn same_lines(one: &[u8], other: &[u8]) -> bool {
    fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
        text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }
    one == other || lines(one).eq(lines(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_is_shown_and_the_rest_stays() {
        assert_eq!(visible("a\u{1b}[2Jb\nc\td\r\u{9b}\u{7f}"), "a\\u{1b}[2Jb\\nc\\td\\r\\u{9b}\\u{7f}");
        assert_eq!(
            visible("a\u{202e}b\u{2066}\u{200b}\u{feff}\u{e0041}"),
            "a\\u{202e}b\\u{2066}\\u{200b}\\u{feff}\\u{e0041}"
        );
        assert_eq!(visible_lines("a\n\tb\r\n"), "a\n\tb\\r\n");
        for text in ["", "peers › west → `日本` e\u{301} é ✓", "\\u{1b}"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn of_the_sequences_only_styles_of_ours_pass() {
        let ours = "\u{1b}[1m\u{1b}[31merror\u{1b}[0m: x\n\ty";
        assert_eq!(visible_but_styles(ours), ours);
        for (theirs, shown) in [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{1b}[8mhidden", "\\u{1b}[8mhidden"),
            ("\u{1b}[30m\u{1b}[m\u{1b}[1;31m", "\\u{1b}[30m\\u{1b}[m\\u{1b}[1;31m"),
            ("\u{1b}]52;c;aGk=\u{7}m", "\\u{1b}]52;c;aGk=\\u{7}m"),
            ("\u{1b}", "\\u{1b}"),
            ("\u{1b}[\u{1b}[31m", "\\u{1b}[\u{1b}[31m"),
            ("\u{9b}31m\u{202e}", "\\u{9b}31m\\u{202e}"),
        ] {
            assert_eq!(visible_but_styles(theirs), shown);
        }
    }

    #[test]
    fn a_view_keeps_the_place_in_sight_and_knows_its_column() {
        let view = |line: &str, character| {
            let LineView { text, before } = LineView::new(line, character, 120);
            (text, before)
        };
        assert_eq!(view("a: b  ", 3), ("a: b".to_owned(), 3));
        assert_eq!(view("\ta: b", 1), ("    a: b".to_owned(), 4));
        assert_eq!(view("日本: x", 4), ("日本: x".to_owned(), 6));
        assert_eq!(view("e\u{301}: x", 4), ("e\u{301}: x".to_owned(), 3));
        assert_eq!(view("\u{1b}: x", 3), ("\\u{1b}: x".to_owned(), 8));
        assert_eq!(view("a: b", 500), ("a: b".to_owned(), 4));
        assert_eq!(view("", 0), (String::new(), 0));
        let long = "x".repeat(1_000);
        assert_eq!(view(&long, 10), (format!("{}…", "x".repeat(120)), 10));
        assert_eq!(view(&long, 500), (format!("…{}…", "x".repeat(120)), 61));
        assert_eq!(view(&long, 999), (format!("…{}", "x".repeat(120)), 120));
        assert_eq!(view(&long[..120], 119), ("x".repeat(120), 119));
    }

    proptest! {
        #[test]
        fn nothing_that_steers_is_left(text in r"[\x00-\xa0\u{61c}\u{2000}-\u{206f}\u{e0000}-\u{e00ff}日\[m0-9]{0,60}", at in 0..80_usize) {
            prop_assert!(!visible(&text).contains(steers));
            prop_assert!(!LineView::new(&text, at, 40).text.contains(steers));
            prop_assert!(LineView::new(&text, at, 40).text.chars().count() <= 82);
            prop_assert!(!visible_lines(&text).contains(|c| steers(c) && c != '\n' && c != '\t'));
            let shown = visible_but_styles(&text);
            let plain = STYLES.iter().fold(shown.into_owned(), |text, style| text.replace(&format!("\u{1b}[{style}m"), "style"));
            prop_assert!(!plain.contains(|c| steers(c) && c != '\n' && c != '\t'), "{plain:?}");
        }
    }
}
