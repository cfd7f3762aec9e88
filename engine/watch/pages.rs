//! What a watch says of itself over HTTP: health, metrics, and the mesh as a page.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::checkout::Guard;
use crate::model::lock::Stage;
use crate::pipeline::Program;
use crate::pipeline::plan::Plan;
use crate::report::picture::Picture;
use crate::server::telemetry::{self, Metrics, Page, Readiness};
use crate::session::exit::Exit;
use crate::session::session::rendered_files;
use crate::types::explanation::Explanation;
use crate::types::name::Digest;
use crate::types::time::Timestamp;
use crate::watch::contacts::Contacts;
use crate::watch::error::WatchError;

type Labelled<L> = Family<L, Gauge<i64, AtomicI64>>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStage {
    stage: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

pub(super) struct Pages {
    metrics: Metrics,
    health: Readiness,
    runs: Family<RunOutcome, Counter<u64, AtomicU64>>,
    seconds: Histogram,
    last_run: Gauge<i64, AtomicI64>,
    links: Labelled<OfStage>,
    steps: Labelled<OfState>,
    read: Labelled<ClusterLabel>,
    root_ends: Labelled<ClusterLabel>,
    commits: Counter<u64, AtomicU64>,
    lost: Counter<u64, AtomicU64>,
    picture: Arc<Mutex<Option<Picture>>>,
    noted: BTreeSet<Digest>,
    is_served: bool,
}

/// All metrics of a watch, before it has begun.
pub fn metrics() -> Metrics {
    Pages::new().metrics
}

/// The page of the mesh, and the value that it follows. Written when they are asked for, since few are.
fn page(path: &str, picture: Option<&Picture>) -> Option<Page> {
    // who frames a page can make a person click on what they do not see
    let policy = Some("frame-ancestors 'none'");
    match (path, picture) {
        ("/", Some(picture)) => {
            Some(Page { kind: "text/html; charset=utf-8", body: picture.live_html().into(), policy })
        }
        ("/", None) => {
            let body = Bytes::from_static(b"no run has ended yet; /readyz says why\n");
            Some(Page { kind: "text/plain; charset=utf-8", body, policy })
        }
        ("/picture.json", Some(picture)) => {
            Some(Page { kind: "application/json", body: picture.json().into(), policy: None })
        }
        _ => None,
    }
}

impl Pages {
    pub(super) fn new() -> Self {
        let pages = Self {
            metrics: Metrics::new(),
            health: Readiness::default(),
            runs: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            last_run: Gauge::default(),
            links: Family::default(),
            steps: Family::default(),
            read: Family::default(),
            root_ends: Family::default(),
            commits: Counter::default(),
            lost: Counter::default(),
            picture: Arc::default(),
            noted: BTreeSet::new(),
            is_served: false,
        };
        pages.health.fails("reconcile", "no run has ended yet");
        pages.metrics.register("isthmus_reconcile", "Runs, by how they ended", &pages.runs);
        pages.metrics.register("isthmus_reconcile_seconds", "How long a run took", &pages.seconds);
        let help = "When the last run ended, seconds since 1970";
        pages.metrics.register("isthmus_last_reconcile_timestamp_seconds", help, &pages.last_run);
        pages.metrics.register("isthmus_links", "Links, by stage", &pages.links);
        pages.metrics.register("isthmus_steps", "Steps that are not done, by why", &pages.steps);
        let help = "When a cluster's metadata was last read, seconds since 1970";
        pages.metrics.register("isthmus_cluster_read_timestamp_seconds", help, &pages.read);
        let help = "When the first of a cluster's root CAs ends, seconds since 1970";
        pages.metrics.register("isthmus_cluster_root_end_timestamp_seconds", help, &pages.root_ends);
        pages.metrics.register("isthmus_commits", "Commits made", &pages.commits);
        pages.metrics.register("isthmus_lost_events", "Times that events of files were lost", &pages.lost);
        pages
    }

    /// Begins to serve; gives the bound address.
    pub(super) async fn serve(&mut self, address: SocketAddr) -> Result<SocketAddr, WatchError> {
        let (listener, bound) =
            telemetry::bind(address).await.map_err(|source| WatchError::Listen { address, source })?;
        self.is_served = true;
        let picture = self.picture.clone();
        let pages =
            Arc::new(move |path: &str| page(path, picture.lock().unwrap_or_else(PoisonError::into_inner).as_ref()));
        tokio::spawn(telemetry::serve_with(listener, self.metrics.clone(), self.health.clone(), pages));
        Ok(bound)
    }

    pub(super) fn reconciled(&self, exit: Exit, took: Duration) {
        let outcome = match exit {
            Exit::Done | Exit::Changes => "done",
            Exit::Partial => "partial",
            Exit::Refused => "refused",
            Exit::Busy => "busy",
            Exit::Failed | Exit::Machine | Exit::Usage => "failed",
        };
        self.runs.get_or_create(&RunOutcome { outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
        if outcome != "failed" && outcome != "busy" {
            self.last_run.set(crate::session::clock::now().as_seconds());
            self.health.holds("reconcile");
        }
    }

    /// The next run waits for this. `first`: it was not said before.
    pub(super) fn wait(&self, reason: &Explanation, first: bool) {
        if first {
            self.runs.get_or_create(&RunOutcome { outcome: "waiting" }).inc();
        }
        self.health.fails("reconcile", reason);
        self.say_waiting(Some(reason));
    }

    /// The next run waits for nothing any more.
    pub(super) fn wait_no_more(&self) {
        self.say_waiting(None);
    }

    fn say_waiting(&self, reason: Option<&Explanation>) {
        if let Some(picture) = self.picture.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            picture.waiting = reason.cloned();
        }
    }

    pub(super) fn fail(&self, message: &str) {
        self.health.fails("reconcile", message);
    }

    pub(super) fn count_commit(&self) {
        self.commits.inc();
    }

    pub(super) fn count_lost(&self) {
        self.lost.inc();
    }

    /// Whether this is said for the first time.
    pub(super) fn note(&mut self, message: Digest) -> bool {
        self.noted.insert(message)
    }

    /// Shows the mesh as the last run left it.
    pub(super) fn publish(
        &self,
        program: &Program,
        plan: &Plan,
        contacts: &Contacts,
        guard: &Guard<'_>,
        now: Timestamp,
    ) {
        if self.is_served {
            let files = rendered_files(guard);
            let drawn = Picture::new(&program.mesh, &program.lock, Some(plan), &files, &contacts.read_at, now);
            *self.picture.lock().unwrap_or_else(PoisonError::into_inner) = Some(drawn);
        }
        self.links.clear();
        for link in program.lock.links.values().flat_map(std::collections::BTreeMap::values) {
            self.links.get_or_create(&OfStage { stage: link.stage.as_str() }).inc();
        }
        for stage in [Stage::Joining, Stage::Joined, Stage::Leaving, Stage::LeavingTrust] {
            let _there = self.links.get_or_create(&OfStage { stage: stage.as_str() });
        }
        let counts = plan.counts();
        for (state, count) in [("waiting", counts.waiting), ("refused", counts.refused), ("failed", counts.failed)] {
            self.steps.get_or_create(&OfState { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.read.clear();
        for (name, at) in &contacts.read_at {
            self.read.get_or_create(&ClusterLabel { cluster: name.to_string() }).set(at.as_seconds());
        }
        self.root_ends.clear();
        for (name, locked) in &program.lock.clusters {
            if let Some(end) = locked.public.roots.iter().map(|root| root.not_after).min() {
                self.root_ends.get_or_create(&ClusterLabel { cluster: name.to_string() }).set(end.as_seconds());
            }
        }
    }
}
