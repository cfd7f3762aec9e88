//! What needs what: the one table of the steps and of what has to be there before each of them.
//!
//! The graph of steps takes its arrows from here, the gate of a remote secret its conditions, the objects their sync waves,
//! and Flux its parts. So an order that one of them keeps cannot be missing in another.

use std::fmt;

use crate::model::mesh::{Cluster, Reconciler};
use crate::types::step::StepKind;

/// One kind of step, with all that is said of it.
#[derive(Debug, Clone, Copy)]
pub struct NeedRow {
    /// Where there is such a step.
    pub place: StepPlace,
    /// When its objects are synced.
    pub wave: Wave,
    /// What has to be there before it, in the order in which people read of what is missing.
    pub needs: &'static [Need],
}

/// Something that a step needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The step that brings it about, or that shows it.
    pub step: StepKind,
    /// The cluster of that step.
    pub of: NeedScope,
    /// What has to be seen, for the steps of a link. The others begin by themselves with what is in the lock.
    pub condition: Option<Condition>,
    /// Whether the graph has an arrow for it. It has none where other arrows lead there anyway: a mesh of a thousand clusters
    /// has a million secrets.
    pub drawn: bool,
}

/// Whose step is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NeedScope {
    /// The cluster's own; of a link, its reader's.
    Own,
    /// The peer's, for the steps of a link.
    Peer,
    /// Those of all peers of the cluster.
    EachPeer,
}

/// In which clusters there is a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepPlace {
    /// In all, also in those that are no longer declared and have links to lose.
    Everywhere,
    /// Where components are deployed.
    WithComponents,
    /// Where the cluster is told who its peers are: not where another team does it.
    Ours,
    /// Where every object is rendered.
    Rendered,
}

impl StepPlace {
    /// Whether the cluster has such a step; `None`: it is not declared.
    pub fn holds(self, cluster: Option<&Cluster>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::WithComponents => cluster.is_some_and(|cluster| cluster.is_ours() && cluster.components.is_some()),
            Self::Ours => cluster.is_some_and(Cluster::is_ours),
            Self::Rendered => cluster.is_some_and(|cluster| cluster.reconciler == Reconciler::Rendered),
        }
    }
}

/// Objects that are synced together: Argo CD's sync waves, and the parts that Flux applies one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wave {
    /// What publishes and reads documents.
    Components,
    /// Roots, keys and rights of peers.
    Trust,
    Networks,
    /// What sends live traffic.
    Secrets,
    /// That all of a cluster may be taken by another checkout.
    Offer,
}

impl Wave {
    /// All waves, in order.
    pub const ALL: [Self; 5] = [Self::Components, Self::Trust, Self::Networks, Self::Secrets, Self::Offer];

    /// Its number in Argo CD's annotation.
    pub fn number(self) -> u8 {
        match self {
            Self::Components => 0,
            Self::Trust => 1,
            Self::Networks => 2,
            Self::Secrets => 3,
            Self::Offer => 4,
        }
    }

    /// Its name in Flux's Kustomizations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Components => "components",
            Self::Trust => "trust",
            Self::Networks => "networks",
            Self::Secrets => "secrets",
            Self::Offer => "offer",
        }
    }
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What has to be seen before a remote secret may send live traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The reader's private document is known.
    ReaderDocument,
    /// The peer's private document is known: without it no one knows what to look for in the reader.
    PeerDocument,
    /// The reader's relay published the CA by which istiod verifies it.
    RelayCa,
    /// The reader showed what is live in it, or its specs say that it shows nothing.
    ReaderEvidence,
    /// The reader trusts the peer's roots.
    PeerRootsInReader,
    /// The reader accepts identities of the peer's trust domain.
    PeerDomainInReader,
    /// Which networks the reader's standard configuration has, which ours replace, is known, or they were replaced long ago.
    StandardNetworks,
    /// The reader knows the peer's network, with its gateways.
    PeerNetwork,
    /// The reader's relay has the route to the peer.
    Route,
    /// The peer answers what comes over the route.
    Admission,
    /// istiod and proxies of the reader are prepared.
    ReaderPrepared,
    /// istiod of the reader has the token that its secrets name, where its relay asks for one.
    RelayToken,
    /// The peer showed what is live in it, or its specs say that it shows nothing.
    PeerEvidence,
    /// The peer trusts the reader's roots: trust on one side alone is a 503.
    ReaderRootsInPeer,
    /// The peer accepts identities of the reader's trust domain: it is the peer's proxies that the reader's clients ask.
    ReaderDomainInPeer,
    /// istiod and proxies of the peer are prepared.
    PeerPrepared,
    /// No standard mesh configuration of the reader hides the roots that are written for it.
    RootsNotHidden,
    /// A peer that is a Deckhouse, which shows nothing, reads the reader: it takes the reader's roots and its remote secret for it in
    /// one go.
    PeerReads,
}

