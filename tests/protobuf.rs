//! Lists that an apiserver gives in protobuf show a peer what they show it in JSON, to the byte.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use isthmus::roles::api::projection::{
    AnswerForm, KINDS, KINDS_IN_PROTOBUF, MAX_OBJECT, Presence, ProtobufField, ProtobufKind, ProtobufType, Shape,
    ShownField, Visible,
};
use isthmus::server::misread::Misread;
use isthmus::server::stream::StreamTransform as _;
use isthmus::wire::share::Share;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use crate::support::projected::{
    NETWORK, OF_NETWORK, full, initial_events, is_shown_event, is_shown_list, projected, shown, view,
};
use crate::support::protobuf::{
    Encoder, IN_PROTOBUF, NO_TIME, NaiveField, answer, bytes, fields, held, kind, list_in_json, list_in_protobuf,
    number,
};

fn kind_of(resource: &str) -> &'static ProtobufKind {
    KINDS_IN_PROTOBUF.iter().find(|kind| kind.resource == resource).unwrap()
}

/// The JSON of a list that comes in these chunks, a chunk of each.
fn as_json<'a>(resource: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Bytes>, Misread> {
    let mut list = kind_of(resource).list_as_json();
    let mut out = Vec::new();
    for chunk in chunks {
        out.push(list.push(Bytes::copy_from_slice(chunk))?);
    }
    out.push(list.finish()?);
    Ok(out)
}

fn text(resource: &str, answer: &[u8]) -> Result<String, Misread> {
    as_json(resource, [answer]).map(|chunks| String::from_utf8(chunks.concat()).unwrap())
}

fn slices(chunks: &[Bytes]) -> impl Iterator<Item = &[u8]> {
    chunks.iter().map(AsRef::as_ref)
}

fn at<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// What is shown by a path: what kind of value there is.
fn shown_values(fields: &[ShownField], path: &str, found: &mut BTreeMap<String, &'static str>) {
    for field in fields {
        let path = format!("{path}.{}", field.name);
        let kind = match field.shape {
            Shape::Object(fields) => {
                shown_values(fields, &path, found);
                "object"
            }
            Shape::Each(fields) => {
                shown_values(fields, &path, found);
                "objects"
            }
            Shape::Values => "texts",
            Shape::Entries { .. } | Shape::EntriesOf(_) => "map",
            Shape::Value
            | Shape::OneOf(_)
            | Shape::Network
            | Shape::Created
            | Shape::SharedNamespace
            | Shape::SystemNamespace
            | Shape::ResourceVersion => "value",
        };
        found.insert(path, kind);
    }
}

fn read_values(fields: &[ProtobufField], path: &str, found: &mut BTreeMap<String, &'static str>) {
    for field in fields {
        let path = format!("{path}.{}", field.name);
        let kind = match field.value {
            ProtobufType::Message(fields) => {
                read_values(fields, &path, found);
                "object"
            }
            ProtobufType::Each(fields) => {
                read_values(fields, &path, found);
                "objects"
            }
            ProtobufType::Texts => "texts",
            ProtobufType::Map => "map",
            ProtobufType::Text
            | ProtobufType::Bool
            | ProtobufType::Int
            | ProtobufType::Time
            | ProtobufType::IntOrString => "value",
        };
        assert_eq!(found.insert(path.clone(), kind), None, "{path} twice");
    }
}

#[test]
fn what_is_read_is_what_is_shown() {
    let kinds: BTreeSet<_> = KINDS_IN_PROTOBUF.iter().map(|kind| kind.resource).collect();
    assert_eq!(kinds, IN_PROTOBUF.iter().map(|(resource, ..)| *resource).collect());
    for kind in KINDS_IN_PROTOBUF {
        let table = KINDS.iter().find(|table| (table.group, table.resource) == (kind.group, kind.resource)).unwrap();
        let (mut shown, mut read) = (BTreeMap::new(), BTreeMap::new());
        shown_values(table.fields, "", &mut shown);
        read_values(kind.fields, "", &mut read);
        // an apiserver writes objects of a list without their kind
        assert_eq!([".kind", ".apiVersion"].map(|name| shown.remove(name)), [Some("value"); 2]);
        assert_eq!(read, shown, "{}", kind.resource);
        assert_eq!(ProtobufKind::of(kind.group, kind.version, kind.resource), Some(kind));
        assert_eq!(ProtobufKind::of(kind.group, "v1beta1", kind.resource), None);
    }
}

