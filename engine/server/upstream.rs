//! Connections to one origin that carry many long requests: an apiserver, or a peer's api-proxy.
//!
//! HTTP/2 where the origin offers it. An apiserver admits 100 streams on a connection, and a watch occupies its stream for
//! half an hour, so requests are spread over as many connections as they need. A connection's window is as large as those
//! of all its streams together: a watch that no one reads fills its own window and holds up no other. Origins without
//! HTTP/2 get a connection for each request.
//!
//! Nothing is retried but a request whose connection turned out to be closed before its head was sent; once, on a newer
//! connection. Redirects are the caller's to judge; none is followed. An origin that vanished without a word is found by
//! pings within 30 s over HTTP/2, by the system's probes within 60 s otherwise.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::io::{GatheringWriter, Unlimited};
use crate::server::{Body, BodyError};
use crate::types::address::{DialPolicy, NotDialable};
use crate::types::cause::Cause;
use crate::types::tls_verdict::TlsVerdict;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Bytes of a response's header.
const MAX_HEADER: u32 = 64 * 1024;
/// How long sent bytes may stay without an acknowledgement, and a silent connection without an answer to probes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(50);

/// Scheme, host and port that are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Host name or address, without brackets.
    pub host: String,
    pub port: u16,
    /// What its certificate has to be for.
    pub server_name: ServerName<'static>,
}

impl Origin {
    /// An origin whose certificate is for its own host.
    pub fn new(host: &str, port: u16) -> Result<Self, UpstreamError> {
        let server_name =
            ServerName::try_from(host.to_owned()).map_err(|_| UpstreamError::Host { host: host.to_owned() })?;
        Ok(Self { host: host.to_owned(), port, server_name })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// How much of the origin is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Connections at a time.
    pub connections: usize,
    /// Requests at a time on one of HTTP/2.
    pub streams: usize,
    /// Until TCP is there.
    pub connect: Duration,
    /// Until TLS is there.
    pub handshake: Duration,
    /// A connection without a request, before it is closed.
    pub idle: Duration,
    /// Bytes of an answer over HTTP/2 that may come before the reader takes them: so much memory may each request need, and no
    /// more of an answer comes in the time to the origin and back.
    pub window: u32,
    /// Which addresses of its name are dialled; `None`: all, since the own cluster's apiserver may be anywhere.
    pub dial: Option<DialPolicy>,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            streams: 90,
            connect: Duration::from_secs(3),
            handshake: Duration::from_secs(5),
            idle: Duration::from_mins(5),
            window: 64 * 1024,
            dial: None,
        }
    }
}

/// Why an origin gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No one can be dialled by its host.
    #[error("cannot connect: `{host}` is neither a DNS name nor an address")]
    Host { host: String },
    /// Its name leads nowhere.
    #[error("cannot connect: the name has no address")]
    NoAddress,
    /// Its name leads to addresses alone that are not dialled.
    #[error("cannot connect: {0}")]
    Refused(#[from] NotDialable),
    /// No connection came about.
    #[error("cannot connect: {0}")]
    Connect(#[source] Cause<io::Error>),
    /// A connection came about, and HTTP did not.
    #[error("cannot connect: {}", with_cause(.0))]
    Handshake(#[source] Cause<hyper::Error>),
    /// Its certificate, or TLS itself.
    #[error("no TLS: {0}")]
    Tls(#[source] TlsVerdict),
    /// All connections are full.
    #[error("all {0} connections are in use")]
    Full(usize),
    /// The connection broke before the head of an answer.
    #[error("no answer: {}", with_cause(.0))]
    Broken(#[source] Cause<hyper::Error>),
    /// It took too long.
    #[error("no {0} in time")]
    Timeout(Awaited),
    /// It wanted to speak another protocol.
    #[error("it answered with a change of protocol")]
    Upgrade,
    /// A request that cannot be written.
    #[error("cannot write the request: {0}")]
    Request(#[source] Cause<http::Error>),
}

impl UpstreamError {
    /// Whether the same request may be answered a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::NoAddress
            | Self::Connect(_)
            | Self::Handshake(_)
            | Self::Tls(_)
            | Self::Full(_)
            | Self::Broken(_)
            | Self::Timeout(_) => true,
            Self::Host { .. } | Self::Refused(_) | Self::Upgrade | Self::Request(_) => false,
        }
    }
}

/// What an origin did not give in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// TCP.
    Connection,
    TlsHandshake,
    /// The beginning of HTTP/2.
    Http2Handshake,
    /// The beginning of HTTP/1.1.
    Http1Handshake,
    /// The head of an answer.
    Answer,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection",
            Self::TlsHandshake => "TLS handshake",
            Self::Http2Handshake => "HTTP/2 handshake",
            Self::Http1Handshake => "HTTP/1.1 handshake",
            Self::Answer => "answer",
        })
    }
}

