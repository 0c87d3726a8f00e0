//! What of a backlog is to be saved, what may be let go of afterwards, and a backlog made of what was saved.

use super::runs::Runs;
use super::{Backlog, Chunk};
use crate::engine::ranges::Ranges;
use std::collections::BTreeSet;

/// Sequences whose acknowledged and received ranges make one row.
pub(in crate::engine) const RANGES_BLOCK: u64 = 2048;

/// Ranges of sequences, start to end (exclusive).
pub(in crate::engine) type RangeList = Vec<(u64, u64)>;

/// A backlog in its parts, as rows of the saved view have them.
#[derive(Debug, Default)]
pub(in crate::engine) struct Parts {
    low: u64,
    next_sequence: u64,
    oldest_bytes: u64,
    chunks: Vec<Chunk>,
    acknowledged: Ranges,
    received: Ranges,
    given_up: RangeList,
    range_rows: BTreeSet<u64>,
}

impl Parts {
    /// The ends of the backlog, and what counts of its oldest chunk's bytes.
    pub(in crate::engine) fn ends(&mut self, low: u64, next_sequence: u64, oldest_bytes: u64) {
        (self.low, self.next_sequence, self.oldest_bytes) = (low, next_sequence, oldest_bytes);
    }

    /// What [`Backlog::given_up_ranges`] was.
    pub(in crate::engine) fn given_up(&mut self, ranges: RangeList) {
        self.given_up = ranges;
    }

    /// The next chunk, in the order of sequences. Of the one before, its header is kept.
    pub(in crate::engine) fn chunk(&mut self, first: u64, len: u32, bytes: u64, runs: Runs) {
        if let Some(before) = self.chunks.last_mut() {
            before.runs = None;
        }
        self.chunks.push(Chunk::restored(first, len, bytes, runs));
    }

    /// The ranges of one block.
    pub(in crate::engine) fn ranges(&mut self, block: u64, acknowledged: RangeList, received: RangeList) {
        self.range_rows.insert(block);
        for (start, end) in acknowledged {
            self.acknowledged.insert(start, end);
        }
        for (start, end) in received {
            self.received.insert(start, end);
        }
    }

    /// The backlog; `None` where the parts do not make one: the saved view is damaged then.
    pub(in crate::engine) fn into_backlog(mut self) -> Option<Backlog> {
        // Ranges that `low` has passed may still have their rows.
        self.acknowledged.trim_below(self.low);
        self.received.trim_below(self.low);
        if let Some(oldest) = self.chunks.first_mut() {
            oldest.bytes = self.oldest_bytes;
        }
        let mut end = self.chunks.first().map_or(self.next_sequence, |oldest| oldest.first);
        let is_whole = end <= self.low
            && self.chunks.iter().all(|chunk| {
                let follows = chunk.first == end && chunk.len > 0 && chunk.end() > self.low;
                end = chunk.end();
                follows
            })
            && end == self.next_sequence;
        let known =
            [&self.acknowledged, &self.received].into_iter().filter_map(|ranges| ranges.iter().last());
        let mut given_up = Ranges::default();
        self.given_up.iter().for_each(|(start, end)| given_up.insert(*start, *end));
        if given_up.iter().any(|(_, end)| end > self.low) {
            return None;
        }
        if !is_whole || known.into_iter().any(|(_, end)| end > self.next_sequence) {
            return None;
        }
        let pending = (self.next_sequence - self.low).checked_sub(self.acknowledged.count())?;
        let bytes = self.chunks.iter().try_fold(0_u64, |sum, chunk| sum.checked_add(chunk.bytes))?;
        Some(Backlog {
            chunks: self.chunks.into(),
            next_sequence: self.next_sequence,
            low: self.low,
            acknowledged: self.acknowledged,
            received: self.received,
            given_up,
            pending,
            bytes,
            range_rows: self.range_rows,
            ..Backlog::default()
        })
    }
}

impl Backlog {
    /// What counts of the oldest chunk's bytes.
    pub(in crate::engine) fn oldest_bytes(&self) -> u64 {
        self.chunks.front().map_or(0, |chunk| chunk.bytes)
    }

    /// What was given up and may be open at the client.
    pub(in crate::engine) fn given_up_ranges(&self) -> RangeList {
        self.given_up.iter().collect()
    }

    /// First sequences of chunks that have rows and are no more. They are forgotten here.
    pub(in crate::engine) fn take_gone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    /// Chunks that differ from their rows; whoever saves one says so.
    pub(in crate::engine) fn unsaved_chunks(&mut self) -> impl Iterator<Item = &mut Chunk> {
        self.chunks.iter_mut().filter(|chunk| chunk.is_unsaved)
    }

    /// Blocks whose rows have to go, and blocks that are to be saved. Neither is asked for again.
    pub(in crate::engine) fn take_changed_blocks(&mut self) -> (Vec<u64>, Vec<u64>) {
        let low = self.low / RANGES_BLOCK;
        let kept = self.range_rows.split_off(&low);
        let mut gone: Vec<u64> = std::mem::replace(&mut self.range_rows, kept).into_iter().collect();
        let mut saved = Vec::new();
        if let Some((start, end)) = self.ranges_changed.take() {
            for block in (start / RANGES_BLOCK).max(low)..end.div_ceil(RANGES_BLOCK) {
                let (acknowledged, received) = self.ranges_in(block);
                if !acknowledged.is_empty() || !received.is_empty() {
                    self.range_rows.insert(block);
                    saved.push(block);
                } else if self.range_rows.remove(&block) {
                    gone.push(block);
                }
            }
        }
        (gone, saved)
    }

    /// The acknowledged and the received ranges of a block.
    pub(in crate::engine) fn ranges_in(&self, block: u64) -> (RangeList, RangeList) {
        let (start, end) = (block * RANGES_BLOCK, (block + 1) * RANGES_BLOCK);
        (self.acknowledged.within(start, end).collect(), self.received.within(start, end).collect())
    }

    /// Every row it may have in the saved view: first sequences of chunks, and blocks of ranges.
    pub(in crate::engine) fn rows(&self) -> (Vec<u64>, Vec<u64>) {
        let chunks = self.chunks.iter().filter(|chunk| chunk.has_row).map(|chunk| chunk.first);
        (self.gone.iter().copied().chain(chunks).collect(), self.range_rows.iter().copied().collect())
    }

    /// Lets go of the runs of every chunk that takes no more messages and is as its row is, but for the two from `kept` on, which are
    /// about to be delivered. To be called only when everything that was marked as saved is in the view.
    pub(in crate::engine) fn page_out(&mut self, kept: Option<u64>) {
        let Some(last) = self.chunks.len().checked_sub(1) else { return };
        let kept = kept.map(|sequence| self.chunks.partition_point(|chunk| chunk.end() <= sequence));
        for (at, chunk) in self.chunks.iter_mut().enumerate().take(last) {
            let is_kept = kept.is_some_and(|kept| at == kept || at == kept + 1);
            if chunk.has_row && !chunk.is_unsaved && !is_kept {
                chunk.runs = None;
            }
        }
    }
}
