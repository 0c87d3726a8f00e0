//! Deliveries to the client: which are in flight, and under which Packet Identifier.
//!
//! There are two lanes, each with its own range of identifiers, and in both an identifier follows from a running number:
//!
//! - **Durable**: the numbers are the Session's own, given to each message when it was added to the Session's durable backlog.
//!   The same message therefore has the same Packet Identifier on every connection and after every restart
//!   [MQTT-4.4.0-1], without a record of which identifier was used for what.
//! - **Live**: numbers of this connection alone, for messages that end with it.
//!
//! Since identifiers are handed out in the order of the numbers, finding the delivery behind an identifier is arithmetic.
//!
//! ```text
//!  QoS 1:  PUBLISH --> AwaitingPubAck --PUBACK--> Done
//!  QoS 2:  PUBLISH --> AwaitingPubRec --PUBREC--> Received --durable--> PUBREL, AwaitingPubComp --PUBCOMP--> Done
//!                                        \-- PUBREC >= 0x80 --> Done
//! ```

use super::alias::{OutboundAliases, Spelling};
use crate::codec::{PublishFrame, encode_publish, publish_frame_len};
use crate::{PacketId, ProtocolVersion, QoS};
use std::borrow::Cow;
use std::collections::VecDeque;

/// How many Packet Identifiers the durable lane has: 1 to 49,151.
pub const DURABLE_IDENTIFIERS: u16 = 0xBFFF;
/// How many Packet Identifiers the live lane has: 49,152 to 65,535. A client's in-flight window must not be larger than this.
pub const LIVE_IDENTIFIERS: u16 = 0x4000;

/// Which numbering a delivery belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The Session's backlog; survives the connection.
    Durable,
    /// Of this connection only.
    Live,
}

/// One message for the client, as the host hands it over. `topic`, `properties` and `payload` are copied once, into the frame.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The QoS of this delivery: of the message or the grant, whichever is less [MQTT-3.8.4-8].
    pub qos: QoS,
    /// The RETAIN flag to send.
    pub retain: bool,
    /// It may have been sent on an earlier connection [MQTT-3.3.1-1].
    pub dup: bool,
    /// The number in the durable lane; `None`: the live lane (and always at QoS 0).
    pub sequence: Option<u64>,
    /// The Topic Name.
    pub topic: &'a str,
    /// Properties of this delivery alone, in wire form.
    pub extra: &'a [u8],
    /// Properties that came with the message, in wire form.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// What became of a [`Delivery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Its frame is in `out`; at QoS 1 it is in flight now.
    Written,
    /// The client's Receive Maximum is used up: try again after an acknowledgement.
    QuotaExhausted,
    /// Larger than the client takes: it is to be dropped and counts as done [MQTT-3.1.2-25].
    TooLarge,
    /// The connection has ended.
    Closed,
}

/// The in-flight messages of one lane: consecutive numbers from `first` on.
#[derive(Debug, Default)]
struct Window {
    first: u64,
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    AwaitingPubAck,
    AwaitingPubRec,
    /// The client has it; that has to be remembered before PUBREL may tell the client to forget its identifier.
    Received,
    AwaitingPubComp,
    Done,
}

/// What a PUBREC means for the delivery it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnPubRec {
    /// Of the durable lane: PUBREL has to wait until this is on stable storage.
    Remember(u64),
    /// Send PUBREL.
    Release,
    /// The client refuses the message: it is done with.
    Refused(Lane, u64),
    /// PUBREL is on its way already, or waits for the disk.
    Known,
    /// Nothing with this identifier is in flight.
    Unknown,
}

impl Window {
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Whether `sequence` can be sent without an identifier of `identifiers` being used twice. With nothing in flight any later
    /// number can, however many were passed over.
    fn admits(&self, sequence: u64, identifiers: u16) -> bool {
        sequence >= self.end() && (self.slots.is_empty() || sequence - self.first < u64::from(identifiers))
    }

    fn send(&mut self, sequence: u64, slot: Slot) {
        if self.slots.is_empty() {
            self.first = sequence;
        }
        // Numbers passed over were acknowledged on an earlier connection, dropped, or sent at QoS 0.
        while self.end() < sequence {
            self.slots.push_back(Slot::Done);
        }
        self.slots.push_back(slot);
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let at = sequence.checked_sub(self.first)?;
        self.slots.get_mut(usize::try_from(at).ok()?)
    }

