//! What can go wrong with a run on a checkout, apart from the checkout itself.
#![deny(clippy::wildcard_enum_match_arm)]

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::git::GitError;
use crate::model::mesh::Mesh;
use crate::session::command_error::EndsCommand;
use crate::session::exit::Exit;
use crate::session::outcome::Difference;
use crate::types::diagnostic::{Diagnostics, did_you_mean};
use crate::types::duration::shown as shown_duration;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, InvalidName};
use crate::types::time::Timestamp;

/// Most clusters, or differences of a plan, that are named.
const MOST_NAMED: usize = 5;

/// A name of a cluster that no spec declares.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub struct UnknownCluster {
    /// The flag that names it, if a flag does.
    pub flag: Option<&'static str>,
    pub name: String,
    /// One that is declared and may be meant.
    pub near: Option<String>,
    /// The first that are declared, quoted.
    pub declared: Vec<String>,
    pub count: usize,
}

impl UnknownCluster {
    /// The name, and what may be meant by it.
    pub fn new(mesh: &Mesh, flag: Option<&'static str>, name: &str) -> Self {
        let near = did_you_mean(name, mesh.clusters.keys().map(ClusterName::as_str));
        let declared = mesh.clusters.keys().take(MOST_NAMED).map(|name| format!("`{name}`")).collect();
        Self { flag, name: name.to_owned(), near: near.map(str::to_owned), declared, count: mesh.clusters.len() }
    }
}

impl Explain for UnknownCluster {
    fn explanation(&self) -> Explanation {
        let flag = self.flag.map(|flag| format!("{flag}: ")).unwrap_or_default();
        let message = format!("{flag}no spec declares a cluster `{}`", self.name.escape_debug());
        let more = match self.count.saturating_sub(self.declared.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let hint = match &self.near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("specs/ declares {}{more}", self.declared.join(", ")),
        };
        Explanation::new(Code::UnknownCluster, message).hint(hint)
    }
}

impl EndsCommand for UnknownCluster {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Threads for the network could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub struct RuntimeError(#[source] pub io::Error);

impl Explain for RuntimeError {
    fn explanation(&self) -> Explanation {
        Explanation::new(Code::SystemFailed, format!("cannot start the network runtime: {}", self.0))
    }
}

impl EndsCommand for RuntimeError {
    fn exit(&self) -> Exit {
        Exit::Machine
    }
}

/// A base that cannot be compared with.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub enum BaseError {
    /// git does not give its files.
    Git(#[source] GitError),
    /// git does not know the revision.
    Revision(#[source] GitError),
    /// The checkout lies in no repository.
    NoWorkTree { folder: PathBuf },
    /// Its files have findings.
    Findings {
        revision: String,
        /// The findings, their places at the revision.
        findings: Diagnostics,
    },
}

impl Explain for BaseError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Git(error) | Self::Revision(error) => {
                let Explanation { code, message, hint } = error.explanation();
                Explanation { code, message: format!("--base: {message}"), hint }
            }
            Self::NoWorkTree { folder } => {
                Explanation::new(Code::NotInGit, format!("--base: {} is not in a git work tree", folder.display()))
                    .hint("run it in a clone of the repository, or name one with -C")
            }
            Self::Findings { revision, .. } => {
                Explanation::new(Code::CheckoutHasFindings, format!("--base: `{revision}` has findings"))
            }
        }
    }
}

impl EndsCommand for BaseError {
    fn exit(&self) -> Exit {
        match self {
            Self::Git(_) => Exit::Machine,
            Self::Revision(_) | Self::NoWorkTree { .. } => Exit::Usage,
            Self::Findings { .. } => Exit::Failed,
        }
    }

    fn findings(&self) -> Option<&Diagnostics> {
        match self {
            Self::Findings { findings, .. } => Some(findings),
            Self::Git(_) | Self::Revision(_) | Self::NoWorkTree { .. } => None,
        }
    }
}

