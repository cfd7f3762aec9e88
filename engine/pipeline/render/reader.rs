//! The reader whose tree is rendered, its links, and its peers as all readers see them.

use serde_json::Map;

use crate::model::known::{KnownCluster, PeerEndpoint};
use crate::model::lock::{HandOver, Lock, Stage};
use crate::model::mesh::{Cluster, EngineKey, Mesh, MeshConfigTarget, Reconciler};
use crate::pipeline::render::draft::ObjectDraft;
use crate::pipeline::render::fragments::{Fragment, FragmentedConfigMap};
use crate::pipeline::render::marks::{ownership, step_annotations};
use crate::pipeline::render::memo::Memo;
use crate::pipeline::render::rendered::RenderedObject;
use crate::types::name::{ClusterId, ClusterName, MeshId, TrustDomain};
use crate::types::step::{StepId, StepKind};
use crate::wire::agent::AGENT_MAP;
use crate::wire::hand_over::{ARGO_KEEPS, FLUX_KEEPS, TO_AGENT};
use crate::wire::share::Share;

/// Entries of `peers.json`, each made once for all clusters that share alike with its peer, and that it leaves or not.
pub(super) type PeerEntries = Memo<(ClusterName, Share, bool), Fragment>;

/// A cluster as its readers see it.
#[derive(Debug)]
pub(super) struct PeerView<'a> {
    pub(super) known: KnownCluster<'a>,
    pub(super) cluster_id: ClusterId,
    /// YAML takes the cluster ID for a text without quotes.
    pub(super) plain_id: bool,
    pub(super) trust_domain: TrustDomain,
    pub(super) proxy: Option<PeerEndpoint>,
    /// Its entry of `routes.json`, once it is known how to reach it.
    pub(super) route: Option<Fragment>,
}

/// A link of the reader whose tree is rendered, its peer known.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReaderLink<'c> {
    pub(super) name: &'c ClusterName,
    pub(super) peer: &'c PeerView<'c>,
    pub(super) stage: Stage,
    /// Its secret may be live.
    pub(super) may_be_live: bool,
    /// Policies of the reader take identities of the peer's trust domain for their own.
    pub(super) merged: bool,
    /// It leaves, and the peer has to be shown that: another team's or an agent's run takes its other direction away.
    pub(super) states_leaving: bool,
}

/// The reader whose tree is rendered.
#[derive(Debug)]
pub(super) struct ReaderView<'c> {
    pub(super) mesh: &'c Mesh,
    pub(super) lock: &'c Lock,
    pub(super) cluster: &'c Cluster,
    pub(super) known: Option<KnownCluster<'c>>,
    pub(super) engine_keys: &'c [EngineKey],
    /// Entries of `peers.json` that were made.
    pub(super) entries: &'c PeerEntries,
    pub(super) links: Vec<ReaderLink<'c>>,
    /// The number of its links' last move, and the name of those that are joined since.
    pub(super) serial: Option<(u64, String)>,
    /// Its lock entry is of version 1: what its links rest on is written once `apply` writes it.
    pub(super) is_former: bool,
}

impl<'c> ReaderView<'c> {
    pub(super) fn step(&self, kind: StepKind) -> StepId {
        StepId::of(kind, &self.cluster.name)
    }

