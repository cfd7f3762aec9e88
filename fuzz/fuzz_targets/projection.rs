//! Whatever an apiserver says, a peer is given nothing but the listed fields of what it is shared, and a relay takes nothing else of
//! what a peer gives; what cannot be parsed ends with an error.
//!
//! The first bytes of an input choose what is asked; the others are the answer as it is, or edits of one that an apiserver gives.

#![no_main]

#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/support/projected.rs"]
mod projected;

use bytes::Bytes;
use isthmus::roles::api::projection::{AnswerForm, Visible};
use isthmus::server::misread::Misread;
use isthmus::server::stream::StreamTransform as _;
use isthmus::wire::share::Share;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use projected::{NETWORK, SHOWN_OF, events_of, full, initial_events, is_shown, is_shown_event, is_shown_list, list_of, view};

const FORMS: [AnswerForm; 3] = [AnswerForm::Object, AnswerForm::List, AnswerForm::Watch];

/// What edits put into a text.
const FRAGMENTS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "1e999",
    "\n",
    " ",
    "\u{c}",
    "\\u006e",
    "\\ud800",
    "\u{e9}",
    "\"metadata\":{",
    "\"items\":[",
    "\"namespace\":\"hidden\"",
    "\"topology.istio.io/network\":\"network-east\"",
    "\"spec\":{\"network\":\"network-east\"}",
    "\"type\":\"BOOKMARK\"",
    "\"labels\":null",
];

fuzz_target!(|input: &[u8]| {
    let [choice, more, size, objects, rest @ ..] = input else { return };
    let (choice, more) = (usize::from(*choice), usize::from(*more));
    let (group, resource, _) = SHOWN_OF[choice % SHOWN_OF.len()];
    let form = FORMS[more % FORMS.len()];
    // as an api-proxy shows it to a peer, or as a relay takes it from one, which says itself which namespaces it shares
    let is_relay = more & 0x40 != 0;
    let share = if is_relay || more & 0x10 == 0 { Share::everything() } else { some_namespaces() };
    let shown = if is_relay {
        Visible::of_peer(group, resource, NETWORK.parse().ok().as_ref())
    } else {
        Visible::of(group, resource, &view(share.clone(), Some(NETWORK)))
    };
    let Some(shown) = shown else { panic!("{resource}") };
    let text = if more & 0x20 == 0 { edited(template(resource, form, *objects), rest) } else { rest.to_vec() };

    let (whole, outcome) = given(&shown, form, [&text[..]]);
    let (pieces, same) = given(&shown, form, text.chunks(usize::from(*size) * 16 + 1));
    assert_eq!(outcome.is_ok(), same.is_ok(), "{outcome:?} and in pieces {same:?}");
    assert!(outcome.is_err() || whole == pieces, "in pieces it is something else");
    assert!(outcome.is_err() || can_be_parsed(form, &text), "what cannot be parsed has passed");
    // also what was given before an error
    judge(resource, form, &share, &pieces, outcome.is_ok());
    if form == AnswerForm::List {
        // a watch that begins with what there is
        if let Ok((events, _)) = initial_events(&shown, text.chunks(usize::from(*size) * 16 + 1)) {
            assert!(outcome.is_ok(), "events of a list that does not pass");
            judge(resource, AnswerForm::Watch, &share, events.as_bytes(), true);
        }
    }
});

fn some_namespaces() -> Share {
    let share = json!({ "namespaces": ["shop", "open-*"], "except": ["open-not"] });
    serde_json::from_value(share).unwrap_or_else(|error| panic!("{error}"))
}

/// What an apiserver answers.
fn template(resource: &str, form: AnswerForm, objects: u8) -> Vec<u8> {
    let namespaces = ["shop", "hidden", "open-a", "open-not", "istio-system"];
    let object = |namespace: &&str| {
        let mut object = full(resource);
        object["metadata"]["namespace"] = json!(namespace);
        if resource == "namespaces" {
            object["metadata"]["name"] = json!(namespace);
        }
        object
    };
    let number = usize::from(objects);
    let objects: Vec<Value> = namespaces.iter().cycle().skip(number / 8).take(1 + number % 6).map(object).collect();
    match form {
        AnswerForm::Object => objects[0].to_string(),
        AnswerForm::List => list_of(&objects, number & 0x40 == 0),
        AnswerForm::Watch => events_of(&objects),
    }
    .into_bytes()
}

