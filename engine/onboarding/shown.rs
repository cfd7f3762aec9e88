//! What a cluster shows of its Istio, gathered from its answers.
//!
//! The same objects as the exporter's, read by its own types.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::cluster::unread::ReadError;
use crate::cluster::watched::{Meta, Objects, SourceState, WatchScope, Watchable as _};
use crate::istio::gateways::{
    FoundGateways, GatewayError, GatewayService, Hosts, NETWORK_LABEL, WireNode, WireService, behind_nodes, gateways,
    network_of,
};
use crate::istio::installed::{ISTIOD, ROOT_CA, cluster_id, istio};
use crate::istio::mesh_config::{
    SHARED_MESH_CONFIG, injector_config_map, mesh_config, parse_mesh_networks, standard_config_map,
};
use crate::istio::objects::{Istiod, MeshMap, WireDatedConfigMap, WireDeployment, WireMeshMap, WireNamespace, WirePod};
use crate::onboarding::asking::Asking;
use crate::onboarding::marks::installer;
use crate::onboarding::secrets::{WireRootSecret, WireSecret};
use crate::onboarding::survey::{FoundIn, Installed, Installer, RemoteSecret, Survey, SurveyError};
use crate::types::address::{ApiHost, Host};
use crate::types::certificate::{CertificateError, RootCertificate, parse_roots_any_time};
use crate::types::name::Namespace;
use crate::types::object::REMOTE_SECRET_LABEL;
use crate::types::time::Timestamp;
use crate::wire::identity::{IDENTITY, IDENTITY_FILE, Identity};
use crate::wire::names::{EXPORTER, PROXY, UUID_NAMESPACE};

/// Annotation of Istio's namespace in a cluster without an istiod: whose istiod acts for it.
pub(super) const CONTROL_PLANES: &str = "topology.istio.io/controlPlaneClusters";

