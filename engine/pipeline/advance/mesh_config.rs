//! Mesh configuration that moves from our ConfigMap to a values file while links rest on it.
//!
//! Both are written until the cluster shows that its standard configuration, which the values make, holds in every revision all
//! that the ConfigMap does, and that the roots are in effect. Then the ConfigMap goes.

use std::collections::{BTreeMap, BTreeSet};

use crate::istio::mesh_config::parse_mesh_networks;
use crate::model::known::{KnownCluster, PeerEndpoint};
use crate::model::lock::LockedLink;
use crate::model::mesh::MeshConfigTarget;
use crate::pipeline::advance::gate::seen;
use crate::pipeline::advance::links::Links;
use crate::pipeline::advance::reasons::{LinkWait, StandardLack};
use crate::types::address::Gateway;
use crate::types::name::{Digest, NetworkName};
use crate::types::step::{StepId, StepKind};
use crate::wire::metadata::{EveryRevision, Evidence};

/// What a cluster shows of its standard configuration.
struct Shown<'e> {
    every: &'e EveryRevision,
    trusts: &'e BTreeSet<Digest>,
    /// Networks, with their gateways and registries.
    networks: BTreeMap<String, (BTreeSet<Gateway>, BTreeSet<String>)>,
}

impl Links<'_> {
    /// Leaves our ConfigMap of each cluster whose values are shown to be in effect.
    pub(super) fn move_mesh_config(&mut self) {
        let mesh = self.mesh;
        for name in mesh.clusters.keys() {
            if self.keeps_stages(name) {
                continue;
            }
            let Some(known) = KnownCluster::of(mesh, &self.advanced.lock, name) else { continue };
            let Some(target) = known.moves_mesh_config_to() else { continue };
            if let Err(reason) = self.standard_holds(&known) {
                self.advanced.waits.entry(StepId::of(StepKind::RenderTrust, name)).or_default().push(reason);
                continue;
            }
            let locked = self.advanced.lock.clusters.get_mut(name);
            if let Some(joined) = locked.and_then(|locked| locked.joined_with.as_mut()) {
                joined.spec.istio_config = target;
            }
        }
    }

    /// Whether the standard configuration of a cluster holds all that our ConfigMap does.
    fn standard_holds(&self, own: &KnownCluster<'_>) -> Result<(), LinkWait> {
        let cluster = own.cluster.name.clone();
        let target = own.cluster.moves_mesh_config_to().unwrap_or(MeshConfigTarget::HelmValues);
        let lacks = |lack| LinkWait::StandardConfig { cluster: cluster.clone(), target, lack };
        let evidence = match self.showing(&cluster) {
            Ok(Some(evidence)) => evidence,
            Ok(None) => return Err(lacks(StandardLack::NotPublished)),
            Err(reason) => return Err(LinkWait::Evidence { cluster: cluster.clone(), reason: reason.clone() }),
        };
        let shown = shown(evidence).map_err(lacks)?;
        for (peer, link) in self.advanced.lock.links_of(&cluster) {
            if let Some(peer) = KnownCluster::of(self.mesh, &self.advanced.lock, peer) {
                shown.holds(own, &peer, link).map_err(lacks)?;
            }
        }
        Ok(())
    }
}

fn shown(evidence: &Evidence) -> Result<Shown<'_>, StandardLack> {
    let unknown = |reason: &str| StandardLack::Unknown { reason: reason.to_owned() };
    let standard = seen(&evidence.mesh_config).map_err(unknown)?;
    let trusts = seen(&evidence.trusts).map_err(unknown)?;
    let every = standard.every_revision.as_ref().ok_or(StandardLack::NotPublished)?;
    let networks = standard.mesh_networks.as_deref().filter(|_| every.same_networks);
    Ok(Shown { every, trusts, networks: networks.map(parse_mesh_networks).unwrap_or_default() })
}

impl Shown<'_> {
    fn holds(&self, own: &KnownCluster<'_>, peer: &KnownCluster<'_>, link: &LockedLink) -> Result<(), StandardLack> {
        let (of, domain) = (|| peer.cluster.name.clone(), peer.trust_domain());
        let own_roots: BTreeSet<Digest> = own.locked.public.roots.iter().map(|root| root.digest).collect();
        let mut roots = peer.trusted_roots().map(|root| root.digest).filter(|root| !own_roots.contains(root));
        let has_root = |root: &Digest| {
            let domains = self.every.roots.get(root);
            domains.is_some_and(|domains| domains.contains(&domain)) && self.trusts.contains(root)
        };
        if !roots.all(|root| has_root(&root)) {
            return Err(StandardLack::RootCa { of: of() });
        }
        if link.merged && domain != own.trust_domain() && !self.every.trust_domain_aliases.contains(&domain) {
            return Err(StandardLack::Alias { domain });
        }
        let Some(proxy) = peer.endpoint().filter(|_| link.stage.has_network()) else { return Ok(()) };
        let own_network = own.network();
        let is_direct = peer.cluster.flat_network || own_network.as_ref() == Some(&proxy.network);
        let gateways = if is_direct { BTreeSet::new() } else { gateways(&proxy) };
        if !self.has_network(&proxy.network, peer.cluster_id().as_str(), &gateways) {
            return Err(StandardLack::Network { of: of() });
        }
        if own_network
            .is_some_and(|network| !self.has_network(&network, own.own_cluster_id().as_str(), &BTreeSet::new()))
        {
            return Err(StandardLack::Network { of: own.cluster.name.clone() });
        }
        Ok(())
    }

    /// Whether a cluster ID is in this network and in no other, with these gateways.
    fn has_network(&self, name: &NetworkName, id: &str, wanted: &BTreeSet<Gateway>) -> bool {
        let mut listing = self.networks.iter().filter(|(_, (_, registries))| registries.contains(id));
        let (Some((listed, (gateways, _))), None) = (listing.next(), listing.next()) else { return false };
        listed == name.as_str() && wanted.is_subset(gateways)
    }
}

fn gateways(proxy: &PeerEndpoint) -> BTreeSet<Gateway> {
    proxy.gateways.iter().cloned().collect()
}
