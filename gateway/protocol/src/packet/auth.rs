//! AUTH.

use super::PacketType;
use crate::codec::primitives::Reader;
use crate::codec::{DecodeError, EncodeError, Frame};
use crate::property::{Carrier, Properties};
use crate::{ProtocolVersion, ReasonCode};

/// AUTH: a step of extended authentication. MQTT 5 only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auth<'a> {
    /// Success, Continue authentication or Re-authenticate.
    pub reason_code: ReasonCode,
    /// Has an Authentication Method, unless the packet is empty, which means Success.
    pub properties: Properties<'a>,
}

const CARRIER: Carrier = Carrier::Packet(PacketType::Auth);

impl<'a> Auth<'a> {
    /// Remaining Length 0 is the one short form (section 3.15.2.1).
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        if reader.is_empty() {
            return Ok(Self { reason_code: ReasonCode::Success, properties: Properties::default() });
        }
        let reason_code = reader.reason_code(PacketType::Auth)?;
        let properties = reader.properties(CARRIER)?;
        reader.finish()?;
        Ok(Self { reason_code, properties })
    }

    pub(crate) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Self { reason_code, properties } = *self;
        if !version.is_v5() {
            return Err(EncodeError::NotInThisVersion(PacketType::Auth));
        }
        if !reason_code.is_allowed_in(PacketType::Auth) {
            return Err(EncodeError::ReasonCode { packet_type: PacketType::Auth, reason_code });
        }
        let mut frame = Frame::new(PacketType::Auth.first_byte());
        if reason_code == ReasonCode::Success && properties.is_empty() {
            return frame.put_header(out);
        }
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
    use crate::property::{PropertiesBuf, Property, PropertyError};

    #[test]
    fn empty_means_success_and_a_method_is_required_otherwise() {
        assert_eq!(Auth::decode(&[]).map(|auth| auth.reason_code), Ok(ReasonCode::Success));
        assert_eq!(Auth::decode(&[0x18]), Err(FieldError::Truncated.into()));
        assert_eq!(Auth::decode(&[0x18, 0]), Err(PropertyError::NoAuthenticationMethod.into()));
        assert_eq!(
            Auth::decode(&[0x18, 4, 0x15, 0, 1, b'm']).map(|auth| auth.properties.authentication_method()),
            Ok(Some("m"))
        );
    }

    #[test]
    fn an_auth_without_method_is_not_written() {
        let mut out = Vec::new();
        let mut properties = PropertiesBuf::new();
        properties.push(Property::AuthenticationData(b"x")).unwrap();
        let auth =
            Auth { reason_code: ReasonCode::ContinueAuthentication, properties: properties.as_properties() };
        let missing = EncodeError::Property(PropertyError::NoAuthenticationMethod);
        assert_eq!(auth.encode(ProtocolVersion::V5, &mut out), Err(missing));
        assert_eq!(
            auth.encode(ProtocolVersion::V3_1_1, &mut out),
            Err(EncodeError::NotInThisVersion(PacketType::Auth))
        );
        assert!(out.is_empty());
    }
}
