//! A plan as a comment on a pull request.
//!
//! What needs a person stands on top and is never folded: trust changes, refusals, failures. Then the changes, folded by
//! cluster. What does not fit is left out from the end, whole blocks at a time, and is counted. Every word that comes from
//! elsewhere stands in code, so it can neither mention anybody, link anywhere nor close what it stands in.

use std::collections::BTreeMap;

use super::report::{Fields, summary};
use crate::accept::{TrustChange, Verdict};
use crate::diagnostic::{Diagnostic, Severity};
use crate::diff::{FieldChange, ValueChange};
use crate::name::ClusterName;
use crate::plan::{Action, FileStep, KUSTOMIZATION, ObjectChange, Plan, Step, StepStanding};

/// Most characters of a comment on GitHub; elsewhere it is more.
pub const MOST: usize = 65_536;
/// Kept free for the words that say what was left out.
const RESERVED: usize = 1_000;
/// Most characters of one value.
const LONGEST_VALUE: usize = 400;
/// Most lines that show one object.
const MOST_LINES: usize = 60;
/// Most characters of one cluster's fold.
const LARGEST_FOLD: usize = 16_000;
/// Most entries of a list that is not folded.
const MOST_LISTED: usize = 25;

/// Blocks within a budget.
struct Comment {
    text: String,
    used: usize,
    /// What was left out, and how often.
    left_out: BTreeMap<&'static str, usize>,
}

impl Comment {
    /// Adds a block when all of it fits.
    fn block(&mut self, what: &'static str, block: &str) -> bool {
        let length = block.chars().count();
        if self.used + length > MOST - RESERVED {
            *self.left_out.entry(what).or_default() += 1;
            return false;
        }
        self.text.push_str(block);
        self.used += length;
        true
    }
}

/// The plan as Markdown of at most [`MOST`] characters.
pub fn plan_markdown(plan: &Plan, title: &str, fields: Fields<'_>) -> String {
    let mut comment = Comment { text: String::new(), used: 0, left_out: BTreeMap::new() };
    comment.block(
        "the title",
        &format!("## {}\n\n**{}**\n", escaped(title), escaped(&summary(plan)).replace('\n', "<br>")),
    );
    for change in &plan.trust_changes {
        if !comment.block("details of a trust change", &trust_change(change, true)) {
            comment.block("trust change", &trust_change(change, false));
        }
    }
    let of = |pick: fn(&StepStanding) -> Option<String>| -> Vec<(&Step, String)> {
        plan.steps.iter().filter_map(|step| Some((step, pick(&step.standing)?))).collect()
    };
    let refused = of(|standing| if let StepStanding::Refused(words) = standing { Some(words.clone()) } else { None });
    let failed = of(|standing| if let StepStanding::Failed(words) = standing { Some(words.clone()) } else { None });
    let waiting = of(|standing| if let StepStanding::Waiting(all) = standing { Some(all.join("; ")) } else { None });
    listed(&mut comment, "### :no_entry: Refused", "refused step", &refused);
    listed(&mut comment, "### :x: Failed", "failed step", &failed);

    let mut clusters: BTreeMap<&ClusterName, Vec<&ObjectChange>> = BTreeMap::new();
    for step in &plan.steps {
        clusters.entry(&step.id.cluster).or_default().extend(&step.objects);
    }
    clusters.retain(|_, objects| !objects.is_empty());
    if !clusters.is_empty() {
        comment.block("the heading of the changes", "\n### Changes\n");
    }
    for (cluster, objects) in clusters {
        let fits = MOST.saturating_sub(RESERVED + comment.used).min(LARGEST_FOLD);
        let block = cluster_block(cluster, &objects, fields, fits);
        if !comment.block("details of a cluster", &block) {
            comment.block("cluster", &format!("\n* {} {}\n", code(cluster.as_str()), counted(&objects)));
        }
    }
    let files: Vec<&FileStep> =
        plan.lock.iter().chain(plan.extra.iter().filter(|file| !file.path.ends_with(KUSTOMIZATION))).collect();
    if !files.is_empty() {
        let lines: Vec<String> = files.iter().map(|file| format!("{} {}", file.action.sign(), file.path)).collect();
        let words = format!("{} file{} of the lock and beside the objects", files.len(), plural(files.len()));
        comment.block("list of files", &fold(&words, &fence("diff", &lines)));
    }
    if !waiting.is_empty() {
        let lines: Vec<String> = waiting.iter().map(|(step, words)| format!("{}: {words}", step.id)).collect();
        let words = format!(
            "{} step{} wait{}",
            waiting.len(),
            plural(waiting.len()),
            if waiting.len() == 1 { "s" } else { "" }
        );
        comment.block("list of waiting steps", &fold(&words, &fence("text", &lines)));
    }
    if !plan.notes.is_empty() || !plan.warnings.is_empty() {
        let mut lines = plan.notes.clone();
        lines.extend(plan.warnings.iter().map(|warning| format!("warning: {}", warning.message)));
        comment.block("notes", &fold(&format!("{} note{}", lines.len(), plural(lines.len())), &fence("text", &lines)));
    }
    let left_out: Vec<String> = comment.left_out.iter().map(|(what, count)| format!("{count} × {what}")).collect();
    if !left_out.is_empty() {
        comment.text.push_str(&format!(
            "\n_Left out, for a comment has its limits: {}. `engine plan -v` in the checkout shows all of it._\n",
            left_out.join(", ")
        ));
    }
    comment.text
}

