//! The mesh as a picture: what specs and lock say, and what the last turn made of it, as a value that is drawn.
//!
//! The stage is pure. [`Picture::new`] judges how each cluster and each link is, the worst first; [`Picture::json`] is the
//! value for programs, [`Picture::html`] one self-contained page that asks nobody for anything, and [`Picture::live_html`]
//! the same page that looks for a newer `picture.json` beside it.

mod page;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use crate::model::link_status::{LinkFacts, first_root_end};

use crate::model::known::Known;
use crate::model::layout::secret_file;
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{Cluster, Mesh, Reconciler, State};
use crate::model::trust::Verdict;
use crate::pipeline::accept::ROOT_WARNING_DAYS;
use crate::pipeline::plan::{Plan, StepStanding};
use crate::types::name::ClusterName;
use crate::types::step::StepKind;

/// Version of the picture's JSON form.
pub const PICTURE_VERSION: u32 = 1;

const DAY: i64 = 86_400;

/// The mesh as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// [`PICTURE_VERSION`].
    pub version: u32,
    /// Version of the engine that made it.
    pub engine: &'static str,
    /// Name of the mesh.
    pub mesh: String,
    /// When it was made, seconds since 1970.
    pub generated_at: i64,
    /// A turn was taken for it. Without one it knows specs, lock and tree alone, and no cluster was asked.
    pub asked: bool,
    /// How many there are of each state.
    pub counts: Counts,
    /// All clusters, by name.
    pub clusters: BTreeMap<String, ClusterPicture>,
    /// Reader → peer → the link between them: all that are wanted, and all that are not yet gone.
    pub links: BTreeMap<String, BTreeMap<String, LinkPicture>>,
    /// What a reviewer should know, from the plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How a cluster or a link is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Somebody has to do something: it fails, is refused, is held back, or lacks what it should have.
    Broken,
    /// It works and will not for long: what it rests on ends soon, or an end of the link is broken.
    AtRisk,
    /// It waits for something that is on its way.
    Waiting,
    /// It is on its way out.
    Leaving,
    /// It is kept as it is.
    Paused,
    /// All is as the specs ask. Of a cluster: what it publishes is read and accepted.
    Joined,
}

/// How many there are of each state, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Of clusters.
    pub clusters: BTreeMap<Health, usize>,
    /// Of links; each direction is one.
    pub links: BTreeMap<Health, usize>,
}

/// A cluster as it is drawn. Absent fields are not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPicture {
    /// How it is.
    pub state: Health,
    /// Who acts in it: `rendered`, `deckhouse` or `external`.
    pub reconciler: &'static str,
    /// Why it is not well, in words.
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
    /// Network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Trust domain.
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
    /// Root CAs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<RootPicture>,
    /// When its metadata was last read whole, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_at: Option<i64>,
}

/// A root CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RootPicture {
    /// Subject.
    pub subject: String,
    /// SHA-256 of its DER, hex.
    pub sha256: String,
    /// When it ends, seconds since 1970.
    pub expires: i64,
}

/// A trust change that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustPicture {
    /// `NAME@DIGEST` for `engine apply --accept-trust`; absent when no approval can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
    /// What changed.
    pub findings: Vec<FindingPicture>,
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindingPicture {
    /// What.
    pub what: &'static str,
    /// The value in the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The value published now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What it means.
    pub meaning: String,
}

/// A link as it is drawn. What a joined link usually has is left out: a mesh of 200 clusters has 39,800 of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkPicture {
    /// How it is.
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
    /// Why it is not well, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What could not be proven in the last move.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<String>,
}

