//! JSON as bytes, read from the front: what is not shown is skipped without being decoded, but not without being checked.
//!
//! The grammar is that of RFC 8259. A text of which nothing is shown need not be UTF-8, and a number may be of any size. Depth
//! costs no stack: a bit for each level is kept, which says whether it is an object.

use serde_json::Number;

/// Why a value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnreadJson {
    /// The text ends within it.
    End,
    /// It is not JSON.
    Syntax,
    /// It is JSON of another shape.
    Shape,
}

/// A text of JSON, between its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonText<'a> {
    /// As it came, with the quotes.
    quoted: &'a [u8],
    /// It has no escapes, so that what came is what it means.
    is_plain: bool,
}

impl<'a> JsonText<'a> {
    /// What it means, in UTF-8 where it is plain or is shown.
    pub(super) fn with<T>(self, read: impl FnOnce(&[u8]) -> T) -> Result<T, UnreadJson> {
        if self.is_plain { Ok(read(self.inner())) } else { Ok(read(self.decoded()?.as_bytes())) }
    }

    fn inner(self) -> &'a [u8] {
        self.quoted.get(1..self.quoted.len().saturating_sub(1)).unwrap_or_default()
    }

    fn decoded(self) -> Result<String, UnreadJson> {
        serde_json::from_slice(self.quoted).map_err(|_| UnreadJson::Syntax)
    }

    /// Writes it in the one spelling that all texts have, with quotes.
    pub(super) fn write(self, out: &mut Vec<u8>) -> Result<(), UnreadJson> {
        if self.is_plain {
            if std::str::from_utf8(self.quoted).is_err() {
                return Err(UnreadJson::Syntax);
            }
            out.extend_from_slice(self.quoted);
        } else {
            write(out, self.decoded()?.as_str());
        }
        Ok(())
    }
}

/// Writes a text with quotes.
pub(super) fn write(out: &mut Vec<u8>, text: &str) {
    // a text cannot fail to be written into memory
    let _written = serde_json::to_writer(out, text);
}

/// Reads from the front of a text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// Which brackets are open: a bit for each, set for an object.
#[derive(Default)]
struct OpenBrackets {
    depth: usize,
    last: u64,
    before: Vec<u64>,
}

impl OpenBrackets {
    #[inline]
    fn open(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.before.push(self.last);
        }
        self.last = self.last << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn is_object(&self) -> bool {
        self.last & 1 == 1
    }

    #[inline]
    fn close(&mut self) {
        self.depth -= 1;
        self.last = if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.before.pop().unwrap_or_default()
        } else {
            self.last >> 1
        };
    }
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn taken(&self) -> usize {
        self.at
    }

    /// What is still to be read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// What was read since there were `from` bytes read.
    pub(super) fn since(&self, from: usize) -> &'a [u8] {
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// Skips blanks, and gives the byte that follows without reading it.
    pub(super) fn peek(&mut self) -> Result<u8, UnreadJson> {
        let next = next(self.text, self.at);
        // before an end there were blanks alone
        self.at = next.map_or(self.text.len(), |(at, _)| at);
        next.map(|(_, byte)| byte)
    }

    /// Reads this byte, and the blanks before it.
    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), UnreadJson> {
        self.at = behind(self.text, self.at, wanted)?;
        Ok(())
    }

    /// Reads `null`, `true` or `false`.
    pub(super) fn literal(&mut self, wanted: &[u8]) -> Result<(), UnreadJson> {
        self.at = behind_literal(self.text, self.at, wanted)?;
        Ok(())
    }

    /// Reads a text, whose first quote is next.
    pub(super) fn text(&mut self) -> Result<JsonText<'a>, UnreadJson> {
        let from = self.at;
        let is_plain;
        (self.at, is_plain) = behind_text(self.text, from)?;
        Ok(JsonText { quoted: self.since(from), is_plain })
    }

    /// Reads a number, of which the first byte is next. One at the end of the text is not complete.
    pub(super) fn number(&mut self) -> Result<&'a [u8], UnreadJson> {
        let from = self.at;
        self.at = behind_number(self.text, from)?;
        Ok(self.since(from))
    }

    /// The next key of an object, whose bracket or last value was read, with its colon. `None`: it has ended, and its end was
    /// read.
    pub(super) fn key(&mut self, is_first: &mut bool) -> Result<Option<JsonText<'a>>, UnreadJson> {
        match self.peek()? {
            b'}' => {
                self.at += 1;
                return Ok(None);
            }
            b',' if !*is_first => {
                self.at += 1;
                if self.peek()? != b'"' {
                    return Err(UnreadJson::Syntax);
                }
            }
            b'"' if *is_first => {}
            _ => return Err(UnreadJson::Syntax),
        }
        *is_first = false;
        let key = self.text()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// Whether a list, whose bracket or last value was read, has another value, which is then next. Where not, its end was
    /// read.
    pub(super) fn element(&mut self, is_first: &mut bool) -> Result<bool, UnreadJson> {
        match self.peek()? {
            b']' => {
                self.at += 1;
                return Ok(false);
            }
            b',' if !*is_first => self.at += 1,
            _ if *is_first => {}
            _ => return Err(UnreadJson::Syntax),
        }
        *is_first = false;
        Ok(true)
    }

    /// Reads past one value of any kind and depth, all of which is checked.
    pub(super) fn skip(&mut self) -> Result<(), UnreadJson> {
        self.at = behind_value(self.text, self.at)?;
        Ok(())
    }
}

