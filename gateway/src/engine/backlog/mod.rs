//! What one durable Session still has to receive: compact runs over log offsets, and which of them are acknowledged.
//!
//! Every message added gets the Session's next **sequence** number. Sequences are consecutive, offsets are not (other sessions'
//! events lie between), so a run maps consecutive sequences to consecutive offsets (`runs`). Runs are kept in **chunks** of up to
//! 2,048 messages, each a row of the saved view. A chunk that takes no more messages never changes; once it is saved its runs need
//! not be in memory, and 40 bytes of header remain. So what a backlog costs is its last chunk and a little for every other one.
//!
//! | what | needs |
//! |---|---|
//! | adding, acknowledging, dropping (and what it leaves open: `given_up`), the bounds | headers and the last chunk |
//! | delivering | the runs of one chunk, which the connection reads back when they are not in memory (`due`) |
//! | passing on to another member of a group | the runs of the chunks that have messages of groups, one after the other |
//!
//! Pure: log offsets are numbers here, and nothing is read or sent.

mod ack_runs;
mod chunk;
mod drop;
mod due;
mod given_up;
mod profile;
mod runs;
mod saving;
#[cfg(test)]
mod tests;

pub use ack_runs::AckRuns;
pub use due::{DueBatch, DueReader, DueRun, Fetch, LoadedChunk};
pub use given_up::GivenUp;
pub use profile::Profile;

pub(super) use chunk::Chunk;
pub(super) use due::Waiting;
pub(super) use runs::Runs;
pub(super) use saving::{Parts, RANGES_BLOCK};

use super::ranges::Ranges;
use gateway_storage::Offset;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

/// Bounds of a backlog; a message that would exceed one of them is not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacklogLimits {
    /// Messages waiting at most.
    pub messages_max: u64,
    /// Bytes of topic, properties and payload waiting at most.
    pub bytes_max: u64,
}

/// The messages of one Session that are not acknowledged yet.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// All that are at or above `low`, without a gap.
    chunks: VecDeque<Chunk>,
    next_sequence: u64,
    /// Everything below is acknowledged.
    low: u64,
    /// Acknowledged at or above `low`; empty when the client acknowledges in order.
    acknowledged: Ranges,
    /// QoS 2: the client has them (PUBREC), but does not know yet that we know (PUBCOMP).
    received: Ranges,
    /// Below `low`: given up while a delivery at QoS 2 may have been under way, and not acknowledged since (`given_up`).
    given_up: Ranges,
    pending: u64,
    bytes: u64,
    /// Room of the last chunk of a backlog that ran empty, for the next one.
    spare: Option<Box<Runs>>,
    /// Rows of chunks that are no more.
    gone: Vec<u64>,
    /// Blocks of sequences whose acknowledged and received ranges have rows, and those in which they have changed.
    range_rows: BTreeSet<u64>,
    ranges_changed: Option<(u64, u64)>,
}

/// Bytes of a profile's row beyond which a message is not added: more than ten thousand Subscription Identifiers on one message.
const PROFILE_BYTES_MAX: usize = 80 << 10;
/// Bytes of room that a backlog keeps while it is empty.
const SPARE_BYTES: usize = 512;

