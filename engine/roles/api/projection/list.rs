//! A list, taken apart while it comes: its head is small, and of its objects one at a time is held.
//!
//! A value is read as soon as it may be complete, and read again from its beginning where it was not: what has come is left to
//! grow first, so that little is read twice. Whatever comes in whatever order is passed on in that order: the apiserver writes
//! `items` last for its own kinds, and first of all for those of custom resources.
//!
//! The events that a watch begins with are written from a list, too: that costs the apiserver half of what it takes to write
//! each object as an event of its own.

use serde::Deserialize;
use serde_json::json;

use super::fields::LIST_METADATA;
use super::object::{MAX_OBJECT, PeerVisibility, SHOWN_PART, write_next};
use super::scan::{Scanner, UnreadJson};
use super::shape::Shape;
use super::shown::Visible;
use crate::roles::api::status::end_of_initial_events;
use crate::server::misread::Misread;

/// Most objects, and most bytes, that are waited for before a list is read on.
const BATCH: usize = 4;
const MAX_BATCH: usize = 64 * 1024;

/// A list on its way.
#[derive(Debug)]
pub(super) struct ListProjection {
    form: ListForm,
    at: ListPosition,
    key: ListKey,
    /// Keys that came, a bit each.
    seen: u8,
    /// A field was written already.
    begun: bool,
    /// An object of this list was written already.
    has_items: bool,
    /// Bytes of its longest object.
    longest: usize,
    /// So much has to come before it is worth while to read on.
    wanted: usize,
}

/// What is written of a list.
#[derive(Debug)]
enum ListForm {
    List,
    /// Each object as one that was added.
    Events(ListHead),
}

/// What a list says beside its objects.
#[derive(Debug, Default)]
struct ListHead {
    kind: Option<String>,
    api_version: Option<String>,
    resource_version: Option<String>,
}

/// Part of the metadata of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

impl ListHead {
    /// Kind and version of its objects.
    fn of_objects(&self) -> Option<(&str, &str)> {
        let kind = self.kind.as_ref()?.strip_suffix("List").filter(|kind| !kind.is_empty())?;
        Some((kind, self.api_version.as_ref()?))
    }

