//! Acknowledgements, both ways: what the host's receipts send, and what the client's packets mean.

use super::inbound::Pending;
use super::outbound::OnPubRec;
use super::{Event, Lane, Millis, Session, State};
use crate::codec::encode_puback;
use crate::packet::{Ack, Packet, Publish, ReasonCodes, SubAck, UnsubAck};
use crate::property::{Properties, PropertiesBuf, Property};
use crate::{PacketId, QoS, ReasonCode};

/// The User Property in the PUBACK or PUBREC of a publish whose message was there already: its name and its value.
pub const DUPLICATE_PROPERTY: (&str, &str) = ("event-id-duplicate", "1");
/// The first byte of a PUBACK.
const PUBACK: u8 = 0x40;

impl Session {
    /// The oldest `count` unacknowledged publishes are on stable storage, or nothing durable wanted them: their PUBACKs and PUBRECs go to
    /// `out`, in the order in which the publishes came.
    pub fn handle_durable(&mut self, count: usize, out: &mut Vec<u8>) {
        for _ in 0..count {
            let Some(pending) = self.inbound.pop() else { return };
            if pending.is_duplicate && self.acknowledge_duplicate(&pending, out) {
                continue;
            }
            match (self.state, pending.qos) {
                (State::Connected, QoS::ExactlyOnce) => {
                    self.ack(Packet::PubRec, pending.packet_id, pending.reason, out);
                }
                (State::Connected, _) => encode_puback(pending.packet_id, pending.reason, self.version, out),
                _ => {}
            }
        }
    }

    /// Says in the acknowledgement that the message was there already; false where that cannot be said: to a client that wants no User
    /// Properties [MQTT-3.1.2-29] or has no room for one [MQTT-3.4.2-3], [MQTT-3.5.2-3], or knows none.
    fn acknowledge_duplicate(&self, pending: &Pending, out: &mut Vec<u8>) -> bool {
        if self.state != State::Connected || !self.version.is_v5() || !self.client.wants_problem_information {
            return false;
        }
        let mut properties = PropertiesBuf::new();
        let (name, value) = DUPLICATE_PROPERTY;
        if properties.push(Property::UserProperty { name, value }).is_err() {
            return false;
        }
        let ack = Ack {
            packet_id: pending.packet_id,
            reason_code: pending.reason,
            properties: properties.as_properties(),
        };
        match pending.qos {
            QoS::ExactlyOnce => self.write(&Packet::PubRec(ack), out),
            _ => self.write(&Packet::PubAck(ack), out),
        }
    }

    /// Takes the PUBACKs at the front of `bytes` that say nothing but Success, in their form of four bytes: what
    /// [`Session::handle_packet`] would do with each of them, for whoever gets one for every delivery. `taken` is told the lane and the
    /// number of each delivery that one of them ends. Answers how many PUBACKs there were.
    #[inline]
    pub fn handle_pubacks(&mut self, now: Millis, bytes: &[u8], mut taken: impl FnMut(Lane, u64)) -> usize {
        if self.state != State::Connected {
            return 0;
        }
        let mut count = 0;
        for packet in bytes.as_chunks::<4>().0 {
            let [PUBACK, 2, high, low] = *packet else { break };
            let Some(packet_id) = PacketId::new(u16::from_be_bytes([high, low])) else { break };
            if let Some((lane, sequence)) = self.outbound.puback(packet_id) {
                taken(lane, sequence);
            }
            count += 1;
        }
        if count > 0 {
            self.keep_alive.received(now);
        }
        count
    }

