//! What relays read of peers with the keys of their clusters, in the place of what the engine could not read itself.
//!
//! A cluster of this checkout shows it in its private document, to the engine alone. What the engine read itself counts more. Several
//! relays have to read the same: where they do not, someone is lied to, or lies, and nothing is taken. It is judged like anything
//! that is read, and it is kept who read it. Of a cluster whose public document the engine read and no one accepted, nothing is
//! taken. Evidence is another thing: a peer shows each cluster what concerns that cluster, so it is put together from what all of
//! them were shown (`of_all`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::keyring::KeyProblem;
use crate::model::lock::Lock;
use crate::model::mesh::{Cluster, Mesh, Reconciler, State};
use crate::pipeline::observe::{Failure, Observation, Observed, PrivateReading, stated, whole};
use crate::pipeline::seen_evidence::of_all;
use crate::types::address::Endpoint;
use crate::types::certificate::{certificates, digest_of_pem};
use crate::types::name::{ClusterName, ClusterUuid};
use crate::wire::failure::DifferentReading;
use crate::wire::metadata::{MetadataError, PRIVATE_PATH, PUBLIC_PATH, PrivateDocument, PublicDocument, Reading};
use crate::wire::seen::{PeerSeen, SeenDocument};

/// A relay's reading, and whose relay it was.
struct RelayReading<'a> {
    reader: &'a ClusterName,
    seen: &'a PeerSeen,
}

