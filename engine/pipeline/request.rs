//! What a run is asked for, as values: where facts come from, how far to go, and what it needs of the world.

use std::collections::BTreeMap;

use tokio::runtime::Handle;

use crate::model::keyring::Keyring;
use crate::model::lock::Lock;
use crate::model::policy::Policy;
use crate::model::trust::Approvals;
use crate::pipeline::meter::Meter;
use crate::pipeline::observe::{Ask, Observed};
use crate::pipeline::plan::OverrideInForce;
use crate::pipeline::program::Program;
use crate::pipeline::render::Given;
use crate::pipeline::sink::Sink;
use crate::pipeline::tree::Tree;
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;

/// What is asked of a run.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub approvals: Approvals,
    /// `--allow-delete`.
    pub allow_delete: bool,
    /// `--restore-links`: links that lock and tree lost are taken from evidence, too.
    pub restore_links: bool,
    /// Only this cluster's files.
    pub only: Option<ClusterName>,
}

/// Where a run's facts come from.
pub enum FactSource<'a> {
    /// From the lock alone.
    Locked,
    /// They were observed before.
    Stored(Observed),
    Ask {
        /// Whom, with what is known of them.
        ask: Ask<'a>,
        /// Private keys, which were read once.
        keyring: &'a Keyring,
        /// The time, asked for each token: many slow peers can outlast a token.
        clock: &'a (dyn Fn() -> Timestamp + Sync),
        /// Where the questions run.
        runtime: &'a Handle,
    },
}

/// How far a run goes.
pub enum Until<'a> {
    /// Until the facts are there.
    Observed,
    /// Until it is decided what the lock will be.
    Decided,
    /// Until the files of the checkout are judged as they are.
    Verified,
    /// Until the steps are in order.
    Ordered,
    /// Until the objects are there.
    Rendered,
    /// The same, of a revision that a plan is compared with: no one is given them, so the law is not asked.
    Compared,
    /// Until the plan is there.
    Planned,
    /// To its end: the plan is carried out.
    Written(&'a mut dyn Sink),
}

/// What a run needs of the world.
pub struct World<'a> {
    pub now: Timestamp,
    /// The rendered files of the checkout.
    pub tree: &'a dyn Tree,
    /// What the plan is compared with, when it is not the checkout's own tree.
    pub base: Option<Base<'a>>,
    /// The only reader whose links were read.
    pub narrow: Option<&'a ClusterName>,
    /// Sees how far long work has come.
    pub meter: &'a dyn Meter,
}

/// What a plan is compared with.
pub struct Base<'a> {
    /// How it was named.
    pub revision: &'a str,
    /// Its specs, templates and lock; `None` where it has no specs, or has findings.
    pub program: Option<&'a Program>,
    /// Whether it has findings, so that what is edited in its specs cannot be determined.
    pub has_findings: bool,
    /// Its remote secrets that were made by hand.
    pub given: &'a Given,
    /// Its overrides of templates.
    pub overrides: &'a [OverrideInForce],
    /// What it renders; where it has findings, the rendered files that it holds.
    pub tree: &'a dyn Tree,
    pub lock: &'a Lock,
    /// Its policy, which judges instead of the checkout's own.
    pub policy: Option<&'a Policy>,
    /// The files of its lock, by path.
    pub lock_files: &'a BTreeMap<String, Vec<u8>>,
}
