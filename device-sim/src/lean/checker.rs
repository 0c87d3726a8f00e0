//! A backend service: subscribes, checks every event that arrives and notes it in its half of the ledger.

use gateway_protocol::codec::encode_puback;
use gateway_protocol::packet::{ConnAck, Publish, Subscribe, SubscribeFiltersBuf, SubscribeOptions};
use gateway_protocol::{Packet, PacketId, Properties, ProtocolVersion, ReasonCode, TopicFilter, encode};

use super::common::{Common, Fault, Side, monotonic_us};
use super::link::{Broken, Introduction, Link, RECEIVE_MAXIMUM, State, next_packet};
use super::poller::Ready;
use super::tally::{Recorder, SubscriberTally, Times, Timing};
use crate::envelope::{self, Envelope, Opened};
use crate::ledger::{Delivery, LedgerFull, SubscriberHalf};
use crate::qos::QoS;
use crate::scenario::{LEAN_KEEP_ALIVE_S, Protocol, SubscriberSpec};
use crate::shared::LateDeliveries;

/// The Packet Identifier of the one SUBSCRIBE.
const SUBSCRIBE_ID: u16 = 1;

/// See the module documentation.
pub(super) struct Checker {
    link: Link,
    spec: SubscriberSpec,
    client_id: String,
    /// Its number where chance and source addresses are dealt out.
    number: u32,
    token: u64,
    pub(super) half: SubscriberHalf,
    pub(super) tally: SubscriberTally,
    delivery: Recorder,
    late: LateDeliveries,
    subscribed_before: bool,
    /// First deliveries in this turn.
    arrived: u64,
}

impl Checker {
    pub(super) fn new(common: &Common, place: usize, token: u64) -> Option<Self> {
        let scenario = &common.plan.scenario;
        let spec = scenario.subscribers.get(place)?.clone();
        let version = match spec.protocol {
            Protocol::V3_1_1 => ProtocolVersion::V3_1_1,
            Protocol::V5 => ProtocolVersion::V5,
        };
        Some(Checker {
            link: Link::new(version),
            client_id: format!("{}backend-{}", scenario.fleet.client_id_prefix, spec.name),
            number: u32::MAX - place as u32,
            token,
            half: SubscriberHalf::new(scenario.fleet.devices as usize, scenario.fleet.classes()),
            tally: SubscriberTally { place, ..SubscriberTally::default() },
            delivery: Recorder::new(Timing::Delivery(place)),
            late: LateDeliveries::new(scenario.run.redelivery_window.as_micros() as u64),
            subscribed_before: false,
            arrived: 0,
            spec,
        })
    }

    /// Begins its first connection.
    pub(super) fn open(&mut self, common: &mut Common) {
        if let Err(error) = common.open(&mut self.link, Side::Subscribers, self.number, self.token) {
            self.broke(common, &error);
        }
    }

    /// One of its timers ran out.
    pub(super) fn timer(&mut self, common: &mut Common, generation: u32) {
        if self.link.generation == generation
            && let Err(error) = common.timer(&mut self.link, Side::Subscribers, self.number, self.token)
        {
            self.broke(common, &error);
        }
    }

    /// Something happened to its connection; answers how many deliveries that was.
    pub(super) fn handle(
        &mut self,
        ready: Ready,
        common: &mut Common,
        buffer: &mut [u8],
    ) -> Result<u64, LedgerFull> {
        self.arrived = 0;
        match self.try_handle(ready, common, buffer) {
            Ok(()) => {}
            Err(Fault::Broken(error)) => self.broke(common, &error),
            Err(Fault::Full(full)) => return Err(full),
        }
        Ok(self.arrived)
    }

    /// Keep Alive.
    pub(super) fn ping_if_quiet(&mut self, common: &mut Common) {
        let done = match self.link.ping_if_quiet(monotonic_us()) {
            Ok(false) => return,
            Ok(true) => self.flush(common),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.broke(common, &error);
        }
    }

    pub(super) fn leave(&mut self) {
        self.link.leave();
    }

    /// What was timed since the last time.
    pub(super) fn take_times(&mut self) -> Option<Times> {
        self.delivery.take()
    }

    fn try_handle(&mut self, ready: Ready, common: &mut Common, buffer: &mut [u8]) -> Result<(), Fault> {
        if ready.writable && self.link.state == State::Opening {
            let who = Introduction {
                client_id: &self.client_id,
                durable: self.spec.durable,
                keep_alive_secs: LEAN_KEEP_ALIVE_S,
                receive_maximum: Some(RECEIVE_MAXIMUM),
                will: None,
            };
            self.link.opened(&who)?;
        }
        if ready.readable
            && let Some(count) = self.link.read(buffer)?
        {
            let mut bytes = buffer.get(..count).unwrap_or_default();
            while let Some(packet) = next_packet(&mut bytes, self.link.version)? {
                self.packet(&packet, common)?;
            }
            self.link.keep(bytes);
        }
        Ok(self.flush(common)?)
    }