impl Backlog {
    /// The sequence the next message will get; also the end of what there is to deliver.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.next_sequence
    }

    /// The oldest sequence that is not acknowledged.
    #[must_use]
    pub fn low(&self) -> u64 {
        self.low
    }

    /// Messages that wait for an acknowledgement.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// About how many bytes those are: exact but for the oldest chunk, which is taken in proportion.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the message at `offset`; false when a limit forbids it.
    pub fn push(&mut self, offset: Offset, profile: &Profile, bytes: u64, limits: &BacklogLimits) -> bool {
        let has_room =
            self.pending < limits.messages_max && self.bytes.saturating_add(bytes) <= limits.bytes_max;
        if !has_room || profile.row_bytes() > PROFILE_BYTES_MAX {
            return false;
        }
        let mut shared = None;
        if self.chunks.back().is_none_or(Chunk::is_full) {
            shared = self.chunks.back().and_then(Chunk::runs).and_then(Runs::newest_profile).cloned();
            if let Some(runs) = self.chunks.back_mut().and_then(|full| full.runs.as_mut()) {
                runs.shrink();
            }
            let runs = self.spare.take().unwrap_or_default();
            self.chunks.push_back(Chunk::new(self.next_sequence, runs));
        }
        let Some(chunk) = self.chunks.back_mut() else { return false };
        if !chunk.push(offset.get(), profile, shared, bytes) {
            return false;
        }
        self.next_sequence += 1;
        self.pending += 1;
        self.bytes += bytes;
        true
    }

    /// Marks `len` messages from `sequence` on as acknowledged. Those that already are, or do not exist, are passed over.
    /// Returns how many were pending.
    pub fn acknowledge(&mut self, sequence: u64, len: u64) -> u64 {
        self.given_up.remove(sequence, sequence.saturating_add(len));
        self.complete(sequence, len)
    }

    /// As [`Backlog::acknowledge`], but for what was given up.
    fn complete(&mut self, sequence: u64, len: u64) -> u64 {
        let start = sequence.max(self.low);
        let end = sequence.saturating_add(len).min(self.next_sequence);
        if start >= end {
            return 0;
        }
        if start > self.low {
            self.acknowledged.insert(start, end);
            self.note_ranges(start, end);
        } else {
            self.raise_low(end);
        }
        let before = self.pending;
        self.pending = self.next_sequence - self.low - self.acknowledged.count();
        before - self.pending
    }

    /// Remembers that the client has `len` messages from `sequence` on (QoS 2, PUBREC).
    pub fn receive(&mut self, sequence: u64, len: u64) {
        let start = sequence.max(self.low);
        let end = sequence.saturating_add(len).min(self.next_sequence);
        if start < end {
            self.received.insert(start, end);
            self.note_ranges(start, end);
        }
    }

    /// Everything below `low`, and what is acknowledged from there on, is done with.
    fn raise_low(&mut self, low: u64) {
        let before = self.low;
        self.low = self.acknowledged.end_of(low).unwrap_or(low);
        if !self.acknowledged.is_empty() || !self.received.is_empty() {
            self.note_ranges(before, self.low);
            self.acknowledged.trim_below(self.low);
            self.received.trim_below(self.low);
        }
        while let Some(chunk) = self.chunks.front_mut() {
            if chunk.end() > self.low {
                let counted = chunk.first.max(before);
                if self.low > counted {
                    let gone = chunk.bytes * (self.low - counted) / (chunk.end() - counted);
                    chunk.bytes -= gone;
                    self.bytes -= gone;
                }
                return;
            }
            self.bytes -= chunk.bytes;
            if chunk.has_row {
                self.gone.push(chunk.first);
            }
            let chunk = self.chunks.pop_front();
            if self.chunks.is_empty()
                && let Some(mut runs) = chunk.and_then(|chunk| chunk.runs)
                && runs.memory_bytes() <= SPARE_BYTES
            {
                runs.clear();
                self.spare = Some(runs);
            }
        }
    }

    fn note_ranges(&mut self, start: u64, end: u64) {
        let (low, high) = self.ranges_changed.unwrap_or((start, end));
        self.ranges_changed = Some((low.min(start), high.max(end)));
    }

    /// The chunk that holds `sequence`.
    fn chunk_of(&self, sequence: u64) -> Option<&Chunk> {
        let at = self.chunks.partition_point(|chunk| chunk.end() <= sequence);
        self.chunks.get(at)
    }

    /// Bytes of memory besides its own, exact but for the trees of ranges.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let runs = self.chunks.iter().filter_map(Chunk::runs).chain(self.spare.as_deref());
        self.chunks.capacity() * size_of::<Chunk>()
            + runs.map(Runs::memory_bytes).sum::<usize>()
            + self.gone.capacity() * size_of::<u64>()
            + self.acknowledged.memory_bytes()
            + self.received.memory_bytes()
            + self.given_up.memory_bytes()
            + self.range_rows.len() * 16
    }
}
