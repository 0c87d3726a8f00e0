//! Seeds, rates, order, lateness, timelines.

use super::*;
use crate::scenario::rhythm::{Arrivals, Duty, Lateness, Rhythm, Uplink};

const SECOND_US: u64 = 1_000_000;

fn all_until(schedule: &mut Schedule, end_us: u64) -> Vec<Due> {
    std::iter::from_fn(|| schedule.pop_due(end_us)).collect()
}

fn rhythm(arrivals: Arrivals) -> Rhythm {
    Rhythm {
        devices: 50,
        rate: 1_000.0,
        arrivals,
        qos1_share: 0.75,
        qos2_share: 0.0,
        uplink: Uplink::default(),
    }
}

fn schedule(seed: u64, arrivals: Arrivals) -> Schedule {
    Schedule::new(Seed(seed), &[rhythm(arrivals)])
}

#[test]
fn cohorts_keep_their_own_rates_and_count_on() {
    let slow = Rhythm { devices: 10, rate: 20.0, qos1_share: 0.0, ..rhythm(Arrivals::Poisson) };
    let mut schedule = Schedule::new(Seed(1), &[slow, rhythm(Arrivals::Poisson)]);
    let events = all_until(&mut schedule, 20 * SECOND_US);
    let (first, second): (Vec<Due>, Vec<Due>) = events.iter().partition(|due| due.device < 10);
    assert!((300..500).contains(&first.len()), "{}", first.len());
    assert!((19_000..21_000).contains(&second.len()), "{}", second.len());
    assert!(first.iter().all(|due| due.qos == QoS::AtMostOnce));
    assert_eq!(second.iter().map(|due| due.device).max(), Some(59));
}

#[test]
fn qos_2_has_its_share_and_moves_no_other_event() {
    let arrivals = Arrivals::Poisson;
    let mixed = Rhythm { qos1_share: 0.5, qos2_share: 0.25, ..rhythm(arrivals) };
    let events = all_until(&mut Schedule::new(Seed(1), &[mixed]), 20 * SECOND_US);
    let exactly_once = events.iter().filter(|due| due.exactly_once).count() as f64 / events.len() as f64;
    assert!((exactly_once - 0.25).abs() < 0.02, "{exactly_once}");
    assert!(events.iter().all(|due| !due.exactly_once || due.qos == QoS::AtLeastOnce));
    let without = all_until(&mut schedule(1, arrivals), 20 * SECOND_US);
    let promises =
        |events: &[Due]| -> Vec<(u64, QoS)> { events.iter().map(|due| (due.due_us, due.qos)).collect() };
    assert_eq!(promises(&events), promises(&without), "a part of what had QoS 1 has QoS 2");
}

#[test]
fn late_readings_come_out_of_order_and_sequence_numbers_do_not() {
    let late = Lateness { share: 0.2, mean_us: SECOND_US };
    let uplink = Uplink { late: Some(late), duty: None };
    let mut schedule = Schedule::new(Seed(1), &[Rhythm { uplink, ..rhythm(Arrivals::Poisson) }]);
    let events = all_until(&mut schedule, 20 * SECOND_US);
    let share = events.iter().filter(|due| due.measured_us < due.due_us).count() as f64 / events.len() as f64;
    assert!((share - 0.2).abs() < 0.02, "{share}");
    assert!(events.is_sorted_by_key(|due| due.due_us));
    let own: Vec<&Due> = events.iter().filter(|due| due.device == 7).collect();
    assert!(own.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
    assert!(own.windows(2).any(|pair| pair[1].measured_us < pair[0].measured_us), "out of order");
}

#[test]
fn what_is_measured_asleep_is_sent_on_waking() {
    let duty = Duty { awake_us: 100_000, every_us: SECOND_US };
    let uplink = Uplink { late: None, duty: Some(duty) };
    let mut schedule = Schedule::new(Seed(1), &[Rhythm { uplink, ..rhythm(Arrivals::Poisson) }]);
    let events = all_until(&mut schedule, 20 * SECOND_US);
    assert!((events.len() as f64 - 19_500.0).abs() < 700.0, "{}", events.len());
    let own: Vec<&Due> = events.iter().filter(|due| due.device == 7).collect();
    assert!(own.is_sorted_by_key(|due| due.measured_us), "oldest first");
    let first = own[0].due_us;
    let awake = own.iter().all(|due| {
        let in_cycle_us = (due.due_us + SECOND_US - first % SECOND_US) % SECOND_US;
        !(100_000..=900_000).contains(&in_cycle_us)
    });
    assert!(awake, "all within the tenth of a second in which it is awake");
    assert!(own.iter().all(|due| due.due_us - due.measured_us <= 900_000));
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
fn nothing_is_due_before_its_time() {
    let mut schedule = schedule(1, Arrivals::Periodic { jitter: 0.2 });
    for tick in 0..200 {
        for due in all_until(&mut schedule, tick * 5_000) {
            assert!(due.due_us <= tick * 5_000);
        }
    }
}

#[test]
fn a_timeline_moves_events_and_changes_nothing_else() {
    let ramp = Curve::new([crate::curve::Stretch { length_us: 4 * SECOND_US, from: 0.0, to: 40.0 }], 0.0);
    let rates = vec![(0, ramp), (40, Curve::constant(0.0)), (45, Curve::constant(20.0))];
    for arrivals in [Arrivals::Periodic { jitter: 0.3 }, Arrivals::Poisson] {
        let mut along = Schedule::along(Seed(7), &[rhythm(arrivals)], rates.clone(), 0..50);
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
        let ramped =
            |until_us| events.iter().filter(|due| due.device < 40 && due.due_us < until_us).count() as f64;
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
            &mut Schedule::along(Seed(5), &[rhythm(arrivals)], vec![(0, Curve::constant(20.0))], of(rest)),
            SECOND_US,
        ));
    }
    parts.sort_by_key(|due| (due.due_us, due.device));
    assert_eq!(parts, whole);
}
