//! The parts of Kubernetes objects that the exporter reads, and what it keeps of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::cluster::watched::{Meta, Watchable};
use crate::istio::gateways::{ObjectCondition, is_ready};
use crate::types::certificate::parse_roots_any_time;
use crate::types::name::{Digest, Revision, TrustDomain};
use crate::types::time::Timestamp;
use crate::types::yaml::{self, MAX_OBJECT, MAX_TEXT};
use crate::wire::metadata::IstioMode;
use crate::wire::names::{RELAY_AUDIENCE, RELAY_TOKEN};

/// Label of a revision of istiod, and of a pod that is injected by one.
const REVISION_LABEL: &str = "istio.io/rev";
const VERSION_LABEL: &str = "app.kubernetes.io/version";
const PROXY_CONTAINER: &str = "istio-proxy";
/// Variable of istiod that lets it take more than one root.
pub const MULTIROOT: &str = "ISTIO_MULTIROOT_MESH";
/// Variable of istiod that lists what kubeconfigs of remote secrets may have (istio.io/istio `pkg/kube/multicluster/secretcontroller.go`).
pub const KUBECONFIG_OPTIONS: &str = "PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS";
/// Variable of a proxy that lets it take foreign roots while it runs.
pub const XDS_AGENT: &str = "PROXY_CONFIG_XDS_AGENT";
/// The whole configuration of a proxy, as injection writes it.
const PROXY_CONFIG: &str = "PROXY_CONFIG";
const PROXY_CONFIG_ANNOTATION: &str = "proxy.istio.io/config";

/// A ConfigMap, and when its data was last written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatedConfigMap {
    pub data: BTreeMap<String, String>,
    /// When one of its writers last changed it; `None` where the apiserver does not say.
    pub written: Option<Timestamp>,
}

/// A ConfigMap on the wire.
#[derive(Debug, Clone, Deserialize)]
pub struct WireDatedConfigMap {
    metadata: Meta,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

impl Watchable for WireDatedConfigMap {
    type Kept = DatedConfigMap;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self) -> Option<DatedConfigMap> {
        let writers = self.metadata.managed_fields.iter().filter(|writer| writer.fields_v1.contains("f:data"));
        let times = writers.filter_map(|writer| writer.time.as_ref()?.parse::<Timestamp>().ok());
        let written = times.max();
        Some(DatedConfigMap { data: self.data.unwrap_or_default(), written })
    }
}

/// What is kept of a ConfigMap with Istio's mesh configuration, which may hold a thousand roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshMap {
    /// Whether its `mesh` has `caCertificates`; or why that cannot be determined.
    pub ca_certificates: Result<bool, NotYaml>,
    /// `trustDomain` of its `mesh`.
    pub trust_domain: Option<String>,
    /// `defaultConfig.meshId` of its `mesh`.
    pub mesh_id: Option<String>,
    /// `meshNetworks`.
    pub mesh_networks: Option<String>,
    /// Trust domains of each root in its `caCertificates`, by the SHA-256 of its DER.
    pub roots: BTreeMap<Digest, BTreeSet<TrustDomain>>,
    /// `trustDomainAliases` of its `mesh`.
    pub trust_domain_aliases: BTreeSet<TrustDomain>,
}

/// A mesh configuration that is no YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its `mesh` is no YAML")]
pub struct NotYaml;

/// Such a ConfigMap on the wire.
#[derive(Debug, Clone, Deserialize)]
pub struct WireMeshMap(WireDatedConfigMap);

impl Watchable for WireMeshMap {
    type Kept = MeshMap;

    fn meta(&self) -> &Meta {
        &self.0.metadata
    }

    fn keep(self) -> Option<MeshMap> {
        let mut data = self.0.data.unwrap_or_default();
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
        let mesh = yaml::value(&data.remove("mesh").unwrap_or_default(), MAX_OBJECT).map_err(|_| NotYaml);
        let ca_certificates =
            mesh.as_ref().map(|mesh| !list(mesh, "caCertificates").is_empty()).map_err(|error| *error);
        let mesh = mesh.unwrap_or_default();
        Some(MeshMap {
            ca_certificates,
            trust_domain: text(&mesh, "trustDomain"),
            mesh_id: mesh.get("defaultConfig").and_then(|config| text(config, "meshId")),
            mesh_networks: data.remove("meshNetworks"),
            roots: roots_of_mesh(&mesh),
            trust_domain_aliases: trust_domain_aliases(&mesh),
        })
    }
}

