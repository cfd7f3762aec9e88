//! Evidence: what is live, folded from what each istiod, api-proxy and relay of the cluster says. Pure.
//!
//! What one istiod does not say is not live, since any of them may serve a proxy: a root counts when all have it, a remote
//! cluster is in its worst state, a network has the gateways that all agree on.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::unread::Unread;
use crate::istio::debug::{Sample, worse};
use crate::istio::mesh_config::{Configured, SHARED_MESH_CONFIG};
use crate::istio::objects::Istiod;
use crate::roles::exporter::reasons::{AskError, Component, EvidenceError};
use crate::types::address::{Gateway, Host};
use crate::types::certificate::{CertificateError, parse_roots_any_time};
use crate::types::name::{ClusterId, Digest, NetworkName};
use crate::wire::metadata::{CredentialUse, LiveNetwork, LiveRoute, Read, ReadState, Reported, RouteState};

/// What one pod answered, or why it did not.
pub type PodAnswer<T> = (String, Result<T, AskError>);

/// All answers, or who did not give one.
fn every<T>(of: Component, answers: &[PodAnswer<T>]) -> Result<Vec<&T>, EvidenceError> {
    if answers.is_empty() {
        return Err(EvidenceError::NoPod { of });
    }
    let answers = answers.iter().map(|(pod, answer)| {
        answer.as_ref().map_err(|source| EvidenceError::Pod { pod: pod.clone(), source: source.clone() })
    });
    answers.collect()
}

/// A part of the evidence as the document has it, with its reason as text.
pub(super) fn shown<T>(value: Result<T, EvidenceError>) -> Reported<T> {
    match value {
        Ok(value) => Reported::Seen(value),
        Err(reason) => Reported::Unknown(reason.to_string()),
    }
}

/// Remote clusters, each in the worst state of all istiods; one that another istiod has not taken up is not in step.
pub fn reads(answers: &[PodAnswer<BTreeMap<ClusterId, ReadState>>]) -> Reported<Vec<Read>> {
    shown(every(Component::Istiod, answers).map(|all| {
        let ids: BTreeSet<&ClusterId> = all.iter().flat_map(|one| one.keys()).collect();
        let state = |id: &ClusterId| {
            let states = all.iter().map(|one| one.get(id).copied().unwrap_or(ReadState::Syncing));
            states.reduce(worse).unwrap_or(ReadState::Syncing)
        };
        ids.into_iter().map(|id| Read { cluster_id: id.clone(), state: state(id) }).collect()
    }))
}

/// Roots that every istiod has in effect; its own ones it always has.
pub fn trusts(
    answers: &[PodAnswer<BTreeSet<Digest>>],
    own: &Result<BTreeSet<Digest>, EvidenceError>,
) -> Reported<BTreeSet<Digest>> {
    shown(every(Component::Istiod, answers).and_then(|all| {
        let own = own.clone()?;
        let common =
            all.iter().skip(1).fold(all.first().map(|first| (*first).clone()).unwrap_or_default(), |common, one| {
                common.intersection(one).copied().collect()
            });
        Ok(common.union(&own).copied().collect())
    }))
}

/// Networks in effect in every istiod. Where names are configured, istiod shows the addresses behind them: the names count as
/// live as soon as there are such addresses.
pub fn networks(
    answers: &[PodAnswer<BTreeMap<NetworkName, BTreeSet<Gateway>>>],
    configured: &Result<Configured, EvidenceError>,
) -> Reported<Vec<LiveNetwork>> {
    shown(every(Component::Istiod, answers).and_then(|all| {
        let configured = configured.as_ref().map_err(Clone::clone)?;
        let names: BTreeSet<&NetworkName> = all.iter().flat_map(|one| one.keys()).collect();
        let empty = BTreeSet::new();
        let live = |name: &NetworkName| {
            let configured = configured.get(name.as_str()).unwrap_or(&empty);
            let mut seen = all.iter().map(|one| named(one.get(name).unwrap_or(&empty), configured));
            let first = seen.next().unwrap_or_default();
            seen.fold(first, |common, one| common.intersection(&one).cloned().collect())
        };
        let networks = names.into_iter().map(|name| (name.clone(), live(name)));
        let networks = networks.filter(|(_, gateways)| !gateways.is_empty());
        Ok(networks.map(|(name, gateways)| LiveNetwork { name, gateways: gateways.into_iter().collect() }).collect())
    }))
}

/// Gateways that an istiod shows, with names in the place of the addresses that it resolved them to.
fn named(seen: &BTreeSet<Gateway>, configured: &BTreeSet<Gateway>) -> BTreeSet<Gateway> {
    let is_name = |gateway: &&Gateway| matches!(gateway.address, Host::Name(_));
    let names: Vec<&Gateway> = configured.iter().filter(is_name).collect();
    if names.is_empty() {
        return seen.clone();
    }
    let (literal, resolved): (BTreeSet<_>, BTreeSet<_>) =
        seen.iter().partition(|gateway| configured.contains(*gateway));
    let live = names.into_iter().filter(|name| resolved.iter().any(|gateway| gateway.port == name.port));
    literal.into_iter().chain(live).cloned().collect()
}

