//! The edge towards whoever asks us: one small HTTPS server for every role.
//!
//! It binds first and reports its address, then serves HTTP/1.1 and HTTP/2 over TLS 1.2 or newer with a certificate that
//! can be exchanged while it runs. Everything that waits has a limit. The version of HTTP follows from ALPN alone, so that
//! nobody can sit in the guessing of it. A handler's error becomes a 500, and dropping [`Running`] ends it gracefully.
#![deny(clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods, reason = "this is an edge")]

pub mod limits;
pub mod log;
mod server_limits;
pub mod stream;
pub mod telemetry;
mod tls;
pub mod upstream;

use std::collections::HashMap;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

pub use crate::server::server_limits::ServerLimits;
pub use crate::server::tls::{Certificates, TlsError};
use crate::types::cause::Cause;

/// A response's body, whole or streamed.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body breaks off before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection that it comes over.
    #[error(transparent)]
    Connection(Cause<hyper::Error>),
    /// The reader is too slow.
    #[error("the reader took nothing for too long")]
    Stalled,
    /// The reader may not see the rest.
    #[error("the peer or its key is no longer admitted")]
    Revoked,
    /// The origin gives no more, and has not come to an end.
    #[error("the origin broke off")]
    BrokenOff,
    /// Whoever passed it on is gone.
    #[error("the stream was cut")]
    Cut,
}

