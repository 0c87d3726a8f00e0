//! Honest MQTT clients: the client library's two halves (3.1.1 and 5) behind one [`Link`], with its traps defused.
//!
//! Promise: a link reports what really happened, in order, and a connection that broke loses no knowledge of what was in
//! flight. The traps of rumqttc 0.25, and what is done about them here:
//!
//! - Events that were produced in the poll that failed stay queued and would surface on the *next* connection: they are
//!   drained and reported before the error ([`Link::poll`]).
//! - What was unacknowledged is retransmitted without DUP [MQTT-3.3.1-1], and by the version 5 half in the order of the
//!   Packet Identifiers rather than of sending [MQTT-4.6.0-1]: [`Link::recover`] sets both right.
//! - What waited in the request channel is mixed with what was in flight, and both are cleared when the broker has no
//!   session: what was never sent is kept apart and handed over again.
//! - Reconnecting is immediate: the caller waits ([`backoff`]).
//! - The version 5 half allocates for 65,535 Packet Identifiers (some 13 MB per connection) unless it is limited, and
//!   its identifiers run past the end when a new connection has a smaller Receive Maximum: its state is made anew.
//! - What was released at QoS 2 and not completed must be released again, in order: [`Link::recover`] keeps it.
//! - A Packet Identifier whose PUBREL is out is taken for free: [`inflight`] hands over nothing that could meet it.
//! - The version 5 half never gives back the place of an event that a PUBREC refused; the next connection does.
//! - Nagle's algorithm is on by default.
//!
//! Which acknowledgement belongs to which event is [`inflight`]'s business.

pub(crate) mod backoff;
pub(crate) mod inflight;
mod recovery;
mod v4;
mod v5;

use std::fmt;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5::PublishProperties;

use crate::qos::QoS;
use crate::scenario::Protocol;

/// The most bytes of an incoming packet.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// How long a TCP connection, and then the CONNACK, may take together.
const CONNECT_TIMEOUT_S: u64 = 5;

/// Session Expiry Interval of durable sessions.
const SESSION_EXPIRY_S: u32 = 3_600;

/// Where the broker is.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Broker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.host, self.port)
    }
}

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct LinkOptions {
    pub broker: Broker,
    pub client_id: String,
    pub protocol: Protocol,
    /// Clean Start 0 and a Session Expiry Interval; in 3.1.1 Clean Session 0.
    pub durable: bool,
    /// Keep Alive, seconds.
    pub keep_alive_s: u16,
    /// Unacknowledged QoS 1 publishes, at most.
    pub inflight_max: u16,
    /// Requests waiting for the connection, at most.
    pub requests_max: usize,
    /// Deliveries are answered by [`Link::answer`] alone, and come as [`LinkEvent::Handed`].
    pub answers_itself: bool,
}

/// A PUBLISH, or a Will Message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub topic: String,
    pub qos: QoS,
    pub retain: bool,
    pub payload: Vec<u8>,
    /// Correlation Data; MQTT 3.1.1 has none.
    pub correlation: Option<Bytes>,
}

/// What a link reports.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// CONNACK with success.
    Connected { session_present: bool },
    /// A PUBLISH was written: the Packet Identifier, or 0 for QoS 0.
    Published(u16),
    /// PUBACK, or the last of QoS 2: PUBCOMP, or a PUBREC that refuses. Not accepted if the Reason Code is 0x80 or more.
    Acknowledged { id: u16, accepted: bool },
    /// A PUBLISH came in.
    Delivered { topic: Bytes, payload: Bytes },
    /// A PUBLISH came in that waits for an answer, if it has an identifier: 0 for QoS 0. `offset` is its place in the
    /// gateway's log, if it says so.
    Handed { id: u16, offset: Option<u64>, topic: Bytes, payload: Bytes },
    /// A PUBLISH with a Response Topic came in.
    Requested { topic: Bytes, payload: Bytes, response_topic: String, correlation: Option<Bytes> },
    /// SUBACK: the granted QoS, or a refusal.
    Subscribed(Result<QoS, String>),
    /// DISCONNECT was written.
    Disconnected,
    /// Something else.
    Other,
}

/// What is said to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// Somebody else shall try; in 3.1.1 nothing is said at all.
    Refused,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The broker answered, and refused.
    #[error("the broker refused the connection: {0}")]
    Refused(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Broken(String),
    /// The client library lost track of its Packet Identifiers.
    #[error("{0}")]
    LostTrack(String),
}