impl Picture {
    /// Draws the mesh. `plan` is what the last turn found, `files` gives the names of the files in a cluster's rendered
    /// folder, `read_at` says when each cluster's metadata was last read, and `now` is the time; both in seconds since 1970.
    pub fn new(
        mesh: &Mesh,
        lock: &Lock,
        plan: Option<&Plan>,
        files: &dyn Fn(&ClusterName) -> BTreeSet<String>,
        read_at: &BTreeMap<ClusterName, i64>,
        now: i64,
    ) -> Self {
        let findings = plan.map(Findings::new).unwrap_or_default();
        let mut counts = Counts::default();
        let mut clusters = BTreeMap::new();
        for (name, cluster) in &mesh.clusters {
            let mut drawn = drawn_cluster(mesh, lock, cluster, &findings, now);
            drawn.read_at = read_at.get(name).copied();
            *counts.clusters.entry(drawn.state).or_default() += 1;
            clusters.insert(name.to_string(), drawn);
        }
        let mut links = BTreeMap::new();
        let drawing = Drawing { mesh, lock, findings: &findings, clusters: &clusters, now };
        for reader in mesh.clusters.keys() {
            let files = files(reader);
            let wanted = mesh.peers_of(reader).map(|peer| &peer.name);
            let peers: BTreeSet<&ClusterName> = wanted.chain(lock.links_of(reader).map(|(peer, _)| peer)).collect();
            let drawn = peers.into_iter().map(|peer| {
                let link = drawing.link(reader, peer, files.contains(&secret_file(peer)));
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
            notes: plan.map(|plan| plan.notes.clone()).unwrap_or_default(),
        }
    }

    /// The value for programs, one line.
    pub fn json(&self) -> String {
        // every key is a string and no part of it can fail
        serde_json::to_string(self).unwrap_or_default()
    }

    /// One self-contained page.
    pub fn html(&self) -> String {
        page::html(&self.json(), false)
    }

    /// The same page, for a server that gives [`Picture::json`] as `picture.json` beside it: it looks for news every 5 s.
    pub fn live_html(&self) -> String {
        page::html(&self.json(), true)
    }
}

/// What a plan found, by what it is about.
#[derive(Default)]
struct Findings<'a> {
    clusters: BTreeMap<&'a ClusterName, Vec<(Health, String)>>,
    links: BTreeMap<(&'a ClusterName, &'a ClusterName), (Health, Vec<String>)>,
    unproven: BTreeMap<(&'a ClusterName, &'a ClusterName), &'a [String]>,
    trust: BTreeMap<&'a ClusterName, TrustPicture>,
}

impl<'a> Findings<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut found = Self::default();
        for change in plan.trust_changes.iter().filter(|change| change.verdict != Verdict::Approved) {
            let held_back = change.verdict == Verdict::HeldBack;
            let accept = held_back.then(|| format!("{}@{}", change.cluster, change.digest.short(12)));
            let findings = change.findings.iter().map(|finding| FindingPicture {
                what: finding.what,
                before: finding.before.clone(),
                after: finding.after.clone(),
                meaning: finding.meaning.clone(),
            });
            let mut findings: Vec<FindingPicture> = findings.collect();
            let drawn =
                found.trust.entry(&change.cluster).or_insert(TrustPicture { accept: None, findings: Vec::new() });
            drawn.accept = drawn.accept.take().or(accept);
            drawn.findings.append(&mut findings);
        }
        for step in &plan.steps {
            let (health, reasons) = match &step.standing {
                StepStanding::Ready => (Health::Joined, Vec::new()),
                StepStanding::Waiting(reasons) => (Health::Waiting, reasons.clone()),
                StepStanding::Failed(reason) | StepStanding::Refused(reason) => (Health::Broken, vec![reason.clone()]),
            };
            let Some(peer) = &step.id.peer else {
                let all = found.clusters.entry(&step.id.cluster).or_default();
                for reason in reasons {
                    let waits = health == Health::Waiting && step.id.kind != StepKind::FetchCa;
                    let words = if waits { format!("{} waits for {reason}", step.id.kind) } else { reason };
                    if !all.iter().any(|(_, known)| *known == words) {
                        all.push((health, words));
                    }
                }
                continue;
            };
            let link = (&step.id.cluster, peer);
            if !step.unproven.is_empty() {
                found.unproven.insert(link, &step.unproven);
            }
            if health != Health::Joined {
                found.links.insert(link, (health, reasons));
            }
        }
        found
    }
}

