//! The server side of one MQTT connection and its Session, as a state machine without I/O.
//!
//! ```text
//!                     CONNECT                accept()
//!  AwaitingConnect ------------> Connecting ----------> Connected
//!        |                           |                      |  DISCONNECT, an error of the peer,
//!        | not CONNECT, timeout      | refuse()             |  keep alive missed, close()
//!        +------------+--------------+----------------------+
//!                     v
//!                  Closed   (nothing is read or written any more)
//! ```
//!
//! What it promises: every byte it writes to `out` is legal MQTT for the negotiated version, in the order in which it has to
//! leave; a PUBACK exists only because the host said [`Session::handle_durable`]; no more than Receive Maximum publishes are
//! unacknowledged in either direction. What it refuses to know: sockets, clocks (time is an argument), disks, topics' meaning,
//! and who else is connected.
//!
//! Calling order: feed each decoded packet to [`Session::handle_packet`] and act on the [`Event`] it returns before feeding the
//! next. `Event` borrows from the read buffer, which is why it is returned and not queued. Ask [`Session::poll_timeout`]
//! whenever the machine was touched, and call [`Session::handle_timeout`] when that moment has come.

mod acknowledge;
mod alias;
mod connect;
mod frames;
mod inbound;
mod keep_alive;
mod outbound;
#[cfg(test)]
mod tests;

pub use acknowledge::DUPLICATE_PROPERTY;
pub use connect::{Accepted, ClientLimits, ServerLimits};
pub use frames::{FrameOf, Frames, FramesIn};
pub use outbound::{DURABLE_IDENTIFIERS, Delivery, LIVE_IDENTIFIERS, Lane, Sent};

use crate::codec::{DecodeError, encode};
use crate::packet::{Connect, Disconnect, Packet, PacketType, Publish, Subscribe, Unsubscribe};
use crate::property::{Properties, PropertiesBuf, Property};
use crate::{PacketId, ProtocolVersion, QoS, ReasonCode};
use acknowledge::finished;
use alias::InboundAliases;
use inbound::Inbound;
use keep_alive::KeepAlive;
use outbound::Outbound;
use std::sync::Arc;

