//! The end of a run: waiting for what is still to come, as long as something comes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::ledger::Outstanding;
use crate::shared::Shared;
use crate::stop::Stop;

const LOOK: Duration = Duration::from_millis(25);

/// When everything promised has arrived, QoS 0 gets this much longer without progress.
const BEST_EFFORT_PATIENCE: Duration = Duration::from_millis(500);

/// Watches a drain. Time is that of whoever would see something move: who has no CPU sees nothing, and that is nobody else's doing.
pub(crate) struct Drain {
    patience: Duration,
    moved_at: Duration,
    last: Option<(u64, Outstanding)>,
}

/// Returns when nothing is outstanding, when nothing moved for `patience`, or when someone wants out now.
pub(super) async fn run(shared: &Shared, patience: Duration, stop: &mut watch::Receiver<Stop>) {
    let mut drain = Drain::new(patience);
    let began = Instant::now();
    while !drain.is_over(shared, began.elapsed()) && *stop.borrow_and_update() != Stop::Now {
        sleep(LOOK).await;
    }
}

impl Drain {
    /// Begins at the time 0.
    pub(crate) fn new(patience: Duration) -> Self {
        Drain { patience, moved_at: Duration::ZERO, last: None }
    }

    /// Whether nothing is outstanding, or nothing moved for too long.
    pub(crate) fn is_over(&mut self, shared: &Shared, now: Duration) -> bool {
        let mut outstanding = shared.ledger.outstanding();
        outstanding.unfinished = outstanding.unfinished.saturating_sub(shared.stats.given_up.get());
        let queued = queued(shared);
        if queued == 0 && outstanding == Outstanding::default() {
            return true;
        }
        let state = (queued, outstanding);
        if self.last != Some(state) {
            self.last = Some(state);
            self.moved_at = now;
        }
        let only_best_effort = queued == 0 && outstanding.unfinished == 0 && outstanding.promised == 0;
        let patience = if only_best_effort { self.patience.min(BEST_EFFORT_PATIENCE) } else { self.patience };
        now.saturating_sub(self.moved_at) >= patience
    }
}

/// Due events that no device has written yet and none has dropped.
fn queued(shared: &Shared) -> u64 {
    let stats = &shared.stats;
    let due = stats.due.qos0.get() + stats.due.qos1.get();
    due.saturating_sub(stats.sent.qos0.get() + stats.sent.qos1.get() + stats.overflowed.get())
}
