//! A plan as a comment on a pull request.
//!
//! What needs a person is on top and is never folded: what is relevant to security, refusals, failures. Then the changes,
//! folded by cluster. What does not fit is left out from the end, whole blocks at a time, and is counted; an object that is not
//! shown whole is named on top. Every word that comes from elsewhere is in code spans, so it can neither mention anyone, link
//! anywhere nor close what holds it.

use std::collections::BTreeMap;

use crate::model::layout::KUSTOMIZATION;
use crate::pipeline::plan::diff::{FieldChange, ValueChange};
use crate::pipeline::plan::{Action, FileStep, ObjectChange, OverrideInForce, Plan, Step, StepState};
use crate::pipeline::template::Overridden;
use crate::report::fields::condensed;
use crate::report::markdown_security::{
    is_held_back, most_of, security_in_short, security_item, trust_change, trust_change_in_short,
};
use crate::report::security::is_shown_by_files;
use crate::report::spans::{LONGEST_FIELD, MOST_LINES, code, fence, field_lines, fold, html_code, plural, short};
use crate::report::text::{FieldDiffs, in_clusters, summary};
use crate::types::diagnostic::{Diagnostic, Severity};
use crate::types::explanation::Explanation;
use crate::types::name::ClusterName;
use crate::types::object::{
    INPUTS_ANNOTATION, MANAGED_BY, MESH_LABEL, OWNER_LABEL, PART_OF, STEPS_ANNOTATION, SYNC_WAVE,
};
use crate::types::text::cut;

/// Most characters of a comment: GitHub takes 65,536, elsewhere it is more, and whoever posts it adds a line or two.
pub const MOST: usize = 65_000;
/// Kept free for the message that says what was left out.
const RESERVED: usize = 1_000;
/// Most characters of a value of an override.
const LONGEST_OVERRIDDEN: usize = 100;
/// Most characters of one cluster's fold.
const LARGEST_FOLD: usize = 16_000;
/// Most entries of a list that is not folded.
const MOST_LISTED: usize = 25;
/// Kept free for the names of objects that are not shown whole.
const RESERVED_FOR_CUT: usize = 3_000;

