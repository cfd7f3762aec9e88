//! The outcome of each rule.

use std::fmt;

use serde_json::{Value, json};

use crate::types::text::quoted;

/// Most characters of what a server answered.
const LONGEST_FOUND: usize = 200;

/// How a server fared by one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleVerdict {
    Passed,
    Failed {
        expected: String,
        found: String,
    },
    /// It could not be tried, for this reason.
    Skipped(&'static str),
}

/// A rule, where it is from, and how the server fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOutcome {
    /// Stable name, such as `token-audience-another`.
    pub rule: String,
    /// What is asked of a server.
    pub about: String,
    /// Where the rule comes from.
    pub source: &'static str,
    /// Whether Deckhouse's own server is known to answer otherwise.
    pub differs_in_deckhouse: bool,
    pub verdict: RuleVerdict,
}

/// All outcomes, in the order in which they were tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConformanceReport {
    pub outcomes: Vec<RuleOutcome>,
}

impl ConformanceReport {
    /// Adds a rule: `Ok`, or what was found in the place of what was expected.
    pub(super) fn rule(
        &mut self,
        (rule, about, source): (&str, &str, &'static str),
        differs_in_deckhouse: bool,
        outcome: Result<(), (String, String)>,
    ) {
        let verdict = match outcome {
            Ok(()) => RuleVerdict::Passed,
            Err((expected, found)) => RuleVerdict::Failed { expected, found: quoted(&found, LONGEST_FOUND) },
        };
        self.push((rule, about, source), differs_in_deckhouse, verdict);
    }

    pub(super) fn skip(&mut self, (rule, about, source): (&str, &str, &'static str), reason: &'static str) {
        self.push((rule, about, source), false, RuleVerdict::Skipped(reason));
    }

    fn push(
        &mut self,
        (rule, about, source): (&str, &str, &'static str),
        differs_in_deckhouse: bool,
        verdict: RuleVerdict,
    ) {
        let (rule, about) = (rule.to_owned(), about.to_owned());
        self.outcomes.push(RuleOutcome { rule, about, source, differs_in_deckhouse, verdict });
    }

    /// How many passed, failed and were skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&RuleVerdict) -> bool| self.outcomes.iter().filter(|one| is(&one.verdict)).count();
        let is_failed = |verdict: &RuleVerdict| matches!(verdict, RuleVerdict::Failed { .. });
        let is_skipped = |verdict: &RuleVerdict| matches!(verdict, RuleVerdict::Skipped(_));
        (count(|verdict| *verdict == RuleVerdict::Passed), count(is_failed), count(is_skipped))
    }

    /// One JSON document.
    pub fn json(&self) -> Value {
        let (passed, failed, skipped) = self.counts();
        let rules = self.outcomes.iter().map(|one| {
            let (state, expected, found) = match &one.verdict {
                RuleVerdict::Passed => ("passed", None, None),
                RuleVerdict::Failed { expected, found } => ("failed", Some(expected.clone()), Some(found.clone())),
                RuleVerdict::Skipped(reason) => ("skipped", None, Some((*reason).to_owned())),
            };
            json!({
                "rule": one.rule, "about": one.about, "source": one.source, "state": state, "expected": expected,
                "found": found, "differsInDeckhouse": one.differs_in_deckhouse,
            })
        });
        json!({
            "version": 1, "rules": rules.collect::<Vec<_>>(), "passed": passed, "failed": failed, "skipped": skipped,
        })
    }

    /// A report of tests as CIs read it (the XML that Ant's task `junit` writes).
    pub fn junit(&self, suite: &str) -> String {
        let (_, failed, skipped) = self.counts();
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" skipped=\"{skipped}\">\n",
            escaped(suite),
            self.outcomes.len(),
        );
        for one in &self.outcomes {
            let (class, name) = (escaped(suite), escaped(&one.rule));
            let inner = match &one.verdict {
                RuleVerdict::Passed => String::new(),
                RuleVerdict::Failed { expected, found } => {
                    let message =
                        escaped(&format!("{}: expected {expected}, found {found} ({})", one.about, one.source));
                    format!("<failure message=\"{message}\"/>")
                }
                RuleVerdict::Skipped(reason) => format!("<skipped message=\"{}\"/>", escaped(reason)),
            };
            text += &format!("  <testcase classname=\"{class}\" name=\"{name}\">{inner}</testcase>\n");
        }
        text + "</testsuite>\n"
    }
}

/// Text for people: what failed and what was skipped, each on a line, and the counts.
impl fmt::Display for ConformanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.outcomes {
            match &one.verdict {
                RuleVerdict::Passed => writeln!(f, "passed   {}", one.rule)?,
                RuleVerdict::Failed { expected, found } => {
                    writeln!(f, "failed   {}: {}", one.rule, one.about)?;
                    writeln!(f, "         expected {expected}, found {found}; {}", one.source)?;
                }
                RuleVerdict::Skipped(reason) => writeln!(f, "skipped  {}: {reason}", one.rule)?,
            }
        }
        let (passed, failed, skipped) = self.counts();
        writeln!(f, "\n{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Text in XML: its five characters as entities, and no control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
