//! A compiled checkout: what specs, templates and lock say together.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::checkout::CheckoutError;
use crate::cluster::objects::ApplyError;
use crate::model::known::{KnownCluster, expect_no_evidence_of_deckhouse, joined_spec, keep_what_links_rest_on};
use crate::model::layout::POLICY;
use crate::model::lock::{Edit, ISTIO_CONFIG, Lock, MESH_NAME, RECONCILER, Unreadable};
use crate::model::mesh::{EngineKey, Mesh, Reconciler};
use crate::model::policy::Policy;
use crate::pipeline::compile;
use crate::pipeline::plan::CompareError;
use crate::pipeline::plan::graph::Cycle;
use crate::pipeline::policy;
use crate::pipeline::recorded::{self, RestoredLinks};
use crate::pipeline::render::ComponentTemplates;
use crate::pipeline::template::Templates;
use crate::pipeline::tree::{Tree, TreeError};
use crate::spec::{SourceFile, parse_policy};
use crate::types::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, Digest, MeshName};
use crate::types::object::YamlError;

/// Why a run ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The specs, templates or lock are wrong.
    #[error("the checkout has findings")]
    Findings(Diagnostics),
    /// The tree cannot be written.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Steps need each other in a circle.
    #[error(transparent)]
    Cycle(#[from] Cycle),
    /// An object cannot be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// The cluster in which the run acts cannot be written.
    #[error(transparent)]
    Cluster(#[from] ApplyError),
}

impl From<CompareError> for Stop {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::Tree(error) => error.into(),
            CompareError::Yaml(error) => error.into(),
        }
    }
}

/// A cluster that the lock knows and no spec declares.
struct Vanished<'a> {
    cluster: &'a ClusterName,
}

impl Explain for Vanished<'_> {
    fn explanation(&self) -> Explanation {
        let message = format!("cluster `{}` is in the lock and no spec declares it", self.cluster);
        Explanation::new(Code::ClusterVanished, message)
            .hint("restore its document from git; to take it out of the mesh, set `state: leaving` and apply until it is gone")
    }
}

/// A field was edited although links rest on it.
#[derive(Debug)]
struct EditedWhileJoined<'a> {
    cluster: &'a ClusterName,
    edit: Edit,
    /// The cluster is to be handed over.
    hands_over: bool,
}

impl Explain for EditedWhileJoined<'_> {
    fn explanation(&self) -> Explanation {
        let Self { cluster, edit: Edit { field, joined, wanted }, hands_over } = self;
        let message = format!("`{cluster}` is joined with `{field}: {joined}`, and the spec has `{wanted}`");
        Explanation::new(Code::EditWhileJoined, message).hint(if *field == RECONCILER {
            "Deckhouse takes over nothing that others made, and leaves nothing to them: take the edit back, or set `state: leaving` and apply \
             until its links are gone, then edit it and join again"
        } else if *hands_over {
            "edit nothing but `reconciler` until the cluster is handed over; or take the edit back, set `state: leaving` and apply until its \
             links are gone, then edit it and join again"
        } else {
            "take the edit back, set `state: leaving` and apply until its links are gone; then edit it and join again"
        })
    }
}

/// The Mesh was renamed although links rest on its name.
#[derive(Debug)]
struct RenamedWhileJoined<'a> {
    wanted: &'a MeshName,
    /// The name of the mesh in which clusters are joined, and how many.
    joined: (&'a str, usize),
}

impl Explain for RenamedWhileJoined<'_> {
    fn explanation(&self) -> Explanation {
        let Self { wanted, joined: (before, count) } = self;
        let are = if *count == 1 { "cluster is" } else { "clusters are" };
        let message = format!("{count} {are} joined in the mesh `{before}`, and the Mesh is now named `{wanted}`");
        Explanation::new(Code::EditWhileJoined, message).hint(
            "take the edit back; a mesh gets another name only when no cluster is joined: set `state: leaving` for each and apply until its links are gone",
        )
    }
}

/// A spec states what another cluster is known by.
#[derive(Debug)]
struct Claim<'a> {
    cluster: &'a ClusterName,
    what: &'static str,
    value: String,
    other: &'a ClusterName,
}

impl Explain for Claim<'_> {
    fn explanation(&self) -> Explanation {
        let Self { cluster, what, value, other } = self;
        let message = format!("`{cluster}` states the {what} `{value}`, and `{other}` is known by it");
        Explanation::new(Code::NotUnique, message).hint("give each cluster its own")
    }
}

