//! One object, event or part of them: read once, and what is shown of it written as it is read.
//!
//! Nothing is kept but what is written. Depth costs nothing: what is not shown is skipped without recursion, and what is
//! shown is as deep as its table. Texts are decoded and written anew, so no key hides behind another spelling.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fields::{BOOKMARK, STATUS};
use super::shape::{Shape, ShownField};
use crate::server::stream::Misread;
use crate::wire::share::Share;

/// Most bytes of an object. The apiserver's store takes no more than 1.5 MiB of one, in a shorter form.
pub const MAX_OBJECT: usize = 4 * 1024 * 1024;

/// What the peer sees, beside the fields of each object.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PeerVisibility<'a> {
    /// Namespaces; `None`: none are looked at.
    pub(super) share: Option<&'a Share>,
    /// Namespace of its istiod.
    pub(super) system: Option<&'a str>,
    /// The cluster's own network.
    pub(super) network: Option<&'a str>,
    /// What is put behind each version.
    pub(super) mark: Option<&'a str>,
}

impl PeerVisibility<'_> {
    /// Whether an object may be shown whose namespace is not said.
    fn shows_unstated(self) -> bool {
        self.share.is_none_or(Share::is_everything)
    }
}

/// How many bytes at the beginning of a text are JSON's blanks, which are fewer than ASCII's.
pub(super) fn blank(text: &[u8]) -> usize {
    text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(text.len())
}

