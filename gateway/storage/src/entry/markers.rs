//! MessagePack markers and numbers, gathered on the stack.
//!
//! Between the strings of an event lie a dozen markers of a few bytes. Put into a buffer one by one each of them asks for room; gathered here
//! they ask once. Every value takes its shortest form, as `rmp` writes it; a test holds them together.

/// Room for what lies between two strings of an event, and more.
const BYTES_MAX: usize = 48;

/// Bytes to come. What has no room is left out; an event needs 34 bytes at most at a time.
pub(super) struct Markers {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl Markers {
    #[inline]
    pub(super) const fn new() -> Self {
        Self { bytes: [0; BYTES_MAX], len: 0 }
    }

    /// What was gathered.
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some(room) = self.bytes.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut()) {
            *room = bytes;
            self.len += N;
        }
    }

    #[inline]
    fn put_wide<const N: usize>(&mut self, marker: u8, value: [u8; N]) {
        self.put([marker]);
        self.put(value);
    }

    /// An array of fewer than 16 elements begins.
    #[inline]
    pub(super) fn array(&mut self, elements: u8) {
        self.put([0x90 | (elements & 0x0F)]);
    }

    #[inline]
    pub(super) fn bool(&mut self, value: bool) {
        self.put([if value { 0xC3 } else { 0xC2 }]);
    }

    #[inline]
    pub(super) fn uint(&mut self, value: u64) {
        if value < 0x80 {
            self.put([value as u8]);
        } else if let Ok(value) = u8::try_from(value) {
            self.put([0xCC, value]);
        } else if let Ok(value) = u16::try_from(value) {
            self.put_wide(0xCD, value.to_be_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            self.put_wide(0xCE, value.to_be_bytes());
        } else {
            self.put_wide(0xCF, value.to_be_bytes());
        }
    }

    /// A string of this length follows.
    #[inline]
    pub(super) fn str(&mut self, len: u16) {
        match u8::try_from(len) {
            Ok(len) if len < 32 => self.put([0xA0 | len]),
            Ok(len) => self.put([0xD9, len]),
            Err(_) => self.put_wide(0xDA, len.to_be_bytes()),
        }
    }

    /// Bytes of this length follow.
    #[inline]
    pub(super) fn bin(&mut self, len: u32) {
        if let Ok(len) = u8::try_from(len) {
            self.put([0xC4, len]);
        } else if let Ok(len) = u16::try_from(len) {
            self.put_wide(0xC5, len.to_be_bytes());
        } else {
            self.put_wide(0xC6, len.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmp::encode::{write_array_len, write_bin_len, write_bool, write_str_len, write_uint};

    fn gathered(put: impl FnOnce(&mut Markers)) -> Vec<u8> {
        let mut markers = Markers::new();
        put(&mut markers);
        markers.as_bytes().to_vec()
    }

    fn written<E>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(write(&mut bytes).is_ok());
        bytes
    }

    #[test]
    fn every_value_takes_the_form_that_rmp_gives_it() {
        let edges =
            [0, 1, 31, 32, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX];
        for edge in edges {
            assert_eq!(
                gathered(|to| to.uint(edge)),
                written(|to| write_uint(to, edge).map(|_| ())),
                "{edge}"
            );
            if let Ok(len) = u16::try_from(edge) {
                let expected = written(|to| write_str_len(to, u32::from(len)).map(|_| ()));
                assert_eq!(gathered(|to| to.str(len)), expected, "{len}");
            }
            if let Ok(len) = u32::try_from(edge) {
                assert_eq!(
                    gathered(|to| to.bin(len)),
                    written(|to| write_bin_len(to, len).map(|_| ())),
                    "{len}"
                );
            }
        }
        for elements in 0..16 {
            let expected = written(|to| write_array_len(to, u32::from(elements)).map(|_| ()));
            assert_eq!(gathered(|to| to.array(elements)), expected);
        }
        for value in [false, true] {
            assert_eq!(gathered(|to| to.bool(value)), written(|to| write_bool(to, value)));
        }
    }

    #[test]
    fn the_longest_markers_between_two_strings_have_room() {
        let all = gathered(|to| {
            to.array(15);
            to.uint(u64::MAX);
            to.bool(true);
            to.uint(u64::MAX);
            to.uint(u64::MAX);
            to.bin(u32::MAX);
        });
        assert_eq!(all.len(), 1 + 9 + 1 + 9 + 9 + 5);
    }
}
