//! `engine verify`: whether the checkout, as it is, keeps the law of safety.

use serde_json::json;

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::pipeline::{Request, Until};
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::planned::{Mode, take};
use crate::session::session::Session;
use crate::types::explanation::{Explain, Explanation};

/// Judges lock, `rendered/` and `values/` as they are. Nothing is asked, and nothing is written.
pub(crate) fn run(arguments: &Global, printer: &Printer) -> Result<Exit, CommandError> {
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, false)?;
    let request = Request { only: arguments.cluster.clone(), ..Request::default() };
    let run = take(&session, &request, Mode::Locked, Until::Verified, printer)?;
    let lost = run.agreement.lost.iter().flat_map(|(cluster, lost)| lost.iter().map(move |lost| (cluster, lost)));
    let lost = lost.map(|(cluster, lost)| (cluster.to_string(), lost.explanation()));
    let breaches = run.breaches.iter().map(|breach| (breach.step().to_string(), breach.explanation()));
    let findings: Vec<(String, Explanation)> = lost.chain(breaches).collect();
    let links: usize = session.program.lock.links.values().map(std::collections::BTreeMap::len).sum();
    let clusters = session.program.mesh.clusters.len();
    if arguments.output == Output::Json {
        let findings: Vec<_> =
            findings.iter().map(|(step, finding)| json!({ "at": step, "finding": finding })).collect();
        let document = json!({ "version": 1, "clusters": clusters, "links": links, "findings": findings });
        printer.out(&format!("{document:#}\n"));
    } else if findings.is_empty() {
        printer.show(&format!("{clusters} clusters, {links} links: lock and files hold all that the links need\n"));
    } else {
        for (step, finding) in &findings {
            printer.show(&format!("{step}  refused: {finding}\n"));
        }
    }
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Refused })
}
