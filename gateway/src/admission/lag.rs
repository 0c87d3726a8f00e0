//! Whether delivery keeps up with what is taken.
//!
//! Where time is short, taking an event costs less than passing it on, and nothing that is measured of a thread or a disk tells that the difference
//! grows: it waits in the backlogs of durable sessions, until these may hold no more and what was acknowledged is lost to them. So it is looked at
//! how much comes for the sessions that are connected and how much they are done with. One that is slow by itself costs itself, and is not counted: it
//! has a full window all the time, or takes less than a quarter of what comes for it. What is counted waits for the gateway.

use std::collections::HashMap;

/// Between two looks.
const EVERY_MS: u64 = 500;
/// What is told is of about as long.
const SMOOTHED_MS: f64 = 2_000.0;
/// Who falls behind by less keeps up.
const GROWTH_MIN: f64 = 0.02;
/// Who takes less than that part of what comes is slow by itself.
const SLOW_PART: u64 = 4;

/// How far one session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which session it is.
    pub id: u64,
    /// Messages that have come for it, ever, also those that there was no room for.
    pub came: u64,
    /// How many of them it is done with.
    pub done: u64,
    /// Since the last look there was a time when its client had acknowledged most of what it may have at once, and there was more for it.
    pub is_starved: bool,
}

/// How the lag of delivery grows. What is remembered is of those sessions that were connected at the last look.
#[derive(Debug, Default)]
pub struct DeliveryLag {
    looked_ms: Option<u64>,
    /// By session: where it was when it was first seen, and last.
    seen: HashMap<u64, (Progress, Progress)>,
    /// Messages a second that came for those that are counted, and how many more these are than those they were done with; both smoothed.
    came: f64,
    growth: f64,
}

impl DeliveryLag {
    /// Of what comes for sessions that wait for the gateway, the part by which their lag grows, 0 to 1. `sessions` are those that are connected; it
    /// is asked for twice a second.
    pub fn growth<I>(&mut self, now_ms: u64, sessions: impl FnOnce() -> I) -> f64
    where
        I: Iterator<Item = Progress>,
    {
        let elapsed_ms = self.looked_ms.map_or(u64::MAX, |at| now_ms.saturating_sub(at));
        if elapsed_ms >= EVERY_MS {
            let before = std::mem::take(&mut self.seen);
            let (mut came, mut growth) = (0, 0.0);
            for now in sessions() {
                let (first, last) = before.get(&now.id).copied().unwrap_or((now, now));
                self.seen.insert(now.id, (first, now));
                let [came_of_all, done_of_all] = since(first, now);
                if now.is_starved && done_of_all.saturating_mul(SLOW_PART) >= came_of_all {
                    let [came_now, done_now] = since(last, now);
                    came += came_now;
                    growth += came_now as f64 - done_now as f64;
                }
            }
            // The first look has nothing to compare with.
            if self.looked_ms.replace(now_ms).is_some() {
                let secs = elapsed_ms as f64 / 1000.0;
                let weight = (elapsed_ms as f64 / SMOOTHED_MS).min(1.0);
                self.came += (came as f64 / secs - self.came) * weight;
                self.growth += (growth / secs - self.growth) * weight;
            }
        }
        let part = (self.growth / self.came.max(1.0)).clamp(0.0, 1.0);
        if part < GROWTH_MIN { 0.0 } else { part }
    }
}

/// What came, and what was done with, between the two.
fn since(before: Progress, now: Progress) -> [u64; 2] {
    [now.came.saturating_sub(before.came), now.done.saturating_sub(before.done)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes for each of some sessions in half a second, what it is done with, and whether it waited for us; what is told after so many
    /// halves.
    fn told(halves: u64, sessions: &[(u64, u64, bool)]) -> f64 {
        let mut lag = DeliveryLag::default();
        let at = |half: u64| {
            let progress = move |(id, (came, done, is_starved)): (usize, &(u64, u64, bool))| Progress {
                id: id as u64,
                came: 1_000_000 + half * came,
                done: 500_000 + half * done,
                is_starved: *is_starved,
            };
            sessions.iter().enumerate().map(progress)
        };
        (0..halves).map(|half| lag.growth(half * EVERY_MS, || at(half))).last().unwrap_or_default()
    }

    #[test]
    fn who_keeps_up_is_not_behind_however_much_waits() {
        assert_eq!(told(20, &[(1_000, 1_000, true)]), 0.0);
        assert_eq!(told(20, &[(1_000, 5_000, true)]), 0.0, "it catches up");
        assert_eq!(told(20, &[]), 0.0);
        assert_eq!(told(20, &[(0, 0, true)]), 0.0);
    }

    #[test]
    fn who_falls_behind_is_told_of_by_the_part() {
        assert!((told(20, &[(1_000, 700, true)]) - 0.3).abs() < 1e-6);
        assert!((told(20, &[(1_000, 700, true), (1_000, 1_000, true)]) - 0.15).abs() < 1e-6);
        assert_eq!(told(1, &[(1_000, 700, true)]), 0.0, "one look tells nothing");
        assert_eq!(told(20, &[(1_000, 990, true)]), 0.0, "that is nothing");
    }

    #[test]
    fn who_is_slow_by_itself_costs_itself() {
        assert_eq!(told(20, &[(1_000, 700, false)]), 0.0, "its window is full");
        assert_eq!(told(20, &[(1_000, 200, true)]), 0.0);
        assert_eq!(told(20, &[(1_000, 0, false), (1_000, 1_000, true)]), 0.0);
    }

    #[test]
    fn sessions_are_looked_at_twice_a_second_and_those_that_left_are_forgotten() {
        let mut lag = DeliveryLag::default();
        let mut looks = 0;
        for now_ms in (0..2_000).step_by(100) {
            lag.growth(now_ms, || {
                looks += 1;
                let progress = Progress { id: now_ms, came: now_ms, done: 0, is_starved: true };
                std::iter::once(progress)
            });
        }
        assert_eq!((looks, lag.seen.len()), (4, 1));
    }
}
