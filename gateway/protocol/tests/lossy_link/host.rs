//! The host of a real `Session`, as a model: a log with delayed receipts, a backlog, and what a restart finds of both.

use crate::{BACKLOG_TOPICS, each, is_refused_by_client, is_refused_by_host, message, topic};
use gateway_protocol::packet::{Packet, PacketType};
use gateway_protocol::session::{Accepted, Delivery, Event, Lane, Millis, Sent, ServerLimits, Session};
use gateway_protocol::{PacketId, ProtocolVersion, QoS, ReasonCode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Live messages are numbered from here on, so that they can be told from those of the backlog.
pub(crate) const LIVE: u32 = 1 << 24;

/// Something on its way to the log.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Publish { qos: QoS, number: u32, packet_id: PacketId },
    Released(PacketId),
    Received(u64),
    Acknowledged(u64),
}

/// What survives.
#[derive(Default)]
pub(crate) struct Disk {
    has_session: bool,
    pub(crate) log: Vec<(QoS, u32)>,
    pub(crate) received: BTreeSet<PacketId>,
    /// The QoS of each durable delivery; the first one has the number `start`.
    pub(crate) backlog: Vec<QoS>,
    start: u64,
    client_has: BTreeSet<u64>,
    done: BTreeSet<u64>,
    /// Deliveries below this number may have been sent.
    sent: u64,
}

impl Disk {
    fn end(&self) -> u64 {
        self.start + self.backlog.len() as u64
    }

    fn low(&self) -> u64 {
        (self.start..).find(|sequence| !self.done.contains(sequence)).unwrap()
    }

    fn number(&self, sequence: u64) -> u32 {
        u32::try_from(sequence - self.start).unwrap()
    }

    pub(crate) fn client_has(&self, number: u32) -> bool {
        number >= LIVE || self.client_has.contains(&(self.start + u64::from(number)))
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.low() == self.end()
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Publish { number, .. } if is_refused_by_host(number) => {}
            Entry::Publish { qos, number, packet_id } => {
                self.log.push((qos, number));
                if qos == QoS::ExactlyOnce {
                    assert!(self.received.insert(packet_id), "{packet_id} was taken and not released");
                }
            }
            Entry::Released(packet_id) => _ = self.received.remove(&packet_id),
            Entry::Received(sequence) => _ = self.client_has.insert(sequence),
            Entry::Acknowledged(sequence) => _ = self.done.insert(sequence),
        }
    }
}

struct Connection {
    session: Session,
    inbox: Vec<u8>,
    next: u64,
    in_flight: BTreeMap<PacketId, u32>,
    live_base: u32,
}

pub(crate) struct Host {
    limits: Arc<ServerLimits>,
    version: ProtocolVersion,
    in_flight_max: usize,
    pub(crate) disk: Disk,
    submitted: VecDeque<Entry>,
    stored: VecDeque<Entry>,
    connection: Option<Connection>,
    ids: BTreeMap<u32, PacketId>,
    pub(crate) live: Vec<QoS>,
    pub(crate) at_most_once: Vec<u32>,
}