/// Findings that stopped a plan, as Markdown.
pub fn findings_markdown(message: &str, findings: &[&Diagnostic]) -> String {
    let mut comment = Comment { text: String::new(), used: 0, left_out: BTreeMap::new() };
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let title =
        if errors == 0 { escaped(message) } else { format!("{errors} error{}; nothing was planned", plural(errors)) };
    comment.block("the title", &format!("## :x: No plan\n\n**{title}**\n\n"));
    for finding in findings {
        let at = finding.at.as_ref().map(|at| format!(" in {}", code(&at.to_string()))).unwrap_or_default();
        let hint = finding.hint.as_ref().map(|hint| format!("<br>hint: {}", code(hint))).unwrap_or_default();
        comment.block("finding", &format!("* {}{at}{hint}\n", code(&finding.message)));
    }
    if let Some(count) = comment.left_out.get("finding") {
        comment.text.push_str(&format!("\n_{count} more findings are left out._\n"));
    }
    comment.text
}

fn trust_change(change: &TrustChange, whole: bool) -> String {
    let (sign, word) = match change.verdict {
        Verdict::HeldBack => (":warning:", "held back"),
        Verdict::Approved => (":white_check_mark:", "accepted"),
        Verdict::Refused => (":no_entry:", "refused"),
    };
    let mut text = format!("\n### {sign} Trust change of {}: {word}\n", code(change.cluster.as_str()));
    for finding in &change.findings {
        text.push_str(&format!("\n**{}**: {}\n", escaped(finding.what), code(&finding.meaning)));
        if whole {
            let before = finding.before.iter().map(|value| format!("- {value}"));
            let after = finding.after.iter().map(|value| format!("+ {value}"));
            text.push_str(&fence("diff", &before.chain(after).collect::<Vec<_>>()));
        }
    }
    let name = format!("{}@{}", change.cluster, change.digest.short(12));
    match change.verdict {
        Verdict::HeldBack => {
            text.push_str(&format!("\nIf it is meant: {}\n", code(&format!("engine apply --accept-trust {name}"))));
        }
        Verdict::Approved => text.push_str(&format!("\nMerging this accepts {}.\n", code(&name))),
        Verdict::Refused => {}
    }
    text
}

fn listed(comment: &mut Comment, heading: &str, what: &'static str, steps: &[(&Step, String)]) {
    if steps.is_empty() {
        return;
    }
    comment.block(what, &format!("\n{heading}\n\n"));
    for (step, words) in steps.iter().take(MOST_LISTED) {
        comment.block(what, &format!("* {}: {}\n", code(&step.id.to_string()), code(words)));
    }
    if steps.len() > MOST_LISTED {
        *comment.left_out.entry(what).or_default() += steps.len() - MOST_LISTED;
    }
}

