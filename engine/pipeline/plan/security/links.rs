//! Links that open and close: in this run, or, of a pull request, in the runs after it is merged.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use crate::model::known::KnownCluster;
use crate::model::link::Link;
use crate::model::lock::{Edit, HandOver, Lock, LockedCluster, LockedLink, Stage};
use crate::model::mesh::{Mesh, Reconciler, State};
use crate::pipeline::advance::{Advanced, Closing, HandOverLack, LinkWait, Move};
use crate::pipeline::plan::action::Action;
use crate::pipeline::plan::security::item::{SecurityChange, SecurityItem};
use crate::pipeline::plan::security::link_change::{LinkCause, LinkChange, LinkEffect};
use crate::pipeline::recorded::{RestoredFrom, RestoredLinks};
use crate::types::address::Gateway;
use crate::types::name::ClusterName;

/// Links by what becomes of them and why.
#[derive(Default)]
struct LinkGroups(BTreeMap<(LinkEffect, LinkCause), Vec<Link>>);

impl LinkGroups {
    fn add(&mut self, effect: LinkEffect, cause: LinkCause, link: Link) {
        self.0.entry((effect, cause)).or_default().push(link);
    }

    fn items(self, mesh: &Mesh, is_guarded: &dyn Fn(&LinkEffect, &LinkCause) -> bool) -> Vec<SecurityItem> {
        let is_blind =
            |name: &&ClusterName| mesh.clusters.get(*name).is_some_and(|cluster| !cluster.evidence.requires_any());
        let item = |((effect, cause), links): ((LinkEffect, LinkCause), Vec<Link>)| {
            let closes = matches!(effect.action(), Action::Delete | Action::Update);
            let ends = links.iter().flat_map(|link| link.ends().into_iter().take(if closes { 1 } else { 2 }));
            let blind: BTreeSet<ClusterName> = ends.filter(is_blind).cloned().collect();
            let is_guarded = is_guarded(&effect, &cause);
            let blind = blind.into_iter().collect();
            SecurityItem::listed(SecurityChange::Links(LinkChange { effect, cause, links, blind, is_guarded }))
        };
        self.0.into_iter().map(item).collect()
    }
}

/// Clusters whose links have to leave and join anew, with what is edited of them.
fn renamed(mesh: &Mesh, lock: &Lock) -> BTreeMap<ClusterName, Vec<Edit>> {
    let edits = |name: &ClusterName| {
        let known = KnownCluster::of(mesh, lock, name)?;
        let edits = known.joined_with()?.renamed(&known.joins_with(mesh)?);
        (!edits.is_empty()).then(|| (name.clone(), edits))
    };
    mesh.clusters.keys().filter_map(edits).collect()
}

fn edits_text(edits: &[Edit]) -> String {
    let edits = edits.iter().map(|Edit { field, joined, wanted }| format!("{field} from `{joined}` to `{wanted}`"));
    edits.collect::<Vec<_>>().join(" and ")
}

