//! The one bounded fetcher: whatever a peer sends, or does not send, costs at most the [`FetchLimits`].
//!
//! https only, GET only, HTTP/1.1, TLS 1.2 or newer, no redirections, no ambient proxies, no compression. Where the spec
//! gives a CA, that CA alone is trusted. Addresses are judged when they are dialled, after the name was resolved, so that a
//! name cannot lead inside by changing its answer. Only status 200 with JSON or plain text is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::fmt::rfc2822;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cluster::tls;
use crate::types::address::{Cidr, Endpoint, Gateway, Host, is_inward};
use crate::types::cause::find;
use crate::types::name::Digest;
use crate::types::time::Timestamp;
use crate::types::tls_verdict::TlsVerdict;
use crate::types::token::Token;
use crate::wire::failure::{Failure, TlsFault, shown};

/// What a peer may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchLimits {
    /// Resolving, connecting and the TLS handshake together.
    pub connect: Duration,
    /// From the connection to the end of the response's headers.
    pub header: Duration,
    /// The whole request.
    pub total: Duration,
    /// Grace before the least rate counts.
    pub grace: Duration,
    /// Least bytes of body a second.
    pub rate: u64,
    /// Most bytes of body.
    pub body: usize,
    /// Most header fields.
    pub header_fields: usize,
    /// Most bytes of header fields.
    pub header_bytes: usize,
    /// Most addresses of a name that are tried.
    pub addresses: usize,
    /// Most peers asked at a time.
    pub at_once: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            header: Duration::from_secs(5),
            total: Duration::from_secs(10),
            grace: Duration::from_secs(1),
            rate: 1024,
            body: 1024 * 1024,
            header_fields: 100,
            header_bytes: 64 * 1024,
            addresses: 8,
            at_once: 64,
        }
    }
}

/// The addresses of a name, while they are looked up.
pub type Looking = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>>;
/// Looks up the addresses of a name.
pub type Lookup = Arc<dyn Fn(String) -> Looking + Send + Sync>;

/// Makes the clients of a run.
#[derive(Clone)]
pub struct Fetcher {
    limits: FetchLimits,
    lookup: Lookup,
    kept: Option<ClientCache>,
    /// Ranges of the cluster that it runs in, in which no peer is.
    own: Arc<[Cidr]>,
}

/// Clients that outlive a run, by all that makes them.
type ClientCache = Arc<Mutex<BTreeMap<Digest, PeerClient>>>;

/// A client for one cluster's metadata. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerClient {
    client: Client,
    endpoint: Endpoint,
    limits: FetchLimits,
    given_ca: bool,
    /// Entity tags of the documents as last read (RFC 9110, section 8.8.3).
    tags: Arc<Mutex<BTreeMap<&'static str, HeaderValue>>>,
    /// What the peer's clock last said (`Date`, RFC 9110, section 6.6.1).
    date: Arc<Mutex<Option<Timestamp>>>,
}

/// Longest entity tag that is kept, in bytes.
const LONGEST_TAG: usize = 256;

impl Fetcher {
    /// A fetcher that asks the system's resolver.
    pub fn new(limits: FetchLimits) -> Self {
        let lookup: Lookup = Arc::new(|name| Box::pin(ask_system(name)));
        Self { limits, lookup, kept: None, own: Arc::default() }
    }

    /// The same inside a cluster with these ranges, which are dialled only where an inside address is allowed by name.
    #[must_use]
    pub fn within(self, own: &[Cidr]) -> Self {
        Self { own: own.into(), ..self }
    }

    /// A fetcher for many runs: connections stay open, and documents are asked for only as far as they changed.
    #[must_use]
    pub fn keeping(self) -> Self {
        Self { kept: Some(ClientCache::default()), ..self }
    }

