//! A scenario's phases put in motion: rates for the schedule, and steps for whoever carries them out. Pure.
//!
//! Promise: what is due when follows from the scenario alone, whatever the broker does. A [`Step`] says at which moment
//! what changes; the conductor of [`crate::run`] does it, and knows nothing of phases.

use std::collections::VecDeque;
use std::time::Duration;

use crate::curve::{Curve, Stretch};
use crate::scenario::Scenario;
use crate::scenario::phase::{BrokerFault, Disturbance, Load, PhaseSpec, Side, Weather};

/// Straight lines that stand for one day's sine.
const PIECES_OF_A_DAY: u32 = 96;

/// The most straight lines of one phase.
const PIECES_MAX: u32 = 10_000;

/// A scenario's phases over time.
#[derive(Clone, Debug)]
pub struct Timeline {
    phases: Vec<PhaseSpec>,
    rates: Vec<(u32, Curve)>,
    crowd: Option<Crowd>,
    devices: u32,
}

/// Devices that come later.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    first: u32,
    at_us: u64,
    within_us: u64,
}

/// Something that changes at a moment of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// From the start of the run.
    pub at_us: u64,
    /// The place of its phase in the scenario.
    pub phase: usize,
    /// What changes.
    pub change: Change,
}

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// So large a share of the devices' connections is reset, once.
    Reset(f64),
    /// The network of one side is like this from now on.
    Weather(Side, Weather),
    /// The network of one side is as it should be.
    Clear(Side),
    /// A subscriber takes so long for each event; none: as its own section says.
    Delay(usize, Option<Duration>),
    /// A subscriber leaves, or comes back.
    Present(usize, bool),
    /// Something happens to the broker's process.
    Broker(BrokerStep),
    /// The disturbance of the phase is over: from now on everything should become as it was.
    Healed,
}

/// What happens to the broker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerStep {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Terminate,
    /// The same command again.
    Start,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
    /// Its file system is filled up.
    Fill,
    /// The space is given back.
    Free,
}

impl Timeline {
    /// The timeline of a scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let devices = scenario.fleet.devices;
        let phases = scenario.phases.clone();
        let crowd = phases.iter().find_map(|phase| match phase.disturbance {
            Some(Disturbance::FlashCrowd { share, within }) => Some(Crowd {
                first: devices - (f64::from(devices) * share).round().min(f64::from(devices)) as u32,
                at_us: micros(phase.start),
                within_us: micros(within),
            }),
            _ => None,
        });
        let load = match phases.is_empty() {
            true => Curve::constant(scenario.fleet.rate),
            false => Curve::new(
                phases.iter().filter_map(|phase| Some((phase, phase.load?))).flat_map(stretches),
                0.0,
            ),
        };
        let hogs: Vec<Hog> = phases.iter().filter_map(Hog::of).collect();
        let mut firsts = vec![0];
        firsts.extend(scenario.fleet.cohorts.iter().map(|cohort| cohort.first));
        firsts.extend(hogs.iter().map(|hog| hog.devices).chain(crowd.map(|crowd| crowd.first)));
        firsts.retain(|first| *first < devices);
        firsts.sort_unstable();
        firsts.dedup();
        let rates = firsts.into_iter().map(|first| {
            let hogs = hogs.iter().filter(|hog| first < hog.devices);
            let absent_until = crowd.filter(|crowd| first >= crowd.first).map_or(0, |crowd| crowd.at_us);
            (first, rate_of_one(&load, part_of_one(scenario, first), &hogs.collect::<Vec<_>>(), absent_until))
        });
        Timeline { rates: rates.collect(), phases, crowd, devices }
    }

    /// Events per second of one device, for the devices from a number on: what a schedule goes along.
    pub fn rates(&self) -> Vec<(u32, Curve)> {
        self.rates.clone()
    }

    /// When a device that is not there from the beginning connects.
    pub fn appears_us(&self, device: u32) -> Option<u64> {
        let crowd = self.crowd.filter(|crowd| device >= crowd.first)?;
        let (place, size) = (device - crowd.first, (self.devices - crowd.first).max(1));
        Some(crowd.at_us + crowd.within_us * u64::from(place) / u64::from(size))
    }

    /// How many devices are to be connected at a moment.
    pub fn devices_at(&self, now_us: u64) -> u32 {
        match self.crowd {
            Some(crowd) if now_us < crowd.at_us + crowd.within_us => crowd.first,
            _ => self.devices,
        }
    }

    /// When clients of a fleet reset connections of their own, and the first one of so many that is: the last ones are.
    pub fn storms(&self, connections: u32) -> VecDeque<(u64, u32)> {
        let storm = |phase: &PhaseSpec| match phase.disturbance {
            Some(Disturbance::ReconnectStorm { share }) => {
                let reset = (f64::from(connections) * share).round() as u32;
                Some((micros(phase.start), connections.saturating_sub(reset)))
            }
            _ => None,
        };
        let mut storms: Vec<_> = self.phases.iter().filter_map(storm).collect();
        storms.sort_unstable();
        storms.into()
    }

    /// The phase of a moment, the one that began last if there are several.
    pub fn phase_at(&self, now_us: u64) -> Option<&str> {
        let current =
            self.phases.iter().filter(|phase| micros(phase.start) <= now_us && now_us < micros(phase.end()));
        current.max_by_key(|phase| phase.start).map(|phase| phase.name.as_str())
    }

    /// A phase's name, by its place in the scenario.
    pub fn name_of(&self, phase: usize) -> Option<&str> {
        self.phases.get(phase).map(|phase| phase.name.as_str())
    }

    /// The share of the events due at a moment that workers refuse.
    pub fn poison_at(&self, due_us: u64) -> f64 {
        let share = |phase: &PhaseSpec| match phase.disturbance {
            Some(Disturbance::Poison { share }) => share,
            _ => 0.0,
        };
        let current =
            self.phases.iter().filter(|phase| micros(phase.start) <= due_us && due_us < micros(phase.end()));
        current.map(share).fold(0.0, f64::max)
    }

    /// Everything that changes, in order.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, phase) in self.phases.iter().enumerate() {
            let Some(disturbance) = phase.disturbance else { continue };
            let changes = changes(disturbance, micros(phase.start), micros(phase.end()));
            steps.extend(changes.into_iter().map(|(at_us, change)| Step { at_us, phase: number, change }));
        }
        steps.sort_by_key(|step| step.at_us);
        steps
    }
}

