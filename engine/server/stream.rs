//! Answers that stream for long: passed on piece by piece, with an end to each.
//!
//! At most one piece waits for the reader, so a slow one slows its own stream and nothing else; one that takes nothing for
//! too long is cut off. A stream ends cleanly only where its last event is complete: a reader that takes a clean end for
//! the whole answer never sees half an event. All other ends are errors, which the client sees as a reset.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame};
use serde_json::error::Category;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::server::{Body, BodyError};

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
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
    /// Its body did.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// What it sent is not what it was asked for.
    #[error(transparent)]
    Misread(#[from] Misread),
}

/// Why bytes cannot be changed on their way. None says what was found: it may be what nobody is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misread {
    /// Not JSON.
    #[error("expected JSON, found something else")]
    Syntax,
    /// JSON of another shape.
    #[error("expected what was asked for, found JSON of another shape")]
    Shape,
    /// An object that is too long.
    #[error("expected at most {0} bytes of an object, found more")]
    TooLarge(usize),
    /// The end came too early.
    #[error("it ended within an object")]
    Incomplete,
}

impl From<serde_json::Error> for Misread {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            Category::Data => Self::Shape,
            Category::Io | Category::Syntax | Category::Eof => Self::Syntax,
        }
    }
}

/// What came of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOutcome {
    /// Bytes passed on.
    pub bytes: u64,
    /// How long it ran.
    pub lasted: Duration,
    /// How it ended.
    pub ended: Ended,
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

    fn pass(&mut self, mut piece: &[u8]) {
        match self.framing {
            Framing::Whole => {}
            Framing::Lines => {
                if let Some(last) = piece.last() {
                    self.clean = *last == b'\n';
                }
            }
            Framing::Lengths => {
                while let Some((first, rest)) = piece.split_first() {
                    if self.left > 0 {
                        let taken = self.left.min(piece.len());
                        self.left -= taken;
                        piece = piece.get(taken..).unwrap_or_default();
                    } else {
                        self.length.push(*first);
                        piece = rest;
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
pub trait Change: Send + 'static {
    /// The next piece as it goes on; what is held back comes with a later one.
    fn push(&mut self, piece: Bytes) -> Result<Bytes, Misread>;
    /// What was still held back.
    fn finish(&mut self) -> Result<Bytes, Misread>;
}

/// Changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct AsIs;

impl Change for AsIs {
    fn push(&mut self, piece: Bytes) -> Result<Bytes, Misread> {
        Ok(piece)
    }

    fn finish(&mut self) -> Result<Bytes, Misread> {
        Ok(Bytes::new())
    }
}

/// The bounds of a stream.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// When it ends at the latest.
    pub until: Instant,
    /// How long a reader may take nothing.
    pub stall: Duration,
    /// Where its events end.
    pub framing: Framing,
}

/// Passes a body on. `due` ends it in good order, with the last event that it gives, `revoked` at once; `ended` hears how it
/// went, after which everything that `ended` owns is dropped.
pub fn pass(
    body: Body,
    mut change: impl Change,
    bounds: Bounds,
    due: impl Future<Output = Bytes> + Send + 'static,
    revoked: impl Future<Output = ()> + Send + 'static,
    ended: impl FnOnce(StreamOutcome) + Send + 'static,
) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    let (end, begin) = (Arc::new(OnceLock::new()), Instant::now());
    let receiving = Receiving { pieces: receiver, end: end.clone(), over: false };
    tokio::spawn(async move {
        let mut bytes = 0;
        let outcome = run(body, &mut change, &bounds, due, revoked, &sender, &mut bytes).await;
        let known = end.set(match &outcome {
            Ended::Whole | Ended::Due | Ended::Left => Ok(()),
            Ended::Stalled => Err(BodyError::Stalled),
            Ended::Revoked => Err(BodyError::Revoked),
            Ended::Broken(_) => Err(BodyError::BrokenOff),
        });
        debug_assert!(known.is_ok(), "a stream ends once");
        ended(StreamOutcome { bytes, lasted: begin.elapsed(), ended: outcome });
        // the reader learns of the end by this, when it is recorded already
        drop(sender);
    });
    receiving.boxed_unsync()
}

async fn run(
    mut body: Body,
    change: &mut impl Change,
    bounds: &Bounds,
    due: impl Future<Output = Bytes>,
    revoked: impl Future<Output = ()>,
    sender: &mpsc::Sender<Bytes>,
    bytes: &mut u64,
) -> Ended {
    let mut border = Border::new(bounds.framing.clone());
    let (mut due, mut revoked) = (std::pin::pin!(due), std::pin::pin!(revoked));
    let mut last_event = None;
    loop {
        if border.clean
            && let Some(event) = last_event.take()
        {
            return send(event, bounds, revoked.as_mut(), sender, bytes).await.err().unwrap_or(Ended::Due);
        }
        let frame = tokio::select! {
            biased;
            () = revoked.as_mut() => return Ended::Revoked,
            () = sender.closed() => return Ended::Left,
            event = due.as_mut(), if last_event.is_none() => {
                last_event = Some(event);
                continue;
            }
            // events that are not whole when the time is over would be half an answer
            () = sleep_until(bounds.until) => {
                return if border.clean { Ended::Due } else { Ended::Broken(BreakOff::Late) };
            }
            frame = body.frame() => frame,
        };
        let (changed, last) = match frame {
            None => (change.finish(), true),
            Some(Err(error)) => return Ended::Broken(error.into()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => (change.push(data), false),
                Err(_trailers) => continue,
            },
        };
        let piece = match changed {
            Ok(piece) => piece,
            Err(misread) => return Ended::Broken(misread.into()),
        };
        border.pass(&piece);
        if let Err(ended) = send(piece, bounds, revoked.as_mut(), sender, bytes).await {
            return ended;
        }
        if last {
            return if border.framing == Framing::Whole || border.clean {
                Ended::Whole
            } else {
                Ended::Broken(BreakOff::WithinEvent)
            };
        }
    }
}

/// Hands a piece over to the reader.
async fn send(
    piece: Bytes,
    bounds: &Bounds,
    revoked: Pin<&mut impl Future<Output = ()>>,
    sender: &mpsc::Sender<Bytes>,
    bytes: &mut u64,
) -> Result<(), Ended> {
    if piece.is_empty() {
        return Ok(());
    }
    *bytes += piece.len() as u64;
    tokio::select! {
        biased;
        () = revoked => Err(Ended::Revoked),
        sent = timeout(bounds.stall, sender.send(piece)) => match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => Err(Ended::Left),
            Err(_elapsed) => Err(Ended::Stalled),
        },
    }
}

/// The reader's end.
struct Receiving {
    pieces: mpsc::Receiver<Bytes>,
    /// How it ended; a stream that stops without a word was cut.
    end: Arc<OnceLock<Result<(), BodyError>>>,
    over: bool,
}

impl HttpBody for Receiving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        if self.over {
            return Poll::Ready(None);
        }
        let wrong = match (self.end.get(), &piece) {
            // what still waits for a reader that is not admitted any more, or was too slow, is not given either
            (Some(Err(why)), _) => Some(why.clone()),
            (None, None) => Some(BodyError::Cut),
            (Some(Ok(())), _) | (None, Some(_)) => None,
        };
        self.over = wrong.is_some() || piece.is_none();
        Poll::Ready(match wrong {
            Some(why) => Some(Err(why)),
            None => piece.map(|piece| Ok(Frame::data(piece))),
        })
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