impl Host {
    pub(crate) fn new(limits: ServerLimits, version: ProtocolVersion, start: u64, client_max: u16) -> Self {
        let client_max = if version.is_v5() { client_max } else { u16::MAX };
        Self {
            in_flight_max: limits.max_inflight.min(client_max).into(),
            limits: Arc::new(limits),
            version,
            disk: Disk { start, sent: start, ..Disk::default() },
            submitted: VecDeque::new(),
            stored: VecDeque::new(),
            connection: None,
            ids: BTreeMap::new(),
            live: Vec::new(),
            at_most_once: Vec::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.submitted.is_empty() && self.stored.is_empty()
    }

    /// Nothing is owed in either direction and the whole quota is back.
    pub(crate) fn assert_quiet(&self) {
        let connection = self.connection.as_ref().unwrap();
        assert_eq!(connection.session.unacknowledged_inbound(), 0);
        assert_eq!(connection.session.live_in_flight(), 0);
        assert_eq!(connection.session.send_quota(), self.in_flight_max);
        assert!(connection.in_flight.is_empty() && connection.inbox.is_empty());
    }

    pub(crate) fn listen(&mut self) {
        let mut session = Session::new(Arc::clone(&self.limits), Millis(0));
        let next = self.disk.low();
        session.resume(next, self.disk.received.iter().copied());
        let live_base = u32::try_from(self.live.len()).unwrap();
        self.connection =
            Some(Connection { session, inbox: Vec::new(), next, in_flight: BTreeMap::new(), live_base });
    }

    /// The connection is gone. Of what was on its way to the log, `stored` entries still get there.
    pub(crate) fn cut(&mut self, stored: usize) {
        self.store(stored);
        self.connection = None;
        self.submitted.clear();
        self.stored.clear();
    }

    pub(crate) fn store(&mut self, count: usize) {
        for entry in self.submitted.drain(..count.min(self.submitted.len())) {
            self.disk.apply(entry);
            self.stored.push_back(entry);
        }
    }

    /// The receipts of `count` stored entries arrive.
    pub(crate) fn receipts(&mut self, count: usize, down: &mut Vec<u8>) {
        for entry in self.stored.drain(..count.min(self.stored.len())) {
            let Some(connection) = &mut self.connection else { return };
            let before = down.len();
            match entry {
                Entry::Publish { .. } => connection.session.handle_durable(1, down),
                Entry::Released(packet_id) => connection.session.handle_released(packet_id, down),
                Entry::Received(sequence) => connection.session.handle_remembered(sequence, down),
                Entry::Acknowledged(_) => {}
            }
            connection.check(&down[before..], self.version, false);
        }
    }

    /// `bytes` arrive from the client.
    pub(crate) fn receive(&mut self, bytes: &[u8], down: &mut Vec<u8>) {
        let Some(connection) = &mut self.connection else { return };
        let mut inbox = std::mem::take(&mut connection.inbox);
        inbox.extend_from_slice(bytes);
        let version = self.version;
        let consumed = each(&inbox, version, |packet| self.handle(packet, down));
        inbox.drain(..consumed);
        if let Some(connection) = &mut self.connection {
            connection.inbox = inbox;
        }
    }

    /// False when the packet has to wait.
    fn handle(&mut self, packet: Packet<'_>, down: &mut Vec<u8>) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        if !connection.session.wants_read() {
            return false;
        }
        let before = down.len();
        let packet_id = match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => Some(ack.packet_id),
            _ => None,
        };
        let event = connection.session.handle_packet(Millis(0), packet, down);
        connection.check(&down[before..], self.version, false);
        match event.expect("the client did nothing wrong") {
            Event::Connect(_) => {
                let session_present = std::mem::replace(&mut self.disk.has_session, true);
                let accepted = Accepted { session_present, assigned_client_id: None };
                assert!(connection.session.accept(Millis(0), accepted, down).is_ok());
            }
            Event::Publish(publish) => {
                let number = message(publish.payload);
                assert_eq!(connection.session.topic_of(&publish), topic(number));
                match publish.packet_id {
                    Some(packet_id) => {
                        if is_refused_by_host(number) {
                            connection.session.refuse_publish(ReasonCode::NotAuthorized);
                        }
                        self.submitted.push_back(Entry::Publish { qos: publish.qos, number, packet_id });
                    }
                    None => self.at_most_once.push(number),
                }
            }
            Event::Released { packet_id } => self.submitted.push_back(Entry::Released(packet_id)),
            Event::Received { sequence } => {
                let held = connection.in_flight.get(&packet_id.unwrap());
                assert_eq!(held, Some(&self.disk.number(sequence)));
                self.submitted.push_back(Entry::Received(sequence));
            }
            Event::Acknowledged { lane, sequence, reason } => {
                let number = match lane {
                    Lane::Durable => self.disk.number(sequence),
                    Lane::Live => LIVE + connection.live_base + u32::try_from(sequence).unwrap(),
                };
                assert_eq!(connection.in_flight.remove(&packet_id.unwrap()), Some(number));
                assert_eq!(reason.is_error(), self.version.is_v5() && is_refused_by_client(number));
                if lane == Lane::Durable {
                    self.submitted.push_back(Entry::Acknowledged(sequence));
                }
            }
            Event::Handled => {}
            other => panic!("the client asked for no such thing: {other:?}"),
        }
        assert!(connection.session.unacknowledged_inbound() <= self.limits.receive_maximum.into());
        true
    }

    /// Sends what is due of the backlog, `count` deliveries at most.
    pub(crate) fn feed(&mut self, count: usize, down: &mut Vec<u8>) {
        let Some(connection) = &mut self.connection else { return };
        let mut left = count;
        while left > 0 && connection.next < self.disk.end() && connection.session.is_connected() {
            let (sequence, before) = (connection.next, down.len());
            let number = self.disk.number(sequence);
            if self.disk.done.contains(&sequence) {
                connection.next += 1;
                continue;
            }
            if self.disk.client_has.contains(&sequence) {
                if !connection.session.resume_release(sequence, down) {
                    assert_eq!(connection.in_flight.len(), self.in_flight_max, "refused within the quota");
                    return;
                }
                assert_eq!(connection.in_flight.insert(self.ids[&number], number), None);
                connection.check(&down[before..], self.version, false);
            } else {
                let qos = self.disk.backlog[usize::try_from(number).unwrap()];
                let dup = sequence < self.disk.sent;
                let sent = deliver(&mut connection.session, qos, number, Some(sequence), dup, down);
                if sent == Sent::QuotaExhausted {
                    assert_eq!(connection.in_flight.len(), self.in_flight_max, "refused within the quota");
                    return;
                }
                assert_eq!(sent, Sent::Written);
                let id = connection.check(&down[before..], self.version, true);
                if let Some(id) = id {
                    assert_eq!(*self.ids.entry(number).or_insert(id), id, "[MQTT-4.4.0-1]");
                } else {
                    self.submitted.push_back(Entry::Acknowledged(sequence));
                }
            }
            assert!(connection.in_flight.len() <= self.in_flight_max, "[MQTT-3.3.4-9]");
            connection.next += 1;
            self.disk.sent = self.disk.sent.max(connection.next);
            left -= 1;
        }
    }

    /// Sends a message that ends with the connection. At QoS 2 a client would keep its identifier past that, and no record here would.
    pub(crate) fn send_live(&mut self, qos: QoS, down: &mut Vec<u8>) {
        let qos = qos.min(QoS::AtLeastOnce);
        let Some(connection) = &mut self.connection else { return };
        // At QoS 0 a message has no number in its lane.
        let number = match qos {
            QoS::AtMostOnce => 2 * LIVE,
            _ => LIVE + u32::try_from(self.live.len()).unwrap(),
        };
        let before = down.len();
        match deliver(&mut connection.session, qos, number, None, false, down) {
            Sent::Written if qos != QoS::AtMostOnce => self.live.push(qos),
            Sent::QuotaExhausted => assert_eq!(connection.in_flight.len(), self.in_flight_max),
            Sent::Written | Sent::Closed => {}
            Sent::TooLarge => panic!("the client takes packets of any size"),
        }
        connection.check(&down[before..], self.version, true);
        assert!(connection.in_flight.len() <= self.in_flight_max, "[MQTT-3.3.4-9]");
    }
}

