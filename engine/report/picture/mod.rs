//! The mesh as a picture: what specs and lock say, and what the last run made of it, as a value that is drawn.
//!
//! The stage is pure. [`Picture::new`] draws each cluster and each link as [`HealthJudge`] judges it; [`Picture::json`] is the
//! value for programs, [`Picture::html`] one self-contained page that asks no one for anything, and [`Picture::live_html`]
//! the same page that looks for a newer `picture.json` beside it.

mod page;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use crate::model::link_status::{LinkFacts, first_root_end};
pub use crate::report::health::Health;

use crate::model::known::KnownCluster;
use crate::model::layout::secret_file;
use crate::model::link::Link;
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{Cluster, Mesh};
use crate::model::trust::Verdict;
use crate::pipeline::plan::{Plan, SecurityItem};
use crate::report::health::HealthJudge;
use crate::types::explanation::{Code, Explanation};
use crate::types::name::ClusterName;
use crate::types::time::Timestamp;

/// Version of the picture's JSON form.
pub const PICTURE_VERSION: u32 = 1;

/// The mesh as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// [`PICTURE_VERSION`].
    pub version: u32,
    /// Version of the engine that made it.
    pub engine: &'static str,
    pub mesh: String,
    /// When it was made, seconds since 1970.
    pub generated_at: Timestamp,
    /// A run was taken for it. Without one it knows specs, lock and tree alone, and no cluster was asked.
    pub asked: bool,
    /// How many there are of each state.
    pub counts: StateCounts,
    pub clusters: BTreeMap<String, ClusterPicture>,
    /// Reader → peer → the link between them: all that are wanted, and all that are not yet gone.
    pub links: BTreeMap<String, BTreeMap<String, LinkPicture>>,
    /// What a reviewer should know, from the plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the next run of a watch waits for; absent, where it waits for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Explanation>,
}

/// How many there are of each state, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StateCounts {
    pub clusters: BTreeMap<Health, usize>,
    /// Of links; each direction is one.
    pub links: BTreeMap<Health, usize>,
}

/// A cluster as it is drawn. Absent fields are not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPicture {
    pub state: Health,
    /// Who acts in it: `rendered`, `deckhouse` or `external`.
    pub reconciler: &'static str,
    /// Why it is not well,.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// A trust change that is not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_change: Option<TrustPicture>,
    /// Where its metadata is read.
    pub endpoint: String,
    /// UID of `kube-system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The ID it is known by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// Version of Istio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub istio: Option<String>,
    /// East-west gateways, `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// Address of the api-proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_host: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<RootPicture>,
    /// When its metadata was last read whole, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
}

/// A root CA as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RootPicture {
    pub subject: String,
    /// SHA-256 of its DER, hex.
    pub sha256: String,
    /// When it ends, seconds since 1970.
    pub expires: Timestamp,
}

/// A trust change that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustPicture {
    /// `NAME@DIGEST` for `engine apply --accept-trust`; absent when no approval can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
    pub findings: Vec<FindingPicture>,
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindingPicture {
    pub what: &'static str,
    /// The value in the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The value published now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    pub meaning: String,
}

/// A link as it is drawn. What a joined link usually has is left out: a mesh of 200 clusters has 39,800 of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkPicture {
    pub state: Health,
    /// Stage in the lock; absent: `joined`. `none`: there is no link yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<&'static str>,
    /// What its last move rests on; absent: `proven`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<&'static str>,
    /// Where the remote secret is; absent: `in the tree`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<&'static str>,
    /// Why it is not well,.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What could not be proven in the last move.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<String>,
}

/// What a plan notes, and what of the block on top of it no step says.
fn notes(plan: &Plan) -> Vec<String> {
    let is_counted = |item: &&SecurityItem| {
        let is_cut = matches!(item.change.code(), Code::LinksCut | Code::LinksReopen);
        is_cut || (item.refused && !item.is_step)
    };
    let messages = plan.security.iter().filter(is_counted).map(|item| item.change.explanation().to_string());
    messages.chain(plan.notes.iter().cloned()).collect()
}