    /// Moves one on from `expected`; false when it was elsewhere.
    fn advance(&mut self, sequence: u64, expected: Slot, next: Slot) -> bool {
        match self.slot(sequence) {
            Some(slot) if *slot == expected => *slot = next,
            _ => return false,
        }
        while self.slots.front() == Some(&Slot::Done) {
            self.slots.pop_front();
            self.first += 1;
        }
        true
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Few Sessions are durable.
    durable: Option<Box<Window>>,
    live: Window,
    in_flight: usize,
    /// Where the client allows some.
    aliases: Option<Box<OutboundAliases>>,
}

/// The property Topic Alias (MQTT 5, 2.2.2.2).
const TOPIC_ALIAS: u8 = 0x23;

impl Outbound {
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The client's Topic Alias Maximum.
    pub(super) fn allow_aliases(&mut self, maximum: u16) {
        self.aliases = (maximum > 0).then(|| Box::new(OutboundAliases::new(maximum)));
    }

    pub(super) const fn has_aliases(&self) -> bool {
        self.aliases.is_some()
    }

    /// Takes the next number of the live lane for a delivery at QoS 1, which is in flight from now on; `None`: its identifier is in use.
    pub(super) fn begin_live(&mut self) -> Option<PacketId> {
        let sequence = self.live.end();
        if !self.live.admits(sequence, LIVE_IDENTIFIERS) {
            return None;
        }
        let packet_id = identifier(sequence, LIVE_IDENTIFIERS, DURABLE_IDENTIFIERS + 1)?;
        self.live.send(sequence, Slot::AwaitingPubAck);
        self.in_flight += 1;
        Some(packet_id)
    }

    pub(super) fn next_live(&self) -> u64 {
        self.live.end()
    }

    pub(super) fn live_in_flight(&self) -> usize {
        self.live.slots.iter().filter(|slot| **slot != Slot::Done).count()
    }

    pub(super) fn resume(&mut self, sequence: u64) {
        self.durable = Some(Box::new(Window { first: sequence, slots: VecDeque::new() }));
    }

