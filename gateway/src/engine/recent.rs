//! The newest batches, in memory, for those who keep up with the log.

use gateway_storage::{Batch, Offset};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

/// A ring of batches, bounded in bytes.
#[derive(Debug)]
pub(super) struct Recent {
    bytes_max: usize,
    ring: RwLock<Ring>,
}

#[derive(Debug)]
struct Ring {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// The end of what was applied.
    end: Offset,
}

/// What [`Recent::find`] knows of an offset.
#[derive(Debug)]
pub(super) enum Found {
    /// It is in this batch.
    Batch(Arc<Batch>),
    /// It is older than the ring.
    Older,
    /// It is not applied yet.
    End,
}

impl Recent {
    pub(super) fn new(bytes_max: usize, end: Offset) -> Self {
        Self { bytes_max, ring: RwLock::new(Ring { batches: VecDeque::new(), bytes: 0, end }) }
    }

    /// The end of what was applied.
    pub(super) fn end(&self) -> Offset {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).end
    }

    pub(super) fn push(&self, batch: Arc<Batch>) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        ring.end = batch.end();
        ring.bytes += batch.memory_bytes();
        ring.batches.push_back(batch);
        while ring.bytes > self.bytes_max && ring.batches.len() > 1 {
            if let Some(oldest) = ring.batches.pop_front() {
                ring.bytes -= oldest.memory_bytes();
            }
        }
    }

    /// The batch that holds `offset`.
    pub(super) fn find(&self, offset: Offset) -> Found {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        if offset >= ring.end {
            return Found::End;
        }
        let at = ring.batches.partition_point(|batch| batch.end() <= offset);
        match ring.batches.get(at) {
            Some(batch) if batch.first() <= offset => Found::Batch(batch.clone()),
            _ => Found::Older,
        }
    }
}
