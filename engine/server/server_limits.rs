//! What one server admits.

use std::net::IpAddr;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Body as HttpBody;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;

use crate::server::answers::ConnectionAnswers;
use crate::types::address::Cidr;

/// What a client may cost. The defaults are those of the metadata-exporter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    pub handshake: Duration,
    /// From the connection, or the end of the last answer, to the end of a request's headers (HTTP/1.1); to the first
    /// request (HTTP/2).
    pub header: Duration,
    /// A request from its headers to the end of its answer; `None`: without end, for watches.
    pub request: Option<Duration>,
    /// A connection without any request.
    pub idle: Duration,
    /// What a closing connection gets to finish its answers.
    pub drain: Duration,
    /// A client that takes nothing of what it asked for.
    pub stall: Duration,
    /// A connection whose requests are all older than this.
    pub longest: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// The same of one peer.
    pub connections_of_peer: usize,
    /// Connections at a time that have shown no token.
    pub unauthenticated_connections: usize,
    /// The same from one IPv4 address or one IPv6 /64.
    pub connections_of_one: usize,
    /// Requests at a time on a connection that has shown no token.
    pub unauthenticated_streams: u32,
    /// Requests of a connection that are refused before it is closed.
    pub refusals: u32,
    /// Header fields of a request.
    pub header_fields: usize,
    /// Bytes of a request's header; at least 8192.
    pub header_bytes: u32,
    /// Bytes of a request's URL.
    pub url: usize,
    /// Whether a request may have a body.
    pub body: bool,
    /// Requests at a time on an HTTP/2 connection.
    pub streams: u32,
    /// Load balancers, whose connections begin with a PROXY header.
    pub trusted_proxies: Vec<Cidr>,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(5),
            request: Some(Duration::from_secs(10)),
            idle: Duration::from_mins(1),
            drain: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            longest: Duration::from_mins(1),
            connections: 1000,
            connections_of_peer: 100,
            unauthenticated_connections: 200,
            connections_of_one: 32,
            unauthenticated_streams: 8,
            refusals: 10,
            header_fields: 64,
            header_bytes: 16 * 1024,
            url: 1024,
            body: false,
            streams: 16,
            trusted_proxies: Vec::new(),
        }
    }
}

impl ServerLimits {
    pub(super) fn builder(&self, h2: bool, answers: ConnectionAnswers) -> auto::Builder<ConnectionAnswers> {
        let mut builder = auto::Builder::new(answers);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header)
            .max_headers(self.header_fields)
            .max_buf_size(usize::try_from(self.header_bytes).unwrap_or(usize::MAX).max(8192));
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_concurrent_streams(self.streams)
            .max_header_list_size(self.header_bytes)
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(64);
        if h2 { builder.http2_only() } else { builder.http1_only() }
    }

    /// Whether a connection from there says in a PROXY header whose it is.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|range| range.contains(address))
    }

    /// The status for a request that is over a limit.
    pub(super) fn broken<B: HttpBody>(&self, request: &Request<B>) -> Option<StatusCode> {
        let uri = request.uri();
        let url = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
        if url > self.url {
            return Some(StatusCode::URI_TOO_LONG);
        }
        if request.headers().len() > self.header_fields {
            return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        (!self.body && !request.body().is_end_stream()).then_some(StatusCode::PAYLOAD_TOO_LARGE)
    }
}