/// Asserts that fields are where they are written down once more, in the order of Go's JSON.
fn are_alike(message: &str, read: &[ProtobufField]) {
    let written: Vec<NaiveField> = fields(message);
    let place = |field: &ProtobufField| written.iter().position(|known| known.name == field.name);
    let places: Vec<usize> = read.iter().map(|field| place(field).unwrap()).collect();
    assert!(places.is_sorted(), "{message}");
    for (field, place) in read.iter().zip(places) {
        let known = &written[place];
        let of = match field.value {
            ProtobufType::Text => "text",
            ProtobufType::Bool => "bool",
            ProtobufType::Int => "int",
            ProtobufType::Time => "time",
            ProtobufType::IntOrString => "port",
            ProtobufType::Texts => "texts",
            ProtobufType::Map => "map",
            ProtobufType::Message(fields) | ProtobufType::Each(fields) => {
                are_alike(known.of, fields);
                known.of
            }
        };
        let presence = match known.written {
            '!' => Presence::Always,
            '?' => Presence::Given,
            _ => Presence::Filled,
        };
        let is_each = matches!(field.value, ProtobufType::Each(_));
        assert_eq!(
            (field.number, of, is_each, field.presence),
            (known.number, known.of, known.is_many, presence),
            "{message} {}",
            field.name
        );
    }
}

#[test]
fn numbers_and_tags_are_those_that_are_written_down_once_more() {
    for kind in KINDS_IN_PROTOBUF {
        are_alike(kind.list.strip_suffix("List").unwrap(), kind.fields);
    }
}

#[test]
fn a_full_object_of_each_kind_is_the_same_in_both() {
    for (resource, kind, _) in IN_PROTOBUF {
        let objects = [held(kind, &full(resource)), held(kind, &full(resource))];
        let metadata = json!({ "resourceVersion": "9", "remainingItemCount": 3 });
        for encoder in [Encoder::Go, Encoder::Other] {
            let read = text(resource, &list_in_protobuf(resource, &metadata, &objects, encoder)).unwrap();
            let json = list_in_json(resource, &metadata, &objects, encoder);
            let of = |text: &str| projected(&shown(resource), AnswerForm::List, [text.as_bytes()]).unwrap();
            assert_eq!(of(&read), of(&json));
            let items = is_shown_list(resource, &serde_json::from_str(&of(&read)).unwrap());
            assert_eq!(items.len(), 2);
            // what is hidden is not even written
            for hidden in ["secret", "managedFields", "finalizers", "externalIPs", "providerID"] {
                assert!(!read.contains(hidden), "{hidden}: {read}");
            }
        }
    }
}