/// Milliseconds of a monotonic clock. Where zero lies is the host's choice; only differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment `ms` milliseconds later, saturating.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// What a packet asks of the host.
#[derive(Debug)]
pub enum Event<'a> {
    /// The peer wants a Session: authenticate it, open the Session, then call [`Session::accept`] or [`Session::refuse`].
    Connect(Connect<'a>),
    /// A message. Above QoS 0 it now stands in the queue of acknowledgements to come: the host owes one
    /// [`Session::handle_durable`] for it, and may call [`Session::refuse_publish`] right away. At QoS 2 the Packet Identifier has to be
    /// stored along with the message, where the Session is durable.
    Publish(Publish<'a>),
    /// The client will not repeat this QoS 2 publish: forget its identifier, durably where the Session is, then call
    /// [`Session::handle_released`].
    Released {
        /// The Packet Identifier.
        packet_id: PacketId,
    },
    /// The client has a QoS 2 delivery of the durable lane. Store that, then call [`Session::handle_remembered`].
    Received {
        /// The delivery's number.
        sequence: u64,
    },
    /// Answer with [`Session::suback`].
    Subscribe(Subscribe<'a>),
    /// Answer with [`Session::unsuback`].
    Unsubscribe(Unsubscribe<'a>),
    /// The client has taken a delivery; its Packet Identifier is free again.
    Acknowledged {
        /// Which numbering `sequence` belongs to.
        lane: Lane,
        /// The delivery's number in its lane.
        sequence: u64,
        /// What the client said of it.
        reason: ReasonCode,
    },
    /// The client leaves on its own account.
    Disconnect {
        /// The Will Message is to be published all the same (Reason Code 0x04).
        with_will: bool,
        /// A new Session Expiry Interval in seconds, if DISCONNECT brought one.
        session_expiry_secs: Option<u32>,
    },
    /// Nothing: the machine has dealt with it.
    Handled,
}

/// The connection has to end. Whatever MQTT wants said about it is in `out` already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection closed: {reason:?}")]
pub struct Closed {
    /// The cause, as a version 5 peer was told (a 3.1.1 peer cannot be told).
    pub reason: ReasonCode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitingConnect,
    Connecting,
    Connected,
    Closed,
}

/// The state machine. One for each connection; a resumed Session is rebuilt with [`Session::resume`].
#[derive(Debug)]
pub struct Session {
    state: State,
    version: ProtocolVersion,
    limits: Arc<ServerLimits>,
    client: ClientLimits,
    /// That of the limits, or a lower one of this connection's own.
    receive_maximum: u16,
    keep_alive: KeepAlive,
    inbound: Inbound,
    outbound: Outbound,
    /// Where the client has given some.
    aliases: Option<Box<InboundAliases>>,
}

impl Session {
    /// A connection that was accepted at `now` and has to send CONNECT within `limits.connect_timeout_ms`.
    #[must_use]
    pub fn new(limits: Arc<ServerLimits>, now: Millis) -> Self {
        Self {
            state: State::AwaitingConnect,
            version: ProtocolVersion::V3_1_1,
            client: ClientLimits::default(),
            receive_maximum: limits.receive_maximum,
            keep_alive: KeepAlive::awaiting_connect(now, limits.connect_timeout_ms),
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            aliases: None,
            limits,
        }
    }

    /// The negotiated protocol version; before CONNECT, 3.1.1.
    #[must_use]
    pub const fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Whether CONNECT was accepted and the connection still stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Whether no CONNECT has been seen yet.
    #[must_use]
    pub fn is_awaiting_connect(&self) -> bool {
        self.state == State::AwaitingConnect
    }

    /// What the client announced in CONNECT, bounded by this server's own limits.
    #[must_use]
    pub const fn client_limits(&self) -> &ClientLimits {
        &self.client
    }

    /// Publishes received above QoS 0 and not acknowledged by PUBACK or PUBREC yet.
    #[must_use]
    pub fn unacknowledged_inbound(&self) -> usize {
        self.inbound.pending()
    }

    /// A 3.1.1 client knows no Receive Maximum; when this is false the host stops reading until acknowledgements have gone out.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.version.is_v5() || self.inbound.pending() < usize::from(self.receive_maximum)
    }

    /// Takes one packet from the peer. Bytes to send are appended to `out`.
    ///
    /// # Errors
    /// [`Closed`] when the packet ends the connection; what the peer is to be told is in `out`.
    #[inline]
    pub fn handle_packet<'a>(
        &mut self,
        now: Millis,
        packet: Packet<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Event<'a>, Closed> {
        match (self.state, packet) {
            (State::AwaitingConnect, Packet::Connect(connect)) => self.handle_connect(connect, out),
            (State::AwaitingConnect | State::Closed, _) => {
                Err(self.close(ReasonCode::ProtocolError, None, out))
            }
            // Until it is accepted a client may send on, but nothing of it is looked at: the host reads no further.
            (State::Connecting, _) => Err(self.close(ReasonCode::ProtocolError, None, out)),
            (State::Connected, packet) => {
                self.keep_alive.received(now);
                self.handle_connected(packet, out)
            }
        }
    }

    #[inline]
    fn handle_connected<'a>(&mut self, packet: Packet<'a>, out: &mut Vec<u8>) -> Result<Event<'a>, Closed> {
        match packet {
            Packet::Publish(publish) => {
                let is_new = self.receive_publish(&publish, out)?;
                Ok(if is_new { Event::Publish(publish) } else { Event::Handled })
            }
            Packet::PubAck(ack) => Ok(finished(self.outbound.puback(ack.packet_id), ack.reason_code)),
            Packet::PubRec(ack) => Ok(self.handle_pubrec(&ack, out)),
            Packet::PubComp(ack) => Ok(finished(self.outbound.pubcomp(ack.packet_id), ack.reason_code)),
            Packet::PubRel(ack) => Ok(self.handle_pubrel(&ack, out)),
            Packet::Subscribe(subscribe) => Ok(Event::Subscribe(subscribe)),
            Packet::Unsubscribe(unsubscribe) => Ok(Event::Unsubscribe(unsubscribe)),
            Packet::PingReq => {
                self.write(&Packet::PingResp, out);
                Ok(Event::Handled)
            }
            Packet::Disconnect(disconnect) => self.handle_disconnect(&disconnect, out),
            // [MQTT-3.1.0-2] a second CONNECT; the rest are packets that only a server sends, or belong to enhanced authentication,
            // which was not agreed on in CONNECT.
            Packet::Connect(_) => Err(self.fail("a second CONNECT", out)),
            Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::Auth(_) => Err(self.fail("a packet that is not a client's to send now", out)),
        }
    }

    /// [`Session::handle_packet`] for a PUBLISH, which stays where it is: of all packets this is the one whose being moved is felt. Whether it
    /// is the host's to take ([`Event::Publish`]); if not, it is dealt with.
    ///
    /// # Errors
    /// [`Closed`] when the packet ends the connection; what the peer is to be told is in `out`.
    #[inline]
    pub fn handle_publish(
        &mut self,
        now: Millis,
        publish: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Closed> {
        if self.state != State::Connected {
            return Err(self.close(ReasonCode::ProtocolError, None, out));
        }
        self.keep_alive.received(now);
        self.receive_publish(publish, out)
    }

    #[inline]
    fn receive_publish(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<bool, Closed> {
        if !publish.properties.is_empty() {
            self.check_properties(publish, out)?;
        }
        if publish.retain && self.version.is_v5() && !self.limits.retain_available {
            return Err(self.close(ReasonCode::RetainNotSupported, None, out));
        }
        if publish.qos > self.limits.max_qos {
            return Err(self.close(ReasonCode::QosNotSupported, None, out));
        }
        let Some(packet_id) = publish.packet_id else {
            return Ok(true);
        };
        if self.inbound.is_pending(packet_id) {
            // A retransmission of what is on its way to the disk: one acknowledgement will answer both.
            return Ok(false);
        }
        if self.inbound.is_received(packet_id) {
            if publish.qos == QoS::ExactlyOnce {
                self.ack(Packet::PubRec, packet_id, ReasonCode::Success, out); // [MQTT-4.3.3-10]
                return Ok(false);
            }
            // The identifier is taken; 0x91 would say so, but no DISCONNECT may carry it.
            return Err(self.fail("a PUBLISH under a Packet Identifier that is not released", out));
        }
        if self.version.is_v5() && self.inbound.unfinished() >= usize::from(self.receive_maximum) {
            return Err(self.close(ReasonCode::ReceiveMaximumExceeded, None, out));
        }
        self.inbound.push(packet_id, publish.qos);
        Ok(true)
    }

    /// The topic that the client calls so.
    fn alias(&self, alias: u16) -> Option<&str> {
        self.aliases.as_ref()?.get(alias)
    }

    /// What a PUBLISH asks of the connection by its properties.
    fn check_properties(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<(), Closed> {
        if let Some(alias) = publish.properties.topic_alias() {
            if alias > self.limits.topic_alias_maximum {
                // [MQTT-3.2.2-17]
                return Err(self.close(
                    ReasonCode::TopicAliasInvalid,
                    Some("the Topic Alias is above the Topic Alias Maximum"),
                    out,
                ));
            }
            if !publish.topic.is_empty() {
                self.aliases.get_or_insert_default().set(alias, publish.topic);
            } else if self.alias(alias).is_none() {
                return Err(self.fail("a Topic Alias that stands for no topic", out));
            }
        }
        if publish.properties.subscription_identifier().is_some() {
            // [MQTT-3.3.4-6]
            return Err(self.fail("a Subscription Identifier in a PUBLISH of a client", out));
        }
        Ok(())
    }

    fn handle_disconnect<'a>(
        &mut self,
        disconnect: &Disconnect<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Event<'a>, Closed> {
        let session_expiry_secs = disconnect.properties.session_expiry_interval();
        if self.client.session_expiry_secs == 0 && session_expiry_secs.is_some_and(|secs| secs != 0) {
            // A Session that was to end with its connection cannot be kept after all (MQTT 5, 3.14.2.2.2).
            return Err(self.fail("a Session Expiry Interval where CONNECT had none", out));
        }
        self.state = State::Closed;
        let with_will = disconnect.reason_code != ReasonCode::Success;
        Ok(Event::Disconnect { with_will, session_expiry_secs })
    }

    /// Prepares a resumed Session: deliveries of the durable lane start again at `sequence`, the oldest unacknowledged one, and the QoS 2
    /// publishes under the identifiers `received` are ours but not released.
    pub fn resume(&mut self, sequence: u64, received: impl IntoIterator<Item = PacketId>) {
        self.outbound.resume(sequence);
        self.inbound.resume(received);
    }

    /// Deliveries of the live lane that the client has not acknowledged; they end with the connection.
    #[must_use]
    pub fn live_in_flight(&self) -> usize {
        self.outbound.live_in_flight()
    }

    /// The number in the live lane that the next delivery without one of its own gets, if it is sent above QoS 0.
    #[must_use]
    pub fn next_live(&self) -> u64 {
        self.outbound.next_live()
    }

    /// How many more deliveries at QoS 1 the client lets us have in flight [MQTT-3.3.4-9].
    #[must_use]
    pub fn send_quota(&self) -> usize {
        usize::from(self.client.receive_maximum).saturating_sub(self.outbound.in_flight())
    }

    /// How many deliveries above QoS 0 it has not acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.outbound.in_flight()
    }

    /// Sends one message to the client, if it may be sent now.
    pub fn handle_delivery(&mut self, delivery: &Delivery<'_>, out: &mut Vec<u8>) -> Sent {
        if self.state != State::Connected {
            return Sent::Closed;
        }
        let mut delivery = *delivery;
        if delivery.sequence.is_none() && self.client.session_expiry_secs > 0 {
            // An identifier of the live lane means another message on the next connection, but at QoS 2 a client that resumes may still
            // hold it, and would take the other message for a repetition.
            delivery.qos = delivery.qos.min(QoS::AtLeastOnce);
        }
        if delivery.qos != QoS::AtMostOnce && self.send_quota() == 0 {
            return Sent::QuotaExhausted;
        }
        self.outbound.send(&delivery, self.version, self.client.maximum_packet_bytes as usize, out)
    }

    /// The connection has to end for a reason of the host's or of the peer's making: tells the peer where the version allows it. `why` is for
    /// people: it goes along as Reason String if the peer wants such and the packet stays within its Maximum Packet Size [MQTT-3.14.2-3].
    pub fn close(&mut self, mut reason: ReasonCode, why: Option<&str>, out: &mut Vec<u8>) -> Closed {
        match self.state {
            // A version 5 client learns why; a 3.1.1 server has no DISCONNECT to send.
            State::Connected if self.version.is_v5() => {
                reason = match reason {
                    reason if reason.is_allowed_in(PacketType::Disconnect) => reason,
                    // A second CONNECT, of a version that is not spoken here either [MQTT-3.1.0-2].
                    ReasonCode::UnsupportedProtocolVersion => ReasonCode::ProtocolError,
                    _ => ReasonCode::UnspecifiedError,
                };
                let why = why.filter(|_| self.client.wants_problem_information).unwrap_or_default();
                let properties = self.reason_properties(why);
                for properties in [properties.as_properties(), Properties::default()] {
                    let disconnect = Disconnect { reason_code: reason, properties };
                    if self.write(&Packet::Disconnect(disconnect), out) {
                        break;
                    }
                }
            }
            State::Connecting => self.write_refusal(reason, "", out),
            State::AwaitingConnect | State::Connected | State::Closed => {}
        }
        self.state = State::Closed;
        Closed { reason }
    }

    /// Ends the connection because the client is to use another server: a version 5 client learns which (0x9C).
    pub fn redirect(&mut self, server_reference: &str, out: &mut Vec<u8>) -> Closed {
        let reason = ReasonCode::UseAnotherServer;
        let mut properties = PropertiesBuf::new();
        let is_told = self.state == State::Connected
            && self.version.is_v5()
            && properties.push(Property::ServerReference(server_reference)).is_ok();
        if is_told {
            let properties = properties.as_properties();
            let disconnect = Disconnect { reason_code: reason, properties };
            if self.write(&Packet::Disconnect(disconnect), out) {
                self.state = State::Closed;
                return Closed { reason };
            }
        }
        self.close(reason, None, out)
    }

    /// The peer has sent a packet that it may not send.
    fn fail(&mut self, why: &str, out: &mut Vec<u8>) -> Closed {
        self.close(ReasonCode::ProtocolError, Some(why), out)
    }

    /// The peer sent bytes that are no packet.
    pub fn handle_malformed(&mut self, error: DecodeError, out: &mut Vec<u8>) -> Closed {
        let reason = error.reason_code();
        if self.state == State::AwaitingConnect && error == DecodeError::UnsupportedProtocolVersion {
            self.write_refusal(reason, "", out);
        }
        self.close(reason, Some(&error.to_string()), out)
    }

    /// When [`Session::handle_timeout`] wants to be called next, if at all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Millis> {
        match self.state {
            State::Closed => None,
            _ => self.keep_alive.deadline(),
        }
    }

    /// Looks at the clock: no CONNECT in time, or nothing received for one and a half Keep Alive [MQTT-3.1.2-22].
    ///
    /// # Errors
    /// [`Closed`] when the connection has to end.
    pub fn handle_timeout(&mut self, now: Millis, out: &mut Vec<u8>) -> Result<(), Closed> {
        match self.poll_timeout() {
            Some(deadline) if deadline <= now => Err(self.close(ReasonCode::KeepAliveTimeout, None, out)),
            _ => Ok(()),
        }
    }

    /// The host did not listen for a while: silence until `now` is not the peer's.
    pub const fn excuse_silence(&mut self, now: Millis) {
        self.keep_alive.received(now);
    }

    /// Appends a packet, unless it is larger than the client takes [MQTT-3.1.2-24]; false then.
    fn write(&self, packet: &Packet<'_>, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        // The machine builds no packet that the encoder refuses; were it to, the peer gets nothing rather than half of it.
        let written = encode(packet, self.version, out);
        debug_assert!(written.is_ok(), "the session built a packet that cannot be encoded");
        if out.len() - before > self.client.maximum_packet_bytes as usize {
            out.truncate(before);
            return false;
        }
        true
    }

    fn reason_properties(&self, text: &str) -> PropertiesBuf {
        let mut properties = PropertiesBuf::new();
        if self.version.is_v5() && !text.is_empty() {
            // A refused push (never, for our own texts) leaves the property out, which is always legal.
            let _ = properties.push(Property::ReasonString(text));
        }
        properties
    }
}
