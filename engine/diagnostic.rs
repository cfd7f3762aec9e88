//! Findings about the input of a user, each with its place, its excerpt and a hint.

use std::fmt::{self, Write as _};
use std::sync::Arc;

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
    /// It is said and the work goes on.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Where, when there is a place.
    pub at: Option<Location>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// The line of the file the place is in.
    pub excerpt: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(at: Option<Location>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, at, message: message.into(), hint: None, excerpt: None }
    }

    /// A refusal at a place.
    pub fn refusal(at: Option<Location>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Refusal, ..Self::error(at, message) }
    }

    /// A warning at a place.
    pub fn warning(at: Option<Location>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(at, message) }
    }

    /// The same finding with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All findings of one reading, errors and warnings, in the order of their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    findings: Vec<Diagnostic>,
}

impl Diagnostics {
    /// No finding yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding.
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
        sorted.sort_by(|a, b| (&a.at, a.severity, &a.message).cmp(&(&b.at, b.severity, &b.message)));
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

/// Most characters of a line that an excerpt shows.
const EXCERPT_WIDTH: usize = 120;

/// The findings as text without colour, one after the other, by place. Ends with a line feed unless there is none.
pub fn render(findings: &Diagnostics) -> String {
    findings.sorted().into_iter().map(render_one).collect::<Vec<_>>().join("\n")
}

fn render_one(finding: &Diagnostic) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Refusal => "refused",
        Severity::Warning => "warning",
    };
    let mut text = format!("{severity}: {}\n", harmless(&finding.message));
    let number = finding.at.as_ref().map_or_else(String::new, |at| at.line.to_string());
    let margin = " ".repeat(number.len());
    if let Some(at) = &finding.at {
        let _ = writeln!(text, "{margin}--> {}", harmless(&at.to_string()));
        if let Some(excerpt) = &finding.excerpt {
            let caret = at.column.saturating_sub(1);
            // A line that is too long is shown from a little before the place on.
            let fits = excerpt.chars().nth(EXCERPT_WIDTH).is_none();
            let skip = if fits || caret < EXCERPT_WIDTH - 20 { 0 } else { caret - 20 };
            let line: String = excerpt.chars().skip(skip).take(EXCERPT_WIDTH).collect();
            let line = harmless(line.trim_end());
            let _ = writeln!(text, "{margin} |\n{number} | {line}\n{margin} | {}^", " ".repeat(caret - skip));
        }
    }
    if let Some(hint) = &finding.hint {
        let _ = writeln!(text, "{margin} = hint: {}", harmless(hint));
    }
    text
}

/// A text whose control characters cannot steer a terminal; as wide as before.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
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
    use super::*;

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
        let at = Location { file: "specs/a.yaml".into(), line: 12, column: 3 };
        let mut finding = Diagnostic::error(Some(at), "unknown field `\u{1b}[2J`").hint("did you mean `b`?");
        finding.excerpt = Some("\t a: 1\u{7}".to_owned());
        let text = render(&finding.clone().into());
        let expected = "error: unknown field `\u{fffd}[2J`\n  --> specs/a.yaml:12:3\n   |\n12 |   a: 1\u{fffd}\n   |   ^\n   = hint: did you mean `b`?\n";
        assert_eq!(text, expected);
        finding.at = finding.at.map(|at| Location { column: 5_000, ..at });
        finding.excerpt = Some("x".repeat(10_000));
        assert!(render(&finding.into()).lines().all(|line| line.chars().count() < 150));
    }

    #[test]
    fn findings_come_by_place() {
        let at = |line| Some(Location { file: "specs/a.yaml".into(), line, column: 1 });
        let mut all = Diagnostics::new();
        all.push(Diagnostic::error(at(9), "late"));
        all.push(Diagnostic::warning(at(2), "early"));
        all.push(Diagnostic::error(at(9), "late"));
        let order: Vec<_> = all.sorted().into_iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(order, ["early", "late"]);
        assert!(all.ok_or(Some(())).is_err());
    }
}