    /// Writes the event that ends those that a watch begins with, as the apiserver writes it; gives the version of the list.
    fn end(self, shown: &Visible, out: &mut Vec<u8>) -> Result<String, Misread> {
        let (kind, api_version) = self.of_objects().ok_or(Misread::Shape)?;
        let version = self.resource_version.clone().filter(|version| !version.is_empty()).ok_or(Misread::Shape)?;
        let event = end_of_initial_events(kind, api_version, &version);
        shown.write_event(event.to_string().as_bytes(), out)?;
        Ok(version)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListPosition {
    Begin,
    KeyOrEnd,
    Key,
    Colon,
    Value,
    Items,
    ItemOrEnd,
    Item,
    AfterItem,
    AfterValue,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListKey {
    Kind,
    ApiVersion,
    Metadata,
    Items,
    Other,
}

impl Default for ListProjection {
    fn default() -> Self {
        Self {
            form: ListForm::List,
            at: ListPosition::Begin,
            key: ListKey::Other,
            seen: 0,
            begun: false,
            has_items: false,
            longest: 0,
            wanted: 0,
        }
    }
}

impl ListProjection {
    /// Takes from the beginning of `held`, which no part is missing of, what is complete, and writes what is shown of it.
    pub(super) fn push(&mut self, held: &mut Vec<u8>, shown: &Visible, out: &mut Vec<u8>) -> Result<(), Misread> {
        if held.len() < self.wanted {
            return Ok(());
        }
        out.reserve(held.len() / SHOWN_PART);
        let taken = self.take(held, shown, out, false)?;
        held.drain(..taken);
        if held.len() > MAX_OBJECT {
            return Err(Misread::TooLarge(MAX_OBJECT));
        }
        let batch = (BATCH * self.longest).min(MAX_BATCH);
        self.wanted = (2 * held.len()).clamp(batch, MAX_OBJECT + 1);
        Ok(())
    }

    /// The same, as the events that a watch begins with.
    pub(super) fn as_events() -> Self {
        Self { form: ListForm::Events(ListHead::default()), ..Self::default() }
    }

    /// What is left of one that was written as events, and the event that ends them; gives the version that a watch continues from.
    pub(super) fn finish_events(mut self, held: &[u8], shown: &Visible, out: &mut Vec<u8>) -> Result<String, Misread> {
        self.finish(held, shown, out)?;
        match self.form {
            ListForm::List => Err(Misread::Shape),
            ListForm::Events(of_list) => of_list.end(shown, out),
        }
    }

    /// The same of all that is left.
    pub(super) fn finish(&mut self, held: &[u8], shown: &Visible, out: &mut Vec<u8>) -> Result<(), Misread> {
        let taken = self.take(held, shown, out, true)?;
        if taken == held.len() && self.at == ListPosition::End { Ok(()) } else { Err(Misread::Incomplete) }
    }

    /// Gives how many bytes were taken. `is_all`: nothing comes after `text`.
    fn take(&mut self, text: &[u8], shown: &Visible, out: &mut Vec<u8>, is_all: bool) -> Result<usize, Misread> {
        let mut scan = Scanner::new(text);
        loop {
            let Ok(next) = scan.peek() else { return Ok(scan.taken()) };
            let is_value = matches!(
                (self.at, next),
                (ListPosition::Key | ListPosition::KeyOrEnd, b'"')
                    | (ListPosition::Value, _)
                    | (ListPosition::Items, b'n')
            ) || (matches!(self.at, ListPosition::Item | ListPosition::ItemOrEnd) && next == b'{');
            if is_value {
                let (from, before, begun) = (scan.taken(), out.len(), self.begun);
                match self.pass(&mut scan, shown, out) {
                    Ok(()) if scan.taken() - from > MAX_OBJECT => return Err(Misread::TooLarge(MAX_OBJECT)),
                    Ok(()) => {}
                    Err(UnreadJson::End) if is_all => return Err(Misread::Incomplete),
                    Err(UnreadJson::End) => {
                        out.truncate(before);
                        self.begun = begun;
                        return Ok(from);
                    }
                    Err(unread) => return Err(unread.into()),
                }
                continue;
            }
            scan.expect(next)?;
            self.at = match (self.at, next) {
                (ListPosition::Begin, b'{') => {
                    self.punctuate(b"{", out);
                    ListPosition::KeyOrEnd
                }
                (ListPosition::Colon, b':') if self.key == ListKey::Items => ListPosition::Items,
                (ListPosition::Colon, b':') => ListPosition::Value,
                (ListPosition::Items, b'[') => {
                    self.name("items", out);
                    self.punctuate(b"[", out);
                    ListPosition::ItemOrEnd
                }
                (ListPosition::AfterItem, b',') => ListPosition::Item,
                (ListPosition::AfterItem | ListPosition::ItemOrEnd, b']') => {
                    self.punctuate(b"]", out);
                    ListPosition::AfterValue
                }
                (ListPosition::AfterValue, b',') => ListPosition::Key,
                (ListPosition::AfterValue | ListPosition::KeyOrEnd, b'}') => {
                    self.punctuate(b"}", out);
                    ListPosition::End
                }
                _ => return Err(Misread::Syntax),
            };
        }
    }

    /// Passes on the next value.
    fn pass(&mut self, scan: &mut Scanner<'_>, shown: &Visible, out: &mut Vec<u8>) -> Result<(), UnreadJson> {
        match (self.at, self.key) {
            (ListPosition::Key | ListPosition::KeyOrEnd, _) => {
                self.key = scan.text()?.with(|key| match key {
                    b"kind" => ListKey::Kind,
                    b"apiVersion" => ListKey::ApiVersion,
                    b"metadata" => ListKey::Metadata,
                    b"items" => ListKey::Items,
                    _ => ListKey::Other,
                })?;
                let bit = 1 << self.key as u8;
                if self.key != ListKey::Other && self.seen & bit != 0 {
                    return Err(UnreadJson::Shape);
                }
                self.seen |= bit;
                self.at = ListPosition::Colon;
                return Ok(());
            }
            (ListPosition::Item | ListPosition::ItemOrEnd, _) => {
                let (before, from) = (out.len(), scan.taken());
                if self.item(scan, shown, out)? {
                    self.has_items = true;
                } else {
                    out.truncate(before);
                }
                self.longest = self.longest.max(scan.taken() - from);
                self.at = ListPosition::AfterItem;
                return Ok(());
            }
            // a list without objects may be written so
            (ListPosition::Items, _) => {
                scan.literal(b"null")?;
                self.name("items", out);
                self.punctuate(b"[]", out);
            }
            (_, ListKey::Kind) => self.head("kind", scan, Shape::Value, PeerVisibility::default(), out)?,
            (_, ListKey::ApiVersion) => self.head("apiVersion", scan, Shape::Value, PeerVisibility::default(), out)?,
            (_, ListKey::Metadata) => self.head("metadata", scan, Shape::Object(LIST_METADATA), shown.seen(), out)?,
            (_, ListKey::Items | ListKey::Other) => scan.skip()?,
        }
        self.at = ListPosition::AfterValue;
        Ok(())
    }

    fn head(
        &mut self,
        name: &str,
        scan: &mut Scanner<'_>,
        shape: Shape,
        seen: PeerVisibility<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), UnreadJson> {
        let from = scan.taken();
        let ListForm::Events(head) = &mut self.form else {
            self.name(name, out);
            return write_next(scan, shape, seen, out).map(drop);
        };
        scan.skip()?;
        let text = scan.since(from);
        match name {
            "kind" => head.kind = Some(serde_json::from_slice(text).map_err(|_| UnreadJson::Shape)?),
            "apiVersion" => head.api_version = Some(serde_json::from_slice(text).map_err(|_| UnreadJson::Shape)?),
            _ => {
                let metadata: ListMetadata = serde_json::from_slice(text).map_err(|_| UnreadJson::Shape)?;
                if !metadata.r#continue.is_empty() {
                    return Err(UnreadJson::Shape);
                }
                head.resource_version = Some(metadata.resource_version);
            }
        }
        Ok(())
    }

    /// Writes the next object. `false`: it is not shown.
    fn item(&self, scan: &mut Scanner<'_>, shown: &Visible, out: &mut Vec<u8>) -> Result<bool, UnreadJson> {
        let ListForm::Events(head) = &self.form else {
            if self.has_items {
                out.push(b',');
            }
            return shown.write_next(scan, out);
        };
        out.extend_from_slice(b"{\"type\":\"ADDED\",\"object\":");
        let begin = out.len();
        if !shown.write_next(scan, out)? {
            return Ok(false);
        }
        // of its own kinds the apiserver writes objects of a list without it
        let object = out.get(begin..).unwrap_or_default();
        if !says_what_it_is(object)? {
            let (kind, api_version) = head.of_objects().ok_or(UnreadJson::Shape)?;
            let rest = if object.starts_with(b"{}") { "" } else { "," };
            let of_kind = format!("{{\"kind\":{},\"apiVersion\":{}{rest}", json!(kind), json!(api_version));
            out.splice(begin..=begin, of_kind.into_bytes());
        }
        out.extend_from_slice(b"}\n");
        Ok(true)
    }

    /// Writes what stands between the parts of a list.
    fn punctuate(&self, text: &[u8], out: &mut Vec<u8>) {
        match self.form {
            ListForm::List => out.extend_from_slice(text),
            ListForm::Events(_) => {}
        }
    }

    fn name(&mut self, name: &str, out: &mut Vec<u8>) {
        if let ListForm::Events(_) = self.form {
            return;
        }
        out.extend_from_slice(if self.begun { b",\"" } else { b"\"" });
        self.begun = true;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    }
}

/// Whether an object has its kind or version.
fn says_what_it_is(object: &[u8]) -> Result<bool, UnreadJson> {
    let mut scan = Scanner::new(object);
    scan.expect(b'{')?;
    let mut is_first = true;
    while let Some(key) = scan.key(&mut is_first)? {
        if key.with(|key| matches!(key, b"kind" | b"apiVersion"))? {
            return Ok(true);
        }
        scan.skip()?;
    }
    Ok(false)
}
