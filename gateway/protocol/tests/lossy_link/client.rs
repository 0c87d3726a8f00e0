//! A whole MQTT client, as a model: QoS 0, 1 and 2 in both directions, state that survives its connections.

use crate::{BACKLOG_TOPICS, each, is_refused_by_client, is_refused_by_host, message, topic};
use gateway_protocol::packet::{Ack, Connect, Publish};
use gateway_protocol::{
    Packet, PacketId, Properties, PropertiesBuf, Property, ProtocolVersion, QoS, ReasonCode, encode,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a 3.1.1 client has unfinished at most: no server tells it.
const WINDOW: usize = 10;

/// A publish that is not finished.
struct Outgoing {
    packet_id: PacketId,
    qos: QoS,
    number: u32,
    is_released: bool,
}

/// What the client heard that binds the server: the test compares it with what is stored.
pub(crate) enum Heard {
    /// PUBACK or PUBREC for this message of the client's.
    Acknowledged(u32),
    /// PUBCOMP.
    Completed(PacketId),
    /// PUBREL for this message of the server's.
    Released(u32),
}

pub(crate) struct Client {
    version: ProtocolVersion,
    receive_maximum: u16,
    topic_alias_maximum: u16,
    // The Session.
    outgoing: VecDeque<Outgoing>,
    held: BTreeMap<PacketId, u32>,
    last_id: u16,
    // The connection.
    is_connected: bool,
    server_receive_maximum: usize,
    unanswered: BTreeSet<PacketId>,
    aliases: BTreeMap<u16, String>,
    // The application.
    pub(crate) published: Vec<(QoS, u32)>,
    pub(crate) taken: Vec<(QoS, u32)>,
}

impl Client {
    pub(crate) fn new(version: ProtocolVersion, receive_maximum: u16, topic_alias_maximum: u16) -> Self {
        Self {
            version,
            receive_maximum,
            topic_alias_maximum,
            outgoing: VecDeque::new(),
            held: BTreeMap::new(),
            last_id: 0,
            is_connected: false,
            server_receive_maximum: 0,
            unanswered: BTreeSet::new(),
            aliases: BTreeMap::new(),
            published: Vec::new(),
            taken: Vec::new(),
        }
    }

    pub(crate) fn has_unfinished(&self) -> bool {
        !self.outgoing.is_empty() || !self.held.is_empty() || !self.unanswered.is_empty()
    }

    pub(crate) fn cut(&mut self) {
        self.is_connected = false;
        self.unanswered.clear();
        self.aliases.clear();
    }

    pub(crate) fn connect(&self, up: &mut Vec<u8>) {
        let mut properties = PropertiesBuf::new();
        if self.version.is_v5() {
            properties.push(Property::SessionExpiryInterval(600)).unwrap();
            properties.push(Property::ReceiveMaximum(self.receive_maximum)).unwrap();
            properties.push(Property::TopicAliasMaximum(self.topic_alias_maximum)).unwrap();
        }
        let connect = Connect {
            version: self.version,
            clean_start: false,
            keep_alive_secs: 0,
            properties: properties.as_properties(),
            client_id: "device",
            will: None,
            user_name: None,
            password: None,
        };
        encode(&Packet::Connect(connect), self.version, up).unwrap();
    }

    /// Publishes a new message, if it may.
    pub(crate) fn publish(&mut self, qos: QoS, up: &mut Vec<u8>) {
        if !self.is_connected || self.outgoing.len() >= self.server_receive_maximum {
            return;
        }
        let number = u32::try_from(self.published.len()).unwrap();
        self.published.push((qos, number));
        let mut packet_id = None;
        if qos != QoS::AtMostOnce {
            let id = self.free_id();
            self.outgoing.push_back(Outgoing { packet_id: id, qos, number, is_released: false });
            packet_id = Some(id);
        }
        self.write_publish(qos, false, packet_id, number, up);
    }

    /// Few identifiers, so that each is used again and again.
    fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id % (2 * 10 + 1) + 1;
            let id = PacketId::new(self.last_id).unwrap();
            if self.outgoing.iter().all(|outgoing| outgoing.packet_id != id) {
                return id;
            }
        }
    }

    fn write_publish(&self, qos: QoS, dup: bool, packet_id: Option<PacketId>, number: u32, up: &mut Vec<u8>) {
        let publish = Publish {
            dup,
            qos,
            retain: false,
            topic: &topic(number),
            packet_id,
            properties: Properties::default(),
            payload: &number.to_be_bytes(),
        };
        encode(&Packet::Publish(publish), self.version, up).unwrap();
    }

    fn write(&self, packet: fn(Ack<'static>) -> Packet<'static>, id: PacketId, up: &mut Vec<u8>) {
        encode(&packet(Ack::success(id)), self.version, up).unwrap();
    }

    /// Reads what has arrived of `down`; answers go to `up`. What is no whole packet yet stays.
    pub(crate) fn read(&mut self, down: &mut Vec<u8>, up: &mut Vec<u8>) -> Vec<Heard> {
        let mut heard = Vec::new();
        let consumed = each(down, self.version, |packet| {
            heard.extend(self.handle(packet, up));
            true
        });
        down.drain(..consumed);
        heard
    }

    fn handle(&mut self, packet: Packet<'_>, up: &mut Vec<u8>) -> Option<Heard> {
        assert_eq!(self.is_connected, !matches!(packet, Packet::ConnAck(_)), "CONNACK is first, and once");
        match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.reason_code, ReasonCode::Success);
                assert!(connack.session_present || !self.has_unfinished(), "the Session was lost");
                self.server_receive_maximum = match self.version.is_v5() {
                    true => connack.properties.receive_maximum().unwrap_or(u16::MAX).into(),
                    false => WINDOW,
                };
                self.is_connected = true;
                self.repeat(up);
            }
            Packet::Publish(publish) => self.take(&publish, up),
            Packet::PubAck(ack) => return Some(self.acknowledged(QoS::AtLeastOnce, &ack, up)),
            Packet::PubRec(ack) => return Some(self.acknowledged(QoS::ExactlyOnce, &ack, up)),
            Packet::PubComp(ack) => {
                let at = self.position(ack.packet_id);
                let finished = self.outgoing.remove(at).unwrap();
                assert!(finished.is_released, "PUBCOMP before PUBREL");
                return Some(Heard::Completed(ack.packet_id));
            }
            Packet::PubRel(ack) => {
                self.unanswered.remove(&ack.packet_id);
                let number = self.held.remove(&ack.packet_id);
                self.write(Packet::PubComp, ack.packet_id, up);
                return number.map(Heard::Released);
            }
            other => panic!("not for a client that asked for nothing: {other:?}"),
        }
        None
    }

    /// [MQTT-4.4.0-1]
    fn repeat(&self, up: &mut Vec<u8>) {
        for outgoing in &self.outgoing {
            if outgoing.is_released {
                self.write(Packet::PubRel, outgoing.packet_id, up);
            } else {
                self.write_publish(outgoing.qos, true, Some(outgoing.packet_id), outgoing.number, up);
            }
        }
    }

    fn position(&self, id: PacketId) -> usize {
        let at = self.outgoing.iter().position(|outgoing| outgoing.packet_id == id);
        at.expect("an answer to nothing")
    }

    fn acknowledged(&mut self, qos: QoS, ack: &Ack<'_>, up: &mut Vec<u8>) -> Heard {
        let at = self.position(ack.packet_id);
        let (expected, number) = (self.outgoing[at].qos, self.outgoing[at].number);
        assert_eq!(expected, qos, "the wrong kind of answer");
        let is_refused = self.version.is_v5() && is_refused_by_host(number);
        assert_eq!(ack.reason_code.is_error(), is_refused);
        if qos == QoS::ExactlyOnce && !is_refused {
            self.outgoing[at].is_released = true;
            self.write(Packet::PubRel, ack.packet_id, up);
        } else {
            self.outgoing.remove(at);
        }
        Heard::Acknowledged(number)
    }

    fn take(&mut self, publish: &Publish<'_>, up: &mut Vec<u8>) {
        let number = message(publish.payload);
        let alias = publish.properties.topic_alias();
        if let (Some(alias), false) = (alias, publish.topic.is_empty()) {
            assert!(alias <= self.topic_alias_maximum);
            self.aliases.insert(alias, publish.topic.to_owned());
        }
        let resolved = match publish.topic {
            "" => alias.and_then(|alias| self.aliases.get(&alias)).expect("an alias that was introduced"),
            full => full,
        };
        assert_eq!(resolved, topic(number % BACKLOG_TOPICS));
        let Some(id) = publish.packet_id else {
            self.taken.push((publish.qos, number));
            return;
        };
        assert!(self.unanswered.insert(id), "{id} is in flight already");
        assert!(!self.version.is_v5() || self.unanswered.len() <= self.receive_maximum.into());
        let is_refused = self.version.is_v5() && is_refused_by_client(number);
        let answer = match publish.qos {
            QoS::ExactlyOnce => Packet::PubRec,
            _ => Packet::PubAck,
        };
        if is_refused {
            self.unanswered.remove(&id);
            let ack = Ack { reason_code: ReasonCode::QuotaExceeded, ..Ack::success(id) };
            encode(&answer(ack), self.version, up).unwrap();
            return;
        }
        if publish.qos == QoS::AtLeastOnce {
            self.unanswered.remove(&id);
            assert!(!self.held.contains_key(&id), "{id} is held for a message of QoS 2");
            self.taken.push((publish.qos, number));
        } else if let Some(held) = self.held.insert(id, number) {
            assert_eq!(held, number, "{id} still belongs to another message");
            assert!(publish.dup, "[MQTT-3.3.1-1]");
        } else {
            self.taken.push((publish.qos, number));
        }
        self.write(answer, id, up);
    }
}