/// Heading of what failed, and what becomes of it.
const FAILED: &str =
    "### :x: Failed\n\nThe last good state of these clusters stays: no file and no link of them changes for this.";

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
    fn left(&self) -> usize {
        MOST.saturating_sub(RESERVED + self.kept_free + self.used)
    }

    /// Adds a block when all of it fits.
    fn add(&mut self, block: &str) -> bool {
        let length = block.chars().count();
        let fits = length <= self.left();
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
        self.leave_out_more(what, 1);
    }

    fn leave_out_more(&mut self, what: &'static str, count: usize) {
        if count > 0 {
            *self.left_out.entry(what).or_default() += count;
        }
    }

    /// Adds each thing in full as long as the rest still fits in short, else in short. `names` are those of the details
    /// and of the thing when they are left out.
    fn each<'t, T>(
        &mut self,
        names: [&'static str; 2],
        things: &'t [T],
        short: impl Fn(&'t T) -> String,
        mut full: impl FnMut(&'t T, usize) -> String,
    ) -> Vec<bool> {
        let mut are_whole = Vec::new();
        let lines: Vec<String> = things.iter().map(short).collect();
        let mut after: usize = lines.iter().map(|line| line.chars().count()).sum();
        let kept_free = self.kept_free;
        for (thing, line) in things.iter().zip(&lines) {
            after -= line.chars().count();
            self.kept_free = kept_free + after;
            let budget = self.left();
            // what cannot even be named does not keep the first ones from being shown
            let in_full = full(thing, budget);
            let is_whole = self.add(&in_full);
            are_whole.push(is_whole);
            if is_whole {
                continue;
            }
            self.kept_free = kept_free;
            let [details, name] = names;
            let name = if self.add(line) { details } else { name };
            self.leave_out(name);
        }
        self.kept_free = kept_free;
        are_whole
    }
}

/// The plan as Markdown of at most [`MOST`] characters. A `brief` one names objects and shows nothing of them.
pub fn plan_markdown(plan: &Plan, title: &str, fields: FieldDiffs<'_>, brief: bool) -> String {
    let sign = match (plan.is_refused(), plan.security.is_empty() && plan.trust_changes.is_empty()) {
        (true, _) => ":no_entry: ",
        (false, false) => ":warning: ",
        (false, true) => "",
    };
    let mut head = format!("## {sign}{}\n\n{}\n", code(&short(title)), counted_by(plan));
    if !plan.trust_changes.is_empty() {
        let (all, waiting) =
            (plan.trust_changes.len(), plan.trust_changes.iter().filter(|change| is_held_back(change)));
        head.push_str(&format!("\n**{all} trust change{}, {} not accepted**\n", plural(all), waiting.count()));
    }
    let mut comment = Comment { used: head.chars().count() + RESERVED_FOR_CUT, ..Comment::default() };
    let of = |is_so: fn(&StepState) -> bool| -> Vec<(&Step, String)> {
        let steps = plan.steps.iter().filter(|step| is_so(&step.state));
        steps.map(|step| (step, step.state.line())).collect()
    };
    let mut refused = of(|state| matches!(state, StepState::Refused(_)));
    refused.retain(|(step, _)| !is_shown_by_files(step));
    let failed = of(|state| matches!(state, StepState::Failed(_)));
    let lists =
        [("refused step", listed("### :no_entry: Refused", &refused)), ("failed step", listed(FAILED, &failed))];
    comment.kept_free = lists.iter().flat_map(|(_, (lines, _))| lines).map(|line| line.chars().count()).sum();
    security_relevant(plan, &mut comment);
    comment.kept_free = 0;
    for (what, (lines, more)) in lists {
        for line in lines {
            comment.block(what, &line);
        }
        comment.leave_out_more(what, more);
    }
    if !plan.overrides.is_empty() {
        comment.block("the heading of the overrides", "\n### Overrides in force\n\n");
    }
    for line in plan.overrides.iter().take(MOST_LISTED).map(override_in_force) {
        comment.block("override", &line);
    }
    comment.leave_out_more("override", plan.overrides.len().saturating_sub(MOST_LISTED));
    let cut = changes(plan, fields, brief, &mut comment);
    let waiting = of(|state| matches!(state, StepState::Waiting(_)));
    beside(plan, &waiting, &mut comment);
    let left_out: Vec<String> = comment.left_out.iter().map(|(what, count)| format!("{count} × {what}")).collect();
    if !left_out.is_empty() {
        comment.text.push_str(&format!(
            "\n_Left out, for a comment has its limits: {}. `engine plan -v` in the checkout shows all of it._\n",
            left_out.join(", ")
        ));
    }
    if !cut.is_empty() && !brief {
        head.push_str(&not_whole(&cut));
    }
    head + &comment.text
}

/// What needs a person: trust changes, then what is refused, then what has to be seen.
fn security_relevant(plan: &Plan, comment: &mut Comment) {
    if plan.trust_changes.is_empty() && plan.security.is_empty() {
        return;
    }
    comment.block("the heading of what is to be reviewed first", "\n### Review first\n\n");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut items = Vec::new();
    for item in &plan.security {
        match most_of(&item.change) {
            None => items.push(item),
            Some((what, most)) => {
                let count = counts.entry(what).or_default();
                *count += 1;
                if *count <= most {
                    items.push(item);
                } else {
                    comment.leave_out(what);
                }
            }
        }
    }
    let kept_free = comment.kept_free;
    let lines: usize = items.iter().map(|item| security_in_short(item).chars().count()).sum();
    comment.kept_free = kept_free + lines;
    comment.each(
        ["details of a trust change", "trust change"],
        &plan.trust_changes,
        trust_change_in_short,
        |change, _| trust_change(change),
    );
    comment.kept_free = kept_free;
    if !plan.trust_changes.is_empty() && !items.is_empty() {
        comment.block("a line", "\n");
    }
    let names = ["details of a security-relevant change", "security-relevant change"];
    comment.each(names, &items, |item| security_in_short(item), |item, _| security_item(item));
}

/// The objects that change, folded by cluster. Gives the paths of those that are not shown whole.
fn changes(plan: &Plan, fields: FieldDiffs<'_>, brief: bool, comment: &mut Comment) -> Vec<String> {
    let mut clusters: BTreeMap<&ClusterName, Vec<&ObjectChange>> = BTreeMap::new();
    for step in &plan.steps {
        clusters.entry(&step.id.cluster).or_default().extend(&step.objects);
    }
    let clusters: Vec<_> = clusters.into_iter().filter(|(_, objects)| !objects.is_empty()).collect();
    if !clusters.is_empty() {
        comment.block("the heading of the changes", "\n### Changes\n");
    }
    let mut cut = Vec::new();
    let are_whole = comment.each(
        ["details of a cluster", "cluster"],
        &clusters,
        |(cluster, objects)| format!("\n* {} {}\n", code(cluster.as_str()), counted(objects)),
        |(cluster, objects), budget| {
            let (block, cut_here) = cluster_block(cluster, objects, fields, (budget.min(LARGEST_FOLD), brief));
            cut.push(cut_here);
            block
        },
    );
    let cut = are_whole.iter().zip(&clusters).zip(cut).flat_map(|((is_whole, (_, objects)), cut)| {
        if *is_whole { cut } else { objects.iter().map(|object| object.path.clone()).collect() }
    });
    cut.collect()
}

/// What is no object: files, what waits, notes.
fn beside(plan: &Plan, waiting: &[(&Step, String)], comment: &mut Comment) {
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
        let message = format!("{} file{} of the lock and beside the objects", files.len(), plural(files.len()));
        comment.block("list of files", &fold(&message, &fence("diff", &lines)));
    }
    if !waiting.is_empty() {
        let lines: Vec<String> = waiting.iter().map(|(step, message)| format!("{}: {message}", step.id)).collect();
        let message = format!(
            "{} step{} wait{}",
            waiting.len(),
            plural(waiting.len()),
            if waiting.len() == 1 { "s" } else { "" }
        );
        comment.block("list of waiting steps", &fold(&message, &fence("text", &lines)));
    }
    let read: Vec<String> =
        plan.steps.iter().filter_map(|step| Some(format!("{}: read by {}", step.id, step.read_by.as_ref()?))).collect();
    if !read.is_empty() {
        let message = format!("{} document{} read by relays", read.len(), plural(read.len()));
        comment.block("list of what relays read", &fold(&message, &fence("text", &read)));
    }
    if !plan.notes.is_empty() || !plan.warnings.is_empty() {
        let mut lines = plan.notes.clone();
        lines.extend(plan.warnings.iter().map(|warning| format!("warning: {}", warning.explanation.message)));
        comment.block("notes", &fold(&format!("{} note{}", lines.len(), plural(lines.len())), &fence("text", &lines)));
    }
}

