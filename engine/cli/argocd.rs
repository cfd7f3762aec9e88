//! `engine argocd`: the config-management plugin.

use clap::Subcommand;

use super::{Arguments, Exit, Failure, Printer, refused};

/// Commands of `argocd`.
#[derive(Debug, Subcommand)]
pub enum Argocd {
    /// One cluster's objects on stdout, from specs, templates and lock alone.
    Generate,
    /// The parameters that an Application may set.
    Parameters,
}

/// `engine argocd`.
pub fn run(_arguments: &Arguments, _argocd: &Argocd, _printer: &Printer) -> Result<Exit, Failure> {
    Err(refused("`engine argocd`"))
}
