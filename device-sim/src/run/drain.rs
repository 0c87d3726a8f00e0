//! The end of a run: waiting for what is still to come, as long as something comes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Shared, Stop};
use crate::ledger::Outstanding;

const LOOK: Duration = Duration::from_millis(25);

/// When everything promised has arrived, QoS 0 gets this much longer without progress.
const BEST_EFFORT_PATIENCE: Duration = Duration::from_millis(500);

/// Returns when nothing is outstanding, when nothing moved for `patience`, or when someone wants out now.
pub(super) async fn run(shared: &Shared, patience: Duration, stop: &mut watch::Receiver<Stop>) {
    let mut moved_at = Instant::now();
    let mut last = None;
    loop {
        let mut outstanding = shared.ledger.outstanding();
        outstanding.unfinished = outstanding.unfinished.saturating_sub(shared.stats.given_up.get());
        let queued = queued(shared);
        if queued == 0 && outstanding == Outstanding::default() {
            return;
        }
        let state = (queued, outstanding);
        if last != Some(state) {
            last = Some(state);
            moved_at = Instant::now();
        }
        let only_best_effort = queued == 0 && outstanding.unfinished == 0 && outstanding.promised == 0;
        let patience = if only_best_effort { patience.min(BEST_EFFORT_PATIENCE) } else { patience };
        if moved_at.elapsed() >= patience || *stop.borrow_and_update() == Stop::Now {
            return;
        }
        sleep(LOOK).await;
    }
}

/// Due events that no device has written yet and none has dropped.
fn queued(shared: &Shared) -> u64 {
    let stats = &shared.stats;
    let due = stats.due.qos0.get() + stats.due.qos1.get();
    due.saturating_sub(stats.sent.qos0.get() + stats.sent.qos1.get() + stats.overflowed.get())
}
