//! The devices of one worker as state machines, and the connections that they publish on: a connection each, or shared.
//!
//! Connection `c` of the fleet is opened by device `c` and carries the devices `c`, `c + connections`, `c + 2 × connections` and so
//! on. An event that is due is written at once if its connection has room, waits behind others if not, and is dropped and counted
//! when too many wait.

mod answers;
mod aside;

use std::collections::VecDeque;
use std::ops::Range;

use gateway_protocol::ProtocolVersion;

use super::common::{Common, Fault, Side, monotonic_us};
use super::link::{Broken, Introduction, State, next_packet};
use super::poller::Ready;
use super::publisher::Publisher;
use super::tally::{Groups, Recorder, Times, Timing};
use crate::fleet::{Payloads, Presence, Token};
use crate::ledger::{LedgerFull, PublisherHalf};
use crate::qos::QoS;
use crate::roster;
use crate::scenario::{LeanClients, Pace, Protocol, topic};
use crate::schedule::{Schedule, SlotDue};
use crate::timeline::Timeline;

/// Events handed out between two looks at the sockets.
const TURN_EVENTS: usize = 4_096;
/// Closed loop: what one connection gets in a turn, so that all of them take part.
const TURN_EACH: usize = 64;
/// Connections that are reset between two looks at the sockets: what comes meanwhile is not to wait for thousands.
const RESETS_AT_ONCE: usize = 64;
/// Connections whose Keep Alive is looked at in one go.
const PINGS_AT_ONCE: usize = 32;

/// One device.
struct Device {
    number: u32,
    topic: Box<str>,
    payloads: Payloads,
    /// What it says beside its events, if anything.
    presence: Option<Box<Presence>>,
    /// Which subscribers hear of it, see [`Groups`].
    group: u16,
}

/// See the module documentation.
pub(super) struct Fleet {
    publishers: Vec<Publisher>,
    /// By slot: the first device of every connection, then the second of every one that has two, and so on.
    devices: Vec<Device>,
    /// The first connection of this worker, among all of the fleet.
    first: u32,
    /// Its share of all connections, 0 to 1.
    part_of_fleet: f64,
    timeline: Timeline,
    schedule: Schedule,
    pub(super) half: PublisherHalf,
    groups: Groups,
    /// Connections for which something is to be done.
    listed: Vec<u32>,
    due_to_puback: Recorder,
    sent_to_puback: Recorder,
    window: u16,
    /// Events that may wait for one connection.
    queue_max: usize,
    pace: Pace,
    /// Until when events are due; none before publishing began.
    end_us: Option<u64>,
    next_ping: usize,
    /// When connections are reset, and the first one of all of the fleet's that is.
    storms: VecDeque<(u64, u32)>,
    /// Connections that are still to be reset.
    resetting: Range<usize>,
}

impl Fleet {
    /// Worker `number`'s part of the fleet.
    pub(super) fn new(common: &Common, lean: &LeanClients, number: u32) -> Self {
        let spec = &common.plan.scenario.fleet;
        let Range { start: first, end: after } = lean.part(number);
        let numbers = || {
            (0..spec.devices.div_ceil(lean.connections))
                .flat_map(move |round| {
                    (first..after).map(move |connection| round * lean.connections + connection)
                })
                .filter(|device| *device < spec.devices)
        };
        let mut groups = Groups::default();
        let mut publishers = Vec::with_capacity((after - first) as usize);
        let mut devices = Vec::new();
        for number in numbers() {
            let Some(identity) = roster::identity(&common.plan, number) else { continue };
            if number < lean.connections {
                let version = match identity.protocol {
                    Protocol::V3_1_1 => ProtocolVersion::V3_1_1,
                    Protocol::V5 => ProtocolVersion::V5,
                };
                // Devices that share a connection share its session: that of the first one.
                publishers.push(Publisher::new(version, identity.cohort.durable));
            }
            let group = groups.group_of(subscribers_of(common, &identity.topic));
            let payloads = Payloads::new(&common.plan, &identity);
            let presence = Presence::new(&identity).map(Box::new);
            devices.push(Device { number, topic: identity.topic.into(), payloads, presence, group });
        }
        let shared_by = spec.devices.div_ceil(lean.connections) as usize;
        let timeline = Timeline::of(&common.plan.scenario);
        Fleet {
            storms: timeline.storms(lean.connections),
            schedule: Schedule::of_devices(common.plan.seed(), spec, timeline.rates(), numbers()),
            half: PublisherHalf::new(devices.len()),
            timeline,
            publishers,
            devices,
            first,
            part_of_fleet: f64::from(after - first) / f64::from(lean.connections.max(1)),
            groups,
            listed: Vec::new(),
            due_to_puback: Recorder::new(Timing::DueToPuback),
            sent_to_puback: Recorder::new(Timing::SentToPuback),
            window: spec.inflight_max,
            queue_max: spec.queue_max.saturating_mul(shared_by),
            pace: lean.pace,
            end_us: None,
            next_ping: 0,
            resetting: 0..0,
        }
    }

