//! A plan in a file: the facts it was made from, bound to the content of specs, lock, tree and engine. It holds no secret.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::trust::{Approval, Approvals};
use crate::pipeline::Request;
use crate::pipeline::observe::Observed;
use crate::session::exit::{Exit, Failure};
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
    pub fn new(session: &Session<'_>, request: &Request, facts: Observed) -> Result<Self, Failure> {
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
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Machine, format!("writing the plan to {}: {error}", path.display()))
        };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(&error))?;
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut file = file.map_err(|error| failed(&error))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| failed(&error))
    }

    /// Reads a plan from a file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        use std::io::Read as _;
        let shown = path.display();
        let mut text = String::new();
        let file = std::fs::File::open(path).and_then(|file| file.take(MAX_STORED).read_to_string(&mut text));
        file.map_err(|error| Failure::new(Exit::Machine, format!("reading the plan {shown}: {error}")))?;
        let broken = |error: &dyn std::fmt::Display| {
            Failure::new(
                Exit::Failed,
                format!("{shown} is no plan of this engine: {error}; make a new one with `engine plan --out`"),
            )
        };
        let stored: Self = serde_json::from_str(&text).map_err(|error| broken(&error))?;
        if stored.version != STORED_VERSION {
            return Err(broken(&format!("it has version {}", stored.version)));
        }
        if digest_of(&stored.facts) != stored.facts_digest {
            return Err(broken(&"its facts were changed"));
        }
        Ok(stored)
    }

    /// The request and the facts, if nothing changed since; the session takes the plan's time.
    pub fn resume(self, session: &mut Session<'_>, mut request: Request) -> Result<(Request, Observed), Failure> {
        let stale = |what: &str| {
            Failure::new(
                Exit::Refused,
                format!("the plan is stale: {what} changed since it was made; make a new one with `engine plan --out`"),
            )
        };
        if self.engine != env!("CARGO_PKG_VERSION") {
            return Err(stale("the engine's version"));
        }
        if self.input != session.input.digest() {
            return Err(stale("specs, templates or lock"));
        }
        if self.tree != session.tree_digest()? {
            return Err(stale("the rendered tree"));
        }
        session.now = self.time;
        request.only = self.cluster;
        let named: Result<Vec<Approval>, _> = self.accept.iter().map(|text| text.parse()).collect();
        let named = named.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        request.approvals = Approvals { all: self.accept_all, named };
        request.allow_delete = self.allow_delete;
        Ok((request, self.facts))
    }
}
