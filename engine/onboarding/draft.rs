//! The first spec: what was found in clusters, as documents with a comment beside each value that says where it was found.
//!
//! What has to be said and cannot be found is a line without a value: the compiler's finding names exactly that line, and
//! its comment says what belongs there. What may be left out and was not found is a comment alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::istio::installed::ISTIOD;
use crate::model::layout::{HELM_FILE, ISTIO_OPERATOR_FILE, SAIL_FILE};
use crate::onboarding::survey::{Adoption, Installer, Survey, SurveyedCluster, Takeover};
use crate::types::name::{ClusterName, MeshName, Namespace, NetworkName};
use crate::types::object::{YamlError, to_yaml};
use crate::types::text::visible;
use crate::wire::names::{EXPORTER, IMAGE, PROXY, UUID_NAMESPACE};

/// Longest line of a comment on a line of its own.
const WIDTH: usize = 118;

/// What is asked of a draft.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub mesh: Option<MeshName>,
    /// Someone said that every root may sign every identity.
    pub accept_foreign_roots: bool,
    /// Remote secrets that ours are to take over.
    pub adoptions: Vec<Adoption>,
    /// The clusters were listed by an inventory: kubectl knows no contexts of them.
    pub are_listed: bool,
}

/// A line that someone has to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FillIn {
    pub path: String,
    /// Its line, from 1.
    pub line: usize,
    pub field: String,
    pub message: String,
}

/// Documents for a first checkout, and what is left to be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecDraft {
    pub mesh: MeshName,
    /// Its files by path.
    pub files: BTreeMap<String, String>,
    pub fill_in: Vec<FillIn>,
}

/// Path of a cluster's document.
pub fn cluster_path(cluster: &ClusterName) -> String {
    format!("specs/clusters/{cluster}.yaml")
}

/// Path of the mesh's document.
pub const MESH_PATH: &str = "specs/mesh.yaml";
/// Where the documents' JSON Schema lies, which editors complete and check them with.
pub const SCHEMA_PATH: &str = "spec.schema.json";

/// Writes a Mesh and one Cluster for each that runs Istio; fails where a value cannot be written as YAML.
pub fn draft(clusters: &[SurveyedCluster], options: &Options) -> Result<SpecDraft, YamlError> {
    let (mesh, from) = mesh_name(clusters, options);
    let mut draft = SpecDraft { mesh: mesh.clone(), files: BTreeMap::new(), fill_in: Vec::new() };
    draft.add(MESH_PATH.to_owned(), mesh_page(&mesh, &from, clusters, options)?);
    for cluster in clusters {
        draft.add(cluster_path(&cluster.name.value), cluster_page(cluster, clusters, options)?);
    }
    Ok(draft)
}

impl SpecDraft {
    fn add(&mut self, path: String, page: DraftPage) {
        let fill_in = page.fill_in.into_iter();
        self.fill_in.extend(fill_in.map(|(line, field, message)| FillIn { path: path.clone(), line, field, message }));
        self.files.insert(path, page.text);
    }
}

/// A document, line by line.
#[derive(Default)]
struct DraftPage {
    text: String,
    fill_in: Vec<(usize, String, String)>,
}

/// Words of others, on one line: with nothing in them that a parser or a terminal takes for a line break, or that turns the order
/// of writing.
fn plain(message: &str) -> String {
    visible(message).into_owned()
}

fn scalar(value: &str) -> Result<String, YamlError> {
    Ok(to_yaml(&value)?.trim_end().to_owned())
}

impl DraftPage {
    /// The document at this path, which names its schema in a way that editors know.
    fn at(path: &str) -> Self {
        let mut page = Self::default();
        let up = "../".repeat(path.matches('/').count());
        page.line(0, &format!("# yaml-language-server: $schema={up}{SCHEMA_PATH}"));
        page
    }

