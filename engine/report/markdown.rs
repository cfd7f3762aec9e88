//! A plan as a comment on a pull request.
//!
//! What needs a person stands on top and is never folded: trust changes, refusals, failures. Then the changes, folded by
//! cluster. What does not fit is left out from the end, whole blocks at a time, and is counted. Every word that comes from
//! elsewhere stands in code, so it can neither mention anybody, link anywhere nor close what it stands in.

use std::collections::BTreeMap;

use crate::model::layout::KUSTOMIZATION;
use crate::model::trust::{TrustChange, Verdict};
use crate::pipeline::plan::diff::{FieldChange, ValueChange};
use crate::pipeline::plan::{Action, FileStep, ObjectChange, OverrideInForce, Plan, Step, StepState};
use crate::pipeline::template::Overridden;
use crate::report::text::{Fields, in_clusters, summary};
use crate::types::diagnostic::{Diagnostic, Severity};
use crate::types::explanation::Explanation;
use crate::types::name::ClusterName;
use crate::types::text::cut;

/// Most characters of a comment on GitHub; elsewhere it is more.
pub const MOST: usize = 65_536;
/// Kept free for the words that say what was left out.
const RESERVED: usize = 1_000;
/// Most characters of one value.
const LONGEST_VALUE: usize = 400;
/// Most characters of a value of an override.
const LONGEST_OVERRIDDEN: usize = 100;
/// Most lines that show one object.
const MOST_LINES: usize = 60;
/// Most characters of one cluster's fold.
const LARGEST_FOLD: usize = 16_000;
/// Most entries of a list that is not folded.
const MOST_LISTED: usize = 25;

/// Blocks within a budget.
#[derive(Default)]
struct Comment {
    text: String,
    used: usize,
    /// Kept free for what comes later and matters more.
    kept_free: usize,
    /// What was left out, and how often.
    left_out: BTreeMap<&'static str, usize>,
}

impl Comment {
    /// Characters that a block may have.
    fn room(&self) -> usize {
        MOST.saturating_sub(RESERVED + self.kept_free + self.used)
    }

    /// Adds a block when all of it fits.
    fn add(&mut self, block: &str) -> bool {
        let length = block.chars().count();
        let fits = length <= self.room();
        if fits {
            self.text.push_str(block);
            self.used += length;
        }
        fits
    }

    /// Adds a block, or counts it as left out.
    fn block(&mut self, what: &'static str, block: &str) {
        if !self.add(block) {
            self.leave_out(what);
        }
    }

    fn leave_out(&mut self, what: &'static str) {
        *self.left_out.entry(what).or_default() += 1;
    }

