//! How clusters and links are: judged once, for the table of a watch and for the page alike.
//!
//! [`HealthJudge::cluster`] and [`HealthJudge::link`] are the only places that say of a cluster or a link how it is; [`HealthJudge::rows`] puts
//! a cluster and its links into one line.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::link::Link;
use crate::model::link_status::{LinkFacts, first_root_end};
use crate::model::lock::{Lock, LockedLink, Stage};
use crate::model::mesh::{Cluster, Mesh, State};
use crate::model::trust::Verdict;
use crate::pipeline::accept::ROOT_WARNING;
use crate::pipeline::advance::Unproven;
use crate::pipeline::plan::{Plan, StepState};
use crate::types::name::ClusterName;
use crate::types::step::{StepId, StepKind};
use crate::types::time::Timestamp;

/// How a cluster or a link is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Someone has to do something: it fails, is refused, is held back, or lacks what it should have.
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

impl Health {
    /// The state in a word, as the page says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::AtRisk => "at risk",
            Self::Waiting => "waiting",
            Self::Leaving => "leaving",
            Self::Paused => "paused",
            Self::Joined => "joined",
        }
    }
}

/// How a cluster is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterHealth {
    pub health: Health,
    /// Why it is not well,, each with how bad it is by itself.
    pub reasons: Vec<(Health, String)>,
}

/// How a link is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkHealth {
    pub health: Health,
    /// How it is when nothing is held against it that its ends are blamed for already.
    pub own: Health,
    /// Why it is not well,.
    pub reasons: Vec<String>,
}

/// A cluster and its links in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRow {
    pub name: ClusterName,
    /// How it is; or the worst of its own links, where that is worse and it is no fault of the other end.
    pub health: Health,
    /// Links from it that are joined.
    pub joined: usize,
    /// All links from it that are wanted or not yet gone.
    pub links: usize,
    /// The worst reason, empty when there is none.
    pub note: String,
}

/// Judges clusters and links by mesh, lock and what the last run found.
pub struct HealthJudge<'a> {
    mesh: &'a Mesh,
    lock: &'a Lock,
    found: PlanFindings<'a>,
    clusters: BTreeMap<&'a ClusterName, ClusterHealth>,
    now: Timestamp,
}

impl<'a> HealthJudge<'a> {
    /// A judge of one moment. `plan` is what the last run found, `now` the time.
    pub fn new(mesh: &'a Mesh, lock: &'a Lock, plan: Option<&'a Plan>, now: Timestamp) -> Self {
        let found = plan.map(PlanFindings::new).unwrap_or_default();
        let judged = mesh.clusters.values().map(|cluster| (&cluster.name, found.cluster(lock, cluster, now)));
        let clusters = judged.collect();
        Self { mesh, lock, found, clusters, now }
    }

    /// How a cluster of the mesh is.
    pub fn cluster(&self, name: &ClusterName) -> Option<&ClusterHealth> {
        self.clusters.get(name)
    }

    /// What could not be proven in a link's last move.
    pub fn unproven(&self, link: &Link) -> &[Unproven] {
        self.found.unproven.get(link).copied().unwrap_or_default()
    }