/// The counts of a plan; that there is nothing names a revision.
fn counted_by(plan: &Plan) -> String {
    let text = summary(plan);
    if text.starts_with("No changes") { code(&text) } else { format!("**{text}**") }
}

/// Objects that a reader of the comment has not seen.
fn not_whole(cut: &[String]) -> String {
    let mut text = format!(
        "\n:no_entry: **{} changed object{} not shown whole here; read the whole plan before you approve:**",
        cut.len(),
        if cut.len() == 1 { " is" } else { "s are" }
    );
    for (at, path) in cut.iter().enumerate() {
        let next = format!("{} {}", if at == 0 { "" } else { "," }, code(&short(path)));
        if text.chars().count() + next.chars().count() + 40 > RESERVED_FOR_CUT {
            text.push_str(&format!(" and {} more", cut.len() - at));
            break;
        }
        text.push_str(&next);
    }
    text.push('\n');
    text
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
    let line =
        |(step, message): &(&Step, String)| format!("* {}: {}\n", code(&step.id.to_string()), code(&short(message)));
    let lines = steps.iter().take(MOST_LISTED).map(line);
    let lines = std::iter::once(format!("\n{heading}\n\n")).chain(lines).collect();
    (lines, steps.len().saturating_sub(MOST_LISTED))
}

/// The changes of a cluster, and the paths of objects that are not shown whole.
fn cluster_block(
    cluster: &ClusterName,
    objects: &[&ObjectChange],
    fields: FieldDiffs<'_>,
    (most, brief): (usize, bool),
) -> (String, Vec<String>) {
    let mut lines = Vec::new();
    let mut cut = Vec::new();
    let mut length = 0;
    let mut named = 0;
    for object in objects {
        let mut own = vec![format!("{} {}", object_sign(object.action), object.object)];
        let mut is_whole = brief || length < most;
        if length < most && !brief {
            let mut changes = condensed(fields(cluster, &object.path));
            changes.retain(|change| object.action != Action::Create || !is_of_every_object(change));
            let all: Vec<String> = changes.iter().flat_map(field_lines).collect();
            let more = all.len().saturating_sub(MOST_LINES);
            own.extend(all.into_iter().take(MOST_LINES));
            if more > 0 {
                own.push(format!("# {more} more lines of {}", object.object));
            }
            is_whole = more == 0 && !changes.iter().any(is_cut);
        }
        let size: usize = own.iter().map(|line| line.chars().count() + 1).sum();
        if length + size + 400 > most && !lines.is_empty() {
            named += 1;
            is_whole = false;
            own.truncate(1);
        }
        if !is_whole {
            cut.push(object.path.clone());
        }
        length += own.iter().map(|line| line.chars().count() + 1).sum::<usize>();
        lines.extend(own);
    }
    if named > 0 {
        lines.push(format!("# fields of {named} objects are left out"));
    }
    (fold(&format!("{} {}", html_code(cluster), counted(objects)), &fence("diff", &lines)), cut)
}