    /// Plans the first connections, by the scenario's connect rate over all workers. Those that come later are left out.
    pub(super) fn connect(&self, common: &mut Common) {
        let now_us = monotonic_us();
        let rate = common.plan.scenario.fleet.connect_rate * self.part_of_fleet;
        let there = (0_u64..).zip(&self.publishers).zip(self.first..);
        let there = there.filter(|(_, connection)| self.timeline.appears_us(*connection).is_none());
        for (turn, ((token, publisher), _)) in there.enumerate() {
            common.set_timer(now_us + (turn as f64 / rate * 1e6) as u64, token, publisher.link.generation);
        }
    }

    /// Plans the connections that come later, now that it is known when that is.
    pub(super) fn connect_later(&self, common: &mut Common) {
        for ((token, publisher), connection) in (0_u64..).zip(&self.publishers).zip(self.first..) {
            let at_us = self.timeline.appears_us(connection).and_then(|at_us| common.moment_us(at_us));
            if let Some(at_us) = at_us {
                common.set_timer(at_us, token, publisher.link.generation);
            }
        }
    }

    /// Events are due from the run's time 0 until then.
    pub(super) fn publish_until(&mut self, end_us: u64) {
        self.end_us = Some(end_us);
        if self.pace == Pace::Closed {
            for index in 0..self.publishers.len() as u32 {
                self.list(index);
            }
        }
    }

    /// Whether everything that becomes due until the end was handed out.
    pub(super) fn is_done(&self, now_us: u64) -> bool {
        let Some(end_us) = self.end_us else { return false };
        let none_left = self.pace == Pace::Closed || self.schedule.next_us().is_none_or(|next| next > end_us);
        now_us >= end_us && none_left
    }

    /// Whether more is to be done at once.
    pub(super) fn is_busy(&self, now_us: u64) -> bool {
        let until_us = self.end_us.map_or(0, |end_us| end_us.min(now_us));
        let due = self.pace == Pace::Open
            && self.end_us.is_some()
            && self.schedule.next_us().is_some_and(|next_us| next_us + 1_000 <= until_us);
        due || !self.listed.is_empty() || !self.resetting.is_empty()
    }

    /// Whether connections of this worker are being made, or are to be.
    pub(super) fn is_incomplete(&self, common: &Common) -> bool {
        self.end_us.is_some() && common.tally.connected < self.publishers.len() as u64
    }

    /// Hands out what is due, and serves the connections that have something to do.
    pub(super) fn turn(&mut self, common: &mut Common) -> Result<(), LedgerFull> {
        let run_us = common.run_us();
        if self.end_us.is_some()
            && let Some((_, first)) = self.storms.pop_front_if(|(at_us, _)| *at_us <= run_us)
        {
            let first = first.saturating_sub(self.first) as usize;
            self.resetting = joined(&self.resetting, first..self.publishers.len());
        }
        for _ in 0..RESETS_AT_ONCE {
            let Some(index) = self.resetting.next() else { break };
            self.settle(index as u32, Err(Broken::Reset.into()), common)?;
        }
        if let Some(end_us) = self.end_us.filter(|_| self.pace == Pace::Open) {
            let until_us = common.run_us().min(end_us);
            for _ in 0..TURN_EVENTS {
                let Some(due) = self.schedule.pop_due_slot(until_us) else { break };
                self.offer(due, common)?;
            }
        }
        for index in std::mem::take(&mut self.listed) {
            let served = self.serve(index, common);
            self.settle(index, served, common)?;
        }
        Ok(())
    }

    /// One of a connection's timers ran out.
    pub(super) fn timer(
        &mut self,
        token: u64,
        generation: u32,
        common: &mut Common,
    ) -> Result<(), LedgerFull> {
        let index = token as u32;
        let number = self.first + index;
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
        if publisher.link.generation != generation {
            return Ok(());
        }
        let done = common.timer(&mut publisher.link, Side::Devices, number, token).map_err(Fault::from);
        self.settle(index, done, common)
    }

