//! What is approved on the command line, for `plan` and `apply`.
#![deny(clippy::wildcard_enum_match_arm)]

use std::io::IsTerminal;

use clap::Args;

use crate::cli::error::UsageError;
use crate::cli::global::Global;
use crate::model::trust::Approval;
use crate::pipeline::Request;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::exit::Exit;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::InvalidName;

/// What is approved.
#[derive(Debug, Args, Default)]
pub(crate) struct ApprovalArgs {
    /// Accept a trust change: `NAME@DIGEST` as the plan prints it, which is exactly that one; `NAME`, whatever changed of
    /// this cluster; or `all`, on a terminal or in a checkout without a lock.
    #[arg(long, value_name = "NAME[@DIGEST]", value_delimiter = ',')]
    pub(crate) accept_trust: Vec<String>,
    /// Allow a run that drops much although no cluster is `state: leaving`, such as more than 30 % of the mesh's remote
    /// secrets, or all of a cluster's.
    #[arg(long)]
    pub(crate) allow_delete: bool,
    /// Take links that the lock lost from the tree and from evidence of what istiod reads: only where git has no copy of them.
    /// The plan lists each of them.
    #[arg(long)]
    pub(crate) restore_links: bool,
}

impl ApprovalArgs {
    /// The approvals as values. `all` needs a terminal or a checkout without a lock.
    pub(crate) fn parse(&self, all_is_allowed: bool) -> Result<crate::model::trust::Approvals, ApprovalError> {
        let mut approvals = crate::model::trust::Approvals::default();
        for text in &self.accept_trust {
            if text == "all" && all_is_allowed {
                approvals.all = true;
            } else if text == "all" {
                return Err(ApprovalError::All);
            } else {
                let approval: Approval = text.parse().map_err(ApprovalError::Name)?;
                approvals.named.push(approval);
            }
        }
        Ok(approvals)
    }
}

/// Where a plan leads: `--to`.
pub(super) fn target(to: &str) -> Result<(), CommandError> {
    match to {
        "tree" => Ok(()),
        "cluster" => Err(UsageError::NotHere { what: "`--to cluster`".to_owned() }.into()),
        other => Err(ApprovalError::Target { to: other.to_owned() }.into()),
    }
}

/// What is asked of a run.
pub(super) fn request(arguments: &Global, approvals: &ApprovalArgs, has_lock: bool) -> Result<Request, CommandError> {
    let all = !has_lock || (std::io::stdin().is_terminal() && std::io::stderr().is_terminal());
    let parsed = approvals.parse(all)?;
    Ok(Request {
        approvals: parsed,
        allow_delete: approvals.allow_delete,
        restore_links: approvals.restore_links,
        only: arguments.cluster.clone(),
    })
}

/// What is wrong with what is approved, or with where a plan leads.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum ApprovalError {
    /// All at once, without a terminal.
    All,
    /// No name of a cluster, or no digest.
    Name(#[source] InvalidName),
    /// A place that is not known.
    Target {
        /// Which.
        to: String,
    },
}

impl Explain for ApprovalError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::All => {
                let message =
                    "--accept-trust all is not for scripts: expected a terminal, or a checkout without a lock";
                Explanation::new(Code::InvalidArguments, message).hint("name each cluster as the plan prints it")
            }
            Self::Name(error) => Explanation::new(Code::InvalidArguments, format!("--accept-trust: {error}")),
            Self::Target { to } => Explanation::new(
                Code::InvalidArguments,
                format!("--to: expected `tree`, found `{}`", to.escape_debug()),
            ),
        }
    }
}

impl EndsCommand for ApprovalError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}
