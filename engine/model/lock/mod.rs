//! The lock: what was learned from each cluster and accepted, and how far each link has come.
//!
//! It is to the mesh what `Cargo.lock` is to a build. `lock/clusters/<cluster>.yaml` holds a cluster's documents without
//! evidence and without times; `lock/links/<reader>.yaml` holds the stages of that reader's links; `lock/mesh.yaml` holds
//! public halves of the engine's keys. Only `apply` writes it. Each certificate and key is beside its SHA-256, so that
//! an edit by hand that changes one of them is found.

mod finding;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub(crate) use self::finding::LEAVE_DIRECT;

use self::finding::LockFinding;
use crate::model::mesh::{Cluster, MeshConfigTarget, Reconciler};
use crate::model::read_by::ReadBy;
use crate::types::address::{ApiHost, Endpoint, Gateway};
use crate::types::certificate::{RootCertificate, digest_of_pem, parse_roots_any_time};
use crate::types::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::types::explanation::Code;
use crate::types::key::{KeyId, PublicKey};
use crate::types::name::{
    ClusterDomain, ClusterId, ClusterName, ClusterUuid, Digest, MeshId, MeshName, Namespace, NetworkName, TrustDomain,
};
use crate::types::object::{YamlError, to_yaml_again};
use crate::types::time::{Timestamp, optional_rfc3339, rfc3339};
use crate::types::token::Scope;
use crate::wire::metadata::IstioFacts;

/// Version of the lock's format that this engine writes, and the newest it reads.
pub const LOCK_VERSION: u32 = 2;
/// The oldest that it reads.
pub const OLDEST_LOCK_VERSION: u32 = 1;

/// The field of an edit of the Mesh's name.
pub(crate) const MESH_NAME: &str = "metadata.name of the Mesh";
/// The field of an edit of where the mesh configuration is written.
pub(crate) const ISTIO_CONFIG: &str = "istio.config";
/// The field of an edit of who acts in a cluster.
pub(crate) const RECONCILER: &str = "reconciler";

/// Everything that was learned and accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lock {
    /// What each cluster published.
    pub clusters: BTreeMap<ClusterName, LockedCluster>,
    /// Per reader, its links by peer.
    pub links: BTreeMap<ClusterName, BTreeMap<ClusterName, LockedLink>>,
    /// Public halves of the engine's keys.
    pub engine_keys: BTreeMap<KeyId, PublicKey>,
    /// Per reader, a number that rises whenever one of its links moves, or gets an alias or loses it. What is synced into the
    /// reader carries it, and its exporter repeats it: an absence that is older than the move proves nothing.
    pub serials: BTreeMap<ClusterName, u64>,
    /// Clusters whose entries were read from version 1 of the format and not written since: they do not say what links rest on.
    pub former: BTreeSet<ClusterName>,
}

/// Files of a lock that cannot be read, each with what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unreadable {
    /// `lock/clusters/<cluster>.yaml`.
    pub entries: BTreeMap<ClusterName, Diagnostic>,
    /// `lock/links/<reader>.yaml`.
    pub links: BTreeMap<ClusterName, Diagnostic>,
}

impl Unreadable {
    /// What is wrong, file by file.
    pub fn findings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.entries.values().chain(self.links.values())
    }

    /// An error, unless all can be read.
    pub(crate) fn none(&self) -> Result<(), Diagnostics> {
        let mut findings = Diagnostics::new();
        for finding in self.findings() {
            findings.push(finding.clone());
        }
        findings.ok_or(Some(())).map(|_| ())
    }

    /// Whether a file, by its path, is one of them.
    pub(crate) fn has(&self, path: &str) -> bool {
        let is_it = |names: &BTreeMap<ClusterName, Diagnostic>, name: Option<ClusterName>| {
            name.is_some_and(|name| names.contains_key(&name))
        };
        is_it(&self.entries, Lock::cluster_of(path)) || is_it(&self.links, Lock::reader_of(path))
    }
}

/// What a cluster published, as accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedCluster {
    /// From its public document.
    pub public: LockedPublic,
    /// From its private document, when it was read.
    pub private: Option<LockedPrivate>,
    /// `meshNetworks` of Istio's standard configuration, which ours replace and therefore take up. Empty: it has none; `None`: it
    /// was never seen.
    pub standard_mesh_networks: Option<String>,
    /// Root CAs that it no longer publishes and that stay trusted for a time, sorted by digest.
    pub retiring: Vec<RetiringRoot>,
    /// CAs of its relay that it no longer publishes and that its remote secrets keep for a time, the latest first.
    pub retiring_relay_cas: Vec<RetiringRelayCa>,
    /// With what its links were begun; `None` while no link names it. A lock of version 1 has none.
    pub joined_with: Option<JoinedWith>,
    /// It was declared lost while links named it, and stays so until the last of them is gone.
    pub lost: bool,
    /// The trust change that was approved and waits for links to leave.
    pub approved: Option<Digest>,
    /// Where its documents were read; `None` in a lock of before this was kept.
    pub source: Option<MetadataSource>,
    /// Who read what it has of them.
    pub read_by: ReadBy,
    /// From whom to whom the objects of its links are handed over: until they are, and then until that is seen.
    pub hand_over: Option<HandOver>,
    /// Rises with each run that changes what others use of it; its own tree carries it, so that an older entry is known. 0: none
    /// did since serials are written.
    pub serial: u64,
}

