//! Packets that a client received, with their bytes.

use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::{Decoded, PacketId, ProtocolVersion, QoS, decode};

/// The largest packet a client takes.
pub(crate) const PACKET_BYTES_MAX: usize = 64 << 20;

/// One whole packet.
#[derive(Clone, Debug)]
pub struct Frame {
    version: ProtocolVersion,
    bytes: Vec<u8>,
}

impl Frame {
    /// Takes the packet at the front of `buffer` out of it; `None` if it is not complete yet.
    ///
    /// # Panics
    /// When the bytes are no MQTT.
    pub(crate) fn take(buffer: &mut Vec<u8>, version: ProtocolVersion) -> Option<Self> {
        if buffer.is_empty() {
            return None;
        }
        match decode(buffer, version, PACKET_BYTES_MAX) {
            Ok(Decoded::Packet { consumed, .. }) => {
                let bytes = buffer.drain(..consumed).collect();
                Some(Self { version, bytes })
            }
            Ok(Decoded::Incomplete { .. }) => None,
            Err(error) => {
                panic!("the gateway sent what is no MQTT: {error}: {:02x?}", &buffer[..buffer.len().min(64)])
            }
        }
    }

    /// The packet.
    ///
    /// # Panics
    /// Never: it was decoded before.
    #[must_use]
    pub fn packet(&self) -> Packet<'_> {
        match decode(&self.bytes, self.version, PACKET_BYTES_MAX) {
            Ok(Decoded::Packet { packet, .. }) => packet,
            other => panic!("decoded before, and now {other:?}"),
        }
    }

    /// Its bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message in it, if it is a PUBLISH.
    #[must_use]
    pub fn message(&self) -> Option<Message> {
        match self.packet() {
            Packet::Publish(publish) => Some(Message::from(&publish)),
            _ => None,
        }
    }
}

/// A PUBLISH that a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The Topic Name.
    pub topic: String,
    /// The payload; as text, for messages of failing tests.
    pub payload: String,
    /// The QoS of the delivery.
    pub qos: QoS,
    /// It may have been delivered before.
    pub dup: bool,
    /// The RETAIN flag.
    pub retain: bool,
    /// At QoS 1.
    pub packet_id: Option<PacketId>,
    /// User Properties in their order.
    pub user_properties: Vec<(String, String)>,
    /// Subscription Identifiers.
    pub subscription_ids: Vec<u32>,
    /// Message Expiry Interval in seconds.
    pub expiry_secs: Option<u32>,
}

impl From<&Publish<'_>> for Message {
    fn from(publish: &Publish<'_>) -> Self {
        let properties = publish.properties;
        Self {
            topic: publish.topic.to_owned(),
            payload: String::from_utf8_lossy(publish.payload).into_owned(),
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            packet_id: publish.packet_id,
            user_properties: properties
                .user_properties()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            subscription_ids: properties.subscription_identifiers().collect(),
            expiry_secs: properties.message_expiry_interval(),
        }
    }
}

impl Message {
    /// The value of the first User Property of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn user_property(&self, name: &str) -> &str {
        let found = self.user_properties.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| &**value).unwrap_or_else(|| panic!("no User Property {name}: {self:?}"))
    }
}
