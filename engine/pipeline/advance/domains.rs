//! Trust domains of peers. Where every istiod of a reader reads the trust domains that stand beside a root, that is enough.
//! Older ones need an alias, which makes identities of two domains one in every policy of the reader: it is written only where
//! the spec states it, and one that is there stays until the spec says otherwise.

use std::collections::BTreeMap;

use crate::model::known::KnownCluster;
use crate::model::lock::{Lock, LockedLink};
use crate::model::mesh::{Cluster, Mesh, MeshConfigTarget, Reconciler};
use crate::pipeline::advance::links::Links;
use crate::pipeline::advance::reasons::{AdvanceRefusal, DomainLack};
use crate::types::name::{ClusterName, TrustDomain};
use crate::types::step::{StepId, StepKind};
use crate::wire::metadata::IstioFacts;

/// The first release of Istio that accepts the trust domains beside a root.
const ACCEPTS_DOMAINS_OF_ROOTS: (u32, u32) = (1, 29);

/// Whether aliases of the cluster are written, here or by its agent.
fn has_mesh_config(cluster: &Cluster) -> bool {
    cluster.istio.config != MeshConfigTarget::None
}

/// Whether aliases of the cluster are written here.
fn is_written_here(cluster: &Cluster) -> bool {
    cluster.reconciler == Reconciler::Rendered && has_mesh_config(cluster)
}

/// The version of an Istio that accepts another trust domain by an alias alone; `None`: a newer one, or no one knows.
fn older_version<'a>(known: &KnownCluster<'a>) -> Option<&'a str> {
    let istio = known.locked.public.istio.as_ref()?;
    let is_older = istio.release()? < ACCEPTS_DOMAINS_OF_ROOTS;
    istio.version.as_deref().filter(|_| is_older)
}

/// Why a reader would not accept identities of a peer. `merged` is what the lock says of the link; `None`: there is none.
pub(super) fn lack(reader: &KnownCluster<'_>, peer: &KnownCluster<'_>, merged: Option<bool>) -> Option<DomainLack> {
    let stated = reader.cluster.merge_trust_domains;
    let is_needless = !is_written_here(reader.cluster) || reader.trust_domain() == peer.trust_domain();
    if is_needless || merged.unwrap_or(stated == Some(true)) {
        return None;
    }
    if stated == Some(true) {
        return Some(DomainLack::AliasNotWritten);
    }
    if let Some(version) = older_version(reader) {
        return Some(DomainLack::Older { version: version.to_owned() });
    }
    let release = reader.locked.public.istio.as_ref().and_then(IstioFacts::release);
    (release.is_none() && stated.is_none()).then_some(DomainLack::VersionUnknown)
}

impl Links<'_> {
    /// Notes of each link whether its reader is to have an alias for the peer's trust domain.
    pub(super) fn merge_domains(&mut self) {
        let mesh = self.mesh;
        for (name, cluster) in &mesh.clusters {
            // whoever has it writes the alias on, and so does this checkout once it has it again; an agent does what its spec says
            if self.keeps_stages(name) || !matches!(cluster.reconciler, Reconciler::Rendered | Reconciler::Agent) {
                continue;
            }
            let lock = &self.advanced.lock;
            let Some(reader) = KnownCluster::of(mesh, lock, name) else { continue };
            let (own, older) = (reader.trust_domain(), older_version(&reader));
            let mut still_needed = None;
            let wanted = |(peer, link): (&ClusterName, &LockedLink)| {
                let stated = cluster.merge_trust_domains;
                if !link.merged && stated != Some(true) {
                    return None;
                }
                let domain = KnownCluster::of(mesh, lock, peer)?.trust_domain();
                let differs = has_mesh_config(cluster) && domain != own;
                let merged = match (stated, older) {
                    (Some(true) | None, _) => differs,
                    (Some(false), None) => false,
                    (Some(false), Some(version)) => {
                        if differs {
                            still_needed = Some((domain, version.to_owned()));
                        }
                        differs
                    }
                };
                Some((peer.clone(), merged))
            };
            let wanted: BTreeMap<ClusterName, bool> = lock.links_of(name).filter_map(wanted).collect();
            for (peer, link) in self.advanced.lock.links.get_mut(name).into_iter().flatten() {
                link.merged = wanted.get(peer).copied().unwrap_or(link.merged);
            }
            if let Some((domain, version)) = still_needed {
                let refusal = AdvanceRefusal::AliasStillNeeded { cluster: name.clone(), domain, version };
                self.advanced.refusals.insert(StepId::of(StepKind::RenderTrust, name), refusal);
            }
        }
    }
}

/// What a reviewer should know of trust domains: which identities are one, which are so no longer, and which are not accepted.
pub fn notes(mesh: &Mesh, before: &Lock, lock: &Lock) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, cluster) in mesh.clusters.iter().filter(|(_, cluster)| is_written_here(cluster)) {
        let Some(reader) = KnownCluster::of(mesh, lock, name) else { continue };
        let merged = domains(mesh, lock, &reader, |link| link.merged);
        for domain in merged.keys() {
            let way_out = match cluster.merge_trust_domains {
                Some(true) => "",
                Some(false) | None => "; `mergeTrustDomains: false` ends that",
            };
            notes.push(format!(
                "identities of trust domain `{domain}` are one with those of `{}` in every AuthorizationPolicy of `{name}`{way_out}",
                reader.trust_domain()
            ));
        }
        let ended =
            KnownCluster::of(mesh, before, name).map(|reader| domains(mesh, before, &reader, |link| link.merged));
        for domain in ended.unwrap_or_default().into_keys().filter(|domain| !merged.contains_key(domain)) {
            notes.push(format!(
                "policies of `{name}` for trust domain `{}` no longer speak of identities of `{domain}`",
                reader.trust_domain()
            ));
        }
        let Some(version) = older_version(&reader) else { continue };
        for (domain, peer) in domains(mesh, lock, &reader, |link| !link.merged && link.stage.has_network()) {
            if !merged.contains_key(&domain) {
                notes.push(format!(
                    "Istio {version} of `{name}` does not accept trust domain `{domain}` of `{peer}`; set `mergeTrustDomains: \
                     true`, or run 1.29 or newer"
                ));
            }
        }
    }
    notes
}

/// Other trust domains of a reader's links, each with one of its clusters.
fn domains(
    mesh: &Mesh,
    lock: &Lock,
    reader: &KnownCluster<'_>,
    of: impl Fn(&LockedLink) -> bool,
) -> BTreeMap<TrustDomain, ClusterName> {
    let own = reader.trust_domain();
    let links = lock.links_of(&reader.cluster.name).filter(|(_, link)| of(link));
    let found = links.filter_map(|(peer, _)| Some((KnownCluster::of(mesh, lock, peer)?.trust_domain(), peer.clone())));
    found.filter(|(domain, _)| *domain != own).collect()
}
