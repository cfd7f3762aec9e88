//! The demo: a whole mesh in one process, on loopback.

pub mod cluster;

/// Runs the tour.
pub fn run(
    _keep: Option<&std::path::Path>,
    printer: &crate::cli::Printer,
) -> Result<crate::cli::Exit, crate::cli::Failure> {
    printer.talk("the tour is being built");
    Ok(crate::cli::Exit::Done)
}
