//! The Packet Identifier.

use std::fmt;
use std::num::NonZeroU16;

/// Names a packet that is to be acknowledged, within one Session and direction. Never 0 [MQTT-2.2.1-3].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for 0.
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number on the wire, never 0.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_names_nothing_and_the_option_is_free() {
        assert_eq!(PacketId::new(0), None);
        assert_eq!(PacketId::new(u16::MAX).map(PacketId::get), Some(u16::MAX));
        assert_eq!(size_of::<Option<PacketId>>(), 2);
    }
}
