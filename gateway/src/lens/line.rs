//! What a trace tells: one packet, one step of an event, or one turn in the life of a connection.

use gateway_protocol::QoS;
use gateway_protocol::packet::Packet;
use serde::{Serialize, Serializer};

use crate::clock;

/// Characters of a topic, a list of filters or a reason that are told.
const TEXT_MAX: usize = 512;

/// Which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the client.
    In,
    /// To the client.
    Out,
    /// Into the log.
    Log,
    /// Nowhere: something about the connection itself.
    Connection,
}

/// How much a line matters, for those who want less than all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    /// Connects, ends, and what did not go through.
    High,
    /// Messages and subscriptions.
    Middle,
    /// Acknowledgements and pings.
    Low,
}

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// When.
    #[serde(rename = "time", serialize_with = "as_time")]
    pub time_ms: u64,
    /// Whose.
    pub client: Box<str>,
    /// Which way.
    pub direction: Direction,
    /// The kind of packet, as MQTT has it; `END` and `DECISION` are none.
    pub packet: &'static str,
    /// Packet Identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// Of a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<u8>,
    /// DUP of a message.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dup: bool,
    /// RETAIN of a message.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
    /// Topic, or Topic Filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Box<str>>,
    /// Of the packet; of a stored event those of its payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// What became of it, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Why, or more about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    /// Where in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Connected clients that it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribers: Option<usize>,
}

fn as_time<S: Serializer>(unix_ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&clock::rfc_3339(*unix_ms))
}

impl Line {
    /// A line about `client`, now.
    #[must_use]
    pub fn new(client: &str, direction: Direction, packet: &'static str) -> Self {
        Self {
            time_ms: clock::unix_ms(),
            client: clipped(client),
            direction,
            packet,
            id: None,
            qos: None,
            dup: false,
            retain: false,
            topic: None,
            bytes: None,
            outcome: None,
            reason: None,
            offset: None,
            subscribers: None,
        }
    }

    /// A line about a packet of so many bytes.
    #[must_use]
    pub fn of_packet(client: &str, direction: Direction, packet: &Packet<'_>, bytes: usize) -> Self {
        let mut line = Self::new(client, direction, name(packet));
        line.bytes = Some(bytes);
        match packet {
            Packet::Publish(publish) => {
                line.id = publish.packet_id.map(gateway_protocol::PacketId::get);
                line.qos = Some(publish.qos as u8);
                (line.dup, line.retain) = (publish.dup, publish.retain);
                line.topic = Some(clipped(publish.topic));
            }
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                line.id = Some(ack.packet_id.get());
                line.reason = Some(code(ack.reason_code));
            }
            Packet::Subscribe(subscribe) => {
                line.id = Some(subscribe.packet_id.get());
                let filters = subscribe.filters.iter();
                let filters = filters
                    .map(|(filter, options)| format!("{} (QoS {})", filter.as_str(), options.qos as u8));
                line.topic = Some(clipped(&filters.take(16).collect::<Vec<_>>().join(" ")));
            }
            Packet::Unsubscribe(unsubscribe) => {
                line.id = Some(unsubscribe.packet_id.get());
                let filters = unsubscribe.filters.iter().map(|filter| filter.as_str().to_owned());
                line.topic = Some(clipped(&filters.take(16).collect::<Vec<_>>().join(" ")));
            }
            Packet::SubAck(ack) => {
                line.id = Some(ack.packet_id.get());
                line.reason = Some(codes(ack.reason_codes.iter()));
            }
            Packet::UnsubAck(ack) => {
                line.id = Some(ack.packet_id.get());
                line.reason = Some(codes(ack.reason_codes.iter()));
            }
            Packet::Disconnect(disconnect) => line.reason = Some(code(disconnect.reason_code)),
            Packet::ConnAck(ack) => line.reason = Some(code(ack.reason_code)),
            Packet::Connect(_) | Packet::PingReq | Packet::PingResp | Packet::Auth(_) => {}
        }
        line
    }

    /// An event that is on stable storage and applied.
    #[must_use]
    pub fn stored(client: &str, topic: &str, qos: u8, bytes: usize, offset: u64) -> Self {
        let mut line = Self::new(client, Direction::Log, "PUBLISH");
        line.topic = Some(clipped(topic));
        (line.qos, line.bytes, line.offset) =
            (QoS::try_from(qos).ok().map(|qos| qos as u8), Some(bytes), Some(offset));
        line.outcome = Some("stored");
        line
    }

    /// With what became of it.
    #[must_use]
    pub fn with_outcome(mut self, outcome: &'static str, reason: Option<&str>) -> Self {
        self.outcome = Some(outcome);
        self.reason = reason.map(clipped);
        self
    }

    /// The topic that is meant, where the packet has an alias.
    pub fn set_topic(&mut self, topic: &str) {
        if self.topic.as_deref() != Some(topic) {
            self.topic = Some(clipped(topic));
        }
    }

    /// How much it matters.
    #[must_use]
    pub fn importance(&self) -> Importance {
        match (self.packet, self.outcome) {
            ("CONNECT" | "DISCONNECT" | "END" | "DECISION", _) => Importance::High,
            (_, Some("refused" | "shed" | "closes")) => Importance::High,
            ("PUBLISH" | "SUBSCRIBE" | "UNSUBSCRIBE", _) => Importance::Middle,
            _ => Importance::Low,
        }
    }
}

fn clipped(text: &str) -> Box<str> {
    match text.char_indices().nth(TEXT_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()).into(),
        None => text.into(),
    }
}

pub(super) fn code(code: gateway_protocol::ReasonCode) -> Box<str> {
    format!("0x{:02X} {code:?}", code.as_u8()).into()
}

fn codes(all: impl Iterator<Item = gateway_protocol::ReasonCode>) -> Box<str> {
    clipped(&all.take(16).map(|code| format!("0x{:02X}", code.as_u8())).collect::<Vec<_>>().join(" "))
}

const fn name(packet: &Packet<'_>) -> &'static str {
    match packet {
        Packet::Connect(_) => "CONNECT",
        Packet::ConnAck(_) => "CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::PubAck(_) => "PUBACK",
        Packet::PubRec(_) => "PUBREC",
        Packet::PubRel(_) => "PUBREL",
        Packet::PubComp(_) => "PUBCOMP",
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::SubAck(_) => "SUBACK",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::PingReq => "PINGREQ",
        Packet::PingResp => "PINGRESP",
        Packet::Disconnect(_) => "DISCONNECT",
        Packet::Auth(_) => "AUTH",
    }
}