    /// Something happened to a connection.
    pub(super) fn handle(
        &mut self,
        ready: Ready,
        common: &mut Common,
        buffer: &mut [u8],
    ) -> Result<(), LedgerFull> {
        let index = ready.token as u32;
        let done = self.try_handle(index, ready, common, buffer);
        self.settle(index, done, common)
    }

    /// Keep Alive of the next few connections.
    pub(super) fn ping_some(&mut self, common: &mut Common) -> Result<(), LedgerFull> {
        for _ in 0..PINGS_AT_ONCE.min(self.publishers.len()) {
            let index = self.next_ping as u32;
            self.next_ping = (self.next_ping + 1) % self.publishers.len();
            let Some(publisher) = self.publishers.get_mut(index as usize) else { continue };
            match publisher.link.ping_if_quiet(monotonic_us()) {
                Ok(true) => self.list(index),
                Ok(false) => {}
                Err(error) => self.settle(index, Err(error.into()), common)?,
            }
        }
        Ok(())
    }

    /// Brings the counters that are kept here up to date, and takes what was timed.
    pub(super) fn report(&mut self, common: &mut Common, times: &mut Vec<Times>) {
        let tally = &mut common.tally;
        tally.expected = self.groups.expected(common.plan.scenario.subscribers.len());
        tally.queued = self.publishers.iter().map(|one| one.queued() as u64).sum();
        tally.in_flight = self.publishers.iter().map(|one| one.events_in_flight() as u64).sum();
        times.extend(self.due_to_puback.take());
        times.extend(self.sent_to_puback.take());
    }

    /// The rows of this worker's devices whose numbers lie in a range.
    pub(super) fn page(&self, devices: std::ops::Range<u32>) -> Vec<(u32, Vec<u64>)> {
        let slots = self.devices.iter().enumerate().filter(|(_, device)| devices.contains(&device.number));
        slots
            .map(|(slot, device)| (device.number, self.half.words(slot).to_vec()))
            .filter(|(_, words)| !words.is_empty())
            .collect()
    }

    fn list(&mut self, index: u32) {
        if let Some(publisher) = self.publishers.get_mut(index as usize)
            && !publisher.is_listed
        {
            publisher.is_listed = true;
            self.listed.push(index);
        }
    }

    /// An event is due: to its connection, or behind those that wait for it.
    fn offer(&mut self, due: SlotDue, common: &mut Common) -> Result<(), LedgerFull> {
        common.tally.due[due.qos] += 1;
        let index = due.slot % self.publishers.len().max(1) as u32;
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
        if !publisher.may_queue(self.queue_max) {
            common.tally.overflowed += 1;
            return Ok(());
        }
        publisher.enqueue(due);
        if publisher.has_room() {
            // Written without being sent: one system call for all that is due on this connection.
            while let Some(due) = self.publishers.get_mut(index as usize).and_then(Publisher::next_to_write) {
                let written = self.write(index, due, common);
                self.settle(index, written, common)?;
            }
        }
        self.list(index);
        Ok(())
    }

    /// Writes and sends what a connection has room for.
    fn serve(&mut self, index: u32, common: &mut Common) -> Result<(), Fault> {
        let token = u64::from(index);
        if let Some(publisher) = self.publishers.get_mut(index as usize) {
            publisher.is_listed = false;
        }
        self.greet(index, common.run_us())?;
        loop {
            while let Some(due) = self.publishers.get_mut(index as usize).and_then(Publisher::next_to_write) {
                self.write(index, due, common)?;
            }
            let goes_on = self.draw(index, common)?;
            let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
            publisher.link.flush(&common.poller, token, monotonic_us())?;
            if publisher.queued() == 0 || !publisher.has_room() {
                if goes_on && publisher.has_room() {
                    self.list(index);
                }
                return Ok(());
            }
        }
    }

