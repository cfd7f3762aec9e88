//! What people and scripts read: plans as text and JSON, findings, progress. The only place that prints.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::model::layout::KUSTOMIZATION;
use crate::pipeline::plan::diff::{FieldChange, ValueChange};
use crate::pipeline::plan::{
    Action, Compared, FileStep, LinkEffect, ObjectChange, OverrideInForce, Plan, SecurityChange, Step, StepState,
};
use crate::pipeline::template::Overridden;
use crate::report::fields::{BOLD, CYAN, DIM, GREEN, RED, YELLOW, condensed, field_text, sign};
use crate::report::format::Output;
use crate::report::security;
use crate::types::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::types::explanation::Explanation;
use crate::types::name::ClusterName;
use crate::types::step::StepKind;
use crate::types::text::{LONGEST_QUOTED, cut, quoted, visible, visible_but_styles, visible_lines};

/// What becomes of a cluster that fails.
const STAYS: &str = "its last good state stays: no file and no link of it changes for this";

/// Most steps of one kind that are listed one by one without `-v` when they only wait.
const MAX_WAITING_LISTED: usize = 12;

/// Most bytes of text in which fields of objects are shown without `-v`; beyond, objects are named only.
const MAX_DETAILED_TEXT: usize = 120_000;
/// Most characters of a value of an override without `-v`.
const LONGEST_OVERRIDDEN: usize = 200;
/// Most steps that write secrets which are listed one by one without `-v`.
const MAX_SECRETS_LISTED: usize = 40;

/// Writes data to stdout and messages to stderr.
#[derive(Debug)]
pub struct Printer {
    quiet: bool,
    data: Mutex<Option<std::io::Error>>,
}

impl Printer {
    /// A printer; a quiet one says only what went wrong.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, data: Mutex::new(None) }
    }

    /// Data, to stdout: byte by byte, but on a terminal nothing that steers it.
    pub fn out(&self, text: &str) {
        let text = if std::io::stdout().is_terminal() { visible_lines(text) } else { Cow::Borrowed(text) };
        self.write(&mut std::io::stdout().lock(), &text);
    }

    /// What a person asked for, to stdout, with styles.
    pub fn show(&self, text: &str) {
        self.write(&mut anstream::stdout().lock(), &visible_but_styles(text));
    }

    /// What was asked for in this form: text is for people, the rest is data.
    pub fn form(&self, form: Output, text: &str) {
        match form {
            Output::Text => self.show(text),
            Output::Json | Output::Markdown => self.out(text),
        }
    }

    /// A closed pipe is remembered and nothing more is written.
    fn write(&self, out: &mut impl Write, text: &str) {
        if let Ok(mut failed) = self.data.lock()
            && failed.is_none()
        {
            *failed = out.write_all(text.as_bytes()).and_then(|()| out.flush()).err();
        }
    }

    /// Why data could not be written, if it could not. A reader that went away is no failure.
    pub fn failure(&self) -> Option<String> {
        let failed = self.data.lock().ok()?.take()?;
        (failed.kind() != std::io::ErrorKind::BrokenPipe).then(|| format!("cannot write to standard output: {failed}"))
    }

    /// A message, to stderr, unless quiet.
    pub fn status(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// A message that also a quiet printer prints.
    pub fn warn(&self, text: &str) {
        let mut out = anstream::stderr().lock();
        let _written = writeln!(out, "{}", visible_but_styles(text));
    }

    /// Prints an error to stderr, after `error: `.
    pub fn error(&self, text: &str) {
        self.warn(&Severity::Error.line(text));
    }

    /// All findings, and a line that counts them.
    pub fn findings(&self, findings: &Diagnostics) {
        let sorted = findings.sorted();
        let shown = sorted.iter().filter(|finding| finding.severity != Severity::Warning || !self.quiet);
        let texts: Vec<String> = shown.map(|finding| finding.text()).collect();
        if !texts.is_empty() {
            self.warn(&texts.join("\n\n"));
        }
        let errors = sorted.iter().filter(|finding| finding.severity != Severity::Warning).count();
        if errors > 1 {
            self.warn(&format!("\n{errors} errors; nothing was changed"));
        }
    }

    /// A bar for work on `total` things, on a terminal alone.
    pub fn progress(&self, message: &'static str, total: usize) -> WorkProgress {
        if self.quiet || total < 2 || !std::io::stderr().is_terminal() {
            return WorkProgress(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(u64::try_from(total).ok(), ProgressDrawTarget::stderr_with_hz(15));
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:24.cyan/dim} {pos}/{len}") {
            bar.set_style(style);
        }
        bar.set_message(message);
        WorkProgress(bar)
    }
}

