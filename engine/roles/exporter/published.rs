//! The metadata-exporter: what a cluster says of itself, complete or not at all, and to whom.
//!
//! | path | answer |
//! |---|---|
//! | `<prefix>/public/public.json` | the public document, with an ETag |
//! | `<prefix>/public/spiffe-bundle-endpoint` | its root CAs as a SPIFFE bundle |
//! | `<prefix>/private/multicluster.json` | the private document, with a token |
//! | `<prefix>/private/federation.json` | the same gateways and no services, with a token of that scope |
//! | `/healthz`, `/readyz` | for probes |
//!
//! What is not known yet is 503 with Retry-After: a document that lacks a part, and the private one until the first collection from
//! everything that evidence rests on is over. A refused token is one uniform 401, whatever is wrong with it; the reason
//! is in the response's [`Audit`] alone. A token opens the private document once: shown again it is refused like any other.
//!
//! **Who sees which evidence.** The cluster's own engine (`self` keys) sees all of it. A peer sees `trusts`, which are
//! digests of public certificates, and `prepared`; of `reads`, `routes`, `networks` and `credentials` the entries about
//! itself; never `meshConfig`, whose text names others. Whoever signs with a key that several peers publish, an engine that
//! reads for all of them, sees what concerns each of them, and which of them are told that their links leave. What the relay read
//! of peers, `peersSeen`, is for the cluster's own engine alone.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::roles::exporter::gathered::{CollectedEvidence, Gathered};
use crate::roles::exporter::reasons::{DocumentError, EvidenceError};
use crate::roles::verdicts::ShownTokens;
use crate::server::limits::{Buckets, Rate, client_address};
use crate::server::{Asker, Body, Handler, whole};
use crate::types::certificate::CertificateError;
use crate::types::key::KeyId;
use crate::types::name::{ClusterUuid, Digest};
use crate::types::time::Timestamp;
use crate::types::token::{Expectation, MAX_METADATA_LIFETIME, Rejected, Scope, verify};
use crate::wire::metadata::{
    AuthnKey, Evidence, FEDERATION_PATH, LiveRoute, PRIVATE_PATH, PUBLIC_PATH, PrivateDocument, PublicDocument,
    Reported, federation_json,
};
use crate::wire::peers::{PeerEntry, PeersFile};
use crate::wire::spiffe::bundle;

/// Path of the SPIFFE bundle below the prefix.
pub(super) const BUNDLE_PATH: &str = "public/spiffe-bundle-endpoint";
/// Seconds after which to ask again for what is not known yet.
const RETRY: HeaderValue = HeaderValue::from_static("5");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What a cluster publishes at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// UID of `kube-system`, the audience of tokens; while it is unknown no private document is given.
    pub cluster_uuid: Option<ClusterUuid>,
    /// The public document, or why it is not complete.
    pub public: Result<PublicDocument, DocumentError>,
    /// The private document, or why it is not complete. Its evidence comes from [`evidence`](Self::evidence).
    pub private: Result<PrivateDocument, DocumentError>,
    pub evidence: Gathered,
    /// Who may read, or why that is not known; until then no one is judged.
    pub peers: Result<PeersFile, DocumentError>,
    /// Rises with each change of the root CAs.
    pub sequence: u64,
}

/// When a request is answered, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time of day, by which tokens are judged.
    pub time: Timestamp,
    /// The monotonic time, by which ages are judged.
    pub instant: Instant,
}

/// How a request for a private document was judged: an extension of its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// In whose name was asked; only of tokens that verified.
    pub subject: Option<String>,
    /// The key id of such a token.
    pub key: Option<String>,
    /// When such a token ends.
    pub expires: Option<Timestamp>,
    /// Why the token was refused.
    pub rejected: Option<Rejected>,
}

/// Whose evidence is wanted.
enum EvidenceReader<'a> {
    Own,
    Peers(Vec<&'a PeerEntry>),
}

/// What is published, and what everyone may read of it as it is sent: peers ask each minute for what has not changed.
#[derive(Debug)]
pub struct PublishedAnswers {
    published: Arc<Published>,
    public: OnceLock<TaggedDocument>,
    bundle: OnceLock<Result<TaggedDocument, CertificateError>>,
}

impl From<Published> for PublishedAnswers {
    fn from(published: Published) -> Self {
        Self { published: Arc::new(published), public: OnceLock::new(), bundle: OnceLock::new() }
    }
}

