//! Rendering: what the spec declares and the lock knows, as objects and files of one cluster.
//!
//! The stage is pure: it sees mesh, lock, templates and which files of the tree it takes the places of; never an observation,
//! a clock, a key or a network. The stages of the links in the lock say everything; no gate is judged here.
//!
//! 1. [`RenderContext::new`] makes, once for all readers, what a peer looks like from outside.
//! 2. [`RenderContext::render`] puts those pieces together for one reader, by its reconciler.
//! 3. Every object gets our labels, its steps and its sync wave; what holds a document of its own (mesh configuration,
//!    kubeconfig) is read back by another parser and compared with the model.

mod components;
mod memo;
mod mesh_config;
mod multicluster;
mod peers;
mod pieces;
mod rendered;
mod secret;
mod stencil;

use std::collections::BTreeMap;
use std::fmt;

use crate::pipeline::render::pieces::{Piece, PiecedConfigMap};
pub use crate::pipeline::render::rendered::RenderedObject;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::known::{Known, Proxy};
use crate::model::layout::rendered_folder;
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{Cluster, EngineKey, Mesh, MeshConfigTarget, Reconciler, State};
use crate::pipeline::template::Templates;
use crate::types::diagnostic::{Diagnostic, Diagnostics};
use crate::types::name::{ClusterId, ClusterName, MeshName, TrustDomain};
use crate::types::object::{MANAGED_BY, MESH_LABEL, OWNER_LABEL, Object, STEPS_ANNOTATION, SYNC_WAVE, to_yaml};
use crate::types::step::{StepId, StepKind};

/// Most bytes of the data of a ConfigMap; Kubernetes refuses more than 1 MiB.
pub const MAX_CONFIG_MAP: usize = 1_000_000;

/// All output for one cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RenderedCluster {
    /// Kubernetes objects, sorted by id, one file each below `rendered/<cluster>/`.
    pub objects: Vec<RenderedObject>,
    /// Files that are no Kubernetes objects, by path below the checkout: `rendered/<cluster>/kustomization.yaml` and
    /// what lies in `values/<cluster>/`.
    pub extra: BTreeMap<String, ExtraFile>,
    /// Steps whose input was never seen, with what they wait for.
    pub waiting: Vec<(StepId, String)>,
    /// What is odd and no error.
    pub warnings: Vec<Diagnostic>,
}

/// A file that is no Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraFile {
    /// Its whole text.
    pub text: String,
    /// Its steps, in order; empty for the kustomization, which follows from all.
    pub steps: Vec<StepId>,
}

/// Files of each cluster's folder with remote secrets made by hand that were given to this mesh: the kustomization lists them
/// until ours take their places, or they would be pruned.
pub type Given = BTreeMap<ClusterName, Vec<String>>;

/// Renders one cluster. To render many, make one [`RenderContext`] for all.
pub fn render_cluster(
    mesh: &Mesh,
    lock: &Lock,
    templates: &Templates,
    cluster: &ClusterName,
) -> Result<RenderedCluster, Diagnostics> {
    RenderContext::new(mesh, lock, templates, &Given::new())?.render(cluster)
}

/// What all readers of a mesh share. Cheap to use from several threads.
#[derive(Debug)]
pub struct RenderContext<'a> {
    mesh: &'a Mesh,
    lock: &'a Lock,
    templates: &'a Templates,
    given: &'a Given,
    engine_keys: Vec<EngineKey>,
    peers: BTreeMap<&'a ClusterName, Peer<'a>>,
    components: components::Cache,
    entries: mesh_config::Entries,
    kubeconfigs: secret::Kubeconfigs,
}

/// A cluster as its readers see it.
#[derive(Debug)]
struct Peer<'a> {
    known: Known<'a>,
    cluster_id: ClusterId,
    /// YAML takes the cluster ID for a text without quotes.
    plain_id: bool,
    trust_domain: TrustDomain,
    proxy: Option<Proxy>,
    /// Its entry of `peers.json`.
    entry: Piece,
    /// Its entry of `routes.json`, once it is known how to reach it.
    route: Option<Piece>,
}

/// A link of the reader at hand, its peer known.
#[derive(Debug, Clone, Copy)]
struct Link<'c> {
    name: &'c ClusterName,
    peer: &'c Peer<'c>,
    stage: Stage,
}

/// The reader at hand.
#[derive(Debug)]
struct Reader<'c> {
    mesh: &'c Mesh,
    cluster: &'c Cluster,
    known: Option<Known<'c>>,
    engine_keys: &'c [EngineKey],
    links: Vec<Link<'c>>,
}

