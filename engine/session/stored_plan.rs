//! A plan in a file: the facts it was made from, bound to the content of specs, lock, tree and engine. It holds no secret.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::trust::{Approval, Approvals};
use crate::pipeline::Request;
use crate::pipeline::observe::Observed;
use crate::session::command_error::CommandError;
use crate::session::error::{PlanFault, Stale, StoredPlanError};
use crate::session::session::Session;
use crate::types::name::{ClusterName, Digest};
use crate::types::time::Timestamp;

const STORED_VERSION: u32 = 1;
const MAX_STORED: u64 = 1 << 30;

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
    /// When it was made.
    time: Timestamp,
    cluster: Option<ClusterName>,
    accept_all: bool,
    accept: Vec<String>,
    allow_delete: bool,
    facts: Observed,
    /// Digest of the facts, so that an edit by hand is found.
    facts_digest: Digest,
}

fn digest_of(facts: &Observed) -> Digest {
    Digest::of(&serde_json::to_vec(facts).unwrap_or_default())
}

impl Stored {
    /// The plan of a turn.
    pub fn new(session: &Session<'_>, request: &Request, facts: Observed) -> Result<Self, CommandError> {
        let accept = |approval: &Approval| match &approval.digest {
            Some(digest) => format!("{}@{digest}", approval.cluster),
            None => approval.cluster.to_string(),
        };
        Ok(Self {
            version: STORED_VERSION,
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            input: session.input.digest(),
            tree: session.tree_digest()?,
            time: session.now,
            cluster: request.only.clone(),
            accept_all: request.approvals.all,
            accept: request.approvals.named.iter().map(accept).collect(),
            allow_delete: request.allow_delete,
            facts_digest: digest_of(&facts),
            facts,
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
        let stored: Self = serde_json::from_str(&text).map_err(|error| broken(error.into()))?;
        if stored.version != STORED_VERSION {
            return Err(broken(PlanFault::Version { version: stored.version }));
        }
        if digest_of(&stored.facts) != stored.facts_digest {
            return Err(broken(PlanFault::FactsChanged));
        }
        Ok(stored)
    }

    /// The request and the facts, if nothing changed since; the session takes the plan's time.
    pub fn resume(self, session: &mut Session<'_>, mut request: Request) -> Result<(Request, Observed), CommandError> {
        if self.engine != env!("CARGO_PKG_VERSION") {
            return Err(StoredPlanError::Stale(Stale::Engine).into());
        }
        if self.input != session.input.digest() {
            return Err(StoredPlanError::Stale(Stale::Input).into());
        }
        if self.tree != session.tree_digest()? {
            return Err(StoredPlanError::Stale(Stale::Tree).into());
        }
        session.now = self.time;
        request.only = self.cluster;
        let named: Result<Vec<Approval>, _> = self.accept.iter().map(|text| text.parse()).collect();
        let named = named.map_err(StoredPlanError::Approval)?;
        request.approvals = Approvals { all: self.accept_all, named };
        request.allow_delete = self.allow_delete;
        Ok((request, self.facts))
    }
}
