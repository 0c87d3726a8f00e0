//! Property Identifiers, and for each: the type of its value, the packets that may carry it, whether it may repeat.
//!
//! MQTT 5, table 2-4.

use crate::packet::PacketType;

/// Names a property. The numbers are those on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum PropertyId {
    /// Whether the payload is UTF-8.
    PayloadFormatIndicator = 0x01,
    /// Lifetime of the message, in seconds.
    MessageExpiryInterval = 0x02,
    /// What the payload is, in the application's words.
    ContentType = 0x03,
    /// Where the response goes.
    ResponseTopic = 0x08,
    /// Which request a response answers.
    CorrelationData = 0x09,
    /// Names a subscription towards its client.
    SubscriptionIdentifier = 0x0B,
    /// How long the Session outlives its connection, in seconds.
    SessionExpiryInterval = 0x11,
    /// The name that the server made up.
    AssignedClientIdentifier = 0x12,
    /// The Keep Alive that the server wants, in seconds.
    ServerKeepAlive = 0x13,
    /// Name of the extended authentication.
    AuthenticationMethod = 0x15,
    /// Its data.
    AuthenticationData = 0x16,
    /// Whether Reason Strings and User Properties are welcome.
    RequestProblemInformation = 0x17,
    /// How long the Will Message is held back, in seconds.
    WillDelayInterval = 0x18,
    /// Whether Response Information is asked for.
    RequestResponseInformation = 0x19,
    /// Basis of Response Topics.
    ResponseInformation = 0x1A,
    /// Another server to use.
    ServerReference = 0x1C,
    /// For a person who reads a log.
    ReasonString = 0x1F,
    /// How many unacknowledged publishes the sender of this takes.
    ReceiveMaximum = 0x21,
    /// Highest Topic Alias the sender of this takes.
    TopicAliasMaximum = 0x22,
    /// Stands for a Topic Name on this connection.
    TopicAlias = 0x23,
    /// Highest QoS the server supports.
    MaximumQoS = 0x24,
    /// Whether Retained Messages are supported.
    RetainAvailable = 0x25,
    /// A name and a value of the application's.
    UserProperty = 0x26,
    /// Largest packet the sender of this takes, in bytes.
    MaximumPacketSize = 0x27,
    /// Whether Topic Filters may have wildcards.
    WildcardSubscriptionAvailable = 0x28,
    /// Whether subscriptions may have identifiers.
    SubscriptionIdentifierAvailable = 0x29,
    /// Whether Shared Subscriptions are supported.
    SharedSubscriptionAvailable = 0x2A,
}

/// How a value lies on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ValueKind {
    Byte,
    TwoBytes,
    FourBytes,
    Varint,
    /// A string or binary data: two bytes of length first.
    Prefixed,
    /// Two strings.
    Pair,
}

/// Whose property list it is: a packet's, or the one of the Will within CONNECT. A set of carriers is a bit mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carrier {
    Packet(PacketType),
    Will,
    /// A list that has left its packet: anything goes that goes somewhere.
    Any,
}

impl Carrier {
    const fn mask(self) -> u16 {
        match self {
            Self::Packet(packet_type) => mask_of(packet_type),
            Self::Will => WILL,
            Self::Any => u16::MAX,
        }
    }
}

const fn mask_of(packet_type: PacketType) -> u16 {
    1 << packet_type as u16
}

const WILL: u16 = 1; // no packet has the type 0
const CONNECT: u16 = mask_of(PacketType::Connect);
const CONNACK: u16 = mask_of(PacketType::ConnAck);
const PUBLISH: u16 = mask_of(PacketType::Publish);
const SUBSCRIBE: u16 = mask_of(PacketType::Subscribe);
const DISCONNECT: u16 = mask_of(PacketType::Disconnect);
const AUTH: u16 = mask_of(PacketType::Auth);
const ACKNOWLEDGEMENTS: u16 = mask_of(PacketType::PubAck)
    | mask_of(PacketType::PubRec)
    | mask_of(PacketType::PubRel)
    | mask_of(PacketType::PubComp)
    | mask_of(PacketType::SubAck)
    | mask_of(PacketType::UnsubAck);

