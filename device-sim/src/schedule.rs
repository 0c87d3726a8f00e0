//! The open-loop schedule: when each device's events are due, whatever the broker does.
//!
//! Promise: the schedule is a function of the seed, the cohorts' rhythms and the devices' rates over time alone. Readings are laid
//! out in units of one per device and read through the device's [`Curve`], so a device's events are the same ones in the same
//! order whatever a timeline does with their times. It knows no clock: the caller asks for what is due up to a moment
//! ([`Schedule::pop_due`]) and it neither waits nor skips. Latencies are counted from the due time, so a broker that stalls
//! is charged for the whole stall and not for one event of it.
//!
//! ```text
//! measured ──awake, in time──────────► due (the device's next sequence number)
//!     └──late, or asleep──► kept ──────► due later: its data are older than what was sent before
//! ```
//!
//! Sequence numbers follow the due times, so that a broker is never blamed for data that the device itself sent late.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::curve::Curve;
use crate::qos::QoS;
use crate::random::{Bookmark, Purpose, Seed, exponential, unit};
use crate::scenario::Fleet;
use crate::scenario::rhythm::{Arrivals, Duty, Lateness, Rhythm, Uplink};

/// One event that has become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whose event.
    pub device: u32,
    /// Its number among the device's events, from 0.
    pub sequence: u32,
    /// Microseconds from the start of the run.
    pub due_us: u64,
    /// When it was measured; not after it was due.
    pub measured_us: u64,
    /// What is promised about it: QoS 1 for QoS 2 too.
    pub qos: QoS,
    /// Whether it is to be published with QoS 2.
    pub exactly_once: bool,
}

/// The same among some of the devices, told apart by their place among these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotDue {
    /// The device's place.
    pub slot: u32,
    /// As in [`Due`].
    pub sequence: u32,
    /// As in [`Due`].
    pub due_us: u64,
    /// As in [`Due`].
    pub measured_us: u64,
    /// As in [`Due`].
    pub qos: QoS,
    /// As in [`Due`].
    pub exactly_once: bool,
}

/// The events of a fleet, or of some of its devices, in the order in which they are due.
pub struct Schedule {
    queue: BinaryHeap<Reverse<(u64, u32, Freshness)>>,
    devices: Vec<DeviceSchedule>,
    cohorts: Vec<Rhythm>,
    /// Readings per second of one device, for the devices from a number on; sorted by it, and the first one is 0.
    rates: Vec<(u32, Curve)>,
}

/// Of two entries at one time the older goes first: [`u32::MAX`] less the microseconds since it was measured.
type Freshness = u32;

/// A reading that is yet to be made.
const FRESH: Freshness = u32::MAX;

struct DeviceSchedule {
    number: u32,
    cohort: u16,
    rng: Bookmark,
    qos: Bookmark,
    /// In readings. Periodic: the phase. Poisson: the last reading's place.
    origin: f64,
    next_reading: u32,
    next_sequence: u32,
    /// Only where something keeps readings back.
    uplink: Option<Box<UplinkState>>,
}

struct UplinkState {
    rng: Bookmark,
    /// Where in its cycle the device began.
    phase_us: u64,
}

impl Schedule {
    /// The schedule of a fleet at its rates, without a timeline.
    pub fn of_fleet(seed: Seed, fleet: &Fleet) -> Self {
        let rhythms: Vec<Rhythm> = fleet.cohorts.iter().map(|cohort| cohort.rhythm).collect();
        Self::new(seed, &rhythms)
    }

    /// The schedule of `some` of a fleet's devices, in rising order, along `rates`: readings per second of one device, for the
    /// devices from a number on, sorted by it. Each has the events that it has in the whole fleet.
    pub fn of_devices(
        seed: Seed,
        fleet: &Fleet,
        rates: Vec<(u32, Curve)>,
        some: impl Iterator<Item = u32>,
    ) -> Self {
        let rhythms: Vec<Rhythm> = fleet.cohorts.iter().map(|cohort| cohort.rhythm).collect();
        Self::along(seed, &rhythms, rates, some)
    }

