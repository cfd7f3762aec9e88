//! Answering what was admitted: made here, or by the apiserver as the peer's own user; and bounding the body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Limited};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::roles::api::headers::{self, is_json, is_protobuf};
use crate::roles::api::projection::{self, AnswerForm};
use crate::roles::api::request::{self, ApiRequest};
use crate::roles::api::status::{Refused, expired, idling};
use crate::roles::proxy::audit::AuditRecord;
use crate::roles::proxy::credential::ProxyCredential;
use crate::roles::proxy::judge::AdmittedRequest;
use crate::roles::proxy::listed::listed_watch;
use crate::roles::proxy::peers::Admission;
use crate::roles::proxy::policy::{Admitted, Forward};
use crate::roles::proxy::refusal::ProxyRefusal;
use crate::roles::proxy::state::Proxy;
use crate::roles::watches::PeerShare;
use crate::server::misread::Misread;
use crate::server::stream::{
    AsIs, Bounds, BreakOff, Ends, Framing, GatheredBody, StreamEnd, StreamOutcome, StreamTransform, gather,
    in_other_form, pass,
};
use crate::server::upstream::{Awaited, Upstream, UpstreamError};
use crate::server::{Body, nothing, whole};
use crate::types::key::PublicKey;
use crate::types::name::ClusterUuid;

/// Most bytes of an answer that says why there is none.
const MAX_STATUS: usize = 64 * 1024;
/// An answer up to this many bytes continues as a whole: its head says how long it is, and all of it is written at once.
const SMALL: usize = 64 * 1024;
/// After how long the apiserver is asked again to continue a watch.
const RETRY: Duration = Duration::from_secs(1);
/// How long the apiserver gets to end a watch by itself after its time.
const GRACE: Duration = Duration::from_secs(10);

/// The answer to a request that was admitted.
pub(super) enum ForwardedAnswer {
    Whole(Response<Body>),
    /// Its body is still to come, and not bounded yet. A list has a place until its end.
    Streams(Response<Body>, Option<PeerShare<ClusterUuid>>),
}

impl ForwardedAnswer {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Whole(response) | Self::Streams(response, _) => response.status(),
        }
    }
}

impl Proxy {
    pub(super) async fn answer(&self, asked: &AdmittedRequest) -> Result<ForwardedAnswer, ProxyRefusal> {
        match &asked.admitted {
            Admitted::Synthetic(synthetic) => {
                let answer = synthetic.answer(&asked.request);
                Ok(if answer.idles {
                    ForwardedAnswer::Streams(made_here(idling(answer.body)), None)
                } else {
                    ForwardedAnswer::Whole(made_here(whole(answer.body)))
                })
            }
            Admitted::Forward(forward) => self.forward(asked, forward).await,
            // as an event, which every client takes for what it is; some take a status for a failure to ask
            Admitted::Expired if asked.request.verb == request::Verb::Watch => {
                Ok(ForwardedAnswer::Streams(made_here(whole(expired())), None))
            }
            Admitted::Expired => Err(ProxyRefusal::Expired),
        }
    }

    async fn forward(&self, asked: &AdmittedRequest, forward: &Forward) -> Result<ForwardedAnswer, ProxyRefusal> {
        let method = if asked.head_only { Method::HEAD } else { Method::GET };
        let (upstream, patience) =
            if forward.list { (&self.lists_upstream, self.limits.list) } else { (&self.upstream, self.limits.request) };
        let mut asking = self.as_peer(asked, upstream);
        // of an answer that peers get no more than the head of, that is to be the head of JSON
        let protobuf = forward.protobuf.filter(|_| !asked.head_only);
        if protobuf.is_some() {
            headers::prefer_protobuf(&mut asking.headers);
        }
        let (head, body) = asking.send(method, &forward.path_and_query, patience).await?.into_parts();
        let mut answered = headers::answer(&head.headers);
        // what is not JSON yet
        let protobuf = protobuf.filter(|_| is_protobuf(&answered));
        let body = match (head.status, protobuf) {
            (StatusCode::OK, Some(_)) => {
                answered.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                body
            }
            (StatusCode::OK, None) if is_json(&answered) => body,
            (StatusCode::OK, None) => return Err(ProxyRefusal::NotJson),
            (StatusCode::NOT_MODIFIED, _) => nothing(),
            (status, _) => {
                let failed = failed(status, &answered, body, asked.head_only, self.limits.request).await;
                return Ok(ForwardedAnswer::Whole(failed));
            }
        };
        let with = |body| {
            let mut response = Response::new(body);
            *response.status_mut() = head.status;
            *response.headers_mut() = answered;
            response
        };
        if head.status != StatusCode::OK || asked.head_only {
            return Ok(ForwardedAnswer::Whole(with(nothing())));
        }
        if forward.watch {
            return Ok(ForwardedAnswer::Streams(with(body), None));
        }
        let gathered = timeout(patience, gather(body, SMALL)).await;
        match gathered.map_err(|_| UpstreamError::Timeout(Awaited::Answer))?? {
            // by what the apiserver sends, of which less may be left
            GatheredBody::Begun(body) => {
                let place = self.list_place(asked)?;
                let body = match protobuf {
                    Some(kind) => in_other_form(body, kind.list_as_json()),
                    None => body,
                };
                Ok(match &forward.continues {
                    Some(watch) => {
                        ForwardedAnswer::Streams(with(self.listed(asked, forward, (body, Some(place)), watch)), None)
                    }
                    None => ForwardedAnswer::Streams(with(body), Some(place)),
                })
            }
            GatheredBody::Whole(text) => {
                let text = match protobuf {
                    Some(kind) => whole_in_other_form(text, kind.list_as_json())?,
                    None => text,
                };
                if let Some(watch) = &forward.continues {
                    let body = self.listed(asked, forward, (whole(text), None), watch);
                    return Ok(ForwardedAnswer::Streams(with(body), None));
                }
                let form = if forward.list { AnswerForm::List } else { AnswerForm::Object };
                let text = whole_in_other_form(text, forward.shown.projection(form))?;
                Ok(ForwardedAnswer::Whole(with(whole(text))))
            }
        }
    }

