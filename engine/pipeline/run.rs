//! What a run has come to, stage by stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::pipeline::accept::Accepted;
use crate::pipeline::advance::Advanced;
use crate::pipeline::agreement::Agreement;
use crate::pipeline::law::Breach;
use crate::pipeline::observe::Observed;
use crate::pipeline::plan::Plan;
use crate::pipeline::plan::graph::Graph;
use crate::pipeline::program::{Program, Stop};
use crate::pipeline::recorded::RestoredLinks;
use crate::pipeline::render::{Given, RenderContext, RenderedCluster};
use crate::types::name::ClusterName;

/// What a run has decided before anything is rendered.
#[derive(Debug, Clone, Default)]
pub struct Decided {
    /// What was learned; `None` in a locked run.
    pub accepted: Option<Accepted>,
    /// The lock as it will be, with the links' new stages.
    pub advanced: Advanced,
    /// Links that the lock lost and that are restored.
    pub restored: RestoredLinks,
    /// What of it broke the law of safety, and stays as it was.
    pub withheld: Vec<Breach>,
}

/// What a run wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    pub written: usize,
    pub deleted: usize,
}

/// A run, as far as it was taken. What no stage came to is empty.
#[derive(Debug, Default)]
pub struct Run {
    /// What lock or tree lost.
    pub agreement: Agreement,
    /// What was observed; `None` in a locked run.
    pub observed: Option<Observed>,
    pub decided: Decided,
    /// The program with who acts by what was decided, where this run handed a cluster over.
    pub(super) handed: Option<Arc<Program>>,
    /// The steps in their order, where the run ended with that.
    pub graph: Option<Graph>,
    /// Remote secrets made by hand that ours take the places of.
    pub given: Given,
    /// The objects of each cluster, where the run ended with them: a plan keeps only what differs.
    pub rendered: BTreeMap<ClusterName, RenderedCluster>,
    pub plan: Plan,
    pub written: Written,
    /// What the files of the checkout lack by the law, where the run ended with that.
    pub breaches: Vec<Breach>,
}

impl Run {
    /// What the objects of all clusters share, to render some of them: for a run that ends there, and to show fields again.
    pub fn rendering<'a>(&'a self, program: &'a Program) -> Result<RenderContext<'a>, Stop> {
        let (program, lock) = (self.handed.as_deref().unwrap_or(program), &self.decided.advanced.lock);
        RenderContext::new(&program.mesh, lock, &program.templates, &self.given).map_err(Stop::Findings)
    }
}