    pub(super) fn send(
        &mut self,
        delivery: &Delivery<'_>,
        version: ProtocolVersion,
        maximum_packet_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Sent {
        let mut sequence = 0;
        let mut packet_id = None;
        if delivery.qos != QoS::AtMostOnce {
            let (window, identifiers, base) = match delivery.sequence {
                Some(_) => (self.durable.as_deref(), DURABLE_IDENTIFIERS, 1),
                None => (Some(&self.live), LIVE_IDENTIFIERS, DURABLE_IDENTIFIERS + 1),
            };
            sequence = delivery.sequence.unwrap_or_else(|| self.live.end());
            if window.is_some_and(|window| !window.admits(sequence, identifiers)) {
                return Sent::QuotaExhausted;
            }
            packet_id = identifier(sequence, identifiers, base);
        }
        let spelling = match &self.aliases {
            Some(aliases) if version.is_v5() => aliases.spelling(delivery.topic),
            _ => Spelling::Full,
        };
        let mut extra = Cow::Borrowed(delivery.extra);
        let mut topic = delivery.topic;
        if let Spelling::Introduce(alias) | Spelling::Alias(alias) = spelling {
            let [high, low] = alias.to_be_bytes();
            extra.to_mut().extend_from_slice(&[TOPIC_ALIAS, high, low]);
        }
        if matches!(spelling, Spelling::Alias(_)) {
            topic = "";
        }
        let frame = PublishFrame {
            dup: delivery.dup && delivery.qos != QoS::AtMostOnce,
            qos: delivery.qos,
            retain: delivery.retain,
            topic,
            packet_id,
            extra: &extra,
            properties: delivery.properties,
            payload: delivery.payload,
        };
        if publish_frame_len(&frame, version) > maximum_packet_bytes {
            return Sent::TooLarge;
        }
        if encode_publish(&frame, version, out).is_err() {
            return Sent::TooLarge;
        }
        if let (Spelling::Introduce(alias), Some(aliases)) = (spelling, &mut self.aliases) {
            aliases.introduced(delivery.topic, alias);
        }
        if packet_id.is_some() {
            self.in_flight += 1;
            let slot = match delivery.qos {
                QoS::ExactlyOnce => Slot::AwaitingPubRec,
                _ => Slot::AwaitingPubAck,
            };
            match delivery.sequence {
                Some(_) => self.durable.get_or_insert_default().send(sequence, slot),
                None => self.live.send(sequence, slot),
            }
        }
        Sent::Written
    }

    /// PUBACK: the delivery it acknowledges, if one of QoS 1 is in flight under this identifier.
    pub(super) fn puback(&mut self, packet_id: PacketId) -> Option<(Lane, u64)> {
        self.finish(packet_id, Slot::AwaitingPubAck)
    }

    /// PUBCOMP: the delivery it completes.
    pub(super) fn pubcomp(&mut self, packet_id: PacketId) -> Option<(Lane, u64)> {
        self.finish(packet_id, Slot::AwaitingPubComp)
    }

    pub(super) fn pubrec(&mut self, packet_id: PacketId, is_refusal: bool) -> OnPubRec {
        let (lane, sequence) = self.find(packet_id);
        let Some(window) = self.window(lane) else { return OnPubRec::Unknown };
        match window.slot(sequence).copied() {
            Some(Slot::AwaitingPubRec) if is_refusal => {
                window.advance(sequence, Slot::AwaitingPubRec, Slot::Done);
                self.in_flight -= 1;
                OnPubRec::Refused(lane, sequence)
            }
            Some(Slot::AwaitingPubRec) if lane == Lane::Durable => {
                window.advance(sequence, Slot::AwaitingPubRec, Slot::Received);
                OnPubRec::Remember(sequence)
            }
            Some(Slot::AwaitingPubRec) => {
                window.advance(sequence, Slot::AwaitingPubRec, Slot::AwaitingPubComp);
                OnPubRec::Release
            }
            Some(Slot::AwaitingPubComp) => OnPubRec::Release,
            Some(Slot::Received) => OnPubRec::Known,
            Some(Slot::AwaitingPubAck | Slot::Done) | None => OnPubRec::Unknown,
        }
    }

    /// That the client has durable delivery `sequence` is on stable storage: the identifier of the PUBREL to send.
    pub(super) fn remembered(&mut self, sequence: u64) -> Option<PacketId> {
        if !self.durable.as_mut()?.advance(sequence, Slot::Received, Slot::AwaitingPubComp) {
            return None;
        }
        identifier(sequence, DURABLE_IDENTIFIERS, 1)
    }

    /// A delivery that the client had before this connection: the identifier of the PUBREL to repeat [MQTT-4.4.0-1]. `None`: not now,
    /// its identifier is in use.
    pub(super) fn resume_release(&mut self, sequence: u64) -> Option<PacketId> {
        let durable = self.durable.get_or_insert_default();
        if !durable.admits(sequence, DURABLE_IDENTIFIERS) {
            return None;
        }
        durable.send(sequence, Slot::AwaitingPubComp);
        self.in_flight += 1;
        identifier(sequence, DURABLE_IDENTIFIERS, 1)
    }

    fn finish(&mut self, packet_id: PacketId, expected: Slot) -> Option<(Lane, u64)> {
        let (lane, sequence) = self.find(packet_id);
        if !self.window(lane)?.advance(sequence, expected, Slot::Done) {
            return None;
        }
        self.in_flight -= 1;
        Some((lane, sequence))
    }

    /// The only number that `packet_id` can stand for now: the one in `first .. first + identifiers` of its lane.
    fn find(&self, packet_id: PacketId) -> (Lane, u64) {
        let id = packet_id.get();
        let (lane, first, identifiers, base) = if id <= DURABLE_IDENTIFIERS {
            let first = self.durable.as_ref().map_or(0, |window| window.first);
            (Lane::Durable, first, DURABLE_IDENTIFIERS, 1)
        } else {
            (Lane::Live, self.live.first, LIVE_IDENTIFIERS, DURABLE_IDENTIFIERS + 1)
        };
        let modulus = u64::from(identifiers);
        let ahead = (u64::from(id - base) + modulus - first % modulus) % modulus;
        (lane, first + ahead)
    }

    fn window(&mut self, lane: Lane) -> Option<&mut Window> {
        match lane {
            Lane::Durable => self.durable.as_deref_mut(),
            Lane::Live => Some(&mut self.live),
        }
    }
}

fn identifier(sequence: u64, identifiers: u16, base: u16) -> Option<PacketId> {
    let within = u16::try_from(sequence % u64::from(identifiers)).ok()?;
    PacketId::new(base + within)
}