fn changes(disturbance: Disturbance, start: u64, end: u64) -> Vec<(u64, Change)> {
    let healed = |at_us| (at_us, Change::Healed);
    let broker = |at_us, step| (at_us, Change::Broker(step));
    match disturbance {
        Disturbance::ReconnectStorm { share } => vec![(start, Change::Reset(share)), healed(start)],
        Disturbance::FlashCrowd { within, .. } => vec![healed(start + micros(within))],
        Disturbance::Hog { .. } => vec![healed(end)],
        Disturbance::Poison { .. } => Vec::new(),
        Disturbance::SlowConsumer { subscriber, delay } => vec![
            (start, Change::Delay(subscriber, Some(delay))),
            (end, Change::Delay(subscriber, None)),
            healed(end),
        ],
        Disturbance::Outage { subscriber } => vec![
            (start, Change::Present(subscriber, false)),
            (end, Change::Present(subscriber, true)),
            healed(end),
        ],
        // What went silent stays silent: it is the clients that must notice.
        Disturbance::Network { side, weather: weather @ Weather::HalfOpen { .. } } => {
            vec![(start, Change::Weather(side, weather)), healed(start)]
        }
        Disturbance::Network { side, weather } => {
            vec![(start, Change::Weather(side, weather)), (end, Change::Clear(side)), healed(end)]
        }
        Disturbance::Broker(BrokerFault::Kill { down }) => {
            let up = start + micros(down);
            vec![broker(start, BrokerStep::Kill), broker(up, BrokerStep::Start), healed(up)]
        }
        Disturbance::Broker(BrokerFault::Restart { down }) => {
            let up = start + micros(down);
            vec![broker(start, BrokerStep::Terminate), broker(up, BrokerStep::Start), healed(up)]
        }
        Disturbance::Broker(BrokerFault::Pause) => {
            vec![broker(start, BrokerStep::Pause), broker(end, BrokerStep::Resume), healed(end)]
        }
        Disturbance::Broker(BrokerFault::DiskFull) => {
            vec![broker(start, BrokerStep::Fill), broker(end, BrokerStep::Free), healed(end)]
        }
    }
}