/// A body that is there as a whole.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body with nothing in it.
pub(crate) fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Why a request is not answered; `Infallible` where every failure is an answer.
    type Error: Error + Send + Sync + 'static;

    /// Answers one request. An error becomes a 500 without its message.
    fn handle(
        &self,
        request: Request<Incoming>,
        from: SocketAddr,
    ) -> impl Future<Output = Result<Response<Body>, Self::Error>> + Send;

    /// Hears of what went wrong below or in the handling of requests: handshakes, connections, errors of [`handle`](Self::handle).
    fn problem(&self, from: SocketAddr, problem: &(dyn Error + 'static)) {
        let _ = (from, problem);
    }

    /// Brings to an end what is still to be done once nothing is answered any more.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A bound address that does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// A server that answers until this value is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Bound {
    /// Binds an address; port 0 takes a free one.
    pub async fn to(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// The address that is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer.
    pub fn serve<H: Handler>(self, certificates: &Certificates, limits: ServerLimits, handler: Arc<H>) -> Running {
        let (stop, stopped) = watch::channel(());
        let server = Server {
            acceptor: TlsAcceptor::from(certificates.server_config()),
            places: Arc::new(Places { most: limits.connections_of_one, taken: Mutex::default() }),
            limits: Arc::new(limits),
            handler,
        };
        let accepting = tokio::spawn(server.accept(self.listener, stopped));
        Running { address: self.address, stop, accepting }
    }
}

impl Running {
    /// The address that answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets those that are there finish, and waits for them.
    pub async fn stop(self) {
        let Self { stop, accepting, .. } = self;
        drop(stop);
        let _ended = accepting.await;
    }
}

struct Server<H> {
    acceptor: TlsAcceptor,
    places: Arc<Places>,
    limits: Arc<ServerLimits>,
    handler: Arc<H>,
}

impl<H> Clone for Server<H> {
    fn clone(&self) -> Self {
        let Self { acceptor, places, limits, handler } = self;
        Self { acceptor: acceptor.clone(), places: places.clone(), limits: limits.clone(), handler: handler.clone() }
    }
}

impl<H: Handler> Server<H> {
    async fn accept(self, listener: TcpListener, mut stopped: watch::Receiver<()>) {
        let mut connections = JoinSet::new();
        let stop = stopped.clone();
        loop {
            tokio::select! {
                _ = stopped.changed() => break,
                Some(_ended) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < self.limits.connections => match accepted {
                    Ok((stream, from)) => if let Some(place) = self.places.take(from.ip()) {
                        let (server, stop) = (self.clone(), stop.clone());
                        connections.spawn(async move {
                            let _place = place;
                            server.connection(stream, from, stop).await;
                        });
                    },
                    // out of descriptors, most likely: others have to finish first
                    Err(_) => sleep(Duration::from_millis(50)).await,
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn connection(&self, stream: TcpStream, from: SocketAddr, mut stopped: watch::Receiver<()>) {
        let limits = &self.limits;
        let _best_effort = stream.set_nodelay(true);
        let stream = match timeout(limits.handshake, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.handler.problem(from, &error),
            Err(elapsed) => return self.handler.problem(from, &elapsed),
        };
        let builder = limits.builder(stream.get_ref().1.alpn_protocol() == Some(b"h2"));
        let activity = Arc::new(Activity::new());
        let (server, counter) = (self.clone(), activity.clone());
        let service = service_fn(move |request| {
            let (server, busy) = (server.clone(), counter.begin());
            // boxed: hyper keeps the room of this future for as long as the answer's body lasts
            Box::pin(async move { Ok::<_, std::convert::Infallible>(server.answer(request, from, busy).await) })
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut closing: Option<Instant> = None;
        loop {
            let wake = closing.unwrap_or_else(|| activity.deadline(limits));
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        self.handler.problem(from, error.as_ref());
                    }
                    return;
                }
                _ = stopped.changed(), if closing.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    closing = Some(Instant::now() + limits.drain);
                }
                () = sleep_until(wake) => {
                    if closing.is_some() {
                        return;
                    }
                    if activity.deadline(limits) <= Instant::now() {
                        connection.as_mut().graceful_shutdown();
                        closing = Some(Instant::now() + limits.drain.min(Duration::from_secs(1)));
                    }
                }
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, from: SocketAddr, busy: Busy) -> Response<Counted> {
        let head_only = request.method() == Method::HEAD;
        let response = if let Some(status) = self.limits.broken(&request) {
            refusal(status)
        } else {
            let handling = self.handler.handle(request, from);
            let handled = match self.limits.request {
                Some(limit) => timeout(limit, handling).await,
                None => Ok(handling.await),
            };
            let failed = |problem: &(dyn Error + 'static)| {
                self.handler.problem(from, problem);
                refusal(StatusCode::INTERNAL_SERVER_ERROR)
            };
            match handled {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => failed(&error),
                Err(elapsed) => failed(&elapsed),
            }
        };
        // over HTTP/2 a body after all would be sent, and be an error to whoever asked
        let response = if head_only { response.map(|_| whole(Bytes::new())) } else { response };
        response.map(|inner| Counted { inner, _busy: busy })
    }
}

fn refusal(status: StatusCode) -> Response<Body> {
    let message = status.canonical_reason().unwrap_or("error").to_ascii_lowercase();
    let mut response = Response::new(whole(format!("{message}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// How many connections each address has.
struct Places {
    most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address.
struct Place {
    places: Arc<Places>,
    of: IpAddr,
}

impl Places {
    fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let of = limits::client_address(from);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(of).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), of })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

/// What a connection is doing.
struct Activity(Mutex<Doing>);

struct Doing {
    requests: usize,
    any_yet: bool,
    since: Instant,
}

/// A request that is being answered, until its body is sent or dropped.
struct Busy(Arc<Activity>);

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(Doing { requests: 0, any_yet: false, since: Instant::now() }))
    }

    fn change(&self, change: impl FnOnce(&mut Doing)) {
        let mut doing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut doing);
        doing.since = Instant::now();
    }

    fn begin(self: &Arc<Self>) -> Busy {
        self.change(|doing| {
            doing.requests += 1;
            doing.any_yet = true;
        });
        Busy(self.clone())
    }

    /// When the connection has lasted long enough, if nothing changes.
    fn deadline(&self, limits: &ServerLimits) -> Instant {
        let doing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = match (doing.requests, limits.request) {
            (0, _) if !doing.any_yet => limits.header,
            (0, _) => limits.idle,
            (_, Some(request)) => request * 2,
            (_, None) => Duration::from_hours(24),
        };
        doing.since + limit
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|doing| doing.requests -= 1);
    }
}

/// A body that counts as a request being answered until it is dropped.
struct Counted {
    inner: Body,
    _busy: Busy,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
