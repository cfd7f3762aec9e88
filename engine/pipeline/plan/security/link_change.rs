//! Links that open or close, and what that means.

#![deny(clippy::wildcard_enum_match_arm)]

use crate::model::link::Link;
use crate::pipeline::plan::action::Action;
use crate::pipeline::plan::security::names::{link_text, named};
use crate::pipeline::recorded::RestoredFrom;
use crate::types::explanation::Code;
use crate::types::name::ClusterName;

/// Links that open or close for one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkChange {
    /// What becomes of them.
    pub effect: LinkEffect,
    pub cause: LinkCause,
    /// Which, in order.
    pub links: Vec<Link>,
    /// Ends of them whose spec says that no evidence is waited for.
    pub blind: Vec<ClusterName>,
    /// They are more than the deletion guard lets pass.
    pub is_guarded: bool,
}

/// What becomes of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkEffect {
    /// The lock lost them and takes them as joined.
    Restores,
    /// The lock lost them and takes them as leaving.
    RestoresToLeave,
    /// They are wanted from the merge on.
    Opens,
    /// They are wanted no more from the merge on.
    Closes,
    /// They leave after the merge and join anew.
    Reopens,
    /// This run writes what they need.
    Begins,
    /// This run writes their remote secrets.
    Joins,
    /// This run takes their remote secrets away.
    Leaves,
    /// This run takes networks and routes away.
    DropsNetwork,
    /// This run takes trust away.
    DropsTrust,
}

/// Why links open or close.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkCause {
    /// A cluster is `state: leaving`.
    Leaving(ClusterName),
    /// A cluster is `state: lost`.
    Lost(ClusterName),
    Rebuilt(ClusterName),
    /// What its links rest on is edited.
    Edited {
        cluster: ClusterName,
        edits: String,
    },
    New(ClusterName),
    /// A cluster takes part again.
    Active(ClusterName),
    /// Another team, or another cluster's agent, gives the link up.
    PeerLeaves(ClusterName),
    /// `topology` or `pairs`.
    Topology,
    /// The specs, as before.
    Specs,
    /// Where links were found that the lock lost.
    Found(RestoredFrom),
}

impl LinkEffect {
    pub(super) fn action(self) -> Action {
        match self {
            Self::Restores | Self::RestoresToLeave | Self::Opens | Self::Begins | Self::Joins => Action::Create,
            Self::Closes | Self::Leaves | Self::DropsNetwork | Self::DropsTrust => Action::Delete,
            Self::Reopens => Action::Update,
        }
    }

    pub(super) fn code(self) -> Code {
        match self {
            Self::Restores | Self::RestoresToLeave => Code::LinksRestored,
            Self::Opens | Self::Begins | Self::Joins => Code::LinksOpen,
            Self::Closes | Self::Leaves | Self::DropsNetwork | Self::DropsTrust => Code::LinksClose,
            Self::Reopens => Code::LinksReopen,
        }
    }

    /// So many links and what becomes of them: `2 links close`.
    pub(crate) fn phrase(self, count: usize) -> String {
        let [one, many] = match self {
            Self::Restores => ["is restored as joined", "are restored as joined"],
            Self::RestoresToLeave => ["is restored as leaving", "are restored as leaving"],
            Self::Opens => ["opens", "open"],
            Self::Closes => ["closes", "close"],
            Self::Reopens => ["leaves and joins anew", "leave and join anew"],
            Self::Begins => ["begins", "begin"],
            Self::Joins => ["opens now", "open now"],
            Self::Leaves => ["closes now", "close now"],
            Self::DropsNetwork => ["loses network and route", "lose network and route"],
            Self::DropsTrust => ["ends", "end"],
        };
        if count == 1 { format!("1 link {one}") } else { format!("{count} links {many}") }
    }
}

