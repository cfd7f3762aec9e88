//! Fields of a message of protobuf, read from the front (protobuf.dev/programming-guides/encoding).

use crate::server::misread::Misread;

/// Most bytes of a number.
const MAX_VARINT: usize = 10;

/// A value by its wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireValue<'a> {
    Number(u64),
    /// A text, a message, or bytes.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no field of the tables has.
    Fixed,
}

/// The number of a field, and what it has.
pub(super) type WireField<'a> = (u32, WireValue<'a>);

/// What is in front of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WireHead {
    pub(super) number: u32,
    pub(super) body: WireBody,
    /// Bytes of it.
    pub(super) length: usize,
}

/// What follows the head of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireBody {
    /// Nothing: the number was read with the head.
    Number(u64),
    /// So many bytes.
    Bytes(u64),
    /// So many bytes of a number of fixed size.
    Fixed(u64),
}

impl WireBody {
    pub(super) fn length(self) -> u64 {
        match self {
            Self::Number(_) => 0,
            Self::Bytes(length) | Self::Fixed(length) => length,
        }
    }
}

/// The number at the front, and how many bytes it takes. `None`: the bytes end within it.
#[inline]
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Misread> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(MAX_VARINT) {
        if at + 1 == MAX_VARINT && *byte > 1 {
            return Err(Misread::Protobuf);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    Ok(None)
}

impl WireHead {
    /// That of the field at the front. `None`: the bytes end within it.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Misread> {
        let Some((key, of_key)) = varint(bytes)? else { return Ok(None) };
        let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or(Misread::Protobuf)?;
        let mut length = of_key;
        let body = match key & 7 {
            wire_type @ (0 | 2) => {
                let Some((value, of_value)) = varint(bytes.get(of_key..).unwrap_or_default())? else { return Ok(None) };
                length += of_value;
                if wire_type == 0 { WireBody::Number(value) } else { WireBody::Bytes(value) }
            }
            1 => WireBody::Fixed(8),
            5 => WireBody::Fixed(4),
            // groups, and what no one has defined
            _ => return Err(Misread::Protobuf),
        };
        Ok(Some(Self { number, body, length }))
    }

    /// How many bytes the field has with its head.
    pub(super) fn whole(self) -> u64 {
        self.body.length().saturating_add(u64::try_from(self.length).unwrap_or(u64::MAX))
    }

    /// The field that `bytes` begin with, and what follows it. `None`: not all of it is there.
    #[inline]
    pub(super) fn field(self, bytes: &[u8]) -> Option<(WireField<'_>, &[u8])> {
        let (field, rest) = bytes.split_at_checked(usize::try_from(self.whole()).ok()?)?;
        let value = match self.body {
            WireBody::Number(value) => WireValue::Number(value),
            WireBody::Bytes(_) => WireValue::Bytes(field.get(self.length..)?),
            WireBody::Fixed(_) => WireValue::Fixed,
        };
        Some(((self.number, value), rest))
    }
}

/// The fields of a message that is there as a whole, in their order.
#[derive(Debug, Clone, Copy)]
pub(super) struct WireFields<'a>(pub(super) &'a [u8]);

impl<'a> WireFields<'a> {
    /// The next one. `None`: there are no more.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<WireField<'a>>, Misread> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let head = WireHead::read(self.0)?.ok_or(Misread::Protobuf)?;
        let (field, rest) = head.field(self.0).ok_or(Misread::Protobuf)?;
        self.0 = rest;
        Ok(Some(field))
    }

    /// The value of the next field of this number. `None`: there are no more.
    #[inline]
    fn next_of(&mut self, wanted: u32) -> Result<Option<WireValue<'a>>, Misread> {
        while let Some((number, value)) = self.next()? {
            if number == wanted {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The same of one that has bytes.
    #[inline]
    pub(super) fn next_bytes(&mut self, number: u32) -> Result<Option<&'a [u8]>, Misread> {
        match self.next_of(number)? {
            None => Ok(None),
            Some(WireValue::Bytes(bytes)) => Ok(Some(bytes)),
            Some(WireValue::Number(_) | WireValue::Fixed) => Err(Misread::Protobuf),
        }
    }

    /// The last number in a field, which is the one that counts.
    pub(super) fn last_number(mut self, number: u32) -> Result<Option<u64>, Misread> {
        let mut last = None;
        while let Some(value) = self.next_of(number)? {
            let WireValue::Number(value) = value else { return Err(Misread::Protobuf) };
            last = Some(value);
        }
        Ok(last)
    }

    /// The last bytes in a field, which are those that count of a text.
    pub(super) fn last_bytes(mut self, number: u32) -> Result<Option<&'a [u8]>, Misread> {
        let mut last = None;
        while let Some(bytes) = self.next_bytes(number)? {
            last = Some(bytes);
        }
        Ok(last)
    }

    /// The message in a field, which may be there once.
    pub(super) fn message(mut self, number: u32) -> Result<Option<&'a [u8]>, Misread> {
        let message = self.next_bytes(number)?;
        if self.next_of(number)?.is_some() { Err(Misread::Protobuf) } else { Ok(message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_at_most_ten_bytes_and_64_bits() {
        assert_eq!(varint(&[]), Ok(None));
        assert_eq!(varint(&[0]), Ok(Some((0, 1))));
        assert_eq!(varint(&[0xac, 2, 7]), Ok(Some((300, 2))));
        assert_eq!(varint(&[0x80, 0]), Ok(Some((0, 2))), "longer than it need be, which Go takes");
        let most = [&[0xff; 9][..], &[1]].concat();
        assert_eq!(varint(&most), Ok(Some((u64::MAX, 10))));
        for end in 1..10 {
            assert_eq!(varint(&most[..end]), Ok(None));
        }
        for last in [2, 0x7f, 0x80, 0x81, 0xff] {
            assert_eq!(varint(&[&[0xff; 9][..], &[last, 0]].concat()), Err(Misread::Protobuf), "{last}");
        }
    }

    #[test]
    fn what_is_no_field_is_an_error() {
        let of = |bytes: &[u8]| {
            let (mut fields, mut found) = (WireFields(bytes), Vec::new());
            while let Some((number, value)) = fields.next()? {
                let bytes = if let WireValue::Bytes(bytes) = value { bytes.len() } else { 0 };
                found.push((number, bytes));
            }
            Ok(found)
        };
        let all = [8, 5, 0x12, 2, 1, 2, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4, 0xf8, 0xff, 0xff, 0xff, 0xf, 1];
        assert_eq!(of(&all), Ok(vec![(1, 0), (2, 2), (3, 0), (4, 0), ((1 << 29) - 1, 0)]));
        for end in [1, 3, 4, 5, 7, 14, 16, 19, 21, 25] {
            assert_eq!(of(&all[..end]), Err(Misread::Protobuf), "{end}");
        }
        let too_long = [&[0x12][..], &[0xff; 9], &[1]].concat();
        for (bytes, why) in [
            (&[0x0b, 0x0c][..], "a group"),
            (&[0x0c], "its end"),
            (&[0x0e, 0], "a wire type that is none"),
            (&[0x0f, 0], "another"),
            (&[0, 0], "no number of a field"),
            (&[0x80, 0x80, 0x80, 0x80, 0x10, 0], "too large a number of a field"),
            (&too_long, "longer than there are bytes"),
        ] {
            assert_eq!(of(bytes), Err(Misread::Protobuf), "{why}");
        }
    }
}
