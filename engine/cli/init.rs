//! `engine init`: a first spec from what clusters show.

use clap::Args;

use super::{Arguments, Exit, Failure, Printer, refused};

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Init {}

/// `engine init`.
pub fn run(_arguments: &Arguments, _init: &Init, _printer: &Printer) -> Result<Exit, Failure> {
    Err(refused("`engine init`"))
}
