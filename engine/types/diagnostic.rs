//! Findings about the input of a user, each with its place, its excerpt and a hint.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};

use crate::types::explanation::{Explain, Explanation};
use crate::types::text::{LineView, cut, visible};

/// A place in a file of the checkout. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Path below the checkout.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is planned or written until it is mended.
    Error,
    /// The same, and it is no mistake: what is asked for is refused (exit code 4).
    Refusal,
    /// It is said and the work continues.
    Warning,
}

impl Severity {
    /// `error`, `refused` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Refusal => "refused",
            Self::Warning => "warning",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Error | Self::Refusal => RED,
            Self::Warning => YELLOW,
        }
    }

    /// A message of this severity as people read it, with styles, in one line.
    pub fn line(self, message: &str) -> String {
        let style = self.style();
        format!("{style}{}{style:#}: {}", self.as_str(), one_line(message))
    }
}

/// One finding of files: how severe it is, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Where, when there is a place.
    pub at: Option<Location>,
    /// What is wrong, what it is called by machines, and what to do next.
    pub explanation: Explanation,
    /// The line of the file the place is in.
    pub excerpt: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(at: Option<Location>, what: impl Explain) -> Self {
        Self::new(Severity::Error, at, what)
    }

    /// A refusal at a place.
    pub fn refusal(at: Option<Location>, what: impl Explain) -> Self {
        Self::new(Severity::Refusal, at, what)
    }

    /// A warning at a place.
    pub fn warning(at: Option<Location>, what: impl Explain) -> Self {
        Self::new(Severity::Warning, at, what)
    }

    fn new(severity: Severity, at: Option<Location>, what: impl Explain) -> Self {
        Self { severity, at, explanation: what.explanation(), excerpt: None }
    }
}

/// All findings of one reading, errors and warnings, in the order of their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    findings: Vec<Diagnostic>,
}

impl Diagnostics {
    /// A list without findings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding; [`Self::sorted`] gives them by place.
    pub fn push(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }

    /// Adds all findings of another reading.
    pub fn extend(&mut self, other: Self) {
        self.findings.extend(other.findings);
    }

    /// Gives each finding with a place and without an excerpt its line.
    pub fn excerpts(&mut self, line: impl Fn(&Location) -> Option<String>) {
        for finding in &mut self.findings {
            if finding.excerpt.is_none() {
                finding.excerpt = finding.at.as_ref().and_then(&line);
            }
        }
    }

    /// Whether any finding is an error or a refusal.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity != Severity::Warning)
    }

    /// Whether what stops the run are refusals alone.
    pub fn are_refusals(&self) -> bool {
        self.has_errors() && !self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The findings by file, line and column; without a place first; a finding that came twice once.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<_> = self.findings.iter().collect();
        sorted.sort_by(|a, b| {
            (&a.at, a.severity, &a.explanation.message).cmp(&(&b.at, b.severity, &b.explanation.message))
        });
        sorted.dedup();
        sorted
    }

    /// The value if there is no error, with the warnings; else all findings.
    pub fn ok_or<T>(self, value: Option<T>) -> Result<(T, Self), Self> {
        match value {
            Some(value) if !self.has_errors() => Ok((value, self)),
            _ => Err(self),
        }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(finding: Diagnostic) -> Self {
        Self { findings: vec![finding] }
    }
}

/// Columns of a line that an excerpt shows.
const EXCERPT_WIDTH: usize = 120;
/// Most characters of a message, a path or a hint.
const LONGEST_MESSAGE: usize = 4_000;

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();
const DIM: Style = Style::new().dimmed();

/// The findings as text without colour, one after the other, by place. Ends with a line feed unless there is none.
pub fn render(findings: &Diagnostics) -> String {
    let texts = findings.sorted().into_iter().map(|finding| format!("{}\n", finding.text()));
    anstream::adapter::strip_str(&texts.collect::<Vec<_>>().join("\n")).to_string()
}

impl Diagnostic {
    /// The finding as people read it, with styles: a line for the message, the place with its line of the file, a line for
    /// the hint. No text in it, whoever wrote it, steers a terminal or begins a line.
    pub fn text(&self) -> String {
        let style = self.severity.style();
        let mut lines = vec![self.severity.line(&self.explanation.message)];
        let number = self.at.as_ref().map_or_else(|| " ".to_owned(), |at| at.line.to_string());
        let margin = " ".repeat(number.len());
        if let Some(at) = &self.at {
            let (file, line, column) = (one_line(&at.file), at.line, at.column);
            lines.push(format!("{margin}{DIM}-->{DIM:#} {file}:{line}:{column}"));
            if let Some(excerpt) = &self.excerpt {
                let LineView { text, before } = LineView::new(excerpt, at.column.saturating_sub(1), EXCERPT_WIDTH);
                let gap = if text.is_empty() { "" } else { " " };
                lines.push(format!("{margin} {DIM}|{DIM:#}"));
                lines.push(format!("{DIM}{number} |{DIM:#}{gap}{text}"));
                lines.push(format!("{margin} {DIM}|{DIM:#} {}{style}^{style:#}", " ".repeat(before)));
            }
        }
        if let Some(hint) = &self.explanation.hint {
            lines.push(format!("{margin} {DIM}={DIM:#} {CYAN}hint{CYAN:#}: {}", one_line(hint)));
        }
        lines.join("\n")
    }
}

