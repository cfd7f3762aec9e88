//! What can be wrong with a component template.
#![deny(clippy::wildcard_enum_match_arm)]

use super::model::OverrideFault;
use super::text::TextFault;
use crate::types::diagnostic::did_you_mean;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::yaml::YamlFault;

/// What is wrong with a component template.
#[derive(Debug)]
pub(super) enum TemplateFinding<'a> {
    /// There is no template of this name to override.
    Unknown {
        name: &'a str,
        /// The names that there are.
        known: &'a [&'a str],
        example: &'a str,
    },
    /// Bytes that are no characters.
    NotUtf8,
    /// More bytes than are read.
    TooLarge { bytes: usize, most: usize },
    /// Its values cannot be filled in.
    Text { fault: &'a TextFault, values: &'a [&'a str] },
    /// What it renders to is no YAML.
    NotYaml(&'a YamlFault),
    /// What it renders to is no object.
    NotObject,
    /// It changes what an override may not.
    NotAllowed(&'a OverrideFault),
}

impl TemplateFinding<'_> {
    fn code(&self) -> Code {
        match self {
            Self::Unknown { .. } | Self::Text { .. } | Self::NotYaml(_) | Self::NotObject => Code::InvalidTemplate,
            Self::NotAllowed(_) => Code::OverrideNotAllowed,
            Self::TooLarge { .. } => Code::LimitExceeded,
            Self::NotUtf8 => Code::WrongEncoding,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Unknown { name, .. } => format!("there is no component template `{name}`"),
            Self::NotUtf8 => "the template is not UTF-8".to_owned(),
            Self::TooLarge { bytes, most } => {
                format!("expected a template of at most {most} bytes, found {bytes}")
            }
            Self::Text { fault, .. } => format!("the template cannot be rendered: {fault}"),
            Self::NotYaml(fault) => format!("the template renders to no YAML: {fault}"),
            Self::NotObject => {
                "the template renders to a document without apiVersion, kind or metadata.name".to_owned()
            }
            Self::NotAllowed(broken) => broken.to_string(),
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
            Self::Text { fault: TextFault::UnknownValue { .. }, values } => {
                Some(format!("the values are: {}", values.join(", ")))
            }
            Self::NotAllowed(_) => Some(
                "take the rest from the built-in template; docs/templates.md lists what an override may change"
                    .to_owned(),
            ),
            Self::NotUtf8 | Self::TooLarge { .. } | Self::Text { .. } | Self::NotYaml(_) | Self::NotObject => None,
        }
    }
}

impl Explain for TemplateFinding<'_> {
    fn explanation(&self) -> Explanation {
        Explanation { code: self.code(), message: self.message(), hint: self.hint() }
    }
}
