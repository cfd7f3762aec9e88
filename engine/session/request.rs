//! What is asked of a run.

use crate::pipeline::accept::Approvals;
use crate::types::name::ClusterName;

/// What is asked of a turn.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Approved trust changes.
    pub approvals: Approvals,
    /// `--allow-delete`.
    pub allow_delete: bool,
    /// Only this cluster's files.
    pub only: Option<ClusterName>,
}
