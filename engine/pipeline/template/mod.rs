//! Component templates: those compiled in, and the overrides of a checkout.
//!
//! A template is text of minijinja that renders to YAML documents; values go through `|tojson`. An override replaces one
//! template by its relative name and must keep its model: the same objects, labels, selectors, image, service account and
//! rights, and nothing that lifts a pod out of its confinement. It may change the rest: resources, probes, affinity.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde::Deserialize;
use serde_json::Value;

use self::finding::TemplateFinding;
use crate::model::layout::TEMPLATES;
use crate::spec::Source;
use crate::types::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::types::object::Object;

mod finding;
mod model;

/// Steps of minijinja's machine that one template may take.
const FUEL: u64 = 50_000;

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../templates/", $name)))),*]
    };
}

/// The templates that are compiled in, by relative name.
const BUILTIN: [(&str, &str); 18] = builtin![
    "exporter/deployment.yaml",
    "exporter/networkpolicy.yaml",
    "exporter/poddisruptionbudget.yaml",
    "exporter/rbac.yaml",
    "exporter/service.yaml",
    "exporter/serviceaccount.yaml",
    "proxy/deployment.yaml",
    "proxy/networkpolicy.yaml",
    "proxy/poddisruptionbudget.yaml",
    "proxy/rbac.yaml",
    "proxy/service.yaml",
    "proxy/serviceaccount.yaml",
    "relay/deployment.yaml",
    "relay/networkpolicy.yaml",
    "relay/poddisruptionbudget.yaml",
    "relay/rbac.yaml",
    "relay/service.yaml",
    "relay/serviceaccount.yaml",
];

/// All component templates.
#[derive(Debug, Clone)]
pub struct Templates {
    builtin: Environment<'static>,
    overrides: BTreeMap<&'static str, Override>,
}

#[derive(Debug, Clone)]
struct Override {
    path: Arc<str>,
    text: String,
    environment: Environment<'static>,
}

impl Templates {
    /// The templates that are compiled in.
    pub fn builtin() -> Self {
        let mut builtin = environment();
        for (name, text) in BUILTIN {
            // A test renders each; a broken one is said when it is used.
            let _unused = builtin.add_template(name, text);
        }
        Self { builtin, overrides: BTreeMap::new() }
    }

    /// The templates that are compiled in, with the overrides of a checkout. Files other than `*.yaml` are left alone.
    pub fn load(files: &[Source]) -> Result<Self, Diagnostics> {
        let mut templates = Self::builtin();
        let mut findings = Diagnostics::new();
        for file in files {
            if let Err(finding) = templates.add(file) {
                findings.push(finding);
            }
        }
        findings.ok_or(Some(templates)).map(|(templates, _)| templates)
    }

    fn add(&mut self, file: &Source) -> Result<(), Diagnostic> {
        let name = file.path.strip_prefix(TEMPLATES).map_or(&*file.path, |name| name.trim_start_matches('/'));
        if std::path::Path::new(name).extension().is_none_or(|extension| extension != "yaml") {
            return Ok(());
        }
        let at = |line| Some(place(&file.path, line));
        let Some((name, builtin)) = BUILTIN.into_iter().find(|(builtin, _)| *builtin == name) else {
            let known = BUILTIN.map(|(name, _)| name);
            return Err(Diagnostic::error(at(1), TemplateFinding::Unknown { name, known: &known, example: known[1] }));
        };
        let text = std::str::from_utf8(&file.bytes)
            .map_err(|_| Diagnostic::error(at(1), TemplateFinding::NotUtf8))?
            .to_owned();
        if text == builtin {
            return Ok(());
        }
        let mut environment = environment();
        if let Err(error) = environment.add_template_owned(name, text.clone()) {
            return Err(failure(&file.path, &text, &error));
        }
        self.overrides.insert(name, Override { path: file.path.clone(), text, environment });
        Ok(())
    }

    /// The objects of a template. `context` is a mapping of the values the template may use.
    pub(crate) fn objects(&self, name: &str, context: &Value) -> Result<Vec<Object>, Diagnostic> {
        let path = format!("built-in {TEMPLATES}/{name}");
        let text = BUILTIN.iter().find(|(builtin, _)| *builtin == name).map_or("", |(_, text)| text);
        let wanted = objects(&self.builtin, name, &path, text, context)?;
        let Some(own) = self.overrides.get(name) else {
            return Ok(wanted);
        };
        let objects = objects(&own.environment, name, &own.path, &own.text, context)?;
        match model::keeps(&wanted, &objects) {
            Ok(()) => Ok(objects),
            Err(broken) => {
                let line = line_with(&own.text, broken.near());
                Err(located(&own.path, &own.text, line, &TemplateFinding::Model(&broken)))
            }
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default());
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", to_json);
    environment
}

/// A value as JSON, which is YAML, too. Stricter than minijinja's own, which takes an unknown name for `null`.
fn to_json(value: &minijinja::Value) -> Result<String, minijinja::Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    serde_json::to_string(value).map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn objects(
    environment: &Environment<'_>,
    name: &str,
    path: &str,
    text: &str,
    context: &Value,
) -> Result<Vec<Object>, Diagnostic> {
    let rendered = environment.get_template(name).and_then(|template| template.render(Serde(context)));
    let rendered = rendered.map_err(|error| failure(path, text, &error))?;
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&rendered) {
        let value = Value::deserialize(document).map_err(|error| {
            let line = error.location().map_or(1, |at| at.line());
            let line = template_line(text, &rendered, line);
            located(path, text, line, &TemplateFinding::NotYaml(&error))
        })?;
        if value.is_null() {
            continue;
        }
        let stranger = || located(path, text, 1, &TemplateFinding::NotObject);
        objects.push(Object::from_value(value).ok_or_else(stranger)?);
    }
    Ok(objects)
}

/// The line of the template that a line of its output comes from: one of the same text, else the one in the same place.
fn template_line(template: &str, rendered: &str, line: usize) -> usize {
    let wanted = rendered.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let same = template.lines().position(|text| !wanted.is_empty() && text == wanted);
    same.map_or(line.clamp(1, template.lines().count().max(1)), |at| at + 1)
}

/// The first line that holds a word.
fn line_with(text: &str, word: &str) -> usize {
    text.lines().position(|line| !word.is_empty() && line.contains(word)).map_or(1, |at| at + 1)
}

fn failure(path: &str, text: &str, error: &minijinja::Error) -> Diagnostic {
    located(path, text, error.line().unwrap_or(1), &TemplateFinding::Broken(error))
}

fn place(path: &str, line: usize) -> Location {
    Location { file: path.into(), line, column: 1 }
}

fn located(path: &str, text: &str, line: usize, what: &TemplateFinding<'_>) -> Diagnostic {
    let mut finding = Diagnostic::error(Some(place(path, line)), what);
    finding.excerpt = text.lines().nth(line.saturating_sub(1)).map(str::to_owned);
    finding
}
