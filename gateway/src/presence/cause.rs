//! Why a connection ended, out of one closed list, in words that a program can match and a person can act upon.

use gateway_protocol::ReasonCode;

/// How a connection ended, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client sent DISCONNECT.
    Left,
    /// The client sent DISCONNECT and wanted its Will Message published.
    LeftWithWill,
    /// The transport ended without DISCONNECT.
    Lost,
    /// The gateway closed it.
    Closed(ReasonCode),
    /// CONNECT was answered with a refusal.
    Refused(ReasonCode),
}

impl Cause {
    /// Who ended it: `client`, `network` or `gateway`.
    #[must_use]
    pub const fn by(self) -> &'static str {
        match self {
            Self::Left | Self::LeftWithWill => "client",
            Self::Lost => "network",
            Self::Closed(_) | Self::Refused(_) => "gateway",
        }
    }

    /// `ended` or `refused`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Left | Self::LeftWithWill | Self::Lost | Self::Closed(_) => "ended",
        }
    }

    /// The Reason Code of MQTT 5 for it, where there is one. A client of version 3.1.1 was not told.
    #[must_use]
    pub const fn reason_code(self) -> Option<u8> {
        match self {
            Self::Left => Some(ReasonCode::Success.as_u8()),
            Self::LeftWithWill => Some(ReasonCode::DisconnectWithWill.as_u8()),
            Self::Lost => None,
            Self::Closed(code) | Self::Refused(code) => Some(code.as_u8()),
        }
    }

    /// The reason in one word.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Left => "disconnected",
            Self::LeftWithWill => "disconnected_with_will",
            Self::Lost => "connection_lost",
            Self::Closed(code) | Self::Refused(code) => word(code),
        }
    }

    /// What that means, and what to look at.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Left => "the client said goodbye; nothing is wrong",
            Self::LeftWithWill => "the client said goodbye and had its Will Message published",
            Self::Lost => {
                "the connection ended without a DISCONNECT: the device lost power or network, was restarted, or closed its socket"
            }
            Self::Closed(code) => meaning(code),
            Self::Refused(ReasonCode::ServerBusy) => {
                "there was no room for it: a limit is reached (admission.max_connections and its like), its old connection did not close, or the gateway protects itself (gateway status)"
            }
            Self::Refused(ReasonCode::NotAuthorized) => {
                "the listener admits nobody without credentials, and these were not accepted"
            }
            Self::Refused(ReasonCode::ServerUnavailable) => {
                "the log took no entries just then, so no session could be opened; /readyz says what is wrong"
            }
            Self::Refused(code) => meaning(code),
        }
    }
}

const fn word(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::MalformedPacket => "malformed_packet",
        ReasonCode::ProtocolError => "protocol_error",
        ReasonCode::ImplementationSpecificError => "implementation_specific_error",
        ReasonCode::NotAuthorized => "not_authorized",
        ReasonCode::BadUserNameOrPassword => "bad_user_name_or_password",
        ReasonCode::ServerUnavailable => "server_unavailable",
        ReasonCode::ServerBusy => "server_busy",
        ReasonCode::ServerShuttingDown => "server_shutting_down",
        ReasonCode::KeepAliveTimeout => "keep_alive_timeout",
        ReasonCode::SessionTakenOver => "session_taken_over",
        ReasonCode::TopicFilterInvalid => "topic_filter_invalid",
        ReasonCode::TopicNameInvalid => "topic_name_invalid",
        ReasonCode::ReceiveMaximumExceeded => "receive_maximum_exceeded",
        ReasonCode::TopicAliasInvalid => "topic_alias_invalid",
        ReasonCode::PacketTooLarge => "packet_too_large",
        ReasonCode::MessageRateTooHigh => "message_rate_too_high",
        ReasonCode::QuotaExceeded => "quota_exceeded",
        ReasonCode::AdministrativeAction => "administrative_action",
        ReasonCode::RetainNotSupported => "retain_not_supported",
        ReasonCode::QosNotSupported => "qos_not_supported",
        ReasonCode::UseAnotherServer => "use_another_server",
        ReasonCode::ServerMoved => "server_moved",
        ReasonCode::SharedSubscriptionsNotSupported => "shared_subscriptions_not_supported",
        ReasonCode::ConnectionRateExceeded => "connection_rate_exceeded",
        ReasonCode::MaximumConnectTime => "maximum_connect_time",
        ReasonCode::SubscriptionIdentifiersNotSupported => "subscription_identifiers_not_supported",
        ReasonCode::WildcardSubscriptionsNotSupported => "wildcard_subscriptions_not_supported",
        _ => "unspecified_error",
    }
}

const fn meaning(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::MalformedPacket => {
            "the client sent bytes that are no MQTT packet: look at its library, or at what is between it and here"
        }
        ReasonCode::ProtocolError => {
            "the client sent a packet that is not allowed, or not then: look at its library"
        }
        ReasonCode::NotAuthorized => "the client did what it may not do",
        ReasonCode::ServerBusy => {
            "the log failed under what the client had published, and what it was not told is stored it sends again"
        }
        ReasonCode::ServerShuttingDown => {
            "the gateway was stopped or restarted; the client may come back at once"
        }
        ReasonCode::UseAnotherServer => {
            "the gateway was drained (gateway drain), and the client told which server to use instead"
        }
        ReasonCode::KeepAliveTimeout => {
            "nothing came from the client for one and a half Keep Alive: it hung, lost its network, or sends no PINGREQ in time"
        }
        ReasonCode::SessionTakenOver => {
            "another connection came with the same Client Identifier: two devices share one, or the client reconnected before its old connection was seen to be dead"
        }
        ReasonCode::ReceiveMaximumExceeded => {
            "the client sent more without waiting for acknowledgements than Receive Maximum allows"
        }
        ReasonCode::TopicAliasInvalid => {
            "the client used a Topic Alias that is 0 or above mqtt.topic_alias_maximum"
        }
        ReasonCode::PacketTooLarge => {
            "a packet was larger than mqtt.max_packet_bytes, or than the client itself takes"
        }
        ReasonCode::MessageRateTooHigh => "the client sent more than its rate allows; see gateway decisions",
        ReasonCode::QuotaExceeded => {
            "more waited for the client, or came from it, than may: it reads too slowly, was away too long, or took more than its share under pressure"
        }
        ReasonCode::AdministrativeAction => "an operator closed it (gateway clients kick)",
        ReasonCode::RetainNotSupported => {
            "the client published a Retained Message, which mqtt.retain_available forbids"
        }
        ReasonCode::QosNotSupported => "the client published above mqtt.max_qos",
        ReasonCode::ConnectionRateExceeded => {
            "too many connects at once: they are paced, and the client may come back a little later"
        }
        _ => "the gateway closed it; its log of that moment may say more",
    }
}