    /// Drops all kept clients but those of these endpoints.
    pub fn keep_only(&self, endpoints: &BTreeSet<String>) {
        if let Some(kept) = &self.kept {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|_, peer| endpoints.contains(&peer.endpoint.to_string()));
        }
    }

    /// The same with another resolver.
    #[must_use]
    pub fn with_lookup(self, lookup: Lookup) -> Self {
        Self { lookup, ..self }
    }

    /// Times and sizes that hold for each request.
    pub fn limits(&self) -> &FetchLimits {
        &self.limits
    }

    /// A client for an https endpoint. `ca` is PEM and then the only trust; `allow` are the ranges it must lie in, empty
    /// for any outward address.
    pub fn peer(&self, endpoint: &Endpoint, ca: Option<&str>, allow: &[Cidr]) -> Result<PeerClient, Failure> {
        let Some(kept) = &self.kept else { return self.new_peer(endpoint, ca, allow) };
        let inputs_digest = Digest::of(format!("{endpoint}\n{allow:?}\n{}", ca.unwrap_or_default()).as_bytes());
        if let Some(peer) = kept.lock().unwrap_or_else(PoisonError::into_inner).get(&inputs_digest) {
            return Ok(peer.clone());
        }
        let peer = self.new_peer(endpoint, ca, allow)?;
        kept.lock().unwrap_or_else(PoisonError::into_inner).insert(inputs_digest, peer.clone());
        Ok(peer)
    }

    fn new_peer(&self, endpoint: &Endpoint, ca: Option<&str>, allow: &[Cidr]) -> Result<PeerClient, Failure> {
        let url = endpoint.to_string();
        let client = |problem: String| Failure::Client { url: url.clone(), problem };
        let Endpoint::Https { host, .. } = endpoint else {
            return Err(client("it is a folder, and is read from the checkout".to_owned()));
        };
        if let Host::Address(address) = host {
            vet(*address, allow, &self.own).map_err(|error| error.failure(&url))?;
        }
        let roots = match ca {
            Some(pem) => {
                let given = tls::given_roots(pem);
                Arc::new(given.map_err(|error| client(format!("`metadata.ca` is unusable: {error}")))?)
            }
            None => tls::system_roots().ok_or_else(|| {
                client("this machine has no CA certificates; install them, or give `metadata.ca`".to_owned())
            })?,
        };
        let tls = tls::client(roots, tls::HTTP_1).map_err(|error| client(error.to_string()))?;
        let vetted = Vetted {
            lookup: self.lookup.clone(),
            allow: allow.into(),
            own: self.own.clone(),
            most: self.limits.addresses,
        };
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(vetted)
            .https_only(true)
            .http1_only()
            .http1_max_headers(self.limits.header_fields)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(self.limits.connect)
            .pool_max_idle_per_host(2)
            .user_agent(concat!("isthmus/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| client(innermost(&error).to_string()))?;
        let limits = self.limits.clone();
        Ok(PeerClient {
            client,
            endpoint: endpoint.clone(),
            limits,
            given_ca: ca.is_some(),
            tags: Arc::default(),
            date: Arc::default(),
        })
    }
}

impl Fetcher {
    /// Whether something takes connections at a gateway. Addresses are vetted as those of documents are.
    pub async fn connects(&self, to: &Gateway, allow: &[Cidr]) -> Result<(), NotConnected> {
        let found = match &to.address {
            Host::Address(address) => vec![*address],
            Host::Name(name) => (self.lookup)(name.clone()).await.map_err(NotDialled::Lookup)?,
        };
        let mut problem = NotDialled::NoAddress.into();
        for address in found.into_iter().take(self.limits.addresses) {
            if let Err(refused) = vet(address, allow, &self.own) {
                problem = refused.into();
                continue;
            }
            match timeout(self.limits.connect, TcpStream::connect((address, to.port))).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => problem = NotConnected::Refused(error),
                Err(_) => problem = NotConnected::Late { seconds: self.limits.connect.as_secs() },
            }
        }
        Err(problem)
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Asks the system's resolver on a thread of its own: it cannot be cut short, and one on the runtime's threads would hold
/// up the runtime's end for as long as a dead name server does.
async fn ask_system(name: String) -> std::io::Result<Vec<IpAddr>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let ask = move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        // no one listens any more once the time is over
        drop(sender.send(found.map(|found| found.map(|address| address.ip()).collect())));
    };
    std::thread::Builder::new().name("resolver".to_owned()).spawn(ask)?;
    receiver.await.unwrap_or_else(|_| Err(std::io::Error::other("the resolver gave up")))
}

