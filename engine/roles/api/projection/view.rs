//! What of a cluster a peer sees, and how a client that continues after that has changed is told to list again.
//!
//! A client lists and then watches from the version that its list has. Between the two, or while its watch is cut off, what it
//! is shared may change: the watch would then tell it of what comes and goes, and never of what it has and is not to have, or
//! lacks. So each version that a peer is given carries a mark, made of what it sees. A watch that continues from a version with
//! another mark, or with none, ends at once with `410 Expired`, by whichever replica it is answered, and after a restart alike.
//!
//! Marks are digits, since clients may compare versions (KEP-5504), and so many that an apiserver takes none for a version of
//! its own: where a mark reaches it, through an api-proxy that knows none, it refuses it. Taken for a number, it would be a
//! time far away, and the watch would wait for it.

use crate::roles::api::request::{Query, Verb};
use crate::types::name::{Digest, Namespace, NetworkName};
use crate::wire::share::Share;

/// Digits of a mark. A version of an apiserver has at most 20.
const DIGITS: usize = 20;

/// When all Services of a peer count as created by their reader: istiod gives an address and a name that two have to the older
/// Service (`pilot/pkg/model/push_context.go`), and that is to be the reader's own.
pub(super) const LAST_CREATED: &str = "9999-01-01T00:00:00Z";

/// What of a cluster a peer sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub share: Share,
    /// Namespace of the peer's istiod, of which it sees the name in any case.
    pub system: Namespace,
    /// The cluster's own network; while it is not known, no `WorkloadEntry` is shown.
    pub network: Option<NetworkName>,
}

/// What is put behind a version, made of what a peer sees of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// The mark of these texts.
    pub(super) fn of(texts: &impl serde::Serialize) -> Self {
        let bytes = serde_json::to_vec(texts).unwrap_or_default();
        let number = Digest::of(&bytes).bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        // nine at its head, so that a version with it has more digits than a number of 64 bits
        Self(format!("9{:019}", number % 10_u64.pow(19)))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A version as the apiserver gave it, and the mark behind it.
fn unmarked(version: &str) -> (&str, Option<&str>) {
    let at = version.len().checked_sub(DIGITS).filter(|at| *at > 0);
    let parts = at.and_then(|at| version.split_at_checked(at));
    parts.filter(|(_, mark)| mark.starts_with('9')).map_or((version, None), |(version, mark)| (version, Some(mark)))
}

/// What is forwarded to the apiserver of a query about what has this mark; `None` where the client has to list again.
pub(super) fn resumed(query: &Query, verb: Verb, mark: Option<&Mark>) -> Option<Query> {
    // a page that continues, which an api-proxy that knew no marks began
    if query.continue_token.as_ref().is_some_and(|token| !token.is_empty()) {
        return None;
    }
    let mut query = Query { limit: None, continue_token: None, ..query.clone() };
    let (Some(mark), Some(version)) = (mark, query.resource_version.clone()) else { return Some(query) };
    let (plain, found) = unmarked(&version);
    let is_list = verb != Verb::Watch || query.send_initial_events == Some(true) || matches!(plain, "" | "0");
    query.resource_version = Some(plain.to_owned());
    (is_list || found == Some(mark.as_str())).then_some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_continues_only_from_what_is_still_seen() {
        let (mark, other) = (Mark::of(&"one"), Mark::of(&"other"));
        assert_eq!((mark.0.len(), mark == other), (DIGITS, false));
        let marked = |mark: &Mark| format!("7{}", mark.as_str());
        assert!(marked(&mark).parse::<u64>().is_err());
        let asked = |version: &str, initial: bool| Query {
            resource_version: Some(version.to_owned()),
            send_initial_events: initial.then_some(true),
            limit: Some(500),
            ..Query::default()
        };
        let version =
            |query: Query, verb| resumed(&query, verb, Some(&mark)).map(|query| query.resource_version.unwrap());
        let (seven, all) = (Some("7".to_owned()), [marked(&mark), marked(&other), "7".to_owned()]);
        assert_eq!(version(asked(&all[0], false), Verb::Watch), seven);
        assert_eq!(version(asked(&all[1], false), Verb::Watch), None);
        assert_eq!(version(asked(&all[2], false), Verb::Watch), None);
        for any in &all {
            assert_eq!(version(asked(any, true), Verb::Watch), seven);
            assert_eq!(version(asked(any, false), Verb::List), seven);
            assert_eq!(version(asked(any, false), Verb::Get), seven);
        }
        for begin in ["", "0"] {
            assert_eq!(version(asked(begin, false), Verb::Watch).as_deref(), Some(begin));
        }
        let plain = resumed(&asked("7", false), Verb::Watch, None).unwrap();
        assert_eq!((plain.resource_version, plain.limit), (seven, None));
        let page = Query { continue_token: Some("abc".to_owned()), ..Query::default() };
        assert_eq!(resumed(&page, Verb::List, None), None);
    }
}
