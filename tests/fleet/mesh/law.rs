//! The laws that are watched over, what a link needs, and what excuses a lack.

use std::fmt;

/// What a link needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkNeed {
    RootsOfPeer,
    RootsOfReader,
    DomainOfPeer,
    DomainOfReader,
    Network,
    CrossNetwork,
    Route,
    RelayCa,
    Admission,
    OneId,
}

pub(super) const ALL_NEEDS: [LinkNeed; 10] = [
    LinkNeed::RootsOfPeer,
    LinkNeed::RootsOfReader,
    LinkNeed::DomainOfPeer,
    LinkNeed::DomainOfReader,
    LinkNeed::Network,
    LinkNeed::CrossNetwork,
    LinkNeed::Route,
    LinkNeed::RelayCa,
    LinkNeed::Admission,
    LinkNeed::OneId,
];

/// Something that a link lacks, and which value of it.
pub(crate) type MissingNeed = (LinkNeed, String);

/// Why a lack is no one's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Something happened inside a cluster.
    Event,
    /// Something happened inside a cluster, or a hand took it, while the secret of a joined link was lost: a locked run restores it and
    /// asks no one.
    Unseen,
    /// Someone changed the tree by hand, or took it back to an older commit.
    Hand,
    /// A spec states what is not so.
    Stated,
    /// A cluster publishes what is not so.
    Lies,
    /// A spec vouches for what cannot be seen.
    Vouched,
    /// A spec says that the cluster is gone for good.
    Lost,
    /// Another tool deploys it, which is not simulated.
    Deployed,
    /// It was made anew, and its folder brings the secrets of the one before.
    Rebuilt,
    /// An untrue identity was accepted.
    Accepted,
}

impl Why {
    /// Whether it excuses a lack of a link by which a law would be broken. `held` says whether the tree had its secret.
    pub(super) fn excuses(self, law: Law, held: bool) -> bool {
        let opens = matches!(law, Law::Opening | Law::LockedOpening | Law::LiveOpening);
        match self {
            Self::Event | Self::Hand | Self::Stated | Self::Lies | Self::Accepted => true,
            Self::Unseen => matches!(law, Law::LockedOpening | Law::LiveOpening),
            // no one sees when it opens, and time says when it is closed; a secret in the tree is in use
            Self::Vouched | Self::Deployed => opens || (!held && law != Law::LiveTaking),
            // it was declared to be closed
            Self::Lost => opens || !held,
            // what a run opens is for the new one
            Self::Rebuilt => law == Law::LiveOpening || (!opens && !held),
        }
    }
}

/// Reader and peer.
pub(crate) type ReaderAndPeer = (&'static str, &'static str);

/// Which law is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Law {
    /// A run put a secret into the tree without what it needs.
    Opening,
    /// The same of a run that asked no cluster.
    LockedOpening,
    /// A secret went live without what it needs.
    LiveOpening,
    /// A run takes away what a live secret needs.
    Closing,
    /// A sync took away what a live secret needs.
    LiveClosing,
    /// A sync took something away in a cluster that another checkout has.
    LiveTaking,
    /// A run takes a secret away and its plan does not show it.
    SilentCut,
    /// A secret went away and no plan showed it.
    LiveSilentCut,
    /// Policies take identities of a trust domain for the own ones and no spec states it, or no more although no spec took it back.
    Merged,
    /// The checker found something that a stage before it should have seen.
    Withheld,
    /// What a cluster is trusted with changed, and the plan does not list it as a trust change.
    Unlisted,
    /// Files of a cluster in whose folder a file of someone else is were written.
    Halved,
    /// A file of the lock that was written cannot be read, or says something else.
    Unread,
    /// A run wrote files for a cluster that another checkout has and does not leave.
    TwoWriters,
    /// Networks of a cluster's own configuration are replaced by ours.
    Replaced,
    /// It does not come to rest.
    Unrest,
    /// It comes to rest, and is not what the specs say.
    Wrong,
}

/// A broken law.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) law: Law,
    pub(crate) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.what)
    }
}

pub(super) fn broken<T>(law: Law, what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { law, what: what.into() })
}

pub(super) fn short(lacks: &[MissingNeed]) -> String {
    let one = |(need, value): &MissingNeed| {
        let tail: String = value.chars().rev().skip(27).take(12).collect::<Vec<_>>().into_iter().rev().collect();
        let value = if value.len() > 60 { tail } else { value.clone() };
        format!("{need:?} {value}")
    };
    lacks.iter().map(one).collect::<Vec<_>>().join(", ")
}
