//! Where decisions are kept: records one after the other in chunks, the oldest chunk given up for the newest.
//!
//! Nothing is held before something is decided. Bounded in records and in bytes; a chunk is given up as a whole, so up to
//! two chunks more than `capacity` are there. Whoever reads takes the chunks that are full as they are, shared, and a copy of the one that is being
//! filled, and looks through them without holding anybody up.

use super::record::{Circumstances, Decision, ENCODED_BYTES_MAX, View, decode, encode};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of a chunk of a large ring; each is allocated once and never grows.
const CHUNK_BYTES: usize = 32 * 1024;
/// Chunks of a ring that is at its capacity, at least.
const CHUNKS_MIN: usize = 16;
/// Bytes for each record of the capacity; with longer names fewer are kept.
const RECORD_BYTES: usize = 128;

/// Records in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    /// The number of the first.
    first: u64,
    count: u64,
    /// The latest time among them.
    newest_ms: u64,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Ring {
    full: VecDeque<Arc<Chunk>>,
    filling: Chunk,
    capacity: u64,
    bytes_max: usize,
    chunk_bytes: usize,
    chunk_records: u64,
    records: u64,
    bytes: usize,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        let bytes_max = capacity.saturating_mul(RECORD_BYTES);
        let chunk_bytes = (bytes_max / CHUNKS_MIN).clamp(2 * ENCODED_BYTES_MAX, CHUNK_BYTES);
        Self {
            full: VecDeque::new(),
            filling: Chunk::default(),
            capacity: capacity as u64,
            chunk_bytes,
            chunk_records: capacity.div_ceil(CHUNKS_MIN).clamp(1, 512) as u64,
            bytes_max: bytes_max.max(2 * chunk_bytes),
            records: 0,
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, time_ms: u64, circumstances: Circumstances, decision: &Decision<'_>) {
        if self.filling.bytes.capacity() == 0 {
            self.filling.bytes.reserve_exact(self.chunk_bytes);
        }
        let before = self.filling.bytes.len();
        encode(time_ms, circumstances, decision, &mut self.filling.bytes);
        self.bytes += self.filling.bytes.len() - before;
        self.records += 1;
        self.filling.count += 1;
        self.filling.newest_ms = self.filling.newest_ms.max(time_ms);
        let is_full = self.filling.bytes.len() + ENCODED_BYTES_MAX > self.chunk_bytes;
        if is_full || self.filling.count >= self.chunk_records {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let next = Chunk { first: self.end(), ..Chunk::default() };
        let sealed = std::mem::replace(&mut self.filling, next);
        self.full.push_back(Arc::new(sealed));
        // Those that are kept are as many as there may be without the oldest chunk.
        while let Some(oldest) = self.full.front()
            && (self.records - oldest.count >= self.capacity || self.bytes > self.bytes_max)
        {
            self.records -= oldest.count;
            self.bytes -= oldest.bytes.len();
            self.full.pop_front();
        }
    }

    /// The number that the next record gets.
    pub(super) fn end(&self) -> u64 {
        self.filling.first + self.filling.count
    }

    /// The number of the oldest record there is.
    pub(super) fn first(&self) -> u64 {
        self.full.front().map_or(self.filling.first, |chunk| chunk.first)
    }

    pub(super) const fn records(&self) -> u64 {
        self.records
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The chunks that have records of the number `from` or later, oldest first.
    pub(super) fn chunks(&self, from: u64) -> Vec<Arc<Chunk>> {
        let full = self.full.iter().filter(|chunk| chunk.first + chunk.count > from);
        let mut chunks: Vec<_> = full.cloned().collect();
        if self.filling.count > 0 {
            chunks.push(Arc::new(self.filling.clone()));
        }
        chunks
    }
}

impl Chunk {
    pub(super) const fn newest_ms(&self) -> u64 {
        self.newest_ms
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// Its records with their numbers.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, View<'_>)> {
        let mut rest = self.bytes.as_slice();
        let mut number = self.first;
        std::iter::from_fn(move || {
            let (view, used) = decode(rest)?;
            rest = rest.get(used..)?;
            number += 1;
            Some((number - 1, view))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::reason::{Action, Reason};
    use super::*;

    fn push(ring: &mut Ring, number: u64, client: &str) {
        let decision =
            Decision { client, topic: "t", action: Action::Shed, reason: Reason::OverShare, count: 1 };
        ring.push(number, Circumstances::default(), &decision);
    }

    fn numbers(ring: &Ring) -> Vec<u64> {
        ring.chunks(0)
            .iter()
            .flat_map(|chunk| {
                chunk
                    .records()
                    .map(|(number, view)| {
                        assert_eq!(number, view.time_ms);
                        number
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn the_newest_are_kept_in_order_and_as_many_as_were_asked_for() {
        let mut ring = Ring::new(100);
        for number in 0..1_000 {
            push(&mut ring, number, "c");
            let kept = numbers(&ring);
            assert_eq!(kept.len() as u64, ring.records());
            assert!(kept.len() as u64 >= 100.min(number + 1), "{number}: {}", kept.len());
            assert!(kept.len() < 100 + 2 * 7, "{number}: {}", kept.len());
            assert_eq!(kept.last(), Some(&number));
            assert_eq!(kept.first(), Some(&ring.first()));
            assert!(kept.is_sorted());
        }
        assert_eq!(ring.end(), 1_000);
        assert!(ring.chunks(995).len() <= 2);
    }

    #[test]
    fn names_at_their_longest_cost_records_and_not_memory() {
        let mut ring = Ring::new(10_000);
        let name = "x".repeat(70_000);
        for number in 0..30_000 {
            push(&mut ring, number, &name);
            assert!(ring.bytes() <= 10_000 * RECORD_BYTES + CHUNK_BYTES);
        }
        assert!(ring.records() > 7_000, "{}", ring.records());
    }
}
