//! Flags of a watch.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::report::format::Output;
use crate::types::address::listen_address;
use crate::types::duration::duration;

/// The flags that every command has, as far as a watch obeys them.
#[derive(Debug)]
pub struct Flags {
    /// The checkout.
    pub directory: PathBuf,
    /// Form of the data on stdout.
    pub output: Output,
    /// `--cluster` was given.
    pub narrowed: bool,
    /// Data, warnings and errors alone.
    pub quiet: bool,
    /// Every field of every object.
    pub verbose: bool,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Watch {
    /// Commit what runs write: lock/, rendered/ and values/.
    #[arg(long)]
    pub commit: bool,
    /// Author and committer of the commits.
    #[arg(long, value_name = "NAME <MAIL>", default_value = "isthmus <isthmus@localhost>", env = "ISTHMUS_AUTHOR")]
    pub author: String,
    /// Sign each commit, by your own git configuration (`gpg.format`, `user.signingkey`); a commit that cannot be signed is not made.
    #[arg(long, requires = "commit")]
    pub sign: bool,
    /// Push each commit. When it is rejected, pull, run and commit again.
    #[arg(long, requires = "commit")]
    pub push: bool,
    /// Commit to this branch instead of the one that is checked out, for a pull request.
    #[arg(long, value_name = "NAME", requires = "commit")]
    pub branch: Option<String>,
    /// Pull the remote's commits at this interval: `30s`, `5m`. Without it, only when a push is rejected.
    #[arg(long, value_name = "INTERVAL", value_parser = duration)]
    pub pull: Option<Duration>,
    /// Serve /healthz, /readyz, /metrics and the mesh as a page, in plain HTTP. The bound address is the first line on stdout.
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub http: Option<SocketAddr>,
    /// Run at this interval, even if nothing changed.
    #[arg(long, value_name = "INTERVAL", value_parser = duration, default_value = "15m")]
    pub every: Duration,
    /// Read the metadata of each cluster at this interval, and run if it changed.
    #[arg(long, value_name = "INTERVAL", value_parser = duration, default_value = "30s")]
    pub poll: Duration,
    /// End after one run, with the exit code of `apply`.
    #[arg(long)]
    pub once: bool,
    /// With --once: run again while something waits, for this long at most, as `apply --wait` does.
    #[arg(long = "wait", alias = "for", value_name = "DURATION", value_parser = duration, requires = "once")]
    pub limit: Option<Duration>,
}
