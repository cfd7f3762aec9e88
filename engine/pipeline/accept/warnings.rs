//! Warnings of what is in the lock: root CAs that end soon or cannot be told apart, gateways of several networks at one
//! address, ways of running Istio in which a join does not work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::known::KnownCluster;
use crate::model::lock::Lock;
use crate::model::mesh::Mesh;
use crate::types::address::Gateway;
use crate::types::diagnostic::Diagnostic;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, Digest, NetworkName};
use crate::types::time::Timestamp;
use crate::wire::metadata::IstioMode;

/// How long before its end a root CA is warned of.
pub const ROOT_WARNING: Duration = Duration::from_hours(30 * 24);

/// What is odd about root CAs in the lock.
#[derive(Debug)]
enum RootWarning<'a> {
    /// One ends soon, or has ended.
    Ending {
        cluster: &'a ClusterName,
        digest: Digest,
        subject: &'a str,
        /// Whole days until it ends; negative when it has ended.
        days: i64,
    },
    /// Different ones have one subject.
    EqualSubjects { clusters: BTreeSet<&'a ClusterName>, subject: &'a str },
}

impl Explain for RootWarning<'_> {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Ending { cluster, digest, subject, days } => {
                let when = match days {
                    days if *days < 0 => "has expired".to_owned(),
                    1 => "ends in 1 day".to_owned(),
                    days => format!("ends in {days} days"),
                };
                Explanation::new(Code::RootCaEnds, format!("root CA {digest} of `{cluster}` ({subject}) {when}")).hint(
                    "give the cluster a new root beside the old one; the new one is a trust change, to be accepted while both are valid",
                )
            }
            Self::EqualSubjects { clusters, subject } => {
                let names = clusters.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let message = format!(
                    "different root CAs of {names} have one subject, `{subject}`, and not all have a SubjectKeyIdentifier"
                );
                Explanation::new(Code::RootCasShareSubject, message).hint(
                    "a verifier that finds issuers by name may try the wrong root first; give each new root a subject of its own",
                )
            }
        }
    }
}

/// Warnings of roots that end within [`ROOT_WARNING`], or have ended.
pub(super) fn ending_roots(mesh: &Mesh, lock: &Lock, now: Timestamp) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (name, known) in &lock.clusters {
        let at = mesh.clusters.get(name).map(|cluster| cluster.at.clone());
        for root in known.public.roots.iter().filter(|root| root.not_after < now + ROOT_WARNING) {
            let (digest, days) = (root.digest, root.days_left(now));
            let ending = RootWarning::Ending { cluster: name, digest, subject: &root.subject, days };
            warnings.push(Diagnostic::warning(at.clone(), ending));
        }
    }
    warnings
}

/// All warnings of a lock that need no clock.
pub(crate) fn of_lock(mesh: &Mesh, lock: &Lock) -> Vec<Diagnostic> {
    let roots = equal_subjects(lock).into_iter();
    roots.chain(shared_gateways(mesh, lock)).chain(unsuited_modes(mesh, lock)).collect()
}

/// Warnings of different roots of one subject: without a `SubjectKeyIdentifier` issuers are told apart by trial alone.
pub fn equal_subjects(lock: &Lock) -> Vec<Diagnostic> {
    let mut by_subject: BTreeMap<&str, BTreeMap<Digest, (&ClusterName, bool)>> = BTreeMap::new();
    for (name, cluster) in &lock.clusters {
        for root in &cluster.public.roots {
            let same = by_subject.entry(root.subject.as_str()).or_default();
            same.entry(root.digest).or_insert((name, root.has_subject_key_id));
        }
    }
    let doubtful = by_subject.into_iter().filter(|(_, roots)| roots.len() > 1 && roots.values().any(|(_, id)| !id));
    doubtful
        .map(|(subject, roots)| {
            let clusters = roots.values().map(|(name, _)| *name).collect();
            Diagnostic::warning(None, RootWarning::EqualSubjects { clusters, subject })
        })
        .collect()
}

/// An address at which the gateways of several networks are to be reached.
#[derive(Debug)]
struct SharedGateway<'a> {
    gateway: Gateway,
    clusters: Vec<&'a ClusterName>,
}

impl Explain for SharedGateway<'_> {
    fn explanation(&self) -> Explanation {
        let names = self.clusters.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        let message = format!(
            "{names} have different networks and the same gateway {}: traffic for one of them comes to another",
            self.gateway
        );
        Explanation::new(Code::NotUnique, message).hint(
            "state in `gateways` of each Cluster an address at which the others reach it, such as that of its NAT or load balancer",
        )
    }
}

/// Warnings of gateways of several networks at one address, as two sites with the same inner range have.
fn shared_gateways(mesh: &Mesh, lock: &Lock) -> Vec<Diagnostic> {
    let mut by_gateway: BTreeMap<Gateway, Vec<(&ClusterName, NetworkName)>> = BTreeMap::new();
    for cluster in mesh.clusters.values().filter(|cluster| !cluster.flat_network) {
        let Some(proxy) = KnownCluster::of(mesh, lock, &cluster.name).and_then(|known| known.endpoint()) else {
            continue;
        };
        for gateway in proxy.gateways {
            by_gateway.entry(gateway).or_default().push((&cluster.name, proxy.network.clone()));
        }
    }
    let networks = |owners: &[(&ClusterName, NetworkName)]| {
        owners.iter().map(|(_, network)| network.clone()).collect::<BTreeSet<_>>().len()
    };
    let shared = by_gateway.into_iter().filter(|(_, owners)| networks(owners) > 1);
    shared
        .map(|(gateway, owners)| {
            let clusters = owners.into_iter().map(|(name, _)| name).collect();
            Diagnostic::warning(None, SharedGateway { gateway, clusters })
        })
        .collect()
}

/// Istio runs in a way in which something of a join does not work.
#[derive(Debug)]
struct UnsuitedMode<'a> {
    cluster: &'a ClusterName,
    mode: IstioMode,
}

impl Explain for UnsuitedMode<'_> {
    fn explanation(&self) -> Explanation {
        let extent = if self.mode.hinders_all() {
            "its links will not work"
        } else {
            "its workloads in that mode neither reach peers nor are reached by them"
        };
        let message = format!("`{}`: {}: {extent}", self.cluster, self.mode);
        Explanation::new(Code::IstioModeUnsuited, message).hint(self.mode.remedy())
    }
}

/// Warnings of ways in which Istio runs and a join does not work.
fn unsuited_modes(mesh: &Mesh, lock: &Lock) -> Vec<Diagnostic> {
    let clusters = mesh.clusters.values().filter_map(|cluster| Some((cluster, lock.clusters.get(&cluster.name)?)));
    let modes = clusters.flat_map(|(cluster, known)| {
        let modes = known.public.istio.iter().flat_map(|istio| istio.modes.iter().copied());
        modes.map(|mode| {
            let unsuited = UnsuitedMode { cluster: &cluster.name, mode };
            Diagnostic::warning(Some(cluster.at.clone()), unsuited)
        })
    });
    modes.collect()
}
