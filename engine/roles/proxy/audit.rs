//! The record of every request, written before the first byte of its answer.
//!
//! One JSON object a line. Whoever answers waits until the line is with the system; where it cannot be written, nothing is
//! answered. A stream gets a second line when it ends.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Where requests are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// Records that wait to be written.
const QUEUE: usize = 4096;
/// How long a record may take to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// A request and what became of it. Times are RFC 3339.
#[derive(Debug, Clone, Serialize, Default)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as they are written")]
pub struct Record {
    pub time: String,
    pub event: &'static str,
    pub id: u64,
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(rename = "clusterUUID", skip_serializing_if = "Option::is_none")]
    pub cluster_uuid: Option<String>,
    #[serde(rename = "keyID", skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    pub method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub status: u16,
    pub milliseconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

struct Waiting {
    line: Vec<u8>,
    written: Option<oneshot::Sender<bool>>,
}

/// Writes records, in the order they come. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AuditLog {
    queue: Arc<SyncSender<Waiting>>,
}

impl AuditLog {
    /// Opens the target; a file is appended to and readable by its owner alone.
    pub fn open(target: &AuditTarget) -> std::io::Result<Self> {
        Ok(match target {
            AuditTarget::Stdout => Self::to(std::io::stdout()),
            AuditTarget::File(path) => {
                use std::os::unix::fs::OpenOptionsExt as _;
                Self::to(std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?)
            }
        })
    }

    /// Writes to anything.
    pub fn to(sink: impl Write + Send + 'static) -> Self {
        let (queue, waiting) = sync_channel(QUEUE);
        // writing may block, so it has a thread of its own, which ends with the last sender
        std::thread::spawn(move || write(sink, &waiting));
        Self { queue: Arc::new(queue) }
    }

    /// Writes a record; false when that failed, after which nothing may be answered.
    pub async fn record(&self, record: &Record) -> bool {
        let (written, outcome) = oneshot::channel();
        if !self.enqueue(record, Some(written)) {
            return false;
        }
        matches!(timeout(PATIENCE, outcome).await, Ok(Ok(true)))
    }

    /// Writes a record of what is over already; nobody waits for it.
    pub fn note(&self, record: &Record) {
        if !self.enqueue(record, None) {
            tracing::warn!("an audit record of a stream's end was lost: the audit log cannot keep up");
        }
    }

    /// Waits until everything before it is written, if the sink takes it in time.
    pub async fn flush(&self) {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (written, outcome) = oneshot::channel();
            match self.queue.try_send(Waiting { line: Vec::new(), written: Some(written) }) {
                Ok(()) => {
                    // what was not taken in time was said by the writer
                    let _in_time = tokio::time::timeout_at(end, outcome).await;
                    return;
                }
                Err(TrySendError::Full(_)) if tokio::time::Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(_) => return,
            }
        }
    }

    fn enqueue(&self, record: &Record, written: Option<oneshot::Sender<bool>>) -> bool {
        let Ok(mut line) = serde_json::to_vec(record) else { return false };
        line.push(b'\n');
        match self.queue.try_send(Waiting { line, written }) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn write(mut sink: impl Write, waiting: &Receiver<Waiting>) {
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        batch.extend(waiting.try_iter().take(255));
        let lines: Vec<u8> = batch.iter().flat_map(|waiting| waiting.line.iter().copied()).collect();
        let outcome = sink.write_all(&lines).and_then(|()| sink.flush());
        if let Err(error) = &outcome {
            tracing::error!(%error, "cannot write the audit log, so nothing is answered");
        }
        for written in batch.into_iter().filter_map(|waiting| waiting.written) {
            // whoever asked may have gone
            let _gone = written.send(outcome.is_ok());
        }
    }
}