impl LockedCluster {
    /// Who acts there, as its links rest on it; `None`: it has none.
    pub(crate) fn acts(&self) -> Option<Reconciler> {
        self.joined_with.as_ref().map(|joined| joined.spec.reconciler)
    }

    /// CAs of its relay, those that retire among them: PEM; `None`: it never published one.
    pub fn relay_cas(&self) -> Option<String> {
        let retiring = self.retiring_relay_cas.iter().map(|retiring| retiring.pem.trim_end());
        let first = self.public.relay_ca.as_deref()?;
        if self.retiring_relay_cas.is_empty() {
            return Some(first.to_owned());
        }
        Some(std::iter::once(first.trim_end()).chain(retiring).flat_map(|pem| [pem, "\n"]).collect())
    }

    /// Whether others use both alike: they know nothing of what only the cluster itself and the next run look at, and addresses
    /// that specs state are not the lock's.
    pub fn serves_like(&self, other: &Self) -> bool {
        let of_others = |entry: &Self| {
            let mut entry = Self {
                serial: 0,
                approved: None,
                source: None,
                standard_mesh_networks: None,
                hand_over: None,
                ..entry.clone()
            };
            entry.read_by = ReadBy::default();
            entry.retiring_relay_cas.clear();
            (entry.public.istio, entry.public.serving_ca, entry.public.mesh_id) = (None, None, None);
            entry.public.crl = None;
            if let Some(private) = &mut entry.private {
                private.ambient_gateways.clear();
            }
            let joined = entry.joined_with.take();
            (entry, joined.map(|joined| joined.kept()))
        };
        of_others(self) == of_others(other)
    }
}

/// The objects of a cluster's links go from whoever acts there to someone else; or they were to go and do not, until that is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    pub from: Reconciler,
    pub to: Reconciler,
    /// The serial with which the cluster was left to another checkout, whose first run has a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<u64>,
    /// Of the engine's keys that an agent which is to leave is told, and lets read the cluster before it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Digest>,
}

impl HandOver {
    /// From one to another.
    pub(crate) fn new(from: Reconciler, to: Reconciler) -> Self {
        Self { from, to, offered: None, keys: None }
    }

    /// What was begun is taken back.
    pub(crate) fn taken_back(acts: Reconciler) -> Self {
        Self::new(acts, acts)
    }

    pub(crate) fn is_taken_back(self) -> bool {
        self.from == self.to
    }

    /// Whether one of both is this one.
    pub(crate) fn is_with(self, one: Reconciler) -> bool {
        [self.from, self.to].contains(&one)
    }
}

/// Where the documents of a cluster are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetadataSource {
    /// `metadata.endpoint`.
    pub endpoint: Endpoint,
    /// The SHA-256 of the text of `metadata.ca`; `None`: public CAs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Digest>,
}

impl MetadataSource {
    /// What the specs say.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let ca = cluster.endpoint_ca.as_deref().map(digest_of_pem);
        Self { endpoint: cluster.endpoint.clone(), ca }
    }
}

impl fmt::Display for MetadataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.endpoint, &self.ca) {
            (endpoint @ Endpoint::File(_), _) => endpoint.fmt(f),
            (endpoint, Some(ca)) => write!(f, "{endpoint} with the CA {ca}"),
            (endpoint, None) => write!(f, "{endpoint} with public CAs"),
        }
    }
}

/// A root CA that its cluster no longer publishes: workloads still show certificates that it signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiringRoot {
    pub root: RootCertificate,
    /// When it was first seen to be published no more.
    pub since: Timestamp,
}

/// A CA of a relay that its cluster no longer publishes: a replica of the relay may still serve a certificate of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetiringRelayCa {
    /// When it was first seen to be published no more.
    #[serde(with = "rfc3339")]
    pub since: Timestamp,
    pub pem: String,
}

/// What the links of a cluster rest on. It stays as it is until the last of them is gone, whatever is edited or published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinedWith {
    /// Data key of remote secrets, `fromRegistry`, path of the relay.
    #[serde(rename = "clusterID")]
    pub cluster_id: ClusterId,
    pub network: NetworkName,
    pub trust_domain: TrustDomain,
    /// How it was last reached: what neither spec nor documents say any more stays as it was.
    pub reach: Reach,
    /// What its specs said.
    pub spec: JoinedSpec,
}

/// [`JoinedWith`] but for how the cluster is reached, which may change in place. The cluster's own tree carries it, so that an
/// entry that was lost and is accepted anew lets no edit through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kept {
    /// Data key of remote secrets, `fromRegistry`, path of the relay.
    #[serde(rename = "clusterID")]
    pub cluster_id: ClusterId,
    pub network: NetworkName,
    pub trust_domain: TrustDomain,
    /// What its specs said.
    pub spec: JoinedSpec,
}

/// How a cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reach {
    /// Address of the api-proxy.
    pub api_host: ApiHost,
    /// Its CA, PEM; `None`: a public one.
    #[serde(rename = "apiCA", default, skip_serializing_if = "Option::is_none")]
    pub api_ca: Option<String>,
    /// East-west gateways, sorted.
    pub gateways: Vec<Gateway>,
}

