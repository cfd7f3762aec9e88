//! `engine status`: one row a link and direction, from lock and tree alone.

use serde_json::json;

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::model::layout::secret_file;
use crate::model::tree::Tree;
use crate::report::format::Output;
use crate::report::picture::LinkFacts;
use crate::report::text::{Printer, table};
use crate::session::exit::{Exit, Failure};
use crate::session::session::Session;

/// Prints the state of each link.
pub(crate) fn run(arguments: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, true)?;
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    for reader in session.program.mesh.clusters.keys() {
        if arguments.cluster.as_ref().is_some_and(|only| only != reader) {
            continue;
        }
        let files = session
            .checkout
            .cluster_files(reader.as_str())
            .map_err(|error| Failure::new(Exit::Machine, error.to_string()))?;
        for (peer, link) in session.program.lock.links_of(reader) {
            let in_tree = files.contains_key(&secret_file(peer));
            let facts = LinkFacts::new(&session.program.mesh, &session.program.lock, (reader, peer), link, in_tree);
            documents.push(json!({
                "reader": reader, "peer": peer, "stage": link.stage, "unproven": link.unproven, "secretInTree": in_tree,
                "rootExpires": facts.root_expires.map(date),
            }));
            rows.push(Row(facts).cells(session.now));
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

struct Row<'a>(LinkFacts<'a>);

impl Row<'_> {
    fn cells(&self, now: i64) -> [String; 6] {
        let Self(link) = self;
        [
            link.reader.to_string(),
            link.peer.to_string(),
            link.link.stage.as_str().to_owned(),
            link.evidence().to_owned(),
            link.secret().to_owned(),
            link.root_expires.map_or_else(|| "unknown".to_owned(), |expires| until(expires, now)),
        ]
    }
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "never".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}

/// A date, and how near it is when it is near.
fn until(seconds: i64, now: i64) -> String {
    match (seconds - now).div_euclid(86_400) {
        days if days < 0 => format!("{} (expired)", date(seconds)),
        days if days < 30 => format!("{} (in {days} days)", date(seconds)),
        _ => date(seconds),
    }
}