    /// A schedule of cohorts, whose devices are numbered on and on, each at its own rate.
    pub fn new(seed: Seed, cohorts: &[Rhythm]) -> Self {
        let mut devices = 0;
        let rates = cohorts.iter().map(|rhythm| {
            let first = devices;
            devices += rhythm.devices;
            (first, Curve::constant(rhythm.rate_of_one()))
        });
        let rates = rates.collect();
        Self::along(seed, cohorts, rates, 0..devices)
    }

    fn along(
        seed: Seed,
        cohorts: &[Rhythm],
        rates: Vec<(u32, Curve)>,
        some: impl Iterator<Item = u32>,
    ) -> Self {
        let ends: Vec<u32> = cohorts
            .iter()
            .scan(0, |end, rhythm| {
                *end += rhythm.devices;
                Some(*end)
            })
            .collect();
        let mut schedule =
            Schedule { queue: BinaryHeap::new(), devices: Vec::new(), cohorts: cohorts.to_vec(), rates };
        for number in some {
            let place = ends.partition_point(|end| *end <= number);
            let Some(rhythm) = cohorts.get(place) else { break };
            let slot = schedule.devices.len() as u32;
            schedule.devices.push(DeviceSchedule::new(seed, number, place as u16, rhythm));
            if let Some(at_us) = schedule.next_reading_us(slot) {
                schedule.queue.push(Reverse((at_us, slot, FRESH)));
            }
        }
        schedule
    }

    /// The next event due at or before `now_us`, if there is one.
    pub fn pop_due(&mut self, now_us: u64) -> Option<Due> {
        let SlotDue { slot, sequence, due_us, measured_us, qos, exactly_once } = self.pop_due_slot(now_us)?;
        let device = self.devices.get(slot as usize)?.number;
        Some(Due { device, sequence, due_us, measured_us, qos, exactly_once })
    }

    /// The same, by the device's place.
    pub fn pop_due_slot(&mut self, now_us: u64) -> Option<SlotDue> {
        loop {
            let Reverse((at_us, slot, freshness)) = *self.queue.peek().filter(|next| next.0.0 <= now_us)?;
            // The device's next reading, in place of this one where that can be: one descent instead of two.
            let next_us = if freshness == FRESH { self.next_reading_us(slot) } else { None };
            match (next_us, self.queue.peek_mut()) {
                (Some(next_us), Some(mut first)) => *first = Reverse((next_us, slot, FRESH)),
                (None, Some(first)) => drop(PeekMut::pop(first)),
                (_, None) => {}
            }
            let kept_us = if freshness == FRESH { self.kept_for(slot, at_us) } else { 0 };
            if kept_us > 0 {
                self.queue.push(Reverse((at_us + u64::from(kept_us), slot, FRESH - kept_us)));
                continue;
            }
            return self.event(slot, at_us, at_us.saturating_sub(u64::from(FRESH - freshness)));
        }
    }

    /// A device's next event now, whatever its schedule says: a closed loop.
    pub fn draw(&mut self, slot: u32, due_us: u64) -> Option<SlotDue> {
        self.event(slot, due_us, due_us)
    }

    /// When the next event is due, if there is one.
    pub fn next_us(&self) -> Option<u64> {
        self.queue.peek().map(|next| next.0.0)
    }

    fn event(&mut self, slot: u32, due_us: u64, measured_us: u64) -> Option<SlotDue> {
        let state = self.devices.get_mut(slot as usize)?;
        let rhythm = self.cohorts.get(usize::from(state.cohort))?;
        let sequence = state.next_sequence;
        state.next_sequence = sequence.wrapping_add(1);
        let (qos, exactly_once) = state.draw_qos(rhythm);
        Some(SlotDue { slot, sequence, due_us, measured_us, qos, exactly_once })
    }

