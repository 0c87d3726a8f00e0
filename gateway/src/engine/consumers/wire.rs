//! Numbers, texts and offsets in a few bytes, for what consumers write often.
//!
//! Numbers are LEB128: seven bits in each byte, the lowest first, the top bit set where more follow. Reading takes nothing on trust:
//! it ends in `None` where bytes are missing or say too much, and reserves no memory by what they claim.

/// Appends a number.
pub(in crate::engine) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends the way from one number to another, in whichever direction.
pub(in crate::engine) fn put_step(out: &mut Vec<u8>, from: u64, to: u64) {
    let step = to.wrapping_sub(from).cast_signed();
    put(out, ((step << 1) ^ (step >> 63)).cast_unsigned());
}

/// Appends a text with its length.
pub(in crate::engine) fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// What is still to be read.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Reader<'a>(pub(in crate::engine) &'a [u8]);

impl<'a> Reader<'a> {
    pub(in crate::engine) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(in crate::engine) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(in crate::engine) fn number_u32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    pub(in crate::engine) fn step(&mut self, from: u64) -> Option<u64> {
        let coded = self.number()?;
        let step = (coded >> 1).cast_signed() ^ -((coded & 1).cast_signed());
        Some(from.wrapping_add(step.cast_unsigned()))
    }

    pub(in crate::engine) fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// How many things follow, each of which takes a byte at least.
    pub(in crate::engine) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= self.0.len())
    }

    /// Whether all is read.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The longest beginning of `text` of at most `max` bytes.
pub(in crate::engine) fn clipped(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_read(number: u64, from: u64, to: u64, text in ".{0,200}") {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            put_step(&mut bytes, from, to);
            put_text(&mut bytes, &text);
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert_eq!(reader.step(from), Some(to));
            prop_assert_eq!(reader.text(), Some(text.as_str()));
            prop_assert!(reader.is_empty());
            prop_assert_eq!(reader.byte(), None);
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_none() {
        assert_eq!(Reader(&[0xff; 9]).number(), None, "it does not end");
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).number(), None);
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader(&most).number(), Some(u64::MAX));
        assert_eq!(Reader(&[5, 1, 2]).count(), None, "five things in two bytes");
    }

    #[test]
    fn a_text_is_clipped_between_characters() {
        assert_eq!(clipped("größe", 4), "grö");
        assert_eq!(clipped("größe", 3), "gr");
        assert_eq!(clipped("a", 128), "a");
    }
}
