//! CONNECT and its answer: what both sides announce, and what is agreed.

use super::{Closed, Event, KeepAlive, LIVE_IDENTIFIERS, Millis, Session, State};
use crate::packet::{ConnAck, Connect, Packet, PacketType};
use crate::property::{Properties, PropertiesBuf, Property};
use crate::{ProtocolVersion, QoS, ReasonCode};

/// What this server announces and enforces; one value for all connections of a listener.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Highest QoS at which the client may publish, and at which it is granted a subscription.
    pub max_qos: QoS,
    /// Retained Messages are kept.
    pub retain_available: bool,
    /// Topic Filters may have wildcards.
    pub wildcard_subscription_available: bool,
    /// `$share/...` may be subscribed to.
    pub shared_subscription_available: bool,
    /// Subscriptions may carry an identifier.
    pub subscription_identifiers_available: bool,
    /// Publishes at QoS 1 a client may have unacknowledged towards us; not 0.
    pub receive_maximum: u16,
    /// Deliveries at QoS 1 that we have unacknowledged towards a client, at most 16,384.
    pub max_inflight: u16,
    /// Largest packet taken, fixed header included, in bytes.
    pub max_packet_bytes: u32,
    /// Keep Alive imposed on clients, in seconds; 0: what they ask for.
    pub server_keep_alive_secs: u16,
    /// Topic Aliases a client may use.
    pub topic_alias_maximum: u16,
    /// Longest Session Expiry Interval granted, in seconds.
    pub session_expiry_max_secs: u32,
    /// An empty Client Identifier gets one assigned.
    pub allow_empty_client_id: bool,
    /// How long a connection may take to send CONNECT, in milliseconds.
    pub connect_timeout_ms: u64,
}

/// What the client announced, bounded by the server's own limits.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Deliveries at QoS 1 in flight at most.
    pub receive_maximum: u16,
    /// Largest packet the client takes, in bytes.
    pub maximum_packet_bytes: u32,
    /// How long the Session outlives its connection, in seconds.
    pub session_expiry_secs: u32,
    /// Reason Strings and User Properties are welcome on every packet [MQTT-3.1.2-29].
    pub wants_problem_information: bool,
    /// Keep Alive in force, in seconds; 0: none.
    pub keep_alive_secs: u16,
    /// The client asked for something else than it gets.
    expiry_was_cut: bool,
    /// The Keep Alive is this server's.
    keep_alive_is_imposed: bool,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_packet_bytes: u32::MAX,
            session_expiry_secs: 0,
            wants_problem_information: true,
            keep_alive_secs: 0,
            expiry_was_cut: false,
            keep_alive_is_imposed: false,
        }
    }
}

/// The host's answer to an accepted CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'a> {
    /// State of an earlier connection goes on [MQTT-3.2.2-3].
    pub session_present: bool,
    /// The Client Identifier that was made up for the client [MQTT-3.2.2-16].
    pub assigned_client_id: Option<&'a str>,
}

