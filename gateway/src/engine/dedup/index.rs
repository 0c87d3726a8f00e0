//! Identities and when their events were received: found by identity, let go of in the order in which they came.
//!
//! Records of 24 bytes lie in chunks, in log order; a chunk is a row of the saved view. Beside them is a hash table of the records'
//! numbers, 4 bytes and a control byte each. Nothing is moved or copied when old ones are let go of.
//!
//! It asks no clock: `now_ms` is the time of an event or of the read that brought one.

use super::identity::Identity;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::VecDeque;

/// Records in one chunk; 96 KiB as a row.
pub(super) const CHUNK: u64 = 4096;
/// Records let go of for each that is added, so that no single one has to wait for many.
const LET_GO: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) identity: Identity,
    pub(super) received_ms: u64,
}

/// See the module's words. A record's number is its place among all there ever were.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The newest record of each identity, by the lower half of its number.
    newest: HashTable<u32>,
    chunks: Chunks,
    /// The oldest record that is kept, and the end.
    first: u64,
    next: u64,
    window_ms: u64,
    records_max: u64,
    /// Let go of before their time, because there were too many.
    forgotten_early: u64,
}

/// Records from `base` on.
#[derive(Debug, Default)]
struct Chunks {
    base: u64,
    chunks: VecDeque<Vec<Record>>,
}

impl Chunks {
    fn get(&self, number: u64) -> Option<&Record> {
        let (chunk, at) = place(number.checked_sub(self.base)?)?;
        self.chunks.get(chunk)?.get(at)
    }

    /// There are fewer than 2^32 records at any time, so the lower half of a number is enough.
    fn get_low(&self, low: u32) -> Option<&Record> {
        self.get(self.base + u64::from(low.wrapping_sub(self.base as u32)))
    }

    fn push(&mut self, record: Record) {
        match self.chunks.back_mut() {
            Some(last) if (last.len() as u64) < CHUNK => last.push(record),
            _ => self.chunks.push_back(vec![record]),
        }
    }
}

fn place(number: u64) -> Option<(usize, usize)> {
    Some((usize::try_from(number / CHUNK).ok()?, usize::try_from(number % CHUNK).ok()?))
}

impl Index {
    pub(super) fn new(window_ms: u64, records_max: u32) -> Self {
        Self { window_ms, records_max: u64::from(records_max), ..Self::default() }
    }

    /// Whether the event was stored, and how long before `now_ms` is less than the window. A clock that was set back makes nothing older.
    pub(super) fn is_known(&self, identity: Identity, now_ms: u64) -> bool {
        self.received_ms(identity).is_some_and(|received_ms| !self.is_over(received_ms, now_ms))
    }

    /// When the event was received, if that is kept.
    pub(super) fn received_ms(&self, identity: Identity) -> Option<u64> {
        let is_it = |low: &u32| self.chunks.get_low(*low).is_some_and(|record| record.identity == identity);
        let low = self.newest.find(identity.hash(), is_it)?;
        self.chunks.get_low(*low).map(|record| record.received_ms)
    }

    /// The event was stored.
    pub(super) fn add(&mut self, identity: Identity, received_ms: u64) {
        self.push(Record { identity, received_ms });
        self.let_go(received_ms, LET_GO);
        self.keep_within(received_ms);
    }

    /// Lets go of at most `count` records whose time is over, oldest first.
    fn let_go(&mut self, now_ms: u64, count: usize) {
        for _ in 0..count {
            match self.chunks.get(self.first) {
                Some(oldest) if self.is_over(oldest.received_ms, now_ms) => self.forget_oldest(),
                _ => return,
            };
        }
    }

    /// Takes over a chunk of a saved view. They come in order; false where that cannot be.
    pub(super) fn restore(&mut self, chunk: u64, records: impl Iterator<Item = Record>) -> bool {
        let Some(first) = chunk.checked_mul(CHUNK) else { return false };
        if self.chunks.chunks.is_empty() {
            (self.chunks.base, self.first, self.next) = (first, first, first);
        }
        let is_next = self.next == first;
        if is_next {
            records.for_each(|record| self.push(record));
        }
        is_next && self.next > first && self.next - first <= CHUNK
    }

    /// After everything was restored: no more than there may be.
    pub(super) fn keep_within_limit(&mut self) {
        self.keep_within(u64::MAX);
    }

    /// Chunks from the one that `number` lies in, with their numbers and records.
    pub(super) fn chunks_from(&self, number: u64) -> impl Iterator<Item = (u64, &[Record])> {
        let base = self.chunks.base / CHUNK;
        let chunks = (base..).zip(self.chunks.chunks.iter().map(Vec::as_slice));
        chunks.skip(usize::try_from((number / CHUNK).saturating_sub(base)).unwrap_or(usize::MAX))
    }

    /// The oldest chunk that is kept.
    pub(super) const fn first_chunk(&self) -> u64 {
        self.first / CHUNK
    }

    /// The number of the next record.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Records that are kept.
    pub(super) const fn len(&self) -> u64 {
        self.next - self.first
    }

    /// Records let go of before their time.
    pub(super) const fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let records: usize = self.chunks.chunks.iter().map(Vec::capacity).sum();
        self.newest.allocation_size()
            + records * size_of::<Record>()
            + self.chunks.chunks.capacity() * size_of::<Vec<Record>>()
    }

    const fn is_over(&self, received_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(received_ms) >= self.window_ms
    }

    fn push(&mut self, record: Record) {
        let number = self.next as u32;
        self.chunks.push(record);
        self.next += 1;
        let chunks = &self.chunks;
        let is_it = |low: &u32| chunks.get_low(*low).is_some_and(|known| known.identity == record.identity);
        // Every number in the table is one of a record that is kept.
        let hash = |low: &u32| chunks.get_low(*low).map_or(0, |known| known.identity.hash());
        match self.newest.entry(record.identity.hash(), is_it, hash) {
            Entry::Occupied(mut known) => *known.get_mut() = number,
            Entry::Vacant(vacant) => drop(vacant.insert(number)),
        }
    }

    fn keep_within(&mut self, now_ms: u64) {
        while self.len() > self.records_max {
            let oldest = self.chunks.get(self.first).map_or(0, |oldest| oldest.received_ms);
            if self.forget_oldest() && !self.is_over(oldest, now_ms) {
                self.forgotten_early += 1;
            }
        }
    }

    /// Whether its identity is gone with it: there may be a newer record of the same one.
    fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.chunks.get(self.first) else { return false };
        let low = self.first as u32;
        let found = self.newest.find_entry(oldest.identity.hash(), |number| *number == low);
        let is_gone = found.map(|known| known.remove()).is_ok();
        self.first += 1;
        if self.first.is_multiple_of(CHUNK) {
            self.chunks.chunks.pop_front();
            self.chunks.base += CHUNK;
            self.give_back_memory();
        }
        is_gone
    }

    /// What a rush has taken and a quiet time does not need.
    fn give_back_memory(&mut self) {
        if self.newest.len() < self.newest.capacity() / 8 {
            let chunks = &self.chunks;
            let hash = |low: &u32| chunks.get_low(*low).map_or(0, |known| known.identity.hash());
            self.newest.shrink_to(2 * self.newest.len(), hash);
            self.chunks.chunks.shrink_to_fit();
        }
    }
}