    /// The body of a watch that begins with this list.
    fn listed(
        &self,
        asked: &AdmittedRequest,
        forward: &Forward,
        (list, place): (Body, Option<PeerShare<ClusterUuid>>),
        watch: &ApiRequest,
    ) -> Body {
        let asking = self.as_peer(asked, &self.upstream);
        let (patience, seconds, watch) = (self.limits.request, asked.seconds, watch.clone());
        let continued = move |version: String| async move {
            let path = watch.continued(version).path_and_query(seconds);
            let mut refusal = ProxyRefusal::NotJson;
            for wait in [Duration::ZERO, RETRY, 2 * RETRY] {
                sleep(wait).await;
                match asking.send(Method::GET, &path, patience).await {
                    Ok(answer) if answer.status() != StatusCode::OK => {
                        refusal = ProxyRefusal::OtherStatus(answer.status());
                    }
                    Ok(answer) if is_json(answer.headers()) => return Ok(answer.into_body()),
                    Ok(_) => refusal = ProxyRefusal::NotJson,
                    Err(error) => refusal = error,
                }
            }
            Err(refusal)
        };
        listed_watch(list, (place, Instant::now() + self.limits.list), &forward.shown, continued)
    }

    fn as_peer(&self, asked: &AdmittedRequest, upstream: &Upstream) -> PeerUpstream {
        PeerUpstream {
            upstream: upstream.clone(),
            credential: self.credential.clone(),
            headers: asked.headers.clone(),
            user: asked.user.clone(),
        }
    }

    fn list_place(&self, asked: &AdmittedRequest) -> Result<PeerShare<ClusterUuid>, ProxyRefusal> {
        let place = self.lists.take(&asked.peer, self.limits.lists_per_peer, self.limits.lists);
        place.ok_or(ProxyRefusal::Limited { wait: Duration::from_secs(1) })
    }

    /// Bounds the body of an answer that is still to come.
    pub(super) fn bound(
        &self,
        asked: AdmittedRequest,
        (response, list): (Response<Body>, Option<PeerShare<ClusterUuid>>),
        record: AuditRecord,
    ) -> Response<Body> {
        let watch = asked.request.verb == request::Verb::Watch && response.status() == StatusCode::OK;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let framing = if watch { Framing::of_watch(kind) } else { Framing::Whole };
        let lasts = match (&asked.admitted, watch) {
            (Admitted::Synthetic(_) | Admitted::Expired, true) => Duration::from_secs(asked.seconds),
            (_, true) => Duration::from_secs(asked.seconds) + GRACE,
            (_, false) => self.limits.list,
        };
        let rate = (!watch).then_some(self.limits.list_rate as u64);
        let bounds = Bounds { until: Instant::now() + lasts, rate, framing, reader: asked.reader.clone() };
        // watches that end together come back together, so they end one after the other
        let (stopping, spread) =
            (self.stopping.clone(), self.limits.drain * u32::try_from(record.id % 16).unwrap_or(0) / 20);
        let (is_marked, changed) = (watch && asked.mark.is_some(), view_changed(self.admission.clone(), &asked));
        let due = async move {
            tokio::select! {
                () = async { stopping.requested().await; sleep(spread).await } => Bytes::new(),
                () = changed, if is_marked => expired(),
            }
        };
        let projection = match &asked.admitted {
            // its parts are read as what they are
            Admitted::Forward(Forward { continues: Some(_), .. }) => None,
            Admitted::Forward(Forward { shown, .. }) if response.status() == StatusCode::OK && !asked.head_only => {
                Some(shown.projection(AnswerForm::of(asked.request.verb)))
            }
            Admitted::Forward(_) | Admitted::Synthetic(_) | Admitted::Expired => None,
        };
        let is_revoked = {
            let (admission, peer, key) = (self.admission.clone(), asked.peer.clone(), asked.key.clone());
            Box::new(move || !admission.borrow().admits(&peer, &key))
        };
        let revoked = revoked(self.admission.clone(), asked.peer.clone(), asked.key.clone());
        let ends = Ends { due, revoked, is_revoked };
        let (audit, clock, places) = (self.audit.clone(), self.clock.clone(), (asked.places, list));
        let ended = move |outcome: StreamOutcome| {
            drop(places);
            let misread = matches!(outcome.ended, StreamEnd::Broken(BreakOff::Misread(_)));
            if watch || misread {
                audit.note(&ended_record(record, &outcome, clock().to_string()));
            }
        };
        response.map(|body| match projection {
            Some(projection) => pass(body, projection, bounds, ends, ended),
            None => pass(body, AsIs, bounds, ends, ended),
        })
    }
}

