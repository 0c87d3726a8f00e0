//! UNSUBSCRIBE and its list of Topic Filters.

use super::PacketType;
use crate::codec::primitives::{Reader, put_binary};
use crate::codec::{DecodeError, EncodeError, Frame};
use crate::property::{Carrier, Properties};
use crate::{PacketId, ProtocolVersion, TopicFilter};

/// UNSUBSCRIBE: a client wants no more of these topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsubscribe<'a> {
    /// To be repeated in UNSUBACK [MQTT-3.10.4-5].
    pub packet_id: PacketId,
    /// User Properties.
    pub properties: Properties<'a>,
    /// At least one [MQTT-3.10.3-2].
    pub filters: UnsubscribeFilters<'a>,
}

/// Topic Filters in wire form, validated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsubscribeFilters<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> UnsubscribeFilters<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut len = 0;
        while !reader.is_empty() {
            TopicFilter::parse(reader.utf8()?).map_err(DecodeError::TopicFilter)?;
            len += 1;
        }
        if len == 0 { Err(DecodeError::NoTopicFilter) } else { Ok(Self { bytes, len }) }
    }

    /// The filters in their order.
    pub fn iter(&self) -> impl Iterator<Item = TopicFilter<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || reader.utf8().ok().map(TopicFilter::parsed_before))
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

/// Topic Filters, being put together.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UnsubscribeFiltersBuf {
    bytes: Vec<u8>,
    len: usize,
}

impl UnsubscribeFiltersBuf {
    /// An empty list; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), len: 0 }
    }

    /// Appends a filter.
    pub fn push(&mut self, filter: TopicFilter<'_>) {
        put_binary(&mut self.bytes, filter.as_str().as_bytes());
        self.len += 1;
    }

    /// The list as packets have it.
    #[must_use]
    pub fn as_filters(&self) -> UnsubscribeFilters<'_> {
        UnsubscribeFilters { bytes: &self.bytes, len: self.len }
    }
}

const CARRIER: Carrier = Carrier::Packet(PacketType::Unsubscribe);

impl<'a> Unsubscribe<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = if version.is_v5() { reader.properties(CARRIER)? } else { Properties::default() };
        let filters = UnsubscribeFilters::decode(reader.rest())?;
        Ok(Self { packet_id, properties, filters })
    }

    pub(crate) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::NoTopicFilter);
        }
        let mut frame = Frame::new(PacketType::Unsubscribe.first_byte());
        frame.add(2 + self.filters.bytes.len());
        frame.add_properties(&self.properties, CARRIER, version)?;
        frame.put_header(out)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        self.properties.put(version, out);
        out.extend_from_slice(self.filters.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_keep_their_order() {
        let mut filters = UnsubscribeFiltersBuf::new();
        for filter in ["b/#", "a", "b/#"] {
            filters.push(TopicFilter::parse(filter).unwrap());
        }
        let read: Vec<_> = filters.as_filters().iter().map(TopicFilter::as_str).collect();
        assert_eq!(read, ["b/#", "a", "b/#"]);
        assert_eq!(filters.as_filters().len(), 3);
    }

    #[test]
    fn mqtt_3_10_3_2_at_least_one_filter() {
        let none = Err(DecodeError::NoTopicFilter);
        assert_eq!(Unsubscribe::decode(&[0, 1], ProtocolVersion::V3_1_1), none);
        assert_eq!(Unsubscribe::decode(&[0, 1, 0], ProtocolVersion::V5), none);
    }
}
