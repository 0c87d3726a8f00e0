//! The Topic Name: where a message is published.

use std::fmt;

use super::TopicError;
use crate::codec::primitives::{any_word, zero_byte};

/// A Topic Name: 1 to 65,535 bytes, no wildcards [MQTT-4.7.0-1], no U+0000 [MQTT-4.7.3-2].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks a Topic Name.
    ///
    /// # Errors
    /// [`TopicError`], never `MisplacedWildcard`.
    #[inline]
    pub fn parse(topic: &'a str) -> Result<Self, TopicError> {
        match topic.len() {
            0 => Err(TopicError::Empty),
            1..=0xFFFF if has_reserved(topic.as_bytes()) => Err(reserved(topic)),
            1..=0xFFFF => Ok(Self(topic)),
            _ => Err(TopicError::TooLong),
        }
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Its levels: what stands between the `/`, empty ones included.
    pub fn levels(self) -> impl Iterator<Item = &'a str> + Clone {
        self.0.split('/')
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Whether one of U+0000, `#`, `+` is in there.
#[inline]
fn has_reserved(bytes: &[u8]) -> bool {
    any_word(bytes, |text| {
        // `#` is 0x23 and `+` is 0x2B: one comparison finds both.
        let wildcard = (text & u64::from_ne_bytes([!0x08; 8])) ^ u64::from_ne_bytes([b'#'; 8]);
        zero_byte(text) | zero_byte(wildcard)
    })
}

#[cold]
fn reserved(topic: &str) -> TopicError {
    if topic.as_bytes().contains(&0) { TopicError::NulCharacter } else { TopicError::WildcardInName }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_4_7_0_1_no_wildcard_in_a_name() {
        for topic in ["#", "+", "a/#", "a/+/b", "a+", "a/b#c/ddddddddddddddddddddddddddddd"] {
            assert_eq!(TopicName::parse(topic), Err(TopicError::WildcardInName), "{topic}");
        }
    }

    #[test]
    fn a_reserved_character_is_found_wherever_it_stands() {
        for length in 1..40 {
            for at in 0..length {
                for byte in 0..=0x7F {
                    let mut bytes = vec![b'\x7f'; length];
                    bytes[at] = byte;
                    let topic = String::from_utf8(bytes).unwrap();
                    let refused = TopicName::parse(&topic).is_err();
                    assert_eq!(refused, matches!(byte, 0 | b'#' | b'+'), "{byte:#04x} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn mqtt_4_7_3_bounds_of_a_name() {
        assert_eq!(TopicName::parse(""), Err(TopicError::Empty));
        assert_eq!(TopicName::parse("a\0/+"), Err(TopicError::NulCharacter));
        assert_eq!(TopicName::parse(&"x".repeat(65_536)), Err(TopicError::TooLong));
        assert!(TopicName::parse(&"x".repeat(65_535)).is_ok());
        for topic in ["/", "a", " ", "é/t", "$SYS/x", "\u{feff}", "a//b"] {
            assert_eq!(TopicName::parse(topic).map(TopicName::as_str), Ok(topic));
        }
    }

    #[test]
    fn levels_may_be_empty() {
        let levels = |topic| TopicName::parse(topic).unwrap().levels().collect::<Vec<_>>();
        assert_eq!(levels("/a//b/"), ["", "a", "", "b", ""]);
        assert_eq!(levels("/"), ["", ""]);
    }
}
