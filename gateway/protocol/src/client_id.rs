//! The Client Identifier: what may serve as the name of a Session.
//!
//! Whether a name is *wanted* (reserved prefixes, access lists) is not known here.

use std::fmt;

use crate::ProtocolVersion;
use crate::codec::primitives::has_nul;

/// A Client Identifier that can name a Session: not empty, at most 65,535 bytes, no U+0000 [MQTT-3.1.3-4].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId<'a>(&'a str);

/// Why a string cannot name a Session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClientIdError {
    /// Nothing to go by.
    #[error("the Client Identifier is empty")]
    Empty,
    /// More than a length prefix can say.
    #[error("the Client Identifier is longer than 65,535 bytes")]
    TooLong,
    /// U+0000 is in no MQTT string.
    #[error("the Client Identifier contains U+0000")]
    NulCharacter,
    /// A version 3.1.1 client without a name must ask for a clean Session [MQTT-3.1.3-7]; 3.1 has no empty names.
    #[error("this version wants a Client Identifier here")]
    Required,
}

impl<'a> ClientId<'a> {
    /// Checks a name.
    ///
    /// # Errors
    /// [`ClientIdError`], never `Required`.
    pub fn parse(name: &'a str) -> Result<Self, ClientIdError> {
        match name.len() {
            0 => Err(ClientIdError::Empty),
            1..=0xFFFF if has_nul(name) => Err(ClientIdError::NulCharacter),
            1..=0xFFFF => Ok(Self(name)),
            _ => Err(ClientIdError::TooLong),
        }
    }

    /// Judges the name that a CONNECT brought; `None` when the server has to assign one [MQTT-3.1.3-6].
    ///
    /// MQTT 3.1 ends names at 23 characters. Clients in the field do not, and servers take them, so this one does.
    ///
    /// # Errors
    /// [`ClientIdError`]; the answer is Reason Code 0x85, or return code 2 in 3.1.1 [MQTT-3.1.3-8].
    pub fn from_connect(
        name: &'a str,
        version: ProtocolVersion,
        clean_start: bool,
    ) -> Result<Option<Self>, ClientIdError> {
        if !name.is_empty() {
            return Self::parse(name).map(Some);
        }
        match version {
            ProtocolVersion::V3_1 => Err(ClientIdError::Required),
            ProtocolVersion::V3_1_1 if !clean_start => Err(ClientIdError::Required),
            ProtocolVersion::V3_1_1 | ProtocolVersion::V5 => Ok(None),
        }
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for ClientId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProtocolVersion::{V3_1, V3_1_1, V5};

    #[test]
    fn mqtt_3_1_3_7_an_empty_name_needs_a_clean_session() {
        assert_eq!(ClientId::from_connect("", V3_1, true), Err(ClientIdError::Required));
        assert_eq!(ClientId::from_connect("", V3_1_1, false), Err(ClientIdError::Required));
        assert_eq!(ClientId::from_connect("", V3_1_1, true), Ok(None));
        assert_eq!(ClientId::from_connect("", V5, false), Ok(None));
    }

    #[test]
    fn names_are_bounded_strings() {
        let longest = "x".repeat(65_535);
        assert_eq!(ClientId::from_connect(&longest, V3_1, false), ClientId::parse(&longest).map(Some));
        assert_eq!(ClientId::parse(&"x".repeat(65_536)), Err(ClientIdError::TooLong));
        assert_eq!(ClientId::parse("a\0"), Err(ClientIdError::NulCharacter));
        assert_eq!(ClientId::parse(""), Err(ClientIdError::Empty));
        assert_eq!(ClientId::parse("méter/7 \u{feff}").map(ClientId::as_str), Ok("méter/7 \u{feff}"));
    }
}
