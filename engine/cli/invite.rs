//! `engine invite`: what another team needs to declare a cluster of ours.

use clap::Args;

use super::{Arguments, Exit, Failure, Printer, refused};

/// Arguments of `invite`.
#[derive(Debug, Args)]
pub struct Invite {}

/// `engine invite`.
pub fn run(_arguments: &Arguments, _invite: &Invite, _printer: &Printer) -> Result<Exit, Failure> {
    Err(refused("`engine invite`"))
}
