//! A list, taken apart while it comes: its head is small, and of its objects one at a time is held.
//!
//! This finds where values begin and end; each is read whole afterwards, so what looks like a value here and is none is an
//! error there. Whatever comes in whatever order is passed on in that order: the apiserver writes `items` last for its own
//! kinds, and first of all for those of custom resources.

use memchr::memchr2;

use super::fields::LIST_METADATA;
use super::object::{MAX_OBJECT, Seen, skip_value, write_value};
use super::shape::Shape;
use super::shown::Visible;
use crate::server::stream::Misread;

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
    value: ValueEnd,
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
        let (at, key, value) = (At::Begin, Key::Other, ValueEnd::default());
        Self { at, key, seen: 0, begun: false, has_items: false, value }
    }
}

impl List {
    /// Takes from the beginning of `text` what is complete and writes what is shown of it; gives how many bytes that were.
    pub(super) fn take(&mut self, text: &[u8], shown: &Visible, out: &mut Vec<u8>) -> Result<usize, Misread> {
        let mut from = 0;
        loop {
            let rest = text.get(from..).unwrap_or_default();
            let space = rest.len() - rest.trim_ascii_start().len();
            if space > 0 && !self.value.is_begun() {
                from += space;
                continue;
            }
            let Some(&next) = rest.first() else { return Ok(from) };
            let is_value =
                matches!((self.at, next), (At::Key | At::KeyOrEnd, b'"') | (At::Value, _) | (At::Items, b'n'))
                    || (matches!(self.at, At::Item | At::ItemOrEnd) && next == b'{');
            if is_value {
                let Some(length) = self.value.find(rest)? else { return Ok(from) };
                self.value = ValueEnd::default();
                let value = rest.get(..length).unwrap_or_default();
                if length > MAX_OBJECT {
                    return Err(Misread::TooLarge(MAX_OBJECT));
                }
                self.at = self.pass(value, shown, out)?;
                from += length;
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

    /// Whether the list is complete.
    pub(super) fn is_whole(&self) -> bool {
        self.at == At::End
    }

    /// Passes a value on; gives what comes next.
    fn pass(&mut self, value: &[u8], shown: &Visible, out: &mut Vec<u8>) -> Result<At, Misread> {
        match (self.at, self.key) {
            (At::Key | At::KeyOrEnd, _) => {
                let key: String = serde_json::from_slice(value)?;
                self.key = match key.as_str() {
                    "kind" => Key::Kind,
                    "apiVersion" => Key::ApiVersion,
                    "metadata" => Key::Metadata,
                    "items" => Key::Items,
                    _ => Key::Other,
                };
                let bit = 1 << self.key as u8;
                if self.key != Key::Other && self.seen & bit != 0 {
                    return Err(Misread::Shape);
                }
                self.seen |= bit;
                return Ok(At::Colon);
            }
            (At::Item | At::ItemOrEnd, _) => {
                let before = out.len();
                if self.has_items {
                    out.push(b',');
                }
                if shown.write_object(value, out)? {
                    self.has_items = true;
                } else {
                    out.truncate(before);
                }
                return Ok(At::AfterItem);
            }
            // a list without objects may be written so
            (At::Items, _) if value == b"null" => {
                self.name("items", out);
                out.extend_from_slice(b"[]");
            }
            (At::Items, _) => return Err(Misread::Shape),
            (_, Key::Kind) => self.head("kind", value, Shape::Value, Seen::default(), out)?,
            (_, Key::ApiVersion) => self.head("apiVersion", value, Shape::Value, Seen::default(), out)?,
            (_, Key::Metadata) => self.head("metadata", value, Shape::Object(LIST_METADATA), shown.seen(), out)?,
            (_, Key::Items | Key::Other) => skip_value(value)?,
        }
        Ok(At::AfterValue)
    }

    fn head(
        &mut self,
        name: &str,
        value: &[u8],
        shape: Shape,
        seen: Seen<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Misread> {
        self.name(name, out);
        write_value(value, shape, seen, out).map(drop)
    }

    fn name(&mut self, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b",\"" } else { b"\"" });
        self.begun = true;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    }
}

/// Looks for the end of a value, and goes on where it was when more has come.
#[derive(Debug, Default)]
struct ValueEnd {
    /// Bytes that were looked at.
    at: usize,
    /// Objects and lists that are open.
    depth: usize,
    in_text: bool,
}

impl ValueEnd {
    fn is_begun(&self) -> bool {
        self.at > 0
    }

    /// The length of the value at the beginning of `text`, once all of it has come.
    fn find(&mut self, text: &[u8]) -> Result<Option<usize>, Misread> {
        while let Some(rest) = text.get(self.at..).filter(|rest| !rest.is_empty()) {
            if self.in_text {
                let Some(found) = memchr2(b'"', b'\\', rest) else {
                    self.at = text.len();
                    return Ok(None);
                };
                if rest.get(found) == Some(&b'\\') {
                    // what follows belongs to it, also when it has not come yet
                    if rest.len() < found + 2 {
                        self.at += found;
                        return Ok(None);
                    }
                    self.at += found + 2;
                    continue;
                }
                self.at += found + 1;
                self.in_text = false;
                if self.depth == 0 {
                    return Ok(Some(self.at));
                }
                continue;
            }
            let Some((skipped, &mark)) = rest.iter().enumerate().find(|(_, byte)| {
                matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')
                    || (self.depth == 0 && (**byte == b',' || byte.is_ascii_whitespace()))
            }) else {
                self.at = text.len();
                return Ok(None);
            };
            let end = self.at + skipped;
            self.at = end + 1;
            match mark {
                b'"' | b'{' | b'[' if self.depth == 0 && end > 0 => return Err(Misread::Syntax),
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                // a number or a word ends before what follows it
                _ if self.depth == 0 => return if end > 0 { Ok(Some(end)) } else { Err(Misread::Syntax) },
                _ => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(self.at));
                    }
                }
            }
        }
        Ok(None)
    }
}
