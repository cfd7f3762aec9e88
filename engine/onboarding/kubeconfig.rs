//! Looks into a cluster through a context of a kubeconfig: reads, a bounded number of bytes, for a bounded time.
//!
//! The same objects as the exporter's, read by its own types. Of Secrets only labels, data keys and the server of each
//! kubeconfig are kept; of `cacerts` only the root certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::{BodyExt as _, Limited};
use kube::api::ListParams;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Client, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::cluster::access::AccessError;
use crate::cluster::watched::{Meta, Objects, Place, Source, Watchable};
use crate::istio::gateways::{GatewayService, Hosts, NETWORK_LABEL, WireNode, WireService, behind_nodes, gateways};
use crate::istio::installed::{ROOT_CA, cluster_id, istio};
use crate::istio::mesh_config::{SHARED_MESH_CONFIG, mesh_config, parse_mesh_networks};
use crate::istio::objects::{Istiod, MeshMap, WireConfigMap, WireDeployment, WireMeshMap, WireNamespace, WirePod};
use crate::onboarding::survey::{Found, Installed, Installer, Looked, RemoteSecret, Survey};
use crate::types::address::{ApiHost, Gateway, Host};
use crate::types::cause::in_full;
use crate::types::certificate::{RootCertificate, parse_roots_any_time};
use crate::types::name::Namespace;
use crate::wire::identity::{IDENTITY, IDENTITY_FILE, Identity};

/// A connection to the apiserver.
const CONNECT: Duration = Duration::from_secs(5);
/// One answer, to its last byte. Credential plugins that ask a cloud are part of the first one.
const ANSWER: Duration = Duration::from_secs(15);
/// All questions to one cluster.
const ALL: Duration = Duration::from_secs(45);
/// Largest answer: a page of 200 ConfigMaps at their limit would not fit, and none is asked for.
const MOST: usize = 16 * 1024 * 1024;
/// All answers of one cluster.
const MOST_OF_ALL: usize = 64 * 1024 * 1024;
/// Objects of a page.
const PAGE: u32 = 200;
/// Longest words of an apiserver that are repeated.
const WORDS: usize = 240;

/// The contexts of kubeconfigs, their names sorted, and what leads to each.
pub struct Contexts {
    kubeconfig: Kubeconfig,
}

impl Contexts {
    /// Those of a file; else those of `$KUBECONFIG`, or of `~/.kube/config`. Nobody is asked yet.
    pub fn read(file: Option<&Path>) -> Result<Self, AccessError> {
        let read = match file {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let path =
            file.map_or_else(|| "of $KUBECONFIG or ~/.kube/config".to_owned(), |path| path.display().to_string());
        let kubeconfig = read.map_err(|error| AccessError::Kubeconfig { path, reason: causes(&error) })?;
        Ok(Self { kubeconfig })
    }

    /// Their names, sorted.
    pub fn names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.kubeconfig.contexts.iter().map(|context| &context.name).collect();
        names.into_iter().cloned().collect()
    }

    /// What the cluster of a context shows, at a time in seconds since 1970.
    pub async fn look(&self, context: &str, now: i64) -> Looked {
        let asked = timeout(ALL, async {
            let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
            let config = Config::from_custom_kubeconfig(self.kubeconfig.clone(), &options).await;
            let mut config = config.map_err(|error| causes(&error))?;
            config.connect_timeout = Some(CONNECT);
            let server = config.cluster_url.to_string();
            let client = Client::try_from(config).map_err(|error| of_client(&error))?;
            let asking = Asking { client, left: AtomicUsize::new(MOST_OF_ALL) };
            Ok(match asking.survey(context, &server, now).await? {
                Some(survey) => Looked::Istio(Box::new(survey)),
                None => Looked::NoIstio,
            })
        });
        match asked.await {
            Ok(Ok(looked)) => looked,
            Ok(Err(reason)) => Looked::Unreachable(reason),
            Err(_) => Looked::Unreachable(format!("it did not answer everything in {} seconds", ALL.as_secs())),
        }
    }
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Contexts({:?}, [redacted])", self.names())
    }
}

