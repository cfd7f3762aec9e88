//! One request: `/to/<cluster ID>/…` of istiod becomes `/…` of the peer's api-proxy, with a token of this cluster.
//!
//! What may be asked is in the [table](crate::roles::api::table) by which an api-proxy answers: a peer may run another one,
//! which answers more. Secrets and gateways are asked of no peer. For the same reason an answer goes through the
//! [projection](crate::roles::api::projection) here, too: whatever a peer sends, its readers' traffic goes to the gateways that
//! were reviewed.
//!
//! A list that a peer refuses although istiod waits for it (an older api-proxy's 403 on mesh configuration, gateways and the
//! like) is answered empty here. A 404 is passed on: it says that a CRD is not served yet, and istiod asks again.
//!
//! While a peer is away, a list or a watch waits here for it, for as long as it may last, and is sent again each second. A
//! refusal would cost more: each one makes istiod wait longer before it asks again, up to 30 s (k8s.io/client-go
//! `tools/cache/reflector.go`). After a 504, which a request waited for, the next one waits twice as long. Nothing else is sent twice.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};

use crate::roles::api::headers::{self, Accept, is_json};
use crate::roles::api::projection::{AnswerForm, Visible};
use crate::roles::api::request::{ApiRequest, Verb};
use crate::roles::api::status::{Refused, expired, idling};
use crate::roles::api::synthetic::{Synthetic, SyntheticResponse};
use crate::roles::api::table::{Denied, TableEntry};
use crate::roles::relay::admit::{NotAdmitted, ShownToken, TokenReviewer};
use crate::roles::relay::peers::{Peers, RelayPeer, ResponseLabels, Unreached};
use crate::roles::relay::refusal::RelayRefusal;
use crate::roles::role::Stopping;
use crate::roles::watches::WatchPlace;
use crate::server::limits::{Buckets, RoleLimits, client_address};
use crate::server::stream::{AsIs, Bounds, Ends, Framing, StreamEnd, pass};
use crate::server::upstream::{Awaited, UpstreamError};
use crate::server::{Asker, Body, Introduction, Reader, nothing, whole};

/// How often a peer that is away is asked again, at first and at the least.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a stream that is due gets to end its last event.
const GRACE: Duration = Duration::from_secs(10);

/// Takes requests to peers.
pub(super) struct Forwarder {
    pub(super) peers: Arc<Peers>,
    pub(super) reviewer: Option<TokenReviewer>,
    pub(super) limits: RoleLimits,
    pub(super) stopping: Stopping,
    pub(super) streams: AtomicU64,
    pub(super) of_address: Buckets<IpAddr>,
    pub(super) of_all: Buckets<()>,
}

/// What is asked of a peer.
struct PeerRequest {
    peer: Arc<RelayPeer>,
    api: ApiRequest,
    /// The request asks for the answer's head alone.
    head_only: bool,
    answer: PeerAnswer,
    headers: HeaderMap,
    place: Option<WatchPlace<u64>>,
    reader: Reader,
}

/// Whence an answer comes.
enum PeerAnswer {
    /// The peer's, as it is: the answer to `/api`, and a mesh configuration.
    AsIs,
    /// What is taken of the peer's.
    Projected(Visible),
    /// No peer is asked.
    Synthetic(Synthetic),
    /// The client has what it would not be given now, and lists again.
    Expired,
}

impl Forwarder {
    pub(super) async fn answer(&self, mut head: Parts, reader: Reader) -> Response<Body> {
        let mut known = String::new();
        let outcome = match self.judge(&mut head, reader, &mut known).await {
            Ok(asked) => {
                drop(head);
                self.forward(asked).await
            }
            Err(refusal) => Err(refusal),
        };
        let response = outcome.unwrap_or_else(|refusal| {
            let answer = refusal.answer();
            tracing::debug!(peer = known, status = answer.status.as_u16(), reason = %answer.message, "not answered");
            answer.response()
        });
        self.count(known, response.status());
        response
    }