fn drawn_cluster(mesh: &Mesh, lock: &Lock, cluster: &Cluster, findings: &Findings<'_>, now: i64) -> ClusterPicture {
    let name = &cluster.name;
    let known = Known::of(mesh, lock, name);
    let proxy = known.as_ref().and_then(Known::proxy);
    let found = findings.clusters.get(name).map_or(&[][..], Vec::as_slice);
    let mut state = match cluster.state {
        State::Active => Health::Joined,
        State::Paused => Health::Paused,
        State::Leaving => Health::Leaving,
    };
    let mut reasons: Vec<String> = Vec::new();
    for (health, words) in found {
        state = state.min(*health);
        reasons.push(words.clone());
    }
    let trust_change = findings.trust.get(name).cloned();
    if trust_change.is_some() {
        state = Health::Broken;
    }
    if known.is_none() && reasons.is_empty() && cluster.state == State::Active {
        state = state.min(Health::Waiting);
        reasons.push("it was never read".to_owned());
    }
    if cluster.state != State::Leaving
        && let Some(end) = first_root_end(lock, name)
    {
        if end <= now {
            state = Health::Broken;
            reasons.push("a root CA has ended".to_owned());
        } else if end - now < ROOT_WARNING_DAYS * DAY {
            state = state.min(Health::AtRisk);
            reasons.push("a root CA ends soon".to_owned());
        }
    }
    let roots = known.as_ref().map(|known| known.locked.public.roots.as_slice()).unwrap_or_default();
    let roots = roots.iter().map(|root| RootPicture {
        subject: root.subject.clone(),
        sha256: root.digest.hex(),
        expires: root.not_after,
    });
    let network = proxy.as_ref().map(|proxy| proxy.network.clone()).or_else(|| cluster.network.clone());
    ClusterPicture {
        state,
        reconciler: match cluster.reconciler {
            Reconciler::Rendered => "rendered",
            Reconciler::Deckhouse => "deckhouse",
            Reconciler::External => "external",
        },
        reasons,
        trust_change,
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

struct Drawing<'a> {
    mesh: &'a Mesh,
    lock: &'a Lock,
    findings: &'a Findings<'a>,
    clusters: &'a BTreeMap<String, ClusterPicture>,
    now: i64,
}

impl Drawing<'_> {
    fn link(&self, reader: &ClusterName, peer: &ClusterName, in_tree: bool) -> LinkPicture {
        let found = self.findings.links.get(&(reader, peer));
        let mut reasons = found.map(|(_, reasons)| reasons.clone()).unwrap_or_default();
        let mut state = found.map_or(Health::Joined, |(health, _)| *health);
        let unproven = self.findings.unproven.get(&(reader, peer)).map(|words| words.to_vec()).unwrap_or_default();
        let Some(locked) = self.lock.link(reader, peer) else {
            if reasons.is_empty() {
                reasons.push("no link yet; `engine apply` begins it".to_owned());
            }
            let state = self.unjoined(state.min(Health::Waiting), reader, peer, &mut reasons);
            return LinkPicture {
                state,
                stage: Some("none"),
                evidence: Some("awaited"),
                secret: Some("none"),
                reasons,
                unproven,
            };
        };
        let facts = LinkFacts::new(self.mesh, self.lock, (reader, peer), locked, in_tree);
        match locked.stage {
            // no longer asked for: it leaves with the next turn, and what it lacks is no fault
            Stage::Joined if state == Health::Joined && !self.mesh.links(reader, peer) => state = Health::Leaving,
            Stage::Joined => state = state.min(self.joined(&facts, &mut reasons)),
            Stage::Joining => state = self.unjoined(state.min(Health::Waiting), reader, peer, &mut reasons),
            Stage::Leaving | Stage::LeavingTrust if state == Health::Broken => {}
            Stage::Leaving | Stage::LeavingTrust => state = Health::Leaving,
        }
        LinkPicture {
            state,
            stage: Some(locked.stage.as_str()).filter(|_| locked.stage != Stage::Joined),
            evidence: Some(facts.evidence()).filter(|words| *words != "proven"),
            secret: Some(facts.secret()).filter(|words| *words != "in the tree"),
            reasons,
            unproven,
        }
    }

    fn is(&self, name: &ClusterName, health: Health) -> bool {
        self.clusters.get(name.as_str()).is_some_and(|cluster| cluster.state == health)
    }

    /// A link that is to be joined: broken when an end is, since no waiting helps it; still when an end is paused.
    fn unjoined(&self, state: Health, reader: &ClusterName, peer: &ClusterName, reasons: &mut Vec<String>) -> Health {
        if let Some(end) = [reader, peer].into_iter().find(|end| self.is(end, Health::Broken)) {
            let why = self.clusters.get(end.as_str()).and_then(|cluster| cluster.reasons.first());
            if let Some(why) = why.filter(|why| !reasons.iter().any(|reason| reason.contains(why.as_str()))) {
                reasons.push(format!("`{end}`: {why}"));
            }
            return Health::Broken;
        }
        let paused = [reader, peer].into_iter().any(|end| self.is(end, Health::Paused));
        if paused && state != Health::Broken { Health::Paused } else { state }
    }

    /// A joined link: broken without its secret or past its end, at risk where it may soon be.
    fn joined(&self, facts: &LinkFacts<'_>, reasons: &mut Vec<String>) -> Health {
        let mut state = Health::Joined;
        let mut note = |health: Health, words: String| {
            state = state.min(health);
            reasons.push(words);
        };
        if facts.lacks_secret() {
            note(Health::Broken, "its remote secret is missing in the tree; `engine apply` writes it".to_owned());
        }
        match facts.root_expires {
            Some(end) if end <= self.now => note(Health::Broken, format!("a root CA of `{}` has ended", facts.peer)),
            Some(end) if end - self.now < ROOT_WARNING_DAYS * DAY => {
                note(Health::AtRisk, format!("a root CA of `{}` ends soon", facts.peer));
            }
            _ => {}
        }
        for end in [facts.reader, facts.peer].into_iter().filter(|end| self.is(end, Health::Broken)) {
            note(Health::AtRisk, format!("`{end}` is broken; the link was joined before and may still work"));
        }
        state
    }
}