/// An error with its causes, cut short.
fn causes(error: &dyn std::error::Error) -> String {
    short(&in_full(error))
}

/// What a credential plugin printed is part of its error, and may be a token: it is not repeated.
fn of_client(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(_) => {
            "the credentials of its kubeconfig cannot be had; try `kubectl get namespaces` with this context".to_owned()
        }
        error => causes(error),
    }
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().take(WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(WORDS).is_some() {
        short.push('…');
    }
    short
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize, Default)]
struct ListMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

/// A Secret, in the part that is read. Data stays base64 until it is looked at.
#[derive(Clone, Deserialize)]
struct WireSecret {
    metadata: Meta,
    #[serde(default)]
    data: BTreeMap<String, Entry>,
}

/// An entry of a Secret, base64.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
struct Entry(Zeroizing<String>);

impl From<String> for Entry {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// A Secret of which one public entry is read.
#[derive(Clone, Deserialize)]
struct WireRoot {
    #[serde(default)]
    data: RootEntry,
}

#[derive(Clone, Default, Deserialize)]
struct RootEntry {
    #[serde(default, rename = "root-cert.pem")]
    root: Option<String>,
}

/// A kubeconfig, without its users.
#[derive(Deserialize)]
struct WireKubeconfig {
    #[serde(default)]
    clusters: Vec<WireCluster>,
}

#[derive(Deserialize)]
struct WireCluster {
    cluster: WireServer,
}

#[derive(Deserialize)]
struct WireServer {
    #[serde(default)]
    server: String,
}

impl WireSecret {
    fn keep(self) -> RemoteSecret {
        let server = |Entry(text): &Entry| {
            let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).ok()?);
            let kubeconfig: WireKubeconfig = serde_yaml::from_slice(&bytes).ok()?;
            let server = kubeconfig.clusters.into_iter().next()?.cluster.server;
            Some(short(&server)).filter(|server| !server.is_empty())
        };
        let clusters = self.data.iter().map(|(id, text)| (id.clone(), server(text))).collect();
        let owner = |label: &str| self.metadata.labels.get(label).cloned();
        // Deckhouse marks what is its own by `heritage`
        let managed_by = owner(crate::types::object::MANAGED_BY).or_else(|| owner("heritage"));
        RemoteSecret { name: self.metadata.name, clusters, managed_by }
    }
}

/// Questions to one cluster.
struct Asking {
    client: Client,
    /// Bytes that it may still answer.
    left: AtomicUsize,
}

/// Whether istiod is told of our ConfigMap and of several roots.
fn is_switched(istiod: &Istiod) -> bool {
    istiod.multiroot && istiod.shared_mesh_config.as_deref() == Some(SHARED_MESH_CONFIG)
}