/// The links that a pull request opens and closes, in the runs after it is merged.
pub(super) fn intended(before: &Mesh, after: &Mesh, lock: &Lock) -> Vec<SecurityItem> {
    let (old_edits, new_edits) = (renamed(before, lock), renamed(after, lock));
    let is_same = |name: &ClusterName| {
        let of = |mesh: &Mesh| mesh.clusters.get(name).map(|cluster| (cluster.state.is_going(), cluster.is_ours()));
        of(before) == of(after)
    };
    let names: BTreeSet<&ClusterName> = before.clusters.keys().chain(after.clusters.keys()).collect();
    if before.topology == after.topology && old_edits == new_edits && names.iter().all(|name| is_same(name)) {
        return Vec::new();
    }
    let going = |name: &ClusterName| {
        let state = after.clusters.get(name).map(|cluster| cluster.state)?;
        match state {
            State::Leaving => Some(LinkCause::Leaving(name.clone())),
            State::Lost => Some(LinkCause::Lost(name.clone())),
            State::Active | State::Paused => None,
        }
    };
    let coming = |name: &ClusterName| match before.clusters.get(name) {
        None => Some(LinkCause::New(name.clone())),
        Some(cluster) if cluster.state.is_going() => Some(LinkCause::Active(name.clone())),
        Some(_) => None,
    };
    let edited = |name: &ClusterName| {
        let edits = new_edits.get(name).filter(|edits| old_edits.get(name) != Some(*edits))?;
        Some(LinkCause::Edited { cluster: name.clone(), edits: edits_text(edits) })
    };
    let mut groups = LinkGroups::default();
    for reader in &names {
        for peer in names.iter().filter(|peer| *peer != reader) {
            let (was, is) = (before.links(reader, peer), after.links(reader, peer));
            let is_open = || lock.link(reader, peer).is_some_and(|link| !link.stage.is_leaving());
            let link = || Link::new(reader, peer);
            let ends = [*reader, *peer];
            let first = |cause: &dyn Fn(&ClusterName) -> Option<LinkCause>| ends.into_iter().find_map(cause);
            match (was, is) {
                (true, false) if is_open() => {
                    groups.add(LinkEffect::Closes, first(&going).unwrap_or(LinkCause::Topology), link());
                }
                (false, true) => groups.add(LinkEffect::Opens, first(&coming).unwrap_or(LinkCause::Topology), link()),
                (true, true) if is_open() => {
                    if let Some(cause) = first(&edited) {
                        groups.add(LinkEffect::Reopens, cause, link());
                    }
                }
                (true | false, true | false) => {}
            }
        }
    }
    let all = lock.links.values().flat_map(BTreeMap::values).filter(|link| !link.stage.is_leaving()).count();
    let is_explained = |cause: &LinkCause| matches!(cause, LinkCause::Leaving(_) | LinkCause::Lost(_));
    let counted = groups.0.iter().filter(|((effect, cause), _)| {
        matches!(effect, LinkEffect::Closes | LinkEffect::Reopens) && !is_explained(cause)
    });
    let mut closing =
        Closing { all, going: counted.flat_map(|(_, links)| links).cloned().collect(), ..Closing::default() };
    for (reader, links) in &lock.links {
        let mut joined = links.iter().filter(|(_, link)| link.stage == Stage::Joined);
        if joined.any(|(peer, _)| !closing.going.contains(&Link::new(reader, peer))) {
            closing.staying.insert(reader.clone());
        }
    }
    let is_much = closing.is_too_much(after.clusters.len()) || closing.left_alone().next().is_some();
    groups.items(after, &|effect, cause| {
        is_much && matches!(effect, LinkEffect::Closes | LinkEffect::Reopens) && !is_explained(cause)
    })
}

/// The links that this run moves.
pub(super) fn moved(
    mesh: &Mesh,
    moves: &BTreeMap<Link, Move>,
    renamed: &BTreeMap<ClusterName, Vec<Edit>>,
    is_rebuilt: &dyn Fn(&ClusterName) -> bool,
) -> Vec<SecurityItem> {
    let cause = |name: &ClusterName| {
        let state = mesh.clusters.get(name).map(|cluster| cluster.state);
        match state {
            Some(State::Leaving) => return Some(LinkCause::Leaving(name.clone())),
            Some(State::Lost) => return Some(LinkCause::Lost(name.clone())),
            Some(State::Active | State::Paused) | None => {}
        }
        if is_rebuilt(name) {
            return Some(LinkCause::Rebuilt(name.clone()));
        }
        let edits = renamed.get(name)?;
        Some(LinkCause::Edited { cluster: name.clone(), edits: edits_text(edits) })
    };
    let mut groups = LinkGroups::default();
    for (link, step) in moves {
        let effect = match step.to {
            Some(Stage::Joining) => LinkEffect::Begins,
            Some(Stage::Joined) => LinkEffect::Joins,
            Some(Stage::Leaving) => LinkEffect::Leaves,
            Some(Stage::LeavingTrust) => LinkEffect::DropsNetwork,
            None => LinkEffect::DropsTrust,
        };
        let cause = match effect.action() {
            Action::Create => LinkCause::Specs,
            Action::Delete | Action::Update => {
                let acts = |who| {
                    let is_it = |end: &&ClusterName| mesh.clusters.get(*end).is_some_and(|one| one.reconciler == who);
                    link.ends().into_iter().find(is_it)
                };
                let others = || acts(Reconciler::External).or_else(|| acts(Reconciler::Agent));
                let gives_up = || others().filter(|_| mesh.links(&link.reader, &link.peer)).cloned();
                let known = link.ends().into_iter().find_map(cause);
                known.or_else(|| gives_up().map(LinkCause::PeerLeaves)).unwrap_or(LinkCause::Topology)
            }
        };
        groups.add(effect, cause, link.clone());
    }
    groups.items(mesh, &|_, _| false)
}