/// Writes what is shown of the object in `text`, which holds nothing else. `false`: it is not shown, and nothing is written.
pub(super) fn write_object(
    text: &[u8],
    fields: &'static [ShownField],
    seen: PeerVisibility<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Misread> {
    if text.get(blank(text)..).and_then(<[u8]>::first) != Some(&b'{') {
        return Err(Misread::Shape);
    }
    whole(text, Projected { shape: Shape::Object(fields), seen, out })
}

/// The same of the value at the beginning of `text`, and its length.
pub(super) fn write_first(
    text: &[u8],
    shape: Shape,
    seen: PeerVisibility<'_>,
    out: &mut Vec<u8>,
) -> serde_json::Result<(bool, usize)> {
    first(text, Projected { shape, seen, out })
}

/// Reads the value at the beginning of `text`, and gives its length.
pub(super) fn first<'de, S: DeserializeSeed<'de>>(text: &'de [u8], seed: S) -> serde_json::Result<(S::Value, usize)> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = seed.deserialize(&mut reader)?;
    Ok((value, reader.into_iter::<IgnoredAny>().byte_offset()))
}

/// Writes what is shown of an event of a watch, with a newline. `false`: its object is not shown, and nothing is written.
pub(super) fn write_event(
    text: &[u8],
    fields: &'static [ShownField],
    seen: PeerVisibility<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Misread> {
    whole(text, ProjectedEvent { fields, seen, out })
}

fn whole<'de, S: DeserializeSeed<'de>>(text: &'de [u8], seed: S) -> Result<S::Value, Misread> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = seed.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

fn write(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // numbers and texts cannot fail to be written into memory
    let _written = serde_json::to_writer(out, value);
}

/// Begins an entry of an object or a list of which `begun` says whether it has entries already.
fn separate(out: &mut Vec<u8>, begun: &mut bool) {
    if *begun {
        out.push(b',');
    }
    *begun = true;
}

fn write_name(out: &mut Vec<u8>, begun: &mut bool, name: &str) {
    separate(out, begun);
    write(out, name);
    out.push(b':');
}

/// A value of which what is shown is written; gives whether the object that holds it may be shown.
struct Projected<'a> {
    shape: Shape,
    seen: PeerVisibility<'a>,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Projected<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Projected<'_> {
    /// Writes a text, a number, or true or false.
    fn value<E: Error>(
        self,
        value: impl Serialize,
        found: Unexpected<'_>,
        is: impl Fn(&str) -> bool,
    ) -> Result<bool, E> {
        let shown = match self.shape {
            Shape::Value => true,
            Shape::OneOf(values) => values.iter().any(|one| is(one)),
            Shape::Values
            | Shape::Entries { .. }
            | Shape::EntriesOf(_)
            | Shape::Object(_)
            | Shape::Each(_)
            | Shape::Network
            | Shape::SharedNamespace
            | Shape::SystemNamespace
            | Shape::ResourceVersion => return Err(E::invalid_type(found, &self)),
        };
        write(self.out, &value);
        Ok(shown)
    }

    fn entries<'de, A: MapAccess<'de>>(self, mut map: A, is_shown: impl Fn(&str) -> bool) -> Result<bool, A::Error> {
        self.out.push(b'{');
        let mut begun = false;
        while let Some(shown) =
            map.next_key_seed(EntryName { is_shown: &is_shown, begun: &mut begun, out: self.out })?
        {
            if shown {
                map.next_value_seed(Projected { shape: Shape::Value, seen: PeerVisibility::default(), out: self.out })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        self.out.push(b'}');
        Ok(true)
    }

    fn object<'de, A: MapAccess<'de>>(self, mut map: A, fields: &'static [ShownField]) -> Result<bool, A::Error> {
        self.out.push(b'{');
        let (mut begun, mut shown, mut seen) = (false, true, 0_u32);
        while let Some(known) = map.next_key_seed(FieldName(fields))? {
            let Some((at, field)) = known.filter(|(_, field)| field.shape != Shape::Network) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen >> at & 1 == 1 {
                return Err(A::Error::duplicate_field(field.name));
            }
            seen |= 1 << at;
            write_name(self.out, &mut begun, field.name);
            shown &= map.next_value_seed(Projected { shape: field.shape, seen: self.seen, out: self.out })?;
        }
        for (_, field) in fields.iter().enumerate().filter(|(at, _)| seen >> at & 1 == 0) {
            shown &= absent(field, self.seen, &mut begun, self.out);
        }
        self.out.push(b'}');
        Ok(shown)
    }
}

/// Writes what is shown of a field that is not there; gives whether the object that lacks it may be shown.
fn absent(field: &ShownField, seen: PeerVisibility<'_>, begun: &mut bool, out: &mut Vec<u8>) -> bool {
    if let Shape::Object(fields) = field.shape
        && fields.iter().any(|field| decides(field.shape, seen))
    {
        write_name(out, begun, field.name);
        return empty_object(fields, seen, out);
    }
    if let (Shape::Network, Some(network)) = (field.shape, seen.network) {
        write_name(out, begun, field.name);
        write(out, network);
    }
    is_shown_without(field.shape, seen)
}

/// Whether an object may be shown that has no value where one of this shape is expected, or null.
fn is_shown_without(shape: Shape, seen: PeerVisibility<'_>) -> bool {
    match shape {
        Shape::OneOf(_) | Shape::SystemNamespace => false,
        Shape::SharedNamespace => seen.shows_unstated(),
        Shape::Network => seen.network.is_some(),
        Shape::Value
        | Shape::Values
        | Shape::Entries { .. }
        | Shape::EntriesOf(_)
        | Shape::Object(_)
        | Shape::Each(_)
        | Shape::ResourceVersion => true,
    }
}

/// Whether it matters that a field of this shape is not there.
fn decides(shape: Shape, seen: PeerVisibility<'_>) -> bool {
    shape == Shape::Network || !is_shown_without(shape, seen)
}

/// Writes what is shown of an object that has nothing in it.
fn empty_object(fields: &'static [ShownField], seen: PeerVisibility<'_>, out: &mut Vec<u8>) -> bool {
    out.push(b'{');
    let mut begun = false;
    let mut shown = true;
    for field in fields {
        shown &= absent(field, seen, &mut begun, out);
    }
    out.push(b'}');
    shown
}

impl<'de> Visitor<'de> for Projected<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.shape {
            Shape::Value | Shape::OneOf(_) | Shape::Network => "a text, a number, or true or false",
            Shape::SharedNamespace | Shape::SystemNamespace | Shape::ResourceVersion => "a text",
            Shape::Values | Shape::Each(_) => "a list",
            Shape::Entries { .. } | Shape::EntriesOf(_) | Shape::Object(_) => "an object",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        if let Shape::Object(fields) = self.shape {
            return Ok(empty_object(fields, self.seen, self.out));
        }
        self.out.extend_from_slice(b"null");
        Ok(is_shown_without(self.shape, self.seen))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        self.value(value, Unexpected::Bool(value), |one| one == if value { "true" } else { "false" })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.value(value, Unexpected::Signed(value), |_| false)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        self.value(value, Unexpected::Unsigned(value), |_| false)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        self.value(value, Unexpected::Float(value), |_| false)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
        match (self.shape, self.seen) {
            (Shape::SharedNamespace, PeerVisibility { share, .. }) => {
                write(self.out, value);
                Ok(share.is_none_or(|share| share.shows(value)))
            }
            (Shape::SystemNamespace, PeerVisibility { system, .. }) => {
                write(self.out, value);
                Ok(system == Some(value))
            }
            (Shape::ResourceVersion, PeerVisibility { mark: Some(mark), .. }) if !matches!(value, "" | "0") => {
                write(self.out, &format!("{value}{mark}"));
                Ok(true)
            }
            (Shape::ResourceVersion, _) => {
                write(self.out, value);
                Ok(true)
            }
            _ => self.value(value, Unexpected::Other("a text"), |one| one == value),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let shape = match self.shape {
            Shape::Values => Shape::Value,
            Shape::Each(fields) => Shape::Object(fields),
            Shape::Value
            | Shape::OneOf(_)
            | Shape::Entries { .. }
            | Shape::EntriesOf(_)
            | Shape::Object(_)
            | Shape::Network
            | Shape::SharedNamespace
            | Shape::SystemNamespace
            | Shape::ResourceVersion => return Err(A::Error::invalid_type(Unexpected::Seq, &self)),
        };
        self.out.push(b'[');
        let mut begun = false;
        loop {
            // one that is not shown is taken back
            let (before, first) = (self.out.len(), !begun);
            separate(self.out, &mut begun);
            match list.next_element_seed(Projected { shape, seen: self.seen, out: self.out })? {
                Some(true) => {}
                unshown => {
                    self.out.truncate(before);
                    begun = !first;
                    if unshown.is_none() {
                        break;
                    }
                }
            }
        }
        self.out.push(b']');
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        match self.shape {
            Shape::Entries { but } => self.entries(map, |key| !but.contains(&key)),
            Shape::EntriesOf(keys) => self.entries(map, |key| keys.contains(&key)),
            Shape::Object(fields) => self.object(map, fields),
            Shape::Value
            | Shape::OneOf(_)
            | Shape::Values
            | Shape::Each(_)
            | Shape::Network
            | Shape::SharedNamespace
            | Shape::SystemNamespace
            | Shape::ResourceVersion => Err(A::Error::invalid_type(Unexpected::Map, &self)),
        }
    }
}

/// Finds a key among fields.
struct FieldName(&'static [ShownField]);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<(usize, &'static ShownField)>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Option<(usize, &'static ShownField)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().enumerate().find(|(_, field)| field.name == key))
    }
}

/// Writes a key of a map where it is shown, and says whether it is.
struct EntryName<'a, F> {
    is_shown: &'a F,
    begun: &'a mut bool,
    out: &'a mut Vec<u8>,
}

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for EntryName<'_, F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<F: Fn(&str) -> bool> Visitor<'_> for EntryName<'_, F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let shown = (self.is_shown)(key);
        if shown {
            write_name(self.out, self.begun, key);
        }
        Ok(shown)
    }
}

/// What an event of a watch says of its object.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// An event of a watch.
struct ProjectedEvent<'a> {
    fields: &'static [ShownField],
    seen: PeerVisibility<'a>,
    out: &'a mut Vec<u8>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum EventKey {
    Type,
    Object,
    #[serde(other)]
    Other,
}

