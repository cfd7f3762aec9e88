//! What a peer is given of the apiserver's answers: of each object the fields of a table and nothing else.
//!
//! The apiserver is asked for JSON, and its answer is written anew object by object while it comes: a list, a watch, or one
//! object. At most one object is held. What cannot be read ends the answer with an error, and does not pass. Bookmarks and
//! errors of a watch pass with their own fields.

mod fields;
mod list;
mod object;
mod selector;
mod shape;

pub use fields::{KINDS, SHOWN_DEFINITIONS};
pub use object::MAX_OBJECT;
pub use shape::{Field, Kind, Shape};

use bytes::Bytes;
use memchr::memchr;

use crate::roles::api::request::{Query, Resource};
use crate::server::stream::{Change, Misread};
use crate::types::name::NetworkName;
use list::List;

/// What of an answer is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    fields: &'static [Field],
    network: Option<NetworkName>,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One object.
    Object,
    /// A list of objects.
    List,
    /// One event a line.
    Watch,
}

impl Visible {
    /// What is shown of a resource, in a cluster of this network: `None` where the resource is not in the table, or shows the
    /// network and that is not known.
    pub fn of(group: &str, resource: &str, network: Option<&NetworkName>) -> Option<Self> {
        let kind = kind(group, resource)?;
        if !shape::shows_network(kind.fields) {
            return Some(Self { fields: kind.fields, network: None });
        }
        network.map(|network| Self { fields: kind.fields, network: Some(network.clone()) })
    }

    /// Whether an object of this name may be shown.
    pub(super) fn may_be_named(&self, name: &str) -> bool {
        shape::may_be_named(self.fields, name)
    }

    /// Whether the selectors of a query name nothing but what is shown.
    pub(super) fn may_be_selected(&self, query: &Query) -> bool {
        let by_field = |selector: &String| selector::fields_are_shown(selector, self.fields);
        let by_label = |selector: &String| selector::labels_are_shown(selector, self.fields);
        let given = |selector: &&String| !selector.is_empty();
        query.field_selector.as_ref().filter(given).is_none_or(by_field)
            && query.label_selector.as_ref().filter(given).is_none_or(by_label)
    }

    /// Whether what is shown of a resource depends on the cluster's network.
    pub(super) fn depends_on_network(resource: &Resource) -> bool {
        kind(&resource.group, &resource.resource).is_some_and(|kind| shape::shows_network(kind.fields))
    }

    /// What is shown of the answer to `/api`.
    pub fn of_api_versions() -> Self {
        Self { fields: fields::API_VERSIONS, network: None }
    }

    /// The projection of one answer.
    pub fn projection(&self, form: Form) -> Projection {
        let reader = match form {
            Form::Object => Reader::Object,
            Form::List => Reader::List(List::default()),
            Form::Watch => Reader::Watch,
        };
        Projection { shown: self.clone(), reader, held: Vec::new() }
    }
}

fn kind(group: &str, resource: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.resource == resource)
}

/// What is shown of a `Status`, by which the apiserver says why it does not answer.
pub(super) fn status(text: &[u8]) -> Result<Vec<u8>, Misread> {
    let mut out = Vec::new();
    object::write_object(text, fields::STATUS, None, &mut out)?;
    Ok(out)
}

/// An answer on its way to a peer.
#[derive(Debug)]
pub struct Projection {
    shown: Visible,
    reader: Reader,
    /// The beginning of what has not come whole.
    held: Vec<u8>,
}

#[derive(Debug)]
enum Reader {
    Object,
    List(List),
    Watch,
}

impl Change for Projection {
    fn push(&mut self, piece: Bytes) -> Result<Bytes, Misread> {
        let (fields, network) = (self.shown.fields, self.shown.network.as_ref().map(NetworkName::as_str));
        let mut out = Vec::new();
        match &mut self.reader {
            Reader::Object => self.held.extend_from_slice(&piece),
            Reader::List(list) => {
                self.held.extend_from_slice(&piece);
                let taken = list.take(&self.held, fields, network, &mut out)?;
                self.held.drain(..taken);
            }
            Reader::Watch => {
                let mut rest: &[u8] = &piece;
                while let Some(end) = memchr(b'\n', rest) {
                    let (line, after) = rest.split_at_checked(end + 1).unwrap_or((rest, &[]));
                    let length = self.held.len() + line.len();
                    if length > MAX_OBJECT {
                        return Err(Misread::TooLarge(MAX_OBJECT));
                    }
                    let line = if self.held.is_empty() {
                        line
                    } else {
                        self.held.extend_from_slice(line);
                        &self.held
                    };
                    if !line.trim_ascii().is_empty() {
                        object::write_event(line, fields, network, &mut out)?;
                    }
                    self.held.clear();
                    rest = after;
                }
                self.held.extend_from_slice(rest);
            }
        }
        if self.held.len() > MAX_OBJECT {
            return Err(Misread::TooLarge(MAX_OBJECT));
        }
        if self.held.is_empty() {
            // an idle watch holds nothing
            self.held = Vec::new();
        }
        Ok(out.into())
    }

    fn finish(&mut self) -> Result<Bytes, Misread> {
        let held = std::mem::take(&mut self.held);
        let network = self.shown.network.as_ref().map(NetworkName::as_str);
        let mut out = Vec::new();
        match &self.reader {
            Reader::Object => {
                if !object::write_object(&held, self.shown.fields, network, &mut out)? {
                    return Err(Misread::Shape);
                }
            }
            Reader::List(list) if held.is_empty() && list.is_whole() => {}
            Reader::Watch if held.trim_ascii().is_empty() => {}
            Reader::List(_) | Reader::Watch => return Err(Misread::Incomplete),
        }
        Ok(out.into())
    }
}
