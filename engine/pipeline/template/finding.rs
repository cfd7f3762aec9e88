//! What can be wrong with a component template.
#![deny(clippy::wildcard_enum_match_arm)]

use minijinja::ErrorKind;

use super::model::Broken;
use crate::types::diagnostic::did_you_mean;
use crate::types::explanation::{Code, Explain, Explanation};

/// What is wrong with a component template.
#[derive(Debug)]
pub(super) enum TemplateFinding<'a> {
    /// There is no template of this name to override.
    Unknown {
        /// The name.
        name: &'a str,
        /// The names that there are.
        known: &'a [&'a str],
        /// One of them.
        example: &'a str,
    },
    /// Bytes that are no characters.
    NotUtf8,
    /// It cannot be rendered.
    Broken(&'a minijinja::Error),
    /// What it renders to is no YAML.
    NotYaml(&'a serde_yaml::Error),
    /// What it renders to is no object.
    NotObject,
    /// It does not keep the model of the template that it overrides.
    Model(&'a Broken),
}

impl TemplateFinding<'_> {
    fn code(&self) -> Code {
        match self {
            Self::Unknown { .. } | Self::Broken(_) | Self::NotYaml(_) | Self::NotObject | Self::Model(_) => {
                Code::InvalidTemplate
            }
            Self::NotUtf8 => Code::WrongEncoding,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Unknown { name, .. } => format!("there is no component template `{name}`"),
            Self::NotUtf8 => "the template is not UTF-8".to_owned(),
            Self::Broken(error) => {
                let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
                format!("the template cannot be rendered: {}{detail}", error.kind())
            }
            Self::NotYaml(error) => format!("the template renders to no YAML: {error}"),
            Self::NotObject => {
                "the template renders to a document without apiVersion, kind or metadata.name".to_owned()
            }
            Self::Model(broken) => broken.to_string(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { name, known, example } => Some(match did_you_mean(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("a file overrides the built-in template of the same name, for example `{example}`")
                }
            }),
            Self::Broken(error) if error.kind() == ErrorKind::UndefinedError => Some(
                "the values are: namespace, image, replicas, expose, tls_secret, mesh_config_maps and, in deployments, args"
                    .to_owned(),
            ),
            Self::Model(_) => Some(
                "an override may change resources, probes, scheduling and the like; copy the rest from the built-in template"
                    .to_owned(),
            ),
            Self::NotUtf8 | Self::Broken(_) | Self::NotYaml(_) | Self::NotObject => None,
        }
    }
}

impl Explain for TemplateFinding<'_> {
    fn explanation(&self) -> Explanation {
        Explanation { code: self.code(), message: self.message(), hint: self.hint() }
    }
}
