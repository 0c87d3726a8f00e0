//! CONNECT.

use super::PacketType;
use crate::codec::primitives::{Reader, put_binary};
use crate::codec::{DecodeError, EncodeError, Frame, check_binary, check_string};
use crate::property::{Carrier, Properties};
use crate::{ProtocolVersion, QoS, TopicName};

/// CONNECT: a client introduces itself. Says its own version, whichever the connection was thought to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect<'a> {
    /// The version this client speaks from here on.
    pub version: ProtocolVersion,
    /// Clean Start; Clean Session before MQTT 5.
    pub clean_start: bool,
    /// Keep Alive in seconds; 0: none.
    pub keep_alive_secs: u16,
    /// Properties of the connection.
    pub properties: Properties<'a>,
    /// Client Identifier; may be empty: [`crate::ClientId::from_connect`] judges it.
    pub client_id: &'a str,
    /// Will Message.
    pub will: Option<Will<'a>>,
    /// User Name.
    pub user_name: Option<&'a str>,
    /// Password; before MQTT 5 only with a User Name.
    pub password: Option<&'a [u8]>,
}

/// Will Message: published for the client when its connection ends otherwise than by its own DISCONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Will<'a> {
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Topic.
    pub topic: TopicName<'a>,
    /// Will Properties.
    pub properties: Properties<'a>,
    /// Will Payload, at most 65,535 bytes.
    pub payload: &'a [u8],
}

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

const CARRIER: Carrier = Carrier::Packet(PacketType::Connect);

impl<'a> Connect<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let version = decode_version(&mut reader)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive_secs = reader.u16()?;
        let properties = if version.is_v5() { reader.properties(CARRIER)? } else { Properties::default() };
        let client_id = reader.string()?;
        let will = if flags & WILL != 0 { Some(Will::decode(&mut reader, flags, version)?) } else { None };
        let user_name = if flags & USER_NAME != 0 { Some(reader.string()?) } else { None };
        let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
        reader.finish()?;
        Ok(Self {
            version,
            clean_start: flags & CLEAN_START != 0,
            keep_alive_secs,
            properties,
            client_id,
            will,
            user_name,
            password,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let version = self.version;
        if self.password.is_some() && self.user_name.is_none() && !version.is_v5() {
            return Err(EncodeError::PasswordWithoutUserName);
        }
        let mut frame = Frame::new(PacketType::Connect.first_byte());
        frame.add(2 + version.protocol_name().len() + 4);
        frame.add_properties(&self.properties, CARRIER, version)?;
        frame.add(check_string(self.client_id)?);
        if let Some(will) = &self.will {
            frame.add_properties(&will.properties, Carrier::Will, version)?;
            frame.add(2 + will.topic.as_str().len() + check_binary(will.payload)?);
        }
        frame.add(self.user_name.map_or(Ok(0), check_string)?);
        frame.add(self.password.map_or(Ok(0), check_binary)?);
        frame.put_header(out)?;

        put_binary(out, version.protocol_name().as_bytes());
        out.extend_from_slice(&[version.level(), self.flags()]);
        out.extend_from_slice(&self.keep_alive_secs.to_be_bytes());
        self.properties.put(version, out);
        put_binary(out, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            will.properties.put(version, out);
            put_binary(out, will.topic.as_str().as_bytes());
            put_binary(out, will.payload);
        }
        if let Some(user_name) = self.user_name {
            put_binary(out, user_name.as_bytes());
        }
        if let Some(password) = self.password {
            put_binary(out, password);
        }
        Ok(())
    }

    fn flags(&self) -> u8 {
        let mut flags = if self.clean_start { CLEAN_START } else { 0 };
        if let Some(will) = &self.will {
            flags |= WILL | will.qos.as_u8() << WILL_QOS_SHIFT;
            flags |= if will.retain { WILL_RETAIN } else { 0 };
        }
        flags |= if self.user_name.is_some() { USER_NAME } else { 0 };
        flags | if self.password.is_some() { PASSWORD } else { 0 }
    }
}

impl<'a> Will<'a> {
    fn decode(reader: &mut Reader<'a>, flags: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let properties =
            if version.is_v5() { reader.properties(Carrier::Will)? } else { Properties::default() };
        let topic = TopicName::parse(reader.utf8()?).map_err(DecodeError::TopicName)?;
        let payload = reader.binary()?;
        let qos = QoS::from_u8(flags >> WILL_QOS_SHIFT & 3).ok_or(DecodeError::InvalidQoS)?;
        Ok(Self { qos, retain: flags & WILL_RETAIN != 0, topic, properties, payload })
    }
}