    /// All links from a cluster that are wanted, and all that are not yet gone.
    pub fn peers(&self, reader: &ClusterName) -> BTreeSet<&'a ClusterName> {
        let wanted = self.mesh.peers_of(reader).map(|peer| &peer.name);
        wanted.chain(self.lock.links_of(reader).map(|(peer, _)| peer)).collect()
    }

    /// How a link is. `in_tree` says whether its remote secret lies in the reader's folder.
    pub fn link(&self, link: &Link, in_tree: bool) -> LinkHealth {
        let found = self.found.links.get(link);
        let state = found.map_or(Health::Joined, |(health, _)| *health);
        let reasons = found.map(|(_, reasons)| reasons.clone()).unwrap_or_default();
        let mut judged = LinkHealth { health: state, own: state, reasons };
        let Some(locked) = self.lock.link(&link.reader, &link.peer) else {
            if judged.reasons.is_empty() {
                judged.reasons.push("no link yet; `engine apply` begins it".to_owned());
            }
            return self.to_be_joined(judged, link);
        };
        match locked.stage {
            // no longer asked for: it leaves with the next run, and what it lacks is no fault
            Stage::Joined if state == Health::Joined && !self.mesh.links(&link.reader, &link.peer) => {
                judged.is(Health::Leaving)
            }
            Stage::Joined => self.joined(judged, link, locked, in_tree),
            Stage::Joining => self.to_be_joined(judged, link),
            Stage::Leaving | Stage::LeavingTrust if state == Health::Broken => judged,
            Stage::Leaving | Stage::LeavingTrust => judged.is(Health::Leaving),
        }
    }

    fn is(&self, name: &ClusterName, health: Health) -> bool {
        self.clusters.get(name).is_some_and(|cluster| cluster.health == health)
    }

    /// A link that is to be joined: broken when an end is, since no waiting helps it; still when an end is paused.
    fn to_be_joined(&self, judged: LinkHealth, link: &Link) -> LinkHealth {
        let state = judged.health.min(Health::Waiting);
        let mut judged = judged.is(state);
        if let Some(end) = link.ends().into_iter().find(|end| self.is(end, Health::Broken)) {
            let why = self.clusters.get(end).and_then(|cluster| cluster.reasons.first());
            if let Some((_, why)) = why.filter(|(_, why)| !judged.reasons.iter().any(|reason| reason.contains(why))) {
                judged.reasons.push(format!("`{end}`: {why}"));
            }
            return LinkHealth { health: Health::Broken, ..judged };
        }
        let paused = link.ends().into_iter().any(|end| self.is(end, Health::Paused));
        if paused && state != Health::Broken { judged.is(Health::Paused) } else { judged }
    }

    /// A joined link: broken without its secret or past its end, at risk where it may soon be.
    fn joined(&self, mut judged: LinkHealth, link: &Link, locked: &LockedLink, in_tree: bool) -> LinkHealth {
        let facts = LinkFacts::new(self.mesh, self.lock, link, locked, in_tree);
        if facts.lacks_secret() {
            judged.own = Health::Broken;
            judged
                .blame(Health::Broken, "its remote secret is missing in the tree; `engine apply` writes it".to_owned());
        }
        if let Some((health, ends)) = root_end(facts.root_expires, self.now) {
            judged.blame(health, format!("a root CA of `{}` {ends}", link.peer));
        }
        for end in link.ends().into_iter().filter(|end| self.is(end, Health::Broken)) {
            judged.blame(Health::AtRisk, format!("`{end}` is broken; the link was joined before and may still work"));
        }
        judged
    }

    /// A line for each cluster, the worst first. `in_tree` says of reader and peer whether the remote secret is there.
    pub fn rows(&self, in_tree: &dyn Fn(&ClusterName, &ClusterName) -> bool) -> Vec<StatusRow> {
        let row = |(name, cluster): (&&ClusterName, &ClusterHealth)| self.row(name, cluster, in_tree);
        let mut rows: Vec<StatusRow> = self.clusters.iter().map(row).collect();
        rows.sort_by(|a, b| (a.health, &a.name).cmp(&(b.health, &b.name)));
        rows
    }

    fn row(
        &self,
        name: &ClusterName,
        cluster: &ClusterHealth,
        in_tree: &dyn Fn(&ClusterName, &ClusterName) -> bool,
    ) -> StatusRow {
        let worst = cluster.reasons.iter().min_by_key(|(health, _)| *health);
        let mut row = StatusRow {
            name: name.clone(),
            health: cluster.health,
            joined: self.lock.links_of(name).filter(|(_, link)| link.stage == Stage::Joined).count(),
            links: 0,
            note: worst.map(|(_, message)| message.clone()).unwrap_or_default(),
        };
        for peer in self.peers(name) {
            row.links += 1;
            let link = self.link(&Link::new(name, peer), in_tree(name, peer));
            // that a link leaves or is kept as it is says nothing of the cluster at its end
            if link.own <= Health::Waiting && (link.own < row.health || row.note.is_empty()) {
                row.health = row.health.min(link.own);
                row.note = match link.own {
                    Health::Waiting => {
                        format!("{}: waits for {}", StepId::secret(name, peer), link.reasons.join("; "))
                    }
                    _ => link.reasons.join("; "),
                };
            }
        }
        row
    }
}

