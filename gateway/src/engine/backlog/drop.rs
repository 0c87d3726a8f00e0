//! Giving up the oldest messages: where there is no room for newer ones, or the log is not to be kept for them any longer.
//!
//! What is given up counts as acknowledged. It may be in flight; what that leads to, `given_up` says. `sent_end` is here where such
//! messages end, as far as the log knows. All of this is for the apply step, so what it answers and gives up follows from the entries alone, and not from which chunks happen to be in memory.

use super::{Backlog, BacklogLimits, Chunk};
use gateway_storage::Offset;

impl Backlog {
    /// The least log offset that a pending message needs, or one that is less by a part of a chunk; `None`: none needs any. References
    /// to Retained Messages are left out. Looks at headers, and at runs where there is one chunk only.
    #[must_use]
    pub fn oldest_offset(&self) -> Option<Offset> {
        let least = match (self.chunks.front(), self.chunks.len()) {
            (Some(only), 1) if only.first < self.low => self.oldest_in(only),
            _ => self.chunks.iter().map(|chunk| chunk.least).min().unwrap_or(u64::MAX),
        };
        (least != u64::MAX).then(|| Offset::new(least))
    }

    fn oldest_in(&self, chunk: &Chunk) -> u64 {
        // The newest chunk is always in memory.
        let Some(runs) = chunk.runs() else { return chunk.least };
        let pending = runs.iter(chunk.first).filter(|run| run.end() > self.low);
        let stored =
            pending.filter(|run| runs.profile(run.profile).is_some_and(|profile| !profile.is_retained));
        stored.map(|run| run.offset + self.low.saturating_sub(run.sequence)).min().unwrap_or(u64::MAX)
    }

    /// Gives up the oldest messages until `room_messages` with `room_bytes` more are within `limits`; none where that cannot be.
    /// Returns how many pending messages were given up.
    pub fn drop_oldest(
        &mut self,
        room_messages: u64,
        room_bytes: u64,
        limits: &BacklogLimits,
        sent_end: u64,
    ) -> u64 {
        let (Some(messages_max), Some(bytes_max)) =
            (limits.messages_max.checked_sub(room_messages), limits.bytes_max.checked_sub(room_bytes))
        else {
            return 0;
        };
        let mut dropped = 0;
        while self.pending > messages_max {
            dropped += self.drop_first(self.pending - messages_max, sent_end);
        }
        while self.bytes > bytes_max
            && let Some(oldest) = self.chunks.front()
        {
            let counted = oldest.end() - oldest.first.max(self.low);
            let excess = self.bytes - bytes_max;
            let share =
                if excess < oldest.bytes { (excess * counted).div_ceil(oldest.bytes) } else { counted };
            dropped += self.give_up(self.low + share.clamp(1, counted), sent_end);
        }
        dropped
    }

    /// Gives up at most `count` of the pending messages, the oldest ones, and at least one if there is any.
    fn drop_first(&mut self, count: u64, sent_end: u64) -> u64 {
        // Below the next one that is acknowledged all are pending.
        let until = self.acknowledged.start_after(self.low).unwrap_or(self.next_sequence);
        self.give_up(self.low + count.min(until - self.low), sent_end)
    }

    /// Gives up every pending message that lies below `offset` in the log, references to Retained Messages left out. What is given up
    /// reaches to the last such message, or to the end of its chunk where that is not the newest one. Returns how many pending messages
    /// were given up.
    pub fn drop_before(&mut self, offset: Offset, sent_end: u64) -> u64 {
        self.give_up(self.end_before(offset), sent_end)
    }

    /// Whether [`Backlog::drop_before`] would give up anything.
    #[must_use]
    pub fn has_before(&self, offset: Offset) -> bool {
        // The oldest is always pending.
        self.end_before(offset) > self.low
    }

    fn end_before(&self, offset: Offset) -> u64 {
        let Some(last) = self.chunks.iter().rposition(|chunk| chunk.least < offset.get()) else { return 0 };
        let Some(chunk) = self.chunks.get(last) else { return 0 };
        let is_newest = last + 1 == self.chunks.len();
        match chunk.runs().filter(|_| is_newest) {
            Some(runs) => {
                let below = runs.iter(chunk.first).filter(|run| {
                    run.offset < offset.get()
                        && runs.profile(run.profile).is_some_and(|profile| !profile.is_retained)
                });
                below.last().map_or(chunk.first, |run| {
                    run.sequence + u64::from(run.len).min(offset.get() - run.offset)
                })
            }
            None => chunk.end(),
        }
    }
}
