//! One connection of devices: what waits for it, what is in flight on it, and how both survive it.

use std::collections::VecDeque;

use gateway_protocol::codec::{PublishFrame, encode_publish};
use gateway_protocol::packet::{Ack, ConnAck};
use gateway_protocol::{Packet, PacketId, Property, ProtocolVersion, ReasonCode, encode};

use super::link::{Broken, Link, State, WRITE_BYTES};
use crate::mqtt::Message;
use crate::qos::QoS;
use crate::schedule::SlotDue;

/// The DUP flag in the first byte of a PUBLISH.
const DUP: u8 = 0x08;

/// See the module documentation.
pub(super) struct Publisher {
    pub(super) link: Link,
    /// Its session outlives its connections.
    pub(super) durable: bool,
    /// Due, and not written yet, in the order of being due.
    queue: VecDeque<SlotDue>,
    /// Above QoS 0: written and not acknowledged, in the order of writing.
    in_flight: VecDeque<InFlight>,
    last_id: u16,
    /// How many may be in flight.
    window: u16,
    /// Since when it could take an event at once.
    pub(super) free_since_us: u64,
    /// It is on the list of those that something is to be done for.
    pub(super) is_listed: bool,
    /// This connection has not been told yet that its device is there.
    pub(super) greets: bool,
    /// Closed loop: whose turn it is among its devices.
    pub(super) turn: u32,
}

/// What an event in flight waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// PUBACK, at QoS 1.
    Acknowledgement,
    /// PUBREC, at QoS 2: whether the broker has it.
    Receipt,
    /// PUBCOMP, at QoS 2: the end, after PUBREL.
    Completion,
}

/// An event on its way.
pub(super) struct InFlight {
    id: PacketId,
    awaits: Awaits,
    /// Its device's place in this worker.
    pub(super) slot: u32,
    pub(super) sequence: u32,
    pub(super) due_us: u64,
    pub(super) sent_us: u64,
    /// The PUBLISH or PUBREL, to be said again on the next connection; empty if the session does not outlive this one.
    frame: Box<[u8]>,
}

impl InFlight {
    /// It is no event of the ledger.
    pub(super) fn is_aside(&self) -> bool {
        self.slot == ASIDE
    }
}

/// What of an event is needed when its acknowledgement comes.
struct InFlightEvent {
    awaits: Awaits,
    slot: u32,
    sequence: u32,
    due_us: u64,
}

/// The place of what is no event.
const ASIDE: u32 = u32::MAX;

/// What an acknowledgement was for.
pub(super) struct Acknowledged {
    pub(super) event: InFlight,
    /// The window was full until now.
    pub(super) was_full: bool,
}

impl Publisher {
    pub(super) fn new(version: ProtocolVersion, durable: bool) -> Self {
        Publisher {
            durable,
            link: Link::new(version),
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            last_id: 0,
            window: 0,
            free_since_us: 0,
            is_listed: false,
            greets: false,
            turn: 0,
        }
    }

    /// CONNACK with success came: what was in flight goes again if the broker knows the session; else it is given up, and how
    /// much that was is the answer.
    pub(super) fn accepted(&mut self, ack: &ConnAck<'_>, window: u16, now_us: u64) -> (usize, usize) {
        let receive_maximum = ack.properties.iter().find_map(|property| match property {
            Property::ReceiveMaximum(maximum) => Some(maximum),
            _ => None,
        });
        self.window = window.min(receive_maximum.unwrap_or(u16::MAX));
        self.link.accepted(&ack.properties);
        self.link.state = State::Up;
        self.free_since_us = now_us;
        self.greets = true;
        let before = self.events_in_flight();
        if !ack.session_present {
            self.in_flight.clear();
            return (0, before);
        }
        for event in &mut self.in_flight {
            // [MQTT-3.3.1-1], and in the order of the first time [MQTT-4.6.0-1].
            if event.awaits != Awaits::Completion
                && let Some(first) = event.frame.first_mut()
            {
                *first |= DUP;
            }
            self.link.out.extend_from_slice(&event.frame);
        }
        (before, 0)
    }

    /// Whether an event could be written now.
    pub(super) fn has_room(&self) -> bool {
        self.link.state == State::Up
            && !self.link.is_blocked()
            && self.link.out.len() < WRITE_BYTES
            && self.in_flight.len() < usize::from(self.window)
    }

    /// Whether events may still be put behind those that wait.
    pub(super) fn may_queue(&self, queue_max: usize) -> bool {
        self.queue.len() < queue_max
    }

    pub(super) fn enqueue(&mut self, due: SlotDue) {
        self.queue.push_back(due);
    }