impl Asking {
    /// What the cluster shows; nothing, where it has no istiod.
    pub(super) async fn survey(
        &self,
        context: &str,
        server: &str,
        now: Timestamp,
    ) -> Result<Option<Survey>, ReadError> {
        let istiods = self.list::<WireDeployment>(&WatchScope::labelled("/apis/apps/v1/deployments", ISTIOD)).await?;
        let mut planes: BTreeMap<String, Vec<(Istiod, Installer)>> = BTreeMap::new();
        for deployment in istiods {
            let meta = deployment.meta();
            let installer = installer(meta);
            let namespace = meta.namespace.clone();
            if let Some(istiod) = deployment.keep() {
                planes.entry(namespace).or_default().push((istiod, installer));
            }
        }
        let Some(namespace) = chosen(&planes) else { return Ok(None) };
        let plane = planes.remove(namespace.as_str()).unwrap_or_default();
        let installer = plane.first().map_or(Installer::Helm, |(_, installer)| *installer);
        let istiods: Vec<Istiod> = plane.into_iter().map(|(istiod, _)| istiod).collect();
        let facts = istio(&istiods, &namespace);
        let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
        let (kube_system, own, roots, standard, services, secrets, ours, injected) = tokio::join!(
            self.one::<WireNamespace>("/api/v1/namespaces", UUID_NAMESPACE),
            self.one::<WireNamespace>("/api/v1/namespaces", namespace.as_str()),
            self.roots(&namespace, &maps, now),
            self.standard(&maps, &istiods),
            self.gateways(),
            self.secrets(&namespace),
            self.installed(&namespace, &maps),
            self.injected_network(&maps, &istiods),
        );
        let uuid = match kube_system {
            Ok(Some(found)) => found.uid.parse().map_err(SurveyError::Uid),
            Ok(None) => Err(SurveyError::NoKubeSystem),
            Err(error) => Err(error.into()),
        };
        let says = |get: fn(&MeshMap) -> Option<&String>| {
            let maps = standard.iter().filter_map(|(name, map)| Some((name, map.present()?)));
            maps.into_iter().find_map(|(name, map)| Some((name, get(map)?.clone())))
        };
        let own_cluster = cluster_id(&istiods);
        let label = || {
            let network = own.ok().flatten()?.network.as_ref()?.parse().ok()?;
            Some(FoundIn::new(network, format!("label {NETWORK_LABEL} of namespace {namespace}")))
        };
        let meshes = says(|map| map.mesh_networks.as_ref());
        let configured = || {
            let (id, (map, text)) = (own_cluster.as_ref().ok()?, meshes.as_ref()?);
            let networks = parse_mesh_networks(text);
            let (name, _) = networks.iter().find(|(_, (_, registries))| registries.contains(id.as_str()))?;
            Some(FoundIn::new(name.parse().ok()?, format!("meshNetworks of ConfigMap {map}")))
        };
        let trust_domain = says(|map| map.trust_domain.as_ref());
        let Gateways { found, services: gateway_services, network: of_gateways, unlabelled } = services;
        let by_gateways = || {
            let services = gateway_services.join(", ");
            Some(FoundIn::new(of_gateways?.parse().ok()?, format!("label {NETWORK_LABEL} of Service {services}")))
        };
        let injected = || {
            let (map, network) = injected?;
            Some(FoundIn::new(network.parse().ok()?, format!("global.network of ConfigMap {map}")))
        };
        Ok(Some(Survey {
            context: context.to_owned(),
            server: server.to_owned(),
            uuid,
            other_namespaces: planes.into_keys().collect(),
            revisions: facts.revisions,
            version: facts.version,
            installer,
            modes: facts.modes,
            switched: istiods.iter().all(is_switched),
            network: label().or_else(configured).or_else(by_gateways).or_else(injected),
            gateways: found,
            gateway_services,
            unlabelled,
            roots,
            trust_domain: trust_domain
                .and_then(|(name, domain)| Some(FoundIn::new(domain.parse().ok()?, format!("ConfigMap {name}")))),
            mesh_id: says(|map| map.mesh_id.as_ref()).and_then(|(_, id)| id.parse().ok()),
            own_roots: mesh_config(&standard).map(|config| config.ca_certificates),
            own_networks: meshes.is_some_and(|(_, text)| !parse_mesh_networks(&text).is_empty()),
            installed: ours,
            secrets,
            cluster_id: own_cluster,
            namespace,
        }))
    }

    /// The namespace that says that another cluster's istiod acts for this one, and which.
    pub(super) async fn control_planes(&self) -> Option<(String, String)> {
        let namespaces = self.list::<NamedObject>(&WatchScope::all("/api/v1/namespaces")).await.ok()?;
        namespaces.into_iter().find_map(|NamedObject { metadata }| {
            let clusters = metadata.annotations.get(CONTROL_PLANES).filter(|clusters| !clusters.is_empty())?.clone();
            Some((metadata.name, clusters))
        })
    }

    /// The cluster's roots: the ConfigMap that istiod gives each namespace, else the public entry of `cacerts`.
    async fn roots(
        &self,
        namespace: &Namespace,
        maps: &str,
        now: Timestamp,
    ) -> Result<FoundIn<Vec<RootCertificate>>, SurveyError> {
        let (name, file) = ROOT_CA;
        let map = self.one::<WireDatedConfigMap>(maps, name).await?;
        if let Some(text) = map.as_ref().and_then(|map| map.data.get(file)) {
            return Ok(FoundIn::new(valid(text, now)?, format!("ConfigMap {namespace}/{name}")));
        }
        let place = WatchScope::named(format!("/api/v1/namespaces/{namespace}/secrets"), "cacerts");
        let secret = self.list::<WireRootSecret>(&place).await?.into_iter().next();
        let root = secret.and_then(WireRootSecret::into_root);
        let root = root.ok_or_else(|| SurveyError::NoRoot { namespace: namespace.clone() })?;
        let text = BASE64.decode(root).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        Ok(FoundIn::new(valid(&text, now)?, format!("Secret {namespace}/cacerts, root-cert.pem")))
    }