    /// The identifier of a QoS 2 publish is forgotten, durably where the Session is: PUBCOMP.
    pub fn handle_released(&mut self, packet_id: PacketId, out: &mut Vec<u8>) {
        let reason = match self.inbound.release(packet_id) {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        self.ack(Packet::PubComp, packet_id, reason, out);
    }

    /// It is stored that the client has QoS 2 delivery `sequence`: PUBREL.
    pub fn handle_remembered(&mut self, sequence: u64, out: &mut Vec<u8>) {
        if let Some(packet_id) = self.outbound.remembered(sequence) {
            self.ack(Packet::PubRel, packet_id, ReasonCode::Success, out);
        }
    }

    /// A QoS 2 delivery that the client had before this connection: PUBREL again [MQTT-4.4.0-1], in the place of a delivery. False: not
    /// now, the quota is used up.
    pub fn resume_release(&mut self, sequence: u64, out: &mut Vec<u8>) -> bool {
        if self.state != State::Connected || self.send_quota() == 0 {
            return false;
        }
        match self.outbound.resume_release(sequence) {
            Some(packet_id) => {
                self.ack(Packet::PubRel, packet_id, ReasonCode::Success, out);
                true
            }
            None => false,
        }
    }

    /// The Topic Name of a publish that was handed out, its Topic Alias resolved.
    #[must_use]
    pub fn topic_of<'s>(&'s self, publish: &Publish<'s>) -> &'s str {
        if publish.topic.is_empty() {
            publish.properties.topic_alias().and_then(|alias| self.alias(alias)).unwrap_or_default()
        } else {
            publish.topic
        }
    }

    /// The publish handed out last is refused for `reason`: its PUBACK will say so when its turn comes. It still counts as one
    /// of those for [`Session::handle_durable`]. A 3.1.1 client cannot be told [MQTT-3.3.5-2] and gets a plain PUBACK.
    pub fn refuse_publish(&mut self, reason: ReasonCode) {
        self.inbound.refuse_newest(reason);
    }

    /// The message of the publish handed out last is there already: its PUBACK or PUBREC will say so when its turn comes, with
    /// [`DUPLICATE_PROPERTY`].
    pub fn mark_duplicate(&mut self) {
        self.inbound.mark_newest_duplicate();
    }

    /// Answers a SUBSCRIBE: one Reason Code for each of its filters, in their order. Closes the connection where the answer
    /// is larger than the client takes.
    pub fn suback(&mut self, packet_id: PacketId, codes: &[u8], out: &mut Vec<u8>) {
        if let (State::Connected, Ok(reason_codes)) = (self.state, ReasonCodes::new(codes)) {
            let answer =
                Packet::SubAck(SubAck { packet_id, properties: Properties::default(), reason_codes });
            if !self.write(&answer, out) {
                self.close(ReasonCode::PacketTooLarge, None, out);
            }
        }
    }

    /// Answers an UNSUBSCRIBE: one Reason Code for each of its filters, in their order. Closes the connection where the answer
    /// is larger than the client takes.
    pub fn unsuback(&mut self, packet_id: PacketId, codes: &[u8], out: &mut Vec<u8>) {
        if let (State::Connected, Ok(reason_codes)) = (self.state, ReasonCodes::new(codes)) {
            let answer =
                Packet::UnsubAck(UnsubAck { packet_id, properties: Properties::default(), reason_codes });
            if !self.write(&answer, out) {
                self.close(ReasonCode::PacketTooLarge, None, out);
            }
        }
    }

    pub(super) fn handle_pubrel<'a>(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>) -> Event<'a> {
        if self.inbound.is_received(ack.packet_id) {
            return Event::Released { packet_id: ack.packet_id };
        }
        // Released before, and the PUBCOMP was lost with a connection: the client only needs to hear it again.
        self.ack(Packet::PubComp, ack.packet_id, ReasonCode::PacketIdentifierNotFound, out);
        Event::Handled
    }

    pub(super) fn handle_pubrec<'a>(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>) -> Event<'a> {
        match self.outbound.pubrec(ack.packet_id, ack.reason_code.is_error()) {
            OnPubRec::Remember(sequence) => return Event::Received { sequence },
            OnPubRec::Refused(lane, sequence) => {
                return Event::Acknowledged { lane, sequence, reason: ack.reason_code };
            }
            OnPubRec::Release => self.ack(Packet::PubRel, ack.packet_id, ReasonCode::Success, out),
            // An identifier that is not in flight: PUBREL lets the client forget it.
            OnPubRec::Unknown if !ack.reason_code.is_error() => {
                self.ack(Packet::PubRel, ack.packet_id, ReasonCode::PacketIdentifierNotFound, out);
            }
            OnPubRec::Unknown | OnPubRec::Known => {}
        }
        Event::Handled
    }

    pub(super) fn ack(
        &self,
        packet: fn(Ack<'static>) -> Packet<'static>,
        packet_id: PacketId,
        reason_code: ReasonCode,
        out: &mut Vec<u8>,
    ) {
        if self.state == State::Connected {
            self.write(&packet(Ack { packet_id, reason_code, properties: Properties::default() }), out);
        }
    }
}

pub(super) fn finished<'a>(delivery: Option<(Lane, u64)>, reason: ReasonCode) -> Event<'a> {
    match delivery {
        Some((lane, sequence)) => Event::Acknowledged { lane, sequence, reason },
        // An identifier that is not in flight: a late answer after a resume. It changes nothing.
        None => Event::Handled,
    }
}
