//! PUBLISH: the packet that everything else is for, and the one that is tuned.

use super::PacketType;
use crate::codec::primitives::{Reader, put_binary, put_varint, varint_len};
use crate::codec::{DecodeError, EncodeError, FieldError, Frame, PublishFrame};
use crate::property::{Carrier, Properties, validate};
use crate::{PacketId, ProtocolVersion, QoS, TopicError, TopicName};

/// PUBLISH: a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// Sent before. Never with QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// Of this transmission.
    pub qos: QoS,
    /// To be kept as, or sent because it is, a Retained Message.
    pub retain: bool,
    /// A valid Topic Name, or, in MQTT 5, empty: the Topic Alias among the properties says which.
    pub topic: &'a str,
    /// Present if the QoS is not 0 [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// Properties of the message and of this transmission.
    pub properties: Properties<'a>,
    /// The payload, of any length and content.
    pub payload: &'a [u8],
}

const CARRIER: Carrier = Carrier::Packet(PacketType::Publish);
const RETAIN: u8 = 0x01;
const QOS_SHIFT: u8 = 1;
const DUP: u8 = 0x08;

/// Judges the flags in the fixed header.
#[inline]
pub(crate) fn decode_flags(flags: u8) -> Result<QoS, DecodeError> {
    let qos = QoS::from_u8(flags >> QOS_SHIFT & 3).ok_or(DecodeError::InvalidQoS)?;
    if flags & DUP != 0 && qos == QoS::AtMostOnce { Err(DecodeError::DupWithoutQoS) } else { Ok(qos) }
}

impl<'a> Publish<'a> {
    #[inline]
    pub(crate) fn decode(flags: u8, body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        Self::decode_after("", flags, body, version)
    }

    /// The same, behind a packet with the Topic Name `last`: what is equal to it need not be looked at again. Empty: there was none.
    // Always: a `Publish` that comes back over memory is read in other widths than it was written in, and so only once all writes before it are done.
    #[inline(always)]
    pub(crate) fn decode_after(
        last: &'a str,
        flags: u8,
        body: &'a [u8],
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let qos = decode_flags(flags)?;
        let mut reader = Reader::new(body);
        let topic = reader.binary()?;
        let topic = if topic == last.as_bytes() { last } else { topic_name(topic)? };
        let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
        let (properties, payload) = match reader.rest().split_first() {
            // None, as in most. That takes no call: what a call answers, and a reader that it is lent, come back over memory.
            Some((0, payload)) if version.is_v5() => (Properties::default(), payload),
            _ if version.is_v5() => properties(reader)?,
            _ => (Properties::default(), reader.rest()),
        };
        if topic.is_empty() {
            check_alias(&properties, version)?;
        }
        let (dup, retain) = (flags & DUP != 0, flags & RETAIN != 0);
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload })
    }

    /// Checks what [`put_publish`] takes on trust, then leaves the writing to it.
    pub(crate) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match TopicName::parse(self.topic) {
            Ok(_) => {}
            Err(TopicError::Empty) if version.is_v5() && self.properties.topic_alias().is_some() => {}
            Err(TopicError::Empty) => return Err(EncodeError::NoTopicName),
            Err(error) => return Err(EncodeError::TopicName(error)),
        }
        if version.is_v5() {
            validate(self.properties.raw(), CARRIER)?;
        }
        let frame = PublishFrame {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            packet_id: self.packet_id,
            extra: &[],
            properties: self.properties.raw(),
            payload: self.payload,
        };
        put_publish(&frame, version, out)
    }
}

/// The properties, and the payload behind them.
#[inline(never)]
fn properties(mut reader: Reader<'_>) -> Result<(Properties<'_>, &[u8]), DecodeError> {
    let properties = reader.properties(CARRIER)?;
    Ok((properties, reader.rest()))
}

/// A Topic Name, or nothing.
#[inline]
fn topic_name(bytes: &[u8]) -> Result<&str, DecodeError> {
    let topic = std::str::from_utf8(bytes).map_err(|_| FieldError::IllFormedUtf8)?;
    if !topic.is_empty() {
        TopicName::parse(topic).map_err(DecodeError::TopicName)?;
    }
    Ok(topic)
}

#[cold]
fn check_alias(properties: &Properties<'_>, version: ProtocolVersion) -> Result<(), DecodeError> {
    if !version.is_v5() {
        Err(DecodeError::EmptyTopicName)
    } else if properties.topic_alias().is_none() {
        Err(DecodeError::NoTopicName)
    } else {
        Ok(())
    }
}