    /// Adds each thing in full as long as the rest still fits in short, else in short. `names` are those of the details
    /// and of the thing when they are left out.
    fn each<'t, T>(
        &mut self,
        names: [&'static str; 2],
        things: &'t [T],
        short: impl Fn(&'t T) -> String,
        full: impl Fn(&'t T, usize) -> String,
    ) {
        let lines: Vec<String> = things.iter().map(short).collect();
        let mut after: usize = lines.iter().map(|line| line.chars().count()).sum();
        let kept_free = self.kept_free;
        for (thing, line) in things.iter().zip(&lines) {
            after -= line.chars().count();
            self.kept_free = kept_free + after;
            let room = self.room();
            // what cannot even be named does not keep the first ones from being told
            let in_full = full(thing, room);
            if self.add(&in_full) {
                continue;
            }
            self.kept_free = kept_free;
            let [details, name] = names;
            let name = if self.add(line) { details } else { name };
            self.leave_out(name);
        }
        self.kept_free = kept_free;
    }
}

/// The plan as Markdown of at most [`MOST`] characters.
pub fn plan_markdown(plan: &Plan, title: &str, fields: Fields<'_>) -> String {
    let mut comment = Comment::default();
    let mut head = format!("## {}\n\n**{}**\n", code(&short(title)), summary(plan).replace('\n', "<br>"));
    if !plan.trust_changes.is_empty() {
        let (all, waiting) =
            (plan.trust_changes.len(), plan.trust_changes.iter().filter(|change| is_held_back(change)));
        head.push_str(&format!("\n**{all} trust change{}, {} held back**\n", plural(all), waiting.count()));
    }
    comment.block("the title", &head);
    let of = |is_so: fn(&StepState) -> bool| -> Vec<(&Step, String)> {
        let steps = plan.steps.iter().filter(|step| is_so(&step.state));
        steps.map(|step| (step, step.state.line())).collect()
    };
    let refused = of(|state| matches!(state, StepState::Refused(_)));
    let failed = of(|state| matches!(state, StepState::Failed(_)));
    let waiting = of(|state| matches!(state, StepState::Waiting(_)));
    let lists = [
        ("refused step", listed("### :no_entry: Refused", &refused)),
        ("failed step", listed("### :x: Failed", &failed)),
    ];
    comment.kept_free = lists.iter().flat_map(|(_, (lines, _))| lines).map(|line| line.chars().count()).sum();
    comment.each(
        ["details of a trust change", "trust change"],
        &plan.trust_changes,
        trust_change_in_short,
        |change, _| trust_change(change),
    );
    comment.kept_free = 0;
    for (what, (lines, more)) in lists {
        for line in lines {
            comment.block(what, &line);
        }
        if more > 0 {
            *comment.left_out.entry(what).or_default() += more;
        }
    }
    if !plan.overrides.is_empty() {
        comment.block("the heading of the overrides", "\n### Overrides in force\n\n");
    }
    for line in plan.overrides.iter().take(MOST_LISTED).map(override_in_force) {
        comment.block("override", &line);
    }
    if let Some(more) = plan.overrides.len().checked_sub(MOST_LISTED).filter(|more| *more > 0) {
        *comment.left_out.entry("override").or_default() += more;
    }

    let mut clusters: BTreeMap<&ClusterName, Vec<&ObjectChange>> = BTreeMap::new();
    for step in &plan.steps {
        clusters.entry(&step.id.cluster).or_default().extend(&step.objects);
    }
    let clusters: Vec<_> = clusters.into_iter().filter(|(_, objects)| !objects.is_empty()).collect();
    if !clusters.is_empty() {
        comment.block("the heading of the changes", "\n### Changes\n");
    }
    comment.each(
        ["details of a cluster", "cluster"],
        &clusters,
        |(cluster, objects)| format!("\n* {} {}\n", code(cluster.as_str()), counted(objects)),
        |(cluster, objects), room| cluster_block(cluster, objects, fields, room.min(LARGEST_FOLD)),
    );
    let files: Vec<&FileStep> = plan
        .lock
        .iter()
        .chain(plan.extra.iter().filter(|file| {
            // that a new folder has a list of its files goes without saying
            file.action != Action::Create || !file.path.ends_with(KUSTOMIZATION)
        }))
        .collect();
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
        lines.extend(plan.warnings.iter().map(|warning| format!("warning: {}", warning.explanation.message)));
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
    let mut comment = Comment::default();
    let errors = findings.iter().filter(|finding| finding.severity != Severity::Warning).count();
    let title = if errors == 0 {
        code(&short(message))
    } else {
        format!("**{errors} error{}; nothing was planned**", plural(errors))
    };
    comment.block("the title", &format!("## :x: No plan\n\n{title}\n\n"));
    for finding in findings {
        let at = finding.at.as_ref().map(|at| format!(" in {}", code(&short(&at.to_string())))).unwrap_or_default();
        let Explanation { message, hint, .. } = &finding.explanation;
        let hint = hint.as_ref().map(|hint| format!("<br>hint: {}", code(&short(hint)))).unwrap_or_default();
        comment.block("finding", &format!("* {}{at}{hint}\n", code(&short(message))));
    }
    if let Some(count) = comment.left_out.get("finding") {
        comment.text.push_str(&format!("\n_{count} more findings are left out._\n"));
    }
    comment.text
}

fn is_held_back(change: &TrustChange) -> bool {
    change.verdict == Verdict::HeldBack
}

/// The sign of a verdict, its word, and what to do about it.
fn verdict(change: &TrustChange) -> (&'static str, &'static str, String) {
    let name = format!("{}@{}", change.cluster, change.digest.short(12));
    match change.verdict {
        Verdict::HeldBack => {
            let command = code(&format!("engine apply --accept-trust {name}"));
            (":warning:", "held back", format!("If it is meant: {command}"))
        }
        Verdict::Approved => (":white_check_mark:", "accepted", format!("Merging this accepts {}.", code(&name))),
        Verdict::Refused => (":no_entry:", "refused", String::new()),
    }
}

fn trust_change(change: &TrustChange) -> String {
    let (sign, word, advice) = verdict(change);
    let mut text = format!("\n### {sign} Trust change of {}: {word}\n", code(change.cluster.as_str()));
    for finding in &change.findings {
        text.push_str(&format!("\n**{}**: {}\n", finding.what, code(&short(&finding.meaning.to_string()))));
        let before = finding.before.iter().map(|value| format!("- {value}"));
        let after = finding.after.iter().map(|value| format!("+ {value}"));
        text.push_str(&fence("diff", &before.chain(after).collect::<Vec<_>>()));
    }
    if !advice.is_empty() {
        text.push_str(&format!("\n{advice}\n"));
    }
    text
}

fn trust_change_in_short(change: &TrustChange) -> String {
    let (sign, word, advice) = verdict(change);
    let what: Vec<&str> = change.findings.iter().map(|finding| finding.what.as_str()).collect();
    let advice = if advice.is_empty() { advice } else { format!(". {advice}") };
    format!("\n* {sign} Trust change of {}: {word}: {}{advice}\n", code(change.cluster.as_str()), what.join(", "))
}

fn override_in_force(OverrideInForce { path, overridden, clusters }: &OverrideInForce) -> String {
    let (path, clusters) = (code(&short(path)), in_clusters(clusters));
    let Some(Overridden { object, field, before, after }) = overridden else {
        return format!("* {path}: changes no field {clusters}\n");
    };
    let value = |value: &Option<String>| code(&cut(value.as_deref().unwrap_or("none"), LONGEST_OVERRIDDEN));
    let (object, field) = (code(&short(object)), code(&short(field)));
    format!("* {path}: {object} {field}: {} → {} {clusters}\n", value(before), value(after))
}

/// The lines of a list, and how many steps it leaves out.
fn listed(heading: &str, steps: &[(&Step, String)]) -> (Vec<String>, usize) {
    if steps.is_empty() {
        return (Vec::new(), 0);
    }
    let line = |(step, words): &(&Step, String)| format!("* {}: {}\n", code(&step.id.to_string()), code(&short(words)));
    let lines = steps.iter().take(MOST_LISTED).map(line);
    let lines = std::iter::once(format!("\n{heading}\n\n")).chain(lines).collect();
    (lines, steps.len().saturating_sub(MOST_LISTED))
}

/// A text of somebody's within the limit of one value.
fn short(text: &str) -> String {
    cut(text, LONGEST_VALUE).into_owned()
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
    fold(&format!("{} {}", html_code(cluster), counted(objects)), &fence("diff", &lines))
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

/// A name in code, in HTML. Names hold none of its signs.
fn html_code(name: &ClusterName) -> String {
    format!("<code>{name}</code>")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::trust::{TrustField, TrustFinding, TrustMeaning};
    use crate::pipeline::plan::Reason;
    use crate::types::explanation::Code;
    use crate::types::name::Digest;
    use crate::types::step::{StepId, StepKind};

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
        let (pinned, found) = (words.to_owned(), words.to_owned());
        let meaning = TrustMeaning::ContradictsPin { what: TrustField::RootCa, pinned, found };
        let finding = TrustFinding { what: TrustField::RootCa, before: Some(words.to_owned()), after: None, meaning };
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
            let why = || vec![Explanation::new(Code::KeyMissing, words)];
            let step = |kind, state| Step {
                id: StepId::of(kind, &name(at)),
                objects: (0..objects).map(object).collect(),
                state,
                unproven: Vec::new(),
            };
            plan.steps.push(step(StepKind::RenderTrust, StepState::Refused(why())));
            plan.steps.push(step(StepKind::FetchCa, StepState::Failed(why())));
            plan.steps.push(step(StepKind::RenderRoutes, StepState::Waiting(why())));
        }
        plan.notes.push(words.to_owned());
        plan
    }

    /// The plan with an override that says these words.
    fn overridden(mut plan: Plan, words: &str) -> Plan {
        let words = || words.to_owned();
        let overridden = Overridden { object: words(), field: words(), before: Some(words()), after: Some(words()) };
        for overridden in [Some(overridden), None] {
            let clusters = vec!["c0".parse().unwrap()];
            plan.overrides.push(OverrideInForce { path: words().into(), overridden, clusters });
        }
        plan
    }

    proptest! {
        #[test]
        fn no_word_of_anybody_gets_out_of_its_code_and_all_fits(
            words in "([`~<>@#\\[\\]()!*_\\\\\n\r a-z/:.-]|</details>|```|\u{202e}|https://|www\\.|#1){0,60}",
            clusters in 1_usize..60,
            objects in 0_usize..8,
        ) {
            // to be found again, it holds a word that no text of ours holds
            let words = format!("zq@octocat {words} qz");
            let value = ValueChange::Lines(vec![format!("+{words}"), words.clone()]);
            let fields = |_: &ClusterName, _: &str| vec![FieldChange { path: words.clone(), change: value.clone() }];
            let plan = overridden(plan_of(&words, clusters, objects), &words);
            let text = plan_markdown(&plan, &words, &fields);
            prop_assert!(text.chars().count() <= MOST);
            let outside = outside_code(&text);
            prop_assert_eq!(links(&outside), None, "{}", outside);
            prop_assert_eq!(outside.matches("<details>").count(), outside.matches("</details>").count());
            prop_assert_eq!(text.matches("Trust change of").count(), 1);
            let left: String = outside.replace("<details>", "").replace("</details>", "").replace("<summary>", "")
                .replace("</summary>", "").replace("<code>", "").replace("</code>", "").replace("<br>", "");
            prop_assert!(!left.contains('<') , "{left}");
        }

        #[test]
        fn nor_does_a_word_of_a_finding(
            words in prop::collection::vec("([`<>@#\\[\\]()!*_\\\\\n a-z/:.-]|</details>|https://|www\\.|#1){0,60}", 0..60),
            repeated in 1_usize..40,
        ) {
            let all: Vec<Diagnostic> = words.iter()
                .map(|words| Explanation::new(Code::InvalidYaml, words.repeat(repeated)).hint(words.clone()))
                .map(|words| Diagnostic::error(None, words))
                .collect();
            let message = words.concat();
            let text = findings_markdown(&message, &all.iter().collect::<Vec<_>>());
            prop_assert!(text.chars().count() <= MOST);
            let outside = outside_code(&text);
            prop_assert_eq!(links(&outside), None, "{}", outside);
            prop_assert!(!outside.replace("<br>", "").contains('<') , "{outside}");
        }
    }

    /// What a code host makes a link of, wherever it stands outside code.
    fn links(outside: &str) -> Option<&'static str> {
        ["@", "http", "www.", "#1", "](", "!["].into_iter().find(|link| outside.contains(link))
    }

    #[test]
    fn every_trust_change_is_named_and_refusals_beside_them() {
        for (count, words) in [(5, 300), (80, 300), (300, 30_000)] {
            let words = "w".repeat(words);
            let fields = |_: &ClusterName, _: &str| Vec::new();
            let mut plan = plan_of(&words, 30, 3);
            let one = plan.trust_changes[0].clone();
            let other = |at: usize| TrustChange { cluster: format!("d{at}").parse().unwrap(), ..one.clone() };
            plan.trust_changes = (0..count).map(other).collect();
            let text = plan_markdown(&plan, "mesh", &fields);
            assert!(text.chars().count() <= MOST);
            for at in 0..count {
                assert!(text.contains(&format!("engine apply --accept-trust d{at}@")), "{at} of {count}");
            }
            assert!(text.contains(&format!("**{count} trust changes, {count} held back**")));
            let listed =
                text.lines().filter(|line| line.starts_with("* `render-trust/") || line.starts_with("* `fetch-ca/"));
            assert_eq!(listed.count(), 2 * MOST_LISTED, "{count}");
            assert!(!text.contains("× trust change"), "{count}");
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
