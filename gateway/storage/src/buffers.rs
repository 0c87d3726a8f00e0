//! The memory of committed groups, used again when the last reader of a group is done with it.
//!
//! A group of a megabyte that is allocated anew each time costs a page fault for every 4 KiB of it. Kept memory is
//! bounded: at most [`KEPT_MAX`] pairs of buffers, none larger than the bound given.

use std::sync::{Mutex, PoisonError};

use crate::index::EntryIndex;

/// Two for the group that is open and the one that is written, two more on their way back.
const KEPT_MAX: usize = 4;

/// The bytes of a group and the index beside them.
pub(crate) type Buffers = (Vec<u8>, Vec<EntryIndex>);

#[derive(Debug)]
pub(crate) struct BufferPool {
    bytes_max: usize,
    kept: Mutex<Vec<Buffers>>,
}

impl BufferPool {
    /// A pool that keeps no buffer larger than `bytes_max`.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::new(Vec::with_capacity(KEPT_MAX)) }
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
        if kept.len() < KEPT_MAX {
            kept.push((bytes, index));
        }
    }
}
