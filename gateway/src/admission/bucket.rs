//! A token bucket: a rate, and how much of it may come at once.

/// What sums of fractions may be off by; far less than a unit.
const ROUNDING: f64 = 1e-6;

/// A rate in units a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Units a second, above 0.
    pub per_second: f64,
    /// Units at once, at least 1.
    pub burst: f64,
}

impl Rate {
    /// A rate whose burst is what comes in one second; `None` where `per_second` is 0, which means no limit.
    #[must_use]
    pub fn per_second(per_second: u64) -> Option<Self> {
        let per_second = per_second as f64;
        (per_second > 0.0).then_some(Self { per_second, burst: per_second.max(1.0) })
    }
}

/// What is left of a [`Rate`]. Full at first. Time may stand still or go back, which fills nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Below zero: what was taken on credit.
    tokens: f64,
    filled_ms: u64,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub const fn full(rate: Rate, now_ms: u64) -> Self {
        Self { tokens: rate.burst, filled_ms: now_ms }
    }

    /// Takes `units` if they are there; otherwise takes nothing and says in how many milliseconds they will be. More than a burst is
    /// there as soon as the bucket is full, and leaves a debt.
    ///
    /// # Errors
    /// The milliseconds to wait.
    pub fn take(&mut self, rate: Rate, now_ms: u64, units: f64) -> Result<(), u64> {
        self.fill(rate, now_ms);
        let missing = units.min(rate.burst) - self.tokens;
        if missing > ROUNDING {
            return Err(wait_ms(missing, rate));
        }
        self.tokens -= units;
        Ok(())
    }

    /// Takes `units` whether or not they are there. In how many milliseconds the debt is paid; 0: there is none. A debt is at most what
    /// comes in `debt_secs_max`, so that whoever is far over its rate is held to it from now on rather than for what it did before.
    pub fn owe(&mut self, rate: Rate, now_ms: u64, units: f64, debt_secs_max: f64) -> u64 {
        self.fill(rate, now_ms);
        self.tokens = (self.tokens - units).max(-rate.per_second * debt_secs_max);
        if self.tokens >= 0.0 { 0 } else { wait_ms(-self.tokens, rate) }
    }

    /// What is there.
    #[must_use]
    pub fn tokens(&mut self, rate: Rate, now_ms: u64) -> f64 {
        self.fill(rate, now_ms);
        self.tokens
    }

    fn fill(&mut self, rate: Rate, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.filled_ms);
        self.tokens = (self.tokens + elapsed_ms as f64 * rate.per_second / 1000.0).min(rate.burst);
        self.filled_ms = now_ms.max(self.filled_ms);
    }
}

/// Whole milliseconds until so many units have come, one at least.
fn wait_ms(units: f64, rate: Rate) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is not negative"
    )]
    let ms = ((units - ROUNDING) * 1000.0 / rate.per_second).ceil() as u64;
    ms.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEN: Rate = Rate { per_second: 10.0, burst: 5.0 };

    #[test]
    fn a_burst_is_taken_at_once_and_then_the_rate() {
        let mut bucket = Bucket::full(TEN, 1_000);
        for _ in 0..5 {
            assert_eq!(bucket.take(TEN, 1_000, 1.0), Ok(()));
        }
        assert_eq!(bucket.take(TEN, 1_000, 1.0), Err(100));
        assert_eq!(bucket.take(TEN, 1_099, 1.0), Err(1));
        assert_eq!(bucket.take(TEN, 1_100, 1.0), Ok(()));
        assert_eq!(bucket.take(TEN, 1_100, 1.0), Err(100));
        // Rest fills it to the burst and no further.
        assert_eq!(bucket.tokens(TEN, 3_600_000), 5.0);
    }

    #[test]
    fn what_is_larger_than_the_burst_passes_when_it_is_full_and_leaves_a_debt() {
        let mut bucket = Bucket::full(TEN, 0);
        assert_eq!(bucket.take(TEN, 0, 20.0), Ok(()));
        assert_eq!(bucket.tokens(TEN, 0), -15.0);
        assert_eq!(bucket.take(TEN, 0, 20.0), Err(2_000));
        assert_eq!(bucket.take(TEN, 2_000, 20.0), Ok(()));
    }

    #[test]
    fn a_debt_has_a_bound() {
        let mut bucket = Bucket::full(TEN, 0);
        assert_eq!(bucket.owe(TEN, 0, 5.0, 10.0), 0);
        assert_eq!(bucket.owe(TEN, 0, 5.0, 10.0), 500);
        assert_eq!(bucket.owe(TEN, 0, 1e12, 10.0), 10_000);
        assert_eq!(bucket.tokens(TEN, 10_000), 0.0);
    }

    #[test]
    fn a_clock_that_goes_back_fills_nothing() {
        let mut bucket = Bucket::full(TEN, 10_000);
        assert_eq!(bucket.take(TEN, 10_000, 5.0), Ok(()));
        assert_eq!(bucket.take(TEN, 5_000, 1.0), Err(100));
        assert_eq!(bucket.take(TEN, 10_000, 1.0), Err(100));
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Rate::per_second(0), None);
        assert_eq!(Rate::per_second(7), Some(Rate { per_second: 7.0, burst: 7.0 }));
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_what_came_since(
            steps in prop::collection::vec((0_u64..400, 1_u32..8), 1..200),
            per_second in 1_u32..1000,
            burst in 1_u32..50,
        ) {
            let rate = Rate { per_second: per_second.into(), burst: burst.into() };
            let mut bucket = Bucket::full(rate, 0);
            let (mut now, mut taken, mut largest) = (0, 0.0, 0.0_f64);
            for (pause, units) in steps {
                now += pause;
                let units = f64::from(units);
                match bucket.take(rate, now, units) {
                    Ok(()) => {
                        taken += units;
                        largest = largest.max(units);
                    }
                    Err(wait) => {
                        prop_assert!(wait >= 1);
                        // What was promised holds if nothing else is taken.
                        let mut patient = bucket;
                        prop_assert_eq!(patient.take(rate, now + wait, units), Ok(()));
                    }
                }
                let came = rate.burst + now as f64 * rate.per_second / 1000.0;
                prop_assert!(taken <= came + largest + 1e-2, "{} of {}", taken, came);
            }
        }
    }
}
