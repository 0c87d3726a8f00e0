//! PUBACK, PUBREC, PUBREL and PUBCOMP: four packets of one shape.

use super::PacketType;
use crate::codec::primitives::Reader;
use crate::codec::{DecodeError, EncodeError, Frame};
use crate::property::{Carrier, Properties};
use crate::{PacketId, ProtocolVersion, ReasonCode};

/// PUBACK, PUBREC, PUBREL or PUBCOMP: which one is said by the [`super::Packet`] that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// Of the PUBLISH that this is about [MQTT-2.2.1-5].
    pub packet_id: PacketId,
    /// Always Success before MQTT 5.
    pub reason_code: ReasonCode,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement without a word more than needed.
    #[must_use]
    pub fn success(packet_id: PacketId) -> Self {
        Self { packet_id, reason_code: ReasonCode::Success, properties: Properties::default() }
    }

    /// Remaining Length 2: Success. 3: no properties. From 4: with a Property Length.
    #[inline]
    pub(crate) fn decode(
        body: &'a [u8],
        packet_type: PacketType,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut ack = Self::success(reader.packet_id()?);
        if version.is_v5() && !reader.is_empty() {
            ack.reason_code = reader.reason_code(packet_type)?;
            if !reader.is_empty() {
                ack.properties = reader.properties(Carrier::Packet(packet_type))?;
            }
        }
        reader.finish()?;
        Ok(ack)
    }

    pub(crate) fn encode(
        &self,
        packet_type: PacketType,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let Self { packet_id, reason_code, properties } = *self;
        if !reason_code.is_allowed_in(packet_type) {
            return Err(EncodeError::ReasonCode { packet_type, reason_code });
        }
        if !version.is_v5() || properties.is_empty() {
            put_short(packet_type, packet_id, reason_code, version, out);
            return Ok(());
        }
        let mut frame = Frame::new(packet_type.first_byte());
        frame.add(3);
        frame.add_properties(&properties, Carrier::Packet(packet_type), version)?;
        frame.put_header(out)?;
        out.extend_from_slice(&packet_id.get().to_be_bytes());
        out.push(reason_code.as_u8());
        properties.put(version, out);
        Ok(())
    }
}

/// Appends the form without properties: 4 bytes, or 5 where there is a Reason Code to tell.
#[inline]
pub(crate) fn put_short(
    packet_type: PacketType,
    packet_id: PacketId,
    reason_code: ReasonCode,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) {
    let first = packet_type.first_byte();
    let [high, low] = packet_id.get().to_be_bytes();
    if reason_code == ReasonCode::Success || !version.is_v5() {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 3, high, low, reason_code.as_u8()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::FieldError;

    #[test]
    fn short_forms_of_version_5() {
        let decode =
            |body| Ack::decode(body, PacketType::PubAck, ProtocolVersion::V5).map(|ack| ack.reason_code);
        assert_eq!(decode(&[0, 1]), Ok(ReasonCode::Success));
        assert_eq!(decode(&[0, 1, 0x10]), Ok(ReasonCode::NoMatchingSubscribers));
        assert_eq!(decode(&[0, 1, 0x97, 0]), Ok(ReasonCode::QuotaExceeded));
        assert_eq!(decode(&[0, 1, 0x97, 0, 0]), Err(FieldError::TrailingBytes.into()));
        assert_eq!(decode(&[0, 1, 0x97, 1]), Err(FieldError::Truncated.into()));
        assert_eq!(decode(&[0]), Err(FieldError::Truncated.into()));
        assert_eq!(decode(&[0, 0]), Err(DecodeError::ZeroPacketId));
        let unknown = DecodeError::ReasonCode { packet_type: PacketType::PubAck, code: 0x92 };
        assert_eq!(decode(&[0, 1, 0x92]), Err(unknown));
    }

    #[test]
    fn nothing_but_the_identifier_before_version_5() {
        let decode = |body| Ack::decode(body, PacketType::PubRel, ProtocolVersion::V3_1_1).map(|_| ());
        assert_eq!(decode(&[0, 1]), Ok(()));
        assert_eq!(decode(&[0, 1, 0]), Err(FieldError::TrailingBytes.into()));
    }
}
