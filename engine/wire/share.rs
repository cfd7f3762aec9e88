//! Which namespaces of a cluster a peer sees: part of an entry of `peers.json`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::types::name::{InvalidName, NamespacePattern};

/// The namespace that no peer sees unless a spec shares it.
const KUBE_SYSTEM: &str = "kube-system";
const ALL: &str = "*";

/// Which namespaces a peer sees, by their names alone. A field that is not known here would narrow it, so it is an error.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Those that one of these means,
    pub namespaces: BTreeSet<NamespacePattern>,
    /// unless one of these does.
    #[serde(default)]
    pub except: BTreeSet<NamespacePattern>,
}

impl Share {
    /// All namespaces, also that of the control plane.
    pub fn everything() -> Self {
        Self { namespaces: patterns([ALL]), except: BTreeSet::new() }
    }

    /// What is shared where no one says otherwise: all namespaces but `kube-system`.
    pub fn usual() -> Self {
        Self { namespaces: patterns([ALL]), except: patterns([KUBE_SYSTEM]) }
    }

    /// What an entry without this field means: names, or `*`.
    pub(super) fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { namespaces: patterns(names), except: BTreeSet::new() }
    }

    /// Whether a namespace of this name is shared.
    pub fn shows(&self, namespace: &str) -> bool {
        let is_meant = |patterns: &BTreeSet<NamespacePattern>| patterns.iter().any(|one| one.matches(namespace));
        is_meant(&self.namespaces) && !is_meant(&self.except)
    }

    /// Whether there is no namespace that is not shared.
    pub fn is_everything(&self) -> bool {
        self.except.is_empty() && self.namespaces.iter().any(|pattern| pattern.as_str() == ALL)
    }

    /// The same for an api-proxy that knows names and `*` alone: never more, but for the usual share, of which it shows
    /// `kube-system` as well, as it did before there was another.
    pub fn names(&self) -> Vec<String> {
        let has_all = self.namespaces.iter().any(|pattern| pattern.as_str() == ALL);
        if has_all && self.except.iter().all(|pattern| pattern.as_str() == KUBE_SYSTEM) {
            return vec![ALL.to_owned()];
        }
        let names = self.namespaces.iter().filter(|pattern| pattern.is_plain() && self.shows(pattern.as_str()));
        names.map(ToString::to_string).collect()
    }

    /// Whether this may show a namespace that the other does not. Patterns are compared, so it may be said of two that
    /// show the same and are written otherwise.
    pub fn may_show_more_than(&self, other: &Self) -> bool {
        let is_covered = |pattern: &NamespacePattern| other.namespaces.iter().any(|known| known.covers(pattern));
        let is_kept_out = |pattern: &NamespacePattern| self.except.iter().any(|known| known.covers(pattern));
        let shows_of = |kept_out: &NamespacePattern| self.namespaces.iter().any(|shown| shown.overlaps(kept_out));
        !self.namespaces.iter().all(|pattern| is_covered(pattern) || is_kept_out(pattern))
            || !other.except.iter().all(|pattern| is_kept_out(pattern) || !shows_of(pattern))
    }
}

fn patterns<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<NamespacePattern> {
    texts.into_iter().filter_map(|text| text.parse().map_err(drop::<InvalidName>).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(namespaces: &[&str], except: &[&str]) -> Share {
        Share { namespaces: patterns(namespaces.iter().copied()), except: patterns(except.iter().copied()) }
    }

    #[test]
    fn a_namespace_is_shared_by_its_name() {
        for (namespaces, except, namespace, wanted) in [
            (&["*"][..], &[][..], "shop", true),
            (&["*"], &["kube-system"], "kube-system", false),
            (&["*"], &["kube-*"], "kube-public", false),
            (&["*"], &["kube-*"], "kube", true),
            (&["shop"], &[], "shop", true),
            (&["shop"], &[], "shop-a", false),
            (&["shop*"], &[], "shop", true),
            (&["shop-*"], &[], "shop", false),
            (&["*-shop"], &[], "a-shop", true),
            (&["*-shop"], &[], "a-shop-b", false),
            (&["a*b*c"], &[], "abcbc", true),
            (&["a*b*c"], &[], "acb", false),
            (&["a*a"], &[], "a", false),
            (&["*a*"], &[], "a", true),
            (&["shop", "cart"], &["c*"], "cart", false),
            (&[], &[], "shop", false),
            (&["*"], &["*"], "shop", false),
        ] {
            assert_eq!(
                share(namespaces, except).shows(namespace),
                wanted,
                "{namespaces:?} but {except:?}: {namespace}"
            );
        }
        for text in ["", "-a", "a-", "a**", "Shop", "a.b", "shop/a", "a?", "a b", "é", &"a".repeat(64)] {
            assert!(text.parse::<NamespacePattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_older_api_proxy_shows_no_more() {
        for (namespaces, except, wanted) in [
            (&["*"][..], &["kube-system"][..], &["*"][..]),
            (&["*", "shop"], &[], &["*"]),
            (&["*"], &["kube-system", "vault"], &[]),
            (&["*"], &["kube-*"], &[]),
            (&["shop", "cart", "pay-*"], &["cart"], &["shop"]),
        ] {
            assert_eq!(share(namespaces, except).names(), wanted);
        }
    }

    #[test]
    fn what_an_edit_opens_is_never_missed() {
        let usual = Share::usual();
        for (before, after, opens, closes) in [
            (usual.clone(), share(&["shop"], &["kube-system"]), false, true),
            (usual.clone(), share(&["shop"], &[]), false, true),
            (usual.clone(), Share::everything(), true, false),
            (share(&["shop-*"], &[]), share(&["shop-a"], &[]), false, true),
            (share(&["shop"], &[]), share(&["cart"], &[]), true, true),
            (usual.clone(), usual, false, false),
        ] {
            let found = (after.may_show_more_than(&before), before.may_show_more_than(&after));
            assert_eq!(found, (opens, closes), "{before:?} to {after:?}");
        }
    }

    fn some() -> impl Strategy<Value = Share> {
        let patterns =
            || proptest::collection::btree_set("[ab*]{1,3}".prop_filter_map("`**`", |text| text.parse().ok()), 0..3);
        (patterns(), patterns()).prop_map(|(namespaces, except)| Share { namespaces, except })
    }

    /// The same as a pattern says, found by trying all ways.
    fn is_like(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skipped| is_like(rest, &text[skipped..])),
            Some((byte, rest)) => text.first() == Some(byte) && is_like(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_are_as_they_are_read(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            let Ok(known) = pattern.parse::<NamespacePattern>() else { return Ok(()) };
            prop_assert_eq!(known.matches(&text), is_like(pattern.as_bytes(), text.as_bytes()));
            let other: NamespacePattern = text.parse().unwrap_or_else(|_| known.clone());
            prop_assert_eq!(known.matches(other.as_str()), known.overlaps(&other));
            prop_assert_eq!(known.overlaps(&other), other.overlaps(&known));
        }

        #[test]
        fn a_share_that_shows_no_more_shows_no_more(one in some(), other in some(), namespaces in proptest::collection::vec("[ab]{1,4}", 1..20)) {
            let shows_more = namespaces.iter().any(|name| one.shows(name) && !other.shows(name));
            prop_assert!(!shows_more || one.may_show_more_than(&other));
            let names = one.names();
            let older = namespaces.iter().all(|name| one.shows(name) || !names.iter().any(|known| known == "*" || known == name));
            prop_assert!(older);
        }
    }
}
