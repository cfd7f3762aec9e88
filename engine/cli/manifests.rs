//! `engine manifests`: what Argo CD and Flux are installed with.

use clap::Subcommand;

use super::{Arguments, Exit, Failure, Printer, refused};

/// Commands of `manifests`.
#[derive(Debug, Subcommand)]
pub enum Manifests {
    /// The plugin's sidecar and the Applications.
    Argocd,
    /// `GitRepository` and `Kustomization` objects.
    Flux,
}

/// `engine manifests`.
pub fn run(_arguments: &Arguments, _manifests: &Manifests, _printer: &Printer) -> Result<Exit, Failure> {
    Err(refused("`engine manifests`"))
}
