//! Candidates against each other: no one takes what another cluster is known by.

use std::collections::BTreeMap;

use super::candidate::Candidate;
use super::outcome::DocumentState;
use crate::model::known::KnownCluster;
use crate::model::lock::{Lock, LockedCluster};
use crate::model::mesh::{Cluster, Mesh};
use crate::model::trust::{TrustField, TrustFinding, TrustMeaning};
use crate::types::name::ClusterName;

/// What makes a value a cluster's own, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ClaimStrength {
    /// It is published, and not in the lock.
    New,
    /// It is in the lock, and nothing rests on it: a value that its spec stated may have hidden it from every comparison.
    Locked,
    /// Its spec states it, or its links rest on it.
    InUse,
}

/// The values of one field of a cluster.
type ValuesOf<'a> = &'a dyn Fn(&Cluster, &LockedCluster) -> Vec<String>;

/// Values that belong to one cluster alone. A cluster whose claim is not stronger than that of another is refused; where one of
/// the two is a newcomer, that one alone is.
pub(super) fn refuse_clashes(mesh: &Mesh, lock: &Lock, candidates: &mut BTreeMap<ClusterName, Candidate>) {
    let mut refused: Vec<(ClusterName, TrustFinding)> = Vec::new();
    let is_read = |name: &ClusterName| {
        candidates.get(name).is_some_and(|candidate| candidate.assessment.private == DocumentState::Current)
    };
    let mut check = |what: TrustField,
                     stated_by: &dyn Fn(&Cluster) -> Option<String>,
                     values_of: ValuesOf<'_>,
                     in_use_of: ValuesOf<'_>| {
        let mut claims: BTreeMap<String, BTreeMap<&ClusterName, ClaimStrength>> = BTreeMap::new();
        let mut current: BTreeMap<&ClusterName, Vec<String>> = BTreeMap::new();
        for (name, cluster) in &mesh.clusters {
            let locked = lock.clusters.get(name);
            let entry = candidates.get(name).and_then(|candidate| candidate.entry.as_ref());
            let new = entry.map(|entry| values_of(cluster, entry)).unwrap_or_default();
            let known = locked.map(|locked| values_of(cluster, locked)).unwrap_or_default();
            let in_use =
                locked.map(|locked| in_use_of(cluster, locked)).into_iter().flatten().chain(stated_by(cluster));
            let of = |claim| move |value: &String| (value.clone(), claim);
            let all = new.iter().map(of(ClaimStrength::New)).chain(known.iter().map(of(ClaimStrength::Locked)));
            for (value, claim) in all.chain(in_use.map(|value| (value, ClaimStrength::InUse))) {
                let strongest = claims.entry(value).or_default().entry(name).or_insert(claim);
                *strongest = claim.max(*strongest);
            }
            current.insert(name, new);
        }
        for (name, value) in current.iter().flat_map(|(name, values)| values.iter().map(move |value| (*name, value))) {
            let Some(claimants) = claims.get(value) else { continue };
            let Some(claim) = claimants.get(name).filter(|claim| **claim != ClaimStrength::InUse) else { continue };
            // one that publishes something else by now is asked before it is refused
            if *claim == ClaimStrength::Locked && !is_read(name) {
                continue;
            }
            let flat = |name: &ClusterName| mesh.clusters.get(name).is_some_and(|cluster| cluster.flat_network);
            let shares = |other: &ClusterName| what == TrustField::Network && flat(name) && flat(other);
            let others = claimants.iter().filter(|(_, other)| *other >= claim).map(|(other, _)| *other);
            if let Some(other) = others.filter(|other| *other != name && !shares(other)).min() {
                let meaning = TrustMeaning::ClaimedByAnother { what, value: value.clone(), other: other.clone() };
                refused.push((name.clone(), TrustFinding { what, before: None, after: Some(value.clone()), meaning }));
            }
        }
    };
    let uuid: ValuesOf<'_> = &|_, entry| vec![entry.public.cluster_uuid.to_string()];
    let pinned = &|cluster: &Cluster| cluster.pin.cluster_uuid.as_ref().map(ToString::to_string);
    check(TrustField::ClusterUuid, pinned, uuid, uuid);
    let key: ValuesOf<'_> = &|_, entry| vec![entry.public.authn_key.fingerprint().to_string()];
    check(TrustField::AuthnKey, &|cluster| cluster.pin.authn_key.map(|key| key.to_string()), key, key);
    // both the ID that others know it by and the one that its own istiod runs with
    let id: ValuesOf<'_> = &|cluster, entry| {
        let known = KnownCluster { cluster, locked: entry };
        let own = Some(known.own_cluster_id()).filter(|id| !id.is_istio_default());
        let ids = known.endpoint().map(|_| [Some(known.cluster_id()), own]);
        ids.into_iter().flatten().flatten().map(|id| id.to_string()).collect()
    };
    check(TrustField::ClusterId, &|cluster| cluster.cluster_id.as_ref().map(ToString::to_string), id, id);
    // what links rest on, and what they will rest on when they have begun anew
    let networks: ValuesOf<'_> = &|cluster, entry| {
        let known = KnownCluster { cluster, locked: entry };
        let published = entry.private.as_ref().filter(|_| cluster.network.is_none());
        let published = published.map(|private| private.network.to_string());
        known.endpoint().map(|proxy| proxy.network.to_string()).into_iter().chain(published).collect()
    };
    check(TrustField::Network, &|cluster| cluster.network.as_ref().map(ToString::to_string), networks, &|_, entry| {
        entry.joined_with.iter().map(|joined| joined.network.to_string()).collect()
    });
    for (name, finding) in refused {
        if let Some(candidate) = candidates.get_mut(&name) {
            candidate.refusals.push(finding);
        }
    }
}
