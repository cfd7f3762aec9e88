//! What the agent makes of a hand-over: whether it can take the objects of a checkout, what its lock is then, and whether it can leave
//! its own. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::agent::status::held_back_of_own;
use crate::model::lock::{HandOver, Lock, LockedLink, Stage};
use crate::model::mesh::Reconciler;
use crate::pipeline::plan::{Action, StepState};
use crate::pipeline::{Program, Run, Stop};
use crate::types::name::ClusterName;
use crate::wire::hand_over::{HandOverOrder, HandOverStage, HandOverState};

/// What keeps objects from being handed over as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotHandedOver {
    /// An object is wrong, or the specs are.
    #[error("{0}")]
    Finding(String),
    #[error("{0}")]
    Refused(String),
    /// An object that a run of the agent would not have.
    #[error("a run here would delete {0}")]
    Deletes(String),
    #[error("{0} is not there, or the checkout does not give it away yet")]
    Missing(String),
    /// A link would not stay.
    #[error("the link to `{0}` would not stay joined")]
    Link(ClusterName),
    #[error("the link to `{peer}` is {}", stage.as_str())]
    Moves { peer: ClusterName, stage: Stage },
    #[error("{0}")]
    OwnTrustChange(String),
}

/// Whether a run on what was handed over, which was planned and not carried out, leaves all objects and links in their places.
pub(super) fn stays(program: &Program, run: &Run, own: &ClusterName) -> Result<(), NotHandedOver> {
    if let Some(change) = held_back_of_own(run, own) {
        return Err(NotHandedOver::OwnTrustChange(change));
    }
    for step in &run.plan.steps {
        if let StepState::Refused(_) = &step.state {
            return Err(NotHandedOver::Refused(format!("{}: {}", step.id, step.state.line())));
        }
        for object in &step.objects {
            match object.action {
                Action::Create => return Err(NotHandedOver::Missing(object.object.clone())),
                Action::Delete => return Err(NotHandedOver::Deletes(object.object.clone())),
                Action::Update => {}
            }
        }
    }
    let after = &run.decided.advanced.lock;
    let stays = |reader: &ClusterName, peer: &ClusterName| {
        after.link(reader, peer).is_some_and(|link| link.stage == Stage::Joined)
    };
    for (reader, links) in &program.lock.links {
        for (peer, _) in links.iter().filter(|(_, link)| link.stage == Stage::Joined) {
            if !stays(reader, peer) {
                let other = if reader == own { peer } else { reader };
                return Err(NotHandedOver::Link(other.clone()));
            }
        }
    }
    Ok(())
}

/// The lock with, or without, the note that objects of the own cluster were just taken.
pub(super) fn noted(
    files: &BTreeMap<String, Vec<u8>>,
    own: &ClusterName,
    is_taking: bool,
) -> Result<BTreeMap<String, Vec<u8>>, Stop> {
    let path = Lock::cluster_path(own);
    let mut noted = files.clone();
    let Some(bytes) = files.get(&path) else { return Ok(noted) };
    // what cannot be read is found when the whole is loaded
    let Ok(mut lock) = Lock::parse([(path.as_str(), bytes.as_slice())]) else { return Ok(noted) };
    let Some(entry) = lock.clusters.get_mut(own) else { return Ok(noted) };
    let wanted = is_taking.then(|| HandOver::new(Reconciler::Rendered, Reconciler::Agent));
    if entry.hand_over != wanted {
        entry.hand_over = wanted;
        noted.extend(lock.to_files()?.into_iter().map(|(path, text)| (path, text.into_bytes())));
    }
    Ok(noted)
}

/// What is left behind where no link moves, of the peers that objects declare; else which link does.
pub(super) fn left_behind(
    lock: &Lock,
    own: &ClusterName,
    declared: BTreeSet<ClusterName>,
    order: &HandOverOrder,
) -> Result<HandOverState, NotHandedOver> {
    let moves = |(peer, link): (&ClusterName, &LockedLink)| {
        (link.stage != Stage::Joined).then(|| NotHandedOver::Moves { peer: peer.clone(), stage: link.stage })
    };
    if let Some(moves) = lock.links_of(own).find_map(moves) {
        return Err(moves);
    }
    let others = declared.into_iter().filter(|peer| lock.link(own, peer).is_none()).collect();
    Ok(HandOverState { others: Some(others), ..written(lock, own, order, HandOverStage::Released) })
}

/// What the agent wrote.
pub(super) fn written(lock: &Lock, own: &ClusterName, order: &HandOverOrder, stage: HandOverStage) -> HandOverState {
    let joined = lock.links_of(own).filter(|(_, link)| link.stage == Stage::Joined);
    let joined = joined.filter_map(|(peer, _)| lock.clusters.get(peer)).map(|entry| entry.public.cluster_uuid.clone());
    let links = lock.serials.get(own).copied();
    HandOverState { joined: joined.collect(), links, ..HandOverState::to(order, stage) }
}
