//! Whatever bytes an apiserver gives for a list in protobuf, they become JSON of which a peer is given listed fields alone, or an
//! error, however they are cut.
//!
//! The first bytes of an input choose what is asked; the others are the answer, a list in one, an object of one, or edits of a list
//! that an apiserver gives.

#![no_main]

#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/support/projected.rs"]
mod projected;
#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/support/protobuf.rs"]
mod protobuf;

use bytes::Bytes;
use isthmus::roles::api::projection::{AnswerForm, KINDS_IN_PROTOBUF, ProtobufKind};
use isthmus::server::misread::Misread;
use isthmus::server::stream::StreamTransform as _;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

use projected::{full, initial_events, is_shown_event, is_shown_list, shown};
use protobuf::{Encoder, IN_PROTOBUF, answer, bytes, held, list_in_protobuf};

/// What edits put into bytes.
const FRAGMENTS: [&[u8]; 16] = [
    b"",
    b"\0",
    b"\x80",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x0a\0",
    b"\x12\0",
    b"\x0b",
    b"\x0c",
    b"\x08\x01",
    b"\x1a\x03\xe2\x82<",
    b"\x0a\x06hidden",
    b"\x5a\x04\x0a\x02\"\\",
    b"\x4a\x02\x08\x01",
    b"\x22\x02\x08\x02",
    b"k8s\0",
];

fuzz_target!(|input: &[u8]| {
    let [choice, more, size, objects, rest @ ..] = input else { return };
    let kind = &KINDS_IN_PROTOBUF[usize::from(*choice) % KINDS_IN_PROTOBUF.len()];
    let Some((resource, name, api_version)) = IN_PROTOBUF.into_iter().find(|(resource, ..)| *resource == kind.resource)
    else {
        panic!("{}", kind.resource)
    };
    let of_list = |raw: &[u8]| answer(api_version, kind.list, raw);
    let text = match more % 4 {
        0 => rest.to_vec(),
        1 => of_list(rest),
        2 => {
            let mut raw = Vec::new();
            bytes(2, rest, &mut raw);
            of_list(&raw)
        }
        _ => {
            let objects = vec![held(name, &full(resource)); usize::from(*objects) % 4];
            let encoder = if more & 4 == 0 { Encoder::Go } else { Encoder::Other };
            edited(list_in_protobuf(resource, &json!({ "resourceVersion": "9" }), &objects, encoder), rest)
        }
    };
    let (whole, cut) = (as_json(kind, [&text[..]]), as_json(kind, text.chunks(usize::from(*size) * 16 + 1)));
    assert_eq!(whole.is_ok(), cut.is_ok(), "{whole:?} and in chunks {cut:?}");
    let (Ok(whole), Ok(cut)) = (whole, cut) else { return };
    assert_eq!(whole, cut, "in chunks it is something else");
    let given = projected::projected(&shown(resource), AnswerForm::List, [&whole[..]]);
    let given = given.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&whole)));
    let list: Value = serde_json::from_str(&given).unwrap_or_else(|error| panic!("{error}: {given}"));
    is_shown_list(resource, &list);
    if let Ok((events, _)) = initial_events(&shown(resource), [&whole[..]]) {
        for line in events.lines() {
            is_shown_event(resource, &serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        }
    }
});

fn as_json<'a>(kind: &'static ProtobufKind, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, Misread> {
    let (mut list, mut out) = (kind.list_as_json(), Vec::new());
    for chunk in chunks {
        out.extend(list.push(Bytes::copy_from_slice(chunk))?);
    }
    out.extend(list.finish()?);
    Ok(out)
}

/// Bytes with something else in some of their places: four bytes for each.
fn edited(mut text: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    for edit in edits.chunks_exact(4) {
        let [at, further, what, with] = [edit[0], edit[1], edit[2], edit[3]].map(usize::from);
        let at = (at << 8 | further) % (text.len() + 1);
        let end = (at + with % 64).min(text.len());
        match what % 5 {
            0 => drop(text.splice(at..at, FRAGMENTS[with % FRAGMENTS.len()].iter().copied())),
            1 => drop(text.drain(at..end)),
            2 => drop(text.splice(at..at, text[at..end].to_vec())),
            3 => drop(text.splice(at..end, FRAGMENTS[what / 5 % FRAGMENTS.len()].iter().copied())),
            _ if at < text.len() => text[at] = edit[3],
            _ => {}
        }
    }
    text
}
