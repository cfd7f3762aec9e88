//! Files that are in the way of what would be written.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::ClusterName;
use crate::types::text::quoted;

/// Most characters of another tool's name.
const LONGEST_NAME: usize = 100;

/// Why a file is neither replaced nor deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareRefusal {
    /// An object of somebody else stands where ours would.
    Foreign {
        /// Path below the checkout.
        path: String,
        /// Whose it is.
        owner: Foreigner,
    },
    /// A values file without our first line stands where ours would.
    ForeignValues {
        /// Path below the checkout.
        path: String,
    },
    /// All that runs in a cluster would go, and its spec does not say that it leaves.
    WholeFolder {
        /// The cluster.
        cluster: ClusterName,
    },
    /// A folder with objects of ours, of a cluster that is neither declared nor in the lock.
    UnknownCluster {
        /// The cluster.
        cluster: ClusterName,
    },
}

/// Whose an object is that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreigner {
    /// It is no Kubernetes object.
    NoObject,
    /// It carries no owner's label.
    Unlabelled,
    /// It carries the label of a tool.
    Tool {
        /// Value of `app.kubernetes.io/managed-by`.
        tool: String,
        /// Value of our own label for the mesh, where it has one.
        mesh: Option<String>,
    },
}

impl fmt::Display for Foreigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &str| quoted(text, LONGEST_NAME);
        match self {
            Self::NoObject => f.write_str("is no Kubernetes object"),
            Self::Unlabelled => f.write_str("carries no owner's label"),
            Self::Tool { tool, mesh: Some(mesh) } => write!(f, "belongs to {}, mesh `{}`", short(tool), short(mesh)),
            Self::Tool { tool, mesh: None } => write!(f, "belongs to {}", short(tool)),
        }
    }
}

impl CompareRefusal {
    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::Foreign { .. } | Self::ForeignValues { .. } => Code::FileNotOurs,
            Self::WholeFolder { .. } => Code::TooManyDeletions,
            Self::UnknownCluster { .. } => Code::FolderOfUnknownCluster,
        }
    }
}

impl Explain for CompareRefusal {
    /// Reads on after "refused:".
    fn explanation(&self) -> Explanation {
        let ours = "move it away, and the next run writes ours";
        match self {
            Self::Foreign { path, owner } => {
                Explanation::new(self.code(), format!("`{path}` is not ours: it {owner}")).hint(ours)
            }
            Self::ForeignValues { path } => {
                Explanation::new(self.code(), format!("`{path}` is not ours: it lacks our first line")).hint(ours)
            }
            Self::WholeFolder { cluster } => Explanation::new(
                self.code(),
                format!(
                    "exporter, api-proxy and relay of `{cluster}` would go from `rendered/{cluster}`, and it is not `state: leaving`"
                ),
            )
            .hint("if that is meant, apply with --allow-delete"),
            Self::UnknownCluster { cluster } => Explanation::new(
                self.code(),
                format!("`rendered/{cluster}` holds objects of a cluster that neither spec nor lock knows"),
            )
            .hint("restore its document and lock, or delete the folder by hand"),
        }
    }
}