/// The sign of an object in a diff: GitHub colours `+`, `-` and `!`.
fn object_sign(action: Action) -> char {
    match action {
        Action::Create => '+',
        Action::Update => '!',
        Action::Delete => '-',
    }
}

/// Whether a new field is one that every object of ours has.
fn is_of_every_object(change: &FieldChange) -> bool {
    const LABELS: [&str; 5] = [MANAGED_BY, MESH_LABEL, OWNER_LABEL, PART_OF, "app.kubernetes.io/name"];
    const ANNOTATIONS: [&str; 3] = [SYNC_WAVE, STEPS_ANNOTATION, INPUTS_ANNOTATION];
    let key = |prefix: &str| {
        let rest = change.path.strip_prefix(prefix)?.strip_prefix("[\"")?;
        rest.strip_suffix("\"]")
    };
    let is_label = key("metadata.labels").is_some_and(|key| LABELS.contains(&key));
    let is_annotation = key("metadata.annotations").is_some_and(|key| ANNOTATIONS.contains(&key));
    let is_added = matches!(change.change, ValueChange::Added(_));
    is_added && (is_label || is_annotation || change.path == "metadata.name")
}

/// Whether something of a field is not shown.
fn is_cut(change: &FieldChange) -> bool {
    let is_long = |text: &String| text.chars().count() > LONGEST_FIELD;
    match &change.change {
        ValueChange::Added(value) | ValueChange::Removed(value) => is_long(value),
        ValueChange::Changed(before, after) => is_long(before) || is_long(after),
        ValueChange::Lines(lines) => {
            lines.iter().any(is_long) || lines.last().is_some_and(|last| last.starts_with("  … and "))
        }
    }
}