/// Trust domains of each root in `caCertificates` of a mesh configuration, by the SHA-256 of its DER.
pub fn roots_of_mesh(mesh: &Value) -> BTreeMap<Digest, BTreeSet<TrustDomain>> {
    list(mesh, "caCertificates").iter().filter_map(root).collect()
}

/// `trustDomainAliases` of a mesh configuration.
pub fn trust_domain_aliases(mesh: &Value) -> BTreeSet<TrustDomain> {
    domains(mesh, "trustDomainAliases")
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn domains(value: &Value, key: &str) -> BTreeSet<TrustDomain> {
    list(value, key).iter().filter_map(|domain| domain.as_str()?.parse().ok()).collect()
}

/// An entry of `caCertificates`, of whose PEM istiod reads the first block.
fn root(entry: &Value) -> Option<(Digest, BTreeSet<TrustDomain>)> {
    let root = parse_roots_any_time(entry.get("pem")?.as_str()?).ok()?.into_iter().next()?;
    Some((root.digest, domains(entry, "trustDomains")))
}

/// What is kept of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    pub uid: String,
    pub network: Option<String>,
}

/// A namespace on the wire.
#[derive(Debug, Clone, Deserialize)]
pub struct WireNamespace {
    metadata: Meta,
}

impl Watchable for WireNamespace {
    type Kept = NamespaceFacts;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(mut self) -> Option<NamespaceFacts> {
        let network = self.metadata.labels.remove(super::gateways::NETWORK_LABEL).filter(|name| !name.is_empty());
        Some(NamespaceFacts { uid: self.metadata.uid, network })
    }
}