/// What specs said when the links of a cluster were begun, and what no edit changes while there is one. Some edits are refused
/// ([`edits`](Self::edits)), others make the links leave and join anew ([`renamed`](JoinedWith::renamed)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinedSpec {
    pub mesh: MeshName,
    /// `meshID` of the Mesh.
    #[serde(rename = "meshID")]
    pub mesh_id: MeshId,
    /// Whether its relay asks istiod for a token: `credentials.requireToken` of the Mesh or, where that says nothing, what the
    /// cluster showed when its first link opened.
    pub require_token: bool,
    /// `reconciler`.
    pub reconciler: Reconciler,
    /// `clusterDomain`.
    pub cluster_domain: ClusterDomain,
    /// `istio.namespace`.
    pub istio_namespace: Namespace,
    /// `istio.config`.
    pub istio_config: MeshConfigTarget,
    /// `flatNetwork`.
    pub flat_network: bool,
}

/// A public document, as accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedPublic {
    /// UID of `kube-system`.
    pub cluster_uuid: ClusterUuid,
    /// The cluster's own key.
    pub authn_key: PublicKey,
    /// All keys that speak for it, by id, with their scopes.
    pub authn_keys: BTreeMap<KeyId, LockedKey>,
    /// Root CAs, sorted by digest.
    pub roots: Vec<RootCertificate>,
    pub mesh_id: Option<MeshId>,
    pub trust_domain: Option<TrustDomain>,
    /// DNS domain.
    pub cluster_domain: Option<ClusterDomain>,
    /// CA of exporter and api-proxy, PEM.
    pub serving_ca: Option<String>,
    /// CA of the relay, PEM.
    pub relay_ca: Option<String>,
    /// What its CA revoked, PEM; nothing rests on it yet.
    pub crl: Option<String>,
    pub istio: Option<IstioFacts>,
}

impl LockedPublic {
    /// Whether it has nothing that an exporter of ours always publishes: it is what Deckhouse's exporter knows, which shows no
    /// evidence, admits clusters' own keys alone and signs tokens for a year. What was published once stays in the entry, so
    /// an exporter of ours never looks like that again.
    pub fn is_of_deckhouse(&self) -> bool {
        let Self { authn_keys, mesh_id, trust_domain, cluster_domain, serving_ca, relay_ca, istio, .. } = self;
        let texts = [serving_ca, relay_ca];
        authn_keys.is_empty()
            && mesh_id.is_none()
            && trust_domain.is_none()
            && cluster_domain.is_none()
            && istio.is_none()
            && texts.into_iter().all(Option::is_none)
    }
}

/// A key and its scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedKey {
    /// The public half.
    pub key: PublicKey,
    /// What it may ask for.
    pub scopes: BTreeSet<Scope>,
}

/// A private document, as accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedPrivate {
    /// Cluster ID as published.
    pub cluster_id: Option<ClusterId>,
    pub network: NetworkName,
    /// Address of the api-proxy.
    pub api_host: ApiHost,
    /// CA of the api-proxy, PEM.
    pub api_ca: Option<String>,
    /// East-west gateways, sorted.
    pub gateways: Vec<Gateway>,
    /// Gateways of ambient mode, sorted; nothing rests on them yet.
    pub ambient_gateways: Vec<Gateway>,
}

/// A link: how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a note of its own")]
pub struct LockedLink {
    pub stage: Stage,
    /// Its last move was made without evidence.
    pub unproven: bool,
    /// Of a link whose next move waits for `settle`: when the stage of leaving began that no evidence shows to be over, or when
    /// nothing but the peer's reading was left to wait for.
    pub since: Option<Timestamp>,
    /// The reader's serial at which it began to leave, or continued leaving; it stays while the link is begun again.
    pub closed: Option<u64>,
    /// It leaves, or was begun again, and never had a secret. Locks from before this field know it of no link.
    pub unopened: bool,
    /// Policies of the reader take identities of the peer's trust domain for their own (`trustDomainAliases`). All links of a
    /// lock of version 1 were begun so.
    pub merged: bool,
    /// It leaves since its peer states so.
    pub by_peer: bool,
}

impl LockedLink {
    /// A link that has just come to a stage.
    pub fn new(stage: Stage) -> Self {
        Self { stage, unproven: false, since: None, closed: None, unopened: false, merged: false, by_peer: false }
    }

    /// Whether its secret may be live.
    pub(crate) fn may_be_live(&self) -> bool {
        self.has_opened() && !self.unopened
    }

    /// Whether it ever left, or has a secret.
    pub(crate) fn has_opened(&self) -> bool {
        self.stage != Stage::Joining || self.closed.is_some()
    }
}

/// Stages of a link from reader c to peer p. Each has in c: the entry of p in `isthmus-peers` and p's roots, and …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// … p's network and the route to p.
    Joining,
    /// … those and the remote secret: traffic flows.
    Joined,
    /// … p's network and the route to p; the secret is gone.
    Leaving,
    /// … nothing more. The entry goes once both directions are here.
    LeavingTrust,
}

impl Stage {
    /// The stage as it is written in the lock.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Leaving => "leaving",
            Self::LeavingTrust => "leaving-trust",
        }
    }

    /// Whether network and route are rendered.
    pub fn has_network(self) -> bool {
        self != Self::LeavingTrust
    }

    /// Whether the link is on its way out.
    pub fn is_leaving(self) -> bool {
        matches!(self, Self::Leaving | Self::LeavingTrust)
    }
}

