//! A plan's JSON, from its schema.

use isthmus::pipeline::plan::PLAN_VERSION;
use isthmus::report::plan_schema::plan_schema;

use super::schemas::Tables;
use super::{ReferencePage, hold, link};

/// Definitions that are objects, in reading order, by their headings.
const DEFINITIONS: &[&str] = &["plan", "failure", "reason", "finding", "object", "fieldChange", "file"];

#[test]
fn plan_json() {
    let schema = plan_schema();
    let mut page = ReferencePage::new(
        "Plan JSON",
        "What `engine plan --output json` prints: a plan, or why there is none. `engine schema plan` prints the same as JSON \
         Schema.",
    );
    page.text(&format!(
        "The version is **{PLAN_VERSION}**. It rises when a field goes or means something else; fields may be added without \
         it. What is not\nknown is `null`, what is empty is an empty list. A type that is a link is the table of that name."
    ));
    page.text(&DEFINITIONS.iter().map(|name| format!("* {}", link(name))).collect::<Vec<_>>().join("\n"));
    let definitions = schema["$defs"].as_object().unwrap();
    for (name, definition) in definitions {
        let is_listed = DEFINITIONS.contains(&name.as_str()) || definition.get("enum").is_some();
        assert!(is_listed, "the definition {name} of the plan's schema is not listed");
    }
    for name in DEFINITIONS {
        let mut tables = Tables::new(&schema, 2, "always there");
        tables.write(&mut page, name, &definitions[*name]);
        if *name == "fieldChange" {
            page.text("Beside `path` there is exactly one of the others.");
        }
    }
    hold("plan.md", &page.0);
}
