//! A list, taken apart while it comes: its head is small, and of its objects one at a time is held.
//!
//! A value is read as soon as it may be complete, and read again from its beginning where it was not: what has come is left to
//! grow first, so that little is read twice. Whatever comes in whatever order is passed on in that order: the apiserver writes
//! `items` last for its own kinds, and first of all for those of custom resources.

use super::fields::LIST_METADATA;
use super::object::{MAX_OBJECT, PeerVisibility, SHOWN_PART, write_next};
use super::scan::{Scanner, UnreadJson};
use super::shape::Shape;
use super::shown::Visible;
use crate::server::stream::Misread;

/// Most objects, and most bytes, that are waited for before a list is read on.
const BATCH: usize = 4;
const MAX_BATCH: usize = 64 * 1024;

/// A list on its way.
#[derive(Debug)]
pub(super) struct ListProjection {
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
                    out.push(b'{');
                    ListPosition::KeyOrEnd
                }
                (ListPosition::Colon, b':') if self.key == ListKey::Items => ListPosition::Items,
                (ListPosition::Colon, b':') => ListPosition::Value,
                (ListPosition::Items, b'[') => {
                    self.name("items", out);
                    out.push(b'[');
                    ListPosition::ItemOrEnd
                }
                (ListPosition::AfterItem, b',') => ListPosition::Item,
                (ListPosition::AfterItem | ListPosition::ItemOrEnd, b']') => {
                    out.push(b']');
                    ListPosition::AfterValue
                }
                (ListPosition::AfterValue, b',') => ListPosition::Key,
                (ListPosition::AfterValue | ListPosition::KeyOrEnd, b'}') => {
                    out.push(b'}');
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
                if self.has_items {
                    out.push(b',');
                }
                if shown.write_next(scan, out)? {
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
                out.extend_from_slice(b"[]");
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
        self.name(name, out);
        write_next(scan, shape, seen, out).map(drop)
    }

    fn name(&mut self, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b",\"" } else { b"\"" });
        self.begun = true;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    }
}
