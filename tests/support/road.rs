//! The road as tests walk it: facts that were made, files in memory.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::checkout::FileChange;
use isthmus::cluster::fetch::Fetcher;
use isthmus::model::mesh::Mesh;
use isthmus::pipeline::meter::{Meter, Unmetered};
use isthmus::pipeline::observe::signer::Signer;
use isthmus::pipeline::observe::{Ask, DocumentDone, Observed, Publics, ReadFile, everybody, publics};
use isthmus::pipeline::sink::Sink;
use isthmus::pipeline::{FactSource, Program, Request, Run, Stop, Until, World, Written, run};
use isthmus::types::time::Timestamp;

use super::naive::NaiveFiles;

/// What a run would write.
#[derive(Default)]
pub(crate) struct Changes(pub(crate) Vec<FileChange>);

impl Sink for Changes {
    fn planned(&mut self, _: &Program, _: &Run) {}

    fn write(&mut self, changes: &[FileChange], _: &dyn Meter) -> Result<Written, Stop> {
        self.0 = changes.to_vec();
        Ok(Written::default())
    }
}

/// Takes a run on files in memory, as far as is said.
pub(crate) fn take(
    program: &Program,
    request: &Request,
    facts: FactSource<'_>,
    until: Until<'_>,
    tree: &NaiveFiles,
    now: Timestamp,
) -> Run {
    run(program, request, facts, until, &World { now, tree, base: None, narrow: None, meter: &Unmetered }).unwrap()
}

/// What a run would come to, and what it would write.
pub(crate) fn written(
    program: &Program,
    request: &Request,
    facts: FactSource<'_>,
    tree: &NaiveFiles,
    now: Timestamp,
) -> (Run, Vec<FileChange>) {
    let mut changes = Changes::default();
    let run = take(program, request, facts, Until::Written(&mut changes), tree, now);
    (run, changes.0)
}

/// Applies changes to files in memory.
pub(crate) fn apply(files: &mut BTreeMap<String, Vec<u8>>, changes: Vec<FileChange>) {
    for change in changes {
        match change {
            FileChange::Write { path, bytes, .. } => files.insert(path, bytes),
            FileChange::Delete { path } => files.remove(&path),
        };
    }
}

/// Observes all clusters that take part, with a judge and a signer of the test's own.
pub(crate) async fn observe(
    mesh: &Mesh,
    fetcher: &Fetcher,
    files: ReadFile<'_>,
    judge: &(dyn Fn(&Publics) -> BTreeSet<isthmus::types::name::ClusterName> + Sync),
    signer: &(dyn Signer + Sync),
    progress: &(dyn Fn(DocumentDone<'_>) + Sync),
) -> Observed {
    let (whom, before) = (everybody(mesh), Observed::default());
    let asked = publics(mesh, Ask { whom: &whom, before: &before, fetcher, files, progress }).await;
    let admitted = judge(asked.publics());
    asked.privates(&admitted, signer).await
}
