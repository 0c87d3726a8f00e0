//! Who wants far more than its turn, while everybody is read in turns.
//!
//! From L1 on a client reads a little in a turn and stands behind the others again. That alone slows whoever has always more than that, without any account,
//! and without anybody being told. Here it is noticed, so that it can be said: in a row of [`WINDOWS`] windows turns were cut short, input left unread,
//! and what the client brought all the same is [`FAR_MORE`] times what each would bring if all brought the same.
//!
//! Both are asked. Where everybody has too much, all turns are cut short, and nobody brings far more than the others. Who brings far more and is read to the end
//! of it each time is not slowed. A bundle of readings that is read in three turns is over before it is noticed; one that takes longer is what it looks like, for as long as it
//! lasts. No more than one client in [`FAR_MORE`] can be meant at a time.

use std::num::NonZeroU32;

/// What a client is looked at for, at least, and the number of them in a row: a second after it began it is to be said, and the level takes some of that.
const WINDOW_MS: u64 = 150;
const WINDOWS: u8 = 2;
/// Turns that were cut short in each of them. Where the line is long there is hardly more than one.
const CUT_MIN: u32 = 1;
/// Times the equal part.
const FAR_MORE: f32 = 10.0;
/// Between two records of one client.
const TELL_MS: u64 = 5_000;

/// What one client brings in its turns.
#[derive(Clone, Copy, Debug)]
pub struct Appetite {
    /// There is a window, which began with a turn that was cut short.
    counts: bool,
    since_ms: u64,
    /// Credits, as [`super::cost`] says.
    brought: f32,
    /// Turns of this window that were cut short.
    cut: u32,
    /// Windows in a row in which it wanted far more.
    windows: u8,
    /// Turns that were cut short and are not told.
    untold: u32,
    tells_from_ms: u64,
}

impl Appetite {
    /// That of a client that has just come.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self {
            counts: false,
            since_ms: now_ms,
            brought: 0.0,
            cut: 0,
            windows: 0,
            untold: 0,
            tells_from_ms: 0,
        }
    }

    /// It has brought an event of this cost.
    #[inline]
    pub fn bring(&mut self, cost: f32) {
        self.brought += cost;
    }

    /// It had its turn, and that was cut short, or there was no more to read. `equal`: credits a second of each client if all brought the same.
    ///
    /// How many turns were cut short since this was last told, if it is to be told: at once, then every five seconds.
    #[inline]
    pub fn end_turn(&mut self, now_ms: u64, is_cut: bool, equal: f32) -> Option<NonZeroU32> {
        if !self.counts {
            self.begin_window(now_ms, is_cut);
            return None;
        }
        self.cut += u32::from(is_cut);
        let elapsed_ms = now_ms.saturating_sub(self.since_ms);
        if elapsed_ms < WINDOW_MS {
            return None;
        }
        self.end_window(now_ms, elapsed_ms, is_cut, equal)
    }

    fn begin_window(&mut self, now_ms: u64, counts: bool) {
        (self.counts, self.since_ms, self.brought, self.cut) = (counts, now_ms, 0.0, 0);
    }

    fn end_window(&mut self, now_ms: u64, elapsed_ms: u64, is_cut: bool, equal: f32) -> Option<NonZeroU32> {
        let wants = self.cut >= CUT_MIN && self.brought >= FAR_MORE * equal * elapsed_ms as f32 / 1000.0;
        self.windows = if wants { self.windows.saturating_add(1) } else { 0 };
        self.untold = if wants { self.untold.saturating_add(self.cut) } else { 0 };
        self.begin_window(now_ms, wants || is_cut);
        if self.windows < WINDOWS || now_ms < self.tells_from_ms {
            return None;
        }
        self.tells_from_ms = now_ms + TELL_MS;
        NonZeroU32::new(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
#[path = "appetite_tests.rs"]
mod tests;
