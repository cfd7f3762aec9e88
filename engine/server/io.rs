//! The bytes of one connection: gathered before they are written, counted as they are read, and never waited for without end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Frames are gathered up to this many bytes, which is what one TLS record holds, and written together.
const GATHERED: usize = 16 * 1024;

/// What a connection may not exceed.
pub(super) trait Allowance: Send + Sync {
    /// Notes bytes that were read; false where they are more than the connection may send.
    fn read(&self, bytes: usize) -> bool;
    /// Notes bytes that were written.
    fn written(&self, bytes: usize);
    /// Notes that whoever is on the other side takes nothing.
    fn stalled(&self);
}

/// A connection whose frames are written together, and whose writes end after a while. `A` counts its bytes.
pub(super) struct GatheringWriter<S, A> {
    inner: S,
    allowance: A,
    stall: Duration,
    gathered: Vec<u8>,
    written: usize,
    /// Runs while the other side takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S, A> GatheringWriter<S, A> {
    pub(super) fn new(inner: S, allowance: A, stall: Duration) -> Self {
        Self { inner, allowance, stall, gathered: Vec::new(), written: 0, waiting: None }
    }
}

impl<S: AsyncWrite + Unpin, A: Allowance> GatheringWriter<S, A> {
    /// An end to waiting for the other side.
    fn bounded<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let stall = self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(stall)));
        if waiting.as_mut().poll(context).is_ready() {
            self.allowance.stalled();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    fn write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty()) {
            let outcome = Pin::new(&mut self.inner).poll_write(context, rest);
            match ready!(self.bounded(context, outcome))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => {
                    self.written += bytes;
                    self.allowance.written(bytes);
                }
            }
        }
        // a connection that is idle holds nothing
        self.gathered = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin, A: Allowance + Unpin> AsyncRead for GatheringWriter<S, A> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, into))?;
        let bytes = into.filled().len() - before;
        Poll::Ready(if self.allowance.read(bytes) {
            Ok(())
        } else {
            into.set_filled(before);
            Err(io::Error::other("the connection sent more than it may"))
        })
    }
}

impl<S: AsyncWrite + Unpin, A: Allowance + Unpin> AsyncWrite for GatheringWriter<S, A> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.gathered.len() + bytes > GATHERED {
            ready!(self.write_out(context))?;
        }
        if bytes > GATHERED {
            let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
            let bytes = ready!(self.bounded(context, outcome))?;
            self.allowance.written(bytes);
            return Poll::Ready(Ok(bytes));
        }
        for slice in slices {
            self.gathered.extend_from_slice(slice);
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_out(context))?;
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.bounded(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_out(context))?;
        let outcome = Pin::new(&mut self.inner).poll_shutdown(context);
        self.bounded(context, outcome)
    }
}

/// No limit, for connections that this side opened.
pub(super) struct Unlimited;

impl Allowance for Unlimited {
    fn read(&self, _bytes: usize) -> bool {
        true
    }

    fn written(&self, _bytes: usize) {}

    fn stalled(&self) {}
}
