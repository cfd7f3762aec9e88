//! Whether each peer is reached: `GET /api`, as Deckhouse probes, with the same connections and token as all else.
//!
//! An answer counts when it is 200 and an object of kind `APIVersions`: this says that the peer's api-proxy admits this
//! cluster. The outcome is a metric, which the exporter puts into the evidence.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::{sleep, timeout};

use crate::roles::relay::peers::{Peers, RelayPeer, Unreached};
use crate::roles::role::Stopping;
use crate::server::{Body, whole};
use crate::wire::routes::Route;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two probes of a peer that answers.
const WHILE_UP: Duration = Duration::from_secs(30);
/// Between two probes of one that does not.
const WHILE_DOWN: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024;

/// Looks at a peer again and again until its route has gone.
pub(super) async fn keep_reaching(peers: Arc<Peers>, peer: Arc<RelayPeer>, stopping: Stopping) {
    loop {
        let outcome = tokio::select! {
            outcome = probe(&peers, &peer) => outcome,
            () = peer.gone() => return,
            () = stopping.requested() => return,
        };
        if let Some(age) = peer.token_age().filter(|_| !peer.is_gone()) {
            peer.age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        }
        if peers.show(&peer, &outcome) {
            let Route { cluster_id, api_host, .. } = &peer.route;
            match &outcome {
                Ok(()) => tracing::info!(peer = %cluster_id, %api_host, "the peer answers"),
                Err(reason) => {
                    tracing::warn!(peer = %cluster_id, %api_host, reason = reason.to_string(), "the peer does not answer");
                }
            }
        }
        tokio::select! {
            () = sleep(if outcome.is_ok() { WHILE_UP } else { WHILE_DOWN }) => {}
            () = peer.gone() => return,
            () = stopping.requested() => return,
        }
    }
}

async fn probe(peers: &Peers, peer: &RelayPeer) -> Result<(), Unreached> {
    let upstream = peer.upstream.as_ref().map_err(Clone::clone)?;
    let authorization = peers.authorization(peer).map_err(|_| Unreached::NoKey)?;
    let request = Request::get("/api")
        .header(ACCEPT, "application/json")
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .header(AUTHORIZATION, authorization)
        .body(whole(""))
        .map_err(|error| Unreached::Request(error.into()))?;
    let response = upstream.send(request, PATIENCE).await.map_err(|error| {
        tracing::debug!(peer = %peer.route.cluster_id, problem = %error, "GET /api");
        Unreached::Upstream(error)
    })?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            peer.forget_token();
            return Err(Unreached::Unauthorized);
        }
        StatusCode::FORBIDDEN => return Err(Unreached::Forbidden),
        status => return Err(Unreached::Status(status.as_u16())),
    }
    let body = timeout(PATIENCE, bytes_of(response.into_body())).await;
    let body = body.map_err(|_| Unreached::Late)?.ok_or(Unreached::BrokenOff)?;
    let answer = crate::types::json::parse_strict(&body).ok();
    let kind = answer.as_ref().and_then(|answer| answer.get("kind")?.as_str());
    if kind == Some("APIVersions") { Ok(()) } else { Err(Unreached::NotAnApiserver) }
}

/// A body that is whole and not too long.
async fn bytes_of(mut body: Body) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > MAX_ANSWER {
            return None;
        }
    }
    Some(bytes)
}
