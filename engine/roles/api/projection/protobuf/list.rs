//! A list, taken apart while it comes.

use bytes::Bytes;

use super::envelope::{CONTENT_ENCODING, CONTENT_TYPE, MAGIC, RAW, TYPE_META, is_of};
use super::message::{is_not_too_large, write_message};
use super::table::{LIST_META, ProtobufKind};
use super::wire::{WireBody, WireHead, WireValue};
use crate::roles::api::projection::object::{MAX_OBJECT, SHOWN_PART};
use crate::server::misread::Misread;
use crate::server::stream::StreamTransform;

// fields of a list, which are the same for every kind
const METADATA: u32 = 1;
const ITEMS: u32 = 2;

/// A list of one kind in protobuf on its way to be one in JSON.
#[derive(Debug)]
pub struct ProtobufList {
    kind: &'static ProtobufKind,
    at: EnvelopePosition,
    has_metadata: bool,
    items: WrittenItems,
    /// The beginning of what has not come whole.
    held: Vec<u8>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EnvelopePosition {
    Magic,
    /// Which kind it is.
    TypeMeta,
    /// The list, or what may come before it.
    Raw,
    /// The list has so many bytes more.
    List(u64),
    /// What may come behind the list.
    Behind,
}

/// What was written of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WrittenItems {
    None,
    /// The last one is not written yet.
    Begun,
    All,
}

impl ProtobufKind {
    /// A list of this kind as JSON.
    pub fn list_as_json(&'static self) -> ProtobufList {
        ProtobufList {
            kind: self,
            at: EnvelopePosition::Magic,
            has_metadata: false,
            items: WrittenItems::None,
            held: Vec::new(),
        }
    }
}

impl ProtobufList {
    /// Takes what is complete from the front; gives how many bytes that were.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Misread> {
        let mut rest = bytes;
        if self.at == EnvelopePosition::Magic {
            let Some((magic, behind)) = rest.split_at_checked(MAGIC.len()) else {
                return if MAGIC.starts_with(rest) { Ok(0) } else { Err(Misread::Protobuf) };
            };
            if magic != MAGIC {
                return Err(Misread::Protobuf);
            }
            (self.at, rest) = (EnvelopePosition::TypeMeta, behind);
        }
        loop {
            if self.at == EnvelopePosition::List(0) {
                self.end_list(out);
            }
            let Some(head) = WireHead::read(rest)? else { break };
            let whole = head.whole();
            if let EnvelopePosition::List(left) = &mut self.at {
                if whole > *left {
                    return Err(Misread::Protobuf);
                }
            } else if let (RAW, WireBody::Bytes(length)) = (head.number, head.body) {
                if self.at != EnvelopePosition::Raw {
                    return Err(Misread::Protobuf);
                }
                self.at = EnvelopePosition::List(length);
                rest = rest.get(head.length..).unwrap_or_default();
                continue;
            }
            if whole > MAX_OBJECT as u64 {
                return Err(Misread::TooLarge(MAX_OBJECT));
            }
            let Some(((number, value), behind)) = head.field(rest) else { break };
            rest = behind;
            if let EnvelopePosition::List(left) = &mut self.at {
                *left -= whole;
                self.of_list(number, value, out)?;
            } else {
                self.of_envelope(number, value, out)?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn of_envelope(&mut self, number: u32, value: WireValue<'_>, out: &mut Vec<u8>) -> Result<(), Misread> {
        match (number, value) {
            (TYPE_META, WireValue::Bytes(type_meta)) if self.at == EnvelopePosition::TypeMeta => {
                let ProtobufKind { api_version, list, .. } = self.kind;
                is_of(type_meta, api_version, list)?;
                // neither needs escapes
                out.extend_from_slice(format!("{{\"kind\":\"{list}\",\"apiVersion\":\"{api_version}\"").as_bytes());
                self.at = EnvelopePosition::Raw;
                Ok(())
            }
            (CONTENT_ENCODING | CONTENT_TYPE, WireValue::Bytes([])) => Ok(()),
            (TYPE_META | RAW | CONTENT_ENCODING | CONTENT_TYPE, _) => Err(Misread::Protobuf),
            _ => Ok(()),
        }
    }

    fn of_list(&mut self, number: u32, value: WireValue<'_>, out: &mut Vec<u8>) -> Result<(), Misread> {
        match (number, value) {
            (METADATA, WireValue::Bytes(metadata)) if !self.has_metadata => {
                self.end_items(out);
                self.has_metadata = true;
                out.extend_from_slice(b",\"metadata\":");
                write_message(metadata, LIST_META, out)
            }
            (ITEMS, WireValue::Bytes(item)) if self.items != WrittenItems::All => {
                out.extend_from_slice(if self.items == WrittenItems::None { b",\"items\":[" } else { b"," });
                self.items = WrittenItems::Begun;
                let begin = out.len();
                write_message(item, self.kind.fields, out)?;
                is_not_too_large(out, begin)
            }
            (METADATA | ITEMS, _) => Err(Misread::Protobuf),
            _ => Ok(()),
        }
    }

    fn end_items(&mut self, out: &mut Vec<u8>) {
        if self.items == WrittenItems::Begun {
            out.push(b']');
            self.items = WrittenItems::All;
        }
    }

    fn end_list(&mut self, out: &mut Vec<u8>) {
        self.end_items(out);
        if !self.has_metadata {
            out.extend_from_slice(b",\"metadata\":{}");
        }
        if self.items == WrittenItems::None {
            out.extend_from_slice(b",\"items\":[]");
        }
        self.at = EnvelopePosition::Behind;
    }
}

impl StreamTransform for ProtobufList {
    fn push(&mut self, chunk: Bytes) -> Result<Bytes, Misread> {
        let mut out = Vec::with_capacity(chunk.len() / SHOWN_PART);
        if self.held.is_empty() {
            let taken = self.take(&chunk, &mut out)?;
            self.held.extend_from_slice(chunk.get(taken..).unwrap_or_default());
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(&chunk);
            let taken = self.take(&held, &mut out)?;
            held.drain(..taken);
            // a long object leaves no room behind
            self.held = if held.is_empty() { Vec::new() } else { held };
        }
        Ok(out.into())
    }

    fn finish(&mut self) -> Result<Bytes, Misread> {
        let is_whole = self.at == EnvelopePosition::Behind && self.held.is_empty();
        if is_whole { Ok(Bytes::from_static(b"}\n")) } else { Err(Misread::Incomplete) }
    }
}
