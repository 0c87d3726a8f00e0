//! The run's clock: microseconds since publishing began.

use std::sync::OnceLock;
use std::time::Instant;

/// Zero until it is started.
#[derive(Debug, Default)]
pub struct RunClock(OnceLock<Instant>);

impl RunClock {
    /// Starts it; once.
    pub(super) fn start(&self) {
        self.0.get_or_init(Instant::now);
    }

    /// Starts it at a moment that may be still to come; once.
    pub(crate) fn start_at(&self, at: Instant) {
        self.0.get_or_init(|| at);
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        self.0.get().map_or(0, |start| start.elapsed().as_micros() as u64)
    }
}
