//! The protocol versions spoken, by the level byte that CONNECT carries.

use std::fmt;

/// A version of the protocol. Ordered by age, so `version >= ProtocolVersion::V5` reads as it should.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProtocolVersion {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V3_1,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V3_1_1,
    /// MQTT 5: protocol name `MQTT`, level 5.
    V5,
}

impl ProtocolVersion {
    /// The Protocol Level (3.1.1) or Protocol Version (5) byte of CONNECT.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V3_1 => 3,
            Self::V3_1_1 => 4,
            Self::V5 => 5,
        }
    }

    /// The Protocol Name that CONNECT carries at this level [MQTT-3.1.2-1].
    #[must_use]
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V3_1 => "MQIsdp",
            Self::V3_1_1 | Self::V5 => "MQTT",
        }
    }

    /// The version that goes by this name and level; a bridge's level with bit 0x80 set is none of them.
    #[must_use]
    pub fn from_name_and_level(name: &str, level: u8) -> Option<Self> {
        match (name, level) {
            ("MQTT", 5) => Some(Self::V5),
            ("MQTT", 4) => Some(Self::V3_1_1),
            ("MQIsdp", 3) => Some(Self::V3_1),
            _ => None,
        }
    }

    /// Packets have properties, and every acknowledgement a Reason Code.
    #[must_use]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3_1 => "3.1",
            Self::V3_1_1 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_level_belong_together() {
        for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            let found = ProtocolVersion::from_name_and_level(version.protocol_name(), version.level());
            assert_eq!(found, Some(version));
        }
        for (name, level) in
            [("MQTT", 3), ("MQIsdp", 4), ("mqtt", 4), ("MQTT", 6), ("MQTT", 0x84), ("MQIsdp", 0x83)]
        {
            assert_eq!(ProtocolVersion::from_name_and_level(name, level), None, "{name} {level}");
        }
    }
}