impl<'a> RenderContext<'a> {
    /// Makes the pieces that do not depend on the reader.
    pub fn new(
        mesh: &'a Mesh,
        lock: &'a Lock,
        templates: &'a Templates,
        given: &'a Given,
    ) -> Result<Self, Diagnostics> {
        let stated = mesh.engine_keys.iter().cloned();
        let recorded = lock.engine_keys.iter();
        let recorded = recorded.map(|(id, key)| EngineKey { id: id.clone(), key: key.clone() });
        let mut engine_keys: Vec<_> = if mesh.engine_keys.is_empty() { recorded.collect() } else { stated.collect() };
        engine_keys.sort_by(|a, b| a.id.cmp(&b.id));
        let mut peers = BTreeMap::new();
        for name in mesh.clusters.keys() {
            let Some(known) = Known::of(mesh, lock, name) else {
                continue;
            };
            let cluster_id = known.cluster_id();
            let proxy = known.proxy();
            let route = proxy.as_ref().map(|proxy| peers::route(&known, &cluster_id, proxy));
            let peer = Peer {
                entry: Piece::new(peers::entry(name, &known).map_err(internal)?),
                route: route.transpose().map_err(internal)?.map(Piece::new),
                trust_domain: known.trust_domain(),
                plain_id: to_yaml(&cluster_id).is_ok_and(|text| text.trim_end() == cluster_id.as_str()),
                known,
                cluster_id,
                proxy,
            };
            peers.insert(name, peer);
        }
        Ok(Self {
            mesh,
            lock,
            templates,
            given,
            engine_keys,
            peers,
            components: components::Cache::default(),
            entries: mesh_config::Entries::default(),
            kubeconfigs: secret::Kubeconfigs::default(),
        })
    }

    /// Renders one cluster; nothing for a name that the mesh does not have.
    pub fn render(&self, cluster: &ClusterName) -> Result<RenderedCluster, Diagnostics> {
        let mut out = RenderedCluster::default();
        let Some(cluster) = self.mesh.clusters.get(cluster) else {
            return Ok(out);
        };
        if cluster.reconciler == Reconciler::External {
            return Ok(out);
        }
        let reader = self.reader(cluster, &mut out);
        let mut findings = Diagnostics::new();
        if !self.is_gone(cluster) {
            let rendered = match cluster.reconciler {
                Reconciler::Rendered => self.rendered(&reader, &mut out),
                Reconciler::Deckhouse => {
                    multicluster::render(&reader, &mut out);
                    Ok(())
                }
                Reconciler::External => Ok(()),
            };
            if let Err(failed) = rendered {
                findings.extend(failed);
            }
        }
        check_sizes(&reader, &out, &mut findings);
        if findings.has_errors() {
            return Err(findings);
        }
        out.objects.sort_by(|a, b| a.id().cmp(b.id()));
        let path = format!("{}/kustomization.yaml", rendered_folder(&cluster.name));
        out.extra.insert(path, kustomization(&reader, self.given, &out)?);
        Ok(out)
    }

    /// Left for good: it is leaving and no link names it any more.
    fn is_gone(&self, cluster: &Cluster) -> bool {
        let reads = self.lock.links.get(&cluster.name).is_some_and(|links| !links.is_empty());
        let is_read = || self.lock.links.values().any(|links| links.contains_key(&cluster.name));
        cluster.state == State::Leaving && !reads && !is_read()
    }

    fn reader<'c>(&'c self, cluster: &'c Cluster, out: &mut RenderedCluster) -> Reader<'c> {
        let mut links = Vec::new();
        for (name, link) in self.lock.links_of(&cluster.name) {
            if let Some(peer) = self.peers.get(name) {
                links.push(Link { name, peer, stage: link.stage });
            } else {
                let reason = format!("nothing is known of `{name}` any more");
                out.waiting.push((StepId::of(StepKind::FetchCa, name), reason));
            }
        }
        let known = self.peers.get(&cluster.name).map(|own| own.known);
        Reader { mesh: self.mesh, cluster, known, engine_keys: &self.engine_keys, links }
    }

    fn rendered(&self, reader: &Reader<'_>, out: &mut RenderedCluster) -> Result<(), Diagnostics> {
        components::render(reader, self.templates, &self.components, out)?;
        peers::render(reader, out)?;
        match reader.cluster.istio.config {
            MeshConfigTarget::None => {}
            target => mesh_config::render(reader, &self.entries, target, out)?,
        }
        peers::render_routes(reader, out);
        secret::render(reader, &self.kubeconfigs, out)
    }
}

impl<'c> Reader<'c> {
    fn step(&self, kind: StepKind) -> StepId {
        StepId::of(kind, &self.cluster.name)
    }

    /// Links whose network and route are rendered, with what is needed to reach the peer.
    fn reachable<'r>(&'r self) -> impl Iterator<Item = (&'r Link<'c>, &'c Proxy)> + use<'r, 'c> {
        let live = self.links.iter().filter(|link| link.stage.has_network());
        live.filter_map(|link| Some((link, link.peer.proxy.as_ref()?)))
    }

    /// An object of ours in the namespace of the cluster's istiod.
    fn object(&self, api_version: &str, kind: &str, name: &str, steps: Vec<StepId>) -> Draft {
        let mut draft = self.cluster_object(api_version, kind, name, steps);
        let namespace = self.cluster.istio.namespace.as_str().into();
        draft.metadata.insert("namespace".to_owned(), namespace);
        draft
    }

    /// A cluster-scoped object of ours.
    fn cluster_object(&self, api_version: &str, kind: &str, name: &str, steps: Vec<StepId>) -> Draft {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), name.into());
        Draft {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            metadata,
            labels: ownership(&self.mesh.name),
            annotations: step_annotations(&steps),
            fields: Map::new(),
            steps,
        }
    }

    /// A ConfigMap of ours with these texts.
    fn config_map(
        &self,
        name: &str,
        steps: Vec<StepId>,
        data: impl IntoIterator<Item = (&'static str, Vec<Piece>)>,
    ) -> RenderedObject {
        let (frame, steps) = self.object("v1", "ConfigMap", name, steps).object();
        RenderedObject::pieced(frame.id(), steps, PiecedConfigMap::new(frame, data.into_iter().collect()))
    }
}

