//! The JSON Schema of a plan, for programs that judge it: a policy engine in CI, a bot, a dashboard.

#![allow(clippy::needless_pass_by_value, reason = "json! takes what it is given apart")]

use serde_json::{Map, Value, json};

use crate::pipeline::plan::PLAN_VERSION;
use crate::types::explanation::Code;

/// JSON Schema (draft 2020-12) of what `engine plan --output json` prints: a plan, or why there is none.
pub fn plan_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What engine plan --output json prints",
        "oneOf": [{ "$ref": "#/$defs/plan" }, { "$ref": "#/$defs/failure" }],
        "$defs": {
            "plan": plan(),
            "failure": failure(),
            "reason": object(reason()),
            "finding": finding(),
            "fieldChange": field_change(),
            "object": changed_object(),
            "file": object(json!({ "path": path(), "action": action() })),
            "code": { "enum": Code::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>() },
        },
    })
}

/// An object with exactly these fields, none of which is left out.
fn object(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().map(Map::keys).into_iter().flatten().collect();
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

fn of(definition: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}") })
}

fn many(item: Value, description: &str) -> Value {
    json!({ "type": "array", "items": item, "description": description })
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn maybe(description: &str) -> Value {
    json!({ "type": ["string", "null"], "description": description })
}

fn described(mut schema: Value, description: &str) -> Value {
    merge(&mut schema, json!({ "description": description }));
    schema
}

fn path() -> Value {
    text("path below the checkout")
}

fn action() -> Value {
    json!({ "enum": ["create", "update", "delete"], "description": "what is done to it" })
}

fn digest() -> Value {
    json!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$", "description": "SHA-256 by which it is approved or compared" })
}

fn version() -> Value {
    json!({ "const": PLAN_VERSION, "description": "rises when a field goes or means something else" })
}

fn plan() -> Value {
    let count = |description: &str| json!({ "type": "integer", "minimum": 0, "description": description });
    let counts = object(json!({
        "create": count("objects to create"),
        "update": count("objects to update"),
        "delete": count("objects to delete"),
        "waiting": count("steps that wait"),
        "refused": count("steps that are refused, and trust changes that are held back"),
        "failed": count("steps whose cluster failed"),
    }));
    object(json!({
        "version": version(),
        "engine": text("version of the engine"),
        "mesh": text("name of the Mesh"),
        "trustChanges": many(trust_change(), "what a cluster is trusted for and changes"),
        "securityRelevant": many(security_item(), "what else a reviewer has to see first"),
        "steps": many(step(), "all steps, in the order of their needs"),
        "lock": many(of("file"), "files of the lock"),
        "files": many(of("file"), "files of ours that are no objects"),
        "overrides": many(overridden(), "overrides of templates that are in force"),
        "notes": many(text("a sentence"), "what a reviewer should know besides"),
        "warnings": many(of("finding"), "findings that stop nothing"),
        "counts": described(counts, "how much of each there is"),
    }))
}

fn failure() -> Value {
    let mut fields = json!({
        "version": version(),
        "exit": { "type": "integer", "description": "the exit code" },
        "error": text("one sentence"),
        "findings": many(of("finding"), "all that is wrong"),
        "causes": many(text("a sentence"), "what led to it, the last first"),
    });
    merge(&mut fields, reason());
    object(fields)
}

/// The three fields of a reason.
fn reason() -> Value {
    json!({ "code": of("code"), "message": text("what is the matter"), "hint": maybe("what to do about it") })
}

fn merge(fields: &mut Value, more: Value) {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
}

fn finding() -> Value {
    let number = |description: &str| json!({ "type": ["integer", "null"], "minimum": 1, "description": description });
    let mut fields = json!({
        "severity": { "enum": ["error", "refused", "warning"], "description": "error: nothing is done; refused: this part is not done; warning: stops nothing" },
        "file": maybe("its place"),
        "line": number("line, from 1"),
        "column": number("column, from 1"),
    });
    merge(&mut fields, reason());
    object(fields)
}

fn field_change() -> Value {
    let one = |change: &str, value: Value| {
        let mut fields = json!({ "path": text("such as spec.replicas") });
        merge(&mut fields, json!({ change: value }));
        object(fields)
    };
    json!({
        "oneOf": [
            one("added", text("its value")),
            one("removed", text("its value")),
            one("changed", json!({ "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2, "description": "its value before and after" })),
            one("lines", many(text("with +, - or a space before it"), "lines that differ, and some around them")),
        ],
    })
}

fn changed_object() -> Value {
    object(json!({
        "path": path(),
        "object": text("kind, namespace and name"),
        "action": action(),
        "reason": { "enum": ["missing", "differs", "noLongerDeclared"], "description": "why it is written: the tree lacks it, it differs, or nothing declares it" },
        "digest": digest(),
        "fields": many(of("fieldChange"), "what differs, by danger; data of Secrets is never shown"),
    }))
}

fn step() -> Value {
    let mut schema = object(json!({
        "step": text("what is done, of which cluster, such as render-secret/east/west"),
        "state": { "enum": ["ready", "waiting", "failed", "refused"], "description": "whether it can be done now" },
        "reasons": many(of("reason"), "why it is not ready"),
        "unproven": many(text("a sentence"), "what was not shown before the link opened"),
        "objects": many(of("object"), "what changes"),
        "readBy": text("the cluster whose relay read the document; without it, the engine did"),
    }));
    if let Some(required) = schema.get_mut("required") {
        *required = json!(["step", "state", "reasons", "unproven", "objects"]);
    }
    schema
}

fn trust_change() -> Value {
    let mut finding = json!({
        "field": text("what changes, such as root-ca"),
        "before": maybe("what is trusted"),
        "after": maybe("what is published"),
    });
    merge(&mut finding, reason());
    let mut schema = object(json!({
        "cluster": text("the cluster"),
        "digest": digest(),
        "state": {
            "enum": ["heldBack", "proposed", "accepted", "refused"],
            "description": "heldBack: waits for apply --accept-trust; proposed: merging it accepts it; accepted: by flag or pin; refused: nothing but the specs settles it",
        },
        "findings": many(object(finding), "what changes"),
        "readBy": text("the cluster whose relay read the document; without it, the engine did"),
    }));
    if let Some(required) = schema.get_mut("required") {
        *required = json!(["cluster", "digest", "state", "findings"]);
    }
    schema
}

fn security_item() -> Value {
    let mut fields = json!({
        "refused": { "type": "boolean", "description": "nothing is done about it until it is settled" },
        "action": action(),
        "subject": text("what it is about"),
        "clusters": many(text("a cluster"), "whom it concerns"),
        "path": maybe("the file"),
        "fields": many(of("fieldChange"), "old and new values"),
        "links": many(text("reader/peer"), "links that open or close"),
    });
    merge(&mut fields, reason());
    object(fields)
}

/// Without an object the override is in force and changes nothing.
fn overridden() -> Value {
    let mut schema = object(json!({
        "path": path(),
        "object": text("kind and name"),
        "field": text("such as spec.replicas"),
        "before": { "description": "the value of the built-in template" },
        "after": { "description": "the value of the override" },
        "clusters": many(text("a cluster"), "in which it is in force"),
    }));
    if let Some(required) = schema.get_mut("required") {
        *required = json!(["path", "clusters"]);
    }
    schema
}
