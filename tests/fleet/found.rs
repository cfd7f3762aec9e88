//! Walks that broke a law once, as short as they get.

use super::mesh::{FleetOutcome, RunFlags};
use super::site::{ClusterTrouble, FleetEvent};
use super::walk::WalkStep::{LoseLock, LoseWholeLock, OldLock, Run};
use super::walk::{Walk, WalkStep};
use super::wish::FieldEdit;

const PLAIN: RunFlags = RunFlags { allow_delete: false, locked: false, accept: false, only: None, restore: false };
const ACCEPT: RunFlags = RunFlags { accept: true, ..PLAIN };
const RESTORE: RunFlags = RunFlags { restore: true, ..PLAIN };
const LOCKED: RunFlags = RunFlags { locked: true, ..PLAIN };

/// Two clusters that are joined take these steps and come to rest.
fn holds(steps: &[WalkStep]) {
    for argo in [false, true] {
        let (_, taken) = super::walk(2, true, argo, steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
        if let Err(broken) = taken {
            panic!("argo: {argo}: {broken}");
        }
    }
}

#[test]
fn an_exporter_that_publishes_less_than_it_did_cuts_no_link() {
    holds(&[WalkStep::Trouble(0, ClusterTrouble::Bare), Run(ACCEPT)]);
}

/// The path of its file is lost: `lock/clusters/ash.yaml`, `lock/clusters/birch.yaml`, `lock/links/ash.yaml`, …
#[test]
fn a_lost_file_of_links_cuts_no_link() {
    holds(&[LoseLock(2)]);
}

#[test]
fn a_lost_file_of_a_cluster_that_answers_cuts_no_link() {
    holds(&[LoseLock(0), Run(PLAIN)]);
}

#[test]
fn a_lost_file_of_a_cluster_cuts_no_link() {
    holds(&[LoseLock(0), Run(LOCKED)]);
    holds(&[WalkStep::Trouble(0, ClusterTrouble::Down), LoseLock(0), Run(PLAIN)]);
    holds(&[LoseLock(0), Run(RunFlags { only: Some(1), ..PLAIN })]);
}

#[test]
fn a_lost_lock_cuts_no_link() {
    holds(&[LoseWholeLock]);
    holds(&[LoseWholeLock, Run(LOCKED)]);
}

#[test]
fn an_old_file_of_links_cuts_no_link() {
    holds(&[OldLock(2, 3)]);
}

/// What is published now says nothing of the root before, of which workloads have certificates yet.
#[test]
fn a_lost_entry_that_is_accepted_anew_takes_no_root_back() {
    holds(&[WalkStep::Happen(0, FleetEvent::ReplaceRoot), LoseWholeLock, Run(ACCEPT)]);
    let renamed = WalkStep::Edit(FieldEdit::Mesh("metadata.name", 0));
    holds(&[WalkStep::Happen(0, FleetEvent::ReplaceRoot), LoseWholeLock, renamed, Run(PLAIN)]);
    holds(&[WalkStep::Happen(0, FleetEvent::ReplaceRoot), Run(ACCEPT), WalkStep::SyncAll, LoseLock(0), Run(ACCEPT)]);
}

/// Its remote secrets have the ID that it was joined with.
#[test]
fn a_lost_entry_that_is_accepted_anew_renames_no_cluster() {
    holds(&[edit(1, "clusterID", 0), LoseLock(1), Run(ACCEPT)]);
}

/// The tree says with what its links were begun.
#[test]
fn a_lost_entry_that_is_accepted_anew_lets_no_edit_through() {
    let fields =
        ["istio.namespace", "network", "trustDomain", "clusterDomain", "flatNetwork", "reconciler", "istio.config"];
    let edits = fields.into_iter().map(|field| edit(0, field, 0));
    let of_mesh =
        ["meshID", "credentials.requireToken"].into_iter().map(|field| WalkStep::Edit(FieldEdit::Mesh(field, 0)));
    for edit in edits.chain(of_mesh) {
        holds(&[edit, LoseLock(0), Run(ACCEPT)]);
    }
}

/// No link and no secret names a cluster whose links leave, and what is live rests on it yet.
#[test]
fn a_lost_entry_of_a_cluster_that_leaves_is_not_accepted_as_a_newcomer() {
    let leave = Run(RunFlags { allow_delete: true, ..PLAIN });
    holds(&[edit(0, "clusterID", 0), leave, edit(0, "clusterID", 2), LoseWholeLock, Run(ACCEPT)]);
}

/// What its links rest on is said nowhere any more.
#[test]
fn a_lost_entry_is_not_accepted_anew_where_its_tree_is_lost_too() {
    for (field, choice) in [("istio.namespace", 0), ("reconciler", 0)] {
        let mut walk = Walk::new(super::joined(2, false), &[]);
        walk.take(&edit(0, field, choice)).unwrap();
        walk.take(&LoseLock(0)).unwrap();
        walk.fleet.change_tree(|files| files.retain(|path, _| !path.starts_with("rendered/ash/")));
        walk.take(&Run(ACCEPT)).unwrap();
        let is_accepted = walk.fleet.checkout.contains_key("lock/clusters/ash.yaml");
        assert!(!is_accepted || field == "reconciler", "{field}");
    }
}

/// Its other files say it.
#[test]
fn a_lost_entry_that_is_accepted_anew_rests_on_what_its_other_files_say() {
    for field in ["istio.namespace", "reconciler", "network", "flatNetwork"] {
        let mut walk = Walk::new(super::joined(2, false), &[]);
        walk.take(&edit(0, field, 0)).unwrap();
        walk.take(&LoseLock(0)).unwrap();
        walk.fleet.change_tree(|files| {
            files.remove("rendered/ash/configmap-isthmus-peers.yaml").unwrap();
        });
        walk.take(&Run(ACCEPT)).unwrap();
        walk.end().unwrap();
    }
}

/// Without its private document no one could reach it.
#[test]
fn a_lost_entry_is_accepted_anew_as_a_whole_or_not_at_all() {
    holds(&[WalkStep::Trouble(0, ClusterTrouble::Starting), LoseLock(0), Run(ACCEPT)]);
    holds(&[WalkStep::Trouble(0, ClusterTrouble::Starting), LoseWholeLock, Run(ACCEPT)]);
}

/// The lock says no more that links rest on what is edited.
#[test]
fn a_lost_lock_lets_no_edit_through() {
    holds(&[edit(0, "reconciler", 0), LoseWholeLock, Run(PLAIN)]);
    holds(&[WalkStep::Edit(FieldEdit::Mesh("meshID", 0)), LoseWholeLock]);
    let token = WalkStep::Edit(FieldEdit::Mesh("credentials.requireToken", 0));
    holds(&[edit(0, "state", 0), Run(PLAIN), LoseWholeLock]);
    holds(&[LoseWholeLock, token, WalkStep::Edit(FieldEdit::Document(0))]);
}

/// Its reader shows no secret any more and its peer still reads: the Gateway that lets the peer in has to stay.
#[test]
fn who_drops_the_link_first_still_lets_the_other_in() {
    let leaving = WalkStep::Edit(FieldEdit::Cluster(0, "state", 0));
    holds(&[leaving, Run(PLAIN), WalkStep::Sync(0), Run(PLAIN), Run(PLAIN)]);
}

#[test]
fn a_rebuilt_cluster_whose_document_goes_can_be_declared_lost() {
    holds(&[WalkStep::Happen(1, FleetEvent::Rebuild), WalkStep::Edit(FieldEdit::Document(1))]);
}

/// A run of one cluster began links with peers that the lock did not know, and a peer that left then was never read.
#[test]
fn a_run_of_one_cluster_begins_no_link_with_a_peer_that_the_lock_does_not_know() {
    let steps = [
        Run(PLAIN),
        WalkStep::SyncAll,
        Run(RunFlags { only: Some(0), ..PLAIN }),
        WalkStep::Edit(FieldEdit::Cluster(1, "state", 0)),
    ];
    let (_, taken) = super::walk(2, false, false, &steps, &[], false);
    taken.unwrap();
}

/// Workloads have certificates of the old root for as long as those last.
#[test]
fn a_root_that_is_replaced_is_trusted_until_no_certificate_of_it_is_left() {
    let mut walk = Walk::new(super::joined(2, false), &[]);
    for step in [WalkStep::Happen(0, FleetEvent::ReplaceRoot), Run(ACCEPT), WalkStep::SyncAll] {
        walk.take(&step).unwrap();
    }
    walk.end().unwrap();
}

/// Its replicas take certificates of the new CA one after the other.
#[test]
fn a_relay_ca_that_is_replaced_is_known_until_no_replica_serves_the_old_one() {
    holds(&[WalkStep::Happen(0, FleetEvent::ReplaceRelayCa), Run(ACCEPT), WalkStep::SyncAll, Run(PLAIN)]);
}

/// What is published now says nothing of the one before, of which the tree's secrets know.
#[test]
fn a_lost_entry_that_is_accepted_anew_takes_no_relay_ca_back() {
    holds(&[LoseWholeLock, Run(RESTORE), WalkStep::Happen(0, FleetEvent::ReplaceRelayCa), Run(ACCEPT)]);
    holds(&[LoseLock(0), WalkStep::Happen(0, FleetEvent::ReplaceRelayCa), Run(ACCEPT)]);
}

fn edit(cluster: usize, field: &'static str, choice: usize) -> WalkStep {
    WalkStep::Edit(FieldEdit::Cluster(cluster, field, choice))
}

/// The value stays out of effect, the links flow, and there is a way to it.
#[test]
fn what_no_edit_changes_while_joined_is_refused_and_has_a_way_out() {
    let fields = ["reconciler", "istio.config"];
    let of_mesh = ["metadata.name", "credentials.requireToken"];
    let edits = fields.into_iter().zip([0, 1]).map(|(field, choice)| edit(0, field, choice));
    for edit in edits.chain(of_mesh.into_iter().map(|field| WalkStep::Edit(FieldEdit::Mesh(field, 0)))) {
        let mut walk = Walk::new(super::joined(2, false), &[]);
        walk.take(&edit).unwrap();
        let before = walk.fleet.checkout.clone();
        assert!(matches!(walk.fleet.run(PLAIN).unwrap(), FleetOutcome::Refused(_)), "{edit:?}");
        assert!(before == walk.fleet.checkout, "{edit:?}");
        walk.end().unwrap();
    }
}

/// The ConfigMap stays until the values are in effect with all that it gives, whoever joins meanwhile.
#[test]
fn mesh_configuration_moves_to_values_while_joined() {
    const CONFIG: &str = "rendered/ash/configmap-isthmus-mesh.yaml";
    const VALUES: &str = "values/ash/helm-values.yaml";
    let mut walk = Walk::new(super::joined(3, false), &[]);
    let files = |walk: &Walk| [CONFIG, VALUES].map(|path| walk.fleet.checkout.contains_key(path));
    let run = |walk: &mut Walk| {
        walk.take(&Run(PLAIN)).unwrap();
        files(walk)
    };
    assert_eq!(files(&walk), [true, false]);
    walk.take(&edit(0, "istio.config", 0)).unwrap();
    assert_eq!(run(&mut walk), [true, true]);
    // the next run has nothing new to see
    for step in [WalkStep::Sync(0), WalkStep::Sync(1), WalkStep::Sync(2)] {
        walk.take(&step).unwrap();
    }
    assert_eq!(run(&mut walk), [true, true]);
    // a root that came after the values were taken is not in effect
    for step in [WalkStep::Install(0), WalkStep::Happen(1, FleetEvent::AddRoot), Run(ACCEPT), WalkStep::Sync(0)] {
        walk.take(&step).unwrap();
    }
    assert_eq!(run(&mut walk), [true, true]);
    walk.take(&WalkStep::Trouble(0, ClusterTrouble::Half(0b10_0000))).unwrap();
    walk.take(&WalkStep::Install(0)).unwrap();
    assert_eq!(run(&mut walk), [true, true], "what is unknown takes nothing away");
    walk.take(&WalkStep::Mend(0)).unwrap();
    assert_eq!(run(&mut walk), [false, true]);
    walk.end().unwrap();
    assert_eq!(files(&walk), [false, true]);
}

/// It is taken back while both are there, and where nothing will ever show that values are in effect it is refused.
#[test]
fn a_move_to_values_can_be_taken_back_and_needs_evidence() {
    holds(&[
        edit(0, "istio.config", 0),
        Run(PLAIN),
        WalkStep::SyncAll,
        edit(0, "istio.config", 4),
        Run(PLAIN),
        WalkStep::SyncAll,
    ]);
    holds(&[edit(0, "evidence", 0), Run(PLAIN), edit(0, "istio.config", 0), Run(PLAIN)]);
    let mut walk = Walk::new(super::joined(2, false), &[]);
    walk.take(&edit(0, "evidence", 0)).unwrap();
    walk.take(&edit(0, "istio.config", 0)).unwrap();
    assert!(matches!(walk.fleet.run(PLAIN).unwrap(), FleetOutcome::Refused(_)));
}

/// Its relay and its api-proxy would go before its secrets and those of its peers.
#[test]
fn components_stay_until_the_last_link_is_gone() {
    holds(&[edit(0, "state", 0), edit(0, "multicluster.enabled", 0), Run(PLAIN)]);
    holds(&[WalkStep::Edit(FieldEdit::Pair(1, 0)), edit(0, "multicluster.enabled", 0), Run(PLAIN)]);
}

/// No one answers there, so that what flowed does not flow any more.
#[test]
fn a_stated_address_that_is_not_published_is_listed_as_a_cut() {
    for (field, wrong) in [("gateways", 1), ("api.host", 1)] {
        let mut walk = Walk::new(super::joined(2, false), &[]);
        walk.take(&edit(0, field, wrong)).unwrap();
        let FleetOutcome::Done(plan) = walk.fleet.run(PLAIN).unwrap() else { panic!("{field} is refused") };
        let messages = plan.security.iter().map(|item| item.change.explanation());
        let is_reported = messages
            .into_iter()
            .any(|messages| messages.message.contains("`ash`") && messages.message.contains("`birch`"));
        assert!(is_reported || !plan.moves.is_empty(), "{field}: {:?}", plan.security);
    }
}

/// Its gateway is stated, it publishes none, and the statement is taken out.
#[test]
fn a_secret_that_waits_stays_listed() {
    holds(&[
        edit(0, "gateways", 0),
        WalkStep::Trouble(0, ClusterTrouble::NoGateway),
        Run(PLAIN),
        edit(0, "gateways", 4),
        Run(PLAIN),
    ]);
}

/// The tree is refused as that of another mesh, and the lock must not continue without it: neither name led out of there.
#[test]
fn a_mesh_that_is_renamed_before_any_cluster_joined_can_be_named_back() {
    let steps = [Run(PLAIN), WalkStep::Edit(FieldEdit::Mesh("metadata.name", 0)), WalkStep::SyncAll, Run(PLAIN)];
    let (_, taken) = super::walk(2, false, false, &steps, &[], false);
    taken.unwrap();
}

/// A cluster was accepted with the network of another one, whose links it kept from ever moving: it was refused for good.
#[test]
fn a_claim_that_is_taken_back_frees_the_cluster_whose_it_is() {
    let steps = [
        Run(PLAIN),
        WalkStep::Trouble(0, ClusterTrouble::Forbidden),
        WalkStep::Trouble(2, ClusterTrouble::OtherNetwork),
        WalkStep::Sync(0),
        WalkStep::Sync(2),
        Run(PLAIN),
    ];
    let (_, taken) = super::walk(3, false, false, &steps, &[], false);
    taken.unwrap();
}

/// The message that says to declare it lost comes only once its entry is back.
#[test]
fn a_rebuilt_cluster_whose_lock_and_document_are_lost_can_be_declared_lost() {
    holds(&[WalkStep::Happen(0, FleetEvent::Rebuild), LoseWholeLock, WalkStep::Edit(FieldEdit::Document(0))]);
}

/// Its own network was taken for that of its peer, and the gateways went from under the link.
#[test]
fn a_cluster_that_publishes_the_network_of_its_peer_keeps_the_gateways_of_that_peer() {
    holds(&[
        WalkStep::Trouble(0, ClusterTrouble::OtherNetwork),
        Run(PLAIN),
        WalkStep::Edit(FieldEdit::Mesh("credentials.requireToken", 0)),
    ]);
}

/// One cluster was written under the new name, while the files of the other still carried the old one: neither name led out.
#[test]
fn a_mesh_is_not_renamed_by_halves() {
    let steps =
        [Run(RunFlags { only: Some(0), ..PLAIN }), WalkStep::Edit(FieldEdit::Mesh("metadata.name", 0)), Run(PLAIN)];
    let (_, taken) = super::walk(2, false, false, &steps, &[], false);
    taken.unwrap();
}

/// A run wrote the file anew that it said to bring back, so that the command it named brought back what was refused.
#[test]
fn a_file_that_is_to_be_brought_back_is_not_written() {
    let mut walk = Walk::new(super::joined(2, false), &[]);
    for step in [edit(0, "state", 0), Run(PLAIN), OldLock(2, 1), edit(0, "state", 4)] {
        walk.take(&step).unwrap();
    }
    let before = walk.fleet.lock_files();
    assert!(matches!(walk.fleet.run(PLAIN).unwrap(), FleetOutcome::Done(plan) if plan.is_refused()));
    assert_eq!(before["lock/links/ash.yaml"], walk.fleet.lock_files()["lock/links/ash.yaml"]);
    walk.end().unwrap();
}

/// What was last used of it is older than what it publishes, and the checker took the former for what has to be there.
#[test]
fn a_stated_gateway_that_is_taken_back_is_no_breach() {
    holds(&[edit(0, "gateways", 1), Run(PLAIN), edit(0, "gateways", 4), Run(LOCKED)]);
}

/// The folders of others are not compared in a run of one cluster, nor is that of who is paused, and the checker was the first to
/// miss the file.
#[test]
fn a_lost_file_of_links_is_reported_where_its_folder_is_not_compared() {
    holds(&[edit(0, "state", 1), LoseLock(2), Run(PLAIN)]);
    holds(&[LoseLock(2), edit(1, "multicluster.apiHost", 0), Run(RunFlags { only: Some(1), ..PLAIN })]);
}

/// Nothing goes, and the checker said that network and route would.
#[test]
fn a_link_that_is_wanted_again_before_its_secret_is_gone_is_no_breach() {
    holds(&[WalkStep::Edit(FieldEdit::Pair(1, 0)), Run(PLAIN), WalkStep::Edit(FieldEdit::Pair(1, 0)), Run(PLAIN)]);
}

/// No link moved in the run that wrote the alias, so that no one saw that the file is older than the tree.
#[test]
fn an_old_file_of_links_takes_no_alias_back() {
    let merge = edit(0, "mergeTrustDomains", 0);
    holds(&[merge.clone(), Run(PLAIN), OldLock(2, 1), Run(LOCKED)]);
    holds(&[merge, Run(PLAIN), edit(0, "mergeTrustDomains", 1), Run(PLAIN), OldLock(2, 1), Run(LOCKED)]);
}

/// The entry forgets with the last link that its cluster was declared lost, and the checker asked the entry of after.
#[test]
fn a_cluster_that_was_declared_lost_for_a_while_is_no_breach() {
    holds(&[edit(0, "state", 2), Run(PLAIN), edit(0, "state", 4), Run(PLAIN), Run(PLAIN)]);
}

/// A run of one cluster dropped its entry, or what that says of links, on which a link of another rested.
#[test]
fn links_that_go_in_a_run_of_one_cluster_leave_its_entry_to_others() {
    for only in [0, 1] {
        holds(&[edit(0, "state", 2), Run(PLAIN), Run(PLAIN), Run(RunFlags { only: Some(only), ..PLAIN })]);
    }
}

/// Its values are left behind, and what is refused names them, too.
#[test]
fn a_cluster_of_which_only_files_are_left_goes_by_hand_as_its_refusal_says() {
    let steps = [edit(0, "istio.config", 2), Run(PLAIN), WalkStep::Edit(FieldEdit::Document(0))];
    let (_, taken) = super::walk(3, false, false, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
    taken.unwrap();
}

/// The lock was merged with a tree of before the join: its links were opened by a run that saw that nothing they need is live.
#[test]
fn a_lock_that_is_ahead_of_its_tree_opens_nothing_unseen() {
    let only = WalkStep::OtherEngine(3, RunFlags { only: Some(0), ..PLAIN });
    let all = WalkStep::OtherEngine(3, PLAIN);
    for steps in [vec![only, OldLock(1, 1)], vec![WalkStep::Trouble(1, ClusterTrouble::Forbidden), all, OldLock(6, 1)]]
    {
        let (_, taken) = super::walk(2, true, false, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
        taken.unwrap();
    }
}

/// The tree was taken back to before the join while its secrets were live, and a link that the lock had as begun went at once.
#[test]
fn a_link_that_its_reader_shows_does_not_go_as_one_that_never_opened() {
    let steps = [WalkStep::Happen(0, FleetEvent::RenameNetwork), WalkStep::OtherEngine(2, PLAIN), edit(0, "state", 0)];
    holds(&steps);
}

/// The tree was taken back to before the join while its secrets were live; where roots and networks are written moved at once.
#[test]
fn where_roots_are_written_stays_until_the_links_that_rest_on_it_are_gone() {
    for config in 0..3 {
        let steps = [
            WalkStep::Trouble(0, ClusterTrouble::Down),
            WalkStep::OtherEngine(2, PLAIN),
            edit(0, "istio.config", config),
            Run(PLAIN),
        ];
        holds(&steps);
    }
}

/// Which networks its own configuration has was not seen when its entry was accepted anew, and ours were written without them.
#[test]
fn a_lost_entry_is_not_accepted_anew_before_its_own_networks_are_seen() {
    for steps in [vec![Run(ACCEPT), Run(PLAIN)], vec![edit(1, "istio.config", 0), Run(ACCEPT), Run(PLAIN)]] {
        let unseen = [WalkStep::Trouble(1, ClusterTrouble::Half(1 << 5)), LoseLock(1)];
        holds(&[unseen.to_vec(), steps].concat());
    }
}

/// Its lock and its tree were taken back to before the join, and a file of links was merged into them.
#[test]
fn a_root_that_was_replaced_is_trusted_by_links_that_come_back_with_an_old_commit() {
    let steps = [
        Run(PLAIN),
        WalkStep::Happen(1, FleetEvent::ReplaceRoot),
        Run(PLAIN),
        Run(PLAIN),
        WalkStep::OtherEngine(5, PLAIN),
        OldLock(3, 1),
        WalkStep::Edit(FieldEdit::EngineKeys(2)),
        WalkStep::Sync(0),
        Run(PLAIN),
    ];
    let (_, taken) = super::walk(3, true, false, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
    taken.unwrap();
}

/// Its name is that of a secret which waits: such files were taken for ours.
#[test]
fn a_file_of_someone_else_keeps_a_cluster_whose_links_begin() {
    let keys = WalkStep::Edit(FieldEdit::EngineKeys(2));
    let steps = [Run(PLAIN), WalkStep::Foreign(0, 0), WalkStep::SyncAll, keys, Run(PLAIN)];
    let (_, taken) = super::walk(2, false, false, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
    taken.unwrap();
}

/// What was written for it opened its links anew, and went as that of another tool while they were live.
#[test]
fn what_is_left_to_another_tool_stays_while_links_rest_on_it() {
    let steps = [
        Run(PLAIN),
        WalkStep::SyncAll,
        Run(PLAIN),
        edit(0, "reconciler", 0),
        Run(PLAIN),
        Run(PLAIN),
        WalkStep::SyncAll,
        Run(PLAIN),
    ];
    let (_, taken) = super::walk(3, false, false, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
    taken.unwrap();
}

/// What is marked stays in the cluster when it leaves the checkout, whichever tool syncs; and it is taken back from there.
#[test]
fn a_cluster_that_is_left_to_another_checkout_keeps_its_links_and_comes_back() {
    for argo in [false, true] {
        let steps =
            [WalkStep::HandOver(0), WalkStep::SyncAll, WalkStep::Happen(1, FleetEvent::MoveGateway), Run(PLAIN)];
        let (walk, taken) = super::walk(3, true, argo, &steps, &[], false);
        taken.unwrap();
        assert!(!walk.fleet.folder("ash").is_empty(), "it is this checkout's again");
    }
}

/// A part of what marks them is live: nothing leaves the checkout yet.
#[test]
fn no_object_leaves_the_checkout_before_all_of_them_are_seen_to_be_marked() {
    for argo in [false, true] {
        let partly = WalkStep::SyncPartly(0, vec![0, 2, 4]);
        let steps = [edit(0, "reconciler", 0), Run(PLAIN), partly, Run(PLAIN), WalkStep::SyncAll, Run(PLAIN)];
        let (walk, taken) = super::walk(3, true, argo, &steps[..4], &[], false);
        taken.unwrap();
        drop(walk);
        let (_, taken) = super::walk(3, true, argo, &steps, &[], false);
        taken.unwrap();
    }
}

/// Its own links were lost with it, and its folder by a hand: what was written anew admitted none of those that read it.
#[test]
fn a_cluster_whose_entry_and_links_are_lost_is_not_written_anew() {
    let document = |cluster| WalkStep::Edit(FieldEdit::Document(cluster));
    let (_, taken) = super::walk(3, true, false, &[document(2), LoseWholeLock, Run(RESTORE), document(0)], &[], false);
    taken.unwrap();
}

/// The former CA of its relay is then only in that secret, and in what is live.
#[test]
fn a_secret_and_the_entry_are_lost_while_the_relay_takes_another_ca() {
    holds(&[WalkStep::LoseRendered(0, 0), LoseLock(0), WalkStep::Happen(0, FleetEvent::ReplaceRelayCa), Run(ACCEPT)]);
}

/// Its links rest on gateways, and the entry was accepted anew without any, since its spec had come to state a flat network.
#[test]
fn a_lost_entry_is_not_accepted_anew_before_the_gateways_of_its_links_are_seen() {
    let trouble = WalkStep::Trouble(1, ClusterTrouble::NoGateway);
    for field in [edit(1, "flatNetwork", 0), edit(1, "gateways", 3)] {
        holds(&[LoseLock(1), trouble.clone(), field, Run(ACCEPT)]);
    }
}

/// What a cluster publishes was compared with nothing while its spec stated another network, and was its own once the statement
/// went: two clusters in one network.
#[test]
fn a_published_network_that_a_stated_one_hid_is_compared_when_the_statement_goes() {
    let steps = [
        WalkStep::Trouble(1, ClusterTrouble::OtherNetwork),
        edit(1, "network", 0),
        Run(PLAIN),
        edit(1, "network", 3),
        Run(RunFlags { allow_delete: true, ..PLAIN }),
        WalkStep::Converge,
    ];
    let (_, taken) = super::walk(3, true, false, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
    taken.unwrap();
}

/// A cluster that no one has the key to ask counted as one that publishes no evidence, of which time alone tells.
#[test]
fn a_cluster_whose_key_is_missing_is_waited_for_as_any_that_shows_nothing() {
    for clusters in [2, 3] {
        let steps = [WalkStep::Trouble(1, ClusterTrouble::Forbidden), edit(0, "state", 0), WalkStep::Converge];
        let (_, taken) = super::walk(clusters, true, false, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
        taken.unwrap();
    }
}

/// A tool that was given an empty folder deleted what was in the cluster; it went silent with its exporter, and the next run put the
/// secret back beside all that it needs.
#[test]
fn a_folder_that_was_lost_and_synced_brings_no_secret_back_before_what_it_needs() {
    for back in 1..12 {
        holds(&[WalkStep::OldRendered(1, back), WalkStep::Sync(1), WalkStep::Converge]);
        holds(&[WalkStep::OldRendered(1, back), WalkStep::Sync(1), Run(PLAIN), Run(PLAIN), WalkStep::SyncAll]);
    }
    let down = WalkStep::Trouble(1, ClusterTrouble::Down);
    holds(&[down.clone(), WalkStep::LoseRendered(1, 0), Run(PLAIN)]);
    // the secret, and then every other file
    let mut steps = vec![down];
    steps.extend(std::iter::repeat_n(WalkStep::LoseRendered(1, 0), 2));
    steps.extend(std::iter::repeat_n(WalkStep::LoseRendered(1, 1), 12));
    steps.extend([WalkStep::Sync(1), Run(PLAIN), WalkStep::SyncAll, Run(PLAIN)]);
    holds(&steps);
}

/// The links leave before the network is flat, and until then rest on the gateways that the spec states no more.
#[test]
fn a_flat_network_without_gateways_takes_none_from_links_that_are_yet_to_leave() {
    holds(&[edit(0, "flatNetwork", 0), edit(0, "gateways", 3), Run(PLAIN)]);
}

/// Of birch, the folder of ash alone told that it was accepted before, and a run of birch looked into no other folder than its own.
#[test]
fn a_cluster_that_any_folder_names_is_never_taken_for_a_new_one() {
    let only = |flags: RunFlags| Run(RunFlags { only: Some(1), ..flags });
    holds(&[WalkStep::OldRendered(1, 3), WalkStep::LoseWholeLock, only(PLAIN)]);
    // whatever is lost beside it, who admits it as a peer knew it
    for lost in 0..12 {
        let mut steps = vec![WalkStep::OldRendered(1, 3), WalkStep::LoseWholeLock];
        steps.extend(std::iter::repeat_n(WalkStep::LoseRendered(0, lost), 4));
        steps.extend([edit(0, "state", 1), only(PLAIN), Run(PLAIN)]);
        holds(&steps);
    }
}

/// The lock forgot, while another checkout had the cluster, that its policies take identities of the peer's trust domain for its own.
#[test]
fn a_cluster_that_comes_back_from_another_checkout_keeps_its_aliases() {
    holds(&[edit(1, "mergeTrustDomains", 0), WalkStep::HandOver(1)]);
}

/// A cluster that another checkout has was declared lost, so nothing told any more that it is that one's.
#[test]
fn a_cluster_of_others_that_is_declared_lost_is_forgotten() {
    let hand_over = || WalkStep::HandOver(0);
    holds(&[hand_over(), edit(0, "state", 2), WalkStep::Others(0), WalkStep::Converge, hand_over()]);
}

/// A refused cluster kept its links, and the entry of their peer went with the last of the peer's own: the next run missed it.
#[test]
fn a_cluster_that_is_refused_keeps_the_entries_that_its_links_name() {
    let hand_over = || WalkStep::HandOver(0);
    let steps = [hand_over(), hand_over(), hand_over(), edit(1, "state", 0), hand_over()];
    for argo in [false, true] {
        let (_, taken) = super::walk(2, false, argo, &steps, &[], false);
        taken.unwrap();
    }
}

/// Another checkout takes what was left, in whatever state its exporter is, and leaves it again: until then no run writes it.
#[test]
fn what_another_checkout_took_is_written_once_it_is_left() {
    let (hand_over, others) = (|cluster| WalkStep::HandOver(cluster), |cluster| WalkStep::Others(cluster));
    for cluster in [0, 1] {
        holds(&[hand_over(cluster), others(cluster), hand_over(cluster), Run(ACCEPT), others(cluster)]);
        let down = WalkStep::Trouble(cluster, ClusterTrouble::Down);
        holds(&[hand_over(cluster), down, others(cluster), hand_over(cluster), Run(PLAIN), Run(LOCKED)]);
        let moved = WalkStep::Happen(1 - cluster, FleetEvent::MoveGateway);
        holds(&[
            hand_over(cluster),
            others(cluster),
            moved,
            Run(PLAIN),
            others(cluster),
            hand_over(cluster),
            Run(PLAIN),
        ]);
    }
}

/// What is live has the marks until the run without them is synced.
#[test]
fn a_link_leaves_a_cluster_that_was_taken_back_once_the_marks_are_gone() {
    let leaving = edit(0, "state", 0);
    holds(&[
        WalkStep::HandOver(0),
        WalkStep::Revert(3),
        Run(PLAIN),
        WalkStep::Sync(0),
        Run(PLAIN),
        leaving,
        Run(PLAIN),
    ]);
}

/// Its files, which no run writes any more, are refused: its links go with those of its peers all the same.
#[test]
fn links_of_a_cluster_that_others_have_leave_though_files_of_it_are_refused() {
    let steps = [
        Run(PLAIN),
        Run(ACCEPT),
        WalkStep::HandOver(0),
        Run(ACCEPT),
        Run(ACCEPT),
        edit(0, "flatNetwork", 0),
        Run(PLAIN),
    ];
    for argo in [false, true] {
        let (_, taken) = super::walk(2, false, argo, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
        taken.unwrap();
    }
}

/// No link here tells that another checkout has it.
#[test]
fn what_another_checkout_has_is_not_written_over_where_no_link_rests_on_it() {
    let reconciler = |choice| WalkStep::Edit(FieldEdit::Cluster(0, "reconciler", choice));
    let (lost, active) = (edit(0, "state", 2), edit(0, "state", 3));
    let left = [WalkStep::HandOver(0), WalkStep::Others(0), lost, Run(PLAIN), Run(PLAIN), active, reconciler(2)];
    let (external, offered) = (reconciler(1), WalkStep::Others(0));
    holds(&[left.as_slice(), &[Run(ACCEPT), Run(PLAIN)]].concat());
    holds(&[left.as_slice(), &[Run(ACCEPT), WalkStep::SyncAll, external]].concat());
    holds(&[left.as_slice(), &[offered, Run(RESTORE)]].concat());
}

/// A file of someone else keeps the lock's links as they are, also where another checkout has the cluster.
#[test]
fn a_foreign_file_keeps_the_links_of_a_cluster_that_others_have() {
    let hand_over = || WalkStep::HandOver(1);
    holds(&[hand_over(), WalkStep::Others(1), hand_over(), WalkStep::Foreign(1, 0), hand_over()]);
}

/// What it reads was declared closed, and is live yet.
#[test]
fn a_cluster_that_was_lost_is_left_to_others() {
    let steps = [edit(1, "state", 2), Run(PLAIN), Run(PLAIN), edit(1, "state", 3), Run(PLAIN), WalkStep::HandOver(1)];
    holds(&steps);
}

/// Another checkout that leaves a cluster says what links there are.
#[test]
fn what_is_left_without_a_link_here_is_taken_with_its_links() {
    let pair = WalkStep::Edit(FieldEdit::Pair(1, 2));
    let (hand_over, others) = (|| WalkStep::HandOver(1), || WalkStep::Others(1));
    let half = WalkStep::Trouble(1, ClusterTrouble::Half(38));
    holds(&[hand_over(), pair, others(), others(), half, hand_over(), hand_over()]);
}

/// What another checkout leaves may read a cluster that leaves here.
#[test]
fn what_is_left_beside_a_cluster_that_leaves_is_taken_with_its_links() {
    let pin = |choice| edit(1, "pin.rootCA", choice);
    let (hand_over, leaving) = (|| WalkStep::HandOver(1), edit(0, "state", 0));
    holds(&[hand_over(), pin(1), hand_over(), WalkStep::Others(1), pin(0), pin(2), leaving, hand_over()]);
}

/// Its folder is of before its links left for another namespace.
#[test]
fn a_folder_of_before_links_began_anew_is_no_silent_cut() {
    let leave = Run(RunFlags { allow_delete: true, ..PLAIN });
    let steps = [
        edit(0, "istio.namespace", 2),
        leave,
        WalkStep::Converge,
        WalkStep::OldRendered(0, 5),
        WalkStep::SyncAll,
        WalkStep::Converge,
    ];
    holds(&steps);
}

/// Its links stay joined, and no object of them is gone or made anew. Its agent follows up what peers publish.
#[test]
fn a_cluster_that_goes_to_its_agent_keeps_its_links() {
    for argo in [false, true] {
        let steps = [WalkStep::ToAgent(0), WalkStep::Happen(1, FleetEvent::MoveGateway), WalkStep::Converge];
        let mut walk = Walk::new(super::joined(3, argo), &[]);
        for step in &steps {
            walk.take(step).unwrap();
        }
        let ash = walk.fleet.site("ash");
        assert!(ash.istiod.agent_acts() && !ash.is_tracked("secret-istio-remote-secret-birch.yaml"));
        assert!(!walk.fleet.folder("ash").contains_key("secret-istio-remote-secret-birch.yaml"));
        walk.end().unwrap();
        assert!(!walk.fleet.site("ash").istiod.agent_acts(), "it comes back at the end of a walk");
    }
}

/// Who acted before goes when the Service is seen to lead to who acts, since a tool may prune before it writes.
#[test]
fn istiod_has_a_relay_whatever_is_pruned_first() {
    holds(&[WalkStep::ToAgent(0), WalkStep::ToAgent(0)]);
}

/// Wherever the process of an agent ends, the next one continues.
#[test]
fn an_agent_that_ends_after_any_write_is_continued_by_the_next() {
    let to_agent = edit(0, "reconciler", 3);
    for writes in 0..12 {
        let ends = WalkStep::AgentEnds(0, writes);
        let begins =
            [to_agent.clone(), Run(PLAIN), WalkStep::SyncAll, WalkStep::Agent(0), Run(PLAIN), WalkStep::SyncAll];
        let after = [ends, Run(PLAIN), WalkStep::SyncAll, WalkStep::Agent(0), Run(PLAIN), WalkStep::SyncAll];
        holds(&[&begins[..], &after].concat());
    }
}

/// What was given is taken before it is given back, however late that is.
#[test]
fn an_edit_that_is_taken_back_while_the_agent_is_down_waits_for_it() {
    let (to, back) = (edit(0, "reconciler", 3), edit(0, "reconciler", 4));
    let begins = [to, Run(PLAIN), WalkStep::SyncAll, WalkStep::Agent(0), WalkStep::AgentDown(0), Run(PLAIN)];
    let round = [Run(PLAIN), WalkStep::SyncAll, WalkStep::Agent(0)];
    for is_up in [true, false] {
        let up =
            if is_up { vec![WalkStep::Mend(0), Run(PLAIN), WalkStep::SyncAll, WalkStep::Agent(0)] } else { vec![] };
        holds(&[&begins[..], &up, std::slice::from_ref(&back), &round, &round, &round].concat());
    }
}

/// It takes its own end of a link away once the other side refuses it, and that went at once, or the agent itself did.
#[test]
fn a_cluster_that_leaves_is_there_until_agents_are_done_with_its_links() {
    for leaving in [0, 1] {
        holds(&[WalkStep::ToAgent(1), edit(leaving, "state", 0)]);
    }
    holds(&[WalkStep::ToAgent(0), WalkStep::ToAgent(1), edit(0, "state", 0), WalkStep::Converge]);
}

/// Its object went with its link, and an agent waits for each peer that goes, unless that is stated to be lost.
#[test]
fn an_agent_knows_that_a_peer_is_lost() {
    let lost = edit(0, "state", 2);
    holds(&[WalkStep::ToAgent(1), lost.clone()]);
    holds(&[WalkStep::ToAgent(1), lost, WalkStep::ToAgent(1)]);
}

/// No secret in its tree told of its links, and what declares them went: its agent took them away.
#[test]
fn a_lost_lock_cuts_no_link_of_an_agent() {
    holds(&[WalkStep::ToAgent(1), LoseWholeLock]);
    for file in 0..4 {
        holds(&[WalkStep::ToAgent(1), LoseLock(file), Run(PLAIN)]);
    }
}

/// The lock did not follow what its spec says while the agent had it, and the run that took it back wrote another configuration.
#[test]
fn trust_domains_that_an_agent_merges_stay_merged_when_it_leaves() {
    for choice in 0..3 {
        holds(&[WalkStep::ToAgent(1), edit(1, "mergeTrustDomains", choice), WalkStep::Converge, WalkStep::ToAgent(1)]);
    }
}

/// An agent goes by the ID that its peer publishes: a secret with the one that is stated here is another one.
#[test]
fn what_an_agent_reads_by_another_id_is_not_taken_back() {
    let state = edit(1, "clusterID", 0);
    holds(&[WalkStep::ToAgent(0), state, WalkStep::Converge, WalkStep::Converge, WalkStep::ToAgent(0)]);
}

/// It was told of its link, and opened it, while the lock had no secret of it yet: who had no other link was taken to have none.
#[test]
fn what_an_agent_may_have_opened_is_left_before_who_acts_is_another() {
    let domain = edit(1, "trustDomain", 0);
    holds(&[domain, Run(PLAIN), WalkStep::ToAgent(1), WalkStep::ToAgent(0)]);
}

/// It was accepted anew as a cluster whose objects lie here, and the next run wrote them beside those of the agent.
#[test]
fn a_lost_entry_of_an_agents_cluster_is_accepted_anew_as_that_of_an_agent() {
    for steps in [vec![WalkStep::Converge], vec![Run(RunFlags { accept: true, ..RESTORE }), WalkStep::Converge]] {
        holds(&[vec![WalkStep::ToAgent(1), LoseLock(1)], steps].concat());
    }
}

/// A folder of before has what a lost cluster was read with.
#[test]
fn a_folder_of_before_a_peer_was_lost_closes_in_order() {
    let lost = edit(0, "state", 2);
    holds(&[lost, Run(PLAIN), WalkStep::OldRendered(1, 1), WalkStep::Converge]);
}

/// What it reads counts as closed until it has left, and its spec says that it leaves.
#[test]
fn a_folder_of_before_a_cluster_was_lost_goes_at_once_when_it_leaves() {
    let only = RunFlags { only: Some(0), ..PLAIN };
    let begins = [WalkStep::MergedLock(22, 3), edit(0, "state", 2), Run(only)];
    let root = WalkStep::Happen(2, FleetEvent::ReplaceRoot);
    let after = [root, WalkStep::OldRendered(0, 3), edit(0, "state", 0), Run(PLAIN), Run(ACCEPT), Run(PLAIN)];
    for argo in [false, true] {
        let steps = [&[Run(RunFlags { accept: true, ..RESTORE })], &begins[..], &after].concat();
        let (_, taken) = super::walk(3, true, argo, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
        taken.unwrap();
    }
}

/// The other checkout never had it, and its peer was held back for the network that it gives up when its links are gone.
#[test]
fn what_no_other_checkout_has_is_declared_lost_beside_a_peer_that_is_held_back() {
    let starting = WalkStep::Trouble(1, ClusterTrouble::Starting);
    let steps = [Run(PLAIN), WalkStep::SyncAll, edit(0, "network", 1), starting, WalkStep::HandOver(0)];
    for argo in [false, true] {
        let (_, taken) = super::walk(2, false, argo, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
        taken.unwrap();
    }
}

/// The other direction was said to be joined, in whose reader nothing was written.
#[test]
fn a_run_of_one_cluster_moves_no_link_of_another() {
    let only = RunFlags { only: Some(0), ..PLAIN };
    let mut walk = Walk::new(super::joined(2, false), &[]);
    walk.take(&edit(0, "state", 0)).unwrap();
    let FleetOutcome::Done(plan) = walk.fleet.run(only).unwrap() else { panic!("refused") };
    let readers: Vec<&str> = plan.moves.keys().map(|link| link.reader.as_str()).collect();
    assert_eq!(readers, ["ash"]);
    walk.end().unwrap();
    let leave = RunFlags { allow_delete: true, ..ACCEPT };
    let begins = [WalkStep::Trouble(1, ClusterTrouble::OtherUuid), Run(ACCEPT), WalkStep::Sync(0), Run(ACCEPT)];
    holds(&[&begins[..], &[Run(leave), Run(leave), Run(only), WalkStep::Sync(1)]].concat());
}

/// No link tells any more of the secrets that it was left with, which no tool prunes: they are deleted by hand, as it is said.
#[test]
fn what_was_left_and_stated_to_be_lost_comes_back() {
    let (lost, leaving) = (edit(0, "state", 2), |cluster| edit(cluster, "state", 0));
    let hand_over = || WalkStep::HandOver(0);
    let begins = [hand_over(), lost];
    let taken = [leaving(2), Run(ACCEPT), hand_over(), WalkStep::Others(0)];
    let kept = [leaving(1), Run(PLAIN), Run(PLAIN)];
    for (clusters, steps) in [(3, &taken[..]), (3, &kept), (2, &kept), (2, &kept[1..])] {
        for argo in [false, true] {
            let steps = [&begins[..], steps].concat();
            let (_, taken) = super::walk(clusters, true, argo, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
            taken.unwrap();
        }
    }
}

/// The same, where another checkout had taken them without marks when they were forgotten, and left them with some.
#[test]
fn what_others_took_and_was_stated_to_be_lost_comes_back() {
    let lost = |cluster| edit(cluster, "state", 2);
    let others = || WalkStep::Others(1);
    let begins =
        [WalkStep::HandOver(1), lost(1), lost(2), others(), edit(2, "state", 0), WalkStep::HandOverPartly(1, 2)];
    let steps = [&begins[..], &[others(), WalkStep::Sync(1), others(), Run(ACCEPT), edit(1, "state", 4)]].concat();
    for argo in [false, true] {
        let (_, taken) = super::walk(3, true, argo, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
        taken.unwrap();
    }
}

/// Nothing in it, and no lock, told any more that it was left to another checkout.
#[test]
fn a_lock_is_not_lost_with_a_cluster_that_was_left_and_made_anew() {
    holds(&[WalkStep::HandOver(0), WalkStep::Happen(0, FleetEvent::Rebuild), LoseWholeLock]);
}

/// Its lock said in one run that the secret goes, and its folder, of which a file was lost, lost secret and route in the next one.
#[test]
fn a_lost_peer_of_a_cluster_that_is_held_back_and_of_which_a_file_is_lost_closes_in_order() {
    let pin = edit(0, "pin.clusterUUID", 1);
    let vouched = edit(0, "evidence", 2);
    let hand_over = || WalkStep::HandOver(0);
    let steps = [edit(1, "state", 2), edit(0, "state", 1), WalkStep::LoseRendered(0, 2), Run(ACCEPT)];
    let comes = [hand_over(), WalkStep::HandOverPartly(0, 2), pin, vouched, WalkStep::SyncAll, edit(0, "state", 3)];
    let steps = [&steps[..], &comes, &[hand_over()]].concat();
    for argo in [false, true] {
        let (_, taken) = super::walk(3, true, argo, &steps, &[], std::env::var_os("ISTHMUS_TELL").is_some());
        taken.unwrap();
    }
}

/// No link tells of what it reads, since it was stated to be lost, and its peer was declared no more: nothing was there to be restored.
#[test]
fn what_another_checkout_leaves_is_taken_once_its_peers_are_declared() {
    let lost = edit(0, "state", 2);
    let takes = [WalkStep::HandOver(0), lost, Run(PLAIN), WalkStep::HandOverPartly(0, 2), WalkStep::Others(0)];
    holds(&[&takes[..], &[WalkStep::HandOver(0), WalkStep::Edit(FieldEdit::Document(1))]].concat());
}
