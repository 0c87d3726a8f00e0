//! How many requests that take their time there may be at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::admin::problem::{Kind, Problem};

/// Requests that wait for events. Well below the connections there may be, so that there is always one for `/healthz`.
const LONG_POLLS_MAX: usize = 128;
/// Watches and exports.
const WATCHES_MAX: usize = 16;

/// A place among the permitted; dropping it gives it back.
pub(super) type Place = OwnedSemaphorePermit;

/// The places there are.
pub(super) struct Gates {
    long_polls: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    /// True once the listener is about to end.
    stopped: watch::Receiver<bool>,
}

impl Default for Gates {
    fn default() -> Self {
        Self::new(LONG_POLLS_MAX, WATCHES_MAX)
    }
}

impl Gates {
    pub(super) fn new(long_polls: usize, watches: usize) -> Self {
        Self {
            long_polls: Arc::new(Semaphore::new(long_polls)),
            watches: Arc::new(Semaphore::new(watches)),
            stopped: watch::channel(false).1,
        }
    }

    /// As many as there may be; what is watched ends when this becomes true.
    pub(super) fn until(stopped: watch::Receiver<bool>) -> Self {
        Self { stopped, ..Self::default() }
    }

    /// Comes when what is watched is to end. Where nobody says so it never does.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn long_poll(&self) -> Result<Place, Problem> {
        enter(&self.long_polls, "requests for events wait already; ask again, or wait for less long")
    }

    /// For [`channel`](super::channel::channel).
    pub(super) fn watch(&self) -> Result<Place, Problem> {
        enter(&self.watches, "watches and exports are open already")
    }
}

fn enter(gate: &Arc<Semaphore>, what: &str) -> Result<Place, Problem> {
    Arc::clone(gate)
        .try_acquire_owned()
        .map_err(|_| Problem::new(Kind::Busy, format!("as many as may be: {what}")))
}