/// What a run reads of a checkout.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// `specs/**`.
    pub specs: Vec<SourceFile>,
    /// `templates/**`.
    pub templates: Vec<SourceFile>,
    /// `lock/**`, by path.
    pub lock: BTreeMap<String, Vec<u8>>,
    /// The cluster's own key, where its agent runs: the specs are those of that one cluster, and its peers.
    pub inside: Option<EngineKey>,
}

impl Input {
    /// A digest over the content of all of it and of the tree, by which a stored plan knows that nothing changed since.
    pub fn digest(&self) -> Digest {
        let mut text = Vec::new();
        let files =
            self.specs.iter().chain(&self.templates).map(|source| (source.path.as_ref(), source.bytes.as_slice()));
        let mut files: Vec<(&str, &[u8])> =
            files.chain(self.lock.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))).collect();
        files.sort_unstable();
        for (path, bytes) in files {
            text.extend_from_slice(format!("{} {path} {}\n", Digest::of(bytes), bytes.len()).as_bytes());
        }
        Digest::of(&text)
    }
}

/// A compiled checkout: mesh, lock, policy and templates, without findings that stop a run.
#[derive(Debug, Clone)]
pub struct Program {
    pub mesh: Mesh,
    /// The lock as read.
    pub lock: Lock,
    /// Files of the lock that could not be read: nothing is written or deleted for their clusters.
    pub unreadable: Unreadable,
    /// Links that the lock lost and that were taken from the tree, since that was asked for.
    pub restored: RestoredLinks,
    /// Findings that do not stop the run.
    pub warnings: Diagnostics,
    pub(super) templates: ComponentTemplates,
    pub(super) policy: Option<Policy>,
    pub(super) lock_files: BTreeMap<String, Vec<u8>>,
    /// The specs as compiled, before the lock changed anything of them.
    specs: Arc<CompiledSpecs>,
}

/// Specs, what other files they were compiled with, and what came of it.
#[derive(Debug)]
struct CompiledSpecs {
    sources: Vec<SourceFile>,
    /// Files of the checkout that were asked for, by path.
    files: BTreeMap<String, Option<Vec<u8>>>,
    mesh: Mesh,
    warnings: Diagnostics,
}

