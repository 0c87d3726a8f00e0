//! Why bytes are no packet, and why a packet cannot become bytes.

use super::FieldError;
use crate::packet::PacketType;
use crate::property::PropertyError;
use crate::{ReasonCode, TopicError};

/// Why the peer's bytes are no packet. The connection cannot go on: where the next packet would start is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Packet type 0, or 15 (AUTH) before MQTT 5.
    #[error("the packet type {0} is reserved")]
    ReservedPacketType(u8),
    /// The lower four bits of the first byte are not what this packet type has there [MQTT-2.1.3-1].
    #[error("wrong flags in the fixed header of {0:?}")]
    FixedHeaderFlags(PacketType),
    /// A PUBLISH or a Will with QoS 3 [MQTT-3.3.1-4], [MQTT-3.1.2-12].
    #[error("there is no QoS 3")]
    InvalidQoS,
    /// A QoS 0 PUBLISH is never a duplicate [MQTT-3.3.1-2].
    #[error("DUP is set on a PUBLISH with QoS 0")]
    DupWithoutQoS,
    /// This packet type never has this Remaining Length.
    #[error("{packet_type:?} has a Remaining Length of {remaining_length}")]
    RemainingLength {
        /// The packet type.
        packet_type: PacketType,
        /// Its Remaining Length in bytes.
        remaining_length: usize,
    },
    /// Larger than the receiver takes, both in bytes, fixed header included.
    #[error("a packet of {packet_bytes} bytes, {max_packet_bytes} are allowed")]
    PacketTooLarge {
        /// What the fixed header announces.
        packet_bytes: usize,
        /// What is taken.
        max_packet_bytes: usize,
    },
    /// A field is not what the wire format says.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The property list is not one that this packet can have.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// A Packet Identifier of 0 [MQTT-2.2.1-3].
    #[error("the Packet Identifier is 0")]
    ZeroPacketId,
    /// A Reason Code that is not in the table of this packet type.
    #[error("{packet_type:?} has the Reason Code {code:#04x}")]
    ReasonCode {
        /// The packet type.
        packet_type: PacketType,
        /// The byte found.
        code: u8,
    },
    /// The protocol name and level are not of a version spoken here [MQTT-3.1.2-2].
    #[error("the protocol version is not supported")]
    UnsupportedProtocolVersion,
    /// A name that is not MQTT's at all [MQTT-3.1.2-1]: whoever sends this does not speak the protocol.
    #[error("the protocol name is not MQTT")]
    ProtocolName,
    /// The reserved bit is set, or flags contradict each other [MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-13].
    #[error("the Connect Flags are {0:#010b}")]
    ConnectFlags(u8),
    /// CONNACK with a reserved flag set, or with Session Present beside a refusal [MQTT-3.2.2-1], [MQTT-3.2.2-6].
    #[error("the Connect Acknowledge Flags are {0:#010b}")]
    ConnAckFlags(u8),
    /// No Topic Name, and no Topic Alias in its place.
    #[error("there is neither Topic Name nor Topic Alias")]
    NoTopicName,
    /// A 3.1.1 PUBLISH without Topic Name [MQTT-4.7.3-1].
    #[error("the Topic Name is empty")]
    EmptyTopicName,
    /// The string is no Topic Name [MQTT-3.3.2-2].
    #[error("not a Topic Name: {0}")]
    TopicName(TopicError),
    /// The string is no Topic Filter [MQTT-4.7.1-1], [MQTT-4.7.1-2].
    #[error("not a Topic Filter: {0}")]
    TopicFilter(TopicError),
    /// SUBSCRIBE or UNSUBSCRIBE without a Topic Filter [MQTT-3.8.3-2], [MQTT-3.10.3-2].
    #[error("there is no Topic Filter")]
    NoTopicFilter,
    /// SUBACK or UNSUBACK without a Reason Code.
    #[error("there is no Reason Code")]
    NoReasonCode,
    /// Reserved bits are set [MQTT-3.8.3-5], or the requested QoS byte of 3.1.1 is none.
    #[error("the Subscription Options are {0:#010b}")]
    SubscriptionOptions(u8),
    /// Maximum QoS or Retain Handling of 3.
    #[error("the Subscription Options {0:#010b} have a value that does not exist")]
    SubscriptionOptionValue(u8),
    /// No Local on a Shared Subscription [MQTT-3.8.3-4].
    #[error("No Local is set on a Shared Subscription")]
    NoLocalOnSharedSubscription,
}