    /// The standard mesh configuration of each revision.
    async fn standard(&self, maps: &str, istiods: &[Istiod]) -> BTreeMap<String, SourceState<Arc<MeshMap>>> {
        let mut all = BTreeMap::new();
        for istiod in istiods {
            let revision = istiod.revision.as_str();
            let name = standard_config_map(revision);
            if all.contains_key(&name) {
                continue;
            }
            let source = match self.one::<WireMeshMap>(maps, &name).await {
                Ok(Some(map)) => SourceState::Present(map),
                Ok(None) => SourceState::Absent,
                Err(reason) => SourceState::Failed(reason),
            };
            all.insert(name, source);
        }
        all
    }

    /// The network that is injected into proxies, and the ConfigMap that states it.
    async fn injected_network(&self, maps: &str, istiods: &[Istiod]) -> Option<(String, String)> {
        let name = injector_config_map(istiods.first()?.revision.as_str());
        let map = self.one::<WireDatedConfigMap>(maps, &name).await.ok().flatten()?;
        let values: serde_json::Value = serde_json::from_str(map.data.get("values")?).ok()?;
        let network = values.pointer("/global/network")?.as_str().filter(|network| !network.is_empty())?;
        Some((name, network.to_owned()))
    }

    /// East-west gateways.
    async fn gateways(&self) -> Gateways {
        let services = self.objects::<WireService>(&WatchScope::labelled("/api/v1/services", NETWORK_LABEL)).await;
        let by_name =
            self.list::<NamedObject>(&WatchScope::labelled("/api/v1/services", "istio=eastwestgateway")).await;
        let services = match services {
            Ok(services) => services,
            Err(error) => {
                let found = Err(GatewayError::NotListed(error));
                return Gateways { found, services: Vec::new(), network: None, unlabelled: Vec::new() };
            }
        };
        let name = |(namespace, name): &(String, String)| format!("{namespace}/{name}");
        let names: Vec<String> = services.keys().map(name).collect();
        let by_name = by_name.unwrap_or_default().into_iter().map(|one| (one.metadata.namespace, one.metadata.name));
        let unlabelled = by_name.filter(|key| !services.contains_key(key)).map(|key| name(&key)).collect();
        let network = network_of(&services).map(str::to_owned);
        let found = self.addresses(services).await;
        Gateways { found, services: names, network, unlabelled }
    }

    async fn addresses(&self, services: Objects<GatewayService>) -> FoundGateways {
        let (mut nodes, mut hosts) = (SourceState::NotYet, Hosts::new());
        if behind_nodes(&services) {
            nodes = match self.objects::<WireNode>(&WatchScope::all("/api/v1/nodes")).await {
                Ok(found) => SourceState::Present(found),
                Err(reason) => SourceState::Failed(reason),
            };
            for (key, service) in services.iter().filter(|(_, service)| service.is_behind_nodes()) {
                let labels: Vec<_> = service.selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let place = WatchScope::labelled(format!("/api/v1/namespaces/{}/pods", key.0), &labels.join(","));
                let source = match self.list::<WirePod>(&place).await {
                    Ok(_) if labels.is_empty() => SourceState::Failed(ReadError::NoSelector),
                    Ok(pods) => {
                        SourceState::Present(pods.iter().filter_map(WirePod::ready_on).map(str::to_owned).collect())
                    }
                    Err(reason) => SourceState::Failed(reason),
                };
                hosts.insert(key.clone(), source);
            }
        }
        gateways(&SourceState::Present(services), &nodes, &hosts)
    }

