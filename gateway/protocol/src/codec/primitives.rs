//! The data representations of MQTT 5, section 1.5: how numbers, strings and binary data lie on the wire.
//!
//! A [`Reader`] never reads past the slice it was given and never copies; the `put_*` functions append to a `Vec`. Neither
//! knows packets.

/// Largest value of a Variable Byte Integer, and so the largest Remaining Length.
pub(crate) const VARINT_MAX: usize = 268_435_455;

/// Why bytes are not the field that should be there. All of these make a Malformed Packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FieldError {
    /// The field runs past the end of its packet or property list.
    #[error("a field runs past the end of what contains it")]
    Truncated,
    /// Something follows the last field.
    #[error("bytes follow the last field")]
    TrailingBytes,
    /// Longer than four bytes, or not the shortest form of its value [MQTT-1.5.5-1].
    #[error("a Variable Byte Integer is too long or not in its shortest form")]
    VariableByteInteger,
    /// Not well-formed UTF-8 [MQTT-1.5.4-1].
    #[error("a string is not well-formed UTF-8")]
    IllFormedUtf8,
    /// U+0000 in a string [MQTT-1.5.4-2].
    #[error("a string contains U+0000")]
    NulCharacter,
}

/// Reads a Variable Byte Integer from the front of `bytes`: its value and length; `None` if more bytes are needed.
#[inline]
pub(crate) fn read_varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, FieldError> {
    match bytes.first() {
        None => Ok(None),
        Some(&first) if first < 0x80 => Ok(Some((usize::from(first), 1))),
        Some(_) => read_long_varint(bytes),
    }
}

fn read_long_varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, FieldError> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            // A last byte of 0 adds nothing: the value has a shorter form.
            return if byte == 0 {
                Err(FieldError::VariableByteInteger)
            } else {
                Ok(Some((value, index + 1)))
            };
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(FieldError::VariableByteInteger) }
}

/// Takes fields off the front of a slice.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, without taking it.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    pub(crate) const fn finish(self) -> Result<(), FieldError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FieldError::TrailingBytes) }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, FieldError> {
        let (&byte, rest) = self.rest.split_first().ok_or(FieldError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, FieldError> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or(FieldError::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(bytes))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, FieldError> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or(FieldError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(bytes))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<usize, FieldError> {
        let (value, length) = read_varint(self.rest)?.ok_or(FieldError::Truncated)?;
        self.take(length)?;
        Ok(value)
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], FieldError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(FieldError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Binary Data: a two-byte length, then the bytes.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], FieldError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A UTF-8 Encoded String, U+0000 not yet looked for: for a caller that looks at every byte anyhow.
    #[inline]
    pub(crate) fn utf8(&mut self) -> Result<&'a str, FieldError> {
        std::str::from_utf8(self.binary()?).map_err(|_| FieldError::IllFormedUtf8)
    }

    /// A UTF-8 Encoded String [MQTT-1.5.4-1], [MQTT-1.5.4-2]. U+FEFF is a character like others [MQTT-1.5.4-3].
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, FieldError> {
        let text = self.utf8()?;
        if has_nul(text) { Err(FieldError::NulCharacter) } else { Ok(text) }
    }
}

/// Whether U+0000 is in there [MQTT-1.5.4-2]. On strings as short as MQTT's this beats a search for the byte.
#[inline]
pub(crate) fn has_nul(text: &str) -> bool {
    any_word(text.as_bytes(), zero_byte)
}

/// Applies `test` to `bytes`, eight at a time; the last eight are looked at once more for what is left over, fewer than eight
/// one by one. Whether any result is not 0.
#[inline]
pub(crate) fn any_word(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    if let Some(&last) = bytes.last_chunk() {
        let (words, _) = bytes.as_chunks();
        return words
            .iter()
            .fold(test(u64::from_ne_bytes(last)), |found, &word| found | test(u64::from_ne_bytes(word)))
            != 0;
    }
    bytes.iter().fold(0, |found, &byte| found | test(u64::from_ne_bytes([byte; 8]))) != 0
}

/// Not 0 exactly if one of the eight bytes is 0.
#[inline]
pub(crate) const fn zero_byte(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    word.wrapping_sub(ONES) & !word & TOPS
}

/// How many bytes `value` takes as a Variable Byte Integer.
#[inline]
#[must_use]
pub const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends `value`, at most [`VARINT_MAX`], in its shortest form.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    debug_assert!(value <= VARINT_MAX, "checked by whoever computed the length");
    let mut rest = value;
    while rest >= 0x80 {
        out.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends Binary Data, or a string's bytes, of at most 65,535 bytes.
#[inline]
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= 0xFFFF, "checked by whoever computed the length");
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_1_5_5_1_shortest_form_and_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, VARINT_MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_len(value));
            assert_eq!(read_varint(&bytes), Ok(Some((value, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(read_varint(&bytes[..cut]), Ok(None), "{value} cut to {cut}");
            }
        }
    }

    #[test]
    fn mqtt_1_5_5_1_longer_forms_are_refused() {
        for bytes in [&[0x80, 0][..], &[0x80, 0x80, 0], &[0xFF, 0x80, 0x80, 0], &[0xFF, 0xFF, 0xFF, 0xFF]] {
            assert_eq!(read_varint(bytes), Err(FieldError::VariableByteInteger), "{bytes:?}");
        }
        // The fourth byte says that a fifth follows: refused without waiting for it.
        assert_eq!(read_varint(&[0xFF, 0xFF, 0xFF, 0x80]), Err(FieldError::VariableByteInteger));
    }

    #[test]
    fn mqtt_1_5_4_strings() {
        let read = |text: &[u8]| {
            let mut bytes = Vec::new();
            put_binary(&mut bytes, text);
            Reader::new(&bytes).string().map(str::to_owned)
        };
        assert_eq!(read("\u{feff}a".as_bytes()), Ok("\u{feff}a".to_owned()));
        assert_eq!(read(b"\xED\xA0\x80"), Err(FieldError::IllFormedUtf8), "surrogate");
        assert_eq!(read(b"\xC0\x80"), Err(FieldError::IllFormedUtf8), "overlong U+0000");
        assert_eq!(read(b"\xF4\x90\x80\x80"), Err(FieldError::IllFormedUtf8), "above U+10FFFF");
        assert_eq!(read(b"a\0b"), Err(FieldError::NulCharacter));
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        assert_eq!(Reader::new(&[]).u8(), Err(FieldError::Truncated));
        assert_eq!(Reader::new(&[1]).u16(), Err(FieldError::Truncated));
        assert_eq!(Reader::new(&[1, 2, 3]).u32(), Err(FieldError::Truncated));
        assert_eq!(Reader::new(&[0, 2, b'a']).binary(), Err(FieldError::Truncated));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(FieldError::Truncated));
        assert_eq!(Reader::new(&[0]).finish(), Err(FieldError::TrailingBytes));
    }
}