impl LinkCause {
    fn text(&self) -> Option<String> {
        Some(match self {
            Self::Leaving(cluster) => format!("`{cluster}` is `state: leaving`"),
            Self::Lost(cluster) => format!("`{cluster}` is `state: lost`"),
            Self::Rebuilt(cluster) => format!("`{cluster}` was rebuilt"),
            Self::Edited { cluster, edits } => format!("`{cluster}` changes {edits}"),
            Self::New(cluster) => format!("`{cluster}` is new"),
            Self::Active(cluster) => format!("`{cluster}` is `state: active` again"),
            Self::PeerLeaves(cluster) => format!("`{cluster}` gives its own links up"),
            Self::Topology => "`topology` and `pairs` ask for it".to_owned(),
            Self::Specs => return None,
            Self::Found(RestoredFrom::Secret) => "the remote secret is in the tree".to_owned(),
            Self::Found(RestoredFrom::Reads) => "istiod of the reader shows that it reads the peer".to_owned(),
            Self::Found(RestoredFrom::Peers) => "the tree admits the peer and has no remote secret for it".to_owned(),
            Self::Found(RestoredFrom::OtherDirection) => "the other direction is live and rests on it".to_owned(),
        })
    }
}

impl LinkChange {
    pub(super) fn subject(&self) -> String {
        self.effect.phrase(self.links.len())
    }

    pub(super) fn message(&self) -> String {
        let mut text = named(self.links.iter().map(link_text));
        if let Some(cause) = self.cause.text() {
            text = format!("{cause}: {text}");
        }
        let is_lost = matches!(self.cause, LinkCause::Lost(_));
        let when = match self.effect {
            LinkEffect::Restores => {
                "neither lock nor git says how it was proven, so it counts as unproven; all that it needs is written, and its remote secret with it; compare with the history of `lock/links/` first"
            }
            LinkEffect::RestoresToLeave => {
                "it may still be read, so all that it needs stays until evidence shows that it is not; where the specs want it, it opens again by evidence"
            }
            LinkEffect::Closes if is_lost => {
                "each run takes one stage away and waits for no evidence: the remote secret, and traffic with it, then network and route, then root CAs and keys"
            }
            LinkEffect::Opens => {
                "root CAs, networks and routes come first; the remote secret, which sends live traffic, when both clusters show that these are live"
            }
            LinkEffect::Closes => {
                "the next run takes the remote secret away, and traffic with it; network and route follow when the reader is seen to read it no more, then root CAs and keys"
            }
            LinkEffect::Reopens => {
                "the next run takes the remote secret away, so they carry no traffic until all that they need is live again"
            }
            LinkEffect::Begins => {
                "this run writes root CAs, networks and routes; the remote secret, which sends live traffic, waits until evidence shows that all of them are live"
            }
            LinkEffect::Joins => "this run writes the remote secret, which sends live traffic",
            LinkEffect::Leaves => "this run takes the remote secret away, and traffic with it",
            LinkEffect::DropsNetwork => "this run takes network and route away; the remote secret is gone",
            LinkEffect::DropsTrust => "this run removes the root CAs, the last that is left of these links",
        };
        text.push_str(&format!("; {when}"));
        if !self.blind.is_empty() && !is_lost {
            let blind = named(self.blind.iter());
            text.push_str(&match self.effect {
                LinkEffect::Opens | LinkEffect::Begins => {
                    format!("; the specs have nothing wait for evidence of {blind}")
                }
                LinkEffect::Closes | LinkEffect::Reopens | LinkEffect::Leaves | LinkEffect::DropsNetwork => {
                    format!("; the specs expect no evidence of {blind}, so each stage lasts for `settle`")
                }
                LinkEffect::Joins => format!("; unproven, since the specs expect no evidence of {blind}"),
                LinkEffect::DropsTrust | LinkEffect::Restores | LinkEffect::RestoresToLeave => String::new(),
            });
        }
        if self.is_guarded {
            text.push_str("; that is more than one run may close, so it is refused without `--allow-delete`");
        }
        text
    }
}
