//! What a reviewer has to see before any object, as text and as JSON.

use serde_json::{Value, json};

use crate::model::trust::{TrustChange, Verdict};
use crate::pipeline::plan::{Plan, SecurityChange, SecurityItem, Step};
use crate::report::fields::{BOLD, CYAN, DIM, GREEN, RED, YELLOW, field_text, sign};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::text::visible;

/// Most fields of one entry without `-v`.
const MOST_FIELDS: usize = 12;

/// The block on top of a plan; nothing where there is nothing to see.
pub(super) fn block(plan: &Plan, verbose: bool, out: &mut String) {
    if plan.trust_changes.is_empty() && plan.security.is_empty() {
        return;
    }
    out.push_str(&format!("\n{BOLD}Review first{BOLD:#}\n"));
    for change in &plan.trust_changes {
        trust_change(change, out);
    }
    for one in &plan.security {
        item(one, verbose, out);
    }
}

fn item(item: &SecurityItem, verbose: bool, out: &mut String) {
    // the sentence on a file names it
    if let SecurityChange::File(refusal) = &item.change {
        out.push_str(&format!("{RED}! refused{RED:#}: {}\n", visible(&refusal.explanation().to_string())));
        return;
    }
    let mark = if item.refused { format!("{RED}!{RED:#}") } else { sign(item.change.action()) };
    let refused = if item.refused { format!("{RED}refused{RED:#}: ") } else { String::new() };
    out.push_str(&format!("{mark} {refused}{BOLD}{}{BOLD:#}\n", visible(&item.change.subject())));
    let fields = item.change.fields();
    let most = if verbose { fields.len() } else { MOST_FIELDS };
    for field in fields.iter().take(most) {
        field_text(field, 4, out);
    }
    if fields.len() > most {
        out.push_str(&format!("    {DIM}… {} more fields (-v shows them){DIM:#}\n", fields.len() - most));
    }
    out.push_str(&format!("    {}\n", visible(&item.change.explanation().to_string())));
}

fn trust_change(change: &TrustChange, out: &mut String) {
    let (style, word) = match change.verdict {
        Verdict::HeldBack => (RED, "held back"),
        Verdict::Proposed => (RED, "not accepted yet"),
        Verdict::Approved => (YELLOW, "accepted"),
        Verdict::Refused => (RED, "refused"),
    };
    out.push_str(&format!("{style}! trust change of `{}`: {word}{style:#}\n", change.cluster));
    if let Some(reader) = &change.read_by {
        out.push_str(&format!("    {DIM}read by {reader}{DIM:#}\n"));
    }
    for finding in &change.findings {
        out.push_str(&format!("    {BOLD}{}{BOLD:#} of `{}`\n", visible(finding.what.as_str()), change.cluster));
        if let Some(before) = &finding.before {
            out.push_str(&format!("      {RED}- {}{RED:#}\n", visible(before)));
        }
        if let Some(after) = &finding.after {
            out.push_str(&format!("      {GREEN}+ {}{GREEN:#}\n", visible(after)));
        }
        out.push_str(&format!("      {}\n", visible(&finding.meaning.to_string())));
    }
    let name = change.name();
    match change.verdict {
        Verdict::HeldBack => {
            out.push_str(&format!("    if it is meant: {CYAN}engine apply --accept-trust {name}{CYAN:#}\n"));
        }
        Verdict::Proposed => out.push_str(&format!("    merging this accepts {CYAN}{name}{CYAN:#}\n")),
        Verdict::Approved | Verdict::Refused => {}
    }
}

/// Whether a step is refused for files alone, which stand in the block one by one.
pub(super) fn is_shown_by_files(step: &Step) -> bool {
    let codes = [Code::FileNotOurs, Code::KustomizationNotOurs, Code::FolderOfUnknownCluster];
    let why = step.state.explanations();
    !why.is_empty() && why.iter().all(|why| codes.contains(&why.code))
}

/// The same as JSON, but for trust changes, which have a list of their own.
pub(super) fn json(plan: &Plan) -> Vec<Value> {
    let one = |item: &SecurityItem| {
        let change = &item.change;
        let Explanation { code, message, hint } = change.explanation();
        let links: Vec<String> = change.links().iter().map(ToString::to_string).collect();
        json!({
            "code": code, "message": message, "hint": hint, "refused": item.refused, "action": change.action(),
            "subject": change.subject(), "clusters": change.clusters(), "path": change.path(), "fields": change.fields(),
            "links": links,
        })
    };
    plan.security.iter().map(one).collect()
}
