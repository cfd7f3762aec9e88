//! What concerns several clusters: values that only one may have, and what a link asks of both its ends.

use std::collections::BTreeMap;

use crate::model::mesh::{Mesh, Reconciler};
use crate::pipeline::compile::finding::{CompileFinding, Unique};
use crate::pipeline::compile::{ClusterDraft, Compiler};
use crate::types::address::Endpoint;
use crate::types::diagnostic::{Diagnostic, Location};
use crate::types::name::{ClusterName, NetworkName};

impl Compiler<'_> {
    /// Values that two clusters must not share. Each finding names both places.
    pub(super) fn duplicates(&mut self, drafts: &[ClusterDraft<'_>]) {
        // What of which value, and who states it where.
        let mut stated: BTreeMap<(Unique, String), Vec<(&ClusterName, &Location)>> = BTreeMap::new();
        for draft in drafts {
            let mut state = |what, value: String, at| {
                stated.entry((what, value)).or_default().push((&draft.cluster.name, at));
            };
            state(Unique::Endpoint, draft.cluster.endpoint.to_string(), &draft.endpoint_at);
            let Some(spec) = draft.spec else { continue };
            if let Some(id) = &spec.cluster_id {
                state(Unique::ClusterId, id.value.to_string(), &id.at);
            }
            if let Some(network) = spec.network.as_ref().filter(|_| !draft.cluster.flat_network) {
                state(Unique::Network, network.value.to_string(), &network.at);
            }
            if let Some(uuid) = &spec.pin.cluster_uuid {
                state(Unique::ClusterUuid, uuid.value.to_string(), &uuid.at);
            }
            if let Some(key) = &spec.pin.authn_key {
                state(Unique::AuthnKey, key.value.to_string(), &key.at);
            }
        }
        for ((what, value), mut who) in stated {
            who.sort_by_key(|(_, at)| *at);
            let Some(((first, first_at), others)) = who.split_first() else { continue };
            for (cluster, at) in others {
                self.error(at, &CompileFinding::Shared { what, value: &value, cluster, first, at: first_at });
            }
        }
        self.flat_beside_own(drafts);
    }

    /// A network that one cluster calls flat and another its own.
    fn flat_beside_own(&mut self, drafts: &[ClusterDraft<'_>]) {
        let networks = |flat: bool| {
            let of = drafts.iter().filter(move |draft| draft.cluster.flat_network == flat);
            of.filter_map(|draft| Some((draft.spec?.network.as_ref()?, &draft.cluster.name)))
        };
        // Of several the first by name.
        let flat: BTreeMap<&NetworkName, _> =
            networks(true).map(|(network, name)| (&network.value, (name, &network.at))).rev().collect();
        for (network, cluster) in networks(false) {
            if let Some((other, at)) = flat.get(&network.value) {
                let beside = CompileFinding::FlatBesideOwn { network: &network.value, cluster, other, at };
                self.error(&network.at, &beside);
            }
        }
    }

    /// A service's name holds the domain, so that two domains never merge.
    pub(super) fn cluster_domains(&mut self, drafts: &[ClusterDraft<'_>]) {
        let mut domains = drafts.iter().filter_map(|draft| Some((&draft.cluster, draft.spec?)));
        let Some((first, _)) = domains.next() else { return };
        for (cluster, spec) in domains {
            if cluster.cluster_domain == first.cluster_domain {
                continue;
            }
            let at = spec.cluster_domain.as_ref().map_or(&spec.name.at, |domain| &domain.at);
            let (one, other) = ((&cluster.name, &cluster.cluster_domain), (&first.name, &first.cluster_domain));
            self.error(at, &CompileFinding::ClusterDomains { one, other, at: &first.at });
        }
    }

    /// What a link asks of its ends. Only clusters of which something is asked are looked at, since links are many.
    pub(super) fn links(&mut self, mesh: &Mesh, drafts: &[ClusterDraft<'_>]) {
        let of = |wanted: Reconciler| -> Vec<&ClusterName> {
            let all = drafts.iter().filter(|draft| draft.cluster.reconciler == wanted);
            all.map(|draft| &draft.cluster.name).collect()
        };
        let deckhouses = of(Reconciler::Deckhouse);
        let agents = of(Reconciler::Agent);
        let none_is_ours = !drafts.iter().any(|draft| draft.cluster.is_ours());
        for draft in drafts {
            let cluster = &draft.cluster;
            self.enabled(mesh, draft);
            let endpoint = &cluster.endpoint;
            let is_refused = |reader: &&&ClusterName| {
                let crd = mesh.clusters.get(**reader).map(|reader| reader.crd).unwrap_or_default();
                !endpoint.fits_deckhouse(crd.admits_port()) && mesh.links(reader, &cluster.name)
            };
            // most endpoints fit every revision
            let reader = if endpoint.fits_deckhouse(false) { None } else { deckhouses.iter().find(is_refused) };
            if let Some(reader) = reader {
                let finding = match endpoint {
                    Endpoint::Https { port, .. } if endpoint.fits_deckhouse(true) => {
                        CompileFinding::EndpointPort { port: *port, reader }
                    }
                    Endpoint::Https { host, .. } => CompileFinding::EndpointHost { host, reader },
                    Endpoint::File(_) => CompileFinding::EndpointFolder { reader },
                };
                self.error(&draft.endpoint_at, &finding);
            }
            self.agent(mesh, draft, &agents);
            if draft.spec.is_none() && none_is_ours {
                let finding = CompileFinding::PeerOfNoCluster { cluster: &cluster.name };
                self.findings.push(Diagnostic::warning(Some(cluster.at.clone()), finding));
            }
        }
    }

    /// What an agent can read and write, and may be given.
    fn agent(&mut self, mesh: &Mesh, draft: &ClusterDraft<'_>, agents: &[&ClusterName]) {
        let cluster = &draft.cluster;
        let reads = |agent: &&&ClusterName| **agent == &cluster.name || mesh.links(agent, &cluster.name);
        if matches!(cluster.endpoint, Endpoint::File(_))
            && let Some(reader) = agents.iter().find(reads)
        {
            self.error(&draft.endpoint_at, &CompileFinding::AgentFolder { reader });
        }
        let Some(spec) = draft.spec.filter(|_| cluster.reconciler == Reconciler::Agent) else { return };
        if let Some(config) = spec.istio.config.as_ref().filter(|config| config.value.is_values()) {
            self.error(&config.at, &CompileFinding::AgentConfig { cluster: &cluster.name });
        }
        let policy = spec.multicluster.as_ref().and_then(|stated| stated.value.admission_policy.as_ref());
        if let Some(policy) = policy.filter(|policy| !policy.value) {
            self.error(&policy.at, &CompileFinding::AgentUnheld { cluster: &cluster.name });
        }
    }

    /// A cluster without components has no links.
    fn enabled(&mut self, mesh: &Mesh, draft: &ClusterDraft<'_>) {
        let name = &draft.cluster.name;
        let stated = draft.spec.and_then(|spec| spec.multicluster.as_ref()?.value.enabled.as_ref());
        let Some(off) = stated.filter(|enabled| !enabled.value && draft.cluster.is_ours()) else { return };
        if let Some(peer) = mesh.peers_of(name).next() {
            self.error(&off.at, &CompileFinding::NoComponents { cluster: name, peer: &peer.name });
        }
    }
}
