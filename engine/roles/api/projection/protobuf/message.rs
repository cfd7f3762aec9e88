//! A message, written as the JSON that Go would write of its fields, in the order that Go has.
//!
//! Depth costs no more than the tables have: what is in no table is skipped by its length.

use std::io::Write as _;

use super::table::{Presence, ProtobufField, ProtobufType};
use super::wire::WireFields;
use crate::roles::api::projection::object::{MAX_OBJECT, separate, write_name};
use crate::roles::api::projection::scan;
use crate::server::misread::Misread;
use crate::types::time::Timestamp;

/// First and last second that RFC 3339 can say. The first is Go's for no time.
const NO_TIME: i64 = -62_135_596_800;
const LAST_TIME: i64 = Timestamp::NO_END.as_seconds();

/// Types of an `IntOrString` (k8s.io/apimachinery `pkg/util/intstr`).
const IS_INT: u64 = 0;
const IS_STRING: u64 = 1;

/// Writes these fields of a message as an object.
pub(super) fn write_message(
    message: &[u8],
    fields: &'static [ProtobufField],
    out: &mut Vec<u8>,
) -> Result<(), Misread> {
    out.push(b'{');
    write_fields(message, fields, &mut false, out)?;
    out.push(b'}');
    Ok(())
}

/// The same within an object of which `begun` says whether it has entries already.
pub(super) fn write_fields(
    message: &[u8],
    fields: &'static [ProtobufField],
    begun: &mut bool,
    out: &mut Vec<u8>,
) -> Result<(), Misread> {
    let message = WireFields(message);
    for field in fields {
        write_field(message, field, begun, out)?;
    }
    Ok(())
}

fn write_field(
    message: WireFields<'_>,
    field: &'static ProtobufField,
    begun: &mut bool,
    out: &mut Vec<u8>,
) -> Result<(), Misread> {
    let ProtobufField { number, name, value, presence } = *field;
    let is_written = |is_there: bool, is_filled: bool| match presence {
        Presence::Filled => is_filled,
        Presence::Given => is_there,
        Presence::Always => true,
    };
    match value {
        ProtobufType::Text => {
            let text = message.last_bytes(number)?;
            if is_written(text.is_some(), text.is_some_and(|text| !text.is_empty())) {
                write_name(out, begun, name);
                write_text(text.unwrap_or_default(), out);
            }
        }
        ProtobufType::Bool => {
            let value = message.last_number(number)?.map(|value| value != 0);
            if is_written(value.is_some(), value == Some(true)) {
                write_name(out, begun, name);
                out.extend_from_slice(if value == Some(true) { b"true" } else { b"false" });
            }
        }
        ProtobufType::Int => {
            let value = message.last_number(number)?.map(int).transpose()?;
            if is_written(value.is_some(), value.is_some_and(|value| value != 0)) {
                write_name(out, begun, name);
                write_int(value.unwrap_or_default(), out);
            }
        }
        ProtobufType::Time => {
            let time = message.message(number)?;
            let seconds = time.map(seconds).transpose()?.unwrap_or(NO_TIME);
            if is_written(time.is_some(), seconds != NO_TIME) {
                write_name(out, begun, name);
                write_time(seconds, out);
            }
        }
        ProtobufType::IntOrString => {
            let value = message.message(number)?;
            if is_written(value.is_some(), value.is_some()) {
                write_name(out, begun, name);
                write_int_or_string(value.unwrap_or_default(), out)?;
            }
        }
        ProtobufType::Message(fields) => {
            let value = message.message(number)?;
            if is_written(value.is_some(), value.is_some()) {
                write_name(out, begun, name);
                write_message(value.unwrap_or_default(), fields, out)?;
            }
        }
        ProtobufType::Texts | ProtobufType::Map | ProtobufType::Each(_) => {
            let is_filled = { message }.next_bytes(number)?.is_some();
            if is_written(is_filled, is_filled) {
                write_name(out, begun, name);
                if is_filled {
                    write_all(message, number, value, out)?;
                } else {
                    out.extend_from_slice(b"null");
                }
            }
        }
    }
    Ok(())
}

/// Writes all values that a field has.
fn write_all(mut message: WireFields<'_>, number: u32, value: ProtobufType, out: &mut Vec<u8>) -> Result<(), Misread> {
    let is_map = value == ProtobufType::Map;
    let from = out.len();
    out.push(if is_map { b'{' } else { b'[' });
    let mut begun = false;
    while let Some(one) = message.next_bytes(number)? {
        // an empty one is two bytes, and as JSON many times that
        is_not_too_large(out, from)?;
        separate(out, &mut begun);
        if let ProtobufType::Each(fields) = value {
            write_message(one, fields, out)?;
        } else if is_map {
            let entry = WireFields(one);
            write_text(entry.last_bytes(1)?.unwrap_or_default(), out);
            out.push(b':');
            write_text(entry.last_bytes(2)?.unwrap_or_default(), out);
        } else {
            write_text(one, out);
        }
    }
    out.push(if is_map { b'}' } else { b']' });
    Ok(())
}

/// Asserts that what was written since `begin` is no larger than an object may be.
pub(super) fn is_not_too_large(out: &[u8], begin: usize) -> Result<(), Misread> {
    if out.len() - begin > MAX_OBJECT { Err(Misread::TooLarge(MAX_OBJECT)) } else { Ok(()) }
}

/// Writes a text as Go does, with U+FFFD for each byte that is no UTF-8.
fn write_text(mut text: &[u8], out: &mut Vec<u8>) {
    let mut valid = String::new();
    loop {
        match std::str::from_utf8(text) {
            Ok(rest) if valid.is_empty() => return scan::write(out, rest),
            Ok(rest) => {
                valid.push_str(rest);
                return scan::write(out, &valid);
            }
            Err(error) => {
                let (before, rest) = text.split_at_checked(error.valid_up_to()).unwrap_or_default();
                valid.push_str(std::str::from_utf8(before).unwrap_or_default());
                valid.push(char::REPLACEMENT_CHARACTER);
                text = rest.get(1..).unwrap_or_default();
            }
        }
    }
}

/// A number of 32 bits, which is written with 64.
fn int(value: u64) -> Result<i32, Misread> {
    i32::try_from(value.cast_signed()).map_err(|_| Misread::Protobuf)
}

fn write_int(value: i32, out: &mut Vec<u8>) {
    // a number cannot fail to be written into memory
    let _written = write!(out, "{value}");
}

/// The seconds of a `Time`, of which Go takes no parts. An empty one is none.
fn seconds(time: &[u8]) -> Result<i64, Misread> {
    if time.is_empty() {
        return Ok(NO_TIME);
    }
    let seconds = WireFields(time).last_number(1)?.unwrap_or_default().cast_signed();
    if (NO_TIME..=LAST_TIME).contains(&seconds) { Ok(seconds) } else { Err(Misread::Protobuf) }
}

fn write_time(seconds: i64, out: &mut Vec<u8>) {
    if seconds == NO_TIME {
        out.extend_from_slice(b"null");
    } else {
        let _written = write!(out, "\"{}\"", Timestamp::from_seconds(seconds));
    }
}

fn write_int_or_string(value: &[u8], out: &mut Vec<u8>) -> Result<(), Misread> {
    let fields = WireFields(value);
    match fields.last_number(1)?.unwrap_or(IS_INT) {
        IS_INT => write_int(fields.last_number(2)?.map(int).transpose()?.unwrap_or_default(), out),
        IS_STRING => write_text(fields.last_bytes(3)?.unwrap_or_default(), out),
        _ => return Err(Misread::Protobuf),
    }
    Ok(())
}
