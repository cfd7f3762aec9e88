//! A plan as JSON, for programs that judge it. [`plan_schema`](crate::report::plan_schema) says what may stand in it.

use serde_json::{Value, json};

use crate::model::trust::Verdict;
use crate::pipeline::plan::{OverrideInForce, PLAN_VERSION, Plan, Step, StepState};
use crate::pipeline::template::Overridden;
use crate::report::security;
use crate::report::text::{FieldDiffs, finding_json};
use crate::types::diagnostic::Diagnostics;
use crate::types::explanation::Explanation;
use crate::types::name::ClusterName;

/// Whose relay read a document, where one did.
fn add_reader(document: &mut Value, reader: Option<&ClusterName>) {
    if let (Some(reader), Value::Object(fields)) = (reader, document) {
        fields.insert("readBy".to_owned(), json!(reader));
    }
}

/// The JSON form of a plan.
pub fn plan_json(plan: &Plan, specs: &Diagnostics, mesh: &str, fields: FieldDiffs<'_>) -> Value {
    let state = |step: &Step| match &step.state {
        StepState::Ready => "ready",
        StepState::Waiting(_) => "waiting",
        StepState::Failed(_) => "failed",
        StepState::Refused(_) => "refused",
    };
    let verdict = |verdict| match verdict {
        Verdict::HeldBack => "heldBack",
        Verdict::Proposed => "proposed",
        Verdict::Approved => "accepted",
        Verdict::Refused => "refused",
    };
    let steps: Vec<_> = plan
        .steps
        .iter()
        .map(|step| {
            let objects = step.objects.iter().map(|object| {
                json!({
                    "path": object.path, "object": object.object, "action": object.action, "reason": object.reason,
                    "digest": object.digest, "fields": fields(&step.id.cluster, &object.path),
                })
            });
            let unproven: Vec<String> = step.unproven.iter().map(ToString::to_string).collect();
            let mut document = json!({
                "step": step.id, "state": state(step), "reasons": step.state.explanations(), "unproven": unproven,
                "objects": objects.collect::<Vec<_>>(),
            });
            add_reader(&mut document, step.read_by.as_ref());
            document
        })
        .collect();
    let trust: Vec<_> = plan
        .trust_changes
        .iter()
        .map(|change| {
            let findings = change.findings.iter().map(|finding| {
                let Explanation { code, message, hint } = finding.meaning.explanation();
                json!({
                    "field": finding.what.code(), "before": finding.before, "after": finding.after,
                    "code": code, "message": message, "hint": hint,
                })
            });
            let mut document = json!({
                "cluster": change.cluster, "digest": change.digest, "state": verdict(change.verdict),
                "findings": findings.collect::<Vec<_>>(),
            });
            add_reader(&mut document, change.read_by.as_ref());
            document
        })
        .collect();
    let overrides: Vec<_> = plan
        .overrides
        .iter()
        .map(|OverrideInForce { path, overridden, clusters }| {
            let Overridden { object, field, before, after } = match overridden {
                Some(overridden) => overridden.clone(),
                None => return json!({ "path": path, "clusters": clusters }),
            };
            // the values are JSON, and stay values
            let value = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
            let (before, after): (Option<Value>, _) = (value(before), value(after));
            json!({ "path": path, "object": object, "field": field, "before": before, "after": after, "clusters": clusters })
        })
        .collect();
    let warnings = specs.sorted().into_iter().chain(&plan.warnings).map(finding_json);
    json!({
        "version": PLAN_VERSION, "engine": env!("CARGO_PKG_VERSION"), "mesh": mesh, "trustChanges": trust,
        "securityRelevant": security::json(plan), "steps": steps,
        "lock": plan.lock, "files": plan.extra, "overrides": overrides, "notes": plan.notes,
        "warnings": warnings.collect::<Vec<_>>(), "counts": plan.counts(),
    })
}