/// Name and level. A peer whose name is not MQTT's gets told apart from one that speaks another version of it.
fn decode_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, DecodeError> {
    // Compared as bytes: what is no string at all is no protocol name either.
    let name = match reader.binary()? {
        b"MQTT" => "MQTT",
        b"MQIsdp" => "MQIsdp",
        _ => return Err(DecodeError::ProtocolName),
    };
    let level = reader.u8()?;
    ProtocolVersion::from_name_and_level(name, level).ok_or(DecodeError::UnsupportedProtocolVersion)
}

fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    let will_qos = flags >> WILL_QOS_SHIFT & 3;
    let reserved = flags & 1 != 0; // [MQTT-3.1.2-3]
    let will_bits_without_will = flags & WILL == 0 && (will_qos != 0 || flags & WILL_RETAIN != 0);
    let password_alone = !version.is_v5() && flags & (USER_NAME | PASSWORD) == PASSWORD;
    if reserved || will_bits_without_will || password_alone {
        Err(DecodeError::ConnectFlags(flags))
    } else if will_qos == 3 {
        Err(DecodeError::InvalidQoS)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::FieldError;

    fn decode(version: ProtocolVersion, flags: u8, payload: &[u8]) -> Result<(), DecodeError> {
        let mut body = Vec::new();
        put_binary(&mut body, version.protocol_name().as_bytes());
        body.extend([version.level(), flags, 0, 60]);
        body.extend(version.is_v5().then_some(0));
        put_binary(&mut body, b"me");
        body.extend_from_slice(payload);
        Connect::decode(&body).map(|_| ())
    }

    #[test]
    fn mqtt_3_1_2_22_of_3_1_1_a_password_needs_a_user_name_before_version_5() {
        let password = b"\0\x01p";
        assert_eq!(decode(ProtocolVersion::V5, PASSWORD, password), Ok(()));
        for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
            assert_eq!(decode(version, PASSWORD, password), Err(DecodeError::ConnectFlags(PASSWORD)));
            assert_eq!(decode(version, PASSWORD | USER_NAME, b"\0\x01u\0\x01p"), Ok(()));
        }
    }

    #[test]
    fn mqtt_3_1_2_3_and_will_bits() {
        let version = ProtocolVersion::V3_1_1;
        for flags in [0x01, 0x03, WILL_RETAIN, 1 << WILL_QOS_SHIFT, 3 << WILL_QOS_SHIFT] {
            assert_eq!(decode(version, flags, &[]), Err(DecodeError::ConnectFlags(flags)), "{flags:#010b}");
        }
        let will = b"\0\x01t\0\x01m";
        assert_eq!(decode(version, WILL | WILL_RETAIN | 2 << WILL_QOS_SHIFT, will), Ok(()));
        assert_eq!(decode(version, WILL | 3 << WILL_QOS_SHIFT, will), Err(DecodeError::InvalidQoS));
        assert_eq!(
            decode(version, WILL, b"\0\x01+\0\x01m").map_err(DecodeError::reason_code),
            Err(crate::ReasonCode::TopicNameInvalid)
        );
        assert_eq!(decode(version, WILL, b"\0\x01t"), Err(FieldError::Truncated.into()));
    }

    #[test]
    fn mqtt_3_1_2_1_what_is_not_mqtt_is_told_from_another_version_of_it() {
        let decode = |start: &[u8]| Connect::decode(&[start, b"\x02\0\x3c\0\0"].concat()).map(|_| ());
        assert_eq!(decode(b"\0\x04MQTT\x04"), Ok(()));
        for start in [&b"\0\x04MQTT\x06"[..], b"\0\x04MQTT\x84", b"\0\x04MQTT\x03", b"\0\x06MQIsdp\x83"] {
            assert_eq!(decode(start), Err(DecodeError::UnsupportedProtocolVersion), "{start:?}");
        }
        for start in [&b"\0\x04mqtt\x04"[..], b"\0\x04MQT\xFF\x04", b"\0\0\x04"] {
            assert_eq!(decode(start), Err(DecodeError::ProtocolName), "{start:?}");
        }
    }
}
