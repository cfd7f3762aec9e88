//! Namespaces that a cluster shares otherwise, and what that means.

use std::collections::BTreeSet;

use crate::model::link::Link;
use crate::pipeline::plan::action::Action;
use crate::pipeline::plan::security::names::named;
use crate::types::explanation::{Code, Explanation};
use crate::types::name::{ClusterName, NamespacePattern};
use crate::wire::share::Share;

/// Namespaces that clusters share otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareChange {
    /// Whose; at least one.
    pub clusters: Vec<ClusterName>,
    /// Links by which they are read; none: no one reads the cluster yet.
    pub links: Vec<Link>,
    pub before: Share,
    pub after: Share,
    /// No spec was edited for it: the version that wrote the entries had no `share`.
    pub by_upgrade: bool,
}

impl ShareChange {
    fn opens(&self) -> bool {
        self.after.may_show_more_than(&self.before)
    }

    fn closes(&self) -> bool {
        self.before.may_show_more_than(&self.after)
    }

    pub(super) fn action(&self) -> Action {
        match (self.opens(), self.closes()) {
            (true, false) => Action::Create,
            (false, true) => Action::Delete,
            (true, true) | (false, false) => Action::Update,
        }
    }

    /// An edit that does both opens.
    pub(super) fn code(&self) -> Code {
        if self.closes() && !self.opens() { Code::ShareCloses } else { Code::ShareOpens }
    }

    pub(super) fn subject(&self) -> String {
        match self.clusters.as_slice() {
            [cluster] => format!("namespaces of cluster `{cluster}`"),
            clusters => format!("namespaces of {} clusters: {}", clusters.len(), named(clusters.iter())),
        }
    }

    /// The default of a version that has `share`, after one that had none.
    fn is_new_default(&self) -> bool {
        self.by_upgrade && (&self.before, &self.after) == (&Share::everything(), &Share::usual())
    }

    pub(super) fn explanation(&self) -> Explanation {
        if self.is_new_default() {
            let message = "`share` is new in this version, and its default leaves out kube-system: services and endpoints there are taken away from all peers, and traffic to them with these";
            return Explanation::new(self.code(), message)
                .hint("where peers use them, state `share: {except: []}` in the Cluster before this run");
        }
        Explanation::new(self.code(), self.message())
    }

    fn message(&self) -> String {
        let who = if self.links.is_empty() {
            "a peer that joins".to_owned()
        } else {
            let readers: BTreeSet<_> = self.links.iter().map(|link| &link.reader).collect();
            named(readers.into_iter())
        };
        let mut parts = Vec::new();
        if self.opens() {
            parts.push("namespaces are opened: services, pods, endpoints and their labels in them are read, and traffic may be sent there");
        }
        if self.closes() {
            parts.push(
                "namespaces are closed: services and endpoints in them are taken away, and traffic to them with these",
            );
        }
        if parts.is_empty() {
            parts.push("the same namespaces, written otherwise");
        }
        format!("to {who}: {}", parts.join("; "))
    }
}

/// A share in a line.
pub(super) fn text(share: &Share) -> String {
    let list =
        |patterns: &BTreeSet<NamespacePattern>| patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (share.namespaces.is_empty(), share.except.is_empty()) {
        (true, _) => "none".to_owned(),
        (false, true) => list(&share.namespaces),
        (false, false) => format!("{} except {}", list(&share.namespaces), list(&share.except)),
    }
}