impl NeedRow {
    /// The row of a kind.
    pub const fn of(kind: StepKind) -> Self {
        use NeedScope::{EachPeer, Own};
        use StepKind::{DiscoverProxy, ExchangeKeys, FetchCa, RenderComponents};
        match kind {
            RenderComponents => Self { place: StepPlace::WithComponents, wave: Wave::Components, needs: &[] },
            FetchCa => Self {
                place: StepPlace::Everywhere,
                wave: Wave::Components,
                needs: const { &[begins_with(RenderComponents, Own)] },
            },
            ExchangeKeys => {
                Self { place: StepPlace::Ours, wave: Wave::Trust, needs: const { &[begins_with(FetchCa, EachPeer)] } }
            }
            DiscoverProxy => Self {
                place: StepPlace::Everywhere,
                wave: Wave::Trust,
                needs: const { &[begins_with(FetchCa, Own), begins_with(ExchangeKeys, Own)] },
            },
            StepKind::RenderTrust => Self {
                place: StepPlace::Rendered,
                wave: Wave::Trust,
                needs: const { &[begins_with(FetchCa, EachPeer)] },
            },
            StepKind::RenderNetworks | StepKind::RenderRoutes => Self {
                place: StepPlace::Rendered,
                wave: Wave::Networks,
                needs: const { &[begins_with(DiscoverProxy, EachPeer)] },
            },
            StepKind::RenderSecret => Self { place: StepPlace::Rendered, wave: Wave::Secrets, needs: SECRET },
        }
    }