impl PublishedAnswers {
    /// Answers a request, from its head alone. `prefix` is empty or begins with a slash.
    pub fn respond(&self, prefix: &str, request: &Parts, now: Moment) -> Response<Bytes> {
        let path = request.uri.path();
        let document = path.strip_prefix(prefix).and_then(|path| path.strip_prefix('/'));
        let answer: fn(&Self, &Parts, Moment) -> Response<Bytes> = match (path, document) {
            ("/healthz", _) => |_, _, _| text(StatusCode::OK, "ok"),
            ("/readyz", _) => |answers, _, _| ready(&answers.published),
            (_, Some(PUBLIC_PATH)) => |answers, request, _| answers.public(request),
            (_, Some(BUNDLE_PATH)) => |answers, request, _| answers.bundle(request),
            (_, Some(PRIVATE_PATH)) => |answers, request, now| private(&answers.published, request, now),
            (_, Some(FEDERATION_PATH)) => |answers, request, now| federation(&answers.published, request, now),
            _ => |_, _, _| text(StatusCode::NOT_FOUND, "not found"),
        };
        let mut response = if request.method == Method::GET || request.method == Method::HEAD {
            answer(self, request, now)
        } else {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        };
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if response.status() != StatusCode::NOT_MODIFIED {
            let length = HeaderValue::from(response.body().len());
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
        if request.method == Method::HEAD {
            *response.body_mut() = Bytes::new();
        }
        response
    }

    fn public(&self, request: &Parts) -> Response<Bytes> {
        match &self.published.public {
            Ok(document) => self.public.get_or_init(|| TaggedDocument::of(document.to_json())).answer(request),
            Err(reason) => incomplete(reason),
        }
    }

    fn bundle(&self, request: &Parts) -> Response<Bytes> {
        let document = match &self.published.public {
            Ok(document) => document,
            Err(reason) => return incomplete(reason),
        };
        let written = || bundle(&document.root_ca, self.published.sequence).map(TaggedDocument::of);
        match self.bundle.get_or_init(written) {
            Ok(bundle) => bundle.answer(request),
            Err(error) => incomplete(error),
        }
    }
}

fn text(status: StatusCode, message: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{message}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// 503: not known yet. Everyone may ask, so the answer does not say what is missing; the log and the probes' port do.
fn incomplete(reason: impl Display) -> Response<Bytes> {
    tracing::debug!(%reason, "a document is not complete");
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "not ready");
    response.headers_mut().insert(RETRY_AFTER, RETRY);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn ready(published: &Published) -> Response<Bytes> {
    match (&published.public, &published.private, &published.cluster_uuid) {
        (Ok(_), Ok(_), Some(_)) if published.evidence == Gathered::NotYet => incomplete(DocumentError::FirstCollection),
        (Ok(_), Ok(_), Some(_)) => text(StatusCode::OK, "ready"),
        (Err(_), ..) => incomplete("the public document is not complete"),
        _ => incomplete("the private document is not complete"),
    }
}

/// A document with its ETag (RFC 9110, section 8.8.3).
#[derive(Debug)]
struct TaggedDocument {
    json: Bytes,
    tag: String,
}

impl TaggedDocument {
    fn of(json: String) -> Self {
        let tag = format!("\"{}\"", Digest::of(json.as_bytes()).short(32));
        Self { json: json.into(), tag }
    }

    /// It, or 304.
    fn answer(&self, request: &Parts) -> Response<Bytes> {
        let known = request.headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(',')).map(|value| value.trim().trim_start_matches("W/"));
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            headers.insert(ETAG, tag);
        }
        if known.any(|value| value == self.tag || value == "*") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(CONTENT_TYPE, JSON);
            *response.body_mut() = self.json.clone();
        }
        response
    }
}

