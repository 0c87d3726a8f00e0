//! DISCONNECT.

use super::PacketType;
use crate::codec::primitives::Reader;
use crate::codec::{DecodeError, EncodeError, Frame};
use crate::property::{Carrier, Properties};
use crate::{ProtocolVersion, ReasonCode};

/// DISCONNECT: the last packet of a connection. Before MQTT 5 only a client sends it, and it is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnect<'a> {
    /// Success stands for Normal disconnection.
    pub reason_code: ReasonCode,
    /// Session Expiry Interval (from a client), Reason String, Server Reference, User Properties.
    pub properties: Properties<'a>,
}

const CARRIER: Carrier = Carrier::Packet(PacketType::Disconnect);

impl<'a> Disconnect<'a> {
    /// Remaining Length 0: Normal disconnection. 1: no properties. From 2: with a Property Length.
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut disconnect = Self { reason_code: ReasonCode::Success, properties: Properties::default() };
        if version.is_v5() && !reader.is_empty() {
            disconnect.reason_code = reader.reason_code(PacketType::Disconnect)?;
            if !reader.is_empty() {
                disconnect.properties = reader.properties(CARRIER)?;
            }
        }
        reader.finish()?;
        Ok(disconnect)
    }

    pub(crate) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Self { reason_code, properties } = *self;
        if !reason_code.is_allowed_in(PacketType::Disconnect) {
            return Err(EncodeError::ReasonCode { packet_type: PacketType::Disconnect, reason_code });
        }
        let mut frame = Frame::new(PacketType::Disconnect.first_byte());
        if !version.is_v5() || (reason_code == ReasonCode::Success && properties.is_empty()) {
            return frame.put_header(out);
        }
        // The Property Length may be left out where it is 0, but a common client takes a packet without it for a broken one.
        frame.add(1);
        frame.add_properties(&properties, CARRIER, version)?;
        frame.put_header(out)?;
        out.push(reason_code.as_u8());
        properties.put(version, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::FieldError;

    #[test]
    fn short_forms() {
        let decode = |body, version| Disconnect::decode(body, version).map(|packet| packet.reason_code);
        assert_eq!(decode(&[], ProtocolVersion::V5), Ok(ReasonCode::Success));
        assert_eq!(decode(&[4], ProtocolVersion::V5), Ok(ReasonCode::DisconnectWithWill));
        assert_eq!(decode(&[4, 0], ProtocolVersion::V5), Ok(ReasonCode::DisconnectWithWill));
        assert_eq!(decode(&[4, 0, 0], ProtocolVersion::V5), Err(FieldError::TrailingBytes.into()));
        assert_eq!(decode(&[], ProtocolVersion::V3_1_1), Ok(ReasonCode::Success));
        assert_eq!(decode(&[0], ProtocolVersion::V3_1_1), Err(FieldError::TrailingBytes.into()));
    }
}
