//! Bytes of files as text: what editors and shells write beside plain UTF-8 is read, or named.

use std::borrow::Cow;

/// Bytes that are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// A byte, or half of a pair, that belongs to no character.
    #[error("line {line}: expected UTF-8, found a byte that belongs to no character")]
    Byte {
        /// Where, from 1.
        line: usize,
    },
    /// UTF-16 where UTF-8 is wanted.
    #[error("it is UTF-16, as some editors and PowerShell's `>` write it; save it as UTF-8")]
    Utf16,
    /// A mark before text that has none.
    #[error("it begins with a byte order mark; save it as UTF-8 without one")]
    Mark,
}

const UTF_8: &[u8] = b"\xef\xbb\xbf";
const LITTLE: &[u8] = b"\xff\xfe";
const BIG: &[u8] = b"\xfe\xff";

/// The text of a file that someone wrote: UTF-8 with or without its mark, or UTF-16 with its mark.
pub(crate) fn decoded(bytes: &[u8]) -> Result<Cow<'_, str>, NotText> {
    if let Some(units) = bytes.strip_prefix(LITTLE) {
        return utf_16(units, u16::from_le_bytes).map(Cow::Owned);
    }
    if let Some(units) = bytes.strip_prefix(BIG) {
        return utf_16(units, u16::from_be_bytes).map(Cow::Owned);
    }
    utf_8(bytes.strip_prefix(UTF_8).unwrap_or(bytes)).map(Cow::Borrowed)
}

/// The text of what a program wrote: plain UTF-8.
pub(crate) fn plain(bytes: &[u8]) -> Result<&str, NotText> {
    if bytes.starts_with(LITTLE) || bytes.starts_with(BIG) {
        return Err(NotText::Utf16);
    }
    if bytes.starts_with(UTF_8) {
        return Err(NotText::Mark);
    }
    utf_8(bytes)
}

fn utf_8(bytes: &[u8]) -> Result<&str, NotText> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        NotText::Byte { line: before.split(|byte| *byte == b'\n').count() }
    })
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: String = char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).map_while(Result::ok).collect();
    let whole = rest.is_empty() && text.encode_utf16().count() == pairs.len();
    if whole { Ok(text) } else { Err(NotText::Byte { line: text.matches('\n').count() + 1 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_write_is_read_or_named() {
        let little: Vec<u8> =
            LITTLE.iter().copied().chain("a: ü\r\n".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let big: Vec<u8> = BIG.iter().copied().chain("a: ü\r\n".encode_utf16().flat_map(u16::to_be_bytes)).collect();
        for bytes in [&little, &big, &b"\xef\xbb\xbfa: \xc3\xbc\r\n".to_vec(), &b"a: \xc3\xbc\r\n".to_vec()] {
            assert_eq!(decoded(bytes).as_deref(), Ok("a: ü\r\n"));
        }
        assert_eq!(decoded(b"a\nb: \xfc"), Err(NotText::Byte { line: 2 }));
        assert_eq!(decoded(&little[..little.len() - 1]), Err(NotText::Byte { line: 1 }));
        assert_eq!(decoded(b"\xff\xfe\x00\xd8a\0"), Err(NotText::Byte { line: 1 }));
        assert_eq!((plain(&little), plain(b"\xef\xbb\xbf{}")), (Err(NotText::Utf16), Err(NotText::Mark)));
        assert_eq!((plain(b"{}"), plain(b"\n\xfc")), (Ok("{}"), Err(NotText::Byte { line: 2 })));
    }
}
