//! UNSUBACK.

use super::{PacketType, ReasonCodes};
use crate::codec::primitives::Reader;
use crate::codec::{DecodeError, EncodeError, Frame};
use crate::property::{Carrier, Properties};
use crate::{PacketId, ProtocolVersion};

/// UNSUBACK: the server's answer to UNSUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsubAck<'a> {
    /// Of the UNSUBSCRIBE [MQTT-3.10.4-5].
    pub packet_id: PacketId,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
    /// One for each Topic Filter, in their order [MQTT-3.11.3-1]; none on the wire before MQTT 5.
    pub reason_codes: ReasonCodes<'a>,
}

const CARRIER: Carrier = Carrier::Packet(PacketType::UnsubAck);

impl<'a> UnsubAck<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if !version.is_v5() {
            reader.finish()?;
            return Ok(Self {
                packet_id,
                properties: Properties::default(),
                reason_codes: ReasonCodes::default(),
            });
        }
        let properties = reader.properties(CARRIER)?;
        let reason_codes = ReasonCodes::decode(reader.rest(), PacketType::UnsubAck)?;
        Ok(Self { packet_id, properties, reason_codes })
    }

    pub(crate) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut frame = Frame::new(PacketType::UnsubAck.first_byte());
        frame.add(2);
        if version.is_v5() {
            self.reason_codes.check(PacketType::UnsubAck)?;
            frame.add_properties(&self.properties, CARRIER, version)?;
            frame.add(self.reason_codes.len());
        }
        frame.put_header(out)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        if version.is_v5() {
            self.properties.put(version, out);
            out.extend_from_slice(self.reason_codes.as_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_3_1_1_has_the_identifier_alone() {
        let packet_id = PacketId::new(0x0102).unwrap();
        let reason_codes = ReasonCodes::new(&[0, 0x11]).unwrap();
        let unsuback = UnsubAck { packet_id, properties: Properties::default(), reason_codes };
        let mut out = Vec::new();
        unsuback.encode(ProtocolVersion::V3_1_1, &mut out).unwrap();
        assert_eq!(out, [0xB0, 2, 1, 2]);
        out.clear();
        unsuback.encode(ProtocolVersion::V5, &mut out).unwrap();
        assert_eq!(out, [0xB0, 5, 1, 2, 0, 0, 0x11]);
    }
}