/// Both switches are in every istiod, in the Deployments that make the next ones, and no proxy awaits its restart. The
/// switch that names our ConfigMap is wanted once that is there.
pub fn prepared(
    deployments: Result<Vec<&Istiod>, Unread>,
    pods: Result<Vec<&Istiod>, Unread>,
    shared: Result<bool, Unread>,
    lacking: Result<usize, EvidenceError>,
) -> Reported<bool> {
    let judge = || {
        let (deployments, pods, shared) = (deployments?, pods?, shared?);
        if pods.is_empty() {
            return Err(EvidenceError::NoPod { of: Component::Istiod });
        }
        let modes = deployments.iter().chain(&pods).flat_map(|istiod| &istiod.modes);
        if let Some(mode) = modes.copied().find(|mode| mode.hinders_all()) {
            return Err(EvidenceError::Mode { mode });
        }
        let named = |istiod: &Istiod| istiod.shared_mesh_config.as_deref() == Some(SHARED_MESH_CONFIG);
        let switched = |istiod: &&Istiod| istiod.multiroot && (!shared || named(istiod));
        if !deployments.iter().chain(&pods).all(switched) {
            return Ok(false);
        }
        Ok(lacking? == 0)
    };
    shown(judge())
}

/// Every istiod, and the Deployments that make the next ones, has the token that a strict relay asks for.
pub fn relay_token(deployments: Result<Vec<&Istiod>, Unread>, pods: Result<Vec<&Istiod>, Unread>) -> Reported<bool> {
    let judge = || {
        let (deployments, pods) = (deployments?, pods?);
        if pods.is_empty() {
            return Err(EvidenceError::NoPod { of: Component::Istiod });
        }
        Ok(deployments.iter().chain(&pods).all(|istiod| istiod.relay_token))
    };
    shown(judge())
}

/// The key that each peer used last, at any api-proxy.
pub fn credentials(answers: &[PodAnswer<Vec<Sample>>]) -> Reported<Vec<CredentialUse>> {
    shown(every(Component::Proxy, answers).map(|all| {
        let mut newest: BTreeMap<_, (f64, CredentialUse)> = BTreeMap::new();
        for sample in all.into_iter().flatten() {
            let label = |name: &str| sample.labels.get(name).map(String::as_str).unwrap_or_default();
            let (Ok(uuid), Ok(key_id)) = (label("cluster_uuid").parse(), label("key_id").parse()) else { continue };
            // seconds, which a float holds exactly for as long as it matters
            #[allow(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
            let last_used = Some(sample.value as i64).filter(|seconds| *seconds > 0);
            let used = CredentialUse { cluster_uuid: uuid, key_id, last_used };
            let entry = newest.entry(used.cluster_uuid.clone()).or_insert((f64::MIN, used.clone()));
            if sample.value > entry.0 {
                *entry = (sample.value, used);
            }
        }
        newest.into_values().map(|(_, used)| used).collect()
    }))
}

/// Routes: one works when every relay reports that it does.
pub fn routes(answers: &[PodAnswer<Vec<Sample>>]) -> Reported<Vec<LiveRoute>> {
    shown(every(Component::Relay, answers).map(|all| {
        let relays = all.len();
        let mut found: BTreeMap<_, Vec<(bool, String)>> = BTreeMap::new();
        for sample in all.into_iter().flatten() {
            let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
            let (Ok(id), Ok(host)) = (label("cluster_id").parse(), label("api_host").parse()) else { continue };
            let samples: (ClusterId, crate::types::address::ApiHost) = (id, host);
            found.entry(samples).or_default().push((sample.value > 0.0, label("reason")));
        }
        let route = |((cluster_id, api_host), samples): ((ClusterId, _), Vec<(bool, String)>)| {
            let refused = samples.iter().find(|(up, _)| !up).map(|(_, reason)| reason.clone());
            let reason =
                refused.or_else(|| (samples.len() < relays).then(|| "a relay does not have it yet".to_owned()));
            let state = if reason.is_some() { RouteState::Failed } else { RouteState::Ok };
            LiveRoute { cluster_id, api_host, state, reason: reason.filter(|reason| !reason.is_empty()) }
        };
        found.into_iter().map(route).collect()
    }))
}

/// Digests of the cluster's own roots.
pub fn own_roots(pem: &str) -> Result<BTreeSet<Digest>, CertificateError> {
    let roots = parse_roots_any_time(pem)?;
    Ok(roots.into_iter().map(|root| root.digest).collect())
}
