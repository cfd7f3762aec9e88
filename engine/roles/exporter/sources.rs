//! Everything in the cluster that the exporter watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::Notify;

use crate::cluster::unread::ReadError;
use crate::cluster::watched::{Objects, SourceState, WatchScope, Watchable, Watched, watch_place};
use crate::istio::gateways::{GatewayService, NETWORK_LABEL, WireNode, WireService, behind_nodes};
use crate::istio::installed::{ISTIOD, REVOKED, ROOT_CA};
use crate::istio::mesh_config::{SHARED_MESH_CONFIG, standard_config_map};
use crate::istio::objects::{
    Istiod, PodFacts, WireDatedConfigMap, WireDeployment, WireMeshMap, WireNamespace, WirePod,
};
use crate::roles::exporter::collect::SourceTimes;
use crate::roles::exporter::options::ExporterOptions;
use crate::roles::role::Role;
use crate::wire::agent::AGENT;
use crate::wire::hand_over::STATE_MAP;
use crate::wire::identity::IDENTITY;
use crate::wire::names::{PROXY, RELAY, UUID_NAMESPACE};
use crate::wire::peers::PEERS;
use crate::wire::routes::ROUTES;

pub(super) struct Sources {
    pub(super) roots: Watched<<WireDatedConfigMap as Watchable>::Kept>,
    pub(super) revoked: Watched<<WireDatedConfigMap as Watchable>::Kept>,
    pub(super) identity: Watched<<WireDatedConfigMap as Watchable>::Kept>,
    pub(super) peers: Watched<<WireDatedConfigMap as Watchable>::Kept>,
    /// What the agent says of a hand-over, where there is one.
    pub(super) hand_over: Watched<<WireDatedConfigMap as Watchable>::Kept>,
    pub(super) routes: Watched<<WireDatedConfigMap as Watchable>::Kept>,
    pub(super) shared: Watched<<WireMeshMap as Watchable>::Kept>,
    pub(super) standard: BTreeMap<String, Watched<<WireMeshMap as Watchable>::Kept>>,
    pub(super) deployments: Watched<<WireDeployment as Watchable>::Kept>,
    pub(super) istiods: Watched<<WirePod as Watchable>::Kept>,
    pub(super) proxies: Watched<<WirePod as Watchable>::Kept>,
    pub(super) relays: Watched<<WirePod as Watchable>::Kept>,
    pub(super) kube_system: Watched<<WireNamespace as Watchable>::Kept>,
    pub(super) namespace: Watched<<WireNamespace as Watchable>::Kept>,
    /// Services with gateways; `None` where gateways and network are stated.
    services: Option<Watched<<WireService as Watchable>::Kept>>,
    pub(super) nodes: Option<Watched<<WireNode as Watchable>::Kept>>,
    client: Client,
    paths: Paths,
    pub(super) changed: Arc<Notify>,
}

/// Collections of Istio's namespace.
struct Paths {
    config_maps: String,
    pods: String,
}

impl Sources {
    /// Begins to watch. What `options` state is not looked for, and there may be no right to.
    pub(super) fn open(role: &Role, options: &ExporterOptions) -> Self {
        let (client, changed) = (role.access.client.clone(), Arc::new(Notify::new()));
        let in_namespace = |kind: &str| format!("/api/v1/namespaces/{}/{kind}", role.namespace);
        let paths = Paths { config_maps: in_namespace("configmaps"), pods: in_namespace("pods") };
        let map = |name: &str| {
            watch_place::<WireDatedConfigMap>(&client, WatchScope::named(&paths.config_maps, name), &changed)
        };
        let pods = |labels: &str| watch_place::<WirePod>(&client, WatchScope::labelled(&paths.pods, labels), &changed);
        let namespace =
            |name: &str| watch_place::<WireNamespace>(&client, WatchScope::named("/api/v1/namespaces", name), &changed);
        let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", role.namespace);
        Self {
            roots: map(ROOT_CA.0),
            revoked: map(REVOKED.0),
            identity: map(IDENTITY),
            peers: map(PEERS),
            hand_over: map(STATE_MAP),
            routes: map(ROUTES),
            shared: watch_place::<WireMeshMap>(
                &client,
                WatchScope::named(&paths.config_maps, SHARED_MESH_CONFIG),
                &changed,
            ),
            standard: BTreeMap::new(),
            deployments: watch_place::<WireDeployment>(&client, WatchScope::labelled(deployments, ISTIOD), &changed),
            istiods: pods(ISTIOD),
            proxies: pods(&format!("app.kubernetes.io/name={PROXY}")),
            relays: pods(&format!("app.kubernetes.io/name in ({RELAY},{AGENT})")),
            kube_system: namespace(UUID_NAMESPACE),
            namespace: namespace(role.namespace.as_str()),
            services: options.finds_gateways().then(|| {
                let place = WatchScope::labelled("/api/v1/services", NETWORK_LABEL);
                watch_place::<WireService>(&client, place, &changed)
            }),
            nodes: None,
            paths,
            client,
            changed,
        }
    }

