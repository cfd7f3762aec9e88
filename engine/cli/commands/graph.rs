//! `engine graph`: the graph of steps.

use clap::ValueEnum;

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::pipeline::{Request, Until};
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::planned::{Mode, take};
use crate::session::session::Session;

/// Forms of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Graphviz.
    Dot,
    /// Mermaid, as code hosts draw it.
    Mermaid,
    /// All steps and edges.
    Json,
}

/// `engine graph`.
pub(crate) fn run(arguments: &Global, format: GraphFormat, printer: &Printer) -> Result<Exit, CommandError> {
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, false)?;
    let request = Request { only: arguments.cluster.clone(), ..Request::default() };
    let run = take(&session, &request, Mode::Locked, Until::Ordered, printer)?;
    let Some(graph) = run.graph else { return Ok(Exit::Done) };
    let text = match format {
        GraphFormat::Json => format!("{:#}\n", graph.to_json()),
        _ if arguments.output == Output::Json => format!("{:#}\n", graph.to_json()),
        GraphFormat::Dot => graph.to_dot(),
        GraphFormat::Mermaid => graph.to_mermaid(),
    };
    printer.out(&text);
    Ok(Exit::Done)
}
