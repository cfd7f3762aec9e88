//! `engine report`: the mesh as one HTML page.

use std::path::PathBuf;

use clap::Args;

use super::{Arguments, Exit, Failure, Printer, refused};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Where the page is written; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `engine report`.
pub fn run(_arguments: &Arguments, _report: &Report, _printer: &Printer) -> Result<Exit, Failure> {
    Err(refused("`engine report`"))
}
