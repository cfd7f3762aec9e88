//! Fields of specs and of the policy, from their JSON Schemas.

use serde_json::Value;

use super::schemas::Tables;
use super::{ReferencePage, hold, link};

/// Each kind of a document below `specs/`, with what it declares.
const KINDS: &[(&str, &str, &str)] = &[
    ("Mesh", "isthmus.dev/v1alpha1", "The mesh; a checkout has one."),
    ("Cluster", "isthmus.dev/v1alpha1", "A cluster of this checkout."),
    (
        "IstioMulticluster",
        "isthmus.dev/v1alpha1",
        "A cluster that another team's checkout manages, known by its metadata endpoint.",
    ),
    (
        "IstioMulticluster",
        "deckhouse.io/v1alpha1",
        "The same as Deckhouse writes it. Fields that are not listed are taken and not read.",
    ),
];

fn title(kind: &str, api: &str) -> String {
    match api.split_once('/') {
        Some(("isthmus.dev", _)) => kind.to_owned(),
        Some((group, _)) => format!("{kind} of {group}"),
        None => unreachable!("{api}"),
    }
}

#[test]
fn spec_fields() {
    let schema = isthmus::spec::schema();
    let policy = isthmus::spec::policy_schema();
    let mut page = ReferencePage::new(
        "Spec fields",
        "Documents below `specs/`, and `policy.yaml`. A field that is not listed is an error. Patterns of names and addresses \
         are in\n[spec.schema.json](spec.schema.json), which editors complete and check with; the first line of what `engine \
         init` writes\npoints to it. The engine's own reading is the authority: it also knows rules across documents.",
    );
    let mut headings: Vec<_> = KINDS.iter().map(|(kind, api, _)| title(kind, api)).collect();
    headings.push("Policy".to_owned());
    page.text(&headings.iter().map(|heading| format!("* {}", link(heading))).collect::<Vec<_>>().join("\n"));

    let documents = schema["oneOf"].as_array().unwrap();
    assert_eq!(documents.len(), KINDS.len(), "a kind is not listed");
    for (kind, api, about) in KINDS {
        let is_it = |document: &&Value| {
            document["properties"]["kind"]["const"] == *kind && document["properties"]["apiVersion"]["const"] == *api
        };
        let document = documents.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} of {api}"));
        write(&mut page, &schema, &title(kind, api), api, about, document);
    }
    let about = "`policy.yaml` beside `specs/`: what specs may ask for, and which clusters may be in the mesh.";
    let api = policy["properties"]["apiVersion"]["const"].as_str().unwrap();
    write(&mut page, &policy, "Policy", api, about, &policy);
    hold("spec.md", &page.0);
}

fn write(page: &mut ReferencePage, root: &Value, title: &str, api: &str, about: &str, document: &Value) {
    let kind = document["properties"]["kind"]["const"].as_str().unwrap();
    page.heading(2, title);
    page.text(about);
    page.text(&format!("```yaml\napiVersion: {api}\nkind: {kind}\n```"));
    let mut tables = Tables::new(root, 3, "required");
    for field in ["metadata", "spec"] {
        if let Some(schema) = document["properties"].get(field) {
            tables.write(page, &format!("{title} {field}"), schema);
        }
    }
}

/// What editors read without the program.
#[test]
fn the_schema_of_specs() {
    hold("spec.schema.json", &format!("{:#}\n", isthmus::spec::schema()));
}
