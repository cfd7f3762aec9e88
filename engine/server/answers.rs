//! The answers that a connection is giving. Each belongs to the connection's own task, so that what is ready at the same time
//! is written at once, and each has an end: a client that takes nothing of an answer loses it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

/// Whoever reads one answer. Cheap to clone.
#[derive(Clone, Default)]
pub struct Reader(Arc<ReaderState>);

#[derive(Default)]
struct ReaderState {
    waiting: Mutex<Waiting>,
    stalled: AtomicBool,
    over: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
}

#[derive(Default)]
struct Waiting {
    /// Since when the client has not taken what there is; `None` while there is nothing that it could take.
    since: Option<Instant>,
    /// How long it had something to take, before that.
    before: Duration,
}

impl Reader {
    /// Whether the client took nothing for too long, for which it lost the answer.
    pub fn has_stalled(&self) -> bool {
        self.0.stalled.load(Ordering::Acquire)
    }

    /// Ends the answer also while its client takes nothing, once this holds. It is asked whenever the answer is looked at, so
    /// whatever changes it has to wake the answer's body.
    pub(super) fn end_once(&self, over: impl Fn() -> bool + Send + Sync + 'static) {
        let _an_answer_has_one_body = self.0.over.set(Box::new(over));
    }

    pub(super) fn stall(&self) {
        self.0.stalled.store(true, Ordering::Release);
    }

    /// Something is there for the client to take.
    pub(super) fn offer(&self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).since = Some(Instant::now());
    }

    /// The client has taken what there was.
    pub(super) fn taken(&self) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = waiting.since.take() {
            waiting.before += since.elapsed();
        }
    }

    /// How long the client had something to take.
    pub(super) fn waited(&self) -> Duration {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).before
    }

    fn waiting_since(&self) -> Option<Instant> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).since
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.over.get().is_some_and(|over| over())
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("stalled", &self.has_stalled()).finish_non_exhaustive()
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the answers of an HTTP/2 connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct ConnectionAnswers(Arc<Inbox>);

struct Inbox {
    /// Whose answer comes next: hyper asks for an answer, and then for its work to be done, before it asks for another.
    reader: Mutex<Option<Reader>>,
    fresh: Mutex<Vec<UpstreamAnswer>>,
    stall: Duration,
}

impl ConnectionAnswers {
    pub(super) fn new(stall: Duration) -> Self {
        Self(Arc::new(Inbox { reader: Mutex::default(), fresh: Mutex::default(), stall }))
    }

    /// Whose answer is asked for now.
    pub(super) fn begin(&self, reader: Reader) {
        *self.0.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
    }

    fn take(&self) -> Vec<UpstreamAnswer> {
        std::mem::take(&mut *self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for ConnectionAnswers {
    fn execute(&self, work: F) {
        let reader = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let answer = UpstreamAnswer { work: Box::pin(work), reader, stall: self.0.stall, timer: None };
        self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }
}

/// One answer on its way.
struct UpstreamAnswer {
    work: Work,
    reader: Option<Reader>,
    stall: Duration,
    /// Runs while the client takes nothing.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Future for UpstreamAnswer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.work.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(reader) = &this.reader else { return Poll::Pending };
        let Some(since) = reader.waiting_since() else {
            this.timer = None;
            return Poll::Pending;
        };
        if reader.is_over() {
            return Poll::Ready(());
        }
        let until = since + this.stall;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        if timer.as_mut().poll(context).is_ready() {
            reader.stall();
            // dropped, and so reset
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// A connection together with its answers.
pub(super) struct Driven<C> {
    pub(super) connection: C,
    answers: ConnectionAnswers,
    under_way: FuturesUnordered<UpstreamAnswer>,
}

impl<C: Future + Unpin> Driven<C> {
    pub(super) fn new(connection: C, answers: ConnectionAnswers) -> Self {
        Self { connection, answers, under_way: FuturesUnordered::new() }
    }
}

impl<C: Future + Unpin> Future for Driven<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        // requests are taken first, then answered; what that gives wakes the connection, which writes it at once
        if let Poll::Ready(ended) = Pin::new(&mut this.connection).poll(context) {
            return Poll::Ready(ended);
        }
        this.under_way.extend(this.answers.take());
        while let Poll::Ready(Some(())) = this.under_way.poll_next_unpin(context) {}
        Poll::Pending
    }
}
