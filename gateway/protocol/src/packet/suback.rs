//! SUBACK, and the list of Reason Codes that UNSUBACK has too.

use super::PacketType;
use crate::codec::primitives::Reader;
use crate::codec::{DecodeError, EncodeError, Frame};
use crate::property::{Carrier, Properties};
use crate::{PacketId, ProtocolVersion, ReasonCode};

/// SUBACK: the server's answer to SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubAck<'a> {
    /// Of the SUBSCRIBE [MQTT-3.8.4-2].
    pub packet_id: PacketId,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
    /// One for each Topic Filter, in their order [MQTT-3.9.3-1]. Before MQTT 5 every refusal is written as 0x80.
    pub reason_codes: ReasonCodes<'a>,
}

/// Reason Codes as bytes, each a known one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ReasonCodes<'a> {
    bytes: &'a [u8],
}

/// A byte that is no Reason Code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no Reason Code {0:#04x}")]
pub struct UnknownReasonCode(pub u8);

impl<'a> ReasonCodes<'a> {
    /// Reason Codes from their bytes. Which packet may carry them is judged when it is encoded.
    ///
    /// # Errors
    /// The first byte that is no Reason Code.
    pub fn new(bytes: &'a [u8]) -> Result<Self, UnknownReasonCode> {
        match bytes.iter().find(|&&byte| ReasonCode::from_u8(byte).is_none()) {
            Some(&byte) => Err(UnknownReasonCode(byte)),
            None => Ok(Self { bytes }),
        }
    }

    /// The codes in their order.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        self.bytes.iter().filter_map(|&byte| ReasonCode::from_u8(byte))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The codes as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Takes what is left of a packet: at least one code, each one that this packet type may carry.
    pub(super) fn decode(bytes: &'a [u8], packet_type: PacketType) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::NoReasonCode);
        }
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            reader.reason_code(packet_type)?;
        }
        Ok(Self { bytes })
    }

    pub(super) fn check(&self, packet_type: PacketType) -> Result<(), EncodeError> {
        if self.is_empty() {
            return Err(EncodeError::NoReasonCode);
        }
        match self.iter().find(|code| !code.is_allowed_in(packet_type)) {
            Some(reason_code) => Err(EncodeError::ReasonCode { packet_type, reason_code }),
            None => Ok(()),
        }
    }
}

const CARRIER: Carrier = Carrier::Packet(PacketType::SubAck);

impl<'a> SubAck<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = if version.is_v5() { reader.properties(CARRIER)? } else { Properties::default() };
        let reason_codes = ReasonCodes::decode(reader.rest(), PacketType::SubAck)?;
        // 3.1.1 knows the granted QoS and one failure [MQTT-3.9.3-2].
        if let Some(code) = reason_codes.iter().find(|code| !version.is_v5() && code.as_u8() > 0x80) {
            return Err(DecodeError::ReasonCode { packet_type: PacketType::SubAck, code: code.as_u8() });
        }
        Ok(Self { packet_id, properties, reason_codes })
    }

    pub(crate) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.reason_codes.check(PacketType::SubAck)?;
        let mut frame = Frame::new(PacketType::SubAck.first_byte());
        frame.add(2 + self.reason_codes.len());
        frame.add_properties(&self.properties, CARRIER, version)?;
        frame.put_header(out)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        self.properties.put(version, out);
        if version.is_v5() {
            out.extend_from_slice(self.reason_codes.bytes);
        } else {
            out.extend(self.reason_codes.bytes.iter().map(|&code| code.min(0x80)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_before_version_5_are_all_alike() {
        let packet_id = PacketId::new(1).unwrap();
        let reason_codes = ReasonCodes::new(&[0, 2, 0x87, 0x8F]).unwrap();
        let suback = SubAck { packet_id, properties: Properties::default(), reason_codes };
        let mut out = Vec::new();
        suback.encode(ProtocolVersion::V3_1_1, &mut out).unwrap();
        assert_eq!(out, [0x90, 6, 0, 1, 0, 2, 0x80, 0x80]);
        let refused = DecodeError::ReasonCode { packet_type: PacketType::SubAck, code: 0x87 };
        assert_eq!(SubAck::decode(&[0, 1, 0x87], ProtocolVersion::V3_1_1), Err(refused));
    }

    #[test]
    fn codes_are_known_and_the_packets_own() {
        assert_eq!(ReasonCodes::new(&[0, 3]), Err(UnknownReasonCode(3)));
        let foreign = ReasonCodes::new(&[0x11]).unwrap();
        let refused = EncodeError::ReasonCode {
            packet_type: PacketType::SubAck,
            reason_code: ReasonCode::NoSubscriptionExisted,
        };
        assert_eq!(foreign.check(PacketType::SubAck), Err(refused));
        assert_eq!(foreign.check(PacketType::UnsubAck), Ok(()));
        assert_eq!(ReasonCodes::default().check(PacketType::SubAck), Err(EncodeError::NoReasonCode));
    }
}
