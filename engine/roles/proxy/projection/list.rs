//! A list, taken apart while it comes: its head is small, and of its objects one at a time is held.
//!
//! A value is read as soon as it may be complete, and read again from its beginning where it was not: what has come is left to
//! grow first, so that little is read twice. Whatever comes in whatever order is passed on in that order: the apiserver writes
//! `items` last for its own kinds, and first of all for those of custom resources.

use std::marker::PhantomData;

use serde::de::IgnoredAny;

use super::fields::LIST_METADATA;
use super::object::{MAX_OBJECT, PeerVisibility, blank, first, write_first};
use super::shape::Shape;
use super::shown::Visible;
use crate::server::stream::Misread;

/// How much of a list is left to come before it is read.
const BATCH: usize = 64 * 1024;

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
    /// So much has to come before it is worth while to read on.
    wanted: usize,
}

/// Why a value is not passed on.
enum UnreadList {
    /// Its end has not come.
    Incomplete,
    Misread(Misread),
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
        Self { at: ListPosition::Begin, key: ListKey::Other, seen: 0, begun: false, has_items: false, wanted: BATCH }
    }
}

impl ListProjection {
    /// Takes from the beginning of `held`, which no part is missing of, what is complete, and writes what is shown of it.
    pub(super) fn push(&mut self, held: &mut Vec<u8>, shown: &Visible, out: &mut Vec<u8>) -> Result<(), Misread> {
        if held.len() < self.wanted {
            return Ok(());
        }
        let taken = self.take(held, shown, out, false)?;
        held.drain(..taken);
        if held.len() > MAX_OBJECT {
            return Err(Misread::TooLarge(MAX_OBJECT));
        }
        self.wanted = (2 * held.len()).clamp(BATCH, MAX_OBJECT + 1);
        Ok(())
    }

    /// The same of all that is left.
    pub(super) fn finish(&mut self, held: &[u8], shown: &Visible, out: &mut Vec<u8>) -> Result<(), Misread> {
        let taken = self.take(held, shown, out, true)?;
        if taken == held.len() && self.at == ListPosition::End { Ok(()) } else { Err(Misread::Incomplete) }
    }

    /// Gives how many bytes were taken. `is_all`: nothing comes after `text`.
    fn take(&mut self, text: &[u8], shown: &Visible, out: &mut Vec<u8>, is_all: bool) -> Result<usize, Misread> {
        let mut from = 0;
        loop {
            from += blank(text.get(from..).unwrap_or_default());
            let rest = text.get(from..).unwrap_or_default();
            let Some(&next) = rest.first() else { return Ok(from) };
            let is_value = matches!(
                (self.at, next),
                (ListPosition::Key | ListPosition::KeyOrEnd, b'"')
                    | (ListPosition::Value, _)
                    | (ListPosition::Items, b'n')
            ) || (matches!(self.at, ListPosition::Item | ListPosition::ItemOrEnd) && next == b'{');
            if is_value {
                let (before, begun) = (out.len(), self.begun);
                match self.pass(rest, shown, out, is_all) {
                    Ok(length) if length > MAX_OBJECT => return Err(Misread::TooLarge(MAX_OBJECT)),
                    Ok(length) => from += length,
                    Err(UnreadList::Incomplete) => {
                        out.truncate(before);
                        self.begun = begun;
                        return Ok(from);
                    }
                    Err(UnreadList::Misread(misread)) => return Err(misread),
                }
                continue;
            }
            from += 1;
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

    /// Passes on the value at the beginning of a text; gives its length.
    fn pass(&mut self, text: &[u8], shown: &Visible, out: &mut Vec<u8>, is_all: bool) -> Result<usize, UnreadList> {
        let unread = |error: serde_json::Error| {
            // a number that is cut off is no number to the reader
            let is_cut = error.is_eof() || matches!(text.last(), Some(b'-' | b'+' | b'.' | b'e' | b'E'));
            if is_cut && !is_all {
                UnreadList::Incomplete
            } else if error.is_eof() {
                UnreadList::Misread(Misread::Incomplete)
            } else {
                UnreadList::Misread(error.into())
            }
        };
        let length = match (self.at, self.key) {
            (ListPosition::Key | ListPosition::KeyOrEnd, _) => {
                let (key, length) = first(text, PhantomData::<String>).map_err(unread)?;
                self.key = match key.as_str() {
                    "kind" => ListKey::Kind,
                    "apiVersion" => ListKey::ApiVersion,
                    "metadata" => ListKey::Metadata,
                    "items" => ListKey::Items,
                    _ => ListKey::Other,
                };
                let bit = 1 << self.key as u8;
                if self.key != ListKey::Other && self.seen & bit != 0 {
                    return Err(UnreadList::Misread(Misread::Shape));
                }
                self.seen |= bit;
                self.at = ListPosition::Colon;
                return Ok(length);
            }
            (ListPosition::Item | ListPosition::ItemOrEnd, _) => {
                let before = out.len();
                if self.has_items {
                    out.push(b',');
                }
                let (is_shown, length) = shown.write_first(text, out).map_err(unread)?;
                if is_shown {
                    self.has_items = true;
                } else {
                    out.truncate(before);
                }
                self.at = ListPosition::AfterItem;
                return Ok(length);
            }
            // a list without objects may be written so
            (ListPosition::Items, _) => {
                let ((), length) = first(text, PhantomData::<()>).map_err(unread)?;
                self.name("items", out);
                out.extend_from_slice(b"[]");
                length
            }
            (_, ListKey::Kind) => {
                self.head("kind", text, Shape::Value, PeerVisibility::default(), out).map_err(unread)?
            }
            (_, ListKey::ApiVersion) => {
                self.head("apiVersion", text, Shape::Value, PeerVisibility::default(), out).map_err(unread)?
            }
            (_, ListKey::Metadata) => {
                let shape = Shape::Object(LIST_METADATA);
                self.head("metadata", text, shape, shown.seen(), out).map_err(unread)?
            }
            (_, ListKey::Items | ListKey::Other) => first(text, PhantomData::<IgnoredAny>).map_err(unread)?.1,
        };
        // a number may continue
        if length == text.len() && !is_all && text.last().is_some_and(u8::is_ascii_digit) {
            return Err(UnreadList::Incomplete);
        }
        self.at = ListPosition::AfterValue;
        Ok(length)
    }

    fn head(
        &mut self,
        name: &str,
        text: &[u8],
        shape: Shape,
        seen: PeerVisibility<'_>,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<usize> {
        self.name(name, out);
        write_first(text, shape, seen, out).map(|(_, length)| length)
    }

    fn name(&mut self, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b",\"" } else { b"\"" });
        self.begun = true;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    }
}