    /// Says who sends a request, from its head alone. Whoever has shown no token that is known asks as often as its address may.
    pub(super) fn sender(&self, request: &mut Request<Incoming>, from: SocketAddr) -> Asker {
        let refused = |refusal: RelayRefusal| {
            let answer = refusal.answer();
            self.count(String::new(), answer.status);
            Asker::Refused(answer.response())
        };
        let token = self.reviewer.as_ref().map(|reviewer| {
            let token = ShownToken::of(request.headers());
            let known = token.as_ref().ok().and_then(|token| reviewer.known(token));
            (token, known)
        });
        if let Some((_, Some(true))) = token {
            return Asker::Anyone;
        }
        let now = std::time::Instant::now();
        let room = self.of_address.take(client_address(from.ip()), now).and_then(|()| self.of_all.take((), now));
        if let Err(wait) = room {
            return refused(RelayRefusal::Limited { wait });
        }
        match token {
            None => Asker::Anyone,
            Some((Err(not), _)) => refused(not.into()),
            Some((Ok(_), Some(_))) => refused(NotAdmitted::Refused.into()),
            Some((Ok(token), None)) => {
                request.extensions_mut().insert(token);
                Asker::Stranger
            }
        }
    }

    /// Counts an answer.
    pub(super) fn count(&self, cluster_id: String, status: StatusCode) {
        self.peers.counts.requests.get_or_create(&ResponseLabels { cluster_id, code: status.as_u16() }).inc();
    }

    async fn judge(&self, head: &mut Parts, reader: Reader, known: &mut String) -> Result<PeerRequest, RelayRefusal> {
        if let (Some(reviewer), Some(token)) = (&self.reviewer, head.extensions.remove::<ShownToken>()) {
            reviewer.admit(&token).await.inspect_err(|not| {
                if let NotAdmitted::Unknown(problem) = not {
                    tracing::warn!(problem = problem.to_string(), "cannot judge a token");
                }
            })?;
            if let Some(introduction) = head.extensions.remove::<Introduction>() {
                introduction.is_known();
            }
        }
        let path = head.uri.path();
        let target = path.strip_prefix("/to/").and_then(|rest| rest.split_once('/').map(|(id, _)| id));
        let id = target.ok_or(RelayRefusal::NoTarget)?;
        let peer = self.peers.get(id).ok_or(RelayRefusal::NoRoute)?;
        peer.route.cluster_id.as_str().clone_into(known);

        let path = path.get("/to/".len() + id.len()..).unwrap_or_default();
        let api = ApiRequest::parse(&head.method, path, head.uri.query(), self.limits.path)?;
        let head_only = head.method == Method::HEAD;
        if head_only && api.verb == Verb::Watch {
            return Err(RelayRefusal::HeadOfWatch);
        }
        let (api, answer) = of_peer(api, &peer)?;
        let mut incoming = head.headers.clone();
        incoming.remove(AUTHORIZATION);
        let accept = if matches!(answer, PeerAnswer::Projected(_)) { Accept::Json } else { Accept::AsAsked };
        let headers = headers::upstream(&incoming, accept)?;
        let place = match api.verb {
            Verb::Watch => Some(self.peers.place(&peer).ok_or(RelayRefusal::Full)?),
            Verb::Get | Verb::List => None,
        };
        Ok(PeerRequest { peer, api, head_only, answer, headers, place, reader })
    }

    /// Sends a request, and a list or a watch again while the peer is away.
    async fn reach(&self, asked: &PeerRequest) -> Result<Response<Body>, RelayRefusal> {
        let waits = match asked.api.verb {
            Verb::Watch => self.lasts(&asked.api),
            Verb::List => self.limits.list,
            Verb::Get => Duration::ZERO,
        };
        let until = Instant::now() + waits;
        let mut pause = AGAIN.0;
        loop {
            let outcome = self.send(asked).await;
            if !is_away(&outcome) || Instant::now() + pause > until {
                return outcome;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = asked.peer.gone() => return outcome,
                () = self.stopping.requested() => return outcome,
            }
            let is_late = outcome.is_ok_and(|answer| answer.status() == StatusCode::GATEWAY_TIMEOUT);
            pause = if is_late { (pause * 2).min(AGAIN.1) } else { AGAIN.0 };
        }
    }

    /// How long a watch may last.
    fn lasts(&self, api: &ApiRequest) -> Duration {
        api.query.timeout_seconds.map_or(self.limits.watch, Duration::from_secs).min(self.limits.watch)
    }