    fn line(&mut self, depth: usize, text: &str) {
        self.text.push_str(&"  ".repeat(depth));
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    /// A comment of its own, folded.
    fn comment(&mut self, depth: usize, message: &str) {
        let mut line = String::new();
        for word in plain(message).split(' ').filter(|word| !word.is_empty()) {
            if !line.is_empty() && 2 * depth + 2 + line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(depth, &format!("# {line}"));
                line.clear();
            }
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
        self.line(depth, &format!("# {line}"));
    }

    /// A value and where it was found.
    fn field(&mut self, depth: usize, key: &str, value: &str, from: &str) -> Result<(), YamlError> {
        let value = scalar(value)?;
        let from = if from.is_empty() { String::new() } else { format!(" # {}", plain(from)) };
        self.line(depth, &format!("{key}: {value}{from}"));
        Ok(())
    }

    fn item(&mut self, depth: usize, value: &str, from: &str) -> Result<(), YamlError> {
        self.line(depth, &format!("- {} # {}", scalar(value)?, plain(from)));
        Ok(())
    }

    fn literal(&mut self, depth: usize, key: &str, text: &str) {
        self.line(depth, &format!("{key}: |"));
        for line in text.lines() {
            self.line(depth + 1, line);
        }
    }

    /// A line without the value that it needs.
    fn fill_in(&mut self, depth: usize, key: &str, message: &str) {
        self.line(depth, &format!("{key}: # fill in: {message}"));
        self.fill_in.push((self.text.lines().count(), key.to_owned(), message.to_owned()));
    }
}

/// A word that a shell takes as one.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@' | '=');
    let is_plain = !word.is_empty() && word.chars().all(plain);
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// What the clusters call their mesh, each name with those who say it.
fn mesh_ids(clusters: &[SurveyedCluster]) -> BTreeMap<&str, Vec<&str>> {
    let mut ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for cluster in clusters {
        if let Some(id) = &cluster.survey.mesh_id {
            ids.entry(id.as_str()).or_default().push(cluster.name.value.as_str());
        }
    }
    ids
}

fn mesh_name(clusters: &[SurveyedCluster], options: &Options) -> (MeshName, String) {
    if let Some(name) = &options.mesh {
        return (name.clone(), "--mesh".to_owned());
    }
    let ids = mesh_ids(clusters);
    if let (Some((id, names)), 1) = (ids.first_key_value(), ids.len())
        && let Ok(name) = id.parse()
    {
        return (name, format!("meshId of {}", names.join(", ")));
    }
    (MeshName::unnamed(), "any name; `--mesh` sets another".to_owned())
}

fn mesh_page(
    mesh: &MeshName,
    from: &str,
    clusters: &[SurveyedCluster],
    options: &Options,
) -> Result<DraftPage, YamlError> {
    let mut page = DraftPage::at(MESH_PATH);
    page.comment(
        0,
        "The mesh. `engine init` wrote this; it is yours to edit, and `engine schema` prints what it may hold.",
    );
    page.line(0, "apiVersion: isthmus.dev/v1alpha1");
    page.line(0, "kind: Mesh");
    page.line(0, "metadata:");
    page.field(1, "name", mesh.as_str(), from)?;
    page.line(0, "spec:");
    let ids = mesh_ids(clusters);
    match ids.first_key_value() {
        Some((id, names)) if ids.len() == 1 && *id != mesh.as_str() => {
            page.field(1, "meshID", id, &format!("meshId of {}", names.join(", ")))?;
            page.gap();
        }
        Some(_) if ids.len() > 1 => {
            let all = ids.iter().map(|(id, names)| format!("`{id}` in {}", names.join(", ")));
            let all = all.collect::<Vec<_>>().join("; ");
            page.comment(
                1,
                &format!("meshID: the clusters have different ones ({all}), which Istio does not compare."),
            );
            page.gap();
        }
        _ => {}
    }
    let pairs: BTreeSet<(&ClusterName, &ClusterName)> = options
        .adoptions
        .iter()
        .map(|one| if one.reader < one.peer { (&one.reader, &one.peer) } else { (&one.peer, &one.reader) })
        .collect();
    let all = clusters.len() * clusters.len().saturating_sub(1) / 2;
    if pairs.is_empty() || pairs.len() == all {
        page.comment(1, "Every cluster is linked with every other one; `pairs` links single ones.");
        page.line(1, "topology: full");
    } else {
        page.comment(
            1,
            "The links that the remote secrets made by hand are. `full` links every cluster with every other one.",
        );
        page.line(1, "topology: pairs");
        page.line(1, "pairs:");
        for (one, other) in pairs {
            page.line(1, &format!("- [{}, {}]", scalar(one.as_str())?, scalar(other.as_str())?));
        }
    }
    page.gap();
    page.comment(
        1,
        "Each cluster comes to trust the roots of those it is linked with: from then on every root can sign every identity \
         of every accepted trust domain.",
    );
    if options.accept_foreign_roots {
        page.line(1, "acceptForeignRoots: true # --accept-foreign-roots");
    } else {
        let message = "`true` if you accept that; only you can decide it";
        page.line(1, &format!("acceptForeignRoots: false # fill in: {message}"));
        if clusters.len() > 1 {
            let line = page.text.lines().count();
            page.fill_in.push((line, "acceptForeignRoots".to_owned(), message.to_owned()));
        }
    }
    page.gap();
    page.comment(1, "istiod reaches the peers through a relay in its own cluster, and nothing in git is secret.");
    page.line(1, "credentials:");
    page.line(2, "mode: relay");
    Ok(page)
}

fn cluster_page(cluster: &SurveyedCluster, all: &[SurveyedCluster], options: &Options) -> Result<DraftPage, YamlError> {
    let SurveyedCluster { name, cluster_id, survey } = cluster;
    let mut page = DraftPage::at(&cluster_path(&name.value));
    let kubectl = if options.are_listed {
        "kubectl".to_owned()
    } else {
        format!("kubectl --context {}", quoted(&plain(&survey.context)))
    };
    page.comment(0, &format!("{}: context `{}`, {}", name.value, survey.context, survey.server));
    page.line(0, "apiVersion: isthmus.dev/v1alpha1");
    page.line(0, "kind: Cluster");
    page.line(0, "metadata:");
    page.field(1, "name", name.value.as_str(), &name.from)?;
    page.line(0, "spec:");
    let deckhouse = survey.namespace == Namespace::of_deckhouse();
    let folder = crate::model::layout::rendered_folder(&name.value);
    if deckhouse {
        page.comment(
            1,
            &format!(
                "Deckhouse's own istio module acts in this cluster: the engine renders IstioMulticluster objects below {folder}/. \
                 Deckhouse admits only the own keys of clusters that read it, so the relays of these read it for the engine."
            ),
        );
        page.line(1, "reconciler: deckhouse");
        page.gap();
        page.comment(1, "Where Deckhouse's metadata-exporter is reached.");
        page.line(1, "metadata:");
        let example = format!("for example https://istio-metadata.{}.example.com/metadata", name.value);
        page.fill_in(2, "endpoint", &format!("`istio-metadata` of the cluster's public domain template, {example}"));
    } else {
        page.comment(
            1,
            &format!(
                "The engine renders every object below {folder}/, and a GitOps tool brings them into the cluster."
            ),
        );
        page.line(1, "reconciler: rendered");
        page.gap();
        contact(&mut page, name.value.as_str(), survey, &kubectl)?;
    }
    page.gap();
    pins(&mut page, survey)?;
    page.gap();
    if let Some(id) = cluster_id {
        page.comment(1, "What its peers call it.");
        page.field(1, "clusterID", id.value.as_str(), &id.from)?;
    } else if let Err(reason) = &survey.cluster_id {
        page.comment(1, &format!("clusterID: not found: {reason}"));
    }
    if !deckhouse {
        network(&mut page, cluster, all, &kubectl)?;
    }
    if let Some(domain) = &survey.trust_domain {
        page.field(1, "trustDomain", domain.value.as_str(), &format!("trustDomain of {}", domain.from))?;
    }
    istio(&mut page, name.value.as_str(), survey)?;
    let own: Vec<&Adoption> = options.adoptions.iter().filter(|one| one.reader == name.value).collect();
    if !own.is_empty() {
        page.gap();
        page.comment(
            1,
            "Remote secrets made by hand that ours take over, once `engine status` shows the link as joined:",
        );
        for one in own {
            let way = match one.way {
                Takeover::InPlace => "in place, by the sync that brings ours",
                Takeover::Switch => "it is taken from istiod just before ours comes",
                Takeover::ByHand => "by hand: its key is not what ours will have, or it has several",
            };
            page.comment(
                1,
                &format!("  {}/{}, key {}, leads to {}: {way}", one.namespace, one.secret, one.id, one.peer),
            );
        }
    }
    Ok(page)
}

/// What is deployed, and where it is reached.
fn contact(page: &mut DraftPage, name: &str, survey: &Survey, kubectl: &str) -> Result<(), YamlError> {
    let (namespace, installed) = (&survey.namespace, &survey.installed);
    page.comment(1, "What is deployed into the cluster: exporter, api-proxy and relay.");
    page.line(1, "multicluster:");
    page.field(2, "image", &format!("{IMAGE}:{}", env!("CARGO_PKG_VERSION")), "the version that wrote this")?;
    match &installed.proxy {
        Some(host) => {
            page.field(2, "apiHost", &host.to_string(), &format!("Service {namespace}/{PROXY}"))?;
        }
        None => page.fill_in(
            2,
            "apiHost",
            &format!("where peers are to reach Service {namespace}/{PROXY}, for example api.{name}.example.com"),
        ),
    }
    page.comment(
        2,
        "Or NodePort; ClusterIP behind an ingress that passes TLS through; Gateway, through the east-west gateway.",
    );
    page.line(2, "expose: LoadBalancer");
    page.gap();
    page.comment(1, "Where the exporter is reached.");
    page.line(1, "metadata:");
    match &installed.exporter {
        Some(host) => {
            let from = format!("Service {namespace}/{EXPORTER}");
            page.field(2, "endpoint", &format!("https://{host}/metadata"), &from)?;
        }
        None => page.fill_in(
            2,
            "endpoint",
            &format!(
                "where Service {namespace}/{EXPORTER} is to be reached, for example https://istio-metadata.{name}.example.com/metadata"
            ),
        ),
    }
    if let Some(ca) = &installed.serving_ca {
        page.comment(2, &format!("servingCA of ConfigMap {namespace}/{}", crate::wire::identity::IDENTITY));
        page.line(2, "ca:");
        page.literal(3, "inline", ca);
    } else {
        page.comment(
            2,
            "ca: only where no public CA made the certificate. The cluster's own is created with the first sync:",
        );
        page.line(
            2,
            &format!(
                "#   {kubectl} -n {namespace} get configmap {} -o jsonpath='{{.data.identity\\.json}}' | jq -r .servingCA > {name}-ca.pem",
                crate::wire::identity::IDENTITY
            ),
        );
        page.line(2, &format!("# ca: {{file: {name}-ca.pem}}"));
    }
    Ok(())
}

fn pins(page: &mut DraftPage, survey: &Survey) -> Result<(), YamlError> {
    page.comment(
        1,
        "What must be found there; anything else is refused. To change a pin here is to approve the new value.",
    );
    let key = &survey.installed.authn_key;
    let rooted = survey.roots.as_ref().is_ok_and(|roots| !roots.value.is_empty());
    let deckhouse = survey.namespace == Namespace::of_deckhouse();
    if (deckhouse || survey.uuid.is_err()) && key.is_none() && !rooted {
        page.line(1, "pin: {}");
    } else {
        page.line(1, "pin:");
    }
    match &survey.uuid {
        _ if deckhouse => {
            page.comment(2, "clusterUUID: Deckhouse gives out one of its own; the lock pins it at first contact.");
        }
        Ok(uuid) => page.field(2, "clusterUUID", uuid.as_str(), &format!("UID of namespace {UUID_NAMESPACE}"))?,
        Err(reason) => page.comment(2, &format!("clusterUUID: not found: {reason}")),
    }
    match key {
        Some(key) => {
            let from = format!("ConfigMap {}/{}", survey.namespace, crate::wire::identity::IDENTITY);
            page.field(2, "authnKey", &key.to_string(), &from)?;
        }
        None if deckhouse => {
            page.comment(
                2,
                "authnKey: Deckhouse keeps it in a Secret, which is not read; the lock pins it at first contact.",
            );
        }
        None => {
            page.comment(2, "authnKey: created in the cluster with the first sync; the lock pins it at first contact.");
        }
    }
    match &survey.roots {
        Ok(roots) => {
            page.line(2, &format!("rootCA: # {}", plain(&roots.from)));
            for root in &roots.value {
                let until = root.not_after.date().map_or_else(|| "for ever".to_owned(), |date| format!("until {date}"));
                page.item(2, &root.digest.to_string(), &format!("{}, {until}", root.subject))?;
            }
        }
        Err(reason) => page.comment(2, &format!("rootCA: not found: {reason}")),
    }
    Ok(())
}

fn network(
    page: &mut DraftPage,
    cluster: &SurveyedCluster,
    all: &[SurveyedCluster],
    kubectl: &str,
) -> Result<(), YamlError> {
    let survey = &cluster.survey;
    let namespace = &survey.namespace;
    let shared = |network: &NetworkName| {
        let others = all.iter().filter(|other| other.name.value != cluster.name.value);
        let same = others.filter(|other| other.survey.network.as_ref().map(|found| &found.value) == Some(network));
        same.map(|other| other.name.value.as_str()).collect::<Vec<_>>()
    };
    if let Some(network) = &survey.network {
        page.field(1, "network", network.value.as_str(), &network.from)?;
        let others = shared(&network.value);
        if !others.is_empty() {
            page.line(1, &format!("flatNetwork: true # {} has the same network", others.join(", ")));
        }
    } else {
        page.comment(1, "network: not found; set it here, or label Istio's namespace with it:");
        let name = &cluster.name.value;
        let label = format!("topology.istio.io/network=network-{name}");
        page.line(1, &format!("#   {kubectl} label namespace {namespace} {label}"));
        page.line(1, &format!("# network: network-{name}"));
    }
    let services = survey.gateway_services.join(", ");
    match &survey.gateways {
        Ok(gateways) if !gateways.is_empty() => {
            let list: Vec<String> = gateways.iter().map(ToString::to_string).collect();
            page.comment(1, &format!("gateways: the exporter publishes {}, of Service {services}", list.join(", ")));
        }
        Ok(_) if !survey.unlabelled.is_empty() => page.comment(
            1,
            &format!(
                "gateways: Service {} lacks the label topology.istio.io/network, without which neither istiod nor the \
                 exporter takes it for a gateway",
                survey.unlabelled.join(", ")
            ),
        ),
        Ok(_) => page.comment(
            1,
            "gateways: none was found. `gateway: {manage: true}` renders one, where the CRDs of the Gateway API are installed. Or deploy \
             one, or set `flatNetwork: true` where pods reach each other.",
        ),
        Err(reason) => page.comment(1, &format!("gateways: not found: {reason}")),
    }
    Ok(())
}

fn istio(page: &mut DraftPage, name: &str, survey: &Survey) -> Result<(), YamlError> {
    let version = survey.version.as_deref().unwrap_or("of unknown version");
    page.gap();
    page.comment(1, &format!("Istio {version}"));
    for mode in &survey.modes {
        page.comment(1, &format!("{mode}: {}.", mode.remedy()));
    }
    page.line(1, "istio:");
    page.field(2, "namespace", survey.namespace.as_str(), &format!("Deployments labelled {ISTIOD}"))?;
    if !survey.other_namespaces.is_empty() {
        page.comment(2, &format!("further control planes, left alone: in {}", survey.other_namespaces.join(", ")));
    }
    if !survey.revisions.is_empty() {
        let names: Result<Vec<_>, _> = survey.revisions.iter().map(|revision| scalar(revision.as_str())).collect();
        page.line(2, &format!("revisions: [{}]", names?.join(", ")));
    }
    if survey.namespace == Namespace::of_deckhouse() {
        return Ok(());
    }
    match &survey.own_roots {
        Ok(true) => {
            let (value, file) = match survey.installer {
                Installer::Helm => ("helmValues", HELM_FILE),
                Installer::IstioOperator => ("istioOperator", ISTIO_OPERATOR_FILE),
                Installer::Sail => ("sail", SAIL_FILE),
            };
            page.comment(
                2,
                &format!(
                    "The standard mesh configuration has caCertificates, which would hide ours in a ConfigMap beside it. \
                     Roots and networks are written to values/{name}/{file}, to be merged into the installation."
                ),
            );
            page.line(2, &format!("config: {value}"));
        }
        Ok(false) => page.line(2, "config: sharedMeshConfig # roots and networks go into ConfigMap isthmus-mesh"),
        Err(reason) => page.comment(2, &format!("config: the standard mesh configuration could not be read: {reason}")),
    }
    if survey.own_networks {
        page.comment(
            2,
            "The standard meshNetworks are taken up into ours, which replace them. If this cluster is to publish no evidence, \
             list them here as standardMeshNetworks.",
        );
    } else if survey.own_roots == Ok(false) {
        page.comment(2, "If this cluster is to publish no evidence: standardMeshNetworks: none");
    }
    if !survey.switched && survey.own_roots == Ok(false) {
        page.comment(
            2,
            "istiod has to run with ISTIO_MULTIROOT_MESH=true and SHARED_MESH_CONFIG=isthmus-mesh, which it does not yet: \
             links wait until it does.",
        );
    }
    Ok(())
}