fn counted(objects: &[&ObjectChange]) -> String {
    let count = |action| objects.iter().filter(|object| object.action == action).count();
    let parts = [(Action::Create, "created"), (Action::Update, "updated"), (Action::Delete, "deleted")];
    let parts = parts.map(|(action, word)| (count(action), word));
    let parts: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::trust::{TrustChange, TrustField, TrustFinding, TrustMeaning, Verdict};
    use crate::pipeline::plan::{Reason, SecurityItem};
    use crate::types::explanation::Code;
    use crate::types::name::Digest;
    use crate::types::step::{StepId, StepKind};

    /// What is left of a text without fences and code spans, as a reader of `CommonMark` takes them.
    fn outside_code(text: &str) -> String {
        let mut out = String::new();
        let mut fence: Option<usize> = None;
        for line in text.lines() {
            // a fence of an entry of a list is indented as the entry is
            let line = line.strip_prefix("  ").unwrap_or(line);
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

    fn plan_of(message: &str, clusters: usize, objects: usize) -> Plan {
        let name = |at: usize| format!("c{at}").parse::<ClusterName>().unwrap();
        let mut plan = Plan::default();
        let (pinned, found) = (message.to_owned(), message.to_owned());
        let meaning = TrustMeaning::ContradictsPin { what: TrustField::RootCa, pinned, found };
        let finding = TrustFinding { what: TrustField::RootCa, before: Some(message.to_owned()), after: None, meaning };
        plan.trust_changes.push(TrustChange {
            cluster: name(0),
            digest: Digest::of(b"x"),
            findings: vec![finding],
            verdict: Verdict::HeldBack,
            read_by: name(1).into(),
        });
        for at in 0..clusters {
            let object = |index: usize| ObjectChange {
                path: format!("rendered/c{at}/{index}.yaml"),
                object: format!("ConfigMap {message}"),
                action: [Action::Create, Action::Update, Action::Delete][index % 3],
                reason: Reason::Missing,
                digest: Digest::of(b"x"),
                text: None,
            };
            let why = || vec![Explanation::new(Code::KeyMissing, message)];
            let step = |kind, state| Step {
                read_by: None,
                id: StepId::of(kind, &name(at)),
                objects: (0..objects).map(object).collect(),
                state,
                unproven: Vec::new(),
            };
            plan.steps.push(step(StepKind::RenderTrust, StepState::Refused(why())));
            plan.steps.push(step(StepKind::FetchCa, StepState::Failed(why())));
            plan.steps.push(step(StepKind::RenderRoutes, StepState::Waiting(why())));
        }
        plan.notes.push(message.to_owned());
        plan
    }

    /// The plan with overrides and security-relevant changes that say this.
    fn overridden(mut plan: Plan, message: &str) -> Plan {
        plan.security = SecurityItem::all_saying(message);
        let message = || message.to_owned();
        let overridden =
            Overridden { object: message(), field: message(), before: Some(message()), after: Some(message()) };
        for overridden in [Some(overridden), None] {
            let clusters = vec!["c0".parse().unwrap()];
            plan.overrides.push(OverrideInForce { path: message().into(), overridden, clusters });
        }
        plan
    }

    proptest! {
        #[test]
        fn no_foreign_text_gets_out_of_its_code_and_all_fits(
            message in "([`~<>@#\\[\\]()!*_\\\\\n\r a-z/:.-]|</details>|```|\u{202e}|https://|www\\.|#1){0,60}",
            clusters in 1_usize..60,
            objects in 0_usize..8,
        ) {
            // to be found again, it holds a word that no text of ours holds
            let message = format!("zq@octocat {message} qz");
            let value = ValueChange::Lines(vec![format!("+{message}"), message.clone()]);
            let fields = |_: &ClusterName, _: &str| vec![FieldChange { path: message.clone(), change: value.clone() }];
            let plan = overridden(plan_of(&message, clusters, objects), &message);
            let text = plan_markdown(&plan, &message, &fields, false);
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
            message in prop::collection::vec("([`<>@#\\[\\]()!*_\\\\\n a-z/:.-]|</details>|https://|www\\.|#1){0,60}", 0..60),
            repeated in 1_usize..40,
        ) {
            let all: Vec<Diagnostic> = message.iter()
                .map(|message| Explanation::new(Code::InvalidYaml, message.repeat(repeated)).hint(message.clone()))
                .map(|message| Diagnostic::error(None, message))
                .collect();
            let message = message.concat();
            let text = findings_markdown(&message, &all.iter().collect::<Vec<_>>());
            prop_assert!(text.chars().count() <= MOST);
            let outside = outside_code(&text);
            prop_assert_eq!(links(&outside), None, "{}", outside);
            prop_assert!(!outside.replace("<br>", "").contains('<') , "{outside}");
        }
    }

    /// What a code host makes a link of, wherever it is outside code.
    fn links(outside: &str) -> Option<&'static str> {
        ["@", "http", "www.", "#1", "](", "!["].into_iter().find(|link| outside.contains(link))
    }

    #[test]
    fn every_trust_change_is_named_and_refusals_beside_them() {
        for (count, message) in [(5, 300), (80, 300), (300, 30_000)] {
            let message = "w".repeat(message);
            let fields = |_: &ClusterName, _: &str| Vec::new();
            let mut plan = plan_of(&message, 30, 3);
            let one = plan.trust_changes[0].clone();
            let other = |at: usize| TrustChange { cluster: format!("d{at}").parse().unwrap(), ..one.clone() };
            plan.trust_changes = (0..count).map(other).collect();
            let text = plan_markdown(&plan, "mesh", &fields, false);
            assert!(text.chars().count() <= MOST);
            for at in 0..count {
                assert!(text.contains(&format!("engine apply --accept-trust d{at}@")), "{at} of {count}");
            }
            assert!(text.contains(&format!("**{count} trust changes, {count} not accepted**")));
            let listed =
                text.lines().filter(|line| line.starts_with("* `render-trust/") || line.starts_with("* `fetch-ca/"));
            assert_eq!(listed.count(), 2 * MOST_LISTED, "{count}");
            assert!(!text.contains("× trust change"), "{count}");
        }
    }

    #[test]
    fn what_needs_a_person_survives_a_plan_of_any_size() {
        let message = "w".repeat(300);
        let fields = |_: &ClusterName, _: &str| {
            vec![FieldChange { path: "data".to_owned(), change: ValueChange::Added(message.clone()) }]
        };
        let text = plan_markdown(&plan_of(&message, 1000, 3), "mesh", &fields, false);
        assert!(
            (MOST - 2 * RESERVED - RESERVED_FOR_CUT..=MOST).contains(&text.chars().count()),
            "{}",
            text.chars().count()
        );
        assert!(text.contains("engine apply --accept-trust c0@"));
        assert!(text.contains("Left out") && text.contains("refused step"));
    }
}
