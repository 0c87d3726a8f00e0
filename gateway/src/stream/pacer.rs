//! When an event of a replay is due.
//!
//! A [`Schedule`] says how long one has to wait, and knows no clock; a [`Pacer`] is one with a timer. Waiting is coarse on purpose: what is due
//! within a few milliseconds goes together, so that a fast replay is not a timer for each event.

use crate::clock;
use crate::config::Pace;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// What is due within so many milliseconds goes together.
const GRAIN_MS: u64 = 20;
/// A reader that is later than this goes on at its pace from where it is, and does not run after what it has missed.
const LATE_MS: u64 = 1000;
/// One token is one event, in thousandths.
const TOKEN: u64 = 1000;

/// A reader's schedule and the timer it waits by.
pub(super) struct Pacer {
    schedule: Schedule,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pacer {
    /// `None`: there is nothing to wait for.
    pub(super) fn new(pace: Pace) -> Option<Self> {
        Some(Self { schedule: Schedule::new(pace, clock::monotonic().0)?, timer: None })
    }

    /// Ready when the event stored at `stored_ms` is due; otherwise the task is woken then. The wait in milliseconds goes along.
    pub(super) fn poll_due(&mut self, stored_ms: u64, cx: &mut Context<'_>) -> Result<(), u64> {
        loop {
            let wait_ms = self.schedule.wait_ms(clock::monotonic().0, stored_ms);
            if wait_ms == 0 {
                return Ok(());
            }
            let at = Instant::now() + Duration::from_millis(wait_ms);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            timer.as_mut().reset(at);
            match timer.as_mut().poll(cx) {
                Poll::Pending => return Err(wait_ms),
                Poll::Ready(()) => {}
            }
        }
    }

    /// The event that was due is taken.
    pub(super) const fn taken(&mut self) {
        self.schedule.taken();
    }
}

/// All times are in milliseconds; `now_ms` by a clock that only goes forward, `stored_ms` by the clock of the log.
enum Schedule {
    /// A bucket of tokens.
    Rate { per_second: u64, tokens: u64, at_ms: u64 },
    /// An event stored so long after another is due so long after it, by `thousandths`.
    Times { thousandths: u64, from: Option<(u64, u64)> },
}

impl Schedule {
    fn new(pace: Pace, now_ms: u64) -> Option<Self> {
        match pace {
            Pace::Full => None,
            Pace::PerSecond(rate) => {
                let per_second = u64::from(rate.max(1));
                Some(Self::Rate { per_second, tokens: grain(per_second), at_ms: now_ms })
            }
            Pace::Thousandths(thousandths) => {
                Some(Self::Times { thousandths: u64::from(thousandths.max(1)), from: None })
            }
        }
    }

    /// How long the event stored at `stored_ms`, the next one, has to wait; 0: it is due.
    fn wait_ms(&mut self, now_ms: u64, stored_ms: u64) -> u64 {
        match self {
            Self::Rate { per_second, tokens, at_ms } => {
                // What a timer that is late brings too much of is kept, up to another grain.
                let most = 2 * grain(*per_second);
                let gained = now_ms.saturating_sub(*at_ms).saturating_mul(*per_second);
                (*tokens, *at_ms) = (tokens.saturating_add(gained).min(most), now_ms);
                if *tokens >= TOKEN {
                    return 0;
                }
                (grain(*per_second) - *tokens).div_ceil(*per_second)
            }
            Self::Times { thousandths, from } => {
                let (began_ms, first_ms) = *from.get_or_insert((now_ms, stored_ms));
                let Some(after) = stored_ms.checked_sub(first_ms) else {
                    *from = Some((now_ms, stored_ms)); // The clock of the log went back.
                    return 0;
                };
                let due_ms = began_ms.saturating_add(after.saturating_mul(1000) / *thousandths);
                if now_ms >= due_ms.saturating_add(LATE_MS) {
                    *from = Some((now_ms, stored_ms));
                }
                match due_ms.saturating_sub(now_ms) {
                    0 => 0,
                    wait_ms => wait_ms.max(GRAIN_MS / 2),
                }
            }
        }
    }

    const fn taken(&mut self) {
        if let Self::Rate { tokens, .. } = self {
            *tokens = tokens.saturating_sub(TOKEN);
        }
    }
}

/// Tokens of one grain, at least one event.
const fn grain(per_second: u64) -> u64 {
    let tokens = per_second * GRAIN_MS;
    if tokens < TOKEN { TOKEN } else { tokens }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of `stored` is taken, if the reader is woken `late_ms` after its timers.
    fn taken(pace: &str, stored: impl IntoIterator<Item = u64>, late_ms: u64) -> Vec<u64> {
        let mut now = 5_000;
        let mut schedule = Schedule::new(Pace::parse(pace).unwrap(), now).unwrap();
        stored
            .into_iter()
            .map(|stored_ms| {
                loop {
                    match schedule.wait_ms(now, stored_ms) {
                        0 => break,
                        wait_ms => now += wait_ms + late_ms,
                    }
                }
                schedule.taken();
                now - 5_000
            })
            .collect()
    }

    #[test]
    fn a_rate_is_kept_whatever_the_timers_do() {
        for late_ms in [0, 3, 15] {
            for (rate, events) in
                [(1, 10), (7, 70), (49, 500), (50, 500), (1_000, 20_000), (250_000, 500_000)]
            {
                let times = taken(&format!("{rate}/s"), (0..events).map(|_| 1), late_ms);
                let expected = events * 1000 / rate;
                let last = *times.last().unwrap();
                assert!(
                    last.abs_diff(expected) <= 1_000 / rate + 40,
                    "{rate}/s, {late_ms}: {last} ms, not {expected}"
                );
                // No second has more than its share and one grain.
                for (at, time) in times.iter().enumerate() {
                    let within =
                        times.get(at..).unwrap().partition_point(|other| *other < time + 1_000) as u64;
                    assert!(within <= rate + rate / 25 + 2, "{rate}/s: {within} in the second after {time}");
                }
            }
        }
    }

    #[test]
    fn a_multiple_keeps_the_distances() {
        let stored = [100, 100, 1_100, 3_100, 63_100];
        assert_eq!(taken("10x", stored, 0), [0, 0, 100, 300, 6_300]);
        assert_eq!(taken("1x", stored, 0), [0, 0, 1_000, 3_000, 63_000]);
        assert_eq!(taken("0.5x", stored, 0), [0, 0, 2_000, 6_000, 126_000]);
        assert_eq!(taken("1000000x", stored, 0), [0; 5]);
        assert_eq!(taken("2x", [100, 104, 108, 300], 5), [0, 15, 15, 105], "what is near goes together");
    }

    #[test]
    fn a_reader_that_is_late_goes_on_at_its_pace() {
        let mut schedule = Schedule::new(Pace::parse("1x").unwrap(), 0).unwrap();
        assert_eq!(schedule.wait_ms(0, 100), 0);
        assert_eq!(schedule.wait_ms(60_000, 200), 0, "a minute late");
        assert_eq!(schedule.wait_ms(60_000, 1_200), 1_000);
        assert_eq!(schedule.wait_ms(61_500, 1_200), 0, "half a second late is made up for");
        assert_eq!(schedule.wait_ms(61_500, 2_200), 500);
        assert_eq!(schedule.wait_ms(61_500, 50), 0, "the clock of the log went back");
        assert_eq!(schedule.wait_ms(61_500, 1_050), 1_000);
    }

    #[test]
    fn at_full_speed_there_is_no_schedule() {
        assert!(Schedule::new(Pace::Full, 0).is_none());
    }
}