    /// The steps that the graph draws before one of this kind, each once.
    pub fn drawn(self) -> Vec<(StepKind, NeedScope)> {
        let mut drawn: Vec<_> = self.needs.iter().filter(|need| need.drawn).map(|need| (need.step, need.of)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }

    /// What has to be seen before a step of this kind.
    pub fn conditions(self) -> impl Iterator<Item = Condition> {
        self.needs.iter().filter_map(|need| need.condition)
    }
}

/// What a live secret needs. Whatever is added here has to be judged by the gate.
const SECRET: &[Need] = {
    use NeedScope::{Own, Peer};
    use StepKind::{DiscoverProxy, ExchangeKeys, FetchCa, RenderNetworks, RenderRoutes, RenderTrust};
    &[
        sees(Condition::ReaderDocument, DiscoverProxy, Own),
        sees_beyond(Condition::PeerDocument, DiscoverProxy, Peer),
        sees_beyond(Condition::RelayCa, FetchCa, Own),
        sees(Condition::ReaderEvidence, DiscoverProxy, Own),
        sees(Condition::PeerRootsInReader, RenderTrust, Own),
        sees(Condition::PeerDomainInReader, RenderTrust, Own),
        sees(Condition::StandardNetworks, RenderNetworks, Own),
        sees(Condition::PeerNetwork, RenderNetworks, Own),
        sees(Condition::Route, RenderRoutes, Own),
        sees(Condition::Admission, ExchangeKeys, Peer),
        sees(Condition::ReaderPrepared, DiscoverProxy, Own),
        sees(Condition::RelayToken, DiscoverProxy, Own),
        sees_beyond(Condition::PeerEvidence, DiscoverProxy, Peer),
        sees(Condition::ReaderRootsInPeer, RenderTrust, Peer),
        sees(Condition::ReaderDomainInPeer, RenderTrust, Peer),
        sees_beyond(Condition::PeerPrepared, DiscoverProxy, Peer),
        sees(Condition::RootsNotHidden, DiscoverProxy, Own),
        sees(Condition::PeerReads, ExchangeKeys, Peer),
    ]
};

/// A step that begins with what another one gave.
const fn begins_with(step: StepKind, of: NeedScope) -> Need {
    Need { step, of, condition: None, drawn: true }
}

/// A step that waits until something is seen.
const fn sees(condition: Condition, step: StepKind, of: NeedScope) -> Need {
    Need { step, of, condition: Some(condition), drawn: true }
}

/// The same, of a step to which other arrows lead.
const fn sees_beyond(condition: Condition, step: StepKind, of: NeedScope) -> Need {
    Need { step, of, condition: Some(condition), drawn: false }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What only reads has no objects, so it needs no wave of its own.
    fn only_reads(kind: StepKind) -> bool {
        matches!(kind, StepKind::FetchCa | StepKind::DiscoverProxy)
    }

    #[test]
    fn a_wave_comes_after_the_waves_of_all_that_is_needed() {
        for kind in StepKind::ALL {
            let row = NeedRow::of(kind);
            let needed = row.needs.iter().map(|need| NeedRow::of(need.step).wave.number()).max();
            let wave = match needed {
                Some(needed) if !only_reads(kind) => needed + 1,
                needed => needed.unwrap_or_default(),
            };
            assert_eq!(row.wave.number(), wave, "{kind}");
        }
    }

    #[test]
    fn the_waves_are_numbered_in_their_order() {
        for (number, wave) in Wave::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(wave.number()), number, "{wave}");
            let is_of_a_step = StepKind::ALL.into_iter().any(|kind| NeedRow::of(kind).wave == wave);
            assert!(is_of_a_step || wave == Wave::Offer, "nothing is in wave {wave}");
        }
    }

    #[test]
    fn steps_of_a_cluster_are_listed_after_what_they_need_of_it() {
        for kind in StepKind::ALL {
            assert!(NeedRow::of(kind).needs.iter().all(|need| need.of != NeedScope::Own || need.step < kind), "{kind}");
        }
    }

    #[test]
    fn a_secret_waits_for_nothing_unseen_and_for_nothing_twice() {
        for kind in StepKind::ALL {
            let row = NeedRow::of(kind);
            let is_of_a_link = kind == StepKind::RenderSecret;
            let seen: BTreeSet<Condition> = row.conditions().collect();
            assert_eq!(seen.len(), if is_of_a_link { row.needs.len() } else { 0 }, "{kind}");
            assert!(row.needs.iter().all(|need| is_of_a_link || need.of != NeedScope::Peer), "{kind} has no peer");
        }
    }

    /// All steps before one, by the arrows that are drawn; `true` stands for the reader of a link, `false` for its peer.
    fn before(kind: StepKind, is_reader: bool, found: &mut BTreeSet<(StepKind, bool)>) {
        for (step, of) in NeedRow::of(kind).drawn() {
            let side = if of == NeedScope::Own { is_reader } else { !is_reader };
            if found.insert((step, side)) {
                before(step, side, found);
            }
        }
    }

    #[test]
    fn what_is_not_drawn_is_reached_by_other_arrows() {
        for kind in StepKind::ALL {
            let mut found = BTreeSet::new();
            before(kind, true, &mut found);
            assert!(!found.contains(&(kind, true)), "{kind} needs itself");
            for need in NeedRow::of(kind).needs {
                assert!(found.contains(&(need.step, need.of == NeedScope::Own)), "{kind}: {need:?}");
            }
        }
    }
}