/// Progress of long work; gone from the terminal when dropped.
#[derive(Debug)]
pub struct WorkProgress(ProgressBar);

impl WorkProgress {
    /// One more is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for WorkProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A finding as the JSON of plans and errors has it.
pub fn finding_json(finding: &Diagnostic) -> serde_json::Value {
    let (at, Explanation { code, message, hint }) = (finding.at.as_ref(), &finding.explanation);
    serde_json::json!({
        "severity": finding.severity.as_str(), "code": code, "message": message, "hint": hint,
        "file": at.map(|at| at.file.as_ref()), "line": at.map(|at| at.line), "column": at.map(|at| at.column),
    })
}

/// Field-level differences of an object of the plan, by cluster and path.
pub type FieldDiffs<'a> = &'a dyn Fn(&ClusterName, &str) -> Vec<FieldChange>;

/// The text form of a plan that names objects and shows nothing of them.
pub fn plan_summary(plan: &Plan, title: &str) -> String {
    let mut out = format!("{BOLD}{}{BOLD:#}\n", visible(title));
    security::block(plan, false, &mut out);
    let objects: Vec<&ObjectChange> = plan.steps.iter().flat_map(|step| &step.objects).collect();
    let files = plan.lock.iter().chain(&plan.extra);
    let named = objects.iter().map(|object| (object.action, &object.path));
    for (at, (action, path)) in named.chain(files.map(|file| (file.action, &file.path))).enumerate() {
        out.push_str(if at == 0 { "\n" } else { "" });
        out.push_str(&format!("{} {}\n", sign(action), visible(path)));
    }
    out.push_str(&format!("\n{BOLD}{}{BOLD:#}\n", summary(plan)));
    out
}

/// The text form of a plan. `fields` renders an object again to show its differences.
pub fn plan_text(plan: &Plan, title: &str, fields: FieldDiffs<'_>, verbose: bool) -> String {
    let mut out = format!("{BOLD}{}{BOLD:#}\n", visible(title));
    security::block(plan, verbose, &mut out);
    let mut shown = false;
    let mut named_only = 0;
    for kind in StepKind::ALL {
        let steps: Vec<&Step> = plan.steps.iter().filter(|step| step.id.kind == kind).collect();
        let is_shown = |step: &Step| {
            let is_above = step.objects.is_empty() && security::is_shown_by_files(step);
            !is_above && (!step.objects.is_empty() || step.state != StepState::Ready || step.read_by.is_some())
        };
        let busy = steps.iter().filter(|step| is_shown(step));
        let only_waits = |step: &Step| step.objects.is_empty() && matches!(step.state, StepState::Waiting(_));
        let (idle, busy): (Vec<&&Step>, Vec<&&Step>) = busy.partition(|step| only_waits(step));
        let listed = if verbose { idle.len() } else { idle.len().min(MAX_WAITING_LISTED) };
        // secrets of a large mesh are all alike: who reads whom is the lock's to say
        let most =
            if verbose || kind != StepKind::RenderSecret { busy.len() } else { busy.len().min(MAX_SECRETS_LISTED) };
        for step in busy.iter().take(most).chain(idle.iter().take(listed)) {
            if !shown {
                out.push('\n');
                shown = true;
            }
            let detailed = verbose || out.len() < MAX_DETAILED_TEXT;
            named_only += if detailed { 0 } else { step.objects.len() };
            step_text(step, if detailed { Some(fields) } else { None }, verbose, &mut out);
        }
        if busy.len() > most {
            let rest = busy.iter().skip(most).flat_map(|step| &step.objects);
            let parts = [Action::Create, Action::Update, Action::Delete].map(|action| {
                let count = rest.clone().filter(|object| object.action == action).count();
                (count > 0).then(|| format!("{} {count}", sign(action)))
            });
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            out.push_str(&format!(
                "  {DIM}… {} more {kind} steps{DIM:#}: {} (-v lists them)\n",
                busy.len() - most,
                parts.join(", ")
            ));
        }
        if idle.len() > listed {
            out.push_str(&format!("  {DIM}… {} more {kind} steps wait (-v lists them){DIM:#}\n", idle.len() - listed));
        }
    }
    if named_only > 0 {
        out.push_str(&format!("\n  {DIM}fields of {named_only} more objects are not shown (-v shows them){DIM:#}\n"));
    }
    let is_upgrade = plan.former_lock > 0 && !verbose;
    let (lock, more) = if is_upgrade { (&[][..], 0) } else { short_list(&plan.lock, verbose) };
    // that a new folder has a list of its files goes without saying
    let listed = |file: &&FileStep| verbose || file.action != Action::Create || !file.path.ends_with(KUSTOMIZATION);
    let files: Vec<&FileStep> = lock.iter().chain(plan.extra.iter().filter(listed)).collect();
    let heading = if plan.steps.iter().any(|step| !step.objects.is_empty()) { "other files" } else { "files" };
    out.push_str(&if files.is_empty() && !is_upgrade { String::new() } else { format!("\n  {DIM}{heading}{DIM:#}\n") });
    if is_upgrade {
        let (sign, count) = (sign(Action::Update), plan.lock.len());
        out.push_str(&format!(
            "  {sign} lock/ from version 1 to 2, {count} files: older engines refuse it (-v lists them)\n"
        ));
    }
    for file in files {
        out.push_str(&format!("  {} {}\n", sign(file.action), visible(&file.path)));
    }
    if more > 0 {
        out.push_str(&format!("  {DIM}… {more} more files of the lock (-v lists them){DIM:#}\n"));
    }
    overrides(plan, verbose, &mut out);
    let (list, more) = short_list(&plan.notes, verbose);
    for (at, note) in list.iter().enumerate() {
        out.push_str(if at == 0 { "\n" } else { "" });
        out.push_str(&format!("  {CYAN}note{CYAN:#} {}\n", visible(note)));
    }
    if more > 0 {
        out.push_str(&format!("  {DIM}… {more} more notes (-v lists them){DIM:#}\n"));
    }
    out.push('\n');
    out.push_str(&format!("{BOLD}{}{BOLD:#}\n", summary(plan)));
    out
}

fn short_list<T>(list: &[T], verbose: bool) -> (&[T], usize) {
    let most = if verbose { list.len() } else { list.len().min(MAX_WAITING_LISTED) };
    (list.get(..most).unwrap_or(list), list.len() - most)
}

/// What overrides change of the built-in templates, also where nothing of it is new.
fn overrides(plan: &Plan, verbose: bool, out: &mut String) {
    let mut path = "";
    for OverrideInForce { path: own, overridden, clusters } in &plan.overrides {
        if path != &**own {
            path = own;
            out.push_str(&format!("\n  {YELLOW}override in force{YELLOW:#} {}\n", visible(own)));
        }
        let clusters = in_clusters(clusters);
        let Some(Overridden { object, field, before, after }) = overridden else {
            out.push_str(&format!("    {DIM}changes no field {clusters}{DIM:#}\n"));
            continue;
        };
        let value = |value: &Option<String>| {
            let value = value.as_deref().unwrap_or("none");
            if verbose { visible(value).into_owned() } else { visible(&cut(value, LONGEST_OVERRIDDEN)).into_owned() }
        };
        out.push_str(&format!(
            "    {} {YELLOW}{}{YELLOW:#}: {RED}{}{RED:#} → {GREEN}{}{GREEN:#} {DIM}{clusters}{DIM:#}\n",
            visible(object),
            visible(field),
            value(before),
            value(after)
        ));
    }
}

pub(super) fn in_clusters(clusters: &[ClusterName]) -> String {
    match clusters {
        [one] => format!("in {one}"),
        [one, two] => format!("in {one} and {two}"),
        [one, rest @ ..] => format!("in {one} and {} more clusters", rest.len()),
        [] => String::new(),
    }
}

fn step_text(step: &Step, fields: Option<FieldDiffs<'_>>, verbose: bool, out: &mut String) {
    let strongest = step.objects.iter().map(|object| object.action).max();
    let (mark, message) = match (&step.state, strongest) {
        (StepState::Refused(why), _) if security::is_shown_by_files(step) => {
            let files = if why.len() == 1 { "the file" } else { "the files" };
            (format!("{RED}!{RED:#}"), format!("  {RED}refused{RED:#}: for {files} above"))
        }
        (StepState::Refused(_), _) => {
            (format!("{RED}!{RED:#}"), format!("  {RED}refused{RED:#}: {}", visible(&step.state.line())))
        }
        (StepState::Failed(_), _) => {
            (format!("{RED}✗{RED:#}"), format!("  {RED}failed{RED:#}: {}", visible(&step.state.line())))
        }
        (StepState::Waiting(_), None) => (format!("{DIM}…{DIM:#}"), wait_message(&step.state.sentences())),
        (StepState::Waiting(_), Some(action)) => (sign(action), wait_message(&step.state.sentences())),
        (StepState::Ready, Some(action)) => (sign(action), String::new()),
        (StepState::Ready, None) => (" ".to_owned(), String::new()),
    };
    out.push_str(&format!("{mark} {BOLD}{}{BOLD:#}{message}\n", step.id));
    if matches!(step.state, StepState::Failed(_)) {
        out.push_str(&format!("    {DIM}{STAYS}{DIM:#}\n"));
    }
    if let Some(reader) = &step.read_by {
        out.push_str(&format!("    {DIM}read by {reader}{DIM:#}\n"));
    }
    for reason in &step.unproven {
        out.push_str(&format!("    {YELLOW}unproven{YELLOW:#}: {}\n", visible(&reason.to_string())));
    }
    let summarised =
        |object: &&ObjectChange| !verbose && object.action != Action::Update && !is_reviewed(&object.object);
    let (summary, listed): (Vec<&ObjectChange>, Vec<&ObjectChange>) = step.objects.iter().partition(summarised);
    for action in [Action::Create, Action::Delete] {
        let kinds = count_by_kind(summary.iter().filter(|object| object.action == action).copied());
        if !kinds.is_empty() {
            out.push_str(&format!("    {} {}\n", sign(action), visible(&kinds.join(", "))));
        }
    }
    for object in listed {
        out.push_str(&format!("    {} {}\n", sign(object.action), visible(&object.object)));
        if let Some(fields) = fields.filter(|_| verbose || object.action != Action::Delete) {
            let changes = fields(&step.id.cluster, &object.path);
            for change in if verbose { changes } else { condensed(changes) } {
                if verbose || is_reported(&change) {
                    field_text(&change, 8, out);
                }
            }
        }
    }
}

/// `Service ×3` and the like, in the order of the objects; a kind that is there once with its name.
fn count_by_kind<'a>(objects: impl Iterator<Item = &'a ObjectChange>) -> Vec<String> {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    for object in objects {
        let (kind, name) = object.object.split_once(' ').unwrap_or((&object.object, ""));
        match kinds.iter_mut().find(|(own, _)| *own == kind) {
            Some((_, names)) => names.push(name),
            None => kinds.push((kind, vec![name])),
        }
    }
    let line = |(kind, names): (&str, Vec<&str>)| match names.as_slice() {
        [name] => format!("{kind} {name}"),
        names => format!("{kind} ×{}", names.len()),
    };
    kinds.into_iter().map(line).collect()
}