/// Words of a finding, in one line.
fn one_line(text: &str) -> String {
    cut(&visible(text), LONGEST_MESSAGE).into_owned()
}

/// The nearest of the candidates, if it is near enough to be what was meant: the text is its beginning, or at most a third
/// of the letters and one more differ.
pub fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| {
            let begins = text.len() >= 3 && candidate.starts_with(text);
            (if begins { 0 } else { edit_distance(text, candidate) }, candidate)
        })
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(text.chars().count()) / 3 + 1)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance of two texts, by characters; long texts are cut at 64.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            let cost = diagonal + usize::from(from != *to);
            diagonal = *above;
            left = cost.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::explanation::Code;

    fn explained(message: &str) -> Explanation {
        Explanation::new(Code::InvalidYaml, message)
    }

    #[test]
    fn near_names_are_proposed_and_far_ones_are_not() {
        assert_eq!(did_you_mean("wset", ["east", "west", "north"]), Some("west"));
        assert_eq!(did_you_mean("metadat", ["metadata", "pin"]), Some("metadata"));
        assert_eq!(did_you_mean("net", ["key", "network"]), Some("network"));
        assert_eq!(did_you_mean("zzzz", ["east", "west"]), None);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_finding_is_shown_with_its_line_and_cannot_steer_a_terminal() {
        let at = Location { file: "specs/\u{202e}a.yaml".into(), line: 12, column: 3 };
        let what = explained("unknown field `\u{1b}[2J`\nerror: x").hint("did you mean `b`?\r");
        let mut finding = Diagnostic::error(Some(at), what);
        finding.excerpt = Some("\t a: 1\u{7} ".to_owned());
        let expected = r"error: unknown field `\u{1b}[2J`\nerror: x
  --> specs/\u{202e}a.yaml:12:3
   |
12 |      a: 1\u{7}
   |      ^
   = hint: did you mean `b`?\r
";
        assert_eq!(render(&finding.clone().into()), expected);
        assert!(finding.text().starts_with("\u{1b}[1m\u{1b}[31merror\u{1b}[0m: unknown"), "{:?}", finding.text());
        finding.at = None;
        assert!(render(&finding.into()).ends_with("\n  = hint: did you mean `b`?\\r\n"));
    }

    proptest! {
        #[test]
        fn whoever_wrote_it_a_finding_has_its_lines_and_no_others(
            texts in prop::array::uniform4(prop_oneof!["[ -~]{0,40}", r"[\x00-\xa0\u{61c}\u{2000}-\u{206f}\u{e0000}-\u{e00ff}日\u{301}]{0,300}", "(error: x\n){0,900}"]),
            column in 0..2_000_usize,
            parts in 0..8_usize,
        ) {
            let [message, hint, excerpt, file] = texts;
            let at = (parts & 1 > 0).then(|| Location { file: file.into(), line: 7, column });
            let lines = [2, 5, 1, 1].map(|lines| lines + parts / 4);
            let lines = lines[usize::from(at.is_none()) * 2 + usize::from(parts & 2 > 0)];
            let mut finding = Diagnostic::error(at, explained(&message));
            finding.excerpt = (parts & 2 > 0).then_some(excerpt);
            finding.explanation.hint = (parts & 4 > 0).then_some(hint);
            let text = finding.text();
            prop_assert_eq!(text.lines().count(), lines);
            let odd = |c: char| c != '\n' && (c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c));
            let plain = render(&finding.into());
            prop_assert!(!plain.contains(odd), "{plain:?}");
            for line in plain.lines() {
                let excerpt = line.starts_with("7 |") || line.starts_with("  |");
                prop_assert!(line.chars().count() <= if excerpt { 2 * EXCERPT_WIDTH + 10 } else { LONGEST_MESSAGE + 20 }, "{line:?}");
            }
        }
    }

    #[test]
    fn findings_come_by_place() {
        let at = |line| Some(Location { file: "specs/a.yaml".into(), line, column: 1 });
        let mut all = Diagnostics::new();
        all.push(Diagnostic::error(at(9), explained("late")));
        all.push(Diagnostic::warning(at(2), explained("early")));
        all.push(Diagnostic::error(at(9), explained("late")));
        let order: Vec<_> = all.sorted().into_iter().map(|finding| finding.explanation.message.as_str()).collect();
        assert_eq!(order, ["early", "late"]);
        assert!(all.ok_or(Some(())).is_err());
    }
}