impl PropertyId {
    /// The property with this identifier, if there is one.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0x01 => Self::PayloadFormatIndicator,
            0x02 => Self::MessageExpiryInterval,
            0x03 => Self::ContentType,
            0x08 => Self::ResponseTopic,
            0x09 => Self::CorrelationData,
            0x0B => Self::SubscriptionIdentifier,
            0x11 => Self::SessionExpiryInterval,
            0x12 => Self::AssignedClientIdentifier,
            0x13 => Self::ServerKeepAlive,
            0x15 => Self::AuthenticationMethod,
            0x16 => Self::AuthenticationData,
            0x17 => Self::RequestProblemInformation,
            0x18 => Self::WillDelayInterval,
            0x19 => Self::RequestResponseInformation,
            0x1A => Self::ResponseInformation,
            0x1C => Self::ServerReference,
            0x1F => Self::ReasonString,
            0x21 => Self::ReceiveMaximum,
            0x22 => Self::TopicAliasMaximum,
            0x23 => Self::TopicAlias,
            0x24 => Self::MaximumQoS,
            0x25 => Self::RetainAvailable,
            0x26 => Self::UserProperty,
            0x27 => Self::MaximumPacketSize,
            0x28 => Self::WildcardSubscriptionAvailable,
            0x29 => Self::SubscriptionIdentifierAvailable,
            0x2A => Self::SharedSubscriptionAvailable,
            _ => return None,
        })
    }

    /// The number on the wire; below 0x80, so one byte.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    pub(super) const fn value_kind(self) -> ValueKind {
        match self {
            Self::PayloadFormatIndicator
            | Self::RequestProblemInformation
            | Self::RequestResponseInformation
            | Self::MaximumQoS
            | Self::RetainAvailable
            | Self::WildcardSubscriptionAvailable
            | Self::SubscriptionIdentifierAvailable
            | Self::SharedSubscriptionAvailable => ValueKind::Byte,
            Self::ServerKeepAlive | Self::ReceiveMaximum | Self::TopicAliasMaximum | Self::TopicAlias => {
                ValueKind::TwoBytes
            }
            Self::MessageExpiryInterval
            | Self::SessionExpiryInterval
            | Self::WillDelayInterval
            | Self::MaximumPacketSize => ValueKind::FourBytes,
            Self::SubscriptionIdentifier => ValueKind::Varint,
            Self::ContentType
            | Self::ResponseTopic
            | Self::CorrelationData
            | Self::AssignedClientIdentifier
            | Self::AuthenticationMethod
            | Self::AuthenticationData
            | Self::ResponseInformation
            | Self::ServerReference
            | Self::ReasonString => ValueKind::Prefixed,
            Self::UserProperty => ValueKind::Pair,
        }
    }

    const fn carriers(self) -> u16 {
        match self {
            Self::PayloadFormatIndicator
            | Self::MessageExpiryInterval
            | Self::ContentType
            | Self::ResponseTopic
            | Self::CorrelationData => PUBLISH | WILL,
            Self::SubscriptionIdentifier => PUBLISH | SUBSCRIBE,
            Self::SessionExpiryInterval => CONNECT | CONNACK | DISCONNECT,
            Self::AuthenticationMethod | Self::AuthenticationData => CONNECT | CONNACK | AUTH,
            Self::RequestProblemInformation | Self::RequestResponseInformation => CONNECT,
            Self::WillDelayInterval => WILL,
            Self::ServerReference => CONNACK | DISCONNECT,
            Self::ReasonString => CONNACK | ACKNOWLEDGEMENTS | DISCONNECT | AUTH,
            Self::ReceiveMaximum | Self::TopicAliasMaximum | Self::MaximumPacketSize => CONNECT | CONNACK,
            Self::TopicAlias => PUBLISH,
            Self::AssignedClientIdentifier
            | Self::ServerKeepAlive
            | Self::ResponseInformation
            | Self::MaximumQoS
            | Self::RetainAvailable
            | Self::WildcardSubscriptionAvailable
            | Self::SubscriptionIdentifierAvailable
            | Self::SharedSubscriptionAvailable => CONNACK,
            Self::UserProperty => u16::MAX,
        }
    }

    /// Whether such a list may have this property.
    pub(crate) const fn is_allowed_in(self, carrier: Carrier) -> bool {
        self.carriers() & carrier.mask() != 0
    }

    /// Whether such a list may have this property more than once: User Properties everywhere, Subscription Identifiers where
    /// a server sends one per matching subscription [MQTT-3.3.4-4].
    pub(crate) const fn may_repeat_in(self, carrier: Carrier) -> bool {
        match self {
            Self::UserProperty => true,
            Self::SubscriptionIdentifier => carrier.mask() & PUBLISH != 0,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_seven_properties() {
        let known = (0..=u8::MAX).filter(|&number| {
            PropertyId::from_u8(number).is_some_and(|id| {
                assert_eq!(id.as_u8(), number);
                true
            })
        });
        assert_eq!(known.count(), 27);
    }

    #[test]
    fn lists_have_as_many_properties_as_the_text_gives_them() {
        let count = |carrier| {
            (0..=u8::MAX).filter_map(PropertyId::from_u8).filter(|id| id.is_allowed_in(carrier)).count()
        };
        for (packet_type, expected) in [
            (PacketType::Connect, 9),
            (PacketType::ConnAck, 17),
            (PacketType::Publish, 8),
            (PacketType::PubAck, 2),
            (PacketType::PubRec, 2),
            (PacketType::PubRel, 2),
            (PacketType::PubComp, 2),
            (PacketType::Subscribe, 2),
            (PacketType::SubAck, 2),
            (PacketType::Unsubscribe, 1),
            (PacketType::UnsubAck, 2),
            (PacketType::Disconnect, 4),
            (PacketType::Auth, 4),
        ] {
            assert_eq!(count(Carrier::Packet(packet_type)), expected, "{packet_type:?}");
        }
        assert_eq!(count(Carrier::Will), 7);
        assert_eq!(count(Carrier::Any), 27);
    }
}