impl Session {
    pub(super) fn handle_connect<'a>(
        &mut self,
        connect: Connect<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Event<'a>, Closed> {
        self.version = connect.version;
        self.state = State::Connecting;
        self.client = self.negotiate(&connect);
        self.outbound.allow_aliases(connect.properties.topic_alias_maximum().unwrap_or(0));
        if connect.client_id.is_empty() {
            // A 3.1.1 client without a name must not want its state kept [MQTT-3.1.3-8]; 3.1 knows no empty names.
            let nameless = match connect.version {
                ProtocolVersion::V3_1 => false,
                ProtocolVersion::V3_1_1 => connect.clean_start,
                ProtocolVersion::V5 => true,
            };
            if !nameless || !self.limits.allow_empty_client_id {
                return Err(self.refuse(ReasonCode::ClientIdentifierNotValid, out));
            }
        }
        if connect.properties.authentication_method().is_some() {
            return Err(self.refuse(ReasonCode::BadAuthenticationMethod, out));
        }
        if let Some(will) = &connect.will {
            if will.qos > self.limits.max_qos {
                return Err(self.refuse(ReasonCode::QosNotSupported, out)); // [MQTT-3.2.2-12]
            }
            if will.retain && !self.limits.retain_available {
                return Err(self.refuse(ReasonCode::RetainNotSupported, out)); // [MQTT-3.2.2-13]
            }
        }
        Ok(Event::Connect(connect))
    }

    fn negotiate(&self, connect: &Connect<'_>) -> ClientLimits {
        let properties = connect.properties;
        let asked_expiry = match connect.version {
            ProtocolVersion::V5 => properties.session_expiry_interval().unwrap_or(0),
            // 3.1.1: a Session that is not clean is kept for as long as the server is willing to.
            _ if connect.clean_start => 0,
            _ => self.limits.session_expiry_max_secs,
        };
        let session_expiry_secs = asked_expiry.min(self.limits.session_expiry_max_secs);
        let keep_alive_is_imposed = self.limits.server_keep_alive_secs != 0 && connect.version.is_v5();
        let keep_alive_secs = match keep_alive_is_imposed {
            true => self.limits.server_keep_alive_secs,
            false => connect.keep_alive_secs,
        };
        ClientLimits {
            receive_maximum: properties
                .receive_maximum()
                .unwrap_or(u16::MAX)
                .min(self.limits.max_inflight)
                .min(LIVE_IDENTIFIERS),
            maximum_packet_bytes: properties.maximum_packet_size().unwrap_or(u32::MAX),
            session_expiry_secs,
            wants_problem_information: properties.request_problem_information().unwrap_or(true),
            keep_alive_secs,
            expiry_was_cut: session_expiry_secs != asked_expiry,
            keep_alive_is_imposed,
        }
    }

    /// The Session stands: writes CONNACK and starts Keep Alive. Without effect unless a CONNECT waits for its answer.
    ///
    /// # Errors
    /// [`Closed`] when the client takes no packet as large as the CONNACK: it gets nothing, and the connection ends.
    pub fn accept(&mut self, now: Millis, accepted: Accepted<'_>, out: &mut Vec<u8>) -> Result<(), Closed> {
        if self.state != State::Connecting {
            return Ok(());
        }
        let mut properties = PropertiesBuf::new();
        if self.version.is_v5() {
            self.announce(accepted, &mut properties);
        }
        self.state = State::Connected;
        self.keep_alive = KeepAlive::connected(now, self.client.keep_alive_secs);
        let connack = Packet::ConnAck(ConnAck {
            session_present: accepted.session_present && self.version != ProtocolVersion::V3_1,
            reason_code: ReasonCode::Success,
            properties: properties.as_properties(),
        });
        if self.write(&connack, out) {
            return Ok(());
        }
        self.state = State::Closed;
        Err(Closed { reason: ReasonCode::PacketTooLarge })
    }

    /// Properties of a version 5 CONNACK: only what differs from the default the text gives an absent one.
    fn announce(&self, accepted: Accepted<'_>, properties: &mut PropertiesBuf) {
        let limits = &self.limits;
        let mut announce = |property: Property<'_>| {
            // Numbers are always accepted; a Client Identifier that cannot be announced was refused before.
            let _ = properties.push(property);
        };
        if self.client.expiry_was_cut {
            announce(Property::SessionExpiryInterval(self.client.session_expiry_secs));
        }
        if self.receive_maximum != u16::MAX {
            announce(Property::ReceiveMaximum(self.receive_maximum));
        }
        if limits.max_qos != QoS::ExactlyOnce {
            announce(Property::MaximumQoS(limits.max_qos as u8)); // [MQTT-3.2.2-9]
        }
        if !limits.retain_available {
            announce(Property::RetainAvailable(0));
        }
        announce(Property::MaximumPacketSize(limits.max_packet_bytes));
        if limits.topic_alias_maximum != 0 {
            announce(Property::TopicAliasMaximum(limits.topic_alias_maximum));
        }
        if let Some(client_id) = accepted.assigned_client_id {
            announce(Property::AssignedClientIdentifier(client_id)); // [MQTT-3.2.2-16]
        }
        if !limits.wildcard_subscription_available {
            announce(Property::WildcardSubscriptionAvailable(0));
        }
        if !limits.subscription_identifiers_available {
            announce(Property::SubscriptionIdentifierAvailable(0));
        }
        if !limits.shared_subscription_available {
            announce(Property::SharedSubscriptionAvailable(0));
        }
        if self.client.keep_alive_is_imposed {
            announce(Property::ServerKeepAlive(self.client.keep_alive_secs));
        }
    }

    /// Terms for this connection alone, in place of those for all: a lower Receive Maximum, and, for a version 5 client, which can be told of it,
    /// another Keep Alive in seconds. Without effect unless a CONNECT waits for its answer.
    pub fn set_terms(&mut self, receive_maximum: u16, keep_alive_secs: Option<u16>) {
        if self.state != State::Connecting {
            return;
        }
        self.receive_maximum = receive_maximum.clamp(1, self.limits.receive_maximum.max(1));
        if let Some(secs) = keep_alive_secs
            && self.version.is_v5()
        {
            self.client.keep_alive_secs = secs;
            self.client.keep_alive_is_imposed = true;
        }
    }

    /// The host does not accept the CONNECT: writes CONNACK with the cause [MQTT-3.2.2-7] and closes.
    pub fn refuse(&mut self, reason: ReasonCode, out: &mut Vec<u8>) -> Closed {
        let text = match reason {
            ReasonCode::ServerUnavailable => "the gateway is not ready; try again later",
            ReasonCode::ServerBusy => "too many connections; try again later",
            _ => "",
        };
        self.refuse_saying(reason, text, out)
    }

    /// As [`Session::refuse`], with a Reason String of the host's for version 5 clients.
    pub fn refuse_saying(&mut self, reason: ReasonCode, text: &str, out: &mut Vec<u8>) -> Closed {
        self.write_refusal(reason, text, out);
        self.state = State::Closed;
        Closed { reason }
    }

    pub(super) fn write_refusal(&self, reason: ReasonCode, text: &str, out: &mut Vec<u8>) {
        let has_no_return_code =
            matches!(reason, ReasonCode::QosNotSupported | ReasonCode::RetainNotSupported);
        if has_no_return_code && !self.version.is_v5() {
            return; // 3.1.1 wants the connection closed without a CONNACK then [MQTT-3.2.2-6].
        }
        // Some reasons to close are none of CONNACK's [MQTT-3.2.2-8].
        let reason = match reason {
            reason if reason.is_allowed_in(PacketType::ConnAck) => reason,
            ReasonCode::ServerShuttingDown => ReasonCode::ServerUnavailable,
            _ => ReasonCode::UnspecifiedError,
        };
        let properties = self.reason_properties(text);
        for properties in [properties.as_properties(), Properties::default()] {
            let connack = ConnAck { session_present: false, reason_code: reason, properties }; // [MQTT-3.2.2-6]
            if self.write(&Packet::ConnAck(connack), out) {
                return; // Without its Reason String, where that does not fit [MQTT-3.2.2-19].
            }
        }
    }
}
