//! What of an answer is shown.

use super::fields::{API_VERSIONS, KINDS, SYSTEM_NAMESPACE};
use super::object::{self, PeerVisibility};
use super::scan::{Scanner, UnreadJson};
use super::selector;
use super::shape::{self, Shape, ShownField, ShownKind};
use super::view::{LAST_CREATED, Mark, View, resumed};
use crate::roles::api::request::{ApiRequest, Query};
use crate::server::misread::Misread;
use crate::types::name::{Namespace, NetworkName};
use crate::wire::share::Share;

/// What of an answer is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    fields: &'static [ShownField],
    /// What is shown of an object of which `fields` show nothing.
    otherwise: Option<&'static [ShownField]>,
    share: Option<Share>,
    system: Option<Namespace>,
    network: Option<NetworkName>,
    /// It is not known, and stays as it came.
    keeps_network: bool,
    created: Option<&'static str>,
    mark: Option<Mark>,
}

impl Visible {
    /// What a peer is shown of a resource: `None` where the resource is not in the table, or shows the cluster's network and
    /// that is not known.
    pub fn of(group: &str, resource: &str, view: &View) -> Option<Self> {
        let kind = kind(group, resource)?;
        let network = if shape::has(kind.fields, Shape::Network) { Some(view.network.clone()?) } else { None };
        let mut shown = Self { network, mark: view.mark(group, resource), ..Self::whole(kind.fields) };
        if shape::has(kind.fields, Shape::SharedNamespace) {
            shown.share = Some(view.share.clone());
        }
        if is_namespaces(kind) {
            (shown.otherwise, shown.system) = (Some(SYSTEM_NAMESPACE), Some(view.system.clone()));
        }
        Some(shown)
    }

    /// What a reader takes of what a peer shows it: all namespaces, since it is the peer that says which it shares, Services as the
    /// youngest that there are, and the network as it was reviewed. Where that is not known, since an older engine wrote the route, it is as the peer says:
    /// entries that are in use do not go for that. `None`: the resource is not in the table.
    pub fn of_peer(group: &str, resource: &str, network: Option<&NetworkName>) -> Option<Self> {
        let kind = kind(group, resource)?;
        let has_network = shape::has(kind.fields, Shape::Network);
        let network = network.filter(|_| has_network);
        let (keeps_network, mark) = (has_network && network.is_none(), network.map(Mark::of));
        let created = shape::has(kind.fields, Shape::Created).then_some(LAST_CREATED);
        Some(Self { network: network.cloned(), keeps_network, created, mark, ..Self::whole(kind.fields) })
    }

    /// What is shown of the answer to `/api`.
    pub fn of_api_versions() -> Self {
        Self::whole(API_VERSIONS)
    }

    fn whole(fields: &'static [ShownField]) -> Self {
        Self {
            fields,
            otherwise: None,
            share: None,
            system: None,
            network: None,
            keeps_network: false,
            created: None,
            mark: None,
        }
    }

    /// Whether an object of this name may be shown.
    pub(in crate::roles) fn may_be_named(&self, name: &str) -> bool {
        shape::may_be_named(self.fields, name)
    }

    /// Whether the selectors of a query name nothing but what is shown.
    pub(in crate::roles) fn may_be_selected(&self, query: &Query) -> bool {
        let by_field = |selector: &String| selector::fields_are_shown(selector, self.fields);
        let by_label = |selector: &String| selector::labels_are_shown(selector, self.fields);
        let given = |selector: &&String| !selector.is_empty();
        query.field_selector.as_ref().filter(given).is_none_or(by_field)
            && query.label_selector.as_ref().filter(given).is_none_or(by_label)
    }

    /// The request as it is forwarded to the apiserver; `None` where the client has to list again.
    pub(in crate::roles) fn resumed(&mut self, request: &ApiRequest) -> Option<ApiRequest> {
        // by its labels an object is chosen of which none are shown
        if request.query.label_selector.as_ref().is_some_and(|selector| !selector.is_empty()) {
            self.otherwise = None;
        }
        let query = resumed(&request.query, request.verb, self.mark.as_ref())?;
        Some(ApiRequest { query, ..request.clone() })
    }

    pub(super) fn seen(&self) -> PeerVisibility<'_> {
        PeerVisibility {
            share: self.share.as_ref(),
            system: self.system.as_ref().map(Namespace::as_str),
            network: self.network.as_ref().map(NetworkName::as_str),
            keeps_network: self.keeps_network,
            created: self.created,
            mark: self.mark.as_ref().map(Mark::as_str),
        }
    }

    /// Writes what is shown of an object. `false`: nothing is, and what was written is to be taken back.
    pub(super) fn write_object(&self, text: &[u8], out: &mut Vec<u8>) -> Result<bool, Misread> {
        let before = out.len();
        if object::write_object(text, self.fields, self.seen(), out)? {
            return Ok(true);
        }
        let Some(fields) = self.otherwise else { return Ok(false) };
        out.truncate(before);
        object::write_object(text, fields, self.seen(), out)
    }

    /// The same of the object that is next.
    pub(super) fn write_next(&self, scan: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<bool, UnreadJson> {
        let (before, from) = (out.len(), scan.taken());
        if object::write_next(scan, Shape::Object(self.fields), self.seen(), out)? {
            return Ok(true);
        }
        let Some(fields) = self.otherwise else { return Ok(false) };
        out.truncate(before);
        object::write_next(&mut Scanner::new(scan.since(from)), Shape::Object(fields), self.seen(), out)
    }

    /// Writes what is shown of an event.
    pub(super) fn write_event(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Misread> {
        if object::write_event(text, self.fields, self.seen(), out)? {
            return Ok(());
        }
        let Some(fields) = self.otherwise else { return Ok(()) };
        object::write_event(text, fields, self.seen(), out).map(drop)
    }
}

impl View {
    /// The mark of what is seen of a resource; none where nothing of it depends on the peer or its cluster.
    pub fn mark(&self, group: &str, resource: &str) -> Option<Mark> {
        let kind = kind(group, resource)?;
        if !shape::has(kind.fields, Shape::SharedNamespace) {
            return None;
        }
        let network = self.network.as_ref().filter(|_| shape::has(kind.fields, Shape::Network));
        let system = Some(&self.system).filter(|_| is_namespaces(kind));
        Some(Mark::of(&(&self.share, system, network)))
    }
}

fn kind(group: &str, resource: &str) -> Option<&'static ShownKind> {
    KINDS.iter().find(|kind| kind.group == group && kind.resource == resource)
}

fn is_namespaces(kind: &ShownKind) -> bool {
    kind.group.is_empty() && kind.resource == "namespaces"
}
