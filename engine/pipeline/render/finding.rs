//! What can be wrong with what is rendered.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, InvalidName};
use crate::types::object::YamlError;
use crate::types::text::quoted;
use crate::types::yaml::YamlFault;

/// Most characters of why someone else's text cannot be read.
const LONGEST_REASON: usize = 200;

/// What is wrong with what is rendered.
#[derive(Debug)]
pub(super) enum RenderFinding<'a> {
    /// A value that cannot be written.
    NotWritable(&'a NotWritable),
    /// A text that another parser reads as something else.
    ReadsOtherwise { what: &'static str },
    /// A text that another parser does not read.
    Unreadable {
        what: &'static str,
        /// What the parser found.
        error: &'a serde_yaml::Error,
    },
    /// More bytes than Kubernetes keeps.
    TooLarge {
        /// The object or file.
        what: &'a str,
        cluster: &'a ClusterName,
        /// How many it would have.
        bytes: usize,
        /// How many it may have.
        most: usize,
    },
    /// The standard mesh networks cannot be read.
    StandardNetworks { cluster: &'a ClusterName, fault: &'a StandardFault },
}

/// Why the standard mesh networks cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum StandardFault {
    #[error(transparent)]
    NotYaml(#[from] YamlFault),
    /// The document is no mapping.
    #[error("it is no mapping")]
    NotMapping,
    #[error("`networks` is no mapping")]
    NetworksNotMapping,
    #[error("network `{name}` is no mapping")]
    NetworkNotMapping { name: String },
}

/// Why a value of ours cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWritable {
    #[error(transparent)]
    Yaml(#[from] YamlError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A name of our own making is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl RenderFinding<'_> {
    fn code(&self) -> Code {
        match self {
            Self::NotWritable(_) | Self::ReadsOtherwise { .. } | Self::Unreadable { .. } | Self::TooLarge { .. } => {
                Code::NotRendered
            }
            Self::StandardNetworks { .. } => Code::StandardNetworksBroken,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NotWritable(error) => error.to_string(),
            Self::ReadsOtherwise { what } => {
                format!("{what} does not read back as it was meant, so it is not written")
            }
            Self::Unreadable { what, error } => format!("{what} does not read back, so it is not written: {error}"),
            Self::TooLarge { what, cluster, bytes, most } => format!(
                "`{what}` of cluster `{cluster}` would have {bytes} bytes, and Kubernetes keeps at most {most} in one object: \
                 about 760 peers with RSA-2048 roots, more with EC roots"
            ),
            Self::StandardNetworks { cluster, fault } => {
                let reason = quoted(&fault.to_string(), LONGEST_REASON);
                format!(
                    "`meshNetworks` of the standard mesh configuration of `{cluster}` cannot be read and is left out: {reason}"
                )
            }
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotWritable(_) | Self::ReadsOtherwise { .. } | Self::Unreadable { .. } => return None,
            Self::TooLarge { .. } => {
                "link fewer clusters with each other (`topology: pairs`), or give the clusters EC roots"
            }
            Self::StandardNetworks { .. } => "correct it where Istio was installed; istiod skips it too",
        };
        Some(hint.to_owned())
    }
}

impl Explain for RenderFinding<'_> {
    fn explanation(&self) -> Explanation {
        Explanation { code: self.code(), message: self.message(), hint: self.hint() }
    }
}