    /// Closed loop: publishes what there is room for, from one device after the other. Whether there could be more.
    fn draw(&mut self, index: u32, common: &mut Common) -> Result<bool, Fault> {
        let now_us = common.run_us();
        if self.pace == Pace::Open || self.end_us.is_none_or(|end_us| now_us >= end_us) {
            return Ok(false);
        }
        if now_us == 0 {
            // A moment too early.
            return Ok(true);
        }
        let count = self.publishers.len() as u32;
        for _ in 0..TURN_EACH {
            let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(false) };
            if !publisher.has_room() {
                break;
            }
            let mut slot = index + publisher.turn * count;
            if slot as usize >= self.devices.len() {
                (slot, publisher.turn) = (index, 0);
            }
            publisher.turn += 1;
            let Some(due) = self.schedule.draw(slot, now_us) else { return Ok(false) };
            common.tally.due[due.qos] += 1;
            self.write(index, due, common)?;
        }
        Ok(true)
    }

    fn write(&mut self, index: u32, due: SlotDue, common: &mut Common) -> Result<(), Fault> {
        let Some(device) = self.devices.get_mut(due.slot as usize) else { return Ok(()) };
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
        let now_us = common.run_us();
        // What waited for the broker is the broker's doing; the rest of the delay is this simulator's own.
        let own_lag_us = now_us.saturating_sub(due.due_us.max(publisher.free_since_us));
        common.lag.record(own_lag_us, common.counts(due.due_us));
        let SlotDue { sequence, due_us, measured_us, qos, exactly_once, .. } = due;
        let token = Token { sequence, due_us, measured_us, qos, exactly_once };
        let Some(payload) = device.payloads.next(token, &device.topic) else {
            // Nothing worth an event: none was due.
            common.tally.due[qos] -= 1;
            return Ok(());
        };
        self.half.sent(due.slot as usize, due.sequence, due.qos)?;
        publisher.write(&due, &device.topic, &payload, now_us)?;
        common.tally.sent[due.qos] += 1;
        if due.qos == QoS::AtMostOnce {
            self.groups.expect(device.group, due.qos);
        }
        if device.presence.is_some() {
            self.say_state(index, now_us)?;
        }
        Ok(())
    }

    fn try_handle(
        &mut self,
        index: u32,
        ready: Ready,
        common: &mut Common,
        buffer: &mut [u8],
    ) -> Result<(), Fault> {
        let number = self.first + index;
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
        if ready.writable && publisher.link.state == State::Opening {
            let Some(identity) = roster::identity(&common.plan, number) else { return Ok(()) };
            let will = self.devices.get_mut(index as usize).and_then(|device| device.will(common.run_us()));
            let who = Introduction {
                client_id: &identity.client_id,
                durable: publisher.durable,
                keep_alive_secs: common.plan.scenario.fleet.keep_alive_s,
                receive_maximum: None,
                will: will.as_ref().and_then(aside::will),
            };
            publisher.link.opened(&who)?;
        }
        if ready.writable {
            let was_blocked = publisher.link.is_blocked();
            publisher.link.flush(&common.poller, ready.token, monotonic_us())?;
            if was_blocked && !publisher.link.is_blocked() {
                publisher.free_since_us = common.run_us();
            }
            self.list(index);
        }
        if !ready.readable {
            return Ok(());
        }
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
        let version = publisher.link.version;
        let Some(count) = publisher.link.read(buffer)? else { return Ok(()) };
        let mut bytes = buffer.get(..count).unwrap_or_default();
        while let Some(packet) = next_packet(&mut bytes, version)? {
            self.packet(index, &packet, common)?;
        }
        if let Some(publisher) = self.publishers.get_mut(index as usize) {
            publisher.link.keep(bytes);
        }
        self.list(index);
        Ok(())
    }

    /// Takes in how something went: a broken connection is counted and replaced.
    fn settle(&mut self, index: u32, done: Result<(), Fault>, common: &mut Common) -> Result<(), LedgerFull> {
        let error = match done {
            Ok(()) => return Ok(()),
            Err(Fault::Full(full)) => return Err(full),
            Err(Fault::Broken(error)) => error,
        };
        let number = self.first + index;
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
        if publisher.link.state == State::Up {
            common.tally.connected = common.tally.connected.saturating_sub(1);
            common.tally.disconnects += 1;
            common.tally.in_flight_at_disconnect += publisher.events_in_flight() as u64;
        }
        common.broke(&mut publisher.link, number, u64::from(index), &error);
        Ok(())
    }
}

/// What is to be reset when a storm comes, and another one has left something: both reach to the last connection.
fn joined(left: &Range<usize>, storm: Range<usize>) -> Range<usize> {
    if left.is_empty() { storm } else { left.start.min(storm.start)..storm.end }
}

/// A bit for each subscriber whose filter matches.
fn subscribers_of(common: &Common, name: &str) -> u32 {
    let subscribers = common.plan.scenario.subscribers.iter().enumerate();
    subscribers
        .filter(|(_, subscriber)| topic::matches(subscriber.matching(), name))
        .fold(0, |bits, (place, _)| bits | 1 << place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_forgets_nothing_that_another_one_has_left() {
        assert_eq!(joined(&(0..0), 60..100), 60..100);
        assert_eq!(joined(&(100..100), 60..100), 60..100, "that one is over");
        assert_eq!(joined(&(30..100), 60..100), 30..100);
        assert_eq!(joined(&(80..100), 60..100), 60..100);
    }
}