/// Appends a PUBLISH: one reservation, then copies. See [`crate::codec::encode_publish`].
#[inline]
pub(crate) fn put_publish(
    frame: &PublishFrame<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let acknowledged = frame.qos != QoS::AtMostOnce;
    if frame.packet_id.is_some() != acknowledged || (frame.dup && !acknowledged) {
        return Err(EncodeError::PublishFlags);
    }
    if frame.topic.is_empty() && !version.is_v5() {
        return Err(EncodeError::NoTopicName);
    }
    if frame.topic.len() > 0xFFFF {
        return Err(EncodeError::TopicName(TopicError::TooLong));
    }
    let dup = if frame.dup { DUP } else { 0 };
    let retain = if frame.retain { RETAIN } else { 0 };
    let flags = dup | (frame.qos.as_u8() << QOS_SHIFT) | retain;
    let mut header = Frame::new(PacketType::Publish.first_byte() | flags);
    header.add(body_len(frame, version));
    header.put_header(out)?;
    put_binary(out, frame.topic.as_bytes());
    if let Some(packet_id) = frame.packet_id {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
    }
    if version.is_v5() {
        put_varint(out, frame.extra.len() + frame.properties.len());
        out.extend_from_slice(frame.extra);
        out.extend_from_slice(frame.properties);
    }
    out.extend_from_slice(frame.payload);
    Ok(())
}

/// The Remaining Length of such a PUBLISH.
#[inline]
pub(crate) fn body_len(frame: &PublishFrame<'_>, version: ProtocolVersion) -> usize {
    let packet_id_len = if frame.packet_id.is_some() { 2 } else { 0 };
    let properties_len = if version.is_v5() {
        let length = frame.extra.len() + frame.properties.len();
        varint_len(length) + length
    } else {
        0
    };
    2 + frame.topic.len() + packet_id_len + properties_len + frame.payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReasonCode;

    fn decode(flags: u8, body: &[u8], version: ProtocolVersion) -> Result<Publish<'_>, ReasonCode> {
        Publish::decode(flags, body, version).map_err(DecodeError::reason_code)
    }

    #[test]
    fn mqtt_3_3_1_2_and_3_3_1_4_flags_of_the_fixed_header() {
        for flags in 0..16 {
            let expected = match flags {
                0b0000 | 0b0001 => Ok(QoS::AtMostOnce),
                0b1000 | 0b1001 => Err(DecodeError::DupWithoutQoS),
                _ if flags & 0b0110 == 0b0110 => Err(DecodeError::InvalidQoS),
                _ if flags & 0b0010 != 0 => Ok(QoS::AtLeastOnce),
                _ => Ok(QoS::ExactlyOnce),
            };
            assert_eq!(decode_flags(flags), expected, "{flags:#06b}");
        }
    }

    #[test]
    fn an_empty_topic_stands_for_an_alias_or_for_nothing() {
        let aliased = decode(0, b"\0\0\x03\x23\0\x05hi", ProtocolVersion::V5).unwrap();
        assert_eq!(
            (aliased.topic, aliased.properties.topic_alias(), aliased.payload),
            ("", Some(5), &b"hi"[..])
        );
        assert_eq!(decode(0, b"\0\0\0hi", ProtocolVersion::V5), Err(ReasonCode::ProtocolError));
        assert_eq!(decode(0, b"\0\0hi", ProtocolVersion::V3_1_1), Err(ReasonCode::MalformedPacket));
    }

    #[test]
    fn topics_are_validated_and_payloads_are_not() {
        let version = ProtocolVersion::V3_1_1;
        assert_eq!(decode(0, b"\0\x03a/#", version), Err(ReasonCode::TopicNameInvalid));
        assert_eq!(decode(0, b"\0\x01\0", version), Err(ReasonCode::MalformedPacket));
        assert_eq!(decode(0, b"\0\x01\xFF", version), Err(ReasonCode::MalformedPacket));
        assert_eq!(decode(2, b"\0\x01a\0\0", version), Err(ReasonCode::ProtocolError));
        assert_eq!(decode(0, b"\0\x01a\xFF\0", version).map(|publish| publish.payload), Ok(&[0xFF, 0][..]));
    }

    #[test]
    fn a_delivery_before_version_5_has_no_properties() {
        let frame = PublishFrame {
            dup: true,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "a/b",
            packet_id: PacketId::new(0x0102),
            extra: &[0x0B, 1],
            properties: &[0x01, 1],
            payload: b"!",
        };
        let mut out = Vec::new();
        put_publish(&frame, ProtocolVersion::V3_1_1, &mut out).unwrap();
        assert_eq!(out, b"\x3B\x08\0\x03a/b\x01\x02!");
        out.clear();
        put_publish(&frame, ProtocolVersion::V5, &mut out).unwrap();
        assert_eq!(out, b"\x3B\x0D\0\x03a/b\x01\x02\x04\x0B\x01\x01\x01!");
        let nameless = PublishFrame { topic: "", ..frame };
        assert_eq!(put_publish(&nameless, ProtocolVersion::V3_1_1, &mut out), Err(EncodeError::NoTopicName));
    }
}
