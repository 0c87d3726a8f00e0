//! Twice, five and ten times what the gateway can take: what is given up, what is not, and how soon it is over.

use super::super::{Class, Faults, Level};
use super::{DECODING, Model, Profile};
use gateway_protocol::QoS;

const SEED: u64 = 0x5eed_0002;
const CAPACITY: f64 = 4_000.0;
const CLIENTS: usize = 200;
/// How much waits for the log at most, in seconds: on a disk that keeps up, and on a slow one.
const QUEUES: [f64; 2] = [0.4, 1.0];
/// Of what there is to be had, the part that the gateway stores at least.
const GOODPUT: f64 = 0.97;

/// A fleet that brings, all together, what the gateway can take: a twentieth of it critical, the rest of every class and QoS.
fn fleet() -> Vec<Profile> {
    let rate = CAPACITY / CLIENTS as f64;
    let profile = |at: usize| match at % 20 {
        0 => Profile { class: Class::Critical, qos: QoS::AtLeastOnce, rate, window: 20 },
        1..=5 => Profile { class: Class::Bulk, qos: QoS::AtMostOnce, rate, window: 20 },
        6..=9 => Profile { class: Class::Normal, qos: QoS::AtMostOnce, rate, window: 20 },
        10..=12 => Profile { class: Class::Bulk, qos: QoS::AtLeastOnce, rate, window: 20 },
        _ => Profile { class: Class::Normal, qos: QoS::ExactlyOnce, rate, window: 20 },
    };
    (0..CLIENTS).map(profile).collect()
}

fn overload(times: f64) {
    for queue_secs in QUEUES {
        overload_with(times, queue_secs);
    }
}

fn overload_with(times: f64, queue_secs: f64) {
    let mut model = Model::new(CAPACITY, queue_secs, &fleet(), SEED);
    model.run(5_000, 0.8);
    assert_eq!(model.levels.len(), 1, "nothing is given up below what can be taken: {:?}", model.levels);
    assert_eq!(model.sum(|client| Some(client.fate.shed + client.fate.late)), 0);

    let shed = |model: &Model| model.sum(|client| Some(client.fate.shed));
    let before = (model.stored, shed(&model));
    model.run(60_000, times);
    let per_second = (model.stored - before.0) as f64 / 60.0;
    let shed_per_second = (shed(&model) - before.1) as f64 / 60.0;
    // Whoever sends at QoS 0 cannot be told to wait, and is received before it is known what it sends. That much work is gone, and no
    // controller brings it back; all the rest is to be had.
    let to_be_had = CAPACITY - shed_per_second * DECODING / (1.0 + DECODING);
    println!("{times} x, {queue_secs} s: {per_second:.0} of {to_be_had:.0} of {CAPACITY} events/s");
    assert!(
        per_second >= GOODPUT * to_be_had,
        "{times} x, {queue_secs} s: {per_second} of {to_be_had} events/s; {:?}",
        model.levels
    );

    let ended_ms = model.now_ms;
    // Who has more to send than the gateway took does not send it all at once afterwards.
    for client in &mut model.clients {
        client.due = 0.0;
    }
    model.run(30_000, 0.5);
    let back = model.levels.last().map(|(at, level)| (*level, at.saturating_sub(ended_ms)));
    assert_eq!(model.pressure.level(), Level::Normal, "{times} x: {:?}", model.levels);
    assert!(back.is_some_and(|(_, after_ms)| after_ms <= 30_000), "{back:?}");
    model.books_balance();
    for client in model.clients.iter().filter(|client| client.profile.class == Class::Critical) {
        assert!(client.is_connected);
        assert_eq!((client.fate.shed, client.fate.late), (0, 0));
        assert!(client.fate.received - client.fate.acknowledged <= 1, "{:?}", client.fate);
    }
    // Nothing acknowledged is missing, and nobody is silenced.
    assert!(model.clients.iter().all(|client| client.fate.acknowledged <= client.fate.stored));
    let least = model.clients.iter().filter(|client| client.profile.qos != QoS::AtMostOnce);
    assert!(least.map(|client| client.fate.stored).min() > Some(100));
}

#[test]
fn twice_what_it_can_take() {
    overload(2.0);
}

#[test]
fn five_times_what_it_can_take() {
    overload(5.0);
}

#[test]
fn ten_times_what_it_can_take() {
    overload(10.0);
}

#[test]
fn a_disk_that_fills_up_leads_up_the_ladder_step_by_step_and_nothing_acknowledged_is_lost() {
    let mut model = Model::new(CAPACITY, 0.4, &fleet(), SEED);
    model.disk = 0.5;
    while model.disk < 1.0 {
        model.run(100, 0.8);
        // Two hundredths each second.
        model.disk += 0.002;
    }
    model.faults = Faults { disk_full: true, ..Faults::default() };
    model.run(10_000, 0.8);
    let levels: Vec<_> = model.levels.iter().map(|(_, level)| *level).collect();
    assert_eq!(levels, Level::ALL);
    let before = model.sum(|client| Some(client.fate.acknowledged));
    model.run(10_000, 0.8);
    let critical = |client: &super::Client| {
        (client.profile.class == Class::Critical).then_some(client.fate.acknowledged)
    };
    assert_eq!(model.sum(|client| Some(client.fate.acknowledged)), before, "nothing is acknowledged");

    // Its consumers come back and drain it.
    model.faults = Faults::default();
    model.disk = 0.3;
    let acknowledged = model.sum(critical);
    model.run(60_000, 0.8);
    assert_eq!(model.pressure.level(), Level::Normal);
    assert!(model.sum(critical) > acknowledged);
    model.books_balance();
    // What was held back comes at once, and may be too much again; but down it goes one step at a time.
    let after = model.levels.windows(2).skip(levels.len() - 1).map(|pair| (pair[0].1, pair[1].1));
    assert!(after.into_iter().all(|(from, to)| to > from || to == from.below()), "{:?}", model.levels);
    assert!(model.clients.iter().all(|client| client.fate.acknowledged <= client.fate.stored));
}

#[test]
fn a_log_that_fails_for_a_while_costs_no_acknowledged_event() {
    let mut model = Model::new(CAPACITY, 0.4, &fleet(), SEED);
    model.run(5_000, 0.8);
    model.faults = Faults { log_failed: true, ..Faults::default() };
    model.run(3_000, 0.8);
    assert_eq!(model.pressure.level(), Level::ReadOnly);
    model.faults = Faults::default();
    model.run(40_000, 0.8);
    assert_eq!(model.pressure.level(), Level::Normal, "{:?}", model.levels);
    model.books_balance();
    assert_eq!(model.sum(|client| (client.profile.class == Class::Critical).then_some(client.fate.shed)), 0);
}
