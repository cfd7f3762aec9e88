//! One object, event or part of them: read once, and what is shown of it written as it is read.
//!
//! Nothing is kept but what is written: what is shown is copied as it came, without making values of it, and what is not shown
//! is skipped. Depth costs no stack: what is shown is as deep as its table. Keys and texts with escapes are decoded and
//! written anew, so no key hides behind another spelling.

use std::cell::RefCell;

use super::fields::{BOOKMARK, FAILURE, STATUS};
use super::scan::{JsonText, Scanner, SkippedValues, UnreadJson, write, write_number};
use super::shape::{Shape, ShownField};
use crate::server::misread::Misread;
use crate::wire::share::Share;

/// Most bytes of an object. The apiserver's store takes no more than 1.5 MiB of one, in a shorter form.
pub const MAX_OBJECT: usize = 4 * 1024 * 1024;

/// Of an object about one part in so many is shown: what is written has room for it from the beginning.
pub(super) const SHOWN_PART: usize = 8;

/// What the peer sees, beside the fields of each object.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PeerVisibility<'a> {
    /// Namespaces; `None`: none are looked at.
    pub(super) share: Option<&'a Share>,
    /// Namespace of its istiod.
    pub(super) system: Option<&'a str>,
    /// The cluster's own network.
    pub(super) network: Option<&'a str>,
    /// It is not known, and what an object says of it is shown.
    pub(super) keeps_network: bool,
    /// When all of it counts as created.
    pub(super) created: Option<&'static str>,
    /// What is put behind each version.
    pub(super) mark: Option<&'a str>,
}

impl PeerVisibility<'_> {
    /// Whether an object may be shown whose namespace is not said.
    fn shows_unstated(self) -> bool {
        self.share.is_none_or(Share::is_everything)
    }

    /// What is shown of a field of this shape, whatever an object says there.
    fn set(&self, shape: Shape) -> Option<&str> {
        if shape == Shape::Network {
            self.network
        } else if shape == Shape::Created {
            self.created
        } else {
            None
        }
    }

    /// Whether what an object says there is shown.
    fn takes(self, shape: Shape) -> bool {
        (shape != Shape::Network || self.keeps_network) && (shape != Shape::Created || self.created.is_none())
    }
}

/// How many bytes at the beginning of a text are JSON's blanks, which are fewer than ASCII's.
pub(super) fn blank(text: &[u8]) -> usize {
    text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(text.len())
}

thread_local! {
    /// Of one thread, so that a watch that waits for events holds nothing.
    static SKIPPED: RefCell<SkippedValues> = RefCell::default();
}

impl From<UnreadJson> for Misread {
    fn from(unread: UnreadJson) -> Self {
        match unread {
            UnreadJson::End | UnreadJson::Syntax => Self::Syntax,
            UnreadJson::Shape => Self::Shape,
        }
    }
}

