//! Events of a watch: what happens outside of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc;

use crate::pipeline::observe::Observed;
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;

/// Something that happened outside.
#[derive(Debug)]
pub(super) enum WatchEvent {
    Files(Vec<PathBuf>),
    Lost,
    Asked(Answers),
    /// The process is to end.
    Stop,
}

/// Answers of some clusters.
#[derive(Debug)]
pub(super) struct Answers {
    /// Who was asked.
    pub(super) whom: BTreeSet<ClusterName>,
    pub(super) observed: Observed,
    pub(super) at: Timestamp,
}

/// Sends events; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct EventSender(pub(super) mpsc::Sender<WatchEvent>);

impl EventSender {
    pub(super) fn send(&self, event: WatchEvent) {
        // no one listens any more when the watch ends
        drop(self.0.send(event));
    }
}
