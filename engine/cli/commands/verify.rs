//! `engine verify`: whether the checkout, as it is, keeps the law of safety.

use serde_json::json;

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::model::layout::{KUSTOMIZATION, rendered_folder};
use crate::pipeline::law::listed;
use crate::pipeline::tree::Tree;
use crate::pipeline::{Request, Stop, Until};
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::planned::{Mode, take};
use crate::session::session::Session;
use crate::types::explanation::{Explain, Explanation};
use crate::types::name::ClusterName;

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
    let missing = missing(&session, arguments.cluster.as_ref())?;
    let links: usize = session.program.lock.links.values().map(std::collections::BTreeMap::len).sum();
    let clusters = session.program.mesh.clusters.len();
    if arguments.output == Output::Json {
        let findings: Vec<_> =
            findings.iter().map(|(step, finding)| json!({ "at": step, "finding": finding })).collect();
        let document = json!({
            "version": 1, "clusters": clusters, "links": links, "missingFiles": missing, "findings": findings,
        });
        printer.out(&format!("{document:#}\n"));
    } else if findings.is_empty() && missing.is_empty() {
        let count = |count: usize, of: &str| format!("{count} {of}{}", if count == 1 { "" } else { "s" });
        let (clusters, links) = (count(clusters, "cluster"), count(links, "link"));
        printer.show(&format!("{clusters}, {links}: lock and files hold all that the links need\n"));
    } else {
        printer.show(&text(&findings, &missing));
    }
    Ok(if findings.is_empty() && missing.is_empty() { Exit::Done } else { Exit::Refused })
}

/// Paths of the files that the kustomization of their folder lists and that are not there: a build of it fails.
fn missing(session: &Session<'_>, only: Option<&ClusterName>) -> Result<Vec<String>, CommandError> {
    let mut missing = Vec::new();
    for name in session.program.mesh.clusters.keys().filter(|name| only.is_none_or(|only| only == *name)) {
        let folder = rendered_folder(name);
        let Some(list) = session.checkout.file(&format!("{folder}/{KUSTOMIZATION}")).map_err(Stop::Tree)? else {
            continue;
        };
        let there = session.checkout.names(name.as_str()).map_err(Stop::Tree)?;
        let gone = listed(&list).into_iter().filter(|file| !there.contains(file));
        missing.extend(gone.map(|file| format!("{folder}/{file}")));
    }
    Ok(missing)
}

/// Files first, since they are the cause of what follows; a next step that several findings share is said once, after them.
fn text(findings: &[(String, Explanation)], missing: &[String]) -> String {
    let mut text = String::new();
    for path in missing {
        text.push_str(&format!(
            "{path} is missing, and the {KUSTOMIZATION} beside it lists it; `git checkout -- {path}` restores it\n"
        ));
    }
    let mut findings = findings.iter().peekable();
    while let Some((step, finding)) = findings.next() {
        text.push_str(&format!("{step}  refused: {}\n", finding.message));
        let is_last = findings.peek().is_none_or(|(_, next)| next.hint != finding.hint);
        if let Some(hint) = finding.hint.as_ref().filter(|_| is_last) {
            text.push_str(&format!("  {hint}\n"));
        }
    }
    text
}
