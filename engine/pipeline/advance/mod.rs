//! Advancing links: how far each link may go in this run, by what the clusters show to be live.
//!
//! A secret sends live traffic the moment istiod reads it. So the move from joining to joined waits until both roots, the
//! peer's network, the route and the peer's admission are seen live, and leaving goes the same way back, one stage a run.
//! The stage is pure: it sees the mesh, the lock and the news of [`accept`](mod@crate::pipeline::accept), and never asks anybody.

mod gate;
pub(crate) mod gone;
mod guard;
mod join;
mod leave;
mod links;
mod reasons;

use self::links::Links;
use crate::model::mesh::{Mesh, State};
use crate::pipeline::accept::{Accepted, News};

pub use self::links::{Advanced, Move};
pub use self::reasons::{AdvanceRefusal, LinkWait, Unproven, Withdrawn};

/// Moves every link at most one stage. `allow_delete` lifts the deletion guard.
pub fn advance(mesh: &Mesh, accepted: &Accepted, allow_delete: bool) -> Advanced {
    let paused = mesh.clusters.values().filter(|cluster| cluster.state == State::Paused).map(|cluster| &cluster.name);
    let news =
        |is_so: fn(&News) -> bool| accepted.news.iter().filter(move |(_, news)| is_so(news)).map(|(name, _)| name);
    let mut links = Links {
        mesh,
        accepted,
        allow_delete,
        still: paused.chain(news(News::is_held_back)).collect(),
        rebuilt: news(|news| news.rebuilt).collect(),
        advanced: Advanced { lock: accepted.lock.clone(), ..Advanced::default() },
    };
    links.join();
    links.leave();
    links.guard();
    links.advanced
}
