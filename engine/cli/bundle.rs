//! `engine export` and `engine import`: metadata over an air gap.

use clap::Args;

use super::{Arguments, Exit, Failure, Printer, refused};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct Export {}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct Import {}

/// `engine export`.
pub fn export(_arguments: &Arguments, _export: &Export, _printer: &Printer) -> Result<Exit, Failure> {
    Err(refused("`engine export`"))
}

/// `engine import`.
pub fn import(_arguments: &Arguments, _import: &Import, _printer: &Printer) -> Result<Exit, Failure> {
    Err(refused("`engine import`"))
}
