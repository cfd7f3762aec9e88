//! What relays read of peers with the keys of their clusters, in the place of what the engine could not read itself.
//!
//! A cluster of this checkout shows it in its private document, to the engine alone. What the engine read itself counts more; of
//! several relays the first by name counts that came furthest. It is judged like anything that is read, and it is kept who read
//! it. Of a cluster whose public document the engine read and no one accepted, nothing is taken.

use serde_json::Value;

use crate::model::keyring::KeyProblem;
use crate::model::mesh::{Cluster, Mesh, Reconciler};
use crate::pipeline::observe::{Failure, Observation, Observed, PrivateReading, stated, whole};
use crate::types::address::Endpoint;
use crate::types::name::{ClusterName, ClusterUuid};
use crate::wire::metadata::{MetadataError, PRIVATE_PATH, PUBLIC_PATH, PrivateDocument, PublicDocument, Reading};
use crate::wire::seen::{PeerSeen, SeenDocument};

/// A relay's reading, and whose relay it was.
struct RelayReading<'a> {
    reader: &'a ClusterName,
    seen: &'a PeerSeen,
}

/// Takes it into what was observed.
#[must_use]
pub fn take(mesh: &Mesh, mut observed: Observed) -> Observed {
    let all = seen_by_relays(mesh, &observed);
    for (name, observation) in &mut observed.clusters {
        let Some(peer) = mesh.clusters.get(name).filter(|peer| peer.reconciler != Reconciler::Rendered) else {
            continue;
        };
        let readings: Vec<RelayReading<'_>> = all
            .iter()
            .filter(|(_, seen)| peer.state.is_asked() && seen.endpoint == peer.endpoint)
            .map(|(reader, seen)| RelayReading { reader, seen })
            .collect();
        take_public(peer, &readings, observation);
        take_private(peer, &readings, observation);
    }
    observed
}

/// What the relays of our clusters read, by the names of these. Relays of others show nothing that counts.
fn seen_by_relays(mesh: &Mesh, observed: &Observed) -> Vec<(ClusterName, PeerSeen)> {
    let shown = observed.clusters.iter().filter_map(|(name, observation)| {
        let cluster = mesh.clusters.get(name).filter(|cluster| cluster.reconciler == Reconciler::Rendered)?;
        match &observation.private {
            PrivateReading::Read(document) if matches!(cluster.endpoint, Endpoint::Https { .. }) => {
                Some((name, PeerSeen::list(&document.peers_seen)))
            }
            _ => None,
        }
    });
    shown.flat_map(|(name, all)| all.into_iter().map(move |seen| (name.clone(), seen))).collect()
}

fn take_public(peer: &Cluster, readings: &[RelayReading<'_>], observation: &mut Observation) {
    let is_own = observation.read_by.public.is_none();
    if observation.public.is_ok() && is_own {
        return;
    }
    let parse = |value: &Value| PublicDocument::from_value(value.clone());
    let read = |one: &RelayReading<'_>| document(peer, PUBLIC_PATH, &one.seen.public, parse);
    match first(readings, read) {
        Some((reader, Ok(document))) => {
            observation.public = Ok(document);
            observation.read_by.public = Some(reader);
        }
        // the relay is nearer to the peer than the engine, and knows better what is amiss
        Some((_, Err(failure))) => observation.public = Err(failure),
        None => {}
    }
}

fn take_private(peer: &Cluster, readings: &[RelayReading<'_>], observation: &mut Observation) {
    let Ok(public) = &observation.public else { return };
    let is_wanted = match &observation.private {
        PrivateReading::Read(_) => observation.read_by.private.is_some(),
        // no one accepted the public document, and so no one may have read more
        PrivateReading::HeldBack => false,
        PrivateReading::NotAsked => observation.read_by.public.is_some(),
        PrivateReading::Failed(_) | PrivateReading::NoKey(_) => true,
    };
    if !is_wanted {
        return;
    }
    let uuid = public.cluster_uuid.clone();
    let parse = |value: &Value| PrivateDocument::from_value(value.clone(), stated(peer));
    let read = |one: &RelayReading<'_>| {
        let is_same = one.seen.cluster_uuid.as_ref() == Some(&uuid) && published(one.seen).as_ref() == Some(&uuid);
        if is_same { document(peer, PRIVATE_PATH, &one.seen.private, parse) } else { None }
    };
    match first(readings, read) {
        Some((reader, Ok(document))) => {
            observation.private = PrivateReading::Read(document);
            observation.read_by.private = Some(reader);
        }
        Some((_, Err(failure))) => observation.private = PrivateReading::Failed(failure),
        None if observation.read_by.public.is_some() => {
            observation.private = PrivateReading::NoKey(KeyProblem::OnlyClusterKeys { peer: peer.name.clone() });
        }
        None => {}
    }
}

/// The UUID of the public document that was read with the private one.
fn published(seen: &PeerSeen) -> Option<ClusterUuid> {
    match PublicDocument::from_value(seen.public.read()?.clone()) {
        Ok(Reading::Complete(document)) => Some(document.cluster_uuid),
        Ok(Reading::Incomplete(_)) | Err(_) => None,
    }
}

/// The first reading that succeeded; else the first that failed.
fn first<T>(
    readings: &[RelayReading<'_>],
    read: impl Fn(&RelayReading<'_>) -> Option<Result<T, Failure>>,
) -> Option<(ClusterName, Result<T, Failure>)> {
    let mut failed = None;
    for one in readings {
        match read(one) {
            Some(Ok(document)) => return Some((one.reader.clone(), Ok(document))),
            Some(Err(failure)) => {
                let reader = one.reader.clone();
                let through = || Failure::Through { reader: reader.clone(), failure: Box::new(failure) };
                failed = failed.or_else(|| Some((reader.clone(), Err(through()))));
            }
            None => {}
        }
    }
    failed
}

/// A document as a relay read it; `None`: it did not ask.
fn document<T>(
    peer: &Cluster,
    path: &str,
    seen: &SeenDocument,
    parse: impl Fn(&Value) -> Result<Reading<T>, MetadataError>,
) -> Option<Result<T, Failure>> {
    match seen {
        SeenDocument::Read(value) => Some(whole(&peer.endpoint.url(path), parse(value))),
        SeenDocument::Failed(failure) => Some(Err(failure.clone())),
        SeenDocument::NotAsked => None,
    }
}
