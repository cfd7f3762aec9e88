//! Answers that stream for long: passed on piece by piece, with an end to each.
//!
//! At most one piece waits for the reader, so a slow one slows its own stream and nothing else; one that takes nothing for
//! too long, or too little of a list, is cut off. A stream ends cleanly only where its last event is complete: a reader that takes a clean end for
//! the whole answer never sees half an event. All other ends are errors, which the client sees as a reset.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::server::answers::Reader;
use crate::server::misread::Misread;
use crate::server::{Body, BodyError};

/// What is there at once continues as one piece of about this many bytes.
const TOGETHER: usize = 64 * 1024;
/// How long a reader may take less than the rate that is asked of it.
const GRACE: Duration = Duration::from_secs(10);

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// The origin ended it.
    Whole,
    /// Its time was over, or the process ends.
    Due,
    /// The reader went away.
    Left,
    /// The reader took nothing for too long.
    Stalled,
    /// Whoever reads it is no longer admitted.
    Revoked,
    /// The origin broke off.
    Broken(BreakOff),
}

/// How an origin broke off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BreakOff {
    /// Its time was over within an event.
    #[error("its time was over")]
    Late,
    /// It ended within an event.
    #[error("it ended within an event")]
    WithinEvent,
    #[error(transparent)]
    Body(#[from] BodyError),
    /// What it sent is not what it was asked for.
    #[error(transparent)]
    Misread(#[from] Misread),
}

/// What came of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOutcome {
    /// Bytes passed on.
    pub bytes: u64,
    /// How long it ran.
    pub lasted: Duration,
    pub ended: StreamEnd,
}

/// Where the events of a watch end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// One JSON event a line.
    Lines,
    /// Events with their length before them, four bytes, highest first: Kubernetes' protobuf.
    Lengths,
    /// No events; only the origin knows the end.
    Whole,
}

impl Framing {
    /// That of a watch with this content type.
    pub fn of_watch(content_type: Option<&str>) -> Self {
        match content_type {
            Some(kind) if kind.starts_with("application/json") => Self::Lines,
            Some(kind) if kind.starts_with("application/vnd.kubernetes.protobuf") => Self::Lengths,
            _ => Self::Whole,
        }
    }
}

/// Follows where events end.
#[derive(Debug)]
struct Border {
    framing: Framing,
    /// Bytes of the current event that are still to come; of its length while `length` is not full.
    left: usize,
    length: Vec<u8>,
    clean: bool,
}

impl Border {
    fn new(framing: Framing) -> Self {
        let clean = framing != Framing::Whole;
        Self { framing, left: 0, length: Vec::new(), clean }
    }

    fn pass(&mut self, mut chunk: &[u8]) {
        match self.framing {
            Framing::Whole => {}
            Framing::Lines => {
                if let Some(last) = chunk.last() {
                    self.clean = *last == b'\n';
                }
            }
            Framing::Lengths => {
                while let Some((first, rest)) = chunk.split_first() {
                    if self.left > 0 {
                        let taken = self.left.min(chunk.len());
                        self.left -= taken;
                        chunk = chunk.get(taken..).unwrap_or_default();
                    } else {
                        self.length.push(*first);
                        chunk = rest;
                        if let [a, b, c, d] = self.length[..] {
                            self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                            self.length.clear();
                        }
                    }
                    self.clean = self.left == 0 && self.length.is_empty();
                }
            }
        }
    }
}

/// Changes bytes on their way.
pub trait StreamTransform: Send + 'static {
    /// The next chunk as it is forwarded; what is held back comes with a later one.
    fn push(&mut self, chunk: Bytes) -> Result<Bytes, Misread>;
    /// What was still held back.
    fn finish(&mut self) -> Result<Bytes, Misread>;
}

/// Passes bytes on unchanged.
#[derive(Debug, Clone, Copy)]
pub struct AsIs;

impl StreamTransform for AsIs {
    fn push(&mut self, chunk: Bytes) -> Result<Bytes, Misread> {
        Ok(chunk)
    }

    fn finish(&mut self) -> Result<Bytes, Misread> {
        Ok(Bytes::new())
    }
}

/// A body whose bytes are changed on their way. It breaks off where they cannot be.
pub(crate) fn in_other_form(body: Body, change: impl StreamTransform + Unpin) -> Body {
    ChangedBody { body, change: Some(change) }.boxed_unsync()
}

/// A body whose bytes are changed, until its end has come.
struct ChangedBody<C> {
    body: Body,
    change: Option<C>,
}

