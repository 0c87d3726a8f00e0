//! How long to wait before connecting again: exponential, with full jitter, so that a fleet does not come back as one.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use crate::random::unit;

const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(5);
const DOUBLINGS_MAX: u32 = 16;

/// The pauses of one client.
pub(crate) struct Backoff {
    rng: ChaCha8Rng,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(rng: ChaCha8Rng) -> Self {
        Backoff { rng, failures: 0 }
    }

    /// The pause after one more failure: between nothing and a bound that doubles up to [`MOST`].
    pub(crate) fn next_pause(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(unit(&mut self.rng))
    }

    /// The connection is up.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Seed};

    #[test]
    fn pauses_grow_to_a_bound_and_differ_between_clients() {
        let mut one = Backoff::new(Seed(1).stream(Purpose::Backoff, 1));
        let mut other = Backoff::new(Seed(1).stream(Purpose::Backoff, 2));
        assert!(one.next_pause() <= FIRST);
        assert_ne!(one.next_pause(), other.next_pause());
        let late: Vec<Duration> = (0..1_000).map(|_| one.next_pause()).collect();
        assert!(late.iter().all(|pause| *pause <= MOST));
        assert!(late.iter().skip(10).any(|pause| *pause > MOST / 2));
        one.reset();
        assert!(one.next_pause() <= FIRST);
    }
}