/// How bad it is that a root CA ends at a time, and the message for it; `None` while that is far away.
fn root_end(end: Option<Timestamp>, now: Timestamp) -> Option<(Health, &'static str)> {
    match end? {
        end if end <= now => Some((Health::Broken, "has ended")),
        end if end < now + ROOT_WARNING => Some((Health::AtRisk, "ends soon")),
        _ => None,
    }
}

impl LinkHealth {
    /// The same link in a state of its own.
    fn is(self, health: Health) -> Self {
        Self { health, own: health, ..self }
    }

    /// Adds what makes it worse.
    fn blame(&mut self, health: Health, message: String) {
        self.health = self.health.min(health);
        self.reasons.push(message);
    }
}

/// What a plan found, by what it is about.
#[derive(Default)]
struct PlanFindings<'a> {
    clusters: BTreeMap<&'a ClusterName, Vec<(Health, String)>>,
    links: BTreeMap<Link, (Health, Vec<String>)>,
    unproven: BTreeMap<Link, &'a [Unproven]>,
    /// Clusters with a trust change that is not accepted.
    distrusted: BTreeSet<&'a ClusterName>,
}

impl<'a> PlanFindings<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut found = Self::default();
        let open = plan.trust_changes.iter().filter(|change| change.verdict != Verdict::Approved);
        found.distrusted.extend(open.map(|change| &change.cluster));
        for step in &plan.steps {
            let (health, reasons) = match &step.state {
                StepState::Ready => (Health::Joined, Vec::new()),
                StepState::Waiting(_) => (Health::Waiting, step.state.sentences()),
                StepState::Failed(_) | StepState::Refused(_) => (Health::Broken, vec![step.state.line()]),
            };
            let Some(link) = Link::of(&step.id) else {
                let all = found.clusters.entry(&step.id.cluster).or_default();
                for reason in reasons {
                    let waits = health == Health::Waiting && step.id.kind != StepKind::FetchCa;
                    let message = if waits { format!("{} waits for {reason}", step.id.kind) } else { reason };
                    if !all.iter().any(|(_, known)| *known == message) {
                        all.push((health, message));
                    }
                }
                continue;
            };
            if !step.unproven.is_empty() {
                found.unproven.insert(link.clone(), &step.unproven);
            }
            if health != Health::Joined {
                found.links.insert(link, (health, reasons));
            }
        }
        found
    }

    fn cluster(&self, lock: &Lock, cluster: &Cluster, now: Timestamp) -> ClusterHealth {
        let name = &cluster.name;
        let mut health = match cluster.state {
            State::Active => Health::Joined,
            State::Paused => Health::Paused,
            State::Leaving | State::Lost => Health::Leaving,
        };
        let mut reasons = self.clusters.get(name).cloned().unwrap_or_default();
        if !lock.clusters.contains_key(name) && reasons.is_empty() && cluster.state == State::Active {
            reasons.push((Health::Waiting, "it was never read".to_owned()));
        }
        let end = first_root_end(lock, name).filter(|_| !cluster.state.is_going());
        if let Some((health, ends)) = root_end(end, now) {
            reasons.push((health, format!("a root CA {ends}")));
        }
        for (reason, _) in &reasons {
            health = health.min(*reason);
        }
        if self.distrusted.contains(name) {
            health = Health::Broken;
        }
        ClusterHealth { health, reasons }
    }
}