/// An istiod: what its Deployment or its pod says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Istiod {
    /// Its revision, `default` where none is named.
    pub revision: String,
    /// Its version, for example `1.31.1`.
    pub version: Option<String>,
    /// `CLUSTER_ID`.
    pub cluster_id: Option<String>,
    /// `SHARED_MESH_CONFIG`.
    pub shared_mesh_config: Option<String>,
    /// `ISTIO_MULTIROOT_MESH`.
    pub multiroot: bool,
    /// It has the token that a strict relay asks for, and reads kubeconfigs that name its file.
    pub relay_token: bool,
    /// How it runs, where that keeps something of a join from working.
    pub modes: BTreeSet<IstioMode>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    node_name: String,
    volumes: Vec<Volume>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    image: String,
    env: Vec<Variable>,
    #[serde(rename = "volumeMounts")]
    mounts: Vec<Mount>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Mount {
    name: String,
    mount_path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Volume {
    name: String,
    projected: ProjectedVolume,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ProjectedVolume {
    sources: Vec<VolumeSource>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeSource {
    service_account_token: Option<ProjectedToken>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ProjectedToken {
    audience: String,
    path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    value: String,
}

impl Container {
    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.env.iter().find(|variable| variable.name == name).map(|variable| variable.value.as_str());
        value.filter(|value| !value.is_empty())
    }
}

/// Whether Go's `strconv.ParseBool` reads it as true, which is how Istio reads its switches.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// Whether a container has the token that a strict relay asks for, where remote secrets say that it is.
fn has_relay_token(container: &Container, volumes: &[Volume]) -> bool {
    let is_token = |source: &VolumeSource, mount: &Mount| {
        let token = source.service_account_token.as_ref().filter(|token| token.audience == RELAY_AUDIENCE);
        token.is_some_and(|token| format!("{}/{}", mount.mount_path.trim_end_matches('/'), token.path) == RELAY_TOKEN)
    };
    container.mounts.iter().any(|mount| {
        let mut of_mount = volumes.iter().filter(|volume| volume.name == mount.name);
        of_mount.any(|volume| volume.projected.sources.iter().any(|source| is_token(source, mount)))
    })
}

fn istiod(labels: &BTreeMap<String, String>, spec: &PodSpec) -> Istiod {
    let container = spec.containers.iter().find(|one| one.name == "discovery").or(spec.containers.first());
    let variable = |name: &str| container.and_then(|one| one.variable(name)).map(ToOwned::to_owned);
    let tag = || {
        let image = container?.image.split('@').next()?;
        let (_, tag) = image.rsplit('/').next()?.split_once(':')?;
        // a build without proxy tools is named by a suffix
        Some(tag.trim_end_matches("-distroless").trim_end_matches("-debug").to_owned())
    };
    let is_version = |text: &String| text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.');
    Istiod {
        revision: labels
            .get(REVISION_LABEL)
            .cloned()
            .or_else(|| variable("REVISION"))
            .unwrap_or_else(|| Revision::UNNAMED.to_owned()),
        version: labels.get(VERSION_LABEL).cloned().filter(is_version).or_else(|| tag().filter(is_version)),
        cluster_id: variable("CLUSTER_ID"),
        shared_mesh_config: variable("SHARED_MESH_CONFIG"),
        multiroot: variable(MULTIROOT).is_some_and(|value| is_true(&value)),
        relay_token: variable(KUBECONFIG_OPTIONS)
            .is_some_and(|options| options.split(',').any(|one| one == "tokenFile"))
            && container.is_some_and(|container| has_relay_token(container, &spec.volumes)),
        modes: {
            let is_on = |name: &str| variable(name).is_some_and(|value| is_true(&value));
            let modes = [
                (IstioMode::Ambient, is_on("PILOT_ENABLE_AMBIENT")),
                (IstioMode::ExternalControlPlane, is_on("EXTERNAL_ISTIOD")),
                (IstioMode::KubeconfigFolder, variable("PILOT_MULTICLUSTER_KUBECONFIG_PATH").is_some()),
            ];
            modes.into_iter().filter(|(_, is_so)| *is_so).map(|(mode, _)| mode).collect()
        },
    }
}

/// A Deployment of istiod on the wire.
#[derive(Debug, Clone, Deserialize)]
pub struct WireDeployment {
    metadata: Meta,
    #[serde(default)]
    spec: DeploymentSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct DeploymentSpec {
    replicas: Option<u32>,
    template: PodTemplate,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodTemplate {
    spec: PodSpec,
}

impl Watchable for WireDeployment {
    type Kept = Istiod;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    /// One that was scaled to nothing is none.
    fn keep(self) -> Option<Istiod> {
        (self.spec.replicas != Some(0)).then(|| istiod(&self.metadata.labels, &self.spec.template.spec))
    }
}

/// A pod that is asked for evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    pub address: String,
    /// Whether it is ready. One about which no kubelet says anything counts as ready while it runs.
    pub ready: bool,
    /// Its label `app.kubernetes.io/name`.
    pub app: Option<String>,
    /// What it says where it is an istiod.
    pub istiod: Istiod,
}

/// A pod on the wire.
#[derive(Debug, Clone, Deserialize)]
pub struct WirePod {
    metadata: Meta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    conditions: Vec<ObjectCondition>,
}

impl WirePod {
    fn is_ready(&self) -> bool {
        let reported = self.status.conditions.iter().any(|condition| condition.kind == "Ready");
        self.status.phase == "Running" && (!reported || is_ready(&self.status.conditions))
    }

    /// The node of a pod that is ready.
    pub fn ready_on(&self) -> Option<&str> {
        (self.is_ready() && !self.spec.node_name.is_empty()).then_some(self.spec.node_name.as_str())
    }

    /// Whether it has a proxy that cannot take foreign roots until it is started anew. The switch may be in the container's
    /// environment, in the whole configuration that injection writes there, or in the pod's own annotation.
    pub fn lacks_xds_agent(&self) -> bool {
        let containers = self.spec.containers.iter().chain(&self.spec.init_containers);
        let Some(proxy) = containers.into_iter().find(|one| one.name == PROXY_CONTAINER) else { return false };
        let metadata = |text: &str| {
            let config = yaml::value(text, MAX_TEXT).ok();
            let value = config?.get("proxyMetadata")?.get(XDS_AGENT)?.clone();
            Some(value.as_bool().unwrap_or_else(|| value.as_str().is_some_and(is_true)))
        };
        let stated = proxy
            .variable(XDS_AGENT)
            .map(is_true)
            .or_else(|| proxy.variable(PROXY_CONFIG).and_then(metadata))
            .or_else(|| self.metadata.annotations.get(PROXY_CONFIG_ANNOTATION).and_then(|text| metadata(text)));
        stated != Some(true)
    }

    /// What it is known by as long as it is there: another pod of its name has another.
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }
}

impl Watchable for WirePod {
    type Kept = PodFacts;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    /// One that runs and has an address.
    fn keep(self) -> Option<PodFacts> {
        let ready = self.is_ready();
        let runs = self.status.phase == "Running" && !self.status.pod_ip.is_empty();
        let app = self.metadata.labels.get("app.kubernetes.io/name").cloned();
        let istiod = istiod(&self.metadata.labels, &self.spec);
        runs.then_some(PodFacts { istiod, address: self.status.pod_ip, ready, app })
    }
}