impl PeerClient {
    /// Reads a document below the endpoint, with a token or without.
    pub async fn get(&self, document: &str, token: Option<&Token>) -> Result<Vec<u8>, Failure> {
        self.get_bearing(document, token.map(Token::expose)).await
    }

    /// The same, unless the peer says that the document is still the one that was read last: then `None`. Whoever asks
    /// so has that one.
    pub async fn get_if_changed(
        &self,
        document: &'static str,
        token: Option<&Token>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let known = self.tags().get(document).cloned();
        match self.request(document, token.map(Token::expose), known).await? {
            RequestOutcome::Unchanged => Ok(None),
            RequestOutcome::Document(bytes, tag) => {
                match tag.filter(|tag| tag.len() <= LONGEST_TAG) {
                    Some(tag) => self.tags().insert(document, tag),
                    None => self.tags().remove(document),
                };
                Ok(Some(bytes))
            }
        }
    }

    /// What the peer's clock said when it last answered; `None`: nothing that could be read.
    pub fn date(&self) -> Option<Timestamp> {
        *self.date.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets that a document was read, so that the next time all of it comes.
    pub fn forget(&self, document: &str) {
        self.tags().remove(document);
    }

    fn tags(&self) -> MutexGuard<'_, BTreeMap<&'static str, HeaderValue>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same with the text of a token, as a kubeconfig holds it.
    pub async fn get_bearing(&self, document: &str, token: Option<&str>) -> Result<Vec<u8>, Failure> {
        match self.request(document, token, None).await? {
            RequestOutcome::Document(bytes, _) => Ok(bytes),
            // no one said that anything was known
            RequestOutcome::Unchanged => {
                Err(Failure::Status { url: self.endpoint.url(document), status: 304, retry_after: None })
            }
        }
    }

    async fn request(
        &self,
        document: &str,
        token: Option<&str>,
        known: Option<HeaderValue>,
    ) -> Result<RequestOutcome, Failure> {
        let url = self.endpoint.url(document);
        let limits = &self.limits;
        let begun = Instant::now();
        let end = begun + limits.total;
        let mut request = self
            .client
            .get(&url)
            .header(ACCEPT, "application/json, text/plain;q=0.5")
            .header(ACCEPT_ENCODING, "identity");
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|error| Failure::Client { url: url.clone(), problem: error.to_string() })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let asked_for_changes = known.is_some();
        if let Some(known) = known {
            request = request.header(IF_NONE_MATCH, known);
        }
        let header_end = end.min(begun + limits.connect + limits.header);
        let response = match timeout_at(header_end, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.request_failure(url, &error)),
            Err(_) => return Err(Failure::TimedOut { url, seconds: seconds(header_end - begun) }),
        };
        let date =
            text(response.headers(), &DATE).and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(&date).ok());
        *self.date.lock().unwrap_or_else(PoisonError::into_inner) = date.map(Timestamp::from);
        if asked_for_changes && response.status() == StatusCode::NOT_MODIFIED {
            return Ok(RequestOutcome::Unchanged);
        }
        self.judge_headers(&url, &response)?;
        let tag = response.headers().get(ETAG).cloned();
        Ok(RequestOutcome::Document(self.body(url, response, end).await?, tag))
    }

    fn judge_headers(&self, url: &str, response: &Response) -> Result<(), Failure> {
        let url = url.to_owned();
        let headers = response.headers();
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if headers.len() > self.limits.header_fields || bytes > self.limits.header_bytes {
            return Err(self.headers_too_large(url));
        }
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() && headers.contains_key(LOCATION) => {
                return Err(Failure::Redirect { url, to: target(response) });
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Failure::Unauthorized { url, status: response.status().as_u16() });
            }
            StatusCode::NOT_FOUND => return Err(Failure::NotFound { url }),
            StatusCode::SERVICE_UNAVAILABLE => return Err(Failure::Unavailable { url }),
            status => {
                let retry_after = text(headers, &RETRY_AFTER).and_then(|text| text.trim().parse().ok());
                return Err(Failure::Status { url, status: status.as_u16(), retry_after });
            }
        }
        if let Some(encoding) = text(headers, &CONTENT_ENCODING)
            && !encoding.trim().eq_ignore_ascii_case("identity")
        {
            return Err(Failure::Encoded { url, encoding: shown(&encoding) });
        }
        if let Some(content_type) = text(headers, &CONTENT_TYPE) {
            let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if essence != "application/json" && essence != "text/plain" {
                return Err(Failure::ContentType { url, content_type: shown(&content_type) });
            }
        }
        if response.content_length().is_some_and(|length| length > self.limits.body as u64) {
            return Err(Failure::TooLarge { url, limit: self.limits.body });
        }
        Ok(())
    }

    /// Reads the body; each byte must be there in time for the least rate, all of them before the end.
    async fn body(&self, url: String, mut response: Response, end: Instant) -> Result<Vec<u8>, Failure> {
        let FetchLimits { rate, body: limit, grace, .. } = self.limits;
        let begun = Instant::now();
        let mut body = Vec::new();
        loop {
            let due = Duration::from_millis((body.len() as u64).saturating_mul(1000) / rate.max(1));
            match timeout_at(end.min(begun + grace + due), response.chunk()).await {
                Ok(Ok(Some(chunk))) if chunk.len() > limit - body.len() => {
                    return Err(Failure::TooLarge { url, limit });
                }
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => {
                    return Err(Failure::Broken { url, problem: innermost(&error).to_string() });
                }
                Err(_) => return Err(Failure::TooSlow { url, rate, seconds: seconds(self.limits.total) }),
            }
        }
    }

    fn headers_too_large(&self, url: String) -> Failure {
        Failure::HeadersTooLarge { url, count: self.limits.header_fields, bytes: self.limits.header_bytes }
    }

    /// A request that got no answer.
    fn request_failure(&self, url: String, error: &reqwest::Error) -> Failure {
        if let Some(refused) = find::<NotDialled>(error) {
            return refused.failure(&url);
        }
        if let Some(verdict) = TlsVerdict::of(error) {
            return Failure::Tls { url, fault: tls_fault(verdict, self.given_ca) };
        }
        if error.is_connect() && error.is_timeout() {
            let problem = format!("no connection within {} s", seconds(self.limits.connect));
            return Failure::NotReachable { url, problem };
        }
        match find::<hyper::Error>(error) {
            Some(error) if error.is_parse_too_large() => self.headers_too_large(url),
            Some(error) if error.is_parse() => Failure::Broken { url, problem: error.to_string() },
            _ => Failure::NotReachable { url, problem: innermost(error).to_string() },
        }
    }
}

