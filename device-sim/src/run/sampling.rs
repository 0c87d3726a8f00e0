//! The sampler: once a second the run's series takes a sample, as long as the run lasts.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::shared::Shared;

const SECOND: Duration = Duration::from_secs(1);

/// Samples until it is dropped.
pub(super) struct Sampling(JoinHandle<()>);

/// Starts sampling.
pub(super) fn start(shared: &Arc<Shared>) -> Sampling {
    let shared = Arc::clone(shared);
    Sampling(tokio::spawn(async move {
        let mut seconds = interval(SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            seconds.tick().await;
            shared.series.sample(&shared);
        }
    }))
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.0.abort();
    }
}
