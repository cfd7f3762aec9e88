//! Files of the checkout that are not ours, and what our own lists and no one should.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use crate::model::layout::{GATEWAY_FILE, rendered_folder};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::key::KeyId;
use crate::types::name::ClusterName;
use crate::types::text::quoted;

/// Most characters of another tool's name.
const LONGEST_NAME: usize = 100;

/// Why a file is neither replaced nor deleted, nor left where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CompareRefusal {
    /// An object of someone else lies in a cluster's folder.
    Foreign {
        /// Path below the checkout.
        path: String,
        owner: Foreigner,
    },
    /// A values file without our first line lies where ours would.
    ForeignValues {
        /// Path below the checkout.
        path: String,
    },
    /// A file of a name, or in a place, that no file of ours has.
    Stray {
        /// Path below the checkout.
        path: String,
    },
    /// Our own list of files names one that is not ours, or something outside of its folder.
    ListedByKustomization {
        /// Path of the list below the checkout.
        path: String,
        entry: String,
    },
    /// Our own list of files does more than list.
    FieldOfKustomization {
        /// Path of the list below the checkout.
        path: String,
        /// The field that we never write.
        field: String,
    },
    /// All that runs in a cluster would go, and its spec does not say that it leaves.
    WholeFolder { cluster: ClusterName },
    /// The east-west gateway would go through which peers reach a cluster.
    Gateway { cluster: ClusterName },
    /// A folder with objects of ours, of a cluster that is neither declared nor in the lock.
    UnknownCluster { cluster: ClusterName },
    /// What is live in a cluster is of another checkout's run, and no link here is: the links there would be cut.
    OthersWrite {
        cluster: ClusterName,
        /// The key of the engine whose run it is.
        key: KeyId,
    },
}

/// Whose an object is that is not ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Foreigner {
    /// It is no Kubernetes object.
    NoObject,
    /// It carries no owner's label.
    Unlabelled { object: String },
    /// It carries the label of a tool.
    Tool {
        object: String,
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
            Self::NoObject => f.write_str("it is no Kubernetes object"),
            Self::Unlabelled { object } => write!(f, "`{}` carries no owner's label", short(object)),
            Self::Tool { object, tool, mesh: Some(mesh) } => {
                write!(f, "`{}` belongs to {}, mesh `{}`", short(object), short(tool), short(mesh))
            }
            Self::Tool { object, tool, mesh: None } => write!(f, "`{}` belongs to {}", short(object), short(tool)),
        }
    }
}

impl CompareRefusal {
    /// The file that it is about; the folder, where that is unknown as a whole.
    pub fn path(&self) -> String {
        match self {
            Self::Foreign { path, .. }
            | Self::ForeignValues { path }
            | Self::Stray { path }
            | Self::ListedByKustomization { path, .. }
            | Self::FieldOfKustomization { path, .. } => path.clone(),
            Self::Gateway { cluster } => format!("{}/{GATEWAY_FILE}", rendered_folder(cluster)),
            Self::WholeFolder { cluster } | Self::UnknownCluster { cluster } | Self::OthersWrite { cluster, .. } => {
                rendered_folder(cluster)
            }
        }
    }

    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::Foreign { .. } | Self::ForeignValues { .. } | Self::Stray { .. } => Code::FileNotOurs,
            Self::ListedByKustomization { .. } | Self::FieldOfKustomization { .. } => Code::KustomizationNotOurs,
            Self::WholeFolder { .. } | Self::Gateway { .. } => Code::TooManyDeletions,
            Self::UnknownCluster { .. } => Code::FolderOfUnknownCluster,
            Self::OthersWrite { .. } => Code::HandOver,
        }
    }
}

impl Explain for CompareRefusal {
    /// Reads on after "refused:".
    fn explanation(&self) -> Explanation {
        const AWAY: &str = "move it away; nothing is written for this cluster before";
        const SYNCED: &str = "take it out; whatever syncs the folder applies it";
        let short = |text: &str| quoted(text, LONGEST_NAME);
        let (message, hint) = match self {
            Self::Foreign { path, owner } => (format!("`{path}` is not ours: {owner}"), AWAY),
            Self::ForeignValues { path } => (format!("`{path}` is not ours: it lacks our first line"), AWAY),
            Self::Stray { path } => {
                (format!("`{path}` is not ours: no run writes a file of that name there"), "move it away")
            }
            Self::ListedByKustomization { path, entry } => {
                (format!("`{path}` lists `{}`, which is not ours", short(entry)), SYNCED)
            }
            Self::FieldOfKustomization { path, field } => {
                (format!("`{path}` has the field `{}`, which no run writes", short(field)), SYNCED)
            }
            Self::WholeFolder { cluster } => (
                format!(
                    "exporter, api-proxy and relay of `{cluster}` would go from `rendered/{cluster}`, and it is not `state: leaving`"
                ),
                "if that is meant, apply with --allow-delete",
            ),
            Self::Gateway { cluster } => (
                format!(
                    "the east-west gateway of `{cluster}` would go, and with it every connection of its peers that comes through it"
                ),
                "deploy another one with the label of its network first; if that is meant, apply with --allow-delete",
            ),
            Self::UnknownCluster { cluster } => (
                format!("`rendered/{cluster}` holds objects of a cluster that neither spec nor lock knows"),
                "restore its document and lock, or delete by hand what `rendered/` and `values/` hold of it",
            ),
            Self::OthersWrite { cluster, key } => (
                format!(
                    "the checkout whose engine has key `{key}` wrote what is live in `{cluster}`, and its links there would be cut"
                ),
                "set `reconciler: external` for it; to take it over, declare here each cluster that it is linked with, have the other checkout leave \
                 it, and use --restore-links",
            ),
        };
        Explanation::new(self.code(), message).hint(hint)
    }
}

/// A cluster that gets an east-west gateway and publishes the address of one that it has.
#[derive(Debug)]
pub(super) struct SecondGateway<'a> {
    pub(super) cluster: &'a ClusterName,
    /// The published ones.
    pub(super) gateways: Vec<String>,
}

impl Explain for SecondGateway<'_> {
    fn explanation(&self) -> Explanation {
        let message = format!(
            "`{}` has a gateway at {}, and `gateway.manage` adds another one: its peers spread their requests over both",
            self.cluster,
            self.gateways.join(", ")
        );
        Explanation::new(Code::NotUnique, message)
            .hint("take `gateway.manage` out, or the other gateway once the new one is published")
    }
}