/// What some devices publish beside their part.
struct Hog {
    devices: u32,
    start_us: u64,
    end_us: u64,
    rate: f64,
}

impl Hog {
    fn of(phase: &PhaseSpec) -> Option<Self> {
        let Some(Disturbance::Hog { devices, rate }) = phase.disturbance else { return None };
        Some(Hog { devices, start_us: micros(phase.start), end_us: micros(phase.end()), rate })
    }
}

/// The part of the fleet's load that one device has, 0 to 1, as its cohort's rate says.
fn part_of_one(scenario: &Scenario, device: u32) -> f64 {
    let fleet = &scenario.fleet;
    let rate = fleet.cohort_of(device).map(|(_, cohort)| cohort.rhythm.rate_of_one());
    rate.map_or(0.0, |rate| rate / fleet.rate)
}

/// The load's part of one device, with what it adds and without what it is not there for.
fn rate_of_one(load: &Curve, part: f64, hogs: &[&Hog], absent_until_us: u64) -> Curve {
    let mut corners: Vec<u64> = load.corners_us().chain([0, absent_until_us]).collect();
    corners.extend(hogs.iter().flat_map(|hog| [hog.start_us, hog.end_us]));
    corners.sort_unstable();
    corners.dedup();
    let rate = |load: f64, middle_us: u64| {
        let more: f64 = hogs
            .iter()
            .filter(|hog| (hog.start_us..hog.end_us).contains(&middle_us))
            .map(|hog| hog.rate / f64::from(hog.devices))
            .sum();
        if middle_us < absent_until_us { 0.0 } else { load * part + more }
    };
    let stretches = corners.windows(2).filter_map(|pair| {
        let (start, end) = (*pair.first()?, *pair.last()?);
        let middle_us = start + (end - start) / 2;
        let (from, to) = (rate(load.rate_at(start), middle_us), rate(load.rate_until(end), middle_us));
        Some(Stretch { length_us: end - start, from, to })
    });
    let last = corners.last().copied().unwrap_or(0);
    Curve::new(stretches.collect::<Vec<_>>(), rate(load.rate_at(last), last))
}