    /// The next that waits, if it can be written now.
    pub(super) fn next_to_write(&mut self) -> Option<SlotDue> {
        if self.queue.is_empty() || !self.has_room() {
            return None;
        }
        let next = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        next
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Without what is said beside them.
    pub(super) fn events_in_flight(&self) -> usize {
        self.in_flight.iter().filter(|event| !event.is_aside()).count()
    }

    /// Appends a PUBLISH of what is no event to what is to be written.
    pub(super) fn say(&mut self, message: &Message, now_us: u64) -> Result<(), Broken> {
        let id = match message.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => self.next_id(),
        };
        let frame = PublishFrame {
            dup: false,
            qos: of_protocol(message.qos),
            retain: message.retain,
            topic: &message.topic,
            packet_id: id,
            extra: &[],
            properties: &[],
            payload: &message.payload,
        };
        let start = self.link.out.len();
        encode_publish(&frame, self.link.version, &mut self.link.out)?;
        self.fly(
            id,
            start,
            InFlightEvent { awaits: Awaits::Acknowledgement, slot: ASIDE, sequence: 0, due_us: now_us },
            now_us,
        );
        Ok(())
    }

    /// What has an identifier waits for its acknowledgement.
    fn fly(&mut self, id: Option<PacketId>, start: usize, event: InFlightEvent, now_us: u64) {
        let Some(id) = id else { return };
        let InFlightEvent { awaits, slot, sequence, due_us } = event;
        let written = self.link.out.get(start..).filter(|_| self.durable).unwrap_or_default();
        let frame = written.into();
        self.in_flight.push_back(InFlight { id, awaits, slot, sequence, due_us, sent_us: now_us, frame });
    }

    /// Appends a PUBLISH to what is to be written.
    pub(super) fn write(
        &mut self,
        due: &SlotDue,
        topic: &str,
        payload: &[u8],
        now_us: u64,
    ) -> Result<(), Broken> {
        let id = match due.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => self.next_id(),
        };
        let (qos, awaits) = match due.exactly_once {
            true => (gateway_protocol::QoS::ExactlyOnce, Awaits::Receipt),
            false => (of_protocol(due.qos), Awaits::Acknowledgement),
        };
        let frame = PublishFrame {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: id,
            extra: &[],
            properties: &[],
            payload,
        };
        let start = self.link.out.len();
        encode_publish(&frame, self.link.version, &mut self.link.out)?;
        let event = InFlightEvent { awaits, slot: due.slot, sequence: due.sequence, due_us: due.due_us };
        self.fly(id, start, event, now_us);
        Ok(())
    }

    /// PUBREC came: the broker has the event, and is told to forget its identifier. What is not in flight here is forgotten, too.
    pub(super) fn received(&mut self, id: PacketId) -> Result<(), Broken> {
        let is_durable = self.durable;
        let flying =
            self.in_flight.iter_mut().find(|event| event.id == id && event.awaits != Awaits::Acknowledgement);
        let reason_code = match flying.is_some() || !self.link.version.is_v5() {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        let start = self.link.out.len();
        let release = Packet::PubRel(Ack { reason_code, ..Ack::success(id) });
        encode(&release, self.link.version, &mut self.link.out)?;
        if let Some(event) = flying {
            event.awaits = Awaits::Completion;
            event.frame = self.link.out.get(start..).filter(|_| is_durable).unwrap_or_default().into();
        }
        Ok(())
    }

    /// What an event waited for came, or a PUBREC that ends it. Brokers answer in order [MQTT-4.6.0-2], so it is nearly always for the first; none
    /// if for nothing here.
    pub(super) fn acknowledged(&mut self, id: PacketId, awaited: Awaits) -> Option<Acknowledged> {
        let was_full = self.in_flight.len() >= usize::from(self.window);
        let place = self.in_flight.iter().position(|event| event.id == id && event.awaits == awaited)?;
        let event = self.in_flight.remove(place)?;
        if self.in_flight.is_empty() && self.in_flight.capacity() > 8 {
            self.in_flight = VecDeque::new();
        }
        Some(Acknowledged { event, was_full })
    }

    /// The next identifier that is not in use. The window is smaller than the identifiers are many, so there is one.
    fn next_id(&mut self) -> Option<PacketId> {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            // All that are in use lie between the oldest and the newest; they come round again only behind an old one that
            // is never acknowledged.
            let oldest = self.in_flight.front().map_or(self.last_id, |event| event.id.get());
            let comes_round = self.last_id.wrapping_sub(oldest) > u16::MAX / 2;
            let id = PacketId::new(self.last_id)?;
            if !(comes_round || oldest == self.last_id) || !self.in_flight.iter().any(|event| event.id == id)
            {
                return Some(id);
            }
        }
    }
}

/// A QoS in the words of the protocol's crate.
pub(super) fn of_protocol(qos: QoS) -> gateway_protocol::QoS {
    match qos {
        QoS::AtMostOnce => gateway_protocol::QoS::AtMostOnce,
        QoS::AtLeastOnce => gateway_protocol::QoS::AtLeastOnce,
    }
}