/// Why a text is no plan that can be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanFault {
    /// It breaks the format.
    #[error("expected what `engine plan --out` wrote, found JSON of another form or none ({0})")]
    Malformed(#[from] serde_json::Error),
    #[error("it has version {version}")]
    Version { version: u32 },
    /// The outcome in it is not the one that was stored.
    #[error("what it would change was edited")]
    OutcomeChanged,
}

/// What a stored plan rests on and has changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    Engine,
    /// Specs, templates or lock.
    Input,
    /// A file that specs name, or a key.
    File {
        path: String,
    },
    Tree,
}

/// Why a stored plan was not written, read or carried out.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub enum StoredPlanError {
    /// It cannot be written.
    NotWritable { path: PathBuf, source: serde_json::Error },
    /// The file cannot be written.
    Write { path: PathBuf, source: io::Error },
    /// The file cannot be read.
    Read { path: PathBuf, source: io::Error },
    /// It is no plan of this engine.
    NotPlan { path: PathBuf, source: PlanFault },
    /// What it rests on changed.
    Stale(Stale),
    /// It was made too long ago.
    TooOld { age: Duration, max_age: Duration },
    /// It was made later than it is now.
    FromFuture { time: Timestamp },
    /// The clusters were asked again, and it would change something else by now.
    Differs { differences: Vec<Difference> },
    /// An approval in it is none.
    Approval(#[source] InvalidName),
}

impl Explain for StoredPlanError {
    fn explanation(&self) -> Explanation {
        const AGAIN: &str = "make a new one with `engine plan --out`";
        match self {
            Self::NotWritable { path, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot write the plan to {}: {source}", path.display()))
            }
            Self::Write { path, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot write the plan to {}: {source}", path.display()))
            }
            Self::Read { path, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot read the plan {}: {source}", path.display()))
                    .hint("`engine plan --out FILE` writes one; to apply without one, leave it out")
            }
            Self::NotPlan { path, source } => {
                let message = format!("{} is not a plan of this engine: {source}", path.display());
                Explanation::new(Code::PlanMalformed, message).hint(AGAIN)
            }
            Self::Stale(what) => {
                let what = match what {
                    Stale::Engine => "the engine's version".to_owned(),
                    Stale::Input => "specs, templates or lock".to_owned(),
                    Stale::File { path } => format!("`{}`", path.escape_debug()),
                    Stale::Tree => "the rendered tree".to_owned(),
                };
                let message = format!("the plan is stale: {what} changed since it was made");
                Explanation::new(Code::PlanStale, message).hint(AGAIN)
            }
            Self::TooOld { age, max_age } => {
                let (age, max_age) = (shown_duration(*age), shown_duration(*max_age));
                let message = format!("the plan is too old: expected at most {max_age} (--max-age), found {age}");
                Explanation::new(Code::PlanTooOld, message).hint(AGAIN)
            }
            Self::FromFuture { time } => {
                let message = format!("the time of the plan: expected a time before now, found {time}");
                Explanation::new(Code::PlanTooOld, message)
                    .hint("compare the clocks of the two machines, then plan again")
            }
            Self::Differs { differences } => {
                let named: Vec<String> = differences.iter().take(MOST_NAMED).map(ToString::to_string).collect();
                let more = match differences.len().saturating_sub(MOST_NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let message = format!(
                    "the clusters were asked again, and what they show now leads to another plan; these differ: {}{more}",
                    named.join(", ")
                );
                Explanation::new(Code::PlanDiffers, message).hint(AGAIN)
            }
            Self::Approval(error) => Explanation::new(Code::PlanMalformed, error.to_string()),
        }
    }
}

impl EndsCommand for StoredPlanError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotWritable { .. } | Self::Write { .. } | Self::Read { .. } => Exit::Machine,
            Self::NotPlan { .. } | Self::Approval(_) => Exit::Failed,
            Self::Stale(_) | Self::TooOld { .. } | Self::FromFuture { .. } | Self::Differs { .. } => Exit::Refused,
        }
    }
}
