//! Spec → Mesh: references, defaults, and the rules across clusters. Pure: files of the checkout come in as a function.
//!
//! 1. `cluster` fills in the defaults of each cluster and checks what concerns it alone,
//! 2. this module settles the Mesh document and who is linked with whom,
//! 3. `rules` checks what concerns several clusters.
//!
//! All findings come at once. The result does not depend on the order of documents and files, but for the places.

mod cluster;
mod finding;
mod gateway_finding;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::finding::CompileFinding;
use crate::model::mesh::{EngineKey, FirstContact, Mesh, Reconciler, Topology};
use crate::spec::{At, ClusterSpec, MeshSpec, SourceFile, Spec, parse_all};
use crate::types::diagnostic::{Diagnostic, Diagnostics, Location, did_you_mean};
use crate::types::key::PublicKey;
use crate::types::name::{ClusterName, MeshId};

/// How long each stage of leaving takes without evidence, when no spec says it.
const DEFAULT_SETTLE: Duration = Duration::from_hours(1);
/// How long a root stays trusted after it was published last, when no spec says it: the day that Istio's certificates of
/// workloads live, and an hour.
const DEFAULT_ROOT_OVERLAP: Duration = Duration::from_hours(25);

/// Times that a Mesh states for all its clusters.
#[derive(Debug, Clone, Copy)]
struct Times {
    settle: Duration,
    root_overlap: Duration,
}

/// A file of the checkout by its path below it; `None` when there is none.
pub type CheckoutFiles<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// Reads and compiles in one go, so that the findings of both come at once. `engine_version` is that of the running
/// engine, for `requiredEngine`. The mesh comes with warnings.
pub fn load(
    sources: &[SourceFile],
    engine_version: &str,
    files: CheckoutFiles<'_>,
) -> Result<(Mesh, Diagnostics), Diagnostics> {
    compile(&parse_all(sources), engine_version, files)
}

/// Compiles documents that were read. The warnings of the reading are among those of the result.
pub fn compile(
    spec: &Spec,
    engine_version: &str,
    files: CheckoutFiles<'_>,
) -> Result<(Mesh, Diagnostics), Diagnostics> {
    let mut compiler = Compiler { spec, files, findings: spec.findings.clone() };
    let mesh = compiler.mesh(engine_version);
    let mut findings = compiler.findings;
    findings.excerpts(|at| spec.texts.line(at));
    findings.ok_or(mesh)
}

struct Compiler<'a> {
    spec: &'a Spec,
    files: CheckoutFiles<'a>,
    findings: Diagnostics,
}

/// A cluster with its defaults, and where its parts were stated.
struct ClusterDraft<'a> {
    cluster: crate::model::mesh::Cluster,
    endpoint_at: Location,
    /// Its document; none when it is an `IstioMulticluster`.
    spec: Option<&'a ClusterSpec>,
}

impl<'a> Compiler<'a> {
    fn error(&mut self, at: &Location, what: &CompileFinding<'_>) {
        self.findings.push(Diagnostic::error(Some(at.clone()), what));
    }

    /// The mesh, as far as it can be determined; the findings say whether it holds.
    fn mesh(&mut self, engine_version: &str) -> Option<Mesh> {
        let mesh = self.the_mesh();
        let drafts = self.drafts(mesh);
        self.duplicates(&drafts);
        self.cluster_domains(&drafts);
        let mesh = mesh?;
        self.required_engine(mesh, engine_version);
        self.foreign_roots(mesh);
        let result = Mesh {
            name: mesh.name.value.clone(),
            at: mesh.name.at.clone(),
            mesh_id: mesh.mesh_id.as_ref().map_or_else(|| MeshId::from(&mesh.name.value), |id| id.value.clone()),
            first_contact: mesh.first_contact.as_ref().map_or(FirstContact::Tls, |first| first.value),
            require_token: mesh.require_token.as_ref().map(|required| required.value),
            engine_keys: self.engine_keys(mesh),
            topology: self.topology(mesh, &drafts),
            clusters: drafts.iter().map(|draft| (draft.cluster.name.clone(), draft.cluster.clone())).collect(),
            inside: false,
        };
        self.links(&result, &drafts);
        // A cluster that is left out was reported.
        Some(result)
    }