impl Asking {
    /// All objects of a place, or in words why not.
    async fn list<T: DeserializeOwned>(&self, place: &Place) -> Result<Vec<T>, String> {
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            let params = ListParams {
                label_selector: place.labels.clone(),
                field_selector: place.fields.clone(),
                limit: Some(PAGE),
                continue_token: next.take(),
                ..ListParams::default()
            };
            let request = Request::new(place.path.as_str()).list(&params).map_err(|error| error.to_string())?;
            let page = timeout(ANSWER, self.page::<T>(request)).await;
            let page = page.map_err(|_| format!("no answer in {} seconds", ANSWER.as_secs()))??;
            all.extend(page.items);
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(more) => next = Some(more),
                None => return Ok(all),
            }
        }
    }

    async fn page<T: DeserializeOwned>(&self, request: http::Request<Vec<u8>>) -> Result<List<T>, String> {
        let response = self.client.send(request.map(Body::from)).await.map_err(|error| of_client(&error))?;
        let status = response.status();
        let most = MOST.min(self.left.load(Ordering::Relaxed));
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map_err(|error| short(&format!("its answer breaks off or is too long: {error}")))?.to_bytes();
        self.left.fetch_sub(body.len().min(most), Ordering::Relaxed);
        if !status.is_success() {
            let said = serde_json::from_slice::<Status>(&body).map(|status| status.message).unwrap_or_default();
            return Err(short(format!("{} {said}", status.as_u16()).trim_end()));
        }
        // the text of an error may quote what was read
        serde_json::from_slice(&body).map_err(|error| format!("its answer is no list (line {})", error.line()))
    }

    /// Objects by namespace and name.
    async fn objects<T: Watchable>(&self, place: &Place) -> Result<Objects<T::Kept>, String> {
        let mut objects = Objects::new();
        for object in self.list::<T>(place).await? {
            let key = (object.meta().namespace.clone(), object.meta().name.clone());
            if let Some(kept) = object.keep() {
                objects.insert(key, Arc::new(kept));
            }
        }
        Ok(objects)
    }

    /// The object of a name, if there is one.
    async fn one<T: Watchable>(&self, collection: &str, name: &str) -> Result<Option<Arc<T::Kept>>, String> {
        Ok(self.objects::<T>(&Place::named(collection, name)).await?.into_values().next())
    }

    async fn survey(&self, context: &str, server: &str, now: i64) -> Result<Option<Survey>, String> {
        let istiods = self.list::<WireDeployment>(&Place::labelled("/apis/apps/v1/deployments", "app=istiod")).await?;
        let mut planes: BTreeMap<String, Vec<(Istiod, Installer)>> = BTreeMap::new();
        for deployment in istiods {
            let meta = deployment.meta();
            let by_operator = meta.labels.contains_key("install.operator.istio.io/owning-resource");
            let installer = if by_operator { Installer::IstioOperator } else { Installer::Helm };
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
        let (kube_system, own, roots, standard, services, secrets, ours) = tokio::join!(
            self.one::<WireNamespace>("/api/v1/namespaces", "kube-system"),
            self.one::<WireNamespace>("/api/v1/namespaces", namespace.as_str()),
            self.roots(&namespace, &maps, now),
            self.standard(&maps, &istiods),
            self.gateways(),
            self.secrets(&namespace),
            self.installed(&namespace, &maps),
        );
        let uuid = kube_system.and_then(|found| {
            let uid = found.ok_or("there is no namespace kube-system")?.uid.clone();
            uid.parse().map_err(|error| format!("the UID of namespace kube-system: {error}"))
        });
        let says = |get: fn(&MeshMap) -> Option<&String>| {
            let maps = standard.iter().filter_map(|(name, map)| Some((name, map.present()?)));
            maps.into_iter().find_map(|(name, map)| Some((name, get(map)?.clone())))
        };
        let own_cluster = cluster_id(&istiods);
        let label = || {
            let network = own.ok().flatten()?.network.as_ref()?.parse().ok()?;
            Some(Found::new(network, format!("label {NETWORK_LABEL} of namespace {namespace}")))
        };
        let meshes = says(|map| map.mesh_networks.as_ref());
        let configured = || {
            let (id, (map, text)) = (own_cluster.as_ref().ok()?, meshes.as_ref()?);
            let networks = parse_mesh_networks(text);
            let (name, _) = networks.iter().find(|(_, (_, registries))| registries.contains(id.as_str()))?;
            Some(Found::new(name.parse().ok()?, format!("meshNetworks of ConfigMap {map}")))
        };
        let config = mesh_config(&standard);
        let trust_domain = says(|map| map.trust_domain.as_ref());
        let (found, gateway_services, unlabelled) = services;
        Ok(Some(Survey {
            context: context.to_owned(),
            server: server.to_owned(),
            uuid,
            other_namespaces: planes.into_keys().collect(),
            revisions: facts.revisions,
            version: facts.version,
            installer,
            switched: istiods.iter().all(is_switched),
            network: label().or_else(configured),
            gateways: found,
            gateway_services,
            unlabelled,
            roots,
            trust_domain: trust_domain
                .and_then(|(name, domain)| Some(Found::new(domain.parse().ok()?, format!("ConfigMap {name}")))),
            mesh_id: says(|map| map.mesh_id.as_ref()).and_then(|(_, id)| id.parse().ok()),
            own_roots: match &config {
                crate::wire::metadata::Shown::Seen(config) => Ok(config.ca_certificates),
                crate::wire::metadata::Shown::Unknown(reason) => Err(reason.clone()),
            },
            own_networks: meshes.is_some_and(|(_, text)| !parse_mesh_networks(&text).is_empty()),
            installed: ours,
            secrets,
            cluster_id: own_cluster,
            namespace,
        }))
    }

    /// The cluster's roots: the ConfigMap that istiod gives each namespace, else the public entry of `cacerts`.
    async fn roots(&self, namespace: &Namespace, maps: &str, now: i64) -> Result<Found<Vec<RootCertificate>>, String> {
        let (name, file) = ROOT_CA;
        let map = self.one::<WireConfigMap>(maps, name).await?;
        if let Some(text) = map.as_ref().and_then(|map| map.data.get(file)) {
            return Ok(Found::new(valid(text, now)?, format!("ConfigMap {namespace}/{name}")));
        }
        let place = Place::named(format!("/api/v1/namespaces/{namespace}/secrets"), "cacerts");
        let secret = self.list::<WireRoot>(&place).await?.into_iter().next();
        let root = secret.and_then(|secret| secret.data.root).ok_or_else(|| {
            format!("neither ConfigMap {namespace}/{name} nor Secret {namespace}/cacerts holds a root certificate")
        })?;
        let text = BASE64.decode(root).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        Ok(Found::new(valid(&text, now)?, format!("Secret {namespace}/cacerts, root-cert.pem")))
    }

    /// The standard mesh configuration of each revision.
    async fn standard(&self, maps: &str, istiods: &[Istiod]) -> BTreeMap<String, Source<Arc<MeshMap>>> {
        let mut all = BTreeMap::new();
        for istiod in istiods {
            let revision = istiod.revision.as_str();
            let name = if revision == "default" { "istio".to_owned() } else { format!("istio-{revision}") };
            if all.contains_key(&name) {
                continue;
            }
            let source = match self.one::<WireMeshMap>(maps, &name).await {
                Ok(Some(map)) => Source::Present(map),
                Ok(None) => Source::Absent,
                Err(reason) => Source::Failed(reason),
            };
            all.insert(name, source);
        }
        all
    }

    /// East-west gateways, their Services, and Services that lack the label.
    async fn gateways(&self) -> (Result<Vec<Gateway>, String>, Vec<String>, Vec<String>) {
        let services = self.objects::<WireService>(&Place::labelled("/api/v1/services", NETWORK_LABEL)).await;
        let by_name = self.list::<Named>(&Place::labelled("/api/v1/services", "istio=eastwestgateway")).await;
        let services = match services {
            Ok(services) => services,
            Err(reason) => return (Err(format!("Services cannot be listed: {reason}")), Vec::new(), Vec::new()),
        };
        let name = |(namespace, name): &(String, String)| format!("{namespace}/{name}");
        let names: Vec<String> = services.keys().map(name).collect();
        let by_name = by_name.unwrap_or_default().into_iter().map(|one| (one.metadata.namespace, one.metadata.name));
        let unlabelled = by_name.filter(|key| !services.contains_key(key)).map(|key| name(&key)).collect();
        let found = self.addresses(services).await;
        (found, names, unlabelled)
    }

    async fn addresses(&self, services: Objects<GatewayService>) -> Result<Vec<Gateway>, String> {
        let (mut nodes, mut hosts) = (Source::NotYet, Hosts::new());
        if behind_nodes(&services) {
            nodes = match self.objects::<WireNode>(&Place::all("/api/v1/nodes")).await {
                Ok(found) => Source::Present(found),
                Err(reason) => Source::Failed(reason),
            };
            for (key, service) in services.iter().filter(|(_, service)| service.is_behind_nodes()) {
                let labels: Vec<_> = service.selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let place = Place::labelled(format!("/api/v1/namespaces/{}/pods", key.0), &labels.join(","));
                let source = match self.list::<WirePod>(&place).await {
                    Ok(_) if labels.is_empty() => Source::Failed("the Service has no selector".to_owned()),
                    Ok(pods) => Source::Present(pods.iter().filter_map(WirePod::ready_on).map(str::to_owned).collect()),
                    Err(reason) => Source::Failed(reason),
                };
                hosts.insert(key.clone(), source);
            }
        }
        gateways(&Source::Present(services), &nodes, &hosts)
    }

    async fn secrets(&self, namespace: &Namespace) -> Result<Vec<RemoteSecret>, String> {
        let place = Place::labelled(format!("/api/v1/namespaces/{namespace}/secrets"), "istio/multiCluster=true");
        let mut secrets: Vec<_> = self.list::<WireSecret>(&place).await?.into_iter().map(WireSecret::keep).collect();
        secrets.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(secrets)
    }

    async fn installed(&self, namespace: &Namespace, maps: &str) -> Installed {
        let identity = self.one::<WireConfigMap>(maps, IDENTITY).await.ok().flatten();
        let identity = identity.and_then(|map| Identity::parse(map.data.get(IDENTITY_FILE)?.as_bytes()).ok());
        let services = format!("/api/v1/namespaces/{namespace}/services");
        let place = Place::labelled(services, "app.kubernetes.io/name in (isthmus-exporter,isthmus-proxy)");
        let services = self.list::<OurService>(&place).await.unwrap_or_default();
        let address = |name: &str| services.iter().find(|one| one.metadata.name == name)?.address();
        Installed {
            authn_key: identity.as_ref().and_then(|known| known.keys.first()).map(|key| key.pem.fingerprint()),
            serving_ca: identity.and_then(|known| certificates(&known.serving_ca?)),
            exporter: address("isthmus-exporter"),
            proxy: address("isthmus-proxy"),
        }
    }
}

