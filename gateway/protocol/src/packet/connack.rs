//! CONNACK.

use super::PacketType;
use crate::codec::primitives::Reader;
use crate::codec::{DecodeError, EncodeError, Frame};
use crate::property::{Carrier, Properties};
use crate::{ProtocolVersion, ReasonCode};

/// CONNACK: the server's answer to CONNECT.
///
/// MQTT 3.1.1 has five reasons to refuse; they are read as, and written for, the Reason Codes that mean the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnAck<'a> {
    /// Session Present: state of an earlier connection goes on. MQTT 3.1 has no such flag.
    pub session_present: bool,
    /// Success, or why not.
    pub reason_code: ReasonCode,
    /// What the server announces.
    pub properties: Properties<'a>,
}

const CARRIER: Carrier = Carrier::Packet(PacketType::ConnAck);

impl<'a> ConnAck<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        let (reason_code, properties) = if version.is_v5() {
            (reader.reason_code(PacketType::ConnAck)?, reader.properties(CARRIER)?)
        } else {
            let code = reader.u8()?;
            let reason_code = from_return_code(code)
                .ok_or(DecodeError::ReasonCode { packet_type: PacketType::ConnAck, code })?;
            (reason_code, Properties::default())
        };
        reader.finish()?;
        // [MQTT-3.2.2-1]; Session Present only beside Success [MQTT-3.2.2-6], and not before 3.1.1.
        let session_present = flags == 1;
        let may_be_present = reason_code == ReasonCode::Success && version != ProtocolVersion::V3_1;
        if flags > 1 || (session_present && !may_be_present) {
            return Err(DecodeError::ConnAckFlags(flags));
        }
        Ok(Self { session_present, reason_code, properties })
    }

    pub(crate) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Self { session_present, reason_code, properties } = *self;
        if !reason_code.is_allowed_in(PacketType::ConnAck) {
            return Err(EncodeError::ReasonCode { packet_type: PacketType::ConnAck, reason_code });
        }
        if session_present && reason_code != ReasonCode::Success {
            return Err(EncodeError::SessionPresentWithError);
        }
        let code = if version.is_v5() { reason_code.as_u8() } else { to_return_code(reason_code) };
        let mut frame = Frame::new(PacketType::ConnAck.first_byte());
        frame.add(2);
        frame.add_properties(&properties, CARRIER, version)?;
        frame.put_header(out)?;
        let flags = session_present && version != ProtocolVersion::V3_1;
        out.extend_from_slice(&[u8::from(flags), code]);
        properties.put(version, out);
        Ok(())
    }
}

/// MQTT 3.1.1, table 3.1.
const fn from_return_code(code: u8) -> Option<ReasonCode> {
    Some(match code {
        0 => ReasonCode::Success,
        1 => ReasonCode::UnsupportedProtocolVersion,
        2 => ReasonCode::ClientIdentifierNotValid,
        3 => ReasonCode::ServerUnavailable,
        4 => ReasonCode::BadUserNameOrPassword,
        5 => ReasonCode::NotAuthorized,
        _ => return None,
    })
}

/// The return code that says most nearly the same; whatever else went wrong, the server is unavailable to this client.
const fn to_return_code(reason_code: ReasonCode) -> u8 {
    match reason_code {
        ReasonCode::Success => 0,
        ReasonCode::UnsupportedProtocolVersion => 1,
        ReasonCode::ClientIdentifierNotValid => 2,
        ReasonCode::BadUserNameOrPassword => 4,
        ReasonCode::NotAuthorized | ReasonCode::Banned | ReasonCode::BadAuthenticationMethod => 5,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_codes_of_3_1_1_survive_the_translation() {
        for code in 0..=5 {
            assert_eq!(from_return_code(code).map(to_return_code), Some(code));
        }
        assert_eq!(from_return_code(6), None);
        assert_eq!(to_return_code(ReasonCode::ServerBusy), 3);
        assert_eq!(to_return_code(ReasonCode::Banned), 5);
    }

    #[test]
    fn mqtt_3_2_2_1_reserved_flags_and_session_present_of_a_refusal() {
        let decode = |body: &[u8], version| ConnAck::decode(body, version).map(|_| ());
        for (body, version) in [
            (&[2, 0, 0][..], ProtocolVersion::V5),
            (&[1, 0x87, 0], ProtocolVersion::V5),
            (&[0x80, 0], ProtocolVersion::V3_1_1),
            (&[1, 5], ProtocolVersion::V3_1_1),
            (&[1, 0], ProtocolVersion::V3_1),
        ] {
            let flags = body[0];
            assert_eq!(decode(body, version), Err(DecodeError::ConnAckFlags(flags)), "{body:?} {version}");
        }
        assert_eq!(decode(&[1, 0], ProtocolVersion::V3_1_1), Ok(()));
        assert!(decode(&[0, 6], ProtocolVersion::V3_1_1).is_err());
        assert!(decode(&[0, 0x8D, 0], ProtocolVersion::V5).is_err());
    }

    #[test]
    fn a_refusal_has_no_session_present() {
        let refusal = ConnAck {
            session_present: true,
            reason_code: ReasonCode::ServerBusy,
            properties: Properties::default(),
        };
        let mut out = vec![7];
        assert_eq!(refusal.encode(ProtocolVersion::V5, &mut out), Err(EncodeError::SessionPresentWithError));
        assert_eq!(out, [7]);
    }
}
