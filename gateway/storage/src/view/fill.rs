//! Filling a fresh view with rows from a checkpoint.
//!
//! A mark is written before the first row and removed together with writing the applied offset, after the last one: a
//! view that was being filled when the process ended is recognised when it is opened, and filled again. sled recovers a
//! prefix of what was written, so the mark is there whenever a row is.

use std::path::Path;
use std::sync::atomic::AtomicU64;

use sled::Batch;

use super::value::{self, APPLIED_KEY, UNFINISHED_KEY};
use super::{View, ViewError, ViewOptions};
use crate::offset::Offset;

/// What is written is handed to the operating system when it has this many bytes.
const FLUSH_BYTES: usize = 4 << 20;

/// A view that is being filled; nobody else sees it.
#[derive(Debug)]
pub(crate) struct Fill {
    view: View,
    unflushed: usize,
}

impl View {
    /// Begins a view in the place of whatever is in `dir`.
    pub(crate) fn begin_fill(dir: &Path, options: ViewOptions) -> Result<Fill, ViewError> {
        let view = Self::open_empty(dir, options)?;
        view.with(|db| {
            db.insert(UNFINISHED_KEY, value::seal(&UNFINISHED_KEY, &[]))?;
            db.flush()
        })?;
        Ok(Fill { view, unflushed: 0 })
    }
}

impl Fill {
    /// Adds a row whose key has the byte of its table in front.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        // One by one: sled keeps every state of a page that a batch goes through until the batch is done. In batches of
        // 2 MiB, filling a view of 43 MB took 900 MB of memory; so it takes 100.
        self.view.with(|db| db.insert(key, value::seal(key, value)))?;
        self.unflushed += key.len() + value.len();
        if self.unflushed >= FLUSH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Completes the view, which is then applied up to `applied`.
    pub(crate) fn finish(mut self, applied: Offset) -> Result<View, ViewError> {
        self.flush()?;
        let mut last = Batch::default();
        last.remove(&UNFINISHED_KEY);
        last.insert(&APPLIED_KEY, value::seal(&APPLIED_KEY, &applied.get().to_le_bytes()));
        self.view.with(|db| db.apply_batch(last))?;
        self.flush()?;
        self.view.applied = AtomicU64::new(applied.get());
        self.view.fresh = false;
        Ok(self.view)
    }

    /// What a crash leaves: everything handed over so far, and no applied offset.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) -> Result<(), ViewError> {
        self.flush()?;
        self.view.close().map(drop)
    }

    fn flush(&mut self) -> Result<(), ViewError> {
        self.unflushed = 0;
        self.view.with(|db| db.flush()).map(drop)
    }
}