/// What came of a request.
enum RequestOutcome {
    /// The document is the one whose tag was sent.
    Unchanged,
    /// The document and its tag.
    Document(Vec<u8>, Option<HeaderValue>),
}

/// Whole seconds, rounded up.
fn seconds(limit: Duration) -> u64 {
    limit.as_secs() + u64::from(limit.subsec_nanos() > 0)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The host a redirection points at, and no more of what the peer wrote.
fn target(response: &Response) -> String {
    let location = text(response.headers(), &LOCATION).unwrap_or_default();
    match response.url().join(&location) {
        Ok(to) => shown(&format!("{}://{}", to.scheme(), to.host_str().unwrap_or_default())),
        Err(_) => "a place that is no URL".to_owned(),
    }
}

/// The verdict, as far as stored plans and codes tell it apart.
fn tls_fault(verdict: TlsVerdict, given_ca: bool) -> TlsFault {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "an unknown time".to_owned(), |at| at.to_string());
    match verdict {
        TlsVerdict::UnknownIssuer(presented) if given_ca => TlsFault::NotByGivenCa { presented },
        TlsVerdict::UnknownIssuer(presented) => TlsFault::UnknownIssuer { presented },
        TlsVerdict::Expired { at } => TlsFault::Expired { at: time(at) },
        TlsVerdict::NotYetValid { at } => TlsFault::NotYetValid { at: time(at) },
        TlsVerdict::WrongName { presented } => TlsFault::WrongName { presented },
        other @ (TlsVerdict::Certificate(_) | TlsVerdict::Handshake(_)) => {
            TlsFault::Other { problem: other.to_string() }
        }
    }
}