/// Hands requests to a link; never waits.
pub(crate) enum Handle {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// One client's connection, and the next one when it breaks. Calling order: [`poll`](Self::poll) until it fails, then
/// [`recover`](Self::recover), a pause, and [`poll`](Self::poll) again.
pub(crate) enum Link {
    V4(Box<v4::Link>),
    V5(Box<v5::Link>),
}

/// Opens a link. Nothing is sent before its first poll.
pub(crate) fn open(options: &LinkOptions) -> (Handle, Link) {
    match options.protocol {
        Protocol::V3_1_1 => {
            let (client, link) = v4::Link::new(options);
            (Handle::V4(client), Link::V4(Box::new(link)))
        }
        Protocol::V5 => {
            let (client, link) = v5::Link::new(options);
            (Handle::V5(client), Link::V5(Box::new(link)))
        }
    }
}

impl Handle {
    /// Hands a PUBLISH over; false if the request channel is full.
    pub(crate) fn publish(&self, topic: &str, qos: QoS, payload: Vec<u8>) -> bool {
        match self {
            Handle::V4(client) => client.try_publish(topic, qos.of_client_v4(), false, payload).is_ok(),
            Handle::V5(client) => client.try_publish(topic, qos.of_client_v5(), false, payload).is_ok(),
        }
    }

    /// The same with QoS 2.
    pub(crate) fn publish_exactly_once(&self, topic: &str, payload: Vec<u8>) -> bool {
        match self {
            Handle::V4(client) => {
                client.try_publish(topic, rumqttc::QoS::ExactlyOnce, false, payload).is_ok()
            }
            Handle::V5(client) => {
                let qos = rumqttc::v5::mqttbytes::QoS::ExactlyOnce;
                client.try_publish(topic, qos, false, payload).is_ok()
            }
        }
    }

    /// Hands a PUBLISH with more to it over; false if the request channel is full.
    pub(crate) fn say(&self, message: Message) -> bool {
        let Message { topic, qos, retain, payload, correlation } = message;
        match self {
            Handle::V4(client) => client.try_publish(topic, qos.of_client_v4(), retain, payload).is_ok(),
            Handle::V5(client) if correlation.is_none() => {
                client.try_publish(topic, qos.of_client_v5(), retain, payload).is_ok()
            }
            Handle::V5(client) => {
                let properties = PublishProperties { correlation_data: correlation, ..Default::default() };
                let qos = qos.of_client_v5();
                client.try_publish_with_properties(topic, qos, retain, payload, properties).is_ok()
            }
        }
    }

    /// Hands a SUBSCRIBE over; false if the request channel is full.
    pub(crate) fn subscribe(&self, filter: &str, qos: QoS) -> bool {
        match self {
            Handle::V4(client) => client.try_subscribe(filter, qos.of_client_v4()).is_ok(),
            Handle::V5(client) => client.try_subscribe(filter, qos.of_client_v5()).is_ok(),
        }
    }

    /// Hands a DISCONNECT over; false if the request channel is full.
    pub(crate) fn disconnect(&self) -> bool {
        match self {
            Handle::V4(client) => client.try_disconnect().is_ok(),
            Handle::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Link {
    /// The next thing that happens. Dropping the future before it is done may leave bytes unwritten: callers keep it and
    /// poll it to its end.
    pub(crate) async fn poll(&mut self) -> Result<LinkEvent, LinkError> {
        match self {
            Link::V4(link) => link.poll().await,
            Link::V5(link) => link.poll().await,
        }
    }

    /// Answers a delivery; to be written by the next polls. What was not written when the connection breaks is forgotten:
    /// the delivery comes again.
    pub(crate) fn answer(&mut self, id: u16, answer: Answer) {
        match self {
            Link::V4(link) => link.answer(id, answer),
            Link::V5(link) => link.answer(id, answer),
        }
    }

    /// The Will Message of the next connection.
    pub(crate) fn set_will(&mut self, will: Message) {
        match self {
            Link::V4(link) => link.set_will(will),
            Link::V5(link) => link.set_will(will),
        }
    }

    /// After [`recover`](Self::recover): forgets of what was never sent, in the order of handing over, all that is not to be
    /// kept.
    pub(crate) fn keep_unsent(&mut self, mut keep: impl FnMut() -> bool) {
        match self {
            Link::V4(link) => link.unsent.retain(|_| keep()),
            Link::V5(link) => link.unsent.retain(|_| keep()),
        }
    }

    /// After an error: sorts what was in flight (by `order_of` its Packet Identifier) from what was never sent. False if
    /// what was in flight had to be given up.
    pub(crate) fn recover(&mut self, error: &LinkError, order_of: impl Fn(u16) -> u32) -> bool {
        let kept = !matches!(error, LinkError::LostTrack(_));
        match self {
            Link::V4(link) => link.recover(kept, order_of),
            Link::V5(link) => link.recover(kept, order_of),
        }
        kept
    }
}