    fn flush(&mut self, common: &Common) -> Result<(), Broken> {
        self.link.flush(&common.poller, self.token, monotonic_us())
    }

    fn packet(&mut self, packet: &Packet<'_>, common: &mut Common) -> Result<(), Fault> {
        match packet {
            Packet::Publish(publish) => self.publish(publish, common)?,
            Packet::ConnAck(ack) => self.accepted(ack)?,
            Packet::SubAck(ack) => {
                self.up();
                self.subscribed(ack.reason_codes.iter().next().unwrap_or(ReasonCode::UnspecifiedError));
            }
            Packet::Disconnect(disconnect) => return Err(Broken::Disconnected(disconnect.reason_code).into()),
            _ => {}
        }
        Ok(())
    }

    fn accepted(&mut self, ack: &ConnAck<'_>) -> Result<(), Broken> {
        if ack.reason_code.is_error() {
            return Err(Broken::Refused(ack.reason_code));
        }
        self.link.accepted(&ack.properties);
        if self.subscribed_before && self.spec.durable && !ack.session_present {
            self.tally.sessions_lost += 1;
        }
        // A session that was kept is trusted to have kept the subscription: subscribing again would hide that it did not.
        if self.subscribed_before && ack.session_present {
            self.up();
            return Ok(());
        }
        self.link.state = State::Subscribing;
        let qos = match self.spec.qos {
            QoS::AtMostOnce => gateway_protocol::QoS::AtMostOnce,
            QoS::AtLeastOnce => gateway_protocol::QoS::AtLeastOnce,
        };
        let mut filters = SubscribeFiltersBuf::default();
        // The scenario was checked.
        if let Ok(filter) = TopicFilter::parse(&self.spec.filter) {
            filters.push(filter, SubscribeOptions::at_most(qos));
        }
        let Some(packet_id) = PacketId::new(SUBSCRIBE_ID) else { return Ok(()) };
        let subscribe =
            Subscribe { packet_id, properties: Properties::default(), filters: filters.as_filters() };
        Ok(encode(&Packet::Subscribe(subscribe), self.link.version, &mut self.link.out)?)
    }

    fn up(&mut self) {
        self.link.state = State::Up;
        self.tally.connected = 1;
    }

    fn subscribed(&mut self, answer: ReasonCode) {
        let wanted = self.spec.qos as u8;
        if answer.is_error() {
            self.tally.refusal = Some(format!("the broker refused `{}`: {answer:?}", self.spec.filter));
        } else if answer.as_u8() < wanted {
            self.tally.refusal = Some("the broker granted QoS 0 instead of 1".to_owned());
        } else {
            self.subscribed_before = true;
            self.tally.is_ready = true;
        }
    }

    fn publish(&mut self, publish: &Publish<'_>, common: &mut Common) -> Result<(), LedgerFull> {
        if let Some(packet_id) = publish.packet_id {
            encode_puback(packet_id, ReasonCode::Success, self.link.version, &mut self.link.out);
        }
        match envelope::open(publish.payload, publish.topic.as_bytes()) {
            Opened::Event(envelope) if envelope.epoch == common.plan.epoch => self.enter(envelope, common)?,
            Opened::Event(_) => self.tally.foreign += 1,
            opened => match (common.class_of(publish.topic), opened) {
                (None, Opened::Foreign) => self.tally.foreign += 1,
                (class, _) => {
                    self.tally.corrupt += 1;
                    class.into_iter().for_each(|class| self.tally.corrupt_of[class] += 1);
                }
            },
        }
        Ok(())
    }

    fn enter(&mut self, envelope: Envelope, common: &Common) -> Result<(), LedgerFull> {
        let Envelope { device, sequence, due_us, qos, .. } = envelope;
        let now_us = common.run_us();
        if qos == QoS::AtLeastOnce && self.spec.qos == QoS::AtLeastOnce {
            self.late.note(now_us);
        }
        match self.half.delivered(device, sequence, qos)? {
            Delivery::First | Delivery::OutOfOrder => {
                self.tally.delivered[qos] += 1;
                self.tally.newest_due_us = self.tally.newest_due_us.max(due_us);
                self.arrived += 1;
                self.delivery.record(now_us.saturating_sub(due_us), common.counts(due_us));
            }
            Delivery::Duplicate => self.tally.duplicated += 1,
            // Counted in the ledger, and told apart when its halves come together.
            Delivery::Unknown | Delivery::Late => {}
        }
        Ok(())
    }

    fn broke(&mut self, common: &mut Common, error: &Broken) {
        self.tally.connected = 0;
        if self.link.state == State::Up {
            self.tally.disconnects += 1;
            self.tally.may_come_again += self.late.take(common.run_us());
        }
        common.broke(&mut self.link, self.number, self.token, error);
    }
}
