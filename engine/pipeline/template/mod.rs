//! Component templates: those compiled in, and the overrides of a checkout.
//!
//! A template is text with values that renders to YAML documents. An override replaces one template by its relative
//! name and may change what `allowed` lists: resources, numbers of probes, scheduling and the like. All else equals the built-in
//! template's, or the override is refused with the field and its line.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use self::finding::TemplateFinding;
use self::text::{MAX_RENDERED, RenderedTemplate, fill};
use crate::model::layout::TEMPLATES;
use crate::spec::SourceFile;
use crate::types::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::types::object::Object;
use crate::types::yaml::{self, MAX_TEXT, Node};

mod allowed;
mod finding;
mod model;
mod text;

pub use self::model::Overridden;

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../templates/", $name)))),*]
    };
}

/// The templates that are compiled in, by relative name.
const BUILTIN: [(&str, &str); 27] = builtin![
    "agent/customresourcedefinition.yaml",
    "agent/deployment.yaml",
    "agent/networkpolicy.yaml",
    "agent/poddisruptionbudget.yaml",
    "agent/rbac.yaml",
    "agent/service.yaml",
    "agent/serviceaccount.yaml",
    "exporter/deployment.yaml",
    "exporter/networkpolicy.yaml",
    "exporter/poddisruptionbudget.yaml",
    "exporter/rbac.yaml",
    "exporter/service.yaml",
    "exporter/serviceaccount.yaml",
    "gateway/expose.yaml",
    "gateway/gateway.yaml",
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

/// The values that templates have; `args` only Deployments, and those of the gateway only its own.
const VALUES: [&str; 24] = [
    "admission_policy",
    "agent_account",
    "args",
    "exporter_host",
    "exporter_service",
    "expose",
    "exposed",
    "exposed_by_gateway",
    "external_traffic_policy",
    "finds_gateways",
    "gateway_hosts",
    "has_revision",
    "image",
    "manages_gateway",
    "mesh_config_maps",
    "namespace",
    "network",
    "proxy_host",
    "proxy_service",
    "relay_account",
    "replicas",
    "require_token",
    "revision",
    "tls_secret",
];

/// Overrides of component templates; a component without one is rendered from its built-in template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    overrides: BTreeMap<&'static str, SourceFile>,
}

/// What a template renders.
#[derive(Debug, Default)]
pub(crate) struct Rendition {
    pub(crate) objects: Vec<Object>,
    /// The override that is in force, if one is: its path, and the fields in which its objects are others.
    pub(crate) overridden: Option<(Arc<str>, Vec<Overridden>)>,
}

impl Templates {
    /// The templates that are compiled in.
    pub fn builtin() -> Self {
        Self { overrides: BTreeMap::new() }
    }

