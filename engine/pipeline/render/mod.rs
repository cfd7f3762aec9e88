//! Rendering: what the spec declares and the lock knows, as objects and files of one cluster.
//!
//! The stage is pure: it sees mesh, lock, templates and which files of the tree it takes the places of; never an observation,
//! a clock, a key or a network. The stages of the links in the lock say everything; no gate is judged here.
//!
//! 1. [`RenderContext::new`] makes, once for all readers, what a peer looks like from outside.
//! 2. [`RenderContext::render`] puts those fragments together for one reader, by its reconciler.
//! 3. Every object gets our labels, its steps and its sync wave; what holds a document of its own (mesh configuration,
//!    kubeconfig) is read back by another parser and compared with the model.

mod agent;
mod check;
mod components;
mod draft;
mod finding;
mod fragments;
mod given;
mod kubeconfig;
mod kustomization;
mod marks;
mod memo;
mod mesh_config;
mod multicluster;
mod output;
mod peers;
mod reader;
mod reasons;
mod rendered;
mod secret;
mod secret_text;
mod sizes;
mod templated;
mod text_template;

use std::collections::BTreeMap;

pub use self::components::ComponentTemplates;
pub(crate) use self::given::given;
pub use self::output::{ExtraFile, Given, RenderedCluster};
pub use self::reasons::RenderWait;
pub use self::rendered::RenderedObject;
pub use self::sizes::MAX_CONFIG_MAP;

use self::check::internal;
use self::fragments::Fragment;
use self::kustomization::kustomization;
use self::reader::{PeerEntries, PeerView, ReaderLink, ReaderView};
use self::sizes::check_sizes;
use crate::model::known::KnownCluster;
use crate::model::layout::rendered_folder;
use crate::model::lock::Lock;
use crate::model::mesh::{Cluster, EngineKey, Mesh, MeshConfigTarget, Reconciler};
use crate::pipeline::template::Templates;
use crate::types::diagnostic::Diagnostics;
use crate::types::name::ClusterName;
use crate::types::object::to_yaml_again;
use crate::types::step::{StepId, StepKind};

/// Renders one cluster. To render many, make one [`RenderContext`] for all.
pub fn render_cluster(
    mesh: &Mesh,
    lock: &Lock,
    templates: &Templates,
    cluster: &ClusterName,
) -> Result<RenderedCluster, Diagnostics> {
    RenderContext::new(mesh, lock, &templates.clone().into(), &Given::new())?.render(cluster)
}

/// What all readers of a mesh share. Cheap to use from several threads.
#[derive(Debug)]
pub struct RenderContext<'a> {
    mesh: &'a Mesh,
    lock: &'a Lock,
    templates: &'a ComponentTemplates,
    given: &'a Given,
    engine_keys: Vec<EngineKey>,
    peers: BTreeMap<&'a ClusterName, PeerView<'a>>,
    peer_entries: PeerEntries,
    entries: mesh_config::Entries,
    kubeconfigs: secret_text::Kubeconfigs,
}

impl<'a> RenderContext<'a> {
    /// Makes the fragments that do not depend on the reader.
    pub fn new(
        mesh: &'a Mesh,
        lock: &'a Lock,
        templates: &'a ComponentTemplates,
        given: &'a Given,
    ) -> Result<Self, Diagnostics> {
        let stated = mesh.engine_keys.iter().cloned();
        let recorded = lock.engine_keys.iter();
        let recorded = recorded.map(|(id, key)| EngineKey { id: id.clone(), key: key.clone() });
        let mut engine_keys: Vec<_> = if mesh.engine_keys.is_empty() { recorded.collect() } else { stated.collect() };
        engine_keys.sort_by(|a, b| a.id.cmp(&b.id));
        let mut peers = BTreeMap::new();
        for name in mesh.clusters.keys() {
            let Some(known) = KnownCluster::of(mesh, lock, name) else {
                continue;
            };
            let cluster_id = known.cluster_id();
            let proxy = known.endpoint();
            let route = proxy.as_ref().map(|proxy| peers::route(&known, &cluster_id, proxy));
            let peer = PeerView {
                route: route.transpose().map_err(internal)?.map(Fragment::new),
                trust_domain: known.trust_domain(),
                plain_id: to_yaml_again(&cluster_id).is_ok_and(|text| text.trim_end() == cluster_id.as_str()),
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
            peer_entries: PeerEntries::default(),
            entries: mesh_config::Entries::default(),
            kubeconfigs: secret_text::Kubeconfigs::default(),
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
                Reconciler::Agent => {
                    let components = components::render(&reader, self.templates, &mut out);
                    multicluster::render(&reader, &mut out);
                    peers::rights(&reader, &mut out);
                    components.and_then(|()| agent::render(&reader, &mut out))
                }
                Reconciler::Deckhouse => {
                    multicluster::render(&reader, &mut out);
                    Ok(())
                }
                Reconciler::External => Ok(()),
            };
            match rendered.and_then(|()| agent::offer(&reader)) {
                Ok(offer) => out.objects.extend(offer),
                Err(failed) => findings.extend(failed),
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

    /// Left for good: it is leaving, and neither a link nor the lock names it any more.
    fn is_gone(&self, cluster: &Cluster) -> bool {
        let reads = self.lock.links.get(&cluster.name).is_some_and(|links| !links.is_empty());
        let is_read = || self.lock.links.values().any(|links| links.contains_key(&cluster.name));
        let is_locked = || self.lock.clusters.contains_key(&cluster.name);
        cluster.state.is_going() && !reads && !is_read() && !is_locked()
    }

    fn reader<'c>(&'c self, cluster: &'c Cluster, out: &mut RenderedCluster) -> ReaderView<'c> {
        let mut links = Vec::new();
        for (name, link) in self.lock.links_of(&cluster.name) {
            if let Some(peer) = self.peers.get(name) {
                let (stage, may_be_live) = (link.stage, link.may_be_live());
                let states_leaving = stage.is_leaving() && peer.known.cluster.reconciler == Reconciler::External;
                links.push(ReaderLink { name, peer, stage, may_be_live, merged: link.merged, states_leaving });
            } else {
                let reason = RenderWait::NotInLock { cluster: name.clone() };
                out.waiting.push((StepId::of(StepKind::FetchCa, name), reason));
            }
        }
        let known = self.peers.get(&cluster.name).map(|own| own.known);
        let serial = self.lock.serials.get(&cluster.name);
        let serial = serial.map(|serial| (*serial, self.lock.joined_links(&cluster.name)));
        let is_former = self.lock.former.contains(&cluster.name);
        ReaderView {
            mesh: self.mesh,
            lock: self.lock,
            cluster,
            known,
            engine_keys: &self.engine_keys,
            entries: &self.peer_entries,
            links,
            serial,
            is_former,
        }
    }

    fn rendered(&self, reader: &ReaderView<'_>, out: &mut RenderedCluster) -> Result<(), Diagnostics> {
        components::render(reader, self.templates, out)?;
        peers::render(reader, out)?;
        match reader.mesh_config() {
            MeshConfigTarget::None => {}
            target => mesh_config::render(reader, &self.entries, target, out)?,
        }
        peers::render_routes(reader, out)?;
        // before the agent takes them, it is told of them
        if !self.mesh.inside && reader.is_to_give() == Some(Reconciler::Agent) {
            agent::render(reader, out)?;
            multicluster::render(reader, out);
        }
        secret::render(reader, &self.kubeconfigs, out)
    }
}