    async fn send(&self, asked: &PeerRequest) -> Result<Response<Body>, RelayRefusal> {
        let id = &asked.peer.route.cluster_id;
        let cluster = || id.clone();
        let not_reached = |source| RelayRefusal::NotReached { cluster: cluster(), source };
        let upstream = asked.peer.upstream.as_ref().map_err(|reason| not_reached(reason.clone()))?;
        let authorization = self.peers.authorization(&asked.peer);
        let authorization = authorization.map_err(|_| RelayRefusal::NoKey { cluster: cluster() })?;
        let method = if asked.head_only { Method::HEAD } else { Method::GET };
        let request = Request::builder().method(method).uri(asked.api.path_and_query(self.limits.watch.as_secs()));
        let request = request.body(nothing());
        let mut request = request.map_err(|source| RelayRefusal::Unwritable { cluster: cluster(), source })?;
        request.headers_mut().clone_from(&asked.headers);
        request.headers_mut().insert(AUTHORIZATION, authorization);
        let patience = if asked.api.verb == Verb::List { self.limits.list } else { self.limits.request };
        upstream.send(request, patience).await.map_err(|error| {
            tracing::debug!(peer = %id, problem = %error, "no answer");
            if error == UpstreamError::Timeout(Awaited::Answer) {
                RelayRefusal::Late { cluster: cluster() }
            } else {
                not_reached(Unreached::Upstream(error))
            }
        })
    }

    async fn forward(&self, asked: PeerRequest) -> Result<Response<Body>, RelayRefusal> {
        match &asked.answer {
            PeerAnswer::Synthetic(synthetic) => {
                let answer = synthetic.answer(&asked.api);
                return Ok(self.made_here(asked, answer));
            }
            PeerAnswer::Expired => return Ok(self.expired(asked)),
            PeerAnswer::AsIs | PeerAnswer::Projected(_) => {}
        }
        let response = self.reach(&asked).await?;
        let id = &asked.peer.route.cluster_id;
        let status = response.status();
        // no one follows a peer to another place with istiod's requests
        if status.is_informational() || (status.is_redirection() && status != StatusCode::NOT_MODIFIED) {
            return Err(RelayRefusal::Redirected { cluster: id.clone(), status });
        }
        if status == StatusCode::UNAUTHORIZED {
            asked.peer.forget_token();
        }
        if status == StatusCode::FORBIDDEN
            && let Some(synthetic) = Synthetic::for_refused(&asked.api)
        {
            tracing::debug!(peer = %id, asked = ?asked.api.target, "refused; answered empty");
            let answer = synthetic.answer(&asked.api);
            return Ok(self.made_here(asked, answer));
        }
        if matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
            && asked.api.query.names_marked_version()
        {
            // the peer went back to an api-proxy that knows no marks: istiod would ask for the same for ever
            return Ok(self.expired(asked));
        }
        let (head, body) = response.into_parts();
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers::answer(&head.headers);
        let is_projected = head.status == StatusCode::OK && matches!(asked.answer, PeerAnswer::Projected(_));
        if is_projected && !is_json(response.headers()) {
            return Err(RelayRefusal::NotJson { cluster: id.clone() });
        }
        Ok(self.bound(response, asked, None))
    }