/// An object in the making.
struct Draft {
    api_version: String,
    kind: String,
    metadata: Map<String, Value>,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    fields: Map<String, Value>,
    steps: Vec<StepId>,
}

impl Draft {
    fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.into());
        self
    }

    fn annotation(mut self, key: &str, value: String) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    fn field(mut self, key: &str, value: Value) -> Self {
        self.fields.insert(key.to_owned(), value);
        self
    }

    fn done(self) -> RenderedObject {
        let (object, steps) = self.object();
        RenderedObject::new(object, steps)
    }

    fn object(mut self) -> (Object, Vec<StepId>) {
        self.metadata.insert("labels".to_owned(), self.labels.into());
        self.metadata.insert("annotations".to_owned(), self.annotations.into());
        self.fields.insert("metadata".to_owned(), self.metadata.into());
        (Object { api_version: self.api_version, kind: self.kind, fields: self.fields }, self.steps)
    }
}

/// The labels by which our tree writer knows its own.
fn ownership(mesh: &MeshName) -> Map<String, Value> {
    let labels = [(MANAGED_BY, "isthmus"), (MESH_LABEL, mesh.as_str()), (OWNER_LABEL, "tree")];
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// The steps of an object and the wave in which Argo CD syncs it: that of its first step.
fn step_annotations(steps: &[StepId]) -> Map<String, Value> {
    let list: Vec<_> = steps.iter().map(ToString::to_string).collect();
    let wave = steps.iter().map(|step| step.kind.sync_wave()).min().unwrap_or_default();
    let mut annotations = Map::new();
    annotations.insert(STEPS_ANNOTATION.to_owned(), list.join(",").into());
    annotations.insert(SYNC_WAVE.to_owned(), wave.to_string().into());
    annotations
}

/// Kustomize's list of what lies beside it. Its labels say whose it is and reach no object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kustomization<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Value,
    resources: Vec<String>,
}

fn kustomization(reader: &Reader<'_>, given: &Given, out: &RenderedCluster) -> Result<ExtraFile, Diagnostics> {
    let rendered = out.objects.iter().map(|rendered| rendered.id().file_name());
    let given = given.get(&reader.cluster.name).into_iter().flatten().cloned();
    let mut resources: Vec<_> = rendered.chain(given).collect();
    resources.sort();
    resources.dedup();
    let labels = ownership(&reader.mesh.name);
    let text = to_yaml(&Kustomization {
        api_version: "kustomize.config.k8s.io/v1beta1",
        kind: "Kustomization",
        metadata: json!({ "name": reader.cluster.name, "labels": labels }),
        resources,
    });
    Ok(ExtraFile { text: text.map_err(internal)?, steps: Vec::new() })
}

fn check_sizes(reader: &Reader<'_>, out: &RenderedCluster, findings: &mut Diagnostics) {
    for rendered in &out.objects {
        if let Some(bytes) = rendered.config_map_bytes() {
            check_size(reader, &rendered.id().to_string(), bytes, findings);
        }
    }
    for (path, file) in &out.extra {
        check_size(reader, path, file.text.len(), findings);
    }
}

fn check_size(reader: &Reader<'_>, what: &str, bytes: usize, findings: &mut Diagnostics) {
    if bytes <= MAX_CONFIG_MAP {
        return;
    }
    let message = format!(
        "`{what}` of cluster `{}` would have {bytes} bytes, and Kubernetes keeps at most {MAX_CONFIG_MAP} in one object: \
         about 760 peers with RSA-2048 roots, more with EC roots",
        reader.cluster.name
    );
    findings.push(
        Diagnostic::error(Some(reader.cluster.at.clone()), message)
            .hint("link fewer clusters with each other (`topology: pairs`), or give the clusters EC roots"),
    );
}

/// A value that could not be written, or does not read back as what it was.
fn internal(error: impl fmt::Display) -> Diagnostics {
    Diagnostics::from(Diagnostic::error(None, error.to_string()))
}

/// Checks that another parser reads the text as the model it was written from.
fn check_reads_back<T: Serialize>(model: &T, text: &str, what: &str) -> Result<(), Diagnostics> {
    let wanted = serde_json::to_value(model).map_err(internal)?;
    match serde_yaml::from_str::<Value>(text) {
        Ok(read) if read == wanted => Ok(()),
        Ok(_) => Err(internal(format!("{what} does not read back as it was meant, so it is not written"))),
        Err(error) => Err(internal(format!("{what} does not read back, so it is not written: {error}"))),
    }
}
