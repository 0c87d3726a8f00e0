//! When connections are looked at although nothing came from them: their Keep Alive.
//!
//! A timer of the runtime's own for each would take 128 bytes. Here it is a place in a wheel, 16 bytes, and what every packet of a client
//! moves is not the place but the moment that its connection compares with the clock when it is woken. A wheel turns in ticks, so whoever
//! waits is woken up to one tick late, never early; and whoever waits for longer than it takes to turn once is woken in between, and asks again.

use super::Seat;
use gateway_protocol::session::Millis;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// How exactly connections are woken, in milliseconds: [`Timers::ring`] is to be called that often.
pub const TICK_MS: u64 = 250;
/// Ticks of one turn: eight and a half minutes.
const SLOTS: u32 = 2048;
/// Before the first place and behind the last.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Timers(Mutex<Wheel>);

#[derive(Debug)]
struct Wheel {
    /// The first ones are the slots: in each begins and ends a ring of the places of its tick. The others are places of seats, or free.
    places: Vec<Place>,
    /// The first free place; each knows the next.
    free: u32,
    /// The first tick that has not been rung.
    tick: u64,
}

#[derive(Debug)]
struct Place {
    seat: Option<Arc<Seat>>,
    before: u32,
    after: u32,
}

impl Timers {
    pub(super) fn new() -> Self {
        let places = (0..SLOTS).map(|slot| Place { seat: None, before: slot, after: slot }).collect();
        Self(Mutex::new(Wheel { places, free: NONE, tick: 0 }))
    }

    /// Has the task of `seat`, which is the one that calls, woken at `at`, or earlier. It must not wait already.
    pub(super) fn set(&self, seat: &Arc<Seat>, at: Millis) {
        let mut wheel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = wheel.put(seat.clone(), at);
        seat.timer.store(place, Ordering::Release);
    }

    /// The seat waits no more.
    pub(super) fn cancel(&self, seat: &Seat) {
        if !seat.is_timed() {
            return;
        }
        let mut wheel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = seat.timer.swap(0, Ordering::AcqRel);
        if place != 0 {
            wheel.take(place);
        }
    }

    /// Wakes everybody whose time has come.
    pub(super) fn ring(&self, now: Millis) {
        let mut due = Vec::new();
        let mut wheel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = now.0 / TICK_MS;
        for tick in (wheel.tick..=last).take(SLOTS as usize) {
            let slot = slot_of(tick);
            while let Some(seat) = wheel.first_of(slot) {
                seat.timer.store(0, Ordering::Release);
                due.push(seat);
            }
        }
        wheel.tick = wheel.tick.max(last + 1);
        drop(wheel);
        for seat in due {
            seat.waker.wake_by_ref();
        }
    }
}

fn slot_of(tick: u64) -> u32 {
    u32::try_from(tick % u64::from(SLOTS)).unwrap_or(0)
}

impl Wheel {
    fn put(&mut self, seat: Arc<Seat>, at: Millis) -> u32 {
        let furthest = self.tick + u64::from(SLOTS) - 1;
        let slot = slot_of(at.0.div_ceil(TICK_MS).clamp(self.tick, furthest));
        let after = self.at(slot).map_or(slot, |slot| slot.after);
        let place = Place { seat: Some(seat), before: slot, after };
        let number = match self.at(self.free) {
            Some(free) => {
                let next = free.after;
                *free = place;
                std::mem::replace(&mut self.free, next)
            }
            None => {
                self.places.push(place);
                u32::try_from(self.places.len() - 1).unwrap_or(NONE)
            }
        };
        self.join(slot, number);
        self.join(number, after);
        number
    }

    fn take(&mut self, number: u32) -> Option<Arc<Seat>> {
        let free = self.free;
        let place = self.at(number)?;
        let seat = place.seat.take()?;
        let (before, after) = (place.before, place.after);
        place.after = free;
        self.free = number;
        self.join(before, after);
        Some(seat)
    }

    fn first_of(&mut self, slot: u32) -> Option<Arc<Seat>> {
        let first = self.at(slot)?.after;
        self.take(first)
    }

    fn join(&mut self, before: u32, after: u32) {
        if let Some(place) = self.at(before) {
            place.after = after;
        }
        if let Some(place) = self.at(after) {
            place.before = before;
        }
    }

    fn at(&mut self, number: u32) -> Option<&mut Place> {
        self.places.get_mut(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::task::Waker;

    #[test]
    fn nobody_is_woken_early_or_more_than_a_tick_late_and_who_has_left_is_not() {
        let timers = Timers::new();
        let turn_ms = u64::from(SLOTS) * TICK_MS;
        // Whose time comes when, by a generator of which the seed is 1; a third of them leave before.
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut waiting = BTreeMap::new();
        let mut now = 0;
        for number in 0..4_000 {
            now += random(600);
            timers.ring(Millis(now));
            waiting.retain(|_, (seat, at): &mut (Arc<Seat>, u64)| {
                let is_late = now >= at.div_ceil(TICK_MS) * TICK_MS;
                assert_eq!(seat.is_timed(), !is_late, "{at} at {now}");
                !is_late
            });
            let seat = Seat::of(&number.to_string(), Waker::noop().clone());
            let at = now + random(turn_ms - TICK_MS);
            timers.set(&seat, Millis(at));
            if at.div_ceil(TICK_MS) > now / TICK_MS {
                waiting.insert(number, (seat, at));
            }
            if number % 3 == 0 {
                let leaves = random(number + 1);
                if let Some((seat, _)) = waiting.remove(&leaves) {
                    timers.cancel(&seat);
                    assert_eq!(Arc::strong_count(&seat), 1, "nothing of it is left");
                }
            }
        }
        let places = timers.0.lock().unwrap().places.len();
        assert!(places < SLOTS as usize + 2_500, "places are used again: {places}");
        timers.ring(Millis(now + turn_ms));
        assert!(waiting.values().all(|(seat, _)| !seat.is_timed()));
    }

    #[test]
    fn who_waits_for_longer_than_a_turn_is_woken_in_between() {
        let timers = Timers::new();
        let seat = Seat::of("a", Waker::noop().clone());
        timers.set(&seat, Millis(100_000_000));
        timers.ring(Millis(u64::from(SLOTS - 2) * TICK_MS));
        assert!(seat.is_timed());
        timers.ring(Millis(u64::from(SLOTS - 1) * TICK_MS));
        assert!(!seat.is_timed(), "it asks again");
        timers.set(&seat, Millis(100_000_000));
        timers.ring(Millis(u64::MAX));
        assert!(!seat.is_timed(), "however far the clock has gone");
    }
}
