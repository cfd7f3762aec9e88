//! `engine status`: one row a link and direction, from lock and tree alone.

use serde_json::json;

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::model::layout::secret_file;
use crate::model::link::Link;
use crate::model::lock::{Lock, LockedCluster, RetiringRoot};
use crate::model::mesh::Mesh;
use crate::model::read_by::ReadBy;
use crate::pipeline::tree::Tree;
use crate::pipeline::{Request, Stop, Until};
use crate::report::format::Output;
use crate::report::picture::LinkFacts;
use crate::report::text::{Printer, table};
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::planned::{Mode, take};
use crate::session::session::Session;
use crate::types::name::{ClusterName, Digest};
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
                "rootExpires": facts.root_expires.map(date), "peerReadBy": facts.read_by.map(ReadBy::json),
            }));
            rows.push(cells(&link, &facts, session.now));
        }
    }
    let roots = retiring(mesh, lock, arguments.cluster.as_ref(), session.now);
    if arguments.output == Output::Json {
        let roots: Vec<_> = roots.iter().map(Retiring::document).collect();
        printer.out(&format!("{}\n", json!({ "version": 1, "links": documents, "retiringRoots": roots })));
    } else if rows.is_empty() {
        printer.status(&match &arguments.cluster {
            Some(cluster) => format!("no link reads from `{cluster}` in the lock"),
            None => "no links yet; they begin with the run after the one whose exporters are synced".to_owned(),
        });
    } else {
        printer
            .show(&table(&["READER", "PEER", "STAGE", "EVIDENCE", "SECRET", "PEER'S ROOT CA", "PEER READ BY"], rows));
        if !roots.is_empty() {
            let rows = roots.iter().map(Retiring::cells).collect();
            let roots = table(&["CLUSTER", "RETIRING ROOT CA", "TRUSTED UNTIL"], rows);
            printer.show(&format!(
                "\n{roots}\nA retiring root CA is dropped by the first `engine apply` after that time that reads its cluster.\n"
            ));
        }
    }
    Ok(Exit::Done)
}

/// A root CA that its cluster no longer publishes and that readers trust for a time yet.
struct Retiring<'a> {
    cluster: &'a ClusterName,
    root: Digest,
    until: Timestamp,
    /// Its time is over, and no run has taken it out.
    is_overdue: bool,
}

fn retiring<'a>(mesh: &Mesh, lock: &'a Lock, only: Option<&ClusterName>, now: Timestamp) -> Vec<Retiring<'a>> {
    let of = |(name, locked): (&'a ClusterName, &'a LockedCluster)| {
        let overlap = mesh.clusters.get(name).map(|cluster| cluster.root_overlap).unwrap_or_default();
        let one = move |retiring: &RetiringRoot| {
            let until = retiring.since + overlap;
            Retiring { cluster: name, root: retiring.root.digest, until, is_overdue: until < now }
        };
        locked.retiring.iter().map(one).collect::<Vec<_>>()
    };
    let clusters = lock.clusters.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    clusters.flat_map(of).collect()
}

impl Retiring<'_> {
    fn document(&self) -> serde_json::Value {
        json!({ "cluster": self.cluster, "root": self.root, "until": self.until.to_string(), "overdue": self.is_overdue })
    }

    fn cells(&self) -> [String; 3] {
        let overdue = if self.is_overdue { " (overdue)" } else { "" };
        [self.cluster.to_string(), self.root.to_string(), format!("{}{overdue}", self.until)]
    }
}

fn cells(link: &Link, facts: &LinkFacts<'_>, now: Timestamp) -> [String; 7] {
    [
        link.reader.to_string(),
        link.peer.to_string(),
        facts.locked.stage.as_str().to_owned(),
        facts.evidence().to_owned(),
        facts.secret().to_owned(),
        facts.root_expires.map_or_else(|| "unknown".to_owned(), |expires| until(expires, now)),
        facts.read_by.map_or_else(|| "no one yet".to_owned(), ReadBy::text),
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