/// A text with something else in some of its places: four bytes for each.
fn edited(mut text: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    for edit in edits.chunks_exact(4) {
        let [at, further, what, with] = [edit[0], edit[1], edit[2], edit[3]].map(usize::from);
        let at = (at << 8 | further) % (text.len() + 1);
        let end = (at + with % 64).min(text.len());
        match what % 5 {
            0 => drop(text.splice(at..at, FRAGMENTS[with % FRAGMENTS.len()].bytes())),
            1 => drop(text.drain(at..end)),
            2 => drop(text.splice(at..at, text[at..end].to_vec())),
            3 => drop(text.splice(at..end, FRAGMENTS[what / 5 % FRAGMENTS.len()].bytes())),
            _ if at < text.len() => text[at] = edit[3],
            _ => {}
        }
    }
    text
}

/// What a peer is given of a text, and how that ended.
fn given<'a>(
    shown: &Visible,
    form: AnswerForm,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Result<(), Misread>) {
    let (mut projection, mut out) = (shown.projection(form), Vec::new());
    for piece in pieces {
        match projection.push(Bytes::copy_from_slice(piece)) {
            Ok(piece) => out.extend(piece),
            Err(error) => return (out, Err(error)),
        }
    }
    let last = projection.finish();
    let outcome = last.map(|last| out.extend(last));
    (out, outcome)
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

fn can_be_parsed(form: AnswerForm, text: &[u8]) -> bool {
    match form {
        AnswerForm::Object | AnswerForm::List => is_json(text),
        AnswerForm::Watch => {
            let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let (events, rest) = text.split_at(end);
            is_blank(rest) && events.split(|byte| *byte == b'\n').all(|line| is_blank(line) || is_json(line))
        }
    }
}

/// A list that was broken off, as far as it came.
fn as_far_as(text: &[u8]) -> Option<Value> {
    let ends: [&[u8]; 3] = [b"", b"}", b"]}"];
    ends.iter().find_map(|end| serde_json::from_slice(&[text, end].concat()).ok())
}

fn judge(resource: &str, form: AnswerForm, share: &Share, text: &[u8], is_whole: bool) {
    let parse = |text: &[u8]| -> Value { serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}")) };
    match form {
        AnswerForm::Object if text.is_empty() => assert!(!is_whole),
        AnswerForm::Object => is_shared(resource, share, &parse(text)),
        AnswerForm::List if text.is_empty() => assert!(!is_whole),
        AnswerForm::List => {
            let list = if is_whole { Some(parse(text)) } else { as_far_as(text) };
            let list = list.unwrap_or_else(|| panic!("a part of no list: {}", String::from_utf8_lossy(text)));
            for object in is_shown_list(resource, &list) {
                is_shared(resource, share, &object);
            }
        }
        AnswerForm::Watch => {
            assert!(text.is_empty() || text.ends_with(b"\n"), "an event is given in part");
            for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let event = parse(line);
                is_shown_event(resource, &event);
                if !["BOOKMARK", "ERROR"].iter().any(|kind| event["type"] == *kind) {
                    is_shared(resource, share, &event["object"]);
                }
            }
        }
    }
}

/// Asserts that an object has listed fields alone, and is in a namespace that is shared.
fn is_shared(resource: &str, share: &Share, object: &Value) {
    is_shown(resource, object);
    let metadata = &object["metadata"];
    let place = match resource {
        "nodes" | "customresourcedefinitions" => return,
        "namespaces" => &metadata["name"],
        _ => &metadata["namespace"],
    };
    let is_shared = place.as_str().map_or(share.is_everything(), |namespace| share.shows(namespace));
    if !is_shared && resource == "namespaces" && *place == "istio-system" {
        let names: Vec<&String> = metadata.as_object().into_iter().flat_map(|metadata| metadata.keys()).collect();
        assert!(names.iter().all(|name| ["name", "uid", "resourceVersion"].contains(&name.as_str())), "{names:?}");
    } else {
        assert!(is_shared, "{place} is not shared");
    }
}