fn wait_message(reasons: &[String]) -> String {
    format!("  {YELLOW}waits for{YELLOW:#} {}", visible(&reasons.join("; ")))
}

/// Deployments, roles and the like are counted; what says who trusts, reads or reaches whom is shown whole.
fn is_reviewed(object: &str) -> bool {
    ["ConfigMap ", "IstioMulticluster ", "Secret ", "Gateway "].iter().any(|kind| object.starts_with(kind))
}

/// Whether a field is shown without `-v`: not what every object of ours carries, nor what says nothing.
fn is_reported(change: &FieldChange) -> bool {
    let bookkeeping = ["metadata.annotations", "metadata.labels", "metadata.name"];
    let is_empty = |value: &str| value == "[]" || change.path.ends_with(".json\"].version");
    let says_nothing = matches!(&change.change, ValueChange::Added(value) if is_empty(value));
    !says_nothing && !bookkeeping.iter().any(|path| change.path.starts_with(path))
}

/// The last line: objects, each once, steps that wait or cannot be done, and links that open or close.
pub fn summary(plan: &Plan) -> String {
    let counts = plan.counts();
    let mut text = format!(
        "Plan: {} to create, {} to update, {} to delete, {} waiting, {} refused",
        counts.create, counts.update, counts.delete, counts.waiting, counts.refused
    );
    if counts.failed > 0 {
        text.push_str(&format!(", {} failed", counts.failed));
    }
    let mut links: BTreeMap<LinkEffect, usize> = BTreeMap::new();
    for item in &plan.security {
        if let SecurityChange::Links(change) = &item.change {
            *links.entry(change.effect).or_default() += change.links.len();
        }
    }
    let links: Vec<String> = links.into_iter().map(|(effect, count)| effect.phrase(count)).collect();
    text.push_str(&if links.is_empty() { ".".to_owned() } else { format!("; {}.", links.join(", ")) });
    let is_reported =
        counts.waiting + counts.refused + counts.failed + plan.trust_changes.len() + plan.security.len() > 0;
    if plan.changes_files() || is_reported {
        return text;
    }
    match &plan.compared {
        Compared::Asked => {
            "No changes. lock/, rendered/ and values/ match the specs and what the clusters publish.".to_owned()
        }
        Compared::Locked => {
            "No changes. rendered/ and values/ match specs, templates and lock. No cluster was asked, so no link opens or closes; \
             `engine plan --base REF` shows what an edit of specs will do to links."
                .to_owned()
        }
        Compared::Revision(revision) => format!(
            "No changes. Specs, templates, policy, lock, rendered/ and values/ match those of {}; no cluster was asked.",
            quoted(revision, LONGEST_QUOTED)
        ),
    }
}

