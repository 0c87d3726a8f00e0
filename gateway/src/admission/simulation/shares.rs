//! One hog among a thousand: who is slowed, how soon, and who is not.

use super::super::{Class, Level};
use super::{Model, Profile};
use gateway_protocol::QoS;

const SEED: u64 = 0x5eed_0001;
const NORMAL: usize = 999;
const RATE: f64 = 10.0;

/// 999 devices that bring `RATE` each, and one that brings a hundred times as much; the gateway can take what the devices bring and some.
fn with_hog(qos: QoS, hog: QoS) -> Model {
    let normal = Profile { class: Class::Normal, qos, rate: RATE, window: 20 };
    let mut profiles = vec![normal; NORMAL];
    profiles.push(Profile { class: Class::Normal, qos: hog, rate: 100.0 * RATE, window: 256 });
    Model::new(1.05 * RATE * NORMAL as f64, 1.0, &profiles, SEED)
}

fn hog_is_slowed_and_nobody_else(qos: QoS, hog: QoS) {
    let mut model = with_hog(qos, hog);
    while model.pressure.level() < Level::Throttle {
        model.run(100, 1.0);
        assert!(model.now_ms < 60_000, "the hog is more than there is room for");
    }
    let taken = |model: &Model| model.clients[NORMAL].fate.taken;
    model.run(1_000, 1.0);
    let before = taken(&model);
    model.run(1_000, 1.0);
    let per_second = (taken(&model) - before) as f64;
    assert!(per_second <= 10.0 * RATE, "{hog:?}: {per_second} events/s after a second, of {}", 100.0 * RATE);

    model.run(30_000, 1.0);
    let untouched = |model: &Model| {
        model.clients.iter().take(NORMAL).all(|client| client.fate.shed == 0 && client.fate.late == 0)
    };
    assert!(untouched(&model), "a device that brings its part is never over its share");
    assert!(model.levels.iter().all(|(_, level)| *level <= Level::Shed), "{:?}", model.levels);
    model.books_balance();
    let stored = model.sum(|client| (client.profile.rate == RATE).then_some(client.fate.stored));
    let due = RATE * NORMAL as f64 * model.now_ms as f64 / 1000.0;
    assert!(stored as f64 > 0.97 * due, "{stored} of {due}");

    // When the hog is gone so is the pressure.
    model.clients[NORMAL].is_connected = false;
    model.run(30_000, 1.0);
    assert_eq!(model.pressure.level(), Level::Normal);
    assert!(untouched(&model));
}

#[test]
fn a_hog_at_qos_1_waits_for_its_acknowledgements_and_nobody_else_does() {
    hog_is_slowed_and_nobody_else(QoS::AtLeastOnce, QoS::AtLeastOnce);
}

#[test]
fn a_hog_at_qos_0_is_shed_and_left_unread_and_nobody_else_is() {
    hog_is_slowed_and_nobody_else(QoS::AtMostOnce, QoS::AtMostOnce);
    hog_is_slowed_and_nobody_else(QoS::AtLeastOnce, QoS::AtMostOnce);
}

#[test]
fn devices_that_speak_seldom_and_in_bundles_are_not_over_their_share() {
    // Each has thirty readings every ten seconds or so, and the hog never stops.
    let mut model = with_hog(QoS::AtLeastOnce, QoS::AtLeastOnce);
    for (at, client) in model.clients.iter_mut().take(NORMAL).enumerate() {
        client.profile.rate = if at % 10 == 0 { 30.0 * RATE } else { 0.0 };
    }
    for turn in 0..30_usize {
        for (at, client) in model.clients.iter_mut().take(NORMAL).enumerate() {
            client.profile.rate = if at % 60 == turn { 30.0 / 0.1 } else { 0.0 };
        }
        model.run(100, 1.0);
        for client in model.clients.iter_mut().take(NORMAL) {
            client.profile.rate = 0.0;
        }
        model.run(900, 1.0);
    }
    assert!(model.clients.iter().take(NORMAL).all(|client| client.fate.late == 0));
}

#[test]
fn without_pressure_a_hog_may_bring_what_it_likes() {
    let mut model = with_hog(QoS::AtLeastOnce, QoS::AtMostOnce);
    model.run(20_000, 0.8);
    assert_eq!(model.levels.len(), 1, "{:?}", model.levels);
    let fate = model.clients[NORMAL].fate;
    assert_eq!(fate.shed, 0);
    assert!(fate.taken as f64 > 0.97 * 0.8 * 20.0 * 100.0 * RATE, "{fate:?}");
}