impl Picture {
    /// Draws the mesh. `plan` is what the last run found, `files` gives the names of the files in a cluster's rendered
    /// folder, `read_at` says when each cluster's metadata was last read, and `now` is the time.
    pub fn new(
        mesh: &Mesh,
        lock: &Lock,
        plan: Option<&Plan>,
        files: &dyn Fn(&ClusterName) -> BTreeSet<String>,
        read_at: &BTreeMap<ClusterName, Timestamp>,
        now: Timestamp,
    ) -> Self {
        let judge = HealthJudge::new(mesh, lock, plan, now);
        let mut trust = plan.map(drawn_trust).unwrap_or_default();
        let mut counts = StateCounts::default();
        let mut clusters = BTreeMap::new();
        for (name, cluster) in &mesh.clusters {
            let mut drawn = drawn_cluster(mesh, lock, cluster, &judge);
            drawn.trust_change = trust.remove(name);
            drawn.read_at = read_at.get(name).copied();
            *counts.clusters.entry(drawn.state).or_default() += 1;
            clusters.insert(name.to_string(), drawn);
        }
        let mut links = BTreeMap::new();
        for reader in mesh.clusters.keys() {
            let files = files(reader);
            let drawn = judge.peers(reader).into_iter().map(|peer| {
                let link = drawn_link(mesh, lock, &judge, &Link::new(reader, peer), files.contains(&secret_file(peer)));
                *counts.links.entry(link.state).or_default() += 1;
                (peer.to_string(), link)
            });
            links.insert(reader.to_string(), drawn.collect());
        }
        Self {
            version: PICTURE_VERSION,
            engine: env!("CARGO_PKG_VERSION"),
            mesh: mesh.name.to_string(),
            generated_at: now,
            asked: plan.is_some(),
            counts,
            clusters,
            links,
            notes: plan.map(notes).unwrap_or_default(),
            waiting: None,
        }
    }

    /// The value for programs, one line.
    pub fn json(&self) -> String {
        // every key is a string and no part of it can fail
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The page as one HTML file that loads nothing else.
    pub fn html(&self) -> String {
        page::html(&self.json(), false)
    }

    /// The same page, for a server that gives [`Picture::json`] as `picture.json` beside it: it is read again every 5 s.
    pub fn live_html(&self) -> String {
        page::html(&self.json(), true)
    }
}

/// The trust changes of a plan that are not accepted, by cluster.
fn drawn_trust(plan: &Plan) -> BTreeMap<&ClusterName, TrustPicture> {
    let mut found: BTreeMap<&ClusterName, TrustPicture> = BTreeMap::new();
    for change in plan.trust_changes.iter().filter(|change| change.verdict != Verdict::Approved) {
        let held_back = change.verdict == Verdict::HeldBack;
        let accept = held_back.then(|| change.name());
        let findings = change.findings.iter().map(|finding| FindingPicture {
            what: finding.what.as_str(),
            before: finding.before.clone(),
            after: finding.after.clone(),
            meaning: finding.meaning.to_string(),
        });
        let drawn = found.entry(&change.cluster).or_insert(TrustPicture { accept: None, findings: Vec::new() });
        drawn.accept = drawn.accept.take().or(accept);
        drawn.findings.extend(findings);
    }
    found
}

fn drawn_cluster(mesh: &Mesh, lock: &Lock, cluster: &Cluster, judge: &HealthJudge<'_>) -> ClusterPicture {
    let name = &cluster.name;
    let known = KnownCluster::of(mesh, lock, name);
    let proxy = known.as_ref().and_then(KnownCluster::endpoint);
    let judged = judge.cluster(name);
    let roots = known.as_ref().map(|known| known.locked.public.roots.as_slice()).unwrap_or_default();
    let roots = roots.iter().map(|root| RootPicture {
        subject: root.subject.clone(),
        sha256: root.digest.hex(),
        expires: root.not_after,
    });
    let network = proxy.as_ref().map(|proxy| proxy.network.clone()).or_else(|| cluster.network.clone());
    ClusterPicture {
        state: judged.map_or(Health::Joined, |judged| judged.health),
        reconciler: cluster.reconciler.as_str(),
        reasons: judged.iter().flat_map(|judged| &judged.reasons).map(|(_, message)| message.clone()).collect(),
        trust_change: None,
        endpoint: cluster.endpoint.to_string(),
        uuid: known.map(|known| known.uuid().to_string()),
        cluster_id: known.map(|known| known.cluster_id().to_string()),
        network: network.map(|network| network.to_string()),
        trust_domain: known.map(|known| known.trust_domain().to_string()),
        istio: known.and_then(|known| known.locked.public.istio.as_ref()?.version.clone()),
        gateways: proxy.iter().flat_map(|proxy| &proxy.gateways).map(ToString::to_string).collect(),
        api_host: proxy.map(|proxy| proxy.api_host.to_string()),
        roots: roots.collect(),
        read_at: None,
    }
}

fn drawn_link(mesh: &Mesh, lock: &Lock, judge: &HealthJudge<'_>, link: &Link, in_tree: bool) -> LinkPicture {
    let judged = judge.link(link, in_tree);
    let drawn = LinkPicture {
        state: judged.health,
        stage: Some("none"),
        evidence: Some("awaited"),
        secret: Some("none"),
        reasons: judged.reasons,
        unproven: judge.unproven(link).iter().map(ToString::to_string).collect(),
    };
    let Some(locked) = lock.link(&link.reader, &link.peer) else { return drawn };
    let facts = LinkFacts::new(mesh, lock, link, locked, in_tree);
    LinkPicture {
        stage: Some(locked.stage.as_str()).filter(|_| locked.stage != Stage::Joined),
        evidence: Some(facts.evidence()).filter(|message| *message != "proven"),
        secret: Some(facts.secret()).filter(|message| *message != "in the tree"),
        ..drawn
    }
}
