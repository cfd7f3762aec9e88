//! Walks with agents that broke a law once, or did not come to rest, as short as they get.

use super::mesh::RunFlags;
use super::site::{ClusterTrouble, FleetEvent};
use super::walk::WalkStep;
use super::walk::WalkStep::{Run, ToAgent};
use super::wish::FieldEdit;

const PLAIN: RunFlags = RunFlags { allow_delete: false, locked: false, accept: false, only: None, restore: false };
const ACCEPT: RunFlags = RunFlags { accept: true, ..PLAIN };
const RESTORE: RunFlags = RunFlags { restore: true, ..PLAIN };

fn edit(cluster: usize, field: &'static str, choice: usize) -> WalkStep {
    WalkStep::Edit(FieldEdit::Cluster(cluster, field, choice))
}

/// Clusters that are joined, or not, take these steps and come to rest.
fn takes(clusters: usize, is_joined: bool, steps: &[WalkStep]) {
    for argo in [false, true] {
        let prints = std::env::var_os("ISTHMUS_TELL").is_some();
        let (_, taken) = super::walk(clusters, is_joined, argo, steps, &[], prints);
        if let Err(broken) = taken {
            panic!("argo: {argo}: {broken}");
        }
    }
}

/// Its objects are where it runs, which is where its specs say that istiod is.
#[test]
fn an_agent_writes_into_the_namespace_that_it_runs_in() {
    takes(2, false, &[edit(1, "istio.namespace", 2), ToAgent(2), ToAgent(3)]);
}

/// The way out of a refused edit is to leave, which a cluster with an agent does, too: to state that it is lost is not so.
#[test]
fn a_cluster_with_an_agent_leaves_where_an_edit_is_refused() {
    let token = WalkStep::Edit(FieldEdit::Mesh("credentials.requireToken", 0));
    takes(2, true, &[ToAgent(1), token]);
}

/// An agent waits for each peer that goes, and the one that it knew answers no more.
#[test]
fn an_agent_knows_that_a_peer_was_made_anew() {
    takes(2, true, &[ToAgent(0), WalkStep::Happen(1, FleetEvent::Rebuild), WalkStep::Converge]);
}

/// Once it has left its objects it writes them no more, and another engine's key would have opened nothing for good.
#[test]
fn an_agent_carries_its_last_specs_out_before_it_leaves() {
    let keys = WalkStep::Edit(FieldEdit::EngineKeys(2));
    for clusters in [2, 3] {
        takes(clusters, true, &[edit(1, "reconciler", 3), ToAgent(2), keys.clone(), ToAgent(3)]);
    }
}

/// What a tool was ordered not to delete stays in a cluster that is stated to be lost in the middle of a hand-over, and the agent of the cluster
/// knows nothing of it when that comes back. It says what is to be done.
#[test]
fn a_cluster_that_was_lost_in_a_hand_over_comes_back_to_its_agent() {
    takes(2, true, &[edit(1, "reconciler", 3), Run(PLAIN), edit(1, "state", 2), WalkStep::Converge]);
}

/// The agent would open links of which the lock says that none ever was open.
#[test]
fn a_locked_run_hands_nothing_over_while_links_only_join() {
    takes(3, false, &[WalkStep::SyncAll, Run(PLAIN), WalkStep::SyncAll, Run(PLAIN), edit(0, "reconciler", 3)]);
    takes(
        3,
        false,
        &[WalkStep::OtherEngine(1, PLAIN), WalkStep::Sync(1), WalkStep::SyncAll, Run(PLAIN), edit(3, "reconciler", 3)],
    );
}

/// What was lost is there again before its agent, or that of its peer, was done with the link of before: an agent that leaves a link states so,
/// and the checkout began it anew meanwhile, so that each side waited for the other one.
#[test]
fn a_link_that_an_agent_leaves_is_not_begun_anew() {
    let expose = edit(0, "multicluster.expose", 4);
    let lost = [ToAgent(1), edit(1, "state", 2), Run(ACCEPT), Run(ACCEPT), expose, WalkStep::Pass(21)];
    takes(2, true, &[&lost[..], &[edit(1, "state", 1), edit(0, "state", 3), WalkStep::Agent(1)]].concat());
    let peer_lost = [ToAgent(1), edit(1, "state", 2), Run(ACCEPT), Run(ACCEPT), edit(1, "state", 3)];
    takes(2, true, &peer_lost);
    let lost = [ToAgent(0), edit(0, "state", 2), Run(RESTORE), ToAgent(1)];
    takes(2, true, &[&lost[..], &[WalkStep::Edit(FieldEdit::Mesh("meshID", 2)), ToAgent(1)]].concat());
}

/// It opened what its lock of before said, in a cluster whose links had left since.
#[test]
fn an_agent_forgets_its_lock_once_a_checkout_took_its_objects() {
    let begins = [ToAgent(0), ToAgent(0), WalkStep::Happen(0, FleetEvent::RenameNetwork), edit(1, "reconciler", 3)];
    let old = |cluster, back| WalkStep::OldRendered(cluster, back);
    takes(2, true, &[&begins[..], &[Run(PLAIN), old(1, 4), edit(0, "reconciler", 3), old(1, 1)]].concat());
}

/// Its specs named the place where it was to be, and it wrote nothing where it was.
#[test]
fn an_agent_learns_of_another_namespace_when_it_is_there() {
    takes(2, false, &[Run(PLAIN), edit(1, "istio.namespace", 0), WalkStep::Foreign(1, 0), ToAgent(1)]);
}

/// Its links leave while it is handed over, and what no tool deletes is left of them.
#[test]
fn a_cluster_that_was_made_anew_goes_to_its_agent() {
    takes(3, true, &[WalkStep::Happen(2, FleetEvent::Rebuild), ToAgent(2)]);
    takes(2, true, &[WalkStep::Happen(0, FleetEvent::Rebuild), ToAgent(0)]);
}

/// Who acts in the cluster that was accepted in its place is another matter.
#[test]
fn an_agents_cluster_whose_untrue_identity_was_accepted_is_another_one() {
    takes(
        2,
        true,
        &[ToAgent(1), WalkStep::Trouble(1, ClusterTrouble::OtherUuid), edit(1, "reconciler", 2), ToAgent(1)],
    );
}

/// It had left its objects, and one of its peers was made anew before the checkout took them.
#[test]
fn an_agent_that_left_its_objects_acts_again_where_a_link_moves() {
    let begins = [ToAgent(0), edit(0, "gateways", 2), WalkStep::Happen(1, FleetEvent::Rebuild)];
    takes(3, true, &[&begins[..], &[ToAgent(0), ToAgent(0)]].concat());
}

/// It had left its objects, and lets no one read the cluster but by the keys that it knew before.
#[test]
fn an_agent_that_left_its_objects_learns_of_other_keys() {
    let keys = |bits| WalkStep::Edit(FieldEdit::EngineKeys(bits));
    for clusters in [2, 3] {
        let left = [ToAgent(0), edit(0, "reconciler", 2), Run(PLAIN), WalkStep::Sync(0)];
        let changed = [WalkStep::Agent(0), keys(2), WalkStep::Converge, ToAgent(0)];
        takes(clusters, true, &[&left[..], &changed[..]].concat());
    }
}

/// Both agents saw what the peer published before a run of the checkout did.
#[test]
fn an_agent_closes_a_link_by_itself_and_shows_it() {
    let rename = WalkStep::Happen(0, FleetEvent::RenameNetwork);
    takes(3, true, &[ToAgent(0), edit(1, "reconciler", 3), WalkStep::Converge, rename]);
}