    /// Follows what depends on other sources: the mesh configuration of each revision, and nodes where they matter.
    pub(super) fn watch_nodes(
        &mut self,
        deployments: &SourceState<Objects<Istiod>>,
        istiods: &SourceState<Objects<PodFacts>>,
        services: &SourceState<Objects<GatewayService>>,
    ) {
        let mut wanted = BTreeSet::new();
        if let SourceState::Present(deployments) = deployments {
            wanted.extend(deployments.values().map(|istiod| istiod.revision.clone()));
        }
        if let SourceState::Present(pods) = istiods {
            wanted.extend(pods.values().map(|pod| pod.istiod.revision.clone()));
        }
        let wanted: BTreeSet<String> = wanted.iter().map(|revision| standard_config_map(revision)).collect();
        if !wanted.is_empty() {
            self.standard.retain(|name, _| wanted.contains(name));
        }
        for name in wanted {
            let place = WatchScope::named(&self.paths.config_maps, &name);
            let (client, changed) = (&self.client, &self.changed);
            self.standard.entry(name).or_insert_with(|| watch_place::<WireMeshMap>(client, place, changed));
        }
        let by_nodes = services.present().is_some_and(behind_nodes);
        if by_nodes && self.nodes.is_none() {
            self.nodes = Some(watch_place::<WireNode>(&self.client, WatchScope::all("/api/v1/nodes"), &self.changed));
        }
    }

    /// Services with gateways; none where they are not looked for.
    pub(super) fn services(&self) -> SourceState<Objects<GatewayService>> {
        self.services.as_ref().map_or_else(|| SourceState::Present(Objects::new()), Watched::all)
    }

    /// Those without which nothing can be published, by name: what is wrong with each, and its age.
    pub(super) fn required(&self) -> Vec<(&'static str, Option<ReadError>, Option<Duration>)> {
        macro_rules! state {
            ($name:literal, $source:ident) => {
                ($name, self.$source.problem(), self.$source.age())
            };
        }
        let services = self.services.as_ref().map(|services| ("services", services.problem(), services.age()));
        let required = [
            state!("root-ca", roots),
            state!("identity", identity),
            state!("peers", peers),
            state!("deployments", deployments),
            state!("istiod-pods", istiods),
            state!("kube-system", kube_system),
            state!("namespace", namespace),
        ];
        required.into_iter().chain(services).collect()
    }

    /// When each was confirmed, of those that evidence rests on.
    pub(super) fn times(&self, counted: Option<Instant>) -> SourceTimes {
        SourceTimes {
            roots: self.roots.confirmed(),
            peers: self.peers.confirmed(),
            hand_over: self.hand_over.confirmed(),
            routes: self.routes.confirmed(),
            shared: self.shared.confirmed(),
            standard: self.standard.values().filter_map(Watched::confirmed).min(),
            deployments: self.deployments.confirmed(),
            istiods: self.istiods.confirmed(),
            proxies: self.proxies.confirmed(),
            relays: self.relays.confirmed(),
            counted,
        }
    }
}