#[test]
fn what_is_not_there_is_what_go_writes_of_it() {
    let of = |resource: &str, item: &[u8]| {
        let (kind, api_version) = kind(resource);
        let mut raw = Vec::new();
        bytes(2, item, &mut raw);
        text(resource, &answer(api_version, &format!("{kind}List"), &raw)).unwrap()
    };
    let head = |kind: &str, version: &str| format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\"");
    for (resource, object) in [
        ("pods", r#"{"metadata":{},"spec":{"containers":null},"status":{}}"#),
        ("nodes", r#"{"metadata":{}}"#),
        ("namespaces", r#"{"metadata":{}}"#),
        ("services", r#"{"metadata":{},"spec":{}}"#),
        ("endpointslices", r#"{"metadata":{},"addressType":"","endpoints":null,"ports":null}"#),
    ] {
        let (kind, version) = kind(resource);
        assert_eq!(of(resource, b""), format!("{},\"items\":[{object}],\"metadata\":{{}}}}\n", head(kind, version)));
        let none = text(resource, &answer(version, &format!("{kind}List"), b"")).unwrap();
        assert_eq!(none, format!("{},\"metadata\":{{}},\"items\":[]}}\n", head(kind, version)));
    }

    // times, in seconds alone
    let service = |time: &[u8]| {
        let (mut metadata, mut service) = (Vec::new(), Vec::new());
        bytes(8, time, &mut metadata);
        bytes(1, &metadata, &mut service);
        of("services", &service)
    };
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (951_826_201, "2000-02-29T12:10:01Z"),
        (NO_TIME + 1, "0001-01-01T00:00:01Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
    ] {
        let mut time = Vec::new();
        number(1, seconds, &mut time);
        number(2, 999_999_999, &mut time);
        assert!(service(&time).contains(&format!("\"metadata\":{{\"creationTimestamp\":\"{text}\"}}")), "{text}");
    }
    assert!(service(b"").contains("\"metadata\":{}"));
    let (mut deleted, mut metadata) = (Vec::new(), Vec::new());
    bytes(9, b"", &mut metadata);
    bytes(1, &metadata, &mut deleted);
    assert!(of("pods", &deleted).contains("\"metadata\":{\"deletionTimestamp\":null}"));

    // texts that are no UTF-8, a character for each byte; of two texts the last
    let (mut labels, mut metadata, mut node) = (Vec::new(), Vec::new(), Vec::new());
    bytes(1, b"a\xff", &mut labels);
    bytes(2, b"\xe2\x82<\xed\xa0\x80\xc3\xa9", &mut labels);
    bytes(11, &labels, &mut metadata);
    bytes(1, b"first", &mut metadata);
    bytes(1, b"last", &mut metadata);
    bytes(1, &metadata, &mut node);
    let labels = "\"labels\":{\"a\u{fffd}\":\"\u{fffd}\u{fffd}<\u{fffd}\u{fffd}\u{fffd}\u{e9}\"}";
    assert!(
        of("nodes", &node).contains(&format!("\"metadata\":{{\"name\":\"last\",{labels}}}")),
        "{}",
        of("nodes", &node)
    );
}

#[test]
fn what_is_no_list_of_its_kind_does_not_pass() {
    let with = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    let pods = |raw: &[u8]| answer("v1", "PodList", raw);
    let pod = |pod: &[u8]| pods(&with(&|raw| bytes(2, pod, raw)));
    let metadata = |metadata: &[u8]| pod(&with(&|pod| bytes(1, metadata, pod)));
    let service = |spec: &[u8]| {
        let service = with(&|service| bytes(2, spec, service));
        answer("v1", "ServiceList", &with(&|raw| bytes(2, &service, raw)))
    };
    let good = pods(b"");
    let type_meta = &good[4..4 + 2 + usize::from(good[5])];
    let good = metadata(&with(&|metadata| bytes(1, b"a", metadata)));
    for (resource, answer, why) in [
        ("pods", b"k8s\x01".to_vec(), "another encoding"),
        ("pods", b"{\"kind\":\"PodList\"}".to_vec(), "JSON"),
        ("pods", answer("v1", "Status", b""), "why there is none"),
        ("pods", answer("v1", "ServiceList", b""), "another kind"),
        ("pods", answer("v2", "PodList", b""), "another version"),
        ("pods", answer("", "", b""), "no kind"),
        ("endpointslices", answer("v1", "EndpointSliceList", b""), "no group"),
        (
            "pods",
            with(&|out| {
                out.extend(b"k8s\0");
                bytes(2, b"", out);
                out.extend(type_meta);
            }),
            "the kind behind the list",
        ),
        ("pods", [&good[..], type_meta].concat(), "two kinds"),
        ("pods", [&good[..], &[0x12, 0]].concat(), "two lists"),
        ("pods", [&good[..], &[0x10, 0]].concat(), "a list that is a number"),
        ("pods", [&good[..], &[0x1a, 1, b'x']].concat(), "another encoding"),
        ("pods", [&good[..], &[0x22, 1, b'x']].concat(), "another content type"),
        ("pods", [&good[..], &[0x0b]].concat(), "a group"),
        ("pods", pods(&[0x0a, 0, 0x0a, 0]), "two metadata of the list"),
        ("pods", pods(&[0x12, 0, 0x0a, 0, 0x12, 0]), "objects before and behind the metadata"),
        ("pods", pods(&[0x10, 1]), "an object that is a number"),
        ("pods", pods(&[0x12, 5, 0]), "an object longer than the list"),
        ("pods", pods(&[0x12]), "an object without its length"),
        ("pods", pods(&[0x0b, 0x0c]), "a group in the list"),
        ("pods", pod(&[0x0a, 0, 0x0a, 0]), "two metadata of an object"),
        ("pods", pod(&[0x08, 0]), "metadata that are a number"),
        ("pods", pod(&[0x12, 3, 0x12, 5, 0]), "a container longer than its pod"),
        ("pods", pod(&[0x1a, 2, 0x80, 0x80]), "a number that ends within"),
        ("pods", pod(&[0x3b, 0x3c]), "a group in an object"),
        ("pods", metadata(&[0x08, 1]), "a name that is a number"),
        ("pods", metadata(&[0x0d, 1, 2, 3, 4]), "a name that is four bytes"),
        ("pods", metadata(&[0x4a, 2, 0x0a, 0]), "seconds that are bytes"),
        ("pods", metadata(&[0x4a, 0, 0x4a, 0]), "two times"),
        (
            "pods",
            metadata(&with(&|out| bytes(9, &with(&|out| number(1, 253_402_300_800, out)), out))),
            "too late a time",
        ),
        ("pods", metadata(&with(&|out| bytes(9, &with(&|out| number(1, NO_TIME - 1, out)), out))), "too early a time"),
        ("services", service(&[0x0a, 2, 0x1a, 0]), "a port that is bytes"),
        ("services", service(&with(&|out| bytes(1, &with(&|out| number(3, 1 << 31, out)), out))), "a port of 33 bits"),
        ("services", service(&[0x0a, 4, 0x22, 2, 0x08, 2]), "a target port of a third type"),
    ] {
        let answer: Vec<u8> = answer;
        for size in [1, 3, answer.len()] {
            assert_eq!(as_json(resource, answer.chunks(size)).map(drop), Err(Misread::Protobuf), "{why}");
        }
    }
    // what is not known is skipped, wherever it is
    let known = text("pods", &good).unwrap();
    let unknown = [0x7a, 2, 1, 2, 0x78, 1, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0x7d, 0, 0, 0, 0];
    let name = with(&|metadata| bytes(1, b"a", metadata));
    let of = with(&|pod| bytes(1, &[&unknown[..], &name, &unknown].concat(), pod));
    let raw = with(&|raw| bytes(2, &[&unknown[..], &of, &unknown].concat(), raw));
    let more = [&pods(&[&unknown[..], &raw, &unknown].concat())[..], &unknown].concat();
    assert_eq!(text("pods", &more).unwrap(), known);
    // an end before the end
    for end in 0..good.len() - 4 {
        assert!(as_json("pods", [&good[..end]]).is_err(), "{end}");
    }
}

#[test]
fn an_object_has_a_size_and_no_more_is_waited_for() {
    let large = |length: usize| {
        // with its head
        let (mut object, mut raw) = (Vec::new(), Vec::new());
        bytes(15, &vec![b'x'; length - 10], &mut object);
        bytes(2, &object, &mut raw);
        assert_eq!(raw.len(), length);
        answer("v1", "PodList", &raw)
    };
    for size in [100_000, 2 * MAX_OBJECT] {
        assert!(as_json("pods", large(MAX_OBJECT).chunks(size)).is_ok());
        let too_large = Err(Misread::TooLarge(MAX_OBJECT));
        assert_eq!(as_json("pods", large(MAX_OBJECT + 1).chunks(size)).map(drop), too_large);
    }
    // of a length that is too large nothing has to come
    let head = &large(MAX_OBJECT + 1)[..40];
    assert_eq!(as_json("pods", [head]).map(drop), Err(Misread::TooLarge(MAX_OBJECT)));
    let mut list = answer("v1", "PodList", b"");
    list.extend([0x7a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    assert_eq!(as_json("pods", [&list[..]]).map(drop), Err(Misread::TooLarge(MAX_OBJECT)));
}

/// An empty entry is two bytes, and as JSON many times that.
#[test]
fn an_object_does_not_become_larger_than_one_may_be() {
    let of = |resource: &str, of_metadata: bool, entry: u8| {
        let (kind, api_version) = kind(resource);
        let entries = [entry, 0].repeat(MAX_OBJECT / 2 - 100);
        let (mut object, mut raw) = (Vec::new(), Vec::new());
        if of_metadata {
            bytes(1, &entries, &mut object);
        } else {
            object.clone_from(&entries);
        }
        bytes(2, &object, &mut raw);
        as_json(resource, [&answer(api_version, &format!("{kind}List"), &raw)[..]]).map(drop)
    };
    let too_large = Err(Misread::TooLarge(MAX_OBJECT));
    // owners of a Pod, and endpoints of a slice
    assert_eq!(of("pods", true, 0x6a), too_large);
    assert_eq!(of("endpointslices", false, 0x12), too_large);
    // texts of which each byte becomes six
    let (mut metadata, mut object, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    bytes(1, &vec![1; MAX_OBJECT / 2], &mut metadata);
    bytes(1, &metadata, &mut object);
    bytes(2, &object, &mut raw);
    assert_eq!(as_json("pods", [&answer("v1", "PodList", &raw)[..]]).map(drop), too_large);
}

fn texts() -> BoxedStrategy<String> {
    let known =
        ["Ready", "Always", "shop", "hidden", "istio-system", "Pod", "0", "7", "é<&>\u{2028}\"\\\u{1}\u{1f600}"];
    prop_oneof![4 => select(known.to_vec()).prop_map(str::to_owned), 1 => Just(String::new()), 1 => ".{0,6}"].boxed()
}

fn keys() -> BoxedStrategy<String> {
    let known = [
        "app",
        OF_NETWORK,
        "networking.istio.io/exportTo",
        "networking.istio.io/traffic-distribution",
        "kubernetes.io/service-name",
        "topology.kubernetes.io/zone",
    ];
    prop_oneof![3 => select(known.to_vec()).prop_map(str::to_owned), 1 => texts()].boxed()
}

/// Anything that Go can hold of a message.
fn message(name: &'static str) -> BoxedStrategy<Value> {
    let each: Vec<_> = fields(name).iter().map(value).collect();
    each.prop_map(move |values| {
        let object: Map<_, _> = fields(name).into_iter().map(|field| field.name.to_owned()).zip(values).collect();
        Value::Object(object.into_iter().filter(|(_, value)| !value.is_null()).collect())
    })
    .boxed()
}

fn value(field: &NaiveField) -> BoxedStrategy<Value> {
    let many = |each: BoxedStrategy<Value>| proptest::collection::vec(each, 0..3).prop_map(Value::Array).boxed();
    let some = match field.of {
        "text" => texts().prop_map(Value::String).boxed(),
        "bool" => any::<bool>().prop_map(Value::Bool).boxed(),
        "int" => prop_oneof![Just(0), Just(8080), any::<i32>()].prop_map(|number| json!(number)).boxed(),
        "time" => prop_oneof![Just(NO_TIME), Just(0), NO_TIME..=253_402_300_799].prop_map(|time| json!(time)).boxed(),
        "port" => prop_oneof![any::<i32>().prop_map(|port| json!(port)), texts().prop_map(Value::String)].boxed(),
        "texts" => many(texts().prop_map(Value::String).boxed()),
        "map" => proptest::collection::btree_map(keys(), texts(), 0..4).prop_map(|map| json!(map)).boxed(),
        of if field.is_many => many(message(of)),
        of => message(of),
    };
    prop_oneof![1 => Just(Value::Null), 3 => some].boxed()
}

fn resources() -> impl Strategy<Value = &'static str> {
    select(IN_PROTOBUF.map(|(resource, ..)| resource).to_vec())
}

fn objects() -> impl Strategy<Value = (&'static str, Vec<Value>)> {
    resources().prop_flat_map(|resource| (Just(resource), proptest::collection::vec(message(kind(resource).0), 0..4)))
}

fn visible(resource: &str, share: Share) -> Visible {
    let kind = kind_of(resource);
    Visible::of(kind.group, kind.resource, &view(share, Some(NETWORK))).unwrap()
}

fn some_namespaces() -> Share {
    serde_json::from_value(json!({ "namespaces": ["shop"], "except": [] })).unwrap()
}

/// Asserts that nothing comes out of bytes but what a peer may be shown, in whatever chunks they come.
fn only_what_is_shown_comes_out(resource: &str, bytes: &[u8], chunks: Vec<&[u8]>) {
    let (whole, cut) = (as_json(resource, [bytes]), as_json(resource, chunks));
    let (Ok(whole), Ok(cut)) = (&whole, &cut) else {
        assert!(whole.is_err() && cut.is_err(), "{whole:?} and in chunks {cut:?}");
        return;
    };
    assert_eq!(whole.concat(), cut.concat());
    let of = |chunks: &[Bytes]| projected(&shown(resource), AnswerForm::List, slices(chunks));
    let list = of(whole);
    assert_eq!(list, of(cut));
    is_shown_list(resource, &serde_json::from_str(&list.unwrap()).unwrap());
    if let Ok(of_some) = projected(&visible(resource, some_namespaces()), AnswerForm::List, slices(whole)) {
        let of_some: Value = serde_json::from_str(&of_some).unwrap();
        for object in of_some["items"].as_array().into_iter().flatten() {
            let namespace = &object["metadata"][if resource == "namespaces" { "name" } else { "namespace" }];
            // of the peer's system namespace there is its name
            let is_system = resource == "namespaces" && namespace == "istio-system";
            assert!(resource == "nodes" || namespace == "shop" || is_system, "{object}");
        }
    }
    if let Ok((events, _)) = initial_events(&shown(resource), slices(cut)) {
        events.lines().for_each(|event| is_shown_event(resource, &serde_json::from_str(event).unwrap()));
    }
}

proptest! {
    #[test]
    fn a_list_in_protobuf_shows_what_it_shows_in_json_however_it_is_cut(
        (resource, objects) in objects(),
        cuts in proptest::collection::vec(any::<Index>(), 0..12),
        size in 1..200_usize,
        shares_all in any::<bool>(),
        as_go in any::<bool>(),
    ) {
        let encoder = if as_go { Encoder::Go } else { Encoder::Other };
        let metadata = json!({ "resourceVersion": "9" });
        let list = list_in_protobuf(resource, &metadata, &objects, encoder);
        let json = list_in_json(resource, &metadata, &objects, encoder);
        let shown = visible(resource, if shares_all { Share::everything() } else { some_namespaces() });
        let of_list = projected(&shown, AnswerForm::List, [json.as_bytes()]).unwrap();
        let of_events = initial_events(&shown, [json.as_bytes()]).unwrap();
        for chunks in [vec![&list[..]], at(&list, &cuts), list.chunks(size).collect()] {
            let read = as_json(resource, chunks).unwrap();
            prop_assert_eq!(&projected(&shown, AnswerForm::List, slices(&read)).unwrap(), &of_list);
            prop_assert_eq!(&initial_events(&shown, slices(&read)).unwrap(), &of_events);
        }
    }

    #[test]
    fn a_list_that_is_cut_short_or_changed_is_an_error_or_shows_nothing_more(
        (resource, objects) in objects(),
        end in any::<Index>(),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in proptest::collection::vec(any::<Index>(), 0..6),
    ) {
        let list = list_in_protobuf(resource, &json!({ "resourceVersion": "9" }), &objects, Encoder::Go);
        // what may come behind the list has four bytes
        let short = &list[..end.index(list.len() - 4)];
        prop_assert!(as_json(resource, [short]).is_err());
        prop_assert!(as_json(resource, at(short, &cuts)).is_err());
        let mut other = list.clone();
        for (at, byte) in changes {
            let at = at.index(other.len());
            other[at] = byte;
        }
        only_what_is_shown_comes_out(resource, &other, at(&other, &cuts));
    }

    #[test]
    fn whatever_bytes_come_nothing_that_is_hidden_comes_out(
        resource in resources(),
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0..0x30_u8], 0..200),
        cuts in proptest::collection::vec(any::<Index>(), 0..6),
    ) {
        only_what_is_shown_comes_out(resource, &bytes, at(&bytes, &cuts));
        // as a list, and as an object of one
        let (kind, api_version) = kind(resource);
        let mut raw = Vec::new();
        crate::support::protobuf::bytes(2, &bytes, &mut raw);
        for raw in [&bytes[..], &raw] {
            let list = answer(api_version, &format!("{kind}List"), raw);
            only_what_is_shown_comes_out(resource, &list, at(&list, &cuts));
        }
    }
}
