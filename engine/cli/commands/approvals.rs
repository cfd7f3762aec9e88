//! What is approved on the command line, for `plan` and `apply`.

use std::io::IsTerminal;

use clap::Args;

use crate::cli::global::Global;
use crate::model::trust::Approval;
use crate::pipeline::Request;
use crate::session::exit::{Exit, Failure, not_here};

/// What is approved.
#[derive(Debug, Args, Default)]
pub(crate) struct Approvals {
    /// Accept the trust change of a cluster: `NAME`, `NAME@DIGEST`, or `all` on a terminal or while no lock exists.
    #[arg(long, value_name = "NAME[@DIGEST]", value_delimiter = ',')]
    pub(crate) accept_trust: Vec<String>,
    /// Let more than 30 % of the links go although no cluster is `state: leaving`.
    #[arg(long)]
    pub(crate) allow_delete: bool,
}

impl Approvals {
    /// The approvals as values. `all` needs a terminal or a checkout without a lock.
    pub(crate) fn parse(&self, all_is_allowed: bool) -> Result<crate::model::trust::Approvals, String> {
        let mut approvals = crate::model::trust::Approvals::default();
        for text in &self.accept_trust {
            if text == "all" && all_is_allowed {
                approvals.all = true;
            } else if text == "all" {
                return Err("--accept-trust all needs a terminal, or a checkout without a lock; name each cluster as the plan prints it".to_owned());
            } else {
                let approval: Approval = text.parse().map_err(|error| format!("--accept-trust: {error}"))?;
                approvals.named.push(approval);
            }
        }
        Ok(approvals)
    }
}

/// Where a plan leads: `--to`.
pub(super) fn target(to: &str) -> Result<(), Failure> {
    match to {
        "tree" => Ok(()),
        "cluster" => Err(not_here("`--to cluster`")),
        other => Err(Failure::new(Exit::Usage, format!("--to {}: only `tree` is known", other.escape_debug()))),
    }
}

/// What is asked of a run.
pub(super) fn request(arguments: &Global, approvals: &Approvals, has_lock: bool) -> Result<Request, Failure> {
    let all = !has_lock || (std::io::stdin().is_terminal() && std::io::stderr().is_terminal());
    let parsed = approvals.parse(all).map_err(|words| Failure::new(Exit::Usage, words))?;
    Ok(Request { approvals: parsed, allow_delete: approvals.allow_delete, only: arguments.cluster.clone() })
}
