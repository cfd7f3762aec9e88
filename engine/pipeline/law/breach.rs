//! What breaks the law of safety, and how it is reported.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::model::link::Link;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, Digest};
use crate::types::step::{StepId, StepKind};

/// Something that a live link needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LiveNeed {
    /// The remote secret of a joined link.
    Secret,
    /// A joined link, for a remote secret.
    Link,
    /// The other direction of the link, by which the peer trusts and admits the reader.
    OtherDirection,
    /// The values with which the link was begun, in its secret.
    Values,
    /// The peer's entry in `isthmus-peers`.
    Entry,
    /// The right to act as the peer.
    Rights,
    /// A root CA of the peer, for its trust domain.
    Root(Digest),
    /// The alias for the peer's trust domain, on which policies may rest.
    Alias,
    /// The peer's network with its gateways.
    Network,
    /// The route to the peer.
    Route,
    /// The relay, the api-proxy and what belongs to them.
    Components,
    /// The marks by which an object stays in the cluster when it leaves the checkout; or the values of its Istio.
    Marks,
}

/// What a run would do to a link, or what a checkout does to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    pub link: Link,
    pub kind: BreachKind,
}

/// How the law is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreachKind {
    /// The files of the reader lack it.
    Lacks(LiveNeed),
    /// The link would open, and this run did not see it live.
    Unseen(Unseen, ClusterName),
    /// The link would give up what the reader may still use.
    StillUsed(Used),
    /// What the links of a cluster rest on would change under them.
    Changed(LockRecord, ClusterName),
}

/// What has to be seen before a link opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unseen {
    /// Evidence of the cluster.
    Evidence,
    /// The roots of the other end, trusted in the cluster.
    Trusts,
    /// The trust domain of the other end, accepted in the cluster.
    Domain,
    /// Which networks the standard mesh configuration has, which ours replace.
    StandardNetworks,
    Networks,
    /// The route to the peer, answered by it.
    Routes,
    /// istiod and its proxies, prepared.
    Prepared,
    /// The token of istiod that its secrets name.
    RelayToken,
    /// No standard mesh configuration that hides ours.
    MeshConfig,
    /// Where the peer is.
    Address,
    /// A Deckhouse that reads the other end before it is read.
    Reading,
}

/// What may still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Used {
    /// The secret, by istiod.
    Secret,
    /// The route, by the relay.
    Route,
}

/// A part of the lock on which links rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockRecord {
    Entry,
    Uuid,
    /// With what its links were begun.
    JoinedWith,
    Root(Digest),
    /// The number of its last move.
    Serial,
}

impl LiveNeed {
    fn what(self, Link { reader, peer }: &Link) -> String {
        match self {
            Self::Secret => format!("the remote secret for `{peer}`"),
            Self::Link => format!("a joined link to `{peer}` in the lock, for the remote secret that is there"),
            Self::OtherDirection => format!("the link of `{peer}` to `{reader}` in the lock"),
            Self::Values => format!("the cluster ID, server and CA recorded for `{peer}` in its remote secret"),
            Self::Entry => format!("the entry of `{peer}` in isthmus-peers"),
            Self::Rights => format!("the right to act as `{peer}` in the ClusterRole of the api-proxy"),
            Self::Root(digest) => format!("the root CA {digest} of `{peer}` for its trust domain"),
            Self::Alias => format!("the alias for the trust domain of `{peer}`"),
            Self::Network => format!("the network of `{peer}` with its gateways"),
            Self::Route => format!("the route to `{peer}` in isthmus-routes"),
            Self::Components => "the relay and the api-proxy that the links use".to_owned(),
            Self::Marks => {
                "the values of Istio, and the marks by which every object that leaves stays in the cluster".to_owned()
            }
        }
    }
}

