//! Evidence as it was gathered: what one collection of evidence found, and when each field of it was last known to hold. A field
//! that is too old is unknown. Its age is judged when a request is answered, so that a loop that hangs cannot keep it alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::roles::exporter::reasons::EvidenceError;
use crate::types::name::{ClusterId, ClusterUuid, NetworkName};
use crate::wire::metadata::{Evidence, Reported};
use crate::wire::seen::PeerSeen;

/// How old a field of evidence may be. A healthy one has at most 75 s: a watch is confirmed each minute, and pods are asked
/// every few seconds.
pub const MAX_AGE: Duration = Duration::from_mins(2);

/// Evidence, as far as it was gathered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gathered {
    /// The first collection is not over. The private document waits for it.
    NotYet,
    /// This exporter shows no evidence, as other implementations do.
    Nothing,
    Collected(Arc<CollectedEvidence>),
}

/// What one collection found. Everything in it belongs together: the serial is that of the `peers.json` that was live when the collection
/// began, and the relations are those that held then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedEvidence {
    pub evidence: Evidence,
    /// How it names each peer, as ConfigMaps `isthmus-routes` and `isthmus-peers` and the mesh configuration told.
    pub relations: BTreeMap<ClusterUuid, Relation>,
    /// What the relay read of peers, for the own engine.
    pub peers_seen: Vec<PeerSeen>,
    /// When each field was last known to hold.
    pub confirmed: FieldTimes,
    /// How old a field may be.
    pub max_age: Duration,
}

/// A peer as evidence names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub cluster_id: ClusterId,
    /// Its network, when the mesh configuration has one for it.
    pub network: Option<NetworkName>,
}

/// The oldest of the answers that something rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// When it was confirmed, by the monotonic clock.
    pub at: Instant,
    /// What was asked, such as `list of istiod's pods`.
    pub what: &'static str,
}

impl Confirmed {
    /// The oldest of this and others; those that were never confirmed are not rested on.
    pub(super) fn and(self, others: &[(&'static str, Option<Instant>)]) -> Self {
        let others = others.iter().filter_map(|&(what, at)| at.map(|at| Self { at, what }));
        others.fold(self, |oldest, other| if other.at < oldest.at { other } else { oldest })
    }
}

/// When each field of a collection was last known to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldTimes {
    pub trusts: Confirmed,
    pub networks: Confirmed,
    pub reads: Confirmed,
    pub routes: Confirmed,
    pub prepared: Confirmed,
    pub relay_token: Confirmed,
    pub credentials: Confirmed,
    pub mesh_config: Confirmed,
    pub serial: Confirmed,
    pub hand_over: Confirmed,
    pub relations: Confirmed,
}

impl FieldTimes {
    /// The same for all fields.
    pub fn all(confirmed: Confirmed) -> Self {
        Self {
            trusts: confirmed,
            networks: confirmed,
            reads: confirmed,
            routes: confirmed,
            prepared: confirmed,
            relay_token: confirmed,
            credentials: confirmed,
            mesh_config: confirmed,
            serial: confirmed,
            hand_over: confirmed,
            relations: confirmed,
        }
    }
}

impl CollectedEvidence {
    /// A collection in which everything was confirmed at one time.
    pub fn at(at: Instant, evidence: Evidence, relations: BTreeMap<ClusterUuid, Relation>) -> Self {
        let confirmed = FieldTimes::all(Confirmed { at, what: "the cluster" });
        Self { evidence, relations, peers_seen: Vec::new(), confirmed, max_age: MAX_AGE }
    }

    /// The evidence as it counts at a time: fields that are too old then are unknown.
    pub(super) fn evidence_at(&self, now: Instant) -> Evidence {
        fn aged<T: Clone>(shown: &Reported<T>, age: Result<(), EvidenceError>) -> Reported<T> {
            match (shown, age) {
                (Reported::Seen(_), Err(old)) => Reported::Unknown(old.to_string()),
                (shown, _) => shown.clone(),
            }
        }
        let (seen, times) = (&self.evidence, &self.confirmed);
        Evidence {
            trusts: aged(&seen.trusts, self.judge(times.trusts, now)),
            networks: aged(&seen.networks, self.judge(times.networks, now)),
            reads: aged(&seen.reads, self.judge(times.reads, now)),
            routes: aged(&seen.routes, self.judge(times.routes, now)),
            prepared: aged(&seen.prepared, self.judge(times.prepared, now)),
            relay_token: aged(&seen.relay_token, self.judge(times.relay_token, now)),
            credentials: aged(&seen.credentials, self.judge(times.credentials, now)),
            mesh_config: aged(&seen.mesh_config, self.judge(times.mesh_config, now)),
            serial: aged(&seen.serial, self.judge(times.serial, now)),
            writer: seen.writer.clone().filter(|_| self.judge(times.serial, now).is_ok()),
            hand_over: seen.hand_over.clone().filter(|_| self.judge(times.hand_over, now).is_ok()),
        }
    }

    /// How evidence names each peer, while that is known.
    pub(super) fn relations_at(&self, now: Instant) -> Result<&BTreeMap<ClusterUuid, Relation>, EvidenceError> {
        self.judge(self.confirmed.relations, now).map(|()| &self.relations)
    }

    /// What the relay read of peers, as it is published. What was read too long ago is not shown: it may no longer be so.
    pub(super) fn peers_seen_at(&self, now: Instant) -> Vec<Value> {
        let since = now.saturating_duration_since(self.confirmed.routes.at).as_secs();
        let aged = |seen: &PeerSeen| PeerSeen { age: seen.age.saturating_add(since), ..seen.clone() };
        let fresh = self.peers_seen.iter().map(aged).filter(|seen| seen.age <= self.max_age.as_secs());
        PeerSeen::within_limit(fresh)
    }

    fn judge(&self, confirmed: Confirmed, now: Instant) -> Result<(), EvidenceError> {
        let age = now.saturating_duration_since(confirmed.at);
        if age <= self.max_age {
            return Ok(());
        }
        Err(EvidenceError::TooOld { what: confirmed.what, age, max_age: self.max_age })
    }
}
