//! The flags that every command has.

use std::path::PathBuf;

use clap::Args;

use crate::report::format::Output;
use crate::types::name::ClusterName;
use crate::watch;

/// Heading of these flags in `--help`.
const GLOBAL: &str = "Global options";

/// The flags that every command has.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Checkout to work in: the folder with specs/, lock/ and rendered/.
    #[arg(short = 'C', value_name = "DIR", global = true, help_heading = GLOBAL, default_value = ".", env = "ISTHMUS_CHECKOUT")]
    pub(crate) directory: PathBuf,
    /// Output format.
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Plan, write or show only what belongs to this cluster.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "NAME")]
    pub(crate) cluster: Option<ClusterName>,
    /// Print only data, warnings and errors.
    #[arg(short, long, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print every field of every changed object.
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) verbose: bool,
}

impl Global {
    /// As far as a watch obeys them.
    pub(super) fn watched(&self) -> watch::Flags {
        watch::Flags {
            directory: self.directory.clone(),
            output: self.output,
            narrowed: self.cluster.is_some(),
            quiet: self.quiet,
            verbose: self.verbose,
        }
    }
}
