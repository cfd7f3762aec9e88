//! `engine watch`: a turn whenever the checkout or the metadata change, and on time.
//!
//! 1. `run`: the loop. What happens outside becomes an event of the pure [scheduler](crate::watch), whose next action it does.
//! 2. `files`: what differs in the checkout since the last look, and who wakes us.
//! 3. `contacts`: asks clusters beside everything else.
//! 4. `history`: commits, pulls and pushes.
//! 5. `live`: the table on a terminal; `pages`: health, metrics and the page over HTTP.

mod contacts;
mod files;
mod history;
mod live;
mod pages;
mod run;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use clap::Args;

use super::{Arguments, Exit, Failure, Printer};
use run::{Happening, Run};

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Commit what turns write: lock/, rendered/ and values/, and nothing else.
    #[arg(long)]
    pub commit: bool,
    /// Author and committer of the commits.
    #[arg(long, value_name = "NAME <MAIL>", default_value = "isthmus <isthmus@localhost>", env = "ISTHMUS_AUTHOR")]
    pub author: String,
    /// Push each commit. A push that is rejected takes the remote's commits, turns again and commits anew.
    #[arg(long, requires = "commit")]
    pub push: bool,
    /// Commit to this branch instead of the one that is checked out, for a pull request.
    #[arg(long, value_name = "NAME", requires = "commit")]
    pub branch: Option<String>,
    /// Take the remote's commits this often: `30s`, `5m`.
    #[arg(long, value_name = "INTERVAL", value_parser = super::args::duration)]
    pub pull: Option<Duration>,
    /// Serve /healthz, /readyz, /metrics and the mesh as a page, in plain HTTP. The bound address is the first line on stdout.
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<SocketAddr>,
    /// Take a turn at least this often.
    #[arg(long, value_name = "INTERVAL", value_parser = super::args::duration, default_value = "15m")]
    pub every: Duration,
    /// Ask each cluster for news this often.
    #[arg(long, value_name = "INTERVAL", value_parser = super::args::duration, default_value = "30s")]
    pub poll: Duration,
    /// End after one turn, with the exit code of `apply`.
    #[arg(long)]
    pub once: bool,
    /// With --once: turn until nothing waits, or until this time is over.
    #[arg(long = "for", value_name = "DURATION", value_parser = super::args::duration, requires = "once")]
    pub limit: Option<Duration>,
}

/// Where happenings are told; cheap to clone.
#[derive(Clone, Debug)]
struct Tell(mpsc::Sender<Happening>);

impl Tell {
    fn send(&self, happening: Happening) {
        // nobody listens any more when the watch ends
        drop(self.0.send(happening));
    }
}

/// `engine watch`.
pub fn run(arguments: &Arguments, watch: &Watch, printer: &Printer) -> Result<Exit, Failure> {
    if arguments.cluster.is_some() {
        return Err(Failure::new(Exit::Usage, "--cluster: a watch takes turns for the whole mesh; leave it out"));
    }
    let (tell, told) = mpsc::channel();
    Run::new(arguments, watch, printer, Tell(tell))?.until_stopped(&told)
}
