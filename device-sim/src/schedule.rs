//! The open-loop schedule: when each device's events are due, whatever the broker does.
//!
//! Promise: the schedule is a function of the seed, the number of devices, their rates over time, the arrivals and the
//! mix alone. Events are laid out in units of one event per device and read through the device's [`Curve`], so a device's
//! events are the same ones in the same order whatever the timeline does with their times. It knows no clock: the caller
//! asks for what is due up to a moment ([`Schedule::pop_due`]) and it neither waits nor skips. Latencies are counted from
//! the due time, so a broker that stalls is charged for the whole stall and not for one event of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand_chacha::ChaCha8Rng;

use crate::curve::Curve;
use crate::qos::QoS;
use crate::random::{Purpose, Seed, exponential, unit};

/// How a device's events follow each other. The mean rate is the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// Every period, each event moved by up to `jitter` periods to either side (0 to 0.5), each device with its own phase.
    Periodic {
        /// A fraction of the period.
        jitter: f64,
    },
    /// Independent events with exponential gaps.
    Poisson,
}

/// One event that has become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whose event.
    pub device: u32,
    /// Its number among the device's events, from 0.
    pub sequence: u32,
    /// Microseconds from the start of the run.
    pub due_us: u64,
    /// What it is to be published with.
    pub qos: QoS,
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
    pub qos: QoS,
}

/// The events of a fleet, or of some of its devices, in the order in which they are due.
pub struct Schedule {
    queue: BinaryHeap<Reverse<(u64, u32)>>,
    devices: Vec<DeviceSchedule>,
    arrivals: Arrivals,
    /// Events per second of one device, for the devices from a number on; sorted by it, and the first one is 0.
    rates: Vec<(u32, Curve)>,
    qos1_share: f64,
}

struct DeviceSchedule {
    number: u32,
    rng: ChaCha8Rng,
    qos: ChaCha8Rng,
    /// In events. Periodic: the phase. Poisson: the last event's place.
    origin: f64,
    next_sequence: u32,
}

impl Schedule {
    /// A schedule of `rate` events per second over `devices` devices; a share of them, 0 to 1, with QoS 1.
    pub fn new(seed: Seed, devices: u32, rate: f64, arrivals: Arrivals, qos1_share: f64) -> Self {
        let rates = vec![(0, Curve::constant(rate / f64::from(devices)))];
        Schedule::along(seed, 0..devices, rates, arrivals, qos1_share)
    }

    /// A schedule along `rates`: events per second of one device, for the devices from a number on, sorted by it. It is that of
    /// `some` devices, in rising order: each has the events that it has in the whole fleet.
    pub fn along(
        seed: Seed,
        some: impl Iterator<Item = u32>,
        rates: Vec<(u32, Curve)>,
        arrivals: Arrivals,
        qos1_share: f64,
    ) -> Self {
        let mut schedule =
            Schedule { queue: BinaryHeap::new(), devices: Vec::new(), arrivals, rates, qos1_share };
        for (slot, number) in some.enumerate() {
            let mut rng = seed.stream(Purpose::Schedule, number);
            let origin = match arrivals {
                Arrivals::Periodic { .. } => unit(&mut rng),
                Arrivals::Poisson => 0.0,
            };
            let qos = seed.stream(Purpose::QoS, number);
            schedule.devices.push(DeviceSchedule { number, rng, qos, origin, next_sequence: 0 });
            if let Some(due_us) = schedule.next_due_us(slot as u32) {
                schedule.queue.push(Reverse((due_us, slot as u32)));
            }
        }
        schedule
    }

    /// The next event due at or before `now_us`, if there is one.
    pub fn pop_due(&mut self, now_us: u64) -> Option<Due> {
        let SlotDue { slot, sequence, due_us, qos } = self.pop_due_slot(now_us)?;
        let device = self.devices.get(slot as usize)?.number;
        Some(Due { device, sequence, due_us, qos })
    }

    /// The same, by the device's place.
    pub fn pop_due_slot(&mut self, now_us: u64) -> Option<SlotDue> {
        let Reverse((due_us, slot)) = *self.queue.peek().filter(|next| next.0.0 <= now_us)?;
        let due = self.draw(slot, due_us)?;
        match self.next_due_us(slot) {
            // In place: one descent instead of two.
            Some(next_us) => {
                if let Some(mut first) = self.queue.peek_mut() {
                    *first = Reverse((next_us, slot));
                }
            }
            None => {
                self.queue.pop();
            }
        }
        Some(due)
    }

    /// A device's next event now, whatever its schedule says: a closed loop.
    pub fn draw(&mut self, slot: u32, due_us: u64) -> Option<SlotDue> {
        let state = self.devices.get_mut(slot as usize)?;
        let sequence = state.next_sequence;
        state.next_sequence = sequence.wrapping_add(1);
        let qos = match unit(&mut state.qos) < self.qos1_share {
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        };
        Some(SlotDue { slot, sequence, due_us, qos })
    }

    /// When the next event is due, if there is one.
    pub fn next_us(&self) -> Option<u64> {
        self.queue.peek().map(|next| next.0.0)
    }

