//! What one connection may do: little before it has shown a token, more afterwards, and nothing without end.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::server::io::Allowance;
use crate::server::places::Place;
use crate::server::server_limits::ServerLimits;
use crate::types::name::ClusterUuid;

/// Bytes that a connection may send before it has shown a token, and after each request that shows one. Floods of frames that
/// are no requests end here, whatever they are.
const BYTES: i64 = 256 * 1024;
/// Bytes that were sent to a client allow one of its own in return, by which it says that it has read them.
const IN_RETURN: i64 = 16;

pub(super) struct ServedConnection {
    place: Place,
    doing: Mutex<Doing>,
    /// What it may still send, bytes.
    left: AtomicI64,
    begun: Instant,
    /// Wakes the connection when it is to end in good order.
    pub(super) closes: Notify,
}

struct Doing {
    requests: u32,
    any_yet: bool,
    since: Instant,
    is_known: bool,
    refused: u32,
}

/// A request that is being answered, until its body is sent or dropped.
pub(super) struct BusyRequest(Arc<ServedConnection>);

/// Why a connection takes no more requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It has shown no token, and more of its requests than may be are waiting.
    TooManyAtOnce,
    /// Its peer has more connections than may be.
    TooManyOfPeer,
}

impl ServedConnection {
    pub(super) fn new(place: Place) -> Arc<Self> {
        let now = Instant::now();
        let doing = Doing { requests: 0, any_yet: false, since: now, is_known: false, refused: 0 };
        let (doing, left) = (Mutex::new(doing), AtomicI64::new(BYTES));
        Arc::new(Self { place, doing, left, begun: now, closes: Notify::new() })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Doing) -> T) -> T {
        change(&mut self.doing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn begin(self: &Arc<Self>) -> BusyRequest {
        self.change(|doing| {
            doing.requests += 1;
            doing.any_yet = true;
            doing.since = Instant::now();
        });
        BusyRequest(self.clone())
    }

    /// Whether a request of whoever has shown no token may wait for its answer.
    pub(super) fn has_room(&self, limits: &ServerLimits) -> Result<(), Full> {
        let is_over = self.change(|doing| !doing.is_known && doing.requests > limits.unauthenticated_streams);
        if is_over { Err(Full::TooManyAtOnce) } else { Ok(()) }
    }

    /// A request has shown a token, or needs none.
    pub(super) fn known(&self, peer: Option<&ClusterUuid>) -> Result<(), Full> {
        if !self.place.is_known(peer) {
            return Err(Full::TooManyOfPeer);
        }
        self.change(|doing| doing.is_known = true);
        self.left.store(BYTES, Ordering::Relaxed);
        Ok(())
    }

    /// A request was refused. After a few of them the connection ends.
    pub(super) fn refused(&self, limits: &ServerLimits) {
        if self.change(|doing| {
            doing.refused += 1;
            doing.refused >= limits.refusals
        }) {
            self.closes.notify_one();
        }
    }

    /// Waits until someone who comes later needs its place.
    pub(super) async fn gives_way(&self) {
        self.place.gives_way.notified().await;
    }

    /// When the connection has lasted long enough, if nothing changes.
    pub(super) fn deadline(&self, limits: &ServerLimits) -> Instant {
        self.change(|doing| {
            let limit = match doing.requests {
                0 if !doing.any_yet => limits.header,
                0 => limits.idle,
                _ if !doing.is_known => limits.stall,
                _ => limits.longest,
            };
            let quiet = doing.since + limit;
            if doing.is_known { quiet } else { quiet.min(self.begun + limits.idle.max(limits.header)) }
        })
    }
}

impl Drop for BusyRequest {
    fn drop(&mut self) {
        self.0.change(|doing| {
            doing.requests -= 1;
            doing.since = Instant::now();
        });
    }
}

impl Allowance for Arc<ServedConnection> {
    fn read(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.left.fetch_sub(bytes, Ordering::Relaxed);
        // whoever asks again and again without a token comes back on another connection
        if before >= BYTES / 2 && before - bytes < BYTES / 2 && !self.change(|doing| doing.is_known) {
            self.closes.notify_one();
        }
        before >= bytes
    }

    fn written(&self, bytes: usize) {
        let more = i64::try_from(bytes).unwrap_or(i64::MAX) / IN_RETURN;
        let left = self.left.load(Ordering::Relaxed);
        if more > 0 && left < BYTES {
            self.left.fetch_add(more.min(BYTES - left), Ordering::Relaxed);
        }
    }

    fn stalled(&self) {}
}
