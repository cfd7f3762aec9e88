//! Evidence of a peer as several relays were shown it, each with the key of its own cluster.
//!
//! A peer shows a cluster the entries about that cluster and no others. So an entry that one of them was shown is there, and one
//! that no one was shown is absent only if everyone whom it may concern has asked. What the peer says of itself counts as far as
//! all agree: a relay that makes something up opens nothing that another one's reading does not open.

use std::collections::BTreeSet;

use crate::types::name::ClusterName;
use crate::wire::metadata::{Evidence, Reported};

/// What all of them were shown together. `None`: the peer shows nothing, to one of them at least. `concerned` are our clusters that
/// are linked with the peer.
pub(super) fn of_all(
    shown: Vec<(&ClusterName, Option<Evidence>)>,
    concerned: &BTreeSet<ClusterName>,
) -> Option<Evidence> {
    let readers: BTreeSet<&ClusterName> = shown.iter().map(|(reader, _)| *reader).collect();
    let unread = concerned.iter().find(|cluster| !readers.contains(cluster));
    let mut all = shown.into_iter().map(|(_, evidence)| evidence);
    let first = all.next()??;
    let evidence = all.try_fold(first, |one, other| other.map(|other| together(one, other)))?;
    let Some(unread) = unread else { return Some(evidence) };
    let reason = format!("the relay of `{unread}` did not read it, and others are not shown what concerns `{unread}`");
    let unknown = || reason.clone();
    Some(Evidence {
        networks: Reported::Unknown(unknown()),
        reads: Reported::Unknown(unknown()),
        routes: Reported::Unknown(unknown()),
        credentials: Reported::Unknown(unknown()),
        ..evidence
    })
}

fn together(one: Evidence, other: Evidence) -> Evidence {
    Evidence {
        trusts: both(one.trusts, other.trusts, |one, other| one.intersection(&other).copied().collect()),
        networks: both(one.networks, other.networks, union),
        reads: both(one.reads, other.reads, union),
        routes: both(one.routes, other.routes, union),
        prepared: both(one.prepared, other.prepared, |one, other| one && other),
        relay_token: both(one.relay_token, other.relay_token, |one, other| one && other),
        credentials: both(one.credentials, other.credentials, union),
        mesh_config: if one.mesh_config == other.mesh_config {
            one.mesh_config
        } else {
            Reported::Unknown("relays read different things".to_owned())
        },
        serial: both(one.serial, other.serial, Ord::min),
        writer: one.writer.filter(|writer| Some(writer) == other.writer.as_ref()),
        // of this there is one reader, and others are shown nothing of it
        hand_over: one.hand_over.filter(|state| Some(state) == other.hand_over.as_ref()),
    }
}

/// What is unknown to one is unknown.
fn both<T>(one: Reported<T>, other: Reported<T>, with: impl FnOnce(T, T) -> T) -> Reported<T> {
    match (one, other) {
        (Reported::Seen(one), Reported::Seen(other)) => Reported::Seen(with(one, other)),
        (Reported::Unknown(reason), _) | (_, Reported::Unknown(reason)) => Reported::Unknown(reason),
    }
}

fn union<T: PartialEq>(mut one: Vec<T>, other: Vec<T>) -> Vec<T> {
    for entry in other {
        if !one.contains(&entry) {
            one.push(entry);
        }
    }
    one
}
