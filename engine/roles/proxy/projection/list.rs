//! A list, taken apart while it comes: its head is small, and of its objects one at a time is held.
//!
//! A value is read as soon as it may be complete, and read again from its beginning where it was not: what has come is left to
//! grow first, so that little is read twice. Whatever comes in whatever order is passed on in that order: the apiserver writes
//! `items` last for its own kinds, and first of all for those of custom resources.

use std::marker::PhantomData;

use serde::de::IgnoredAny;

use super::fields::LIST_METADATA;
use super::object::{MAX_OBJECT, Seen, blank, first, write_first};
use super::shape::Shape;
use super::shown::Visible;
use crate::server::stream::Misread;

/// How much of a list is left to come before it is read.
const BATCH: usize = 64 * 1024;

/// A list on its way.
#[derive(Debug)]
pub(super) struct List {
    at: At,
    key: Key,
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
enum Unread {
    /// Its end has not come.
    Incomplete,
    Misread(Misread),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
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

/// The keys of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Kind,
    ApiVersion,
    Metadata,
    Items,
    Other,
}

impl Default for List {
    fn default() -> Self {
        Self { at: At::Begin, key: Key::Other, seen: 0, begun: false, has_items: false, wanted: BATCH }
    }
}

impl List {
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
        if taken == held.len() && self.at == At::End { Ok(()) } else { Err(Misread::Incomplete) }
    }

    /// Gives how many bytes were taken. `is_all`: nothing comes after `text`.
    fn take(&mut self, text: &[u8], shown: &Visible, out: &mut Vec<u8>, is_all: bool) -> Result<usize, Misread> {
        let mut from = 0;
        loop {
            from += blank(text.get(from..).unwrap_or_default());
            let rest = text.get(from..).unwrap_or_default();
            let Some(&next) = rest.first() else { return Ok(from) };
            let is_value =
                matches!((self.at, next), (At::Key | At::KeyOrEnd, b'"') | (At::Value, _) | (At::Items, b'n'))
                    || (matches!(self.at, At::Item | At::ItemOrEnd) && next == b'{');
            if is_value {
                let (before, begun) = (out.len(), self.begun);
                match self.pass(rest, shown, out, is_all) {
                    Ok(length) if length > MAX_OBJECT => return Err(Misread::TooLarge(MAX_OBJECT)),
                    Ok(length) => from += length,
                    Err(Unread::Incomplete) => {
                        out.truncate(before);
                        self.begun = begun;
                        return Ok(from);
                    }
                    Err(Unread::Misread(misread)) => return Err(misread),
                }
                continue;
            }
            from += 1;
            self.at = match (self.at, next) {
                (At::Begin, b'{') => {
                    out.push(b'{');
                    At::KeyOrEnd
                }
                (At::Colon, b':') if self.key == Key::Items => At::Items,
                (At::Colon, b':') => At::Value,
                (At::Items, b'[') => {
                    self.name("items", out);
                    out.push(b'[');
                    At::ItemOrEnd
                }
                (At::AfterItem, b',') => At::Item,
                (At::AfterItem | At::ItemOrEnd, b']') => {
                    out.push(b']');
                    At::AfterValue
                }
                (At::AfterValue, b',') => At::Key,
                (At::AfterValue | At::KeyOrEnd, b'}') => {
                    out.push(b'}');
                    At::End
                }
                _ => return Err(Misread::Syntax),
            };
        }
    }

    /// Passes on the value at the beginning of a text; gives its length.
    fn pass(&mut self, text: &[u8], shown: &Visible, out: &mut Vec<u8>, is_all: bool) -> Result<usize, Unread> {
        let unread = |error: serde_json::Error| {
            // a number that is cut off is no number to the reader
            let is_cut = error.is_eof() || matches!(text.last(), Some(b'-' | b'+' | b'.' | b'e' | b'E'));
            if is_cut && !is_all {
                Unread::Incomplete
            } else if error.is_eof() {
                Unread::Misread(Misread::Incomplete)
            } else {
                Unread::Misread(error.into())
            }
        };
        let length = match (self.at, self.key) {
            (At::Key | At::KeyOrEnd, _) => {
                let (key, length) = first(text, PhantomData::<String>).map_err(unread)?;
                self.key = match key.as_str() {
                    "kind" => Key::Kind,
                    "apiVersion" => Key::ApiVersion,
                    "metadata" => Key::Metadata,
                    "items" => Key::Items,
                    _ => Key::Other,
                };
                let bit = 1 << self.key as u8;
                if self.key != Key::Other && self.seen & bit != 0 {
                    return Err(Unread::Misread(Misread::Shape));
                }
                self.seen |= bit;
                self.at = At::Colon;
                return Ok(length);
            }
            (At::Item | At::ItemOrEnd, _) => {
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
                self.at = At::AfterItem;
                return Ok(length);
            }
            // a list without objects may be written so
            (At::Items, _) => {
                let ((), length) = first(text, PhantomData::<()>).map_err(unread)?;
                self.name("items", out);
                out.extend_from_slice(b"[]");
                length
            }
            (_, Key::Kind) => self.head("kind", text, Shape::Value, Seen::default(), out).map_err(unread)?,
            (_, Key::ApiVersion) => {
                self.head("apiVersion", text, Shape::Value, Seen::default(), out).map_err(unread)?
            }
            (_, Key::Metadata) => {
                let shape = Shape::Object(LIST_METADATA);
                self.head("metadata", text, shape, shown.seen(), out).map_err(unread)?
            }
            (_, Key::Items | Key::Other) => first(text, PhantomData::<IgnoredAny>).map_err(unread)?.1,
        };
        // a number may go on
        if length == text.len() && !is_all && text.last().is_some_and(u8::is_ascii_digit) {
            return Err(Unread::Incomplete);
        }
        self.at = At::AfterValue;
        Ok(length)
    }

    fn head(
        &mut self,
        name: &str,
        text: &[u8],
        shape: Shape,
        seen: Seen<'_>,
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