    async fn secrets(&self, namespace: &Namespace) -> Result<Vec<RemoteSecret>, ReadError> {
        let place = WatchScope::labelled(
            format!("/api/v1/namespaces/{namespace}/secrets"),
            &format!("{REMOTE_SECRET_LABEL}=true"),
        );
        let mut secrets: Vec<_> = self.list::<WireSecret>(&place).await?.into_iter().map(WireSecret::keep).collect();
        secrets.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(secrets)
    }

    async fn installed(&self, namespace: &Namespace, maps: &str) -> Installed {
        let identity = self.one::<WireDatedConfigMap>(maps, IDENTITY).await.ok().flatten();
        let identity = identity.and_then(|map| Identity::parse(map.data.get(IDENTITY_FILE)?.as_bytes()).ok());
        let services = format!("/api/v1/namespaces/{namespace}/services");
        let place = WatchScope::labelled(services, &format!("app.kubernetes.io/name in ({EXPORTER},{PROXY})"));
        let services = self.list::<OurService>(&place).await.unwrap_or_default();
        let address = |name: &str| services.iter().find(|one| one.metadata.name == name)?.address();
        Installed {
            authn_key: identity.as_ref().and_then(|known| known.keys.first()).map(|key| key.pem.fingerprint()),
            serving_ca: identity.and_then(|known| certificates(&known.serving_ca?)),
            exporter: address(EXPORTER),
            proxy: address(PROXY),
        }
    }
}

/// Whether istiod is told of our ConfigMap and of several roots.
fn is_switched(istiod: &Istiod) -> bool {
    istiod.multiroot && istiod.shared_mesh_config.as_deref() == Some(SHARED_MESH_CONFIG)
}

/// `istio-system` where there is one, else the first.
fn chosen(planes: &BTreeMap<String, Vec<(Istiod, Installer)>>) -> Option<Namespace> {
    let usual = Namespace::istio_system();
    let names = planes.keys().filter_map(|name| name.parse::<Namespace>().ok());
    let mut names: Vec<Namespace> = names.collect();
    names.sort_by_key(|name| *name != usual);
    names.into_iter().next()
}

/// Roots that have not expired; all, where all have.
fn valid(text: &str, now: Timestamp) -> Result<Vec<RootCertificate>, CertificateError> {
    let all = parse_roots_any_time(text)?;
    let (valid, expired): (Vec<_>, Vec<_>) = all.into_iter().partition(|root| now <= root.not_after);
    let mut roots = if valid.is_empty() { expired } else { valid };
    roots.sort_by_key(|root| root.digest);
    Ok(roots)
}

/// Certificates, each block written anew; nothing, where anything else is among them.
fn certificates(text: &str) -> Option<String> {
    let blocks = pem::parse_many(text).ok()?;
    let all = !blocks.is_empty() && blocks.iter().all(|block| block.tag() == "CERTIFICATE");
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let written = |block: &pem::Pem| pem::encode_config(&pem::Pem::new("CERTIFICATE", block.contents()), config);
    all.then(|| blocks.iter().map(written).collect())
}

/// East-west gateways, as they were found.
struct Gateways {
    found: FoundGateways,
    services: Vec<String>,
    /// The network that all of them lead into.
    network: Option<String>,
    /// Services that lack the label.
    unlabelled: Vec<String>,
}

/// An object of which only the name matters.
#[derive(Deserialize)]
struct NamedObject {
    metadata: Meta,
}

/// A Service of ours, in the part that says where it is reached.
#[derive(Deserialize)]
struct OurService {
    metadata: Meta,
    #[serde(default)]
    status: OurStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct OurStatus {
    load_balancer: OurBalancer,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OurBalancer {
    ingress: Vec<OurIngress>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OurIngress {
    ip: String,
    hostname: String,
}

impl OurService {
    fn address(&self) -> Option<ApiHost> {
        let first = self.status.load_balancer.ingress.first()?;
        let host: Host = if first.hostname.is_empty() { &first.ip } else { &first.hostname }.parse().ok()?;
        Some(ApiHost { host, port: None })
    }
}
