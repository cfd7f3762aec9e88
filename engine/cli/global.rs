//! The flags that every command has.

use std::path::PathBuf;

use clap::Args;

use crate::report::format::Output;
use crate::types::name::ClusterName;
use crate::watch;

/// The flags that every command has.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The checkout.
    #[arg(short = 'C', value_name = "DIR", global = true, default_value = ".", env = "ISTHMUS_CHECKOUT")]
    pub(crate) directory: PathBuf,
    /// Form of the data on stdout.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Only this cluster.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) cluster: Option<ClusterName>,
    /// Less talk.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// More talk: every field of every object.
    #[arg(short, long, global = true)]
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
