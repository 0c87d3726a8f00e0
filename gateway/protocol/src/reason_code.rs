//! The Reason Codes of MQTT 5, and which packet may carry which.
//!
//! One type serves all versions: what 3.1.1 says in its own return codes is translated where CONNACK and SUBACK are read and
//! written (`packet/connack.rs`, `packet/suback.rs`).

use crate::packet::PacketType;

/// A Reason Code (MQTT 5, section 2.4). Below 0x80: it went well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum ReasonCode {
    /// Success; of DISCONNECT: normal disconnection; of SUBACK: granted QoS 0.
    Success = 0x00,
    /// SUBACK: granted QoS 1.
    GrantedQos1 = 0x01,
    /// SUBACK: granted QoS 2.
    GrantedQos2 = 0x02,
    /// DISCONNECT by a client that wants its Will Message published.
    DisconnectWithWill = 0x04,
    /// PUBACK, PUBREC: accepted, nobody is subscribed.
    NoMatchingSubscribers = 0x10,
    /// UNSUBACK: there was nothing to remove.
    NoSubscriptionExisted = 0x11,
    /// AUTH: the next step of the exchange.
    ContinueAuthentication = 0x18,
    /// AUTH: start over on a live connection.
    ReAuthenticate = 0x19,
    /// An error that its sender does not reveal or that has no code.
    UnspecifiedError = 0x80,
    /// The packet could not be parsed.
    MalformedPacket = 0x81,
    /// The packet was parsed and is not allowed, or not now.
    ProtocolError = 0x82,
    /// Valid, but not accepted by this implementation.
    ImplementationSpecificError = 0x83,
    /// CONNACK: the protocol name or version is not spoken here.
    UnsupportedProtocolVersion = 0x84,
    /// CONNACK: a valid string, but not allowed as Client Identifier.
    ClientIdentifierNotValid = 0x85,
    /// CONNACK: credentials not accepted.
    BadUserNameOrPassword = 0x86,
    /// Not authorized to do this.
    NotAuthorized = 0x87,
    /// CONNACK: the server is not available.
    ServerUnavailable = 0x88,
    /// The server is busy; try again later.
    ServerBusy = 0x89,
    /// CONNACK: banned by administrative action.
    Banned = 0x8A,
    /// DISCONNECT: the server is shutting down.
    ServerShuttingDown = 0x8B,
    /// The authentication method is not supported or not the one in use.
    BadAuthenticationMethod = 0x8C,
    /// DISCONNECT: nothing received for one and a half Keep Alive.
    KeepAliveTimeout = 0x8D,
    /// DISCONNECT: another connection uses the same Client Identifier.
    SessionTakenOver = 0x8E,
    /// The Topic Filter is not accepted.
    TopicFilterInvalid = 0x8F,
    /// The Topic Name is not accepted.
    TopicNameInvalid = 0x90,
    /// The Packet Identifier is already in use: both sides disagree on the Session State.
    PacketIdentifierInUse = 0x91,
    /// PUBREL, PUBCOMP: the Packet Identifier is not known; not an error during recovery.
    PacketIdentifierNotFound = 0x92,
    /// DISCONNECT: more unacknowledged publishes than Receive Maximum allows.
    ReceiveMaximumExceeded = 0x93,
    /// DISCONNECT: Topic Alias 0 or above the announced maximum.
    TopicAliasInvalid = 0x94,
    /// The packet is larger than its receiver accepts.
    PacketTooLarge = 0x95,
    /// DISCONNECT: messages arrive too fast.
    MessageRateTooHigh = 0x96,
    /// A limit set by administration is exceeded.
    QuotaExceeded = 0x97,
    /// DISCONNECT: closed by administrative action.
    AdministrativeAction = 0x98,
    /// The payload is not what the Payload Format Indicator says.
    PayloadFormatInvalid = 0x99,
    /// Retained Messages are not supported.
    RetainNotSupported = 0x9A,
    /// The QoS is above the Maximum QoS.
    QosNotSupported = 0x9B,
    /// Use another server for now.
    UseAnotherServer = 0x9C,
    /// Use another server from now on.
    ServerMoved = 0x9D,
    /// Shared Subscriptions are not supported.
    SharedSubscriptionsNotSupported = 0x9E,
    /// Connects come too fast.
    ConnectionRateExceeded = 0x9F,
    /// DISCONNECT: the time authorized for this connection is over.
    MaximumConnectTime = 0xA0,
    /// Subscription Identifiers are not supported.
    SubscriptionIdentifiersNotSupported = 0xA1,
    /// Wildcard Subscriptions are not supported.
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// The Reason Code with this number, if the text gives it a meaning.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0x00 => Self::Success,
            0x01 => Self::GrantedQos1,
            0x02 => Self::GrantedQos2,
            0x04 => Self::DisconnectWithWill,
            0x10 => Self::NoMatchingSubscribers,
            0x11 => Self::NoSubscriptionExisted,
            0x18 => Self::ContinueAuthentication,
            0x19 => Self::ReAuthenticate,
            0x80 => Self::UnspecifiedError,
            0x81 => Self::MalformedPacket,
            0x82 => Self::ProtocolError,
            0x83 => Self::ImplementationSpecificError,
            0x84 => Self::UnsupportedProtocolVersion,
            0x85 => Self::ClientIdentifierNotValid,
            0x86 => Self::BadUserNameOrPassword,
            0x87 => Self::NotAuthorized,
            0x88 => Self::ServerUnavailable,
            0x89 => Self::ServerBusy,
            0x8A => Self::Banned,
            0x8B => Self::ServerShuttingDown,
            0x8C => Self::BadAuthenticationMethod,
            0x8D => Self::KeepAliveTimeout,
            0x8E => Self::SessionTakenOver,
            0x8F => Self::TopicFilterInvalid,
            0x90 => Self::TopicNameInvalid,
            0x91 => Self::PacketIdentifierInUse,
            0x92 => Self::PacketIdentifierNotFound,
            0x93 => Self::ReceiveMaximumExceeded,
            0x94 => Self::TopicAliasInvalid,
            0x95 => Self::PacketTooLarge,
            0x96 => Self::MessageRateTooHigh,
            0x97 => Self::QuotaExceeded,
            0x98 => Self::AdministrativeAction,
            0x99 => Self::PayloadFormatInvalid,
            0x9A => Self::RetainNotSupported,
            0x9B => Self::QosNotSupported,
            0x9C => Self::UseAnotherServer,
            0x9D => Self::ServerMoved,
            0x9E => Self::SharedSubscriptionsNotSupported,
            0x9F => Self::ConnectionRateExceeded,
            0xA0 => Self::MaximumConnectTime,
            0xA1 => Self::SubscriptionIdentifiersNotSupported,
            0xA2 => Self::WildcardSubscriptionsNotSupported,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// 0x80 and above: what was asked for did not happen.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.as_u8() >= 0x80
    }

    /// Whether the table of this packet type lists the code, for either sender. False for packets that carry none.
    ///
    /// DISCONNECT takes 0x8C as well: section 2.4 lists it there, for a failed re-authentication, section 3.14.2.1 forgot it.
    #[must_use]
    pub const fn is_allowed_in(self, packet_type: PacketType) -> bool {
        let code = self.as_u8();
        match packet_type {
            PacketType::ConnAck => {
                matches!(code, 0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
            }
            PacketType::PubAck | PacketType::PubRec => {
                matches!(code, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            PacketType::PubRel | PacketType::PubComp => matches!(code, 0x00 | 0x92),
            PacketType::SubAck => {
                matches!(code, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
            }
            PacketType::UnsubAck => matches!(code, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
            PacketType::Disconnect => {
                matches!(code, 0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2)
            }
            PacketType::Auth => matches!(code, 0x00 | 0x18 | 0x19),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_agree() {
        let mut known = 0;
        for number in 0..=u8::MAX {
            if let Some(code) = ReasonCode::from_u8(number) {
                assert_eq!(code.as_u8(), number);
                assert_eq!(code.is_error(), number >= 0x80);
                known += 1;
            }
        }
        assert_eq!(known, 43);
    }

    #[test]
    fn every_code_belongs_to_some_packet() {
        for code in (0..=u8::MAX).filter_map(ReasonCode::from_u8) {
            let carriers =
                (1..=15).filter_map(PacketType::from_u8).filter(|&kind| code.is_allowed_in(kind)).count();
            assert!(carriers > 0, "{code:?}");
        }
    }

    #[test]
    fn tables_have_as_many_codes_as_the_text() {
        let count = |kind| {
            (0..=u8::MAX).filter_map(ReasonCode::from_u8).filter(|code| code.is_allowed_in(kind)).count()
        };
        assert_eq!(count(PacketType::ConnAck), 22);
        assert_eq!(count(PacketType::PubAck), 9);
        assert_eq!(count(PacketType::PubRec), 9);
        assert_eq!(count(PacketType::PubRel), 2);
        assert_eq!(count(PacketType::PubComp), 2);
        assert_eq!(count(PacketType::SubAck), 12);
        assert_eq!(count(PacketType::UnsubAck), 7);
        assert_eq!(count(PacketType::Disconnect), 29 + 1); // 0x8C: see is_allowed_in
        assert_eq!(count(PacketType::Auth), 3);
        assert_eq!(count(PacketType::Publish), 0);
    }
}
