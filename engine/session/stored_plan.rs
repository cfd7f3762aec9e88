//! A plan in a file: what it would change, bound to every file that it was made from, to its time and to the engine. It holds no
//! secret and no facts: whoever carries it out asks the clusters again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::trust::{Approval, Approvals};
use crate::pipeline::{Request, Run};
use crate::session::command_error::CommandError;
use crate::session::error::{PlanFault, Stale, StoredPlanError};
use crate::session::keys::key_files;
use crate::session::outcome::Outcome;
use crate::session::session::Session;
use crate::types::name::{ClusterName, Digest};
use crate::types::time::Timestamp;

/// Version of the file, the only one that is read.
pub const STORED_VERSION: u32 = 2;
const MAX_STORED: u64 = 1 << 30;
/// How far the clocks of two machines may differ.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// A plan in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stored {
    version: u32,
    engine: String,
    /// Digest of specs, templates and lock.
    input: Digest,
    /// Digest of the rendered files.
    tree: Digest,
    /// Other files that were read, by path: those that specs name, and keys. None where there was no such file.
    files: BTreeMap<String, Option<Digest>>,
    /// When it was made.
    time: Timestamp,
    cluster: Option<ClusterName>,
    accept_all: bool,
    accept: Vec<String>,
    allow_delete: bool,
    outcome: Outcome,
    /// Digest of the outcome, so that an edit by hand is found.
    outcome_digest: Digest,
}

/// The version of a plan, whatever else is in it.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Digests of the files that a run reads beside specs, templates, lock and tree.
fn files(session: &Session<'_>) -> BTreeMap<String, Option<Digest>> {
    let named = session.files.iter().map(|(path, bytes)| (path.clone(), bytes.as_ref().map(|bytes| Digest::of(bytes))));
    named.chain(key_files(session.checkout)).collect()
}

impl Stored {
    /// The plan of a run.
    pub fn new(session: &Session<'_>, request: &Request, run: &Run) -> Result<Self, CommandError> {
        let accept = |approval: &Approval| match &approval.digest {
            Some(digest) => format!("{}@{digest}", approval.cluster),
            None => approval.cluster.to_string(),
        };
        let outcome = Outcome::of(run)?;
        Ok(Self {
            version: STORED_VERSION,
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            input: session.input.digest(),
            tree: session.tree_digest()?,
            files: files(session),
            time: session.now,
            cluster: request.only.clone(),
            accept_all: request.approvals.all,
            accept: request.approvals.named.iter().map(accept).collect(),
            allow_delete: request.allow_delete,
            outcome_digest: outcome.digest(),
            outcome,
        })
    }

    /// Writes it to a file, readable by its owner alone.
    pub fn write(&self, path: &Path) -> Result<(), StoredPlanError> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let failed = |source| StoredPlanError::Write { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(self)
            .map_err(|source| StoredPlanError::NotWritable { path: path.to_owned(), source })?;
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut file = file.map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Reads a plan from a file.
    pub fn read(path: &Path) -> Result<Self, StoredPlanError> {
        use std::io::Read as _;
        let mut text = String::new();
        let file = std::fs::File::open(path).and_then(|file| file.take(MAX_STORED).read_to_string(&mut text));
        file.map_err(|source| StoredPlanError::Read { path: path.to_owned(), source })?;
        let broken = |source| StoredPlanError::NotPlan { path: path.to_owned(), source };
        let versioned: Versioned = serde_json::from_str(&text).map_err(|error| broken(error.into()))?;
        if versioned.version != STORED_VERSION {
            return Err(broken(PlanFault::Version { version: versioned.version }));
        }
        let stored: Self = serde_json::from_str(&text).map_err(|error| broken(error.into()))?;
        if stored.outcome.digest() != stored.outcome_digest {
            return Err(broken(PlanFault::OutcomeChanged));
        }
        Ok(stored)
    }

    /// What was asked of it, if it is not older than `max_age` and nothing that it was made from changed since.
    pub fn request(&self, session: &Session<'_>, max_age: Duration) -> Result<Request, CommandError> {
        let stale = |what| Err(StoredPlanError::Stale(what).into());
        if self.engine != env!("CARGO_PKG_VERSION") {
            return stale(Stale::Engine);
        }
        let age = session.now.since(self.time);
        if age > max_age {
            return Err(StoredPlanError::TooOld { age, max_age }.into());
        }
        if self.time.since(session.now) > CLOCK_SKEW {
            return Err(StoredPlanError::FromFuture { time: self.time }.into());
        }
        if self.input != session.input.digest() {
            return stale(Stale::Input);
        }
        let now = files(session);
        let mut paths = self.files.keys().chain(now.keys());
        if let Some(path) = paths.find(|path| self.files.get(*path) != now.get(*path)) {
            return stale(Stale::File { path: path.clone() });
        }
        if self.tree != session.tree_digest()? {
            return stale(Stale::Tree);
        }
        let named: Result<Vec<Approval>, _> = self.accept.iter().map(|text| text.parse()).collect();
        let named = named.map_err(StoredPlanError::Approval)?;
        let approvals = Approvals { all: self.accept_all, named };
        Ok(Request { approvals, allow_delete: self.allow_delete, restore_links: false, only: self.cluster.clone() })
    }

    /// Whether a run on what the clusters publish now would change just what this plan said; else in what they differ.
    pub fn check(&self, run: &Run) -> Result<(), CommandError> {
        let differences = self.outcome.differences(&Outcome::of(run)?);
        if differences.is_empty() { Ok(()) } else { Err(StoredPlanError::Differs { differences }.into()) }
    }
}
