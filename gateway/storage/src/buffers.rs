//! The memory of committed groups, used again when the last reader of a group is done with it.
//!
//! A group of a megabyte that is allocated anew each time costs a page fault for every 4 KiB of it. Kept memory is
//! bounded: so many pairs of buffers, none larger than so much.

use std::sync::{Mutex, PoisonError};

use crate::index::EntryIndex;

/// The bytes of a group and the index beside them.
pub(crate) type Buffers = (Vec<u8>, Vec<EntryIndex>);

#[derive(Debug)]
pub(crate) struct BufferPool {
    bytes_max: usize,
    kept_max: usize,
    kept: Mutex<Vec<Buffers>>,
}

impl BufferPool {
    /// A pool that keeps at most `kept_max` pairs, and no buffer larger than `bytes_max`.
    pub(crate) const fn new(bytes_max: usize, kept_max: usize) -> Self {
        Self { bytes_max, kept_max, kept: Mutex::new(Vec::new()) }
    }

    /// Empty buffers, with memory if some came back.
    pub(crate) fn take(&self) -> Buffers {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes buffers back, or frees them when there are enough or they are too large to be kept.
    pub(crate) fn put(&self, mut bytes: Vec<u8>, mut index: Vec<EntryIndex>) {
        let index_bytes = index.capacity() * size_of::<EntryIndex>();
        if bytes.capacity() == 0 || bytes.capacity() > self.bytes_max || index_bytes > self.bytes_max {
            return;
        }
        bytes.clear();
        index.clear();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.kept_max {
            kept.push((bytes, index));
        }
    }
}
