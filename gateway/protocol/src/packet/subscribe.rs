//! SUBSCRIBE, its Subscription Options and its list of Topic Filters.

use super::PacketType;
use crate::codec::primitives::{Reader, put_binary};
use crate::codec::{DecodeError, EncodeError, Frame};
use crate::property::{Carrier, Properties};
use crate::{PacketId, ProtocolVersion, QoS, TopicFilter};

/// SUBSCRIBE: a client asks for topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// To be repeated in SUBACK [MQTT-3.8.4-2].
    pub packet_id: PacketId,
    /// Subscription Identifier and User Properties.
    pub properties: Properties<'a>,
    /// At least one [MQTT-3.8.3-2].
    pub filters: SubscribeFilters<'a>,
}

/// Subscription Options (MQTT 5, section 3.8.3.1). MQTT 3.1.1 has the QoS alone; the rest is then the default.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SubscribeOptions {
    /// Highest QoS at which the client wants to be sent messages.
    pub qos: QoS,
    /// The client wants none of its own messages [MQTT-3.8.3-3].
    pub no_local: bool,
    /// Messages keep the RETAIN flag they were published with [MQTT-3.3.1-13].
    pub retain_as_published: bool,
    /// Whether Retained Messages are sent now.
    pub retain_handling: RetainHandling,
}

/// When to send Retained Messages because of a SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[repr(u8)]
pub enum RetainHandling {
    /// Each time [MQTT-3.3.1-9]. What MQTT 3.1.1 does.
    #[default]
    Send = 0,
    /// If there was no such subscription before [MQTT-3.3.1-10].
    SendIfNew = 1,
    /// Never [MQTT-3.3.1-11].
    DoNotSend = 2,
}

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const RESERVED: u8 = 0xC0;

impl SubscribeOptions {
    /// Only a QoS, as in MQTT 3.1.1.
    #[must_use]
    pub fn at_most(qos: QoS) -> Self {
        Self { qos, ..Self::default() }
    }

    /// The byte that MQTT 5 sends.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let retain_as_published = if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        self.qos.as_u8()
            | no_local
            | retain_as_published
            | (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT
    }

    /// The options that MQTT 5 sends as this byte; `None` if a reserved bit is set or a value does not exist.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        let retain_handling = match byte >> RETAIN_HANDLING_SHIFT {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        let Some(qos) = QoS::from_u8(byte & 3) else { return None };
        let (no_local, retain_as_published) = (byte & NO_LOCAL != 0, byte & RETAIN_AS_PUBLISHED != 0);
        Some(Self { qos, no_local, retain_as_published, retain_handling })
    }

    fn decode(byte: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        match Self::from_u8(byte) {
            Some(options) if version.is_v5() || byte <= 2 => Ok(options),
            // A value of 3 is a Protocol Error, a reserved bit a Malformed Packet [MQTT-3.8.3-5].
            None if version.is_v5() && byte & RESERVED == 0 => {
                Err(DecodeError::SubscriptionOptionValue(byte))
            }
            _ => Err(DecodeError::SubscriptionOptions(byte)),
        }
    }
}

/// Topic Filters with their options, in wire form, validated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscribeFilters<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> SubscribeFilters<'a> {
    fn decode(bytes: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut len = 0;
        while !reader.is_empty() {
            let filter = TopicFilter::parse(reader.utf8()?).map_err(DecodeError::TopicFilter)?;
            let options = SubscribeOptions::decode(reader.u8()?, version)?;
            if options.no_local && filter.is_shared() {
                return Err(DecodeError::NoLocalOnSharedSubscription);
            }
            len += 1;
        }
        if len == 0 { Err(DecodeError::NoTopicFilter) } else { Ok(Self { bytes, len }) }
    }

    /// The filters in their order.
    pub fn iter(&self) -> impl Iterator<Item = (TopicFilter<'a>, SubscribeOptions)> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            // A validated list has no end in the middle, so an error here is the end.
            let filter = TopicFilter::parsed_before(reader.utf8().ok()?);
            Some((filter, SubscribeOptions::from_u8(reader.u8().ok()?)?))
        })
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none; never so in a decoded packet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Topic Filters with their options, being put together.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SubscribeFiltersBuf {
    bytes: Vec<u8>,
    len: usize,
}