/// Writes what is shown of the object in `text`, which holds nothing else. `false`: it is not shown, and what was written is
/// to be taken back.
pub(super) fn write_object(
    text: &[u8],
    fields: &'static [ShownField],
    seen: PeerVisibility<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Misread> {
    let mut scan = Scanner::new(text);
    if scan.peek() != Ok(b'{') {
        return Err(Misread::Shape);
    }
    let shown = write_next(&mut scan, Shape::Object(fields), seen, out)?;
    is_all(&mut scan)?;
    Ok(shown)
}

/// The same of the value that is next.
pub(super) fn write_next(
    scan: &mut Scanner<'_>,
    shape: Shape,
    seen: PeerVisibility<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, UnreadJson> {
    SKIPPED.with_borrow_mut(SkippedValues::begin);
    Projected { seen, out }.value(scan, shape)
}

/// Asserts that nothing but blanks is left.
fn is_all(scan: &mut Scanner<'_>) -> Result<(), UnreadJson> {
    if scan.peek() == Err(UnreadJson::End) { Ok(()) } else { Err(UnreadJson::Syntax) }
}

/// Begins an entry of an object or a list of which `begun` says whether it has entries already.
pub(super) fn separate(out: &mut Vec<u8>, begun: &mut bool) {
    if *begun {
        out.push(b',');
    }
    *begun = true;
}

/// Names of fields need no escapes.
pub(super) fn write_name(out: &mut Vec<u8>, begun: &mut bool, name: &str) {
    out.extend_from_slice(if *begun { b",\"" } else { b"\"" });
    *begun = true;
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Where what is shown of values is written.
struct Projected<'a> {
    seen: PeerVisibility<'a>,
    out: &'a mut Vec<u8>,
}

impl Projected<'_> {
    /// Writes what is shown of the next value; gives whether the object that holds it may be shown.
    fn value(&mut self, scan: &mut Scanner<'_>, shape: Shape) -> Result<bool, UnreadJson> {
        match scan.peek()? {
            b'"' => self.text(scan.text()?, shape),
            b'{' => self.map(scan, shape),
            b'[' => self.list(scan, shape),
            b'n' => {
                scan.literal(b"null")?;
                Ok(self.null(shape))
            }
            b't' => {
                scan.literal(b"true")?;
                self.out.extend_from_slice(b"true");
                is_plain(shape, "true")
            }
            b'f' => {
                scan.literal(b"false")?;
                self.out.extend_from_slice(b"false");
                is_plain(shape, "false")
            }
            b'-' | b'0'..=b'9' => {
                write_number(scan.number()?, self.out)?;
                // no number is among the values of a table
                is_plain(shape, "")
            }
            _ => Err(UnreadJson::Syntax),
        }
    }

    fn null(&mut self, shape: Shape) -> bool {
        if let Shape::Object(fields) = shape {
            return empty_object(fields, self.seen, self.out);
        }
        self.out.extend_from_slice(b"null");
        is_shown_without(shape, self.seen)
    }

    fn text(&mut self, text: JsonText<'_>, shape: Shape) -> Result<bool, UnreadJson> {
        let shown = match shape {
            Shape::Value | Shape::ResourceVersion => true,
            Shape::OneOf(values) => text.with(|text| values.iter().any(|one| one.as_bytes() == text))?,
            Shape::SharedNamespace => match self.seen.share {
                None => true,
                Some(namespaces) => {
                    text.with(|name| std::str::from_utf8(name).is_ok_and(|name| namespaces.shows(name)))?
                }
            },
            Shape::SystemNamespace => text.with(|text| self.seen.system.map(str::as_bytes) == Some(text))?,
            Shape::Values
            | Shape::Entries { .. }
            | Shape::EntriesOf(_)
            | Shape::Object(_)
            | Shape::Each(_)
            | Shape::Network
            | Shape::Created => return Err(UnreadJson::Shape),
        };
        text.write(self.out)?;
        if let (Shape::ResourceVersion, Some(mark)) = (shape, self.seen.mark)
            && !text.with(|text| matches!(text, b"" | b"0"))?
        {
            // within the quotes
            self.out.pop();
            self.out.extend_from_slice(mark.as_bytes());
            self.out.push(b'"');
        }
        Ok(shown)
    }

    fn list(&mut self, scan: &mut Scanner<'_>, shape: Shape) -> Result<bool, UnreadJson> {
        let shape = match shape {
            Shape::Values => Shape::Value,
            Shape::Each(fields) => Shape::Object(fields),
            Shape::Value
            | Shape::OneOf(_)
            | Shape::Entries { .. }
            | Shape::EntriesOf(_)
            | Shape::Object(_)
            | Shape::Network
            | Shape::Created
            | Shape::SharedNamespace
            | Shape::SystemNamespace
            | Shape::ResourceVersion => return Err(UnreadJson::Shape),
        };
        scan.expect(b'[')?;
        self.out.push(b'[');
        let (mut begun, mut is_first) = (false, true);
        while scan.element(&mut is_first)? {
            // one that is not shown is taken back
            let (before, was_begun) = (self.out.len(), begun);
            separate(self.out, &mut begun);
            if !self.value(scan, shape)? {
                self.out.truncate(before);
                begun = was_begun;
            }
        }
        self.out.push(b']');
        Ok(true)
    }

    fn map(&mut self, scan: &mut Scanner<'_>, shape: Shape) -> Result<bool, UnreadJson> {
        match shape {
            Shape::Entries { but } => self.entries(scan, |key| !but.iter().any(|one| one.as_bytes() == key)),
            Shape::EntriesOf(keys) => self.entries(scan, |key| keys.iter().any(|one| one.as_bytes() == key)),
            Shape::Object(fields) => self.object(scan, fields),
            Shape::Value
            | Shape::OneOf(_)
            | Shape::Values
            | Shape::Each(_)
            | Shape::Network
            | Shape::Created
            | Shape::SharedNamespace
            | Shape::SystemNamespace
            | Shape::ResourceVersion => Err(UnreadJson::Shape),
        }
    }

    fn entries(&mut self, scan: &mut Scanner<'_>, is_shown: impl Fn(&[u8]) -> bool) -> Result<bool, UnreadJson> {
        scan.expect(b'{')?;
        self.out.push(b'{');
        let (mut begun, mut is_first) = (false, true);
        while let Some(key) = scan.key(&mut is_first)? {
            if key.with(&is_shown)? {
                separate(self.out, &mut begun);
                key.write(self.out)?;
                self.out.push(b':');
                self.value(scan, Shape::Value)?;
            } else {
                scan.skip()?;
            }
        }
        self.out.push(b'}');
        Ok(true)
    }

    fn object(&mut self, scan: &mut Scanner<'_>, fields: &'static [ShownField]) -> Result<bool, UnreadJson> {
        scan.expect(b'{')?;
        self.out.push(b'{');
        let (mut begun, mut shown, mut seen) = (false, true, 0_u32);
        let mut is_first = true;
        while let Some(key) = scan.key(&mut is_first)? {
            let known = key.with(|key| fields.iter().enumerate().find(|(_, field)| field.name.as_bytes() == key))?;
            let Some((at, field)) = known.filter(|(_, field)| self.seen.takes(field.shape)) else {
                SKIPPED.with_borrow_mut(|skipped| skipped.skip(scan))?;
                continue;
            };
            if seen >> at & 1 == 1 {
                return Err(UnreadJson::Shape);
            }
            seen |= 1 << at;
            write_name(self.out, &mut begun, field.name);
            let is_text = matches!(field.shape, Shape::Network | Shape::Created);
            let shape = if is_text { Shape::Value } else { field.shape };
            shown &= self.value(scan, shape)?;
        }
        for (_, field) in fields.iter().enumerate().filter(|(at, _)| seen >> at & 1 == 0) {
            shown &= absent(field, self.seen, &mut begun, self.out);
        }
        self.out.push(b'}');
        Ok(shown)
    }
}

/// Whether the object may be shown in which there is this number, or true or false. An error where there is to be something
/// else.
fn is_plain(shape: Shape, value: &str) -> Result<bool, UnreadJson> {
    match shape {
        Shape::Value => Ok(true),
        Shape::OneOf(values) => Ok(values.contains(&value)),
        Shape::Values
        | Shape::Entries { .. }
        | Shape::EntriesOf(_)
        | Shape::Object(_)
        | Shape::Each(_)
        | Shape::Network
        | Shape::Created
        | Shape::SharedNamespace
        | Shape::SystemNamespace
        | Shape::ResourceVersion => Err(UnreadJson::Shape),
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
    if let Some(value) = seen.set(field.shape) {
        write_name(out, begun, field.name);
        write(out, value);
    }
    is_shown_without(field.shape, seen)
}

/// Whether an object may be shown that has no value where one of this shape is expected, or null.
fn is_shown_without(shape: Shape, seen: PeerVisibility<'_>) -> bool {
    match shape {
        Shape::OneOf(_) | Shape::SystemNamespace => false,
        Shape::SharedNamespace => seen.shows_unstated(),
        Shape::Network => seen.network.is_some() || seen.keeps_network,
        Shape::Value
        | Shape::Values
        | Shape::Entries { .. }
        | Shape::EntriesOf(_)
        | Shape::Object(_)
        | Shape::Each(_)
        | Shape::Created
        | Shape::ResourceVersion => true,
    }
}

/// Whether it matters that a field of this shape is not there.
fn decides(shape: Shape, seen: PeerVisibility<'_>) -> bool {
    seen.set(shape).is_some() || !is_shown_without(shape, seen)
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

/// What an event of a watch says of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl EventType {
    const ALL: [Self; 5] = [Self::Added, Self::Modified, Self::Deleted, Self::Bookmark, Self::Error];

    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }

    fn read(scan: &mut Scanner<'_>) -> Result<Self, UnreadJson> {
        if scan.peek()? != b'"' {
            return Err(UnreadJson::Shape);
        }
        scan.text()?
            .with(|text| Self::ALL.into_iter().find(|one| one.name().as_bytes() == text))?
            .ok_or(UnreadJson::Shape)
    }
}

/// Whether the message of a `Status` is for whoever asked: it says what is wrong with the request, and not what goes wrong
/// inside the cluster.
fn is_of_request(status: &[u8]) -> bool {
    let mut scan = Scanner::new(status);
    let mut code = || {
        scan.expect(b'{')?;
        let mut is_first = true;
        while let Some(key) = scan.key(&mut is_first)? {
            if key.with(|key| key == b"code")? && scan.peek()?.is_ascii_digit() {
                return scan.number();
            }
            scan.skip()?;
        }
        Err(UnreadJson::Shape)
    };
    code().is_ok_and(|code| matches!(code, [b'4', _, _]))
}

/// Writes what is shown of an event of a watch, with a newline. `false`: its object is not shown, and nothing is written.
pub(super) fn write_event(
    text: &[u8],
    fields: &'static [ShownField],
    seen: PeerVisibility<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Misread> {
    let before = out.len();
    let mut scan = Scanner::new(text);
    if scan.peek()? != b'{' {
        scan.skip()?;
        return Err(Misread::Shape);
    }
    scan.expect(b'{')?;
    let (mut event, mut shown, mut is_first) = (None, None, true);
    // an apiserver writes the type first; where it does not, the object waits for it
    let mut waiting: Option<&[u8]> = None;
    let mut write_object = |event: EventType, scan: &mut Scanner<'_>| {
        let is_inside = event == EventType::Error && !is_of_request(scan.rest());
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(event.name().as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        let fields = match event {
            EventType::Added | EventType::Modified | EventType::Deleted => fields,
            EventType::Bookmark => BOOKMARK,
            EventType::Error if is_inside => FAILURE,
            EventType::Error => STATUS,
        };
        let shown = write_next(scan, Shape::Object(fields), seen, out)?;
        if is_inside && out.last() == Some(&b'}') {
            out.pop();
            let mut begun = out.last() != Some(&b'{');
            write_name(out, &mut begun, "message");
            out.extend_from_slice(b"\"the apiserver cannot continue this watch\"}");
        }
        Ok::<bool, UnreadJson>(shown)
    };
    while let Some(key) = scan.key(&mut is_first)? {
        match key.with(|key| (key == b"type", key == b"object"))? {
            (true, _) if event.is_some() => return Err(Misread::Shape),
            (true, _) => event = Some(EventType::read(&mut scan)?),
            (_, true) if shown.is_some() || waiting.is_some() => return Err(Misread::Shape),
            (_, true) => {
                if let Some(event) = event {
                    shown = Some(write_object(event, &mut scan)?);
                } else {
                    let from = scan.taken();
                    scan.skip()?;
                    waiting = Some(scan.since(from));
                }
            }
            _ => scan.skip()?,
        }
    }
    is_all(&mut scan)?;
    let event = event.ok_or(Misread::Shape)?;
    if let Some(object) = waiting {
        shown = Some(write_object(event, &mut Scanner::new(object))?);
    }
    let shown = shown.ok_or(Misread::Shape)?;
    if shown {
        out.extend_from_slice(b"}\n");
    } else {
        out.truncate(before);
    }
    Ok(shown)
}