fn private(published: &Published, request: &Parts, now: Moment) -> Response<Bytes> {
    let Some(own) = &published.cluster_uuid else { return incomplete("the cluster's UUID is not known yet") };
    let peers = match &published.peers {
        Ok(peers) => peers,
        Err(reason) => return incomplete(reason),
    };
    let (reader, audit) = match admit(peers, own, Scope::PrivateMulticluster, &request.headers, now.time) {
        Ok(admitted) => admitted,
        Err(rejected) => return unauthorized(rejected),
    };
    // the own engine is shown it, too: where an agent acts, its checkout follows
    let leaving = || -> BTreeSet<_> {
        let named = |peer: &PeerEntry| peer.leaving.is_some().then(|| peer.cluster_uuid.clone());
        match &reader {
            EvidenceReader::Own => peers.peers.iter().filter_map(named).collect(),
            EvidenceReader::Peers(readers) => readers.iter().copied().filter_map(named).collect(),
        }
    };
    let with = |document: &PrivateDocument, evidence, peers_seen| {
        let document = PrivateDocument { evidence, peers_seen, leaving: leaving(), ..document.clone() };
        TaggedDocument::of(document.to_json()).answer(request)
    };
    let mut response = match (&published.private, &published.evidence) {
        (Err(reason), _) => incomplete(reason),
        (Ok(_), Gathered::NotYet) => incomplete(DocumentError::FirstCollection),
        (Ok(document), Gathered::Nothing) => with(document, None, Vec::new()),
        (Ok(document), Gathered::Collected(collected)) => {
            let peers_seen = match &reader {
                EvidenceReader::Own => collected.peers_seen_at(now.instant),
                EvidenceReader::Peers(_) => Vec::new(),
            };
            with(document, Some(visible(collected, &reader, now.instant)), peers_seen)
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(audit);
    response
}

/// What a Deckhouse asks for that declares this cluster by an `IstioFederation`: a document that is valid, and shares nothing.
fn federation(published: &Published, request: &Parts, now: Moment) -> Response<Bytes> {
    let Some(own) = &published.cluster_uuid else { return incomplete("the cluster's UUID is not known yet") };
    let peers = match &published.peers {
        Ok(peers) => peers,
        Err(reason) => return incomplete(reason),
    };
    let audit = match admit(peers, own, Scope::PrivateFederation, &request.headers, now.time) {
        Ok((_, audit)) => audit,
        Err(rejected) => return unauthorized(rejected),
    };
    let mut response = match &published.private {
        Ok(document) => TaggedDocument::of(federation_json(&document.ingress_gateways)).answer(request),
        Err(reason) => incomplete(reason),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(audit);
    response
}

/// The same answer whatever is wrong with a token; the reason is for the record alone.
fn unauthorized(rejected: Rejected) -> Response<Bytes> {
    let mut response = text(StatusCode::UNAUTHORIZED, "unauthorized");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(Audit { subject: None, key: None, expires: None, rejected: Some(rejected) });
    response
}

/// The values of `Authorization`.
fn authorization(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(AUTHORIZATION).iter().map(|value| value.to_str().unwrap_or_default()).collect()
}

/// Who asks, when the token admits it for this scope. Whoever may read private metadata may read both documents.
fn admit<'a>(
    peers: &'a PeersFile,
    own: &ClusterUuid,
    scope: Scope,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<(EvidenceReader<'a>, Audit), Rejected> {
    const SCOPE: Scope = Scope::PrivateMulticluster;
    let expected = Expectation { audience: own.as_str(), scope, now, max_lifetime: MAX_METADATA_LIFETIME };
    let peer_of = |subject: &str| subject.parse().ok().and_then(|uuid: ClusterUuid| peers.peer(&uuid));
    let keys = |subject: &str, kid: Option<&str>| {
        let named = |key: &&AuthnKey| kid == Some(key.id.as_str()) && key.scopes.contains(&SCOPE);
        let keys: Vec<&AuthnKey> = match kid {
            _ if subject == own.as_str() => peers.own.keys.iter().filter(named).collect(),
            Some(_) => peer_of(subject).into_iter().flat_map(|peer| &peer.keys).filter(named).collect(),
            // without a key id only the peer's own key signs, which is first
            None => {
                let first = peer_of(subject).and_then(|peer| peer.keys.first());
                first.into_iter().filter(|key| key.scopes.contains(&SCOPE)).collect()
            }
        };
        keys.into_iter().map(|key| key.pem.clone()).collect()
    };
    let verified = verify(&authorization(headers), &expected, &keys)?;
    let (subject, expires) = (verified.claims.sub, Some(verified.claims.exp));
    let reader = if subject == own.as_str() {
        EvidenceReader::Own
    } else {
        let asking = peer_of(&subject);
        let id: Option<KeyId> = verified.kid.as_ref().and_then(|kid| kid.parse().ok());
        let mut readers = id.map(|id| peers.publishers_of(&id, &verified.key, SCOPE)).unwrap_or_default();
        readers.retain(|peer| peer.cluster_uuid.as_str() != subject);
        readers.extend(asking);
        EvidenceReader::Peers(readers)
    };
    Ok((reader, Audit { subject: Some(subject), key: verified.kid, expires, rejected: None }))
}

/// The part of the evidence that a reader may see.
fn visible(collected: &CollectedEvidence, reader: &EvidenceReader<'_>, now: Instant) -> Evidence {
    let evidence = collected.evidence_at(now);
    let EvidenceReader::Peers(readers) = reader else { return evidence };
    let related = collected.relations_at(now).and_then(|relations| {
        let related = readers.iter().map(|peer| relations.get(&peer.cluster_uuid)).collect::<Option<Vec<_>>>();
        related.ok_or(EvidenceError::ReaderNotKnown)
    });
    let ids = related.as_ref().map(|related| related.iter().map(|one| &one.cluster_id).collect::<BTreeSet<_>>());
    let networks = related.as_ref().map_err(Clone::clone).and_then(|related| {
        let networks = related.iter().map(|one| one.network.as_ref()).collect::<Option<BTreeSet<_>>>();
        networks.ok_or(EvidenceError::ReaderNotKnown)
    });
    let uuids: BTreeSet<&ClusterUuid> = readers.iter().map(|peer| &peer.cluster_uuid).collect();
    Evidence {
        networks: about(evidence.networks, networks.as_ref(), |network| &network.name),
        reads: about(evidence.reads, ids.as_ref().map_err(|error| *error), |read| &read.cluster_id),
        routes: without_reasons(about(evidence.routes, ids.as_ref().map_err(|error| *error), |route| {
            &route.cluster_id
        })),
        credentials: about(evidence.credentials, Ok(&uuids), |used| &used.cluster_uuid),
        mesh_config: Reported::Unknown(EvidenceError::OwnEngineAlone.to_string()),
        serial: Reported::Unknown(EvidenceError::OwnEngineAlone.to_string()),
        writer: None,
        hand_over: None,
        trusts: evidence.trusts,
        prepared: evidence.prepared,
        relay_token: Reported::Unknown(EvidenceError::OwnEngineAlone.to_string()),
    }
}

/// Routes with whether they work, and not why: what a connection from inside met is for the own engine alone.
fn without_reasons(routes: Reported<Vec<LiveRoute>>) -> Reported<Vec<LiveRoute>> {
    match routes {
        Reported::Seen(routes) => {
            Reported::Seen(routes.into_iter().map(|route| LiveRoute { reason: None, ..route }).collect())
        }
        unknown @ Reported::Unknown(_) => unknown,
    }
}

/// Entries about the readers. Where it is not known how evidence names a reader, an empty list would claim that nothing
/// about it is live, so nothing is published at all.
fn about<T, N: Ord>(
    shown: Reported<Vec<T>>,
    names: Result<&BTreeSet<&N>, &EvidenceError>,
    name_of: impl Fn(&T) -> &N,
) -> Reported<Vec<T>> {
    match (shown, names) {
        (Reported::Unknown(reason), _) => Reported::Unknown(reason),
        (Reported::Seen(_), Err(reason)) => Reported::Unknown(reason.to_string()),
        (Reported::Seen(list), Ok(names)) => {
            Reported::Seen(list.into_iter().filter(|entry| names.contains(name_of(entry))).collect())
        }
    }
}

/// The role: answers from the newest [`Published`].
pub struct Exporter {
    prefix: String,
    answers: RwLock<Arc<PublishedAnswers>>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    rates: Option<Rates>,
    /// Tokens whose document was given.
    shown: ShownTokens,
    heard: Box<Listener>,
}

/// Requests a second, by who asks.
struct Rates {
    addresses: Buckets<IpAddr>,
    all: Buckets<()>,
    peers: Buckets<String>,
}

/// A request and how it was answered.
#[derive(Debug)]
pub struct AnsweredRequest<'a> {
    /// Who asked.
    pub from: SocketAddr,
    /// Which document: `public`, `bundle`, `private`, `federation`, or `other`.
    pub what: &'static str,
    pub status: StatusCode,
    /// How a token was judged.
    pub audit: Option<&'a Audit>,
}

/// Hears of each answer.
type Listener = dyn Fn(&AnsweredRequest<'_>) + Send + Sync;

impl Exporter {
    /// An exporter below a path prefix. `clock` gives the time.
    pub fn new(prefix: &str, published: Published, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
            answers: RwLock::new(Arc::new(published.into())),
            clock: Box::new(clock),
            rates: None,
            shown: ShownTokens::default(),
            heard: Box::new(|_| {}),
        }
    }

    /// The same with a listener for each answer.
    #[must_use]
    pub fn with_listener(self, heard: impl Fn(&AnsweredRequest<'_>) + Send + Sync + 'static) -> Self {
        Self { heard: Box::new(heard), ..self }
    }

    /// The same with limits of requests: of each address and of all together before a token is looked at, then of whoever the
    /// token is of.
    #[must_use]
    pub fn with_rates(self, address: Rate, all: Rate, peer: Rate) -> Self {
        let (addresses, all, peers) = (Buckets::new(address), Buckets::new(all), Buckets::new(peer));
        Self { rates: Some(Rates { addresses, all, peers }), ..self }
    }

    /// Changes what is published from now on; says whether that was a change.
    pub fn change(&self, change: impl FnOnce(&mut Published)) -> bool {
        let mut current = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Published::clone(&current.published);
        change(&mut next);
        let differs = *current.published != next;
        if differs {
            *current = Arc::new(next.into());
        }
        differs
    }

    /// What is published now; later changes do not reach the value.
    pub fn published(&self) -> Arc<Published> {
        self.answers().published.clone()
    }

    fn answers(&self) -> Arc<PublishedAnswers> {
        self.answers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which document a path is of.
    fn what(&self, path: &str) -> &'static str {
        match path.strip_prefix(&self.prefix).and_then(|path| path.strip_prefix('/')) {
            Some(PUBLIC_PATH) => "public",
            Some(BUNDLE_PATH) => "bundle",
            Some(PRIVATE_PATH) => "private",
            Some(FEDERATION_PATH) => "federation",
            _ => "other",
        }
    }

    /// Who asks for the private document: no one that is known while it is not known who may, and an error for a token that is
    /// refused.
    fn sender(&self, scope: Scope, headers: &HeaderMap) -> Result<Option<ClusterUuid>, Rejected> {
        let published = self.published();
        let (Some(own), Ok(peers)) = (&published.cluster_uuid, &published.peers) else { return Ok(None) };
        let (_, audit) = admit(peers, own, scope, headers, (self.clock)())?;
        if self.shown.has(&authorization(headers)) {
            return Err(Rejected::Replayed);
        }
        Ok(audit.subject.and_then(|subject| subject.parse().ok()))
    }

    fn answer(&self, head: &Parts) -> Response<Bytes> {
        // the time after what is published, or something learned in between would have no age yet
        let answers = self.answers();
        let now = Moment { time: (self.clock)(), instant: Instant::now() };
        let response = answers.respond(&self.prefix, head, now);
        let Some(audit) = response.extensions().get::<Audit>() else { return response };
        let (Some(subject), Some(expires)) = (&audit.subject, audit.expires) else { return response };
        if let Some(Err(wait)) = self.rates.as_ref().map(|rates| rates.peers.take(subject.clone(), Instant::now())) {
            return too_many(wait);
        }
        // what was not given may be asked for again
        if !response.status().is_success() && response.status() != StatusCode::NOT_MODIFIED {
            return response;
        }
        match self.shown.once(&authorization(&head.headers), expires, now.time) {
            Ok(()) => response,
            Err(rejected) => unauthorized(rejected),
        }
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn too_many(wait: Duration) -> Response<Bytes> {
    let mut response = text(StatusCode::TOO_MANY_REQUESTS, "too many requests");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Handler for Exporter {
    type Error = Infallible;

    fn admit(&self, request: &mut Request<Incoming>, from: SocketAddr) -> Asker {
        let what = self.what(request.uri().path());
        let refused = |response: Response<Bytes>| {
            let audit = response.extensions().get::<Audit>();
            (self.heard)(&AnsweredRequest { from, what, status: response.status(), audit });
            Asker::Refused(response.map(whole))
        };
        // probes of a load balancer come as often as they come
        let is_probe = matches!(request.uri().path(), "/healthz" | "/readyz");
        if let Some(rates) = self.rates.as_ref().filter(|_| !is_probe) {
            let now = Instant::now();
            let taken = rates.addresses.take(client_address(from.ip()), now).and_then(|()| rates.all.take((), now));
            if let Err(wait) = taken {
                return refused(too_many(wait));
            }
        }
        let scope = match what {
            "private" => Scope::PrivateMulticluster,
            "federation" => Scope::PrivateFederation,
            _ => return Asker::Stranger,
        };
        match self.sender(scope, request.headers()) {
            Ok(Some(peer)) => Asker::Peer(peer),
            Ok(None) => Asker::Stranger,
            Err(rejected) => refused(unauthorized(rejected)),
        }
    }

    fn refused(&self, from: SocketAddr, status: StatusCode) {
        (self.heard)(&AnsweredRequest { from, what: "other", status, audit: None });
    }

    async fn handle(&self, request: Request<Incoming>, from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let (head, _body) = request.into_parts();
        let response = self.answer(&head);
        let audit = response.extensions().get::<Audit>();
        (self.heard)(&AnsweredRequest { from, what: self.what(head.uri.path()), status: response.status(), audit });
        Ok(response.map(whole))
    }

    fn problem(&self, from: SocketAddr, problem: &(dyn std::error::Error + 'static)) {
        tracing::debug!(%from, problem, "a connection ended in an error");
    }
}