impl DecodeError {
    /// What to tell the peer, where its version allows to tell it anything.
    #[must_use]
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::ReservedPacketType(_)
            | Self::FixedHeaderFlags(_)
            | Self::InvalidQoS
            | Self::DupWithoutQoS
            | Self::RemainingLength { .. }
            | Self::Field(_)
            | Self::ConnectFlags(_)
            | Self::EmptyTopicName
            | Self::SubscriptionOptions(_) => ReasonCode::MalformedPacket,
            Self::ZeroPacketId
            | Self::ReasonCode { .. }
            | Self::ConnAckFlags(_)
            | Self::NoTopicName
            | Self::NoTopicFilter
            | Self::NoReasonCode
            | Self::SubscriptionOptionValue(_)
            | Self::NoLocalOnSharedSubscription => ReasonCode::ProtocolError,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::Property(error) => error.reason_code(),
            Self::UnsupportedProtocolVersion | Self::ProtocolName => ReasonCode::UnsupportedProtocolVersion,
            Self::TopicName(TopicError::NulCharacter) | Self::TopicFilter(TopicError::NulCharacter) => {
                ReasonCode::MalformedPacket
            }
            Self::TopicName(_) => ReasonCode::TopicNameInvalid,
            Self::TopicFilter(_) => ReasonCode::TopicFilterInvalid,
        }
    }
}

/// Why a packet cannot be written. Whoever built the packet is at fault, or it does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// More than 268,435,455 bytes after the fixed header.
    #[error("the packet is larger than a Remaining Length can say")]
    PacketTooLarge,
    /// A string or binary field of more than 65,535 bytes.
    #[error("a field is longer than 65,535 bytes")]
    FieldTooLong,
    /// U+0000 in a string [MQTT-1.5.4-2].
    #[error("a string contains U+0000")]
    NulCharacter,
    /// The version has no such packet (AUTH before MQTT 5).
    #[error("{0:?} does not exist in this version")]
    NotInThisVersion(PacketType),
    /// A QoS 0 PUBLISH with Packet Identifier or DUP, or another one without Packet Identifier [MQTT-2.2.1-2].
    #[error("Packet Identifier or DUP do not go with the QoS")]
    PublishFlags,
    /// The Reason Code is not in the table of this packet type.
    #[error("{packet_type:?} cannot have the Reason Code {reason_code:?}")]
    ReasonCode {
        /// The packet type.
        packet_type: PacketType,
        /// The code.
        reason_code: ReasonCode,
    },
    /// Session Present beside a refusal [MQTT-3.2.2-6].
    #[error("a refused connection has no Session Present")]
    SessionPresentWithError,
    /// Neither Topic Name nor Topic Alias.
    #[error("there is neither Topic Name nor Topic Alias")]
    NoTopicName,
    /// The string is no Topic Name [MQTT-3.3.2-2].
    #[error("not a Topic Name: {0}")]
    TopicName(TopicError),
    /// 3.1.1 has no password without a user name [MQTT-3.1.2-22 of 3.1.1].
    #[error("this version has no password without a user name")]
    PasswordWithoutUserName,
    /// SUBSCRIBE or UNSUBSCRIBE without a Topic Filter.
    #[error("there is no Topic Filter")]
    NoTopicFilter,
    /// SUBACK or UNSUBACK without a Reason Code.
    #[error("there is no Reason Code")]
    NoReasonCode,
    /// No Local on a Shared Subscription [MQTT-3.8.3-4].
    #[error("No Local is set on a Shared Subscription")]
    NoLocalOnSharedSubscription,
    /// This packet cannot carry these properties.
    #[error(transparent)]
    Property(#[from] PropertyError),
}