/// A phase's load as straight lines over its whole time.
fn stretches((phase, load): (&PhaseSpec, Load)) -> Vec<Stretch> {
    let length_us = micros(phase.duration);
    match load {
        Load::Steady { rate } => vec![Stretch::level(length_us, rate)],
        Load::Ramp { from, to } => vec![Stretch { length_us, from, to }],
        Load::Burst { rate, peak, every, length } => {
            let (every, length) = (micros(every).max(1), micros(length));
            let starts = (0..length_us).step_by(usize::try_from(every).unwrap_or(usize::MAX));
            starts
                .flat_map(|start| {
                    let burst = length.min(length_us - start);
                    let calm = (every - length).min(length_us - start - burst);
                    [Stretch::level(burst, peak), Stretch::level(calm, rate)]
                })
                .filter(|stretch| stretch.length_us > 0)
                .collect()
        }
        Load::Diurnal { rate, amplitude, day } => {
            let day = micros(day);
            let step = (day / u64::from(PIECES_OF_A_DAY)).max(length_us / u64::from(PIECES_MAX)).max(1);
            let at =
                |us: u64| rate * (1.0 - amplitude * (std::f64::consts::TAU * us as f64 / day as f64).cos());
            let starts = (0..length_us).step_by(usize::try_from(step).unwrap_or(usize::MAX));
            starts
                .map(|start| {
                    let end = (start + step).min(length_us);
                    Stretch { length_us: end - start, from: at(start), to: at(end) }
                })
                .collect()
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;
    use crate::schedule::{Due, Schedule};

    const SECOND_US: u64 = 1_000_000;

    fn scenario(phases: &str) -> Scenario {
        let text = format!(
            "[fleet]\ndevices = 100\nrate = 1000\n[[subscriber]]\nname = \"a\"\nfilter = \"devices/#\"\n[run]\n{phases}"
        );
        Scenario::parse(&text).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn due(scenario: &Scenario) -> Vec<Due> {
        let rates = Timeline::of(scenario).rates();
        let mut schedule = Schedule::of_devices(Seed(1), &scenario.fleet, rates, 0..100);
        let end_us = micros(scenario.run.duration.unwrap());
        std::iter::from_fn(|| schedule.pop_due(end_us)).collect()
    }

    fn between(events: &[Due], start_s: u64, end_s: u64) -> u64 {
        let span = start_s * SECOND_US..end_s * SECOND_US;
        events.iter().filter(|due| span.contains(&due.due_us)).count() as u64
    }

    #[test]
    fn events_are_due_as_the_phases_say() {
        let scenario = scenario(
            r#"
            [[phase]]
            kind = "ramp"
            duration = "10s"
            [[phase]]
            kind = "steady"
            duration = "5s"
            [[phase]]
            kind = "burst"
            duration = "10s"
            rate = 100
            peak = 2000
            every = "5s"
            length = "1s"
            [[phase]]
            kind = "diurnal"
            duration = "24s"
            rate = 500
            amplitude = 1.0
            [[phase]]
            name = "silence"
            kind = "steady"
            duration = "2s"
            rate = 0
            "#,
        );
        assert_eq!(scenario.run.duration, Some(Duration::from_secs(51)));
        let events = due(&scenario);
        let near = |start_s, end_s, expected: u64| {
            let count = between(&events, start_s, end_s);
            assert!(
                count.abs_diff(expected) <= 60 + expected / 50,
                "{start_s} to {end_s}: {count}, not {expected}"
            );
        };
        near(0, 5, 1_250);
        near(5, 10, 3_750);
        near(10, 15, 5_000);
        near(15, 16, 2_000);
        near(16, 20, 400);
        near(20, 21, 2_000);
        near(25, 49, 12_000);
        // The mean of a sine's upper half is 2/π above its middle.
        near(31, 43, 9_820);
        assert_eq!(between(&events, 49, 51), 0, "silence");
        let timeline = Timeline::of(&scenario);
        assert_eq!(timeline.phase_at(16 * SECOND_US), Some("burst"));
        assert_eq!(timeline.phase_at(60 * SECOND_US), None);
    }

    #[test]
    fn a_hog_adds_to_its_own_part_and_a_crowd_comes_later() {
        let scenario = scenario(
            r#"
            [[phase]]
            kind = "hog"
            duration = "10s"
            devices = 2
            rate = 500
            [[phase]]
            kind = "flash-crowd"
            duration = "10s"
            share = 0.4
            within = "1s"
            "#,
        );
        let events = due(&scenario);
        let of = |devices: std::ops::Range<u32>, start_s, end_s| {
            let own: Vec<Due> = events.iter().copied().filter(|due| devices.contains(&due.device)).collect();
            between(&own, start_s, end_s)
        };
        assert!(of(0..2, 0, 10).abs_diff(5_200) < 20, "{}", of(0..2, 0, 10));
        assert!(of(2..60, 0, 10).abs_diff(5_800) < 60);
        assert_eq!(of(60..100, 0, 10), 0, "they are not there yet");
        assert!(of(60..100, 10, 20).abs_diff(4_000) < 60);
        let timeline = Timeline::of(&scenario);
        assert_eq!((timeline.appears_us(59), timeline.appears_us(60)), (None, Some(10 * SECOND_US)));
        assert_eq!(timeline.appears_us(80), Some(10 * SECOND_US + SECOND_US / 2));
        assert_eq!((timeline.devices_at(0), timeline.devices_at(11 * SECOND_US)), (60, 100));
    }

    #[test]
    fn steps_come_in_order_and_every_disturbance_ends() {
        let scenario = scenario(
            r#"
            [[phase]]
            kind = "broker-kill"
            duration = "10s"
            down = "2s"
            [[phase]]
            kind = "consumer-outage"
            at = "1s"
            duration = "3s"
            "#,
        );
        let steps: Vec<(u64, Change)> = Timeline::of(&scenario)
            .steps()
            .into_iter()
            .map(|step| (step.at_us / SECOND_US, step.change))
            .collect();
        assert_eq!(
            steps,
            [
                (0, Change::Broker(BrokerStep::Kill)),
                (1, Change::Present(0, false)),
                (2, Change::Broker(BrokerStep::Start)),
                (2, Change::Healed),
                (4, Change::Present(0, true)),
                (4, Change::Healed),
            ]
        );
    }
}