/// Connections to one origin. Cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    origin: Origin,
    tls: TlsConnector,
    limits: UpstreamLimits,
    shards: Mutex<Vec<Arc<Shard>>>,
    /// One connection is opened at a time, so that a burst does not open more than it needs. When the last one failed, and
    /// how: whoever waited for it fails with it, instead of trying one after another.
    opening: tokio::sync::Mutex<Option<(Instant, UpstreamError)>>,
    /// Connections of HTTP/1.1, one a request.
    singles: Arc<AtomicUsize>,
}

struct Shard {
    sender: http2::SendRequest<Body>,
    used: AtomicUsize,
    opened: Instant,
    idle_since: Mutex<Instant>,
}

/// A place on a connection, given back when dropped.
enum ConnectionSlot {
    Shard(Arc<Shard>),
    Single(Arc<AtomicUsize>),
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        match self {
            Self::Shard(shard) => {
                *shard.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                shard.used.fetch_sub(1, Ordering::AcqRel);
            }
            Self::Single(singles) => {
                singles.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

enum UpstreamConnection {
    Shard(Arc<Shard>, ConnectionSlot),
    Single(http1::SendRequest<Body>, ConnectionSlot),
}

impl Upstream {
    /// Connects to no one yet. `tls` should offer `h2` and `http/1.1` by ALPN.
    pub fn new(origin: Origin, tls: Arc<ClientConfig>, limits: UpstreamLimits) -> Self {
        let inner = Inner {
            origin,
            tls: TlsConnector::from(tls),
            limits,
            shards: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            singles: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Scheme, host and port that are asked.
    pub fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        let open = self.inner.shards.lock().unwrap_or_else(PoisonError::into_inner).len();
        open + self.inner.singles.load(Ordering::Acquire)
    }

    /// Sends a request, of whose URI path and query count, and waits for the head of its answer. The body streams; dropping
    /// it gives up the request.
    pub async fn send(&self, request: Request<Body>, patience: Duration) -> Result<Response<Body>, UpstreamError> {
        let answer = timeout(patience, self.exchange(request));
        let (response, place) = answer.await.map_err(|_| UpstreamError::Timeout(Awaited::Answer))??;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(UpstreamError::Upgrade);
        }
        let broken = |error: hyper::Error| BodyError::Connection(error.into());
        Ok(response.map(|incoming| Placed { incoming, _place: place }.map_err(broken).boxed_unsync()))
    }

    async fn exchange(&self, request: Request<Body>) -> Result<(Response<Incoming>, ConnectionSlot), UpstreamError> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut request = Request::from_parts(head, body);
        let mut newer_than = None;
        loop {
            match self.inner.connection(newer_than).await? {
                UpstreamConnection::Shard(shard, place) => {
                    *request.uri_mut() = self.inner.uri(path.clone())?;
                    match shard.sender.clone().try_send_request(request).await {
                        Ok(response) => return Ok((response, place)),
                        Err(mut failed) => {
                            let unsent = failed.take_message();
                            let error = failed.into_error();
                            // one stream that was reset says nothing about the others
                            if unsent.is_some() || shard.sender.is_closed() {
                                self.inner.forget(&shard);
                            }
                            match unsent {
                                Some(unsent) if newer_than.is_none() => request = unsent,
                                _ => return Err(UpstreamError::Broken(error.into())),
                            }
                            newer_than = Some(Instant::now());
                        }
                    }
                }
                UpstreamConnection::Single(mut sender, place) => {
                    *request.uri_mut() = Uri::from(path);
                    let host = HeaderValue::try_from(self.inner.origin.authority()).map_err(unwritable)?;
                    request.headers_mut().insert(HOST, host);
                    let sent = sender.send_request(request).await;
                    return sent.map(|response| (response, place)).map_err(|error| UpstreamError::Broken(error.into()));
                }
            }
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.inner.origin.authority())
    }
}

impl Inner {
    fn uri(&self, path: PathAndQuery) -> Result<Uri, UpstreamError> {
        let authority: Authority = self.origin.authority().parse().map_err(unwritable::<InvalidUri>)?;
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(authority).path_and_query(path);
        uri.build().map_err(unwritable)
    }

    /// A place on a connection that is there, opened after a moment; connections that ended or idled too long are closed.
    fn place(&self, newer_than: Option<Instant>) -> Option<UpstreamConnection> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        shards.retain(|shard| {
            let idle = *shard.idle_since.lock().unwrap_or_else(PoisonError::into_inner) + self.limits.idle;
            !shard.sender.is_closed() && (shard.used.load(Ordering::Acquire) > 0 || now < idle)
        });
        let free = |shard: &&Arc<Shard>| {
            shard.used.load(Ordering::Acquire) < self.limits.streams
                && newer_than.is_none_or(|moment| moment <= shard.opened)
        };
        let shard = shards.iter().find(free)?.clone();
        shard.used.fetch_add(1, Ordering::AcqRel);
        Some(UpstreamConnection::Shard(shard.clone(), ConnectionSlot::Shard(shard)))
    }

    fn forget(&self, shard: &Arc<Shard>) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.retain(|known| !Arc::ptr_eq(known, shard));
    }