/// Links that the lock lost and that this run takes from tree and evidence.
pub(super) fn restored(mesh: &Mesh, restored: &RestoredLinks) -> Vec<SecurityItem> {
    let mut groups = LinkGroups::default();
    for (link, from) in restored {
        let effect = match from {
            RestoredFrom::Secret | RestoredFrom::Reads => LinkEffect::Restores,
            RestoredFrom::Peers | RestoredFrom::OtherDirection => LinkEffect::RestoresToLeave,
        };
        groups.add(effect, LinkCause::Found(*from), link.clone());
    }
    groups.items(mesh, &|_, _| false)
}

/// Links that leave and join anew, since what they rest on was edited.
pub(super) fn reopening(mesh: &Mesh, lock: &Lock, renamed: &BTreeMap<ClusterName, Vec<Edit>>) -> Vec<SecurityItem> {
    let mut groups = LinkGroups::default();
    for (cluster, edits) in renamed {
        let cause = || LinkCause::Edited { cluster: cluster.clone(), edits: edits_text(edits) };
        for (reader, links) in &lock.links {
            for peer in links.keys().filter(|peer| *peer == cluster || reader == cluster) {
                groups.add(LinkEffect::Reopens, cause(), Link::new(reader, peer));
            }
        }
    }
    groups.items(mesh, &|_, _| false)
}

/// Addresses that specs state anew, that links use from this run on, and that their cluster publishes otherwise: most likely
/// no one answers there.
pub(super) fn cuts(mesh: &Mesh, before: &Lock, after: &Lock) -> Vec<SecurityItem> {
    let of_cluster = |(name, old): (&ClusterName, &LockedCluster)| {
        let last = &old.joined_with.as_ref()?.reach;
        let known = KnownCluster::of(mesh, after, name)?;
        let (published, now) = (known.locked.private.as_ref()?, known.endpoint()?);
        let is_cut = |gateway: &&Gateway| !last.gateways.contains(gateway) && !published.gateways.contains(gateway);
        let gateways = now.gateways.iter().filter(|_| !known.cluster.flat_network).filter(is_cut);
        let mut stated: Vec<String> = gateways.map(|gateway| format!("gateway `{gateway}`")).collect();
        if now.api_host != last.api_host && now.api_host != published.api_host {
            stated.push(format!("api.host `{}`", now.api_host));
        }
        let reads = |link: Option<&LockedLink>| link.is_some_and(|link| link.stage == Stage::Joined);
        let readers = after.links.keys().filter(|reader| reads(after.link(reader, name)));
        let readers: Vec<ClusterName> = readers.cloned().collect();
        let cluster = name.clone();
        (!stated.is_empty() && !readers.is_empty())
            .then(|| SecurityItem::listed(SecurityChange::Cut { cluster, stated, readers }))
    };
    before.clusters.iter().filter_map(of_cluster).collect()
}

/// Clusters whose objects this run leaves to who is to act there, or begins to.
pub(super) fn handed_over(before: &Lock, after: &Lock) -> Vec<SecurityItem> {
    let item = |(name, entry): (&ClusterName, &LockedCluster)| {
        let HandOver { from, to, .. } = entry.hand_over?;
        let old = before.clusters.get(name);
        let stated = |hand_over: HandOver| HandOver { keys: None, ..hand_over };
        let is_new = from != to && old.and_then(|old| old.hand_over).map(stated) != entry.hand_over.map(stated);
        let is_left = from == Reconciler::External && entry.acts() == Some(to);
        let is_given = old.is_some_and(|old| old.acts() != entry.acts()) || (is_new && is_left);
        let cluster = name.clone();
        (is_given || is_new).then(|| SecurityItem::listed(SecurityChange::HandOver { cluster, from, to, is_given }))
    };
    after.clusters.iter().filter_map(item).collect()
}

/// Clusters in which a run of another checkout is live.
pub(super) fn contested(advanced: &Advanced) -> impl Iterator<Item = SecurityItem> + use<> {
    let contested = advanced.waits.values().flatten().filter_map(|wait| {
        let LinkWait::HandOver { cluster, lack: HandOverLack::OthersWrite { key }, .. } = wait else { return None };
        Some((cluster.clone(), key.clone()))
    });
    // links of it wait, too
    let contested: BTreeMap<_, _> = contested.collect();
    contested.into_iter().map(|(cluster, key)| SecurityItem::listed(SecurityChange::Contested { cluster, key }))
}
