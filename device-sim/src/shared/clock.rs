//! The run's clock: microseconds since publishing began.

use std::time::{Duration, Instant};

use tokio::sync::SetOnce;
use tokio::time::sleep;

/// Zero until it is started.
#[derive(Debug, Default)]
pub struct RunClock(SetOnce<Instant>);

impl RunClock {
    /// Starts it; once.
    pub(crate) fn start(&self) {
        let _ = self.0.set(Instant::now());
    }

    /// Starts it at a moment that may be still to come; once.
    pub(crate) fn start_at(&self, at: Instant) {
        let _ = self.0.set(at);
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        self.0.get().map_or(0, |start| start.elapsed().as_micros() as u64)
    }

    /// Returns when so many microseconds have passed since the start.
    pub(crate) async fn wait_until(&self, us: u64) {
        let start = *self.0.wait().await;
        sleep((start + Duration::from_micros(us)).saturating_duration_since(Instant::now())).await;
    }
}