impl ProjectedEvent<'_> {
    /// Writes an event up to its object, and gives what is shown of that.
    fn begin(&mut self, event: EventType) -> Projected<'_> {
        self.out.extend_from_slice(b"{\"type\":");
        write(self.out, &event);
        self.out.extend_from_slice(b",\"object\":");
        let fields = match event {
            EventType::Added | EventType::Modified | EventType::Deleted => self.fields,
            EventType::Bookmark => BOOKMARK,
            EventType::Error => STATUS,
        };
        Projected { shape: Shape::Object(fields), seen: self.seen, out: self.out }
    }
}

impl<'de> DeserializeSeed<'de> for ProjectedEvent<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ProjectedEvent<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event of a watch")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
        let before = self.out.len();
        let (mut event, mut shown) = (None, None);
        // an apiserver writes the type first; where it does not, the object waits for it
        let mut waiting: Option<&RawValue> = None;
        while let Some(key) = map.next_key::<EventKey>()? {
            match (key, event) {
                (EventKey::Type, None) => event = Some(map.next_value::<EventType>()?),
                (EventKey::Type, Some(_)) => return Err(A::Error::duplicate_field("type")),
                (EventKey::Object, _) if shown.is_some() || waiting.is_some() => {
                    return Err(A::Error::duplicate_field("object"));
                }
                (EventKey::Object, Some(event)) => shown = Some(map.next_value_seed(self.begin(event))?),
                (EventKey::Object, None) => waiting = Some(map.next_value()?),
                (EventKey::Other, _) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let event = event.ok_or_else(|| A::Error::missing_field("type"))?;
        if let Some(object) = waiting {
            shown = Some(self.begin(event).deserialize(object).map_err(A::Error::custom)?);
        }
        let shown = shown.ok_or_else(|| A::Error::missing_field("object"))?;
        if shown {
            self.out.extend_from_slice(b"}\n");
        } else {
            self.out.truncate(before);
        }
        Ok(shown)
    }
}