    /// The texts of the templates that are compiled in, by relative name.
    pub fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILTIN.into_iter()
    }

    /// The templates that are compiled in, with the overrides of a checkout. Files other than `*.yaml` are left alone.
    pub fn load(files: &[SourceFile]) -> Result<Self, Diagnostics> {
        let mut templates = Self::builtin();
        let mut findings = Diagnostics::new();
        for file in files {
            if let Err(finding) = templates.add(file) {
                findings.push(finding);
            }
        }
        findings.ok_or(Some(templates)).map(|(templates, _)| templates)
    }

    fn add(&mut self, file: &SourceFile) -> Result<(), Diagnostic> {
        let name = file.path.strip_prefix(TEMPLATES).map_or(&*file.path, |name| name.trim_start_matches('/'));
        if std::path::Path::new(name).extension().is_none_or(|extension| extension != "yaml") {
            return Ok(());
        }
        let wrong = |what: TemplateFinding<'_>| Diagnostic::error(Some(place(&file.path, 1)), what);
        let Some((name, builtin)) = BUILTIN.into_iter().find(|(builtin, _)| *builtin == name) else {
            let known = BUILTIN.map(|(name, _)| name);
            return Err(wrong(TemplateFinding::Unknown { name, known: &known, example: known[1] }));
        };
        if file.bytes.len() > MAX_TEXT {
            return Err(wrong(TemplateFinding::TooLarge { bytes: file.bytes.len(), most: MAX_TEXT }));
        }
        let text = std::str::from_utf8(&file.bytes).map_err(|_| wrong(TemplateFinding::NotUtf8))?;
        // also where no cluster has components yet
        let values: Map<String, Value> = VALUES.iter().map(|name| ((*name).to_owned(), true.into())).collect();
        Template { path: &file.path, text }.rendered(&values)?;
        if file.bytes != builtin.as_bytes() {
            self.overrides.insert(name, file.clone());
        }
        Ok(())
    }

    /// What a template renders with these values.
    pub(crate) fn render(&self, name: &str, values: &Map<String, Value>) -> Result<Rendition, Diagnostics> {
        let path = format!("built-in {TEMPLATES}/{name}");
        let text = BUILTIN.iter().find(|(builtin, _)| *builtin == name).map_or("", |(_, text)| text);
        let (wanted, _) = Template { path: &path, text }.objects(values)?;
        let wanted: Vec<Object> = wanted.into_iter().map(|(object, _)| object).collect();
        let Some(own) = self.overrides.get(name) else {
            return Ok(Rendition { objects: wanted, overridden: None });
        };
        let template = Template { path: &own.path, text: std::str::from_utf8(&own.bytes).unwrap_or_default() };
        let (objects, rendered) = template.objects(values)?;
        match model::compare(&wanted, &objects) {
            Ok(overridden) => {
                let objects = objects.into_iter().map(|(object, _)| object).collect();
                Ok(Rendition { objects, overridden: Some((own.path.clone(), overridden)) })
            }
            Err(broken) => {
                let mut findings = Diagnostics::new();
                for (line, broken) in &broken {
                    let at = Some(place(&own.path, rendered.line(*line)));
                    let finding = Diagnostic::refusal(at, TemplateFinding::NotAllowed(broken));
                    findings.push(template.excerpt(finding));
                }
                Err(findings)
            }
        }
    }
}

/// A template: its path, for findings, and its text.
#[derive(Clone, Copy)]
struct Template<'t> {
    path: &'t str,
    text: &'t str,
}

impl Template<'_> {
    fn rendered(self, values: &Map<String, Value>) -> Result<RenderedTemplate, Diagnostic> {
        fill(self.text, values).map_err(|(line, fault)| {
            let values: Vec<&str> = values.keys().map(String::as_str).collect();
            self.wrong(line, &TemplateFinding::Text { fault: &fault, values: &values })
        })
    }

    fn objects(self, values: &Map<String, Value>) -> Result<(Vec<(Object, Node)>, RenderedTemplate), Diagnostic> {
        let rendered = self.rendered(values)?;
        let documents = yaml::documents(&rendered.text, MAX_RENDERED)
            .map_err(|fault| self.wrong(rendered.line(fault.line()), &TemplateFinding::NotYaml(&fault)))?;
        let mut objects = Vec::new();
        for node in documents {
            let value = node.clone().into_value();
            if value.is_null() {
                continue;
            }
            let stranger = || self.wrong(rendered.line(node.line), &TemplateFinding::NotObject);
            objects.push((Object::from_value(value).ok_or_else(stranger)?, node));
        }
        Ok((objects, rendered))
    }

    fn wrong(self, line: usize, what: &TemplateFinding<'_>) -> Diagnostic {
        self.excerpt(Diagnostic::error(Some(place(self.path, line)), what))
    }

    fn excerpt(self, mut finding: Diagnostic) -> Diagnostic {
        let line = finding.at.as_ref().map_or(1, |at| at.line);
        finding.excerpt = self.text.lines().nth(line.saturating_sub(1)).map(str::to_owned);
        finding
    }
}

impl RenderedTemplate {
    /// The line of the template that a line of the text comes from.
    fn line(&self, line: usize) -> usize {
        self.lines.get(line.saturating_sub(1)).or(self.lines.last()).copied().unwrap_or(1)
    }
}

fn place(path: &str, line: usize) -> Location {
    Location { file: path.into(), line, column: 1 }
}
