//! `engine report`: the mesh as one HTML page.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::pipeline::observe::{Observation, PrivateReading};
use crate::pipeline::{Request, Until};
use crate::report::format::Output;
use crate::report::picture::Picture;
use crate::report::text::Printer;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::exit::Exit;
use crate::session::planned::{Mode, exit_of, take};
use crate::session::session::{Session, rendered_files};
use crate::types::explanation::{Code, Explain, Explanation};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// File to write; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Read the metadata of the clusters first. Nothing in the checkout changes.
    #[arg(long)]
    pub(crate) fetch: bool,
}

/// `engine report`.
pub(crate) fn run(arguments: &Global, report: &Report, printer: &Printer) -> Result<Exit, CommandError> {
    let to_stdout = report.html.as_deref() == Some(Path::new("-"));
    match (&report.html, arguments.output) {
        (None, Output::Json) => {}
        (Some(_), Output::Json) if to_stdout => {
            return Err(ReportError::BothToStdout.into());
        }
        (None, _) => {
            return Err(ReportError::Nowhere.into());
        }
        (Some(_), _) => {}
    }
    if arguments.cluster.is_some() {
        return Err(ReportError::Narrowed.into());
    }
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, false)?;
    let mut read_at = BTreeMap::new();
    let planned = if report.fetch {
        let run = take(&session, &Request::default(), Mode::Fetch, Until::Planned, printer)?;
        let observed = run.observed.iter().flat_map(|observed| &observed.clusters);
        let whole = observed.filter(|(_, observation)| is_whole(observation));
        read_at = whole.map(|(name, _)| (name.clone(), session.now)).collect();
        Some(run)
    } else {
        None
    };
    let exit = planned.as_ref().map_or(Exit::Done, |run| exit_of(&run.plan));
    let program = &session.program;
    let plan = planned.as_ref().map(|run| &run.plan);
    let picture = Picture::new(&program.mesh, &program.lock, plan, &rendered_files(&checkout), &read_at, session.now);
    if let Some(path) = report.html.as_deref().filter(|_| !to_stdout) {
        std::fs::write(path, picture.html()).map_err(|source| ReportError::Write { path: path.to_owned(), source })?;
        printer
            .status(&format!("wrote {}; it opens in any browser and loads nothing from the network", path.display()));
    } else if to_stdout {
        printer.out(&picture.html());
    }
    if arguments.output == Output::Json {
        printer.out(&format!("{}\n", picture.json()));
    }
    if exit != Exit::Done {
        printer.status("something failed or is refused; the page shows where, and `engine plan` prints why");
    }
    Ok(exit)
}

/// Both documents were read.
fn is_whole(observation: &Observation) -> bool {
    observation.public.is_ok() && matches!(observation.private, PrivateReading::Read(_))
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum ReportError {
    /// Page and JSON both go to stdout.
    BothToStdout,
    /// No place for the page.
    Nowhere,
    /// A report of one cluster.
    Narrowed,
    /// The page cannot be written.
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Explain for ReportError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::BothToStdout => {
                Explanation::new(Code::InvalidArguments, "--html - and --output json both write to stdout")
                    .hint("name a file for the page")
            }
            Self::Nowhere => Explanation::new(
                Code::InvalidArguments,
                "expected --html FILE, or `--html -` for stdout; found neither",
            ),
            Self::Narrowed => {
                Explanation::new(Code::InvalidArguments, "--cluster cannot be used here: the page shows the whole mesh")
                    .hint("filter in the page")
            }
            Self::Write { path, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot write {}: {source}", path.display()))
            }
        }
    }
}

impl EndsCommand for ReportError {
    fn exit(&self) -> Exit {
        match self {
            Self::BothToStdout | Self::Nowhere | Self::Narrowed => Exit::Usage,
            Self::Write { .. } => Exit::Machine,
        }
    }
}