/// A field that was edited although links rest on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The field, as specs spell it.
    pub field: &'static str,
    /// Its value when the links were begun.
    pub joined: String,
    /// Its value now.
    pub wanted: String,
}

impl JoinedSpec {
    /// The fields that differ and are refused. That a token is no longer required breaks no link. The first is the Mesh's name, by
    /// which all that is written is known.
    pub fn edits(&self, wanted: &Self) -> Vec<Edit> {
        fn text<T: Serialize>(value: &T) -> String {
            serde_json::to_string(value).unwrap_or_default().trim_matches('"').to_owned()
        }
        let mut edits = Vec::new();
        let mut compare = |field, joined: String, wanted: String| {
            if joined != wanted {
                edits.push(Edit { field, joined, wanted });
            }
        };
        compare(MESH_NAME, text(&self.mesh), text(&wanted.mesh));
        compare(RECONCILER, text(&self.reconciler), text(&wanted.reconciler));
        compare(ISTIO_CONFIG, text(&self.istio_config), text(&wanted.istio_config));
        if wanted.require_token && !self.require_token {
            compare("credentials.requireToken", text(&false), text(&true));
        }
        edits
    }
}

impl JoinedWith {
    /// What stays while links rest on it.
    pub fn kept(&self) -> Kept {
        let Self { cluster_id, network, trust_domain, reach: _, spec } = self.clone();
        Kept { cluster_id, network, trust_domain, spec }
    }

    /// The same cluster, reached as now, whose links rest on this.
    #[must_use]
    pub fn resting_on(self, kept: Kept) -> Self {
        let Kept { cluster_id, network, trust_domain, spec } = kept;
        Self { cluster_id, network, trust_domain, reach: self.reach, spec }
    }

    /// What keeps links that were begun with one from continuing with the other: istiod, relays and peers know the cluster by it.
    pub fn renamed(&self, wanted: &Self) -> Vec<Edit> {
        let fields = [
            ("clusterID", self.cluster_id.to_string(), wanted.cluster_id.to_string()),
            ("network", self.network.to_string(), wanted.network.to_string()),
            ("trustDomain", self.trust_domain.to_string(), wanted.trust_domain.to_string()),
            ("meshID", self.spec.mesh_id.to_string(), wanted.spec.mesh_id.to_string()),
            ("clusterDomain", self.spec.cluster_domain.to_string(), wanted.spec.cluster_domain.to_string()),
            ("istio.namespace", self.spec.istio_namespace.to_string(), wanted.spec.istio_namespace.to_string()),
            ("flatNetwork", self.spec.flat_network.to_string(), wanted.spec.flat_network.to_string()),
        ];
        let edits = fields.into_iter().map(|(field, joined, wanted)| Edit { field, joined, wanted });
        edits.filter(|edit| edit.joined != edit.wanted).collect()
    }
}

impl Lock {
    /// Clusters that links name, at either end; some more than once.
    pub fn linked(&self) -> impl Iterator<Item = &ClusterName> {
        let links = self.links.iter().filter(|(_, links)| !links.is_empty());
        links.flat_map(|(reader, links)| std::iter::once(reader).chain(links.keys()))
    }

    /// Whether it has an entry of a cluster, or a link that names it.
    pub fn knows(&self, cluster: &ClusterName) -> bool {
        self.clusters.contains_key(cluster) || self.linked().any(|linked| linked == cluster)
    }

    /// Whether no link of a cluster, in either direction, ever had a secret: then nothing that is live rests on it. A link that an agent
    /// was told of it opens by itself.
    pub(crate) fn only_joins(&self, cluster: &ClusterName) -> bool {
        let links =
            self.links.iter().flat_map(|(reader, links)| links.iter().map(move |(peer, link)| (reader, peer, link)));
        let mut of_it = links.filter(|(reader, peer, _)| *reader == cluster || *peer == cluster);
        !of_it.any(|(reader, _, link)| link.has_opened() || self.acts_in(reader) == Some(Reconciler::Agent))
    }

    /// Who acts in a cluster, as its links rest on it.
    pub(crate) fn acts_in(&self, cluster: &ClusterName) -> Option<Reconciler> {
        self.clusters.get(cluster).and_then(LockedCluster::acts)
    }

    /// Clusters that no link names forget with what they were joined.
    pub(crate) fn forget_unlinked(&mut self) {
        let Self { clusters, links, .. } = self;
        let links = links.iter().filter(|(_, links)| !links.is_empty());
        let linked: BTreeSet<_> = links.flat_map(|(reader, links)| links.keys().chain([reader])).collect();
        for (_, cluster) in clusters.iter_mut().filter(|(name, _)| !linked.contains(*name)) {
            cluster.joined_with = None;
        }
    }

    /// The link from reader to peer.
    pub fn link(&self, reader: &ClusterName, peer: &ClusterName) -> Option<&LockedLink> {
        self.links.get(reader)?.get(peer)
    }