/// Asks the apiserver as the peer's own user.
struct PeerUpstream {
    upstream: Upstream,
    credential: ProxyCredential,
    headers: HeaderMap,
    user: String,
}

impl PeerUpstream {
    async fn send(&self, method: Method, path: &str, patience: Duration) -> Result<Response<Body>, ProxyRefusal> {
        let mut request = Request::builder().method(method).uri(path).body(nothing())?;
        *request.headers_mut() = self.headers.clone();
        if let Some(authorization) = self.credential.authorization()? {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        headers::impersonate(request.headers_mut(), &self.user);
        let response = self.upstream.send(request, patience).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED => Err(ProxyRefusal::OwnCredential),
            status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                Err(ProxyRefusal::OtherStatus(status))
            }
            _ => Ok(response),
        }
    }
}

/// The same as [`in_other_form`] of what has come whole.
fn whole_in_other_form(text: Bytes, mut change: impl StreamTransform) -> Result<Bytes, Misread> {
    let (begin, end) = (change.push(text)?, change.finish()?);
    Ok(if end.is_empty() { begin } else { Bytes::from([begin, end].concat()) })
}

/// An answer that is none: its `Status`, or one that is made here where the apiserver gives none that can be read.
async fn failed(
    status: StatusCode,
    answered: &HeaderMap,
    body: Body,
    head_only: bool,
    patience: Duration,
) -> Response<Body> {
    let mut response = if status.is_server_error() {
        // for what goes wrong inside the cluster peers get a fixed message
        Refused::new(status, "the apiserver cannot answer this now").response()
    } else {
        let text = timeout(patience, Limited::new(body, MAX_STATUS).collect()).await;
        let text = text.ok().and_then(Result::ok).map(Collected::to_bytes).and_then(|text| match () {
            () if is_json(answered) => Some(text),
            () if is_protobuf(answered) => projection::protobuf_status(&text).ok().map(Bytes::from),
            () => None,
        });
        let text = text.and_then(|text| projection::status(&text).ok());
        match text {
            Some(text) => Response::new(whole(text)),
            None => Refused::new(status, format!("the apiserver answered {}", status.as_u16())).response(),
        }
    };
    if head_only {
        *response.body_mut() = nothing();
    }
    *response.status_mut() = status;
    for (name, value) in answered.iter().filter(|(name, _)| **name != CONTENT_TYPE) {
        response.headers_mut().insert(name, value.clone());
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Waits until the peer sees something else of what it asked for than its answer shows.
fn view_changed(
    mut admission: watch::Receiver<Arc<Admission>>,
    asked: &AdmittedRequest,
) -> impl Future<Output = ()> + Send + use<> {
    let (peer, resource, mark) = (asked.peer.clone(), asked.request.resource().cloned(), asked.mark.clone());
    async move {
        let is_another = |admission: &Arc<Admission>| {
            let now = resource.as_ref().and_then(|resource| admission.mark(&peer, resource));
            // a peer that is gone is none that sees something else
            now.is_some() && now != mark
        };
        if admission.wait_for(is_another).await.is_err() {
            future::pending::<()>().await;
        }
    }
}

/// An answer that the apiserver does not give.
fn made_here(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn ended_record(record: AuditRecord, outcome: &StreamOutcome, time: String) -> AuditRecord {
    let reason = match &outcome.ended {
        StreamEnd::Whole => "the apiserver ended it".to_owned(),
        StreamEnd::Due => "its time was over".to_owned(),
        StreamEnd::Left => "the peer ended it".to_owned(),
        StreamEnd::Stalled => "the peer took nothing for too long".to_owned(),
        StreamEnd::Revoked => "the peer or its key is no longer admitted".to_owned(),
        StreamEnd::Broken(BreakOff::Misread(why)) => format!("the apiserver's answer cannot be read: {why}"),
        StreamEnd::Broken(why) => format!("the apiserver broke off: {why}"),
    };
    let milliseconds = u64::try_from(outcome.lasted.as_millis()).unwrap_or(u64::MAX);
    AuditRecord { time, event: "ended", reason: Some(reason), milliseconds, bytes: Some(outcome.bytes), ..record }
}

/// Waits until a key is no longer one of a peer that is admitted.
async fn revoked(mut admission: watch::Receiver<Arc<Admission>>, peer: ClusterUuid, key: PublicKey) {
    loop {
        if !admission.borrow_and_update().admits(&peer, &key) {
            return;
        }
        if admission.changed().await.is_err() {
            future::pending::<()>().await;
        }
    }
}