    /// When a device's next event is due; none if its rate stays at zero.
    fn next_due_us(&mut self, slot: u32) -> Option<u64> {
        let state = self.devices.get_mut(slot as usize)?;
        let place = match self.arrivals {
            Arrivals::Periodic { jitter } => {
                let moved = jitter * (2.0 * unit(&mut state.rng) - 1.0);
                state.origin + f64::from(state.next_sequence) + moved
            }
            Arrivals::Poisson => {
                state.origin += exponential(&mut state.rng);
                state.origin
            }
        };
        let after = self.rates.partition_point(|(first, _)| *first <= state.number);
        let (_, curve) = self.rates.get(after.checked_sub(1)?)?;
        // Above zero: the very first event, too, is due only once there is a rate.
        curve.due_us(place.max(f64::MIN_POSITIVE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    fn all_until(schedule: &mut Schedule, end_us: u64) -> Vec<Due> {
        std::iter::from_fn(|| schedule.pop_due(end_us)).collect()
    }

    fn schedule(seed: u64, arrivals: Arrivals) -> Schedule {
        Schedule::new(Seed(seed), 50, 1_000.0, arrivals, 0.75)
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_however_it_is_asked_for() {
        for arrivals in [Arrivals::Periodic { jitter: 0.3 }, Arrivals::Poisson] {
            let at_once = all_until(&mut schedule(7, arrivals), SECOND_US);
            let mut stepped_schedule = schedule(7, arrivals);
            let stepped: Vec<Due> =
                (0..=200).flat_map(|tick| all_until(&mut stepped_schedule, tick * 5_000)).collect();
            assert_eq!(at_once, stepped);
            assert_ne!(at_once, all_until(&mut schedule(8, arrivals), SECOND_US));
        }
    }

    #[test]
    fn the_rate_and_the_mix_are_kept() {
        for arrivals in [Arrivals::Periodic { jitter: 0.3 }, Arrivals::Poisson] {
            let events = all_until(&mut schedule(1, arrivals), 20 * SECOND_US);
            let count = events.len() as f64;
            assert!((count - 20_000.0).abs() < 600.0, "{arrivals:?}: {count}");
            let assured = events.iter().filter(|due| due.qos == QoS::AtLeastOnce).count() as f64;
            assert!((assured / count - 0.75).abs() < 0.02, "{assured} of {count}");
        }
    }

    #[test]
    fn events_come_in_order_and_every_device_counts_its_own() {
        let events = all_until(&mut schedule(1, Arrivals::Periodic { jitter: 0.49 }), 3 * SECOND_US);
        assert!(events.is_sorted_by_key(|due| due.due_us));
        for device in 0..50 {
            let own: Vec<u32> =
                events.iter().filter(|due| due.device == device).map(|due| due.sequence).collect();
            assert!(own.len() > 50);
            assert_eq!(own, (0..own.len() as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_timeline_moves_events_and_changes_nothing_else() {
        let ramp = Curve::new([crate::curve::Stretch { length_us: 4 * SECOND_US, from: 0.0, to: 40.0 }], 0.0);
        let rates = vec![(0, ramp), (40, Curve::constant(0.0)), (45, Curve::constant(20.0))];
        for arrivals in [Arrivals::Periodic { jitter: 0.3 }, Arrivals::Poisson] {
            let mut along = Schedule::along(Seed(7), 0..50, rates.clone(), arrivals, 0.75);
            let events = all_until(&mut along, 4 * SECOND_US);
            let of = |device, events: &[Due]| -> Vec<(u32, QoS)> {
                events.iter().filter(|due| due.device == device).map(|due| (due.sequence, due.qos)).collect()
            };
            assert_eq!(of(42, &events), []);
            let level = all_until(&mut schedule(7, arrivals), 10 * SECOND_US);
            for device in [0, 39, 45, 49] {
                let (moved, level) = (of(device, &events), of(device, &level));
                assert!(moved.len() > 40, "device {device}: {} of some 80", moved.len());
                assert_eq!(moved, level[..moved.len()], "device {device}");
            }
            let ramped = |until_us| {
                events.iter().filter(|due| due.device < 40 && due.due_us < until_us).count() as f64
            };
            let quarter = ramped(2 * SECOND_US) / ramped(4 * SECOND_US);
            assert!((quarter - 0.25).abs() < 0.03, "{quarter} of the events in half of a ramp");
        }
    }

    #[test]
    fn some_devices_have_the_events_that_they_have_in_the_whole() {
        let arrivals = Arrivals::Periodic { jitter: 0.3 };
        let whole = all_until(&mut schedule(5, arrivals), SECOND_US);
        let of = |rest: u32| (0..50).filter(move |device| device % 3 == rest);
        let mut parts = Vec::new();
        for rest in 0..3 {
            parts.extend(all_until(
                &mut Schedule::along(Seed(5), of(rest), vec![(0, Curve::constant(20.0))], arrivals, 0.75),
                SECOND_US,
            ));
        }
        parts.sort_by_key(|due| (due.due_us, due.device));
        assert_eq!(parts, whole);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut schedule = schedule(1, Arrivals::Periodic { jitter: 0.2 });
        for tick in 0..200 {
            for due in all_until(&mut schedule, tick * 5_000) {
                assert!(due.due_us <= tick * 5_000);
            }
        }
    }
}