impl Unseen {
    fn what(self, cluster: &ClusterName) -> String {
        match self {
            Self::Evidence => format!("evidence of `{cluster}`"),
            Self::Trusts => format!("that `{cluster}` trusts the root CAs of the other end"),
            Self::Domain => format!("that `{cluster}` accepts the trust domain of the other end"),
            Self::StandardNetworks => {
                format!("which networks the standard mesh configuration of `{cluster}` has, which ours replace")
            }
            Self::Networks => format!("the peer's network live in `{cluster}`"),
            Self::Routes => format!("the route to the peer answered in `{cluster}`"),
            Self::Prepared => format!("that istiod and the proxies of `{cluster}` are prepared"),
            Self::RelayToken => format!("that istiod of `{cluster}` has the token for which its relay asks"),
            Self::MeshConfig => format!("that no standard mesh configuration of `{cluster}` hides ours"),
            Self::Address => format!("where `{cluster}` is reached"),
            Self::Reading => format!("that `{cluster}`, which shows nothing of its trust, reads the other end"),
        }
    }
}

impl LockRecord {
    fn what(self, cluster: &ClusterName) -> String {
        match self {
            Self::Entry => format!("the lock entry of `{cluster}`"),
            Self::Uuid => format!("the UUID of `{cluster}`"),
            Self::JoinedWith => format!("what the links of `{cluster}` were begun with"),
            Self::Root(digest) => format!("the trust in root CA {digest} of `{cluster}`"),
            Self::Serial => format!("the serial of `{cluster}`"),
        }
    }
}

impl Breach {
    /// The step at which it is reported.
    pub fn step(&self) -> StepId {
        match &self.kind {
            BreachKind::Lacks(LiveNeed::Entry | LiveNeed::Rights) => {
                StepId::of(StepKind::ExchangeKeys, &self.link.reader)
            }
            BreachKind::Lacks(LiveNeed::Root(_) | LiveNeed::Alias) => {
                StepId::of(StepKind::RenderTrust, &self.link.reader)
            }
            BreachKind::Lacks(LiveNeed::Network) => StepId::of(StepKind::RenderNetworks, &self.link.reader),
            BreachKind::Lacks(LiveNeed::Route) => StepId::of(StepKind::RenderRoutes, &self.link.reader),
            BreachKind::Lacks(LiveNeed::Components | LiveNeed::Marks) => {
                StepId::of(StepKind::RenderComponents, &self.link.reader)
            }
            BreachKind::Lacks(LiveNeed::Secret | LiveNeed::Link | LiveNeed::OtherDirection | LiveNeed::Values)
            | BreachKind::Unseen(..)
            | BreachKind::StillUsed(_) => self.link.secret(),
            BreachKind::Changed(_, cluster) => StepId::of(StepKind::FetchCa, cluster),
        }
    }
}

impl Explain for Breach {
    /// Reads on after "refused:".
    fn explanation(&self) -> Explanation {
        let Link { reader, peer } = &self.link;
        let message = match &self.kind {
            BreachKind::Lacks(need) => {
                format!("`rendered/{reader}` and the lock: expected {}, found none", need.what(&self.link))
            }
            BreachKind::Unseen(unseen, cluster) => {
                format!(
                    "the link from `{reader}` to `{peer}` would open, and this run did not see {}",
                    unseen.what(cluster)
                )
            }
            BreachKind::StillUsed(Used::Secret) => format!(
                "the network and the route of `{peer}` would go from `{reader}`, whose istiod may still read `{peer}`"
            ),
            BreachKind::StillUsed(Used::Route) => {
                format!(
                    "the trust between `{reader}` and `{peer}` would go, and a relay may still have a route between them"
                )
            }
            BreachKind::Changed(record, cluster) => {
                format!("{} would change while links rest on it", record.what(cluster))
            }
        };
        Explanation::new(Code::Law, message)
            .hint("no run writes that; restore `rendered/` and `lock/` from the last commit that was applied, and report a bug if they were not edited")
    }
}