    /// Links whose network and route are rendered, with what is needed to reach the peer.
    pub(super) fn reachable<'r>(
        &'r self,
    ) -> impl Iterator<Item = (&'r ReaderLink<'c>, &'c PeerEndpoint)> + use<'r, 'c> {
        let live = self.links.iter().filter(|link| link.stage.has_network());
        live.filter_map(|link| Some((link, link.peer.proxy.as_ref()?)))
    }

    /// `global.meshID` of its Istio.
    pub(super) fn mesh_id(&self) -> &'c MeshId {
        self.known.map_or(&self.mesh.mesh_id, |known| known.mesh_id(self.mesh))
    }

    /// Where its roots and networks are written.
    pub(super) fn mesh_config(&self) -> MeshConfigTarget {
        self.known.map_or(self.cluster.istio.config, |known| known.mesh_config())
    }

    /// Whether its relay asks istiod for a token, and its remote secrets say where istiod has it.
    pub(super) fn requires_token(&self) -> bool {
        let stated = || self.mesh.require_token.unwrap_or(false);
        self.known.map_or_else(stated, |known| known.requires_token(self.mesh))
    }

    /// Whether its istiod is given the token. Where nothing is stated it is, before the first link opens: whether a token is
    /// required is decided then, by what istiod has.
    pub(super) fn carries_token(&self) -> bool {
        let nothing_opened = || self.links.iter().all(|link| link.stage == Stage::Joining);
        self.mesh
            .require_token
            .unwrap_or_else(|| self.requires_token() || (!self.cluster.state.is_going() && nothing_opened()))
    }

    /// Whether its networks are not written yet: they would replace networks of which no one knows. What may be live stays.
    pub(super) fn keeps_standard_networks(&self) -> bool {
        let awaits = self.known.is_some_and(|known| known.awaits_standard_networks());
        awaits && !self.links.iter().any(|link| link.may_be_live)
    }

    /// From whom to whom the objects of the cluster go, while they are handed over.
    pub(super) fn hand_over(&self) -> Option<HandOver> {
        self.known.and_then(|known| known.locked.hand_over)
    }

    /// Who is to act in the cluster, as long as who acted before still does.
    pub(super) fn is_to_give(&self) -> Option<Reconciler> {
        self.hand_over().map(|hand_over| hand_over.to).filter(|to| *to != self.cluster.reconciler)
    }

    /// Whether the cluster goes from its checkout to its agent, or back: what runs there changes, and both run for a while.
    pub(super) fn changes_roles(&self) -> bool {
        self.hand_over().is_some_and(|hand_over| !hand_over.is_taken_back() && !hand_over.is_with(Reconciler::External))
    }

    /// The serial of its links.
    pub(super) fn serial_of_links(&self) -> u64 {
        self.serial.as_ref().map(|(serial, _)| *serial).unwrap_or_default()
    }

    /// Annotations of what is handed over: the agent knows by one what it may take, and no tool that syncs deletes it for the others
    /// when it is not, or no longer, in the checkout. What was taken back keeps those for tools until that is seen, since a commit of
    /// before has none of it. An agent takes objects of links alone, and another checkout all.
    pub(super) fn marks(&self, is_of_links: bool) -> Vec<(&'static str, &'static str)> {
        let Some(hand_over) = self.hand_over().filter(|hand_over| !hand_over.is_taken_back()) else {
            return Vec::new();
        };
        let is_of_agent = self.changes_roles();
        if is_of_agent && !(is_of_links && self.cluster.reconciler == Reconciler::Rendered) {
            return Vec::new();
        }
        let taker = Some(TO_AGENT).filter(|_| is_of_agent && hand_over.to == Reconciler::Agent);
        taker.into_iter().chain([ARGO_KEEPS, FLUX_KEEPS]).collect()
    }

    /// An object of ours in the namespace of the cluster's istiod.
    pub(super) fn object(&self, api_version: &str, kind: &str, name: &str, steps: Vec<StepId>) -> ObjectDraft {
        let mut draft = self.draft(api_version, kind, name, steps, name != AGENT_MAP);
        let namespace = self.cluster.istio.namespace.as_str().into();
        draft.metadata.insert("namespace".to_owned(), namespace);
        draft
    }

    /// A cluster-scoped object of ours.
    pub(super) fn cluster_object(&self, api_version: &str, kind: &str, name: &str, steps: Vec<StepId>) -> ObjectDraft {
        self.draft(api_version, kind, name, steps, false)
    }

    fn draft(&self, api_version: &str, kind: &str, name: &str, steps: Vec<StepId>, is_of_links: bool) -> ObjectDraft {
        let mut annotations = step_annotations(&steps);
        let marks = self.marks(is_of_links).into_iter();
        annotations.extend(marks.map(|(key, value)| (key.to_owned(), value.into())));
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), name.into());
        ObjectDraft {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            metadata,
            labels: ownership(&self.mesh.name),
            annotations,
            fields: Map::new(),
            steps,
        }
    }

    /// A ConfigMap of ours with these texts.
    pub(super) fn config_map(
        &self,
        name: &str,
        steps: Vec<StepId>,
        data: impl IntoIterator<Item = (&'static str, Vec<Fragment>)>,
    ) -> RenderedObject {
        let (frame, steps) = self.object("v1", "ConfigMap", name, steps).object();
        RenderedObject::pieced(frame.id(), steps, FragmentedConfigMap::new(frame, data.into_iter().collect()))
    }
}