impl Connection {
    /// Whole packets only, of kinds that a server sends, and identifiers that are free. The identifier of the publish, if it is one.
    fn check(&mut self, written: &[u8], version: ProtocolVersion, is_delivery: bool) -> Option<PacketId> {
        let mut sent = None;
        let consumed = each(written, version, |packet| {
            match packet {
                Packet::Publish(publish) => {
                    assert!(is_delivery);
                    if let Some(id) = publish.packet_id {
                        let number = message(publish.payload);
                        assert_eq!(self.in_flight.insert(id, number), None, "{id} is in flight");
                        sent = Some(id);
                    }
                }
                Packet::PubRel(ack) => assert!(self.in_flight.contains_key(&ack.packet_id)),
                other => assert!(
                    matches!(
                        other.packet_type(),
                        PacketType::ConnAck | PacketType::PubAck | PacketType::PubRec | PacketType::PubComp
                    ),
                    "{other:?}"
                ),
            }
            true
        });
        assert_eq!(consumed, written.len(), "half a packet");
        sent
    }
}

fn deliver(
    session: &mut Session,
    qos: QoS,
    number: u32,
    sequence: Option<u64>,
    dup: bool,
    down: &mut Vec<u8>,
) -> Sent {
    let delivery = Delivery {
        qos,
        retain: false,
        dup,
        sequence,
        topic: &topic(number % BACKLOG_TOPICS),
        extra: &[],
        properties: &[],
        payload: &number.to_be_bytes(),
    };
    session.handle_delivery(&delivery, down)
}
