//! Filling a fresh view with rows from a checkpoint.
//!
//! A mark is written before the first row and removed together with writing the applied offset, after the last one: a
//! view that was being filled when the process ended is recognised when it is opened, and filled again.

use std::path::Path;
use std::sync::atomic::AtomicU64;

use sled::Batch;

use super::value::{self, APPLIED_KEY, UNFINISHED_KEY};
use super::{View, ViewError, ViewOptions};
use crate::offset::Offset;

/// Rows are handed to the store when they have this many bytes.
const FILL_BYTES: usize = 2 << 20;

/// A view that is being filled; nobody else sees it.
#[derive(Debug)]
pub(crate) struct Fill {
    view: View,
    batch: Batch,
    bytes: usize,
}

impl View {
    /// Begins a view in the place of whatever is in `dir`.
    pub(crate) fn begin_fill(dir: &Path, options: ViewOptions) -> Result<Fill, ViewError> {
        let view = Self::open_empty(dir, options)?;
        let mut fill = Fill { view, batch: Batch::default(), bytes: 0 };
        fill.batch.insert(&UNFINISHED_KEY, value::seal(&UNFINISHED_KEY, &[]));
        fill.write()?;
        Ok(fill)
    }
}

impl Fill {
    /// Adds a row whose key has the byte of its table in front.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.batch.insert(key, value::seal(key, value));
        self.bytes += key.len() + value.len();
        if self.bytes >= FILL_BYTES { self.write() } else { Ok(()) }
    }

    /// Completes the view, which is then applied up to `applied`.
    pub(crate) fn finish(mut self, applied: Offset) -> Result<View, ViewError> {
        self.write()?;
        self.batch.remove(&UNFINISHED_KEY);
        self.batch.insert(&APPLIED_KEY, value::seal(&APPLIED_KEY, &applied.get().to_le_bytes()));
        self.write()?;
        self.view.applied = AtomicU64::new(applied.get());
        self.view.fresh = false;
        Ok(self.view)
    }

    /// What a crash leaves: everything handed over so far, and no applied offset.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) -> Result<(), ViewError> {
        self.write()?;
        self.view.close().map(drop)
    }

    fn write(&mut self) -> Result<(), ViewError> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        self.view.with(|db| {
            db.apply_batch(batch)?;
            db.flush()?;
            Ok(())
        })
    }
}
