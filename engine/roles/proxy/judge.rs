//! Whether a request is answered: who asks, how often, and what.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::roles::api::headers::{self, Accept};
use crate::roles::api::projection::Mark;
use crate::roles::api::request::{self, ApiRequest};
use crate::roles::proxy::audit::AuditRecord;
use crate::roles::proxy::metrics::{KeyUseLabels, PeerLabel};
use crate::roles::proxy::peers::Admission;
use crate::roles::proxy::policy::Admitted;
use crate::roles::proxy::refusal::ProxyRefusal;
use crate::roles::proxy::state::Proxy;
use crate::roles::watches::{PeerShare, WatchPlace};
use crate::server::Reader;
use crate::server::limits::client_address;
use crate::types::key::PublicKey;
use crate::types::name::ClusterUuid;
use crate::types::time::Timestamp;
use crate::types::token::{Expectation, Scope, Verified};

/// Whoever sends a request, by its token.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) peer: ClusterUuid,
    verified: Arc<Verified>,
    /// The peers that it was judged by.
    admission: Arc<Admission>,
    now: Timestamp,
}

/// A request whose sender is known and may ask it.
pub(super) struct AdmittedRequest {
    pub(super) peer: ClusterUuid,
    /// The user that it becomes.
    pub(super) user: String,
    pub(super) key: PublicKey,
    /// The request asks for the answer's head alone.
    pub(super) head_only: bool,
    pub(super) request: ApiRequest,
    pub(super) admitted: Admitted,
    pub(super) headers: HeaderMap,
    /// How long a watch may last.
    pub(super) seconds: u64,
    pub(super) places: HeldPlaces,
    /// The mark of what the answer shows.
    pub(super) mark: Option<Mark>,
    /// Whoever reads the answer.
    pub(super) reader: Reader,
}

/// What a request holds of its peer's share until its answer has ended.
pub(super) struct HeldPlaces {
    pub(super) _request: PeerShare<ClusterUuid>,
    pub(super) _watch: Option<WatchPlace<ClusterUuid>>,
}

impl Proxy {
    /// Says who sends a request. Whoever shows a token that is known asks as often as its peer may; all others share what
    /// their address has.
    pub(super) fn sender(&self, headers: &HeaderMap, from: SocketAddr) -> Result<Sender, ProxyRefusal> {
        let admission = self.admission.borrow().clone();
        let first = || {
            let now = std::time::Instant::now();
            let taken = self.of_address.take(client_address(from.ip()), now).and_then(|()| self.of_all.take((), now));
            taken.map_err(|wait| ProxyRefusal::Limited { wait })
        };
        let (Some(own), Some(_)) = (&admission.cluster_uuid, &admission.peers) else {
            first()?;
            return Err(ProxyRefusal::NotReady);
        };
        let values: Vec<&str> =
            headers.get_all(AUTHORIZATION).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        let now = Timestamp::from((self.clock)());
        let expected =
            Expectation { audience: own.as_str(), scope: Scope::Api, now, max_lifetime: Scope::Api.max_lifetime() };
        let verified = self.verdicts.judge(&values, &expected, &admission, first)?;
        let peer: ClusterUuid = verified.claims.sub.parse().map_err(|_| ProxyRefusal::Subject)?;
        Ok(Sender { peer, verified, admission, now })
    }

    /// Judges a request, and writes into the record what it learns on the way.
    pub(super) fn judge(
        &self,
        head: &Parts,
        sender: Sender,
        reader: Reader,
        record: &mut AuditRecord,
    ) -> Result<AdmittedRequest, ProxyRefusal> {
        let busy = |wait| ProxyRefusal::Limited { wait };
        let Sender { peer, verified, admission, now } = sender;
        let entry = admission.peer(&peer).ok_or(ProxyRefusal::PeerGone)?;
        let signed = entry.keys.iter().find(|key| key.pem == verified.key);
        record.peer = Some(entry.name.to_string());
        record.cluster_uuid = Some(peer.to_string());
        record.key_id = signed.map(|key| key.id.to_string());
        self.of_peer.take(peer.clone(), std::time::Instant::now()).map_err(busy)?;
        let share = self.shares.take(&peer, self.limits.requests_per_peer, usize::MAX);
        let share = share.ok_or_else(|| busy(Duration::from_secs(1)))?;
        if let Some(key_id) = record.key_id.clone() {
            self.counts
                .last_used
                .get_or_create(&KeyUseLabels { cluster_uuid: peer.to_string(), key_id })
                .set(now.as_seconds());
        }

        let request = ApiRequest::parse(&head.method, head.uri.path(), head.uri.query(), self.limits.path)?;
        let head_only = head.method == Method::HEAD;
        if head_only && request.verb == request::Verb::Watch {
            return Err(ProxyRefusal::HeadOfWatch);
        }
        record.verb = Some(request.verb.as_str());
        if let Some(resource) = request.resource() {
            record.group = Some(resource.group.clone());
            record.version = Some(resource.version.clone());
            record.resource = Some(match &resource.subresource {
                Some(subresource) => format!("{}/{subresource}", resource.resource),
                None => resource.resource.clone(),
            });
            record.namespace.clone_from(&resource.namespace);
            record.name.clone_from(&resource.name);
        }
        let left = verified.claims.exp.since(now).as_secs().max(1);
        let seconds = self.limits.watch.as_secs().min(left).max(1);
        let admitted = admission.policy().admit(&request, entry, seconds)?;
        let mut incoming = head.headers.clone();
        if self.drops_forwarded {
            headers::drop_forwarded(&mut incoming);
        }
        let headers = headers::upstream(&incoming, Accept::Json)?;
        let watch = if request.verb == request::Verb::Watch {
            let gauge = self.counts.watches.get_or_create(&PeerLabel { peer: entry.name.to_string() }).clone();
            let taken = self.watches.take(&peer, &self.limits, gauge);
            Some(taken.ok_or_else(|| busy(Duration::from_secs(10)))?)
        } else {
            None
        };
        let mark = request.resource().and_then(|resource| admission.mark(&peer, resource));
        let (key, places) = (verified.key.clone(), HeldPlaces { _request: share, _watch: watch });
        let user = entry.user();
        Ok(AdmittedRequest { peer, user, key, head_only, request, admitted, headers, seconds, places, mark, reader })
    }
}
