//! `engine status`: one row a link and direction, from lock and tree alone.

use serde_json::json;

use super::args::{Arguments, Output};
use super::exit::{Exit, Failure};
use super::report::{Printer, table};
use super::session::Session;
use crate::advance::EPOCH_LEEWAY;
use crate::checkout::Checkout;
use crate::lock::{LockedLink, Stage};
use crate::mesh::{Credentials, Reconciler};
use crate::name::ClusterName;
use crate::plan::secret_file;
use crate::tree::Tree;

/// Prints the state of each link.
pub fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments, printer, true)?;
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
            let row = Row::new(&session, reader, peer, link, files.contains_key(&secret_file(peer)));
            documents.push(json!({
                "reader": reader, "peer": peer, "stage": link.stage, "unproven": link.unproven, "secretInTree": row.in_tree,
                "credentialExpires": row.credential_expires.map(date), "rootExpires": row.root_expires.map(date),
            }));
            rows.push(row.cells(session.now));
        }
    }
    if arguments.output == Output::Json {
        printer.data(&format!("{}\n", json!({ "version": 1, "links": documents })));
    } else if rows.is_empty() {
        printer.talk("no links yet; `engine apply` begins them");
    } else {
        printer.data(&table(&["READER", "PEER", "STAGE", "EVIDENCE", "SECRET", "CREDENTIAL", "PEER'S ROOT CA"], rows));
    }
    Ok(Exit::Done)
}

struct Row<'a> {
    reader: &'a ClusterName,
    peer: &'a ClusterName,
    link: &'a LockedLink,
    in_tree: bool,
    rendered: bool,
    relay: bool,
    credential_expires: Option<i64>,
    root_expires: Option<i64>,
}

impl<'a> Row<'a> {
    fn new(
        session: &Session<'_>,
        reader: &'a ClusterName,
        peer: &'a ClusterName,
        link: &'a LockedLink,
        in_tree: bool,
    ) -> Self {
        let mesh = &session.program.mesh;
        let lifetime = match mesh.credentials {
            Credentials::Direct { lifetime, .. } => Some(lifetime),
            Credentials::Relay { .. } => None,
        };
        let credential_expires =
            lifetime.zip(link.epoch).map(|(lifetime, epoch)| i64::from(epoch) * 3600 - EPOCH_LEEWAY + lifetime);
        let roots = session.program.lock.clusters.get(peer).map(|locked| &locked.public.roots);
        Self {
            reader,
            peer,
            link,
            in_tree,
            rendered: mesh.clusters.get(reader).is_some_and(|cluster| cluster.reconciler == Reconciler::Rendered),
            relay: lifetime.is_none(),
            credential_expires,
            root_expires: roots.and_then(|roots| roots.iter().map(|root| root.not_after).min()),
        }
    }

    fn cells(&self, now: i64) -> [String; 7] {
        let evidence = match (self.link.stage, self.link.unproven) {
            (_, true) => "unproven",
            (Stage::Joined, false) if self.rendered => "proven",
            (Stage::Joined, false) => "in the cluster",
            (Stage::Joining, false) => "awaited",
            (Stage::Leaving | Stage::LeavingTrust, false) => "as it leaves",
        };
        let secret = match (self.rendered, self.link.stage, self.in_tree) {
            (false, _, _) => "not ours",
            (true, Stage::Joined, true) => "in the tree",
            (true, Stage::Joined, false) => "missing: run engine apply",
            (true, _, true) => "still in the tree",
            (true, _, false) => "none",
        };
        let credential = match (self.relay, self.credential_expires) {
            (true, _) => "relay".to_owned(),
            (false, Some(expires)) => until(expires, now),
            (false, None) => "none".to_owned(),
        };
        [
            self.reader.to_string(),
            self.peer.to_string(),
            self.link.stage.as_str().to_owned(),
            evidence.to_owned(),
            secret.to_owned(),
            credential,
            self.root_expires.map_or_else(|| "unknown".to_owned(), |expires| until(expires, now)),
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