fn cluster_block(cluster: &ClusterName, objects: &[&ObjectChange], fields: Fields<'_>, most: usize) -> String {
    let mut lines = Vec::new();
    let mut length = 0;
    let mut named = 0;
    for object in objects {
        let mut own = vec![format!("{} {}", object_sign(object.action), object.object)];
        if length < most {
            let changes = fields(cluster, &object.path);
            let shown = changes.iter().flat_map(field_lines).take(MOST_LINES);
            own.extend(shown);
            if own.len() > MOST_LINES {
                own.push("  …".to_owned());
            }
        }
        let size: usize = own.iter().map(|line| line.chars().count() + 1).sum();
        if length + size + 400 > most && !lines.is_empty() {
            named += 1;
            own.truncate(1);
        }
        length += own.iter().map(|line| line.chars().count() + 1).sum::<usize>();
        lines.extend(own);
    }
    if named > 0 {
        lines.push(format!("# fields of {named} objects are left out"));
    }
    fold(&format!("{} {}", html_code(cluster.as_str()), counted(objects)), &fence("diff", &lines))
}

/// The sign of an object in a diff: GitHub colours `+`, `-` and `!`.
fn object_sign(action: Action) -> char {
    match action {
        Action::Create => '+',
        Action::Update => '!',
        Action::Delete => '-',
    }
}

fn field_lines(change: &FieldChange) -> Vec<String> {
    let value = |text: &String| {
        let short: String = text.chars().take(LONGEST_VALUE).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    };
    let path = &change.path;
    match &change.change {
        ValueChange::Added(after) => vec![format!("+   {path}: {}", value(after))],
        ValueChange::Removed(before) => vec![format!("-   {path}: {}", value(before))],
        ValueChange::Changed(before, after) => {
            vec![format!("-   {path}: {}", value(before)), format!("+   {path}: {}", value(after))]
        }
        ValueChange::Lines(lines) => {
            let sign = |line: &String| line.chars().next().filter(|c| matches!(c, '+' | '-')).unwrap_or(' ');
            let own = lines.iter().map(|line| format!("{}     {}", sign(line), value(&line.chars().skip(1).collect())));
            std::iter::once(format!("    {path}:")).chain(own).collect()
        }
    }
}

fn counted(objects: &[&ObjectChange]) -> String {
    let count = |action| objects.iter().filter(|object| object.action == action).count();
    let words = [(Action::Create, "created"), (Action::Update, "updated"), (Action::Delete, "deleted")];
    let words = words.map(|(action, word)| (count(action), word));
    let words: Vec<String> =
        words.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    words.join(", ")
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Folded content. `summary` is HTML.
fn fold(summary: &str, content: &str) -> String {
    format!("\n<details><summary>{summary}</summary>\n\n{content}\n</details>\n")
}

/// Lines in a fence that nothing in them can close.
fn fence(language: &str, lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    let longest = lines.iter().map(|line| backticks(line)).max().unwrap_or_default();
    let fence = "`".repeat(3.max(longest + 1));
    format!("{fence}{language}\n{}\n{fence}\n", lines.join("\n"))
}

/// Text in a code span that nothing in it can close.
fn code(text: &str) -> String {
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
fn backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}

/// One line without control characters and without what changes the order of writing.
fn plain(text: &str) -> String {
    let odd = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if odd(c) { ' ' } else { c }).collect()
}

fn html_code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// Text outside code: nothing in it is Markdown or HTML.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in plain_but_lines(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("&#64;"),
            '`' | '*' | '_' | '[' | ']' | '\\' | '#' | '|' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