    fn the_mesh(&mut self) -> Option<&'a MeshSpec> {
        let spec = self.spec;
        let none = spec.meshes.is_empty() && spec.clusters.is_empty() && spec.peers.is_empty();
        match spec.meshes.as_slice() {
            [] if spec.partial => None,
            [] if none => {
                self.findings.push(Diagnostic::error(None, CompileFinding::NoSpecs));
                None
            }
            [] => {
                self.findings.push(Diagnostic::error(None, CompileFinding::NoMesh));
                None
            }
            [mesh] => Some(mesh),
            meshes => {
                // The first by name, so that the order of files changes nothing.
                let first = meshes.iter().min_by_key(|mesh| (&mesh.name.value, &mesh.name.at))?;
                for other in meshes.iter().filter(|mesh| mesh.name.at != first.name.at) {
                    let (name, first) = (&other.name.value, &first.name);
                    let second = CompileFinding::SecondMesh { name, first: &first.value, at: &first.at };
                    self.error(&other.name.at, &second);
                }
                Some(first)
            }
        }
    }

    /// All clusters by name, of two with one name the first.
    fn drafts(&mut self, mesh: Option<&'a MeshSpec>) -> Vec<ClusterDraft<'a>> {
        let spec = self.spec;
        let mut drafts: Vec<ClusterDraft<'a>> = Vec::new();
        let stated = |pick: fn(&MeshSpec) -> Option<&At<Duration>>| mesh.and_then(pick).map(|stated| stated.value);
        let times = Times {
            settle: stated(|mesh| mesh.settle.as_ref()).unwrap_or(DEFAULT_SETTLE),
            root_overlap: stated(|mesh| mesh.root_overlap.as_ref()).unwrap_or(DEFAULT_ROOT_OVERLAP),
        };
        for cluster in &spec.clusters {
            self.mesh_of(cluster, mesh);
            drafts.extend(self.cluster(cluster, times));
        }
        let domain = drafts.iter().min_by_key(|draft| &draft.cluster.name);
        let domain = domain.map(|draft| draft.cluster.cluster_domain.clone());
        for peer in &spec.peers {
            drafts.extend(self.peer(peer, domain.as_ref(), times));
        }
        let mut names: BTreeMap<&ClusterName, &Location> = BTreeMap::new();
        let places = spec.clusters.iter().map(|c| &c.name).chain(spec.peers.iter().map(|p| &p.name));
        let mut places: Vec<_> = places.collect();
        places.sort_by(|a, b| a.at.cmp(&b.at));
        for name in places {
            if let Some(first) = names.insert(&name.value, &name.at) {
                self.error(&name.at, &CompileFinding::ClusterTwice { name: &name.value, first });
            }
        }
        drafts.sort_by(|a, b| (&a.cluster.name, &a.cluster.at).cmp(&(&b.cluster.name, &b.cluster.at)));
        drafts.dedup_by(|a, b| a.cluster.name == b.cluster.name);
        drafts
    }

    fn mesh_of(&mut self, cluster: &ClusterSpec, mesh: Option<&MeshSpec>) {
        let names: Vec<&str> = self.spec.meshes.iter().map(|mesh| mesh.name.value.as_str()).collect();
        let Some(mesh) = mesh else { return };
        match &cluster.mesh {
            None if names.len() > 1 => {
                let (cluster, mesh) = (&cluster.name, &mesh.name.value);
                self.error(&cluster.at, &CompileFinding::MeshNotStated { cluster: &cluster.value, mesh });
            }
            Some(stated) if !names.contains(&stated.value.as_str()) && !self.spec.partial => {
                let near = did_you_mean(stated.value.as_str(), names.iter().copied());
                let near = near.unwrap_or(mesh.name.value.as_str());
                self.error(&stated.at, &CompileFinding::UnknownMesh { name: &stated.value, near });
            }
            _ => {}
        }
    }

    fn required_engine(&mut self, mesh: &MeshSpec, engine_version: &str) {
        let Some(required) = &mesh.required_engine else { return };
        let minor = |version: &str| {
            let mut parts = version.split('.').map(str::to_owned);
            Some((parts.next()?, parts.next()?))
        };
        let mut parts = required.value.split('.');
        let plain =
            |part: Option<&str>| part.is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if !(plain(parts.next()) && plain(parts.next()) && parts.next().is_none()) {
            self.error(&required.at, &CompileFinding::RequiredEngineFormat { text: &required.value });
        } else if minor(&required.value) != minor(engine_version) {
            let other = CompileFinding::RequiredEngine { required: &required.value, own: engine_version };
            self.error(&required.at, &other);
        }
    }

    fn foreign_roots(&mut self, mesh: &MeshSpec) {
        let accepted = mesh.accept_foreign_roots.as_ref();
        let is_agent = |one: &ClusterSpec| one.reconciler.as_ref().is_some_and(|of| of.value == Reconciler::Agent);
        let has_agent = self.spec.clusters.iter().any(is_agent);
        let alone = self.spec.clusters.len() + self.spec.peers.len() < 2 && !has_agent;
        let at = accepted.map_or(&mesh.name.at, |accepted| &accepted.at);
        let misspelt = accepted.is_none() && self.spec.may_be_misspelt(at);
        if alone || misspelt || accepted.is_some_and(|accepted| accepted.value) {
            return;
        }
        self.error(at, &CompileFinding::ForeignRoots);
    }

    /// By id.
    fn engine_keys(&mut self, mesh: &MeshSpec) -> Vec<EngineKey> {
        let mut keys: Vec<(EngineKey, &Location)> = Vec::new();
        for stated in &mesh.engine_keys {
            let id = &stated.id.value;
            let key = match PublicKey::from_pem(&stated.public_key.value) {
                Ok(key) => key,
                Err(error) => {
                    self.error(&stated.public_key.at, &CompileFinding::EngineKey { id, error: &error });
                    continue;
                }
            };
            if let Some((_, first)) = keys.iter().find(|(known, _)| known.id == *id || known.key == key) {
                self.error(&stated.id.at, &CompileFinding::EngineKeyTwice { id, first });
                continue;
            }
            keys.push((EngineKey { id: id.clone(), key }, &stated.id.at));
        }
        let mut keys: Vec<EngineKey> = keys.into_iter().map(|(key, _)| key).collect();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        keys
    }

    fn topology(&mut self, mesh: &MeshSpec, drafts: &[ClusterDraft<'_>]) -> Topology {
        if !mesh.by_pairs.as_ref().is_some_and(|by_pairs| by_pairs.value) {
            if let Some(pairs) = &mesh.pairs {
                self.error(&pairs.at, &CompileFinding::PairsWithoutTopology);
            }
            return Topology::Full;
        }
        let mut linked: BTreeMap<ClusterName, BTreeSet<ClusterName>> = BTreeMap::new();
        let mut link = |one: &ClusterName, other: &ClusterName| {
            linked.entry(one.clone()).or_default().insert(other.clone());
            linked.entry(other.clone()).or_default().insert(one.clone());
        };
        let own = |draft: &&ClusterDraft<'_>| draft.cluster.reconciler != Reconciler::External;
        for peer in drafts.iter().filter(|draft| draft.spec.is_none()) {
            for reader in drafts.iter().filter(own) {
                link(&reader.cluster.name, &peer.cluster.name);
            }
        }
        let Some(pairs) = &mesh.pairs else {
            if let Some(by_pairs) = &mesh.by_pairs
                && !self.spec.may_be_misspelt(&by_pairs.at)
            {
                self.error(&by_pairs.at, &CompileFinding::TopologyWithoutPairs);
            }
            return Topology::Pairs(linked);
        };
        let spec = self.spec;
        let names = spec.clusters.iter().map(|c| &c.name.value).chain(spec.peers.iter().map(|p| &p.name.value));
        let names: BTreeSet<&str> = names.map(ClusterName::as_str).collect();
        let external: BTreeSet<&ClusterName> =
            drafts.iter().filter(|draft| !own(draft)).map(|draft| &draft.cluster.name).collect();
        for pair in &pairs.value {
            let [one, other] = &pair.value;
            let known = self.names_a_cluster(one, &names) & self.names_a_cluster(other, &names);
            if one.value == other.value {
                self.error(&pair.at, &CompileFinding::PairWithItself { name: &one.value });
            } else if known {
                // one of them may be linked until this checkout has left it to another one
                if external.contains(&one.value) && external.contains(&other.value) {
                    let finding = CompileFinding::PairOfOthers { one: &one.value, other: &other.value };
                    self.findings.push(Diagnostic::warning(Some(pair.at.clone()), &finding));
                }
                link(&one.value, &other.value);
            }
        }
        Topology::Pairs(linked)
    }

    fn names_a_cluster(&mut self, name: &At<ClusterName>, names: &BTreeSet<&str>) -> bool {
        let known = names.contains(name.value.as_str());
        if !known && !self.spec.partial {
            let near = did_you_mean(name.value.as_str(), names.iter().copied());
            self.error(&name.at, &CompileFinding::PairUnknown { name: &name.value, near });
        }
        known
    }
}