    /// The links of a reader, by peer.
    pub fn links_of<'a>(
        &'a self,
        reader: &ClusterName,
    ) -> impl Iterator<Item = (&'a ClusterName, &'a LockedLink)> + use<'a> {
        self.links.get(reader).into_iter().flatten()
    }

    /// Names which links of a reader are joined: 16 hex digits.
    pub(crate) fn joined_links(&self, reader: &ClusterName) -> String {
        let joined = self.links_of(reader).filter(|(_, link)| link.stage == Stage::Joined);
        let names: String = joined.flat_map(|(peer, _)| [peer.as_str(), "\n"]).collect();
        Digest::of(names.as_bytes()).short(16)
    }

    /// Takes the links of these readers, the entries that they name, the numbers of their last moves, and where their roots are written,
    /// as they were.
    pub(crate) fn keep_links<'r>(&mut self, old: &Self, readers: impl IntoIterator<Item = &'r ClusterName>) {
        let mut any = false;
        for reader in readers {
            any = true;
            let before = old.clusters.get(reader).and_then(|cluster| cluster.joined_with.as_ref());
            let after = self.clusters.get_mut(reader).and_then(|cluster| cluster.joined_with.as_mut());
            if let Some((before, after)) = before.zip(after) {
                after.spec.istio_config = before.spec.istio_config;
                after.spec.reconciler = before.spec.reconciler;
            }
            match old.links.get(reader) {
                Some(links) => self.links.insert(reader.clone(), links.clone()),
                None => self.links.remove(reader),
            };
            // whoever went with the last of its links is named again
            for end in old.links_of(reader).flat_map(|(peer, _)| [reader, peer]) {
                if let (false, Some(entry)) = (self.clusters.contains_key(end), old.clusters.get(end)) {
                    self.clusters.insert(end.clone(), entry.clone());
                }
            }
            match old.serials.get(reader) {
                Some(serial) => self.serials.insert(reader.clone(), *serial),
                None => self.serials.remove(reader),
            };
        }
        if any {
            self.forget_unlinked();
        }
    }

    /// Where clusters' files lie.
    const CLUSTERS: &'static str = "lock/clusters/";

    /// Where the links of readers lie.
    pub const LINKS: &'static str = "lock/links/";

    /// Path of a cluster's file.
    pub fn cluster_path(cluster: &ClusterName) -> String {
        format!("{}{cluster}.yaml", Self::CLUSTERS)
    }

    /// Path of a reader's links.
    pub fn links_path(reader: &ClusterName) -> String {
        format!("{}{reader}.yaml", Self::LINKS)
    }

    /// Path of the engine's public keys.
    pub const MESH_PATH: &'static str = "lock/mesh.yaml";

    /// Reads the lock from its files, by path. All findings at once.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, Diagnostics> {
        let (lock, unreadable) = Self::read(files)?;
        unreadable.none().map(|()| lock)
    }

    /// The same, where a file that cannot be read concerns its own cluster alone. What concerns all is an error: the engine's
    /// keys, a file of a newer engine, and one that no lock has.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<(Self, Unreadable), Diagnostics> {
        Self::read_after(files, &|_, _| None)
    }

    /// The same, where `known` may say what a file holds, so that it need not be read.
    pub(crate) fn read_after<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        known: &(dyn Fn(&str, &[u8]) -> Option<Self> + Sync),
    ) -> Result<(Self, Unreadable), Diagnostics> {
        let files: Vec<_> = files.into_iter().collect();
        let parsed: Vec<(&str, Result<Self, Diagnostic>)> = files
            .into_par_iter()
            .map(|(path, bytes)| {
                if let Some(known) = known(path, bytes) {
                    return (path, Ok(known));
                }
                let mut one = Self::default();
                (path, one.parse_file(path, bytes).map(|()| one))
            })
            .collect();
        let mut lock = Self::default();
        let mut unreadable = Unreadable::default();
        let mut findings = Diagnostics::new();
        for (path, one) in parsed {
            let concerns_one = |finding: &Diagnostic| {
                !matches!(finding.explanation.code, Code::OtherEngineRequired | Code::DirectCredentials)
            };
            match one {
                Ok(one) => {
                    lock.clusters.extend(one.clusters);
                    lock.links.extend(one.links);
                    lock.engine_keys.extend(one.engine_keys);
                    lock.serials.extend(one.serials);
                    lock.former.extend(one.former);
                }
                Err(finding) => match (Self::cluster_of(path), Self::reader_of(path)) {
                    (Some(cluster), _) if concerns_one(&finding) => {
                        unreadable.entries.insert(cluster, finding);
                    }
                    (_, Some(reader)) if concerns_one(&finding) => {
                        unreadable.links.insert(reader, finding);
                    }
                    _ => findings.push(finding),
                },
            }
        }
        findings.ok_or(Some((lock, unreadable))).map(|(read, _)| read)
    }

    /// What one file says of a lock that was read of it and of others; `None`: it was not of today's format, and may have been
    /// filled in since.
    pub(crate) fn part(&self, path: &str) -> Option<Self> {
        let mut one = Self::default();
        if path == Self::MESH_PATH {
            one.engine_keys.clone_from(&self.engine_keys);
        } else if let Some(cluster) = Self::cluster_of(path) {
            let entry = self.clusters.get(&cluster).filter(|_| !self.former.contains(&cluster))?;
            one.clusters.insert(cluster, entry.clone());
        } else {
            let reader = Self::reader_of(path)?;
            one.serials.extend(self.serials.get(&reader).map(|serial| (reader.clone(), *serial)));
            one.links.extend(self.links.get(&reader).map(|links| (reader.clone(), links.clone())));
        }
        Some(one)
    }

    /// Whether a file is of version 1 of the format.
    pub(crate) fn is_former(bytes: &[u8]) -> bool {
        bytes.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_end() == b"version: 1")
    }

    /// Whose entry a file is.
    fn cluster_of(path: &str) -> Option<ClusterName> {
        path.strip_prefix(Self::CLUSTERS)?.strip_suffix(".yaml")?.parse().ok()
    }

    /// Whose links a file holds.
    fn reader_of(path: &str) -> Option<ClusterName> {
        path.strip_prefix(Self::LINKS)?.strip_suffix(".yaml")?.parse().ok()
    }

    fn parse_file(&mut self, path: &str, bytes: &[u8]) -> Result<(), Diagnostic> {
        let text = text_of(path, bytes)?;
        if path == Self::MESH_PATH {
            let wire: WireMesh = read(path, text)?;
            is_complete(path, wire.version, wire.complete)?;
            for key in wire.engine_keys {
                let key = key.check(path)?;
                self.engine_keys.insert(key.0, key.1);
            }
            return Ok(());
        }
        if let Some(cluster) = Self::cluster_of(path) {
            let wire: WireCluster = read(path, text)?;
            is_complete(path, wire.version, wire.complete)?;
            same_name(path, &wire.cluster, &cluster)?;
            if wire.version < 2 {
                self.former.insert(cluster.clone());
            }
            self.clusters.insert(cluster, wire.check(path)?);
        } else if let Some(reader) = Self::reader_of(path) {
            let wire: WireLinks = read(path, text)?;
            is_complete(path, wire.version, wire.complete)?;
            same_name(path, &wire.reader, &reader)?;
            if let Some((peer, _)) = wire.links.iter().find(|(_, link)| link.epoch.is_some()) {
                let line = text.lines().position(|line| line.trim_start().starts_with("epoch:"));
                let at = place(path, line.map_or(1, |line| line + 1), 1);
                return Err(finding(at, &LockFinding::Direct { reader: &reader, peer }));
            }
            if let Some(serial) = wire.serial {
                self.serials.insert(reader.clone(), serial);
            }
            let merged_all = wire.version < 2;
            let links = wire.links.into_iter().map(|(peer, link)| {
                let WireLink { stage, unproven, since, closed, unopened, merged, by_peer, epoch: _ } = link;
                let merged = merged || merged_all;
                (peer, LockedLink { stage, unproven, since, closed, unopened, merged, by_peer })
            });
            let links: BTreeMap<_, _> = links.collect();
            if !links.is_empty() {
                self.links.insert(reader, links);
            }
        } else {
            return Err(of_file(path, &LockFinding::NotPart));
        }
        Ok(())
    }

    /// The files of the lock by path. Equal locks give equal bytes.
    pub fn to_files(&self) -> Result<BTreeMap<String, String>, YamlError> {
        let mut files = BTreeMap::new();
        if !self.engine_keys.is_empty() {
            let keys = self.engine_keys.iter().map(|(id, key)| WireKey::new(id, key, &BTreeSet::new())).collect();
            files.insert(
                Self::MESH_PATH.to_owned(),
                to_yaml_again(&WireMesh { version: LOCK_VERSION, engine_keys: keys, complete: true })?,
            );
        }
        for (name, cluster) in &self.clusters {
            files.insert(Self::cluster_path(name), to_yaml_again(&WireCluster::new(name, cluster))?);
        }
        let linked = self.links.iter().filter(|(_, links)| !links.is_empty()).map(|(reader, _)| reader);
        // a serial outlives the last link: what the next one closes must not be older than what is synced
        let readers: BTreeSet<&ClusterName> = linked.chain(self.serials.keys()).collect();
        for reader in readers {
            let links = self.links_of(reader).map(|(peer, link)| {
                let LockedLink { stage, unproven, since, closed, unopened, merged, by_peer } = link.clone();
                (peer.clone(), WireLink { stage, unproven, since, closed, unopened, merged, by_peer, epoch: None })
            });
            let wire = WireLinks {
                version: LOCK_VERSION,
                reader: reader.clone(),
                serial: self.serials.get(reader).copied(),
                links: links.collect(),
                complete: true,
            };
            files.insert(Self::links_path(reader), to_yaml_again(&wire)?);
        }
        Ok(files)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireMesh {
    version: u32,
    engine_keys: Vec<WireKey>,
    /// The last line, without which the file was cut short; version 1 has none.
    #[serde(default)]
    complete: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireLinks {
    version: u32,
    reader: ClusterName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial: Option<u64>,
    links: BTreeMap<ClusterName, WireLink>,
    /// The last line, without which the file was cut short; version 1 has none.
    #[serde(default)]
    complete: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a note of its own")]
struct WireLink {
    stage: Stage,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unproven: bool,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_rfc3339")]
    since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unopened: bool,
    #[serde(default, rename = "trustDomainMerged", skip_serializing_if = "std::ops::Not::not")]
    merged: bool,
    #[serde(default, rename = "byPeer", skip_serializing_if = "std::ops::Not::not")]
    by_peer: bool,
    /// Of a direct credential, by which a lock of version 0.1 is known to have some. Never written.
    #[serde(default, skip_serializing)]
    epoch: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireKey {
    id: KeyId,
    pem: String,
    sha256: Digest,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    scopes: BTreeSet<Scope>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireRoot {
    pem: String,
    sha256: Digest,
    #[serde(with = "rfc3339")]
    not_after: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireRetiring {
    #[serde(with = "rfc3339")]
    since: Timestamp,
    root: WireRoot,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireCluster {
    version: u32,
    cluster: ClusterName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial: Option<u64>,
    // before what is required, so that a file that was cut short lacks that
    #[serde(default, skip_serializing_if = "Option::is_none")]
    joined_with: Option<JoinedWith>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    lost: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approved: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<MetadataSource>,
    #[serde(default, skip_serializing_if = "ReadBy::is_own")]
    read_by: ReadBy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hand_over: Option<HandOver>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retiring: Vec<WireRetiring>,
    #[serde(rename = "retiringRelayCA", default, skip_serializing_if = "Vec::is_empty")]
    retiring_relay_cas: Vec<RetiringRelayCa>,
    public: WireLockPublic,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private: Option<WireLockPrivate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standard_mesh_networks: Option<String>,
    /// The last line, without which the file was cut short; version 1 has none.
    #[serde(default)]
    complete: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireLockPublic {
    #[serde(rename = "clusterUUID")]
    cluster_uuid: ClusterUuid,
    #[serde(rename = "authnKey")]
    authn_key: WireKey,
    #[serde(rename = "authnKeys", default, skip_serializing_if = "Vec::is_empty")]
    authn_keys: Vec<WireKey>,
    #[serde(rename = "rootCA")]
    root_ca: Vec<WireRoot>,
    #[serde(rename = "meshID", default, skip_serializing_if = "Option::is_none")]
    mesh_id: Option<MeshId>,
    #[serde(rename = "trustDomain", default, skip_serializing_if = "Option::is_none")]
    trust_domain: Option<TrustDomain>,
    #[serde(rename = "clusterDomain", default, skip_serializing_if = "Option::is_none")]
    cluster_domain: Option<ClusterDomain>,
    #[serde(rename = "servingCA", default, skip_serializing_if = "Option::is_none")]
    serving_ca: Option<String>,
    #[serde(rename = "relayCA", default, skip_serializing_if = "Option::is_none")]
    relay_ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crl: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    istio: Option<IstioFacts>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireLockPrivate {
    #[serde(rename = "clusterID", default, skip_serializing_if = "Option::is_none")]
    cluster_id: Option<ClusterId>,
    network: NetworkName,
    #[serde(rename = "apiHost")]
    api_host: ApiHost,
    #[serde(rename = "apiCA", default, skip_serializing_if = "Option::is_none")]
    api_ca: Option<String>,
    gateways: Vec<Gateway>,
    #[serde(rename = "ambientGateways", default, skip_serializing_if = "Vec::is_empty")]
    ambient_gateways: Vec<Gateway>,
}

impl WireKey {
    fn new(id: &KeyId, key: &PublicKey, scopes: &BTreeSet<Scope>) -> Self {
        Self { id: id.clone(), pem: key.to_pem(), sha256: key.fingerprint(), scopes: scopes.clone() }
    }

    fn check(self, path: &str) -> Result<(KeyId, PublicKey), Diagnostic> {
        let key = PublicKey::from_pem(&self.pem)
            .map_err(|error| of_file(path, &LockFinding::Key { id: &self.id, error: &error }))?;
        if key.fingerprint() != self.sha256 {
            return Err(of_file(path, &LockFinding::KeyDiffers { id: &self.id }));
        }
        Ok((self.id, key))
    }
}

impl WireRoot {
    fn check(self, path: &str) -> Result<RootCertificate, Diagnostic> {
        let parsed = parse_roots_any_time(&self.pem)
            .map_err(|error| of_file(path, &LockFinding::Root { digest: self.sha256, error: &error }))?;
        let same = |root: &RootCertificate| root.digest == self.sha256 && root.not_after == self.not_after;
        let root = parsed.into_iter().next().filter(same);
        root.ok_or_else(|| of_file(path, &LockFinding::RootDiffers { digest: self.sha256 }))
    }
}

impl WireCluster {
    fn new(name: &ClusterName, cluster: &LockedCluster) -> Self {
        let public = &cluster.public;
        let root =
            |root: &RootCertificate| WireRoot { pem: root.pem.clone(), sha256: root.digest, not_after: root.not_after };
        Self {
            version: LOCK_VERSION,
            cluster: name.clone(),
            serial: Some(cluster.serial).filter(|serial| *serial > 0),
            public: WireLockPublic {
                cluster_uuid: public.cluster_uuid.clone(),
                authn_key: WireKey::new(&public.authn_key.id(), &public.authn_key, &BTreeSet::new()),
                authn_keys: public.authn_keys.iter().map(|(id, key)| WireKey::new(id, &key.key, &key.scopes)).collect(),
                root_ca: public.roots.iter().map(root).collect(),
                mesh_id: public.mesh_id.clone(),
                trust_domain: public.trust_domain.clone(),
                cluster_domain: public.cluster_domain.clone(),
                serving_ca: public.serving_ca.clone(),
                relay_ca: public.relay_ca.clone(),
                crl: public.crl.clone(),
                istio: public.istio.clone(),
            },
            private: cluster.private.as_ref().map(|private| WireLockPrivate {
                cluster_id: private.cluster_id.clone(),
                network: private.network.clone(),
                api_host: private.api_host.clone(),
                api_ca: private.api_ca.clone(),
                gateways: private.gateways.clone(),
                ambient_gateways: private.ambient_gateways.clone(),
            }),
            standard_mesh_networks: cluster.standard_mesh_networks.clone(),
            joined_with: cluster.joined_with.clone(),
            lost: cluster.lost,
            approved: cluster.approved,
            metadata: cluster.source.clone(),
            read_by: cluster.read_by.clone(),
            hand_over: cluster.hand_over,
            retiring: cluster
                .retiring
                .iter()
                .map(|retiring| WireRetiring { since: retiring.since, root: root(&retiring.root) })
                .collect(),
            retiring_relay_cas: cluster.retiring_relay_cas.clone(),
            complete: true,
        }
    }

    fn check(self, path: &str) -> Result<LockedCluster, Diagnostic> {
        let mut authn_keys = BTreeMap::new();
        for key in self.public.authn_keys {
            let scopes = key.scopes.clone();
            let (id, key) = key.check(path)?;
            authn_keys.insert(id, LockedKey { key, scopes });
        }
        let roots: Result<Vec<_>, _> = self.public.root_ca.into_iter().map(|root| root.check(path)).collect();
        let retiring = self.retiring.into_iter();
        let retiring = retiring.map(|wire| Ok(RetiringRoot { root: wire.root.check(path)?, since: wire.since }));
        let (roots, retiring) = (roots?, retiring.collect::<Result<_, Diagnostic>>()?);
        let (_, authn_key) = self.public.authn_key.check(path)?;
        Ok(LockedCluster {
            public: LockedPublic {
                cluster_uuid: self.public.cluster_uuid,
                authn_key,
                authn_keys,
                roots,
                mesh_id: self.public.mesh_id,
                trust_domain: self.public.trust_domain,
                cluster_domain: self.public.cluster_domain,
                serving_ca: self.public.serving_ca,
                relay_ca: self.public.relay_ca,
                crl: self.public.crl,
                istio: self.public.istio,
            },
            private: self.private.map(|private| LockedPrivate {
                cluster_id: private.cluster_id,
                network: private.network,
                api_host: private.api_host,
                api_ca: private.api_ca,
                gateways: private.gateways,
                ambient_gateways: private.ambient_gateways,
            }),
            standard_mesh_networks: self.standard_mesh_networks,
            joined_with: self.joined_with,
            lost: self.lost,
            approved: self.approved,
            source: self.metadata,
            read_by: self.read_by,
            hand_over: self.hand_over,
            retiring,
            retiring_relay_cas: self.retiring_relay_cas,
            serial: self.serial.unwrap_or_default(),
        })
    }
}

fn place(path: &str, line: usize, column: usize) -> Location {
    Location { file: path.into(), line, column }
}

/// A finding about a whole file.
fn of_file(path: &str, what: &LockFinding<'_>) -> Diagnostic {
    finding(place(path, 1, 1), what)
}

/// What can be read and is not for this engine is an error; a file that cannot be read is refused until it is restored.
fn finding(at: Location, what: &LockFinding<'_>) -> Diagnostic {
    match what {
        LockFinding::NotPart | LockFinding::TooNew { .. } => Diagnostic::error(Some(at), what),
        LockFinding::Direct { .. }
        | LockFinding::CutShort
        | LockFinding::NotUtf8
        | LockFinding::MergeConflict
        | LockFinding::Name { .. }
        | LockFinding::Key { .. }
        | LockFinding::KeyDiffers { .. }
        | LockFinding::Root { .. }
        | LockFinding::RootDiffers { .. }
        | LockFinding::Malformed(_) => Diagnostic::refusal(Some(at), what),
    }
}

/// A file that was cut short may still be YAML, and mean something else.
fn is_complete(path: &str, version: u32, complete: bool) -> Result<(), Diagnostic> {
    if version < 2 || complete { Ok(()) } else { Err(of_file(path, &LockFinding::CutShort)) }
}

fn same_name(path: &str, inside: &ClusterName, outside: &ClusterName) -> Result<(), Diagnostic> {
    if inside == outside {
        return Ok(());
    }
    Err(of_file(path, &LockFinding::Name { inside, outside }))
}

fn text_of<'a>(path: &str, bytes: &'a [u8]) -> Result<&'a str, Diagnostic> {
    let text = std::str::from_utf8(bytes).map_err(|_| of_file(path, &LockFinding::NotUtf8))?;
    if let Some(line) = text.lines().position(|line| line.starts_with("<<<<<<<") || line.starts_with(">>>>>>>")) {
        return Err(finding(place(path, line + 1, 1), &LockFinding::MergeConflict));
    }
    Ok(text)
}

fn read<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> Result<T, Diagnostic> {
    let failed = |error: &serde_saphyr::Error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let at = place(path, usize::try_from(line).unwrap_or(1), usize::try_from(column).unwrap_or(1));
        finding(at, &LockFinding::Malformed(error))
    };
    // our own files begin with their version, so that a newer one is known before its fields are
    let version = text.lines().find_map(|line| line.strip_prefix("version:")).and_then(|text| text.trim().parse().ok());
    if let Some(version) = version.filter(|version: &u32| *version > LOCK_VERSION) {
        return Err(of_file(path, &LockFinding::TooNew { version, newest: LOCK_VERSION }));
    }
    serde_saphyr::from_str(text).map_err(|error| failed(&error))
}
