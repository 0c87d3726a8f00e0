//! When to try again: backoff between attempts, and the point from which a sink counts as down.
//!
//! Pure: time is an argument.

use super::target::Outage;
use std::time::Duration;

/// Failures in a row after which the breaker is open: from then on one event alone is tried before a whole batch is.
const FAILURES_UNTIL_OPEN: u32 = 3;
/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause that is not asked for by the target.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause that a target may ask for.
const ASKED_MAX: Duration = Duration::from_secs(300);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
}

impl Breaker {
    /// A batch was written.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// An attempt failed. How long to wait before the next one; `jitter` is from 0 to 1 and takes up to a quarter off, so that many
    /// gateways do not come back in the same instant.
    pub(super) fn failed(&mut self, outage: &Outage, jitter: f64) -> Duration {
        let doubled = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        let own = doubled.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0));
        own.max(outage.retry_after.unwrap_or_default().min(ASKED_MAX))
    }

    /// Whether to try with one event first.
    pub(super) const fn is_open(&self) -> bool {
        self.failures >= FAILURES_UNTIL_OPEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::target::OutageKind;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_a_success() {
        let outage = Outage::new(OutageKind::Server, "500");
        let mut breaker = Breaker::default();
        let pauses: Vec<u128> = (0..10).map(|_| breaker.failed(&outage, 0.0).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert!(breaker.is_open());
        breaker.succeeded();
        assert!(!breaker.is_open());
        assert_eq!(breaker.failed(&outage, 1.0), Duration::from_millis(150));
    }

    #[test]
    fn a_target_may_ask_for_a_longer_pause_but_not_for_any() {
        let mut outage = Outage::new(OutageKind::Busy, "429");
        outage.retry_after = Some(Duration::from_secs(7));
        assert_eq!(Breaker::default().failed(&outage, 0.0), Duration::from_secs(7));
        outage.retry_after = Some(Duration::from_secs(86_400));
        assert_eq!(Breaker::default().failed(&outage, 0.0), ASKED_MAX);
    }

    #[test]
    fn the_breaker_opens_at_the_third_failure_in_a_row() {
        let outage = Outage::new(OutageKind::Connection, "refused");
        let mut breaker = Breaker::default();
        for failures in 1..=4 {
            breaker.failed(&outage, 0.5);
            assert_eq!(breaker.is_open(), failures >= 3);
        }
    }
}