    /// When a device's next reading is made; none if its rate stays at zero.
    fn next_reading_us(&mut self, slot: u32) -> Option<u64> {
        let state = self.devices.get_mut(slot as usize)?;
        let rhythm = self.cohorts.get(usize::from(state.cohort))?;
        let place = match rhythm.arrivals {
            Arrivals::Periodic { jitter } => {
                let moved = jitter * (2.0 * state.rng.draw(unit) - 1.0);
                state.origin + f64::from(state.next_reading) + moved
            }
            Arrivals::Poisson => {
                state.origin += state.rng.draw(exponential);
                state.origin
            }
        };
        state.next_reading = state.next_reading.wrapping_add(1);
        let after = self.rates.partition_point(|(first, _)| *first <= state.number);
        let (_, curve) = self.rates.get(after.checked_sub(1)?)?;
        // Above zero: the very first one, too, is made only once there is a rate.
        curve.due_us(place.max(f64::MIN_POSITIVE))
    }

    /// How long a reading made at `at_us` waits in the device, microseconds; at most a little more than an hour.
    fn kept_for(&mut self, slot: u32, at_us: u64) -> u32 {
        let Some(state) = self.devices.get_mut(slot as usize) else { return 0 };
        let Some(Uplink { late, duty }) =
            self.cohorts.get(usize::from(state.cohort)).map(|rhythm| rhythm.uplink)
        else {
            return 0;
        };
        let Some(uplink) = &mut state.uplink else { return 0 };
        let mut kept_us = 0;
        if let Some(Lateness { share, mean_us }) = late
            && uplink.rng.draw(unit) < share
        {
            kept_us = (mean_us as f64 * uplink.rng.draw(exponential)) as u64;
        }
        if let Some(Duty { awake_us, every_us }) = duty {
            let in_cycle_us = (at_us + kept_us + uplink.phase_us) % every_us.max(1);
            if in_cycle_us >= awake_us {
                kept_us += every_us - in_cycle_us;
            }
        }
        u32::try_from(kept_us).unwrap_or(u32::MAX)
    }
}

impl DeviceSchedule {
    fn new(seed: Seed, number: u32, cohort: u16, rhythm: &Rhythm) -> Self {
        let mut rng = seed.bookmark(Purpose::Schedule, number);
        let origin = match rhythm.arrivals {
            Arrivals::Periodic { .. } => rng.draw(unit),
            Arrivals::Poisson => 0.0,
        };
        let uplink = (rhythm.uplink != Uplink::default()).then(|| {
            let mut rng = seed.bookmark(Purpose::Uplink, number);
            let cycle_us = rhythm.uplink.duty.map_or(0, |duty| duty.every_us);
            let phase_us = (rng.draw(unit) * cycle_us as f64) as u64;
            Box::new(UplinkState { rng, phase_us })
        });
        let qos = seed.bookmark(Purpose::QoS, number);
        DeviceSchedule { number, cohort, rng, qos, origin, next_reading: 0, next_sequence: 0, uplink }
    }

    /// The QoS of the next event, and whether it is 2.
    fn draw_qos(&mut self, rhythm: &Rhythm) -> (QoS, bool) {
        let (qos1, above_0) = (rhythm.qos1_share, rhythm.qos1_share + rhythm.qos2_share);
        if qos1 >= 1.0 || above_0 <= 0.0 {
            // Nothing depends on it.
            self.qos.skip_unit();
            return (if qos1 >= 1.0 { QoS::AtLeastOnce } else { QoS::AtMostOnce }, false);
        }
        let drawn = self.qos.draw(unit);
        let exactly_once = (qos1..above_0).contains(&drawn);
        match exactly_once || drawn < qos1 {
            true => (QoS::AtLeastOnce, exactly_once),
            false => (QoS::AtMostOnce, exactly_once),
        }
    }
}

impl Rhythm {
    /// Readings per second of one device.
    pub fn rate_of_one(&self) -> f64 {
        self.rate / f64::from(self.devices.max(1))
    }
}

#[cfg(test)]
mod tests;