/// A table without lines, aligned, for people and for `awk`.
pub fn table<const N: usize>(head: &[&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(head.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| visible(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    format!("{}\n", text.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trust::{TrustChange, TrustField, TrustFinding, TrustMeaning, Verdict};
    use crate::pipeline::advance::Unproven;
    use crate::pipeline::plan::{Reason, SecurityItem};
    use crate::types::explanation::Code;
    use crate::types::name::Digest;
    use crate::types::step::StepId;

    /// A plan that has this text wherever it may repeat the text of someone else.
    fn styled(message: &str) -> String {
        let name: ClusterName = "east".parse().unwrap();
        let message = || message.to_owned();
        let mut plan = Plan { notes: vec![message()], ..Plan::default() };
        plan.security = SecurityItem::all_saying(&message());
        let overridden =
            Overridden { object: message(), field: message(), before: Some(message()), after: Some(message()) };
        for overridden in [Some(overridden), None] {
            plan.overrides.push(OverrideInForce { path: message().into(), overridden, clusters: vec![name.clone()] });
        }
        let what = TrustField::RootCa;
        let meaning = TrustMeaning::ContradictsPin { what, pinned: message(), found: message() };
        let finding = TrustFinding { what, before: Some(message()), after: Some(message()), meaning };
        for verdict in [Verdict::HeldBack, Verdict::Refused] {
            let findings = vec![finding.clone()];
            plan.trust_changes.push(TrustChange {
                cluster: name.clone(),
                digest: Digest::of(b"x"),
                findings,
                verdict,
                read_by: None,
            });
        }
        let object = ObjectChange {
            path: message(),
            object: format!("ConfigMap {}", message()),
            action: Action::Update,
            reason: Reason::Missing,
            digest: Digest::of(b"x"),
            text: None,
        };
        let why = || Explanation::new(Code::KeyMissing, message()).hint(message());
        for state in
            [StepState::Refused(vec![why()]), StepState::Failed(vec![why()]), StepState::Waiting(vec![why(), why()])]
        {
            let id = StepId::of(StepKind::RenderTrust, &name);
            let objects = vec![object.clone()];
            plan.steps.push(Step {
                read_by: None,
                id,
                objects,
                state,
                unproven: vec![Unproven::NoEvidence { cluster: name.clone() }],
            });
        }
        let changes = [
            ValueChange::Added(message()),
            ValueChange::Removed(message()),
            ValueChange::Changed(message(), message()),
            ValueChange::Lines(vec![format!("+ {}", message())]),
        ];
        let fields = |_: &ClusterName, _: &str| {
            changes.iter().map(|change| FieldChange { path: message(), change: change.clone() }).collect()
        };
        plan_text(&plan, &message(), &fields, true)
    }

    #[test]
    fn whatever_a_plan_repeats_its_lines_and_styles_are_ours() {
        let shape = |text: &str| {
            let count = |c| text.matches(c).count();
            (text.lines().count(), count('\u{1b}'), count('\r'), count('\u{202e}'))
        };
        let harmless = styled("x");
        assert!(harmless.matches('x').count() > 30, "{harmless}");
        let evil = styled("\u{1b}[31mx\u{1b}[2J\nerror: \r\u{202e}");
        assert_eq!(shape(&evil), shape(&harmless), "{evil:?}");
        assert_eq!(visible_but_styles(&evil), evil);
    }

    #[test]
    fn a_table_keeps_a_row_in_a_line() {
        let text = table(&["A", "B"], vec![["a\u{1b}[2J\nb".to_owned(), "c".to_owned()]]);
        assert_eq!(text, "A              B\na\\u{1b}[2J\\nb  c\n");
    }
}
