//! How full the log is with what does not give way.
//!
//! A log that is full of what streams keep is as it should be: streams begin later when room is short, and so do sessions whose rules let
//! go of the oldest. What stays is what waits for a session that keeps it, and what no checkpoint covers yet. Only that comes to the point
//! where events are refused, and only that is pressure.

use super::Engine;
use super::retention::Holder;
use super::rules::WhenFull;
use gateway_storage::Offset;

/// Sessions that are all looked at for each answer; with more of them the look of once a second has to do.
const SESSIONS_LOOKED_AT: usize = 1_000;
/// From this part of its limit on a log that waits for a checkpoint is full of it: before, no checkpoint is asked for.
const WAITS_FROM: f64 = 0.8;

impl Engine {
    /// The part of `storage.max_bytes` that is taken by what may not give way, from 0 to 1; at 1 events are refused.
    #[must_use]
    pub fn held_fill(&self) -> f64 {
        let fill = self.commit.stats().log_bytes as f64 / self.log_bytes_max.max(1) as f64;
        if fill >= WAITS_FROM && self.retention().holder == Holder::Checkpoint {
            return fill;
        }
        let (earliest, end) = self.log.bounds();
        let Some(oldest) = self.oldest_held() else { return 0.0 };
        // The log's bytes in proportion: entries are of much the same size from one hour to the next.
        let held = end.get().saturating_sub(oldest.max(earliest).get()) as f64;
        let all = end.get().saturating_sub(earliest.get()).max(1) as f64;
        fill * held / all
    }

    /// From where on sessions need the log that keep what waits for them.
    fn oldest_held(&self) -> Option<Offset> {
        if self.rules.when_full != WhenFull::DropNewest {
            return None;
        }
        let looked = (self.session_count() <= SESSIONS_LOOKED_AT)
            .then(|| self.shared.table.oldest_pending())
            .flatten();
        match looked {
            Some(oldest) => oldest.map(|(_, offset)| offset),
            None => self.retention().oldest_pending,
        }
    }
}