    async fn connection(&self, newer_than: Option<Instant>) -> Result<UpstreamConnection, UpstreamError> {
        if let Some(connection) = self.place(newer_than) {
            return Ok(connection);
        }
        let asked = Instant::now();
        let mut opening = self.opening.lock().await;
        if let Some((_, error)) = opening.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.clone());
        }
        if let Some(connection) = self.place(newer_than) {
            return Ok(connection);
        }
        let open = self.shards.lock().unwrap_or_else(PoisonError::into_inner).len();
        if open + self.singles.load(Ordering::Acquire) >= self.limits.connections {
            return Err(UpstreamError::Full(self.limits.connections));
        }
        let opened = self.open().await;
        *opening = opened.as_ref().err().map(|error| (Instant::now(), error.clone()));
        opened
    }

    async fn open(&self) -> Result<UpstreamConnection, UpstreamError> {
        let opened = Instant::now();
        let stream = self.connect().await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (sender, connection) = timeout(
                self.limits.handshake,
                self.http2().handshake(TokioIo::new(GatheringWriter::new(stream, Unlimited, UNACKNOWLEDGED))),
            )
            .await
            .map_err(|_| UpstreamError::Timeout(Awaited::Http2Handshake))?
            .map_err(|error| UpstreamError::Handshake(error.into()))?;
            // how it ends shows in the requests that it carries
            tokio::spawn(async move { drop(connection.await) });
            let idle_since = Mutex::new(Instant::now());
            let shard = Arc::new(Shard { sender, used: AtomicUsize::new(1), opened, idle_since });
            self.shards.lock().unwrap_or_else(PoisonError::into_inner).push(shard.clone());
            return Ok(UpstreamConnection::Shard(shard.clone(), ConnectionSlot::Shard(shard)));
        }
        let (sender, connection) = timeout(
            self.limits.handshake,
            http1::handshake(TokioIo::new(GatheringWriter::new(stream, Unlimited, UNACKNOWLEDGED))),
        )
        .await
        .map_err(|_| UpstreamError::Timeout(Awaited::Http1Handshake))?
        .map_err(|error| UpstreamError::Handshake(error.into()))?;
        tokio::spawn(async move { drop(connection.await) });
        self.singles.fetch_add(1, Ordering::AcqRel);
        Ok(UpstreamConnection::Single(sender, ConnectionSlot::Single(self.singles.clone())))
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let streams = u32::try_from(self.limits.streams).unwrap_or(u32::MAX);
        let window = self.limits.window;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(
                window.saturating_mul(streams.saturating_add(1)).min(i32::MAX.unsigned_abs()),
            )
            .max_header_list_size(MAX_HEADER)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        builder
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, UpstreamError> {
        let limits = &self.limits;
        let connecting = timeout(limits.connect, self.tcp());
        let stream = connecting.await.map_err(|_| UpstreamError::Timeout(Awaited::Connection))??;
        let _best_effort = stream.set_nodelay(true);
        let socket = SockRef::from(&stream);
        let probes = TcpKeepalive::new().with_time(UNACKNOWLEDGED / 2).with_interval(UNACKNOWLEDGED / 10);
        let _best_effort = socket.set_tcp_keepalive(&probes);
        let _best_effort = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let shaking = self.tls.connect(self.origin.server_name.clone(), stream);
        let shaken = timeout(limits.handshake, shaking).await;
        shaken.map_err(|_| UpstreamError::Timeout(Awaited::TlsHandshake))?.map_err(|error| {
            TlsVerdict::of(&error).map_or_else(|| UpstreamError::Connect(error.into()), UpstreamError::Tls)
        })
    }

    async fn tcp(&self) -> Result<TcpStream, UpstreamError> {
        let failed = |error: io::Error| UpstreamError::Connect(error.into());
        let found = lookup_host((self.origin.host.as_str(), self.origin.port)).await.map_err(failed)?;
        // judged after the name was resolved, so that a name cannot lead inside by changing its answer
        let addresses: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
        let mut last = UpstreamError::NoAddress;
        for address in addresses {
            if let Some(refused) = self.limits.dial.as_ref().and_then(|dial| dial.judge(address.ip()).err()) {
                last = refused.into();
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = failed(error),
            }
        }
        Err(last)
    }
}

/// An error with what led to it.
fn with_cause(error: &Cause<hyper::Error>) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn unwritable<E: Into<http::Error>>(error: E) -> UpstreamError {
    UpstreamError::Request(error.into().into())
}

/// A body that holds its place on a connection.
struct Placed {
    incoming: Incoming,
    _place: ConnectionSlot,
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// An error in a word or two, without the peer's own.
pub(crate) fn reason(error: &UpstreamError) -> &'static str {
    match error {
        UpstreamError::Host { .. }
        | UpstreamError::NoAddress
        | UpstreamError::Connect(_)
        | UpstreamError::Handshake(_) => "cannot connect",
        UpstreamError::Refused(_) => "its address is an inside one",
        UpstreamError::Tls(_) => "TLS failed",
        UpstreamError::Full(_) => "all connections are in use",
        UpstreamError::Broken(_) => "the connection broke",
        UpstreamError::Timeout(_) => "timed out",
        UpstreamError::Upgrade => "wants another protocol",
        UpstreamError::Request(_) => "the request cannot be written",
    }
}
