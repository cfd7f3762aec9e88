//! `engine status`: one row a link and direction, from lock and tree alone.

use serde_json::json;

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::model::layout::secret_file;
use crate::model::link::Link;
use crate::pipeline::tree::Tree;
use crate::pipeline::{Request, Stop, Until};
use crate::report::format::Output;
use crate::report::picture::LinkFacts;
use crate::report::text::{Printer, table};
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::planned::{Mode, take};
use crate::session::session::Session;
use crate::types::time::Timestamp;

/// Prints the state of each link.
pub(crate) fn run(arguments: &Global, printer: &Printer) -> Result<Exit, CommandError> {
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, true)?;
    let run = take(&session, &Request::default(), Mode::Locked, Until::Decided, printer)?;
    let (mesh, lock) = (&session.program.mesh, &run.decided.advanced.lock);
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    for reader in mesh.clusters.keys() {
        if arguments.cluster.as_ref().is_some_and(|only| only != reader) {
            continue;
        }
        let files = session.checkout.cluster_files(reader.as_str()).map_err(Stop::Tree)?;
        for (peer, locked) in lock.links_of(reader) {
            let (link, in_tree) = (Link::new(reader, peer), files.contains_key(&secret_file(peer)));
            let facts = LinkFacts::new(mesh, lock, &link, locked, in_tree);
            documents.push(json!({
                "reader": reader, "peer": peer, "stage": locked.stage, "unproven": locked.unproven, "secretInTree": in_tree,
                "rootExpires": facts.root_expires.map(date),
            }));
            rows.push(cells(&link, &facts, session.now));
        }
    }
    if arguments.output == Output::Json {
        printer.data(&format!("{}\n", json!({ "version": 1, "links": documents })));
    } else if rows.is_empty() {
        printer.talk("no links yet; `engine apply` begins them");
    } else {
        printer.show(&table(&["READER", "PEER", "STAGE", "EVIDENCE", "SECRET", "PEER'S ROOT CA"], rows));
    }
    Ok(Exit::Done)
}

fn cells(link: &Link, facts: &LinkFacts<'_>, now: Timestamp) -> [String; 6] {
    [
        link.reader.to_string(),
        link.peer.to_string(),
        facts.locked.stage.as_str().to_owned(),
        facts.evidence().to_owned(),
        facts.secret().to_owned(),
        facts.root_expires.map_or_else(|| "unknown".to_owned(), |expires| until(expires, now)),
    ]
}

fn date(time: Timestamp) -> String {
    time.date().unwrap_or_else(|| "never".to_owned())
}

/// A date, and how near it is when it is near.
fn until(end: Timestamp, now: Timestamp) -> String {
    match now.days_until(end) {
        days if days < 0 => format!("{} (expired)", date(end)),
        days if days < 30 => format!("{} (in {days} days)", date(end)),
        _ => date(end),
    }
}