/// Certificates, each block written anew; nothing, where anything else stands among them.
fn certificates(text: &str) -> Option<String> {
    let blocks = pem::parse_many(text).ok()?;
    let all = !blocks.is_empty() && blocks.iter().all(|block| block.tag() == "CERTIFICATE");
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let written = |block: &pem::Pem| pem::encode_config(&pem::Pem::new("CERTIFICATE", block.contents()), config);
    all.then(|| blocks.iter().map(written).collect())
}

/// An object of which only the name matters.
#[derive(Deserialize)]
struct Named {
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

/// `istio-system` where there is one, else the first.
fn chosen(planes: &BTreeMap<String, Vec<(Istiod, Installer)>>) -> Option<Namespace> {
    let usual = Namespace::istio_system();
    let names = planes.keys().filter_map(|name| name.parse::<Namespace>().ok());
    let mut names: Vec<Namespace> = names.collect();
    names.sort_by_key(|name| *name != usual);
    names.into_iter().next()
}

/// Roots that have not expired; all, where all have.
fn valid(text: &str, now: i64) -> Result<Vec<RootCertificate>, String> {
    let all = parse_roots_any_time(text).map_err(|error| error.to_string())?;
    let (valid, expired): (Vec<_>, Vec<_>) = all.into_iter().partition(|root| now <= root.not_after);
    let mut roots = if valid.is_empty() { expired } else { valid };
    roots.sort_by_key(|root| root.digest);
    Ok(roots)
}