/// Values that were skipped last, in their order within an object.
///
/// Objects that follow each other have much that is not shown in common: pods of one workload in a list, one pod in a watch. A
/// value that begins with the bytes of an object or a list that was read before is that same value, since its end is within
/// them. It is compared and not read again, which takes a tenth of the time.
#[derive(Debug, Default)]
pub(super) struct SkippedValues {
    values: Vec<Vec<u8>>,
    /// Bytes of all of them.
    bytes: usize,
    next: usize,
}

impl SkippedValues {
    /// Most of them, and most of their bytes.
    const MOST: usize = 256;
    const MOST_BYTES: usize = 128 * 1024;

    /// The next value that is skipped is the first of an object.
    pub(super) fn begin(&mut self) {
        self.next = 0;
    }

    /// Reads past the next value of an object, and remembers it where it is an object or a list.
    pub(super) fn skip(&mut self, scan: &mut Scanner<'_>) -> Result<(), UnreadJson> {
        if !matches!(scan.peek()?, b'{' | b'[') {
            return scan.skip();
        }
        let at = self.next;
        self.next += 1;
        let rest = scan.rest();
        if let Some(known) = self.values.get(at).filter(|known| !known.is_empty() && rest.starts_with(known)) {
            scan.at += known.len();
            return Ok(());
        }
        let from = scan.at;
        scan.skip()?;
        if at == self.values.len() && at < Self::MOST {
            self.values.push(Vec::new());
        }
        if let Some(known) = self.values.get_mut(at) {
            let (value, others) = (scan.since(from), self.bytes - known.len());
            *known = if others + value.len() <= Self::MOST_BYTES { value.to_vec() } else { Vec::new() };
            self.bytes = others + known.len();
        }
        Ok(())
    }
}

// All of these read from `at` on, and give where they ended. They are given places and not a `Scanner`, so that the place is
// in a register.

/// Where the next value ends.
fn behind_value(text: &[u8], mut at: usize) -> Result<usize, UnreadJson> {
    let mut open = OpenBrackets::default();
    let mut byte;
    'value: loop {
        (at, byte) = next(text, at)?;
        match byte {
            b'"' => (at, _) = behind_text(text, at)?,
            b'{' => {
                (at, byte) = next(text, at + 1)?;
                if byte != b'}' {
                    open.open(true);
                    at = behind_key(text, at, byte)?;
                    continue;
                }
                at += 1;
            }
            b'[' => {
                (at, byte) = next(text, at + 1)?;
                if byte != b']' {
                    open.open(false);
                    continue;
                }
                at += 1;
            }
            b't' => at = behind_literal(text, at, b"true")?,
            b'f' => at = behind_literal(text, at, b"false")?,
            b'n' => at = behind_literal(text, at, b"null")?,
            b'-' | b'0'..=b'9' => at = behind_number(text, at)?,
            _ => return Err(UnreadJson::Syntax),
        }
        // what follows it
        while open.depth > 0 {
            (at, byte) = next(text, at)?;
            at += 1;
            match (byte, open.is_object()) {
                (b',', true) => {
                    (at, byte) = next(text, at)?;
                    at = behind_key(text, at, byte)?;
                    continue 'value;
                }
                (b',', false) => continue 'value,
                (b'}', true) | (b']', false) => open.close(),
                _ => return Err(UnreadJson::Syntax),
            }
        }
        return Ok(at);
    }
}

/// The first byte that is no blank, and where it is.
#[inline]
fn next(text: &[u8], at: usize) -> Result<(usize, u8), UnreadJson> {
    let byte = *text.get(at).ok_or(UnreadJson::End)?;
    if byte > b' ' { Ok((at, byte)) } else { next_behind_blanks(text, at) }
}

#[cold]
fn next_behind_blanks(text: &[u8], mut at: usize) -> Result<(usize, u8), UnreadJson> {
    loop {
        let byte = *text.get(at).ok_or(UnreadJson::End)?;
        if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return Ok((at, byte));
        }
        at += 1;
    }
}