impl<C: StreamTransform + Unpin> HttpBody for ChangedBody<C> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let Some(change) = &mut this.change else { return Poll::Ready(None) };
            let (changed, is_last) = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                None => (change.finish().map_err(BodyError::from), true),
                Some(Err(error)) => (Err(error), true),
                Some(Ok(frame)) => {
                    let changed = change.push(frame.into_data().unwrap_or_default()).map_err(BodyError::from);
                    let is_last = changed.is_err();
                    (changed, is_last)
                }
            };
            if is_last {
                this.change = None;
            }
            // nothing may come of what has not come whole
            if !matches!(&changed, Ok(data) if data.is_empty()) {
                return Poll::Ready(Some(changed.map(Frame::data)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.change.is_none()
    }
}

/// The bounds of a stream.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// When it ends at the latest.
    pub until: Instant,
    /// Bytes a second that its reader has to take, on average, of what there is for it.
    pub rate: Option<u64>,
    /// Where its events end.
    pub framing: Framing,
    pub reader: Reader,
}

/// How a stream ends before its origin ends it.
pub struct Ends<D, R> {
    /// Ends it in good order, with the last event that it gives.
    pub due: D,
    /// Ends it at once.
    pub revoked: R,
    /// The same, for a reader that takes nothing and so does not ask.
    pub is_revoked: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Passes a body on. `ended` hears how it went, before the reader does, after which everything that `ended` owns is dropped.
pub fn pass(
    body: Body,
    change: impl StreamTransform + Unpin,
    bounds: Bounds,
    ends: Ends<impl Future<Output = Bytes> + Send + 'static, impl Future<Output = ()> + Send + 'static>,
    ended: impl FnOnce(StreamOutcome) + Send + Unpin + 'static,
) -> Body {
    let Ends { due, revoked, is_revoked } = ends;
    let until = bounds.until;
    bounds.reader.end_once(move || Instant::now() >= until || is_revoked());
    let passing = Passing {
        body,
        change,
        border: Border::new(bounds.framing),
        rate: bounds.rate,
        reader: bounds.reader,
        waits: Box::pin(Waits { due, revoked, until: sleep_until(until) }),
        last_event: None,
        bytes: 0,
        begun: Instant::now(),
        ended: Some(ended),
    };
    passing.boxed_unsync()
}

pin_project_lite::pin_project! {
    /// What a stream waits for beside its origin, in one piece of memory.
    struct Waits<D, R> {
        #[pin]
        due: D,
        #[pin]
        revoked: R,
        #[pin]
        until: Sleep,
    }
}

/// A body on its way.
struct Passing<C, D, R, E: FnOnce(StreamOutcome)> {
    body: Body,
    change: C,
    border: Border,
    rate: Option<u64>,
    reader: Reader,
    waits: Pin<Box<Waits<D, R>>>,
    last_event: Option<Bytes>,
    bytes: u64,
    begun: Instant,
    /// Who hears of the end; gone when it has come.
    ended: Option<E>,
}

/// What comes next of a stream.
enum NextFrame {
    Chunk(Bytes),
    /// The last piece, and how it ends with it.
    Last(Bytes, StreamEnd),
}

impl<C: StreamTransform, D: Future<Output = Bytes>, R: Future<Output = ()>, E: FnOnce(StreamOutcome)>
    Passing<C, D, R, E>
{
    fn end(&mut self, how: StreamEnd) {
        if let Some(ended) = self.ended.take() {
            ended(StreamOutcome { bytes: self.bytes, lasted: self.begun.elapsed(), ended: how });
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<NextFrame> {
        let last = |ended| Poll::Ready(NextFrame::Last(Bytes::new(), ended));
        let mut waits = self.waits.as_mut().project();
        if waits.revoked.as_mut().poll(context).is_ready() {
            return last(StreamEnd::Revoked);
        }
        if self.last_event.is_none()
            && let Poll::Ready(event) = waits.due.as_mut().poll(context)
        {
            self.last_event = Some(event);
        }
        if self.border.clean
            && let Some(event) = self.last_event.take()
        {
            return Poll::Ready(NextFrame::Last(event, StreamEnd::Due));
        }
        if waits.until.as_mut().poll(context).is_ready() {
            // events that are not whole when the time is over would be half an answer
            return last(if self.border.clean { StreamEnd::Due } else { StreamEnd::Broken(BreakOff::Late) });
        }
        if self.rate.is_some_and(|rate| self.bytes < rate * self.reader.waited().saturating_sub(GRACE).as_secs()) {
            return last(StreamEnd::Stalled);
        }
        let mut chunks = Chunks::default();
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending if chunks.length > 0 => return Poll::Ready(NextFrame::Chunk(chunks.together())),
                Poll::Pending => return Poll::Pending,
            };
            let (changed, is_last) = match frame {
                None => (self.change.finish(), true),
                Some(Err(BodyError::Misread(misread))) => return last(StreamEnd::Broken(misread.into())),
                Some(Err(error)) => return last(StreamEnd::Broken(error.into())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (self.change.push(data), false),
                    Err(_trailers) => continue,
                },
            };
            let chunk = match changed {
                Ok(chunk) => chunk,
                Err(misread) => return last(StreamEnd::Broken(misread.into())),
            };
            self.border.pass(&chunk);
            chunks.push(chunk);
            if is_last {
                let is_whole = self.border.framing == Framing::Whole || self.border.clean;
                let how = if is_whole { StreamEnd::Whole } else { StreamEnd::Broken(BreakOff::WithinEvent) };
                return Poll::Ready(NextFrame::Last(chunks.together(), how));
            }
            // a watch's last event comes after a whole one, wherever that is
            if chunks.length >= TOGETHER || (self.border.clean && self.last_event.is_some()) {
                return Poll::Ready(NextFrame::Chunk(chunks.together()));
            }
        }
    }
}

/// Pieces that are there at once and continue as one.
#[derive(Default)]
struct Chunks {
    first: Bytes,
    more: BytesMut,
    length: usize,
}

impl Chunks {
    fn push(&mut self, chunk: Bytes) {
        if self.length == 0 {
            self.first = chunk;
        } else if !chunk.is_empty() {
            if self.more.is_empty() {
                self.more.reserve(TOGETHER);
                self.more.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.more.extend_from_slice(&chunk);
        }
        self.length = self.first.len() + self.more.len();
    }

    fn together(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}

impl<C, D, R, E> HttpBody for Passing<C, D, R, E>
where
    C: StreamTransform + Unpin,
    D: Future<Output = Bytes>,
    R: Future<Output = ()>,
    E: FnOnce(StreamOutcome) + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.ended.is_none() {
            return Poll::Ready(None);
        }
        let (chunk, how) = match ready!(this.poll_next(context)) {
            NextFrame::Chunk(chunk) => (chunk, None),
            NextFrame::Last(chunk, how) => (chunk, Some(how)),
        };
        this.bytes += chunk.len() as u64;
        let broken = match &how {
            None | Some(StreamEnd::Whole | StreamEnd::Due | StreamEnd::Left) => None,
            Some(StreamEnd::Stalled) => Some(BodyError::Stalled),
            Some(StreamEnd::Revoked) => Some(BodyError::Revoked),
            Some(StreamEnd::Broken(_)) => Some(BodyError::BrokenOff),
        };
        if let Some(how) = how {
            this.end(how);
        }
        Poll::Ready(match broken {
            Some(why) => Some(Err(why)),
            None if chunk.is_empty() => None,
            None => Some(Ok(Frame::data(chunk))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended.is_none()
    }
}

impl<C, D, R, E: FnOnce(StreamOutcome)> Drop for Passing<C, D, R, E> {
    fn drop(&mut self) {
        let how = if self.reader.has_stalled() {
            StreamEnd::Stalled
        } else if self.reader.is_over() {
            StreamEnd::Revoked
        } else {
            StreamEnd::Left
        };
        if let Some(ended) = self.ended.take() {
            ended(StreamOutcome { bytes: self.bytes, lasted: self.begun.elapsed(), ended: how });
        }
    }
}

/// A body of which the beginning is there.
pub enum GatheredBody {
    Whole(Bytes),
    /// More than was asked for; the body begins at its beginning.
    Begun(Body),
}

/// Reads the beginning of a body, up to `most` bytes, so that a small one continues as a whole.
pub async fn gather(mut body: Body, most: usize) -> Result<GatheredBody, BodyError> {
    let mut chunks = Chunks::default();
    while chunks.length <= most {
        match body.frame().await {
            None => return Ok(GatheredBody::Whole(chunks.together())),
            Some(Err(error)) => return Err(error),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    chunks.push(data);
                }
            }
        }
        if body.is_end_stream() {
            return Ok(GatheredBody::Whole(chunks.together()));
        }
    }
    let begun = ResumedBody { first: Some(chunks.together()), rest: body };
    Ok(GatheredBody::Begun(begun.boxed_unsync()))
}

/// A body whose beginning was read.
struct ResumedBody {
    first: Option<Bytes>,
    rest: Body,
}

impl HttpBody for ResumedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_where_events_end() {
        let mut lines = Border::new(Framing::Lines);
        assert!(lines.clean);
        lines.pass(b"{\"type\":");
        assert!(!lines.clean);
        lines.pass(b"\"ADDED\"}\n");
        assert!(lines.clean);

        // every way to cut two events into two pieces
        let events = [0, 0, 0, 3, b'a', b'b', b'c', 0, 0, 0, 0, 0, 0, 0, 1, b'd'];
        let whole = [0, 7, 11, 16];
        for at in 0..=events.len() {
            let mut lengths = Border::new(Framing::Lengths);
            lengths.pass(&events[..at]);
            assert_eq!(lengths.clean, whole.contains(&at), "{at}");
            lengths.pass(&events[at..]);
            assert!(lengths.clean, "{at}");
        }
        assert!(!Border::new(Framing::Whole).clean);
    }
}
