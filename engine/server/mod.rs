//! The edge towards whoever asks us: one small HTTPS server for every role.
//!
//! It binds first and reports its address, then serves HTTP/1.1 and HTTP/2 over TLS 1.2 or newer with a certificate that
//! can be exchanged while it runs. Everything that waits has a limit. The version of HTTP follows from ALPN alone, so that
//! no one can sit in the guessing of it. A handler's error becomes a 500, and dropping [`Running`] ends it gracefully.
//!
//! **Budget.** What a client may have held for it depends on whether a request of its connection has shown a token
//! ([`Handler::admit`], before anything is awaited): `connection` says how much, `places` for how many connections, `answers`
//! for how long, [`memory`] when nothing more is begun at all.
#![deny(clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods, reason = "this is an edge")]

mod answers;
mod connection;
mod io;
pub mod limits;
pub mod log;
pub mod memory;
pub mod misread;
mod places;
mod proxy_header;
mod server_limits;
pub mod stream;
pub mod telemetry;
mod tls;
pub mod upstream;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
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

pub use crate::server::answers::Reader;
use crate::server::answers::{ConnectionAnswers, Driven};
use crate::server::connection::{BusyRequest, Full as ConnectionFull, ServedConnection};
use crate::server::io::GatheringWriter;
use crate::server::memory::Memory;
use crate::server::misread::Misread;
use crate::server::places::{Most, Place, Places};
pub use crate::server::server_limits::ServerLimits;
pub use crate::server::tls::{Certificates, TlsError};
use crate::types::cause::Cause;
use crate::types::name::ClusterUuid;

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
    /// What came is not what was asked for.
    #[error(transparent)]
    Misread(#[from] Misread),
    /// Whoever passed it on is gone.
    #[error("the stream was cut")]
    Cut,
}

/// A body that is there as a whole.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Who sends a request.
pub enum Asker {
    /// Whoever may connect; nothing has to be shown.
    Anyone,
    /// A peer, by its token.
    Peer(ClusterUuid),
    /// Someone who has shown nothing and is answered all the same; the request's extensions have an [`Introduction`].
    Stranger,
    /// Someone who is not answered.
    Refused(Response<Body>),
}

/// By which a handler says that a stranger has shown a token after all, which could only be judged with time.
#[derive(Clone)]
pub struct Introduction(Arc<ServedConnection>);

impl Introduction {
    /// From now on the connection is that of someone who is known.
    pub fn is_known(&self) {
        // of no peer, so there is none that could have too many connections
        let _of_no_peer = self.0.known(None);
    }
}