#[inline]
fn behind(text: &[u8], at: usize, wanted: u8) -> Result<usize, UnreadJson> {
    let (at, byte) = next(text, at)?;
    if byte == wanted { Ok(at + 1) } else { Err(UnreadJson::Syntax) }
}

#[inline]
fn behind_key(text: &[u8], at: usize, first: u8) -> Result<usize, UnreadJson> {
    if first != b'"' {
        return Err(UnreadJson::Syntax);
    }
    let (at, _) = behind_text(text, at)?;
    behind(text, at, b':')
}

/// Also whether it has no escapes.
#[inline]
fn behind_text(text: &[u8], at: usize) -> Result<(usize, bool), UnreadJson> {
    let at = at + 1 + plain(text.get(at + 1..).unwrap_or_default());
    if text.get(at) == Some(&b'"') { Ok((at + 1, true)) } else { Ok((behind_rest_of_text(text, at)?, false)) }
}

/// The same from the first byte on that is not plain.
#[inline(never)]
fn behind_rest_of_text(text: &[u8], mut at: usize) -> Result<usize, UnreadJson> {
    loop {
        match text.get(at).ok_or(UnreadJson::End)? {
            b'"' => return Ok(at + 1),
            b'\\' => at = behind_escape(text, at + 1)?,
            _ => return Err(UnreadJson::Syntax),
        }
        at += plain(text.get(at..).unwrap_or_default());
    }
}

fn behind_escape(text: &[u8], at: usize) -> Result<usize, UnreadJson> {
    match text.get(at).ok_or(UnreadJson::End)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 1),
        b'u' => {
            let digits = text.get(at + 1..).unwrap_or_default().iter().take(4);
            let count = digits.clone().count();
            match digits.clone().all(u8::is_ascii_hexdigit) {
                true if count == 4 => Ok(at + 5),
                true => Err(UnreadJson::End),
                false => Err(UnreadJson::Syntax),
            }
        }
        _ => Err(UnreadJson::Syntax),
    }
}

fn behind_literal(text: &[u8], at: usize, wanted: &[u8]) -> Result<usize, UnreadJson> {
    let rest = text.get(at..).unwrap_or_default();
    if rest.starts_with(wanted) {
        return Ok(at + wanted.len());
    }
    Err(if wanted.starts_with(rest) { UnreadJson::End } else { UnreadJson::Syntax })
}

fn behind_number(text: &[u8], mut at: usize) -> Result<usize, UnreadJson> {
    let byte = |at: usize| text.get(at).copied().ok_or(UnreadJson::End);
    let behind_digits = |from: usize| {
        let mut at = from;
        while byte(at)?.is_ascii_digit() {
            at += 1;
        }
        if at == from { Err(UnreadJson::Syntax) } else { Ok(at) }
    };
    if byte(at)? == b'-' {
        at += 1;
    }
    let is_zero = byte(at)? == b'0';
    let from = at;
    at = behind_digits(at)?;
    if is_zero && at > from + 1 {
        return Err(UnreadJson::Syntax);
    }
    if byte(at)? == b'.' {
        at = behind_digits(at + 1)?;
    }
    if matches!(byte(at)?, b'e' | b'E') {
        at += 1;
        if matches!(byte(at)?, b'+' | b'-') {
            at += 1;
        }
        at = behind_digits(at)?;
    }
    Ok(at)
}

/// Writes a number in the one spelling that all have.
pub(super) fn write_number(text: &[u8], out: &mut Vec<u8>) -> Result<(), UnreadJson> {
    let is_plain = text.len() <= 18 && text.iter().all(u8::is_ascii_digit);
    if is_plain {
        out.extend_from_slice(text);
        return Ok(());
    }
    let number: Number = serde_json::from_slice(text).map_err(|_| UnreadJson::Syntax)?;
    out.extend_from_slice(number.to_string().as_bytes());
    Ok(())
}

