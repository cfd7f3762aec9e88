//! Candidates against each other: no one takes what another cluster is known by.

use std::collections::{BTreeMap, BTreeSet};

use super::candidate::Candidate;
use crate::model::known::KnownCluster;
use crate::model::lock::{Lock, LockedCluster};
use crate::model::mesh::{Cluster, Mesh};
use crate::model::trust::{TrustField, TrustFinding, TrustMeaning};
use crate::types::name::ClusterName;

/// Values that belong to one cluster alone. Newcomers that clash with a known cluster are refused; two newcomers both.
pub(super) fn refuse_clashes(mesh: &Mesh, lock: &Lock, candidates: &mut BTreeMap<ClusterName, Candidate>) {
    let mut refused: Vec<(ClusterName, TrustFinding)> = Vec::new();
    let mut check = |what: TrustField,
                     stated_by: &dyn Fn(&Cluster) -> Option<String>,
                     value_of: &dyn Fn(&Cluster, &LockedCluster) -> Vec<String>| {
        let mut owners: BTreeMap<String, BTreeSet<&ClusterName>> = BTreeMap::new();
        let mut claims: BTreeMap<String, BTreeSet<&ClusterName>> = BTreeMap::new();
        for (name, cluster) in &mesh.clusters {
            let locked = lock.clusters.get(name).map(|known| value_of(cluster, known)).unwrap_or_default();
            let known: BTreeSet<String> = locked.into_iter().chain(stated_by(cluster)).collect();
            let entry = candidates.get(name).and_then(|candidate| candidate.entry.as_ref());
            for value in entry.map(|entry| value_of(cluster, entry)).unwrap_or_default() {
                if !known.contains(&value) {
                    claims.entry(value).or_default().insert(name);
                }
            }
            for value in known {
                owners.entry(value).or_default().insert(name);
            }
        }
        for (value, claimants) in &claims {
            for claimant in claimants {
                let flat = |name: &ClusterName| mesh.clusters.get(name).is_some_and(|cluster| cluster.flat_network);
                let shares = |other: &ClusterName| what == TrustField::Network && flat(claimant) && flat(other);
                let others = owners.get(value).into_iter().flatten().chain(claimants);
                let others = others.filter(|other| *other != claimant && !shares(other));
                if let Some(other) = others.min() {
                    let meaning =
                        TrustMeaning::ClaimedByAnother { what, value: value.clone(), other: (*other).clone() };
                    refused.push((
                        (*claimant).clone(),
                        TrustFinding { what, before: None, after: Some(value.clone()), meaning },
                    ));
                }
            }
        }
    };
    check(
        TrustField::ClusterUuid,
        &|cluster| cluster.pin.cluster_uuid.as_ref().map(ToString::to_string),
        &|_, entry| vec![entry.public.cluster_uuid.to_string()],
    );
    check(TrustField::AuthnKey, &|cluster| cluster.pin.authn_key.map(|key| key.to_string()), &|_, entry| {
        vec![entry.public.authn_key.fingerprint().to_string()]
    });
    // both the ID that others know it by and the one that its own istiod runs with
    check(TrustField::ClusterId, &|cluster| cluster.cluster_id.as_ref().map(ToString::to_string), &|cluster, entry| {
        let known = KnownCluster { cluster, locked: entry };
        let own = Some(known.own_cluster_id()).filter(|id| !id.is_istio_default());
        let ids = known.endpoint().map(|_| [Some(known.cluster_id()), own]);
        ids.into_iter().flatten().flatten().map(|id| id.to_string()).collect()
    });
    check(TrustField::Network, &|cluster| cluster.network.as_ref().map(ToString::to_string), &|cluster, entry| {
        let known = KnownCluster { cluster, locked: entry };
        // what links rest on, and what they will rest on when they have begun anew
        let published = entry.private.as_ref().filter(|_| cluster.network.is_none());
        let published = published.map(|private| private.network.to_string());
        known.endpoint().map(|proxy| proxy.network.to_string()).into_iter().chain(published).collect()
    });
    for (name, finding) in refused {
        if let Some(candidate) = candidates.get_mut(&name) {
            candidate.refusals.push(finding);
        }
    }
}