/// Takes it into what was observed.
#[must_use]
pub fn take(mesh: &Mesh, lock: &Lock, mut observed: Observed) -> Observed {
    let all = seen_by_relays(mesh, &observed);
    let mut by_endpoint = BTreeMap::<&Endpoint, Vec<RelayReading<'_>>>::new();
    for (reader, seen) in &all {
        by_endpoint.entry(&seen.endpoint).or_default().push(RelayReading { reader, seen });
    }
    for (name, observation) in &mut observed.clusters {
        let Some(peer) = mesh.clusters.get(name).filter(|peer| peer.reconciler != Reconciler::Rendered) else {
            continue;
        };
        let readings = by_endpoint.get(&peer.endpoint).filter(|_| peer.state.is_asked());
        let readings = readings.map(Vec::as_slice).unwrap_or_default();
        take_public(peer, readings, observation);
        take_private(peer, readings, &|| concerned(mesh, lock, peer), observation);
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
    if observation.public.is_ok() && observation.read_by.public.is_none() {
        return;
    }
    match publics(peer, readings, None) {
        Some((reader, Ok(document))) => {
            observation.public = Ok(document);
            observation.read_by.public = Some(reader);
        }
        // the relay is nearer to the peer than the engine, and knows better what is amiss
        Some((_, Err(failure))) => {
            observation.public = Err(failure);
            observation.read_by.public = None;
        }
        None => {}
    }
}

/// Our clusters that are linked with a peer, or are on the way out of that. One that is lost has nothing to be shown.
fn concerned(mesh: &Mesh, lock: &Lock, peer: &Cluster) -> BTreeSet<ClusterName> {
    let is_linked = |name: &ClusterName| {
        let linked = |reader: &ClusterName, of: &ClusterName| lock.link(reader, of).is_some();
        mesh.links(name, &peer.name) || linked(name, &peer.name) || linked(&peer.name, name)
    };
    let is_ours = |cluster: &&Cluster| cluster.reconciler == Reconciler::Rendered && cluster.state != State::Lost;
    let ours = mesh.clusters.values().filter(is_ours);
    ours.filter(|cluster| is_linked(&cluster.name)).map(|cluster| cluster.name.clone()).collect()
}

fn take_private(
    peer: &Cluster,
    readings: &[RelayReading<'_>],
    concerned: &dyn Fn() -> BTreeSet<ClusterName>,
    observation: &mut Observation,
) {
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
    // whoever is shown another public document than the engine may be shown any private one
    let own = Some(public).filter(|_| observation.read_by.public.is_none());
    if let Some((_, Err(failure @ Failure::ReadingsDiffer { .. }))) =
        own.and_then(|own| publics(peer, readings, Some(own)))
    {
        observation.private = PrivateReading::Failed(failure);
        return;
    }
    let uuid = public.cluster_uuid.clone();
    let is_same = |one: &&RelayReading<'_>| {
        one.seen.cluster_uuid.as_ref() == Some(&uuid) && published(one.seen).as_ref() == Some(&uuid)
    };
    let readings: Vec<_> = readings.iter().filter(is_same).map(|one| (one.reader, &one.seen.private)).collect();
    let parse = |value: &Value| PrivateDocument::from_value(value.clone(), stated(peer));
    match one_of(&peer.endpoint.url(PRIVATE_PATH), None, &readings, parse, of_private) {
        Some((reader, Ok(mut document))) => {
            // Deckhouse shows none
            if document.evidence.is_some() {
                let read = |value: &Value| match parse(value) {
                    Ok(Reading::Complete(document)) => Some(document.evidence),
                    Ok(Reading::Incomplete(_)) | Err(_) => None,
                };
                let shown = readings.iter().filter_map(|(reader, seen)| Some((*reader, read(seen.read()?)?)));
                document.evidence = of_all(shown.collect(), &concerned());
            }
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

/// The public document as relays read it, and as the engine did where it did.
fn publics(
    peer: &Cluster,
    readings: &[RelayReading<'_>],
    own: Option<&PublicDocument>,
) -> Option<(ClusterName, Result<PublicDocument, Failure>)> {
    let readings: Vec<_> = readings.iter().map(|one| (one.reader, &one.seen.public)).collect();
    let parse = |value: &Value| PublicDocument::from_value(value.clone());
    one_of(&peer.endpoint.url(PUBLIC_PATH), own, &readings, parse, of_public)
}

/// The UUID of the public document that was read with the private one.
fn published(seen: &PeerSeen) -> Option<ClusterUuid> {
    seen.public.read()?.get("clusterUUID")?.as_str()?.parse().ok()
}

/// What was read of one field, by its name in the document.
type ReadField = (&'static str, String);

/// What a public document is trusted for. What else it says may change between two readings.
fn of_public(document: &PublicDocument) -> Vec<ReadField> {
    let text = |value: Option<&dyn ToString>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let pem = |pem: &Option<String>| text(pem.as_deref().map(digest_of_pem).as_ref().map(|digest| digest as _));
    let keys = document.authn_keys.iter().map(|key| {
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
        format!("{} {} for {}", key.id, key.pem.fingerprint(), scopes.join(" and "))
    });
    let keys: BTreeSet<String> = keys.collect();
    vec![
        ("clusterUUID", document.cluster_uuid.to_string()),
        ("authnKeyPub", document.authn_key.fingerprint().to_string()),
        ("rootCA", roots(&document.root_ca)),
        ("authnKeys", keys.into_iter().collect::<Vec<_>>().join(", ")),
        ("relayCA", pem(&document.relay_ca)),
        ("servingCA", pem(&document.serving_ca)),
        ("trustDomain", text(document.trust_domain.as_ref().map(|value| value as _))),
        ("clusterDomain", text(document.cluster_domain.as_ref().map(|value| value as _))),
        ("meshID", text(document.mesh_id.as_ref().map(|value| value as _))),
    ]
}

/// The root CAs of a bundle as people compare them; of one that cannot be read, its text.
fn roots(bundle: &str) -> String {
    let digests = certificates(bundle).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    digests.unwrap_or_else(|| digest_of_pem(bundle).to_string())
}

/// How a private document says that its cluster is known and reached. Evidence changes all the time.
fn of_private(document: &PrivateDocument) -> Vec<ReadField> {
    let gateways: Vec<String> = document.ingress_gateways.iter().map(ToString::to_string).collect();
    let id = document.cluster_id.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let ca = document.api_ca.as_deref().map_or_else(|| "nothing".to_owned(), |pem| digest_of_pem(pem).to_string());
    vec![
        ("clusterID", id),
        ("networkName", document.network_name.to_string()),
        ("apiHost", document.api_host.to_string()),
        ("apiCA", ca),
        ("ingressGateways", gateways.join(", ")),
    ]
}

/// The first reading that succeeded, if all that succeeded are alike, with the engine's `own` among them; else the first that
/// failed. `None`: no one asked.
fn one_of<T>(
    url: &str,
    own: Option<&T>,
    readings: &[(&ClusterName, &SeenDocument)],
    parse: impl Fn(&Value) -> Result<Reading<T>, MetadataError>,
    fields: impl Fn(&T) -> Vec<ReadField>,
) -> Option<(ClusterName, Result<T, Failure>)> {
    let (mut failed, mut found, mut read) = (None, None, None);
    let mut first = own.map(|own| (None, fields(own)));
    for (reader, document) in readings {
        let parsed = match document {
            SeenDocument::NotAsked => continue,
            // most relays of a large mesh read the very same
            SeenDocument::Read(value) if read == Some(value) => continue,
            SeenDocument::Read(value) => whole(url, parse(value)).inspect(|_| read = read.or(Some(value))),
            SeenDocument::Failed(failure) => Err(failure.clone()),
        };
        let reader = ClusterName::clone(reader);
        match parsed {
            Ok(document) => {
                let now = (Some(reader.clone()), fields(&document));
                if let Some(failure) = first.as_ref().and_then(|first| difference(url, first, &now)) {
                    return Some((reader, Err(failure)));
                }
                first.get_or_insert(now);
                found.get_or_insert((reader, Ok(document)));
            }
            Err(failure) if failed.is_none() => {
                let through = Failure::Through { reader: reader.clone(), failure: Box::new(failure) };
                failed = Some((reader, Err(through)));
            }
            Err(_) => {}
        }
    }
    found.or(failed)
}

/// A reader, the engine where it is `None`, and what it read.
type FieldsOfReader = (Option<ClusterName>, Vec<ReadField>);

/// The first field of which two readers read different values.
fn difference(url: &str, one: &FieldsOfReader, other: &FieldsOfReader) -> Option<Failure> {
    let pairs = one.1.iter().zip(&other.1);
    let ((field, value), (_, against)) = pairs.into_iter().find(|(one, other)| one != other)?;
    let reading = |reader: &Option<ClusterName>, value: &str| DifferentReading {
        reader: reader.clone(),
        value: value.to_owned(),
    };
    let readings = vec![reading(&one.0, value), reading(&other.0, against)];
    Some(Failure::ReadingsDiffer { url: url.to_owned(), field: (*field).to_owned(), readings })
}