impl SubscribeFiltersBuf {
    /// An empty list; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), len: 0 }
    }

    /// Appends a filter.
    pub fn push(&mut self, filter: TopicFilter<'_>, options: SubscribeOptions) {
        put_binary(&mut self.bytes, filter.as_str().as_bytes());
        self.bytes.push(options.to_u8());
        self.len += 1;
    }

    /// The list as packets have it.
    #[must_use]
    pub fn as_filters(&self) -> SubscribeFilters<'_> {
        SubscribeFilters { bytes: &self.bytes, len: self.len }
    }
}

const CARRIER: Carrier = Carrier::Packet(PacketType::Subscribe);

impl<'a> Subscribe<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = if version.is_v5() { reader.properties(CARRIER)? } else { Properties::default() };
        let filters = SubscribeFilters::decode(reader.rest(), version)?;
        Ok(Self { packet_id, properties, filters })
    }

    pub(crate) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::NoTopicFilter);
        }
        let shared_no_local =
            |(filter, options): (TopicFilter<'_>, SubscribeOptions)| options.no_local && filter.is_shared();
        if version.is_v5() && self.filters.iter().any(shared_no_local) {
            return Err(EncodeError::NoLocalOnSharedSubscription);
        }
        let mut frame = Frame::new(PacketType::Subscribe.first_byte());
        frame.add(2 + self.filters.bytes.len());
        frame.add_properties(&self.properties, CARRIER, version)?;
        frame.put_header(out)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        self.properties.put(version, out);
        if version.is_v5() {
            out.extend_from_slice(self.filters.bytes);
        } else {
            for (filter, options) in self.filters.iter() {
                put_binary(out, filter.as_str().as_bytes());
                out.push(options.qos.as_u8());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_their_byte() {
        for byte in 0..=u8::MAX {
            match SubscribeOptions::from_u8(byte) {
                Some(options) => assert_eq!(options.to_u8(), byte),
                None => assert!(byte & 3 == 3 || byte >> 4 > 2, "{byte:#010b}"),
            }
        }
        assert_eq!(SubscribeOptions::at_most(QoS::AtLeastOnce).to_u8(), 1);
    }

    #[test]
    fn mqtt_3_8_3_5_reserved_bits_are_malformed_and_missing_values_a_protocol_error() {
        let decode = |byte, version| SubscribeOptions::decode(byte, version).map(SubscribeOptions::to_u8);
        let v5 = ProtocolVersion::V5;
        assert_eq!(decode(0b0010_1110, v5), Ok(0b0010_1110));
        for byte in [0x03, 0x30, 0x3F] {
            assert_eq!(decode(byte, v5), Err(DecodeError::SubscriptionOptionValue(byte)));
        }
        for byte in [0x40, 0x80, 0xC1, 0xFF] {
            assert_eq!(decode(byte, v5), Err(DecodeError::SubscriptionOptions(byte)));
        }
        for byte in 3..=u8::MAX {
            let refused = Err(DecodeError::SubscriptionOptions(byte));
            assert_eq!(decode(byte, ProtocolVersion::V3_1_1), refused);
        }
    }

    #[test]
    fn mqtt_3_8_3_4_no_local_on_a_shared_subscription() {
        let mut body = vec![0, 1, 0];
        put_binary(&mut body, b"$share/g/t");
        body.push(0x04);
        let refused = Subscribe::decode(&body, ProtocolVersion::V5);
        assert_eq!(refused, Err(DecodeError::NoLocalOnSharedSubscription));
        body[5] = b'S';
        assert!(Subscribe::decode(&body, ProtocolVersion::V5).is_ok());
    }

    #[test]
    fn version_3_1_1_writes_the_qos_alone() {
        let mut filters = SubscribeFiltersBuf::new();
        let options =
            SubscribeOptions { qos: QoS::AtLeastOnce, no_local: true, ..SubscribeOptions::default() };
        filters.push(TopicFilter::parse("a").unwrap(), options);
        let packet_id = PacketId::new(9).unwrap();
        let subscribe =
            Subscribe { packet_id, properties: Properties::default(), filters: filters.as_filters() };
        let mut out = Vec::new();
        subscribe.encode(ProtocolVersion::V3_1_1, &mut out).unwrap();
        assert_eq!(out, [0x82, 6, 0, 9, 0, 1, b'a', 1]);
    }
}