/// How many bytes at the front are plain: those before a quote, a backslash or a control character.
#[inline]
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let is =
        |word: u64, byte: u8| (word ^ (u64::from(byte) * ONES)).wrapping_sub(ONES) & !(word ^ (u64::from(byte) * ONES));
    let found =
        |word: u64| (is(word, b'"') | is(word, b'\\') | (word.wrapping_sub(0x20 * ONES) & !word)) & (0x80 * ONES);
    let (eights, _) = text.as_chunks::<8>();
    let mut at = 0;
    for eight in eights {
        let found = found(u64::from_le_bytes(*eight));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize as _;
    use serde::de::IgnoredAny;

    use super::*;

    /// Whether a text is one value, as another reader of JSON has it.
    fn is_json(text: &[u8]) -> bool {
        let mut reader = serde_json::Deserializer::from_slice(text);
        IgnoredAny::deserialize(&mut reader).is_ok() && reader.end().is_ok()
    }

    fn is_skipped(text: &[u8]) -> Result<bool, UnreadJson> {
        let mut scan = Scanner::new(text);
        scan.skip()?;
        Ok(scan.peek() == Err(UnreadJson::End))
    }

    #[test]
    fn plain_bytes_end_at_the_first_that_is_not_plain() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut text = [b'a'; 20];
                text[at] = byte;
                let is_special = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(plain(&text), if is_special { at } else { 20 }, "{byte} at {at}");
                // whatever follows it
                text[at + 1..].fill(0);
                assert_eq!(plain(&text), if is_special { at } else { (at + 1).min(20) }, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn a_value_that_is_cut_off_has_not_ended_and_is_not_taken_for_another() {
        let text = br#"{"a\u00e9\n":[-1.5e+3,0,{},[],[[{"b":{}}]],true,false,null,"c\\"],"d":12}"#;
        for at in 0..text.len() {
            assert_eq!(Scanner::new(&text[..at]).skip(), Err(UnreadJson::End), "{at}");
        }
        assert_eq!(is_skipped(text), Ok(true));
        // deeper than a word has bits, with both kinds of brackets
        let deep = "[{\"a\":".repeat(200) + "1" + &"}]".repeat(200);
        assert_eq!(is_skipped(deep.as_bytes()), Ok(true));
        for at in (deep.len() - 400)..deep.len() {
            let mut other = deep.clone().into_bytes();
            other[at] ^= b'}' ^ b']';
            assert_eq!(is_skipped(&other), Err(UnreadJson::Syntax), "{at}");
        }
    }

    #[test]
    fn numbers_and_texts_are_written_in_one_spelling() {
        let written = |text: &str| {
            let mut out = Vec::new();
            let padded = format!("{text} ");
            let mut scan = Scanner::new(padded.as_bytes());
            if text.starts_with('"') {
                scan.text()?.write(&mut out)?;
            } else {
                write_number(scan.number()?, &mut out)?;
            }
            Ok(String::from_utf8(out).unwrap())
        };
        for text in ["0", "7", "123456789012345678", "-1", "18446744073709551615", "1.5", "1e3", "-0", "1E-2"] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(written(text), Ok(value.to_string()), "{text}");
        }
        for text in ["1e999", "-", "01", "1.", "1e", ".5", "+1", "-01", "\"\\ud800\"", "\"\\x\"", "\"\u{1}\""] {
            assert_eq!(written(text), Err(UnreadJson::Syntax), "{text}");
        }
        assert_eq!(written("\"\\u0061\\/\u{e9}\\u00e9\""), Ok("\"a/\u{e9}\u{e9}\"".to_owned()));
        let text = JsonText { quoted: b"\"\xff\"", is_plain: true };
        assert_eq!(text.write(&mut Vec::new()), Err(UnreadJson::Syntax));
    }

    fn fragments() -> impl Strategy<Value = String> {
        let fragment = proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\"a\":",
            "\"b\"",
            "\\u00e9",
            "\\ud8",
            "0",
            "1",
            "-",
            ".",
            "e",
            "E+",
            "true",
            "fals",
            "null",
            " ",
            "\n",
            "\u{c}",
            "{}",
            "[]",
            "{\"a\":1}",
            "[1,2]",
            "\u{e9}",
            "\u{0}",
            "aaaaaaaaaaaaaaaa",
        ]);
        proptest::collection::vec(fragment, 0..12).prop_map(|fragments| fragments.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

        #[test]
        fn what_is_skipped_is_json_and_nothing_else_is(text in fragments()) {
            let text = format!("{text} ");
            prop_assert_eq!(is_skipped(text.as_bytes()) == Ok(true), is_json(text.as_bytes()), "{}", text);
            let within = format!("[{text},{{\"a\":{text}}}] ");
            prop_assert_eq!(is_skipped(within.as_bytes()) == Ok(true), is_json(within.as_bytes()), "{}", within);
        }

        #[test]
        fn what_was_skipped_before_makes_no_difference(texts in proptest::collection::vec(fragments(), 0..6)) {
            let mut known = SkippedValues::default();
            // twice, so that each is known once
            for text in texts.iter().chain(&texts) {
                known.begin();
                for text in [format!("[{text}] "), format!("{{\"a\":{text}}}]"), format!("[{text}")] {
                    let (mut with, mut without) = (Scanner::new(text.as_bytes()), Scanner::new(text.as_bytes()));
                    prop_assert_eq!(known.skip(&mut with), without.skip());
                    prop_assert_eq!(with.taken(), without.taken(), "{}", text);
                }
            }
            prop_assert_eq!(known.bytes, known.values.iter().map(Vec::len).sum::<usize>());
        }
    }
}
