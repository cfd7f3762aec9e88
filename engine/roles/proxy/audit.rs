//! The record of every request, written before the first byte of its answer.
//!
//! One JSON object a line. A request with a verified token is not answered before its line is with the system, and not at all
//! where it cannot be written; a stream gets a second line when it ends. Each peer has a share of the lines that wait, so that
//! a log that is slow costs the peer that writes most of it. Requests without such a token are counted: a line an address and
//! second at most, in a queue of its own, which may drop.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Where requests are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// Records that wait to be written, of all peers.
const QUEUE: usize = 4096;
/// The same of one peer.
const SHARE: usize = 512;
/// The same of those who have shown no token.
const STRANGERS: usize = 1024;
/// Addresses whose requests are counted at a time.
const MAX_COUNTED: usize = 4096;
/// How often an address without a token gets a line.
const EVERY: Duration = Duration::from_secs(1);
/// How long a record may take to be written.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that a pipe which is ready takes without waiting (POSIX `PIPE_BUF`, as Linux has it).
const AT_ONCE: usize = 4096;

/// A request and what became of it. Times are RFC 3339.
#[derive(Debug, Clone, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
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
    /// Requests of this address since its line before, of which this is the last; only where no token was verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

trait AuditSink: Write + Send {
    /// Whether it takes a line at once.
    fn is_ready(&self) -> bool;
}

/// What has a file descriptor can be asked.
struct AuditFile<F>(F);

impl<F: Write> Write for AuditFile<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl<F: Write + AsFd + Send> AuditSink for AuditFile<F> {
    fn is_ready(&self) -> bool {
        is_ready(self.0.as_fd())
    }
}

fn is_ready(file: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::new(&file, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&now)) == Ok(1) && asked.iter().all(|asked| asked.revents() == PollFlags::OUT)
}

/// Anything else may make its writer wait.
struct Other<W>(W);

impl<W: Write> Write for Other<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send> AuditSink for Other<W> {
    fn is_ready(&self) -> bool {
        false
    }
}

struct QueuedRecord {
    line: Vec<u8>,
    peer: String,
    written: Option<oneshot::Sender<bool>>,
}

#[derive(Default)]
struct Queue {
    peers: VecDeque<QueuedRecord>,
    of_peer: HashMap<String, usize>,
    strangers: VecDeque<Vec<u8>>,
    counted: HashMap<IpAddr, Counted>,
    /// Lines are being written.
    busy: bool,
    closed: bool,
}

/// Requests of an address without a verified token.
struct Counted {
    last_line: Instant,
    /// Those since then, and the newest of them.
    since: Option<(u64, AuditRecord)>,
}

struct AuditLogState {
    sink: Mutex<Box<dyn AuditSink>>,
    queue: Mutex<Queue>,
    queued: Condvar,
    dropped: Counter,
}

/// Ends the writer with the last user of the log.
struct LastUser(Arc<AuditLogState>);

impl Drop for LastUser {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.queued.notify_all();
    }
}

/// Writes records. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog(Arc<LastUser>);

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

impl AuditLog {
    /// Opens the target; a file is appended to and readable by its owner alone.
    pub fn open(target: &AuditTarget) -> std::io::Result<Self> {
        Ok(match target {
            AuditTarget::Stdout => Self::with(Box::new(AuditFile(std::io::stdout()))),
            AuditTarget::File(path) => {
                use std::os::unix::fs::OpenOptionsExt as _;
                let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
                Self::with(Box::new(AuditFile(file)))
            }
        })
    }

    /// Writes one line of JSON for each record to `sink`, from a thread of its own.
    pub fn to(sink: impl Write + Send + 'static) -> Self {
        Self::with(Box::new(Other(sink)))
    }

    fn with(sink: Box<dyn AuditSink>) -> Self {
        let log = Arc::new(AuditLogState {
            sink: Mutex::new(sink),
            queue: Mutex::default(),
            queued: Condvar::new(),
            dropped: Counter::default(),
        });
        // writing may block, so whatever is not taken at once has a thread of its own
        let writer = log.clone();
        std::thread::spawn(move || writer.write());
        Self(Arc::new(LastUser(log)))
    }

    /// Requests without a verified token that no line counts.
    pub fn dropped(&self) -> &Counter {
        &self.0.0.dropped
    }

    /// Writes the record of a peer's request; false when that failed, after which nothing may be answered.
    pub async fn record(&self, record: &AuditRecord) -> bool {
        let Some(line) = line(record) else { return false };
        let line = match self.0.0.write_at_once(line) {
            Ok(written) => return written,
            Err(line) => line,
        };
        let (written, outcome) = oneshot::channel();
        let peer = record.peer.clone().unwrap_or_default();
        if !self.0.0.enqueue(QueuedRecord { line, peer, written: Some(written) }) {
            return false;
        }
        matches!(timeout(PATIENCE, outcome).await, Ok(Ok(true)))
    }

    /// Writes a record of what is over already; no one waits for it.
    pub fn note(&self, record: &AuditRecord) {
        let peer = record.peer.clone().unwrap_or_default();
        let noted = line(record).is_some_and(|line| self.0.0.enqueue(QueuedRecord { line, peer, written: None }));
        if !noted {
            tracing::warn!("an audit record of a stream's end was lost: the audit log cannot keep up");
        }
    }