fn plain_but_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accept::TrustFinding;
    use crate::name::Digest;
    use crate::plan::Reason;
    use crate::step::{StepId, StepKind};

    /// What is left of a text without fences and code spans, as a reader of `CommonMark` takes them.
    fn outside_code(text: &str) -> String {
        let mut out = String::new();
        let mut fence: Option<usize> = None;
        for line in text.lines() {
            let ticks = line.len() - line.trim_start_matches('`').len();
            match fence {
                Some(open) if ticks >= open && line.trim_start_matches('`').trim().is_empty() => fence = None,
                Some(_) => {}
                None if ticks >= 3 => fence = Some(ticks),
                None => {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        assert!(fence.is_none(), "a fence is open at the end");
        let mut rest = out.as_str();
        let mut outside = String::new();
        while let Some(at) = rest.find('`') {
            let run = rest[at..].len() - rest[at..].trim_start_matches('`').len();
            if rest[..at].ends_with('\\') {
                outside.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
                continue;
            }
            outside.push_str(&rest[..at]);
            let body = &rest[at + run..];
            let mut from = 0;
            let close = loop {
                let next = body[from..].find('`').map(|found| from + found).expect("a code span is open at the end");
                let length = body[next..].len() - body[next..].trim_start_matches('`').len();
                if length == run {
                    break next;
                }
                from = next + length;
            };
            assert!(!body[..close].contains('\n'), "a code span goes over lines");
            rest = &body[close + run..];
        }
        outside + rest
    }

    fn plan_of(words: &str, clusters: usize, objects: usize) -> Plan {
        let name = |at: usize| format!("c{at}").parse::<ClusterName>().unwrap();
        let mut plan = Plan::default();
        let finding =
            TrustFinding { what: "root CA", before: Some(words.to_owned()), after: None, meaning: words.to_owned() };
        plan.trust_changes.push(TrustChange {
            cluster: name(0),
            digest: Digest::of(b"x"),
            findings: vec![finding],
            verdict: Verdict::HeldBack,
        });
        for at in 0..clusters {
            let object = |index: usize| ObjectChange {
                path: format!("rendered/c{at}/{index}.yaml"),
                object: format!("ConfigMap {words}"),
                action: [Action::Create, Action::Update, Action::Delete][index % 3],
                reason: Reason::Missing,
                digest: Digest::of(b"x"),
                text: None,
            };
            let step = |kind, standing| Step {
                id: StepId::of(kind, &name(at)),
                objects: (0..objects).map(object).collect(),
                standing,
                unproven: Vec::new(),
            };
            plan.steps.push(step(StepKind::RenderTrust, StepStanding::Refused(words.to_owned())));
            plan.steps.push(step(StepKind::FetchCa, StepStanding::Failed(words.to_owned())));
            plan.steps.push(step(StepKind::RenderRoutes, StepStanding::Waiting(vec![words.to_owned()])));
        }
        plan.notes.push(words.to_owned());
        plan
    }

    proptest! {
        #[test]
        fn no_word_of_anybody_gets_out_of_its_code_and_all_fits(
            words in "([`~<>@#\\[\\]()!*_\\\\\n\r a-z/:.-]|</details>|```|\u{202e}){0,60}",
            clusters in 1_usize..60,
            objects in 0_usize..8,
        ) {
            // to be found again, it holds a word that no text of ours holds
            let words = format!("zq@octocat {words} qz");
            let value = ValueChange::Lines(vec![format!("+{words}"), words.clone()]);
            let fields = |_: &ClusterName, _: &str| vec![FieldChange { path: words.clone(), change: value.clone() }];
            let text = plan_markdown(&plan_of(&words, clusters, objects), &words, &fields);
            prop_assert!(text.chars().count() <= MOST);
            let outside = outside_code(&text);
            prop_assert!(!outside.contains('@'), "{outside}");
            prop_assert_eq!(outside.matches("<details>").count(), outside.matches("</details>").count());
            prop_assert_eq!(text.matches("Trust change of").count(), 1);
            let left: String = outside.replace("<details>", "").replace("</details>", "").replace("<summary>", "")
                .replace("</summary>", "").replace("<code>", "").replace("</code>", "").replace("<br>", "");
            prop_assert!(!left.contains('<') , "{left}");
        }
    }

    #[test]
    fn what_needs_a_person_survives_a_plan_of_any_size() {
        let words = "w".repeat(300);
        let fields = |_: &ClusterName, _: &str| {
            vec![FieldChange { path: "data".to_owned(), change: ValueChange::Added(words.clone()) }]
        };
        let text = plan_markdown(&plan_of(&words, 1000, 3), "mesh", &fields);
        assert!((MOST - 2 * RESERVED..=MOST).contains(&text.chars().count()), "{}", text.chars().count());
        assert!(text.contains("engine apply --accept-trust c0@"));
        assert!(text.contains("Left out") && text.contains("refused step"));
    }
}
