//! What is forgotten, and what is refused, once all links have moved.

use std::collections::BTreeSet;

use crate::model::known::KnownCluster;
use crate::model::lock::Lock;
use crate::model::mesh::{EvidenceField, Mesh, Reconciler, State};
use crate::pipeline::accept::{Accepted, EvidenceState, hides_our_roots};
use crate::pipeline::advance::Advanced;
use crate::pipeline::advance::reasons::{AdvanceRefusal, LinkWait};
use crate::types::name::{ClusterName, Digest};
use crate::types::step::{StepId, StepKind};
use crate::wire::metadata::Reported;

/// A leaving cluster that no link names any more is forgotten, unless something of it is lost, or an agent is not done with its links:
/// that takes its own end away once the other side refuses it, and so what answers has to stay.
pub(crate) fn forget_the_gone(
    mesh: &Mesh,
    held_back: &BTreeSet<&ClusterName>,
    accepted: &Accepted,
    advanced: &mut Advanced,
) {
    let Advanced { lock, waits, .. } = advanced;
    let named: BTreeSet<&ClusterName> = lock.linked().chain(held_back.iter().copied()).collect();
    let leaving = mesh.clusters.values().filter(|cluster| cluster.state.is_going());
    let is_gone = |name: &&ClusterName| !named.contains(name) && lock.clusters.contains_key(*name);
    let gone: Vec<ClusterName> = leaving.map(|cluster| &cluster.name).filter(is_gone).cloned().collect();
    for name in gone {
        if let Some((agent, peer)) = trusting_agent(mesh, accepted, lock, &name) {
            let wait = LinkWait::AgentTrusts { agent: agent.clone(), peer: peer.clone() };
            waits.entry(StepId::of(StepKind::RenderComponents, &name)).or_default().push(wait);
            continue;
        }
        lock.clusters.remove(&name);
        lock.serials.remove(&name);
    }
}

/// An agent that still trusts a leaving cluster, or that of a leaving cluster which still trusts a peer, without a link that is known here.
fn trusting_agent<'m>(
    mesh: &'m Mesh,
    accepted: &Accepted,
    lock: &'m Lock,
    leaving: &'m ClusterName,
) -> Option<(&'m ClusterName, &'m ClusterName)> {
    let others = lock.clusters.keys().filter(|name| *name != leaving);
    let mut pairs = others.flat_map(|other| [(other, leaving), (leaving, other)]);
    pairs.find(|(agent, peer)| lock.link(agent, peer).is_none() && trusts(mesh, accepted, lock, (agent, peer)))
}

/// Whether the agent of a cluster has root CAs of a peer in effect that none of its other peers has. What it does not show counts as so.
fn trusts(mesh: &Mesh, accepted: &Accepted, lock: &Lock, (agent, peer): (&ClusterName, &ClusterName)) -> bool {
    let acts = |name: &ClusterName| {
        mesh.clusters.get(name).filter(|one| one.reconciler == Reconciler::Agent && one.state != State::Lost)
    };
    let is_lost = mesh.clusters.get(peer).is_none_or(|peer| peer.state == State::Lost);
    let Some(cluster) = acts(agent).filter(|_| !is_lost) else { return false };
    let unknown = cluster.evidence.requires(EvidenceField::Trusts);
    let trusted = match accepted.assessments.get(agent).map(|assessment| &assessment.evidence) {
        Some(EvidenceState::Published(evidence)) => match &evidence.trusts {
            Reported::Seen(trusted) => trusted,
            Reported::Unknown(_) => return unknown,
        },
        Some(EvidenceState::NotPublished) => return false,
        Some(EvidenceState::Unseen(_)) | None => return unknown,
    };
    let roots = |name: &ClusterName| -> BTreeSet<Digest> {
        let known = KnownCluster::of(mesh, lock, name);
        known.iter().flat_map(KnownCluster::trusted_roots).map(|root| root.digest).collect()
    };
    let kept = lock.links_of(agent).map(|(linked, _)| linked).chain([agent]);
    let kept: BTreeSet<Digest> = kept.flat_map(roots).collect();
    roots(peer).iter().any(|root| trusted.contains(root) && !kept.contains(root))
}

/// A standard mesh configuration that hides ours is refused for its cluster.
pub(crate) fn refuse_hidden_roots(mesh: &Mesh, accepted: &Accepted, advanced: &mut Advanced) {
    for (name, assessment) in &accepted.assessments {
        if mesh.clusters.get(name).is_some_and(|cluster| hides_our_roots(cluster, assessment)) {
            advanced.refusals.insert(StepId::of(StepKind::RenderTrust, name), AdvanceRefusal::HiddenRootCas);
        }
    }
}