    /// Counts a request without a verified token, and writes a line where its address had none for a while.
    pub fn count(&self, from: IpAddr, record: AuditRecord) {
        let log = &self.0.0;
        let now = Instant::now();
        let mut queue = log.queue();
        if queue.counted.len() >= MAX_COUNTED && !queue.counted.contains_key(&from) {
            queue.counted.retain(|_, counted| counted.since.is_some() || now - counted.last_line < EVERY);
            if queue.counted.len() >= MAX_COUNTED {
                log.dropped.inc();
                return;
            }
        }
        match queue.counted.get_mut(&from) {
            Some(counted) if counted.since.is_some() || now - counted.last_line < EVERY => {
                let before = counted.since.take().map_or(0, |(before, _)| before);
                counted.since = Some((before + 1, record));
            }
            _ => {
                queue.counted.insert(from, Counted { last_line: now, since: None });
                log.enqueue_counted(&mut queue, 1, record);
                drop(queue);
                log.queued.notify_one();
            }
        }
    }

    /// Waits until everything before it is written, if the sink takes it in time.
    pub async fn flush(&self) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < end {
            {
                let queue = self.0.0.queue();
                if !queue.busy && queue.peers.is_empty() && queue.strangers.is_empty() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn line(record: &AuditRecord) -> Option<Vec<u8>> {
    let mut line = Vec::with_capacity(512);
    serde_json::to_writer(&mut line, record).ok()?;
    line.push(b'\n');
    Some(line)
}

impl AuditLogState {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line where that makes no one wait; otherwise gives it back.
    fn write_at_once(&self, line: Vec<u8>) -> Result<bool, Vec<u8>> {
        let Ok(mut sink) = self.sink.try_lock() else { return Err(line) };
        if line.len() > AT_ONCE || !self.queue().peers.is_empty() || !sink.is_ready() {
            return Err(line);
        }
        let outcome = sink.write_all(&line).and_then(|()| sink.flush());
        if let Err(error) = &outcome {
            tracing::error!(%error, "cannot write the audit log, so nothing is answered");
        }
        Ok(outcome.is_ok())
    }

    fn enqueue(&self, waiting: QueuedRecord) -> bool {
        let mut queue = self.queue();
        let of_peer = queue.of_peer.get(&waiting.peer).copied().unwrap_or_default();
        if queue.peers.len() >= QUEUE || of_peer >= SHARE {
            return false;
        }
        queue.of_peer.insert(waiting.peer.clone(), of_peer + 1);
        queue.peers.push_back(waiting);
        drop(queue);
        self.queued.notify_one();
        true
    }

    fn enqueue_counted(&self, queue: &mut Queue, requests: u64, record: AuditRecord) {
        let counted = AuditRecord { requests: Some(requests), ..record };
        match line(&counted).filter(|_| queue.strangers.len() < STRANGERS) {
            Some(line) => queue.strangers.push_back(line),
            None => drop(self.dropped.inc_by(requests)),
        }
    }

    /// Lines for addresses whose requests were only counted for a while.
    fn write_counted(&self, queue: &mut Queue) {
        let now = Instant::now();
        let mut due = Vec::new();
        queue.counted.retain(|_, counted| {
            if now - counted.last_line < EVERY {
                return true;
            }
            counted.last_line = now;
            let since = counted.since.take();
            let has_more = since.is_some();
            due.extend(since);
            has_more
        });
        for (requests, record) in due {
            self.enqueue_counted(queue, requests, record);
        }
    }

    fn write(&self) {
        let mut reported = Instant::now();
        loop {
            let mut queue = self.queue();
            queue.busy = false;
            while queue.peers.is_empty() && queue.strangers.is_empty() {
                if queue.closed {
                    return;
                }
                if reported.elapsed() >= EVERY / 4 {
                    reported = Instant::now();
                    self.write_counted(&mut queue);
                    continue;
                }
                let waited = if queue.counted.is_empty() {
                    self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner)
                } else {
                    self.queued.wait_timeout(queue, EVERY / 4).unwrap_or_else(PoisonError::into_inner).0
                };
                queue = waited;
            }
            queue.busy = true;
            let count = queue.peers.len().min(256);
            let peers: Vec<QueuedRecord> = queue.peers.drain(..count).collect();
            // peers come first
            let count = if queue.peers.is_empty() { queue.strangers.len().min(256) } else { 0 };
            let strangers: Vec<Vec<u8>> = queue.strangers.drain(..count).collect();
            drop(queue);
            let lines = peers.iter().map(|waiting| &waiting.line).chain(&strangers);
            let lines: Vec<u8> = lines.flatten().copied().collect();
            let outcome = {
                let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
                sink.write_all(&lines).and_then(|()| sink.flush())
            };
            if let Err(error) = &outcome {
                tracing::error!(%error, "cannot write the audit log, so nothing is answered");
            }
            let mut queue = self.queue();
            for QueuedRecord { peer, written, .. } in peers {
                if let Some(count) = queue.of_peer.get_mut(&peer) {
                    *count -= 1;
                    if *count == 0 {
                        queue.of_peer.remove(&peer);
                    }
                }
                // whoever asked may have gone
                let _gone = written.map(|written| written.send(outcome.is_ok()));
            }
        }
    }
}