    /// Tells a client to list again: as an event of a watch, which every client takes for what it is.
    fn expired(&self, asked: PeerRequest) -> Response<Body> {
        let response = if asked.api.verb == Verb::Watch {
            let mut response = Response::new(whole(expired()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        } else {
            Refused::new(StatusCode::GONE, "the peer does not know this version; list it again").response()
        };
        let asked = PeerRequest { answer: PeerAnswer::Expired, ..asked };
        self.bound(response, asked, None)
    }

    /// An answer that is none of the peer's.
    fn made_here(&self, asked: PeerRequest, answer: SyntheticResponse) -> Response<Body> {
        let idles = answer.idles.then(|| self.lasts(&asked.api));
        let body = if answer.idles { idling(answer.body) } else { whole(answer.body) };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let asked = PeerRequest { answer: PeerAnswer::AsIs, ..asked };
        self.bound(response, asked, idles)
    }

    /// Gives an answer's body its bounds.
    fn bound(&self, response: Response<Body>, asked: PeerRequest, lasts: Option<Duration>) -> Response<Body> {
        let watch = asked.api.verb == Verb::Watch && response.status() == StatusCode::OK;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let framing = if watch { Framing::of_watch(kind) } else { Framing::Whole };
        let lasts = lasts.unwrap_or(if watch { self.limits.watch } else { self.limits.list });
        let grace = if watch { GRACE } else { Duration::ZERO };
        let rate = (!watch).then_some(self.limits.list_rate as u64);
        let bounds = Bounds { until: Instant::now() + lasts + grace, rate, framing, reader: asked.reader };
        // watches that end together come back together, so they end one after the other
        let place = self.streams.fetch_add(1, Ordering::Relaxed) % 16;
        let spread = self.limits.drain * u32::try_from(place).unwrap_or(0) / 20;
        let (stopping, gone) = (self.stopping.clone(), asked.peer.gone());
        let due = async move {
            tokio::select! {
                () = sleep(lasts), if watch => {}
                () = gone => {}
                () = async { stopping.requested().await; sleep(spread).await } => {}
            }
            Bytes::new()
        };
        let projection = match &asked.answer {
            PeerAnswer::Projected(shown) if response.status() == StatusCode::OK && !asked.head_only => {
                Some(shown.projection(AnswerForm::of(asked.api.verb)).within(&asked.peer.held))
            }
            PeerAnswer::Projected(_) | PeerAnswer::AsIs | PeerAnswer::Synthetic(_) | PeerAnswer::Expired => None,
        };
        let (peer, place) = (asked.peer.route.cluster_id.clone(), asked.place);
        let ended = move |outcome: crate::server::stream::StreamOutcome| {
            drop(place);
            match outcome.ended {
                StreamEnd::Stalled | StreamEnd::Broken(_) => {
                    tracing::info!(%peer, watch, ended = ?outcome.ended, bytes = outcome.bytes, "a stream broke off");
                }
                StreamEnd::Whole | StreamEnd::Due | StreamEnd::Left | StreamEnd::Revoked => {
                    tracing::debug!(%peer, watch, ended = ?outcome.ended, bytes = outcome.bytes, "a stream ended");
                }
            }
        };
        let ends = Ends { due, revoked: std::future::pending(), is_revoked: Box::new(|| false) };
        response.map(|body| match projection {
            Some(projection) => pass(body, projection, bounds, ends, ended),
            None => pass(body, AsIs, bounds, ends, ended),
        })
    }
}

/// The request as it is sent to a peer, and what is taken of the answer.
fn of_peer(api: ApiRequest, peer: &RelayPeer) -> Result<(ApiRequest, PeerAnswer), RelayRefusal> {
    let mut shown = match TableEntry::of(&api)? {
        TableEntry::ApiVersions | TableEntry::MeshConfig { .. } => return Ok((api, PeerAnswer::AsIs)),
        TableEntry::Secrets(resource) => {
            let synthetic = Synthetic::empty_list(resource);
            return Ok((api, PeerAnswer::Synthetic(synthetic)));
        }
        TableEntry::Shared(resource, _) => {
            match Visible::of_peer(&resource.group, &resource.resource, peer.route.network.as_ref()) {
                Some(shown) => shown,
                None if api.verb == Verb::Get => return Err(Denied::Resource.into()),
                None => {
                    let synthetic = Synthetic::empty_list(resource);
                    return Ok((api, PeerAnswer::Synthetic(synthetic)));
                }
            }
        }
    };
    Ok(match shown.resumed(&api) {
        Some(api) => (api, PeerAnswer::Projected(shown)),
        None => (api, PeerAnswer::Expired),
    })
}

/// Whether a peer is away: it is not reached, or whatever is in front of it answers that.
fn is_away(outcome: &Result<Response<Body>, RelayRefusal>) -> bool {
    match outcome {
        Ok(response) => matches!(
            response.status(),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        ),
        Err(RelayRefusal::NotReached { source: Unreached::Upstream(error), .. }) => error.may_pass(),
        Err(_) => false,
    }
}