/// Answers requests of a server.
pub trait Handler: Send + Sync + 'static {
    /// Why a request is not answered; `Infallible` where every failure is an answer.
    type Error: Error + Send + Sync + 'static;

    /// Says who sends a request, from its head alone. What it learns can go into the request's extensions.
    fn admit(&self, request: &mut Request<Incoming>, from: SocketAddr) -> Asker {
        let _ = (request, from);
        Asker::Anyone
    }

    /// Hears of a request that the server itself refused, with this status.
    fn refused(&self, from: SocketAddr, status: StatusCode) {
        let _ = (from, status);
    }

    /// Answers one request, whose extensions have its [`Reader`]. An error becomes a 500 without its message.
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

    /// Answers until what is returned is dropped, with the newest of `certificates`.
    pub fn serve<H: Handler>(self, certificates: &Certificates, limits: ServerLimits, handler: Arc<H>) -> Running {
        let (stop, stopped) = watch::channel(());
        let most = Most {
            all: limits.connections,
            strangers: limits.unauthenticated_connections,
            of_address: limits.connections_of_one,
            of_peer: limits.connections_of_peer,
        };
        let server = Server {
            acceptor: TlsAcceptor::from(certificates.server_config()),
            places: Places::new(most),
            memory: Memory::watched(),
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
    memory: Memory,
    limits: Arc<ServerLimits>,
    handler: Arc<H>,
}

impl<H> Clone for Server<H> {
    fn clone(&self) -> Self {
        let Self { acceptor, places, memory, limits, handler } = self;
        Self {
            acceptor: acceptor.clone(),
            places: places.clone(),
            memory: memory.clone(),
            limits: limits.clone(),
            handler: handler.clone(),
        }
    }
}

impl<H: Handler> Server<H> {
    async fn accept(self, listener: TcpListener, mut stopped: watch::Receiver<()>) {
        let mut connections = JoinSet::new();
        let stop = stopped.clone();
        // those who give way take a moment to go
        let most = self.limits.connections + self.limits.unauthenticated_connections;
        loop {
            let has_room = connections.len() < most && !self.places.are_full();
            tokio::select! {
                _ = stopped.changed() => break,
                Some(_ended) = connections.join_next() => {}
                accepted = listener.accept(), if has_room => match accepted {
                    Ok((stream, _)) if self.memory.is_short() => {
                        self.places.shed();
                        drop(stream);
                    }
                    Ok((stream, from)) if self.limits.trusts(from.ip()) => {
                        let (server, stop) = (self.clone(), stop.clone());
                        connections.spawn(async move { server.passed_on(stream, from, stop).await });
                    }
                    Ok((stream, from)) => {
                        let place = self.places.take(from.ip());
                        let (server, stop) = (self.clone(), stop.clone());
                        connections.spawn(async move { server.connection(stream, from, place, stop).await });
                    }
                    // out of descriptors, most likely: others have to finish first
                    Err(_) => sleep(Duration::from_millis(50)).await,
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// A connection that a load balancer passes on, which says whose it is.
    async fn passed_on(&self, mut stream: TcpStream, balancer: SocketAddr, stopped: watch::Receiver<()>) {
        let header = timeout(self.limits.handshake, proxy_header::read(&mut stream));
        let from = match header.await {
            Ok(Ok(from)) => from.unwrap_or(balancer),
            Ok(Err(error)) => return self.handler.problem(balancer, &error),
            Err(elapsed) => return self.handler.problem(balancer, &elapsed),
        };
        let place = self.places.take(from.ip());
        self.connection(stream, from, place, stopped).await;
    }

    async fn connection(&self, stream: TcpStream, from: SocketAddr, place: Place, stopped: watch::Receiver<()>) {
        let connection = ServedConnection::new(place);
        tokio::select! {
            () = connection.gives_way() => {}
            () = self.serve(stream, from, &connection, stopped) => {}
        }
    }

    async fn serve(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        state: &Arc<ServedConnection>,
        mut stopped: watch::Receiver<()>,
    ) {
        let limits = &self.limits;
        let _best_effort = stream.set_nodelay(true);
        let stream = match timeout(limits.handshake, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.handler.problem(from, &error),
            Err(elapsed) => return self.handler.problem(from, &elapsed),
        };
        let answers = ConnectionAnswers::new(limits.stall);
        let builder = limits.builder(stream.get_ref().1.alpn_protocol() == Some(b"h2"), answers.clone());
        let stream = GatheringWriter::new(stream, state.clone(), limits.stall);
        let service = {
            let (server, state, answers) = (self.clone(), state.clone(), answers.clone());
            service_fn(move |request| {
                let reader = Reader::default();
                answers.begin(reader.clone());
                server.begin(request, from, &state, reader)
            })
        };
        let connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
        let mut driven = Driven::new(connection, answers);
        let mut closing: Option<Instant> = None;
        loop {
            // looked at again all the time, since the end comes nearer when the last request ends
            let wake = closing.unwrap_or_else(|| state.deadline(limits).min(Instant::now() + limits.idle));
            let drain = tokio::select! {
                ended = &mut driven => {
                    if let Err(error) = ended {
                        self.handler.problem(from, error.as_ref());
                    }
                    return;
                }
                _ = stopped.changed(), if closing.is_none() => limits.drain,
                () = state.closes.notified(), if closing.is_none() => limits.drain.min(Duration::from_secs(1)),
                () = sleep_until(wake) => {
                    if closing.is_some() {
                        return;
                    }
                    if state.deadline(limits) > Instant::now() {
                        continue;
                    }
                    limits.drain.min(Duration::from_secs(1))
                }
            };
            driven.connection.as_mut().graceful_shutdown();
            closing = Some(Instant::now() + drain);
        }
    }

    /// Judges a request by its head, which is dropped at once where there is nothing to answer.
    fn begin(
        &self,
        mut request: Request<Incoming>,
        from: SocketAddr,
        connection: &Arc<ServedConnection>,
        reader: Reader,
    ) -> impl Future<Output = Result<Response<CountedBody>, Infallible>> + Send + 'static + use<H> {
        let busy = connection.begin();
        let head_only = request.method() == Method::HEAD;
        let refused = self.judge(&mut request, from, connection);
        let counted = {
            let reader = reader.clone();
            move |response: Response<Body>| {
                // over HTTP/2 a body after all would be sent, and be an error to whoever asked
                let response = if head_only { response.map(|_| whole(Bytes::new())) } else { response };
                Ok(response.map(|inner| CountedBody { inner, reader, _busy: busy }))
            }
        };
        if let Some(response) = refused {
            if response.status().is_client_error() {
                connection.refused(&self.limits);
            }
            return Either::Left(future::ready(counted(response)));
        }
        request.extensions_mut().insert(reader);
        let server = self.clone();
        // boxed: hyper keeps the room of this future for as long as the answer's body lasts
        Either::Right(Box::pin(async move { counted(server.answer(request, from).await) }))
    }

    /// The refusal of a request whose head is enough to refuse it by.
    fn judge(
        &self,
        request: &mut Request<Incoming>,
        from: SocketAddr,
        connection: &Arc<ServedConnection>,
    ) -> Option<Response<Body>> {
        let refuse = |status| {
            self.handler.refused(from, status);
            refusal(status)
        };
        if let Some(status) = self.limits.broken(request) {
            return Some(refuse(status));
        }
        if self.memory.is_short() {
            let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            return Some(response);
        }
        let known = match self.handler.admit(request, from) {
            Asker::Anyone => connection.known(None),
            Asker::Peer(peer) => connection.known(Some(&peer)),
            Asker::Stranger => {
                request.extensions_mut().insert(Introduction(connection.clone()));
                connection.has_room(&self.limits)
            }
            Asker::Refused(response) => return Some(response),
        };
        match known {
            Ok(()) => None,
            Err(ConnectionFull::TooManyAtOnce | ConnectionFull::TooManyOfPeer) => {
                Some(refuse(StatusCode::TOO_MANY_REQUESTS))
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, from: SocketAddr) -> Response<Body> {
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
    }
}

fn refusal(status: StatusCode) -> Response<Body> {
    let message = status.canonical_reason().unwrap_or("error").to_ascii_lowercase();
    let mut response = Response::new(whole(format!("{message}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A body that counts as a request being answered until it is dropped.
struct CountedBody {
    inner: Body,
    reader: Reader,
    _busy: BusyRequest,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.reader.taken();
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.reader.offer();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
