//! Who receives what is stored: while there is more to do than time for it, passing on gets a part of the time and taking in the rest.

use super::super::{Class, DeliveryLag, Level, Progress};
use super::{Model, Profile, TICK_MS};
use gateway_protocol::QoS;

const SEED: u64 = 0x5eed_0003;
/// Events that can be stored or passed on in a second.
const CAPACITY: f64 = 8_000.0;
const CLIENTS: usize = 200;
/// Of the time, what passing on gets while events wait to be stored.
pub(super) const DELIVERY_PART: f64 = 0.4;

/// What receivers have unacknowledged at most, by the time they take for it.
const WINDOW_SECS: f64 = 0.1;

/// Those who receive, as one.
#[derive(Default)]
pub(in super::super) struct Receivers {
    /// Events a second that they take at most.
    takes: f64,
    /// Of which so many may be passed on at once.
    may: f64,
    pub(super) came: u64,
    done: u64,
    /// They could have had more than they got.
    is_starved: bool,
    lag: DeliveryLag,
    is_looked_at: bool,
}

impl Receivers {
    fn waiting(&self) -> u64 {
        self.came - self.done
    }
}

impl Model {
    /// Passes on what receivers take, for as much work at most.
    pub(super) fn pass_on(&mut self, work: f64) {
        let Some(receivers) = &mut self.receivers else { return };
        let events = work.min(receivers.may).min(receivers.waiting() as f64).max(0.0).floor();
        receivers.may -= events;
        receivers.done += events as u64;
        self.overdrawn += events;
    }

    /// Time passes for receivers.
    pub(super) fn receive(&mut self) {
        let Some(receivers) = &mut self.receivers else { return };
        let window = receivers.takes * WINDOW_SECS;
        receivers.may = (receivers.may + receivers.takes * TICK_MS as f64 / 1000.0).min(window);
        receivers.is_starved |= receivers.may > 0.75 * window && receivers.waiting() > 0;
    }

    pub(super) fn lag_growth(&mut self) -> f64 {
        let (now_ms, is_slowed) = (self.now_ms, self.pressure.level() >= Level::Throttle);
        let Some(receivers) = &mut self.receivers else { return 0.0 };
        if !is_slowed || !receivers.is_looked_at {
            receivers.lag = DeliveryLag::default();
            return 0.0;
        }
        let Receivers { came, done, is_starved, lag, .. } = receivers;
        lag.growth(now_ms, || {
            let is_starved = std::mem::take(is_starved);
            std::iter::once(Progress { id: 1, came: *came, done: *done, is_starved })
        })
    }
}

/// Ten times what the gateway can store and pass on, for a minute; what waits for the receivers then, and how much a second was stored.
fn overload(takes: f64, is_looked_at: bool) -> (u64, f64) {
    let rate = CAPACITY / 2.0 / CLIENTS as f64;
    let profile = |at: usize| {
        let qos = if at.is_multiple_of(2) { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        Profile { class: Class::Normal, qos, rate, window: 100 }
    };
    let profiles: Vec<_> = (0..CLIENTS).map(profile).collect();
    let mut model = Model::new(CAPACITY, 0.4, &profiles, SEED);
    model.receivers = Some(Receivers { takes, is_looked_at, ..Receivers::default() });
    model.run(5_000, 0.5);
    let before = model.stored;
    model.run(60_000, 10.0);
    let waiting = model.receivers.as_ref().map_or(0, Receivers::waiting);
    let stored = (model.stored - before) as f64 / 60.0;
    println!("takes {takes:.0}, looked at: {is_looked_at}: {waiting} wait, {stored:.0} stored a second");
    model.books_balance();
    (waiting, stored)
}

#[test]
fn no_more_is_taken_than_can_be_passed_on() {
    let (left_alone, _) = overload(CAPACITY, false);
    assert!(left_alone > 60_000, "it waits if nobody looks at it: {left_alone}");
    let (waiting, stored) = overload(CAPACITY, true);
    assert!(waiting < 15_000, "{waiting}");
    assert!(stored > 0.9 * CAPACITY / 2.0, "{stored}");
}

#[test]
fn receivers_that_are_slow_by_themselves_cost_publishers_nothing() {
    for part in [20.0, 4.0, 3.0] {
        let (_, unseen) = overload(CAPACITY / part, false);
        let (_, stored) = overload(CAPACITY / part, true);
        assert!(stored > 0.97 * unseen, "a {part}th: {stored} of {unseen}");
    }
}
