//! `engine watch`: turns on changes of the checkout and of the metadata, and on time.

use clap::Args;

use super::{Arguments, Exit, Failure, Printer, refused};

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct Watch {}

/// `engine watch`.
pub fn run(_arguments: &Arguments, _watch: &Watch, _printer: &Printer) -> Result<Exit, Failure> {
    Err(refused("`engine watch`"))
}