/// Why nothing took a connection.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    #[error(transparent)]
    NotDialled(#[from] NotDialled),
    #[error(transparent)]
    Refused(std::io::Error),
    #[error("no answer within {seconds} s")]
    Late { seconds: u64 },
}

/// Why no address was dialled.
#[derive(Debug, thiserror::Error)]
pub enum NotDialled {
    #[error(transparent)]
    Lookup(std::io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("{0} is {1}")]
    Outside(IpAddr, DialRule),
}

/// Why an address may not be dialled.
#[derive(Debug, Clone, Copy)]
pub enum DialRule {
    NotAllowed,
    Inward,
    OwnCluster,
}

impl fmt::Display for DialRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAllowed => "outside `allow.addresses`",
            Self::Inward => "an inside address (loopback, link-local, multicast, unspecified, or a metadata service)",
            Self::OwnCluster => "an address of the cluster that reads it",
        })
    }
}

impl NotDialled {
    fn failure(&self, url: &str) -> Failure {
        let url = url.to_owned();
        match self {
            Self::Lookup(_) | Self::NoAddress => Failure::NotResolved { url, problem: shown(&self.to_string()) },
            Self::Outside(address, rule) => {
                Failure::Outside { url, address: address.to_string(), why: rule.to_string() }
            }
        }
    }
}

/// Whether an address may be dialled: inside `allow`, or outward where `allow` is empty; and not among the `own`, which a wide
/// range may cover, unless a range that is there for inside addresses has it.
fn vet(address: IpAddr, allow: &[Cidr], own: &[Cidr]) -> Result<(), NotDialled> {
    let mut allowing = allow.iter().filter(|range| range.contains(address)).peekable();
    let is_allowed = allowing.peek().is_some();
    let is_own = own.iter().any(|range| range.contains(address)) && !allowing.any(Cidr::holds_inward);
    let rule = match (is_allowed, allow.is_empty()) {
        (false, false) => DialRule::NotAllowed,
        (false, true) if is_inward(address) => DialRule::Inward,
        _ if is_own => DialRule::OwnCluster,
        _ => return Ok(()),
    };
    Err(NotDialled::Outside(address, rule))
}

/// A resolver that yields admitted addresses alone.
struct Vetted {
    lookup: Lookup,
    allow: Arc<[Cidr]>,
    own: Arc<[Cidr]>,
    most: usize,
}

impl Resolve for Vetted {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow, own, most) = (self.allow.clone(), self.own.clone(), self.most);
        let looking = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let found = looking.await.map_err(NotDialled::Lookup)?;
            let mut refused = NotDialled::NoAddress;
            let mut admitted = Vec::new();
            for address in found {
                match vet(address, &allow, &own) {
                    Ok(()) => admitted.push(SocketAddr::new(address, 0)),
                    Err(error) => refused = error,
                }
            }
            admitted.truncate(most);
            if admitted.is_empty() {
                return Err(refused.into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

/// The last error of a chain, which says what happened.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last
}