impl CompiledSpecs {
    /// Those of before, if all that they were made of is the same; else compiled anew.
    fn after(
        before: Option<&Arc<Self>>,
        sources: &[SourceFile],
        file: &dyn Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Arc<Self>, Diagnostics> {
        let is_same = |before: &&Arc<Self>| {
            // all of them are asked for: who watches the checkout learns of them so
            before.sources == sources && before.files.iter().fold(true, |same, (path, was)| (file(path) == *was) & same)
        };
        if let Some(before) = before.filter(is_same) {
            return Ok(before.clone());
        }
        let files = RefCell::new(BTreeMap::new());
        let (mesh, warnings) = compile::load(sources, env!("CARGO_PKG_VERSION"), &|path| {
            let found = file(path);
            files.borrow_mut().insert(path.to_owned(), found.clone());
            found
        })?;
        Ok(Arc::new(Self { sources: sources.to_vec(), files: files.into_inner(), mesh, warnings }))
    }
}

impl Program {
    /// Reads and compiles a checkout. `file` gives other files of it, such as CA certificates.
    pub fn load(input: &Input, file: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Self, Stop> {
        Self::load_after(None, input, file)
    }

    /// The same, with what was compiled before where the files that it was made of are the same: specs, each file of the lock, and what
    /// was rendered.
    pub fn load_after(
        before: Option<&Self>,
        input: &Input,
        file: &dyn Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, Stop> {
        let mut findings = Diagnostics::new();
        let same = before.filter(|before| before.lock_files == input.lock);
        let lock = if let Some(before) = same {
            Ok((before.lock.clone(), before.unreadable.clone()))
        } else {
            let files = input.lock.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
            Lock::read_after(files, &|path, bytes| before?.locked(path, bytes))
        };
        let templates = Templates::load(&input.templates);
        let policy = file(POLICY).map(|bytes| parse_policy(&SourceFile { path: POLICY.into(), bytes })).transpose();
        let compiled = CompiledSpecs::after(before.map(|before| &before.specs), &input.specs, file);
        let lock = lock.map_err(|found| findings.extend(found)).ok();
        let templates = templates.map_err(|found| findings.extend(found)).ok();
        let policy = policy.map_err(|found| findings.extend(found)).ok();
        let compiled = compiled.map_err(|found| findings.extend(found)).ok();
        let (Some((lock, unreadable)), Some(templates), Some(policy), Some(specs)) =
            (lock, templates, policy, compiled)
        else {
            return Err(Stop::Findings(findings));
        };
        let (mut mesh, mut warnings) = (specs.mesh.clone(), specs.warnings.clone());
        if let Some(key) = &input.inside {
            mesh.act_inside(key.clone());
        }
        let templates = ComponentTemplates::after(before.map(|before| &before.templates), templates);
        for finding in unreadable.findings() {
            warnings.push(Diagnostic { severity: Severity::Warning, ..finding.clone() });
        }
        let lock_files = input.lock.clone();
        keep_what_links_rest_on(&mut mesh, &lock);
        expect_no_evidence_of_deckhouse(&mut mesh, &lock);
        let restored = RestoredLinks::new();
        let program = Self { mesh, lock, unreadable, restored, warnings, templates, policy, lock_files, specs };
        program.refuse_vanished()?;
        program.refuse_edits()?;
        program.refuse_claims()?;
        Ok(program)
    }

    /// What a file of the lock holds, if it holds what it held; `None` where it could not be read, or may not be what was read.
    fn locked(&self, path: &str, bytes: &[u8]) -> Option<Lock> {
        let is_same = self.lock_files.get(path).is_some_and(|before| before == bytes);
        (is_same && self.restored.is_empty() && !self.unreadable.has(path)).then(|| self.lock.part(path))?
    }

    /// The files of the lock that a checkout hands over to the agent of a cluster, as that agent keeps them: what its peers rest on is
    /// what its own specs say of them. `input` has the agent's specs, and the files as they were handed over.
    pub fn handed_over(input: &Input) -> Result<BTreeMap<String, Vec<u8>>, Stop> {
        let files = input.lock.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let mut lock = Lock::parse(files).map_err(Stop::Findings)?;
        let compiled = compile::load(&input.specs, env!("CARGO_PKG_VERSION"), &|_| None);
        let (mut mesh, _) = compiled.map_err(Stop::Findings)?;
        if let Some(key) = &input.inside {
            mesh.act_inside(key.clone());
        }
        for (name, entry) in &mut lock.clusters {
            let peer = mesh.clusters.get(name).filter(|cluster| !cluster.is_ours());
            if let Some((joined, peer)) = entry.joined_with.as_mut().zip(peer) {
                joined.spec = joined_spec(&mesh, peer, Some(&joined.spec));
            }
        }
        Ok(lock.to_files()?.into_iter().map(|(path, text)| (path, text.into_bytes())).collect())
    }

    /// The same with who acts in each cluster by a lock that this run decided; `None`: as before. What a run hands over it renders for
    /// the other side at once, as the next run would.
    pub(super) fn acting_by(&self, lock: &Lock) -> Option<Self> {
        let given = self
            .mesh
            .clusters
            .values()
            .filter(|one| one.hands_over_to().is_some_and(|to| lock.acts_in(&one.name) == Some(to)));
        let given: Vec<ClusterName> = given.map(|cluster| cluster.name.clone()).collect();
        if given.is_empty() {
            return None;
        }
        let mut program = self.clone();
        for (_, cluster) in program.mesh.clusters.iter_mut().filter(|(name, _)| given.contains(name)) {
            let stated = cluster.stated();
            cluster.reconciler = stated.reconciler;
            cluster.stated = None;
            cluster.stated = (cluster.stated() != stated).then_some(stated);
        }
        Some(program)
    }

    /// Takes from the tree what the lock does not say: with what links were begun, where its entries are of version 1, and links
    /// that it lost, if `restores` is set.
    pub fn take_from_tree(&mut self, tree: &dyn Tree, restores: bool) -> Result<(), Stop> {
        if restores {
            self.restored = recorded::restore_links(&self.mesh, &mut self.lock, tree)?;
        }
        if recorded::fill_in(&self.mesh, &mut self.lock, tree)? {
            keep_what_links_rest_on(&mut self.mesh, &self.lock);
            self.refuse_edits()?;
            self.refuse_claims()?;
        }
        Ok(())
    }

    /// Whether the checkout has a policy.
    pub(crate) fn has_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// The policy of the checkout, which from here on judges it no more.
    pub(crate) fn take_policy(&mut self) -> Option<Policy> {
        self.policy.take()
    }

    /// What of specs and lock the checkout's own policy does not admit.
    pub(crate) fn violations(&self) -> Diagnostics {
        self.policy.as_ref().map(|policy| policy::judge(policy, &self.mesh, &self.lock)).unwrap_or_default()
    }

    /// What a spec states and another cluster is known by: two routes of one ID, or two clusters in one network.
    fn refuse_claims(&self) -> Result<(), Stop> {
        let mut findings = Diagnostics::new();
        let mut owners: BTreeMap<(&'static str, String), BTreeSet<&ClusterName>> = BTreeMap::new();
        for known in self.mesh.clusters.keys().filter_map(|name| KnownCluster::of(&self.mesh, &self.lock, name)) {
            let ids = [known.cluster_id(), known.own_cluster_id()].map(|id| ("cluster ID", id.to_string()));
            let proxy = known.endpoint().filter(|_| !known.cluster.flat_network);
            let network = proxy.iter().map(|proxy| ("network", proxy.network.to_string()));
            let gateways = proxy.iter().flat_map(|proxy| &proxy.gateways);
            let gateways = gateways.map(|gateway| ("gateway", gateway.to_string()));
            for value in ids.into_iter().chain(network).chain(gateways) {
                owners.entry(value).or_default().insert(&known.cluster.name);
            }
        }
        for cluster in self.mesh.clusters.values() {
            let id = cluster.cluster_id.iter().map(|id| ("cluster ID", id.to_string()));
            let network = cluster.network.iter().map(|network| ("network", network.to_string()));
            let gateways = cluster.gateways.iter().flatten().map(|gateway| ("gateway", gateway.to_string()));
            for (what, value) in id.chain(network).chain(gateways) {
                let others = owners.get(&(what, value.clone())).into_iter().flatten();
                if let Some(other) = others.copied().find(|other| **other != cluster.name) {
                    let finding = Claim { cluster: &cluster.name, what, value, other };
                    findings.push(Diagnostic::error(Some(cluster.at.clone()), finding));
                }
            }
        }
        if findings.has_errors() { Err(Stop::Findings(findings)) } else { Ok(()) }
    }

    /// What no edit changes while a link names the cluster. It is in the lock as it was when the first one began.
    fn refuse_edits(&self) -> Result<(), Stop> {
        let mut findings = Diagnostics::new();
        let mut renamed: BTreeMap<String, usize> = BTreeMap::new();
        for (name, locked) in &self.lock.clusters {
            let Some((joined, cluster)) = locked.joined_with.as_ref().zip(self.mesh.clusters.get(name)) else {
                continue;
            };
            let mut edits = joined.spec.edits(&joined_spec(&self.mesh, cluster, Some(&joined.spec)));
            // both are written until the cluster shows that the values are in effect
            let moves = cluster.moves_mesh_config_to().is_some() && cluster.shows_mesh_config();
            edits.retain(|edit| edit.field != ISTIO_CONFIG || !moves);
            // who acts stays until the other has what links rest on
            edits.retain(|edit| edit.field != RECONCILER || cluster.hands_over_to().is_none());
            // links that never opened begin anew
            edits.retain(|edit| edit.field == MESH_NAME || !self.lock.only_joins(name));
            // without relay and api-proxy all of its links are cut at once
            let is_rendered = [cluster.reconciler, cluster.stated().reconciler].contains(&Reconciler::Rendered);
            if is_rendered && cluster.components.is_none() {
                let (field, joined, wanted) = ("multicluster.enabled", "true".to_owned(), "false".to_owned());
                edits.push(Edit { field, joined, wanted });
            }
            for edit in edits {
                if edit.field == MESH_NAME {
                    *renamed.entry(edit.joined).or_default() += 1;
                    continue;
                }
                let finding = EditedWhileJoined { cluster: name, edit, hands_over: cluster.hands_over_to().is_some() };
                findings.push(Diagnostic::refusal(Some(cluster.at.clone()), finding));
            }
        }
        for (before, count) in &renamed {
            let finding = RenamedWhileJoined { wanted: &self.mesh.name, joined: (before, *count) };
            findings.push(Diagnostic::refusal(Some(self.mesh.at.clone()), finding));
        }
        if findings.has_errors() { Err(Stop::Findings(findings)) } else { Ok(()) }
    }

    /// A cluster that the lock knows and no spec declares did not leave: its document vanished.
    fn refuse_vanished(&self) -> Result<(), Stop> {
        let mut findings = Diagnostics::new();
        let linked = self.lock.links.iter().flat_map(|(reader, links)| std::iter::once(reader).chain(links.keys()));
        let unreadable = self.unreadable.entries.keys().chain(self.unreadable.links.keys());
        let known: BTreeSet<&ClusterName> = self.lock.clusters.keys().chain(linked).chain(unreadable).collect();
        for name in known.into_iter().filter(|name| !self.mesh.clusters.contains_key(*name)) {
            findings.push(Diagnostic::refusal(None, Vanished { cluster: name }));
        }
        if findings.has_errors() { Err(Stop::Findings(findings)) } else { Ok(()) }
    }
}
