//! A JSON Schema as tables: one for each object, with a link where a field is one.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::{ReferencePage, anchor, code, sentence};

/// A schema and how its objects are headed.
pub(super) struct Tables<'a> {
    root: &'a Value,
    /// Level of the headings.
    level: usize,
    /// How the column is headed that says which fields are always there.
    always: &'static str,
    /// Objects that wait for their table: heading, path, schema.
    waiting: VecDeque<(String, Value)>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(root: &'a Value, level: usize, always: &'static str) -> Self {
        Self { root, level, always, waiting: VecDeque::new() }
    }

    /// The tables of an object and of all objects in it.
    pub(super) fn write(&mut self, page: &mut ReferencePage, heading: &str, schema: &Value) {
        self.waiting.push_back((heading.to_owned(), schema.clone()));
        while let Some((heading, schema)) = self.waiting.pop_front() {
            page.heading(self.level, &heading);
            self.table(page, &heading, &schema);
        }
    }

    fn table(&mut self, page: &mut ReferencePage, heading: &str, schema: &Value) {
        if let Some(about) = text(schema, "description") {
            page.text(&format!("{}.", sentence(about)));
        }
        let fields = fields(schema);
        assert!(!fields.is_empty(), "{heading}: {schema}");
        let rows: Vec<_> = fields
            .iter()
            .map(|(name, field, required)| {
                let default = field.get("default").map(|value| code(&plain(value))).unwrap_or_default();
                let about = text(field, "description")
                    .or_else(|| field.get("items").and_then(|items| text(items, "description")));
                let kind = self.kind(heading, name, field);
                assert!(
                    about.is_some() || is_reference(field),
                    "{heading}: the field {name} has no description in its schema"
                );
                let required = if *required { "yes" } else { "" };
                [code(name), kind, required.to_owned(), default, about.unwrap_or_default().to_owned()]
            })
            .collect();
        page.table(["field", "type", self.always, "default", "meaning"], &rows);
    }

    /// What a value is, in words; an object waits for a table of its own.
    fn kind(&mut self, heading: &str, name: &str, schema: &Value) -> String {
        if let Some(definition) = text(schema, "$ref") {
            let name = definition.trim_start_matches("#/$defs/");
            let target = &self.root["$defs"][name];
            return match target.get("enum") {
                Some(_) => format!("[{name}](codes.md)"),
                None => format!("[{name}](#{})", anchor(name)),
            };
        }
        if let Some(value) = schema.get("const") {
            return code(&plain(value));
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return values.iter().map(|value| code(&plain(value))).collect::<Vec<_>>().join(", ");
        }
        if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
            let each: Vec<_> = choices.iter().map(|choice| self.kind(heading, name, choice)).collect();
            return each.join(" or ");
        }
        match schema.get("type") {
            Some(Value::Array(types)) => types.iter().map(plain).collect::<Vec<_>>().join(" or "),
            Some(Value::String(kind)) if kind == "array" => {
                let (least, most) = (schema.get("minItems"), schema.get("maxItems"));
                let count = if least.is_some() && least == most {
                    format!("{} ", plain(&schema["minItems"]))
                } else {
                    String::new()
                };
                format!("list of {count}{}", self.kind(heading, name, &schema["items"]))
            }
            Some(Value::String(kind)) if kind == "object" => {
                if fields(schema).is_empty() {
                    return if schema.get("maxProperties") == Some(&0.into()) {
                        "`{}`".to_owned()
                    } else {
                        "object".to_owned()
                    };
                }
                let path = format!("{heading}.{name}");
                self.waiting.push_back((path.clone(), schema.clone()));
                format!("[object](#{})", anchor(&path))
            }
            Some(Value::String(kind)) if kind == "integer" => match (schema.get("minimum"), schema.get("maximum")) {
                (Some(least), Some(most)) => format!("integer, {least} to {most}"),
                _ => kind.clone(),
            },
            Some(Value::String(kind)) => kind.clone(),
            _ => "any".to_owned(),
        }
    }
}

/// What a definition means is said where it is defined.
fn is_reference(schema: &Value) -> bool {
    schema.get("$ref").is_some() || schema.get("items").is_some_and(is_reference)
}

fn text<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}

/// A value without the quotes of JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Fields of an object, or of objects of which a value is one: name, schema, whether it is always there.
fn fields(schema: &Value) -> Vec<(String, Value, bool)> {
    let objects: Vec<&Value> = match schema.get("oneOf").and_then(Value::as_array) {
        Some(choices) => choices.iter().collect(),
        None => vec![schema],
    };
    let mut all: Map<String, Value> = Map::new();
    let mut found: Vec<(String, Value, bool)> = Vec::new();
    for object in &objects {
        for (name, field) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if all.insert(name.clone(), field.clone()).is_none() {
                let always = objects.iter().all(|object| {
                    object["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name))
                });
                found.push((name.clone(), field.clone(), always));
            }
        }
    }
    found
}
